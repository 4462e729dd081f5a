//! The system calls that make sockets: listen, dial, accept. Holds no state.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockRef;
use transport_core::Tuning;

use crate::limits::UNSENT_LOW;

/// A new socket. `low_mark`: its owner wants to hear of a slow peer soon.
fn open(address: &SocketAddr, tuning: &Tuning, low_mark: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd =
        net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // A driver flushes when it has something worth sending; Nagle's wait would come on top. Accepted sockets inherit
    // this and what follows; the buffer sizes must be set before a window is agreed on.
    sockopt::set_tcp_nodelay(&fd, true)?;
    if low_mark {
        // A system without this option only buffers more.
        let _ = SockRef::from(&fd).set_tcp_notsent_lowat(UNSENT_LOW);
    }
    if let Some(bytes) = tuning.send_buffer {
        sockopt::set_socket_send_buffer_size(&fd, bytes as usize)?;
    }
    if let Some(bytes) = tuning.receive_buffer {
        sockopt::set_socket_recv_buffer_size(&fd, bytes as usize)?;
    }
    Ok(fd)
}

/// A listening socket, and the address it really has.
pub(crate) fn listen(
    address: &SocketAddr,
    tuning: &Tuning,
    low_mark: bool,
) -> Result<(OwnedFd, SocketAddr), Errno> {
    let fd = open(address, tuning, low_mark)?;
    // Connections of an earlier listener that linger in TIME_WAIT must not keep its port.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        // `[::]` means IPv4 peers too, as in libzmq; whatever net.ipv6.bindv6only says.
        sockopt::set_ipv6_v6only(&fd, false)?;
    }
    net::bind(&fd, address)?;
    net::listen(&fd, i32::try_from(tuning.backlog).unwrap_or(i32::MAX))?;
    let real = local(&fd)?;
    Ok((fd, real))
}

/// A socket that dials, and whether it is through already.
pub(crate) fn dial(
    address: &SocketAddr,
    source: Option<&SocketAddr>,
    tuning: &Tuning,
    low_mark: bool,
) -> Result<(OwnedFd, bool), Errno> {
    let fd = open(address, tuning, low_mark)?;
    if let Some(source) = source {
        sockopt::set_socket_reuseaddr(&fd, true)?;
        net::bind(&fd, source)?;
    }
    match net::connect(&fd, address) {
        Ok(()) => Ok((fd, true)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((fd, false)),
        Err(error) => Err(error),
    }
}

/// Whether a dialled socket that became writable is connected.
pub(crate) fn dialled(fd: &OwnedFd) -> Result<(), Errno> {
    sockopt::socket_error(fd)??;
    // To dial a port of the ephemeral range on this host where nobody listens may connect a socket with itself: the
    // system gave it that very port (simultaneous open, RFC 9293 section 3.5).
    if net::getpeername(fd)? == Some(net::getsockname(fd)?) {
        // Closed in good order it would keep the port in TIME_WAIT for a minute, from whoever comes to listen there.
        let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        return Err(Errno::CONNREFUSED);
    }
    Ok(())
}

/// The next connection.
pub(crate) fn accept(listener: impl AsFd) -> Result<(OwnedFd, SocketAddr), Errno> {
    let (fd, address) = net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    Ok((fd, address.ok_or(Errno::CONNABORTED)?))
}

fn local(fd: &OwnedFd) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(net::getsockname(fd)?)
}
