//! What stands behind the seam's [`Transport`]: schemes, what they can carry, whether this host can, and the driver on the
//! system's sockets. There is one for each scheme, since a host may lack the one's permission and not the other's.

use transport_core::{
    Capabilities, Delivery, Driver, DriverEnv, Endpoint, Flow, OpenError, SessionKind, Topology, Transport,
};

use crate::address::Address;
use crate::driver::PgmDriver;
use crate::limits::LOCAL_PORT;
use crate::net::{SocketNetwork, Wire};
use crate::settings::Settings;

/// Reliable multicast: `epgm://interface;group:port` in UDP datagrams, `pgm://` in IP packets of protocol 113. One publisher's
/// packets reach all subscribers once; what is lost is repaired, and what cannot be is reported as a gap.
#[derive(Debug)]
pub struct PgmTransport(Wire);

impl PgmTransport {
    /// `epgm://`, which every host can. Opens nothing yet.
    #[must_use]
    pub const fn over_udp() -> Self {
        Self(Wire::Udp)
    }

    /// `pgm://`, for which this process needs CAP_NET_RAW. Opens nothing yet.
    #[must_use]
    pub const fn over_ip() -> Self {
        Self(Wire::Raw)
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
        match self.0 {
            Wire::Udp => &["epgm"],
            Wire::Raw => &["pgm"],
        }
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
        let network = SocketNetwork::new(self.0).map_err(|error| OpenError::Unavailable {
            scheme: self.schemes()[0],
            why: format!("epoll: {error}; raise the limit of open files"),
            errno: error.raw_os_error().unwrap_or(0),
        })?;
        Ok(Box::new(PgmDriver::new(network, env)))
    }

    fn unavailable(&self) -> Option<String> {
        self.0.unavailable()
    }

    /// On the loopback interface, at no limit of rate. Multicast has no wildcards: the group follows from the process, so two
    /// programs that try it out at a time do not meet.
    fn local(&self, _scheme: &str) -> Option<Endpoint> {
        let [.., a, b, c] = std::process::id().to_be_bytes();
        let group = format!("239.{}.{b}.{c}", 192 + (a & 3));
        Endpoint::parse(&format!("{}://lo;{group}:{LOCAL_PORT}?rate_kbit=0", self.schemes()[0])).ok()
    }
}
