//! Who waits for what: parked threads and async tasks on a socket's list, and how each is woken. Polls nothing.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::thread::futex;
use transport_core::{Deferral, defer_call};

use super::progress::timespec;
use super::ready::Registration;
use crate::limits::PARK;

/// An eventfd: makes a thread that sleeps in epoll get up.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }
    pub(crate) fn set(&self) {
        // Fails only when 2^64-2 wake-ups wait, and then it is readable anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const AWAKE: u32 = 0;
const PARKED: u32 = 1;
const ON_DESCRIPTORS: u32 = 2;
const NOTIFIED: u32 = 3;

/// One blocked call. It sleeps either parked, or on descriptors: in the shard's epoll as the thread that drives, or on
/// the caller's own.
pub(crate) struct Waiter {
    /// What a parked thread sleeps on.
    state: AtomicU32,
    alarm: Alarm,
}

/// What to set when a waiter sleeps on descriptors.
enum Alarm {
    /// The shard's. Weak, since the thread keeps its waiter when the shard has gone.
    Shard(Weak<Event>),
    Own(Event),
}

thread_local! {
    /// What the thread's last wait used, so that a wait that sleeps allocates nothing.
    static LAST: Cell<Option<Arc<Waiter>>> = const { Cell::new(None) };
}

impl Waiter {
    fn new(alarm: Alarm) -> Arc<Self> {
        Arc::new(Self { state: AtomicU32::new(AWAKE), alarm })
    }

    /// For this thread, to sleep in the epoll that has `event`.
    pub(crate) fn of_shard(event: &Arc<Event>) -> Arc<Self> {
        if let Ok(Some(last)) = LAST.try_with(Cell::take)
            && matches!(&last.alarm, Alarm::Shard(known) if std::ptr::eq(known.as_ptr(), Arc::as_ptr(event)))
            // Nobody else can wake it any more.
            && Arc::strong_count(&last) == 1
        {
            last.awake();
            return last;
        }
        Self::new(Alarm::Shard(Arc::downgrade(event)))
    }

    /// For this thread, to sleep on descriptors of the caller's.
    pub(crate) fn with_event() -> rustix::io::Result<Arc<Self>> {
        Ok(Self::new(Alarm::Own(Event::new()?)))
    }

    /// For this thread, to park only.
    pub(crate) fn plain() -> Arc<Self> {
        Self::new(Alarm::Shard(Weak::new()))
    }

    /// Keeps a waiter that is on no list any more for the thread's next wait.
    pub(crate) fn keep(self: Arc<Self>) {
        if matches!(self.alarm, Alarm::Shard(_)) {
            // At the thread's end there is nowhere to keep it.
            let _ = LAST.try_with(|last| last.set(Some(self)));
        }
    }

    /// The waiter's own event, if it has one.
    pub(crate) fn event(&self) -> Option<&Event> {
        match &self.alarm {
            Alarm::Own(event) => Some(event),
            Alarm::Shard(_) => None,
        }
    }

    pub(crate) fn wake(&self) {
        match self.state.swap(NOTIFIED, Ordering::AcqRel) {
            PARKED => {
                // Fails for no memory of our own.
                let _ = futex::wake(&self.state, futex::Flags::PRIVATE, 1);
            }
            ON_DESCRIPTORS => match &self.alarm {
                Alarm::Own(event) => event.set(),
                Alarm::Shard(event) => {
                    if let Some(event) = event.upgrade() {
                        event.set();
                    }
                }
            },
            _ => {}
        }
    }

    /// From here on `wake` sets the event. `false`: it was woken already; do not sleep.
    pub(crate) fn begin_sleep(&self) -> bool {
        self.state.compare_exchange(AWAKE, ON_DESCRIPTORS, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Back to awake, whatever happened.
    pub(crate) fn awake(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Sleeps until woken or `deadline`. A futex and not the standard library's parking, which sleeps on through signals.
    ///
    /// # Errors
    /// [`Interrupted`]: a signal's handler ran in this thread.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> Result<(), Interrupted> {
        let mut result = Ok(());
        if self.state.compare_exchange(AWAKE, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while self.state.load(Ordering::Acquire) == PARKED {
                let left =
                    deadline.map_or(PARK, |deadline| deadline.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    break;
                }
                // Never without a time: only with one does the kernel report handlers that ask it to restart calls.
                let timeout = timespec(left.min(PARK));
                if futex::wait(&self.state, futex::Flags::PRIVATE, PARKED, Some(&timeout)) == Err(Errno::INTR)
                {
                    result = Err(Interrupted);
                    break;
                }
            }
        }
        self.awake();
        result
    }
}

/// A signal's handler ran while the thread slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted;

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({})", self.state.load(Ordering::Relaxed))
    }
}

/// Who an async registration belongs to: one future, whatever task polls it. Not told by the waker, since two futures of
/// one task have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskKey(NonZeroU64);

impl TaskKey {
    /// One that nobody else has.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // 2^64 futures are not made.
        Self(NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZeroU64::MIN))
    }
}

#[derive(Debug)]
enum Entry {
    Thread(Arc<Waiter>),
    Task(TaskKey, Waker),
}

/// Everyone who waits for one socket. Waking takes threads and tasks off the list: they look again and come back if they
/// must. Pollers stay.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    entries: Vec<Entry>,
    pollers: Vec<Arc<Registration>>,
}

impl Waiters {
    /// Changes the lists.
    fn change<R>(&self, change: impl FnOnce(&mut Lists) -> R) -> R {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut lists);
        self.count.store(lists.entries.len() + lists.pollers.len(), Ordering::Relaxed);
        drop(lists);
        // Whoever registers looks again after this, and whoever makes something looks at `count` after it.
        fence(Ordering::SeqCst);
        result
    }

    pub(crate) fn add_thread(&self, waiter: &Arc<Waiter>) {
        self.change(|lists| lists.entries.push(Entry::Thread(waiter.clone())));
    }

    /// Registers a task, or replaces the waker it registered before.
    pub(crate) fn add_task(&self, key: TaskKey, waker: &Waker) {
        let waker = waker.clone();
        let before = self.change(|lists| {
            let known = lists.entries.iter_mut().find_map(|entry| match entry {
                Entry::Task(known, waker) if *known == key => Some(waker),
                _ => None,
            });
            match known {
                Some(known) => Some(std::mem::replace(known, waker)),
                None => {
                    lists.entries.push(Entry::Task(key, waker));
                    None
                }
            }
        });
        // A runtime's code, and so outside the lock.
        drop(before);
    }

    /// Takes a task off the list: its future is gone.
    pub(crate) fn remove_task(&self, key: TaskKey) {
        let removed = self.change(|lists| {
            let of_task = |entry: &Entry| matches!(entry, Entry::Task(known, _) if *known == key);
            let at = lists.entries.iter().position(of_task);
            at.map(|at| lists.entries.swap_remove(at))
        });
        drop(removed);
    }

    pub(crate) fn remove_thread(&self, waiter: &Arc<Waiter>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.change(|lists| {
            lists
                .entries
                .retain(|entry| !matches!(entry, Entry::Thread(other) if Arc::ptr_eq(other, waiter)));
        });
    }

    /// Registers a poller, until it is removed.
    pub(crate) fn add_poller(&self, registration: Arc<Registration>) {
        self.change(|lists| lists.pollers.push(registration));
    }

    pub(crate) fn remove_poller(&self, registration: &Arc<Registration>) {
        self.change(|lists| lists.pollers.retain(|other| !Arc::ptr_eq(other, registration)));
    }

    /// Wakes everyone; async wakers run when this call returns, or later: when the caller's deferral ends.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Before the lock, so that wakers run after it: a task that ends takes itself off this list.
        let _deferral = Deferral::begin();
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.store(lists.pollers.len(), Ordering::Relaxed);
        // In place, so that the list keeps its memory. Waking takes no lock but those of a poller's own list.
        for entry in lists.entries.drain(..) {
            match entry {
                Entry::Thread(waiter) => waiter.wake(),
                Entry::Task(_, waker) => defer_call(move || waker.wake()),
            }
        }
        for registration in &lists.pollers {
            registration.note();
        }
    }

    /// Waits for `attempt` to give something, for things that no driver brings about. `None` at the deadline.
    pub(crate) fn wait_plainly<R>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let waiter = Waiter::plain();
        let result = loop {
            self.add_thread(&waiter);
            if let Some(result) = attempt() {
                break Some(result);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break None;
            }
            // After a signal it looks and sleeps again: there is no call to interrupt that could say so.
            let _ = waiter.park(deadline);
            self.remove_thread(&waiter);
        };
        self.remove_thread(&waiter);
        result
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        // A waker may belong to a runtime that takes locks of its own.
        let _deferral = Deferral::begin();
        self.wake_all();
    }
}
