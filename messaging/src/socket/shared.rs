//! The part of a socket that application and engine share: pattern and pipes under one short lock, and the inbox of
//! what the engine has to say. Drives nothing.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transport_core::{Deferral, Frame, Part, Slab, SlabKey};

use crate::engine::{Pacing, Shard, TaskKey, Waiters};
use crate::latest::Latest;
use crate::mark::Mark;
use crate::message::Message;
use crate::pattern::{Behaviour, NotReceived, NotSent, Pattern, PipeId, Pipes};
use crate::queue::{Reader, Writer};
use crate::session::Peer;
use crate::socket::monitor::{Event, EventKind, MonitorQueue};
use crate::socket::options::Options;
use crate::socket_type::SocketType;

/// One socket, as the engine knows it.
#[derive(Debug)]
pub(crate) struct SocketShared {
    pub(crate) kind: SocketType,
    pub(crate) options: Mutex<Options>,
    /// Held while options change, from the copy that is changed to the pipes that are told.
    pub(crate) changing: Mutex<()>,
    pub(crate) waiters: Waiters,
    /// Of the one waker that `wake_when_changed` registers.
    pub(crate) bell: TaskKey,
    /// OPEN, TERMINATED (calls fail, close is still owed) or CLOSED.
    pub(crate) life: AtomicU8,
    state: Mutex<SocketState>,
    inbox: Mutex<Vec<Activation>>,
    inbox_full: AtomicBool,
    monitored: AtomicBool,
    monitor: Mutex<Option<Arc<MonitorQueue>>>,
}

pub(crate) const OPEN: u8 = 0;
pub(crate) const TERMINATED: u8 = 1;
pub(crate) const CLOSED: u8 = 2;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Activation {
    Readable(PipeId),
    Writable(PipeId),
}

/// What the socket's lock guards.
#[derive(Debug)]
pub(crate) struct SocketState {
    pub(crate) pattern: Pattern,
    pub(crate) pipes: PipeTable,
    pub(crate) pacing: Pacing,
}

/// The application's ends of a socket's pipes.
#[derive(Debug)]
pub(crate) struct PipeTable {
    fronts: Slab<SlabKey, Front>,
    shard: Arc<Shard>,
    /// Pipes that were read to their end, to be detached when the pattern's call is over.
    ended: Vec<PipeId>,
    /// Conduits that the pattern has done with.
    dismissed: Vec<(SlabKey, Dismissal)>,
    bytes_written: usize,
    /// Whether every pipe written to is looked after by the guard.
    all_guarded: bool,
}

/// The application's end of one pipe.
#[derive(Debug)]
struct Front {
    out: Writer<Frame>,
    incoming: Reader<Frame>,
    conduit: SlabKey,
    send_mark: Mark,
    receive_mark: Mark,
    /// Bytes of the parts so far of a message that is weighed: written, and read.
    writing: u64,
    reading: u64,
    writes: Writes,
    /// In place of both queues, but for subscriptions: ZMQ_CONFLATE.
    latest: Option<Box<Latest>>,
}

/// How a pattern parts with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// It will not have this peer; its endpoint may dial again.
    Reject,
    /// It has said all there is to say: what was written goes out, and that is the end of it.
    Finish,
}

/// What becomes of messages written to a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    Queued,
    /// The same, by their bytes.
    Weighed,
    /// The newest takes the place of what is there.
    Conflated,
    /// Nobody will take them.
    Dropped,
}

/// The application's ends of a pipe that is not attached yet.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) out: Writer<Frame>,
    pub(crate) incoming: Reader<Frame>,
    pub(crate) latest: Option<Box<Latest>>,
}

impl SocketShared {
    pub(crate) fn new(kind: SocketType, pattern: Pattern, shard: Arc<Shard>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            options: Mutex::new(Options::default()),
            changing: Mutex::new(()),
            waiters: Waiters::default(),
            bell: TaskKey::new(),
            life: AtomicU8::new(OPEN),
            state: Mutex::new(SocketState {
                pattern,
                pipes: PipeTable {
                    fronts: Slab::new(),
                    shard,
                    ended: Vec::new(),
                    dismissed: Vec::new(),
                    bytes_written: 0,
                    all_guarded: true,
                },
                pacing: Pacing::new(),
            }),
            inbox: Mutex::new(Vec::new()),
            inbox_full: AtomicBool::new(false),
            monitored: AtomicBool::new(false),
            monitor: Mutex::new(None),
        })
    }

    /// The state, with everything the engine has said applied to it.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, SocketState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inbox_full.load(Ordering::Acquire) {
            self.take_inbox(&mut state);
        }
        state
    }

    #[cold]
    fn take_inbox(&self, state: &mut SocketState) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.inbox_full.store(false, Ordering::Relaxed);
        for activation in inbox.drain(..) {
            match activation {
                Activation::Readable(pipe) => state.pattern.readable(pipe),
                Activation::Writable(pipe) => state.pattern.writable(pipe),
            }
        }
    }

    /// Whether the engine has said something that the application has not seen.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.inbox_full.load(Ordering::Acquire)
    }

    /// Says that a pipe can be read or written again, and wakes whoever waits. Called by the engine.
    pub(crate) fn activate(&self, activation: Activation) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.push(activation);
        self.inbox_full.store(true, Ordering::Release);
        drop(inbox);
        self.waiters.wake_all();
    }

    pub(crate) fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn life(&self) -> u8 {
        self.life.load(Ordering::Acquire)
    }

    pub(crate) fn set_monitor(&self, queue: Option<Arc<MonitorQueue>>) {
        // Whoever reads the old one is woken after the lock.
        let _deferral = Deferral::begin();
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        self.monitored.store(queue.is_some(), Ordering::Relaxed);
        if let Some(before) = std::mem::replace(&mut *monitor, queue) {
            before.push(Event { endpoint: String::new(), peer: String::new(), kind: EventKind::Stopped });
        }
    }

    /// Records an event if anyone listens.
    pub(crate) fn emit(&self, endpoint: &str, kind: impl FnOnce() -> EventKind) {
        self.emit_of_peer(endpoint, "", kind);
    }

    /// Records an event of a link to the peer at that address.
    pub(crate) fn emit_of_peer(&self, endpoint: &str, peer: &str, kind: impl FnOnce() -> EventKind) {
        if self.monitored.load(Ordering::Relaxed) {
            // Under the lock, so that nothing follows the last event of `set_monitor`. Readers take no other lock.
            let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
            let event = Event { endpoint: endpoint.to_owned(), peer: peer.to_owned(), kind: kind() };
            if monitor.as_ref().is_some_and(|queue| !queue.push(event)) {
                // Its reader is gone.
                *monitor = None;
                self.monitored.store(false, Ordering::Relaxed);
            }
        }
    }
}

impl SocketState {
    /// Adds a pipe; its other ends belong to `conduit`.
    pub(crate) fn attach(
        &mut self,
        conduit: SlabKey,
        Ends { out, incoming, latest }: Ends,
        (send_mark, receive_mark): (Mark, Mark),
        peer: Option<&Peer>,
        everything: bool,
    ) -> PipeId {
        let mut front = Front {
            out,
            incoming,
            conduit,
            send_mark,
            receive_mark,
            writing: 0,
            reading: 0,
            writes: Writes::Queued,
            latest,
        };
        front.open();
        let pipe = PipeId(self.pipes.fronts.insert(front).to_u64());
        self.pattern.attached(&mut self.pipes, pipe, peer);
        if everything {
            self.pattern.subscribe_all(pipe);
        }
        self.settle();
        pipe
    }

    /// The peer of a dialling pipe is up.
    pub(crate) fn identified(&mut self, pipe: PipeId, peer: &Peer) {
        if let Some(front) = self.pipes.front(pipe) {
            // The peer before may have been sent away.
            front.open();
        }
        self.pattern.identified(&mut self.pipes, pipe, peer);
        self.settle();
    }

    /// The link of a pipe is gone for good: no more writes, and the pipe goes once it is read empty.
    pub(crate) fn link_ended(&mut self, pipe: PipeId) {
        self.pattern.write_closed(&mut self.pipes, pipe);
        let Some(front) = self.pipes.front(pipe) else { return };
        front.writes = Writes::Dropped;
        if !front.incoming.look() && !front.latest.as_ref().is_some_and(|latest| latest.has_part()) {
            self.pipes.ended.push(pipe);
        }
        self.settle();
    }

    /// Nothing more is to be written to a pipe; what arrives is still read.
    pub(crate) fn close_writing(&mut self, pipe: PipeId) {
        self.pattern.write_closed(&mut self.pipes, pipe);
        if let Some(front) = self.pipes.front(pipe) {
            front.writes = Writes::Dropped;
        }
        self.settle();
    }

    /// The application has no more use for a pipe: what it wrote still goes out, what it has not read is dropped.
    pub(crate) fn detach(&mut self, pipe: PipeId) {
        self.pattern.write_closed(&mut self.pipes, pipe);
        self.pipes.ended.push(pipe);
        self.settle();
    }

    #[inline]
    pub(crate) fn send(&mut self, message: &mut Message) -> Result<(), NotSent> {
        let sent = self.pattern.send(&mut self.pipes, message);
        self.settle();
        sent
    }

    #[inline]
    pub(crate) fn recv(&mut self, message: &mut Message) -> Result<(), NotReceived> {
        let received = self.pattern.recv(&mut self.pipes, message);
        self.settle();
        received
    }

    pub(crate) fn admits(&mut self, first: &Frame) -> Result<(), NotSent> {
        let admitted = self.pattern.admits(&mut self.pipes, first);
        self.settle();
        admitted
    }

    pub(crate) fn can_send(&mut self) -> bool {
        let can = self.pattern.can_send(&mut self.pipes);
        self.settle();
        can
    }

    pub(crate) fn can_recv(&mut self) -> bool {
        let can = self.pattern.can_recv(&mut self.pipes);
        self.settle();
        can
    }

    pub(crate) fn subscribe(&mut self, subscribe: bool, topic: &[u8]) -> bool {
        let done = if subscribe {
            self.pattern.subscribe(&mut self.pipes, topic)
        } else {
            self.pattern.unsubscribe(&mut self.pipes, topic)
        };
        self.settle();
        done
    }

    /// Bytes written since the last call, and whether the guard looks after all of them. 0 bytes: nothing written.
    #[inline]
    pub(crate) fn take_written(&mut self) -> (usize, bool) {
        let written = (self.pipes.bytes_written, self.pipes.all_guarded);
        self.pipes.bytes_written = 0;
        self.pipes.all_guarded = true;
        written
    }

    /// New marks for all pipes.
    pub(crate) fn set_marks(&mut self, send_hwm: u64, receive_hwm: u64) {
        for (_, front) in self.pipes.fronts.iter_mut() {
            front.send_mark = front.send_mark.changed(send_hwm);
            front.receive_mark = front.receive_mark.changed(receive_hwm);
        }
    }

    #[inline]
    fn settle(&mut self) {
        if !self.pipes.ended.is_empty() || !self.pipes.dismissed.is_empty() {
            self.settle_slowly();
        }
    }

    #[cold]
    fn settle_slowly(&mut self) {
        while let Some(pipe) = self.pipes.ended.pop() {
            if self.pipes.fronts.remove(SlabKey::from_u64(pipe.0)).is_some() {
                self.pattern.detached(&mut self.pipes, pipe);
            }
        }
        for (conduit, how) in std::mem::take(&mut self.pipes.dismissed) {
            self.pipes.shard.dismiss(conduit, how);
        }
    }
}

impl Front {
    /// Takes messages from here on.
    fn open(&mut self) {
        self.writes = match &self.latest {
            Some(_) => Writes::Conflated,
            None if self.send_mark.weighs() => Writes::Weighed,
            None => Writes::Queued,
        };
    }

    /// Whether a message that was read to its end makes the engine's end go on.
    #[cold]
    fn took_weighed(&mut self, part: &Part) -> bool {
        self.reading += part.body.len() as u64;
        if part.flags.more() {
            return false;
        }
        let weight = self.receive_mark.weight(std::mem::take(&mut self.reading));
        self.incoming.took_message_of(weight, self.receive_mark.max)
    }
}

impl PipeTable {
    /// To a pipe that does not just queue what it is given.
    #[cold]
    #[inline(never)]
    fn write_elsewhere(&mut self, pipe: PipeId, part: Part) {
        let Some(front) = self.fronts.find_mut(SlabKey::from_u64(pipe.0)) else { return };
        if front.writes == Writes::Dropped {
            return;
        }
        self.bytes_written += part.body.len() + 2;
        let Some(latest) = &mut front.latest else {
            let more = part.flags.more();
            front.writing += part.body.len() as u64;
            front.out.write(part.into_frame());
            if !more {
                front.out.end_message_of(front.send_mark.weight(std::mem::take(&mut front.writing)));
                self.all_guarded = false;
                if front.out.publish() {
                    self.shard.mark_dirty(front.conduit);
                }
            }
            return;
        };
        if latest.write(part) {
            self.all_guarded = false;
            self.shard.mark_dirty(front.conduit);
        }
    }

    fn dismiss(&mut self, pipe: PipeId, how: Dismissal) {
        if let Some(front) = self.front(pipe) {
            front.writes = Writes::Dropped;
            let conduit = front.conduit;
            self.dismissed.push((conduit, how));
        }
    }

    #[inline]
    fn front(&mut self, pipe: PipeId) -> Option<&mut Front> {
        self.fronts.find_mut(SlabKey::from_u64(pipe.0))
    }
}

impl Pipes for PipeTable {
    #[inline]
    fn can_write(&mut self, pipe: PipeId) -> bool {
        let Some(front) = self.front(pipe) else { return false };
        match front.writes {
            Writes::Queued | Writes::Weighed => {
                front.out.room(front.send_mark.max) > 0
                    || !front.out.sleep(|out| out.room(front.send_mark.max))
            }
            Writes::Conflated => true,
            Writes::Dropped => false,
        }
    }

    // Inlined whatever it costs: a part handed to a call lies on the stack once more, and is read back from there while
    // its stores are still on their way.
    #[inline(always)]
    fn write(&mut self, pipe: PipeId, part: Part) {
        let Some(front) = self.fronts.find_mut(SlabKey::from_u64(pipe.0)) else { return };
        // Subscriptions are queued all the same.
        if front.writes != Writes::Queued && !(part.flags.command() && front.writes != Writes::Dropped) {
            return self.write_elsewhere(pipe, part);
        }
        let (more, command) = (part.flags.more(), part.flags.command());
        self.bytes_written += part.body.len() + 2;
        front.out.write(part.into_frame());
        if more {
            return;
        }
        if !command {
            front.out.end_message();
        }
        let guarded = front.out.is_guarded();
        self.all_guarded &= guarded;
        let asleep = if guarded { front.out.publish_quietly() } else { front.out.publish() };
        if asleep {
            self.shard.mark_dirty(front.conduit);
        }
    }

    #[inline(always)]
    fn read(&mut self, pipe: PipeId) -> Option<Part> {
        let front = self.fronts.find_mut(SlabKey::from_u64(pipe.0))?;
        let Some(part) = front.incoming.read().map(Part::from_frame) else {
            if let Some(part) = front.latest.as_mut().and_then(|latest| latest.read()) {
                return Some(part);
            }
            if front.incoming.is_ended() {
                self.ended.push(pipe);
            }
            return None;
        };
        let freed = if front.receive_mark.weighs() {
            front.took_weighed(&part)
        } else {
            !part.flags.more() && front.incoming.took_message(front.receive_mark.max)
        };
        if freed {
            self.shard.has_room(front.conduit);
        }
        Some(part)
    }

    fn reject(&mut self, pipe: PipeId) {
        self.dismiss(pipe, Dismissal::Reject);
    }

    fn finish(&mut self, pipe: PipeId) {
        self.dismiss(pipe, Dismissal::Finish);
    }
}
