//! The boundary on real hardware: connections, devices and events of the safe layer, behind handles. Has no `unsafe`,
//! knows no packets, and decides nothing that the driver could.
//!
//! One event channel for all connections; per device one context, protection domain, completion channel and optional
//! shared receive queue, and as many completion queues as its queue pairs could fill. One epoll descriptor over all of
//! them.

mod events;
mod open_device;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use transport_core::{Armed, FrameMut, Slab, SlabKey};

use crate::device::{Batch, Chain, CmId, Cookie, EventChannel, PostSender, QueuePair};
use crate::fabric::{
    Buffer, Completed, ConnectionId, DeviceId, DeviceInfo, Dial, Event, Fabric, Failure, ListenerId, Mark,
    Memory, PostError, PrivateData, QueueLimits, QueueShape, Receives, Remote, Sender, Splice, TargetId,
    Terms, Work,
};
use crate::limits::POLL_BATCH;
use crate::options::VerbsOptions;
use crate::preflight::locked_memory_remedy;
use crate::sys::Libraries;
use open_device::OpenDevice;

/// RDMA devices by libibverbs and librdmacm.
pub struct VerbsFabric {
    libraries: &'static Libraries,
    channel: EventChannel,
    epoll: OwnedFd,
    listeners: Slab<ListenerId, Listener>,
    connections: Slab<ConnectionId, Connection>,
    /// The key of whoever had a place in that table last.
    places: Vec<ConnectionId>,
    devices: Slab<DeviceId, OpenDevice>,
    events: VecDeque<Event>,
    /// Completions that `arm` found.
    early: VecDeque<Completed>,
    /// Which completion queue, of all devices, is to be looked at next.
    next_queue: usize,
    /// Connections whose device has refused requests.
    refusing: Vec<ConnectionId>,
    batch: Batch,
    chain: Chain,
}

#[derive(Debug)]
struct Listener {
    id: CmId,
    options: VerbsOptions,
}

#[derive(Debug)]
struct Connection {
    id: CmId,
    options: VerbsOptions,
    phase: Phase,
    device: Option<DeviceId>,
    pair: Option<QueuePair>,
    /// Place of its completion queue, and what it has reserved there.
    completions: Option<(usize, u32)>,
    timeout: Duration,
    terms: Option<Terms>,
    /// READs it may have in flight, once agreed.
    depth: u8,
    /// Takes no more from the shared receive queue.
    last_receive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Address, then route, are being looked for.
    Resolving,
    /// Asked for, or resolved.
    Open,
    /// The listener was asked.
    Connecting,
    /// We have said yes.
    Accepting,
    Established,
    /// Told to give everything back.
    Draining,
    /// It never came about.
    Over,
    /// Everything is back, and that was said.
    Drained,
}

impl Phase {
    const fn is_ending(self) -> bool {
        matches!(self, Self::Draining | Self::Drained)
    }
}

/// What epoll says a descriptor is: kind in the high half, a device's place in the low.
const MANAGER: u64 = 0;
const ASYNC: u64 = 1 << 32;
const COMPLETIONS: u64 = 2 << 32;

/// In a cookie of the connection manager's: what kind of id it is. Generations use the other bits.
const LISTENER: u64 = 1 << 63;
const SENTRY: u64 = 1 << 62;
const KINDS: u64 = LISTENER | SENTRY;

impl VerbsFabric {
    /// A fabric with no connection and no device yet.
    pub fn new(libraries: &'static Libraries) -> Result<Self, Failure> {
        let channel = EventChannel::new(libraries)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(epoll_failure)?;
        watch(&epoll, channel.fd(), MANAGER)?;
        Ok(Self {
            libraries,
            channel,
            epoll,
            listeners: Slab::new(),
            connections: Slab::new(),
            places: Vec::new(),
            devices: Slab::new(),
            events: VecDeque::new(),
            early: VecDeque::with_capacity(2 * POLL_BATCH),
            next_queue: 0,
            refusing: Vec::new(),
            batch: Batch::new(),
            chain: Chain::new(),
        })
    }

    fn find(&mut self, connection: ConnectionId, call: &'static str) -> Result<&mut Connection, Failure> {
        self.connections.find_mut(connection).ok_or(Failure::new(call, libc::EBADF))
    }

    fn add_connection(
        &mut self,
        id: CmId,
        options: VerbsOptions,
        phase: Phase,
        timeout: Duration,
    ) -> ConnectionId {
        let key: ConnectionId = self.connections.insert_with(|key: ConnectionId| {
            let mut id = id;
            id.set_cookie(SlabKey::from(key).to_u64());
            Connection {
                id,
                options,
                phase,
                device: None,
                pair: None,
                completions: None,
                timeout,
                terms: None,
                depth: 0,
                last_receive: false,
            }
        });
        if self.places.len() <= key.index() {
            self.places.resize(key.index() + 1, key);
        }
        self.places[key.index()] = key;
        key
    }

    /// The device that an id goes through, opened if it is not yet.
    fn device_of(&mut self, connection: ConnectionId) -> Result<DeviceId, Failure> {
        let Some(it) = self.connections.find_mut(connection) else {
            return Err(Failure::new("ibv_open_device", libc::EBADF));
        };
        let known =
            self.devices.iter().find(|(_, device)| !device.is_lost && it.id.goes_through(&device.context));
        let device = match known {
            Some((key, _)) => key,
            None => {
                let mut opened = OpenDevice::open(&it.id)?;
                let key: DeviceId = self.devices.insert_with(|key: DeviceId| {
                    opened.post_sentry(&it.id, &self.channel, SENTRY | SlabKey::from(key).to_u64());
                    opened
                });
                if let Some(device) = self.devices.find(key) {
                    let place = key.index() as u64;
                    let watched = watch(&self.epoll, device.context.async_fd(), ASYNC | place)
                        .and_then(|()| watch(&self.epoll, device.channel.fd(), COMPLETIONS | place));
                    if let Err(failure) = watched {
                        self.devices.remove(key);
                        return Err(failure);
                    }
                }
                key
            }
        };
        it.device = Some(device);
        Ok(device)
    }

    /// Appends what has completed to `out`, until about `budget` entries: a batch from each queue in turn, so that a
    /// busy one keeps none waiting.
    fn fetch(&mut self, out: &mut impl Extend<Completed>, budget: usize) -> usize {
        let mut fetched = 0;
        // Connections that may have got back their last; none unless some are on their way out.
        let mut drained = Vec::new();
        let Self { devices, connections, places, batch, next_queue, .. } = self;
        let queues: usize = devices.iter().map(|(_, device)| device.queues.len()).sum();
        let mut empty = 0;
        while fetched < budget && empty < queues {
            let mut at = *next_queue % queues;
            *next_queue = at + 1;
            let device = devices.iter_mut().map(|(_, device)| device).find(|device| {
                let is_here = at < device.queues.len();
                at -= if is_here { 0 } else { device.queues.len() };
                is_here
            });
            let Some(device) = device else { break };
            if !device.poll(at, batch) {
                empty += 1;
                continue;
            }
            empty = 0;
            for completion in &mut *batch {
                let Some(cookie) = Cookie::of(&completion) else {
                    let status = completion.status();
                    if let Some((connection, buffer, len)) = device.retire_shared(&completion) {
                        fetched += 1;
                        out.extend([Completed { connection, status, work: Work::Receive { buffer, len } }]);
                    }
                    continue;
                };
                let Some(key) = places.get(cookie.index()).copied() else { continue };
                let Some(it) = connections.find_mut(key) else { continue };
                let Some(pair) = &mut it.pair else { continue };
                pair.retire(completion, |status, work| {
                    fetched += 1;
                    out.extend([Completed { connection: key, status, work }]);
                });
                if it.phase == Phase::Draining && pair.is_idle() {
                    drained.push(key);
                }
            }
        }
        drained.into_iter().for_each(|key| self.check_drained(key));
        fetched
    }

    /// Appends what devices have refused and whose turn it is to come back.
    fn fetch_refused(&mut self, out: &mut Vec<Completed>) -> usize {
        if self.refusing.is_empty() {
            return 0;
        }
        let before = out.len();
        let mut refusing = std::mem::take(&mut self.refusing);
        refusing.retain(|key| {
            let Some(pair) = self.connections.find_mut(*key).and_then(|it| it.pair.as_mut()) else {
                return false;
            };
            if !pair.has_refused() {
                return true;
            }
            pair.retire_refused(|status, work| out.push(Completed { connection: *key, status, work }));
            self.check_drained(*key);
            false
        });
        self.refusing = refusing;
        out.len() - before
    }

    /// Says so if everything of a connection has come back.
    fn check_drained(&mut self, key: ConnectionId) {
        let Some(it) = self.connections.find_mut(key).filter(|it| it.phase == Phase::Draining) else {
            return;
        };
        let announced = || {
            it.device
                .and_then(|device| self.devices.find(device))
                .is_none_or(|it| it.context.announces_last_receive())
        };
        let is_over = it.pair.as_ref().is_none_or(|pair| {
            pair.is_idle() && (!pair.shares_receives() || it.last_receive || !announced())
        });
        if is_over {
            it.phase = Phase::Drained;
            self.events.push_back(Event::Drained { connection: key });
        }
    }
}

impl Fabric for VerbsFabric {
    type Sender<'a> = VerbsSender<'a>;
    type Options = VerbsOptions;

    fn listen(
        &mut self,
        at: SocketAddr,
        backlog: u32,
        options: &VerbsOptions,
    ) -> Result<(ListenerId, SocketAddr), Failure> {
        let mut id = CmId::new(&self.channel, 0)?;
        if at.is_ipv6() {
            // `[::]` means IPv4 peers too, as with tcp.
            id.set_ipv6_only(false)?;
        }
        id.bind(at)?;
        id.listen(backlog)?;
        let real = id.local_address().ok_or(Failure::new("rdma_get_local_addr", libc::EADDRNOTAVAIL))?;
        let key = self.listeners.insert_with(|key: ListenerId| {
            id.set_cookie(LISTENER | SlabKey::from(key).to_u64());
            Listener { id, options: options.clone() }
        });
        Ok((key, real))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.listeners.remove(listener);
    }

    fn dial(&mut self, dial: &Dial, options: &VerbsOptions) -> Result<ConnectionId, Failure> {
        let mut id = CmId::new(&self.channel, 0)?;
        if let Some(value) = options.service_type {
            id.set_service_type(value)?;
        }
        let connection = self.add_connection(id, options.clone(), Phase::Resolving, dial.timeout);
        let it = self.find(connection, "rdma_resolve_addr")?;
        if let Err(failure) = it.id.resolve_address(dial.from, dial.to, dial.timeout) {
            self.connections.remove(connection);
            return Err(failure);
        }
        Ok(connection)
    }

    fn create_queue(&mut self, connection: ConnectionId, shape: &QueueShape) -> Result<QueueLimits, Failure> {
        const CALL: &str = "ibv_create_qp";
        let it = self.connections.find_mut(connection).ok_or(Failure::new(CALL, libc::EBADF))?;
        let place = it.device.filter(|_| it.pair.is_none()).ok_or(Failure::new(CALL, libc::EINVAL))?;
        let device = self.devices.find_mut(place).ok_or(Failure::new(CALL, libc::ENODEV))?;
        let name = &device.context.info().name;
        if let Some(wanted) = it.options.device.as_ref().filter(|wanted| *wanted != name) {
            let remedy = format!(
                "device={wanted} was asked for, but the address belongs to {name}; use an address of {wanted}'s interface"
            );
            return Err(Failure {
                remedy: Some(remedy),
                ..Failure::new("the device is another one", libc::ENODEV)
            });
        }
        let (completions, shares) = match shape.receives {
            // One for the beacon.
            Receives::Own(receives) => (shape.sends.saturating_add(receives).saturating_add(1), false),
            Receives::Shared => (shape.sends.saturating_add(1), true),
        };
        let at = device.reserve(completions, shares)?;
        let owner = SlabKey::from(connection);
        let pair =
            QueuePair::new(&device.domain, &device.queues[at].queue, device.shared.as_ref(), shape, owner)
                .and_then(|mut pair| it.id.prepare(&mut pair).map(|()| pair));
        match pair {
            Ok(pair) => {
                if shares {
                    device.add_sharer(pair.number(), connection);
                }
                let limits = pair.limits();
                (it.completions, it.pair) = (Some((at, completions)), Some(pair));
                Ok(limits)
            }
            Err(failure) => {
                device.unreserve(at, completions);
                Err(failure)
            }
        }
    }

    fn connect(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        terms: &Terms,
    ) -> Result<(), Failure> {
        let it = self.find(connection, "rdma_connect")?;
        let pair = it.pair.as_ref().filter(|_| it.phase == Phase::Open);
        let terms = it.options.complete(terms);
        it.id.connect(pair.ok_or(Failure::new("rdma_connect", libc::EINVAL))?, private, &terms)?;
        (it.phase, it.terms) = (Phase::Connecting, Some(terms));
        Ok(())
    }

    fn accept(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        terms: &Terms,
    ) -> Result<(), Failure> {
        let it = self.find(connection, "rdma_accept")?;
        let pair = it.pair.as_mut().filter(|_| it.phase == Phase::Open);
        let terms = it.options.complete(terms);
        it.depth = it.id.accept(pair.ok_or(Failure::new("rdma_accept", libc::EINVAL))?, private, &terms)?;
        (it.phase, it.terms) = (Phase::Accepting, Some(terms));
        Ok(())
    }

    fn reject(&mut self, connection: ConnectionId, private: &PrivateData) {
        if let Some(it) = self.connections.find_mut(connection) {
            // A peer that cannot be told is told by the id's end.
            let _ = it.id.reject(private);
        }
        self.destroy(connection);
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        let Some(it) = self.connections.find_mut(connection) else { return };
        if it.phase.is_ending() {
            return;
        }
        it.phase = Phase::Draining;
        if let Some(pair) = &mut it.pair {
            // Both fail where there is nothing left to do: the queue pair is in error, the peer is gone.
            let _ = pair.flush();
            let _ = it.id.disconnect();
        }
        self.check_drained(connection);
    }

    fn destroy(&mut self, connection: ConnectionId) {
        let Some(mut it) = self.connections.remove(connection) else { return };
        if let Some(device) = it.device.and_then(|device| self.devices.find_mut(device)) {
            if let Some(pair) = &it.pair {
                device.remove_sharer(pair.number(), connection);
            }
            if let Some((at, completions)) = it.completions {
                device.unreserve(at, completions);
            }
        }
        // The device lets go of the memory before the peer is told.
        it.pair = None;
    }

    fn remedy(&self, errno: i32) -> Option<String> {
        match errno {
            libc::ENODEV | libc::EADDRNOTAVAIL => {
                Some("use an address of an RDMA device's interface (`rdma link` lists them)".to_owned())
            }
            libc::ENOMEM => Some(locked_memory_remedy()),
            _ => None,
        }
    }

    fn device(&self, device: DeviceId) -> Option<&DeviceInfo> {
        self.devices.find(device).map(|device| device.context.info())
    }

    fn memory(&self, device: DeviceId) -> Option<&Memory> {
        self.devices.find(device).map(|device| &device.memory)
    }

    fn share_receives(&mut self, device: DeviceId, receives: u32, low: u32) -> Result<(), Failure> {
        let it = self.devices.find_mut(device).ok_or(Failure::new("ibv_create_srq", libc::EBADF))?;
        it.share_receives(receives, low, SlabKey::from(device).to_u64())
    }

    fn close_device(&mut self, device: DeviceId) {
        for key in self.connections.keys() {
            if self.connections.find(key).is_some_and(|it| it.device == Some(device)) {
                self.destroy(key);
            }
        }
        if let Some(it) = self.devices.remove(device) {
            // A descriptor that a forked child still has would stay in the set.
            let _ = epoll::delete(&self.epoll, it.context.async_fd());
            let _ = epoll::delete(&self.epoll, it.channel.fd());
        }
    }

    fn sender(&mut self, connection: ConnectionId) -> Option<VerbsSender<'_>> {
        let pair = self.connections.find_mut(connection)?.pair.as_mut()?;
        Some(VerbsSender {
            posts: PostSender::new(pair, &mut self.chain),
            connection,
            refusing: &mut self.refusing,
        })
    }

    fn post_receives(&mut self, connection: ConnectionId, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        let it = self.find(connection, "ibv_post_recv")?;
        // A device need not look at what is posted to a queue that it has flushed.
        let pair = it.pair.as_mut().filter(|_| !it.phase.is_ending());
        pair.ok_or(Failure::new("ibv_post_recv", libc::EINVAL))?.post_receives(buffers)
    }

    fn post_shared_receives(&mut self, device: DeviceId, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        let it = self.devices.find_mut(device).ok_or(Failure::new("ibv_post_srq_recv", libc::EBADF))?;
        it.post_shared(buffers)
    }

    fn reclaim(&mut self, connection: ConnectionId, target: TargetId) -> Option<FrameMut> {
        self.connections.find_mut(connection)?.pair.as_mut()?.reclaim(target)
    }

    fn fill_target(&mut self, connection: ConnectionId, target: TargetId, at: usize, bytes: &[u8]) -> bool {
        let pair = self.connections.find_mut(connection).and_then(|it| it.pair.as_mut());
        pair.is_some_and(|pair| pair.fill_target(target, at, bytes))
    }

    fn poll(&mut self, out: &mut Vec<Completed>, budget: usize) -> usize {
        let early = self.early.len().min(budget);
        out.extend(self.early.drain(..early));
        let refused = self.fetch_refused(out);
        let left = budget.saturating_sub(early + refused);
        early + refused + self.fetch(out, left)
    }

    fn next_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            self.look();
        }
        self.events.pop_front()
    }

    fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    fn arm(&mut self) -> Armed {
        let refused = |it: &Self, key: &ConnectionId| {
            it.connections.find(*key).and_then(|it| it.pair.as_ref()).is_some_and(QueuePair::has_refused)
        };
        let waiting = !self.early.is_empty() || !self.events.is_empty();
        if waiting || self.refusing.iter().any(|key| refused(self, key)) {
            return Armed::Busy;
        }
        self.devices.iter_mut().for_each(|(_, device)| device.arm());
        // What completed between the last poll and now brings no event.
        let mut early = std::mem::take(&mut self.early);
        self.fetch(&mut early, POLL_BATCH);
        self.early = early;
        if self.early.is_empty() && self.events.is_empty() { Armed::Ready } else { Armed::Busy }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }
}

impl fmt::Debug for VerbsFabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerbsFabric")
            .field("libraries", &self.libraries)
            .field("listeners", &self.listeners)
            .field("connections", &self.connections)
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}

/// Posts to one connection's send queue.
#[derive(Debug)]
pub struct VerbsSender<'a> {
    posts: PostSender<'a>,
    connection: ConnectionId,
    refusing: &'a mut Vec<ConnectionId>,
}

impl Sender for VerbsSender<'_> {
    fn room(&self) -> usize {
        self.posts.room()
    }
    fn inline(&mut self, bytes: &[u8], mark: Mark) -> Result<(), PostError> {
        self.posts.inline(bytes, mark)
    }
    fn send(
        &mut self,
        buffer: Buffer,
        len: usize,
        splices: &mut Vec<Splice>,
        mark: Mark,
    ) -> Result<(), (PostError, Buffer)> {
        self.posts.send(buffer, len, splices, mark)
    }
    fn lend(&mut self, frame: FrameMut) -> TargetId {
        self.posts.lend(frame)
    }
    fn read(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        mark: Mark,
    ) -> Result<(), PostError> {
        self.posts.read(target, into, from, mark)
    }
}

impl Drop for VerbsSender<'_> {
    fn drop(&mut self) {
        if !self.posts.ring() && !self.refusing.contains(&self.connection) {
            self.refusing.push(self.connection);
        }
    }
}

fn watch(set: &OwnedFd, fd: BorrowedFd<'_>, token: u64) -> Result<(), Failure> {
    epoll::add(set, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN).map_err(epoll_failure)
}

fn epoll_failure(errno: rustix::io::Errno) -> Failure {
    Failure::new("epoll", errno.raw_os_error())
}
