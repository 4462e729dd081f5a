//! Trouble by seed: refusals, late Writables, polls in tiny pieces, links that break. Loses and changes nothing itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use transport_core::{
    Armed, Capabilities, Close, Completion, Driver, DriverEnv, Endpoint, Flags, Flow, Frame, Grant, LinkId,
    Open, OpenError, OpenId, Part, Refused, RefusedReason, Transport,
};

/// How often there is trouble; 0 is never.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// After one poll in so many, a link has no room for some polls.
    pub refuse_one_in: u64,
    /// For up to how many polls.
    pub refuse_polls: u64,
    /// A poll gets a budget of at most this.
    pub budget: u64,
    /// In one poll out of so many, some link is aborted.
    pub abort_one_in: u64,
}

impl Faults {
    /// What no caller may notice.
    pub const TRANSIENT: Self = Self { refuse_one_in: 10, refuse_polls: 5, budget: 3, abort_one_in: 0 };
    /// The same, and links that break.
    pub const BREAKING: Self = Self { abort_one_in: 500, ..Self::TRANSIENT };
}

/// Wraps any transport.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Transport>,
    seed: AtomicU64,
    faults: Faults,
}

impl Faulty {
    /// Makes trouble over `inner`, the same for the same seed.
    pub fn new(inner: Arc<dyn Transport>, seed: u64, faults: Faults) -> Self {
        Self { inner, seed: AtomicU64::new(seed), faults }
    }
}

impl Transport for Faulty {
    fn schemes(&self) -> &'static [&'static str] {
        self.inner.schemes()
    }
    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError> {
        self.inner.capabilities(endpoint, flow)
    }
    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let inner = self.inner.driver(env)?;
        let seed = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) | 1;
        Ok(Box::new(FaultyDriver { inner, faults: self.faults, random: seed, links: BTreeMap::new() }))
    }
}

#[derive(Debug)]
struct FaultyDriver {
    inner: Box<dyn Driver>,
    faults: Faults,
    random: u64,
    links: BTreeMap<LinkId, Mood>,
}

#[derive(Debug, Default)]
struct Mood {
    /// For how many polls it still refuses.
    polls: u64,
    /// Somebody was refused, or saw no room, or the inner driver's own Writable was kept back.
    owed: Cell<bool>,
}

/// A number below `bound`, which is not 0.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (*random >> 11) % bound
}

fn one_in(random: &mut u64, count: u64) -> bool {
    count > 0 && below(random, count) == 0
}

impl FaultyDriver {
    /// Whether the link refuses just now; whoever asks is owed a Writable.
    fn refuses(&self, link: LinkId) -> bool {
        let Some(mood) = self.links.get(&link).filter(|mood| mood.polls > 0) else { return false };
        mood.owed.set(true);
        true
    }

    /// Refusals end and begin between calls of the caller's: a `room` that was seen holds until the next poll.
    /// Not `calm` is a poll that says Writable; taking that back at once would be a lie.
    fn sway(&mut self, calm: bool, out: &mut Vec<Completion>) {
        for (link, mood) in &mut self.links {
            if mood.polls == 0 {
                if calm && one_in(&mut self.random, self.faults.refuse_one_in) {
                    mood.polls = 1 + below(&mut self.random, self.faults.refuse_polls.max(1));
                }
                continue;
            }
            mood.polls -= 1;
            // If the link has really no room, its own Writable is still to come.
            if mood.polls == 0 && self.inner.room(*link) > 0 && mood.owed.take() {
                out.push(Completion::Writable { link: *link });
            }
        }
    }
}

impl Driver for FaultyDriver {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        self.inner.open(request)
    }

    fn close_open(&mut self, open: OpenId) {
        self.inner.close_open(open);
    }

    fn close_link(&mut self, link: LinkId, how: Close) {
        // The caller waits for Down now and is owed no Writable any more.
        self.links.remove(&link);
        self.inner.close_link(link, how);
    }

    fn room(&self, link: LinkId) -> usize {
        if self.refuses(link) { 0 } else { self.inner.room(link) }
    }

    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        if !part.flags.command() && self.refuses(link) && self.inner.room(link) > 0 {
            return Err(Refused { part, reason: RefusedReason::Full });
        }
        self.inner.post_send(link, part)
    }

    fn post_small(&mut self, link: LinkId, body: &Frame, flags: Flags) -> bool {
        (flags.command() || !self.refuses(link)) && self.inner.post_small(link, body, flags)
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn grant(&mut self, link: LinkId, grant: Grant) {
        self.inner.grant(link, grant);
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        if one_in(&mut self.random, self.faults.abort_one_in) && !self.links.is_empty() {
            let at = below(&mut self.random, self.links.len() as u64) as usize;
            if let Some(link) = self.links.keys().nth(at).copied() {
                self.close_link(link, Close::Abort);
            }
        }
        let from = out.len();
        let budget = budget.min(1 + below(&mut self.random, self.faults.budget.max(1)) as usize);
        self.inner.poll(now, out, budget);
        // The ends of refusals first, so that a Writable of this poll is not taken back by it.
        let (mut at, mut calm) = (0, true);
        out.retain(|said| {
            at += 1;
            match said {
                _ if at <= from => {}
                Completion::Up { link, .. } => {
                    self.links.insert(*link, Mood::default());
                }
                // Down is near, and nothing may come between.
                Completion::Down { link, .. } | Completion::Returned { link, .. } => {
                    self.links.remove(link);
                }
                Completion::Writable { link } => {
                    if let Some(mood) = self.links.get(link).filter(|mood| mood.polls > 0) {
                        mood.owed.set(true);
                        return false;
                    }
                    calm = false;
                }
                _ => {}
            }
            true
        });
        self.sway(calm, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn arm(&mut self) -> Armed {
        // Whoever waits for a Writable made up here must poll for it.
        let owes = self.links.values().any(|mood| mood.polls > 0 && mood.owed.get());
        if owes { Armed::Busy } else { self.inner.arm() }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wake_fd()
    }

    fn copied_bytes(&self) -> u64 {
        self.inner.copied_bytes()
    }
}
