//! zmq_setsockopt and zmq_getsockopt: libzmq's options by number over fabriq's typed ones. Options that fabriq does not
//! have are either kept without effect, where that harms nobody, or refused.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use fabriq::{Options, SocketType};

use crate::socket::{Bell, Sock, number_of};
use crate::{Result, errno, export, locked};

const AFFINITY: c_int = 4;
const ROUTING_ID: c_int = 5;
const SUBSCRIBE: c_int = 6;
const UNSUBSCRIBE: c_int = 7;
const RATE: c_int = 8;
const RECOVERY_IVL: c_int = 9;
const SNDBUF: c_int = 11;
const RCVBUF: c_int = 12;
const RCVMORE: c_int = 13;
const FD: c_int = 14;
const EVENTS: c_int = 15;
const TYPE: c_int = 16;
const LINGER: c_int = 17;
const RECONNECT_IVL: c_int = 18;
const BACKLOG: c_int = 19;
const RECONNECT_IVL_MAX: c_int = 21;
const MAXMSGSIZE: c_int = 22;
const SNDHWM: c_int = 23;
const RCVHWM: c_int = 24;
const MULTICAST_HOPS: c_int = 25;
const RCVTIMEO: c_int = 27;
const SNDTIMEO: c_int = 28;
const IPV4ONLY: c_int = 31;
const LAST_ENDPOINT: c_int = 32;
const ROUTER_MANDATORY: c_int = 33;
const TCP_KEEPALIVE: c_int = 34;
const TCP_KEEPALIVE_CNT: c_int = 35;
const TCP_KEEPALIVE_IDLE: c_int = 36;
const TCP_KEEPALIVE_INTVL: c_int = 37;
const IMMEDIATE: c_int = 39;
const XPUB_VERBOSE: c_int = 40;
const ROUTER_RAW: c_int = 41;
const IPV6: c_int = 42;
const MECHANISM: c_int = 43;
const PLAIN_SERVER: c_int = 44;
const CURVE_SERVER: c_int = 47;
const PROBE_ROUTER: c_int = 51;
const REQ_CORRELATE: c_int = 52;
const REQ_RELAXED: c_int = 53;
const CONFLATE: c_int = 54;
const ZAP_DOMAIN: c_int = 55;
const ROUTER_HANDOVER: c_int = 56;
const TOS: c_int = 57;
const CONNECT_ROUTING_ID: c_int = 61;
const HANDSHAKE_IVL: c_int = 66;
const XPUB_NODROP: c_int = 69;
const XPUB_MANUAL: c_int = 71;
const XPUB_WELCOME_MSG: c_int = 72;
const SOCKS_PROXY: c_int = 68;
const STREAM_NOTIFY: c_int = 73;
const INVERT_MATCHING: c_int = 74;
const HEARTBEAT_IVL: c_int = 75;
const HEARTBEAT_TTL: c_int = 76;
const HEARTBEAT_TIMEOUT: c_int = 77;
const XPUB_VERBOSER: c_int = 78;
const CONNECT_TIMEOUT: c_int = 79;
const TCP_MAXRT: c_int = 80;
const THREAD_SAFE: c_int = 81;
const MULTICAST_MAXTPDU: c_int = 84;
const USE_FD: c_int = 89;
const BINDTODEVICE: c_int = 92;

/// Numbers that are kept and given back: their default, least and largest value. They tune what the kernel or another
/// transport does and change no message.
const IDLE: [(c_int, c_int, c_int, c_int); 7] = [
    (RATE, 100, 1, c_int::MAX),
    (RECOVERY_IVL, 10_000, 0, c_int::MAX),
    (MULTICAST_HOPS, 1, 1, c_int::MAX),
    (MULTICAST_MAXTPDU, 1500, 1, c_int::MAX),
    (TCP_MAXRT, 0, 0, c_int::MAX),
    // The next bind takes it.
    (USE_FD, -1, -1, c_int::MAX),
    (THREAD_SAFE, 0, 0, -1),
];

/// Switches that change what messages do and are not there yet: only their default can be set.
const ABSENT: [c_int; 3] = [ROUTER_RAW, PLAIN_SERVER, CURVE_SERVER];

/// Texts that are kept; with one that is not empty, bind and connect are refused.
const TEXTS: [c_int; 2] = [ZAP_DOMAIN, SOCKS_PROXY];

fn millis(value: c_int) -> Result<Option<Duration>> {
    match value {
        -1 => Ok(None),
        0.. => Ok(Some(Duration::from_millis(value as u64))),
        _ => Err(libc::EINVAL),
    }
}

fn from_millis(value: Option<Duration>) -> c_int {
    value.map_or(-1, |value| value.as_millis().try_into().unwrap_or(c_int::MAX))
}

fn at_least<T: TryFrom<c_int>>(value: c_int) -> Result<T> {
    value.try_into().map_err(|_| libc::EINVAL)
}

fn switch(value: c_int) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(libc::EINVAL),
    }
}

fn number(value: &[u8]) -> Result<c_int> {
    value.try_into().map(c_int::from_ne_bytes).map_err(|_| libc::EINVAL)
}

fn duration(value: c_int) -> Result<Duration> {
    millis(value)?.ok_or(libc::EINVAL)
}

fn change(options: &mut Options, option: c_int, value: c_int) -> Result<()> {
    match option {
        LINGER => options.linger = millis(value)?,
        RECONNECT_IVL => options.reconnect_interval = millis(value)?,
        RECONNECT_IVL_MAX => options.reconnect_interval_max = duration(value)?,
        BACKLOG => options.backlog = at_least(value)?,
        SNDHWM => options.send_hwm = at_least(value)?,
        RCVHWM => options.receive_hwm = at_least(value)?,
        RCVTIMEO => options.receive_timeout = millis(value)?,
        SNDTIMEO => options.send_timeout = millis(value)?,
        SNDBUF if value == -1 => options.send_buffer = None,
        SNDBUF => options.send_buffer = Some(at_least(value)?),
        RCVBUF if value == -1 => options.receive_buffer = None,
        RCVBUF => options.receive_buffer = Some(at_least(value)?),
        IPV6 => options.ipv6 = switch(value)?,
        IPV4ONLY => options.ipv6 = !switch(value)?,
        ROUTER_MANDATORY => options.router_mandatory = switch(value)?,
        ROUTER_HANDOVER => options.router_handover = switch(value)?,
        XPUB_VERBOSE => (options.xpub_verbose, options.xpub_verboser) = (switch(value)?, false),
        XPUB_VERBOSER => (options.xpub_verbose, options.xpub_verboser) = (switch(value)?, switch(value)?),
        XPUB_MANUAL => options.xpub_manual = switch(value)?,
        XPUB_NODROP => options.xpub_nodrop = switch(value)?,
        INVERT_MATCHING => options.invert_matching = switch(value)?,
        IMMEDIATE => options.immediate = switch(value)?,
        TOS => options.type_of_service = at_least(value)?,
        STREAM_NOTIFY => options.stream_notify = switch(value)?,
        CONFLATE => options.conflate = switch(value)?,
        // libzmq takes any number for a yes here.
        REQ_CORRELATE => options.req_correlate = value != 0,
        REQ_RELAXED => options.req_relaxed = value != 0,
        PROBE_ROUTER => options.probe_router = value != 0,
        HANDSHAKE_IVL => options.handshake_timeout = duration(value)?,
        CONNECT_TIMEOUT => options.connect_timeout = duration(value)?,
        HEARTBEAT_IVL => options.heartbeat_interval = duration(value)?,
        // The wire counts in tenths of a second.
        HEARTBEAT_TTL if value / 100 <= 65_535 => options.heartbeat_ttl = duration(value / 100 * 100)?,
        HEARTBEAT_TIMEOUT if value == -1 => options.heartbeat_timeout = Duration::ZERO,
        HEARTBEAT_TIMEOUT => options.heartbeat_timeout = duration(value)?,
        _ => return Err(libc::EINVAL),
    }
    Ok(())
}

fn value_of(options: &Options, option: c_int) -> Option<c_int> {
    let count = |value: Option<u32>| value.map_or(-1, |value| value as c_int);
    Some(match option {
        LINGER => from_millis(options.linger),
        RECONNECT_IVL => from_millis(options.reconnect_interval),
        RECONNECT_IVL_MAX => from_millis(Some(options.reconnect_interval_max)),
        BACKLOG => options.backlog as c_int,
        SNDHWM => options.send_hwm as c_int,
        RCVHWM => options.receive_hwm as c_int,
        RCVTIMEO => from_millis(options.receive_timeout),
        SNDTIMEO => from_millis(options.send_timeout),
        SNDBUF => count(options.send_buffer),
        RCVBUF => count(options.receive_buffer),
        IPV6 => options.ipv6.into(),
        INVERT_MATCHING => options.invert_matching.into(),
        IMMEDIATE => options.immediate.into(),
        TOS => options.type_of_service.into(),
        STREAM_NOTIFY => options.stream_notify.into(),
        CONFLATE => options.conflate.into(),
        REQ_CORRELATE => options.req_correlate.into(),
        REQ_RELAXED => options.req_relaxed.into(),
        PROBE_ROUTER => options.probe_router.into(),
        IPV4ONLY => (!options.ipv6).into(),
        HANDSHAKE_IVL => from_millis(Some(options.handshake_timeout)),
        CONNECT_TIMEOUT => from_millis(Some(options.connect_timeout)),
        HEARTBEAT_IVL => from_millis(Some(options.heartbeat_interval)),
        HEARTBEAT_TTL => from_millis(Some(options.heartbeat_ttl)),
        HEARTBEAT_TIMEOUT if options.heartbeat_timeout.is_zero() => -1,
        HEARTBEAT_TIMEOUT => from_millis(Some(options.heartbeat_timeout)),
        _ => return None,
    })
}

fn set(sock: &Sock, option: c_int, value: &[u8]) -> Result<()> {
    let failed = |error: fabriq::Error| errno::of(&error);
    match option {
        SUBSCRIBE | UNSUBSCRIBE => {
            if !matches!(sock.socket.socket_type(), SocketType::Sub | SocketType::Xpub) {
                return Err(libc::EINVAL);
            }
            let change = if option == SUBSCRIBE {
                sock.socket.subscribe(value)
            } else {
                match sock.socket.unsubscribe(value) {
                    // libzmq finds nothing wrong with taking back what there is not.
                    Err(fabriq::Error::Invalid(_)) if sock.socket.socket_type() == SocketType::Sub => Ok(()),
                    changed => changed,
                }
            };
            change.map_err(failed)
        }
        XPUB_VERBOSE | XPUB_VERBOSER | XPUB_MANUAL | XPUB_NODROP | XPUB_WELCOME_MSG
            if !matches!(sock.socket.socket_type(), SocketType::Xpub | SocketType::Pub) =>
        {
            Err(libc::EINVAL)
        }
        XPUB_WELCOME_MSG => {
            sock.socket.set_options(|options| options.xpub_welcome_message = value.into()).map_err(failed)
        }
        CONNECT_ROUTING_ID
            if !matches!(sock.socket.socket_type(), SocketType::Router | SocketType::Stream) =>
        {
            Err(libc::EINVAL)
        }
        CONNECT_ROUTING_ID if !value.is_empty() => {
            locked(&sock.local).connect_routing_id = Some(value.to_vec());
            Ok(())
        }
        ROUTING_ID if (1..=255).contains(&value.len()) => {
            sock.socket.set_options(|options| options.routing_id = value.into()).map_err(failed)
        }
        MAXMSGSIZE => {
            let max = i64::from_ne_bytes(value.try_into().map_err(|_| libc::EINVAL)?);
            let max = if max == -1 { None } else { Some(max.try_into().map_err(|_| libc::EINVAL)?) };
            sock.socket.set_options(|options| options.max_message_size = max).map_err(failed)
        }
        AFFINITY if value.len() == 8 => keep(sock, option, value),
        BINDTODEVICE => {
            let name = std::str::from_utf8(value).map_err(|_| libc::EINVAL)?;
            let device = match name.trim_end_matches('\0') {
                "" => None,
                name => Some(fabriq::Device::new(name).ok_or(libc::EINVAL)?),
            };
            sock.socket.set_options(|options| options.device = device).map_err(failed)
        }
        TCP_KEEPALIVE | TCP_KEEPALIVE_CNT | TCP_KEEPALIVE_IDLE | TCP_KEEPALIVE_INTVL => {
            let number = number(value)?;
            if number < -1
                || (option == TCP_KEEPALIVE && number > 1)
                || (option != TCP_KEEPALIVE && number == 0)
            {
                return Err(libc::EINVAL);
            }
            keep(sock, option, value)?;
            let kept = |option| kept_number(sock, option).unwrap_or(-1);
            let seconds = |option| u64::try_from(kept(option)).ok().map(Duration::from_secs);
            let keepalive = (kept(TCP_KEEPALIVE) == 1).then(|| fabriq::Keepalive {
                idle: seconds(TCP_KEEPALIVE_IDLE),
                interval: seconds(TCP_KEEPALIVE_INTVL),
                count: u32::try_from(kept(TCP_KEEPALIVE_CNT)).ok(),
            });
            sock.socket.set_options(|options| options.keepalive = keepalive).map_err(failed)
        }
        SOCKS_PROXY | ZAP_DOMAIN if value.len() <= 255 => keep(sock, option, value),
        _ if ABSENT.contains(&option) => match number(value)? {
            0 => Ok(()),
            _ => Err(libc::EINVAL),
        },
        _ => {
            let number = number(value)?;
            if let Some((.., least, most)) = IDLE.iter().copied().find(|idle| idle.0 == option) {
                return if (least..=most).contains(&number) {
                    keep(sock, option, value)
                } else {
                    Err(libc::EINVAL)
                };
            }
            let mut changed = Ok(());
            sock.socket.set_options(|options| changed = change(options, option, number)).map_err(failed)?;
            changed
        }
    }
}

/// A number that is only kept.
fn kept_number(sock: &Sock, option: c_int) -> Option<c_int> {
    number(locked(&sock.local).idle_options.get(&option)?).ok()
}

fn keep(sock: &Sock, option: c_int, value: &[u8]) -> Result<()> {
    locked(&sock.local).idle_options.insert(option, value.to_vec());
    Ok(())
}

fn get(sock: &Sock, option: c_int) -> Result<Vec<u8>> {
    let options = sock.socket.options().map_err(|error| errno::of(&error))?;
    let kept = || locked(&sock.local).idle_options.get(&option).cloned();
    let number = match option {
        LAST_ENDPOINT => {
            let mut text = locked(&sock.local).last_endpoint.clone().into_bytes();
            text.push(0);
            return Ok(text);
        }
        ROUTING_ID if sock.socket.socket_type() == SocketType::Stream => {
            return Ok(locked(&sock.local).last_peer.clone());
        }
        ROUTING_ID => return Ok(options.routing_id.to_vec()),
        MAXMSGSIZE => {
            let max = options.max_message_size.map_or(-1, |max| max.try_into().unwrap_or(i64::MAX));
            return Ok(max.to_ne_bytes().to_vec());
        }
        BINDTODEVICE => {
            let mut name = options.device.map_or(Vec::new(), |device| device.as_bytes().to_vec());
            name.push(0);
            return Ok(name);
        }
        TCP_KEEPALIVE | TCP_KEEPALIVE_CNT | TCP_KEEPALIVE_IDLE | TCP_KEEPALIVE_INTVL => {
            kept_number(sock, option).unwrap_or(-1)
        }
        AFFINITY => return Ok(kept().unwrap_or_else(|| vec![0; 8])),
        _ if TEXTS.contains(&option) => {
            let mut text = kept().unwrap_or_default();
            text.push(0);
            return Ok(text);
        }
        RCVMORE => sock.has_parts().into(),
        TYPE => number_of(sock.socket.socket_type()),
        MECHANISM => 0,
        EVENTS => {
            let events = sock.events()?;
            c_int::from(events.readable) | c_int::from(events.writable) << 1
        }
        FD => {
            let mut local = locked(&sock.local);
            let bell = match local.bell.take() {
                Some(bell) => bell,
                None => Bell::new()?,
            };
            let fd = bell.ring.0.as_raw_fd();
            local.bell = Some(bell);
            drop(local);
            // What is there already is found by looking at ZMQ_EVENTS after this.
            sock.arm_bell(false);
            fd
        }
        _ if ABSENT.contains(&option) => 0,
        _ => match IDLE.iter().find(|idle| idle.0 == option) {
            Some(idle) => return Ok(kept().unwrap_or_else(|| idle.1.to_ne_bytes().to_vec())),
            None => value_of(&options, option).ok_or(libc::EINVAL)?,
        },
    };
    Ok(number.to_ne_bytes().to_vec())
}

/// Whether endpoints may be opened with the options that are only kept.
pub(crate) fn check_kept(sock: &Sock) -> Result<()> {
    let local = locked(&sock.local);
    let kept = |option| local.idle_options.get(&option).is_some_and(|value: &Vec<u8>| !value.is_empty());
    if TEXTS.iter().any(|&option| kept(option)) { Err(libc::ENOTSUP) } else { Ok(()) }
}

/// The descriptor that the next bind is to listen on, which is ours from here on.
pub(crate) fn take_listener(sock: &Sock, address: &str) -> Result<Option<OwnedFd>> {
    if !["tcp://", "ipc://"].iter().any(|scheme| address.starts_with(scheme)) {
        return Ok(None);
    }
    let Some(value) = locked(&sock.local).idle_options.remove(&USE_FD) else { return Ok(None) };
    let fd = number(&value)?;
    if fd < 0 {
        return Ok(None);
    }
    // SAFETY: it asks only whether the number is open.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(libc::EBADF);
    }
    // SAFETY: it is open, and who set the option gave it away (zmq_setsockopt(3)).
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_setsockopt(
    socket: *mut c_void,
    option: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        let value = match (value.is_null(), len) {
            (_, 0) => &[],
            (true, _) => return Err(libc::EINVAL),
            // SAFETY: the caller says that so many bytes are there.
            _ => unsafe { std::slice::from_raw_parts(value.cast::<u8>(), len) },
        };
        set(&sock, option, value).map(|()| 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_getsockopt(
    socket: *mut c_void,
    option: c_int,
    value: *mut c_void,
    len: *mut usize,
) -> c_int {
    export(-1, || {
        let sock = Sock::find(socket)?;
        if value.is_null() || len.is_null() {
            return Err(libc::EFAULT);
        }
        let found = get(&sock, option)?;
        // SAFETY: not NULL, and the caller's.
        let room = unsafe { len.read() };
        if room < found.len() {
            return Err(libc::EINVAL);
        }
        // SAFETY: the caller says that there is so much room; the rest of it is zeroed, as by libzmq.
        unsafe {
            value.cast::<u8>().write_bytes(0, room);
            std::ptr::copy_nonoverlapping(found.as_ptr(), value.cast(), found.len());
            len.write(found.len());
        }
        Ok(0)
    })
}
