//! Runs free functions and wakers after every fabriq lock is released: a queue per thread, never nested.
//!
//! An application's free function may take the application's own lock and send on a socket (pyzmq's does). If it ran
//! where the last reference happens to be dropped, inside a lock of ours, it would deadlock. So every place that
//! locks holds a [`Deferral`] around the lock, and calls are put off until the outermost one ends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

type Call = Box<dyn FnOnce() + Send>;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WAITING: Cell<bool> = const { Cell::new(false) };
    static CALLS: RefCell<VecDeque<Call>> = const { RefCell::new(VecDeque::new()) };
}

/// While one lives on this thread, [`defer_call`] only queues. Declare it before the lock guard, so that it ends
/// after the guard.
#[derive(Debug)]
#[must_use = "deferral ends when this is dropped"]
pub struct Deferral(std::marker::PhantomData<*const ()>);

impl Deferral {
    /// Starts to put calls off on this thread.
    #[inline]
    pub fn begin() -> Self {
        // During a thread's destruction the counter is gone; calls then run at once, and there are no locks left.
        let _ = DEPTH.try_with(|depth| depth.set(depth.get() + 1));
        Self(std::marker::PhantomData)
    }
}

impl Drop for Deferral {
    #[inline]
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| {
            if depth.get() == 1 && WAITING.get() {
                run_waiting(depth);
            } else {
                depth.set(depth.get() - 1);
            }
        });
    }
}

/// Runs `call` now if no [`Deferral`] lives on this thread, else when the outermost one ends.
pub fn defer_call(call: impl FnOnce() + Send + 'static) {
    let put_off = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false);
    if put_off {
        CALLS.with_borrow_mut(|calls| calls.push_back(Box::new(call)));
        WAITING.set(true);
    } else {
        call();
    }
}

#[cold]
fn run_waiting(depth: &Cell<u32>) {
    // Depth stays at 1 while calls run, so what they put off joins this queue instead of nesting; a call that takes
    // our locks goes to depth 2 and back, and so does not come here again.
    while let Some(call) = CALLS.with_borrow_mut(VecDeque::pop_front) {
        // A panic in a caller's function must not leave the counter behind.
        let restore = Restore(depth);
        call();
        std::mem::forget(restore);
    }
    WAITING.set(false);
    depth.set(depth.get() - 1);
}

struct Restore<'a>(&'a Cell<u32>);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    #[test]
    fn calls_wait_for_the_outermost_end_and_never_nest() {
        let ran = Arc::new(AtomicU32::new(0));
        let lock = Arc::new(Mutex::new(()));
        {
            let _outer = Deferral::begin();
            let held = lock.lock().unwrap();
            {
                let _inner = Deferral::begin();
                let (ran, lock) = (ran.clone(), lock.clone());
                defer_call(move || {
                    // Would deadlock if it ran under the lock, or nested in another call that holds it.
                    let _own = lock.lock().unwrap();
                    let (ran_too, lock_too) = (ran.clone(), lock.clone());
                    defer_call(move || {
                        let _own = lock_too.lock().unwrap();
                        ran_too.fetch_add(1, SeqCst);
                    });
                    ran.fetch_add(1, SeqCst);
                });
            }
            assert_eq!(ran.load(SeqCst), 0);
            drop(held);
        }
        assert_eq!(ran.load(SeqCst), 2);
        defer_call({
            let ran = ran.clone();
            move || {
                ran.fetch_add(1, SeqCst);
            }
        });
        assert_eq!(ran.load(SeqCst), 3);
    }
}
