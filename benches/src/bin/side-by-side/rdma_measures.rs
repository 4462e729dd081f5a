//! The measures of rdma-side-by-side, on one RDMA device, and its peers; it runs nothing.

use crate::control::Role;
use crate::fabriq_loans::FabriqLoans;
use crate::measures::{Column, Line, Measure, Round, TRIP, column};
use crate::peer::{Entry, FABRIQ, LIBZMQ, RAW_BLOCKING, RAW_POLLED};
use crate::{Arguments, Choice, libzmq_peer, perftest_peer, roles, verbs_peer};

/// fabriq that never spins, to be compared with raw verbs that sleep.
const FABRIQ_SLEEPING: &str = "fabriq-no-spin";
/// fabriq that always polls, for as long as a trip may take in an emulated machine.
const FABRIQ_POLLING: &str = "fabriq-polling";
/// The default of a context, in microseconds, and what the other two have instead.
const SPIN_US: u64 = 50;
const NEVER: u64 = 0;
const ALWAYS_US: u64 = 100_000;
const FABRIQ_TCP: &str = "fabriq-tcp";
const PERFTEST: &str = "perftest";
const PERFTEST_EVENTS: &str = "perftest-events";

const RATE: &[Column] = &[
    column("m_per_s", "M msg/s", 4),
    column("packets", "packets/msg", 3),
    column("cpu_us", "CPU us/msg", 1),
    column("rnr", "receiver not ready", 0),
];
const LARGE: &[Column] = &[
    column("gb_per_s", "GB/s", 4),
    column("packets", "packets/msg", 1),
    column("cpu_us", "CPU us/msg", 0),
    column("rnr", "receiver not ready", 0),
];

const fn line(
    title: &'static str,
    peer: &'static str,
    key: &'static str,
    beside: &'static [&'static str],
) -> Line {
    Line { title: Some(title), peer, key, beside }
}

const LATENCY_LINES: &[Line] = &[
    line("REQ/REP 64 B, polling", FABRIQ_POLLING, "p50_us", &[RAW_POLLED, PERFTEST, FABRIQ_TCP, LIBZMQ]),
    line("REQ/REP 64 B, asleep", FABRIQ_SLEEPING, "p50_us", &[RAW_BLOCKING, PERFTEST_EVENTS, LIBZMQ]),
];
const STREAM_LINES: &[Line] =
    &[line("PUSH/PULL 64 B", FABRIQ, "m_per_s", &[RAW_POLLED, RAW_BLOCKING, PERFTEST, FABRIQ_TCP, LIBZMQ])];
const READ_LINES: &[&[Line]] = &[
    &[line(
        "64 KiB from loans",
        FABRIQ,
        "gb_per_s",
        &[RAW_POLLED, RAW_BLOCKING, PERFTEST, FABRIQ_TCP, LIBZMQ],
    )],
    &[line(
        "1 MiB from loans",
        FABRIQ,
        "gb_per_s",
        &[RAW_POLLED, RAW_BLOCKING, PERFTEST, FABRIQ_TCP, LIBZMQ],
    )],
];

/// All peers that this machine has, and why others are missing.
pub(crate) fn entries() -> (Vec<Entry>, Vec<String>) {
    const LACKS_NONE: &[Role] = &[];
    let verbs = |name, run| Entry { name, scheme: "verbs", run, lacks: LACKS_NONE };
    let tcp = |name, run| Entry { name, scheme: "tcp", run, lacks: LACKS_NONE };
    let mut entries = vec![
        verbs(RAW_POLLED, verbs_peer::run::<true>),
        verbs(RAW_BLOCKING, verbs_peer::run::<false>),
        verbs(FABRIQ, roles::run::<FabriqLoans<SPIN_US>>),
        verbs(FABRIQ_POLLING, roles::run::<FabriqLoans<ALWAYS_US>>),
        verbs(FABRIQ_SLEEPING, roles::run::<FabriqLoans<NEVER>>),
        tcp(FABRIQ_TCP, roles::run::<FabriqLoans<SPIN_US>>),
    ];
    let mut missing = Vec::new();
    match libzmq_peer::version() {
        Ok(_) => entries.push(tcp(LIBZMQ, roles::run::<libzmq_peer::Libzmq>)),
        Err(error) => missing.push(format!("libzmq: {error} (apt-get install libzmq5)")),
    }
    match perftest_peer::missing() {
        None => {
            entries.push(verbs(PERFTEST, perftest_peer::run::<false>));
            entries.push(verbs(PERFTEST_EVENTS, perftest_peer::run::<true>));
        }
        Some(why) => missing.push(why),
    }
    (entries, missing)
}

/// The measures that were asked for.
pub(crate) fn measures(arguments: &Arguments) -> Vec<Measure> {
    let chosen = |choice| arguments.measures.contains(&choice) || arguments.measures.contains(&Choice::All);
    let measure = |name, title: &str, columns, lines, key, role, round| Measure {
        name,
        title: title.to_owned(),
        columns,
        lines,
        limit: Some((RAW_POLLED, key)),
        scheme: None,
        query: "",
        without: &[],
        role,
        rounds: arguments.rounds,
        round,
    };
    let trips = Round::Trips { gap_max_us: 0, busy: 0 };
    let read = |name, title, lines, bytes| {
        measure(name, title, LARGE, lines, "gb_per_s", Role::Puller, Round::Stream { bytes })
    };
    let all = [
        (
            Choice::Latency,
            measure("latency", "REQ/REP 64 B", TRIP, LATENCY_LINES, "p50_us", Role::Replier, trips),
        ),
        (
            Choice::Stream,
            measure(
                "stream",
                "PUSH/PULL 64 B (raw: inline sends)",
                RATE,
                STREAM_LINES,
                "m_per_s",
                Role::Puller,
                Round::Stream { bytes: 64 },
            ),
        ),
        (Choice::Read64k, read("read-64k", "PUSH/PULL 64 KiB (raw: RDMA READ)", READ_LINES[0], 64 << 10)),
        (Choice::Read1m, read("read-1m", "PUSH/PULL 1 MiB (raw: RDMA READ)", READ_LINES[1], 1 << 20)),
    ];
    all.into_iter().filter(|(choice, _)| chosen(*choice)).map(|(_, measure)| measure).collect()
}
