//! The driver on a simulated fabric, as a transport and as a subject of the suite.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::sync::Arc;
use std::time::Duration;

use rdma_links::simulated::{SimulatedOptions, World};
use rdma_links::{capabilities, driver};
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
        &["simulated"]
    }
    fn capabilities(&self, endpoint: &Endpoint, _: Flow) -> Result<Capabilities, OpenError> {
        capabilities::<SimulatedOptions>(endpoint)
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
        Endpoint::parse("simulated://10.0.0.1:*").expect("a constant URL parses")
    }
    fn nobody(&self) -> Option<Endpoint> {
        Endpoint::parse("simulated://10.0.0.1:1").ok()
    }
    fn real_time(&self) -> bool {
        false
    }
}
