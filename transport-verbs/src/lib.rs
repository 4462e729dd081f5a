//! verbs:// for fabriq: RC queue pairs on InfiniBand, RoCE and iWARP, through libraries that are loaded at run time.
//! Knows no patterns or sockets; what goes over the wire is `packet-protocol`'s.
//!
//! ```text
//! sys        libibverbs and librdmacm as C has them
//! device     the same as safe types: who owns what, and in which order it goes
//! transport  the scheme, and what a host needs for it
//! address    verbs:// addresses and their options
//! driver     opens, links and their timers, on any fabric
//! fabric     the boundary: what a driver asks of RDMA hardware, as traits that a simulation can implement too
//! verbs      the boundary on real hardware
//! simulated  the boundary in memory, with faults (feature `simulated`)
//! preflight  why a host cannot run verbs://
//! ```
//!
//! `unsafe` is in `sys` and `device` only.

#![deny(unsafe_code)]

mod address;
#[allow(unsafe_code)]
pub mod device;
mod driver;
pub mod fabric;
mod limits;
mod local;
mod preflight;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod sys;
mod transport;
pub mod verbs;

pub use limits::PRIVATE_DATA_MAX;
pub use local::device_address;
pub use preflight::{Unavailable, why_unavailable};
pub use transport::VerbsTransport;
#[doc(hidden)]
pub use transport::driver;
