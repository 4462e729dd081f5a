//! How connections come about in a simulated world, and how they end.

use std::collections::VecDeque;
use std::net::SocketAddr;

use transport_core::Slab;

use super::net::{At, Connection, Happening, Net, Phase, Queue};
use super::{HostId, nobody};
use crate::fabric::{
    Cause, ConnectionId, Event, Failure, ListenerId, PrivateData, QueueLimits, QueueShape, Receives,
    Rejection, Status, Terms,
};
use crate::limits::simulated::{DEPTH_MAX, WILDCARD_PORT_MIN, WORK_REQUESTS_MAX};
use crate::limits::{GATHER_MAX, INLINE_MAX, PRIVATE_DATA_MAX};

impl Net {
    // Connections

    pub(super) fn listen(
        &mut self,
        host: HostId,
        at: SocketAddr,
    ) -> Result<(ListenerId, SocketAddr), Failure> {
        const CALL: &str = "listen";
        let taken = |net: &Self, port: u16| {
            net.hosts.iter().flat_map(|(_, host)| host.listeners.iter()).any(|(_, it)| it.port() == port)
        };
        let mut real = at;
        if at.port() == 0 {
            let free = (0..u16::MAX).find_map(|_| {
                let port = self.next_port;
                self.next_port = port.checked_add(1).unwrap_or(WILDCARD_PORT_MIN);
                (!taken(self, port)).then_some(port)
            });
            real.set_port(free.ok_or(Failure::new(CALL, libc::EADDRNOTAVAIL))?);
        } else if taken(self, at.port()) {
            return Err(Failure::new(CALL, libc::EADDRINUSE));
        }
        let host = self.hosts.find_mut(host).ok_or(Failure::new(CALL, libc::EBADF))?;
        Ok((host.listeners.insert(real), real))
    }

    pub(super) fn unlisten(&mut self, host: HostId, listener: ListenerId) {
        if let Some(host) = self.hosts.find_mut(host) {
            host.listeners.remove(listener);
        }
    }

    pub(super) fn dial(&mut self, host: HostId, to: SocketAddr) -> ConnectionId {
        let local = SocketAddr::new(to.ip(), 0);
        let connection = self.add_connection(host, local, to, Phase::Resolving, None);
        self.plan(Happening::Resolve(At { host, connection }));
        connection
    }

    fn add_connection(
        &mut self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
        phase: Phase,
        peer: Option<At>,
    ) -> ConnectionId {
        match self.hosts.find_mut(host) {
            Some(host) => host.connections.insert(Connection {
                local,
                remote,
                phase,
                peer,
                queue: None,
                terms: None,
                depth: DEPTH_MAX,
            }),
            None => nobody(),
        }
    }

    pub(super) fn find(&self, host: HostId, connection: ConnectionId) -> Option<&Connection> {
        self.hosts.find(host)?.connections.find(connection)
    }

    pub(super) fn find_mut(&mut self, host: HostId, connection: ConnectionId) -> Option<&mut Connection> {
        self.hosts.find_mut(host)?.connections.find_mut(connection)
    }

    pub(super) fn queue_mut(&mut self, at: At) -> Option<&mut Queue> {
        self.find_mut(at.host, at.connection)?.queue.as_mut()
    }

    pub(super) fn say(&mut self, host: HostId, event: Event) {
        if let Some(host) = self.hosts.find_mut(host) {
            host.events.push_back(event);
            host.rouse();
        }
    }

    pub(super) fn create_queue(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        shape: &QueueShape,
    ) -> Result<QueueLimits, Failure> {
        const CALL: &str = "create_queue";
        let has_shared = self
            .hosts
            .find(host)
            .and_then(|it| it.device.as_ref())
            .is_some_and(|(_, it)| it.shared.is_some());
        let it = self.find_mut(host, connection).ok_or(Failure::new(CALL, libc::EBADF))?;
        let (receives, shares) = match shape.receives {
            Receives::Own(receives) => (receives as usize, false),
            Receives::Shared => (0, true),
        };
        if it.queue.is_some() || !matches!(it.phase, Phase::Resolved | Phase::Asked) || shares && !has_shared
        {
            return Err(Failure::new(CALL, libc::EINVAL));
        }
        let limits = QueueLimits {
            sends: (shape.sends as usize).clamp(1, WORK_REQUESTS_MAX),
            receives: receives.min(WORK_REQUESTS_MAX),
            gather: (shape.gather as usize).clamp(1, GATHER_MAX),
            inline: (shape.inline as usize).min(INLINE_MAX),
        };
        it.queue = Some(Queue {
            limits,
            shares,
            ready: false,
            failed: false,
            refusing: false,
            sends: VecDeque::new(),
            next: 0,
            expected: 0,
            stalled: false,
            unsignaled: 0,
            receives: VecDeque::new(),
            targets: Slab::new(),
        });
        Ok(limits)
    }

    pub(super) fn connect(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        private: PrivateData,
        terms: Terms,
    ) -> Result<(), Failure> {
        let it = self.find_mut(host, connection).ok_or(Failure::new("connect", libc::EBADF))?;
        if it.phase != Phase::Resolved || it.queue.is_none() {
            return Err(Failure::new("connect", libc::EINVAL));
        }
        (it.phase, it.terms) = (Phase::Connecting, Some(terms));
        self.plan(Happening::Ask { from: At { host, connection }, private: padded(private), terms });
        Ok(())
    }

    pub(super) fn accept(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        private: PrivateData,
        terms: Terms,
    ) -> Result<(), Failure> {
        let it = self.find_mut(host, connection).ok_or(Failure::new("accept", libc::EBADF))?;
        // Without a peer: it has left by now.
        let (Phase::Asked, Some(queue), Some(to)) = (it.phase, it.queue.as_mut(), it.peer) else {
            return Err(Failure::new("accept", libc::EINVAL));
        };
        queue.ready = true;
        it.depth = it.depth.min(terms.initiator_depth);
        (it.phase, it.terms) = (Phase::Accepting, Some(terms));
        let private = padded(private);
        self.plan(Happening::Answer { to, from: At { host, connection }, private, terms });
        Ok(())
    }

    pub(super) fn reject(&mut self, host: HostId, connection: ConnectionId, private: PrivateData) {
        if let Some(it) = self.find_mut(host, connection) {
            let (phase, peer) = (it.phase, it.peer.take());
            self.part(phase, peer, private);
        }
        drop(self.destroy(host, connection));
    }

    /// Tells the peer, who may be waiting for an answer, that there is nobody any more.
    fn part(&mut self, phase: Phase, peer: Option<At>, private: PrivateData) {
        let (rejection, private) = (Rejection::Application, padded(private));
        match (phase, peer) {
            (Phase::Asked, Some(to)) => self.plan(Happening::Refuse { to, rejection, private }),
            (_, Some(at)) => self.plan(Happening::PeerGone(at)),
            (_, None) => {}
        }
    }

    pub(super) fn disconnect(&mut self, host: HostId, connection: ConnectionId) {
        let at = At { host, connection };
        let Some(it) = self.find_mut(host, connection) else { return };
        if matches!(it.phase, Phase::Draining | Phase::Drained) {
            return;
        }
        let phase = std::mem::replace(&mut it.phase, Phase::Draining);
        let peer = it.peer.take();
        self.fail(at, None);
        self.check_drained(at);
        self.part(phase, peer, PrivateData::EMPTY);
    }

    pub(super) fn destroy(&mut self, host: HostId, connection: ConnectionId) -> impl Sized + use<> {
        let removed = self.hosts.find_mut(host).and_then(|host| host.connections.remove(connection));
        if let Some(it) = &removed {
            self.part(it.phase, it.peer, PrivateData::EMPTY);
        }
        removed
    }

    // What happens

    pub(super) fn happen(&mut self, what: Happening) {
        match what {
            Happening::Resolve(at) => {
                let device = self.open_device(at.host);
                let Some(it) = self.find_mut(at.host, at.connection) else { return };
                let connection = at.connection;
                let event = match device {
                    Some(device) => {
                        it.phase = Phase::Resolved;
                        Event::Resolved { connection, device }
                    }
                    None => {
                        it.phase = Phase::Over;
                        Event::Unreachable { connection, failure: Failure::new("resolve", libc::ENODEV) }
                    }
                };
                self.say(at.host, event);
            }
            Happening::Ask { from, private, terms } => self.ask(from, private, terms),
            Happening::Answer { to, from, private, terms } => self.answer(to, from, private, terms),
            Happening::Refuse { to, rejection, private } => {
                let Some(it) =
                    self.find_mut(to.host, to.connection).filter(|it| it.phase == Phase::Connecting)
                else {
                    return;
                };
                it.phase = Phase::Over;
                self.say(to.host, Event::Rejected { connection: to.connection, rejection, private });
            }
            Happening::Ready(at) => {
                let Some(it) =
                    self.find_mut(at.host, at.connection).filter(|it| it.phase == Phase::Accepting)
                else {
                    return;
                };
                it.phase = Phase::Established;
                let initiator_depth = it.depth;
                let (connection, private) = (at.connection, PrivateData::EMPTY);
                self.say(at.host, Event::Established { connection, private, initiator_depth });
            }
            Happening::Arrive { at, number } => self.arrive(at, number),
            Happening::Acknowledge { at, number } => {
                let Some(queue) = self.queue_mut(at).filter(|queue| !queue.failed) else { return };
                if let Some(request) = queue.sends.iter_mut().find(|it| it.number == number) {
                    request.status = Some(Status::Success);
                    self.retire(at);
                }
            }
            Happening::GiveUp { at, number } => self.give_up(at, number),
            Happening::NoAnswer(at) => {
                let Some(it) = self.find_mut(at.host, at.connection) else { return };
                if matches!(it.phase, Phase::Connecting | Phase::Accepting) {
                    it.phase = Phase::Over;
                    let (connection, step) = (at.connection, "connect");
                    self.say(
                        at.host,
                        Event::Unreachable { connection, failure: Failure::new(step, libc::ETIMEDOUT) },
                    );
                }
            }
            Happening::PeerGone(at) => self.peer_gone(at),
        }
    }

    fn ask(&mut self, from: At, private: PrivateData, terms: Terms) {
        let Some(asker) = self.find(from.host, from.connection).filter(|it| it.phase == Phase::Connecting)
        else {
            return;
        };
        let (peer, to) = (asker.local, asker.remote);
        let listener = self.hosts.iter().find_map(|(host, it)| {
            it.listeners.iter().find(|(_, at)| at.port() == to.port()).map(|(listener, _)| (host, listener))
        });
        let Some((host, listener)) = listener else {
            let (rejection, private) = (Rejection::NoListener, PrivateData::EMPTY);
            return self.plan(Happening::Refuse { to: from, rejection, private });
        };
        let Some(device) = self.open_device(host) else { return self.miss(from) };
        let connection = self.add_connection(host, to, peer, Phase::Asked, Some(from));
        if let Some(it) = self.find_mut(host, connection) {
            it.depth = terms.responder_resources;
        }
        if let Some(asker) = self.find_mut(from.host, from.connection) {
            asker.peer = Some(At { host, connection });
        }
        let event = Event::Request {
            listener,
            connection,
            device,
            peer,
            private,
            initiator_depth: terms.responder_resources,
            responder_resources: terms.initiator_depth,
        };
        self.say(host, event);
    }

    fn answer(&mut self, to: At, from: At, private: PrivateData, theirs: Terms) {
        // Who has left has said so, or is missed.
        let Some(it) = self.find_mut(to.host, to.connection).filter(|it| it.phase == Phase::Connecting)
        else {
            return;
        };
        let Some(queue) = &mut it.queue else { return };
        queue.ready = true;
        it.phase = Phase::Established;
        let ours = it.terms.map_or(0, |terms| terms.initiator_depth);
        let initiator_depth = ours.min(theirs.responder_resources);
        it.depth = initiator_depth;
        let connection = to.connection;
        self.say(to.host, Event::Established { connection, private, initiator_depth });
        self.plan(Happening::Ready(from));
    }

    /// The other side of a connection that may be waiting for an answer will get none.
    pub(super) fn miss(&mut self, at: At) {
        self.plan(Happening::NoAnswer(at));
    }

    /// What is under way fails by itself, or is flushed once we disconnect as well.
    fn peer_gone(&mut self, at: At) {
        let Some(it) = self.find_mut(at.host, at.connection) else { return };
        it.peer = None;
        let connection = at.connection;
        let event = match it.phase {
            Phase::Established => Event::Disconnected { connection, cause: Cause::Peer },
            Phase::Connecting | Phase::Accepting => {
                it.phase = Phase::Over;
                // "Timeout", which is how soft-RoCE says that the dialler has gone.
                let rejection = Rejection::Other(4);
                Event::Rejected { connection, rejection, private: padded(PrivateData::EMPTY) }
            }
            // Who has not answered hears of it by answering.
            _ => return,
        };
        self.say(at.host, event);
    }
}

/// As the connection manager delivers it.
fn padded(private: PrivateData) -> PrivateData {
    let mut bytes = [0; PRIVATE_DATA_MAX];
    bytes[..private.len()].copy_from_slice(&private);
    PrivateData::new(&bytes)
}
