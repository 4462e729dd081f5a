//! Leads the ranks through the plan: who is there, which step is under way, who has not answered. Does no I/O and reads no
//! clock: what ranks say and the time go in, orders and records come out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::limits::{FAILED_STEPS_MAX, LEAVING_GRACE, RANKS_MAX, STRANGERS_MAX};
use super::options::Options;
use super::plan::{Item, Plan};
use super::protocol::{Flow, Found, Hello, Order, Party, Say, Task};
use super::report::{End, Fault, Rank, Record, Skipped, Step};
use crate::failure::Failure;
use crate::units;

/// What has happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A rank says something.
    Said(u32, Say),
    /// A rank says what nobody understands.
    Strange(u32, String),
    /// Nothing can be sent to a rank any more.
    Gone(u32),
    /// Some link is down, nobody knows whose.
    LinkDown,
    /// A signal ends the run.
    Interrupted(String),
    /// Nobody wants to wait for its end any more.
    Hurried,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Output {
    Order(u32, Order),
    Record(Record),
    /// A measurement begins: which, of how many.
    Begin {
        item: usize,
        items: usize,
        what: Box<Item>,
    },
    /// What a rank's last window came to, in the unit of [`Say::Now`].
    Now {
        rank: u32,
        figure: f64,
    },
}

/// What is known of a rank.
#[derive(Debug)]
enum Standing {
    Awaited,
    Here(Box<Hello>),
    /// Takes part in nothing any more. Whether it can hear still.
    Out {
        hears: bool,
    },
}

/// Where a step is. The order is that of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Binding,
    Connecting,
    Warming,
    Measuring,
    Stopping,
    Aborting,
}

impl Phase {
    fn doing(self) -> &'static str {
        match self {
            Self::Binding => "opening its endpoints",
            Self::Connecting => "connecting to its peers",
            Self::Warming => "warming up",
            Self::Measuring => "measuring",
            Self::Stopping => "telling what it has measured",
            Self::Aborting => "ending a step that failed",
        }
    }
}

/// A measurement that is under way.
#[derive(Debug)]
struct Current {
    number: u32,
    item: Item,
    phase: Phase,
    /// Who takes part, each with those at the other ends of its flows.
    ranks: BTreeMap<u32, BTreeSet<u32>>,
    /// Who has not answered.
    pending: BTreeSet<u32>,
    endpoints: Vec<BTreeMap<u32, Vec<String>>>,
    found: BTreeMap<u32, Found>,
    deadline: Instant,
    begun: Instant,
    /// Why it came to nothing: the first reason.
    why: Option<String>,
    /// Ranks that were lost meanwhile.
    lost: bool,
}

#[derive(Debug)]
enum State {
    Joining,
    Step(Box<Current>),
    Over,
}

/// How a run has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) faults: usize,
    pub(super) refused: bool,
    pub(super) corrupt: bool,
    pub(super) interrupted: bool,
    /// Somebody did not want to wait for the end.
    pub(super) hurried: bool,
    pub(super) steps: usize,
}

/// The coordinator of a run.
#[derive(Debug)]
pub(super) struct Coordinator {
    options: Options,
    party: Party,
    members: Vec<Standing>,
    plan: Plan,
    /// Of its items, the one that is under way or next.
    next: usize,
    steps: u32,
    state: State,
    out: Vec<Output>,
    begun: Instant,
    failed_in_a_row: u32,
    interrupted: Option<String>,
    /// Ranks that a signal ends, each with which, and until when it may be the end of all.
    leaving: BTreeMap<u32, String>,
    grace: Option<Instant>,
    /// Processes that are none of the run's, by what they call themselves.
    strangers: BTreeSet<u32>,
    verdict: Verdict,
}

impl Coordinator {
    /// Waits for the ranks of `party`, this one's own among them.
    pub(super) fn new(options: Options, party: Party, now: Instant) -> Result<Self, Failure> {
        let ranks = party.ranks;
        if !(1..RANKS_MAX).contains(&ranks) {
            return Err(Failure::Usage(format!("{ranks} ranks: there are 1 to {}", RANKS_MAX - 1)));
        }
        let plan = Plan::new(&options, ranks)?;
        let verdict = Verdict::default();
        Ok(Self {
            options,
            party,
            members: (0..ranks).map(|_| Standing::Awaited).collect(),
            plan,
            next: 0,
            steps: 0,
            state: State::Joining,
            out: Vec::new(),
            begun: now,
            failed_in_a_row: 0,
            interrupted: None,
            leaving: BTreeMap::new(),
            grace: None,
            strangers: BTreeSet::new(),
            verdict,
        })
    }

    /// What is to be done since the last call, in order.
    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// When to call [`Coordinator::tick`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = self.own_deadline()?;
        Some(self.grace.map_or(own, |grace| grace.min(own)))
    }

    fn own_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Joining => Some(self.begun + self.options.join),
            State::Step(step) => Some(step.deadline),
            State::Over => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes something that has happened into account.
    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Said(rank, say) => self.said(now, rank, say),
            Input::Strange(rank, what) => self.refuse(now, rank, &what),
            Input::Gone(rank) => {
                let said = self.leaving.remove(&rank);
                let why =
                    said.as_deref().unwrap_or("its connection has ended: the process died, or its host");
                self.lost(now, rank, why, false);
            }
            Input::LinkDown => {
                let here = self.here();
                self.out.extend(here.into_iter().map(|rank| Output::Order(rank, Order::Nothing)));
            }
            Input::Interrupted(why) => self.interrupt(now, why),
            Input::Hurried if self.is_over() => {}
            Input::Hurried => {
                self.verdict.hurried = true;
                self.end(now);
            }
        }
    }

    /// Takes the time into account.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.grace.is_some_and(|grace| now >= grace) {
            self.close_leaving(now);
        }
        if self.own_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &self.state {
            State::Joining => self.close_joining(now),
            State::Step(step) if step.phase == Phase::Aborting => {
                let hung: Vec<u32> = step.pending.iter().copied().collect();
                for rank in hung {
                    let time = units::time(self.options.timeout);
                    self.lost(now, rank, &format!("it hangs: it did not answer for {time}"), true);
                }
            }
            State::Step(step) => {
                let silent = self.names(step.pending.iter().copied());
                self.abort(now, format!("{silent} did not answer in time while {}", step.phase.doing()));
            }
            State::Over => {}
        }
    }

    // ---- ranks ----

    /// Those that take part, increasing.
    fn here(&self) -> Vec<u32> {
        let ranks = self.members.iter().zip(0..);
        ranks.filter_map(|(member, rank)| matches!(member, Standing::Here(_)).then_some(rank)).collect()
    }

    /// `rank 3 (host)`.
    fn name(&self, rank: u32) -> String {
        match self.members.get(rank as usize) {
            Some(Standing::Here(hello)) => format!("rank {rank} ({})", hello.host),
            _ => format!("rank {rank}"),
        }
    }

    fn names(&self, ranks: impl Iterator<Item = u32>) -> String {
        let names: Vec<_> = ranks.map(|rank| self.name(rank)).collect();
        match names.len() {
            0..=8 => names.join(", "),
            many => format!("{} and {} more", names[..8].join(", "), many - 8),
        }
    }

    fn fault(&mut self, step: Option<u32>, rank: Option<u32>, why: String) {
        self.verdict.faults += 1;
        self.out.push(Output::Record(Record::Fault(Fault { step, rank, why })));
    }

    fn said(&mut self, now: Instant, rank: u32, say: Say) {
        if let Say::Hello(hello) = say {
            return self.hello(now, rank, hello);
        }
        if !matches!(self.members.get(rank as usize), Some(Standing::Here(_))) {
            return;
        }
        match say {
            Say::Leaving { why } => self.leaving(now, rank, why),
            say => self.answer(now, rank, say),
        }
    }

    /// A signal ends a rank. Whoever ends a job sends it to all ranks: then the run is interrupted, and no rank was lost.
    fn leaving(&mut self, now: Instant, rank: u32, why: String) {
        if self.interrupted.is_some() {
            return;
        }
        self.leaving.insert(rank, why.clone());
        let others = self.here().into_iter().filter(|&rank| rank != 0);
        if self.leaving.len() > 1 && others.into_iter().all(|rank| self.leaving.contains_key(&rank)) {
            return self.interrupt(now, why);
        }
        self.grace.get_or_insert(now + LEAVING_GRACE);
    }

    /// It was meant for those alone that said it.
    fn close_leaving(&mut self, now: Instant) {
        self.grace = None;
        for (rank, why) in std::mem::take(&mut self.leaving) {
            self.lost(now, rank, &why, true);
        }
    }

    fn hello(&mut self, now: Instant, rank: u32, hello: Box<Hello>) {
        let count = self.members.len();
        let Some(member) = self.members.get_mut(rank as usize) else {
            let none = || format!("there are {count} ranks, and none is number {rank}");
            let why = self.party.difference(&hello.party).unwrap_or_else(none);
            return self.turn_away(rank, why);
        };
        match member {
            Standing::Here(_) => {
                self.out.push(Output::Order(
                    rank,
                    Order::Refused { why: "its connection broke, and it was left out".to_owned() },
                ));
                return self.lost(now, rank, "its connection broke", true);
            }
            Standing::Awaited if matches!(self.state, State::Joining) => {}
            Standing::Awaited | Standing::Out { .. } => {
                *member = Standing::Out { hears: true };
                let why = "it came when the others had begun; give more time with --join".to_owned();
                return self.out.push(Output::Order(rank, Order::Refused { why }));
            }
        }
        let wrong = self.party.difference(&hello.party).or_else(|| {
            let difference = self.options.difference(&hello.options);
            difference.map(|what| format!("{what}: give every rank the same arguments"))
        });
        self.out.push(Output::Record(Record::Rank(Box::new(Rank::new(rank, &hello)))));
        self.members[rank as usize] = Standing::Here(hello);
        match wrong {
            Some(why) => self.refuse(now, rank, &why),
            None => {
                self.out.push(Output::Order(rank, Order::Welcome));
                self.joined(now);
            }
        }
    }

    /// Sends home a process that is no rank of this run, and says so once.
    fn turn_away(&mut self, rank: u32, why: String) {
        self.out.push(Output::Order(rank, Order::Refused { why: why.clone() }));
        self.out.push(Output::Order(rank, Order::Bye));
        self.verdict.refused = true;
        if self.strangers.len() < STRANGERS_MAX && self.strangers.insert(rank) {
            self.fault(None, Some(rank), format!("{} was refused: {why}", rank_text(rank)));
        }
    }

    fn refuse(&mut self, now: Instant, rank: u32, why: &str) {
        self.verdict.refused = true;
        self.out.push(Output::Order(rank, Order::Refused { why: why.to_owned() }));
        if self.members.get(rank as usize).is_some_and(|member| !matches!(member, Standing::Out { .. })) {
            self.lost(now, rank, &format!("it was refused: {why}"), true);
        }
    }

    /// The first steps begin when every rank has come or is known not to.
    fn joined(&mut self, now: Instant) {
        let is_complete = !self.members.iter().any(|member| matches!(member, Standing::Awaited));
        if matches!(self.state, State::Joining) && is_complete {
            self.begin_run(now);
        }
    }

    fn close_joining(&mut self, now: Instant) {
        let time = units::time(self.options.join);
        for rank in 0..self.members.len() as u32 {
            if matches!(self.members[rank as usize], Standing::Awaited) {
                self.members[rank as usize] = Standing::Out { hears: false };
                let why = format!(
                    "{}: it did not come within {time}; see what its process says, or give more with --join",
                    rank_text(rank)
                );
                self.fault(None, Some(rank), why);
            }
        }
        self.begin_run(now);
    }

    /// A rank is out, from now on.
    fn lost(&mut self, now: Instant, rank: u32, why: &str, hears: bool) {
        let Some(member) = self.members.get_mut(rank as usize) else { return };
        match std::mem::replace(member, Standing::Out { hears }) {
            Standing::Here(hello) => {
                let why = format!("{} on {}: {why}", rank_text(rank), hello.host);
                let step = match &self.state {
                    State::Step(step) => Some(step.number),
                    _ => None,
                };
                self.fault(step, Some(rank), why);
            }
            Standing::Awaited => self.fault(None, Some(rank), format!("{}: {why}", rank_text(rank))),
            // It was known to be.
            Standing::Out { hears: before } => {
                *member = Standing::Out { hears: hears && before };
                return;
            }
        }
        match &mut self.state {
            State::Joining => self.joined(now),
            State::Step(step) if step.ranks.contains_key(&rank) => {
                step.lost = true;
                step.pending.remove(&rank);
                match step.phase {
                    Phase::Aborting => self.settle(now),
                    _ => self.abort(now, format!("{} was lost", rank_text(rank))),
                }
            }
            _ => {}
        }
    }

    // ---- steps ----

    fn begin_run(&mut self, now: Instant) {
        let mut faults = Vec::new();
        for scheme in self.plan.schemes() {
            for (member, rank) in self.members.iter().zip(0..) {
                if let Standing::Here(hello) = member
                    && let Some(why) = hello.lacks.get(scheme)
                {
                    faults.push((rank, format!("{} lacks {scheme}: {why}", self.name(rank))));
                }
            }
        }
        for (rank, why) in faults {
            self.fault(None, Some(rank), why);
        }
        self.begin_next(now);
    }

    /// The ranks that an item can have.
    fn able(&self, item: &Item) -> Vec<u32> {
        let mut host = None;
        let mut able = self.here();
        able.retain(|&rank| {
            let Standing::Here(hello) = &self.members[rank as usize] else { return false };
            // What ends at a host has the ranks of the first one.
            let is_near = item.scheme() != "ipc" || *host.get_or_insert(&hello.host) == &hello.host;
            is_near && !hello.lacks.contains_key(item.scheme())
        });
        able
    }

    fn begin_next(&mut self, now: Instant) {
        loop {
            let Some(item) = self.plan.item(self.next) else {
                return self.end(now);
            };
            let over = |limit: Duration| now.saturating_duration_since(self.begun) >= limit;
            if let Some(limit) = self.options.limit.filter(|&limit| over(limit)) {
                let (left, time) = (self.plan.len() - self.next, units::time(limit));
                let why = format!("{left} measurements were left when --limit {time} was over");
                self.skip(None, why);
                return self.end(now);
            }
            let able = self.able(&item);
            let flows = item.flows(&self.options, self.members.len() as u32, &able);
            if flows.is_empty() {
                // A round of a matrix may have none; that a whole one has none is said once.
                if item.round.unwrap_or(0) == 0 && able.len() < 2 {
                    let count = able.len();
                    self.skip(
                        Some(&item),
                        format!("it takes two ranks that have {}, and there are {count}", item.scheme()),
                    );
                }
                self.next += 1;
                continue;
            }
            return self.begin(now, item, flows);
        }
    }

    fn skip(&mut self, item: Option<&Item>, why: String) {
        let (topology, transport) =
            (item.map(|item| item.topology), item.map(|item| item.scheme().to_owned()));
        let skipped = Record::Skipped(Skipped { topology, transport, why });
        let is_known = self.out.iter().any(|out| *out == Output::Record(skipped.clone()));
        if !is_known {
            self.out.push(Output::Record(skipped));
        }
    }

    fn begin(&mut self, now: Instant, item: Item, flows: Vec<Flow>) {
        self.steps += 1;
        let number = self.steps;
        self.out.push(Output::Begin {
            item: self.next,
            items: self.plan.len(),
            what: Box::new(item.clone()),
        });
        let mut of_rank: BTreeMap<u32, Vec<Flow>> = BTreeMap::new();
        for &flow in &flows {
            of_rank.entry(flow.from).or_default().push(flow);
            of_rank.entry(flow.to).or_default().push(flow);
        }
        let (mut ranks, mut traffics) = (BTreeMap::new(), 0);
        for (rank, flows) in of_rank {
            ranks.insert(rank, flows.iter().flat_map(|flow| [flow.from, flow.to]).collect());
            let own = item.traffics(flows);
            traffics = own.len();
            let task = Task {
                step: number,
                traffics: own,
                warmup: self.options.warmup,
                duration: self.options.duration,
                precision: self.options.precision,
                patience: self.options.timeout,
            };
            self.out.push(Output::Order(rank, Order::Prepare(Box::new(task))));
        }
        self.state = State::Step(Box::new(Current {
            number,
            item,
            phase: Phase::Binding,
            pending: ranks.keys().copied().collect(),
            ranks,
            endpoints: vec![BTreeMap::new(); traffics],
            found: BTreeMap::new(),
            deadline: now + 2 * self.options.timeout,
            begun: now,
            why: None,
            lost: false,
        }));
    }

    fn answer(&mut self, now: Instant, rank: u32, say: Say) {
        let State::Step(step) = &mut self.state else { return };
        let (number, phase) = match &say {
            Say::Bound { step, .. } => (*step, Phase::Binding),
            Say::Connected { step } => (*step, Phase::Connecting),
            Say::Steady { step } => (*step, Phase::Warming),
            Say::Measured { step } => (*step, Phase::Measuring),
            Say::Found { step, .. } => (*step, Phase::Stopping),
            Say::Aborted { step } => (*step, Phase::Aborting),
            // In the place of any answer.
            Say::Failed { step, .. } => (*step, Phase::Aborting),
            // No answer: said while others are due.
            Say::Now { step, .. } => (*step, Phase::Measuring),
            Say::Hello(_) | Say::Leaving { .. } => return,
        };
        if number != step.number || !step.ranks.contains_key(&rank) {
            return;
        }
        match say {
            Say::Now { figure, .. } => {
                if step.phase == phase {
                    self.out.push(Output::Now { rank, figure });
                }
                return;
            }
            Say::Failed { why, corrupt, .. } => {
                self.verdict.corrupt |= corrupt;
                let why = format!("{}: {why}", self.name(rank));
                return match &mut self.state {
                    State::Step(step) if step.phase == Phase::Aborting => {
                        step.why.get_or_insert(why);
                    }
                    _ => self.abort(now, why),
                };
            }
            // What was found before the end is all that this rank has to say: raw loops keep their own time.
            Say::Found { found, .. } if step.phase >= Phase::Warming && step.phase < Phase::Aborting => {
                step.found.insert(rank, *found);
            }
            Say::Bound { endpoints, .. } if step.phase == phase => {
                for (all, own) in step.endpoints.iter_mut().zip(endpoints) {
                    if !own.is_empty() {
                        all.insert(rank, own);
                    }
                }
            }
            _ if step.phase == phase => {}
            // Too late, or too early.
            _ => return,
        }
        step.pending.remove(&rank);
        if step.pending.is_empty() {
            match step.phase {
                Phase::Aborting => self.settle(now),
                _ => self.advance(now),
            }
        }
    }

    /// All have answered: on to the next phase.
    fn advance(&mut self, now: Instant) {
        let (timeout, warmup, longest) = (self.options.timeout, self.options.warmup, self.options.longest());
        let State::Step(step) = &mut self.state else { return };
        while step.pending.is_empty() {
            let number = step.number;
            let (phase, time) = match step.phase {
                Phase::Binding => (Phase::Connecting, Duration::ZERO),
                Phase::Connecting => (Phase::Warming, warmup + longest),
                Phase::Warming => (Phase::Measuring, longest),
                Phase::Measuring => (Phase::Stopping, Duration::ZERO),
                Phase::Stopping | Phase::Aborting => return self.finish(now),
            };
            step.phase = phase;
            step.deadline = now + time + 2 * timeout;
            for (&rank, peers) in &step.ranks {
                if step.found.contains_key(&rank) {
                    continue;
                }
                let order = match phase {
                    Phase::Connecting => {
                        Order::Connect { step: number, endpoints: among(peers, &step.endpoints) }
                    }
                    Phase::Warming => Order::Start { step: number },
                    Phase::Measuring => Order::Measure { step: number },
                    _ => Order::Stop { step: number },
                };
                step.pending.insert(rank);
                self.out.push(Output::Order(rank, order));
            }
        }
    }

    /// Every rank has told what it found.
    fn finish(&mut self, now: Instant) {
        let State::Step(step) = std::mem::replace(&mut self.state, State::Over) else { return };
        let orders = step.ranks.keys().map(|&rank| Output::Order(rank, Order::Finish { step: step.number }));
        self.out.extend(orders);
        let item = &step.item;
        let took = now.saturating_duration_since(step.begun);
        match Step::new(step.number, item, &step.found, took) {
            Ok(record) => {
                self.failed_in_a_row = 0;
                self.verdict.steps += 1;
                self.out.push(Output::Record(Record::Step(Box::new(record))));
            }
            Err(why) => self.fault(Some(step.number), None, why),
        }
        self.next += 1;
        self.begin_next(now);
    }

    /// The step under way comes to nothing.
    fn abort(&mut self, now: Instant, why: String) {
        let State::Step(step) = &mut self.state else { return };
        step.why.get_or_insert(why);
        step.phase = Phase::Aborting;
        step.deadline = now + self.options.timeout;
        let members = &self.members;
        let here = |rank: &u32| matches!(members[*rank as usize], Standing::Here(_));
        step.pending = step.ranks.keys().copied().filter(here).collect();
        for &rank in &step.pending {
            self.out.push(Output::Order(rank, Order::Abort { step: step.number }));
        }
        if step.pending.is_empty() {
            self.settle(now);
        }
    }

    /// Whoever can has ended the step that came to nothing.
    fn settle(&mut self, now: Instant) {
        match &self.state {
            State::Step(step) if step.phase == Phase::Aborting && step.pending.is_empty() => {}
            _ => return,
        }
        let State::Step(step) = std::mem::replace(&mut self.state, State::Over) else { return };
        if self.interrupted.is_some() {
            return self.end(now);
        }
        // Without those that were lost, the same again; else it would fail again.
        if !step.lost {
            let item = &step.item;
            let why = step.why.unwrap_or_default();
            let why = format!(
                "{} {} {}, {}: {why}",
                item.label(),
                item.topology.name(),
                item.what(),
                units::size(item.size)
            );
            self.fault(Some(step.number), None, why);
            self.failed_in_a_row += 1;
            self.next += 1;
            if self.failed_in_a_row >= FAILED_STEPS_MAX {
                self.fault(None, None, format!("given up: {FAILED_STEPS_MAX} measurements in a row failed"));
                return self.end(now);
            }
        }
        self.begin_next(now);
    }

    fn interrupt(&mut self, now: Instant, why: String) {
        if self.interrupted.is_some() || self.is_over() {
            return;
        }
        self.interrupted = Some(why.clone());
        // They were told the same.
        self.grace = None;
        self.leaving.clear();
        self.verdict.interrupted = true;
        match &self.state {
            State::Step(step) if step.phase == Phase::Aborting => {}
            State::Step(_) => self.abort(now, why),
            _ => self.end(now),
        }
    }

    fn end(&mut self, now: Instant) {
        self.state = State::Over;
        for (member, rank) in self.members.iter().zip(0..) {
            if matches!(member, Standing::Here(_) | Standing::Out { hears: true }) {
                self.out.push(Output::Order(rank, Order::Bye));
            }
        }
        let end = End {
            seconds: now.saturating_duration_since(self.begun).as_secs_f64(),
            interrupted: self.interrupted.clone(),
        };
        self.out.push(Output::Record(Record::End(end)));
    }
}

fn rank_text(rank: u32) -> String {
    format!("rank {rank}")
}

/// Of all endpoints those of some ranks.
fn among(ranks: &BTreeSet<u32>, endpoints: &[BTreeMap<u32, Vec<String>>]) -> Vec<BTreeMap<u32, Vec<String>>> {
    let own = |all: &BTreeMap<u32, Vec<String>>| {
        ranks.iter().filter_map(|rank| Some((*rank, all.get(rank)?.clone()))).collect()
    };
    endpoints.iter().map(own).collect()
}

#[cfg(test)]
mod tests;
