//! How long a receiver waits, learned from how long it had to. Pure arithmetic.
//!
//! The estimate is Jacobson's (RFC 6298): a mean, a mean deviation, and doubling while nothing is heard. Only what was
//! asked once is measured, since an answer to a repeated question does not say which one it answers (Karn). But here
//! most timeouts are plain loss, where TCP's are congestion. So waiting is doubled a few times only; it takes many
//! timeouts more until what was measured is forgotten, and waiting grows up to its bound.

use crate::clock::Nanos;
use crate::limits::{
    TIMER_AMBIGUOUS_MAX, TIMER_DOUBLINGS_MAX, TIMER_DOUBLINGS_MIN, TIMER_SPREAD, TIMER_VAIN_MAX,
};

/// An interval that is waited for, and bounds of what is waited.
#[derive(Debug)]
pub(super) struct Estimate {
    initial: Nanos,
    min: Nanos,
    max: Nanos,
    /// Mean and mean deviation.
    known: Option<(Nanos, Nanos)>,
    doublings: u32,
    doubled_at: Nanos,
    /// Timeouts since waiting was doubled for the last time that loss explains.
    vain: u32,
    /// Answers to repeated questions since the last one to a single question.
    ambiguous: u32,
}

impl Estimate {
    pub(super) fn new(initial: Nanos, min: Nanos, max: Nanos) -> Self {
        let max = max.max(min);
        Self {
            initial: initial.clamp(min, max),
            min,
            max,
            known: None,
            doublings: 0,
            doubled_at: 0,
            vain: 0,
            ambiguous: 0,
        }
    }

    pub(super) fn mean(&self) -> Option<Nanos> {
        self.known.map(|(mean, _)| mean)
    }

    /// How long to wait before asking again.
    pub(super) fn patience(&self) -> Nanos {
        self.learned().saturating_mul(1 << self.doublings).min(self.max)
    }

    fn learned(&self) -> Nanos {
        let learned = self.known.map_or(self.initial, |(mean, deviation)| mean + TIMER_SPREAD * deviation);
        learned.clamp(self.min, self.max)
    }

    /// An answer came so long after the only question, or so it seems: when the answer to it was lost, this may be the
    /// one to somebody else's. So one sample moves the mean by a sixteenth at most. What has really become longer is
    /// learned in some ten samples, and half of them may be wrong.
    pub(super) fn sample(&mut self, span: Nanos) {
        (self.doublings, self.vain, self.ambiguous) = (0, 0, 0);
        let span = span.min(self.max);
        let Some((mean, deviation)) = &mut self.known else {
            self.known = Some((span, span / 2));
            return;
        };
        let span = span.min(*mean + *mean / 2 + 1000);
        *deviation = (*deviation * 3 + span.abs_diff(*mean)) / 4;
        *mean = (*mean * 7 + span) / 8;
    }

    /// An answer came so long after the last of several questions. When that is what was to be expected, what went
    /// before was loss, and the interval has not become longer; unless that is all that ever happens.
    pub(super) fn answered_late(&mut self, span: Nanos) {
        if self.known.is_none() {
            return;
        }
        if span <= self.learned() {
            (self.doublings, self.vain) = (0, 0);
        }
        self.ambiguous += 1;
        if self.ambiguous > TIMER_AMBIGUOUS_MAX {
            self.forget();
        }
    }

    fn forget(&mut self) {
        (self.known, self.doublings, self.vain, self.ambiguous) = (None, 0, 0, 0);
    }

    /// It was waited for in vain. Many at once count as one: they have asked at about the same time.
    pub(super) fn timed_out(&mut self, now: Nanos) {
        if now < self.doubled_at + self.patience() {
            return;
        }
        self.doubled_at = now;
        if self.doublings < if self.vain > TIMER_VAIN_MAX { TIMER_DOUBLINGS_MAX } else { TIMER_DOUBLINGS_MIN }
        {
            self.doublings += 1;
            return;
        }
        self.vain += 1;
        if self.vain > TIMER_VAIN_MAX && self.known.is_some() {
            self.forget();
        }
    }
}

/// A back-off as a fraction of its range, in 1/65536: truncated exponential, so that of any number of receivers few are
/// early and most are late (the distribution of RFC 5401 section 3.2 for a group of 32; RFC 3208 leaves it open).
/// The entries are its quantiles.
pub(super) fn backoff_fraction(random: u32) -> u64 {
    const QUANTILES: [u32; 33] = [
        0, 19148, 27182, 32344, 36155, 39178, 41683, 43822, 45689, 47344, 48832, 50183, 51420, 52560, 53619,
        54606, 55531, 56401, 57222, 58000, 58739, 59442, 60113, 60755, 61369, 61959, 62527, 63073, 63599,
        64108, 64599, 65075, 65535,
    ];
    let random = random & 0xffff;
    let (at, rest) = ((random >> 11) as usize, random & 0x7ff);
    let (below, above) = (QUANTILES[at], QUANTILES[at + 1]);
    u64::from(below + (above - below) * rest / 2048)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn patience_settles_on_what_is_measured_within_its_bounds() {
        let mut estimate = Estimate::new(10 * MS, 2 * MS, 200 * MS);
        assert_eq!(estimate.patience(), 10 * MS);
        (0..100).for_each(|_| estimate.sample(30 * MS));
        assert!((30 * MS..31 * MS).contains(&estimate.patience()), "{}", estimate.patience());
        (0..100).for_each(|_| estimate.sample(MS / 5));
        assert_eq!(estimate.patience(), 2 * MS);
        (0..100).for_each(|_| estimate.sample(1000 * MS));
        assert_eq!(estimate.patience(), 200 * MS);
    }

    #[test]
    fn patience_grows_while_nothing_comes_and_recovers() {
        let mut estimate = Estimate::new(10 * MS, 2 * MS, 200 * MS);
        let mut now = 10 * MS;
        let mut wait = |estimate: &mut Estimate, patience: &[Nanos]| {
            for want in patience {
                (0..50).for_each(|_| estimate.timed_out(now));
                assert_eq!(estimate.patience(), want * MS);
                now += estimate.patience();
            }
        };
        wait(&mut estimate, &[20, 40, 80]);
        wait(&mut estimate, &[80; TIMER_VAIN_MAX as usize + 1]);
        wait(&mut estimate, &[160, 200, 200]);
        estimate.answered_late(MS);
        assert_eq!(estimate.patience(), 200 * MS, "which question this answers is not known");
        estimate.sample(MS);
        assert_eq!(estimate.patience(), 3 * MS);
        wait(&mut estimate, &[6, 12, 24, 24, 24]);
        estimate.answered_late(20 * MS);
        wait(&mut estimate, &[24]);
        estimate.answered_late(2 * MS);
        assert_eq!(estimate.patience(), 3 * MS);
        // What is known has become wrong: forgotten.
        wait(&mut estimate, &[6, 12, 24]);
        wait(&mut estimate, &[24; TIMER_VAIN_MAX as usize]);
        wait(&mut estimate, &[10, 20, 40]);
        estimate.sample(30 * MS);
        assert_eq!(estimate.patience(), 90 * MS);
        // As it is when every answer is to a repeated question, though each seems to come in time.
        (0..TIMER_AMBIGUOUS_MAX).for_each(|_| estimate.answered_late(1));
        assert_eq!(estimate.patience(), 90 * MS);
        estimate.answered_late(1);
        assert_eq!(estimate.patience(), 10 * MS);
    }

    #[test]
    fn most_back_offs_are_late_and_few_are_early() {
        let fractions: Vec<u64> = (0..=0xffff).map(backoff_fraction).collect();
        assert!(fractions.is_sorted() && fractions[0] == 0 && fractions[0xffff] <= 0xffff);
        let early = fractions.iter().filter(|fraction| **fraction < 0x4000).count();
        let late = fractions.iter().filter(|fraction| **fraction >= 0xc000).count();
        assert!(early < 0x10000 / 32 && late > 0x10000 * 6 / 10, "{early} early, {late} late");
    }
}
