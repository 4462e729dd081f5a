//! A shared receive queue, and the buffers that are posted to it. Knows no packets.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::completion::WorkCompletion;
use super::domain::{ProtectionDomain, RawDomain};
use super::identity::{COOKIE_BITS, Identity, Queue};
use super::queue_pair::post_receive_list;
use super::{check_errno, last_failure};
use crate::fabric::{Buffer, Failure, Status};
use crate::limits::RECEIVES_AT_ONCE;
use crate::sys;

/// A shared receive queue (ibv_create_srq(3)).
pub struct SharedReceiveQueue(Arc<RawShared>);

/// The queue and what is posted to it. Queue pairs that receive from it hold it, and so the device may write to the
/// buffers until the last of them is gone.
pub(super) struct RawShared {
    queue: NonNull<sys::ibv_srq>,
    cookie: u32,
    slots: Mutex<Slots>,
    // What it stands on; dropped last.
    domain: Arc<RawDomain>,
}

#[derive(Default)]
struct Slots {
    /// By slot: what is posted there.
    posted: Vec<Option<Buffer>>,
    vacant: Vec<u32>,
}

// SAFETY: libibverbs may be called for one shared receive queue from any thread, and the slots have a lock.
unsafe impl Send for RawShared {}
// SAFETY: as above.
unsafe impl Sync for RawShared {}

impl RawShared {
    pub(super) fn raw(&self) -> *mut sys::ibv_srq {
        self.queue.as_ptr()
    }
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RawShared {
    fn drop(&mut self) {
        if !self.domain.context().is_ours() {
            return;
        }
        // SAFETY: nobody else has the queue: queue pairs held it. Its events are acknowledged as they are read.
        let result = unsafe { self.domain.context().verbs().ibv_destroy_srq(self.raw()) };
        if result != 0 {
            // The device may still write to what is posted: that memory is never used again.
            std::mem::forget(std::mem::take(&mut *self.lock()));
        }
    }
}

/// Tells the completions of one queue from those that an earlier one left behind.
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(0);

impl SharedReceiveQueue {
    /// A queue of `receives`, or as many as the device has. `cookie` comes back with asynchronous events.
    pub fn new(protection: &ProtectionDomain, receives: u32, cookie: u64) -> Result<Self, Failure> {
        let domain = protection.raw()?;
        let most = u32::try_from(domain.context().info().shared_receives_max).unwrap_or(u32::MAX);
        if most == 0 {
            return Err(Failure::new("ibv_create_srq", libc::EOPNOTSUPP));
        }
        let receives = receives.clamp(1, most);
        // SAFETY: the domain is alive; the cookie is never followed as a pointer.
        let queue = unsafe {
            let mut attributes: sys::ibv_srq_init_attr = std::mem::zeroed();
            attributes.srq_context = std::ptr::without_provenance_mut(cookie as usize);
            attributes.attr = sys::ibv_srq_attr { max_wr: receives, max_sge: 1, srq_limit: 0 };
            domain.context().verbs().ibv_create_srq(domain.raw(), &mut attributes)
        };
        let queue = NonNull::new(queue).ok_or_else(|| last_failure("ibv_create_srq"))?;
        let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed) % (1 << COOKIE_BITS);
        let posted = (0..receives).map(|_| None).collect();
        let slots = Mutex::new(Slots { posted, vacant: (0..receives).rev().collect() });
        Ok(Self(Arc::new(RawShared { queue, cookie, slots, domain })))
    }

    /// Receives that fit.
    pub fn capacity(&self) -> usize {
        self.0.lock().posted.len()
    }

    /// Receives that are posted.
    pub fn posted(&self) -> usize {
        let slots = self.0.lock();
        slots.posted.len() - slots.vacant.len()
    }

    /// Posts receives, as many of `buffers` as it takes, which leave the vector; on an error the rest stay in it.
    pub fn post(&mut self, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        let mut slots = self.0.lock();
        while !buffers.is_empty() {
            let count = buffers.len().min(slots.vacant.len()).min(RECEIVES_AT_ONCE);
            if count == 0 {
                return Err(Failure::new("ibv_post_srq_recv", libc::ENOMEM));
            }
            let mut chosen = [0; RECEIVES_AT_ONCE];
            let left = slots.vacant.len() - count;
            chosen[..count].copy_from_slice(&slots.vacant[left..]);
            slots.vacant.truncate(left);
            let identity =
                |at: usize| Identity { queue: Queue::Shared, cookie: self.0.cookie, number: chosen[at] };
            // SAFETY: the queue is alive; the buffers posted are kept in `posted` until they complete or the queue is
            // destroyed.
            let (posted, result) = unsafe {
                post_receive_list(&mut buffers[..count], identity, |list, bad| {
                    sys::ibv_post_srq_recv(self.0.raw(), list, bad)
                })
            };
            for (slot, buffer) in chosen.iter().zip(buffers.drain(..posted)) {
                slots.posted[*slot as usize] = Some(buffer);
            }
            slots.vacant.extend_from_slice(&chosen[posted..count]);
            check_errno("ibv_post_srq_recv", result)?;
        }
        Ok(())
    }

    /// Asks for one event when fewer than `low` are posted.
    pub fn arm(&mut self, low: u32) -> Result<(), Failure> {
        let mut attributes = sys::ibv_srq_attr { max_wr: 0, max_sge: 0, srq_limit: low };
        // SAFETY: the queue is alive.
        let result = unsafe {
            let verbs = self.0.domain.context().verbs();
            verbs.ibv_modify_srq(self.0.raw(), &mut attributes, sys::IBV_SRQ_LIMIT as i32)
        };
        check_errno("ibv_modify_srq", result)
    }

    /// Gives back the buffer of a completion, and how many bytes are in it. `None` to one that is not its own.
    pub fn retire(&mut self, completion: &WorkCompletion) -> Option<(Buffer, usize)> {
        let identity = Identity::from_word(completion.identity())
            .filter(|it| it.queue == Queue::Shared && it.cookie == self.0.cookie)?;
        let mut slots = self.0.lock();
        let buffer = slots.posted.get_mut(identity.number as usize)?.take()?;
        slots.vacant.push(identity.number);
        drop(slots);
        let len = if completion.status() == Status::Success { completion.len() } else { 0 };
        let len = len.min(buffer.len());
        Some((buffer, len))
    }

    pub(super) fn share(&self) -> Arc<RawShared> {
        self.0.clone()
    }
}

impl fmt::Debug for SharedReceiveQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedReceiveQueue({} of {} posted)", self.posted(), self.capacity())
    }
}
