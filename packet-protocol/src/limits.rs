//! Every limit of the packet protocol, by name. Holds numbers only, no code. Those of the wire itself stand in
//! docs/spec/packet-protocol.md, section "Limits".

/// Default size of a packet in bytes, header included, and so of every posted receive buffer.
pub const PACKET_LEN: usize = 8 << 10;

/// Smallest packet size that a side may offer, in bytes.
pub const PACKET_LEN_MIN: usize = 512;

/// Largest packet size that a side may offer, in bytes.
pub const PACKET_LEN_MAX: usize = 64 << 10;

/// Data packets that the peer may send to begin with. Two, so that one is under way while the other is digested.
pub const DATA_CREDITS: u16 = 2;

/// Control packets that the peer may have unacknowledged. Fewer than three cannot work, see "Control credit" in the
/// specification.
pub const CONTROL_CREDITS: u8 = 3;

/// The least control credit a side may offer.
pub const CONTROL_CREDITS_MIN: u8 = 3;

/// Control packets after which an acknowledgement is due if nothing else brings it. With fewer, two ends would
/// acknowledge each other's acknowledgements for ever.
pub const CONTROL_ACKNOWLEDGE_AT: u32 = 2;

/// Data packets that one peer may have under way or waiting here, unless a policy says otherwise.
pub const WINDOW_MAX: u32 = 64;

/// Credit beyond what was used that a peer can have meant. More is a broken counter.
pub const GRANT_AHEAD_MAX: u32 = u16::MAX as u32;

/// Default number of READs under way at once, both ways.
pub const READS: u8 = 16;

/// Default number of transfers that were announced and not finished.
pub const TRANSFERS: u16 = 64;

/// The most transfers that a side may offer.
pub const TRANSFERS_MAX: u16 = 1024;

/// Bytes of one READ. Some devices take no more than 8 MiB (soft-RoCE), and memory beyond the largest slot is registered
/// by the piece.
pub const READ_CHUNK: usize = 1 << 20;

/// Parts from this size go by rendezvous even where they would fit a packet, if their memory has a key.
pub const RENDEZVOUS_MIN: usize = 16 << 10;

/// Parts from this size are sent from where they are, if their memory has a key; smaller ones are copied.
pub const SPLICE_MIN: usize = 1 << 10;

/// Frames spliced into one packet. Each takes two elements of a device's gather list, and the packet one.
pub const SPLICES_MAX: usize = 4;

/// Bytes of frames that one link pins for the peer to read, beyond which it announces no more. One frame always goes.
pub const PINNED_BYTES_MAX: u64 = 64 << 20;

/// Longest COMMAND that is taken, in bytes. Commands need no grant, so without a bound anyone who connects could have a part
/// of any size kept. ZMTP's are little more than 64 KiB at most (READY with a peer's metadata, SUBSCRIBE with the longest
/// topic), and what a mechanism wraps around one is far less than that again.
pub const COMMAND_MAX: u64 = 128 << 10;

/// Free bytes of a packet from which a fragment is put there and not into the next.
pub const FRAGMENT_MIN: usize = 256;

/// Parts that wait on one link at most; commands come on top.
pub const QUEUE_PARTS_MAX: usize = 1024;

/// Bytes waiting on one link from which `room` is 0.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Places for parts that a link keeps when nothing waits. More are borrowed from what the driver's links share.
pub const QUEUE_KEEP: usize = 64;

/// Queues that a driver keeps for the next link that needs one, of each of the two sizes.
pub const QUEUE_SPARE_MAX: usize = 16;
