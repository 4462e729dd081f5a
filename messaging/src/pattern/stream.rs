//! STREAM: talks to peers that speak no ZMTP. What comes over a connection is bytes, behind the connection's name; so is what
//! goes. It is ROUTER without messages: a piece of bytes begins and ends where the system says.

use std::collections::HashMap;

use transport_core::Frame;

use super::queueing::{FairQueue, PipeMap, Spares, write_all};
use super::{Behaviour, Metadata, NotReceived, NotSent, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

#[derive(Debug)]
pub(crate) struct Stream {
    /// Connections that can be written to.
    routes: HashMap<Box<[u8]>, PipeId>,
    names: PipeMap<Frame>,
    metadata: PipeMap<Metadata>,
    /// What the pipe that is attached next is called.
    given: Option<Frame>,
    fair: FairQueue,
    spares: Spares,
    next_id: u32,
    /// Read ahead by `can_recv`.
    next: Option<Message>,
}

impl Stream {
    /// Generated names count from `first_id`; see `Router::new`.
    pub(crate) fn new(first_id: u32) -> Self {
        Self {
            routes: HashMap::new(),
            names: PipeMap::default(),
            metadata: PipeMap::default(),
            given: None,
            fair: FairQueue::default(),
            spares: Spares::default(),
            next_id: first_id,
            next: None,
        }
    }

    fn fetch<P: Pipes>(&mut self, pipes: &mut P) -> Option<Message> {
        loop {
            let (pipe, piece) = self.fair.first(pipes)?;
            // What has no name was never attached.
            if let Some(name) = self.names.get(&pipe) {
                return Message::from_parts([name.clone(), piece.body]);
            }
        }
    }

    fn route<P: Pipes>(&self, pipes: &mut P, name: &[u8]) -> Result<PipeId, NotSent> {
        let &pipe = self.routes.get(name).ok_or(NotSent::Unroutable)?;
        if pipes.can_write(pipe) { Ok(pipe) } else { Err(NotSent::Again) }
    }
}

impl Behaviour for Stream {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        if let Some(peer) = peer {
            self.identified(pipes, pipe, peer);
        }
        if self.names.contains_key(&pipe) {
            return;
        }
        let name = self.given.take().unwrap_or_else(|| {
            super::router::generated(&mut self.next_id, |name| self.routes.contains_key(name))
        });
        self.routes.insert(name[..].into(), pipe);
        self.names.insert(pipe, name);
        self.fair.add(pipe);
    }

    fn identified<P: Pipes>(&mut self, _: &mut P, pipe: PipeId, peer: &Peer) {
        self.metadata.insert(pipe, peer.metadata[..].into());
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        // While a pipe is only read any more, its name may have gone to another.
        if let Some(name) = self.names.get(&pipe)
            && self.routes.get(&name[..]) == Some(&pipe)
        {
            self.routes.remove(&name[..]);
        }
    }

    fn detached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        self.write_closed(pipes, pipe);
        self.names.remove(&pipe);
        self.metadata.remove(&pipe);
        self.fair.remove(pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    // The pipe is asked for room with each piece.
    fn writable(&mut self, _: PipeId) {}

    /// The connection's name and bytes, in one part or several; an empty part alone ends the connection.
    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        let name = message.part(0).filter(|_| message.len() > 1).ok_or(NotSent::NoRoutingId)?;
        let pipe = self.route(pipes, name)?;
        let (_, mut pieces) = message.take().into_first_and_rest();
        if pieces.iter().all(|piece| piece.is_empty()) {
            self.write_closed(pipes, pipe);
            pipes.finish(pipe);
            return Ok(());
        }
        // Nothing of an empty one would ever be sent.
        pieces.retain(|piece| !piece.is_empty());
        // The bytes of one send stay together; the wire knows no parts.
        write_all(pipes, pipe, pieces, &mut self.spares);
        Ok(())
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        *message = self.next.take().or_else(|| self.fetch(pipes)).ok_or(NotReceived::Again)?;
        Ok(())
    }

    // As libzmq has it: it depends on whom the bytes are for.
    fn can_send<P: Pipes>(&mut self, _: &mut P) -> bool {
        true
    }

    fn admits<P: Pipes>(&mut self, pipes: &mut P, first: &Frame) -> Result<(), NotSent> {
        self.route(pipes, first).map(drop)
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.next.is_none() {
            self.next = self.fetch(pipes);
        }
        self.next.is_some()
    }

    fn knows(&self, name: &[u8]) -> bool {
        self.routes.contains_key(name)
    }

    fn name_next(&mut self, name: &Frame) {
        self.given = Some(name.clone()).filter(|name| !self.knows(name));
    }

    fn metadata(&self, name: &[u8]) -> Option<Metadata> {
        self.metadata.get(self.routes.get(name)?).cloned()
    }

    fn name(&self, pipe: PipeId) -> Option<&Frame> {
        self.names.get(&pipe)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, pipe, recv, send};
    use super::*;

    /// The name of a connection, as text.
    fn name(stream: &Stream, n: u64) -> String {
        String::from_utf8(stream.name(pipe(n)).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn bytes_come_and_go_behind_the_connections_name() {
        let (mut stream, mut pipes) = (Stream::new(7), TestPipes::strict());
        (1..=2).for_each(|n| stream.attached(&mut pipes, pipe(n), None));
        let names = [1, 2].map(|n| name(&stream, n));
        assert_eq!(names, ["\0\0\0\0\u{7}", "\0\0\0\0\u{8}"]);
        pipes.deliver(&mut stream, 2, &["GET /"]);
        assert!(stream.can_recv(&mut pipes));
        assert_eq!(recv(&mut stream, &mut pipes).unwrap(), [names[1].as_str(), "GET /"]);
        send(&mut stream, &mut pipes, &[&names[1], "200", "", "OK"]);
        assert_eq!(pipes.sent(2), [message(&["200", "OK"])], "in one piece");
        assert!(pipes.sent(1).is_empty());
    }

    #[test]
    fn an_empty_part_ends_the_connection() {
        let (mut stream, mut pipes) = (Stream::new(7), TestPipes::strict());
        stream.attached(&mut pipes, pipe(1), None);
        let name = name(&stream, 1);
        send(&mut stream, &mut pipes, &[&name, ""]);
        assert_eq!(pipes.finished, [1]);
        assert_eq!(stream.give(&mut pipes, message(&[&name, "x"])).unwrap_err().why, NotSent::Unroutable);
        pipes.deliver(&mut stream, 1, &["still read"]);
        assert_eq!(recv(&mut stream, &mut pipes).unwrap()[1], "still read");
        stream.detached(&mut pipes, pipe(1));
        assert!(stream.name(pipe(1)).is_none());
    }

    #[test]
    fn a_name_that_is_free_again_stays_with_who_has_it_now() {
        let (mut stream, mut pipes) = (Stream::new(7), TestPipes::strict());
        for n in [1, 2] {
            stream.name_next(&"a".into());
            stream.attached(&mut pipes, pipe(n), None);
            if n == 1 {
                send(&mut stream, &mut pipes, &["a", ""]);
            }
        }
        // Only now the first connection is gone.
        stream.write_closed(&mut pipes, pipe(1));
        stream.detached(&mut pipes, pipe(1));
        send(&mut stream, &mut pipes, &["a", "x"]);
        assert_eq!(pipes.sent(2), [message(&["x"])]);
    }

    #[test]
    fn a_connection_is_called_as_asked_unless_another_is() {
        let (mut stream, mut pipes) = (Stream::new(7), TestPipes::strict());
        stream.name_next(&"a".into());
        stream.attached(&mut pipes, pipe(1), None);
        assert_eq!(name(&stream, 1), "a");
        assert!(stream.knows(b"a"));
        stream.name_next(&"a".into());
        stream.attached(&mut pipes, pipe(2), None);
        assert_eq!(name(&stream, 2), "\0\0\0\0\u{7}");
        for (parts, why) in [(&["a"][..], NotSent::NoRoutingId), (&["b", "x"], NotSent::Unroutable)] {
            let refused = stream.give(&mut pipes, message(parts)).unwrap_err();
            assert_eq!((refused.message, refused.why), (message(parts), why));
        }
        pipes.room(1, 0);
        assert_eq!(stream.give(&mut pipes, message(&["a", "x"])).unwrap_err().why, NotSent::Again);
    }
}
