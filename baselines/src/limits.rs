//! Every limit of the baselines, by name. Holds numbers only, no code.

use std::time::Duration;

/// How long the other end may be silent in the middle of a run that polls, or take to connect.
pub const SILENCE: Duration = Duration::from_secs(10);

/// How often an end that sleeps looks whether it has been given up.
pub(crate) const HEEDED_EVERY: Duration = Duration::from_millis(100);

/// How much longer than the sink measures a source goes on: what the sink is behind when it begins.
pub const MARGIN: Duration = Duration::from_millis(30);

/// Looks of a polling end that find nothing until it offers its processor to others: more than a trip takes where every
/// end has a processor of its own. Where it has not, the peer may be the one that waits for this processor.
pub(crate) const LOOKS_PER_YIELD: u32 = 128;

/// Offers between two looks at the clock.
pub(crate) const YIELDS_PER_CLOCK: u32 = 128;

/// Shortest message, in bytes, that a stream over verbs has fetched by RDMA READ instead of sending it: where fabriq
/// changes over as well.
pub const READ_FROM: usize = 16 << 10;

/// Longest message over verbs, in bytes: the largest slot of a pool.
pub const MESSAGE_MAX: usize = transport_core::limits::SLOT_MAX;

/// Messages that a stream of sends rings the device for at once: as many as it takes. On a software device a ring is a
/// system call.
pub const CHAIN: usize = 16;

/// Work requests of a send queue.
pub(crate) const SENDS: u32 = 128;

/// Receives of a link with messages of a few KiB at most, and of one with any.
pub(crate) const RECEIVES: usize = 512;
pub(crate) const RECEIVES_MIN: usize = 4;

/// Bytes that posted receives may take together, where that is fewer than [`RECEIVES`].
pub(crate) const RECEIVE_BYTES: usize = 16 << 20;

/// Bytes of an inline send that are asked for, as fabriq does.
pub(crate) const INLINE: u32 = 512;

/// READs in flight.
pub const READS: usize = 8;

/// Frames that a source offers for READ at most: as many as a ring of fabriq's benchmark may have, and a few.
pub(crate) const SOURCES_MAX: usize = 1024;

/// Bytes of memory that one end of a link over verbs takes at most.
pub(crate) const POOL: usize = 96 << 20;

/// How long an address and a route may take to be found, each.
pub(crate) const RESOLVE: Duration = Duration::from_secs(5);

/// Bytes that a stream of small messages over TCP gathers for one write, and that its sink reads at once at most.
pub const WRITE: usize = 64 << 10;
pub(crate) const READ: usize = 256 << 10;

/// How long a tool that is run as processes may take, and the pause between two looks at whether it has ended.
pub(crate) const TOOL: Duration = Duration::from_secs(60);
pub(crate) const TOOL_LOOK: Duration = Duration::from_millis(5);
