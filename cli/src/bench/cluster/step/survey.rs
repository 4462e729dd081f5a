//! Messages to all and back: a surveyor that publishes one at a time, and those that answer each. Closed loop only.

use std::time::Instant;

use fabriq::{Error, Frame, Message, Socket};
use hdrhistogram::Histogram;

use super::super::limits::FLOWS_WHOLE_MAX;
use super::super::protocol::FlowFound;
use super::echo::{Gauge, answer_all, check, counts, histogram, silent, thinned};
use super::{Actor, Floor, Part, parts_of};
use crate::bench::payload::{Ring, Verifier};
use crate::failure::Failure;

/// Sends back what is published, behind its own name.
#[derive(Debug)]
pub(super) struct Respondent {
    pub(super) heard: Socket,
    pub(super) answers: Socket,
    pub(super) me: u32,
}

impl Actor for Respondent {
    fn measures(&self) -> bool {
        false
    }

    fn is_server(&self) -> bool {
        true
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        let name = Frame::from(&self.me.to_le_bytes()[..]);
        answer_all(floor, || {
            let mut message = self.heard.recv()?;
            message.push_front(name.clone());
            self.answers.send(message).map_err(|not_sent| not_sent.error)
        })
    }
}

/// One of those that answer.
#[derive(Debug)]
pub(super) struct Subscriber {
    rank: u32,
    verifier: Verifier,
    one_way_ns: Histogram<u64>,
}

impl Subscriber {
    /// Of messages of `size` bytes, from the surveyor's ring of `slots`.
    pub(super) fn new(rank: u32, (size, slots, tag): (usize, u64, u32)) -> Result<Self, Failure> {
        Ok(Self { rank, verifier: Verifier::of_sender(size, slots, tag), one_way_ns: histogram()? })
    }
}

/// Publishes a message when all have answered the one before.
#[derive(Debug)]
pub(super) struct Surveyor {
    pub(super) me: u32,
    pub(super) publishes: Socket,
    pub(super) hears: Socket,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) ring: Ring,
    pub(super) parts: u32,
}

impl Actor for Surveyor {
    fn measures(&self) -> bool {
        true
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        let mut gauge = Gauge::new(floor, false)?;
        let mut sent = 0;
        loop {
            let message = parts_of(&self.ring, sent, self.parts);
            let begun = Instant::now();
            let published = self.publishes.send(message);
            published.map_err(|not_sent| self.missing(sent, not_sent.error, floor))?;
            sent += 1;
            let mut last = begun;
            for _ in 0..self.subscribers.len() {
                last = self.hear(begun, sent, &mut gauge, floor)?;
            }
            if gauge.look(floor, last) {
                break;
            }
        }
        self.found(sent, gauge)
    }
}

impl Surveyor {
    /// One answer; when it came.
    fn hear(
        &mut self,
        begun: Instant,
        sent: u64,
        gauge: &mut Gauge,
        floor: &Floor<'_>,
    ) -> Result<Instant, Failure> {
        let answer = loop {
            match self.hears.recv() {
                Ok(answer) => break answer,
                Err(Error::Interrupted) => {}
                Err(error) => return Err(self.missing(sent, error, floor)),
            }
        };
        let came = Instant::now();
        let subscriber =
            named(&answer).and_then(|rank| self.subscribers.iter_mut().find(|own| own.rank == rank));
        let subscriber = subscriber
            .ok_or_else(|| Failure::Corrupt("an answer that is none of the subscribers'".to_owned()))?;
        check(&mut subscriber.verifier, &answer, 1)?;
        gauge.record(came.saturating_duration_since(begun), &mut subscriber.one_way_ns);
        Ok(came)
    }

    /// Names one of those that have not answered all.
    fn missing(&self, sent: u64, error: Error, floor: &Floor<'_>) -> Failure {
        let late = self.subscribers.iter().find(|own| own.verifier.count < sent * u64::from(self.parts));
        silent(late.map(|own| own.rank), error, floor)
    }

    fn found(&mut self, sent: u64, mut gauge: Gauge) -> Result<Part, Failure> {
        let mut part = Part { steady: gauge.was_steady(), windows: gauge.windows(), ..Part::default() };
        let is_thin = self.subscribers.len() > FLOWS_WHOLE_MAX;
        for subscriber in &self.subscribers {
            subscriber.verifier.finish(sent * u64::from(self.parts))?;
            part.verified += sent;
            let latencies = counts(&subscriber.one_way_ns);
            part.flows.push(FlowFound {
                from: self.me,
                to: Some(subscriber.rank),
                messages: subscriber.one_way_ns.len(),
                seconds: gauge.seconds(),
                latencies: if is_thin { thinned(&latencies) } else { latencies },
                ..FlowFound::default()
            });
        }
        Ok(part)
    }
}

fn named(answer: &Message) -> Option<u32> {
    answer.part(0)?.first_chunk().map(|name| u32::from_le_bytes(*name))
}
