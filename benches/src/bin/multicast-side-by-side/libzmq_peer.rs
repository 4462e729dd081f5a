//! libzmq's PUB and SUB on epgm://: the system's libzmq.so.5, loaded at run time; no header or development package is
//! needed, and nothing here is a general binding.
//!
//! Its repair timers are fixed (50, 200 and 200 ms). The recovery window is libzmq's default of 10 s at the cap's rate; both
//! ends must have the same.

use crate::Result;
use crate::library::library;
use crate::load::Load;
use crate::peer::{Publisher, Subscriber};
use libc::{c_char, c_int, c_void, size_t};
use std::ffi::{CStr, CString};
use std::time::Duration;

/// The rate in Mbit/s that it holds without loss; at 500 it loses to itself.
const CAP_MBIT: u64 = 200;
/// Bytes that may wait in the publisher's queue before a send waits.
const QUEUE_BYTES: u64 = 8 << 20;
/// Messages that may wait for the subscriber: it must not stop to read, for that is a loss.
const RECEIVE_HWM: c_int = 100_000;

const ZMQ_PUB: c_int = 1;
const ZMQ_SUB: c_int = 2;
const ZMQ_SUBSCRIBE: c_int = 6;
const ZMQ_RATE: c_int = 8;
const ZMQ_SNDBUF: c_int = 11;
const ZMQ_RCVBUF: c_int = 12;
const ZMQ_LINGER: c_int = 17;
const ZMQ_SNDHWM: c_int = 23;
const ZMQ_RCVHWM: c_int = 24;
const ZMQ_RCVTIMEO: c_int = 27;
const ZMQ_XPUB_NODROP: c_int = 69;
const ZMQ_DONTWAIT: c_int = 1;

/// zmq_msg_t: 64 bytes, aligned like a pointer.
#[repr(C, align(8))]
#[derive(Debug)]
struct RawMessage([u8; 64]);

library! {
    "libzmq.so.5", "libzmq5";
    zmq_errno: fn() -> c_int;
    zmq_strerror: fn(c_int) -> *const c_char;
    zmq_has: fn(*const c_char) -> c_int;
    zmq_ctx_new: fn() -> *mut c_void;
    zmq_socket: fn(*mut c_void, c_int) -> *mut c_void;
    zmq_setsockopt: fn(*mut c_void, c_int, *const c_void, size_t) -> c_int;
    zmq_connect: fn(*mut c_void, *const c_char) -> c_int;
    zmq_send: fn(*mut c_void, *const c_void, size_t, c_int) -> c_int;
    zmq_msg_init: fn(*mut RawMessage) -> c_int;
    zmq_msg_recv: fn(*mut RawMessage, *mut c_void, c_int) -> c_int;
    zmq_msg_data: fn(*mut RawMessage) -> *mut c_void;
    zmq_msg_size: fn(*const RawMessage) -> size_t;
    zmq_msg_close: fn(*mut RawMessage) -> c_int;
}

#[derive(Debug)]
pub(crate) struct Socket {
    api: &'static Api,
    socket: *mut c_void,
    message: RawMessage,
    limit: Option<Duration>,
}

impl Socket {
    fn check(&self, code: c_int) -> Result<()> {
        if code >= 0 {
            return Ok(());
        }
        // SAFETY: zmq_strerror returns a static, terminated string for any number.
        let words = unsafe { CStr::from_ptr((self.api.zmq_strerror)((self.api.zmq_errno)())) };
        Err(words.to_string_lossy().into())
    }

    fn set(&self, option: c_int, value: c_int) -> Result<()> {
        let size = size_of::<c_int>();
        // SAFETY: the socket is open and these options take an int.
        self.check(unsafe { (self.api.zmq_setsockopt)(self.socket, option, (&raw const value).cast(), size) })
    }

    fn open(load: &Load, kind: c_int) -> Result<Self> {
        let api = api()?;
        // SAFETY: a terminated string; no argument; a context that is never terminated.
        let socket = unsafe {
            if (api.zmq_has)(c"pgm".as_ptr()) == 0 {
                return Err("this libzmq.so.5 was built without OpenPGM; Debian's has it".into());
            }
            (api.zmq_socket)((api.zmq_ctx_new)(), kind)
        };
        let socket = Self { api, socket, message: RawMessage([0; 64]), limit: None };
        if socket.socket.is_null() {
            socket.check(-1)?;
        }
        socket.set(ZMQ_LINGER, 0)?;
        socket.set(ZMQ_RATE, c_int::try_from(load.cap_mbit_or(CAP_MBIT) * 1000)?)?;
        socket.set(ZMQ_SNDBUF, c_int::try_from(load.buffer)?)?;
        socket.set(ZMQ_RCVBUF, c_int::try_from(load.buffer)?)?;
        Ok(socket)
    }

    fn connect(&self, load: &Load) -> Result<()> {
        let url = format!("epgm://{}:{}", load.network(), load.port);
        let text = CString::new(url.clone())?;
        // SAFETY: an open socket and a terminated string.
        self.check(unsafe { (self.api.zmq_connect)(self.socket, text.as_ptr()) })
            .map_err(|error| format!("{url}: {error}").into())
    }

    pub(crate) fn publisher(load: &Load) -> Result<Self> {
        let socket = Self::open(load, ZMQ_PUB)?;
        socket.set(ZMQ_SNDHWM, (QUEUE_BYTES / load.bytes).clamp(8, 1000) as c_int)?;
        // Else it drops at the high-water mark, and would be measured by how fast it throws away.
        socket.set(ZMQ_XPUB_NODROP, 1)?;
        socket.connect(load)?;
        Ok(socket)
    }

    pub(crate) fn subscriber(load: &Load) -> Result<Self> {
        let socket = Self::open(load, ZMQ_SUB)?;
        socket.set(ZMQ_RCVHWM, RECEIVE_HWM)?;
        // SAFETY: an empty prefix may be null.
        socket.check(unsafe {
            (socket.api.zmq_setsockopt)(socket.socket, ZMQ_SUBSCRIBE, std::ptr::null(), 0)
        })?;
        socket.connect(load)?;
        Ok(socket)
    }
}

impl Publisher for Socket {
    fn send(&mut self, body: &[u8]) -> Result<()> {
        // SAFETY: an open socket and a readable slice, which zmq_send copies.
        self.check(unsafe { (self.api.zmq_send)(self.socket, body.as_ptr().cast(), body.len(), 0) })
    }
}

impl Subscriber for Socket {
    fn receive(&mut self, limit: Duration, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        if self.limit != Some(limit) {
            self.set(ZMQ_RCVTIMEO, c_int::try_from(limit.as_millis())?)?;
            self.limit = Some(limit);
        }
        let message = &raw mut self.message;
        let mut flags = 0;
        loop {
            // SAFETY: the message is initialised first, received into, read while it is open and then closed. The slice
            // lives only as long as `take` runs.
            unsafe {
                (self.api.zmq_msg_init)(message);
                if (self.api.zmq_msg_recv)(message, self.socket, flags) < 0 {
                    return match (self.api.zmq_errno)() {
                        libc::EAGAIN | libc::EINTR => Ok(()),
                        _ => self.check(-1),
                    };
                }
                let data = (self.api.zmq_msg_data)(message).cast::<u8>();
                take(std::slice::from_raw_parts(data, (self.api.zmq_msg_size)(message)));
                (self.api.zmq_msg_close)(message);
            }
            flags = ZMQ_DONTWAIT;
        }
    }
}
