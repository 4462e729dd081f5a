//! Pipes for the patterns' tests: plain queues that hold the pattern to the contract of `Pipes`. Not for production.

use std::collections::{BTreeMap, VecDeque};

use transport_core::{Flags, Frame, Part};

use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;
use crate::socket_type::SocketType;

pub(super) fn pipe(number: u64) -> PipeId {
    PipeId(number)
}

pub(super) fn message(parts: &[&str]) -> Message {
    Message::from_parts(parts.iter().copied()).unwrap()
}

/// A peer with this routing id; the type matters to no pattern.
pub(super) fn peer(routing_id: impl Into<Frame>) -> Peer {
    Peer { socket_type: SocketType::Dealer, routing_id: routing_id.into(), metadata: Vec::new() }
}

/// What `send` did not take, and why.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) message: Message,
    pub(super) why: NotSent,
}

/// Messages by value, for tests.
pub(super) trait ByValue: Behaviour {
    fn give(&mut self, pipes: &mut TestPipes, mut message: Message) -> Result<(), Refused> {
        match self.send(pipes, &mut message) {
            Ok(()) => {
                assert_eq!(message, Message::EMPTY, "taken");
                Ok(())
            }
            Err(why) => Err(Refused { message, why }),
        }
    }

    fn take(&mut self, pipes: &mut TestPipes) -> Result<Message, NotReceived> {
        let mut message = Message::EMPTY;
        self.recv(pipes, &mut message).map(|()| message)
    }
}

impl<B: Behaviour> ByValue for B {}

/// Sends one message, which must be taken.
pub(super) fn send(pattern: &mut impl Behaviour, pipes: &mut TestPipes, parts: &[&str]) {
    pattern.give(pipes, message(parts)).unwrap();
}

/// The parts of the next message, as text.
pub(super) fn recv(pattern: &mut impl Behaviour, pipes: &mut TestPipes) -> Option<Vec<String>> {
    let message = pattern.take(pipes).ok()?;
    Some(message.parts().map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}

#[derive(Debug)]
struct TestPipe {
    arrived: VecDeque<Part>,
    written: Vec<Part>,
    /// Whole messages that fit.
    room: usize,
    /// `can_write` was true since the last message, so that one may be written.
    allowed: bool,
    /// Within a message that is being written.
    within: bool,
}

impl Default for TestPipe {
    fn default() -> Self {
        Self { arrived: VecDeque::new(), written: Vec::new(), room: 1_000, allowed: false, within: false }
    }
}

/// Pipes that exist as soon as they are named.
#[derive(Debug, Default)]
pub(super) struct TestPipes {
    pipes: BTreeMap<PipeId, TestPipe>,
    pub(super) rejected: Vec<u64>,
    pub(super) finished: Vec<u64>,
    /// How often `read` and `can_write` were called.
    pub(super) asked: usize,
    /// Writes without `can_write` are in order (the queueing's own tests).
    lenient: bool,
}

impl TestPipes {
    pub(super) fn new() -> Self {
        Self { lenient: true, ..Self::default() }
    }

    /// Pipes that insist on `can_write` before each message.
    pub(super) fn strict() -> Self {
        Self::default()
    }

    fn at(&mut self, number: u64) -> &mut TestPipe {
        self.pipes.entry(PipeId(number)).or_default()
    }

    pub(super) fn arrive_part(&mut self, number: u64, part: Part) {
        self.at(number).arrived.push_back(part);
    }

    /// A whole message arrives. The pattern is not told.
    pub(super) fn arrive(&mut self, number: u64, parts: &[&str]) {
        for (at, part) in parts.iter().enumerate() {
            let flags = if at + 1 < parts.len() { Flags::MORE } else { Flags::LAST };
            self.arrive_part(number, Part { body: (*part).into(), flags });
        }
    }

    /// A whole message arrives, and the pattern is told.
    pub(super) fn deliver(&mut self, pattern: &mut impl Behaviour, number: u64, parts: &[&str]) {
        self.arrive(number, parts);
        pattern.readable(PipeId(number));
    }

    pub(super) fn has_in(&mut self, number: u64) -> bool {
        !self.at(number).arrived.is_empty()
    }

    pub(super) fn room(&mut self, number: u64, messages: usize) {
        self.at(number).room = messages;
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.pipes.remove(&PipeId(number));
    }

    /// Takes the whole messages that were written to a pipe.
    pub(super) fn sent(&mut self, number: u64) -> Vec<Message> {
        let pipe = self.at(number);
        assert!(!pipe.within, "half a message");
        let mut messages = Vec::new();
        let mut parts = Vec::new();
        for part in pipe.written.drain(..).filter(|part| !part.flags.command()) {
            let more = part.flags.more();
            parts.push(part.body);
            if !more {
                messages.extend(Message::from_parts(std::mem::take(&mut parts)));
            }
        }
        messages
    }

    /// Takes the commands that were written to a pipe, sorted.
    pub(super) fn commands(&mut self, number: u64) -> Vec<String> {
        let written = std::mem::take(&mut self.at(number).written);
        assert!(written.iter().all(|part| part.flags.command()));
        let mut commands: Vec<_> = written.iter().map(|part| part.body.escape_ascii().to_string()).collect();
        commands.sort();
        commands
    }
}

impl Pipes for TestPipes {
    fn can_write(&mut self, pipe: PipeId) -> bool {
        self.asked += 1;
        let pipe = self.at(pipe.0);
        assert!(!pipe.within, "asked within a message");
        pipe.allowed = pipe.room > 0;
        pipe.allowed
    }

    fn write(&mut self, pipe: PipeId, part: Part) {
        let lenient = self.lenient;
        let pipe = self.at(pipe.0);
        if part.flags.command() {
            assert!(!pipe.within, "a command within a message");
        } else {
            if !pipe.within {
                assert!(lenient || pipe.allowed, "written without room");
                pipe.room = pipe.room.saturating_sub(1);
                pipe.allowed = false;
            }
            pipe.within = part.flags.more();
        }
        pipe.written.push(part);
    }

    fn read(&mut self, pipe: PipeId) -> Option<Part> {
        self.asked += 1;
        self.at(pipe.0).arrived.pop_front()
    }

    fn reject(&mut self, pipe: PipeId) {
        self.rejected.push(pipe.0);
    }

    fn finish(&mut self, pipe: PipeId) {
        self.finished.push(pipe.0);
    }
}

/// Numbers that a seed repeats.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}
