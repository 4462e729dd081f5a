//! Holds the driver to the seam's conformance suite, on the simulated fabric. On real ones: each transport's own.

mod world;

use std::sync::Arc;

use testkit::Subject;
use transport_core::{Endpoint, Transport};
use world::Simulated;

/// A world of its own for each run.
struct InMemory;

impl Subject for InMemory {
    fn transport(&self) -> Arc<dyn Transport> {
        Simulated::default().transport()
    }
    fn fresh(&self) -> Endpoint {
        Simulated::default().fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        Simulated::default().nobody()
    }
    fn real_time(&self) -> bool {
        false
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        let why = "the simulated fabric copies packets on the heap; the driver is counted on a device";
        vec![("no_allocation_per_message_when_warm", why)]
    }
}

/// The same, for the middleware that makes up refusals.
struct Refusing;

impl Subject for Refusing {
    fn transport(&self) -> Arc<dyn Transport> {
        InMemory.transport()
    }
    fn fresh(&self) -> Endpoint {
        InMemory.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        InMemory.nobody()
    }
    fn real_time(&self) -> bool {
        false
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        let why =
            "completions of sends make it poll after a Writable, and a refusal may be made up meanwhile";
        [InMemory.exempt(), vec![("writable_follows_a_room_of_zero", why)]].concat()
    }
}

testkit::conformance!(links, InMemory, skipped = 3);
testkit::conformance_ciphered!(links_ciphered, InMemory, skipped = 3);
testkit::conformance_faulty!(links_faulty, Refusing, seed = 8, skipped = 5);
