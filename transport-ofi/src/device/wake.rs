//! The descriptor of a queue, to sleep on (FI_WAIT_FD, fi_trywait(3)).
//!
//! Before libfabric 1.19, sockets by the provider `net`, and 1.18's `tcp`, signal each completion on a descriptor
//! inside the one they give out and never take the signal back, so that after the first it is readable for ever. What
//! they really wait for still makes it *become* readable again, and an edge-triggered epoll tells that: so there it
//! is one of ours that is slept on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};

use super::failure::Failure;
use super::info::Info;
use crate::sys::Version;

/// Versions of libfabric's own providers have 100 in front.
const FIRST_LEFT_SET_BY_TCP: Version = Version::new(118, 0);
const FIRST_TAKEN_BACK: Version = Version::new(119, 0);

/// Whether signals stay set.
pub(super) fn leaves_signals_set(provider: &str, version: Version) -> bool {
    let core = provider.split(';').next().unwrap_or_default();
    version < FIRST_TAKEN_BACK && (core == "net" || core == "tcp" && version >= FIRST_LEFT_SET_BY_TCP)
}

/// A queue's descriptor.
#[derive(Debug)]
pub(super) struct Wake {
    /// The library's; open as long as its queue.
    fd: i32,
    edges: Option<OwnedFd>,
}

impl Wake {
    /// # Safety
    /// The descriptor is open for as long as this exists.
    pub(super) unsafe fn new(fd: i32, stays_set: bool) -> Result<Self, Failure> {
        let edges = if stays_set {
            let failure = |call| move |errno: rustix::io::Errno| Failure::new(call, -errno.raw_os_error());
            let edges = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failure("epoll_create1"))?;
            // SAFETY: the caller vouches for the descriptor.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&edges, fd, epoll::EventData::new_u64(0), flags).map_err(failure("epoll_ctl"))?;
            Some(edges)
        } else {
            None
        };
        Ok(Self { fd, edges })
    }

    /// Forgets what has made it readable until now. To be called before the look that finds nothing.
    pub(super) fn forget(&self) {
        if let Some(edges) = &self.edges {
            const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
            let mut event =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
            // Interrupted, it stays readable, which costs one look more.
            let _ = epoll::wait(edges, &mut event, Some(&AT_ONCE));
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.edges {
            Some(edges) => edges.as_fd(),
            // SAFETY: `new`'s caller vouches for the descriptor.
            None => unsafe { BorrowedFd::borrow_raw(self.fd) },
        }
    }
}

/// Whether queues of an offer need an epoll of ours.
pub(super) fn stays_set(info: &Info) -> bool {
    leaves_signals_set(info.provider(), info.version())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_that_leave_signals_set_are_known_by_version() {
        for (provider, version, stays) in [
            ("net", (117, 0), true),
            ("net;ofi_rxm", (118, 20), true),
            ("tcp", (117, 10), false),
            ("tcp;ofi_rxm", (118, 0), true),
            ("tcp", (119, 0), false),
            ("tcp", (201, 0), false),
            ("shm", (117, 0), false),
        ] {
            let version = Version::new(version.0, version.1);
            assert_eq!(leaves_signals_set(provider, version), stays, "{provider} {version}");
        }
    }
}
