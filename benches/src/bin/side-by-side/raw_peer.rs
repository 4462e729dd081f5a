//! Plain TCP sockets in the same roles, blocking or polled without sleeping: the limit that the machine sets. There is
//! no framing (every message of a run has one size), no queue and no pattern.
//!
//! Each message is one write and one read. Only the large-message measure is therefore a limit for throughput: peers
//! that put many small messages into one write go far beyond it. In place of inproc stands the standard library's
//! bounded channel.

use crate::Result;
use crate::control::Task;
use crate::peer::{HIGH_WATER_MARK, Kind, Peer};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The sending half of the one channel of this process, from bind to connect.
static CHANNEL: Mutex<Option<SyncSender<Vec<u8>>>> = Mutex::new(None);

#[derive(Debug)]
pub(crate) struct Raw<const POLLED: bool> {
    listener: Option<TcpListener>,
    streams: Vec<TcpStream>,
    sender: Option<SyncSender<Vec<u8>>>,
    receiver: Option<Receiver<Vec<u8>>>,
    /// What has come of a message. Reused, so that receiving allocates nothing.
    body: Vec<u8>,
    filled: usize,
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
        while self.filled < self.body.len() {
            match stream.read(&mut self.body[self.filled..]) {
                Ok(0) => return Err("the other end closed the link".into()),
                Ok(bytes) => self.filled += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.filled = 0;
        Ok(true)
    }
}

impl<const POLLED: bool> Peer for Raw<POLLED> {
    type Context = ();

    fn context() -> Result<()> {
        Ok(())
    }

    fn socket((): &(), kind: Kind, task: &Task) -> Result<Self> {
        Ok(Self {
            listener: None,
            streams: Vec::new(),
            sender: None,
            receiver: None,
            body: vec![0; task.bytes],
            filled: 0,
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

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if let Some(receiver) = &self.receiver {
            return Ok(read(&receiver.recv()?));
        }
        while !self.fill()? {
            std::hint::spin_loop();
        }
        Ok(read(&self.body))
    }

    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        if let Some(receiver) = &self.receiver {
            return match receiver.try_recv() {
                Ok(body) => Ok(Some(read(&body))),
                Err(TryRecvError::Empty) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        Ok(if self.fill()? { Some(read(&self.body)) } else { None })
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
