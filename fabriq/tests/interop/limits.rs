//! High-water marks, linger and maximum sizes across the two libraries. Tests no memory.

use std::time::{Duration, Instant};

use fabriq::{DownReason, EventKind, SocketType, Violation};

use crate::party::{Party, World, body, connected, mixed, open, over_tcp_and_ipc};
use crate::wire::{PATIENCE, events_until};
use crate::zmq::{DISCONNECTED, HANDSHAKE_SUCCEEDED};

/// A receiver that does not read stops its sender; nothing is lost, and it flows on afterwards.
fn a_full_receiver_pushes_back(wildcard: &str) {
    mixed(SocketType::Push, SocketType::Pull, |push, pull| {
        for party in [&push, &pull] {
            party.set_marks(10);
            party.set_buffers(64 << 10);
        }
        open(wildcard, &push, &pull, true);
        let padding = body(20_000, 0);
        // What libzmq's process holds on its own comes on top of the marks.
        push.set_timeouts(Duration::from_millis(300));
        let mut sent = 0u32;
        while push.try_send(&[&sent.to_le_bytes()[..], &padding]) {
            sent += 1;
            assert!(sent < 1000, "nothing ever pushed back");
        }
        assert!(sent >= 20, "{sent}: two marks of 10 should fit");
        push.set_timeouts(PATIENCE);
        for number in 0..sent {
            pull.expect(&[&number.to_le_bytes()[..], &padding]);
        }
        push.send(&["flows again"]);
        pull.expect(&["flows again"]);
    });
}

/// A sender that is stopped again and again, and a receiver that stops it: all arrives, in order.
fn small_marks_cost_no_message(wildcard: &str) {
    const COUNT: u32 = 3000;
    connected(wildcard, SocketType::Push, SocketType::Pull, |push, pull| {
        push.set_marks(1);
        pull.set_marks(1);
        // Counts for their side from the next connection on.
        let endpoint = pull.bind(wildcard);
        push.connect(&endpoint);
        let sender = std::thread::spawn(move || {
            for number in 0..COUNT {
                push.send(&[&number.to_le_bytes()[..], &body(number as usize % 3000, 0)]);
            }
        });
        // Two links: each in order, and all of it.
        let mut got: Vec<_> = (0..COUNT)
            .map(|_| {
                let message = pull.recv();
                let number = u32::from_le_bytes(message[0][..].try_into().unwrap());
                assert_eq!(message[1], body(number as usize % 3000, 0));
                number
            })
            .collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..COUNT));
        sender.join().unwrap();
    });
}

/// Closing sends what is queued, far more than the kernel holds.
fn a_closed_socket_lingers(wildcard: &str) {
    connected(wildcard, SocketType::Push, SocketType::Pull, |push, pull| {
        let padding = body(100_000, 1);
        for number in 0..300u32 {
            push.send(&[&number.to_le_bytes()[..], &padding]);
        }
        drop(push);
        for number in 0..300u32 {
            pull.expect(&[&number.to_le_bytes()[..], &padding]);
        }
    });
}

/// Without linger, closing is immediate however much is queued, and the context ends at once.
fn no_linger_no_wait(wildcard: &str) {
    let world = World::new();
    let pull = world.theirs(SocketType::Pull);
    let endpoint = pull.bind(wildcard);
    let context = fabriq::context().unwrap();
    let push = crate::wire::socket(&context, SocketType::Push);
    push.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
    push.connect(&endpoint).unwrap();
    for _ in 0..500 {
        push.send(vec![0; 100_000]).unwrap();
    }
    let start = Instant::now();
    drop((push, context));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// A socket that lingers for a peer that never came gives up when its time is over.
#[test]
fn linger_ends() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let context = fabriq::context().unwrap();
    let push = crate::wire::socket(&context, SocketType::Push);
    push.set_options(|options| options.linger = Some(Duration::from_millis(300))).unwrap();
    push.connect(&format!("tcp://{}", nobody.local_addr().unwrap())).unwrap();
    push.send("to nobody").unwrap();
    let start = Instant::now();
    drop(push);
    assert!(start.elapsed() < Duration::from_millis(250), "closing itself waits for nothing");
    drop(context);
    let waited = start.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&waited), "{waited:?}");
}

/// A part beyond the receiver's maximum costs the sender its link, and only that: it comes back, and what fits arrives.
fn our_maximum_size(wildcard: &str) {
    let world = World::new();
    let pull = world.ours(SocketType::Pull);
    pull.set_options(|options| options.max_message_size = Some(1000)).unwrap();
    let monitor = pull.monitor().unwrap();
    let push = world.theirs(SocketType::Push);
    let (pull, push) = (Party::Ours(pull), Party::Theirs(push));
    open(wildcard, &pull, &push, true);
    for size in [1001, 100_000, 64 << 20] {
        push.send(&[body(1000, 0), body(1000, 1)]);
        pull.expect(&[body(1000, 0), body(1000, 1)]);
        push.send(&[body(size, 0)]);
        let events = events_until(&monitor, |kind| matches!(kind, EventKind::Disconnected(..)));
        let EventKind::Disconnected(reason, _) = events.last().unwrap().kind else { unreachable!() };
        assert_eq!(reason, DownReason::Violation(Violation::TooLarge));
        events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
    }
    push.send(&["fits"]);
    pull.expect(&["fits"]);
}

fn their_maximum_size(wildcard: &str) {
    let world = World::new();
    let pull = world.theirs(SocketType::Pull);
    let monitor = pull.monitor("their_maximum_size");
    let (pull, push) = (Party::Theirs(pull), Party::Ours(world.ours(SocketType::Push)));
    pull.set_max_message_size(1000);
    open(wildcard, &pull, &push, true);
    for size in [1001, 100_000, 64 << 20] {
        push.send(&[body(1000, 0), body(1000, 1)]);
        pull.expect(&[body(1000, 0), body(1000, 1)]);
        push.send(&[body(size, 0)]);
        monitor.wait_for(DISCONNECTED, PATIENCE);
        // Nothing waits behind it: what is in flight when a link breaks is lost with it.
        monitor.wait_for(HANDSHAKE_SUCCEEDED, PATIENCE);
    }
    push.send(&["fits"]);
    pull.expect(&["fits"]);
}

over_tcp_and_ipc!(
    a_full_receiver_pushes_back,
    small_marks_cost_no_message,
    a_closed_socket_lingers,
    no_linger_no_wait,
    our_maximum_size,
    their_maximum_size,
);
