//! Parts on their way into packets: what was posted to a source's link and is not packed. Whole messages come back from it.

use std::collections::VecDeque;

use transport_core::limits::COMMANDS_MAX;
use transport_core::{Completion, LinkId, Part, Refused, RefusedReason};

use crate::framing::Encoder;
use crate::limits::OUTBOX_PARTS_MAX;
use crate::source::Payload;

/// Feeds a source.
#[derive(Debug)]
pub(super) struct Outbox {
    parts: VecDeque<Part>,
    commands: usize,
    /// The last part that was taken out has others behind it.
    inside: bool,
    encoder: Encoder,
    /// Somebody is owed a Writable.
    starved: bool,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let parts = VecDeque::with_capacity(OUTBOX_PARTS_MAX + COMMANDS_MAX);
        Self { parts, commands: 0, inside: false, encoder: Encoder::new(), starved: false }
    }

    pub(super) fn room(&self) -> usize {
        OUTBOX_PARTS_MAX.saturating_sub(self.parts.len() - self.commands)
    }

    pub(super) fn post(&mut self, part: Part) -> Result<(), Refused> {
        let command = part.flags.command();
        if if command { self.commands == COMMANDS_MAX } else { self.room() == 0 } {
            return Err(Refused { part, reason: RefusedReason::Full });
        }
        self.commands += usize::from(command);
        self.parts.push_back(part);
        self.starved |= self.room() == 0;
        Ok(())
    }

    /// Whether a Writable is owed and can be said. Then it is not owed any more.
    pub(super) fn settle_writable(&mut self) -> bool {
        let settled = self.starved && self.room() > 0;
        self.starved &= !settled;
        settled
    }

    /// Parts of which nobody reads the memory any more.
    pub(super) fn finished(&self) -> u64 {
        self.encoder.finished()
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
        self.commands = 0;
    }
}

impl Payload for Outbox {
    fn is_waiting(&self) -> bool {
        !self.parts.is_empty() || self.encoder.is_inside_a_part()
    }

    fn fill(&mut self, tsdu: &mut [u8]) -> usize {
        let Self { parts, commands, inside, encoder, .. } = self;
        encoder.fill(tsdu, || {
            let part = parts.pop_front()?;
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
