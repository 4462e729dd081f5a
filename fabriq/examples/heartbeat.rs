//! A busy peer is not a dead one: while a worker computes and calls nothing, its background thread answers heartbeats; a
//! process that is stopped or cut off answers none, and is found out though its connection still stands.

use std::process::Command;
use std::time::{Duration, Instant};

use fabriq::{Error, EventKind, Monitor, SocketType};
use rustix::process::{Pid, Signal, kill_process};

/// How often to ask, and how long to wait for an answer.
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(url) = std::env::args().nth(1) {
        return Ok(work(&url)?);
    }
    let context = fabriq::context()?;
    let socket = context.socket(SocketType::Req)?;
    socket.set_options(|options| {
        options.heartbeat_interval = INTERVAL;
        options.heartbeat_timeout = PATIENCE;
        options.linger = Some(Duration::ZERO);
    })?;
    let events = socket.monitor()?;
    let endpoint = socket.bind("tcp://127.0.0.1:*")?;
    let mut worker = Command::new(std::env::current_exe()?).arg(endpoint.as_str()).spawn()?;

    socket.send("compute")?;
    println!("the worker {}", String::from_utf8_lossy(socket.recv()?.body()));
    println!("lost meanwhile: {}", is_lost(&events, Duration::ZERO));

    kill_process(Pid::from_child(&worker), Signal::STOP)?; // as a host that hangs
    println!("lost when it is stopped: {}", is_lost(&events, Duration::from_secs(20)));
    worker.kill()?;
    worker.wait()?;
    Ok(())
}

fn is_lost(events: &Monitor, wait: Duration) -> bool {
    std::iter::from_fn(|| events.next_timeout(wait))
        .any(|event| matches!(event.kind, EventKind::Disconnected(..)))
}

fn work(url: &str) -> Result<(), Error> {
    let context = fabriq::context()?;
    let socket = context.socket(SocketType::Rep)?;
    socket.connect(url)?;
    socket.recv()?;
    // Three times the patience, without a call to the library.
    let until = Instant::now() + 3 * PATIENCE;
    while Instant::now() < until {
        std::hint::black_box(42u64.pow(3));
    }
    socket.send("was busy")?;
    socket.recv().map(drop)
}
