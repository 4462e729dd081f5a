//! Whether a send writes at once or only queues. A pure policy of one socket: time comes in, a decision goes out.

use std::time::{Duration, Instant};

use crate::limits::{BURST_WRITES, FLUSH_BYTES, FLUSH_LINKS_MAX, THIN_BYTES, WRITE_COST, WRITES_IN_A_ROW};

/// What to do after a message has been queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Flush now, in the caller.
    Flush,
    /// Leave it queued, and have the background look after it.
    Guard,
    /// Leave it queued; somebody looks after it already.
    Queue,
}

/// The signal is the time since the last flush against what a write costs: a lone message goes out at once, a burst
/// becomes large batches.
#[derive(Debug)]
pub(crate) struct Pacing {
    last_flush: Option<Instant>,
    /// Of one link.
    write_cost: Duration,
    /// Links that a flush writes to: a PUB's message goes to many, and each costs a write.
    links: u32,
    waiting_bytes: usize,
    waiting_messages: u32,
    in_a_row: u32,
}

impl Pacing {
    pub(crate) fn new() -> Self {
        Self {
            last_flush: None,
            write_cost: WRITE_COST.1,
            links: 1,
            waiting_bytes: 0,
            waiting_messages: 0,
            in_a_row: 0,
        }
    }

    /// A message of so many bytes was queued. `now` is called only when the time matters: a clock costs as much as
    /// the rest of a small send.
    #[inline]
    pub(crate) fn queued(&mut self, bytes: usize, guarded: bool, now: impl FnOnce() -> Instant) -> Pace {
        self.waiting_bytes += bytes;
        self.waiting_messages += 1;
        let (flush_bytes, write_cost) = (FLUSH_BYTES * self.links as usize, self.write_cost * self.links);
        if guarded {
            if self.waiting_bytes >= flush_bytes {
                return Pace::Flush;
            }
            if !self.waiting_messages.is_multiple_of(16) {
                return Pace::Queue;
            }
            let age = self.age(now());
            let thin = self.waiting_bytes < THIN_BYTES * self.links as usize;
            if age >= BURST_WRITES * write_cost || (thin && age >= write_cost) {
                Pace::Flush
            } else {
                Pace::Queue
            }
        } else if self.waiting_bytes >= flush_bytes || self.age(now()) >= write_cost {
            self.in_a_row = 0;
            Pace::Flush
        } else if self.in_a_row + self.links <= WRITES_IN_A_ROW {
            self.in_a_row += self.links;
            Pace::Flush
        } else {
            self.in_a_row = 0;
            Pace::Guard
        }
    }

    fn age(&self, now: Instant) -> Duration {
        self.last_flush.map_or(Duration::MAX, |last| now.saturating_duration_since(last))
    }

    /// A flush began at `start` and ended at `end`, and wrote to so many links.
    pub(crate) fn flushed(&mut self, start: Instant, end: Instant, links: u32) {
        let links = links.clamp(1, FLUSH_LINKS_MAX);
        // Follows a rise at once and a fall slowly: others may have written to the rest.
        self.links = if links > self.links { links } else { self.links - (self.links - links).div_ceil(4) };
        let cost = (end.saturating_duration_since(start) / links).clamp(WRITE_COST.0, WRITE_COST.1);
        // Follows a fall at once and a rise slowly: a tracker of the minimum that can forget.
        self.write_cost = cost.min(self.write_cost + self.write_cost / 64).max(WRITE_COST.0);
        self.last_flush = Some(end);
        self.waiting_bytes = 0;
        self.waiting_messages = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_message_is_written_and_a_burst_is_queued() {
        let start = Instant::now();
        let mut pacing = Pacing::new();
        assert_eq!(pacing.queued(64, false, || start), Pace::Flush);
        pacing.flushed(start, start, 1);
        let later = start + Duration::from_millis(1);
        assert_eq!(pacing.queued(64, false, || later), Pace::Flush);
        pacing.flushed(later, later, 1);
        for _ in 0..WRITES_IN_A_ROW {
            assert_eq!(pacing.queued(64, false, || later), Pace::Flush);
            pacing.flushed(later, later, 1);
        }
        assert_eq!(pacing.queued(64, false, || later), Pace::Guard);
        let mut queued = 0;
        while pacing.queued(64, true, || later) == Pace::Queue {
            queued += 1;
        }
        assert!((900..1100).contains(&queued), "{queued}");
    }

    #[test]
    fn a_thin_burst_is_flushed_sooner() {
        let start = Instant::now();
        let mut pacing = Pacing::new();
        pacing.flushed(start, start, 1);
        let soon = start + Duration::from_micros(5);
        let paces: Vec<_> = (0..16).map(|_| pacing.queued(64, true, || soon)).collect();
        assert_eq!(paces[15], Pace::Flush);
        assert!(paces[..15].iter().all(|pace| *pace == Pace::Queue));
    }

    /// What goes to many links waits for as many bytes, and as long, for each of them as for a single one.
    #[test]
    fn a_burst_to_many_links_is_batched_for_each() {
        let start = Instant::now();
        let soon = start + 20 * WRITE_COST.0;
        let batch = |links| {
            let mut pacing = Pacing::new();
            pacing.flushed(start, start, links);
            (1..).find(|_| pacing.queued(64 * links as usize, true, || soon) == Pace::Flush)
        };
        assert_eq!((batch(1), batch(32)), (Some(16), Some(1024)));
        let mut pacing = Pacing::new();
        pacing.flushed(start, start, 32);
        for _ in 0..16 {
            pacing.flushed(start, start, 1);
        }
        assert_eq!(pacing.links, 1, "the many have gone");
    }
}
