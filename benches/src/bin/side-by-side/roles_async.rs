//! REQ and REP for peers that are driven by async calls on one thread; the other roles of such peers are their own.

use crate::Result;
use crate::control::{Control, Report, Task};
use crate::payload::{self, END, START};
use crate::statistics::{Gaps, Latencies};
use crate::usage::Usage;
use std::time::Instant;

/// A connected REQ or REP socket.
pub(crate) trait Turns {
    async fn send(&mut self, body: &[u8]) -> Result<()>;
    /// Replaces `body` by the message that comes.
    async fn recv(&mut self, body: &mut Vec<u8>) -> Result<()>;
}

pub(crate) async fn replier(mut socket: impl Turns, control: &mut Control) -> Result<()> {
    control.ready()?;
    let mut body = Vec::new();
    let mut start = Usage::now();
    loop {
        socket.recv(&mut body).await?;
        let number = payload::number(&body);
        if number == START {
            start = Usage::now();
        }
        socket.send(&body).await?;
        if number == END {
            let report = Report { usage: Usage::now().since(start), ..Report::default() };
            return control.conclude(&report);
        }
    }
}

pub(crate) async fn requester(mut socket: impl Turns, task: &Task, control: &mut Control) -> Result<()> {
    control.ready()?;
    let mut body = vec![0; task.bytes];
    let mut reply = Vec::new();
    let mut trip = async |number: u64| -> Result<()> {
        payload::write_number(&mut body, number);
        socket.send(&body).await?;
        socket.recv(&mut reply).await?;
        let reply = payload::number(&reply);
        if reply == number { Ok(()) } else { Err(format!("asked {number}, answered {reply}").into()) }
    };
    let began = Instant::now();
    while began.elapsed() < task.warm() {
        trip(0).await?;
    }
    trip(START).await?;
    let mut latencies = Latencies::new();
    let mut gaps = Gaps::new(task);
    let start = Usage::now();
    let began = Instant::now();
    let mut sent = began;
    while sent - began < task.run() {
        trip(latencies.count()).await?;
        let now = Instant::now();
        latencies.record(now - sent);
        // The thread sleeps, as in the blocking roles: an application computes, and no runtime's timer is measured.
        sent = if gaps.pause() { Instant::now() } else { now };
    }
    let usage = Usage::now().since(start);
    trip(END).await?;
    control.conclude(&latencies.report(usage))
}
