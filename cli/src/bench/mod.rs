//! `fabriq bench`: latency and throughput, on this host or between two. Reads the arguments and says who does what;
//! the measuring is in `latency` and `throughput`, the default run in `suite`.

mod baseline;
mod cluster;
mod compare;
mod html;
mod latency;
mod multicast;
mod payload;
mod peer;
mod report;
mod suite;
mod table;
mod throughput;
mod window;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use fabriq::{Context, Message, Socket, SocketType};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, note};
use crate::units::{self, parse_duration, parse_rate, parse_size, parse_span};
use crate::wire::{Connection, Opening, refuse_inproc};
use report::{Output, Report};

/// Sizes when none are given, in bytes.
const SIZES: [usize; 4] = [64, 1 << 10, 64 << 10, 1 << 20];

/// How long to measure, and to run before that, when nothing is said.
const DURATION: Duration = Duration::from_millis(500);
const WARMUP: Duration = Duration::from_millis(100);

/// How long the other side may be silent in the middle of a run.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the last messages of a run may take to go.
const LINGER: Duration = Duration::from_secs(5);

/// What may wait in the queues of a large-message run, in bytes; small messages wait by ZeroMQ's default mark.
const QUEUED_BYTES: usize = 64 << 20;
const QUEUED_MESSAGES: usize = 1000;

/// The same where a rate is set for what is sent.
const PACED_BYTES: usize = 4 << 20;

/// Bytes sent or received between two looks at the clock, which takes as long as a small message.
const BYTES_PER_LOOK: usize = 16 << 10;

const EXAMPLES: &str = "\
Examples:
  fabriq bench                                       all transports of this host
  fabriq bench --size 64 --size 8K --duration 2s     other sizes, longer
  fabriq bench --json --html result.html > result.json
  fabriq bench report result.json > result.html      the same page again
  fabriq bench compare before.json after.json        what got slower, noise taken into account
  fabriq bench latency --bind 'tcp://*:5555'         on one host,
  fabriq bench latency --connect tcp://host:5555     and on the other: prints one-way latency
  fabriq bench throughput --bind 'tcp://*:5555'      on one host: prints the rates
  fabriq bench throughput --connect tcp://host:5555  and on the other: sends
  fabriq bench throughput --bind 'epgm://eth0;239.192.1.1:5555?rate_kbit=1000000'
                                                     by multicast, on an interface; the other with the same URL
  srun -N4 fabriq bench cluster --out result         every topology between all ranks that a launcher has started

Latency is REQ/REP, half of a round trip; throughput is PUSH/PULL, as the receiver sees it. Every message carries a \
sequence number and a hash, and every one that arrives is verified; a mismatch ends the run with exit code 4. By \
multicast both are PUB/SUB: there a receiver cannot hold the sender back, and what it misses is counted; the rate is the \
URL's rate_kbit.

Over ipc, tcp, verbs and ofi the default run also measures what the wire itself can do: loops on raw sockets, raw verbs \
and raw libfabric, both ends polling, between two processes as well, with the same messages and checks, directly after \
each figure of fabriq's. \
`x raw` is fabriq's figure by that one. Beside p50, 1.00 is as fast as the wire and 2.00 takes twice as long (what a \
context saves by sleeping when nothing comes is in it); beside GB/s, 1.00 is as fast and 0.50 half as fast. The raw \
stream over verbs and ofi is one send for each message, or READ from 16 KiB: many small messages of fabriq's share a \
packet, so they may exceed 1.00. perftest's tools are run beside where they are installed (apt-get install perftest).";

/// Measure latency and throughput: of every transport of this host, or between two processes or hosts
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    between: Option<Between>,

    #[command(flatten)]
    load: LoadArgs,

    /// Only this transport, as in inproc or tcp; repeatable [default: all]
    #[arg(long = "transport", value_name = "SCHEME")]
    transports: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Also write a report with plots: one page for any browser, which loads nothing
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Between {
    /// Measure one-way latency: the side with --connect sends, measures and prints, the other sends back
    Latency(PairArgs),
    /// Measure throughput: the side with --connect sends, the other receives, measures and prints
    Throughput(PairArgs),
    Cluster(Box<cluster::Args>),
    Report(html::Args),
    Compare(compare::Args),
    #[command(hide = true)]
    Baseline(baseline::Args),
}

/// What is sent.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
struct LoadArgs {
    /// Message size, as in 64, 1KiB or 1M; repeatable [default: 64, 1KiB, 64KiB and 1MiB]
    #[arg(long = "size", value_name = "SIZE", value_parser = parse_size)]
    sizes: Vec<usize>,

    /// How long to measure each size [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    duration: Option<Duration>,

    /// How long to run each size before measuring [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warmup: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct PairArgs {
    /// Wait at this URL for the other side; the real endpoint is said on stderr
    #[arg(long, value_name = "URL", required_unless_present = "connect")]
    bind: Option<String>,

    /// Connect to the side that waits, and send
    #[arg(long, value_name = "URL", conflicts_with = "bind")]
    connect: Option<String>,

    #[command(flatten)]
    load: LoadArgs,

    /// Open loop: send so many messages per second, each at its intended time whether or not earlier ones have come
    /// back, and count latency from that time [default: closed loop, each after the one before]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Longest silence of the other side [default: no limit until it is there, then 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// Say on stderr what happens to the connection
    #[arg(long, short)]
    verbose: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Also write a report with plots: one page for any browser, which loads nothing
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// We are the other process of a run of our own: print the endpoint alone, and end with standard input
    #[arg(long, hide = true)]
    as_peer: bool,
}

/// What to send, for one run.
#[derive(Debug, Clone)]
struct Load {
    sizes: Vec<usize>,
    duration: Duration,
    warmup: Duration,
    rate: Option<f64>,
}

impl Load {
    fn new(args: LoadArgs, rate: Option<f64>) -> Result<Self, Failure> {
        let sizes = if args.sizes.is_empty() { SIZES.to_vec() } else { args.sizes };
        sizes.iter().try_for_each(|&size| payload::check_size(size))?;
        let [duration, warmup] = [args.duration.unwrap_or(DURATION), args.warmup.unwrap_or(WARMUP)];
        Ok(Self { sizes, duration, warmup, rate })
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let is_peer = match &args.between {
        Some(Between::Latency(pair) | Between::Throughput(pair)) => pair.as_peer,
        Some(Between::Baseline(args)) => args.as_peer,
        // Of all ranks of a cluster, the first says it.
        Some(Between::Report(_) | Between::Compare(_) | Between::Cluster(_)) => true,
        None => false,
    };
    if !is_peer {
        note_debug_build();
    }
    match args.between {
        None => {
            let load = Load::new(args.load, None)?;
            suite::run(load, &args.transports, Output::new(args.json, args.html)?)
        }
        Some(Between::Latency(args)) => run_pair(args, Kind::Latency),
        Some(Between::Throughput(args)) => run_pair(args, Kind::Throughput),
        Some(Between::Cluster(args)) => cluster::run(&args),
        Some(Between::Report(args)) => html::run(&args),
        Some(Between::Compare(args)) => compare::run(&args),
        Some(Between::Baseline(args)) => baseline::serve(args),
    }
}

/// Says when figures are not those of the program that users have.
fn note_debug_build() {
    if cfg!(debug_assertions) {
        note("this is a debug build, several times slower than `cargo run --release -- bench`");
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Latency,
    Throughput,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
        }
    }

    /// The socket of one side.
    fn socket_type(self, binds: bool, open_loop: bool, one_way: bool) -> SocketType {
        match (self, binds) {
            // Latency has two sockets at each end then.
            (_, true) if one_way => SocketType::Sub,
            (_, false) if one_way => SocketType::Pub,
            (Self::Latency, true) => SocketType::Rep,
            // A REQ waits for each reply, and that is what an open loop must not do.
            (Self::Latency, false) if open_loop => SocketType::Dealer,
            (Self::Latency, false) => SocketType::Req,
            (Self::Throughput, true) => SocketType::Pull,
            (Self::Throughput, false) => SocketType::Push,
        }
    }
}

fn run_pair(args: PairArgs, kind: Kind) -> Result<(), Failure> {
    if args.as_peer {
        end_with_stdin();
    }
    let binds = args.bind.is_some();
    let Some(url) = args.bind.clone().or_else(|| args.connect.clone()) else {
        return Err(Failure::Usage("say --bind URL on one side and --connect URL on the other".to_owned()));
    };
    refuse_inproc(&url)?;
    if binds && (args.load != LoadArgs::default() || args.rate.is_some()) {
        return Err(Failure::Usage(
            "--size, --duration, --warmup and --rate belong to the side with --connect; this one follows it"
                .to_owned(),
        ));
    }
    if args.html.is_some() && binds == (kind == Kind::Latency) {
        return Err(Failure::Usage("--html belongs to the other side, which has the figures".to_owned()));
    }
    let load = Load::new(args.load.clone(), args.rate)?;
    let output = Output::new(args.json, args.html.clone())?;
    let one_way = multicast::is_one_way(&url);
    if one_way && kind == Kind::Latency {
        return run_ping_pong(&url, binds, &load, &args, output);
    }
    let context = fabriq::context()?;
    let kind_of_socket = kind.socket_type(binds, load.rate.is_some(), one_way);
    let socket = new_socket(&context, kind_of_socket)?;
    let how = Opening { bind: binds, quiet: args.as_peer, verbose: args.verbose, timeout: args.timeout };
    let mut connection = Connection::open(context, socket, &url, how)?;
    if args.as_peer && binds {
        crate::info::print(&format!("{}\n", connection.url))?;
    }
    let patience = args.timeout.unwrap_or(PATIENCE);
    let progress = Progress::new(if binds || args.as_peer { 0 } else { load.sizes.len() });
    let mut report = Report::new();
    match (kind, binds) {
        (Kind::Latency, true) => {
            let echoed = latency::echo(&mut connection, patience)?;
            connection.finish(false)?;
            if !args.as_peer {
                note(&format!("sent {echoed} messages back; the connecting side has the figures"));
            }
            return Ok(());
        }
        (Kind::Latency, false) => {
            latency::greet(&mut connection, patience)?;
            for &size in &load.sizes {
                progress.step(&format!("latency, {}", units::size(size)));
                report.latency.push(latency::measure(&connection, &load, size)?);
            }
            latency::dismiss(&connection)?;
            report.load = Some((&load).into());
        }
        (Kind::Throughput, true) => {
            let done = |row: &report::Throughput| progress.step(&units::size(row.size));
            report.throughput = throughput::receive(&mut connection, patience, done)?;
        }
        (Kind::Throughput, false) => {
            let sent = throughput::send(&mut connection, &load, patience, |size| {
                progress.step(&format!("sending, {}", units::size(size)));
            })?;
            connection.finish(true)?;
            progress.clear();
            if !args.as_peer {
                note(&format!("sent {sent} messages; the binding side has the figures"));
            }
            return Ok(());
        }
    }
    progress.clear();
    output.put(&report)
}

/// Latency over a wire that goes one way.
fn run_ping_pong(
    url: &str,
    binds: bool,
    load: &Load,
    args: &PairArgs,
    output: Output,
) -> Result<(), Failure> {
    if load.rate.is_some() {
        return Err(Failure::Usage(format!(
            "{url}: --rate measures latency where messages go both ways; leave it out, or measure tcp://"
        )));
    }
    let (context, patience) = (fabriq::context()?, args.timeout.unwrap_or(PATIENCE));
    let mut end = multicast::End::open(&context, url, !binds, args.timeout)?;
    if binds {
        if args.as_peer {
            crate::info::print(&format!("{url}\n"))?;
        } else {
            note(&format!("bound {url}"));
        }
        let echoed = end.echo(patience)?;
        end.finish();
        if !args.as_peer {
            note(&format!("sent {echoed} messages back; the connecting side has the figures"));
        }
        return Ok(());
    }
    let (progress, mut report) = (Progress::new(load.sizes.len()), Report::new());
    end.greet(patience)?;
    for &size in &load.sizes {
        progress.step(&format!("latency, {}", units::size(size)));
        report.latency.push(end.measure(load, size)?);
    }
    end.dismiss()?;
    report.load = Some(load.into());
    progress.clear();
    output.put(&report)
}

/// As an argument for another process of ours.
fn nanoseconds(time: Duration) -> String {
    format!("{}ns", time.as_nanos())
}

/// Ends this process when the one that started it has closed our standard input, as its death does.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
}

// ---------------------------------------------------------------------------------------------------------------
// What the two sides say to each other beside the data

/// First part of every control message; data messages have one part only.
const MARK: &str = "fabriq bench 2";

/// Second part of a control message, as JSON.
#[derive(Debug, Serialize, Deserialize)]
enum Control {
    /// Are you there? Comes back as it is.
    Hello,
    /// What follows are messages of this size, from a ring of so many; measure them after so long.
    Begin { size: usize, slots: u64, warmup_ns: u64 },
    /// So many messages have been sent since `Begin`.
    End { sent: u64 },
    /// That was all.
    Done,
}

impl Control {
    fn message(&self) -> Result<Message, Failure> {
        let json = serde_json::to_string(self)
            .map_err(|error| Failure::Failed(format!("cannot write a control message: {error}")))?;
        let mut message = Message::new(MARK);
        message.push_back(json);
        Ok(message)
    }

    /// `None`: it is data.
    fn parse(message: &Message) -> Option<Result<Self, Failure>> {
        if message.len() == 1 || message.part(0).is_none_or(|mark| mark != MARK) {
            return None;
        }
        Some(serde_json::from_slice(message.body()).map_err(|_| {
            Failure::Failed(
                "the other side sends what this version does not know; use one version".to_owned(),
            )
        }))
    }
}

/// Bounds the memory in the queues of a run with messages of `size` bytes.
fn bound_queues(connection: &Connection, size: usize) -> Result<(), Failure> {
    // What a publisher has queued goes at its rate, and the run is over only then.
    let bytes = if connection.socket.socket_type() == SocketType::Pub { PACED_BYTES } else { QUEUED_BYTES };
    let mark = (bytes / size.max(1)).clamp(4, QUEUED_MESSAGES) as u32;
    Ok(connection.socket.set_options(|options| (options.send_hwm, options.receive_hwm) = (mark, mark))?)
}

fn new_socket(context: &Context, kind: SocketType) -> Result<Socket, Failure> {
    let socket = context.socket(kind)?;
    socket.set_options(|options| {
        options.linger = Some(LINGER);
        // A PUB that drops would be measured by how fast it throws away.
        options.xpub_nodrop = true;
    })?;
    if kind == SocketType::Sub {
        socket.subscribe("")?;
    }
    Ok(socket)
}

/// Opens a socket of a run within this program.
fn open_quietly(
    context: &Context,
    kind: SocketType,
    url: &str,
    bind: bool,
    patience: impl Into<Option<Duration>>,
) -> Result<Connection, Failure> {
    let how = Opening { bind, quiet: true, verbose: false, timeout: patience.into() };
    Connection::open(context.clone(), new_socket(context, kind)?, url, how)
}

// ---------------------------------------------------------------------------------------------------------------
// Progress

/// A progress bar on stderr; nothing when that is no terminal.
#[derive(Debug)]
struct Progress(ProgressBar);

impl Progress {
    /// For so many steps; none: no bar.
    fn new(steps: usize) -> Self {
        if steps == 0 {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(steps as u64 + 1);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            // Rarely, since it wakes a thread beside those that are measured.
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        Self(bar)
    }

    /// The next step begins.
    fn step(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.inc(1);
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
