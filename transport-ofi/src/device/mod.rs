//! libfabric behind safe types. Every object holds what it stands on, so that they are closed in order whoever drops
//! what first; memory that a provider may touch belongs to the endpoint it was posted to until it comes back.
//!
//! ```text
//! Info               what a provider offers for an address (fi_getinfo)
//! Fabric             a network of one provider
//!   EventQueue       what happens to connections
//!   Listener         accepts connections (a passive endpoint)
//!   Domain           a device: arenas and single frames registered with it; MemoryDomain for the pools above
//!     CompletionQueue
//!     AddressVector  the names of peers, for endpoints without connections
//!     Endpoint       FI_EP_MSG, connected, or FI_EP_RDM; with everything that is posted to it
//! Process            a peer on this host, whose memory the kernel copies
//! ```
//!
//! Everything is `Send`; objects that change (`&mut self`) have one owner. Nothing blocks. Providers are asked for
//! FI_THREAD_SAFE, so that memory may be registered from any thread while others send. In a forked child nothing is
//! closed: devices are the parent's.

mod address;
mod arena;
mod completion;
mod domain;
mod endpoint;
mod event_queue;
mod fabric;
mod failure;
mod info;
mod listener;
mod memory;
mod posting;
mod process;
mod resident;
mod wake;

use std::hash::{BuildHasher, Hasher, RandomState};

pub use address::{Address, AddressVector, Peer};
pub use completion::{Batch, Completion, CompletionQueue};
pub use domain::Domain;
pub use endpoint::{Endpoint, Limits, Queues, Shape};
pub use event_queue::{Event, EventKind, EventQueue};
pub use fabric::Fabric;
pub use failure::{Failure, os_errno};
pub use info::{At, Info, Kind, Query};
pub use listener::{Listener, Request};
pub use memory::{Buffer, Pinned, Reach, Remote, Splice};
pub use posting::{PostError, Work};
pub use process::{Process, Standing, Witness};
pub use rdma_links::fabric::TargetId;

/// The process that made an object. A forked child has a copy of the object, and none of the right to close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Maker(u32);

impl Maker {
    fn here() -> Self {
        Self(std::process::id())
    }
    fn is_here(self) -> bool {
        self == Self::here()
    }
}

/// A struct for the library to read or fill in, with zeros behind it: newer headers have given some of them a longer
/// tail, in which zeros mean what was meant before.
#[repr(C)]
struct Tailed<T> {
    value: T,
    tail: [u64; 16],
}

impl<T> Tailed<T> {
    /// All zeros.
    ///
    /// # Safety
    /// Zeros are a `T`.
    unsafe fn zeroed() -> Self {
        // SAFETY: the caller's promise; the tail is plain numbers.
        unsafe { std::mem::zeroed() }
    }

    const fn as_mut_ptr(&mut self) -> *mut T {
        std::ptr::from_mut(self).cast()
    }
}

/// A number that nobody guesses: seeded by the system, and what it makes of its seed and nothing else is as random as a hash can
/// be.
fn unguessable() -> u64 {
    RandomState::new().build_hasher().finish()
}
