//! Every limit of PGM by name: of the wire, of memory, of time. Holds numbers only, no code.

use std::time::Duration;

// The wire.

/// Numbers in an OPT_NAK_LIST, beside the one in the header (RFC 3208 section 9.3).
pub const NAK_LIST_MAX: usize = 62;

/// Option extensions of one packet (section 9), OPT_LENGTH not counted.
pub const OPTIONS_MAX: usize = 16;

/// What libzmq puts into a packet on a network whose MTU is 1500: TSDUs of 1428 bytes over UDP and of 1436 over IP. It
/// keeps room for an OPT_FRAGMENT that it never sends. Peers may have buffers of this size, so ours are no longer.
pub const FRAGMENT_ROOM: usize = 20;

// Memory.

/// Pool slot that a part may take before its bytes arrive. See [`AHEAD_MAX`] for more.
pub const AHEAD_STEP: usize = 64 << 10;

/// Bytes of pool slots above [`AHEAD_STEP`] that all sources of a driver may hold before their bytes arrive. Beyond it a
/// claimed length reserves address space only, however many sources make claims.
pub const AHEAD_MAX: usize = 32 << 20;

/// Parts of one message. One with more is dropped and reported.
pub const MESSAGE_PARTS_MAX: usize = 1 << 16;

/// Bytes of a message's complete parts that wait for its last one. A message of one part has no limit but the maximum size.
pub const MULTIPART_BYTES_MAX: u64 = 256 << 20;
