//! Peers that are killed in the middle of a message (kill -9) and started again. At most what was in flight is lost,
//! nothing is damaged, and the survivor finds the next one. Tests no orderly ends.

use std::time::{Duration, Instant};

use fabriq::{EventKind, Frame, Message, SocketType};

use crate::party::{World, over_tcp_and_ipc};
use crate::python::Python;
use crate::wire::{PATIENCE, events_until};

/// A message as peer.py makes it: its number, and a body that repeats the number.
fn number_of(message: &Message, len: usize) -> u64 {
    assert_eq!(message.len(), 2);
    let number = message.part(0).unwrap();
    let body = message.part(1).unwrap();
    assert_eq!(body.len(), len);
    assert!(body.chunks_exact(8).all(|chunk| *number == *chunk), "a body is damaged");
    u64::from_le_bytes(number[..].try_into().unwrap())
}

/// The sender is killed while it sends, three times, each time another one takes over. The receiver sees whole
/// messages only, those of one sender without a hole.
fn a_killed_sender_leaves_whole_messages(wildcard: &str) {
    const LEN: usize = 1 << 20;
    for we_bind in [true, false] {
        let world = World::new();
        let pull = world.ours(SocketType::Pull);
        let monitor = pull.monitor().unwrap();
        let mut endpoint = wildcard.to_owned();
        if we_bind {
            endpoint = pull.bind(&endpoint).unwrap().to_string();
        }
        for incarnation in 0..3 {
            let role = if we_bind { "connect" } else { "bind" };
            let python = Python::start(&["blocking", "send-numbers", role, &endpoint, "size=1048576"]);
            if !we_bind {
                endpoint = python.line();
                if incarnation == 0 {
                    pull.connect(&endpoint).unwrap();
                }
            }
            for number in 0..20 {
                assert_eq!(number_of(&pull.recv().unwrap(), LEN), number);
            }
            drop(python);
            events_until(&monitor, |kind| matches!(kind, EventKind::Disconnected(..)));
            // What arrived whole before the end is still good.
            let mut number = 20;
            while let Ok(message) = pull.try_recv() {
                assert_eq!(number_of(&message, LEN), number);
                number += 1;
            }
        }
    }
}

/// The receiver is killed while it receives, and another one takes its address. The sender finds it; what it gets has
/// no hole, and before it no more is missing than the buffers between the two hold.
fn a_killed_receiver_costs_what_was_in_flight(wildcard: &str) {
    const LEN: usize = 80_000;
    let world = World::new();
    let push = world.ours(SocketType::Push);
    push.set_options(|options| {
        options.send_buffer = Some(128 << 10);
        options.send_hwm = 20;
    })
    .unwrap();
    let start = |endpoint: &str| {
        let python = Python::start(&[
            "blocking",
            "receive-numbers",
            "bind",
            endpoint,
            "rcvhwm=4",
            "rcvbuf=131072",
            "size=80000",
        ]);
        (python.line(), python)
    };
    let (endpoint, mut python) = start(wildcard);
    push.connect(&endpoint).unwrap();
    let message = |number: u64| {
        let bytes = number.to_le_bytes();
        Message::from_parts([Frame::from(&bytes), Frame::from(bytes.repeat(LEN / 8))]).unwrap()
    };
    let sender = std::thread::spawn(move || {
        let mut number = 0;
        // Ends when the context does.
        while push.send(message(number)).is_ok() {
            number += 1;
        }
    });
    let mut last: Option<u64> = None;
    for incarnation in 0..3 {
        let mut expected = None;
        for _ in 0..100 {
            let number: u64 = python.line().parse().unwrap();
            match (expected, last) {
                (Some(expected), _) => assert_eq!(number, expected),
                // Two kernel buffers (doubled by the kernel), 256 KiB of ours and what libzmq had: its mark, the
                // message it decoded, and those it had printed no more.
                (None, Some(last)) => {
                    assert!(number > last, "incarnation {incarnation} began with {number} after {last}");
                    assert!(number - last < 30, "{} messages lost", number - last - 1);
                }
                (None, None) => assert_eq!(number, 0),
            }
            expected = Some(number + 1);
        }
        // Lines it wrote before it died count as received.
        last = python.kill().last().map_or(expected.map(|next| next - 1), |line| line.parse().ok());
        (_, python) = start(&endpoint);
    }
    drop(python);
    world.ours.shutdown();
    sender.join().unwrap();
}

/// A client of a REP dies between request and reply: the server goes on with the others.
fn a_killed_client_stops_no_server(wildcard: &str) {
    let world = World::new();
    let server = world.ours(SocketType::Rep);
    let endpoint = server.bind(wildcard).unwrap();
    let monitor = server.monitor().unwrap();
    for _ in 0..3 {
        let python = Python::start(&["blocking", "ask-and-hang", "connect", endpoint.as_str()]);
        assert_eq!(server.recv().unwrap().body(), "question");
        drop(python);
        events_until(&monitor, |kind| matches!(kind, EventKind::Disconnected(..)));
        server.send("to nobody").unwrap();
    }
    let client = world.theirs(SocketType::Req);
    client.connect(endpoint.as_str());
    client.send(&["question"]).unwrap();
    assert_eq!(server.recv().unwrap().body(), "question");
    server.send("answer").unwrap();
    assert_eq!(client.recv().unwrap(), [b"answer"]);
}

/// A ROUTER gives a name to whoever comes back with it, once the one before is gone.
fn a_name_is_free_again_after_a_kill(wildcard: &str) {
    let world = World::new();
    let router = world.ours(SocketType::Router);
    let endpoint = router.bind(wildcard).unwrap();
    let monitor = router.monitor().unwrap();
    for _ in 0..3 {
        let python =
            Python::start(&["blocking", "echo", "connect", endpoint.as_str(), "routing_id=anna", "hello=1"]);
        assert_eq!(router.recv().unwrap(), Message::from_parts(["anna", "hello"]).unwrap());
        router.send(Message::from_parts(["anna", "you"]).unwrap()).unwrap();
        assert_eq!(router.recv().unwrap(), Message::from_parts(["anna", "you"]).unwrap());
        let start = Instant::now();
        drop(python);
        events_until(&monitor, |kind| matches!(kind, EventKind::Disconnected(..)));
        assert!(start.elapsed() < PATIENCE / 2);
    }
    assert!(router.recv_timeout(Duration::ZERO).is_err());
}

over_tcp_and_ipc!(
    a_killed_sender_leaves_whole_messages,
    a_killed_receiver_costs_what_was_in_flight,
    a_killed_client_stops_no_server,
    a_name_is_free_again_after_a_kill,
);
