//! fabriq as a peer: PUB and SUB on whatever URL, by the public API alone.

use crate::Result;
use crate::load::Load;
use crate::peer::{Publisher, Subscriber};
use fabriq::{Error, SocketType};
use std::time::Duration;

/// Bytes that may wait in a queue: the high-water mark is this over the size of a message.
const QUEUE_BYTES: u64 = 16 << 20;

/// Keeps its context too: the last of both ends the I/O.
#[derive(Debug)]
pub(crate) struct Socket(fabriq::Socket);

impl Socket {
    fn open(load: &Load, kind: SocketType) -> Result<Self> {
        let socket = fabriq::context()?.socket(kind)?;
        socket.set_options(|options| {
            let messages = (QUEUE_BYTES / load.bytes).clamp(8, 100_000) as u32;
            options.send_hwm = messages;
            options.receive_hwm = messages;
            // Else it drops at the high-water mark, and would be measured by how fast it throws away.
            options.xpub_nodrop = true;
            options.send_buffer = Some(load.buffer as u32);
            options.receive_buffer = Some(load.buffer as u32);
        })?;
        Ok(Self(socket))
    }

    pub(crate) fn publisher(load: &Load) -> Result<Self> {
        let socket = Self::open(load, SocketType::Pub)?;
        let (mut url, kbit) = (load.url(), load.cap_mbit * 1000);
        // Other transports know no rate, and have other means against floods.
        if url.contains("pgm://") {
            url += &format!("{}rate_kbit={kbit}", if url.contains('?') { '&' } else { '?' });
        }
        socket.0.connect(&url)?;
        Ok(socket)
    }

    pub(crate) fn subscriber(load: &Load) -> Result<Self> {
        let socket = Self::open(load, SocketType::Sub)?;
        socket.0.subscribe("")?;
        socket.0.connect(&load.url())?;
        Ok(socket)
    }
}

impl Publisher for Socket {
    fn send(&mut self, body: &[u8]) -> Result<()> {
        Ok(self.0.send(body)?)
    }
}

impl Subscriber for Socket {
    fn receive(&mut self, limit: Duration, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self.0.recv_timeout(limit) {
            Ok(message) => take(message.body()),
            Err(Error::Again) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        while let Ok(message) = self.0.try_recv() {
            take(message.body());
        }
        Ok(())
    }
}
