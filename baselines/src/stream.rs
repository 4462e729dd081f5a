//! Plain stream sockets of any family, blocking or polled without sleeping: messages of one length, without framing.
//!
//! A stream gathers small messages into large writes, and its sink reads as many as there are, so that it shows what the
//! system carries. All else is one write and one read for each message.

use std::fmt::{Debug, Display};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;
use std::time::{Duration, Instant};

use transport_core::Frame;

use crate::limits::{READ, WRITE};
use crate::{Error, Patience, Result, Run, Traffic, Wait, wait_readable};

/// A family of stream sockets.
pub trait Socket: Read + Write + AsFd + Debug + Sized {
    /// Where one listens.
    type Address: Display + FromStr + Clone + Debug;
    /// Listens.
    type Listener: AsFd + Debug;

    /// The scheme of its URLs, for errors.
    const SCHEME: &str;

    /// Listens without blocking, and says where.
    fn listen(at: &Self::Address) -> io::Result<(Self::Listener, Self::Address)>;
    /// The next connection, without blocking.
    fn accept(listener: &Self::Listener) -> io::Result<Self>;
    /// Connects.
    fn connect(to: &Self::Address) -> io::Result<Self>;
    /// Makes ready for messages.
    fn prepare(&self, polled: bool) -> io::Result<()>;
    /// Says that nothing more is written.
    fn end(&self) -> io::Result<()>;
}

/// A connected socket.
#[derive(Debug)]
pub struct Link<S> {
    stream: S,
    /// Bytes of a message.
    bytes: usize,
    /// Gathered to be written.
    outbox: Vec<u8>,
    gathers: bool,
    /// What has come and was not taken yet: `inbox[start..end]`. As long as one message, or [`READ`]; empty until the
    /// first read, so that idle links cost nothing.
    inbox: Vec<u8>,
    start: usize,
    end: usize,
}

/// What one look at a link found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Message,
    Nothing,
    End,
}

impl<S: Socket> Link<S> {
    /// A link on a connected socket.
    pub fn new(stream: S, run: &Run) -> Result<Self> {
        stream.prepare(run.wait == Wait::Polled)?;
        Ok(Self {
            stream,
            bytes: run.bytes,
            outbox: Vec::new(),
            gathers: run.traffic == Traffic::Stream && run.bytes < WRITE,
            inbox: Vec::new(),
            start: 0,
            end: 0,
        })
    }

    /// The socket, to be waited for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads on, until a message is whole or nothing more is there now.
    fn look(&mut self) -> Result<Look> {
        if self.inbox.is_empty() {
            self.inbox = vec![0; if self.gathers { READ } else { self.bytes }];
        }
        while self.end - self.start < self.bytes {
            self.inbox.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.stream.read(&mut self.inbox[self.end..]) {
                Ok(0) if self.end == 0 => return Ok(Look::End),
                Ok(0) => return Err(Error::Closed),
                Ok(bytes) => self.end += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Look::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Look::Message)
    }

    /// Whether the next message is here already, so that it takes no read.
    pub fn has_message(&self) -> bool {
        self.end - self.start >= self.bytes
    }

    /// The message that is whole.
    fn take(&mut self) -> &[u8] {
        let start = self.start;
        self.start += self.bytes;
        &self.inbox[start..self.start]
    }

    /// Waits for a message and hands its bytes to `read`. `None`: the peer has closed.
    pub fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let mut patience = Patience::default();
        loop {
            match self.look()? {
                Look::Message => return Ok(Some(read(self.take()))),
                Look::Nothing => patience.look()?,
                Look::End => return Ok(None),
            }
        }
    }

    /// Hands a message's bytes to `read`, if there is one now. Only for links that poll.
    pub fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        match self.look()? {
            Look::Message => Ok(Some(read(self.take()))),
            Look::Nothing => Ok(None),
            Look::End => Err(Error::Closed),
        }
    }

    /// Sends a message, in one write if the system takes it.
    pub fn send(&mut self, body: &[u8]) -> Result<()> {
        write(&mut self.stream, body)
    }

    /// Sends a message of a stream: a short one with others, or by [`Link::flush`].
    pub fn push(&mut self, body: &[u8]) -> Result<()> {
        if !self.gathers {
            return self.send(body);
        }
        self.outbox.extend_from_slice(body);
        if self.outbox.len() >= WRITE { self.flush() } else { Ok(()) }
    }

    /// Sends what is gathered.
    pub fn flush(&mut self) -> Result<()> {
        write(&mut self.stream, &self.outbox)?;
        self.outbox.clear();
        Ok(())
    }
}

fn write(stream: &mut impl Write, mut rest: &[u8]) -> Result<()> {
    let mut patience = Patience::default();
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(bytes) => (rest, patience) = (&rest[bytes..], Patience::default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => patience.look()?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl<S: Socket> crate::Link for Link<S> {
    type Listener = S::Listener;
    type Address = S::Address;

    fn what(run: &Run) -> &'static str {
        match run.traffic {
            Traffic::PingPong => "a write and a read each way",
            Traffic::Stream if run.bytes < WRITE => "writes of many messages each",
            Traffic::Stream => "a write for each message",
        }
    }

    fn listen(at: &S::Address) -> Result<(S::Listener, S::Address)> {
        Ok(S::listen(at)?)
    }

    fn accept(listener: &S::Listener, run: &Run) -> Result<Self> {
        let begun = Instant::now();
        loop {
            match S::accept(listener) {
                Ok(stream) => return Self::new(stream, run),
                Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < crate::SILENCE => {
                    wait_readable(listener.as_fd())?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Error::Silent),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn connect(to: &S::Address, run: &Run) -> Result<Self> {
        let why = |error: io::Error| Error::NotConnected {
            to: format!("{}://{to}", S::SCHEME),
            why: error.to_string(),
        };
        Self::new(S::connect(to).map_err(why)?, run)
    }

    fn ping<R>(&mut self, frame: &Frame, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.send(frame)?;
        self.recv(read)?.ok_or(Error::Closed)
    }

    fn close(self) -> Result<()> {
        Ok(self.stream.end()?)
    }

    fn echo(mut self) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            match self.look()? {
                Look::Message => {
                    write(&mut self.stream, &self.inbox[self.start..self.start + self.bytes])?;
                    self.start += self.bytes;
                    patience = Patience::default();
                }
                Look::Nothing => patience.look()?,
                Look::End => return Ok(()),
            }
        }
    }

    fn source(mut self, frames: &[Frame], time: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut frames = frames.iter().cycle();
        // Between two looks at the clock.
        let stride = (WRITE / self.bytes).max(1);
        while let Some(frame) = frames.next() {
            self.push(frame)?;
            for frame in frames.by_ref().take(stride - 1) {
                self.push(frame)?;
            }
            crate::go_on()?;
            if begun.elapsed() >= time {
                break;
            }
        }
        self.flush()?;
        self.close()
    }

    fn sink(mut self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        let mut enough = false;
        while self.recv(|body| enough = enough || each(body).is_break())?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::Link as _;

    const BYTES: usize = 5000;

    fn run(traffic: Traffic, wait: Wait) -> Run {
        Run { traffic, bytes: BYTES, wait }
    }

    /// A dialling link, with `there` at the listening end in a thread.
    fn beside<S: Socket<Listener: Send> + 'static>(
        any: &str,
        traffic: Traffic,
        there: impl FnOnce(Link<S>) + Send + 'static,
    ) -> (Link<S>, std::thread::JoinHandle<()>) {
        let any = any.parse().ok().expect("an address of the family");
        let (listener, at) = Link::<S>::listen(&any).unwrap();
        let there = std::thread::spawn(move || {
            there(Link::accept(&listener, &run(traffic, Wait::Asleep)).unwrap());
        });
        (Link::connect(&at, &run(traffic, Wait::Polled)).unwrap(), there)
    }

    /// Tests over every family.
    macro_rules! over_every_family {
        ($($test:ident),*) => {
            mod tcp {
                $(#[test]
                fn $test() {
                    super::$test::<std::net::TcpStream>("127.0.0.1:0");
                })*
            }
            mod unix {
                $(#[test]
                fn $test() {
                    super::$test::<std::os::unix::net::UnixStream>("*");
                })*
            }
        };
    }

    over_every_family!(
        what_is_pinged_comes_back_until_the_link_is_closed,
        a_stream_arrives_in_order_and_what_follows_a_break_is_dropped,
        a_message_that_breaks_off_is_no_end,
        either_end_gives_up_when_it_is_told_to
    );

    fn what_is_pinged_comes_back_until_the_link_is_closed<S: Socket<Listener: Send> + 'static>(any: &str) {
        let (mut link, there) = beside::<S>(any, Traffic::PingPong, |link| link.echo().unwrap());
        for byte in 0..100_u8 {
            let frame = Frame::from(vec![byte; BYTES]);
            assert!(link.ping(&frame, |back| *back == *frame).unwrap());
        }
        link.close().unwrap();
        there.join().unwrap();
    }

    fn a_stream_arrives_in_order_and_what_follows_a_break_is_dropped<S: Socket<Listener: Send> + 'static>(
        any: &str,
    ) {
        let (link, there) = beside::<S>(any, Traffic::Stream, |link| {
            let mut next = 0;
            link.sink(|body| {
                assert_eq!(body, [next % 3; BYTES], "message {next}");
                next += 1;
                if next < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
            assert!(next >= 1, "a source sends something, however short its time");
        });
        let frames: Vec<Frame> = (0..3_u8).map(|byte| vec![byte; BYTES].into()).collect();
        link.source(&frames, Duration::from_millis(20)).unwrap();
        there.join().unwrap();
    }

    fn a_message_that_breaks_off_is_no_end<S: Socket<Listener: Send> + 'static>(any: &str) {
        let (mut link, there) =
            beside::<S>(any, Traffic::PingPong, |link| assert!(matches!(link.echo(), Err(Error::Closed))));
        link.send(&[1; BYTES - 1]).unwrap();
        link.close().unwrap();
        there.join().unwrap();
    }

    fn either_end_gives_up_when_it_is_told_to<S: Socket<Listener: Send> + 'static>(any: &str) {
        let year = Duration::from_secs(32_000_000);
        let told = Arc::new(AtomicBool::new(false));
        // A source, while its messages are taken.
        let tell = Arc::clone(&told);
        let (link, there) = beside::<S>(any, Traffic::Stream, move |link| {
            // Its end is that of a process: with an end of stream, or in the middle of a message.
            let _ = link.sink(|_| {
                tell.store(true, Ordering::Relaxed);
                ControlFlow::Continue(())
            });
        });
        crate::heed(&told);
        assert!(matches!(link.source(&[vec![7; BYTES].into()], year), Err(Error::GivenUp)));
        there.join().unwrap();
        // Who waits for a message, and who for a link.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (link, there) = beside::<S>(any, Traffic::PingPong, move |_link| {
            let _ = held.recv();
        });
        assert!(matches!(link.echo(), Err(Error::GivenUp)));
        drop(release);
        there.join().unwrap();
        let (listener, _) = Link::<S>::listen(&any.parse().ok().expect("an address of the family")).unwrap();
        let accepted = Link::<S>::accept(&listener, &run(Traffic::Stream, Wait::Polled));
        assert!(matches!(accepted, Err(Error::GivenUp)));
    }
}
