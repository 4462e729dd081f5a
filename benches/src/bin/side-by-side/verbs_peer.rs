//! Raw RDMA verbs in the roles of a socket: the limit that the device sets. An RC queue pair, work requests and
//! completions by `transport_verbs::device`, with no driver, protocol or pattern above it; polled, or asleep on the
//! completion channel.
//!
//! REQ/REP is one inline send each way. PUSH of small messages is inline sends, one for each message, rung
//! [`CHAIN`] at a time, since on a software device a ring is a system call; PULL tells how far it is, so that a receive is
//! always posted. PUSH and PULL of large messages are RDMA READs by the PULL end, out of memory whose addresses the PUSH
//! end has told: [`READS`] in flight, each into a frame of its own, and nobody copies.

use crate::Result;
use crate::control::{Control, Report, Role, Task};
use crate::payload::{self, END, Tally};
use crate::peer::{Kind, Peer};
use crate::roles;
use crate::usage::Usage;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;
use transport_core::{FramePool, OpenId, Slab, SlabKey};
use transport_verbs::device::{
    Batch, Chain, CmEventKind, CmId, CompletionChannel, CompletionQueue, EventChannel, PostSender,
    ProtectionDomain, QueuePair,
};
use transport_verbs::fabric::{
    Buffer, Failure, Mark, Memory, Pinned, PrivateData, QueueShape, Reach, Receives, Remote, Status,
    TargetId, Terms, Work,
};
use transport_verbs::sys::Libraries;

/// Messages that a stream rings for at once.
const CHAIN: usize = 16;
const SENDS: u32 = 128;
const RECEIVES: u32 = 512;
/// Inline bytes asked for, as fabriq does.
const INLINE: u32 = 512;
/// Receives that are posted anew at once.
const REPOST: usize = 32;
/// Messages after which PULL says how far it is.
const CREDIT_EVERY: usize = 128;
/// READs in flight.
const READS: usize = 8;
/// Memory of one end.
const POOL: usize = 64 << 20;
/// How long an address and a route may take to be found.
const RESOLVE: Duration = Duration::from_secs(5);
/// Bytes of one address and key on the wire.
const REMOTE: usize = 12;

const MARK: Mark = Mark { tag: 0, signal: false };

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
    events: EventChannel,
    listener: Option<CmId>,
    link: Option<Link>,
    /// Of PUSH: gathered to be posted, and what the peer takes at the moment.
    outbox: Vec<u8>,
    credit: usize,
    /// Of PULL: taken since the peer was told.
    untold: usize,
}

/// A connected queue pair.
#[derive(Debug)]
struct Link {
    pair: QueuePair,
    queue: CompletionQueue,
    channel: CompletionChannel,
    memory: Memory,
    pool: FramePool,
    chain: Chain,
    batch: Batch,
    arrived: VecDeque<(Buffer, usize)>,
    read: VecDeque<TargetId>,
    spent: Vec<Buffer>,
    polled: bool,
    _id: CmId,
}

impl Link {
    /// A queue pair for a connection, with its receives posted.
    fn new(mut id: CmId, bytes: usize, polled: bool) -> Result<Self> {
        let context = id.open_device()?;
        let channel = CompletionChannel::new(&context)?;
        block(channel.fd())?;
        let queue = CompletionQueue::new(&channel, SENDS + RECEIVES + 1, 0)?;
        let domain = ProtectionDomain::new(&context)?;
        let shape = QueueShape { sends: SENDS, receives: Receives::Own(RECEIVES), gather: 1, inline: INLINE };
        let owner = SlabKey::from(Slab::<OpenId, ()>::new().insert(()));
        let mut pair = QueuePair::new(&domain, &queue, None, &shape, owner)?;
        id.prepare(&mut pair)?;
        let (pool, memory) = (FramePool::new(POOL), domain.memory());
        let mut buffers = Vec::new();
        for _ in 0..pair.limits().receives {
            let frame = pool.take(if payload::is_large(bytes) { 64 } else { bytes }).ok_or("no memory")?;
            buffers.push(memory.buffer(frame).map_err(|_| "memory cannot be registered")?);
        }
        pair.post_receives(&mut buffers)?;
        Ok(Self {
            pair,
            queue,
            channel,
            memory,
            pool,
            chain: Chain::new(),
            batch: Batch::new(),
            arrived: VecDeque::new(),
            read: VecDeque::new(),
            spent: Vec::new(),
            polled,
            _id: id,
        })
    }

    /// Takes what has completed; false if nothing has.
    fn progress(&mut self) -> Result<bool> {
        let Self { pair, queue, batch, arrived, read, .. } = self;
        let some = queue.poll(batch);
        let mut failed = None;
        for completion in batch {
            pair.retire(completion, |status, work| match (status, work) {
                (Status::Success, Work::Receive { buffer, len }) => arrived.push_back((buffer, len)),
                (Status::Success, Work::Read { target, .. }) => read.push_back(target),
                (Status::Success, Work::Send { .. }) => {}
                (status, _) => failed = Some(status),
            });
        }
        failed.map_or(Ok(some), |status| Err(status.into()))
    }

    /// Waits until something has completed.
    fn wait(&mut self) -> Result<()> {
        loop {
            if self.progress()? {
                return Ok(());
            }
            if self.polled {
                std::hint::spin_loop();
                continue;
            }
            self.queue.arm()?;
            if self.progress()? {
                return Ok(());
            }
            self.channel.next_event();
        }
    }

    /// Posts `bodies`, each of so many bytes, and rings once.
    fn send(&mut self, bodies: &[u8], bytes: usize) -> Result<()> {
        while self.pair.room() < bodies.len().div_ceil(bytes) {
            self.wait()?;
        }
        let mut sender = PostSender::new(&mut self.pair, &mut self.chain);
        for body in bodies.chunks(bytes) {
            sender.inline(body, MARK)?;
        }
        Ok(())
    }

    /// Waits for a message and hands its bytes to `read`.
    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let (buffer, len) = loop {
            match self.arrived.pop_front() {
                Some(arrived) => break arrived,
                None => self.wait()?,
            }
        };
        let result = read(&buffer[..len]);
        self.spent.push(buffer);
        if self.spent.len() == REPOST {
            self.pair.post_receives(&mut self.spent)?;
        }
        Ok(result)
    }
}

impl<const POLLED: bool> RawVerbs<POLLED> {
    fn link(&mut self) -> Result<&mut Link> {
        self.link.as_mut().ok_or_else(|| "no link".into())
    }

    fn event(&self) -> Result<CmEventKind> {
        let event = self.events.next_event(0).ok_or("the connection manager has no event")?;
        match event.kind {
            CmEventKind::Failed(step) => Err(format!("{step}: status {}", event.status).into()),
            CmEventKind::Rejected => Err("nobody listens".into()),
            kind => Ok(kind),
        }
    }

    /// Posts what is gathered, once the peer has receives for it.
    fn flush(&mut self) -> Result<()> {
        let count = self.outbox.len() / self.bytes;
        while self.credit < count {
            self.link()?.recv(drop_bytes)?;
            self.credit += CREDIT_EVERY;
        }
        self.credit -= count;
        let outbox = std::mem::take(&mut self.outbox);
        let bytes = self.bytes;
        self.link()?.send(&outbox, bytes)?;
        self.outbox = outbox;
        self.outbox.clear();
        Ok(())
    }
}

fn drop_bytes(_: &[u8]) {}

impl<const POLLED: bool> Peer for RawVerbs<POLLED> {
    type Context = ();

    fn context() -> Result<()> {
        Ok(())
    }

    fn socket((): &(), kind: Kind, task: &Task) -> Result<Self> {
        let events = EventChannel::new(Libraries::load()?)?;
        block(events.fd())?;
        Ok(Self {
            kind,
            bytes: task.bytes,
            events,
            listener: None,
            link: None,
            outbox: Vec::new(),
            // Less a chain, which the peer may have received and not posted anew.
            credit: RECEIVES as usize - REPOST - CREDIT_EVERY,
            untold: 0,
        })
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        let mut listener = CmId::new(&self.events, 0)?;
        listener.bind(address(url)?)?;
        listener.listen(1)?;
        let bound = listener.local_address().ok_or("no address")?;
        self.listener = Some(listener);
        Ok(format!("verbs://{bound}"))
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        let mut id = CmId::new(&self.events, 0)?;
        id.resolve_address(None, address(url)?, RESOLVE)?;
        self.event()?;
        id.resolve_route(RESOLVE)?;
        self.event()?;
        let mut link = Link::new(id, self.bytes, POLLED)?;
        link._id.connect(&link.pair, &PrivateData::EMPTY, &terms())?;
        let CmEventKind::Answered = self.event()? else { return Err("the listener did not answer".into()) };
        link._id.establish(&mut link.pair, &terms())?;
        self.link = Some(link);
        Ok(())
    }

    fn subscribe_all(&mut self) -> Result<()> {
        Err("raw verbs are not measured as SUB".into())
    }

    fn await_links(&mut self, _links: usize) -> Result<()> {
        let CmEventKind::Request { id, initiator_depth, responder_resources } = self.event()? else {
            return Err("an event that is no request".into());
        };
        let mut link = Link::new(id, self.bytes, POLLED)?;
        let most = terms();
        let terms = Terms {
            initiator_depth: most.initiator_depth.min(initiator_depth),
            responder_resources: most.responder_resources.min(responder_resources),
            ..most
        };
        link._id.accept(&mut link.pair, &PrivateData::EMPTY, &terms)?;
        let CmEventKind::Established = self.event()? else {
            return Err("the connection does not stand".into());
        };
        self.link = Some(link);
        Ok(())
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        if self.kind != Kind::Push {
            return self.link()?.send(body, body.len());
        }
        self.outbox.extend_from_slice(body);
        if self.outbox.len() >= CHAIN * self.bytes || payload::number(body) == END {
            self.flush()?;
        }
        Ok(())
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let result = self.link()?.recv(read)?;
        if self.kind == Kind::Pull {
            self.untold += 1;
            if self.untold == CREDIT_EVERY {
                self.untold = 0;
                self.link()?.send(&[0; 8], 8)?;
            }
        }
        Ok(result)
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
    let mut socket = RawVerbs::<POLLED>::socket(&(), Kind::Pull, task)?;
    control.say("url", &socket.bind(&task.url)?)?;
    socket.await_links(1)?;
    let link = socket.link()?;
    let sources: Vec<Remote> = link.recv(|told| told.chunks_exact(REMOTE).map(decode).collect())?;
    if sources.is_empty() {
        return Err("the peer has nothing to READ".into());
    }
    control.ready()?;
    let mut tally = Tally::new(task.bytes, task.warm(), task.run());
    let start = Usage::now();
    let mut next = 0;
    let mut sender = PostSender::new(&mut link.pair, &mut link.chain);
    for _ in 0..READS {
        let target = sender.lend(link.pool.take(task.bytes).ok_or("no memory")?);
        sender.read(target, 0..task.bytes, sources[next % sources.len()], Mark { signal: true, ..MARK })?;
        next += 1;
    }
    drop(sender);
    while !tally.window.is_over() {
        let Some(target) = link.read.pop_front() else {
            link.wait()?;
            continue;
        };
        let mut frame = link.pair.reclaim(target).ok_or("a READ without a target")?;
        tally.take(&frame);
        // So that what the next READ does not write is seen.
        payload::write_number(&mut frame, END - 1);
        let mut sender = PostSender::new(&mut link.pair, &mut link.chain);
        let target = sender.lend(frame);
        sender.read(target, 0..task.bytes, sources[next % sources.len()], Mark { signal: true, ..MARK })?;
        next += 1;
    }
    let report = Report {
        count: tally.count,
        rate_per_s: tally.verdict()?,
        usage: Usage::now().since(start),
        ..Report::default()
    };
    link.send(&[0; 8], 8)?;
    control.conclude(&report)
}

/// PUSH of large messages: tells where they are, and sleeps until the peer has had enough.
fn be_read(task: &Task, control: &mut Control) -> Result<()> {
    let mut socket = RawVerbs::<false>::socket(&(), Kind::Push, task)?;
    socket.connect(&task.url)?;
    let link = socket.link()?;
    let mut pins: Vec<Pinned> = Vec::new();
    for body in payload::large_buffers(task.bytes) {
        let mut frame = link.pool.take(body.len()).ok_or("no memory")?;
        frame.copy_from_slice(body);
        pins.push(link.memory.pin(frame.freeze(), Reach::Peer).map_err(|_| "memory cannot be registered")?);
    }
    let told: Vec<u8> = pins.iter().flat_map(|pin| encode(pin.remote())).collect();
    link.send(&told, told.len())?;
    control.ready()?;
    let start = Usage::now();
    link.recv(drop_bytes)?;
    control.conclude(&Report { usage: Usage::now().since(start), ..Report::default() })
}

fn encode(remote: Remote) -> [u8; REMOTE] {
    let mut bytes = [0; REMOTE];
    bytes[..8].copy_from_slice(&remote.address.to_le_bytes());
    bytes[8..].copy_from_slice(&remote.key.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Remote {
    let (mut address, mut key) = ([0; 8], [0; 4]);
    address.copy_from_slice(&bytes[..8]);
    key.copy_from_slice(&bytes[8..]);
    Remote { address: u64::from_le_bytes(address), key: u32::from_le_bytes(key) }
}

fn terms() -> Terms {
    Terms {
        initiator_depth: 2 * READS as u8,
        responder_resources: 2 * READS as u8,
        retry_count: 7,
        receiver_not_ready_retries: 0,
        ack_timeout: None,
    }
}

fn address(url: &str) -> Result<SocketAddr> {
    Ok(url.strip_prefix("verbs://").ok_or("no verbs:// URL")?.parse()?)
}

/// Lets reads of a descriptor sleep: one system call for each event, which is the least.
fn block(fd: BorrowedFd<'_>) -> std::result::Result<(), Failure> {
    // SAFETY: no pointer is passed, and the descriptor is open.
    let result = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK)
    };
    if result == -1 { Err(Failure::new("fcntl", libc::EBADF)) } else { Ok(()) }
}
