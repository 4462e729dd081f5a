//! ROUTER: names each peer by a routing id, says it in front of what it receives, and sends by it. Not REP: it keeps
//! no lockstep and looks at no delimiter.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

use transport_core::Frame;

use super::queueing::{FairQueue, LoadBalancer, PipeMap, Spares, probe, read_rest, write_all};
use super::{Behaviour, Metadata, NotReceived, NotSent, PatternOptions, PipeId, Pipes};
use crate::message::Message;
use crate::session::Peer;

/// A routing id as the key of a map. Peers choose them, so the map has the standard, keyed hash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RoutingId(Frame);

impl Hash for RoutingId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0[..].hash(state);
    }
}

impl Borrow<[u8]> for RoutingId {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Debug)]
struct Name {
    id: Frame,
    /// The peer has none of its own.
    generated: bool,
    /// Whoever connected to it said what it is called.
    given: bool,
    metadata: Metadata,
}

/// A routing id of our own making: a zero and a number that counts up. The numbers come round some day.
pub(super) fn generated(next: &mut u32, is_taken: impl Fn(&[u8]) -> bool) -> Frame {
    loop {
        let [a, b, c, d] = next.to_be_bytes();
        *next = next.wrapping_add(1);
        let id = [0, a, b, c, d];
        if !is_taken(&id) {
            return Frame::from(&id);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Router {
    /// Identified pipes, as far as they can be written to.
    routes: HashMap<RoutingId, PipeId>,
    /// Identified pipes. Others are neither read nor written.
    names: PipeMap<Name>,
    /// What the pipe that is attached next is called.
    given: Option<Frame>,
    fair: FairQueue,
    /// The pipes of `routes`, only to answer whether any has room.
    room: LoadBalancer,
    spares: Spares,
    next_id: u32,
    mandatory: bool,
    handover: bool,
    probes: bool,
    /// Read already, by `can_recv` or because their pipe got another name. With the pipe they came from.
    ahead: VecDeque<(PipeId, Message)>,
}

impl Router {
    /// Generated routing ids count from `first_id`. If it differs from run to run, ids of an earlier run are unknown
    /// instead of somebody else's.
    pub(crate) fn new(first_id: u32) -> Self {
        Self {
            routes: HashMap::new(),
            names: PipeMap::default(),
            given: None,
            fair: FairQueue::default(),
            room: LoadBalancer::default(),
            spares: Spares::default(),
            next_id: first_id,
            mandatory: false,
            handover: false,
            probes: false,
            ahead: VecDeque::new(),
        }
    }

    fn identify<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: &Peer) {
        // Ids that begin with 0 are ours to make; a peer that claims one has none.
        let own = Some(&peer.routing_id).filter(|id| id.first().is_some_and(|&first| first != 0));
        if let Some(name) = self.names.get(&pipe) {
            if name.given || own.map_or(name.generated, |own| *own == name.id) {
                if let Some(name) = self.names.get_mut(&pipe) {
                    name.metadata = peer.metadata[..].into();
                }
                return;
            }
            self.keep_what_the_last_peer_sent(pipes, pipe);
        }
        if let Some(&holder) = own.and_then(|own| self.routes.get(&own[..])) {
            let refused = if self.handover { holder } else { pipe };
            self.forget(refused);
            pipes.reject(refused);
            if refused == pipe {
                return;
            }
        }
        self.forget(pipe);
        let id = match own {
            Some(own) => own.clone(),
            None => generated(&mut self.next_id, |id| self.routes.contains_key(id)),
        };
        let metadata = peer.metadata[..].into();
        let name = Name { id, generated: own.is_none(), given: false, metadata };
        self.call(pipe, name);
    }

    /// From here on the pipe is known by that name.
    fn call(&mut self, pipe: PipeId, name: Name) {
        self.routes.insert(RoutingId(name.id.clone()), pipe);
        self.names.insert(pipe, name);
        self.fair.add(pipe);
        self.room.add(pipe);
    }

    /// Reads what is there under the name it came under. At the moment when another peer takes the pipe over, that
    /// is from the one before, and must not seem to come from the new one. Once per pipe: if the application has
    /// taken nothing until the next change, the rest is dropped, so that names that change cost bounded memory.
    fn keep_what_the_last_peer_sent<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        let keep = self.ahead.iter().all(|(from, _)| *from != pipe);
        while let Some(first) = pipes.read(pipe) {
            if let Some(message) = self.named(pipes, pipe, first)
                && keep
            {
                self.ahead.push_back((pipe, message));
            }
        }
    }

    /// The pipe to the peer of that id, if it can be written to.
    fn route<P: Pipes>(&self, pipes: &mut P, id: &[u8]) -> Result<PipeId, NotSent> {
        match self.routes.get(id) {
            None => Err(NotSent::Unroutable),
            Some(&pipe) if pipes.can_write(pipe) => Ok(pipe),
            Some(_) => Err(NotSent::Again),
        }
    }

    fn forget(&mut self, pipe: PipeId) {
        self.unroute(pipe);
        self.names.remove(&pipe);
        self.fair.remove(pipe);
    }

    fn unroute(&mut self, pipe: PipeId) {
        self.room.remove(pipe);
        // While a pipe is only read any more, its name may have gone to another.
        if let Some(name) = self.names.get(&pipe)
            && self.routes.get(&name.id[..]) == Some(&pipe)
        {
            self.routes.remove(&name.id[..]);
        }
    }

    /// The message that begins with `first`, behind the routing id. `None` if the pipe ended in the middle.
    fn named<P: Pipes>(
        &mut self,
        pipes: &mut P,
        pipe: PipeId,
        first: transport_core::Part,
    ) -> Option<Message> {
        let id = self.names.get(&pipe).map_or(Frame::EMPTY, |name| name.id.clone());
        let mut rest = self.spares.take();
        rest.push(first.body);
        if first.flags.more() && !read_rest(pipes, pipe, &mut rest) {
            self.spares.put(rest);
            return None;
        }
        let mut message = Message::from_first_and_rest(id, rest);
        if first.flags.gap() {
            message.set_gap_before();
        }
        Some(message)
    }

    fn fetch<P: Pipes>(&mut self, pipes: &mut P) -> Option<(PipeId, Message)> {
        loop {
            let (pipe, first) = self.fair.first(pipes)?;
            if let Some(message) = self.named(pipes, pipe, first) {
                return Some((pipe, message));
            }
        }
    }
}

impl Behaviour for Router {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        if let Some(id) = self.given.take() {
            self.call(pipe, Name { id, generated: false, given: true, metadata: Metadata::default() });
        }
        if let Some(peer) = peer {
            self.identify(pipes, pipe, peer);
            probe(self.probes, pipes, pipe);
        }
    }

    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: &Peer) {
        self.identify(pipes, pipe, peer);
        probe(self.probes, pipes, pipe);
    }

    fn write_closed<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.unroute(pipe);
    }

    fn detached<P: Pipes>(&mut self, _: &mut P, pipe: PipeId) {
        self.forget(pipe);
    }

    fn readable(&mut self, pipe: PipeId) {
        self.fair.readable(pipe);
    }

    fn writable(&mut self, pipe: PipeId) {
        self.room.writable(pipe);
    }

    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        let id = match message.part(0) {
            Some(id) if message.len() > 1 => id,
            _ => return Err(NotSent::NoRoutingId),
        };
        match self.route(pipes, id) {
            Ok(pipe) => {
                let (_, body) = message.take().into_first_and_rest();
                write_all(pipes, pipe, body, &mut self.spares);
                Ok(())
            }
            Err(why) if self.mandatory => Err(why),
            Err(_) => {
                self.spares.put(message.take().into_first_and_rest().1);
                Ok(())
            }
        }
    }

    fn admits<P: Pipes>(&mut self, pipes: &mut P, first: &Frame) -> Result<(), NotSent> {
        match self.route(pipes, first) {
            Err(why) if self.mandatory => Err(why),
            _ => Ok(()),
        }
    }

    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        let next = if self.ahead.is_empty() { self.fetch(pipes) } else { self.ahead.pop_front() };
        *message = next.map(|(_, message)| message).ok_or(NotReceived::Again)?;
        Ok(())
    }

    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        // What cannot go is dropped, so that sending is always possible, unless that is forbidden.
        !self.mandatory || self.room.pick(pipes).is_some()
    }

    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        if self.ahead.is_empty() {
            let next = self.fetch(pipes);
            self.ahead.extend(next);
        }
        !self.ahead.is_empty()
    }

    fn knows(&self, name: &[u8]) -> bool {
        self.routes.contains_key(name)
    }

    fn name_next(&mut self, name: &Frame) {
        self.given = Some(name.clone()).filter(|name| !self.knows(name));
    }

    fn name(&self, pipe: PipeId) -> Option<&Frame> {
        self.names.get(&pipe).map(|name| &name.id)
    }

    fn metadata(&self, name: &[u8]) -> Option<Metadata> {
        Some(self.names.get(self.routes.get(name)?)?.metadata.clone())
    }

    fn set_options(&mut self, options: &PatternOptions) {
        self.mandatory = options.router_mandatory;
        self.handover = options.router_handover;
        self.probes = options.probe_router;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ByValue, TestPipes, message, peer, pipe, recv, send};
    use super::*;
    use transport_core::{Flags, Part};

    fn options(mandatory: bool, handover: bool) -> PatternOptions {
        PatternOptions { router_mandatory: mandatory, router_handover: handover, ..PatternOptions::default() }
    }

    /// Two peers, "a" on pipe 1 and "b" on pipe 2.
    fn with_two() -> (Router, TestPipes) {
        let (mut router, mut pipes) = (Router::new(7), TestPipes::strict());
        router.attached(&mut pipes, pipe(1), Some(&peer("a")));
        router.attached(&mut pipes, pipe(2), Some(&peer("b")));
        (router, pipes)
    }

    fn refused(router: &mut Router, pipes: &mut TestPipes, parts: &[&str]) -> NotSent {
        let refused = router.give(pipes, message(parts)).unwrap_err();
        assert_eq!(refused.message, message(parts), "unchanged");
        refused.why
    }

    #[test]
    fn whoever_is_dialled_may_be_called_as_the_caller_likes() {
        let (mut router, mut pipes) = with_two();
        assert!(router.knows(b"a") && !router.knows(b"mine"));
        router.name_next(&"mine".into());
        router.attached(&mut pipes, pipe(3), None);
        send(&mut router, &mut pipes, &["mine", "before it is there"]);
        assert_eq!(pipes.sent(3), [message(&["before it is there"])]);
        // Whatever it calls itself, also when another takes its place.
        for own in ["a", "z"] {
            router.identified(&mut pipes, pipe(3), &peer(own));
            pipes.deliver(&mut router, 3, &["x"]);
            assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["mine", "x"]);
        }
        assert!(pipes.rejected.is_empty());
        assert_eq!(router.name(pipe(3)), Some(&"mine".into()));
        router.attached(&mut pipes, pipe(4), Some(&peer("mine")));
        assert_eq!(pipes.rejected, [4], "as with any name in use");
    }

    #[test]
    fn ids_come_in_front_and_choose_the_pipe() {
        let (mut router, mut pipes) = with_two();
        pipes.deliver(&mut router, 2, &["", "x"]);
        assert!(router.can_recv(&mut pipes) && router.can_recv(&mut pipes));
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["b", "", "x"]);
        pipes.deliver(&mut router, 1, &["y"]);
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["a", "y"]);
        assert_eq!(router.take(&mut pipes), Err(NotReceived::Again));
        assert!(!router.can_recv(&mut pipes));
        send(&mut router, &mut pipes, &["b", "", "reply"]);
        send(&mut router, &mut pipes, &["a", ""]);
        assert_eq!(pipes.sent(2), [message(&["", "reply"])]);
        assert_eq!(pipes.sent(1), [message(&[""])]);
        assert_eq!(refused(&mut router, &mut pipes, &["a"]), NotSent::NoRoutingId);
    }

    #[test]
    fn messages_come_in_turn() {
        let (mut router, mut pipes) = with_two();
        for n in 1..=2 {
            (0..2).for_each(|_| pipes.deliver(&mut router, n, &["x", "y"]));
        }
        for id in ["a", "b", "a", "b"] {
            assert_eq!(recv(&mut router, &mut pipes).unwrap(), [id, "x", "y"]);
        }
    }

    #[test]
    fn peers_without_an_id_get_one() {
        let (mut router, mut pipes) = (Router::new(0xffff_ffff), TestPipes::strict());
        for (n, id) in [(1, &b""[..]), (2, b"\0"), (3, b"\0\0\0\0\0")] {
            router.attached(&mut pipes, pipe(n), Some(&peer(id)));
            pipes.deliver(&mut router, n, &["x"]);
        }
        for id in [[0, 0xff, 0xff, 0xff, 0xff], [0; 5], [0, 0, 0, 0, 1]] {
            let got = router.take(&mut pipes).unwrap();
            assert_eq!(*got.part(0).unwrap(), &id);
            router
                .give(&mut pipes, Message::from_parts([got.part(0).unwrap().clone(), "y".into()]).unwrap())
                .unwrap();
        }
        (1..=3).for_each(|n| assert_eq!(pipes.sent(n), [message(&["y"])]));
        router.next_id = 0;
        router.attached(&mut pipes, pipe(4), Some(&peer("")));
        assert_eq!(router.names[&pipe(4)].id, &[0, 0, 0, 0, 2], "ids in use are not given again");
    }

    #[test]
    fn what_cannot_go_is_dropped() {
        let (mut router, mut pipes) = with_two();
        send(&mut router, &mut pipes, &["nobody", "x"]);
        pipes.room(1, 0);
        send(&mut router, &mut pipes, &["a", "x"]);
        assert!(pipes.sent(1).is_empty() && pipes.sent(2).is_empty());
        pipes.room(2, 0);
        assert!(router.can_send(&mut pipes));
    }

    #[test]
    fn mandatory_tells_instead() {
        let (mut router, mut pipes) = (Router::new(0), TestPipes::strict());
        router.set_options(&options(true, false));
        assert!(!router.can_send(&mut pipes));
        router.attached(&mut pipes, pipe(1), Some(&peer("a")));
        router.attached(&mut pipes, pipe(2), Some(&peer("b")));
        assert_eq!(refused(&mut router, &mut pipes, &["nobody", "x"]), NotSent::Unroutable);
        pipes.room(1, 0);
        assert_eq!(refused(&mut router, &mut pipes, &["a", "x", "y"]), NotSent::Again);
        assert!(router.can_send(&mut pipes), "b has room");
        pipes.room(2, 0);
        assert!(!router.can_send(&mut pipes));
        pipes.room(1, 1);
        router.writable(pipe(1));
        assert!(router.can_send(&mut pipes));
        send(&mut router, &mut pipes, &["a", "x"]);
        pipes.room(1, 1);
        router.writable(pipe(1));
        router.write_closed(&mut pipes, pipe(1));
        assert!(!router.can_send(&mut pipes), "a closed pipe's room is nobody's");
        assert_eq!(refused(&mut router, &mut pipes, &["a", "x"]), NotSent::Unroutable);
    }

    #[test]
    fn a_dialling_pipe_has_no_id_before_it_is_identified() {
        let (mut router, mut pipes) = (Router::new(0), TestPipes::strict());
        router.set_options(&options(true, false));
        router.attached(&mut pipes, pipe(1), None);
        assert!(!router.can_send(&mut pipes));
        assert_eq!(refused(&mut router, &mut pipes, &["a", "x"]), NotSent::Unroutable);
        router.readable(pipe(1));
        router.writable(pipe(1));
        router.identified(&mut pipes, pipe(1), &peer("a"));
        assert!(router.can_send(&mut pipes));
        send(&mut router, &mut pipes, &["a", "x"]);
        pipes.deliver(&mut router, 1, &["y"]);
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["a", "y"]);
    }

    #[test]
    fn a_reconnect_keeps_the_name_or_changes_it() {
        let (mut router, mut pipes) = (Router::new(0), TestPipes::strict());
        router.set_options(&options(true, false));
        router.attached(&mut pipes, pipe(1), None);
        router.identified(&mut pipes, pipe(1), &peer("a"));
        router.identified(&mut pipes, pipe(1), &peer("a"));
        send(&mut router, &mut pipes, &["a", "1"]);
        router.identified(&mut pipes, pipe(1), &peer("b"));
        assert_eq!(refused(&mut router, &mut pipes, &["a", "x"]), NotSent::Unroutable);
        send(&mut router, &mut pipes, &["b", "2"]);
        router.identified(&mut pipes, pipe(1), &peer(""));
        assert_eq!(refused(&mut router, &mut pipes, &["b", "x"]), NotSent::Unroutable);
        router.identified(&mut pipes, pipe(1), &peer(""));
        send(&mut router, &mut pipes, &["\0\0\0\0\0", "3"]);
        router.identified(&mut pipes, pipe(1), &peer("c"));
        send(&mut router, &mut pipes, &["c", "4"]);
        assert_eq!(pipes.sent(1).len(), 4);
        assert_eq!((router.routes.len(), router.names.len()), (1, 1));
        assert!(pipes.rejected.is_empty());
        pipes.deliver(&mut router, 1, &["x"]);
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["c", "x"]);
    }

    #[test]
    fn what_the_peer_before_sent_keeps_its_name() {
        let (mut router, mut pipes) = (Router::new(0), TestPipes::strict());
        router.attached(&mut pipes, pipe(1), None);
        router.identified(&mut pipes, pipe(1), &peer("a"));
        pipes.deliver(&mut router, 1, &["1", "x"]);
        pipes.deliver(&mut router, 1, &["2"]);
        router.identified(&mut pipes, pipe(1), &peer("b"));
        pipes.deliver(&mut router, 1, &["lost"]);
        router.identified(&mut pipes, pipe(1), &peer("c"));
        pipes.deliver(&mut router, 1, &["3"]);
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["a", "1", "x"]);
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["a", "2"]);
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["c", "3"]);
        assert_eq!(recv(&mut router, &mut pipes), None);
    }

    #[test]
    fn a_duplicate_id_is_refused() {
        let (mut router, mut pipes) = with_two();
        router.attached(&mut pipes, pipe(3), Some(&peer("a")));
        router.attached(&mut pipes, pipe(4), None);
        router.identified(&mut pipes, pipe(4), &peer("b"));
        assert_eq!(pipes.rejected, [3, 4]);
        pipes.deliver(&mut router, 3, &["x"]);
        assert_eq!(recv(&mut router, &mut pipes), None);
        router.detached(&mut pipes, pipe(3));
        send(&mut router, &mut pipes, &["a", "x"]);
        assert_eq!(pipes.sent(1).len(), 1);
        router.identified(&mut pipes, pipe(2), &peer("a"));
        assert_eq!(pipes.rejected, [3, 4, 2], "a reconnected one as well");
        assert_eq!((router.routes.len(), router.names.len()), (1, 1));
        router.detached(&mut pipes, pipe(1));
        router.attached(&mut pipes, pipe(5), Some(&peer("a")));
        assert_eq!(pipes.rejected.len(), 3, "a name is free again when its pipe is gone");
    }

    #[test]
    fn with_handover_the_new_one_takes_the_id() {
        let (mut router, mut pipes) = with_two();
        router.set_options(&options(false, true));
        pipes.deliver(&mut router, 1, &["promised"]);
        assert!(router.can_recv(&mut pipes));
        pipes.deliver(&mut router, 1, &["lost"]);
        router.attached(&mut pipes, pipe(3), Some(&peer("a")));
        assert_eq!(pipes.rejected, [1]);
        send(&mut router, &mut pipes, &["a", "x"]);
        assert_eq!((pipes.sent(1).len(), pipes.sent(3).len()), (0, 1));
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["a", "promised"]);
        assert_eq!(recv(&mut router, &mut pipes), None);
        router.detached(&mut pipes, pipe(1));
        send(&mut router, &mut pipes, &["a", "x"]);
        assert_eq!(pipes.sent(3).len(), 1, "the old pipe's end takes nothing from the new one");
    }

    #[test]
    fn a_closed_pipe_is_read_under_its_name_while_another_has_it() {
        let (mut router, mut pipes) = with_two();
        pipes.deliver(&mut router, 1, &["last words"]);
        router.write_closed(&mut pipes, pipe(1));
        router.attached(&mut pipes, pipe(3), Some(&peer("a")));
        assert!(pipes.rejected.is_empty());
        assert_eq!(recv(&mut router, &mut pipes).unwrap(), ["a", "last words"]);
        router.detached(&mut pipes, pipe(1));
        send(&mut router, &mut pipes, &["a", "x"]);
        assert_eq!(pipes.sent(3).len(), 1);
    }

    #[test]
    fn fragments_are_dropped_and_a_gap_shows() {
        let (mut router, mut pipes) = with_two();
        pipes.arrive_part(1, Part::more("half"));
        router.readable(pipe(1));
        assert_eq!(recv(&mut router, &mut pipes), None);
        pipes.arrive_part(1, Part { body: "x".into(), flags: Flags::GAP });
        router.readable(pipe(1));
        assert!(router.take(&mut pipes).unwrap().gap_before());
    }

    #[test]
    fn an_echo_uses_its_list_of_parts_again() {
        let (mut router, mut pipes) = with_two();
        let mut places = Vec::new();
        for _ in 0..3 {
            pipes.deliver(&mut router, 1, &["", "x"]);
            let (id, rest) = router.take(&mut pipes).unwrap().into_first_and_rest();
            places.push(rest.as_ptr());
            router.give(&mut pipes, Message::from_first_and_rest(id, rest)).unwrap();
        }
        assert!(places.iter().all(|place| *place == places[0]));
        assert_eq!(pipes.sent(1).len(), 3);
    }
}
