//! REP: one request, then its reply to whoever asked, in lockstep. Keeps the envelope and does not look into it.

use transport_core::{Flags, Frame, Part};

use super::queueing::{FairQueue, Spares, drop_rest, read_message, write_message};
use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

/// Longer envelopes than this are not kept as a place for the next one.
const ENVELOPE_PARTS: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Reply {
    fair: FairQueue,
    spares: Spares,
    /// A request was received and its reply not yet sent.
    due: bool,
    /// Who asked; `None` when that pipe is gone, and the reply goes nowhere.
    asker: Option<PipeId>,
    /// The parts of the request up to and including the empty delimiter.
    envelope: Vec<Frame>,
    /// The request, read ahead by `can_recv`. Its envelope and asker stand above already: nothing else is read before
    /// it was answered.
    request: Option<Message>,
}

impl Reply {
    /// The next request. Those without delimiter, or with nothing behind it, are dropped (ZeroMQ RFC 28, "The REP
    /// Socket Type").
    fn fetch<P: Pipes>(&mut self, pipes: &mut P) -> Option<Message> {
        loop {
            let (pipe, mut part) = self.fair.first(pipes)?;
            let gap = part.flags.gap();
            self.envelope.clear();
            while part.flags.more() && !part.body.is_empty() {
                self.envelope.push(part.body);
                match pipes.read(pipe) {
                    Some(next) => part = next,
                    // The pipe ended in the middle.
                    None => part = Part::last(Frame::EMPTY),
                }
            }
            if !part.flags.more() {
                drop_rest(pipes, pipe, &part);
                continue;
            }
            self.envelope.push(part.body);
            let Some(mut body) = pipes.read(pipe) else { continue };
            if gap {
                body.flags = body.flags.with(Flags::GAP);
            }
            if let Some(request) = read_message(pipes, pipe, body, &mut self.spares) {
                self.asker = Some(pipe);
                return Some(request);
            }
        }
    }

    fn forget_asker(&mut self, pipe: PipeId) {
        if self.asker == Some(pipe) {
            self.asker = None;
        }
    }
}

impl Behaviour for Reply {
    fn attached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId, _: Option<&Peer>) {
        self.fair.add(pipe);
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.forget_asker(pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.fair.remove(pipe);
        self.forget_asker(pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    // A reply goes now or never; nobody waits for room.
    fn writable(&mut self, _: PipeId) {}

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        if !self.due {
            return Err(NotSent::State);
        }
        // As in libzmq, a reply to a peer that is gone or does not take its replies is dropped: it must not stop the
        // service of the others.
        if let Some(asker) = self.asker.take().filter(|&asker| pipes.can_write(asker)) {
            for body in self.envelope.drain(..) {
                pipes.write(asker, Part { body, flags: Flags::MORE });
            }
            write_message(pipes, asker, message, &mut self.spares);
        } else {
            drop(message.take());
        }
        if self.envelope.capacity() > ENVELOPE_PARTS {
            self.envelope = Vec::new();
        }
        self.due = false;
        Ok(())
    }

    fn admits<P: Pipes>(&mut self, _: &mut P, _: &Frame) -> Result<(), NotSent> {
        if !self.due {
            return Err(NotSent::State);
        }
        Ok(())
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        if self.due {
            return Err(NotReceived::State);
        }
        let request = if self.request.is_some() { self.request.take() } else { self.fetch(pipes) };
        *message = request.ok_or(NotReceived::Again)?;
        self.due = true;
        Ok(())
    }

    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        self.due
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if !self.due && self.request.is_none() {
            self.request = self.fetch(pipes);
        }
        self.request.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, pipe, recv, send};
    use super::*;

    fn with_pipes(count: u64) -> (Reply, TestPipes) {
        let (mut reply, mut pipes) = (Reply::default(), TestPipes::strict());
        (1..=count).for_each(|n| reply.attached(&mut pipes, pipe(n), None));
        (reply, pipes)
    }

    #[test]
    fn the_envelope_goes_back_to_whoever_asked() {
        let (mut rep, mut pipes) = with_pipes(2);
        pipes.deliver(&mut rep, 2, &["hop 2", "hop 1", "", "a", "", "b"]);
        assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["a", "", "b"]);
        send(&mut rep, &mut pipes, &["c", "d"]);
        assert_eq!(pipes.sent(2), [message(&["hop 2", "hop 1", "", "c", "d"])]);
        pipes.deliver(&mut rep, 1, &["", "a"]);
        assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["a"]);
        send(&mut rep, &mut pipes, &["e"]);
        assert_eq!(pipes.sent(1), [message(&["", "e"])]);
        assert!(pipes.sent(2).is_empty());
    }

    #[test]
    fn out_of_turn_is_a_state_error() {
        let (mut rep, mut pipes) = with_pipes(1);
        assert!(!rep.can_send(&mut pipes) && !rep.can_recv(&mut pipes));
        let refused = rep.give(&mut pipes, message(&["x"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["x"]), NotSent::State));
        assert_eq!(rep.take(&mut pipes), Err(NotReceived::Again));
        pipes.deliver(&mut rep, 1, &["", "a"]);
        pipes.deliver(&mut rep, 1, &["", "b"]);
        assert!(rep.can_recv(&mut pipes) && rep.can_recv(&mut pipes));
        assert!(!rep.can_send(&mut pipes), "looking does not change whose turn it is");
        assert_eq!(rep.give(&mut pipes, message(&["x"])).unwrap_err().why, NotSent::State);
        assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["a"]);
        assert!(rep.can_send(&mut pipes));
        assert!(!rep.can_recv(&mut pipes), "not even when something is there");
        assert_eq!(rep.take(&mut pipes), Err(NotReceived::State));
        send(&mut rep, &mut pipes, &["to a"]);
        assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["b"]);
    }

    #[test]
    fn malformed_requests_are_passed_over() {
        let (mut rep, mut pipes) = with_pipes(1);
        for malformed in [&["x"][..], &[""], &["x", "y"], &["x", ""]] {
            pipes.deliver(&mut rep, 1, malformed);
        }
        assert!(!rep.can_recv(&mut pipes));
        pipes.deliver(&mut rep, 1, &["x", "y", "z"]);
        pipes.deliver(&mut rep, 1, &["id", "", "good"]);
        assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["good"]);
        send(&mut rep, &mut pipes, &["reply"]);
        assert_eq!(pipes.sent(1), [message(&["id", "", "reply"])], "no part of the malformed ones");
    }

    #[test]
    fn a_reply_to_one_who_left_is_dropped() {
        let gone: [fn(&mut Reply, &mut TestPipes); 3] = [
            |rep, pipes| rep.write_closed(pipes, pipe(1)),
            |rep, pipes| rep.detached(pipes, pipe(1)),
            |_, pipes| pipes.room(1, 0),
        ];
        for leave in gone {
            for ahead in [false, true] {
                let (mut rep, mut pipes) = with_pipes(2);
                pipes.deliver(&mut rep, 1, &["", "a"]);
                if ahead {
                    assert!(rep.can_recv(&mut pipes));
                    leave(&mut rep, &mut pipes);
                }
                assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["a"]);
                leave(&mut rep, &mut pipes);
                assert!(rep.can_send(&mut pipes));
                send(&mut rep, &mut pipes, &["to nobody"]);
                assert!(pipes.sent(1).is_empty() && pipes.sent(2).is_empty());
                pipes.deliver(&mut rep, 2, &["", "b"]);
                assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["b"], "life goes on");
                send(&mut rep, &mut pipes, &["to 2"]);
                assert_eq!(pipes.sent(2), [message(&["", "to 2"])]);
            }
        }
    }

    #[test]
    fn requests_come_in_turn() {
        let (mut rep, mut pipes) = with_pipes(2);
        for (n, text) in [(1, "1"), (2, "2")] {
            (0..2).for_each(|_| pipes.deliver(&mut rep, n, &["", text]));
        }
        for expected in ["1", "2", "1", "2"] {
            assert_eq!(recv(&mut rep, &mut pipes).unwrap(), [expected]);
            send(&mut rep, &mut pipes, &["x"]);
        }
    }

    #[test]
    fn fragments_are_dropped_and_a_gap_shows() {
        let (mut rep, mut pipes) = with_pipes(1);
        for fragment in [&["id"][..], &["id", ""], &["", "a"]] {
            fragment.iter().for_each(|part| pipes.arrive_part(1, Part::more(*part)));
            rep.readable(pipe(1));
            assert_eq!(recv(&mut rep, &mut pipes), None);
        }
        pipes.arrive_part(1, Part { body: "id".into(), flags: Flags::MORE.with(Flags::GAP) });
        pipes.deliver(&mut rep, 1, &["", "a", "b"]);
        let request = rep.take(&mut pipes).unwrap();
        assert!(request.gap_before());
        assert_eq!(request.len(), 2);
    }

    #[test]
    fn a_huge_envelope_is_not_kept() {
        let (mut rep, mut pipes) = with_pipes(1);
        let mut parts = vec!["hop"; 1_000];
        parts.extend(["", "a"]);
        pipes.deliver(&mut rep, 1, &parts);
        assert_eq!(recv(&mut rep, &mut pipes).unwrap(), ["a"]);
        send(&mut rep, &mut pipes, &["b"]);
        assert_eq!(pipes.sent(1)[0].len(), 1_002);
        assert_eq!(rep.envelope.capacity(), 0);
    }
}
