//! Raw libfabric: one endpoint of any provider, requests and completions by `transport_ofi::device`, with no driver, protocol or
//! pattern above it.
//!
//! Messages are injected where they fit, and sent from where they are otherwise. Long ones of a stream are READ by the receiver
//! (`reads.rs`), or sent as well ([`Shape::sends`]). The provider itself holds back a sender whose receiver is behind
//! (FI_RM_ENABLED).

mod meet;
mod place;
mod reads;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use transport_core::{Frame, FrameMut, FramePool};
use transport_ofi::device::{
    AddressVector, Batch, Buffer, CompletionQueue, Domain, Endpoint, EventQueue, PostError, Reach, Splice,
    Work,
};

use crate::limits::{MESSAGE_MAX, POOL, SENDS};
pub use crate::shape::{Body, Shape};
use crate::{Error, Patience, Result, Run, Traffic, Wait, wait_readable};
pub use meet::Listener;
pub use place::Place;

/// Pieces of a send: a frame, and a buffer of which nothing is sent.
const GATHER: usize = 2;

/// Says what is to become of a sent buffer: nothing, a receive, or the next frame's companion.
const PLAIN: u32 = 0;
const ECHOED: u32 = 1;
const COMPANION: u32 = 2;

/// Looks that find nothing between two at whether the peer is still there.
const LOOKS_PER_ROLL_CALL: u32 = 4096;

/// An endpoint that is connected, or knows its peer.
#[derive(Debug)]
pub struct Link {
    // Dropped in this order: what is posted goes with the endpoint, before the memory it is in.
    endpoint: Endpoint,
    queue: CompletionQueue,
    domain: Domain,
    pool: FramePool,
    batch: Batch,
    arrived: VecDeque<(Buffer, usize)>,
    /// Received and done with; to be posted anew, as many at once as `repost`.
    spent: Vec<Buffer>,
    repost: usize,
    /// Buffers that go along with frames, of which nothing is sent.
    companions: Vec<Buffer>,
    splices: Vec<Splice>,
    reads: bool,
    wait: Wait,
    looks: u32,
    _events: Option<EventQueue>,
    _peers: Option<AddressVector>,
    /// By which the ends found each other. Open as long as the link is, so that each hears of the other's end whatever the
    /// provider is.
    meeting: TcpStream,
}

impl Link {
    /// A link on an endpoint that is open, and about to have a peer: posts its receives.
    fn new(
        endpoint: Endpoint,
        queue: CompletionQueue,
        domain: Domain,
        events: Option<EventQueue>,
        peers: Option<AddressVector>,
        meeting: TcpStream,
        shape: &Shape,
    ) -> Result<Self> {
        let receives = shape.receives.min(endpoint.limits().receives);
        let mut link = Self {
            endpoint,
            queue,
            domain,
            pool: FramePool::new(POOL),
            batch: Batch::new(),
            arrived: VecDeque::with_capacity(receives),
            spent: Vec::with_capacity(receives),
            repost: (receives / 16).max(1),
            companions: Vec::with_capacity(SENDS as usize),
            splices: Vec::with_capacity(1),
            reads: shape.reads,
            wait: shape.wait,
            looks: 0,
            _events: events,
            _peers: peers,
            meeting,
        };
        for _ in 0..receives {
            let buffer = link.buffer(shape.message)?;
            link.spent.push(buffer);
        }
        link.post_receives()?;
        Ok(link)
    }

    /// Memory that the provider can reach, for a message that stays to be read. It holds whatever it held before.
    pub fn frame(&self, len: usize) -> Result<FrameMut> {
        self.pool.take_for(len, self.domain.memory()).ok_or(Error::Memory(len))
    }

    fn buffer(&self, len: usize) -> Result<Buffer> {
        self.domain.buffer(self.frame(len)?).map_err(|_| Error::Memory(len))
    }

    fn post_receives(&mut self) -> Result<()> {
        match self.endpoint.post_receives(&mut self.spent) {
            // Not now; with the next that are spent.
            Err(PostError::Full) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Takes what has completed; false if nothing has.
    fn progress(&mut self) -> Result<bool> {
        let Self { endpoint, queue, batch, arrived, spent, companions, .. } = self;
        let some = queue.poll(batch)?;
        let mut failed = None;
        for completion in batch {
            if completion.cookie().is_none() {
                failed = failed.or(completion.failure().cloned());
                continue;
            }
            match endpoint.retire(completion) {
                Some((_, Some(failure))) => failed = failed.or(Some(*failure)),
                Some((Work::Receive { buffer, len, .. }, None)) => arrived.push_back((buffer, len)),
                Some((Work::Send { tag: ECHOED, buffer: Some(buffer) }, None)) => spent.push(buffer),
                Some((Work::Send { tag: COMPANION, buffer: Some(buffer) }, None)) => companions.push(buffer),
                Some(_) | None => {}
            }
        }
        if self.spent.len() >= self.repost {
            self.post_receives()?;
        }
        failed.map_or(Ok(some), |failure| Err(failure.into()))
    }

    /// Whether the peer has ended its process or its link.
    fn has_left(&mut self) -> bool {
        match self.meeting.peek(&mut [0]) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Waits until something has completed.
    fn wait(&mut self) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            if self.progress()? {
                return Ok(());
            }
            if self.wait == Wait::Polled {
                patience.look()?;
                self.looks = self.looks.wrapping_add(1);
                if self.looks.is_multiple_of(LOOKS_PER_ROLL_CALL) && self.has_left() && !self.progress()? {
                    return Err(Error::Closed);
                }
                continue;
            }
            let may_sleep = self.queue.arm()?;
            if self.progress()? {
                return Ok(());
            }
            if !may_sleep {
                continue;
            }
            let Some(fd) = self.queue.fd() else { return Err(Error::Closed) };
            match wait_readable(fd) {
                // Nothing was said for a while; that is for a sleeper to bear, while somebody is there.
                Err(Error::Silent) if !self.has_left() => {}
                result => result?,
            }
        }
    }

    /// Posts, as soon as the provider takes it.
    fn post(&mut self, mut post: impl FnMut(&mut Self) -> std::result::Result<(), PostError>) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            match post(self) {
                Err(PostError::Full) => {}
                result => return Ok(result?),
            }
            // Never asleep: not every provider wakes for having room again.
            if !self.progress()? {
                patience.look()?;
            }
        }
    }

    /// Sends a message. It must not be empty.
    pub fn send(&mut self, body: Body<'_>) -> Result<()> {
        if body.bytes().len() <= self.endpoint.limits().inject {
            return self.post(|link| link.endpoint.inject(body.bytes()));
        }
        let pinned = match body {
            Body::Frame(frame) => self.domain.pin(frame, Reach::Device).map_err(Body::Frame),
            bytes @ Body::Bytes(_) => Err(bytes),
        };
        let (buffer, len, tag) = match pinned {
            Ok(body) => {
                self.splices.push(Splice { at: 0, body });
                let companion = self.companions.pop();
                (companion.map_or_else(|| self.buffer(1), Ok)?, 0, COMPANION)
            }
            Err(body) => {
                let mut copy = self.buffer(body.bytes().len())?;
                copy.copy_from_slice(body.bytes());
                let len = copy.len();
                (copy, len, PLAIN)
            }
        };
        self.send_buffer(buffer, len, tag)
    }

    /// Sends the first bytes of a buffer, and what is in `splices`.
    fn send_buffer(&mut self, buffer: Buffer, len: usize, tag: u32) -> Result<()> {
        let mut buffer = Some(buffer);
        self.post(|link| {
            let Some(taken) = buffer.take() else { return Ok(()) };
            link.endpoint.send(taken, len, &mut link.splices, tag).map_err(|(error, back)| {
                buffer = Some(back);
                error
            })
        })
    }

    /// Waits for a message. `None`: the peer has finished.
    fn next(&mut self) -> Result<Option<(Buffer, usize)>> {
        loop {
            match self.arrived.pop_front() {
                Some((_, 0)) => return Ok(None),
                Some(arrived) => return Ok(Some(arrived)),
                None => self.wait()?,
            }
        }
    }

    /// Waits for a message and hands its bytes to `read`. `None`: the peer has finished.
    pub fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let Some((buffer, len)) = self.next()? else { return Ok(None) };
        let result = read(&buffer[..len]);
        self.spent.push(buffer);
        if self.spent.len() >= self.repost {
            self.post_receives()?;
        }
        Ok(Some(result))
    }

    /// Tells the peer that this was all, by an empty message, and drives the provider until the peer has left: what was sent may
    /// need this end for as long.
    pub fn finish(&mut self) -> Result<()> {
        self.post(|link| link.endpoint.copy(&[], PLAIN))?;
        let mut patience = Patience::default();
        while !self.has_left() {
            // The peer may end the connection before it leaves.
            if !self.progress().unwrap_or(false) {
                patience.look()?;
            }
        }
        Ok(())
    }
}

impl crate::Link for Link {
    type Listener = Listener;
    type Address = Place;

    fn what(run: &Run) -> &'static str {
        match run.traffic {
            Traffic::PingPong => "fi_inject or fi_send each way",
            Traffic::Stream if Shape::of(run).reads => "fi_read, several in flight",
            Traffic::Stream => "fi_inject or fi_send for each message",
        }
    }

    fn listen(at: &Place) -> Result<(Listener, Place)> {
        Listener::new(at)
    }

    fn accept(listener: &Listener, run: &Run) -> Result<Self> {
        listener.accept(&Shape::of(run))
    }

    fn connect(to: &Place, run: &Run) -> Result<Self> {
        Self::dial(to, &Shape::of(run))
    }

    fn ping<R>(&mut self, frame: &Frame, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.send(Body::Frame(frame.clone()))?;
        self.recv(read)?.ok_or(Error::Closed)
    }

    fn close(mut self) -> Result<()> {
        self.finish()
    }

    fn echo(mut self) -> Result<()> {
        let inject = self.endpoint.limits().inject;
        while let Some((buffer, len)) = self.next()? {
            if len <= inject {
                self.post(|link| link.endpoint.inject(&buffer[..len]))?;
                self.spent.push(buffer);
                if self.spent.len() >= self.repost {
                    self.post_receives()?;
                }
            } else {
                // Out of the memory it came into.
                self.send_buffer(buffer, len, ECHOED)?;
            }
        }
        Ok(())
    }

    fn source(mut self, frames: &[Frame], time: Duration) -> Result<()> {
        if self.reads {
            return self.offer(frames);
        }
        let begun = Instant::now();
        let mut count = 0_u32;
        for frame in frames.iter().cycle() {
            self.send(Body::Frame(frame.clone()))?;
            count = count.wrapping_add(1);
            if count.is_multiple_of(16) {
                crate::go_on()?;
                if begun.elapsed() >= time {
                    break;
                }
            }
        }
        self.finish()
    }

    fn sink(mut self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        if self.reads {
            return self.fetch(each);
        }
        let mut enough = false;
        while self.recv(|body| enough = enough || each(body).is_break())?.is_some() {}
        Ok(())
    }
}

/// How long a message may be here.
fn check_len(bytes: usize, most: usize) -> Result<()> {
    let most = MESSAGE_MAX.min(most);
    if bytes > most { Err(Error::TooLong { bytes, most }) } else { Ok(()) }
}
