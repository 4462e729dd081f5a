//! Two ends on the boundary, in one thread, that wait until something happens: on any fabric. Knows no test.
#![allow(unreachable_pub, dead_code, reason = "each test program uses its own part")]

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use rdma_links::fabric::{
    Buffer, Cause, Completed, ConnectionId, DeviceId, Dial, Event, Fabric, ListenerId, Mark, Memory,
    PrivateData, QueueLimits, QueueShape, Receives, Sender, Status, Terms, Work,
};
use transport_core::{Armed, FramePool};

/// Where a test runs: real hardware, or a world of its own.
pub trait Place: Debug + Sized {
    /// The boundary there.
    type Fabric: Fabric;
    /// Whether it is one of queue pairs, connected by RDMA CM: a status says what went wrong, nothing that was not signalled is
    /// heard of before something is that was, and both sides agree on READs while they connect.
    const QUEUE_PAIRS: bool = true;
    /// Bytes of private data that a connection carries.
    const PRIVATE_DATA: usize = rdma_links::PRIVATE_DATA_MAX;
    /// Makes one; holds whatever keeps tests apart.
    fn new() -> Self;
    /// An address to listen at, with port 0.
    fn address(&self) -> SocketAddr;
    /// What the URLs of the tests would say beside it.
    fn options(&self) -> <Self::Fabric as Fabric>::Options {
        Default::default()
    }
    /// A new host, or what counts as one.
    fn fabric(&self) -> Self::Fabric;
    /// Sleeps until something may have happened to one of them. False when nothing ever will.
    fn sleep(&self, fabrics: &mut [&mut Self::Fabric]) -> bool;
    /// Lets the next thing happen that is under way, if anything is. Time that passes by itself needs no help.
    fn pass(&self, _fabrics: &mut [&mut Self::Fabric]) {}
}

pub const PACKET: usize = 4096;
pub const RECEIVES: u32 = 16;

pub const SHAPE: QueueShape =
    QueueShape { sends: 32, receives: Receives::Own(RECEIVES), gather: 8, inline: 256 };

pub const TERMS: Terms = Terms {
    initiator_depth: 4,
    responder_resources: 4,
    retry_count: 7,
    receiver_not_ready_retries: 0,
    ack_timeout: None,
};

pub fn mark(tag: u32) -> Mark {
    Mark { tag, signal: true }
}

pub fn quiet(tag: u32) -> Mark {
    Mark { tag, signal: false }
}

/// One side: a fabric of its own with a pool of its own.
#[derive(Debug)]
pub struct End<F> {
    pub fabric: F,
    pub pool: FramePool,
    pub completed: VecDeque<Completed>,
    pub events: VecDeque<Event>,
    scratch: Vec<Completed>,
}

impl<F: Fabric> End<F> {
    pub fn new(place: &impl Place<Fabric = F>) -> Self {
        Self {
            fabric: place.fabric(),
            pool: FramePool::new(64 << 20),
            completed: VecDeque::new(),
            events: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    pub fn look(&mut self) {
        self.fabric.poll(&mut self.scratch, usize::MAX);
        self.completed.extend(self.scratch.drain(..));
        while let Some(event) = self.fabric.next_event() {
            self.events.push_back(event);
        }
    }

    pub fn buffer(&self, device: DeviceId, len: usize) -> Buffer {
        let memory = self.fabric.memory(device).expect("the device is open");
        memory.buffer(self.pool.take(len).expect("the pool has room")).expect("pool memory can be registered")
    }

    pub fn memory(&self, device: DeviceId) -> Memory {
        self.fabric.memory(device).expect("the device is open").clone()
    }

    pub fn post_receives(&mut self, connection: ConnectionId, device: DeviceId, count: u32) {
        let mut buffers: Vec<_> = (0..count).map(|_| self.buffer(device, PACKET)).collect();
        self.fabric.post_receives(connection, &mut buffers).expect("receives fit");
        assert!(buffers.is_empty());
    }

    pub fn sender(&mut self, connection: ConnectionId) -> impl Sender + '_ {
        self.fabric.sender(connection).expect("there is a queue pair")
    }

    /// Sends bytes as one packet, out of a buffer.
    pub fn send(&mut self, connection: ConnectionId, device: DeviceId, bytes: &[u8], mark: Mark) {
        let mut buffer = self.buffer(device, bytes.len().max(1));
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.sender(connection).send(buffer, bytes.len(), &mut Vec::new(), mark).expect("room for a send");
    }
}

/// A place with two ends in it.
#[derive(Debug)]
pub struct Two<P: Place> {
    pub server: End<P::Fabric>,
    pub client: End<P::Fabric>,
    pub place: P,
}

/// Which of two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}
pub use Side::{Client, Server};

impl<P: Place> Two<P> {
    pub fn new() -> Self {
        let place = P::new();
        Self { server: End::new(&place), client: End::new(&place), place }
    }

    pub fn end(&mut self, side: Side) -> &mut End<P::Fabric> {
        match side {
            Server => &mut self.server,
            Client => &mut self.client,
        }
    }

    /// Drives both until one of them has what is looked for.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            self.server.look();
            self.client.look();
            if let Some(found) = found(self) {
                return found;
            }
            let busy = [self.server.fabric.arm(), self.client.fabric.arm()].contains(&Armed::Busy);
            if !busy && !self.place.sleep(&mut [&mut self.server.fabric, &mut self.client.fabric]) {
                for end in [&self.server, &self.client] {
                    println!("{:?}", end.fabric);
                    end.completed.iter().for_each(|completed| println!("  {completed:?}"));
                    end.events.iter().for_each(|event| println!("  {event:?}"));
                }
                panic!("nothing happens any more while waiting for {what}");
            }
        }
    }

    /// The next completion.
    pub fn next_completed(&mut self, side: Side) -> Completed {
        self.until("a completion", |it| it.end(side).completed.pop_front())
    }

    /// The next send or READ that comes back; receives are dropped.
    pub fn next_sent(&mut self, side: Side) -> Completed {
        self.until("a send to come back", |it| {
            while let Some(completed) = it.end(side).completed.pop_front() {
                if !matches!(completed.work, Work::Receive { .. }) {
                    return Some(completed);
                }
            }
            None
        })
    }

    /// The next packet; sends that come back are dropped.
    pub fn next_packet(&mut self, side: Side) -> (ConnectionId, Buffer, usize) {
        self.until("a packet", |it| {
            while let Some(completed) = it.end(side).completed.pop_front() {
                if let Work::Receive { buffer, len } = completed.work {
                    assert_eq!(completed.status, Status::Success);
                    return Some((completed.connection, buffer, len));
                }
            }
            None
        })
    }

    /// The next event that `pick` takes; others are dropped.
    pub fn next_event<T>(&mut self, side: Side, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        self.until(what, |it| {
            while let Some(event) = it.end(side).events.pop_front() {
                if let Some(picked) = pick(event) {
                    return Some(picked);
                }
            }
            None
        })
    }

    /// Listens at the server.
    pub fn listen(&mut self) -> (ListenerId, SocketAddr) {
        let address = self.place.address();
        self.server.fabric.listen(address, 16, &self.place.options()).expect("the address listens")
    }

    /// Dials from the client, up to a queue pair.
    pub fn dial(&mut self, to: SocketAddr, shape: &QueueShape) -> (ConnectionId, DeviceId, QueueLimits) {
        let dial = Dial { to, from: None, timeout: Duration::from_secs(20) };
        let dialled = self.client.fabric.dial(&dial, &self.place.options()).expect("dialling begins");
        let device = self.next_event(Client, "a route", |event| match event {
            Event::Resolved { connection, device } => {
                assert_eq!(connection, dialled);
                Some(device)
            }
            Event::Unreachable { failure, .. } => panic!("{failure}"),
            _ => None,
        });
        let limits = self.client.fabric.create_queue(dialled, shape).expect("a queue pair");
        (dialled, device, limits)
    }

    /// The request at the server's listener.
    pub fn asked(&mut self) -> (ConnectionId, DeviceId, PrivateData) {
        self.next_event(Server, "a request", |event| match event {
            Event::Request { connection, device, private, .. } => Some((connection, device, private)),
            _ => None,
        })
    }

    pub fn established(&mut self, side: Side, which: ConnectionId) -> (PrivateData, u8) {
        self.next_event(side, "the connection", |event| match event {
            Event::Established { connection, private, initiator_depth } if connection == which => {
                Some((private, initiator_depth))
            }
            Event::Rejected { rejection, .. } => panic!("rejected: {rejection:?}"),
            Event::Unreachable { failure, .. } => panic!("{failure}"),
            _ => None,
        })
    }

    /// Disconnects one side, and waits for everything to come back there.
    pub fn drain(&mut self, side: Side, which: ConnectionId) {
        self.end(side).fabric.disconnect(which);
        self.next_event(side, "the last request to come back", |event| {
            (event == Event::Drained { connection: which }).then_some(())
        });
    }
}

/// Two ends that are connected, each with its receives posted.
#[derive(Debug)]
pub struct Couple<P: Place> {
    pub two: Two<P>,
    /// The server's.
    pub listener: ListenerId,
    pub address: SocketAddr,
    pub accepted: ConnectionId,
    pub server_device: DeviceId,
    /// The client's.
    pub dialled: ConnectionId,
    pub client_device: DeviceId,
    pub limits: QueueLimits,
    /// What each heard from the other, and the READs it may have in flight.
    pub asked: PrivateData,
    pub answered: PrivateData,
    pub server_depth: u8,
    pub client_depth: u8,
}

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub receives: u32,
    pub asks: PrivateData,
    pub answers: PrivateData,
    pub client_terms: Terms,
    pub server_terms: Terms,
}

impl Default for Plan {
    fn default() -> Self {
        let (asks, answers) = (PrivateData::EMPTY, PrivateData::EMPTY);
        Self { receives: RECEIVES, asks, answers, client_terms: TERMS, server_terms: TERMS }
    }
}

impl<P: Place> Couple<P> {
    pub fn new() -> Self {
        Self::with(&Plan::default())
    }

    pub fn with(plan: &Plan) -> Self {
        Self::between(Two::new(), plan)
    }

    pub fn between(mut two: Two<P>, plan: &Plan) -> Self {
        let (listener, address) = two.listen();
        let (dialled, client_device, limits) = two.dial(address, &SHAPE);
        two.client.post_receives(dialled, client_device, plan.receives);
        two.client.fabric.connect(dialled, &plan.asks, &plan.client_terms).expect("connecting begins");
        let (accepted, server_device, asked) = two.next_event(Server, "a request", |event| match event {
            Event::Request {
                listener: at,
                connection,
                device,
                private,
                peer,
                initiator_depth,
                responder_resources,
            } => {
                assert_eq!(at, listener);
                assert_eq!(peer.ip(), address.ip());
                let depths = (initiator_depth, responder_resources);
                let theirs = (plan.client_terms.responder_resources, plan.client_terms.initiator_depth);
                assert!(!P::QUEUE_PAIRS || depths == theirs, "what the client serves, and what it wants");
                Some((connection, device, private))
            }
            _ => None,
        });
        two.server.fabric.create_queue(accepted, &SHAPE).expect("a queue pair");
        two.server.post_receives(accepted, server_device, plan.receives);
        two.server.fabric.accept(accepted, &plan.answers, &plan.server_terms).expect("accepting");
        let (answered, client_depth) = two.established(Client, dialled);
        let (_, server_depth) = two.established(Server, accepted);
        Self {
            two,
            listener,
            address,
            accepted,
            server_device,
            dialled,
            client_device,
            limits,
            asked,
            answered,
            server_depth,
            client_depth,
        }
    }

    pub fn sender(&mut self) -> impl Sender + '_ {
        self.two.client.sender(self.dialled)
    }

    pub fn send(&mut self, bytes: &[u8], mark: Mark) {
        self.two.client.send(self.dialled, self.client_device, bytes, mark);
    }

    /// Ends it from the client's side, and checks that everything comes back on both.
    pub fn part(self) -> Two<P> {
        let (mut two, accepted, dialled) = (self.two, self.accepted, self.dialled);
        two.client.fabric.disconnect(dialled);
        two.next_event(Server, "the peer's end", |event| {
            (event == Event::Disconnected { connection: accepted, cause: Cause::Peer }).then_some(())
        });
        two.drain(Server, accepted);
        two.next_event(Client, "the last request to come back", |event| {
            (event == Event::Drained { connection: dialled }).then_some(())
        });
        two.server.fabric.destroy(accepted);
        two.client.fabric.destroy(dialled);
        two.server.completed.clear();
        two.client.completed.clear();
        two
    }
}
