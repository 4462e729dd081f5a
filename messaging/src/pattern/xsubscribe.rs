//! XSUB: SUB whose application sends subscriptions as messages, and other messages to its publishers. It filters nothing:
//! what its publishers send, it receives. Whom it tells of what is `subscribe.rs`'s.

use transport_core::{Flags, Part};

use super::queueing::PipeSet;
use super::subscribe::Subscribe;
use super::{Behaviour, NotReceived, NotSent, PatternOptions, PipeId, Pipes};
use crate::message::Message;
use crate::session::{Peer, TOPIC_MAX};

#[derive(Debug)]
pub(crate) struct Xsubscribe {
    subscribe: Subscribe,
    /// Pipes that take messages, also those whose peer is still to come.
    open: PipeSet,
}

impl Default for Xsubscribe {
    fn default() -> Self {
        Self { subscribe: Subscribe::taking_all(), open: PipeSet::default() }
    }
}

impl Behaviour for Xsubscribe {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        self.open.insert(pipe);
        self.subscribe.attached(pipes, pipe, peer);
    }

    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: &Peer) {
        self.subscribe.identified(pipes, pipe, peer);
    }

    fn link_lost(&mut self, pipe: PipeId) {
        self.subscribe.link_lost(pipe);
    }

    fn write_closed<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.open.remove(&pipe);
        self.subscribe.write_closed(pipes, pipe);
    }

    fn detached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.open.remove(&pipe);
        self.subscribe.detached(pipes, pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.subscribe.readable(pipe);
    }

    fn writable(&mut self, _: PipeId) {}

    /// A message of one part that begins with 1 subscribes to the rest, one that begins with 0 takes that back; any other
    /// goes to every publisher, where there is room (zmq_socket(3), ZMQ_XSUB). What subscribes to more than a publisher lets pass
    /// is refused: it would cost the link, and each that follows.
    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        match message.body().split_first() {
            Some((&first @ (0 | 1), topic)) if message.len() == 1 => {
                if topic.len() > TOPIC_MAX {
                    return Err(NotSent::Topic);
                }
                // A repetition goes on to the peers, who may be asked to tell of repetitions; taking back what there is not does
                // not. As libzmq does.
                if first == 1 {
                    self.subscribe.add_and_tell(pipes, topic);
                } else {
                    self.subscribe.unsubscribe(pipes, topic);
                }
            }
            _ => {
                let len = message.len();
                for &pipe in self.open.iter() {
                    if pipes.can_write(pipe) {
                        for (at, body) in message.parts().enumerate() {
                            let flags = if at + 1 < len { Flags::MORE } else { Flags::LAST };
                            pipes.write(pipe, Part { body: body.clone(), flags });
                        }
                    }
                }
            }
        }
        message.take();
        Ok(())
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        self.subscribe.recv(pipes, message)
    }

    // What there is no room for is dropped, and subscriptions need none.
    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        true
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        self.subscribe.can_recv(pipes)
    }

    fn set_options(&mut self, options: &PatternOptions) {
        self.subscribe.set_options(options);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestPipes, message, peer, pipe, recv, send};
    use super::*;

    #[test]
    fn subscriptions_are_messages_and_repetitions_go_on() {
        let (mut xsub, mut pipes) = (Xsubscribe::default(), TestPipes::strict());
        xsub.attached(&mut pipes, pipe(1), Some(&peer("")));
        send(&mut xsub, &mut pipes, &["\u{1}a"]);
        send(&mut xsub, &mut pipes, &["\u{1}a"]);
        assert_eq!(pipes.commands(1), ["\\x01a", "\\x01a"]);
        pipes.deliver(&mut xsub, 1, &["b"]);
        assert_eq!(recv(&mut xsub, &mut pipes).unwrap(), ["b"], "as its publisher thought fit");
        send(&mut xsub, &mut pipes, &["\0a"]);
        assert!(pipes.commands(1).is_empty(), "one is left");
        send(&mut xsub, &mut pipes, &["\0a"]);
        send(&mut xsub, &mut pipes, &["\0a"]);
        assert_eq!(pipes.commands(1), ["\\x00a"]);
        send(&mut xsub, &mut pipes, &["\u{1}"]);
        xsub.attached(&mut pipes, pipe(2), Some(&peer("")));
        assert_eq!(pipes.commands(2), ["\\x01"], "newcomers hear of all");
    }

    #[test]
    fn messages_wait_for_a_publisher_that_is_still_to_come() {
        let (mut xsub, mut pipes) = (Xsubscribe::default(), TestPipes::strict());
        xsub.attached(&mut pipes, pipe(1), None);
        send(&mut xsub, &mut pipes, &["\u{1}a"]);
        send(&mut xsub, &mut pipes, &["early"]);
        assert_eq!(pipes.sent(1), [message(&["early"])]);
        assert!(pipes.commands(1).is_empty(), "told when it is there");
        xsub.identified(&mut pipes, pipe(1), &peer(""));
        assert_eq!(pipes.commands(1), ["\\x01a"]);
        xsub.link_lost(pipe(1));
        send(&mut xsub, &mut pipes, &["meanwhile"]);
        assert_eq!(pipes.sent(1), [message(&["meanwhile"])]);
    }

    #[test]
    fn a_topic_that_no_publisher_takes_is_refused() {
        let (mut xsub, mut pipes) = (Xsubscribe::default(), TestPipes::strict());
        xsub.attached(&mut pipes, pipe(1), Some(&peer("")));
        for first in [0, 1] {
            for (len, refused) in [(TOPIC_MAX, false), (TOPIC_MAX + 1, true)] {
                let mut message = Message::new([&[first][..], &vec![b'x'; len]].concat());
                let sent = xsub.send(&mut pipes, &mut message);
                assert_eq!(sent, if refused { Err(NotSent::Topic) } else { Ok(()) });
                assert_eq!(!message.body().is_empty(), refused, "it is still the caller's");
            }
        }
        assert_eq!(pipes.commands(1).len(), 1, "the other took back what there was not");
        assert!(pipes.sent(1).is_empty());
    }

    #[test]
    fn other_messages_go_to_every_publisher_with_room() {
        let (mut xsub, mut pipes) = (Xsubscribe::default(), TestPipes::strict());
        (1..=3).for_each(|n| xsub.attached(&mut pipes, pipe(n), Some(&peer(""))));
        pipes.room(2, 0);
        xsub.write_closed(&mut pipes, pipe(3));
        for parts in [&["hello"][..], &["\u{1}a", "is no subscription"], &[""]] {
            send(&mut xsub, &mut pipes, parts);
            assert_eq!(pipes.sent(1), [message(parts)]);
            assert!(pipes.sent(2).is_empty() && pipes.sent(3).is_empty());
        }
    }
}
