//! The talk between the program and the processes it starts of itself: tasks out, words and reports back; it
//! measures nothing.
//!
//! Lines of the child begin with `@` (a library may print too): `@url`, `@credits`, `@answers`, `@made`, `@ready`, `@report`,
//! `@error`.
//! The parent answers `go`, and ends the child when it has its report.

use crate::payload::{Streams, Tally};
use crate::usage::Usage;
use crate::{Result, usage};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// What one process does in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// REP, bound.
    Replier,
    /// REQ, connected.
    Requester,
    /// PULL, bound.
    Puller,
    /// PUSH, connected.
    Pusher,
    /// PULL, bound, with many links.
    CrowdPuller,
    /// Many idle PUSH links, then one more that sends.
    CrowdPusher,
    /// PULL, bound, for many PUSH processes.
    FanInPuller,
    /// PUSH, bound, for many PULL processes.
    FanOutPusher,
    /// PULL, connected, one of many.
    FanOutPuller,
    /// PUB, bound.
    Publisher,
    /// Many SUB sockets, connected.
    Subscribers,
    /// PUSH and PULL on two threads of one process.
    Inproc,
    /// Many PULL sockets, bound and waited for at once, and a PUSH that answers, bound as well.
    Waiter,
    /// A PUSH to each of a waiter's PULL sockets, and a PULL for its answers, connected.
    Waker,
    /// No peer at all: burns CPU.
    Busy,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) peer: String,
    pub(crate) role: Role,
    /// What this process binds or connects to; of a waker as many, with spaces between.
    pub(crate) url: String,
    /// The size of a message.
    pub(crate) bytes: usize,
    pub(crate) warm_ms: u64,
    pub(crate) run_ms: u64,
    /// The longest gap between two requests; 0 is back to back.
    pub(crate) gap_max_us: u64,
    pub(crate) seed: u64,
    /// How many links (or SUB sockets, or sockets waited for) there are.
    pub(crate) links: usize,
    /// Where a PUSH process counts, of several that send to one PULL.
    pub(crate) lane: usize,
    /// Where a waker hears answers, and a publisher how far its subscribers are.
    pub(crate) back_url: String,
}

impl Task {
    pub(crate) fn warm(&self) -> Duration {
        Duration::from_millis(self.warm_ms)
    }

    pub(crate) fn run(&self) -> Duration {
        Duration::from_millis(self.run_ms)
    }

    /// For what this process receives.
    pub(crate) fn tally(&self) -> Tally {
        let streams = match self.role {
            Role::FanInPuller => Streams::Lanes(self.links),
            Role::FanOutPuller => Streams::Share,
            _ => Streams::Lanes(1),
        };
        Tally::new(streams, self.bytes, self.warm(), self.run())
    }

    /// How long a sender sends: the receiver's window, and a little for its late start.
    pub(crate) fn send(&self) -> Duration {
        self.warm() + self.run() + Duration::from_millis(30)
    }
}

/// What one process says at the end. Each role fills in what it knows.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Messages sent or received, or round trips made, in all.
    pub(crate) count: u64,
    /// Of the numbers of a share's messages.
    pub(crate) digest: u64,
    pub(crate) rate_per_s: f64,
    pub(crate) usage: Usage,
}

/// The child's side.
#[derive(Debug)]
pub(crate) struct Control {
    orders: BufReader<std::fs::File>,
}

impl Control {
    fn new() -> Result<Self> {
        let orders = std::io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { orders: BufReader::new(orders.into()) })
    }

    pub(crate) fn say(&self, word: &str, rest: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "@{word} {}", rest.replace('\n', " "))?;
        out.flush()?;
        Ok(())
    }

    pub(crate) fn await_order(&mut self, order: &str) -> Result<()> {
        let mut line = String::new();
        self.orders.read_line(&mut line)?;
        if line.trim() == order { Ok(()) } else { Err(format!("told {line:?} instead of {order}").into()) }
    }

    /// True once an order has come; waits for it as long as `limit`.
    pub(crate) fn has_order(&self, limit: Duration) -> bool {
        if !self.orders.buffer().is_empty() {
            return true;
        }
        let mut orders =
            libc::pollfd { fd: self.orders.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, whose descriptor this object owns.
        unsafe { libc::poll(&raw mut orders, 1, limit.as_millis() as i32) > 0 }
    }

    /// Reports and waits for the end, of this process. A role calls it while its sockets are open, for what they have queued leaves
    /// them only while they live.
    pub(crate) fn conclude(&mut self, report: &Report) -> Result<()> {
        self.say("report", &serde_json::to_string(report)?)?;
        self.await_order("(nothing more)")
    }

    pub(crate) fn ready(&mut self) -> Result<()> {
        self.say("ready", "")?;
        self.await_order("go")
    }
}

/// The whole life of a child process.
pub(crate) fn run_task(task: &str) -> ! {
    let outcome = Control::new().and_then(|mut control| {
        let task: Task = serde_json::from_str(task)?;
        usage::die_with_parent(match task.role {
            Role::Busy => 600,
            Role::CrowdPuller | Role::CrowdPusher => 150,
            Role::Waiter | Role::Waker => 60,
            _ => 10 + (task.send().as_secs() as u32) * 4,
        });
        usage::raise_file_limit();
        if task.role == Role::Busy {
            loop {
                std::hint::black_box(());
            }
        }
        let (entries, _) = crate::entries();
        let entry = entries.iter().find(|entry| entry.name == task.peer).ok_or("no such peer")?;
        (entry.run)(&task, &mut control).or_else(|error| control.say("error", &error.to_string()))
    });
    let status = i32::from(outcome.is_err());
    // SAFETY: no pointer is passed. A plain exit would run the destructors of libraries whose threads still run.
    unsafe { libc::_exit(status) }
}

/// The parent's side.
#[derive(Debug)]
pub(crate) struct Actor {
    name: String,
    child: Child,
    orders: ChildStdin,
    words: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn start(task: &Task) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--task")
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no stdin")?;
        let words = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self { name: format!("{} {:?}", task.peer, task.role), child, orders, words })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").map_err(|error| format!("{}: {error}", self.name).into())
    }

    pub(crate) fn expect(&mut self, word: &str) -> Result<String> {
        loop {
            let mut line = String::new();
            if self.words.read_line(&mut line)? == 0 {
                return Err(format!("{} ended before it said {word}", self.name).into());
            }
            let Some((said, rest)) = line.strip_prefix('@').and_then(|line| line.split_once(' ')) else {
                continue;
            };
            if said == "error" {
                return Err(format!("{}: {}", self.name, rest.trim()).into());
            }
            if said == word {
                return Ok(rest.trim().to_owned());
            }
            return Err(format!("{} said {said} instead of {word}", self.name).into());
        }
    }

    pub(crate) fn report(&mut self) -> Result<Report> {
        Ok(serde_json::from_str(&self.expect("report")?)?)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended by itself already; then both calls fail, and that is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
