//! Runs over wires that go one way: PUB and SUB in the place of PUSH and PULL, and two pairs of them in the place of REQ and REP.
//! Nobody is held back on such a wire, so a receiver that is too slow misses messages: they are counted, as lost.

use std::time::{Duration, Instant};

use fabriq::{Context, Endpoint, Error, Flow, Message, Socket, SocketType};

use super::latency::closed_loop;
use super::payload::Ring;
use super::report::Latency;
use super::{Control, LINGER, Load, new_socket};
use crate::failure::Failure;
use crate::wire::{Connection, Opening};

/// Which way a message of a ping-pong goes. Both ends hear both, and their own.
const PING: &str = "fabriq bench ping";
const PONG: &str = "fabriq bench pong";

/// From opening to the first message: subscribers have heard of the publisher then, so that nothing it sends is lost.
pub(super) const SETTLE: Duration = Duration::from_millis(200);

/// How often what ends a run is said, and how far apart: a receiver that had no room for one hears another.
pub(super) const SAID: u32 = 8;
pub(super) const SAID_APART: Duration = Duration::from_millis(50);

/// How long an answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_millis(100);

/// Whether a URL's wire goes one way.
pub(super) fn is_one_way(url: &str) -> bool {
    let Ok(endpoint) = Endpoint::parse(url) else { return false };
    let transports = fabriq::transports();
    let transport = transports.iter().find(|known| known.schemes().contains(&endpoint.scheme()));
    transport.is_some_and(|transport| {
        transport.capabilities(&endpoint, Flow::Duplex).is_err()
            && transport.capabilities(&endpoint, Flow::Send).is_ok()
    })
}

/// One end of a ping-pong.
#[derive(Debug)]
pub(super) struct End {
    out: Socket,
    back: Connection,
    says: &'static str,
}

impl End {
    /// The end that asks, or the one that answers.
    pub(super) fn open(
        context: &Context,
        url: &str,
        asks: bool,
        patience: Option<Duration>,
    ) -> Result<Self, Failure> {
        let (says, hears) = if asks { (PING, PONG) } else { (PONG, PING) };
        let socket = context.socket(SocketType::Sub)?;
        socket.subscribe(hears)?;
        let how = Opening { bind: true, quiet: true, verbose: false, timeout: patience };
        let back = Connection::open(context.clone(), socket, url, how)?;
        let out = new_socket(context, SocketType::Pub)?;
        out.connect(url)?;
        Ok(Self { out, back, says })
    }

    fn send(&self, message: impl Into<Message>) -> Result<(), Failure> {
        let mut message = message.into();
        message.push_front(self.says);
        Ok(self.out.send(message)?)
    }

    /// The next message, without its direction.
    fn take(&self) -> Result<Message, Failure> {
        let mut message = self.back.recv()?;
        message.pop_front();
        Ok(message)
    }

    /// Sends everything back until the other end is done. The number of messages.
    pub(super) fn echo(&mut self, patience: Duration) -> Result<u64, Failure> {
        let mut echoed = 0;
        loop {
            let message = self.take()?;
            if self.back.timeout() != Some(patience) {
                self.back.set_timeout(Some(patience))?;
            }
            let control = Control::parse(&message).transpose()?;
            self.send(message)?;
            match control {
                Some(Control::Done) => return Ok(echoed),
                Some(_) => {}
                None => echoed += 1,
            }
        }
    }

    /// Says something until it comes back.
    fn exchange(&self, control: impl Fn() -> Control) -> Result<(), Failure> {
        let patience = self.back.timeout();
        let limit = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            self.send(control().message()?)?;
            match self.back.socket.recv_timeout(ANSWER) {
                Ok(_) => return Ok(()),
                Err(Error::Again) if limit.is_some_and(|limit| Instant::now() >= limit) => {
                    return Err(self.back.timed_out("nobody answered", patience.unwrap_or_default()));
                }
                Err(Error::Again | Error::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the other end is there, and each hears the other.
    pub(super) fn greet(&mut self, patience: Duration) -> Result<(), Failure> {
        self.exchange(|| Control::Hello)?;
        self.back.set_timeout(Some(patience))
    }

    /// Lets the other end end. It may have done so before it is asked again, and then nothing is wrong.
    pub(super) fn dismiss(&mut self) -> Result<(), Failure> {
        self.back.set_timeout(Some(ANSWER))?;
        match self.exchange(|| Control::Done) {
            Err(Failure::TimedOut(_)) => Ok(()),
            done => done,
        }
    }

    /// Closes, and waits until what was said last has been repaired.
    pub(super) fn finish(self) {
        let context = self.back.context.clone();
        drop(self);
        context.wait_until_sent(Some(LINGER));
    }

    /// Measures messages of `size` bytes, in a closed loop.
    pub(super) fn measure(&self, load: &Load, size: usize) -> Result<Latency, Failure> {
        let ring = Ring::new(&self.back.context, size)?;
        let trips = closed_loop(load, &ring, size, |message, verifier| {
            self.send(message)?;
            loop {
                let reply = self.take()?;
                let received = Instant::now();
                // An answer to one of several greetings.
                if Control::parse(&reply).is_none() {
                    verifier.check(reply.body())?;
                    return Ok(received);
                }
            }
        })?;
        Ok(Latency::new(&self.back.url, size, &trips, None))
    }
}
