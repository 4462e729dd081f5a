//! A queue from one writer to one reader, made of pooled segments. Wakes nobody: it says who must be woken.
//!
//! After libzmq's ypipe and yqueue, with a counter in place of its compare-and-swap per flush:
//!
//! ```text
//!   first --> [segment] -> [segment] -> [segment]        segments are made as they are used; the reader hands empty
//!              ^ reader                  ^ writer         ones back through `spare`, so a warm queue never allocates
//! ```
//!
//! `published` counts values that the reader may take; `taken` counts whole messages that it has taken, and gives the
//! writer its room. Sleeping is agreed by store, fence, look again on both sides: a side that found nothing says so
//! and looks once more, and a side that made something looks whether the other sleeps. Whoever finds a sleeper must
//! wake it. The writer may leave its look out (`publish_quietly`) while somebody else has promised to look instead.

use std::mem::MaybeUninit;
use std::ptr;

use crate::sync::{Arc, AtomicBool, AtomicPtr, AtomicU64, CachePadded, Ordering, UnsafeCell, fence};

/// Values per segment: 32 frames of 72 bytes are 2.3 KiB.
const SEGMENT: usize = if cfg!(loom) { 2 } else { 32 };

/// Messages, or bytes where messages are weighed, that a reader takes at most before its writer's peer may learn of them.
const ROOM_STEP_MAX: u64 = 64;

/// Empty segments that a queue keeps for reuse; 64 of them hold 2,048 parts.
const SPARE_MAX: u64 = 64;

struct Segment<T> {
    next: AtomicPtr<Segment<T>>,
    // Behind `next` in the list of spares, instead of the queue's order.
    spare: AtomicPtr<Segment<T>>,
    values: [UnsafeCell<MaybeUninit<T>>; SEGMENT],
}

impl<T> Segment<T> {
    fn boxed() -> *mut Self {
        Box::into_raw(Box::new(Self {
            next: AtomicPtr::new(ptr::null_mut()),
            spare: AtomicPtr::new(ptr::null_mut()),
            values: std::array::from_fn(|_| UnsafeCell::new(MaybeUninit::uninit())),
        }))
    }
}

struct Shared<T> {
    published: CachePadded<AtomicU64>,
    taken: CachePadded<AtomicU64>,
    reader_asleep: CachePadded<AtomicBool>,
    writer_asleep: AtomicBool,
    ended: AtomicBool,
    /// Somebody promised to look at this queue soon, so `publish_quietly` may be used.
    guarded: AtomicBool,
    first: AtomicPtr<Segment<T>>,
    spares: AtomicPtr<Segment<T>>,
    /// Where the reader stood when it went away; read only by `drop`.
    rest: UnsafeCell<(*mut Segment<T>, usize, u64)>,
}

// SAFETY: a value is written by the one writer before `published` counts it (Release) and read by the one reader
// after it saw that count (Acquire); segments change hands the same way. Test: the loom models below.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The writing end.
pub(crate) struct Writer<T> {
    shared: Arc<Shared<T>>,
    segment: *mut Segment<T>,
    at: usize,
    written: u64,
    messages: u64,
    taken_seen: u64,
    spares: *mut Segment<T>,
}

/// The reading end.
pub(crate) struct Reader<T> {
    shared: Arc<Shared<T>>,
    segment: *mut Segment<T>,
    at: usize,
    read: u64,
    published_seen: u64,
    taken: u64,
    /// Messages until the writer is looked at; at least 1.
    look_in: u64,
    spared: u64,
    ended: bool,
}

// SAFETY: the raw segment pointers are owned by this end alone; see Shared. Test: the loom models.
unsafe impl<T: Send> Send for Writer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Reader<T> {}

/// Half of a mark: with so much room a writer that waits for it is woken.
#[inline]
fn low_water_mark(hwm: u64) -> u64 {
    hwm.div_ceil(2).max(1)
}

/// A new, empty queue. Allocates no segment yet. The reader counts as asleep.
pub(crate) fn queue<T>() -> (Writer<T>, Reader<T>) {
    let shared = Arc::new(Shared {
        published: CachePadded(AtomicU64::new(0)),
        taken: CachePadded(AtomicU64::new(0)),
        reader_asleep: CachePadded(AtomicBool::new(true)),
        writer_asleep: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        guarded: AtomicBool::new(false),
        first: AtomicPtr::new(ptr::null_mut()),
        spares: AtomicPtr::new(ptr::null_mut()),
        rest: UnsafeCell::new((ptr::null_mut(), 0, 0)),
    });
    let writer = Writer {
        shared: shared.clone(),
        segment: ptr::null_mut(),
        at: SEGMENT,
        written: 0,
        messages: 0,
        taken_seen: 0,
        spares: ptr::null_mut(),
    };
    let reader = Reader {
        shared,
        segment: ptr::null_mut(),
        at: SEGMENT,
        read: 0,
        published_seen: 0,
        taken: 0,
        look_in: u64::MAX,
        spared: 0,
        ended: false,
    };
    (writer, reader)
}

impl<T> Writer<T> {
    /// Appends a value; the reader does not see it before `publish`.
    #[inline]
    pub(crate) fn write(&mut self, value: T) {
        if self.at == SEGMENT {
            self.next_segment();
        }
        // SAFETY: `segment` is the writer's own until published, and place `at` was never written since the segment
        // came from the reader or the allocator. Test: `values_come_out_once`, Miri, loom.
        unsafe { (*self.segment).values[self.at].with_mut(|place| (*place).write(value)) };
        self.at += 1;
        self.written += 1;
    }

    #[cold]
    fn next_segment(&mut self) {
        if self.spares.is_null() {
            // Only this end takes from the list, and it takes all: no ABA.
            self.spares = self.shared.spares.swap(ptr::null_mut(), Ordering::Acquire);
        }
        let fresh = if self.spares.is_null() {
            Segment::boxed()
        } else {
            let fresh = self.spares;
            // SAFETY: a spare belongs to the writer once it was taken off the list. Test: loom.
            unsafe {
                self.spares = (*fresh).spare.load(Ordering::Relaxed);
                (*fresh).next.store(ptr::null_mut(), Ordering::Relaxed);
            }
            fresh
        };
        if self.segment.is_null() {
            self.shared.first.store(fresh, Ordering::Release);
        } else {
            // SAFETY: the reader frees a segment only after following `next`, which is null until here. Test: loom.
            unsafe { (*self.segment).next.store(fresh, Ordering::Release) };
        }
        self.segment = fresh;
        self.at = 0;
    }

    /// Counts what was written since the last call as one message; see `room`.
    #[inline]
    pub(crate) fn end_message(&mut self) {
        self.messages += 1;
    }

    /// The same in a queue whose mark is not in messages: this one weighs so much.
    pub(crate) fn end_message_of(&mut self, weight: u64) {
        self.messages = self.messages.wrapping_add(weight);
    }

    /// Makes everything written visible. `true` when the reader slept: the caller must wake it.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        self.shared.published.store(self.written, Ordering::Release);
        fence(Ordering::SeqCst);
        self.take_sleeping_reader()
    }

    /// Like `publish` without the fence (a third of the cost of a small send): the reader may go to sleep at this
    /// very moment and neither side notice. Only while `is_guarded`.
    #[inline]
    pub(crate) fn publish_quietly(&mut self) -> bool {
        self.shared.published.store(self.written, Ordering::Release);
        self.take_sleeping_reader()
    }

    #[inline]
    fn take_sleeping_reader(&self) -> bool {
        self.shared.reader_asleep.load(Ordering::Relaxed)
            && self.shared.reader_asleep.swap(false, Ordering::AcqRel)
    }

    /// Whether somebody looks at this queue without being told.
    #[inline]
    pub(crate) fn is_guarded(&self) -> bool {
        self.shared.guarded.load(Ordering::Relaxed)
    }

    /// How many more messages fit under a mark of `hwm` messages (0: no mark). A cheap, conservative answer.
    #[inline]
    pub(crate) fn room(&mut self, hwm: u64) -> u64 {
        if hwm == 0 {
            return u64::MAX;
        }
        let room = self.room_seen(hwm);
        if room > 0 {
            return room;
        }
        self.taken_seen = self.shared.taken.load(Ordering::Acquire);
        self.room_seen(hwm)
    }

    /// The room that what was seen of the reader leaves.
    #[inline]
    fn room_seen(&self, hwm: u64) -> u64 {
        hwm.saturating_sub(self.messages.wrapping_sub(self.taken_seen))
    }

    /// The room as of now, seen in steps of half the mark, as libzmq's pipes tell of it, and of [`ROOM_STEP_MAX`] at most, or a
    /// full stream would lose a quarter of its window: a peer that was stopped goes on for a stretch, and a reader that
    /// takes a message now and then does not move a chain of queues each time. An empty queue always has room, since less
    /// than a step goes unseen.
    pub(crate) fn room_in_steps(&mut self, hwm: u64) -> u64 {
        let taken = self.shared.taken.load(Ordering::Acquire);
        let seen = taken - taken % low_water_mark(hwm).min(ROOM_STEP_MAX);
        // Under another mark more may have been seen than whole steps of this one.
        if seen.wrapping_sub(self.taken_seen) as i64 > 0 {
            self.taken_seen = seen;
        }
        self.room_seen(hwm)
    }

    /// Says that the writer waits until `room` is some. `false`: it is by now after all.
    pub(crate) fn sleep(&mut self, room: impl FnOnce(&mut Self) -> u64) -> bool {
        self.shared.writer_asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if room(self) == 0 {
            return true;
        }
        // Whoever takes the flag down has the duty to wake; if the reader was first, its wake-up finds us awake.
        self.shared.writer_asleep.store(false, Ordering::Relaxed);
        false
    }

    /// Nothing more will come. `true` when the reader slept: the caller must wake it.
    pub(crate) fn end(&mut self) -> bool {
        self.shared.published.store(self.written, Ordering::Release);
        self.shared.ended.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.take_sleeping_reader()
    }
}

impl<T> Reader<T> {
    /// The next value. `None`: nothing is there, and the reader counts as asleep and will be woken; or nothing will come,
    /// see `is_ended`. (A third answer would not fit a part's own `None`, and every value would be moved once more.)
    #[inline]
    pub(crate) fn read(&mut self) -> Option<T> {
        if self.read == self.published_seen && !self.look() && !self.stays_awake() {
            return None;
        }
        Some(self.take())
    }

    /// Whether the `read` that found nothing was the last: the writer has ended the queue.
    #[inline]
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next value, without going to sleep if there is none.
    pub(crate) fn read_awake(&mut self) -> Option<T> {
        (self.read != self.published_seen || self.look()).then(|| self.take())
    }

    /// Whether there is something to read, without going to sleep if not.
    pub(crate) fn look(&mut self) -> bool {
        self.published_seen = self.shared.published.load(Ordering::Acquire);
        self.read != self.published_seen
    }

    /// The next value where it lies, without going to sleep if there is none.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<&T> {
        if self.read == self.published_seen && !self.look() {
            return None;
        }
        if self.at == SEGMENT {
            self.next_segment();
        }
        // SAFETY: `published` counted this value after it was written, and it stays until `take` or `skip`, which no
        // reference outlives. Test: `a_value_can_be_looked_at_and_left_behind`, loom.
        Some(unsafe { (*self.segment).values[self.at].with(|place| &*(*place).as_ptr()) })
    }

    /// Drops the next value where it lies, if there is one.
    #[inline]
    pub(crate) fn skip(&mut self) {
        if self.peek().is_none() {
            return;
        }
        // SAFETY: as in `peek`, and nobody comes back to it: it is dropped once. Test: as there.
        unsafe { (*self.segment).values[self.at].with_mut(|place| (*place).assume_init_drop()) };
        self.at += 1;
        self.read += 1;
    }

    #[inline]
    fn take(&mut self) -> T {
        if self.at == SEGMENT {
            self.next_segment();
        }
        // SAFETY: `published` counted this value after it was written, and it is read once. Test: as for `write`.
        let value = unsafe { (*self.segment).values[self.at].with(|place| (*place).assume_init_read()) };
        self.at += 1;
        self.read += 1;
        value
    }

    #[cold]
    fn next_segment(&mut self) {
        if self.segment.is_null() {
            self.segment = self.shared.first.load(Ordering::Acquire);
        } else {
            let empty = self.segment;
            // SAFETY: a value beyond this segment was published, so `next` was set; the writer has left the segment,
            // so it is the reader's to give away. Test: loom.
            unsafe {
                self.segment = (*empty).next.load(Ordering::Acquire);
                self.give_back(empty);
            }
        }
        self.at = 0;
    }

    /// # Safety
    /// `empty` must be a segment that nothing refers to any more.
    unsafe fn give_back(&mut self, empty: *mut Segment<T>) {
        let list = &self.shared.spares;
        let mut head = list.load(Ordering::Relaxed);
        if head.is_null() {
            // The writer took them all.
            self.spared = 0;
        }
        if self.spared >= SPARE_MAX {
            // SAFETY: the caller's promise; it was made by `Segment::boxed`, and its values were read.
            drop(unsafe { Box::from_raw(empty) });
            return;
        }
        self.spared += 1;
        loop {
            // SAFETY: the caller's promise.
            unsafe { (*empty).spare.store(head, Ordering::Relaxed) };
            match list.compare_exchange(head, empty, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    #[cold]
    fn stays_awake(&mut self) -> bool {
        // A swap and not a store, so that it comes after the writer's swap of a flag it saw before.
        self.shared.reader_asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        // After the fence, so that either the end is seen here or `end` sees a sleeper; before the look, so that all that
        // came before the end is seen by it.
        let ended = self.shared.ended.load(Ordering::Acquire);
        if self.look() {
            self.shared.reader_asleep.store(false, Ordering::Relaxed);
            return true;
        }
        self.ended = ended;
        false
    }

    /// Counts one whole message as taken. `true` when the writer slept for room and there is enough of it now: the
    /// caller must wake it. As in libzmq, half of the mark must be free (the low-water mark).
    #[inline]
    pub(crate) fn took_message(&mut self, hwm: u64) -> bool {
        self.taken += 1;
        self.shared.taken.store(self.taken, Ordering::Release);
        // A look costs a fence, so it is taken once per low-water mark only: whoever fills a queue up to its mark
        // leaves at least that many messages for the reader to pass it. Counted down, since a division would be a tenth of
        // what a small message costs.
        let low = low_water_mark(hwm);
        self.look_in = self.look_in.min(low) - 1;
        let passed = self.look_in == 0;
        if passed {
            self.look_in = low;
        }
        (passed || self.read == self.published_seen) && self.take_sleeping_writer()
    }

    /// The same in a queue whose mark is not in messages: this one weighed so much.
    pub(crate) fn took_message_of(&mut self, weight: u64, mark: u64) -> bool {
        let low = low_water_mark(mark);
        let before = self.taken / low;
        self.taken = self.taken.wrapping_add(weight);
        self.shared.taken.store(self.taken, Ordering::Release);
        (self.taken / low != before || self.read == self.published_seen) && self.take_sleeping_writer()
    }

    /// `true` when the writer slept for room: the caller must wake it. For a reader that has taken messages and will not
    /// go on to the low-water mark.
    #[cold]
    pub(crate) fn take_sleeping_writer(&self) -> bool {
        fence(Ordering::SeqCst);
        self.shared.writer_asleep.load(Ordering::Relaxed)
            && self.shared.writer_asleep.swap(false, Ordering::AcqRel)
    }

    /// Whether the promise below stands.
    pub(crate) fn is_guarded(&self) -> bool {
        self.shared.guarded.load(Ordering::Relaxed)
    }

    /// Promises the writer that somebody looks here without being told, or takes the promise back. After taking it
    /// back, every thread must pass a full barrier before the last look.
    pub(crate) fn set_guarded(&self, guarded: bool) {
        self.shared.guarded.store(guarded, Ordering::Relaxed);
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        // Values written but never published go with the queue; count them so that they are dropped.
        self.shared.published.store(self.written, Ordering::Release);
        while !self.spares.is_null() {
            // SAFETY: spares taken off the list are the writer's own. Test: Miri reports leaks.
            unsafe {
                let spare = Box::from_raw(self.spares);
                self.spares = spare.spare.load(Ordering::Relaxed);
            }
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // SAFETY: only the reader writes `rest`, and it is read when both ends have gone.
        self.shared.rest.with_mut(|rest| unsafe { *rest = (self.segment, self.at, self.read) });
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let published = self.published.load(Ordering::Acquire);
        // SAFETY: both ends have gone, so all segments are ours; values from `read` to `published` are initialised
        // and were not read. Test: `what_is_left_is_dropped` (counts), Miri.
        unsafe {
            let (mut segment, mut at, mut read) = self.rest.with(|rest| *rest);
            if segment.is_null() {
                (segment, at) = (self.first.load(Ordering::Acquire), 0);
            }
            while !segment.is_null() {
                while read < published && at < SEGMENT {
                    (*segment).values[at].with_mut(|place| (*place).assume_init_drop());
                    (at, read) = (at + 1, read + 1);
                }
                let next = (*segment).next.load(Ordering::Acquire);
                drop(Box::from_raw(segment));
                (segment, at) = (next, 0);
            }
            let mut spare = self.spares.load(Ordering::Acquire);
            while !spare.is_null() {
                let next = (*spare).spare.load(Ordering::Acquire);
                drop(Box::from_raw(spare));
                spare = next;
            }
        }
    }
}

impl<T> std::fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer(written {}, messages {})", self.written, self.messages)
    }
}
impl<T> std::fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader(read {}, messages {})", self.read, self.taken)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_once_and_in_order() {
        let (mut writer, mut reader) = queue();
        for round in 0..200u32 {
            for at in 0..round {
                writer.write(Box::new(round * 1000 + at));
            }
            assert!(reader.read().is_none() && !reader.is_ended());
            assert!(writer.publish(), "the reader sleeps");
            for at in 0..round {
                assert_eq!(reader.read(), Some(Box::new(round * 1000 + at)));
            }
        }
        writer.end();
        assert!(reader.read().is_none() && reader.is_ended());
    }

    #[test]
    fn a_value_can_be_looked_at_and_left_behind() {
        let token = std::sync::Arc::new(());
        let (mut writer, mut reader) = queue();
        assert!(reader.peek().is_none());
        reader.skip();
        for number in 0..200 {
            writer.write((number, token.clone()));
            assert!(reader.peek().is_none(), "not published");
            writer.publish();
            assert_eq!(reader.peek().map(|value| value.0), Some(number));
            assert_eq!(reader.peek().map(|value| value.0), Some(number), "it stays");
            match number % 3 {
                0 => assert_eq!(reader.read().map(|value| value.0), Some(number)),
                1 => reader.skip(),
                _ => assert_eq!(reader.read_awake().map(|value| value.0), Some(number)),
            }
            assert_eq!(std::sync::Arc::strong_count(&token), 1, "dropped once");
        }
        writer.write((200, token.clone()));
        writer.publish();
        assert!(reader.peek().is_some());
        drop((reader, writer));
        assert_eq!(std::sync::Arc::strong_count(&token), 1);
    }

    #[test]
    fn what_is_left_is_dropped() {
        let token = std::sync::Arc::new(());
        for (written, read) in [(0, 0), (1, 0), (100, 0), (100, 40), (100, 64), (100, 100)] {
            let (mut writer, mut reader) = queue();
            (0..written).for_each(|_| writer.write(token.clone()));
            writer.publish();
            (0..read).for_each(|_| assert!(reader.read().is_some()));
            if written % 3 == 0 {
                drop((reader, writer));
            } else {
                drop((writer, reader));
            }
            assert_eq!(std::sync::Arc::strong_count(&token), 1);
        }
    }

    #[test]
    fn room_follows_the_mark_and_the_mark_may_change() {
        let (mut writer, mut reader) = queue();
        for _ in 0..4 {
            assert!(writer.room(4) > 0);
            writer.write(());
            writer.end_message();
        }
        writer.publish();
        assert_eq!((writer.room(4), writer.room(0), writer.room(6)), (0, u64::MAX, 2));
        assert!(writer.sleep(|writer| writer.room(4)));
        assert_eq!(reader.read(), Some(()));
        assert!(!reader.took_message(4), "one of four is below the low-water mark");
        assert_eq!(reader.read(), Some(()));
        assert!(reader.took_message(4));
        assert_eq!(writer.room(4), 2);
    }

    #[test]
    fn room_is_seen_in_steps_of_half_the_mark() {
        let (mut writer, mut reader) = queue();
        let fill = |writer: &mut Writer<()>, mark| {
            for _ in 0..writer.room_in_steps(mark) {
                writer.write(());
                writer.end_message();
            }
            writer.publish();
        };
        fill(&mut writer, 10);
        for (taken, room) in
            [(1, 0), (2, 0), (3, 0), (4, 0), (5, 5), (6, 5), (7, 5), (8, 5), (9, 5), (10, 10)]
        {
            reader.read().unwrap();
            reader.took_message(10);
            assert_eq!(writer.room_in_steps(10), room, "{taken} taken");
        }
        // Whatever the mark becomes, and wherever the reader stands: who waits at an empty queue would wait for ever.
        for mark in [10, 7, 3, 1, 2, 9, 1, 1000, 1] {
            fill(&mut writer, mark);
            while reader.read_awake().is_some() {
                reader.took_message(mark);
            }
            assert!(writer.room_in_steps(mark) > 0, "{mark}");
        }
    }

    #[test]
    fn two_threads_agree_without_losing_a_wake_up() {
        let (mut writer, mut reader) = queue();
        let parker = std::thread::spawn(move || {
            let mut sum = 0u64;
            loop {
                match reader.read() {
                    Some(value) => sum += value,
                    None if reader.is_ended() => return sum,
                    None => std::thread::park(),
                }
            }
        });
        for value in 0..100_000 {
            writer.write(value);
            if writer.publish() {
                parker.thread().unpark();
            }
        }
        writer.end();
        parker.thread().unpark();
        assert_eq!(parker.join().unwrap(), (0..100_000).sum());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    /// A reader that finds nothing sleeps; whoever publishes and sees it asleep wakes it. No value is lost and no
    /// sleeper is forgotten, across a segment boundary.
    #[test]
    fn reader_is_always_woken() {
        loom::model(|| {
            let (mut writer, mut reader) = queue();
            let reading = thread::spawn(move || {
                for want in 0..3 {
                    loop {
                        match reader.read() {
                            Some(value) => {
                                assert_eq!(value, want);
                                break;
                            }
                            None => thread::park(),
                        }
                    }
                }
            });
            for value in 0..3 {
                writer.write(value);
                if writer.publish() {
                    reading.thread().unpark();
                }
            }
            reading.join().unwrap();
        });
    }

    /// The end wakes a reader that sleeps, and comes after everything that was written.
    #[test]
    fn the_end_is_always_heard() {
        loom::model(|| {
            let (mut writer, mut reader) = queue();
            let reading = thread::spawn(move || {
                let mut got = 0;
                loop {
                    match reader.read() {
                        Some(()) => got += 1,
                        None if reader.is_ended() => return got,
                        None => thread::park(),
                    }
                }
            });
            writer.write(());
            if writer.publish() {
                reading.thread().unpark();
            }
            writer.write(());
            if writer.end() {
                reading.thread().unpark();
            }
            assert_eq!(reading.join().unwrap(), 2);
        });
    }

    /// A writer at its mark sleeps; the reader wakes it at the low-water mark.
    #[test]
    fn writer_is_always_woken() {
        loom::model(|| {
            let (mut writer, mut reader) = queue();
            let writing = thread::spawn(move || {
                for value in 0..3 {
                    while writer.room(1) == 0 {
                        if writer.sleep(|writer| writer.room(1)) {
                            thread::park();
                        }
                    }
                    writer.write(value);
                    writer.end_message();
                    writer.publish();
                }
            });
            let mut got = 0;
            while got < 3 {
                match reader.read_awake() {
                    Some(value) => {
                        assert_eq!(value, got);
                        got += 1;
                        if reader.took_message(1) {
                            writing.thread().unpark();
                        }
                    }
                    None => thread::yield_now(),
                }
            }
            writing.join().unwrap();
        });
    }

    /// What is never read is dropped with the queue, whichever end goes first.
    #[test]
    fn ends_go_in_any_order() {
        loom::model(|| {
            let (mut writer, mut reader) = queue();
            let reading = thread::spawn(move || drop(reader.read_awake()));
            for value in 0..3 {
                writer.write(Box::new(value));
                writer.publish();
            }
            drop(writer);
            reading.join().unwrap();
        });
    }

    /// As a pump does it: looks and leaves behind, or reads and sleeps.
    #[test]
    fn a_reader_that_looks_is_always_woken() {
        loom::model(|| {
            let (mut writer, mut reader) = queue::<Box<i32>>();
            let reading = thread::spawn(move || {
                let mut want = 0;
                while want < 3 {
                    if let Some(value) = reader.peek() {
                        assert_eq!(**value, want);
                        if want == 1 {
                            assert_eq!(*reader.read().unwrap(), want);
                        } else {
                            reader.skip();
                        }
                        want += 1;
                    } else if let Some(value) = reader.read() {
                        assert_eq!(*value, want);
                        want += 1;
                    } else {
                        thread::park();
                    }
                }
            });
            for value in 0..3 {
                writer.write(Box::new(value));
                if writer.publish() {
                    reading.thread().unpark();
                }
            }
            reading.join().unwrap();
        });
    }
}
