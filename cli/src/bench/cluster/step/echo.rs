//! Messages there and back: clients, in a closed or an open loop, and the servers that send everything back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fabriq::{Error, Frame, Message, PollItem, Socket, SocketType};
use hdrhistogram::Histogram;

use super::super::limits::{FLOWS_WHOLE_MAX, IDLE_LOOK, SLEEP_SLACK, UNDER_WAY_MAX};
use super::super::protocol::{FlowFound, Windows};
use super::course::{At, Course, Look, Mark};
use super::{Actor, Floor, Part, parts_of, rank_text};
use crate::bench::payload::{Ring, Verifier};
use crate::failure::Failure;

/// Sends everything back until nobody is left to ask.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) socket: Socket,
}

impl Actor for Server {
    fn measures(&self) -> bool {
        false
    }

    fn is_server(&self) -> bool {
        true
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        answer_all(floor, || {
            let message = self.socket.recv()?;
            self.socket.send(message).map_err(|not_sent| not_sent.error)
        })
    }
}

/// Answers one after the other, until those who ask have what they want.
pub(super) fn answer_all(
    floor: &Floor<'_>,
    mut answer: impl FnMut() -> Result<(), Error>,
) -> Result<Part, Failure> {
    loop {
        match answer() {
            Ok(()) | Err(Error::Interrupted) => {}
            // A client that has what it wanted may be gone.
            Err(_) if floor.stage.at() == At::Finishing => return Ok(Part::default()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A connection of a client.
#[derive(Debug)]
pub(super) struct Line {
    socket: Socket,
    verifier: Verifier,
    sent: u64,
    /// Open loop: when what is under way was to be sent.
    intended: VecDeque<Instant>,
}

/// Whom a client asks.
#[derive(Debug)]
pub(super) struct Target {
    from: u32,
    to: Option<u32>,
    lines: Vec<Line>,
    one_way_ns: Histogram<u64>,
}

impl Target {
    /// `sockets` are connected. Frames have `size` bytes, from a ring of `slots`.
    pub(super) fn new(
        from: u32,
        to: Option<u32>,
        sockets: Vec<Socket>,
        (size, slots, tag): (usize, u64, u32),
    ) -> Result<Self, Failure> {
        let line = |socket| Line {
            socket,
            verifier: Verifier::of_sender(size, slots, tag),
            sent: 0,
            intended: VecDeque::with_capacity(UNDER_WAY_MAX),
        };
        Ok(Self { from, to, lines: sockets.into_iter().map(line).collect(), one_way_ns: histogram()? })
    }
}

pub(super) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new(3).map_err(|error| Failure::Failed(format!("cannot make a histogram: {error}")))
}

/// Asks its targets in turn, over their connections in turn.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) targets: Vec<Target>,
    pub(super) ring: Ring,
    pub(super) parts: u32,
    /// Open loop: messages per second.
    pub(super) rate: Option<f64>,
    pub(super) background: bool,
}

/// Latencies as they come, in the windows of a course.
#[derive(Debug)]
pub(super) struct Gauge {
    course: Course,
    window_ns: Histogram<u64>,
    tails: Vec<f64>,
    begun: Instant,
    seconds: f64,
}

impl Gauge {
    pub(super) fn new(floor: &Floor<'_>, background: bool) -> Result<Self, Failure> {
        let now = Instant::now();
        let course = Course::new(floor.task, background, now);
        Ok(Self { course, window_ns: histogram()?, tails: Vec::new(), begun: now, seconds: 0.0 })
    }

    /// Looks at the time; whether to leave.
    #[inline]
    pub(super) fn look(&mut self, floor: &Floor<'_>, now: Instant) -> bool {
        match self.course.look(now, floor.stage.at()) {
            Look::Same => false,
            Look::Leave => true,
            found => self.turn(floor, now, found),
        }
    }

    #[cold]
    fn turn(&mut self, floor: &Floor<'_>, now: Instant, found: Look) -> bool {
        match found {
            Look::Window => {
                let quantile = |q| self.window_ns.value_at_quantile(q) as f64 / 1e3;
                let (median, tail) = (quantile(0.5), quantile(0.99));
                if self.course.counts() {
                    self.tails.push(tail);
                }
                self.window_ns.reset();
                floor.tell(&self.course, median);
                let mark = self.course.figure(now, median);
                if mark == Some(Mark::Measured) {
                    self.seconds = (now - self.begun).as_secs_f64();
                }
                floor.mark(mark);
            }
            Look::Begin => {
                self.window_ns.reset();
                self.begun = now;
            }
            Look::End => self.seconds = (now - self.begun).as_secs_f64(),
            Look::Same | Look::Leave => {}
        }
        false
    }

    /// Figures of the windows that counted.
    pub(super) fn windows(&mut self) -> Windows {
        Windows { typical: self.course.windows(), tails: std::mem::take(&mut self.tails) }
    }

    pub(super) fn was_steady(&self) -> bool {
        self.course.was_steady()
    }

    /// For how long it counted.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// A message that has come back.
    #[inline]
    pub(super) fn record(&mut self, round_trip: Duration, of: &mut Histogram<u64>) {
        let one_way = u64::try_from(round_trip.as_nanos() / 2).unwrap_or(u64::MAX);
        // They grow as they have to, and can hold every time there is.
        let _ = self.window_ns.record(one_way);
        if self.course.counts() {
            let _ = of.record(one_way);
        }
    }
}

impl Actor for Client {
    fn measures(&self) -> bool {
        !self.background
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        let mut gauge = Gauge::new(floor, self.background)?;
        match self.rate {
            None => self.closed_loop(floor, &mut gauge)?,
            Some(rate) => self.open_loop(floor, &mut gauge, rate)?,
        }
        let mut part = Part { steady: gauge.was_steady(), ..Part::default() };
        if !self.background {
            part.windows = gauge.windows();
        }
        let is_thin = self.targets.len() > FLOWS_WHOLE_MAX;
        for target in &self.targets {
            for line in &target.lines {
                line.verifier.finish(line.sent * u64::from(self.parts))?;
                part.verified += line.sent;
            }
            let latencies = counts(&target.one_way_ns);
            part.flows.push(FlowFound {
                from: target.from,
                to: target.to,
                background: self.background,
                messages: target.one_way_ns.len(),
                seconds: gauge.seconds(),
                latencies: if is_thin { thinned(&latencies) } else { latencies },
                ..FlowFound::default()
            });
        }
        Ok(part)
    }
}

/// Each value that was seen, and how often.
pub(super) fn counts(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|seen| (seen.value_iterated_to(), seen.count_at_value())).collect()
}

/// The same in a few values: the median for the faster half, and so on for half of those that are left. Nothing becomes faster.
pub(super) fn thinned(all: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let total: u64 = all.iter().map(|seen| seen.1).sum();
    let (mut thin, mut group, mut seen) = (Vec::new(), 0, 0);
    let mut left = total - total / 2;
    for (at, &(value, count)) in all.iter().enumerate() {
        group += count;
        seen += count;
        if total - seen < left || at + 1 == all.len() {
            thin.push((value, group));
            group = 0;
            while left > 0 && total - seen < left {
                left /= 2;
            }
        }
    }
    thin
}

impl Client {
    fn closed_loop(&mut self, floor: &Floor<'_>, gauge: &mut Gauge) -> Result<(), Failure> {
        loop {
            for target in &mut self.targets {
                for line in &mut target.lines {
                    let message = parts_of(&self.ring, line.sent, self.parts);
                    let sent = Instant::now();
                    line.socket.send(message).map_err(|not_sent| silent(target.to, not_sent.error, floor))?;
                    line.sent += 1;
                    let reply = loop {
                        match line.socket.recv() {
                            Ok(reply) => break reply,
                            Err(Error::Interrupted) => {}
                            Err(error) => return Err(silent(target.to, error, floor)),
                        }
                    };
                    let received = Instant::now();
                    check(&mut line.verifier, &reply, 0)?;
                    gauge.record(received - sent, &mut target.one_way_ns);
                    if gauge.look(floor, received) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Each message at its intended time, from which its latency counts: one that has to wait because earlier ones are late
    /// is late itself.
    fn open_loop(&mut self, floor: &Floor<'_>, gauge: &mut Gauge, rate: f64) -> Result<(), Failure> {
        let start = Instant::now();
        let intended = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        let lines: Vec<(usize, usize)> = self
            .targets
            .iter()
            .enumerate()
            .flat_map(|(at, target)| (0..target.lines.len()).map(move |line| (at, line)))
            .collect();
        let (mut number, mut under_way, mut last, mut leaving) = (0u64, 0usize, start, false);
        loop {
            let now = Instant::now();
            leaving = leaving || gauge.look(floor, now);
            if leaving && under_way == 0 {
                return Ok(());
            }
            if !leaving && now >= intended(number) {
                let (at, line) = lines[(number % lines.len() as u64) as usize];
                let line = &mut self.targets[at].lines[line];
                if line.intended.len() < UNDER_WAY_MAX {
                    let mut message = parts_of(&self.ring, line.sent, self.parts);
                    // A REQ would have put it there.
                    message.push_front(Frame::EMPTY);
                    match line.socket.try_send(message) {
                        Ok(()) => {
                            line.intended.push_back(intended(number));
                            line.sent += 1;
                            number += 1;
                            under_way += 1;
                        }
                        Err(not_sent) if not_sent.error == Error::Again => {}
                        Err(not_sent) => return Err(not_sent.into()),
                    }
                }
            }
            let mut came = false;
            for target in &mut self.targets {
                for line in target.lines.iter_mut().filter(|line| !line.intended.is_empty()) {
                    let reply = match line.socket.try_recv() {
                        Ok(reply) => reply,
                        Err(Error::Again | Error::Interrupted) => continue,
                        Err(error) => return Err(error.into()),
                    };
                    last = Instant::now();
                    came = true;
                    under_way -= 1;
                    check(&mut line.verifier, &reply, 1)?;
                    if let Some(intended) = line.intended.pop_front() {
                        gauge.record(last.saturating_duration_since(intended), &mut target.one_way_ns);
                    }
                }
            }
            let idle = intended(number).saturating_duration_since(now);
            if idle > SLEEP_SLACK && !came {
                // Waits for replies, but not into the next message's time, nor past an order.
                let waiting = self.targets.iter().flat_map(|target| &target.lines);
                let waiting = waiting.filter(|line| !line.intended.is_empty());
                let mut items: Vec<_> = waiting.map(|line| PollItem::readable(&line.socket)).collect();
                match fabriq::poll(&mut items, Some((idle - SLEEP_SLACK).min(IDLE_LOOK))) {
                    Ok(_) | Err(Error::Interrupted) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if under_way == 0 {
                last = Instant::now();
            } else if !came {
                if now.saturating_duration_since(last) > floor.task.patience {
                    let waiting = self
                        .targets
                        .iter()
                        .find(|target| target.lines.iter().any(|line| !line.intended.is_empty()));
                    return Err(silent(waiting.and_then(|target| target.to), Error::Again, floor));
                }
                std::hint::spin_loop();
            }
        }
    }
}

/// Verifies all parts of a message but the first `skip`.
#[inline]
pub(super) fn check(verifier: &mut Verifier, message: &Message, skip: usize) -> Result<(), Failure> {
    message.parts().skip(skip).try_for_each(|part| verifier.check(part))
}

pub(super) fn silent(to: Option<u32>, error: Error, floor: &Floor<'_>) -> Failure {
    match error {
        Error::Again => Failure::TimedOut(format!(
            "{} did not answer for {}",
            rank_text(to),
            crate::units::time(floor.task.patience)
        )),
        error => error.into(),
    }
}

/// Which socket a client has.
pub(super) fn client_socket(rate: Option<f64>) -> SocketType {
    // A REQ waits for each reply, and that is what an open loop must not do.
    if rate.is_some() { SocketType::Dealer } else { SocketType::Req }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_distribution_has_few_values_and_the_same_median_tail_and_count() {
        let all: Vec<(u64, u64)> = (1..=1000).map(|value| (value, 10)).collect();
        let thin = thinned(&all);
        assert!(thin.len() < 16 && thin.is_sorted(), "{thin:?}");
        assert_eq!(thin.iter().map(|seen| seen.1).sum::<u64>(), 10_000);
        assert_eq!(thin.last().unwrap().0, 1000);
        let quantile = |counts: &[(u64, u64)], share: f64| {
            let mut histogram = histogram().unwrap();
            counts.iter().for_each(|&(value, count)| histogram.record_n(value, count).unwrap());
            histogram.value_at_quantile(share) as f64
        };
        for share in [0.5, 0.99, 0.9999] {
            let (whole, thin) = (quantile(&all, share), quantile(&thin, share));
            assert!((whole..=1.02 * whole).contains(&thin), "{share}: {whole} {thin}");
        }
        assert_eq!(thinned(&[]), []);
        assert_eq!(thinned(&[(5, 1)]), [(5, 1)]);
        assert_eq!(thinned(&[(5, 1), (6, 1)]).iter().map(|seen| seen.1).sum::<u64>(), 2);
    }
}
