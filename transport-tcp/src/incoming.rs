//! The receiving half of one stream: bytes in, parts out. Does no I/O itself; says where a read may put its bytes.
//!
//! ```text
//! shared buffer   lent by the driver while bytes wait; small parts are decoded from it in one tight loop
//! stash           what is left when the buffer goes back: a piece of a frame, or parts that have no grant
//! fill            a large frame that is read in place: into its own memory, with the shared buffer behind it
//! ```

use std::io::IoSliceMut;

use rustix::io::Errno;
use transport_core::limits::FRAME_MAX;
use transport_core::{
    Completion, DownReason, Flags, FrameMut, FramePool, INLINE_MAX, Landing, LinkId, Part, Target, Violation,
};

use crate::limits::{
    COMMAND_MAX, EARNEST, FILL_MIN, READ_AHEAD_MAX, READ_FULL_GRANT, READ_MAX, READ_SNIFF, READ_SPARE_MAX,
    READ_TAIL, STASH_KEEP,
};
use crate::zmtp::{self, Framing, HEADER_MAX};

/// A shared buffer: the start of a frame from the stash, one read, and slack so that an inline frame can always be
/// copied with a constant size.
const BUFFER_LEN: usize = FILL_MIN + HEADER_MAX + READ_MAX + INLINE_MAX;

/// What the links of a driver share for receiving.
#[derive(Debug)]
pub(crate) struct Buffers {
    landing: Landing,
    spare: Vec<Vec<u8>>,
}

impl Buffers {
    pub(crate) fn new(pool: FramePool) -> Self {
        Self { landing: Landing::new(pool), spare: Vec::new() }
    }

    /// A buffer of [`BUFFER_LEN`], for reads whose bytes nobody wants as well.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| vec![0; BUFFER_LEN])
    }

    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < READ_SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    /// Bytes of parts that were copied out of a shared buffer, or from there to a stash and back.
    pub(crate) fn copied_bytes(&self) -> u64 {
        self.landing.copied_bytes()
    }

    /// Says that a part arrived whose body lies at `at` in a buffer.
    #[inline(always)]
    fn say(
        &mut self,
        out: &mut Vec<Completion>,
        link: LinkId,
        flags: Flags,
        bytes: &[u8],
        at: usize,
        len: usize,
    ) {
        if len <= INLINE_MAX
            && let Some(window) = bytes.get(at..).and_then(<[u8]>::first_chunk::<INLINE_MAX>)
        {
            // The slack behind the shared buffer is there for this; only a stash may end too early. The body is
            // written where it stays, see `set_window`, and so is what is around it: with a name of its own in it, the
            // completion would be made on the stack, in small pieces, which `push` moves in large ones and waits for.
            out.push(Completion::RECEIVED);
            self.landing.count_copied(len);
            if let Some(Completion::Received { link: whose, part }) = out.last_mut() {
                *whose = link;
                part.body.set_window(window, len);
                part.flags = flags;
            }
            return;
        }
        let part = Part { body: self.landing.copy(&bytes[at..at + len]), flags };
        out.push(Completion::Received { link, part });
    }
}

/// Why no more parts come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// More bytes are needed.
    Hungry,
    /// The caller's limit is reached; there may be more.
    Budget,
    /// A part is in front that has no grant.
    Paused,
}

/// A frame being read in place.
#[derive(Debug)]
struct Fill {
    frame: FrameMut,
    filled: usize,
    flags: Flags,
    /// What is to be settled for it.
    ahead: usize,
}

/// The receiving half of one stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// A shared buffer, a stash or nothing; `start..end` of it waits.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    fill: Option<Fill>,
    /// An empty vector whose memory the next small stash uses.
    stash: Vec<u8>,
    part_max: u64,
    grant: u64,
    /// The last frames were read in place, so a read into the shared buffer asks for little.
    sniff: bool,
    framing: Framing,
}

impl Incoming {
    pub(crate) fn new(part_max: Option<u64>) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            end: 0,
            fill: None,
            stash: Vec::new(),
            part_max: part_max.unwrap_or(FRAME_MAX).min(FRAME_MAX),
            grant: 0,
            sniff: false,
            framing: Framing::Zmtp3,
        }
    }

    /// How the stream is cut from here on.
    pub(crate) fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// `u64::MAX` stands for unlimited: nobody lives long enough to use it up.
    pub(crate) fn set_grant(&mut self, parts: u64) {
        self.grant = parts;
    }

    /// Whether the stream stands inside a frame.
    pub(crate) fn is_inside_frame(&self) -> bool {
        self.start != self.end || self.fill.is_some()
    }

    /// What has arrived and was not decoded; for the greeting.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Forgets `len` waiting bytes.
    pub(crate) fn skip(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
    }

    /// Decodes what has arrived until `out` has `limit` entries.
    pub(crate) fn deliver(
        &mut self,
        buffers: &mut Buffers,
        link: LinkId,
        limit: usize,
        out: &mut Vec<Completion>,
    ) -> Result<Stop, DownReason> {
        if let Some(stop) = self.deliver_fill(buffers, link, limit, out) {
            return Ok(stop);
        }
        if self.framing == Framing::Raw {
            return Ok(self.deliver_raw(buffers, link, limit, out));
        }
        let (bytes, end, part_max) = (&self.bytes[..], self.end, self.part_max);
        let (mut at, mut grant) = (self.start, self.grant);
        let (framing, counts_flags) = (self.framing, self.framing == Framing::Zmtp1);
        let result = loop {
            if at == end {
                break Ok(Stop::Hungry);
            }
            if out.len() >= limit {
                break Ok(Stop::Budget);
            }
            let first = bytes[at];
            // The path of small parts, by hand: it is most of what a stream at full speed does.
            if end - at >= 2 && zmtp::is_short_message(first) && !counts_flags {
                let len = usize::from(bytes[at + 1]);
                if len as u64 > part_max {
                    break Err(Violation::TooLarge.into());
                }
                if grant == 0 {
                    break Ok(Stop::Paused);
                }
                if end - at < 2 + len {
                    break Ok(Stop::Hungry);
                }
                let flags = if first == 0 { Flags::LAST } else { Flags::MORE };
                buffers.say(out, link, flags, bytes, at + 2, len);
                grant -= 1;
                at += 2 + len;
                continue;
            }
            let command = zmtp::is_command(first) && framing == Framing::Zmtp3;
            let body_max = if command { part_max.min(COMMAND_MAX) } else { part_max };
            let header = match framing.parse(&bytes[at..end], body_max) {
                Ok(header) => header,
                Err(violation) => break Err(violation.into()),
            };
            if grant == 0 && !command {
                break Ok(Stop::Paused);
            }
            let Some(header) = header else {
                break Ok(Stop::Hungry);
            };
            let here = end - at - header.len;
            if here < header.body {
                if header.body < FILL_MIN {
                    break Ok(Stop::Hungry);
                }
                let Some(Target { mut frame, ahead }) = buffers.landing.target(header.body) else {
                    break Err(DownReason::Broken(Errno::NOMEM.raw_os_error()));
                };
                frame[..here].copy_from_slice(&bytes[end - here..end]);
                buffers.landing.count_copied(here);
                self.fill = Some(Fill { frame, filled: here, flags: header.flags, ahead });
                at = end;
                break Ok(Stop::Hungry);
            }
            buffers.say(out, link, header.flags, bytes, at + header.len, header.body);
            grant -= u64::from(!command);
            at += header.len + header.body;
        };
        (self.start, self.grant) = (at, grant);
        result
    }

    fn deliver_fill(
        &mut self,
        buffers: &mut Buffers,
        link: LinkId,
        limit: usize,
        out: &mut Vec<Completion>,
    ) -> Option<Stop> {
        let fill = self.fill.as_ref()?;
        if fill.filled < fill.frame.len() {
            return Some(Stop::Hungry);
        }
        // The grant may have been taken back since the frame began.
        let command = fill.flags.command();
        if self.grant == 0 && !command {
            return Some(Stop::Paused);
        }
        if out.len() >= limit {
            return Some(Stop::Budget);
        }
        let fill = self.fill.take()?;
        buffers.landing.settle(fill.ahead);
        self.grant -= u64::from(!command);
        out.push(Completion::Received { link, part: Part { body: fill.frame.freeze(), flags: fill.flags } });
        None
    }

    /// Has `read` fill one or two slices, and returns how much it read and whether that was all there was room for.
    /// Only after [`Stop::Hungry`]: then less than one frame waits.
    pub(crate) fn read_with<E>(
        &mut self,
        buffers: &mut Buffers,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
    ) -> Result<(usize, bool), E> {
        self.make_room(buffers);
        if let Some(fill) = &mut self.fill {
            let missing = fill.frame.len() - fill.filled;
            let tail = &mut self.bytes[self.end..self.end + READ_TAIL];
            let mut slices = [IoSliceMut::new(&mut fill.frame[fill.filled..]), IoSliceMut::new(tail)];
            let got = read(&mut slices)?;
            let before = fill.filled;
            fill.filled += got.min(missing);
            if before < EARNEST && fill.filled >= EARNEST {
                fill.frame.expect_all();
            }
            self.end += got.saturating_sub(missing);
            self.sniff = true;
            return Ok((got, got == missing + READ_TAIL));
        }
        let want = match self.grant {
            0 => READ_SNIFF,
            _ if self.sniff => READ_SNIFF,
            1..READ_FULL_GRANT => READ_AHEAD_MAX,
            _ => READ_MAX,
        };
        let got = read(&mut [IoSliceMut::new(&mut self.bytes[self.end..self.end + want])])?;
        self.end += got;
        // Small parts again, unless this read meets a large one and a fill follows.
        self.sniff &= got < want;
        Ok((got, got == want))
    }

    /// What has arrived, as one part.
    #[cold]
    fn deliver_raw(
        &mut self,
        buffers: &mut Buffers,
        link: LinkId,
        limit: usize,
        out: &mut Vec<Completion>,
    ) -> Stop {
        if self.start == self.end {
            return Stop::Hungry;
        }
        if out.len() >= limit {
            return Stop::Budget;
        }
        if self.grant == 0 {
            return Stop::Paused;
        }
        self.grant -= 1;
        let part = Part::last(buffers.landing.copy(self.waiting()));
        self.start = self.end;
        out.push(Completion::Received { link, part });
        Stop::Hungry
    }

    /// Gets a shared buffer, with what waits at its front.
    fn make_room(&mut self, buffers: &mut Buffers) {
        let waiting = self.end - self.start;
        buffers.landing.count_copied(waiting);
        if self.bytes.len() == BUFFER_LEN {
            self.bytes.copy_within(self.start..self.end, 0);
        } else {
            let mut shared = buffers.take();
            shared[..waiting].copy_from_slice(&self.bytes[self.start..self.end]);
            let old = std::mem::replace(&mut self.bytes, shared);
            self.keep_stash(old);
        }
        (self.start, self.end) = (0, waiting);
    }

    fn keep_stash(&mut self, mut stash: Vec<u8>) {
        if stash.capacity() <= STASH_KEEP && stash.capacity() > self.stash.capacity() {
            stash.clear();
            self.stash = stash;
        }
    }

    /// Gives the shared buffer back if it can be done without: called when the link has had its turn.
    pub(crate) fn settle(&mut self, buffers: &mut Buffers) {
        let waiting = self.end - self.start;
        if self.bytes.len() != BUFFER_LEN {
            if waiting == 0 && !self.bytes.is_empty() {
                let old = std::mem::take(&mut self.bytes);
                self.keep_stash(old);
                (self.start, self.end) = (0, 0);
            }
            return;
        }
        if waiting > READ_AHEAD_MAX {
            return;
        }
        let mut stash = Vec::new();
        if waiting > 0 {
            stash = std::mem::take(&mut self.stash);
            stash.reserve_exact(waiting);
            stash.extend_from_slice(&self.bytes[self.start..self.end]);
            buffers.landing.count_copied(waiting);
        }
        buffers.give(std::mem::replace(&mut self.bytes, stash));
        (self.start, self.end) = (0, waiting);
    }

    /// Gives everything back and forgets what waits.
    pub(crate) fn abandon(&mut self, buffers: &mut Buffers) {
        if let Some(fill) = self.fill.take() {
            buffers.landing.settle(fill.ahead);
        }
        self.start = self.end;
        self.settle(buffers);
        self.stash = Vec::new();
    }
}
