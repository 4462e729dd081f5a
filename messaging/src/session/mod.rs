//! The ZMTP session of one link: mechanism handshake, READY, subscriptions as commands, heartbeats. Does no I/O,
//! reads no clock, owns no payload.
//!
//! One session per link, from Up to Down. It speaks ZMTP 3.1 (RFC 37) and 3.0 (RFC 23); to links whose peer was
//! introduced by the transport ([`PeerInfo::identity`]: in-process, ZMTP 1.0 and 2.0) it has nothing to say but
//! subscriptions. Parts go through it in this order:
//!
//! ```text
//! wire ->  mechanism.decode -> commands: PING, PONG, SUBSCRIBE, CANCEL, ERROR   -> Input
//!                              messages: ZMTP 3.0 subscriptions, the application's
//! wire <-  mechanism.encode <- poll_command(): PONG, PING     encode(): the application's, subscriptions
//! ```
//!
//! What the engine owes the session:
//! * Send everything `poll_command` gives before anything that `encode` gives: READY must be first, and ciphers count.
//! * Send what `encode` and `poll_command` give in the order in which they gave it.
//! * After an error, send what `poll_command` still gives (at most one ERROR), then close the link.
//! * Read what has arrived, and ask for a `reprieve`, before `handle_timeout`, or a process that was stopped takes its
//!   peers for dead.

mod command;
mod fuzz;
mod heartbeat;
mod limits;
mod mechanism;
mod metadata;
mod null;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{
    DownReason, Flags, Frame, Identity, MechanismName, Part, PeerInfo, SessionKind, Violation,
};

use crate::socket_type::SocketType;

pub use command::Command;
#[doc(hidden)]
pub use fuzz::fuzz_session;
pub use heartbeat::Heartbeat;
pub use mechanism::{Admission, AdmissionRequest, Mechanism, MechanismFactory};
pub use null::Null;

use heartbeat::Pulse;
pub(crate) use limits::TOPIC_MAX;
use limits::{HANDSHAKE_COMMAND_MAX, HANDSHAKE_COMMANDS_MAX, IGNORED_MAX, IGNORED_WINDOW};

/// How a link ends when one side will not have the other: an ERROR came from the peer, or admission was refused.
/// (The seam has no word of its own for it; [`Session::refusal`] has the peer's.)
pub(crate) const REFUSED: Violation = Violation::Refused;

/// The socket at the other end of a link.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its type.
    pub socket_type: SocketType,
    /// Its routing id; empty when it announced none.
    pub routing_id: Frame,
    /// Its address, what admission added, and its other properties in the order and spelling in which it announced them.
    pub metadata: Vec<(String, Vec<u8>)>,
}

/// What all sessions of a socket share.
#[derive(Debug, Clone)]
pub(crate) struct SessionConfig {
    pub(crate) socket_type: SocketType,
    /// Announced to peers of REQ, DEALER and ROUTER sockets; at most 255 bytes, and no zero in front.
    pub(crate) routing_id: Frame,
    pub(crate) mechanism: Arc<dyn MechanismFactory>,
    pub(crate) heartbeat: Heartbeat,
    /// From Up to ready; zero for no limit.
    pub(crate) handshake_timeout: Duration,
}

/// What a part that arrived comes to.
#[derive(Debug)]
pub(crate) enum Input {
    /// Nothing for the engine to do, beyond `poll_command`.
    Nothing,
    /// The handshake is over: [`Session::peer`] is known, data may flow.
    Ready,
    /// For the application.
    Deliver(Part),
    /// The peer subscribes to a topic.
    Subscribe(Frame),
    /// The peer cancels a subscription.
    Cancel(Frame),
}

/// What is spoken on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// ZMTP 3 of this minor version.
    Zmtp { minor: u8 },
    /// ZMTP 1.0 or 2.0: no commands, subscriptions are messages.
    Legacy,
    /// Subscriptions as the pipes carry them, no other commands.
    InProcess,
    /// One way only: no commands at all.
    OneWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Ready,
    Failed(Violation),
}

/// The session of one link. See the module's text for the order of calls.
#[derive(Debug)]
pub(crate) struct Session {
    config: Arc<SessionConfig>,
    dialect: Dialect,
    state: State,
    /// `None` once it has nothing more to do.
    mechanism: Option<Box<dyn Mechanism>>,
    /// Whether parts need no mechanism; `false` until ready.
    plain: bool,
    /// Whether data parts need no session at all; `false` until ready.
    passes_data: bool,
    /// Whether the first part of a message has arrived and the last has not.
    inside_message: bool,
    /// The mechanism waits for `admit`.
    asking: bool,
    /// Known from the peer's metadata on, official once ready.
    peer: Option<Peer>,
    /// Properties that admission adds to the peer's own.
    granted: Vec<(String, Vec<u8>)>,
    handshake_until: Option<Instant>,
    handshake_commands: u32,
    pulse: Pulse,
    ignored: Option<(Instant, u32)>,
    /// The ERROR to send after a failure.
    last_word: Option<Part>,
    /// The reason in the peer's ERROR.
    refusal: Option<Box<[u8]>>,
}

impl Session {
    /// Begins the session of a link that came up. Where no handshake is due ([`SessionKind::InProcess`],
    /// [`SessionKind::None`], peers of ZMTP 1.0 and 2.0) it is ready at once, and no [`Input::Ready`] follows.
    ///
    /// # Errors
    /// [`Violation::MechanismMismatch`] (section "Authentication and Confidentiality": the connection must be closed;
    /// a peer of ZMTP 1.0 or 2.0 counts as NULL), [`Violation::IncompatibleSocket`] where the type is known already and
    /// is not in-process.
    pub(crate) fn new(
        config: Arc<SessionConfig>,
        kind: SessionKind,
        peer: &PeerInfo,
        now: Instant,
    ) -> Result<Self, Violation> {
        let (dialect, known) = match (kind, &peer.identity) {
            (SessionKind::Zmtp, None) => (Dialect::Zmtp { minor: peer.hello.minor }, None),
            (SessionKind::Zmtp, Some(identity)) => {
                if config.mechanism.name() != MechanismName::NULL {
                    return Err(Violation::MechanismMismatch);
                }
                (Dialect::Legacy, Some(introduced(&config, identity)?))
            }
            // As in libzmq, any two socket types may be joined in-process: a PAIR may feed a PULL.
            (SessionKind::InProcess, Some(identity)) => (Dialect::InProcess, Some(peer_of(identity)?)),
            (SessionKind::InProcess, None) => return Err(Violation::IncompatibleSocket),
            (SessionKind::None, Some(identity)) => (Dialect::OneWay, Some(introduced(&config, identity)?)),
            (SessionKind::None, None) => (
                // Nobody says who is there; only the counterpart of our own type can be.
                Dialect::OneWay,
                Some(Peer {
                    socket_type: counterpart(config.socket_type),
                    routing_id: Frame::EMPTY,
                    metadata: Vec::new(),
                }),
            ),
        };
        let mut mechanism = None;
        if known.is_none() {
            if peer.hello.mechanism != config.mechanism.name() {
                return Err(Violation::MechanismMismatch);
            }
            let ours = metadata::write(config.socket_type, &config.routing_id);
            mechanism = Some(config.mechanism.start(ours, peer)?);
        }
        let timeout = config.handshake_timeout;
        let left = timeout.saturating_sub(peer.hello_took);
        let handshake_until = if timeout.is_zero() { None } else { now.checked_add(left) };
        let mut session = Self {
            pulse: Pulse::new(config.heartbeat),
            config,
            dialect,
            state: State::Handshake,
            mechanism,
            plain: false,
            passes_data: false,
            inside_message: false,
            asking: false,
            peer: known,
            granted: vec![("Peer-Address".into(), peer.address.clone().into_bytes())],
            handshake_until,
            handshake_commands: 0,
            ignored: None,
            last_word: None,
            refusal: None,
        };
        if session.mechanism.is_none() {
            session.become_ready(now);
        }
        Ok(session)
    }

    /// Who is there, once ready. Stays known after an error.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        if self.state == State::Handshake { None } else { self.peer.as_ref() }
    }

    /// The reason in the ERROR that the peer ended the session with; a log's business, except that libzmq sends ZAP's
    /// status code. At most 255 bytes of any kind.
    #[cfg(test)]
    pub(crate) fn refusal(&self) -> Option<&[u8]> {
        self.refusal.as_deref()
    }

    /// A part arrived.
    ///
    /// # Errors
    /// The peer loses its link, and every later call says so again. [`Violation::BadFrame`]: data before the end of
    /// the handshake, a command with MORE. [`REFUSED`]: the peer sent ERROR.
    pub(crate) fn handle_part(&mut self, part: Part, now: Instant) -> Result<Input, Violation> {
        let outcome = match self.state {
            State::Ready => self.handle_traffic(part, now),
            State::Handshake => self.handle_handshake(&part, now),
            State::Failed(violation) => return Err(violation),
        };
        outcome.map_err(|violation| self.fail(violation))
    }

    /// Whether message parts that arrive may go to the application without `handle_part`. Commands always need it.
    #[inline]
    pub(crate) fn passes_data(&self) -> bool {
        self.passes_data
    }

    /// Whether the peer is a socket of this process.
    pub(crate) fn is_in_process(&self) -> bool {
        self.dialect == Dialect::InProcess
    }

    /// Traffic arrived that was not shown to `handle_part`. Once per batch is enough.
    #[inline]
    pub(crate) fn heard(&mut self, now: Instant) {
        self.pulse.heard(now);
    }

    /// Whether the link is not being read, because its pipe is full. Until it is read again, the peer's silence is not
    /// held against it.
    pub(crate) fn set_deaf(&mut self, deaf: bool) {
        self.pulse.set_deaf(deaf);
    }

    /// What goes to the wire for a part of the application's, or for a subscription as the pipes carry it. `None` when
    /// that is nothing. Before the session is ready everything is nothing: ask [`Session::peer`] first.
    #[inline]
    pub(crate) fn encode(&mut self, part: Part) -> Option<Part> {
        if self.plain && !part.flags.command() { Some(part) } else { self.encode_slowly(part) }
    }

    fn encode_slowly(&mut self, part: Part) -> Option<Part> {
        if self.state != State::Ready {
            return None;
        }
        let part = if part.flags.command() { self.encode_subscription(part)? } else { part };
        Some(self.cover(part))
    }

    fn encode_subscription(&self, part: Part) -> Option<Part> {
        let (subscribe, topic) = command::subscription(&part.body)?;
        match self.dialect {
            Dialect::InProcess => Some(part),
            Dialect::OneWay => None,
            // Groups have commands in every version that has groups (RFC 48).
            Dialect::Zmtp { .. } if self.config.socket_type == SocketType::Dish => {
                let name = if subscribe { "JOIN" } else { "LEAVE" };
                Some(Part::command(Command::write(name, &[topic])))
            }
            // RFC 23 has the message form; so has libzmq before 4.3.3, whatever it is asked.
            Dialect::Legacy | Dialect::Zmtp { minor: 0 } => Some(Part::last(part.body)),
            Dialect::Zmtp { .. } => {
                let name = if subscribe { "SUBSCRIBE" } else { "CANCEL" };
                Some(Part::command(Command::write(name, &[topic])))
            }
        }
    }

    /// The mechanism's coat.
    fn cover(&mut self, part: Part) -> Part {
        match &mut self.mechanism {
            Some(mechanism) if !self.plain => mechanism.encode(part),
            _ => part,
        }
    }

    /// What to send next on the session's own account, ready for the wire.
    pub(crate) fn poll_command(&mut self) -> Option<Part> {
        if let State::Failed(_) = self.state {
            return self.last_word.take();
        }
        if let Some(mechanism) = &mut self.mechanism {
            if let Some(command) = mechanism.poll_command() {
                return Some(Part::command(command));
            }
            if self.plain {
                self.mechanism = None;
            }
        }
        if self.state != State::Ready {
            return None;
        }
        let part = self.pulse.poll_command()?;
        Some(self.cover(part))
    }

    /// A question to put to the application; [`Session::admit`] takes the answer. The handshake timeout goes on.
    pub(crate) fn poll_admission(&mut self) -> Option<AdmissionRequest> {
        if self.state != State::Handshake {
            return None;
        }
        let request = self.mechanism.as_mut()?.poll_admission()?;
        self.asking = true;
        Some(request)
    }

    /// The answer to [`Session::poll_admission`]. One that nobody waits for does nothing.
    ///
    /// # Errors
    /// [`REFUSED`] when the answer was no. The peer is told the status code in an ERROR, except for a temporary one
    /// (300): to that it reconnects (section "Error Handling"), as with libzmq.
    pub(crate) fn admit(&mut self, verdict: Admission, now: Instant) -> Result<Input, Violation> {
        match self.state {
            State::Failed(violation) => return Err(violation),
            State::Handshake if self.asking => self.asking = false,
            _ => return Ok(Input::Nothing),
        }
        match verdict {
            Admission::Refused { status } => {
                if status != 300 {
                    self.last_word = Some(command::error(&format!("{status:03}")));
                }
                Err(self.fail(REFUSED))
            }
            Admission::Granted { user_id, metadata } => {
                if !user_id.is_empty() {
                    self.granted.push(("User-Id".into(), user_id));
                }
                self.granted.extend(metadata);
                if let Some(Err(violation)) = self.mechanism.as_mut().map(|mechanism| mechanism.admit()) {
                    return Err(self.fail(violation));
                }
                Ok(self.conclude(now))
            }
        }
    }

    /// When `handle_timeout` is due. Every other call may change it; a call that comes too early does nothing.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Handshake => self.handshake_until,
            State::Ready => self.pulse.poll_timeout(),
            State::Failed(_) => None,
        }
    }

    /// Gives a peer whose time has run out a little more, a few times: who asks may be late himself, and has not seen
    /// what arrived since. Handshakes, which are given more time, get none.
    pub(crate) fn reprieve(&mut self, now: Instant) {
        self.pulse.reprieve(now);
    }

    /// Does what is due: the next PING is for `poll_command`.
    ///
    /// # Errors
    /// [`DownReason::TimedOut`]: no handshake in time, or no sign of life.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DownReason> {
        match self.state {
            State::Handshake if self.handshake_until.is_some_and(|until| until <= now) => {
                Err(DownReason::TimedOut)
            }
            State::Ready if !self.pulse.handle_timeout(now) => Err(DownReason::TimedOut),
            State::Failed(violation) => Err(violation.into()),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, violation: Violation) -> Violation {
        if self.state == State::Handshake {
            // It said who it is and was not let in: it was never there.
            self.peer = None;
        }
        self.state = State::Failed(violation);
        self.mechanism = None;
        self.plain = false;
        self.passes_data = false;
        violation
    }

    // -----------------------------------------------------------------------------------------------------------
    // Handshake

    fn handle_handshake(&mut self, part: &Part, now: Instant) -> Result<Input, Violation> {
        if !part.flags.command() || part.flags.more() {
            return Err(Violation::BadFrame);
        }
        if part.body.len() > HANDSHAKE_COMMAND_MAX {
            return Err(Violation::TooLarge);
        }
        self.handshake_commands += 1;
        if self.handshake_commands > HANDSHAKE_COMMANDS_MAX {
            return Err(Violation::CommandFlood);
        }
        let command = Command::read(&part.body)?;
        if command.name == b"ERROR" {
            return self.handle_error(command.data);
        }
        let Some(mechanism) = &mut self.mechanism else {
            return Err(Violation::UnexpectedCommand);
        };
        if let Some(metadata) = mechanism.handle_command(&command)? {
            self.handle_metadata(&metadata)?;
        }
        Ok(self.conclude(now))
    }

    /// The peer says who it is. READY without a type is refused: libzmq would take it for any type, but nothing that
    /// speaks ZMTP 3 leaves it out, and patterns go by it.
    fn handle_metadata(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let properties = metadata::read(bytes)?;
        let socket_type = properties.socket_type.and_then(SocketType::from_name);
        match socket_type.filter(|&theirs| self.config.socket_type.goes_with(theirs)) {
            Some(socket_type) => {
                let (routing_id, metadata) = (properties.routing_id, properties.others);
                self.peer = Some(Peer { socket_type, routing_id, metadata });
                Ok(())
            }
            None => {
                // Section "The Socket-Type Property": an ERROR, then disconnect. If our READY has not gone out yet it
                // does not go at all; if it has, libzmq ignores the ERROR but finds the mismatch itself.
                self.last_word = Some(command::error("Invalid socket type"));
                Err(Violation::IncompatibleSocket)
            }
        }
    }

    fn handle_error(&mut self, data: &[u8]) -> Result<Input, Violation> {
        self.refusal = Some(command::error_reason(data)?.into());
        Err(REFUSED)
    }

    /// Ready, if nothing is missing any more.
    fn conclude(&mut self, now: Instant) -> Input {
        let Some(mechanism) = &self.mechanism else {
            return Input::Nothing;
        };
        if self.asking || !mechanism.ready() || self.peer.is_none() {
            return Input::Nothing;
        }
        self.become_ready(now);
        Input::Ready
    }

    fn become_ready(&mut self, now: Instant) {
        self.state = State::Ready;
        self.plain = self.mechanism.as_ref().is_none_or(|mechanism| mechanism.passes_data());
        self.passes_data = self.plain && !self.reads_subscriptions();
        if let Some(peer) = &mut self.peer {
            // In front: what is known here counts, whatever the peer says of itself.
            peer.metadata.splice(0..0, self.granted.drain(..));
        }
        if let Dialect::Zmtp { .. } = self.dialect {
            self.pulse.start(now);
        }
    }

    // -----------------------------------------------------------------------------------------------------------
    // Traffic

    fn reads_subscriptions(&self) -> bool {
        matches!(self.config.socket_type, SocketType::Pub | SocketType::Xpub | SocketType::Radio)
    }

    fn handle_traffic(&mut self, part: Part, now: Instant) -> Result<Input, Violation> {
        self.pulse.heard(now);
        let part = match &mut self.mechanism {
            Some(mechanism) if !self.plain => {
                let gap = part.flags.gap();
                let mut part = mechanism.decode(part)?;
                if gap {
                    part.flags = part.flags.with(Flags::GAP);
                }
                part
            }
            _ => part,
        };
        if part.flags.command() { self.handle_command(&part, now) } else { self.handle_message(part) }
    }

    fn handle_command(&mut self, part: &Part, now: Instant) -> Result<Input, Violation> {
        if part.flags.more() {
            return Err(Violation::BadFrame);
        }
        match self.dialect {
            Dialect::Zmtp { .. } => {}
            Dialect::InProcess => {
                return match command::subscription(&part.body) {
                    Some((subscribe, topic)) => self.handle_subscription(subscribe, topic, now),
                    None => Err(Violation::BadCommand),
                };
            }
            Dialect::Legacy | Dialect::OneWay => return Err(Violation::BadFrame),
        }
        let command = Command::read(&part.body)?;
        match command.name {
            b"PING" => self.pulse.handle_ping(command.data, now)?,
            b"PONG" => {
                if !self.pulse.handle_pong(command.data)? {
                    self.ignore(now)?;
                }
            }
            b"SUBSCRIBE" | b"CANCEL" if self.config.socket_type == SocketType::Radio => self.ignore(now)?,
            b"SUBSCRIBE" => return self.handle_subscription(true, command.data, now),
            b"CANCEL" => return self.handle_subscription(false, command.data, now),
            b"JOIN" | b"LEAVE" if self.config.socket_type == SocketType::Radio => {
                return self.handle_subscription(command.name == b"JOIN", command.data, now);
            }
            b"ERROR" => return self.handle_error(command.data),
            b"READY" => return Err(Violation::UnexpectedCommand),
            // Later versions and extensions may say more than we know. libzmq drops it, too.
            _ => self.ignore(now)?,
        }
        Ok(Input::Nothing)
    }

    fn handle_subscription(
        &mut self,
        subscribe: bool,
        topic: &[u8],
        now: Instant,
    ) -> Result<Input, Violation> {
        if !self.reads_subscriptions() {
            self.ignore(now)?;
            return Ok(Input::Nothing);
        }
        if topic.len() > TOPIC_MAX {
            return Err(Violation::TooLarge);
        }
        Ok(if subscribe { Input::Subscribe(topic.into()) } else { Input::Cancel(topic.into()) })
    }

    /// Publishers take messages that begin with 1 or 0 for subscriptions, whatever version the peer announced: some
    /// announce 3.1 and send messages all the same.
    fn handle_message(&mut self, part: Part) -> Result<Input, Violation> {
        let first = !std::mem::replace(&mut self.inside_message, part.flags.more());
        if !self.reads_subscriptions() {
            return Ok(Input::Deliver(part));
        }
        if first
            && self.config.socket_type != SocketType::Radio
            && !part.flags.more()
            && let Some((subscribe, topic)) = command::subscription(&part.body)
        {
            if topic.len() > TOPIC_MAX {
                return Err(Violation::TooLarge);
            }
            return Ok(if subscribe { Input::Subscribe(topic.into()) } else { Input::Cancel(topic.into()) });
        }
        // A PUB never hears its subscribers; an XPUB does.
        let heard = self.config.socket_type == SocketType::Xpub;
        Ok(if heard { Input::Deliver(part) } else { Input::Nothing })
    }

    /// Counts what has no effect, so that nobody keeps us busy with it.
    fn ignore(&mut self, now: Instant) -> Result<(), Violation> {
        let (since, count) = match self.ignored {
            Some((since, count)) if now.saturating_duration_since(since) < IGNORED_WINDOW => (since, count),
            _ => (now, 0),
        };
        if count == IGNORED_MAX {
            return Err(Violation::CommandFlood);
        }
        self.ignored = Some((since, count + 1));
        Ok(())
    }
}

/// A peer that the transport has introduced, if it goes with us.
fn introduced(config: &SessionConfig, identity: &Identity) -> Result<Peer, Violation> {
    if identity.socket_type.is_empty() {
        // ZMTP 1.0 says no type; only the counterpart of our own can be of use.
        let (socket_type, routing_id) = (counterpart(config.socket_type), identity.routing_id.clone());
        return Ok(Peer { socket_type, routing_id, metadata: Vec::new() });
    }
    let peer = peer_of(identity)?;
    if config.socket_type.goes_with(peer.socket_type) { Ok(peer) } else { Err(Violation::IncompatibleSocket) }
}

/// A peer that the transport has introduced.
fn peer_of(identity: &Identity) -> Result<Peer, Violation> {
    let socket_type =
        SocketType::from_name(identity.socket_type.as_bytes()).ok_or(Violation::IncompatibleSocket)?;
    Ok(Peer { socket_type, routing_id: identity.routing_id.clone(), metadata: Vec::new() })
}

/// The type that a socket talks to by default.
fn counterpart(ours: SocketType) -> SocketType {
    match ours {
        SocketType::Pair => SocketType::Pair,
        SocketType::Pub | SocketType::Xpub => SocketType::Sub,
        SocketType::Sub | SocketType::Xsub => SocketType::Pub,
        SocketType::Req => SocketType::Rep,
        SocketType::Rep => SocketType::Req,
        SocketType::Dealer => SocketType::Router,
        SocketType::Router => SocketType::Dealer,
        SocketType::Pull => SocketType::Push,
        SocketType::Push => SocketType::Pull,
        SocketType::Client => SocketType::Server,
        SocketType::Server => SocketType::Client,
        SocketType::Radio => SocketType::Dish,
        SocketType::Dish => SocketType::Radio,
        SocketType::Gather => SocketType::Scatter,
        SocketType::Scatter => SocketType::Gather,
        SocketType::Peer => SocketType::Peer,
        SocketType::Channel => SocketType::Channel,
        SocketType::Stream => SocketType::Stream,
    }
}
