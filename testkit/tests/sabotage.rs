//! Breaks one promise of the seam at a time and asks the suite to notice. Tests the suite, not a transport.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use fabriq_testkit::media::{Multicast, Stream};
use fabriq_testkit::middleware::{Faults, Faulty};
use fabriq_testkit::{Bell, Subject, World, conformance};
use transport_core::{
    Armed, Capabilities, Close, Completion, Driver, DriverEnv, Endpoint, Flags, Flow, Grant, LinkId, Loss,
    Open, OpenError, OpenId, Part, Refused, RefusedReason, Transport,
};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Nothing,
    DownTwice,
    UpAgain,
    SentTooFar,
    SentStops,
    SwapsParts,
    LosesAPart,
    ForgetsMore,
    NoWritable,
    TakesWithoutEnd,
    GrantIsUnlimited,
    GrantIsOneMore,
    RefusalChangesThePart,
    TakesOnStaleLinks,
    NoWake,
    ArmSaysReady,
    ArmSaysBusy,
    NoBudget,
    NoCommandsWithoutRoom,
    DrainIsAbort,
    DrainHasNoEnd,
    PortIsTheWildcard,
    NoPartMax,
    KeepsFrames,
    Allocates,
    CloseOpenEndsLinks,
    CloseOpenDoesNothing,
    FlushWaitsForPoll,
    ReturnsWhatWasSent,
    HelloIsOurs,
    GapIsSilent,
    GapCountsOneMore,
    CopiesAreForgotten,
    CopiesAreCountedTwice,
}

/// Which property must notice. Others may as well.
const NOTICED_BY: &[(Harm, &str)] = &[
    (Harm::DownTwice, "exactly_one_down"),
    (Harm::UpAgain, "up_precedes_traffic"),
    (Harm::SentTooFar, "sent_is_cumulative_and_complete"),
    (Harm::SentStops, "sent_is_cumulative_and_complete"),
    (Harm::SwapsParts, "fifo_per_link"),
    (Harm::LosesAPart, "fifo_per_link"),
    (Harm::ForgetsMore, "multipart_is_atomic"),
    (Harm::NoWritable, "writable_follows_refusal"),
    (Harm::NoWritable, "writable_follows_a_room_of_zero"),
    (Harm::TakesWithoutEnd, "a_refused_send_returns_its_message"),
    (Harm::GrantIsUnlimited, "grant_bounds_delivery"),
    (Harm::GrantIsOneMore, "grant_bounds_delivery"),
    (Harm::RefusalChangesThePart, "a_refused_send_returns_its_message"),
    (Harm::TakesOnStaleLinks, "stale_ids_are_closed"),
    (Harm::NoWake, "fifo_per_link"),
    (Harm::ArmSaysReady, "budget_is_respected"),
    (Harm::ArmSaysBusy, "an_idle_driver_lets_its_caller_sleep"),
    (Harm::NoBudget, "budget_is_respected"),
    (Harm::NoCommandsWithoutRoom, "commands_pass_a_full_pipe"),
    (Harm::DrainIsAbort, "drain_at_every_step"),
    (Harm::DrainHasNoEnd, "a_drain_gives_up_in_time"),
    (Harm::PortIsTheWildcard, "wildcard_bind_reports_its_real_port"),
    (Harm::NoPartMax, "part_max_is_enforced"),
    (Harm::KeepsFrames, "pool_slots_return_to_zero"),
    (Harm::Allocates, "no_allocation_per_message_when_warm"),
    (Harm::CloseOpenEndsLinks, "close_open_keeps_links"),
    (Harm::CloseOpenDoesNothing, "close_open_silences_an_open"),
    (Harm::FlushWaitsForPoll, "a_flush_needs_no_poll"),
    (Harm::ReturnsWhatWasSent, "abort_at_every_step"),
    (Harm::HelloIsOurs, "hello_and_identity_reach_the_peer"),
    (Harm::GapIsSilent, "gap_counts_are_exact"),
    (Harm::GapCountsOneMore, "gap_counts_are_exact"),
    (Harm::CopiesAreForgotten, "copies_are_counted_once_and_never_forgotten"),
    (Harm::CopiesAreCountedTwice, "copies_are_counted_once_and_never_forgotten"),
];

#[test]
fn the_suite_notices_every_harm() {
    // Dozens of failures are expected, and nobody wants to read them.
    std::panic::set_hook(Box::new(|_| {}));
    let mut unnoticed = Vec::new();
    for (harm, property) in NOTICED_BY {
        let gaps = matches!(harm, Harm::GapIsSilent | Harm::GapCountsOneMore);
        let notices = |harm| {
            let run = || match gaps {
                true => conformance::run(property, &Harmed(Multicast::new(1), harm)),
                false => conformance::run(property, &Harmed(Stream::new(1), harm)),
            };
            catch_unwind(AssertUnwindSafe(run)).is_err()
        };
        if notices(Harm::Nothing) || !notices(*harm) {
            unnoticed.push((harm, property));
        }
    }
    drop(std::panic::take_hook());
    assert!(unnoticed.is_empty(), "unnoticed, or noticed where there was nothing: {unnoticed:#?}");
}

/// The other way round: links that break by seed are no harm, and the world finds every promise kept.
#[test]
fn links_that_break_break_no_promise() {
    struct Breaking(Stream, u64);
    impl Subject for Breaking {
        fn transport(&self) -> Arc<dyn Transport> {
            Arc::new(Faulty::new(self.0.transport(), self.1, Faults::BREAKING))
        }
        fn fresh(&self) -> Endpoint {
            self.0.fresh()
        }
        fn nobody(&self) -> Option<Endpoint> {
            self.0.nobody()
        }
        fn real_time(&self) -> bool {
            self.0.real_time()
        }
    }
    for seed in 1..40 {
        let mut world = World::new(&Breaking(Stream::new(seed), seed), 2);
        let (a, b) = world.pair();
        world.grant(a, Grant::Unlimited);
        world.grant(b, Grant::Unlimited);
        while !world.is_down(a) || !world.is_down(b) {
            for end in [a, b] {
                let mut parts = (0..5).map(|_| Part::last(&[seed as u8; 500])).collect();
                world.send_some(end, &mut parts);
            }
            world.step();
        }
    }
}

struct Harmed<S>(S, Harm);

impl<S: Subject> Subject for Harmed<S> {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(HarmedTransport(self.0.transport(), self.1))
    }
    fn fresh(&self) -> Endpoint {
        self.0.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        self.0.nobody()
    }
    fn real_time(&self) -> bool {
        self.0.real_time()
    }
}

#[derive(Debug)]
struct HarmedTransport(Arc<dyn Transport>, Harm);

impl Transport for HarmedTransport {
    fn schemes(&self) -> &'static [&'static str] {
        self.0.schemes()
    }
    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError> {
        self.0.capabilities(endpoint, flow)
    }
    fn driver(&self, mut env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        if self.1 == Harm::NoWake {
            env.wake = Bell::new();
        }
        Ok(Box::new(HarmedDriver {
            inner: self.0.driver(env)?,
            harm: self.1,
            seen: 0,
            links: BTreeSet::new(),
            asked: None,
            last: None,
            flush: false,
            now: None,
            received: 0,
        }))
    }
}

#[derive(Debug)]
struct HarmedDriver {
    inner: Box<dyn Driver>,
    harm: Harm,
    seen: u64,
    links: BTreeSet<LinkId>,
    asked: Option<Endpoint>,
    last: Option<Part>,
    flush: bool,
    now: Option<Instant>,
    received: u64,
}

impl HarmedDriver {
    fn tell(&mut self, said: Completion, out: &mut Vec<Completion>) {
        self.seen += 1;
        if let Completion::Received { part, .. } = &said {
            self.received += part.body.len() as u64;
        }
        match (self.harm, said) {
            (Harm::DownTwice, Completion::Down { link, reason }) => {
                out.push(Completion::Down { link, reason });
                out.push(Completion::Down { link, reason });
            }
            (Harm::UpAgain, Completion::Up { link, open, peer }) => {
                out.push(Completion::Up { link, open, peer: peer.clone() });
                out.push(Completion::Up { link, open, peer });
            }
            (Harm::HelloIsOurs, Completion::Up { link, open, mut peer }) => {
                peer.hello.as_server = !peer.hello.as_server;
                out.push(Completion::Up { link, open, peer });
            }
            (Harm::SentTooFar, Completion::Sent { link, through }) => {
                out.push(Completion::Sent { link, through: through + 1 });
            }
            (Harm::SentStops, Completion::Sent { through, .. }) if through > 100 => {}
            (Harm::SwapsParts, Completion::Received { link, part }) if self.seen > 50 => {
                let before = self.last.replace(part);
                out.extend(before.map(|part| Completion::Received { link, part }));
                if self.seen.is_multiple_of(5) {
                    let part = self.last.take();
                    let at = out.len().saturating_sub(1);
                    out.splice(at..at, part.map(|part| Completion::Received { link, part }));
                }
            }
            (Harm::LosesAPart, Completion::Received { part, .. })
                if self.seen > 500 && self.last.is_none() =>
            {
                self.last = Some(part);
            }
            (Harm::ForgetsMore, Completion::Received { link, mut part }) => {
                if !part.flags.command() && self.seen > 100 {
                    part.flags = Flags::LAST;
                }
                out.push(Completion::Received { link, part });
            }
            (Harm::KeepsFrames, Completion::Received { link, part }) => {
                std::mem::forget(part.clone());
                out.push(Completion::Received { link, part });
            }
            (Harm::NoWritable, Completion::Writable { .. }) => {}
            (Harm::PortIsTheWildcard, Completion::Bound { open, endpoint }) => {
                out.push(Completion::Bound { open, endpoint: self.asked.clone().unwrap_or(endpoint) });
            }
            (Harm::GapIsSilent, Completion::Gap { .. }) => {}
            (Harm::GapCountsOneMore, Completion::Gap { link, lost: Loss::Messages(count) }) => {
                out.push(Completion::Gap { link, lost: Loss::Messages(count + 1) });
            }
            (Harm::ReturnsWhatWasSent, Completion::Down { link, reason }) => {
                out.extend(self.last.take().map(|part| Completion::Returned { link, part }));
                out.push(Completion::Down { link, reason });
            }
            (_, said) => {
                match &said {
                    Completion::Up { link, .. } => _ = self.links.insert(*link),
                    Completion::Down { link, .. } => _ = self.links.remove(link),
                    _ => {}
                }
                out.push(said);
            }
        }
    }
}

impl Driver for HarmedDriver {
    fn open(&mut self, mut request: Open) -> Result<OpenId, OpenError> {
        self.asked = Some(request.endpoint.clone());
        if self.harm == Harm::NoPartMax {
            request.limits.part_max = None;
        }
        self.inner.open(request)
    }
    fn close_open(&mut self, open: OpenId) {
        if self.harm == Harm::CloseOpenDoesNothing {
            return;
        }
        self.inner.close_open(open);
        if self.harm == Harm::CloseOpenEndsLinks {
            self.links.iter().for_each(|link| self.inner.close_link(*link, Close::Abort));
        }
    }
    fn close_link(&mut self, link: LinkId, how: Close) {
        let how = match (self.harm, how) {
            (Harm::DrainIsAbort, _) => Close::Abort,
            (Harm::DrainHasNoEnd, Close::Drain { .. }) => Close::Drain { until: None },
            _ => how,
        };
        self.inner.close_link(link, how);
    }
    fn room(&self, link: LinkId) -> usize {
        let room = self.inner.room(link);
        if self.harm == Harm::TakesWithoutEnd { room.max(1) } else { room }
    }
    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        let room = self.inner.room(link);
        match self.harm {
            Harm::TakesOnStaleLinks if !self.links.contains(&link) => return Ok(()),
            Harm::TakesWithoutEnd if room == 0 => return Ok(()),
            Harm::NoCommandsWithoutRoom if room == 0 && part.flags.command() => {
                return Err(Refused { part, reason: RefusedReason::Full });
            }
            Harm::Allocates => drop(std::hint::black_box(Box::new(link))),
            Harm::ReturnsWhatWasSent if self.last.is_none() => self.last = Some(part.clone()),
            _ => {}
        }
        let refused = self.inner.post_send(link, part);
        match refused {
            Err(Refused { reason, .. }) if self.harm == Harm::RefusalChangesThePart => {
                Err(Refused { part: Part::last("another"), reason })
            }
            refused => refused,
        }
    }
    fn flush(&mut self) {
        self.flush = true;
        if self.harm != Harm::FlushWaitsForPoll {
            self.inner.flush();
        }
    }
    fn grant(&mut self, link: LinkId, grant: Grant) {
        let grant = match (self.harm, grant) {
            (Harm::GrantIsUnlimited, _) => Grant::Unlimited,
            (Harm::GrantIsOneMore, Grant::Limited(count)) => Grant::Limited(count + 1),
            _ => grant,
        };
        self.inner.grant(link, grant);
    }
    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        self.now = Some(now);
        if std::mem::take(&mut self.flush) && self.harm == Harm::FlushWaitsForPoll {
            self.inner.flush();
        }
        let mut heard = Vec::new();
        if self.harm == Harm::Allocates || self.harm == Harm::Nothing {
            // The allocations counted must be the harm's, not this test's.
            return self.inner.poll(now, out, budget);
        }
        let budget = if self.harm == Harm::NoBudget { 10_000 } else { budget };
        self.inner.poll(now, &mut heard, budget);
        heard.into_iter().for_each(|said| self.tell(said, out));
    }
    fn deadline(&self) -> Option<Instant> {
        // A deadline that is due says Busy by another name.
        let due = |deadline: &Instant| self.harm == Harm::ArmSaysReady && Some(*deadline) <= self.now;
        self.inner.deadline().filter(|deadline| !due(deadline))
    }
    fn arm(&mut self) -> Armed {
        match self.harm {
            Harm::ArmSaysReady => Armed::Ready,
            Harm::ArmSaysBusy => Armed::Busy,
            _ => self.inner.arm(),
        }
    }
    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wake_fd()
    }
    fn copied_bytes(&self) -> u64 {
        match self.harm {
            Harm::CopiesAreForgotten if self.links.is_empty() => 0,
            Harm::CopiesAreForgotten => self.received,
            // In and out, by either side, is all that there can be.
            Harm::CopiesAreCountedTwice => 4 * self.received,
            _ => self.inner.copied_bytes(),
        }
    }
}
