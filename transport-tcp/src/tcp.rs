//! tcp:// addresses and sockets: `host:port`, and `source:port;host:port` to dial from a given place. Resolves no names,
//! knows no links.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use hosts::{Host, Place, Resolved};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockRef;
use transport_core::{Endpoint, Keepalive, OpenError, Role};

use crate::address::{Located, Route};
use crate::limits::UNSENT_LOW;
use crate::socket::{Connection, Refusal, Settings};

/// What stands behind `tcp://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcpAddress {
    pub(crate) source: Option<Place>,
    pub(crate) target: Place,
}

const EITHER: &str = "write host:port, for example tcp://127.0.0.1:5555 or tcp://[::1]:5555; to bind, `*` stands for \
                      any interface or any port; to connect from a given address, tcp://source:port;host:port";
const TO_BIND: &str = "a bind takes one interface and port, for example tcp://*:5555 or tcp://127.0.0.1:*";
const TO_DIAL: &str = "a connect needs a host and a port of 1 to 65535, for example tcp://127.0.0.1:5555";

impl TcpAddress {
    /// Reads the address of an endpoint, whichever way it will be used.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        Self::split(endpoint).ok_or_else(|| bad(endpoint, EITHER))
    }

    fn split(endpoint: &Endpoint) -> Option<Self> {
        // tcp has no options: one that is ignored would be a setting that silently does nothing.
        if endpoint.options().next().is_some() {
            return None;
        }
        let (source, target) = match endpoint.address().split_once(';') {
            Some((source, target)) => (Some(Place::parse(source)?), target),
            None => (None, endpoint.address()),
        };
        Some(Self { source, target: Place::parse(target)? })
    }

    /// Where a bind or a dial goes, or which names have to be resolved for that.
    pub(crate) fn locate(self, endpoint: &Endpoint, role: Role, ipv6: bool) -> Result<Located, OpenError> {
        let (target, source) = match role {
            Role::Bind => (self.listen(endpoint)?, None),
            Role::Connect => self.dial(endpoint)?,
        };
        let numbers = target.numeric(ipv6).zip(match &source {
            Some(source) => source.numeric(ipv6).map(Some),
            None => Some(None),
        });
        Ok(match numbers {
            None => Located::Names { target, source },
            Some((to, from)) => Located::Here(to.and_then(|to| {
                let from = match (from, &source) {
                    // Any of the other's family.
                    (Some(Ok(from)), Some(Place { host: Host::Any, .. })) => Some(any_like(&to, from.port())),
                    (from, _) => from.transpose()?,
                };
                Ok(vec![Route::Tcp { to, from }])
            })),
        })
    }

    /// The place to bind.
    pub(crate) fn listen(self, endpoint: &Endpoint) -> Result<Place, OpenError> {
        if self.source.is_some() { Err(bad(endpoint, TO_BIND)) } else { Ok(self.target) }
    }

    /// The place to dial, and from where.
    pub(crate) fn dial(self, endpoint: &Endpoint) -> Result<(Place, Option<Place>), OpenError> {
        if self.target.host == Host::Any || self.target.port == 0 {
            return Err(bad(endpoint, TO_DIAL));
        }
        Ok((self.target, self.source))
    }
}

/// The unspecified address of the same family.
fn any_like(address: &SocketAddr, port: u16) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// What came of names: every target with a source of its family.
pub(crate) fn routes(resolved: &Resolved) -> Result<Vec<Route>, Errno> {
    let Resolved { targets, sources } = resolved;
    if targets.is_empty() {
        return Err(Errno::ADDRNOTAVAIL);
    }
    let route = |to: &SocketAddr| {
        let from = sources.iter().find(|from| from.is_ipv4() == to.is_ipv4()).copied();
        (from.is_some() || sources.is_empty()).then_some(Route::Tcp { to: *to, from })
    };
    let routes: Vec<_> = targets.iter().filter_map(route).collect();
    if routes.is_empty() { Err(Errno::AFNOSUPPORT) } else { Ok(routes) }
}

fn bad(endpoint: &Endpoint, expected: &str) -> OpenError {
    OpenError::BadAddress { endpoint: endpoint.clone(), expected: expected.to_owned() }
}

// ---- sockets ----

fn open(address: &SocketAddr, settings: &Settings) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd =
        net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    tune(&fd, address.is_ipv4(), settings)?;
    Ok(fd)
}

/// Gives a socket its settings, before it listens or dials.
pub(crate) fn tune(fd: &OwnedFd, is_ipv4: bool, settings: &Settings) -> Result<(), Errno> {
    // A driver flushes when it has something worth sending; Nagle's wait would come on top. Accepted sockets inherit
    // this and what follows; the buffer sizes must be set before a window is agreed on.
    sockopt::set_tcp_nodelay(fd, true)?;
    if settings.low_mark {
        // A system without this option only buffers more.
        let _ = SockRef::from(fd).set_tcp_notsent_lowat(UNSENT_LOW);
    }
    if let Some(bytes) = settings.tuning.send_buffer {
        sockopt::set_socket_send_buffer_size(fd, bytes as usize)?;
    }
    if let Some(bytes) = settings.tuning.receive_buffer {
        sockopt::set_socket_recv_buffer_size(fd, bytes as usize)?;
    }
    if let Some(keepalive) = &settings.tuning.keepalive {
        keep_alive(fd, keepalive)?;
    }
    match (settings.tuning.type_of_service, is_ipv4) {
        (0, _) => {}
        (tos, true) => sockopt::set_ip_tos(fd, tos)?,
        (tos, false) => sockopt::set_ipv6_tclass(fd, tos.into())?,
    }
    if let Some(device) = &settings.tuning.device {
        let bound = SockRef::from(fd).bind_device(Some(device.as_bytes()));
        bound.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    }
    Ok(())
}

fn keep_alive(fd: &OwnedFd, keepalive: &Keepalive) -> Result<(), Errno> {
    sockopt::set_socket_keepalive(fd, true)?;
    if let Some(idle) = keepalive.idle {
        sockopt::set_tcp_keepidle(fd, idle)?;
    }
    if let Some(interval) = keepalive.interval {
        sockopt::set_tcp_keepintvl(fd, interval)?;
    }
    if let Some(count) = keepalive.count {
        sockopt::set_tcp_keepcnt(fd, count)?;
    }
    Ok(())
}

/// A listening socket, and the address it really has.
pub(crate) fn listen(address: &SocketAddr, settings: &Settings) -> Result<(OwnedFd, String), Refusal> {
    try_listen(address, settings).map_err(refusal)
}

fn try_listen(address: &SocketAddr, settings: &Settings) -> Result<(OwnedFd, String), Errno> {
    let fd = open(address, settings)?;
    // Connections of an earlier listener that linger in TIME_WAIT must not keep its port.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        // `[::]` means IPv4 peers too, as in libzmq; whatever net.ipv6.bindv6only says.
        sockopt::set_ipv6_v6only(&fd, false)?;
    }
    net::bind(&fd, address)?;
    net::listen(&fd, settings.backlog())?;
    let real = SocketAddr::try_from(net::getsockname(&fd)?)?;
    Ok((fd, real.to_string()))
}

/// The address of a socket, if it is one of this kind and has one.
pub(crate) fn bound_to(fd: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(net::getsockname(fd).ok()?).ok().filter(|address| address.port() != 0)
}

/// A socket that dials, and whether it is through already.
pub(crate) fn dial(
    to: &SocketAddr,
    from: Option<&SocketAddr>,
    settings: &Settings,
) -> Result<(OwnedFd, bool), Errno> {
    let fd = open(to, settings)?;
    if let Some(from) = from {
        sockopt::set_socket_reuseaddr(&fd, true)?;
        net::bind(&fd, from)?;
    }
    match net::connect(&fd, to) {
        Ok(()) => Ok((fd, true)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((fd, false)),
        Err(error) => Err(error),
    }
}

/// What has become of a dialled socket that is writable.
pub(crate) fn dialled(fd: OwnedFd, to: &SocketAddr) -> Result<Connection, Errno> {
    sockopt::socket_error(&fd)??;
    // To dial a port of the ephemeral range on this host where nobody listens may connect a socket with itself: the
    // system gave it that very port (simultaneous open, RFC 9293 section 3.5).
    if net::getpeername(&fd)? == Some(net::getsockname(&fd)?) {
        // Closed in good order it would keep the port in TIME_WAIT for a minute, from whoever comes to listen there.
        let _ = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
        return Err(Errno::CONNREFUSED);
    }
    Ok(connection(fd, to))
}

/// The next connection.
pub(crate) fn accept(listener: impl AsFd) -> Result<Connection, Errno> {
    let (fd, address) = net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    Ok(connection(fd, &address.ok_or(Errno::CONNABORTED)?))
}

fn connection(fd: OwnedFd, peer: &SocketAddr) -> Connection {
    Connection { fd, peer: peer.to_string(), must_be_quiet: true }
}

fn refusal(error: Errno) -> Refusal {
    let remedy = match error {
        Errno::ACCESS | Errno::PERM => "; ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        Errno::NODEV => "; no network device has that name: `ip link` lists those that there are",
        Errno::AFNOSUPPORT => "; this host has that address family switched off",
        _ => return error.into(),
    };
    Refusal::Said(error, format!("{error}{remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<TcpAddress, OpenError> {
        TcpAddress::parse(&Endpoint::parse(url).unwrap())
    }

    #[test]
    fn reads_every_form() {
        let v4 = Host::Ip("127.0.0.1".parse().unwrap(), None);
        let v6 = |zone: Option<&str>| Host::Ip("fe80::1".parse().unwrap(), zone.map(str::to_owned));
        let name = Host::Name("some-host.example".to_owned());
        for (url, host, port) in [
            ("tcp://*:5", Host::Any, 5),
            ("tcp://*:*", Host::Any, 0),
            ("tcp://127.0.0.1:0", v4.clone(), 0),
            ("tcp://[fe80::1]:65535", v6(None), 65_535),
            ("tcp://[fe80::1%eth0]:1", v6(Some("eth0")), 1),
            ("tcp://fe80::1:1", v6(None), 1),
            ("tcp://some-host.example:7", name, 7),
        ] {
            let target = Place { host, port };
            assert_eq!(parse(url).unwrap(), TcpAddress { source: None, target }, "{url}");
        }
        let both = parse("tcp://127.0.0.1:0;127.0.0.1:9").unwrap();
        assert_eq!(both.source, Some(Place { host: v4.clone(), port: 0 }));
        assert_eq!(both.target, Place { host: v4, port: 9 });
    }

    #[test]
    fn refuses_what_is_no_address_and_says_what_would_be() {
        for url in [
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:",
            "tcp://127.0.0.1:65536",
            "tcp://127.0.0.1:+5",
            "tcp://127.0.0.1:5x",
            "tcp://:5",
            "tcp://[::1:5",
            "tcp://[::1]5",
            "tcp://[::1%]:5",
            "tcp://ho st:5",
            "tcp://-host:5",
            "tcp://;127.0.0.1:5",
            "tcp://a:1;b:1;c:1",
            "tcp://127.0.0.1:5?nodelay=0",
        ] {
            let said = parse(url).unwrap_err().to_string();
            assert!(said.contains("host:port"), "{url}: {said}");
        }
        let endpoint = |url| Endpoint::parse(url).unwrap();
        for url in ["tcp://*:5", "tcp://127.0.0.1:0", "tcp://host:*"] {
            assert!(parse(url).unwrap().dial(&endpoint(url)).is_err(), "{url}");
        }
        let url = "tcp://a:1;b:1";
        assert!(parse(url).unwrap().listen(&endpoint(url)).is_err());
    }
}
