//! `verbs://` as a transport: what it can, why a host cannot, and the driver on real hardware.

use transport_core::{Capabilities, Driver, DriverEnv, Endpoint, Flow, OpenError, Transport};

use crate::local::device_address;
use crate::options::VerbsOptions;
use crate::preflight::why_unavailable;
use crate::sys::Libraries;
use crate::verbs::VerbsFabric;

/// `verbs://host:port`: RDMA by reliable connections on InfiniBand, RoCE and iWARP. The libraries are loaded when a
/// driver is made; a host without them is told so then, and by [`Transport::unavailable`].
#[derive(Debug, Default)]
pub struct VerbsTransport(());

impl VerbsTransport {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self(())
    }
}

impl Transport for VerbsTransport {
    fn schemes(&self) -> &'static [&'static str] {
        &["verbs"]
    }

    fn capabilities(&self, endpoint: &Endpoint, _: Flow) -> Result<Capabilities, OpenError> {
        rdma_links::capabilities::<VerbsOptions>(endpoint)
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let unavailable = |why: String, errno| OpenError::Unavailable { scheme: "verbs", why, errno };
        if let Some(why) = why_unavailable() {
            return Err(unavailable(why.to_string(), libc::ENODEV));
        }
        let libraries = Libraries::load().map_err(|error| unavailable(error.to_string(), libc::ENOENT))?;
        let fabric =
            VerbsFabric::new(libraries).map_err(|failure| unavailable(failure.to_string(), failure.errno))?;
        Ok(rdma_links::driver(fabric, env))
    }

    fn unavailable(&self) -> Option<String> {
        why_unavailable().map(|why| why.to_string())
    }

    fn local(&self, _scheme: &str) -> Option<Endpoint> {
        Endpoint::parse(&format!("verbs://{}:*", device_address()?)).ok()
    }
}
