//! `pgm://` and `epgm://`: reliable multicast on OpenPGM's wire (RFC 3208). What is here does no I/O.

pub mod framing;
pub mod limits;
pub mod packet;
mod random;
mod serial;
mod stock;
#[cfg(test)]
mod testing;

pub use serial::Sqn;
pub use stock::Stock;
