//! The driver: one epoll set with its links, opens and timers. Implements the seam's contract; decodes nothing itself.
//!
//! A poll hands out what was put off, looks at epoll, and gives each link that may have something a turn. Looking costs
//! a system call, so while a few links do all the talking (the hot ones) they are read without looking first:
//!
//! ```text
//! pending    completions of calls outside poll, Returned and Down: handed out first
//! queue      links known to have something; each has one turn per poll, what is left goes to the back
//! hot        links that delivered lately; read on the off chance
//! look       epoll_wait: when nothing is hot, every few polls, and before the first empty answer after a sleep
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hosts::{Answer, Names, Question};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use transport_core::{
    Armed, Close, Completion, DownReason, Driver, DriverEnv, Endpoint, Flags, Flow, Frame, Grant, Hello,
    Identity, LinkId, LinkLimits, Open, OpenError, OpenId, Part, PeerInfo, Progress, Refused, RefusedReason,
    Role, Slab, SlabKey, Wake,
};

use crate::address::{Address, Located, Route};
use crate::hot::HotLinks;
use crate::incoming::Buffers;
use crate::limits::{ACCEPT_MAX, ACCEPT_REST_MS, EVENTS_MAX, LOOK_EVERY, LOW_MARK_MAX};
use crate::link::{self, Io, Link, State, Turn};
use crate::outgoing::SendBuffers;
use crate::socket::{self, Connection, Dial, Listener, Refusal, Settings};
use crate::tcp;

/// Marks an open's token: the top bit of the index, which no table ever reaches.
const OPEN_BIT: u64 = 1 << 31;
/// The name resolver's token.
const BELL: u64 = u64::MAX;

/// An endpoint that is being bound or dialled.
struct Opened {
    endpoint: Endpoint,
    role: Role,
    hello: Hello,
    identity: Identity,
    limits: LinkLimits,
    settings: Settings,
    /// Its links carry bytes without frames, and say no hello.
    raw: bool,
    stage: Stage,
    deadline: Option<Instant>,
}

enum Stage {
    /// Waits for the resolver.
    Resolving,
    Listening(Listener),
    /// `next` are the routes left to try, the last one first.
    Dialling {
        fd: OwnedFd,
        route: Route,
        next: Vec<Route>,
    },
    /// A link waits for the peer's greeting.
    Greeting,
}

/// What a deadline belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timed {
    Link(LinkId),
    Open(OpenId),
    /// A look at a link that drains.
    Look(LinkId),
}

/// See the module.
pub(crate) struct TcpDriver {
    io: Io,
    links: Slab<LinkId, Link>,
    opens: Slab<OpenId, Opened>,
    pending: VecDeque<Completion>,
    queue: VecDeque<LinkId>,
    dirty: Vec<LinkId>,
    hot: HotLinks,
    polls: u32,
    /// Armed since the last poll.
    slept: bool,
    /// Deadlines, with stale ones among them: an entry counts if its owner has the same one.
    timers: BinaryHeap<Reverse<(Instant, Timed)>>,
    /// What needs a deadline as soon as somebody says what time it is.
    untimed: Vec<Timed>,
    names: Option<Names>,
    wake: Arc<dyn Wake>,
    /// Of the last poll.
    now: Option<Instant>,
}

impl TcpDriver {
    pub(crate) fn new(env: DriverEnv) -> Result<Self, OpenError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| OpenError::System {
            endpoint: nowhere(),
            why: format!("epoll: {error}; raise the limit of open files"),
            errno: error.raw_os_error(),
        })?;
        Ok(Self {
            io: Io {
                epoll,
                buffers: Buffers::new(env.receive_pool),
                send_buffers: SendBuffers::default(),
                copied_by_gone: 0,
            },
            links: Slab::new(),
            opens: Slab::new(),
            pending: VecDeque::new(),
            queue: VecDeque::new(),
            dirty: Vec::new(),
            hot: HotLinks::new(),
            polls: 0,
            slept: true,
            timers: BinaryHeap::new(),
            untimed: Vec::new(),
            names: None,
            wake: env.wake,
            now: None,
        })
    }

    // ---- opens ----

    /// Goes the ways that there are, the first one first.
    fn set_out(&mut self, open: OpenId, role: Role, routes: Result<Vec<Route>, Errno>) {
        match (role, routes) {
            (Role::Bind, Ok(routes)) => self.listen(open, &routes),
            (Role::Connect, Ok(mut routes)) => {
                routes.reverse();
                self.dial(open, routes);
            }
            (_, Err(error)) => self.refused(open, error.into()),
        }
    }

    fn listen(&mut self, open: OpenId, routes: &[Route]) {
        let Some(opened) = self.opens.find_mut(open) else {
            return;
        };
        let route = routes.first().ok_or(Errno::ADDRNOTAVAIL.into());
        let bound = route.and_then(|route| socket::listen(route, &opened.settings));
        self.listening(open, bound);
    }

    fn listening(&mut self, open: OpenId, bound: Result<(Listener, String), Refusal>) {
        let Some(opened) = self.opens.find_mut(open) else {
            return;
        };
        let added = bound.and_then(|(listener, real)| {
            epoll::add(&self.io.epoll, &listener, open_token(open), EventFlags::IN)?;
            Ok((listener, real))
        });
        match added {
            Ok((listener, real)) => {
                opened.stage = Stage::Listening(listener);
                let endpoint = opened.endpoint.with_address(&real);
                self.pending.push_back(Completion::Bound { open, endpoint });
            }
            Err(refusal) => self.refused(open, refusal),
        }
    }

    fn dial(&mut self, open: OpenId, mut next: Vec<Route>) {
        let mut last = Errno::ADDRNOTAVAIL.into();
        while let Some(route) = next.pop() {
            let Some(opened) = self.opens.find_mut(open) else {
                return;
            };
            let dialled = socket::dial(&route, &opened.settings).and_then(|dial| {
                if let Dial::Pending(fd) = &dial {
                    epoll::add(&self.io.epoll, fd, open_token(open), EventFlags::OUT)?;
                }
                Ok(dial)
            });
            match dialled {
                Ok(Dial::Through(connection)) => return self.dialled(open, connection),
                Ok(Dial::Pending(fd)) => {
                    opened.stage = Stage::Dialling { fd, route, next };
                    opened.deadline = None;
                    if !opened.limits.connect_timeout.is_zero() {
                        self.untimed.push(Timed::Open(open));
                    }
                    self.pending.push_back(Completion::Progress { open, progress: Progress::Dialling });
                    return;
                }
                Err(refusal) => last = refusal,
            }
        }
        self.refused(open, last);
    }

    /// A dialled socket became writable or its time is up.
    fn dial_goes_on(&mut self, open: OpenId, timed_out: bool) {
        let Some(opened) = self.opens.find_mut(open) else {
            return;
        };
        if !matches!(opened.stage, Stage::Dialling { .. }) {
            return;
        }
        let stage = mem::replace(&mut opened.stage, Stage::Resolving);
        let Stage::Dialling { fd, route, next } = stage else {
            return;
        };
        opened.deadline = None;
        let _ = epoll::delete(&self.io.epoll, &fd);
        let result = if timed_out { Err(Errno::TIMEDOUT.into()) } else { socket::dialled(fd, &route) };
        match result {
            Ok(connection) => self.dialled(open, connection),
            Err(refusal) if next.is_empty() => self.refused(open, refusal),
            Err(_) => self.dial(open, next),
        }
    }

    /// A dialled connection stands.
    fn dialled(&mut self, open: OpenId, connection: Connection) {
        let fd = connection.fd.as_raw_fd();
        self.pending.push_back(Completion::Progress { open, progress: Progress::Connected { fd } });
        match self.greet(open, connection, true) {
            Ok(()) => {
                if let Some(opened) = self.opens.find_mut(open) {
                    opened.stage = Stage::Greeting;
                }
            }
            Err(error) => self.unreachable(open, error.to_string(), error.raw_os_error()),
        }
    }

    /// Makes a link of a connection, and says hello; without frames there is none to say, and the link is up.
    fn greet(&mut self, open: OpenId, connection: Connection, dialled: bool) -> Result<(), Errno> {
        let opened = self.opens.find(open).ok_or(Errno::CANCELED)?;
        let raw = opened.raw;
        let mut link = if raw {
            Link::raw(connection, open, dialled, opened.settings.low_mark)
        } else {
            Link::new(connection, open, dialled, opened.limits.part_max, opened.settings.low_mark)
        };
        if !raw {
            link.greet(opened.hello, &opened.identity)?;
        }
        let timed = !raw && !opened.limits.handshake_timeout.is_zero();
        let id = self.links.insert(link);
        let added = match self.links.find(id) {
            Some(link) => epoll::add(&self.io.epoll, &link.fd, link::token(id), EventFlags::IN),
            None => Ok(()),
        };
        if let Err(error) = added {
            self.links.remove(id);
            return Err(error);
        }
        if timed {
            self.untimed.push(Timed::Link(id));
        }
        if raw {
            let up = self.up(id, Hello::NULL, None);
            self.pending.extend(up);
        }
        Ok(())
    }

    /// A link is up: the completion that says so.
    fn up(&mut self, id: LinkId, hello: Hello, identity: Option<Identity>) -> Option<Completion> {
        let link = self.links.find_mut(id)?;
        link.state = State::Up;
        link.deadline = None;
        let (open, dialled) = (link.open, link.dialled);
        let (address, fd) = (mem::take(&mut link.peer), link.fd.as_raw_fd());
        let hello_took = self.now.zip(link.since).map_or(Duration::ZERO, |(now, since)| now - since);
        let peer = PeerInfo { hello, address, identity, fd, hello_took };
        if dialled {
            // It dialled once, and that is done.
            self.opens.remove(open);
        }
        self.enqueue(id);
        Some(Completion::Up { link: id, open, peer: Box::new(peer) })
    }

    fn fail(&mut self, open: OpenId, error: OpenError) {
        if self.opens.remove(open).is_some() {
            self.pending.push_back(Completion::Failed { open, error });
        }
    }

    /// A bind or a dial that came to nothing.
    fn refused(&mut self, open: OpenId, refusal: Refusal) {
        if let Some(opened) = self.opens.find(open) {
            let endpoint = opened.endpoint.clone();
            let error = match opened.role {
                Role::Bind => refusal.into_bind_error(endpoint),
                Role::Connect => refusal.into_dial_error(endpoint),
            };
            self.fail(open, error);
        }
    }

    fn unreachable(&mut self, open: OpenId, why: String, errno: i32) {
        if let Some(opened) = self.opens.find(open) {
            let endpoint = opened.endpoint.clone();
            self.fail(open, OpenError::Unreachable { endpoint, why, errno });
        }
    }

    fn accept(&mut self, open: OpenId) {
        for _ in 0..ACCEPT_MAX {
            let Some(opened) = self.opens.find_mut(open) else {
                return;
            };
            let Stage::Listening(listener) = &opened.stage else {
                return;
            };
            match listener.accept() {
                Ok(connection) => {
                    let (peer, fd) = (connection.peer.clone(), connection.fd.as_raw_fd());
                    let progress = Progress::Accepted { peer: peer.clone(), fd };
                    self.pending.push_back(Completion::Progress { open, progress });
                    if let Err(error) = self.greet(open, connection, false) {
                        let reason = DownReason::Broken(error.raw_os_error());
                        let progress = Progress::HandshakeFailed { peer, reason };
                        self.pending.push_back(Completion::Progress { open, progress });
                    }
                }
                Err(Errno::AGAIN) => return,
                // These concern one connection that is gone already (accept(2)).
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO | Errno::PERM) => {}
                Err(error) => {
                    // The connection stays in the backlog and keeps the listener readable, so look away for a while:
                    // no descriptors or no memory is not over at once.
                    let _ = epoll::delete(&self.io.epoll, listener);
                    self.untimed.push(Timed::Open(open));
                    let progress = Progress::AcceptFailed(error.raw_os_error());
                    self.pending.push_back(Completion::Progress { open, progress });
                    return;
                }
            }
        }
    }

    fn ask(&mut self, question: Question) -> Result<(), (String, Errno)> {
        if self.names.is_none() {
            let started = Names::start(Arc::clone(&self.wake)).and_then(|names| {
                epoll::add(&self.io.epoll, names.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
                Ok(names)
            });
            match started {
                Ok(names) => self.names = Some(names),
                Err(error) => return Err((format!("cannot start the name resolver: {error}"), error)),
            }
        }
        match &self.names {
            Some(names) if names.ask(question) => Ok(()),
            _ => Err(("too many names wait to be resolved; try again later".to_owned(), Errno::AGAIN)),
        }
    }

    fn take_answers(&mut self) {
        let Some(names) = &self.names else {
            return;
        };
        names.hush();
        while let Some(answer) = self.names.as_ref().and_then(Names::answer) {
            self.take_answer(answer);
        }
    }

    fn take_answer(&mut self, Answer { open, result }: Answer) {
        let Some(opened) = self.opens.find(open).filter(|opened| matches!(opened.stage, Stage::Resolving))
        else {
            return;
        };
        match (opened.role, result) {
            (role, Ok(resolved)) => self.set_out(open, role, tcp::routes(&resolved)),
            (Role::Bind, Err(why)) => self.refused(open, Refusal::Said(Errno::NODEV, why)),
            (Role::Connect, Err(why)) => self.refused(open, Refusal::Said(Errno::HOSTUNREACH, why)),
        }
    }

    // ---- time ----

    fn start_timers(&mut self, now: Instant) {
        for timed in mem::take(&mut self.untimed) {
            let wait = match timed {
                Timed::Link(link) => self
                    .links
                    .find_mut(link)
                    .filter(|link| link.state == State::Greeting)
                    .and_then(|link| {
                        link.since = Some(now);
                        self.opens.find(link.open)
                    })
                    .map(|opened| opened.limits.handshake_timeout),
                Timed::Open(open) => self.opens.find(open).and_then(|opened| match opened.stage {
                    Stage::Listening(_) => Some(Duration::from_millis(ACCEPT_REST_MS)),
                    Stage::Dialling { .. } => Some(opened.limits.connect_timeout),
                    _ => None,
                }),
                Timed::Look(link) => self.links.find(link).and_then(Link::look_pause),
            };
            // A time beyond the end of time is no deadline.
            if let Some(deadline) = wait.and_then(|wait| now.checked_add(wait)) {
                self.set_deadline(timed, deadline);
            }
        }
    }

    fn set_deadline(&mut self, timed: Timed, deadline: Instant) {
        let place = match timed {
            Timed::Link(link) => self.links.find_mut(link).map(|link| &mut link.deadline),
            Timed::Open(open) => self.opens.find_mut(open).map(|opened| &mut opened.deadline),
            Timed::Look(link) => self.links.find_mut(link).map(|link| &mut link.look_at),
        };
        if let Some(place) = place {
            *place = Some(deadline);
            self.timers.push(Reverse((deadline, timed)));
        }
        // Stale entries must not outnumber the living: links come and go faster than a handshake times out.
        if self.timers.len() > 64 + 3 * (self.links.len() + self.opens.len()) {
            let mut timers = mem::take(&mut self.timers);
            timers.retain(|Reverse((deadline, timed))| self.is_due_at(*timed) == Some(*deadline));
            self.timers = timers;
        }
    }

    fn is_due_at(&self, timed: Timed) -> Option<Instant> {
        match timed {
            Timed::Link(link) => self.links.find(link)?.deadline,
            Timed::Open(open) => self.opens.find(open)?.deadline,
            Timed::Look(link) => self.links.find(link)?.look_at,
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&Reverse((deadline, timed))) = self.timers.peek() {
            let stale = self.is_due_at(timed) != Some(deadline);
            if !stale && deadline > now {
                return;
            }
            self.timers.pop();
            match timed {
                _ if stale => {}
                Timed::Link(link) => self.end_link(link, DownReason::TimedOut),
                Timed::Open(open) => self.expire_open(open),
                Timed::Look(link) => {
                    self.enqueue(link);
                    if let Some(link) = self.links.find_mut(link) {
                        link.look_now();
                    }
                }
            }
        }
    }

    fn expire_open(&mut self, open: OpenId) {
        let Some(opened) = self.opens.find_mut(open) else {
            return;
        };
        opened.deadline = None;
        if let Stage::Listening(listener) = &opened.stage {
            if epoll::add(&self.io.epoll, listener, open_token(open), EventFlags::IN).is_err() {
                self.untimed.push(Timed::Open(open));
            }
        } else {
            self.dial_goes_on(open, true);
        }
    }

    // ---- links ----

    fn enqueue(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id)
            && !link.queued
        {
            link.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Has a link go on in the next poll before others, since it has a buffer of read bytes: as others would fill one
    /// each, all of them would miss the cache. It stays first for no longer than one read lasts.
    fn put_first(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id) {
            if link.queued {
                self.queue.retain(|queued| *queued != id);
            }
            link.queued = true;
            link.first = true;
            self.queue.push_front(id);
        }
    }

    /// Takes the link out, and says so.
    fn end_link(&mut self, id: LinkId, reason: DownReason) {
        let Some(mut link) = self.links.remove(id) else {
            return;
        };
        let unseen = link.end(&mut self.io);
        if link.state == State::Greeting {
            return self.end_greeting(&link, reason);
        }
        let pending = &mut self.pending;
        link.report(id, |completion| {
            // A link that ends has no use for room.
            if let Completion::Sent { .. } = completion {
                pending.push_back(completion);
            }
        });
        pending.extend(unseen.into_iter().map(|part| Completion::Returned { link: id, part }));
        pending.push_back(Completion::Down { link: id, reason });
    }

    fn end_greeting(&mut self, link: &Link, reason: DownReason) {
        if !link.dialled {
            let progress = Progress::HandshakeFailed { peer: link.peer.clone(), reason };
            self.pending.push_back(Completion::Progress { open: link.open, progress });
            return;
        }
        let (why, errno) = match reason {
            DownReason::Broken(errno) => (Errno::from_raw_os_error(errno).to_string(), errno),
            DownReason::TimedOut => (
                "connected, but the peer said no hello in time; check that a ZeroMQ peer listens there"
                    .to_owned(),
                Errno::TIMEDOUT.raw_os_error(),
            ),
            DownReason::ClosedByPeer => (
                "the peer closed the connection before it said hello; check that a ZeroMQ peer listens there"
                    .to_owned(),
                0,
            ),
            reason => (reason.to_string(), 0),
        };
        self.unreachable(link.open, why, errno);
    }

    /// Asks epoll, without waiting, and notes what it says.
    fn look(&mut self) {
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        let Ok((events, _)) = epoll::wait(&self.io.epoll, &mut events, Some(&NO_TIME)) else {
            // Interrupted; the next look will tell.
            return;
        };
        for event in events {
            let (token, flags) = (event.data.u64(), event.flags);
            if token == BELL {
                self.take_answers();
            } else if token & OPEN_BIT != 0 {
                let open = OpenId::from(SlabKey::from_u64(token & !OPEN_BIT));
                match self.opens.find(open).map(|opened| &opened.stage) {
                    Some(Stage::Listening(_)) => self.accept(open),
                    Some(_) => self.dial_goes_on(open, false),
                    None => {}
                }
            } else {
                let id = LinkId::from(SlabKey::from_u64(token));
                if let Some(link) = self.links.find_mut(id)
                    && link.event(id, &mut self.io, flags)
                {
                    self.enqueue(id);
                }
            }
        }
    }

    /// Gives every link of the queue a turn, and the hot ones that had none.
    fn run(&mut self, limit: usize, out: &mut Vec<Completion>) {
        let mut turns = self.queue.len();
        while turns > 0 && out.len() < limit {
            turns -= 1;
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            if let Some(link) = self.links.find_mut(id) {
                link.queued = false;
                self.turn(id, false, limit, out);
            }
        }
        let mut place = 0;
        while self.hot.guesses()
            && out.len() < limit
            && let Some(id) = self.hot.at(place)
        {
            let spoke = match self.links.find(id) {
                Some(link) if link.served == self.polls => true,
                Some(_) => self.turn(id, true, limit, out),
                None => false,
            };
            place += usize::from(self.hot.guessed(place, spoke, self.links.find(id).is_some()));
        }
    }

    /// Gives one link a turn. Returns whether it received anything.
    fn turn(&mut self, id: LinkId, guess: bool, limit: usize, out: &mut Vec<Completion>) -> bool {
        let Some(link) = self.links.find_mut(id) else {
            return false;
        };
        link.served = self.polls;
        let (got, turn) = link.turn(id, &mut self.io, limit, out, guess);
        match turn {
            Turn::Rest => {}
            Turn::Again => self.enqueue(id),
            Turn::Limit => self.put_first(id),
            Turn::Look => self.untimed.push(Timed::Look(id)),
            Turn::Ended(reason) => self.end_link(id, reason),
            Turn::Greeted(greeted) => {
                let up = self.up(id, greeted.hello, greeted.identity);
                out.extend(up);
            }
        }
        if got && !guess {
            self.hot.spoke(id);
        }
        got
    }

    /// Moves what is pending to `out`. Returns whether that was all.
    fn hand_out(&mut self, limit: usize, out: &mut Vec<Completion>) -> bool {
        while out.len() < limit {
            match self.pending.pop_front() {
                Some(completion) => out.push(completion),
                None => return true,
            }
        }
        self.pending.is_empty()
    }
}

impl Driver for TcpDriver {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        let Open { endpoint, role, flow, hello, identity, limits, tuning, listener } = request;
        let raw = flow == Flow::Stream;
        let low_mark = (1..=LOW_MARK_MAX).contains(&identity.send_hwm);
        let address = Address::parse(&endpoint)?;
        let located = match listener.filter(|_| role == Role::Bind) {
            Some(listener) => Located::Bound(address.is_tcp(), listener),
            None => address.locate(&endpoint, role, tuning.ipv6)?,
        };
        let (settings, stage) = (Settings { tuning, low_mark }, Stage::Resolving);
        let failed = endpoint.clone();
        let open = self.opens.insert(Opened {
            endpoint,
            role,
            hello,
            identity,
            limits,
            settings,
            raw,
            stage,
            deadline: None,
        });
        match located {
            Located::Here(routes) => self.set_out(open, role, routes),
            Located::Bound(is_tcp, listener) => {
                self.listening(open, socket::adopt(is_tcp, &listener, &settings));
            }
            Located::Names { target, source } => {
                if let Err((why, error)) =
                    self.ask(Question { open, target, source, ipv6: tuning.ipv6, here: role == Role::Bind })
                {
                    self.opens.remove(open);
                    return Err(OpenError::System { endpoint: failed, why, errno: error.raw_os_error() });
                }
            }
        }
        Ok(open)
    }

    fn close_open(&mut self, open: OpenId) {
        // Links without frames are up at once; those of which nobody has heard yet go with it.
        let mut unheard = Vec::new();
        self.pending.retain(|completion| match completion {
            Completion::Up { link, open: of, .. } if *of == open => {
                unheard.push(*link);
                false
            }
            completion => completion.open() != Some(open),
        });
        for id in unheard {
            if let Some(mut link) = self.links.remove(id) {
                link.end(&mut self.io);
            }
        }
        let Some(opened) = self.opens.remove(open) else {
            return;
        };
        match &opened.stage {
            Stage::Listening(listener) => {
                let _ = epoll::delete(&self.io.epoll, listener);
            }
            Stage::Dialling { fd, .. } => {
                let _ = epoll::delete(&self.io.epoll, fd);
            }
            Stage::Resolving | Stage::Greeting => {}
        }
        // Links that were not up by now never will be.
        let greeting = |link: &Link| link.open == open && link.state == State::Greeting;
        let ids: Vec<_> = self.links.iter().filter(|(_, link)| greeting(link)).map(|(id, _)| id).collect();
        for id in ids {
            if let Some(mut link) = self.links.remove(id) {
                link.end(&mut self.io);
            }
        }
    }

    fn close_link(&mut self, id: LinkId, how: Close) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        match (how, link.state) {
            (_, State::Greeting) => {}
            (Close::Abort, _) => self.end_link(id, DownReason::ClosedHere),
            (Close::Drain { until }, state) => {
                if state == State::Up {
                    link.drain(id, &mut self.io);
                }
                let deadline = link.deadline;
                self.enqueue(id);
                if let Some(until) = until
                    && deadline.is_none_or(|deadline| until < deadline)
                {
                    self.set_deadline(Timed::Link(id), until);
                }
            }
        }
    }

    fn room(&self, link: LinkId) -> usize {
        self.links.find(link).map_or(0, Link::room)
    }

    fn post_send(&mut self, id: LinkId, part: Part) -> Result<(), Refused> {
        let Some(link) = self.links.find_mut(id) else {
            return Err(Refused { part, reason: RefusedReason::Closed });
        };
        if let Err(reason) = link.takes(part.flags) {
            return Err(Refused { part, reason });
        }
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(id);
        }
        link.push(&mut self.io, part);
        Ok(())
    }

    fn post_small(&mut self, id: LinkId, body: &Frame, flags: Flags) -> bool {
        let Some(link) = self.links.find_mut(id).filter(|link| link.takes(flags).is_ok()) else {
            return false;
        };
        if !link.push_inline(&mut self.io, body, flags) {
            return false;
        }
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(id);
        }
        true
    }

    fn flush(&mut self) {
        for at in 0..self.dirty.len() {
            let id = self.dirty[at];
            if let Some(link) = self.links.find_mut(id) {
                link.dirty = false;
                link.write(id, &mut self.io);
                if link.has_news() {
                    self.enqueue(id);
                }
            }
        }
        self.dirty.clear();
    }

    fn grant(&mut self, id: LinkId, grant: Grant) {
        let parts = match grant {
            Grant::Limited(parts) => parts,
            Grant::Unlimited => u64::MAX,
        };
        if let Some(link) = self.links.find_mut(id)
            && link.grant(id, &self.io, parts)
        {
            self.enqueue(id);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        let before = out.len();
        let limit = before.saturating_add(budget.max(1));
        self.polls = self.polls.wrapping_add(1);
        self.now = Some(now);
        if !self.untimed.is_empty() {
            self.start_timers(now);
        }
        if !self.timers.is_empty() {
            self.expire(now);
        }
        // Before any turn: what a turn says goes behind this, and the last word about a link must stay the last.
        if !self.hand_out(limit, out) {
            return;
        }
        // After a sleep the hot links go first too: mostly it was one of them that ended it, and then looking would be a
        // system call for nothing. If it was another, this poll finds nothing hot and looks, or the next sleep ends at
        // once, since epoll is level-triggered.
        let slept = std::mem::take(&mut self.slept);
        let mut look = !self.hot.guesses() || self.polls.is_multiple_of(LOOK_EVERY);
        loop {
            if look {
                self.look();
                if !self.hand_out(limit, out) {
                    return;
                }
            }
            self.run(limit, out);
            if look || out.len() > before || !slept {
                break;
            }
            look = true;
        }
        // Now, and not in the next poll: who asks for the deadline may not be the one who polls.
        if !self.untimed.is_empty() {
            self.start_timers(now);
        }
        self.hand_out(limit, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((deadline, _))| *deadline)
    }

    fn arm(&mut self) -> Armed {
        self.slept = true;
        let busy = !self.pending.is_empty() || !self.queue.is_empty() || !self.untimed.is_empty();
        if busy { Armed::Busy } else { Armed::Ready }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.io.epoll.as_fd())
    }

    fn copied_bytes(&self) -> u64 {
        let sent = self.links.iter().map(|(_, link)| link.copied_bytes()).sum::<u64>();
        self.io.buffers.copied_bytes() + self.io.copied_by_gone + sent
    }
}

impl fmt::Debug for TcpDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpDriver")
            .field("links", &self.links)
            .field("opens", &self.opens.len())
            .field("pending", &self.pending.len())
            .field("queue", &self.queue.len())
            .finish_non_exhaustive()
    }
}

const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn open_token(open: OpenId) -> EventData {
    EventData::new_u64(SlabKey::from(open).to_u64() | OPEN_BIT)
}

/// For an error that concerns no endpoint.
fn nowhere() -> Endpoint {
    // The text is constant and valid; parsing it cannot fail.
    Endpoint::parse("tcp://*:*").unwrap_or_else(|_| unreachable!("a constant URL parses"))
}
