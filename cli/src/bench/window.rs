//! A window of the receiver's own time, in which what arrives is counted. Reads the clock; knows no message.
//!
//! It must be the receiver's: a sender is done with its time while all it has sent still waits in queues, which over a
//! slow wire hold more than a run moves. It begins when the time has come, not with a message: what arrives at once after
//! a pause was on its way during the pause.

use std::time::{Duration, Instant};

use super::BYTES_PER_LOOK;

/// From `warmup` after the beginning of a run, for `duration` or to its end.
#[derive(Debug)]
pub(super) struct Window {
    begun: Instant,
    warmup: Duration,
    duration: Option<Duration>,
    /// Messages between two looks at the clock.
    stride: u64,
    /// Of the last look before the window.
    before: u64,
    /// The last look in the window, or the first behind it.
    last: Option<Moment>,
    /// Looks in the window, at least `gap` apart.
    marks: Vec<Moment>,
    gap: Duration,
}

/// What a window found.
#[derive(Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) messages: u64,
    pub(super) seconds: f64,
    /// Messages per second in parts of it, one after the other.
    pub(super) windows: Vec<f64>,
}

/// Looks that are kept; beyond, every other is dropped and the rest are twice as far apart.
const MARKS_MAX: usize = 32;
/// Between them at first.
const GAP: Duration = Duration::from_millis(1);

/// How many had arrived at a time.
#[derive(Debug, Clone, Copy)]
struct Moment {
    count: u64,
    at: Instant,
}

impl Window {
    /// Of a run that begins now.
    pub(super) fn new(size: usize, warmup: Duration, duration: Option<Duration>) -> Self {
        let stride = (BYTES_PER_LOOK / size.max(1)).clamp(1, 64) as u64;
        Self {
            begun: Instant::now(),
            warmup,
            duration,
            stride,
            before: 0,
            last: None,
            marks: Vec::with_capacity(MARKS_MAX + 1),
            gap: GAP,
        }
    }

    /// To be called for each message, with the count of all so far. Whether the window is over.
    #[inline]
    pub(super) fn arrived(&mut self, count: u64) -> bool {
        count.is_multiple_of(self.stride) && self.look(Moment { count, at: Instant::now() })
    }

    /// Takes a look into account, unless the window is over; whether it is.
    fn look(&mut self, now: Moment) -> bool {
        let is_end =
            |at: Instant| self.duration.is_some_and(|duration| at - self.begun >= self.warmup + duration);
        if self.last.is_some_and(|last| is_end(last.at)) {
            return true;
        }
        if now.at - self.begun < self.warmup {
            self.before = now.count;
            return false;
        }
        self.last = Some(now);
        if self.marks.last().is_none_or(|mark| now.at - mark.at >= self.gap) {
            self.marks.push(now);
            if self.marks.len() > MARKS_MAX {
                let mut dropped = true;
                self.marks.retain(|_| {
                    dropped = !dropped;
                    !dropped
                });
                self.gap *= 2;
            }
        }
        is_end(now.at)
    }

    /// Messages and seconds of the window, once `count` have come and no more will: of all the run, if that ended before
    /// a message came in the window. `None`: no message came at all.
    pub(super) fn close(self, count: u64) -> Option<Measured> {
        self.close_at(Moment { count, at: Instant::now() })
    }

    fn close_at(mut self, now: Moment) -> Option<Measured> {
        self.look(now);
        let (before, last, from) = match self.last.filter(|last| last.count > self.before) {
            Some(last) => (self.before, last, self.warmup),
            None => (0, now, Duration::ZERO),
        };
        let seconds = (last.at - self.begun).saturating_sub(from).as_secs_f64();
        let rate = |pair: &[Moment]| {
            let seconds = (pair[1].at - pair[0].at).as_secs_f64();
            (pair[1].count - pair[0].count) as f64 / seconds.max(1e-9)
        };
        (last.count > before && seconds > 0.0).then(|| Measured {
            messages: last.count - before,
            seconds,
            windows: self.marks.windows(2).map(rate).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What a window finds when a message comes at each of `ms`, and the run ends with the last.
    fn found(warmup: u32, duration: Option<u32>, ms: &[u32]) -> Option<(u64, u128)> {
        let mut window = Window::new(BYTES_PER_LOOK, MS * warmup, duration.map(|ms| MS * ms));
        let mut now = Moment { count: 0, at: window.begun };
        for ms in ms {
            now = Moment { count: now.count + 1, at: window.begun + MS * *ms };
            window.look(now);
        }
        let Measured { messages, seconds, .. } = window.close_at(now)?;
        Some((messages, Duration::from_secs_f64(seconds).as_millis()))
    }

    #[test]
    fn what_comes_before_and_behind_the_window_does_not_count() {
        assert_eq!(found(10, Some(20), &[0, 1, 2, 11, 15, 25, 32, 33, 34, 35]), Some((4, 22)));
    }

    #[test]
    fn a_run_that_ends_early_is_measured_to_its_last_message() {
        assert_eq!(found(10, Some(1000), &[0, 11, 15, 30]), Some((3, 20)));
    }

    #[test]
    fn what_comes_out_of_queues_when_the_time_is_up_does_not_count() {
        let burst: Vec<u32> = (0..6).map(|at| at * 10).chain([60; 500]).collect();
        assert_eq!(found(5, Some(45), &burst), Some((5, 45)));
    }

    #[test]
    fn without_a_duration_the_last_message_ends_the_window() {
        assert_eq!(found(10, None, &[0, 11, 30, 2000, 5010]), Some((4, 5000)));
    }

    #[test]
    fn a_pause_before_a_burst_is_time_too() {
        assert_eq!(found(10, Some(1000), &[510; 30]), Some((30, 500)));
    }

    #[test]
    fn a_run_that_is_over_before_the_window_counts_as_a_whole() {
        assert_eq!(found(1000, Some(1), &[0, 10, 20]), Some((3, 20)));
        assert_eq!(found(0, Some(10), &[]), None);
        assert_eq!(found(0, Some(10), &[0]), None);
    }

    #[test]
    fn parts_of_a_window_have_rates_of_their_own_and_stay_few() {
        let mut window = Window::new(BYTES_PER_LOOK, MS * 10, None);
        // One per millisecond for a second, then two.
        let mut now = Moment { count: 0, at: window.begun };
        for ms in 1..=2000 {
            now = Moment { count: now.count + if ms <= 1000 { 1 } else { 2 }, at: window.begun + MS * ms };
            window.look(now);
        }
        let windows = window.close_at(now).unwrap().windows;
        assert!((10..MARKS_MAX).contains(&windows.len()), "{windows:?}");
        assert!((windows[0] - 1000.0).abs() < 1.0, "{windows:?}");
        assert!((windows[windows.len() - 1] - 2000.0).abs() < 1.0, "{windows:?}");
    }

    #[test]
    fn the_clock_is_read_once_in_a_stride() {
        let mut window = Window::new(64, Duration::ZERO, None);
        let looks = (1..=200).filter(|&count| {
            let before = window.last.map(|last| last.count);
            window.arrived(count);
            window.last.map(|last| last.count) != before
        });
        assert_eq!(looks.collect::<Vec<_>>(), [64, 128, 192]);
    }
}
