//! Runs drivers directly, without an engine, and holds every run to the seam's promises. Tests no property by itself.
//!
//! A [`World`] is as lazy as the engine may be: once `arm` has said Ready, a driver is polled again only when its
//! descriptor is readable, its [`Wake`](transport_core::Wake) was rung, its deadline has passed, or the test called it. So a wake-up that a
//! driver forgets shows as a run that never ends, in every test and not only in the one about wake-ups.

mod bell;
mod body;
mod promises;
mod time;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use transport_core::{
    Capabilities, Close, Completion, Delivery, DownReason, Driver, DriverEnv, Endpoint, Flow, FramePool,
    Grant, Hello, Identity, LinkId, LinkLimits, Open, OpenError, OpenId, Part, Refused, RefusedReason, Role,
    Topology, Transport, Tuning,
};

use crate::subject::Subject;

pub use bell::Bell;
pub use body::{body, seq_of};
use promises::Print;
pub use promises::{Event, LinkLog, OpenLog};

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
/// Parts that [`World::fill`] posts before it gives up.
pub const FILL_MAX: u64 = 65_536;
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
    deadline: Option<Instant>,
    futile: u32,
    out: Vec<Completion>,
    /// What it had copied at its last poll.
    copied: u64,
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
    /// Parts posted so far: every other one is offered by reference.
    posts: u64,
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
            posts: 0,
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
            deadline: None,
            futile: 0,
            out: Vec::new(),
            copied: 0,
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
            listener: None,
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
        self.posts += 1;
        let by_reference = self.posts.is_multiple_of(2);
        let driver = self.driver(end.host);
        let room = driver.room(end.link);
        // By reference as well as by value, wherever a driver takes that.
        let posted = if by_reference && driver.post_small(end.link, &part.body, part.flags) {
            Ok(())
        } else {
            driver.post_send(end.link, part)
        };
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
