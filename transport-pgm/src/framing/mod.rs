//! libzmq's framing of messages in TSDUs: a stream of ZMTP 1.0 frames, cut into packets. No windows, no sequence
//! numbers.
//!
//! ```text
//! TSDU     offset (u16)  bytes of the stream
//! frame    length (u8)  flags (u8)  body                  length counts flags and body, at most 254
//!          255  length (u64)  flags (u8)  body            the same, for longer ones
//! ```
//!
//! The offset says where in the TSDU, counted behind itself, the first message begins that begins there; `ffff` when
//! none does. (A message, not a frame: the later parts of a multipart are not meant.) This is where one who joins late,
//! or has lost a packet, finds the stream again. Bit 0 of the flags is MORE. All numbers are big-endian. There is no
//! greeting and no subscription: a PUB sends everything, a SUB filters.

#![forbid(unsafe_code)]

mod decoder;
mod encoder;
#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Dropped, Messages};
pub use encoder::Encoder;

/// Bytes of the offset before the stream.
const OFFSET_LEN: usize = 2;
/// No message begins in this TSDU.
const NO_START: u16 = u16::MAX;
/// The longest length that one byte says.
const SHORT_MAX: u8 = LONG - 1;
/// What stands for the length of a frame that is longer than one byte can say.
const LONG: u8 = u8::MAX;
/// Of a long frame's header.
const LONG_HEADER: usize = 10;
/// The flag of a part that others follow.
const MORE: u8 = 0x01;

/// Bytes of a TSDU for which an offset can say where a message begins.
pub const TSDU_MAX: usize = NO_START as usize + OFFSET_LEN;
/// A TSDU must have room for the offset and something to move on with.
pub const TSDU_MIN: usize = OFFSET_LEN + LONG_HEADER;
