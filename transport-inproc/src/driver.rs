//! The driver: the links of one engine shard, what it owes its caller, and who must be told. Reads no clock.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::limits::COMMANDS_MAX;
use transport_core::{
    Armed, Close, Completion, DownReason, Driver, DriverEnv, Endpoint, Grant, LinkId, Open, OpenError,
    OpenId, Part, PeerInfo, Refused, RefusedReason, Role, Slab, Violation,
};

use crate::check;
use crate::mailbox::{Mail, Mailbox, NewLink};
use crate::pipe::{Joint, Tell};
use crate::table::{Party, Table};

#[derive(Debug)]
pub(crate) struct InprocDriver {
    table: Arc<Table>,
    mailbox: Arc<Mailbox>,
    opens: Slab<OpenId, OpenState>,
    links: Slab<LinkId, Link>,
    /// What `poll` says before anything else.
    events: VecDeque<Completion>,
    /// Links-to-be; they come up after `events`, so that Bound precedes Up.
    arriving: VecDeque<NewLink>,
    /// Links with something to do, each at most once.
    ready: VecDeque<LinkId>,
    /// Links with something to flush, each at most once.
    dirty: Vec<LinkId>,
    /// Links that drain until a time.
    timed: Vec<(Instant, LinkId)>,
    mail: Vec<Mail>,
}

#[derive(Debug)]
struct OpenState {
    endpoint: Endpoint,
    role: Role,
    part_max: usize,
}

#[derive(Debug)]
struct Link {
    joint: Joint,
    /// Posted and not flushed.
    outgoing: VecDeque<Part>,
    /// Taken from the lane and not delivered.
    incoming: VecDeque<Part>,
    grant: u64,
    delivered: u64,
    part_max: usize,
    posted: u64,
    flushed: u64,
    sent: u64,
    commands: u64,
    /// How far the peer lets us go, as last seen; refreshed only when there seems to be no room.
    allowed: u64,
    /// Room was 0, and Writable is owed.
    starved: bool,
    /// The peer puts nothing more into its lane.
    ended: bool,
    draining: bool,
    /// The last flush ended inside a message.
    cut: bool,
    is_ready: bool,
    is_dirty: bool,
}

impl Link {
    fn room(&self) -> u64 {
        if self.draining { 0 } else { self.joint.allowed().saturating_sub(self.posted) }
    }

    /// `room() > 0`, without touching what the peer writes as long as there is room by the last look.
    #[inline]
    fn has_room(&mut self) -> bool {
        if self.posted < self.allowed {
            return true;
        }
        self.allowed = self.joint.allowed();
        self.posted < self.allowed
    }

    /// How many parts the peer may ever have posted by our grant. Delivering a message leaves it as it is, delivering
    /// a command moves it on.
    fn promise(&self) -> u64 {
        self.delivered.saturating_add(self.grant)
    }
}

impl InprocDriver {
    pub(crate) fn new(env: DriverEnv) -> Self {
        Self {
            table: Table::of(env.context),
            mailbox: Mailbox::new(env.wake),
            opens: Slab::new(),
            links: Slab::new(),
            events: VecDeque::new(),
            arriving: VecDeque::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            timed: Vec::new(),
            mail: Vec::new(),
        }
    }

    /// Makes a pipe between an open of ours and another party, who may be in this driver as well.
    fn meet(&mut self, own: Party, peer: Party) {
        let ends = [&own, &peer].map(|party| (party.mailbox.clone(), party.identity.receive_hwm));
        let [here, there] = Joint::pair(ends);
        let for_peer = NewLink { open: peer.open, joint: there, hello: own.hello, identity: own.identity };
        let for_us = NewLink { open: own.open, joint: here, hello: peer.hello, identity: peer.identity };
        self.arriving.push_back(for_us);
        if Arc::ptr_eq(&peer.mailbox, &self.mailbox) {
            self.arriving.push_back(for_peer);
        } else {
            peer.mailbox.put(Mail::Peer(for_peer));
        }
    }

    fn read_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.mailbox.take(&mut mail);
        for mail in mail.drain(..) {
            match mail {
                Mail::Peer(new) => self.arriving.push_back(new),
                Mail::Touched(link) => self.make_ready(link),
            }
        }
        self.mail = mail;
    }

    fn make_ready(&mut self, link: LinkId) {
        if let Some(found) = self.links.find_mut(link)
            && !std::mem::replace(&mut found.is_ready, true)
        {
            self.ready.push_back(link);
        }
    }

    /// Tells the peer of `joint`; one that lives here is made ready instead.
    fn tell(&mut self, joint: &Joint, tell: Tell) {
        if let Some(here) = joint.tell(tell, &self.mailbox) {
            self.make_ready(here);
        }
    }

    fn come_up(&mut self, new: NewLink, out: &mut Vec<Completion>) {
        let NewLink { open, joint, hello, identity } = new;
        let Some(state) = self.opens.find(open) else {
            // The open was closed while the peer was on its way; to the peer this is a link that ends at once.
            self.hang_up(&joint);
            return;
        };
        let (part_max, address) = (state.part_max, state.endpoint.to_string());
        if state.role == Role::Connect {
            self.opens.remove(open);
        }
        let link = self.links.insert(Link {
            joint: joint.clone(),
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            grant: 0,
            delivered: 0,
            part_max,
            posted: 0,
            flushed: 0,
            sent: 0,
            commands: 0,
            allowed: 0,
            starved: false,
            ended: false,
            draining: false,
            cut: false,
            is_ready: false,
            is_dirty: false,
        });
        joint.name(link);
        // The peer may have filled its lane, or gone, before it could tell us.
        self.make_ready(link);
        out.push(Completion::Up {
            link,
            open,
            peer: Box::new(PeerInfo {
                hello,
                address,
                identity: Some(identity),
                fd: -1,
                hello_took: Duration::ZERO,
            }),
        });
    }

    /// Leaves a pipe for good.
    fn hang_up(&mut self, joint: &Joint) {
        let ended = joint.end();
        // Abandoning is always told, so one word is enough.
        let _ = ended;
        let tell = joint.abandon();
        self.tell(joint, tell);
    }

    /// Takes a link out of the table, so that its id is stale from now on, and says the rest of what it has to say.
    fn take_down(&mut self, link: LinkId, reason: DownReason, say: &mut impl FnMut(Completion)) {
        let Some(gone) = self.links.remove(link) else { return };
        self.timed.retain(|(_, timed)| *timed != link);
        self.hang_up(&gone.joint);
        if gone.flushed > gone.sent {
            say(Completion::Sent { link, through: gone.flushed });
        }
        // Only what was never flushed, only messages, and only whole ones: the first part is one's beginning unless
        // an earlier flush took that away.
        let mut message = Vec::new();
        let mut inside = gone.cut;
        for part in gone.outgoing {
            if part.flags.command() {
                continue;
            }
            let more = part.flags.more();
            if !inside {
                message.push(part);
            }
            if !more {
                inside = false;
                message.drain(..).for_each(|part| say(Completion::Returned { link, part }));
            }
        }
        say(Completion::Down { link, reason });
    }

    /// Takes a link down and keeps what it says for the next poll.
    fn take_down_later(&mut self, link: LinkId, reason: DownReason) {
        let mut said = Vec::new();
        self.take_down(link, reason, &mut |completion| said.push(completion));
        self.events.extend(said);
    }

    /// Does everything that is due for one link. False if the budget ended it.
    fn serve(&mut self, link: LinkId, out: &mut Vec<Completion>, budget: usize) -> bool {
        loop {
            let Some(found) = self.links.find_mut(link) else { return true };
            found.is_ready = false;
            if found.flushed > found.sent {
                found.sent = found.flushed;
                out.push(Completion::Sent { link, through: found.sent });
            }
            if found.draining {
                if found.joint.abandoned() {
                    self.take_down(link, DownReason::ClosedHere, &mut |said| out.push(said));
                }
                return true;
            }
            if found.starved && found.has_room() {
                found.starved = false;
                out.push(Completion::Writable { link });
            }
            let mut tell = Tell::Nobody;
            let promise = found.promise();
            let looked = found.incoming.is_empty();
            if looked && !found.ended {
                let seen = found.joint.take(&mut found.incoming, promise);
                (found.ended, tell) = (seen.ended, seen.tell);
            }
            let delivered = found.deliver(link, out, budget);
            if found.promise() > promise && found.joint.allow(found.promise()) == Tell::Peer {
                tell = Tell::Peer;
            }
            let joint = (tell == Tell::Peer).then(|| found.joint.clone());
            if let Some(joint) = joint {
                self.tell(&joint, tell);
            }
            match delivered {
                Delivered::Budget => return false,
                Delivered::NoGrant => return true,
                Delivered::TooLarge => {
                    self.take_down(link, Violation::TooLarge.into(), &mut |said| out.push(said));
                    return true;
                }
                // Everything is read, so the end that was seen together with it is due.
                Delivered::All if self.links.find(link).is_some_and(|found| found.ended) => {
                    self.take_down(link, DownReason::ClosedByPeer, &mut |said| out.push(said));
                    return true;
                }
                Delivered::All if looked => return true,
                // These were left over from an earlier look, and the peer tells us of what came since only once.
                Delivered::All => {}
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, link)) = self.timed.iter().find(|(until, _)| *until <= now).copied() {
            self.take_down_later(link, DownReason::TimedOut);
        }
    }
}

enum Delivered {
    All,
    Budget,
    NoGrant,
    TooLarge,
}

impl Link {
    fn deliver(&mut self, link: LinkId, out: &mut Vec<Completion>, budget: usize) -> Delivered {
        // Looked at first and moved afterwards: a part that is moved once from queue to list is twice as fast as one
        // that is popped and pushed.
        let room = budget.saturating_sub(out.len());
        let (mut count, mut why) = (0, Delivered::All);
        for part in &self.incoming {
            if count == room {
                why = Delivered::Budget;
                break;
            }
            let command = part.flags.command();
            if !command && self.grant == 0 {
                why = Delivered::NoGrant;
                break;
            }
            if part.body.len() > self.part_max {
                why = Delivered::TooLarge;
                break;
            }
            count += 1;
            if command {
                self.joint.count_command();
            } else {
                self.grant -= 1;
            }
        }
        self.delivered += count as u64;
        out.extend(self.incoming.drain(..count).map(|part| Completion::Received { link, part }));
        why
    }
}

impl Driver for InprocDriver {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        let Open { endpoint, role, hello, identity, limits, .. } = request;
        check(&endpoint)?;
        let part_max = limits.part_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        let open = self.opens.insert(OpenState { endpoint: endpoint.clone(), role, part_max });
        let own = Party { mailbox: self.mailbox.clone(), open, hello, identity };
        match role {
            Role::Bind => {
                let Some(waiting) = self.table.listen(endpoint.address(), own.clone()) else {
                    self.opens.remove(open);
                    return Err(OpenError::AddressInUse(endpoint));
                };
                self.events.push_back(Completion::Bound { open, endpoint });
                waiting.into_iter().for_each(|peer| self.meet(own.clone(), peer));
            }
            Role::Connect => {
                if let Some(peer) = self.table.find_or_wait(endpoint.address(), own.clone()) {
                    self.meet(own, peer);
                }
            }
        }
        Ok(open)
    }

    fn close_open(&mut self, open: OpenId) {
        if let Some(state) = self.opens.remove(open) {
            self.table.leave(state.endpoint.address(), &self.mailbox, open);
            self.events
                .retain(|event| !matches!(event, Completion::Bound { open: bound, .. } if *bound == open));
        }
    }

    fn close_link(&mut self, link: LinkId, how: Close) {
        let Some(found) = self.links.find_mut(link) else { return };
        let Close::Drain { until } = how else {
            return self.take_down_later(link, DownReason::ClosedHere);
        };
        if let Some(until) = until {
            match self.timed.iter_mut().find(|(_, timed)| *timed == link) {
                Some((earlier, _)) => *earlier = until.min(*earlier),
                None => self.timed.push((until, link)),
            }
        }
        if std::mem::replace(&mut found.draining, true) {
            return;
        }
        found.incoming.clear();
        let joint = found.joint.clone();
        self.flush_link(link);
        let tell = joint.end();
        self.tell(&joint, tell);
        let tell = joint.abandon();
        self.tell(&joint, tell);
        // The peer may be gone already.
        self.make_ready(link);
    }

    fn room(&self, link: LinkId) -> usize {
        self.links.find(link).map_or(0, |found| found.room() as usize)
    }

    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        let Some(found) = self.links.find_mut(link).filter(|found| !found.draining) else {
            return Err(Refused { part, reason: RefusedReason::Closed });
        };
        let command = part.flags.command();
        if !found.has_room() {
            let waiting = || found.commands - found.joint.commands_taken();
            if !command || waiting() >= COMMANDS_MAX as u64 {
                return Err(Refused { part, reason: RefusedReason::Full });
            }
        }
        found.outgoing.push_back(part);
        found.posted += 1;
        found.commands += command as u64;
        // Room that is 0 from here on is made known by Writable, whether anybody is refused or not.
        found.starved |= !found.has_room();
        if !std::mem::replace(&mut found.is_dirty, true) {
            self.dirty.push(link);
        }
        Ok(())
    }

    fn flush(&mut self) {
        while let Some(link) = self.dirty.pop() {
            self.flush_link(link);
        }
    }

    fn grant(&mut self, link: LinkId, grant: Grant) {
        if let Some(found) = self.links.find_mut(link) {
            found.grant = match grant {
                Grant::Limited(parts) => parts,
                // Never used up.
                Grant::Unlimited => u64::MAX,
            };
            let tell = found.joint.allow(found.promise());
            let joint = (tell == Tell::Peer).then(|| found.joint.clone());
            if !found.incoming.is_empty() {
                self.make_ready(link);
            }
            if let Some(joint) = joint {
                self.tell(&joint, tell);
            }
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        let budget = out.len() + budget;
        self.read_mail();
        if !self.timed.is_empty() {
            self.expire(now);
        }
        while out.len() < budget {
            if let Some(event) = self.events.pop_front() {
                out.push(event);
            } else if let Some(new) = self.arriving.pop_front() {
                self.come_up(new, out);
            } else if let Some(link) = self.ready.pop_front() {
                if !self.serve(link, out, budget) {
                    self.make_ready(link);
                }
            } else {
                break;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timed.iter().map(|(until, _)| *until).min()
    }

    fn arm(&mut self) -> Armed {
        let idle = self.events.is_empty() && self.arriving.is_empty() && self.ready.is_empty();
        if idle && self.mailbox.arm() { Armed::Ready } else { Armed::Busy }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl InprocDriver {
    fn flush_link(&mut self, link: LinkId) {
        let Some(found) = self.links.find_mut(link) else { return };
        found.is_dirty = false;
        if found.outgoing.is_empty() {
            return;
        }
        // Commands may stand anywhere; a look at the last part is enough but for those.
        let last = found.outgoing.iter().rev().find(|part| !part.flags.command());
        let cut = last.map_or(found.cut, |part| part.flags.more());
        let tell = found.joint.put(&mut found.outgoing, found.starved);
        if found.outgoing.is_empty() {
            (found.flushed, found.cut) = (found.posted, cut);
        }
        let joint = (tell == Tell::Peer).then(|| found.joint.clone());
        if let Some(joint) = joint {
            self.tell(&joint, tell);
        }
        // For Sent, and for a Writable that the peer has made possible before it could know that we starve.
        self.make_ready(link);
    }
}

impl Drop for InprocDriver {
    fn drop(&mut self) {
        for open in self.opens.keys() {
            self.close_open(open);
        }
        self.read_mail();
        for new in std::mem::take(&mut self.arriving) {
            self.hang_up(&new.joint);
        }
        for link in self.links.keys() {
            self.take_down(link, DownReason::ClosedHere, &mut drop);
        }
    }
}
