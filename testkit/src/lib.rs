//! The conformance suite that every fabriq transport instantiates, and simulated media to run it on. Ships in no
//! product: only tests depend on it.
//!
//! A transport writes a [`Subject`] and one line, in a test file of its own:
//!
//! ```ignore
//! testkit::conformance!(inproc, InprocSubject, skipped = 4);
//! testkit::conformance_ciphered!(inproc_ciphered, InprocSubject, skipped = 5);
//! ```

pub mod conformance;
pub mod media;
pub mod middleware;
mod subject;
mod world;

pub use subject::Subject;
pub use world::{
    BUDGET, Bell, End, Event, FILL_MAX, FUTILE_MAX, Host, LinkLog, OpenLog, POOL, QUIET, REAL_LIMIT, SETTLE,
    VIRTUAL_LIMIT, World, body, capabilities, seq_of,
};
