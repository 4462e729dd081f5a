//! PUB: a copy to every peer that subscribed to it. Never receives; what a full pipe cannot take is dropped for that
//! pipe alone, unless the socket is to wait for all of them.

use transport_core::{Flags, Frame, Part};

use super::matcher::Matcher;
use super::queueing::{PipeMap, Spares, write_all};
use super::{Behaviour, NotReceived, NotSent, PatternOptions, PipeId, Pipes};
use crate::limits::{SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug)]
struct Place {
    at: usize,
    /// Subscribed to the empty topic, so to everything.
    all: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Publish {
    matcher: Matcher<PipeId>,
    pipes: Vec<PipeId>,
    places: PipeMap<Place>,
    /// How many of `pipes` are subscribed to everything.
    all: usize,
    /// ZMQ_INVERT_MATCHING: those get it who did not subscribe.
    invert: bool,
    /// ZMQ_XPUB_NODROP: waits for room at every peer.
    waits: bool,
    spares: Spares,
}

impl Publish {
    /// `gone` hears of each topic that the pipe was subscribed to, and whether nobody else is.
    pub(super) fn forget(&mut self, pipe: PipeId, gone: &mut dyn FnMut(&[u8], bool)) {
        let Some(place) = self.places.remove(&pipe) else { return };
        self.pipes.swap_remove(place.at);
        if let Some(moved) = self.pipes.get(place.at).and_then(|moved| self.places.get_mut(moved)) {
            moved.at = place.at;
        }
        self.all -= usize::from(place.all);
        self.matcher.remove_key(pipe, gone);
    }

    /// Whether a pipe is there and may be written to.
    pub(super) fn serves(&self, pipe: PipeId) -> bool {
        self.places.contains_key(&pipe)
    }

    /// A pipe wants what begins with `topic`. True if nobody did before.
    pub(super) fn add(&mut self, pipe: PipeId, topic: &[u8]) -> bool {
        let Some(place) = self.places.get_mut(&pipe) else { return false };
        if topic.is_empty() && !place.all {
            place.all = true;
            self.all += 1;
        }
        self.matcher.subscribe(topic, pipe)
    }

    /// A pipe does not want it any more. True if nobody does now.
    pub(super) fn remove(&mut self, pipe: PipeId, topic: &[u8]) -> bool {
        let Some(place) = self.places.get_mut(&pipe) else { return false };
        if topic.is_empty() && place.all {
            place.all = false;
            self.all -= 1;
        }
        self.matcher.cancel(topic, pipe)
    }

    /// Whether a pipe may be recorded as subscribed to `topic` as well.
    pub(super) fn admits_topic(&self, pipe: PipeId, topic: &[u8]) -> bool {
        within_limits(self.matcher.held_by(pipe), topic)
    }

    /// Calls `found` with every pipe that is to get what begins with `first`.
    #[inline(always)]
    fn receivers(&self, first: &[u8], mut found: impl FnMut(PipeId)) {
        if self.invert {
            return self.others(first, &mut found);
        }
        if self.all == self.pipes.len() {
            self.pipes.iter().copied().for_each(found);
        } else {
            self.matcher.for_each_match(first, &mut found);
        }
    }

    /// Those that do not match.
    #[cold]
    fn others(&self, first: &[u8], found: &mut dyn FnMut(PipeId)) {
        let mut matching = Vec::new();
        self.matcher.for_each_match(first, &mut |pipe| matching.push(pipe));
        matching.sort_unstable();
        self.pipes.iter().filter(|pipe| matching.binary_search(pipe).is_err()).for_each(|&pipe| found(pipe));
    }

    /// Writes a message to every pipe with room that is to get what begins with `key`.
    pub(super) fn send_to<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message, key: &[u8]) {
        self.distribute(pipes, message, Some(key));
    }

    /// The same; without a key it is the first part.
    #[inline(always)]
    fn distribute<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message, key: Option<&[u8]>) {
        let (first, rest) = message.take().into_first_and_rest();
        // Each pipe is written when the next one is found, so that the last one gets the message itself: one peer
        // costs no copy and no reference count.
        let mut last = None;
        self.receivers(key.unwrap_or(&first), |pipe| {
            if pipes.can_write(pipe)
                && let Some(previous) = last.replace(pipe)
            {
                write_copy(pipes, previous, &first, &rest);
            }
        });
        match last {
            None => self.spares.put(rest),
            Some(pipe) if rest.is_empty() => pipes.write(pipe, Part { body: first, flags: Flags::LAST }),
            Some(pipe) => {
                pipes.write(pipe, Part { body: first, flags: Flags::MORE });
                write_all(pipes, pipe, rest, &mut self.spares);
            }
        }
    }

    #[cold]
    fn all_have_room<P: Pipes>(&self, pipes: &mut P, first: &[u8]) -> bool {
        let mut room = true;
        self.receivers(first, |pipe| room &= pipes.can_write(pipe));
        room
    }
}

/// Whether who holds so many topics, of so many bytes, may hold `topic` as well.
pub(super) fn within_limits((topics, bytes): (usize, usize), topic: &[u8]) -> bool {
    topics < SUBSCRIPTIONS_MAX && bytes + topic.len() <= SUBSCRIPTION_BYTES_MAX
}

fn write_copy<P: Pipes>(pipes: &mut P, pipe: PipeId, first: &Frame, rest: &[Frame]) {
    let flags = |after: usize| if after == 0 { Flags::LAST } else { Flags::MORE };
    pipes.write(pipe, Part { body: first.clone(), flags: flags(rest.len()) });
    for (at, body) in rest.iter().enumerate() {
        pipes.write(pipe, Part { body: body.clone(), flags: flags(rest.len() - at - 1) });
    }
}

impl Behaviour for Publish {
    fn attached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId, _: Option<&Peer>) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.places.entry(pipe) {
            vacant.insert(Place { at: self.pipes.len(), all: false });
            self.pipes.push(pipe);
        }
    }

    // `identified` is left alone: what the peer of a dialling pipe subscribed to stays over a reconnect, as in libzmq,
    // so that messages queue up for its return. It subscribes again; twice counts once.

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.forget(pipe, &mut |_, _| {});
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.forget(pipe, &mut |_, _| {});
    }

    fn readable(&mut self, _: PipeId) {}

    // Each pipe is asked for room with each message.
    fn writable(&mut self, _: PipeId) {}

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        if self.waits && !message.part(0).is_none_or(|first| self.all_have_room(pipes, first)) {
            return Err(NotSent::Again);
        }
        self.distribute(pipes, message, None);
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

    fn peer_subscribed(&mut self, pipe: PipeId, topic: &Frame) -> bool {
        let admitted = self.admits_topic(pipe, topic);
        if admitted {
            self.add(pipe, topic);
        }
        admitted
    }

    fn peer_cancelled(&mut self, pipe: PipeId, topic: &Frame) {
        self.remove(pipe, topic);
    }

    fn subscribe_all(&mut self, pipe: PipeId) {
        self.add(pipe, &[]);
    }

    fn set_options(&mut self, options: &PatternOptions) {
        (self.invert, self.waits) = (options.invert_matching, options.xpub_nodrop);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, Random, TestPipes, message, peer, pipe, send};
    use super::*;

    fn with_pipes(count: u64) -> (Publish, TestPipes) {
        let (mut publish, mut pipes) = (Publish::default(), TestPipes::strict());
        (1..=count).for_each(|n| publish.attached(&mut pipes, pipe(n), Some(&peer(""))));
        (publish, pipes)
    }

    #[test]
    fn what_one_peer_may_subscribe_to_has_a_limit() {
        assert!(within_limits((SUBSCRIPTIONS_MAX - 1, 0), b"a"));
        assert!(!within_limits((SUBSCRIPTIONS_MAX, 0), b""));
        assert!(within_limits((0, SUBSCRIPTION_BYTES_MAX - 1), b"a"));
        assert!(!within_limits((0, SUBSCRIPTION_BYTES_MAX), b"a"));
        let (mut publish, _) = with_pipes(2);
        for topic in ["a", "bcd", "bcd", "e"] {
            assert!(publish.peer_subscribed(pipe(1), &topic.into()));
            assert!(publish.peer_subscribed(pipe(2), &"a".into()));
        }
        assert_eq!(publish.matcher.held_by(pipe(1)), (3, 5), "repetitions count once");
        publish.peer_cancelled(pipe(1), &"bcd".into());
        publish.peer_cancelled(pipe(1), &"bcd".into());
        assert_eq!(publish.matcher.held_by(pipe(1)), (2, 2));
        assert_eq!(publish.matcher.held_by(pipe(2)), (1, 1));
        publish.forget(pipe(2), &mut |_, _| {});
        assert_eq!(publish.matcher.held_by(pipe(2)), (0, 0));
    }

    #[test]
    fn the_first_part_decides_who_gets_it() {
        let (mut publish, mut pipes) = with_pipes(3);
        send(&mut publish, &mut pipes, &["nobody"]);
        publish.peer_subscribed(pipe(1), &"a".into());
        publish.peer_subscribed(pipe(2), &"ab".into());
        publish.peer_subscribed(pipe(2), &"a".into());
        send(&mut publish, &mut pipes, &["abc", "x"]);
        send(&mut publish, &mut pipes, &["b", "a"]);
        assert_eq!(pipes.sent(1), [message(&["abc", "x"])]);
        assert_eq!(pipes.sent(2), [message(&["abc", "x"])], "once, however many topics match");
        assert!(pipes.sent(3).is_empty());
        publish.peer_cancelled(pipe(2), &"ab".into());
        publish.peer_cancelled(pipe(2), &"never subscribed".into());
        publish.peer_cancelled(pipe(1), &"a".into());
        send(&mut publish, &mut pipes, &["abc"]);
        assert_eq!((pipes.sent(1).len(), pipes.sent(2).len()), (0, 1));
    }

    #[test]
    fn full_pipes_miss_whole_messages_and_nobody_waits() {
        let (mut publish, mut pipes) = with_pipes(3);
        (1..=3).for_each(|n| assert!(publish.peer_subscribed(pipe(n), &Frame::EMPTY)));
        pipes.room(2, 1);
        for text in ["1", "2", "3"] {
            assert!(publish.can_send(&mut pipes));
            send(&mut publish, &mut pipes, &[text, "x", "y"]);
        }
        assert_eq!(pipes.sent(2), [message(&["1", "x", "y"])]);
        assert_eq!((pipes.sent(1).len(), pipes.sent(3).len()), (3, 3));
        pipes.room(2, 1);
        publish.writable(pipe(2));
        send(&mut publish, &mut pipes, &["4"]);
        assert_eq!(pipes.sent(2), [message(&["4"])]);
    }

    #[test]
    fn subscriptions_end_with_the_pipe() {
        let (mut publish, mut pipes) = with_pipes(3);
        (1..=3).for_each(|n| assert!(publish.peer_subscribed(pipe(n), &"a".into())));
        publish.peer_subscribed(pipe(1), &Frame::EMPTY);
        publish.write_closed(&mut pipes, pipe(1));
        publish.detached(&mut pipes, pipe(1));
        publish.detached(&mut pipes, pipe(2));
        publish.peer_subscribed(pipe(2), &"a".into());
        send(&mut publish, &mut pipes, &["a"]);
        assert_eq!([1, 2, 3].map(|n| pipes.sent(n).len()), [0, 0, 1]);
        assert_eq!((publish.pipes.len(), publish.places.len(), publish.all), (1, 1, 0));
        assert_eq!(publish.matcher.len(), 1);
    }

    #[test]
    fn subscriptions_stay_over_a_reconnect() {
        let (mut publish, mut pipes) = (Publish::default(), TestPipes::strict());
        publish.attached(&mut pipes, pipe(1), None);
        publish.identified(&mut pipes, pipe(1), &peer(""));
        publish.peer_subscribed(pipe(1), &"a".into());
        publish.identified(&mut pipes, pipe(1), &peer(""));
        publish.peer_subscribed(pipe(1), &"a".into());
        send(&mut publish, &mut pipes, &["a"]);
        assert_eq!(pipes.sent(1).len(), 1);
        publish.peer_cancelled(pipe(1), &"a".into());
        send(&mut publish, &mut pipes, &["a"]);
        assert!(pipes.sent(1).is_empty(), "twice counted once");
    }

    #[test]
    fn a_peer_without_upstream_gets_everything() {
        let (mut publish, mut pipes) = (Publish::default(), TestPipes::strict());
        publish.attached(&mut pipes, pipe(1), None);
        publish.attached(&mut pipes, pipe(2), None);
        publish.subscribe_all(pipe(1));
        publish.subscribe_all(pipe(1));
        send(&mut publish, &mut pipes, &["x"]);
        assert_eq!([1, 2].map(|n| pipes.sent(n).len()), [1, 0]);
        publish.subscribe_all(pipe(2));
        assert_eq!(publish.all, 2);
        send(&mut publish, &mut pipes, &["x"]);
        assert_eq!([1, 2].map(|n| pipes.sent(n).len()), [1, 1]);
    }

    #[test]
    fn copies_share_memory_and_the_last_is_no_copy() {
        let (mut publish, mut pipes) = with_pipes(2);
        (1..=2).for_each(|n| assert!(publish.peer_subscribed(pipe(n), &Frame::EMPTY)));
        let large = Frame::from(vec![7; 1_000]);
        let start = large.as_ptr();
        publish.give(&mut pipes, Message::new(large)).unwrap();
        for n in 1..=2 {
            assert_eq!(pipes.sent(n)[0].body().as_ptr(), start);
        }
    }

    #[test]
    fn never_receives() {
        let (mut publish, mut pipes) = with_pipes(1);
        pipes.deliver(&mut publish, 1, &["x"]);
        assert_eq!(publish.take(&mut pipes), Err(NotReceived::NotSupported));
        assert!(!publish.can_recv(&mut pipes));
    }

    #[test]
    fn agrees_with_a_list() {
        const TOPICS: [&str; 5] = ["", "a", "ab", "b", "abc"];
        for seed in 1..=40 {
            let mut random = Random::new(seed);
            let (mut publish, mut pipes) = with_pipes(0);
            let mut model: Vec<(u64, Vec<&str>)> = Vec::new();
            for step in 0..1_000 {
                let chosen = (!model.is_empty()).then(|| random.below(model.len()));
                let topic = TOPICS[random.below(TOPICS.len()).min(random.below(TOPICS.len()))];
                match (random.below(10), chosen) {
                    (0, _) => {
                        publish.attached(&mut pipes, pipe(step), None);
                        model.push((step, Vec::new()));
                    }
                    (1, Some(at)) => publish.detached(&mut pipes, pipe(model.swap_remove(at).0)),
                    (2..5, Some(at)) => {
                        publish.peer_subscribed(pipe(model[at].0), &topic.into());
                        model[at].1.push(topic);
                    }
                    (5, Some(at)) => {
                        publish.peer_cancelled(pipe(model[at].0), &topic.into());
                        model[at].1.retain(|other| *other != topic);
                    }
                    _ => {
                        let data = TOPICS[random.below(TOPICS.len())];
                        send(&mut publish, &mut pipes, &[data, "x"]);
                        for (n, topics) in &model {
                            let expected = topics.iter().any(|topic| data.starts_with(topic));
                            assert_eq!(
                                pipes.sent(*n).len(),
                                usize::from(expected),
                                "seed {seed} step {step}"
                            );
                        }
                    }
                }
                let all = model.iter().filter(|(_, topics)| topics.contains(&"")).count();
                assert_eq!((publish.all, publish.pipes.len()), (all, model.len()));
            }
        }
    }
}
