//! Endpoints over shared memory, for peers in the same process. There a provider uses its peer's memory as it is, and does not map
//! it anew (shm: `smr_map_to_region`), so that to close one of two endpoints takes the ground from under the other, whose next
//! send, or its own end, would fault. So an endpoint that somebody here knows is closed only when nobody does any more; until then
//! nobody polls it, and no receive is posted to it. Calls nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// That an endpoint is known by those who hold this. `R` is what remains of it once its owner has let it go, and closes it when it
/// is dropped.
#[derive(Debug)]
pub(super) struct Resident<R>(Mutex<Option<R>>);

/// All of this process, by name.
#[derive(Debug)]
pub(super) struct Residents<R>(Mutex<BTreeMap<Vec<u8>, Weak<Resident<R>>>>);

impl<R> Residents<R> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Weak<Resident<R>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody may be known by this name from here on.
    pub(super) fn enter(&self, name: &[u8]) -> Arc<Resident<R>> {
        let resident = Arc::new(Resident(Mutex::new(None)));
        self.lock().insert(name.to_vec(), Arc::downgrade(&resident));
        resident
    }

    /// Knows whoever has a name, if he is here.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<Resident<R>>> {
        self.lock().get(name).and_then(Weak::upgrade)
    }

    /// Nobody new gets to know him. False: nobody does at all, and his owner may do as he likes. True: somebody does, and has what
    /// `remains` makes.
    pub(super) fn leave(&self, name: &[u8], resident: Arc<Resident<R>>, remains: impl FnOnce() -> R) -> bool {
        let mut all = self.lock();
        if all.get(name).is_some_and(|it| std::ptr::eq(it.as_ptr(), Arc::as_ptr(&resident))) {
            all.remove(name);
        }
        // Whoever knows him can tell others only by the table.
        let is_known = Arc::strong_count(&resident) > 1;
        if is_known {
            *resident.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(remains());
        }
        drop(all);
        // Outside the lock: this may be the last, by now.
        drop(resident);
        is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_remains_until_it_is_known_no_more() {
        static ALL: Residents<Arc<()>> = Residents::new();
        let body = Arc::new(());
        let one = ALL.enter(b"one");
        let known = ALL.find(b"one").unwrap();
        assert!(ALL.leave(b"one", one, || body.clone()));
        assert!(ALL.find(b"one").is_none(), "nobody new");
        assert_eq!(Arc::strong_count(&body), 2);
        drop(known);
        assert_eq!(Arc::strong_count(&body), 1);

        let two = ALL.enter(b"two");
        drop(ALL.find(b"two"));
        assert!(!ALL.leave(b"two", two, || unreachable!("nobody knows it")));
    }

    #[test]
    fn a_name_that_was_given_anew_stays_with_its_new_owner() {
        static ALL: Residents<()> = Residents::new();
        let before = ALL.enter(b"name");
        let after = ALL.enter(b"name");
        assert!(!ALL.leave(b"name", before, || ()));
        assert!(ALL.find(b"name").is_some());
        drop(after);
        assert!(ALL.find(b"name").is_none());
    }
}
