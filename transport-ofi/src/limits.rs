//! Every limit of this transport, by name. Holds numbers only, no code.

use std::time::Duration;

/// Bytes that go along with a connection request at most, whatever the provider could. A provider may have less
/// ([`crate::device::Endpoint::private_data_max`]).
pub const PRIVATE_DATA_MAX: usize = 256;

/// Bytes of an endpoint's name at most.
pub const NAME_MAX: usize = 256;

/// Completions fetched from a queue at once.
pub(crate) const POLL_BATCH: usize = 32;

/// Pieces of one send at most, whatever the provider could.
pub(crate) const GATHER_MAX: usize = 16;

/// Sends, or receives, that one endpoint may have posted.
pub(crate) const POSTED_MAX: usize = 64 << 10;

/// Shortest frame without a key of its own that is registered for one READ by a peer. Registration may cost a system
/// call and the pinning of pages; a copy of less costs less.
pub(crate) const REGISTER_ALONE_MIN: usize = 256 << 10;

/// Refusals to register memory after which the provider is asked again.
pub(crate) const REFUSALS_PER_ASK: u32 = 64;

/// Keys that are tried for one registration, where we choose them and another registration may have the same.
pub(crate) const KEYS_TRIED: u32 = 8;

/// Bytes of what a provider says of an error in its own words.
pub(crate) const WORDS_MAX: usize = 256;

/// Bytes of a provider's name.
pub(crate) const PROVIDER_MAX: usize = 64;

/// Completions that the connected endpoints of one queue may have outstanding. Those beyond have another.
pub(crate) const COMPLETIONS_MAX: usize = 4096;

/// Requests that one endpoint may have posted, either way.
pub(crate) const REQUESTS_MAX: usize = 4096;

/// READs of one link that are done in one turn where each is a copy by the kernel, during which the engine stands still: 4 MiB, or
/// about 0.4 ms.
pub(crate) const FETCHES_MAX: u8 = 4;

/// Events of one event queue, or of one listener, that are read in one look.
pub(crate) const EVENTS_PER_LOOK: usize = 64;

/// Descriptors that one look at epoll reports.
pub(crate) const LOOK_MAX: usize = 16;

/// Connections to a listener that have not said who they are; the oldest goes when there is one more.
pub(crate) const GUESTS_MAX: usize = 64;

/// Those of one listener that have said who they are and are not up yet. Each has an endpoint (60 MiB with rxm); who comes meanwhile is a
/// guest until there is room.
pub(crate) const ACCEPTING_MAX: usize = 16;

/// And how long guests may take.
pub(crate) const GUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause of a listener that has no descriptor for whoever comes: until it is over, nobody wakes it.
pub(crate) const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Peers in a row whose memory cannot be read, after which parts go in packets to and from all of the device's new peers.
pub(crate) const UNREADABLE_MAX: u32 = 2;

/// When the witness of a silent peer's life is asked for a sign, how long between two, and how often in vain before the peer
/// counts as gone: 25 s together.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
pub(crate) const KEEPALIVE_COUNT: u32 = 3;

/// How long after something has happened a provider that has no descriptor to sleep on is looked at without a pause.
pub(crate) const POLL_BUSY: Duration = Duration::from_micros(100);

/// Pauses between two looks at a provider that has no descriptor to sleep on: after something has happened, and when nothing has
/// for long. The longer one is what the first message after a silence may wait.
pub(crate) const POLL_PAUSE_MIN: Duration = Duration::from_micros(20);
pub(crate) const POLL_PAUSE_MAX: Duration = Duration::from_millis(1);
