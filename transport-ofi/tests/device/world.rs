//! Two endpoints of one provider in this process, and what it takes to have them talk. Waits by looking again and
//! again.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use fabriq_transport_ofi::device::{
    AddressVector, At, Batch, Buffer, CompletionQueue, Domain, Endpoint, Event, EventKind, EventQueue,
    Fabric, Failure, Info, Kind, Listener, PostError, Query, Queues, Remote, Shape, Splice, TargetId, Work,
};
use fabriq_transport_ofi::sys::Library;
use transport_core::{FrameMut, FramePool};

/// After so long a test has hung.
const HUNG: Duration = Duration::from_secs(20);

/// Bytes of a receive buffer.
pub(crate) const PACKET: usize = 8192;

pub(crate) const SHAPE: Shape = Shape { sends: 64, receives: 16, gather: 4 };

pub(crate) fn library() -> &'static Library {
    Library::load().unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn offers(provider: &str, kind: Kind, at: At) -> Vec<Info> {
    let query = Query { kind, at, provider: Some(provider), domain: None };
    Info::query(library(), &query).unwrap()
}

/// The best offer of a provider.
pub(crate) fn offer(provider: &str, kind: Kind, at: At) -> Info {
    let mut offers = offers(provider, kind, at);
    assert!(!offers.is_empty(), "{provider} offers nothing for {at:?}; is it installed?");
    offers.remove(0)
}

/// Does something again and again until it has a result.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(result) = look() {
            return result;
        }
        assert!(begun.elapsed() < HUNG, "nothing came of {what}");
        std::thread::yield_now();
    }
}

/// One endpoint with all it stands on, each in a field of its own: so that tests may drop them in any order.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) queue: CompletionQueue,
    pub(crate) events: Option<EventQueue>,
    pub(crate) peers: Option<AddressVector>,
    pub(crate) domain: Domain,
    pub(crate) fabric: Fabric,
    pub(crate) pool: FramePool,
    pub(crate) batch: Batch,
    /// What has completed, with the failure if it was one.
    pub(crate) done: VecDeque<(Work, Option<Box<Failure>>)>,
}

impl End {
    /// All but the endpoint.
    pub(crate) fn new(info: &Info) -> Self {
        let fabric = Fabric::open(info).unwrap();
        let domain = Domain::open(&fabric, info).unwrap();
        let connected = info.kind() == Some(Kind::Connected);
        Self {
            endpoint: None,
            queue: CompletionQueue::open(&domain, 256).unwrap(),
            events: connected.then(|| EventQueue::open(&fabric).unwrap()),
            peers: (!connected).then(|| AddressVector::open(&domain, info, 4).unwrap()),
            domain,
            fabric,
            pool: FramePool::new(64 << 20),
            batch: Batch::new(),
            done: VecDeque::new(),
        }
    }

    pub(crate) fn queues(&self) -> Queues<'_> {
        Queues { completions: &self.queue, events: self.events.as_ref(), peers: self.peers.as_ref() }
    }

    /// Opens the endpoint and posts receives.
    pub(crate) fn open(&mut self, info: &Info, cookie: u64) {
        let endpoint = Endpoint::open(&self.domain, info, &self.queues(), &SHAPE, cookie).unwrap();
        self.endpoint = Some(endpoint);
        self.post_receives(SHAPE.receives);
    }

    pub(crate) fn endpoint(&mut self) -> &mut Endpoint {
        self.endpoint.as_mut().unwrap()
    }

    pub(crate) fn frame(&self, len: usize) -> FrameMut {
        self.pool.take_for(len, self.domain.memory()).unwrap()
    }

    pub(crate) fn buffer(&self, len: usize) -> Buffer {
        self.domain.buffer(self.frame(len)).unwrap()
    }

    pub(crate) fn post_receives(&mut self, count: usize) {
        let mut buffers = (0..count).map(|_| self.buffer(PACKET)).collect();
        self.endpoint().post_receives(&mut buffers).unwrap();
        assert!(buffers.is_empty());
    }

    /// Looks once at what has completed.
    pub(crate) fn poll(&mut self) -> bool {
        let Self { queue, batch, done, endpoint, .. } = self;
        let found = queue.poll(batch).unwrap();
        for completion in batch {
            if let Some(done_now) = endpoint.as_mut().and_then(|it| it.retire(completion)) {
                done.push_back(done_now);
            }
        }
        found
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.as_mut().and_then(|events| events.next_event().unwrap())
    }
}

/// Two endpoints that are connected, or know each other.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) left: End,
    pub(crate) right: End,
    /// Of connected ones, where `right` was accepted.
    pub(crate) listener: Option<Listener>,
}

pub(crate) const LOOPBACK: &str = "127.0.0.1:0";

pub(crate) fn kind_of(provider: &str) -> Kind {
    if provider == "tcp" { Kind::Connected } else { Kind::Unconnected }
}

pub(crate) fn local(provider: &str) -> At {
    if provider == "shm" { At::Anywhere } else { At::Local(LOOPBACK.parse().unwrap()) }
}

impl Pair {
    pub(crate) fn new(provider: &str) -> Self {
        match kind_of(provider) {
            Kind::Connected => Self::connected(provider),
            Kind::Unconnected => Self::unconnected(provider),
        }
    }

    fn unconnected(provider: &str) -> Self {
        let make = |cookie| {
            let info = offer(provider, Kind::Unconnected, local(provider));
            let mut end = End::new(&info);
            end.open(&info, cookie);
            end
        };
        let (mut left, mut right) = (make(1), make(2));
        meet(&mut left, &mut right);
        meet(&mut right, &mut left);
        Self { left, right, listener: None }
    }

    fn connected(provider: &str) -> Self {
        let (mut right, listener, address) = listening(provider);
        let info = offer(provider, Kind::Connected, At::Remote { to: address.parse().unwrap(), from: None });
        let mut left = End::new(&info);
        left.open(&info, 1);
        left.endpoint().connect(&info.remote_address().unwrap(), b"hello").unwrap();
        let request = wait_for("a request", || {
            assert!(left.next_event().is_none());
            right.next_event()
        });
        let EventKind::Request(request) = request.kind else { panic!("{request:?}") };
        assert_eq!(request.said(), b"hello");
        let endpoint = Endpoint::answer(&right.domain, request, &right.queues(), &SHAPE, 2).unwrap();
        right.endpoint = Some(endpoint);
        right.post_receives(SHAPE.receives);
        right.endpoint().accept(b"welcome").unwrap();
        let (mut one, mut other) = (None, None);
        wait_for("a connection", || {
            one = one.take().or_else(|| left.next_event());
            other = other.take().or_else(|| right.next_event());
            (one.is_some() && other.is_some()).then_some(())
        });
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(matches!(&one.kind, EventKind::Connected(said) if said == b"welcome"), "{one:?}");
        assert!(matches!(&other.kind, EventKind::Connected(_)), "{other:?}");
        assert_eq!((one.cookie, other.cookie), (1, 2));
        Self { left, right, listener: Some(listener) }
    }

    pub(crate) fn poll(&mut self) {
        self.left.poll();
        self.right.poll();
    }

    /// Polls both until `left` has so much to say.
    pub(crate) fn wait_left(&mut self, what: &str) -> (Work, Option<Box<Failure>>) {
        wait_for(what, || {
            self.poll();
            self.left.done.pop_front()
        })
    }

    /// Polls both until `right` has.
    pub(crate) fn wait_right(&mut self, what: &str) -> (Work, Option<Box<Failure>>) {
        wait_for(what, || {
            self.poll();
            self.right.done.pop_front()
        })
    }

    /// What arrives next at `right`, which posts a receive in its place.
    pub(crate) fn receive_right(&mut self) -> Vec<u8> {
        loop {
            match self.wait_right("a packet") {
                (Work::Receive { buffer, len, .. }, None) => {
                    let bytes = buffer[..len].to_vec();
                    self.right.endpoint().post_receives(&mut vec![buffer]).unwrap();
                    return bytes;
                }
                (Work::Send { .. }, None) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends from `left`, as soon as it has room.
    pub(crate) fn send_left(&mut self, buffer: Buffer, len: usize, splices: &mut Vec<Splice>, tag: u32) {
        let mut buffer = Some(buffer);
        self.push_left(|left| match buffer.take() {
            Some(taken) => left.send(taken, len, splices, tag).map_err(|(error, back)| {
                buffer = Some(back);
                error
            }),
            None => Ok(()),
        });
    }

    /// READs from `left`, as soon as it has room.
    pub(crate) fn read_left(&mut self, target: TargetId, into: Range<usize>, from: Remote, tag: u32) {
        self.push_left(|left| left.read(target, into.clone(), from, tag));
    }

    /// Posts to `left` until it has room: without a connection, most providers make one of their own first.
    pub(crate) fn push_left(&mut self, mut post: impl FnMut(&mut Endpoint) -> Result<(), PostError>) {
        wait_for("room to send", || match post(self.left.endpoint()) {
            Ok(()) => Some(()),
            Err(PostError::Full) => {
                self.poll();
                None
            }
            Err(error) => panic!("{error}"),
        });
    }
}

/// An end that listens, and where.
pub(crate) fn listening(provider: &str) -> (End, Listener, String) {
    let info = offer(provider, Kind::Connected, local(provider));
    let end = End::new(&info);
    let listener = Listener::listen(&end.fabric, &info, end.events.as_ref().unwrap(), 16, 77).unwrap();
    let address = listener.local_address().unwrap().to_socket_address().unwrap();
    assert_ne!(address.port(), 0);
    (end, listener, address.to_string())
}

/// Tells `one` of `other`.
pub(crate) fn meet(one: &mut End, other: &mut End) {
    let name = other.endpoint().name().unwrap();
    let peer = one.peers.as_mut().unwrap().insert(&name).unwrap();
    one.endpoint().set_peer(peer).unwrap();
}
