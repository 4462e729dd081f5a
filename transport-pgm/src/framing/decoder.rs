//! TSDUs into whole messages. Given every TSDU in order and every gap; knows no packets beyond that.
//!
//! Nothing is ever made of pieces from both sides of a gap: a gap drops all state, and the stream is joined again where
//! the next message begins. The offset in each packet is compared with where the stream stands, as far as that is known
//! without looking ahead, so that a packet that does not follow is found out before a byte of it completes a message.

use transport_core::limits::FRAME_MAX;
use transport_core::{Flags, Landing, Part, Target};

use super::{LONG, LONG_HEADER, MORE, NO_START, OFFSET_LEN, SHORT_MAX};
use crate::limits::{MESSAGE_PARTS_MAX, MULTIPART_BYTES_MAX};

/// Who takes messages, whole.
pub trait Messages {
    /// The parts of one message, all with their flags.
    fn message(&mut self, parts: impl ExactSizeIterator<Item = Part>);
    /// One message was dropped here although its packets came.
    fn dropped(&mut self, why: Dropped);
}

/// Why a message was dropped whose packets came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// A part beyond the maximum, too many parts, or too many bytes of one message.
    TooLarge,
    /// Bytes that are no frame, or a packet that does not go on where the last one ended.
    Malformed,
    /// The system has no memory for it.
    OutOfMemory,
}

/// Reads one source's stream.
#[derive(Debug)]
pub struct Decoder {
    part_max: u64,
    /// Whether the next byte is known to follow the last one. Otherwise the next message's beginning is waited for.
    in_step: bool,
    header: [u8; LONG_HEADER],
    header_read: usize,
    body: Option<Filling>,
    /// The complete parts of a message whose last has not come.
    parts: Vec<Part>,
    parts_bytes: u64,
}

#[derive(Debug)]
struct Filling {
    target: Target,
    filled: usize,
    flags: Flags,
}

impl Decoder {
    /// Out of step. Parts may have `part_max` bytes; `None` is [`FRAME_MAX`].
    pub fn new(part_max: Option<u64>) -> Self {
        Self {
            part_max: part_max.unwrap_or(FRAME_MAX).min(FRAME_MAX),
            in_step: false,
            header: [0; LONG_HEADER],
            header_read: 0,
            body: None,
            parts: Vec::new(),
            parts_bytes: 0,
        }
    }

    /// Packets are missing here. Whatever was begun can never be completed.
    pub fn gap(&mut self, landing: &mut Landing) {
        self.in_step = false;
        self.header_read = 0;
        self.parts.clear();
        self.parts_bytes = 0;
        if let Some(body) = self.body.take() {
            landing.settle(body.target.ahead);
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> Option<&Target> {
        self.body.as_ref().map(|body| &body.target)
    }

    /// The next TSDU.
    pub fn push(&mut self, tsdu: &[u8], landing: &mut Landing, out: &mut impl Messages) {
        let Some((offset, stream)) = tsdu.split_first_chunk::<OFFSET_LEN>() else {
            return self.drop_message(landing, out, Dropped::Malformed);
        };
        let offset = u16::from_be_bytes(*offset);
        // libzmq says where the next message would begin, before it finds that there is none.
        let start = Some(usize::from(offset)).filter(|start| offset != NO_START && *start != stream.len());
        if start.is_some_and(|start| start > stream.len()) {
            return self.drop_message(landing, out, Dropped::Malformed);
        }
        if self.in_step && !self.follows(start, stream.len()) {
            self.drop_message(landing, out, Dropped::Malformed);
        }
        let mut rest = stream;
        if !self.in_step {
            let Some(start) = start else { return };
            rest = &stream[start..];
            self.in_step = true;
        }
        if let Err(why) = self.decode(&mut rest, landing, out) {
            self.drop_message(landing, out, why);
        }
    }

    /// Whether a packet whose first message begins at `start` can be the next one.
    fn follows(&self, start: Option<usize>, len: usize) -> bool {
        match &self.body {
            Some(body) if !body.flags.more() => {
                let left = body.target.frame.len() - body.filled;
                start == (left < len).then_some(left)
            }
            None if self.header_read == 0 && self.parts.is_empty() => start == Some(0) || len == 0,
            // Inside a part that others follow, or inside a header: what comes next is not known.
            _ => true,
        }
    }

    fn drop_message(&mut self, landing: &mut Landing, out: &mut impl Messages, why: Dropped) {
        self.gap(landing);
        out.dropped(why);
    }

    fn decode(
        &mut self,
        rest: &mut &[u8],
        landing: &mut Landing,
        out: &mut impl Messages,
    ) -> Result<(), Dropped> {
        while !rest.is_empty() {
            if let Some(body) = &mut self.body {
                let frame = &mut body.target.frame;
                let some = rest.len().min(frame.len() - body.filled);
                frame[body.filled..body.filled + some].copy_from_slice(&rest[..some]);
                landing.count_copied(some);
                *rest = &rest[some..];
                body.filled += some;
                if body.filled == frame.len()
                    && let Some(body) = self.body.take()
                {
                    landing.settle(body.target.ahead);
                    self.finish(Part { body: body.target.frame.freeze(), flags: body.flags }, out)?;
                }
                continue;
            }
            let Some((flags, len)) = self.read_header(rest)? else { return Ok(()) };
            if len > self.part_max {
                return Err(Dropped::TooLarge);
            }
            let flags = if flags & MORE != 0 { Flags::MORE } else { Flags::LAST };
            let len = usize::try_from(len).map_err(|_| Dropped::TooLarge)?;
            if let Some((body, behind)) = rest.split_at_checked(len) {
                *rest = behind;
                self.finish(Part { body: landing.copy(body), flags }, out)?;
            } else {
                let target = landing.target(len).ok_or(Dropped::OutOfMemory)?;
                self.body = Some(Filling { target, filled: 0, flags });
            }
        }
        Ok(())
    }

    /// A frame's flags and the length of its body; `None` when the header goes on in the next packet.
    fn read_header(&mut self, rest: &mut &[u8]) -> Result<Option<(u8, u64)>, Dropped> {
        // Nearly always the whole header is here.
        if self.header_read == 0 {
            match **rest {
                [len @ 1..=SHORT_MAX, flags, ref behind @ ..] => {
                    *rest = behind;
                    return Ok(Some((flags, u64::from(len) - 1)));
                }
                [0, ..] => return Err(Dropped::Malformed),
                _ => {}
            }
        }
        while let Some((byte, behind)) = rest.split_first() {
            self.header[self.header_read] = *byte;
            self.header_read += 1;
            *rest = behind;
            let [first, long @ .., flags] = self.header;
            let (flags, len) = match self.header_read {
                2 if first != LONG => (self.header[1], u64::from(first)),
                LONG_HEADER => (flags, u64::from_be_bytes(long)),
                _ => continue,
            };
            self.header_read = 0;
            return len.checked_sub(1).map(|len| Some((flags, len))).ok_or(Dropped::Malformed);
        }
        Ok(None)
    }

    fn finish(&mut self, part: Part, out: &mut impl Messages) -> Result<(), Dropped> {
        if !part.flags.more() && self.parts.is_empty() {
            out.message(std::iter::once(part));
            return Ok(());
        }
        self.parts_bytes = self.parts_bytes.saturating_add(part.body.len() as u64);
        let more = part.flags.more();
        if self.parts.len() == MESSAGE_PARTS_MAX || more && self.parts_bytes > MULTIPART_BYTES_MAX {
            return Err(Dropped::TooLarge);
        }
        self.parts.push(part);
        if !more {
            self.parts_bytes = 0;
            out.message(self.parts.drain(..));
        }
        Ok(())
    }
}
