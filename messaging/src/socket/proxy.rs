//! A proxy: carries messages between two sockets, both ways. Knows no pattern, and looks into no message but those of
//! its control socket.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use transport_core::Deferral;

use super::Socket;
use super::future::Turns;
use crate::engine::{Target, Wait};
use crate::error::Error;
use crate::limits::{PROXY_BURST, PROXY_BURST_BYTES, PROXY_BURSTS};
use crate::message::Message;
use crate::pattern::NotSent;
use crate::socket_type::SocketType;

/// What one socket of a proxy has received and sent. A message of several parts counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyTraffic {
    /// Messages taken from its peers.
    pub messages_received: u64,
    /// Their bytes, without framing.
    pub bytes_received: u64,
    /// Messages given to it. (Some sockets drop what nobody wants or has room for: PUB, XPUB, ROUTER.)
    pub messages_sent: u64,
    /// Their bytes, without framing.
    pub bytes_sent: u64,
}

/// What a proxy has carried so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyStatistics {
    /// The socket given first.
    pub frontend: ProxyTraffic,
    /// The socket given second.
    pub backend: ProxyTraffic,
}

/// Carries messages between two sockets of one context: whole messages, without copying them, in bursts.
///
/// ROUTER and DEALER make a queue between clients and workers, XSUB and XPUB a forwarder between publishers and
/// subscribers, PULL and PUSH a streamer; each over the transports that its sockets have bound and connected. Nothing is
/// taken from one side while the other has no room, so that high-water marks push back through the proxy. What the other
/// side can never send (a ROUTER that gets no routing id, or with `router_mandatory` one that it does not know) is dropped:
/// it counts as received, and not as sent.
///
/// ```
/// use fabriq_messaging as fabriq;
/// # fn serve(context: &fabriq::Context) -> Result<(), fabriq::Error> {
/// let clients = context.socket(fabriq::SocketType::Router)?;
/// let workers = context.socket(fabriq::SocketType::Dealer)?;
/// clients.bind("tcp://*:5555")?;
/// workers.bind("inproc://workers")?;
/// let control = context.socket(fabriq::SocketType::Pair)?;
/// control.bind("inproc://control")?;
/// fabriq::Proxy::new(&clients, &workers).with_control(&control).run()
/// # }
/// ```
pub struct Proxy<'a> {
    frontend: &'a Socket,
    backend: &'a Socket,
    capture: Option<&'a Socket>,
    control: Option<&'a Socket>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    statistics: ProxyStatistics,
    /// What was taken and could not be given: to the backend, to the frontend.
    held: [Option<Held>; 2],
}

/// A message between the two sides.
#[derive(Debug)]
struct Held {
    message: Message,
    bytes: u64,
    captured: bool,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Terminated,
}

impl<'a> Proxy<'a> {
    /// A proxy between two sockets, which must belong to one context. They may be one and the same: then what it receives
    /// goes back (a REP that echoes).
    pub fn new(frontend: &'a Socket, backend: &'a Socket) -> Self {
        Self { frontend, backend, capture: None, control: None, state: Mutex::default() }
    }

    /// Every message is also sent to `capture`: a PUB, XPUB, PUSH, DEALER or PAIR. The proxy waits for its room, too.
    #[must_use]
    pub fn with_capture(mut self, capture: &'a Socket) -> Self {
        self.capture = Some(capture);
        self
    }

    /// The proxy obeys what arrives at `control`, as libzmq's zmq_proxy_steerable(3) does: `PAUSE` stops the flow, `RESUME`
    /// lets it go on, `TERMINATE` ends the proxy, and `STATISTICS` is answered with eight parts, each a 64-bit unsigned
    /// number in the byte order of the host: of the frontend messages and bytes received, messages and bytes sent, then
    /// the same of the backend. A REP answers every command, with an empty message if there is nothing to say. Other
    /// commands change nothing. An answer that the control socket has no room for is dropped.
    #[must_use]
    pub fn with_control(mut self, control: &'a Socket) -> Self {
        self.control = Some(control);
        self
    }

    /// Carries messages until it is terminated. May be called again after an error, and goes on where it was.
    ///
    /// # Errors
    /// [`Error::Terminated`] when the context ends, which is how most proxies end; [`Error::Interrupted`] by a signal;
    /// [`Error::Invalid`] if the sockets belong to several contexts, or the capture socket cannot take everything;
    /// [`Error::Forked`].
    pub fn run(&self) -> Result<(), Error> {
        self.check()?;
        let targets: Vec<&dyn Target> = self.sockets().map(|socket| &*socket.shared as &dyn Target).collect();
        let wait = Wait { targets: &targets, deadline: None, fds: &[] };
        let shard = &self.frontend.context.shard;
        loop {
            if shard.wait(&wait, || self.step().transpose())?? == Step::Terminated {
                return Ok(());
            }
        }
    }

    /// The same for async code. Dropping the future loses nothing, and another `run` goes on.
    pub fn run_async(&self) -> ProxyRun<'_, 'a> {
        ProxyRun { proxy: self, turns: Turns::default(), checked: false }
    }

    /// What has been carried so far. From any thread, also while the proxy runs; may wait for the end of a burst.
    pub fn statistics(&self) -> ProxyStatistics {
        self.lock().statistics
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> impl Iterator<Item = &'a Socket> {
        [Some(self.frontend), Some(self.backend), self.capture, self.control].into_iter().flatten()
    }

    /// Their shared parts in an array, where the first may stand several times.
    fn targets(&self) -> [&'a dyn Target; 4] {
        let first = self.frontend;
        [Some(first), Some(self.backend), self.capture, self.control]
            .map(|socket| &*socket.unwrap_or(first).shared as &dyn Target)
    }

    fn check(&self) -> Result<(), Error> {
        let shard = &self.frontend.context.shard;
        if self.sockets().any(|socket| !Arc::ptr_eq(&socket.context.shard, shard)) {
            return Err(Error::Invalid("all sockets of a proxy belong to one context"));
        }
        use SocketType::{Dealer, Pair, Pub, Push, Xpub};
        match self.capture.map(Socket::socket_type) {
            None | Some(Pub | Xpub | Push | Dealer | Pair) => Ok(()),
            Some(_) => {
                Err(Error::Invalid("the capture socket of a proxy is a PUB, XPUB, PUSH, DEALER or PAIR"))
            }
        }
    }

    /// Does what can be done without waiting: the next command, and a burst each way. `None`: nothing.
    fn step(&self) -> Result<Option<Step>, Error> {
        // What is dropped on the way may call the application's free functions; not under the lock.
        let _deferral = Deferral::begin();
        let mut state = self.lock();
        self.sockets().try_for_each(Socket::check)?;
        let obeyed = self.control.and_then(|control| state.obey(control));
        if obeyed == Some(Step::Terminated) {
            return Ok(obeyed);
        }
        let mut moved = obeyed.is_some();
        if !state.paused {
            moved |= self.carry(&mut state, Way::ToBackend)?;
            if !self.is_echo() {
                moved |= self.carry(&mut state, Way::ToFrontend)?;
            }
        }
        Ok(moved.then_some(Step::Moved))
    }

    fn is_echo(&self) -> bool {
        std::ptr::eq(self.frontend, self.backend)
    }

    /// A burst one way. Whether anything moved.
    fn carry(&self, state: &mut State, way: Way) -> Result<bool, Error> {
        let (from, to) = match way {
            Way::ToBackend => (self.frontend, self.backend),
            Way::ToFrontend => (self.backend, self.frontend),
        };
        let State { held, statistics, .. } = state;
        let [frontend, backend] = [&mut statistics.frontend, &mut statistics.backend];
        let (received, sent) = match way {
            Way::ToBackend => (frontend, backend),
            Way::ToFrontend => (backend, frontend),
        };
        let held = &mut held[way as usize];
        let (mut moved, before) = (false, received.bytes_received);
        for _ in 0..PROXY_BURST {
            if held.is_none() {
                if received.bytes_received - before >= PROXY_BURST_BYTES || !self.has_room(to) {
                    break;
                }
                let mut message = Message::EMPTY;
                match from.recv_once(&mut message) {
                    Ok(true) => {}
                    // What never receives, or not now, has nothing.
                    Ok(false) | Err(Error::OutOfTurn | Error::NotSupported(..)) => break,
                    Err(error) => return Err(error),
                }
                let bytes = message.parts().map(|part| part.len() as u64).sum();
                received.messages_received += 1;
                received.bytes_received += bytes;
                *held = Some(Held { message, bytes, captured: self.capture.is_none() });
                moved = true;
            }
            if !self.give(held, to, sent)? {
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Whether a message may be taken for `to`.
    fn has_room(&self, to: &Socket) -> bool {
        // With one socket for both sides, receiving is what makes it writable (REP).
        (self.is_echo() || to.is_writable()) && self.capture.is_none_or(Socket::is_writable)
    }

    /// Gives on what is held. `false`: there was no room after all.
    fn give(&self, held: &mut Option<Held>, to: &Socket, sent: &mut ProxyTraffic) -> Result<bool, Error> {
        let Some(Held { message, bytes, captured }) = held else { return Ok(true) };
        if let Some(capture) = self.capture.filter(|_| !*captured) {
            if capture.send_once(&mut message.clone()) == Err(NotSent::Again) {
                return capture.check().map(|()| false);
            }
            *captured = true;
        }
        match to.send_once(message) {
            Ok(()) => {
                sent.messages_sent += 1;
                sent.bytes_sent += *bytes;
            }
            Err(NotSent::Again | NotSent::State) => return to.check().map(|()| false),
            // A peer may ask for that at any time, and is not to end the proxy by it.
            Err(
                NotSent::Unroutable
                | NotSent::NoRoutingId
                | NotSent::NoGroup
                | NotSent::Parts
                | NotSent::Topic,
            ) => {}
            Err(why @ NotSent::NotSupported) => return Err(to.reason(why)),
        }
        *held = None;
        Ok(true)
    }
}

/// Where a message goes; the place of what is held.
#[derive(Debug, Clone, Copy)]
enum Way {
    ToBackend = 0,
    ToFrontend = 1,
}

impl State {
    /// Obeys the next command, if there is one.
    fn obey(&mut self, control: &Socket) -> Option<Step> {
        let mut command = Message::EMPTY;
        // A control socket that is out of turn has nothing, and its end is found by `check`.
        if !matches!(control.recv_once(&mut command), Ok(true)) {
            return None;
        }
        let (mut done, mut answer) = (Step::Moved, Message::EMPTY);
        match &command.body()[..] {
            _ if command.len() > 1 => answer = Message::new("a command has one part"),
            b"PAUSE" => self.paused = true,
            b"RESUME" => self.paused = false,
            b"TERMINATE" => done = Step::Terminated,
            b"STATISTICS" => {
                let numbers = self.statistics.numbers().map(|number| number.to_ne_bytes());
                answer = Message::from_parts(numbers.iter().map(|number| &number[..])).unwrap_or(answer);
            }
            _ => answer = Message::new("unknown command; there are PAUSE, RESUME, TERMINATE and STATISTICS"),
        }
        // Only a REP must answer before it hears the next command.
        if answer.len() > 1 || control.socket_type() == SocketType::Rep {
            let _ = control.send_once(&mut answer);
        }
        Some(done)
    }
}

impl ProxyStatistics {
    /// In the order of a STATISTICS answer.
    fn numbers(&self) -> [u64; 8] {
        let of = |side: &ProxyTraffic| {
            [side.messages_received, side.bytes_received, side.messages_sent, side.bytes_sent]
        };
        let ([a, b, c, d], [e, f, g, h]) = (of(&self.frontend), of(&self.backend));
        [a, b, c, d, e, f, g, h]
    }
}

/// Runs a proxy; see [`Proxy::run_async`].
#[must_use = "futures do nothing unless polled"]
pub struct ProxyRun<'p, 'a> {
    proxy: &'p Proxy<'a>,
    turns: Turns,
    checked: bool,
}

impl Future for ProxyRun<'_, '_> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let proxy = this.proxy;
        if !std::mem::replace(&mut this.checked, true) {
            proxy.check()?;
        }
        let (context, targets) = (&proxy.frontend.context, proxy.targets());
        for _ in 0..PROXY_BURSTS {
            match this.turns.poll(context, &targets, cx, || proxy.step().transpose()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Step::Moved)) => {}
                Poll::Ready(Ok(Step::Terminated)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for ProxyRun<'_, '_> {
    fn drop(&mut self) {
        self.turns.leave(&self.proxy.frontend.context, &self.proxy.targets());
    }
}

impl fmt::Debug for ProxyRun<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyRun({:?})", self.proxy)
    }
}

impl fmt::Debug for Proxy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("frontend", self.frontend)
            .field("backend", self.backend)
            .field("capture", &self.capture)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// Carries messages between two sockets until their context ends. [`Proxy`] has the rules, statistics, and a control socket.
///
/// # Errors
/// As [`Proxy::run`]; without a control socket there is no other end.
pub fn proxy(frontend: &Socket, backend: &Socket, capture: Option<&Socket>) -> Result<(), Error> {
    Proxy { capture, ..Proxy::new(frontend, backend) }.run()
}

/// The same for async code.
///
/// # Errors
/// As [`Proxy::run`]; without a control socket there is no other end.
pub async fn proxy_async(frontend: &Socket, backend: &Socket, capture: Option<&Socket>) -> Result<(), Error> {
    let proxy = Proxy { capture, ..Proxy::new(frontend, backend) };
    proxy.run_async().await
}
