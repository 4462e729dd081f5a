//! Simulated media that are transports: a byte stream, lossy multicast, and an RDMA-like fabric. Virtual time and
//! seeded chance only; no socket, no thread, no clock.
//!
//! Each medium is a world behind a handle. Clones of the handle share the world, and drivers made from any of them
//! reach each other. They exist to judge the seam before verbs and PGM drivers do, and to give the layers above a
//! network whose every misfortune replays from a seed.

pub mod fabric;
pub mod limits;
pub mod multicast;
pub mod stream;

mod kit;

pub use fabric::{Fabric, FabricCount, Faults};
pub use kit::{Chance, each_seed};
pub use multicast::{Conditions, Multicast};
pub use stream::{Raw, Stream};
