//! What may be asked of a source: an account that fills with time and with the data that was sent. Pure arithmetic.

use crate::clock::Nanos;

/// How an account fills.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) per_second: u64,
    /// For every hundred packets of data.
    pub(super) per_100_data: u64,
    /// What it holds at most, and at first.
    pub(super) burst: u64,
}

#[derive(Debug)]
pub(super) struct Credit {
    left: u64,
    /// Up to when, and up to which packet of data, it was filled.
    filled: Nanos,
    filled_data: u64,
}

impl Credit {
    pub(super) const fn new(terms: Terms, now: Nanos, data: u64) -> Self {
        Self { left: terms.burst, filled: now, filled_data: data }
    }

    /// Takes one. `false` when there is none.
    pub(super) fn take(&mut self, terms: Terms, now: Nanos, data: u64) -> bool {
        let by_time = now.saturating_sub(self.filled).saturating_mul(terms.per_second) / 1_000_000_000;
        let by_data = data.saturating_sub(self.filled_data).saturating_mul(terms.per_100_data) / 100;
        // What is less than one keeps its beginning.
        if by_time > 0 {
            self.filled = now;
        }
        if by_data > 0 {
            self.filled_data = data;
        }
        self.left = self.left.saturating_add(by_time).saturating_add(by_data).min(terms.burst);
        let some = self.left > 0;
        self.left -= u64::from(some);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_gives_what_was_earned_and_no_more() {
        let terms = Terms { per_second: 1000, per_100_data: 50, burst: 10 };
        let mut credit = Credit::new(terms, 0, 0);
        let mut taken = |now, data| (0..1000).take_while(|_| credit.take(terms, now, data)).count();
        assert_eq!((taken(0, 0), taken(0, 0)), (10, 0));
        assert_eq!((taken(999_999, 1), taken(1_000_000, 1), taken(1_000_000, 2)), (0, 1, 1));
        assert_eq!((taken(5_000_000, 2), taken(5_000_000, 8)), (4, 3));
        assert_eq!(taken(1_000_000_000, 1_000_000), 10);
    }
}
