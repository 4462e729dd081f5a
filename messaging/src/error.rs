//! What socket calls can fail with. Every text says what happened and what to do.

use transport_core::OpenError;

use crate::message::Message;
use crate::socket_type::SocketType;

/// Why a socket call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call would have to wait longer than it may (EAGAIN).
    #[error("nothing to do within the time allowed; wait longer, or poll first")]
    Again,
    /// The context belongs to the parent of this process (EINVAL).
    #[error("this context was made before fork(); make a new Context in the child")]
    Forked,
    /// A signal arrived while waiting (EINTR).
    #[error("interrupted by a signal; call again")]
    Interrupted,
    /// An argument is out of range (EINVAL).
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// A ROUTER message needs a routing id part in front of its body, a SERVER's a routing id (EINVAL).
    #[error(
        "the message is to nobody: on a ROUTER a first part holds the peer's routing id, on a SERVER or PEER Message::to \
         names it"
    )]
    NoRoutingId,
    /// A RADIO message is not a group and a body (EINVAL).
    #[error("a message on a RADIO has two parts, a group of at most 255 bytes and a body")]
    NoGroup,
    /// Several parts on a socket whose messages have one (EINVAL).
    #[error("a message on a {0} socket has one part; use DEALER, ROUTER, PUSH, PULL or PAIR for several")]
    Parts(SocketType),
    /// `unbind` or `disconnect` of something that is not bound or connected (ENOENT).
    #[error("no such endpoint: {0} is not bound or connected on this socket")]
    NoSuchEndpoint(Box<str>),
    /// The socket type never does this (ENOTSUP).
    #[error("a {0} socket does not {1}")]
    NotSupported(SocketType, &'static str),
    /// bind or connect failed.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// REQ and REP send and receive in turn (EFSM).
    #[error("out of turn: a REQ sends before it receives, a REP receives before it sends")]
    OutOfTurn,
    /// The context was terminated or the socket closed (ETERM).
    #[error("the context is terminated or the socket is closed")]
    Terminated,
    /// The system refuses: memory, file descriptors.
    #[error("the system refuses: {0} (errno {1})")]
    System(&'static str, i32),
    /// No peer has that routing id and ROUTER_MANDATORY is set (EHOSTUNREACH).
    #[error(
        "no peer has that routing id; wait until it has connected, or clear router_mandatory to drop such messages"
    )]
    Unroutable,
}

/// A message that was not sent, and why. The message comes back unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not sent: {error}")]
pub struct SendError {
    /// Why.
    pub error: Error,
    /// The message.
    pub message: Box<Message>,
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}

impl From<SendError> for Error {
    fn from(not_sent: SendError) -> Self {
        not_sent.error
    }
}
