//! A simulated device's view of memory: regions and keys, and the frames that peers may READ. Safe code cannot reach
//! memory by an address, so that pinning a frame stands in for the memory itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transport_core::{DomainId, Frame, Key, MemoryDomain, RegisterError, Registration};

use crate::fabric::{Hold, Memory, Pin, Reach, Remote};
use crate::limits::REGISTER_ALONE_MIN;

/// Keys are never given twice in one process, so that a key of another device is always wrong.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
pub(super) struct Domain {
    id: DomainId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    refuses: bool,
    /// By number: first address and length. The local key is twice the number and one, the remote one twice.
    regions: BTreeMap<u64, (u64, u64)>,
    /// By address: what a peer may READ, and how often it is pinned.
    exposed: BTreeMap<u64, (Frame, usize)>,
}

impl Domain {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { id: DomainId::unique(), state: Mutex::default() })
    }

    pub(super) fn memory(self: &Arc<Self>) -> Memory {
        Memory::new(self.clone(), Arc::new(Pins(self.clone())))
    }

    pub(super) fn close(&self) {
        let gone = {
            let mut state = self.lock();
            state.closed = true;
            state.regions.clear();
            std::mem::take(&mut state.exposed)
        };
        drop(gone);
    }

    /// Registers nothing more, or again.
    pub(super) fn refuse(&self, refuse: bool) {
        self.lock().refuses = refuse;
    }

    pub(super) fn regions(&self) -> usize {
        self.lock().regions.len()
    }

    /// Whether a local key is good for `len` bytes at an address.
    pub(super) fn covers_local(&self, key: u64, address: u64, len: usize) -> bool {
        key % 2 == 1 && self.lock().covers(key / 2, address, len)
    }

    /// What a peer reads, if its key is good for it.
    pub(super) fn read(&self, from: Remote, into: &mut [u8]) -> bool {
        let state = self.lock();
        if from.key % 2 == 1 || !state.covers(from.key / 2, from.address, into.len()) {
            return false;
        }
        let found = state.exposed.range(..=from.address).next_back().and_then(|(start, (frame, _))| {
            let offset = usize::try_from(from.address - start).ok()?;
            frame.get(offset..offset.checked_add(into.len())?)
        });
        match found {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    fn insert(&self, address: u64, len: usize) -> Result<Registration, RegisterError> {
        let mut state = self.lock();
        if state.closed {
            return Err(RegisterError("the device is gone".to_owned()));
        }
        if state.refuses {
            return Err(RegisterError(format!("{len} bytes are beyond the limit on locked memory")));
        }
        let number = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        state.regions.insert(number, (address, len as u64));
        // Different numbers, so that who mixes the two up is found out.
        Ok(Registration { local: 2 * number + 1, remote: 2 * number })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn covers(&self, region: u64, address: u64, len: usize) -> bool {
        self.regions.get(&region).is_some_and(|(start, size)| {
            let offset = address.checked_sub(*start);
            offset.and_then(|offset| offset.checked_add(len as u64)).is_some_and(|end| end <= *size)
        })
    }
}

impl MemoryDomain for Domain {
    fn id(&self) -> DomainId {
        self.id
    }
    fn register(&self, start: *const u8, len: usize) -> Result<Registration, RegisterError> {
        self.insert(start.addr() as u64, len)
    }
    fn unregister(&self, registration: Registration) {
        self.lock().regions.remove(&(registration.remote / 2));
    }
}

#[derive(Debug)]
struct Pins(Arc<Domain>);

impl Pin for Pins {
    fn pin(&self, frame: &Frame, key: Option<Key>, reach: Reach) -> Option<(Key, Option<Box<dyn Hold>>)> {
        let address = frame.as_ptr().addr() as u64;
        let (key, registration) = match key {
            Some(key) => (key, None),
            None if reach == Reach::Device || frame.len() < REGISTER_ALONE_MIN => return None,
            None => {
                let made = self.0.insert(address, frame.len()).ok()?;
                (Key { address, local: made.local, remote: made.remote }, Some(made))
            }
        };
        if reach == Reach::Device {
            return Some((key, None));
        }
        let mut state = self.0.lock();
        if state.closed {
            return None;
        }
        state.exposed.entry(address).or_insert_with(|| (frame.clone(), 0)).1 += 1;
        drop(state);
        Some((key, Some(Box::new(Exposed { domain: self.0.clone(), address, registration }))))
    }
}

/// A frame that a peer may read.
#[derive(Debug)]
struct Exposed {
    domain: Arc<Domain>,
    address: u64,
    registration: Option<Registration>,
}

impl Hold for Exposed {
    fn is_registration(&self) -> bool {
        self.registration.is_some()
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        let mut state = self.domain.lock();
        let mut gone = None;
        if let Some((_, times)) = state.exposed.get_mut(&self.address) {
            *times -= 1;
            if *times == 0 {
                gone = state.exposed.remove(&self.address);
            }
        }
        drop(state);
        drop(gone);
        if let Some(registration) = self.registration {
            self.domain.unregister(registration);
        }
    }
}
