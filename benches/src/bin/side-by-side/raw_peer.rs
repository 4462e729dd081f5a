//! Plain TCP sockets in the same roles, blocking or polled without sleeping: the limit that the machine sets. There is
//! no framing (every message of a run has one size), no queue and no pattern.
//!
//! PUSH gathers small messages into large writes and PULL reads as many as there are, so they show what the system
//! carries. All else is one write and one read for each message: for REQ/REP that is the limit as well, but peers that put
//! many messages for a SUB into one write go beyond it. In place of inproc stands the standard library's bounded channel.

use crate::Result;
use crate::control::{Role, Task};
use crate::payload::{self, END};
use crate::peer::{HIGH_WATER_MARK, Kind, Peer};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes that PUSH gathers for one write, and that PULL reads at once at most.
const WRITE: usize = 64 << 10;
const READ: usize = 256 << 10;

/// The sending half of the one channel of this process, from bind to connect.
static CHANNEL: Mutex<Option<SyncSender<Vec<u8>>>> = Mutex::new(None);

#[derive(Debug)]
pub(crate) struct Raw<const POLLED: bool> {
    listener: Option<TcpListener>,
    streams: Vec<TcpStream>,
    sender: Option<SyncSender<Vec<u8>>>,
    receiver: Option<Receiver<Vec<u8>>>,
    /// Bytes of a message.
    bytes: usize,
    /// Gathered to be written. Only PUSH of small messages gathers.
    outbox: Vec<u8>,
    gathers: bool,
    /// What has come and was not taken yet: `inbox[start..end]`. As long as one message, or [`READ`].
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    /// A SUB socket is one of many on a thread: it must not block in a read.
    non_blocking: bool,
}

impl<const POLLED: bool> Raw<POLLED> {
    fn add(&mut self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(self.non_blocking)?;
        self.streams.push(stream);
        Ok(())
    }

    /// Reads on; true once a message is whole, false if nothing more is there now.
    fn fill(&mut self) -> Result<bool> {
        // The last link is the one that sends, where there is a crowd of idle ones.
        let stream = self.streams.last_mut().ok_or("no link")?;
        while self.end - self.start < self.bytes {
            self.inbox.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match stream.read(&mut self.inbox[self.end..]) {
                Ok(0) => return Err("the other end closed the link".into()),
                Ok(bytes) => self.end += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The message that is whole.
    fn take(&mut self) -> &[u8] {
        let start = self.start;
        self.start += self.bytes;
        &self.inbox[start..self.start]
    }

    fn write(&mut self, body: &[u8]) -> Result<()> {
        for stream in &mut self.streams {
            let mut rest = body;
            while !rest.is_empty() {
                match stream.write(rest) {
                    Ok(bytes) => rest = &rest[bytes..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

impl<const POLLED: bool> Peer for Raw<POLLED> {
    type Context = ();

    fn context() -> Result<()> {
        Ok(())
    }

    fn socket((): &(), kind: Kind, task: &Task) -> Result<Self> {
        let stream = matches!(task.role, Role::Pusher | Role::Puller | Role::CrowdPusher | Role::CrowdPuller);
        let gathers = stream && !payload::is_large(task.bytes);
        Ok(Self {
            listener: None,
            streams: Vec::new(),
            sender: None,
            receiver: None,
            bytes: task.bytes,
            outbox: Vec::new(),
            gathers,
            inbox: vec![0; if gathers && kind == Kind::Pull { READ } else { task.bytes }],
            start: 0,
            end: 0,
            non_blocking: POLLED || kind == Kind::Sub,
        })
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        if url.starts_with("inproc://") {
            let (sender, receiver) = sync_channel(HIGH_WATER_MARK as usize);
            *CHANNEL.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            self.receiver = Some(receiver);
            return Ok(url.to_owned());
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("tcp://{}", listener.local_addr()?);
        self.listener = Some(listener);
        Ok(url)
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        if url.starts_with("inproc://") {
            self.sender = CHANNEL.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Ok(());
        }
        self.add(TcpStream::connect(url.trim_start_matches("tcp://"))?)
    }

    fn subscribe_all(&mut self) -> Result<()> {
        Ok(())
    }

    fn await_links(&mut self, links: usize) -> Result<()> {
        for _ in 0..links {
            let (stream, _) = self.listener.as_ref().ok_or("not bound")?.accept()?;
            self.add(stream)?;
        }
        Ok(())
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        if let Some(sender) = &self.sender {
            sender.send(body.to_vec())?;
            return Ok(());
        }
        if !self.gathers {
            return self.write(body);
        }
        self.outbox.extend_from_slice(body);
        if self.outbox.len() >= WRITE || payload::number(body) == END {
            let mut outbox = std::mem::take(&mut self.outbox);
            self.write(&outbox)?;
            outbox.clear();
            self.outbox = outbox;
        }
        Ok(())
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if let Some(receiver) = &self.receiver {
            return Ok(read(&receiver.recv()?));
        }
        while !self.fill()? {
            std::hint::spin_loop();
        }
        Ok(read(self.take()))
    }

    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        if let Some(receiver) = &self.receiver {
            return match receiver.try_recv() {
                Ok(body) => Ok(Some(read(&body))),
                Err(TryRecvError::Empty) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        Ok(if self.fill()? { Some(read(self.take())) } else { None })
    }

    fn wait_any(sockets: &mut [Self], limit: Duration, ready: &mut [bool]) -> Result<()> {
        let mut items: Vec<libc::pollfd> = sockets
            .iter()
            .flat_map(|socket| &socket.streams)
            .map(|stream| libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: `items` holds so many items.
        unsafe { libc::poll(items.as_mut_ptr(), items.len() as libc::nfds_t, limit.as_millis() as i32) };
        // Each of these sockets has one stream.
        for (ready, item) in ready.iter_mut().zip(&items) {
            *ready = item.revents != 0;
        }
        Ok(())
    }
}
