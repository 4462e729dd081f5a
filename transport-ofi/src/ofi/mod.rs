//! The boundary below the links' driver on libfabric: connections, devices and events of the safe layer, behind handles. Has no
//! `unsafe`, knows no packets, and decides nothing that the driver could.
//!
//! ```text
//! choose       which provider a URL gets
//! open_device  a domain, and the completion queues that connected endpoints share
//! ordered      an endpoint whose requests come back in order, and wait when the provider has no room
//! connections  how connections come about and end
//! events       what event queues, and the wires of endpoints without connections, tell
//! hello, wire  what two such endpoints say to each other first, over TCP
//! ```
//!
//! Connected endpoints (FI_EP_MSG) share an event queue for each network and completion queues for each domain. Endpoints without
//! connections (FI_EP_RDM) serve one connection each, with an address vector and a TCP connection of their own:
//! docs/design/ofi.md says why.

mod choose;
mod connections;
mod events;
mod hello;
mod open_device;
mod ordered;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rdma_links::fabric::{
    Buffer, Cause, Completed, ConnectionId, DeviceId, DeviceInfo, Dial, Event, Fabric, Failure, ListenerId,
    Mark, Memory, PostError, PrivateData, QueueLimits, QueueShape, Remote, Sender, Splice, TargetId, Terms,
};
use rustix::event::epoll;
use transport_core::{Armed, FrameMut, Slab, SlabKey};

use crate::device::{
    self, Address, AddressVector, Batch, CompletionQueue, EventQueue, Info, Kind, Listener, Process, Request,
    Witness,
};
use crate::limits::{FETCHES_MAX, POLL_BATCH, POLL_BUSY, POLL_PAUSE_MAX, POLL_PAUSE_MIN};
use crate::options::OfiOptions;
use crate::sys::Library;
use choose::Chooser;
use hello::Hello;
use open_device::OpenDevice;
use ordered::Ordered;
use wire::{Door, Wire};

/// Endpoints of libfabric's providers.
pub struct OfiFabric {
    connections: Slab<ConnectionId, Connection>,
    listeners: Slab<ListenerId, Listening>,
    devices: Slab<DeviceId, OpenDevice>,
    networks: Vec<Network>,
    epoll: OwnedFd,
    chooser: Chooser,
    events: VecDeque<Event>,
    /// Connections with something to give back.
    ready: Vec<ConnectionId>,
    /// Connections whose provider has no room for something.
    waiting: Vec<ConnectionId>,
    /// Connections that have a completion queue to themselves.
    alone: Vec<ConnectionId>,
    /// Connections whose ends know each other's names and are about to meet.
    meeting: Vec<ConnectionId>,
    /// Connections that were told to give everything back.
    leaving: Vec<ConnectionId>,
    /// Connections that were accepted and have not said who they are, the oldest first, and until when they may.
    guests: VecDeque<(ConnectionId, Option<Instant>)>,
    /// Listeners that had no descriptor for whoever came, and when they are to try again.
    deaf: Vec<(ListenerId, Option<Instant>)>,
    batch: Batch,
    /// As far as anybody has told, and when something last happened.
    now: Option<Instant>,
    stirred: Option<Instant>,
}

/// A network of one provider, with the events of its connections.
struct Network {
    fabric: device::Fabric,
    /// For connected endpoints.
    events: Option<EventQueue>,
    provider: String,
    name: String,
}

/// A listener.
struct Listening {
    way: ListeningWay,
    options: OfiOptions,
    provider: String,
}

enum ListeningWay {
    /// By the provider's own connection manager.
    Connected {
        network: usize,
        _listener: Option<Listener>,
    },
    Unconnected(Door),
}

struct Connection {
    phase: Phase,
    way: Way,
    options: OfiOptions,
    /// The listener it came by.
    listener: Option<ListenerId>,
    /// What a guest has said who is not let in yet.
    asks: Option<Box<Hello>>,
    device: Option<DeviceId>,
    /// What its endpoint is made of.
    info: Option<Info>,
    // In the order in which they are to go.
    ordered: Option<Ordered>,
    queue: CompletionsOf,
    vector: Option<AddressVector>,
    /// The dialler, where READs are copies by the kernel.
    process: Option<Process>,
    is_ready: bool,
    is_waiting: bool,
}

enum Way {
    /// By the provider's connection manager; a request until it is answered.
    Connected { to: Option<Address>, request: Option<Request> },
    Unconnected {
        to: Option<SocketAddr>,
        from: Option<SocketAddr>,
        wire: Option<Wire>,
        /// What epoll is to tell of the wire.
        watched: Option<epoll::EventFlags>,
        /// The peer's endpoint.
        peer: Option<Address>,
        /// What the listener has said, until the two have met.
        said: PrivateData,
    },
}

/// Where an endpoint's requests complete.
enum CompletionsOf {
    None,
    /// In a queue of the device's: its place, and what is reserved there.
    Device(usize, usize),
    Own(CompletionQueue),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Accepted, and has not said who it is.
    Guest,
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

/// In a cookie: that it is a listener's. Generations use the other bits.
const LISTENER: u64 = 1 << 63;
/// What epoll says of descriptors that are only slept on: whoever polls looks at them anyway.
const QUEUE: u64 = u64::MAX;

impl OfiFabric {
    /// A fabric with no connection and no device yet.
    pub fn new(library: &'static Library) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(epoll_failure)?;
        Ok(Self {
            connections: Slab::new(),
            listeners: Slab::new(),
            devices: Slab::new(),
            networks: Vec::new(),
            epoll,
            chooser: Chooser::new(library),
            events: VecDeque::new(),
            ready: Vec::new(),
            waiting: Vec::new(),
            alone: Vec::new(),
            meeting: Vec::new(),
            leaving: Vec::new(),
            guests: VecDeque::new(),
            deaf: Vec::new(),
            batch: Batch::new(),
            now: None,
            stirred: None,
        })
    }

    fn find(&mut self, connection: ConnectionId, call: &'static str) -> Result<&mut Connection, Failure> {
        self.connections.find_mut(connection).ok_or(Failure::new(call, libc::EBADF))
    }

    /// Remembers that a connection has something to give back, or something that waits for room.
    fn note(&mut self, key: ConnectionId) {
        let Some(it) = self.connections.find_mut(key) else { return };
        let Some(ordered) = &it.ordered else { return };
        if ordered.has_due() && !std::mem::replace(&mut it.is_ready, true) {
            self.ready.push(key);
        }
        if ordered.is_waiting() && !std::mem::replace(&mut it.is_waiting, true) {
            self.waiting.push(key);
        }
    }

    /// What a dialler's hello says of this process, where the listener may want to read from it.
    fn witness(&mut self, connection: ConnectionId) -> Option<Witness> {
        let device = self.connections.find(connection).and_then(|it| self.devices.find(it.device?))?;
        let may = device.fetches.is_some() && self.reads_max(connection) > 0;
        let ordered = self.connections.find_mut(connection).filter(|_| may)?.ordered.as_mut()?;
        Some(ordered.witness())
    }

    /// Gives back what is due, up to `budget`: how many.
    fn give_back(&mut self, out: &mut Vec<Completed>, budget: usize) -> usize {
        let mut given = 0;
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|key| {
            let Some(it) = self.connections.find_mut(*key) else { return false };
            let Some(ordered) = &mut it.ordered else { return false };
            given += ordered.give_back(budget - given, |status, work| {
                out.push(Completed { connection: *key, status, work });
            });
            it.is_ready = ordered.has_due();
            it.is_ready
        });
        self.ready = ready;
        given
    }

    /// Fetches completions, about `budget`: whether there were any.
    fn fetch(&mut self, budget: usize) -> bool {
        let mut fetched = 0;
        let (mut lost, mut doubted) = (Vec::new(), Vec::new());
        let Self { devices, connections, ready, batch, .. } = self;
        for (key, device) in devices.iter_mut().filter(|(_, device)| !device.is_lost) {
            for queue in &mut device.queues {
                while fetched < budget {
                    match queue.queue.poll(batch) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(_) => {
                            lost.push(key);
                            break;
                        }
                    }
                    let is_last = batch.is_last();
                    for completion in &mut *batch {
                        fetched += 1;
                        let Some(cookie) = completion.cookie() else {
                            // Something that was injected has failed, and nobody says whose it was. Connections tell their
                            // end besides; where there are none, any of them may have lost something.
                            if device.kind == Kind::Unconnected && completion.failure().is_some() {
                                doubted.push(key);
                            }
                            continue;
                        };
                        let key = SlabKey::from_u64(cookie).into();
                        let Some(it) = connections.find_mut(key) else { continue };
                        let Some(ordered) = &mut it.ordered else { continue };
                        ordered.retire(completion);
                        if ordered.has_due() && !std::mem::replace(&mut it.is_ready, true) {
                            ready.push(key);
                        }
                    }
                    // To see it empty would cost two system calls by tcp and rxm, before the answer to what has come.
                    if is_last {
                        break;
                    }
                }
            }
        }
        for device in lost {
            if let Some(it) = self.devices.find_mut(device) {
                it.is_lost = true;
                self.events.push_back(Event::CompletionsLost { device });
            }
        }
        for device in doubted {
            for key in self.connections.keys() {
                if self.connections.find(key).is_some_and(|it| it.device == Some(device)) {
                    self.disconnected(key, Cause::QueueFailed);
                }
            }
        }
        for at in 0..self.alone.len() {
            let key = self.alone[at];
            let mut failed = false;
            let Self { connections, ready, batch, .. } = self;
            let Some(it) = connections.find_mut(key) else { continue };
            let (CompletionsOf::Own(queue), Some(ordered)) = (&mut it.queue, &mut it.ordered) else {
                continue;
            };
            if ordered.is_closed() {
                continue;
            }
            while fetched < budget {
                match queue.poll(batch) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => {
                        failed = true;
                        break;
                    }
                }
                let is_last = batch.is_last();
                for completion in &mut *batch {
                    fetched += 1;
                    failed |= completion.cookie().is_none() && completion.failure().is_some();
                    ordered.retire(completion);
                }
                if is_last {
                    break;
                }
            }
            if ordered.has_due() && !std::mem::replace(&mut it.is_ready, true) {
                ready.push(key);
            }
            if failed {
                self.disconnected(key, Cause::QueueFailed);
            }
        }
        fetched > 0
    }

    /// Tries again what providers had no room for: whether they took anything.
    fn retry(&mut self) -> bool {
        let mut any = false;
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut at = 0;
        while at < waiting.len() {
            let key = waiting[at];
            let mut keep = false;
            if let Some(it) = self.connections.find_mut(key)
                && let Some(ordered) = &mut it.ordered
            {
                any |= ordered.retry();
                it.is_waiting = ordered.is_waiting();
                keep = it.is_waiting;
            }
            self.note(key);
            if keep {
                at += 1;
            } else {
                waiting.swap_remove(at);
            }
        }
        self.waiting.append(&mut waiting);
        any
    }

    /// Says of those who leave that everything is back, when it is.
    fn see_off(&mut self) {
        let Self { leaving, connections, events, .. } = self;
        leaving.retain(|key| {
            let Some(it) = connections.find_mut(*key).filter(|it| it.phase == Phase::Draining) else {
                return false;
            };
            let is_over = it.ordered.as_ref().is_none_or(Ordered::is_empty);
            if is_over {
                it.phase = Phase::Drained;
                events.push_back(Event::Drained { connection: *key });
            }
            !is_over
        });
    }

    /// Whether somebody has to look now and then, since there is no descriptor that would tell.
    fn is_polled(&self) -> bool {
        !self.waiting.is_empty() || !self.meeting.is_empty() || self.is_blind()
    }

    /// Whether there is a completion queue without a descriptor.
    fn is_blind(&self) -> bool {
        let blind = |key: &ConnectionId| {
            let it = self.connections.find(*key);
            it.is_some_and(|it| matches!(&it.queue, CompletionsOf::Own(queue) if queue.fd().is_none()))
        };
        self.alone.iter().any(blind)
            || self.devices.iter().any(|(_, it)| it.queues.iter().any(|queue| queue.queue.fd().is_none()))
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64, flags: epoll::EventFlags) -> Result<(), Failure> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags).map_err(epoll_failure)
    }
}

impl Fabric for OfiFabric {
    type Sender<'a> = OfiSender<'a>;
    type Options = OfiOptions;

    fn listen(
        &mut self,
        at: SocketAddr,
        backlog: u32,
        options: &OfiOptions,
    ) -> Result<(ListenerId, SocketAddr), Failure> {
        self.open_listener(at, backlog, options)
    }

    fn query(&self, listener: ListenerId) -> String {
        self.listeners.find(listener).map_or_else(String::new, |it| it.options.query(&it.provider))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.listeners.remove(listener);
        let is_its = |it: &Connection| it.phase == Phase::Guest && it.listener == Some(listener);
        let its = self.guests.iter().map(|(key, _)| *key);
        let its: Vec<_> = its.filter(|key| self.connections.find(*key).is_some_and(is_its)).collect();
        its.into_iter().for_each(|key| self.destroy(key));
    }

    fn dial(&mut self, dial: &Dial, options: &OfiOptions) -> Result<ConnectionId, Failure> {
        self.open_dial(dial, options)
    }

    fn create_queue(&mut self, connection: ConnectionId, shape: &QueueShape) -> Result<QueueLimits, Failure> {
        self.make_endpoint(connection, shape)
    }

    fn connect(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        _terms: &Terms,
    ) -> Result<(), Failure> {
        self.ask(connection, private)
    }

    fn accept(
        &mut self,
        connection: ConnectionId,
        private: &PrivateData,
        _terms: &Terms,
    ) -> Result<(), Failure> {
        self.agree(connection, private)
    }

    fn reject(&mut self, connection: ConnectionId, private: &PrivateData) {
        self.refuse(connection, private);
        self.destroy(connection);
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        let Some(it) = self.connections.find_mut(connection).filter(|it| !it.phase.is_ending()) else {
            return;
        };
        it.phase = Phase::Draining;
        if let Some(ordered) = &mut it.ordered {
            if let (Way::Connected { .. }, Some(endpoint)) = (&it.way, ordered.endpoint()) {
                // Fails where the peer is gone already.
                let _ = endpoint.shutdown();
            }
            ordered.close();
        }
        // The provider has let go of the memory by now; the peer is told.
        match &mut it.way {
            Way::Connected { request, .. } => *request = None,
            Way::Unconnected { wire, .. } => *wire = None,
        }
        self.leaving.push(connection);
        self.note(connection);
        self.see_off();
    }

    fn destroy(&mut self, connection: ConnectionId) {
        let Some(it) = self.connections.remove(connection) else { return };
        match it.queue {
            CompletionsOf::Device(at, completions) => {
                if let Some(device) = it.device.and_then(|device| self.devices.find_mut(device)) {
                    device.unreserve(at, completions);
                }
            }
            CompletionsOf::Own(_) => self.alone.retain(|key| *key != connection),
            CompletionsOf::None => {}
        }
        if it.phase == Phase::Guest {
            self.guests.retain(|(key, _)| *key != connection);
        }
    }

    fn remedy(&self, errno: i32) -> Option<String> {
        match errno {
            libc::EADDRNOTAVAIL => Some("use an address that `ip addr` lists".to_owned()),
            libc::ENODEV => Some("`fabriq info` lists the providers of this host".to_owned()),
            _ => None,
        }
    }

    fn reads_max(&self, connection: ConnectionId) -> u8 {
        let Some(it) = self.connections.find(connection) else { return 0 };
        let Some(device) = it.device.and_then(|device| self.devices.find(device)) else { return 0 };
        match device.fetches {
            None => u8::MAX,
            // The dialler hears of the listener later.
            Some(true) if it.process.is_some() || it.listener.is_none() => FETCHES_MAX,
            Some(_) => 0,
        }
    }

    fn device(&self, device: DeviceId) -> Option<&DeviceInfo> {
        self.devices.find(device).map(|device| &device.info)
    }

    fn memory(&self, device: DeviceId) -> Option<&Memory> {
        self.devices.find(device).map(|device| &device.memory)
    }

    fn share_receives(&mut self, _device: DeviceId, _receives: u32, _low: u32) -> Result<(), Failure> {
        Err(Failure::new("share_receives", libc::EOPNOTSUPP))
    }

    fn close_device(&mut self, device: DeviceId) {
        for key in self.connections.keys() {
            if self.connections.find(key).is_some_and(|it| it.device == Some(device)) {
                self.destroy(key);
            }
        }
        self.devices.remove(device);
    }

    fn sender(&mut self, connection: ConnectionId) -> Option<OfiSender<'_>> {
        self.stirred = self.now;
        let Self { connections, ready, waiting, .. } = self;
        let Connection { ordered: Some(ordered), is_ready, is_waiting, .. } =
            connections.find_mut(connection)?
        else {
            return None;
        };
        Some(OfiSender { ordered, connection, ready: (ready, is_ready), waiting: (waiting, is_waiting) })
    }

    fn post_receives(&mut self, connection: ConnectionId, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        let it = self.find(connection, "fi_recv")?;
        let ordered = it.ordered.as_mut().filter(|_| !it.phase.is_ending());
        let posted = ordered.ok_or(Failure::new("fi_recv", libc::EINVAL))?.post_receives(buffers);
        self.note(connection);
        posted
    }

    fn post_shared_receives(&mut self, _device: DeviceId, _buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        Err(Failure::new("post_shared_receives", libc::EOPNOTSUPP))
    }

    fn reclaim(&mut self, connection: ConnectionId, target: TargetId) -> Option<FrameMut> {
        self.connections.find_mut(connection)?.ordered.as_mut()?.reclaim(target)
    }

    fn fill_target(&mut self, connection: ConnectionId, target: TargetId, at: usize, bytes: &[u8]) -> bool {
        let ordered = self.connections.find_mut(connection).and_then(|it| it.ordered.as_mut());
        ordered.is_some_and(|ordered| ordered.fill_target(target, at, bytes))
    }

    fn poll(&mut self, out: &mut Vec<Completed>, budget: usize) -> usize {
        let mut given = self.give_back(out, budget);
        if given < budget {
            // To poll is also what makes most providers move.
            let mut moved = self.fetch(budget - given);
            if !self.waiting.is_empty() {
                moved |= self.retry();
            }
            if !self.meeting.is_empty() {
                self.meet();
                moved = true;
            }
            if moved {
                self.stirred = self.now;
            }
            given += self.give_back(out, budget - given);
        }
        if !self.leaving.is_empty() {
            self.see_off();
        }
        given
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
        if !self.events.is_empty() || !self.ready.is_empty() {
            return Armed::Busy;
        }
        // A queue that cannot say lets its owner sleep: it is looked at again by the deadline, or is lost and says so.
        let restless = |queue: &mut CompletionQueue| queue.fd().is_some() && matches!(queue.arm(), Ok(false));
        let mut busy = false;
        for (_, device) in self.devices.iter_mut().filter(|(_, device)| !device.is_lost) {
            busy |= device.queues.iter_mut().any(|it| restless(&mut it.queue));
        }
        for network in &mut self.networks {
            if let Some(events) = network.events.as_mut().filter(|events| events.fd().is_some()) {
                busy |= matches!(events.arm(), Ok(false));
            }
        }
        for key in &self.alone {
            if let Some(it) = self.connections.find_mut(*key)
                && let CompletionsOf::Own(queue) = &mut it.queue
                && it.ordered.as_ref().is_some_and(|ordered| !ordered.is_closed())
            {
                busy |= restless(queue);
            }
        }
        // Who has no descriptor and has just had something is likely to have more before a sleep would end. Not while two ends meet,
        // which stirs at each look: the other one may wait for this thread.
        let quiet = self.now.zip(self.stirred).map(|(now, stirred)| now.saturating_duration_since(stirred));
        let expectant = self.meeting.is_empty() && quiet.is_some_and(|quiet| quiet < POLL_BUSY);
        if busy || expectant && self.is_blind() {
            return Armed::Busy;
        }
        // What happened before the queues were armed wakes nobody.
        let moved = self.fetch(POLL_BATCH);
        self.look_at_queues();
        if moved || !self.events.is_empty() || !self.ready.is_empty() { Armed::Busy } else { Armed::Ready }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn advance(&mut self, now: Instant) {
        self.now = Some(now);
        self.see_guests_out(now);
        if !self.deaf.is_empty() {
            self.listen_again(now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let polled = self.now.filter(|_| self.is_polled()).map(|now| {
            // Often, after something has happened; seldom, when nothing has for long.
            let quiet =
                self.stirred.map_or(POLL_PAUSE_MAX, |stirred| now.saturating_duration_since(stirred) / 4);
            now + quiet.clamp(POLL_PAUSE_MIN, POLL_PAUSE_MAX)
        });
        let guest = self.guests.front().and_then(|(_, until)| *until);
        let deaf = self.deaf.iter().filter_map(|(_, until)| *until);
        polled.into_iter().chain(guest).chain(deaf).min()
    }
}

impl fmt::Debug for OfiFabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases: Vec<_> = self.connections.iter().map(|(key, it)| (key, it.phase, &it.ordered)).collect();
        f.debug_struct("OfiFabric")
            .field("connections", &phases)
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}

/// Posts to one connection's endpoint.
#[derive(Debug)]
pub struct OfiSender<'a> {
    ordered: &'a mut Ordered,
    connection: ConnectionId,
    /// The fabric's lists, and whether the connection is on them.
    ready: (&'a mut Vec<ConnectionId>, &'a mut bool),
    waiting: (&'a mut Vec<ConnectionId>, &'a mut bool),
}

impl Sender for OfiSender<'_> {
    fn room(&self) -> usize {
        self.ordered.room()
    }
    fn inline(&mut self, bytes: &[u8], mark: Mark) -> Result<(), PostError> {
        self.ordered.inline(bytes, mark)
    }
    fn send(
        &mut self,
        buffer: Buffer,
        len: usize,
        splices: &mut Vec<Splice>,
        mark: Mark,
    ) -> Result<(), (PostError, Buffer)> {
        self.ordered.send(buffer, len, splices, mark)
    }
    fn lend(&mut self, frame: FrameMut) -> TargetId {
        self.ordered.lend(frame)
    }
    fn read(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        mark: Mark,
    ) -> Result<(), PostError> {
        self.ordered.read(target, into, from, mark)
    }
}

impl Drop for OfiSender<'_> {
    fn drop(&mut self) {
        let lists =
            [(&mut self.ready, self.ordered.has_due()), (&mut self.waiting, self.ordered.is_waiting())];
        for ((list, is_on), belongs) in lists {
            if belongs && !std::mem::replace(*is_on, true) {
                list.push(self.connection);
            }
        }
    }
}

/// A failure of the safe layer's in the boundary's terms.
fn failure(failure: device::Failure) -> Failure {
    let words = match &failure.provider {
        Some(provider) => format!("{} (the provider says: {provider})", failure.text),
        None => failure.text.clone(),
    };
    Failure { call: failure.call, errno: failure.os_errno(), words: Some(words), remedy: failure.remedy }
}

fn epoll_failure(errno: rustix::io::Errno) -> Failure {
    Failure::new("epoll", errno.raw_os_error())
}
