//! ofi:// for fabriq: the fabrics that speak libfabric (EFA, Omni-Path, shared memory, TCP and others), through a
//! library that is loaded at run time. Knows no patterns or sockets; what goes over the wire is `packet-protocol`'s.
//!
//! ```text
//! sys        libfabric as C has it
//! device     the same as safe types: who owns what, and in which order it goes
//! transport  the scheme, and what a host needs for it
//! options    what ofi:// URLs say that no others do
//! ofi        the boundary below the links' driver (`rdma-links`) on libfabric
//! preflight  why a host cannot run ofi://, and on what it can
//! ```
//!
//! `unsafe` is in `sys` and `device` only.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod device;
mod limits;
pub mod ofi;
mod options;
mod preflight;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod sys;
mod transport;

pub use limits::{NAME_MAX, PRIVATE_DATA_MAX};
pub use options::OfiOptions;
pub use preflight::{Provider, Unavailable, providers, why_unavailable};
pub use transport::OfiTransport;
