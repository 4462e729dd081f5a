//! One connection: its socket, both halves of its stream, and one turn of each. Knows nothing of other links, opens or
//! timers.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendFlags, Shutdown};
use transport_core::{
    Completion, DownReason, Flags, Frame, Hello, Identity, LinkId, OpenId, Part, RefusedReason, SlabKey,
};

use crate::drain::Drain;
use crate::greeting::{Greeted, Greeting, Step};
use crate::incoming::{Buffers, Incoming, Stop};
use crate::limits::{GATHER_MAX, QUEUE_BYTES_LOW, QUEUE_BYTES_MAX};
use crate::outgoing::{Outgoing, SendBuffers};
use crate::socket::Connection;
use crate::unacknowledged::unacknowledged;
use crate::zmtp::Framing;

/// What the links of a driver share.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) epoll: OwnedFd,
    pub(crate) buffers: Buffers,
    pub(crate) send_buffers: SendBuffers,
    /// Bytes that links which are gone had copied into theirs.
    pub(crate) copied_by_gone: u64,
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Waits for the peer's greeting; the engine does not know of it.
    Greeting,
    /// Carries parts.
    Up,
    /// Was told to drain: writes what waits, half-closes, and drops what comes until nothing more does.
    Draining(Drain),
}

/// What a turn came to.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing more to do until something happens.
    Rest,
    /// There is more to do at once.
    Again,
    /// The caller's limit was reached within what has been read.
    Limit,
    /// Nothing more to do until something happens, or [`Link::look_pause`] has passed.
    Look,
    /// The peer's greeting is complete.
    Greeted(Box<Greeted>),
    /// The link is over.
    Ended(DownReason),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) fd: OwnedFd,
    pub(crate) open: OpenId,
    /// What it is called; given away with its greeting.
    pub(crate) peer: String,
    pub(crate) dialled: bool,
    pub(crate) state: State,
    /// When its greeting began, if that is timed.
    pub(crate) since: Option<Instant>,
    pub(crate) deadline: Option<Instant>,
    /// When a link that drains is to look next.
    pub(crate) look_at: Option<Instant>,
    /// Whether the driver's queue holds it.
    pub(crate) queued: bool,
    /// Whether its place there is before others, since it has read bytes left. It reads no more then before they had a turn.
    pub(crate) first: bool,
    /// Whether the driver's list of links to flush holds it.
    pub(crate) dirty: bool,
    /// The last poll that gave it a turn.
    pub(crate) served: u32,
    /// See [`Connection::must_be_quiet`].
    must_be_quiet: bool,
    /// Until it is over.
    greeting: Option<Box<Greeting>>,
    incoming: Incoming,
    outgoing: Outgoing,
    reported: u64,
    /// A part without grant is in front: reading on would help nobody.
    paused: bool,
    /// Epoll said so, or the last read found as much as it asked for.
    readable: bool,
    /// The system took less than it was offered: `EPOLLOUT` will tell.
    blocked: bool,
    /// What epoll tells of this link; nothing once it hung up, since that cannot be masked.
    interest: EventFlags,
    hung_up: bool,
    /// Writing failed. What the peer sent before may still be read.
    broken: Option<Errno>,
}

impl Link {
    pub(crate) fn new(
        connection: Connection,
        open: OpenId,
        dialled: bool,
        part_max: Option<u64>,
        low_mark: bool,
    ) -> Self {
        let Connection { fd, peer, must_be_quiet } = connection;
        Self {
            fd,
            open,
            peer,
            dialled,
            state: State::Greeting,
            since: None,
            deadline: None,
            look_at: None,
            queued: false,
            first: false,
            dirty: false,
            served: 0,
            must_be_quiet,
            greeting: None,
            incoming: Incoming::new(part_max),
            outgoing: Outgoing::new(if low_mark { QUEUE_BYTES_LOW } else { QUEUE_BYTES_MAX }),
            reported: 0,
            paused: false,
            readable: false,
            blocked: false,
            interest: EventFlags::IN,
            hung_up: false,
            broken: None,
        }
    }

    /// One that carries bytes without frames, and is up at once.
    pub(crate) fn raw(connection: Connection, open: OpenId, dialled: bool, low_mark: bool) -> Self {
        let mut link = Self::new(connection, open, dialled, None, low_mark);
        link.set_framing(Framing::Raw);
        link
    }

    fn set_framing(&mut self, framing: Framing) {
        self.incoming.set_framing(framing);
        self.outgoing.set_framing(framing);
    }

    /// Begins to say hello.
    pub(crate) fn greet(&mut self, hello: Hello, identity: &Identity) -> Result<(), Errno> {
        let (greeting, signature) = Greeting::new(hello, identity.socket_type, identity.routing_id.clone());
        self.greeting = Some(Box::new(greeting));
        self.say(&signature)
    }

    /// Says a piece of the greeting. The buffer of a new connection is all but empty, so this goes whole or not at all.
    fn say(&self, piece: &[u8]) -> Result<(), Errno> {
        match piece.len() {
            0 => Ok(()),
            len if net::send(&self.fd, piece, SendFlags::NOSIGNAL)? == len => Ok(()),
            _ => Err(Errno::NOBUFS),
        }
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        if self.state == State::Up { self.outgoing.room() } else { 0 }
    }

    /// Whether a part with these flags is taken.
    #[inline]
    pub(crate) fn takes(&self, flags: Flags) -> Result<(), RefusedReason> {
        match self.state {
            State::Up if self.outgoing.takes(flags) => Ok(()),
            State::Up => Err(RefusedReason::Full),
            _ => Err(RefusedReason::Closed),
        }
    }

    /// Takes a part if its body is inline; see [`Outgoing::push_inline`].
    #[inline]
    pub(crate) fn push_inline(&mut self, io: &mut Io, body: &Frame, flags: Flags) -> bool {
        self.outgoing.push_inline(&mut io.send_buffers, body, flags)
    }

    /// Takes a part.
    pub(crate) fn push(&mut self, io: &mut Io, part: Part) {
        self.outgoing.push(&mut io.send_buffers, part);
    }

    /// Whether the engine has something to hear of what was posted.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.outgoing.sent() > self.reported || self.outgoing.owes_writable() || self.broken.is_some()
    }

    /// Sets the grant. Returns whether there is something to do now.
    pub(crate) fn grant(&mut self, id: LinkId, io: &Io, parts: u64) -> bool {
        self.incoming.set_grant(parts);
        if !self.paused || parts == 0 || self.state != State::Up {
            return false;
        }
        self.paused = false;
        self.listen_again(id, io);
        true
    }

    fn listen_again(&mut self, id: LinkId, io: &Io) {
        if !self.interest.contains(EventFlags::IN) || self.hung_up {
            self.readable = true;
        }
        self.watch(id, io);
    }

    /// Writes until everything is written or the system takes no more.
    pub(crate) fn write(&mut self, id: LinkId, io: &mut Io) {
        if self.blocked || self.broken.is_some() {
            return;
        }
        while !self.outgoing.is_empty() {
            let (offered, result) = match self.outgoing.contiguous() {
                Some(bytes) => (bytes.len(), net::send(&self.fd, bytes, SendFlags::NOSIGNAL)),
                None => {
                    let mut slices = [IoSlice::new(&[]); GATHER_MAX];
                    let n = self.outgoing.gather(&mut slices);
                    let offered = slices[..n].iter().map(|slice| slice.len()).sum();
                    let mut control = SendAncillaryBuffer::default();
                    (offered, net::sendmsg(&self.fd, &slices[..n], &mut control, SendFlags::NOSIGNAL))
                }
            };
            match result {
                Ok(taken) => {
                    self.outgoing.advance(&mut io.send_buffers, taken);
                    if taken < offered {
                        self.blocked = true;
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    break;
                }
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        self.watch(id, io);
    }

    /// Tells epoll what matters now.
    fn watch(&mut self, id: LinkId, io: &Io) {
        let mut interest = self.interest & EventFlags::IN;
        if !self.paused {
            interest = EventFlags::IN;
        }
        if self.blocked {
            interest |= EventFlags::OUT;
        }
        if interest != self.interest && !self.hung_up {
            self.interest = interest;
            // Fails only without memory, and then the next poll that reads or writes finds out.
            let _ = epoll::modify(&io.epoll, &self.fd, token(id), interest);
        }
    }

    /// Takes epoll's word. Returns whether the link wants a turn.
    pub(crate) fn event(&mut self, id: LinkId, io: &mut Io, flags: EventFlags) -> bool {
        let over = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if self.blocked && (over || flags.contains(EventFlags::OUT)) {
            self.blocked = false;
            self.write(id, io);
        }
        if over || flags.contains(EventFlags::IN) {
            if !self.paused {
                self.readable = true;
                return true;
            }
            if over {
                // Epoll would say this for ever. What there is to read is read when there is a grant.
                self.forget(io);
                self.hung_up = true;
            } else {
                // Only now: many links get their grant before anything else arrives, and need no call at all.
                self.interest -= EventFlags::IN;
                let _ = epoll::modify(&io.epoll, &self.fd, token(id), self.interest);
            }
        }
        self.has_news() || matches!(self.state, State::Draining(_))
    }

    /// Takes the link out of epoll. Closing does so as well, but not while a forked child has the descriptor too.
    pub(crate) fn forget(&self, io: &Io) {
        if !self.hung_up {
            let _ = epoll::delete(&io.epoll, &self.fd);
        }
    }

    /// Reports what became of the parts posted.
    pub(crate) fn report(&mut self, id: LinkId, mut say: impl FnMut(Completion)) {
        if self.outgoing.sent() > self.reported {
            self.reported = self.outgoing.sent();
            say(Completion::Sent { link: id, through: self.reported });
        }
        if self.state == State::Up && self.outgoing.owes_writable() {
            self.outgoing.writable_said();
            say(Completion::Writable { link: id });
        }
    }

    /// Bytes of bodies that were copied into its send buffer.
    pub(crate) fn copied_bytes(&self) -> u64 {
        self.outgoing.copied_bytes()
    }

    /// Gives everything back. Returns the parts that nobody saw.
    pub(crate) fn end(&mut self, io: &mut Io) -> Vec<Part> {
        self.forget(io);
        self.incoming.abandon(&mut io.buffers);
        let unseen = self.outgoing.take_unseen(&mut io.send_buffers);
        io.copied_by_gone += self.outgoing.copied_bytes();
        unseen
    }

    /// Stops delivering, and has what waits written.
    pub(crate) fn drain(&mut self, id: LinkId, io: &mut Io) {
        self.state = State::Draining(Drain::new(self.must_be_quiet));
        self.incoming.abandon(&mut io.buffers);
        self.paused = false;
        self.listen_again(id, io);
        self.write(id, io);
    }

    /// Does what there is to do, with one read at most. Returns whether bytes arrived, and what came of it.
    #[inline]
    pub(crate) fn turn(
        &mut self,
        id: LinkId,
        io: &mut Io,
        limit: usize,
        out: &mut Vec<Completion>,
        guess: bool,
    ) -> (bool, Turn) {
        match self.state {
            State::Up => self.turn_up(id, io, limit, out, guess),
            State::Greeting => (false, self.turn_greeting(io)),
            State::Draining(drain) => {
                self.report(id, |completion| out.push(completion));
                (false, self.turn_draining(drain, io))
            }
        }
    }

    fn turn_up(
        &mut self,
        id: LinkId,
        io: &mut Io,
        limit: usize,
        out: &mut Vec<Completion>,
        guess: bool,
    ) -> (bool, Turn) {
        self.report(id, |completion| out.push(completion));
        let unread = self.readable || self.hung_up || self.broken.is_some();
        let was_first = std::mem::take(&mut self.first);
        let mut may_read = guess || unread;
        let mut got = false;
        loop {
            match self.incoming.deliver(&mut io.buffers, id, limit, out) {
                Ok(Stop::Hungry) => {}
                Ok(Stop::Budget) => return (got, Turn::Limit),
                Ok(Stop::Paused) => {
                    self.paused = true;
                    self.incoming.settle(&mut io.buffers);
                    return (got, Turn::Rest);
                }
                Err(reason) => return (got, Turn::Ended(reason)),
            }
            if was_first && unread {
                self.incoming.settle(&mut io.buffers);
                return (got, Turn::Again);
            }
            if !may_read {
                self.incoming.settle(&mut io.buffers);
                let more = got && (self.readable || self.hung_up || self.broken.is_some());
                return (got, if more { Turn::Again } else { Turn::Rest });
            }
            may_read = false;
            match self.read(io) {
                Ok((0, _)) => return (got, Turn::Ended(self.end_of_stream())),
                Ok((_, full)) => {
                    got = true;
                    self.readable = full;
                }
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    if let Some(error) = self.broken {
                        return (got, Turn::Ended(DownReason::Broken(error.raw_os_error())));
                    }
                }
                Err(error) => return (got, Turn::Ended(DownReason::Broken(error.raw_os_error()))),
            }
        }
    }

    #[inline]
    fn read(&mut self, io: &mut Io) -> Result<(usize, bool), Errno> {
        let fd = &self.fd;
        self.incoming.read_with(&mut io.buffers, |slices| {
            loop {
                let result = if let [one] = &mut *slices {
                    rustix::io::read(fd, &mut one[..])
                } else {
                    rustix::io::readv(fd, slices)
                };
                if result != Err(Errno::INTR) {
                    return result;
                }
            }
        })
    }

    /// What it means that the peer's stream ended here.
    fn end_of_stream(&self) -> DownReason {
        // Inside a frame nobody ends in good order: the peer's process was killed, or its host.
        if self.incoming.is_inside_frame() { DownReason::Broken(0) } else { DownReason::ClosedByPeer }
    }

    fn turn_greeting(&mut self, io: &mut Io) -> Turn {
        match self.read(io) {
            Ok((0, _)) => return Turn::Ended(DownReason::ClosedByPeer),
            Ok(_) => {}
            Err(Errno::AGAIN) => {
                self.readable = false;
                self.incoming.settle(&mut io.buffers);
                return Turn::Rest;
            }
            Err(error) => return Turn::Ended(DownReason::Broken(error.raw_os_error())),
        }
        let turn = self.hear();
        self.incoming.settle(&mut io.buffers);
        turn
    }

    /// What the greeting comes to with what has arrived.
    fn hear(&mut self) -> Turn {
        let Some(mut greeting) = self.greeting.take() else { return Turn::Rest };
        loop {
            match greeting.hear(self.incoming.waiting()) {
                Ok(Step::Wait) => break,
                Ok(Step::Say(piece)) => {
                    if let Err(error) = self.say(&piece) {
                        return Turn::Ended(DownReason::Broken(error.raw_os_error()));
                    }
                }
                Ok(Step::Done(greeted)) => {
                    self.incoming.skip(greeted.len);
                    self.set_framing(greeted.framing);
                    return Turn::Greeted(greeted);
                }
                Err(violation) => return Turn::Ended(violation.into()),
            }
        }
        self.greeting = Some(greeting);
        Turn::Rest
    }

    /// How long after [`Turn::Look`] it is time for [`Link::look_now`].
    pub(crate) fn look_pause(&self) -> Option<Duration> {
        match &self.state {
            State::Draining(drain) => Some(drain.pause()),
            _ => None,
        }
    }

    /// It is time: the next turn looks whether everything that was written has arrived.
    pub(crate) fn look_now(&mut self) {
        self.look_at = None;
        if let State::Draining(drain) = &mut self.state {
            drain.set_due();
        }
    }

    fn turn_draining(&mut self, mut drain: Drain, io: &mut Io) -> Turn {
        if let Some(error) = self.broken {
            return Turn::Ended(DownReason::Broken(error.raw_os_error()));
        }
        if !drain.shut && self.outgoing.is_empty() {
            if let Err(error) = net::shutdown(&self.fd, Shutdown::Write) {
                return Turn::Ended(DownReason::Broken(error.raw_os_error()));
            }
            drain.shut = true;
        }
        let mut more = false;
        if !drain.ended {
            // What arrives now is dropped, but must be read: closing over unread bytes sends a reset, and a reset
            // takes what the peer has not acknowledged yet with it.
            let mut scrap = io.buffers.take();
            let result = rustix::io::read(&self.fd, &mut scrap[..]);
            let all = scrap.len();
            io.buffers.give(scrap);
            match result {
                Ok(0) => {
                    drain.ended = true;
                    if !drain.shut {
                        // The end stays readable. Epoll would say so for ever, while only writing matters.
                        self.paused = true;
                    }
                }
                Ok(n) => {
                    drain.heard();
                    // Epoll tells nothing any more of a link that hung up.
                    more = n == all || self.hung_up;
                }
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => more = true,
                Err(error) => return Turn::Ended(DownReason::Broken(error.raw_os_error())),
            }
        }
        let over =
            !more && (drain.is_over() || (drain.is_due() && drain.look(unacknowledged(&self.fd) == Ok(0))));
        let turn = if over {
            Turn::Ended(DownReason::ClosedHere)
        } else if more {
            Turn::Again
        } else if drain.asks_for_look() {
            Turn::Look
        } else {
            Turn::Rest
        };
        self.state = State::Draining(drain);
        turn
    }
}

/// What epoll calls a link. The top bit of the index is free for opens; see the driver.
pub(crate) fn token(id: LinkId) -> EventData {
    EventData::new_u64(SlabKey::from(id).to_u64())
}
