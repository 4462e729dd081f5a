//! Completion queues and the channel that tells of them. Knows no buffers: those are with the queues that were posted
//! to.

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::context::set_nonblocking;
use super::{Context, check_errno, last_failure};
use crate::fabric::{Failure, Status};
use crate::limits::POLL_BATCH;
use crate::sys;

/// A completion channel (ibv_create_comp_channel(3)): a descriptor for any number of completion queues. Clones share
/// it.
#[derive(Clone)]
pub struct CompletionChannel(Arc<RawChannel>);

struct RawChannel {
    context: Context,
    channel: NonNull<sys::ibv_comp_channel>,
}

// SAFETY: libibverbs may be called for one channel from any thread, and nothing here is written.
unsafe impl Send for RawChannel {}
// SAFETY: as above.
unsafe impl Sync for RawChannel {}

impl CompletionChannel {
    /// A new channel of a device.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        // SAFETY: the context is open.
        let channel = unsafe { context.verbs().ibv_create_comp_channel(context.raw()) };
        let channel = NonNull::new(channel).ok_or_else(|| last_failure("ibv_create_comp_channel"))?;
        let channel = RawChannel { context: context.clone(), channel };
        // SAFETY: the channel was just made.
        set_nonblocking(unsafe { channel.channel.as_ref().fd })?;
        Ok(Self(Arc::new(channel)))
    }

    /// Takes one event and acknowledges it: the cookie of the completion queue that has it.
    pub fn next_event(&self) -> Option<u64> {
        let verbs = self.0.context.verbs();
        let (mut queue, mut cookie) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the channel is alive and does not block; the queue of an event cannot be destroyed before the event
        // is acknowledged.
        unsafe {
            if verbs.ibv_get_cq_event(self.0.channel.as_ptr(), &mut queue, &mut cookie) != 0 {
                return None;
            }
            verbs.ibv_ack_cq_events(queue, 1);
        }
        Some(cookie.addr() as u64)
    }

    /// Readable when there is an event.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as the channel, which `self` keeps.
        unsafe { BorrowedFd::borrow_raw(self.0.channel.as_ref().fd) }
    }
}

impl Drop for RawChannel {
    fn drop(&mut self) {
        if self.context.is_ours() {
            // SAFETY: nobody else has the channel: completion queues held it.
            unsafe { self.context.verbs().ibv_destroy_comp_channel(self.channel.as_ptr()) };
        }
    }
}

impl fmt::Debug for CompletionChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompletionChannel({})", self.0.context.info().name)
    }
}

/// A completion queue (ibv_create_cq(3)). Queue pairs hold what it is made of, so it may go before them; what completes
/// then is not seen.
pub struct CompletionQueue {
    raw: Arc<RawQueue>,
    capacity: u32,
}

pub(super) struct RawQueue {
    channel: CompletionChannel,
    queue: NonNull<sys::ibv_cq>,
}

// SAFETY: libibverbs may be called for one completion queue from any thread, and nothing here is written.
unsafe impl Send for RawQueue {}
// SAFETY: as above.
unsafe impl Sync for RawQueue {}

impl RawQueue {
    pub(super) fn raw(&self) -> *mut sys::ibv_cq {
        self.queue.as_ptr()
    }
}

impl Drop for RawQueue {
    fn drop(&mut self) {
        let context = &self.channel.0.context;
        if context.is_ours() {
            // SAFETY: nobody else has the queue: queue pairs held it. Its events are acknowledged as they are read.
            unsafe { context.verbs().ibv_destroy_cq(self.raw()) };
        }
    }
}

impl CompletionQueue {
    /// A queue of at least `entries`, which tells `channel`. `cookie` comes back with the channel's events and with an
    /// asynchronous one if it overflows.
    pub fn new(channel: &CompletionChannel, entries: u32, cookie: u64) -> Result<Self, Failure> {
        let context = &channel.0.context;
        let entries = entries.min(context.completions_max());
        // SAFETY: context and channel are alive; the cookie is never followed as a pointer.
        let queue = unsafe {
            let cookie = std::ptr::without_provenance_mut(cookie as usize);
            let channel = channel.0.channel.as_ptr();
            context.verbs().ibv_create_cq(context.raw(), entries as i32, cookie, channel, 0)
        };
        let queue = NonNull::new(queue).ok_or_else(|| last_failure("ibv_create_cq"))?;
        // SAFETY: the queue was just made.
        let capacity = unsafe { queue.as_ref().cqe }.max(0) as u32;
        Ok(Self { raw: Arc::new(RawQueue { channel: channel.clone(), queue }), capacity })
    }

    /// Entries it holds.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Fills a batch with what has completed, in order. False if there is nothing. Costs no system call.
    pub fn poll(&mut self, batch: &mut Batch) -> bool {
        batch.clear();
        // SAFETY: the queue is alive and the batch has room for so many.
        let count =
            unsafe { sys::ibv_poll_cq(self.raw.raw(), POLL_BATCH as i32, batch.entries.as_mut_ptr().cast()) };
        // Negative is a failure of the queue itself, which an asynchronous event tells.
        batch.filled = usize::try_from(count).unwrap_or(0).min(POLL_BATCH);
        batch.filled > 0
    }

    /// Asks for one event at the next completion. What completed before does not bring it: poll again after this.
    pub fn arm(&mut self) -> Result<(), Failure> {
        // SAFETY: the queue is alive and has a channel.
        check_errno("ibv_req_notify_cq", unsafe { sys::ibv_req_notify_cq(self.raw.raw(), 0) })
    }

    pub(super) fn share(&self) -> Arc<RawQueue> {
        self.raw.clone()
    }
}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompletionQueue({} entries)", self.capacity)
    }
}

/// Completions fetched at once. An iterator that gives each of them once.
pub struct Batch {
    entries: Box<[MaybeUninit<sys::ibv_wc>; POLL_BATCH]>,
    next: usize,
    filled: usize,
}

// SAFETY: completions are plain numbers.
unsafe impl Send for Batch {}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self { entries: Box::new([MaybeUninit::uninit(); POLL_BATCH]), next: 0, filled: 0 }
    }
    fn clear(&mut self) {
        (self.next, self.filled) = (0, 0);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} of {})", self.next, self.filled)
    }
}

impl Iterator for Batch {
    type Item = WorkCompletion;
    fn next(&mut self) -> Option<WorkCompletion> {
        let entry = self.entries[..self.filled].get(self.next)?;
        self.next += 1;
        // SAFETY: `poll` says that the first `filled` entries were written.
        Some(WorkCompletion(unsafe { entry.assume_init() }))
    }
}

/// One completion. It can only come from a completion queue, and only the queue that was posted to can use it, once:
/// that is what gives buffers back.
pub struct WorkCompletion(sys::ibv_wc);

impl WorkCompletion {
    pub(super) const fn identity(&self) -> u64 {
        self.0.wr_id
    }
    pub(super) const fn len(&self) -> usize {
        self.0.byte_len as usize
    }

    /// The number of the queue pair, as both peers know it.
    pub const fn queue_pair_number(&self) -> u32 {
        self.0.qp_num
    }

    /// How the work ended.
    pub const fn status(&self) -> Status {
        match self.0.status {
            sys::IBV_WC_SUCCESS => Status::Success,
            sys::IBV_WC_WR_FLUSH_ERR => Status::Flushed,
            sys::IBV_WC_LOC_LEN_ERR | sys::IBV_WC_REM_INV_REQ_ERR => Status::TooLong,
            sys::IBV_WC_LOC_PROT_ERR | sys::IBV_WC_LOC_ACCESS_ERR => Status::LocalProtection,
            sys::IBV_WC_REM_ACCESS_ERR => Status::RemoteAccess,
            sys::IBV_WC_REM_OP_ERR | sys::IBV_WC_REM_ABORT_ERR => Status::RemoteFailed,
            sys::IBV_WC_RNR_RETRY_EXC_ERR => Status::ReceiverNotReady,
            sys::IBV_WC_RETRY_EXC_ERR | sys::IBV_WC_RESP_TIMEOUT_ERR => Status::RetriesExceeded,
            other => Status::Other(other),
        }
    }
}

impl fmt::Debug for WorkCompletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkCompletion({:?} of queue pair {})", self.status(), self.0.qp_num)
    }
}
