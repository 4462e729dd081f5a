//! Runs drivers directly, without an engine, and holds every run to the seam's promises. Tests no property by itself.
//!
//! A [`World`] is as lazy as the engine may be: once `arm` has said Ready, a driver is polled again only when its
//! descriptor is readable, its [`Wake`] was rung, its deadline has passed, or the test called it. So a wake-up that a
//! driver forgets shows as a run that never ends, in every test and not only in the one about wake-ups.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use transport_core::{
    Armed, Capabilities, Close, Completion, Delivery, DownReason, Driver, DriverEnv, Endpoint, Flow, Frame,
    FramePool, Grant, Hello, Identity, LinkId, LinkLimits, Loss, Open, OpenError, OpenId, Part, PeerInfo,
    Progress, Refused, RefusedReason, Role, Topology, Transport, Tuning, Wake,
};

use crate::subject::Subject;

/// How long a run may take by the kernel's clock.
pub const REAL_LIMIT: Duration = Duration::from_secs(60);
/// How long a run may take by an invented clock.
pub const VIRTUAL_LIMIT: Duration = Duration::from_secs(3600);
/// How long a settled world stays silent by the kernel's clock. Only makes "nothing more comes" stricter: a wrong
/// value can hide a fault and never invents one.
pub const QUIET: Duration = Duration::from_millis(20);
/// How far `settle` lets an invented clock run.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How often a driver may be due without anything coming out while an invented clock stands still.
pub const FUTILE_MAX: u32 = 10_000;
/// Completions asked for at once.
pub const BUDGET: usize = 64;
/// Bytes of each host's receive pool.
pub const POOL: usize = 16 << 20;

/// One end of a link: which host, which link of its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Index of the host.
    pub host: usize,
    /// The link.
    pub link: LinkId,
}

/// A wake-up call that counts as a reason to poll, and ends a sleep.
#[derive(Debug)]
pub struct Bell {
    rung: AtomicBool,
    fd: OwnedFd,
}

impl Bell {
    /// A bell that has not been rung.
    ///
    /// # Panics
    /// When the system has no descriptor left.
    pub fn new() -> Arc<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd");
        Arc::new(Self { rung: AtomicBool::new(false), fd })
    }

    /// Whether it was rung since the last call.
    pub fn take(&self) -> bool {
        if !self.rung.load(Ordering::Acquire) {
            return false;
        }
        // The descriptor is emptied first: a ring in between leaves the flag set or the descriptor readable.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Readable once rung.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Wake for Bell {
    fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}

/// What became of an `open`.
#[derive(Debug)]
pub struct OpenLog {
    /// Which side.
    pub role: Role,
    flow: Flow,
    /// The real address, once bound.
    pub bound: Option<Endpoint>,
    /// Why it came to nothing.
    pub failed: Option<OpenError>,
    /// Whether the test closed it.
    pub closed: bool,
    /// Its links so far.
    pub links: Vec<LinkId>,
    /// What a monitor would have seen.
    pub progress: Vec<Progress>,
}

/// What happened on a link.
#[derive(Debug)]
pub struct LinkLog {
    /// The open it came from.
    pub open: OpenId,
    /// Who is there.
    pub peer: PeerInfo,
    /// Parts and gaps that arrived and were not taken yet.
    pub inbox: VecDeque<Event>,
    /// Parts that ever arrived, commands included.
    pub arrived: u64,
    /// Parts that were taken by `post_send`, commands included.
    pub posted: u64,
    /// The last `Sent`.
    pub sent: u64,
    /// What came back.
    pub returned: Vec<Part>,
    /// How many `Writable` came.
    pub writables: u64,
    /// How it ended.
    pub down: Option<DownReason>,
    granted: Grant,
    /// Set when `post_send` refused or `room` was seen to be 0; a `Writable` or the end is owed.
    starved: bool,
    closing: bool,
    // Of what was posted and is not covered by Sent; the bodies themselves would pin slots.
    unsent: VecDeque<Print>,
    sent_more: bool,
    return_at: Option<usize>,
}

/// Something that came in on a link, in order.
#[derive(Debug)]
pub enum Event {
    /// A part.
    Part(Part),
    /// Something is missing here.
    Gap(Loss),
}

/// Enough of a part to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    len: usize,
    more: bool,
    command: bool,
    head: u64,
}

impl Print {
    fn of(part: &Part) -> Self {
        let head = &part.body[..part.body.len().min(32)];
        let head = head
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| (hash ^ *b as u64).wrapping_mul(0x100_0000_01b3));
        Self { len: part.body.len(), more: part.flags.more(), command: part.flags.command(), head }
    }
}

/// One driver with what the engine would give it, and what it has said.
#[derive(Debug)]
pub struct Host {
    /// The driver. A test that calls it past the world's verbs must keep the world's log true itself.
    pub driver: Option<Box<dyn Driver>>,
    /// Its receive pool.
    pub pool: FramePool,
    /// Its wake-up call.
    pub bell: Arc<Bell>,
    /// Its opens.
    pub opens: BTreeMap<OpenId, OpenLog>,
    /// Its links, also those that are down.
    pub links: BTreeMap<LinkId, LinkLog>,
    /// Not polled while set: a host that is busy elsewhere.
    pub asleep: bool,
    due: bool,
    futile: u32,
    out: Vec<Completion>,
}

/// Some hosts, each with one driver of the transport under test, and a clock.
#[derive(Debug)]
pub struct World {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// What the links that were made so far can do, from the sender's side.
    pub capabilities: Capabilities,
    transport: Option<Arc<dyn Transport>>,
    fresh: VecDeque<Endpoint>,
    context: u64,
    /// Completions asked for at once.
    pub budget: usize,
    /// By how many completions a poll may exceed that.
    pub slack: usize,
    real_time: bool,
    clock: Instant,
}

/// What the transport offers a duplex socket or, where it has no way back, a sender.
///
/// # Panics
/// When it refuses both.
pub fn capabilities(transport: &dyn Transport, endpoint: &Endpoint) -> Capabilities {
    match transport.capabilities(endpoint, Flow::Duplex) {
        Ok(capabilities) if capabilities.flow == Flow::Duplex => capabilities,
        _ => transport.capabilities(endpoint, Flow::Send).expect("neither a duplex link nor a sender"),
    }
}

impl World {
    /// A world with `hosts` drivers.
    ///
    /// # Panics
    /// When a driver cannot be made, as everything here does when a promise of the seam is broken.
    pub fn new(subject: &dyn Subject, hosts: usize) -> Self {
        Self::with_pools(subject, &vec![POOL; hosts])
    }

    /// A world with one driver per pool budget, in bytes.
    pub fn with_pools(subject: &dyn Subject, budgets: &[usize]) -> Self {
        static CONTEXTS: AtomicU64 = AtomicU64::new(1 << 32);
        let transport = subject.transport();
        let context = CONTEXTS.fetch_add(1, Ordering::Relaxed);
        // Enough for any test here; an endpoint that is never bound costs nothing.
        let fresh: VecDeque<_> = (0..16).map(|_| subject.fresh()).collect();
        let capabilities = capabilities(&*transport, &fresh[0]);
        let now = Instant::now();
        let mut world = Self {
            hosts: Vec::new(),
            capabilities,
            transport: Some(transport),
            fresh,
            context,
            real_time: subject.real_time(),
            clock: now,
            budget: BUDGET,
            slack: usize::MAX,
        };
        for budget in budgets {
            world.add_host(*budget);
        }
        world
    }

    /// One more host, with a receive pool of `budget` bytes. Returns its index.
    pub fn add_host(&mut self, budget: usize) -> usize {
        let (pool, bell) = (FramePool::new(budget), Bell::new());
        let env = DriverEnv { receive_pool: pool.clone(), wake: bell.clone(), context: self.context };
        let transport = self.transport.as_ref().expect("the transport lives as long as the world");
        let driver = transport.driver(env).expect("a driver");
        self.hosts.push(Host {
            driver: Some(driver),
            pool,
            bell,
            opens: BTreeMap::new(),
            links: BTreeMap::new(),
            asleep: false,
            due: true,
            futile: 0,
            out: Vec::new(),
        });
        self.hosts.len() - 1
    }

    /// The time that drivers are told.
    pub fn now(&self) -> Instant {
        if self.real_time { Instant::now() } else { self.clock }
    }

    /// Whether time is the kernel's.
    pub fn real_time(&self) -> bool {
        self.real_time
    }

    /// Whether parts travel both ways.
    pub fn duplex(&self) -> bool {
        self.capabilities.flow == Flow::Duplex
    }

    /// Whether every part arrives.
    pub fn reliable(&self) -> bool {
        self.capabilities.delivery == Delivery::Reliable
    }

    /// An endpoint that nobody has used.
    pub fn fresh(&mut self) -> Endpoint {
        self.fresh.pop_front().expect("a test needs at most 16 endpoints")
    }

    /// What host `at`'s driver would be asked, were it asked now.
    pub fn driver(&mut self, at: usize) -> &mut dyn Driver {
        let host = &mut self.hosts[at];
        host.due = true;
        &mut **host.driver.as_mut().expect("the driver of this host was dropped")
    }

    /// The log of a link.
    pub fn link(&self, end: End) -> &LinkLog {
        &self.hosts[end.host].links[&end.link]
    }

    fn link_mut(&mut self, end: End) -> &mut LinkLog {
        self.hosts[end.host].links.get_mut(&end.link).expect("a link that came up")
    }

    /// Whether the link has gone.
    pub fn is_down(&self, end: End) -> bool {
        self.link(end).down.is_some()
    }

    // Opening

    /// The request that the verbs below make; tests change what they are about.
    pub fn request(&self, endpoint: &Endpoint, role: Role) -> Open {
        let flow = match (self.capabilities.flow, role) {
            (Flow::Duplex, _) => Flow::Duplex,
            (flow, Role::Bind) => flow,
            (_, Role::Connect) => Flow::Recv,
        };
        let identity = Identity { socket_type: "DEALER", ..Identity::default() };
        Open {
            endpoint: endpoint.clone(),
            role,
            flow,
            hello: Hello::NULL,
            identity,
            limits: LinkLimits::default(),
            tuning: Tuning::default(),
        }
    }

    /// Calls `open` and keeps its log.
    ///
    /// # Errors
    /// What the driver said at once.
    pub fn open(&mut self, host: usize, request: Open) -> Result<OpenId, OpenError> {
        let (role, flow) = (request.role, request.flow);
        let open = self.driver(host).open(request)?;
        let log = OpenLog {
            role,
            flow,
            bound: None,
            failed: None,
            closed: false,
            links: Vec::new(),
            progress: Vec::new(),
        };
        assert!(self.hosts[host].opens.insert(open, log).is_none(), "{open:?} was given twice");
        Ok(open)
    }

    /// Binds and waits until it is bound. Returns the real endpoint.
    pub fn bind(&mut self, host: usize, endpoint: &Endpoint) -> (OpenId, Endpoint) {
        let request = self.request(endpoint, Role::Bind);
        self.bind_with(host, request)
    }

    /// Like `bind`, with a request of the test's own.
    pub fn bind_with(&mut self, host: usize, request: Open) -> (OpenId, Endpoint) {
        let open = self.open(host, request).expect("a fresh endpoint can be bound");
        self.run_until("Bound", |world| {
            let log = &world.hosts[host].opens[&open];
            assert!(log.failed.is_none(), "a fresh endpoint can be bound: {log:?}");
            log.bound.is_some()
        });
        let bound = self.hosts[host].opens[&open].bound.clone();
        (open, bound.expect("checked above"))
    }

    /// Starts to connect.
    pub fn connect(&mut self, host: usize, endpoint: &Endpoint) -> OpenId {
        let request = self.request(endpoint, Role::Connect);
        self.open(host, request).expect("dialling starts")
    }

    /// Binds at host 0, connects from host 1, waits for both Ups. The binding side comes first, and is the sender
    /// where parts travel one way. Grants nothing.
    pub fn pair(&mut self) -> (End, End) {
        self.pair_of(0, 1)
    }

    /// Like `pair`, for any two hosts, which may be the same.
    pub fn pair_of(&mut self, binder: usize, connector: usize) -> (End, End) {
        let endpoint = self.fresh();
        let bind = self.request(&endpoint, Role::Bind);
        let connect = self.request(&endpoint, Role::Connect);
        self.pair_with(binder, bind, connector, connect)
    }

    /// Like `pair`, with requests of the test's own; `connect` gets the real address of `bind`.
    pub fn pair_with(
        &mut self,
        binder: usize,
        bind: Open,
        connector: usize,
        mut connect: Open,
    ) -> (End, End) {
        let (listening, endpoint) = self.bind_with(binder, bind);
        connect.endpoint = endpoint;
        let (_, a, b) = self.join(binder, listening, connector, connect);
        (a, b)
    }

    /// Connects to an open that listens, and waits for both Ups.
    pub fn join(
        &mut self,
        binder: usize,
        listening: OpenId,
        connector: usize,
        connect: Open,
    ) -> (OpenId, End, End) {
        let many = self.capabilities.topology == Topology::Multicast;
        // A multicast sender has one link for all receivers, and it may be there already.
        let known = if many { 0 } else { self.hosts[binder].opens[&listening].links.len() };
        let dialling = self.open(connector, connect).expect("dialling starts");
        self.run_until("Up on both sides", |world| {
            let log = &world.hosts[connector].opens[&dialling];
            assert!(log.failed.is_none(), "a bound endpoint can be reached: {log:?}");
            !log.links.is_empty() && world.hosts[binder].opens[&listening].links.len() > known
        });
        let a = End { host: binder, link: self.hosts[binder].opens[&listening].links[known] };
        let b = End { host: connector, link: self.hosts[connector].opens[&dialling].links[0] };
        (dialling, a, b)
    }

    /// The directions in which a pair can send: both, or from the first to the second.
    pub fn directions(&self, (a, b): (End, End)) -> Vec<(End, End)> {
        if self.duplex() { vec![(a, b), (b, a)] } else { vec![(a, b)] }
    }

    // Traffic

    /// Posts one part, without flush. Also checks that `room` kept its word.
    ///
    /// # Errors
    /// The part, when the driver refused it.
    pub fn post(&mut self, end: End, part: Part) -> Result<(), Refused> {
        let print = Print::of(&part);
        let driver = self.driver(end.host);
        let room = driver.room(end.link);
        let posted = driver.post_send(end.link, part);
        let Some(link) = self.hosts[end.host].links.get_mut(&end.link) else {
            assert!(posted.is_err(), "{end:?} never came up, yet takes parts");
            return posted;
        };
        match &posted {
            Ok(()) => {
                assert!(link.down.is_none(), "{end:?} is down, yet takes parts");
                assert!(room > 0 || print.command, "{end:?} has no room, yet takes a part");
                link.posted += 1;
                link.unsent.push_back(print);
            }
            Err(refused) => {
                assert_eq!(Print::of(&refused.part), print, "{end:?} gave back another part");
                let closed = link.down.is_some() || link.closing;
                match refused.reason {
                    RefusedReason::Full => {
                        assert!(!closed, "{end:?} is closing, yet says Full");
                        assert_eq!(room, 0, "{end:?} has room, yet says Full");
                        // A refused command says nothing about room for parts.
                        link.starved |= !print.command;
                    }
                    // The peer may have closed without our knowing yet, so no more can be said here.
                    RefusedReason::Closed => assert_eq!(room, 0, "{end:?} has room, yet is closed"),
                }
            }
        }
        posted
    }

    /// `room`, and remembers that a `Writable` is owed when it is 0.
    pub fn room(&mut self, end: End) -> usize {
        let room = self.driver(end.host).room(end.link);
        if let Some(link) = self.hosts[end.host].links.get_mut(&end.link) {
            link.starved |= room == 0 && link.down.is_none() && !link.closing;
        }
        room
    }

    /// Makes the device see what was posted.
    pub fn flush(&mut self, host: usize) {
        self.driver(host).flush();
    }

    /// Posts a whole message, waiting for `Writable` where there is no room, and flushes.
    pub fn send(&mut self, end: End, parts: &[&[u8]]) {
        let last = parts.len() - 1;
        let parts = parts.iter().enumerate();
        let parts = parts.map(|(at, body)| if at == last { Part::last(*body) } else { Part::more(*body) });
        self.send_parts(end, parts.collect());
    }

    /// Like `send`, for parts that exist already.
    pub fn send_parts(&mut self, end: End, parts: Vec<Part>) {
        for part in parts {
            if !part.flags.command() && self.room(end) == 0 {
                // What was posted must be seen, or there will never be room.
                self.flush(end.host);
                self.await_room(end);
            }
            self.post(end, part).expect("there is room");
        }
        self.flush(end.host);
    }

    /// Posts as many of `parts` as there is room for and flushes; the first left over stays first.
    pub fn send_some(&mut self, end: End, parts: &mut VecDeque<Part>) {
        while !parts.is_empty() && self.room(end) > 0 {
            let part = parts.pop_front().expect("checked above");
            self.post(end, part).expect("there is room");
        }
        self.flush(end.host);
    }

    /// Waits for `Writable` after a `room` of 0.
    pub fn await_room(&mut self, end: End) {
        let before = self.link(end).writables;
        self.run_until("Writable", |world| {
            let link = world.link(end);
            assert!(link.down.is_none(), "{end:?} went down instead of becoming writable: {link:?}");
            link.writables > before
        });
    }

    /// Posts parts made by `make` until the link has refused one and nothing helps. Returns how many it took.
    pub fn fill(&mut self, end: End, mut make: impl FnMut(u64) -> Part) -> u64 {
        let mut taken = 0;
        loop {
            match self.post(end, make(taken)) {
                Ok(()) => taken += 1,
                Err(refused) => {
                    assert_eq!(refused.reason, RefusedReason::Full, "{end:?}");
                    let before = self.link(end).writables;
                    self.flush(end.host);
                    self.settle();
                    if self.link(end).writables == before {
                        return taken;
                    }
                }
            }
            assert!(
                taken < FILL_MAX,
                "{end:?} took {FILL_MAX} parts that nobody reads: its queue has no bound"
            );
        }
    }

    /// Sets the receive credit.
    pub fn grant(&mut self, end: End, grant: Grant) {
        self.driver(end.host).grant(end.link, grant);
        if let Some(link) = self.hosts[end.host].links.get_mut(&end.link) {
            link.granted = grant;
        }
    }

    /// Takes what has arrived, without gaps.
    pub fn take(&mut self, end: End) -> Vec<Part> {
        let events = std::mem::take(&mut self.link_mut(end).inbox);
        let parts = events.into_iter().filter_map(|event| match event {
            Event::Part(part) => Some(part),
            Event::Gap(_) => None,
        });
        parts.collect()
    }

    /// Takes what has arrived, in order.
    pub fn take_events(&mut self, end: End) -> Vec<Event> {
        std::mem::take(&mut self.link_mut(end).inbox).into()
    }

    /// Waits until `count` parts have arrived since they were last taken, and takes everything.
    pub fn receive(&mut self, end: End, count: usize) -> Vec<Part> {
        self.run_until("parts to arrive", |world| {
            let link = world.link(end);
            assert!(link.inbox.len() >= count || link.down.is_none(), "{end:?} went down: {link:?}");
            link.inbox.len() >= count
        });
        self.take(end)
    }

    // Closing

    /// Ends a link; `Down` is still to come.
    pub fn close(&mut self, end: End, how: Close) {
        self.driver(end.host).close_link(end.link, how);
        if let Some(link) = self.hosts[end.host].links.get_mut(&end.link) {
            link.closing = true;
        }
    }

    /// Stops listening or dialling.
    pub fn close_open(&mut self, host: usize, open: OpenId) {
        self.driver(host).close_open(open);
        if let Some(log) = self.hosts[host].opens.get_mut(&open) {
            log.closed = true;
        }
    }

    /// Waits for `Down`.
    pub fn await_down(&mut self, end: End) -> DownReason {
        self.run_until("Down", |world| world.is_down(end));
        self.link(end).down.expect("checked above")
    }

    /// Drops a host's driver, as when an engine shard ends.
    pub fn drop_driver(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.driver = None;
        host.links.clear();
        host.opens.clear();
    }

    /// Hands a host's driver and bell to the test, which drives it from now on.
    ///
    /// # Panics
    /// When the driver was dropped.
    pub fn take_driver(&mut self, host: usize) -> (Box<dyn Driver>, Arc<Bell>) {
        let host = &mut self.hosts[host];
        host.links.clear();
        host.opens.clear();
        (host.driver.take().expect("the driver of this host was dropped"), host.bell.clone())
    }

    // Time

    /// Polls and sleeps until `done` holds.
    ///
    /// # Panics
    /// When it does not hold before the limit, or nothing can happen any more; says `what` was awaited.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let limit = self.now() + if self.real_time { REAL_LIMIT } else { VIRTUAL_LIMIT };
        loop {
            if done(self) {
                return;
            }
            if self.turn() || self.any_due() {
                // A busy world must not run for ever either.
                assert!(self.now() < limit, "waited too long for {what}: {self:#?}");
                continue;
            }
            if done(self) {
                return;
            }
            assert!(
                self.sleep(limit),
                "waited in vain for {what} (a wake-up, a deadline or a completion is missing): {self:#?}"
            );
        }
    }

    /// Polls until nothing more happens: by an invented clock, until no deadline lies within [`SETTLE`]; by the
    /// kernel's, until it was silent for [`QUIET`].
    pub fn settle(&mut self) {
        let horizon = self.now() + SETTLE;
        let limit = self.now() + REAL_LIMIT;
        loop {
            while self.turn() || self.any_due() {
                assert!(!self.real_time || self.now() < limit, "the world never comes to rest: {self:#?}");
            }
            let until = if self.real_time { self.now() + QUIET } else { horizon };
            if !self.sleep(until) {
                return;
            }
        }
    }

    /// Polls every host once that is due. True if anything came out.
    pub fn turn(&mut self) -> bool {
        let mut some = false;
        for at in 0..self.hosts.len() {
            some |= self.poll_host(at) > 0;
        }
        some
    }

    /// The smallest step at which a test can cut in: polls once and, if nothing came of it, sleeps once.
    pub fn step(&mut self) {
        if !self.turn() && !self.any_due() {
            let until = self.now() + if self.real_time { QUIET } else { SETTLE };
            self.sleep(until);
        }
    }

    fn any_due(&self) -> bool {
        self.hosts.iter().any(|host| host.due && !host.asleep && host.driver.is_some())
    }

    fn poll_host(&mut self, at: usize) -> usize {
        let (now, real_time, budget) = (self.now(), self.real_time, self.budget);
        let host = &mut self.hosts[at];
        let Some(driver) = &mut host.driver else { return 0 };
        if host.asleep {
            return 0;
        }
        host.due |= host.bell.take() || driver.deadline().is_some_and(|deadline| deadline <= now);
        if !host.due {
            return 0;
        }
        let mut out = std::mem::take(&mut host.out);
        driver.poll(now, &mut out, budget);
        let count = out.len();
        assert!(count <= budget.saturating_add(self.slack), "{count} completions for a budget of {budget}");
        if count == 0 {
            // Only a caller that got nothing goes to sleep, and only after arming.
            host.due = driver.arm() == Armed::Busy;
            host.futile += 1;
            assert!(
                real_time || host.futile < FUTILE_MAX,
                "host {at} is always busy or its deadline stays in the past, but nothing comes out: {driver:#?}"
            );
        } else {
            host.futile = 0;
        }
        for completion in out.drain(..) {
            self.absorb(at, completion);
        }
        self.hosts[at].out = out;
        count
    }

    /// Sleeps until something may have happened. False if that was only `limit`.
    fn sleep(&mut self, limit: Instant) -> bool {
        let awake = || self.hosts.iter().filter(|host| !host.asleep);
        let deadline = awake().filter_map(|host| host.driver.as_ref()?.deadline()).min();
        if !self.real_time {
            let rung = awake().any(|host| host.driver.is_some() && host.bell.rung.load(Ordering::Acquire));
            if rung {
                return true;
            }
            let Some(deadline) = deadline.filter(|deadline| *deadline <= limit) else {
                // Deadlines beyond the horizon stay where they are, and so does the clock.
                return false;
            };
            if deadline > self.clock {
                self.clock = deadline;
                self.hosts.iter_mut().for_each(|host| host.futile = 0);
            }
            return true;
        }
        let until = deadline.map_or(limit, |deadline| deadline.min(limit));
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("limits are seconds, not centuries");
        let mut owners = Vec::new();
        let mut fds = Vec::new();
        for (at, host) in self.hosts.iter().enumerate().filter(|(_, host)| !host.asleep) {
            let Some(driver) = &host.driver else { continue };
            owners.push(at);
            fds.push(PollFd::from_borrowed_fd(host.bell.fd().as_fd(), PollFlags::IN));
            if let Some(fd) = driver.wake_fd() {
                owners.push(at);
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let ready = match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return true,
            Err(error) => panic!("poll(2): {error}"),
        };
        let readable: Vec<_> =
            fds.iter().zip(&owners).filter(|(fd, _)| !fd.revents().is_empty()).map(|(_, at)| *at).collect();
        for at in readable {
            self.hosts[at].due = true;
        }
        ready > 0 || until < limit
    }

    /// Moves an invented clock.
    pub fn advance(&mut self, by: Duration) {
        assert!(!self.real_time, "nobody moves the kernel's clock");
        self.clock += by;
    }

    // The promises

    fn absorb(&mut self, at: usize, completion: Completion) {
        let host = &mut self.hosts[at];
        match completion {
            Completion::Bound { open, endpoint } => {
                let log = host.opens.get_mut(&open).expect("Bound of an open that nobody asked for");
                assert_eq!(log.role, Role::Bind, "Bound of a connect");
                assert!(!log.closed, "Bound after close_open");
                assert!(log.bound.is_none() && log.failed.is_none(), "Bound is not the first word: {log:?}");
                assert!(log.links.is_empty(), "an Up came before Bound");
                log.bound = Some(endpoint);
            }
            Completion::Failed { open, error } => {
                let log = host.opens.get_mut(&open).expect("Failed of an open that nobody asked for");
                assert!(!log.closed, "Failed after close_open");
                assert!(log.bound.is_none() && log.failed.is_none(), "two outcomes of one open: {log:?}");
                assert!(log.links.is_empty(), "Failed after Up: {log:?}");
                log.failed = Some(error);
            }
            Completion::Progress { open, progress } => {
                let log = host.opens.get_mut(&open).expect("Progress of an open that nobody asked for");
                assert!(!log.closed, "Progress after close_open");
                log.progress.push(progress);
            }
            Completion::Up { link, open, peer } => {
                let log = host.opens.get_mut(&open).expect("Up of an open that nobody asked for");
                assert!(!log.closed, "Up after close_open");
                assert!(log.failed.is_none(), "Up after Failed");
                match log.role {
                    Role::Bind => assert!(log.bound.is_some(), "Up before Bound"),
                    // One per source where many may send.
                    Role::Connect => assert!(log.links.is_empty() || log.flow == Flow::Recv, "a second Up"),
                }
                log.links.push(link);
                let fresh = LinkLog {
                    open,
                    peer,
                    inbox: VecDeque::new(),
                    arrived: 0,
                    posted: 0,
                    sent: 0,
                    returned: Vec::new(),
                    writables: 0,
                    down: None,
                    granted: Grant::Limited(0),
                    starved: false,
                    closing: false,
                    unsent: VecDeque::new(),
                    sent_more: false,
                    return_at: None,
                };
                assert!(host.links.insert(link, fresh).is_none(), "{link:?} came up twice");
            }
            Completion::Received { link, part } => {
                let log = host.live(link, "Received");
                assert!(log.return_at.is_none(), "{link:?}: Received after Returned");
                assert!(!log.closing, "{link:?}: Received after close_link");
                assert!(!(part.flags.command() && part.flags.more()), "{link:?}: a command with MORE");
                if !part.flags.command()
                    && let Grant::Limited(left) = &mut log.granted
                {
                    assert!(*left > 0, "{link:?}: more parts than were granted");
                    *left -= 1;
                }
                log.arrived += 1;
                log.inbox.push_back(Event::Part(part));
            }
            Completion::Sent { link, through } => {
                let log = host.live(link, "Sent");
                assert!(log.return_at.is_none(), "{link:?}: Sent after Returned");
                assert!(through >= log.sent, "{link:?}: Sent goes back from {} to {through}", log.sent);
                assert!(through <= log.posted, "{link:?}: Sent {through}, but {} were posted", log.posted);
                for print in log.unsent.drain(..(through - log.sent) as usize) {
                    if !print.command {
                        log.sent_more = print.more;
                    }
                }
                log.sent = through;
            }
            Completion::Returned { link, part } => {
                let log = host.live(link, "Returned");
                log.returns(link, &part);
                log.returned.push(part);
            }
            Completion::Writable { link } => {
                let log = host.live(link, "Writable");
                assert!(log.return_at.is_none(), "{link:?}: Writable after Returned");
                log.starved = false;
                log.writables += 1;
            }
            Completion::Gap { link, lost } => {
                let log = host.live(link, "Gap");
                assert!(log.return_at.is_none(), "{link:?}: Gap after Returned");
                let (Loss::Packets(count) | Loss::Messages(count)) = lost;
                assert!(count > 0, "{link:?}: a Gap of nothing");
                assert_eq!(
                    self.capabilities.delivery,
                    Delivery::GapReported,
                    "{link:?}: a Gap on a reliable link"
                );
                log.inbox.push_back(Event::Gap(lost));
            }
            Completion::Down { link, reason } => {
                let log = host.live(link, "Down");
                log.returned_all(link);
                log.down = Some(reason);
            }
            other => panic!("a completion that the suite does not know: {other:?}"),
        }
    }

    /// Closes everything, waits for every `Down`, and checks that all slots have come home. Runs when a world is
    /// dropped, unless the test has failed already.
    fn end(&mut self) {
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            host.asleep = false;
            if host.driver.is_none() {
                continue;
            }
            let opens: Vec<_> =
                host.opens.iter().filter(|(_, log)| !log.closed).map(|(open, _)| *open).collect();
            let links: Vec<_> =
                host.links.iter().filter(|(_, log)| log.down.is_none()).map(|(link, _)| *link).collect();
            for open in opens {
                self.close_open(at, open);
            }
            for link in links {
                self.close(End { host: at, link }, Close::Abort);
            }
        }
        self.run_until("every link to go down", |world| {
            let live =
                |host: &Host| host.driver.is_some() && host.links.values().any(|log| log.down.is_none());
            !world.hosts.iter().any(live)
        });
        for host in &mut self.hosts {
            host.driver = None;
            host.links.clear();
        }
        self.transport = None;
        for (at, host) in self.hosts.iter().enumerate() {
            let usage = host.pool.usage();
            assert_eq!(usage.lent_slots, 0, "slots of host {at} did not come home");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

impl Host {
    fn live(&mut self, link: LinkId, what: &str) -> &mut LinkLog {
        let log = self.links.get_mut(&link).unwrap_or_else(|| panic!("{what} of {link:?} before its Up"));
        assert!(log.down.is_none(), "{what} of {link:?} after its Down");
        log
    }
}

impl LinkLog {
    /// `Sent` covers everything.
    pub fn all_sent(&self) -> bool {
        self.sent == self.posted
    }

    /// Whether a `Writable` is owed: there was a refusal or a `room` of 0, and none came since.
    pub fn starved(&self) -> bool {
        self.starved
    }

    /// Returned parts are whole messages out of what Sent does not cover, without holes. Commands may be among them.
    fn returns(&mut self, link: LinkId, part: &Part) {
        let print = Print::of(part);
        let at = match self.return_at {
            None => {
                let at = self.unsent.iter().position(|unsent| *unsent == print);
                let at = at.unwrap_or_else(|| panic!("{link:?}: returned what it may not: {part:?}"));
                let before = self.unsent.iter().take(at).rev().find(|print| !print.command);
                let inside = before.map_or(self.sent_more, |print| print.more);
                assert!(
                    print.command || !inside,
                    "{link:?}: returned from the middle of a message: {part:?}"
                );
                at
            }
            Some(mut at) => {
                while self.unsent.get(at).is_some_and(|unsent| unsent.command && *unsent != print) {
                    at += 1;
                }
                assert_eq!(self.unsent.get(at), Some(&print), "{link:?}: returned out of order");
                at
            }
        };
        self.return_at = Some(at + 1);
    }

    /// What follows a returned message was not seen by the device either, so it must have come back as well; only
    /// the beginning of a message that was never finished may be left out.
    fn returned_all(&self, link: LinkId) {
        let Some(at) = self.return_at else { return };
        let unfinished = self.unsent.iter().skip(at).filter(|print| !print.command).all(|print| print.more);
        assert!(unfinished, "{link:?}: only some of the messages behind the first returned one came back");
    }
}

/// Parts that [`World::fill`] posts before it gives up.
pub const FILL_MAX: u64 = 65_536;

/// A body that says which it is: `seq` in the first 8 bytes, then a pattern that depends on it. `len` in bytes;
/// shorter bodies hold the beginning.
pub fn body(seq: u64, len: usize) -> Frame {
    let mut bytes = Vec::with_capacity(len + PATTERN);
    bytes.extend_from_slice(&seq.to_le_bytes());
    // A prime number of bytes, so that a body shifted by a power of two does not look right.
    let pattern: [u8; PATTERN] = std::array::from_fn(|at| (at as u64).wrapping_add(seq) as u8);
    while bytes.len() < len {
        bytes.extend_from_slice(&pattern);
    }
    bytes.truncate(len);
    Frame::from(bytes)
}

const PATTERN: usize = 251;

/// The number in a body.
///
/// # Panics
/// When the rest of the body does not go with it.
pub fn seq_of(bytes: &[u8]) -> u64 {
    let head = bytes.get(..8).expect("a body of at least 8 bytes");
    let seq = u64::from_le_bytes(head.try_into().expect("8 bytes"));
    assert!(body(seq, bytes.len()) == *bytes, "body {seq} of {} bytes is corrupt", bytes.len());
    seq
}
