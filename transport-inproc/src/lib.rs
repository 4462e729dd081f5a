//! inproc:// for fabriq: messages between sockets of one context, moved and never copied. Knows no descriptor, no
//! clock and no protocol.
//!
//! It is the reference implementation of the seam, so it is written to be read:
//!
//! ```text
//! driver A --outgoing--flush--> lane A to B --poll--> incoming-- driver B        a pipe is a pair of lanes
//!                               (Mutex, swapped whole)
//! table    name -> who listens, or who waits for somebody to listen              one per context
//! mailbox  what other drivers tell this one: a new pipe, a lane that changed     one per driver
//! ```
//!
//! * A frame is moved from lane to lane; the bytes stay where they are.
//! * A connect to a name that nobody has bound waits, silently and without limit, as in libzmq; so `Failed` never
//!   comes, and [`Driver::close_open`] is how to stop waiting.
//! * No room of its own: a sender may post what the receiver has granted, and before its first grant as much as the
//!   receive high-water mark of its `Identity` says. So an engine that grants the free space of its pipe makes a link
//!   hold exactly the sum of the sender's and the receiver's marks, as libzmq's inproc does.
//! * There is no device, so a part counts as `Sent` when `flush` has moved it, and only what was never flushed is
//!   `Returned`. To say more, the receiver would have to wake the sender for every batch.
//! * A driver is woken only when it has armed, outside every lock, and never by itself.

#![forbid(unsafe_code)]

mod driver;
pub mod limits;
mod mailbox;
mod pipe;
mod table;

use transport_core::{
    Capabilities, Delivery, Driver, DriverEnv, Endpoint, Flow, OpenError, SessionKind, Topology, Transport,
};

/// The transport behind `inproc://name`. Values share everything; the context number decides who meets whom.
#[derive(Debug, Clone, Copy, Default)]
pub struct InprocTransport(());

impl InprocTransport {
    /// The transport. Costs nothing.
    pub fn new() -> Self {
        Self(())
    }
}

impl Transport for InprocTransport {
    fn schemes(&self) -> &'static [&'static str] {
        &["inproc"]
    }

    fn capabilities(&self, endpoint: &Endpoint, _flow: Flow) -> Result<Capabilities, OpenError> {
        check(endpoint)?;
        Ok(Capabilities {
            delivery: Delivery::Reliable,
            flow: Flow::Duplex,
            pushback: true,
            topology: Topology::Unicast,
            session: SessionKind::InProcess,
        })
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        Ok(Box::new(driver::InprocDriver::new(env)))
    }
}

/// Names are any text, compared byte by byte.
fn check(endpoint: &Endpoint) -> Result<(), OpenError> {
    let len = endpoint.address().len();
    if len > limits::NAME_MAX {
        let expected = format!("a name has at most {} bytes, this one has {len}", limits::NAME_MAX);
        return Err(OpenError::BadAddress { endpoint: endpoint.clone(), expected });
    }
    Ok(())
}
