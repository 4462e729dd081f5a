//! The messaging patterns: which pipe a message goes to, which pipe the next one comes from, and what its envelope
//! means. Pure: no scheme, no clock, no thread, no lock, no unsafe. The socket lock is held around every call.

pub(crate) mod bench;
mod dealer;
mod dish;
mod matcher;
mod pair;
mod publish;
mod pull;
mod push;
mod queueing;
mod radio;
mod reply;
mod request;
mod router;
mod server;
mod single;
mod stream;
mod subscribe;
#[cfg(test)]
mod testing;
mod xpublish;
mod xsubscribe;

use std::sync::Arc;

use transport_core::{Frame, Part};

use crate::message::Message;
use crate::session::Peer;
use crate::socket_type::SocketType;

/// Names one pipe of one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PipeId(pub(crate) u64);

/// The pipes of one socket as a pattern sees them. Calls with an unknown id do nothing.
pub(crate) trait Pipes {
    /// Whether one more message may be written now. `false` promises a later [`Pattern::writable`].
    fn can_write(&mut self, pipe: PipeId) -> bool;
    /// Writes one part of a message whose first part was allowed by `can_write`; parts become visible to the engine
    /// with the last one. COMMAND parts (subscriptions) need no `can_write`.
    fn write(&mut self, pipe: PipeId, part: Part);
    /// The next part. All parts of a message are there when its first one is. `None` promises a later
    /// [`Pattern::readable`].
    fn read(&mut self, pipe: PipeId) -> Option<Part>;
    /// Ends a pipe for good: a peer that the pattern will not have (second PAIR, duplicate routing id). The engine
    /// closes its link and calls [`Pattern::detached`].
    fn reject(&mut self, pipe: PipeId);
    /// Ends a pipe in good order: what was written goes out first. The engine closes its link, dials no more, and calls
    /// [`Pattern::detached`].
    fn finish(&mut self, pipe: PipeId);
}

/// Settings of a socket that patterns decide by. Defaults are libzmq's.
#[derive(Debug, Clone, Default)]
pub(crate) struct PatternOptions {
    /// ROUTER_MANDATORY: refuse messages to unknown peers instead of dropping them.
    pub(crate) router_mandatory: bool,
    /// ROUTER_HANDOVER: a peer with a known routing id takes it over instead of being refused.
    pub(crate) router_handover: bool,
    /// XPUB_VERBOSE: tell of subscriptions that another peer has as well.
    pub(crate) xpub_verbose: bool,
    /// XPUB_VERBOSER: tell of those and of their ends.
    pub(crate) xpub_verboser: bool,
    /// XPUB_MANUAL: the application says what a peer is subscribed to.
    pub(crate) xpub_manual: bool,
    /// XPUB_NODROP: wait where a full pipe would have lost the message.
    pub(crate) xpub_nodrop: bool,
    /// XPUB_WELCOME_MSG: what each peer gets first; empty for nothing.
    pub(crate) xpub_welcome_message: Frame,
    /// REQ_CORRELATE: requests carry numbers, and replies must.
    pub(crate) req_correlate: bool,
    /// REQ_RELAXED: a new request may take the place of the last one.
    pub(crate) req_relaxed: bool,
    /// PROBE_ROUTER: an empty message to every peer that comes.
    pub(crate) probe_router: bool,
    /// INVERT_MATCHING: messages go to those who did not subscribe to them.
    pub(crate) invert_matching: bool,
}

/// A peer's properties: names and values.
pub(crate) type Metadata = Arc<[(String, Vec<u8>)]>;

/// Why `send` did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// No pipe, or every pipe is full: EAGAIN.
    Again,
    /// Not this socket's turn (REQ, REP): EFSM.
    State,
    /// ROUTER_MANDATORY and nobody has that routing id: EHOSTUNREACH.
    Unroutable,
    /// The type never sends: ENOTSUP.
    NotSupported,
    /// A ROUTER message without a routing id part and a body, or a SERVER's to nobody: EINVAL.
    NoRoutingId,
    /// A RADIO message that is not a group and a body: EINVAL.
    NoGroup,
    /// Several parts where the type has messages of one: EINVAL.
    Parts,
    /// An XSUB's subscription to a longer topic than publishers take: EINVAL.
    Topic,
}

/// Why `recv` has nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReceived {
    /// Nothing there: EAGAIN.
    Again,
    /// Not this socket's turn: EFSM.
    State,
    /// The type never receives: ENOTSUP.
    NotSupported,
}

/// The behaviour of one socket type.
///
/// `Send` only: the socket's lock serialises all calls.
pub(crate) trait Behaviour: std::fmt::Debug + Send {
    /// A pipe exists from now on. A dialling pipe comes before its peer is known (`peer` is `None`), and then
    /// [`Behaviour::identified`] follows at every Up; a pipe of a binding side comes with its peer.
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>);
    /// The peer of a dialling pipe is up: for the first time, or again after a reconnect (perhaps another peer). Comes
    /// before any part from the new link is in the pipe.
    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: &Peer) {
        let _ = (pipes, pipe, peer);
    }
    /// The link of a dialling pipe is gone; the pipe stays, and [`Behaviour::identified`] follows at the next Up. SUB
    /// then writes no subscriptions until it replays them all; without this call it writes them twice.
    fn link_lost(&mut self, pipe: PipeId) {
        let _ = pipe;
    }
    /// Nothing may be written any more (its link is gone), but what has arrived can still be read.
    fn write_closed<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId);
    /// The pipe is gone; forget it.
    fn detached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId);
    /// A pipe that had nothing to read has something now. May be said without need.
    fn readable(&mut self, pipe: PipeId);
    /// A pipe that was full has room now. May be said without need.
    fn writable(&mut self, pipe: PipeId);
    /// Sends a whole message: takes it from its place, or leaves it there. (By reference, like `recv`: a message moved
    /// through calls is read back each time while its stores are still on their way.)
    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent>;
    /// Puts the next whole message into its place.
    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived>;
    /// Whether `send` would take a message now (POLLOUT). `false` for types that never send, and out of turn.
    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool;
    /// Whether `send` would take a message that begins with `first` now, and why not.
    fn admits<P: Pipes>(&mut self, pipes: &mut P, first: &Frame) -> Result<(), NotSent> {
        let _ = first;
        if self.can_send(pipes) { Ok(()) } else { Err(NotSent::Again) }
    }
    /// Whether `recv` would give a message now (POLLIN); may read ahead and keep one. `false` out of turn.
    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool;
    /// A peer subscribed (PUB). `false`: it has subscribed to as much as a peer may.
    fn peer_subscribed(&mut self, pipe: PipeId, topic: &Frame) -> bool {
        let _ = (pipe, topic);
        true
    }
    /// The peers behind a pipe cannot subscribe (capabilities say flow == Send), so they get everything (PUB). Comes
    /// after `attached`.
    fn subscribe_all(&mut self, pipe: PipeId) {
        let _ = pipe;
    }
    /// A peer cancelled a subscription (PUB).
    fn peer_cancelled(&mut self, pipe: PipeId, topic: &Frame) {
        let _ = (pipe, topic);
    }
    /// The application subscribes (SUB): writes the subscription to all pipes. `false` for other types: EINVAL.
    fn subscribe<P: Pipes>(&mut self, pipes: &mut P, topic: &[u8]) -> bool {
        let _ = (pipes, topic);
        false
    }
    /// The application cancels a subscription (SUB). `false` for other types, or when there was none: EINVAL.
    fn unsubscribe<P: Pipes>(&mut self, pipes: &mut P, topic: &[u8]) -> bool {
        let _ = (pipes, topic);
        false
    }
    /// The number of the peer behind a pipe, for types that number them.
    fn routing_id(&self, pipe: PipeId) -> Option<u32> {
        let _ = pipe;
        None
    }
    /// What the peer of the pipe that is attached next is called, whatever it calls itself (ZMQ_CONNECT_ROUTING_ID), unless
    /// another is called so.
    fn name_next(&mut self, name: &Frame) {
        let _ = name;
    }
    /// Whether a peer is called so.
    fn knows(&self, name: &[u8]) -> bool {
        let _ = name;
        false
    }
    /// What the peer behind a pipe is called, for types that name them.
    fn name(&self, pipe: PipeId) -> Option<&Frame> {
        let _ = pipe;
        None
    }
    /// What is known of the peer that is called so.
    fn metadata(&self, name: &[u8]) -> Option<Metadata> {
        let _ = name;
        None
    }
    /// An option changed.
    fn set_options(&mut self, options: &PatternOptions) {
        let _ = options;
    }
}

/// The behaviour of any socket type, chosen when the socket is made. An enum and not a trait object, so that pipes
/// are known at compile time and a message costs one predictable branch.
#[derive(Debug)]
// One per socket. A box would cost every message of a small type one more pointer to follow.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Pattern {
    Pair(pair::Pair),
    Push(push::Push),
    Pull(pull::Pull),
    Req(request::Request),
    Rep(reply::Reply),
    Dealer(dealer::Dealer),
    Router(router::Router),
    Pub(publish::Publish),
    Sub(subscribe::Subscribe),
    Xpub(xpublish::Xpublish),
    Xsub(xsubscribe::Xsubscribe),
    Client(single::Single<dealer::Dealer>),
    Server(server::Server),
    Radio(radio::Radio),
    Dish(dish::Dish),
    Gather(single::Single<pull::Pull>),
    Scatter(single::Single<push::Push>),
    Peer(server::Server),
    Channel(single::Single<pair::Pair>),
    Stream(stream::Stream),
}

impl Pattern {
    /// The behaviour of this type. The routing ids that a ROUTER
    /// generates count from `seed`: a random one keeps the ids of an earlier run from meaning somebody else.
    pub(crate) fn new(kind: SocketType, seed: u32) -> Self {
        match kind {
            SocketType::Pair => Self::Pair(Default::default()),
            SocketType::Push => Self::Push(Default::default()),
            SocketType::Pull => Self::Pull(Default::default()),
            SocketType::Req => Self::Req(request::Request::new(seed)),
            SocketType::Rep => Self::Rep(Default::default()),
            SocketType::Dealer => Self::Dealer(Default::default()),
            SocketType::Router => Self::Router(router::Router::new(seed)),
            SocketType::Pub => Self::Pub(Default::default()),
            SocketType::Sub => Self::Sub(Default::default()),
            SocketType::Xpub => Self::Xpub(Default::default()),
            SocketType::Xsub => Self::Xsub(Default::default()),
            SocketType::Client => Self::Client(Default::default()),
            SocketType::Server => Self::Server(server::Server::new(seed)),
            SocketType::Radio => Self::Radio(Default::default()),
            SocketType::Dish => Self::Dish(Default::default()),
            SocketType::Gather => Self::Gather(Default::default()),
            SocketType::Scatter => Self::Scatter(Default::default()),
            SocketType::Peer => Self::Peer(server::Server::new(seed)),
            SocketType::Channel => Self::Channel(Default::default()),
            SocketType::Stream => Self::Stream(stream::Stream::new(seed)),
        }
    }
}

/// Calls the same method of whichever behaviour it is.
macro_rules! each {
    ($pattern:expr, $behaviour:ident => $call:expr) => {
        match $pattern {
            Pattern::Pair($behaviour) => $call,
            Pattern::Push($behaviour) => $call,
            Pattern::Pull($behaviour) => $call,
            Pattern::Req($behaviour) => $call,
            Pattern::Rep($behaviour) => $call,
            Pattern::Dealer($behaviour) => $call,
            Pattern::Router($behaviour) => $call,
            Pattern::Pub($behaviour) => $call,
            Pattern::Sub($behaviour) => $call,
            Pattern::Xpub($behaviour) => $call,
            Pattern::Xsub($behaviour) => $call,
            Pattern::Client($behaviour) => $call,
            Pattern::Server($behaviour) => $call,
            Pattern::Radio($behaviour) => $call,
            Pattern::Dish($behaviour) => $call,
            Pattern::Gather($behaviour) => $call,
            Pattern::Scatter($behaviour) => $call,
            Pattern::Peer($behaviour) => $call,
            Pattern::Channel($behaviour) => $call,
            Pattern::Stream($behaviour) => $call,
        }
    };
}

impl Behaviour for Pattern {
    fn attached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: Option<&Peer>) {
        each!(self, behaviour => behaviour.attached(pipes, pipe, peer))
    }
    fn identified<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId, peer: &Peer) {
        each!(self, behaviour => behaviour.identified(pipes, pipe, peer))
    }
    fn link_lost(&mut self, pipe: PipeId) {
        each!(self, behaviour => behaviour.link_lost(pipe))
    }
    fn write_closed<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        each!(self, behaviour => behaviour.write_closed(pipes, pipe))
    }
    fn detached<P: Pipes>(&mut self, pipes: &mut P, pipe: PipeId) {
        each!(self, behaviour => behaviour.detached(pipes, pipe))
    }
    #[inline]
    fn readable(&mut self, pipe: PipeId) {
        each!(self, behaviour => behaviour.readable(pipe))
    }
    #[inline]
    fn writable(&mut self, pipe: PipeId) {
        each!(self, behaviour => behaviour.writable(pipe))
    }
    #[inline]
    fn send<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotSent> {
        each!(self, behaviour => behaviour.send(pipes, message))
    }
    #[inline]
    fn recv<P: Pipes>(&mut self, pipes: &mut P, message: &mut Message) -> Result<(), NotReceived> {
        each!(self, behaviour => behaviour.recv(pipes, message))
    }
    fn can_send<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        each!(self, behaviour => behaviour.can_send(pipes))
    }
    fn admits<P: Pipes>(&mut self, pipes: &mut P, first: &Frame) -> Result<(), NotSent> {
        each!(self, behaviour => behaviour.admits(pipes, first))
    }
    fn can_recv<P: Pipes>(&mut self, pipes: &mut P) -> bool {
        each!(self, behaviour => behaviour.can_recv(pipes))
    }
    fn peer_subscribed(&mut self, pipe: PipeId, topic: &Frame) -> bool {
        each!(self, behaviour => behaviour.peer_subscribed(pipe, topic))
    }
    fn subscribe_all(&mut self, pipe: PipeId) {
        each!(self, behaviour => behaviour.subscribe_all(pipe))
    }
    fn peer_cancelled(&mut self, pipe: PipeId, topic: &Frame) {
        each!(self, behaviour => behaviour.peer_cancelled(pipe, topic))
    }
    fn subscribe<P: Pipes>(&mut self, pipes: &mut P, topic: &[u8]) -> bool {
        each!(self, behaviour => behaviour.subscribe(pipes, topic))
    }
    fn unsubscribe<P: Pipes>(&mut self, pipes: &mut P, topic: &[u8]) -> bool {
        each!(self, behaviour => behaviour.unsubscribe(pipes, topic))
    }
    fn routing_id(&self, pipe: PipeId) -> Option<u32> {
        each!(self, behaviour => behaviour.routing_id(pipe))
    }
    fn name_next(&mut self, name: &Frame) {
        each!(self, behaviour => behaviour.name_next(name))
    }
    fn knows(&self, name: &[u8]) -> bool {
        each!(self, behaviour => behaviour.knows(name))
    }
    fn name(&self, pipe: PipeId) -> Option<&Frame> {
        each!(self, behaviour => behaviour.name(pipe))
    }
    fn metadata(&self, name: &[u8]) -> Option<Metadata> {
        each!(self, behaviour => behaviour.metadata(name))
    }
    fn set_options(&mut self, options: &PatternOptions) {
        each!(self, behaviour => behaviour.set_options(options))
    }
}

/// The body of a COMMAND part in a pipe that subscribes to `topic`; the session gives it the form that the peer's
/// version wants. (ZMTP 3.0 sends just these bytes as a message.)
pub(crate) fn subscription(subscribe: bool, topic: &[u8]) -> Part {
    let mut body = Vec::with_capacity(1 + topic.len());
    body.push(u8::from(subscribe));
    body.extend_from_slice(topic);
    Part::command(body)
}

#[cfg(test)]
mod tests {
    use super::testing::{ByValue, Random, TestPipes, message, peer, pipe};
    use super::*;

    #[test]
    fn every_type_that_sockets_can_have() {
        for kind in SocketType::ALL {
            let pattern = Pattern::new(kind, 0);
            // Through the macro: each variant is the behaviour that its name says.
            assert!(format!("{pattern:?}").to_uppercase().starts_with(kind.name()));
        }
    }

    #[test]
    fn only_subscribers_subscribe_and_whoever_is_subscribed_to_may_ignore_it() {
        for kind in SocketType::ALL {
            let mut pattern = Pattern::new(kind, 0);
            let mut pipes = TestPipes::strict();
            let subscribes = matches!(kind, SocketType::Sub | SocketType::Dish);
            assert_eq!(pattern.subscribe(&mut pipes, b"a"), subscribes, "{kind}");
            assert_eq!(pattern.unsubscribe(&mut pipes, b"a"), subscribes, "{kind}");
            pattern.attached(&mut pipes, pipe(1), Some(&peer("id")));
            pattern.peer_subscribed(pipe(1), &Frame::EMPTY);
            pattern.peer_cancelled(pipe(1), &Frame::EMPTY);
            pattern.subscribe_all(pipe(1));
        }
    }

    /// Whatever the engine says and peers send, in whatever order: no panic, `can_recv` and `can_send` keep their
    /// word, and what is refused comes back. TestPipes checks what is written.
    #[test]
    fn nothing_that_happens_in_any_order_breaks_a_pattern() {
        const PARTS: [&str; 4] = ["", "a", "\0", "b"];
        for (kind, seed) in SocketType::ALL.into_iter().flat_map(|kind| (0..20).map(move |seed| (kind, seed)))
        {
            let mut pattern = Pattern::new(kind, 0);
            let mut random = Random::new(seed);
            let mut pipes = TestPipes::strict();
            for _ in 0..2_000 {
                let n = random.below(6) as u64;
                let id = PARTS[random.below(PARTS.len())];
                let parts: Vec<_> = (0..=random.below(4)).map(|_| PARTS[random.below(PARTS.len())]).collect();
                match random.below(16) {
                    0 => pattern.attached(&mut pipes, pipe(n), None),
                    1 => pattern.attached(&mut pipes, pipe(n), Some(&peer(id))),
                    2 => pattern.identified(&mut pipes, pipe(n), &peer(id)),
                    3 if random.below(3) == 0 => pattern.write_closed(&mut pipes, pipe(n)),
                    4 if random.below(3) == 0 => pattern.detached(&mut pipes, pipe(n)),
                    5 => pipes.arrive_part(n, Part::more(id)),
                    6 => pattern.writable(pipe(n)),
                    7 => pipes.room(n, random.below(3)),
                    8 => {
                        pattern.peer_subscribed(pipe(n), &id.into());
                    }
                    9 => {
                        pattern.subscribe(&mut pipes, id.as_bytes());
                        pattern.link_lost(pipe(n));
                    }
                    10 => {
                        let mut chance = || random.below(2) == 0;
                        pattern.set_options(&PatternOptions {
                            router_mandatory: chance(),
                            router_handover: chance(),
                            xpub_verbose: chance(),
                            xpub_verboser: chance(),
                            xpub_manual: chance(),
                            xpub_nodrop: chance(),
                            xpub_welcome_message: id.into(),
                            req_correlate: chance(),
                            req_relaxed: chance(),
                            probe_router: chance(),
                            invert_matching: chance(),
                        });
                    }
                    11..13 => pipes.deliver(&mut pattern, n, &parts),
                    13 => {
                        let ready = pattern.can_recv(&mut pipes);
                        assert_eq!(pattern.take(&mut pipes).is_ok(), ready, "{kind} seed {seed}");
                    }
                    _ => {
                        let ready = pattern.can_send(&mut pipes);
                        match pattern.give(&mut pipes, message(&parts)) {
                            // Which of its pipes a ROUTER needs is said by the message, and a publisher that waits.
                            Ok(()) => assert!(ready || kind == SocketType::Router),
                            Err(refused) => {
                                use SocketType::{Pub, Router, Xpub};
                                // Or the message is none for this type.
                                let misfit = !matches!(refused.why, NotSent::Again | NotSent::State);
                                assert!(
                                    !ready || misfit || matches!(kind, Router | Pub | Xpub),
                                    "{kind} seed {seed}"
                                );
                                assert_eq!(refused.message, message(&parts));
                            }
                        }
                    }
                }
            }
        }
    }
}
