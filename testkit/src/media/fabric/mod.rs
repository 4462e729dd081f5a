//! `simfabric://`: a small RDMA-like fabric as a transport. Not verbs, but with what makes verbs hard: registered
//! memory, posted receives, credit, rendezvous by READ, completions that overflow, queue pairs that flush.
//!
//! Small parts share eager packets, which are copied in and out of bounce slots of the driver's own. A registered
//! frame from [`RENDEZVOUS_MIN`](super::limits::RENDEZVOUS_MIN) bytes up is read by the peer straight into a slot of
//! its receive pool, and is pinned here until the peer says FIN. Credit counts posted buffers and never exceeds
//! them, so a receiver is always ready, unless [`Faults`] make drivers ignore it.

mod device;
mod link;
mod packet;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use transport_core::{
    Armed, Capabilities, Close, Completion, Delivery, DownReason, Driver, DriverEnv, Endpoint, Flow,
    FramePool, Grant, LinkId, MemoryDomain, Open, OpenError, OpenId, Part, Progress, Refused, RefusedReason,
    Role, SessionKind, Slab, Topology, Transport,
};

use super::kit::{HostId, News, Shared, earlier, read_address, real_address};
use super::limits::{BOUNCE_BUDGET, FABRIC_LINKS_MAX};
use crate::subject::Subject;
use device::{DeviceEvent, DeviceKey, Domain, Net, QpKey};
use link::{Desk, Link, Phase};
use packet::Greeting;

pub use device::{FabricCount, Faults};

const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const ENODEV: i32 = 19;
const ECONNREFUSED: i32 = 111;

/// A fabric world. Clones share it.
#[derive(Debug, Clone)]
pub struct Fabric {
    net: Shared<Net>,
}

impl Fabric {
    /// One without faults. Latency 2 us.
    pub fn new(seed: u64) -> Self {
        Self { net: Shared::new(Net::new(seed)) }
    }
    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.net.hold().faults = faults;
    }
    /// What has happened so far.
    pub fn count(&self) -> FabricCount {
        self.net.hold().count
    }
    /// Bounce slots that drivers have out at the moment, posted or spare.
    pub fn bounce_slots(&self) -> usize {
        self.net.hold().bounce_slots()
    }
    /// Frames that some peer may read at the moment.
    pub fn exposed_frames(&self) -> usize {
        self.net.hold().exposed_frames()
    }
}

impl Transport for Fabric {
    fn schemes(&self) -> &'static [&'static str] {
        &["simfabric"]
    }

    fn capabilities(&self, endpoint: &Endpoint, _flow: Flow) -> Result<Capabilities, OpenError> {
        read_address(endpoint, true)?;
        Ok(Capabilities {
            delivery: Delivery::Reliable,
            flow: Flow::Duplex,
            pushback: true,
            topology: Topology::Unicast,
            session: SessionKind::Zmtp,
        })
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let (domain, bounce) = (Arc::new(Domain::new()), FramePool::new(BOUNCE_BUDGET));
        let mut net = self.net.hold();
        let host = net.hosts.join(env.wake.clone());
        let device = net.add_device(host, domain.clone(), bounce.clone());
        Ok(Box::new(FabricDriver {
            net: self.net.clone(),
            host,
            device,
            domain,
            bounce,
            env,
            opens: Slab::new(),
            links: Slab::new(),
            by_qp: BTreeMap::new(),
            news: News::default(),
            turn: 0,
            order: Vec::new(),
            unfinished: false,
        }))
    }
}

impl Subject for Fabric {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }
    fn fresh(&self) -> Endpoint {
        fixed_endpoint("simfabric://localhost:*")
    }
    fn nobody(&self) -> Option<Endpoint> {
        Some(fixed_endpoint("simfabric://localhost:1"))
    }
    fn real_time(&self) -> bool {
        false
    }
}

fn fixed_endpoint(url: &str) -> Endpoint {
    Endpoint::parse(url).expect("a literal URL")
}

#[derive(Debug)]
struct FabricDriver {
    net: Shared<Net>,
    host: HostId,
    device: DeviceKey,
    domain: Arc<dyn MemoryDomain>,
    /// The driver's own memory: packets, and targets of READs that have no better one. Never lent.
    bounce: FramePool,
    env: DriverEnv,
    opens: Slab<OpenId, Opened>,
    links: Slab<LinkId, Link>,
    by_qp: BTreeMap<QpKey, LinkId>,
    news: News,
    /// Where the next poll starts among the links, so that no link starves under a small budget.
    turn: usize,
    /// Kept between polls, so that a warm poll allocates nothing.
    order: Vec<LinkId>,
    unfinished: bool,
}

#[derive(Debug)]
struct Opened {
    request: Open,
    /// The port of a listener.
    port: Option<u16>,
}

macro_rules! desk {
    ($driver:ident, $net:ident) => {
        &mut Desk {
            net: &mut $net,
            device: $driver.device,
            domain: &$driver.domain,
            bounce: &$driver.bounce,
            receive_pool: &$driver.env.receive_pool,
            news: &mut $driver.news,
        }
    };
}

impl FabricDriver {
    /// A link with its receive queue filled; `None` when there is no place or memory for one.
    fn add_link(&mut self, open: OpenId, role: Role, peer: String) -> Option<LinkId> {
        let limits = self.opens.find(open)?.request.limits;
        if self.links.len() >= FABRIC_LINKS_MAX {
            return None;
        }
        let mut net = self.net.hold();
        let qp = net.create_qp(self.device);
        let id = self.links.insert_with(|id| Link::new(id, open, role, qp, peer, limits));
        let posted = self.links.find_mut(id).and_then(|link| link.post_receives(desk!(self, net)));
        if posted.is_none() {
            net.destroy(qp);
            self.links.remove(id);
            return None;
        }
        self.by_qp.insert(qp, id);
        Some(id)
    }

    /// Forgets a link of which nobody above has heard.
    fn drop_silently(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.remove(id)?;
        self.by_qp.remove(&link.qp);
        self.net.hold().destroy(link.qp);
        Some(link)
    }

    fn refuse(&mut self, id: LinkId, reason: DownReason, why: &str, errno: i32) {
        let Some(link) = self.drop_silently(id) else { return };
        let open = link.open;
        match link.role {
            Role::Connect => {
                let Some(opened) = self.opens.remove(open) else { return };
                let (endpoint, why) = (opened.request.endpoint, why.to_owned());
                let error = OpenError::Unreachable { endpoint, why, errno };
                self.news.say(Completion::Failed { open, error });
            }
            Role::Bind if self.opens.find(open).is_some() => self.news.say(Completion::Progress {
                open,
                progress: Progress::HandshakeFailed { peer: link.peer, reason },
            }),
            Role::Bind => {}
        }
    }

    fn tend_completions(&mut self) {
        let mut net = self.net.hold();
        while let Some(completed) = net.poll_cq(self.device) {
            // Of a queue pair that was destroyed: only its buffer matters, and that goes home by itself.
            let Some(id) = self.by_qp.get(&completed.qp) else { continue };
            if let Some(link) = self.links.find_mut(*id) {
                link.completed(completed.status, completed.work, desk!(self, net));
                if link.was_up && link.role == Role::Connect {
                    self.opens.remove(link.open);
                }
            }
        }
    }

    fn tend_events(&mut self) {
        loop {
            let event = self.net.hold().take_event(self.device);
            let Some(event) = event else { return };
            match event {
                DeviceEvent::Request { open, from, private } => self.answer(open, from, &private),
                DeviceEvent::Established { qp, private } => {
                    let Some(id) = self.by_qp.get(&qp).copied() else { continue };
                    let Some(link) = self.links.find_mut(id) else { continue };
                    match Greeting::decode(&private) {
                        Ok(greeting) => {
                            let (open, progress) = (link.open, Progress::Connected { fd: -1 });
                            self.news.say(Completion::Progress { open, progress });
                            link.meet(greeting);
                            link.come_up(&mut self.news);
                            self.opens.remove(open);
                        }
                        Err(violation) => self.refuse(id, violation.into(), "not a peer of ours", 0),
                    }
                }
                DeviceEvent::Rejected { qp } => {
                    if let Some(id) = self.by_qp.get(&qp).copied() {
                        let reason = DownReason::Broken(ECONNREFUSED);
                        self.refuse(id, reason, "connection refused", ECONNREFUSED);
                    }
                }
                DeviceEvent::Ready { qp } => {
                    let id = self.by_qp.get(&qp).copied();
                    if let Some(link) = id.and_then(|id| self.links.find_mut(id)) {
                        link.come_up(&mut self.news);
                    }
                }
                DeviceEvent::Disconnected { qp } => {
                    let id = self.by_qp.get(&qp).copied();
                    if let Some(link) = id.and_then(|id| self.links.find_mut(id)) {
                        link.peer_left();
                    }
                }
                DeviceEvent::CqOverflow => self.links.iter_mut().for_each(|(_, link)| link.lose_device(EIO)),
                DeviceEvent::Gone => {
                    self.links.iter_mut().for_each(|(_, link)| link.lose_device(ENODEV));
                    for open in self.opens.keys() {
                        if self.opens.find(open).is_some_and(|opened| opened.port.is_some()) {
                            // The seam has no word for a listener that is lost after Bound.
                            let progress = Progress::AcceptFailed(ENODEV);
                            self.news.say(Completion::Progress { open, progress });
                        }
                    }
                }
            }
        }
    }

    fn answer(&mut self, open: OpenId, from: QpKey, private: &device::PrivateData) {
        let peer = format!("simfabric://localhost#{}", from.index());
        let hello = self.opens.find(open).map(|opened| opened.request.hello);
        let (Some(hello), Ok(greeting)) = (hello, Greeting::decode(private)) else {
            return self.net.hold().reject(from);
        };
        let progress = Progress::Accepted { peer: peer.clone(), fd: -1 };
        self.news.say(Completion::Progress { open, progress });
        let Some(id) = self.add_link(open, Role::Bind, peer) else {
            self.news.say(Completion::Progress { open, progress: Progress::AcceptFailed(ENOMEM) });
            return self.net.hold().reject(from);
        };
        if let Some(link) = self.links.find_mut(id) {
            link.meet(greeting);
            self.net.hold().accept(from, link.qp, Greeting::ours(hello).encode());
        }
    }

    /// Runs one link as far as the budget goes. Returns whether it stopped for want of budget.
    fn tend_link(&mut self, id: LinkId, now: Instant, limit: usize) -> bool {
        let mut net = self.net.hold();
        let Some(link) = self.links.find_mut(id) else { return false };
        let mut stopped = false;
        match &mut link.phase {
            Phase::Asking { until } => {
                let timeout = link.limits.handshake_timeout;
                if until.is_none() && !timeout.is_zero() {
                    *until = Some(now + timeout);
                }
                if until.is_some_and(|until| now >= until) {
                    link.die(DownReason::TimedOut, &mut net);
                } else if link.has_lost_peer() {
                    link.die(DownReason::ClosedByPeer, &mut net);
                }
            }
            Phase::Up | Phase::Draining { .. } => {
                let desk = desk!(self, net);
                stopped = link.deliver(desk, limit);
                if !matches!(link.phase, Phase::Dying(_)) {
                    link.pump(desk);
                    link.report(desk);
                    if !stopped {
                        link.judge(now, desk.net);
                    }
                }
            }
            Phase::Dying(_) => {}
        }
        let Phase::Dying(reason) = link.phase else { return stopped };
        if !link.was_up {
            drop(net);
            self.refuse(id, reason, &reason.to_string(), 0);
        } else if link.is_drained()
            && let Some(link) = self.links.remove(id)
        {
            self.by_qp.remove(&link.qp);
            link.bury(reason, desk!(self, net));
        }
        false
    }
}

impl Driver for FabricDriver {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        let port = read_address(&request.endpoint, request.role == Role::Bind)?;
        let endpoint = request.endpoint.clone();
        let system = |why: &str, errno| OpenError::System {
            endpoint: request.endpoint.clone(),
            why: why.to_owned(),
            errno,
        };
        if self.net.hold().is_gone(self.device) {
            return Err(system("the device is gone; plug it in and open again", ENODEV));
        }
        let (role, hello) = (request.role, request.hello);
        let no_place = system("no place or memory for another link; close some", ENOMEM);
        let open = self.opens.insert(Opened { request, port: None });
        match role {
            Role::Bind => {
                let bound = self.net.hold().listen(self.device, open, port);
                let Some(opened) = self.opens.find_mut(open).filter(|_| bound.is_some()) else {
                    self.opens.remove(open);
                    return Err(OpenError::AddressInUse(endpoint));
                };
                opened.port = bound;
                let endpoint = real_address(&endpoint, bound.unwrap_or_default());
                self.news.say(Completion::Bound { open, endpoint });
            }
            Role::Connect => {
                let peer = endpoint.as_str().to_owned();
                let Some(id) = self.add_link(open, role, peer) else {
                    self.opens.remove(open);
                    return Err(no_place);
                };
                self.news.say(Completion::Progress { open, progress: Progress::Dialling });
                if let Some(link) = self.links.find(id) {
                    let private = Greeting::ours(hello).encode();
                    self.net.hold().ask(link.qp, port.unwrap_or_default(), private);
                }
            }
        }
        self.net.hold().hosts.poke(self.host);
        Ok(open)
    }

    fn close_open(&mut self, open: OpenId) {
        let unheard = self.news.forget_open(open);
        if let Some(Opened { port: Some(port), .. }) = self.opens.remove(open) {
            self.net.hold().unlisten(port);
        }
        for id in self.links.keys() {
            let link = self.links.find(id).filter(|link| link.open == open);
            if link.is_some_and(|link| !link.was_up || unheard.contains(&id)) {
                self.drop_silently(id);
            }
        }
    }

    fn close_link(&mut self, link: LinkId, how: Close) {
        let mut net = self.net.hold();
        let Some(it) = self.links.find_mut(link).filter(|link| link.was_up) else { return };
        match how {
            Close::Abort => it.die(DownReason::ClosedHere, &mut net),
            Close::Drain { until } => {
                let until = match it.phase {
                    Phase::Dying(_) => return,
                    Phase::Draining { until: before } => earlier(before, until),
                    _ => until,
                };
                it.phase = Phase::Draining { until };
                it.outbox.release();
            }
        }
        net.hosts.poke(self.host);
    }

    fn room(&self, link: LinkId) -> usize {
        self.links.find(link).filter(|link| link.phase == Phase::Up).map_or(0, |link| link.outbox.room())
    }

    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        match self.links.find_mut(link).filter(|link| link.phase == Phase::Up) {
            Some(link) => link.outbox.post(part),
            None => Err(Refused { part, reason: RefusedReason::Closed }),
        }
    }

    fn flush(&mut self) {
        let mut net = self.net.hold();
        for (_, link) in self.links.iter_mut().filter(|(_, link)| link.phase == Phase::Up) {
            link.outbox.release();
            link.pump(desk!(self, net));
        }
    }

    fn grant(&mut self, link: LinkId, grant: Grant) {
        if let Some(link) = self.links.find_mut(link) {
            link.allowance.set(grant);
            self.net.hold().hosts.poke(self.host);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        let until = out.len() + budget.max(1);
        let now = {
            let mut net = self.net.hold();
            net.advance(now);
            net.hosts.settle(self.host);
            net.now().unwrap_or(now)
        };
        self.unfinished = true;
        self.news.hand_over(out, until);
        if !self.news.is_empty() {
            return;
        }
        self.tend_completions();
        self.tend_events();
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(self.links.iter().map(|(id, _)| id));
        if !order.is_empty() {
            self.turn = (self.turn + 1) % order.len();
            order.rotate_left(self.turn);
        }
        let (mut stopped, limit) = (false, until - out.len());
        for &id in &order {
            stopped |= self.tend_link(id, now, limit);
        }
        self.order = order;
        self.news.hand_over(out, until);
        self.unfinished = stopped || !self.news.is_empty();
    }

    fn deadline(&self) -> Option<Instant> {
        let net = self.net.hold();
        if self.unfinished || net.hosts.is_poked(self.host) {
            return net.now();
        }
        let links = self.links.iter().filter_map(|(_, link)| match link.phase {
            Phase::Asking { until } | Phase::Draining { until } => until,
            Phase::Up | Phase::Dying(_) => None,
        });
        links.chain(net.next_at()).min()
    }

    fn arm(&mut self) -> Armed {
        let poked = self.net.hold().hosts.is_poked(self.host);
        if poked || self.unfinished { Armed::Busy } else { Armed::Ready }
    }

    fn wake_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

impl Drop for FabricDriver {
    fn drop(&mut self) {
        self.net.hold().remove_device(self.device);
    }
}
