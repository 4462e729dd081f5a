//! The errors of the seam: why an endpoint did not open, why a link went down, what a peer did wrong.

use crate::endpoint::{Endpoint, EndpointError};

/// Why `bind` or `connect` did not come about. Every text names the URL, the cause and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is taken.
    #[error("cannot bind {0}: the address is in use; choose another one or `*`, or stop whoever holds it")]
    AddressInUse(Endpoint),
    /// The address belongs to no interface of this host.
    #[error(
        "cannot bind {0}: no interface of this host has that address; bind `*` or an address that `ip addr` lists"
    )]
    AddressNotAvailable(Endpoint),
    /// The transport cannot read the address.
    #[error("{endpoint} is not a valid address: {expected}")]
    BadAddress {
        /// What was given.
        endpoint: Endpoint,
        /// What the transport would accept.
        expected: String,
    },
    /// The string is no endpoint URL at all.
    #[error(transparent)]
    BadEndpoint(#[from] EndpointError),
    /// The transport cannot carry this pattern, or lacks what the socket's options demand.
    #[error("{endpoint} cannot carry this socket: {why}")]
    Incompatible {
        /// What was given.
        endpoint: Endpoint,
        /// Which capability is missing.
        why: String,
    },
    /// Nobody listens there, or the network says no.
    #[error("cannot reach {endpoint}: {why}{}", remedy(why, *errno))]
    Unreachable {
        /// What was dialled.
        endpoint: Endpoint,
        /// The system's own words.
        why: String,
        /// The errno behind it, or 0.
        errno: i32,
    },
    /// The host refuses for another reason: permission, memory, file descriptors.
    #[error("cannot open {endpoint}: {why}")]
    System {
        /// What was given.
        endpoint: Endpoint,
        /// The system's own words and the remedy.
        why: String,
        /// The errno behind it, or 0.
        errno: i32,
    },
    /// The transport cannot run on this host at all. Drivers say so; an engine says it of the endpoint, as `System`.
    #[error("{scheme}:// cannot run on this host: {why}")]
    Unavailable {
        /// Of the transport.
        scheme: &'static str,
        /// What is missing and the remedy.
        why: String,
        /// The errno behind it, or 0.
        errno: i32,
    },
    /// No transport of this build has the scheme.
    #[error("{endpoint}: this build has no transport for that scheme; it has {known}")]
    UnknownScheme {
        /// What was given.
        endpoint: Endpoint,
        /// The schemes there are.
        known: String,
    },
}

/// What to do about a peer that cannot be reached, unless the reason says so already.
fn remedy(why: &str, errno: i32) -> &'static str {
    use std::io::ErrorKind;
    if why.contains("; ") {
        return "";
    }
    match std::io::Error::from_raw_os_error(errno).kind() {
        ErrorKind::ConnectionRefused => "; start the peer, or check the port",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "; check the address, and the route with `ip route get`"
        }
        ErrorKind::TimedOut => "; check the address, and that no firewall drops the packets",
        ErrorKind::ConnectionReset => "; check that a peer of the same protocol listens there",
        _ => "",
    }
}

/// What a peer did that costs it its link. Never our own bug, and never a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A command that breaks the grammar of its protocol.
    #[error("malformed command")]
    BadCommand,
    /// The first bytes are not those of a peer of ours.
    #[error("not a ZMTP peer")]
    BadGreeting,
    /// A frame whose flags or length break the protocol.
    #[error("malformed frame")]
    BadFrame,
    /// More unanswered commands than the limit.
    #[error("flood of commands")]
    CommandFlood,
    /// The peer's socket type does not go with ours.
    #[error("incompatible socket type")]
    IncompatibleSocket,
    /// The peer speaks another security mechanism.
    #[error("mechanism mismatch")]
    MechanismMismatch,
    /// The peer refused us, in an ERROR command.
    #[error("refused by the peer")]
    Refused,
    /// A frame or message beyond the maximum size.
    #[error("message too large")]
    TooLarge,
    /// A command at a time when it is not allowed.
    #[error("unexpected command")]
    UnexpectedCommand,
    /// The peer speaks a version of the protocol that we do not.
    #[error("unsupported protocol version")]
    UnsupportedVersion,
}

/// Why a link went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// We closed it.
    #[error("closed here")]
    ClosedHere,
    /// The peer closed it in good order.
    #[error("closed by the peer")]
    ClosedByPeer,
    /// The device or the connection broke; the number is the errno, or 0.
    #[error("connection broken (errno {0})")]
    Broken(i32),
    /// The peer took too long: handshake, heartbeat or a drain that did not end.
    #[error("timed out")]
    TimedOut,
    /// The peer broke the protocol.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
}
