//! The engine: one shard per context, with its drivers behind one lock and a turn that anyone may take. See
//! `core.rs` for the turn, `timers.rs` for what is due in it, `conduit.rs` and `endpoints.rs` for what it works on,
//! `progress.rs` for who takes it, `progress/background.rs` for the thread that does when nobody else will, `spin.rs` and
//! `pacing.rs` for the policies.

mod conduit;
mod core;
mod endpoints;
mod pacing;
mod progress;
mod ready;
mod spin;
mod timers;
mod wait;

pub(crate) use endpoints::{OpenRequest, Outcome};
pub(crate) use pacing::{Pace, Pacing};
pub(crate) use progress::{AsyncSpin, Shard, Target, Wait, timespec};
pub(crate) use ready::{ReadyList, Registration};
pub(crate) use wait::{TaskKey, Waiters};
