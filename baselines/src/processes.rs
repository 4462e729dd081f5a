//! Runs the two ends of somebody else's measuring tool as processes, and gives what the one that measures prints. Measures
//! nothing, and knows no tool.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::limits::{TOOL, TOOL_LOOK};
use crate::{Error, Result};

/// Why a tool cannot be run here, if it cannot: asks it for what it prints at once.
pub(crate) fn missing(tool: &str, question: &str, package: &str) -> Option<String> {
    let mut asked = Command::new(tool);
    let found = asked.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.err().map(|error| format!("{tool}: {error} (apt-get install {package})"))
}

/// Starts the end that listens, and waits until it does: at a TCP port of this host. It ends with what this returns. `prepare` may
/// add to its command.
pub(crate) fn serve(
    tool: &'static str,
    mut command: Command,
    port: u16,
    prepare: impl Fn(&mut Command),
) -> Result<Ended> {
    prepare(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let mut server = Ended(command.spawn()?);
    let listening = format!(":{port:04X}");
    let begun = Instant::now();
    loop {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let mut lines = tables.iter().flat_map(|table| table.lines());
        if lines.any(|line| {
            let mut cells = line.split_whitespace().skip(1);
            cells.next().is_some_and(|local| local.ends_with(&listening)) && cells.nth(1) == Some("0A")
        }) {
            return Ok(server);
        }
        if let Some(status) = server.0.try_wait()? {
            return Err(Error::Tool { tool, why: format!("its server ended: {status}") });
        }
        crate::go_on()?;
        if begun.elapsed() > TOOL {
            return Err(Error::Tool { tool, why: "its server does not listen".to_owned() });
        }
        std::thread::sleep(TOOL_LOOK);
    }
}

/// Runs the end that measures, and hands what it prints to `parse`. `prepare` may add to its command.
pub(crate) fn ask<T>(
    tool: &'static str,
    mut command: Command,
    prepare: impl Fn(&mut Command),
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    prepare(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut client = Ended(command.spawn()?);
    let begun = Instant::now();
    // What it prints is shorter than a pipe.
    while client.0.try_wait()?.is_none() {
        crate::go_on()?;
        if begun.elapsed() > TOOL {
            let why = format!("it did not end within {} s", TOOL.as_secs());
            return Err(Error::Tool { tool, why });
        }
        std::thread::sleep(TOOL_LOOK);
    }
    let mut printed = String::new();
    if let Some(mut stdout) = client.0.stdout.take() {
        stdout.read_to_string(&mut printed)?;
    }
    parse(&printed).ok_or_else(|| {
        let mut said = String::new();
        if let Some(mut stderr) = client.0.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        Error::Tool { tool, why: format!("no figures; {}", line.trim()) }
    })
}

/// Ends a process when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself already; then both calls fail, and that is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
