//! PAIR: exactly one peer. Not a queue over several.

use transport_core::{Flags, Part};

use super::queueing::{Spares, read_message, write_message};
use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug, Default)]
pub(crate) struct Pair {
    pipe: Option<PipeId>,
    /// The pipe's link is gone for good. The pipe still counts until it is detached, as in libzmq.
    closed: bool,
    spares: Spares,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
}

impl Pair {
    #[inline]
    fn out<P: Pipes>(&self, pipes: &mut P) -> Option<PipeId> {
        self.pipe.filter(|&pipe| !self.closed && pipes.can_write(pipe))
    }

    #[inline(always)]
    fn fetch<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        let Some(pipe) = self.pipe else { return Err(NotReceived::Again) };
        // One part goes straight to its place; see FairQueue::recv.
        match pipes.read(pipe) {
            Some(Part { body, flags: Flags::LAST }) => message.set(body),
            Some(first) => {
                *message = read_message(pipes, pipe, first, &mut self.spares).ok_or(NotReceived::Again)?;
            }
            None => return Err(NotReceived::Again),
        }
        Ok(())
    }
}

impl Behaviour for Pair {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, _: Option<&Peer>) {
        match self.pipe {
            None => (self.pipe, self.closed) = (Some(pipe), false),
            Some(own) if own == pipe => {}
            Some(_) => pipes.reject(pipe),
        }
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.closed |= self.pipe == Some(pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        if self.pipe == Some(pipe) {
            self.pipe = None;
        }
    }

    // One pipe is asked every time; there is no list of the others.
    fn readable(&mut self, _: PipeId) {}

    fn writable(&mut self, _: PipeId) {}

    #[inline]
    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        let Some(pipe) = self.out(pipes) else {
            return Err(NotSent::Again);
        };
        write_message(pipes, pipe, message, &mut self.spares);
        Ok(())
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

    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        self.out(pipes).is_some()
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.next.is_none() {
            let mut message = Message::EMPTY;
            self.next = self.fetch(pipes, &mut message).is_ok().then_some(message);
        }
        self.next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, peer, pipe, recv, send};
    use super::*;

    #[test]
    fn both_ways() {
        let mut pipes = TestPipes::strict();
        let mut pair = Pair::default();
        assert!(!pair.can_send(&mut pipes) && !pair.can_recv(&mut pipes));
        assert_eq!(pair.give(&mut pipes, message(&["x"])).unwrap_err().why, NotSent::Again);
        assert_eq!(pair.take(&mut pipes), Err(NotReceived::Again));
        pair.attached(&mut pipes, pipe(1), None);
        pair.identified(&mut pipes, pipe(1), &peer(""));
        send(&mut pair, &mut pipes, &["a", "b"]);
        assert_eq!(pipes.sent(1), [message(&["a", "b"])]);
        pipes.deliver(&mut pair, 1, &["c", "d"]);
        assert!(pair.can_recv(&mut pipes) && pair.can_recv(&mut pipes));
        assert_eq!(recv(&mut pair, &mut pipes).unwrap(), ["c", "d"]);
        pipes.room(1, 0);
        assert!(!pair.can_send(&mut pipes));
        let refused = pair.give(&mut pipes, message(&["x"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["x"]), NotSent::Again));
    }

    #[test]
    fn a_second_peer_is_rejected_until_the_first_is_detached() {
        let mut pipes = TestPipes::strict();
        let mut pair = Pair::default();
        pair.attached(&mut pipes, pipe(1), Some(&peer("")));
        pair.attached(&mut pipes, pipe(2), Some(&peer("")));
        assert_eq!(pipes.rejected, [2]);
        pipes.deliver(&mut pair, 2, &["not for us"]);
        assert_eq!(recv(&mut pair, &mut pipes), None);
        pair.detached(&mut pipes, pipe(2));
        send(&mut pair, &mut pipes, &["still the first"]);
        assert_eq!(pipes.sent(1).len(), 1);
        pair.detached(&mut pipes, pipe(1));
        pair.attached(&mut pipes, pipe(3), Some(&peer("")));
        assert_eq!(pipes.rejected, [2]);
        send(&mut pair, &mut pipes, &["now the third"]);
        assert_eq!(pipes.sent(3).len(), 1);
    }

    #[test]
    fn after_close_it_reads_but_does_not_write() {
        let mut pipes = TestPipes::strict();
        let mut pair = Pair::default();
        pair.attached(&mut pipes, pipe(1), Some(&peer("")));
        pipes.deliver(&mut pair, 1, &["last words"]);
        pair.write_closed(&mut pipes, pipe(1));
        assert!(!pair.can_send(&mut pipes));
        pair.attached(&mut pipes, pipe(2), Some(&peer("")));
        assert_eq!(pipes.rejected, [2], "it counts until it is detached");
        assert_eq!(recv(&mut pair, &mut pipes).unwrap(), ["last words"]);
        pair.detached(&mut pipes, pipe(1));
        pair.attached(&mut pipes, pipe(3), Some(&peer("")));
        assert!(pair.can_send(&mut pipes));
    }

    #[test]
    fn a_fragment_is_dropped() {
        let mut pipes = TestPipes::strict();
        let mut pair = Pair::default();
        pair.attached(&mut pipes, pipe(1), None);
        pipes.arrive_part(1, Part::more("half"));
        assert_eq!(recv(&mut pair, &mut pipes), None);
        pipes.deliver(&mut pair, 1, &["whole"]);
        assert_eq!(recv(&mut pair, &mut pipes).unwrap(), ["whole"]);
    }
}
