//! Listeners (passive endpoints, fi_passive_ep(3)) and what peers ask of them.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::address::{Address, read_name};
use super::event_queue::{EventQueue, Owner, RawEvents};
use super::fabric::{Fabric, RawFabric};
use super::failure::{Failure, check};
use super::info::Info;
use crate::sys;

/// A listener. Requests come out of its event queue, with its cookie.
pub struct Listener(Arc<RawListener>);

pub(super) struct RawListener {
    listener: NonNull<sys::fid_pep>,
    events: Arc<RawEvents>,
    // What it stands on; dropped last.
    fabric: Arc<RawFabric>,
}

// SAFETY: libfabric may be called for a passive endpoint from any thread, and nothing here is written.
unsafe impl Send for RawListener {}
// SAFETY: as above.
unsafe impl Sync for RawListener {}

impl Drop for RawListener {
    fn drop(&mut self) {
        let object = self.listener.cast::<sys::fid>().as_ptr();
        self.events.remove(object);
        if self.fabric.is_ours() {
            // SAFETY: nobody else has the listener: requests held it.
            unsafe { sys::fi_close(object) };
        }
    }
}

impl Listener {
    /// Listens at the local address of an offer.
    pub fn listen(
        fabric: &Fabric,
        info: &Info,
        events: &EventQueue,
        backlog: u32,
        cookie: u64,
    ) -> Result<Self, Failure> {
        let (fabric, events) = (fabric.share(), events.share());
        let mut listener = std::ptr::null_mut();
        // SAFETY: fabric and offer are alive.
        let result =
            unsafe { sys::fi_passive_ep(fabric.raw(), info.raw(), &mut listener, std::ptr::null_mut()) };
        check("fi_passive_ep", result)?;
        let listener = NonNull::new(listener).ok_or_else(|| Failure::new("fi_passive_ep", sys::FI_EOTHER))?;
        let raw = Arc::new(RawListener { listener, events, fabric });
        let object = listener.cast::<sys::fid>().as_ptr();
        raw.events.add(object, Owner::Listener(cookie, Arc::downgrade(&raw)));
        // SAFETY: listener and event queue are alive.
        unsafe {
            check("fi_pep_bind", sys::fi_pep_bind(listener.as_ptr(), raw.events.fid(), 0))?;
            // Many providers have no such setting; theirs will do.
            let _ = sys::fi_backlog(listener.as_ptr(), i32::try_from(backlog).unwrap_or(i32::MAX));
            check("fi_listen", sys::fi_listen(listener.as_ptr()))?;
        }
        Ok(Self(raw))
    }

    /// Where it listens; its port as well.
    pub fn local_address(&self) -> Result<Address, Failure> {
        read_name("fi_getname", |name, len| {
            // SAFETY: the listener is alive, and the name has room for `len`.
            unsafe { sys::fi_pep_getname(self.0.listener.as_ptr(), name, len) }
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local_address() {
            Ok(address) => write!(f, "Listener({address:?})"),
            Err(_) => f.write_str("Listener"),
        }
    }
}

/// A peer that asks for a connection. Becomes an endpoint ([`super::Endpoint::answer`]), is refused, or, dropped,
/// refused without a word.
pub struct Request {
    info: Info,
    listener: Arc<RawListener>,
    said: Vec<u8>,
    is_open: bool,
}

impl Request {
    pub(super) const fn new(info: Info, listener: Arc<RawListener>, said: Vec<u8>) -> Self {
        Self { info, listener, said, is_open: true }
    }

    /// The offer that an endpoint for it is made of: names the domain to open.
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// What the peer says.
    pub fn said(&self) -> &[u8] {
        &self.said
    }

    /// Says no.
    pub fn reject(mut self, private: &[u8]) -> Result<(), Failure> {
        self.refuse(private)
    }

    fn refuse(&mut self, private: &[u8]) -> Result<(), Failure> {
        self.is_open = false;
        // SAFETY: listener and request are alive, and nobody has answered it yet.
        let result = unsafe {
            let handle = self.info.attributes().handle;
            sys::fi_reject(self.listener.listener.as_ptr(), handle, private.as_ptr().cast(), private.len())
        };
        check("fi_reject", result)
    }

    /// An endpoint has been made of it, which answers from here on.
    pub(super) fn taken(&mut self) {
        self.is_open = false;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.is_open && self.listener.fabric.is_ours() {
            // A peer that is gone cannot be told.
            let _ = self.refuse(&[]);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?})", self.info)
    }
}
