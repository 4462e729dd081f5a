//! How what receivers say to one of several sources on a host reaches it. All of them share one UDP port, as libzmq's sources do,
//! and the system gives each unicast datagram to one of them, whoever that is. Whoever gets another's hands it on: by a
//! local socket whose name follows from the session, so that it crosses processes, and fails at once when nobody has that name.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::interface::canonical;
use crate::limits::{CONTROL_LEN_MAX, UPSTREAM_LEN_MAX};
use crate::packet::Tsi;

/// Where it came from, in front of each packet.
const FROM_LEN: usize = 16;

/// A source's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox(UnixDatagram);

impl Mailbox {
    pub(super) fn open(tsi: Tsi) -> io::Result<Self> {
        let socket = UnixDatagram::bind_addr(&name(tsi)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Hands a packet to the source of this session. `false` when it is none of those on this host that know of mailboxes.
    pub(super) fn hand_on(&self, tsi: Tsi, from: IpAddr, packet: &[u8]) -> bool {
        let mut letter = [0; FROM_LEN + CONTROL_LEN_MAX];
        let Some(body) = letter.get_mut(FROM_LEN..FROM_LEN + packet.len()) else { return true };
        body.copy_from_slice(packet);
        let v6 = match from {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        letter[..FROM_LEN].copy_from_slice(&v6.octets());
        let sent = name(tsi).and_then(|name| self.0.send_to_addr(&letter[..FROM_LEN + packet.len()], &name));
        // A full mailbox loses it as a network would.
        !sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// The next packet, and where it came from.
    pub(super) fn take<'a>(
        &self,
        letter: &'a mut [u8; UPSTREAM_LEN_MAX],
    ) -> io::Result<Option<(IpAddr, &'a [u8])>> {
        let len = self.0.recv(letter)?;
        let Some((from, packet)) = letter[..len].split_first_chunk::<FROM_LEN>() else { return Ok(None) };
        Ok(Some((canonical(Ipv6Addr::from(*from).into()), packet)))
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// In the abstract namespace, which belongs to the network namespace and leaves nothing behind.
fn name(tsi: Tsi) -> io::Result<SocketAddr> {
    let mut name = *b"fabriq-pgm-................";
    let (_, digits) = name.split_at_mut(11);
    let [a, b, c, d, e, f] = tsi.gsi.0;
    let [g, h] = tsi.port.to_be_bytes();
    for (pair, byte) in digits.chunks_exact_mut(2).zip([a, b, c, d, e, f, g, h]) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    SocketAddr::from_abstract_name(name)
}
