//! Raw RDMA verbs: an RC queue pair by RDMA CM, work requests and completions by `transport_verbs::device`, with no
//! driver, protocol or pattern above it.
//!
//! Messages go inline where they fit, from where they are otherwise. A stream of short ones rings the device for
//! [`CHAIN`] at a time; its receiver tells how far it is, so that a receive is always posted. Long ones are READ by the
//! receiver (`reads.rs`).

mod connect;
mod reads;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use transport_core::{Frame, FrameMut, FramePool, OpenId, Slab, SlabKey};
use transport_verbs::device::{
    Batch, Chain, CmId, CompletionChannel, CompletionQueue, PostSender, ProtectionDomain, QueuePair,
};
use transport_verbs::fabric::{
    Buffer, Mark, Memory, QueueShape, Reach, Receives, Splice, Status, TargetId, Work,
};

use crate::limits::{CHAIN, INLINE, MESSAGE_MAX, POOL, SENDS};
pub use crate::shape::{Body, Shape};
use crate::{Error, Patience, Result, Run, Traffic, Wait};
pub use connect::Listener;

/// Pieces of a send: a frame between two ends of a buffer, which are empty.
const GATHER: u32 = 3;

/// Says what is to become of a sent buffer: nothing, a receive, or the next frame's companion.
const PLAIN: u32 = 0;
const ECHOED: u32 = 1;
const COMPANION: u32 = 2;

const MARK: Mark = Mark { tag: PLAIN, signal: false };
const SIGNALED: Mark = Mark { tag: PLAIN, signal: true };

/// A connected queue pair.
#[derive(Debug)]
pub struct Link {
    // Dropped in this order: what is posted goes with the queue pair, before the memory it is in.
    pair: QueuePair,
    queue: CompletionQueue,
    channel: CompletionChannel,
    memory: Memory,
    pool: FramePool,
    chain: Chain,
    batch: Batch,
    arrived: VecDeque<(Buffer, usize)>,
    read: VecDeque<TargetId>,
    /// Received and done with; to be posted anew, as many at once as `repost`.
    spent: Vec<Buffer>,
    repost: usize,
    /// Receives that are posted.
    posted: usize,
    /// Buffers that go along with frames, empty.
    companions: Vec<Buffer>,
    splices: Vec<Splice>,
    /// Of a stream of sends: what the peer has receives for, and how many it has taken and not been told of.
    credit: usize,
    untold: usize,
    credit_every: usize,
    reads: bool,
    wait: Wait,
    id: CmId,
}

impl Link {
    /// A queue pair for a connection, with its receives posted.
    fn new(mut id: CmId, shape: &Shape) -> Result<Self> {
        let context = id.open_device()?;
        let most = MESSAGE_MAX.min(context.info().message_max);
        if shape.message > most {
            return Err(Error::TooLong { bytes: shape.message, most });
        }
        let channel = CompletionChannel::new(&context)?;
        if shape.wait == Wait::Asleep {
            // Reads of it then sleep: one system call for each event, which is the least.
            rustix::io::ioctl_fionbio(channel.fd(), false).map_err(std::io::Error::from)?;
        }
        let queue = CompletionQueue::new(&channel, SENDS + shape.receives as u32 + 1, 0)?;
        let domain = ProtectionDomain::new(&context)?;
        let queues = QueueShape {
            sends: SENDS,
            receives: Receives::Own(shape.receives as u32),
            gather: GATHER,
            inline: INLINE,
        };
        let owner = SlabKey::from(Slab::<OpenId, ()>::new().insert(()));
        let mut pair = QueuePair::new(&domain, &queue, None, &queues, owner)?;
        id.prepare(&mut pair)?;
        let receives = pair.limits().receives;
        let (repost, credit_every) = ((receives / 16).max(1), (receives / 4).max(1));
        let mut link = Self {
            pair,
            queue,
            channel,
            memory: domain.memory(),
            pool: FramePool::new(POOL),
            chain: Chain::new(),
            batch: Batch::new(),
            arrived: VecDeque::with_capacity(receives),
            read: VecDeque::new(),
            spent: Vec::with_capacity(receives),
            repost,
            posted: 0,
            companions: Vec::with_capacity(SENDS as usize),
            splices: Vec::with_capacity(1),
            // Less a batch, which the peer may have received and not posted anew.
            credit: receives - repost - credit_every,
            untold: 0,
            credit_every,
            reads: shape.reads,
            wait: shape.wait,
            id,
        };
        for _ in 0..receives {
            let buffer = buffer(&link.pool, &link.memory, shape.message)?;
            link.spent.push(buffer);
        }
        link.post_receives()?;
        Ok(link)
    }

    /// Memory that the device can reach, for a message that stays to be read. It holds whatever it held before.
    pub fn frame(&self, len: usize) -> Result<FrameMut> {
        self.pool.take_for(len, self.memory.domain()).ok_or(Error::Memory(len))
    }

    fn post_receives(&mut self) -> Result<()> {
        self.posted += self.spent.len();
        Ok(self.pair.post_receives(&mut self.spent)?)
    }

    /// Takes what has completed; false if nothing has.
    fn progress(&mut self) -> Result<bool> {
        let Self { pair, queue, batch, arrived, read, posted, spent, companions, .. } = self;
        let some = queue.poll(batch);
        let mut failed = None;
        for completion in batch {
            pair.retire(completion, |status, work| match (status, work) {
                (Status::Success, Work::Receive { buffer, len }) => {
                    *posted -= 1;
                    arrived.push_back((buffer, len));
                }
                (Status::Success, Work::Read { target, .. }) => read.push_back(target),
                (Status::Success, Work::Send { tag: ECHOED, buffer: Some(buffer) }) => spent.push(buffer),
                (Status::Success, Work::Send { tag: COMPANION, buffer: Some(buffer) }) => {
                    companions.push(buffer);
                }
                (Status::Success, Work::Send { .. }) => {}
                (status, _) => failed = failed.or(Some(status)),
            });
        }
        if self.spent.len() >= self.repost {
            self.post_receives()?;
        }
        failed.map_or(Ok(some), |status| Err(status.into()))
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
                continue;
            }
            self.queue.arm()?;
            if self.progress()? {
                return Ok(());
            }
            self.channel.next_event();
        }
    }

    /// Sends messages, [`CHAIN`] at most, and rings the device once. None may be empty.
    pub fn send<'a>(&mut self, bodies: impl ExactSizeIterator<Item = Body<'a>>) -> Result<()> {
        while self.pair.room() < bodies.len() {
            self.wait()?;
        }
        let inline = self.pair.limits().inline;
        let mut sender = PostSender::new(&mut self.pair, &mut self.chain);
        for body in bodies {
            if body.bytes().len() <= inline {
                sender.inline(body.bytes(), MARK)?;
                continue;
            }
            let pinned = match body {
                Body::Frame(frame) => self.memory.pin(frame, Reach::Device).map_err(Body::Frame),
                bytes @ Body::Bytes(_) => Err(bytes),
            };
            let (buffer, len, mark) = match pinned {
                Ok(body) => {
                    self.splices.push(Splice { at: 0, body });
                    let companion = self.companions.pop();
                    let companion = companion.map_or_else(|| buffer(&self.pool, &self.memory, 1), Ok)?;
                    (companion, 0, Mark { tag: COMPANION, signal: false })
                }
                Err(body) => {
                    let mut copy = buffer(&self.pool, &self.memory, body.bytes().len())?;
                    copy.copy_from_slice(body.bytes());
                    let len = copy.len();
                    (copy, len, SIGNALED)
                }
            };
            sender.send(buffer, len, &mut self.splices, mark).map_err(|(error, _)| error)?;
        }
        Ok(())
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

    /// Sends messages of a stream, at most [`CHAIN`] at once, as soon as the peer has receives for them.
    pub fn push<'a>(&mut self, bodies: impl ExactSizeIterator<Item = Body<'a>>) -> Result<()> {
        let count = bodies.len();
        while self.credit < count {
            self.recv(|_| ())?.ok_or(Error::Closed)?;
            self.credit += self.credit_every;
        }
        self.credit -= count;
        self.send(bodies)
    }

    /// Receives a message of a stream, and tells the peer how far this end is. `None`: that was all.
    pub fn pull<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let Some(result) = self.recv(read)? else { return Ok(None) };
        self.untold += 1;
        if self.untold == self.credit_every {
            self.untold = 0;
            self.send(std::iter::once(Body::Bytes(b"more")))?;
        }
        Ok(Some(result))
    }

    /// Tells the peer that this was all, by an empty message, and waits until it has arrived.
    pub fn finish(&mut self) -> Result<()> {
        while self.pair.room() == 0 {
            self.wait()?;
        }
        PostSender::new(&mut self.pair, &mut self.chain).inline(&[], SIGNALED)?;
        while self.pair.room() < self.pair.limits().sends {
            self.wait()?;
        }
        Ok(())
    }
}

fn buffer(pool: &FramePool, memory: &Memory, len: usize) -> Result<Buffer> {
    let frame = pool.take_for(len, memory.domain()).ok_or(Error::Memory(len))?;
    memory.buffer(frame).map_err(|_| Error::Memory(len))
}

impl crate::Link for Link {
    type Listener = Listener;
    type Address = SocketAddr;

    fn what(run: &Run) -> &'static str {
        match run.traffic {
            Traffic::PingPong => "a SEND each way",
            Traffic::Stream if Shape::of(run).reads => "RDMA READs, several in flight",
            Traffic::Stream => "a SEND for each message, several to a doorbell",
        }
    }

    fn listen(at: &SocketAddr) -> Result<(Listener, SocketAddr)> {
        Listener::new(*at)
    }

    fn accept(listener: &Listener, run: &Run) -> Result<Self> {
        listener.accept(&Shape::of(run))
    }

    fn connect(to: &SocketAddr, run: &Run) -> Result<Self> {
        let shape = Shape::of(run);
        // A source that is READ has nothing to do but wait.
        let wait = if shape.reads { Wait::Asleep } else { shape.wait };
        Self::dial(*to, &Shape { wait, ..shape })
    }

    fn ping<R>(&mut self, frame: &Frame, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.send(std::iter::once(Body::Frame(frame.clone())))?;
        self.recv(read)?.ok_or(Error::Closed)
    }

    fn close(mut self) -> Result<()> {
        self.finish()
    }

    fn echo(mut self) -> Result<()> {
        let inline = self.pair.limits().inline;
        // Where receives are few, what is sent back must not be waited for until some later send is signalled.
        let mark = Mark { tag: ECHOED, signal: self.pair.limits().receives < SENDS as usize };
        while let Some((buffer, len)) = self.next()? {
            // The answer to what is sent below must find a receive.
            while self.posted == 0 || self.pair.room() == 0 {
                self.wait()?;
            }
            let mut sender = PostSender::new(&mut self.pair, &mut self.chain);
            if len <= inline {
                sender.inline(&buffer[..len], MARK)?;
                drop(sender);
                self.spent.push(buffer);
                if self.spent.len() >= self.repost {
                    self.post_receives()?;
                }
            } else {
                // Out of the memory it came into.
                sender.send(buffer, len, &mut self.splices, mark).map_err(|(error, _)| error)?;
            }
        }
        Ok(())
    }

    fn source(mut self, frames: &[Frame], time: Duration) -> Result<()> {
        if self.reads {
            return self.offer(frames);
        }
        let begun = Instant::now();
        let mut frames = frames.iter().cycle();
        loop {
            let chain: [Option<&Frame>; CHAIN] = std::array::from_fn(|_| frames.next());
            self.push(chain.into_iter().map(|frame| Body::Frame(frame.cloned().unwrap_or_default())))?;
            crate::go_on()?;
            if begun.elapsed() >= time {
                return self.finish();
            }
        }
    }

    fn sink(mut self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        if self.reads {
            return self.fetch(each);
        }
        let mut enough = false;
        while self.pull(|body| enough = enough || each(body).is_break())?.is_some() {}
        Ok(())
    }
}
