//! An Ethernet switch in user space, over TAP devices, whose ports misbehave by a seed: it loses (also in bursts), delays,
//! reorders, duplicates and corrupts. For tests of multicast on a kernel without netem; `ci/netns --switch` runs it. It is
//! no simulation: the packets are the kernel's, in real time, so a seed fixes what happens to the n-th frame of a port and
//! not when that frame comes.

mod faults;
mod limits;
mod switch;
mod tap;

use crate::faults::Faults;
use crate::switch::{Port, Switch};
use crate::tap::Tap;
use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An Ethernet switch over TAP devices that loses, delays, reorders, duplicates and corrupts, by a seed.
///
/// Makes a TAP device for each PORT, says "ready", and forwards between them until its standard input ends; then it prints
/// what it did, port by port. Frames to a group, and to stations that it has not heard of, go to all ports. Only UDP and
/// protocol 113 (PGM) suffer loss, reordering, duplication and corruption; delay and rate are everything's. What is asked
/// for happens at each port by itself, to what leaves the switch there.
#[derive(Debug, Parser)]
#[command(name = "tap-switch")]
struct Arguments {
    /// The names of the devices to make.
    #[arg(required = true)]
    ports: Vec<String>,
    /// The ports that misbehave, if not all do. Repeatable.
    #[arg(long = "at", value_name = "PORT")]
    at: Vec<String>,
    #[command(flatten)]
    faults: Faults,
    /// Of all chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tap-switch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let wrong = |message| io::Error::new(io::ErrorKind::InvalidInput, message);
    arguments.faults.check().map_err(wrong)?;
    if let Some(name) = arguments.at.iter().find(|name| !arguments.ports.contains(name)) {
        return Err(wrong(format!(
            "--at {name}: there is no such port; there are {}",
            arguments.ports.join(" ")
        )));
    }
    let taps = arguments.ports.iter().map(|name| Tap::create(name)).collect::<io::Result<Vec<_>>>()?;
    let ports = arguments.ports.iter().zip(1..).map(|(name, number)| {
        let suffers = arguments.at.is_empty() || arguments.at.contains(name);
        let faults = if suffers { arguments.faults.clone() } else { Faults::default() };
        Port::new(faults, arguments.seed.wrapping_mul(limits::PORTS_MAX).wrapping_add(number))
    });
    let mut switch = Switch::new(ports.collect());
    println!("ready");
    io::stdout().flush()?;
    forward(&taps, &mut switch)?;
    println!("switch: seed {}", arguments.seed);
    for (name, port) in arguments.ports.iter().zip(switch.ports()) {
        println!("switch: {name}: {}", port.counts());
    }
    Ok(())
}

/// Moves frames until standard input ends.
fn forward(taps: &[Tap], switch: &mut Switch) -> io::Result<()> {
    let began = Instant::now();
    let stdin = io::stdin();
    let mut frame = vec![0; limits::FRAME_MAX];
    loop {
        let now = began.elapsed();
        while let Some((port, frame)) = switch.take_due(now) {
            let sent = taps[port].send(&frame);
            switch.sent(port, sent);
        }
        let mut polled: Vec<PollFd<'_>> = vec![PollFd::new(&stdin, PollFlags::IN)];
        polled.extend(taps.iter().map(|tap| PollFd::new(tap, PollFlags::IN)));
        let wait = switch.next_due().map(|due| timespec(due.saturating_sub(began.elapsed())));
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !polled[0].revents().is_empty() && io::Read::read(&mut stdin.lock(), &mut [0; 64])? == 0 {
            return Ok(());
        }
        let readable = polled[1..].iter().map(|polled| !polled.revents().is_empty());
        for (port, _) in
            readable.collect::<Vec<_>>().into_iter().enumerate().filter(|(_, readable)| *readable)
        {
            for _ in 0..limits::BATCH_FRAMES {
                let Some(bytes) = taps[port].receive(&mut frame)? else { break };
                switch.forward(began.elapsed(), port, &frame[..bytes]);
            }
        }
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos() as _ }
}
