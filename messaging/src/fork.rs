//! Finds out whether this process is a fork of the one that made a context. Reacts to nothing.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A page that the kernel zeroes in a forked child (madvise(2), MADV_WIPEONFORK), so that one load per call finds a
/// fork; getpid would be a system call per call.
#[derive(Debug)]
pub(crate) struct ForkMark(&'static AtomicU8);

const PAGE: usize = 4096;

impl ForkMark {
    /// The mark of this process; a child gets one of its own when it makes a context of its own.
    pub(crate) fn of_process() -> &'static Self {
        static FIRST: OnceLock<ForkMark> = OnceLock::new();
        static AGAIN: Mutex<Option<&'static ForkMark>> = Mutex::new(None);
        let first = FIRST.get_or_init(Self::fresh);
        if !first.is_foreign() {
            return first;
        }
        let mut again = AGAIN.lock().unwrap_or_else(PoisonError::into_inner);
        match *again {
            Some(mark) if !mark.is_foreign() => mark,
            _ => again.insert(Box::leak(Box::new(Self::fresh()))),
        }
    }

    fn fresh() -> Self {
        static NO_PAGE: AtomicU8 = AtomicU8::new(1);
        // SAFETY: a fresh private anonymous page at an address of the kernel's choice touches no other memory. It is
        // never unmapped, so the reference may be static; a zeroed page is a valid AtomicU8. Test: tests/fork.rs.
        let mark = unsafe {
            let flags = MapFlags::PRIVATE;
            match rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            ) {
                Ok(page) => {
                    // Kernels before 4.14 lack the advice; there a fork stays unnoticed.
                    let _ = rustix::mm::madvise(page, PAGE, Advice::LinuxWipeOnFork);
                    &*page.cast::<AtomicU8>()
                }
                Err(_) => &NO_PAGE,
            }
        };
        mark.store(1, Ordering::Relaxed);
        Self(mark)
    }

    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}
