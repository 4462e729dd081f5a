//! One link of the fabric: the packet protocol's conversation over one queue pair. Posts work and digests what
//! completes; neither dials nor listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::limits::FRAME_MAX;
use transport_core::{
    Completion, DownReason, Flags, Frame, FrameMut, FramePool, INLINE_MAX, Key, LinkId, LinkLimits,
    MemoryDomain, OpenId, Part, PeerInfo, Role, Violation,
};

use super::super::kit::{Allowance, News, Outbox};
use super::super::limits::{
    CONTROL_BUFFERS, CONTROL_QUOTA, DATA_BUFFERS, EAGER_MAX, PINNED_MAX, READ_BOUNCE, READ_CHUNK, READS_MAX,
    RENDEZVOUS_MIN,
};
use super::device::{DeviceKey, Net, QpKey, ReadAt, Status, Work};
use super::packet::{
    EAGER_RECORD, FRAGMENT_RECORD, Greeting, HEADER, Header, RENDEZVOUS_RECORD, Record, Writer,
};

const ECONNRESET: i32 = 104;
const ENOMEM: i32 = 12;

/// What a link works with: its device, and the pools of its driver.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) net: &'a mut Net,
    pub(super) device: DeviceKey,
    pub(super) domain: &'a Arc<dyn MemoryDomain>,
    pub(super) bounce: &'a FramePool,
    pub(super) receive_pool: &'a FramePool,
    pub(super) news: &'a mut News,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The other side has not answered yet, or does not know that we have.
    Asking {
        until: Option<Instant>,
    },
    Up,
    Draining {
        until: Option<Instant>,
    },
    /// In error; waits for the device to give everything back.
    Dying(DownReason),
}

#[derive(Debug)]
pub(super) struct Link {
    id: LinkId,
    pub(super) open: OpenId,
    pub(super) role: Role,
    pub(super) qp: QpKey,
    pub(super) peer: String,
    pub(super) limits: LinkLimits,
    pub(super) phase: Phase,
    /// What the peer said, from when it is known.
    pub(super) greeting: Option<Greeting>,

    pub(super) outbox: Outbox,
    /// A part too long for a packet and without a key, and how much of it has gone.
    fragmenting: Option<(Part, usize)>,
    data_sent: u32,
    data_granted: u32,
    data_posted: usize,
    control_sent: u32,
    control_acknowledged: u32,
    control_posted: usize,
    /// Rendezvous that the peer has not finished reading, in order.
    pinned: VecDeque<Pinned>,
    fins_seen: u32,
    sent_reported: u64,
    spare: Vec<FrameMut>,

    receives_posted: usize,
    inbox: VecDeque<Incoming>,
    assembling: Option<(Flags, FrameMut, usize)>,
    returned: u32,
    returned_told: u32,
    control_seen: u32,
    control_told: u32,
    rendezvous_seen: u32,
    /// Which of the rendezvous from `fins` on are read.
    finished: VecDeque<bool>,
    fins: u32,
    fins_told: u32,
    reads_posted: usize,
    pub(super) allowance: Allowance,

    /// Somebody above knows of it.
    pub(super) was_up: bool,
    goodbye_sent: bool,
    goodbye_acknowledged: bool,
    peer_goodbye: bool,
    owes_goodbye_seen: bool,
    /// The peer's goodbye has been reached in the inbox: nothing more comes.
    peer_done: bool,
    disconnected: bool,
}

#[derive(Debug)]
struct Pinned {
    /// How many parts had been taken when this one was, itself included.
    ordinal: u64,
    key: Key,
    /// Keeps the memory until the peer's FIN.
    _frame: Frame,
}

#[derive(Debug)]
enum Incoming {
    Part(Part),
    Rendezvous(Rendezvous),
    /// Everything of one data packet stands before this: its buffer counts as free again.
    Credit,
    Goodbye,
}

#[derive(Debug)]
struct Rendezvous {
    id: u32,
    flags: Flags,
    len: usize,
    address: u64,
    remote: u64,
    state: Reading,
}

#[derive(Debug)]
enum Reading {
    Waiting,
    /// The target is with the device, unless it cannot be and the READ goes through a bounce slot.
    Busy {
        read: usize,
        asked: usize,
        target: Option<FrameMut>,
    },
    Done(Frame),
}

impl Link {
    pub(super) fn new(
        id: LinkId,
        open: OpenId,
        role: Role,
        qp: QpKey,
        peer: String,
        limits: LinkLimits,
    ) -> Self {
        Self {
            id,
            open,
            role,
            qp,
            peer,
            limits,
            phase: Phase::Asking { until: None },
            greeting: None,
            outbox: Outbox::default(),
            fragmenting: None,
            data_sent: 0,
            data_granted: 0,
            data_posted: 0,
            control_sent: 0,
            control_acknowledged: 0,
            control_posted: 0,
            pinned: VecDeque::new(),
            fins_seen: 0,
            sent_reported: 0,
            spare: Vec::new(),
            receives_posted: 0,
            inbox: VecDeque::new(),
            assembling: None,
            returned: 0,
            returned_told: 0,
            control_seen: 0,
            control_told: 0,
            rendezvous_seen: 0,
            finished: VecDeque::new(),
            fins: 0,
            fins_told: 0,
            reads_posted: 0,
            allowance: Allowance::NONE,
            was_up: false,
            goodbye_sent: false,
            goodbye_acknowledged: false,
            peer_goodbye: false,
            owes_goodbye_seen: false,
            peer_done: false,
            disconnected: false,
        }
    }

    /// Fills the receive queue, which comes before any connecting. `None` when there is no memory for it.
    pub(super) fn post_receives(&mut self, desk: &mut Desk<'_>) -> Option<()> {
        for _ in 0..DATA_BUFFERS + CONTROL_BUFFERS {
            let buffer = desk.bounce.take(EAGER_MAX)?;
            desk.net.post_receive(self.qp, buffer);
            self.receives_posted += 1;
        }
        Some(())
    }

    pub(super) fn meet(&mut self, greeting: Greeting) {
        // A packet may have come before the greeting was looked at, and have said more.
        self.raise_credit(greeting.data_buffers.into());
        self.greeting = Some(greeting);
    }

    fn raise_credit(&mut self, granted: u32) {
        if (granted.wrapping_sub(self.data_granted) as i32) > 0 {
            self.data_granted = granted;
        }
    }

    pub(super) fn come_up(&mut self, news: &mut News) {
        let Some(greeting) = self.greeting.filter(|_| matches!(self.phase, Phase::Asking { .. })) else {
            return;
        };
        self.phase = Phase::Up;
        self.was_up = true;
        let peer = PeerInfo {
            hello: greeting.hello,
            address: self.peer.clone(),
            identity: None,
            fd: -1,
            hello_took: Duration::ZERO,
        };
        news.say(Completion::Up { link: self.id, open: self.open, peer: Box::new(peer) });
    }

    fn draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// Puts the link on its way out. What it posted comes back first.
    pub(super) fn die(&mut self, reason: DownReason, net: &mut Net) {
        if !matches!(self.phase, Phase::Dying(_)) {
            self.phase = Phase::Dying(reason);
            net.disconnect(self.qp);
        }
    }

    /// The device forgot everything that was posted.
    pub(super) fn lose_device(&mut self, errno: i32) {
        if !matches!(self.phase, Phase::Dying(_)) {
            self.phase = Phase::Dying(DownReason::Broken(errno));
        }
        (self.data_posted, self.control_posted) = (0, 0);
        (self.receives_posted, self.reads_posted) = (0, 0);
    }

    /// Whether nothing of this link is with the device any more.
    pub(super) fn is_drained(&self) -> bool {
        self.data_posted + self.control_posted + self.receives_posted + self.reads_posted == 0
    }

    /// Last words. Only now may frames that the peer was to read be let go: its key is dead.
    pub(super) fn bury(mut self, reason: DownReason, desk: &mut Desk<'_>) {
        for pinned in self.pinned.drain(..) {
            desk.net.conceal(desk.device, pinned.key);
        }
        desk.net.destroy(self.qp);
        self.outbox.give_back(self.id, desk.news);
        desk.news.say(Completion::Down { link: self.id, reason });
    }

    // Completions

    pub(super) fn completed(&mut self, status: Status, work: Work, desk: &mut Desk<'_>) {
        match work {
            Work::Send { control, buffer } => {
                if control {
                    self.control_posted -= 1
                } else {
                    self.data_posted -= 1
                }
                self.spare.push(buffer);
            }
            Work::Receive { buffer, len } => {
                self.receives_posted -= 1;
                if status == Status::Success && !matches!(self.phase, Phase::Dying(_)) {
                    // The first packet says as much as the connection manager's word, and may be earlier.
                    self.come_up(desk.news);
                    if let Err(violation) = self.digest(&buffer[..len], desk) {
                        self.die(violation, desk.net);
                    } else {
                        desk.net.post_receive(self.qp, buffer);
                        self.receives_posted += 1;
                    }
                }
            }
            Work::Read { id, buffer } => {
                self.reads_posted -= 1;
                if status == Status::Success {
                    self.read_done(id, buffer, desk);
                }
            }
        }
        match status {
            Status::Success => {}
            // After a goodbye, a queue pair that breaks is one that the peer has disconnected.
            _ if self.peer_goodbye || self.goodbye_sent => self.disconnected = true,
            status => self.die(DownReason::Broken(status.errno()), desk.net),
        }
    }

    fn digest(&mut self, mut bytes: &[u8], desk: &mut Desk<'_>) -> Result<(), DownReason> {
        let header = Header::decode(&mut bytes)?;
        // Counters only grow, and never beyond what was sent: a peer that says otherwise is broken or worse.
        let fins = header.fins.wrapping_sub(self.fins_seen) as usize;
        let controls = header.control_seen.wrapping_sub(self.control_acknowledged);
        let outstanding = self.control_sent.wrapping_sub(self.control_acknowledged);
        if fins > self.pinned.len() || controls > outstanding {
            return Err(Violation::BadFrame.into());
        }
        for pinned in self.pinned.drain(..fins) {
            desk.net.conceal(desk.device, pinned.key);
        }
        self.fins_seen = header.fins;
        self.control_acknowledged = header.control_seen;
        self.raise_credit(header.granted);
        if header.control {
            self.control_seen = self.control_seen.wrapping_add(1);
        }
        for _ in 0..header.records {
            let record = Record::decode(&mut bytes)?;
            self.take_in(record, desk.receive_pool)?;
        }
        if !header.control {
            self.inbox.push_back(Incoming::Credit);
        }
        if header.goodbye && !self.peer_goodbye {
            (self.peer_goodbye, self.owes_goodbye_seen) = (true, true);
            self.inbox.push_back(Incoming::Goodbye);
        }
        self.goodbye_acknowledged |= header.goodbye_seen;
        Ok(())
    }

    fn take_in(&mut self, record: Record<'_>, pool: &FramePool) -> Result<(), DownReason> {
        let checked = |len: u64| {
            let max = self.limits.part_max.unwrap_or(FRAME_MAX).min(FRAME_MAX);
            usize::try_from(len).ok().filter(|_| len <= max).ok_or(Violation::TooLarge)
        };
        let no_memory = DownReason::Broken(ENOMEM);
        if self.assembling.is_some() && !matches!(record, Record::Fragment { .. }) {
            return Err(Violation::BadFrame.into());
        }
        match record {
            Record::Eager { flags, body } => {
                let len = checked(body.len() as u64)?;
                let body = if len <= INLINE_MAX {
                    Frame::copy_from_slice(body)
                } else {
                    // Out of the bounce slot, which is never lent, into one that the application may keep.
                    let mut frame = pool.take_or_own(len).ok_or(no_memory)?;
                    frame.copy_from_slice(body);
                    frame.freeze()
                };
                self.inbox.push_back(Incoming::Part(Part { body, flags }));
            }
            Record::Fragment { flags, total, bytes } => {
                let total = checked(total)?;
                let (_, frame, read) = match &mut self.assembling {
                    Some(assembling) => assembling,
                    none => none.insert((flags, pool.take_or_own(total).ok_or(no_memory)?, 0)),
                };
                let place = frame.get_mut(*read..*read + bytes.len()).ok_or(Violation::BadFrame)?;
                place.copy_from_slice(bytes);
                *read += bytes.len();
                if *read == total
                    && let Some((flags, frame, _)) = self.assembling.take()
                {
                    self.inbox.push_back(Incoming::Part(Part { body: frame.freeze(), flags }));
                }
            }
            Record::Rendezvous { flags, len, address, remote } => {
                let (len, id) = (checked(len)?, self.rendezvous_seen);
                self.rendezvous_seen = self.rendezvous_seen.wrapping_add(1);
                self.finished.push_back(false);
                let state = Reading::Waiting;
                self.inbox.push_back(Incoming::Rendezvous(Rendezvous {
                    id,
                    flags,
                    len,
                    address,
                    remote,
                    state,
                }));
            }
        }
        Ok(())
    }

    fn finish(&mut self, id: u32) {
        if let Some(place) = self.finished.get_mut(id.wrapping_sub(self.fins) as usize) {
            *place = true;
        }
        while self.finished.front() == Some(&true) {
            self.finished.pop_front();
            self.fins = self.fins.wrapping_add(1);
        }
    }

    // Reading

    /// Starts what READs are granted. RTS allocates nothing; this does.
    fn start_reads(&mut self, desk: &mut Desk<'_>) -> Result<(), DownReason> {
        let mut parts = 0;
        for at in 0..self.inbox.len() {
            if self.reads_posted >= READS_MAX {
                break;
            }
            match &self.inbox[at] {
                Incoming::Part(part) => parts += usize::from(!part.flags.command()),
                Incoming::Rendezvous(it) => {
                    parts += usize::from(!it.flags.command());
                    if !self.allowance.covers(parts) {
                        break;
                    }
                    if matches!(it.state, Reading::Waiting) {
                        self.start_read(at, desk)?;
                    }
                }
                Incoming::Credit | Incoming::Goodbye => {}
            }
        }
        Ok(())
    }

    fn start_read(&mut self, at: usize, desk: &mut Desk<'_>) -> Result<(), DownReason> {
        let Incoming::Rendezvous(it) = &mut self.inbox[at] else { return Ok(()) };
        let target = desk.receive_pool.take_or_own(it.len).ok_or(DownReason::Broken(ENOMEM))?;
        if target.key(desk.domain).is_some() {
            desk.net.count.direct_parts += 1;
        }
        it.state = Reading::Busy { read: 0, asked: 0, target: Some(target) };
        Self::read_on(self.qp, it, &mut self.reads_posted, desk)
    }

    /// Asks for the next chunk, straight into the target if the device may write there.
    fn read_on(
        qp: QpKey,
        it: &mut Rendezvous,
        reads_posted: &mut usize,
        desk: &mut Desk<'_>,
    ) -> Result<(), DownReason> {
        let Reading::Busy { read, asked, target } = &mut it.state else { return Ok(()) };
        let direct = target.take_if(|target| target.key(desk.domain).is_some());
        let (buffer, at, most) = match direct {
            Some(target) => (target, *read, READ_CHUNK),
            // The driver's own, never lent to applications, so two ends with spent pools still get on.
            None => (desk.bounce.take(READ_BOUNCE).ok_or(DownReason::Broken(ENOMEM))?, 0, READ_BOUNCE),
        };
        *asked = most.min(it.len - *read);
        let address = it.address.wrapping_add(*read as u64);
        let ask = ReadAt { id: it.id, at, len: *asked, address, remote: it.remote };
        desk.net.post_read(qp, buffer, ask);
        *reads_posted += 1;
        Ok(())
    }

    fn read_done(&mut self, id: u32, buffer: FrameMut, desk: &mut Desk<'_>) {
        let draining = self.draining();
        let found = self.inbox.iter_mut().find_map(|incoming| match incoming {
            Incoming::Rendezvous(it) if it.id == id => Some(it),
            _ => None,
        });
        let Some(it) = found else { return };
        let Reading::Busy { read, asked, target } = &mut it.state else { return };
        match target {
            Some(target) => {
                target[*read..*read + *asked].copy_from_slice(&buffer[..*asked]);
                desk.net.count.bounced_bytes += *asked as u64;
            }
            None => *target = Some(buffer),
        }
        *read += *asked;
        if *read < it.len && !draining {
            if let Err(reason) = Self::read_on(self.qp, it, &mut self.reads_posted, desk) {
                self.die(reason, desk.net);
            }
            return;
        }
        let frame = target.take().map(FrameMut::freeze).unwrap_or_default();
        it.state = Reading::Done(frame);
        self.finish(id);
    }

    /// Says what has come in, as far as grant and budget go. Returns whether it stopped for want of budget.
    pub(super) fn deliver(&mut self, desk: &mut Desk<'_>, limit: usize) -> bool {
        let draining = self.draining();
        while let Some(first) = self.inbox.front() {
            let flags = match first {
                Incoming::Part(part) => Some(part.flags),
                Incoming::Rendezvous(Rendezvous { state: Reading::Busy { .. }, .. }) => break,
                Incoming::Rendezvous(Rendezvous { state: Reading::Waiting, .. }) if !draining => break,
                Incoming::Rendezvous(it) => Some(it.flags),
                Incoming::Credit | Incoming::Goodbye => None,
            };
            if let Some(flags) = flags.filter(|_| !draining) {
                if !flags.command() && self.allowance.spent() {
                    break;
                }
                if desk.news.len() >= limit {
                    return true;
                }
                if !flags.command() {
                    self.allowance.spend();
                }
            }
            let part = match self.inbox.pop_front() {
                Some(Incoming::Part(part)) => part,
                Some(Incoming::Rendezvous(it)) => match it.state {
                    Reading::Done(body) => Part { body, flags: it.flags },
                    _ => {
                        // Draining: not worth reading, but the peer wants its frame back.
                        self.finish(it.id);
                        continue;
                    }
                },
                Some(Incoming::Credit) => {
                    self.returned = self.returned.wrapping_add(1);
                    continue;
                }
                Some(Incoming::Goodbye) => {
                    self.peer_done = true;
                    continue;
                }
                None => break,
            };
            if !draining {
                desk.news.say(Completion::Received { link: self.id, part });
            }
        }
        if !draining && let Err(reason) = self.start_reads(desk) {
            self.die(reason, desk.net);
        }
        false
    }

    // Sending

    /// Sends what was released as far as credit goes, then what the peer must know in any case.
    pub(super) fn pump(&mut self, desk: &mut Desk<'_>) {
        while self.may_send_data(desk.net) {
            let Some(mut buffer) = self.spare.pop().or_else(|| desk.bounce.take(EAGER_MAX)) else { break };
            let mut writer = Writer::new(&mut buffer);
            self.pack(&mut writer, desk);
            let (len, records) = (writer.len, writer.records);
            if records == 0 {
                self.spare.push(buffer);
                break;
            }
            self.header(false, records).encode(&mut buffer);
            self.data_sent = self.data_sent.wrapping_add(1);
            self.data_posted += 1;
            desk.net.post_send(self.qp, false, buffer, len);
        }
        self.send_control(desk);
    }

    fn may_send_data(&self, net: &Net) -> bool {
        let something = self.fragmenting.is_some() || self.outbox.front().is_some();
        let credit = (self.data_granted.wrapping_sub(self.data_sent) as i32) > 0 || net.faults.ignore_credits;
        let listening = !self.peer_goodbye && !self.disconnected;
        something && credit && listening && self.data_posted < DATA_BUFFERS
    }

    /// A header with everything that is to be told by now.
    fn header(&mut self, control: bool, records: u16) -> Header {
        self.returned_told = self.returned;
        self.control_told = self.control_seen;
        self.fins_told = self.fins;
        let goodbye_seen = std::mem::take(&mut self.owes_goodbye_seen);
        let (control_seen, fins) = (self.control_seen, self.fins);
        let granted = self.returned.wrapping_add(DATA_BUFFERS as u32);
        Header { control, goodbye: false, goodbye_seen, records, granted, control_seen, fins }
    }

    /// Packs everything that is queued: many small parts share one packet.
    fn pack(&mut self, writer: &mut Writer<'_>, desk: &mut Desk<'_>) {
        const EMPTY: usize = EAGER_MAX - HEADER;
        loop {
            let space = writer.space();
            if let Some((part, gone)) = &mut self.fragmenting {
                let some = (part.body.len() - *gone).min(space.saturating_sub(FRAGMENT_RECORD));
                if some == 0 {
                    return;
                }
                writer.fragment(part.flags, part.body.len() as u64, &part.body[*gone..*gone + some]);
                *gone += some;
                if *gone == part.body.len() {
                    self.fragmenting = None;
                }
                continue;
            }
            let Some(part) = self.outbox.front() else { return };
            let (len, flags) = (part.body.len(), part.flags);
            let key = if len >= RENDEZVOUS_MIN { part.body.key(desk.domain) } else { None };
            if let Some(key) = key {
                if space < RENDEZVOUS_RECORD || self.pinned.len() == PINNED_MAX {
                    return;
                }
                let Some(part) = self.outbox.take() else { return };
                desk.net.expose(desk.device, key, &part.body);
                let remote = if desk.net.faults.wrong_keys { key.remote + 2 } else { key.remote };
                writer.rendezvous(flags, len as u64, key.address, remote);
                let ordinal = self.outbox.taken();
                self.pinned.push_back(Pinned { ordinal, key, _frame: part.body });
                continue;
            }
            if len + EAGER_RECORD > space {
                if len + EAGER_RECORD <= EMPTY || space <= FRAGMENT_RECORD {
                    return;
                }
                self.fragmenting = self.outbox.take().map(|part| (part, 0));
            } else if let Some(part) = self.outbox.take() {
                writer.eager(flags, &part.body);
            }
            if len >= RENDEZVOUS_MIN {
                desk.net.count.copied_bytes += len as u64;
            }
        }
    }

    /// Control packets have a quota of their own, so that credit and FINs always get through; one buffer beyond it
    /// is for acknowledging the peer's, without which two ends with spent quotas would wait for each other.
    fn send_control(&mut self, desk: &mut Desk<'_>) {
        let goodbye = self.draining()
            && !self.goodbye_sent
            && self.fragmenting.is_none()
            && self.outbox.is_empty()
            && self.pinned.is_empty();
        let credit_due = self.returned.wrapping_sub(self.returned_told) as usize >= DATA_BUFFERS / 2;
        let needed = credit_due || self.fins != self.fins_told || goodbye || self.owes_goodbye_seen;
        let acknowledge = self.control_seen.wrapping_sub(self.control_told) as usize >= CONTROL_QUOTA / 2;
        let buffers =
            self.greeting.map_or(CONTROL_BUFFERS, |it| CONTROL_BUFFERS.min(it.control_buffers.into()));
        let outstanding = self.control_sent.wrapping_sub(self.control_acknowledged) as usize;
        let quota = if acknowledge { buffers } else { buffers - 1 };
        let posted = self.control_posted == CONTROL_BUFFERS;
        if !(needed || acknowledge) || outstanding >= quota || posted || self.disconnected {
            return;
        }
        let Some(mut buffer) = self.spare.pop().or_else(|| desk.bounce.take(EAGER_MAX)) else { return };
        let header = Header { goodbye, ..self.header(true, 0) };
        header.encode(&mut buffer);
        self.goodbye_sent |= goodbye;
        self.control_sent = self.control_sent.wrapping_add(1);
        self.control_posted += 1;
        desk.net.post_send(self.qp, true, buffer, HEADER);
    }

    /// Says how far the device is done, and whether there is room again.
    pub(super) fn report(&mut self, desk: &mut Desk<'_>) {
        let sent = match (&self.pinned.front(), &self.fragmenting) {
            (Some(first), _) => first.ordinal - 1,
            (None, Some(_)) => self.outbox.taken() - 1,
            (None, None) => self.outbox.taken(),
        };
        if sent > self.sent_reported {
            self.sent_reported = sent;
            desk.news.say(Completion::Sent { link: self.id, through: sent });
        }
        if self.phase == Phase::Up && self.outbox.settle_writable() {
            desk.news.say(Completion::Writable { link: self.id });
        }
    }

    pub(super) fn peer_left(&mut self) {
        self.disconnected = true;
    }

    pub(super) fn has_lost_peer(&self) -> bool {
        self.disconnected
    }

    /// Decides whether the link is at its end.
    pub(super) fn judge(&mut self, now: Instant, net: &mut Net) {
        let reason = match self.phase {
            Phase::Dying(_) | Phase::Asking { .. } => None,
            Phase::Draining { until } => {
                let said = self.goodbye_sent && (self.goodbye_acknowledged || self.disconnected);
                let late = until.is_some_and(|until| now >= until);
                match () {
                    () if said => Some(DownReason::ClosedHere),
                    () if self.disconnected && self.peer_goodbye => Some(DownReason::ClosedByPeer),
                    () if self.disconnected => Some(DownReason::Broken(ECONNRESET)),
                    () => late.then_some(DownReason::TimedOut),
                }
            }
            // After a goodbye the inbox is still the application's, at its own pace.
            Phase::Up if self.peer_goodbye => {
                (self.disconnected && self.peer_done).then_some(DownReason::ClosedByPeer)
            }
            Phase::Up => self.disconnected.then_some(DownReason::Broken(ECONNRESET)),
        };
        if let Some(reason) = reason {
            self.die(reason, net);
        }
    }
}
