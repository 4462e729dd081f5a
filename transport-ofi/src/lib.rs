//! ofi:// for fabriq: the fabrics that speak libfabric (EFA, Omni-Path, shared memory, TCP and others), through a
//! library that is loaded at run time. Knows no patterns or sockets.
//!
//! ```text
//! sys        libfabric as C has it
//! device     the same as safe types: who owns what, and in which order it goes
//! preflight  why a host cannot run ofi://, and on what it can
//! ```
//!
//! `unsafe` is in `sys` and `device` only.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod device;
mod limits;
mod preflight;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod sys;

pub use limits::{NAME_MAX, PRIVATE_DATA_MAX};
pub use preflight::{Provider, Unavailable, providers, why_unavailable};
