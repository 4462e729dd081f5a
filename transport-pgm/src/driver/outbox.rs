//! Parts on their way into packets: what was posted to a source's link and is not packed. Whole messages come back from it.

use std::cell::Cell;
use std::collections::VecDeque;

use transport_core::limits::COMMANDS_MAX;
use transport_core::{Completion, LinkId, Part, Refused, RefusedReason};

use crate::framing::Encoder;
use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_PART_EXPECTED, OUTBOX_PARTS_MAX};
use crate::source::Payload;

/// Feeds a source.
#[derive(Debug)]
pub(super) struct Outbox {
    parts: VecDeque<Part>,
    commands: usize,
    /// Of the parts that wait.
    bytes: usize,
    /// The length that is expected of the next part: the longest of late.
    expected: usize,
    /// Parts that were promised room, and have not come.
    promised: Cell<usize>,
    /// The last part that was taken out has others behind it.
    inside: bool,
    encoder: Encoder,
    /// Somebody is owed a Writable.
    starved: Cell<bool>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let parts = VecDeque::with_capacity(OUTBOX_PARTS_MAX + COMMANDS_MAX);
        Self {
            parts,
            commands: 0,
            bytes: 0,
            expected: OUTBOX_PART_EXPECTED,
            promised: Cell::new(0),
            inside: false,
            encoder: Encoder::new(),
            starved: Cell::new(false),
        }
    }

    /// Parts that there is room for if they are no longer than others of late. At least one while there is room for a byte.
    fn free(&self) -> usize {
        let parts = OUTBOX_PARTS_MAX.saturating_sub(self.parts.len() - self.commands);
        match OUTBOX_BYTES_MAX.checked_sub(self.bytes) {
            None | Some(0) => 0,
            Some(bytes) => (bytes / self.expected).max(1).min(parts),
        }
    }

    /// Promises room for so many parts, however long they are.
    pub(super) fn room(&self) -> usize {
        let free = self.free();
        self.promised.set(free);
        if free == 0 {
            self.starved.set(true);
        }
        free
    }

    pub(super) fn post(&mut self, part: Part) -> Result<(), Refused> {
        let (command, promised) = (part.flags.command(), self.promised.get());
        let full = if command { self.commands == COMMANDS_MAX } else { promised == 0 && self.free() == 0 };
        if full {
            self.starved.set(true);
            return Err(Refused { part, reason: RefusedReason::Full });
        }
        if command {
            self.commands += 1;
        } else {
            self.promised.set(promised.saturating_sub(1));
            self.expected = part.body.len().max(self.expected - self.expected / 8).max(1);
        }
        self.bytes += part.body.len();
        self.parts.push_back(part);
        if self.promised.get() == 0 && self.free() == 0 {
            self.starved.set(true);
        }
        Ok(())
    }

    /// Whether a Writable is owed and can be said. Then it is not owed any more.
    pub(super) fn settle_writable(&mut self) -> bool {
        let settled = self.starved.get() && self.free() > 0;
        if settled {
            self.starved.set(false);
        }
        settled
    }

    /// Parts of which nobody reads the memory any more.
    pub(super) fn finished(&self) -> u64 {
        self.encoder.finished()
    }

    /// Bytes that were copied into packets.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.encoder.copied_bytes()
    }

    /// Gives back the messages of which no byte was packed.
    pub(super) fn give_back(&mut self, link: LinkId, news: &mut VecDeque<Completion>) {
        while self.inside
            && let Some(part) = self.parts.pop_front()
        {
            self.inside = part.flags.more() || part.flags.command();
        }
        // What has no end is left out.
        let whole = self.parts.iter().rposition(|part| !part.flags.more() && !part.flags.command());
        let whole = whole.map_or(0, |last| last + 1);
        let parts = self.parts.drain(..whole).filter(|part| !part.flags.command());
        news.extend(parts.map(|part| Completion::Returned { link, part }));
        self.parts.clear();
        (self.commands, self.bytes) = (0, 0);
    }
}

impl Payload for Outbox {
    fn is_waiting(&self) -> bool {
        !self.parts.is_empty() || self.encoder.is_inside_a_part()
    }

    fn fill(&mut self, tsdu: &mut [u8]) -> usize {
        let Self { parts, commands, bytes, inside, encoder, .. } = self;
        encoder.fill(tsdu, || {
            let part = parts.pop_front()?;
            *bytes -= part.body.len();
            if part.flags.command() {
                *commands -= 1;
            } else {
                *inside = part.flags.more();
            }
            Some(part)
        })
    }
}

#[cfg(test)]
mod tests {
    use transport_core::SlabKey;

    use super::*;

    #[test]
    fn room_is_counted_in_parts_and_a_writable_follows_a_full_outbox_once() {
        let mut outbox = Outbox::new();
        while outbox.room() > 0 {
            outbox.post(Part::last("message")).expect("there is room");
        }
        assert_eq!(outbox.post(Part::last("late")).expect_err("full").reason, RefusedReason::Full);
        outbox.post(Part::command("passes")).expect("commands have room of their own");
        assert!(!outbox.settle_writable());
        assert!(outbox.fill(&mut [0; 100]) > 0);
        assert!(outbox.settle_writable());
        assert!(!outbox.settle_writable(), "one refusal, one Writable");
    }

    #[test]
    fn few_long_parts_wait_and_many_short_ones() {
        let fill = |outbox: &mut Outbox, len: usize| {
            while outbox.room() > 0 {
                // All of what was promised, as the engine does.
                for _ in 0..outbox.room() {
                    outbox.post(Part::last(vec![7; len])).expect("room was promised");
                }
            }
            outbox.parts.len()
        };
        let mut outbox = Outbox::new();
        assert_eq!(fill(&mut outbox, 100), OUTBOX_PARTS_MAX);
        // The first promise is of parts as long as expected; there is one promise more, for one part.
        let mut outbox = Outbox::new();
        assert!(fill(&mut outbox, 2 << 20) <= OUTBOX_BYTES_MAX / OUTBOX_PART_EXPECTED);
        while outbox.fill(&mut [0; 1400]) > 0 {}
        assert_eq!((outbox.bytes, outbox.room()), (0, 1), "it has learned how long they are");
    }

    #[test]
    fn what_comes_back_is_whole_and_no_byte_of_it_was_packed() {
        let mut outbox = Outbox::new();
        for body in [[1u8; 40], [2; 40], [3; 40]] {
            outbox.post(Part::more(&body[..])).expect("there is room");
            outbox.post(Part::last(&body[..])).expect("there is room");
        }
        outbox.post(Part::more("has no end")).expect("there is room");
        // The first message and a piece of the second one's first part.
        assert_eq!(outbox.fill(&mut [0; 100]), 100);
        let mut news = VecDeque::new();
        outbox.give_back(LinkId::from(SlabKey::from_u64(1 << 32)), &mut news);
        let bodies = news.into_iter().map(|said| match said {
            Completion::Returned { part, .. } => part.body[0],
            other => panic!("{other:?}"),
        });
        assert_eq!(bodies.collect::<Vec<_>>(), [3, 3]);
        assert_eq!(outbox.finished(), 2);
    }
}
