//! What requests are known by while a provider has them. A request's context is the address of a slot of its
//! endpoint's: some providers write there (FI_CONTEXT2), and all give it back with the completion. Knows no memory
//! that is posted.
//!
//! A completion may be read when its endpoint is gone already. So the slots of an endpoint that was closed with
//! requests out stay until the completion queue has been seen empty: closing discards what is out (fi_endpoint(3),
//! "fi_close"), and what had completed by then is read before that.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

/// Whose a request is, and which of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// What the endpoint's owner calls it.
    pub(super) cookie: u64,
    /// The endpoint's number in this process; never 0.
    pub(super) serial: u64,
    /// The slot.
    pub(super) slot: u32,
}

/// One request's place. The provider has the first member, everybody may read the second.
#[repr(C)]
struct Slot {
    context: UnsafeCell<MaybeUninit<sys::fi_context2>>,
    identity: Identity,
}

/// The slots of one endpoint.
pub(super) struct Arena(Box<[Slot]>);

// SAFETY: only the provider touches what is in the cells, and it is told of a slot by one request at a time.
unsafe impl Send for Arena {}
// SAFETY: as above; the rest is never written.
unsafe impl Sync for Arena {}

impl Arena {
    pub(super) fn new(cookie: u64, slots: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let slot = |slot| Slot {
            context: UnsafeCell::new(MaybeUninit::uninit()),
            identity: Identity { cookie, serial, slot },
        };
        Self((0..slots as u32).map(slot).collect())
    }

    pub(super) fn serial(&self) -> u64 {
        self.0.first().map_or(0, |slot| slot.identity.serial)
    }

    /// What a provider is given as a request's context.
    #[inline]
    pub(super) fn context(&self, slot: u32) -> *mut c_void {
        let start = self.0.as_ptr().cast_mut();
        debug_assert!((slot as usize) < self.0.len());
        // In bounds: slots are numbered by this arena.
        start.wrapping_add(slot as usize).cast()
    }

    /// Reads what a context says.
    ///
    /// # Safety
    /// `context` came from [`Arena::context`], and that arena is still there.
    #[inline]
    pub(super) unsafe fn identity(context: *const c_void) -> Identity {
        // SAFETY: the caller's promise. The provider writes before this member only.
        unsafe { (&raw const (*context.cast::<Slot>()).identity).read() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_says_whose_it_is_whatever_a_provider_writes_into_it() {
        let arena = Arena::new(77, 3);
        for slot in 0..3 {
            let context = arena.context(slot);
            assert!(context.cast::<u64>().is_aligned());
            // SAFETY: the first 64 bytes are the provider's.
            unsafe { context.cast::<[u8; size_of::<sys::fi_context2>()]>().write([0xA5; 64]) };
            // SAFETY: the arena is alive.
            let identity = unsafe { Arena::identity(context) };
            assert_eq!(identity, Identity { cookie: 77, serial: arena.serial(), slot });
        }
        assert_ne!(arena.serial(), Arena::new(77, 1).serial());
    }
}
