//! How each peer waits for one of many sockets: the system's poll(2) and epoll(7), libzmq's zmq_poll, fabriq's `poll` and
//! `Poller`. What is done with them is in `polls`.
//!
//! Every one keeps its array of items, as a program in C does. libzmq's zmq_poller_wait is missing: it is a draft, and the
//! libraries of distributions do not export it.

use crate::Result;
use crate::fabriq_peer::{self, Fabriq};
use crate::libzmq_peer::{self, Libzmq};
use crate::peer::Peer;
use crate::polls::Wait;
use crate::raw_peer::Plain;
use fabriq::{Interest, Poller, Ready};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::os::fd::AsRawFd;

/// Sockets that a wait learns of at once from epoll(7); once a round runs, one message is on its way.
const EVENTS: usize = 64;

/// Replaces `ready` by the places of the items that are, of which there are `count`: behind the last nobody need look.
fn note<T>(ready: &mut Vec<usize>, count: usize, items: &[T], is_ready: impl Fn(&T) -> bool) {
    let places = items.iter().enumerate().filter(|(_, item)| is_ready(item));
    ready.clear();
    ready.extend(places.map(|(place, _)| place).take(count));
}

/// poll(2).
#[derive(Debug)]
pub(crate) struct PollFds {
    sockets: Vec<Plain>,
    items: Vec<libc::pollfd>,
}

impl Wait<Plain> for PollFds {
    fn new((): &(), mut sockets: Vec<Plain>) -> Result<Self> {
        let item = |socket: &mut Plain| -> Result<libc::pollfd> {
            Ok(libc::pollfd { fd: socket.link()?.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 })
        };
        let items = sockets.iter_mut().map(item).collect::<Result<_>>()?;
        Ok(Self { sockets, items })
    }

    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        // SAFETY: `items` holds so many items.
        let count = unsafe { libc::poll(self.items.as_mut_ptr(), self.items.len() as libc::nfds_t, -1) };
        let count = usize::try_from(count).map_err(|_| std::io::Error::last_os_error())?;
        note(ready, count, &self.items, |item| item.revents != 0);
        Ok(())
    }

    fn try_recv<R>(&mut self, place: usize, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        self.sockets[place].try_recv(read)
    }
}

/// epoll(7), by level.
pub(crate) struct Epoll {
    sockets: Vec<Plain>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Wait<Plain> for Epoll {
    fn new((): &(), mut sockets: Vec<Plain>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (place, socket) in sockets.iter_mut().enumerate() {
            let fd = socket.link()?.fd();
            epoll::add(&epoll, fd, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        }
        Ok(Self { sockets, epoll, events: Vec::with_capacity(EVENTS) })
    }

    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        ready.clear();
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }

    fn try_recv<R>(&mut self, place: usize, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        self.sockets[place].try_recv(read)
    }
}

/// zmq_poll.
#[derive(Debug)]
pub(crate) struct ZmqPoll {
    sockets: Vec<Libzmq>,
    items: Vec<libzmq_peer::PollItem>,
}

impl Wait<Libzmq> for ZmqPoll {
    fn new(_: &libzmq_peer::Context, sockets: Vec<Libzmq>) -> Result<Self> {
        let items = sockets.iter().map(Libzmq::poll_item).collect();
        Ok(Self { sockets, items })
    }

    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        let count = libzmq_peer::poll(&mut self.items, None)?;
        note(ready, count, &self.items, libzmq_peer::PollItem::is_ready);
        Ok(())
    }

    fn try_recv<R>(&mut self, place: usize, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        self.sockets[place].try_recv(read)
    }
}

/// fabriq's `poll`.
#[derive(Debug)]
pub(crate) struct Polled(Vec<fabriq::PollItem<'static>>);

impl Wait<Fabriq> for Polled {
    fn new(_: &fabriq::Context, sockets: Vec<Fabriq>) -> Result<Self> {
        // Leaked, so that the items may stay; the process ends with the round.
        let sockets: &'static [Fabriq] = sockets.leak();
        Ok(Self(sockets.iter().map(|socket| fabriq::PollItem::readable(&socket.0)).collect()))
    }

    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        let count = fabriq::poll(&mut self.0, None)?;
        note(ready, count, &self.0, |item| item.ready.readable);
        Ok(())
    }

    fn try_recv<R>(&mut self, place: usize, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        fabriq_peer::try_recv(self.0[place].socket, read)
    }
}

/// fabriq's `Poller`.
#[derive(Debug)]
pub(crate) struct ByPoller {
    sockets: Vec<Fabriq>,
    poller: Poller,
    found: Vec<Ready>,
}

impl Wait<Fabriq> for ByPoller {
    fn new(context: &fabriq::Context, sockets: Vec<Fabriq>) -> Result<Self> {
        let mut poller = Poller::new(context);
        for (place, socket) in sockets.iter().enumerate() {
            poller.add(&socket.0, place, Interest::READABLE)?;
        }
        Ok(Self { sockets, poller, found: Vec::new() })
    }

    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        self.poller.wait(&mut self.found, None)?;
        ready.clear();
        ready.extend(self.found.iter().map(|found| found.token));
        Ok(())
    }

    fn try_recv<R>(&mut self, place: usize, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        self.sockets[place].try_recv(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_what_is_ready_replace_those_of_the_wait_before() {
        let mut ready = vec![7, 8, 9];
        note(&mut ready, 2, &[false, true, false, true, false], |is_ready| *is_ready);
        assert_eq!(ready, [1, 3]);
        note(&mut ready, 0, &[false, false], |is_ready| *is_ready);
        assert!(ready.is_empty());
    }
}
