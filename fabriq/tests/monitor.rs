//! What a monitor sees of a socket's links, event by event. Tests no cause that tests/faults.rs has.

mod wire;

use std::net::TcpListener;
use std::time::Duration;

use fabriq::{DownReason, Event, EventKind, Monitor, OpenError, SocketType};

use wire::{PATIENCE, Wire, socket};

fn next(monitor: &Monitor) -> Event {
    monitor.next_timeout(PATIENCE).expect("an event")
}

/// The next event is of this endpoint and matches.
macro_rules! expect {
    ($monitor:expr, $endpoint:expr, $kind:pat $(if $guard:expr)?) => {{
        let event = next(&$monitor);
        assert!(matches!(event.kind, $kind $(if $guard)?), "{event:?} instead of {}", stringify!($kind));
        assert_eq!(event.endpoint, $endpoint);
    }};
}

#[test]
fn a_dialled_link_from_first_to_last() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    let monitor = push.monitor().unwrap();
    push.connect(&endpoint).unwrap();
    for _ in 0..3 {
        expect!(monitor, endpoint, EventKind::ConnectDelayed);
        expect!(monitor, endpoint, EventKind::Connected(fd) if fd >= 0);
        let mut wire = Wire::accept(&listener);
        wire.shake_hands("PULL");
        expect!(monitor, endpoint, EventKind::HandshakeSucceeded);
        wire.end();
        expect!(monitor, endpoint, EventKind::Disconnected(DownReason::ClosedByPeer, fd) if fd >= 0);
        // The interval is 20 ms, and as much as a half of it comes on top by chance.
        expect!(monitor, endpoint, EventKind::ConnectRetried(20..=30));
    }
    // In the middle of a handshake.
    expect!(monitor, endpoint, EventKind::ConnectDelayed);
    expect!(monitor, endpoint, EventKind::Connected(_));
    let mut wire = Wire::accept(&listener);
    wire.greet();
    wire.end();
    expect!(monitor, endpoint, EventKind::HandshakeFailed(DownReason::ClosedByPeer));
    expect!(monitor, endpoint, EventKind::ConnectRetried(20..=30));
    drop(push);
    let events: Vec<_> = std::iter::from_fn(|| monitor.try_next()).map(|event| event.kind).collect();
    assert_eq!(events.last(), Some(&EventKind::Stopped));
    assert_eq!(monitor.next_timeout(Duration::ZERO), None);
}

#[test]
fn a_listener_and_its_peers() {
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let monitor = pull.monitor().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = endpoint.as_str();
    // The real port, not the wildcard.
    expect!(monitor, endpoint, EventKind::Listening(_));
    let mut first = Wire::peer(endpoint, "PUSH");
    expect!(monitor, endpoint, EventKind::Accepted(fd) if fd >= 0);
    // Which of several peers it is that comes and goes.
    let ready = next(&monitor);
    assert_eq!(ready.kind, EventKind::HandshakeSucceeded);
    assert_eq!(ready.peer, first.0.local_addr().unwrap().to_string());
    let second = Wire::peer(endpoint, "PUSH");
    expect!(monitor, endpoint, EventKind::Accepted(_));
    expect!(monitor, endpoint, EventKind::HandshakeSucceeded);
    drop(second);
    expect!(monitor, endpoint, EventKind::Disconnected(DownReason::ClosedByPeer, _));
    let error = socket(&context, SocketType::Pull);
    let errors = error.monitor().unwrap();
    assert!(error.bind(endpoint).is_err());
    expect!(errors, endpoint, EventKind::BindFailed(OpenError::AddressInUse(_)));
    first.say(&wire::frame(0, b"still here")).unwrap();
    assert_eq!(pull.recv().unwrap().body(), "still here");
    drop(pull);
    expect!(monitor, endpoint, EventKind::Closed);
    assert_eq!(next(&monitor).kind, EventKind::Stopped);
}

#[test]
fn refused_dials_back_off() {
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    push.set_options(|options| {
        options.reconnect_interval = Some(Duration::from_millis(4));
        options.reconnect_interval_max = Duration::from_millis(32);
    })
    .unwrap();
    // Bound and not listening: nobody else gets the port, and dialling it is refused.
    let finder = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", finder.local_addr().unwrap());
    drop(finder);
    let monitor = push.monitor().unwrap();
    push.connect(&endpoint).unwrap();
    for pause in [4, 8, 16, 32, 32, 32] {
        expect!(monitor, endpoint, EventKind::ConnectDelayed);
        expect!(monitor, endpoint, EventKind::ConnectFailed(OpenError::Unreachable { errno, .. }) if errno == 111);
        expect!(monitor, endpoint, EventKind::ConnectRetried(wait) if (pause..=pause + 2).contains(&wait));
    }
}

#[test]
fn a_second_monitor_replaces_the_first() {
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let first = pull.monitor().unwrap();
    let second = pull.monitor().unwrap();
    assert_eq!(next(&first).kind, EventKind::Stopped);
    pull.bind("tcp://127.0.0.1:*").unwrap();
    assert!(matches!(next(&second).kind, EventKind::Listening(_)));
    pull.stop_monitor();
    assert_eq!(next(&second).kind, EventKind::Stopped);
    pull.bind("tcp://127.0.0.1:*").unwrap();
    assert_eq!((first.try_next(), second.try_next()), (None, None));
}

/// Nobody reads: events are kept up to a limit and counted beyond it, and the socket works on.
#[test]
fn an_unread_monitor_costs_bounded_memory() {
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let monitor = pull.monitor().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    for _ in 0..1500 {
        let mut wire = Wire::connect(endpoint.as_str());
        wire.say(b"no\n").unwrap();
        wire.closed_after();
        let mut wire = Wire::connect(endpoint.as_str());
        wire.end();
        wire.closed_after();
    }
    let mut wire = Wire::peer(endpoint.as_str(), "PUSH");
    wire.say(&wire::frame(0, b"works")).unwrap();
    assert_eq!(pull.recv().unwrap().body(), "works");
    // The listener's, two for each, and two for the last peer.
    let kept = std::iter::from_fn(|| monitor.try_next()).count() as u64;
    assert!(kept <= 4096, "{kept}");
    assert_eq!(kept + monitor.dropped(), 1 + 2 * 2 * 1500 + 2);
}

#[test]
fn a_monitor_is_a_stream_that_ends_with_its_socket() {
    use futures_core::Stream;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let context = fabriq::context().unwrap();
        let pull = socket(&context, SocketType::Pull);
        let mut monitor = std::pin::pin!(pull.monitor().unwrap());
        let mut next = async || std::future::poll_fn(|cx| monitor.as_mut().poll_next(cx)).await;
        // Nothing is there yet: the task sleeps until the bind below says something.
        let binding = async {
            tokio::task::yield_now().await;
            pull.bind("tcp://127.0.0.1:*").unwrap();
        };
        let (event, ()) = tokio::join!(next(), binding);
        assert!(matches!(event.unwrap().kind, EventKind::Listening(_)));
        drop(pull);
        let mut last = None;
        while let Some(event) = next().await {
            last = Some(event.kind);
        }
        assert_eq!(last, Some(EventKind::Stopped));
        assert_eq!(next().await, None, "an ended stream stays ended");
    });
}
