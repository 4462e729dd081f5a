//! The TCP connection beside endpoints that have none of their own: over it the two ends exchange their hellos, and it stays
//! open as the witness of the peer's life. Moves no messages. Sockets do not block.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rdma_links::fabric::Failure;
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, acceptfrom_with, sockopt,
};

use super::hello::{HELLO_MAX, Hello, Malformed};
use crate::limits::{KEEPALIVE_COUNT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL};

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    connecting: bool,
    /// What is to be said, and how much of it was.
    out: Vec<u8>,
    written: usize,
    /// What was heard of the hello so far; nothing may follow it.
    heard: Vec<u8>,
    heard_all: bool,
}

/// What the other end does.
#[derive(Debug)]
pub(super) enum Heard {
    Hello(Hello),
    /// It says something else.
    Malformed(Malformed),
    /// It is gone: the errno, or 0 for a close in good order.
    Gone(i32),
}

impl Wire {
    /// Begins to connect.
    pub(super) fn dial(to: SocketAddr, from: Option<SocketAddr>) -> Result<Self, Failure> {
        let socket = socket(to)?;
        if let Some(from) = from {
            net::bind(&socket, &from).map_err(failure("bind"))?;
        }
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(failure("connect")(error)),
        }
        Self::new(socket, true)
    }

    fn new(socket: OwnedFd, connecting: bool) -> Result<Self, Failure> {
        // A hello is one short packet, and a host that is gone is to be missed.
        sockopt::set_tcp_nodelay(&socket, true).map_err(failure("setsockopt"))?;
        sockopt::set_socket_keepalive(&socket, true).map_err(failure("setsockopt"))?;
        sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE).map_err(failure("setsockopt"))?;
        sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL).map_err(failure("setsockopt"))?;
        sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_COUNT).map_err(failure("setsockopt"))?;
        Ok(Self { socket, connecting, out: Vec::new(), written: 0, heard: Vec::new(), heard_all: false })
    }

    /// Says a hello, as soon as the socket takes it.
    pub(super) fn say(&mut self, hello: &Hello) {
        self.out.extend(hello.encode());
    }

    /// Whether something waits to be written, or for the connection to stand.
    pub(super) fn wants_to_write(&self) -> bool {
        self.connecting || self.written < self.out.len()
    }

    /// Writes and reads what goes without waiting. To be called again until `None`.
    pub(super) fn progress(&mut self) -> Option<Heard> {
        if self.connecting {
            match net::getpeername(&self.socket) {
                Ok(_) => self.connecting = false,
                Err(_) => {
                    return match sockopt::socket_error(&self.socket) {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) | Err(error) => Some(Heard::Gone(error.raw_os_error())),
                    };
                }
            }
        }
        while self.written < self.out.len() {
            match net::send(&self.socket, &self.out[self.written..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.written += sent,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // What it said before it went is still to be read.
                Err(_) => break,
            }
        }
        loop {
            let mut bytes = [0; HELLO_MAX];
            match net::recv(&self.socket, &mut bytes, RecvFlags::empty()) {
                Ok((0, _)) => return Some(Heard::Gone(0)),
                // Nothing follows a hello.
                Ok(_) if self.heard_all => return Some(Heard::Malformed(Malformed::Field)),
                Ok((count, _)) => {
                    self.heard.extend_from_slice(&bytes[..count]);
                    match Hello::decode(&self.heard) {
                        Ok(None) => {}
                        Ok(Some((_, len))) if len < self.heard.len() => {
                            return Some(Heard::Malformed(Malformed::Field));
                        }
                        Ok(Some((hello, _))) => {
                            (self.heard, self.heard_all) = (Vec::new(), true);
                            return Some(Heard::Hello(hello));
                        }
                        Err(malformed) => return Some(Heard::Malformed(malformed)),
                    }
                }
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                Err(error) => return Some(Heard::Gone(error.raw_os_error())),
            }
        }
    }

    /// The peer's address.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        net::getpeername(&self.socket).ok()??.try_into().ok()
    }

    /// Our own address.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        net::getsockname(&self.socket).ok()?.try_into().ok()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where such connections are accepted.
#[derive(Debug)]
pub(super) struct Door {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Door {
    /// Listens; port 0 chooses one.
    pub(super) fn open(at: SocketAddr, backlog: u32) -> Result<Self, Failure> {
        let socket = socket(at)?;
        sockopt::set_socket_reuseaddr(&socket, true).map_err(failure("setsockopt"))?;
        if at.is_ipv6() {
            // `[::]` means IPv4 peers too, as with tcp.
            sockopt::set_ipv6_v6only(&socket, false).map_err(failure("setsockopt"))?;
        }
        net::bind(&socket, &at).map_err(failure("bind"))?;
        net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(failure("listen"))?;
        let address = net::getsockname(&socket).map_err(failure("getsockname"))?;
        let address = address.try_into().map_err(|_| Failure::new("getsockname", libc::EADDRNOTAVAIL))?;
        Ok(Self { socket, address })
    }

    /// The real address.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next who has come; `None` if there is nobody. An error is the system's, for want of descriptors.
    pub(super) fn next(&self) -> Result<Option<Wire>, Failure> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match acceptfrom_with(&self.socket, flags) {
                Ok((socket, _)) => return Wire::new(socket, false).map(Some),
                Err(Errno::AGAIN) => return Ok(None),
                // Whoever it was has left again (accept(2)).
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(error) => return Err(failure("accept")(error)),
            }
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket(of: SocketAddr) -> Result<OwnedFd, Failure> {
    let family = if of.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(family, SocketType::STREAM, flags, None).map_err(failure("socket"))
}

fn failure(call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::new(call, errno.raw_os_error())
}

const _: () = assert!(KEEPALIVE_IDLE.as_secs() > 0 && KEEPALIVE_INTERVAL.as_secs() > 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ofi::hello::Kind;
    use rdma_links::fabric::PrivateData;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn wait(wire: &Wire) {
        let mut fds = [PollFd::from_borrowed_fd(
            wire.fd(),
            if wire.wants_to_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN },
        )];
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert!(poll(&mut fds, Some(&patience)).unwrap() > 0, "nothing came");
    }

    fn hear(wire: &mut Wire) -> Heard {
        loop {
            if let Some(heard) = wire.progress() {
                return heard;
            }
            wait(wire);
        }
    }

    fn couple() -> (Wire, Wire) {
        let door = Door::open("127.0.0.1:0".parse().unwrap(), 4).unwrap();
        let dialled = Wire::dial(door.address(), None).unwrap();
        let accepted = loop {
            if let Some(wire) = door.next().unwrap() {
                break wire;
            }
        };
        (dialled, accepted)
    }

    fn ask() -> Hello {
        let private = PrivateData::new(b"private");
        Hello {
            kind: Kind::Ask,
            provider: "shm".to_owned(),
            name: b"fi_shm://1".to_vec(),
            witness: None,
            private,
        }
    }

    #[test]
    fn a_hello_said_while_connecting_arrives_and_an_end_is_heard() {
        let (mut dialled, mut accepted) = couple();
        dialled.say(&ask());
        assert!(dialled.wants_to_write());
        assert!(dialled.progress().is_none());
        assert!(matches!(hear(&mut accepted), Heard::Hello(hello) if hello == ask()));
        assert!(!dialled.wants_to_write());
        accepted.say(&Hello { kind: Kind::Yes, ..ask() });
        assert!(accepted.progress().is_none());
        drop(accepted);
        assert!(matches!(hear(&mut dialled), Heard::Hello(hello) if hello.kind == Kind::Yes));
        assert!(matches!(hear(&mut dialled), Heard::Gone(0)));
    }

    #[test]
    fn nothing_may_follow_a_hello() {
        let (mut dialled, mut accepted) = couple();
        dialled.say(&ask());
        assert!(dialled.progress().is_none());
        assert!(matches!(hear(&mut accepted), Heard::Hello(_)));
        dialled.say(&ask());
        assert!(dialled.progress().is_none());
        assert!(matches!(hear(&mut accepted), Heard::Malformed(_)));
    }

    #[test]
    fn a_port_where_nobody_listens_is_refused_and_one_can_be_taken_once() {
        let door = Door::open("127.0.0.1:0".parse().unwrap(), 4).unwrap();
        assert_eq!(Door::open(door.address(), 4).unwrap_err().errno, libc::EADDRINUSE);
        let address = door.address();
        drop(door);
        let mut dialled = Wire::dial(address, None).unwrap();
        assert!(matches!(hear(&mut dialled), Heard::Gone(libc::ECONNREFUSED)));
    }
}
