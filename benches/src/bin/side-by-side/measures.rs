//! The measures: what a round of each is, its columns, what judges it and which lines of the summary come from it; it
//! runs nothing.

use crate::control::Role;
use crate::peer::{FABRIQ, FABRIQ_ASYNC, LIBZMQ, RAW_BLOCKING, RAW_POLLED};
use crate::{Arguments, Choice};
use std::time::Duration;

/// Sockets that subscribe in the measure `pub-sub`.
pub(crate) const SUBSCRIBERS: usize = 32;
/// Idle links whose CPU time is measured.
const FEW_LINKS: usize = 100;
/// How long idle links are watched.
pub(crate) const IDLE: Duration = Duration::from_secs(2);
/// Idle links and thousands of links take seconds to make: so many rounds of them at most.
const CROWD_ROUNDS: usize = 3;

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) digits: usize,
}

const fn column(key: &'static str, title: &'static str, digits: usize) -> Column {
    Column { key, title, digits }
}

const TRIP: &[Column] = &[
    column("p50_us", "p50 us", 2),
    column("p99_us", "p99 us", 1),
    column("cpu_us", "CPU us/trip", 1),
    column("switches", "switches/trip", 3),
    column("background_per_ms", "background switches/ms", 3),
];
const RATE: &[Column] =
    &[column("m_per_s", "M msg/s", 3), column("gb_per_s", "GB/s", 3), column("cpu_ns", "CPU ns/msg", 0)];
const LARGE: &[Column] = &[column("gb_per_s", "GB/s", 3), column("cpu_us", "CPU us/msg", 0)];
const FAN: &[Column] = &[column("k_per_s", "k msg/s at every SUB", 1), column("cpu_us", "CPU us/msg", 1)];
const IDLE_CPU: &[Column] = &[
    column("cpu_percent", "CPU % both", 3),
    column("bound_percent", "bound end", 3),
    column("dialling_percent", "dialling end", 3),
];
const CROWD: &[Column] = &[
    column("kib_per_link", "KiB/link, larger end", 2),
    column("bound_kib", "bound end", 2),
    column("dialling_kib", "dialling end", 2),
    column("crowd_m_per_s", "M msg/s in crowd", 3),
    column("lone_m_per_s", "alone", 3),
    column("crowd_by_lone", "crowd/alone", 2),
];

/// A line of the summary: one figure of one peer beside the same of others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// What is measured, if the title of the measure does not say it.
    pub(crate) title: Option<&'static str>,
    pub(crate) peer: &'static str,
    pub(crate) key: &'static str,
    pub(crate) beside: &'static [&'static str],
}

const fn line(key: &'static str, beside: &'static [&'static str]) -> Line {
    Line { title: None, peer: FABRIQ, key, beside }
}

const LATENCY_LINES: &[Line] = &[
    line("p50_us", &[LIBZMQ, RAW_POLLED, RAW_BLOCKING]),
    Line {
        title: Some("REQ/REP 64 B tcp, back to back, by futures under tokio"),
        peer: FABRIQ_ASYNC,
        key: "p50_us",
        beside: &[FABRIQ, LIBZMQ],
    },
    Line {
        title: Some("background threads while one thread drives (REQ/REP back to back)"),
        peer: FABRIQ,
        key: "background_per_ms",
        beside: &[LIBZMQ],
    },
];
const GAPS_LINES: &[Line] =
    &[line("p50_us", &[LIBZMQ, RAW_BLOCKING]), line("cpu_us", &[LIBZMQ, RAW_BLOCKING])];
const BUSY_LINES: &[Line] = &[line("p50_us", &[LIBZMQ, RAW_BLOCKING])];
const RATE_LINES: &[Line] = &[line("m_per_s", &[LIBZMQ, RAW_BLOCKING])];
const INPROC_LINES: &[Line] = &[line("m_per_s", &[LIBZMQ, RAW_BLOCKING])];
const LARGE_LINES: &[Line] = &[line("gb_per_s", &[RAW_BLOCKING, LIBZMQ])];
const FAN_LINES: &[Line] = &[line("k_per_s", &[LIBZMQ])];
const IDLE_LINES: &[Line] = &[line("cpu_percent", &[LIBZMQ])];
const CROWD_LINES: &[Line] = &[line("kib_per_link", &[LIBZMQ]), line("crowd_by_lone", &[LIBZMQ])];

/// One measure. Its first column leads: it has the ratios.
#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) columns: &'static [Column],
    pub(crate) lines: &'static [Line],
    /// Whose figure judges a round, and which.
    pub(crate) limit: Option<(&'static str, &'static str)>,
    /// What a peer must be able to do at the bound end.
    pub(crate) role: Role,
    pub(crate) rounds: usize,
    pub(crate) round: Round,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Round {
    Trips { gap_max_us: u64, busy: usize },
    Stream { bytes: usize },
    Inproc { bytes: usize },
    Fan,
    Idle { links: usize },
    Crowd { links: usize },
}

impl Measure {
    /// Roughly how many seconds one peer takes in one round: what the shares of the time budget go by.
    pub(crate) fn seconds(&self, arguments: &Arguments) -> f64 {
        let run = 0.3 + arguments.round_ms as f64 / 1e3;
        match self.round {
            Round::Trips { .. } | Round::Stream { .. } | Round::Inproc { .. } | Round::Fan => run,
            Round::Idle { .. } => 1.0 + IDLE.as_secs_f64(),
            Round::Crowd { links } => 2.0 * run + 2.0 + links as f64 / 2500.0,
        }
    }

    /// Polling beside pauses, busy processes or a stream measures how a scheduler treats a glutton: it sets no limit.
    pub(crate) fn leaves_out(&self, peer: &str) -> bool {
        peer == RAW_POLLED && self.limit.is_none_or(|(limit, _)| limit != RAW_POLLED)
    }
}

/// The measures that were asked for.
pub(crate) fn measures(arguments: &Arguments) -> Vec<Measure> {
    let chosen = |choice| arguments.measures.contains(&choice) || arguments.measures.contains(&Choice::All);
    let mut measures = Vec::new();
    let mut add = |choice, name, title: String, columns, lines, limit, role, round| {
        let rounds = match round {
            Round::Crowd { .. } | Round::Idle { .. } => arguments.rounds.min(CROWD_ROUNDS),
            _ => arguments.rounds,
        };
        if chosen(choice) {
            measures.push(Measure { name, title, columns, lines, limit, role, rounds, round });
        }
    };
    let trips = |gap_max_us, busy| Round::Trips { gap_max_us, busy };
    let blocking = |key| Some((RAW_BLOCKING, key));
    add(
        Choice::Latency,
        "latency",
        "REQ/REP 64 B tcp, back to back".to_owned(),
        TRIP,
        LATENCY_LINES,
        Some((RAW_POLLED, "p50_us")),
        Role::Replier,
        trips(0, 0),
    );
    add(
        Choice::Gaps,
        "gaps",
        format!("REQ/REP 64 B tcp, random gaps of 0 to 5 ms (seed {})", arguments.seed),
        TRIP,
        GAPS_LINES,
        blocking("p50_us"),
        Role::Replier,
        trips(5000, 0),
    );
    add(
        Choice::Busy,
        "busy",
        format!("REQ/REP 64 B tcp, {} busy threads beside (of other processes)", arguments.busy),
        TRIP,
        BUSY_LINES,
        blocking("p50_us"),
        Role::Replier,
        trips(0, arguments.busy),
    );
    add(
        Choice::PushPull,
        "push-pull",
        "PUSH/PULL 64 B tcp".to_owned(),
        RATE,
        RATE_LINES,
        blocking("m_per_s"),
        Role::Puller,
        Round::Stream { bytes: 64 },
    );
    add(
        Choice::Inproc,
        "inproc",
        "PUSH/PULL 64 B inproc, two threads (raw: a bounded std channel)".to_owned(),
        RATE,
        INPROC_LINES,
        blocking("m_per_s"),
        Role::Inproc,
        Round::Inproc { bytes: 64 },
    );
    add(
        Choice::Large,
        "large",
        "PUSH/PULL 1 MiB tcp".to_owned(),
        LARGE,
        LARGE_LINES,
        blocking("gb_per_s"),
        Role::Puller,
        Round::Stream { bytes: 1 << 20 },
    );
    add(
        Choice::PubSub,
        "pub-sub",
        format!("PUB to {SUBSCRIBERS} SUB sockets of one other process, 64 B tcp, all received by all"),
        FAN,
        FAN_LINES,
        blocking("k_per_s"),
        Role::Publisher,
        Round::Fan,
    );
    add(
        Choice::Idle,
        "idle",
        format!("{FEW_LINKS} idle links, CPU over {} s", IDLE.as_secs()),
        IDLE_CPU,
        IDLE_LINES,
        None,
        Role::CrowdPuller,
        Round::Idle { links: FEW_LINKS },
    );
    let links = arguments.links;
    add(
        Choice::Idle,
        "crowd",
        format!("{links} idle links: user memory (PSS), and 64 B PUSH/PULL over one of them"),
        CROWD,
        CROWD_LINES,
        blocking("lone_m_per_s"),
        Role::CrowdPuller,
        Round::Crowd { links },
    );
    measures
}
