//! The handshake: properties, ERROR, what may not be said before READY, links that have none.

use super::*;

#[test]
fn the_peers_properties_are_read() {
    let now = Instant::now();
    let mut properties = Vec::new();
    metadata::property(&mut properties, "X-Any thing", b"\0value");
    metadata::property(&mut properties, "sOCKET-tYPE", b"DEALER");
    metadata::property(&mut properties, "IDENTITY", b"Lucy");
    metadata::property(&mut properties, "Resource", b"");
    let mut session = start(config(SocketType::Router), 1, now);
    assert!(session.peer().is_none());
    assert!(!session.passes_data());
    let input = session.handle_part(command("READY", &properties), now).unwrap();
    assert!(matches!(input, Input::Ready));
    let peer = session.peer().unwrap();
    assert_eq!(peer.socket_type, SocketType::Dealer);
    assert_eq!(peer.routing_id, "Lucy");
    // What it said, behind what is known without it.
    assert_eq!(peer.metadata[0], ("Peer-Address".to_owned(), b"test".to_vec()));
    assert_eq!(
        peer.metadata[1..],
        [("X-Any thing".to_owned(), b"\0value".to_vec()), ("Resource".to_owned(), Vec::new())]
    );
    assert!(session.passes_data());
    // READY is still to be sent, and goes first. Then nothing of NULL is left.
    assert!(session.poll_command().unwrap().body.starts_with(b"\x05READY"));
    assert!(session.poll_command().is_none() && session.mechanism.is_none());
}

#[test]
fn malformed_metadata_is_refused() {
    let now = Instant::now();
    let long = [7; 256];
    let mut cases: Vec<Vec<u8>> = vec![b"\x00\0\0\0\0".to_vec(), b"\x01A\0\0\0\x02a".to_vec()];
    for (name, value) in [
        ("Socket-Type", &b"DEALER"[..]),
        ("Identity", b"\0zero"),
        ("Identity", &long),
        ("a\nb", b""),
        ("\u{e9}", b""),
    ] {
        let mut case = metadata::write(SocketType::Rep, b"");
        metadata::property(&mut case, name, value);
        cases.push(case);
    }
    let mut twice = metadata::write(SocketType::Req, b"one");
    metadata::property(&mut twice, "identity", b"two");
    cases.push(twice);
    let mut many = metadata::write(SocketType::Rep, b"");
    for _ in 0..PROPERTIES_MAX {
        metadata::property(&mut many, "A", b"");
    }
    cases.push(many);
    for case in cases {
        let mut session = start(config(SocketType::Dealer), 1, now);
        assert_violation(session.handle_part(command("READY", &case), now), Violation::BadCommand);
        assert!(session.peer().is_none());
        // And it stays so.
        assert_violation(session.handle_part(ready_of(SocketType::Rep), now), Violation::BadCommand);
    }
    // A READY cut anywhere is malformed as well, unless it is cut between two properties.
    let whole = Command::write("READY", &[&metadata::write(SocketType::Dealer, b"id")]);
    for len in 0..whole.len() {
        let mut session = start(config(SocketType::Router), 1, now);
        let outcome = session.handle_part(Part::command(&whole[..len]), now);
        match len {
            6 => assert_violation(outcome, Violation::IncompatibleSocket),
            28 => assert!(matches!(outcome, Ok(Input::Ready))),
            _ => assert_violation(outcome, Violation::BadCommand),
        }
    }
}

#[test]
fn an_incompatible_peer_is_told() {
    let now = Instant::now();
    let golden = b"\x05ERROR\x13Invalid socket type";
    let mut unknown = Vec::new();
    metadata::property(&mut unknown, "Socket-Type", b"CLIENT");
    for ready in [ready_of(SocketType::Pull), command("READY", &unknown), command("READY", b"")] {
        let mut session = start(config(SocketType::Req), 1, now);
        assert_violation(session.handle_part(ready, now), Violation::IncompatibleSocket);
        // The ERROR takes the place of a READY that was not sent.
        assert_command(session.poll_command(), golden);
        assert!(session.poll_command().is_none());
        assert!(session.poll_timeout().is_none());
        assert_eq!(session.handle_timeout(now), Err(Violation::IncompatibleSocket.into()));
    }
}

#[test]
fn an_error_ends_the_session_and_gives_its_reason() {
    let now = Instant::now();
    let mut session = start(config(SocketType::Req), 1, now);
    assert_violation(session.handle_part(command("ERROR", b"\x03400"), now), REFUSED);
    assert_eq!(session.refusal(), Some(&b"400"[..]));
    let mut session = established(config(SocketType::Req), SocketType::Rep, 1, now);
    assert_violation(session.handle_part(command("ERROR", b"\0"), now), REFUSED);
    assert_eq!(session.refusal(), Some(&b""[..]));
    let mut session = start(config(SocketType::Req), 1, now);
    assert_violation(session.handle_part(command("ERROR", b"\x04400"), now), Violation::BadCommand);
    assert!(session.refusal().is_none());
}

#[test]
fn nothing_but_the_mechanism_speaks_before_ready() {
    let now = Instant::now();
    let cases = [
        (Part::last("data"), Violation::BadFrame),
        (Part::more("data"), Violation::BadFrame),
        (Part { flags: Flags::COMMAND.with(Flags::MORE), ..ready_of(SocketType::Sub) }, Violation::BadFrame),
        (command("PING", b"\0\0"), Violation::UnexpectedCommand),
        (command("SUBSCRIBE", b""), Violation::UnexpectedCommand),
        (Part::command(b""), Violation::BadCommand),
        (Part::command(b"\0READY"), Violation::BadCommand),
        (Part::command(b"\x06READY"), Violation::BadCommand),
        (Part::command(b"\x05RE DY"), Violation::BadCommand),
        (command("READY", &vec![1; HANDSHAKE_COMMAND_MAX]), Violation::TooLarge),
    ];
    for (part, violation) in cases {
        let mut session = start(config(SocketType::Pub), 1, now);
        assert!(session.encode(Part::last("data")).is_none());
        assert_violation(session.handle_part(part, now), violation);
        assert!(session.encode(Part::last("data")).is_none());
    }
    let mut session = established(config(SocketType::Pub), SocketType::Sub, 1, now);
    assert_violation(session.handle_part(ready_of(SocketType::Sub), now), Violation::UnexpectedCommand);
}

#[test]
fn mechanisms_must_match() {
    let (config, now) = (Arc::new(config(SocketType::Pair)), Instant::now());
    let peer = peer_info(1, MechanismName::new("PLAIN"));
    let refused = Session::new(config.clone(), SessionKind::Zmtp, &peer, now);
    assert_eq!(refused.unwrap_err(), Violation::MechanismMismatch);
    // A peer of ZMTP 2.0 has no security to offer: no way around a mechanism that we insist on.
    let secure =
        SessionConfig { mechanism: Arc::new(testing::Cipher { key: 1, late: false }), ..(*config).clone() };
    let refused = Session::new(Arc::new(secure), SessionKind::Zmtp, &introduced_as("PAIR"), now);
    assert_eq!(refused.unwrap_err(), Violation::MechanismMismatch);
}

#[test]
fn a_handshake_takes_only_so_long() {
    let t0 = Instant::now();
    let mut session = start(SessionConfig { handshake_timeout: 100 * MS, ..config(SocketType::Pull) }, 1, t0);
    assert_eq!(session.poll_timeout(), Some(t0 + 100 * MS));
    session.handle_timeout(t0 + 99 * MS).unwrap();
    session.heard(t0 + 99 * MS);
    assert_eq!(session.handle_timeout(t0 + 100 * MS), Err(DownReason::TimedOut));

    let mut session = start(SessionConfig { handshake_timeout: 100 * MS, ..config(SocketType::Pull) }, 1, t0);
    session.handle_part(ready_of(SocketType::Push), t0 + 50 * MS).unwrap();
    assert_eq!(session.poll_timeout(), None);
    session.handle_timeout(t0 + 200 * MS).unwrap();

    let late = PeerInfo { hello_took: 60 * MS, ..peer_info(1, MechanismName::NULL) };
    let config_100 = SessionConfig { handshake_timeout: 100 * MS, ..config(SocketType::Pull) };
    let session = Session::new(Arc::new(config_100), SessionKind::Zmtp, &late, t0).unwrap();
    assert_eq!(session.poll_timeout(), Some(t0 + 40 * MS), "its hello took part of the time");

    for never in [Duration::ZERO, Duration::MAX] {
        let patient = SessionConfig { handshake_timeout: never, ..config(SocketType::Pull) };
        assert_eq!(start(patient, 1, t0).poll_timeout(), None);
    }
}

#[test]
fn links_without_a_handshake_are_ready_at_once() {
    let now = Instant::now();
    let eager = Heartbeat { interval: MS, ..Heartbeat::default() };
    let make = |ours, kind, peer: &PeerInfo| {
        let config = SessionConfig { heartbeat: eager, ..config(ours) };
        Session::new(Arc::new(config), kind, peer, now)
    };
    for kind in [SessionKind::Zmtp, SessionKind::InProcess, SessionKind::None] {
        let mut session = make(SocketType::Router, kind, &introduced_as("DEALER")).unwrap();
        assert_eq!(session.peer().unwrap().routing_id, "them");
        assert!(session.passes_data() && session.poll_command().is_none());
        assert_eq!(session.poll_timeout(), None, "no heartbeats either");
        let refused = make(SocketType::Router, kind, &introduced_as("NONSENSE"));
        assert_eq!(refused.unwrap_err(), Violation::IncompatibleSocket);
        // Any two types may meet in-process.
        let unlike = make(SocketType::Router, kind, &introduced_as("SUB"));
        assert_eq!(unlike.is_ok(), kind == SessionKind::InProcess);
    }
    let nobody = peer_info(1, MechanismName::NULL);
    assert!(make(SocketType::Sub, SessionKind::InProcess, &nobody).is_err());
    for ours in SocketType::ALL {
        let session = make(ours, SessionKind::None, &nobody).unwrap();
        assert!(ours.goes_with(session.peer().unwrap().socket_type));
    }

    // Subscriptions: as the pipes have them in-process, as messages to ZMTP 2.0, not at all one way.
    let make = |kind| {
        let sub = make(SocketType::Sub, kind, &introduced_as("PUB")).unwrap();
        (sub, make(SocketType::Pub, kind, &introduced_as("SUB")).unwrap())
    };
    for (kind, flags) in [(SessionKind::InProcess, Flags::COMMAND), (SessionKind::Zmtp, Flags::LAST)] {
        let (mut sub, mut publisher) = make(kind);
        assert!(!publisher.passes_data());
        let part = sub.encode(Part::command(b"\x01topic")).unwrap();
        assert_eq!((part.flags, &part.body), (flags, &b"\x01topic".into()));
        assert!(matches!(publisher.handle_part(part, now), Ok(Input::Subscribe(topic)) if topic == "topic"));
        let violation = publisher.handle_part(Part::command(b"\x04PING\0\0"), now).unwrap_err();
        assert!(matches!(violation, Violation::BadCommand | Violation::BadFrame));
    }
    assert!(make(SessionKind::None).0.encode(Part::command(b"\x01topic")).is_none());
}
