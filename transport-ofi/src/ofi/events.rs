//! What event queues tell of connections, and what wires and doors do: which of the boundary's events it is. Completions are
//! elsewhere.

use std::time::Instant;

use rdma_links::fabric::{Cause, ConnectionId, Event, Fabric, Failure, ListenerId, PrivateData, Rejection};
use rustix::event::{Timespec, epoll};
use transport_core::SlabKey;

use super::connections::heard;
use super::hello::{Hello, Kind as HelloKind, Malformed};
use super::wire::Heard;
use super::{LISTENER, ListeningWay, OfiFabric, Phase, QUEUE, Way, epoll_failure, failure};
use crate::device::{self, Address, EventKind, Process};
use crate::limits::{
    ACCEPT_AGAIN_AFTER, EVENTS_PER_LOOK, GUEST_TIMEOUT, GUESTS_MAX, LOOK_MAX, UNREADABLE_MAX,
};

impl OfiFabric {
    /// Reads what event queues have, one look's worth.
    pub(super) fn look_at_queues(&mut self) {
        for at in 0..self.networks.len() {
            for _ in 0..EVENTS_PER_LOOK {
                let Some(events) = self.networks.get_mut(at).and_then(|it| it.events.as_mut()) else { break };
                // A queue that is broken tells nothing more; connections end by what completes.
                let Ok(Some(event)) = events.next_event() else { break };
                self.manager_event(event);
            }
        }
    }

    /// The same, and what sockets have. Costs a system call.
    pub(super) fn look(&mut self) {
        self.look_at_queues();
        if !self.guests.is_empty() {
            self.admit();
        }
        let mut ready =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
                LOOK_MAX];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok(count) = epoll::wait(&self.epoll, &mut ready[..], Some(&now)) else { return };
        for event in &ready[..count] {
            let token = event.data.u64();
            if token == QUEUE {
                continue;
            }
            let key = SlabKey::from_u64(token & !LISTENER);
            if token & LISTENER != 0 {
                self.open_door(key.into());
            } else {
                self.hear(key.into());
            }
        }
    }

    // By the provider's connection manager

    fn manager_event(&mut self, event: device::Event) {
        let key = SlabKey::from_u64(event.cookie & !LISTENER);
        if event.cookie & LISTENER != 0 {
            if let EventKind::Request(request) = event.kind {
                self.requested(key.into(), request);
            }
            return;
        }
        let key: ConnectionId = key.into();
        match event.kind {
            EventKind::Request(_) => {}
            EventKind::Connected(said) => self.established(key, heard(&said)),
            EventKind::Shutdown => self.disconnected(key, Cause::Peer),
            EventKind::Failed { failure, said } => self.failed(key, failure, &said),
        }
    }

    fn failed(&mut self, key: ConnectionId, reason: device::Failure, said: &[u8]) {
        let Some(it) = self.connections.find_mut(key) else { return };
        let refused = reason.os_errno() == libc::ECONNREFUSED;
        match it.phase {
            Phase::Connecting if refused || !said.is_empty() => {
                it.phase = Phase::Over;
                let rejection = if said.is_empty() { Rejection::NoListener } else { Rejection::Application };
                let private = heard(said);
                self.events.push_back(Event::Rejected { connection: key, rejection, private });
            }
            Phase::Established => self.disconnected(key, Cause::Peer),
            // An answer that is not theirs has many names in tcp and net: ENOPROTOOPT, EINPROGRESS, EIO.
            Phase::Connecting => {
                let mut failure = failure(reason);
                failure.remedy.get_or_insert_with(|| REMEDY.to_owned());
                self.unreachable(key, failure);
            }
            _ => self.unreachable(key, failure(reason)),
        }
    }

    pub(super) fn established(&mut self, key: ConnectionId, private: PrivateData) {
        let Some(it) = self.connections.find_mut(key) else { return };
        let private = match it.phase {
            Phase::Connecting => private,
            // The dialler has said all in its request.
            Phase::Accepting => PrivateData::EMPTY,
            _ => return,
        };
        it.phase = Phase::Established;
        if let Some(ordered) = &mut it.ordered {
            ordered.stand();
        }
        self.events.push_back(Event::Established { connection: key, private, initiator_depth: u8::MAX });
        // What has arrived already may be given out now.
        self.note(key);
    }

    pub(super) fn unreachable(&mut self, key: ConnectionId, failure: Failure) {
        let Some(it) = self.connections.find_mut(key) else { return };
        match it.phase {
            Phase::Open | Phase::Connecting | Phase::Accepting => {
                it.phase = Phase::Over;
                self.events.push_back(Event::Unreachable { connection: key, failure });
            }
            Phase::Established => self.disconnected(key, Cause::Peer),
            Phase::Guest => self.destroy(key),
            Phase::Draining | Phase::Over | Phase::Drained => {}
        }
    }

    pub(super) fn disconnected(&mut self, key: ConnectionId, cause: Cause) {
        let Some(it) = self.connections.find_mut(key) else { return };
        match it.phase {
            Phase::Established => {
                // Says it once. Until `disconnect` everything goes on as far as it can.
                it.phase = Phase::Over;
                self.events.push_back(Event::Disconnected { connection: key, cause });
            }
            Phase::Open | Phase::Accepting | Phase::Connecting => {
                self.unreachable(key, Failure::new("the peer", libc::ECONNRESET));
            }
            Phase::Guest => self.destroy(key),
            _ => {}
        }
    }

    // By wires

    /// Takes whoever has come to a listener's door.
    fn open_door(&mut self, listener: ListenerId) {
        for _ in 0..EVENTS_PER_LOOK {
            let Some(it) = self.listeners.find(listener) else { return };
            let ListeningWay::Unconnected(door) = &it.way else { return };
            let wire = match door.next() {
                Ok(Some(wire)) => wire,
                Ok(None) => return,
                Err(_) => return self.stop_listening(listener),
            };
            let way = Way::Unconnected {
                to: None,
                from: None,
                wire: Some(wire),
                watched: None,
                peer: None,
                said: PrivateData::EMPTY,
            };
            let options = it.options.clone();
            let connection = self.add_connection(way, Phase::Guest, options, Some(listener));
            let until = self.now.map(|now| now + GUEST_TIMEOUT);
            self.guests.push_back((connection, until));
            if self.guests.len() > GUESTS_MAX
                && let Some((oldest, _)) = self.guests.front()
            {
                self.destroy(*oldest);
            }
            if self.watch_wire(connection).is_err() {
                self.destroy(connection);
            }
            self.hear(connection);
        }
    }

    /// Without descriptors nobody can be taken. Whoever has come waits until there are some, and wakes nobody meanwhile.
    fn stop_listening(&mut self, listener: ListenerId) {
        let Some(it) = self.listeners.find(listener) else { return };
        let ListeningWay::Unconnected(door) = &it.way else { return };
        if epoll::delete(&self.epoll, door.fd()).is_ok() {
            self.deaf.push((listener, self.now.map(|now| now + ACCEPT_AGAIN_AFTER)));
        }
    }

    /// Has those try again whose time has come.
    pub(super) fn listen_again(&mut self, now: Instant) {
        let due: Vec<_> =
            self.deaf.extract_if(.., |(_, until)| until.is_none_or(|until| until <= now)).collect();
        for (listener, _) in due {
            let Some(it) = self.listeners.find(listener) else { continue };
            let ListeningWay::Unconnected(door) = &it.way else { continue };
            let token = SlabKey::from(listener).to_u64() | LISTENER;
            match self.watch(door.fd(), token, epoll::EventFlags::IN) {
                Ok(()) => self.open_door(listener),
                Err(_) => self.deaf.push((listener, Some(now + ACCEPT_AGAIN_AFTER))),
            }
        }
    }

    /// Guests who have not said who they are have had their time.
    pub(super) fn see_guests_out(&mut self, now: Instant) {
        while let Some((oldest, until)) = self.guests.front().copied() {
            match until {
                Some(until) if until <= now => self.destroy(oldest),
                Some(_) => return,
                None => {
                    // Came before anybody told the time.
                    self.guests.iter_mut().for_each(|(_, until)| {
                        until.get_or_insert(now + GUEST_TIMEOUT);
                    });
                    return;
                }
            }
        }
    }

    /// Takes what a wire has to say.
    pub(super) fn hear(&mut self, key: ConnectionId) {
        loop {
            let Some(it) = self.connections.find_mut(key) else { return };
            let Way::Unconnected { wire: Some(wire), .. } = &mut it.way else { return };
            match wire.progress() {
                None => break,
                Some(Heard::Hello(hello)) => match it.phase {
                    Phase::Guest => {
                        it.asks = Some(Box::new(hello));
                        self.admit();
                    }
                    Phase::Connecting => self.answered(key, &hello),
                    _ => self.end_wire(key, Failure::new("the hello", libc::EPROTO)),
                },
                Some(Heard::Malformed(malformed)) => return self.end_wire(key, stranger(malformed)),
                Some(Heard::Gone(errno)) => return self.gone(key, errno),
            }
        }
        // Where epoll does not take the change, the wire is heard when something else happens.
        let _ = self.watch_wire(key);
    }

    /// The listener's answer.
    fn answered(&mut self, key: ConnectionId, hello: &Hello) {
        let Some(it) = self.connections.find_mut(key) else { return };
        let provider = it.info.as_ref().map(|info| info.provider()).unwrap_or_default();
        if hello.provider != provider {
            let words =
                format!("the listener has the provider `{}`, and this side `{provider}`", hello.provider);
            let remedy = Some(format!("name the same one in both URLs, such as provider={}", hello.provider));
            let failure = Failure { words: Some(words), remedy, ..Failure::new("the hello", libc::EPROTO) };
            return self.end_wire(key, failure);
        }
        match hello.kind {
            HelloKind::No => {
                it.phase = Phase::Over;
                self.events.push_back(Event::Rejected {
                    connection: key,
                    rejection: Rejection::Application,
                    private: hello.private,
                });
            }
            HelloKind::Ask => self.end_wire(key, stranger(Malformed::Field)),
            HelloKind::Yes => {
                if let Some(witness) = hello.witness {
                    let device = it.device.and_then(|device| self.devices.find_mut(device));
                    // Only who was told a witness has one to tell.
                    let Some(device) = device.filter(|device| device.fetches == Some(true)) else {
                        return self.end_wire(key, stranger(Malformed::Field));
                    };
                    match Process::open(witness) {
                        Ok(mut process) => {
                            device.unreadable = 0;
                            Address::from_bytes(&hello.name).iter().for_each(|name| process.shares(name));
                            if let Some(ordered) = &mut it.ordered {
                                ordered.fetch_from(process);
                            }
                        }
                        Err(errno) => {
                            // One may have been killed just now. If it is so again, it is the system that forbids it.
                            device.unreadable += 1;
                            if device.unreadable >= UNREADABLE_MAX {
                                device.fetches = Some(false);
                            }
                            return self.end_wire(key, unreadable(errno));
                        }
                    }
                }
                let name = Address::from_bytes(&hello.name);
                let vector = it.vector.as_mut();
                let endpoint = it.ordered.as_mut().and_then(|ordered| ordered.endpoint());
                let met = match (name, vector, endpoint) {
                    (Some(name), Some(vector), Some(endpoint)) => {
                        vector.insert(&name).map_err(failure).and_then(|peer| {
                            endpoint.set_peer(peer).map_err(|_| Failure::new("fi_av_insert", libc::EINVAL))
                        })
                    }
                    _ => Err(stranger(Malformed::Field)),
                };
                match met {
                    Ok(()) => {
                        if let Way::Unconnected { said, .. } = &mut it.way {
                            *said = hello.private;
                        }
                        self.meeting.push(key);
                    }
                    Err(failure) => self.end_wire(key, failure),
                }
            }
        }
    }

    /// Goes on with those who are about to meet.
    pub(super) fn meet(&mut self) {
        for key in std::mem::take(&mut self.meeting) {
            let Some(it) = self.connections.find_mut(key) else { continue };
            let (Way::Unconnected { said, .. }, Some(ordered)) = (&it.way, &mut it.ordered) else { continue };
            if !matches!(it.phase, Phase::Connecting | Phase::Accepting) {
                continue;
            }
            match ordered.meet(it.phase == Phase::Connecting) {
                Ok(true) => {
                    let said = *said;
                    self.established(key, said);
                }
                Ok(false) => self.meeting.push(key),
                Err(failure) => self.unreachable(key, failure),
            }
        }
    }

    /// The other end of a wire has gone.
    fn gone(&mut self, key: ConnectionId, errno: i32) {
        let Some(it) = self.connections.find_mut(key) else { return };
        match (it.phase, errno) {
            (Phase::Connecting, libc::ECONNREFUSED) => {
                self.end_wire(key, Failure::new("connect", errno));
            }
            (Phase::Connecting, 0 | libc::ECONNRESET | libc::EPIPE) => {
                let words = "whoever listens there hung up without a word".to_owned();
                let remedy = "check the port, and that both URLs name the same provider".to_owned();
                let failure = Failure::new("the hello", libc::ECONNRESET);
                self.end_wire(key, Failure { words: Some(words), remedy: Some(remedy), ..failure });
            }
            (_, errno) => {
                let errno = if errno == 0 { libc::ECONNRESET } else { errno };
                self.end_wire(key, Failure::new("connect", errno));
            }
        }
    }

    /// Nothing more is to be heard of a wire.
    fn end_wire(&mut self, key: ConnectionId, failure: Failure) {
        let Some(it) = self.connections.find_mut(key) else { return };
        if let Way::Unconnected { wire, watched, .. } = &mut it.way {
            (*wire, *watched) = (None, None);
        }
        if it.phase == Phase::Connecting && failure.errno == libc::ECONNREFUSED {
            it.phase = Phase::Over;
            let (rejection, private) = (Rejection::NoListener, PrivateData::EMPTY);
            self.events.push_back(Event::Rejected { connection: key, rejection, private });
        } else {
            self.unreachable(key, failure);
        }
    }

    /// Has epoll tell what the wire waits for.
    pub(super) fn watch_wire(&mut self, key: ConnectionId) -> Result<(), Failure> {
        let Some(it) = self.connections.find_mut(key) else { return Ok(()) };
        let Way::Unconnected { wire: Some(wire), watched, .. } = &mut it.way else { return Ok(()) };
        let out = if wire.wants_to_write() { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let flags = epoll::EventFlags::IN | out;
        let token = epoll::EventData::new_u64(SlabKey::from(key).to_u64());
        let result = match *watched {
            Some(before) if before == flags => return Ok(()),
            Some(_) => epoll::modify(&self.epoll, wire.fd(), token, flags),
            None => epoll::add(&self.epoll, wire.fd(), token, flags),
        };
        *watched = Some(flags);
        result.map_err(epoll_failure)
    }
}

/// Whoever is at the other end speaks something else.
fn stranger(malformed: Malformed) -> Failure {
    let (words, remedy) = match malformed {
        Malformed::NotOurs => ("whoever is there speaks another protocol".to_owned(), REMEDY),
        Malformed::Version(version) => {
            (format!("the peer speaks version {version} of the hello"), "use releases that agree")
        }
        Malformed::Field => ("the peer's hello makes no sense".to_owned(), "use releases that agree"),
    };
    Failure { words: Some(words), remedy: Some(remedy.to_owned()), ..Failure::new("the hello", libc::EPROTO) }
}

/// The listener can read from us, but we cannot read from it.
fn unreadable(errno: i32) -> Failure {
    let words =
        "the listener's memory cannot be read; if that is so again, the next attempt goes without".to_owned();
    let remedy =
        "for long parts to be faster: the same user, the same PID namespace, and kernel.yama.ptrace_scope=0";
    Failure { words: Some(words), remedy: Some(remedy.to_owned()), ..Failure::new("process_vm_readv", errno) }
}

const REMEDY: &str = "check the port, and that both URLs name the same provider";
