//! Protection domains: which memory a device may touch. Registers whole arenas for the pools above, and single frames
//! for one use. Posts nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transport_core::{DomainId, Frame, Key, MemoryDomain, RegisterError, Registration};

use super::{Context, last_failure};
use crate::fabric::{Failure, Hold, Memory, Pin, Reach};
use crate::limits::{REFUSALS_PER_ASK, REGISTER_ALONE_MIN};
use crate::preflight::locked_memory_remedy;
use crate::sys;

/// A protection domain (ibv_alloc_pd(3)) and the memory registered with it. Pools keep it for as long as their arenas
/// live, which may be the life of the process: so it can be closed, and what remains of it then refuses. Thread-safe.
pub struct ProtectionDomain {
    id: DomainId,
    /// What a READ's target must allow.
    target_access: u32,
    fork_is_ours: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    domain: Option<Arc<RawDomain>>,
    /// By local key.
    regions: BTreeMap<u32, Region>,
    /// The length that was refused last, and how often as much has been asked for since.
    refused: Option<(usize, RegisterError)>,
    refusals: u32,
}

/// The domain itself, held by all that was made from it.
pub(super) struct RawDomain {
    context: Context,
    domain: NonNull<sys::ibv_pd>,
}

// SAFETY: libibverbs may be called for one domain from any thread, and nothing here is written.
unsafe impl Send for RawDomain {}
// SAFETY: as above.
unsafe impl Sync for RawDomain {}

impl RawDomain {
    pub(super) fn raw(&self) -> *mut sys::ibv_pd {
        self.domain.as_ptr()
    }
    pub(super) fn context(&self) -> &Context {
        &self.context
    }
}

impl Drop for RawDomain {
    fn drop(&mut self) {
        if self.context.is_ours() {
            // SAFETY: nobody else has the domain: regions and queue pairs held it.
            unsafe { self.context.verbs().ibv_dealloc_pd(self.raw()) };
        }
    }
}

/// A memory region (ibv_reg_mr(3)).
pub(super) struct Region {
    domain: Arc<RawDomain>,
    region: NonNull<sys::ibv_mr>,
}

// SAFETY: a region is a name of the device's; only `Drop` uses the pointer.
unsafe impl Send for Region {}

impl Region {
    fn new(domain: &Arc<RawDomain>, start: *const u8, len: usize, access: u32) -> Result<Self, Failure> {
        // SAFETY: the domain is alive. To register memory makes nobody touch it: that takes a work request or a peer's
        // READ, and both are given the key only while the memory is alive.
        let region = unsafe {
            sys::reg_mr(domain.context.verbs(), domain.raw(), start.cast_mut().cast(), len, access)
        };
        match NonNull::new(region) {
            Some(region) => Ok(Self { domain: domain.clone(), region }),
            None => {
                let mut failure = last_failure("ibv_reg_mr");
                if failure.errno == libc::ENOMEM {
                    failure.remedy = Some(locked_memory_remedy());
                }
                Err(failure)
            }
        }
    }

    pub(super) fn local_key(&self) -> u32 {
        // SAFETY: the region is alive until `Drop`.
        unsafe { self.region.as_ref().lkey }
    }

    fn remote_key(&self) -> u32 {
        // SAFETY: the region is alive until `Drop`.
        unsafe { self.region.as_ref().rkey }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.domain.context.is_ours() {
            // SAFETY: the region is alive and nobody uses it after this. A failure leaves it with the device, whose
            // keys to it nobody gives out any more.
            unsafe { self.domain.context.verbs().ibv_dereg_mr(self.region.as_ptr()) };
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({:#x})", self.local_key())
    }
}

impl ProtectionDomain {
    /// A new domain of a device, with nothing in it.
    pub fn new(context: &Context) -> Result<Arc<Self>, Failure> {
        // SAFETY: the context is open.
        let domain = unsafe { context.verbs().ibv_alloc_pd(context.raw()) };
        let domain = NonNull::new(domain).ok_or_else(|| last_failure("ibv_alloc_pd"))?;
        let raw = Arc::new(RawDomain { context: context.clone(), domain });
        let mut target_access = sys::IBV_ACCESS_LOCAL_WRITE;
        if context.info().is_iwarp {
            // The answer to a READ is a tagged message to the target (RFC 5040 section 5.2), which is as good as a
            // WRITE.
            target_access |= sys::IBV_ACCESS_REMOTE_WRITE;
        }
        let state = State { domain: Some(raw), ..State::default() };
        let fork_is_ours = is_fork_ours(context);
        let id = DomainId::unique();
        Ok(Arc::new(Self { id, target_access, fork_is_ours, state: Mutex::new(state) }))
    }

    /// This domain as the boundary has it.
    pub fn memory(self: &Arc<Self>) -> Memory {
        Memory::new(self.clone(), Arc::new(Pins(self.clone())))
    }

    /// Gives every region up. What was registered can no longer be reached, and nothing new is registered: for a device
    /// that is lost, and before a context is closed.
    pub fn close(&self) {
        let mut state = self.lock();
        let gone = (state.domain.take(), std::mem::take(&mut state.regions));
        drop(state);
        drop(gone);
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        self.lock().regions.len()
    }

    /// Why memory was refused, the last time it was.
    pub fn last_refusal(&self) -> Option<RegisterError> {
        self.lock().refused.as_ref().map(|(_, error)| error.clone())
    }

    pub(super) fn raw(&self) -> Result<Arc<RawDomain>, Failure> {
        self.lock().domain.clone().ok_or(CLOSED)
    }

    /// Registers memory for one use. The caller keeps it alive until the region is dropped.
    pub(super) fn register_alone(
        &self,
        start: *const u8,
        len: usize,
        access: u32,
    ) -> Result<Region, Failure> {
        Region::new(&self.raw()?, start, len, access)
    }

    /// Registers some memory and gives it up again, to see whether that is possible.
    pub fn try_register(&self, memory: &[u8]) -> Result<(), Failure> {
        Region::new(&self.raw()?, memory.as_ptr(), memory.len(), sys::IBV_ACCESS_REMOTE_READ).map(drop)
    }

    /// What a READ's target must allow.
    pub(super) const fn target_access(&self) -> u32 {
        self.target_access
    }

    /// Whether what arenas allow is enough for a READ's target. Where it takes more (iWARP), only the target of one
    /// READ has it, for as long as that takes: no peer may ever write to an arena.
    pub(super) const fn arenas_are_targets(&self) -> bool {
        self.target_access == sys::IBV_ACCESS_LOCAL_WRITE
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device may write to arenas, and peers who know the key may read them.
const ARENA_ACCESS: u32 = sys::IBV_ACCESS_LOCAL_WRITE | sys::IBV_ACCESS_REMOTE_READ;

const CLOSED: Failure = Failure::new("ibv_reg_mr", libc::ENODEV);

impl MemoryDomain for ProtectionDomain {
    fn id(&self) -> DomainId {
        self.id
    }

    fn register(&self, start: *const u8, len: usize) -> Result<Registration, RegisterError> {
        let mut state = self.lock();
        // Every frame of an arena that was refused asks again; the system need not be asked each time.
        if let Some((least, error)) = &state.refused
            && len >= *least
            && !state.refusals.is_multiple_of(REFUSALS_PER_ASK)
        {
            let error = error.clone();
            state.refusals = state.refusals.wrapping_add(1);
            return Err(error);
        }
        let registered = match &state.domain {
            Some(domain) => Region::new(domain, start, len, ARENA_ACCESS),
            None => Err(CLOSED),
        };
        match registered {
            Ok(region) => {
                if self.fork_is_ours {
                    keep_from_children(start, len);
                }
                let (local, remote) = (region.local_key(), region.remote_key());
                state.regions.insert(local, region);
                (state.refused, state.refusals) = (None, 0);
                Ok(Registration { local: local.into(), remote: remote.into() })
            }
            Err(failure) => {
                let error = RegisterError(format!("{len} bytes: {failure}"));
                state.refused = Some((len, error.clone()));
                state.refusals = state.refusals.wrapping_add(1);
                Err(error)
            }
        }
    }

    fn unregister(&self, registration: Registration) {
        let mut state = self.lock();
        let gone = state.regions.remove(&(registration.local as u32));
        // There may be room now for what was refused.
        (state.refused, state.refusals) = (None, 0);
        drop(state);
        drop(gone);
    }
}

impl fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtectionDomain({:?}, {} regions)", self.id, self.regions())
    }
}

/// Registers single frames, for which their pool has no key.
#[derive(Debug)]
struct Pins(Arc<ProtectionDomain>);

impl Pin for Pins {
    fn pin(&self, frame: &Frame, key: Option<Key>, reach: Reach) -> Option<(Key, Option<Box<dyn Hold>>)> {
        if let Some(key) = key {
            return Some((key, None));
        }
        if reach == Reach::Device || frame.len() < REGISTER_ALONE_MIN {
            return None;
        }
        let mut state = self.0.lock();
        let domain = state.domain.as_ref()?;
        // Not writable for anybody, so that read-only memory is as good.
        let region = Region::new(domain, frame.as_ptr(), frame.len(), sys::IBV_ACCESS_REMOTE_READ).ok()?;
        let (local, remote) = (region.local_key(), region.remote_key());
        state.regions.insert(local, region);
        drop(state);
        let registration = Registration { local: local.into(), remote: remote.into() };
        let key = Key { address: frame.as_ptr().addr() as u64, local: local.into(), remote: remote.into() };
        Some((key, Some(Box::new(Alone { domain: self.0.clone(), registration }))))
    }
}

/// A registration for one frame.
#[derive(Debug)]
struct Alone {
    domain: Arc<ProtectionDomain>,
    registration: Registration,
}

impl Hold for Alone {}
impl Drop for Alone {
    fn drop(&mut self) {
        // After a close there is nothing left of it, and its key may be somebody else's by now only in another domain.
        self.domain.unregister(self.registration);
    }
}

/// Whether a fork would take pages away from under a device, and libibverbs does nothing against it (ibv_fork_init(3)):
/// kernels before 5.12 make registered pages copy-on-write, so that the parent's next write leaves the device with the
/// child's copy.
fn is_fork_ours(context: &Context) -> bool {
    match context.libraries().is_fork_initialized {
        // SAFETY: the function takes nothing and only reads.
        Some(call) => unsafe { call() == sys::IBV_FORK_DISABLED },
        None => true,
    }
}

/// Keeps an arena out of forked children. A child that touches it dies; without this, the parent would read old bytes.
fn keep_from_children(start: *const u8, len: usize) {
    // SAFETY: the caller registers a live arena, which is a map of its own. The advice changes nothing in this process.
    // Where it is refused, everything works but for a fork.
    unsafe {
        let _ = rustix::mm::madvise(start.cast_mut().cast(), len, rustix::mm::Advice::LinuxDontFork);
    }
}
