//! Raw libfabric in the roles of a socket: the limit that a provider sets. The loops are `baselines::ofi`, polled, or asleep on
//! the provider's descriptor; this file gives them the shape of a peer.
//!
//! REQ/REP is one message each way, injected. PUSH and PULL of large messages are READs by the PULL end (`run`), or sends like
//! all others (`run_sends`).

use crate::Result;
use crate::control::{Control, Report, Role, Task};
use crate::payload::{self, END};
use crate::peer::{Kind, Peer};
use crate::roles;
use crate::usage::Usage;
use baselines::Wait;
use baselines::ofi::{Body, Link, Listener, Place, Shape};
use std::ops::ControlFlow;
use std::time::Duration;
use transport_core::Frame;

/// The limit in every role.
pub(crate) fn run<const POLLED: bool>(task: &Task, control: &mut Control) -> Result<()> {
    match task.role {
        Role::Puller if payload::is_large(task.bytes) => read::<POLLED>(task, control),
        Role::Pusher if payload::is_large(task.bytes) => be_read::<POLLED>(task, control),
        _ => roles::run::<RawOfi<POLLED>>(task, control),
    }
}

/// The same, polled, with large messages that are sent.
pub(crate) fn run_sends(task: &Task, control: &mut Control) -> Result<()> {
    roles::run::<RawOfi<true>>(task, control)
}

#[derive(Debug)]
struct RawOfi<const POLLED: bool> {
    kind: Kind,
    bytes: usize,
    listener: Option<Listener>,
    link: Option<Link>,
    /// The few large bodies that are sent again and again, by their address, in memory that the provider can reach.
    lent: Vec<(usize, Frame)>,
}

const fn wait<const POLLED: bool>() -> Wait {
    if POLLED { Wait::Polled } else { Wait::Asleep }
}

impl<const POLLED: bool> RawOfi<POLLED> {
    fn link(&mut self) -> Result<&mut Link> {
        self.link.as_mut().ok_or_else(|| "no link".into())
    }

    fn shape(&self) -> Shape {
        Shape::sends(self.bytes, wait::<POLLED>())
    }
}

impl<const POLLED: bool> Peer for RawOfi<POLLED> {
    type Context = ();

    fn context() -> Result<()> {
        Ok(())
    }

    fn socket((): &(), kind: Kind, task: &Task) -> Result<Self> {
        Ok(Self { kind, bytes: task.bytes, listener: None, link: None, lent: Vec::new() })
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        let (listener, bound) = Listener::new(&place(url)?)?;
        self.listener = Some(listener);
        Ok(format!("ofi://{bound}"))
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        self.link = Some(Link::dial(&place(url)?, &self.shape())?);
        Ok(())
    }

    fn subscribe_all(&mut self) -> Result<()> {
        Err("raw libfabric is not measured as SUB".into())
    }

    fn await_links(&mut self, _links: usize) -> Result<()> {
        let link = self.listener.as_ref().ok_or("not bound")?.accept(&self.shape())?;
        self.link = Some(link);
        Ok(())
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        let is_last = self.kind == Kind::Push && payload::number(body) == END;
        let link = self.link()?;
        link.send(Body::Bytes(body))?;
        if is_last {
            // What was sent leaves only while this end is driven.
            link.recv(|_| ())?.ok_or("the other end closed the link")?;
        }
        Ok(())
    }

    fn send_static(&mut self, body: &'static [u8]) -> Result<()> {
        let address = body.as_ptr().addr();
        let frame = match self.lent.iter().find(|(lent, _)| *lent == address) {
            Some((_, frame)) => frame.clone(),
            None => {
                let mut frame = self.link()?.frame(body.len())?;
                frame.copy_from_slice(body);
                let frame = frame.freeze();
                self.lent.push((address, frame.clone()));
                frame
            }
        };
        Ok(self.link()?.send(Body::Frame(frame))?)
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let is_pull = self.kind == Kind::Pull;
        let link = self.link()?;
        let mut is_last = false;
        let read = link.recv(|body| {
            is_last = is_pull && payload::number(body) == END;
            read(body)
        })?;
        if is_last {
            link.send(Body::Bytes(b"all"))?;
        }
        read.ok_or_else(|| "the other end closed the link".into())
    }

    fn try_recv<R>(&mut self, _read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Err("raw libfabric is not measured as one of many".into())
    }

    fn wait_any(_sockets: &mut [Self], _limit: Duration, _ready: &mut [bool]) -> Result<()> {
        Err("raw libfabric is not measured as one of many".into())
    }
}

/// PULL of large messages: READs them from where the peer says they are.
fn read<const POLLED: bool>(task: &Task, control: &mut Control) -> Result<()> {
    let (listener, bound) = Listener::new(&place(&task.url)?)?;
    control.say("url", &format!("ofi://{bound}"))?;
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

/// PUSH of large messages: tells where they are, and drives its provider until the peer has had enough.
fn be_read<const POLLED: bool>(task: &Task, control: &mut Control) -> Result<()> {
    let mut link = Link::dial(&place(&task.url)?, &Shape::reads(wait::<POLLED>()))?;
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
    // Its end is what the other waits for.
    drop(link);
    control.conclude(&Report { usage: Usage::now().since(start), ..Report::default() })
}

fn place(url: &str) -> Result<Place> {
    Ok(url.strip_prefix("ofi://").ok_or("no ofi:// URL")?.parse()?)
}
