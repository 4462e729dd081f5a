//! Packets into bytes: any packet into a caller's buffer, and the header of data in place. Allocates nothing.

use std::net::IpAddr;

use super::options::{self, OPTION_HEADER, Opt, Options};
use super::{
    AFI_IPV4, AFI_IPV6, Body, DATA_HEADER_LEN, HEADER_LEN, Kind, Nak, OPTIONS_NETWORK, OPTIONS_PRESENT,
    PARITY, Packet, Tsi, VAR_PKTLEN, checksum,
};
use crate::serial::Sqn;

/// The buffer is too short for the packet, or an option too long for its length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet does not fit")]
pub struct NoRoom;

impl Packet<'_> {
    /// Writes the packet to the beginning of `into`, with its checksum, and returns its length.
    pub fn encode(&self, into: &mut [u8]) -> Result<usize, NoRoom> {
        let mut writer = Writer { buffer: into, len: 0 };
        let kind = self.kind();
        let swap = |a: u16, b: u16| if kind.is_upstream() { (b, a) } else { (a, b) };
        let (sport, dport) = swap(self.tsi.port, self.dport);
        writer.u16(sport)?;
        writer.u16(dport)?;
        writer.put(&[kind as u8, self.flags()])?;
        writer.u16(0)?;
        writer.put(&self.tsi.gsi.0)?;
        let tsdu = match self.body {
            Body::Odata(data) | Body::Rdata(data) => data.tsdu,
            _ => &[],
        };
        writer.u16(u16::try_from(tsdu.len()).map_err(|_| NoRoom)?)?;
        match self.body {
            Body::Spm(spm) => {
                [spm.sqn, spm.trail, spm.lead].into_iter().try_for_each(|sqn| writer.u32(sqn.0))?;
                writer.nla(spm.path)?;
            }
            Body::Poll(poll) | Body::Polr(poll) => {
                writer.u32(poll.sqn)?;
                writer.u16(poll.round)?;
                writer.u16(0)?;
                // What end hosts have no use for; none of ours sends one.
                if kind == Kind::Poll {
                    writer.nla(IpAddr::from([0; 4]))?;
                    writer.put(&[0; 12])?;
                }
            }
            Body::Odata(data) | Body::Rdata(data) => {
                writer.u32(data.sqn.0)?;
                writer.u32(data.trail.0)?;
            }
            Body::Nak(Nak { sqn, source, group })
            | Body::Nnak(Nak { sqn, source, group })
            | Body::Ncf(Nak { sqn, source, group }) => {
                writer.u32(sqn.0)?;
                writer.nla(source)?;
                writer.nla(group)?;
            }
            Body::Spmr => {}
            Body::Ack(ack) => {
                writer.u32(ack.rx_max.0)?;
                writer.u32(ack.bitmap)?;
            }
        }
        writer.options(self.options)?;
        writer.put(tsdu)?;
        let len = writer.len;
        let checksum = checksum::of(&into[..len]);
        into[6..8].copy_from_slice(&checksum.to_be_bytes());
        Ok(len)
    }

    fn flags(&self) -> u8 {
        let odata = self.kind() == Kind::Odata;
        let mut flags = 0;
        if !self.options.is_empty() {
            flags |= OPTIONS_PRESENT;
        }
        if self.options.iter().any(|opt| opt.is_network_significant(odata)) {
            flags |= OPTIONS_NETWORK;
        }
        if self.parity {
            flags |= PARITY;
        }
        if self.var_pktlen {
            flags |= VAR_PKTLEN;
        }
        flags
    }
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let end = self.len + bytes.len();
        self.buffer.get_mut(self.len..end).ok_or(NoRoom)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
    fn u16(&mut self, word: u16) -> Result<(), NoRoom> {
        self.put(&word.to_be_bytes())
    }
    fn u32(&mut self, word: u32) -> Result<(), NoRoom> {
        self.put(&word.to_be_bytes())
    }
    /// An address behind its family and 16 bits, which are reserved but in one option.
    fn nla_with(&mut self, nla: IpAddr, reserved: u16) -> Result<(), NoRoom> {
        self.u16(if nla.is_ipv4() { AFI_IPV4 } else { AFI_IPV6 })?;
        self.u16(reserved)?;
        match nla {
            IpAddr::V4(nla) => self.put(&nla.octets()),
            IpAddr::V6(nla) => self.put(&nla.octets()),
        }
    }
    fn nla(&mut self, nla: IpAddr) -> Result<(), NoRoom> {
        self.nla_with(nla, 0)
    }

    fn options(&mut self, options: Options<'_>) -> Result<(), NoRoom> {
        if options.is_empty() {
            return Ok(());
        }
        let start = self.len;
        self.put(&[options::LENGTH, OPTION_HEADER as u8, 0, 0])?;
        let mut last = start;
        for opt in options.iter() {
            last = self.len;
            self.option(opt)?;
            let len = u8::try_from(self.len - last).map_err(|_| NoRoom)?;
            self.buffer[last + 1] = len;
        }
        self.buffer[last] |= options::END;
        let total = u16::try_from(self.len - start).map_err(|_| NoRoom)?;
        self.buffer[start + 2..start + 4].copy_from_slice(&total.to_be_bytes());
        Ok(())
    }

    fn option(&mut self, opt: Opt<'_>) -> Result<(), NoRoom> {
        let specific = match opt {
            Opt::ParityPrm { proactive, on_demand, .. } => u8::from(proactive) | u8::from(on_demand) << 1,
            Opt::Rst { no_naks, code } => u8::from(no_naks) << 6 | (code & 0x3f),
            Opt::Other { specific, .. } => specific,
            _ => 0,
        };
        // The length is filled in when it is known.
        self.put(&[opt.kind(), 0, 0, specific])?;
        match opt {
            Opt::Fragment(fragment) => [fragment.first.0, fragment.offset, fragment.len]
                .into_iter()
                .try_for_each(|word| self.u32(word)),
            Opt::NakList(list) => list.sqns().try_for_each(|sqn| self.u32(sqn.0)),
            Opt::Join(Sqn(word)) | Opt::ParityGrp(word) | Opt::CurrTgsize(word) => self.u32(word),
            Opt::ParityPrm { group_size, .. } => self.u32(group_size),
            Opt::NakBackOff { interval_us: a, poll: b } | Opt::NakBackOffRange { max_us: a, min_us: b } => {
                self.u32(a)?;
                self.u32(b)
            }
            Opt::Syn | Opt::Fin | Opt::Rst { .. } => Ok(()),
            Opt::PgmccData { timestamp_ms, acker } => {
                self.u32(timestamp_ms)?;
                self.nla(acker)
            }
            Opt::PgmccFeedback { timestamp_ms, loss, receiver } => {
                self.u32(timestamp_ms)?;
                self.nla_with(receiver, loss)
            }
            Opt::Other { value, .. } => self.put(value),
        }
    }
}

/// The header of one source's data packets, for packets that are written where they stay: the payload first, at
/// [`DATA_HEADER_LEN`], the header around it when the length is known, and once more for each repair.
#[derive(Debug)]
pub(crate) struct DataHeader([u8; HEADER_LEN]);

impl DataHeader {
    pub(crate) fn new(tsi: Tsi, dport: u16) -> Self {
        let mut header = [0; HEADER_LEN];
        header[0..2].copy_from_slice(&tsi.port.to_be_bytes());
        header[2..4].copy_from_slice(&dport.to_be_bytes());
        header[4] = Kind::Odata as u8;
        header[8..14].copy_from_slice(&tsi.gsi.0);
        Self(header)
    }

    /// Makes `packet` ODATA around the TSDU that it already holds.
    pub(crate) fn write(&self, packet: &mut [u8], sqn: Sqn, trail: Sqn) {
        let tsdu_len = (packet.len() - DATA_HEADER_LEN) as u16;
        packet[..HEADER_LEN].copy_from_slice(&self.0);
        packet[14..16].copy_from_slice(&tsdu_len.to_be_bytes());
        packet[16..20].copy_from_slice(&sqn.0.to_be_bytes());
        packet[20..24].copy_from_slice(&trail.0.to_be_bytes());
        let checksum = checksum::of(packet);
        packet[6..8].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Makes `packet`, which [`DataHeader::write`] has written, RDATA with the trail of now (section 8.2).
    pub(crate) fn make_repair(packet: &mut [u8], trail: Sqn) {
        let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let [t0, t1, t2, t3] = trail.0.to_be_bytes();
        let changes = [(4, [Kind::Rdata as u8, packet[5]]), (20, [t0, t1]), (22, [t2, t3])];
        let mut checksum = word(packet, 6);
        for (at, after) in changes {
            checksum = checksum::updated(checksum, word(packet, at), u16::from_be_bytes(after));
            packet[at..at + 2].copy_from_slice(&after);
        }
        packet[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
}
