//! Tests of the session, by theme. This file holds what they share, and no test of behaviour.

mod golden;
mod handshake;
mod heartbeats;
mod hostile;
mod pairs;
mod traffic;

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

/// A session at its start whose parts are ciphered; peers with another key are not let in, and late ones wait.
fn ciphered(socket_type: SocketType, key: u64, late: bool, now: Instant) -> Session {
    let heartbeat = Heartbeat { interval: 100 * MS, ..Heartbeat::default() };
    let mechanism = Arc::new(testing::Cipher { key, late });
    start(SessionConfig { mechanism, heartbeat, ..config(socket_type) }, 1, now)
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

#[test]
fn an_idle_session_is_small() {
    // 10,000 idle links have 8 KiB each for everything.
    assert!(size_of::<Session>() <= 640, "{} bytes", size_of::<Session>());
}
