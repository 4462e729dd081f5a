//! The measures: which two tasks a round of each is, how the rounds interleave, and the tables; it touches no socket
//! itself.

use crate::control::{Actor, Role, Task};
use crate::peer::{self, Entry, LIBZMQ, RAW_BLOCKING, RAW_POLLED};
use crate::statistics::{median, rounds_that_count};
use crate::{Arguments, Choice, Result, libzmq_peer, usage};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Sockets that subscribe in the measure `pub-sub`.
const SUBSCRIBERS: usize = 32;
/// Idle links whose CPU time is measured.
const FEW_LINKS: usize = 100;
/// How long idle links are watched.
const IDLE: Duration = Duration::from_secs(3);
/// 10,000 links take seconds to make: so many rounds of them, whatever `--rounds` says.
const CROWD_ROUNDS: usize = 3;
/// Discarded rounds are measured again until so many times the wanted rounds have been run.
const TRIES: usize = 3;
/// How long links may take to be made and to fall silent.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What one peer's part of one round found, by column.
type Figures = BTreeMap<&'static str, f64>;

/// One column of a table.
#[derive(Debug, Clone, Copy)]
struct Column {
    key: &'static str,
    title: &'static str,
    digits: usize,
}

const fn column(key: &'static str, title: &'static str, digits: usize) -> Column {
    Column { key, title, digits }
}

const TRIP: &[Column] = &[
    column("p50_us", "p50 us", 2),
    column("p99_us", "p99 us", 1),
    column("cpu_us", "CPU us/trip", 1),
    column("switches", "switches/trip", 3),
];
const RATE: &[Column] =
    &[column("m_per_s", "M msg/s", 3), column("gb_per_s", "GB/s", 3), column("cpu_ns", "CPU ns/msg", 0)];
const LARGE: &[Column] = &[column("gb_per_s", "GB/s", 3), column("cpu_us", "CPU us/msg", 0)];
const FAN: &[Column] = &[
    column("m_per_s", "M deliveries/s", 3),
    column("kept_percent", "kept %", 1),
    column("cpu_ns", "CPU ns/delivery", 0),
];
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

/// One measure. Its first column leads: it has the ratios.
#[derive(Debug)]
struct Measure {
    name: &'static str,
    title: String,
    columns: &'static [Column],
    /// Whose figure judges a round, and which.
    limit: Option<(&'static str, &'static str)>,
    /// What a peer must be able to do at the bound end.
    role: Role,
    rounds: usize,
    round: Round,
}

#[derive(Debug, Clone, Copy)]
enum Round {
    Trips { gap_max_us: u64, busy: usize },
    Stream { bytes: usize },
    Inproc { bytes: usize },
    Fan,
    Idle { links: usize },
    Crowd { links: usize },
}

fn measures(arguments: &Arguments) -> Vec<Measure> {
    let chosen = |choice| arguments.measures.contains(&choice) || arguments.measures.contains(&Choice::All);
    let mut measures = Vec::new();
    let mut add = |name, title: String, columns, limit, role, round| {
        let rounds = match round {
            Round::Crowd { .. } | Round::Idle { .. } => arguments.rounds.min(CROWD_ROUNDS),
            _ => arguments.rounds,
        };
        measures.push(Measure { name, title, columns, limit, role, rounds, round });
    };
    if chosen(Choice::Latency) {
        let title = "REQ/REP 64 B tcp, back to back".to_owned();
        let round = Round::Trips { gap_max_us: 0, busy: 0 };
        add("latency", title, TRIP, Some((RAW_POLLED, "p50_us")), Role::Replier, round);
    }
    if chosen(Choice::Gaps) {
        let title = format!("REQ/REP 64 B tcp, random gaps of 0 to 5 ms (seed {})", arguments.seed);
        let round = Round::Trips { gap_max_us: 5000, busy: 0 };
        add("gaps", title, TRIP, Some((RAW_BLOCKING, "p50_us")), Role::Replier, round);
    }
    if chosen(Choice::Busy) {
        let title = format!("REQ/REP 64 B tcp, {} busy processes beside", arguments.busy);
        let round = Round::Trips { gap_max_us: 0, busy: arguments.busy };
        add("busy", title, TRIP, Some((RAW_BLOCKING, "p50_us")), Role::Replier, round);
    }
    for bytes in [64, 1024] {
        if chosen(Choice::PushPull) {
            let name = if bytes == 64 { "push-pull-64" } else { "push-pull-1024" };
            let title = format!("PUSH/PULL {bytes} B tcp");
            let limit = Some((RAW_BLOCKING, "m_per_s"));
            add(name, title, RATE, limit, Role::Puller, Round::Stream { bytes });
        }
        if chosen(Choice::Inproc) {
            let name = if bytes == 64 { "inproc-64" } else { "inproc-1024" };
            let title = format!("PUSH/PULL {bytes} B inproc, two threads (raw: a bounded std channel)");
            let limit = Some((RAW_BLOCKING, "m_per_s"));
            add(name, title, RATE, limit, Role::Inproc, Round::Inproc { bytes });
        }
    }
    if chosen(Choice::Large) {
        let title = "PUSH/PULL 1 MiB tcp".to_owned();
        let limit = Some((RAW_BLOCKING, "gb_per_s"));
        add("large", title, LARGE, limit, Role::Puller, Round::Stream { bytes: 1 << 20 });
    }
    if chosen(Choice::PubSub) {
        let title = format!("PUB to {SUBSCRIBERS} SUB sockets of one other process, 64 B tcp");
        let limit = Some((RAW_BLOCKING, "m_per_s"));
        add("pub-sub", title, FAN, limit, Role::Publisher, Round::Fan);
    }
    if chosen(Choice::Idle) {
        let title = format!("{FEW_LINKS} idle links, CPU over {} s", IDLE.as_secs());
        add("idle", title, IDLE_CPU, None, Role::CrowdPuller, Round::Idle { links: FEW_LINKS });
        let links = arguments.links;
        let title = format!("{links} idle links: user memory (PSS), and 64 B PUSH/PULL over one of them");
        let limit = Some((RAW_BLOCKING, "lone_m_per_s"));
        add("crowd", title, CROWD, limit, Role::CrowdPuller, Round::Crowd { links });
    }
    measures
}

/// The outcome of one peer in one round: figures, or why there are none.
type Outcome = std::result::Result<Figures, String>;

/// All rounds of one measure.
#[derive(Debug)]
struct Results {
    peers: Vec<&'static str>,
    /// Round by round, in the order of `peers`.
    rounds: Vec<Vec<Outcome>>,
    counts: Vec<bool>,
    /// No round counted; then all do, with a warning.
    disturbed: bool,
}

impl Results {
    /// The figures of one column of one peer, over the rounds that count.
    fn values(&self, peer: usize, key: &str) -> Vec<f64> {
        self.rounds
            .iter()
            .zip(&self.counts)
            .filter(|(_, counts)| **counts)
            .filter_map(|(round, _)| round[peer].as_ref().ok()?.get(key).copied())
            .collect()
    }

    fn median(&self, peer: &str, key: &str) -> Option<f64> {
        let peer = self.peers.iter().position(|name| *name == peer)?;
        median(self.values(peer, key))
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("side-by-side: built without --release: the figures mean nothing");
    }
    usage::raise_file_limit();
    let (mut entries, missing) = peer::entries();
    for name in &arguments.only {
        if !entries.iter().any(|entry| entry.name == name) {
            return Err(format!("no peer {name} here; missing: {missing:?}").into());
        }
    }
    if !arguments.only.is_empty() {
        entries.retain(|entry| arguments.only.iter().any(|name| name == entry.name));
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let libzmq = libzmq_peer::version().unwrap_or_else(|_| "none".to_owned());
    if !arguments.json {
        println!(
            "{cores} cores; libzmq {libzmq}; kernel socket buffers at their defaults; high-water marks 1000"
        );
        println!(
            "rounds of {} ms, medians of {} or more",
            arguments.round_ms,
            arguments.rounds.min(CROWD_ROUNDS)
        );
        for missing in &missing {
            println!("left out: {missing}");
        }
    }
    let mut json = Vec::new();
    for measure in measures(arguments) {
        let results = measure.run(arguments, &entries);
        if arguments.json {
            json.push(to_json(&measure, &results));
        } else {
            print(&measure, &results);
        }
    }
    if arguments.json {
        let all = serde_json::json!({
            "cores": cores, "libzmq": libzmq, "round_ms": arguments.round_ms, "seed": arguments.seed,
            "high_water_mark": peer::HIGH_WATER_MARK, "socket_buffers": "kernel defaults", "missing": missing,
            "measures": json,
        });
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

impl Measure {
    /// Runs rounds until enough of them count, or [`TRIES`] times as many have been run.
    fn run(&self, arguments: &Arguments, entries: &[Entry]) -> Results {
        let entries: Vec<&Entry> = entries.iter().filter(|entry| !entry.lacks.contains(&self.role)).collect();
        let progress = std::io::stderr().is_terminal();
        let mut results = Results {
            peers: entries.iter().map(|entry| entry.name).collect(),
            rounds: Vec::new(),
            counts: Vec::new(),
            disturbed: false,
        };
        while results.counts.iter().filter(|counts| **counts).count() < self.rounds
            && results.rounds.len() < TRIES * self.rounds
        {
            let number = results.rounds.len();
            if progress {
                eprint!("\r{}: round {}   ", self.name, number + 1);
            }
            let mut round: Vec<Outcome> = vec![Err("not run".to_owned()); entries.len()];
            for turn in 0..entries.len() {
                let index = (turn + number) % entries.len();
                round[index] =
                    self.measure(arguments, entries[index].name, number).map_err(|error| error.to_string());
            }
            results.rounds.push(round);
            results.counts = self.judge(&results);
        }
        if progress {
            eprint!("\r{:40}\r", "");
        }
        results.disturbed = !results.counts.iter().any(|counts| *counts);
        if results.disturbed {
            results.counts.fill(true);
        }
        results
    }

    fn judge(&self, results: &Results) -> Vec<bool> {
        let figure = |round: &[Outcome], peer: &str, key: &str| {
            let peer = results.peers.iter().position(|name| *name == peer)?;
            round[peer].as_ref().ok()?.get(key).copied()
        };
        let limits: Vec<Option<f64>> = results
            .rounds
            .iter()
            .map(|round| self.limit.and_then(|(peer, key)| figure(round, peer, key)))
            .collect();
        let mut counts = rounds_that_count(&limits);
        if self.limit == Some((RAW_POLLED, "p50_us")) {
            // Polling that is slower than sleeping shows a third process on the two cores. That can last for all
            // rounds, so the median cannot show it.
            for (counts, round) in counts.iter_mut().zip(&results.rounds) {
                let (polled, blocking) =
                    (figure(round, RAW_POLLED, "p50_us"), figure(round, RAW_BLOCKING, "p50_us"));
                *counts &= polled.zip(blocking).is_none_or(|(polled, blocking)| polled < blocking);
            }
        }
        counts
    }

    fn measure(&self, arguments: &Arguments, peer: &str, round: usize) -> Result<Figures> {
        let task = Task {
            peer: peer.to_owned(),
            role: self.role,
            // Not every peer reads a wildcard for the port, but all read 0.
            url: "tcp://127.0.0.1:0".to_owned(),
            bytes: 64,
            warm_ms: 100,
            run_ms: arguments.round_ms,
            gap_max_us: 0,
            seed: arguments.seed.wrapping_add(round as u64),
            links: 1,
            lossless: arguments.lossless,
        };
        match self.round {
            Round::Trips { gap_max_us, busy } => trips(&Task { gap_max_us, ..task }, busy),
            Round::Stream { bytes } => stream(&Task { bytes, ..task }),
            Round::Inproc { bytes } => {
                inproc(&Task { bytes, url: "inproc://side-by-side".to_owned(), ..task })
            }
            Round::Fan => fan(&Task { links: SUBSCRIBERS, ..task }),
            Round::Idle { links } => {
                let idle = crowd(&Task { links, ..task }, IDLE)?;
                let percent = |cpu_us: f64| cpu_us / IDLE.as_micros() as f64 * 100.0;
                Ok(Figures::from([
                    ("cpu_percent", percent(idle.cpu_us[0] + idle.cpu_us[1])),
                    ("bound_percent", percent(idle.cpu_us[0])),
                    ("dialling_percent", percent(idle.cpu_us[1])),
                ]))
            }
            Round::Crowd { links } => {
                let alone = crowd(&task, Duration::ZERO)?;
                let crowd = crowd(&Task { links, ..task }, Duration::ZERO)?;
                let per_link = |end: usize| (crowd.kib[end] - alone.kib[end]) / (links - 1).max(1) as f64;
                Ok(Figures::from([
                    ("kib_per_link", per_link(0).max(per_link(1))),
                    ("bound_kib", per_link(0)),
                    ("dialling_kib", per_link(1)),
                    ("crowd_m_per_s", crowd.rate_per_s / 1e6),
                    ("lone_m_per_s", alone.rate_per_s / 1e6),
                    ("crowd_by_lone", crowd.rate_per_s / alone.rate_per_s),
                ]))
            }
        }
    }
}

/// Starts both ends: the bound one, then, with the URL it says, the dialling one. Both are ready when this returns.
fn pair(task: &Task, dialler: Role) -> Result<(Actor, Actor)> {
    let mut bound = Actor::start(task)?;
    let url = bound.expect("url")?;
    let mut dialling = Actor::start(&Task { role: dialler, url, ..task.clone() })?;
    dialling.expect("ready")?;
    bound.expect("ready")?;
    Ok((bound, dialling))
}

fn trips(task: &Task, busy: usize) -> Result<Figures> {
    let busy = (0..busy).map(|_| Actor::start(&Task { role: Role::Busy, ..task.clone() }));
    let _busy = busy.collect::<Result<Vec<_>>>()?;
    let (mut replier, mut requester) = pair(task, Role::Requester)?;
    replier.tell("go")?;
    requester.tell("go")?;
    let asked = requester.report()?;
    let answered = replier.report()?;
    let trips = asked.count.max(1) as f64;
    Ok(Figures::from([
        ("p50_us", asked.p50_us),
        ("p99_us", asked.p99_us),
        ("cpu_us", (asked.usage.cpu_us + answered.usage.cpu_us) / trips),
        ("switches", (asked.usage.switches + answered.usage.switches) / trips),
        ("trips", trips),
    ]))
}

fn stream(task: &Task) -> Result<Figures> {
    let (mut puller, mut pusher) = pair(task, Role::Pusher)?;
    puller.tell("go")?;
    pusher.tell("go")?;
    let pulled = puller.report()?;
    let pushed = pusher.report()?;
    let cpu_us = (pulled.usage.cpu_us + pushed.usage.cpu_us) / pulled.count.max(1) as f64;
    Ok(rates(pulled.rate_per_s, task.bytes, cpu_us))
}

fn inproc(task: &Task) -> Result<Figures> {
    let mut both = Actor::start(task)?;
    both.expect("ready")?;
    both.tell("go")?;
    let report = both.report()?;
    Ok(rates(report.rate_per_s, task.bytes, report.usage.cpu_us / report.count.max(1) as f64))
}

fn rates(rate_per_s: f64, bytes: usize, cpu_us: f64) -> Figures {
    Figures::from([
        ("m_per_s", rate_per_s / 1e6),
        ("gb_per_s", rate_per_s * bytes as f64 / 1e9),
        ("cpu_us", cpu_us),
        ("cpu_ns", cpu_us * 1e3),
    ])
}

fn fan(task: &Task) -> Result<Figures> {
    let (mut publisher, mut subscribers) = pair(task, Role::Subscribers)?;
    publisher.tell("go")?;
    subscribers.tell("go")?;
    let delivered = subscribers.report()?;
    publisher.tell("stop")?;
    let published = publisher.report()?;
    let count = delivered.count.max(1) as f64;
    Ok(Figures::from([
        ("m_per_s", delivered.rate_per_s / 1e6),
        ("kept_percent", count / (published.count.max(1) * SUBSCRIBERS as u64) as f64 * 100.0),
        ("cpu_ns", (delivered.usage.cpu_us + published.usage.cpu_us) / count * 1e3),
    ]))
}

/// What a run with many links found; arrays hold the bound end, then the dialling end.
#[derive(Debug)]
struct Crowd {
    kib: [f64; 2],
    cpu_us: [f64; 2],
    rate_per_s: f64,
}

fn crowd(task: &Task, watch: Duration) -> Result<Crowd> {
    let mut puller = Actor::start(task)?;
    let url = puller.expect("url")?;
    let mut pusher = Actor::start(&Task { role: Role::CrowdPusher, url, ..task.clone() })?;
    pusher.expect("made")?;
    let pids = [puller.pid(), pusher.pid()];
    let kib = || -> Result<[f64; 2]> { Ok([usage::pss_kib(pids[0])?, usage::pss_kib(pids[1])?]) };
    let cpu_us = || pids.map(usage::cpu_us);
    let before_kib = kib()?;
    pusher.tell("go")?;
    pusher.expect("ready")?;
    puller.expect("ready")?;
    settle(task, pids)?;
    let after_kib = kib()?;
    let before_us = cpu_us();
    std::thread::sleep(watch);
    let after_us = cpu_us();
    puller.tell("go")?;
    pusher.tell("go")?;
    let pulled = puller.report()?;
    pusher.report()?;
    let difference = |after: [f64; 2], before: [f64; 2]| [after[0] - before[0], after[1] - before[1]];
    Ok(Crowd {
        kib: difference(after_kib, before_kib),
        cpu_us: difference(after_us, before_us),
        rate_per_s: pulled.rate_per_s,
    })
}

/// Waits until all links are there and both ends have nothing more to do for them.
fn settle(task: &Task, pids: [u32; 2]) -> Result<()> {
    let step = Duration::from_millis(300);
    let began = Instant::now();
    loop {
        let before: f64 = pids.map(usage::cpu_us).iter().sum();
        std::thread::sleep(step);
        let spent = pids.map(usage::cpu_us).iter().sum::<f64>() - before;
        let made = pids.iter().all(|pid| usage::open_files(*pid) >= task.links);
        if made && spent < step.as_micros() as f64 * 0.02 {
            return Ok(());
        }
        if began.elapsed() > SETTLE_LIMIT {
            let open = pids.map(usage::open_files);
            return Err(format!(
                "{} links did not settle: open files {open:?}, busy {spent:.0} us",
                task.links
            )
            .into());
        }
    }
}

fn print(measure: &Measure, results: &Results) {
    let kept = results.counts.iter().filter(|counts| **counts).count();
    let discarded = results.counts.len() - kept;
    println!();
    print!("{} ({kept} rounds", measure.title);
    if results.disturbed {
        print!("; NONE UNDISTURBED: other processes held the cores, believe nothing");
    } else if discarded > 0 {
        print!(
            "; {discarded} discarded: the raw limit was more than 1.5x off its median, or polled slower than blocking"
        );
    }
    println!(")");
    let lead = measure.columns[0].key;
    let references = [(LIBZMQ, "x libzmq"), (RAW_BLOCKING, "x raw blk"), (RAW_POLLED, "x raw poll")];
    print!("  {:<14}", "");
    for column in measure.columns {
        print!("{:>width$}", column.title, width = width(column));
    }
    for (_, title) in references {
        print!("{title:>12}");
    }
    println!("   min..max");
    for (index, name) in results.peers.iter().enumerate() {
        print!("  {name:<14}");
        let mut values = results.values(index, lead);
        if values.is_empty() {
            let error = results.rounds.iter().find_map(|round| round[index].as_ref().err());
            println!("  failed: {}", error.map_or("no round counted", String::as_str));
            continue;
        }
        for column in measure.columns {
            match results.median(name, column.key) {
                Some(value) => {
                    print!("{value:>width$.digits$}", width = width(column), digits = column.digits)
                }
                None => print!("{:>width$}", "-", width = width(column)),
            }
        }
        let own = results.median(name, lead);
        for (reference, _) in references {
            match (own, results.median(reference, lead)) {
                (Some(own), Some(reference)) if reference > 0.0 => print!("{:>12.2}", own / reference),
                _ => print!("{:>12}", "-"),
            }
        }
        values.sort_by(f64::total_cmp);
        let digits = measure.columns[0].digits;
        print!("   {:.digits$}..{:.digits$}", values[0], values[values.len() - 1]);
        let failed = results.rounds.iter().filter_map(|round| round[index].as_ref().err());
        let failed: Vec<&String> = failed.collect();
        if let Some(first) = failed.first() {
            print!("   {} rounds failed: {first}", failed.len());
        }
        println!();
    }
}

fn width(column: &Column) -> usize {
    column.title.len().max(8) + 3
}

fn to_json(measure: &Measure, results: &Results) -> serde_json::Value {
    let lead = measure.columns[0].key;
    let peers: serde_json::Map<String, serde_json::Value> = results
        .peers
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let medians: BTreeMap<_, _> = measure
                .columns
                .iter()
                .filter_map(|column| Some((column.key, results.median(name, column.key)?)))
                .collect();
            let ratio = |reference| Some(results.median(name, lead)? / results.median(reference, lead)?);
            let rounds: Vec<_> = results.rounds.iter().map(|round| &round[index]).collect();
            let entry = serde_json::json!({
                "medians": medians,
                "ratio_to_libzmq": ratio(LIBZMQ),
                "ratio_to_raw_blocking": ratio(RAW_BLOCKING),
                "ratio_to_raw_polled": ratio(RAW_POLLED),
                "rounds": rounds,
            });
            ((*name).to_owned(), entry)
        })
        .collect();
    serde_json::json!({
        "name": measure.name, "title": measure.title, "lead": lead, "counts": results.counts,
        "disturbed": results.disturbed, "peers": peers,
    })
}
