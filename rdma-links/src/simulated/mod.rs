//! The boundary without hardware: a world of devices that exist in memory and in a time of their own, and that do wrong
//! what they are told to. For tests of whatever stands on the boundary. Not a model of any device's speed.
//!
//! A world is behind a handle, and each [`SimulatedFabric`] made from it is a host with one device. What happens takes
//! the world's latency, in the order it was begun; nothing happens but in `advance`, which brings the time.
//!
//! What it is strict about, so that a mistake shows here and not on hardware: a packet needs a posted receive, and a
//! buffer and a READ need keys of their own domain; a queue takes no more than its shape; nothing that was not
//! signalled is heard of before something later is; a queue pair that fails tells its peer nothing, and its owner only
//! by what comes back; after a lost device, nothing comes back.
//!
//! Chance is the caller's: [`World::set_mishaps`] takes a closure, which may go by a seed.

mod connections;
mod memory;
mod net;
mod work;

use std::fmt;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use transport_core::{Armed, Deferral, FrameMut, SlabKey, Wake};

use crate::address::UrlOptions;
use crate::fabric::{
    Buffer, Completed, ConnectionId, DeviceId, DeviceInfo, Dial, Event, Fabric, Failure, ListenerId, Mark,
    Memory, PostError, PrivateData, QueueLimits, QueueShape, Remote, Sender, Splice, TargetId, Terms, Work,
};
use net::{Net, Request, RequestKind};

crate::fabric::id! {
    /// Names a host of one world.
    HostId
}

/// What can be done wrong to a work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The peer counts as not ready, though it is; tried again where the connection's terms allow it.
    ReceiverNotReady,
    /// It is lost on its way, however often it is sent.
    NoAnswer,
    /// The READ's key counts as wrong.
    WrongKey,
    /// The queue pair fails before its turn comes, and the device says so.
    QueueFails,
    /// The device refuses to take it.
    Refused,
    /// The host's completion queue overflows.
    CompletionsLost,
    /// The host's device is pulled out.
    DeviceLost,
}

/// What has happened in a world so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets that arrived.
    pub packets: u64,
    /// READs that were served.
    pub reads: u64,
    /// Packets that found no receive posted.
    pub receiver_not_ready: u64,
    /// READs that were refused for their key.
    pub wrong_keys: u64,
    /// READs posted while as many as agreed were in flight: a device would make the whole send queue wait.
    pub reads_beyond_depth: u64,
    /// Queue pairs that exist.
    pub queue_pairs: usize,
    /// Regions that are registered.
    pub regions: usize,
}

/// Decides, at each posted request, what goes wrong.
pub type Mishaps = Box<dyn FnMut(Posted) -> Option<Mishap> + Send>;

/// A request about to be posted, for [`Mishaps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// By whom.
    pub host: HostId,
    /// What.
    pub kind: PostedKind,
    /// Bytes of the packet or READ.
    pub len: usize,
}

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostedKind {
    /// A packet.
    Packet,
    /// A READ.
    Read,
}

/// A world. Clones share it; thread-safe.
#[derive(Clone)]
pub struct World(Arc<Mutex<Net>>);

impl World {
    /// One in which everything takes `latency`, and nothing goes wrong.
    pub fn new(latency: Duration) -> Self {
        Self(Arc::new(Mutex::new(Net::new(latency))))
    }

    /// A new host with a device. `wake` is called when something is about to happen to it.
    pub fn fabric(&self, wake: Arc<dyn Wake>) -> SimulatedFabric {
        let host = self.hold().add_host(wake);
        SimulatedFabric { world: self.clone(), host, info: net::device_info(), memory: None }
    }

    /// Changes what goes wrong from now on.
    pub fn set_mishaps(&self, mishaps: impl FnMut(Posted) -> Option<Mishap> + Send + 'static) {
        self.hold().mishaps = Box::new(mishaps);
    }

    /// Pulls a host's device out.
    pub fn unplug(&self, host: HostId) {
        self.hold().lose_device(host, true);
    }

    /// Lets a host's completion queue overflow.
    pub fn overflow(&self, host: HostId) {
        self.hold().lose_device(host, false);
    }

    /// All hosts there are.
    pub fn hosts(&self) -> Vec<HostId> {
        self.hold().hosts()
    }

    /// Lets a host's device refuse to register any more memory, or not.
    pub fn refuse_memory(&self, host: HostId, refuse: bool) {
        self.hold().refuse_memory(host, refuse);
    }

    /// What has happened so far.
    pub fn count(&self) -> Count {
        self.hold().count()
    }

    fn hold(&self) -> Held<'_> {
        let deferral = Deferral::begin();
        Held { net: self.0.lock().unwrap_or_else(PoisonError::into_inner), _deferral: deferral }
    }
}

/// The world's lock. Declared first, the guard goes first: what frees memory of the user's runs after it.
#[derive(Debug)]
struct Held<'a> {
    net: MutexGuard<'a, Net>,
    _deferral: Deferral,
}

impl Deref for Held<'_> {
    type Target = Net;
    fn deref(&self) -> &Net {
        &self.net
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Net {
        &mut self.net
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({:?})", self.count())
    }
}

/// What a URL that leads into a world says beside its address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimulatedOptions {
    /// The device that must be used. Every host has one of the same name.
    pub device: Option<String>,
}

impl UrlOptions for SimulatedOptions {
    const SCHEME: &'static str = "simulated";
    const ADDRESS: &'static str = "any address";
    const NAMES: &'static [&'static str] = &["device"];

    fn set(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>> {
        match name {
            "device" if value.is_empty() => Some(Err("`device` takes the name of a device")),
            "device" => {
                self.device = Some(value.to_owned());
                Some(Ok(()))
            }
            _ => None,
        }
    }
}

/// A host of a [`World`].
#[derive(Debug)]
pub struct SimulatedFabric {
    world: World,
    host: HostId,
    info: DeviceInfo,
    /// The device's present view of memory, if it is open.
    memory: Option<(DeviceId, Memory)>,
}

impl SimulatedFabric {
    /// Its name in the world.
    pub const fn host(&self) -> HostId {
        self.host
    }

    fn check_device(&self, options: &SimulatedOptions) -> Result<(), Failure> {
        match &options.device {
            Some(wanted) if *wanted != self.info.name => {
                let remedy = Some(format!("use device={}, since there is no other", self.info.name));
                Err(Failure { remedy, ..Failure::new("no such device", libc::ENODEV) })
            }
            _ => Ok(()),
        }
    }

    fn learn_memory(&mut self, device: DeviceId) {
        if self.memory.as_ref().is_none_or(|(known, _)| *known != device) {
            self.memory = self.world.hold().memory(self.host, device).map(|memory| (device, memory));
        }
    }
}

impl Fabric for SimulatedFabric {
    type Sender<'a> = SimulatedSender<'a>;
    type Options = SimulatedOptions;

    fn listen(
        &mut self,
        at: SocketAddr,
        _backlog: u32,
        options: &SimulatedOptions,
    ) -> Result<(ListenerId, SocketAddr), Failure> {
        self.check_device(options)?;
        self.world.hold().listen(self.host, at)
    }
    fn unlisten(&mut self, listener: ListenerId) {
        self.world.hold().unlisten(self.host, listener);
    }
    fn dial(&mut self, dial: &Dial, options: &SimulatedOptions) -> Result<ConnectionId, Failure> {
        self.check_device(options)?;
        Ok(self.world.hold().dial(self.host, dial.to))
    }
    fn create_queue(&mut self, connection: ConnectionId, shape: &QueueShape) -> Result<QueueLimits, Failure> {
        self.world.hold().create_queue(self.host, connection, shape)
    }
    fn connect(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        terms: &Terms,
    ) -> Result<(), Failure> {
        self.world.hold().connect(self.host, connection, *private, *terms)
    }
    fn accept(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        terms: &Terms,
    ) -> Result<(), Failure> {
        self.world.hold().accept(self.host, connection, *private, *terms)
    }
    fn reject(&mut self, connection: ConnectionId, private: &PrivateData) {
        self.world.hold().reject(self.host, connection, *private);
    }
    fn disconnect(&mut self, connection: ConnectionId) {
        self.world.hold().disconnect(self.host, connection);
    }
    fn destroy(&mut self, connection: ConnectionId) {
        let gone = self.world.hold().destroy(self.host, connection);
        // Outside the lock: frames may be somebody's.
        drop(gone);
    }

    fn device(&self, device: DeviceId) -> Option<&DeviceInfo> {
        self.world.hold().is_open(self.host, device).then_some(&self.info)
    }
    fn memory(&self, device: DeviceId) -> Option<&Memory> {
        self.memory.as_ref().filter(|(known, _)| *known == device).map(|(_, memory)| memory)
    }
    fn share_receives(&mut self, device: DeviceId, receives: u32, low: u32) -> Result<(), Failure> {
        self.world.hold().share_receives(self.host, device, receives, low)
    }
    fn close_device(&mut self, device: DeviceId) {
        let gone = self.world.hold().close_device(self.host, device);
        drop(gone);
        self.memory.take_if(|(known, _)| *known == device);
    }

    fn sender(&mut self, connection: ConnectionId) -> Option<SimulatedSender<'_>> {
        let net = self.world.hold();
        let limits = net.limits(self.host, connection)?;
        Some(SimulatedSender { net, host: self.host, connection, limits })
    }
    fn post_receives(&mut self, connection: ConnectionId, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        self.world.hold().post_receives(self.host, connection, buffers)
    }
    fn post_shared_receives(&mut self, device: DeviceId, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        self.world.hold().post_shared_receives(self.host, device, buffers)
    }
    fn reclaim(&mut self, connection: ConnectionId, target: TargetId) -> Option<FrameMut> {
        self.world.hold().reclaim(self.host, connection, target)
    }

    fn fill_target(&mut self, connection: ConnectionId, target: TargetId, at: usize, bytes: &[u8]) -> bool {
        self.world.hold().fill_target(self.host, connection, target, at, bytes)
    }

    fn poll(&mut self, out: &mut Vec<Completed>, budget: usize) -> usize {
        self.world.hold().poll(self.host, out, budget)
    }
    fn next_event(&mut self) -> Option<Event> {
        let event = self.world.hold().next_event(self.host);
        if let Some(Event::Resolved { device, .. } | Event::Request { device, .. }) = event {
            self.learn_memory(device);
        }
        event
    }
    fn has_event(&self) -> bool {
        self.world.hold().has_event(self.host)
    }
    fn arm(&mut self) -> Armed {
        if self.world.hold().has_news(self.host) { Armed::Busy } else { Armed::Ready }
    }
    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn advance(&mut self, now: Instant) {
        self.world.hold().advance(now);
    }
    fn deadline(&self) -> Option<Instant> {
        self.world.hold().deadline()
    }
}

impl Drop for SimulatedFabric {
    fn drop(&mut self) {
        let gone = self.world.hold().remove_host(self.host);
        drop(gone);
    }
}

/// Posts to one connection's send queue. Holds the world's lock, so that nothing else happens meanwhile.
#[derive(Debug)]
pub struct SimulatedSender<'a> {
    net: Held<'a>,
    host: HostId,
    connection: ConnectionId,
    limits: QueueLimits,
}

impl SimulatedSender<'_> {
    fn post(&mut self, kind: RequestKind, mark: Mark) {
        self.net.post(self.host, self.connection, Request::new(kind, mark));
    }
}

impl Sender for SimulatedSender<'_> {
    fn room(&self) -> usize {
        self.limits.sends.saturating_sub(self.net.posted(self.host, self.connection))
    }

    fn inline(&mut self, bytes: &[u8], mark: Mark) -> Result<(), PostError> {
        if bytes.len() > self.limits.inline {
            return Err(PostError::TooLarge);
        }
        if self.room() == 0 {
            return Err(PostError::Full);
        }
        self.post(RequestKind::Inline(bytes.to_vec()), mark);
        Ok(())
    }

    fn send(
        &mut self,
        buffer: Buffer,
        len: usize,
        splices: &mut Vec<Splice>,
        mark: Mark,
    ) -> Result<(), (PostError, Buffer)> {
        let ordered = splices.is_sorted_by_key(|splice| splice.at);
        let inside = splices.last().is_none_or(|splice| splice.at <= len);
        if len > buffer.len() || 2 * splices.len() + 1 > self.limits.gather || !ordered || !inside {
            return Err((PostError::TooLarge, buffer));
        }
        if self.room() == 0 {
            return Err((PostError::Full, buffer));
        }
        self.post(RequestKind::Packet { buffer, len, splices: std::mem::take(splices) }, mark);
        Ok(())
    }

    fn lend(&mut self, frame: FrameMut) -> TargetId {
        self.net.lend(self.host, self.connection, frame)
    }

    fn read(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        mark: Mark,
    ) -> Result<(), PostError> {
        if self.room() == 0 {
            return Err(PostError::Full);
        }
        self.net.begin_read(self.host, self.connection, target, &into)?;
        self.post(RequestKind::Read { target, into, from }, mark);
        Ok(())
    }
}

/// The packet's or target's kind of work, as it comes back.
fn work_of(kind: RequestKind, tag: u32) -> Work {
    match kind {
        RequestKind::Inline(_) => Work::Send { tag, buffer: None },
        RequestKind::Packet { buffer, .. } => Work::Send { tag, buffer: Some(buffer) },
        RequestKind::Read { target, .. } => Work::Read { tag, target },
    }
}

/// An id that no table has.
fn nobody() -> ConnectionId {
    SlabKey::from_u64(0).into()
}
