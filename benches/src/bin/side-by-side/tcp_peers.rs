//! The peers of side-by-side; it holds no measurement.

use crate::control::{Control, Role, Task};
use crate::fabriq_peer::{self, Fabriq};
use crate::libzmq_peer::{self, Libzmq};
use crate::peer::{Entry, FABRIQ, FABRIQ_ASYNC, FABRIQ_POLLER, LIBZMQ, RAW_BLOCKING, RAW_POLL2, RAW_POLLED};
use crate::raw_peer::{self, Plain};
use crate::waits::{ByPoller, PollFds, Polled, ZmqPoll};
use crate::{Result, polls};

/// Of a peer for REQ/REP alone.
const ALL_BUT_REPLIER: &[Role] = &[
    Role::Puller,
    Role::CrowdPuller,
    Role::FanInPuller,
    Role::FanOutPusher,
    Role::Publisher,
    Role::Inproc,
    Role::Waiter,
];
/// Of a second way of waiting, whose peer has every other role under another name.
const ALL_BUT_WAITER: &[Role] = &[
    Role::Replier,
    Role::Puller,
    Role::CrowdPuller,
    Role::FanInPuller,
    Role::FanOutPusher,
    Role::Publisher,
    Role::Inproc,
];
/// Of links that poll, each by itself.
const MANY_LINKS: &[Role] =
    &[Role::Inproc, Role::CrowdPuller, Role::FanInPuller, Role::FanOutPusher, Role::Publisher, Role::Waiter];

fn entry(name: &'static str, run: fn(&Task, &mut Control) -> Result<()>, lacks: &'static [Role]) -> Entry {
    Entry { name, scheme: "tcp", run, lacks }
}

/// All peers that this build and this machine have, and why others are missing.
pub(crate) fn entries() -> (Vec<Entry>, Vec<String>) {
    let mut entries = vec![
        entry(RAW_BLOCKING, raw_peer::run::<false>, &[]),
        entry(RAW_POLLED, raw_peer::run::<true>, MANY_LINKS),
        entry(RAW_POLL2, polls::run::<Plain, PollFds>, ALL_BUT_WAITER),
    ];
    let mut missing = Vec::new();
    match libzmq_peer::version() {
        Ok(_) => entries.push(entry(LIBZMQ, polls::run::<Libzmq, ZmqPoll>, &[])),
        Err(error) => missing.push(format!("libzmq: {error} (apt-get install libzmq5)")),
    }
    #[cfg(feature = "peers")]
    {
        use crate::{monocoque_peer, omq_peer, roles};
        // Neither has a call that waits for one of many sockets.
        entries.push(entry("monocoque", monocoque_peer::run, &[Role::Inproc, Role::Waiter]));
        entries.push(entry("omq", roles::run::<omq_peer::Omq>, &[Role::Waiter]));
        entries.push(entry(crate::peer::OMQ_EXCLUSIVE, omq_peer::run_exclusive, ALL_BUT_REPLIER));
    }
    #[cfg(not(feature = "peers"))]
    missing.push("monocoque and omq: built without --features peers".to_owned());
    entries.push(entry(FABRIQ, polls::run::<Fabriq, Polled>, &[]));
    entries.push(entry(FABRIQ_POLLER, polls::run::<Fabriq, ByPoller>, ALL_BUT_WAITER));
    entries.push(entry(FABRIQ_ASYNC, fabriq_peer::run_async, ALL_BUT_REPLIER));
    (entries, missing)
}
