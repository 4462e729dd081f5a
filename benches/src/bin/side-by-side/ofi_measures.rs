//! The measures of ofi-side-by-side, on each provider, and its peers; it runs nothing.

use crate::control::Role;
use crate::fabriq_loans::FabriqLoans;
use crate::measures::{Column, Line, Measure, Round, column};
use crate::peer::{Entry, FABRIQ, LIBZMQ, RAW_BLOCKING, RAW_POLLED};
use crate::{Arguments, Choice, libzmq_peer, ofi_peer, ofi_tool_peer, roles};
use baselines::{fi_pingpong, ucx_perftest};

/// fabriq that always polls, as the raw limit and the tools do.
const FABRIQ_POLLING: &str = "fabriq-polling";
/// The default of a context, in microseconds, and what the other has instead.
const SPIN_US: u64 = 50;
const ALWAYS_US: u64 = 100_000;
const FABRIQ_TCP: &str = "fabriq-tcp";
const FABRIQ_IPC: &str = "fabriq-ipc";
/// The raw limit by sends where the other is by READs.
const RAW_SENDS: &str = "raw-sends";
const PINGPONG: &str = "fi_pingpong (mean)";
const UCX: &str = "ucx_perftest";

const TRIP: &[Column] = &[
    column("p50_us", "p50 us", 2),
    column("p99_us", "p99 us", 1),
    column("cpu_us", "CPU us/trip", 1),
    column("switches", "switches/trip", 3),
];
const LARGE: &[Column] = &[column("gb_per_s", "GB/s", 3), column("cpu_us", "CPU us/msg", 0)];

/// What judges: fabriq that polls beside a limit that does, and fabriq as it is beside what it would be without libfabric.
const LATENCY: &[Line] = &[
    Line { title: None, peer: FABRIQ_POLLING, key: "p50_us", beside: &[RAW_POLLED, UCX, PINGPONG] },
    Line { title: None, peer: FABRIQ, key: "p50_us", beside: &[RAW_POLLED, FABRIQ_TCP, FABRIQ_IPC, LIBZMQ] },
];
const STREAM: &[Line] = &[Line {
    title: None,
    peer: FABRIQ,
    key: "gb_per_s",
    beside: &[RAW_POLLED, RAW_SENDS, RAW_BLOCKING, UCX, FABRIQ_TCP, FABRIQ_IPC, LIBZMQ],
}];

/// One provider: what its URLs have behind `?`, the names of its measures, and who cannot be measured beside it.
struct Provider {
    name: &'static str,
    query: &'static str,
    measures: [&'static str; 4],
    without: &'static [&'static str],
}

const PROVIDERS: [Provider; 4] = [
    Provider {
        name: "tcp",
        query: "provider=tcp",
        measures: ["ofi-latency-tcp", "ofi-8k-tcp", "ofi-64k-tcp", "ofi-1m-tcp"],
        without: &[FABRIQ_IPC],
    },
    Provider {
        name: "tcp;ofi_rxm",
        query: "provider=tcp;ofi_rxm",
        measures: ["ofi-latency-rxm", "ofi-8k-rxm", "ofi-64k-rxm", "ofi-1m-rxm"],
        without: &[FABRIQ_IPC],
    },
    Provider {
        name: "net",
        query: "provider=net",
        measures: ["ofi-latency-net", "ofi-8k-net", "ofi-64k-net", "ofi-1m-net"],
        without: &[FABRIQ_IPC],
    },
    Provider {
        name: "shm",
        query: "provider=shm",
        measures: ["ofi-latency-shm", "ofi-8k-shm", "ofi-64k-shm", "ofi-1m-shm"],
        // It has no descriptor to sleep on; and it is no network.
        without: &[RAW_BLOCKING, FABRIQ_TCP, LIBZMQ],
    },
];

/// The names of the providers that can be measured.
pub(crate) fn providers() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|provider| provider.name)
}

/// All peers that this machine has, and why others are missing.
pub(crate) fn entries() -> (Vec<Entry>, Vec<String>) {
    const LACKS_NONE: &[Role] = &[];
    const TRIPS_ONLY: &[Role] = &[Role::Puller];
    const STREAMS_ONLY: &[Role] = &[Role::Replier];
    let ofi = |name, run, lacks| Entry { name, scheme: "ofi", run, lacks };
    let other = |name, scheme, run| Entry { name, scheme, run, lacks: LACKS_NONE };
    let mut entries = vec![
        ofi(RAW_POLLED, ofi_peer::run::<true>, LACKS_NONE),
        ofi(RAW_BLOCKING, ofi_peer::run::<false>, LACKS_NONE),
        ofi(RAW_SENDS, ofi_peer::run_sends, STREAMS_ONLY),
        ofi(FABRIQ, roles::run::<FabriqLoans<SPIN_US>>, LACKS_NONE),
        ofi(FABRIQ_POLLING, roles::run::<FabriqLoans<ALWAYS_US>>, LACKS_NONE),
        other(FABRIQ_TCP, "tcp", roles::run::<FabriqLoans<SPIN_US>>),
        other(FABRIQ_IPC, "ipc", roles::run::<FabriqLoans<SPIN_US>>),
    ];
    let mut missing = Vec::new();
    match libzmq_peer::version() {
        Ok(_) => entries.push(other(LIBZMQ, "tcp", roles::run::<libzmq_peer::Libzmq>)),
        Err(error) => missing.push(format!("libzmq: {error} (apt-get install libzmq5)")),
    }
    match fi_pingpong::missing() {
        None => entries.push(ofi(PINGPONG, ofi_tool_peer::pingpong, TRIPS_ONLY)),
        Some(why) => missing.push(why),
    }
    match ucx_perftest::missing() {
        None => entries.push(ofi(UCX, ofi_tool_peer::ucx, LACKS_NONE)),
        Some(why) => missing.push(why),
    }
    (entries, missing)
}

/// The measures that were asked for.
pub(crate) fn measures(arguments: &Arguments) -> Vec<Measure> {
    let chosen = |choice| arguments.measures.contains(&choice) || arguments.measures.contains(&Choice::All);
    let mut measures = Vec::new();
    for provider in &PROVIDERS {
        if !arguments.providers.is_empty() && !arguments.providers.iter().any(|name| name == provider.name) {
            continue;
        }
        let mut add = |choice, name, what: &str, columns, lines, key, role, round| {
            if chosen(choice) {
                measures.push(Measure {
                    name,
                    title: format!("{what} ofi, provider {}", provider.name),
                    columns,
                    lines,
                    limit: Some((RAW_POLLED, key)),
                    scheme: None,
                    query: provider.query,
                    without: provider.without,
                    role,
                    rounds: arguments.rounds,
                    round,
                });
            }
        };
        let [latency, send_8k, read_64k, read_1m] = provider.measures;
        let trips = Round::Trips { gap_max_us: 0, busy: 0 };
        add(Choice::Latency, latency, "REQ/REP 64 B", TRIP, LATENCY, "p50_us", Role::Replier, trips);
        let stream = |bytes| Round::Stream { bytes };
        let what = "PUSH/PULL 8 KiB (raw: fi_send)";
        add(Choice::Send8k, send_8k, what, LARGE, STREAM, "gb_per_s", Role::Puller, stream(8 << 10));
        let what = "PUSH/PULL 64 KiB from loans (raw: fi_read)";
        add(Choice::Read64k, read_64k, what, LARGE, STREAM, "gb_per_s", Role::Puller, stream(64 << 10));
        let what = "PUSH/PULL 1 MiB from loans (raw: fi_read)";
        add(Choice::Read1m, read_1m, what, LARGE, STREAM, "gb_per_s", Role::Puller, stream(1 << 20));
    }
    measures
}
