//! Waiting for one of many sockets that stay registered, at a cost that does not grow with their number. Reads and writes
//! none of them.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use transport_core::{Slab, SlabKey};

use super::Socket;
use super::context::Context;
use super::future::Turns;
use super::poll::{Interest, look_at_fds};
use super::shared::{CLOSED, OPEN, SocketShared};
use crate::engine::{ReadyList, Registration, Target, Wait};
use crate::error::Error;

/// Waits for sockets of one context that are registered once, where [`super::poll`] is given all of them each time. A wait
/// looks only at those that were ready before or that the engine has spoken of since, however many there are: what epoll(7) is
/// to poll(2). Level-triggered: what is ready and left alone is reported again.
///
/// ```
/// # use fabriq_messaging as fabriq;
/// use fabriq::{Interest, Poller};
/// # fn serve(context: &fabriq::Context, sockets: &[fabriq::Socket]) -> Result<(), fabriq::Error> {
/// let mut poller = Poller::new(context);
/// for (number, socket) in sockets.iter().enumerate() {
///     poller.add(socket, number, Interest::READABLE)?;
/// }
/// let mut ready = Vec::new();
/// poller.wait(&mut ready, None)?;
/// for at in &ready {
///     println!("{:?}", sockets[at.token].try_recv()?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// A socket that is closed leaves by itself and is not reported. A poller without sockets waits for its timeout only, and does
/// not hear of its context's end. May be moved between threads; one wait at a time.
pub struct Poller {
    context: Context,
    list: Arc<ReadyList>,
    entries: Slab<SlabKey, Entry>,
    /// The entries by their sockets' addresses, which no other socket can have while they hold theirs.
    known: HashMap<usize, SlabKey>,
    /// Those to look at next, each marked as noted.
    candidates: Vec<SlabKey>,
}

/// A socket that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// What the socket was added with.
    pub token: usize,
    /// What there is of what was asked for.
    pub ready: Interest,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<SocketShared>,
    token: usize,
    interest: Interest,
    registration: Arc<Registration>,
}

impl Poller {
    /// Without sockets.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            list: Arc::default(),
            entries: Slab::new(),
            known: HashMap::new(),
            candidates: Vec::new(),
        }
    }

    /// How many sockets it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none: then a wait ends by its timeout only.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers a socket; [`Ready::token`] is how it is called from here on. A socket may be in several pollers.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has been added already or belongs to another context; [`Error::Terminated`],
    /// [`Error::Forked`].
    pub fn add(&mut self, socket: &Socket, token: usize, interest: Interest) -> Result<(), Error> {
        socket.check()?;
        if !Arc::ptr_eq(&socket.context, self.context.shared()) {
            return Err(Error::Invalid("all sockets of a poller belong to one context"));
        }
        if self.find(socket).is_some() {
            return Err(Error::Invalid("this socket was added to the poller already; use modify"));
        }
        let shared = socket.shared.clone();
        let address = Arc::as_ptr(&shared).addr();
        let list = &self.list;
        let key = self.entries.insert_with(|key| {
            let registration = Registration::new(list, key);
            shared.waiters.add_poller(registration.clone());
            Entry { socket: shared, token, interest, registration }
        });
        self.known.insert(address, key);
        self.candidates.push(key);
        Ok(())
    }

    /// Waits for something else on a socket.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was not added.
    pub fn modify(&mut self, socket: &Socket, interest: Interest) -> Result<(), Error> {
        let key = self.find(socket).ok_or(NOT_ADDED)?;
        let Some(entry) = self.entries.find_mut(key) else { return Err(NOT_ADDED) };
        entry.interest = interest;
        if entry.registration.keep() {
            self.candidates.push(key);
        }
        Ok(())
    }

    /// Takes a socket out.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was not added; [`Error::Forked`].
    pub fn remove(&mut self, socket: &Socket) -> Result<(), Error> {
        if self.context.shared().is_foreign() {
            return Err(Error::Forked);
        }
        let key = self.find(socket).ok_or(NOT_ADDED)?;
        self.known.remove(&Arc::as_ptr(&socket.shared).addr());
        if let Some(entry) = self.entries.remove(key) {
            entry.socket.waiters.remove_poller(&entry.registration);
        }
        self.candidates.retain(|candidate| *candidate != key);
        Ok(())
    }

    /// Waits until a socket is ready, for at most `timeout` (`None`: for ever), and replaces what `ready` holds by those that
    /// are. Returns how many; 0 after the timeout.
    ///
    /// # Errors
    /// [`Error::Terminated`] when the context is shut down, [`Error::Interrupted`] by a signal, [`Error::Forked`].
    pub fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<usize, Error> {
        self.wait_with_fds(ready, &mut [], timeout)
    }

    /// Like [`Poller::wait`], with file descriptors beside the sockets; their `revents` are written, and they count.
    ///
    /// # Errors
    /// As [`Poller::wait`].
    pub fn wait_with_fds(
        &mut self,
        ready: &mut Vec<Ready>,
        fds: &mut [PollFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<usize, Error> {
        let (context, list) = (self.context.shared().clone(), self.list.clone());
        if context.is_foreign() {
            return Err(Error::Forked);
        }
        let watched = fds.to_vec();
        let mut attempt = || match self.look(ready) {
            Err(error) => Some(Err(error)),
            Ok(()) => {
                let found = ready.len() + look_at_fds(fds);
                (found > 0).then_some(Ok(found))
            }
        };
        if timeout == Some(Duration::ZERO) {
            // Until nothing moves, and not until the first is ready: the others may be as well.
            let mut found = None;
            let _ = context.shard.look_once_more(|| {
                found = attempt();
                matches!(found, Some(Err(_))).then_some(())
            });
            return found.unwrap_or(Ok(0));
        }
        // A time beyond what the clock can say is for ever.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let targets: [&dyn Target; 1] = [&*list];
        match context.shard.wait(&Wait { targets: &targets, deadline, fds: &watched }, &mut attempt) {
            Err(Error::Again) => Ok(0),
            Err(error) => Err(error),
            Ok(found) => found,
        }
    }

    /// The same for async code. Dropping the future loses nothing. Runs under any executor.
    pub fn wait_async<'a>(&'a mut self, ready: &'a mut Vec<Ready>) -> PollerWait<'a> {
        PollerWait { poller: self, ready, turns: Turns::default() }
    }

    /// Looks at those that may be ready.
    fn look(&mut self, ready: &mut Vec<Ready>) -> Result<(), Error> {
        if self.context.shared().is_foreign() {
            return Err(Error::Forked);
        }
        ready.clear();
        self.list.take(&mut self.candidates);
        let Self { entries, candidates, known, .. } = self;
        let mut terminated = false;
        candidates.retain(|&key| {
            // It may have been taken out since.
            let Some(entry) = entries.find_mut(key) else { return false };
            entry.registration.begin_look();
            match entry.socket.life() {
                OPEN => {}
                CLOSED => {
                    entry.socket.waiters.remove_poller(&entry.registration);
                    known.remove(&Arc::as_ptr(&entry.socket).addr());
                    entries.remove(key);
                    return false;
                }
                _ => {
                    terminated = true;
                    return entry.registration.keep();
                }
            }
            let found = entry.interest.look(&entry.socket);
            if found.is_any() {
                ready.push(Ready { token: entry.token, ready: found });
            }
            found.is_any() && entry.registration.keep()
        });
        if terminated { Err(Error::Terminated) } else { Ok(()) }
    }

    fn find(&self, socket: &Socket) -> Option<SlabKey> {
        self.known.get(&Arc::as_ptr(&socket.shared).addr()).copied()
    }
}

const NOT_ADDED: Error = Error::Invalid("this socket was not added to the poller");

impl Drop for Poller {
    fn drop(&mut self) {
        // In a forked child the sockets' lists may be locked for ever.
        if self.context.shared().is_foreign() {
            return;
        }
        for (_, entry) in self.entries.iter_mut() {
            entry.socket.waiters.remove_poller(&entry.registration);
        }
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("sockets", &self.len()).finish_non_exhaustive()
    }
}

/// Waits for a socket to be ready; see [`Poller::wait_async`].
#[must_use = "futures do nothing unless polled"]
pub struct PollerWait<'a> {
    poller: &'a mut Poller,
    ready: &'a mut Vec<Ready>,
    turns: Turns,
}

impl Future for PollerWait<'_> {
    type Output = Result<usize, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let Self { poller, ready, turns } = self.get_mut();
        let (context, list) = (poller.context.shared().clone(), poller.list.clone());
        turns.poll(&context, &[&*list], cx, || match poller.look(ready) {
            Err(error) => Some(Err(error)),
            Ok(()) => (!ready.is_empty()).then_some(Ok(ready.len())),
        })
    }
}

impl Drop for PollerWait<'_> {
    fn drop(&mut self) {
        self.turns.leave(self.poller.context.shared(), &[&*self.poller.list]);
    }
}

impl fmt::Debug for PollerWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PollerWait({:?})", self.poller)
    }
}
