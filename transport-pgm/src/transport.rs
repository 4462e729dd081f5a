//! `epgm://` and `pgm://` as a transport: what they can, why a host cannot, and the driver on the system's sockets.

use transport_core::{
    Capabilities, Delivery, Driver, DriverEnv, Endpoint, Flow, OpenError, SessionKind, Topology, Transport,
};

use crate::address::Address;
use crate::driver::PgmDriver;
use crate::net::SocketNetwork;
use crate::settings::Settings;

/// Reliable multicast: `epgm://interface;group:port` in UDP datagrams, `pgm://` in IP packets of protocol 113. One publisher's
/// packets reach all subscribers once; what is lost is repaired, and what cannot be is reported as a gap.
#[derive(Debug, Default)]
pub struct PgmTransport(());

impl PgmTransport {
    /// Opens nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

/// Reads an endpoint, and refuses sockets whose parts go both ways.
pub(crate) fn read(endpoint: &Endpoint, flow: Flow) -> Result<(Address, Settings), OpenError> {
    let read = (Address::parse(endpoint)?, Settings::parse(endpoint)?);
    if matches!(flow, Flow::Duplex | Flow::Stream) {
        let why =
            "multicast goes one way, from a publisher to subscribers; use PUB and SUB, or XPUB and XSUB"
                .into();
        return Err(OpenError::Incompatible { endpoint: endpoint.clone(), why });
    }
    Ok(read)
}

impl Transport for PgmTransport {
    fn schemes(&self) -> &'static [&'static str] {
        &["epgm", "pgm"]
    }

    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError> {
        read(endpoint, flow)?;
        Ok(Capabilities {
            delivery: Delivery::GapReported,
            flow,
            pushback: false,
            topology: Topology::Multicast,
            session: SessionKind::None,
        })
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let network = SocketNetwork::new().map_err(|error| OpenError::Unavailable {
            scheme: "epgm",
            why: format!("epoll: {error}; raise the limit of open files"),
            errno: error.raw_os_error().unwrap_or(0),
        })?;
        Ok(Box::new(PgmDriver::new(network, env)))
    }
}
