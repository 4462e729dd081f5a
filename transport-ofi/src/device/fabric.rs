//! A network of one provider (fi_fabric(3)). Everything else stands on one.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Maker;
use super::failure::{Failure, check};
use super::info::Info;
use super::wake::{Wake, stays_set};
use crate::sys::{self, Library};

/// A network of one provider. Clones share it; the last one closes it. Thread-safe.
#[derive(Clone)]
pub struct Fabric(Arc<RawFabric>);

pub(super) struct RawFabric {
    library: &'static Library,
    fabric: NonNull<sys::fid_fabric>,
    maker: Maker,
    provider: String,
    /// Whether descriptors of its queues stay readable; see `wake.rs`.
    signals_stay: bool,
}

// SAFETY: libfabric may be called for one fabric from any thread, and nothing here is written.
unsafe impl Send for RawFabric {}
// SAFETY: as above.
unsafe impl Sync for RawFabric {}

impl RawFabric {
    pub(super) fn raw(&self) -> *mut sys::fid_fabric {
        self.fabric.as_ptr()
    }
    pub(super) fn library(&self) -> &'static Library {
        self.library
    }
    /// Whether peers in one process have their memory in common; see `resident.rs`.
    pub(super) fn shares_memory(&self) -> bool {
        self.provider == "shm" || self.provider == "sm2"
    }
    /// Whether this process opened it; if not, it is a fork's copy.
    pub(super) fn is_ours(&self) -> bool {
        self.maker.is_here()
    }

    /// The descriptor of a queue (fi_control(3), FI_GETWAIT), if it has one.
    ///
    /// # Safety
    /// The queue is alive, of this fabric, was opened with FI_WAIT_FD, and outlives the result.
    pub(super) unsafe fn wake(&self, queue: *mut sys::fid) -> Option<Wake> {
        let mut fd = -1;
        // SAFETY: the caller's promise.
        unsafe {
            let result = sys::fi_getwait(queue, &mut fd);
            (result == 0 && fd >= 0).then(|| Wake::new(fd, self.signals_stay)).and_then(Result::ok)
        }
    }

    /// Whether the caller may sleep on the descriptor of a queue, once it has looked and found nothing (fi_trywait(3)).
    ///
    /// # Safety
    /// The queue is alive, of this fabric, and has a descriptor: some providers look for it without asking.
    pub(super) unsafe fn arm(&self, queue: *mut sys::fid, wake: &Wake) -> Result<bool, Failure> {
        wake.forget();
        let mut queue = queue;
        // SAFETY: the caller's promise; one queue is given.
        match unsafe { sys::fi_trywait(self.raw(), &mut queue, 1) } {
            0 => Ok(true),
            code if code == -(sys::FI_EAGAIN as i32) => Ok(false),
            code => Err(Failure::new("fi_trywait", code)),
        }
    }
}

impl Drop for RawFabric {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: nobody else has the fabric: what was made from it held it.
            unsafe { sys::fi_close(self.fabric.cast().as_ptr()) };
        }
    }
}

impl Fabric {
    /// Opens the network of an offer.
    pub fn open(info: &Info) -> Result<Self, Failure> {
        let library = info.library();
        let mut fabric = std::ptr::null_mut();
        // SAFETY: the offer is alive and has what fi_getinfo(3) put into it.
        let result = unsafe {
            library.ofi.fi_fabric(info.attributes().fabric_attr, &mut fabric, std::ptr::null_mut())
        };
        check("fi_fabric", result)?;
        let fabric = NonNull::new(fabric).ok_or_else(|| Failure::new("fi_fabric", sys::FI_EOTHER))?;
        let provider = info.provider().to_owned();
        let signals_stay = stays_set(info);
        let maker = Maker::here();
        Ok(Self(Arc::new(RawFabric { library, fabric, maker, provider, signals_stay })))
    }

    /// The provider's name, such as `tcp;ofi_rxm`.
    pub fn provider(&self) -> &str {
        &self.0.provider
    }

    /// Whether its endpoints use their peers' memory, and so may have to outlast their owners: such an endpoint needs a completion
    /// queue to itself, since whoever polls the queue moves them all.
    pub fn shares_memory(&self) -> bool {
        self.0.shares_memory()
    }

    pub(super) fn share(&self) -> Arc<RawFabric> {
        self.0.clone()
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fabric({})", self.provider())
    }
}
