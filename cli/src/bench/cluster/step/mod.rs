//! What a rank does in one step: opens its ends, runs them as threads through the stages that the coordinator orders, and
//! tells what they found. Knows its own part only.

mod course;
mod echo;
mod open;
mod raw;
mod stream;
mod survey;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use fabriq::{Context, Error, Message};

use super::counters;
use super::protocol::{FlowFound, Found, Order, Say, Task, ToolFigures, Windows};
use super::usage::Sample;
use crate::bench::payload::Ring;
use crate::failure::Failure;
use course::{At, Course, Mark, Stage};
use open::{Ends, Opening};

/// What reaches a step that is under way.
#[derive(Debug)]
pub(super) struct Inbox(Event);

impl Inbox {
    /// What the coordinator has ordered.
    pub(super) fn order(order: Order) -> Self {
        Self(Event::Order(order))
    }
}

/// What a step goes by.
#[derive(Debug)]
enum Event {
    Order(Order),
    /// One of its threads has got somewhere.
    Mark(Mark),
    /// A window of one of its threads came to this.
    Figure(f64),
    /// One of its threads has ended; whether it was one that echoes.
    Ended(Result<Part, Failure>, bool),
}

/// What one thread has found.
#[derive(Debug, Default)]
struct Part {
    flows: Vec<FlowFound>,
    windows: Windows,
    verified: u64,
    steady: bool,
    what: Option<&'static str>,
    tool: Option<Result<ToolFigures, String>>,
}

/// What the threads of a step have in common.
#[derive(Debug)]
struct Floor<'a> {
    stage: &'a Stage,
    task: &'a Task,
    context: &'a Context,
    inbox: Sender<Inbox>,
    aborted: &'a Arc<AtomicBool>,
}

impl Floor<'_> {
    /// Tells what a window came to, if it is worth a word.
    fn tell(&self, course: &Course, figure: f64) {
        if course.is_told() {
            let _ = self.inbox.send(Inbox(Event::Figure(figure)));
        }
    }

    fn mark(&self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            // Whoever does not listen any more has failed, and said so.
            let _ = self.inbox.send(Inbox(Event::Mark(mark)));
        }
    }

    /// For who waits for no message of fabriq's, and so does not see the context's end.
    fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }
}

/// One thread of a step.
trait Actor: Send + Debug {
    /// Whether it says when it is steady and when it has measured.
    fn measures(&self) -> bool;

    /// Whether it goes on until nobody needs it, and finds nothing.
    fn is_server(&self) -> bool {
        false
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure>;
}

/// A step of this rank.
#[derive(Debug)]
pub(super) struct Rank<'a> {
    pub(super) task: &'a Task,
    pub(super) me: u32,
    /// By which others reach this host.
    pub(super) address: &'a str,
    /// Its shutdown ends every wait.
    pub(super) context: &'a Context,
    pub(super) aborted: &'a Arc<AtomicBool>,
}

impl Rank<'_> {
    /// Goes through the step; returns when it is over. What ends it before is returned, and not said.
    pub(super) fn run(
        &self,
        inbox: (Sender<Inbox>, Receiver<Inbox>),
        say: impl Fn(Say),
    ) -> Result<(), Failure> {
        let (task, step) = (self.task, self.task.step);
        let opening = Opening {
            context: self.context,
            task,
            me: self.me,
            address: self.address,
            aborted: self.aborted,
        };
        let mut ends = Ends::default();
        let endpoints = opening.bind(&mut ends)?;
        say(Say::Bound { step, endpoints });
        let (sender, inbox) = inbox;
        match order(&inbox)? {
            Order::Connect { endpoints, .. } => opening.connect(&mut ends, &endpoints)?,
            _ => return Err(Error::Terminated.into()),
        }
        say(Say::Connected { step });
        match order(&inbox)? {
            Order::Start { .. } => {}
            _ => return Err(Error::Terminated.into()),
        }
        let stage = Stage::default();
        let (context, aborted) = (self.context, self.aborted);
        let floor = Floor { stage: &stage, task, context, inbox: sender, aborted };
        std::thread::scope(|scope| {
            let mut board = Board::new(&ends.actors);
            for actor in &mut ends.actors {
                let floor = &floor;
                let spawned =
                    std::thread::Builder::new().name("bench".to_owned()).spawn_scoped(scope, move || {
                        let (is_server, ended) = (actor.is_server(), actor.run(floor));
                        let _ = floor.inbox.send(Inbox(Event::Ended(ended, is_server)));
                    });
                if let Err(error) = spawned {
                    self.context.shutdown();
                    return Err(Failure::Failed(format!(
                        "cannot start a thread: {error}; raise the limit (ulimit -u)"
                    )));
                }
            }
            let done = self.lead(&mut board, &floor, &inbox, &say);
            stage.set(At::Finishing);
            // Whoever still waits for a message.
            self.context.shutdown();
            done
        })
    }

    /// From the start to the end.
    fn lead(
        &self,
        board: &mut Board,
        floor: &Floor<'_>,
        inbox: &Receiver<Inbox>,
        say: &impl Fn(Say),
    ) -> Result<(), Failure> {
        let step = self.task.step;
        let is_raw = self.task.traffics.iter().any(|traffic| traffic.kind.is_raw());
        let counters = counters::read(Path::new("/"));
        let (mut begun, mut told) = (None, false);
        if board.measuring == 0 && !is_raw {
            say(Say::Steady { step });
        }
        loop {
            match inbox.recv().map(|inbox| inbox.0) {
                Ok(Event::Order(Order::Measure { .. })) => {
                    begun = Some(Sample::now(self.context));
                    floor.stage.set(At::Measuring);
                    if board.measuring == 0 {
                        say(Say::Measured { step });
                    }
                }
                Ok(Event::Order(Order::Stop { .. })) => {
                    if let Some(begun) = begun.take() {
                        board.found.usage = begun.until(&Sample::now(self.context));
                    }
                    floor.stage.set(At::Stopping);
                }
                Ok(Event::Order(Order::Finish { .. })) => return Ok(()),
                Ok(Event::Order(_)) | Err(_) => return Err(Error::Terminated.into()),
                Ok(Event::Mark(Mark::Steady)) => {
                    board.steady += 1;
                    if board.steady == board.measuring {
                        say(Say::Steady { step });
                    }
                }
                Ok(Event::Mark(Mark::Measured)) => {
                    board.measured += 1;
                    if board.measured == board.measuring {
                        say(Say::Measured { step });
                    }
                }
                Ok(Event::Figure(figure)) => say(Say::Now { step, figure }),
                Ok(Event::Ended(part, is_server)) => board.end(part?, is_server),
            }
            let is_over = board.running == 0 && (is_raw || floor.stage.at() >= At::Stopping);
            if is_over && !told {
                told = true;
                let mut found = board.take();
                found.counters = counters::growth(&counters, &counters::read(Path::new("/")));
                say(Say::Found { step, found: Box::new(found) });
            }
        }
    }
}

fn order(inbox: &Receiver<Inbox>) -> Result<Order, Failure> {
    match inbox.recv().map(|inbox| inbox.0) {
        Ok(Event::Order(order)) => Ok(order),
        Ok(_) | Err(_) => Err(Error::Terminated.into()),
    }
}

/// How far the threads are.
#[derive(Debug)]
struct Board {
    measuring: usize,
    steady: usize,
    measured: usize,
    /// But for servers.
    running: usize,
    found: Found,
}

impl Board {
    fn new(actors: &[Box<dyn Actor>]) -> Self {
        Self {
            measuring: actors.iter().filter(|actor| actor.measures()).count(),
            steady: 0,
            measured: 0,
            running: actors.iter().filter(|actor| !actor.is_server()).count(),
            found: Found { steady: true, ..Found::default() },
        }
    }

    fn end(&mut self, part: Part, is_server: bool) {
        if is_server {
            return;
        }
        self.running -= 1;
        self.found.verified += part.verified;
        self.found.steady &= part.steady;
        self.found.windows.join(&part.windows);
        if let Some(what) = part.what {
            self.found.what = Some(what.to_owned());
        }
        self.found.tool = self.found.tool.take().or(part.tool);
        for flow in part.flows {
            self.join(flow);
        }
    }

    /// The threads of one flow are one flow.
    fn join(&mut self, flow: FlowFound) {
        let same = |other: &&mut FlowFound| {
            (other.from, other.to, other.background) == (flow.from, flow.to, flow.background)
        };
        let Some(other) = self.found.flows.iter_mut().find(same) else {
            return self.found.flows.push(flow);
        };
        other.messages += flow.messages;
        other.seconds = other.seconds.max(flow.seconds);
        other.latencies.extend(flow.latencies);
        other.lost = other.lost.zip(flow.lost).map(|(one, other)| one + other);
    }

    fn take(&mut self) -> Found {
        std::mem::take(&mut self.found)
    }
}

/// A message of so many frames, the `number`th of its ring.
#[inline]
fn parts_of(ring: &Ring, number: u64, parts: u32) -> Message {
    let first = number * u64::from(parts);
    let mut message = Message::new(ring.message(first));
    for part in 1..u64::from(parts) {
        message.push_back(ring.message(first + part));
    }
    message
}

/// For a text.
fn rank_text(rank: Option<u32>) -> String {
    rank.map_or("no server".to_owned(), |rank| format!("rank {rank}"))
}
