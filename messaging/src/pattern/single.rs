//! CLIENT, SCATTER, GATHER and CHANNEL: what DEALER, PUSH, PULL and PAIR do, with messages of one part only. Holds that rule
//! and nothing else; messages of several parts that a peer sends all the same are dropped, as by libzmq.

use transport_core::Frame;

use super::{Behaviour, NotReceived, NotSent, PatternOptions, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

/// A behaviour whose messages have one part.
#[derive(Debug, Default)]
pub(crate) struct Single<B> {
    inner: B,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
}

impl<B: Behaviour> Single<B> {
    fn fetch<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        loop {
            self.inner.recv(pipes, message)?;
            if message.len() == 1 {
                return Ok(());
            }
            *message = Message::EMPTY;
        }
    }
}

impl<B: Behaviour> Behaviour for Single<B> {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        self.inner.attached(pipes, pipe, peer);
    }

    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: &Peer) {
        self.inner.identified(pipes, pipe, peer);
    }

    fn link_lost(&mut self, pipe: PipeId) {
        self.inner.link_lost(pipe);
    }

    fn write_closed<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.inner.write_closed(pipes, pipe);
    }

    fn detached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.inner.detached(pipes, pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.inner.readable(pipe);
    }

    fn writable(&mut self, pipe: PipeId) {
        self.inner.writable(pipe);
    }

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        if message.len() == 1 { self.inner.send(pipes, message) } else { Err(NotSent::Parts) }
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        match self.next.take() {
            Some(next) => {
                *message = next;
                Ok(())
            }
            None => self.fetch(pipes, message),
        }
    }

    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        self.inner.can_send(pipes)
    }

    fn admits<P: Pipes>(&mut self, pipes: &mut P, first: &Frame) -> Result<(), NotSent> {
        self.inner.admits(pipes, first)
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.next.is_none() {
            let mut message = Message::EMPTY;
            self.next = self.fetch(pipes, &mut message).is_ok().then_some(message);
        }
        self.next.is_some()
    }

    fn set_options(&mut self, options: &PatternOptions) {
        self.inner.set_options(options);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dealer::Dealer;
    use super::super::push::Push;
    use super::super::testing::{ByValue, TestPipes, message, pipe, recv, send};
    use super::*;

    #[test]
    fn messages_have_one_part() {
        let (mut client, mut pipes) = (Single::<Dealer>::default(), TestPipes::strict());
        client.attached(&mut pipes, pipe(1), None);
        let refused = client.give(&mut pipes, message(&["a", "b"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["a", "b"]), NotSent::Parts));
        send(&mut client, &mut pipes, &["a"]);
        assert_eq!(pipes.sent(1), [message(&["a"])]);
        pipes.deliver(&mut client, 1, &["several", "parts"]);
        assert!(!client.can_recv(&mut pipes));
        pipes.deliver(&mut client, 1, &["several", "parts"]);
        pipes.deliver(&mut client, 1, &["one"]);
        assert!(client.can_recv(&mut pipes) && client.can_recv(&mut pipes));
        assert_eq!(recv(&mut client, &mut pipes).unwrap(), ["one"]);
        assert_eq!(client.take(&mut pipes), Err(NotReceived::Again));
    }

    #[test]
    fn what_the_behaviour_does_not_do_it_does_not() {
        let (mut scatter, mut pipes) = (Single::<Push>::default(), TestPipes::strict());
        assert_eq!(scatter.give(&mut pipes, message(&["a"])).unwrap_err().why, NotSent::Again);
        assert_eq!(scatter.take(&mut pipes), Err(NotReceived::NotSupported));
        assert!(!scatter.can_recv(&mut pipes));
    }
}
