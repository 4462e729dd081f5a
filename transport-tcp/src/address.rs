//! Addresses of every scheme of this transport: which kind a URL has, and where a bind or a dial goes. Makes no sockets.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hosts::Place;
use rustix::io::Errno;
use transport_core::{Endpoint, OpenError, Role};

use crate::ipc::Name;
use crate::tcp::TcpAddress;

/// What stands behind the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(TcpAddress),
    Ipc(Name),
}

/// One way to bind or dial, with nothing left to resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Tcp {
        to: SocketAddr,
        /// To dial from a given place.
        from: Option<SocketAddr>,
    },
    Ipc(Name),
}

/// Where an address is.
#[derive(Debug)]
pub(crate) enum Located {
    /// Here, or nowhere; the routes in the order to try them.
    Here(Result<Vec<Route>, Errno>),
    /// Where a socket of the caller's is bound, and whether that is to be one of tcp.
    Bound(bool, Arc<OwnedFd>),
    /// Where the resolver says; see [`crate::tcp::routes`].
    Names { target: Place, source: Option<Place> },
}

impl Address {
    /// Reads the address of an endpoint, whichever way it will be used.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        match endpoint.scheme() {
            "ipc" => Name::parse(endpoint).map(Self::Ipc),
            _ => TcpAddress::parse(endpoint).map(Self::Tcp),
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Where a bind or a dial goes, or which names have to be resolved for that.
    pub(crate) fn locate(self, endpoint: &Endpoint, role: Role, ipv6: bool) -> Result<Located, OpenError> {
        match self {
            Self::Tcp(address) => address.locate(endpoint, role, ipv6),
            Self::Ipc(name) => Ok(Located::Here(Ok(vec![Route::Ipc(name.locate(endpoint, role)?)]))),
        }
    }
}
