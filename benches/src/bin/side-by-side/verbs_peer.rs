//! Raw RDMA verbs in the roles of a socket: the limit that the device sets. The loops are `baselines::verbs`, polled, or
//! asleep on the completion channel; this file gives them the shape of a peer.
//!
//! REQ/REP is one inline send each way. PUSH of small messages is inline sends, one for each message, rung
//! [`CHAIN`] at a time. PUSH and PULL of large messages are RDMA READs by the PULL end.

use crate::Result;
use crate::control::{Control, Report, Role, Task};
use crate::payload::{self, END};
use crate::peer::{Kind, Peer};
use crate::roles;
use crate::usage::Usage;
use baselines::verbs::{Body, Link, Listener, Shape};
use baselines::{CHAIN, Wait};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;
use transport_core::Frame;

/// The limit in every role.
pub(crate) fn run<const POLLED: bool>(task: &Task, control: &mut Control) -> Result<()> {
    match task.role {
        Role::Puller if payload::is_large(task.bytes) => read::<POLLED>(task, control),
        Role::Pusher if payload::is_large(task.bytes) => be_read(task, control),
        _ => roles::run::<RawVerbs<POLLED>>(task, control),
    }
}

#[derive(Debug)]
pub(crate) struct RawVerbs<const POLLED: bool> {
    kind: Kind,
    bytes: usize,
    listener: Option<Listener>,
    link: Option<Link>,
    /// Of PUSH: gathered to be posted.
    outbox: Vec<u8>,
}

const fn wait<const POLLED: bool>() -> Wait {
    if POLLED { Wait::Polled } else { Wait::Asleep }
}

impl<const POLLED: bool> RawVerbs<POLLED> {
    fn link(&mut self) -> Result<&mut Link> {
        self.link.as_mut().ok_or_else(|| "no link".into())
    }

    fn shape(&self) -> Shape {
        Shape::sends(self.bytes, wait::<POLLED>())
    }

    /// Posts what is gathered.
    fn flush(&mut self) -> Result<()> {
        let outbox = std::mem::take(&mut self.outbox);
        let bytes = self.bytes;
        self.link()?.push(outbox.chunks(bytes).map(Body::Bytes))?;
        self.outbox = outbox;
        self.outbox.clear();
        Ok(())
    }
}

impl<const POLLED: bool> Peer for RawVerbs<POLLED> {
    type Context = ();

    fn context() -> Result<()> {
        Ok(())
    }

    fn socket((): &(), kind: Kind, task: &Task) -> Result<Self> {
        Ok(Self { kind, bytes: task.bytes, listener: None, link: None, outbox: Vec::new() })
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        let (listener, bound) = Listener::new(address(url)?)?;
        self.listener = Some(listener);
        Ok(format!("verbs://{bound}"))
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        self.link = Some(Link::dial(address(url)?, &self.shape())?);
        Ok(())
    }

    fn subscribe_all(&mut self) -> Result<()> {
        Err("raw verbs are not measured as SUB".into())
    }

    fn await_links(&mut self, _links: usize) -> Result<()> {
        let link = self.listener.as_ref().ok_or("not bound")?.accept(&self.shape())?;
        self.link = Some(link);
        Ok(())
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        if self.kind != Kind::Push {
            return Ok(self.link()?.send(std::iter::once(Body::Bytes(body)))?);
        }
        self.outbox.extend_from_slice(body);
        if self.outbox.len() >= CHAIN * self.bytes || payload::number(body) == END {
            self.flush()?;
        }
        Ok(())
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let is_stream = self.kind == Kind::Pull;
        let link = self.link()?;
        let read = if is_stream { link.pull(read)? } else { link.recv(read)? };
        read.ok_or_else(|| "the other end closed the link".into())
    }

    fn try_recv<R>(&mut self, _read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Err("raw verbs are not measured as one of many".into())
    }

    fn wait_any(_sockets: &mut [Self], _limit: Duration, _ready: &mut [bool]) -> Result<()> {
        Err("raw verbs are not measured as one of many".into())
    }
}

/// PULL of large messages: READs them from where the peer says they are.
fn read<const POLLED: bool>(task: &Task, control: &mut Control) -> Result<()> {
    let (listener, bound) = Listener::new(address(&task.url)?)?;
    control.say("url", &format!("verbs://{bound}"))?;
    let mut link = listener.accept(&Shape::reads(wait::<POLLED>()))?;
    control.ready()?;
    let mut tally = task.tally();
    let start = Usage::now();
    link.fetch(|body| {
        tally.take(body);
        if tally.window.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    control.conclude(&tally.report(Usage::now().since(start))?)
}

/// PUSH of large messages: tells where they are, and sleeps until the peer has had enough.
fn be_read(task: &Task, control: &mut Control) -> Result<()> {
    let mut link = Link::dial(address(&task.url)?, &Shape::reads(Wait::Asleep))?;
    let frames: Vec<Frame> = payload::large_buffers(task.bytes)
        .into_iter()
        .map(|body| {
            let mut frame = link.frame(body.len())?;
            frame.copy_from_slice(body);
            Ok(frame.freeze())
        })
        .collect::<Result<_>>()?;
    control.ready()?;
    let start = Usage::now();
    link.offer(&frames)?;
    control.conclude(&Report { usage: Usage::now().since(start), ..Report::default() })
}

fn address(url: &str) -> Result<SocketAddr> {
    Ok(url.strip_prefix("verbs://").ok_or("no verbs:// URL")?.parse()?)
}
