//! The simulated byte stream itself: ports, connections, bounded buffers, FIN and RST. Knows no frames.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use transport_core::{OpenId, Slab, SlabKey, Wake};

use super::super::kit::{Chance, HostId, Hosts, Timeline};
use super::super::limits::{BACKLOG_MAX, STREAM_BUFFER_MAX, WILDCARD_PORT_MIN};

/// Names a connection; stale once both ends are closed.
pub(super) type ConnectionKey = SlabKey;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndKey {
    pub(super) connection: ConnectionKey,
    side: usize,
}

impl EndKey {
    fn other(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

#[derive(Debug)]
enum Event {
    /// A dialled connection asks at its port.
    Knock { dialler: EndKey, port: u16 },
    /// The answer is back: accepted or refused.
    Answer { dialler: EndKey, accepted: bool },
    /// Bytes written by `from` can be read at the other end.
    Land { from: EndKey, bytes: usize },
    /// `from` has written its last.
    Fin { from: EndKey },
    /// The other end of `to` tore the connection down.
    Reset { to: EndKey },
}

/// What one direction of a connection holds.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// How many of them have landed.
    landed: usize,
    fin_sent: bool,
    fin_landed: bool,
}

#[derive(Debug)]
struct End {
    host: Option<HostId>,
    /// From this end to the other.
    out: Pipe,
    state: EndState,
    reset: bool,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndState {
    Dialling,
    Refused,
    Open,
    Closed,
}

#[derive(Debug)]
struct Listener {
    host: HostId,
    open: OpenId,
    waiting: VecDeque<EndKey>,
    backlog: usize,
}

/// What a read or write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many bytes, at least one.
    Bytes(usize),
    /// None now.
    Blocked,
    /// None ever: the peer has written its last.
    Eof,
    /// The connection is torn down.
    Reset,
}

#[derive(Debug)]
pub(super) struct World {
    timeline: Timeline<Event>,
    pub(super) hosts: Hosts,
    chance: Chance,
    listeners: BTreeMap<u16, Listener>,
    connections: Slab<ConnectionKey, [End; 2]>,
    next_port: u16,
    latency: Duration,
    buffer: usize,
}

impl World {
    pub(super) fn new(seed: u64, buffer: usize) -> Self {
        Self {
            timeline: Timeline::new(),
            hosts: Hosts::default(),
            chance: Chance::new(seed),
            listeners: BTreeMap::new(),
            connections: Slab::new(),
            next_port: WILDCARD_PORT_MIN,
            latency: Duration::from_micros(10),
            buffer: buffer.clamp(1, STREAM_BUFFER_MAX),
        }
    }

    pub(super) fn join(&mut self, wake: Arc<dyn Wake>) -> HostId {
        self.hosts.join(wake)
    }

    /// A driver is gone: what a kernel does when a process dies.
    pub(super) fn leave(&mut self, host: HostId) {
        let ports: Vec<u16> =
            self.listeners.iter().filter(|(_, it)| it.host == host).map(|(port, _)| *port).collect();
        for port in ports {
            self.unlisten(port);
        }
        for connection in self.connections.keys() {
            for side in 0..2 {
                let end = EndKey { connection, side };
                if self.end(end).is_some_and(|it| it.host == Some(host)) {
                    self.reset(end);
                }
            }
        }
        self.hosts.leave(host);
    }

    fn end(&self, key: EndKey) -> Option<&End> {
        self.connections.find(key.connection).map(|ends| &ends[key.side])
    }
    fn end_mut(&mut self, key: EndKey) -> Option<&mut End> {
        self.connections.find_mut(key.connection).map(|ends| &mut ends[key.side])
    }
    fn poke(&mut self, key: EndKey) {
        if let Some(host) = self.end(key).and_then(|end| end.host) {
            self.hosts.poke(host);
        }
    }
    /// A packet is under way to `to`'s host, which must therefore look at its deadline again.
    fn plan(&mut self, to: EndKey, event: Event) {
        self.timeline.plan(self.latency, event);
        self.poke(to);
    }

    pub(super) fn next_at(&self) -> Option<std::time::Instant> {
        self.timeline.next_at()
    }
    pub(super) fn now(&self) -> Option<std::time::Instant> {
        self.timeline.now()
    }

    pub(super) fn advance(&mut self, now: std::time::Instant) {
        self.timeline.advance(now);
        while let Some(event) = self.timeline.take_due() {
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Knock { dialler, port } => {
                let acceptor = dialler.other();
                let listener = self.listeners.get_mut(&port).filter(|it| it.waiting.len() < it.backlog);
                let accepted = listener.map(|listener| {
                    listener.waiting.push_back(acceptor);
                    listener.host
                });
                if let Some(end) = self.end_mut(acceptor) {
                    end.host = accepted;
                    end.state = if accepted.is_some() { EndState::Open } else { EndState::Closed };
                }
                self.poke(acceptor);
                self.plan(dialler, Event::Answer { dialler, accepted: accepted.is_some() });
            }
            Event::Answer { dialler, accepted } => {
                if let Some(end) = self.end_mut(dialler)
                    && end.state == EndState::Dialling
                {
                    end.state = if accepted { EndState::Open } else { EndState::Refused };
                    self.poke(dialler);
                }
            }
            Event::Land { from, bytes } => {
                let to = from.other();
                if self.end(to).is_some_and(|end| end.state == EndState::Closed) {
                    // Bytes for a closed socket: the kernel answers with a reset.
                    self.plan(from, Event::Reset { to: from });
                } else if let Some(end) = self.end_mut(from) {
                    end.out.landed += bytes;
                    self.poke(to);
                }
            }
            Event::Fin { from } => {
                if let Some(end) = self.end_mut(from) {
                    end.out.fin_landed = true;
                    self.poke(from.other());
                }
            }
            Event::Reset { to } => {
                if let Some(end) = self.end_mut(to) {
                    end.reset = true;
                    self.poke(to);
                }
            }
        }
    }

    /// `None` when the port is taken, or none is free.
    pub(super) fn listen(
        &mut self,
        port: Option<u16>,
        host: HostId,
        open: OpenId,
        backlog: u32,
    ) -> Option<u16> {
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
        let backlog = (backlog as usize).clamp(1, BACKLOG_MAX);
        self.listeners.insert(port, Listener { host, open, waiting: VecDeque::new(), backlog });
        Some(port)
    }

    pub(super) fn unlisten(&mut self, port: u16) {
        let waiting = self.listeners.remove(&port).map(|listener| listener.waiting);
        for end in waiting.unwrap_or_default() {
            self.reset(end);
        }
    }

    pub(super) fn accept(&mut self, port: u16) -> Option<(OpenId, EndKey, u16)> {
        let listener = self.listeners.get_mut(&port)?;
        let end = listener.waiting.pop_front()?;
        let open = listener.open;
        Some((open, end, self.end(end.other()).map_or(0, |it| it.port)))
    }

    pub(super) fn dial(&mut self, port: u16, host: Option<HostId>) -> EndKey {
        let own_port = self.next_port;
        self.next_port = own_port.checked_add(1).unwrap_or(WILDCARD_PORT_MIN);
        let end =
            |host, port| End { host, out: Pipe::default(), state: EndState::Dialling, reset: false, port };
        let connection = self.connections.insert([end(host, own_port), end(None, port)]);
        let dialler = EndKey { connection, side: 0 };
        self.plan(dialler, Event::Knock { dialler, port });
        if let Some(host) = self.listeners.get(&port).map(|listener| listener.host) {
            self.hosts.poke(host);
        }
        dialler
    }

    pub(super) fn state(&self, end: EndKey) -> EndState {
        match self.end(end) {
            Some(end) if end.reset => EndState::Closed,
            Some(end) => end.state,
            None => EndState::Closed,
        }
    }

    pub(super) fn write(&mut self, key: EndKey, bytes: &[u8]) -> Moved {
        let limit = self.buffer;
        let Some(end) = self.connections.find_mut(key.connection).map(|ends| &mut ends[key.side]) else {
            return Moved::Reset;
        };
        if end.reset || end.state != EndState::Open || end.out.fin_sent {
            return Moved::Reset;
        }
        let some = self.chance.segment(bytes.len().min(limit - end.out.bytes.len()));
        if some == 0 {
            return Moved::Blocked;
        }
        end.out.bytes.extend(&bytes[..some]);
        self.plan(key.other(), Event::Land { from: key, bytes: some });
        Moved::Bytes(some)
    }

    pub(super) fn read(&mut self, key: EndKey, into: &mut [u8]) -> Moved {
        let from = key.other();
        if self.end(key).is_none_or(|end| end.reset || end.state != EndState::Open) {
            return Moved::Reset;
        }
        let Some(end) = self.connections.find_mut(from.connection).map(|ends| &mut ends[from.side]) else {
            return Moved::Reset;
        };
        let pipe = &mut end.out;
        if pipe.landed == 0 {
            return if pipe.fin_landed { Moved::Eof } else { Moved::Blocked };
        }
        let some = self.chance.segment(into.len().min(pipe.landed));
        let (front, back) = pipe.bytes.as_slices();
        let split = some.min(front.len());
        into[..split].copy_from_slice(&front[..split]);
        into[split..some].copy_from_slice(&back[..some - split]);
        pipe.bytes.drain(..some);
        pipe.landed -= some;
        // There is room for the writer again.
        self.poke(from);
        Moved::Bytes(some)
    }

    /// Half-close: no more from here.
    pub(super) fn shut(&mut self, key: EndKey) {
        if let Some(end) = self.end_mut(key)
            && end.state == EndState::Open
            && !end.out.fin_sent
        {
            end.out.fin_sent = true;
            self.plan(key.other(), Event::Fin { from: key });
        }
    }

    /// Both ways. Unread input turns it into a reset, as in every TCP.
    pub(super) fn close(&mut self, key: EndKey) {
        if self.end(key.other()).is_some_and(|peer| peer.out.landed > 0) {
            return self.reset(key);
        }
        self.shut(key);
        self.forget(key);
    }

    pub(super) fn reset(&mut self, key: EndKey) {
        if self.end(key).is_some_and(|end| end.state == EndState::Open && !end.reset) {
            let to = key.other();
            self.plan(to, Event::Reset { to });
        }
        self.forget(key);
    }

    fn forget(&mut self, key: EndKey) {
        if let Some(end) = self.end_mut(key) {
            end.state = EndState::Closed;
        }
        let gone = |end: EndKey| {
            self.end(end).is_none_or(|it| matches!(it.state, EndState::Closed | EndState::Refused))
        };
        if gone(key) && gone(key.other()) {
            self.connections.remove(key.connection);
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }
}
