//! What a socket has bound and connected: opening, redialling and giving up. Moves no messages; `core.rs` does.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{
    Capabilities, Endpoint, Flow, Frame, Hello, Identity, Open, OpenError, OpenId, Progress, Role,
    SessionKind, SlabKey, Topology,
};

use super::core::{Core, marks, put};
use super::timers::Timer;
use crate::pattern::{Behaviour, PipeId};
use crate::session::SessionConfig;
use crate::socket::monitor::EventKind;
use crate::socket::shared::SocketShared;

/// A URL that a socket has bound or connected.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) socket: Arc<SocketShared>,
    /// As given.
    pub(super) endpoint: Endpoint,
    /// As bound, without wildcards.
    pub(super) real: Option<Endpoint>,
    pub(super) role: Role,
    pub(super) driver: usize,
    pub(super) open: Option<OpenId>,
    pub(super) kind: SessionKind,
    pub(super) everything: bool,
    pub(super) config: Arc<SessionConfig>,
    /// Each open has one link, and another open follows when that has gone.
    pub(super) dials: bool,
    /// It has one pipe, which outlives its links. Those of others come and go with their links.
    pub(super) lasting: bool,
    /// That pipe.
    pub(super) conduit: Option<SlabKey>,
    pub(super) pause: Duration,
    pub(super) failed: Option<OpenError>,
}

/// What a socket wants bound or connected.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) driver: usize,
    pub(crate) endpoint: Endpoint,
    pub(crate) role: Role,
    pub(crate) capabilities: Capabilities,
    pub(crate) config: Arc<SessionConfig>,
    /// What the peer behind a lasting pipe is called.
    pub(crate) name: Option<Frame>,
    /// What to listen on, for a bind.
    pub(crate) listener: Option<Arc<OwnedFd>>,
    pub(crate) now: Instant,
}

/// What a `bind` has come to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Pending,
    /// Somebody has closed it meanwhile.
    Gone,
    Bound(Endpoint),
    Failed(OpenError),
}

impl Core {
    /// Binds or connects. A connect has its pipe when this returns; a bind has an [`Outcome`] to wait for.
    pub(crate) fn open(
        &mut self,
        socket: &Arc<SocketShared>,
        request: OpenRequest,
    ) -> Result<SlabKey, OpenError> {
        let OpenRequest { driver, endpoint, role, capabilities, config, name, listener, now } = request;
        let options = socket.options();
        let pause = options.reconnect_interval.unwrap_or_default();
        // A group has any number of sources, each with a pipe of its own, whichever way it was opened.
        let many = capabilities.topology == Topology::Multicast && capabilities.flow == Flow::Recv;
        let dials = role == Role::Connect && !many;
        // What is written to a peer in this process is in its hands, whether it is there yet or not.
        let lasting = dials && !(options.immediate && capabilities.session != SessionKind::InProcess);
        drop(options);
        let key = self.endpoints.insert(EndpointState {
            socket: socket.clone(),
            endpoint: endpoint.clone(),
            real: None,
            role,
            driver,
            open: None,
            kind: capabilities.session,
            everything: capabilities.flow == Flow::Send,
            config,
            dials,
            lasting,
            conduit: None,
            pause,
            failed: None,
        });
        if let Err(error) = self.start_open(key, listener) {
            self.endpoints.remove(key);
            return Err(error);
        }
        if lasting {
            let marks = marks(socket);
            let conduit = self.new_conduit(socket.clone(), key, endpoint.as_str(), true, marks);
            let fronts = self.conduits.find_mut(conduit).and_then(|conduit| conduit.fronts.take());
            if let Some(fronts) = fronts {
                // Whoever cannot say what they want gets everything, from the first message on.
                let everything = capabilities.flow == Flow::Send;
                let mut state = socket.lock();
                if let Some(name) = name {
                    // Whoever came meanwhile and took it keeps it.
                    state.pattern.name_next(&name);
                }
                let pipe = state.attach(conduit, fronts, marks, None, everything);
                drop(state);
                if let Some(conduit) = self.conduits.find_mut(conduit) {
                    conduit.pipe = Some(pipe);
                }
            }
            if let Some(state) = self.endpoints.find_mut(key) {
                state.conduit = Some(conduit);
            }
            socket.waiters.wake_all();
        }
        self.turn(now);
        Ok(key)
    }

    pub(super) fn start_open(
        &mut self,
        key: SlabKey,
        listener: Option<Arc<OwnedFd>>,
    ) -> Result<(), OpenError> {
        let Some(state) = self.endpoints.find_mut(key) else { return Ok(()) };
        let options = state.socket.options();
        let request = Open {
            endpoint: state.endpoint.clone(),
            role: state.role,
            flow: state.socket.kind.flow(),
            hello: Hello {
                minor: 1,
                mechanism: state.config.mechanism.name(),
                as_server: state.config.mechanism.as_server(),
            },
            identity: Identity {
                socket_type: state.socket.kind.name(),
                routing_id: options.routing_id.clone(),
                send_hwm: options.send_hwm,
                receive_hwm: options.receive_allowance(),
            },
            limits: options.limits(),
            tuning: options.tuning(),
            listener,
        };
        drop(options);
        let slot = &mut self.drivers[state.driver];
        let open = slot.driver.open(request)?;
        state.open = Some(open);
        slot.users += 1;
        put(&mut slot.opens, open.index(), (open, key));
        Ok(())
    }

    /// The lasting pipe of an endpoint.
    pub(crate) fn pipe_of(&self, key: SlabKey) -> Option<PipeId> {
        self.conduits.find(self.endpoints.find(key)?.conduit?)?.pipe
    }

    /// How a bind stands.
    pub(crate) fn outcome(&mut self, key: SlabKey) -> Outcome {
        match self.endpoints.find_mut(key) {
            None => Outcome::Gone,
            Some(state) => match (&state.real, state.failed.take()) {
                (_, Some(error)) => {
                    self.endpoints.remove(key);
                    Outcome::Failed(error)
                }
                (Some(real), None) => Outcome::Bound(real.clone()),
                (None, None) => Outcome::Pending,
            },
        }
    }

    pub(super) fn endpoint_of(&mut self, at: usize, open: OpenId) -> Option<&mut EndpointState> {
        let key = self.drivers[at].endpoint_of(open)?;
        self.endpoints.find_mut(key)
    }

    pub(super) fn open_failed(&mut self, at: usize, open: OpenId, error: OpenError, now: Instant) {
        let slot = &mut self.drivers[at];
        let Some(key) = slot.endpoint_of(open) else { return };
        slot.opens[open.index()] = None;
        slot.users -= 1;
        let Some(state) = self.endpoints.find_mut(key) else { return };
        state.open = None;
        if state.role == Role::Bind {
            state.socket.emit(state.endpoint.as_str(), || EventKind::BindFailed(error.clone()));
            state.failed = Some(error);
            state.socket.waiters.wake_all();
        } else {
            state.socket.emit(state.endpoint.as_str(), || EventKind::ConnectFailed(error));
            self.retry(key, now);
        }
    }

    pub(super) fn progressed(&mut self, at: usize, open: OpenId, progress: Progress) {
        let Some(state) = self.endpoint_of(at, open) else { return };
        let url = state.real.as_ref().unwrap_or(&state.endpoint).as_str();
        let (peer, kind) = match progress {
            Progress::Dialling => (String::new(), EventKind::ConnectDelayed),
            Progress::Accepted { peer, fd } => (peer, EventKind::Accepted(fd)),
            Progress::Connected { fd } => (String::new(), EventKind::Connected(fd)),
            Progress::HandshakeFailed { peer, reason } => (peer, EventKind::HandshakeFailed(reason)),
            Progress::AcceptFailed(errno) => (String::new(), EventKind::AcceptFailed(errno)),
        };
        state.socket.emit_of_peer(url, &peer, || kind);
    }

    /// Dials again after a pause, unless nobody wants it any more.
    pub(super) fn retry(&mut self, key: SlabKey, now: Instant) {
        let Some(state) = self.endpoints.find_mut(key) else { return };
        let unwanted = state.lasting
            && state
                .conduit
                .and_then(|conduit| self.conduits.find_mut(conduit))
                .is_none_or(|conduit| conduit.closing.is_some() && !conduit.has_output());
        if unwanted {
            if let Some(conduit) = state.conduit {
                self.remove_conduit(conduit);
            }
            return;
        }
        let options = state.socket.options();
        let (interval, max) = (options.reconnect_interval, options.reconnect_interval_max);
        drop(options);
        let Some(interval) = interval else {
            // As in libzmq, an endpoint that never dials again is gone, and its pipe takes no more messages.
            match state.conduit {
                Some(conduit) => self.remove_conduit(conduit),
                None => self.forget_endpoint(key),
            }
            return;
        };
        // libzmq adds up to one interval of jitter, so that a thousand clients do not come back at once; half is
        // enough for that and costs less time.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let jitter = interval.mul_f64((self.jitter >> 11) as f64 / (1u64 << 53) as f64 / 2.0);
        let pause = state.pause.saturating_add(jitter);
        if max > interval {
            state.pause = state.pause.saturating_mul(2).min(max);
        }
        state.socket.emit(state.endpoint.as_str(), || EventKind::ConnectRetried(pause.as_millis() as u64));
        // A time beyond what the clock can say never comes.
        if let Some(due) = now.checked_add(pause) {
            self.add_timer(due, Timer::Reconnect(key));
        }
    }

    /// Gives a bound or connected URL up. `false`: this socket has no such endpoint.
    pub(crate) fn close_endpoint(
        &mut self,
        socket: &Arc<SocketShared>,
        url: &str,
        role: Role,
        linger: Option<Duration>,
        now: Instant,
    ) -> bool {
        let found = self.endpoints.iter().find(|(_, state)| {
            Arc::ptr_eq(&state.socket, socket)
                && state.role == role
                && (state.endpoint.as_str() == url
                    || state.real.as_ref().is_some_and(|real| real.as_str() == url))
        });
        let Some(key) = found.map(|(key, _)| key) else { return false };
        self.let_go(key, linger, now);
        self.drop_endpoint(key, linger, now);
        true
    }

    /// Gives up a bind whose caller does not wait for its outcome any more.
    pub(crate) fn abandon(&mut self, key: SlabKey, now: Instant) {
        // It may have been bound, and have accepted somebody, before the caller could hear of it.
        self.let_go(key, Some(Duration::ZERO), now);
        self.drop_endpoint(key, None, now);
    }

    /// What giving an endpoint up means for its links, as in libzmq: those that a listener accepted are closed with it,
    /// and what a dialled one has received and nobody has taken is dropped.
    pub(super) fn let_go(&mut self, key: SlabKey, linger: Option<Duration>, now: Instant) {
        let Some(state) = self.endpoints.find(key) else { return };
        match state.conduit.and_then(|conduit| self.conduits.find_mut(conduit)) {
            Some(conduit) => {
                if let Some(pipe) = conduit.pipe.take() {
                    conduit.socket.lock().detach(pipe);
                }
            }
            // In-process links stand by themselves, without the name that brought them together.
            None if state.kind == SessionKind::InProcess => {}
            None => {
                let dials = state.dials;
                for at in self.conduits.keys() {
                    let Some(conduit) = self.conduits.find_mut(at).filter(|conduit| conduit.endpoint == key)
                    else {
                        continue;
                    };
                    // No more is written to a pipe whose link ends: it would go nowhere.
                    if dials {
                        if let Some(pipe) = conduit.pipe.take() {
                            conduit.socket.lock().detach(pipe);
                        }
                    } else if let Some(pipe) = conduit.pipe {
                        conduit.socket.lock().close_writing(pipe);
                    }
                    self.close_conduit(at, linger, now);
                }
            }
        }
    }

    /// Ends an endpoint. The pipe of a dialling one is closed with the linger given.
    pub(super) fn drop_endpoint(&mut self, key: SlabKey, linger: Option<Duration>, now: Instant) {
        let Some(state) = self.endpoints.find_mut(key) else { return };
        let conduit = state.conduit;
        if let Some(conduit) = conduit {
            // A lingering pipe keeps its endpoint, for reconnects; both go together.
            self.close_conduit(conduit, linger, now);
        } else {
            self.forget_endpoint(key);
        }
    }

    pub(super) fn forget_endpoint(&mut self, key: SlabKey) {
        let Some(state) = self.endpoints.remove(key) else { return };
        if state.role == Role::Bind && state.real.is_none() {
            // Whoever still waits for it to be bound.
            state.socket.waiters.wake_all();
        }
        if let Some(open) = state.open {
            let slot = &mut self.drivers[state.driver];
            slot.driver.close_open(open);
            if slot.opens.get_mut(open.index()).and_then(Option::take).is_some() {
                slot.users -= 1;
            }
            let url = state.real.as_ref().unwrap_or(&state.endpoint);
            state.socket.emit(url.as_str(), || EventKind::Closed);
        }
    }

    /// Closes everything a socket has. What is queued still goes out within `linger` (`None`: for ever).
    pub(crate) fn close_socket(
        &mut self,
        socket: &Arc<SocketShared>,
        linger: Option<Duration>,
        now: Instant,
    ) {
        for key in self.endpoints.keys() {
            if self.endpoints.find(key).is_some_and(|state| Arc::ptr_eq(&state.socket, socket)) {
                self.drop_endpoint(key, linger, now);
            }
        }
        for key in self.conduits.keys() {
            if self.conduits.find(key).is_some_and(|conduit| Arc::ptr_eq(&conduit.socket, socket)) {
                self.close_conduit(key, linger, now);
            }
        }
        self.turn(now);
    }
}
