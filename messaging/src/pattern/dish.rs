//! DISH: receives what is sent to the groups that it joined, and tells its peers which. Never sends. It drops what belongs to
//! other groups by itself as well: a multicast peer sends all.

use std::collections::HashSet;

use super::queueing::{FairQueue, PipeSet, Spares, drop_rest, read_message};
use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes, subscription};
use crate::limits::GROUP_MAX;
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug, Default)]
pub(crate) struct Dish {
    groups: HashSet<Box<[u8]>>,
    fair: FairQueue,
    /// Pipes whose peer is there to hear of groups; the others hear of all when theirs comes.
    up: PipeSet,
    /// Pipes with something missing before a message that was dropped: the next message says so.
    gaps: PipeSet,
    spares: Spares,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
}

impl Dish {
    fn replay<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.up.insert(pipe);
        self.groups.iter().for_each(|group| pipes.write(pipe, subscription(true, group)));
    }

    fn tell<P: Pipes>(&self, pipes: &mut P, join: bool, group: &[u8]) {
        self.up.iter().for_each(|&pipe| pipes.write(pipe, subscription(join, group)));
    }

    fn fetch<P: Pipes>(&mut self, pipes: &mut P) -> Option<Message> {
        loop {
            let (pipe, first) = self.fair.first(pipes)?;
            let wanted = first.flags.more() && self.groups.contains(&first.body[..]);
            let gap = first.flags.gap();
            let message = if wanted {
                read_message(pipes, pipe, first, &mut self.spares).filter(|message| message.len() == 2)
            } else {
                drop_rest(pipes, pipe, &first);
                None
            };
            match message {
                Some(mut message) => {
                    if self.gaps.remove(&pipe) {
                        message.set_gap_before();
                    }
                    return Some(message);
                }
                None if gap => drop(self.gaps.insert(pipe)),
                None => {}
            }
        }
    }
}

impl Behaviour for Dish {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        self.fair.add(pipe);
        if peer.is_some() {
            self.replay(pipes, pipe);
        }
    }

    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, _: &Peer) {
        self.replay(pipes, pipe);
    }

    fn link_lost(&mut self, pipe: PipeId) {
        self.up.remove(&pipe);
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.up.remove(&pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.fair.remove(pipe);
        self.up.remove(&pipe);
        self.gaps.remove(&pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    // Only commands are written, and they need no room.
    fn writable(&mut self, _: PipeId) {}

    fn send<P: Pipes>(&mut self, _: &mut P, _: &mut Message) -> Result<(), NotSent> {
        Err(NotSent::NotSupported)
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        *message = self.next.take().or_else(|| self.fetch(pipes)).ok_or(NotReceived::Again)?;
        Ok(())
    }

    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        false
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.next.is_none() {
            self.next = self.fetch(pipes);
        }
        self.next.is_some()
    }

    /// Joins a group. `false`: it is joined already, or too long.
    fn subscribe<P: Pipes>(&mut self, pipes: &mut P, group: &[u8]) -> bool {
        let joined = group.len() <= GROUP_MAX && self.groups.insert(group.into());
        if joined {
            self.tell(pipes, true, group);
        }
        joined
    }

    /// Leaves a group. `false`: it was not joined.
    fn unsubscribe<P: Pipes>(&mut self, pipes: &mut P, group: &[u8]) -> bool {
        let left = self.groups.remove(group);
        if left {
            self.tell(pipes, false, group);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, peer, pipe, recv};
    use super::*;
    use transport_core::{Flags, Part};

    #[test]
    fn groups_are_told_once_and_to_newcomers() {
        let (mut dish, mut pipes) = (Dish::default(), TestPipes::strict());
        dish.attached(&mut pipes, pipe(1), Some(&peer("")));
        dish.attached(&mut pipes, pipe(2), None);
        assert!(dish.subscribe(&mut pipes, b"a"));
        assert!(!dish.subscribe(&mut pipes, b"a"), "twice");
        assert!(!dish.subscribe(&mut pipes, &[b'x'; GROUP_MAX + 1]));
        assert_eq!(pipes.commands(1), ["\\x01a"]);
        assert!(pipes.commands(2).is_empty());
        dish.identified(&mut pipes, pipe(2), &peer(""));
        assert_eq!(pipes.commands(2), ["\\x01a"]);
        dish.link_lost(pipe(2));
        assert!(dish.unsubscribe(&mut pipes, b"a"));
        assert!(!dish.unsubscribe(&mut pipes, b"a"));
        assert_eq!(pipes.commands(1), ["\\x00a"]);
        assert!(pipes.commands(2).is_empty());
    }

    #[test]
    fn only_messages_of_joined_groups_come_and_gaps_are_not_lost_with_others() {
        let (mut dish, mut pipes) = (Dish::default(), TestPipes::strict());
        dish.attached(&mut pipes, pipe(1), Some(&peer("")));
        dish.subscribe(&mut pipes, b"a");
        pipes.arrive_part(1, Part { body: "ab".into(), flags: Flags::MORE.with(Flags::GAP) });
        pipes.arrive_part(1, Part::last("not for us"));
        for parts in [&["a", "1"][..], &["a"], &["a", "2", "3"], &["ab", "4"], &["a", "5"]] {
            pipes.deliver(&mut dish, 1, parts);
        }
        let first = dish.take(&mut pipes).unwrap();
        assert!(first.gap_before());
        assert_eq!(first, {
            let mut gap = message(&["a", "1"]);
            gap.set_gap_before();
            gap
        });
        assert!(dish.can_recv(&mut pipes));
        assert_eq!(recv(&mut dish, &mut pipes).unwrap(), ["a", "5"]);
        assert!(!dish.can_recv(&mut pipes));
    }
}
