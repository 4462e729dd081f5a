//! What the three media share: seeded chance, virtual time, wake-ups, and a link's queue of parts to send. Knows no
//! medium.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use transport_core::limits::COMMANDS_MAX;
use transport_core::{
    Completion, Deferral, Endpoint, Grant, Hello, LinkId, MechanismName, OpenError, OpenId, Part, Refused,
    RefusedReason, Violation, Wake,
};

use super::limits::LINK_PARTS_MAX;

/// Chance by a seed: xorshift64*. The same seed gives the same world for ever, which no crate's generator promises.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From any seed; neighbouring seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        // One step of splitmix64, or seeds 1, 2, 3 would start out alike; never zero, where xorshift would stay.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ (mixed >> 31)).max(1))
    }
    /// Any word.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.word() >> 16) as usize % end }
    }
    /// True `permille` times out of a thousand.
    pub fn permille(&mut self, permille: u32) -> bool {
        // Drawn even at 0, so that a knob does not shift the rest of the sequence.
        self.below(1000) < permille as usize
    }
    /// How much of `len` bytes one call of a system moves: mostly a few, sometimes all. At least one if `len` is.
    pub(super) fn segment(&mut self, len: usize) -> usize {
        match self.below(4) {
            0 => len,
            1 => 1 + self.below(len),
            _ => 1 + self.below(12),
        }
        .min(len)
    }
}

/// Runs `test` for each seed, and names the seed in the output of the one that panics.
pub fn each_seed(seeds: std::ops::Range<u64>, mut test: impl FnMut(u64)) {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with seed {}", self.0);
            }
        }
    }
    for seed in seeds {
        let _named = Named(seed);
        test(seed);
    }
}

/// One world behind one lock, for every driver made from a medium.
pub(super) struct Shared<W>(Arc<Mutex<W>>);

impl<W> Shared<W> {
    pub(super) fn new(world: W) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }
    pub(super) fn hold(&self) -> Held<'_, W> {
        let deferral = Deferral::begin();
        Held { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), _deferral: deferral }
    }
}

impl<W> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W> fmt::Debug for Shared<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// A held lock. The guard is declared first and so goes first: free functions run after it.
pub(super) struct Held<'a, W> {
    guard: MutexGuard<'a, W>,
    _deferral: Deferral,
}

impl<W> Deref for Held<'_, W> {
    type Target = W;
    fn deref(&self) -> &W {
        &self.guard
    }
}
impl<W> DerefMut for Held<'_, W> {
    fn deref_mut(&mut self) -> &mut W {
        &mut self.guard
    }
}

/// What will happen in a world, by virtual time; what is due at one instant happens in the order it was planned.
#[derive(Debug)]
pub(super) struct Timeline<E> {
    now: Option<Instant>,
    planned: u64,
    events: BinaryHeap<Reverse<Planned<E>>>,
    /// Planned before anyone told the time.
    early: Vec<(Duration, E)>,
}

#[derive(Debug)]
struct Planned<E> {
    at: Instant,
    order: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<E> Eq for Planned<E> {}
impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> Timeline<E> {
    pub(super) fn new() -> Self {
        Self { now: None, planned: 0, events: BinaryHeap::new(), early: Vec::new() }
    }
    /// Time only goes on: drivers polled at different times share the latest.
    pub(super) fn advance(&mut self, now: Instant) {
        let now = self.now.map_or(now, |before| before.max(now));
        self.now = Some(now);
        for (delay, event) in std::mem::take(&mut self.early) {
            self.plan_at(now + delay, event);
        }
    }
    pub(super) fn now(&self) -> Option<Instant> {
        self.now
    }
    pub(super) fn plan(&mut self, delay: Duration, event: E) {
        match self.now {
            Some(now) => self.plan_at(now + delay, event),
            None => self.early.push((delay, event)),
        }
    }
    pub(super) fn plan_at(&mut self, at: Instant, event: E) {
        self.planned += 1;
        self.events.push(Reverse(Planned { at, order: self.planned, event }));
    }
    pub(super) fn take_due(&mut self) -> Option<E> {
        let due = self.events.peek().is_some_and(|Reverse(first)| Some(first.at) <= self.now);
        if due { self.events.pop().map(|Reverse(planned)| planned.event) } else { None }
    }
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.events.peek().map(|Reverse(first)| first.at)
    }
}

/// Names a driver in its world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HostId(usize);

/// The drivers of a world, to wake them.
#[derive(Debug, Default)]
pub(super) struct Hosts(Vec<Option<Host>>);

#[derive(Debug)]
struct Host {
    wake: Arc<dyn Wake>,
    /// Something changed since its last poll, and it has been told.
    poked: bool,
}

impl Hosts {
    pub(super) fn join(&mut self, wake: Arc<dyn Wake>) -> HostId {
        self.0.push(Some(Host { wake, poked: false }));
        HostId(self.0.len() - 1)
    }
    pub(super) fn leave(&mut self, id: HostId) {
        self.0[id.0] = None;
    }
    /// Tells a driver, once until it polls. Allowed under the world's lock: `Wake` takes no lock of a driver.
    pub(super) fn poke(&mut self, id: HostId) {
        if let Some(host) = &mut self.0[id.0]
            && !host.poked
        {
            host.poked = true;
            host.wake.wake();
        }
    }
    pub(super) fn settle(&mut self, id: HostId) {
        if let Some(host) = &mut self.0[id.0] {
            host.poked = false;
        }
    }
    pub(super) fn is_poked(&self, id: HostId) -> bool {
        self.0[id.0].as_ref().is_some_and(|host| host.poked)
    }
}

/// Completions on their way out. Everything passes through here, so that a budget cannot change the order.
#[derive(Debug, Default)]
pub(super) struct News(VecDeque<Completion>);

impl News {
    pub(super) fn say(&mut self, completion: Completion) {
        self.0.push_back(completion);
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Takes back everything not yet said about an open that was closed. Its links of which nobody has heard are
    /// forgotten too, and named, so that the driver ends them in silence.
    pub(super) fn forget_open(&mut self, closed: OpenId) -> Vec<LinkId> {
        let unheard = |completion: &Completion| match completion {
            Completion::Up { link, open, .. } if *open == closed => Some(*link),
            _ => None,
        };
        let links: Vec<_> = self.0.iter().filter_map(unheard).collect();
        self.0.retain(|completion| {
            let unheard = completion.link().is_some_and(|link| links.contains(&link));
            completion.open() != Some(closed) && !unheard
        });
        links
    }
    /// Hands over until `out` has grown to `until`.
    pub(super) fn hand_over(&mut self, out: &mut Vec<Completion>, until: usize) {
        while out.len() < until
            && let Some(completion) = self.0.pop_front()
        {
            out.push(completion);
        }
    }
}

/// The parts of one link that wait for the device, and the rules of `room`, `Writable` and `Returned`.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    parts: VecDeque<Part>,
    commands: usize,
    /// How many at the front a `flush` has released.
    released: usize,
    taken: u64,
    /// The device has seen the start of the message whose rest is at the front.
    torn: bool,
    owes_writable: bool,
}

impl Outbox {
    pub(super) fn room(&self) -> usize {
        // The first commands have room of their own; what a flood has beyond that counts as parts.
        LINK_PARTS_MAX.saturating_sub(self.parts.len() - self.commands.min(COMMANDS_MAX))
    }
    pub(super) fn post(&mut self, part: Part) -> Result<(), Refused> {
        let command = part.flags.command();
        if self.room() == 0 && !(command && self.commands < COMMANDS_MAX) {
            self.owes_writable = true;
            return Err(Refused { part, reason: RefusedReason::Full });
        }
        self.commands += usize::from(command);
        self.parts.push_back(part);
        self.owes_writable |= self.room() == 0;
        Ok(())
    }
    pub(super) fn release(&mut self) {
        self.released = self.parts.len();
    }
    /// The next part that the device may see.
    pub(super) fn front(&self) -> Option<&Part> {
        if self.released > 0 { self.parts.front() } else { None }
    }
    /// Takes it: the device has seen it from now on.
    pub(super) fn take(&mut self) -> Option<Part> {
        if self.released == 0 {
            return None;
        }
        let part = self.parts.pop_front()?;
        self.released -= 1;
        self.taken += 1;
        if part.flags.command() {
            self.commands -= 1;
        } else {
            self.torn = part.flags.more();
        }
        Some(part)
    }
    /// How many parts have ever been taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
    /// Whether `Writable` is due now; asking settles it.
    pub(super) fn settle_writable(&mut self) -> bool {
        let due = self.owes_writable && self.room() > 0;
        self.owes_writable &= !due;
        due
    }
    /// Says `Returned` for every whole message that the device never saw. Commands die with the link: they belong
    /// to its session. So does a message that the engine was still posting.
    pub(super) fn give_back(&mut self, link: LinkId, news: &mut News) {
        let whole = self.parts.iter().rposition(|part| !part.flags.command() && !part.flags.more());
        for (at, part) in std::mem::take(&mut self.parts).into_iter().enumerate() {
            if part.flags.command() {
                continue;
            }
            if self.torn {
                self.torn = part.flags.more();
            } else if whole.is_some_and(|last| at <= last) {
                news.say(Completion::Returned { link, part });
            }
        }
        *self = Self { taken: self.taken, ..Self::default() };
    }
}

/// Receive credit and its arithmetic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance(Grant);

impl Allowance {
    pub(super) const NONE: Self = Self(Grant::Limited(0));
    pub(super) fn set(&mut self, grant: Grant) {
        self.0 = grant;
    }
    pub(super) fn spent(&self) -> bool {
        self.0 == Grant::Limited(0)
    }
    pub(super) fn covers(&self, parts: usize) -> bool {
        match self.0 {
            Grant::Limited(left) => parts as u64 <= left,
            Grant::Unlimited => true,
        }
    }
    pub(super) fn spend(&mut self) {
        if let Grant::Limited(left) = &mut self.0 {
            *left = left.saturating_sub(1);
        }
    }
}

/// The Hello as the media say it: a magic byte, the minor version, flags, and the mechanism's 20 bytes.
pub(super) const HELLO_BYTES: usize = 23;
const HELLO_MAGIC: u8 = 0xfb;

pub(super) fn encode_hello(hello: Hello) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    bytes[..3].copy_from_slice(&[HELLO_MAGIC, hello.minor, u8::from(hello.as_server)]);
    bytes[3..].copy_from_slice(&hello.mechanism.to_wire());
    bytes
}

pub(super) fn decode_hello(bytes: &[u8; HELLO_BYTES]) -> Result<Hello, Violation> {
    let [HELLO_MAGIC, minor, flags @ 0..=1, mechanism @ ..] = bytes else {
        return Err(Violation::BadGreeting);
    };
    Ok(Hello { minor: *minor, as_server: *flags == 1, mechanism: MechanismName::from_wire(*mechanism) })
}

/// Reads `host:port`, where the port of a bind may be `*`. Hosts are decoration here: a world is one host.
pub(super) fn read_address(endpoint: &Endpoint, may_be_wildcard: bool) -> Result<Option<u16>, OpenError> {
    let bad = || OpenError::BadAddress {
        endpoint: endpoint.clone(),
        expected: "write it as host:port, with `*` for any free port when binding".into(),
    };
    let (host, port) = endpoint.address().rsplit_once(':').ok_or_else(bad)?;
    if host.is_empty() {
        return Err(bad());
    }
    match port {
        "*" | "0" if may_be_wildcard => Ok(None),
        _ => port.parse().ok().filter(|&port| port != 0).map(Some).ok_or_else(bad),
    }
}

/// The endpoint with its wildcards filled in.
pub(super) fn real_address(endpoint: &Endpoint, port: u16) -> Endpoint {
    let host = endpoint.address().rsplit_once(':').map_or("", |(host, _)| host);
    endpoint.with_address(&format!("{}:{port}", if host == "*" { "localhost" } else { host }))
}

/// The earlier of two deadlines, either of which may be absent.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transport_core::Slab;

    fn returned(outbox: &mut Outbox) -> Vec<Vec<u8>> {
        let link = Slab::<LinkId, ()>::new().insert(());
        let mut news = News::default();
        outbox.give_back(link, &mut news);
        news.0
            .iter()
            .filter_map(|completion| match completion {
                Completion::Returned { part, .. } => Some(part.body.to_vec()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn only_whole_unseen_messages_come_back() {
        let mut outbox = Outbox::default();
        for part in [
            Part::more("seen"),
            Part::last("torn"),
            Part::command("c"),
            Part::more("a"),
            Part::last("b"),
            Part::more("unfinished"),
        ] {
            outbox.post(part).unwrap();
        }
        assert!(outbox.take().is_none(), "not before a flush");
        outbox.release();
        assert!(outbox.take().unwrap().flags.more());
        assert_eq!(returned(&mut outbox), [b"a", b"b"]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn room_and_writable() {
        let mut outbox = Outbox::default();
        for _ in 0..LINK_PARTS_MAX {
            outbox.post(Part::last("x")).unwrap();
        }
        assert_eq!(outbox.room(), 0);
        assert!(outbox.post(Part::last("y")).is_err());
        for _ in 0..COMMANDS_MAX {
            outbox.post(Part::command("c")).unwrap();
        }
        assert!(outbox.post(Part::command("d")).is_err());
        assert!(!outbox.settle_writable());
        outbox.release();
        while outbox.take().is_some() {}
        assert!(outbox.settle_writable());
        assert!(!outbox.settle_writable(), "once");
    }

    #[test]
    fn time_and_order() {
        let start = Instant::now();
        let mut timeline = Timeline::new();
        timeline.plan(Duration::from_millis(1), 'b');
        timeline.advance(start);
        timeline.plan(Duration::from_millis(1), 'c');
        timeline.plan(Duration::ZERO, 'a');
        assert_eq!((timeline.take_due(), timeline.take_due()), (Some('a'), None));
        timeline.advance(start + Duration::from_millis(1));
        assert_eq!((timeline.take_due(), timeline.take_due()), (Some('b'), Some('c')));
        assert_eq!(timeline.next_at(), None);
    }

    #[test]
    fn hello_survives_and_garbage_does_not() {
        let hello = Hello { minor: 1, mechanism: MechanismName::new("CURVE"), as_server: true };
        assert_eq!(decode_hello(&encode_hello(hello)), Ok(hello));
        assert_eq!(decode_hello(&[0x5a; HELLO_BYTES]), Err(Violation::BadGreeting));
    }
}
