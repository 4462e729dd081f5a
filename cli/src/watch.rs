//! Watches a socket's events: tells the user what it waits for and why a peer is refused, and the program when a peer
//! is there. Changes nothing.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fabriq::{DownReason, Error, EventKind, Monitor, Socket, SocketType, Violation};

use crate::failure::note;

/// How long a program may wait in silence before it says for what.
const SILENCE: Duration = Duration::from_secs(2);

/// Which peers there are and have been.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<(Mutex<Peers>, Condvar)>);

#[derive(Debug, Default)]
struct Peers {
    /// Whether one was ever there.
    met: bool,
    now: u32,
    /// Why the last dial or handshake came to nothing.
    failure: Option<String>,
}

impl Watch {
    /// Watches `socket` from now on, until it closes. With `waiting`, says that after a while without a peer.
    pub(crate) fn start(socket: &Socket, waiting: Option<String>, verbose: bool) -> Result<Self, Error> {
        let (watch, monitor) = (Self::default(), socket.monitor()?);
        let (kind, shared) = (socket.socket_type(), watch.clone());
        let watching = move || shared.run(&monitor, kind, waiting.as_deref(), verbose);
        // Without the thread there is no news, but messages still flow.
        if std::thread::Builder::new().name("watch".to_owned()).spawn(watching).is_err() {
            note("cannot start a thread that watches the connection; going on without");
            watch.changed(|peers| *peers = Peers { met: true, now: 1, failure: None });
        }
        Ok(watch)
    }

    /// Waits for the first peer whose handshake is over; `None` waits for ever. `false` if none came.
    pub(crate) fn wait_ready(&self, timeout: Option<Duration>) -> bool {
        let (peers, changed) = (self.lock(), &self.0.1);
        match timeout {
            None => changed.wait_while(peers, |peers| !peers.met).unwrap_or_else(PoisonError::into_inner).met,
            Some(timeout) => {
                let waited = changed.wait_timeout_while(peers, timeout, |peers| !peers.met);
                waited.unwrap_or_else(PoisonError::into_inner).0.met
            }
        }
    }

    /// For the text of a time-out: what became of the peers, and what to do.
    pub(crate) fn peers(&self) -> String {
        match &*self.lock() {
            Peers { met: false, failure: Some(why), .. } => format!("no peer was ready: {why}"),
            Peers { met: false, .. } => "no peer was there; check the URL, and that one runs".to_owned(),
            Peers { now: 0, .. } => "the peer has gone; see why it ended, or start it again".to_owned(),
            _ => "a peer is there; allow more time, or look at what it does".to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, change: impl FnOnce(&mut Peers)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn run(&self, monitor: &Monitor, kind: SocketType, mut waiting: Option<&str>, verbose: bool) {
        let say_at = Instant::now() + SILENCE;
        let mut said = HashSet::new();
        loop {
            let timeout = match waiting {
                Some(_) => say_at.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            let Some(event) = monitor.next_timeout(timeout) else {
                if let Some(text) = waiting.take_if(|_| Instant::now() >= say_at) {
                    match &self.lock().failure {
                        Some(why) => note(&format!("{text} ({why})")),
                        None => note(text),
                    }
                }
                continue;
            };
            if verbose && event.kind != EventKind::Stopped {
                note(&format!("{}: {:?}", event.endpoint, event.kind));
            }
            match event.kind {
                EventKind::HandshakeSucceeded => {
                    waiting = None;
                    self.changed(|peers| *peers = Peers { met: true, now: peers.now + 1, failure: None });
                }
                EventKind::Disconnected(..) => self.changed(|peers| peers.now = peers.now.saturating_sub(1)),
                EventKind::ConnectFailed(error) => {
                    self.changed(|peers| peers.failure = Some(error.to_string()))
                }
                EventKind::HandshakeFailed(reason) if said.insert(reason.to_string()) => {
                    let why = format!("one was refused: {reason}{}", remedy(kind, reason));
                    self.changed(|peers| peers.failure = Some(why));
                    note(&format!(
                        "{}: a peer was refused: {reason}{}; still trying",
                        event.endpoint,
                        remedy(kind, reason)
                    ));
                }
                EventKind::Stopped => return,
                _ => {}
            }
        }
    }
}

/// What to do about a refused peer; begins with a semicolon, or is empty.
pub(crate) fn remedy(kind: SocketType, reason: DownReason) -> String {
    match reason {
        DownReason::Violation(Violation::IncompatibleSocket) => {
            let takes = SocketType::ALL.into_iter().filter(|&peer| kind.goes_with(peer));
            let takes = takes.map(SocketType::name).collect::<Vec<_>>().join(" or ");
            let program = match kind {
                SocketType::Push => " (`fabriq recv`)",
                SocketType::Pull => " (`fabriq send`)",
                SocketType::Req => " (`fabriq rep`)",
                SocketType::Rep => " (`fabriq req`)",
                SocketType::Pub => " (`fabriq sub`)",
                SocketType::Sub => " (`fabriq pub`)",
                _ => "",
            };
            format!("; this end is a {kind} socket, which needs {takes}{program} at the other")
        }
        DownReason::Violation(Violation::BadGreeting) => {
            "; whoever has that port speaks another protocol: check the port".to_owned()
        }
        DownReason::Violation(Violation::MechanismMismatch) => {
            "; it wants PLAIN or CURVE security, and this program has none".to_owned()
        }
        _ => String::new(),
    }
}
