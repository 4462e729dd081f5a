//! Handles: numbers that stand for contexts, sockets and the like in C. Knows nothing of what they stand for.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// All living handles of one kind. A number is never used twice, so a stale handle is found out.
#[derive(Debug)]
pub(crate) struct Handles<T>(OnceLock<RwLock<HashMap<usize, Arc<T>>>>);

/// Far from what an address or a small number by mistake could be, and aligned as an address would be.
static NEXT: AtomicUsize = AtomicUsize::new(0x5a00_0000_0000);

impl<T> Handles<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    fn map(&self) -> &RwLock<HashMap<usize, Arc<T>>> {
        self.0.get_or_init(Default::default)
    }

    pub(crate) fn add(&self, value: Arc<T>) -> *mut c_void {
        let handle = NEXT.fetch_add(16, Ordering::Relaxed);
        self.map().write().unwrap_or_else(PoisonError::into_inner).insert(handle, value);
        std::ptr::without_provenance_mut(handle)
    }

    pub(crate) fn find(&self, handle: *const c_void) -> Option<Arc<T>> {
        self.map().read().unwrap_or_else(PoisonError::into_inner).get(&handle.addr()).cloned()
    }

    pub(crate) fn remove(&self, handle: *const c_void) -> Option<Arc<T>> {
        self.map().write().unwrap_or_else(PoisonError::into_inner).remove(&handle.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_is_nobodys() {
        let handles = Handles::new();
        let first = handles.add(Arc::new(1));
        assert_eq!(handles.find(first).as_deref(), Some(&1));
        assert_eq!(handles.remove(first).as_deref(), Some(&1));
        let second = handles.add(Arc::new(2));
        assert!(first != second && handles.find(first).is_none() && handles.remove(first).is_none());
        assert!(handles.find(std::ptr::null()).is_none());
    }
}
