//! Tests of the session: golden bytes, rules, timers with made-up instants, pairs of sessions, mutations.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{
    DownReason, Flags, Frame, Hello, Identity, MechanismName, Part, PeerInfo, SessionKind, Violation,
};

use super::limits::*;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn config(socket_type: SocketType) -> SessionConfig {
    SessionConfig {
        socket_type,
        routing_id: Frame::EMPTY,
        mechanism: Arc::new(Null),
        heartbeat: Heartbeat::default(),
        handshake_timeout: Duration::from_secs(30),
    }
}

fn peer_info(minor: u8, mechanism: MechanismName) -> PeerInfo {
    let hello = Hello { minor, mechanism, as_server: false };
    PeerInfo { hello, address: "test".into(), identity: None, fd: -1, hello_took: Duration::ZERO }
}

fn start(config: SessionConfig, minor: u8, now: Instant) -> Session {
    let peer = peer_info(minor, config.mechanism.name());
    Session::new(Arc::new(config), SessionKind::Zmtp, &peer, now).unwrap()
}

fn introduced_as(name: &'static str) -> PeerInfo {
    let identity = Identity { socket_type: name, routing_id: "them".into(), send_hwm: 0, receive_hwm: 0 };
    PeerInfo { identity: Some(identity), ..peer_info(0, MechanismName::NULL) }
}

fn ready_of(socket_type: SocketType) -> Part {
    Part::command(Command::write("READY", &[&metadata::write(socket_type, b"")]))
}

/// A session past its handshake, with what it sent meanwhile thrown away.
fn established(config: SessionConfig, theirs: SocketType, minor: u8, now: Instant) -> Session {
    let mut session = start(config, minor, now);
    assert!(matches!(session.handle_part(ready_of(theirs), now), Ok(Input::Ready)));
    while session.poll_command().is_some() {}
    session
}

fn command(name: &str, data: &[u8]) -> Part {
    Part::command(Command::write(name, &[data]))
}

#[track_caller]
fn assert_command(part: Option<Part>, bytes: &[u8]) {
    let part = part.expect("a command");
    assert_eq!(part.flags, Flags::COMMAND);
    assert_eq!(part.body, bytes);
}

#[track_caller]
fn assert_violation(outcome: Result<Input, Violation>, violation: Violation) {
    assert_eq!(outcome.unwrap_err(), violation);
}

/// Carries everything the sessions say on their own account to and fro.
fn converse(a: &mut Session, b: &mut Session, now: Instant) -> (Vec<Input>, Vec<Input>) {
    let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
    loop {
        let mut quiet = true;
        while let Some(part) = a.poll_command() {
            to_b.push(b.handle_part(part, now).unwrap());
            quiet = false;
        }
        while let Some(part) = b.poll_command() {
            to_a.push(a.handle_part(part, now).unwrap());
            quiet = false;
        }
        if quiet {
            return (to_a, to_b);
        }
    }
}

/// A small generator, so that a failure names its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Golden bytes

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

// ---------------------------------------------------------------------------------------------------------------
// Handshake

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
    assert_eq!(
        peer.metadata,
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

// ---------------------------------------------------------------------------------------------------------------
// Traffic

#[test]
fn a_publisher_takes_both_forms_from_both_versions() {
    let now = Instant::now();
    for minor in [0, 1, 9] {
        let mut session = established(config(SocketType::Pub), SocketType::Sub, minor, now);
        let mut hear = |part| session.handle_part(part, now).unwrap();
        assert!(matches!(hear(command("SUBSCRIBE", b"A")), Input::Subscribe(topic) if topic == "A"));
        assert!(matches!(hear(command("CANCEL", b"")), Input::Cancel(topic) if topic.is_empty()));
        assert!(matches!(hear(Part::last(b"\x01A")), Input::Subscribe(topic) if topic == "A"));
        assert!(matches!(hear(Part::last(b"\0A")), Input::Cancel(topic) if topic == "A"));
        // Anything else is dropped, and the parts of a message are no subscriptions.
        for part in [Part::last(b""), Part::last(b"\x02"), Part::more(b"\x01A"), Part::last(b"\x01B")] {
            assert!(matches!(hear(part), Input::Nothing));
        }
        assert!(matches!(hear(Part::last(b"\x01C")), Input::Subscribe(_)));
    }
    let mut xpub = established(config(SocketType::Xpub), SocketType::Xsub, 1, now);
    assert!(matches!(xpub.handle_part(Part::last("hello"), now), Ok(Input::Deliver(_))));
    assert!(matches!(xpub.handle_part(Part::last(b"\x01A"), now), Ok(Input::Subscribe(_))));
}

#[test]
fn topics_are_bounded() {
    let now = Instant::now();
    let mut form = vec![1; TOPIC_MAX + 1];
    for publisher in [SocketType::Pub, SocketType::Xpub] {
        let mut session = established(config(publisher), SocketType::Sub, 1, now);
        assert!(matches!(session.handle_part(Part::last(form.clone()), now), Ok(Input::Subscribe(_))));
        assert!(matches!(
            session.handle_part(command("SUBSCRIBE", &form[1..]), now),
            Ok(Input::Subscribe(_))
        ));
        assert_violation(session.handle_part(command("CANCEL", &form), now), Violation::TooLarge);
    }
    form.push(1);
    let mut session = established(config(SocketType::Pub), SocketType::Sub, 0, now);
    assert_violation(session.handle_part(Part::last(form), now), Violation::TooLarge);
}

#[test]
fn what_has_no_effect_is_ignored_up_to_a_rate() {
    let t0 = Instant::now();
    for part in
        [command("NEWS", b"?"), command("SUBSCRIBE", b"A"), command("JOIN", b"A"), command("PONG", b"")]
    {
        let mut session = established(config(SocketType::Pull), SocketType::Push, 1, t0);
        for second in 0..3 {
            for _ in 0..IGNORED_MAX {
                let input = session.handle_part(part.clone(), t0 + IGNORED_WINDOW * second).unwrap();
                assert!(matches!(input, Input::Nothing));
            }
        }
        let outcome = session.handle_part(part, t0 + IGNORED_WINDOW * 2 + 999 * MS);
        assert_violation(outcome, Violation::CommandFlood);
    }
    let mut session = established(config(SocketType::Pull), SocketType::Push, 1, t0);
    let part = Part { flags: Flags::COMMAND.with(Flags::MORE), ..command("NEWS", b"") };
    assert_violation(session.handle_part(part, t0), Violation::BadFrame);
}

#[test]
fn data_passes_without_a_copy() {
    let now = Instant::now();
    let mut session = established(config(SocketType::Dealer), SocketType::Dealer, 1, now);
    let body = Frame::from(vec![1; 1000]);
    let address = body.as_ptr();
    let sent = session.encode(Part::more(body)).unwrap();
    let Ok(Input::Deliver(part)) = session.handle_part(sent, now) else { panic!("not delivered") };
    assert_eq!((part.body.as_ptr(), part.flags), (address, Flags::MORE));
}

// ---------------------------------------------------------------------------------------------------------------
// Heartbeats

fn beating(interval: Duration, timeout: Duration, now: Instant) -> Session {
    let heartbeat = Heartbeat { interval, timeout, ttl: Duration::ZERO };
    established(SessionConfig { heartbeat, ..config(SocketType::Dealer) }, SocketType::Router, 1, now)
}

#[test]
fn a_silent_peer_is_dead_after_the_timeout() {
    let t0 = Instant::now();
    // Without a timeout of its own, the interval is the timeout.
    let mut session = beating(100 * MS, Duration::ZERO, t0);
    session.handle_timeout(t0 + 100 * MS).unwrap();
    assert_command(session.poll_command(), b"\x04PING\0\0");
    assert_eq!(session.poll_timeout(), Some(t0 + 200 * MS));
    assert_eq!(session.handle_timeout(t0 + 200 * MS), Err(DownReason::TimedOut));

    // A longer one runs from the first PING, whatever PINGs follow.
    let mut session = beating(100 * MS, 250 * MS, t0);
    for tick in 1..=3 {
        session.handle_timeout(t0 + 100 * MS * tick).unwrap();
        assert_command(session.poll_command(), b"\x04PING\0\0");
    }
    assert_eq!(session.poll_timeout(), Some(t0 + 350 * MS));
    assert_eq!(session.handle_timeout(t0 + 350 * MS), Err(DownReason::TimedOut));
}

#[test]
fn who_is_late_gives_as_much_time_and_looks_again() {
    let t0 = Instant::now();
    let late = |by: u32| {
        let mut session = beating(100 * MS, Duration::ZERO, t0);
        session.handle_timeout(t0 + 100 * MS).unwrap();
        let now = t0 + 200 * MS + MS * by;
        session.reprieve(now);
        session.handle_timeout(now).unwrap();
        (session, now)
    };
    for (by, more) in [(0, 1), (1, 1), (30, 30), (99, 99), (100, 100), (5000, 100)] {
        let (mut session, mut now) = late(by);
        now += MS * more;
        session.handle_timeout(now - MS / 2).unwrap();
        for _ in 1..limits::REPRIEVES {
            session.reprieve(now);
            session.handle_timeout(now).unwrap();
            // However late it is now, it is one look.
            now += 10 * MS;
        }
        session.reprieve(now);
        assert_eq!(session.handle_timeout(now), Err(DownReason::TimedOut), "{by}");
        // A sign of life in between ends it.
        let (mut session, now) = late(by);
        session.heard(now + MS);
        session.reprieve(now + 99 * MS);
        session.handle_timeout(now + 99 * MS).unwrap();
    }
    // Time that has not run out is left as it is.
    let mut session = beating(100 * MS, 250 * MS, t0);
    session.handle_timeout(t0 + 100 * MS).unwrap();
    session.reprieve(t0 + 349 * MS);
    session.handle_timeout(t0 + 349 * MS).unwrap();
    assert_eq!(session.handle_timeout(t0 + 350 * MS), Err(DownReason::TimedOut));
}

#[test]
fn any_traffic_is_a_sign_of_life() {
    let t0 = Instant::now();
    let signs: [fn(&mut Session, Instant); 3] = [
        |session, now| assert!(session.handle_part(command("PONG", b""), now).is_ok()),
        |session, now| assert!(session.handle_part(Part::last("data"), now).is_ok()),
        |session, now| session.heard(now),
    ];
    for sign in signs {
        let mut session = beating(100 * MS, 150 * MS, t0);
        for tick in 1..=20 {
            let now = t0 + 100 * MS * tick;
            session.handle_timeout(now).unwrap();
            assert_command(session.poll_command(), b"\x04PING\0\0");
            // Noticed in the instant of the PING, it came before it.
            session.heard(now);
            assert_eq!(session.poll_timeout(), Some(now + 100 * MS));
            sign(&mut session, now + MS);
        }
        session.handle_timeout(t0 + 2100 * MS).unwrap();
        session.heard(t0 + 2100 * MS);
        assert_eq!(session.handle_timeout(t0 + 2250 * MS), Err(DownReason::TimedOut));
    }
}

#[test]
fn a_peers_ttl_is_respected_without_heartbeats_of_ours() {
    let t0 = Instant::now();
    let ping = || command("PING", b"\0\x03");
    let mut session = established(config(SocketType::Pull), SocketType::Push, 0, t0);
    session.handle_part(ping(), t0).unwrap();
    session.heard(t0);
    assert_eq!(session.poll_timeout(), Some(t0 + 300 * MS));
    session.heard(t0 + 100 * MS);
    assert_eq!(session.poll_timeout(), None, "as libzmq: traffic ends the countdown until the next PING");
    session.handle_part(ping(), t0 + 200 * MS).unwrap();
    session.handle_part(ping(), t0 + 400 * MS).unwrap();
    session.handle_timeout(t0 + 699 * MS).unwrap();
    assert_eq!(session.handle_timeout(t0 + 700 * MS), Err(DownReason::TimedOut));

    // The longest, 6553.5 s, where libzmq's 16 bits overflow.
    let mut session = established(config(SocketType::Pull), SocketType::Push, 1, t0);
    session.handle_part(command("PING", b"\xff\xff"), t0).unwrap();
    assert_eq!(session.poll_timeout(), Some(t0 + 6_553_500 * MS));
}

#[test]
fn ttl_is_announced_in_tenths_of_a_second() {
    let now = Instant::now();
    let cases = [
        (99 * MS, [0, 0]),
        (100 * MS, [0, 1]),
        (6_553_599 * MS, [0xff, 0xff]),
        (Duration::MAX, [0xff, 0xff]),
    ];
    for (ttl, field) in cases {
        let heartbeat = Heartbeat { interval: MS, ttl, ..Heartbeat::default() };
        let config = SessionConfig { heartbeat, ..config(SocketType::Pair) };
        let mut session = established(config, SocketType::Pair, 1, now);
        session.handle_timeout(now + MS).unwrap();
        assert_command(session.poll_command(), &[b"\x04PING", &field[..]].concat());
    }
}

#[test]
fn our_own_deafness_kills_nobody() {
    let t0 = Instant::now();
    let mut session = beating(100 * MS, Duration::ZERO, t0);
    session.handle_part(command("PING", b"\0\x01"), t0).unwrap();
    session.set_deaf(true);
    session.handle_part(command("PING", b"\0\x01"), t0).unwrap();
    for tick in 1..=50 {
        session.handle_timeout(t0 + 100 * MS * tick).unwrap();
    }
    session.set_deaf(false);
    session.handle_timeout(t0 + 5100 * MS).unwrap();
    assert_eq!(session.handle_timeout(t0 + 5200 * MS), Err(DownReason::TimedOut));
}

#[test]
fn a_stalled_link_collects_neither_pings_nor_pongs() {
    let t0 = Instant::now();
    let mut session = beating(100 * MS, Duration::from_secs(3600), t0);
    for tick in 1..=10_000 {
        session.handle_part(command("PING", b"\0\0"), t0 + MS * tick).unwrap();
        session.handle_timeout(t0 + 100 * MS * tick).unwrap();
    }
    assert_command(session.poll_command(), b"\x04PONG");
    assert_command(session.poll_command(), b"\x04PING\0\0");
    assert!(session.poll_command().is_none());
    // A late call makes up for nothing.
    session.handle_timeout(t0 + Duration::from_secs(2000)).unwrap();
    assert!(session.poll_command().is_some());
    session.handle_timeout(t0 + Duration::from_secs(2000)).unwrap();
    assert!(session.poll_command().is_none());
}

#[test]
fn pongs_echo_in_order_and_are_bounded() {
    let now = Instant::now();
    let mut session = established(config(SocketType::Pair), SocketType::Pair, 1, now);
    let ping = |n: usize| command("PING", &[&[0, 0], format!("context {n:08}").as_bytes()].concat());
    for n in 0..PONGS_MAX {
        session.handle_part(ping(n), now).unwrap();
    }
    for n in 0..PONGS_MAX {
        assert_command(session.poll_command(), format!("\x04PONGcontext {n:08}").as_bytes());
    }
    assert!(session.poll_command().is_none());
    for n in 0..PONGS_MAX {
        session.handle_part(ping(n), now).unwrap();
    }
    assert_violation(session.handle_part(ping(PONGS_MAX), now), Violation::CommandFlood);
    assert!(session.poll_command().is_none());
}

#[test]
fn malformed_heartbeats_are_refused() {
    let now = Instant::now();
    let long = [0; PING_CONTEXT_MAX + 3];
    for part in [command("PING", b""), command("PING", b"\0"), command("PONG", &long[2..])] {
        let mut session = established(config(SocketType::Pair), SocketType::Pair, 1, now);
        assert_violation(session.handle_part(part, now), Violation::BadCommand);
    }
    let mut session = established(config(SocketType::Pair), SocketType::Pair, 1, now);
    let outcome = session.handle_part(command("PING", &long), now);
    if LONG_PING_CONTEXT_IS_VIOLATION {
        assert_violation(outcome, Violation::BadCommand);
    } else {
        assert_command(session.poll_command(), &[b"\x04PONG", &long[..PING_CONTEXT_MAX]].concat());
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Two sessions

#[test]
fn every_pair_of_types_agrees_on_whether_to_talk() {
    let now = Instant::now();
    for (a_type, b_type) in SocketType::ALL.into_iter().flat_map(|a| SocketType::ALL.map(|b| (a, b))) {
        for (a_minor, b_minor) in [(1, 1), (1, 0), (0, 1), (0, 0)] {
            // Each is told the other's version.
            let mut a = start(SessionConfig { routing_id: "A".into(), ..config(a_type) }, b_minor, now);
            let mut b = start(config(b_type), a_minor, now);
            if !a_type.goes_with(b_type) {
                let from_a = a.poll_command().unwrap();
                assert_violation(b.handle_part(from_a, now), Violation::IncompatibleSocket);
                let error = b.poll_command().unwrap();
                assert_violation(a.handle_part(error, now), REFUSED);
                assert_eq!(a.refusal(), Some(&b"Invalid socket type"[..]));
                continue;
            }
            let (to_a, to_b) = converse(&mut a, &mut b, now);
            assert!(matches!((&to_a[..], &to_b[..]), ([Input::Ready], [Input::Ready])));
            assert_eq!(a.peer().unwrap().socket_type, b_type);
            assert_eq!(b.peer().unwrap().socket_type, a_type);
            let announces = matches!(a_type, SocketType::Req | SocketType::Dealer | SocketType::Router);
            assert_eq!(b.peer().unwrap().routing_id, if announces { "A" } else { "" });
            exchange(&mut a, &mut b, now);
            exchange(&mut b, &mut a, now);
        }
    }
}

/// What `from` sends comes out of `to` as it should.
fn exchange(from: &mut Session, to: &mut Session, now: Instant) {
    let to_publisher = matches!(to.config.socket_type, SocketType::Pub | SocketType::Xpub);
    for (form, subscribe) in [(b"\x01topic", true), (b"\0topic", false)] {
        let part = from.encode(Part::command(form)).unwrap();
        if part.flags.command() || to_publisher {
            match to.handle_part(part, now).unwrap() {
                Input::Subscribe(topic) => assert!(to_publisher && subscribe && topic == "topic"),
                Input::Cancel(topic) => assert!(to_publisher && !subscribe && topic == "topic"),
                other => assert!(!to_publisher && matches!(other, Input::Nothing)),
            }
        }
    }
    for part in [Part::more("envelope"), Part::more(""), Part::last(vec![7; 1000])] {
        let (body, flags) = (part.body.clone(), part.flags);
        let wire = from.encode(part).unwrap();
        match to.handle_part(wire, now).unwrap() {
            Input::Deliver(part) => assert_eq!((part.body, part.flags), (body, flags)),
            other => assert!(to_publisher && matches!(other, Input::Nothing)),
        }
    }
}

fn ciphered(socket_type: SocketType, key: u64, late: bool, now: Instant) -> Session {
    let heartbeat = Heartbeat { interval: 100 * MS, ..Heartbeat::default() };
    let mechanism = Arc::new(testing::Cipher { key, late });
    start(SessionConfig { mechanism, heartbeat, ..config(socket_type) }, 1, now)
}

const GRANTED: Admission = Admission::Granted { user_id: Vec::new(), metadata: Vec::new() };

#[test]
fn a_ciphering_mechanism_fits() {
    let t0 = Instant::now();
    let pairs = [(SocketType::Dealer, SocketType::Router), (SocketType::Sub, SocketType::Pub)];
    for (a_type, b_type) in pairs {
        let (mut a, mut b) = (ciphered(a_type, 1, false, t0), ciphered(b_type, 1, false, t0));
        converse(&mut a, &mut b, t0);
        assert_eq!(a.peer().unwrap().socket_type, b_type);
        assert!(!a.passes_data() && !b.passes_data());
        exchange(&mut a, &mut b, t0);
        exchange(&mut b, &mut a, t0);
        // Heartbeats go under cover, too, and keep both alive.
        for tick in 1..10 {
            let now = t0 + 100 * MS * tick;
            a.handle_timeout(now).unwrap();
            let ping = a.poll_command().unwrap();
            assert!(ping.flags.command() && ping.body.starts_with(b"\x07MESSAGE"));
            b.handle_part(ping, now).unwrap();
            converse(&mut a, &mut b, now + MS);
        }
        // GAP is the transport's word and survives.
        let mut part = b.encode(Part::last("after a gap")).unwrap();
        assert!(!part.body.windows(3).any(|window| window == b"gap"));
        part.flags = part.flags.with(Flags::GAP);
        if let Input::Deliver(part) = a.handle_part(part, t0).unwrap() {
            assert!(part.flags.gap() && part.body == "after a gap");
        }
        // A part that is lost, repeated or changed is noticed.
        let lost = a.encode(Part::last("one")).unwrap();
        let next = a.encode(Part::last("two")).unwrap();
        drop(lost);
        assert_violation(b.handle_part(next, t0), Violation::BadCommand);
    }
    let (mut a, mut b) = (ciphered(SocketType::Pair, 1, false, t0), ciphered(SocketType::Pair, 2, false, t0));
    assert_violation(b.handle_part(a.poll_command().unwrap(), t0), Violation::BadCommand);
}

#[test]
fn admission_may_come_late() {
    let t0 = Instant::now();
    let (mut a, mut b) = (ciphered(SocketType::Req, 1, false, t0), ciphered(SocketType::Rep, 1, true, t0));
    assert!(b.poll_admission().is_none());
    // A verdict that nobody asked for opens no door.
    assert!(matches!(b.admit(GRANTED, t0), Ok(Input::Nothing)));
    assert!(matches!(b.admit(Admission::Refused { status: 400 }, t0), Ok(Input::Nothing)));
    converse(&mut a, &mut b, t0);
    assert!(b.peer().is_none(), "the peer has said READY and is not in");
    let question = b.poll_admission().unwrap();
    assert_eq!(question.credentials, [Frame::from(&1u64.to_be_bytes())]);
    assert!(b.poll_admission().is_none());
    assert!(b.poll_command().is_none());
    assert!(b.encode(Part::last("early")).is_none());
    let metadata = vec![("Group".to_owned(), b"staff".to_vec())];
    let verdict = Admission::Granted { user_id: b"lucy".to_vec(), metadata };
    assert!(matches!(b.admit(verdict, t0 + MS), Ok(Input::Ready)));
    let names: Vec<_> = b.peer().unwrap().metadata.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["User-Id", "Group"]);
    converse(&mut a, &mut b, t0);
    exchange(&mut a, &mut b, t0);
    exchange(&mut b, &mut a, t0);

    // Both sides late.
    let (mut a, mut b) = (ciphered(SocketType::Req, 1, true, t0), ciphered(SocketType::Rep, 1, true, t0));
    converse(&mut a, &mut b, t0);
    assert!(a.poll_admission().is_some() && b.poll_admission().is_some());
    assert!(matches!(a.admit(GRANTED, t0), Ok(Input::Nothing)));
    converse(&mut a, &mut b, t0);
    assert!(matches!(b.admit(GRANTED, t0), Ok(Input::Ready)));
    converse(&mut a, &mut b, t0);
    exchange(&mut a, &mut b, t0);

    // Never.
    let (mut a, mut b) = (ciphered(SocketType::Req, 1, false, t0), ciphered(SocketType::Rep, 1, true, t0));
    converse(&mut a, &mut b, t0);
    assert!(b.poll_admission().is_some());
    assert_eq!(b.handle_timeout(t0 + Duration::from_secs(30)), Err(DownReason::TimedOut));
}

/// Asks for admission and does not wait for the answer, and listens to anything.
#[derive(Debug)]
struct Careless {
    asked: bool,
    heard: bool,
}

impl MechanismFactory for Careless {
    fn name(&self) -> MechanismName {
        MechanismName::NULL
    }
    fn start(&self, _: Vec<u8>, _: &PeerInfo) -> Result<Box<dyn Mechanism>, Violation> {
        Ok(Box::new(Self { asked: false, heard: false }))
    }
}

impl Mechanism for Careless {
    fn handle_command<'a>(&mut self, command: &Command<'a>) -> Result<Option<Cow<'a, [u8]>>, Violation> {
        self.heard |= command.name == b"READY";
        Ok(self.heard.then_some(Cow::Borrowed(command.data)))
    }
    fn poll_command(&mut self) -> Option<Frame> {
        None
    }
    fn poll_admission(&mut self) -> Option<AdmissionRequest> {
        let request = AdmissionRequest { mechanism: self.name(), credentials: Vec::new() };
        (!std::mem::replace(&mut self.asked, true)).then_some(request)
    }
    fn ready(&self) -> bool {
        self.heard
    }
    fn encode(&mut self, part: Part) -> Part {
        part
    }
    fn decode(&mut self, part: Part) -> Result<Part, Violation> {
        Ok(part)
    }
}

#[test]
fn a_careless_mechanism_lets_nobody_in_and_nobody_talk_for_ever() {
    let now = Instant::now();
    let mechanism = || Arc::new(Careless { asked: false, heard: false });
    let mut session = start(SessionConfig { mechanism: mechanism(), ..config(SocketType::Pair) }, 1, now);
    assert!(session.poll_admission().is_some());
    assert!(matches!(session.handle_part(ready_of(SocketType::Pair), now), Ok(Input::Nothing)));
    assert!(session.peer().is_none());
    assert!(matches!(session.admit(GRANTED, now), Ok(Input::Ready)));

    let mut session = start(SessionConfig { mechanism: mechanism(), ..config(SocketType::Pair) }, 1, now);
    for _ in 0..HANDSHAKE_COMMANDS_MAX {
        assert!(matches!(session.handle_part(command("HELLO", b""), now), Ok(Input::Nothing)));
    }
    assert_violation(session.handle_part(command("HELLO", b""), now), Violation::CommandFlood);
}

#[test]
fn the_refused_are_told_unless_it_is_for_now() {
    let t0 = Instant::now();
    for (status, told) in [(300, None), (400, Some(b"400")), (500, Some(b"500"))] {
        let (mut a, mut b) =
            (ciphered(SocketType::Req, 1, false, t0), ciphered(SocketType::Rep, 1, true, t0));
        converse(&mut a, &mut b, t0);
        assert!(b.poll_admission().is_some());
        assert_violation(b.admit(Admission::Refused { status }, t0), REFUSED);
        assert!(b.peer().is_none());
        let error = b.poll_command();
        assert_eq!(error.is_some(), told.is_some());
        if let Some(error) = error {
            assert_violation(a.handle_part(error, t0), REFUSED);
        }
        assert_eq!(a.refusal(), told.map(|told| &told[..]));
        assert_violation(b.admit(GRANTED, t0), REFUSED);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Hostile input

#[test]
fn mutated_sequences_end_in_ok_or_violation() {
    let seeds = fuzz::seeds();
    let rounds = if cfg!(miri) { 1 } else { 300 };
    for (index, seed) in seeds.iter().enumerate() {
        fuzz_session(seed);
        for len in 0..seed.len() {
            fuzz_session(&seed[..len]);
        }
        let mut random = Random(0x5eed_0000 + index as u64);
        for _ in 0..rounds {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(6) {
                let (at, byte) = (random.below(bytes.len()), random.below(256) as u8);
                match random.below(4) {
                    0 => bytes[at] = byte,
                    1 => bytes[at] ^= 1 << (byte % 8),
                    2 => bytes.insert(at, byte),
                    _ => {
                        bytes.truncate(at.max(4));
                        let other = &seeds[random.below(seeds.len())];
                        bytes.extend_from_slice(&other[random.below(other.len())..]);
                    }
                }
            }
            fuzz_session(&bytes);
        }
    }
}

#[test]
fn mutated_ciphertext_never_comes_out() {
    let now = Instant::now();
    let mut random = Random(0xc1f4e5);
    for round in 0..if cfg!(miri) { 20 } else { 2000 } {
        let (mut a, mut b) =
            (ciphered(SocketType::Pair, 1, false, now), ciphered(SocketType::Pair, 1, false, now));
        converse(&mut a, &mut b, now);
        let part = a.encode(if round % 2 == 0 { Part::more("secret") } else { Part::last("") }).unwrap();
        let mut body = part.body.to_vec();
        let (at, bit) = (random.below(body.len()), random.below(8));
        if round % 3 == 0 {
            body.truncate(at);
        } else {
            body[at] ^= 1 << bit;
        }
        let outcome = b.handle_part(Part { body: body.into(), flags: part.flags }, now);
        assert!(outcome.is_err(), "round {round}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_corpus_is_harmless() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/session");
    for entry in std::fs::read_dir(corpus).into_iter().flatten().flatten() {
        if let Ok(bytes) = std::fs::read(entry.path()) {
            fuzz_session(&bytes);
        }
    }
}

/// `cargo test -p fabriq-messaging write_session_seeds -- --ignored`, after a change to the format of the inputs.
#[test]
#[ignore = "writes files"]
fn write_session_seeds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/session");
    std::fs::create_dir_all(corpus).unwrap();
    for (index, seed) in fuzz::seeds().iter().enumerate() {
        std::fs::write(format!("{corpus}/seed-{index:02}"), seed).unwrap();
    }
}

#[test]
fn an_idle_session_is_small() {
    // 10,000 idle links have 8 KiB each for everything.
    assert!(size_of::<Session>() <= 640, "{} bytes", size_of::<Session>());
}
