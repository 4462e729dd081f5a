//! An RC queue pair, and the memory that was posted to it. What a device may still touch is here until it completes,
//! and goes when the queue pair is destroyed. Knows no packets.

use std::collections::VecDeque;
use std::fmt;
use std::mem::take;
use std::ptr::NonNull;
use std::sync::Arc;

use transport_core::{FrameMut, Slab, SlabKey};

use super::completion::{CompletionQueue, RawQueue, WorkCompletion};
use super::domain::{ProtectionDomain, RawDomain, Region};
use super::identity::{COOKIE_BITS, Identity, Queue};
use super::shared_receive::{RawShared, SharedReceiveQueue};
use super::{check_errno, last_failure};
use crate::fabric::{
    Buffer, Failure, Memory, Pinned, QueueLimits, QueueShape, Receives, Status, TargetId, Work,
};
use crate::limits::{GATHER_MAX, INLINE_MAX, RECEIVES_AT_ONCE, UNSIGNALED_MAX};
use crate::sys;

/// What a work request's completion names its owner by: a table's key in 30 bits. The key's whole index, and the low
/// bits of its generation, so that what an earlier owner left in a completion queue is not taken for the present one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie(u32);

const INDEX_BITS: u32 = 20;

impl Cookie {
    /// `None` when the table has grown beyond a million places.
    pub fn new(key: SlabKey) -> Option<Self> {
        let index = u32::try_from(key.index()).ok().filter(|index| *index < 1 << INDEX_BITS)?;
        let generation = (key.to_u64() >> 32) as u32 & ((1 << (COOKIE_BITS - INDEX_BITS)) - 1);
        Some(Self(generation << INDEX_BITS | index))
    }

    /// Of the queue pair that a completion belongs to. `None` for one of a shared receive queue, which knows only the
    /// number of the queue pair.
    pub fn of(completion: &WorkCompletion) -> Option<Self> {
        let identity = Identity::from_word(completion.identity())?;
        (identity.queue != Queue::Shared).then_some(Self(identity.cookie))
    }

    pub(super) const fn word(self) -> u32 {
        self.0
    }

    /// The place in the table.
    pub const fn index(self) -> usize {
        (self.0 & ((1 << INDEX_BITS) - 1)) as usize
    }
}

/// A queue pair of type RC (ibv_create_qp(3)) with everything that is posted to it.
pub struct QueuePair {
    pair: NonNull<sys::ibv_qp>,
    number: u32,
    cookie: Cookie,
    limits: QueueLimits,
    memory: Memory,
    protection: Arc<ProtectionDomain>,

    /// Posted, or about to be, in order; `first_send` is the number of the first.
    pub(super) sends: VecDeque<Posted>,
    first_send: u32,
    /// Frames inside posted packets, with the packet's number.
    pinned: VecDeque<(u32, Pinned)>,
    pub(super) unsignaled: u32,
    /// From which number on the device took no more, and why.
    refused: Option<(u32, i32)>,
    targets: Slab<TargetId, Target>,

    receives: VecDeque<Buffer>,
    first_receive: u32,

    // What it stands on; dropped last.
    _queue: Arc<RawQueue>,
    shared: Option<Arc<RawShared>>,
    domain: Arc<RawDomain>,
}

// SAFETY: libibverbs may be called for a queue pair from any thread, and what is here besides is Send.
unsafe impl Send for QueuePair {}

/// A request on the send queue, with what the device may touch.
#[derive(Debug)]
pub(super) enum Posted {
    Inline {
        tag: u32,
    },
    Packet {
        tag: u32,
        buffer: Buffer,
    },
    Read {
        tag: u32,
        target: TargetId,
        region: Option<Region>,
    },
    /// The last of a queue pair in error. Nobody above knows of it.
    Beacon,
}

#[derive(Debug)]
struct Target {
    frame: FrameMut,
    key: Option<u32>,
    reads: u32,
}

/// Where a READ is to land.
pub(super) struct Landing {
    pub(super) address: u64,
    pub(super) key: u32,
    pub(super) region: Option<Region>,
}

impl QueuePair {
    /// A new one, in the state RESET. `owner` comes back with asynchronous events, and as a [`Cookie`] with
    /// completions.
    pub fn new(
        protection: &Arc<ProtectionDomain>,
        completions: &CompletionQueue,
        shared: Option<&SharedReceiveQueue>,
        shape: &QueueShape,
        owner: SlabKey,
    ) -> Result<Self, Failure> {
        let cookie = Cookie::new(owner).ok_or(Failure::new("ibv_create_qp", libc::ENOBUFS))?;
        let domain = protection.raw()?;
        let context = domain.context();
        let most = u32::try_from(context.info().work_requests_max).unwrap_or(u32::MAX);
        let receives = match shape.receives {
            Receives::Own(count) => count.min(most),
            Receives::Shared => 0,
        };
        let sends = shape.sends.clamp(1, most.saturating_sub(1).max(1));
        let gather = shape.gather.min(context.gather_max()).clamp(1, GATHER_MAX as u32);
        let mut inline = shape.inline.min(INLINE_MAX as u32);
        let queue = completions.share();
        let shared_raw = match (shape.receives, shared) {
            (Receives::Shared, Some(shared)) => Some(shared.share()),
            (Receives::Shared, None) => return Err(Failure::new("ibv_create_qp", libc::EINVAL)),
            (Receives::Own(_), _) => None,
        };
        loop {
            // SAFETY: everything that is named is alive; the owner is never followed as a pointer. The attributes are
            // plain numbers and pointers, which may be zero.
            let (pair, granted) = unsafe {
                let mut attributes: sys::ibv_qp_init_attr = std::mem::zeroed();
                attributes.qp_context = std::ptr::without_provenance_mut(owner.to_u64() as usize);
                (attributes.send_cq, attributes.recv_cq) = (queue.raw(), queue.raw());
                attributes.srq = shared_raw.as_ref().map_or(std::ptr::null_mut(), |shared| shared.raw());
                attributes.cap = sys::ibv_qp_cap {
                    // One more, for the beacon.
                    max_send_wr: (sends + 1).min(most),
                    max_recv_wr: receives,
                    max_send_sge: gather,
                    max_recv_sge: 1,
                    max_inline_data: inline,
                };
                attributes.qp_type = sys::IBV_QPT_RC;
                (context.verbs().ibv_create_qp(domain.raw(), &mut attributes), attributes.cap)
            };
            let Some(pair) = NonNull::new(pair) else {
                let failure = last_failure("ibv_create_qp");
                // A device says only that the whole is too much. Inline room is what can be done without.
                if failure.errno == libc::EINVAL && inline > 0 {
                    inline /= 2;
                    continue;
                }
                return Err(failure);
            };
            // SAFETY: the queue pair was just made.
            let number = unsafe { pair.as_ref().qp_num };
            return Ok(Self {
                pair,
                number,
                cookie,
                limits: QueueLimits {
                    // What was asked for, not what was granted: completions are reserved for so many.
                    sends: sends.min(granted.max_send_wr.saturating_sub(1)).max(1) as usize,
                    receives: receives.min(granted.max_recv_wr) as usize,
                    gather: gather as usize,
                    inline: granted.max_inline_data.min(INLINE_MAX as u32) as usize,
                },
                memory: protection.memory(),
                protection: protection.clone(),
                sends: VecDeque::new(),
                first_send: 0,
                pinned: VecDeque::new(),
                unsignaled: 0,
                refused: None,
                targets: Slab::new(),
                receives: VecDeque::new(),
                first_receive: 0,
                _queue: queue,
                shared: shared_raw,
                domain,
            });
        }
    }

    /// How large it has become.
    pub const fn limits(&self) -> QueueLimits {
        self.limits
    }

    /// Its number, as the peer knows it.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Whether its receives come from a shared queue.
    pub const fn shares_receives(&self) -> bool {
        self.shared.is_some()
    }

    /// Requests that the send queue takes.
    pub fn room(&self) -> usize {
        self.limits.sends.saturating_sub(self.sends.len())
    }

    /// Whether nothing is posted to it.
    pub fn is_idle(&self) -> bool {
        self.sends.is_empty() && self.receives.is_empty()
    }

    /// Whether the device has refused requests that now only wait for their turn to come back.
    pub fn has_refused(&self) -> bool {
        self.refused.is_some_and(|(from, _)| self.first_send == from && !self.sends.is_empty())
    }

    /// Puts it into error, and sees to it that everything posted comes back: what was not signalled and succeeded would
    /// otherwise not be heard of. Once is enough.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let failed = self.fail();
        if self.sends.is_empty() || self.is_refusing() || matches!(self.sends.back(), Some(Posted::Beacon)) {
            return failed;
        }
        // SAFETY: a request is plain numbers and pointers, which may be zero. It has no memory, and the queue pair is
        // alive and has room for one more than anybody else may post.
        let result = unsafe {
            let mut beacon: sys::ibv_send_wr = std::mem::zeroed();
            let number = self.next_send();
            beacon.wr_id = Identity { queue: Queue::Send, cookie: self.cookie.0, number }.to_word();
            (beacon.opcode, beacon.send_flags) = (sys::IBV_WR_SEND, sys::IBV_SEND_SIGNALED);
            let mut bad = std::ptr::null_mut();
            sys::ibv_post_send(self.raw(), &mut beacon, &mut bad)
        };
        check_errno("ibv_post_send", result)?;
        self.sends.push_back(Posted::Beacon);
        failed
    }

    fn fail(&mut self) -> Result<(), Failure> {
        // SAFETY: attributes are plain numbers.
        let mut attributes: sys::ibv_qp_attr = unsafe { std::mem::zeroed() };
        attributes.qp_state = sys::IBV_QPS_ERR;
        self.modify(&mut attributes, sys::IBV_QP_STATE)
    }

    pub(super) fn modify(&mut self, attributes: &mut sys::ibv_qp_attr, mask: u32) -> Result<(), Failure> {
        // SAFETY: the queue pair is alive.
        let result =
            unsafe { self.domain.context().verbs().ibv_modify_qp(self.raw(), attributes, mask as i32) };
        check_errno("ibv_modify_qp", result)
    }

    pub(super) const fn raw(&self) -> *mut sys::ibv_qp {
        self.pair.as_ptr()
    }

    pub(super) const fn cookie(&self) -> Cookie {
        self.cookie
    }

    pub(super) fn is_infiniband(&self, port: u8) -> bool {
        self.domain.context().port(port).is_ok_and(|port| port.is_infiniband)
    }

    /// How many sends may pass between two that are signalled.
    pub(super) fn unsignaled_max(&self) -> u32 {
        UNSIGNALED_MAX.min(self.limits.sends as u32 / 4).max(1) - 1
    }

    // Receives

    /// Posts receives, as many of `buffers` as it takes, which leave the vector; on an error the rest stay in it.
    pub fn post_receives(&mut self, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        while !buffers.is_empty() {
            let room = self.limits.receives - self.receives.len();
            if room == 0 {
                return Err(Failure::new("ibv_post_recv", libc::ENOMEM));
            }
            let count = buffers.len().min(room).min(RECEIVES_AT_ONCE);
            let first = self.first_receive.wrapping_add(self.receives.len() as u32);
            let identity = |at: usize| Identity {
                queue: Queue::Receive,
                cookie: self.cookie.0,
                number: first.wrapping_add(at as u32),
            };
            // SAFETY: the queue pair is alive and has a receive queue of its own (`room`); the buffers posted are kept
            // in `receives` until they complete or the queue pair is destroyed.
            let (posted, result) = unsafe {
                post_receive_list(&mut buffers[..count], identity, |list, bad| {
                    sys::ibv_post_recv(self.pair.as_ptr(), list, bad)
                })
            };
            self.receives.extend(buffers.drain(..posted));
            check_errno("ibv_post_recv", result)?;
        }
        Ok(())
    }

    // Targets of READs

    /// Lends a frame for READs to land in.
    pub(super) fn lend(&mut self, frame: FrameMut) -> TargetId {
        let key = frame.key(self.memory.domain()).filter(|_| self.protection.arenas_are_targets());
        let key = key.map(|key| key.local as u32);
        self.targets.insert(Target { frame, key, reads: 0 })
    }

    /// Takes a target back, unless a READ into it is posted.
    pub fn reclaim(&mut self, target: TargetId) -> Option<FrameMut> {
        self.targets.find(target).filter(|target| target.reads == 0)?;
        self.targets.remove(target).map(|target| target.frame)
    }

    /// Copies bytes into a target, where no READ into the same range is posted.
    pub fn fill_target(&mut self, target: TargetId, at: usize, bytes: &[u8]) -> bool {
        let frame = self.targets.find_mut(target).map(|target| &mut target.frame);
        let place = frame.and_then(|frame| frame.get_mut(at..at.checked_add(bytes.len())?));
        place.is_some_and(|place| {
            place.copy_from_slice(bytes);
            true
        })
    }

    /// A range of a target's memory, registered for the one READ if the target is not. Counts as a READ that is posted.
    pub(super) fn land(
        &mut self,
        target: TargetId,
        into: std::ops::Range<usize>,
    ) -> Result<Landing, LandError> {
        let target = self.targets.find_mut(target).ok_or(LandError::NoTarget)?;
        let len = into.len();
        let place = target.frame.get_mut(into).filter(|_| len > 0).ok_or(LandError::NoTarget)?;
        let start = place.as_mut_ptr();
        let (key, region) = match target.key {
            Some(key) => (key, None),
            None => {
                let access = self.protection.target_access();
                let region = self
                    .protection
                    .register_alone(start, len, access)
                    .map_err(|_| LandError::NotRegistered)?;
                (region.local_key(), Some(region))
            }
        };
        target.reads += 1;
        Ok(Landing { address: start.expose_provenance() as u64, key, region })
    }

    // Sends

    /// The number that the next send gets.
    pub(super) fn next_send(&self) -> u32 {
        self.first_send.wrapping_add(self.sends.len() as u32)
    }

    pub(super) fn pin(&mut self, number: u32, body: Pinned) {
        self.pinned.push_back((number, body));
    }

    /// The device took no more from `number` on.
    pub(super) fn refuse_from(&mut self, number: u32, errno: i32) {
        if self.refused.is_none() {
            self.refused = Some((number, errno));
            // So that what was posted before comes back, in as far as it was signalled: a device that has just refused
            // takes no beacon either. If even this fails, the queue pair is in error already.
            let _ = self.fail();
        }
    }

    pub(super) const fn is_refusing(&self) -> bool {
        self.refused.is_some()
    }

    // Completions

    /// Gives back what a completion says is done: for a send, also what was posted before it without a signal. Says
    /// nothing to a completion that is not its own.
    pub fn retire(&mut self, completion: WorkCompletion, mut each: impl FnMut(Status, Work)) {
        let Some(identity) = Identity::from_word(completion.identity()) else { return };
        if identity.cookie != self.cookie.0 || completion.queue_pair_number() != self.number {
            return;
        }
        match identity.queue {
            Queue::Send => {
                let ahead = identity.number.wrapping_sub(self.first_send) as usize;
                let posted = self
                    .refused
                    .map_or(self.sends.len(), |(from, _)| from.wrapping_sub(self.first_send) as usize);
                if ahead >= posted {
                    return;
                }
                for _ in 0..ahead {
                    self.retire_first(Status::Success, &mut each);
                }
                self.retire_first(completion.status(), &mut each);
            }
            Queue::Receive => {
                // A receive queue completes in order.
                if identity.number != self.first_receive {
                    return;
                }
                let Some(buffer) = self.receives.pop_front() else { return };
                self.first_receive = self.first_receive.wrapping_add(1);
                let len = if completion.status() == Status::Success { completion.len() } else { 0 };
                let len = len.min(buffer.len());
                each(completion.status(), Work::Receive { buffer, len });
            }
            Queue::Shared => {}
        }
    }

    /// Gives back what the device refused, once everything before it has come back.
    pub fn retire_refused(&mut self, mut each: impl FnMut(Status, Work)) {
        let Some((_, errno)) = self.refused.filter(|_| self.has_refused()) else { return };
        while !self.sends.is_empty() {
            self.retire_first(Status::NotPosted(errno), &mut each);
        }
        self.refused = Some((self.first_send, errno));
    }

    fn retire_first(&mut self, status: Status, each: &mut impl FnMut(Status, Work)) {
        let Some(posted) = self.sends.pop_front() else { return };
        while self.pinned.front().is_some_and(|(number, _)| *number == self.first_send) {
            self.pinned.pop_front();
        }
        self.first_send = self.first_send.wrapping_add(1);
        let work = match posted {
            Posted::Inline { tag } => Work::Send { tag, buffer: None },
            Posted::Packet { tag, buffer } => Work::Send { tag, buffer: Some(buffer) },
            Posted::Read { tag, target, region } => {
                drop(region);
                if let Some(target) = self.targets.find_mut(target) {
                    target.reads -= 1;
                }
                Work::Read { tag, target }
            }
            Posted::Beacon => return,
        };
        each(status, work);
    }
}

/// Why a READ has nowhere to land.
pub(super) enum LandError {
    NoTarget,
    NotRegistered,
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        if !self.domain.context().is_ours() {
            return;
        }
        // SAFETY: the queue pair is alive and nobody uses it after this. Its events are acknowledged as they are read.
        let result = unsafe { self.domain.context().verbs().ibv_destroy_qp(self.raw()) };
        if result != 0 {
            // The device may still touch what is posted: that memory is never used again.
            std::mem::forget((take(&mut self.sends), take(&mut self.pinned)));
            std::mem::forget((take(&mut self.targets), take(&mut self.receives)));
        }
    }
}

impl fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueuePair({}, {} sends, {} receives)", self.number, self.sends.len(), self.receives.len())
    }
}

/// Posts up to [`RECEIVES_AT_ONCE`] buffers as one list. Returns how many were posted, and the result.
///
/// # Safety
/// `post` posts a list to a live queue, and the caller keeps the posted buffers untouched until they complete or the
/// queue is gone.
pub(super) unsafe fn post_receive_list(
    buffers: &mut [Buffer],
    identity: impl Fn(usize) -> Identity,
    post: impl FnOnce(*mut sys::ibv_recv_wr, *mut *mut sys::ibv_recv_wr) -> i32,
) -> (usize, i32) {
    let count = buffers.len().min(RECEIVES_AT_ONCE);
    // SAFETY: both are plain numbers and pointers, which may be zero.
    let mut list: [sys::ibv_recv_wr; RECEIVES_AT_ONCE] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut pieces: [sys::ibv_sge; RECEIVES_AT_ONCE] = unsafe { std::mem::zeroed() };
    for (at, buffer) in buffers.iter_mut().take(count).enumerate() {
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        pieces[at] = sys::ibv_sge {
            addr: buffer.as_mut_ptr().expose_provenance() as u64,
            length,
            lkey: buffer.local_key() as u32,
        };
        list[at].wr_id = identity(at).to_word();
        // A piece of length 0 means 2 GiB to some devices.
        list[at].num_sge = i32::from(length > 0);
    }
    let (first, pieces) = (list.as_mut_ptr(), pieces.as_mut_ptr());
    let mut bad = std::ptr::null_mut();
    // SAFETY: `at` stays inside both arrays, which live until the call has returned; it copies what it needs.
    unsafe {
        for at in 0..count {
            (*first.add(at)).sg_list = pieces.add(at);
            (*first.add(at)).next = if at + 1 < count { first.add(at + 1) } else { std::ptr::null_mut() };
        }
    }
    let result = if count > 0 { post(first, &mut bad) } else { 0 };
    let posted = if result == 0 { count } else { place_in(first, bad, count) };
    (posted, result)
}

/// Which element of an array a pointer into it is at; 0 for a pointer that is not in it.
pub(super) fn place_in<T>(first: *mut T, at: *mut T, count: usize) -> usize {
    let distance = at.addr().wrapping_sub(first.addr());
    if distance < count * size_of::<T>() { distance / size_of::<T>() } else { 0 }
}
