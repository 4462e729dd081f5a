//! What giving an endpoint up does to its links, as in libzmq. Tests no pattern.

use std::time::{Duration, Instant};

use fabriq::{Error, Socket, SocketType};

const PATIENCE: Duration = Duration::from_secs(10);

const STREAMS: [&str; 2] = ["tcp://127.0.0.1:*", "ipc://*"];

/// Waits until nobody takes what `socket` would send.
fn until_alone(socket: &Socket) {
    let start = Instant::now();
    while socket.is_writable() {
        assert!(start.elapsed() < PATIENCE, "the link is still there");
        let _ = socket.try_recv();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn unbinding_closes_the_links_that_were_accepted() {
    for wildcard in STREAMS {
        let context = fabriq::context().unwrap();
        let push = context.socket(SocketType::Push).unwrap();
        let pull = context.socket(SocketType::Pull).unwrap();
        let endpoint = push.bind(wildcard).unwrap();
        pull.connect(endpoint.as_str()).unwrap();
        push.send("a").unwrap();
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap().body(), "a");
        push.send("queued").unwrap();
        push.unbind(endpoint.as_str()).unwrap();
        until_alone(&push);
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap().body(), "queued", "within the linger time");
    }
}

#[test]
fn unbinding_a_name_keeps_in_process_links() {
    let context = fabriq::context().unwrap();
    let push = context.socket(SocketType::Push).unwrap();
    let pull = context.socket(SocketType::Pull).unwrap();
    push.bind("inproc://unbinding").unwrap();
    pull.connect("inproc://unbinding").unwrap();
    push.send("a").unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap().body(), "a");
    push.unbind("inproc://unbinding").unwrap();
    push.send("b").unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap().body(), "b");
}

#[test]
fn disconnecting_drops_what_was_not_taken_and_sends_what_was_queued() {
    for url in ["tcp://127.0.0.1:*", "ipc://*", "inproc://disconnecting"] {
        let context = fabriq::context().unwrap();
        let here = context.socket(SocketType::Pair).unwrap();
        let there = context.socket(SocketType::Pair).unwrap();
        let endpoint = there.bind(url).unwrap();
        here.connect(endpoint.as_str()).unwrap();
        there.send_timeout("first", PATIENCE).unwrap();
        there.send("unread").unwrap();
        assert_eq!(here.recv_timeout(PATIENCE).unwrap().body(), "first");
        here.send("queued").unwrap();
        here.disconnect(endpoint.as_str()).unwrap();
        assert_eq!(there.recv_timeout(PATIENCE).unwrap().body(), "queued");
        assert_eq!(here.recv_timeout(Duration::from_millis(50)).unwrap_err(), Error::Again);
        assert!(!here.is_writable());
    }
}

#[test]
fn without_reconnects_a_lost_link_takes_its_pipe_along() {
    for wildcard in STREAMS {
        let context = fabriq::context().unwrap();
        let here = context.socket(SocketType::Pair).unwrap();
        here.set_options(|options| options.reconnect_interval = None).unwrap();
        let there = context.socket(SocketType::Pair).unwrap();
        let endpoint = there.bind(wildcard).unwrap();
        here.connect(endpoint.as_str()).unwrap();
        here.send("a").unwrap();
        assert_eq!(there.recv_timeout(PATIENCE).unwrap().body(), "a");
        there.unbind(endpoint.as_str()).unwrap();
        until_alone(&here);
        there.bind(endpoint.as_str()).unwrap();
        here.connect(endpoint.as_str()).unwrap();
        here.send_timeout("b", PATIENCE).unwrap();
        assert_eq!(there.recv_timeout(PATIENCE).unwrap().body(), "b");
    }
}

#[test]
fn in_process_a_pair_may_feed_a_pull() {
    let context = fabriq::context().unwrap();
    let pairs: Vec<_> = (0..3).map(|_| context.socket(SocketType::Pair).unwrap()).collect();
    for pair in &pairs {
        pair.connect("inproc://unlike").unwrap();
        pair.send("a").unwrap();
    }
    let pull = context.socket(SocketType::Pull).unwrap();
    pull.bind("inproc://unlike").unwrap();
    for _ in &pairs {
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap().body(), "a");
    }
}

#[test]
fn in_process_any_two_types_may_meet_and_nothing_breaks() {
    use SocketType::*;
    const TYPES: [SocketType; 9] = [Pair, Pub, Sub, Req, Rep, Dealer, Router, Pull, Push];
    let context = fabriq::context().unwrap();
    for ours in TYPES {
        for theirs in TYPES {
            let endpoint = format!("inproc://{ours} {theirs}");
            let sockets = [ours, theirs].map(|kind| context.socket(kind).unwrap());
            for socket in &sockets {
                socket.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
                if socket.socket_type() == Sub {
                    socket.subscribe("").unwrap();
                }
            }
            sockets[0].bind(&endpoint).unwrap();
            sockets[1].connect(&endpoint).unwrap();
            let mut arrived = 0;
            for _ in 0..5 {
                for socket in &sockets {
                    // Whether it is refused, dropped or taken is the pattern's business.
                    let _ = socket.try_send("one part");
                    let _ = socket.try_send(fabriq::Message::from_parts(["", "two parts"]).unwrap());
                    while socket.try_recv().is_ok() {
                        arrived += 1;
                    }
                }
            }
            if ours.goes_with(theirs) && ours != Router && theirs != Router {
                assert!(arrived > 0, "{endpoint}");
            }
        }
    }
    // The context still works.
    let (push, pull) = (context.socket(Push).unwrap(), context.socket(Pull).unwrap());
    push.bind("inproc://after").unwrap();
    pull.connect("inproc://after").unwrap();
    push.send("a").unwrap();
    assert_eq!(pull.recv_timeout(PATIENCE).unwrap().body(), "a");
}
