//! RADIO: a copy of each message to every peer that joined its group. Whom it finds and what it drops is `publish.rs`'s; a group
//! is the whole first part, where a topic is its beginning.

use transport_core::Frame;

use super::publish::Publish;
use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes};
use crate::limits::GROUP_MAX;
use crate::message::Message;
use crate::session::Peer;

/// A group as a topic: behind its length no group is the beginning of another.
#[derive(Debug)]
struct Key {
    bytes: [u8; 1 + GROUP_MAX],
    len: usize,
}

impl Key {
    /// `None`: too long for a group.
    fn of(group: &[u8]) -> Option<Self> {
        let mut bytes = [0; 1 + GROUP_MAX];
        bytes[0] = u8::try_from(group.len()).ok()?;
        bytes[1..=group.len()].copy_from_slice(group);
        Some(Self { bytes, len: 1 + group.len() })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Radio(Publish);

impl Behaviour for Radio {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        self.0.attached(pipes, pipe, peer);
    }

    fn write_closed<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.0.write_closed(pipes, pipe);
    }

    fn detached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.0.detached(pipes, pipe);
    }

    fn readable(&mut self, _: PipeId) {}

    fn writable(&mut self, _: PipeId) {}

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        let key = message.part(0).filter(|_| message.len() == 2).and_then(|group| Key::of(group));
        self.0.send_to(pipes, message, key.ok_or(NotSent::NoGroup)?.as_bytes());
        Ok(())
    }

    fn recv<P: Pipes>(&mut self, _: &mut P, _: &mut Message) -> Result<(), NotReceived> {
        Err(NotReceived::NotSupported)
    }

    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        true
    }

    fn can_recv<P: Pipes>(&mut self, _: &mut P) -> bool {
        false
    }

    fn peer_subscribed(&mut self, pipe: PipeId, group: &Frame) -> bool {
        // What is too long for a group nobody can send to.
        Key::of(group).is_none_or(|key| {
            let admitted = self.0.admits_topic(pipe, key.as_bytes());
            if admitted {
                self.0.add(pipe, key.as_bytes());
            }
            admitted
        })
    }

    fn peer_cancelled(&mut self, pipe: PipeId, group: &Frame) {
        if let Some(key) = Key::of(group) {
            self.0.remove(pipe, key.as_bytes());
        }
    }

    fn subscribe_all(&mut self, pipe: PipeId) {
        self.0.subscribe_all(pipe);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, peer, pipe, send};
    use super::*;

    #[test]
    fn those_get_it_who_joined_just_that_group() {
        let (mut radio, mut pipes) = (Radio::default(), TestPipes::strict());
        (1..=4).for_each(|n| radio.attached(&mut pipes, pipe(n), Some(&peer(""))));
        for (n, group) in [(1, "a"), (2, "ab"), (3, ""), (1, "b"), (1, "b")] {
            assert!(radio.peer_subscribed(pipe(n), &group.into()));
        }
        radio.subscribe_all(pipe(4));
        for group in ["a", "ab", "", "abc", "b"] {
            send(&mut radio, &mut pipes, &[group, "x"]);
        }
        radio.peer_cancelled(pipe(1), &"b".into());
        send(&mut radio, &mut pipes, &["b", "y"]);
        assert_eq!(pipes.sent(1), [message(&["a", "x"]), message(&["b", "x"])]);
        assert_eq!(pipes.sent(2), [message(&["ab", "x"])]);
        assert_eq!(pipes.sent(3), [message(&["", "x"])]);
        assert_eq!(pipes.sent(4).len(), 6);
    }

    #[test]
    fn a_message_is_a_group_and_a_body() {
        let (mut radio, mut pipes) = (Radio::default(), TestPipes::strict());
        let long = "x".repeat(GROUP_MAX + 1);
        for parts in [&["group"][..], &["group", "a", "b"], &[&long, "a"]] {
            let refused = radio.give(&mut pipes, message(parts)).unwrap_err();
            assert_eq!((refused.message, refused.why), (message(parts), NotSent::NoGroup));
        }
        assert!(radio.peer_subscribed(pipe(1), &long.as_str().into()));
        send(&mut radio, &mut pipes, &[&long[1..], "a"]);
    }
}
