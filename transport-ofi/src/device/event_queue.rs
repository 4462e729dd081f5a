//! Event queues (fi_eq(3)): what happens to connections. Moves no data.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Tailed;
use super::fabric::{Fabric, RawFabric};
use super::failure::{Failure, check, text};
use super::info::Info;
use super::listener::{RawListener, Request};
use super::wake::Wake;
use crate::limits::{PRIVATE_DATA_MAX, WORDS_MAX};
use crate::sys;

/// An event queue. Endpoints and listeners hold what it is made of, so it may go before them; what happens then is
/// not heard. To read it also is what makes some providers connect.
pub struct EventQueue {
    wake: Option<Wake>,
    raw: Arc<RawEvents>,
}

pub(super) struct RawEvents {
    queue: NonNull<sys::fid_eq>,
    /// Who may be spoken of, by address: never followed, since an event may be older than the end of its endpoint.
    owners: Mutex<BTreeMap<usize, Owner>>,
    // What it stands on; dropped last.
    fabric: Arc<RawFabric>,
}

// SAFETY: libfabric may be called for an event queue from any thread, and what is here besides has a lock.
unsafe impl Send for RawEvents {}
// SAFETY: as above.
unsafe impl Sync for RawEvents {}

/// Whom an event is about.
#[derive(Clone)]
pub(super) enum Owner {
    Endpoint(u64),
    Listener(u64, Weak<RawListener>),
}

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    /// What the owner of the endpoint calls it; of a request, the listener's.
    pub cookie: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug)]
pub enum EventKind {
    /// A peer asks at a listener.
    Request(Request),
    /// The connection stands. What the listener said is with it; on the listener's own side, nothing.
    Connected(Vec<u8>),
    /// The peer has closed, or is gone; or we have, by `shutdown`.
    Shutdown,
    /// There is no connection, or no more. `said` is what a listener that refused has said.
    Failed {
        /// Why.
        failure: Failure,
        /// By the listener.
        said: Vec<u8>,
    },
}

/// An event of the connection manager: its head, and what the peer says.
#[repr(C)]
struct Entry {
    head: sys::fi_eq_cm_entry,
    data: [u8; PRIVATE_DATA_MAX],
    tail: [u64; 8],
}

const HEAD: usize = size_of::<sys::fi_eq_cm_entry>();

impl RawEvents {
    pub(super) fn fid(&self) -> *mut sys::fid {
        self.queue.cast().as_ptr()
    }

    fn owners(&self) -> MutexGuard<'_, BTreeMap<usize, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events about this object are this owner's from here on.
    pub(super) fn add(&self, object: *const sys::fid, owner: Owner) {
        self.owners().insert(object.addr(), owner);
    }

    /// And from here on nobody's.
    pub(super) fn remove(&self, object: *const sys::fid) {
        self.owners().remove(&object.addr());
    }

    fn owner_of(&self, object: *const sys::fid) -> Option<Owner> {
        self.owners().get(&object.addr()).cloned()
    }
}

impl Drop for RawEvents {
    fn drop(&mut self) {
        if self.fabric.is_ours() {
            // SAFETY: nobody else has the queue: endpoints and listeners held it.
            unsafe { sys::fi_close(self.fid()) };
        }
    }
}

impl EventQueue {
    /// A queue of a network. It has a descriptor where the provider can do that.
    pub fn open(fabric: &Fabric) -> Result<Self, Failure> {
        let fabric = fabric.share();
        let open = |wait: sys::fi_wait_obj| {
            let mut queue = std::ptr::null_mut();
            // SAFETY: the fabric is alive; attributes are plain numbers and pointers, which may be zero.
            let result = unsafe {
                let mut attributes: Tailed<sys::fi_eq_attr> = Tailed::zeroed();
                attributes.value.wait_obj = wait;
                sys::fi_eq_open(fabric.raw(), attributes.as_mut_ptr(), &mut queue, std::ptr::null_mut())
            };
            check("fi_eq_open", result)?;
            NonNull::new(queue).ok_or_else(|| Failure::new("fi_eq_open", sys::FI_EOTHER))
        };
        let own = |queue| RawEvents { queue, owners: Mutex::default(), fabric: fabric.clone() };
        let with = open(sys::FI_WAIT_FD).map(own).ok().and_then(|raw| {
            // SAFETY: the queue was just opened with FI_WAIT_FD, and both go together.
            let wake = unsafe { fabric.wake(raw.fid()) }?;
            Some((raw, Some(wake)))
        });
        let (raw, wake) = match with {
            Some(with) => with,
            None => (own(open(sys::FI_WAIT_NONE)?), None),
        };
        Ok(Self { raw: Arc::new(raw), wake })
    }

    /// Takes the next event, if there is one. An error is the queue's own.
    pub fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            let mut kind = 0;
            // SAFETY: the queue is alive; an entry is plain numbers and pointers, which may be zero, and has room for
            // as much as is said.
            let (len, mut entry) = unsafe {
                let mut entry: Entry = std::mem::zeroed();
                let start = (&raw mut entry).cast();
                let len = sys::fi_eq_read(self.raw.queue.as_ptr(), &mut kind, start, size_of::<Entry>(), 0);
                (len, entry)
            };
            let event = match usize::try_from(len) {
                Ok(len) => self.sort(kind, &mut entry, len.saturating_sub(HEAD)),
                Err(_) => match -len as u32 {
                    sys::FI_EAGAIN => return Ok(None),
                    sys::FI_EAVAIL => self.read_error()?,
                    _ => return Err(Failure::new("fi_eq_read", len as i64)),
                },
            };
            // Of what is nobody's any more, or of no consequence here, nothing is said.
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn sort(&self, kind: u32, entry: &mut Entry, len: usize) -> Option<Event> {
        let data = entry.data[..len.min(PRIVATE_DATA_MAX)].to_vec();
        let owner = self.raw.owner_of(entry.head.fid);
        if kind == sys::FI_CONNREQ {
            let info = NonNull::new(entry.head.info)?;
            // SAFETY: a request's offer is the reader's to free.
            let info = unsafe { Info::own(self.raw.fabric.library(), info) };
            let Some(Owner::Listener(cookie, listener)) = owner else { return None };
            let request = Request::new(info, listener.upgrade()?, data);
            return Some(Event { cookie, kind: EventKind::Request(request) });
        }
        let Some(Owner::Endpoint(cookie)) = owner else { return None };
        let kind = match kind {
            sys::FI_CONNECTED => EventKind::Connected(data),
            sys::FI_SHUTDOWN => EventKind::Shutdown,
            _ => return None,
        };
        Some(Event { cookie, kind })
    }

    #[cold]
    fn read_error(&mut self) -> Result<Option<Event>, Failure> {
        let queue = self.raw.queue.as_ptr();
        let mut data = [0; PRIVATE_DATA_MAX];
        // SAFETY: the queue is alive; the entry is plain numbers and pointers, which may be zero, and what the
        // provider has to add goes to `data`.
        let (result, entry) = unsafe {
            let mut entry: Tailed<sys::fi_eq_err_entry> = Tailed::zeroed();
            entry.value.err_data = data.as_mut_ptr().cast();
            entry.value.err_data_size = PRIVATE_DATA_MAX;
            let result = sys::fi_eq_readerr(queue, entry.as_mut_ptr(), 0);
            (result, entry.value)
        };
        match result {
            it if it == -(sys::FI_EAGAIN as isize) || it == 0 => return Ok(None),
            it if it < 0 => return Err(Failure::new("fi_eq_readerr", it as i64)),
            _ => {}
        }
        let mut words = [0; WORDS_MAX];
        // SAFETY: the queue is alive, and the errno and its data are of the entry it has just given; what comes back
        // is a string, perhaps the one in `words`.
        let words = unsafe {
            let (errno, data) = (entry.prov_errno, entry.err_data);
            text(sys::fi_eq_strerror(queue, errno, data, words.as_mut_ptr(), WORDS_MAX - 1))
        };
        let failure = Failure::new("fi_eq_readerr", entry.err).with_provider(words);
        // A provider that has nothing to add may leave its own pointer here, or ours with a size of 0.
        let is_ours = entry.err_data.cast_const() == data.as_ptr().cast();
        let said =
            if is_ours { data[..entry.err_data_size.min(PRIVATE_DATA_MAX)].to_vec() } else { Vec::new() };
        let cookie = match self.raw.owner_of(entry.fid) {
            Some(Owner::Endpoint(cookie) | Owner::Listener(cookie, _)) => cookie,
            None => return Ok(None),
        };
        Ok(Some(Event { cookie, kind: EventKind::Failed { failure, said } }))
    }

    /// As [`super::CompletionQueue::arm`], for [`EventQueue::next_event`].
    pub fn arm(&mut self) -> Result<bool, Failure> {
        match &self.wake {
            // SAFETY: the queue is alive and has a descriptor.
            Some(wake) => unsafe { self.raw.fabric.arm(self.raw.fid(), wake) },
            None => Ok(false),
        }
    }

    /// The descriptor to sleep on, after [`EventQueue::arm`]. `None`: the provider has none.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(Wake::fd)
    }

    pub(super) fn share(&self) -> Arc<RawEvents> {
        self.raw.clone()
    }
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventQueue({:?})", self.wake)
    }
}
