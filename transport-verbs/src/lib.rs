//! verbs:// for fabriq: RC queue pairs on InfiniBand, RoCE and iWARP, through libraries that are loaded at run time. So
//! far what a driver stands on; knows no packets, patterns or sockets.
//!
//! ```text
//! sys        libibverbs and librdmacm as C has them
//! device     the same as safe types: who owns what, and in which order it goes
//! fabric     the boundary: what a driver asks of RDMA hardware, as traits that a simulation can implement too
//! verbs      the boundary on real hardware
//! simulated  the boundary in memory, with faults (feature `simulated`)
//! preflight  why a host cannot run verbs://
//! ```
//!
//! `unsafe` is in `sys` and `device` only.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod device;
pub mod fabric;
mod limits;
mod preflight;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod sys;
pub mod verbs;

pub use limits::PRIVATE_DATA_MAX;
pub use preflight::{Unavailable, why_unavailable};
