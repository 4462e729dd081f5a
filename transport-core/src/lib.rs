//! The seam of fabriq: the words and traits that a transport implements. Names no transport, reads no clock.
//!
//! A message goes through it like this. The engine asks a [`Transport`] for a [`Driver`] once, then posts and polls:
//!
//! ```text
//! open(Open) ........... Bound | Failed          one endpoint URL, bound or dialled
//!                        Up                      a link exists; both sides have said Hello
//! grant(link, n)
//! post_send(link, part)                          never blocks, never calls back
//! flush()                                        one doorbell, one writev, one sendmmsg for many posts
//! poll(now, out) ....... Received, Sent, Writable, Gap, Returned
//! close_link(link) ..... Down                    exactly once, and the last word about the link
//! ```
//!
//! The contract of each step stands at its method in [`Driver`]; the testkit's conformance suite holds every
//! transport to it.

mod capability;
mod deferral;
mod driver;
mod endpoint;
mod error;
mod frame;
mod landing;
pub mod limits;
mod part;
mod pool;
mod slab;

pub use capability::{Capabilities, Delivery, Flow, Loss, SessionKind, Topology};
pub use deferral::{Deferral, defer_call};
pub use driver::{
    Armed, Close, Completion, Device, Driver, DriverEnv, Grant, Hello, Identity, Keepalive, LinkLimits,
    MechanismName, Open, PeerInfo, Progress, Recovery, Refused, RefusedReason, Role, Transport, Tuning, Wake,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{DownReason, OpenError, Violation};
pub use frame::{Frame, FrameMut, INLINE_MAX};
pub use landing::{Landing, Target};
pub use part::{Flags, Part};
pub use pool::{DomainId, FramePool, Key, MemoryDomain, PoolUsage, RegisterError, Registration};
pub use slab::{LinkId, OpenId, Slab, SlabKey};
