//! tcp:// and ipc:// for fabriq: byte streams that carry ZMTP 3.1 frames. Knows no patterns, mechanisms or sockets.
//!
//! ```text
//! address    what a URL names, and the routes there
//! tcp        host:port, and TCP sockets; resolves nothing
//! ipc        paths and abstract names, and Unix-domain sockets
//! greeting   which version of ZMTP a peer speaks, sans-I/O
//! zmtp       frame headers, sans-I/O
//! incoming   bytes of one stream -> parts, sans-I/O
//! outgoing   parts -> bytes of one stream, sans-I/O, and which of them went unseen
//! drain      when a link that closes has said everything, sans-I/O
//! link       one connection: socket, both halves, one turn at a time
//! socket     sockets of either kind: listen, dial, accept
//! socket_file      the file of a listening ipc socket
//! credentials      the system call that tells who a peer is
//! unacknowledged   the one that tells what is still on its way
//! driver     epoll, links, opens, timers: the seam's contract
//! ```

#![deny(unsafe_code)]

mod address;
mod credentials;
mod drain;
mod driver;
mod greeting;
mod hot;
mod incoming;
mod ipc;
mod limits;
mod link;
mod outgoing;
mod socket;
mod socket_file;
mod tcp;
mod unacknowledged;
mod zmtp;

use transport_core::{
    Capabilities, Delivery, Driver, DriverEnv, Endpoint, Flow, OpenError, SessionKind, Topology, Transport,
};

/// The transport behind `tcp://` and `ipc://`. Holds nothing; each driver has its own epoll set, for links of both.
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
        &["tcp", "ipc"]
    }

    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError> {
        address::Address::parse(endpoint)?;
        let (flow, session) = match flow {
            Flow::Stream => (Flow::Stream, SessionKind::None),
            // A byte stream goes both ways whichever way the socket's parts go: subscriptions travel upstream.
            _ => (Flow::Duplex, SessionKind::Zmtp),
        };
        Ok(Capabilities {
            delivery: Delivery::Reliable,
            flow,
            pushback: true,
            topology: Topology::Unicast,
            session,
        })
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        Ok(Box::new(driver::TcpDriver::new(env)?))
    }

    fn adopts_listeners(&self) -> bool {
        true
    }

    fn local(&self, scheme: &str) -> Option<Endpoint> {
        let url = match scheme {
            "tcp" => "tcp://127.0.0.1:*",
            "ipc" => "ipc://*",
            _ => return None,
        };
        Endpoint::parse(url).ok()
    }
}

#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod fuzz;
