//! PGM in a simulated network: sources and receivers as a driver would run them, virtual time, and everything that can
//! happen to a packet. Every world has a seed, which is printed when a test fails; nothing here reads a clock for a
//! verdict.

mod air;
mod figures;
mod follow;
mod promises;
mod storms;
mod weather;
mod world;
