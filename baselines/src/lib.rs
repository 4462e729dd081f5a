//! Baselines: what a wire itself can do, to be measured beside fabriq. Loops of the least code on a device or a socket,
//! with no queue, pattern or protocol above it. Knows no fabriq socket, measures no time and prints nothing: the caller
//! has the clock, makes the messages and checks what arrives.
//!
//! ```text
//! verbs         RC queue pairs: a ping-pong of sends, a stream of sends, a stream of RDMA READs
//! ofi           libfabric's endpoints, of any provider: the same
//! stream        sockets of any family: a ping-pong, and a stream
//! tcp           TCP sockets
//! unix          Unix-domain sockets
//! perftest      the field's own tools (ib_send_lat, ib_send_bw, ib_read_bw), run as processes, as are
//! fi_pingpong   libfabric's, and
//! ucx_perftest  another library's for the same fabrics
//! ```
//!
//! [`Link`] is what the wires of ours have in common, so that a benchmark is written once: one process has
//! [`Link::echo`] or [`Link::source`], the other [`Link::ping`] or [`Link::sink`]. The listening end echoes or is the
//! sink, the dialling one pings or is the source.

#![forbid(unsafe_code)]

pub mod fi_pingpong;
mod limits;
pub mod ofi;
pub mod perftest;
mod processes;
mod shape;
pub mod stream;
pub mod tcp;
pub mod ucx_perftest;
pub mod unix;
pub mod verbs;

use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport_core::Frame;
use transport_verbs::fabric;

pub use limits::{CHAIN, MARGIN, MESSAGE_MAX, READ_FROM, READS, SILENCE, WRITE};

/// How an end waits for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It looks again and again, and takes a processor; no longer than [`SILENCE`] at a time.
    Polled,
    /// It sleeps, for as long as it takes.
    Asleep,
}

/// What goes over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// A message there and back, one at a time.
    PingPong,
    /// Messages one way, as fast as they go.
    Stream,
}

/// What a link is for. Both ends must be told the same, but for `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What goes over it.
    pub traffic: Traffic,
    /// Bytes of every message; 1 at least.
    pub bytes: usize,
    /// How this end waits.
    pub wait: Wait,
}

/// One connection of a wire, for one run. A link is one thread's.
pub trait Link: Debug + Sized {
    /// Where links are accepted.
    type Listener: Debug;
    /// What stands behind `://` for it.
    type Address: Display + FromStr + Clone + Debug;

    /// What a run does on this wire, in a few words for a report; not how it waits.
    fn what(run: &Run) -> &'static str;

    /// Listens at an address; a wildcard (port 0, or `*`) chooses one. Says the real address.
    fn listen(at: &Self::Address) -> Result<(Self::Listener, Self::Address)>;

    /// The next link; waits for [`SILENCE`] at most.
    fn accept(listener: &Self::Listener, run: &Run) -> Result<Self>;

    /// A link to who listens there.
    fn connect(to: &Self::Address, run: &Run) -> Result<Self>;

    /// Ping-pong: sends `frame` from where it is, waits for what comes back and hands it to `read`.
    fn ping<R>(&mut self, frame: &Frame, read: impl FnOnce(&[u8]) -> R) -> Result<R>;

    /// Ends a ping-pong: the other end's `echo` returns.
    fn close(self) -> Result<()>;

    /// Ping-pong's other end: sends everything back, until the peer closes.
    fn echo(self) -> Result<()>;

    /// Stream: sends `frames` in turn, over and over, for `time`. Where the sink fetches them itself, waits until that
    /// has enough.
    fn source(self, frames: &[Frame], time: Duration) -> Result<()>;

    /// Stream's other end: hands messages to `each`, in order, until that breaks or the source has ended. What comes
    /// after a break is received and dropped.
    fn sink(self, each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<()>;
}

/// Why a baseline cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call of librdmacm or libibverbs failed.
    #[error(transparent)]
    Call(#[from] fabric::Failure),
    /// A work request failed.
    #[error("a work request failed: {0}")]
    Work(#[from] fabric::Status),
    /// A work request was not posted.
    #[error("a work request was not posted: {0}")]
    NotPosted(#[from] fabric::PostError),
    /// The libraries are not there.
    #[error("{0}; `fabriq info` says what this host lacks")]
    Libraries(String),
    /// A call of libfabric's failed, or a request to it.
    #[error(transparent)]
    Ofi(#[from] transport_ofi::device::Failure),
    /// A request to libfabric was not posted.
    #[error("a request was not posted: {0}")]
    OfiNotPosted(#[from] transport_ofi::device::PostError),
    /// The provider gives no descriptor to sleep on.
    #[error("the provider {0} can only be polled: it has no descriptor to sleep on")]
    NoDescriptor(String),
    /// No connection.
    #[error("no connection to {to}: {why}")]
    NotConnected {
        /// The address dialled, or listened at.
        to: String,
        /// What is known of the reason.
        why: String,
    },
    /// The other end says nothing.
    #[error("the other end was silent for {} s; does its process run?", SILENCE.as_secs())]
    Silent,
    /// The other end closed in the middle of a run.
    #[error("the other end closed the link in the middle of a run; its process has said why on stderr")]
    Closed,
    /// See [`heed`].
    #[error("given up before its end")]
    GivenUp,
    /// Longer than the baseline's memory, or the device or provider, has it.
    #[error("messages of {bytes} bytes are too long for the raw wire here, which goes to {most}")]
    TooLong {
        /// Of a message.
        bytes: usize,
        /// That can be.
        most: usize,
    },
    /// No memory, or none that the device may reach.
    #[error("no registered memory for {0} bytes; raise the limit of locked memory (ulimit -l)")]
    Memory(usize),
    /// A socket's call failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// One of the tools that are run as processes failed.
    #[error("{tool}: {why}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// What it says, or what is known.
        why: String,
    },
}

/// What every call here returns.
pub type Result<T> = std::result::Result<T, Error>;

thread_local! {
    static HEEDED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// From now on what this thread does here fails with [`Error::GivenUp`] soon after `flag` is set: a source, and whoever waits
/// for the other end. One end that gives up ends the other. Of the thread and not of a [`Run`], since a link is one
/// thread's, and waits too often to be handed more.
pub fn heed(flag: &Arc<AtomicBool>) {
    HEEDED.with(|heeded| *heeded.borrow_mut() = Some(Arc::clone(flag)));
}

/// Fails once that has been given up which this thread is about.
fn go_on() -> Result<()> {
    let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
    if HEEDED.with(|heeded| heeded.borrow().as_ref().is_some_and(is_set)) {
        Err(Error::GivenUp)
    } else {
        Ok(())
    }
}

/// Waits until a descriptor is readable, for [`SILENCE`] at most.
fn wait_readable(fd: BorrowedFd<'_>) -> Result<()> {
    let begun = Instant::now();
    loop {
        go_on()?;
        let rest = SILENCE.saturating_sub(begun.elapsed()).min(limits::HEEDED_EVERY);
        let limit = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)) {
            Ok(0) if begun.elapsed() < SILENCE => {}
            Ok(0) => return Err(Error::Silent),
            Ok(_) => return Ok(()),
            // A stop and continue interrupts: the caller looks, and waits again.
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
    }
}

/// The patience of an end that polls: what it does between looks that find nothing.
#[derive(Debug, Default)]
struct Patience {
    looks: u32,
    yields: u32,
    since: Option<Instant>,
}

impl Patience {
    /// To be called for each look that found nothing.
    #[inline]
    fn look(&mut self) -> Result<()> {
        std::hint::spin_loop();
        self.looks += 1;
        if self.looks < limits::LOOKS_PER_YIELD { Ok(()) } else { self.offer() }
    }

    #[cold]
    fn offer(&mut self) -> Result<()> {
        self.looks = 0;
        std::thread::yield_now();
        self.yields += 1;
        if self.yields < limits::YIELDS_PER_CLOCK {
            return Ok(());
        }
        self.yields = 0;
        go_on()?;
        let now = Instant::now();
        if now - *self.since.get_or_insert(now) < SILENCE { Ok(()) } else { Err(Error::Silent) }
    }
}
