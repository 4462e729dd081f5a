//! What other drivers tell a driver: a new pipe, a lane that changed. Wakes its owner, and only if that has armed.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transport_core::{Hello, Identity, LinkId, OpenId, Wake};

use crate::pipe::Joint;

/// The public part of a driver.
pub(crate) struct Mailbox {
    wake: Arc<dyn Wake>,
    // So that a poll without mail costs one load and no lock.
    pending: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mail: Vec<Mail>,
    armed: bool,
}

/// One thing to know.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A peer was found for an open.
    Peer(NewLink),
    /// The lanes of this link have changed.
    Touched(LinkId),
}

/// A link that is not up yet.
#[derive(Debug)]
pub(crate) struct NewLink {
    pub(crate) open: OpenId,
    pub(crate) joint: Joint,
    pub(crate) hello: Hello,
    pub(crate) identity: Identity,
}

impl Mailbox {
    pub(crate) fn new(wake: Arc<dyn Wake>) -> Arc<Self> {
        Arc::new(Self { wake, pending: AtomicBool::new(false), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock, and the state is whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands something over and wakes the owner if it may be asleep. Not to be called under a lane's or the table's
    /// lock: a waker is the engine's code.
    pub(crate) fn put(&self, mail: Mail) {
        let mut state = self.lock();
        state.mail.push(mail);
        let asleep = std::mem::take(&mut state.armed);
        // Under the lock, so that a `take` that follows cannot be overtaken by a stale `true`.
        self.pending.store(true, Ordering::Release);
        drop(state);
        if asleep {
            self.wake.wake();
        }
    }

    /// Swaps everything that has come into `mail`, which is empty.
    pub(crate) fn take(&self, mail: &mut Vec<Mail>) {
        if self.pending.load(Ordering::Acquire) {
            let mut state = self.lock();
            std::mem::swap(&mut state.mail, mail);
            self.pending.store(false, Ordering::Release);
        }
    }

    /// From now on the next `put` wakes. False if something is there already.
    pub(crate) fn arm(&self) -> bool {
        let mut state = self.lock();
        state.armed = state.mail.is_empty();
        state.armed
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("pending", &self.pending).finish_non_exhaustive()
    }
}
