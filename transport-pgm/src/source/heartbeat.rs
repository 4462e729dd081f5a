//! When a source path message is due: ambient ones in any case, heartbeats at a decaying rate when there is no data
//! (RFC 3208 sections 5.1.4 to 5.1.6), and answers to requests (section 13.4). Makes no packets.

use crate::clock::Nanos;

#[derive(Debug)]
pub(super) struct Heartbeat {
    min: Nanos,
    max: Nanos,
    ambient: Nanos,
    ambient_at: Nanos,
    /// The interval before the next heartbeat.
    interval: Nanos,
    beat_at: Nanos,
    last: Option<Nanos>,
    asked: bool,
}

impl Heartbeat {
    /// The first is due at once.
    pub(super) fn new(now: Nanos, min: Nanos, max: Nanos, ambient: Nanos) -> Self {
        let min = min.max(1);
        let max = max.max(min);
        Self {
            min,
            max,
            ambient,
            ambient_at: now + ambient,
            interval: min,
            beat_at: now,
            last: None,
            asked: false,
        }
    }

    /// Data went out: the next heartbeat is the first one after it.
    pub(super) fn data(&mut self, now: Nanos) {
        self.interval = self.min.saturating_mul(2).min(self.max);
        self.beat_at = now + self.min;
    }

    /// A receiver needs to hear one. Not sooner than the least interval after the last one (section 13.4).
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// From now on they come at most `max` apart, and the first is due now.
    pub(super) fn hurry(&mut self, now: Nanos, max: Nanos) {
        self.max = max.max(self.min);
        self.interval = self.min;
        self.beat_at = now;
    }

    pub(super) fn due_at(&self) -> Nanos {
        let due = self.beat_at.min(self.ambient_at);
        if self.asked { due.min(self.last.map_or(0, |last| last + self.min)) } else { due }
    }

    /// One goes out.
    pub(super) fn sent(&mut self, now: Nanos) {
        if self.beat_at <= now {
            self.beat_at = now + self.interval;
            self.interval = self.interval.saturating_mul(2).min(self.max);
        }
        self.ambient_at = now + self.ambient;
        self.last = Some(now);
        self.asked = false;
    }
}
