//! PUSH: sends to its peers in turn, never receives. Knows no rule but that; the turns are in `queueing`.

use super::queueing::{LoadBalancer, Spares, write_message};
use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug, Default)]
pub(crate) struct Push {
    balancer: LoadBalancer,
    spares: Spares,
}

impl Behaviour for Push {
    fn attached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId, _: Option<&Peer>) {
        self.balancer.add(pipe);
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.balancer.remove(pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.balancer.remove(pipe);
    }

    fn readable(&mut self, _: PipeId) {}

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

    fn recv<P: Pipes>(&mut self, _: &mut P, _: &mut Message) -> Result<(), NotReceived> {
        Err(NotReceived::NotSupported)
    }

    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        self.balancer.pick(pipes).is_some()
    }

    fn can_recv<P: Pipes>(&mut self, _: &mut P) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, pipe, send};
    use super::*;

    #[test]
    fn whole_messages_in_turn() {
        let mut pipes = TestPipes::strict();
        let mut push = Push::default();
        assert!(!push.can_send(&mut pipes));
        push.attached(&mut pipes, pipe(1), None);
        push.attached(&mut pipes, pipe(2), None);
        for n in ["1", "2", "3"] {
            send(&mut push, &mut pipes, &[n, "x"]);
        }
        assert_eq!(pipes.sent(1), [message(&["1", "x"]), message(&["3", "x"])]);
        assert_eq!(pipes.sent(2), [message(&["2", "x"])]);
    }

    #[test]
    fn again_without_a_pipe_or_room_and_the_message_comes_back() {
        let mut pipes = TestPipes::strict();
        let mut push = Push::default();
        let refused = push.give(&mut pipes, message(&["a", "b"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["a", "b"]), NotSent::Again));
        push.attached(&mut pipes, pipe(1), None);
        pipes.room(1, 1);
        assert!(push.can_send(&mut pipes));
        send(&mut push, &mut pipes, &["a"]);
        assert!(!push.can_send(&mut pipes));
        assert_eq!(push.give(&mut pipes, message(&["b"])).unwrap_err().why, NotSent::Again);
        pipes.room(1, 1);
        push.writable(pipe(1));
        send(&mut push, &mut pipes, &["b"]);
    }

    #[test]
    fn a_closed_pipe_gets_nothing() {
        let mut pipes = TestPipes::strict();
        let mut push = Push::default();
        push.attached(&mut pipes, pipe(1), None);
        push.attached(&mut pipes, pipe(2), None);
        push.write_closed(&mut pipes, pipe(1));
        push.writable(pipe(1));
        (0..3).for_each(|_| send(&mut push, &mut pipes, &["x"]));
        assert_eq!((pipes.sent(1).len(), pipes.sent(2).len()), (0, 3));
        push.detached(&mut pipes, pipe(1));
        push.detached(&mut pipes, pipe(2));
        assert!(!push.can_send(&mut pipes));
    }

    #[test]
    fn never_receives() {
        let mut pipes = TestPipes::strict();
        let mut push = Push::default();
        push.attached(&mut pipes, pipe(1), None);
        pipes.deliver(&mut push, 1, &["x"]);
        assert_eq!(push.take(&mut pipes), Err(NotReceived::NotSupported));
        assert!(!push.can_recv(&mut pipes));
    }
}
