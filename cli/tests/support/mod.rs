//! Runs the fabriq program for tests. Knows no subcommand.
// Each test program uses its own part of this.
#![allow(dead_code)]

pub(crate) mod browser;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// A file of the tests' own.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The program with arguments, nothing on standard input.
pub(crate) fn fabriq(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fabriq"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Finished {
    Finished::from(fabriq(arguments).output().unwrap())
}

/// Runs it to its end with `input` on standard input.
pub(crate) fn run_with_input(arguments: &[&str], input: &[u8]) -> Finished {
    let mut running = Running::start_with_input(arguments);
    running.write(input);
    running.finish()
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }
}

impl Finished {
    /// What it printed, when it went well.
    #[track_caller]
    pub(crate) fn printed(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        String::from_utf8(self.stdout).unwrap()
    }

    /// What it said on stderr, when it ended with `code`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, b"", "{self:?}");
        self.stderr
    }
}

/// A program that runs; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stderr: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(fabriq(arguments))
    }

    pub(crate) fn start_with_input(arguments: &[&str]) -> Self {
        let mut command = fabriq(arguments);
        command.stdin(Stdio::piped());
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    /// Starts it and waits until it listens; the real endpoint.
    pub(crate) fn bound(arguments: &[&str]) -> (Self, String) {
        let mut running = Self::start(arguments);
        let endpoint = running.endpoint();
        (running, endpoint)
    }

    pub(crate) fn endpoint(&mut self) -> String {
        let line = self.line_with("bound ");
        line.split("bound ").nth(1).unwrap().trim_end().to_owned()
    }

    /// Reads stderr up to a line that contains `text`.
    #[track_caller]
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "no `{text}` on stderr:\n{all}");
            if line.contains(text) {
                return line;
            }
            all += &line;
        }
    }

    /// Writes to standard input and closes it.
    pub(crate) fn write(&mut self, input: &[u8]) {
        self.child.stdin.take().unwrap().write_all(input).unwrap();
    }

    /// Reads to its end.
    pub(crate) fn finish(mut self) -> Finished {
        let mut stdout = Vec::new();
        let (out, err) = (self.child.stdout.take(), &mut self.stderr);
        let mut stderr = String::new();
        std::thread::scope(|scope| {
            scope.spawn(|| out.map(|mut out| out.read_to_end(&mut stdout).unwrap()));
            err.read_to_string(&mut stderr).unwrap();
        });
        Finished { code: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
