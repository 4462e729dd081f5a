//! When a drain is over: after the peer's end, or once its system has everything and nothing has come for a while. Does no
//! I/O and reads no clock: the link looks when it is told to, and says what it saw.
//!
//! ```text
//! writing   parts wait that the system does not have
//! looking   all is written, and the peer was told that this was the end. It answers with its own end, or never: it may
//!           be stopped, or have no mind to close. So the link looks from time to time, in pauses that double, whether
//!           the peer's system has acknowledged everything
//! quiet     it has, the end as well, so at least a round trip has passed; when nothing arrives until the next look
//!           either, nothing is on its way
//! ```
//!
//! Why not close as soon as everything is acknowledged: to close over bytes that nobody has read, or that are still to
//! come, sends a reset (RFC 1122 section 4.2.2.13). Linux lets the peer read what it had acknowledged before that, other
//! systems throw it away (RFC 9112 section 9.6 has the story).
//!
//! A Unix-domain stream has no way between, and is never reset before everything that was written can be read. But the peer
//! sees at once that this end is closed, and libzmq then drops what it has not read, if it was waiting for room at that
//! moment. So acknowledged means read there, and nothing else is waited for.

use std::mem;
use std::time::Duration;

use crate::limits::{DRAIN_LOOK_FIRST, DRAIN_LOOK_MAX, DRAIN_QUIET_MIN};

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain {
    /// See [`crate::socket::Connection::must_be_quiet`].
    must_be_quiet: bool,
    /// The end of writing was said.
    pub(crate) shut: bool,
    /// The peer's end was read.
    pub(crate) ended: bool,
    /// Something arrived since the last look.
    heard: bool,
    /// The last look found everything acknowledged and nothing arriving.
    quiet: bool,
    /// It is time for a look.
    due: bool,
    /// The next look has been asked for.
    asked: bool,
    /// From the last look to the next.
    pause: Duration,
}

impl Drain {
    /// A drain that begins.
    pub(crate) const fn new(must_be_quiet: bool) -> Self {
        Self {
            must_be_quiet,
            shut: false,
            ended: false,
            heard: false,
            quiet: false,
            due: false,
            asked: false,
            pause: DRAIN_LOOK_FIRST,
        }
    }

    /// Both sides are at their end.
    pub(crate) fn is_over(&self) -> bool {
        self.shut && self.ended
    }

    /// Something arrived and was dropped.
    pub(crate) fn heard(&mut self) {
        self.heard = true;
    }

    /// Whether to ask for a look after [`Drain::pause`]; once for each.
    pub(crate) fn asks_for_look(&mut self) -> bool {
        self.shut && !self.ended && !mem::replace(&mut self.asked, true)
    }

    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// The pause is over: look, right after the next read.
    pub(crate) fn set_due(&mut self) {
        self.due = true;
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// What a look came to, after a read. Returns whether the drain is over.
    pub(crate) fn look(&mut self, all_acknowledged: bool) -> bool {
        if all_acknowledged && !self.must_be_quiet {
            return true;
        }
        let quiet = all_acknowledged && !mem::take(&mut self.heard);
        let was_quiet = mem::replace(&mut self.quiet, quiet);
        (self.due, self.asked) = (false, false);
        self.pause = (self.pause * 2).min(DRAIN_LOOK_MAX);
        if quiet {
            self.pause = self.pause.max(DRAIN_QUIET_MIN);
        }
        quiet && was_quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until the drain is over, with what `see` says of each moment, and returns how long that took.
    fn drained(mut see: impl FnMut(Duration, &mut Drain) -> bool) -> Option<Duration> {
        let (mut drain, mut now) = (Drain::new(true), Duration::ZERO);
        drain.shut = true;
        while now < Duration::from_secs(60) {
            assert!(drain.asks_for_look() && !drain.asks_for_look(), "one look at a time");
            now += drain.pause();
            assert!(drain.pause() <= DRAIN_LOOK_MAX);
            drain.set_due();
            let all_acknowledged = see(now, &mut drain);
            if drain.look(all_acknowledged) {
                return Some(now);
            }
        }
        None
    }

    #[test]
    fn an_idle_link_takes_about_as_long_as_its_round_trip() {
        assert_eq!(drained(|_, _| true), Some(DRAIN_LOOK_FIRST + DRAIN_QUIET_MIN));
        for round_trip in [1, 10, 40, 100, 300].map(Duration::from_millis) {
            let took = drained(|now, _| now >= round_trip).unwrap();
            assert!(took >= round_trip + DRAIN_QUIET_MIN, "{took:?} for {round_trip:?}");
            assert!(
                took <= (round_trip * 4).max(round_trip + 2 * DRAIN_LOOK_MAX),
                "{took:?} for {round_trip:?}"
            );
        }
    }

    #[test]
    fn what_arrives_puts_the_end_off_and_so_does_what_is_not_acknowledged() {
        let second = Duration::from_secs(1);
        let took = drained(|now, drain| {
            if now < second {
                drain.heard();
            }
            true
        });
        assert!(took.is_some_and(|took| took > second && took <= second + 3 * DRAIN_LOOK_MAX), "{took:?}");
        // Now and then is enough.
        let mut looks = 0;
        let took = drained(|_, drain| {
            looks += 1;
            if looks % 2 == 0 {
                drain.heard();
            }
            true
        });
        assert_eq!(took, None);
        assert_eq!(drained(|_, _| false), None);
    }

    #[test]
    fn the_peer_s_end_needs_no_look() {
        let mut drain = Drain::new(true);
        assert!(!drain.asks_for_look(), "there is more to write");
        drain.ended = true;
        assert!(!drain.is_over());
        drain.shut = true;
        assert!(drain.is_over() && !drain.asks_for_look());
    }

    #[test]
    fn where_nothing_is_reset_all_may_go_on_until_everything_is_read() {
        let mut drain = Drain::new(false);
        drain.shut = true;
        for all_read in [false, false, true] {
            assert!(drain.asks_for_look());
            drain.set_due();
            drain.heard();
            assert_eq!(drain.look(all_read), all_read);
        }
    }
}
