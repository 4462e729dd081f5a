//! libzmq as a peer: the system's libzmq.so.5, loaded at run time; no header or development package is needed, and
//! nothing here is a general binding.

use crate::Result;
use crate::control::Task;
use crate::peer::{BACKLOG, Kind, Peer, high_water_mark};
use libc::{c_char, c_int, c_long, c_short, c_void, size_t};
use std::ffi::{CStr, CString};
use std::sync::OnceLock;
use std::time::Duration;

const ZMQ_SUBSCRIBE: c_int = 6;
const ZMQ_LINGER: c_int = 17;
const ZMQ_BACKLOG: c_int = 19;
const ZMQ_SNDHWM: c_int = 23;
const ZMQ_RCVHWM: c_int = 24;
const ZMQ_LAST_ENDPOINT: c_int = 32;
const ZMQ_DONTWAIT: c_int = 1;
const ZMQ_POLLIN: c_short = 1;
const ZMQ_MAX_SOCKETS: c_int = 2;

/// Sockets of a context: its default (1023) is too few for the measure `poll`.
const SOCKETS_MAX: c_int = 4096;

/// zmq_msg_t: 64 bytes, aligned like a pointer.
#[repr(C, align(8))]
#[derive(Debug)]
struct RawMessage([u8; 64]);

/// zmq_pollitem_t.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct PollItem {
    socket: *mut c_void,
    fd: c_int,
    events: c_short,
    revents: c_short,
}

type FreeFn = unsafe extern "C" fn(*mut c_void, *mut c_void);

macro_rules! api {
    ($($name:ident: fn($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions that are called, and the library that holds them.
        #[derive(Debug)]
        struct Api {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)*
            _library: libloading::Library,
        }

        impl Api {
            fn load() -> std::result::Result<Self, libloading::Error> {
                // SAFETY: libzmq's initialisers need nothing from us, and the types below are those of its
                // header zmq.h, stable since 4.0. The library is kept as long as its functions.
                unsafe {
                    let library = libloading::Library::new("libzmq.so.5")?;
                    Ok(Self { $($name: *library.get(stringify!($name).as_bytes())?,)* _library: library })
                }
            }
        }
    };
}

api! {
    zmq_version: fn(*mut c_int, *mut c_int, *mut c_int) -> ();
    zmq_errno: fn() -> c_int;
    zmq_strerror: fn(c_int) -> *const c_char;
    zmq_ctx_new: fn() -> *mut c_void;
    zmq_ctx_set: fn(*mut c_void, c_int, c_int) -> c_int;
    zmq_socket: fn(*mut c_void, c_int) -> *mut c_void;
    zmq_setsockopt: fn(*mut c_void, c_int, *const c_void, size_t) -> c_int;
    zmq_getsockopt: fn(*mut c_void, c_int, *mut c_void, *mut size_t) -> c_int;
    zmq_bind: fn(*mut c_void, *const c_char) -> c_int;
    zmq_connect: fn(*mut c_void, *const c_char) -> c_int;
    zmq_send: fn(*mut c_void, *const c_void, size_t, c_int) -> c_int;
    zmq_msg_init: fn(*mut RawMessage) -> c_int;
    zmq_msg_init_data: fn(*mut RawMessage, *mut c_void, size_t, Option<FreeFn>, *mut c_void) -> c_int;
    zmq_msg_send: fn(*mut RawMessage, *mut c_void, c_int) -> c_int;
    zmq_msg_recv: fn(*mut RawMessage, *mut c_void, c_int) -> c_int;
    zmq_msg_data: fn(*mut RawMessage) -> *mut c_void;
    zmq_msg_size: fn(*const RawMessage) -> size_t;
    zmq_msg_close: fn(*mut RawMessage) -> c_int;
    zmq_poll: fn(*mut PollItem, c_int, c_long) -> c_int;
}

fn api() -> Result<&'static Api> {
    static API: OnceLock<std::result::Result<Api, String>> = OnceLock::new();
    API.get_or_init(|| Api::load().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|error| error.as_str().into())
}

/// The version of the library that was loaded.
pub(crate) fn version() -> Result<String> {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three writable ints.
    unsafe { (api()?.zmq_version)(&raw mut major, &raw mut minor, &raw mut patch) };
    Ok(format!("{major}.{minor}.{patch}"))
}

fn last_error(api: &Api) -> Box<dyn std::error::Error + Send + Sync> {
    // SAFETY: zmq_strerror returns a static, terminated string for any number.
    unsafe { CStr::from_ptr((api.zmq_strerror)((api.zmq_errno)())) }.to_string_lossy().into()
}

#[derive(Debug)]
pub(crate) struct Context(*mut c_void);

// SAFETY: a zmq context may be used from any thread.
unsafe impl Sync for Context {}

#[derive(Debug)]
pub(crate) struct Libzmq {
    api: &'static Api,
    socket: *mut c_void,
    message: RawMessage,
}

// SAFETY: a zmq socket may move between threads with a full barrier, which moving a value between threads is; the
// message is not used across calls.
unsafe impl Send for Libzmq {}

impl PollItem {
    pub(crate) fn is_ready(&self) -> bool {
        self.revents & ZMQ_POLLIN != 0
    }
}

/// zmq_poll, for as long as it takes or for `limit`; says how many are ready.
pub(crate) fn poll(items: &mut [PollItem], limit: Option<Duration>) -> Result<usize> {
    let api = api()?;
    let limit = limit.map_or(-1, |limit| limit.as_millis() as c_long);
    // SAFETY: `items` holds so many items, and only `poll_item` makes any: each has a socket, none of which is ever closed.
    let count = unsafe { (api.zmq_poll)(items.as_mut_ptr(), items.len() as c_int, limit) };
    usize::try_from(count).map_err(|_| last_error(api))
}

impl Libzmq {
    /// For `poll`, of this socket's messages.
    pub(crate) fn poll_item(&self) -> PollItem {
        PollItem { socket: self.socket, fd: 0, events: ZMQ_POLLIN, revents: 0 }
    }

    fn check(&self, code: c_int) -> Result<c_int> {
        if code < 0 { Err(last_error(self.api)) } else { Ok(code) }
    }

    fn set(&self, option: c_int, value: c_int) -> Result<()> {
        let size = size_of::<c_int>();
        // SAFETY: the socket is open and these options take an int.
        self.check(unsafe {
            (self.api.zmq_setsockopt)(self.socket, option, (&raw const value).cast(), size)
        })?;
        Ok(())
    }

    fn receive<R>(&mut self, flags: c_int, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let message = &raw mut self.message;
        // SAFETY: the message is initialised first, received into, read while it is open and then closed. The slice
        // lives only as long as `read` runs.
        unsafe {
            (self.api.zmq_msg_init)(message);
            while (self.api.zmq_msg_recv)(message, self.socket, flags) < 0 {
                match (self.api.zmq_errno)() {
                    libc::EINTR => {}
                    libc::EAGAIN => return Ok(None),
                    _ => return Err(last_error(self.api)),
                }
            }
            let data = (self.api.zmq_msg_data)(message).cast::<u8>();
            let read = read(std::slice::from_raw_parts(data, (self.api.zmq_msg_size)(message)));
            (self.api.zmq_msg_close)(message);
            Ok(Some(read))
        }
    }
}

impl Peer for Libzmq {
    type Context = Context;

    fn context() -> Result<Context> {
        // SAFETY: no argument. The context lives until the process ends.
        let context = unsafe { (api()?.zmq_ctx_new)() };
        if context.is_null() {
            return Err(last_error(api()?));
        }
        // SAFETY: an open context, and no memory.
        if unsafe { (api()?.zmq_ctx_set)(context, ZMQ_MAX_SOCKETS, SOCKETS_MAX) } < 0 {
            return Err(last_error(api()?));
        }
        Ok(Context(context))
    }

    fn socket(context: &Context, kind: Kind, task: &Task) -> Result<Self> {
        let number = match kind {
            Kind::Pub => 1,
            Kind::Sub => 2,
            Kind::Req => 3,
            Kind::Rep => 4,
            Kind::Pull => 7,
            Kind::Push => 8,
        };
        let api = api()?;
        // SAFETY: the context is never terminated.
        let socket = unsafe { (api.zmq_socket)(context.0, number) };
        if socket.is_null() {
            return Err(last_error(api));
        }
        let socket = Self { api, socket, message: RawMessage([0; 64]) };
        socket.set(ZMQ_SNDHWM, high_water_mark(task.bytes))?;
        socket.set(ZMQ_RCVHWM, high_water_mark(task.bytes))?;
        socket.set(ZMQ_BACKLOG, BACKLOG)?;
        socket.set(ZMQ_LINGER, 0)?;
        Ok(socket)
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        let url = CString::new(url)?;
        // SAFETY: an open socket and a terminated string.
        self.check(unsafe { (self.api.zmq_bind)(self.socket, url.as_ptr()) })?;
        let mut bound = [0_u8; 256];
        let mut size = bound.len();
        // SAFETY: `size` is the size of the writable buffer.
        self.check(unsafe {
            (self.api.zmq_getsockopt)(
                self.socket,
                ZMQ_LAST_ENDPOINT,
                bound.as_mut_ptr().cast(),
                &raw mut size,
            )
        })?;
        Ok(CStr::from_bytes_until_nul(&bound)?.to_str()?.to_owned())
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        let url = CString::new(url)?;
        // SAFETY: an open socket and a terminated string.
        self.check(unsafe { (self.api.zmq_connect)(self.socket, url.as_ptr()) })?;
        Ok(())
    }

    fn subscribe_all(&mut self) -> Result<()> {
        // SAFETY: an empty prefix may be null.
        self.check(unsafe { (self.api.zmq_setsockopt)(self.socket, ZMQ_SUBSCRIBE, std::ptr::null(), 0) })?;
        Ok(())
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        // SAFETY: an open socket and a readable slice, which zmq_send copies.
        self.check(unsafe { (self.api.zmq_send)(self.socket, body.as_ptr().cast(), body.len(), 0) })?;
        Ok(())
    }

    fn send_static(&mut self, body: &'static [u8]) -> Result<()> {
        let message = &raw mut self.message;
        let data = body.as_ptr().cast_mut().cast();
        // SAFETY: the body is static and libzmq only reads it, so there is nothing to free. A message that was sent
        // needs no close.
        let sent = unsafe {
            (self.api.zmq_msg_init_data)(message, data, body.len(), None, std::ptr::null_mut());
            (self.api.zmq_msg_send)(message, self.socket, 0)
        };
        self.check(sent)?;
        Ok(())
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.receive(0, read)?.ok_or_else(|| "recv timed out".into())
    }

    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        self.receive(ZMQ_DONTWAIT, read)
    }

    fn wait_any(sockets: &mut [Self], limit: Duration, ready: &mut [bool]) -> Result<()> {
        let mut items: Vec<PollItem> = sockets.iter().map(Self::poll_item).collect();
        poll(&mut items, Some(limit))?;
        for (ready, item) in ready.iter_mut().zip(&items) {
            *ready = item.is_ready();
        }
        Ok(())
    }
}
