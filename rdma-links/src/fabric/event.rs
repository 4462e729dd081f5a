//! What a fabric says: how work ended, and what happened to connections and devices. Plain values.

use std::net::SocketAddr;

use super::{Buffer, ConnectionId, DeviceId, Failure, ListenerId, PrivateData, TargetId};

/// A work request that came back.
#[derive(Debug)]
pub struct Completed {
    /// Whose. May be gone by now.
    pub connection: ConnectionId,
    /// How it ended.
    pub status: Status,
    /// What it was, with what it held.
    pub work: Work,
}

/// A work request's kind, with the memory that comes back.
#[derive(Debug)]
pub enum Work {
    /// An inline send, or a packet whose buffer comes back.
    Send {
        /// Of its [`super::Mark`].
        tag: u32,
        /// `None` for an inline send.
        buffer: Option<Buffer>,
    },
    /// A READ.
    Read {
        /// Of its [`super::Mark`].
        tag: u32,
        /// Where it landed, if it did.
        target: TargetId,
    },
    /// A packet arrived, if the status is [`Status::Success`].
    Receive {
        /// The packet's first `len` bytes are in it.
        buffer: Buffer,
        /// Bytes received; 0 if none.
        len: usize,
    },
}

/// How a work request ended (ibv_poll_cq(3), `enum ibv_wc_status`). Any but `Success` means that its queue pair is in
/// error: `disconnect` it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Status {
    /// It is done.
    #[error("success")]
    Success,
    /// The queue pair was in error before its turn came; it may or may not have reached the peer.
    #[error("flushed, as the queue pair is in error")]
    Flushed,
    /// The device refused to take it; it has not reached the peer.
    #[error("not posted (errno {0})")]
    NotPosted(i32),
    /// A packet was larger than the buffer, or than the device can send.
    #[error("packet larger than its buffer")]
    TooLong,
    /// The buffer's local key is not good here.
    #[error("local protection error")]
    LocalProtection,
    /// The peer refused address and key.
    #[error("remote access error: the peer refused address and key")]
    RemoteAccess,
    /// The peer's queue pair cannot serve the request.
    #[error("the peer's queue pair failed on the request")]
    RemoteFailed,
    /// The peer had no receive buffer posted.
    #[error("receiver not ready")]
    ReceiverNotReady,
    /// The peer does not answer.
    #[error("the peer does not answer")]
    RetriesExceeded,
    /// Another status of the device's, by its number.
    #[error("device error {0}")]
    Other(u32),
}

impl Status {
    /// The errno that tells a user most; 0 for success.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Success => 0,
            Self::NotPosted(errno) => errno,
            Self::Flushed => libc::ECONNRESET,
            Self::TooLong => libc::EMSGSIZE,
            Self::LocalProtection => libc::EFAULT,
            Self::RemoteAccess => libc::EACCES,
            Self::RemoteFailed => libc::EREMOTEIO,
            Self::ReceiverNotReady => libc::ENOBUFS,
            Self::RetriesExceeded => libc::ETIMEDOUT,
            Self::Other(_) => libc::EIO,
        }
    }
}

/// What happened, beside completions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer asks at a listener. Answer by `accept` or `reject`.
    Request {
        /// Where it asks.
        listener: ListenerId,
        /// The connection to be.
        connection: ConnectionId,
        /// The device it came through.
        device: DeviceId,
        /// The peer's address.
        peer: SocketAddr,
        /// What the peer says.
        private: PrivateData,
        /// READs that we may have in flight at most, by the peer's word.
        initiator_depth: u8,
        /// READs that the peer wants to have in flight.
        responder_resources: u8,
    },
    /// A dialled address has a route and a device; next is `create_queue`.
    Resolved {
        /// Which.
        connection: ConnectionId,
        /// The device it goes through.
        device: DeviceId,
    },
    /// The connection stands.
    Established {
        /// Which.
        connection: ConnectionId,
        /// What the listener says; empty on the listener's own side.
        private: PrivateData,
        /// READs that we may have in flight.
        initiator_depth: u8,
    },
    /// Nobody listens, or the listener said no; or a dialler left when it had been accepted. `destroy` it.
    Rejected {
        /// Which.
        connection: ConnectionId,
        /// Who said no.
        rejection: Rejection,
        /// What the listener says: zeros, if it said nothing.
        private: PrivateData,
    },
    /// There is no way to the peer, or it does not answer. `destroy` it.
    Unreachable {
        /// Which.
        connection: ConnectionId,
        /// What failed, and why.
        failure: Failure,
    },
    /// The peer has disconnected, or is gone. `disconnect` it, to have everything back.
    Disconnected {
        /// Which.
        connection: ConnectionId,
        /// What is known of the reason.
        cause: Cause,
    },
    /// Everything that was posted has come back since `disconnect`. `destroy` it.
    Drained {
        /// Which.
        connection: ConnectionId,
    },
    /// A listener can no longer listen: its device is gone. `unlisten` it.
    ListenerLost {
        /// Which.
        listener: ListenerId,
    },
    /// A device is gone. Nothing more may come from it: destroy its connections, then `close_device`.
    DeviceLost {
        /// Which.
        device: DeviceId,
    },
    /// A completion queue of the device overflowed and is lost, with an unknown number of completions. As for
    /// `DeviceLost`.
    CompletionsLost {
        /// Which.
        device: DeviceId,
    },
    /// The shared receive queue ran low.
    SharedReceivesLow {
        /// Which.
        device: DeviceId,
    },
}

/// Who said no to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Nobody listens there.
    NoListener,
    /// The listener's program, in its private data.
    Application,
    /// The connection manager, for a reason of its own (InfiniBand specification, volume 1, table 108).
    Other(i32),
}

/// Why a connection broke, as far as it can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The peer said goodbye, or its host did.
    Peer,
    /// The local address moved to another interface.
    AddressChanged,
    /// The queue pair failed, without a completion that would say why.
    QueueFailed,
}
