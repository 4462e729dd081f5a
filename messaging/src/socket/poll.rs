//! Waiting for several sockets, and descriptors, at once. Reads and writes none of them.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec};
use transport_core::Deferral;

use super::Socket;
use super::shared::SocketShared;
use crate::engine::{Target, Wait, timespec};
use crate::error::Error;

/// What to wait for on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// A message can be received.
    pub readable: bool,
    /// A message can be sent.
    pub writable: bool,
}

impl Interest {
    /// A message to receive.
    pub const READABLE: Self = Self { readable: true, writable: false };
    /// Room to send.
    pub const WRITABLE: Self = Self { readable: false, writable: true };

    /// What there is of it on a socket; what there is not, the engine will say.
    pub(super) fn look(self, socket: &SocketShared) -> Self {
        let _deferral = Deferral::begin();
        let mut state = socket.lock();
        Self { readable: self.readable && state.can_recv(), writable: self.writable && state.can_send() }
    }

    /// Whether it is anything.
    pub(super) fn is_any(self) -> bool {
        self.readable || self.writable
    }
}

/// One socket of a `poll`.
#[derive(Debug)]
pub struct PollItem<'a> {
    /// The socket.
    pub socket: &'a Socket,
    /// What to wait for.
    pub interest: Interest,
    /// What there is; written by `poll`.
    pub ready: Interest,
}

impl<'a> PollItem<'a> {
    /// Waits for `socket` to have a message.
    pub fn readable(socket: &'a Socket) -> Self {
        Self { socket, interest: Interest::READABLE, ready: Interest::default() }
    }

    fn look(&mut self) -> Result<bool, Error> {
        self.socket.check()?;
        self.ready = self.interest.look(&self.socket.shared);
        Ok(self.ready.is_any())
    }
}

fn look_at_all(items: &mut [PollItem<'_>]) -> Result<usize, Error> {
    let mut ready = 0;
    for item in items {
        ready += usize::from(item.look()?);
    }
    Ok(ready)
}

/// Looks at descriptors without waiting, and says how many are ready.
pub(super) fn look_at_fds(fds: &mut [PollFd<'_>]) -> usize {
    if fds.is_empty() {
        return 0;
    }
    rustix::event::poll(fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(0)
}

/// Waits until one of the sockets is ready, at most `timeout` (`None`: for ever). Returns how many are; 0 after the
/// timeout. All sockets must belong to one context. Looks at each of them: for hundreds there is [`super::Poller`].
pub fn poll(items: &mut [PollItem<'_>], timeout: Option<Duration>) -> Result<usize, Error> {
    poll_with_fds(items, &mut [], timeout)
}

/// Like [`poll`], with file descriptors beside the sockets; their `revents` are written.
pub fn poll_with_fds(
    items: &mut [PollItem<'_>],
    fds: &mut [PollFd<'_>],
    timeout: Option<Duration>,
) -> Result<usize, Error> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let Some(first) = items.first() else {
        let timeout = timeout.map(timespec);
        return rustix::event::poll(fds, timeout.as_ref()).map_err(|error| match error {
            rustix::io::Errno::INTR => Error::Interrupted,
            error => Error::System("poll", error.raw_os_error()),
        });
    };
    first.socket.check()?;
    let shard = first.socket.context.shard.clone();
    if items.iter().any(|item| !std::sync::Arc::ptr_eq(&item.socket.context.shard, &shard)) {
        return Err(Error::Invalid("all sockets of a poll belong to one context"));
    }
    if timeout == Some(Duration::ZERO) {
        // Until nothing moves, and not until the first is ready: the others may be as well.
        let _ = shard.look_once_more(|| match look_at_all(items) {
            Ok(_) if items.iter().any(|item| item.ready != item.interest) => None,
            looked => Some(looked),
        });
        return Ok(look_at_all(items)? + look_at_fds(fds));
    }
    let targets: Vec<&dyn Target> = items.iter().map(|item| &*item.socket.shared as &dyn Target).collect();
    let watched = fds.to_vec();
    let wait = Wait { targets: &targets, deadline, fds: &watched };
    let result = shard.wait(&wait, || match look_at_all(items) {
        Err(error) => Some(Err(error)),
        Ok(ready) => {
            let ready = ready + look_at_fds(fds);
            (ready > 0).then_some(Ok(ready))
        }
    });
    match result {
        Err(Error::Again) => Ok(0),
        Err(error) => Err(error),
        Ok(result) => result,
    }
}
