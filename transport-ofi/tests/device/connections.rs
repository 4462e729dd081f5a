//! Connections that come about, or do not, and that end; on tcp, the provider with a connection manager.

use std::net::TcpListener;

use fabriq_transport_ofi::device::{Address, At, Endpoint, EventKind, Kind, Work};

use crate::world::{End, Pair, SHAPE, listening, local, offer, wait_for};

/// An end that dials `address`.
fn dialled(address: &str) -> End {
    let info = offer("tcp", Kind::Connected, At::Remote { to: address.parse().unwrap(), from: None });
    let mut end = End::new(&info);
    end.open(&info, 5);
    end.endpoint().connect(&info.remote_address().unwrap(), &[]).unwrap();
    end
}

#[test]
fn a_connection_to_nobody_is_refused_with_a_reason() {
    // Free now, and nobody else is about to take it.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut end = dialled(&free.to_string());
    let event = wait_for("a refusal", || end.next_event());
    let EventKind::Failed { failure, said } = event.kind else { panic!("{event:?}") };
    assert_eq!((event.cookie, failure.os_errno(), said.len()), (5, libc::ECONNREFUSED, 0));
    assert!(failure.to_string().contains("Connection refused"), "{failure}");
}

#[test]
fn a_listener_that_says_no_is_heard() {
    let (mut right, _listener, address) = listening("tcp");
    let mut left = dialled(&address);
    let request = wait_for("a request", || {
        assert!(left.next_event().is_none());
        right.next_event()
    });
    assert_eq!(request.cookie, 77);
    let EventKind::Request(request) = request.kind else { panic!("{request:?}") };
    request.reject(b"not today").unwrap();
    let event = wait_for("a refusal", || {
        right.next_event();
        left.next_event()
    });
    let EventKind::Failed { failure, said } = event.kind else { panic!("{event:?}") };
    assert_eq!((failure.os_errno(), &said[..]), (libc::ECONNREFUSED, &b"not today"[..]));
}

#[test]
fn a_request_that_is_dropped_is_refused() {
    let (mut right, listener, address) = listening("tcp");
    let mut left = dialled(&address);
    let request = wait_for("a request", || {
        left.next_event();
        right.next_event()
    });
    // Even when the listener has gone meanwhile.
    drop(listener);
    drop(request);
    let event = wait_for("a refusal", || {
        right.next_event();
        left.next_event()
    });
    assert!(matches!(event.kind, EventKind::Failed { .. }), "{event:?}");
}

#[test]
fn a_request_whose_dialler_has_gone_ends_in_an_event_or_an_error() {
    let (mut right, _listener, address) = listening("tcp");
    let mut left = dialled(&address);
    let request = wait_for("a request", || {
        left.next_event();
        right.next_event()
    });
    let EventKind::Request(request) = request.kind else { panic!("{request:?}") };
    drop(left);
    let mut endpoint = Endpoint::answer(&right.domain, request, &right.queues(), &SHAPE, 9).unwrap();
    if endpoint.accept(&[]).is_ok() {
        right.endpoint = Some(endpoint);
        wait_for("the end", || {
            right.poll();
            let event = right.next_event()?;
            matches!(event.kind, EventKind::Shutdown | EventKind::Failed { .. }).then_some(())
        });
    }
}

#[test]
fn an_address_in_use_is_told_when_one_listens() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let info = offer("tcp", Kind::Connected, At::Local(taken.local_addr().unwrap()));
    let end = End::new(&info);
    let events = end.events.as_ref().unwrap();
    let failure =
        fabriq_transport_ofi::device::Listener::listen(&end.fabric, &info, events, 1, 0).unwrap_err();
    assert_eq!(failure.os_errno(), libc::EADDRINUSE, "{failure}");
    assert!(failure.to_string().contains("Address already in use"), "{failure}");
}

#[test]
fn who_closes_is_heard_and_gives_back_what_was_posted() {
    let mut pair = Pair::new("tcp");
    pair.right.endpoint().shutdown().unwrap();
    let event = wait_for("the end", || {
        pair.poll();
        pair.left.next_event()
    });
    assert!(matches!(event.kind, EventKind::Shutdown), "{event:?}");
    assert_eq!(event.cookie, 1);
    // Both ends' receives come back as failed.
    for _ in 0..SHAPE.receives {
        for (work, failure) in [pair.wait_left("a receive"), pair.wait_right("a receive")] {
            assert!(matches!(work, Work::Receive { len: 0, .. }), "{work:?}");
            assert_eq!(failure.unwrap().os_errno(), libc::ECANCELED);
        }
    }
    assert!(pair.left.endpoint().is_idle() && pair.right.endpoint().is_idle());
}

#[test]
fn a_peer_that_is_dropped_is_heard() {
    let mut pair = Pair::new("tcp");
    pair.right.endpoint = None;
    let event = wait_for("the end", || {
        pair.poll();
        pair.left.next_event()
    });
    assert!(matches!(event.kind, EventKind::Shutdown | EventKind::Failed { .. }), "{event:?}");
}

#[test]
fn both_ends_know_their_addresses() {
    let mut pair = Pair::new("tcp");
    let left = pair.left.endpoint().name().unwrap().to_socket_address().unwrap();
    let right = pair.right.endpoint().name().unwrap().to_socket_address().unwrap();
    assert_eq!(pair.left.endpoint().peer_address().unwrap().to_socket_address(), Some(right));
    assert_eq!(pair.right.endpoint().peer_address().unwrap().to_socket_address(), Some(left));
    assert!(pair.left.endpoint().private_data_max() >= 56);
}

#[test]
fn names_that_are_none_are_refused() {
    for provider in ["net", "tcp;ofi_rxm", "shm"] {
        let mut pair = Pair::new(provider);
        let peers = pair.left.peers.as_mut().unwrap();
        let bytes = [&b""[..], b"\x01", b"with a blank", &[0xff; 28], &[0; 16]];
        for name in bytes.map(|bytes| Address::from_bytes(bytes).unwrap()) {
            assert!(peers.insert(&name).is_err(), "{provider}: {name:?}");
        }
        let info = offer(provider, Kind::Unconnected, local(provider));
        let other = fabriq_transport_ofi::device::AddressVector::open(&pair.left.domain, &info, 1);
        let name = pair.right.endpoint().name().unwrap();
        let stranger = other.unwrap().insert(&name).unwrap();
        assert!(pair.left.endpoint().set_peer(stranger).is_err(), "{provider}: a peer of another vector");
    }
}

#[test]
fn sockets_is_never_offered() {
    for kind in [Kind::Connected, Kind::Unconnected] {
        assert!(crate::world::offers("sockets", kind, At::Anywhere).is_empty());
    }
}
