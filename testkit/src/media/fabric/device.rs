//! The simulated RDMA fabric: devices, protection domains, queue pairs, completion queues, and a connection manager.
//! Knows no packets and no parts; what it does wrong, it does by a seed.
//!
//! Buffers are moved into work requests and come back with completions, so the rule that nobody touches posted
//! memory is the compiler's. What a peer READs is found by address and key: [`Net::expose`] stands in for the memory
//! itself, which safe code cannot reach by address. The domain's regions decide whether the key is good for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use transport_core::{
    DomainId, Frame, FrameMut, FramePool, Key, MemoryDomain, OpenId, RegisterError, Registration, Slab,
    SlabKey,
};

use super::super::kit::{Chance, HostId, Hosts, Timeline};
use super::super::limits::{
    FABRIC_LINKS_MAX, PRIVATE_DATA_MAX, QP_COMPLETIONS_MAX, SEND_QUEUE_MAX, WILDCARD_PORT_MIN,
};

/// What goes wrong on a fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Sends that find the receiver not ready though it is, in permille.
    pub rnr_permille: u32,
    /// Work requests upon which the completion queue overflows, in permille.
    pub cq_overflow_permille: u32,
    /// Work requests upon which the queue pair fails, in permille.
    pub qp_error_permille: u32,
    /// Work requests upon which the device is pulled out, in permille.
    pub device_gone_permille: u32,
    /// Drivers send without credit, so that receivers are truly not ready.
    pub ignore_credits: bool,
    /// Drivers give their peers keys that are not theirs.
    pub wrong_keys: bool,
    /// Entries of completion queues made from now on, instead of as many as can be needed.
    pub cq_size: Option<usize>,
}

/// What has happened on a fabric so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FabricCount {
    /// Sends that found no posted receive buffer. With credits: 0.
    pub receiver_not_ready: u64,
    /// Packets sent.
    pub packets: u64,
    /// READs done.
    pub reads: u64,
    /// READs refused for their key.
    pub wrong_keys: u64,
    /// Completion queues that overflowed.
    pub cq_overflows: u64,
    /// Parts that were read straight into the frame the application gets.
    pub direct_parts: u64,
    /// Bytes that were read through bounce slots, for want of a registered target.
    pub bounced_bytes: u64,
    /// Bytes that a sender copied though a rendezvous would have spared it, for want of a key.
    pub copied_bytes: u64,
}

/// A protection domain: the regions that its device may touch.
#[derive(Debug)]
pub(super) struct Domain {
    id: DomainId,
    regions: Mutex<Regions>,
}

#[derive(Debug, Default)]
struct Regions {
    made: u64,
    /// By number: first address and length.
    live: BTreeMap<u64, (u64, u64)>,
}

impl Domain {
    pub(super) fn new() -> Self {
        Self { id: DomainId::unique(), regions: Mutex::default() }
    }
    fn lock(&self) -> MutexGuard<'_, Regions> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn covers(&self, region: u64, address: u64, len: usize) -> bool {
        self.lock().live.get(&region).is_some_and(|(start, size)| {
            address
                .checked_sub(*start)
                .and_then(|offset| offset.checked_add(len as u64))
                .is_some_and(|end| end <= *size)
        })
    }
    fn covers_local(&self, key: Key, len: usize) -> bool {
        key.local % 2 == 1 && self.covers(key.local / 2, key.address, len)
    }
    fn covers_remote(&self, remote: u64, address: u64, len: usize) -> bool {
        remote.is_multiple_of(2) && self.covers(remote / 2, address, len)
    }
}

impl MemoryDomain for Domain {
    fn id(&self) -> DomainId {
        self.id
    }
    fn register(&self, start: *const u8, len: usize) -> Result<Registration, RegisterError> {
        let mut regions = self.lock();
        regions.made += 1;
        let number = regions.made;
        regions.live.insert(number, (start.addr() as u64, len as u64));
        // Different numbers, so that a driver that mixes the two up is found out.
        Ok(Registration { local: number * 2 + 1, remote: number * 2 })
    }
    fn unregister(&self, registration: Registration) {
        self.lock().live.remove(&(registration.remote / 2));
    }
}

/// Names a device.
pub(super) type DeviceKey = SlabKey;
/// Names a queue pair.
pub(super) type QpKey = SlabKey;
/// What a connection request carries.
pub(super) type PrivateData = [u8; PRIVATE_DATA_MAX];

#[derive(Debug)]
struct Device {
    host: HostId,
    domain: Arc<Domain>,
    /// The memory of frames whose address a peer was told, and how often.
    exposed: BTreeMap<u64, (Frame, usize)>,
    cq: VecDeque<Completed>,
    cq_size: usize,
    news: VecDeque<DeviceEvent>,
    gone: bool,
    bounce: FramePool,
}

/// What a device says beside completions: the connection manager's events and its own.
#[derive(Debug)]
pub(super) enum DeviceEvent {
    /// A peer asks at a listener.
    Request { open: OpenId, from: QpKey, private: PrivateData },
    /// The listener said yes.
    Established { qp: QpKey, private: PrivateData },
    /// Nobody there, or the listener said no.
    Rejected { qp: QpKey },
    /// The peer knows that it was accepted. May come after its first packet.
    Ready { qp: QpKey },
    /// The peer has disconnected, or is gone.
    Disconnected { qp: QpKey },
    /// The completion queue overflowed: every queue pair is lost, and so are their completions.
    CqOverflow,
    /// The device was pulled out.
    Gone,
}

/// How a work request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    /// The queue pair is in error; this request may or may not have reached the peer.
    Flushed,
    /// The buffer's key is not good here.
    LocalProtection,
    /// The peer refused address and key.
    RemoteAccess,
    /// The peer had no receive buffer posted.
    ReceiverNotReady,
    /// The peer does not answer.
    RetryExceeded,
}

impl Status {
    /// The errno that tells a user most.
    pub(super) fn errno(self) -> i32 {
        match self {
            Self::Success => 0,
            Self::Flushed => 104,
            Self::LocalProtection => 14,
            Self::RemoteAccess => 13,
            Self::ReceiverNotReady => 105,
            Self::RetryExceeded => 110,
        }
    }
}

/// A completion queue entry; gives the buffer back.
#[derive(Debug)]
pub(super) struct Completed {
    pub(super) qp: QpKey,
    pub(super) status: Status,
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    Send { control: bool, buffer: FrameMut },
    Receive { buffer: FrameMut, len: usize },
    Read { id: u32, buffer: FrameMut },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QpState {
    Init,
    Ready,
    Error,
}

#[derive(Debug)]
struct Qp {
    device: DeviceKey,
    state: QpState,
    peer: Option<QpKey>,
    receive_queue: VecDeque<FrameMut>,
    send_queue: VecDeque<Request>,
    requests: u64,
}

#[derive(Debug)]
struct Request {
    number: u64,
    op: Op,
    arrived: bool,
}

#[derive(Debug)]
enum Op {
    Send { control: bool, buffer: FrameMut, len: usize },
    Read { id: u32, buffer: FrameMut, at: usize, len: usize, address: u64, remote: u64 },
}

impl Op {
    fn into_work(self) -> Work {
        match self {
            Self::Send { control, buffer, .. } => Work::Send { control, buffer },
            Self::Read { id, buffer, .. } => Work::Read { id, buffer },
        }
    }
}

/// A READ to post: `len` bytes at `address` of the peer, under its key `remote`, to `at` of the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadAt {
    pub(super) id: u32,
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) address: u64,
    pub(super) remote: u64,
}

#[derive(Debug)]
enum Event {
    Ask { from: QpKey, port: u16, private: PrivateData },
    Accepted { asker: QpKey, acceptor: QpKey, private: PrivateData },
    Rejected { asker: QpKey },
    Ready { acceptor: QpKey },
    Arrive { qp: QpKey, number: u64 },
    Complete { qp: QpKey, number: u64 },
    Lost { qp: QpKey },
}

#[derive(Debug)]
pub(super) struct Net {
    timeline: Timeline<Event>,
    pub(super) hosts: Hosts,
    chance: Chance,
    pub(super) faults: Faults,
    pub(super) count: FabricCount,
    devices: Slab<DeviceKey, Device>,
    qps: Slab<QpKey, Qp>,
    listeners: BTreeMap<u16, (DeviceKey, OpenId)>,
    next_port: u16,
    latency: Duration,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            timeline: Timeline::new(),
            hosts: Hosts::default(),
            chance: Chance::new(seed),
            faults: Faults::default(),
            count: FabricCount::default(),
            devices: Slab::new(),
            qps: Slab::new(),
            listeners: BTreeMap::new(),
            next_port: WILDCARD_PORT_MIN,
            latency: Duration::from_micros(2),
        }
    }

    pub(super) fn add_device(&mut self, host: HostId, domain: Arc<Domain>, bounce: FramePool) -> DeviceKey {
        let cq_size = self.faults.cq_size.unwrap_or(FABRIC_LINKS_MAX * QP_COMPLETIONS_MAX);
        let (exposed, cq, news) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        self.devices.insert(Device { host, domain, exposed, cq, cq_size, news, gone: false, bounce })
    }

    /// The process that had it is gone.
    pub(super) fn remove_device(&mut self, device: DeviceKey) {
        self.listeners.retain(|_, (owner, _)| *owner != device);
        self.fail_all(device);
        let qps: Vec<_> = self.qps.iter().filter(|(_, qp)| qp.device == device).map(|(key, _)| key).collect();
        qps.into_iter().for_each(|qp| self.destroy(qp));
        if let Some(device) = self.devices.remove(device) {
            self.hosts.leave(device.host);
        }
    }

    pub(super) fn now(&self) -> Option<Instant> {
        self.timeline.now()
    }
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.timeline.next_at()
    }
    pub(super) fn bounce_slots(&self) -> usize {
        self.devices.iter().map(|(_, device)| device.bounce.usage().lent_slots).sum()
    }
    pub(super) fn exposed_frames(&self) -> usize {
        self.devices.iter().map(|(_, device)| device.exposed.len()).sum()
    }

    fn poke_device(&mut self, device: DeviceKey) {
        if let Some(device) = self.devices.find(device) {
            self.hosts.poke(device.host);
        }
    }
    fn tell(&mut self, device: DeviceKey, event: DeviceEvent) {
        if let Some(it) = self.devices.find_mut(device) {
            it.news.push_back(event);
            let host = it.host;
            self.hosts.poke(host);
        }
    }
    fn plan_for(&mut self, qp: Option<QpKey>, delay: Duration, event: Event) {
        self.timeline.plan(delay, event);
        if let Some(qp) = qp.and_then(|qp| self.qps.find(qp)) {
            let device = qp.device;
            self.poke_device(device);
        }
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.timeline.advance(now);
        while let Some(event) = self.timeline.take_due() {
            self.happen(event);
        }
    }

    pub(super) fn take_event(&mut self, device: DeviceKey) -> Option<DeviceEvent> {
        self.devices.find_mut(device)?.news.pop_front()
    }
    pub(super) fn poll_cq(&mut self, device: DeviceKey) -> Option<Completed> {
        self.devices.find_mut(device)?.cq.pop_front()
    }
    pub(super) fn is_gone(&self, device: DeviceKey) -> bool {
        self.devices.find(device).is_none_or(|device| device.gone)
    }

    // Connections

    pub(super) fn listen(&mut self, device: DeviceKey, open: OpenId, port: Option<u16>) -> Option<u16> {
        let port = match port {
            Some(port) => port,
            None => (0..=u16::MAX).find_map(|_| {
                let port = self.next_port;
                self.next_port = port.checked_add(1).unwrap_or(WILDCARD_PORT_MIN);
                (!self.listeners.contains_key(&port)).then_some(port)
            })?,
        };
        if self.listeners.contains_key(&port) {
            return None;
        }
        self.listeners.insert(port, (device, open));
        Some(port)
    }
    pub(super) fn unlisten(&mut self, port: u16) {
        self.listeners.remove(&port);
    }
    pub(super) fn create_qp(&mut self, device: DeviceKey) -> QpKey {
        let (receive_queue, send_queue) = (VecDeque::new(), VecDeque::new());
        let state = QpState::Init;
        self.qps.insert(Qp { device, state, peer: None, receive_queue, send_queue, requests: 0 })
    }
    pub(super) fn ask(&mut self, from: QpKey, port: u16, private: PrivateData) {
        self.plan_for(Some(from), self.latency, Event::Ask { from, port, private });
        if let Some((device, _)) = self.listeners.get(&port).copied() {
            self.poke_device(device);
        }
    }
    pub(super) fn accept(&mut self, asker: QpKey, acceptor: QpKey, private: PrivateData) {
        if let Some(qp) = self.qps.find_mut(acceptor) {
            (qp.state, qp.peer) = (QpState::Ready, Some(asker));
        }
        self.plan_for(Some(asker), self.latency, Event::Accepted { asker, acceptor, private });
    }
    pub(super) fn reject(&mut self, asker: QpKey) {
        self.plan_for(Some(asker), self.latency, Event::Rejected { asker });
    }

    /// Puts a queue pair into error, from where every posted request comes back, and lets the peer know.
    pub(super) fn disconnect(&mut self, qp: QpKey) {
        self.fail(qp, None);
    }

    /// Forgets a queue pair. Buffers still posted are dropped.
    pub(super) fn destroy(&mut self, key: QpKey) {
        self.fail(key, None);
        self.qps.remove(key);
    }

    // Work

    /// Lets peers READ a frame by its key, until it was concealed as often.
    pub(super) fn expose(&mut self, device: DeviceKey, key: Key, frame: &Frame) {
        if let Some(device) = self.devices.find_mut(device) {
            device.exposed.entry(key.address).or_insert_with(|| (frame.clone(), 0)).1 += 1;
        }
    }
    pub(super) fn conceal(&mut self, device: DeviceKey, key: Key) {
        let Some(device) = self.devices.find_mut(device) else { return };
        if let Some((_, times)) = device.exposed.get_mut(&key.address) {
            *times -= 1;
            if *times == 0 {
                device.exposed.remove(&key.address);
            }
        }
    }

    /// Whether the device may touch `len` bytes of a buffer from its start.
    fn is_registered(&self, device: DeviceKey, buffer: &FrameMut, len: usize) -> bool {
        let Some(device) = self.devices.find(device) else { return false };
        let domain: Arc<dyn MemoryDomain> = device.domain.clone();
        buffer.key(&domain).is_some_and(|key| len <= buffer.len() && device.domain.covers_local(key, len))
    }

    pub(super) fn post_receive(&mut self, key: QpKey, buffer: FrameMut) {
        let Some(device) = self.qps.find(key).map(|qp| qp.device) else { return };
        let registered = self.is_registered(device, &buffer, buffer.len());
        let Some(qp) = self.qps.find_mut(key) else { return };
        if qp.state == QpState::Error || !registered {
            let status = if registered { Status::Flushed } else { Status::LocalProtection };
            self.complete(device, Completed { qp: key, status, work: Work::Receive { buffer, len: 0 } });
            return;
        }
        qp.receive_queue.push_back(buffer);
    }

    pub(super) fn post_send(&mut self, qp: QpKey, control: bool, buffer: FrameMut, len: usize) {
        self.count.packets += 1;
        self.post(qp, Op::Send { control, buffer, len });
    }
    pub(super) fn post_read(&mut self, qp: QpKey, buffer: FrameMut, read: ReadAt) {
        let ReadAt { id, at, len, address, remote } = read;
        self.post(qp, Op::Read { id, buffer, at, len, address, remote });
    }

    fn post(&mut self, key: QpKey, op: Op) {
        let Some(qp) = self.qps.find(key) else { return };
        let (device, peer) = (qp.device, qp.peer);
        let registered = match &op {
            Op::Send { buffer, len, .. } => self.is_registered(device, buffer, *len),
            Op::Read { buffer, at, len, .. } => self.is_registered(device, buffer, at + len),
        };
        let Some(qp) = self.qps.find_mut(key) else { return };
        // A driver that posts more than it asked room for gets what ibv_post_send would answer: no.
        let full = qp.send_queue.len() >= SEND_QUEUE_MAX;
        if qp.state != QpState::Ready || !registered || full {
            let status = if registered && !full { Status::Flushed } else { Status::LocalProtection };
            self.complete(device, Completed { qp: key, status, work: op.into_work() });
            return self.fail(key, None);
        }
        qp.requests += 1;
        let number = qp.requests;
        qp.send_queue.push_back(Request { number, op, arrived: false });
        self.plan_for(peer, self.latency, Event::Arrive { qp: key, number });
        self.poke_device(device);
        if self.chance.permille(self.faults.device_gone_permille) {
            self.unplug(device);
        } else if self.chance.permille(self.faults.cq_overflow_permille) {
            self.overflow(device);
        } else if self.chance.permille(self.faults.qp_error_permille) {
            self.fail(key, None);
        }
    }

    /// Pulls a device out: everything on it is lost at once, and nothing comes back.
    pub(super) fn unplug(&mut self, device: DeviceKey) {
        let Some(it) = self.devices.find_mut(device) else { return };
        it.gone = true;
        self.listeners.retain(|_, (owner, _)| *owner != device);
        self.fail_all(device);
        self.tell(device, DeviceEvent::Gone);
    }

    fn overflow(&mut self, device: DeviceKey) {
        self.count.cq_overflows += 1;
        self.fail_all(device);
        self.tell(device, DeviceEvent::CqOverflow);
    }

    /// Every queue pair of a device in error, without completions.
    fn fail_all(&mut self, device: DeviceKey) {
        let mut lost = Vec::new();
        for (_, qp) in self.qps.iter_mut().filter(|(_, qp)| qp.device == device) {
            qp.state = QpState::Error;
            qp.send_queue.clear();
            qp.receive_queue.clear();
            lost.extend(qp.peer.take());
        }
        for qp in lost {
            self.plan_for(Some(qp), self.latency * 5, Event::Lost { qp });
        }
        if let Some(device) = self.devices.find_mut(device) {
            device.cq.clear();
        }
    }

    fn complete(&mut self, device: DeviceKey, completed: Completed) {
        let Some(it) = self.devices.find_mut(device).filter(|it| !it.gone) else { return };
        if it.cq.len() == it.cq_size {
            return self.overflow(device);
        }
        it.cq.push_back(completed);
        let host = it.host;
        self.hosts.poke(host);
    }

    /// To error: the culprit with its status, everything else flushed, in order.
    fn fail(&mut self, key: QpKey, culprit: Option<(u64, Status)>) {
        let Some(qp) = self.qps.find_mut(key).filter(|qp| qp.state != QpState::Error) else { return };
        qp.state = QpState::Error;
        let (device, peer) = (qp.device, qp.peer.take());
        let (sends, receives) = (std::mem::take(&mut qp.send_queue), std::mem::take(&mut qp.receive_queue));
        for request in sends {
            // What arrived before the culprit was acknowledged; what came behind it may have arrived or not.
            let status = match culprit {
                Some((number, status)) if number == request.number => status,
                Some((number, _)) if request.number < number && request.arrived => Status::Success,
                _ => Status::Flushed,
            };
            self.complete(device, Completed { qp: key, status, work: request.op.into_work() });
        }
        for buffer in receives {
            let work = Work::Receive { buffer, len: 0 };
            self.complete(device, Completed { qp: key, status: Status::Flushed, work });
        }
        if let Some(qp) = peer {
            self.plan_for(peer, self.latency * 5, Event::Lost { qp });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask { from, port, private } => match self.listeners.get(&port).copied() {
                Some((device, open)) => self.tell(device, DeviceEvent::Request { open, from, private }),
                None => self.reject(from),
            },
            Event::Accepted { asker, acceptor, private } => {
                let Some(qp) = self.qps.find_mut(asker).filter(|qp| qp.state == QpState::Init) else {
                    return self.plan_for(Some(acceptor), self.latency, Event::Lost { qp: acceptor });
                };
                (qp.state, qp.peer) = (QpState::Ready, Some(acceptor));
                let device = qp.device;
                self.tell(device, DeviceEvent::Established { qp: asker, private });
                // Takes its time, so that packets overtake it.
                let delay = self.latency * (1 + self.chance.below(4) as u32);
                self.plan_for(Some(acceptor), delay, Event::Ready { acceptor });
            }
            Event::Rejected { asker } => {
                if let Some(qp) = self.qps.find(asker).filter(|qp| qp.state == QpState::Init) {
                    let device = qp.device;
                    self.tell(device, DeviceEvent::Rejected { qp: asker });
                }
            }
            Event::Ready { acceptor } => {
                if let Some(qp) = self.qps.find(acceptor).filter(|qp| qp.state == QpState::Ready) {
                    let device = qp.device;
                    self.tell(device, DeviceEvent::Ready { qp: acceptor });
                }
            }
            Event::Arrive { qp, number } => self.arrive(qp, number),
            Event::Complete { qp: key, number } => {
                let Some(qp) = self.qps.find_mut(key) else { return };
                if qp.send_queue.front().is_none_or(|first| first.number != number) {
                    return;
                }
                let device = qp.device;
                if let Some(request) = qp.send_queue.pop_front() {
                    let work = request.op.into_work();
                    self.complete(device, Completed { qp: key, status: Status::Success, work });
                }
            }
            Event::Lost { qp: key } => {
                let Some(qp) = self.qps.find(key) else { return };
                let device = qp.device;
                let oldest = qp.send_queue.iter().find(|request| !request.arrived);
                let culprit = oldest.map(|request| (request.number, Status::RetryExceeded));
                self.fail(key, culprit);
                self.tell(device, DeviceEvent::Disconnected { qp: key });
            }
        }
    }

    fn arrive(&mut self, key: QpKey, number: u64) {
        let Some(qp) = self.qps.find_mut(key).filter(|qp| qp.state == QpState::Ready) else { return };
        let (device, peer) = (qp.device, qp.peer);
        let Some(at) = qp.send_queue.iter().position(|request| request.number == number) else { return };
        // Out of the queue for a moment, so that both ends can be held.
        let Some(mut request) = qp.send_queue.remove(at) else { return };
        request.arrived = true;
        let unlucky = self.chance.permille(self.faults.rnr_permille);
        let target = peer.filter(|peer| self.qps.find(*peer).is_some_and(|qp| qp.state == QpState::Ready));
        let status = match (target, &mut request.op) {
            // Not an answer: the sender will hear of it by Lost.
            (None, _) => None,
            (Some(peer), Op::Send { buffer, len, .. }) => Some(self.deliver(peer, &buffer[..*len], unlucky)),
            (Some(peer), Op::Read { buffer, at, len, address, remote, .. }) => {
                Some(self.read(peer, &mut buffer[*at..*at + *len], *address, *remote))
            }
        };
        let Some(qp) = self.qps.find_mut(key) else { return };
        qp.send_queue.insert(at, request);
        match status {
            None => {}
            Some(Status::Success) => {
                self.timeline.plan(self.latency, Event::Complete { qp: key, number });
                self.poke_device(device);
            }
            Some(status) => self.fail(key, Some((number, status))),
        }
    }

    fn deliver(&mut self, to: QpKey, bytes: &[u8], unlucky: bool) -> Status {
        let Some(qp) = self.qps.find_mut(to) else { return Status::RetryExceeded };
        let device = qp.device;
        if unlucky {
            return Status::ReceiverNotReady;
        }
        let Some(mut buffer) = qp.receive_queue.pop_front() else {
            self.count.receiver_not_ready += 1;
            return Status::ReceiverNotReady;
        };
        buffer[..bytes.len()].copy_from_slice(bytes);
        let work = Work::Receive { buffer, len: bytes.len() };
        self.complete(device, Completed { qp: to, status: Status::Success, work });
        Status::Success
    }

    fn read(&mut self, from: QpKey, into: &mut [u8], address: u64, remote: u64) -> Status {
        let Some(qp) = self.qps.find(from) else { return Status::RetryExceeded };
        let Some(device) = self.devices.find(qp.device) else { return Status::RetryExceeded };
        let allowed = device.domain.covers_remote(remote, address, into.len());
        let memory = device.exposed.range(..=address).next_back().and_then(|(start, (frame, _))| {
            let offset = usize::try_from(address - start).ok()?;
            frame.get(offset..offset.checked_add(into.len())?)
        });
        match memory.filter(|_| allowed) {
            Some(memory) => {
                into.copy_from_slice(memory);
                self.count.reads += 1;
                Status::Success
            }
            None => {
                self.count.wrong_keys += 1;
                // The responder's queue pair fails as well.
                self.fail(from, None);
                Status::RemoteAccess
            }
        }
    }
}
