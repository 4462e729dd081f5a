//! The engine's ends of one pipe, with the link and session that the pipe has at the moment. Posts nothing itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use transport_core::{DownReason, Flags, Frame, LinkId, Part, SlabKey};

use crate::latest::Latest;
use crate::limits::PARTS_MAX;
use crate::mark::Mark;
use crate::pattern::PipeId;
use crate::queue::{Reader, Writer, queue};
use crate::session::Session;
use crate::socket::shared::{Activation, Ends, SocketShared};
use crate::socket_type::SocketType;

/// The engine's ends of one pipe, and the link and session that it currently has.
pub(super) struct Conduit {
    pub(super) socket: Arc<SocketShared>,
    pub(super) pipe: Option<PipeId>,
    pub(super) endpoint: SlabKey,
    pub(super) url: Box<str>,
    pub(super) dialling: bool,
    /// What arrives goes into `incoming`.
    queues: bool,
    pub(super) link: Option<(usize, LinkId)>,
    pub(super) session: Option<Session>,
    pub(super) ready: bool,
    /// Data parts need no work of the session.
    pub(super) passes: bool,
    /// The link has no way to the peer: what is written for it goes nowhere.
    pub(super) mute: bool,
    pub(super) out: Reader<Frame>,
    pub(super) incoming: Writer<Frame>,
    /// In place of both queues, but for subscriptions: ZMQ_CONFLATE.
    latest: Option<Box<Latest>>,
    /// The application's ends, until a peer is known.
    pub(super) fronts: Option<Ends>,
    pub(super) send_mark: Mark,
    pub(super) receive_mark: Mark,
    /// Bytes of the parts so far of a message that is weighed on its way out.
    reading: u64,
    /// Bytes of the heaviest part that has come, where they are weighed.
    pub(super) heaviest: u64,
    /// Parts to post before those in the pipe: refused, or returned by a link that broke.
    pub(super) held: VecDeque<Part>,
    pub(super) returned: Vec<Part>,
    pub(super) commands: VecDeque<Part>,
    /// The last part posted has more behind it.
    pub(super) posting: bool,
    /// A STREAM was told that this connection came, and is to hear that it went.
    told: bool,
    pub(super) unfinished: Vec<Part>,
    pub(super) granted: u64,
    pub(super) unlimited: bool,
    pub(super) gap: bool,
    pub(super) touched: bool,
    /// The session was given a command, and may have something to say.
    pub(super) talk: bool,
    pub(super) closing: Option<Closing>,
    /// Why we ended the link ourselves, for the monitor.
    pub(super) reason: Option<DownReason>,
    pub(super) timer: Option<Instant>,
    /// The link's descriptor and the peer's address, for the monitor.
    pub(super) fd: i32,
    pub(super) peer: Box<str>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Closing {
    pub(super) until: Option<Instant>,
    pub(super) draining: bool,
}

impl std::fmt::Debug for Conduit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conduit({} {:?} ready {})", self.url, self.link, self.ready)
    }
}

impl Conduit {
    pub(super) fn new(
        socket: Arc<SocketShared>,
        endpoint: SlabKey,
        url: &str,
        dialling: bool,
        (send_mark, receive_mark): (Mark, Mark),
    ) -> Self {
        let (to_engine, out) = queue();
        let (incoming, from_engine) = queue();
        let conflates = socket.kind.conflates() && socket.options().conflate;
        let (latest, theirs) = conflates.then(Latest::pair).unzip();
        let (latest, theirs) = (latest.map(Box::new), theirs.map(Box::new));
        // What is overwritten needs no mark.
        let receive_mark = if latest.is_some() { Mark::messages(0) } else { receive_mark };
        let queues = socket.kind.receives() && latest.is_none() && !receive_mark.weighs();
        Self {
            socket,
            pipe: None,
            endpoint,
            url: url.into(),
            dialling,
            queues,
            link: None,
            session: None,
            ready: false,
            passes: false,
            mute: false,
            out,
            incoming,
            latest,
            fronts: Some(Ends { out: to_engine, incoming: from_engine, latest: theirs }),
            send_mark,
            receive_mark,
            reading: 0,
            heaviest: 0,
            held: VecDeque::new(),
            returned: Vec::new(),
            commands: VecDeque::new(),
            posting: false,
            told: false,
            unfinished: Vec::new(),
            granted: 0,
            unlimited: false,
            gap: false,
            touched: false,
            talk: false,
            closing: None,
            reason: None,
            timer: None,
            fd: -1,
            peer: Box::default(),
        }
    }

    /// Marks that the socket has now.
    pub(super) fn set_marks(&mut self, send_hwm: u64, receive_hwm: u64) {
        self.send_mark = self.send_mark.changed(send_hwm);
        if self.latest.is_none() {
            self.receive_mark = self.receive_mark.changed(receive_hwm);
        }
    }

    /// Something is missing before the next part.
    pub(super) fn lost_some(&mut self) {
        self.unfinished.clear();
        if let Some(latest) = &mut self.latest {
            latest.forget_unfinished();
        }
        self.gap = true;
    }

    /// Puts a part into the pipe, whole messages at a time. `false`: more parts than a message may have.
    #[inline]
    pub(super) fn deliver(&mut self, part: &mut Part) -> bool {
        if self.closing.is_some() || self.pipe.is_none() || !self.queues {
            return self.deliver_elsewhere(part);
        }
        if std::mem::take(&mut self.gap) {
            part.flags = part.flags.with(transport_core::Flags::GAP);
        }
        if part.flags.more() {
            self.unfinished.push(part.take());
            return self.unfinished.len() <= PARTS_MAX;
        }
        if !self.unfinished.is_empty() {
            for part in self.unfinished.drain(..) {
                self.incoming.write(part.into_frame());
            }
        }
        self.incoming.write(part.take_frame());
        self.incoming.end_message();
        true
    }

    /// What does not go into the queue.
    #[cold]
    fn deliver_elsewhere(&mut self, part: &mut Part) -> bool {
        // Data for a type that never receives is dropped: nobody would ever take it from the pipe.
        let receives = self.closing.is_none() && self.socket.kind.receives();
        let Some(pipe) = self.pipe.filter(|_| receives) else { return true };
        if std::mem::take(&mut self.gap) {
            part.flags = part.flags.with(transport_core::Flags::GAP);
        }
        let Some(latest) = &mut self.latest else { return self.deliver_weighed(part) };
        if latest.write(part.take()) {
            self.socket.activate(Activation::Readable(pipe));
        }
        latest.unfinished() <= PARTS_MAX
    }

    /// Into the queue, by its bytes.
    fn deliver_weighed(&mut self, part: &mut Part) -> bool {
        let more = part.flags.more();
        self.heaviest = self.heaviest.max(part.body.len() as u64);
        self.unfinished.push(part.take());
        if more {
            return self.unfinished.len() <= PARTS_MAX;
        }
        let bytes = self.unfinished.iter().map(|part| part.body.len() as u64).sum();
        for part in self.unfinished.drain(..) {
            self.incoming.write(part.into_frame());
        }
        self.incoming.end_message_of(self.receive_mark.weight(bytes));
        true
    }

    /// Counts a part as taken by the engine. Whether the sender waits for room and has it now.
    #[inline]
    fn took(&mut self, flags: Flags, len: usize) -> bool {
        if flags.command() {
            return false;
        }
        if self.send_mark.weighs() {
            self.reading += len as u64;
            if flags.more() {
                return false;
            }
            let weight = self.send_mark.weight(std::mem::take(&mut self.reading));
            return self.out.took_message_of(weight, self.send_mark.max);
        }
        !flags.more() && self.out.took_message(self.send_mark.max)
    }

    /// The next part as the application wrote it. Sets `freed` when the sender waits for room and has it now.
    #[inline]
    fn next_written(&mut self, freed: &mut bool) -> Option<Part> {
        let Some(part) = self.out.read().map(Part::from_frame) else {
            return self.latest.as_mut().and_then(|latest| latest.read());
        };
        *freed |= self.took(part.flags, part.body.len());
        Some(part)
    }

    /// What a SUB or XSUB wrote for a peer that has gone goes with it, as libzmq's hiccup does: its subscriptions will all
    /// be said again to the next one.
    pub(super) fn drop_output(&mut self) {
        self.held.clear();
        while let Some(part) = self.out.read_awake().map(Part::from_frame) {
            // Nobody waits for room: a SUB sends nothing, and an XSUB drops what finds none.
            self.took(part.flags, part.body.len());
        }
    }

    /// A STREAM receives an empty piece when a connection comes and when it goes.
    pub(super) fn tell_of_connection(&mut self, came: bool) {
        if self.socket.kind != SocketType::Stream || !self.socket.options().stream_notify {
            return;
        }
        if came {
            // Connections that come and go must not fill what nobody reads. Of each pair both are told or none.
            self.told = self.incoming.room(self.receive_mark.max) > 0;
        }
        if !self.told {
            return;
        }
        self.told = came;
        self.deliver(&mut Part::last(Frame::EMPTY));
        if self.incoming.publish()
            && let Some(pipe) = self.pipe
        {
            self.socket.activate(Activation::Readable(pipe));
        }
    }

    /// An XPUB receives what its peers subscribe to.
    pub(super) fn tell_of_subscription(&self) {
        if self.socket.kind == SocketType::Xpub
            && let Some(pipe) = self.pipe
        {
            self.socket.activate(Activation::Readable(pipe));
        }
    }

    /// The next part for the link where it lies in the pipe, if the link may have it as it is and by reference.
    #[inline]
    pub(super) fn peek_out(&mut self) -> Option<(&Frame, Flags)> {
        if !self.passes || !self.held.is_empty() {
            return None;
        }
        let frame = self.out.peek()?;
        let flags = Flags::of_frame(frame);
        (!flags.command()).then_some((frame, flags))
    }

    /// The link has what `peek_out` showed. Whether the sender waits for room and has it now.
    #[inline]
    pub(super) fn skip_out(&mut self, flags: Flags, len: usize) -> bool {
        self.out.skip();
        self.took(flags, len)
    }

    /// The next part for the link, in its wire form. Sets `freed` when the sender waits for room and has it now.
    #[inline]
    pub(super) fn next_out(&mut self, freed: &mut bool) -> Option<Part> {
        if let Some(part) = self.held.pop_front() {
            return Some(part);
        }
        loop {
            let part = self.next_written(freed)?;
            if self.passes && !part.flags.command() {
                return Some(part);
            }
            if let Some(part) = self.session.as_mut().and_then(|session| session.encode(part)) {
                return Some(part);
            }
        }
    }

    pub(super) fn has_output(&mut self) -> bool {
        !self.held.is_empty()
            || !self.commands.is_empty()
            || self.out.look()
            || self.latest.as_ref().is_some_and(|latest| latest.has_part())
    }

    /// The link is gone; what it never saw goes first on the next one, but never the tail of a torn message. Whether the sender
    /// waits for room and has it now.
    pub(super) fn link_lost(&mut self) -> bool {
        self.link = None;
        if let Some(closing) = &mut self.closing {
            // It was the link that drained; what came back goes by the next one.
            closing.draining = false;
        }
        // Whether the beginning of the next message in the pipe is gone.
        let mut torn = false;
        let begins = |held: &VecDeque<Part>| held.back().is_some_and(|part| part.flags.more());
        if self.posting {
            match self.held.iter().position(|part| !part.flags.more()) {
                Some(end) => drop(self.held.drain(..=end)),
                None => {
                    self.held.clear();
                    torn = true;
                }
            }
        }
        // What a cipher has made belongs to the session that is gone.
        if self.passes {
            for part in self.returned.drain(..).rev() {
                if !part.flags.command() {
                    self.held.push_front(part);
                }
            }
        } else {
            torn |= begins(&self.held);
            self.held.clear();
        }
        self.returned.clear();
        if let Some(latest) = &mut self.latest {
            latest.forget_unfinished();
            if latest.has_newer() {
                torn |= begins(&self.held);
                self.held.clear();
            } else if let Some(end) = self.held.iter().rev().skip(1).position(|part| !part.flags.more()) {
                // Of what comes back, the newest.
                self.held.drain(..self.held.len() - 1 - end);
            }
        }
        self.commands.clear();
        self.unfinished.clear();
        self.session = None;
        self.ready = false;
        self.passes = false;
        self.posting = false;
        self.granted = 0;
        self.unlimited = false;
        self.timer = None;
        // Messages are published whole, so the rest of it is there.
        let mut freed = false;
        while torn && let Some(part) = self.next_written(&mut freed) {
            torn = part.flags.more();
        }
        freed
    }
}
