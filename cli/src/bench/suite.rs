//! The default run: every transport that this host can run, against a peer that this program starts itself, as a
//! thread or as another process. Measures nothing itself.

use std::time::Duration;

use fabriq::{Context, SocketType};

use super::baseline::Beside;
use super::peer::Peer;
use super::report::{Left, Output, Report};
use super::{Kind, Load, Progress, bound_queues, latency, multicast, nanoseconds, open_quietly, throughput};
use crate::failure::Failure;
use crate::schemes::{self, Scheme};
use crate::units;

/// How long our own peer may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the peer of a transport is.
#[derive(Debug, Clone)]
enum Place {
    /// A thread of this process, at this URL.
    Thread(&'static str),
    /// Another process, at a URL that each run binds anew.
    Process(String),
}

fn place(scheme: &str) -> Option<Place> {
    if scheme == "inproc" {
        return Some(Place::Thread("inproc://fabriq-bench"));
    }
    let transport = fabriq::transports().into_iter().find(|known| known.schemes().contains(&scheme))?;
    transport.local(scheme).map(|endpoint| Place::Process(endpoint.to_string()))
}

pub(super) fn run(load: Load, wanted: &[String], output: Output) -> Result<(), Failure> {
    let schemes = chosen(wanted)?;
    let (mut places, mut skipped) = (Vec::new(), Vec::new());
    for Scheme { scheme, why, .. } in &schemes {
        let why = match (why, place(scheme)) {
            (None, Some(place)) => {
                places.push((*scheme, place));
                continue;
            }
            (None, None) => {
                "it has no address that every host has; use `bench latency` and `bench throughput`"
            }
            (Some(why), _) => why,
        };
        skipped.push(Left { transport: (*scheme).to_owned(), why: why.to_owned() });
    }
    if places.is_empty() {
        let why = skipped.iter().map(|left| format!("{}: {}", left.transport, left.why)).collect::<Vec<_>>();
        return Err(Failure::Usage(format!("nothing to measure: {}", why.join("; "))));
    }
    // Processes are measured beside the wire itself.
    let steps = |(_, place): &(&str, Place)| match place {
        Place::Process(url) if !multicast::is_one_way(url) => 4,
        _ => 2,
    };
    let progress = Progress::new(places.iter().map(steps).sum::<usize>() * load.sizes.len());
    let (mut report, mut failed) = (Report::new(), Vec::new());
    report.load = Some((&load).into());
    let mut corrupt = false;
    for (scheme, place) in places {
        let measured = match place {
            Place::Thread(url) => with_thread(url, &load, &progress, &mut report),
            Place::Process(url) if multicast::is_one_way(&url) => {
                with_subscriber(&url, scheme, &load, &progress, &mut report)
            }
            Place::Process(url) => with_process(&url, scheme, &load, &progress, &mut report),
        };
        if let Err(failure) = measured {
            corrupt |= matches!(failure, Failure::Corrupt(_));
            failed.push(Left { transport: scheme.to_owned(), why: failure.into_text() });
        }
    }
    progress.clear();
    let text =
        failed.iter().map(|left| format!("{}: {}", left.transport, left.why)).collect::<Vec<_>>().join("; ");
    report.skipped = Some(skipped);
    report.failed = Some(failed);
    output.put(&report)?;
    match text.is_empty() {
        true => Ok(()),
        false if corrupt => Err(Failure::Corrupt(text)),
        false => Err(Failure::Failed(text)),
    }
}

/// The schemes asked for, or all.
fn chosen(wanted: &[String]) -> Result<Vec<Scheme>, Failure> {
    let mut schemes = schemes::all(&fabriq::transports());
    for name in wanted {
        if !schemes.iter().any(|known| known.scheme == name) {
            let known: Vec<_> = schemes.iter().map(|known| known.scheme).collect();
            return Err(Failure::Usage(format!("--transport {name}: there is {}", known.join(", "))));
        }
    }
    schemes.retain(|known| wanted.is_empty() || wanted.iter().any(|name| name == known.scheme));
    Ok(schemes)
}

// ---------------------------------------------------------------------------------------------------------------
// Within this process

fn with_thread(url: &str, load: &Load, progress: &Progress, report: &mut Report) -> Result<(), Failure> {
    let context = fabriq::context()?;
    let open =
        |kind: Kind, bind| open_quietly(&context, kind.socket_type(bind, false, false), url, bind, PATIENCE);
    beside(
        &context,
        {
            let mut echo = open(Kind::Latency, true)?;
            move || latency::echo(&mut echo, PATIENCE).map(drop)
        },
        || {
            let mut here = open(Kind::Latency, false)?;
            latency::greet(&mut here, PATIENCE)?;
            for &size in &load.sizes {
                progress.step(&text(url, Kind::Latency, size));
                report.latency.push(latency::measure(&here, load, size)?);
            }
            latency::dismiss(&here)
        },
    )?;
    let mut here = open(Kind::Throughput, true)?;
    let mut there = open(Kind::Throughput, false)?;
    let send = move || {
        // Dropping the socket leaves what is queued to the engine; the context outlives it.
        let begin = |size| progress.step(&text(url, Kind::Throughput, size));
        throughput::send(&mut there, load, PATIENCE, begin).map(drop)
    };
    beside(&context, send, || {
        report.throughput.extend(throughput::receive(&mut here, PATIENCE, |_| {})?);
        Ok(())
    })
}

/// Runs `there` in a thread beside `here`. When one fails, the other is not left waiting.
fn beside(
    context: &Context,
    there: impl FnOnce() -> Result<(), Failure> + Send,
    here: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let shutting_down = |result: Result<(), Failure>| result.inspect_err(|_| context.shutdown());
    std::thread::scope(|scope| {
        let there = scope.spawn(move || shutting_down(there()));
        let here = shutting_down(here());
        let there =
            there.join().unwrap_or_else(|_| Err(Failure::Failed("the peer's thread panicked".to_owned())));
        // The one that failed first has the cause; the other only says that the context is terminated.
        match (here, there) {
            (Err(Failure::Failed(_)), Err(cause)) => Err(cause),
            (here, there) => here.and(there),
        }
    })
}

// ---------------------------------------------------------------------------------------------------------------
// With another process

fn with_process(
    url: &str,
    scheme: &str,
    load: &Load,
    progress: &Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    let context = fabriq::context()?;
    let mut peer = Peer::start(&["latency", "--bind", url])?;
    let there = peer.endpoint()?;
    let mut here = open_quietly(&context, SocketType::Req, &there, false, PATIENCE)?;
    latency::greet(&mut here, PATIENCE)?;
    let mut without = Vec::new();
    let beside = Beside::of(&there, &mut without);
    for &size in &load.sizes {
        progress.step(&text(scheme, Kind::Latency, size));
        let mut row = latency::measure(&here, load, size)?;
        if let Some(beside) = &beside {
            progress.step(&(text(scheme, Kind::Latency, size) + ", the wire itself"));
            beside.latency(&context, load, &mut row, &mut without)?;
        }
        report.latency.push(row);
    }
    latency::dismiss(&here)?;
    peer.finish()?;
    drop(here);

    let mut here = open_quietly(&context, SocketType::Pull, url, true, PATIENCE)?;
    let (duration, warmup) = (nanoseconds(load.duration), nanoseconds(load.warmup));
    for &size in &load.sizes {
        progress.step(&text(scheme, Kind::Throughput, size));
        // While nothing comes: later it would have to wait for the engine's turns.
        bound_queues(&here, size)?;
        // A peer for each size: none is to send while the wire itself is measured.
        let size_text = size.to_string();
        let peer = Peer::start(&[
            "throughput",
            "--connect",
            &here.url,
            "--size",
            &size_text,
            "--duration",
            &duration,
            "--warmup",
            &warmup,
        ])?;
        let mut rows = throughput::receive(&mut here, PATIENCE, |_| {})?;
        peer.finish()?;
        for row in &mut rows {
            if let Some(beside) = &beside {
                progress.step(&(text(scheme, Kind::Throughput, size) + ", the wire itself"));
                beside.throughput(load, row, &mut without)?;
            }
        }
        report.throughput.extend(rows);
    }
    report.without_baseline.extend(without);
    Ok(())
}

/// By multicast, where both ends name the same group.
fn with_subscriber(
    url: &str,
    scheme: &str,
    load: &Load,
    progress: &Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    let context = fabriq::context()?;
    let mut peer = Peer::start(&["latency", "--bind", url])?;
    let there = peer.endpoint()?;
    let mut here = multicast::End::open(&context, &there, true, Some(PATIENCE))?;
    here.greet(PATIENCE)?;
    for &size in &load.sizes {
        progress.step(&text(scheme, Kind::Latency, size));
        report.latency.push(here.measure(load, size)?);
    }
    here.dismiss()?;
    peer.finish()?;
    drop(here);

    let mut here = open_quietly(&context, SocketType::Sub, url, true, PATIENCE)?;
    let (duration, warmup) = (nanoseconds(load.duration), nanoseconds(load.warmup));
    let sizes: Vec<_> = load.sizes.iter().map(usize::to_string).collect();
    let mut arguments = vec!["throughput", "--connect", url, "--duration", &duration, "--warmup", &warmup];
    sizes.iter().for_each(|size| arguments.extend(["--size", size]));
    let peer = Peer::start(&arguments)?;
    let done = |row: &super::report::Throughput| progress.step(&text(scheme, Kind::Throughput, row.size));
    report.throughput.extend(throughput::receive(&mut here, PATIENCE, done)?);
    peer.finish()
}

fn text(url: &str, kind: Kind, size: usize) -> String {
    let scheme = url.split("://").next().unwrap_or(url);
    format!("{scheme} {}, {}", kind.name(), units::size(size))
}
