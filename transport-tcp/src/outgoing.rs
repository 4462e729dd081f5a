//! The sending half of one stream: parts in, slices for one gathering call out, and which parts were never seen. Does
//! no I/O itself.
//!
//! Headers and small bodies stand encoded in `bytes`; a large body stays where it is and is spliced in at its place:
//!
//! ```text
//! bytes  |h|small|h|small|h|  |h|small|h|small|
//!           ^scanned  ^done ^at: large body
//! ```

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;

use transport_core::limits::COMMANDS_MAX;
use transport_core::{Flags, Frame, Part};

use crate::limits::{
    GATHER_MAX, QUEUE_BYTES_MAX, QUEUE_PARTS_MAX, REFERENCE_MIN, REFERENCE_MIN_FULL, SEND_BUFFER_MIN,
    SEND_SPARE_MAX,
};
use crate::zmtp::{self, Framing};

/// Empty send buffers that the links of a driver share.
#[derive(Debug, Default)]
pub(crate) struct SendBuffers {
    spare: Vec<Vec<u8>>,
    bytes: usize,
}

impl SendBuffers {
    fn take(&mut self) -> Vec<u8> {
        match self.spare.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(SEND_BUFFER_MIN),
        }
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.bytes + buffer.capacity() <= SEND_SPARE_MAX {
            buffer.clear();
            self.bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }
}

/// A body that is sent from where it is, between `bytes[..at]` and `bytes[at..]`.
#[derive(Debug)]
struct Large {
    at: usize,
    body: Frame,
}

/// The sending half of one stream.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Bytes waiting from which `room` is 0.
    bytes_max: usize,
    bytes: Vec<u8>,
    large: VecDeque<Large>,
    /// How much of `bytes` the system has.
    done: usize,
    /// How many of `large` the system has, and how much of the next.
    large_done: usize,
    large_part: usize,
    /// Bytes that the system does not have.
    queued: usize,
    /// Where the first frame begins that the system does not have whole.
    scanned: usize,
    /// Whether that frame stands inside a message.
    inside: bool,
    /// Whether the next frame to be posted does.
    posting_inside: bool,
    commands: usize,
    /// What is left of what `room` promised.
    promised: Cell<usize>,
    /// A caller found no room and waits for a word.
    wanted: Cell<bool>,
    posted: u64,
    sent: u64,
    /// Bytes that were ever taken out of `queued`.
    written: u64,
    /// What [`Outgoing::copied_bytes`] does not know from the other counts: an instruction for every small part would be much.
    copied_beside: i64,
    /// Without frames bodies go without headers, and each as a large one.
    framing: Framing,
}

impl Outgoing {
    /// The beginning of a stream of which about `bytes_max` may wait.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// How the stream is cut, before anything is posted.
    pub(crate) fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// How many more parts are taken at once. This is a promise, whatever the parts weigh, until it is asked again. Who
    /// hears 0 hears it until half of what waits has gone, and is told then: so nobody comes back for one part.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        let waiting = (self.posted - self.sent) as usize;
        let full = self.queued >= self.bytes_max || waiting >= QUEUE_PARTS_MAX;
        if full || (self.wanted.get() && !self.owes_writable()) {
            self.wanted.set(true);
            self.promised.set(0);
            return 0;
        }
        let room = QUEUE_PARTS_MAX - waiting;
        self.promised.set(room);
        room
    }

    /// Whether a caller that found no room should be told that there is some.
    pub(crate) fn owes_writable(&self) -> bool {
        self.wanted.get()
            && self.queued < self.bytes_max / 2
            && self.posted - self.sent < QUEUE_PARTS_MAX as u64 / 2
            && self.commands < COMMANDS_MAX
    }

    /// Notes that the caller was told.
    pub(crate) fn writable_said(&self) {
        self.wanted.set(false);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// How many parts the system has, of all that were ever posted.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of bodies that were copied into `bytes`, inside it, or back out of it. Of all that was ever queued this is what is
    /// left without headers, which have two bytes, and with `copied_beside`, which knows of the parts that are otherwise.
    pub(crate) fn copied_bytes(&self) -> u64 {
        (self.written + self.queued as u64)
            .wrapping_sub(2 * self.posted)
            .wrapping_add_signed(self.copied_beside)
    }

    /// Whether a part with these flags is taken.
    #[inline]
    pub(crate) fn takes(&self, flags: Flags) -> bool {
        self.promised.get() > 0 || (flags.command() && self.commands < COMMANDS_MAX) || self.room() > 0
    }

    /// Takes a part. Ask [`Outgoing::takes`] first.
    #[inline]
    pub(crate) fn push(&mut self, buffers: &mut SendBuffers, part: Part) {
        if !self.push_inline(buffers, &part.body, part.flags) {
            self.push_shared(buffers, part);
        }
    }

    /// Takes a part by reference if its body is inline. Such a part was written just now, and to move it would wait for
    /// the stores to arrive; this is a third of what a small part costs.
    #[inline]
    pub(crate) fn push_inline(&mut self, buffers: &mut SendBuffers, body: &Frame, flags: Flags) -> bool {
        // A copy of constant size is a few instructions; one of variable size is a call.
        let Some((window, len)) = body.as_window().filter(|_| self.framing == Framing::Zmtp3) else {
            return false;
        };
        self.count(buffers, flags);
        self.queued += zmtp::write_short(&mut self.bytes, flags, window, len);
        true
    }

    #[inline]
    fn count(&mut self, buffers: &mut SendBuffers, flags: Flags) {
        if flags.command() {
            self.commands += 1;
        } else {
            self.promised.set(self.promised.get().saturating_sub(1));
            self.posting_inside = flags.more();
        }
        self.posted += 1;
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        } else if self.scanned > 0 && self.scanned >= self.bytes.len() / 2 {
            self.compact();
        }
    }

    fn push_shared(&mut self, buffers: &mut SendBuffers, Part { body, flags }: Part) {
        self.count(buffers, flags);
        if self.framing == Framing::Raw {
            self.queued += body.len();
            self.copied_beside += 2 - body.len() as i64;
            self.large.push_back(Large { at: 0, body });
            return;
        }
        let (before, len) = (self.bytes.len(), body.len());
        self.framing.write(&mut self.bytes, flags, len);
        if len < REFERENCE_MIN_FULL || (len < REFERENCE_MIN && self.queued < QUEUE_BYTES_MAX) {
            self.copied_beside += 2 - (self.bytes.len() - before) as i64;
            self.bytes.extend_from_slice(&body);
            self.queued += self.bytes.len() - before;
        } else {
            let at = self.bytes.len();
            self.copied_beside += 2 - (at - before + len) as i64;
            self.queued += at - before + len;
            self.large.push_back(Large { at, body });
        }
    }

    /// Forgets the bytes of frames that the system has whole.
    #[cold]
    fn compact(&mut self) {
        let gone = self.scanned;
        self.copied_beside += (self.bytes.len() - gone) as i64;
        self.bytes.drain(..gone);
        self.done -= gone;
        self.scanned = 0;
        for large in &mut self.large {
            large.at -= gone;
        }
    }

    /// What is to be sent when no large body waits; the usual case.
    #[inline]
    pub(crate) fn contiguous(&self) -> Option<&[u8]> {
        self.large.is_empty().then(|| &self.bytes[self.done..])
    }

    /// What is to be sent, in order; as many slices as fit. Returns how many there are.
    pub(crate) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; GATHER_MAX]) -> usize {
        let (mut n, mut at, mut skip) = (0, self.done, self.large_part);
        let mut push = |slice: &'a [u8]| {
            if !slice.is_empty() {
                slices[n] = IoSlice::new(slice);
                n += 1;
            }
            n < GATHER_MAX
        };
        for large in self.large.iter().skip(self.large_done) {
            if !push(&self.bytes[at..large.at]) || !push(&large.body[skip..]) {
                return n;
            }
            (at, skip) = (large.at, 0);
        }
        push(&self.bytes[at..]);
        n
    }

    /// Notes that the system took `n` bytes more.
    #[inline]
    pub(crate) fn advance(&mut self, buffers: &mut SendBuffers, n: usize) {
        self.written += n.min(self.queued) as u64;
        self.queued = self.queued.saturating_sub(n);
        if self.queued > 0 {
            self.advance_part(n);
            return;
        }
        // Everything went: no need to find out which frames that was.
        self.sent = self.posted;
        self.inside = self.posting_inside;
        self.commands = 0;
        self.clear(buffers);
    }

    fn clear(&mut self, buffers: &mut SendBuffers) {
        buffers.give(std::mem::take(&mut self.bytes));
        self.large.clear();
        self.written += self.queued as u64;
        (self.done, self.scanned, self.large_done, self.large_part, self.queued) = (0, 0, 0, 0, 0);
    }

    fn advance_part(&mut self, mut n: usize) {
        while n > 0 {
            let large = self.large.get(self.large_done);
            let until = large.map_or(self.bytes.len(), |large| large.at);
            let step = n.min(until - self.done);
            self.done += step;
            n -= step;
            let Some(large) = large.filter(|large| large.at == self.done) else {
                // Without this, a count beyond what was handed out would never end.
                if step == 0 {
                    break;
                }
                continue;
            };
            let step = n.min(large.body.len() - self.large_part);
            self.large_part += step;
            n -= step;
            if self.large_part < large.body.len() {
                break;
            }
            (self.large_done, self.large_part) = (self.large_done + 1, 0);
        }
        while self.framing == Framing::Raw && self.large_done > 0 {
            self.large.pop_front();
            self.large_done -= 1;
            self.sent += 1;
        }
        while let Some(frame) = self.frame_at(self.scanned, 0) {
            let gone = match frame.large {
                true => self.large_done > 0,
                false => frame.end <= self.done,
            };
            if !gone {
                break;
            }
            if frame.large {
                // Here the driver lets go of the memory.
                self.large.pop_front();
                self.large_done -= 1;
            }
            if frame.command {
                self.commands -= 1;
            } else {
                self.inside = frame.more;
            }
            self.scanned = frame.end;
            self.sent += 1;
        }
    }

    /// The encoded frame at `at`, when the large body `large` is the first that may belong to it.
    fn frame_at(&self, at: usize, large: usize) -> Option<Encoded> {
        let header = self.framing.parse(self.bytes.get(at..)?, u64::MAX).ok()??;
        let body = at + header.len;
        // No two frames have their bodies at one place, since every header has a length.
        let large = self.large.get(large).is_some_and(|large| large.at == body);
        let end = if large { body } else { body + header.body };
        Some(Encoded { body, end, large, command: header.flags.command(), more: header.flags.more() })
    }

    /// Takes out the parts of whole messages of which the system has not a byte, in order, and drops the rest.
    /// Commands belong to the link and are dropped with it.
    pub(crate) fn take_unseen(&mut self, buffers: &mut SendBuffers) -> Vec<Part> {
        let (mut unseen, mut message) = (Vec::new(), Vec::new());
        if self.framing == Framing::Raw {
            // Where a message ended, bytes do not tell.
            self.clear(buffers);
            return unseen;
        }
        let (mut at, mut large, mut lost) = (self.scanned, 0, self.inside);
        let mut touched = self.done > self.scanned;
        while let Some(frame) = self.frame_at(at, large) {
            if !frame.command {
                lost |= touched;
                let body = if frame.large {
                    self.large[large].body.clone()
                } else {
                    self.copied_beside += (frame.end - frame.body) as i64;
                    Frame::copy_from_slice(&self.bytes[frame.body..frame.end])
                };
                message.push(if frame.more { Part::more(body) } else { Part::last(body) });
                if !frame.more {
                    if !lost {
                        unseen.append(&mut message);
                    }
                    message.clear();
                    lost = false;
                }
            }
            touched = false;
            large += usize::from(frame.large);
            at = frame.end;
        }
        self.clear(buffers);
        unseen
    }
}

struct Encoded {
    body: usize,
    end: usize,
    large: bool,
    command: bool,
    more: bool,
}
