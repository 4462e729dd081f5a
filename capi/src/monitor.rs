//! zmq_socket_monitor: a thread that says a socket's events on a PAIR socket, in libzmq's frames (version 1).

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use fabriq::{DownReason, Event, EventKind, Message, Monitor, Socket, SocketType, Violation};

use crate::context::Opened;
use crate::socket::Sock;
use crate::{Result, errno, export, text};

const CONNECTED: u16 = 0x0001;
const CONNECT_DELAYED: u16 = 0x0002;
const CONNECT_RETRIED: u16 = 0x0004;
const LISTENING: u16 = 0x0008;
const BIND_FAILED: u16 = 0x0010;
const ACCEPTED: u16 = 0x0020;
const ACCEPT_FAILED: u16 = 0x0040;
const CLOSED: u16 = 0x0080;
const DISCONNECTED: u16 = 0x0200;
const MONITOR_STOPPED: u16 = 0x0400;
const HANDSHAKE_FAILED_NO_DETAIL: u16 = 0x0800;
const HANDSHAKE_SUCCEEDED: u16 = 0x1000;
const HANDSHAKE_FAILED_PROTOCOL: u16 = 0x2000;

/// How often a monitor looks whether the context ends.
const LOOK: Duration = Duration::from_millis(100);

/// How long an event waits for a reader, also after the end.
const READER_COMES: Duration = Duration::from_secs(1);

/// ZMQ_PROTOCOL_ERROR_* of what a peer did.
fn protocol_error(violation: Violation) -> i32 {
    match violation {
        Violation::BadCommand => 0x1000_0011,
        Violation::UnexpectedCommand | Violation::CommandFlood => 0x1000_0001,
        Violation::IncompatibleSocket => 0x1000_0018,
        Violation::MechanismMismatch => 0x1100_0002,
        Violation::Refused => 0x1000_0015,
        _ => 0x1000_0000,
    }
}

/// The event's number and value.
fn frame_of(kind: &EventKind) -> (u16, i32) {
    match kind {
        EventKind::Listening(fd) => (LISTENING, *fd),
        EventKind::BindFailed(error) => (BIND_FAILED, errno::of_open(error)),
        EventKind::Accepted(fd) => (ACCEPTED, *fd),
        EventKind::AcceptFailed(code) => (ACCEPT_FAILED, *code),
        EventKind::ConnectDelayed => (CONNECT_DELAYED, libc::EINPROGRESS),
        EventKind::Connected(fd) => (CONNECTED, *fd),
        EventKind::ConnectRetried(millis) => (CONNECT_RETRIED, (*millis).try_into().unwrap_or(i32::MAX)),
        EventKind::HandshakeSucceeded => (HANDSHAKE_SUCCEEDED, 0),
        EventKind::HandshakeFailed(reason) => match reason {
            DownReason::Violation(Violation::BadGreeting) => (HANDSHAKE_FAILED_NO_DETAIL, libc::EPROTO),
            DownReason::Violation(violation) => (HANDSHAKE_FAILED_PROTOCOL, protocol_error(*violation)),
            DownReason::TimedOut => (HANDSHAKE_FAILED_NO_DETAIL, libc::ETIMEDOUT),
            DownReason::Broken(code) => (HANDSHAKE_FAILED_NO_DETAIL, *code),
            _ => (HANDSHAKE_FAILED_NO_DETAIL, libc::EPIPE),
        },
        EventKind::Disconnected(_, fd) => (DISCONNECTED, *fd),
        EventKind::Closed => (CLOSED, -1),
        EventKind::Stopped => (MONITOR_STOPPED, 0),
        _ => (0, 0),
    }
}

fn message_of((number, value): (u16, i32), endpoint: &str) -> Message {
    let mut head = number.to_ne_bytes().to_vec();
    head.extend(value.to_ne_bytes());
    let mut message = Message::new(head);
    message.push_back(endpoint.as_bytes());
    message
}

/// Dialled connections on which no handshake has come to an end.
#[derive(Default)]
struct Handshakes(HashMap<String, i32>);

impl Handshakes {
    /// What libzmq says of an event: where a handshake fails it says that the connection is gone as well.
    fn frames_of(&mut self, event: &Event) -> Vec<(u16, i32)> {
        let frame = frame_of(&event.kind);
        match &event.kind {
            EventKind::Connected(fd) => drop(self.0.insert(event.endpoint.clone(), *fd)),
            EventKind::HandshakeFailed(_) => {
                let fd = self.0.remove(&event.endpoint).unwrap_or(-1);
                return vec![frame, (DISCONNECTED, fd)];
            }
            EventKind::ConnectFailed(error) => {
                if let Some(fd) = self.0.remove(&event.endpoint) {
                    return vec![(HANDSHAKE_FAILED_NO_DETAIL, errno::of_open(error)), (DISCONNECTED, fd)];
                }
            }
            EventKind::HandshakeSucceeded | EventKind::Closed => drop(self.0.remove(&event.endpoint)),
            _ => {}
        }
        vec![frame]
    }
}

/// Says events until the monitored socket is closed or the context ends.
fn forward(monitor: &Monitor, pair: &Socket, wanted: u16) {
    let mut handshakes = Handshakes::default();
    loop {
        let Some(event) = monitor.next_timeout(LOOK) else {
            if pair.set_options(|_| ()).is_err() {
                return;
            }
            continue;
        };
        // libzmq says nothing of links that the application closes itself.
        if matches!(event.kind, EventKind::Disconnected(DownReason::ClosedHere, _)) {
            continue;
        }
        for frame in handshakes.frames_of(&event) {
            // A reader may still be on its way; without one the event is dropped.
            if frame.0 & wanted != 0
                && let Err(refused) = pair.send_timeout(message_of(frame, &event.endpoint), READER_COMES)
                && refused.error == fabriq::Error::Terminated
            {
                return;
            }
        }
        if event.kind == EventKind::Stopped {
            return;
        }
    }
}

fn start(sock: &Sock, address: &str, wanted: u16) -> Result<()> {
    let endpoint = fabriq::Endpoint::parse(address).map_err(|_| libc::EINVAL)?;
    if endpoint.scheme() != "inproc" {
        return Err(libc::EPROTONOSUPPORT);
    }
    let (pair, opened, _): (Socket, Opened, _) = sock.ctx.open(SocketType::Pair)?;
    // The last events are for a reader, but must not keep a context from its end.
    let quick = |options: &mut fabriq::Options| options.linger = Some(READER_COMES);
    pair.set_options(quick).map_err(|error| errno::of(&error))?;
    pair.bind(address).map_err(|error| errno::of(&error))?;
    let monitor = sock.socket.monitor().map_err(|error| errno::of(&error))?;
    let thread = std::thread::Builder::new().name("zmq-monitor".to_owned()).spawn(move || {
        forward(&monitor, &pair, wanted);
        drop(pair);
        drop(opened);
    });
    thread.map(drop).map_err(|error| error.raw_os_error().unwrap_or(libc::EAGAIN))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_socket_monitor(
    socket: *mut c_void,
    address: *const c_char,
    events: c_int,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        if address.is_null() {
            sock.socket.stop_monitor();
            return Ok(0);
        }
        // SAFETY: a string of the caller's.
        let address = unsafe { text(address) }?;
        start(&sock, address, events as u16).map(|()| 0)
    })
}
