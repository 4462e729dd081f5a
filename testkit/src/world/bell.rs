//! The wake-up call that the world and the threads of the suite hand to drivers. Wakes nobody by itself.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use transport_core::Wake;

/// A wake-up call that counts as a reason to poll, and ends a sleep.
#[derive(Debug)]
pub struct Bell {
    pub(super) rung: AtomicBool,
    fd: OwnedFd,
}

impl Bell {
    /// A bell that has not been rung.
    ///
    /// # Panics
    /// When the system has no descriptor left.
    pub fn new() -> Arc<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd");
        Arc::new(Self { rung: AtomicBool::new(false), fd })
    }

    /// Whether it was rung since the last call.
    pub fn take(&self) -> bool {
        if !self.rung.load(Ordering::Acquire) {
            return false;
        }
        // The descriptor is emptied first: a ring in between leaves the flag set or the descriptor readable.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Readable once rung.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Wake for Bell {
    fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}
