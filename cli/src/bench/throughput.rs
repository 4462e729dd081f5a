//! Throughput: one side pushes as fast as it can or is told to, the other pulls, verifies and measures.

use std::time::{Duration, Instant};

use fabriq::SocketType;

use super::payload::{Ring, Verifier};
use super::report::Throughput;
use super::window::Window;
use super::{BYTES_PER_LOOK, Control, Load, bound_queues, multicast};
use crate::failure::Failure;
use crate::wire::Connection;

/// Sends a run for each size. The number of messages.
pub(super) fn send(
    connection: &mut Connection,
    load: &Load,
    patience: Duration,
    begin: impl Fn(usize),
) -> Result<u64, Failure> {
    if !connection.watch.wait_ready(connection.timeout()) {
        return Err(connection.timed_out("nobody came to receive", connection.timeout().unwrap_or_default()));
    }
    connection.set_timeout(Some(patience))?;
    let one_way = connection.socket.socket_type() == SocketType::Pub;
    if one_way {
        std::thread::sleep(multicast::SETTLE);
    }
    let mut all = 0;
    for &size in &load.sizes {
        begin(size);
        let ring = Ring::new(&connection.context, size)?;
        bound_queues(connection, size)?;
        let warmup_ns = u64::try_from(load.warmup.as_nanos()).unwrap_or(u64::MAX);
        connection.send(Control::Begin { size, slots: ring.slots(), warmup_ns }.message()?)?;
        let mut stream =
            Stream { connection, ring, size, sent: 0, pace: load.rate.map(|rate| (Instant::now(), rate)) };
        stream.send_until(Instant::now() + load.warmup + load.duration)?;
        let sent = stream.sent;
        say(connection, &Control::End { sent }, one_way)?;
        all += sent;
    }
    say(connection, &Control::Done, one_way)?;
    Ok(all)
}

/// What ends a run or all of them.
fn say(connection: &Connection, control: &Control, one_way: bool) -> Result<(), Failure> {
    connection.send(control.message()?)?;
    for _ in 1..if one_way { multicast::SAID } else { 1 } {
        std::thread::sleep(multicast::SAID_APART);
        connection.send(control.message()?)?;
    }
    Ok(())
}

struct Stream<'a> {
    connection: &'a Connection,
    ring: Ring,
    size: usize,
    sent: u64,
    /// Since when, and how many per second.
    pace: Option<(Instant, f64)>,
}

impl Stream<'_> {
    /// At least one message.
    fn send_until(&mut self, end: Instant) -> Result<(), Failure> {
        let batch = match self.pace {
            None => (BYTES_PER_LOOK / self.size).clamp(1, 64),
            Some(_) => 1,
        };
        loop {
            if let Some((start, rate)) = self.pace {
                sleep_until(start + Duration::from_secs_f64(self.sent as f64 / rate));
            }
            for _ in 0..batch {
                self.connection.send(self.ring.message(self.sent))?;
                self.sent += 1;
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }
}

/// Sleeps as far as sleeping is exact, and spins the rest.
fn sleep_until(time: Instant) {
    let left = time.saturating_duration_since(Instant::now());
    if let Some(long) = left.checked_sub(Duration::from_millis(1)) {
        std::thread::sleep(long);
    }
    while Instant::now() < time {
        std::hint::spin_loop();
    }
}

/// Receives, verifies and measures until the other side is done.
pub(super) fn receive(
    connection: &mut Connection,
    patience: Duration,
    done: impl Fn(&Throughput),
) -> Result<Vec<Throughput>, Failure> {
    let mut rows = Vec::new();
    loop {
        let first = connection.recv()?;
        connection.set_timeout(Some(patience))?;
        match Control::parse(&first).transpose()? {
            Some(Control::Begin { size, slots, warmup_ns }) => {
                // Before anything else: what comes meanwhile has taken this time.
                let window = Window::new(size, Duration::from_nanos(warmup_ns), None);
                bound_queues(connection, size)?;
                let row = receive_run(connection, size, slots, window)?;
                done(&row);
                rows.push(row);
            }
            Some(Control::Done) => return Ok(rows),
            Some(Control::End { .. }) if one_way(connection) => {}
            _ => {
                return Err(Failure::Failed(format!(
                    "{}: this is not the beginning of a run; the other side must be one `fabriq bench throughput \
                     --connect`, started after this one was there",
                    connection.url
                )));
            }
        }
    }
}

/// Whether nothing holds the sender back, so that messages may be missing.
fn one_way(connection: &Connection) -> bool {
    connection.socket.socket_type() == SocketType::Sub
}

/// One size, from its `Begin` to its `End`.
fn receive_run(
    connection: &Connection,
    size: usize,
    slots: u64,
    mut window: Window,
) -> Result<Throughput, Failure> {
    let mut verifier = Verifier::new(size, slots.max(1));
    let one_way = one_way(connection);
    loop {
        let message = connection.recv()?;
        if message.len() == 1 {
            if one_way && message.gap_before() {
                verifier.resume(message.body());
            }
            verifier.check(message.body())?;
            window.arrived(verifier.count);
            continue;
        }
        match Control::parse(&message).transpose()? {
            Some(Control::End { sent }) => {
                let measured = window.close(verifier.count);
                let lost = if one_way { sent.saturating_sub(verifier.count) } else { 0 };
                verifier.finish(sent - lost)?;
                let row = Throughput::new(&connection.url, size, measured.ok_or_else(too_few)?);
                return Ok(if one_way { row.lost(lost) } else { row });
            }
            _ => return Err(Failure::Corrupt("a message of the run is neither data nor its end".to_owned())),
        }
    }
}

/// The failure of a run that was too short.
pub(super) fn too_few() -> Failure {
    Failure::Failed("too few messages came to tell a rate; give more --duration".to_owned())
}
