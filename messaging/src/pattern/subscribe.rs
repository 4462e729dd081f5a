//! SUB: receives what it subscribed to and tells its peers so. Never sends. The filter is here as well as with the
//! publishers: some cannot filter (multicast), and a message may be on its way when a subscription ends.

use transport_core::{Flags, Part};

use super::matcher::{Removed, SubscriptionSet, TOPIC_MAX};
use super::queueing::{FairQueue, PipeSet, Spares, drop_rest, read_message};
use super::{Behaviour, NotReceived, NotSent, PatternOptions, PipeId, Pipes, subscription};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug, Default)]
pub(crate) struct Subscribe {
    topics: SubscriptionSet,
    fair: FairQueue,
    /// Pipes whose peer is there to hear of subscriptions; the others hear of all when theirs comes.
    up: PipeSet,
    /// Pipes with something missing before a message that was filtered out: the next message says so.
    gaps: PipeSet,
    spares: Spares,
    /// ZMQ_INVERT_MATCHING: what was not subscribed to is received.
    invert: bool,
    /// XSUB: receives whatever its publishers send, as libzmq's.
    takes_all: bool,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
}

impl Subscribe {
    /// One that filters nothing itself.
    pub(super) fn taking_all() -> Self {
        Self { takes_all: true, ..Self::default() }
    }

    fn replay<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.up.insert(pipe);
        self.topics.topics(|topic| pipes.write(pipe, subscription(true, topic)));
    }

    fn tell<P: Pipes>(&self, pipes: &mut P, subscribe: bool, topic: &[u8]) {
        let part = subscription(subscribe, topic);
        self.up.iter().for_each(|&pipe| pipes.write(pipe, part.clone()));
    }

    /// Subscribes, and tells the peers even if that is a repetition: an XPUB may want to hear of it, as with libzmq.
    pub(super) fn add_and_tell<P: Pipes>(&mut self, pipes: &mut P, topic: &[u8]) {
        self.topics.add(topic);
        self.tell(pipes, true, topic);
    }

    #[inline]
    fn wants(&self, body: &[u8]) -> bool {
        self.takes_all || self.topics.matches(body) != self.invert
    }

    /// The next message that matches. Those that do not are dropped on the way, as many as there are: a pipe left
    /// unread would not be said to be readable again.
    #[inline(always)]
    fn fetch<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        while let Some(pipe) = self.fair.current() {
            let mut first = match pipes.read(pipe) {
                // One part goes straight to its place; see FairQueue::recv.
                Some(Part { body, flags: Flags::LAST }) if self.gaps.is_empty() && self.wants(&body) => {
                    self.fair.took();
                    message.set(body);
                    return Ok(());
                }
                Some(first) => first,
                None => {
                    self.fair.found_empty();
                    continue;
                }
            };
            self.fair.took();
            if !self.wants(&first.body) {
                if first.flags.gap() {
                    self.gaps.insert(pipe);
                }
                drop_rest(pipes, pipe, &first);
                continue;
            }
            if !self.gaps.is_empty() && self.gaps.remove(&pipe) {
                first.flags = first.flags.with(Flags::GAP);
            }
            if let Some(whole) = read_message(pipes, pipe, first, &mut self.spares) {
                *message = whole;
                return Ok(());
            }
        }
        Err(NotReceived::Again)
    }
}

impl Behaviour for Subscribe {
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

    #[inline]
    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        if let Some(next) = &mut self.next {
            *message = next.take();
            self.next = None;
            return Ok(());
        }
        self.fetch(pipes, message)
    }

    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        false
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.next.is_none() {
            let mut message = Message::EMPTY;
            self.next = self.fetch(pipes, &mut message).is_ok().then_some(message);
        }
        self.next.is_some()
    }

    fn subscribe<P: Pipes>(&mut self, pipes: &mut P, topic: &[u8]) -> bool {
        if topic.len() > TOPIC_MAX {
            return false;
        }
        self.add_and_tell(pipes, topic);
        true
    }

    fn unsubscribe<P: Pipes>(&mut self, pipes: &mut P, topic: &[u8]) -> bool {
        match self.topics.remove(topic) {
            Removed::Unknown => false,
            Removed::StillThere => true,
            Removed::Last => {
                self.tell(pipes, false, topic);
                true
            }
        }
    }

    fn set_options(&mut self, options: &PatternOptions) {
        self.invert = options.invert_matching;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, peer, pipe, recv};
    use super::*;

    const NOTHING: [&str; 0] = [];

    fn with_one() -> (Subscribe, TestPipes) {
        let (mut sub, mut pipes) = (Subscribe::default(), TestPipes::strict());
        sub.attached(&mut pipes, pipe(1), Some(&peer("")));
        (sub, pipes)
    }

    #[test]
    fn every_subscription_of_a_topic_is_told_and_the_end_of_the_last() {
        let (mut sub, mut pipes) = with_one();
        sub.attached(&mut pipes, pipe(2), Some(&peer("")));
        assert!(sub.subscribe(&mut pipes, b"a"));
        assert!(sub.subscribe(&mut pipes, b"a"));
        assert!(sub.subscribe(&mut pipes, b""));
        (1..=2).for_each(|n| assert_eq!(pipes.commands(n), ["\\x01", "\\x01a", "\\x01a"]));
        assert!(sub.unsubscribe(&mut pipes, b"a"));
        assert_eq!(pipes.commands(1), NOTHING);
        assert!(sub.unsubscribe(&mut pipes, b"a"));
        (1..=2).for_each(|n| assert_eq!(pipes.commands(n).last().unwrap(), "\\x00a"));
        assert!(!sub.unsubscribe(&mut pipes, b"a"), "there was none");
        assert_eq!(pipes.commands(1), NOTHING);
    }

    #[test]
    fn commands_need_no_room() {
        let (mut sub, mut pipes) = with_one();
        pipes.room(1, 0);
        assert!(sub.subscribe(&mut pipes, b"a"));
        assert_eq!(pipes.commands(1), ["\\x01a"]);
    }

    #[test]
    fn every_peer_hears_all_topics_when_it_comes() {
        let (mut sub, mut pipes) = (Subscribe::default(), TestPipes::strict());
        sub.attached(&mut pipes, pipe(1), None);
        for topic in [b"a", b"b", b"b", b"c"] {
            sub.subscribe(&mut pipes, topic);
        }
        sub.unsubscribe(&mut pipes, b"c");
        assert_eq!(pipes.commands(1), NOTHING, "nobody is there yet");
        sub.attached(&mut pipes, pipe(2), Some(&peer("")));
        assert_eq!(pipes.commands(2), ["\\x01a", "\\x01b"]);
        sub.identified(&mut pipes, pipe(1), &peer(""));
        assert_eq!(pipes.commands(1), ["\\x01a", "\\x01b"]);
        sub.subscribe(&mut pipes, b"d");
        assert_eq!(pipes.commands(1), ["\\x01d"]);

        sub.link_lost(pipe(1));
        sub.subscribe(&mut pipes, b"e");
        sub.unsubscribe(&mut pipes, b"a");
        assert_eq!(pipes.commands(1), NOTHING, "nobody is there for now");
        sub.identified(&mut pipes, pipe(1), &peer(""));
        assert_eq!(pipes.commands(1), ["\\x01b", "\\x01d", "\\x01e"]);
        sub.identified(&mut pipes, pipe(1), &peer(""));
        assert_eq!(pipes.commands(1), ["\\x01b", "\\x01d", "\\x01e"], "even if the loss was not told");
    }

    #[test]
    fn a_pipe_that_is_gone_is_told_nothing() {
        let (mut sub, mut pipes) = with_one();
        sub.attached(&mut pipes, pipe(2), Some(&peer("")));
        sub.write_closed(&mut pipes, pipe(1));
        sub.detached(&mut pipes, pipe(2));
        sub.subscribe(&mut pipes, b"a");
        assert_eq!(pipes.commands(1), NOTHING);
        assert_eq!(pipes.commands(2), NOTHING);
        pipes.deliver(&mut sub, 1, &["a last word"]);
        assert_eq!(recv(&mut sub, &mut pipes).unwrap(), ["a last word"], "but it is still read");
    }

    #[test]
    fn what_matches_nothing_is_dropped() {
        let (mut sub, mut pipes) = with_one();
        pipes.deliver(&mut sub, 1, &["a"]);
        assert_eq!(recv(&mut sub, &mut pipes), None, "without subscription nothing matches");
        sub.subscribe(&mut pipes, b"a");
        for text in ["b", "ab", "", "a", "ba"] {
            pipes.deliver(&mut sub, 1, &[text, "a"]);
        }
        assert!(sub.can_recv(&mut pipes) && sub.can_recv(&mut pipes));
        assert_eq!(recv(&mut sub, &mut pipes).unwrap(), ["ab", "a"]);
        assert_eq!(recv(&mut sub, &mut pipes).unwrap(), ["a", "a"]);
        assert!(!sub.can_recv(&mut pipes));
        assert_eq!(sub.take(&mut pipes), Err(NotReceived::Again));
        pipes.deliver(&mut sub, 1, &["a late one"]);
        sub.unsubscribe(&mut pipes, b"a");
        assert_eq!(recv(&mut sub, &mut pipes), None);
    }

    #[test]
    fn a_gap_outlives_a_message_that_is_dropped() {
        let (mut sub, mut pipes) = with_one();
        sub.attached(&mut pipes, pipe(2), None);
        sub.subscribe(&mut pipes, b"a");
        pipes.arrive_part(1, Part { body: "b".into(), flags: Flags::GAP });
        pipes.deliver(&mut sub, 1, &["a1"]);
        pipes.deliver(&mut sub, 1, &["a1"]);
        pipes.deliver(&mut sub, 2, &["a2"]);
        pipes.arrive_part(2, Part { body: "a2".into(), flags: Flags::GAP });
        let mut got: Vec<_> = std::iter::from_fn(|| sub.take(&mut pipes).ok())
            .map(|message| (message.body().to_vec(), message.gap_before()))
            .collect();
        got.sort();
        let expected = [(&b"a1"[..], false), (b"a1", true), (b"a2", false), (b"a2", true)];
        assert!(got.iter().map(|(body, gap)| (&body[..], *gap)).eq(expected), "{got:?}");
        pipes.arrive_part(1, Part { body: "b".into(), flags: Flags::GAP });
        sub.readable(pipe(1));
        assert_eq!(recv(&mut sub, &mut pipes), None);
        sub.detached(&mut pipes, pipe(1));
        assert!(sub.gaps.is_empty(), "it ends with its pipe");
    }

    #[test]
    fn fragments_are_dropped_and_sending_is_not_supported() {
        let (mut sub, mut pipes) = with_one();
        sub.subscribe(&mut pipes, b"");
        pipes.commands(1);
        pipes.arrive_part(1, Part::more("half"));
        assert_eq!(recv(&mut sub, &mut pipes), None);
        pipes.deliver(&mut sub, 1, &["whole", "one"]);
        assert_eq!(recv(&mut sub, &mut pipes).unwrap(), ["whole", "one"]);
        let refused = sub.give(&mut pipes, message(&["x"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["x"]), NotSent::NotSupported));
        assert!(!sub.can_send(&mut pipes));
    }
}
