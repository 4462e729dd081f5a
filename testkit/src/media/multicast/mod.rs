//! `simcast://`: a lossy multicast datagram medium as a transport. Reports what is missing and repairs nothing; not
//! PGM, but what a PGM driver looks like from above.
//!
//! A sender's link stands for all receivers. A receiver gets a link per source, at most as many as the medium is
//! told, so that parts of two sources never mix. Loss is reported in packets, exactly; messages that were dropped
//! here, because nothing granted them and [`SOURCE_PARTS_MAX`](super::limits::SOURCE_PARTS_MAX) were held already,
//! in messages, exactly. A message of which a packet is missing is dropped whole.

mod air;
mod packet;
mod sender;
mod source;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use transport_core::{
    Armed, Capabilities, Close, Completion, Delivery, DownReason, Driver, DriverEnv, Endpoint, Flow, Grant,
    Hello, LinkId, Open, OpenError, OpenId, Part, PeerInfo, Refused, RefusedReason, Role, SessionKind, Slab,
    Topology, Transport,
};

use super::kit::{HostId, News, Shared, earlier, read_address};
use super::limits::{MUTED_MAX, SOURCES_MAX};
use crate::subject::Subject;
use air::{Air, MemberKey};
use packet::{Kind, Packet};
use sender::Sender;
use source::Source;

pub use air::Conditions;

/// A multicast world. Clones share it.
#[derive(Debug, Clone)]
pub struct Multicast {
    air: Shared<Air>,
    groups: Arc<AtomicUsize>,
    sources_max: usize,
}

impl Multicast {
    /// A calm one: nothing is lost. Latency 10 us.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Conditions::default())
    }
    /// One with misfortunes by `seed`.
    pub fn with(seed: u64, conditions: Conditions) -> Self {
        let air = Shared::new(Air::new(seed, conditions));
        Self { air, groups: Arc::default(), sources_max: SOURCES_MAX }
    }
    /// Drivers made from this handle listen to at most so many sources per open.
    #[must_use]
    pub fn sources_max(self, sources: usize) -> Self {
        Self { sources_max: sources, ..self }
    }
    /// Changes the weather for packets sent from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.air.hold().conditions = conditions;
    }
    /// Data packets that did not reach a receiver which had joined, over all receivers that still listen.
    pub fn lost_packets(&self) -> u64 {
        self.air.hold().lost()
    }
    /// Sends any bytes to a group, as a stranger would.
    pub fn inject(&self, endpoint: &Endpoint, bytes: &[u8]) {
        self.air.hold().send(endpoint.address(), &Arc::from(bytes));
    }
}

impl Transport for Multicast {
    fn schemes(&self) -> &'static [&'static str] {
        &["simcast"]
    }

    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError> {
        read_address(endpoint, false)?;
        if matches!(flow, Flow::Duplex | Flow::Stream) {
            let why = "multicast goes one way; use PUB or SUB".into();
            return Err(OpenError::Incompatible { endpoint: endpoint.clone(), why });
        }
        Ok(Capabilities {
            delivery: Delivery::GapReported,
            flow,
            pushback: false,
            topology: Topology::Multicast,
            session: SessionKind::None,
        })
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let host = self.air.hold().hosts.join(env.wake.clone());
        Ok(Box::new(MulticastDriver {
            air: self.air.clone(),
            host,
            env,
            sources_max: self.sources_max,
            opens: Slab::new(),
            memberships: Vec::new(),
            links: Slab::new(),
            news: News::default(),
            unfinished: false,
        }))
    }
}

impl Subject for Multicast {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }
    fn fresh(&self) -> Endpoint {
        let group = self.groups.fetch_add(1, Ordering::Relaxed);
        Endpoint::parse(&format!("simcast://group-{group}:7500")).expect("a well-formed URL")
    }
    fn nobody(&self) -> Option<Endpoint> {
        None
    }
    fn real_time(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct MulticastDriver {
    air: Shared<Air>,
    host: HostId,
    env: DriverEnv,
    sources_max: usize,
    opens: Slab<OpenId, Role>,
    /// One per receiving open; outlives the open while links of it are up.
    memberships: Vec<Membership>,
    links: Slab<LinkId, Link>,
    news: News,
    unfinished: bool,
}

#[derive(Debug)]
struct Membership {
    open: OpenId,
    request: Open,
    member: MemberKey,
    sources: BTreeMap<u64, LinkId>,
    /// Sources that broke the rules, ended, or were closed here: not to come up again by a straggling packet.
    muted: VecDeque<u64>,
    closed: bool,
}

#[derive(Debug)]
struct Link {
    kind: LinkKind,
    closing: Option<Close>,
}

#[derive(Debug)]
enum LinkKind {
    Sender(Sender),
    Source { open: OpenId, source: u64, state: Source },
}

impl MulticastDriver {
    fn hear(&mut self, at: usize, bytes: &[u8], now: Instant) {
        let Some(packet) = Packet::decode(bytes) else { return };
        let membership = &mut self.memberships[at];
        if membership.muted.contains(&packet.source) {
            return;
        }
        let link = match membership.sources.get(&packet.source) {
            Some(link) => *link,
            None => {
                let full = membership.sources.len() >= self.sources_max;
                if membership.closed || full || packet.kind == Kind::Fin {
                    return;
                }
                let (open, source) = (membership.open, packet.source);
                let state = Source::new(membership.request.limits, &packet, now);
                let kind = LinkKind::Source { open, source, state };
                let link = self.links.insert(Link { kind, closing: None });
                membership.sources.insert(source, link);
                let address = format!("{}#{source:016x}", membership.request.endpoint);
                // Nobody says Hello here; the seam wants one all the same.
                let peer = PeerInfo {
                    hello: Hello::NULL,
                    address,
                    identity: None,
                    fd: -1,
                    hello_took: Duration::ZERO,
                };
                self.news.say(Completion::Up { link, open, peer: Box::new(peer) });
                link
            }
        };
        if let Some(Link { kind: LinkKind::Source { state, .. }, closing: None }) = self.links.find_mut(link)
        {
            state.hear(&packet, now, &self.env.receive_pool);
        }
    }

    /// Runs one link as far as the budget goes. Returns whether it stopped for want of budget.
    fn tend(&mut self, id: LinkId, now: Instant, limit: usize) -> bool {
        let Some(link) = self.links.find_mut(id) else { return false };
        let mut stopped = false;
        let down = match &mut link.kind {
            LinkKind::Sender(sender) => {
                let mut air = self.air.hold();
                if link.closing != Some(Close::Abort) {
                    sender.announce(&mut air, now);
                    sender.pump(&mut air, now);
                }
                if sender.sent > sender.sent_reported {
                    sender.sent_reported = sender.sent;
                    self.news.say(Completion::Sent { link: id, through: sender.sent });
                }
                if link.closing.is_none() && sender.outbox.settle_writable() {
                    self.news.say(Completion::Writable { link: id });
                }
                let down = match link.closing {
                    None => None,
                    Some(Close::Abort) => Some(DownReason::ClosedHere),
                    Some(Close::Drain { .. }) if sender.is_idle() => Some(DownReason::ClosedHere),
                    Some(Close::Drain { until }) => {
                        until.filter(|until| now >= *until).map(|_| DownReason::TimedOut)
                    }
                };
                if down.is_some() {
                    if self.opens.find(sender.open) == Some(&Role::Connect) {
                        self.opens.remove(sender.open);
                    }
                    sender.finish(&mut air);
                    sender.outbox.give_back(id, &mut self.news);
                }
                down
            }
            LinkKind::Source { state, .. } => {
                // Nothing is on its way out of a receiver, so either way of closing is at once.
                if link.closing.is_some() {
                    Some(DownReason::ClosedHere)
                } else {
                    state.tick(now, &self.env.receive_pool);
                    stopped = state.deliver(id, &mut self.news, limit);
                    // Once more: a source that has ended is done when the last part is out.
                    state.tick(now, &self.env.receive_pool);
                    state.doom.filter(|_| !stopped)
                }
            }
        };
        if let Some(reason) = down {
            self.news.say(Completion::Down { link: id, reason });
            self.drop_link(id);
        }
        stopped
    }

    fn drop_link(&mut self, id: LinkId) {
        let Some(Link { kind: LinkKind::Source { open, source, .. }, .. }) = self.links.remove(id) else {
            return;
        };
        let Some(at) = self.memberships.iter().position(|it| it.open == open) else { return };
        let membership = &mut self.memberships[at];
        membership.sources.remove(&source);
        if membership.muted.len() == MUTED_MAX {
            membership.muted.pop_front();
        }
        membership.muted.push_back(source);
        if membership.closed && membership.sources.is_empty() {
            self.air.hold().leave(membership.member);
            self.memberships.remove(at);
        }
    }

    fn sender(&self, link: LinkId) -> Option<&Sender> {
        match self.links.find(link)? {
            Link { kind: LinkKind::Sender(sender), closing: None } => Some(sender),
            _ => None,
        }
    }
}

impl Driver for MulticastDriver {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        read_address(&request.endpoint, false)?;
        let endpoint = request.endpoint.clone();
        let (open, flow, role) = (self.opens.insert(request.role), request.flow, request.role);
        if role == Role::Bind {
            self.news.say(Completion::Bound { open, endpoint: endpoint.clone() });
        }
        let mut air = self.air.hold();
        match flow {
            Flow::Duplex | Flow::Stream => {
                self.opens.remove(open);
                let why = "multicast goes one way; use PUB or SUB".into();
                return Err(OpenError::Incompatible { endpoint, why });
            }
            Flow::Send => {
                let (source, near_the_wrap) = (air.word(), (air.word() % 64) as u32);
                let first = 0u32.wrapping_sub(near_the_wrap);
                let sender = Sender::new(open, endpoint.address(), source, first);
                let link = self.links.insert(Link { kind: LinkKind::Sender(sender), closing: None });
                let address = endpoint.as_str().to_owned();
                let peer = PeerInfo {
                    hello: Hello::NULL,
                    address,
                    identity: None,
                    fd: -1,
                    hello_took: Duration::ZERO,
                };
                self.news.say(Completion::Up { link, open, peer: Box::new(peer) });
            }
            Flow::Recv => {
                let member = air.join(self.host, endpoint.address());
                let (sources, muted) = (BTreeMap::new(), VecDeque::new());
                self.memberships.push(Membership { open, request, member, sources, muted, closed: false });
            }
        }
        air.hosts.poke(self.host);
        Ok(open)
    }

    fn close_open(&mut self, open: OpenId) {
        let unheard = self.news.forget_open(open);
        if self.opens.remove(open).is_none() {
            return;
        }
        for link in unheard {
            self.drop_link(link);
        }
        let Some(at) = self.memberships.iter().position(|it| it.open == open) else { return };
        self.memberships[at].closed = true;
        if self.memberships[at].sources.is_empty() {
            let membership = self.memberships.remove(at);
            self.air.hold().leave(membership.member);
        }
    }

    fn close_link(&mut self, link: LinkId, how: Close) {
        let Some(it) = self.links.find_mut(link) else { return };
        it.closing = Some(match (it.closing, how) {
            (Some(Close::Abort), _) | (_, Close::Abort) => Close::Abort,
            (Some(Close::Drain { until: a }), Close::Drain { until: b }) => {
                Close::Drain { until: earlier(a, b) }
            }
            (None, drain) => drain,
        });
        if let LinkKind::Sender(sender) = &mut it.kind
            && how != Close::Abort
        {
            sender.outbox.release();
        }
        self.air.hold().hosts.poke(self.host);
    }

    fn room(&self, link: LinkId) -> usize {
        self.sender(link).map_or(0, |sender| sender.outbox.room())
    }

    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        match self.links.find_mut(link) {
            Some(Link { kind: LinkKind::Sender(sender), closing: None }) => sender.outbox.post(part),
            _ => Err(Refused { part, reason: RefusedReason::Closed }),
        }
    }

    fn flush(&mut self) {
        let mut air = self.air.hold();
        let Some(now) = air.now() else { return };
        for (_, link) in self.links.iter_mut() {
            if let Link { kind: LinkKind::Sender(sender), closing: None } = link {
                sender.outbox.release();
                let before = sender.sent;
                sender.pump(&mut air, now);
                if sender.sent > before || !sender.is_idle() {
                    // A Sent to report, or a deadline that is earlier now than when it was last asked for.
                    air.hosts.poke(self.host);
                }
            }
        }
    }

    fn grant(&mut self, link: LinkId, grant: Grant) {
        if let Some(Link { kind: LinkKind::Source { state, .. }, .. }) = self.links.find_mut(link) {
            state.allowance.set(grant);
            self.air.hold().hosts.poke(self.host);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        let until = out.len() + budget.max(1);
        let now = {
            let mut air = self.air.hold();
            air.advance(now);
            air.hosts.settle(self.host);
            air.now().unwrap_or(now)
        };
        self.unfinished = true;
        self.news.hand_over(out, until);
        if !self.news.is_empty() {
            return;
        }
        let limit = until - out.len();
        for id in self.links.keys() {
            if self.tend(id, now, limit) {
                self.news.hand_over(out, until);
                return;
            }
        }
        for at in 0..self.memberships.len() {
            // A packet whose parts are granted leaves nothing behind, so what is held was not granted.
            while self.news.len() < limit && at < self.memberships.len() {
                let Some(packet) = self.air.hold().receive(self.memberships[at].member) else { break };
                self.hear(at, &packet, now);
                let link = Packet::decode(&packet)
                    .and_then(|packet| self.memberships[at].sources.get(&packet.source).copied());
                if let Some(link) = link {
                    self.tend(link, now, limit);
                }
            }
        }
        let air = self.air.hold();
        let mail = self.memberships.iter().any(|it| air.has_mail(it.member));
        drop(air);
        self.news.hand_over(out, until);
        self.unfinished = mail || !self.news.is_empty();
    }

    fn deadline(&self) -> Option<Instant> {
        let air = self.air.hold();
        if self.unfinished || air.hosts.is_poked(self.host) {
            return air.now();
        }
        let links = self.links.iter().filter_map(|(_, link)| {
            let own = match &link.kind {
                LinkKind::Sender(sender) => sender.deadline(),
                LinkKind::Source { state, .. } => state.deadline(),
            };
            match link.closing {
                Some(Close::Drain { until }) => earlier(own, until),
                _ => own,
            }
        });
        links.chain(air.next_at()).min()
    }

    fn arm(&mut self) -> Armed {
        let poked = self.air.hold().hosts.is_poked(self.host);
        if poked || self.unfinished { Armed::Busy } else { Armed::Ready }
    }

    fn wake_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

impl Drop for MulticastDriver {
    /// A process that dies says nothing: its receivers find out by its silence.
    fn drop(&mut self) {
        let mut air = self.air.hold();
        for membership in &self.memberships {
            air.leave(membership.member);
        }
        air.hosts.leave(self.host);
    }
}
