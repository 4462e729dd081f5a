//! An endpoint (fi_endpoint(3)), connected or not, and the memory that was posted to it. What a provider may still
//! touch is here until it completes, and goes when the endpoint is closed. Knows no packets.

use std::fmt;
use std::mem::{forget, take};
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rdma_links::fabric::TargetId;
use transport_core::{FrameMut, MemoryDomain, Slab};

use super::address::{Address, AddressVector, Padded, Peer, RawVector, read_name};
use super::arena::Arena;
use super::completion::{Completion, CompletionQueue, RawQueue};
use super::domain::{Access, Alone, Domain, RawDomain};
use super::event_queue::{EventQueue, Owner, RawEvents};
use super::failure::{Failure, check};
use super::info::Info;
use super::listener::Request;
use super::memory::{Buffer, Remote, Splice};
use super::posting::{Pins, PostError, Posted, Vacant, Work};
use super::process::Process;
use super::resident::{Resident, Residents};
use crate::limits::{GATHER_MAX, POSTED_MAX, PRIVATE_DATA_MAX};
use crate::sys;

/// What an endpoint is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Queues<'a> {
    /// Where its requests complete. It should have room for all that its endpoints may have posted.
    pub completions: &'a CompletionQueue,
    /// Where what happens to its connection is told; a connected endpoint needs it.
    pub events: Option<&'a EventQueue>,
    /// Whom it may send to; an unconnected endpoint needs it.
    pub peers: Option<&'a AddressVector>,
}

/// How large an endpoint is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Sends and READs that may be out.
    pub sends: usize,
    /// Receives that may be posted.
    pub receives: usize,
    /// Pieces of one send: the packet's own bytes and what is spliced in between.
    pub gather: usize,
}

/// How large it has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sends and READs that may be out. What is injected counts for the provider and not here, so it may say
    /// [`PostError::Full`] before.
    pub sends: usize,
    /// Receives that may be posted.
    pub receives: usize,
    /// Pieces of one send.
    pub gather: usize,
    /// Bytes of a message that is copied as it is posted.
    pub inject: usize,
    /// Bytes of a message or READ.
    pub message: usize,
}

/// Endpoints over memory that peers of this process share with them, and what remains of those that were let go.
pub(super) static RESIDENTS: Residents<Remains> = Residents::new();

/// What remains of an endpoint that peers of this process still stand on. Closes it.
pub(super) struct Remains {
    endpoint: NonNull<sys::fid_ep>,
    /// Sends and READs that are out, and the frames that they land in.
    posted: (Box<[Posted]>, Pins, Vec<Target>),
    // What it stands on; dropped last.
    arena: Arc<Arena>,
    completions: Arc<RawQueue>,
    peers: Option<Arc<RawVector>>,
    domain: Arc<RawDomain>,
}

// SAFETY: as for the endpoint that it was.
unsafe impl Send for Remains {}

impl Drop for Remains {
    fn drop(&mut self) {
        if self.domain.is_ours() {
            // SAFETY: the endpoint is alive, and nobody uses it after this, nor has any other peer here its memory.
            let result = unsafe { sys::fi_close(self.endpoint.cast().as_ptr()) };
            self.completions.bury(self.arena.clone());
            if result != 0 {
                forget(take(&mut self.posted));
                forget((self.completions.clone(), self.peers.clone(), self.domain.clone()));
            }
        }
    }
}

/// An endpoint with everything that is posted to it.
pub struct Endpoint {
    endpoint: NonNull<sys::fid_ep>,
    is_open: bool,
    /// By what name others of this process may know it, where that matters.
    resident: Option<(Address, Arc<Resident<Remains>>)>,
    limits: Limits,
    format: u32,
    to: sys::fi_addr_t,
    has_peer: bool,

    arena: Arc<Arena>,
    /// By slot: first the sends', then the receives'.
    posted: Box<[Posted]>,
    vacant_sends: Vacant,
    vacant_receives: Vacant,
    /// The number of the next receive.
    next_receive: u32,
    pins: Pins,
    targets: Slab<TargetId, Target>,

    memory: Arc<dyn MemoryDomain>,
    // What it stands on; dropped last.
    completions: Arc<RawQueue>,
    events: Option<Arc<RawEvents>>,
    peers: Option<Arc<RawVector>>,
    domain: Arc<RawDomain>,
}

// SAFETY: the domain is FI_THREAD_SAFE, and what is here besides is Send.
unsafe impl Send for Endpoint {}

#[derive(Debug)]
struct Target {
    frame: FrameMut,
    key: Option<u64>,
    reads: u32,
}

impl Endpoint {
    /// Opens an endpoint of an offer and makes it ready to be posted to. `cookie` comes back with completions and
    /// events.
    pub fn open(
        domain: &Domain,
        info: &Info,
        queues: &Queues<'_>,
        shape: &Shape,
        cookie: u64,
    ) -> Result<Self, Failure> {
        let memory = domain.memory().clone();
        let domain = domain.raw()?;
        // The provider may write to it, and it is to have our sizes.
        let mut info = info.duplicate()?;
        let sends = shape.sends.clamp(1, POSTED_MAX).min(info.send_attributes().size);
        let receives = shape.receives.clamp(1, POSTED_MAX).min(info.receive_attributes().size);
        info.shorten(sends, receives);
        let mut endpoint = null_mut();
        // SAFETY: domain and offer are alive.
        let result = unsafe { sys::fi_endpoint(domain.raw(), info.raw(), &mut endpoint, null_mut()) };
        check("fi_endpoint", result)?;
        let endpoint = NonNull::new(endpoint).ok_or_else(|| Failure::new("fi_endpoint", sys::FI_EOTHER))?;
        let slots = sends + receives;
        let mut it = Self {
            endpoint,
            is_open: true,
            resident: None,
            limits: Limits {
                sends,
                receives,
                gather: shape.gather.min(info.gather_max()).clamp(1, GATHER_MAX),
                inject: info.inject_max(),
                message: info.message_max(),
            },
            format: info.attributes().addr_format,
            to: sys::FI_ADDR_UNSPEC,
            has_peer: queues.peers.is_none(),
            arena: Arc::new(Arena::new(cookie, slots)),
            posted: (0..slots).map(|_| Posted::Nothing).collect(),
            vacant_sends: Vacant::new(0..sends as u32),
            vacant_receives: Vacant::new(sends as u32..slots as u32),
            next_receive: 0,
            pins: Pins::default(),
            targets: Slab::new(),
            memory,
            completions: queues.completions.share(),
            events: queues.events.map(EventQueue::share),
            peers: queues.peers.map(AddressVector::share),
            domain,
        };
        if let Some(events) = &it.events {
            events.add(it.fid(), Owner::Endpoint(cookie));
        }
        // SAFETY: the endpoint is alive, and so is what it is bound to, which it keeps until it is closed.
        unsafe {
            if let Some(events) = &it.events {
                check("fi_ep_bind(event queue)", sys::fi_ep_bind(it.raw(), events.fid(), 0))?;
            }
            if let Some(peers) = &it.peers {
                let vector = peers.raw().cast();
                check("fi_ep_bind(address vector)", sys::fi_ep_bind(it.raw(), vector, 0))?;
            }
            let both = sys::FI_TRANSMIT | sys::FI_RECV;
            check("fi_ep_bind(completion queue)", sys::fi_ep_bind(it.raw(), it.completions.fid(), both))?;
            check("fi_enable", sys::fi_enable(it.raw()))?;
        }
        if it.domain.fabric().shares_memory() {
            let name = it.name()?;
            let resident = RESIDENTS.enter(name.as_bytes());
            it.resident = Some((name, resident));
        }
        Ok(it)
    }

    /// Opens the endpoint of a connection that a peer asks for. Receives can be posted from here on, and should be
    /// before [`Endpoint::accept`]. Dropped before that, the peer is refused.
    pub fn answer(
        domain: &Domain,
        mut request: Request,
        queues: &Queues<'_>,
        shape: &Shape,
        cookie: u64,
    ) -> Result<Self, Failure> {
        let endpoint = Self::open(domain, request.info(), queues, shape, cookie)?;
        request.taken();
        Ok(endpoint)
    }

    /// How large it has become.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes that may go along with a connection request and its answer.
    pub fn private_data_max(&self) -> usize {
        let mut size = 0;
        // SAFETY: the endpoint is alive.
        let result = unsafe { sys::fi_cm_data_size(self.raw(), &mut size) };
        if result == 0 { size.min(PRIVATE_DATA_MAX) } else { 0 }
    }

    /// Its name, for peers to put into their address vectors; or its local address.
    pub fn name(&self) -> Result<Address, Failure> {
        read_name("fi_getname", |name, len| {
            // SAFETY: the endpoint is alive, and the name has room for `len`.
            unsafe { sys::fi_getname(self.raw(), name, len) }
        })
    }

    /// The peer's address, where it is connected.
    pub fn peer_address(&self) -> Result<Address, Failure> {
        read_name("fi_getpeer", |name, len| {
            // SAFETY: as above.
            unsafe { sys::fi_getpeer(self.raw(), name, len) }
        })
    }

    // Connections

    /// Asks a listener. `Connected` or `Failed` follows, or this fails at once.
    pub fn connect(&mut self, to: &Address, private: &[u8]) -> Result<(), Failure> {
        let is_socket = matches!(self.format, sys::FI_SOCKADDR | sys::FI_SOCKADDR_IN | sys::FI_SOCKADDR_IN6);
        if is_socket && to.to_socket_address().is_none() {
            return Err(Failure::new("fi_connect", libc::EINVAL));
        }
        let to = Padded::new(to);
        // SAFETY: the endpoint is alive; address and data are until the call has returned, the address with more
        // bytes than any has.
        let result =
            unsafe { sys::fi_connect(self.raw(), to.as_ptr(), private.as_ptr().cast(), private.len()) };
        check("fi_connect", result)
    }

    /// Says yes to the request it was made of. `Connected` or `Failed` follows.
    pub fn accept(&mut self, private: &[u8]) -> Result<(), Failure> {
        // SAFETY: the endpoint is alive, and the data until the call has returned.
        let result = unsafe { sys::fi_accept(self.raw(), private.as_ptr().cast(), private.len()) };
        check("fi_accept", result)
    }

    /// Ends the connection. The peer hears of it, and most providers give back as failed what is posted;
    /// [`Endpoint::close`] does so with any.
    pub fn shutdown(&mut self) -> Result<(), Failure> {
        // SAFETY: the endpoint is alive.
        check("fi_shutdown", unsafe { sys::fi_shutdown(self.raw(), 0) })
    }

    /// Sends go to this peer from here on, of the address vector that the endpoint is bound to.
    pub fn set_peer(&mut self, peer: Peer) -> Result<(), PostError> {
        if self.peers.as_ref().is_none_or(|peers| peers.serial() != peer.vector) {
            return Err(PostError::NoPeer);
        }
        (self.to, self.has_peer) = (peer.address, true);
        Ok(())
    }

    // Sends

    /// Requests that the send queue takes at the moment, as far as it is known here.
    pub fn room(&self) -> usize {
        self.vacant_sends.len()
    }

    /// Whether nothing is posted to it, but for what was injected.
    pub fn is_idle(&self) -> bool {
        self.out() == 0
    }

    fn out(&self) -> usize {
        self.posted.len() - self.vacant_sends.len() - self.vacant_receives.len()
    }

    /// Sends bytes, at most [`Limits::inject`], which are copied and of which nothing more is heard.
    #[inline]
    pub fn inject(&mut self, bytes: &[u8]) -> Result<(), PostError> {
        self.check_inject(bytes)?;
        // SAFETY: the endpoint is alive, and its peer in the vector that it is bound to; the provider has copied the
        // bytes when this returns.
        outcome(unsafe { sys::fi_inject(self.raw(), bytes.as_ptr().cast(), bytes.len(), self.to) })
    }

    /// Sends bytes, at most [`Limits::inject`], which are copied; its completion comes back.
    pub fn copy(&mut self, bytes: &[u8], tag: u32) -> Result<(), PostError> {
        self.check_inject(bytes)?;
        let slot = self.vacant_sends.next().ok_or(PostError::Full)?;
        let piece = sys::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut descriptor = null_mut();
        let message = sys::fi_msg {
            msg_iov: &piece,
            desc: &mut descriptor,
            iov_count: 1,
            addr: self.to,
            context: self.arena.context(slot),
            data: 0,
        };
        // SAFETY: as in `inject`; the slot is nobody else's until the completion.
        outcome(unsafe { sys::fi_sendmsg(self.raw(), &message, sys::FI_INJECT | sys::FI_COMPLETION) })?;
        self.vacant_sends.take();
        self.posted[slot as usize] = Posted::Copied { tag };
        Ok(())
    }

    /// Sends the first `len` bytes of `buffer` as a packet, with shared frames between them where `splices` says so (in
    /// ascending order; emptied on success). On an error everything stays with the caller.
    pub fn send(
        &mut self,
        buffer: Buffer,
        len: usize,
        splices: &mut Vec<Splice>,
        tag: u32,
    ) -> Result<(), (PostError, Buffer)> {
        match self.try_send(&buffer, len, splices) {
            Ok(slot) => {
                self.vacant_sends.take();
                let pins = splices.drain(..).fold(None, |list, splice| self.pins.push(splice.body, list));
                self.posted[slot as usize] = Posted::Packet { tag, buffer, pins };
                Ok(())
            }
            Err(error) => Err((error, buffer)),
        }
    }

    fn try_send(&self, buffer: &Buffer, len: usize, splices: &[Splice]) -> Result<u32, PostError> {
        let packet = buffer.get(..len).ok_or(PostError::TooLarge)?;
        let ordered = splices.is_sorted_by_key(|splice| splice.at);
        let inside = splices.last().is_none_or(|splice| splice.at <= len);
        let spliced: usize = splices.iter().map(|splice| splice.body.frame().len()).sum();
        if !ordered || !inside || len.saturating_add(spliced) > self.limits.message {
            return Err(PostError::TooLarge);
        }
        self.check_peer()?;
        let slot = self.vacant_sends.next().ok_or(PostError::Full)?;
        let context = self.arena.context(slot);
        let own = self.descriptor(buffer.local_key())?;
        if splices.is_empty() {
            let start = packet.as_ptr().cast();
            // SAFETY: the endpoint is alive, and its peer in the vector that it is bound to; the caller keeps the
            // buffer in `posted`, and so its memory where it is and unchanged, until it completes or the endpoint is
            // closed; the slot is nobody else's so long.
            outcome(unsafe { sys::fi_send(self.raw(), start, len, own, self.to, context) })?;
            return Ok(slot);
        }
        let mut pieces = Pieces::new(self.limits.gather);
        let mut from = 0;
        for splice in splices {
            pieces.push(&packet[from..splice.at], own)?;
            from = splice.at;
            let descriptor = self.descriptor(splice.body.local_key())?;
            pieces.push(splice.body.frame(), descriptor)?;
        }
        pieces.push(&packet[from..], own)?;
        let message = sys::fi_msg {
            msg_iov: pieces.list.as_ptr(),
            desc: pieces.descriptors.as_mut_ptr(),
            iov_count: pieces.len,
            addr: self.to,
            context,
            data: 0,
        };
        // SAFETY: as above, and the caller keeps the spliced frames, none of which is inline, in `pins`. The lists
        // are read before this returns.
        outcome(unsafe { sys::fi_sendmsg(self.raw(), &message, sys::FI_COMPLETION) })?;
        Ok(slot)
    }

    fn check_inject(&self, bytes: &[u8]) -> Result<(), PostError> {
        if bytes.len() > self.limits.inject { Err(PostError::TooLarge) } else { self.check_peer() }
    }

    fn check_peer(&self) -> Result<(), PostError> {
        if self.has_peer { Ok(()) } else { Err(PostError::NoPeer) }
    }

    #[inline]
    fn descriptor(&self, key: u64) -> Result<*mut std::ffi::c_void, PostError> {
        self.domain.descriptor(key).ok_or(PostError::NotRegistered)
    }

    // Receives

    /// Posts receives, as many of `buffers` as it takes, the first ones, which leave the vector; on an error the rest
    /// stay in it.
    pub fn post_receives(&mut self, buffers: &mut Vec<Buffer>) -> Result<(), PostError> {
        let mut result = Ok(());
        let Self { domain, arena, vacant_receives, posted, endpoint, next_receive, .. } = self;
        // From the back, so that those behind need not move.
        buffers.reverse();
        while let Some(buffer) = buffers.last_mut() {
            let Some(slot) = vacant_receives.next() else {
                result = Err(PostError::Full);
                break;
            };
            let Some(descriptor) = domain.descriptor(buffer.local_key()) else {
                result = Err(PostError::NotRegistered);
                break;
            };
            let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: the endpoint is alive; the buffer is kept in `posted`, where nobody touches its memory, until
            // it completes or the endpoint is closed; the slot is nobody else's so long.
            result = outcome(unsafe {
                let context = arena.context(slot);
                sys::fi_recv(endpoint.as_ptr(), start, len, descriptor, sys::FI_ADDR_UNSPEC, context)
            });
            if result.is_err() {
                break;
            }
            vacant_receives.take();
            if let Some(buffer) = buffers.pop() {
                posted[slot as usize] = Posted::Receive { number: *next_receive, buffer };
                *next_receive = next_receive.wrapping_add(1);
            }
        }
        buffers.reverse();
        result
    }

    // Targets of READs

    /// Whether a target is there and has such a range.
    pub fn has_target(&self, target: TargetId, range: &Range<usize>) -> bool {
        let found = self.targets.find(target).and_then(|it| it.frame.get(range.clone()));
        found.is_some_and(|place| !place.is_empty())
    }

    /// Lends a frame for READs to land in, until [`Endpoint::reclaim`].
    pub fn lend(&mut self, frame: FrameMut) -> TargetId {
        let key = if self.domain.terms().registers_local {
            frame.key(&self.memory).map(|key| key.local)
        } else {
            Some(0)
        };
        self.targets.insert(Target { frame, key, reads: 0 })
    }

    /// Posts a READ of `from` into a range of a target. Ranges in flight at once should not overlap.
    pub fn read(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        tag: u32,
    ) -> Result<(), PostError> {
        self.check_peer()?;
        if !self.domain.terms().reads {
            return Err(PostError::Refused(libc::EOPNOTSUPP));
        }
        let slot = self.vacant_sends.next().ok_or(PostError::Full)?;
        let it = self.targets.find_mut(target).ok_or(PostError::NoTarget)?;
        let place = it.frame.get_mut(into).filter(|place| !place.is_empty()).ok_or(PostError::NoTarget)?;
        if place.len() > self.limits.message {
            return Err(PostError::TooLarge);
        }
        let region = match it.key {
            Some(_) => None,
            None => {
                let alone = Alone::new(&self.domain, place.as_ptr(), place.len(), Access::Target);
                Some(alone.map_err(|_| PostError::NotRegistered)?)
            }
        };
        let key = region.as_ref().map(Alone::local_key).or(it.key).unwrap_or(0);
        let descriptor = self.domain.descriptor(key).ok_or(PostError::NotRegistered)?;
        // SAFETY: the endpoint is alive, and its peer in the vector that it is bound to; the target is kept, where
        // nobody touches the range, until no READ into it is out or the endpoint is closed; the slot is nobody else's
        // until the completion.
        outcome(unsafe {
            let (start, len, context) = (place.as_mut_ptr().cast(), place.len(), self.arena.context(slot));
            let ep = self.endpoint.as_ptr();
            sys::fi_read(ep, start, len, descriptor, self.to, from.address, from.key, context)
        })?;
        it.reads += 1;
        self.vacant_sends.take();
        self.posted[slot as usize] = Posted::Read { tag, target, region };
        Ok(())
    }

    /// Copies from a peer on this host, by the kernel, into a range of a target: a READ that is done when this returns, and of
    /// which no completion comes. About 0.1 us a KiB.
    pub fn fetch(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        process: &Process,
    ) -> Result<(), PostError> {
        let it = self.targets.find_mut(target).ok_or(PostError::NoTarget)?;
        let place = it.frame.get_mut(into).filter(|place| !place.is_empty()).ok_or(PostError::NoTarget)?;
        process.read(place, from.address).map_err(PostError::Refused)
    }

    /// Takes a target back. `None` while a READ into it has not come back, and for a stale id.
    pub fn reclaim(&mut self, target: TargetId) -> Option<FrameMut> {
        self.targets.find(target).filter(|target| target.reads == 0)?;
        self.targets.remove(target).map(|target| target.frame)
    }

    /// Copies bytes into a target, from `at` on: for those that could not be READ straight into it. No READ into the
    /// same range may be posted. `false`: there is no such target, or it is not so long.
    pub fn fill_target(&mut self, target: TargetId, at: usize, bytes: &[u8]) -> bool {
        let frame = self.targets.find_mut(target).map(|target| &mut target.frame);
        let place = frame.and_then(|frame| frame.get_mut(at..at.checked_add(bytes.len())?));
        place.is_some_and(|place| {
            place.copy_from_slice(bytes);
            true
        })
    }

    // Completions

    /// Gives back what a completion says is done, and why it failed if it did. Says nothing to a completion that is
    /// not its own.
    #[inline]
    pub fn retire(&mut self, completion: Completion) -> Option<(Work, Option<Box<Failure>>)> {
        let whose = completion.identity().filter(|whose| whose.serial == self.arena.serial())?;
        let len = if completion.failure().is_none() { completion.len() } else { 0 };
        let work = self.take_back(whose.slot, len)?;
        Some((work, completion.into_failure()))
    }

    /// Empties a slot.
    fn take_back(&mut self, slot: u32, len: usize) -> Option<Work> {
        let work = match take(self.posted.get_mut(slot as usize)?) {
            Posted::Nothing => return None,
            Posted::Copied { tag } => Work::Send { tag, buffer: None },
            Posted::Packet { tag, buffer, pins } => {
                self.pins.release(pins);
                Work::Send { tag, buffer: Some(buffer) }
            }
            Posted::Read { tag, target, region } => {
                drop(region);
                if let Some(target) = self.targets.find_mut(target) {
                    target.reads -= 1;
                }
                Work::Read { tag, target }
            }
            Posted::Receive { number, buffer } => {
                let len = len.min(buffer.len());
                Work::Receive { number, buffer, len }
            }
        };
        if (slot as usize) < self.limits.sends {
            self.vacant_sends.put(slot);
        } else {
            self.vacant_receives.put(slot);
        }
        Some(work)
    }

    /// Closes it and gives back everything that is posted, sends first; and then the frames that were lent. A peer
    /// that it was connected to hears of it. Nothing comes back if the provider cannot close it, and may touch that
    /// memory still.
    pub fn close(mut self, mut each: impl FnMut(Work), mut lent: impl FnMut(TargetId, FrameMut)) {
        if !self.shut() {
            return;
        }
        for slot in 0..self.posted.len() as u32 {
            if let Some(work) = self.take_back(slot, 0) {
                each(work);
            }
        }
        for target in self.targets.keys() {
            if let Some(frame) = self.reclaim(target) {
                lent(target, frame);
            }
        }
    }

    /// Closes it. False if the provider would not: then what is posted is never used again.
    fn shut(&mut self) -> bool {
        if !take(&mut self.is_open) || !self.domain.is_ours() {
            return true;
        }
        if let Some(events) = &self.events {
            events.remove(self.fid());
        }
        if self.remain() {
            return true;
        }
        // SAFETY: the endpoint is alive and nobody uses it after this.
        let result = unsafe { sys::fi_close(self.fid()) };
        if result == 0 {
            if self.out() > 0 {
                self.completions.bury(self.arena.clone());
            }
            return true;
        }
        forget((take(&mut self.posted), take(&mut self.pins)));
        forget(std::mem::replace(&mut self.targets, Slab::new()));
        // And what it stands on stays open.
        forget((self.arena.clone(), self.completions.clone(), self.domain.clone()));
        forget((self.events.clone(), self.peers.clone()));
        false
    }

    /// Leaves it to the peers of this process that stand on it, if there are any: without receives, and with what else is out.
    fn remain(&mut self) -> bool {
        let Some((name, resident)) = self.resident.take() else { return false };
        // Whom we stand on ourselves; nobody else does by this vector, or he would have to go as well.
        let known = match &self.peers {
            Some(peers) if Arc::strong_count(peers) <= 2 => peers.forget(),
            _ => Vec::new(),
        };
        let receives = self.limits.sends..self.posted.len();
        let mut returned: Vec<(usize, Posted)> = Vec::new();
        let remains = || {
            for slot in receives {
                if let Posted::Receive { .. } = self.posted[slot] {
                    // SAFETY: the endpoint is alive. After this it has nothing more to write to the buffer.
                    let result =
                        unsafe { sys::fi_cancel(self.endpoint.as_ptr(), self.arena.context(slot as u32)) };
                    if result == 0 {
                        returned.push((slot, take(&mut self.posted[slot])));
                    }
                }
            }
            let fresh = (0..self.posted.len()).map(|_| Posted::Nothing).collect();
            let posted = std::mem::replace(&mut self.posted, fresh);
            let out = |key: &TargetId| self.targets.find(*key).is_some_and(|target| target.reads > 0);
            let out: Vec<_> = self.targets.keys().into_iter().filter(out).collect();
            let targets = out.into_iter().filter_map(|key| self.targets.remove(key)).collect();
            Remains {
                endpoint: self.endpoint,
                posted: (posted, take(&mut self.pins), targets),
                arena: self.arena.clone(),
                completions: self.completions.clone(),
                peers: self.peers.clone(),
                domain: self.domain.clone(),
            }
        };
        let remains = RESIDENTS.leave(name.as_bytes(), resident, remains);
        for (slot, posted) in returned {
            self.posted[slot] = posted;
        }
        drop(known);
        remains
    }

    const fn raw(&self) -> *mut sys::fid_ep {
        self.endpoint.as_ptr()
    }

    const fn fid(&self) -> *mut sys::fid {
        self.endpoint.cast().as_ptr()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shut();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}, {} out)", self.arena.serial(), self.out())
    }
}

/// The pieces of one send.
struct Pieces {
    list: [sys::iovec; GATHER_MAX],
    descriptors: [*mut std::ffi::c_void; GATHER_MAX],
    len: usize,
    most: usize,
}

impl Pieces {
    const fn new(most: usize) -> Self {
        const EMPTY: sys::iovec = sys::iovec { iov_base: null_mut(), iov_len: 0 };
        Self { list: [EMPTY; GATHER_MAX], descriptors: [null_mut(); GATHER_MAX], len: 0, most }
    }

    fn push(&mut self, bytes: &[u8], descriptor: *mut std::ffi::c_void) -> Result<(), PostError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.len == self.most {
            return Err(PostError::TooLarge);
        }
        self.list[self.len] = sys::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.descriptors[self.len] = descriptor;
        self.len += 1;
        Ok(())
    }
}

/// What became of a call that posts.
#[inline]
fn outcome(result: isize) -> Result<(), PostError> {
    match result {
        0 => Ok(()),
        it if it == -(sys::FI_EAGAIN as isize) => Err(PostError::Full),
        it => Err(PostError::Refused(i32::try_from(-it).unwrap_or(libc::EIO))),
    }
}
