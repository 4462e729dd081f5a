//! A task driven by hand, for tests that watch it sleep and be woken. Judges nothing but that it sleeps at all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

/// For what takes microseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts how often its waker was called.
#[derive(Default)]
pub(crate) struct Count(pub(crate) AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls until the future has left its waker where it waits, and sleeps. Returns the count by then.
pub(crate) fn fall_asleep<F: Future + ?Sized>(mut future: Pin<&mut F>, waker: &Waker, count: &Count) -> u32 {
    let start = Instant::now();
    loop {
        let before = count.0.load(Ordering::SeqCst);
        assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        // A task that spins asks to be polled again at once.
        if count.0.load(Ordering::SeqCst) == before {
            return before;
        }
        assert!(start.elapsed() < PATIENCE, "it spins, though nothing can move");
    }
}
