//! How a link over raw libfabric comes about. The two ends meet over TCP and tell each other what their provider needs to know:
//! the address of a listener, or both names. Moves no messages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use transport_ofi::device::{
    Address, AddressVector, At, CompletionQueue, Domain, Endpoint, EventKind, EventQueue, Fabric, Info, Kind,
    Query, Queues, Request,
};
use transport_ofi::sys::Library;

use super::{GATHER, Link, Place, Shape, check_len};
use crate::limits::{SENDS, SILENCE};
use crate::{Error, Patience, Result, Wait, wait_readable};

/// What one end calls its only endpoint.
const COOKIE: u64 = 1;

/// Where links over raw libfabric are accepted.
#[derive(Debug)]
pub struct Listener {
    meetings: TcpListener,
    at: Place,
}

impl Listener {
    /// Listens for meetings; port 0 chooses one. Says the real place.
    pub fn new(at: &Place) -> Result<(Self, Place)> {
        // Whether there is such a provider is said now.
        Offer::find(at, At::Anywhere)?;
        let meetings = TcpListener::bind(at.meeting)?;
        let at = Place { meeting: meetings.local_addr()?, ..at.clone() };
        Ok((Self { meetings, at: at.clone() }, at))
    }

    /// The next link; waits for [`crate::SILENCE`] at most.
    pub fn accept(&self, shape: &Shape) -> Result<Link> {
        wait_readable(self.meetings.as_fd())?;
        let (meeting, _) = self.meetings.accept()?;
        let mut meeting = Meeting::new(meeting)?;
        let offer = Offer::find(&self.at, local(&self.at, &meeting)?)?;
        let fabric = Fabric::open(&offer.info)?;
        match offer.kind {
            Kind::Unconnected => acquainted(&fabric, &offer.info, meeting, shape),
            Kind::Connected => {
                let mut events = EventQueue::open(&fabric)?;
                let listener =
                    transport_ofi::device::Listener::listen(&fabric, &offer.info, &events, 1, COOKIE)?;
                meeting.tell(&listener.local_address()?)?;
                let request = match next_event(&mut events, &self.at)? {
                    EventKind::Request(request) => request,
                    other => return Err(refused(&self.at, &format!("{other:?} instead of a request"))),
                };
                accepted(&fabric, request, events, meeting, shape, &self.at)
            }
        }
    }
}

impl Link {
    /// A link to who listens there.
    pub fn dial(to: &Place, shape: &Shape) -> Result<Self> {
        let meeting = TcpStream::connect_timeout(&to.meeting, SILENCE)
            .map_err(|error| refused(to, &error.to_string()))?;
        let mut meeting = Meeting::new(meeting)?;
        let offer = Offer::find(to, local(to, &meeting)?)?;
        if offer.kind == Kind::Unconnected {
            let fabric = Fabric::open(&offer.info)?;
            return acquainted(&fabric, &offer.info, meeting, shape);
        }
        let listener = meeting.hear()?;
        let address = listener.to_socket_address().ok_or_else(|| refused(to, "no socket address"))?;
        let offer = Offer::find(to, At::Remote { to: address, from: None })?;
        let fabric = Fabric::open(&offer.info)?;
        let mut parts = Parts::open(&fabric, &offer.info, shape)?;
        let mut events = EventQueue::open(&fabric)?;
        let queues = Queues { completions: &parts.queue, events: Some(&events), peers: None };
        let mut endpoint = Endpoint::open(&parts.domain, &offer.info, &queues, &sizes(shape), COOKIE)?;
        endpoint.connect(&listener, &[])?;
        connected(&mut events, &mut parts.queue, to)?;
        Self::new(endpoint, parts.queue, parts.domain, Some(events), None, meeting.stream()?, shape)
    }
}

/// What both ends of every link have.
struct Parts {
    domain: Domain,
    queue: CompletionQueue,
}

impl Parts {
    fn open(fabric: &Fabric, info: &Info, shape: &Shape) -> Result<Self> {
        check_len(shape.message, info.message_max())?;
        let domain = Domain::open(fabric, info)?;
        let queue = CompletionQueue::open(&domain, SENDS as usize + shape.receives)?;
        if shape.wait == Wait::Asleep && queue.fd().is_none() {
            return Err(Error::NoDescriptor(info.provider().to_owned()));
        }
        Ok(Self { domain, queue })
    }
}

fn sizes(shape: &Shape) -> transport_ofi::device::Shape {
    transport_ofi::device::Shape { sends: SENDS as usize, receives: shape.receives, gather: GATHER }
}

/// The listening end of a connection.
fn accepted(
    fabric: &Fabric,
    request: Request,
    mut events: EventQueue,
    meeting: Meeting,
    shape: &Shape,
    at: &Place,
) -> Result<Link> {
    let mut parts = Parts::open(fabric, request.info(), shape)?;
    let queues = Queues { completions: &parts.queue, events: Some(&events), peers: None };
    let mut endpoint = Endpoint::answer(&parts.domain, request, &queues, &sizes(shape), COOKIE)?;
    endpoint.accept(&[])?;
    connected(&mut events, &mut parts.queue, at)?;
    Link::new(endpoint, parts.queue, parts.domain, Some(events), None, meeting.stream()?, shape)
}

/// Either end without a connection: both tell their names.
fn acquainted(fabric: &Fabric, info: &Info, mut meeting: Meeting, shape: &Shape) -> Result<Link> {
    let Parts { domain, queue } = Parts::open(fabric, info, shape)?;
    let mut peers = AddressVector::open(&domain, info, 1)?;
    let queues = Queues { completions: &queue, events: None, peers: Some(&peers) };
    let mut endpoint = Endpoint::open(&domain, info, &queues, &sizes(shape), COOKIE)?;
    meeting.tell(&endpoint.name()?)?;
    let peer = peers.insert(&meeting.hear()?)?;
    endpoint.set_peer(peer)?;
    Link::new(endpoint, queue, domain, None, Some(peers), meeting.stream()?, shape)
}

/// Waits until a connection stands.
fn connected(events: &mut EventQueue, queue: &mut CompletionQueue, about: &Place) -> Result<()> {
    // Some providers connect as their queue is polled.
    let _ = queue.arm()?;
    match next_event(events, about)? {
        EventKind::Connected(_) => Ok(()),
        other => Err(refused(about, &format!("{other:?} instead of a connection"))),
    }
}

/// The next event that is no failure.
fn next_event(events: &mut EventQueue, about: &Place) -> Result<EventKind> {
    let mut patience = Patience::default();
    loop {
        match events.next_event()?.map(|event| event.kind) {
            Some(EventKind::Failed { failure, .. }) => return Err(refused(about, &failure.to_string())),
            Some(kind) => return Ok(kind),
            None => patience.look()?,
        }
    }
}

impl Place {
    /// The kind of endpoint that links here have.
    pub fn kind(&self) -> Result<Kind> {
        Ok(Offer::find(self, At::Anywhere)?.kind)
    }
}

/// What a provider offers for a place.
struct Offer {
    info: Info,
    kind: Kind,
}

impl Offer {
    fn find(place: &Place, at: At) -> Result<Self> {
        let library = Library::load().map_err(|error| Error::Libraries(error.to_string()))?;
        let both = [Kind::Connected, Kind::Unconnected];
        for kind in both.into_iter().filter(|kind| place.wants.is_none_or(|wanted| wanted == *kind)) {
            let query = Query { kind, at, provider: Some(&place.provider), domain: None };
            if let Some(info) = Info::query(library, &query)?.into_iter().next() {
                return Ok(Self { info, kind });
            }
        }
        Err(refused(place, "the provider offers nothing here; `fabriq info` lists those that do"))
    }
}

/// The address of ours that a peer reaches, by any port.
fn local(place: &Place, meeting: &Meeting) -> Result<At> {
    // Names in shared memory have nothing to do with addresses.
    if place.provider == "shm" {
        return Ok(At::Anywhere);
    }
    Ok(At::Local(SocketAddr::new(meeting.0.local_addr()?.ip(), 0)))
}

fn refused(to: &Place, why: &str) -> Error {
    Error::NotConnected { to: format!("ofi://{to}"), why: why.to_owned() }
}

/// A TCP connection over which two ends tell each other addresses: two bytes of length, and the bytes.
struct Meeting(TcpStream);

impl Meeting {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    fn tell(&mut self, address: &Address) -> Result<()> {
        let bytes = address.as_bytes();
        let mut told = (bytes.len() as u16).to_le_bytes().to_vec();
        told.extend_from_slice(bytes);
        Ok(self.0.write_all(&told)?)
    }

    fn hear(&mut self) -> Result<Address> {
        let mut len = [0; 2];
        self.0.read_exact(&mut len)?;
        let mut bytes = vec![0; u16::from_le_bytes(len).into()];
        self.0.read_exact(&mut bytes)?;
        Address::from_bytes(&bytes).ok_or(Error::Closed)
    }

    /// The connection, to be looked at now and then.
    fn stream(self) -> Result<TcpStream> {
        self.0.set_nonblocking(true)?;
        Ok(self.0)
    }
}
