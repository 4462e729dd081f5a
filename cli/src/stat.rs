//! `fabriq stat`: how a group's publishers are heard here, live: messages, repairs, requests, losses. Keeps no message.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fabriq::{DownReason, Error, Event, EventKind, Loss, Monitor, Recovery, Socket, SocketType};
use serde::Serialize;

use crate::failure::{Failure, note};
use crate::info::print;
use crate::units::{self, parse_duration};
use crate::wire::refuse_inproc;

const EXAMPLES: &str = "\
Examples:
  fabriq stat 'epgm://eth0;239.192.1.1:5555'             a report each second until Ctrl-C
  fabriq stat -n 10 --json 'epgm://eth0;239.192.1.1:5555' | jq .lost

It subscribes to everything and counts. The line of a publisher says what this host heard of it since it came: packets of \
data, those among them that came as repairs, packets that were asked for (NAKs), packets lost on the wire, packets ignored \
since its publisher cannot have sent them, messages \
dropped here because this program was too slow. The line `all` has the messages of the last interval. Over tcp:// and \
other reliable wires there is nothing to repair, and messages are all there is. A publisher's own counters: \
`fabriq pub --verbose`.";

/// Listen to publishers and report messages, repairs, requests for repairs and losses, live
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Endpoint URL, for example epgm://eth0;239.192.1.1:5555
    url: String,

    /// Listen at URL instead of connecting to it; the same for multicast
    #[arg(long, short)]
    bind: bool,

    /// Time between reports
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Stop after so many reports
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,

    /// Print a line of JSON per report
    #[arg(long)]
    json: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("takes more than no time".to_owned()),
        interval => Ok(interval),
    }
}

/// One publisher, or all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Counts {
    packets: u64,
    repaired: u64,
    requested: u64,
    lost: u64,
    refused: u64,
    /// In messages.
    dropped: u64,
}

impl Counts {
    fn recovered(&mut self, recovery: Recovery) {
        let Recovery { packets, repaired, requested, lost, refused } = recovery;
        // What is lost was said before, at once.
        let lost = self.lost.max(lost);
        *self = Self { packets, repaired, requested, lost, refused, dropped: self.dropped };
    }

    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.repaired += other.repaired;
        self.requested += other.requested;
        self.lost += other.lost;
        self.refused += other.refused;
        self.dropped += other.dropped;
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    seconds: f64,
    messages_per_second: f64,
    megabytes_per_second: f64,
    #[serde(flatten)]
    all: Counts,
    publishers: &'a BTreeMap<String, Counts>,
}

/// What is known.
#[derive(Debug, Default)]
struct Ledger {
    publishers: BTreeMap<String, Counts>,
    /// Of those that have gone.
    gone: Counts,
    messages: u64,
    bytes: u64,
}

impl Ledger {
    fn heard(&mut self, event: &Event) -> Result<(), Failure> {
        let counts = |ledger: &mut Self, change: &dyn Fn(&mut Counts)| {
            change(ledger.publishers.entry(event.endpoint.clone()).or_default());
        };
        match &event.kind {
            EventKind::HandshakeSucceeded => counts(self, &|_| {}),
            EventKind::Recovery(recovery) => counts(self, &|counts| counts.recovered(*recovery)),
            EventKind::Lost(Loss::Packets(packets)) => counts(self, &|counts| counts.lost += packets),
            EventKind::Lost(Loss::Messages(messages)) => counts(self, &|counts| counts.dropped += messages),
            EventKind::Disconnected(..) => {
                if let Some(counts) = self.publishers.remove(&event.endpoint) {
                    self.gone.add(&counts);
                }
            }
            EventKind::HandshakeFailed(reason @ DownReason::Violation(_)) => {
                return Err(Failure::Failed(format!(
                    "{}: a publisher was refused: {reason}",
                    event.endpoint
                )));
            }
            _ => {}
        }
        Ok(())
    }

    fn report(&mut self, since: Duration, interval: Duration) -> Report<'_> {
        let mut all = self.gone.clone();
        self.publishers.values().for_each(|counts| all.add(counts));
        let per_second = |count: u64| count as f64 / interval.as_secs_f64();
        Report {
            seconds: since.as_secs_f64(),
            messages_per_second: per_second(std::mem::take(&mut self.messages)),
            megabytes_per_second: per_second(std::mem::take(&mut self.bytes)) / 1e6,
            all,
            publishers: &self.publishers,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    refuse_inproc(&args.url)?;
    let context = fabriq::context()?;
    let socket = context.socket(SocketType::Sub)?;
    let monitor = socket.monitor()?;
    socket.subscribe("")?;
    if args.bind {
        note(&format!("bound {}", socket.bind(&args.url)?));
    } else {
        socket.connect(&args.url)?;
    }
    if !args.json {
        print(
            &(line("", ["packets", "repaired", "asked for", "lost", "refused", "dropped", "msg/s", "MB/s"])
                + "\n"),
        )?;
    }
    let (start, mut ledger, mut reports) = (Instant::now(), Ledger::default(), 0);
    let mut last = start;
    while args.count.is_none_or(|count| reports < count) {
        take(&socket, &monitor, &mut ledger, last + args.interval)?;
        let now = Instant::now();
        let report = ledger.report(now - start, now - last);
        print(&if args.json { json(&report)? } else { table(&report) })?;
        last = now;
        reports += 1;
    }
    Ok(())
}

/// Counts until then.
fn take(socket: &Socket, monitor: &Monitor, ledger: &mut Ledger, until: Instant) -> Result<(), Failure> {
    loop {
        while let Some(event) = monitor.try_next() {
            ledger.heard(&event)?;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        match socket.recv_timeout(left) {
            Ok(message) => {
                ledger.messages += 1;
                ledger.bytes += message.parts().map(|part| part.len() as u64).sum::<u64>();
            }
            Err(Error::Again | Error::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn json(report: &Report<'_>) -> Result<String, Failure> {
    let json = serde_json::to_string(report);
    json.map(|json| json + "\n").map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))
}

fn table(report: &Report<'_>) -> String {
    let mut text = String::new();
    let counts = |Counts { packets, repaired, requested, lost, refused, dropped }: &Counts| {
        [packets, repaired, requested, lost, refused, dropped].map(u64::to_string)
    };
    for (name, of) in report.publishers {
        let [packets, repaired, requested, lost, refused, dropped] = counts(of);
        let cells =
            [&packets, &repaired, &requested, &lost, &refused, &dropped, "", ""].map(|cell: &str| cell);
        let _ = writeln!(text, "{}", line(source(name), cells).trim_end());
    }
    let [packets, repaired, requested, lost, refused, dropped] = counts(&report.all);
    let rate = units::per_second(report.messages_per_second);
    let bytes = units::three_digits(report.megabytes_per_second);
    let name = format!("{:.0} s, all", report.seconds);
    let cells = [&packets, &repaired, &requested, &lost, &refused, &dropped, &rate, &bytes]
        .map(|cell: &String| &**cell);
    let _ = writeln!(text, "{}", line(&name, cells));
    text
}

/// Of a publisher's name its own part: host and session.
fn source(name: &str) -> &str {
    name.split_once('#').map_or(name, |(_, source)| source)
}

fn line(name: &str, cells: [&str; 8]) -> String {
    cells.iter().fold(format!("{name:<34}"), |line, cell| line + &format!(" {cell:>10}"))
}
