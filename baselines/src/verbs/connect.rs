//! How a link over raw verbs comes about, by RDMA CM (rdma_cm(7)). Moves no data.

use std::net::SocketAddr;

use transport_verbs::device::{CmEventKind, CmId, EventChannel};
use transport_verbs::fabric::{PrivateData, Terms};
use transport_verbs::sys::Libraries;

use super::{Link, Shape};
use crate::limits::{READS, RESOLVE};
use crate::{Error, Result, wait_readable};

/// Where links over raw verbs are accepted.
#[derive(Debug)]
pub struct Listener {
    // Listens as long as it lives, and stands on the channel.
    _id: CmId,
    events: EventChannel,
    at: SocketAddr,
}

impl Listener {
    /// Listens at an address of an RDMA device; port 0 chooses one. Says the real address.
    pub fn new(at: SocketAddr) -> Result<(Self, SocketAddr)> {
        let events = channel()?;
        let mut id = CmId::new(&events, 0)?;
        id.bind(at)?;
        id.listen(1)?;
        let at = id.local_address().unwrap_or(at);
        Ok((Self { _id: id, events, at }, at))
    }

    /// The next link; waits for [`crate::SILENCE`] at most.
    pub fn accept(&self, shape: &Shape) -> Result<Link> {
        let (id, initiator_depth, responder_resources) = loop {
            match next(&self.events, self.at)? {
                CmEventKind::Request { id, initiator_depth, responder_resources } => {
                    break (id, initiator_depth, responder_resources);
                }
                // Of a link before.
                _ => continue,
            }
        };
        let mut link = Link::new(id, shape)?;
        let most = terms();
        let terms = Terms {
            initiator_depth: most.initiator_depth.min(initiator_depth),
            responder_resources: most.responder_resources.min(responder_resources),
            ..most
        };
        link.id.accept(&mut link.pair, &PrivateData::EMPTY, &terms)?;
        match next(&self.events, self.at)? {
            CmEventKind::Established => Ok(link),
            other => Err(refused(self.at, &format!("{other:?} after it was accepted"))),
        }
    }
}

impl Link {
    /// A link to who listens there.
    pub fn dial(to: SocketAddr, shape: &Shape) -> Result<Self> {
        let events = channel()?;
        let mut id = CmId::new(&events, 0)?;
        id.resolve_address(None, to, RESOLVE)?;
        next(&events, to)?;
        id.resolve_route(RESOLVE)?;
        next(&events, to)?;
        let mut link = Self::new(id, shape)?;
        link.id.connect(&link.pair, &PrivateData::EMPTY, &terms())?;
        match next(&events, to)? {
            CmEventKind::Answered => {
                link.id.establish(&mut link.pair, &terms())?;
                Ok(link)
            }
            other => Err(refused(to, &format!("{other:?} instead of an answer"))),
        }
    }
}

fn channel() -> Result<EventChannel> {
    let libraries = Libraries::load().map_err(|error| Error::Libraries(error.to_string()))?;
    Ok(EventChannel::new(libraries)?)
}

/// The next event that is no failure.
fn next(events: &EventChannel, about: SocketAddr) -> Result<CmEventKind> {
    loop {
        let Some(event) = events.next_event(0) else {
            wait_readable(events.fd())?;
            continue;
        };
        match event.kind {
            CmEventKind::Failed(step) => {
                return Err(refused(about, &format!("{step}: status {}", event.status)));
            }
            CmEventKind::Rejected => return Err(refused(about, "nobody listens there")),
            CmEventKind::Other => {}
            kind => return Ok(kind),
        }
    }
}

fn refused(to: SocketAddr, why: &str) -> Error {
    Error::NotConnected { to: format!("verbs://{to}"), why: why.to_owned() }
}

fn terms() -> Terms {
    Terms {
        initiator_depth: 2 * READS as u8,
        responder_resources: 2 * READS as u8,
        retry_count: 7,
        receiver_not_ready_retries: 0,
        ack_timeout: None,
    }
}
