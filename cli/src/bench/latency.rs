//! Latency: a message goes out and comes back, and half of that is one way. Closed loop on REQ, open loop on DEALER;
//! REP at the other end sends everything back.

use std::time::{Duration, Instant};

use fabriq::{Error, Frame, Message};
use hdrhistogram::Histogram;

use super::payload::{Ring, Verifier};
use super::report::{Latency, LatencyWindow};
use super::{Control, Load, bound_queues};
use crate::failure::Failure;
use crate::wire::Connection;

/// Longest latency that is told apart from longer ones, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

/// Parts of a run that are looked at one by one, for its noise.
const WINDOWS: u32 = 10;

/// How exactly a system call that sleeps can be expected to return; closer to the time, an open loop spins.
const SLEEP_SLACK: Duration = Duration::from_millis(1);

/// Sends everything back until the other side is done. The number of messages.
pub(super) fn echo(connection: &mut Connection, patience: Duration) -> Result<u64, Failure> {
    let mut echoed = 0;
    loop {
        let message = connection.recv()?;
        if connection.timeout() != Some(patience) {
            connection.set_timeout(Some(patience))?;
        }
        let control = Control::parse(&message).transpose()?;
        connection.send(message)?;
        match control {
            Some(Control::Done) => return Ok(echoed),
            Some(_) => {}
            None => echoed += 1,
        }
    }
}

/// Waits until the other side is there.
pub(super) fn greet(connection: &mut Connection, patience: Duration) -> Result<(), Failure> {
    exchange(connection, &Control::Hello)?;
    connection.set_timeout(Some(patience))?;
    Ok(())
}

/// Lets the other side end.
pub(super) fn dismiss(connection: &Connection) -> Result<(), Failure> {
    exchange(connection, &Control::Done)
}

fn exchange(connection: &Connection, control: &Control) -> Result<(), Failure> {
    connection.send(enveloped(connection, control.message()?))?;
    connection.recv().map(drop)
}

/// A DEALER writes the empty part itself that a REQ puts in front.
fn enveloped(connection: &Connection, mut message: Message) -> Message {
    if connection.socket.socket_type() == fabriq::SocketType::Dealer {
        message.push_front(Frame::EMPTY);
    }
    message
}

/// Measures messages of `size` bytes.
pub(super) fn measure(connection: &Connection, load: &Load, size: usize) -> Result<Latency, Failure> {
    let ring = Ring::new(&connection.context, size)?;
    bound_queues(connection, size)?;
    let trips = match load.rate {
        None => closed_loop(load, &ring, size, |message, verifier| {
            connection.send(message)?;
            let reply = connection.recv()?;
            let received = Instant::now();
            verifier.check(reply.body())?;
            Ok(received)
        })?,
        Some(rate) => open_loop(connection, load, rate, &ring, size)?,
    };
    Ok(Latency::new(&connection.url, size, &trips, load.rate))
}

/// What a run of round trips found.
#[derive(Debug)]
pub(super) struct Trips {
    pub(super) one_way_ns: Histogram<u64>,
    /// How long it took.
    pub(super) seconds: f64,
    /// Of equal parts of that time.
    pub(super) windows: Vec<LatencyWindow>,
    /// The part that is not over.
    window_ns: Histogram<u64>,
    window_end: Instant,
    window: Duration,
}

impl Trips {
    /// Of a run that is measured from `begin` for `duration`.
    fn new(begin: Instant, duration: Duration) -> Result<Self, Failure> {
        let one_way_ns = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map_err(|error| Failure::Failed(format!("cannot make a histogram: {error}")))?;
        let window = (duration / WINDOWS).max(Duration::from_nanos(1));
        let window_ns = one_way_ns.clone();
        Ok(Self {
            one_way_ns,
            seconds: 0.0,
            windows: Vec::new(),
            window_ns,
            window_end: begin + window,
            window,
        })
    }

    /// A round trip that was over at `now`.
    fn record(&mut self, round_trip: Duration, now: Instant) {
        let one_way = u64::try_from(round_trip.as_nanos() / 2).unwrap_or(u64::MAX);
        self.one_way_ns.saturating_record(one_way);
        while now >= self.window_end {
            self.end_window();
        }
        self.window_ns.saturating_record(one_way);
    }

    fn end_window(&mut self) {
        if !self.window_ns.is_empty() {
            let quantile = |q| self.window_ns.value_at_quantile(q) as f64 / 1e3;
            self.windows.push(LatencyWindow { p50_us: quantile(0.5), p99_us: quantile(0.99) });
            self.window_ns.reset();
        }
        self.window_end += self.window;
    }

    /// Nothing more comes.
    fn end(&mut self, took: Duration) {
        // What comes after the last full window is too little to be one.
        if self.windows.is_empty() {
            self.end_window();
        }
        self.seconds = took.as_secs_f64();
    }
}

/// Each message after the one before has come back. `trip` makes one round trip, has the reply verified and says when
/// it arrived.
pub(super) fn closed_loop(
    load: &Load,
    ring: &Ring,
    size: usize,
    mut trip: impl FnMut(Frame, &mut Verifier) -> Result<Instant, Failure>,
) -> Result<Trips, Failure> {
    let warm = Instant::now() + load.warmup;
    let (mut trips, mut verifier) = (Trips::new(warm, load.duration)?, Verifier::new(size, ring.slots()));
    let end = warm + load.duration;
    for number in 0.. {
        let message = ring.message(number);
        let sent = Instant::now();
        let received = trip(message, &mut verifier)?;
        if sent >= warm {
            trips.record(received - sent, received);
        }
        // At least one, however short the time.
        if received >= end && !trips.one_way_ns.is_empty() {
            verifier.finish(number + 1)?;
            trips.end(received - warm);
            break;
        }
    }
    Ok(trips)
}

/// Each message at its intended time, from which its latency counts: one that has to wait because earlier ones are
/// late is late itself (otherwise the slow moments would be measured once each, and look rare).
fn open_loop(
    connection: &Connection,
    load: &Load,
    rate: f64,
    ring: &Ring,
    size: usize,
) -> Result<Trips, Failure> {
    let patience = connection.timeout().unwrap_or(super::PATIENCE);
    let start = Instant::now();
    let (mut trips, mut verifier) =
        (Trips::new(start + load.warmup, load.duration)?, Verifier::new(size, ring.slots()));
    let end = start + load.warmup + load.duration;
    // A REP drops replies beyond its high-water mark, so no more than that may be under way.
    let under_way = u64::from(connection.socket.options()?.send_hwm);
    let intended = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
    // The number of the first message that is sent after the warm-up.
    let mut warm = None;
    let mut total = ((load.warmup + load.duration).as_secs_f64() * rate).ceil().max(1.0) as u64;
    let (mut sent, mut received, mut last) = (0, 0, start);
    while received < total {
        let now = Instant::now();
        if warm.is_none() && now >= start + load.warmup {
            warm = Some(sent);
        }
        if sent < total && warm.is_some_and(|warm| sent > warm) && now > end + SLEEP_SLACK {
            // Too slow for that rate: what was not sent by now is not sent at all. The report has the rate reached.
            total = sent;
            continue;
        }
        if sent < total && sent - received < under_way && now >= intended(sent) {
            match connection.socket.try_send(enveloped(connection, ring.message(sent).into())) {
                Ok(()) => sent += 1,
                Err(not_sent) if not_sent.error == Error::Again => {}
                Err(not_sent) => return Err(not_sent.into()),
            }
        }
        let idle_until = if sent < total { intended(sent) } else { now + patience };
        let idle = idle_until.saturating_duration_since(Instant::now());
        let reply = if idle > SLEEP_SLACK && sent == received && sent < total {
            // Nothing under way: sleep, but not into the next message's time.
            std::thread::sleep(idle - SLEEP_SLACK);
            last = Instant::now();
            continue;
        } else {
            connection.socket.try_recv()
        };
        match reply {
            Ok(reply) => {
                last = Instant::now();
                verifier.check(reply.body())?;
                if warm.is_some_and(|warm| received >= warm) {
                    trips.record(last.saturating_duration_since(intended(received)), last);
                }
                received += 1;
            }
            Err(Error::Again) if now.saturating_duration_since(last) > patience => {
                return Err(connection.timed_out("no reply came", patience));
            }
            Err(Error::Again) => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    verifier.finish(sent)?;
    trips.end((last - start).saturating_sub(load.warmup));
    Ok(trips)
}
