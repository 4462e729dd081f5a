//! A small safe wrapper of Debian's libzmq.so.5, loaded at run time: a ZeroMQ peer in this process. Judges nothing.

use std::ffi::{CStr, CString, c_char, c_int, c_short, c_void};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libloading::Library;

type Pointer = *mut c_void;

/// zmq_msg_t: 64 bytes, aligned as a pointer (zmq.h).
#[repr(C, align(8))]
struct RawMessage([u8; 64]);

macro_rules! api {
    ($($name:ident($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions used, by their names without `zmq_`.
        struct Api {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)*
            // Keeps the code mapped.
            _library: Library,
        }

        impl Api {
            fn load() -> Result<Self, libloading::Error> {
                // SAFETY: libzmq's initialisers touch nothing of ours.
                let library = unsafe { Library::new("libzmq.so.5")? };
                $(
                    // SAFETY: the type is that of zmq.h, and the library outlives the pointer, see `_library`.
                    let $name = unsafe { *library.get(concat!("zmq_", stringify!($name), "\0").as_bytes())? };
                )*
                Ok(Self { $($name,)* _library: library })
            }
        }
    };
}

api! {
    version(*mut c_int, *mut c_int, *mut c_int) -> ();
    errno() -> c_int;
    strerror(c_int) -> *const c_char;
    ctx_new() -> Pointer;
    ctx_term(Pointer) -> c_int;
    socket(Pointer, c_int) -> Pointer;
    close(Pointer) -> c_int;
    bind(Pointer, *const c_char) -> c_int;
    connect(Pointer, *const c_char) -> c_int;
    setsockopt(Pointer, c_int, *const c_void, usize) -> c_int;
    getsockopt(Pointer, c_int, *mut c_void, *mut usize) -> c_int;
    send(Pointer, *const c_void, usize, c_int) -> c_int;
    msg_init(*mut RawMessage) -> c_int;
    msg_recv(*mut RawMessage, Pointer, c_int) -> c_int;
    msg_data(*mut RawMessage) -> *const u8;
    msg_size(*const RawMessage) -> usize;
    msg_more(*const RawMessage) -> c_int;
    msg_close(*mut RawMessage) -> c_int;
    socket_monitor(Pointer, *const c_char, c_int) -> c_int;
}

fn api() -> &'static Api {
    static API: OnceLock<Api> = OnceLock::new();
    API.get_or_init(|| Api::load().expect("libzmq.so.5 is there; ci/install installs it"))
}

/// What a call failed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

pub(crate) const EAGAIN: Errno = Errno(libc::EAGAIN);
pub(crate) const EHOSTUNREACH: Errno = Errno(libc::EHOSTUNREACH);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: strerror returns a static string for every number.
        let text = unsafe { CStr::from_ptr((api().strerror)(self.0)) };
        write!(f, "{} ({})", text.to_string_lossy(), self.0)
    }
}

fn check(result: c_int) -> Result<(), Errno> {
    if result >= 0 {
        return Ok(());
    }
    // SAFETY: no arguments; reads a thread's own variable.
    Err(Errno(unsafe { (api().errno)() }))
}

/// The library's version, as (major, minor, patch).
pub(crate) fn version() -> (i32, i32, i32) {
    let mut version = (0, 0, 0);
    // SAFETY: three valid pointers to int.
    unsafe { (api().version)(&mut version.0, &mut version.1, &mut version.2) };
    version
}

/// Socket options used here, by zmq.h's numbers.
// Some are for the tests of multicast alone, which share this file.
#[allow(dead_code)]
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(crate) enum Setting {
    RoutingId = 5,
    Subscribe = 6,
    Unsubscribe = 7,
    /// Multicast, in kbit/s.
    Rate = 8,
    /// Multicast, in milliseconds.
    RecoveryInterval = 9,
    SendBuffer = 11,
    ReceiveBuffer = 12,
    Linger = 17,
    ReconnectInterval = 18,
    MaxMessageSize = 22,
    SendHwm = 23,
    ReceiveHwm = 24,
    ReceiveTimeout = 27,
    SendTimeout = 28,
    LastEndpoint = 32,
    RouterMandatory = 33,
    Ipv6 = 42,
    ProbeRouter = 51,
    HeartbeatInterval = 75,
    HeartbeatTtl = 76,
    HeartbeatTimeout = 77,
}

/// A context; terminated when its last socket and clone have gone.
#[derive(Debug, Clone)]
pub(crate) struct Context(Arc<RawContext>);

#[derive(Debug)]
struct RawContext(Pointer);

// SAFETY: libzmq's contexts are thread-safe (zmq_ctx_new(3)).
unsafe impl Send for RawContext {}
// SAFETY: as above.
unsafe impl Sync for RawContext {}

impl Drop for RawContext {
    fn drop(&mut self) {
        // SAFETY: every socket holds the context, so all are closed by now, and this runs once.
        unsafe { (api().ctx_term)(self.0) };
    }
}

impl Context {
    pub(crate) fn new() -> Self {
        // SAFETY: no arguments.
        let context = unsafe { (api().ctx_new)() };
        assert!(!context.is_null());
        Self(Arc::new(RawContext(context)))
    }

    pub(crate) fn socket(&self, kind: i32) -> Socket {
        // SAFETY: the context is alive.
        let socket = unsafe { (api().socket)(self.0.0, kind) };
        assert!(!socket.is_null(), "no socket of type {kind}");
        Socket { raw: socket, context: self.clone() }
    }
}

/// A socket, closed when dropped. One thread at a time.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: Pointer,
    context: Context,
}

// SAFETY: a socket may migrate between threads with a full fence (zmq_socket(3)), which every way to send it has.
unsafe impl Send for Socket {}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the socket is open, and this runs once.
        unsafe { (api().close)(self.raw) };
    }
}

impl Socket {
    pub(crate) fn set_bytes(&self, option: Setting, value: &[u8]) {
        // SAFETY: the pointer and the length are those of `value`, which is read before the call returns.
        check(unsafe { (api().setsockopt)(self.raw, option as i32, value.as_ptr().cast(), value.len()) })
            .unwrap();
    }

    pub(crate) fn set(&self, option: Setting, value: i32) {
        self.set_bytes(option, &value.to_ne_bytes());
    }

    pub(crate) fn set_time(&self, option: Setting, value: Duration) {
        self.set(option, value.as_millis() as i32);
    }

    pub(crate) fn try_bind(&self, endpoint: &str) -> Result<(), Errno> {
        let name = CString::new(endpoint).unwrap();
        // SAFETY: a string that ends with a zero.
        check(unsafe { (api().bind)(self.raw, name.as_ptr()) })
    }

    /// Binds, and returns the endpoint with its real port.
    pub(crate) fn bind(&self, endpoint: &str) -> String {
        self.try_bind(endpoint).unwrap_or_else(|error| panic!("bind {endpoint}: {error:?}"));
        let mut real = [0u8; 256];
        let mut len = real.len();
        // SAFETY: `len` bytes at `real` may be written.
        check(unsafe {
            (api().getsockopt)(self.raw, Setting::LastEndpoint as i32, real.as_mut_ptr().cast(), &mut len)
        })
        .unwrap();
        CStr::from_bytes_until_nul(&real).unwrap().to_str().unwrap().to_owned()
    }

    pub(crate) fn connect(&self, endpoint: &str) {
        let name = CString::new(endpoint).unwrap();
        // SAFETY: a string that ends with a zero.
        check(unsafe { (api().connect)(self.raw, name.as_ptr()) }).unwrap();
    }

    /// Sends the parts; nothing is sent when the first is refused, and then no other is tried.
    pub(crate) fn send<P: AsRef<[u8]>>(&self, parts: &[P]) -> Result<(), Errno> {
        const SNDMORE: c_int = 2;
        for (at, part) in parts.iter().map(AsRef::as_ref).enumerate() {
            let flags = if at + 1 < parts.len() { SNDMORE } else { 0 };
            // SAFETY: the pointer and the length are those of `part`, which is copied before the call returns.
            check(unsafe { (api().send)(self.raw, part.as_ptr().cast(), part.len(), flags) })?;
        }
        Ok(())
    }

    /// The next message.
    pub(crate) fn recv(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut parts = Vec::new();
        loop {
            let mut message = RawMessage([0; 64]);
            // SAFETY: the message is initialised first, only used while it is, not moved, and closed at the end; its
            // data is `msg_size` bytes long and copied before that. A data pointer may be null when it is empty.
            let more = unsafe {
                let message = &raw mut message;
                (api().msg_init)(message);
                if let Err(error) = check((api().msg_recv)(message, self.raw, 0)) {
                    (api().msg_close)(message);
                    return Err(error);
                }
                let len = (api().msg_size)(message);
                let mut part = Vec::with_capacity(len);
                if len > 0 {
                    part.extend_from_slice(std::slice::from_raw_parts((api().msg_data)(message), len));
                }
                parts.push(part);
                let more = (api().msg_more)(message) != 0;
                (api().msg_close)(message);
                more
            };
            if !more {
                return Ok(parts);
            }
        }
    }

    /// Reports all events from now on.
    pub(crate) fn monitor(&self, name: &str) -> Monitor {
        const ALL: c_int = 0xFFFF;
        let endpoint = format!("inproc://monitor-{name}");
        let c_endpoint = CString::new(endpoint.as_str()).unwrap();
        // SAFETY: a string that ends with a zero.
        check(unsafe { (api().socket_monitor)(self.raw, c_endpoint.as_ptr(), ALL) }).unwrap();
        let listener = self.context.socket(0);
        listener.set(Setting::Linger, 0);
        listener.connect(&endpoint);
        Monitor(listener)
    }
}

/// What a socket reports.
#[derive(Debug)]
pub(crate) struct Monitor(Socket);

/// ZMQ_EVENT_DISCONNECTED.
pub(crate) const DISCONNECTED: u16 = 0x0200;
/// ZMQ_EVENT_HANDSHAKE_SUCCEEDED.
pub(crate) const HANDSHAKE_SUCCEEDED: u16 = 0x1000;

impl Monitor {
    /// The next event's number, waiting for at most `timeout`.
    pub(crate) fn next(&self, timeout: Duration) -> Option<u16> {
        self.0.set_time(Setting::ReceiveTimeout, timeout);
        let event = self.0.recv().ok()?;
        Some(c_short::from_ne_bytes([event[0][0], event[0][1]]) as u16)
    }

    /// Reads events until this one; panics after `timeout` without any.
    pub(crate) fn wait_for(&self, event: u16, timeout: Duration) {
        while self.next(timeout).unwrap_or_else(|| panic!("event {event:#x} did not come")) != event {}
    }

    /// Events that are there now.
    pub(crate) fn all_now(&self) -> Vec<u16> {
        std::iter::from_fn(|| self.next(Duration::ZERO)).collect()
    }
}
