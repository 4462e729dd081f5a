//! The NAK machine of each missing packet (RFC 3208 section 6.3), and the timers of all of one source. Sends nothing:
//! it says which numbers are to be asked for.
//!
//! ```text
//! BACK-OFF --- timer: ask ---> WAIT-NCF --- NCF ---> WAIT-DATA
//!    |  ^                        |                   |  (an NCF or NAK restarts the timer, a few times)
//!    |  +---- timer, a retry ----+---- timer, a retry +
//!    +--- NCF: WAIT-DATA   another's NAK: WAIT-NCF
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::timing::{Estimate, backoff_fraction};
use super::window::{Cell, Window};
use crate::clock::{Nanos, nanos};
use crate::limits::{NAK_RESTARTS_MAX, NAKS_MEASURED_MAX, TIMERS_SLACK};
use crate::random::Random;
use crate::receiver::ReceiverConfig;
use crate::serial::Sqn;

/// What is known of a missing packet.
#[derive(Debug)]
pub(super) struct Missing {
    phase: Phase,
    due: Nanos,
    /// When the timer that stands for it in the heap goes off: never later than needed to see that `due` has moved.
    timer: Nanos,
    /// When it was found missing.
    since: Nanos,
    /// When this phase began.
    began: Nanos,
    /// Timeouts while waiting for an NCF, and while waiting for data.
    ncf_retries: u8,
    data_retries: u8,
    /// How often others' NAKs and NCFs have made us wait since we asked.
    restarts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BackOff,
    WaitNcf,
    WaitData,
}

#[derive(Debug)]
pub(super) struct Recovery {
    config: ReceiverConfig,
    random: Random,
    /// One timer per missing packet; those of packets that have come since go off for nothing.
    timers: BinaryHeap<Reverse<(Nanos, u32)>>,
    /// From a NAK to its NCF: a round trip.
    confirmation: Estimate,
    /// From an NCF to the repair.
    repair: Estimate,
    /// The back-off that was drawn last, and when.
    drawn: (Nanos, Nanos),
    /// NAKs whose NCFs are awaited.
    measured: Vec<Asked>,
}

/// A NAK that went out.
#[derive(Debug)]
struct Asked {
    first: Sqn,
    count: usize,
    at: Nanos,
    /// It was not the first of its kind.
    again: bool,
}

/// What to do about a missing packet whose timer went off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask for it.
    Ask(Sqn),
    /// Nobody will repair it.
    GiveUp(Sqn),
}

impl Recovery {
    pub(super) fn new(config: &ReceiverConfig, random: Random) -> Self {
        let estimate = |initial, min, max| Estimate::new(nanos(initial), nanos(min), nanos(max));
        Self {
            confirmation: estimate(config.repeat_initial, config.repeat_min, config.repeat_max),
            repair: estimate(config.repair_initial, config.repair_min, config.repair_max),
            timers: BinaryHeap::new(),
            drawn: (Nanos::MAX, 0),
            measured: Vec::with_capacity(NAKS_MEASURED_MAX),
            random,
            config: config.clone(),
        }
    }

    /// The range of back-offs now.
    pub(super) fn backoff_range(&self) -> Nanos {
        let (min, max) = (nanos(self.config.backoff_min), nanos(self.config.backoff_max));
        let round_trip = self.confirmation.mean().unwrap_or_else(|| nanos(self.config.backoff_initial) / 2);
        (2 * round_trip).clamp(min, max.max(min))
    }

    /// The time between a NAK and its NCF on average, if any was measured.
    pub(super) fn round_trip(&self) -> Option<Nanos> {
        self.confirmation.mean()
    }

    /// What is found missing, or was waited for in vain, at the same time is asked for at the same time: in one NAK.
    fn backoff(&mut self, now: Nanos) -> Nanos {
        if self.drawn.0 != now {
            self.drawn = (now, (self.backoff_range() * backoff_fraction(self.random.fraction())) >> 16);
        }
        self.drawn.1
    }

    /// Numbers up to `end` exist and have not come.
    pub(super) fn miss(&mut self, window: &mut Window, end: Sqn, now: Nanos) {
        let due = now + self.backoff(now);
        while window.end().before(end) {
            let sqn = window.end();
            window.push(Cell::Missing(Missing {
                phase: Phase::BackOff,
                due,
                timer: due,
                since: now,
                began: now,
                ncf_retries: 0,
                data_retries: 0,
                restarts: 0,
            }));
            self.timers.push(Reverse((due, sqn.0)));
        }
        // Gaps that were closed soon leave timers behind.
        if self.timers.len() > 2 * window.len() as usize + TIMERS_SLACK {
            self.timers.retain(|Reverse((at, sqn))| {
                window.find_missing(Sqn(*sqn)).is_some_and(|missing| missing.timer == *at)
            });
        }
    }

    /// A NAK for `count` numbers from `first` on went out.
    pub(super) fn asked(&mut self, first: Sqn, count: usize, now: Nanos) {
        self.measured.retain(|nak| now < nak.at + 2 * nanos(self.config.repeat_max));
        if let Some(nak) = self.measured.iter_mut().find(|nak| (nak.first, nak.count) == (first, count)) {
            (nak.at, nak.again) = (now, true);
        } else if self.measured.len() < NAKS_MEASURED_MAX {
            self.measured.push(Asked { first, count, at: now, again: false });
        }
    }

    /// An NCF for `count` numbers from `first` on came. It says the same as the NAK that it answers (section 5.2), so
    /// ours can be told from others', and are measured.
    pub(super) fn answered(&mut self, first: Sqn, count: usize, now: Nanos) {
        if let Some(at) = self.measured.iter().position(|nak| (nak.first, nak.count) == (first, count)) {
            let nak = self.measured.swap_remove(at);
            let span = now - nak.at;
            if nak.again { self.confirmation.answered_late(span) } else { self.confirmation.sample(span) }
        }
    }

    /// An NCF for this one came, ours or another receiver's.
    pub(super) fn confirmed(&mut self, missing: &mut Missing, now: Nanos) {
        if missing.phase != Phase::WaitNcf {
            if missing.restarts >= NAK_RESTARTS_MAX {
                return;
            }
            missing.restarts += 1;
        }
        if missing.phase != Phase::WaitData {
            (missing.phase, missing.began) = (Phase::WaitData, now);
        }
        missing.due = now + self.repair.patience();
    }

    /// Another receiver's NAK.
    pub(super) fn asked_by_another(&mut self, missing: &mut Missing, now: Nanos) {
        if missing.restarts >= NAK_RESTARTS_MAX {
            return;
        }
        missing.restarts += 1;
        if missing.phase == Phase::BackOff {
            (missing.phase, missing.began) = (Phase::WaitNcf, now);
        }
        let data = missing.phase == Phase::WaitData;
        missing.due = now + if data { self.repair.patience() } else { self.confirmation.patience() };
    }

    /// It has come.
    pub(super) fn found(&mut self, missing: &Missing, now: Nanos) {
        if missing.phase == Phase::WaitData {
            let span = now - missing.began;
            if missing.data_retries == 0 { self.repair.sample(span) } else { self.repair.answered_late(span) }
        }
    }

    pub(super) fn deadline(&self) -> Option<Nanos> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The next packet whose timer has gone off, and what to do. Timers are let go off early by as much as makes NAKs
    /// lists without making receivers ask together.
    pub(super) fn due(&mut self, window: &mut Window, now: Nanos, can_ask: bool) -> Option<Due> {
        let horizon = now + self.backoff_range() / 8;
        loop {
            let Reverse((at, number)) = *self.timers.peek()?;
            if at > horizon || at > now && !can_ask {
                return None;
            }
            self.timers.pop();
            let sqn = Sqn(number);
            let Some(missing) = window.find_missing(sqn) else { continue };
            if missing.timer != at {
                continue;
            }
            let mut due = None;
            if missing.due <= horizon {
                let retry = match missing.phase {
                    Phase::BackOff => None,
                    Phase::WaitNcf => {
                        Some((&mut missing.ncf_retries, self.config.ncf_retries, &mut self.confirmation))
                    }
                    Phase::WaitData => {
                        Some((&mut missing.data_retries, self.config.data_retries, &mut self.repair))
                    }
                };
                let mut exhausted = now >= missing.since + nanos(self.config.recovery);
                if let Some((retries, limit, estimate)) = retry {
                    *retries = retries.saturating_add(1);
                    exhausted |= *retries > limit;
                    estimate.timed_out(now);
                }
                if exhausted {
                    return Some(Due::GiveUp(sqn));
                }
                (missing.due, due) = match missing.phase {
                    Phase::BackOff if can_ask => {
                        (missing.phase, missing.restarts) = (Phase::WaitNcf, 0);
                        (now + self.confirmation.patience(), Some(Due::Ask(sqn)))
                    }
                    // Section 6.2: not before an SPM has said where to. Until then the wait goes on.
                    Phase::BackOff => (now + self.confirmation.patience(), None),
                    Phase::WaitNcf | Phase::WaitData => {
                        missing.phase = Phase::BackOff;
                        (now + self.backoff(now), None)
                    }
                };
                missing.began = now;
            }
            missing.timer = missing.due;
            self.timers.push(Reverse((missing.due, number)));
            if due.is_some() {
                return due;
            }
        }
    }
}
