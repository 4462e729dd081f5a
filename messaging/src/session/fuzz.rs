//! The session as a fuzz target: any bytes are a peer and an engine gone wild. Checks that nothing panics, that an
//! error is final, and that what waits to be sent is bounded.
//!
//! `fuzz/fuzz_targets/session.rs` runs this under cargo-fuzz. Its corpus, `fuzz/corpus/session`, is replayed by an
//! ordinary test, which also knows what each named input comes to. An input is a header and steps:
//!
//! ```text
//! header  our type (index into SocketType::ALL, modulo), peer's minor version, mode
//!         mode: bits 0-1 kind (zmtp, zmtp to a legacy peer, in-process, none), bit 2 the test cipher, bit 3 late
//! step    op, len, len bytes
//!         op: bits 0-2 0-3 a part arrives with these flags (2 is COMMAND, 3 is COMMAND and MORE), 4 time passes (len
//!         times 100 ms) and a timeout is handled, 5 everything is polled, 6 the application sends, 7 an admission is
//!         asked for and answered, yes if len is even; bit 3 the bytes are followed by PADDING zeros
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{
    DownReason, Flags, Frame, Hello, Identity, MechanismName, Part, PeerInfo, SessionKind, Violation,
};

use super::limits::{HANDSHAKE_COMMAND_MAX, PONGS_MAX, TOPIC_MAX};
use super::mechanism::{Admission, MechanismFactory};
use super::{Heartbeat, Input, Null, Session, SessionConfig, testing};
use crate::socket_type::SocketType;

const KEY: u64 = 1;

/// Zeros behind a step's bytes: so many that the largest topic and the largest handshake command, and the first that are
/// too large, are in reach of a short input.
const PADDING: usize = (64 << 10) - 64;
const _: () = assert!(PADDING + 64 == TOPIC_MAX && PADDING + 64 == HANDSHAKE_COMMAND_MAX);

/// What an input came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why the link had to go.
    pub(super) ended: Option<DownReason>,
    /// Whether the handshake ever ended.
    pub(super) ready: bool,
    /// Topics that the peer subscribed to.
    pub(super) subscribed: usize,
    /// Subscriptions that the peer cancelled.
    pub(super) cancelled: usize,
    /// Parts for the application.
    pub(super) delivered: usize,
    /// Commands that the session sent on its own account.
    pub(super) commands: usize,
}

/// Runs one input. Panics only if the session is wrong.
#[doc(hidden)]
pub fn fuzz_session(bytes: &[u8]) {
    let _ = run(bytes);
}

/// Runs one input; `None` if it is too short to be one.
pub(super) fn run(bytes: &[u8]) -> Option<Outcome> {
    let ([socket_type, minor, mode], mut steps) = bytes.split_first_chunk()?;
    let mut outcome = Outcome::default();
    let mut now = Instant::now();
    let mut session = match begin(*socket_type, *minor, *mode, now) {
        Ok(session) => session,
        Err(violation) => {
            outcome.ended = Some(violation.into());
            return Some(outcome);
        }
    };
    let mut failed = None;
    while let Some(([op, len], rest)) = steps.split_first_chunk() {
        let (data, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        steps = rest;
        let padding = if op & 8 == 0 { 0 } else { PADDING };
        let body = || {
            let mut body = Vec::with_capacity(data.len() + padding);
            body.extend_from_slice(data);
            body.resize(data.len() + padding, 0);
            body
        };
        match op % 8 {
            flags @ 0..4 => {
                let flags = [Flags::LAST, Flags::MORE, Flags::COMMAND, Flags::COMMAND.with(Flags::MORE)]
                    [usize::from(flags)];
                let input = session.handle_part(Part { body: body().into(), flags }, now);
                outcome.count(&mut failed, &session, input);
            }
            4 => {
                now += Duration::from_millis(100) * u32::from(*len);
                if let Err(reason) = session.handle_timeout(now)
                    && failed.is_none()
                {
                    outcome.ended = Some(reason);
                    break;
                }
                session.heard(now);
                let _ = session.poll_timeout();
            }
            5 => {
                let commands = std::iter::from_fn(|| session.poll_command()).count();
                // The handshake's commands, an ERROR, and PING; after an error nothing but an ERROR.
                assert!(commands <= if failed.is_some() { 1 } else { PONGS_MAX + 8 });
                outcome.commands += commands;
            }
            6 => {
                let part = if len % 2 == 0 { Part::last(body()) } else { Part::command(body()) };
                let ready = session.peer().is_some() && failed.is_none();
                assert!(ready || session.encode(part).is_none());
            }
            _ => {
                let _ = session.poll_admission();
                let verdict = if len % 2 == 0 {
                    Admission::Granted { user_id: body(), metadata: Vec::new() }
                } else {
                    Admission::Refused { status: u16::from(*len) }
                };
                let input = session.admit(verdict, now);
                outcome.count(&mut failed, &session, input);
            }
        }
        outcome.ready |= failed.is_none() && session.peer().is_some();
    }
    Some(outcome)
}

/// The session that a header asks for.
fn begin(socket_type: u8, minor: u8, mode: u8, now: Instant) -> Result<Session, Violation> {
    let socket_type = SocketType::ALL[usize::from(socket_type) % SocketType::ALL.len()];
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
        hello: Hello { minor, mechanism: name, as_server: false },
        address: String::new(),
        identity,
        fd: -1,
        hello_took: Duration::ZERO,
    };
    let session = Session::new(config, kind, &peer, now);
    // Only a mechanism on a link to a peer that has none is refused from the start.
    let refused = mode & 3 == 1 && name != MechanismName::NULL;
    assert_eq!(session.is_err(), refused);
    session
}

impl Outcome {
    /// An error is final, only a session that is ready gives anything to the application, and no topic is too long.
    fn count(&mut self, failed: &mut Option<Violation>, session: &Session, input: Result<Input, Violation>) {
        let input = match (&failed, input) {
            (Some(before), Err(violation)) => return assert_eq!(*before, violation),
            (Some(_), Ok(_)) => panic!("an error that was not final"),
            (None, Err(violation)) => {
                assert!(!session.passes_data());
                *failed = Some(violation);
                self.ended = Some(violation.into());
                return;
            }
            (None, Ok(input)) => input,
        };
        assert!(matches!(input, Input::Nothing) || session.peer().is_some());
        match input {
            Input::Nothing | Input::Ready => {}
            Input::Deliver(_) => self.delivered += 1,
            Input::Subscribe(topic) => {
                assert!(topic.len() <= TOPIC_MAX);
                self.subscribed += 1;
            }
            Input::Cancel(topic) => {
                assert!(topic.len() <= TOPIC_MAX);
                self.cancelled += 1;
            }
        }
    }
}

/// Inputs to mutate: valid sessions of each kind, between every two types that go together.
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
