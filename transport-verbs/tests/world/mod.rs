//! The driver on a simulated fabric, as a transport and as a subject of the suite.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::sync::Arc;
use std::time::Duration;

use fabriq_transport_verbs::simulated::World;
use fabriq_transport_verbs::{VerbsTransport, driver};
use testkit::Subject;
use transport_core::{Capabilities, Driver, DriverEnv, Endpoint, Flow, OpenError, Transport};

/// A world whose hosts are drivers.
#[derive(Debug, Clone)]
pub(crate) struct Simulated(World);

impl Simulated {
    /// In a world of the caller's.
    pub(crate) fn with(world: &World) -> Self {
        Self(world.clone())
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self(World::new(Duration::from_micros(2)))
    }
}

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

impl Subject for Simulated {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
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
}
