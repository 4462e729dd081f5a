//! The course of one figure through a step: warm-up until steady, what counts, what follows while others still count. Pure:
//! the time and the stage go in.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::super::limits::{STRETCH_MAX, TOLD_WINDOW_MIN, WARM_WINDOWS, WINDOWS};
use super::super::protocol::Task;
use super::super::steady::{Steadiness, is_precise};

/// What the coordinator has ordered last, for threads that look at it with every message.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

/// The orders, in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    Warming,
    Measuring,
    Stopping,
    Finishing,
}

impl Stage {
    #[inline]
    pub(super) fn at(&self) -> At {
        match self.0.load(Ordering::Relaxed) {
            0 => At::Warming,
            1 => At::Measuring,
            2 => At::Stopping,
            _ => At::Finishing,
        }
    }

    pub(super) fn set(&self, at: At) {
        self.0.store(at as u8, Ordering::Relaxed);
    }
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Go on.
    Same,
    /// A window is over: its figure goes to [`Course::figure`].
    Window,
    /// From here on it counts.
    Begin,
    /// To here it counted.
    End,
    /// Send no more.
    Leave,
}

/// What the coordinator is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Steady,
    Measured,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Warming { told: bool },
    Counting { since: Instant },
    Counted,
}

/// One figure's.
#[derive(Debug)]
pub(super) struct Course {
    state: State,
    warm_until: Instant,
    duration: Duration,
    precision: Option<f64>,
    /// It runs for others' sake, and counts for as long as they do.
    background: bool,
    /// The end of this window.
    next: Instant,
    window: Duration,
    steadiness: Steadiness,
    steady: bool,
    windows: Vec<f64>,
}

impl Course {
    pub(super) fn new(task: &Task, background: bool, now: Instant) -> Self {
        let window = (task.warmup / WARM_WINDOWS).max(Duration::from_millis(1));
        let windows = (WINDOWS * if task.precision.is_some() { STRETCH_MAX } else { 1 }) as usize + 1;
        Self {
            state: State::Warming { told: false },
            warm_until: now + task.warmup,
            duration: task.duration,
            precision: task.precision,
            background,
            next: now + window,
            window,
            steadiness: Steadiness::default(),
            steady: false,
            windows: Vec::with_capacity(windows),
        }
    }

    /// To be called often.
    #[inline]
    pub(super) fn look(&mut self, now: Instant, stage: At) -> Look {
        let is_window = now >= self.next;
        match (self.state, stage) {
            (State::Counting { .. }, At::Stopping | At::Finishing) => {
                self.state = State::Counted;
                Look::End
            }
            (_, At::Stopping | At::Finishing) => Look::Leave,
            (State::Warming { .. }, At::Measuring) => {
                self.state = State::Counting { since: now };
                self.window = (self.duration / WINDOWS).max(Duration::from_nanos(1));
                self.next = now + self.window;
                Look::Begin
            }
            (State::Warming { .. } | State::Counting { .. }, _) if is_window => Look::Window,
            _ => Look::Same,
        }
    }

    /// The figure of the window that is over; what has been reached by it. `Measured` is an end as well.
    pub(super) fn figure(&mut self, now: Instant, figure: f64) -> Option<Mark> {
        self.next = now + self.window;
        match &mut self.state {
            State::Warming { told } => {
                self.steady |= self.steadiness.push(figure);
                let first = (self.steady || now >= self.warm_until) && !*told;
                *told |= first;
                first.then_some(Mark::Steady)
            }
            State::Counting { since } => {
                self.windows.push(figure);
                let (took, longest) = (now - *since, self.duration * STRETCH_MAX);
                let is_known =
                    self.precision.is_none_or(|share| took >= longest || is_precise(&self.windows, share));
                // A window may end a little early; the last one of a duration does not start another.
                let is_over = took + self.window / 2 >= self.duration && is_known && !self.background;
                if is_over {
                    self.state = State::Counted;
                }
                is_over.then_some(Mark::Measured)
            }
            State::Counted => None,
        }
    }

    /// Whether it counts now.
    #[inline]
    pub(super) fn counts(&self) -> bool {
        matches!(self.state, State::Counting { .. })
    }

    /// Whether the figure of the window that is over is worth a word before the end.
    pub(super) fn is_told(&self) -> bool {
        self.counts() && !self.background && self.window >= TOLD_WINDOW_MIN
    }

    /// Whether the warm-up ended since figures were steady.
    pub(super) fn was_steady(&self) -> bool {
        self.steady
    }

    /// The figures of all windows that counted.
    pub(super) fn windows(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn task(precision: Option<f64>) -> Task {
        let (warmup, duration) = (100 * MS, 100 * MS);
        Task { step: 1, traffics: Vec::new(), warmup, duration, precision, patience: MS }
    }

    /// When something is marked or looked at, if a figure comes each millisecond and orders follow at once.
    fn run(
        precision: Option<f64>,
        background: bool,
        figure: impl Fn(u32) -> f64,
    ) -> (Vec<(u32, Mark)>, usize) {
        let begun = Instant::now();
        let mut course = Course::new(&task(precision), background, begun);
        let (mut at, mut marks) = (At::Warming, Vec::new());
        for ms in 1..3000 {
            let now = begun + ms * MS;
            match course.look(now, at) {
                Look::Window => match course.figure(now, figure(ms)) {
                    Some(Mark::Steady) => {
                        marks.push((ms, Mark::Steady));
                        at = At::Measuring;
                    }
                    Some(Mark::Measured) => {
                        marks.push((ms, Mark::Measured));
                        assert!(!course.counts());
                        at = At::Stopping;
                    }
                    None => {}
                },
                Look::Leave => break,
                _ => {}
            }
        }
        (marks, course.windows().len())
    }

    #[test]
    fn what_is_steady_at_once_counts_after_a_few_windows_for_its_duration() {
        assert_eq!(run(None, false, |_| 5.0), (vec![(20, Mark::Steady), (121, Mark::Measured)], 10));
    }

    #[test]
    fn what_is_never_steady_counts_when_the_warm_up_is_over() {
        let noise = |ms: u32| if ms.is_multiple_of(2) { 1.0 } else { 2.0 + f64::from(ms) };
        assert_eq!(run(None, false, noise).0, [(100, Mark::Steady), (201, Mark::Measured)]);
    }

    #[test]
    fn what_is_to_be_precise_counts_until_it_is_or_the_time_is_over() {
        let noise = |ms: u32| f64::from(ms % 30);
        let (marks, windows) = run(Some(0.0001), false, noise);
        assert_eq!((marks[1].1, windows), (Mark::Measured, 100));
        assert_eq!(run(Some(0.01), false, |_| 5.0).1, 10);
    }

    #[test]
    fn figures_of_long_windows_are_told_while_they_count() {
        let begun = Instant::now();
        let told = |duration: Duration, background: bool, at: At| {
            let task = Task { duration, ..task(None) };
            let mut course = Course::new(&task, background, begun);
            course.look(begun + MS, at);
            course.is_told()
        };
        let long = WINDOWS * TOLD_WINDOW_MIN;
        assert!(told(long, false, At::Measuring));
        assert!(!told(long, false, At::Warming) && !told(long, true, At::Measuring));
        assert!(!told(long - MS, false, At::Measuring));
    }

    #[test]
    fn a_background_counts_as_long_as_others_do() {
        let (marks, windows) = run(None, true, |_| 5.0);
        assert_eq!(marks, [(20, Mark::Steady)]);
        assert!(windows > 200);
    }
}
