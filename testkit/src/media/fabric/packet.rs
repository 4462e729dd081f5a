//! The bytes of the fabric's packets and connection data: a small cousin of the packet protocol of verbs. No state.
//!
//! ```text
//! packet      kind u8, marks u8, records u16, granted u32, control_seen u32, fins u32, records...   little-endian
//! eager       flags u8, length u32, body
//! fragment    flags|0x40 u8, length u32, total u64, bytes of the body
//! rendezvous  flags|0x80 u8, length u64, address u64, remote key u64
//! ```
//!
//! The three counters are cumulative, so any packet may carry them and none need be repeated: data packets the peer
//! may send in all, control packets seen in all, rendezvous read in all (in order).

use transport_core::{Flags, Hello, Violation};

use super::super::kit::{HELLO_BYTES, decode_hello, encode_hello};
use super::super::limits::{CONTROL_BUFFERS, DATA_BUFFERS, EAGER_MAX, PRIVATE_DATA_MAX};
use super::device::PrivateData;

pub(super) const HEADER: usize = 16;
pub(super) const EAGER_RECORD: usize = 5;
pub(super) const FRAGMENT_RECORD: usize = 13;
pub(super) const RENDEZVOUS_RECORD: usize = 25;

const FRAGMENT: u8 = 0x40;
const RENDEZVOUS: u8 = 0x80;

/// What a packet says beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    pub(super) control: bool,
    pub(super) goodbye: bool,
    pub(super) goodbye_seen: bool,
    pub(super) records: u16,
    pub(super) granted: u32,
    pub(super) control_seen: u32,
    pub(super) fins: u32,
}

impl Header {
    pub(super) fn encode(&self, into: &mut [u8]) {
        into[0] = if self.control { 2 } else { 1 };
        into[1] = u8::from(self.goodbye) | u8::from(self.goodbye_seen) << 1;
        into[2..4].copy_from_slice(&self.records.to_le_bytes());
        into[4..8].copy_from_slice(&self.granted.to_le_bytes());
        into[8..12].copy_from_slice(&self.control_seen.to_le_bytes());
        into[12..16].copy_from_slice(&self.fins.to_le_bytes());
    }
    pub(super) fn decode(bytes: &mut &[u8]) -> Result<Self, Violation> {
        let [kind @ 1..=2, marks @ 0..=3] = take(bytes)? else { return Err(Violation::BadFrame) };
        Ok(Self {
            control: kind == 2,
            goodbye: marks & 1 != 0,
            goodbye_seen: marks & 2 != 0,
            records: u16::from_le_bytes(take(bytes)?),
            granted: u32::from_le_bytes(take(bytes)?),
            control_seen: u32::from_le_bytes(take(bytes)?),
            fins: u32::from_le_bytes(take(bytes)?),
        })
    }
}

/// One record of a packet, as it came in.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Eager { flags: Flags, body: &'a [u8] },
    Fragment { flags: Flags, total: u64, bytes: &'a [u8] },
    Rendezvous { flags: Flags, len: u64, address: u64, remote: u64 },
}

impl<'a> Record<'a> {
    pub(super) fn decode(bytes: &mut &'a [u8]) -> Result<Self, Violation> {
        let [mark] = take(bytes)?;
        let flags = match mark & !(FRAGMENT | RENDEZVOUS) {
            0 => Flags::LAST,
            1 => Flags::MORE,
            4 => Flags::COMMAND,
            _ => return Err(Violation::BadFrame),
        };
        Ok(match mark & (FRAGMENT | RENDEZVOUS) {
            0 => {
                let len = u32::from_le_bytes(take(bytes)?) as usize;
                Self::Eager { flags, body: take_slice(bytes, len)? }
            }
            FRAGMENT => {
                let len = u32::from_le_bytes(take(bytes)?) as usize;
                let total = u64::from_le_bytes(take(bytes)?);
                Self::Fragment { flags, total, bytes: take_slice(bytes, len)? }
            }
            RENDEZVOUS => Self::Rendezvous {
                flags,
                len: u64::from_le_bytes(take(bytes)?),
                address: u64::from_le_bytes(take(bytes)?),
                remote: u64::from_le_bytes(take(bytes)?),
            },
            _ => return Err(Violation::BadFrame),
        })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Violation> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or(Violation::BadFrame)?;
    *bytes = rest;
    Ok(*first)
}

fn take_slice<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], Violation> {
    let (first, rest) = bytes.split_at_checked(len).ok_or(Violation::BadFrame)?;
    *bytes = rest;
    Ok(first)
}

/// Writes records behind a header's place.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    buffer: &'a mut [u8],
    pub(super) len: usize,
    pub(super) records: u16,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: HEADER, records: 0 }
    }
    pub(super) fn space(&self) -> usize {
        if self.records == u16::MAX { 0 } else { EAGER_MAX - self.len }
    }
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
    pub(super) fn eager(&mut self, flags: Flags, body: &[u8]) {
        self.put(&[mark(flags)]);
        self.put(&(body.len() as u32).to_le_bytes());
        self.put(body);
        self.records += 1;
    }
    pub(super) fn fragment(&mut self, flags: Flags, total: u64, bytes: &[u8]) {
        self.put(&[mark(flags) | FRAGMENT]);
        self.put(&(bytes.len() as u32).to_le_bytes());
        self.put(&total.to_le_bytes());
        self.put(bytes);
        self.records += 1;
    }
    pub(super) fn rendezvous(&mut self, flags: Flags, len: u64, address: u64, remote: u64) {
        self.put(&[mark(flags) | RENDEZVOUS]);
        for word in [len, address, remote] {
            self.put(&word.to_le_bytes());
        }
        self.records += 1;
    }
}

fn mark(flags: Flags) -> u8 {
    u8::from(flags.more()) | u8::from(flags.command()) << 2
}

const MAGIC: [u8; 5] = *b"FBQ1\x01";

/// What both ends say in their connection data: magic and version, receive buffers for data and control, Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) data_buffers: u16,
    pub(super) control_buffers: u8,
    pub(super) hello: Hello,
}

impl Greeting {
    pub(super) fn ours(hello: Hello) -> Self {
        Self { data_buffers: DATA_BUFFERS as u16, control_buffers: CONTROL_BUFFERS as u8, hello }
    }
    pub(super) fn encode(&self) -> PrivateData {
        let mut bytes = [0; PRIVATE_DATA_MAX];
        bytes[..5].copy_from_slice(&MAGIC);
        bytes[5..7].copy_from_slice(&self.data_buffers.to_le_bytes());
        bytes[7] = self.control_buffers;
        bytes[8..8 + HELLO_BYTES].copy_from_slice(&encode_hello(self.hello));
        bytes
    }
    pub(super) fn decode(bytes: &PrivateData) -> Result<Self, Violation> {
        let mut rest = &bytes[..];
        if take(&mut rest)? != MAGIC {
            return Err(Violation::BadGreeting);
        }
        let data_buffers = u16::from_le_bytes(take(&mut rest)?);
        let [control_buffers @ 2..=u8::MAX] = take(&mut rest)? else { return Err(Violation::BadGreeting) };
        Ok(Self { data_buffers, control_buffers, hello: decode_hello(&take(&mut rest)?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_survive_and_every_cut_is_a_violation() {
        let mut buffer = [0; EAGER_MAX];
        let mut writer = Writer::new(&mut buffer);
        writer.eager(Flags::MORE, b"one");
        writer.fragment(Flags::LAST, 100, b"two");
        writer.rendezvous(Flags::COMMAND, 1, 2, 3);
        let (len, records) = (writer.len, writer.records);
        let header = Header {
            control: false,
            goodbye: true,
            goodbye_seen: false,
            records,
            granted: 4,
            control_seen: 5,
            fins: 6,
        };
        header.encode(&mut buffer);
        let mut bytes = &buffer[..len];
        assert_eq!(Header::decode(&mut bytes), Ok(header));
        assert!(
            matches!(Record::decode(&mut bytes), Ok(Record::Eager { flags, body: b"one" }) if flags.more())
        );
        assert!(matches!(Record::decode(&mut bytes), Ok(Record::Fragment { total: 100, bytes: b"two", .. })));
        let third = Record::decode(&mut bytes);
        assert!(matches!(third, Ok(Record::Rendezvous { len: 1, address: 2, remote: 3, .. })));
        assert!(bytes.is_empty());
        for cut in 0..len {
            let mut bytes = &buffer[..cut];
            let all = Header::decode(&mut bytes).and_then(|header| {
                (0..header.records).try_for_each(|_| Record::decode(&mut bytes).map(drop))
            });
            assert!(all.is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn greetings_survive() {
        let greeting = Greeting::ours(Hello::NULL);
        assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
        assert_eq!(Greeting::decode(&[0; 56]), Err(Violation::BadGreeting));
    }
}
