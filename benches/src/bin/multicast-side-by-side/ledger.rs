//! What came to a subscriber: counts, delays, and the runs in which messages were lost. It receives nothing.

use crate::message::{self, HELLO};
use fabriq_benches::statistics::percentile;
use serde::{Deserialize, Serialize};

/// What one subscriber says at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) received: u64,
    pub(crate) missing: u64,
    pub(crate) duplicates: u64,
    /// Messages of the wrong size or hash.
    pub(crate) corrupt: u64,
    /// Messages that came after a later one.
    pub(crate) late: u64,
    /// Of runs of missing messages, the mean.
    pub(crate) mean_burst: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// 10^6 bytes of messages per second, from the first one's sending to the last one's arrival.
    pub(crate) mb_per_s: f64,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    bytes: usize,
    seen: Vec<bool>,
    next: u64,
    greeted: bool,
    delays_ns: Vec<u64>,
    first_stamp_ns: u64,
    last_arrival_ns: u64,
    tally: Received,
}

impl Ledger {
    pub(crate) fn new(count: u64, bytes: usize) -> Self {
        Self {
            bytes,
            seen: vec![false; count as usize],
            next: 0,
            greeted: false,
            // All at once, so that it does not grow while it measures.
            delays_ns: Vec::with_capacity(count as usize),
            first_stamp_ns: u64::MAX,
            last_arrival_ns: 0,
            tally: Received::default(),
        }
    }

    /// Takes a message that came at `now_ns`; true if it is one of the run, and new.
    pub(crate) fn take(&mut self, body: &[u8], now_ns: u64) -> bool {
        let Some(header) = message::read(body, self.bytes) else {
            self.tally.corrupt += 1;
            return false;
        };
        self.greeted = true;
        if header.number == HELLO {
            return false;
        }
        let Some(seen) = self.seen.get_mut(header.number as usize) else {
            self.tally.corrupt += 1;
            return false;
        };
        if std::mem::replace(seen, true) {
            self.tally.duplicates += 1;
            return false;
        }
        self.tally.received += 1;
        self.tally.late += u64::from(header.number < self.next);
        self.next = self.next.max(header.number + 1);
        self.delays_ns.push(now_ns.saturating_sub(header.stamp_ns));
        self.first_stamp_ns = self.first_stamp_ns.min(header.stamp_ns);
        self.last_arrival_ns = now_ns;
        true
    }

    /// Has heard the publisher.
    pub(crate) fn greeted(&self) -> bool {
        self.greeted
    }

    pub(crate) fn has_all(&self) -> bool {
        self.tally.received == self.seen.len() as u64
    }

    pub(crate) fn close(mut self) -> Received {
        self.delays_ns.sort_unstable();
        let ms = |share| percentile(&self.delays_ns, share).unwrap_or(0) as f64 / 1e6;
        let missing = self.seen.iter().filter(|seen| !**seen).count();
        let bursts = self.seen.chunk_by(|a, b| a == b).filter(|run| !run[0]).count();
        let seconds = self.last_arrival_ns.saturating_sub(self.first_stamp_ns) as f64 / 1e9;
        let bytes = (self.tally.received * self.bytes as u64) as f64;
        Received {
            missing: missing as u64,
            mean_burst: if bursts == 0 { 0.0 } else { missing as f64 / bursts as f64 },
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            max_ms: ms(1.0),
            mb_per_s: if seconds > 0.0 { bytes / seconds / 1e6 } else { 0.0 },
            ..self.tally
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: u64, stamp_ns: u64) -> Vec<u8> {
        let mut body = vec![0; 64];
        message::write(&mut body, number, stamp_ns);
        body
    }

    #[test]
    fn counts_delays_and_bursts_are_exact() {
        let mut ledger = Ledger::new(10, 64);
        assert!(!ledger.greeted());
        ledger.take(&body(HELLO, 0), 1);
        assert!(ledger.greeted());
        // 2, 3 and 7 are lost, 1 is late, 5 comes twice, and one is cut short.
        for (at, number) in [0, 4, 1, 5, 5, 6, 8, 9].into_iter().enumerate() {
            ledger.take(&body(number, 1_000_000), 2_000_000 + at as u64 * 1_000_000);
        }
        ledger.take(&body(7, 0)[..63], 0);
        ledger.take(&body(10, 0), 0);
        assert!(!ledger.has_all());
        let closed = ledger.close();
        let counts = Received {
            received: 7,
            missing: 3,
            duplicates: 1,
            corrupt: 2,
            late: 1,
            mean_burst: 1.5,
            ..closed
        };
        assert_eq!(closed, counts);
        assert_eq!((closed.p50_ms, closed.max_ms), (4.0, 8.0));
        assert_eq!(closed.mb_per_s, 7.0 * 64.0 / 0.008 / 1e6);
    }

    #[test]
    fn a_subscriber_to_whom_nothing_came_misses_everything() {
        let closed = Ledger::new(5, 64).close();
        assert_eq!(closed, Received { missing: 5, mean_burst: 5.0, ..Received::default() });
    }

    #[test]
    fn all_is_all() {
        let mut ledger = Ledger::new(2, 64);
        ledger.take(&body(1, 0), 5);
        ledger.take(&body(0, 0), 5);
        assert!(ledger.has_all());
        assert_eq!(ledger.close().missing, 0);
    }
}
