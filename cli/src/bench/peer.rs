//! The other process of a run on this host: this program, started again. Knows nothing of what it does there.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::failure::Failure;

/// This program as another process; killed when dropped.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    /// Its end tells the peer that we have gone, however we went.
    _alive: Option<ChildStdin>,
}

impl Peer {
    /// Starts `fabriq bench` with arguments, and `--as-peer`.
    pub(super) fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let failed = |error| Failure::Failed(format!("cannot start this program as its own peer: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("bench").args(arguments).arg("--as-peer");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let alive = child.stdin.take();
        Ok(Self { child, _alive: alive })
    }

    /// Where it listens.
    pub(super) fn endpoint(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if let Some(stdout) = self.child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        match line.trim_end() {
            "" => Err(Failure::Failed("the peer process ended before it listened".to_owned())),
            url => Ok(url.to_owned()),
        }
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let status = self.child.wait();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::Failed(format!("the peer process failed: {status}"))),
            Err(error) => Err(Failure::Failed(format!("cannot wait for the peer process: {error}"))),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both do nothing when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
