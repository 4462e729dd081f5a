//! What two sides say when they connect, and what follows from it (docs/spec/packet-protocol.md, section "Connecting").
//! Bytes and arithmetic; no state, no I/O.

use transport_core::{Hello, MechanismName, Violation};

use crate::limits::{
    CONTROL_CREDITS, CONTROL_CREDITS_MIN, DATA_CREDITS, PACKET_LEN, PACKET_LEN_MAX, PACKET_LEN_MIN, READS,
    TRANSFERS, TRANSFERS_MAX,
};

/// Bytes of connection data: what RDMA CM leaves of a request's private data (rdma_connect(3): 56).
pub const CONNECTION_DATA_LEN: usize = 56;

/// Bytes of a refusal's private data.
pub const REFUSAL_LEN: usize = 8;

/// The version of the protocol spoken here.
pub const VERSION: Version = Version { major: 1, minor: 0 };

const MAGIC: [u8; 4] = *b"FBQ1";

/// A version of the protocol. Sides of different majors cannot talk; of two minors the lower one is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes when an old peer would misread a new one.
    pub major: u8,
    /// Changes when an old peer need not notice.
    pub minor: u8,
}

/// Additions that a side knows. Both must, or nobody uses it. Version 1.0 has none; the bits that are set aside stand in
/// the specification, section "Left for later".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u32);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);

    /// As on the wire. Bits that nobody knows are kept: agreeing removes them.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
    /// As on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }
    /// What both know.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What one side offers and asks when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The version it speaks.
    pub version: Version,
    /// The additions it knows.
    pub features: Features,
    /// Bytes of its receive buffers; a multiple of 8.
    pub packet_len: u32,
    /// Data packets that the peer may send to begin with.
    pub data_credits: u16,
    /// Control packets that the peer may have unacknowledged.
    pub control_credits: u8,
    /// READs that it issues and answers at once; 0 where the device has none, and then there is no rendezvous.
    pub reads: u8,
    /// Transfers that may be announced to it and not be finished.
    pub transfers: u16,
    /// ZMTP's first words.
    pub hello: Hello,
}

impl Offer {
    /// The defaults of [`crate::limits`].
    pub const fn new(hello: Hello) -> Self {
        Self {
            version: VERSION,
            features: Features::NONE,
            packet_len: PACKET_LEN as u32,
            data_credits: DATA_CREDITS,
            control_credits: CONTROL_CREDITS,
            reads: READS,
            transfers: TRANSFERS,
            hello,
        }
    }

    /// The bytes that go into connection data.
    pub fn encode(&self) -> [u8; CONNECTION_DATA_LEN] {
        let mut bytes = [0; CONNECTION_DATA_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.version.major;
        bytes[5] = self.version.minor;
        bytes[6] = self.hello.minor;
        bytes[7] = u8::from(self.hello.as_server);
        bytes[8..12].copy_from_slice(&self.features.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.packet_len.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.data_credits.to_le_bytes());
        bytes[18] = self.control_credits;
        bytes[19] = self.reads;
        bytes[20..22].copy_from_slice(&self.transfers.to_le_bytes());
        bytes[36..].copy_from_slice(&self.hello.mechanism.to_wire());
        bytes
    }

    /// Reads a peer's connection data. A connection manager may hand over more bytes than were sent; they are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConnectError> {
        // Magic and version come first, so that a peer of any version can be told why it is refused.
        let (Some(magic), Some(&[major, minor])) = (bytes.first_chunk::<4>(), bytes.get(4..6)) else {
            return Err(ConnectError::NotOurs);
        };
        if *magic != MAGIC {
            return Err(ConnectError::NotOurs);
        }
        let version = Version { major, minor };
        if major != VERSION.major {
            return Err(ConnectError::Version(version));
        }
        let Some(bytes) = bytes.first_chunk::<CONNECTION_DATA_LEN>() else {
            return Err(ConnectError::Malformed("length"));
        };
        let mut mechanism = [0; 20];
        mechanism.copy_from_slice(&bytes[36..]);
        let offer = Self {
            version,
            features: Features(u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]])),
            packet_len: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            data_credits: u16::from_le_bytes([bytes[16], bytes[17]]),
            control_credits: bytes[18],
            reads: bytes[19],
            transfers: u16::from_le_bytes([bytes[20], bytes[21]]),
            hello: Hello {
                minor: bytes[6],
                mechanism: MechanismName::from_wire(mechanism),
                as_server: bytes[7] & 1 != 0,
            },
        };
        offer.check().map(|()| offer)
    }

    /// Whether the numbers are such as the protocol can work with.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let packet_len = self.packet_len as usize;
        if !(PACKET_LEN_MIN..=PACKET_LEN_MAX).contains(&packet_len) || !packet_len.is_multiple_of(8) {
            return Err(ConnectError::Malformed("packet length"));
        }
        if self.data_credits == 0 {
            return Err(ConnectError::Malformed("data credit"));
        }
        if self.control_credits < CONTROL_CREDITS_MIN {
            return Err(ConnectError::Malformed("control credit"));
        }
        if self.transfers > TRANSFERS_MAX {
            return Err(ConnectError::Malformed("transfers"));
        }
        Ok(())
    }
}

/// What a link works by, once both sides have said what they offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The version that is spoken.
    pub version: Version,
    /// The additions that both know.
    pub features: Features,
    /// The longest packet, in bytes, either way.
    pub packet_len: usize,
    /// READs under way at once, either way.
    pub reads: usize,
    /// Transfers announced and not finished, either way.
    pub transfers: usize,
    /// What we may send to begin with, and what the peer may.
    pub data_credits: Ways<u16>,
    /// Control packets that we may have unacknowledged, and that the peer may.
    pub control_credits: Ways<u8>,
    /// What the peer said first.
    pub hello: Hello,
}

/// A number for each direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways<T> {
    /// From here to the peer.
    pub sending: T,
    /// From the peer to here.
    pub receiving: T,
}

impl Terms {
    /// What follows from both offers. Both sides come to the same, mirrored.
    pub fn agree(ours: &Offer, theirs: &Offer) -> Self {
        Self {
            version: ours.version.min(theirs.version),
            features: ours.features.and(theirs.features),
            packet_len: ours.packet_len.min(theirs.packet_len) as usize,
            reads: ours.reads.min(theirs.reads).into(),
            transfers: ours.transfers.min(theirs.transfers).into(),
            data_credits: Ways { sending: theirs.data_credits, receiving: ours.data_credits },
            control_credits: Ways { sending: theirs.control_credits, receiving: ours.control_credits },
            hello: theirs.hello,
        }
    }

    /// Whether parts may go by rendezvous.
    pub(crate) fn rendezvous(&self) -> bool {
        self.reads > 0 && self.transfers > 0
    }
}

/// Why connection data does not make a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Whoever is there speaks something else.
    #[error("not a peer of this protocol")]
    NotOurs,
    /// A version that we do not speak.
    #[error("the peer speaks version {}.{} of the packet protocol and this side {}.{}; use releases that agree",
        .0.major, .0.minor, VERSION.major, VERSION.minor)]
    Version(Version),
    /// A field that the protocol does not allow; says which.
    #[error("the peer's connection data has a {0} that the packet protocol does not allow")]
    Malformed(&'static str),
}

impl From<ConnectError> for Violation {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Version(_) => Self::UnsupportedVersion,
            _ => Self::BadGreeting,
        }
    }
}

/// Why a listener says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalCode {
    /// It does not speak the version.
    Version,
    /// The connection data makes no sense.
    Malformed,
    /// It has no buffers, memory or places for another link.
    NoResources,
    /// A reason that this version does not know.
    Other(u16),
}

/// What a listener that says no puts into its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// The lowest major version it speaks.
    pub major_min: u8,
    /// The highest major version it speaks.
    pub major_max: u8,
}

impl Refusal {
    /// Ours, for a reason.
    pub const fn new(code: RefusalCode) -> Self {
        Self { code, major_min: VERSION.major, major_max: VERSION.major }
    }

    /// Ours, for connection data that was not good.
    pub const fn of(error: ConnectError) -> Self {
        Self::new(match error {
            ConnectError::Version(_) => RefusalCode::Version,
            ConnectError::NotOurs | ConnectError::Malformed(_) => RefusalCode::Malformed,
        })
    }

    /// The bytes that go into the answer.
    pub fn encode(&self) -> [u8; REFUSAL_LEN] {
        let code = match self.code {
            RefusalCode::Version => 1,
            RefusalCode::Malformed => 2,
            RefusalCode::NoResources => 3,
            RefusalCode::Other(code) => code,
        };
        let ([a, b, c, d], [low, high]) = (MAGIC, u16::to_le_bytes(code));
        [a, b, c, d, low, high, self.major_min, self.major_max]
    }

    /// Reads an answer; `None` when it is not from a peer of ours, as when nobody listens.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, d, low, high, major_min, major_max] = bytes.first_chunk::<REFUSAL_LEN>()?;
        if [a, b, c, d] != MAGIC {
            return None;
        }
        let code = match u16::from_le_bytes([low, high]) {
            1 => RefusalCode::Version,
            2 => RefusalCode::Malformed,
            3 => RefusalCode::NoResources,
            code => RefusalCode::Other(code),
        };
        Some(Self { code, major_min, major_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        let hello = Hello { minor: 1, mechanism: MechanismName::new("CURVE"), as_server: true };
        Offer { features: Features::from_bits(0x8000_0001), ..Offer::new(hello) }
    }

    #[test]
    fn offers_survive_and_every_cut_is_an_error() {
        let offer = offer();
        let bytes = offer.encode();
        assert_eq!(Offer::decode(&bytes), Ok(offer));
        let mut longer = bytes.to_vec();
        longer.resize(196, 7);
        assert_eq!(Offer::decode(&longer), Ok(offer), "a connection manager pads");
        for len in 0..bytes.len() {
            assert!(Offer::decode(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let check = |change: fn(&mut Offer)| {
            let mut offer = offer();
            change(&mut offer);
            Offer::decode(&offer.encode()).unwrap_err()
        };
        for len in [0, 504, 516, 65_544, u32::MAX] {
            let bytes = Offer { packet_len: len, ..offer() }.encode();
            assert_eq!(Offer::decode(&bytes), Err(ConnectError::Malformed("packet length")), "{len}");
        }
        assert_eq!(check(|it| it.data_credits = 0), ConnectError::Malformed("data credit"));
        assert_eq!(check(|it| it.control_credits = 2), ConnectError::Malformed("control credit"));
        assert_eq!(check(|it| it.transfers = 1025), ConnectError::Malformed("transfers"));
        let two = Version { major: 2, minor: 7 };
        assert_eq!(Offer::decode(b"FBQ1\x02\x07"), Err(ConnectError::Version(two)), "whatever comes behind");
        assert_eq!(Offer::decode(&[0; 56]), Err(ConnectError::NotOurs));
    }

    #[test]
    fn both_sides_agree_on_the_lesser_of_each() {
        let ours = Offer { packet_len: 4096, reads: 1, data_credits: 5, control_credits: 4, ..offer() };
        let theirs = Offer {
            version: Version { major: 1, minor: 3 },
            features: Features::from_bits(3),
            transfers: 2,
            data_credits: 9,
            ..Offer::new(Hello::NULL)
        };
        let (here, there) = (Terms::agree(&ours, &theirs), Terms::agree(&theirs, &ours));
        assert_eq!((here.packet_len, here.reads, here.transfers), (4096, 1, 2));
        assert_eq!((here.version, here.features.bits()), (VERSION, 1));
        assert_eq!(here.data_credits, Ways { sending: 9, receiving: 5 });
        assert_eq!(here.control_credits, Ways { sending: 3, receiving: 4 });
        assert_eq!((here.hello, there.hello), (Hello::NULL, ours.hello));
        assert_eq!(there.data_credits, Ways { sending: 5, receiving: 9 });
        assert_eq!((there.packet_len, there.reads, there.version), (4096, 1, VERSION));
    }

    #[test]
    fn refusals_survive_and_say_what_would_do() {
        for code in
            [RefusalCode::Version, RefusalCode::Malformed, RefusalCode::NoResources, RefusalCode::Other(9)]
        {
            let refusal = Refusal::new(code);
            assert_eq!(Refusal::decode(&refusal.encode()), Some(refusal));
        }
        let too_new = Offer::decode(b"FBQ1\x07\x00").unwrap_err();
        let refusal = Refusal::of(too_new);
        assert_eq!((refusal.code, refusal.major_min, refusal.major_max), (RefusalCode::Version, 1, 1));
        assert_eq!(Refusal::decode(&[0; 148]), None, "nobody listens");
        assert_eq!(Refusal::decode(b"FBQ1"), None);
    }
}
