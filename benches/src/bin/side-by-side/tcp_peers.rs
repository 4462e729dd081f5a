//! The peers of side-by-side; it holds no measurement.

use crate::control::Role;
use crate::peer::{Entry, FABRIQ, FABRIQ_ASYNC, LIBZMQ, RAW_BLOCKING, RAW_POLLED};
use crate::{fabriq_peer, libzmq_peer, raw_peer, roles};

const ALL_BUT_REPLIER: &[Role] =
    &[Role::Puller, Role::CrowdPuller, Role::FanInPuller, Role::FanOutPusher, Role::Publisher, Role::Inproc];

/// All peers that this build and this machine have, and why others are missing.
pub(crate) fn entries() -> (Vec<Entry>, Vec<String>) {
    let mut entries = vec![
        Entry { name: RAW_BLOCKING, scheme: "tcp", run: raw_peer::run::<false>, lacks: &[] },
        Entry {
            name: RAW_POLLED,
            scheme: "tcp",
            run: raw_peer::run::<true>,
            lacks: &[Role::Inproc, Role::CrowdPuller, Role::FanInPuller, Role::FanOutPusher, Role::Publisher],
        },
    ];
    let mut missing = Vec::new();
    match libzmq_peer::version() {
        Ok(_) => entries.push(Entry {
            name: LIBZMQ,
            scheme: "tcp",
            run: roles::run::<libzmq_peer::Libzmq>,
            lacks: &[],
        }),
        Err(error) => missing.push(format!("libzmq: {error} (apt-get install libzmq5)")),
    }
    #[cfg(feature = "peers")]
    {
        use crate::{monocoque_peer, omq_peer};
        entries.push(Entry {
            name: "monocoque",
            scheme: "tcp",
            run: monocoque_peer::run,
            lacks: &[Role::Inproc],
        });
        entries.push(Entry { name: "omq", scheme: "tcp", run: roles::run::<omq_peer::Omq>, lacks: &[] });
        entries.push(Entry {
            name: crate::peer::OMQ_EXCLUSIVE,
            scheme: "tcp",
            run: omq_peer::run_exclusive,
            lacks: ALL_BUT_REPLIER,
        });
    }
    #[cfg(not(feature = "peers"))]
    missing.push("monocoque and omq: built without --features peers".to_owned());
    entries.push(Entry { name: FABRIQ, scheme: "tcp", run: fabriq_peer::run, lacks: &[] });
    entries.push(Entry {
        name: FABRIQ_ASYNC,
        scheme: "tcp",
        run: fabriq_peer::run_async,
        lacks: ALL_BUT_REPLIER,
    });
    (entries, missing)
}
