//! Parts into TSDUs. Packs as many messages as there are into one; keeps nothing but the part that did not fit.

use transport_core::{Frame, Part};

use super::{LONG, LONG_HEADER, MORE, NO_START, OFFSET_LEN, TSDU_MAX};

/// Writes one link's parts as a stream.
#[derive(Debug, Default)]
pub struct Encoder {
    header: [u8; LONG_HEADER],
    header_len: usize,
    /// What is not written yet of the part that was taken last, header and body.
    body: Frame,
    written: usize,
    /// The part that was taken last is not the last of its message.
    inside: bool,
    finished: u64,
    copied: u64,
}

impl Encoder {
    /// Nothing written, nothing waiting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills a TSDU with what is left of the last part and with as many as `next` gives and fit. Stops short when there
    /// are no more: a packet is cut when the pipe is empty, and never waits for company. Returns the TSDU's length, 0
    /// when there was nothing to send. `tsdu` must have [`super::TSDU_MIN`] bytes; from [`TSDU_MAX`] on it is not
    /// filled.
    pub fn fill(&mut self, tsdu: &mut [u8], mut next: impl FnMut() -> Option<Part>) -> usize {
        let end = tsdu.len().min(TSDU_MAX);
        let (mut at, mut start) = (OFFSET_LEN, NO_START);
        loop {
            at += self.write(&mut tsdu[at..end]);
            if at >= end {
                break;
            }
            let Some(part) = next() else { break };
            // The stream has no commands; a link without a session has none to send either.
            if part.flags.command() {
                self.finished += 1;
                continue;
            }
            if !self.inside && start == NO_START {
                start = (at - OFFSET_LEN) as u16;
            }
            self.begin(part);
        }
        if at == OFFSET_LEN {
            return 0;
        }
        tsdu[..OFFSET_LEN].copy_from_slice(&start.to_be_bytes());
        at
    }

    /// Parts of which every byte is in a TSDU: nobody reads their memory any more.
    pub fn finished(&self) -> u64 {
        self.finished
    }

    /// Bytes of bodies that were copied into TSDUs.
    pub fn copied_bytes(&self) -> u64 {
        self.copied
    }

    /// Whether a part is only half in TSDUs.
    pub fn is_inside_a_part(&self) -> bool {
        self.header_len != 0
    }

    fn begin(&mut self, part: Part) {
        self.inside = part.flags.more();
        let flags = if self.inside { MORE } else { 0 };
        let len = part.body.len() as u64 + 1;
        self.header_len = match u8::try_from(len) {
            Ok(len) if len != LONG => {
                self.header[..2].copy_from_slice(&[len, flags]);
                2
            }
            _ => {
                self.header[0] = LONG;
                self.header[1..9].copy_from_slice(&len.to_be_bytes());
                self.header[9] = flags;
                LONG_HEADER
            }
        };
        (self.body, self.written) = (part.body, 0);
    }

    /// Writes on, and returns how much. `header_len` is 0 when nothing is left.
    fn write(&mut self, into: &mut [u8]) -> usize {
        if self.header_len == 0 {
            return 0;
        }
        let mut at = 0;
        if self.written < self.header_len {
            at = (self.header_len - self.written).min(into.len());
            into[..at].copy_from_slice(&self.header[self.written..][..at]);
            self.written += at;
        }
        if self.written >= self.header_len {
            let rest = &self.body[self.written - self.header_len..];
            let some = rest.len().min(into.len() - at);
            into[at..at + some].copy_from_slice(&rest[..some]);
            self.copied += some as u64;
            self.written += some;
            at += some;
            if self.written == self.header_len + self.body.len() {
                self.header_len = 0;
                self.body.take();
                self.finished += 1;
            }
        }
        at
    }
}
