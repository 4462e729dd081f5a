//! Golden bytes: what the session writes, against the RFC's worked example and libzmq's own tests.

use super::*;

#[test]
fn ready_is_that_of_the_worked_example() {
    // ZMTP 3.1 section "Worked Example"; libzmq's tests hold the same bytes as zmtp_ready_dealer.
    let golden = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0";
    assert_eq!(golden.len(), 41);
    let mut session = start(config(SocketType::Dealer), 1, Instant::now());
    assert_command(session.poll_command(), golden);
    assert!(session.poll_command().is_none());
}

#[test]
fn identity_goes_with_req_dealer_and_router_only() {
    let now = Instant::now();
    for socket_type in SocketType::ALL {
        let mut session = start(SessionConfig { routing_id: "me".into(), ..config(socket_type) }, 1, now);
        let ready = session.poll_command().unwrap().body;
        let name = socket_type.name();
        let mut golden =
            [&b"\x05READY\x0bSocket-Type\0\0\0"[..], &[name.len() as u8], name.as_bytes()].concat();
        if matches!(name, "REQ" | "DEALER" | "ROUTER") {
            golden.extend(b"\x08Identity\0\0\0\x02me");
        }
        assert_eq!(ready, &golden[..]);
    }
}

#[test]
fn subscriptions_have_the_form_of_the_peers_version() {
    let now = Instant::now();
    // libzmq's test_mock_pub_sub: `\4\xb\x9SUBSCRIBEA` to 3.1, `\0\2\1A` to 3.0, flags and size included.
    let mut new = established(config(SocketType::Sub), SocketType::Pub, 1, now);
    let mut old = established(config(SocketType::Sub), SocketType::Pub, 0, now);
    assert_command(new.encode(Part::command(b"\x01A")), b"\x09SUBSCRIBEA");
    assert_command(new.encode(Part::command(b"\0A")), b"\x06CANCELA");
    for body in [b"\x01A", b"\0A"] {
        let part = old.encode(Part::command(body)).unwrap();
        assert_eq!((part.flags, part.body), (Flags::LAST, body.into()));
    }
    assert!(new.encode(Part::command(b"")).is_none());
    assert!(new.encode(Part::command(b"\x02A")).is_none());
}

#[test]
fn ping_and_pong_are_those_of_libzmq() {
    let t0 = Instant::now();
    let heartbeat = Heartbeat { interval: 50 * MS, timeout: Duration::ZERO, ttl: 2_599 * MS };
    let mut session =
        established(SessionConfig { heartbeat, ..config(SocketType::Router) }, SocketType::Dealer, 1, t0);
    // From libzmq's test_heartbeats.
    session.handle_part(command("PING", b"\0\0LOL"), t0).unwrap();
    assert_command(session.poll_command(), b"\x04PONGLOL");
    assert_eq!(session.poll_timeout(), Some(t0 + 50 * MS));
    session.handle_timeout(t0 + 50 * MS).unwrap();
    assert_command(session.poll_command(), b"\x04PING\0\x19");
    assert!(session.poll_command().is_none());
}
