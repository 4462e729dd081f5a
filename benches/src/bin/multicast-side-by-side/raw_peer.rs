//! Bare UDP multicast: the raw limit. It repairs nothing, and keeps to the cap by itself.

use crate::Result;
use crate::load::Load;
use crate::message::now_ns;
use crate::peer::{Publisher, Subscriber};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::ErrorKind;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

/// What fits one packet of an Ethernet: this peer has no fragments.
pub(crate) const BYTES_MAX: u64 = 1500 - HEADER_BYTES;
/// IP and UDP.
const HEADER_BYTES: u64 = 28;
/// How far ahead of the cap it may be: a sleep takes longer than a packet.
const AHEAD_NS: u64 = 1_000_000;
/// Datagrams taken before the caller looks at the clock.
const BATCH: usize = 64;

fn socket(load: &Load) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_send_buffer_size(load.buffer)?;
    socket.set_recv_buffer_size(load.buffer)?;
    Ok(socket)
}

#[derive(Debug)]
pub(crate) struct Sender {
    socket: UdpSocket,
    /// Of one byte, at the cap; 0 without one.
    ns_per_byte: f64,
    /// When the link would have sent everything so far.
    idle_at_ns: u64,
}

impl Sender {
    pub(crate) fn open(load: &Load) -> Result<Self> {
        let socket = socket(load)?;
        socket.set_multicast_loop_v4(false)?;
        socket.bind_device(Some(load.interface.as_bytes()))?;
        socket.connect(&SocketAddrV4::new(load.group, load.port).into())?;
        let ns_per_byte = if load.cap_mbit == 0 { 0.0 } else { 8e3 / load.cap_mbit as f64 };
        Ok(Self { socket: socket.into(), ns_per_byte, idle_at_ns: 0 })
    }
}

impl Publisher for Sender {
    fn send(&mut self, body: &[u8]) -> Result<()> {
        if self.ns_per_byte > 0.0 {
            let now = now_ns();
            let ahead = self.idle_at_ns.saturating_sub(now);
            if ahead > AHEAD_NS {
                std::thread::sleep(Duration::from_nanos(ahead));
            }
            let bytes = body.len() as f64 + HEADER_BYTES as f64;
            self.idle_at_ns = self.idle_at_ns.max(now) + (bytes * self.ns_per_byte) as u64;
        }
        self.socket.send(body)?;
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Receiver {
    socket: UdpSocket,
    body: Vec<u8>,
    limit: Option<Duration>,
}

impl Receiver {
    pub(crate) fn open(load: &Load) -> Result<Self> {
        let socket = socket(load)?;
        socket.bind(&SocketAddrV4::new(load.group, load.port).into())?;
        socket.join_multicast_v4_n(&load.group, &InterfaceIndexOrAddress::Index(load.interface_index()?))?;
        Ok(Self { socket: socket.into(), body: vec![0; usize::from(u16::MAX)], limit: None })
    }
}

impl Subscriber for Receiver {
    fn receive(&mut self, limit: Duration, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        if self.limit != Some(limit) {
            self.socket.set_read_timeout(Some(limit))?;
            self.limit = Some(limit);
        }
        for _ in 0..BATCH {
            match self.socket.recv(&mut self.body) {
                Ok(bytes) => take(&self.body[..bytes]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
