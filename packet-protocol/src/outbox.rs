//! The parts of one link that wait to be packed: how many more are taken, when to say that there is room, and what goes
//! back when the link ends. Knows no packets.

use std::cell::Cell;
use std::collections::VecDeque;

use transport_core::limits::COMMANDS_MAX;
use transport_core::{Flags, Part};

use crate::limits::{QUEUE_BYTES_MAX, QUEUE_KEEP, QUEUE_PARTS_MAX};
use crate::stock::Stock;

/// The parts that wait.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    parts: VecDeque<Part>,
    bytes: usize,
    commands: usize,
    /// Parts that were ever taken out.
    taken: u64,
    /// The device has seen the beginning of the message whose rest is at the front.
    torn: bool,
    /// What is left of what `room` promised.
    promised: Cell<usize>,
    /// There was no room, and somebody waits for a word.
    wanted: Cell<bool>,
}

impl Outbox {
    fn waiting(&self) -> usize {
        // The first commands have room of their own; what a flood has beyond that counts as parts.
        self.parts.len() - self.commands.min(COMMANDS_MAX)
    }

    fn is_full(&self) -> bool {
        self.bytes >= QUEUE_BYTES_MAX || self.waiting() >= QUEUE_PARTS_MAX
    }

    /// How many more parts are taken at once. A promise, whatever the parts weigh, until it is asked again. Who hears 0
    /// hears it until half of what waits has gone, and is told then: so nobody comes back for one part.
    pub(crate) fn room(&self) -> usize {
        if self.is_full() || (self.wanted.get() && !self.owes_writable()) {
            self.wanted.set(true);
            self.promised.set(0);
            return 0;
        }
        let room = QUEUE_PARTS_MAX - self.waiting();
        self.promised.set(room);
        room
    }

    /// What is left of that promise; where nothing is, as if asked again.
    pub(crate) fn room_left(&self) -> usize {
        match self.promised.get() {
            0 => self.room(),
            left => left,
        }
    }

    /// Whether a caller that found no room should be told that there is some.
    pub(crate) fn owes_writable(&self) -> bool {
        self.wanted.get()
            && self.bytes < QUEUE_BYTES_MAX / 2
            && self.waiting() < QUEUE_PARTS_MAX / 2
            && self.commands < COMMANDS_MAX
    }

    pub(crate) fn writable_said(&self) {
        self.wanted.set(false);
    }

    /// Whether a part with these flags is taken.
    #[inline]
    pub(crate) fn takes(&self, flags: Flags) -> bool {
        self.promised.get() > 0 || (flags.command() && self.commands < COMMANDS_MAX) || self.room() > 0
    }

    /// Takes a part. Ask [`Outbox::takes`] first.
    #[inline]
    pub(crate) fn push(&mut self, stock: &mut Stock, part: Part) {
        if self.parts.len() == self.parts.capacity() && self.parts.len() >= QUEUE_KEEP {
            stock.enlarge(&mut self.parts);
        }
        if part.flags.command() {
            self.commands += 1;
        } else {
            self.promised.set(self.promised.get().saturating_sub(1));
        }
        self.bytes += part.body.len();
        self.parts.push_back(part);
        if self.promised.get() == 0 && self.is_full() {
            self.wanted.set(true);
        }
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&Part> {
        self.parts.front()
    }

    /// Takes the first part out: the device has seen it from now on.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Part> {
        let part = self.parts.pop_front()?;
        self.count(part.body.len(), part.flags);
        Some(part)
    }

    #[inline]
    fn count(&mut self, len: usize, flags: Flags) {
        self.bytes -= len;
        self.taken += 1;
        if flags.command() {
            self.commands -= 1;
        } else {
            self.torn = flags.more();
        }
    }

    /// Takes the first part out if `f` does, which gives it back otherwise.
    pub(crate) fn take_if<R>(&mut self, f: impl FnOnce(Part) -> Result<R, Part>) -> Option<R> {
        let part = self.parts.pop_front()?;
        let (len, flags) = (part.body.len(), part.flags);
        match f(part) {
            Ok(result) => {
                self.count(len, flags);
                Some(result)
            }
            Err(part) => {
                self.parts.push_front(part);
                None
            }
        }
    }

    /// Gives back memory that an empty queue does not need.
    pub(crate) fn settle(&mut self, stock: &mut Stock) {
        if self.parts.is_empty() && self.parts.capacity() >= QUEUE_PARTS_MAX {
            stock.reduce(&mut self.parts);
        }
    }

    /// How many parts have ever been taken out.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Hands over the parts of every whole message that the device never saw, in order, and drops the rest. Commands
    /// belong to the link and go with it; so does a message that was still being posted.
    pub(crate) fn give_back(&mut self, mut give: impl FnMut(Part)) {
        let whole = self.parts.iter().rposition(|part| !part.flags.command() && !part.flags.more());
        for (at, part) in self.parts.drain(..).enumerate() {
            if part.flags.command() {
                continue;
            }
            if self.torn {
                self.torn = part.flags.more();
            } else if whole.is_some_and(|last| at <= last) {
                give(part);
            }
        }
        (self.bytes, self.commands) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transport_core::{Frame, FramePool};

    fn stock() -> Stock {
        Stock::new(FramePool::new(0))
    }

    #[test]
    fn room_is_a_promise_and_who_hears_zero_hears_of_half() {
        let (mut stock, mut outbox) = (stock(), Outbox::default());
        let room = outbox.room();
        assert_eq!(room, QUEUE_PARTS_MAX);
        let heavy = Frame::from(vec![0; 4096]);
        for _ in 0..room {
            assert!(outbox.takes(Flags::LAST), "promised, whatever they weigh");
            outbox.push(&mut stock, Part::last(heavy.clone()));
        }
        assert!(!outbox.takes(Flags::LAST) && outbox.takes(Flags::COMMAND));
        for _ in 0..COMMANDS_MAX {
            outbox.push(&mut stock, Part::command("x"));
        }
        assert!(!outbox.takes(Flags::COMMAND));
        while !outbox.owes_writable() {
            assert_eq!(outbox.room(), 0);
            outbox.take().unwrap();
        }
        assert!(outbox.room() >= QUEUE_PARTS_MAX / 2 - 1);
        outbox.writable_said();
        assert!(!outbox.owes_writable());
    }

    #[test]
    fn a_post_that_leaves_no_room_is_owed_a_word_though_nobody_asked() {
        let (mut stock, mut outbox) = (stock(), Outbox::default());
        outbox.push(&mut stock, Part::last(vec![0; QUEUE_BYTES_MAX]));
        assert!(!outbox.owes_writable());
        outbox.take();
        assert!(outbox.owes_writable());
    }

    #[test]
    fn whole_unseen_messages_go_back_and_nothing_else() {
        let (mut stock, mut outbox) = (stock(), Outbox::default());
        for part in [
            Part::more("seen"),
            Part::last("its rest"),
            Part::command("of the link"),
            Part::more("a"),
            Part::last("b"),
            Part::last("c"),
            Part::more("unfinished"),
        ] {
            outbox.push(&mut stock, part);
        }
        outbox.take();
        let mut back = Vec::new();
        outbox.give_back(|part| back.push(part.body));
        assert_eq!(back, [Frame::from("a"), Frame::from("b"), Frame::from("c")]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_queue_that_was_long_once_keeps_no_memory() {
        let (mut stock, mut outbox) = (stock(), Outbox::default());
        for _ in 0..3 {
            for _ in 0..500 {
                outbox.push(&mut stock, Part::last("x"));
            }
            while outbox.take().is_some() {}
            outbox.settle(&mut stock);
            assert!(outbox.parts.capacity() < 2 * QUEUE_KEEP);
        }
    }
}
