//! Numbered messages, and a follower that checks what arrives of them: order, wholeness, and gaps that say the truth.

use transport_core::{Loss, Part};

use crate::world::{End, Event, World, body, seq_of};

/// Message `seq` of `parts` parts (at most 255) of `len` bytes each (at least 8).
pub(super) fn message(seq: u64, parts: u64, len: usize) -> Vec<Part> {
    let part = |at| {
        let body = body(seq << 16 | parts << 8 | at, len);
        if at + 1 == parts { Part::last(body) } else { Part::more(body) }
    };
    (0..parts).map(part).collect()
}

/// The message number in a part that [`message`] made.
pub(super) fn message_of(part: &Part) -> u64 {
    seq_of(&part.body) >> 16
}

/// Checks one sender's messages as they arrive.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The message expected next, if nothing is missing.
    pub(super) next: u64,
    /// Whole messages that arrived.
    pub(super) whole: u64,
    /// Commands that arrived.
    pub(super) commands: u64,
    /// The parts of a message that have arrived while its last is missing.
    pub(super) inside: u64,
    /// Messages said to be dropped, in all.
    pub(super) dropped: u64,
    gap: Option<Missing>,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    messages: u64,
    packets: bool,
}

impl Follower {
    /// Expects message `next` first.
    pub(super) fn from(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    pub(super) fn all(&mut self, events: Vec<Event>) {
        events.into_iter().for_each(|event| self.one(event));
    }

    pub(super) fn one(&mut self, event: Event) {
        let part = match event {
            Event::Gap(lost) => {
                assert_eq!(self.inside, 0, "a gap inside message {}", self.next);
                let gap = self.gap.get_or_insert(Missing { messages: 0, packets: false });
                match lost {
                    Loss::Messages(count) => {
                        gap.messages += count;
                        self.dropped += count;
                    }
                    Loss::Packets(_) => gap.packets = true,
                }
                return;
            }
            Event::Part(part) => part,
        };
        if part.flags.command() {
            self.commands += 1;
            return;
        }
        let number = seq_of(&part.body);
        let (seq, parts, at) = (number >> 16, number >> 8 & 0xff, number & 0xff);
        assert_eq!(part.flags.more(), at + 1 < parts, "message {seq}: wrong flags on part {at} of {parts}");
        assert_eq!(at, self.inside, "message {seq}: another part was expected (next message {})", self.next);
        if at == 0 {
            assert!(seq >= self.next, "message {seq} came again, or late: {} was expected", self.next);
            let missing = seq - self.next;
            match self.gap.take() {
                None => {
                    assert_eq!(missing, 0, "{missing} messages are missing before {seq}, and no Gap says so")
                }
                // A packet may hold many messages, one piece of one, or no message at all.
                Some(gap) if gap.packets => {
                    assert!(
                        missing >= gap.messages,
                        "fewer are missing before {seq} than the Gap says: {gap:?}"
                    );
                }
                Some(gap) => assert_eq!(missing, gap.messages, "the Gap before {seq} says another number"),
            }
        } else {
            assert_eq!(seq, self.next, "a part of message {seq} inside message {}", self.next);
        }
        self.next = seq;
        self.inside = at + 1;
        if self.inside == parts {
            (self.next, self.inside) = (seq + 1, 0);
            self.whole += 1;
        }
    }
}

/// Runs the world and lets `follower` see what arrives at `to`, until `done`.
pub(super) fn follow_until(
    world: &mut World,
    to: End,
    follower: &mut Follower,
    done: impl Fn(&Follower) -> bool,
) {
    loop {
        follower.all(world.take_events(to));
        if done(follower) {
            return;
        }
        world.run_until("more to arrive", |world| !world.link(to).inbox.is_empty());
    }
}
