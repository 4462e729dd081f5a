//! The interface that an address means: its index, our address on it, and what it carries. Opens sockets to ask the system,
//! and sends nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt;
use socket2::{Domain, Socket, Type};
use transport_core::{Endpoint, OpenError};

use crate::address::{Address, Choice};

/// Where a group is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    /// The system's number of it.
    pub(crate) index: u32,
    /// Our address there, to which receivers send NAKs.
    pub(crate) address: IpAddr,
    /// Bytes of the longest packet, with its IP header.
    pub(crate) mtu: u32,
}

/// An address of this host.
#[derive(Debug)]
struct Local {
    name: String,
    ip: IpAddr,
    is_up: bool,
}

impl Interface {
    /// Finds the one that `address` means, for its sending group.
    pub(crate) fn find(endpoint: &Endpoint, address: &Address) -> Result<Self, OpenError> {
        Self::look_up(address).map_err(|why| {
            let errno = why.errno;
            OpenError::System { endpoint: endpoint.clone(), why: why.text, errno }
        })
    }

    fn look_up(address: &Address) -> Result<Self, Refusal> {
        let locals = locals()?;
        let group = address.send;
        let chosen = match &address.interface {
            Choice::Name(name) => {
                let found = locals.iter().filter(|local| local.name == *name);
                Some((name.clone(), best(found, group)))
            }
            Choice::Address(ip) => {
                let Some(local) = locals.iter().find(|local| local.ip == *ip) else {
                    return Err(Refusal::device(format!(
                        "no interface has the address {ip}; {}",
                        list(&locals)
                    )));
                };
                // An IPv4 address may name the interface of an IPv6 group.
                let of_kind = locals.iter().filter(|other| other.name == local.name);
                let same = ip.is_ipv4() == group.is_ipv4();
                Some((local.name.clone(), if same { Some(*ip) } else { best(of_kind, group) }))
            }
            Choice::Route => None,
        };
        let Some((name, ip)) = chosen else {
            let ip = asked(group, None)?;
            let local = locals.iter().find(|local| local.ip == ip);
            let name = local.map(|local| local.name.clone()).ok_or_else(|| {
                Refusal::device(format!(
                    "the route to {group} leads nowhere; name an interface: {}",
                    list(&locals)
                ))
            })?;
            return Self::of(&name, ip, group);
        };
        match ip {
            Some(ip) if !locals.iter().any(|local| local.name == name && local.is_up) => {
                Err(Refusal::device(format!("the interface {name} of {ip} is down; `ip link set {name} up`")))
            }
            Some(ip) => Self::of(&name, ip, group),
            None if name_to_index_of(&name).is_none() => {
                Err(Refusal::device(format!("there is no interface {name}; {}", list(&locals))))
            }
            None if !locals.iter().any(|local| local.name == name && local.is_up) => {
                Err(Refusal::device(format!("the interface {name} is down; `ip link set {name} up`")))
            }
            None => {
                let kind = if group.is_ipv4() { "IPv4" } else { "IPv6" };
                Err(Refusal::device(format!(
                    "the interface {name} has no {kind} address; `ip addr` lists what it has"
                )))
            }
        }
    }

    fn of(name: &str, ip: IpAddr, group: IpAddr) -> Result<Self, Refusal> {
        let index =
            name_to_index_of(name).ok_or_else(|| Refusal::device(format!("the interface {name} is gone")))?;
        // What the system says of a socket that leads there.
        let mtu = mtu(ip, group, index).unwrap_or(u32::from(crate::limits::TPDU_DEFAULT));
        Ok(Self { index, address: ip, mtu })
    }

    /// A place on this interface: link-local addresses need to be told which one.
    pub(crate) fn place(&self, ip: IpAddr, port: u16) -> SocketAddr {
        match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, port),
            IpAddr::V6(v6) => {
                let local = v6.is_unicast_link_local() || v6.is_multicast();
                SocketAddrV6::new(v6, port, 0, if local { self.index } else { 0 }).into()
            }
        }
    }
}

struct Refusal {
    text: String,
    errno: i32,
}

impl Refusal {
    fn device(text: String) -> Self {
        Self { text, errno: libc::ENODEV }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(0), text: error.to_string() }
    }
}

fn name_to_index_of(name: &str) -> Option<u32> {
    let any = Socket::new(Domain::IPV4, Type::DGRAM, None)
        .or_else(|_| Socket::new(Domain::IPV6, Type::DGRAM, None));
    name_to_index(any.ok()?, name).ok()
}

fn locals() -> Result<Vec<Local>, Refusal> {
    let listed = getifaddrs().map_err(|error| std::io::Error::from_raw_os_error(error as i32))?;
    let local = |it: nix::ifaddrs::InterfaceAddress| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some(Local { name: it.interface_name, ip, is_up: it.flags.contains(InterfaceFlags::IFF_UP) })
    };
    Ok(listed.filter_map(local).collect())
}

/// Of an interface's addresses the one that suits the group: of its kind, and as far-reaching as it.
fn best<'a>(of_name: impl Iterator<Item = &'a Local>, group: IpAddr) -> Option<IpAddr> {
    let near = |ip: IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let link_group = matches!(group, IpAddr::V6(v6) if v6.octets()[1] & 0x0f <= 2);
    let fits =
        of_name.filter(|local| local.is_up && local.ip.is_ipv4() == group.is_ipv4()).map(|local| local.ip);
    // The first of the equal ones, as `ip addr` lists them.
    fits.enumerate().min_by_key(|(at, ip)| (near(*ip) != link_group, *at)).map(|(_, ip)| ip)
}

fn list(locals: &[Local]) -> String {
    let mut names: Vec<_> =
        locals.iter().filter(|local| local.is_up).map(|it| format!("{} {}", it.name, it.ip)).collect();
    names.dedup();
    format!("there are {}", names.join(", "))
}

/// The address that the system would send from.
fn asked(group: IpAddr, bound: Option<(&Socket, SocketAddr)>) -> Result<IpAddr, Refusal> {
    let own;
    let (socket, to) = match bound {
        Some(bound) => bound,
        None => {
            own = Socket::new(if group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }, Type::DGRAM, None)?;
            (&own, SocketAddr::new(group, 9))
        }
    };
    socket.connect(&to.into()).map_err(|error| Refusal {
        errno: error.raw_os_error().unwrap_or(0),
        text: format!(
            "no route to {group}: {error}; name an interface, or `ip route add 224.0.0.0/4 dev INTERFACE`"
        ),
    })?;
    let local = socket.local_addr()?.as_socket().map(|local| local.ip());
    local
        .filter(|ip| !ip.is_unspecified())
        .ok_or_else(|| Refusal::device(format!("no route to {group}; name an interface")))
}

fn mtu(ip: IpAddr, group: IpAddr, index: u32) -> Option<u32> {
    let domain = if group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, None).ok()?;
    match (ip, group) {
        (IpAddr::V4(ip), _) => {
            sockopt::set_ip_multicast_if_with_ifindex(&socket, &Ipv4Addr::UNSPECIFIED, &ip, index).ok()?;
            asked(group, Some((&socket, SocketAddr::new(group, 9)))).ok()?;
            sockopt::ip_mtu(&socket).ok()
        }
        (IpAddr::V6(_), IpAddr::V6(v6)) => {
            socket.set_multicast_if_v6(index).ok()?;
            let to = SocketAddrV6::new(v6, 9, 0, index);
            asked(group, Some((&socket, to.into()))).ok()?;
            sockopt::ipv6_mtu(&socket).ok()
        }
        _ => None,
    }
}

/// The same address as the wire has it.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn find(address: &str) -> Result<Interface, String> {
        let endpoint = Endpoint::parse(&format!("epgm://{address}")).expect("a URL");
        let address = Address::parse(&endpoint).expect("an address");
        Interface::find(&endpoint, &address).map_err(|error| error.to_string())
    }

    #[test]
    fn an_interface_is_found_by_name_and_by_address() {
        let by_name = find("lo;239.192.1.1:5").expect("every host has it");
        assert_eq!(by_name.address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(by_name.index > 0 && by_name.mtu >= 16_384, "{by_name:?}");
        assert_eq!(find("127.0.0.1;239.192.1.1:5"), Ok(by_name));
    }

    #[test]
    fn what_is_missing_is_said_together_with_what_there_is() {
        for (address, want) in [
            ("nosuch0;239.192.1.1:5", "there is no interface nosuch0"),
            ("192.0.2.77;239.192.1.1:5", "no interface has the address 192.0.2.77"),
        ] {
            let said = find(address).expect_err(address);
            assert!(said.contains(want) && said.contains("lo 127.0.0.1") && said.contains(address), "{said}");
        }
    }

    #[test]
    fn an_address_of_the_groups_reach_is_chosen() {
        let local =
            |ip: &str| Local { name: "eth0".into(), ip: ip.parse().expect("an address"), is_up: true };
        let locals = [local("10.0.0.1"), local("fe80::1"), local("fd08::1"), local("10.0.0.2")];
        for (group, want) in [("239.1.1.1", "10.0.0.1"), ("ff02::1", "fe80::1"), ("ff08::1", "fd08::1")] {
            let group = group.parse().expect("a group");
            assert_eq!(best(locals.iter(), group), Some(want.parse().expect("an address")), "{group}");
        }
        assert_eq!(best(locals[..1].iter(), Ipv6Addr::LOCALHOST.into()), None);
    }
}
