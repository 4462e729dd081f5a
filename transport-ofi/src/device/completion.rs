//! Completion queues (fi_cq(3)). Knows no buffers: those are with the endpoints that were posted to.

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Tailed;
use super::arena::{Arena, Identity};
use super::domain::{Domain, RawDomain};
use super::failure::{Failure, check, text};
use super::wake::Wake;
use crate::limits::{POLL_BATCH, WORDS_MAX};
use crate::sys;

/// A completion queue. Endpoints hold what it is made of, so it may go before them; what completes then is not seen.
/// To poll it also is what makes many providers send and receive: an endpoint whose queue nobody polls stands still.
pub struct CompletionQueue {
    wake: Option<Wake>,
    raw: Arc<RawQueue>,
    entries: Box<[MaybeUninit<sys::fi_cq_msg_entry>; POLL_BATCH]>,
}

pub(super) struct RawQueue {
    queue: NonNull<sys::fid_cq>,
    /// Slots of endpoints that were closed with requests out. See `arena.rs`.
    graves: Mutex<Vec<Arc<Arena>>>,
    has_graves: AtomicBool,
    // What it stands on; dropped last.
    domain: Arc<RawDomain>,
}

// SAFETY: the domain is FI_THREAD_SAFE, and what is here besides has a lock.
unsafe impl Send for RawQueue {}
// SAFETY: as above.
unsafe impl Sync for RawQueue {}

// SAFETY: entries are plain numbers and pointers between two polls.
unsafe impl Send for CompletionQueue {}

impl RawQueue {
    pub(super) fn fid(&self) -> *mut sys::fid {
        self.queue.cast().as_ptr()
    }

    /// Keeps the slots of an endpoint that was just closed.
    pub(super) fn bury(&self, arena: Arc<Arena>) {
        self.graves.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
        self.has_graves.store(true, Ordering::Release);
    }

    /// How many endpoints' slots wait for the queue to be seen empty.
    fn graves(&self) -> usize {
        self.graves.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets go of the oldest so many.
    fn exhume(&self, count: usize) {
        let mut graves = self.graves.lock().unwrap_or_else(PoisonError::into_inner);
        graves.drain(..count);
        self.has_graves.store(!graves.is_empty(), Ordering::Release);
    }
}

impl Drop for RawQueue {
    fn drop(&mut self) {
        if self.domain.is_ours() {
            // SAFETY: nobody else has the queue: endpoints held it.
            unsafe { sys::fi_close(self.fid()) };
        }
    }
}

impl CompletionQueue {
    /// A queue for at least `entries`. It has a descriptor to sleep on where the provider can do that, and is to be
    /// polled only where not.
    pub fn open(domain: &Domain, entries: usize) -> Result<Self, Failure> {
        let domain = domain.raw()?;
        let open = |wait: sys::fi_wait_obj| {
            let mut queue = std::ptr::null_mut();
            // SAFETY: the domain is alive; attributes are plain numbers and pointers, which may be zero.
            let result = unsafe {
                let mut attributes: Tailed<sys::fi_cq_attr> = Tailed::zeroed();
                attributes.value.size = entries;
                attributes.value.format = sys::FI_CQ_FORMAT_MSG;
                attributes.value.wait_obj = wait;
                sys::fi_cq_open(domain.raw(), attributes.as_mut_ptr(), &mut queue, std::ptr::null_mut())
            };
            check("fi_cq_open", result)?;
            NonNull::new(queue).ok_or_else(|| Failure::new("fi_cq_open", sys::FI_EOTHER))
        };
        let own = |queue| RawQueue {
            queue,
            graves: Mutex::default(),
            has_graves: AtomicBool::new(false),
            domain: domain.clone(),
        };
        let with = open(sys::FI_WAIT_FD).map(own).ok().and_then(|raw| {
            // SAFETY: the queue was just opened with FI_WAIT_FD, and both go together.
            let wake = unsafe { domain.fabric().wake(raw.fid()) }?;
            Some((raw, Some(wake)))
        });
        let (raw, wake) = match with {
            Some(with) => with,
            None => (own(open(sys::FI_WAIT_NONE)?), None),
        };
        Ok(Self {
            raw: Arc::new(raw),
            wake,
            entries: Box::new([const { MaybeUninit::uninit() }; POLL_BATCH]),
        })
    }

    /// Puts what has completed, in order, into an emptied batch. False if there is nothing. An error is the queue's
    /// own: it is lost, with an unknown number of completions.
    pub fn poll(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        batch.clear();
        // Before the look: who is buried during it may have left something behind.
        let graves = if self.raw.has_graves.load(Ordering::Acquire) { self.raw.graves() } else { 0 };
        // SAFETY: the queue is alive, and there is room for so many of its format.
        let count =
            unsafe { sys::fi_cq_read(self.raw.queue.as_ptr(), self.entries.as_mut_ptr().cast(), POLL_BATCH) };
        if let Ok(count) = usize::try_from(count) {
            for entry in &self.entries[..count.min(POLL_BATCH)] {
                // SAFETY: the call says that so many were written. Contexts are those of requests, whose slots are kept
                // while the queue may speak of them.
                batch.push(unsafe { Completion::of(entry.assume_init_ref()) });
            }
            return Ok(batch.has_more());
        }
        match -count as u32 {
            sys::FI_EAGAIN => {
                if graves > 0 {
                    self.raw.exhume(graves);
                }
                Ok(false)
            }
            sys::FI_EAVAIL => {
                if let Some(completion) = self.read_error()? {
                    batch.push(completion);
                }
                Ok(batch.has_more())
            }
            _ => Err(Failure::new("fi_cq_read", count as i64)),
        }
    }

    /// Takes the request that failed next.
    #[cold]
    fn read_error(&mut self) -> Result<Option<Completion>, Failure> {
        let queue = self.raw.queue.as_ptr();
        let mut data = [0_u64; WORDS_MAX / 8];
        // SAFETY: the queue is alive; the entry is plain numbers and pointers, which may be zero, and what the
        // provider has to add goes to `data`.
        let (count, entry) = unsafe {
            let mut entry: Tailed<sys::fi_cq_err_entry> = Tailed::zeroed();
            entry.value.err_data = data.as_mut_ptr().cast();
            entry.value.err_data_size = WORDS_MAX;
            let count = sys::fi_cq_readerr(queue, entry.as_mut_ptr(), 0);
            (count, entry.value)
        };
        if count == -(sys::FI_EAGAIN as isize) || count == 0 {
            return Ok(None);
        }
        if count < 0 {
            return Err(Failure::new("fi_cq_readerr", count as i64));
        }
        let mut words = [0; WORDS_MAX];
        // SAFETY: the queue is alive, and the errno and its data are of the entry it has just given; what comes back
        // is a string, perhaps the one in `words`.
        let words = unsafe {
            let (errno, data) = (entry.prov_errno, entry.err_data);
            text(sys::fi_cq_strerror(queue, errno, data, words.as_mut_ptr(), WORDS_MAX - 1))
        };
        let failure = Failure::new("fi_cq_readerr", entry.err).with_provider(words);
        // SAFETY: as in `poll`.
        let whose = unsafe { identity(entry.op_context) };
        Ok(Some(Completion { whose, len: 0, failure: Some(Box::new(failure)) }))
    }

    /// Asks to be woken: to be called when there is nothing to poll, and then to be followed by one look more. If it
    /// says true and that look finds nothing, the caller may sleep on the descriptor until something completes
    /// (fi_trywait(3)). False: there is something already, or no descriptor.
    pub fn arm(&mut self) -> Result<bool, Failure> {
        match &self.wake {
            // SAFETY: the queue is alive and has a descriptor.
            Some(wake) => unsafe { self.raw.domain.fabric().arm(self.raw.fid(), wake) },
            None => Ok(false),
        }
    }

    /// The descriptor to sleep on, after [`CompletionQueue::arm`]. `None`: the provider has none.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(Wake::fd)
    }

    /// Endpoints whose slots it keeps until it has been seen empty: of interest to tests.
    pub fn remembered(&self) -> usize {
        self.raw.graves()
    }

    pub(super) fn share(&self) -> Arc<RawQueue> {
        self.raw.clone()
    }
}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompletionQueue({:?})", self.wake)
    }
}

/// Completions fetched at once. An iterator that gives each of them once.
#[derive(Debug)]
pub struct Batch {
    /// The last first.
    completions: Vec<Completion>,
    next: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self { completions: Vec::with_capacity(POLL_BATCH), next: 0 }
    }
    fn clear(&mut self) {
        self.completions.clear();
        self.next = 0;
    }
    fn push(&mut self, completion: Completion) {
        self.completions.push(completion);
    }
    /// Whether the queue is likely to have no more: it gave fewer than are fetched at once. Failures come one by one.
    pub fn is_last(&self) -> bool {
        self.completions.len() < POLL_BATCH && self.completions.iter().all(|it| it.failure.is_none())
    }
    fn has_more(&self) -> bool {
        self.next < self.completions.len()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Iterator for Batch {
    type Item = Completion;
    #[inline]
    fn next(&mut self) -> Option<Completion> {
        let taken = self.completions.get_mut(self.next)?.take();
        self.next += 1;
        Some(taken)
    }
}

/// One completion. It can only come from a completion queue, and only the endpoint that was posted to can use it,
/// once: that is what gives buffers back.
#[derive(Debug)]
pub struct Completion {
    whose: Option<Identity>,
    len: usize,
    failure: Option<Box<Failure>>,
}

impl Completion {
    /// # Safety
    /// The entry came from a completion queue.
    #[inline]
    unsafe fn of(entry: &sys::fi_cq_msg_entry) -> Self {
        // SAFETY: the caller's promise.
        Self { whose: unsafe { identity(entry.op_context) }, len: entry.len, failure: None }
    }

    /// Of the endpoint it belongs to, what its owner calls it. `None` for a failure of something that was injected,
    /// of which a provider does not say whose it was.
    pub fn cookie(&self) -> Option<u64> {
        self.whose.map(|whose| whose.cookie)
    }

    /// Why the request failed; `None` if it did not.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_deref()
    }

    pub(super) const fn identity(&self) -> Option<Identity> {
        self.whose
    }
    pub(super) const fn len(&self) -> usize {
        self.len
    }
    pub(super) fn into_failure(self) -> Option<Box<Failure>> {
        self.failure
    }

    #[inline]
    fn take(&mut self) -> Self {
        Self { whose: self.whose.take(), len: self.len, failure: self.failure.take() }
    }
}

/// # Safety
/// `context` is null or that of a request, whose slots are still there.
#[inline]
unsafe fn identity(context: *const std::ffi::c_void) -> Option<Identity> {
    // SAFETY: the caller's promise.
    (!context.is_null()).then(|| unsafe { Arena::identity(context) })
}
