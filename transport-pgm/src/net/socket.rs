//! The system calls that make sockets for PGM, over UDP and over IP itself. Sends and receives nothing.
//!
//! A source's socket is bound to the host's own address, a receiver's to its group. So the system sorts datagrams by group, a
//! subscriber on a publisher's host takes no NAK from it, and a publisher never hears data. All sockets of a port share it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use super::Site;
use crate::interface::Interface;
use crate::limits::{RECEIVE_BUFFER, SEND_BUFFER};

/// PGM's number among IP's protocols.
pub(super) const PROTOCOL: i32 = 113;

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// In UDP datagrams: `epgm://`.
    Udp,
    /// In IP packets: `pgm://`.
    Raw,
}

impl Wire {
    /// Why this host cannot.
    pub(crate) fn unavailable(self) -> Option<String> {
        let error = new(self, Ipv4Addr::LOCALHOST.into()).err()?;
        Some(format!("{error}{}", self.remedy(error.raw_os_error().unwrap_or(0))))
    }

    /// What to do about what the system refuses. Empty, or behind a semicolon.
    pub(super) fn remedy(self, errno: i32) -> &'static str {
        match (errno, self) {
            (libc::EPERM | libc::EACCES, Self::Raw) => {
                "; raw PGM needs the capability CAP_NET_RAW: `setcap cap_net_raw+ep PROGRAM`, or run it as root (sudo), or \
                 use epgm://, which needs nothing"
            }
            (libc::EACCES, Self::Udp) => "; ports below 1024 need the capability CAP_NET_BIND_SERVICE",
            (libc::EMFILE | libc::ENFILE, _) => "; raise the limit of open files",
            (libc::ENOBUFS, _) => {
                "; raise net.ipv4.igmp_max_memberships, the groups that one socket may join"
            }
            (libc::EAFNOSUPPORT, _) => "; this host has that address family switched off",
            (libc::ENODEV | libc::EADDRNOTAVAIL, _) => "; `ip addr` lists the interfaces",
            _ => "",
        }
    }
}

fn new(wire: Wire, ip: IpAddr) -> io::Result<Socket> {
    let domain = if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = match wire {
        Wire::Udp => Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?,
        Wire::Raw => Socket::new(domain, Type::RAW, Some(Protocol::from(PROTOCOL)))?,
    };
    socket.set_nonblocking(true)?;
    // Either kind of sharing suffices for somebody else's socket.
    socket.set_reuse_address(true)?;
    if wire == Wire::Udp {
        socket.set_reuse_port(true)?;
    }
    // A raw socket has its protocol where others have a port, and counts as bound.
    if ip.is_ipv6() && wire == Wire::Udp {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn route_multicast(socket: &Socket, interface: &Interface, hops: u32, loopback: bool) -> io::Result<()> {
    match interface.address {
        IpAddr::V4(ip) => {
            sockopt::set_ip_multicast_if_with_ifindex(socket, &Ipv4Addr::UNSPECIFIED, &ip, interface.index)?;
            socket.set_multicast_ttl_v4(hops)?;
            socket.set_multicast_loop_v4(loopback)
        }
        IpAddr::V6(_) => {
            socket.set_multicast_if_v6(interface.index)?;
            socket.set_multicast_hops_v6(hops)?;
            socket.set_multicast_loop_v6(loopback)
        }
    }
}

/// A source's socket: sends to the group, hears what is sent to this host.
pub(super) fn talk(wire: Wire, site: &Site, interface: &Interface) -> io::Result<Socket> {
    let socket = new(wire, interface.address)?;
    let settings = &site.settings;
    route_multicast(&socket, interface, settings.hops.into(), settings.loopback)?;
    // A packet that does not fit is an error here, not pieces on the wire.
    match interface.address {
        IpAddr::V4(_) => {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
            socket.set_tos_v4(settings.tos.into())?;
        }
        IpAddr::V6(_) => {
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?;
            socket.set_tclass_v6(settings.tos.into())?;
        }
    }
    let own = settings.send_buffer.or(site.tuning.send_buffer);
    let want = own.map_or(SEND_BUFFER, |bytes| bytes as usize);
    let _ = sockopt::set_socket_send_buffer_size_force(&socket, want)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, want));
    bind(&socket, wire, interface.place(interface.address, site.address.port))?;
    Ok(socket)
}

/// A receiver's socket: hears what is sent to the group, and sends NAKs.
pub(super) fn listen(wire: Wire, site: &Site, interface: &Interface, group: IpAddr) -> io::Result<Socket> {
    let socket = new(wire, group)?;
    // Requests for SPMs go no further than this network.
    route_multicast(&socket, interface, 1, true)?;
    let settings = &site.settings;
    let own = settings.receive_buffer.or(site.tuning.receive_buffer);
    let want = own.map_or(RECEIVE_BUFFER, |bytes| bytes as usize);
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, want)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, want));
    // Before it joins, so that it never hears what another socket has joined.
    bind(&socket, wire, interface.place(group, site.address.port))?;
    match group {
        IpAddr::V4(group) => {
            socket.set_multicast_all_v4(false)?;
            socket.set_tos_v4(settings.tos.into())?;
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.index))?;
        }
        IpAddr::V6(group) => {
            // Linux has it from 4.20; without it others' groups were sorted out by the address that is bound.
            let _ = socket.set_multicast_all_v6(false);
            socket.set_tclass_v6(settings.tos.into())?;
            socket.join_multicast_v6(&group, interface.index)?;
        }
    }
    Ok(socket)
}

/// A socket whose datagrams reach this host's other sockets in the group and nobody else.
pub(super) fn whisper(interface: &Interface) -> io::Result<Socket> {
    let socket = new(Wire::Udp, interface.address)?;
    route_multicast(&socket, interface, 0, true)?;
    Ok(socket)
}

fn bind(socket: &Socket, wire: Wire, place: SocketAddr) -> io::Result<()> {
    let mut place = place;
    if wire == Wire::Raw {
        place.set_port(0);
    }
    socket.bind(&SockAddr::from(place))
}
