//! Peers of ZMTP 1.0 and 2.0 (libzmq 2 and 3.2), by recorded bytes: what libzmq 4.3.4 said to a peer of that version, over tcp. Tests no
//! peer that lives; those of today are in `interop`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use fabriq::{Message, Socket, SocketType};

const PATIENCE: Duration = Duration::from_secs(10);

/// A version, and what libzmq's sockets said in it. Where one says a routing id, that is "peer".
struct Recorded {
    version: u8,
    /// `["", "hello", 300 times "x"]` to a ROUTER; the last of them is left out here.
    dealer: &'static [u8],
    long_header: &'static [u8],
    /// "question", to a REP.
    req: &'static [u8],
    /// "one", and `["two", "parts"]`, to a PULL.
    push: &'static [u8],
    /// Subscribes to "news", and cancels that, to a PUB.
    sub: &'static [u8],
    /// "news of old", to a SUB: which in 1.0 never subscribes.
    publisher: &'static [u8],
}

const RECORDED: [Recorded; 2] = [
    Recorded {
        version: 1,
        dealer: b"\xff\0\0\0\0\0\0\0\x05\x7fpeer\x01\x01\x06\x01hello",
        long_header: b"\xff\0\0\0\0\0\0\x01-\0",
        req: b"\xff\0\0\0\0\0\0\0\x05\x7fpeer\x01\x01\t\0question",
        push: b"\xff\0\0\0\0\0\0\0\x01\x7f\x04\0one\x04\x01two\x06\0parts",
        sub: b"\xff\0\0\0\0\0\0\0\x01\x7f\x06\0\x01news\x06\0\0news",
        publisher: b"\xff\0\0\0\0\0\0\0\x01\x7f\x0c\0news of old",
    },
    Recorded {
        version: 2,
        dealer: b"\xff\0\0\0\0\0\0\0\x05\x7f\x03\x05\0\x04peer\x01\0\x01\x05hello",
        long_header: b"\x02\0\0\0\0\0\0\x01,",
        req: b"\xff\0\0\0\0\0\0\0\x05\x7f\x03\x03\0\x04peer\x01\0\0\x08question",
        push: b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x08\0\0\0\x03one\x01\x03two\0\x05parts",
        sub: b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x02\0\0\0\x05\x01news\0\x05\0news",
        publisher: b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01\0\0\0\x0bnews of old",
    },
];

impl Recorded {
    fn long(&self) -> Vec<u8> {
        [self.dealer, self.long_header, &[b'x'; 300]].concat()
    }

    /// The same as a peer says it that speaks nothing newer: libzmq 2 has a short header for its routing id, and libzmq 3.2 the
    /// revision 1.
    fn as_old(&self, said: &[u8]) -> Vec<u8> {
        match self.version {
            1 => [&[said[8], 0], &said[10..]].concat(),
            _ => [&said[..10], &[1], &said[11..]].concat(),
        }
    }

    /// The least that a peer says: no routing id, and a type by its number where that is said.
    fn hello(&self, kind: u8) -> Vec<u8> {
        match self.version {
            1 => b"\x01\0".to_vec(),
            _ => [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x01"[..], &[kind, 0, 0]].concat(),
        }
    }

    fn frame(&self, body: &[u8]) -> Vec<u8> {
        match self.version {
            1 => [&[body.len() as u8 + 1, 0], body].concat(),
            _ => [&[0, body.len() as u8], body].concat(),
        }
    }
}

fn socket(context: &fabriq::Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).unwrap();
    let change = |options: &mut fabriq::Options| {
        options.receive_timeout = Some(PATIENCE);
        options.send_timeout = Some(PATIENCE);
        options.linger = Some(Duration::ZERO);
        if matches!(kind, SocketType::Dealer | SocketType::Req) {
            options.routing_id = "peer".into();
        }
    };
    socket.set_options(change).unwrap();
    socket
}

fn message(parts: &[&str]) -> Message {
    Message::from_parts(parts.iter().copied()).unwrap()
}

/// Has one of our sockets dial a peer that says `hello`, and checks that it says what was recorded of libzmq's.
fn says(kind: SocketType, hello: &[u8], recorded: &[u8], act: impl FnOnce(&Socket, &mut TcpStream)) {
    let context = fabriq::context().unwrap();
    let socket = socket(&context, kind);
    if kind == SocketType::Sub {
        socket.subscribe("news").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.write_all(hello).unwrap();
    act(&socket, &mut peer);
    let mut said = vec![0; recorded.len()];
    peer.read_exact(&mut said).unwrap();
    assert_eq!(said.escape_ascii().to_string(), recorded.escape_ascii().to_string(), "{kind}");
}

#[test]
fn our_sockets_say_to_old_peers_what_libzmq_says() {
    for recorded in &RECORDED {
        says(SocketType::Dealer, &recorded.hello(6), &recorded.long(), |socket, _| {
            socket.send(message(&["", "hello", &"x".repeat(300)])).unwrap();
        });
        says(SocketType::Req, &recorded.hello(4), recorded.req, |socket, _| socket.send("question").unwrap());
        says(SocketType::Push, &recorded.hello(7), recorded.push, |socket, _| {
            socket.send("one").unwrap();
            socket.send(message(&["two", "parts"])).unwrap();
        });
        says(SocketType::Sub, &recorded.hello(1), recorded.sub, |socket, peer| {
            // Else it might take it back before there is anybody to tell.
            let subscribed = recorded.sub.len() - recorded.frame(b"\0news").len();
            let mut heard = [0; 64];
            while peer.peek(&mut heard).unwrap() < subscribed {
                std::thread::yield_now();
            }
            socket.unsubscribe("news").unwrap();
        });
        let subscription = if recorded.version == 1 { vec![] } else { recorded.frame(b"\x01ne") };
        let hello = [recorded.hello(2), subscription].concat();
        says(SocketType::Pub, &hello, recorded.publisher, |socket, peer| {
            // A PUB drops what nobody subscribed to; when it has heard the peer's word it does not say.
            let greeting = recorded.publisher.len() - recorded.frame(b"news of old").len();
            let mut heard = [0; 64];
            while peer.peek(&mut heard).unwrap() <= greeting {
                socket.send("news of old").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// One of our sockets, bound, and a peer that says `said` there.
fn visited(context: &fabriq::Context, kind: SocketType, said: &[u8]) -> (Socket, TcpStream) {
    let socket = socket(context, kind);
    if kind == SocketType::Sub {
        socket.subscribe("news").unwrap();
    }
    let endpoint = socket.bind("tcp://127.0.0.1:*").unwrap();
    let mut peer = TcpStream::connect(endpoint.address()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.write_all(said).unwrap();
    (socket, peer)
}

/// What comes behind the greeting.
fn hears(peer: &mut TcpStream, recorded: &Recorded, frames: &[u8]) {
    // The signature, which to a peer of 1.0 is the header of a routing id; then the major, and a type and an empty routing id.
    let greeting = if recorded.version == 1 { 10 } else { 14 };
    let mut said = vec![0; greeting + frames.len()];
    peer.read_exact(&mut said).unwrap();
    assert_eq!(said[greeting..].escape_ascii().to_string(), frames.escape_ascii().to_string());
}

#[test]
fn our_sockets_understand_what_old_peers_say() {
    let context = fabriq::context().unwrap();
    for recorded in &RECORDED {
        let (router, mut peer) = visited(&context, SocketType::Router, &recorded.as_old(&recorded.long()));
        assert_eq!(router.recv().unwrap(), message(&["peer", "", "hello", &"x".repeat(300)]));
        router.send(message(&["peer", "answer"])).unwrap();
        hears(&mut peer, recorded, &recorded.frame(b"answer"));

        let (rep, _peer) = visited(&context, SocketType::Rep, &recorded.as_old(recorded.req));
        assert_eq!(rep.recv().unwrap(), message(&["question"]));
        rep.send("answer").unwrap();

        let (pull, _peer) = visited(&context, SocketType::Pull, &recorded.as_old(recorded.push));
        assert_eq!(pull.recv().unwrap(), message(&["one"]));
        assert_eq!(pull.recv().unwrap(), message(&["two", "parts"]));

        let (sub, _peer) = visited(&context, SocketType::Sub, &recorded.as_old(recorded.publisher));
        assert_eq!(sub.recv().unwrap(), message(&["news of old"]));

        if recorded.version == 1 {
            // It filters by itself, so a proxy's XPUB is to hear that it wants everything.
            let (xpub, peer) = visited(&context, SocketType::Xpub, &recorded.hello(2));
            assert_eq!(xpub.recv().unwrap(), message(&["\u{1}"]));
            drop(peer);
            assert_eq!(xpub.recv().unwrap(), message(&["\0"]));
            continue;
        }
        let subscribed = recorded.sub.len() - recorded.frame(b"\0news").len();
        let (xpub, mut peer) =
            visited(&context, SocketType::Xpub, &recorded.as_old(&recorded.sub[..subscribed]));
        assert_eq!(xpub.recv().unwrap(), message(&["\u{1}news"]));
        xpub.send("news of today").unwrap();
        hears(&mut peer, recorded, &recorded.frame(b"news of today"));
        peer.write_all(&recorded.sub[subscribed..]).unwrap();
        assert_eq!(xpub.recv().unwrap(), message(&["\0news"]));
    }
}

/// A type that came after them, and a mechanism that they have not.
#[test]
fn what_old_peers_cannot_be_is_refused() {
    let context = fabriq::context().unwrap();
    let server = context.socket(SocketType::Server).unwrap();
    let monitor = server.monitor().unwrap();
    let endpoint = server.bind("tcp://127.0.0.1:*").unwrap();
    let mut peer = TcpStream::connect(endpoint.address()).unwrap();
    peer.write_all(&RECORDED[1].hello(5)).unwrap();
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    let refused = std::iter::from_fn(|| monitor.next_timeout(PATIENCE))
        .find(|event| matches!(event.kind, fabriq::EventKind::HandshakeFailed(_)));
    assert!(refused.is_some());
}
