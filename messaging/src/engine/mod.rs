//! The engine: one shard per context, with its drivers behind one lock and a turn that anyone may take. See
//! `core.rs` for the turn, `progress.rs` for who takes it, `spin.rs` and `pacing.rs` for the policies.

mod core;
mod pacing;
mod progress;
mod spin;
mod wait;

pub(crate) use self::core::{OpenRequest, Outcome};
pub(crate) use pacing::{Pace, Pacing};
pub(crate) use progress::{AsyncSpin, Shard, Target, Wait};
pub(crate) use wait::Waiters;
