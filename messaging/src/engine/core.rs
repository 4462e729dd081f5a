//! The engine shard under its lock: drivers, endpoints, conduits and timers, and the turn that moves messages between
//! pipes and links. Decides nothing about threads; `progress.rs` does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use transport_core::{
    Armed, Close, Completion, DownReason, Driver, Flow, Frame, Grant, LinkId, OpenId, Part, PeerInfo,
    Refused, RefusedReason, SessionKind, Slab, SlabKey, Violation,
};

use super::conduit::{Closing, Conduit};
use super::endpoints::EndpointState;
use super::timers::Timer;
use crate::limits::{GRANT_TO_FINISH, LINGER, LISTS, TURN_BUDGET};
use crate::mark::Mark;
use crate::pattern::Behaviour;
use crate::session::{Input, Session};
use crate::socket::monitor::EventKind;
use crate::socket::shared::{Activation, SocketShared};

/// What the shard's lock guards.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) drivers: Vec<DriverSlot>,
    pub(super) conduits: Slab<SlabKey, Conduit>,
    pub(super) endpoints: Slab<SlabKey, EndpointState>,
    pub(super) timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    completions: Vec<Completion>,
    /// Conduits that received something in this turn.
    touched: Vec<SlabKey>,
    /// Memory for the shard's list of conduits that have something to send.
    pub(crate) attending: Vec<SlabKey>,
    /// Conduits whose senders may publish quietly.
    guarded: Vec<SlabKey>,
    guarding: bool,
    guard_found: bool,
    links_written: u32,
    /// What the sleepers believe the next deadline to be; see `Shard::unlock`.
    pub(crate) announced: Option<Instant>,
    /// Since all drivers let their caller sleep none was polled, nor told what makes work for a poll: a grant, an end.
    armed: bool,
    pub(super) jitter: u64,
}

/// One driver and the engine's view of its links.
#[derive(Debug)]
pub(crate) struct DriverSlot {
    pub(super) driver: Box<dyn Driver>,
    pub(super) schemes: &'static [&'static str],
    pub(super) links: Vec<Option<(LinkId, SlabKey)>>,
    pub(super) opens: Vec<Option<(OpenId, SlabKey)>>,
    pub(super) users: usize,
    pub(super) needs_flush: bool,
    /// One of its links had no room left; see [`Core::is_starved`].
    pub(super) starved: bool,
    /// Set by the driver's `Wake`.
    pub(super) woken: Arc<AtomicBool>,
}

impl Core {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            drivers: Vec::new(),
            conduits: Slab::new(),
            endpoints: Slab::new(),
            timers: BinaryHeap::new(),
            completions: Vec::with_capacity(TURN_BUDGET + 64),
            touched: Vec::with_capacity(LISTS),
            attending: Vec::with_capacity(LISTS),
            guarded: Vec::with_capacity(LISTS),
            guarding: false,
            guard_found: false,
            links_written: 0,
            announced: None,
            armed: false,
            jitter: seed | 1,
        }
    }

    pub(crate) fn driver_for(&self, scheme: &str) -> Option<usize> {
        self.drivers.iter().position(|slot| slot.schemes.contains(&scheme))
    }

    pub(crate) fn add_driver(
        &mut self,
        driver: Box<dyn Driver>,
        schemes: &'static [&'static str],
        woken: Arc<AtomicBool>,
    ) -> usize {
        self.drivers.push(DriverSlot {
            driver,
            schemes,
            links: Vec::new(),
            opens: Vec::new(),
            users: 0,
            needs_flush: false,
            starved: false,
            woken,
        });
        self.drivers.len() - 1
    }

    // ---- opening and closing ----

    pub(super) fn new_conduit(
        &mut self,
        socket: Arc<SocketShared>,
        endpoint: SlabKey,
        url: &str,
        dialling: bool,
        marks: (Mark, Mark),
    ) -> SlabKey {
        self.conduits.insert(Conduit::new(socket, endpoint, url, dialling, marks))
    }

    /// Whether anything of any socket is left.
    pub(crate) fn is_quiet(&self) -> bool {
        self.conduits.is_empty() && self.endpoints.is_empty()
    }

    /// Bytes that its drivers have copied, see [`Driver::copied_bytes`]; drivers stay for the shard's life.
    pub(crate) fn copied_bytes(&self) -> u64 {
        self.drivers.iter().map(|slot| slot.driver.copied_bytes()).sum()
    }

    /// Closes one pipe; called again, it can only make it sooner.
    pub(super) fn close_conduit(&mut self, key: SlabKey, linger: Option<Duration>, now: Instant) {
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        // What was sent to a peer in this process is in the peer's hands, as in libzmq: no linger time takes it back.
        let linger = linger.filter(|_| !conduit.session.as_ref().is_some_and(Session::is_in_process));
        let until = linger.and_then(|linger| now.checked_add(linger));
        match &mut conduit.closing {
            Some(closing) => {
                closing.until = match (closing.until, until) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                }
            }
            None => conduit.closing = Some(Closing { until, draining: false }),
        }
        if let Some(until) = until {
            self.add_timer(until, Timer::Linger(key));
        }
        if linger == Some(Duration::ZERO) {
            self.abort_conduit(key);
        } else {
            // Nobody will read what the peer still sends, and the peer may have to send it before it takes ours.
            self.regrant(key);
            self.pump(key, now);
        }
    }

    pub(super) fn abort_conduit(&mut self, key: SlabKey) {
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        match conduit.link {
            Some((driver, link)) => {
                conduit.reason.get_or_insert(DownReason::ClosedHere);
                self.drivers[driver].driver.close_link(link, Close::Abort);
                self.armed = false;
            }
            None => self.remove_conduit(key),
        }
    }

    /// A pattern will not have this peer.
    pub(crate) fn reject(&mut self, key: SlabKey) {
        if let Some(conduit) = self.conduits.find_mut(key) {
            // Its endpoint may dial again, as libzmq does.
            if let Some((driver, link)) = conduit.link {
                self.drivers[driver].driver.close_link(link, Close::Abort);
                self.armed = false;
            }
        }
    }

    /// A pattern has said all it had to say to this peer.
    pub(crate) fn finish(&mut self, key: SlabKey, now: Instant) {
        let Some(conduit) = self.conduits.find(key) else { return };
        let endpoint = conduit.endpoint;
        // Its own time, whatever the socket's linger: what was written goes out, and a peer that never ends goes all the same.
        self.close_conduit(key, Some(LINGER), now);
        if self.endpoints.find(endpoint).is_some_and(|state| state.dials && !state.lasting) {
            self.forget_endpoint(endpoint);
        }
    }

    pub(super) fn remove_conduit(&mut self, key: SlabKey) {
        let Some(mut conduit) = self.conduits.remove(key) else { return };
        if let Some((driver, link)) = conduit.link.take() {
            self.drivers[driver].forget_link(link);
        }
        if let Some(pipe) = conduit.pipe {
            conduit.incoming.end();
            conduit.socket.lock().link_ended(pipe);
            conduit.socket.activate(Activation::Readable(pipe));
        }
        if conduit.dialling {
            self.forget_endpoint(conduit.endpoint);
        }
    }

    // ---- the turn ----

    /// Moves what can be moved without blocking. `true` if anything happened.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        let mut moved = self.poll_drivers(now, true);
        moved |= self.run_timers(now);
        self.flush();
        moved
    }

    /// Makes everything queued visible to the devices, without looking at what they received; a driver without a
    /// descriptor moves its parts in `poll`, so it is polled.
    pub(crate) fn flush_out(&mut self, now: Instant) {
        self.flush();
        self.poll_drivers(now, false);
        self.flush();
    }

    /// Whether a link that had no room got some by a flush: it says so in the next poll, and whoever flushed without
    /// polling has to see to that one, or the rest of the pipe stays where it is.
    pub(crate) fn is_starved(&mut self) -> bool {
        let mut starved = false;
        for slot in &mut self.drivers {
            slot.starved = slot.starved && slot.driver.arm() == Armed::Busy;
            starved |= slot.starved;
        }
        starved
    }

    /// To how many links messages were posted since the last call.
    pub(crate) fn take_links_written(&mut self) -> u32 {
        std::mem::take(&mut self.links_written)
    }

    fn flush(&mut self) {
        for slot in &mut self.drivers {
            if std::mem::take(&mut slot.needs_flush) {
                slot.driver.flush();
            }
        }
    }

    fn poll_drivers(&mut self, now: Instant, all: bool) -> bool {
        let mut moved = false;
        for at in 0..self.drivers.len() {
            let slot = &mut self.drivers[at];
            if slot.users == 0 || !(all || slot.driver.wake_fd().is_none()) {
                continue;
            }
            self.armed = false;
            slot.woken.store(false, Ordering::Relaxed);
            let mut completions = std::mem::take(&mut self.completions);
            slot.driver.poll(now, &mut completions, TURN_BUDGET);
            if !completions.is_empty() {
                moved = true;
                for completion in &mut completions {
                    self.complete(at, completion, now);
                }
                completions.clear();
                self.publish_touched(now);
            }
            self.completions = completions;
        }
        moved
    }

    /// By reference, so that a part moves once: from where the driver has put it into the pipe.
    fn complete(&mut self, at: usize, completion: &mut Completion, now: Instant) {
        match *completion {
            Completion::Received { link, ref mut part } => self.received(at, link, part, now),
            Completion::Sent { .. } => {}
            Completion::Writable { link } => {
                if let Some(key) = self.drivers[at].conduit_of(link) {
                    self.pump(key, now);
                }
            }
            Completion::Gap { link, lost } => {
                if let Some(conduit) =
                    self.drivers[at].conduit_of(link).and_then(|key| self.conduits.find_mut(key))
                {
                    conduit.lost_some();
                    conduit.socket.emit(&conduit.url, || EventKind::Lost(lost));
                }
            }
            Completion::Recovery { link, recovery } => {
                if let Some(conduit) =
                    self.drivers[at].conduit_of(link).and_then(|key| self.conduits.find(key))
                {
                    conduit.socket.emit(&conduit.url, || EventKind::Recovery(recovery));
                }
            }
            Completion::Returned { link, ref mut part } => {
                if let Some(conduit) =
                    self.drivers[at].conduit_of(link).and_then(|key| self.conduits.find_mut(key))
                {
                    conduit.returned.push(part.take());
                }
            }
            Completion::Up { link, open, ref peer } => self.up(at, link, open, peer, now),
            Completion::Down { link, reason } => self.down(at, link, reason, now),
            Completion::Bound { open, ref endpoint } => {
                if let Some(state) = self.endpoint_of(at, open) {
                    state.socket.emit(endpoint.as_str(), || EventKind::Listening(-1));
                    state.real = Some(endpoint.clone());
                    state.socket.waiters.wake_all();
                }
            }
            Completion::Failed { open, ref error } => self.open_failed(at, open, error.clone(), now),
            Completion::Progress { open, ref progress } => self.progressed(at, open, progress.clone()),
            _ => {}
        }
    }

    fn up(&mut self, at: usize, link: LinkId, open: OpenId, peer: &PeerInfo, now: Instant) {
        let slot = &mut self.drivers[at];
        slot.users += 1;
        let known = slot.endpoint_of(open).and_then(|key| Some((key, self.endpoints.find_mut(key)?)));
        let Some((endpoint_key, state)) = known else {
            // Given up while it was being dialled. Key 0 is nobody's.
            put(&mut slot.links, link.index(), (link, SlabKey::from_u64(0)));
            return slot.driver.close_link(link, Close::Abort);
        };
        let session = Session::new(state.config.clone(), state.kind, peer, now);
        // A peer of ZMTP 1.0, who says no type, filters by itself and never subscribes.
        let filters_itself = peer.identity.as_ref().is_some_and(|identity| identity.socket_type.is_empty());
        let (socket, everything) = (state.socket.clone(), state.everything);
        let mute = state.kind == SessionKind::None && socket.kind.flow() == Flow::Recv;
        if state.dials {
            // One dial, one link: the open is used up.
            state.open = None;
            slot.opens[open.index()] = None;
            slot.users -= 1;
        }
        let key = match state.conduit {
            Some(key) => key,
            None => {
                // One of a group's many sources goes by its own name: what is lost is lost of one.
                let url = if mute {
                    peer.address.clone()
                } else {
                    state.real.as_ref().unwrap_or(&state.endpoint).to_string()
                };
                let marks = marks(&socket);
                self.new_conduit(socket, endpoint_key, &url, false, marks)
            }
        };
        let slot = &mut self.drivers[at];
        put(&mut slot.links, link.index(), (link, key));
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        conduit.link = Some((at, link));
        conduit.fd = peer.fd;
        conduit.mute = mute;
        conduit.peer = peer.address.as_str().into();
        conduit.reason = None;
        match session {
            Ok(session) => {
                let ready = session.peer().is_some();
                conduit.session = Some(session);
                if ready {
                    self.ready(key, everything, now);
                }
                if filters_itself {
                    self.subscribed_to_all(key);
                }
                self.pump(key, now);
                self.schedule(key);
            }
            Err(violation) => {
                conduit.reason = Some(violation.into());
                slot.driver.close_link(link, Close::Abort);
            }
        }
    }

    /// The session's peer is known: messages may flow.
    fn ready(&mut self, key: SlabKey, everything: bool, now: Instant) {
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        let Some(session) = &conduit.session else { return };
        let Some(peer) = session.peer().cloned() else { return };
        conduit.ready = true;
        conduit.passes = session.passes_data();
        let socket = conduit.socket.clone();
        if conduit.closing.is_none() {
            let mut state = socket.lock();
            match (conduit.pipe, conduit.fronts.take()) {
                (Some(pipe), _) => state.identified(pipe, &peer),
                (None, Some(fronts)) => {
                    let marks = (conduit.send_mark, conduit.receive_mark);
                    conduit.pipe = Some(state.attach(key, fronts, marks, Some(&peer), everything));
                }
                (None, None) => {}
            }
            drop(state);
        }
        conduit.tell_of_connection(true);
        // Only now: whoever hears of it may send to this peer by name.
        socket.emit_of_peer(&conduit.url, &conduit.peer, || EventKind::HandshakeSucceeded);
        if let Some(state) = self.endpoints.find_mut(conduit.endpoint) {
            state.pause = socket.options().reconnect_interval.unwrap_or_default();
        }
        socket.waiters.wake_all();
        self.regrant(key);
        self.pump(key, now);
    }

    /// As if the peer had subscribed to everything, which an XPUB hears.
    fn subscribed_to_all(&mut self, key: SlabKey) {
        if let Some(conduit) = self.conduits.find(key)
            && let Some(pipe) = conduit.pipe
        {
            conduit.socket.lock().pattern.peer_subscribed(pipe, &Frame::EMPTY);
            conduit.tell_of_subscription();
        }
    }

    fn received(&mut self, at: usize, link: LinkId, part: &mut Part, now: Instant) {
        let Some(key) = self.drivers[at].conduit_of(link) else { return };
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        if !conduit.touched {
            conduit.touched = true;
            self.touched.push(key);
        }
        if !part.flags.command() {
            conduit.granted = conduit.granted.saturating_sub(1);
        }
        let input = if conduit.passes && !part.flags.command() {
            if conduit.deliver(part) { Ok(Input::Nothing) } else { Err(Violation::TooLarge) }
        } else {
            let Some(session) = &mut conduit.session else { return };
            conduit.talk = true;
            match session.handle_part(part.take(), now) {
                Ok(Input::Deliver(mut part)) => {
                    if conduit.deliver(&mut part) {
                        Ok(Input::Nothing)
                    } else {
                        Err(Violation::TooLarge)
                    }
                }
                input => input,
            }
        };
        match input {
            Ok(Input::Nothing | Input::Deliver(_)) => {}
            Ok(Input::Ready) => {
                let everything = self.endpoints.find(conduit.endpoint).is_some_and(|state| state.everything);
                self.ready(key, everything, now);
            }
            Ok(Input::Subscribe(topic)) => {
                let Some(pipe) = conduit.pipe else { return };
                if conduit.socket.lock().pattern.peer_subscribed(pipe, &topic) {
                    conduit.tell_of_subscription();
                } else {
                    conduit.reason = Some(Violation::CommandFlood.into());
                    self.drivers[at].driver.close_link(link, Close::Abort);
                }
            }
            Ok(Input::Cancel(topic)) => {
                if let Some(pipe) = conduit.pipe {
                    conduit.socket.lock().pattern.peer_cancelled(pipe, &topic);
                    conduit.tell_of_subscription();
                }
            }
            Err(violation) => {
                conduit.reason = Some(violation.into());
                // What the session has to say about it (ERROR) still goes out.
                self.pump(key, now);
                let slot = &mut self.drivers[at];
                slot.driver.flush();
                slot.driver.close_link(link, Close::Abort);
            }
        }
    }

    /// After a batch: shows it to the applications, renews grants, answers commands.
    fn publish_touched(&mut self, now: Instant) {
        while let Some(key) = self.touched.pop() {
            let Some(conduit) = self.conduits.find_mut(key) else { continue };
            conduit.touched = false;
            if conduit.incoming.publish()
                && let Some(pipe) = conduit.pipe
            {
                conduit.socket.activate(Activation::Readable(pipe));
            }
            let talks = match &mut conduit.session {
                Some(session) => {
                    session.heard(now);
                    std::mem::take(&mut conduit.talk)
                }
                None => false,
            };
            self.regrant(key);
            if talks {
                self.pump(key, now);
                self.schedule(key);
            }
        }
    }

    fn regrant(&mut self, key: SlabKey) {
        self.renew_grant(key);
        if let Some(conduit) = self.conduits.find_mut(key)
            && let Some(session) = &mut conduit.session
        {
            // A peer that we do not read seems silent; that must not count as its death.
            session.set_deaf(conduit.ready && conduit.granted == 0 && !conduit.unlimited);
        }
    }

    fn renew_grant(&mut self, key: SlabKey) {
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        let Some((driver, link)) = conduit.link else { return };
        if !conduit.ready {
            return;
        }
        let driver = &mut self.drivers[driver].driver;
        let mark = conduit.receive_mark;
        let hwm = mark.max;
        if hwm == 0 || conduit.closing.is_some() {
            if !conduit.unlimited {
                conduit.unlimited = true;
                driver.grant(link, Grant::Unlimited);
                self.armed = false;
            }
            return;
        }
        if conduit.granted > if mark.weighs() { 0 } else { hwm / 2 } {
            return;
        }
        let mut room = conduit.incoming.room_in_steps(hwm);
        if room == 0 && !conduit.incoming.sleep(|incoming| incoming.room_in_steps(hwm)) {
            room = conduit.incoming.room_in_steps(hwm);
        }
        let room = mark.parts(room, conduit.heaviest);
        if room > conduit.granted {
            conduit.granted = room;
            driver.grant(link, Grant::Limited(room));
            self.armed = false;
        } else if conduit.granted == 0 && !conduit.unfinished.is_empty() {
            conduit.granted = GRANT_TO_FINISH;
            driver.grant(link, Grant::Limited(GRANT_TO_FINISH));
            self.armed = false;
        }
    }

    /// Moves parts from the pipe to the link, as far as there is room.
    pub(crate) fn pump(&mut self, key: SlabKey, now: Instant) {
        let Some(conduit) = self.conduits.find_mut(key) else { return };
        let Some((at, link)) = conduit.link else {
            if conduit.closing.is_some() && !conduit.has_output() {
                self.remove_conduit(key);
            }
            return;
        };
        let slot = &mut self.drivers[at];
        if let Some(session) = &mut conduit.session
            && !conduit.posting
        {
            while let Some(command) = conduit.commands.pop_front().or_else(|| session.poll_command()) {
                slot.needs_flush = true;
                if let Err(Refused { part, .. }) = slot.driver.post_send(link, command) {
                    conduit.commands.push_front(part);
                    break;
                }
            }
        }
        if conduit.ready && conduit.mute {
            // A SUB's subscriptions, and what an XSUB sends. Kept, they would grow without end, and be lingered for.
            while conduit.next_out(&mut false).is_some() {}
        } else if conduit.ready {
            let mut room = slot.driver.room(link);
            let (mut freed, mut moved) = (false, false);
            while room > 0 {
                let posted = match conduit.peek_out() {
                    // The usual part of a stream at full speed: it goes from the pipe to the device in one step.
                    Some((body, flags)) if slot.driver.post_small(link, body, flags) => {
                        let len = body.len();
                        freed |= conduit.skip_out(flags, len);
                        Ok(flags.more())
                    }
                    _ => {
                        let Some(part) = conduit.next_out(&mut freed) else { break };
                        let more = part.flags.more();
                        slot.driver.post_send(link, part).map(|()| more)
                    }
                };
                slot.needs_flush = true;
                match posted {
                    Ok(more) => {
                        conduit.posting = more;
                        moved = true;
                        room -= 1;
                        if room == 0 {
                            // Only who hears 0 is told when there is room again.
                            room = slot.driver.room(link);
                        }
                    }
                    Err(Refused { part, reason }) => {
                        conduit.held.push_front(part);
                        debug_assert!(
                            reason == RefusedReason::Closed || room == 0,
                            "refused in spite of room"
                        );
                        break;
                    }
                }
            }
            self.links_written += u32::from(moved);
            slot.starved |= room == 0;
            if room == 0 && moved && conduit.session.as_ref().is_some_and(Session::is_in_process) {
                // The peer's pipe is full, so nothing goes on by itself until its application reads. What it took makes
                // room here all the same, or the two marks would not add up.
                freed |= conduit.out.take_sleeping_writer();
            }
            if freed && let Some(pipe) = conduit.pipe {
                conduit.socket.activate(Activation::Writable(pipe));
            }
            if self.guarding && !conduit.out.is_guarded() {
                conduit.out.set_guarded(true);
                self.guarded.push(key);
            }
        }
        if let Some(closing) = conduit.closing
            && !closing.draining
            && !conduit.has_output()
        {
            conduit.closing = Some(Closing { draining: true, ..closing });
            conduit.reason.get_or_insert(DownReason::ClosedHere);
            slot.driver.flush();
            slot.driver.close_link(link, Close::Drain { until: closing.until });
            self.armed = false;
        }
        let _ = now;
    }

    fn down(&mut self, at: usize, link: LinkId, reason: DownReason, now: Instant) {
        let slot = &mut self.drivers[at];
        let key = slot.conduit_of(link);
        slot.forget_link(link);
        let Some((key, conduit)) = key.and_then(|key| Some((key, self.conduits.find_mut(key)?))) else {
            return;
        };
        let reason = conduit.reason.take().unwrap_or(reason);
        let fd = conduit.fd;
        if conduit.ready {
            conduit.tell_of_connection(false);
            conduit.socket.emit_of_peer(&conduit.url, &conduit.peer, || EventKind::Disconnected(reason, fd));
        } else {
            conduit.socket.emit_of_peer(&conduit.url, &conduit.peer, || EventKind::HandshakeFailed(reason));
        }
        // What was sent in-process goes with the peer that had it in hand.
        let in_process = conduit.session.as_ref().is_some_and(Session::is_in_process);
        if conduit.link_lost()
            && let Some(pipe) = conduit.pipe
        {
            conduit.socket.activate(Activation::Writable(pipe));
        }
        let wanted = conduit.closing.is_none_or(|closing| {
            !in_process && conduit.has_output() && closing.until.is_none_or(|until| until > now)
        });
        let keep = conduit.dialling && wanted;
        let endpoint = conduit.endpoint;
        if keep {
            if let Some(pipe) = conduit.pipe {
                let socket = conduit.socket.clone();
                let mut state = socket.lock();
                state.pattern.link_lost(pipe);
                if socket.kind.subscribes() {
                    conduit.drop_output();
                }
            }
            self.retry(endpoint, now);
        } else {
            self.remove_conduit(key);
            if self.endpoints.find(endpoint).is_some_and(|state| state.dials && !state.lasting) {
                self.retry(endpoint, now);
            }
        }
    }

    // ---- sleeping ----

    /// Whether a sleeper that was allowed to sleep before may go on: a poll in between has made its leave void, and so has
    /// what only a poll will act on.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Whether the caller may sleep on the drivers' descriptors.
    pub(crate) fn arm(&mut self) -> Armed {
        self.armed = false;
        for slot in &mut self.drivers {
            if slot.users > 0 && (slot.woken.load(Ordering::Relaxed) || slot.driver.arm() == Armed::Busy) {
                return Armed::Busy;
            }
        }
        self.armed = true;
        Armed::Ready
    }

    // ---- the guard ----

    /// From here on pumped conduits are looked after by `guard_look`, and their senders may publish quietly.
    pub(crate) fn begin_guard(&mut self) {
        self.guarding = true;
    }

    /// Whether senders may publish quietly at this moment.
    pub(crate) fn is_guarding(&self) -> bool {
        self.guarding
    }

    /// Looks at all guarded conduits. `true` if one had something.
    pub(crate) fn guard_look(&mut self, now: Instant) -> bool {
        let mut found = false;
        for at in 0..self.guarded.len() {
            let key = self.guarded[at];
            if self.conduits.find_mut(key).is_some_and(|conduit| conduit.out.look()) {
                found = true;
                self.pump(key, now);
            }
        }
        self.flush_out(now);
        self.guard_found |= found;
        found
    }

    /// Whether a `guard_look` by anyone has found something since the last call.
    pub(crate) fn take_guard_found(&mut self) -> bool {
        std::mem::take(&mut self.guard_found)
    }

    /// Takes the promise back. The caller passes a barrier on all threads and then calls `guard_look` once more.
    pub(crate) fn end_guard(&mut self) {
        self.guarding = false;
        for key in &self.guarded {
            if let Some(conduit) = self.conduits.find_mut(*key) {
                conduit.out.set_guarded(false);
            }
        }
    }

    /// After `end_guard`'s barrier.
    pub(crate) fn leave_guard(&mut self, now: Instant) {
        self.guard_look(now);
        self.guarded.clear();
    }

    /// New marks for all of a socket's pipes.
    pub(crate) fn set_marks(&mut self, socket: &Arc<SocketShared>, now: Instant) {
        let options = socket.options();
        let (send_hwm, receive_hwm) = (options.send_hwm.into(), options.receive_hwm.into());
        drop(options);
        for key in self.conduits.keys() {
            if let Some(conduit) = self.conduits.find_mut(key)
                && Arc::ptr_eq(&conduit.socket, socket)
            {
                conduit.set_marks(send_hwm, receive_hwm);
                conduit.unlimited = false;
                conduit.granted = 0;
                if let Some((driver, link)) = conduit.link {
                    // A lower mark may leave no room to grant.
                    self.drivers[driver].driver.grant(link, Grant::Limited(0));
                }
                self.regrant(key);
            }
        }
        socket.lock().set_marks(send_hwm, receive_hwm);
        for (_, conduit) in self.conduits.iter() {
            if let Some(pipe) = conduit.pipe.filter(|_| Arc::ptr_eq(&conduit.socket, socket)) {
                // Who waits for room under the old mark may have it under the new one.
                socket.activate(Activation::Writable(pipe));
            }
        }
        // More room may be what the driver waited for.
        self.turn(now);
    }

    /// Work for one conduit: something to send, or room to receive.
    pub(crate) fn attend(&mut self, key: SlabKey, now: Instant) {
        self.pump(key, now);
        self.regrant(key);
    }
}

impl DriverSlot {
    #[inline]
    pub(super) fn conduit_of(&self, link: LinkId) -> Option<SlabKey> {
        match self.links.get(link.index()) {
            Some(Some((id, key))) if *id == link => Some(*key),
            _ => None,
        }
    }

    pub(super) fn endpoint_of(&self, open: OpenId) -> Option<SlabKey> {
        match self.opens.get(open.index()) {
            Some(Some((id, key))) if *id == open => Some(*key),
            _ => None,
        }
    }

    pub(super) fn forget_link(&mut self, link: LinkId) {
        if let Some(place) = self.links.get_mut(link.index())
            && place.is_some_and(|(id, _)| id == link)
        {
            *place = None;
            self.users -= 1;
        }
    }
}

pub(super) fn marks(socket: &SocketShared) -> (Mark, Mark) {
    socket.options().marks()
}

pub(super) fn put<T>(table: &mut Vec<Option<T>>, index: usize, value: T) {
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    table[index] = Some(value);
}
