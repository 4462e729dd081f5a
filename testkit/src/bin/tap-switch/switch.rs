//! The switch as a machine: frames in at a time, frames out when they are due. It has no device and reads no clock.

use crate::faults::{self, Dice, Faults};
use crate::limits::{IN_FLIGHT_MAX, QUEUE_MAX, STATIONS_MAX};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

type Station = [u8; 6];

/// What a port did so far, in frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) offered: u64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// Runs of lost frames: those that may be lost, one behind the other.
    pub(crate) bursts: u64,
    pub(crate) duplicated: u64,
    pub(crate) corrupted: u64,
    pub(crate) reordered: u64,
    /// Dropped for the rate, or because too many were on their way.
    pub(crate) overflowed: u64,
    /// What the host did not take.
    pub(crate) refused: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = if self.bursts == 0 { 0.0 } else { self.lost as f64 / self.bursts as f64 };
        let Self { offered, sent, lost, duplicated, corrupted, reordered, overflowed, refused, .. } = self;
        write!(
            f,
            "{offered} offered, {sent} sent, {lost} lost in bursts of {mean:.2} on average, {duplicated} duplicated, \
             {corrupted} corrupted, {reordered} held back, {overflowed} overflowed, {refused} refused"
        )
    }
}

/// The way out to one host.
#[derive(Debug)]
pub(crate) struct Port {
    faults: Faults,
    dice: Dice,
    counts: Counts,
    losing: bool,
    /// When the link has sent what it was given.
    idle_at: Duration,
    /// When the last frame that keeps the order is due.
    last_due: Duration,
}

impl Port {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        let (idle_at, last_due) = (Duration::ZERO, Duration::ZERO);
        Self { faults, dice: Dice::new(seed), counts: Counts::default(), losing: false, idle_at, last_due }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The copies of a frame that leave by this port, and when.
    fn pass(&mut self, now: Duration, frame: &Rc<[u8]>) -> Option<Passed> {
        self.counts.offered += 1;
        let start = self.idle_at.max(now);
        if start - now > QUEUE_MAX {
            self.counts.overflowed += 1;
            return None;
        }
        let wire = self
            .faults
            .rate_mbit
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(frame.len() as f64 * 8.0 / (rate * 1e6)));
        self.idle_at = start + wire;
        let due = (self.idle_at + self.dice.delay(&self.faults)).max(self.last_due);
        let Some(layout) = faults::layout(frame) else {
            self.last_due = due;
            return Some(Passed { due, copies: 1, frame: frame.clone() });
        };
        let fate = self.dice.roll(&self.faults);
        self.counts.bursts += u64::from(fate.lost && !self.losing);
        self.losing = fate.lost;
        if fate.lost {
            self.counts.lost += 1;
            return None;
        }
        let mut frame = frame.clone();
        if let Some(bit) = fate.corrupted {
            let mut bytes = frame.to_vec();
            self.counts.corrupted += u64::from(faults::corrupt(&mut bytes, &layout, bit));
            frame = bytes.into();
        }
        let due = if fate.reordered {
            self.counts.reordered += 1;
            due + Duration::from_secs_f64(self.faults.hold_ms / 1e3)
        } else {
            self.last_due = due;
            due
        };
        self.counts.duplicated += u64::from(fate.duplicated);
        Some(Passed { due, copies: 1 + usize::from(fate.duplicated), frame })
    }
}

#[derive(Debug)]
struct Passed {
    due: Duration,
    copies: usize,
    frame: Rc<[u8]>,
}

/// A frame on its way. Ordered by time, and what is due at one time by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    due: Duration,
    order: u64,
    port: usize,
    frame: Rc<[u8]>,
}

#[derive(Debug)]
pub(crate) struct Switch {
    ports: Vec<Port>,
    stations: HashMap<Station, usize>,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    order: u64,
}

impl Switch {
    pub(crate) fn new(ports: Vec<Port>) -> Self {
        Self { ports, stations: HashMap::new(), in_flight: BinaryHeap::new(), order: 0 }
    }

    pub(crate) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Takes a frame that came in by the port `from`. What is too short to be one is dropped.
    pub(crate) fn forward(&mut self, now: Duration, from: usize, frame: &[u8]) {
        let (Some(&to), Some(&source)) =
            (frame.first_chunk::<6>(), frame.get(6..).and_then(<[u8]>::first_chunk::<6>))
        else {
            return;
        };
        if frame.len() < 14 {
            return;
        }
        if !is_group(source) && (self.stations.len() < STATIONS_MAX || self.stations.contains_key(&source)) {
            self.stations.insert(source, from);
        }
        let known = if is_group(to) { None } else { self.stations.get(&to).copied() };
        let frame: Rc<[u8]> = frame.into();
        for port in 0..self.ports.len() {
            if port == from || known.is_some_and(|known| known != port) {
                continue;
            }
            let Some(passed) = self.ports[port].pass(now, &frame) else { continue };
            for _ in 0..passed.copies {
                if self.in_flight.len() == IN_FLIGHT_MAX {
                    self.ports[port].counts.overflowed += 1;
                    continue;
                }
                self.order += 1;
                let frame = passed.frame.clone();
                self.in_flight.push(Reverse(InFlight { due: passed.due, order: self.order, port, frame }));
            }
        }
    }

    /// When the next frame is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.in_flight.peek().map(|Reverse(next)| next.due)
    }

    /// The next frame that is due by `now`, and its port.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<(usize, Rc<[u8]>)> {
        if self.next_due()? > now {
            return None;
        }
        self.in_flight.pop().map(|Reverse(next)| (next.port, next.frame))
    }

    /// Counts what became of a frame that was due.
    pub(crate) fn sent(&mut self, port: usize, taken: bool) {
        let counts = &mut self.ports[port].counts;
        *if taken { &mut counts.sent } else { &mut counts.refused } += 1;
    }
}

fn is_group(station: Station) -> bool {
    station[0] & 1 != 0
}

#[cfg(test)]
mod tests;
