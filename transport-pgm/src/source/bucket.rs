//! A token bucket (RFC 3208 section 5.1.2), kept as the time at which what was sent would have been sent at the rate.

use crate::clock::Nanos;
use crate::limits::{BURST_BYTES_MIN, BURST_INTERVAL};

const SECOND: u64 = 1_000_000_000;

/// What may be sent, and when.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes per second; `None` for no limit.
    rate: Option<u64>,
    /// How far ahead of its rate a burst may be.
    depth: Nanos,
    /// When all that was taken would be paid for.
    paid: Nanos,
}

impl Bucket {
    /// The depth is [`BURST_INTERVAL`], but at low rates [`BURST_BYTES_MIN`] or what a second is worth: a burst of
    /// a few packets must not wait where there is nothing to protect from it.
    pub(super) fn new(rate: Option<u64>) -> Self {
        let rate = rate.map(|rate| rate.max(1));
        let worth = |rate: u64| (BURST_BYTES_MIN.saturating_mul(SECOND) / rate).min(SECOND);
        let depth = rate.map_or(0, |rate| worth(rate).max(BURST_INTERVAL.as_nanos() as u64));
        Self { rate, depth, paid: 0 }
    }

    /// When something may be sent; in the past when it may now.
    pub(super) fn ready_at(&self) -> Nanos {
        self.paid.saturating_sub(self.depth)
    }

    pub(super) fn is_ready(&self, now: Nanos) -> bool {
        self.ready_at() <= now
    }

    pub(super) fn take(&mut self, now: Nanos, bytes: u64) {
        if let Some(rate) = self.rate {
            self.paid = self.paid.max(now) + bytes.saturating_mul(SECOND) / rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes in the first second when there is always something to send.
    fn bytes_in_a_second(rate: u64, packet: u64) -> u64 {
        let (mut bucket, mut now, mut sent) = (Bucket::new(Some(rate)), 0, 0);
        while now < SECOND {
            while bucket.is_ready(now) {
                bucket.take(now, packet);
                sent += packet;
            }
            now = bucket.ready_at().max(now + 1);
        }
        sent
    }

    #[test]
    fn the_rate_holds_beyond_the_burst() {
        for rate in [12_500, 1_250_000, 12_500_000, 125_000_000] {
            let depth = (rate / 1000).max(BURST_BYTES_MIN.min(rate));
            let sent = bytes_in_a_second(rate, 1500);
            // One packet may go when the bucket has any room, and one may be under way at the end.
            assert!((rate..=rate + depth + 3000).contains(&sent), "{rate} B/s: {sent} B");
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut bucket = Bucket::new(None);
        bucket.take(0, u64::MAX);
        assert!(bucket.is_ready(0));
    }
}
