//! Sockets as C sees them: messages part by part over fabriq's whole messages. Options are in `options.rs`.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CString, c_char, c_int, c_void};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use fabriq::{Error, Frame, Interest, Message, PollItem, SocketType};

use crate::context::{Ctx, Opened};
use crate::errno::{self, EFSM, ETERM};
use crate::handle::Handles;
use crate::message::{Msg, RawMsg, live};
use crate::{Result, export, locked, text};

pub(crate) const DONTWAIT: c_int = 1;
pub(crate) const SNDMORE: c_int = 2;

static SOCKETS: Handles<Sock> = Handles::new();

/// One socket.
#[derive(Debug)]
pub(crate) struct Sock {
    pub(crate) socket: fabriq::Socket,
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) local: Mutex<Local>,
    // Last, so that the context hears of the end after it has come.
    _opened: Opened,
}

/// What one application thread leaves for its next call.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// The parts sent so far of a message that goes on.
    outgoing: Option<Message>,
    /// The parts not received yet of a message that was begun.
    incoming: VecDeque<Frame>,
    pub(crate) last_endpoint: String,
    /// Values of options that change nothing here.
    pub(crate) idle_options: HashMap<c_int, Vec<u8>>,
    pub(crate) bell: Option<Bell>,
    /// What the next peer to be dialled is called.
    pub(crate) connect_routing_id: Option<Vec<u8>>,
    /// What the last one that was dialled is called.
    pub(crate) last_peer: Vec<u8>,
}

/// The descriptor behind ZMQ_FD: readable when the socket may have changed.
#[derive(Debug)]
pub(crate) struct Bell {
    pub(crate) ring: Arc<Ring>,
    waker: Waker,
}

#[derive(Debug)]
pub(crate) struct Ring(pub(crate) OwnedFd);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only when it is readable anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Bell {
    pub(crate) fn new() -> Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let fd = rustix::event::eventfd(0, flags).map_err(|error| error.raw_os_error())?;
        let ring = Arc::new(Ring(fd));
        Ok(Self { waker: ring.clone().into(), ring })
    }
}

impl Sock {
    /// The socket of a handle, unless its context was terminated.
    pub(crate) fn find(handle: *const c_void) -> Result<Arc<Self>> {
        let sock = SOCKETS.find(handle).ok_or(libc::ENOTSOCK)?;
        if sock.ctx.terminated.load(Ordering::Acquire) { Err(ETERM) } else { Ok(sock) }
    }

    pub(crate) fn open(ctx: &Arc<Ctx>, kind: SocketType) -> Result<Self> {
        let (socket, opened, inherited) = ctx.open(kind)?;
        let linger = if inherited.blocky { None } else { Some(Duration::ZERO) };
        let set = socket.set_options(|options| {
            options.linger = linger;
            options.ipv6 = inherited.ipv6;
            options.max_message_size = inherited.max_message_size;
        });
        set.map_err(|error| errno::of(&error))?;
        Ok(Self { socket, ctx: ctx.clone(), local: Mutex::default(), _opened: opened })
    }

    fn kind(&self) -> SocketType {
        self.socket.socket_type()
    }

    /// Whether a part of a message that was begun waits (ZMQ_RCVMORE).
    pub(crate) fn has_parts(&self) -> bool {
        !locked(&self.local).incoming.is_empty()
    }

    pub(crate) fn is_sending(&self) -> bool {
        locked(&self.local).outgoing.is_some()
    }

    /// Asks for the next change to be said by the bell, if there is one.
    pub(crate) fn arm_bell(&self, clear: bool) {
        let local = locked(&self.local);
        let Some(bell) = &local.bell else { return };
        let (ring, waker) = (bell.ring.clone(), bell.waker.clone());
        drop(local);
        if clear {
            let _ = rustix::io::read(&ring.0, &mut [0; 8]);
        }
        self.socket.wake_when_changed(&waker);
    }

    /// What zmq_poll and ZMQ_EVENTS say.
    pub(crate) fn events(&self) -> Result<Interest> {
        self.arm_bell(true);
        let interest = Interest { readable: true, writable: true };
        let item = PollItem { socket: &self.socket, interest, ready: Interest::default() };
        let mut items = [item];
        fabriq::poll(&mut items, Some(Duration::ZERO)).map_err(|error| errno::of(&error))?;
        let ready = items[0].ready;
        Ok(Interest {
            readable: ready.readable || self.has_parts(),
            writable: ready.writable || self.is_sending(),
        })
    }

    /// Sends one part. On failure it comes back.
    pub(crate) fn send(&self, frame: Frame, flags: c_int) -> std::result::Result<(), (i32, Frame)> {
        let wait = flags & DONTWAIT == 0;
        let more = flags & SNDMORE != 0;
        if matches!(self.kind(), SocketType::Pull | SocketType::Sub) {
            return Err((libc::ENOTSUP, frame));
        }
        let mut local = locked(&self.local);
        if matches!(self.kind(), SocketType::Req | SocketType::Rep) && !local.incoming.is_empty() {
            return Err((EFSM, frame));
        }
        if let Some(mut message) = local.outgoing.take() {
            message.push_back(frame);
            // A STREAM knows no further parts, whatever the caller says.
            if more && self.kind() != SocketType::Stream {
                local.outgoing = Some(message);
                return Ok(());
            }
            drop(local);
            return self
                .send_message(message, wait)
                .map_err(|(code, message)| (code, message.body().clone()));
        }
        drop(local);
        if more {
            let admitted = self.socket.options().and_then(|options| {
                let timeout = if wait { options.send_timeout } else { Some(Duration::ZERO) };
                self.socket.admit(&frame, timeout)
            });
            if let Err(error) = admitted {
                return Err((errno::of(&error), frame));
            }
            locked(&self.local).outgoing = Some(Message::new(frame));
            return Ok(());
        }
        self.send_message(Message::new(frame), wait).map_err(|(code, message)| (code, message.body().clone()))
    }

    pub(crate) fn send_message(
        &self,
        message: Message,
        wait: bool,
    ) -> std::result::Result<(), (i32, Box<Message>)> {
        let sent = if wait { self.socket.send(message) } else { self.socket.try_send(message) };
        self.arm_bell(false);
        match sent {
            Ok(()) => Ok(()),
            // A ROUTER drops what names nobody.
            Err(refused) if refused.error == Error::NoRoutingId => Ok(()),
            Err(refused) => Err((errno::of(&refused.error), refused.message)),
        }
    }

    /// Where a message came from that begins with `name`, as libzmq has it: without the port.
    fn peer_address(&self, name: &Frame, more: bool) -> Option<CString> {
        if !more || !matches!(self.kind(), SocketType::Router | SocketType::Stream) {
            return None;
        }
        let metadata = self.socket.metadata(name)?;
        let (_, address) = metadata.iter().find(|(property, _)| property == "Peer-Address")?;
        let address = String::from_utf8_lossy(address);
        let host = address.parse::<SocketAddr>().map_or(address.into_owned(), |at| at.ip().to_string());
        CString::new(host).ok()
    }

    /// The next part, and whether more of its message follow.
    pub(crate) fn recv(&self, flags: c_int) -> Result<(Frame, bool)> {
        let mut local = locked(&self.local);
        if let Some(part) = local.incoming.pop_front() {
            return Ok((part, !local.incoming.is_empty()));
        }
        drop(local);
        let received = if flags & DONTWAIT != 0 { self.socket.try_recv() } else { self.socket.recv() };
        self.arm_bell(false);
        let message = received.map_err(|error| errno::of(&error))?;
        let more = message.len() > 1;
        let mut parts = message.into_parts();
        let first = parts.next().unwrap_or_default();
        if more {
            locked(&self.local).incoming.extend(parts);
        }
        Ok((first, more))
    }
}

fn kind_of(number: c_int) -> Option<SocketType> {
    Some(match number {
        0 => SocketType::Pair,
        1 => SocketType::Pub,
        2 => SocketType::Sub,
        3 => SocketType::Req,
        4 => SocketType::Rep,
        5 => SocketType::Dealer,
        6 => SocketType::Router,
        7 => SocketType::Pull,
        8 => SocketType::Push,
        9 => SocketType::Xpub,
        10 => SocketType::Xsub,
        11 => SocketType::Stream,
        _ => return None,
    })
}

pub(crate) fn number_of(kind: SocketType) -> c_int {
    (0..12).find(|&number| kind_of(number) == Some(kind)).unwrap_or(-1)
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void {
    export(std::ptr::null_mut(), || {
        let ctx = Ctx::find(context)?;
        let sock = Arc::new(Sock::open(&ctx, kind_of(kind).ok_or(libc::EINVAL)?)?);
        ctx.remember(&sock);
        Ok(SOCKETS.add(sock))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_close(socket: *mut c_void) -> c_int {
    export(-1, || SOCKETS.remove(socket).map(|_| 0).ok_or(libc::ENOTSOCK))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_bind(socket: *mut c_void, address: *const c_char) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        // SAFETY: a string of the caller's.
        let address = unsafe { text(address) }?;
        crate::options::check_kept(&sock)?;
        let bound = match crate::options::take_listener(&sock, address)? {
            Some(listener) => sock.socket.bind_listener(address, listener),
            None => sock.socket.bind(address),
        };
        let endpoint = bound.map_err(|error| errno::of(&error))?;
        locked(&sock.local).last_endpoint = endpoint.as_str().to_owned();
        sock.arm_bell(false);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_connect(socket: *mut c_void, address: *const c_char) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        // SAFETY: a string of the caller's.
        let address = unsafe { text(address) }?;
        crate::options::check_kept(&sock)?;
        let given = locked(&sock.local).connect_routing_id.take();
        let connected = match sock.kind() {
            kind @ (SocketType::Router | SocketType::Stream)
                if kind == SocketType::Stream || given.is_some() =>
            {
                let called = sock.socket.connect_as(address, given.as_deref());
                called.map(|name| locked(&sock.local).last_peer = name.to_vec())
            }
            _ => sock.socket.connect(address),
        };
        connected.map_err(|error| errno::of(&error))?;
        locked(&sock.local).last_endpoint = address.to_owned();
        sock.arm_bell(false);
        Ok(0)
    })
}

/// As in libzmq, either call ends either kind of endpoint.
fn end(socket: *mut c_void, address: *const c_char, bound_first: bool) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        // SAFETY: a string of the caller's.
        let address = unsafe { text(address) }?;
        // libzmq knows what a wildcard became, and not the wildcard.
        let wild = address.ends_with(":*") || address == "ipc://*";
        let unbind = || match wild {
            true => Err(Error::NoSuchEndpoint(address.into())),
            false => sock.socket.unbind(address),
        };
        let disconnect = || sock.socket.disconnect(address);
        let ended =
            if bound_first { unbind().or_else(|_| disconnect()) } else { disconnect().or_else(|_| unbind()) };
        if matches!(ended, Err(Error::NoSuchEndpoint(_))) {
            check_address(address)?;
        }
        ended.map(|()| 0).map_err(|error| errno::of(&error))
    })
}

/// An address that no endpoint could have is EINVAL or EPROTONOSUPPORT, not ENOENT.
fn check_address(address: &str) -> Result<()> {
    let endpoint = fabriq::Endpoint::parse(address).map_err(|_| libc::EINVAL)?;
    let known = fabriq::transports().iter().any(|transport| transport.schemes().contains(&endpoint.scheme()));
    if known { Ok(()) } else { Err(libc::EPROTONOSUPPORT) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_unbind(socket: *mut c_void, address: *const c_char) -> c_int {
    end(socket, address, true)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_disconnect(socket: *mut c_void, address: *const c_char) -> c_int {
    end(socket, address, false)
}

fn length(len: usize) -> c_int {
    len.try_into().unwrap_or(c_int::MAX)
}

/// The bytes of a caller's buffer.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Result<&'a [u8]> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(libc::EFAULT),
        // SAFETY: the caller says that so many bytes are there.
        _ => Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) }),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_send(
    socket: *mut c_void,
    data: *const c_void,
    len: usize,
    flags: c_int,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        // SAFETY: a buffer of the caller's.
        let frame = Frame::copy_from_slice(unsafe { bytes(data, len) }?);
        sock.send(frame, flags).map(|()| length(len)).map_err(|(code, _)| code)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_send_const(
    socket: *mut c_void,
    data: *const c_void,
    len: usize,
    flags: c_int,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        // SAFETY: a buffer of the caller's, which stays for ever, as this call demands.
        let frame = Frame::from_static(unsafe { bytes(data, len) }?);
        sock.send(frame, flags).map(|()| length(len)).map_err(|(code, _)| code)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_recv(
    socket: *mut c_void,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        let (frame, _) = sock.recv(flags)?;
        let copied = frame.len().min(len);
        if copied > 0 {
            if buffer.is_null() {
                return Err(libc::EFAULT);
            }
            // SAFETY: the caller's buffer has `len` bytes, and the frame is not in it.
            unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), buffer.cast(), copied) };
        }
        Ok(length(frame.len()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_send(msg: *mut RawMsg, socket: *mut c_void, flags: c_int) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        // SAFETY: a message of the caller's.
        let msg = unsafe { live(msg) }?;
        let len = msg.bytes().len();
        match sock.send(msg.frame(), flags) {
            Ok(()) => {
                *msg = Msg::received(Frame::EMPTY, false);
                Ok(length(len))
            }
            Err((code, _)) => Err(code),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_recv(msg: *mut RawMsg, socket: *mut c_void, flags: c_int) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        // SAFETY: a message of the caller's.
        let msg = unsafe { live(msg) }?;
        let (frame, more) = sock.recv(flags)?;
        let len = frame.len();
        let peer = sock.peer_address(&frame, more);
        *msg = Msg::received(frame, more).with_peer(peer);
        Ok(length(len))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_sendmsg(socket: *mut c_void, msg: *mut RawMsg, flags: c_int) -> c_int {
    // SAFETY: as for the caller.
    unsafe { zmq_msg_send(msg, socket, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_recvmsg(socket: *mut c_void, msg: *mut RawMsg, flags: c_int) -> c_int {
    // SAFETY: as for the caller.
    unsafe { zmq_msg_recv(msg, socket, flags) }
}

/// Sends an array of parts as one message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_sendiov(
    socket: *mut c_void,
    iov: *mut libc::iovec,
    count: usize,
    flags: c_int,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        if count == 0 || iov.is_null() {
            return Err(libc::EINVAL);
        }
        let mut sent = 0;
        for at in 0..count {
            // SAFETY: the caller says that so many are there.
            let part = unsafe { &*iov.add(at) };
            // SAFETY: a buffer of the caller's.
            let frame = Frame::copy_from_slice(unsafe { bytes(part.iov_base, part.iov_len) }?);
            let flags = if at + 1 == count { flags & !SNDMORE } else { flags | SNDMORE };
            sent = length(frame.len());
            sock.send(frame, flags).map_err(|(code, _)| code)?;
        }
        Ok(sent)
    })
}

/// Receives the parts of a message, each into memory of its own that the caller frees.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_recviov(
    socket: *mut c_void,
    iov: *mut libc::iovec,
    count: *mut usize,
    flags: c_int,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        if count.is_null() || iov.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: not NULL, and the caller's.
        let room = unsafe { count.read() };
        if room == 0 {
            return Err(libc::EINVAL);
        }
        let mut received = 0;
        let mut more = true;
        while more && received < room {
            let (frame, goes_on) = sock.recv(flags)?;
            more = goes_on;
            // SAFETY: malloc takes any size.
            let memory = unsafe { libc::malloc(frame.len()) };
            if memory.is_null() && !frame.is_empty() {
                return Err(libc::ENOMEM);
            }
            // SAFETY: fresh memory of that size, and a place in the caller's array.
            unsafe {
                std::ptr::copy_nonoverlapping(frame.as_ptr(), memory.cast(), frame.len());
                iov.add(received).write(libc::iovec { iov_base: memory, iov_len: frame.len() });
            }
            received += 1;
        }
        // SAFETY: as above.
        unsafe { count.write(received) };
        Ok(received as c_int)
    })
}
