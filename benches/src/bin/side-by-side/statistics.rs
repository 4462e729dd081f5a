//! Latencies, random gaps and the rule that discards a round; it starts nothing and prints nothing.

use crate::control::{Report, Task};
use crate::random::Random;
use crate::usage::Usage;
use fabriq_benches::statistics::{median, percentile};
use std::time::Duration;

/// A round counts if the raw limit, measured before and after it, is within this factor of the median of all, and of
/// itself.
const SPREAD: f64 = 1.5;

/// For each round, whether it counts, by what its raw limit was found to be each time. A round without such a reading
/// cannot be judged and does.
pub(crate) fn rounds_that_count(limits: &[Vec<f64>]) -> Vec<bool> {
    let Some(middle) = median(limits.iter().flatten().copied()) else { return vec![true; limits.len()] };
    let apart = |a: f64, b: f64| a.max(b) > a.min(b) * SPREAD;
    limits
        .iter()
        .map(|readings| {
            let off = readings.iter().any(|limit| apart(*limit, middle));
            let uneven = readings.iter().any(|a| readings.iter().any(|b| apart(*a, *b)));
            !off && !uneven
        })
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
    random: Random,
    max_us: u64,
}

impl Gaps {
    pub(crate) fn new(task: &Task) -> Self {
        Self { random: Random::new(task.seed), max_us: task.gap_max_us }
    }

    /// Pauses; false if there are no gaps in this measure.
    pub(crate) fn pause(&mut self) -> bool {
        if self.max_us == 0 {
            return false;
        }
        std::thread::sleep(Duration::from_micros(self.random.below(self.max_us + 1)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_whose_raw_limit_is_far_off_or_uneven_does_not_count() {
        let limits =
            [vec![10.0, 11.0], vec![16.0, 17.0], vec![11.0, 10.0], vec![11.0, 6.0], vec![8.0, 13.0], vec![]];
        assert_eq!(rounds_that_count(&limits), [true, false, true, false, false, true]);
        assert_eq!(rounds_that_count(&[vec![], vec![]]), [true, true]);
    }
}
