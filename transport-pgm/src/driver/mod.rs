//! The driver: the seam's contract on PGM's machines and whatever network carries their packets. Decodes nothing and knows no
//! socket.
//!
//! ```text
//! outbox     parts posted to a publisher's link, until they are packed
//! sender     a publisher's link: outbox, source, carrier
//! group      one group that an open receives: carrier, sources, and their links
//! ```
//!
//! A publisher's link stands for all receivers, and is up as soon as its socket is. An open that receives has a link per source,
//! which is up when the source is first heard, so that messages of two publishers never mix. Nobody can be held back: what waits
//! for a grant beyond a bound is dropped by the message, and said.

mod group;
mod outbox;
mod sender;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use transport_core::{
    Armed, Close, Completion, DownReason, Driver, DriverEnv, Flow, FrameMut, Grant, Hello, Landing, LinkId,
    Open, OpenError, OpenId, Part, PeerInfo, Refused, RefusedReason, Role, Slab, SlabKey,
};

use crate::inbox::Stop;
use crate::limits::{
    HEARTBEAT_IDLE, NEWS_CAPACITY, RECEIVE_CHUNK, RECEIVE_TURN, TELL_INTERVAL, TPDU_DEFAULT,
};
use crate::net::{Carrier, Network, Site};
use crate::packet::Tsi;
use crate::receiver::SourcesConfig;
use crate::source::SourceConfig;
use crate::transport::read;
use group::{Group, Hall, Rest, SourceLink};
use sender::Sender;

/// Marks a group's token: the top bit of the index, which no table ever reaches.
const GROUP_BIT: u64 = 1 << 31;

/// See the module.
#[derive(Debug)]
pub(crate) struct PgmDriver<N: Network> {
    network: N,
    opens: Slab<OpenId, Role>,
    links: Slab<LinkId, Link<N::Carrier>>,
    groups: Slab<SlabKey, Group<N::Carrier>>,
    landing: Landing,
    /// Bytes that were copied by senders and groups that are gone.
    copied_by_gone: u64,
    /// Said first by the next poll.
    news: VecDeque<Completion>,
    /// Sources that may have something to say.
    queue: VecDeque<LinkId>,
    /// Senders that were posted to and not flushed.
    dirty: Vec<LinkId>,
    tokens: Vec<u64>,
    senders: Vec<LinkId>,
    receiving: Vec<SlabKey>,
    /// Whose turn is first in the next poll.
    first_group: usize,
    /// The last poll ended before all groups had their turn.
    cut_short: bool,
    /// Of the last poll.
    now: Option<Instant>,
    /// When monitors hear of counters again.
    tell_at: Option<Instant>,
}

/// Either side's.
#[derive(Debug)]
enum Link<C> {
    Sender(Box<Sender<C>>),
    Source(Box<SourceLink>),
}

impl<N: Network> PgmDriver<N> {
    pub(crate) fn new(network: N, env: DriverEnv) -> Self {
        Self {
            network,
            opens: Slab::new(),
            links: Slab::new(),
            groups: Slab::new(),
            landing: Landing::new(env.receive_pool),
            copied_by_gone: 0,
            news: VecDeque::with_capacity(NEWS_CAPACITY),
            queue: VecDeque::new(),
            dirty: Vec::new(),
            tokens: Vec::new(),
            senders: Vec::new(),
            receiving: Vec::new(),
            first_group: 0,
            cut_short: false,
            now: None,
            tell_at: None,
        }
    }

    fn open_sender(&mut self, open: OpenId, site: &Site) -> Result<(), OpenError> {
        let tsi = Tsi::from_seed(random(site)?);
        let carrier = self.network.talk(site, tsi)?;
        let mut config = SourceConfig::new(tsi, site.address.port, site.address.send, carrier.nla());
        config.tsdu_max = carrier.tsdu_max();
        config.overhead = carrier.overhead();
        config.heartbeat_max = HEARTBEAT_IDLE;
        let config = config.rate(site.settings.rate(), site.settings.recovery);
        let memory = FrameMut::own(config.memory_len()).ok_or_else(|| OpenError::System {
            endpoint: site.endpoint.clone(),
            why: "no memory for the transmit window; a lower rate_kbit or recovery_ms needs less".into(),
            errno: libc::ENOMEM,
        })?;
        let sender = Sender::new(open, carrier, config, memory);
        let fd = sender.fd();
        let link = self.links.insert(Link::Sender(Box::new(sender)));
        if let Some(Link::Sender(sender)) = self.links.find_mut(link)
            && let Err(error) = sender.watch(SlabKey::from(link).to_u64())
        {
            self.links.remove(link);
            return Err(unwatched(site, &error));
        }
        self.senders.push(link);
        let address = site.endpoint.as_str().to_owned();
        let peer = PeerInfo { hello: Hello::NULL, address, identity: None, fd, hello_took: Duration::ZERO };
        self.news.push_back(Completion::Up { link, open, peer: Box::new(peer) });
        Ok(())
    }

    fn open_groups(&mut self, open: OpenId, site: &Site, part_max: Option<u64>) -> Result<(), OpenError> {
        let settings = &site.settings;
        for group in &site.address.receive {
            let mut config = SourcesConfig::new(*group, site.address.port);
            config.sources_max = settings.sources;
            // Others' packets may be as long as their networks carry.
            config.tsdu_max = usize::from(settings.max_tpdu.max(TPDU_DEFAULT));
            config.receiver.recovery = settings.recovery;
            config.receiver.expiry = settings.expiry;
            settings.naks.apply(&mut config.receiver);
            let seed = random(site)?;
            let carrier = self.network.listen(site, *group)?;
            let (url, waiting_parts) = (site.endpoint.to_string(), settings.waiting_parts);
            let key = self.groups.insert_with(|key| {
                Group::new(carrier, config, seed, Hall::new(open, key, url, part_max, waiting_parts))
            });
            if let Some(group) = self.groups.find_mut(key) {
                group.watch(key.to_u64() | GROUP_BIT).map_err(|error| unwatched(site, &error))?;
            }
            self.receiving.push(key);
        }
        Ok(())
    }

    /// Forgets a link of which the last was said.
    fn drop_link(&mut self, id: LinkId) {
        match self.links.remove(id) {
            Some(Link::Sender(sender)) => {
                self.copied_by_gone += sender.outbox.copied_bytes();
                self.senders.retain(|sender| *sender != id);
                // It dialled once, and that is done.
                if self.opens.find(sender.open) == Some(&Role::Connect) {
                    self.opens.remove(sender.open);
                }
            }
            Some(Link::Source(link)) => {
                // Left there it would seem to have something to say for ever.
                self.queue.retain(|queued| *queued != id);
                if let Some(group) = self.groups.find_mut(link.group) {
                    group.close(link.id);
                }
                self.drop_unused(link.group);
            }
            None => {}
        }
    }

    /// Leaves a group that is closed when its last link is gone.
    fn drop_unused(&mut self, key: SlabKey) {
        if self.groups.find(key).is_some_and(|group| group.hall.closed) {
            let used =
                self.links.iter().any(|(_, link)| matches!(link, Link::Source(link) if link.group == key));
            if !used {
                self.copied_by_gone += self.groups.remove(key).map_or(0, |group| group.copied_bytes());
                self.receiving.retain(|group| *group != key);
            }
        }
    }

    fn look(&mut self) {
        self.tokens.clear();
        self.network.look(&mut self.tokens);
        for at in 0..self.tokens.len() {
            let token = self.tokens[at];
            let key = SlabKey::from_u64(token & !GROUP_BIT);
            if token & GROUP_BIT != 0 {
                if let Some(group) = self.groups.find_mut(key) {
                    group.woken();
                }
            } else if let Some(Link::Sender(sender)) = self.links.find_mut(key.into()) {
                sender.woken();
            }
        }
    }

    fn tend_senders(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(&id) = self.senders.get(at) {
            at += 1;
            let Some(Link::Sender(sender)) = self.links.find_mut(id) else { continue };
            sender.begin(now);
            if sender.closing != Some(Close::Abort) {
                sender.listen(now);
                sender.pump(now);
            }
            let Some(reason) = sender.report(id, now, &mut self.news) else { continue };
            sender.outbox.give_back(id, &mut self.news);
            self.news.push_back(Completion::Down { link: id, reason });
            self.drop_link(id);
            at -= 1;
        }
    }

    /// Lets sources say what they are granted, until `out` has `limit` completions. `false` when that was too little.
    fn deliver(&mut self, out: &mut Vec<Completion>, limit: usize) -> bool {
        while let Some(id) = self.queue.pop_front() {
            let Some(Link::Source(link)) = self.links.find_mut(id) else { continue };
            match link.inbox.poll(id, out, limit) {
                Stop::Budget => {
                    // It goes on where it stopped; with a limit reached nobody else has his turn before it.
                    self.queue.push_front(id);
                    return false;
                }
                Stop::Grant => link.queued = false,
                Stop::Empty => {
                    link.queued = false;
                    if let Some((reason, recovery)) = link.ended {
                        if link.told != recovery {
                            out.push(Completion::Recovery { link: id, recovery });
                        }
                        out.push(Completion::Down { link: id, reason });
                        self.drop_link(id);
                    }
                }
            }
        }
        true
    }

    /// Moves what is to be said first. `false` when `limit` was too little.
    fn hand_out(&mut self, out: &mut Vec<Completion>, limit: usize) -> bool {
        while out.len() < limit {
            match self.news.pop_front() {
                Some(completion) => out.push(completion),
                None => return true,
            }
        }
        self.news.is_empty()
    }

    /// Tells of counters that have changed. As long as somebody is heard or may be missed, something polls at least as often.
    fn tell(&mut self, now: Instant) {
        if self.tell_at.is_some_and(|at| now < at) {
            return;
        }
        self.tell_at = Some(now + TELL_INTERVAL);
        for (id, link) in self.links.iter_mut() {
            let (told, recovery) = match link {
                Link::Sender(sender) if sender.closing.is_none() => {
                    let Some(recovery) = sender.recovery() else { continue };
                    (&mut sender.told, recovery)
                }
                Link::Source(source) => {
                    let sources = self.groups.find(source.group).and_then(Group::sources);
                    let Some(counters) = sources.and_then(|sources| sources.source_counters(source.id))
                    else {
                        continue;
                    };
                    (&mut source.told, group::recovery(&counters))
                }
                Link::Sender(_) => continue,
            };
            if *told != recovery {
                *told = recovery;
                self.news.push_back(Completion::Recovery { link: id, recovery });
            }
        }
    }

    /// Receives, and says what came, in small pieces: what is not taken yet waits with the system, where there is more room.
    fn tend_groups(&mut self, now: Instant, out: &mut Vec<Completion>, limit: usize) {
        if std::mem::take(&mut self.cut_short) {
            // A group that is flooded must keep nobody, and not itself, from asking for repairs.
            for at in 0..self.receiving.len() {
                let Self { links, queue, news, landing, .. } = self;
                let mut rest = Rest { links, queue, news, landing };
                if let Some(group) = self.receiving.get(at).and_then(|key| self.groups.find_mut(*key)) {
                    group.begin(now);
                    group.pump(now, &mut rest);
                }
            }
        }
        let count = self.receiving.len();
        let first = std::mem::take(&mut self.first_group);
        for turn in 0..count {
            let at = (first + turn) % count;
            let mut taken = 0;
            loop {
                if !self.hand_out(out, limit) || !self.deliver(out, limit) {
                    // The next one begins, or a group with more than a poll's worth would be the only one ever heard.
                    (self.cut_short, self.first_group) = (true, at + 1);
                    return;
                }
                let Self { links, queue, news, landing, .. } = self;
                let mut rest = Rest { links, queue, news, landing };
                let Some(group) = self.receiving.get(at).and_then(|key| self.groups.find_mut(*key)) else {
                    break;
                };
                group.begin(now);
                if group.heard && taken < RECEIVE_TURN {
                    taken += group.listen(now, RECEIVE_CHUNK, &mut rest);
                } else {
                    group.pump(now, &mut rest);
                    break;
                }
            }
        }
    }
}

impl<N: Network> Driver for PgmDriver<N> {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        let Open { endpoint, role, flow, limits, tuning, .. } = request;
        let (address, settings) = read(&endpoint, flow)?;
        let site = Site { endpoint: endpoint.clone(), address, settings, tuning };
        let open = self.opens.insert(role);
        if role == Role::Bind {
            self.news.push_back(Completion::Bound { open, endpoint });
        }
        let opened = match flow {
            Flow::Send => self.open_sender(open, &site),
            _ => self.open_groups(open, &site, limits.part_max),
        };
        match opened {
            Ok(()) => Ok(open),
            Err(error) => {
                self.close_open(open);
                Err(error)
            }
        }
    }

    fn close_open(&mut self, open: OpenId) {
        let mut unheard = Vec::new();
        self.news.retain(|completion| match completion {
            Completion::Up { open: of, link, .. } if *of == open => {
                unheard.push(*link);
                false
            }
            completion => completion.open() != Some(open),
        });
        for link in unheard {
            self.news.retain(|said| said.link() != Some(link));
            self.drop_link(link);
        }
        if self.opens.remove(open).is_none() {
            return;
        }
        for key in self.groups.keys() {
            if let Some(group) = self.groups.find_mut(key)
                && group.hall.open == open
            {
                group.hall.closed = true;
                self.drop_unused(key);
            }
        }
    }

    fn close_link(&mut self, id: LinkId, how: Close) {
        match self.links.find_mut(id) {
            Some(Link::Sender(sender)) => {
                sender.closing = Some(match (sender.closing, how) {
                    (Some(Close::Abort), _) | (_, Close::Abort) => Close::Abort,
                    (Some(Close::Drain { until: a }), Close::Drain { until: b }) => {
                        Close::Drain { until: a.into_iter().chain(b).min() }
                    }
                    (None, drain) => drain,
                });
                sender.heard = true;
            }
            // Nothing is on its way out of a receiver, so either way of closing is at once.
            Some(Link::Source(_)) => {
                self.news.push_back(Completion::Down { link: id, reason: DownReason::ClosedHere });
                self.drop_link(id);
            }
            None => {}
        }
    }

    fn room(&self, link: LinkId) -> usize {
        match self.links.find(link) {
            Some(Link::Sender(sender)) if sender.closing.is_none() => sender.outbox.room(),
            _ => 0,
        }
    }

    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        match self.links.find_mut(link) {
            Some(Link::Sender(sender)) if sender.closing.is_none() => {
                sender.outbox.post(part)?;
                if !std::mem::replace(&mut sender.dirty, true) {
                    self.dirty.push(link);
                }
                Ok(())
            }
            _ => Err(Refused { part, reason: RefusedReason::Closed }),
        }
    }

    fn flush(&mut self) {
        // The time of the last poll is never too late. By a time that is too early less is sent than might be, and a heartbeat
        // is due a little sooner.
        let Some(now) = self.now else { return };
        for at in 0..self.dirty.len() {
            if let Some(Link::Sender(sender)) = self.links.find_mut(self.dirty[at]) {
                sender.dirty = false;
                sender.pump(now);
            }
        }
        self.dirty.clear();
    }

    fn grant(&mut self, id: LinkId, grant: Grant) {
        if let Some(Link::Source(link)) = self.links.find_mut(id) {
            link.inbox.grant(grant);
            if !link.inbox.is_empty() && !std::mem::replace(&mut link.queued, true) {
                self.queue.push_back(id);
            }
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        let limit = out.len().saturating_add(budget.max(1));
        self.now = Some(now);
        if !self.hand_out(out, limit) {
            return;
        }
        self.look();
        self.tend_senders(now);
        self.tend_groups(now, out, limit);
        self.tell(now);
        self.hand_out(out, limit);
    }

    fn deadline(&self) -> Option<Instant> {
        let senders = self.senders.iter().filter_map(|id| match self.links.find(*id)? {
            Link::Sender(sender) => sender.deadline(self.now),
            Link::Source(_) => None,
        });
        let groups = self.groups.iter().filter_map(|(_, group)| group.deadline(self.now));
        senders.chain(groups).min()
    }

    fn arm(&mut self) -> Armed {
        let sender_is_busy =
            |id: &LinkId| matches!(self.links.find(*id), Some(Link::Sender(sender)) if sender.is_busy());
        let busy = !self.news.is_empty()
            || !self.queue.is_empty()
            || self.senders.iter().any(sender_is_busy)
            || self.groups.iter().any(|(_, group)| group.is_busy());
        if busy { Armed::Busy } else { Armed::Ready }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.network.wake_fd()
    }

    fn copied_bytes(&self) -> u64 {
        let sent = self.senders.iter().filter_map(|id| match self.links.find(*id)? {
            Link::Sender(sender) => Some(sender.outbox.copied_bytes()),
            Link::Source(_) => None,
        });
        let waiting = self.groups.iter().map(|(_, group)| group.copied_bytes());
        self.landing.copied_bytes() + self.copied_by_gone + sent.chain(waiting).sum::<u64>()
    }
}

/// 64 bits that nobody guesses, and that no other process has.
fn random(site: &Site) -> Result<u64, OpenError> {
    let mut seed = [0; 8];
    match rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => Ok(u64::from_ne_bytes(seed)),
        result => Err(OpenError::System {
            endpoint: site.endpoint.clone(),
            why: "the system gives no random numbers, without which sessions would be mixed up".into(),
            errno: result.err().map_or(0, |error| error.raw_os_error()),
        }),
    }
}

fn unwatched(site: &Site, error: &io::Error) -> OpenError {
    OpenError::System {
        endpoint: site.endpoint.clone(),
        why: format!("epoll: {error}; raise fs.epoll.max_user_watches"),
        errno: error.raw_os_error().unwrap_or(0),
    }
}
