//! The measures of side-by-side, over loopback, Unix-domain sockets and in one process; it runs nothing.

use crate::control::Role;
use crate::measures::{
    Column, FAN, IDLE, LARGE, Line, Measure, POLLED, RATE, Round, SUBSCRIBERS, TRIP, column, line,
};
use crate::peer::{FABRIQ, FABRIQ_ASYNC, FABRIQ_POLLER, LIBZMQ, RAW_BLOCKING, RAW_POLL2, RAW_POLLED};
use crate::{Arguments, Choice};

/// Idle links whose CPU time is measured.
const FEW_LINKS: usize = 100;
/// Idle links and thousands of links or sockets take seconds to make: so many rounds of them at most.
const CROWD_ROUNDS: usize = 3;

const POLL: &[Column] = &[
    column("p50_us", "p50 us", 2),
    column("p99_us", "p99 us", 1),
    column("one_us", "p50 us of 1 socket", 2),
    column("difference_us", "difference us", 2),
    column("cpu_us", "CPU us/wake", 1),
    column("switches", "switches/wake", 3),
];
const PUB_SUB: &[Column] = &[column("k_per_s", "k msg/s at every SUB", 1), column("cpu_us", "CPU us/msg", 1)];
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
const IPC_LATENCY_LINES: &[Line] = &[line("p50_us", &[LIBZMQ, RAW_POLLED, RAW_BLOCKING])];
/// Beside every engine that runs on its own.
const ALL_RATE_LINES: &[Line] = &[line("m_per_s", &[LIBZMQ, "monocoque", "omq", RAW_BLOCKING])];
const INPROC_LINES: &[Line] = &[line("m_per_s", &[LIBZMQ, RAW_BLOCKING])];
const LARGE_LINES: &[Line] = &[line("gb_per_s", &[RAW_BLOCKING, LIBZMQ])];
const POLL_LINES: &[Line] = &[
    line("p50_us", &[LIBZMQ, RAW_POLL2, RAW_BLOCKING]),
    Line {
        title: None,
        peer: FABRIQ_POLLER,
        key: "p50_us",
        beside: &[LIBZMQ, FABRIQ, RAW_POLL2, RAW_BLOCKING],
    },
    Line {
        title: Some("the same, and what the other sockets cost"),
        peer: FABRIQ_POLLER,
        key: "difference_us",
        beside: &[LIBZMQ, FABRIQ, RAW_POLL2, RAW_BLOCKING],
    },
];
const PUB_SUB_LINES: &[Line] = &[line("k_per_s", &[LIBZMQ])];
const IDLE_LINES: &[Line] = &[line("cpu_percent", &[LIBZMQ])];
const CROWD_LINES: &[Line] = &[line("kib_per_link", &[LIBZMQ]), line("crowd_by_lone", &[LIBZMQ])];

/// The measures that were asked for.
pub(crate) fn measures(arguments: &Arguments) -> Vec<Measure> {
    let chosen = |choice| arguments.measures.contains(&choice) || arguments.measures.contains(&Choice::All);
    let mut measures = Vec::new();
    let mut add = |choice: Choice, name, title: String, columns, lines, limit, role, round| {
        let rounds = match round {
            Round::Crowd { .. } | Round::Idle { .. } | Round::Poll => arguments.rounds.min(CROWD_ROUNDS),
            _ => arguments.rounds,
        };
        let scheme = choice.is_ipc().then_some("ipc");
        if chosen(choice) {
            measures.push(Measure {
                name,
                title,
                columns,
                lines,
                limit,
                scheme,
                query: "",
                without: &[],
                role,
                rounds,
                round,
            });
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
        Choice::IpcLatency,
        "ipc-latency",
        "REQ/REP 64 B ipc, back to back".to_owned(),
        TRIP,
        IPC_LATENCY_LINES,
        Some((RAW_POLLED, "p50_us")),
        Role::Replier,
        trips(0, 0),
    );
    add(
        Choice::IpcPushPull,
        "ipc-push-pull",
        "PUSH/PULL 64 B ipc".to_owned(),
        RATE,
        ALL_RATE_LINES,
        blocking("m_per_s"),
        Role::Puller,
        Round::Stream { bytes: 64 },
    );
    add(
        Choice::Ipc64k,
        "ipc-64k",
        "PUSH/PULL 64 KiB ipc".to_owned(),
        LARGE,
        LARGE_LINES,
        blocking("gb_per_s"),
        Role::Puller,
        Round::Stream { bytes: 64 << 10 },
    );
    add(
        Choice::FanIn,
        "fan-in",
        format!("{FAN} PUSH processes to one PULL, 64 B tcp"),
        RATE,
        ALL_RATE_LINES,
        blocking("m_per_s"),
        Role::FanInPuller,
        Round::FanIn,
    );
    add(
        Choice::FanOut,
        "fan-out",
        format!("one PUSH to {FAN} PULL processes, 64 B tcp, all together"),
        RATE,
        ALL_RATE_LINES,
        blocking("m_per_s"),
        Role::FanOutPusher,
        Round::FanOut,
    );
    add(
        Choice::Poll,
        "poll",
        format!("a message to 1 of {POLLED} PULL sockets waited for at once, and an answer, 64 B tcp"),
        POLL,
        POLL_LINES,
        blocking("p50_us"),
        Role::Waiter,
        Round::Poll,
    );
    add(
        Choice::PubSub,
        "pub-sub",
        format!("PUB to {SUBSCRIBERS} SUB sockets of one other process, 64 B tcp, all received by all"),
        PUB_SUB,
        PUB_SUB_LINES,
        blocking("k_per_s"),
        Role::Publisher,
        Round::PubSub,
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
