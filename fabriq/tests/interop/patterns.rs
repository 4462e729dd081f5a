//! Every pattern against libzmq in this process: who binds and who is who both ways. Tests no faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fabriq::{Error, EventKind, SocketType};

use crate::party::{Party, Side, World, body, connected, mixed, open, over_tcp_and_ipc};
use crate::wire::{PATIENCE, events_until};
use crate::zmq::{self, EHOSTUNREACH, Setting};

#[test]
fn the_peer_is_a_release_that_speaks_zmtp_3_1() {
    assert!(zmq::version() >= (4, 3, 0), "{:?}", zmq::version());
}

fn exclusive_pair(wildcard: &str) {
    connected(wildcard, SocketType::Pair, SocketType::Pair, |a, b| {
        for round in 0..100 {
            let text = format!("round {round}");
            a.send(&["to b", &text]);
            b.send(&["to a", &text]);
            b.expect(&["to b", &text]);
            a.expect(&["to a", &text]);
        }
        for number in 0..500u32 {
            a.send(&[number.to_le_bytes()]);
            b.send(&[number.to_be_bytes()]);
        }
        for number in 0..500u32 {
            b.expect(&[number.to_le_bytes()]);
            a.expect(&[number.to_be_bytes()]);
        }
    });
}

fn push_and_pull_keep_the_order(wildcard: &str) {
    const COUNT: u32 = 20_000;
    connected(wildcard, SocketType::Push, SocketType::Pull, |push, pull| {
        let sender = std::thread::spawn(move || {
            for number in 0..COUNT {
                push.send(&[number.to_le_bytes()]);
            }
        });
        for number in 0..COUNT {
            pull.expect(&[number.to_le_bytes()]);
        }
        sender.join().unwrap();
    });
}

/// Pushers of both libraries to pullers of both: each message arrives once, each pusher's in order at each puller.
fn many_pushers_and_pullers(wildcard: &str) {
    const COUNT: u32 = 3000;
    let world = World::new();
    let sides = [Side::Ours, Side::Theirs];
    let pulls = sides.map(|side| world.party(side, SocketType::Pull));
    let endpoints = [0, 1].map(|at| pulls[at].bind(wildcard));
    let senders: Vec<_> = sides
        .into_iter()
        .enumerate()
        .map(|(who, side)| {
            let push = world.party(side, SocketType::Push);
            endpoints.iter().for_each(|endpoint| push.connect(endpoint));
            std::thread::spawn(move || {
                for number in 0..COUNT {
                    push.send(&[[who as u32, number].map(u32::to_le_bytes).concat()]);
                }
            })
        })
        .collect();
    let total = Arc::new(AtomicU32::new(0));
    let receivers: Vec<_> = pulls
        .into_iter()
        .map(|pull| {
            let total = total.clone();
            // How they share is up to the pushers, so neither knows when it has had its last.
            pull.set_timeouts(Duration::from_millis(20));
            std::thread::spawn(move || {
                let (start, mut got) = (Instant::now(), [Vec::new(), Vec::new()]);
                while total.load(Relaxed) < 2 * COUNT && start.elapsed() < PATIENCE {
                    let Some(message) = pull.try_recv() else { continue };
                    let field = |at: usize| u32::from_le_bytes(message[0][at..at + 4].try_into().unwrap());
                    got[field(0) as usize].push(field(4));
                    total.fetch_add(1, Relaxed);
                }
                got
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let got: Vec<_> = receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect();
    for who in 0..2 {
        assert!(got.iter().all(|got| got[who].is_sorted()));
        let mut all = [got[0][who].clone(), got[1][who].clone()].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..COUNT), "pusher {who}'s messages did not all arrive once");
    }
}

fn request_and_reply(wildcard: &str) {
    connected(wildcard, SocketType::Req, SocketType::Rep, |client, server| {
        for round in 0..100u32 {
            let request = round.to_le_bytes();
            client.send(&[&request[..], b"in", b"parts"]);
            server.expect(&[&request[..], b"in", b"parts"]);
            server.send(&[b"" as &[u8], &request]);
            client.expect(&[b"" as &[u8], &request]);
        }
    });
}

/// A REQ in front of servers of both libraries goes round; a REP behind clients of both answers each its own.
fn requests_go_round(wildcard: &str) {
    for side in [Side::Ours, Side::Theirs] {
        let world = World::new();
        let client = world.party(side, SocketType::Req);
        let servers = [Side::Ours, Side::Theirs].map(|side| {
            let server = world.party(side, SocketType::Rep);
            client.connect(&server.bind(wildcard));
            server
        });
        // Both pipes exist from connect on, so the two take turns from the first request.
        for round in 0..20u32 {
            client.send(&[round.to_le_bytes()]);
            let server = &servers[round as usize % 2];
            server.expect(&[round.to_le_bytes()]);
            server.send(&["done"]);
            client.expect(&["done"]);
        }

        let server = world.party(side, SocketType::Rep);
        let endpoint = server.bind(wildcard);
        let clients = [Side::Ours, Side::Theirs, Side::Ours, Side::Theirs].map(|side| {
            let client = world.party(side, SocketType::Req);
            client.connect(&endpoint);
            client
        });
        for _ in 0..20 {
            for (who, client) in clients.iter().enumerate() {
                client.send(&[[who as u8]]);
            }
            for _ in &clients {
                let request = server.recv();
                server.send(&[&request[0][..], b"to you"]);
            }
            for (who, client) in clients.iter().enumerate() {
                client.expect(&[&[who as u8][..], b"to you"]);
            }
        }
    }
}

/// The envelopes by hand: REQ with ROUTER, DEALER with REP, DEALER with DEALER.
fn envelopes(wildcard: &str) {
    connected(wildcard, SocketType::Req, SocketType::Router, |client, router| {
        for _ in 0..10 {
            client.send(&["question"]);
            let request = router.recv();
            assert_eq!(request[1..], [b"".to_vec(), b"question".to_vec()]);
            router.send(&[&request[0][..], b"", b"answer"]);
            client.expect(&["answer"]);
        }
    });
    connected(wildcard, SocketType::Dealer, SocketType::Rep, |dealer, server| {
        for round in 0..10u32 {
            dealer.send(&[b"way" as &[u8], b"back", b"", &round.to_le_bytes()]);
        }
        for round in 0..10u32 {
            server.expect(&[round.to_le_bytes()]);
            server.send(&["reply", "two"]);
        }
        for _ in 0..10 {
            dealer.expect(&["way", "back", "", "reply", "two"]);
        }
    });
    connected(wildcard, SocketType::Dealer, SocketType::Dealer, |a, b| {
        a.send(&["", "a", ""]);
        b.send(&["b"]);
        b.expect(&["", "a", ""]);
        a.expect(&["b"]);
    });
}

fn routing_ids(wildcard: &str) {
    let longest = body(255, 7).iter().map(|byte| byte | 1).collect::<Vec<_>>();
    for id in [b"anna" as &[u8], b"\x01", b"\xff\x00\xfe binary", &longest] {
        connected(wildcard, SocketType::Dealer, SocketType::Router, |dealer, router| {
            // Counts from the next connection on, so open once more.
            dealer.set_routing_id(id);
            let endpoint = router.bind(wildcard);
            dealer.connect(&endpoint);
            // Over the old and the new link in turn; which comes first is open.
            dealer.send(&["one"]);
            dealer.send(&["two"]);
            let ids = [router.recv().remove(0), router.recv().remove(0)];
            assert!(ids.contains(&id.to_vec()), "{ids:?}");
            for at in ids {
                router.send(&[&at[..], b"back"]);
                dealer.expect(&["back"]);
            }
        });
    }
}

/// A ROUTER names peers without an id itself: five bytes, the first zero, unlike for each.
fn generated_routing_ids(wildcard: &str) {
    for side in [Side::Ours, Side::Theirs] {
        let world = World::new();
        let router = world.party(side, SocketType::Router);
        let endpoint = router.bind(wildcard);
        let mut ids = Vec::new();
        for peer in [Side::Ours, Side::Theirs, Side::Ours, Side::Theirs] {
            let dealer = world.party(peer, SocketType::Dealer);
            dealer.connect(&endpoint);
            dealer.send(&["hello"]);
            let id = router.recv().remove(0);
            assert_eq!((id.len(), id[0]), (5, 0));
            router.send(&[&id[..], b"you"]);
            dealer.expect(&["you"]);
            ids.push(id);
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }
}

#[test]
fn a_router_that_must_route_says_when_it_cannot() {
    let world = World::new();
    let ours = world.ours(SocketType::Router);
    ours.set_options(|options| options.router_mandatory = true).unwrap();
    let theirs = world.theirs(SocketType::Router);
    theirs.set(Setting::RouterMandatory, 1);
    assert_eq!(theirs.send(&["nobody", "x"]), Err(EHOSTUNREACH));
    let message = fabriq::Message::from_parts(["nobody", "x"]).unwrap();
    assert_eq!(ours.send(message).unwrap_err().error, Error::Unroutable);
}

/// Two ROUTERs, each with an id of its own, talk as equals.
fn router_to_router(wildcard: &str) {
    for we_bind in [true, false] {
        let world = World::new();
        let ours = world.ours(SocketType::Router);
        ours.set_options(|options| {
            options.router_mandatory = true;
            options.routing_id = "ours".into();
        })
        .unwrap();
        let monitor = ours.monitor().unwrap();
        let (ours, theirs) = (Party::Ours(ours), world.party(Side::Theirs, SocketType::Router));
        theirs.set_routing_id(b"theirs");
        open(wildcard, &ours, &theirs, we_bind);
        // From here on we know the peer; the first message tells it of us.
        events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
        for round in 0..100u32 {
            ours.send(&[b"theirs" as &[u8], b"", &round.to_le_bytes()]);
            theirs.expect(&[b"ours" as &[u8], b"", &round.to_le_bytes()]);
            theirs.send(&[b"ours" as &[u8], b"back"]);
            ours.expect(&["theirs", "back"]);
        }
    }
}

/// Their ZMQ_PROBE_ROUTER announces a peer by an empty message.
fn a_probe_arrives(wildcard: &str) {
    let world = World::new();
    let router = world.party(Side::Ours, SocketType::Router);
    let dealer = world.theirs(SocketType::Dealer);
    dealer.set(Setting::ProbeRouter, 1);
    dealer.set_bytes(Setting::RoutingId, b"probing");
    dealer.connect(&router.bind(wildcard));
    router.expect(&["probing", ""]);
    router.send(&["probing", "seen"]);
    Party::Theirs(dealer).expect(&["seen"]);
}

fn sizes_from_nothing_to_64_mib(wildcard: &str) {
    const SIZES: [usize; 17] =
        [0, 1, 32, 33, 34, 70, 71, 254, 255, 256, 8191, 8192, 8193, 65_536, 1 << 20, (4 << 20) + 1, 64 << 20];
    connected(wildcard, SocketType::Pair, SocketType::Pair, |a, b| {
        for (at, size) in SIZES.into_iter().enumerate() {
            let body = body(size, at as u8);
            a.send(&["head", "", "tail"]);
            a.send(std::slice::from_ref(&body));
            b.expect(&["head", "", "tail"]);
            b.expect(std::slice::from_ref(&body));
            // One way is enough for the largest: roles are swapped anyway.
            if size <= 1 << 20 {
                b.send(&[&b""[..], &body, b"", &body]);
                a.expect(&[&b""[..], &body, b"", &body]);
            }
        }
    });
}

fn multipart_of_many_and_of_large_parts(wildcard: &str) {
    let many: Vec<_> = (0..10_000).map(|at| body(at % 300, at as u8)).collect();
    let large: Vec<_> = (0..6).map(|at| body((5 << 20) + at, at as u8)).collect();
    connected(wildcard, SocketType::Push, SocketType::Pull, |push, pull| {
        for _ in 0..3 {
            push.send(&many);
            push.send(&["between"]);
        }
        push.send(&large);
        for _ in 0..3 {
            pull.expect(&many);
            pull.expect(&["between"]);
        }
        pull.expect(&large);
    });
}

/// More parts than the receiver's mark: the mark counts messages, and a message is whole.
fn a_multipart_longer_than_the_mark(wildcard: &str) {
    let parts: Vec<_> = (0..500).map(|at| body(1000, at as u8)).collect();
    mixed(SocketType::Push, SocketType::Pull, |push, pull| {
        pull.set_marks(2);
        push.set_marks(2);
        open(wildcard, &push, &pull, true);
        let sender = std::thread::spawn({
            let parts = parts.clone();
            move || (0..20).for_each(|_| push.send(&parts))
        });
        (0..20).for_each(|_| pull.expect(&parts));
        sender.join().unwrap();
    });
}

/// Bytes without frames: each side calls the other by a name of its own, hears when the connection comes, and, when we
/// end it by an empty piece, that it went.
#[test]
fn streams() {
    /// The bytes of one connection until there are so many.
    fn gather(party: &Party, id: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let piece = party.recv();
            assert_eq!((piece.len(), &piece[0][..]), (2, id));
            assert!(!piece[1].is_empty(), "the connection came to its end");
            bytes.extend_from_slice(&piece[1]);
        }
        bytes
    }
    connected("tcp://127.0.0.1:*", SocketType::Stream, SocketType::Stream, |a, b| {
        let [its_b, its_a] = [&a, &b].map(|party| {
            let came = party.recv();
            assert_eq!((came.len(), came[0].len(), came[1].len()), (2, 5, 0), "{came:?}");
            came[0].clone()
        });
        for len in [1, 5, 70_000, 1 << 20] {
            let (to_b, to_a) = (body(len, 1), body(len, 2));
            a.send(&[&its_b, &to_b]);
            b.send(&[&its_a, &to_a]);
            assert!(gather(&b, &its_a, len) == to_b && gather(&a, &its_b, len) == to_a, "{len} bytes differ");
        }
        // libzmq 4.3.4 takes such a piece and leaves the connection open, also to plain sockets.
        let (ours, theirs) =
            if matches!(a, Party::Ours(_)) { ((a, its_b), (b, its_a)) } else { ((b, its_a), (a, its_b)) };
        ours.0.send(&[&ours.1[..], b""]);
        theirs.0.expect(&[&theirs.1[..], b""]);
    });
}

#[test]
fn ipv6() {
    for a_binds in [true, false] {
        mixed(SocketType::Req, SocketType::Rep, |client, server| {
            client.set_ipv6();
            server.set_ipv6();
            let (bound, dialled) = if a_binds { (&client, &server) } else { (&server, &client) };
            let endpoint = bound.bind("tcp://[::1]:*");
            assert!(endpoint.starts_with("tcp://[::1]:"), "{endpoint}");
            dialled.connect(&endpoint);
            client.send(&["over", "six"]);
            server.expect(&["over", "six"]);
            server.send(&["yes"]);
            client.expect(&["yes"]);
        });
    }
}

/// Whoever connects first waits for the other, with what it has to say.
#[test]
fn connect_before_bind() {
    mixed(SocketType::Push, SocketType::Pull, |push, pull| {
        let finder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", finder.local_addr().unwrap());
        // Bound and not listening any more: nobody else is given the port, and dialling it is refused.
        push.connect(&endpoint);
        push.send(&["early"]);
        drop(finder);
        pull.bind(&endpoint);
        pull.expect(&["early"]);
    });
}

#[test]
fn connect_before_bind_over_ipc() {
    let number = AtomicU32::new(0);
    mixed(SocketType::Push, SocketType::Pull, |push, pull| {
        let (process, number) = (std::process::id(), number.fetch_add(1, Relaxed));
        for endpoint in ["ipc://@early", concat!("ipc://", env!("CARGO_TARGET_TMPDIR"), "/early")] {
            let endpoint = format!("{endpoint}-{process}-{number}");
            push.connect(&endpoint);
            push.send(&["early"]);
            pull.bind(&endpoint);
            pull.expect(&["early"]);
        }
    });
}

over_tcp_and_ipc!(
    exclusive_pair,
    push_and_pull_keep_the_order,
    many_pushers_and_pullers,
    request_and_reply,
    requests_go_round,
    envelopes,
    routing_ids,
    generated_routing_ids,
    router_to_router,
    a_probe_arrives,
    sizes_from_nothing_to_64_mib,
    multipart_of_many_and_of_large_parts,
    a_multipart_longer_than_the_mark,
);
