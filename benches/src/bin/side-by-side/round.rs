//! One peer's part of one round: the processes of both ends, from start to report. It knows no peer by name and judges
//! nothing.

use crate::control::{Actor, Report, Role, Task};
use crate::measures::{FAN, IDLE, Measure, POLLED, Round, SUBSCRIBERS};
use crate::payload;
use crate::peer::Entry;
use crate::{Arguments, Result, usage};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long links may take to be made and to fall silent.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// What one peer's part of one round found, by column.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Where a peer binds.
fn url(scheme: &str, host: IpAddr, query: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    match scheme {
        // Not every peer chooses a path by itself.
        "ipc" => {
            let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let directory = std::env::temp_dir();
            format!("ipc://{}/side-by-side-{process}-{number}", directory.display())
        }
        "ofi" => format!("ofi://{}?{query}", SocketAddr::new(host, 0)),
        // Not every peer reads a wildcard for the port, but all read 0.
        scheme => format!("{scheme}://{}", SocketAddr::new(host, 0)),
    }
}

/// Removes what a peer over ipc leaves at its URL: its process ends without ado.
#[derive(Debug)]
struct SocketFile(String);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = self.0.strip_prefix("ipc://") {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Measures one peer once.
pub(crate) fn play(
    measure: &Measure,
    arguments: &Arguments,
    host: IpAddr,
    entry: &Entry,
    round: usize,
) -> Result<Figures> {
    let task = Task {
        peer: entry.name.to_owned(),
        role: measure.role,
        url: url(measure.scheme.unwrap_or(entry.scheme), host, measure.query),
        back_url: String::new(),
        bytes: 64,
        warm_ms: 100,
        run_ms: arguments.round_ms,
        gap_max_us: 0,
        seed: arguments.seed.wrapping_add(round as u64),
        links: 1,
        lane: 0,
    };
    let _file = SocketFile(task.url.clone());
    match measure.round {
        Round::Trips { gap_max_us, busy } => trips(&Task { gap_max_us, ..task }, busy),
        Round::Stream { bytes } => stream(&Task { bytes, ..task }),
        Round::Inproc { bytes } => inproc(&Task { bytes, url: "inproc://side-by-side".to_owned(), ..task }),
        Round::FanIn => fan_in(&Task { links: FAN, ..task }),
        Round::FanOut => fan_out(&Task { links: FAN, ..task }),
        Round::Poll => {
            let one = poll(&task)?;
            let many = poll(&Task { links: POLLED, ..task })?;
            let wakes = many.count.max(1) as f64;
            Ok(Figures::from([
                ("p50_us", many.p50_us),
                ("p99_us", many.p99_us),
                ("one_us", one.p50_us),
                ("difference_us", many.p50_us - one.p50_us),
                ("cpu_us", many.usage.cpu_us / wakes),
                ("switches", many.usage.switches / wakes),
            ]))
        }
        Round::PubSub => pub_sub(&Task { links: SUBSCRIBERS, ..task }),
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
        // Of one process, so the mean of both.
        (
            "background_per_ms",
            f64::midpoint(asked.usage.background_per_ms(), answered.usage.background_per_ms()),
        ),
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
    let mut figures = rates(pulled.rate_per_s, task.bytes, cpu_us);
    figures.insert("messages", pulled.count as f64);
    Ok(figures)
}

fn inproc(task: &Task) -> Result<Figures> {
    let mut both = Actor::start(task)?;
    both.expect("ready")?;
    both.tell("go")?;
    let report = both.report()?;
    Ok(rates(report.rate_per_s, task.bytes, report.usage.cpu_us / report.count.max(1) as f64))
}

/// What several processes say at their ends, together.
fn sum(reports: &[Report]) -> Report {
    reports.iter().fold(Report::default(), |mut sum, report| {
        sum.count += report.count;
        sum.digest = sum.digest.wrapping_add(report.digest);
        sum.rate_per_s += report.rate_per_s;
        sum.usage.cpu_us += report.usage.cpu_us;
        sum.usage.switches += report.usage.switches;
        sum
    })
}

fn reports(actors: &mut [Actor]) -> Result<Report> {
    let reports = actors.iter_mut().map(Actor::report).collect::<Result<Vec<_>>>()?;
    Ok(sum(&reports))
}

/// The bound end, which is one process, and the dialling one, which is many. All are ready when this returns.
fn one_and_many(task: &Task, dialler: Role) -> Result<(Actor, Vec<Actor>)> {
    let mut one = Actor::start(task)?;
    let url = one.expect("url")?;
    let dialling = Task { role: dialler, url, links: 1, ..task.clone() };
    let many = (0..task.links).map(|lane| Actor::start(&Task { lane, ..dialling.clone() }));
    let mut many = many.collect::<Result<Vec<_>>>()?;
    for actor in &mut many {
        actor.expect("ready")?;
    }
    one.expect("ready")?;
    Ok((one, many))
}

fn fan_in(task: &Task) -> Result<Figures> {
    let (mut puller, mut pushers) = one_and_many(task, Role::Pusher)?;
    puller.tell("go")?;
    for pusher in &mut pushers {
        pusher.tell("go")?;
    }
    let pulled = puller.report()?;
    let pushed = reports(&mut pushers)?;
    if pushed.count != pulled.count {
        return Err(format!("{} messages sent, {} received", pushed.count, pulled.count).into());
    }
    let cpu_us = (pulled.usage.cpu_us + pushed.usage.cpu_us) / pulled.count.max(1) as f64;
    Ok(rates(pulled.rate_per_s, task.bytes, cpu_us))
}

fn fan_out(task: &Task) -> Result<Figures> {
    let (mut pusher, mut pullers) = one_and_many(task, Role::FanOutPuller)?;
    for puller in &mut pullers {
        puller.tell("go")?;
    }
    pusher.tell("go")?;
    let pulled = reports(&mut pullers)?;
    pusher.tell("stop")?;
    let pushed = pusher.report()?;
    if pushed.count != pulled.count {
        return Err(format!("{} messages sent, {} received", pushed.count, pulled.count).into());
    }
    if payload::digest(pushed.count) != pulled.digest {
        return Err(format!("of {} messages, some came twice and as many never", pushed.count).into());
    }
    let cpu_us = (pulled.usage.cpu_us + pushed.usage.cpu_us) / pulled.count.max(1) as f64;
    Ok(rates(pulled.rate_per_s, task.bytes, cpu_us))
}

fn rates(rate_per_s: f64, bytes: usize, cpu_us: f64) -> Figures {
    Figures::from([
        ("m_per_s", rate_per_s / 1e6),
        ("gb_per_s", rate_per_s * bytes as f64 / 1e9),
        ("cpu_us", cpu_us),
        ("cpu_ns", cpu_us * 1e3),
    ])
}

/// What the waker says, with what both ends used.
fn poll(task: &Task) -> Result<Report> {
    let mut waiter = Actor::start(task)?;
    let (url, back_url) = (waiter.expect("url")?, waiter.expect("answers")?);
    let mut waker = Actor::start(&Task { role: Role::Waker, url, back_url, ..task.clone() })?;
    waker.expect("ready")?;
    waiter.expect("ready")?;
    waiter.tell("go")?;
    waker.tell("go")?;
    let woken = waker.report()?;
    let usage = sum(&[woken, waiter.report()?]).usage;
    Ok(Report { usage, ..woken })
}

fn pub_sub(task: &Task) -> Result<Figures> {
    let mut publisher = Actor::start(task)?;
    let (url, back_url) = (publisher.expect("url")?, publisher.expect("credits")?);
    let task = Task { role: Role::Subscribers, url, back_url, ..task.clone() };
    let mut subscribers = Actor::start(&task)?;
    subscribers.expect("ready")?;
    publisher.expect("ready")?;
    publisher.tell("go")?;
    subscribers.tell("go")?;
    let received = subscribers.report()?;
    let published = publisher.report()?;
    let count = received.count.max(1) as f64;
    Ok(Figures::from([
        ("k_per_s", received.rate_per_s / 1e3),
        ("cpu_us", (received.usage.cpu_us + published.usage.cpu_us) / count),
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
