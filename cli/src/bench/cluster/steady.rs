//! When a warm-up is over, and when a figure is known well enough: decided by the figures of windows. Reads no clock.

use super::limits::{STEADY_SHARE, STEADY_WINDOWS};

/// The windows of a warm-up.
#[derive(Debug, Default)]
pub(super) struct Steadiness {
    last: [f64; STEADY_WINDOWS],
    count: usize,
}

impl Steadiness {
    /// The figure of one more window; whether the last ones are alike.
    pub(super) fn push(&mut self, figure: f64) -> bool {
        self.last[self.count % STEADY_WINDOWS] = figure;
        self.count += 1;
        let (low, high) = self
            .last
            .iter()
            .fold((f64::INFINITY, 0.0f64), |(low, high), &figure| (low.min(figure), high.max(figure)));
        self.count >= STEADY_WINDOWS && low > 0.0 && high - low <= STEADY_SHARE * low
    }
}

/// Whether the mean of windows is known to a share of itself: half of its 95 % interval is no wider.
pub(super) fn is_precise(windows: &[f64], share: f64) -> bool {
    let count = windows.len() as f64;
    // Of fewer, nobody knows how much they vary.
    if windows.len() < 5 {
        return false;
    }
    let mean = windows.iter().sum::<f64>() / count;
    let variance = windows.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // Student's t for five windows or more is at most 2.78.
    let t = if windows.len() < 10 { 2.78 } else { 2.26 };
    t * (variance / count).sqrt() <= share * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_steady_when_the_last_windows_are_alike() {
        let mut steadiness = Steadiness::default();
        let figures = [90.0, 40.0, 20.0, 10.2, 10.0, 10.1, 10.3, 30.0, 10.0];
        let said: Vec<_> = figures.map(|figure| steadiness.push(figure)).into();
        assert_eq!(said, [false, false, false, false, false, false, true, false, false]);
    }

    #[test]
    fn nothing_is_never_steady() {
        let mut steadiness = Steadiness::default();
        assert!(!(0..100).any(|_| steadiness.push(0.0)));
    }

    #[test]
    fn a_mean_is_precise_when_windows_agree_or_are_many() {
        assert!(!is_precise(&[10.0; 4], 0.02) && is_precise(&[10.0; 5], 0.02));
        let noisy: Vec<f64> = (0..10).map(|at| if at % 2 == 0 { 9.0 } else { 11.0 }).collect();
        assert!(!is_precise(&noisy, 0.02) && is_precise(&noisy.repeat(200), 0.02));
    }
}
