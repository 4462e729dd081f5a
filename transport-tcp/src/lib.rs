//! tcp:// for fabriq: byte streams that carry ZMTP 3.1 frames. Knows no patterns, mechanisms or sockets.
//!
//! ```text
//! address    tcp:// addresses, split and checked; resolves nothing
//! zmtp       greeting and frame header, sans-I/O
//! incoming   bytes of one stream -> parts, sans-I/O
//! outgoing   parts -> bytes of one stream, sans-I/O, and which of them went unseen
//! names      the helper thread that resolves host names
//! link       one connection: socket, both halves, one turn at a time
//! socket     the system calls that make sockets
//! driver     epoll, links, opens, timers: the seam's contract
//! ```

#![forbid(unsafe_code)]

mod address;
mod driver;
mod incoming;
mod limits;
mod link;
mod names;
mod outgoing;
mod socket;
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
}

/// The pure machines, for the fuzz targets and the tests that replay their corpus. Not part of the interface.
#[doc(hidden)]
pub mod fuzz {
    use transport_core::{
        Completion, DownReason, Endpoint, FramePool, Hello, LinkId, OpenError, Part, SlabKey, Violation,
    };

    use crate::incoming::{Buffers, Incoming, Stop};

    /// Parses an address both ways it may be used.
    pub fn address(endpoint: &Endpoint) -> Result<(), OpenError> {
        crate::address::Address::parse(endpoint).map(|address| {
            let _ = address.clone().listen(endpoint);
            let _ = address.dial(endpoint);
        })
    }

    /// Parses what has arrived of a greeting.
    pub fn greeting(prefix: &[u8]) -> Result<Option<Hello>, Violation> {
        crate::zmtp::parse_greeting(prefix)
    }

    /// Decodes a stream that arrives in pieces of the given lengths (the last one is the rest).
    pub fn frames(stream: &[u8], pieces: &[u8], part_max: Option<u64>) -> (Vec<Part>, Option<DownReason>) {
        let pool = FramePool::new(8 << 20);
        let mut buffers = Buffers::new(pool);
        let mut incoming = Incoming::new(part_max);
        incoming.set_grant(u64::MAX);
        let link = LinkId::from(SlabKey::from_u64(1 << 32));
        let (mut out, mut stream, mut pieces) = (Vec::new(), stream, pieces.iter());
        let mut broken = None;
        loop {
            match incoming.deliver(&mut buffers, link, usize::MAX, &mut out) {
                Ok(Stop::Hungry) if !stream.is_empty() => {}
                Ok(_) => break,
                Err(reason) => {
                    broken = Some(reason);
                    break;
                }
            }
            incoming.settle(&mut buffers);
            let piece = pieces.next().map_or(usize::MAX, |&piece| usize::from(piece).max(1));
            let taken = incoming.read_with(&mut buffers, |slices| {
                let mut taken = 0;
                for slice in slices {
                    let n = slice.len().min(stream.len()).min(piece - taken);
                    slice[..n].copy_from_slice(&stream[..n]);
                    stream = &stream[n..];
                    taken += n;
                }
                Ok::<_, std::convert::Infallible>(taken)
            });
            let Ok(_) = taken;
        }
        let parts = out.into_iter().filter_map(|completion| match completion {
            Completion::Received { part, .. } => Some(part),
            _ => None,
        });
        (parts.collect(), broken)
    }
}
