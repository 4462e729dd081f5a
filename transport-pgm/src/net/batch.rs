//! Many datagrams in one system call, of which the wrappers in other crates have none that need no memory of their own each time:
//! sendmmsg with runs that the device cuts (UDP_SEGMENT), recvmmsg with runs that it has joined (UDP_GRO). All `unsafe` of this
//! crate is here.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

use crate::limits::{RECEIVE_BATCH, SEGMENTED_LEN_MAX, SEGMENTS_MAX, SEND_BATCH};

/// Room for one control message that holds a number.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_LEN]);

const CONTROL_LEN: usize = 32;

/// Bytes of a receive slot: a whole run. A little more than a power of two, so that the slots' beginnings do not all fall into
/// the same lines of the cache.
const SLOT: usize = 65_536 + 192;

/// Sends packets in order, at most [`SEND_BATCH`], and returns how many were taken. With `segments`, runs of packets of one length to one place
/// become one datagram each, for the device to cut.
pub(super) fn send<'a>(
    fd: BorrowedFd<'_>,
    packets: impl Iterator<Item = (&'a SockAddr, &'a [u8])>,
    segments: bool,
) -> io::Result<usize> {
    let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SEND_BATCH];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; SEND_BATCH];
    // Packets in each datagram, and the length of its first.
    let mut runs = [(0u16, 0u16); SEND_BATCH];
    let (mut datagrams, mut taken) = (0, 0);
    let mut open: Option<Run<'a>> = None;
    for (to, bytes) in packets.take(SEND_BATCH) {
        iovs[taken].write(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        taken += 1;
        if let Some(run) = &mut open
            && segments
            && run.takes(to, bytes.len())
        {
            run.total += bytes.len();
            run.ended = bytes.len() < run.segment;
            runs[datagrams - 1].0 += 1;
            continue;
        }
        let header = libc::msghdr {
            msg_name: to.as_ptr().cast_mut().cast(),
            msg_namelen: to.len(),
            // SAFETY: all zeros is a valid value of these plain C fields.
            ..unsafe { mem::zeroed() }
        };
        headers[datagrams].write(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
        runs[datagrams] = (1, bytes.len() as u16);
        datagrams += 1;
        open = Some(Run { to, segment: bytes.len(), total: bytes.len(), ended: false });
    }
    let (iovs, mut first_iov) = (iovs.as_mut_ptr().cast::<libc::iovec>(), 0);
    for at in 0..datagrams {
        let (count, segment) = runs[at];
        // SAFETY: the loop above has written the first `datagrams` headers.
        let header = unsafe { headers[at].assume_init_mut() };
        // Of the whole array, so that all of the run may be read by it.
        header.msg_hdr.msg_iov = iovs.wrapping_add(first_iov);
        header.msg_hdr.msg_iovlen = usize::from(count) as _;
        first_iov += usize::from(count);
        if count > 1 {
            let control = controls[at].write(Control([0; CONTROL_LEN]));
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: CMSG_SPACE and CMSG_LEN only calculate; the buffer is aligned and large enough for one message that
            // holds 16 bits, so CMSG_FIRSTHDR gives its beginning and CMSG_DATA a place inside it.
            unsafe {
                header.msg_hdr.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
                let message = libc::CMSG_FIRSTHDR(&header.msg_hdr);
                (*message).cmsg_level = libc::SOL_UDP;
                (*message).cmsg_type = libc::UDP_SEGMENT;
                (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast::<u16>(), segment);
            }
        }
    }
    if datagrams == 0 {
        return Ok(0);
    }
    // SAFETY: the first `datagrams` headers are written; they point to names, iovecs and controls that live to the end of this
    // function, and iovecs to packets that the caller lends for longer. The system only reads them all but the headers.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            datagrams as u32,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(runs[..sent.min(datagrams)].iter().map(|(count, _)| usize::from(*count)).sum())
}

/// A datagram that may grow.
struct Run<'a> {
    to: &'a SockAddr,
    segment: usize,
    total: usize,
    /// A shorter packet is the last.
    ended: bool,
}

impl Run<'_> {
    fn takes(&self, to: &SockAddr, len: usize) -> bool {
        let fits = !self.ended && len <= self.segment && self.total + len <= SEGMENTED_LEN_MAX;
        // Nearly always it is the very same place.
        fits && self.total < self.segment * SEGMENTS_MAX && (ptr::eq(self.to, to) || self.to == to)
    }
}

/// Where datagrams arrive; for all sockets of a driver.
pub(super) struct Slots {
    memory: Box<[u8]>,
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("len", &self.memory.len()).finish()
    }
}

impl Slots {
    /// Memory of which only what is used is ever touched.
    pub(super) fn new() -> Self {
        Self { memory: vec![0; SLOT * RECEIVE_BATCH].into() }
    }

    /// Takes at most `limit` datagrams and shows each: where it is from, and its packets. Returns how many datagrams; 0 when there
    /// are none.
    pub(super) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        limit: usize,
        mut each: impl FnMut(IpAddr, &[u8]),
    ) -> io::Result<usize> {
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; RECEIVE_BATCH];
        let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; RECEIVE_BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; RECEIVE_BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; RECEIVE_BATCH];
        let count = limit.clamp(1, RECEIVE_BATCH);
        for (at, slot) in self.memory.chunks_exact_mut(SLOT).take(count).enumerate() {
            let iov = iovs[at].write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT });
            // SAFETY: all zeros is a valid value of this plain C struct.
            let mut header: libc::msghdr = unsafe { mem::zeroed() };
            header.msg_name = names[at].as_mut_ptr().cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
            header.msg_iov = iov;
            header.msg_iovlen = 1;
            header.msg_control = controls[at].as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN as _;
            headers[at].write(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
        }
        // SAFETY: the first `count` headers are written; they point to places for names, iovecs and controls that live to the end
        // of this function, and iovecs to slots of our own, each of the length said.
        let got = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                count as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?.min(count);
        for at in 0..got {
            // SAFETY: the loop above has written the first `count` headers, and `got` is no more.
            let header = unsafe { headers[at].assume_init_ref() };
            // What does not fit a slot is no packet of ours.
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                continue;
            }
            // SAFETY: the system has written a name of this length into this place.
            let from = unsafe { address(names[at].as_ptr(), header.msg_hdr.msg_namelen) };
            let Some(from) = from else { continue };
            // SAFETY: the header and the control buffer it points to were filled by the system.
            let segment = unsafe { joined(&header.msg_hdr) };
            let slot = &self.memory[at * SLOT..][..(header.msg_len as usize).min(SLOT)];
            match segment {
                Some(segment) if segment > 0 => slot.chunks(segment).for_each(|packet| each(from, packet)),
                _ => each(from, slot),
            }
        }
        Ok(got)
    }
}

/// The IP address in a name.
///
/// # Safety
/// `name` holds `len` bytes that the system has written.
unsafe fn address(name: *const libc::sockaddr_storage, len: libc::socklen_t) -> Option<IpAddr> {
    let len = len as usize;
    if len < size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: there are as many bytes as the smallest of these structs has, which begin with the family.
    match i32::from(unsafe { (*name).ss_family }) {
        libc::AF_INET => {
            // SAFETY: the family says which struct it is, and the length was checked.
            let v4 = unsafe { &*name.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the family says which struct it is, and the length was checked.
            let v6 = unsafe { &*name.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// The length of the packets that the system has joined in one datagram; `None` when it is one packet.
///
/// # Safety
/// The header is one that recvmmsg has filled.
unsafe fn joined(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the system has set the control's length to what it has written into a buffer that was at least as long, and the
    // macros stay within it.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            if control.cmsg_level == libc::SOL_UDP && control.cmsg_type == libc::UDP_GRO {
                let segment = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::c_int>());
                return usize::try_from(segment).ok();
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// Lets the system join datagrams of one sender. An older one cannot, and that is no error.
pub(super) fn join_datagrams(fd: BorrowedFd<'_>) {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives during the call, and its length is that of an int.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as u32,
        );
    }
}
