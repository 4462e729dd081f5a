//! The list on which sockets note, for a poller, that they may have become ready. Looks at no socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use transport_core::SlabKey;

use super::progress::Target;
use super::wait::Waiters;

/// What may be ready of one poller, and who waits for that.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    noted: Mutex<Vec<SlabKey>>,
    any: AtomicBool,
    waiters: Waiters,
}

impl ReadyList {
    /// Appends what has been noted since the last call.
    pub(crate) fn take(&self, out: &mut Vec<SlabKey>) {
        if self.any.swap(false, Ordering::AcqRel) {
            out.append(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Target for ReadyList {
    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
    fn has_news(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

/// A poller's place on a socket's list of those who wait: it stays there, and is on the poller's list at most once.
#[derive(Debug)]
pub(crate) struct Registration {
    list: Arc<ReadyList>,
    /// The poller's own name for the socket.
    key: SlabKey,
    /// Whether the poller will look at the socket anyway.
    noted: AtomicBool,
}

impl Registration {
    /// Of a socket that the poller has yet to look at.
    pub(crate) fn new(list: &Arc<ReadyList>, key: SlabKey) -> Arc<Self> {
        Arc::new(Self { list: list.clone(), key, noted: AtomicBool::new(true) })
    }

    /// The socket may have become ready. Takes the list's locks only.
    pub(super) fn note(&self) {
        // Release: who clears the mark sees what made the socket ready.
        if !self.noted.swap(true, Ordering::AcqRel) {
            self.list.noted.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
            self.list.any.store(true, Ordering::Release);
        }
        self.list.waiters.wake_all();
    }

    /// The poller is about to look; what changes from here on is noted.
    pub(crate) fn begin_look(&self) {
        self.noted.swap(false, Ordering::AcqRel);
    }

    /// The poller will look again by itself. `false`: the socket is on the list anyway.
    pub(crate) fn keep(&self) -> bool {
        !self.noted.swap(true, Ordering::AcqRel)
    }
}
