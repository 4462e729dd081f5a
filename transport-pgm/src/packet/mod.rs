//! PGM packets: bytes to meaning and back, for every type that end hosts exchange (RFC 3208 sections 8, 9, 11.8, 13.6
//! and 14.7). No state: what a packet means for a window is not decided here.
//!
//! Parsing borrows and copies nothing. It is as strict as memory safety and sense ask, and no stricter: OpenPGM leaves
//! stack garbage in the reserved byte of its options, so reserved bits are not looked at.

#![forbid(unsafe_code)]

mod checksum;
mod emit;
mod options;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) use emit::DataHeader;
pub use emit::NoRoom;
pub use options::{Fragment, NakList, Opt, Options};

use crate::serial::Sqn;

/// Bytes of the header that all packets have.
pub const HEADER_LEN: usize = 16;
/// Bytes before the TSDU in a data packet without options.
pub const DATA_HEADER_LEN: usize = HEADER_LEN + 8;

/// A global source id: what tells sources on different hosts apart (section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gsi(pub [u8; 6]);

impl fmt::Debug for Gsi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A transport session id: one stream of one source (section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tsi {
    /// Of the source.
    pub gsi: Gsi,
    /// The source's own port, random; not the network's.
    pub port: u16,
}

impl fmt::Debug for Tsi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.gsi, self.port)
    }
}

impl fmt::Display for Tsi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A packet's type (section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 3208's own names")]
pub enum Kind {
    Spm = 0x0,
    Poll = 0x1,
    Polr = 0x2,
    Odata = 0x4,
    Rdata = 0x5,
    Nak = 0x8,
    Nnak = 0x9,
    Ncf = 0xa,
    Spmr = 0xc,
    Ack = 0xd,
}

impl Kind {
    const fn from_wire(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Spm,
            0x1 => Self::Poll,
            0x2 => Self::Polr,
            0x4 => Self::Odata,
            0x5 => Self::Rdata,
            0x8 => Self::Nak,
            0x9 => Self::Nnak,
            0xa => Self::Ncf,
            0xc => Self::Spmr,
            0xd => Self::Ack,
            _ => return None,
        })
    }
    /// Whether it carries a TSDU.
    pub const fn is_data(self) -> bool {
        matches!(self, Self::Odata | Self::Rdata)
    }
    /// Whether receivers send it. Then the port fields are swapped (section 8.3).
    pub const fn is_upstream(self) -> bool {
        matches!(self, Self::Nak | Self::Nnak | Self::Spmr | Self::Ack | Self::Polr)
    }
}

/// One packet. Encoding it again gives the bytes it was parsed from, but for reserved bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packet<'a> {
    /// The session; whichever way the packet goes, `port` is the source's.
    pub tsi: Tsi,
    /// The data-destination port: the application's.
    pub dport: u16,
    /// OPT_PARITY: it carries, asks for or confirms parity (section 11).
    pub parity: bool,
    /// OPT_VAR_PKTLEN: the packets of its group differ in length. Only with `parity`.
    pub var_pktlen: bool,
    /// By type.
    pub body: Body<'a>,
    /// Option extensions.
    pub options: Options<'a>,
}

/// What is behind the header, by type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Body<'a> {
    /// Source path message.
    Spm(Spm),
    /// A router's or source's poll. Parsed as far as it is counted.
    Poll(Poll),
    /// An answer to a poll.
    Polr(Poll),
    /// Original data.
    Odata(Data<'a>),
    /// Repair data.
    Rdata(Data<'a>),
    /// Negative acknowledgement. More numbers may be in [`Opt::NakList`], see [`Packet::sqns`].
    Nak(Nak),
    /// A designated local repairer's null NAK.
    Nnak(Nak),
    /// NAK confirmation.
    Ncf(Nak),
    /// SPM request.
    Spmr,
    /// PGMCC's acknowledgement.
    Ack(Ack),
}

/// A source path message (section 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spm {
    /// Its own number, not of the space of data.
    pub sqn: Sqn,
    /// First number of the transmit window.
    pub trail: Sqn,
    /// Last number of the transmit window; one before `trail` when it is empty.
    pub lead: Sqn,
    /// Where NAKs go: the source, or the last PGM router before the receiver.
    pub path: IpAddr,
}

/// Data (section 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// Which packet.
    pub sqn: Sqn,
    /// First number of the transmit window when this was sent.
    pub trail: Sqn,
    /// The payload.
    pub tsdu: &'a [u8],
}

/// A NAK, NNAK or NCF (section 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nak {
    /// The first number asked for.
    pub sqn: Sqn,
    /// The source of what is missing.
    pub source: IpAddr,
    /// The group it was sent to.
    pub group: IpAddr,
}

/// A POLL or POLR (section 14.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// Its number.
    pub sqn: u32,
    /// The round within it.
    pub round: u16,
}

/// PGMCC's ACK (draft-ietf-rmt-bb-pgmcc-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The latest packet received.
    pub rx_max: Sqn,
    /// Which of the 32 up to it were received; bit 0 is `rx_max`.
    pub bitmap: u32,
}

impl Body<'_> {
    /// The type.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Spm(_) => Kind::Spm,
            Self::Poll(_) => Kind::Poll,
            Self::Polr(_) => Kind::Polr,
            Self::Odata(_) => Kind::Odata,
            Self::Rdata(_) => Kind::Rdata,
            Self::Nak(_) => Kind::Nak,
            Self::Nnak(_) => Kind::Nnak,
            Self::Ncf(_) => Kind::Ncf,
            Self::Spmr => Kind::Spmr,
            Self::Ack(_) => Kind::Ack,
        }
    }
}

/// Why bytes are no PGM packet. Such packets are counted and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Shorter than its type, its options or its TSDU need, or longer than they say.
    #[error("a packet of {0} bytes, which is not what it says")]
    Length(usize),
    /// Not version 0 of PGM.
    #[error("not PGM version 0: type byte {0:#04x}")]
    Version(u8),
    /// A type that RFC 3208 does not know.
    #[error("unknown packet type {0:#03x}")]
    Type(u8),
    /// The sum is wrong: the packet was changed on its way.
    #[error("wrong checksum")]
    Checksum,
    /// A data packet without a checksum, which must have one.
    #[error("a data packet without checksum")]
    NoChecksum,
    /// Neither IPv4 nor IPv6.
    #[error("address family {0}")]
    AddressFamily(u16),
    /// Options that do not fit into each other, too many, or without an end.
    #[error("malformed options")]
    Options,
    /// One option whose length is not its type's.
    #[error("option {0:#04x} of a length it cannot have")]
    OptionLength(u8),
    /// A data packet or SPM whose window cannot be: its trail is beyond its end.
    #[error("an impossible window")]
    Window,
}

impl<'a> Packet<'a> {
    /// Reads one packet, which is all of `bytes`. Looks at the checksum first.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(Malformed::Length(bytes.len()));
        };
        if header[4] & 0xf0 != 0 {
            return Err(Malformed::Version(header[4]));
        }
        let kind = Kind::from_wire(header[4]).ok_or(Malformed::Type(header[4]))?;
        if [header[6], header[7]] == [0, 0] {
            if kind.is_data() {
                return Err(Malformed::NoChecksum);
            }
        } else if !checksum::holds(bytes) {
            return Err(Malformed::Checksum);
        }
        let mut reader = Reader { rest, len: bytes.len() };
        let flags = header[5];
        // Section 8: OPT_VAR_PKTLEN only stands beside OPT_PARITY.
        let (parity, var_pktlen) =
            (flags & PARITY != 0, flags & (PARITY | VAR_PKTLEN) == PARITY | VAR_PKTLEN);
        let mut body = match kind {
            Kind::Spm => {
                let (sqn, trail, lead) = (reader.sqn()?, reader.sqn()?, reader.sqn()?);
                Body::Spm(Spm { sqn, trail, lead, path: reader.nla()? })
            }
            Kind::Poll => {
                let poll = reader.poll()?;
                reader.nla()?;
                reader.take(12)?;
                Body::Poll(poll)
            }
            Kind::Polr => Body::Polr(reader.poll()?),
            Kind::Odata | Kind::Rdata => {
                let data = Data { sqn: reader.sqn()?, trail: reader.sqn()?, tsdu: &[] };
                if kind == Kind::Odata { Body::Odata(data) } else { Body::Rdata(data) }
            }
            Kind::Nak => Body::Nak(reader.nak()?),
            Kind::Nnak => Body::Nnak(reader.nak()?),
            Kind::Ncf => Body::Ncf(reader.nak()?),
            Kind::Spmr => Body::Spmr,
            Kind::Ack => Body::Ack(Ack { rx_max: reader.sqn()?, bitmap: reader.u32()? }),
        };
        let options = if flags & OPTIONS_PRESENT != 0 { Options::read(&mut reader)? } else { Options::NONE };
        match &mut body {
            Body::Odata(data) | Body::Rdata(data) => {
                if reader.rest.len() != usize::from(u16::from_be_bytes([header[14], header[15]])) {
                    return Err(Malformed::Length(bytes.len()));
                }
                data.tsdu = reader.rest;
                // A parity packet's number names a group, which may begin before the trail.
                if !parity && data.sqn.before(data.trail) {
                    return Err(Malformed::Window);
                }
            }
            // An empty window's lead is one before its trail; 0 and 2^31 say that there is none (section 8.1).
            Body::Spm(spm) if spm.has_window() && spm.lead.next().before(spm.trail) => {
                return Err(Malformed::Window);
            }
            _ => {}
        }
        let (sport, dport) =
            (u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]]));
        let (port, dport) = if kind.is_upstream() { (dport, sport) } else { (sport, dport) };
        let gsi = Gsi([header[8], header[9], header[10], header[11], header[12], header[13]]);
        Ok(Self { tsi: Tsi { gsi, port }, dport, parity, var_pktlen, body, options })
    }

    /// The type.
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// All numbers that a NAK, NNAK or NCF names, as they stand; of other packets none.
    pub fn sqns(&self) -> impl Iterator<Item = Sqn> + use<'a> {
        let first = match self.body {
            Body::Nak(nak) | Body::Nnak(nak) | Body::Ncf(nak) => Some(nak.sqn),
            _ => None,
        };
        let list = first.and_then(|_| self.options.nak_list()).unwrap_or_default();
        first.into_iter().chain(list.sqns())
    }
}

impl Spm {
    /// Whether it says anything of the window (section 8.1).
    pub fn has_window(&self) -> bool {
        (self.trail, self.lead) != (Sqn(0), Sqn(0x8000_0000))
    }
}

// Bits of the header's options field, which the RFC numbers from the left.
const OPTIONS_PRESENT: u8 = 0x01;
const OPTIONS_NETWORK: u8 = 0x02;
const VAR_PKTLEN: u8 = 0x40;
const PARITY: u8 = 0x80;

// Address family indicators (RFC 1700).
const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;

/// What has not been read of a packet. Runs out, never over.
struct Reader<'a> {
    rest: &'a [u8],
    /// Of the whole packet, for errors.
    len: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Length(self.len))?;
        self.rest = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Length(self.len))?;
        self.rest = rest;
        Ok(*taken)
    }
    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }
    fn sqn(&mut self) -> Result<Sqn, Malformed> {
        self.u32().map(Sqn)
    }
    fn address(&mut self, afi: u16) -> Result<IpAddr, Malformed> {
        match afi {
            AFI_IPV4 => self.array().map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into()),
            AFI_IPV6 => self.array().map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into()),
            afi => Err(Malformed::AddressFamily(afi)),
        }
    }
    fn nla(&mut self) -> Result<IpAddr, Malformed> {
        let [afi, _] = [self.u16()?, self.u16()?];
        self.address(afi)
    }
    fn nak(&mut self) -> Result<Nak, Malformed> {
        Ok(Nak { sqn: self.sqn()?, source: self.nla()?, group: self.nla()? })
    }
    fn poll(&mut self) -> Result<Poll, Malformed> {
        let (sqn, round) = (self.u32()?, self.u16()?);
        self.take(2)?;
        Ok(Poll { sqn, round })
    }
}
