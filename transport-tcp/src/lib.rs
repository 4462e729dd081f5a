//! tcp:// for fabriq: byte streams that carry ZMTP 3.1 frames. Knows no patterns, mechanisms or sockets.
//!
//! ```text
//! address    tcp:// addresses, split and checked; resolves nothing
//! zmtp       greeting and frame header, sans-I/O
//! incoming   bytes of one stream -> parts, sans-I/O
//! outgoing   parts -> bytes of one stream, sans-I/O, and which of them went unseen
//! drain      when a link that closes has said everything, sans-I/O
//! link       one connection: socket, both halves, one turn at a time
//! socket     the system calls that make sockets
//! unacknowledged   the one that tells what is still on its way
//! driver     epoll, links, opens, timers: the seam's contract
//! ```

#![deny(unsafe_code)]

mod address;
mod drain;
mod driver;
mod incoming;
mod limits;
mod link;
mod outgoing;
mod socket;
mod unacknowledged;
mod zmtp;

use transport_core::{
    Capabilities, Delivery, Driver, DriverEnv, Endpoint, Flow, OpenError, SessionKind, Topology, Transport,
};

/// The transport behind `tcp://`. Holds nothing; each driver has its own epoll set.
#[derive(Debug, Default)]
pub struct TcpTransport(());

impl TcpTransport {
    /// Makes the transport.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for TcpTransport {
    fn schemes(&self) -> &'static [&'static str] {
        &["tcp"]
    }

    fn capabilities(&self, endpoint: &Endpoint, _flow: Flow) -> Result<Capabilities, OpenError> {
        address::Address::parse(endpoint)?;
        // A byte stream goes both ways whichever way the socket's parts go: subscriptions travel upstream.
        Ok(Capabilities {
            delivery: Delivery::Reliable,
            flow: Flow::Duplex,
            pushback: true,
            topology: Topology::Unicast,
            session: SessionKind::Zmtp,
        })
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        Ok(Box::new(driver::TcpDriver::new(env)?))
    }

    fn local(&self, _scheme: &str) -> Option<Endpoint> {
        Endpoint::parse("tcp://127.0.0.1:*").ok()
    }
}

#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod fuzz;
