//! What is and happens in a simulated world: hosts, connections, work under way. One instant after the other, in the
//! order in which things were begun.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{FrameMut, Slab, Wake};

use super::memory::Domain;
use super::{Count, HostId, Mishap, Mishaps};
use crate::fabric::{
    Buffer, Completed, ConnectionId, DeviceId, DeviceInfo, Event, Failure, ListenerId, Mark, Memory,
    PrivateData, QueueLimits, Rejection, Remote, Splice, Status, TargetId, Terms,
};
use crate::limits::simulated::{DEPTH_MAX, MESSAGE_MAX, PATIENCE, WORK_REQUESTS_MAX};

pub(super) fn device_info() -> DeviceInfo {
    DeviceInfo {
        name: "simulated".to_owned(),
        is_iwarp: false,
        initiator_depth_max: DEPTH_MAX,
        responder_resources_max: DEPTH_MAX,
        work_requests_max: WORK_REQUESTS_MAX,
        shared_receives_max: WORK_REQUESTS_MAX,
        message_max: MESSAGE_MAX,
        packet_max: MESSAGE_MAX,
    }
}

pub(super) struct Net {
    pub(super) latency: Duration,
    pub(super) mishaps: Mishaps,
    pub(super) count: Count,
    pub(super) hosts: Slab<HostId, Host>,
    /// As far as anybody has told.
    pub(super) now: Option<Instant>,
    pub(super) planned: u64,
    /// What is under way, by time and order.
    pub(super) timeline: BinaryHeap<Reverse<Planned>>,
    /// Planned before anyone told the time.
    pub(super) early: Vec<Happening>,
    pub(super) next_port: u16,
}

pub(super) struct Host {
    pub(super) wake: Arc<dyn Wake>,
    pub(super) device: Option<(DeviceId, Device)>,
    pub(super) devices: Slab<DeviceId, ()>,
    pub(super) listeners: Slab<ListenerId, SocketAddr>,
    pub(super) connections: Slab<ConnectionId, Connection>,
    pub(super) completed: VecDeque<Completed>,
    pub(super) events: VecDeque<Event>,
    /// Has been woken since its last poll.
    pub(super) woken: bool,
    pub(super) refuses_memory: bool,
}

impl Host {
    /// Wakes it, once until it polls. Allowed under the world's lock: `Wake` takes no lock of a driver.
    pub(super) fn rouse(&mut self) {
        if !self.woken {
            self.woken = true;
            self.wake.wake();
        }
    }
}

pub(super) struct Device {
    pub(super) domain: Arc<Domain>,
    pub(super) shared: Option<Shared>,
    pub(super) is_lost: bool,
}

pub(super) struct Shared {
    pub(super) posted: VecDeque<Buffer>,
    pub(super) capacity: usize,
    pub(super) low: usize,
    pub(super) is_armed: bool,
}

/// A connection anywhere in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) host: HostId,
    pub(super) connection: ConnectionId,
}

pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) phase: Phase,
    pub(super) peer: Option<At>,
    pub(super) queue: Option<Queue>,
    pub(super) terms: Option<Terms>,
    /// READs that the peer serves for us; once connected, those that we may have in flight.
    pub(super) depth: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Resolving,
    Resolved,
    /// A peer asks.
    Asked,
    Connecting,
    Accepting,
    Established,
    Draining,
    /// It never came about, or the device is lost.
    Over,
    Drained,
}

pub(super) struct Queue {
    pub(super) limits: QueueLimits,
    pub(super) shares: bool,
    /// Whether the device takes sends: from when it is connected until it fails.
    pub(super) ready: bool,
    pub(super) failed: bool,
    pub(super) refusing: bool,
    pub(super) sends: VecDeque<Request>,
    /// The number of the next request posted, and of the next that the peer takes.
    pub(super) next: u64,
    pub(super) expected: u64,
    /// The peer was not ready for the one that is expected.
    pub(super) stalled: bool,
    pub(super) unsignaled: u32,
    pub(super) receives: VecDeque<Buffer>,
    pub(super) targets: Slab<TargetId, Target>,
}

pub(super) struct Target {
    pub(super) frame: FrameMut,
    pub(super) registered: bool,
    pub(super) reads: usize,
}

pub(super) struct Request {
    pub(super) kind: RequestKind,
    pub(super) mark: Mark,
    pub(super) number: u64,
    /// How it ended, once that is known.
    pub(super) status: Option<Status>,
    pub(super) mishap: Option<Mishap>,
}

pub(super) enum RequestKind {
    Inline(Vec<u8>),
    Packet { buffer: Buffer, len: usize, splices: Vec<Splice> },
    Read { target: TargetId, into: Range<usize>, from: Remote },
}

impl Request {
    pub(super) fn new(kind: RequestKind, mark: Mark) -> Self {
        Self { kind, mark, number: 0, status: None, mishap: None }
    }
}

pub(super) enum Happening {
    Resolve(At),
    Ask {
        from: At,
        private: PrivateData,
        terms: Terms,
    },
    Answer {
        to: At,
        from: At,
        private: PrivateData,
        terms: Terms,
    },
    Refuse {
        to: At,
        rejection: Rejection,
        private: PrivateData,
    },
    Ready(At),
    Arrive {
        at: At,
        number: u64,
    },
    Acknowledge {
        at: At,
        number: u64,
    },
    /// Nobody has answered a request of a queue pair, or of a connection.
    GiveUp {
        at: At,
        number: u64,
    },
    NoAnswer(At),
    /// The peer has said that it is over.
    PeerGone(At),
}

pub(super) struct Planned {
    at: Instant,
    order: u64,
    what: Happening,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Net {
    pub(super) fn new(latency: Duration) -> Self {
        Self {
            latency,
            mishaps: Box::new(|_| None),
            count: Count::default(),
            hosts: Slab::new(),
            now: None,
            planned: 0,
            timeline: BinaryHeap::new(),
            early: Vec::new(),
            next_port: crate::limits::simulated::WILDCARD_PORT_MIN,
        }
    }

    pub(super) fn count(&self) -> Count {
        let connections = self.hosts.iter().flat_map(|(_, host)| host.connections.iter());
        let devices = self.hosts.iter().filter_map(|(_, host)| host.device.as_ref());
        Count {
            queue_pairs: connections.filter(|(_, it)| it.queue.is_some()).count(),
            regions: devices.map(|(_, device)| device.domain.regions()).sum(),
            ..self.count
        }
    }

    // Time

    pub(super) fn advance(&mut self, now: Instant) {
        let now = self.now.map_or(now, |before| before.max(now));
        self.now = Some(now);
        for what in std::mem::take(&mut self.early) {
            self.plan(what);
        }
        while self.timeline.peek().is_some_and(|Reverse(first)| first.at <= now) {
            if let Some(Reverse(planned)) = self.timeline.pop() {
                self.happen(planned.what);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeline.peek().map(|Reverse(first)| first.at)
    }

    pub(super) fn plan(&mut self, what: Happening) {
        let Some(now) = self.now else { return self.early.push(what) };
        let waits = match what {
            Happening::GiveUp { .. } | Happening::NoAnswer(_) => PATIENCE,
            _ => 1,
        };
        self.planned += 1;
        self.timeline.push(Reverse(Planned { at: now + waits * self.latency, order: self.planned, what }));
        // Whoever sleeps must look at the deadline again.
        self.hosts.iter_mut().for_each(|(_, host)| host.rouse());
    }

    // Hosts and devices

    pub(super) fn add_host(&mut self, wake: Arc<dyn Wake>) -> HostId {
        self.hosts.insert(Host {
            wake,
            device: None,
            devices: Slab::new(),
            listeners: Slab::new(),
            connections: Slab::new(),
            completed: VecDeque::new(),
            events: VecDeque::new(),
            woken: false,
            refuses_memory: false,
        })
    }

    pub(super) fn remove_host(&mut self, host: HostId) -> impl Sized + use<> {
        let mut gone = Vec::new();
        for connection in self.hosts.find(host).map(|it| it.connections.keys()).unwrap_or_default() {
            gone.push(self.destroy(host, connection));
        }
        let removed = self.hosts.remove(host);
        if let Some((_, device)) = removed.as_ref().and_then(|host| host.device.as_ref()) {
            device.domain.close();
        }
        (gone, removed)
    }

    pub(super) fn is_open(&self, host: HostId, device: DeviceId) -> bool {
        self.device(host, device).is_some()
    }

    pub(super) fn memory(&self, host: HostId, device: DeviceId) -> Option<Memory> {
        self.device(host, device).map(|it| it.domain.memory())
    }

    pub(super) fn device(&self, host: HostId, device: DeviceId) -> Option<&Device> {
        self.hosts.find(host)?.device.as_ref().filter(|(known, _)| *known == device).map(|(_, it)| it)
    }

    pub(super) fn device_mut(&mut self, host: HostId, device: DeviceId) -> Option<&mut Device> {
        self.hosts.find_mut(host)?.device.as_mut().filter(|(known, _)| *known == device).map(|(_, it)| it)
    }

    /// The device of a host, opened if it is not.
    pub(super) fn open_device(&mut self, host: HostId) -> Option<DeviceId> {
        let it = self.hosts.find_mut(host)?;
        if let Some((device, state)) = &it.device {
            return (!state.is_lost).then_some(*device);
        }
        let device = it.devices.insert(());
        let domain = Domain::new();
        domain.refuse(it.refuses_memory);
        it.device = Some((device, Device { domain, shared: None, is_lost: false }));
        Some(device)
    }

    pub(super) fn close_device(&mut self, host: HostId, device: DeviceId) -> impl Sized + use<> {
        let mut gone = Vec::new();
        if self.device(host, device).is_none() {
            return (gone, None);
        }
        for key in self.hosts.find(host).map(|it| it.connections.keys()).unwrap_or_default() {
            let through = self.find(host, key).is_some_and(|it| it.phase != Phase::Resolving);
            if through {
                gone.push(self.destroy(host, key));
            }
        }
        let Some(it) = self.hosts.find_mut(host) else { return (gone, None) };
        it.devices.remove(device);
        let closed = it.device.take();
        if let Some((_, device)) = &closed {
            device.domain.close();
        }
        (gone, closed)
    }

    pub(super) fn hosts(&self) -> Vec<HostId> {
        self.hosts.keys()
    }

    pub(super) fn refuse_memory(&mut self, host: HostId, refuse: bool) {
        let Some(it) = self.hosts.find_mut(host) else { return };
        it.refuses_memory = refuse;
        if let Some((_, device)) = &it.device {
            device.domain.refuse(refuse);
        }
    }

    /// Everything on the device is lost at once, and nothing of it comes back. A device that was pulled out tells its
    /// peers nothing; what they wait for is never answered.
    pub(super) fn lose_device(&mut self, host: HostId, unplugged: bool) {
        let Some(it) = self.hosts.find_mut(host) else { return };
        let Some((device, state)) = it.device.as_mut().filter(|(_, device)| !device.is_lost) else { return };
        state.is_lost = true;
        let device = *device;
        it.completed.clear();
        it.events.push_back(match unplugged {
            true => Event::DeviceLost { device },
            false => Event::CompletionsLost { device },
        });
        if unplugged {
            for listener in it.listeners.keys() {
                it.events.push_back(Event::ListenerLost { listener });
            }
        }
        let mut peers = Vec::new();
        for (_, connection) in it.connections.iter_mut() {
            connection.phase = Phase::Over;
            if unplugged {
                peers.extend(connection.peer.take());
            }
            if let Some(queue) = &mut connection.queue {
                (queue.ready, queue.failed) = (false, true);
            }
        }
        peers.into_iter().for_each(|at| self.miss(at));
        if let Some(host) = self.hosts.find_mut(host) {
            host.rouse();
        }
    }

    pub(super) fn share_receives(
        &mut self,
        host: HostId,
        device: DeviceId,
        receives: u32,
        low: u32,
    ) -> Result<(), Failure> {
        const CALL: &str = "share_receives";
        let it = self.device_mut(host, device).ok_or(Failure::new(CALL, libc::EBADF))?;
        if it.shared.is_some() {
            return Err(Failure::new(CALL, libc::EEXIST));
        }
        let (capacity, low) = ((receives as usize).min(WORK_REQUESTS_MAX), low as usize);
        it.shared = Some(Shared { posted: VecDeque::new(), capacity, low, is_armed: false });
        Ok(())
    }

    // What is told

    pub(super) fn poll(&mut self, host: HostId, out: &mut Vec<Completed>, budget: usize) -> usize {
        let Some(host) = self.hosts.find_mut(host) else { return 0 };
        host.woken = false;
        let count = host.completed.len().min(budget);
        out.extend(host.completed.drain(..count));
        count
    }

    pub(super) fn next_event(&mut self, host: HostId) -> Option<Event> {
        self.hosts.find_mut(host)?.events.pop_front()
    }

    pub(super) fn has_event(&self, host: HostId) -> bool {
        self.hosts.find(host).is_some_and(|it| !it.events.is_empty())
    }

    pub(super) fn has_news(&self, host: HostId) -> bool {
        self.hosts.find(host).is_some_and(|it| !it.completed.is_empty() || !it.events.is_empty())
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({:?})", self.count())
    }
}
