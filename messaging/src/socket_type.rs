//! The socket types by their ZMTP names, and which may talk to which. Holds no behaviour.

use std::fmt;

use transport_core::Flow;

/// The kind of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketType {
    /// Exclusive pair.
    Pair,
    /// Publisher.
    Pub,
    /// Subscriber.
    Sub,
    /// Request, in lockstep with REP.
    Req,
    /// Reply, in lockstep with REQ.
    Rep,
    /// Asynchronous REQ.
    Dealer,
    /// Asynchronous REP: addresses each peer by routing id.
    Router,
    /// Receiving end of a pipeline.
    Pull,
    /// Sending end of a pipeline.
    Push,
    /// Publisher that receives its peers' subscriptions, and messages of XSUB peers.
    Xpub,
    /// Subscriber that sends subscriptions as messages, and other messages to its publishers.
    Xsub,
    /// As DEALER, with messages of one part (RFC 41).
    Client,
    /// Numbers its CLIENTs, and says from whom a message is: [`crate::Message::routing_id`] (RFC 41).
    Server,
    /// Publisher to groups: sends messages of two parts, the group and the body (RFC 48).
    Radio,
    /// Receives what is sent to the groups that it joined (RFC 48).
    Dish,
    /// As PULL, with messages of one part (RFC 49).
    Gather,
    /// As PUSH, with messages of one part (RFC 49).
    Scatter,
    /// As SERVER, between equals; [`crate::Socket::connect_peer`] gives the number of who is dialled (RFC 51).
    Peer,
    /// As PAIR, with messages of one part (RFC 52).
    Channel,
    /// Bytes with peers that speak no ZMTP: each message is a connection's name and bytes, over tcp and ipc. A name with an
    /// empty part says that a connection came or went, and sent, ends it (zmq_socket(3), ZMQ_STREAM).
    Stream,
}

impl SocketType {
    /// Every type.
    pub const ALL: [Self; 20] = [
        Self::Pair,
        Self::Pub,
        Self::Sub,
        Self::Req,
        Self::Rep,
        Self::Dealer,
        Self::Router,
        Self::Pull,
        Self::Push,
        Self::Xpub,
        Self::Xsub,
        Self::Client,
        Self::Server,
        Self::Radio,
        Self::Dish,
        Self::Gather,
        Self::Scatter,
        Self::Peer,
        Self::Channel,
        Self::Stream,
    ];

    // The names that libzmq had in 2010, and still knows.
    /// [`SocketType::Dealer`] by its name of 2010.
    pub const XREQ: Self = Self::Dealer;
    /// [`SocketType::Router`] by its name of 2010.
    pub const XREP: Self = Self::Router;
    /// [`SocketType::Pull`] by its name of 2010.
    pub const UPSTREAM: Self = Self::Pull;
    /// [`SocketType::Push`] by its name of 2010.
    pub const DOWNSTREAM: Self = Self::Push;

    /// The name on the wire (ZMTP 3.1 section "The Socket-Type Property").
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pair => "PAIR",
            Self::Pub => "PUB",
            Self::Sub => "SUB",
            Self::Req => "REQ",
            Self::Rep => "REP",
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
            Self::Pull => "PULL",
            Self::Push => "PUSH",
            Self::Xpub => "XPUB",
            Self::Xsub => "XSUB",
            Self::Client => "CLIENT",
            Self::Server => "SERVER",
            Self::Radio => "RADIO",
            Self::Dish => "DISH",
            Self::Gather => "GATHER",
            Self::Scatter => "SCATTER",
            Self::Peer => "PEER",
            Self::Channel => "CHANNEL",
            Self::Stream => "STREAM",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// Whether a socket of this type may talk to `peer` (ZMTP 3.1, the table of valid combinations, and
    /// the RFCs of the later types).
    pub fn goes_with(self, peer: Self) -> bool {
        use SocketType::*;
        match self {
            Pair => matches!(peer, Pair),
            Pub | Xpub => matches!(peer, Sub | Xsub),
            Sub | Xsub => matches!(peer, Pub | Xpub),
            Req => matches!(peer, Rep | Router),
            Rep => matches!(peer, Req | Dealer),
            Dealer => matches!(peer, Rep | Dealer | Router),
            Router => matches!(peer, Req | Dealer | Router),
            Pull => matches!(peer, Push),
            Push => matches!(peer, Pull),
            Client => matches!(peer, Server),
            Server => matches!(peer, Client),
            Radio => matches!(peer, Dish),
            Dish => matches!(peer, Radio),
            Gather => matches!(peer, Scatter),
            Scatter => matches!(peer, Gather),
            Self::Peer => matches!(peer, Self::Peer),
            Channel => matches!(peer, Channel),
            // Of what is at the other end nothing is known.
            Stream => matches!(peer, Stream),
        }
    }

    /// Which way the messages of this type travel, as far as the transport must know: a PUB needs no way back where
    /// the transport has none, a PUSH does.
    pub const fn flow(self) -> Flow {
        match self {
            Self::Pub | Self::Xpub | Self::Radio => Flow::Send,
            Self::Sub | Self::Xsub | Self::Dish => Flow::Recv,
            Self::Stream => Flow::Stream,
            _ => Flow::Duplex,
        }
    }

    /// Whether it tells its peers what it wants to receive.
    pub(crate) const fn subscribes(self) -> bool {
        matches!(self, Self::Sub | Self::Xsub | Self::Dish)
    }

    /// Whether a pipe of this type may keep the newest message alone (zmq_setsockopt(3), ZMQ_CONFLATE).
    pub(crate) const fn conflates(self) -> bool {
        matches!(self, Self::Push | Self::Pull | Self::Pub | Self::Sub | Self::Dealer)
    }

    /// Whether the application ever takes messages from it.
    pub(crate) const fn receives(self) -> bool {
        !matches!(self, Self::Pub | Self::Push | Self::Radio | Self::Scatter)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
