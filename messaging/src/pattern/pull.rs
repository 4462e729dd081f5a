//! PULL: receives from its peers in turn, never sends. Knows no rule but that; the turns are in `queueing`.

use super::queueing::{FairQueue, Spares};
use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug, Default)]
pub(crate) struct Pull {
    fair: FairQueue,
    spares: Spares,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
}

impl Behaviour for Pull {
    fn attached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId, _: Option<&Peer>) {
        self.fair.add(pipe);
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, _: PipeId) {}

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.fair.remove(pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

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
        self.fair.recv(pipes, &mut self.spares, message)
    }

    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        false
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
    use super::super::testing::{ByValue, TestPipes, message, pipe, recv};
    use super::*;
    use transport_core::{Flags, Part};

    #[test]
    fn whole_messages_in_turn() {
        let mut pipes = TestPipes::strict();
        let mut pull = Pull::default();
        assert_eq!(pull.take(&mut pipes), Err(NotReceived::Again));
        for n in 1..=2 {
            pull.attached(&mut pipes, pipe(n), None);
            pipes.deliver(&mut pull, n, &["a", "b"]);
            pipes.deliver(&mut pull, n, &["c"]);
        }
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["a", "b"]);
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["a", "b"]);
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["c"]);
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["c"]);
        assert_eq!(pull.take(&mut pipes), Err(NotReceived::Again));
    }

    #[test]
    fn looking_keeps_the_message_and_the_turn() {
        let mut pipes = TestPipes::strict();
        let mut pull = Pull::default();
        for (n, text) in [(1, "1"), (2, "2")] {
            pull.attached(&mut pipes, pipe(n), None);
            assert!(n > 1 || !pull.can_recv(&mut pipes));
            pipes.deliver(&mut pull, n, &[text]);
        }
        assert!(pull.can_recv(&mut pipes) && pull.can_recv(&mut pipes));
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["1"]);
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["2"]);
        assert!(!pull.can_recv(&mut pipes));
    }

    #[test]
    fn what_has_arrived_is_read_after_the_link_is_gone() {
        let mut pipes = TestPipes::strict();
        let mut pull = Pull::default();
        pull.attached(&mut pipes, pipe(1), None);
        pipes.deliver(&mut pull, 1, &["a"]);
        pipes.deliver(&mut pull, 1, &["b"]);
        pipes.deliver(&mut pull, 1, &["c"]);
        pull.write_closed(&mut pipes, pipe(1));
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["a"]);
        assert!(pull.can_recv(&mut pipes));
        pull.detached(&mut pipes, pipe(1));
        assert_eq!(recv(&mut pull, &mut pipes).unwrap(), ["b"], "it was promised");
        assert_eq!(recv(&mut pull, &mut pipes), None);
        pull.readable(pipe(1));
        assert_eq!(recv(&mut pull, &mut pipes), None, "a forgotten pipe stays forgotten");
    }

    #[test]
    fn a_gap_shows_and_sending_is_not_supported() {
        let mut pipes = TestPipes::strict();
        let mut pull = Pull::default();
        pull.attached(&mut pipes, pipe(1), None);
        pipes.arrive_part(1, Part { body: "a".into(), flags: Flags::GAP });
        assert!(pull.take(&mut pipes).unwrap().gap_before());
        let refused = pull.give(&mut pipes, message(&["x"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["x"]), NotSent::NotSupported));
        assert!(!pull.can_send(&mut pipes));
    }
}
