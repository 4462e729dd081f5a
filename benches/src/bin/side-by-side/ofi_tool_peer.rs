//! The tools of libfabric and UCX (fi_pingpong, ucx_perftest) as peers: what others measure on the same fabric, by
//! `baselines`. The end that reports runs both processes; the other end does nothing.

use crate::Result;
use crate::control::{Control, Report, Role, Task};
use baselines::ofi::Place;
use baselines::{fi_pingpong, ucx_perftest};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

const TRIPS: u32 = 2000;
/// Bytes that a stream moves, and its messages at most.
const STREAM: usize = 256 << 20;
const MESSAGES: usize = 50_000;

/// fi_pingpong: means, of trips alone.
pub(crate) fn pingpong(task: &Task, control: &mut Control) -> Result<()> {
    run(task, control, |place| {
        let measure = fi_pingpong::Measure { place, bytes: task.bytes, count: TRIPS };
        let mean_us = measure.run(die_with_this_process)?;
        // It has half of a round trip.
        Ok(Report { p50_us: 2.0 * mean_us, count: TRIPS.into(), ..Report::default() })
    })
}

/// ucx_perftest, over shared memory where the provider is `shm`, over TCP elsewhere.
pub(crate) fn ucx(task: &Task, control: &mut Control) -> Result<()> {
    run(task, control, |place| {
        use ucx_perftest::{Measure, Wire};
        let wire = if place.provider == "shm" { Wire::SharedMemory } else { Wire::LoopbackTcp };
        let is_stream = task.role == Role::Puller;
        let count = if is_stream { (STREAM / task.bytes).min(MESSAGES) as u32 } else { TRIPS };
        let measure = Measure { wire, is_stream, at: place.meeting.ip(), bytes: task.bytes, count };
        let figures = measure.run(die_with_this_process)?;
        Ok(Report {
            p50_us: 2.0 * figures.p50_us,
            rate_per_s: figures.messages_per_s,
            count: count.into(),
            ..Report::default()
        })
    })
}

fn run(task: &Task, control: &mut Control, measure: impl FnOnce(Place) -> Result<Report>) -> Result<()> {
    let mut place: Place = task.url.strip_prefix("ofi://").ok_or("no ofi:// URL")?.parse()?;
    if place.meeting.port() == 0 {
        // Of no use but to tell the parent something: the tools meet at a port of their own.
        let free = TcpListener::bind(place.meeting)?.local_addr()?;
        place.meeting = free;
        control.say("url", &format!("ofi://{place}"))?;
    }
    control.ready()?;
    let report = match task.role {
        Role::Requester | Role::Puller => measure(place)?,
        _ => Report::default(),
    };
    control.conclude(&report)
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
