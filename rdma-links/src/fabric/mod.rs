//! The boundary below the driver: everything it asks of RDMA hardware, as two traits. Holds no implementation: there is one
//! on libibverbs and one on libfabric, in the transports' crates, and a simulated fabric can stand in for either.
//!
//! A [`Fabric`] is handles and two streams. The handles name devices, listeners and connections; a stale one is an
//! error or nothing, never a crash. The streams are [`Fabric::poll`], which says how work ended, and
//! [`Fabric::next_event`], which says everything else. Nothing blocks, nothing calls back.
//!
//! ```text
//! dial   -> Resolved -> create_queue, post_receives, connect -> Established | Rejected | Unreachable
//! listen -> Request  -> create_queue, post_receives, accept  -> Established | Rejected | Unreachable
//!                    -> reject
//!           sender(..).send/read/..  post_receives  poll      -> Completed, once for each
//!           disconnect -> everything posted comes back -> Drained -> destroy
//!           Disconnected, or a completion that is no success  -> disconnect -> as above
//!           DeviceLost | CompletionsLost -> close_device, which destroys its connections
//! ```
//!
//! **A queue pair in error** is told by completions: any status but [`Status::Success`] means it, and everything posted
//! comes back flushed. Devices differ in whether they say so by an event as well, and none tells the peer: `disconnect`
//! does. A queue pair with nothing posted fails in silence, and so does a peer whose host is gone; only who sends finds
//! out.
//!
//! **Memory.** Buffers are moved into work requests and come back with completions, so that nobody can touch memory
//! that a device writes to. What a device only reads is shared ([`Pinned`]). Both are dropped, at the latest, when
//! their queue pair is gone and the device can no longer reach them.
//!
//! **Every posted request comes back exactly once**, in the order posted per queue, whether it was signalled or not:
//! completions, flushes and refusals alike. The exceptions are [`Fabric::destroy`], and a device or completion queue
//! that is lost: then nothing more needs to come, and `destroy` drops what is left.

mod event;
mod memory;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use transport_core::{Armed, FrameMut, SlabKey};

pub use event::{Cause, Completed, Event, Rejection, Status, Work};
pub use memory::{Buffer, Hold, Memory, Pin, Pinned, Reach, Splice};

use crate::address::UrlOptions;
use crate::limits::PRIVATE_DATA_MAX;

/// Defines a key of a slab as a type of its own.
macro_rules! id {
    ($(#[$doc:meta])* $id:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $id(SlabKey);
        impl From<SlabKey> for $id {
            fn from(key: SlabKey) -> Self {
                Self(key)
            }
        }
        impl From<$id> for SlabKey {
            fn from(id: $id) -> Self {
                id.0
            }
        }
        impl $id {
            /// The place in its fabric's table; reused by later ids.
            pub const fn index(self) -> usize {
                self.0.index()
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({:?})"), self.0)
            }
        }
    };
}

#[cfg(any(test, feature = "simulated"))]
pub(crate) use id;

id! {
    /// Names an opened device of one fabric.
    DeviceId
}
id! {
    /// Names a listener of one fabric.
    ListenerId
}
id! {
    /// Names a connection of one fabric, and its queue pair once there is one.
    ConnectionId
}
id! {
    /// Names a frame that was lent to one queue pair for READs to land in.
    TargetId
}

/// A call that failed: which, the errno, and what to do where something can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The call, by its manual page's name.
    pub call: &'static str,
    /// The errno.
    pub errno: i32,
    /// The library's own words, where they say more than the errno does.
    pub words: Option<String>,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

impl Failure {
    /// One without a remedy.
    pub const fn new(call: &'static str, errno: i32) -> Self {
        Self { call, errno, words: None, remedy: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{}: {words}", self.call)?,
            None => write!(f, "{}: {}", self.call, std::io::Error::from_raw_os_error(self.errno))?,
        }
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for Failure {}

/// What the two ends say to each other while they connect. The connection manager pads it, so that a reader may find
/// zeros behind what was written, up to [`PRIVATE_DATA_MAX`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrivateData {
    bytes: [u8; PRIVATE_DATA_MAX],
    len: u8,
}

impl PrivateData {
    /// Nothing.
    pub const EMPTY: Self = Self { bytes: [0; PRIVATE_DATA_MAX], len: 0 };

    /// A copy of `bytes`, cut at [`PRIVATE_DATA_MAX`].
    pub fn new(bytes: &[u8]) -> Self {
        let (mut data, len) = (Self::EMPTY, bytes.len().min(PRIVATE_DATA_MAX));
        data.bytes[..len].copy_from_slice(&bytes[..len]);
        Self { len: len as u8, ..data }
    }
}

impl std::ops::Deref for PrivateData {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl fmt::Debug for PrivateData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateData({})", self.escape_ascii())
    }
}

/// Where to dial and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    /// The listener.
    pub to: SocketAddr,
    /// The local address to go out from, which chooses device and port; `None` leaves it to the routing table.
    pub from: Option<SocketAddr>,
    /// How long address and route may each take to resolve.
    pub timeout: Duration,
}

/// How large a queue pair is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueShape {
    /// Work requests on the send queue.
    pub sends: u32,
    /// Where its receives come from.
    pub receives: Receives,
    /// Pieces of one send: the packet's own bytes and what is spliced in between.
    pub gather: u32,
    /// Bytes of an inline send that are wished for.
    pub inline: u32,
}

/// Where a queue pair's receives come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receives {
    /// A receive queue of its own, of so many requests.
    Own(u32),
    /// The device's shared receive queue; [`Fabric::share_receives`] made it.
    Shared,
}

/// How large a queue pair has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Work requests on the send queue.
    pub sends: usize,
    /// Work requests on its own receive queue; 0 if it shares one.
    pub receives: usize,
    /// Pieces of one send.
    pub gather: usize,
    /// Bytes of an inline send; 0 where the device has none.
    pub inline: usize,
}

/// What the two ends agree upon when they connect (rdma_connect(3), rdma_accept(3)). Fabrics ignore what they have no say in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// READs that we have in flight at most. The less of this and the peer's `responder_resources` holds.
    pub initiator_depth: u8,
    /// READs of the peer that we serve at once.
    pub responder_resources: u8,
    /// Times a packet is sent again before the peer counts as gone. 7 at most.
    pub retry_count: u8,
    /// Times a send is tried again when the peer has no receive posted: 0 makes that an error, 7 means for ever. What
    /// is behind it waits.
    pub receiver_not_ready_retries: u8,
    /// Local acknowledgement timeout, 4.096 us times two to this power; `None`: what the URL says, or the usual.
    pub ack_timeout: Option<u8>,
}

/// What a device is and can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name, as the fabric's own tools list it.
    pub name: String,
    /// Whether it speaks iWARP, where the connecting side must send first.
    pub is_iwarp: bool,
    /// READs that one queue pair may have in flight.
    pub initiator_depth_max: u8,
    /// READs of a peer that one queue pair serves at once.
    pub responder_resources_max: u8,
    /// Work requests of one queue.
    pub work_requests_max: usize,
    /// Work requests of the shared receive queue; 0 if there is none.
    pub shared_receives_max: usize,
    /// Bytes of one message or READ.
    pub message_max: usize,
    /// Bytes of a packet, where fewer: of longer ones the device lets the peer fetch the bytes itself, at any time and whether or not
    /// the link has ended.
    pub packet_max: usize,
}

/// The peer's memory that a READ is to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Address of the first byte, in the peer's terms.
    pub address: u64,
    /// The peer's key for it.
    pub key: u64,
}

/// What a work request is posted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Comes back with the completion.
    pub tag: u32,
    /// Whether its completion is told at once. What is not signalled comes back with the next that is; a queue signals
    /// by itself often enough that it never fills up with requests of which nothing is heard.
    pub signal: bool,
}

/// Why a request was not posted. Nothing has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The send queue is full.
    #[error("the send queue is full")]
    Full,
    /// More bytes, or more pieces, than the queue pair takes.
    #[error("the request is too large for this queue pair")]
    TooLarge,
    /// No such target, or not so long.
    #[error("the READ has no target of that length")]
    NoTarget,
    /// The READ's target is not registered and could not be.
    #[error("the READ's target cannot be registered")]
    NotRegistered,
}

/// Devices, connections and completions. One per driver; `&mut self` throughout, so no locking.
pub trait Fabric: fmt::Debug + Send {
    /// What [`Fabric::sender`] lends.
    type Sender<'a>: Sender
    where
        Self: 'a;

    /// What its URLs say beside addresses.
    type Options: UrlOptions;

    // Connections

    /// Listens at an address, which may be a wildcard in address and port, and says what it has become. The options are
    /// those of all connections that it brings.
    fn listen(
        &mut self,
        at: SocketAddr,
        backlog: u32,
        options: &Self::Options,
    ) -> Result<(ListenerId, SocketAddr), Failure>;

    /// What a URL that leads to a listener must say behind the address, `name=value&...`; empty if nothing.
    fn query(&self, listener: ListenerId) -> String {
        let _ = listener;
        String::new()
    }

    /// Stops listening. Requests that were not yet told are refused; connections stay.
    fn unlisten(&mut self, listener: ListenerId);

    /// Begins to dial. [`Event::Resolved`] or [`Event::Unreachable`] follows.
    fn dial(&mut self, dial: &Dial, options: &Self::Options) -> Result<ConnectionId, Failure>;

    /// Makes the queue pair of a connection that is resolved or asked for. ENODEV where the options ask for another device
    /// than the connection goes through. Receives can be posted from here on, and
    /// must be before `connect` or `accept`, so that the peer's first packet finds one.
    fn create_queue(&mut self, connection: ConnectionId, shape: &QueueShape) -> Result<QueueLimits, Failure>;

    /// Asks the listener. [`Event::Established`], [`Event::Rejected`] or [`Event::Unreachable`] follows.
    fn connect(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        terms: &Terms,
    ) -> Result<(), Failure>;

    /// Says yes to [`Event::Request`]. [`Event::Established`] follows, perhaps after the peer's first packet: what
    /// comes first means the same. `terms.initiator_depth` must not exceed the request's. EINVAL where the dialler has
    /// left by now; or that is heard afterwards, by [`Event::Rejected`] or [`Event::Unreachable`].
    fn accept(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        terms: &Terms,
    ) -> Result<(), Failure>;

    /// Says no to [`Event::Request`]; the connection is gone. `destroy` says no as well, without a word.
    fn reject(&mut self, connection: ConnectionId, private: &PrivateData);

    /// Puts the queue pair into error and lets the peer know. Everything posted comes back, most of it
    /// [`Status::Flushed`], and then, once, [`Event::Drained`]. In any state; harmless when repeated.
    fn disconnect(&mut self, connection: ConnectionId);

    /// Forgets a connection in whatever state. Buffers still posted are dropped, and nothing is said about it any more.
    fn destroy(&mut self, connection: ConnectionId);

    /// What a user can do about an errno that the fabric has brought.
    fn remedy(&self, errno: i32) -> Option<String> {
        let _ = errno;
        None
    }

    /// READs that a connection may have under way at most, either way, beside what its device allows; known before `create_queue`.
    fn reads_max(&self, connection: ConnectionId) -> u8 {
        let _ = connection;
        u8::MAX
    }

    // Devices

    /// What a device is. Devices open by themselves with the first connection that goes through them.
    fn device(&self, device: DeviceId) -> Option<&DeviceInfo>;

    /// The device's view of memory, to be kept and shared.
    fn memory(&self, device: DeviceId) -> Option<&Memory>;

    /// Makes the device's shared receive queue. [`Event::SharedReceivesLow`] follows whenever fewer than `low` are
    /// posted; `post_shared_receives` sets it up anew.
    fn share_receives(&mut self, device: DeviceId, receives: u32, low: u32) -> Result<(), Failure>;

    /// Closes a device and gives everything on it up: for one that is lost, so that its driver can be unloaded. The
    /// next connection through it opens it anew, under another id.
    fn close_device(&mut self, device: DeviceId);

    // Work

    /// The one who posts to a connection's send queue. `None` for a stale id or before `create_queue`.
    fn sender(&mut self, connection: ConnectionId) -> Option<Self::Sender<'_>>;

    /// Posts receives, as many of `buffers` as it takes, which leave the vector; on an error the rest stay in it. An
    /// error after `disconnect`.
    fn post_receives(&mut self, connection: ConnectionId, buffers: &mut Vec<Buffer>) -> Result<(), Failure>;

    /// The same for the shared receive queue.
    fn post_shared_receives(&mut self, device: DeviceId, buffers: &mut Vec<Buffer>) -> Result<(), Failure>;

    /// Takes a target back. `None` while a READ into it has not come back, and for a stale id.
    fn reclaim(&mut self, connection: ConnectionId, target: TargetId) -> Option<FrameMut>;

    /// Copies bytes into a target, from `at` on: for those that could not be READ straight into it. No READ into the same
    /// range may be posted. `false`: there is no such target, or it is not so long.
    fn fill_target(&mut self, connection: ConnectionId, target: TargetId, at: usize, bytes: &[u8]) -> bool;

    // What happened

    /// Appends what has completed, about `budget` entries at most, and says how many. Costs no system call. May name
    /// connections that are gone: then only the buffer matters.
    fn poll(&mut self, out: &mut Vec<Completed>, budget: usize) -> usize;

    /// The next event, in order. Finding none costs a system call: to be called until `None` after a sleep, and now and
    /// then while polling.
    fn next_event(&mut self) -> Option<Event>;

    /// Whether `next_event` has one, as far as that can be known without a system call.
    fn has_event(&self) -> bool;

    /// Says whether the caller may sleep on `wake_fd`. After `Ready`, the next completion or event makes it readable;
    /// `Busy` means that `poll` has something already.
    fn arm(&mut self) -> Armed;

    /// The descriptor to sleep on, the same for life; level-triggered. `None`: only time matters.
    fn wake_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Lets what happens by `now` happen, for fabrics that live in a time of their own.
    fn advance(&mut self, now: Instant) {
        let _ = now;
    }

    /// When `advance` has something to do.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Posts to one send queue. Requests are collected, and the device hears of them in one ring of its doorbell: when the
/// sender is dropped, or before, when enough have been collected. A device that then refuses them says so by
/// completions.
pub trait Sender {
    /// Requests that the queue takes at the moment.
    fn room(&self) -> usize;

    /// Posts a packet whose bytes, at most [`QueueLimits::inline`], are copied into the request: the caller keeps them.
    fn inline(&mut self, bytes: &[u8], mark: Mark) -> Result<(), PostError>;

    /// Posts the first `len` bytes of `buffer` as a packet, with shared frames between them where `splices` says so (in
    /// ascending order; emptied on success). On an error everything stays with the caller.
    fn send(
        &mut self,
        buffer: Buffer,
        len: usize,
        splices: &mut Vec<Splice>,
        mark: Mark,
    ) -> Result<(), (PostError, Buffer)>;

    /// Lends a frame for READs to land in, until [`Fabric::reclaim`].
    fn lend(&mut self, frame: FrameMut) -> TargetId;

    /// Posts a READ of `from` into a range of a target. Ranges in flight at once should not overlap.
    fn read(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        mark: Mark,
    ) -> Result<(), PostError>;
}
