//! Links of the packet protocol on any fabric that has queue pairs and READ: what `verbs://` and `ofi://` have in common. Knows
//! no library and no device; what goes over the wire is `packet-protocol`'s.
//!
//! ```text
//! fabric     the boundary: what a driver asks of RDMA hardware, as traits
//! driver     opens, links and their timers, on any fabric
//! address    host:port and options, as they stand in the URLs of either scheme
//! simulated  the boundary in memory, with faults (feature `simulated`)
//! ```
//!
//! A transport brings a [`fabric::Fabric`] and the [`UrlOptions`] of its scheme, and has its driver from [`driver()`].
//! `tests/contract` is what every fabric promises, as tests that run on any.

#![forbid(unsafe_code)]

mod address;
mod driver;
pub mod fabric;
pub mod limits;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;

pub use address::{UrlOptions, capabilities, option_number};
pub use driver::driver;
pub use limits::PRIVATE_DATA_MAX;
