//! Medians, percentiles, random gaps and the rule that discards a round; it starts nothing and prints nothing.

use crate::control::{Report, Task};
use crate::usage::Usage;
use std::time::Duration;

/// A round counts if its raw limit is within this factor of the median of raw limits.
const SPREAD: f64 = 1.5;

/// The value below which `share` of the sorted values lie.
pub(crate) fn percentile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// For each round, whether it counts. A round without a raw figure cannot be judged and does.
pub(crate) fn rounds_that_count(limits: &[Option<f64>]) -> Vec<bool> {
    let Some(middle) = median(limits.iter().flatten().copied()) else { return vec![true; limits.len()] };
    limits
        .iter()
        .map(|limit| limit.is_none_or(|limit| limit <= middle * SPREAD && limit >= middle / SPREAD))
        .collect()
}

/// The round trips of one round.
#[derive(Debug)]
pub(crate) struct Latencies {
    nanoseconds: Vec<u32>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        // Enough for a second at 2 us, so that the vector does not grow (and move) while it measures.
        Self { nanoseconds: Vec::with_capacity(500_000) }
    }

    pub(crate) fn count(&self) -> u64 {
        self.nanoseconds.len() as u64
    }

    pub(crate) fn record(&mut self, trip: Duration) {
        self.nanoseconds.push(u32::try_from(trip.as_nanos()).unwrap_or(u32::MAX));
    }

    pub(crate) fn report(mut self, usage: Usage) -> Report {
        self.nanoseconds.sort_unstable();
        let us = |share| f64::from(percentile(&self.nanoseconds, share).unwrap_or(0)) / 1e3;
        Report { p50_us: us(0.5), p99_us: us(0.99), count: self.count(), usage, ..Report::default() }
    }
}

/// Random pauses between requests, the same for every peer of a round.
#[derive(Debug)]
pub(crate) struct Gaps {
    state: u64,
    max_us: u64,
}

impl Gaps {
    pub(crate) fn new(task: &Task) -> Self {
        Self { state: task.seed, max_us: task.gap_max_us }
    }

    /// Pauses; false if there are no gaps in this measure.
    pub(crate) fn pause(&mut self) -> bool {
        if self.max_us == 0 {
            return false;
        }
        // SplitMix64: any seed will do, and nothing here needs better.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        std::thread::sleep(Duration::from_micros((mixed ^ (mixed >> 31)) % (self.max_us + 1)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(percentile(&[1, 2, 3, 4, 5], 0.5), Some(3));
        assert_eq!(percentile(&[1, 2, 3, 4, 5], 0.99), Some(5));
        assert_eq!(percentile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn a_round_whose_raw_limit_is_far_off_does_not_count() {
        let limits = [Some(10.0), Some(16.0), Some(11.0), Some(6.0), None];
        assert_eq!(rounds_that_count(&limits), [true, false, true, false, true]);
        assert_eq!(rounds_that_count(&[None, None]), [true, true]);
    }
}
