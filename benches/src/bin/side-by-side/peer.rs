//! What a peer must offer to be measured; it lists none and holds no measurement.
//!
//! A blocking peer implements [`Peer`] and gets every role from `roles`. A peer that must stay inside its own async
//! runtime writes its roles itself (REQ/REP by `roles_async`).

use crate::Result;
use crate::control::{Control, Role, Task};
use std::time::Duration;

/// The high-water mark of all peers, in messages, for sending and for receiving.
pub(crate) const HIGH_WATER_MARK: i32 = 1000;
/// What may be queued at either end, in bytes, where that is less: a slow wire must still drain it in a round.
const QUEUED: usize = 64 << 20;

/// The high-water mark for messages of so many bytes.
pub(crate) fn high_water_mark(bytes: usize) -> i32 {
    HIGH_WATER_MARK.min((QUEUED / bytes.max(1)) as i32)
}

/// How many connections may wait to be accepted: thousands come at once in the measure `idle`.
pub(crate) const BACKLOG: i32 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Req,
    Rep,
    Push,
    Pull,
    Pub,
    Sub,
}

/// One socket of a blocking peer. Static dispatch: a virtual call would show at 30 million messages per second.
pub(crate) trait Peer: Sized + Send + 'static {
    /// What the sockets of one process share.
    type Context: Sync;

    fn context() -> Result<Self::Context>;
    fn socket(context: &Self::Context, kind: Kind, task: &Task) -> Result<Self>;
    /// Binds to a URL with a wildcard port and says the real one.
    fn bind(&mut self, url: &str) -> Result<String>;
    fn connect(&mut self, url: &str) -> Result<()>;
    fn subscribe_all(&mut self) -> Result<()>;
    /// For peers that do not accept by themselves: waits for so many connections on a bound socket.
    fn await_links(&mut self, _links: usize) -> Result<()> {
        Ok(())
    }
    /// Sends a copy of `body`; blocks at the high-water mark.
    fn send(&mut self, body: &[u8]) -> Result<()>;
    /// Sends `body` by reference where the peer can.
    fn send_static(&mut self, body: &'static [u8]) -> Result<()> {
        self.send(body)
    }
    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R>;
    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>;
    /// Sleeps until one of the sockets may have a message, or `limit` has passed; `ready` says which may, in their order.
    fn wait_any(sockets: &mut [Self], limit: Duration, ready: &mut [bool]) -> Result<()>;
}

/// A peer as the measures see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Of the URL that it binds.
    pub(crate) scheme: &'static str,
    pub(crate) run: fn(&Task, &mut Control) -> Result<()>,
    /// The roles that it lacks, as the bound end has them.
    pub(crate) lacks: &'static [Role],
}

/// The baseline that every ratio to libzmq is against.
pub(crate) const LIBZMQ: &str = "libzmq";
pub(crate) const RAW_BLOCKING: &str = "raw-blocking";
pub(crate) const RAW_POLLED: &str = "raw-polled";
pub(crate) const OMQ_EXCLUSIVE: &str = "omq-exclusive";
pub(crate) const FABRIQ: &str = "fabriq";
pub(crate) const FABRIQ_ASYNC: &str = "fabriq-async";
/// By poll(2), where many are waited for; `raw-blocking` has epoll(7) for it.
pub(crate) const RAW_POLL2: &str = "raw-poll2";
/// By `Poller`, where many are waited for; `fabriq` has `poll` for it.
pub(crate) const FABRIQ_POLLER: &str = "fabriq-poller";
