//! Pools of frame slots in arenas that devices can register. Lends slots and takes them back; moves no bytes.
//!
//! A pool has one class per slot size (256 B to 4 MiB, powers of four). A class is a list of arenas, a list of vacant
//! slots under a short lock, and a reference count that keeps it alive while any slot is lent: so a pool may go
//! before its frames. Each slot is preceded by a header with its own count:
//!
//! ```text
//! arena  |hdr|....slot 0....|hdr|....slot 1....|      hdr = 64 B {references, index}; slots stay 64-byte aligned
//! ```

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::frame::FrameMut;
use crate::limits::{ARENA_MIN, SLOT_MAX, SLOT_MIN};

const HEADER: usize = 64;
const CLASSES: usize = 8;

/// Names a [`MemoryDomain`] for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DomainId(u64);

impl DomainId {
    /// An id that no other domain has.
    pub fn unique() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed) as u64)
    }
}

/// A device's view of memory: a verbs protection domain, an OFI domain. Registers whole arenas.
pub trait MemoryDomain: fmt::Debug + Send + Sync {
    /// Which domain.
    fn id(&self) -> DomainId;
    /// Registers `len` bytes at `start`; the token is handed back to `unregister`.
    fn register(&self, start: *const u8, len: usize) -> Result<Registration, RegisterError>;
    /// Gives a registration up. Called once per success of `register`, when the arena goes.
    fn unregister(&self, registration: Registration);
}

/// What a domain knows an arena by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// For the local device.
    pub local: u64,
    /// For remote peers.
    pub remote: u64,
}

/// The domain refused to register memory. Text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot register memory: {0}")]
pub struct RegisterError(pub String);

/// How a device reaches one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Address of the first byte.
    pub address: u64,
    /// For the local device (lkey).
    pub local: u64,
    /// For remote peers (rkey).
    pub remote: u64,
}

/// A budget of slots. Clones share it. Thread-safe.
#[derive(Clone)]
pub struct FramePool(Arc<PoolShared>);

struct PoolShared {
    classes: [Arc<Class>; CLASSES],
    budget: Arc<Budget>,
}

struct Budget {
    limit: usize,
    reserved: AtomicUsize,
}

/// What a pool holds at one moment, in bytes and slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUsage {
    /// Bytes of arenas reserved from the system; pages are committed when first written.
    pub reserved_bytes: usize,
    /// Slots that are out at the moment.
    pub lent_slots: usize,
}

impl FramePool {
    /// A pool that reserves at most `budget` bytes. Nothing is reserved yet.
    pub fn new(budget: usize) -> Self {
        let budget = Arc::new(Budget { limit: budget, reserved: AtomicUsize::new(0) });
        let classes = std::array::from_fn(|at| {
            Arc::new(Class {
                slot: SLOT_MIN << (2 * at),
                state: Mutex::new(ClassState::default()),
                lent: AtomicUsize::new(0),
                budget: budget.clone(),
            })
        });
        Self(Arc::new(PoolShared { classes, budget }))
    }

    /// Bytes of the slot that a frame of `len` bytes takes; `None` if there are none as large.
    pub fn slot_len(len: usize) -> Option<usize> {
        (len <= SLOT_MAX).then(|| SLOT_MIN << (2 * class_of(len)))
    }

    /// Lends a slot of at least `len` bytes, as a frame of exactly `len`. The bytes hold whatever they held before.
    /// `None` when the budget is spent or `len` exceeds [`SLOT_MAX`]. O(1), no allocation once warm.
    pub fn take(&self, len: usize) -> Option<FrameMut> {
        if len > SLOT_MAX {
            return None;
        }
        let slot = Class::take(&self.0.classes[class_of(len)])?;
        Some(FrameMut::from_slot(slot, len))
    }

    /// Like [`FramePool::take`], but only memory that `domain` has registered, or can. `None` also where it refuses; then
    /// nothing is kept that only another domain could use.
    pub fn take_for(&self, len: usize, domain: &Arc<dyn MemoryDomain>) -> Option<FrameMut> {
        if len > SLOT_MAX {
            return None;
        }
        let slot = Class::take_for(&self.0.classes[class_of(len)], domain)?;
        Some(FrameMut::from_slot(slot, len))
    }

    /// Like [`FramePool::take`], but never `None` for want of budget: the frame then has memory of its own, which no
    /// device has registered. `None` only when the system refuses.
    pub fn take_or_own(&self, len: usize) -> Option<FrameMut> {
        self.take(len).or_else(|| FrameMut::own(len))
    }

    /// What is out now.
    pub fn usage(&self) -> PoolUsage {
        PoolUsage {
            reserved_bytes: self.0.budget.reserved.load(Ordering::Relaxed),
            lent_slots: self.0.classes.iter().map(|class| class.lent.load(Ordering::Relaxed)).sum(),
        }
    }
}

/// The class of the smallest slots that take `len` bytes, at most [`SLOT_MAX`].
const fn class_of(len: usize) -> usize {
    let slots = (if len < SLOT_MIN { SLOT_MIN } else { len }).div_ceil(SLOT_MIN);
    slots.next_power_of_two().trailing_zeros().div_ceil(2) as usize
}

impl fmt::Debug for FramePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FramePool({:?})", self.usage())
    }
}

struct Class {
    slot: usize,
    state: Mutex<ClassState>,
    lent: AtomicUsize,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct ClassState {
    arenas: Vec<Arena>,
    // Last in, first out: the slot used last is the one in the cache.
    vacant: Vec<VacantSlot>,
}

struct VacantSlot(NonNull<Header>);

// SAFETY: a vacant slot is memory nobody refers to; the class owns it. Test: `slots_cross_threads`.
unsafe impl Send for VacantSlot {}

impl VacantSlot {
    /// Which of the class's arenas it lies in.
    fn arena(&self) -> usize {
        // SAFETY: the class that has the slot has its arena, and headers are only ever shared. Test:
        // `a_domain_gets_slots_that_it_knows` under Miri.
        unsafe { self.0.as_ref() }.arena as usize
    }
}

struct Arena {
    // Only kept: all access goes through slots.
    map: memmap2::MmapMut,
    registrations: Vec<(Arc<dyn MemoryDomain>, Registration)>,
}

impl Arena {
    fn knows(&self, domain: &Arc<dyn MemoryDomain>) -> bool {
        self.registrations.iter().any(|(known, _)| known.id() == domain.id())
    }

    /// What the domain knows it by; registers it first if it has to.
    fn register(&mut self, domain: &Arc<dyn MemoryDomain>) -> Option<Registration> {
        let known = self.registrations.iter().find(|(known, _)| known.id() == domain.id());
        if let Some((_, registration)) = known {
            return Some(*registration);
        }
        let registration = domain.register(self.map.as_ptr(), self.map.len()).ok()?;
        self.registrations.push((domain.clone(), registration));
        Some(registration)
    }
}

#[repr(C)]
struct Header {
    references: AtomicU32,
    arena: u32,
}

impl Class {
    fn stride(&self) -> usize {
        self.slot + HEADER
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ClassState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>) -> Option<SlotMut> {
        let mut state = self.lock();
        if state.vacant.is_empty() {
            self.grow(&mut state)?;
        }
        let VacantSlot(header) = state.vacant.pop()?;
        drop(state);
        self.lent.fetch_add(1, Ordering::Relaxed);
        Some(SlotMut(Slot { class: self.clone(), header, len: self.slot }))
    }

    fn take_for(self: &Arc<Self>, domain: &Arc<dyn MemoryDomain>) -> Option<SlotMut> {
        let mut state = self.lock();
        let ClassState { arenas, vacant } = &mut *state;
        let known = vacant.iter().rposition(|slot| arenas[slot.arena()].knows(domain));
        let at = match known {
            Some(at) => at,
            None => {
                // Memory that some other domain has may be as good.
                let some = vacant.len().checked_sub(1);
                match some.filter(|&at| arenas[vacant[at].arena()].register(domain).is_some()) {
                    Some(at) => at,
                    None => {
                        self.grow_for(&mut state, domain)?;
                        state.vacant.len() - 1
                    }
                }
            }
        };
        let VacantSlot(header) = state.vacant.swap_remove(at);
        drop(state);
        self.lent.fetch_add(1, Ordering::Relaxed);
        Some(SlotMut(Slot { class: self.clone(), header, len: self.slot }))
    }

    /// Grows by an arena of the domain's, or not at all.
    #[cold]
    fn grow_for(&self, state: &mut ClassState, domain: &Arc<dyn MemoryDomain>) -> Option<()> {
        self.grow(state)?;
        let last = state.arenas.len() - 1;
        if state.arenas[last].register(domain).is_none() {
            state.vacant.retain(|slot| slot.arena() != last);
            if let Some(arena) = state.arenas.pop() {
                self.budget.reserved.fetch_sub(arena.map.len(), Ordering::Relaxed);
            }
            return None;
        }
        Some(())
    }

    #[cold]
    fn grow(&self, state: &mut ClassState) -> Option<()> {
        let slots = (ARENA_MIN / self.stride()).max(1);
        let bytes = slots * self.stride();
        let budget = &self.budget;
        budget
            .reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |reserved| {
                Some(reserved + bytes).filter(|&sum| sum <= budget.limit)
            })
            .ok()?;
        let Ok(mut map) = memmap2::MmapMut::map_anon(bytes) else {
            budget.reserved.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        };
        let start = map.as_mut_ptr();
        let arena = state.arenas.len() as u32;
        state.arenas.push(Arena { map, registrations: Vec::new() });
        for at in (0..slots).rev() {
            // SAFETY: `at * stride` is inside the map just made. A map is page aligned and HEADER and every slot
            // size are multiples of 64, so the header is aligned; nobody else knows the memory. Test:
            // `slots_do_not_overlap` under Miri.
            let header = unsafe {
                let header = start.add(at * self.stride()).cast::<Header>();
                header.write(Header { references: AtomicU32::new(0), arena });
                NonNull::new_unchecked(header)
            };
            state.vacant.push(VacantSlot(header));
        }
        Some(())
    }

    #[cold]
    fn key(&self, slot: &Slot, domain: &Arc<dyn MemoryDomain>) -> Option<Key> {
        let mut state = self.lock();
        let registration = state.arenas[slot.header().arena as usize].register(domain)?;
        let address = slot.start().as_ptr() as u64;
        Some(Key { address, local: registration.local, remote: registration.remote })
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        // The last slot has come home: a lent slot holds the class.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for arena in state.arenas.drain(..) {
            self.budget.reserved.fetch_sub(arena.map.len(), Ordering::Relaxed);
            for (domain, registration) in arena.registrations {
                domain.unregister(registration);
            }
        }
    }
}

/// A shared, read-only slot.
pub(crate) struct Slot {
    class: Arc<Class>,
    header: NonNull<Header>,
    len: usize,
}

// SAFETY: the header's count is atomic and the bytes are read-only while shared. Test: `slots_cross_threads`.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    fn header(&self) -> &Header {
        // SAFETY: the arena lives as long as `class`, and headers are only ever shared. Test: `slots_cross_threads`.
        unsafe { self.header.as_ref() }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: the slot's bytes follow its header inside the same arena. Test: `slots_do_not_overlap`.
        unsafe { self.header.cast::<u8>().add(HEADER) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn key(&self, domain: &Arc<dyn MemoryDomain>) -> Option<Key> {
        self.class.key(self, domain)
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        self.header().references.fetch_add(1, Ordering::Relaxed);
        Self { class: self.class.clone(), header: self.header, len: self.len }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // 0 means one owner, so that a slot that is never shared never counts. Acquire: what other owners read must
        // have been read before the slot is lent again.
        let count = &self.header().references;
        if count.load(Ordering::Acquire) != 0 && count.fetch_sub(1, Ordering::AcqRel) != 0 {
            return;
        }
        count.store(0, Ordering::Relaxed);
        self.class.lent.fetch_sub(1, Ordering::Relaxed);
        self.class.lock().vacant.push(VacantSlot(self.header));
    }
}

impl Deref for Slot {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` never exceeds the slot, the arena lives as long as `class`, its pages start zeroed so every
        // byte is initialised, and nobody writes while the slot is shared. Test: `slots_cross_threads`.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }
}

/// A slot that one owner writes.
pub(crate) struct SlotMut(Slot);

impl SlotMut {
    pub(crate) fn freeze(mut self, len: usize) -> Slot {
        self.0.len = len.min(self.0.len);
        self.0
    }
    pub(crate) fn key(&self, domain: &Arc<dyn MemoryDomain>) -> Option<Key> {
        self.0.key(domain)
    }
}

impl Deref for SlotMut {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for SlotMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: a SlotMut is never cloned, so this is the only reference. Test: `slots_do_not_overlap`.
        unsafe { std::slice::from_raw_parts_mut(self.0.start().as_ptr(), self.0.len) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_class_fits_its_length() {
        let pool = FramePool::new(64 << 20);
        for len in [0, 1, 256, 257, 1024, 1025, 65_536, 65_537, SLOT_MAX] {
            assert_eq!(pool.take(len).unwrap().len(), len);
        }
        assert!(pool.take(SLOT_MAX + 1).is_none());
        assert_eq!(pool.usage().lent_slots, 0);
    }

    #[test]
    fn slots_do_not_overlap() {
        let pool = FramePool::new(1 << 20);
        let mut frames: Vec<_> = (0..40u8).map(|at| (at, pool.take(300).unwrap())).collect();
        for (at, frame) in &mut frames {
            frame.fill(*at);
        }
        for (at, frame) in frames {
            assert!(frame.freeze().iter().all(|byte| *byte == at));
        }
        assert_eq!(pool.usage().lent_slots, 0);
    }

    #[test]
    fn the_budget_holds_and_slots_come_home() {
        let pool = FramePool::new(ARENA_MIN);
        let mut out = Vec::new();
        while let Some(frame) = pool.take(16_000) {
            out.push(frame.freeze());
        }
        assert_eq!(out.len(), ARENA_MIN / (16_384 + HEADER));
        assert!(pool.take_or_own(16_000).is_some());
        let copy = out[0].clone();
        out.clear();
        assert_eq!(pool.usage().lent_slots, 1);
        drop(copy);
        assert_eq!(pool.usage().lent_slots, 0);
        assert!(pool.usage().reserved_bytes <= ARENA_MIN);
    }

    #[test]
    fn slots_cross_threads() {
        let pool = FramePool::new(1 << 20);
        let mut frame = pool.take(1000).unwrap();
        frame.fill(9);
        let frame = frame.freeze();
        drop(pool);
        let others: Vec<_> = (0..4)
            .map(|_| {
                let frame = frame.clone();
                std::thread::spawn(move || assert_eq!(frame, &[9; 1000]))
            })
            .collect();
        drop(frame);
        others.into_iter().for_each(|other| other.join().unwrap());
    }

    #[derive(Debug)]
    struct Counting(DomainId, AtomicU64, AtomicBool);
    impl MemoryDomain for Counting {
        fn id(&self) -> DomainId {
            self.0
        }
        fn register(&self, start: *const u8, _len: usize) -> Result<Registration, RegisterError> {
            if self.2.load(Ordering::Relaxed) {
                return Err(RegisterError("no more".to_owned()));
            }
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(Registration { local: start as u64, remote: 5 })
        }
        fn unregister(&self, _: Registration) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn arenas_register_lazily_once_per_domain_and_unregister_when_they_go() {
        let pool = FramePool::new(1 << 20);
        let counting = Arc::new(Counting(DomainId::unique(), AtomicU64::new(0), AtomicBool::new(false)));
        let domain: Arc<dyn MemoryDomain> = counting.clone();
        let (a, b) = (pool.take(100).unwrap(), pool.take(60).unwrap().freeze());
        assert_eq!(counting.1.load(Ordering::Relaxed), 0);
        assert_eq!(a.key(&domain).unwrap().remote, 5);
        assert!(pool.take(200).unwrap().freeze().key(&domain).is_some());
        assert!(b.key(&domain).is_none(), "an inline frame is not registered memory");
        assert_eq!(counting.1.load(Ordering::Relaxed), 1);
        drop((a, pool));
        assert_eq!(counting.1.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_domain_gets_slots_that_it_knows() {
        let pool = FramePool::new(1 << 20);
        let counting = Arc::new(Counting(DomainId::unique(), AtomicU64::new(0), AtomicBool::new(false)));
        let domain: Arc<dyn MemoryDomain> = counting.clone();
        let few: Vec<_> = std::iter::from_fn(|| {
            let frame = pool.take_for(60_000, &domain)?;
            counting.2.store(true, Ordering::Relaxed);
            Some(frame)
        })
        .collect();
        assert!(few.len() > 1 && few.iter().all(|frame| frame.key(&domain).is_some()));
        let reserved = pool.usage().reserved_bytes;
        assert!(pool.take_for(60_000, &domain).is_none());
        assert_eq!(pool.usage().reserved_bytes, reserved, "what nobody can use was kept");
        // Slots of another arena, which the domain cannot have, hide none that it has.
        let others: Vec<_> = (0..3).map(|_| pool.take(60_000).unwrap()).collect();
        let count = few.len();
        drop(few);
        drop(others);
        let again: Vec<_> = std::iter::from_fn(|| pool.take_for(60_000, &domain)).collect();
        assert_eq!(again.len(), count);
        assert!(again.iter().all(|frame| frame.key(&domain).is_some()));
        drop((again, pool));
        assert_eq!(counting.1.load(Ordering::Relaxed), 0);
    }
}
