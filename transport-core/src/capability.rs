//! What a transport can do, in words that the patterns may ask about. Never a scheme name.

/// What a transport offers for one endpoint and direction. Everything above the seam decides by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether parts may go missing between two links that stay up.
    pub delivery: Delivery,
    /// Which way parts travel on a link of this endpoint.
    pub flow: Flow,
    /// Whether a [`crate::Grant`] slows the sender down. Without it a receiver that is too slow sees a `Gap`.
    pub pushback: bool,
    /// One peer per link, or one sender and many receivers.
    pub topology: Topology,
    /// What the two ends say to each other before and beside the messages.
    pub session: SessionKind,
}

/// Whether parts may go missing while a link stays up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Every part arrives, in order, until Down.
    Reliable,
    /// Parts may be missing; each place where some are is reported by a `Gap`.
    GapReported,
}

/// Which way parts travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Both ways.
    Duplex,
    /// From here to the peers only. With no way back, every peer counts as subscribed to everything.
    Send,
    /// From the peers to here only.
    Recv,
    /// Both ways, as bytes without frames: a part is what one read found, or goes out as it is. For peers that speak no ZMTP.
    Stream,
}

/// How many peers one link stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One.
    Unicast,
    /// One sender and any number of receivers.
    Multicast,
}

/// What speaks on a link besides the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// The ZMTP session: mechanism, READY, heartbeats, subscriptions as commands.
    Zmtp,
    /// Both ends live in this process: no handshake, and the two high-water marks add up.
    InProcess,
    /// Nothing: the link has no way back, or the peer expects none.
    None,
}

/// What a `Gap` lost, in the unit that is known to be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Packets lost on the wire. A packet may hold many messages or a piece of one.
    Packets(u64),
    /// Whole messages that were dropped here for want of grant.
    Messages(u64),
}
