//! Who takes the turn: the thread that waits, the thread that sends, or the background thread. Moves no messages.
//!
//! ```text
//!   application waits          leads: spins on turn(), then arms and sleeps in the leader's epoll
//!   another one waits too      parks; the leader's turn delivers to it, or hands the lead over when it leaves
//!   application sends          takes the turn for its own output when nobody has it, else leaves it to the holder
//!   application computes       the background sleeps in its own epoll and takes every turn
//! ```

mod background;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::thread::{MembarrierCommand, membarrier};
use transport_core::{Armed, Deferral, DriverEnv, FramePool, OpenError, SlabKey, Transport, Wake};

use super::core::Core;
use super::spin::Spin;
use super::wait::{Event, Waiter, Waiters};
use crate::error::Error;
use crate::limits::{FEEDING_TURNS, LAST_LOOK_TURNS, LISTS};
use crate::socket::shared::Dismissal;

/// Epoll data of a shard's own events, and of its drivers' descriptors.
const OWN_EVENT: u64 = 0;
const DRIVER: u64 = 1;

const NO_DESCRIPTOR: &str = "no epoll or eventfd descriptor; raise the limit of open files (ulimit -n)";
const NO_THREAD: &str = "no background thread; raise the limit of threads (ulimit -u)";

const EPOLL: u32 = 0;
const AWAKE: u32 = 1;
const TICKING: u32 = 2;
const DEEPLY: u32 = 3;

/// One engine shard. Thread-safe; every method may be called from any thread that holds no lock of fabriq's.
#[derive(Debug)]
pub(crate) struct Shard {
    core: Mutex<Core>,
    dirty: Mutex<Vec<SlabKey>>,
    dirty_full: AtomicBool,
    dismissed: Mutex<Vec<(SlabKey, Dismissal)>>,
    spin: Mutex<Spin>,
    /// See [`Spin::pause_max`].
    pause_max: Duration,
    leader: AtomicBool,
    leader_parked: AtomicBool,
    leader_event: Arc<Event>,
    leader_epoll: rustix::fd::OwnedFd,
    followers: Mutex<Vec<Arc<Waiter>>>,
    follower_count: AtomicUsize,
    /// An async task has begun to drive in turns of its own: the background is to look in after a tick, and to stay away
    /// while such turns go on. Not a count of such tasks: one that is not polled any more must not keep it away.
    sent_away: AtomicBool,
    /// Counts turns taken by application threads; a background that sees it move stays away.
    epoch: AtomicU64,
    background: AtomicU32,
    background_event: Event,
    background_epoll: rustix::fd::OwnedFd,
    background_thread: OnceLock<Thread>,
    guard: AtomicBool,
    /// Nobody will drive for a while: the background is to be on duty at once, not a tick later.
    handover: AtomicBool,
    /// Whether senders may leave the fence to the guard's membarrier.
    quiet: bool,
    stop: AtomicBool,
    stopped: (Mutex<bool>, std::sync::Condvar),
    quiet_waiters: Waiters,
    context: u64,
    receive_pool: FramePool,
    this: Weak<Self>,
}

/// What a blocked call waits for.
pub(crate) struct Wait<'a> {
    /// Whose lists to wait on.
    pub(crate) targets: &'a [&'a dyn Target],
    pub(crate) deadline: Option<Instant>,
    /// Other descriptors that end the wait, for polls that mix sockets and files.
    pub(crate) fds: &'a [PollFd<'a>],
}

/// Something a thread can wait on.
pub(crate) trait Target {
    fn waiters(&self) -> &Waiters;
    /// Whether the engine has said something since the last attempt.
    fn has_news(&self) -> bool;
}

/// For those who wait until everything has been sent.
impl Target for Shard {
    fn waiters(&self) -> &Waiters {
        &self.quiet_waiters
    }
    fn has_news(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct ShardWake {
    shard: Weak<Shard>,
    woken: Arc<AtomicBool>,
}

impl Wake for ShardWake {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(shard) = self.shard.upgrade() {
            shard.kick();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// A shard and its background thread.
    pub(crate) fn start(context: u64, spin: Duration, receive_pool: FramePool) -> Result<Arc<Self>, Error> {
        let refuse = |error: rustix::io::Errno| Error::System(NO_DESCRIPTOR, error.raw_os_error());
        let leader_event = Arc::new(Event::new().map_err(refuse)?);
        let background_event = Event::new().map_err(refuse)?;
        let leader_epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(refuse)?;
        let background_epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(refuse)?;
        let data = epoll::EventData::new_u64(OWN_EVENT);
        epoll::add(&leader_epoll, leader_event.as_fd(), data, epoll::EventFlags::IN).map_err(refuse)?;
        epoll::add(&background_epoll, background_event.as_fd(), data, epoll::EventFlags::IN)
            .map_err(refuse)?;
        let quiet = membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok();
        let seed = random_seed();
        let spin = Spin::new(spin);
        let shard = Arc::new_cyclic(|this| Self {
            core: Mutex::new(Core::new(seed)),
            dirty: Mutex::new(Vec::with_capacity(LISTS)),
            dirty_full: AtomicBool::new(false),
            dismissed: Mutex::default(),
            pause_max: spin.pause_max(),
            spin: Mutex::new(spin),
            leader: AtomicBool::new(false),
            leader_parked: AtomicBool::new(false),
            leader_event,
            leader_epoll,
            followers: Mutex::default(),
            follower_count: AtomicUsize::new(0),
            sent_away: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            background: AtomicU32::new(AWAKE),
            background_event,
            background_epoll,
            background_thread: OnceLock::new(),
            guard: AtomicBool::new(false),
            handover: AtomicBool::new(false),
            quiet,
            stop: AtomicBool::new(false),
            stopped: (Mutex::new(false), std::sync::Condvar::new()),
            quiet_waiters: Waiters::default(),
            context,
            receive_pool,
            this: this.clone(),
        });
        let own = shard.clone();
        let thread = std::thread::Builder::new()
            .name(format!("fabriq-{context}"))
            .spawn(move || own.run_background())
            .map_err(|error| Error::System(NO_THREAD, error.raw_os_error().unwrap_or(0)))?;
        let _ = shard.background_thread.set(thread.thread().clone());
        Ok(shard)
    }

    /// A number that no other context is likely to have: where a ROUTER starts its routing ids.
    pub(crate) fn seed(&self) -> u32 {
        random_seed() as u32
    }

    // ---- the lock ----

    /// Runs `f` under the shard's lock. Free functions and wakers run after it.
    pub(crate) fn with_core<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let deferral = Deferral::begin();
        let mut core = locked(&self.core);
        let result = f(&mut core);
        self.unlock(core);
        drop(deferral);
        result
    }

    fn try_core(&self) -> Option<MutexGuard<'_, Core>> {
        match self.core.try_lock() {
            Ok(core) => Some(core),
            Err(TryLockError::Poisoned(core)) => Some(core.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Lets go of the lock; sees to what others left for its holder, and tells sleepers of an earlier deadline and of
    /// what the holder's polls have left to do: the descriptors they sleep on need not say that again.
    fn unlock<'a>(&'a self, mut core: MutexGuard<'a, Core>) {
        loop {
            let due = core.deadline();
            let sooner = due.is_some_and(|due| core.announced.is_none_or(|announced| due < announced));
            if sooner {
                core.announced = due;
            }
            let left = !core.is_armed() && self.somebody_sleeps() && core.arm() == Armed::Busy;
            if core.is_quiet() {
                self.quiet_waiters.wake_all();
            }
            drop(core);
            if sooner || left {
                self.kick();
            }
            // Whoever failed to get the lock has set the flag before trying; see `flush_now`.
            fence(Ordering::SeqCst);
            if !self.dirty_full.load(Ordering::Relaxed) {
                return;
            }
            match self.try_core() {
                Some(again) => core = again,
                None => return,
            }
            let now = Instant::now();
            self.attend_dirty(&mut core, now);
            core.flush_out(now);
            self.feed(&mut core);
        }
    }

    /// Whether a thread sleeps on the drivers' descriptors.
    #[inline]
    fn somebody_sleeps(&self) -> bool {
        self.leader_parked.load(Ordering::SeqCst) || self.background.load(Ordering::SeqCst) == EPOLL
    }

    /// Takes the turns that make room for what a flush has left, or has somebody else take them when it goes on.
    fn feed(&self, core: &mut Core) {
        for _ in 0..FEEDING_TURNS {
            if !core.is_starved() {
                return;
            }
            self.turn(core, Instant::now());
        }
        self.kick();
    }

    /// Says that a conduit has something to send. The caller sees to it that somebody takes a turn.
    pub(crate) fn mark_dirty(&self, conduit: SlabKey) {
        let mut dirty = locked(&self.dirty);
        dirty.push(conduit);
        self.dirty_full.store(true, Ordering::Release);
    }

    /// Says that a conduit's pipe has room to receive again.
    #[cold]
    pub(crate) fn has_room(&self, conduit: SlabKey) {
        self.mark_dirty(conduit);
        fence(Ordering::SeqCst);
        // A thread that drives comes by itself; who sleeps must be told, since the driver has told all it had to.
        if self.leader_parked.load(Ordering::Relaxed) {
            self.leader_event.set();
        } else if self.background.load(Ordering::Relaxed) == EPOLL {
            self.background_event.set();
        }
    }

    /// A pattern parts with a peer; called under the socket's lock, so it is only noted.
    pub(crate) fn dismiss(&self, conduit: SlabKey, how: Dismissal) {
        locked(&self.dismissed).push((conduit, how));
        self.mark_dirty(conduit);
        self.kick();
    }

    fn attend_dirty(&self, core: &mut Core, now: Instant) -> bool {
        if !self.dirty_full.load(Ordering::Acquire) {
            return false;
        }
        // The two lists take turns, so that both keep their memory.
        let mut conduits = std::mem::take(&mut core.attending);
        let mut dirty = locked(&self.dirty);
        self.dirty_full.store(false, Ordering::Relaxed);
        std::mem::swap(&mut *dirty, &mut conduits);
        drop(dirty);
        for conduit in conduits.drain(..) {
            core.attend(conduit, now);
        }
        core.attending = conduits;
        let dismissed = std::mem::take(&mut *locked(&self.dismissed));
        for (conduit, how) in dismissed {
            match how {
                Dismissal::Reject => core.reject(conduit),
                Dismissal::Finish => core.finish(conduit, now),
            }
        }
        true
    }

    fn turn(&self, core: &mut Core, now: Instant) -> bool {
        let attended = self.attend_dirty(core, now);
        core.turn(now) | attended
    }

    // ---- drivers ----

    /// The driver for a scheme, made on first use.
    pub(crate) fn driver_for(
        &self,
        scheme: &str,
        transport: &Arc<dyn Transport>,
    ) -> Result<usize, OpenError> {
        self.with_core(|core| {
            if let Some(driver) = core.driver_for(scheme) {
                return Ok(driver);
            }
            let woken = Arc::new(AtomicBool::new(false));
            let driver = transport.driver(DriverEnv {
                receive_pool: self.receive_pool.clone(),
                wake: Arc::new(ShardWake { shard: self.this.clone(), woken: woken.clone() }),
                context: self.context,
            })?;
            if let Some(fd) = driver.wake_fd() {
                for epoll in [&self.leader_epoll, &self.background_epoll] {
                    // Cannot fail for a fresh descriptor but for want of memory, and then the deadlines still work.
                    let _ = epoll::add(epoll, fd, epoll::EventData::new_u64(DRIVER), epoll::EventFlags::IN);
                }
            }
            Ok(core.add_driver(driver, transport.schemes(), woken))
        })
    }

    // ---- sending ----

    /// Whether a burst is being looked after.
    #[inline]
    pub(crate) fn is_guarding(&self) -> bool {
        self.guard.load(Ordering::Relaxed)
    }

    /// Sends what is queued from this thread, or leaves it to the thread that has the lock at this moment. Returns to how
    /// many links it wrote.
    pub(crate) fn flush_now(&self) -> u32 {
        let _deferral = Deferral::begin();
        // The dirty flag is up already; this fence and the one in `unlock` make sure that either we get the lock or
        // its holder sees the flag after letting go.
        fence(Ordering::SeqCst);
        let Some(mut core) = self.try_core() else { return 0 };
        let now = Instant::now();
        core.take_links_written();
        self.attend_dirty(&mut core, now);
        core.flush_out(now);
        self.feed(&mut core);
        let links = core.take_links_written();
        self.unlock(core);
        links
    }

    /// Asks the background to look after what is queued, since its sender may not come back.
    pub(crate) fn call_guard(&self) {
        if !self.guard.swap(true, Ordering::SeqCst) {
            self.rouse_background();
        }
    }

    /// Puts the background on duty at once, unless a leader is. For tasks that go to sleep.
    pub(crate) fn hand_over(&self) {
        if self.background.load(Ordering::SeqCst) != EPOLL && !self.is_driven() {
            self.handover.store(true, Ordering::SeqCst);
            self.rouse_background();
        }
    }

    fn rouse_background(&self) {
        if self.background.load(Ordering::SeqCst) == EPOLL {
            self.background_event.set();
        } else if let Some(thread) = self.background_thread.get() {
            thread.unpark();
        }
    }

    /// Makes whoever sleeps for this shard look again.
    pub(crate) fn kick(&self) {
        fence(Ordering::SeqCst);
        if self.leader_parked.load(Ordering::Relaxed) {
            self.leader_event.set();
        } else {
            self.rouse_background();
        }
    }

    // ---- waiting ----

    /// Blocks until `attempt` gives something. `attempt` may lock sockets; it runs with no lock held.
    pub(crate) fn wait<R>(
        &self,
        wait: &Wait<'_>,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Result<R, Error> {
        let mut waiter = None;
        let result = self.wait_with(wait, &mut attempt, &mut waiter);
        if let Some(waiter) = waiter {
            waiter.keep();
        }
        result
    }

    /// This thread's waiter, made when it first has to sleep.
    fn waiter<'a>(
        &self,
        wait: &Wait<'_>,
        waiter: &'a mut Option<Arc<Waiter>>,
    ) -> Result<&'a Arc<Waiter>, Error> {
        if waiter.is_none() {
            *waiter = Some(if wait.fds.is_empty() {
                Waiter::of_shard(&self.leader_event)
            } else {
                Waiter::with_event().map_err(|error| Error::System(NO_DESCRIPTOR, error.raw_os_error()))?
            });
        }
        waiter.as_ref().ok_or(Error::Again)
    }

    fn wait_with<R>(
        &self,
        wait: &Wait<'_>,
        attempt: &mut impl FnMut() -> Option<R>,
        waiter: &mut Option<Arc<Waiter>>,
    ) -> Result<R, Error> {
        loop {
            if let Some(result) = attempt() {
                if waiter.is_some() {
                    // It followed, and may have been woken to lead.
                    self.pass_on();
                }
                return Ok(result);
            }
            // What this thread has just made room for, or queued, may be what it waits for.
            let moved = waiter.is_some() && self.drive(Instant::now());
            if wait.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.pass_on();
                return attempt().ok_or(Error::Again);
            }
            if moved {
                continue;
            }
            if !self.leader.swap(true, Ordering::SeqCst) {
                let result = self.lead(wait, attempt, waiter);
                self.stop_leading();
                return result;
            }
            let waiter = self.waiter(wait, waiter)?;
            match self.follow(wait, attempt, waiter) {
                Ok(None) => {}
                Ok(Some(result)) => {
                    self.pass_on();
                    return Ok(result);
                }
                Err(error) => {
                    self.pass_on();
                    return Err(error);
                }
            }
        }
    }

    /// Wakes a follower to lead, if nobody does: the one that was to lead got what it waited for.
    fn pass_on(&self) {
        if self.follower_count.load(Ordering::SeqCst) > 0 && !self.leader.load(Ordering::SeqCst) {
            let next = locked(&self.followers).pop();
            if let Some(next) = next {
                next.wake();
            }
        }
    }

    fn lead<R>(
        &self,
        wait: &Wait<'_>,
        attempt: &mut impl FnMut() -> Option<R>,
        waiter: &mut Option<Arc<Waiter>>,
    ) -> Result<R, Error> {
        self.send_background_away();
        let start = Instant::now();
        let budget = locked(&self.spin).budget();
        let mut last = start;
        let mut lost = false;
        let mut turns = 0u32;
        // What this thread has queued may be what its answer waits for.
        self.look_guarded();
        loop {
            let now = Instant::now();
            let moved = self.drive(now);
            turns += 1;
            if (moved || wait.targets.iter().any(|target| target.has_news()))
                && let Some(result) = attempt()
            {
                if budget > Duration::ZERO && !lost {
                    locked(&self.spin).hit(now.duration_since(start));
                }
                return Ok(result);
            }
            if !lost && now.duration_since(last) > self.pause_max && turns > 1 {
                lost = true;
                locked(&self.spin).core_lost();
            }
            last = now;
            if wait.deadline.is_some_and(|deadline| now >= deadline) {
                return Err(Error::Again);
            }
            if moved {
                continue;
            }
            if lost || now.duration_since(start) >= budget {
                break;
            }
            std::hint::spin_loop();
        }
        if budget > Duration::ZERO && !lost {
            locked(&self.spin).miss();
        }
        let waiter = self.waiter(wait, waiter)?;
        loop {
            // Before it is on a list: a wake takes it off, and one that were forgotten here would be the last.
            waiter.awake();
            for target in wait.targets {
                target.waiters().add_thread(waiter);
            }
            let slept = self.sleep_as_leader(wait, attempt, waiter);
            for target in wait.targets {
                target.waiters().remove_thread(waiter);
            }
            match slept {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            self.drive(Instant::now());
            if let Some(result) = attempt() {
                return Ok(result);
            }
            if wait.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::Again);
            }
        }
    }

    /// Takes one turn if nobody else has the lock. Counts as a sign of life for the background.
    pub(crate) fn drive(&self, now: Instant) -> bool {
        let _deferral = Deferral::begin();
        let Some(mut core) = self.try_core() else { return false };
        let moved = self.turn(&mut core, now);
        self.unlock(core);
        moved
    }

    /// Sends what was published quietly, which the guard alone knows of and comes to later, if nobody else has the lock.
    pub(crate) fn look_guarded(&self) {
        if !self.is_guarding() {
            return;
        }
        let _deferral = Deferral::begin();
        let Some(mut core) = self.try_core() else { return };
        if core.is_guarding() {
            core.guard_look(Instant::now());
        }
        self.unlock(core);
    }

    /// The last look of a call that may not wait: takes turns until `attempt` gives something or nothing moves any more.
    /// Unlike `drive` it waits for the lock, whose holder may have in hand what the caller is about to deny, and lets
    /// go of it after a bounded number of turns.
    pub(crate) fn look_once_more<R>(&self, mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
        for _ in 0..LAST_LOOK_TURNS {
            let moved = self.with_core(|core| {
                let now = Instant::now();
                // What was published quietly, by this thread for one, is known to the guard alone.
                let found = core.is_guarding() && core.guard_look(now);
                self.turn(core, now) | found
            });
            if let Some(result) = attempt() {
                return Some(result);
            }
            if !moved {
                break;
            }
        }
        None
    }

    fn sleep_as_leader<R>(
        &self,
        wait: &Wait<'_>,
        attempt: &mut impl FnMut() -> Option<R>,
        waiter: &Arc<Waiter>,
    ) -> Result<Option<R>, Error> {
        if !waiter.begin_sleep() {
            return Ok(None);
        }
        self.leader_parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut due = wait.deadline;
        let armed = self.with_core(|core| {
            let deadline = core.deadline();
            core.announced = deadline.or(due);
            due = due.into_iter().chain(deadline).min();
            core.arm()
        });
        let result = attempt();
        let mut interrupted = false;
        if result.is_none() && armed == Armed::Ready && !self.dirty_full.load(Ordering::SeqCst) {
            interrupted = self.sleep_on(wait, waiter, due) == Err(rustix::io::Errno::INTR);
        }
        self.leader_parked.store(false, Ordering::SeqCst);
        waiter.awake();
        match result {
            None if interrupted => Err(Error::Interrupted),
            result => Ok(result),
        }
    }

    fn sleep_on(&self, wait: &Wait<'_>, waiter: &Waiter, due: Option<Instant>) -> rustix::io::Result<()> {
        if wait.fds.is_empty() {
            let timeout = due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
            let mut events = [const { std::mem::MaybeUninit::uninit() }; 4];
            let (events, _) = epoll::wait(&self.leader_epoll, &mut events[..], timeout.as_ref())?;
            // An event that is set after this wait ends the next one early, which costs less than a read each time.
            if events.iter().any(|event| event.data.u64() == OWN_EVENT) {
                self.leader_event.clear();
            }
            Ok(())
        } else {
            sleep_on_descriptors(wait, waiter, Some(PollFd::new(&self.leader_epoll, PollFlags::IN)), due)?;
            self.leader_event.clear();
            Ok(())
        }
    }

    fn stop_leading(&self) {
        self.leader.store(false, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // The next in line leads; until it runs, the background's tick is the net below.
        self.pass_on();
        if self.background.load(Ordering::SeqCst) == DEEPLY
            && self.background.compare_exchange(DEEPLY, AWAKE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            && let Some(thread) = self.background_thread.get()
        {
            thread.unpark();
        }
    }

    fn follow<R>(
        &self,
        wait: &Wait<'_>,
        attempt: &mut impl FnMut() -> Option<R>,
        waiter: &Arc<Waiter>,
    ) -> Result<Option<R>, Error> {
        waiter.awake();
        {
            let mut followers = locked(&self.followers);
            followers.push(waiter.clone());
            self.follower_count.store(followers.len(), Ordering::SeqCst);
        }
        for target in wait.targets {
            target.waiters().add_thread(waiter);
        }
        // The one that drives does not know of what this thread has published quietly.
        self.look_guarded();
        let result = attempt();
        let mut interrupted = false;
        if result.is_none() && self.leader.load(Ordering::SeqCst) {
            if wait.fds.is_empty() {
                interrupted = waiter.park(wait.deadline).is_err();
            } else if waiter.begin_sleep() {
                interrupted =
                    sleep_on_descriptors(wait, waiter, None, wait.deadline) == Err(rustix::io::Errno::INTR);
                waiter.awake();
            }
        }
        for target in wait.targets {
            target.waiters().remove_thread(waiter);
        }
        let mut followers = locked(&self.followers);
        followers.retain(|other| !Arc::ptr_eq(other, waiter));
        self.follower_count.store(followers.len(), Ordering::SeqCst);
        match result {
            None if interrupted => Err(Error::Interrupted),
            result => Ok(result),
        }
    }

    // ---- async ----

    /// A task begins to spin: it drives at each of its polls, as a leader would.
    pub(crate) fn begin_async_spin(&self) -> AsyncSpin {
        let start = Instant::now();
        let budget = locked(&self.spin).budget();
        self.look_guarded();
        let shard = (budget > Duration::ZERO).then(|| self.this.upgrade()).flatten();
        if shard.is_some() {
            self.sent_away.store(true, Ordering::SeqCst);
            self.send_background_away();
        }
        AsyncSpin { shard, start, budget, last: start }
    }

    fn send_background_away(&self) {
        if self.background.load(Ordering::SeqCst) == EPOLL
            && self.background.compare_exchange(EPOLL, AWAKE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            self.background_event.set();
        }
    }

    // ---- the end ----

    /// Waits until every link has lingered out.
    pub(crate) fn wait_until_quiet(&self, deadline: Option<Instant>) -> bool {
        let wait = Wait { targets: &[self], deadline, fds: &[] };
        loop {
            match self.wait(&wait, || self.with_core(|core| core.is_quiet()).then_some(())) {
                Err(Error::Interrupted) => {}
                result => return result.is_ok(),
            }
        }
    }
}

/// The spin of one async task; see [`Shard::begin_async_spin`].
#[derive(Debug)]
pub(crate) struct AsyncSpin {
    shard: Option<Arc<Shard>>,
    start: Instant,
    budget: Duration,
    last: Instant,
}

impl AsyncSpin {
    /// Whether the task should yield and be polled again at once. When not, the background is on duty.
    pub(crate) fn goes_on(&mut self) -> bool {
        let Some(shard) = &self.shard else { return false };
        let now = Instant::now();
        let lost = now.duration_since(self.last) > shard.pause_max;
        self.last = now;
        shard.epoch.fetch_add(1, Ordering::SeqCst);
        if lost {
            locked(&shard.spin).core_lost();
        } else if now.duration_since(self.start) < self.budget {
            // It may have come back on duty when this task was not polled for a while.
            shard.send_background_away();
            return true;
        } else {
            locked(&shard.spin).miss();
        }
        self.leave();
        // Nobody drives from here on; the background must not find that out by itself a tick later.
        false
    }

    /// What was awaited came.
    pub(crate) fn succeed(mut self) {
        if let Some(shard) = &self.shard {
            locked(&shard.spin).hit(self.last.duration_since(self.start));
            shard.epoch.fetch_add(1, Ordering::SeqCst);
            self.shard = None;
        }
    }

    fn leave(&mut self) {
        if let Some(shard) = self.shard.take() {
            shard.hand_over();
        }
    }
}

impl Drop for AsyncSpin {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Sleeps until one of the caller's descriptors or `engine` is readable, the waiter is woken, or it is `due`.
fn sleep_on_descriptors(
    wait: &Wait<'_>,
    waiter: &Waiter,
    engine: Option<PollFd<'_>>,
    due: Option<Instant>,
) -> rustix::io::Result<()> {
    let own = waiter.event().map(|event| PollFd::new(event, PollFlags::IN));
    let mut fds: Vec<_> = own.into_iter().chain(engine).chain(wait.fds.iter().cloned()).collect();
    let timeout = due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
    rustix::event::poll(&mut fds, timeout.as_ref())?;
    if let Some(event) = waiter.event() {
        event.clear();
    }
    Ok(())
}

/// From the kernel's random numbers, by way of the standard library's hasher keys.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// As much of `duration` as the kernel's clock can say.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: duration.subsec_nanos().into(),
    }
}
