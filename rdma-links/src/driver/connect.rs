//! How opens become listeners and links: names, addresses, requests, answers, and what went wrong with them. Moves no
//! parts.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hosts::{Answer, Host, Names, Place, Question, Resolved};
use packet_protocol::limits::PACKET_LEN_MIN;
use packet_protocol::{Features, Offer, Refusal, RefusalCode, Reserve};
use transport_core::{
    Completion, DownReason, Endpoint, Hello, LinkId, LinkLimits, Open, OpenError, OpenId, PeerInfo, Progress,
    Role,
};

use super::detour::Detours;
use super::link::{Link, Receives, State};
use super::{Device, Owner, RdmaDriver, real};
use crate::address::{Address, Options};
use crate::fabric::{
    self, ConnectionId, DeviceId, Dial, Fabric, Failure, ListenerId, PrivateData, QueueShape, Rejection,
};
use crate::limits::{
    BEHIND, GATHER_MAX, INLINE_MAX, LINKS_MAX, LISTEN_AGAIN_AFTER, OWN_QUEUES_MAX, RECEIVES_FIRST,
    RESOLVE_TIMEOUT, RETRY_COUNT, SHARED_GATHER, SHARED_INLINE, SHARED_PACKET_LEN, SHARED_SENDS,
};

/// One bind or dial.
#[derive(Debug)]
pub(super) struct Opened<O> {
    endpoint: Endpoint,
    hello: Hello,
    limits: LinkLimits,
    backlog: u32,
    options: Options<O>,
    pub(super) stage: Stage,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The names' thread has it.
    Naming(Role),
    /// At this address.
    Listening(ListenerId, SocketAddr),
    /// The listener's device is gone. To be tried again at this address, at this time.
    Deaf(SocketAddr, Instant),
    /// The fabric looks for a device and a route; these addresses are left to try, the last one first.
    Resolving { connection: ConnectionId, peer: SocketAddr, next: Vec<SocketAddr>, from: Option<SocketAddr> },
    /// A link stands for it.
    Linked,
}

/// What a link needs before it can be asked for or accepted.
struct Prepared {
    device: DeviceId,
    limits: fabric::QueueLimits,
    receives: Receives,
    offer: Offer,
    seat: packet_protocol::Seat,
}

impl<F: Fabric> RdmaDriver<F> {
    // ---- opens ----

    pub(super) fn start(&mut self, request: Open) -> Result<OpenId, OpenError> {
        let Open { endpoint, role, hello, limits, tuning, .. } = request;
        let address = Address::parse(&endpoint)?;
        let (target, source, options) = match role {
            Role::Bind => address.listen(&endpoint).map(|(place, options)| (place, None, options))?,
            Role::Connect => address.dial(&endpoint)?,
        };
        let backlog = tuning.backlog;
        let stage = Stage::Naming(role);
        let open = self.opens.insert(Opened { endpoint, hello, limits, backlog, options, stage });
        if role == Role::Connect {
            self.unsettled += 1;
            self.news.push_back(Completion::Progress { open, progress: Progress::Dialling });
        }
        let ipv6 = tuning.ipv6;
        let number = |place: &Place| place.numeric(ipv6);
        match (role, number(&target), source.as_ref().map(number)) {
            (Role::Bind, Some(Ok(address)), _) => self.listen(open, address),
            (Role::Connect, Some(Ok(address)), None) => self.dial(open, vec![address], None),
            (Role::Connect, Some(Ok(address)), Some(Some(Ok(from)))) => {
                let any = source.is_some_and(|source| source.host == Host::Any);
                self.dial(open, vec![address], (!any).then_some(from));
            }
            (_, Some(Err(error)), _) | (_, _, Some(Some(Err(error)))) => {
                self.fail_unreachable(open, error.to_string(), error.raw_os_error());
            }
            _ => self.ask(Question { open, target, source, ipv6, here: role == Role::Bind }),
        }
        Ok(open)
    }

    fn ask(&mut self, question: Question) {
        let open = question.open;
        if self.names.is_none() {
            match Names::start(Arc::clone(&self.env.wake)) {
                Ok(names) => self.names = Some(names),
                Err(error) => {
                    let why = format!("cannot start the name resolver: {error}");
                    return self.fail_system(open, why, error.raw_os_error());
                }
            }
        }
        if !self.names.as_ref().is_some_and(|names| names.ask(question)) {
            let why = "too many names wait to be resolved; try again later".to_owned();
            self.fail_system(open, why, libc::EAGAIN);
        }
    }

    pub(super) fn take_answers(&mut self) {
        if let Some(names) = &self.names {
            names.hush();
        }
        while let Some(Answer { open, result }) = self.names.as_ref().and_then(Names::answer) {
            let Some(Stage::Naming(role)) = self.opens.find(open).map(|opened| &opened.stage) else {
                continue;
            };
            match (*role, result) {
                (Role::Bind, Ok(Resolved { targets, .. })) => match targets.first() {
                    Some(address) => self.listen(open, *address),
                    None => self.fail_unreachable(open, "the name has no address".to_owned(), 0),
                },
                (Role::Connect, Ok(Resolved { mut targets, sources })) => {
                    targets.reverse();
                    self.dial(open, targets, sources.first().copied());
                }
                (_, Err(why)) => self.fail_unreachable(open, why, 0),
            }
        }
    }

    fn listen(&mut self, open: OpenId, at: SocketAddr) {
        let Some(opened) = self.opens.find_mut(open) else { return };
        let endpoint = opened.endpoint.clone();
        match self.fabric.listen(at, opened.backlog, &opened.options.own) {
            Ok((listener, address)) => {
                opened.stage = Stage::Listening(listener, address);
                self.listeners.push((listener, open));
                let endpoint = real(&endpoint, address, &self.fabric.query(listener));
                self.news.push_back(Completion::Bound { open, endpoint });
            }
            Err(Failure { errno: libc::EADDRINUSE, .. }) => {
                self.fail(open, OpenError::AddressInUse(endpoint))
            }
            Err(Failure { errno: libc::EADDRNOTAVAIL, .. }) => {
                self.fail(open, OpenError::AddressNotAvailable(endpoint));
            }
            Err(failure) => {
                let (mut why, errno) = (self.text(&failure), failure.errno);
                if errno == libc::EACCES && (1..1024).contains(&at.port()) {
                    why.push_str("; ports below 1024 need the capability CAP_NET_BIND_SERVICE");
                }
                self.fail(open, OpenError::System { endpoint, why, errno });
            }
        }
    }

    /// Dials the last of `addresses`; the others are for when that comes to nothing.
    fn dial(&mut self, open: OpenId, mut addresses: Vec<SocketAddr>, from: Option<SocketAddr>) {
        let Some(opened) = self.opens.find_mut(open) else { return };
        let timeout = opened.limits.connect_timeout;
        let timeout = if timeout.is_zero() { RESOLVE_TIMEOUT } else { timeout };
        loop {
            let Some(to) = addresses.pop() else {
                return self.fail_unreachable(open, "the name has no address".to_owned(), 0);
            };
            let dial = Dial { to, from, timeout };
            match self.fabric.dial(&dial, &opened.options.own) {
                Ok(connection) => {
                    opened.stage = Stage::Resolving { connection, peer: to, next: addresses, from };
                    return self.own(connection, Owner::Open(open));
                }
                Err(_) if !addresses.is_empty() => {}
                Err(failure) => {
                    let (why, errno) = (self.text(&failure), failure.errno);
                    return self.fail_unreachable(open, why, errno);
                }
            }
        }
    }

    pub(super) fn forget_open(&mut self, open: OpenId) {
        let Some(opened) = self.opens.remove(open) else { return };
        match opened.stage {
            Stage::Listening(listener, _) => {
                self.listeners.retain(|(known, _)| *known != listener);
                self.fabric.unlisten(listener);
            }
            Stage::Resolving { connection, .. } => {
                self.unsettled -= 1;
                self.disown(connection);
                self.fabric.destroy(connection);
            }
            Stage::Naming(Role::Connect) => self.unsettled -= 1,
            Stage::Deaf(..) => self.deaf -= 1,
            Stage::Naming(Role::Bind) | Stage::Linked => {}
        }
    }

    /// A listener goes with its device. The bind stands, and listens again once it can.
    pub(super) fn lose_listener(&mut self, listener: ListenerId) {
        self.fabric.unlisten(listener);
        let Some(at) = self.listeners.iter().position(|(known, _)| *known == listener) else { return };
        let (_, open) = self.listeners.swap_remove(at);
        let Some(opened) = self.opens.find_mut(open) else { return };
        // Events are taken by a poll, which has said what time it is.
        if let (Stage::Listening(_, address), Some(now)) = (&opened.stage, self.now) {
            opened.stage = Stage::Deaf(*address, now + LISTEN_AGAIN_AFTER);
            self.deaf += 1;
        }
        // The seam has no word for a listener that is lost after Bound.
        self.news.push_back(Completion::Progress { open, progress: Progress::AcceptFailed(libc::ENODEV) });
    }

    pub(super) fn listen_again(&mut self, now: Instant) {
        if self.deaf == 0 {
            return;
        }
        for (open, opened) in self.opens.iter_mut() {
            let Stage::Deaf(at, due) = opened.stage else { continue };
            if due > now {
                continue;
            }
            match self.fabric.listen(at, opened.backlog, &opened.options.own) {
                Ok((listener, address)) => {
                    opened.stage = Stage::Listening(listener, address);
                    self.listeners.push((listener, open));
                    self.deaf -= 1;
                }
                Err(_) => opened.stage = Stage::Deaf(at, now + LISTEN_AGAIN_AFTER),
            }
        }
    }

    /// When to try to listen again.
    pub(super) fn listen_again_at(&self) -> Option<Instant> {
        let due = |opened: &Opened<F::Options>| {
            if let Stage::Deaf(_, due) = opened.stage { Some(due) } else { None }
        };
        if self.deaf == 0 { None } else { self.opens.iter().filter_map(|(_, opened)| due(opened)).min() }
    }

    /// What failed, and what to do about it as far as anybody knows.
    fn text(&self, failure: &Failure) -> String {
        match self.fabric.remedy(failure.errno).filter(|_| failure.remedy.is_none()) {
            Some(remedy) => format!("{failure}; {remedy}"),
            None => failure.to_string(),
        }
    }

    fn fail(&mut self, open: OpenId, error: OpenError) {
        self.forget_open(open);
        self.news.push_back(Completion::Failed { open, error });
    }

    fn fail_unreachable(&mut self, open: OpenId, why: String, errno: i32) {
        let Some(opened) = self.opens.find(open) else { return };
        let endpoint = opened.endpoint.clone();
        self.fail(open, OpenError::Unreachable { endpoint, why, errno });
    }

    fn fail_system(&mut self, open: OpenId, why: String, errno: i32) {
        let Some(opened) = self.opens.find(open) else { return };
        let endpoint = opened.endpoint.clone();
        self.fail(open, OpenError::System { endpoint, why, errno });
    }

    // ---- links that come up ----

    /// A device is in use from now on.
    fn meet(&mut self, id: DeviceId) -> Result<&mut Device, Failure> {
        let at = match self.devices.iter().position(|device| device.id == id) {
            Some(at) => at,
            None => {
                let gone = || Failure::new("the device is gone", libc::ENODEV);
                let info = self.fabric.device(id).ok_or_else(gone)?.clone();
                let memory = self.fabric.memory(id).ok_or_else(gone)?.clone();
                self.devices.push(Device::new(id, info, memory, self.packets.clone()));
                self.devices.len() - 1
            }
        };
        Ok(&mut self.devices[at])
    }

    /// Makes the queue pair of a connection, with its receive buffers posted, and an offer that counts on them.
    fn prepare(
        &mut self,
        connection: ConnectionId,
        device: DeviceId,
        hello: Hello,
        options: &Options<F::Options>,
    ) -> Result<Prepared, Failure> {
        if self.links.len() >= LINKS_MAX {
            return Err(Failure::new("too many links", libc::EMFILE));
        }
        let remedy = self.fabric.remedy(libc::ENOMEM);
        let no_memory =
            || Failure { remedy: remedy.clone(), ..Failure::new("no memory for packets", libc::ENOMEM) };
        self.meet(device)?;
        let Some(it) = self.devices.iter_mut().find(|known| known.id == device) else {
            return Err(Failure::new("the device is gone", libc::ENODEV));
        };
        let own = it.own_queues < OWN_QUEUES_MAX || it.info.shared_receives_max == 0;
        let packet_max =
            (it.info.packet_max & !7).max(PACKET_LEN_MIN).min(options.packet_len as usize) as u32;
        let packet_len = if own { packet_max } else { packet_max.min(SHARED_PACKET_LEN) };
        let reads = it.info.initiator_depth_max.min(it.info.responder_resources_max);
        let reads = reads.min(self.fabric.reads_max(connection));
        let base = Offer::new(hello);
        let offer = Offer { packet_len, reads: reads.min(base.reads), features: Features::NONE, ..base };
        if !it.expect_packets(packet_len as usize) {
            return Err(no_memory());
        }
        let receives_max = options.receives.min(it.info.work_requests_max as u32);
        let sends = options.sends.min(it.info.work_requests_max as u32);
        let shape = if own {
            let receives = fabric::Receives::Own(receives_max);
            QueueShape { sends, receives, gather: GATHER_MAX as u32, inline: INLINE_MAX as u32 }
        } else {
            // Where links are many, what each of them has for itself is what they cost.
            let (sends, gather) = (sends.min(SHARED_SENDS), SHARED_GATHER as u32);
            QueueShape { sends, receives: fabric::Receives::Shared, gather, inline: SHARED_INLINE as u32 }
        };
        let reserve = if own { Reserve::new() } else { it.share_receives(&mut self.fabric)? };
        let limits = self.fabric.create_queue(connection, &shape)?;
        let receives = if own {
            let most = receives_max.min(limits.receives as u32);
            let count = RECEIVES_FIRST.min(most);
            if it.prepare_receives(count, packet_len as usize) < count {
                it.receiving.clear();
                return Err(no_memory());
            }
            let posted = self.fabric.post_receives(connection, &mut it.receiving);
            it.receiving.clear();
            posted?;
            reserve.add(count);
            Receives::Own(reserve.clone(), count, most)
        } else {
            Receives::Shared
        };
        let seat = match reserve.seat(&offer) {
            Some(seat) => seat,
            None => {
                // The shared queue has to grow by what one link needs.
                let needed = u32::from(offer.data_credits) + u32::from(offer.control_credits);
                it.grow_shared(&mut self.fabric, needed)?;
                reserve.seat(&offer).ok_or_else(no_memory)?
            }
        };
        if !it.reserve_sending() {
            return Err(no_memory());
        }
        it.own_queues += usize::from(own);
        Ok(Prepared { device, limits, receives, offer, seat })
    }

    fn add_link(
        &mut self,
        open: OpenId,
        role: Role,
        peer: SocketAddr,
        connection: ConnectionId,
        prepared: Prepared,
    ) -> LinkId {
        let Prepared { device, limits, receives, offer, seat } = prepared;
        let id = self.links.insert(Link {
            connection,
            device,
            open,
            role,
            peer: peer.to_string(),
            state: State::Coming,
            since: self.now,
            deadline: None,
            queued: false,
            dirty: false,
            receives,
            limits,
            ours: offer,
            seat: Some(seat),
            machine: None,
            asked_after: Cell::new(self.polls.wrapping_sub(1)),
            detours: Detours::default(),
            waits: false,
        });
        self.own(connection, Owner::Link(id));
        let timeout = self.opens.find(open).map(|opened| opened.limits.handshake_timeout);
        if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
            self.set_deadline(id, self.now.and_then(|now| now.checked_add(timeout)));
        }
        id
    }

    pub(super) fn resolved(&mut self, connection: ConnectionId, device: DeviceId) {
        let Some(Owner::Open(open)) = self.owner(connection) else { return };
        let Some(opened) = self.opens.find_mut(open) else { return };
        let Stage::Resolving { peer, .. } = opened.stage else { return };
        let (hello, options) = (opened.hello, opened.options.clone());
        let asked = self.prepare(connection, device, hello, &options).and_then(|prepared| {
            let private = PrivateData::new(&prepared.offer.encode());
            self.fabric.connect(connection, &private, &terms(&prepared.offer, u8::MAX))?;
            Ok(prepared)
        });
        match asked {
            Ok(prepared) => {
                if let Some(opened) = self.opens.find_mut(open) {
                    opened.stage = Stage::Linked;
                }
                self.add_link(open, Role::Connect, peer, connection, prepared);
            }
            Err(failure) => self.fail_system(open, failure.to_string(), failure.errno),
        }
    }

    /// A peer asks at a listener.
    pub(super) fn answer(
        &mut self,
        listener: ListenerId,
        connection: ConnectionId,
        device: DeviceId,
        peer: SocketAddr,
        private: &PrivateData,
        wanted_reads: u8,
    ) {
        let refuse = |refusal: Refusal| PrivateData::new(&refusal.encode());
        let open = self.listeners.iter().find(|(known, _)| *known == listener).map(|(_, open)| *open);
        let Some((open, opened)) = open.and_then(|open| Some((open, self.opens.find(open)?))) else {
            return self.fabric.destroy(connection);
        };
        let (hello, options, part_max) = (opened.hello, opened.options.clone(), opened.limits.part_max);
        let progress = Progress::Accepted { peer: peer.to_string(), fd: -1 };
        self.news.push_back(Completion::Progress { open, progress });
        let theirs = match Offer::decode(private) {
            Ok(theirs) => theirs,
            Err(error) => {
                let reason = transport_core::Violation::from(error).into();
                let progress = Progress::HandshakeFailed { peer: peer.to_string(), reason };
                self.news.push_back(Completion::Progress { open, progress });
                return self.fabric.reject(connection, &refuse(Refusal::of(error)));
            }
        };
        let answered = self.prepare(connection, device, hello, &options).and_then(|prepared| {
            let private = PrivateData::new(&prepared.offer.encode());
            self.fabric.accept(connection, &private, &terms(&prepared.offer, wanted_reads))?;
            Ok(prepared)
        });
        match answered {
            Ok(prepared) => {
                self.unsettled += 1;
                let id = self.add_link(open, Role::Bind, peer, connection, prepared);
                if let Some(link) = self.links.find_mut(id) {
                    link.agree(&theirs, part_max);
                }
            }
            Err(failure) => {
                let progress = Progress::AcceptFailed(failure.errno);
                self.news.push_back(Completion::Progress { open, progress });
                self.fabric.reject(connection, &refuse(Refusal::new(RefusalCode::NoResources)));
            }
        }
    }

    pub(super) fn established(&mut self, connection: ConnectionId, private: &PrivateData) {
        let Some(id) = self.link_of(connection) else { return };
        let Some(link) = self.links.find_mut(id) else { return };
        if link.role == Role::Connect && link.machine.is_none() {
            let theirs = match Offer::decode(private) {
                Ok(theirs) => theirs,
                Err(error) => {
                    let reason = transport_core::Violation::from(error).into();
                    return self.refuse(id, reason, &error.to_string(), 0);
                }
            };
            let part_max = self.opens.find(link.open).and_then(|opened| opened.limits.part_max);
            link.agree(&theirs, part_max);
            let greets = self.devices.iter().any(|device| device.id == link.device && device.info.is_iwarp);
            if let Some(machine) = link.machine.as_mut().filter(|_| greets) {
                machine.greet();
            }
        }
        self.come_up(id);
    }

    /// Says Up, once.
    pub(super) fn come_up(&mut self, id: LinkId) {
        let Some(link) = self.links.find_mut(id).filter(|link| link.state == State::Coming) else { return };
        let Some(machine) = &link.machine else { return };
        let peer = Box::new(PeerInfo {
            hello: machine.terms().hello,
            address: link.peer.clone(),
            identity: None,
            fd: -1,
            hello_took: self.now.zip(link.since).map_or(Duration::ZERO, |(now, since)| now - since),
        });
        let (open, role) = (link.open, link.role);
        link.state = State::Up;
        link.deadline = None;
        self.unsettled -= 1;
        if role == Role::Connect {
            self.news.push_back(Completion::Progress { open, progress: Progress::Connected { fd: -1 } });
            // It dialled once, and that is done.
            self.opens.remove(open);
        }
        self.news.push_back(Completion::Up { link: id, open, peer });
        self.enqueue(id);
    }

    /// A link that never came up is gone, and so is its dial.
    pub(super) fn refuse(&mut self, id: LinkId, reason: DownReason, why: &str, errno: i32) {
        let Some(link) = self.links.find(id).filter(|link| link.state == State::Coming) else { return };
        let (open, role, peer) = (link.open, link.role, link.peer.clone());
        self.drop_silently(id);
        match role {
            // The link was what kept the count of unsettled things; the open has nothing left to take back.
            Role::Connect => self.fail_unreachable(open, why.to_owned(), errno),
            Role::Bind if self.opens.find(open).is_some() => {
                let progress = Progress::HandshakeFailed { peer, reason };
                self.news.push_back(Completion::Progress { open, progress });
            }
            Role::Bind => {}
        }
    }

    /// Forgets a link of which nobody above has heard.
    pub(super) fn drop_silently(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(id) else { return };
        self.disown(link.connection);
        self.fabric.destroy(link.connection);
        self.unsettled -= usize::from(link.state != State::Up);
        if let Some(device) = self.device(link.device) {
            device.own_queues -= usize::from(matches!(link.receives, Receives::Own(..)));
        }
    }

    pub(super) fn rejected(&mut self, connection: ConnectionId, rejection: Rejection, private: &PrivateData) {
        let (why, errno) = match (rejection, Refusal::decode(private)) {
            (Rejection::NoListener, _) => ("connection refused".to_owned(), libc::ECONNREFUSED),
            (_, Some(refusal)) => (refusal_text(&refusal), libc::ECONNREFUSED),
            (Rejection::Application, None) => {
                let why = "whoever listens there is no fabriq peer; check the port";
                (why.to_owned(), libc::ECONNREFUSED)
            }
            (Rejection::Other(code), None) => {
                (format!("the connection manager refused it (reason {code})"), libc::ECONNREFUSED)
            }
        };
        self.come_to_nothing(connection, DownReason::ClosedByPeer, &why, errno);
    }

    pub(super) fn unreachable(&mut self, connection: ConnectionId, failure: &Failure) {
        let (why, errno) = (self.text(failure), failure.errno);
        self.come_to_nothing(connection, DownReason::Broken(errno), &why, errno);
    }

    fn come_to_nothing(&mut self, connection: ConnectionId, reason: DownReason, why: &str, errno: i32) {
        match self.owner(connection) {
            Some(Owner::Link(id)) => self.refuse(id, reason, why, errno),
            Some(Owner::Open(open)) => {
                let Some(opened) = self.opens.find_mut(open) else { return };
                if let Stage::Resolving { next, from, .. } = &mut opened.stage
                    && !next.is_empty()
                {
                    let (next, from) = (std::mem::take(next), *from);
                    self.disown(connection);
                    self.fabric.destroy(connection);
                    return self.dial(open, next, from);
                }
                self.fail_unreachable(open, why.to_owned(), errno);
            }
            None => {}
        }
    }
}

fn terms(offer: &Offer, wanted_reads: u8) -> fabric::Terms {
    fabric::Terms {
        initiator_depth: offer.reads.min(wanted_reads),
        responder_resources: offer.reads,
        retry_count: RETRY_COUNT,
        // Credit sees to it that there is a receive buffer; that there is none would be a bug, and should show.
        receiver_not_ready_retries: 0,
        ack_timeout: None,
    }
}

fn refusal_text(refusal: &Refusal) -> String {
    match refusal.code {
        RefusalCode::Version => format!(
            "the peer speaks versions {} to {} of the packet protocol; use releases that agree",
            refusal.major_min, refusal.major_max
        ),
        RefusalCode::Malformed => "the peer could not read the request; use releases that agree".to_owned(),
        RefusalCode::NoResources => {
            "the peer has no memory or no place for another link; see its log, or close some".to_owned()
        }
        code => format!("the peer refused ({code:?})"),
    }
}

const _: () = assert!(BEHIND >= transport_core::INLINE_MAX);
