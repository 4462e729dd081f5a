//! Messages one way: sources send as fast as their sinks take, sinks verify and count.

use std::time::Instant;

use fabriq::{Error, EventKind, Message, Monitor, Socket};

use super::super::limits::{BYTES_PER_LOOK, MESSAGES_PER_LOOK, SAID, SAID_APART, STREAM_BITS};
use super::super::protocol::FlowFound;
use super::course::{At, Course, Look, Mark};
use super::{Actor, Floor, Part, parts_of, rank_text};
use crate::bench::payload::{Ring, Verifier, sender_of};
use crate::failure::Failure;

/// First part of what ends a stream; the second is who sent how many.
const END: &str = "fabriq cluster end";

fn end(sender: u32, sent: u64) -> Message {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&sender.to_le_bytes());
    bytes[4..].copy_from_slice(&sent.to_le_bytes());
    let mut message = Message::new(END);
    message.push_back(&bytes[..]);
    message
}

fn parse_end(message: &Message) -> Option<(u32, u64)> {
    let is_end = message.len() == 2 && message.part(0).is_some_and(|mark| mark == END);
    let (sender, sent) = message.body().split_first_chunk::<4>().filter(|_| is_end)?;
    Some((u32::from_le_bytes(*sender), u64::from_le_bytes(*sent.first_chunk()?)))
}

/// Messages between two looks at the clock.
fn stride(size: usize) -> usize {
    (BYTES_PER_LOOK / size.max(1)).clamp(1, MESSAGES_PER_LOOK)
}

/// A connection of a source, or all of a publisher's.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) socket: Socket,
    /// Whose messages these are.
    pub(super) sender: u32,
    /// Which ring they come from.
    pub(super) ring: usize,
    pub(super) to: Option<u32>,
    pub(super) sent: u64,
}

/// Sends over its lines in turn, as much over each.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) lines: Vec<Line>,
    pub(super) rings: Vec<Ring>,
    pub(super) parts: u32,
    pub(super) size: usize,
    /// The wire may lose the end.
    pub(super) lossy: bool,
}

impl Actor for Source {
    fn measures(&self) -> bool {
        false
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        let batch = stride(self.size);
        while floor.stage.at() < At::Stopping {
            for line in &mut self.lines {
                for _ in 0..batch {
                    let message = parts_of(&self.rings[line.ring], line.sent, self.parts);
                    send(line, message, floor)?;
                    line.sent += 1;
                }
            }
        }
        for line in &mut self.lines {
            let said = end(line.sender, line.sent);
            send(line, said.clone(), floor)?;
            for _ in 1..if self.lossy { SAID } else { 1 } {
                std::thread::sleep(SAID_APART);
                send(line, said.clone(), floor)?;
            }
        }
        Ok(Part { steady: true, ..Part::default() })
    }
}

#[inline]
fn send(line: &Line, message: Message, floor: &Floor<'_>) -> Result<(), Failure> {
    match line.socket.send(message) {
        Ok(()) => Ok(()),
        Err(not_sent) => again(line, not_sent, floor),
    }
}

#[cold]
fn again(line: &Line, mut not_sent: fabriq::SendError, floor: &Floor<'_>) -> Result<(), Failure> {
    // A stop and continue interrupts.
    while not_sent.error == Error::Interrupted {
        match line.socket.send(*not_sent.message) {
            Ok(()) => return Ok(()),
            Err(again) => not_sent = again,
        }
    }
    match not_sent.error {
        Error::Again => Err(Failure::TimedOut(format!(
            "{} took no message for {}",
            rank_text(line.to),
            crate::units::time(floor.task.patience)
        ))),
        error => Err(error.into()),
    }
}

/// Whom a sink hears.
#[derive(Debug)]
pub(super) struct Sender {
    from: u32,
    verifier: Verifier,
    sent: Option<u64>,
    /// Whether a message has come; on a wire that may lose some, the first may be any.
    heard: bool,
    counts_from: u64,
    counts_to: u64,
}

impl Sender {
    pub(super) fn new(from: u32, (size, slots, tag): (usize, u64, u32)) -> Self {
        let verifier = Verifier::of_sender(size, slots, tag);
        Self { from, verifier, sent: None, heard: false, counts_from: 0, counts_to: 0 }
    }
}

/// Verifies and counts what comes until every sender has said its end.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) socket: Socket,
    /// By rank, and of each rank by stream: increasing tags.
    pub(super) senders: Vec<(u32, Sender)>,
    pub(super) me: u32,
    pub(super) parts: u32,
    pub(super) size: usize,
    pub(super) background: bool,
    /// Of a wire that may lose messages.
    pub(super) losses: Option<Monitor>,
}

/// What a sink counts with.
#[derive(Debug)]
struct Count {
    course: Course,
    begun: Instant,
    seconds: f64,
    /// Messages so far, and when this window began.
    arrived: u64,
    window: (u64, Instant),
}

impl Actor for Sink {
    fn measures(&self) -> bool {
        !self.background
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        let now = Instant::now();
        let course = Course::new(floor.task, self.background, now);
        let mut count = Count { course, begun: now, seconds: 0.0, arrived: 0, window: (0, now) };
        let stride = stride(self.size);
        let (mut left, mut known, mut open) = (stride, 0, self.senders.len());
        // When something came last, as far as looks tell, and how much had come then.
        let (mut last, mut before) = (now, 0);
        while open > 0 {
            let message = match self.socket.recv() {
                Ok(message) => message,
                Err(Error::Interrupted) => continue,
                Err(Error::Again) => {
                    let now = Instant::now();
                    if std::mem::replace(&mut before, count.arrived) != count.arrived {
                        last = now;
                    }
                    if now - last > floor.task.patience {
                        return Err(self.silent(floor));
                    }
                    self.look(floor, &mut count, now);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Some((tag, sent)) = parse_end(&message) {
                let sender = self.sender(tag, &mut known)?;
                open -= usize::from(sender.sent.replace(sent).is_none());
                last = Instant::now();
                continue;
            }
            let lossy = self.losses.is_some();
            let sender = self.sender(sender_of(message.part(0).map_or(&[][..], |part| part)), &mut known)?;
            if lossy && (message.gap_before() || !sender.heard) {
                sender.verifier.resume(message.part(0).map_or(&[][..], |part| part));
            }
            sender.heard = true;
            message.parts().try_for_each(|part| sender.verifier.check(part))?;
            count.arrived += 1;
            left -= 1;
            if left == 0 {
                left = stride;
                last = Instant::now();
                self.look(floor, &mut count, last);
            }
        }
        self.look(floor, &mut count, Instant::now());
        self.found(count)
    }
}

impl Sink {
    /// The sender of a message; `known` is where the one before was found.
    #[inline]
    fn sender(&mut self, tag: u32, known: &mut usize) -> Result<&mut Sender, Failure> {
        if self.senders[*known].0 != tag {
            *known = self.senders.binary_search_by_key(&tag, |sender| sender.0).map_err(|_| {
                Failure::Corrupt(format!(
                    "a message came from rank {} (its stream {}), which sends elsewhere; does another run use this address?",
                    tag >> STREAM_BITS,
                    tag & ((1 << STREAM_BITS) - 1)
                ))
            })?;
        }
        Ok(&mut self.senders[*known].1)
    }

    fn look(&mut self, floor: &Floor<'_>, count: &mut Count, now: Instant) {
        let parts = u64::from(self.parts);
        match count.course.look(now, floor.stage.at()) {
            Look::Window => {
                let (before, since) = std::mem::replace(&mut count.window, (count.arrived, now));
                let rate = (count.arrived - before) as f64 / (now - since).as_secs_f64().max(1e-9);
                floor.tell(&count.course, rate);
                let mark = count.course.figure(now, rate);
                if mark == Some(Mark::Measured) {
                    self.end(count, now);
                }
                floor.mark(mark);
            }
            Look::Begin => {
                for (_, sender) in &mut self.senders {
                    sender.counts_from = sender.verifier.count / parts;
                }
                (count.begun, count.window) = (now, (count.arrived, now));
            }
            Look::End => self.end(count, now),
            Look::Same | Look::Leave => {}
        }
    }

    fn end(&mut self, count: &mut Count, now: Instant) {
        for (_, sender) in &mut self.senders {
            sender.counts_to = sender.verifier.count / u64::from(self.parts);
        }
        count.seconds = (now - count.begun).as_secs_f64();
    }

    #[cold]
    fn silent(&self, floor: &Floor<'_>) -> Failure {
        let mut ranks: Vec<_> = self
            .senders
            .iter()
            .filter(|sender| sender.1.sent.is_none())
            .map(|sender| sender.1.from)
            .collect();
        ranks.dedup();
        let ranks: Vec<_> = ranks.into_iter().map(|rank| rank_text(Some(rank))).collect();
        Failure::TimedOut(format!(
            "nothing came from {} for {}",
            ranks.join(", "),
            crate::units::time(floor.task.patience)
        ))
    }

    /// What came, once all has.
    fn found(&mut self, mut count: Count) -> Result<Part, Failure> {
        let mut part = Part { steady: count.course.was_steady(), ..Part::default() };
        let recovery = self.losses.as_ref().and_then(recovery);
        if !self.background {
            part.windows.typical = count.course.windows();
        }
        for (_, sender) in &self.senders {
            let (count_of, sent) = (sender.verifier.count, sender.sent.unwrap_or(0));
            let received = count_of / u64::from(self.parts);
            let lost = self.losses.is_some().then(|| sent.saturating_sub(received));
            if lost.is_none() {
                sender.verifier.finish(sent * u64::from(self.parts))?;
            }
            part.verified += received;
            let messages = sender.counts_to.saturating_sub(sender.counts_from);
            // The streams of one rank are one flow.
            match part.flows.last_mut().filter(|flow: &&mut FlowFound| flow.from == sender.from) {
                Some(flow) => {
                    flow.messages += messages;
                    flow.lost = flow.lost.zip(lost).map(|(one, other)| one + other);
                }
                None => part.flows.push(FlowFound {
                    from: sender.from,
                    to: Some(self.me),
                    background: self.background,
                    messages,
                    seconds: count.seconds,
                    lost,
                    recovery,
                    ..FlowFound::default()
                }),
            }
        }
        Ok(part)
    }
}

/// How what a wire has lost was recovered, by the last event that says it.
fn recovery(monitor: &Monitor) -> Option<[u64; 4]> {
    let mut last = None;
    while let Some(event) = monitor.try_next() {
        if let EventKind::Recovery(found) = event.kind {
            last = Some([found.packets, found.repaired, found.requested, found.lost]);
        }
    }
    last
}
