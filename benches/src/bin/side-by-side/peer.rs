//! What a peer must offer to be measured, and the list of peers; it holds no measurement.
//!
//! A blocking peer implements [`Peer`] and gets every role from `roles`. A peer that must stay inside its own async
//! runtime writes its roles itself (REQ/REP by `roles_async`).

use crate::control::{Control, Role, Task};
use crate::{Result, fabriq_peer, libzmq_peer, raw_peer, roles};
use std::time::Duration;

/// The high-water mark of all peers, in messages, for sending and for receiving.
pub(crate) const HIGH_WATER_MARK: i32 = 1000;
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
    pub(crate) run: fn(&Task, &mut Control) -> Result<()>,
    /// The roles that it lacks, as the bound end has them.
    pub(crate) lacks: &'static [Role],
}

/// The baseline that every ratio to libzmq is against.
pub(crate) const LIBZMQ: &str = "libzmq";
pub(crate) const RAW_BLOCKING: &str = "raw-blocking";
pub(crate) const RAW_POLLED: &str = "raw-polled";
pub(crate) const FABRIQ: &str = "fabriq";
pub(crate) const FABRIQ_ASYNC: &str = "fabriq-async";

const ALL_BUT_REPLIER: &[Role] = &[Role::Puller, Role::CrowdPuller, Role::Publisher, Role::Inproc];

/// All peers that this build and this machine have, and why others are missing.
pub(crate) fn entries() -> (Vec<Entry>, Vec<String>) {
    let mut entries = vec![
        Entry { name: RAW_BLOCKING, run: roles::run::<raw_peer::Raw<false>>, lacks: &[] },
        Entry {
            name: RAW_POLLED,
            run: roles::run::<raw_peer::Raw<true>>,
            lacks: &[Role::Inproc, Role::CrowdPuller, Role::Publisher],
        },
    ];
    let mut missing = Vec::new();
    match libzmq_peer::version() {
        Ok(_) => entries.push(Entry { name: LIBZMQ, run: roles::run::<libzmq_peer::Libzmq>, lacks: &[] }),
        Err(error) => missing.push(format!("libzmq: {error} (apt-get install libzmq5)")),
    }
    #[cfg(feature = "peers")]
    {
        use crate::{monocoque_peer, omq_peer};
        entries.push(Entry { name: "monocoque", run: monocoque_peer::run, lacks: &[Role::Inproc] });
        entries.push(Entry { name: "omq", run: roles::run::<omq_peer::Omq>, lacks: &[] });
        entries.push(Entry { name: "omq-exclusive", run: omq_peer::run_exclusive, lacks: ALL_BUT_REPLIER });
    }
    #[cfg(not(feature = "peers"))]
    missing.push("monocoque and omq: built without --features peers".to_owned());
    entries.push(Entry { name: FABRIQ, run: fabriq_peer::run, lacks: &[] });
    entries.push(Entry { name: FABRIQ_ASYNC, run: fabriq_peer::run_async, lacks: ALL_BUT_REPLIER });
    (entries, missing)
}
