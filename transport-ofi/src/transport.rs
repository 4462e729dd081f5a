//! `ofi://` as a transport: what it can, why a host cannot, and the driver on libfabric.

use transport_core::{Capabilities, Driver, DriverEnv, Endpoint, Flow, OpenError, Transport};

use crate::ofi::OfiFabric;
use crate::options::OfiOptions;
use crate::preflight::{providers, why_unavailable};
use crate::sys::Library;

/// `ofi://host:port`: libfabric's providers. The library is loaded when a driver is made; a host without it is told so then, and
/// by [`Transport::unavailable`].
#[derive(Debug, Default)]
pub struct OfiTransport(());

impl OfiTransport {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self(())
    }
}

impl Transport for OfiTransport {
    fn schemes(&self) -> &'static [&'static str] {
        &["ofi"]
    }

    fn capabilities(&self, endpoint: &Endpoint, _: Flow) -> Result<Capabilities, OpenError> {
        rdma_links::capabilities::<OfiOptions>(endpoint)
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let unavailable = |why: String, errno| OpenError::Unavailable { scheme: "ofi", why, errno };
        let library = Library::load().map_err(|error| unavailable(error.to_string(), libc::ENOENT))?;
        if let Some(why) = why_unavailable() {
            return Err(unavailable(why.to_string(), libc::ENODEV));
        }
        let fabric =
            OfiFabric::new(library).map_err(|failure| unavailable(failure.to_string(), failure.errno))?;
        Ok(rdma_links::driver(fabric, env))
    }

    fn unavailable(&self) -> Option<String> {
        why_unavailable().map(|why| why.to_string())
    }

    fn devices(&self) -> Vec<String> {
        providers().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    fn local(&self, _scheme: &str) -> Option<Endpoint> {
        Endpoint::parse("ofi://127.0.0.1:*").ok()
    }
}
