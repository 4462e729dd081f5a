//! verbs:// for fabriq: RC queue pairs on InfiniBand, RoCE and iWARP, through libraries that are loaded at run time.
//! Knows no patterns or sockets; what goes over the wire is `packet-protocol`'s.
//!
//! ```text
//! sys        libibverbs and librdmacm as C has them
//! device     the same as safe types: who owns what, and in which order it goes
//! transport  the scheme, and what a host needs for it
//! options    what verbs:// URLs say that no others do
//! verbs      the boundary below the links' driver (`rdma-links`) on real hardware
//! preflight  why a host cannot run verbs://
//! ```
//!
//! `unsafe` is in `sys` and `device` only.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod device;
mod limits;
mod local;
mod options;
mod preflight;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod sys;
mod transport;
pub mod verbs;

pub use local::device_address;
pub use options::VerbsOptions;
pub use preflight::{Unavailable, why_unavailable};
/// The boundary that [`verbs`] implements, and whose terms [`device`] speaks.
pub use rdma_links::fabric;
pub use transport::VerbsTransport;
