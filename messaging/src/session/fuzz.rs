//! The session as a fuzz target: any bytes are a peer and an engine gone wild. Checks that nothing panics, that an
//! error is final, and that what waits to be sent is bounded.
//!
//! Corpus: `fuzz/corpus/session` holds inputs that found something; the tests replay it beside `seeds`, from which
//! `cargo fuzz` starts. An input is a header and steps:
//!
//! ```text
//! header  our type (index into SocketType::ALL, modulo), peer's minor version, mode
//!         mode: bits 0-1 kind (zmtp, zmtp to a legacy peer, in-process, none), bit 2 the test cipher, bit 3 late
//! step    op, len, len bytes
//!         op modulo 8: 0-3 a part arrives with these flags (2 is COMMAND, 3 is COMMAND and MORE), 4 time passes (len
//!         times 100 ms) and a timeout is handled, 5 everything is polled, 6 the application sends, 7 an admission
//!         is asked for and answered, yes if len is even
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{Flags, Frame, Hello, Identity, MechanismName, Part, PeerInfo, SessionKind, Violation};

use super::limits::PONGS_MAX;
use super::mechanism::{Admission, MechanismFactory};
use super::{Heartbeat, Input, Null, Session, SessionConfig, testing};
use crate::socket_type::SocketType;

const KEY: u64 = 1;

/// Runs one input. Panics only if the session is wrong.
#[doc(hidden)]
pub fn fuzz_session(bytes: &[u8]) {
    let Some(([socket_type, minor, mode], mut steps)) = bytes.split_first_chunk() else {
        return;
    };
    let socket_type = SocketType::ALL[usize::from(*socket_type) % SocketType::ALL.len()];
    let mechanism: Arc<dyn MechanismFactory> = if mode & 4 == 0 {
        Arc::new(Null)
    } else {
        Arc::new(testing::Cipher { key: KEY, late: mode & 8 != 0 })
    };
    let name = mechanism.name();
    let config = Arc::new(SessionConfig {
        socket_type,
        routing_id: Frame::from_static(b"fuzz"),
        mechanism,
        heartbeat: Heartbeat { interval: Duration::from_millis(300), ..Heartbeat::default() },
        handshake_timeout: Duration::from_secs(3),
    });
    let theirs = SocketType::ALL.into_iter().find(|&theirs| socket_type.goes_with(theirs));
    let identity = Identity {
        socket_type: theirs.unwrap_or(socket_type).name(),
        routing_id: Frame::EMPTY,
        send_hwm: 0,
        receive_hwm: 0,
    };
    let (kind, identity) = match mode & 3 {
        0 => (SessionKind::Zmtp, None),
        1 => (SessionKind::Zmtp, Some(identity)),
        2 => (SessionKind::InProcess, Some(identity)),
        _ => (SessionKind::None, None),
    };
    let peer = PeerInfo {
        hello: Hello { minor: *minor, mechanism: name, as_server: false },
        address: String::new(),
        identity,
        fd: -1,
        hello_took: Duration::ZERO,
    };
    let mut now = Instant::now();
    let Ok(mut session) = Session::new(config, kind, &peer, now) else {
        assert!(kind == SessionKind::Zmtp && name != MechanismName::NULL);
        return;
    };
    let mut failed = None;
    while let Some(([op, len], rest)) = steps.split_first_chunk() {
        let (data, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        steps = rest;
        match op % 8 {
            flags @ 0..4 => {
                let flags = [Flags::LAST, Flags::MORE, Flags::COMMAND, Flags::COMMAND.with(Flags::MORE)]
                    [usize::from(flags)];
                let outcome = session.handle_part(Part { body: data.into(), flags }, now);
                expect(&mut failed, &session, outcome);
            }
            4 => {
                now += Duration::from_millis(100) * u32::from(*len);
                if session.handle_timeout(now).is_err() && failed.is_none() {
                    return;
                }
                session.heard(now);
                let _ = session.poll_timeout();
            }
            5 => {
                // The handshake's commands and an ERROR, and PING.
                assert!(std::iter::from_fn(|| session.poll_command()).count() <= PONGS_MAX + 8);
            }
            6 => {
                let part = if len % 2 == 0 { Part::last(data) } else { Part::command(data) };
                let ready = session.peer().is_some() && failed.is_none();
                assert!(ready || session.encode(part).is_none());
            }
            _ => {
                let _ = session.poll_admission();
                let verdict = if len % 2 == 0 {
                    Admission::Granted { user_id: data.into(), metadata: Vec::new() }
                } else {
                    Admission::Refused { status: u16::from(*len) }
                };
                let outcome = session.admit(verdict, now);
                expect(&mut failed, &session, outcome);
            }
        }
    }
}

/// An error is final, and only a session that is ready gives anything to the application.
fn expect(failed: &mut Option<Violation>, session: &Session, outcome: Result<Input, Violation>) {
    match (&failed, outcome) {
        (Some(before), Err(violation)) => assert_eq!(*before, violation),
        (Some(_), Ok(_)) => panic!("an error that was not final"),
        (None, Err(violation)) => {
            assert!(!session.passes_data());
            *failed = Some(violation);
        }
        (None, Ok(Input::Nothing)) => {}
        (None, Ok(_)) => assert!(session.peer().is_some()),
    }
}

/// Inputs to start from: valid sessions of each kind.
#[cfg(test)]
pub(super) fn seeds() -> Vec<Vec<u8>> {
    use super::{command::Command, metadata};
    let step = |op: u8, body: &[u8]| [&[op, body.len() as u8], body].concat();
    let command = |name: &str, data: &[u8]| step(2, &Command::write(name, &[data]));
    let mut seeds = Vec::new();
    for (index, ours) in SocketType::ALL.into_iter().enumerate() {
        for theirs in SocketType::ALL.into_iter().filter(|&theirs| ours.goes_with(theirs)) {
            for mode in 0..4 {
                let mut seed = vec![index as u8, mode & 1, mode];
                if mode == 0 {
                    let mut properties = metadata::write(theirs, b"somebody");
                    metadata::property(&mut properties, "X-Name", b"value");
                    seed.extend(command("READY", &properties));
                }
                seed.extend(step(5, &[]));
                if mode == 0 {
                    seed.extend(command("PING", b"\0\x14context"));
                    seed.extend(command("SUBSCRIBE", b"topic"));
                    seed.extend(command("CANCEL", b"topic"));
                    seed.extend(command("NEWS", b"of a later version"));
                    seed.extend(step(4, &[0; 3]));
                    seed.extend(step(5, &[]));
                    seed.extend(command("PONG", b""));
                }
                seed.extend(step(0, b"\x01topic"));
                seed.extend(step(1, b"part"));
                seed.extend(step(0, b""));
                seed.extend(step(6, b"\x01topic!"));
                seed.extend(step(6, b"body"));
                if mode == 0 {
                    seed.extend(command("ERROR", b"\x03400"));
                }
                seed.extend(step(5, &[]));
                seeds.push(seed);
            }
        }
    }
    // More PINGs than PONGs may wait.
    let mut flood = vec![0, 1, 0];
    flood.extend(command("READY", &metadata::write(SocketType::Pair, b"")));
    (0..=PONGS_MAX).for_each(|n| flood.extend(command("PING", &[0, 0, n as u8])));
    flood.extend(step(5, &[]));
    seeds.push(flood);
    // The cipher, asked and answered. Its READY is beyond a seed: it would have to be sealed.
    let mut late = vec![5, 1, 4 | 8];
    late.extend(step(5, &[]));
    late.extend(step(7, b""));
    late.extend(command("HELLO", &testing::check(KEY)));
    late.extend(step(7, b"user"));
    late.extend(step(5, &[]));
    seeds.push(late);
    seeds
}
