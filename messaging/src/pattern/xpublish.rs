//! XPUB: PUB whose application hears who subscribes to what, and what subscribers send. How it passes messages on is
//! `publish.rs`'s.

use std::collections::VecDeque;

use transport_core::{Flags, Frame, Part};

use super::matcher::Matcher;
use super::publish::{Publish, within_limits};
use super::queueing::{FairQueue, Spares};
use super::{Behaviour, NotReceived, NotSent, PatternOptions, PipeId, Pipes};
use crate::limits::{HEARD_BYTES_MAX, HEARD_MAX};
use crate::message::Message;
use crate::session::Peer;

/// A subscription, or its end, that the application has not taken yet.
#[derive(Debug)]
struct Heard {
    /// Whose it is, who may have gone since.
    pipe: Option<PipeId>,
    body: Frame,
}

#[derive(Debug, Default)]
pub(crate) struct Xpublish {
    publish: Publish,
    /// ZMQ_XPUB_MANUAL: what peers asked for, which counts for nothing until the application says so.
    asked: Matcher<PipeId>,
    heard: VecDeque<Heard>,
    /// Bytes of the topics in it.
    heard_bytes: usize,
    /// Whose message the application took last.
    last: Option<PipeId>,
    fair: FairQueue,
    spares: Spares,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
    verbose: bool,
    verboser: bool,
    manual: bool,
    welcome: Frame,
}

impl Xpublish {
    fn hear(&mut self, pipe: Option<PipeId>, subscribe: bool, topic: &[u8]) {
        // An application that never receives is told no more at some point. Its peers are served all the same.
        if self.heard.len() >= HEARD_MAX || self.heard_bytes + topic.len() > HEARD_BYTES_MAX {
            return;
        }
        let body = super::subscription(subscribe, topic).body;
        self.heard_bytes += topic.len();
        self.heard.push_back(Heard { pipe, body });
    }

    fn forget(&mut self, pipe: PipeId) {
        let mut gone: Vec<Frame> = Vec::new();
        let (manual, verboser) = (self.manual, self.verboser);
        self.asked.remove_key(pipe, &mut |topic, _| gone.extend(manual.then(|| topic.into())));
        self.publish.forget(pipe, &mut |topic, last| {
            gone.extend((!manual && (last || verboser)).then(|| topic.into()));
        });
        self.last = self.last.filter(|&last| last != pipe);
        // A pipe without subscriptions has nothing to tell, and one with them was heard before.
        gone.iter().for_each(|topic| self.hear(None, false, topic));
    }

    fn take_heard(&mut self) -> Option<Message> {
        let Heard { pipe, body } = self.heard.pop_front()?;
        self.last = pipe.filter(|&pipe| self.publish.serves(pipe));
        self.heard_bytes -= body.len() - 1;
        Some(Message::new(body))
    }
}

impl Behaviour for Xpublish {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        self.publish.attached(pipes, pipe, peer);
        self.fair.add(pipe);
        if !self.welcome.is_empty() && pipes.can_write(pipe) {
            pipes.write(pipe, Part { body: self.welcome.clone(), flags: Flags::LAST });
        }
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.forget(pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.forget(pipe);
        self.fair.remove(pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    fn writable(&mut self, _: PipeId) {}

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        self.publish.send(pipes, message)
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        if let Some(heard) = self.take_heard().or_else(|| self.next.take()) {
            *message = heard;
            return Ok(());
        }
        self.fair.recv(pipes, &mut self.spares, message)
    }

    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        self.publish.can_send(pipes)
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.heard.is_empty() && self.next.is_none() {
            let mut message = Message::EMPTY;
            let found = self.fair.recv(pipes, &mut self.spares, &mut message);
            self.next = found.is_ok().then_some(message);
        }
        !self.heard.is_empty() || self.next.is_some()
    }

    fn peer_subscribed(&mut self, pipe: PipeId, topic: &Frame) -> bool {
        if self.manual {
            if !within_limits(self.asked.held_by(pipe), topic) {
                return false;
            }
            self.asked.subscribe(topic, pipe);
            self.hear(Some(pipe), true, topic);
        } else if !self.publish.admits_topic(pipe, topic) {
            return false;
        } else if self.publish.add(pipe, topic) || self.verbose || self.verboser {
            self.hear(Some(pipe), true, topic);
        }
        true
    }

    fn peer_cancelled(&mut self, pipe: PipeId, topic: &Frame) {
        if self.manual {
            self.asked.cancel(topic, pipe);
            self.hear(Some(pipe), false, topic);
        } else if self.publish.remove(pipe, topic) || self.verboser {
            self.hear(Some(pipe), false, topic);
        }
    }

    fn subscribe_all(&mut self, pipe: PipeId) {
        self.publish.subscribe_all(pipe);
    }

    /// ZMQ_XPUB_MANUAL: of the peer whose message was taken last.
    fn subscribe<P: Pipes>(&mut self, _: &mut P, topic: &[u8]) -> bool {
        if let Some(pipe) = self.last.filter(|_| self.manual) {
            self.publish.add(pipe, topic);
        }
        self.manual
    }

    fn unsubscribe<P: Pipes>(&mut self, _: &mut P, topic: &[u8]) -> bool {
        if let Some(pipe) = self.last.filter(|_| self.manual) {
            self.publish.remove(pipe, topic);
        }
        self.manual
    }

    fn set_options(&mut self, options: &PatternOptions) {
        self.publish.set_options(options);
        (self.verbose, self.verboser) = (options.xpub_verbose, options.xpub_verboser);
        self.manual = options.xpub_manual;
        self.welcome = options.xpub_welcome_message.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, peer, pipe, recv, send};
    use super::*;

    fn with_pipes(count: u64, options: &PatternOptions) -> (Xpublish, TestPipes) {
        let (mut xpub, mut pipes) = (Xpublish::default(), TestPipes::strict());
        xpub.set_options(options);
        (1..=count).for_each(|n| xpub.attached(&mut pipes, pipe(n), Some(&peer(""))));
        (xpub, pipes)
    }

    fn heard(xpub: &mut Xpublish, pipes: &mut TestPipes) -> Vec<String> {
        std::iter::from_fn(|| Some(xpub.take(pipes).ok()?.body().escape_ascii().to_string())).collect()
    }

    #[test]
    fn the_first_of_a_topic_and_its_last_end_are_heard() {
        let (mut xpub, mut pipes) = with_pipes(2, &PatternOptions::default());
        assert!(!xpub.can_recv(&mut pipes));
        for n in 1..=2 {
            xpub.peer_subscribed(pipe(n), &"a".into());
            xpub.peer_subscribed(pipe(n), &"a".into());
        }
        assert!(xpub.can_recv(&mut pipes));
        assert_eq!(heard(&mut xpub, &mut pipes), ["\\x01a"]);
        xpub.peer_cancelled(pipe(1), &"a".into());
        assert!(heard(&mut xpub, &mut pipes).is_empty());
        xpub.peer_cancelled(pipe(2), &"a".into());
        xpub.peer_cancelled(pipe(2), &"never".into());
        assert_eq!(heard(&mut xpub, &mut pipes), ["\\x00a"]);
    }

    #[test]
    fn a_verbose_one_hears_repetitions_and_a_verboser_one_their_ends() {
        for (verbose, verboser, expected) in [
            (true, false, &["\\x01a", "\\x01a", "\\x00a"][..]),
            (false, true, &["\\x01a", "\\x01a", "\\x00a", "\\x00a"]),
        ] {
            let options = PatternOptions {
                xpub_verbose: verbose,
                xpub_verboser: verboser,
                ..PatternOptions::default()
            };
            for leave in [false, true] {
                let (mut xpub, mut pipes) = with_pipes(2, &options);
                (1..=2).for_each(|n| assert!(xpub.peer_subscribed(pipe(n), &"a".into())));
                for n in 1..=2 {
                    if leave {
                        xpub.detached(&mut pipes, pipe(n));
                    } else {
                        xpub.peer_cancelled(pipe(n), &"a".into());
                    }
                }
                assert_eq!(heard(&mut xpub, &mut pipes), expected, "{leave}");
            }
        }
    }

    #[test]
    fn what_a_peer_that_leaves_was_alone_with_is_taken_back() {
        let (mut xpub, mut pipes) = with_pipes(2, &PatternOptions::default());
        for topic in ["a", "b"] {
            xpub.peer_subscribed(pipe(1), &topic.into());
        }
        xpub.peer_subscribed(pipe(2), &"b".into());
        heard(&mut xpub, &mut pipes);
        xpub.write_closed(&mut pipes, pipe(1));
        xpub.detached(&mut pipes, pipe(1));
        assert_eq!(heard(&mut xpub, &mut pipes), ["\\x00a"]);
    }

    #[test]
    fn peers_may_send_messages() {
        let (mut xpub, mut pipes) = with_pipes(1, &PatternOptions::default());
        pipes.deliver(&mut xpub, 1, &["two", "parts"]);
        assert!(xpub.can_recv(&mut pipes) && xpub.can_recv(&mut pipes));
        assert_eq!(recv(&mut xpub, &mut pipes).unwrap(), ["two", "parts"]);
        assert_eq!(xpub.take(&mut pipes), Err(NotReceived::Again));
    }

    #[test]
    fn by_hand_the_application_says_what_a_peer_gets() {
        let options = PatternOptions { xpub_manual: true, ..PatternOptions::default() };
        let (mut xpub, mut pipes) = with_pipes(2, &options);
        (1..=2).for_each(|n| assert!(xpub.peer_subscribed(pipe(n), &"a".into())));
        assert_eq!(recv(&mut xpub, &mut pipes).unwrap(), ["\u{1}a"]);
        assert!(xpub.subscribe(&mut pipes, b"xa"));
        send(&mut xpub, &mut pipes, &["xa"]);
        send(&mut xpub, &mut pipes, &["a"]);
        assert_eq!([1, 2].map(|n| pipes.sent(n).len()), [1, 0], "only what was said, and to whom");
        assert_eq!(recv(&mut xpub, &mut pipes).unwrap(), ["\u{1}a"]);
        xpub.detached(&mut pipes, pipe(2));
        assert!(xpub.subscribe(&mut pipes, b"a"), "of nobody any more");
        send(&mut xpub, &mut pipes, &["a"]);
        assert!(pipes.sent(2).is_empty());
        assert_eq!(heard(&mut xpub, &mut pipes), ["\\x00a"], "each that was asked for is taken back");
        xpub.peer_cancelled(pipe(1), &"a".into());
        assert_eq!(heard(&mut xpub, &mut pipes), ["\\x00a"]);
        assert!(xpub.unsubscribe(&mut pipes, b"xa"));
        send(&mut xpub, &mut pipes, &["xa"]);
        assert!(pipes.sent(1).is_empty());
    }

    #[test]
    fn newcomers_are_welcomed() {
        let options = PatternOptions { xpub_welcome_message: "W".into(), ..PatternOptions::default() };
        let (mut xpub, mut pipes) = with_pipes(0, &options);
        pipes.room(2, 0);
        (1..=2).for_each(|n| xpub.attached(&mut pipes, pipe(n), Some(&peer(""))));
        assert_eq!(pipes.sent(1), [message(&["W"])]);
        assert!(pipes.sent(2).is_empty());
    }

    #[test]
    fn without_drops_it_waits_for_the_slowest_that_is_to_get_it() {
        let options = PatternOptions { xpub_nodrop: true, ..PatternOptions::default() };
        let (mut xpub, mut pipes) = with_pipes(3, &options);
        (1..=2).for_each(|n| assert!(xpub.peer_subscribed(pipe(n), &"a".into())));
        pipes.room(2, 0);
        pipes.room(3, 0);
        for parts in [&["a"][..], &["a", "whom it goes to is in the first part"]] {
            assert_eq!(xpub.give(&mut pipes, message(parts)).unwrap_err().why, NotSent::Again);
            assert!(pipes.sent(1).is_empty(), "all or none");
        }
        pipes.room(2, 1);
        send(&mut xpub, &mut pipes, &["a"]);
        assert_eq!([1, 2, 3].map(|n| pipes.sent(n).len()), [1, 1, 0]);
    }

    #[test]
    fn matching_can_be_turned_round() {
        let options = PatternOptions { invert_matching: true, ..PatternOptions::default() };
        let (mut xpub, mut pipes) = with_pipes(2, &options);
        xpub.peer_subscribed(pipe(1), &"a".into());
        send(&mut xpub, &mut pipes, &["a"]);
        assert_eq!([1, 2].map(|n| pipes.sent(n).len()), [0, 1]);
        send(&mut xpub, &mut pipes, &["b"]);
        assert_eq!([1, 2].map(|n| pipes.sent(n).len()), [1, 1]);
    }

    #[test]
    fn an_application_that_does_not_receive_costs_bounded_memory_and_serves_on() {
        let (mut xpub, mut pipes) = with_pipes(2, &PatternOptions::default());
        for _ in 0..HEARD_MAX {
            xpub.peer_subscribed(pipe(1), &"a".into());
            xpub.peer_cancelled(pipe(1), &"a".into());
        }
        assert_eq!((xpub.heard.len(), xpub.heard_bytes), (HEARD_MAX, HEARD_MAX));
        xpub.peer_subscribed(pipe(2), &"b".into());
        send(&mut xpub, &mut pipes, &["b"]);
        assert_eq!(pipes.sent(2).len(), 1);
        assert_eq!(heard(&mut xpub, &mut pipes).len(), HEARD_MAX);
        assert_eq!(xpub.heard_bytes, 0);

        let long = Frame::from(vec![b'x'; 60_000]);
        for _ in 0..HEARD_BYTES_MAX / 60_000 + 10 {
            xpub.peer_subscribed(pipe(1), &long);
            xpub.peer_cancelled(pipe(1), &long);
        }
        assert!(xpub.heard_bytes <= HEARD_BYTES_MAX);
    }
}
