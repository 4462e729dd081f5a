//! Benchmarks of fabriq: instruction counts, wall clock, and peers side by side in one run.
//!
//! ```text
//! ci/instructions                                          instructions of each subject, beside ci/instructions.baseline
//! cargo bench -p fabriq-benches --bench wall_clock         time of each subject, by criterion; `-- matcher` for some
//! cargo run --release -p fabriq-benches --features peers --bin side-by-side -- all       whole peers over loopback
//! ci/netns -- target/release/multicast-side-by-side        whole peers by multicast that loses packets (docs/netns.md)
//! ```
//!
//! The first two measure the same [`subjects`]: the ZMTP codec, the subscription matcher, the pipe, the frame. Instruction
//! counts come out the same on a busy machine, so CI compares them; they do not see cache misses, waiting or the system.
//! Wall clock sees all of that, and whatever else the machine does, so it is for a person at a quiet machine and decides
//! nothing.

pub mod statistics;
pub mod subjects;
pub mod table;
