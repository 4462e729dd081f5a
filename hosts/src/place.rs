//! `host:port` as endpoint URLs write it: the text, and the socket address where no name stands in it. Resolves no names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use crate::limits::HOST_NAME_MAX;

/// One host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub host: Host,
    /// 0 for any.
    pub port: u16,
}

/// Where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `*`.
    Any,
    /// A numeric address, and the zone (an interface) of a link-local one.
    Ip(IpAddr, Option<String>),
    /// A name to be resolved.
    Name(String),
}

impl Place {
    /// Reads `host:port`; `None` if it is something else. `*` stands for any host or port.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = match port {
            "*" => 0,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            _ => return None,
        };
        Some(Self { host: Host::parse(host)?, port })
    }

    /// The socket address of a place that needs no resolving; `None` for a name.
    ///
    /// # Errors
    /// ENODEV: no interface is called as the zone says.
    pub fn numeric(&self, ipv6: bool) -> Option<Result<SocketAddr, Errno>> {
        let ip = match &self.host {
            Host::Name(_) => return None,
            Host::Any if ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Host::Any => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Host::Ip(IpAddr::V6(ip), Some(zone)) => {
                return Some(scope(zone).map(|scope| SocketAddrV6::new(*ip, self.port, 0, scope).into()));
            }
            Host::Ip(ip, _) => *ip,
        };
        Some(Ok(SocketAddr::new(ip, self.port)))
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some(inner) = text.strip_prefix('[') {
            return Self::parse_v6(inner.strip_suffix(']')?);
        }
        // libzmq takes an IPv6 address without brackets too; the last colon is the port's.
        if text.contains(':') {
            return Self::parse_v6(text);
        }
        if let Ok(ip) = text.parse() {
            return Some(Self::Ip(IpAddr::V4(ip), None));
        }
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let name = text.len() <= HOST_NAME_MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(letter);
        name.then(|| Self::Name(text.to_owned()))
    }

    fn parse_v6(text: &str) -> Option<Self> {
        let (ip, zone) = match text.split_once('%') {
            Some((ip, zone)) if !zone.is_empty() && zone.len() <= HOST_NAME_MAX => {
                (ip, Some(zone.to_owned()))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let ip: Ipv6Addr = ip.parse().ok()?;
        Some(Self::Ip(IpAddr::V6(ip), zone))
    }
}

/// A zone is an interface's number or name.
fn scope(zone: &str) -> Result<u32, Errno> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    let fd = net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    net::netdevice::name_to_index(&fd, zone)
}
