//! SERVER and PEER: each message has one part and beside it the number of the peer that it came from or goes to. Not ROUTER:
//! no part names anybody, and what cannot go is refused.

use std::collections::HashMap;

use transport_core::{Frame, Part};

use super::queueing::{FairQueue, PipeMap, drop_rest};
use super::{Behaviour, NotReceived, NotSent, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug)]
pub(crate) struct Server {
    /// Pipes that can be written to.
    routes: HashMap<u32, PipeId>,
    numbers: PipeMap<u32>,
    fair: FairQueue,
    next_number: u32,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
}

impl Server {
    /// Routing ids count from `first`, which should differ from run to run; see `Router::new`.
    pub(crate) fn new(first: u32) -> Self {
        Self {
            routes: HashMap::new(),
            numbers: PipeMap::default(),
            fair: FairQueue::default(),
            next_number: first,
            next: None,
        }
    }

    fn number(&mut self) -> u32 {
        loop {
            let number = self.next_number;
            self.next_number = number.wrapping_add(1);
            // 0 is nobody's. The counter comes round some day.
            if number != 0 && !self.routes.contains_key(&number) {
                return number;
            }
        }
    }

    fn fetch<P: Pipes>(&mut self, pipes: &mut P) -> Option<Message> {
        loop {
            let (pipe, first) = self.fair.first(pipes)?;
            if first.flags.more() {
                drop_rest(pipes, pipe, &first);
            } else if let Some(&number) = self.numbers.get(&pipe) {
                let gap = first.flags.gap();
                let mut message = Message::new(first.body).to(number);
                if gap {
                    message.set_gap_before();
                }
                return Some(message);
            }
        }
    }
}

impl Behaviour for Server {
    fn attached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId, _: Option<&Peer>) {
        if !self.numbers.contains_key(&pipe) {
            let number = self.number();
            self.routes.insert(number, pipe);
            self.numbers.insert(pipe, number);
            self.fair.add(pipe);
        }
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        if let Some(number) = self.numbers.get(&pipe) {
            self.routes.remove(number);
        }
    }

    fn detached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.write_closed(pipes, pipe);
        self.numbers.remove(&pipe);
        self.fair.remove(pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    // The pipe is asked for room with each message.
    fn writable(&mut self, _: PipeId) {}

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        if message.len() != 1 {
            return Err(NotSent::Parts);
        }
        let number = message.routing_id().ok_or(NotSent::NoRoutingId)?;
        let &pipe = self.routes.get(&number).ok_or(NotSent::Unroutable)?;
        if !pipes.can_write(pipe) {
            return Err(NotSent::Again);
        }
        pipes.write(pipe, Part::last(message.take().into_first_and_rest().0));
        Ok(())
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        *message = self.next.take().or_else(|| self.fetch(pipes)).ok_or(NotReceived::Again)?;
        Ok(())
    }

    // As libzmq has it: it depends on whom a message is for.
    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        true
    }

    fn admits<P: Pipes>(&mut self, _: &mut P, _: &Frame) -> Result<(), NotSent> {
        Ok(())
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.next.is_none() {
            self.next = self.fetch(pipes);
        }
        self.next.is_some()
    }

    fn routing_id(&self, pipe: PipeId) -> Option<u32> {
        self.numbers.get(&pipe).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, pipe};
    use super::*;

    #[test]
    fn replies_go_where_the_request_came_from() {
        let (mut server, mut pipes) = (Server::new(u32::MAX), TestPipes::strict());
        (1..=3).for_each(|n| server.attached(&mut pipes, pipe(n), None));
        let numbers: Vec<_> = (1..=3).map(|n| server.routing_id(pipe(n)).unwrap()).collect();
        assert_eq!(numbers, [u32::MAX, 1, 2], "0 is nobody");
        for n in 1..=3 {
            pipes.deliver(&mut server, n, &[&n.to_string()]);
        }
        for n in 1..=3 {
            let request = server.take(&mut pipes).unwrap();
            assert_eq!(request.routing_id(), Some(numbers[n as usize - 1]));
            server.give(&mut pipes, Message::new("reply").to(request.routing_id().unwrap())).unwrap();
            assert_eq!(pipes.sent(n), [message(&["reply"])]);
        }
    }

    #[test]
    fn what_cannot_go_is_refused_with_its_reason() {
        let (mut server, mut pipes) = (Server::new(7), TestPipes::strict());
        server.attached(&mut pipes, pipe(1), None);
        for (message, why) in [
            (message(&["a", "b"]).to(7), NotSent::Parts),
            (message(&["a"]), NotSent::NoRoutingId),
            (message(&["a"]).to(8), NotSent::Unroutable),
        ] {
            let refused = server.give(&mut pipes, message.clone()).unwrap_err();
            assert_eq!((refused.message, refused.why), (message, why));
        }
        pipes.room(1, 0);
        assert_eq!(server.give(&mut pipes, message(&["a"]).to(7)).unwrap_err().why, NotSent::Again);
        pipes.room(1, 1);
        server.write_closed(&mut pipes, pipe(1));
        assert_eq!(server.give(&mut pipes, message(&["a"]).to(7)).unwrap_err().why, NotSent::Unroutable);
        pipes.deliver(&mut server, 1, &["last words"]);
        assert_eq!(server.take(&mut pipes).unwrap().routing_id(), Some(7));
    }

    #[test]
    fn messages_of_several_parts_are_dropped() {
        let (mut server, mut pipes) = (Server::new(7), TestPipes::strict());
        server.attached(&mut pipes, pipe(1), None);
        pipes.deliver(&mut server, 1, &["several", "parts"]);
        assert!(!server.can_recv(&mut pipes));
        pipes.deliver(&mut server, 1, &["one"]);
        assert!(server.can_recv(&mut pipes));
        assert_eq!(server.take(&mut pipes).unwrap().body(), "one");
    }
}
