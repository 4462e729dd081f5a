//! Every limit of the seam that is not an option, by name. Holds numbers only, no code.

/// Largest frame, in bytes, for which a length claimed by a peer reserves address space: 64 GiB. Beyond it the link
/// is closed with [`crate::Violation::TooLarge`], whatever the socket's own maximum message size says.
pub const FRAME_MAX: u64 = 64 << 30;

/// Largest pool slot, in bytes (4 MiB). Larger frames use address space of their own, committed as bytes arrive.
pub const SLOT_MAX: usize = 4 << 20;

/// Smallest pool slot, in bytes. Frames up to [`crate::INLINE_MAX`] bytes need no slot at all.
pub const SLOT_MIN: usize = 256;

/// Default budget of one pool, in bytes of slots (256 MiB). When it is spent, `take` answers `None`.
pub const POOL_BUDGET: usize = 256 << 20;

/// Smallest piece of memory a pool asks the system for at once, in bytes (256 KiB).
pub const ARENA_MIN: usize = 256 << 10;

/// Longest endpoint URL accepted, in bytes. libzmq has no limit; a URL longer than this is a mistake.
pub const ENDPOINT_MAX: usize = 1024;

/// How long a dialled or accepted link may take to say [`crate::Hello`], in milliseconds, unless set (libzmq: 30 s).
pub const HANDSHAKE_TIMEOUT_MS: u64 = 30_000;

/// Longest routing id, in bytes (ZMTP 3.1 section "The Identity property": 255 octets).
pub const ROUTING_ID_MAX: usize = 255;

/// How many COMMAND parts a link takes beyond its room before it refuses them too.
pub const COMMANDS_MAX: usize = 64;

/// Pool slot that a part may take before its bytes arrive. See [`AHEAD_MAX`] for more.
pub const AHEAD_STEP: usize = 64 << 10;

/// Bytes of pool slots above [`AHEAD_STEP`] that all links of a driver may hold before their bytes arrive. Beyond it a
/// claimed length reserves address space only, however many peers make claims.
pub const AHEAD_MAX: usize = 32 << 20;
