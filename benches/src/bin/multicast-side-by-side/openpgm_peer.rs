//! OpenPGM by its own C API, as libzmq uses it but with short timers: libpgm-5.3.so.0, loaded at run time. Nothing here is a
//! general binding; layouts and numbers are those of pgm/socket.h of 5.3.
//!
//! NAK back-off 2 ms, repeat 10 ms, wait for data 10 ms: they keep the offered rate where libzmq's 50, 200 and 200 ms collapse.

use crate::Result;
use crate::library::library;
use crate::load::Load;
use crate::peer::{Publisher, Subscriber};
use libc::{c_char, c_int, c_void, size_t, sockaddr_storage, socklen_t, timeval};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::Duration;

/// The longest message: OpenPGM cuts one into at most 16 packets.
pub(crate) const BYTES_MAX: u64 = 16 * 1400;

/// The rate in Mbit/s that it holds without loss.
const CAP_MBIT: u64 = 400;
const PACKET_BYTES: c_int = 1500;
/// Packets that can be repaired, at both ends.
const WINDOW_PACKETS: c_int = 1 << 16;
const NAK_BACKOFF_US: c_int = 2_000;
const NAK_REPEAT_US: c_int = 10_000;
const NAK_DATA_US: c_int = 10_000;
const NAK_RETRIES: c_int = 50;
/// SPMs: when all is quiet, and after data, so that a lost tail is noticed.
const AMBIENT_SPM_US: c_int = 1_000_000;
const HEARTBEAT_SPM_US: [c_int; 6] = [10_000, 10_000, 20_000, 50_000, 100_000, 250_000];
const PEER_EXPIRY_US: c_int = 300_000_000;
const SPMR_EXPIRY_US: c_int = 25_000;

/// How often a publisher looks for a timer of its own, if no other is known.
const HEARTBEAT_LOOK: Duration = Duration::from_millis(5);
/// A timer is not waited for in shorter sleeps.
const TIMER_MIN: Duration = Duration::from_micros(100);

const IPPROTO_UDP: c_int = 17;
const IPPROTO_PGM: c_int = 113;

// Options of the level IPPROTO_PGM. They count from 0x2000.
const PGM_RECV_SOCK: c_int = 0x2001;
const PGM_REPAIR_SOCK: c_int = 0x2002;
const PGM_PENDING_SOCK: c_int = 0x2003;
const PGM_TIME_REMAIN: c_int = 0x2005;
const PGM_RATE_REMAIN: c_int = 0x2006;
const PGM_MTU: c_int = 0x2008;
const PGM_MULTICAST_LOOP: c_int = 0x200c;
const PGM_AMBIENT_SPM: c_int = 0x200f;
const PGM_HEARTBEAT_SPM: c_int = 0x2010;
const PGM_TXW_SQNS: c_int = 0x2012;
const PGM_TXW_MAX_RTE: c_int = 0x2014;
const PGM_PEER_EXPIRY: c_int = 0x2015;
const PGM_SPMR_EXPIRY: c_int = 0x2016;
const PGM_RXW_SQNS: c_int = 0x2018;
const PGM_NAK_BO_IVL: c_int = 0x201b;
const PGM_NAK_RPT_IVL: c_int = 0x201c;
const PGM_NAK_RDATA_IVL: c_int = 0x201d;
const PGM_NAK_DATA_RETRIES: c_int = 0x201e;
const PGM_NAK_NCF_RETRIES: c_int = 0x201f;
const PGM_SEND_ONLY: c_int = 0x2023;
const PGM_RECV_ONLY: c_int = 0x2024;
const PGM_NOBLOCK: c_int = 0x2027;
const PGM_SEND_GROUP: c_int = 0x2028;
const PGM_JOIN_GROUP: c_int = 0x2029;
const PGM_UDP_ENCAP_UCAST_PORT: c_int = 0x2030;
const PGM_UDP_ENCAP_MCAST_PORT: c_int = 0x2031;

const STATUS_NORMAL: c_int = 1;
const STATUS_RESET: c_int = 2;
const STATUS_WOULD_BLOCK: c_int = 5;
const STATUS_RATE_LIMITED: c_int = 6;
const STATUS_TIMER_PENDING: c_int = 7;

#[repr(C)]
#[derive(Debug)]
struct PgmError {
    domain: c_int,
    code: c_int,
    message: *const c_char,
}

/// struct pgm_group_source_req.
#[repr(C)]
struct GroupSource {
    interface: u32,
    group: sockaddr_storage,
    source: sockaddr_storage,
    address: sockaddr_storage,
}

/// struct pgm_addrinfo_t.
#[repr(C)]
struct AddressInfo {
    family: libc::sa_family_t,
    receive_length: u32,
    receive: *mut GroupSource,
    send_length: u32,
    send: *mut GroupSource,
}

/// struct pgm_sockaddr_t with the TSI in it.
#[repr(C)]
#[derive(Debug)]
struct Address {
    port: u16,
    gsi: [u8; 6],
    source_port: u16,
}

/// struct pgm_interface_req_t.
#[repr(C)]
struct InterfaceRequest {
    interface: u32,
    scope: u32,
    address: sockaddr_storage,
}

type Opaque = *mut c_void;
type ErrorPointer = *mut *mut PgmError;

library! {
    "libpgm-5.3.so.0", "libpgm-5.3-0";
    pgm_init: fn(ErrorPointer) -> bool;
    pgm_getaddrinfo: fn(*const c_char, *const AddressInfo, *mut *mut AddressInfo, ErrorPointer) -> bool;
    pgm_gsi_create_from_data: fn(*mut u8, *const u8, size_t) -> bool;
    pgm_socket: fn(*mut Opaque, libc::sa_family_t, c_int, c_int, ErrorPointer) -> bool;
    pgm_setsockopt: fn(Opaque, c_int, c_int, *const c_void, socklen_t) -> bool;
    pgm_getsockopt: fn(Opaque, c_int, c_int, *mut c_void, *mut socklen_t) -> bool;
    pgm_bind3: fn(
        Opaque, *const Address, socklen_t, *const InterfaceRequest, socklen_t, *const InterfaceRequest, socklen_t,
        ErrorPointer
    ) -> bool;
    pgm_connect: fn(Opaque, ErrorPointer) -> bool;
    pgm_send: fn(Opaque, *const c_void, size_t, *mut size_t) -> c_int;
    pgm_recv: fn(Opaque, *mut c_void, size_t, c_int, *mut size_t, ErrorPointer) -> c_int;
}

/// The functions, once the library is initialised.
fn initialised() -> Result<&'static Api> {
    static DONE: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let api = api()?;
    // SAFETY: once in this process, before any other call.
    let init = || unsafe { checked("pgm_init", |error| (api.pgm_init)(error)) };
    DONE.get_or_init(init).clone()?;
    Ok(api)
}

/// Makes a call that explains its failure.
///
/// # Safety
///
/// The call stores null or a valid error in its argument.
unsafe fn checked(name: &str, call: impl FnOnce(ErrorPointer) -> bool) -> std::result::Result<(), String> {
    let mut error: *mut PgmError = std::ptr::null_mut();
    if call(&raw mut error) {
        return Ok(());
    }
    if error.is_null() {
        return Err(format!("{name} failed"));
    }
    // SAFETY: the call failed and has made an error, whose text is terminated. It is never freed: this ends the process.
    let words = unsafe { CStr::from_ptr((*error).message) };
    Err(format!("{name}: {}", words.to_string_lossy()))
}

#[derive(Debug, Clone, Copy)]
struct Handle {
    api: &'static Api,
    socket: Opaque,
}

// SAFETY: OpenPGM's sockets may be used by a sender and a receiver at once; it locks them itself.
unsafe impl Send for Handle {}

impl Handle {
    fn set<T>(self, option: c_int, value: &T) -> Result<()> {
        self.set_level(IPPROTO_PGM, option, value)
    }

    fn set_level<T>(self, level: c_int, option: c_int, value: &T) -> Result<()> {
        let pointer = std::ptr::from_ref(value).cast();
        // SAFETY: an open socket, and a readable value of that size, which OpenPGM compares with the option's.
        let set = unsafe {
            (self.api.pgm_setsockopt)(self.socket, level, option, pointer, size_of::<T>() as socklen_t)
        };
        if set {
            Ok(())
        } else {
            Err(format!("pgm_setsockopt refused option {option:#x} = its value").into())
        }
    }

    fn get<T>(self, option: c_int, mut value: T) -> Result<T> {
        let mut size = size_of::<T>() as socklen_t;
        // SAFETY: as in `set`; the value is writable.
        let got = unsafe {
            (self.api.pgm_getsockopt)(
                self.socket,
                IPPROTO_PGM,
                option,
                (&raw mut value).cast(),
                &raw mut size,
            )
        };
        if got { Ok(value) } else { Err(format!("pgm_getsockopt refused option {option:#x}").into()) }
    }

    /// How long an event of the socket's own is away, or a packet that the rate allows.
    fn remaining(self, option: c_int) -> Result<Duration> {
        let left = self.get(option, timeval { tv_sec: 0, tv_usec: 0 })?;
        Ok(Duration::new(left.tv_sec.max(0) as u64, 0) + Duration::from_micros(left.tv_usec.max(0) as u64))
    }

    /// Sleeps until one of the socket's own files is readable or `limit` has passed.
    fn wait(self, files: &[c_int], limit: Duration) -> Result<()> {
        let mut polled = Vec::with_capacity(files.len());
        for option in files {
            let file = self.get(*option, -1_i32)?;
            // SAFETY: the socket is never closed, so neither are its files.
            polled.push(PollFd::from_borrowed_fd(unsafe { BorrowedFd::borrow_raw(file) }, PollFlags::IN));
        }
        let limit = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
        match poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Answers NAKs and sends SPMs for a publisher, for ever: both are done by receiving. (OpenPGM's blocking mode does it
    /// too, but spins.)
    fn repair(self) -> Result<()> {
        let mut body = vec![0; usize::from(u16::MAX)];
        loop {
            let (status, _) = self.receive(&mut body)?;
            let limit = match status {
                STATUS_TIMER_PENDING => self.remaining(PGM_TIME_REMAIN)?,
                STATUS_RATE_LIMITED => self.remaining(PGM_RATE_REMAIN)?,
                STATUS_WOULD_BLOCK => HEARTBEAT_LOOK,
                _ => continue,
            };
            // A timer that a send has set is not among the files, so it is looked for now and then.
            let limit = limit.clamp(TIMER_MIN, HEARTBEAT_LOOK);
            self.wait(&[PGM_RECV_SOCK, PGM_REPAIR_SOCK, PGM_PENDING_SOCK], limit)?;
        }
    }

    /// Receives once; the status, and how many bytes came.
    fn receive(self, body: &mut [u8]) -> Result<(c_int, usize)> {
        let mut bytes = 0;
        let mut status = 0;
        let (data, length) = (body.as_mut_ptr().cast(), body.len());
        // SAFETY: an open socket and a writable slice; the error is null or valid.
        let done = unsafe {
            checked("pgm_recv", |error| {
                status = (self.api.pgm_recv)(self.socket, data, length, 0, &raw mut bytes, error);
                // A reset says that something could not be repaired; what follows goes on.
                matches!(
                    status,
                    STATUS_NORMAL
                        | STATUS_RESET
                        | STATUS_WOULD_BLOCK
                        | STATUS_RATE_LIMITED
                        | STATUS_TIMER_PENDING
                )
            })
        };
        done?;
        Ok((status, bytes))
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    handle: Handle,
    body: Vec<u8>,
}

impl Socket {
    /// Opens, configures and connects, in the one order that OpenPGM takes.
    fn open(load: &Load, options: impl FnOnce(Handle) -> Result<()>) -> Result<Self> {
        let api = initialised()?;
        let network = CString::new(load.network())?;
        let mut info: *mut AddressInfo = std::ptr::null_mut();
        let mut socket: Opaque = std::ptr::null_mut();
        let family = libc::AF_INET as libc::sa_family_t;
        // SAFETY: terminated strings and writable pointers; the information is read only if the call succeeded, and never
        // freed.
        let (groups, senders) = unsafe {
            checked("pgm_getaddrinfo", |error| {
                (api.pgm_getaddrinfo)(network.as_ptr(), std::ptr::null(), &raw mut info, error)
            })?;
            checked("pgm_socket", |error| {
                (api.pgm_socket)(&raw mut socket, family, libc::SOCK_SEQPACKET, IPPROTO_UDP, error)
            })?;
            (
                std::slice::from_raw_parts((*info).receive, (*info).receive_length as usize),
                std::slice::from_raw_parts((*info).send, (*info).send_length as usize),
            )
        };
        let (Some(group), Some(sender)) = (groups.first(), senders.first()) else {
            return Err(format!("{}: names no group", load.network()).into());
        };
        let handle = Handle { api, socket };
        handle.set(PGM_UDP_ENCAP_UCAST_PORT, &c_int::from(load.port))?;
        handle.set(PGM_UDP_ENCAP_MCAST_PORT, &c_int::from(load.port))?;
        handle.set_level(libc::SOL_SOCKET, libc::SO_SNDBUF, &c_int::try_from(load.buffer)?)?;
        handle.set_level(libc::SOL_SOCKET, libc::SO_RCVBUF, &c_int::try_from(load.buffer)?)?;
        handle.set(PGM_MTU, &PACKET_BYTES)?;
        options(handle)?;
        let mut address = Address { port: load.port, gsi: [0; 6], source_port: 0 };
        let seed = std::process::id().to_ne_bytes();
        let interface = InterfaceRequest { interface: group.interface, scope: 0, address: group.address };
        let size = size_of::<InterfaceRequest>() as socklen_t;
        // SAFETY: the GSI has six bytes; all pointers are readable for the sizes given.
        unsafe {
            (api.pgm_gsi_create_from_data)(address.gsi.as_mut_ptr(), seed.as_ptr(), seed.len());
            checked("pgm_bind3", |error| {
                let bytes = size_of::<Address>() as socklen_t;
                (api.pgm_bind3)(
                    socket,
                    &raw const address,
                    bytes,
                    &raw const interface,
                    size,
                    &raw const interface,
                    size,
                    error,
                )
            })?;
        }
        for group in groups {
            handle.set(PGM_JOIN_GROUP, group)?;
        }
        handle.set(PGM_SEND_GROUP, sender)?;
        handle.set(PGM_MULTICAST_LOOP, &0_i32)?;
        handle.set(PGM_NOBLOCK, &1_i32)?;
        // SAFETY: a bound socket.
        unsafe { checked("pgm_connect", |error| (api.pgm_connect)(socket, error)) }?;
        Ok(Self { handle, body: vec![0; usize::from(u16::MAX)] })
    }

    pub(crate) fn publisher(load: &Load) -> Result<Self> {
        let bytes_per_s = c_int::try_from(load.cap_mbit_or(CAP_MBIT) * 125_000)?;
        let socket = Self::open(load, |handle| {
            handle.set(PGM_SEND_ONLY, &1_i32)?;
            handle.set(PGM_TXW_SQNS, &WINDOW_PACKETS)?;
            // Of everything, repairs too. With data alone under the cap (PGM_ODATA_MAX_RTE) it collapses at 20 % loss.
            handle.set(PGM_TXW_MAX_RTE, &bytes_per_s)?;
            handle.set(PGM_AMBIENT_SPM, &AMBIENT_SPM_US)?;
            handle.set(PGM_HEARTBEAT_SPM, &HEARTBEAT_SPM_US)
        })?;
        let handle = socket.handle;
        std::thread::spawn(move || handle.repair().map_err(|error| eprintln!("openpgm: {error}")));
        Ok(socket)
    }

    pub(crate) fn subscriber(load: &Load) -> Result<Self> {
        Self::open(load, |handle| {
            handle.set(PGM_RECV_ONLY, &1_i32)?;
            handle.set(PGM_RXW_SQNS, &WINDOW_PACKETS)?;
            handle.set(PGM_PEER_EXPIRY, &PEER_EXPIRY_US)?;
            handle.set(PGM_SPMR_EXPIRY, &SPMR_EXPIRY_US)?;
            handle.set(PGM_NAK_BO_IVL, &NAK_BACKOFF_US)?;
            handle.set(PGM_NAK_RPT_IVL, &NAK_REPEAT_US)?;
            handle.set(PGM_NAK_RDATA_IVL, &NAK_DATA_US)?;
            handle.set(PGM_NAK_DATA_RETRIES, &NAK_RETRIES)?;
            handle.set(PGM_NAK_NCF_RETRIES, &NAK_RETRIES)
        })
    }
}

impl Publisher for Socket {
    fn send(&mut self, body: &[u8]) -> Result<()> {
        loop {
            let mut sent = 0;
            // SAFETY: an open socket and a readable slice, which OpenPGM copies into its window; what it has not sent of it,
            // it remembers until it is called with the same again.
            let status = unsafe {
                (self.handle.api.pgm_send)(
                    self.handle.socket,
                    body.as_ptr().cast(),
                    body.len(),
                    &raw mut sent,
                )
            };
            match status {
                STATUS_NORMAL => return Ok(()),
                STATUS_RATE_LIMITED => std::thread::sleep(self.handle.remaining(PGM_RATE_REMAIN)?),
                STATUS_WOULD_BLOCK => std::thread::sleep(TIMER_MIN),
                _ => return Err(format!("pgm_send: status {status}").into()),
            }
        }
    }
}

impl Subscriber for Socket {
    fn receive(&mut self, limit: Duration, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut came = false;
        loop {
            let (status, bytes) = self.handle.receive(&mut self.body)?;
            let remaining = match status {
                STATUS_NORMAL => {
                    came = true;
                    take(&self.body[..bytes]);
                    continue;
                }
                STATUS_RESET => continue,
                STATUS_TIMER_PENDING => self.handle.remaining(PGM_TIME_REMAIN)?,
                STATUS_RATE_LIMITED => self.handle.remaining(PGM_RATE_REMAIN)?,
                _ => limit,
            };
            if !came {
                // Of a receiver's files there is no third.
                self.handle.wait(&[PGM_RECV_SOCK, PGM_PENDING_SOCK], remaining.min(limit))?;
            }
            return Ok(());
        }
    }
}
