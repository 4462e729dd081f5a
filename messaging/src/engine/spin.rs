//! How long a waiting thread should look again before it sleeps. A pure policy: time comes in, durations go out.

use std::time::Duration;

use crate::limits::{CORE_LOST, SPIN_MAX, SPIN_SKIP};

/// Learns from each wait of one shard whether spinning pays. A hit saves a wake-up (15 to 20 us across cores); a miss
/// costs the spin. Measured in docs/design/engine.md.
#[derive(Debug)]
pub(crate) struct Spin {
    cap: Duration,
    /// Running average of hits, weight 1/8.
    hits: f32,
    /// Running average of the waits that were hits, in microseconds.
    wait_us: f32,
    /// Waits still to go without spinning, and how many to skip next time.
    skip: u32,
    skip_next: u32,
}

impl Spin {
    pub(crate) fn new(cap: Duration) -> Self {
        Self { cap: cap.min(SPIN_MAX), hits: 0.7, wait_us: 10.0, skip: 0, skip_next: SPIN_SKIP.0 }
    }

    /// The pause between two looks after which the core counts as lost.
    pub(crate) fn pause_max(&self) -> Duration {
        CORE_LOST.max(2 * self.cap)
    }

    /// How long to spin for the wait that starts now.
    pub(crate) fn budget(&mut self) -> Duration {
        if self.skip > 0 {
            self.skip -= 1;
            return Duration::ZERO;
        }
        if self.hits > 0.6 {
            self.cap
        } else if self.hits > 0.4 {
            self.cap.min(Duration::from_secs_f32((2.0 * self.wait_us + 3.0) * 1e-6))
        } else {
            self.skip = self.skip_next;
            // This one is the probe.
            self.cap
        }
    }

    /// What was awaited came while spinning.
    pub(crate) fn hit(&mut self, waited: Duration) {
        self.hits += (1.0 - self.hits) / 8.0;
        self.wait_us += (waited.as_secs_f32() * 1e6 - self.wait_us) / 8.0;
        self.skip_next = SPIN_SKIP.0;
        if self.hits > 0.4 {
            self.skip = 0;
        }
    }

    /// The budget ran out first.
    pub(crate) fn miss(&mut self) {
        self.hits -= self.hits / 8.0;
    }

    /// Somebody else had the core meanwhile: spinning takes it from those who have work.
    pub(crate) fn core_lost(&mut self) {
        self.hits = 0.0;
        self.skip = self.skip_next;
        self.skip_next = (self.skip_next * 2).min(SPIN_SKIP.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SPIN;

    #[test]
    fn spins_while_it_pays_and_probes_when_it_does_not() {
        let mut spin = Spin::new(SPIN);
        for _ in 0..100 {
            assert_eq!(spin.budget(), SPIN);
            spin.hit(Duration::from_micros(5));
        }
        let mut spun = 0;
        for _ in 0..1000 {
            if spin.budget() > Duration::ZERO {
                spun += 1;
                spin.miss();
            }
        }
        assert!((20..60).contains(&spun), "{spun} of 1000 waits spun in vain");
        for _ in 0..2000 {
            if spin.budget() > Duration::ZERO {
                spin.hit(Duration::from_micros(5));
            }
        }
        assert_eq!(spin.budget(), SPIN, "came back");
    }

    #[test]
    fn a_lost_core_stops_it_for_longer_each_time() {
        let mut spin = Spin::new(SPIN);
        let mut last = 0;
        for _ in 0..4 {
            spin.core_lost();
            let mut skipped = 0;
            while spin.budget() == Duration::ZERO {
                skipped += 1;
            }
            assert!(skipped > last);
            last = skipped;
        }
        assert!(Spin::new(Duration::ZERO).budget() == Duration::ZERO, "a cap of zero never spins");
    }
}
