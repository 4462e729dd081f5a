//! What a peer can do wrong, in connection data and in packets. Every one of them ends the link; none is a panic.

use transport_core::Violation;

/// A packet that breaks the protocol (docs/spec/packet-protocol.md, section "Errors").
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Too short for a header, not a multiple of 8, longer than agreed, or a control packet with a body.
    #[error("a packet of {0} bytes")]
    Length(usize),
    /// A type that this version does not know.
    #[error("a packet of unknown type {0}")]
    Type(u8),
    /// Flags that this version does not know, or not on this type of packet.
    #[error("packet flags {0:#04x}")]
    Flags(u8),
    /// More or fewer records than the header says, none in a data packet, or some in a control packet.
    #[error("a packet with {0} records by its header, which is not what it holds")]
    Records(u16),
    /// A record that does not end inside its packet.
    #[error("a record of {0} bytes that its packet does not hold")]
    RecordLength(u32),
    /// Record flags that this version does not know, or that exclude each other.
    #[error("record flags {0:#04x}")]
    RecordFlags(u8),
    /// The reserved bytes of a record are not zero.
    #[error("reserved bytes of a record are set")]
    Reserved,
    /// A data packet without credit for it.
    #[error("a data packet without credit")]
    NoCredit,
    /// More control packets than may be unacknowledged.
    #[error("a control packet without credit")]
    NoControlCredit,
    /// The credit counter went back, or leaps.
    #[error("a credit counter that leaps by {0}")]
    Granted(u32),
    /// More control packets acknowledged than were sent.
    #[error("{0} control packets acknowledged that were never sent")]
    ControlSeen(u32),
    /// More transfers finished than were announced.
    #[error("{0} transfers finished that were never announced")]
    Fins(u32),
    /// A part beyond the maximum size, or a command beyond its own.
    #[error("a part of {0} bytes, which is more than we take")]
    TooLarge(u64),
    /// A transfer of no bytes, or beyond the end of the address space, or where no rendezvous was agreed.
    #[error("a transfer of {0} bytes that cannot be")]
    Transfer(u64),
    /// More transfers announced and not finished than was agreed.
    #[error("too many transfers at once")]
    Transfers,
    /// A fragment that is empty, or does not go with the one before, or something else where one was due.
    #[error("fragments that do not make a part")]
    Fragment,
    /// A data packet after the peer's goodbye, a second goodbye, one with something left undone, or an answer to none.
    #[error("a goodbye out of turn")]
    Goodbye,
}

impl From<PacketError> for Violation {
    fn from(error: PacketError) -> Self {
        match error {
            PacketError::TooLarge(_) => Self::TooLarge,
            _ => Self::BadFrame,
        }
    }
}
