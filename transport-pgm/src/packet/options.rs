//! Option extensions (RFC 3208 section 9): TLVs behind a packet's fixed part. Reads and says them; obeys none.

use std::net::IpAddr;

use super::{Malformed, Reader};
use crate::limits::{NAK_LIST_MAX, OPTIONS_MAX};
use crate::serial::Sqn;

// Option types, and the bit on the last one.
pub(super) const LENGTH: u8 = 0x00;
pub(super) const FRAGMENT: u8 = 0x01;
pub(super) const NAK_LIST: u8 = 0x02;
pub(super) const JOIN: u8 = 0x03;
pub(super) const NAK_BO_IVL: u8 = 0x04;
pub(super) const NAK_BO_RNG: u8 = 0x05;
const REDIRECT: u8 = 0x07;
pub(super) const PARITY_PRM: u8 = 0x08;
pub(super) const PARITY_GRP: u8 = 0x09;
pub(super) const CURR_TGSIZE: u8 = 0x0a;
const NBR_UNREACH: u8 = 0x0b;
const PATH_NLA: u8 = 0x0c;
pub(super) const SYN: u8 = 0x0d;
pub(super) const FIN: u8 = 0x0e;
pub(super) const RST: u8 = 0x0f;
const CR: u8 = 0x10;
const CRQST: u8 = 0x11;
pub(super) const PGMCC_DATA: u8 = 0x12;
pub(super) const PGMCC_FEEDBACK: u8 = 0x13;
pub(super) const END: u8 = 0x80;

/// Bytes before an option's value: type, length, reserved bits, bits of its own.
pub(super) const OPTION_HEADER: usize = 4;

/// One option extension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Opt<'a> {
    /// The packet is a piece of a longer APDU (section 9.2).
    Fragment(Fragment),
    /// More numbers of a NAK, NNAK or NCF (section 9.3).
    NakList(NakList<'a>),
    /// The earliest number that one who joins late may ask for (section 9.4).
    Join(Sqn),
    /// The back-off that a source or router wants, and the poll it comes from (section 15.4.1).
    NakBackOff {
        /// In microseconds.
        interval_us: u32,
        /// 0: holds without a poll.
        poll: u32,
    },
    /// Bounds of the back-off (section 15.4.2).
    NakBackOffRange {
        /// In microseconds.
        max_us: u32,
        /// In microseconds.
        min_us: u32,
    },
    /// How the source makes parity (section 11.8.1).
    ParityPrm {
        /// It sends parity unasked.
        proactive: bool,
        /// It sends parity when asked.
        on_demand: bool,
        /// Packets in a transmission group.
        group_size: u32,
    },
    /// Which group of parity packets (section 11.8.2).
    ParityGrp(u32),
    /// How many packets this transmission group really has (section 11.8.3).
    CurrTgsize(u32),
    /// The first packet of a session (section 9.6).
    Syn,
    /// The session ends in good order (section 9.7).
    Fin,
    /// The session is aborted (section 9.8).
    Rst {
        /// NAKs will go unanswered.
        no_naks: bool,
        /// The application's reason, 0 to 63.
        code: u8,
    },
    /// PGMCC, on data: who shall acknowledge.
    PgmccData {
        /// The source's clock in milliseconds.
        timestamp_ms: u32,
        /// The acker.
        acker: IpAddr,
    },
    /// PGMCC, on NAKs and ACKs: a receiver's report.
    PgmccFeedback {
        /// The source's clock as the receiver knows it.
        timestamp_ms: u32,
        /// Loss as a fraction of 65536.
        loss: u16,
        /// The receiver.
        receiver: IpAddr,
    },
    /// One that end hosts have no use for: redirection and reports of routers, and what is unknown. Ignored (section
    /// 9).
    Other {
        /// The type, without OPT_END.
        kind: u8,
        /// The byte before the value.
        specific: u8,
        /// The value.
        value: &'a [u8],
    },
}

/// Where a fragment belongs (section 9.2.4; the length of 12 there is an erratum, 16 is what goes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The packet that holds the APDU's first byte.
    pub first: Sqn,
    /// Of this packet's first byte in the APDU.
    pub offset: u32,
    /// Of the APDU.
    pub len: u32,
}

impl Opt<'_> {
    /// The type's number.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Fragment(_) => FRAGMENT,
            Self::NakList(_) => NAK_LIST,
            Self::Join(_) => JOIN,
            Self::NakBackOff { .. } => NAK_BO_IVL,
            Self::NakBackOffRange { .. } => NAK_BO_RNG,
            Self::ParityPrm { .. } => PARITY_PRM,
            Self::ParityGrp(_) => PARITY_GRP,
            Self::CurrTgsize(_) => CURR_TGSIZE,
            Self::Syn => SYN,
            Self::Fin => FIN,
            Self::Rst { .. } => RST,
            Self::PgmccData { .. } => PGMCC_DATA,
            Self::PgmccFeedback { .. } => PGMCC_FEEDBACK,
            Self::Other { kind, .. } => *kind,
        }
    }
    /// Whether routers must look at it (section 8, bit 1 of the options field). `on_odata`: for OPT_CURR_TGSIZE alone.
    pub(super) const fn is_network_significant(&self, on_odata: bool) -> bool {
        match self.kind() {
            NAK_LIST | NAK_BO_IVL | NAK_BO_RNG | REDIRECT | PARITY_PRM | NBR_UNREACH | PATH_NLA | CR
            | CRQST => true,
            CURR_TGSIZE => !on_odata,
            _ => false,
        }
    }
}

/// Numbers beyond a NAK's first.
#[derive(Debug, Clone, Copy)]
pub enum NakList<'a> {
    /// As they stand in a packet: a whole number of big-endian words.
    Wire(&'a [u8]),
    /// To be sent.
    Sqns(&'a [Sqn]),
}

impl<'a> NakList<'a> {
    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "an empty one goes on no wire")]
    pub const fn len(&self) -> usize {
        match self {
            Self::Wire(words) => words.len() / 4,
            Self::Sqns(sqns) => sqns.len(),
        }
    }
    /// The numbers.
    pub fn sqns(self) -> impl Iterator<Item = Sqn> + use<'a> {
        let (words, sqns): (&[u8], &[Sqn]) = match self {
            Self::Wire(words) => (words, &[]),
            Self::Sqns(sqns) => (&[], sqns),
        };
        let words =
            words.chunks_exact(4).map(|word| Sqn(u32::from_be_bytes([word[0], word[1], word[2], word[3]])));
        words.chain(sqns.iter().copied())
    }
}

impl Default for NakList<'_> {
    fn default() -> Self {
        Self::Sqns(&[])
    }
}

impl PartialEq for NakList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.sqns().eq(other.sqns())
    }
}

/// The options of a packet: those of a parsed one, or a list to be sent. All of a parsed packet's were checked.
#[derive(Debug, Clone, Copy)]
pub enum Options<'a> {
    /// What is behind OPT_LENGTH.
    Wire(&'a [u8]),
    /// To be sent, in this order: network-significant ones first (section 9.1).
    List(&'a [Opt<'a>]),
}

impl<'a> Options<'a> {
    /// None.
    pub const NONE: Self = Self::List(&[]);

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Opt<'a>> + use<'a> {
        let (mut wire, list): (&[u8], &[Opt<'_>]) = match self {
            Self::Wire(wire) => (wire, &[]),
            Self::List(list) => (&[], list),
        };
        // They were checked when the packet was parsed, so nothing is left out here.
        std::iter::from_fn(move || next(&mut wire).ok().flatten().map(|(opt, _)| opt))
            .chain(list.iter().copied())
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::Wire(bytes) => bytes.is_empty(),
            Self::List(list) => list.is_empty(),
        }
    }

    /// The first of a NAK's list.
    pub(super) fn nak_list(self) -> Option<NakList<'a>> {
        self.iter().find_map(|opt| match opt {
            Opt::NakList(list) => Some(list),
            _ => None,
        })
    }

    /// Checks all of them, and leaves `reader` behind them.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        // Section 9.1: OPT_LENGTH comes first, and counts itself.
        let [kind, len, high, low] = reader.array()?;
        let total = usize::from(u16::from_be_bytes([high, low]));
        if kind & !END != LENGTH || usize::from(len) != OPTION_HEADER || total < OPTION_HEADER {
            return Err(Malformed::Options);
        }
        let wire = reader.take(total - OPTION_HEADER)?;
        let mut rest = wire;
        let mut ended = kind & END != 0;
        for _ in 0..OPTIONS_MAX {
            match next(&mut rest)? {
                Some((_, end)) if !ended => ended = end,
                Some(_) => return Err(Malformed::Options),
                None => break,
            }
        }
        // All that was announced is read, and OPT_END stands on the last.
        if rest.is_empty() && ended { Ok(Self::Wire(wire)) } else { Err(Malformed::Options) }
    }
}

impl PartialEq for Options<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// The next option and whether it says that it is the last; `None` at the end.
fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(Opt<'a>, bool)>, Malformed> {
    let Some((&[kind, len, _, specific], _)) = rest.split_first_chunk::<OPTION_HEADER>() else {
        return if rest.is_empty() { Ok(None) } else { Err(Malformed::Options) };
    };
    let (end, kind, len) = (kind & END != 0, kind & !END, usize::from(len));
    let value = rest.get(OPTION_HEADER..len).ok_or(Malformed::Options)?;
    *rest = &rest[len..];
    let mut reader = Reader { rest: value, len };
    let opt = read(kind, specific, &mut reader).map_err(|_| Malformed::OptionLength(kind))?;
    // What is not of ours has a value of any length.
    if !reader.rest.is_empty() {
        return Err(Malformed::OptionLength(kind));
    }
    Ok(Some((opt, end)))
}

fn read<'a>(kind: u8, specific: u8, value: &mut Reader<'a>) -> Result<Opt<'a>, Malformed> {
    Ok(match kind {
        FRAGMENT => Opt::Fragment(Fragment { first: value.sqn()?, offset: value.u32()?, len: value.u32()? }),
        NAK_LIST => {
            let words = value.take(value.rest.len())?;
            if words.is_empty() || words.len() % 4 != 0 || words.len() / 4 > NAK_LIST_MAX {
                return Err(Malformed::OptionLength(kind));
            }
            Opt::NakList(NakList::Wire(words))
        }
        JOIN => Opt::Join(value.sqn()?),
        NAK_BO_IVL => Opt::NakBackOff { interval_us: value.u32()?, poll: value.u32()? },
        NAK_BO_RNG => Opt::NakBackOffRange { max_us: value.u32()?, min_us: value.u32()? },
        PARITY_PRM => Opt::ParityPrm {
            proactive: specific & 0x01 != 0,
            on_demand: specific & 0x02 != 0,
            group_size: value.u32()?,
        },
        PARITY_GRP => Opt::ParityGrp(value.u32()?),
        CURR_TGSIZE => Opt::CurrTgsize(value.u32()?),
        SYN => Opt::Syn,
        FIN => Opt::Fin,
        RST => Opt::Rst { no_naks: specific & 0x40 != 0, code: specific & 0x3f },
        PGMCC_DATA => Opt::PgmccData { timestamp_ms: value.u32()?, acker: value.nla()? },
        PGMCC_FEEDBACK => {
            let (timestamp_ms, afi, loss) = (value.u32()?, value.u16()?, value.u16()?);
            Opt::PgmccFeedback { timestamp_ms, loss, receiver: value.address(afi)? }
        }
        kind => Opt::Other { kind, specific, value: value.take(value.rest.len())? },
    })
}
