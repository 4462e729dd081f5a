//! libibverbs and librdmacm behind safe types. Every object holds what it stands on, so that they are destroyed in
//! order whoever drops what first; memory that a device may touch belongs to the queue it was posted to until it comes
//! back.
//!
//! ```text
//! Context            an opened device, with its asynchronous events
//!   ProtectionDomain arenas and single frames registered with it; MemoryDomain for the pools above
//!   CompletionChannel, CompletionQueue
//!   SharedReceiveQueue
//!   QueuePair        RC; its Sender collects work requests and rings once
//! EventChannel       the connection manager's events
//!   CmId             listens, dials, accepts; brings a QueuePair to the states that a connection goes through
//! ```
//!
//! Everything is `Send`; objects that change (`&mut self`) have one owner. Descriptors are non-blocking. Events are
//! acknowledged as they are read, so that no destruction waits for one. In a forked child nothing is destroyed: the
//! objects in the kernel are the parent's.

mod channel;
mod completion;
mod context;
mod domain;
mod identity;
mod queue_pair;
mod sender;
mod shared_receive;

pub(crate) use channel::without_port;
pub use channel::{CmEvent, CmEventKind, CmId, EventChannel};
pub use completion::{Batch, CompletionChannel, CompletionQueue, WorkCompletion};
pub use context::{AsyncEvent, Context, Port, device_names};
pub use domain::ProtectionDomain;
pub use queue_pair::{Cookie, QueuePair};
pub use sender::{Chain, PostSender};
pub use shared_receive::SharedReceiveQueue;

use crate::fabric::Failure;

/// The failure of a call that left its reason in `errno`.
fn last_failure(call: &'static str) -> Failure {
    Failure::new(call, std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// For calls that return -1 and set `errno`.
fn check(call: &'static str, result: i32) -> Result<(), Failure> {
    if result == -1 { Err(last_failure(call)) } else { check_errno(call, result) }
}

/// For calls that return an errno.
fn check_errno(call: &'static str, result: i32) -> Result<(), Failure> {
    if result == 0 { Ok(()) } else { Err(Failure::new(call, result.abs())) }
}

/// The process that made an object. A forked child has a copy of the object, and none of the right to destroy it.
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
