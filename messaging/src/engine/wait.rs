//! Who waits for what: parked threads and async tasks on a socket's list, and how each is woken. Polls nothing.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::Thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use transport_core::{Deferral, defer_call};

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
const IN_EPOLL: u32 = 2;
const NOTIFIED: u32 = 3;

/// One blocked call. It sleeps either parked, or in the shard's epoll as the thread that drives.
pub(crate) struct Waiter {
    state: AtomicU32,
    thread: Thread,
    /// What to set when it sleeps in epoll.
    event: Option<Arc<Event>>,
}

impl Waiter {
    pub(crate) fn new(event: Option<Arc<Event>>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU32::new(AWAKE), thread: std::thread::current(), event })
    }

    pub(crate) fn wake(&self) {
        match self.state.swap(NOTIFIED, Ordering::AcqRel) {
            PARKED => self.thread.unpark(),
            IN_EPOLL => {
                if let Some(event) = &self.event {
                    event.set();
                }
            }
            _ => {}
        }
    }

    /// From here on `wake` sets the event. `false`: it was woken already; do not sleep.
    pub(crate) fn enter_epoll(&self) -> bool {
        self.state.compare_exchange(AWAKE, IN_EPOLL, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Back to awake, whatever happened.
    pub(crate) fn awake(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Sleeps until woken or `deadline`.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        if self.state.compare_exchange(AWAKE, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while self.state.load(Ordering::Acquire) == PARKED {
                match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    None => std::thread::park(),
                    Some(Duration::ZERO) => break,
                    Some(left) => std::thread::park_timeout(left),
                }
            }
        }
        self.awake();
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({})", self.state.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
enum Entry {
    Thread(Arc<Waiter>),
    Task(Waker),
}

/// Everyone who waits for one socket. Waking takes all off the list: they look again and come back if they must.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    entries: Mutex<Vec<Entry>>,
}

impl Waiters {
    fn add(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        self.count.store(entries.len(), Ordering::Relaxed);
        drop(entries);
        // Whoever registers looks again after this, and whoever makes something looks at `count` after it.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn add_thread(&self, waiter: &Arc<Waiter>) {
        self.add(Entry::Thread(waiter.clone()));
    }

    pub(crate) fn add_task(&self, waker: &Waker) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.iter().any(|entry| matches!(entry, Entry::Task(task) if task.will_wake(waker)));
        drop(entries);
        if !known {
            self.add(Entry::Task(waker.clone()));
        }
    }

    pub(crate) fn remove_thread(&self, waiter: &Arc<Waiter>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| !matches!(entry, Entry::Thread(other) if Arc::ptr_eq(other, waiter)));
        self.count.store(entries.len(), Ordering::Relaxed);
    }

    /// Wakes everyone; async wakers run when this thread holds no fabriq lock any more.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.store(0, Ordering::Relaxed);
        let woken = std::mem::take(&mut *entries);
        drop(entries);
        for entry in woken {
            match entry {
                Entry::Thread(waiter) => waiter.wake(),
                Entry::Task(waker) => defer_call(move || waker.wake()),
            }
        }
    }

    /// Waits for `attempt` to give something, for things that no driver brings about. `None` at the deadline.
    pub(crate) fn wait_plainly<R>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let waiter = Waiter::new(None);
        let result = loop {
            self.add_thread(&waiter);
            if let Some(result) = attempt() {
                break Some(result);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break None;
            }
            waiter.park(deadline);
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
