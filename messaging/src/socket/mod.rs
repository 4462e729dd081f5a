//! Sockets: blocking and asynchronous calls over one core. Patterns and engine do the work; this file asks them.

pub(crate) mod context;
mod future;
pub(crate) mod monitor;
pub(crate) mod options;
mod poll;
mod poller;
pub(crate) mod proxy;
pub(crate) mod shared;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use transport_core::{Deferral, Endpoint, Frame, FrameMut, Keepalive, OpenError, Role};

pub use future::{Receive, Send};
pub use poll::{Interest, PollItem, poll, poll_with_fds};
pub use poller::{Poller, PollerWait, Ready};

use crate::engine::{OpenRequest, Outcome, Pace, Target, Wait, Waiters};
use crate::error::{Error, SendError};
use crate::limits::GROUP_MAX;
use crate::message::Message;
use crate::pattern::{Behaviour, NotReceived, NotSent};
use crate::session::{Heartbeat, SessionConfig, TOPIC_MAX};
use crate::socket_type::SocketType;
use context::ContextShared;
use monitor::{Monitor, MonitorQueue};
use options::Options;
use shared::{CLOSED, OPEN, SocketShared};

/// A socket. Thread-safe: any thread may call anything at any time; messages never interleave. Dropping it closes it,
/// and what is queued still goes out within the linger time.
pub struct Socket {
    shared: Arc<SocketShared>,
    context: Arc<ContextShared>,
}

/// What one way to bind or connect has beside an endpoint.
#[derive(Debug, Default)]
struct Opening {
    /// What the peer is called.
    name: Option<Frame>,
    /// What to listen on.
    listener: Option<Arc<OwnedFd>>,
}

impl Target for SocketShared {
    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
    fn has_news(&self) -> bool {
        SocketShared::has_news(self)
    }
}

impl Socket {
    pub(crate) fn new(shared: Arc<SocketShared>, context: Arc<ContextShared>) -> Self {
        Self { shared, context }
    }

    /// What kind of socket this is.
    pub fn socket_type(&self) -> SocketType {
        self.shared.kind
    }

    // ---- options ----

    /// The options as they are now.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Terminated`].
    pub fn options(&self) -> Result<Options, Error> {
        self.check()?;
        Ok(self.shared.options().clone())
    }

    /// Changes options. Marks and timeouts count at once, the rest for endpoints opened from now on. `change` gets a
    /// copy, and changes of other threads come before or after it; it must not change this socket's options itself.
    ///
    /// Fails with [`Error::Invalid`], and changes nothing, when a value is out of its range.
    pub fn set_options(&self, change: impl FnOnce(&mut Options)) -> Result<(), Error> {
        self.check()?;
        // What this sets off runs after the lock.
        let _deferral = Deferral::begin();
        let _changing = self.shared.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.options()?;
        change(&mut changed);
        let id = &changed.routing_id;
        if id.len() > transport_core::limits::ROUTING_ID_MAX || id.first() == Some(&0) {
            return Err(Error::Invalid(ROUTING_ID));
        }
        if let Some(Keepalive { idle, interval, count }) = changed.keepalive {
            let second = Duration::from_secs(1);
            if [idle, interval].into_iter().flatten().any(|time| time < second) || count == Some(0) {
                return Err(Error::Invalid(
                    "keepalive counts in seconds and probes, of which there is at least one",
                ));
            }
        }
        if changed.heartbeat_ttl.as_millis() > 6_553_599 {
            return Err(Error::Invalid("heartbeat_ttl is at most 6553.599 seconds"));
        }
        let mut options = self.shared.options();
        let marks = (options.send_hwm, options.receive_hwm) != (changed.send_hwm, changed.receive_hwm);
        let pattern = changed.pattern();
        *options = changed;
        drop(options);
        self.shared.lock().pattern.set_options(&pattern);
        // What could not be sent before may be by now (req_relaxed).
        self.shared.waiters.wake_all();
        if marks {
            self.context.shard.with_core(|core| core.set_marks(&self.shared, Instant::now()));
        }
        Ok(())
    }

    // ---- endpoints ----

    /// Listens at `endpoint` and returns the real one, with the port that a wildcard became. Waits for the outcome
    /// (a name may have to be resolved).
    pub fn bind(&self, endpoint: &str) -> Result<Endpoint, Error> {
        self.bind_by(endpoint, Opening::default())
    }

    /// Listens on a socket of the system's that somebody else has bound, as [`Socket::bind`] would on one of its own, and
    /// returns its endpoint: for a service manager that holds the port (sd_listen_fds(3)), or to drop privileges in between. The
    /// scheme of `endpoint`, tcp or ipc, must be the socket's; its address does not count. The descriptor is closed with the
    /// endpoint; the file of an ipc socket stays.
    ///
    /// # Errors
    /// Those of `bind`; [`OpenError::System`] with EPROTOTYPE if the descriptor is no such socket, and
    /// [`OpenError::Incompatible`] for other transports.
    pub fn bind_listener(&self, endpoint: &str, listener: impl Into<OwnedFd>) -> Result<Endpoint, Error> {
        let listener = Some(Arc::new(listener.into()));
        self.bind_by(endpoint, Opening { listener, ..Opening::default() })
    }

    fn bind_by(&self, endpoint: &str, opening: Opening) -> Result<Endpoint, Error> {
        let key = self.open(endpoint, Role::Bind, opening)?;
        let shared: &dyn Target = &*self.shared;
        let wait = Wait { targets: &[shared], deadline: None, fds: &[] };
        let shard = &self.context.shard;
        let outcome = shard.wait(&wait, || match shard.with_core(|core| core.outcome(key)) {
            Outcome::Pending => self.check().err().map(Err),
            Outcome::Bound(endpoint) => Some(Ok(endpoint)),
            Outcome::Failed(error) => Some(Err(error.into())),
            // `unbind`, by another thread.
            Outcome::Gone => Some(Err(Error::NoSuchEndpoint(endpoint.into()))),
        });
        let bound = outcome.and_then(|outcome| outcome);
        if bound.is_err() {
            shard.with_core(|core| core.abandon(key, Instant::now()));
        }
        bound
    }

    /// Dials `endpoint`, now and whenever the link breaks. Returns at once: messages queue until the peer is there,
    /// and it need not have bound yet. Fails only for what waiting cannot mend.
    pub fn connect(&self, endpoint: &str) -> Result<(), Error> {
        self.open(endpoint, Role::Connect, Opening::default()).map(drop)
    }

    /// Dials `endpoint` as [`Socket::connect`] does, and returns the number of the peer behind it, for [`Message::to`]
    /// (zmq_connect_peer(3)). For PEER and SERVER. Messages queue until the peer is there; another one that comes after
    /// it at the same address has its number.
    ///
    /// # Errors
    /// Those of `connect`; [`Error::NotSupported`] for other types.
    pub fn connect_peer(&self, endpoint: &str) -> Result<u32, Error> {
        if !matches!(self.shared.kind, SocketType::Peer | SocketType::Server) {
            return Err(Error::NotSupported(
                self.shared.kind,
                "number its peers; use connect, or a PEER socket",
            ));
        }
        if self.options()?.immediate {
            return Err(Error::Invalid("with the option immediate a peer has no number before it is there"));
        }
        let key = self.open(endpoint, Role::Connect, Opening::default())?;
        let pipe = self.context.shard.with_core(|core| core.pipe_of(key));
        let _deferral = Deferral::begin();
        let state = self.shared.lock();
        // Somebody else may have closed the endpoint or the socket meanwhile.
        pipe.and_then(|pipe| state.pattern.routing_id(pipe)).ok_or(Error::NoSuchEndpoint(endpoint.into()))
    }

    /// Dials `endpoint` as [`Socket::connect`] does, and returns what the peer behind it is called in messages, whatever it
    /// calls itself: `routing_id` (ZMQ_CONNECT_ROUTING_ID), or for STREAM a name of the socket's choice. For ROUTER and
    /// STREAM. Messages to it queue until it is there.
    ///
    /// # Errors
    /// Those of `connect`; [`Error::Invalid`] when another peer is called so, or the id is none;
    /// [`Error::NotSupported`] for other types.
    pub fn connect_as(&self, endpoint: &str, routing_id: Option<&[u8]>) -> Result<Frame, Error> {
        match (self.shared.kind, routing_id) {
            (SocketType::Router | SocketType::Stream, Some(id)) => {
                if id.is_empty() || id.len() > transport_core::limits::ROUTING_ID_MAX || id[0] == 0 {
                    return Err(Error::Invalid(ROUTING_ID));
                }
            }
            (SocketType::Stream, None) => {}
            (SocketType::Router, None) => {
                return Err(Error::Invalid(
                    "a ROUTER learns its peers' names from them; use connect, or give one",
                ));
            }
            (kind, _) => {
                return Err(Error::NotSupported(kind, "name its peers; use connect, or a ROUTER socket"));
            }
        }
        if self.options()?.immediate {
            return Err(Error::Invalid("with the option immediate a peer has no name before it is there"));
        }
        let name = routing_id.map(Frame::from);
        if name.as_ref().is_some_and(|name| self.shared.lock().pattern.knows(name)) {
            return Err(Error::Invalid(
                "another peer is called so; disconnect it first, or choose another name",
            ));
        }
        let key = self.open(endpoint, Role::Connect, Opening { name, ..Opening::default() })?;
        let pipe = self.context.shard.with_core(|core| core.pipe_of(key));
        let _deferral = Deferral::begin();
        let state = self.shared.lock();
        let name = pipe.and_then(|pipe| state.pattern.name(pipe)).cloned();
        // Somebody else may have closed the endpoint or the socket meanwhile.
        name.ok_or(Error::NoSuchEndpoint(endpoint.into()))
    }

    fn open(
        &self,
        endpoint: &str,
        role: Role,
        Opening { name, listener }: Opening,
    ) -> Result<transport_core::SlabKey, Error> {
        self.check()?;
        let endpoint = Endpoint::parse(endpoint).map_err(OpenError::from)?;
        let shard = &self.context.shard;
        let transport = self.context.transport(&endpoint)?;
        let capabilities = transport.capabilities(&endpoint, self.shared.kind.flow())?;
        context::check_fit(self.shared.kind, &endpoint, &capabilities)?;
        if listener.is_some() && !transport.adopts_listeners() {
            let why = "that transport makes its listeners itself; use tcp:// or ipc://, or bind".to_owned();
            return Err(OpenError::Incompatible { endpoint, why }.into());
        }
        let driver = shard.driver_for(endpoint.scheme(), &transport).map_err(|error| match error {
            OpenError::Unavailable { why, errno, .. } => {
                OpenError::System { endpoint: endpoint.clone(), why, errno }
            }
            error => error,
        })?;
        let options = self.options()?;
        let config = Arc::new(SessionConfig {
            socket_type: self.shared.kind,
            routing_id: options.routing_id.clone(),
            mechanism: self.context.mechanism.clone(),
            heartbeat: Heartbeat {
                interval: options.heartbeat_interval,
                timeout: options.heartbeat_timeout,
                ttl: options.heartbeat_ttl,
            },
            handshake_timeout: options.handshake_timeout,
        });
        Ok(shard.with_core(|core| {
            core.open(
                &self.shared,
                OpenRequest {
                    driver,
                    endpoint,
                    role,
                    capabilities,
                    config,
                    name,
                    listener,
                    now: Instant::now(),
                },
            )
        })?)
    }

    /// Stops listening at `endpoint`, as given to `bind` or returned by it, and closes the links that came by it; what is
    /// queued for them still goes out within the linger time. In-process links stay up.
    pub fn unbind(&self, endpoint: &str) -> Result<(), Error> {
        self.close_endpoint(endpoint, Role::Bind)
    }

    /// Stops dialling `endpoint` and closes its link; what is queued for it still goes out within the linger time, and
    /// what was received from it but not taken is dropped.
    pub fn disconnect(&self, endpoint: &str) -> Result<(), Error> {
        self.close_endpoint(endpoint, Role::Connect)
    }

    fn close_endpoint(&self, endpoint: &str, role: Role) -> Result<(), Error> {
        self.check()?;
        let linger = self.shared.options().linger;
        let closed = self
            .context
            .shard
            .with_core(|core| core.close_endpoint(&self.shared, endpoint, role, linger, Instant::now()));
        if closed { Ok(()) } else { Err(Error::NoSuchEndpoint(endpoint.into())) }
    }

    // ---- messages ----

    /// Lends a writable frame of `len` bytes from the context's pool, to fill and send without a copy.
    pub fn loan(&self, len: usize) -> Result<FrameMut, Error> {
        self.context.loan(len)
    }

    /// Sends a message, waiting for room up to `send_timeout`.
    #[inline]
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        match self.send_once(&mut message) {
            Ok(()) => Ok(()),
            Err(NotSent::Again) if self.is_usable() => {
                let timeout = self.shared.options().send_timeout;
                self.send_waiting(message, timeout)
            }
            Err(why) => Err(self.send_error(why, message)),
        }
    }

    /// Sends a message if that needs no waiting for a peer; else [`Error::Again`] with the message. Moves what it finds
    /// queued first, and may wait for another thread that does so at this moment.
    #[inline]
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_timeout(message, Duration::ZERO)
    }

    /// Sends a message, waiting for room for at most `timeout`.
    #[inline]
    pub fn send_timeout(&self, message: impl Into<Message>, timeout: Duration) -> Result<(), SendError> {
        let mut message = message.into();
        match self.send_once(&mut message) {
            Ok(()) => Ok(()),
            Err(NotSent::Again) if self.is_usable() => self.send_waiting(message, Some(timeout)),
            Err(why) => Err(self.send_error(why, message)),
        }
    }

    #[cold]
    fn send_waiting(&self, mut message: Message, timeout: Option<Duration>) -> Result<(), SendError> {
        let sent = self.wait(timeout, || match self.send_once(&mut message) {
            Err(NotSent::Again) if self.is_usable() => None,
            sent => Some(sent),
        });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(self.send_error(why, message)),
            Err(error) => Err(SendError { error, message: Box::new(message) }),
        }
    }

    /// Blocks until `attempt` gives something, for at most `timeout`. With none at all it still moves what is queued, and
    /// says [`Error::Again`] only when nothing is left to move.
    fn wait<R>(&self, timeout: Option<Duration>, attempt: impl FnMut() -> Option<R>) -> Result<R, Error> {
        if timeout == Some(Duration::ZERO) {
            return self.context.shard.look_once_more(attempt).ok_or(Error::Again);
        }
        // A time beyond what the clock can say is for ever.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let shared: &dyn Target = &*self.shared;
        self.context.shard.wait(&Wait { targets: &[shared], deadline, fds: &[] }, attempt)
    }

    #[inline]
    fn send_once(&self, message: &mut Message) -> Result<(), NotSent> {
        if !self.is_usable() {
            return Err(NotSent::Again);
        }
        let shard = &*self.context.shard;
        let deferral = Deferral::begin();
        let mut state = self.shared.lock();
        state.send(message)?;
        let (bytes, guarded) = state.take_written();
        // Nothing written: the pattern dropped it, or there was nobody to send it to.
        let pace = if bytes == 0 {
            Pace::Queue
        } else {
            state.pacing.queued(bytes, guarded && shard.is_guarding(), Instant::now)
        };
        drop(state);
        drop(deferral);
        self.moved();
        match pace {
            Pace::Queue => {}
            Pace::Flush => self.flush(),
            Pace::Guard => shard.call_guard(),
        }
        Ok(())
    }

    /// A message went one way. A REQ or REP may go the other way now, of which the engine says nothing to those who wait for it.
    #[inline]
    fn moved(&self) {
        if matches!(self.shared.kind, SocketType::Req | SocketType::Rep) {
            self.shared.waiters.wake_all();
        }
    }

    fn flush(&self) {
        let start = Instant::now();
        let links = self.context.shard.flush_now();
        let end = Instant::now();
        let _deferral = Deferral::begin();
        self.shared.lock().pacing.flushed(start, end, links);
    }

    #[cold]
    fn send_error(&self, why: NotSent, message: Message) -> SendError {
        SendError { error: self.reason(why), message: Box::new(message) }
    }

    #[cold]
    fn reason(&self, why: NotSent) -> Error {
        match (self.check(), why) {
            (Err(error), _) => error,
            (_, NotSent::Again) => Error::Again,
            (_, NotSent::State) => Error::OutOfTurn,
            (_, NotSent::Unroutable) => Error::Unroutable,
            (_, NotSent::NotSupported) => Error::NotSupported(self.shared.kind, "send"),
            (_, NotSent::NoRoutingId) => Error::NoRoutingId,
            (_, NotSent::NoGroup) => Error::NoGroup,
            (_, NotSent::Parts) => Error::Parts(self.shared.kind),
            (_, NotSent::Topic) => Error::Invalid(TOPIC_TOO_LONG),
        }
    }

    /// Receives a message, waiting for one up to `receive_timeout`.
    #[inline]
    pub fn recv(&self) -> Result<Message, Error> {
        // In its place from the beginning: nothing is moved.
        let mut received = Ok(Message::EMPTY);
        if let Ok(message) = &mut received
            && let Err(error) = self.recv_into(message)
        {
            received = Err(error);
        }
        received
    }

    /// Receives a message as [`Socket::recv`] does, in the place of one that is there: what it was is dropped, or lost if this
    /// fails. Saves moving the message, which is a tenth of what a small one costs.
    #[inline]
    pub fn recv_into(&self, message: &mut Message) -> Result<(), Error> {
        if !self.recv_once(message)? {
            let timeout = self.shared.options().receive_timeout;
            self.recv_waiting(message, timeout)?;
        }
        Ok(())
    }

    /// Receives a message if one has arrived; else [`Error::Again`]. Fetches what the transports hold first, and may wait
    /// for another thread that does so at this moment.
    pub fn try_recv(&self) -> Result<Message, Error> {
        self.recv_timeout(Duration::ZERO)
    }

    /// Receives a message, waiting for at most `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, Error> {
        let mut message = Message::EMPTY;
        if !self.recv_once(&mut message)? {
            self.recv_waiting(&mut message, Some(timeout))?;
        }
        Ok(message)
    }

    fn recv_waiting(&self, message: &mut Message, timeout: Option<Duration>) -> Result<(), Error> {
        self.wait(timeout, || match self.recv_once(message) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        })?
    }

    /// Puts the next message into its place. `false`: nothing there.
    #[inline]
    fn recv_once(&self, message: &mut Message) -> Result<bool, Error> {
        if !self.is_usable() {
            return self.check().map(|()| false);
        }
        let deferral = Deferral::begin();
        let received = self.shared.lock().recv(message);
        drop(deferral);
        match received {
            Ok(()) => {
                self.moved();
                Ok(true)
            }
            Err(NotReceived::Again) => Ok(false),
            Err(NotReceived::State) => Err(Error::OutOfTurn),
            Err(NotReceived::NotSupported) => Err(Error::NotSupported(self.shared.kind, "receive")),
        }
    }

    /// Whether a message that begins with `first` would be taken, waiting for room for at most `timeout` (`None`: for
    /// ever). For callers that are given a message part by part and must answer for the first one. An answer is no
    /// promise: another thread may use the room.
    ///
    /// Fails as [`Socket::send`] would.
    #[doc(hidden)]
    pub fn admit(&self, first: &Frame, timeout: Option<Duration>) -> Result<(), Error> {
        let attempt = || {
            if !self.is_usable() {
                return self.check().err().map(Err);
            }
            let deferral = Deferral::begin();
            let admitted = self.shared.lock().admits(first);
            drop(deferral);
            match admitted {
                Ok(()) => Some(Ok(())),
                Err(NotSent::Again) => None,
                Err(why) => Some(Err(self.reason(why))),
            }
        };
        match attempt() {
            Some(result) => result,
            None => self.wait(timeout, attempt)?,
        }
    }

    /// Calls `waker` once, when the socket may have become readable or writable, or its context ends. The background
    /// does the I/O from here on. Look at the socket after this call, not before. A second waker takes the place of the
    /// first.
    #[doc(hidden)]
    pub fn wake_when_changed(&self, waker: &std::task::Waker) {
        self.shared.waiters.add_task(self.shared.bell, waker);
        if self.is_usable() {
            self.context.shard.hand_over();
        }
    }

    /// Sends a message from async code. The future owns the message; dropping it before it is ready sends nothing.
    /// Runs under any executor.
    pub fn send_async(&self, message: impl Into<Message>) -> Send<'_> {
        Send::new(self, message.into())
    }

    /// Receives a message in async code. Dropping the future loses nothing. Runs under any executor.
    pub fn recv_async(&self) -> Receive<'_> {
        Receive::new(self)
    }

    /// Subscribes to messages whose first part starts with `topic`; the empty topic means all. For SUB. For XPUB with
    /// `xpub_manual`: subscribes the peer whose subscription was received last; nobody, if that peer has gone. An XSUB sends
    /// its subscriptions as messages.
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.change_subscription(true, topic.as_ref())
    }

    /// Takes one subscription back. As [`Socket::subscribe`].
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.change_subscription(false, topic.as_ref())
    }

    /// Joins a group: messages to it are received from here on. For DISH. A group has at most 255 bytes.
    pub fn join(&self, group: impl AsRef<[u8]>) -> Result<(), Error> {
        self.change_group(true, group.as_ref())
    }

    /// Leaves a group. For DISH.
    pub fn leave(&self, group: impl AsRef<[u8]>) -> Result<(), Error> {
        self.change_group(false, group.as_ref())
    }

    fn change_group(&self, join: bool, group: &[u8]) -> Result<(), Error> {
        self.check()?;
        if self.shared.kind != SocketType::Dish {
            return Err(Error::NotSupported(self.shared.kind, "join groups; use a DISH socket"));
        }
        if group.len() > GROUP_MAX {
            return Err(Error::Invalid("a group has at most 255 bytes"));
        }
        if self.tell_subscription(join, group) {
            Ok(())
        } else {
            Err(Error::Invalid(if join {
                "this group is joined already"
            } else {
                "this group was not joined"
            }))
        }
    }

    fn change_subscription(&self, subscribe: bool, topic: &[u8]) -> Result<(), Error> {
        self.check()?;
        match self.shared.kind {
            SocketType::Sub => {}
            SocketType::Dish => {
                return Err(Error::NotSupported(self.shared.kind, "subscribe; use join and leave"));
            }
            SocketType::Xpub if self.shared.options().xpub_manual => {}
            SocketType::Xpub => {
                return Err(Error::Invalid("an XPUB subscribes its peers only with the option xpub_manual"));
            }
            SocketType::Xsub => {
                return Err(Error::NotSupported(
                    self.shared.kind,
                    "subscribe by a call; send a message of a 1 byte and the topic, or use a SUB socket",
                ));
            }
            kind => return Err(Error::NotSupported(kind, "subscribe; use a SUB socket")),
        }
        if subscribe && topic.len() > TOPIC_MAX {
            return Err(Error::Invalid(TOPIC_TOO_LONG));
        }
        let changed = self.tell_subscription(subscribe, topic);
        if changed { Ok(()) } else { Err(Error::Invalid("there is no such subscription to take back")) }
    }

    /// Changes what the pattern wants to receive, and tells the peers.
    fn tell_subscription(&self, subscribe: bool, topic: &[u8]) -> bool {
        let deferral = Deferral::begin();
        let mut state = self.shared.lock();
        let changed = state.subscribe(subscribe, topic);
        let (bytes, _) = state.take_written();
        drop(state);
        drop(deferral);
        if bytes > 0 {
            self.flush();
        }
        changed
    }

    /// What is known of the peer that a ROUTER or STREAM calls `routing_id` (zmq_msg_gets(3)): names and values. `Peer-Address` is its
    /// address as monitors have it (over ipc `localhost:UID:GID:PID`, which the system vouches for), `User-Id` what its admission gave it; behind them stands what it said of itself. `None`: nobody
    /// is called so, or it has gone.
    pub fn metadata(&self, routing_id: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
        if !self.is_usable() {
            return None;
        }
        let _deferral = Deferral::begin();
        let metadata = self.shared.lock().pattern.metadata(routing_id)?;
        Some(metadata.to_vec())
    }

    /// Whether `recv` would give something at once.
    pub fn is_readable(&self) -> bool {
        let _deferral = Deferral::begin();
        self.is_usable() && self.shared.lock().can_recv()
    }

    /// Whether `send` would take something at once.
    pub fn is_writable(&self) -> bool {
        let _deferral = Deferral::begin();
        self.is_usable() && self.shared.lock().can_send()
    }

    /// Records the socket's events from now on. A second monitor replaces the first.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Terminated`].
    pub fn monitor(&self) -> Result<Monitor, Error> {
        self.check()?;
        let queue = Arc::new(MonitorQueue::default());
        self.shared.set_monitor(Some(queue.clone()));
        Ok(Monitor::new(queue, self.context.fork))
    }

    /// Stops recording; the monitor gets [`monitor::EventKind::Stopped`].
    pub fn stop_monitor(&self) {
        if !self.context.is_foreign() {
            self.shared.set_monitor(None);
        }
    }

    // ---- life ----

    #[inline]
    fn is_usable(&self) -> bool {
        self.shared.life.load(Ordering::Relaxed) == OPEN && !self.context.is_foreign()
    }

    #[cold]
    fn check(&self) -> Result<(), Error> {
        if self.context.is_foreign() {
            Err(Error::Forked)
        } else if self.shared.life() != OPEN {
            Err(Error::Terminated)
        } else {
            Ok(())
        }
    }

    /// Closes the socket now, with the linger time of its options. As dropping does.
    pub fn close(self) {}
}

const TOPIC_TOO_LONG: &str = "a topic has at most 65536 bytes, since a PUB refuses longer ones";
const ROUTING_ID: &str = "a routing id has 1 to 255 bytes and does not start with a zero byte";

impl Drop for Socket {
    fn drop(&mut self) {
        if self.context.is_foreign() {
            return;
        }
        let linger = self.shared.options().linger;
        self.shared.life.store(CLOSED, Ordering::SeqCst);
        self.context.shard.with_core(|core| core.close_socket(&self.shared, linger, Instant::now()));
        self.shared.set_monitor(None);
        self.shared.waiters.wake_all();
        self.context.forget(&self.shared);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.shared.kind)
    }
}
