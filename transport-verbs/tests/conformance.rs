//! Holds the driver to the seam's conformance suite, on the simulated fabric. On real hardware: `conformance_device.rs`.

use std::sync::Arc;
use std::time::Duration;

use fabriq_transport_verbs::simulated::World;
use fabriq_transport_verbs::{VerbsTransport, driver};
use testkit::Subject;
use transport_core::{Capabilities, Driver, DriverEnv, Endpoint, Flow, OpenError, Transport};

/// A world whose hosts are drivers.
#[derive(Debug)]
struct Simulated(World);

impl Transport for Simulated {
    fn schemes(&self) -> &'static [&'static str] {
        &["verbs"]
    }
    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError> {
        VerbsTransport::new().capabilities(endpoint, flow)
    }
    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        Ok(driver(self.0.fabric(env.wake.clone()), env))
    }
}

struct InMemory;

impl Subject for InMemory {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(Simulated(World::new(Duration::from_micros(2))))
    }
    fn fresh(&self) -> Endpoint {
        Endpoint::parse("verbs://10.0.0.1:*").expect("a constant URL parses")
    }
    fn nobody(&self) -> Option<Endpoint> {
        Endpoint::parse("verbs://10.0.0.1:1").ok()
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

testkit::conformance!(verbs, InMemory, skipped = 3);
testkit::conformance_ciphered!(verbs_ciphered, InMemory, skipped = 3);
testkit::conformance_faulty!(verbs_faulty, Refusing, seed = 8, skipped = 5);
