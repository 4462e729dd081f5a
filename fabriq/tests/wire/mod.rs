//! A ZMTP 3 peer made of a plain blocking socket, for tests that say exactly what goes over the wire, also what no
//! honest peer says. Judges nothing.

#![allow(dead_code, unreachable_pub)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fabriq::{Context, Event, EventKind, Monitor, Socket, SocketType};

/// Longer than anything here takes; a test that gets here has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const MORE: u8 = 0x01;
pub const LONG: u8 = 0x02;
pub const COMMAND: u8 = 0x04;

/// The 64 bytes that open a stream (ZMTP 3.1, section "Greeting").
pub fn greeting(minor: u8, mechanism: &str) -> [u8; 64] {
    let mut bytes = [0; 64];
    (bytes[0], bytes[9], bytes[10], bytes[11]) = (0xFF, 0x7F, 3, minor);
    bytes[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    bytes
}

/// A frame with the shortest header that fits (section "Framing").
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(body.len()) {
        Ok(len) => vec![flags, len],
        Err(_) => header(flags, body.len() as u64).to_vec(),
    };
    bytes.extend_from_slice(body);
    bytes
}

/// The header of a long frame, whatever follows it.
pub fn header(flags: u8, len: u64) -> [u8; 9] {
    let mut bytes = [flags | LONG; 9];
    bytes[1..].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// A command's body.
pub fn command(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// One property of READY.
pub fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

pub fn ready(kind: &str) -> Vec<u8> {
    frame(COMMAND, &command("READY", &property("Socket-Type", kind.as_bytes())))
}

pub fn ping(ttl: u16, context: &[u8]) -> Vec<u8> {
    frame(COMMAND, &command("PING", &[&ttl.to_be_bytes(), context].concat()))
}

/// `host:port` of a tcp endpoint.
pub fn address(endpoint: &str) -> &str {
    endpoint.strip_prefix("tcp://").expect("a tcp endpoint")
}

/// One connection.
#[derive(Debug)]
pub struct Wire(pub TcpStream);

impl Wire {
    /// Connects and says nothing.
    pub fn connect(endpoint: &str) -> Self {
        Self::new(TcpStream::connect(address(endpoint)).unwrap())
    }

    /// Accepts and says nothing.
    pub fn accept(listener: &TcpListener) -> Self {
        let fds = &mut [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(fds, Some(&patience)), Ok(1), "nobody connected");
        Self::new(listener.accept().unwrap().0)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Exchanges greetings.
    pub fn greet(&mut self) {
        self.say(&greeting(1, "NULL")).unwrap();
        let mut theirs = [0; 64];
        self.0.read_exact(&mut theirs).unwrap();
        assert_eq!((theirs[0], theirs[9], theirs[10], theirs[11]), (0xFF, 0x7F, 3, 1));
    }

    /// Connects and shakes hands as a socket of type `kind`.
    pub fn peer(endpoint: &str, kind: &str) -> Self {
        let mut wire = Self::connect(endpoint);
        wire.shake_hands(kind);
        wire
    }

    pub fn shake_hands(&mut self, kind: &str) {
        self.greet();
        self.say(&ready(kind)).unwrap();
        let (flags, body) = self.hear().unwrap();
        assert_eq!(flags & COMMAND, COMMAND);
        assert!(body.starts_with(b"\x05READY"), "{}", body.escape_ascii());
    }

    /// The next frame: its flags without LONG, and its body.
    pub fn hear(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut flags = [0];
        self.0.read_exact(&mut flags)?;
        let len = if flags[0] & LONG == 0 {
            let mut len = [0];
            self.0.read_exact(&mut len)?;
            u64::from(len[0])
        } else {
            let mut len = [0; 8];
            self.0.read_exact(&mut len)?;
            u64::from_be_bytes(len)
        };
        let mut body = vec![0; len as usize];
        self.0.read_exact(&mut body)?;
        Ok((flags[0] & !LONG, body))
    }

    /// Reads until the other side closes, and says how long that took. Panics if it does not.
    pub fn closed_after(&mut self) -> Duration {
        let start = Instant::now();
        let mut scrap = [0; 65536];
        loop {
            match self.0.read(&mut scrap) {
                Ok(0) => return start.elapsed(),
                Ok(_) => assert!(start.elapsed() < PATIENCE, "still sends and does not close"),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return start.elapsed(),
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// Writes `bytes` over and over until the other side has had enough or `total` bytes are written. Reads nothing.
    /// Returns how many went out, and whether the link was closed.
    pub fn flood(&mut self, bytes: &[u8], total: usize) -> (usize, bool) {
        let mut sent = 0;
        while sent < total {
            match self.0.write(bytes) {
                Ok(n) => sent += n,
                // Pushed back until the write timed out: flooding goes on no more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (sent, false),
                Err(_) => return (sent, true),
            }
        }
        (sent, false)
    }

    pub fn end(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// A socket whose calls fail rather than hang a test.
pub fn socket(context: &Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).unwrap();
    socket
        .set_options(|options| {
            options.send_timeout = Some(PATIENCE);
            options.receive_timeout = Some(PATIENCE);
            options.linger = Some(Duration::from_secs(5));
            options.reconnect_interval = Some(Duration::from_millis(20));
        })
        .unwrap();
    socket
}

/// Events until one that `is_last` accepts, which is the last of them.
pub fn events_until(monitor: &Monitor, is_last: impl Fn(&EventKind) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let Some(event) = monitor.next_timeout(PATIENCE) else { panic!("only these events came: {seen:#?}") };
        let last = is_last(&event.kind);
        seen.push(event);
        if last {
            return seen;
        }
    }
}

/// Events that are there now.
pub fn events_now(monitor: &Monitor) -> Vec<EventKind> {
    std::iter::from_fn(|| monitor.try_next()).map(|event| event.kind).collect()
}

/// Computes for so long without a call to the library.
pub fn compute(duration: Duration) -> u64 {
    let start = Instant::now();
    let mut state = 1u64;
    while start.elapsed() < duration {
        for _ in 0..1000 {
            state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    state
}

/// Resident memory of this process, in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Held by tests that measure the process, so that they run alone.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
