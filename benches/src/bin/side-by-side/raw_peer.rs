//! Plain sockets in the same roles, blocking or polled without sleeping: the limit that the machine sets. The links are
//! `baselines::tcp` and `baselines::unix`: no framing (every message of a run has one size), no queue and no pattern.
//!
//! PUSH gathers small messages into large writes and PULL reads as many as there are, so they show what the system
//! carries. So they do with four links, which PUSH takes in turn; PULL asks poll(2), and reads each that has something once.
//! All else is one write and one read for each message: for REQ/REP that is the limit as well, but peers that put
//! many messages for a SUB into one write go beyond it. In place of inproc stands the standard library's bounded channel.
//! How one of many sockets is waited for is in `waits`.

use crate::Result;
use crate::control::{Control, Role, Task};
use crate::payload::{self, END};
use crate::peer::{HIGH_WATER_MARK, Kind, Peer};
use crate::polls;
use crate::roles;
use crate::waits::Epoll;
use baselines::stream::{Link, Socket};
use baselines::{Link as _, Run, Traffic, Wait};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The sending half of the one channel of this process, from bind to connect.
static CHANNEL: Mutex<Option<SyncSender<Vec<u8>>>> = Mutex::new(None);

/// In every role, over what the task's URL names.
pub(crate) fn run<const POLLED: bool>(task: &Task, control: &mut Control) -> Result<()> {
    match task.url.split("://").next() {
        Some("ipc") => roles::run::<Raw<UnixStream, POLLED>>(task, control),
        _ if matches!(task.role, Role::Waiter | Role::Waker) => polls::run::<Plain, Epoll>(task, control),
        _ => roles::run::<Raw<TcpStream, POLLED>>(task, control),
    }
}

/// Plain TCP sockets that sleep.
pub(crate) type Plain = Raw<TcpStream, false>;

#[derive(Debug)]
pub(crate) struct Raw<S: Socket, const POLLED: bool> {
    listener: Option<S::Listener>,
    links: Vec<Link<S>>,
    /// The link that has its turn, of a PUSH or PULL that has all of its links in use.
    turn: usize,
    /// Of such a PULL: those that have something, and had no turn yet.
    ready: Vec<usize>,
    sender: Option<SyncSender<Vec<u8>>>,
    receiver: Option<Receiver<Vec<u8>>>,
    role: Role,
    run: Run,
}

impl<S: Socket, const POLLED: bool> Raw<S, POLLED> {
    /// The last link is the one that moves messages, where there is a crowd of idle ones.
    pub(crate) fn link(&mut self) -> Result<&mut Link<S>> {
        self.links.last_mut().ok_or_else(|| "no link".into())
    }

    /// The links in turn, a message to each.
    fn link_in_turn(&mut self) -> Result<&mut Link<S>> {
        self.turn = (self.turn + 1) % self.links.len().max(1);
        self.links.get_mut(self.turn).ok_or_else(|| "no link".into())
    }

    /// All that a link has here already; then one read of the next that is ready.
    fn recv_in_turn<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let mut read = Some(read);
        while !self.links[self.turn].has_message() {
            let Some(next) = self.ready.pop() else {
                self.wait_for_any()?;
                continue;
            };
            self.turn = next;
            let taken = self.links[next].try_recv(|body| read.take().map(|read| read(body)))?;
            if let Some(taken) = taken.flatten() {
                return Ok(taken);
            }
        }
        let taken = self.links[self.turn].try_recv(|body| read.take().map(|read| read(body)))?;
        taken.flatten().ok_or_else(|| "a message that was here is gone".into())
    }

    /// Sleeps until a link has something; those that have are `ready`.
    fn wait_for_any(&mut self) -> Result<()> {
        let mut items: Vec<_> =
            self.links.iter().map(|link| PollFd::from_borrowed_fd(link.fd(), PollFlags::IN)).collect();
        match poll(&mut items, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let places = items.iter().enumerate().filter(|(_, item)| !item.revents().is_empty());
        self.ready.extend(places.map(|(place, _)| place));
        Ok(())
    }
}

impl<S, const POLLED: bool> Peer for Raw<S, POLLED>
where
    S: Socket<Listener: Send> + Send + 'static,
{
    type Context = ();

    fn context() -> Result<()> {
        Ok(())
    }

    fn socket((): &(), kind: Kind, task: &Task) -> Result<Self> {
        let stream = !matches!(
            task.role,
            Role::Replier
                | Role::Requester
                | Role::Publisher
                | Role::Subscribers
                | Role::Inproc
                | Role::Waiter
                | Role::Waker
        );
        // Where a thread has many links, be they of one socket, it must not block in a read of one.
        let one_of_many = kind == Kind::Sub
            || (kind == Kind::Pull && matches!(task.role, Role::FanInPuller | Role::Waiter));
        let wait = if POLLED || one_of_many { Wait::Polled } else { Wait::Asleep };
        let traffic = if stream { Traffic::Stream } else { Traffic::PingPong };
        let run = Run { traffic, bytes: task.bytes, wait };
        Ok(Self {
            listener: None,
            links: Vec::new(),
            turn: 0,
            ready: Vec::new(),
            sender: None,
            receiver: None,
            role: task.role,
            run,
        })
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        if url.starts_with("inproc://") {
            let (sender, receiver) = sync_channel(HIGH_WATER_MARK as usize);
            *CHANNEL.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            self.receiver = Some(receiver);
            return Ok(url.to_owned());
        }
        // Unix-domain sockets have a name of their own in place of a path.
        let any = if S::SCHEME == "ipc" { "*" } else { "127.0.0.1:0" };
        let (listener, at) = Link::<S>::listen(&any.parse().map_err(|_| "no address")?)?;
        self.listener = Some(listener);
        Ok(format!("{}://{at}", S::SCHEME))
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        if url.starts_with("inproc://") {
            self.sender = CHANNEL.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Ok(());
        }
        let address = url.split("://").nth(1).unwrap_or_default();
        self.links.push(Link::connect(&address.parse().map_err(|_| "no address")?, &self.run)?);
        Ok(())
    }

    fn subscribe_all(&mut self) -> Result<()> {
        Ok(())
    }

    fn await_links(&mut self, links: usize) -> Result<()> {
        for _ in 0..links {
            self.links.push(Link::accept(self.listener.as_ref().ok_or("not bound")?, &self.run)?);
        }
        Ok(())
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        if let Some(sender) = &self.sender {
            sender.send(body.to_vec())?;
            return Ok(());
        }
        if self.run.traffic == Traffic::PingPong {
            return Ok(self.links.iter_mut().try_for_each(|link| link.send(body))?);
        }
        let link = if self.role == Role::FanOutPusher { self.link_in_turn()? } else { self.link()? };
        link.push(body)?;
        if payload::number(body) == END {
            link.flush()?;
        }
        Ok(())
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if let Some(receiver) = &self.receiver {
            return Ok(read(&receiver.recv()?));
        }
        if self.role == Role::FanInPuller {
            return self.recv_in_turn(read);
        }
        self.link()?.recv(read)?.ok_or_else(|| "the other end closed the link".into())
    }

    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        if let Some(receiver) = &self.receiver {
            return match receiver.try_recv() {
                Ok(body) => Ok(Some(read(&body))),
                Err(TryRecvError::Empty) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        Ok(self.link()?.try_recv(read)?)
    }

    fn wait_any(sockets: &mut [Self], limit: Duration, ready: &mut [bool]) -> Result<()> {
        let mut items: Vec<libc::pollfd> = sockets
            .iter()
            .flat_map(|socket| &socket.links)
            .map(|link| libc::pollfd { fd: link.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: `items` holds so many items.
        unsafe { libc::poll(items.as_mut_ptr(), items.len() as libc::nfds_t, limit.as_millis() as i32) };
        // Each of these sockets has one link.
        for (ready, item) in ready.iter_mut().zip(&items) {
            *ready = item.revents != 0;
        }
        Ok(())
    }
}
