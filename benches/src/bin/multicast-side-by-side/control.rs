//! The talk between the program and the ends it starts on hosts: lines on their standard input and output. It measures
//! nothing.
//!
//! An end says `ready` (a publisher when it has greeted, a subscriber when it has heard that), `report JSON` or `error WORDS`; a library's own output is none of these. It is told `go`, and to end
//! by the end of its input, or by its own end if it has said its report.

use crate::Result;
use crate::load::Load;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// An order came.
pub(crate) const GO: &str = "go";

/// The end's side: lines of standard input, by a thread, for those who cannot wait for them.
#[derive(Debug)]
pub(crate) struct Orders(Receiver<String>);

impl Orders {
    pub(crate) fn listen() -> Self {
        let (sender, orders) = channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(orders)
    }

    /// Whether a line, or the end of the input, comes within `limit`.
    pub(crate) fn come(&self, limit: Duration) -> bool {
        !matches!(self.0.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
    }

    /// Whether a line is there.
    pub(crate) fn has_line(&self) -> bool {
        self.0.try_recv().is_ok()
    }

    pub(crate) fn await_end(&self) {
        while self.0.recv().is_ok() {}
    }
}

pub(crate) fn say(words: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{words}")?;
    Ok(out.flush()?)
}

pub(crate) fn report(report: &impl Serialize) -> Result<()> {
    say(&format!("report {}", serde_json::to_string(report)?))
}

/// The end of an end: without the destructors of libraries whose threads still run.
pub(crate) fn end_with(outcome: Result<()>) -> Result<()> {
    let code = i32::from(outcome.is_err());
    if let Err(error) = outcome {
        say(&format!("error {}", error.to_string().replace('\n', " ")))?;
    }
    // SAFETY: no pointer is passed.
    unsafe { libc::_exit(code) }
}

/// The parent's side: an end on a host.
#[derive(Debug)]
pub(crate) struct Actor {
    name: String,
    child: Child,
    orders: ChildStdin,
    words: Receiver<String>,
}

impl Actor {
    /// Starts a role on a host of ci/netns.
    pub(crate) fn start(host: &str, role: &str, load: &Load) -> Result<Self> {
        let mut child = Command::new("on")
            .arg(host)
            .arg(std::env::current_exe()?)
            .arg(role)
            .args(load.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("on: {error}: this runs inside ci/netns"))?;
        let orders = child.stdin.take().ok_or("no stdin")?;
        let out = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let (sender, words) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: format!("{} on {host}", load.peer), child, orders, words })
    }

    pub(crate) fn go(&mut self) -> Result<()> {
        writeln!(self.orders, "{GO}").map_err(|error| format!("{}: {error}", self.name).into())
    }

    /// What follows `word`, which is to come within `limit`.
    fn expect(&self, word: &str, limit: Duration) -> Result<String> {
        loop {
            let line = self.words.recv_timeout(limit).map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("{}: no {word} within {} s", self.name, limit.as_secs()),
                RecvTimeoutError::Disconnected => format!("{} died before it said {word}", self.name),
            })?;
            let (said, rest) = line.split_once(' ').unwrap_or((&line, ""));
            if said == "error" {
                return Err(format!("{}: {rest}", self.name).into());
            }
            if said == word {
                return Ok(rest.to_owned());
            }
        }
    }

    pub(crate) fn await_ready(&self, limit: Duration) -> Result<()> {
        self.expect("ready", limit).map(|_| ())
    }

    pub(crate) fn report<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        Ok(serde_json::from_str(&self.expect("report", limit)?)?)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended by itself already; then both calls fail, and that is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
