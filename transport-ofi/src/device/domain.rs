//! Domains (fi_domain(3)): which memory a provider may touch. Registers whole arenas for the pools above, and single
//! frames for one use (fi_mr(3)). Posts nothing.
//!
//! Providers differ in what they want: that everything they touch is registered (FI_MR_LOCAL) or only what peers
//! READ; that peers name memory by its address (FI_MR_VIRT_ADDR) or by its offset in a registration; that they choose
//! the keys (FI_MR_PROV_KEY) or that we do. Above this file a local key is a number that only this domain
//! understands, so that one that is wrong is refused here and never reaches a provider, which would follow it as a
//! pointer.

use std::collections::BTreeMap;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rdma_links::fabric::{Hold, Memory, Pin};
use transport_core::{DomainId, Frame, FrameMut, Key, MemoryDomain, RegisterError, Registration};

use super::fabric::{Fabric, RawFabric};
use super::failure::{Failure, check};
use super::info::Info;
use super::memory::{Buffer, Pinned, Reach};
use super::{Maker, unguessable};
use crate::limits::{KEYS_TRIED, REFUSALS_PER_ASK, REGISTER_ALONE_MIN};
use crate::sys;

/// A domain and the memory registered with it. Clones share it. Pools keep it for as long as their arenas live, which
/// may be the life of the process: so it can be closed, and what remains of it then refuses. Thread-safe.
#[derive(Clone)]
pub struct Domain {
    shared: Arc<Shared>,
    /// The same, as pools and drivers have it.
    memory: Memory,
}

struct Shared {
    id: DomainId,
    state: Mutex<State>,
    /// Outlives `state`'s, while something stands on it.
    raw: Weak<RawDomain>,
    terms: Terms,
}

#[derive(Default)]
struct State {
    domain: Option<Arc<RawDomain>>,
    /// The length that was refused last, and how often as much has been asked for since.
    refused: Option<(usize, RegisterError)>,
    refusals: u32,
}

/// What the provider wants of memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) registers_local: bool,
    pub(super) reads: bool,
    reads_by_address: bool,
    chooses_keys: bool,
    key_len: usize,
}

/// The domain itself, held by all that was made from it.
pub(super) struct RawDomain {
    domain: NonNull<sys::fid_domain>,
    terms: Terms,
    /// By local key.
    regions: Mutex<BTreeMap<u64, Region>>,
    fabric: Arc<RawFabric>,
}

// SAFETY: the domain is FI_THREAD_SAFE, and what is here besides has a lock or is never written.
unsafe impl Send for RawDomain {}
// SAFETY: as above.
unsafe impl Sync for RawDomain {}

/// A memory region. Closed by whoever has it, before its domain.
struct Region {
    region: NonNull<sys::fid_mr>,
    start: u64,
    maker: Maker,
}

// SAFETY: a region is a name of the provider's; only `Drop` uses the pointer, and the domain is FI_THREAD_SAFE.
unsafe impl Send for Region {}

impl Region {
    fn descriptor(&self) -> *mut std::ffi::c_void {
        // SAFETY: the region is alive until `Drop`; its descriptor is set when it is made.
        unsafe { self.region.as_ref().mem_desc }
    }
    fn key(&self) -> u64 {
        // SAFETY: as above.
        unsafe { self.region.as_ref().key }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.maker.is_here() {
            // SAFETY: the region is alive and nobody uses it after this: what is posted keeps the memory in it, and
            // so the region. A failure leaves it with the provider, whose keys to it nobody gives out any more.
            unsafe { sys::fi_close(self.region.cast().as_ptr()) };
        }
    }
}

/// What a range of memory is registered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything: an arena.
    Arena,
    /// Being sent, and READ by peers. Nobody writes to it, so that read-only memory is as good.
    Source,
    /// Being the target of READs.
    Target,
}

impl Access {
    const fn to_raw(self, reads: bool) -> u64 {
        let sends = match self {
            Self::Arena => sys::FI_SEND | sys::FI_RECV,
            Self::Source => sys::FI_SEND,
            Self::Target => 0,
        };
        match self {
            _ if !reads => sends,
            Self::Arena => sends | sys::FI_READ | sys::FI_REMOTE_READ,
            Self::Source => sends | sys::FI_REMOTE_READ,
            Self::Target => sys::FI_READ,
        }
    }
}

impl RawDomain {
    pub(super) fn raw(&self) -> *mut sys::fid_domain {
        self.domain.as_ptr()
    }
    pub(super) fn fabric(&self) -> &Arc<RawFabric> {
        &self.fabric
    }
    pub(super) fn terms(&self) -> Terms {
        self.terms
    }
    /// Whether this process opened it; if not, it is a fork's copy.
    pub(super) fn is_ours(&self) -> bool {
        self.fabric.is_ours()
    }

    fn regions(&self) -> MutexGuard<'_, BTreeMap<u64, Region>> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers memory (fi_mr_reg(3)), which the caller keeps until `forget`.
    pub(super) fn register(
        &self,
        start: *const u8,
        len: usize,
        access: Access,
    ) -> Result<Registration, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let local = NEXT.fetch_add(1, Ordering::Relaxed);
        if !self.terms.registers_local && !self.terms.reads {
            // Nobody asks for it.
            return Ok(Registration { local, remote: 0 });
        }
        let mut tried = 0;
        let region = loop {
            let key = if self.terms.chooses_keys { 0 } else { random_key(self.terms.key_len) };
            let mut region = std::ptr::null_mut();
            // SAFETY: the domain is alive. To register memory makes nobody touch it: that takes a request or a peer's
            // READ, and both are given the key only while the memory is alive.
            let result = unsafe {
                let access = access.to_raw(self.terms.reads);
                let (start, context) = (start.cast(), std::ptr::null_mut());
                sys::fi_mr_reg(self.raw(), start, len, access, 0, key, 0, &mut region, context)
            };
            tried += 1;
            match NonNull::new(region) {
                Some(region) if result == 0 => break region,
                _ if result == -(sys::FI_ENOKEY as i32) && tried < KEYS_TRIED => {}
                _ => {
                    let failure = Failure::new("fi_mr_reg", if result < 0 { result } else { -libc::EIO });
                    return Err(if failure.errno == libc::ENOMEM {
                        failure.with_remedy(REMEDY)
                    } else {
                        failure
                    });
                }
            }
        };
        let region = Region { region, start: start.addr() as u64, maker: Maker::here() };
        let remote = region.key();
        self.regions().insert(local, region);
        Ok(Registration { local, remote })
    }

    /// Gives a registration up.
    pub(super) fn forget(&self, local: u64) {
        let region = self.regions().remove(&local);
        drop(region);
    }

    /// What the provider wants to hear of memory when it is posted; `None` for a key that is not this domain's. Null
    /// where it wants to hear nothing.
    #[inline]
    pub(super) fn descriptor(&self, local: u64) -> Option<*mut std::ffi::c_void> {
        if !self.terms.registers_local {
            return Some(std::ptr::null_mut());
        }
        self.regions().get(&local).map(Region::descriptor)
    }

    /// Where a peer finds the memory of a key: at its address, or at its offset in the registration. `None`: nowhere.
    fn remote(&self, key: Key) -> Option<Key> {
        if !self.terms.reads {
            return None;
        }
        if self.terms.reads_by_address {
            return Some(key);
        }
        let start = self.regions().get(&key.local)?.start;
        Some(Key { address: key.address.checked_sub(start)?, ..key })
    }
}

impl Drop for RawDomain {
    fn drop(&mut self) {
        let regions = self.regions.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(std::mem::take(regions));
        if self.fabric.is_ours() {
            // SAFETY: nobody else has the domain: queues, vectors and endpoints held it, and its regions are closed.
            unsafe { sys::fi_close(self.domain.cast().as_ptr()) };
        }
    }
}

/// A key that nobody guesses, of so many bytes.
fn random_key(len: usize) -> u64 {
    // Half of what there is: to some providers the highest bit means something, and all ones mean no key.
    unguessable() >> (u64::BITS.saturating_sub(8 * len.min(8) as u32) + 1).min(u64::BITS - 1)
}

const REMEDY: &str = "raise the limit of locked memory: `ulimit -l unlimited`, a line `* - memlock unlimited` in \
                      /etc/security/limits.conf, LimitMEMLOCK=infinity in a systemd unit, or `--ulimit memlock=-1` for a \
                      container";

impl Domain {
    /// Opens the domain of an offer.
    pub fn open(fabric: &Fabric, info: &Info) -> Result<Self, Failure> {
        let fabric = fabric.share();
        let mut domain = std::ptr::null_mut();
        // SAFETY: fabric and offer are alive.
        let result = unsafe { sys::fi_domain(fabric.raw(), info.raw(), &mut domain, std::ptr::null_mut()) };
        check("fi_domain", result)?;
        let domain = NonNull::new(domain).ok_or_else(|| Failure::new("fi_domain", sys::FI_EOTHER))?;
        let terms = Terms {
            registers_local: info.registers_local(),
            reads: info.reads(),
            reads_by_address: info.reads_by_address(),
            chooses_keys: info.chooses_keys(),
            key_len: info.key_len(),
        };
        let raw = Arc::new(RawDomain { domain, terms, regions: Mutex::default(), fabric });
        let shared = Arc::new(Shared {
            id: DomainId::unique(),
            raw: Arc::downgrade(&raw),
            state: Mutex::new(State { domain: Some(raw), ..State::default() }),
            terms,
        });
        Ok(Self { memory: Memory::new(shared.clone(), shared.clone()), shared })
    }

    /// The domain that arenas are registered with.
    pub const fn memory(&self) -> &Arc<dyn MemoryDomain> {
        self.memory.domain()
    }

    /// This domain as drivers have it.
    pub fn view(&self) -> Memory {
        self.memory.clone()
    }

    /// Whether what is sent from or received into must be registered (FI_MR_LOCAL).
    pub fn registers_local(&self) -> bool {
        self.shared.terms.registers_local
    }

    /// Registers nothing more from here on. What was registered stays so while something still stands on the domain: an
    /// endpoint may have it posted.
    pub fn close(&self) {
        let gone = self.shared.lock().domain.take();
        drop(gone);
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        self.shared.raw.upgrade().map_or(0, |raw| raw.regions().len())
    }

    /// Why memory was refused, the last time it was.
    pub fn last_refusal(&self) -> Option<RegisterError> {
        self.shared.lock().refused.as_ref().map(|(_, error)| error.clone())
    }

    /// Makes a frame a buffer. Gives it back if it is not in registered memory and cannot be.
    pub fn buffer(&self, frame: FrameMut) -> Result<Buffer, FrameMut> {
        self.memory.buffer(frame)
    }

    /// Makes a frame readable for our provider or a peer. Gives it back if it must be copied instead.
    pub fn pin(&self, frame: Frame, reach: Reach) -> Result<Pinned, Frame> {
        self.memory.pin(frame, reach)
    }

    pub(super) fn raw(&self) -> Result<Arc<RawDomain>, Failure> {
        self.shared.lock().domain.clone().ok_or_else(|| Failure::new("fi_domain", libc::ENODEV))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pin for Shared {
    fn pin(&self, frame: &Frame, key: Option<Key>, reach: Reach) -> Option<(Key, Option<Box<dyn Hold>>)> {
        // Inline bytes move with their frame.
        if frame.as_window().is_some() {
            return None;
        }
        let raw = self.raw.upgrade()?;
        if let Some(key) = key {
            let key = if reach == Reach::Peer { raw.remote(key)? } else { key };
            return Some((key, None));
        }
        if reach == Reach::Device && !self.terms.registers_local {
            // The provider sends from any memory.
            return Some((Key { address: frame.as_ptr().addr() as u64, local: 0, remote: 0 }, None));
        }
        let is_short = frame.len() < REGISTER_ALONE_MIN;
        if reach == Reach::Device || is_short || !self.terms.reads || self.lock().domain.is_none() {
            return None;
        }
        let it = raw.register(frame.as_ptr(), frame.len(), Access::Source).ok()?;
        let alone = Alone { domain: raw.clone(), local: it.local };
        let key = Key { address: frame.as_ptr().addr() as u64, local: it.local, remote: it.remote };
        Some((raw.remote(key)?, Some(Box::new(alone))))
    }
}

impl MemoryDomain for Shared {
    fn id(&self) -> DomainId {
        self.id
    }

    fn register(&self, start: *const u8, len: usize) -> Result<Registration, RegisterError> {
        let mut state = self.lock();
        // Every frame of an arena that was refused asks again; the provider need not be asked each time.
        if let Some((least, error)) = &state.refused
            && len >= *least
            && !state.refusals.is_multiple_of(REFUSALS_PER_ASK)
        {
            let error = error.clone();
            state.refusals = state.refusals.wrapping_add(1);
            return Err(error);
        }
        let registered = match &state.domain {
            Some(domain) => domain.register(start, len, Access::Arena),
            None => Err(Failure::new("fi_mr_reg", libc::ENODEV)),
        };
        match registered {
            Ok(registration) => {
                (state.refused, state.refusals) = (None, 0);
                Ok(registration)
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
        if let Some(raw) = self.raw.upgrade() {
            raw.forget(registration.local);
        }
        // There may be room now for what was refused.
        let mut state = self.lock();
        (state.refused, state.refusals) = (None, 0);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({:?}, {:?})", self.id, self.terms)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// A registration for one use; given up when it is dropped.
pub(super) struct Alone {
    domain: Arc<RawDomain>,
    local: u64,
}

impl Alone {
    /// Registers memory that the caller keeps until this is dropped, or posted until its endpoint is gone.
    pub(super) fn new(
        domain: &Arc<RawDomain>,
        start: *const u8,
        len: usize,
        access: Access,
    ) -> Result<Self, Failure> {
        let registration = domain.register(start, len, access)?;
        Ok(Self { domain: domain.clone(), local: registration.local })
    }

    pub(super) const fn local_key(&self) -> u64 {
        self.local
    }
}

impl Hold for Alone {}

impl Drop for Alone {
    fn drop(&mut self) {
        self.domain.forget(self.local);
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alone({})", self.local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fit_their_length_and_differ() {
        assert!((0..100).all(|_| random_key(4) < 1 << 31));
        assert!((0..100).all(|_| random_key(1) < 1 << 7));
        let keys: std::collections::BTreeSet<u64> = (0..1000).map(|_| random_key(8)).collect();
        assert_eq!(keys.len(), 1000);
    }
}
