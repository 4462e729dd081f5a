//! Parts that this side fetches by READ: what was announced, what is under way, what is finished
//! (docs/spec/packet-protocol.md, section "Rendezvous"). Posts nothing itself.

use std::collections::VecDeque;

use transport_core::{Flags, FrameMut, Target};

use crate::error::PacketError;
use crate::stock::Stock;

/// Names a READ until it is done; small numbers, used again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReadId(u32);

impl ReadId {
    /// For a work request's id.
    pub const fn to_u32(self) -> u32 {
        self.0
    }
    /// The opposite of [`ReadId::to_u32`].
    pub const fn from_u32(word: u32) -> Self {
        Self(word)
    }
}

/// A READ to post: `len` bytes at the peer's `address` under its `key`, to `offset` of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<T> {
    /// Comes back with [`crate::Machine::read_done`].
    pub id: ReadId,
    /// What the driver called the part's memory when it was lent.
    pub target: T,
    /// Where the bytes lie at the peer's.
    pub address: u64,
    /// What the peer registered them under.
    pub key: u64,
    /// Where they belong in the target.
    pub offset: usize,
    /// How many they are.
    pub len: usize,
}

/// Where a part's bytes go.
#[derive(Debug)]
enum Place<T> {
    /// Not granted yet.
    None,
    /// With the driver, for READs to land in; and what [`Stock`] lent on trust.
    Lent(T, usize),
    /// All there, or as much as ever will be.
    Home(FrameMut),
}

#[derive(Debug)]
struct Transfer<T> {
    flags: Flags,
    len: usize,
    address: u64,
    key: u64,
    /// Parts before it, of all that ever came; commands do not count.
    index: u64,
    asked: usize,
    /// READs that the device has.
    under_way: u32,
    place: Place<T>,
    /// Nobody wants it any more.
    abandoned: bool,
}

impl<T> Transfer<T> {
    fn is_finished(&self) -> bool {
        self.under_way == 0 && (self.asked == self.len || self.abandoned)
    }
}

/// The transfers of one link, numbered in the order in which they were announced.
#[derive(Debug)]
pub(crate) struct Transfers<T> {
    queue: VecDeque<Transfer<T>>,
    /// The number of the first in the queue, of the first with bytes that were not asked for, and of the first that is
    /// not finished.
    first: u32,
    asking: u32,
    finished: u32,
    /// What the peer knows of `finished`.
    told: u32,
    /// Of each READ that the device has, the transfer; by its id.
    reads: Vec<Option<u32>>,
    under_way: usize,
    chunk: usize,
}

impl<T: Copy> Transfers<T> {
    pub(crate) fn new(start: u32, chunk: usize) -> Self {
        let (queue, reads) = (VecDeque::new(), Vec::new());
        let (first, asking, finished, told) = (start, start, start, start);
        Self { queue, first, asking, finished, told, reads, under_way: 0, chunk: chunk.max(1) }
    }

    /// Announced ones that the peer does not know to be finished.
    pub(crate) fn open(&self) -> usize {
        let end = self.first.wrapping_add(self.queue.len() as u32);
        end.wrapping_sub(self.told) as usize
    }

    /// Takes note of one; takes no memory for it.
    pub(crate) fn announce(
        &mut self,
        flags: Flags,
        len: usize,
        address: u64,
        key: u64,
        index: u64,
    ) -> Result<(), PacketError> {
        if len == 0 || address.checked_add(len as u64).is_none() {
            return Err(PacketError::Transfer(len as u64));
        }
        let (asked, under_way, place, abandoned) = (0, 0, Place::None, false);
        self.queue.push_back(Transfer {
            flags,
            len,
            address,
            key,
            index,
            asked,
            under_way,
            place,
            abandoned,
        });
        Ok(())
    }

    fn find(&mut self, number: u32) -> Option<&mut Transfer<T>> {
        self.queue.get_mut(number.wrapping_sub(self.first) as usize)
    }

    /// The next READ, if fewer than `depth` are under way and its part is among the first `covered` that ever come, or a
    /// command behind those. This is where memory is taken. An error says that there is none.
    pub(crate) fn poll(
        &mut self,
        stock: &mut Stock,
        covered: u64,
        depth: usize,
        lend: impl FnOnce(FrameMut) -> T,
    ) -> Result<Option<Read<T>>, OutOfMemory> {
        if self.under_way >= depth {
            return Ok(None);
        }
        while self.find(self.asking).is_some_and(|it| it.asked == it.len || it.abandoned) {
            self.asking = self.asking.wrapping_add(1);
        }
        let (number, chunk) = (self.asking, self.chunk);
        // A command needs no grant, but those before it do: read sooner it would only take memory.
        let is_due =
            |it: &&mut Transfer<T>| it.index < covered || (it.flags.command() && it.index == covered);
        let Some(it) = self.find(number).filter(is_due) else {
            return Ok(None);
        };
        let target = match &it.place {
            Place::Lent(target, _) => *target,
            _ => {
                let Target { mut frame, ahead } = stock.landing.target(it.len).ok_or(OutOfMemory)?;
                // Only what READs are under way for is ever committed, so large pages cost a claim nothing.
                frame.expect_all();
                let target = lend(frame);
                it.place = Place::Lent(target, ahead);
                target
            }
        };
        let (offset, len) = (it.asked, chunk.min(it.len - it.asked));
        it.asked += len;
        it.under_way += 1;
        let (address, key) = (it.address + offset as u64, it.key);
        self.under_way += 1;
        let id = match self.reads.iter().position(Option::is_none) {
            Some(vacant) => vacant,
            None => {
                self.reads.push(None);
                self.reads.len() - 1
            }
        };
        self.reads[id] = Some(number);
        Ok(Some(Read { id: ReadId(id as u32), target, address, key, offset, len }))
    }

    /// The device is done with a READ. If it is done with all of the part's, `reclaim` gives back what was lent; an error
    /// says that it did not.
    pub(crate) fn done(
        &mut self,
        stock: &mut Stock,
        id: ReadId,
        reclaim: impl FnOnce(T) -> Option<FrameMut>,
    ) -> Result<(), OutOfMemory> {
        let number = self.reads.get_mut(id.0 as usize).and_then(Option::take);
        let Some(it) = number.and_then(|number| self.find(number)) else { return Ok(()) };
        it.under_way -= 1;
        let mut result = Ok(());
        if it.is_finished()
            && let Place::Lent(target, ahead) = it.place
        {
            it.place = match reclaim(target) {
                Some(frame) => Place::Home(frame),
                None => {
                    result = Err(OutOfMemory);
                    Place::None
                }
            };
            stock.landing.settle(ahead);
        }
        self.under_way -= 1;
        self.advance();
        result
    }

    fn advance(&mut self) {
        while self.find(self.finished).is_some_and(|it| it.is_finished()) {
            self.finished = self.finished.wrapping_add(1);
        }
        // Those that nobody wants are gone as soon as they are finished.
        while self.queue.front().is_some_and(|it| it.abandoned && it.is_finished()) {
            self.take();
        }
    }

    /// Whether the first one is there.
    pub(crate) fn first_is_there(&self) -> bool {
        self.queue.front().is_some_and(|it| matches!(it.place, Place::Home(_)))
    }

    /// Takes the first one out. Ask [`Transfers::first_is_there`] before.
    pub(crate) fn take(&mut self) -> Option<FrameMut> {
        let it = self.queue.pop_front()?;
        let (gone, next) = (self.first, self.first.wrapping_add(1));
        self.first = next;
        if self.asking == gone {
            self.asking = next;
        }
        match it.place {
            Place::Home(frame) => Some(frame),
            _ => None,
        }
    }

    /// Nobody wants any of them. The peer hears that they are finished once the device is done with them.
    pub(crate) fn abandon(&mut self) {
        self.queue.iter_mut().for_each(|it| it.abandoned = true);
        self.advance();
    }

    /// Whether the peer should hear of what is finished.
    pub(crate) fn is_due(&self) -> bool {
        self.finished != self.told
    }

    /// What the peer is to be told in every packet.
    pub(crate) fn tell(&mut self) -> u32 {
        self.told = self.finished;
        self.told
    }

    /// READs that the device has.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// The device has nothing any more, and what was lent to it is the driver's to drop.
    pub(crate) fn bury(&mut self, stock: &mut Stock) {
        for it in self.queue.drain(..) {
            if let Place::Lent(_, ahead) = it.place {
                stock.landing.settle(ahead);
            }
        }
        self.reads.clear();
        self.under_way = 0;
    }
}

/// There is no memory for a part, or it was lent and does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfMemory;
