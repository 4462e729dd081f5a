//! Frames: the bytes of one message part, inline, static, in a pool slot, on the heap, or in memory the user owns.
//! Shared and read-only; [`FrameMut`] is the writable form before `freeze`. Knows no wire.

use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

use crate::deferral::defer_call;
use crate::pool::{Key, MemoryDomain, Slot, SlotMut};

/// Frames up to this many bytes live inside the [`Frame`] itself: no allocation, no reference count.
pub const INLINE_MAX: usize = 64;

/// The read-only bytes of one part. 72 bytes itself; a clone of anything larger than [`INLINE_MAX`] shares memory.
///
/// A frame moves several times on its way through pipes and completions, and each move reads what the one before has
/// just written. A processor forwards a store to a load only where both cover the same bytes, so this is a union with
/// the payload first and one word of tag behind it, moved in whole words at the same offsets everywhere. As a Rust enum,
/// whose payload begins at an odd offset, or with a tag of one byte, whose neighbours are then moved from the odd offset
/// behind it wherever an `Option` uses the tag for its `None`, the same moves cost a third of a small message's time.
#[repr(C)]
pub struct Frame {
    body: Body,
    tag: Tag,
}

/// The kind of a frame in the low byte, of an inline frame the length in the next, and a mark in the third. Never 0.
#[derive(Clone, Copy)]
struct Tag(NonZeroU64);

impl Tag {
    #[inline]
    const fn new(kind: Kind, inline_len: usize) -> Self {
        // A kind is at least 1, so the fallback is never used.
        match NonZeroU64::new(kind as u64 | (inline_len as u64) << 8) {
            Some(tag) => Self(tag),
            None => Self(NonZeroU64::MIN),
        }
    }
    #[inline]
    const fn kind(self) -> Kind {
        match self.0.get() as u8 {
            1 => Kind::Inline,
            2 => Kind::Fixed,
            3 => Kind::Heap,
            4 => Kind::Slot,
            _ => Kind::Owned,
        }
    }
    #[inline]
    const fn inline_len(self) -> usize {
        (self.0.get() >> 8) as u8 as usize
    }
    #[inline]
    const fn mark(self) -> u8 {
        (self.0.get() >> 16) as u8
    }
    #[inline]
    const fn marked(self, mark: u8) -> Self {
        match NonZeroU64::new(self.0.get() & !(0xff << 16) | (mark as u64) << 16) {
            Some(tag) => Self(tag),
            None => self,
        }
    }
}

#[repr(C)]
union Body {
    // All of them initialised, also those behind the payload.
    inline: [u8; INLINE_MAX],
    fixed: &'static [u8],
    heap: ManuallyDrop<Arc<[u8]>>,
    slot: ManuallyDrop<Slot>,
    owned: ManuallyDrop<Owned>,
}

/// Which member of the union is alive. It never changes once a frame is made, and every constructor sets it together
/// with its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Inline = 1,
    Fixed = 2,
    Heap = 3,
    Slot = 4,
    Owned = 5,
}

/// A frame's body, by kind.
enum View<'a> {
    Bytes(&'a [u8]),
    Heap(&'a Arc<[u8]>),
    Slot(&'a Slot),
    Owned(&'a Owned),
}

/// Bytes inside some owner whose drop gives them back.
#[derive(Clone)]
struct Owned {
    start: NonNull<u8>,
    len: usize,
    owner: Arc<dyn Owner>,
}

// SAFETY: the bytes are read-only for as long as the owner lives, and every owner is Send + Sync. Test:
// `frames_cross_threads` (Miri reports a race if an owner were not).
unsafe impl Send for Owned {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for Owned {}

/// Keeps bytes alive at one address until dropped.
trait Owner: Send + Sync {
    fn as_bytes(&self) -> Option<&Bytes> {
        None
    }
}

impl Owner for Vec<u8> {}
impl Owner for memmap2::Mmap {}
impl Owner for memmap2::MmapMut {}
impl<T: Owner + ?Sized> Owner for Arc<T> {}
impl Owner for Bytes {
    fn as_bytes(&self) -> Option<&Bytes> {
        Some(self)
    }
}

/// Calls the user's free function once, when the last reference has gone, outside every fabriq lock.
struct Free(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Owner for Free {}
impl Drop for Free {
    fn drop(&mut self) {
        if let Some(free) = self.0.take() {
            defer_call(free);
        }
    }
}

impl Frame {
    /// Frames of up to so many bytes hold them themselves, so that these move when the frame does.
    pub const INLINE_MAX: usize = INLINE_MAX;

    /// No bytes.
    pub const EMPTY: Self = Self::with(Body { inline: [0; INLINE_MAX] }, Kind::Inline, 0);

    #[inline]
    const fn with(body: Body, kind: Kind, inline_len: usize) -> Self {
        Self { body, tag: Tag::new(kind, inline_len) }
    }

    /// A copy of `bytes`: inside the frame up to [`INLINE_MAX`], else one allocation.
    #[inline]
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_MAX {
            Self::inline(bytes)
        } else {
            Self::with(Body { heap: ManuallyDrop::new(bytes.into()) }, Kind::Heap, 0)
        }
    }

    #[inline]
    fn inline(bytes: &[u8]) -> Self {
        if let Some(all) = bytes.first_chunk::<INLINE_MAX>() {
            // In registers; the copy below goes through memory.
            return Self::with(Body { inline: *all }, Kind::Inline, INLINE_MAX);
        }
        let mut inline = [0; INLINE_MAX];
        inline[..bytes.len()].copy_from_slice(bytes);
        Self::with(Body { inline }, Kind::Inline, bytes.len())
    }

    /// Becomes a copy of the first `len` bytes of `window`. For drivers that decode many small parts out of one buffer:
    /// it copies the whole window, since a copy of constant size is a few instructions, and does so where the frame
    /// already lies. `len` is cut at [`INLINE_MAX`].
    #[inline]
    pub fn set_window(&mut self, window: &[u8; INLINE_MAX], len: usize) {
        *self = Self::with(Body { inline: *window }, Kind::Inline, len.min(INLINE_MAX));
    }

    /// The bytes of an inline frame with what lies behind them, and how many count: for drivers that encode many small
    /// parts into one buffer and cut off what was too much. `None` when the bytes lie elsewhere.
    #[inline]
    pub fn as_window(&self) -> Option<(&[u8; INLINE_MAX], usize)> {
        match self.tag.kind() {
            // SAFETY: `kind` says that the inline member is alive, and all of it is initialised. Test:
            // `every_kind_gives_its_bytes`.
            Kind::Inline => Some((unsafe { &self.body.inline }, self.tag.inline_len())),
            _ => None,
        }
    }

    /// Moves the frame out and leaves an empty one. Of a small frame only the tag is written, where `std::mem::take` would
    /// write all of it.
    #[inline]
    pub fn take(&mut self) -> Self {
        if self.tag.kind() != Kind::Inline {
            return std::mem::take(self);
        }
        // SAFETY: an inline body is plain bytes, so it may be in two frames; all of them are initialised, and stay so
        // in the one left behind. Test: `a_taken_frame_is_empty`.
        let taken = unsafe { std::ptr::read(self) };
        self.tag = Tag::new(Kind::Inline, 0);
        taken
    }

    /// A byte that travels with this frame (not with its clones) and means nothing to it; see `Part::into_frame`.
    #[inline]
    pub(crate) fn mark(&self) -> u8 {
        self.tag.mark()
    }

    #[inline]
    pub(crate) fn set_mark(&mut self, mark: u8) {
        self.tag = self.tag.marked(mark);
    }

    /// The same as `take` and `set_mark`, so that the tag is not stored twice: whoever moves the frame next would wait for
    /// the second store.
    #[inline]
    pub(crate) fn take_marked(&mut self, mark: u8) -> Self {
        let tag = self.tag.marked(mark);
        if self.tag.kind() != Kind::Inline {
            let mut taken = std::mem::take(self);
            taken.tag = tag;
            return taken;
        }
        self.tag = Tag::new(Kind::Inline, 0);
        // SAFETY: an inline body is plain bytes, all of them initialised. Test: `a_taken_frame_is_empty`.
        Self { body: Body { inline: unsafe { self.body.inline } }, tag }
    }

    /// Refers to `bytes`, which live for ever. Never copies.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self::with(Body { fixed: bytes }, Kind::Fixed, 0)
    }

    fn from_owned(owned: Owned) -> Self {
        Self::with(Body { owned: ManuallyDrop::new(owned) }, Kind::Owned, 0)
    }

    #[inline]
    fn view(&self) -> View<'_> {
        // SAFETY: `kind` says which member was written. Test: `every_kind_gives_its_bytes` under Miri.
        unsafe {
            match self.tag.kind() {
                Kind::Inline => View::Bytes(&self.body.inline[..self.tag.inline_len()]),
                Kind::Fixed => View::Bytes(self.body.fixed),
                Kind::Heap => View::Heap(&self.body.heap),
                Kind::Slot => View::Slot(&self.body.slot),
                Kind::Owned => View::Owned(&self.body.owned),
            }
        }
    }

    /// Refers to a range of a mapped file. The bytes are read when they are sent, so a file that someone changes or
    /// truncates meanwhile sends changed bytes, or raises SIGBUS as any access to such a mapping does.
    ///
    /// Returns `None` when the range is not inside the map.
    pub fn from_mmap(map: Arc<memmap2::Mmap>, range: std::ops::Range<usize>) -> Option<Self> {
        let bytes = map.get(range)?;
        let (start, len) = (NonNull::from(bytes).cast(), bytes.len());
        Some(Self::from_owned(Owned { start, len, owner: Arc::new(map) }))
    }

    /// Refers to memory that the caller owns. `free` runs exactly once, when the last reference has gone (after the
    /// device has read it, not after `send` returns), on any thread, while fabriq holds no lock.
    ///
    /// # Safety
    /// `start..start + len` must be readable, and nobody may write to it, until `free` has been called.
    pub unsafe fn from_raw(
        start: *const u8,
        len: usize,
        free: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        let Some(start) = NonNull::new(start.cast_mut()) else {
            drop(Free(Some(Box::new(free))));
            return Self::EMPTY;
        };
        Self::from_owned(Owned { start, len, owner: Arc::new(Free(Some(Box::new(free)))) })
    }

    fn owned(owner: impl Owner + Deref<Target = [u8]> + 'static) -> Self {
        let owner = Arc::new(owner);
        // The heap block, map or static behind an owner does not move when the owner does; taken after the move all
        // the same.
        let (start, len) = (NonNull::from(&**owner).cast(), owner.len());
        Self::from_owned(Owned { start, len, owner })
    }

    /// The key under which a device reaches these bytes, or `None` when they do not lie in registered memory and
    /// must be copied.
    pub fn key(&self, domain: &Arc<dyn MemoryDomain>) -> Option<Key> {
        match self.view() {
            View::Slot(slot) => slot.key(domain),
            _ => None,
        }
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self.view() {
            View::Bytes(bytes) => bytes.len(),
            View::Heap(bytes) => bytes.len(),
            View::Slot(slot) => slot.len(),
            View::Owned(owned) => owned.len,
        }
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Clone for Frame {
    #[inline]
    fn clone(&self) -> Self {
        match self.view() {
            View::Bytes(bytes) if self.tag.kind() == Kind::Inline => Self::inline(bytes),
            // SAFETY: a body that is not inline and gives plain bytes is a static slice. Test:
            // `every_kind_gives_its_bytes`.
            View::Bytes(_) => Self::from_static(unsafe { self.body.fixed }),
            View::Heap(bytes) => Self::with(Body { heap: ManuallyDrop::new(bytes.clone()) }, Kind::Heap, 0),
            View::Slot(slot) => Self::with(Body { slot: ManuallyDrop::new(slot.clone()) }, Kind::Slot, 0),
            View::Owned(owned) => Self::from_owned(owned.clone()),
        }
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if matches!(self.tag.kind(), Kind::Inline | Kind::Fixed) {
            return;
        }
        // SAFETY: `kind` says which member is alive, and nobody uses the frame after this. Test: `pool.rs`'s tests
        // count slots, `a_free_function_runs_once` counts owners, Miri finds leaks.
        unsafe {
            match self.tag.kind() {
                Kind::Inline | Kind::Fixed => {}
                Kind::Heap => ManuallyDrop::drop(&mut self.body.heap),
                Kind::Slot => ManuallyDrop::drop(&mut self.body.slot),
                Kind::Owned => ManuallyDrop::drop(&mut self.body.owned),
            }
        }
    }
}

// SAFETY: every member of the union is Send and Sync. Test: `frames_cross_threads`.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Deref for Frame {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self.view() {
            View::Bytes(bytes) => bytes,
            View::Heap(bytes) => bytes,
            View::Slot(slot) => slot,
            View::Owned(owned) => {
                // SAFETY: `owner` keeps the bytes in place and unchanged while this reference lives. Test:
                // `every_kind_gives_its_bytes` under Miri.
                unsafe { std::slice::from_raw_parts(owned.start.as_ptr(), owned.len) }
            }
        }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl Eq for Frame {}
impl PartialEq<[u8]> for Frame {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}
impl<const N: usize> PartialEq<[u8; N]> for Frame {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == other[..]
    }
}
impl<const N: usize> PartialEq<&[u8; N]> for Frame {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == other[..]
    }
}
impl PartialEq<&[u8]> for Frame {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}
impl PartialEq<str> for Frame {
    fn eq(&self, other: &str) -> bool {
        **self == *other.as_bytes()
    }
}
impl PartialEq<&str> for Frame {
    fn eq(&self, other: &&str) -> bool {
        **self == *other.as_bytes()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, more) = if self.len() > 64 { (&self[..64], "...") } else { (&self[..], "") };
        write!(f, "Frame({} B: \"{}{more}\")", self.len(), shown.escape_ascii())
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from_slice(bytes)
    }
}
impl<const N: usize> From<&[u8; N]> for Frame {
    fn from(bytes: &[u8; N]) -> Self {
        Self::copy_from_slice(bytes)
    }
}
impl From<&str> for Frame {
    fn from(text: &str) -> Self {
        Self::copy_from_slice(text.as_bytes())
    }
}
impl From<String> for Frame {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}
impl From<Vec<u8>> for Frame {
    /// Keeps the vector; copies only what fits inside the frame.
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= INLINE_MAX { Self::inline(&bytes) } else { Self::owned(bytes) }
    }
}
impl From<Bytes> for Frame {
    /// Shares the memory; copies only what fits inside the frame.
    fn from(bytes: Bytes) -> Self {
        if bytes.len() <= INLINE_MAX { Self::inline(&bytes) } else { Self::owned(bytes) }
    }
}
impl From<memmap2::Mmap> for Frame {
    /// The whole map; see [`Frame::from_mmap`].
    fn from(map: memmap2::Mmap) -> Self {
        Self::owned(map)
    }
}
impl From<FrameMut> for Frame {
    fn from(frame: FrameMut) -> Self {
        frame.freeze()
    }
}
impl From<Frame> for Bytes {
    /// Shares the memory (one small allocation); copies only inline frames.
    fn from(frame: Frame) -> Self {
        match frame.view() {
            View::Bytes(_) if frame.tag.kind() == Kind::Fixed => {
                // SAFETY: as in `clone`.
                Self::from_static(unsafe { frame.body.fixed })
            }
            View::Bytes(bytes) => Self::copy_from_slice(bytes),
            View::Owned(owned) if owned.owner.as_bytes().is_some_and(|bytes| bytes.len() == owned.len) => {
                owned.owner.as_bytes().cloned().unwrap_or_default()
            }
            _ => Self::from_owner(frame),
        }
    }
}

/// Bytes being written: a pool slot on loan, or memory of its own. `freeze` makes a [`Frame`] of it without copying.
pub struct FrameMut {
    repr: ReprMut,
    len: usize,
}

enum ReprMut {
    Slot(SlotMut),
    Mapped(memmap2::MmapMut),
    Heap(Vec<u8>),
}

impl FrameMut {
    pub(crate) fn from_slot(slot: SlotMut, len: usize) -> Self {
        Self { repr: ReprMut::Slot(slot), len }
    }

    /// `len` zeroed bytes of memory of their own. From [`crate::limits::SLOT_MAX`] up, this reserves address space
    /// and costs memory only as pages are written, so a length that a peer claims allocates nothing by itself.
    /// `None` when the system refuses.
    pub fn own(len: usize) -> Option<Self> {
        let repr = if len >= crate::limits::SLOT_MAX {
            ReprMut::Mapped(memmap2::MmapOptions::new().len(len).no_reserve_swap().map_anon().ok()?)
        } else {
            ReprMut::Heap(vec![0; len])
        };
        Some(Self { repr, len })
    }

    /// Says that all of it will be written, so that memory which is committed as it is written comes in pages as large as
    /// the system has. For a driver whose peer has made good on a part of the length it claimed. No effect elsewhere.
    pub fn expect_all(&mut self) {
        if let ReprMut::Mapped(map) = &mut self.repr {
            // Only advice: a system without huge pages refuses it, and everything works the same.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
    }

    /// Shortens to `len` bytes. Longer than now is ignored.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes it read-only and shareable. Frames that fit are copied into the [`Frame`] and the slot goes home.
    pub fn freeze(self) -> Frame {
        if self.len <= INLINE_MAX {
            return Frame::inline(&self);
        }
        let len = self.len;
        match self.repr {
            ReprMut::Slot(slot) => {
                Frame::with(Body { slot: ManuallyDrop::new(slot.freeze(len)) }, Kind::Slot, 0)
            }
            ReprMut::Heap(mut bytes) => {
                bytes.truncate(len);
                Frame::owned(bytes)
            }
            ReprMut::Mapped(map) => {
                let owner = Arc::new(map);
                Frame::from_owned(Owned { start: NonNull::from(&**owner).cast(), len, owner })
            }
        }
    }

    /// The key under which a device may write these bytes, or `None` when they are not in registered memory.
    pub fn key(&self, domain: &Arc<dyn MemoryDomain>) -> Option<Key> {
        match &self.repr {
            ReprMut::Slot(slot) => slot.key(domain),
            _ => None,
        }
    }
}

impl Deref for FrameMut {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.repr {
            ReprMut::Slot(slot) => &slot[..self.len],
            ReprMut::Mapped(map) => &map[..self.len],
            ReprMut::Heap(bytes) => &bytes[..self.len],
        }
    }
}

impl DerefMut for FrameMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.repr {
            ReprMut::Slot(slot) => &mut slot[..self.len],
            ReprMut::Mapped(map) => &mut map[..self.len],
            ReprMut::Heap(bytes) => &mut bytes[..self.len],
        }
    }
}

impl fmt::Debug for FrameMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameMut({} B)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    #[test]
    fn a_taken_frame_is_empty() {
        let token = Arc::new(());
        let free = token.clone();
        // SAFETY: static memory, never written.
        let owned = unsafe { Frame::from_raw(b"owned".as_ptr(), 5, move || drop(free)) };
        for mut frame in
            [Frame::from("small"), Frame::from_static(b"static"), Frame::from(vec![7; 100]), owned]
        {
            let bytes = frame.to_vec();
            let taken = frame.take();
            assert_eq!((&taken[..], &frame[..]), (&bytes[..], &b""[..]));
            assert_eq!(frame.as_window(), Some((frame.as_window().unwrap().0, 0)));
        }
        assert_eq!(Arc::strong_count(&token), 1, "dropped once");
    }

    #[test]
    fn sizes_are_what_the_pipes_count_on() {
        assert_eq!(size_of::<Frame>(), 72);
        assert_eq!(size_of::<crate::Part>(), 80);
    }

    #[test]
    fn every_kind_gives_its_bytes() {
        let long = vec![7; 1000];
        let pool = crate::FramePool::new(1 << 20);
        let mut slot = pool.take(1000).unwrap();
        slot.copy_from_slice(&long);
        let kinds = [
            Frame::copy_from_slice(&long),
            Frame::from(long.clone()),
            Frame::from(Bytes::from(long.clone())),
            Frame::from_static(&[7; 1000]),
            slot.freeze(),
            FrameMut::own(1000)
                .map(|mut own| {
                    own.copy_from_slice(&long);
                    own.freeze()
                })
                .unwrap(),
        ];
        for frame in kinds {
            assert_eq!(frame, &long[..]);
            assert_eq!(frame.clone(), frame);
            assert_eq!(Bytes::from(frame), long);
        }
        for len in [0, 1, INLINE_MAX, INLINE_MAX + 1] {
            assert_eq!(Frame::from(&long[..len]).len(), len);
            let mut window = Frame::from(vec![0; 100]);
            window.set_window(&[7; INLINE_MAX], len);
            assert_eq!(window, &long[..len.min(INLINE_MAX)]);
        }
    }

    #[test]
    fn a_free_function_runs_once_after_the_last_reference_and_outside_locks() {
        let freed = Arc::new(AtomicU32::new(0));
        let memory: &'static [u8] = &[1; 100];
        let count = freed.clone();
        // SAFETY: the memory is static.
        let frame = unsafe {
            Frame::from_raw(memory.as_ptr(), 100, move || {
                count.fetch_add(1, SeqCst);
            })
        };
        let other = frame.clone();
        drop(frame);
        assert_eq!(freed.load(SeqCst), 0);
        let deferral = crate::Deferral::begin();
        drop(other);
        assert_eq!(freed.load(SeqCst), 0, "not while a lock may be held");
        drop(deferral);
        assert_eq!(freed.load(SeqCst), 1);
    }

    #[test]
    fn frames_cross_threads() {
        let frame = Frame::from(vec![3; 500]);
        let there = frame.clone();
        std::thread::spawn(move || assert_eq!(there, &[3; 500])).join().unwrap();
        assert_eq!(frame, &[3; 500]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no large sparse maps")]
    fn a_claimed_length_costs_address_space_only() {
        let mut frame = FrameMut::own(8 << 30).expect("8 GiB of address space");
        frame[8 << 20] = 1;
        frame.expect_all();
        frame.truncate(100);
        assert_eq!(frame.freeze().len(), 100);
    }
}
