//! The driver: opens, links and their timers, on any [`Fabric`]. Knows no wire format; the packet protocol's
//! machine does that, one for each link.
//!
//! ```text
//! mod      opens, links, the poll that feeds them
//! link     one link: a connection and the machine on it
//! device   what links of one device share: packet buffers and the shared receive queue
//! detour   parts whose memory cannot be registered: READ by the piece into packet buffers, and copied
//! connect  how a link comes up: names, addresses, requests, answers
//! ```

mod connect;
mod detour;
mod device;
mod link;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use hosts::Names;
use packet_protocol::{Stock, Stop};
use transport_core::{
    Armed, Close, Completion, DownReason, Driver, DriverEnv, Endpoint, FramePool, Grant, LinkId, Open,
    OpenError, OpenId, Part, Refused, RefusedReason, Slab,
};

use crate::fabric::{Cause, Completed, ConnectionId, DeviceId, Event, Fabric, ListenerId, Status, Work};
use crate::limits::{COMPLETIONS_PER_POLL, EVENTS_EVERY, PACKET_POOL};
use connect::Opened;
use device::Device;
use link::{Link, Receives, State};

/// Who a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// A dial that has no device yet.
    Open(OpenId),
    Link(LinkId),
}

/// What a deadline belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due(Instant, LinkId);

/// The driver on a fabric.
pub fn driver<F: Fabric + 'static>(fabric: F, env: DriverEnv) -> Box<dyn Driver> {
    Box::new(RdmaDriver::new(fabric, env))
}

/// A driver on a fabric.
#[derive(Debug)]
struct RdmaDriver<F: Fabric> {
    fabric: F,
    env: DriverEnv,
    stock: Stock,
    packets: FramePool,
    devices: Vec<Device>,
    opens: Slab<OpenId, Opened<F::Options>>,
    links: Slab<LinkId, Link>,
    /// By the connection's place.
    owners: Vec<Option<(ConnectionId, Owner)>>,
    listeners: Vec<(ListenerId, OpenId)>,
    names: Option<Names>,
    /// What is to be said before anything of a link.
    news: VecDeque<Completion>,
    /// Links with something to do.
    queue: VecDeque<LinkId>,
    /// Links with something to flush.
    dirty: Vec<LinkId>,
    timers: BinaryHeap<Reverse<Due>>,
    /// Kept between polls, so that a warm poll allocates nothing.
    completed: Vec<Completed>,
    /// Opens and links that are neither up nor gone: what happens to them is told by events.
    unsettled: usize,
    /// Binds whose listener went with its device.
    deaf: usize,
    slept: bool,
    polls: u32,
    /// Of the last poll.
    now: Option<Instant>,
}

impl<F: Fabric> RdmaDriver<F> {
    /// One with nothing open.
    fn new(fabric: F, env: DriverEnv) -> Self {
        Self {
            fabric,
            stock: Stock::new(env.receive_pool.clone()),
            env,
            packets: FramePool::new(PACKET_POOL),
            devices: Vec::new(),
            opens: Slab::new(),
            links: Slab::new(),
            owners: Vec::new(),
            listeners: Vec::new(),
            names: None,
            news: VecDeque::new(),
            queue: VecDeque::new(),
            dirty: Vec::new(),
            timers: BinaryHeap::new(),
            completed: Vec::with_capacity(2 * COMPLETIONS_PER_POLL),
            unsettled: 0,
            deaf: 0,
            slept: true,
            polls: 0,
            now: None,
        }
    }

    // ---- who is who ----

    fn own(&mut self, connection: ConnectionId, owner: Owner) {
        let at = connection.index();
        if self.owners.len() <= at {
            self.owners.resize(at + 1, None);
        }
        self.owners[at] = Some((connection, owner));
    }

    fn disown(&mut self, connection: ConnectionId) {
        if let Some(place) = self.owners.get_mut(connection.index())
            && place.is_some_and(|(known, _)| known == connection)
        {
            *place = None;
        }
    }

    fn owner(&self, connection: ConnectionId) -> Option<Owner> {
        let (known, owner) = (*self.owners.get(connection.index())?)?;
        (known == connection).then_some(owner)
    }

    fn link_of(&self, connection: ConnectionId) -> Option<LinkId> {
        match self.owner(connection)? {
            Owner::Link(link) => Some(link),
            Owner::Open(_) => None,
        }
    }

    fn device(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.id == id)
    }

    fn enqueue(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id)
            && !link.queued
        {
            link.queued = true;
            self.queue.push_back(id);
        }
    }

    fn set_deadline(&mut self, id: LinkId, deadline: Option<Instant>) {
        let Some(link) = self.links.find_mut(id) else { return };
        link.deadline = deadline;
        if let Some(at) = deadline {
            self.timers.push(Reverse(Due(at, id)));
        }
    }

    // ---- what happened ----

    fn take_events(&mut self) {
        while let Some(event) = self.fabric.next_event() {
            match event {
                Event::Request {
                    listener, connection, device, peer, private, responder_resources, ..
                } => {
                    self.answer(listener, connection, device, peer, &private, responder_resources);
                }
                Event::Resolved { connection, device } => self.resolved(connection, device),
                Event::Established { connection, private, .. } => self.established(connection, &private),
                Event::Rejected { connection, rejection, private } => {
                    self.rejected(connection, rejection, &private);
                }
                Event::Unreachable { connection, failure } => self.unreachable(connection, &failure),
                Event::Disconnected { connection, cause } => {
                    let reason = match cause {
                        Cause::Peer => DownReason::ClosedByPeer,
                        Cause::AddressChanged => DownReason::Broken(libc::EADDRNOTAVAIL),
                        Cause::QueueFailed => DownReason::Broken(libc::EIO),
                    };
                    self.lose_connection(connection, reason);
                }
                Event::Drained { connection } => {
                    if let Some(id) = self.link_of(connection) {
                        self.bury(id);
                    }
                }
                Event::ListenerLost { listener } => self.lose_listener(listener),
                Event::DeviceLost { device } => self.lose_device(device, libc::ENODEV),
                Event::CompletionsLost { device } => self.lose_device(device, libc::EIO),
                Event::SharedReceivesLow { .. } => {}
            }
        }
    }

    fn lose_connection(&mut self, connection: ConnectionId, reason: DownReason) {
        let Some(id) = self.link_of(connection) else { return };
        let Some(link) = self.links.find_mut(id) else { return };
        match (&link.state, &mut link.machine) {
            (State::Coming, _) => self.refuse(id, reason, "the peer left before the connection stood", 0),
            (_, Some(machine)) => {
                machine.disconnected(reason);
                self.enqueue(id);
            }
            _ => {}
        }
    }

    /// Nothing more comes from a device, so that its links end at once.
    fn lose_device(&mut self, id: DeviceId, errno: i32) {
        for key in self.links.keys() {
            let Some(link) = self.links.find_mut(key).filter(|link| link.device == id) else { continue };
            match (&link.state, &mut link.machine) {
                (State::Coming, _) => {
                    self.refuse(key, DownReason::Broken(errno), "the device is gone", errno);
                }
                (state, machine) => {
                    if let (State::Up, Some(machine)) = (state, machine) {
                        machine.abort(DownReason::Broken(errno));
                        link.state = State::Ending(machine.ending().unwrap_or(DownReason::Broken(errno)));
                        self.unsettled += 1;
                    }
                    self.bury(key);
                }
            }
        }
        self.fabric.close_device(id);
        self.devices.retain(|device| device.id != id);
    }

    /// Whether there were any.
    fn take_completions(&mut self) -> bool {
        let mut completed = std::mem::take(&mut self.completed);
        let some = self.fabric.poll(&mut completed, COMPLETIONS_PER_POLL) > 0;
        for Completed { connection, status, work } in completed.drain(..) {
            let Some(id) = self.link_of(connection) else { continue };
            let is_packet = matches!(work, Work::Receive { .. }) && status == Status::Success;
            if is_packet && self.links.find(id).is_some_and(|link| link.machine.is_none()) {
                // The answer to our request came before the packet, and is told by an event.
                self.take_events();
            }
            let Some(link) = self.links.find_mut(id) else { continue };
            let Some(device) = self.devices.iter_mut().find(|device| device.id == link.device) else {
                continue;
            };
            link.completed(status, work, &mut self.fabric, device, &mut self.stock);
            let coming = link.state == State::Coming;
            if coming && status != Status::Success && status != Status::Flushed {
                let reason = DownReason::Broken(status.errno());
                self.refuse(id, reason, "the queue pair failed", status.errno());
                continue;
            }
            if coming && is_packet {
                // Means the same as the event that the connection stands, which may come later.
                self.come_up(id);
            }
            self.enqueue(id);
        }
        self.completed = completed;
        self.wake_waiting();
        some
    }

    /// Links that found no buffer to send from go on when there are some.
    fn wake_waiting(&mut self) {
        for at in 0..self.devices.len() {
            for id in self.devices[at].take_waiting() {
                if let Some(link) = self.links.find_mut(id) {
                    link.waits = false;
                }
                self.enqueue(id);
            }
        }
    }

    // ---- links ----

    /// Gives a link its turn. `true`: the caller's limit stopped it.
    fn tend(&mut self, id: LinkId, out: &mut Vec<Completion>, limit: usize) -> bool {
        let Some(link) = self.links.find_mut(id) else { return false };
        let stopped = link.deliver(id, &mut self.stock, out, limit) == Some(Stop::Budget);
        self.transmit(id);
        // What was packed has made room, and may be Sent.
        if !stopped && let Some(link) = self.links.find_mut(id) {
            link.deliver(id, &mut self.stock, out, limit);
        }
        self.look_at_end(id);
        stopped
    }

    fn transmit(&mut self, id: LinkId) {
        let Some(link) = self.links.find_mut(id) else { return };
        let Some(device) = self.devices.iter_mut().find(|device| device.id == link.device) else { return };
        link.transmit(id, &mut self.fabric, device, &mut self.stock);
        self.grow(id);
    }

    /// Posts more receive buffers where a link has use for them.
    fn grow(&mut self, id: LinkId) {
        let Some(link) = self.links.find_mut(id) else { return };
        let Some(device) = self.devices.iter_mut().find(|device| device.id == link.device) else { return };
        let len = link.ours.packet_len as usize;
        match &mut link.receives {
            Receives::Own(reserve, posted, most) => {
                let wanted = reserve.take_unmet().min(*most - *posted);
                let count = device.prepare_receives(wanted, len);
                if count == 0 {
                    return;
                }
                let result = self.fabric.post_receives(link.connection, &mut device.receiving);
                let count = count - device.receiving.len() as u32;
                device.receiving.clear();
                *posted += count;
                if result.is_ok() {
                    reserve.add(count);
                }
            }
            Receives::Shared => {
                // A failure shows when somebody needs one of them.
                let _ = device.grow_shared(&mut self.fabric, 0);
            }
        }
    }

    /// Has the fabric give everything back when a link is at its end.
    fn look_at_end(&mut self, id: LinkId) {
        let Some(link) = self.links.find_mut(id) else { return };
        if link.state == State::Up
            && let Some(reason) = link.ending()
        {
            link.state = State::Ending(reason);
            link.deadline = None;
            self.unsettled += 1;
            self.fabric.disconnect(link.connection);
        }
    }

    /// The fabric is done with a link, and so is the driver.
    fn bury(&mut self, id: LinkId) {
        let Some(mut link) = self.links.remove(id) else { return };
        self.fabric.destroy(link.connection);
        self.disown(link.connection);
        let device = self.devices.iter_mut().find(|device| device.id == link.device);
        if let Some(device) = device {
            device.own_queues -= usize::from(matches!(link.receives, Receives::Own(..)));
            if let Some(machine) = &mut link.machine {
                let mut last = Vec::new();
                machine.bury(&mut self.stock, id, &mut last);
                self.news.extend(last);
                while let Some(buffer) = machine.take_spent() {
                    device.receiving.push(buffer);
                }
                if matches!(link.receives, Receives::Shared) && !device.receiving.is_empty() {
                    // If the queue does not take them, the device is on its way out as well.
                    let _ = self.fabric.post_shared_receives(device.id, &mut device.receiving);
                }
                device.receiving.clear();
            }
        }
        // What it had posted may have been all there was.
        self.wake_waiting();
        self.unsettled -= usize::from(link.state != State::Up);
        let reason = match link.state {
            State::Ending(reason) => reason,
            State::Coming => return,
            State::Up => DownReason::ClosedHere,
        };
        self.news.push_back(Completion::Down { link: id, reason });
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some(Reverse(Due(at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(link) = self.links.find_mut(id).filter(|link| link.deadline == Some(at)) else {
                continue;
            };
            link.deadline = None;
            match (&link.state, &mut link.machine) {
                (State::Coming, _) => {
                    let errno = libc::ETIMEDOUT;
                    self.refuse(id, DownReason::TimedOut, "the peer did not answer in time", errno);
                }
                (State::Up, Some(machine)) => {
                    machine.abort(DownReason::TimedOut);
                    self.enqueue(id);
                }
                _ => {}
            }
        }
    }

    /// Moves news to `out`. Returns whether that was all.
    fn hand_out(&mut self, out: &mut Vec<Completion>, limit: usize) -> bool {
        while out.len() < limit {
            match self.news.pop_front() {
                Some(completion) => out.push(completion),
                None => return true,
            }
        }
        self.news.is_empty()
    }
}

impl<F: Fabric> Driver for RdmaDriver<F> {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        self.start(request)
    }

    fn close_open(&mut self, open: OpenId) {
        // Links whose Up nobody has heard go with it.
        let mut unheard = Vec::new();
        self.news.retain(|completion| match completion {
            Completion::Up { link, open: of, .. } if *of == open => {
                unheard.push(*link);
                false
            }
            completion => completion.open() != Some(open),
        });
        self.forget_open(open);
        for id in self.links.keys() {
            let Some(link) = self.links.find(id).filter(|link| link.open == open) else { continue };
            if link.state == State::Coming || unheard.contains(&id) {
                self.drop_silently(id);
            }
        }
    }

    fn close_link(&mut self, link: LinkId, how: Close) {
        let Some(it) = self.links.find_mut(link).filter(|link| link.state == State::Up) else { return };
        let Some(machine) = &mut it.machine else { return };
        match how {
            Close::Abort => machine.abort(DownReason::ClosedHere),
            Close::Drain { until } => {
                machine.drain(&mut self.stock);
                let sooner = match (it.deadline, until) {
                    (Some(before), Some(until)) => Some(before.min(until)),
                    (before, until) => before.or(until),
                };
                self.set_deadline(link, sooner);
            }
        }
        self.enqueue(link);
    }

    fn room(&self, link: LinkId) -> usize {
        let Some(link) = self.links.find(link).filter(|link| link.state == State::Up) else { return 0 };
        let Some(machine) = &link.machine else { return 0 };
        // What was promised holds until the next poll, whatever the parts weigh that came meanwhile.
        if link.asked_after.replace(self.polls) == self.polls { machine.room_left() } else { machine.room() }
    }

    #[inline]
    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        let up = self.links.find_mut(link).filter(|link| link.state == State::Up);
        let Some((dirty, machine)) = up.and_then(|link| Some((&mut link.dirty, link.machine.as_mut()?)))
        else {
            return Err(Refused { part, reason: RefusedReason::Closed });
        };
        machine.post(&mut self.stock, part)?;
        if !std::mem::replace(dirty, true) {
            self.dirty.push(link);
        }
        Ok(())
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(link) = self.links.find_mut(id) {
                link.dirty = false;
                self.transmit(id);
                // It may have something to say: Sent, Writable, or that it is at its end.
                self.enqueue(id);
            }
        }
        self.dirty = dirty;
    }

    fn grant(&mut self, link: LinkId, grant: Grant) {
        let it = self.links.find_mut(link).filter(|link| link.state == State::Up);
        if let Some(machine) = it.and_then(|link| link.machine.as_mut()) {
            machine.grant(grant);
            self.enqueue(link);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        let limit = out.len().saturating_add(budget);
        self.now = Some(now);
        self.polls = self.polls.wrapping_add(1);
        self.fabric.advance(now);
        self.take_answers();
        let woken = std::mem::take(&mut self.slept);
        if self.unsettled > 0 || self.fabric.has_event() || self.polls.is_multiple_of(EVENTS_EVERY) {
            self.take_events();
        }
        // A sleep that no completion ended was ended by an event; one that comes with a completion ends the next sleep
        // as well, since the descriptor stays readable. So a packet that wakes costs no look for events.
        if !self.take_completions() && woken {
            self.take_events();
        }
        self.run_timers(now);
        self.listen_again(now);
        if !self.hand_out(out, limit) {
            return;
        }
        self.flush();
        let mut turns = self.queue.len();
        while turns > 0 && out.len() < limit {
            turns -= 1;
            let Some(id) = self.queue.pop_front() else { break };
            let Some(link) = self.links.find_mut(id) else { continue };
            link.queued = false;
            if self.tend(id, out, limit)
                && let Some(link) = self.links.find_mut(id)
                && !link.queued
            {
                link.queued = true;
                self.queue.push_front(id);
            }
        }
        self.hand_out(out, limit);
    }

    fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse(Due(at, _))| *at);
        timer.into_iter().chain(self.fabric.deadline()).chain(self.listen_again_at()).min()
    }

    fn arm(&mut self) -> Armed {
        self.slept = true;
        if self.news.is_empty() && self.queue.is_empty() && self.dirty.is_empty() {
            self.fabric.arm()
        } else {
            Armed::Busy
        }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fabric.wake_fd()
    }

    fn copied_bytes(&self) -> u64 {
        self.stock.copied_bytes()
    }
}

impl<F: Fabric> Drop for RdmaDriver<F> {
    fn drop(&mut self) {
        // So that the peers hear of it.
        for (_, link) in self.links.iter_mut() {
            self.fabric.disconnect(link.connection);
        }
    }
}

/// The whole URL of a bound listener.
fn real(endpoint: &Endpoint, address: std::net::SocketAddr, query: &str) -> Endpoint {
    let bare = endpoint.with_address(&address.to_string());
    if query.is_empty() { bare } else { Endpoint::parse(&format!("{bare}?{query}")).unwrap_or(bare) }
}
