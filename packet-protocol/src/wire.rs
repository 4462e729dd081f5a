//! The bytes of packets and records (docs/spec/packet-protocol.md, sections "Packets" and "Records"). No state.

use transport_core::{Flags, Frame, INLINE_MAX};

use crate::error::PacketError;

/// Bytes of a packet's header.
pub(crate) const HEADER_LEN: usize = 16;

/// Bytes of a record's header.
pub(crate) const RECORD_LEN: usize = 8;

/// Bytes of a record that announces a transfer.
pub(crate) const RENDEZVOUS_LEN: usize = RECORD_LEN + 24;

/// Bytes of a fragment's record without the bytes of the part.
pub(crate) const FRAGMENT_LEN: usize = RECORD_LEN + 8;

const DATA: u8 = 1;
const CONTROL: u8 = 2;

/// The sender has more parts than credit.
pub(crate) const WANT: u8 = 0x01;
/// The sender will send no more data packets, and every transfer of its is finished.
pub(crate) const GOODBYE: u8 = 0x02;
/// The sender has had the other side's goodbye and everything before it.
pub(crate) const GOODBYE_SEEN: u8 = 0x04;

// The bits of ZMTP 3.1 section "Framing", and two of our own.
const MORE: u8 = 0x01;
const COMMAND: u8 = 0x04;
const RENDEZVOUS: u8 = 0x10;
const FRAGMENT: u8 = 0x20;

/// `len` and the padding behind it.
#[inline]
pub(crate) const fn padded(len: usize) -> usize {
    (len + 7) & !7
}

/// What a packet says beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) control: bool,
    pub(crate) flags: u8,
    pub(crate) records: u16,
    pub(crate) granted: u32,
    pub(crate) control_seen: u32,
    pub(crate) fins: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let kind = if self.control { CONTROL } else { DATA };
        let words = [self.granted, self.control_seen, self.fins].map(u32::to_le_bytes);
        let [low, high] = self.records.to_le_bytes();
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&[kind, self.flags, low, high]);
        bytes[4..].copy_from_slice(words.as_flattened());
        bytes
    }

    /// Reads the header in front of a whole packet, and checks what can be checked without state.
    pub(crate) fn decode(packet: &[u8]) -> Result<Self, PacketError> {
        let Some(&[kind, flags, low, high, ref words @ ..]) = packet.first_chunk::<HEADER_LEN>() else {
            return Err(PacketError::Length(packet.len()));
        };
        let (control, known) = match kind {
            DATA => (false, WANT),
            CONTROL => (true, WANT | GOODBYE | GOODBYE_SEEN),
            _ => return Err(PacketError::Type(kind)),
        };
        if flags & !known != 0 {
            return Err(PacketError::Flags(flags));
        }
        if !packet.len().is_multiple_of(8) || (control && packet.len() != HEADER_LEN) {
            return Err(PacketError::Length(packet.len()));
        }
        let records = u16::from_le_bytes([low, high]);
        if control != (records == 0) {
            return Err(PacketError::Records(records));
        }
        let word = |at: usize| u32::from_le_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
        Ok(Self { control, flags, records, granted: word(0), control_seen: word(4), fins: word(8) })
    }
}

/// One record of a packet. Bytes are named by where they begin and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    Eager { flags: Flags, at: usize, len: usize },
    Rendezvous { flags: Flags, len: u64, address: u64, key: u64 },
    Fragment { flags: Flags, total: u64, at: usize, len: usize },
}

/// The flags of a part, from those of a record that was checked.
#[inline]
fn flags_of(flags: u8) -> Flags {
    match flags & (MORE | COMMAND) {
        0 => Flags::LAST,
        MORE => Flags::MORE,
        _ => Flags::COMMAND,
    }
}

#[inline]
fn word_at(packet: &[u8], at: usize) -> Option<u64> {
    packet.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// Reads the record at `at`, and where the next one begins. Whole packets only: what a record claims must be there.
#[inline]
pub(crate) fn parse_record(packet: &[u8], at: usize) -> Result<(Record, usize), PacketError> {
    let Some(word) = word_at(packet, at) else {
        return Err(PacketError::RecordLength(0));
    };
    // A plain part: nothing but length and MORE, which is what a stream is full of.
    let (len, flags) = (word as u32 as usize, (word >> 32) as u8);
    let at = at + RECORD_LEN;
    if len > packet.len() - at || padded(len) > packet.len() - at {
        return Err(PacketError::RecordLength(word as u32));
    }
    let next = at + padded(len);
    if word >> 33 == 0 {
        let flags = if flags == 0 { Flags::LAST } else { Flags::MORE };
        return Ok((Record::Eager { flags, at, len }, next));
    }
    if word >> 40 != 0 {
        return Err(PacketError::Reserved);
    }
    parse_rare(packet, flags, at, len).map(|record| (record, next))
}

fn parse_rare(packet: &[u8], flags: u8, at: usize, len: usize) -> Result<Record, PacketError> {
    let exclusive = |both: u8| flags & both == both;
    if flags & !(MORE | COMMAND | RENDEZVOUS | FRAGMENT) != 0
        || exclusive(MORE | COMMAND)
        || exclusive(RENDEZVOUS | FRAGMENT)
    {
        return Err(PacketError::RecordFlags(flags));
    }
    let part = flags_of(flags);
    let short = PacketError::RecordLength(len as u32);
    let word = |at| word_at(packet, at).ok_or(short);
    match flags & (RENDEZVOUS | FRAGMENT) {
        RENDEZVOUS if len == RENDEZVOUS_LEN - RECORD_LEN => Ok(Record::Rendezvous {
            flags: part,
            len: word(at)?,
            address: word(at + 8)?,
            key: word(at + 16)?,
        }),
        RENDEZVOUS => Err(short),
        FRAGMENT if len > 8 => {
            Ok(Record::Fragment { flags: part, total: word(at)?, at: at + 8, len: len - 8 })
        }
        FRAGMENT => Err(PacketError::Fragment),
        _ => Ok(Record::Eager { flags: part, at, len }),
    }
}

/// The flags of a plain part's record, and its length, if that is what stands at `at`. For the loop that delivers parts
/// of a packet that was checked.
#[inline]
pub(crate) fn plain_record(packet: &[u8], at: usize) -> Option<(Flags, usize)> {
    let word = word_at(packet, at)?;
    let flags = if word >> 32 == 0 { Flags::LAST } else { Flags::MORE };
    (word >> 33 == 0).then_some((flags, word as u32 as usize))
}

/// Writes records behind a header's place. Bytes of frames that are spliced in are not written: they count for
/// `wire`, and the buffer goes on behind them.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    /// Bytes in the buffer.
    pub(crate) at: usize,
    /// Bytes of the packet.
    pub(crate) wire: usize,
    limit: usize,
    pub(crate) records: u16,
    /// Bytes of bodies among them.
    pub(crate) copied: usize,
}

impl<'a> Writer<'a> {
    /// For a packet of at most `limit` bytes, which the buffer must hold.
    pub(crate) fn new(buffer: &'a mut [u8], limit: usize) -> Self {
        let limit = limit.min(buffer.len());
        Self { buffer, at: HEADER_LEN, wire: HEADER_LEN, limit, records: 0, copied: 0 }
    }

    /// Bytes that further records may have.
    #[inline]
    pub(crate) fn space(&self) -> usize {
        if self.records == u16::MAX { 0 } else { self.limit.saturating_sub(self.wire) }
    }

    /// Writes the header and gives up the buffer.
    pub(crate) fn finish(self, header: Header) {
        self.buffer[..HEADER_LEN].copy_from_slice(&header.encode());
    }

    /// Writes the record of an inline body, if there is space.
    #[inline]
    pub(crate) fn short(&mut self, flags: Flags, window: &[u8; INLINE_MAX], len: usize) -> bool {
        let all = RECORD_LEN + padded(len);
        if self.space() < all {
            return false;
        }
        // A copy of constant size is a few instructions; one of variable size is a call. What is too much is
        // overwritten by the next record or not sent. Only the padding is sent, and must not tell what was there.
        let place = self.buffer[self.at..].first_chunk_mut::<{ 2 * RECORD_LEN + INLINE_MAX }>();
        let Some(place) = place.filter(|_| len <= INLINE_MAX) else {
            self.copy(flags, window.get(..len).unwrap_or(window));
            return true;
        };
        place[..RECORD_LEN].copy_from_slice(&head(len, mark(flags)));
        place[RECORD_LEN..RECORD_LEN + INLINE_MAX].copy_from_slice(window);
        place[RECORD_LEN + len..2 * RECORD_LEN + len].copy_from_slice(&[0; 8]);
        self.at += all;
        self.wire += all;
        self.records += 1;
        self.copied += len;
        true
    }

    fn begin(&mut self, flags: u8, len: usize) {
        self.put(&head(len, flags));
        self.records += 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self.wire += bytes.len();
    }

    fn put_body(&mut self, body: &[u8]) {
        self.put(body);
        self.copied += body.len();
    }

    fn pad(&mut self) {
        self.put(&[0; 8][..padded(self.wire) - self.wire]);
    }

    // What follows needs as much space as its record has, which the caller has made sure of.

    pub(crate) fn copy(&mut self, flags: Flags, body: &[u8]) {
        self.begin(mark(flags), body.len());
        self.put_body(body);
        self.pad();
    }

    /// Writes a body's record and hands the body to `splice`, with its place in the buffer; copies it if it comes back. Says
    /// whether it was left out.
    pub(crate) fn splice(
        &mut self,
        flags: Flags,
        body: Frame,
        splice: impl FnOnce(usize, Frame) -> Result<(), Frame>,
    ) -> bool {
        let len = body.len();
        self.begin(mark(flags), len);
        let spliced = splice(self.at, body);
        match &spliced {
            Ok(()) => self.wire += len,
            Err(body) => self.put_body(body),
        }
        self.pad();
        spliced.is_ok()
    }

    pub(crate) fn rendezvous(&mut self, flags: Flags, len: u64, address: u64, key: u64) {
        self.begin(mark(flags) | RENDEZVOUS, RENDEZVOUS_LEN - RECORD_LEN);
        self.put([len, address, key].map(u64::to_le_bytes).as_flattened());
    }

    pub(crate) fn fragment(&mut self, flags: Flags, total: u64, bytes: &[u8]) {
        self.begin(mark(flags) | FRAGMENT, 8 + bytes.len());
        self.put(&total.to_le_bytes());
        self.put_body(bytes);
        self.pad();
    }
}

#[inline]
fn head(len: usize, flags: u8) -> [u8; RECORD_LEN] {
    (len as u64 | u64::from(flags) << 32).to_le_bytes()
}

/// GAP is not for the wire, and a command has no MORE.
#[inline]
fn mark(flags: Flags) -> u8 {
    if flags.command() { COMMAND } else { u8::from(flags.more()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header =
        Header { control: false, flags: 0, records: 0, granted: 5, control_seen: 1, fins: 0x0102 };

    fn window(text: &[u8]) -> [u8; INLINE_MAX] {
        // Behind the body stands what must not get out.
        let mut window = [0xAA; INLINE_MAX];
        window[..text.len()].copy_from_slice(text);
        window
    }

    /// One record of each kind.
    fn example() -> Vec<u8> {
        let mut buffer = vec![0xEE; 512];
        let mut writer = Writer::new(&mut buffer, 512);
        assert!(writer.short(Flags::MORE, &window(b"prices"), 6));
        writer.copy(Flags::LAST, b"EURUSD 1.0871");
        assert!(writer.short(Flags::COMMAND, &window(b"\x04PING\0\0"), 7));
        writer.rendezvous(Flags::LAST, 1 << 20, 0x7F3A_5C00_0040, 0x1C07);
        writer.fragment(Flags::LAST, 9000, b"the first of many");
        let (len, records) = (writer.wire, writer.records);
        writer.finish(Header { records, ..HEADER });
        buffer.truncate(len);
        buffer
    }

    fn dump(bytes: &[u8]) -> String {
        bytes
            .chunks(16)
            .enumerate()
            .map(|(line, row)| {
                let hex: Vec<_> = row
                    .chunks(8)
                    .map(|half| half.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
                    .collect();
                format!("{:04x}  {}\n", line * 16, hex.join("  "))
            })
            .collect()
    }

    #[test]
    fn the_specification_shows_the_bytes_that_are_sent() {
        let specification = include_str!("../../docs/spec/packet-protocol.md");
        let hello = transport_core::Hello {
            minor: 1,
            mechanism: transport_core::MechanismName::new("CURVE"),
            as_server: true,
        };
        let header = Header { control: true, flags: WANT | GOODBYE_SEEN, granted: 7, ..HEADER };
        for bytes in [&example()[..], &crate::Offer::new(hello).encode(), &header.encode()] {
            let dump = dump(bytes);
            assert!(specification.contains(&dump), "docs/spec/packet-protocol.md lacks\n{dump}");
        }
    }

    #[test]
    fn records_survive_and_every_cut_is_an_error() {
        let packet = example();
        assert_eq!(Header::decode(&packet), Ok(Header { records: 5, ..HEADER }));
        let parse = |packet: &[u8]| {
            let (mut at, mut records) = (HEADER_LEN, Vec::new());
            for _ in 0..5 {
                let (record, next) = parse_record(packet, at)?;
                records.push(record);
                at = next;
            }
            Ok::<_, PacketError>((records, at))
        };
        let (records, end) = parse(&packet).unwrap();
        assert_eq!(end, packet.len());
        let Record::Eager { flags: Flags::MORE, at, len: 6 } = records[0] else { panic!("{records:?}") };
        assert_eq!(&packet[at..at + 6], b"prices");
        assert_eq!(packet[at + 6..at + 8], [0, 0], "padding tells nothing");
        assert!(matches!(records[1], Record::Eager { flags: Flags::LAST, len: 13, .. }));
        assert!(matches!(records[2], Record::Eager { flags: Flags::COMMAND, len: 7, .. }));
        let transfer =
            Record::Rendezvous { flags: Flags::LAST, len: 1 << 20, address: 0x7F3A_5C00_0040, key: 0x1C07 };
        assert_eq!(records[3], transfer);
        assert!(matches!(records[4], Record::Fragment { flags: Flags::LAST, total: 9000, len: 17, .. }));
        for cut in 0..packet.len() {
            assert!(parse(&packet[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn every_first_byte_and_flag_is_known_or_an_error() {
        for kind in 0..=u8::MAX {
            for flags in 0..=u8::MAX {
                let mut bytes = HEADER.encode();
                (bytes[0], bytes[1]) = (kind, flags);
                bytes[2] = u8::from(kind == 1);
                let known = match kind {
                    1 => flags <= 1,
                    2 => flags <= 7,
                    _ => false,
                };
                assert_eq!(Header::decode(&bytes).is_ok(), known, "{kind} {flags}");
            }
        }
        for flags in 0..=u8::MAX {
            let mut packet = vec![0; HEADER_LEN + 32];
            packet[HEADER_LEN] = 24;
            packet[HEADER_LEN + 4] = flags;
            let known = [0, 1, 4, 0x10, 0x11, 0x14, 0x20, 0x21, 0x24].contains(&flags);
            assert_eq!(parse_record(&packet, HEADER_LEN).is_ok(), known, "{flags:#x}");
        }
    }

    #[test]
    fn a_short_body_is_written_alike_at_every_place() {
        // With room for a copy of constant size, and at the very end of a packet.
        for len in 0..=INLINE_MAX {
            let body: Vec<_> = (0..len as u8).collect();
            let limit = HEADER_LEN + RECORD_LEN + padded(len);
            let mut written = Vec::new();
            for size in [limit, 512] {
                let mut buffer = vec![0xEE; size];
                let mut writer = Writer::new(&mut buffer, limit);
                assert!(writer.short(Flags::LAST, &window(&body), len));
                assert!(!writer.short(Flags::LAST, &window(b""), 0), "there is no space for more");
                assert_eq!((writer.at, writer.wire), (limit, limit));
                written.push(buffer[HEADER_LEN..limit].to_vec());
            }
            assert_eq!(written[0], written[1]);
            assert!(written[0][RECORD_LEN + len..].iter().all(|&byte| byte == 0));
        }
    }
}
