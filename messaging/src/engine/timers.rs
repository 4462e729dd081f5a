//! When the engine has something to do though nothing happens: lingers that end, pauses before a reconnect, sessions' deadlines.
//! Sleeps nowhere.

use std::cmp::Reverse;
use std::time::Instant;

use transport_core::{Close, SlabKey};

use super::conduit::Conduit;
use super::core::Core;
use crate::limits::TIMERS_KEPT;
use crate::session::Session;
use crate::socket::monitor::EventKind;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Linger(SlabKey),
    Reconnect(SlabKey),
    Session(SlabKey),
}

impl Core {
    pub(super) fn schedule(&mut self, key: SlabKey) {
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        let Some(due) = conduit.session.as_ref().and_then(Session::poll_timeout) else { return };
        // One timer per conduit, corrected when it fires: heartbeats move their deadline with every batch.
        if conduit.timer.is_none_or(|timer| due < timer) {
            conduit.timer = Some(due);
            self.add_timer(due, Timer::Session(key));
        }
    }

    pub(super) fn add_timer(&mut self, due: Instant, timer: Timer) {
        self.timers.push(Reverse((due, timer)));
        // Stale entries must not outnumber the living: peers come and go faster than a handshake times out.
        if self.timers.len() > TIMERS_KEPT + 3 * (self.conduits.len() + self.endpoints.len()) {
            let (conduits, endpoints) = (&self.conduits, &self.endpoints);
            let ends_at = |conduit: &Conduit| conduit.closing.and_then(|closing| closing.until);
            self.timers.retain(|Reverse((due, timer))| match *timer {
                Timer::Linger(key) => {
                    conduits.find(key).is_some_and(|conduit| ends_at(conduit) == Some(*due))
                }
                Timer::Session(key) => conduits.find(key).is_some_and(|conduit| conduit.timer == Some(*due)),
                Timer::Reconnect(key) => endpoints.find(key).is_some(),
            });
        }
    }

    /// Does what is due. Whether anything was.
    pub(super) fn run_timers(&mut self, now: Instant) -> bool {
        let mut ran = false;
        while let Some(Reverse((due, timer))) = self.timers.peek().copied() {
            if due > now {
                break;
            }
            self.timers.pop();
            ran = true;
            match timer {
                Timer::Linger(key) => {
                    let late = |conduit: &Conduit| {
                        conduit.closing.is_some_and(|closing| closing.until.is_some_and(|until| until <= now))
                    };
                    if self.conduits.find(key).is_some_and(late) {
                        self.abort_conduit(key);
                    }
                }
                Timer::Reconnect(key) => {
                    if let Err(error) = self.start_open(key, None) {
                        if let Some(state) = self.endpoints.find(key) {
                            state.socket.emit(state.endpoint.as_str(), || EventKind::ConnectFailed(error));
                        }
                        self.retry(key, now);
                    }
                }
                Timer::Session(key) => self.session_timeout(key, due, now),
            }
        }
        ran
    }

    fn session_timeout(&mut self, key: SlabKey, due: Instant, now: Instant) {
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        if conduit.timer == Some(due) {
            conduit.timer = None;
        }
        let Some(session) = &mut conduit.session else { return };
        if session.poll_timeout().is_some_and(|due| due <= now) {
            // Each reprieve is a timer of its own, and each timer runs in a turn that has polled the drivers before.
            session.reprieve(now);
            if let Err(reason) = session.handle_timeout(now)
                && let Some((driver, link)) = conduit.link
            {
                conduit.reason = Some(reason);
                self.drivers[driver].driver.close_link(link, Close::Abort);
                return;
            }
        }
        self.pump(key, now);
        self.schedule(key);
    }

    /// When a turn is due even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((due, _))| *due);
        let drivers =
            self.drivers.iter().filter(|slot| slot.users > 0).filter_map(|slot| slot.driver.deadline());
        drivers.chain(timer).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn peers_that_come_and_go_leave_no_timers() {
        let (mut core, later) = (Core::new(1), Instant::now() + Duration::from_secs(30));
        for gone in 1..10_000u64 {
            let key = SlabKey::from_u64(gone << 32);
            for timer in [Timer::Session(key), Timer::Linger(key), Timer::Reconnect(key)] {
                core.add_timer(later, timer);
                assert!(core.timers.len() <= TIMERS_KEPT, "{}", core.timers.len());
            }
        }
    }
}
