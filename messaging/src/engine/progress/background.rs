//! The background thread: takes turns while no application thread does. Decides nothing for threads that wait.
//!
//! The background's states, and what moves it between them:
//!
//! ```text
//!   EPOLL  on duty. A thread that begins to lead kicks it once per change of regime --> TICK
//!   TICK   an application drives; looks in every millisecond or four. Nobody drove since --> EPOLL;
//!          a leader is there but sleeps itself, for three ticks --> DEEP
//!   DEEP   the leader does all waiting. It wakes the background when it leaves --> TICK
//!   GUARD  a burst was queued; looks after it every 50 to 200 us, until nothing came for six looks
//! ```

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::event::epoll;
use rustix::thread::{MembarrierCommand, membarrier};
use transport_core::{Armed, Deferral};

use super::super::core::Core;
use super::{AWAKE, DEEPLY, EPOLL, OWN_EVENT, Shard, TICKING, locked, timespec};
use crate::limits::{BACKGROUND_TURNS, DEEP, GUARD_IDLE_TICKS, GUARD_TICK, TICK, TICKS_TO_DEEP};

impl Shard {
    pub(super) fn is_driven(&self) -> bool {
        self.leader.load(Ordering::SeqCst)
    }

    pub(super) fn run_background(self: Arc<Self>) {
        let (mut active, mut still) = (0u32, 0u32);
        while !self.stop.load(Ordering::SeqCst) {
            if self.guard.load(Ordering::SeqCst) {
                self.run_guard();
                continue;
            }
            if self.is_driven() {
                let epoch = self.epoch.load(Ordering::SeqCst);
                self.background.store(TICKING, Ordering::SeqCst);
                if still >= TICKS_TO_DEEP {
                    self.background.store(DEEPLY, Ordering::SeqCst);
                    if self.is_driven() && !self.guard.load(Ordering::SeqCst) {
                        std::thread::park_timeout(DEEP);
                    }
                } else if !self.guard.load(Ordering::SeqCst) {
                    std::thread::park_timeout(if active > 16 { TICK.1 } else { TICK.0 });
                }
                self.background.store(AWAKE, Ordering::SeqCst);
                if self.epoch.load(Ordering::SeqCst) == epoch {
                    (active, still) = (0, still + 1);
                } else {
                    (active, still) = (active + 1, 0);
                }
                continue;
            }
            if self.sent_away.swap(false, Ordering::SeqCst) {
                active = active.max(1);
            }
            if active > 0 && !self.handover.swap(false, Ordering::SeqCst) {
                // Between two calls of a driving application: look again after a tick before taking over.
                let epoch = self.epoch.load(Ordering::SeqCst);
                self.background.store(TICKING, Ordering::SeqCst);
                std::thread::park_timeout(if active > 16 { TICK.1 } else { TICK.0 });
                self.background.store(AWAKE, Ordering::SeqCst);
                if self.epoch.load(Ordering::SeqCst) != epoch && !self.handover.load(Ordering::SeqCst) {
                    active += 1;
                    continue;
                }
            }
            (active, still) = (0, 0);
            self.handover.store(false, Ordering::SeqCst);
            self.be_on_duty();
        }
        let (done, condvar) = &self.stopped;
        *locked(done) = true;
        condvar.notify_all();
    }

    /// Takes turns until nothing moves, and sleeps in epoll until something does.
    pub(super) fn be_on_duty(&self) {
        let mut due = None;
        let armed = {
            let _deferral = Deferral::begin();
            let mut core = locked(&self.core);
            let mut moved = true;
            for _ in 0..BACKGROUND_TURNS {
                moved = self.turn(&mut core, Instant::now());
                if !moved || self.is_driven() {
                    break;
                }
            }
            let mut armed = Armed::Busy;
            if !moved {
                // Under the lock, so that the next poll by anyone else sees that somebody sleeps. And before the drivers
                // are asked, whose helpers wake without the lock: either they see it, or their wake-up is seen here.
                self.background.store(EPOLL, Ordering::SeqCst);
                fence(Ordering::SeqCst);
                armed = core.arm();
            }
            if armed == Armed::Busy {
                self.background.store(AWAKE, Ordering::SeqCst);
            }
            due = core.deadline().or(due);
            core.announced = due;
            self.unlock(core);
            armed
        };
        if armed == Armed::Busy {
            return;
        }
        let called = self.is_driven()
            || self.sent_away.load(Ordering::SeqCst)
            || self.guard.load(Ordering::SeqCst)
            || self.dirty_full.load(Ordering::SeqCst)
            || self.stop.load(Ordering::SeqCst);
        if !called {
            let timeout = due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
            let mut events = [const { std::mem::MaybeUninit::uninit() }; 4];
            let woken = epoll::wait(&self.background_epoll, &mut events[..], timeout.as_ref());
            if woken.is_ok_and(|(events, _)| events.iter().any(|event| event.data.u64() == OWN_EVENT)) {
                self.background_event.clear();
            }
        }
        self.background.store(AWAKE, Ordering::SeqCst);
    }

    /// Looks after a burst whose sender may leave at any moment.
    pub(super) fn run_guard(&self) {
        let (mut idle, mut looks) = (0, 0u32);
        self.background.store(TICKING, Ordering::SeqCst);
        if self.quiet {
            self.with_core(Core::begin_guard);
        }
        while idle < GUARD_IDLE_TICKS && !self.stop.load(Ordering::SeqCst) {
            let found = {
                let _deferral = Deferral::begin();
                let mut core = locked(&self.core);
                let now = Instant::now();
                core.guard_look(now);
                let found = core.take_guard_found() | self.turn(&mut core, now);
                self.unlock(core);
                found
            };
            idle = if found { 0 } else { idle + 1 };
            looks += 1;
            std::thread::park_timeout(if looks > 16 { GUARD_TICK.1 } else { GUARD_TICK.0 });
        }
        self.guard.store(false, Ordering::SeqCst);
        if self.quiet {
            self.with_core(Core::end_guard);
            // From here on every sender has either seen the end of the guard, or its message is seen below.
            let _ = membarrier(MembarrierCommand::PrivateExpedited);
            self.with_core(|core| core.leave_guard(Instant::now()));
        }
        self.background.store(AWAKE, Ordering::SeqCst);
    }

    /// Ends the background thread and waits for it. What still lingers is cut off.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.background_event.set();
        if let Some(thread) = self.background_thread.get() {
            thread.unpark();
            if thread.id() == std::thread::current().id() {
                return;
            }
        }
        let (done, condvar) = &self.stopped;
        let mut done = locked(done);
        while !*done {
            done = condvar.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
