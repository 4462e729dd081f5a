//! REQ: one request, then its reply, in lockstep, unless the socket is to be relaxed about that. Neither retries nor
//! times out.

use transport_core::{Frame, Part};

use super::queueing::{FairQueue, LoadBalancer, Spares, drop_rest, probe, read_message, write_message};
use super::{Behaviour, NotReceived, NotSent, PatternOptions, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug, Default)]
pub(crate) struct Request {
    balancer: LoadBalancer,
    fair: FairQueue,
    spares: Spares,
    /// A request was sent and its reply not yet received.
    waiting: bool,
    /// Who was asked. Once that pipe is gone a reply from any other is taken, as in libzmq.
    asked: Option<PipeId>,
    /// The reply, read ahead by `can_recv`.
    reply: Option<Message>,
    /// REQ_CORRELATE: requests carry a number, which their replies must have.
    correlates: bool,
    /// The number of the last request.
    number: u32,
    /// REQ_RELAXED: a new request may take the place of one that has no reply.
    relaxed: bool,
    probes: bool,
}

impl Request {
    /// Numbers of requests count from `first`: what answers an earlier run answers nothing of this one.
    pub(crate) fn new(first: u32) -> Self {
        Self { number: first, ..Self::default() }
    }

    /// The next reply of the one who was asked. Anything else is dropped on the way: what others send, and what has
    /// no empty delimiter with a body behind it (ZeroMQ RFC 28, "The REQ Socket Type").
    fn fetch<P: Pipes>(&mut self, pipes: &mut P) -> Option<Message> {
        loop {
            let (pipe, mut delimiter) = self.fair.first(pipes)?;
            let strange = self.asked.is_some_and(|asked| asked != pipe);
            if self.correlates && !strange {
                let numbered = delimiter.flags.more() && delimiter.body[..] == self.number.to_be_bytes();
                let gap = delimiter.flags.gap();
                let Some(next) = numbered.then(|| pipes.read(pipe)).flatten() else {
                    drop_rest(pipes, pipe, &delimiter);
                    continue;
                };
                delimiter = next;
                if gap {
                    delimiter.flags = delimiter.flags.with(transport_core::Flags::GAP);
                }
            }
            if strange || !delimiter.flags.more() || !delimiter.body.is_empty() {
                drop_rest(pipes, pipe, &delimiter);
                continue;
            }
            let Some(mut body) = pipes.read(pipe) else { continue };
            // Flags of the message stand on its first part, which the application does not see.
            if delimiter.flags.gap() {
                body.flags = body.flags.with(transport_core::Flags::GAP);
            }
            if let Some(reply) = read_message(pipes, pipe, body, &mut self.spares) {
                return Some(reply);
            }
        }
    }
}

impl Behaviour for Request {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        self.fair.add(pipe);
        self.balancer.add(pipe);
        probe(self.probes && peer.is_some(), pipes, pipe);
    }

    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, _: &Peer) {
        probe(self.probes, pipes, pipe);
    }

    fn set_options(&mut self, options: &PatternOptions) {
        (self.relaxed, self.correlates) = (options.req_relaxed, options.req_correlate);
        self.probes = options.probe_router;
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.balancer.remove(pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.balancer.remove(pipe);
        self.fair.remove(pipe);
        if self.asked == Some(pipe) {
            self.asked = None;
        }
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    fn writable(&mut self, pipe: PipeId) {
        self.balancer.writable(pipe);
    }

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        if self.waiting && !self.relaxed {
            return Err(NotSent::State);
        }
        let Some(pipe) = self.balancer.pick(pipes) else {
            return Err(NotSent::Again);
        };
        // What is there before the request was sent cannot be its reply: a second peer may have answered an earlier
        // request late.
        while let Some((pipe, part)) = self.fair.first(pipes) {
            drop_rest(pipes, pipe, &part);
        }
        self.reply = None;
        if self.correlates {
            self.number = self.number.wrapping_add(1);
            pipes.write(pipe, Part::more(Frame::from(&self.number.to_be_bytes())));
        }
        pipes.write(pipe, Part::more(Frame::EMPTY));
        write_message(pipes, pipe, message, &mut self.spares);
        self.balancer.sent();
        self.asked = Some(pipe);
        self.waiting = true;
        Ok(())
    }

    fn admits<P: Pipes>(&mut self, pipes: &mut P, _: &Frame) -> Result<(), NotSent> {
        if self.waiting && !self.relaxed {
            return Err(NotSent::State);
        }
        if self.can_send(pipes) { Ok(()) } else { Err(NotSent::Again) }
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        if !self.waiting {
            return Err(NotReceived::State);
        }
        let reply = if self.reply.is_some() { self.reply.take() } else { self.fetch(pipes) };
        *message = reply.ok_or(NotReceived::Again)?;
        self.waiting = false;
        Ok(())
    }

    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        (!self.waiting || self.relaxed) && self.balancer.pick(pipes).is_some()
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.waiting && self.reply.is_none() {
            self.reply = self.fetch(pipes);
        }
        self.reply.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, peer, pipe, recv, send};
    use super::*;
    use transport_core::Flags;

    fn with_pipes(count: u64) -> (Request, TestPipes) {
        let (mut request, mut pipes) = (Request::default(), TestPipes::strict());
        (1..=count).for_each(|n| request.attached(&mut pipes, pipe(n), None));
        (request, pipes)
    }

    #[test]
    fn a_request_and_its_reply() {
        let (mut req, mut pipes) = with_pipes(1);
        send(&mut req, &mut pipes, &["a", "b"]);
        assert_eq!(pipes.sent(1), [message(&["", "a", "b"])]);
        assert!(!req.can_recv(&mut pipes));
        assert_eq!(req.take(&mut pipes), Err(NotReceived::Again));
        pipes.deliver(&mut req, 1, &["", "c", "", "d"]);
        assert!(req.can_recv(&mut pipes) && req.can_recv(&mut pipes));
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["c", "", "d"]);
        send(&mut req, &mut pipes, &["a"]);
        pipes.deliver(&mut req, 1, &["", ""]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), [""], "an empty body is a body");
    }

    #[test]
    fn out_of_turn_is_a_state_error() {
        let (mut req, mut pipes) = with_pipes(1);
        pipes.deliver(&mut req, 1, &["", "early"]);
        assert_eq!(req.take(&mut pipes), Err(NotReceived::State));
        assert!(!req.can_recv(&mut pipes), "not even when something is there");
        assert!(req.can_send(&mut pipes));
        send(&mut req, &mut pipes, &["a"]);
        assert!(!req.can_send(&mut pipes));
        let refused = req.give(&mut pipes, message(&["b"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["b"]), NotSent::State));
        pipes.deliver(&mut req, 1, &["", "reply"]);
        assert!(req.can_recv(&mut pipes));
        assert!(!req.can_send(&mut pipes), "looking does not change whose turn it is");
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["reply"]);
        assert_eq!(req.take(&mut pipes), Err(NotReceived::State));
    }

    #[test]
    fn without_a_pipe_or_room_it_is_still_its_turn() {
        let (mut req, mut pipes) = with_pipes(0);
        assert_eq!(req.give(&mut pipes, message(&["x"])).unwrap_err().why, NotSent::Again);
        req.attached(&mut pipes, pipe(1), None);
        pipes.room(1, 0);
        let refused = req.give(&mut pipes, message(&["x"])).unwrap_err();
        assert_eq!((refused.message, refused.why), (message(&["x"]), NotSent::Again));
        assert_eq!(req.take(&mut pipes), Err(NotReceived::State));
        pipes.room(1, 1);
        req.writable(pipe(1));
        send(&mut req, &mut pipes, &["x"]);
    }

    #[test]
    fn only_the_one_asked_may_answer() {
        let (mut req, mut pipes) = with_pipes(2);
        send(&mut req, &mut pipes, &["to 1"]);
        pipes.deliver(&mut req, 2, &["", "from 2"]);
        assert!(!req.can_recv(&mut pipes));
        assert_eq!(recv(&mut req, &mut pipes), None);
        pipes.deliver(&mut req, 1, &["", "from 1"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["from 1"]);
        send(&mut req, &mut pipes, &["to 2"]);
        assert_eq!((pipes.sent(1).len(), pipes.sent(2).len()), (1, 1));
    }

    #[test]
    fn malformed_replies_are_passed_over() {
        let (mut req, mut pipes) = with_pipes(1);
        send(&mut req, &mut pipes, &["a"]);
        for malformed in [&["x"][..], &[""], &["x", "y"], &["x", "", "y"]] {
            pipes.deliver(&mut req, 1, malformed);
        }
        assert!(!req.can_recv(&mut pipes));
        pipes.deliver(&mut req, 1, &["x", "", "y"]);
        pipes.deliver(&mut req, 1, &["", "reply"]);
        pipes.deliver(&mut req, 1, &["", "second"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["reply"]);
        send(&mut req, &mut pipes, &["b"]);
        assert_eq!(recv(&mut req, &mut pipes), None, "a reply from before the request is stale");
    }

    #[test]
    fn a_late_reply_to_an_earlier_request_is_not_the_next_one_s() {
        let (mut req, mut pipes) = with_pipes(2);
        send(&mut req, &mut pipes, &["1"]);
        pipes.deliver(&mut req, 1, &["", "1"]);
        pipes.deliver(&mut req, 1, &["", "1 again", "and more"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["1"]);
        send(&mut req, &mut pipes, &["2"]);
        pipes.deliver(&mut req, 2, &["", "2"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["2"]);
        send(&mut req, &mut pipes, &["3"]);
        assert_eq!(recv(&mut req, &mut pipes), None);
    }

    #[test]
    fn when_the_one_asked_is_gone_any_reply_will_do() {
        let (mut req, mut pipes) = with_pipes(2);
        send(&mut req, &mut pipes, &["to 1"]);
        req.write_closed(&mut pipes, pipe(1));
        pipes.deliver(&mut req, 2, &["", "too early"]);
        assert_eq!(recv(&mut req, &mut pipes), None, "what the one asked has sent may still be read");
        req.detached(&mut pipes, pipe(1));
        assert!(!req.can_send(&mut pipes), "still waiting");
        assert_eq!(req.take(&mut pipes), Err(NotReceived::Again));
        pipes.deliver(&mut req, 2, &["", "from 2"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["from 2"]);
    }

    #[test]
    fn after_a_reconnect_it_waits_on() {
        let (mut req, mut pipes) = with_pipes(1);
        send(&mut req, &mut pipes, &["lost"]);
        req.identified(&mut pipes, pipe(1), &peer(""));
        assert!(!req.can_send(&mut pipes));
        assert_eq!(req.take(&mut pipes), Err(NotReceived::Again));
        assert_eq!(pipes.sent(1).len(), 1, "nothing is sent again");
    }

    #[test]
    fn a_reply_that_was_promised_is_given() {
        let (mut req, mut pipes) = with_pipes(1);
        send(&mut req, &mut pipes, &["a"]);
        pipes.arrive_part(1, Part { body: Frame::EMPTY, flags: Flags::MORE.with(Flags::GAP) });
        pipes.deliver(&mut req, 1, &["reply"]);
        assert!(req.can_recv(&mut pipes));
        req.detached(&mut pipes, pipe(1));
        assert!(req.can_recv(&mut pipes));
        assert!(req.take(&mut pipes).unwrap().gap_before());
    }

    #[test]
    fn fragments_are_dropped() {
        let (mut req, mut pipes) = with_pipes(1);
        for fragment in [&[""][..], &["", "a"], &["x"]] {
            if !req.waiting {
                send(&mut req, &mut pipes, &["a"]);
            }
            fragment.iter().for_each(|part| pipes.arrive_part(1, Part::more(*part)));
            req.readable(pipe(1));
            assert_eq!(recv(&mut req, &mut pipes), None);
        }
        pipes.deliver(&mut req, 1, &["", "whole"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["whole"]);
    }

    fn with_options(options: &PatternOptions) -> (Request, TestPipes) {
        let (mut req, mut pipes) = (Request::new(6), TestPipes::strict());
        req.set_options(options);
        (1..=2).for_each(|n| req.attached(&mut pipes, pipe(n), None));
        (req, pipes)
    }

    #[test]
    fn a_relaxed_one_asks_the_next_peer_and_hears_only_that_one() {
        let options = PatternOptions { req_relaxed: true, ..PatternOptions::default() };
        let (mut req, mut pipes) = with_options(&options);
        send(&mut req, &mut pipes, &["first"]);
        pipes.deliver(&mut req, 1, &["", "in time"]);
        assert!(req.can_recv(&mut pipes) && req.can_send(&mut pipes));
        send(&mut req, &mut pipes, &["second"]);
        assert!(!req.can_recv(&mut pipes), "that was of the first");
        pipes.deliver(&mut req, 1, &["", "late"]);
        pipes.deliver(&mut req, 2, &["", "in time"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["in time"]);
        assert_eq!(req.take(&mut pipes), Err(NotReceived::State));
    }

    #[test]
    fn numbered_requests_take_their_own_replies_only() {
        let options = PatternOptions { req_relaxed: true, req_correlate: true, ..PatternOptions::default() };
        let (mut req, mut pipes) = with_options(&options);
        pipes.remove(2);
        req.detached(&mut pipes, pipe(2));
        send(&mut req, &mut pipes, &["first"]);
        send(&mut req, &mut pipes, &["second"]);
        let sent = pipes.sent(1);
        assert_eq!(sent[1], message(&["\0\0\0\u{8}", "", "second"]));
        pipes.deliver(&mut req, 1, &["\0\0\0\u{7}", "", "of the first"]);
        pipes.deliver(&mut req, 1, &["", "without a number"]);
        pipes.deliver(&mut req, 1, &["\0\0\0\u{8}"]);
        pipes.deliver(&mut req, 1, &["\0\0\0\u{8}", "no delimiter"]);
        assert!(!req.can_recv(&mut pipes));
        pipes.deliver(&mut req, 1, &["\0\0\0\u{8}", "", "of the second"]);
        assert_eq!(recv(&mut req, &mut pipes).unwrap(), ["of the second"]);
    }
}
