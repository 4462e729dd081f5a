//! Hosts and ports in endpoint URLs, for every transport that runs over IP addresses: their text, and the thread that
//! resolves names. Opens no connection.

#![forbid(unsafe_code)]

pub mod limits;
mod names;
mod place;

pub use names::{Answer, Names, Question, Resolved};
pub use place::{Host, Place};
