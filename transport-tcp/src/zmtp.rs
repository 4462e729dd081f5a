//! ZMTP's frame header (ZMTP 3.1, RFC 37, and those before it): bytes to meaning and back. No I/O, no payload.

use transport_core::limits::FRAME_MAX;
use transport_core::{Flags, INLINE_MAX, Violation};

/// The longest frame header: ZMTP 1.0 has an octet that says so, eight of length, and the flags. ZMTP 3's are shorter by one.
pub(crate) const HEADER_MAX: usize = 10;

// ZMTP 3.1 section "Framing": bit 0 MORE, bit 1 LONG, bit 2 COMMAND, bits 7 to 3 reserved and zero.
const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
const COMMAND: u8 = 0x04;
const RESERVED: u8 = !(MORE | LONG | COMMAND);

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: Flags,
    /// Bytes of the header itself.
    pub(crate) len: usize,
    /// Bytes of the body.
    pub(crate) body: usize,
}

/// Reads the header in front of `bytes`: `None` until all of it is there. Checks the length before anyone allocates.
pub(crate) fn parse_header(bytes: &[u8], body_max: u64) -> Result<Option<Header>, Violation> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    // ZMTP 3.1 section "Framing": a command is never followed by MORE, and reserved bits are zero.
    if first & RESERVED != 0 || first & (COMMAND | MORE) == COMMAND | MORE {
        return Err(Violation::BadFrame);
    }
    let (len, body) = if first & LONG == 0 {
        let Some(&short) = bytes.get(1) else {
            return Ok(None);
        };
        (2, u64::from(short))
    } else {
        let Some(long) = bytes.get(1..).and_then(<[u8]>::first_chunk::<8>) else {
            return Ok(None);
        };
        (9, u64::from_be_bytes(*long))
    };
    if body > body_max.min(FRAME_MAX) {
        return Err(Violation::TooLarge);
    }
    let mut flags = Flags::LAST;
    if first & MORE != 0 {
        flags = Flags::MORE;
    }
    if first & COMMAND != 0 {
        flags = Flags::COMMAND;
    }
    Ok(Some(Header { flags, len, body: usize::try_from(body).map_err(|_| Violation::TooLarge)? }))
}

/// How a stream is cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Framing {
    /// RFC 37.
    #[default]
    Zmtp3,
    /// RFC 15: the same, without commands.
    Zmtp2,
    /// RFC 13: an octet of length, or 255 and eight of them, and the flags, which the length counts.
    Zmtp1,
    /// Not at all: what a read finds is a part.
    Raw,
}

impl Framing {
    /// Reads the header in front of `bytes`; see [`parse_header`].
    #[inline]
    pub(crate) fn parse(self, bytes: &[u8], body_max: u64) -> Result<Option<Header>, Violation> {
        match self {
            Self::Zmtp3 => parse_header(bytes, body_max),
            _ => self.parse_old(bytes, body_max),
        }
    }

    #[cold]
    fn parse_old(self, bytes: &[u8], body_max: u64) -> Result<Option<Header>, Violation> {
        match (self, bytes.first()) {
            (Self::Raw, _) | (_, None) => Ok(None),
            (Self::Zmtp2 | Self::Zmtp3, Some(first)) if is_command(*first) => Err(Violation::BadFrame),
            (Self::Zmtp2 | Self::Zmtp3, _) => parse_header(bytes, body_max),
            (Self::Zmtp1, Some(&short)) => {
                let (len, counted) = match short {
                    0xFF => match bytes.get(1..).and_then(<[u8]>::first_chunk::<8>) {
                        Some(long) => (HEADER_MAX, u64::from_be_bytes(*long)),
                        None => return Ok(None),
                    },
                    short => (2, u64::from(short)),
                };
                let body = counted.checked_sub(1).ok_or(Violation::BadFrame)?;
                if body > body_max.min(FRAME_MAX) {
                    return Err(Violation::TooLarge);
                }
                let Some(&flags) = bytes.get(len - 1) else { return Ok(None) };
                if flags & !MORE != 0 {
                    return Err(Violation::BadFrame);
                }
                let flags = if flags == 0 { Flags::LAST } else { Flags::MORE };
                Ok(Some(Header { flags, len, body: usize::try_from(body).map_err(|_| Violation::TooLarge)? }))
            }
        }
    }

    /// Writes a header behind `out`.
    pub(crate) fn write(self, out: &mut Vec<u8>, flags: Flags, body: usize) {
        match self {
            Self::Zmtp3 | Self::Zmtp2 => write_header(out, flags, body),
            Self::Raw => {}
            Self::Zmtp1 => {
                match u8::try_from(body + 1) {
                    Ok(short) if short < 0xFF => out.push(short),
                    _ => {
                        out.push(0xFF);
                        out.extend_from_slice(&(body as u64 + 1).to_be_bytes());
                    }
                }
                out.push(u8::from(flags.more()));
            }
        }
    }
}

/// Whether the first byte of a frame says that it is a command; commands need no grant.
pub(crate) fn is_command(first: u8) -> bool {
    first & COMMAND != 0
}

/// Whether a frame with this first byte and length byte is the kind that a stream is full of: short and no command.
pub(crate) fn is_short_message(first: u8) -> bool {
    first & !MORE == 0
}

/// Writes a header behind `out`.
pub(crate) fn write_header(out: &mut Vec<u8>, flags: Flags, body: usize) {
    // A command with MORE is no frame (ZMTP 3.1 section "Framing"); GAP is not for the wire.
    let kind = if flags.command() { COMMAND } else { u8::from(flags.more()) };
    match u8::try_from(body) {
        Ok(short) => out.extend_from_slice(&[kind, short]),
        Err(_) => {
            let [a, b, c, d, e, f, g, h] = (body as u64).to_be_bytes();
            out.extend_from_slice(&[kind | LONG, a, b, c, d, e, f, g, h]);
        }
    }
}

/// Writes the frame of an inline body behind `out`, and returns its length. A window and a header fit one short copy.
#[inline]
pub(crate) fn write_short(out: &mut Vec<u8>, flags: Flags, window: &[u8; INLINE_MAX], len: usize) -> usize {
    let kind = if flags.command() { COMMAND } else { u8::from(flags.more()) };
    let mut frame = [0; 2 + INLINE_MAX];
    frame[0] = kind;
    frame[1] = len as u8;
    frame[2..].copy_from_slice(window);
    let end = out.len() + 2 + len;
    out.extend_from_slice(&frame);
    out.truncate(end);
    2 + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_headers_go_there_and_back_at_every_split() {
        for framing in [Framing::Zmtp1, Framing::Zmtp2] {
            for flags in [Flags::LAST, Flags::MORE] {
                for body in [0, 1, 253, 254, 255, 256, 65_536, (1 << 32) + 5] {
                    let mut bytes = Vec::new();
                    framing.write(&mut bytes, flags, body);
                    for len in 0..bytes.len() {
                        assert_eq!(framing.parse(&bytes[..len], u64::MAX), Ok(None));
                    }
                    let header = Header { flags, len: bytes.len(), body };
                    assert_eq!(framing.parse(&bytes, body as u64), Ok(Some(header)), "{framing:?}");
                    if body > 0 {
                        assert_eq!(framing.parse(&bytes, body as u64 - 1), Err(Violation::TooLarge));
                    }
                }
            }
        }
        // RFC 13: the length counts the flags, so that there is none of 0.
        assert_eq!(Framing::Zmtp1.parse(&[0, 0], u64::MAX), Err(Violation::BadFrame));
        assert_eq!(
            Framing::Zmtp1.parse(&[0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0], u64::MAX),
            Err(Violation::BadFrame)
        );
        assert_eq!(Framing::Zmtp1.parse(&[1, 2], u64::MAX), Err(Violation::BadFrame));
        let mut bytes = Vec::new();
        Framing::Zmtp1.write(&mut bytes, Flags::MORE, 3);
        assert_eq!(bytes, [4, 1]);
        // RFC 15 has no commands.
        assert_eq!(Framing::Zmtp2.parse(&[4, 0], u64::MAX), Err(Violation::BadFrame));
    }

    #[test]
    fn headers_go_there_and_back_at_every_split() {
        for flags in [Flags::LAST, Flags::MORE, Flags::COMMAND] {
            for body in [0, 1, 255, 256, 65_536, (1 << 32) + 5] {
                let mut bytes = Vec::new();
                write_header(&mut bytes, flags, body);
                for len in 0..bytes.len() {
                    assert_eq!(parse_header(&bytes[..len], u64::MAX), Ok(None));
                }
                let header = Header { flags, len: bytes.len(), body };
                assert_eq!(parse_header(&bytes, u64::MAX), Ok(Some(header)));
                assert_eq!(parse_header(&bytes, body as u64), Ok(Some(header)));
                if body > 0 {
                    assert_eq!(parse_header(&bytes, body as u64 - 1), Err(Violation::TooLarge));
                }
            }
        }
    }

    #[test]
    fn every_first_byte_is_a_frame_or_a_violation() {
        for first in 0..=u8::MAX {
            let parsed = parse_header(&[first, 0, 0, 0, 0, 0, 0, 0, 0], u64::MAX);
            let legal = first & RESERVED == 0 && first & 5 != 5;
            assert_eq!(parsed.is_ok(), legal, "{first:#x}");
            assert_eq!(parse_header(&[first], u64::MAX).is_ok(), legal, "{first:#x}");
        }
        let huge = [2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(parse_header(&huge, u64::MAX), Err(Violation::TooLarge));
        let mut limit = Vec::new();
        write_header(&mut limit, Flags::LAST, FRAME_MAX as usize + 1);
        assert_eq!(parse_header(&limit, u64::MAX), Err(Violation::TooLarge));
    }
}
