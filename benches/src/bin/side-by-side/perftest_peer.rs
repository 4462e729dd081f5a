//! perftest's tools (ib_send_lat, ib_send_bw, ib_read_bw) as a peer: the field's own raw figures beside ours, by
//! `baselines::perftest`. The end that reports runs both processes; the other end does nothing.

use crate::control::{Control, Report, Role, Task};
use crate::{Result, payload};
use baselines::perftest::{Measure, Tool};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

const TRIPS: u32 = 1000;
const MESSAGES: u32 = 16384;
/// Bytes that a run of READs moves.
const READ: usize = 32 << 20;

/// Why the tools cannot be run here, if they cannot.
pub(crate) fn missing() -> Option<String> {
    Tool::SendLat.missing()
}

pub(crate) fn run<const EVENTS: bool>(task: &Task, control: &mut Control) -> Result<()> {
    let bound = task.url.strip_prefix("verbs://").ok_or("no verbs:// URL")?;
    let mut address: SocketAddr = bound.parse()?;
    if address.port() == 0 {
        // Of no use but to tell the parent something: the tools meet at a port of their own.
        address.set_port(TcpListener::bind((address.ip(), 0))?.local_addr()?.port());
        control.say("url", &format!("verbs://{address}"))?;
    }
    control.ready()?;
    let report = match task.role {
        Role::Requester | Role::Puller => measure(task, address, EVENTS)?,
        _ => Report::default(),
    };
    control.conclude(&report)
}

fn measure(task: &Task, address: SocketAddr, asleep: bool) -> Result<Report> {
    let (tool, count) = match (task.role == Role::Requester, payload::is_large(task.bytes)) {
        (true, _) => (Tool::SendLat, TRIPS),
        (false, false) => (Tool::SendBw, MESSAGES),
        (false, true) => (Tool::ReadBw, (READ / task.bytes) as u32),
    };
    let figures =
        Measure { tool, at: address.ip(), bytes: task.bytes, count, asleep }.run(die_with_this_process)?;
    Ok(Report {
        // The tools have half of a round trip.
        p50_us: 2.0 * figures.p50_us,
        p99_us: 2.0 * figures.p99_us,
        rate_per_s: figures.messages_per_s,
        count: count.into(),
        ..Report::default()
    })
}

fn die_with_this_process(command: &mut Command) {
    // SAFETY: prctl takes no pointer here and may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    };
}
