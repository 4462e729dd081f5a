//! What giving an endpoint up does to its links, as in libzmq. Tests no pattern.

use std::net::TcpListener;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use fabriq::{Error, Socket, SocketType};
use rustix::net::{AddressFamily, SocketAddrUnix, sockopt};

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

/// Sockets of the system's of each kind, bound: one that listens already, and one that does not.
fn bound_listeners(directory: &std::path::Path) -> [(&'static str, OwnedFd); 3] {
    let path = directory.join("given");
    let unix = rustix::net::socket(AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&unix, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    let name =
        std::os::unix::net::SocketAddr::from_abstract_name(format!("given-{}", std::process::id())).unwrap();
    [
        ("tcp://", TcpListener::bind("127.0.0.1:0").unwrap().into()),
        ("ipc://", unix),
        ("ipc://", UnixListener::bind_addr(&name).unwrap().into()),
    ]
}

#[test]
fn a_listener_that_somebody_else_has_bound_is_taken_over() {
    let directory = std::env::temp_dir().join(format!("fabriq-given-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let context = fabriq::context().unwrap();
    for (scheme, listener) in bound_listeners(&directory) {
        let server = context.socket(SocketType::Rep).unwrap();
        let client = context.socket(SocketType::Req).unwrap();
        let wildcard = if scheme == "tcp://" { "*:*" } else { "*" };
        let endpoint = server.bind_listener(&format!("{scheme}{wildcard}"), listener).unwrap();
        assert!(endpoint.as_str().starts_with(scheme), "{endpoint}");
        client.connect(endpoint.as_str()).unwrap();
        client.send("question").unwrap();
        assert_eq!(server.recv_timeout(PATIENCE).unwrap().body(), "question");
        server.send("answer").unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().body(), "answer");
        // Nobody has the listener any more.
        server.unbind(endpoint.as_str()).unwrap();
        if let Some(address) = endpoint.as_str().strip_prefix("tcp://") {
            TcpListener::bind(address).unwrap();
        }
    }
    // It was not made here.
    assert!(directory.join("given").exists());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_is_no_listener_of_the_scheme_is_refused() {
    let context = fabriq::context().unwrap();
    let socket = context.socket(SocketType::Rep).unwrap();
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let datagrams = || OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    for (url, given) in [("ipc://*", tcp()), ("tcp://*:*", file()), ("tcp://*:*", datagrams())] {
        let error = socket.bind_listener(url, given).unwrap_err();
        assert!(error.to_string().contains("bind it first"), "{url}: {error}");
    }
    let unbound = rustix::net::socket(AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    let error = socket.bind_listener("tcp://*:*", unbound).unwrap_err();
    assert!(error.to_string().contains("bind it first"), "it would listen anywhere: {error}");
    let error = socket.bind_listener("inproc://given", tcp()).unwrap_err();
    assert!(error.to_string().contains("use tcp:// or ipc://"), "{error}");
}

#[test]
fn a_given_listener_has_the_sockets_settings() {
    let context = fabriq::context().unwrap();
    let [own, given] = [false, true].map(|given| {
        let server = context.socket(SocketType::Rep).unwrap();
        server
            .set_options(|options| {
                let idle = Some(Duration::from_secs(33));
                options.keepalive = Some(fabriq::Keepalive { idle, interval: None, count: None });
                options.type_of_service = 0x20;
            })
            .unwrap();
        let monitor = server.monitor().unwrap();
        let endpoint = if given {
            server.bind_listener("tcp://*:*", TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
        } else {
            server.bind("tcp://127.0.0.1:*").unwrap()
        };
        let client = context.socket(SocketType::Req).unwrap();
        client.connect(endpoint.as_str()).unwrap();
        loop {
            let event = monitor.next_timeout(PATIENCE).expect("the client connects");
            if let fabriq::EventKind::Accepted(fd) = event.kind {
                // SAFETY: the link is up, and its peer stays.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                break (sockopt::socket_keepalive(fd).unwrap(), sockopt::ip_tos(fd).unwrap());
            }
        }
    });
    assert_eq!((own, given), ((true, 0x20), (true, 0x20)));
}
