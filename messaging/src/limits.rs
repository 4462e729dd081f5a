//! Every limit of the messaging layer that is not an option, by name. Holds numbers only, no code.

use std::time::Duration;

/// Completions handled per turn and driver before timers and other drivers get theirs.
pub(crate) const TURN_BUDGET: usize = 128;

/// Turns that the background thread takes in a row before it looks at its own state again.
pub(crate) const BACKGROUND_TURNS: usize = 64;

/// Turns that a sender takes in a row to get a long message out before it leaves that to others.
pub(crate) const FEEDING_TURNS: usize = 8;

/// Turns that a call which may not wait takes, as long as something moves, before it says that it would have to. A part
/// from one socket to another of its context needs two; a message of many parts needs two for each where marks are small.
pub(crate) const LAST_LOOK_TURNS: usize = 32;

/// Parts granted at a time to a link in the middle of a multipart message whose pipe is full, so that the message can end: not
/// one more, since it would begin the next message, which would have to end as well.
pub(crate) const GRANT_TO_FINISH: u64 = 1;

/// Subscriptions and their ends that an XPUB keeps for an application that does not receive, and bytes of their topics. What
/// comes beyond counts as ever, but the application does not hear of it.
pub(crate) const HEARD_MAX: usize = 4 << 20;
/// See [`HEARD_MAX`].
pub(crate) const HEARD_BYTES_MAX: usize = 256 << 20;

/// Bytes that may wait unflushed in one socket, for each link that a flush writes to, before the sender flushes: as much as one writev carries well.
pub(crate) const FLUSH_BYTES: usize = 64 << 10;

/// Links for which the two bounds of a burst are raised: a burst to more of them waits no longer than for so many.
pub(crate) const FLUSH_LINKS_MAX: u32 = 64;

/// A burst is flushed when it has waited for the time of so many writes, so that it spends about a tenth of its time in
/// them; at the highest rates of small messages that is as long as the bytes above take.
pub(crate) const BURST_WRITES: u32 = 10;

/// Below so many waiting bytes a burst counts as thin, and a flush comes after one write's time. Less than the highest rate
/// of small messages gathers in that time (64 B: 6 KiB in 4 us), or a burst to several busy readers would be cut into crumbs.
pub(crate) const THIN_BYTES: usize = 2 << 10;

/// Writes that may follow each other too closely before a burst is assumed and messages are only queued.
pub(crate) const WRITES_IN_A_ROW: u32 = 8;

/// Bounds of what a write is taken to cost; the measured minimum in between is used. Unbounded, the cost of waking a
/// parked peer inflates it.
pub(crate) const WRITE_COST: (Duration, Duration) = (Duration::from_micros(2), Duration::from_micros(4));

/// How long a wait may spin, unless a context says otherwise: about what a wake-up costs. And what it may say at most.
pub(crate) const SPIN: Duration = Duration::from_micros(50);
pub(crate) const SPIN_MAX: Duration = Duration::from_secs(1);

/// A pause between two looks that shows that the core was given to somebody else. Twice the longest spin, if that is more:
/// who wants to spin for long means to have the core.
pub(crate) const CORE_LOST: Duration = Duration::from_micros(100);

/// Waits without spinning between two probes, at least and at most.
pub(crate) const SPIN_SKIP: (u32, u32) = (32, 2048);

/// How often the background thread looks in while an application thread drives, and after sixteen such looks.
pub(crate) const TICK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(4));

/// Ticks without a sign of the driving thread (it is parked, and does the waiting itself) before a deep sleep.
pub(crate) const TICKS_TO_DEEP: u32 = 3;

/// Longest sleep of a thread that waits for another one to drive, before it sleeps again.
pub(crate) const PARK: Duration = Duration::from_secs(3600);

/// Longest deep sleep: what a lost hand-over could cost at most.
pub(crate) const DEEP: Duration = Duration::from_millis(200);

/// How often the guard looks after a burst that its sender may have left, and while the burst is sustained.
pub(crate) const GUARD_TICK: (Duration, Duration) = (Duration::from_micros(50), Duration::from_micros(200));

/// Idle looks after which the guard leaves.
pub(crate) const GUARD_IDLE_TICKS: u32 = 6;

/// Timers that the engine keeps whether or not they are still wanted, beside three for each endpoint and each peer.
pub(crate) const TIMERS_KEPT: usize = 64;

/// Default linger of a socket: how long a close keeps sending what is queued. libzmq's default is for ever, which
/// its users meet as a program that never ends.
pub(crate) const LINGER: Duration = Duration::from_secs(30);

/// Events that a monitor keeps for a reader that does not read; later ones are counted and dropped.
pub(crate) const MONITOR_EVENTS: usize = 4096;

/// Messages that a proxy takes from one side before the other has its turn, and its control socket.
pub(crate) const PROXY_BURST: usize = 1000;

/// Bytes likewise: long messages come in shorter bursts.
pub(crate) const PROXY_BURST_BYTES: u64 = 16 << 20;

/// Bursts of an asynchronous proxy in one poll, before its executor's other tasks have their turn.
pub(crate) const PROXY_BURSTS: usize = 8;

/// Most parts of one message. A peer that sends more loses its link.
pub(crate) const PARTS_MAX: usize = 1 << 20;

/// Subscriptions that one peer may hold at a PUB: four times the million that the matcher is measured with. A peer that
/// sends more loses its link.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 4 << 20;

/// Bytes of topics that one peer may subscribe to at a PUB (256 MiB): with the limit above, 64 bytes for each. A peer that
/// sends more loses its link.
pub(crate) const SUBSCRIPTION_BYTES_MAX: usize = 256 << 20;

/// Longest group of a RADIO, in bytes (ZMQ_GROUP_MAX_LENGTH of libzmq 4.3.3).
pub(crate) const GROUP_MAX: usize = 255;

/// Parts that a peer may be allowed at once where messages are weighed: as many may come beyond a mark in bytes, since how
/// long they are is known when they are there.
pub(crate) const WEIGHED_GRANT: u64 = 16;

/// Conduits for which the engine's own lists have memory from the start; they grow to the number of conduits at most.
pub(crate) const LISTS: usize = 32;
