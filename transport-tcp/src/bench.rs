//! The codec alone, for the benches: parts to a stream and back, with no socket between. Not part of the interface; no
//! product calls it.

use std::convert::Infallible;

use transport_core::{Completion, Flags, FramePool, LinkId, Part, SlabKey};

use crate::incoming::{Buffers, Incoming, Stop};
use crate::limits::QUEUE_BYTES_MAX;
use crate::outgoing::{Outgoing, SendBuffers};
use crate::zmtp;

/// The sending half of one stream, whose system takes everything at once.
#[derive(Debug)]
pub struct Encoder {
    outgoing: Outgoing,
    buffers: SendBuffers,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { outgoing: Outgoing::new(QUEUE_BYTES_MAX), buffers: SendBuffers::default() }
    }
}

impl Encoder {
    /// Encodes a part as a driver's `post_send` does. `false`: the queue is full, or the body is not inline.
    #[inline]
    pub fn push(&mut self, part: &Part) -> bool {
        self.outgoing.takes(part.flags)
            && self.outgoing.push_inline(&mut self.buffers, &part.body, part.flags)
    }

    /// What waits to be sent. Bodies that are sent from where they are do not come this way.
    pub fn stream(&self) -> &[u8] {
        self.outgoing.contiguous().unwrap_or_default()
    }

    /// Says that all of [`Encoder::stream`] was sent.
    pub fn sent(&mut self) {
        let len = self.stream().len();
        self.outgoing.advance(&mut self.buffers, len);
    }
}

/// The receiving half of one stream, with a grant that does not end.
#[derive(Debug)]
pub struct Decoder {
    incoming: Incoming,
    buffers: Buffers,
    link: LinkId,
    out: Vec<Completion>,
}

impl Decoder {
    /// One that takes slots for large bodies from `pool`.
    #[must_use]
    pub fn new(pool: FramePool) -> Self {
        let mut incoming = Incoming::new(None);
        incoming.set_grant(u64::MAX);
        let link = LinkId::from(SlabKey::from_u64(1 << 32));
        Self { incoming, buffers: Buffers::new(pool), link, out: Vec::new() }
    }

    /// Decodes `stream`, in reads as large as a driver's, into completions, and drops them. Returns how many parts
    /// there were; fewer than were meant if the stream is no ZMTP.
    pub fn decode(&mut self, mut stream: &[u8]) -> usize {
        let mut parts = 0;
        while !stream.is_empty() {
            let Ok(_) = self.incoming.read_with(&mut self.buffers, |slices| {
                let mut taken = 0;
                for slice in slices {
                    let n = slice.len().min(stream.len());
                    slice[..n].copy_from_slice(&stream[..n]);
                    stream = &stream[n..];
                    taken += n;
                }
                Ok::<_, Infallible>(taken)
            });
            let end = self.incoming.deliver(&mut self.buffers, self.link, usize::MAX, &mut self.out);
            parts += self.out.len();
            self.out.clear();
            if end != Ok(Stop::Hungry) {
                break;
            }
        }
        self.incoming.settle(&mut self.buffers);
        parts
    }
}

/// Writes the header of a frame of `body` bytes behind `out`.
pub fn write_header(out: &mut Vec<u8>, body: usize) {
    zmtp::write_header(out, Flags::LAST, body);
}

/// The body's length, as the header in front of `bytes` says it. `None`: it is not whole, or not one.
#[must_use]
pub fn parse_header(bytes: &[u8]) -> Option<usize> {
    Some(zmtp::parse_header(bytes, u64::MAX).ok()??.body)
}
