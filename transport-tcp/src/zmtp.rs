//! ZMTP's greeting and frame header (ZMTP 3.1, RFC 37): bytes to meaning and back. No I/O, no payload.

use transport_core::limits::FRAME_MAX;
use transport_core::{Flags, Hello, INLINE_MAX, MechanismName, Violation};

/// The greeting's length (ZMTP 3.1 section "Greeting": signature 10, version 2, mechanism 20, as-server 1, filler 31).
pub(crate) const GREETING_LEN: usize = 64;

/// The longest frame header (ZMTP 3.1 section "Framing": flags, and eight octets of length).
pub(crate) const HEADER_MAX: usize = 9;

// ZMTP 3.1 section "Framing": bit 0 MORE, bit 1 LONG, bit 2 COMMAND, bits 7 to 3 reserved and zero.
const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
const COMMAND: u8 = 0x04;
const RESERVED: u8 = !(MORE | LONG | COMMAND);

/// The greeting that says `hello`. It is sent whole: a peer of ZMTP 3 reads what it expects and no further, and
/// libzmq's wait between signature and version exists for peers of ZMTP 1 and 2 only.
pub(crate) fn greeting(hello: &Hello) -> [u8; GREETING_LEN] {
    let mut bytes = [0; GREETING_LEN];
    // ZMTP 3.1 section "Greeting": signature = %xFF padding %x7F.
    bytes[0] = 0xFF;
    bytes[9] = 0x7F;
    // version = version-major version-minor, %x03 and the minor.
    bytes[10] = 3;
    bytes[11] = hello.minor;
    bytes[12..32].copy_from_slice(&hello.mechanism.to_wire());
    bytes[32] = u8::from(hello.as_server);
    bytes
}

/// Reads what has arrived of a greeting: `None` until all of it has, an error as soon as it cannot be one.
pub(crate) fn parse_greeting(prefix: &[u8]) -> Result<Option<Hello>, Violation> {
    // The eight bytes of padding are not significant: libzmq writes a length there, for peers of ZMTP 1.
    if prefix.first().is_some_and(|&byte| byte != 0xFF) || prefix.get(9).is_some_and(|&byte| byte != 0x7F) {
        return Err(Violation::BadGreeting);
    }
    // ZMTP 3.1 section "Version Negotiation": a higher peer comes down to us, a lower one we would have to follow.
    if prefix.get(10).is_some_and(|&major| major < 3) {
        return Err(Violation::UnsupportedVersion);
    }
    let Some(bytes) = prefix.first_chunk::<GREETING_LEN>() else {
        return Ok(None);
    };
    let mut mechanism = [0; 20];
    mechanism.copy_from_slice(&bytes[12..32]);
    // A peer of a later major speaks our version once it has seen our greeting.
    let minor = if bytes[10] > 3 { 1 } else { bytes[11] };
    Ok(Some(Hello { minor, mechanism: MechanismName::from_wire(mechanism), as_server: bytes[32] & 1 != 0 }))
}

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
        (HEADER_MAX, u64::from_be_bytes(*long))
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
    fn a_greeting_is_read_at_every_split() {
        let hello = Hello { minor: 1, mechanism: MechanismName::new("CURVE"), as_server: true };
        let bytes = greeting(&hello);
        for len in 0..GREETING_LEN {
            assert_eq!(parse_greeting(&bytes[..len]), Ok(None), "{len}");
        }
        assert_eq!(parse_greeting(&bytes), Ok(Some(hello)));
        let old = Hello { minor: 0, ..Hello::NULL };
        assert_eq!(parse_greeting(&greeting(&old)), Ok(Some(old)));
    }

    #[test]
    fn what_libzmq_sends_is_a_greeting() {
        // libzmq 4.3 puts a routing id's length into the padding, and 3.1 or 3.0 behind it.
        let mut bytes = greeting(&Hello::NULL);
        bytes[8] = 1;
        assert_eq!(parse_greeting(&bytes), Ok(Some(Hello::NULL)));
        bytes[10] = 4;
        bytes[11] = 7;
        assert_eq!(parse_greeting(&bytes), Ok(Some(Hello::NULL)));
    }

    #[test]
    fn what_is_no_greeting_is_refused_as_early_as_possible() {
        // ZMTP 1.0: a short length and flags; with a long length the tenth byte is the flags.
        assert_eq!(parse_greeting(&[1]), Err(Violation::BadGreeting));
        assert_eq!(parse_greeting(&[0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Err(Violation::BadGreeting));
        assert_eq!(parse_greeting(b"GET / HTTP/1.1"), Err(Violation::BadGreeting));
        // ZMTP 2.0 and libzmq 3.2.
        let mut two = greeting(&Hello::NULL);
        two[10] = 1;
        assert_eq!(parse_greeting(&two[..11]), Err(Violation::UnsupportedVersion));
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
