//! Every limit of this transport, by name. Holds numbers only, no code.

use std::time::Duration;

/// Bytes one read asks for at most. A read costs about 0.3 us whatever its size, and 256 KiB stays in the L2 cache.
pub(crate) const READ_MAX: usize = 256 << 10;

/// Bytes one read asks for while the grant is below [`READ_FULL_GRANT`]. This is what a link reads ahead of its grant
/// at most, so that a full pipe costs this much memory and no more.
pub(crate) const READ_AHEAD_MAX: usize = 64 << 10;

/// Grant from which a whole [`READ_MAX`] is asked for.
pub(crate) const READ_FULL_GRANT: u64 = 4096;

/// Bytes asked for while the grant is 0 (for commands only), and after a frame that was read in place: the next one
/// probably is large too, and what is read into the shared buffer of a large frame is copied once more.
pub(crate) const READ_SNIFF: usize = 4 << 10;

/// Bytes asked for behind a frame that is read in place: room for the next frame's header and some small frames.
pub(crate) const READ_TAIL: usize = 8 << 10;

/// A frame of which fewer bytes than this are claimed waits in the link's stash until it is complete; a longer one is
/// read in place. Bounds the stash, with the nine bytes of the longest header.
pub(crate) const FILL_MIN: usize = 4 << 10;

/// Stash that a link keeps when it is empty, so that a stream of small parts allocates nothing.
pub(crate) const STASH_KEEP: usize = 2 << 10;

/// Bytes of a frame from which its claimed length is believed as far as huge pages go: a page fault per 4 KiB is a third
/// of the cost of receiving 8 MiB, but a huge page is more than a claim alone may cost.
pub(crate) const EARNEST: usize = 1 << 20;

/// Longest body of a command, in bytes; a longer one ends its link with `TooLarge`, whatever the limit for parts. The
/// sessions above take commands of little more than 64 KiB (READY with a peer's metadata, SUBSCRIBE with the longest
/// topic), and what a mechanism wraps around one is far less than that again. Without a bound anyone who connects could
/// have a frame of any size kept before it has said who it is.
pub(crate) const COMMAND_MAX: u64 = 128 << 10;

/// Read buffers a driver keeps when no link has bytes waiting.
pub(crate) const READ_SPARE_MAX: usize = 2;

/// Parts that wait on one link at most; commands come on top.
pub(crate) const QUEUE_PARTS_MAX: usize = 4096;

/// Bytes waiting on one link from which `room` is 0.
pub(crate) const QUEUE_BYTES_MAX: usize = 256 << 10;

/// Send high-water marks, in messages, up to which a socket is taken to want word of a slow peer soon, at the cost of
/// speed. The default mark is 1000.
pub(crate) const LOW_MARK_MAX: u32 = 16;

/// [`QUEUE_BYTES_MAX`] of the links of such a socket: about one system call's worth.
pub(crate) const QUEUE_BYTES_LOW: usize = 8 << 10;

/// Bytes that the system takes of such a link beyond what the peer has room for. Without this it takes megabytes, and a
/// mark of one message means nothing; on all links it costs a fifth of the throughput.
pub(crate) const UNSENT_LOW: u32 = 16 << 10;

/// Bodies from this size are kept by reference and sent with one gathering call instead of being copied.
pub(crate) const REFERENCE_MIN: usize = 8 << 10;

/// The same once a link's queue is beyond [`QUEUE_BYTES_MAX`], for engines that ask for `room` rarely.
pub(crate) const REFERENCE_MIN_FULL: usize = 512;

/// Slices in one gathering call; the system's limit is 1024.
pub(crate) const GATHER_MAX: usize = 64;

/// First capacity of a send buffer, in bytes.
pub(crate) const SEND_BUFFER_MIN: usize = 4 << 10;

/// Bytes of empty send buffers a driver keeps for the next link that sends.
pub(crate) const SEND_SPARE_MAX: usize = 4 << 20;

/// Links that are read without asking epoll first.
pub(crate) const HOT_MAX: usize = 4;

/// Reads in vain after which a link is no longer hot.
pub(crate) const HOT_MISSES_MAX: u32 = 256;

/// How far the score of guesses goes either way; below 0 nobody is guessed.
pub(crate) const HOT_SCORE_MAX: i32 = 8;

/// While links are hot and say nothing, epoll is asked every so many polls.
pub(crate) const LOOK_EVERY: u32 = 8;

/// Events fetched from epoll at once.
pub(crate) const EVENTS_MAX: usize = 256;

/// Connections taken from one listener per poll.
pub(crate) const ACCEPT_MAX: usize = 64;

/// How long a listener rests after the system had no descriptor or memory for a connection, in milliseconds.
pub(crate) const ACCEPT_REST_MS: u64 = 100;

/// First pause of a drained link between the end of its writing and a look whether all of it was acknowledged. Each pause
/// is twice the one before: so a drain takes about as long again as the round trip that it had to wait for.
pub(crate) const DRAIN_LOOK_FIRST: Duration = Duration::from_millis(1);

/// Longest pause between two such looks.
pub(crate) const DRAIN_LOOK_MAX: Duration = Duration::from_millis(100);

/// For how long at least nothing may arrive before a drained link is closed without its peer's end. A process that is
/// alive has answered by then, if it had a core.
pub(crate) const DRAIN_QUIET_MIN: Duration = Duration::from_millis(20);

/// Longest name behind `ipc://`, in bytes: what `sun_path` holds (unix(7)) but for its terminating zero, as in libzmq. An
/// abstract name counts with its `@`.
pub(crate) const IPC_NAME_MAX: usize = 107;

/// Bytes asked for a Unix-domain socket's buffer; the system gives as much as net.core.wmem_max allows, twice 208 KiB unless
/// the host's owner has said otherwise. Unlike TCP's it does not grow, and by default it holds three messages of 64 KiB,
/// of which the writer hears when three quarters are gone: then either end waits for the other.
pub(crate) const IPC_BUFFER: u32 = 1 << 20;

/// Paths that are tried for `ipc://*`, each of 64 random bits.
pub(crate) const WILDCARD_TRIES: usize = 16;
