//! DEALER: sends to its peers in turn, receives from them in turn. Adds no envelope and expects none.

use super::queueing::{FairQueue, LoadBalancer, Spares, probe, write_message};
use super::{Behaviour, NotReceived, NotSent, PatternOptions, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug, Default)]
pub(crate) struct Dealer {
    balancer: LoadBalancer,
    fair: FairQueue,
    spares: Spares,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
    probes: bool,
}

impl Behaviour for Dealer {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        self.fair.add(pipe);
        self.balancer.add(pipe);
        probe(self.probes && peer.is_some(), pipes, pipe);
    }

    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, _: &Peer) {
        probe(self.probes, pipes, pipe);
    }

    fn set_options(&mut self, options: &PatternOptions) {
        self.probes = options.probe_router;
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.balancer.remove(pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.balancer.remove(pipe);
        self.fair.remove(pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    fn writable(&mut self, pipe: PipeId) {
        self.balancer.writable(pipe);
    }

    #[inline]
    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        let Some(pipe) = self.balancer.pick(pipes) else {
            return Err(NotSent::Again);
        };
        write_message(pipes, pipe, message, &mut self.spares);
        self.balancer.sent();
        Ok(())
    }

    #[inline]
    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        if let Some(next) = &mut self.next {
            *message = next.take();
            self.next = None;
            return Ok(());
        }
        self.fair.recv(pipes, &mut self.spares, message)
    }

    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        self.balancer.pick(pipes).is_some()
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.next.is_none() {
            let mut message = Message::EMPTY;
            self.next = self.fair.recv(pipes, &mut self.spares, &mut message).is_ok().then_some(message);
        }
        self.next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, pipe, recv, send};
    use super::*;

    #[test]
    fn sends_and_receives_in_turn_without_envelope() {
        let mut pipes = TestPipes::strict();
        let mut dealer = Dealer::default();
        assert!(!dealer.can_send(&mut pipes) && !dealer.can_recv(&mut pipes));
        assert_eq!(dealer.give(&mut pipes, message(&["x"])).unwrap_err().why, NotSent::Again);
        for (n, text) in [(1, "1"), (2, "2")] {
            dealer.attached(&mut pipes, pipe(n), None);
            (0..2).for_each(|_| pipes.deliver(&mut dealer, n, &[text, "x"]));
        }
        for n in ["a", "b", "c"] {
            send(&mut dealer, &mut pipes, &["", n]);
        }
        assert_eq!(pipes.sent(1), [message(&["", "a"]), message(&["", "c"])]);
        assert_eq!(pipes.sent(2), [message(&["", "b"])]);
        assert!(dealer.can_recv(&mut pipes));
        for n in ["1", "2", "1", "2"] {
            assert_eq!(recv(&mut dealer, &mut pipes).unwrap(), [n, "x"]);
        }
        assert_eq!(dealer.take(&mut pipes), Err(NotReceived::Again));
    }

    #[test]
    fn a_full_pipe_is_passed_over_and_a_closed_one_still_read() {
        let mut pipes = TestPipes::strict();
        let mut dealer = Dealer::default();
        (1..=2).for_each(|n| dealer.attached(&mut pipes, pipe(n), None));
        pipes.room(1, 0);
        (0..2).for_each(|_| send(&mut dealer, &mut pipes, &["x"]));
        assert_eq!(pipes.sent(2).len(), 2);
        pipes.room(1, 1);
        dealer.writable(pipe(1));
        pipes.deliver(&mut dealer, 2, &["last words"]);
        dealer.write_closed(&mut pipes, pipe(2));
        send(&mut dealer, &mut pipes, &["x"]);
        assert_eq!(pipes.sent(1).len(), 1);
        assert!(!dealer.can_send(&mut pipes));
        assert_eq!(recv(&mut dealer, &mut pipes).unwrap(), ["last words"]);
        pipes.room(1, 1);
        dealer.writable(pipe(1));
        assert!(dealer.can_send(&mut pipes));
        (1..=2).for_each(|n| dealer.detached(&mut pipes, pipe(n)));
        assert!(!dealer.can_send(&mut pipes));
        assert_eq!(recv(&mut dealer, &mut pipes), None);
    }
}
