//! `fabriq monitor`: opens a socket to see what becomes of its connections. Sends and takes no messages.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fabriq::{DownReason, Event, EventKind, Loss, Recovery, SocketType};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;
use crate::units::{self, parse_duration};
use crate::watch::remedy;
use crate::wire::refuse_inproc;

/// How often to look whether the user wants an end.
const LOOK: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "\
Examples:
  fabriq monitor --type sub tcp://host:5556              why does my subscriber not connect?
  fabriq monitor --type rep --bind 'tcp://*:5555'        who comes here, and who is refused?
  fabriq monitor --type req tcp://host:5555 --until-ready --timeout 5s && start-the-rest
  fabriq monitor --type push tcp://host:5555 --json | jq .event

It stands in for your program: same URL, same socket type, and each line says what happened to which peer, and what to do \
about it. It sends nothing and takes nothing, but to the other side it is a peer: one that shares the work (a PUSH there \
gives it up to two messages, which are lost) is better watched from its own program, by Socket::monitor.

Ends with Ctrl-C, or after --timeout or --count; then it prints what it has counted. With --until-ready, exit code 3 says \
that no peer was ready in time.";

/// Show what happens to the connections of a socket: dials, handshakes, refusals, ends
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Endpoint URL, for example tcp://127.0.0.1:5555
    url: String,

    /// Type of socket to stand in for, as in req, sub or dealer
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    kind: SocketType,

    /// Listen at URL instead of connecting to it
    #[arg(long, short)]
    bind: bool,

    /// End when a peer's handshake is over
    #[arg(long)]
    until_ready: bool,

    /// Stop after so many events
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,

    /// Stop after so long [default: at Ctrl-C]
    #[arg(long, short, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// Heartbeats: how often to ask a silent peer for a sign of life (ZMTP PING); one that gives none is disconnected
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    heartbeat: Option<Duration>,

    /// Let names and wildcards in URL also mean IPv6
    #[arg(long, short = '6')]
    ipv6: bool,

    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

fn parse_type(text: &str) -> Result<SocketType, String> {
    let kind = SocketType::from_name(text.to_ascii_uppercase().as_bytes());
    kind.ok_or_else(|| {
        let names = SocketType::ALL.map(|kind| kind.name().to_ascii_lowercase());
        format!("there is {}", names.join(", "))
    })
}

/// What has happened so far.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Counts {
    events: u64,
    /// Handshakes that succeeded.
    ready: u64,
    /// Of those, the peers that are still there.
    peers: u64,
    /// Handshakes that failed.
    refused: u64,
    /// Dials that came to nothing, and connections that could not be accepted.
    failed: u64,
    /// Ready peers that went.
    disconnected: u64,
    /// Events that came too fast to be kept.
    dropped: u64,
}

/// One line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Since the start.
    seconds: f64,
    event: &'a str,
    endpoint: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    peer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Of the next dial.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Last {
    seconds: f64,
    event: &'static str,
    counts: Counts,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    refuse_inproc(&args.url)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, interrupted.clone())
            .map_err(|error| Failure::Failed(format!("cannot watch for signals: {error}")))?;
    }
    let context = fabriq::context()?;
    let socket = context.socket(args.kind)?;
    socket.set_options(|options| {
        options.linger = Some(Duration::ZERO);
        options.ipv6 = args.ipv6;
        options.heartbeat_interval = args.heartbeat.unwrap_or_default();
        // As little as possible of what is meant for others.
        (options.send_hwm, options.receive_hwm) = (1, 1);
    })?;
    let monitor = socket.monitor()?;
    let begun = Instant::now();
    let mut counts = Counts::default();
    let opened = if args.bind { socket.bind(&args.url).map(drop) } else { socket.connect(&args.url) };
    opened?;
    let deadline = args.timeout.and_then(|timeout| begun.checked_add(timeout));
    let is_over = |counts: &Counts| {
        interrupted.load(Ordering::Relaxed)
            || args.count.is_some_and(|count| counts.events >= count)
            || args.until_ready && counts.ready > 0
            || deadline.is_some_and(|deadline| Instant::now() >= deadline)
    };
    while !is_over(&counts) {
        let left =
            deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()).min(LOOK));
        let Some(event) = monitor.next_timeout(left) else { continue };
        counts.add(&event);
        let seconds = begun.elapsed().as_secs_f64();
        print(&if args.json { json(&event, args.kind, seconds)? } else { text(&event, args.kind, seconds) })?;
    }
    counts.dropped = monitor.dropped();
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        print(&to_line(&Last { seconds, event: "end", counts })?)?;
    } else {
        print(&counts.text())?;
    }
    if args.until_ready && counts.ready == 0 && !interrupted.load(Ordering::Relaxed) {
        let within = units::time(args.timeout.unwrap_or_else(|| begun.elapsed()));
        return Err(Failure::TimedOut(format!("{}: no peer was ready within {within}", args.url)));
    }
    Ok(())
}

impl Counts {
    fn add(&mut self, event: &Event) {
        self.events += 1;
        match event.kind {
            EventKind::HandshakeSucceeded => {
                self.ready += 1;
                self.peers += 1;
            }
            EventKind::Disconnected(..) => {
                self.disconnected += 1;
                self.peers = self.peers.saturating_sub(1);
            }
            EventKind::HandshakeFailed(_) => self.refused += 1,
            EventKind::ConnectFailed(_) | EventKind::AcceptFailed(_) | EventKind::BindFailed(_) => {
                self.failed += 1
            }
            _ => {}
        }
    }

    fn text(&self) -> String {
        let Self { ready, peers, refused, failed, disconnected, dropped, .. } = self;
        let mut text = format!(
            "{peers} peers now: {ready} became ready, {disconnected} of them went; {refused} were refused, {failed} \
             connections failed"
        );
        if *dropped > 0 {
            let _ = write!(text, "; {dropped} events were not seen");
        }
        text
    }
}

/// The name of an event, its reason with a remedy, and when the next dial comes.
fn describe(event: &Event, kind: SocketType) -> (&'static str, Option<String>, Option<u64>) {
    let refused = |reason: DownReason| Some(format!("{reason}{}", remedy(kind, reason)));
    let (name, why, after_ms) = match &event.kind {
        EventKind::Listening(_) => ("listening", None, None),
        EventKind::BindFailed(error) => ("bind failed", Some(error.to_string()), None),
        EventKind::Accepted(_) => ("accepted", None, None),
        EventKind::AcceptFailed(errno) => {
            ("accept failed", Some(std::io::Error::from_raw_os_error(*errno).to_string()), None)
        }
        EventKind::ConnectDelayed => ("dialling", None, None),
        EventKind::ConnectFailed(error) => ("connect failed", Some(error.to_string()), None),
        EventKind::Connected(_) => ("connected", None, None),
        EventKind::ConnectRetried(pause) => ("dials again", None, Some(*pause)),
        EventKind::HandshakeSucceeded => ("ready", None, None),
        EventKind::HandshakeFailed(reason) => ("refused", refused(*reason), None),
        EventKind::Disconnected(reason, _) => ("disconnected", refused(*reason), None),
        EventKind::Lost(Loss::Packets(count)) => {
            ("lost", Some(format!("{count} packets, on the wire")), None)
        }
        EventKind::Lost(Loss::Messages(count)) => ("lost", Some(format!("{count} messages, here")), None),
        EventKind::Recovery(Recovery { packets, repaired, requested, lost, refused }) => {
            let counts = format!(
                "{packets} packets, {repaired} repaired, {requested} requested, {lost} lost, {refused} refused so far"
            );
            ("recovery", Some(counts), None)
        }
        EventKind::Closed => ("closed", None, None),
        EventKind::Stopped => ("stopped", None, None),
        _ => ("another event", None, None),
    };
    (name, why, after_ms)
}

fn text(event: &Event, kind: SocketType, seconds: f64) -> String {
    let (name, why, after_ms) = describe(event, kind);
    let mut line = format!("{seconds:9.3} s  {name:<14} {}", event.endpoint);
    if !event.peer.is_empty() && !event.endpoint.ends_with(&event.peer) {
        let _ = write!(line, "  peer {}", event.peer);
    }
    if let Some(why) = why {
        let _ = write!(line, "  {why}");
    }
    if let Some(pause) = after_ms {
        let _ = write!(line, "  in {pause} ms");
    }
    line
}

fn json(event: &Event, kind: SocketType, seconds: f64) -> Result<String, Failure> {
    let (name, why, after_ms) = describe(event, kind);
    to_line(&Line { seconds, event: name, endpoint: &event.endpoint, peer: &event.peer, why, after_ms })
}

fn to_line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))
}

fn print(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_known_by_its_name_in_any_case() {
        for kind in SocketType::ALL {
            assert_eq!(parse_type(kind.name()), Ok(kind));
            assert_eq!(parse_type(&kind.name().to_ascii_lowercase()), Ok(kind));
        }
        assert!(parse_type("socket").unwrap_err().contains("dealer"));
    }
}
