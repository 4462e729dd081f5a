//! zmq_poll: waits for sockets and file descriptors at once.

use std::ffi::{c_int, c_long, c_short, c_void};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fabriq::{Interest, PollItem};
use rustix::event::{PollFd, PollFlags};

use crate::socket::Sock;
use crate::{Result, errno, export};

const POLLIN: c_short = 1;
const POLLOUT: c_short = 2;
const POLLERR: c_short = 4;
const POLLPRI: c_short = 8;

/// How long sockets of several contexts are waited for in turn, one context at a time.
const SLICE: Duration = Duration::from_millis(1);

/// zmq_pollitem_t.
#[repr(C)]
#[derive(Debug)]
pub struct Item {
    socket: *mut c_void,
    fd: c_int,
    events: c_short,
    revents: c_short,
}

#[cfg(test)]
impl Item {
    pub(crate) fn of(socket: *mut c_void) -> Self {
        Self { socket, fd: -1, events: POLLIN, revents: 0 }
    }
    pub(crate) fn file(fd: c_int, events: c_short) -> Self {
        Self { socket: std::ptr::null_mut(), fd, events, revents: 0 }
    }
}

fn flags_of(events: c_short) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, events & POLLIN != 0);
    flags.set(PollFlags::OUT, events & POLLOUT != 0);
    flags.set(PollFlags::PRI, events & POLLPRI != 0);
    flags
}

fn events_of(flags: PollFlags) -> c_short {
    let mut events = 0;
    for (flag, event) in [(PollFlags::IN, POLLIN), (PollFlags::OUT, POLLOUT), (PollFlags::PRI, POLLPRI)] {
        if flags.contains(flag) {
            events |= event;
        }
    }
    // As in libzmq, every other condition is an error.
    if !(flags - (PollFlags::IN | PollFlags::OUT | PollFlags::PRI)).is_empty() {
        events |= POLLERR;
    }
    events
}

/// Fills `revents` and returns how many are not 0.
fn poll(items: &mut [Item], timeout: Option<Duration>) -> Result<usize> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut socks: Vec<(usize, Arc<Sock>)> = Vec::new();
    for (at, item) in items.iter_mut().enumerate() {
        item.revents = 0;
        if !item.socket.is_null() {
            socks.push((at, Sock::find(item.socket)?));
        }
    }
    // Parts of a message that was begun are there without waiting.
    let begun = |sock: &Sock, events: c_short| {
        let mut revents = 0;
        if events & POLLIN != 0 && sock.has_parts() {
            revents |= POLLIN;
        }
        if events & POLLOUT != 0 && sock.is_sending() {
            revents |= POLLOUT;
        }
        revents
    };
    let ready_now = socks.iter().any(|(at, sock)| begun(sock, items[*at].events) != 0);
    let one_context = socks.windows(2).all(|pair| Arc::ptr_eq(&pair[0].1.ctx, &pair[1].1.ctx));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = if ready_now { Some(Duration::ZERO) } else { left };
        let wait = if one_context { wait } else { Some(wait.map_or(SLICE, |wait| wait.min(SLICE))) };
        let with_fds: Vec<usize> =
            (0..items.len()).filter(|&at| items[at].socket.is_null() && items[at].fd >= 0).collect();
        let mut fds: Vec<PollFd<'_>> = with_fds
            .iter()
            .map(|&at| {
                // SAFETY: not -1; the caller keeps the descriptor open during the call, and if not, poll says so.
                let fd = unsafe { BorrowedFd::borrow_raw(items[at].fd) };
                PollFd::from_borrowed_fd(fd, flags_of(items[at].events))
            })
            .collect();
        let mut rest = &socks[..];
        let mut first = true;
        while first || !rest.is_empty() {
            let same = rest.iter().take_while(|(_, sock)| Arc::ptr_eq(&sock.ctx, &rest[0].1.ctx)).count();
            let (group, others) = rest.split_at(same);
            rest = others;
            let mut polled: Vec<PollItem<'_>> = group
                .iter()
                .map(|(at, sock)| PollItem {
                    socket: &sock.socket,
                    interest: Interest {
                        readable: items[*at].events & POLLIN != 0,
                        writable: items[*at].events & POLLOUT != 0,
                    },
                    ready: Interest::default(),
                })
                .collect();
            let fds = if first { &mut fds[..] } else { &mut [] };
            first = false;
            fabriq::poll_with_fds(&mut polled, fds, wait).map_err(|error| errno::of(&error))?;
            for ((at, _), item) in group.iter().zip(&polled) {
                let ready = item.ready;
                items[*at].revents =
                    if ready.readable { POLLIN } else { 0 } | if ready.writable { POLLOUT } else { 0 };
            }
        }
        for (&at, fd) in with_fds.iter().zip(&fds) {
            items[at].revents = events_of(fd.revents());
        }
        drop(fds);
        for (at, sock) in &socks {
            items[*at].revents |= begun(sock, items[*at].events);
        }
        let ready = items.iter().filter(|item| item.revents != 0).count();
        if ready > 0 || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(ready);
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_poll(items: *mut Item, count: c_int, timeout: c_long) -> c_int {
    export(-1, || {
        let count: usize = count.try_into().map_err(|_| libc::EINVAL)?;
        let timeout = (timeout >= 0).then(|| Duration::from_millis(timeout as u64));
        if count == 0 {
            // Nothing to wait for but the time.
            std::thread::sleep(timeout.unwrap_or_default());
            return Ok(0);
        }
        if items.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: the caller says that so many items are there.
        let items = unsafe { std::slice::from_raw_parts_mut(items, count) };
        poll(items, timeout).map(|ready| ready as c_int)
    })
}
