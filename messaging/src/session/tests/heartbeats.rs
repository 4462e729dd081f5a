//! Heartbeats and time to live, with made-up instants.

use super::*;

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
