//! Parts whose memory cannot be registered, as where little may be locked: READ by the piece into buffers that are, and
//! copied from there. Slow, and never stuck. Posts nothing itself.

use packet_protocol::Read;

use crate::fabric::TargetId;

/// Tells a piece's READ from one that goes straight into its part, whose ids are small.
const DETOUR: u32 = 1 << 31;

/// A READ that takes the long way, one piece at a time.
#[derive(Debug)]
struct Detour {
    read: Read<TargetId>,
    /// Bytes that are there.
    fetched: usize,
    /// Bytes of the piece that is under way, or chosen to be.
    piece: usize,
    posted: bool,
}

/// Those of one link, as many as it may have READs under way.
#[derive(Debug, Default)]
pub(super) struct Detours(Vec<Option<Detour>>);

impl Detours {
    /// Whether a READ that came back is a piece's.
    pub(super) const fn is_one(tag: u32) -> bool {
        tag & DETOUR != 0
    }

    /// Takes over a READ that could not be posted.
    pub(super) fn take(&mut self, read: Read<TargetId>) {
        let detour = Some(Detour { read, fetched: 0, piece: 0, posted: false });
        match self.0.iter_mut().find(|place| place.is_none()) {
            Some(vacant) => *vacant = detour,
            None => self.0.push(detour),
        }
    }

    /// The next piece to post, of at most `most` bytes: its tag, where it lies at the peer's, and its length.
    pub(super) fn next(&mut self, most: usize) -> Option<(u32, Read<TargetId>, usize)> {
        let mut places = self.0.iter_mut().zip(DETOUR..);
        let (it, tag) =
            places.find_map(|(place, tag)| place.as_mut().filter(|it| !it.posted).map(|it| (it, tag)))?;
        it.piece = most.min(it.read.len - it.fetched);
        let read = Read { address: it.read.address + it.fetched as u64, ..it.read };
        Some((tag, read, it.piece))
    }

    /// The piece with this tag is under way.
    pub(super) fn posted(&mut self, tag: u32) {
        if let Some(it) = self.0.get_mut((tag & !DETOUR) as usize).and_then(Option::as_mut) {
            it.posted = true;
        }
    }

    /// A piece came back with these bytes, or without any; `copy` puts them where they belong. The READ that is done by it.
    pub(super) fn arrived(
        &mut self,
        tag: u32,
        bytes: Option<&[u8]>,
        copy: impl FnOnce(&Read<TargetId>, usize, &[u8]) -> bool,
    ) -> Option<packet_protocol::ReadId> {
        let place = self.0.get_mut((tag & !DETOUR) as usize)?;
        let it = place.as_mut()?;
        it.posted = false;
        let piece = bytes.and_then(|bytes| bytes.get(..it.piece))?;
        if !copy(&it.read, it.read.offset + it.fetched, piece) {
            return None;
        }
        it.fetched += it.piece;
        let id = it.read.id;
        let done = it.fetched == it.read.len;
        if done {
            *place = None;
        }
        done.then_some(id)
    }
}
