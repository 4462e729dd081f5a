//! NORM (RFC 5740) by NRL's C API, as a stream with marked messages: libnorm.so.1, loaded at run time. Nothing here is a
//! general binding.
//!
//! The round trip is estimated at 5 ms to begin with (the default of 0.5 s makes repairs take seconds), the rate is fixed at
//! the cap, and there is no proactive parity.

use crate::Result;
use crate::library::library;
use crate::load::Load;
use crate::peer::{Publisher, Subscriber};
use libc::{c_char, c_int, c_uint, c_void};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The rate in Mbit/s without a cap: NORM sends at whatever it is told.
const CAP_MBIT: u64 = 400;
const ROUND_TRIP_S: f64 = 0.005;
const SEGMENT_BYTES: u16 = 1400;
/// A block of 64 packets and what could be computed for its repair.
const BLOCK_DATA: u16 = 64;
const BLOCK_PARITY: u16 = 8;
const BUFFER_BYTES: u32 = 64 << 20;
const STREAM_BYTES: u32 = 32 << 20;

const EVENT_RX_OBJECT_UPDATED: c_int = 19;
const FLUSH_PASSIVE: c_int = 1;

type Opaque = *const c_void;

#[repr(C)]
#[derive(Debug)]
struct Event {
    kind: c_int,
    session: Opaque,
    sender: Opaque,
    object: Opaque,
}

library! {
    "libnorm.so.1", "libnorm1";
    NormCreateInstance: fn(bool) -> Opaque;
    NormGetDescriptor: fn(Opaque) -> c_int;
    NormGetNextEvent: fn(Opaque, *mut Event, bool) -> bool;
    NormCreateSession: fn(Opaque, *const c_char, u16, u32) -> Opaque;
    NormSetMulticastInterface: fn(Opaque, *const c_char) -> bool;
    NormSetTxSocketBuffer: fn(Opaque, c_uint) -> bool;
    NormSetRxSocketBuffer: fn(Opaque, c_uint) -> bool;
    NormSetGrttEstimate: fn(Opaque, f64) -> ();
    NormSetTxRate: fn(Opaque, f64) -> ();
    NormStartSender: fn(Opaque, u16, u32, u16, u16, u16, u8) -> bool;
    NormStreamOpen: fn(Opaque, u32, *const c_char, c_uint) -> Opaque;
    NormStreamWrite: fn(Opaque, *const c_char, c_uint) -> c_uint;
    NormStreamMarkEom: fn(Opaque) -> ();
    NormStreamFlush: fn(Opaque, bool, c_int) -> ();
    NormStartReceiver: fn(Opaque, u32) -> bool;
    NormStreamSeekMsgStart: fn(Opaque) -> bool;
    NormStreamRead: fn(Opaque, *mut c_char, *mut c_uint) -> bool;
}

#[derive(Debug)]
struct Session {
    api: &'static Api,
    instance: Opaque,
    session: Opaque,
}

impl Session {
    fn open(load: &Load) -> Result<Self> {
        let api = api()?;
        let (group, interface) =
            (CString::new(load.group.to_string())?, CString::new(load.interface.as_str())?);
        // Of one machine's processes, each has another number.
        let node = std::process::id();
        let buffer = load.buffer as c_uint;
        // SAFETY: terminated strings; instance and session live until the process ends.
        unsafe {
            let instance = (api.NormCreateInstance)(false);
            let session = (api.NormCreateSession)(instance, group.as_ptr(), load.port, node);
            if session.is_null() || !(api.NormSetMulticastInterface)(session, interface.as_ptr()) {
                return Err(format!("NORM refused a session on {}", load.network()).into());
            }
            // Before there are sockets these two say no, and do it.
            (api.NormSetTxSocketBuffer)(session, buffer);
            (api.NormSetRxSocketBuffer)(session, buffer);
            Ok(Self { api, instance, session })
        }
    }

    /// Sleeps until an event comes or `limit` has passed.
    fn wait(&self, limit: Duration) -> Result<()> {
        // SAFETY: an instance that is never destroyed, so its file is never closed.
        let file = unsafe { BorrowedFd::borrow_raw((self.api.NormGetDescriptor)(self.instance)) };
        let limit = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
        match poll(&mut [PollFd::from_borrowed_fd(file, PollFlags::IN)], Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn next_event(&self) -> Option<Event> {
        let mut event =
            Event { kind: 0, session: std::ptr::null(), sender: std::ptr::null(), object: std::ptr::null() };
        // SAFETY: an instance and a writable event.
        let came = unsafe { (self.api.NormGetNextEvent)(self.instance, &raw mut event, false) };
        came.then_some(event)
    }
}

#[derive(Debug)]
pub(crate) struct Sender {
    session: Session,
    stream: Opaque,
}

impl Sender {
    pub(crate) fn open(load: &Load) -> Result<Self> {
        let session = Session::open(load)?;
        let api = session.api;
        let id = std::process::id() as u16;
        // SAFETY: a session as `open` leaves it.
        let stream = unsafe {
            (api.NormSetGrttEstimate)(session.session, ROUND_TRIP_S);
            (api.NormSetTxRate)(session.session, load.cap_mbit_or(CAP_MBIT) as f64 * 1e6);
            let started = (api.NormStartSender)(
                session.session,
                id,
                BUFFER_BYTES,
                SEGMENT_BYTES,
                BLOCK_DATA,
                BLOCK_PARITY,
                0,
            );
            if !started {
                return Err("NormStartSender failed".into());
            }
            (api.NormSetTxSocketBuffer)(session.session, load.buffer as c_uint);
            (api.NormStreamOpen)(session.session, STREAM_BYTES, std::ptr::null(), 0)
        };
        if stream.is_null() { Err("NormStreamOpen failed".into()) } else { Ok(Self { session, stream }) }
    }
}

impl Publisher for Sender {
    fn send(&mut self, body: &[u8]) -> Result<()> {
        let mut rest = body;
        loop {
            // SAFETY: an open stream and a readable slice, which NORM copies.
            let written = unsafe {
                (self.session.api.NormStreamWrite)(self.stream, rest.as_ptr().cast(), rest.len() as c_uint)
            };
            rest = &rest[written as usize..];
            if rest.is_empty() {
                break;
            }
            // Full: there is an event when it no longer is. Others must be taken off the queue too.
            self.session.wait(Duration::from_millis(10))?;
            while self.session.next_event().is_some() {}
        }
        // SAFETY: an open stream.
        unsafe { (self.session.api.NormStreamMarkEom)(self.stream) };
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        // SAFETY: an open stream.
        unsafe { (self.session.api.NormStreamFlush)(self.stream, true, FLUSH_PASSIVE) };
        while self.session.next_event().is_some() {}
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Receiver {
    session: Session,
    /// Knows where messages begin.
    aligned: bool,
    body: Vec<u8>,
    /// Bytes of the message so far.
    filled: usize,
}

impl Receiver {
    pub(crate) fn open(load: &Load) -> Result<Self> {
        let session = Session::open(load)?;
        // SAFETY: a session as `open` leaves it.
        let started = unsafe {
            let started = (session.api.NormStartReceiver)(session.session, BUFFER_BYTES);
            (session.api.NormSetRxSocketBuffer)(session.session, load.buffer as c_uint);
            started
        };
        if !started {
            return Err("NormStartReceiver failed".into());
        }
        Ok(Self { session, aligned: false, body: vec![0; load.bytes()], filled: 0 })
    }

    /// Takes all whole messages from a stream. All have one length, which saves a frame around each.
    fn drain(&mut self, stream: Opaque, take: &mut dyn FnMut(&[u8])) {
        loop {
            if !self.aligned {
                // SAFETY: the stream of an event that was just taken.
                self.aligned = unsafe { (self.session.api.NormStreamSeekMsgStart)(stream) };
                self.filled = 0;
                if !self.aligned {
                    return;
                }
            }
            let rest = &mut self.body[self.filled..];
            let mut bytes = rest.len() as c_uint;
            // SAFETY: as above; the slice is writable and as long as `bytes` says.
            if !unsafe { (self.session.api.NormStreamRead)(stream, rest.as_mut_ptr().cast(), &raw mut bytes) }
            {
                // The stream is broken here; it goes on at another message.
                self.aligned = false;
                continue;
            }
            if bytes == 0 {
                return;
            }
            self.filled += bytes as usize;
            if self.filled == self.body.len() {
                take(&self.body);
                self.filled = 0;
            }
        }
    }
}

impl Subscriber for Receiver {
    fn receive(&mut self, limit: Duration, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.session.wait(limit)?;
        while let Some(event) = self.session.next_event() {
            if event.kind == EVENT_RX_OBJECT_UPDATED {
                self.drain(event.object, take);
            }
        }
        Ok(())
    }
}
