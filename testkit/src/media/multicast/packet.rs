//! The packets of the multicast medium and their bytes. Not PGM's, but with what makes PGM hard: a 32-bit sequence
//! that wraps, and a byte stream of parts that is cut into packets anywhere.
//!
//! ```text
//! kind u8, source u64, sequence u32, first u16, payload     big-endian
//! ```
//!
//! `first` is where the first message that begins in this packet begins, [`NO_START`] if none does. The payload is
//! a run of `flags u8, length u64, body`.

/// No message begins in this packet.
pub(super) const NO_START: u16 = u16::MAX;
/// Bytes before the payload.
pub(super) const PACKET_HEADER: usize = 15;
/// Bytes before a part's body.
pub(super) const PART_HEADER: usize = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Carries the packet of its sequence number.
    Data,
    /// Says which sequence number comes next, so that a loss at the end is noticed.
    Announce,
    /// The same, and that nothing ever will.
    Fin,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    pub(super) source: u64,
    pub(super) sequence: u32,
    pub(super) first: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PACKET_HEADER + self.payload.len());
        bytes.push(match self.kind {
            Kind::Data => 1,
            Kind::Announce => 2,
            Kind::Fin => 3,
        });
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.first.to_be_bytes());
        bytes.extend(self.payload);
        bytes
    }

    /// `None` for anything that is not such a packet.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = bytes.split_at_checked(PACKET_HEADER)?;
        let kind = match header[0] {
            1 => Kind::Data,
            2 => Kind::Announce,
            3 => Kind::Fin,
            _ => return None,
        };
        let first = u16::from_be_bytes(header[13..15].try_into().ok()?);
        (first == NO_START || usize::from(first) <= payload.len()).then_some(Self {
            kind,
            source: u64::from_be_bytes(header[1..9].try_into().ok()?),
            sequence: u32::from_be_bytes(header[9..13].try_into().ok()?),
            first,
            payload,
        })
    }
}
