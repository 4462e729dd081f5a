//! A socket of either library behind one face, so that a test is written once and run with both in both places.
//! Judges nothing.

use std::time::Duration;

use fabriq::{Frame, Message, SocketType};

use crate::wire::{self, PATIENCE};
use crate::zmq::{self, Setting};

/// Which library a socket is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs,
}

/// One socket.
#[derive(Debug)]
pub(crate) enum Party {
    Ours(fabriq::Socket),
    Theirs(zmq::Socket),
}

/// A context of each library.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ours: fabriq::Context,
    pub(crate) theirs: zmq::Context,
}

fn number(kind: SocketType) -> i32 {
    match kind {
        SocketType::Pair => 0,
        SocketType::Pub => 1,
        SocketType::Sub => 2,
        SocketType::Req => 3,
        SocketType::Rep => 4,
        SocketType::Dealer => 5,
        SocketType::Router => 6,
        SocketType::Pull => 7,
        SocketType::Push => 8,
        SocketType::Xpub => 9,
        SocketType::Xsub => 10,
        SocketType::Stream => 11,
        other => unreachable!("{other} is none of these tests"),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self { ours: fabriq::context().unwrap(), theirs: zmq::Context::new() }
    }

    pub(crate) fn ours(&self, kind: SocketType) -> fabriq::Socket {
        wire::socket(&self.ours, kind)
    }

    pub(crate) fn theirs(&self, kind: SocketType) -> zmq::Socket {
        let socket = self.theirs.socket(number(kind));
        socket.set_time(Setting::SendTimeout, PATIENCE);
        socket.set_time(Setting::ReceiveTimeout, PATIENCE);
        // A SUB that lost its peer would linger for the subscriptions that it wants to say again.
        let linger = if kind == SocketType::Sub { 0 } else { 5 };
        socket.set_time(Setting::Linger, Duration::from_secs(linger));
        socket.set_time(Setting::ReconnectInterval, Duration::from_millis(20));
        socket
    }

    pub(crate) fn party(&self, side: Side, kind: SocketType) -> Party {
        match side {
            Side::Ours => Party::Ours(self.ours(kind)),
            Side::Theirs => Party::Theirs(self.theirs(kind)),
        }
    }
}

impl Party {
    pub(crate) fn bind(&self, endpoint: &str) -> String {
        match self {
            Self::Ours(socket) => socket.bind(endpoint).unwrap().to_string(),
            Self::Theirs(socket) => socket.bind(endpoint),
        }
    }

    pub(crate) fn connect(&self, endpoint: &str) {
        match self {
            Self::Ours(socket) => socket.connect(endpoint).unwrap(),
            Self::Theirs(socket) => socket.connect(endpoint),
        }
    }

    /// `false`: there was no room within the send timeout.
    pub(crate) fn try_send<P: AsRef<[u8]>>(&self, parts: &[P]) -> bool {
        match self {
            Self::Ours(socket) => {
                let parts = parts.iter().map(|part| Frame::copy_from_slice(part.as_ref()));
                match socket.send(Message::from_parts(parts).unwrap()) {
                    Ok(()) => true,
                    Err(refused) if refused.error == fabriq::Error::Again => false,
                    Err(refused) => panic!("{refused}"),
                }
            }
            Self::Theirs(socket) => match socket.send(parts) {
                Ok(()) => true,
                Err(zmq::EAGAIN) => false,
                Err(error) => panic!("{error:?}"),
            },
        }
    }

    pub(crate) fn send<P: AsRef<[u8]>>(&self, parts: &[P]) {
        assert!(self.try_send(parts), "{self:?} found no room in time");
    }

    /// The next message, or nothing within the receive timeout.
    pub(crate) fn try_recv(&self) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::Ours(socket) => match socket.recv() {
                Ok(message) => Some(message.parts().map(|part| part.to_vec()).collect()),
                Err(fabriq::Error::Again) => None,
                Err(error) => panic!("{error}"),
            },
            Self::Theirs(socket) => match socket.recv() {
                Ok(parts) => Some(parts),
                Err(zmq::EAGAIN) => None,
                Err(error) => panic!("{error:?}"),
            },
        }
    }

    pub(crate) fn recv(&self) -> Vec<Vec<u8>> {
        self.try_recv().unwrap_or_else(|| panic!("{self:?} got nothing in time"))
    }

    /// The next message, which is this one.
    pub(crate) fn expect<P: AsRef<[u8]>>(&self, parts: &[P]) {
        let got = self.recv();
        let same = got.len() == parts.len() && got.iter().zip(parts).all(|(a, b)| a == b.as_ref());
        if !same {
            let short =
                |part: &[u8]| format!("{} B {}", part.len(), part[..part.len().min(40)].escape_ascii());
            let got: Vec<_> = got.iter().map(|part| short(part)).collect();
            let want: Vec<_> = parts.iter().map(|part| short(part.as_ref())).collect();
            panic!("{self:?} got {got:?} instead of {want:?}");
        }
    }

    pub(crate) fn subscribe(&self, topic: &[u8]) {
        match self {
            Self::Ours(socket) => socket.subscribe(topic).unwrap(),
            Self::Theirs(socket) => socket.set_bytes(Setting::Subscribe, topic),
        }
    }

    pub(crate) fn unsubscribe(&self, topic: &[u8]) {
        match self {
            Self::Ours(socket) => socket.unsubscribe(topic).unwrap(),
            Self::Theirs(socket) => socket.set_bytes(Setting::Unsubscribe, topic),
        }
    }

    pub(crate) fn set_timeouts(&self, timeout: Duration) {
        match self {
            Self::Ours(socket) => socket
                .set_options(|options| {
                    options.send_timeout = Some(timeout);
                    options.receive_timeout = Some(timeout);
                })
                .unwrap(),
            Self::Theirs(socket) => {
                socket.set_time(Setting::SendTimeout, timeout);
                socket.set_time(Setting::ReceiveTimeout, timeout);
            }
        }
    }

    pub(crate) fn set_marks(&self, mark: u32) {
        match self {
            Self::Ours(socket) => {
                socket.set_options(|options| (options.send_hwm, options.receive_hwm) = (mark, mark)).unwrap()
            }
            Self::Theirs(socket) => {
                socket.set(Setting::SendHwm, mark as i32);
                socket.set(Setting::ReceiveHwm, mark as i32);
            }
        }
    }

    /// Kernel buffers of both directions.
    pub(crate) fn set_buffers(&self, bytes: u32) {
        match self {
            Self::Ours(socket) => socket
                .set_options(|options| {
                    (options.send_buffer, options.receive_buffer) = (Some(bytes), Some(bytes));
                })
                .unwrap(),
            Self::Theirs(socket) => {
                socket.set(Setting::SendBuffer, bytes as i32);
                socket.set(Setting::ReceiveBuffer, bytes as i32);
            }
        }
    }

    pub(crate) fn set_routing_id(&self, id: &[u8]) {
        match self {
            Self::Ours(socket) => socket.set_options(|options| options.routing_id = id.into()).unwrap(),
            Self::Theirs(socket) => socket.set_bytes(Setting::RoutingId, id),
        }
    }

    pub(crate) fn set_ipv6(&self) {
        match self {
            Self::Ours(socket) => socket.set_options(|options| options.ipv6 = true).unwrap(),
            Self::Theirs(socket) => socket.set(Setting::Ipv6, 1),
        }
    }

    pub(crate) fn set_max_message_size(&self, bytes: u64) {
        match self {
            Self::Ours(socket) => {
                socket.set_options(|options| options.max_message_size = Some(bytes)).unwrap();
            }
            Self::Theirs(socket) => {
                socket.set_bytes(Setting::MaxMessageSize, &(bytes as i64).to_ne_bytes());
            }
        }
    }
}

/// Makes a test of each function that takes an endpoint to bind, over tcp and over ipc.
macro_rules! over_tcp_and_ipc {
    ($($test:ident),* $(,)?) => {
        mod tcp {
            $(#[test]
            fn $test() {
                super::$test("tcp://127.0.0.1:*");
            })*
        }
        mod ipc {
            $(#[test]
            fn $test() {
                super::$test("ipc://*");
            })*
        }
    };
}
pub(crate) use over_tcp_and_ipc;

/// Runs `test` with a socket of type `a` and one of type `b`, not opened yet: one ours, one theirs, and the reverse.
pub(crate) fn mixed(a: SocketType, b: SocketType, test: impl Fn(Party, Party)) {
    for side in [Side::Ours, Side::Theirs] {
        let other = if side == Side::Ours { Side::Theirs } else { Side::Ours };
        eprintln!("-- {a} {side:?}, {b} {other:?}");
        let world = World::new();
        test(world.party(side, a), world.party(other, b));
    }
}

/// As [`mixed`], with the sockets connected, either of them bound.
pub(crate) fn connected(wildcard: &str, a: SocketType, b: SocketType, test: impl Fn(Party, Party)) {
    for a_binds in [true, false] {
        eprintln!("-- {} binds", if a_binds { a } else { b });
        mixed(a, b, |a, b| {
            open(wildcard, &a, &b, a_binds);
            test(a, b);
        });
    }
}

/// Binds one, connects the other.
pub(crate) fn open(wildcard: &str, a: &Party, b: &Party, a_binds: bool) -> String {
    let (bound, dialled) = if a_binds { (a, b) } else { (b, a) };
    let endpoint = bound.bind(wildcard);
    dialled.connect(&endpoint);
    endpoint
}

/// `len` bytes that differ by place and by `seed`. Fast also without optimisation.
pub(crate) fn body(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len.min(251)).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
    bytes.reserve_exact(len - bytes.len());
    while bytes.len() < len {
        let more = bytes.len().min(len - bytes.len());
        bytes.extend_from_within(..more);
    }
    bytes
}
