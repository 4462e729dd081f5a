//! Measures fabriq beside libzmq, two Rust ZMTP engines and raw sockets, in interleaved rounds of one run; it is a
//! wall-clock comparison of whole peers, not a micro-benchmark and not a conformance test.
//!
//! ```text
//! apt-get install libzmq5
//! cargo run --release -p fabriq-benches --features peers --bin side-by-side -- all
//! ```
//!
//! That prints one table per measure: the median of each figure over the rounds that counted, and the ratio of the
//! leading figure to libzmq's and to the raw limit's; then one line for each comparison that fabriq is judged by.
//! `--markdown` prints the same for docs/measurements.md, `--json` every round. One measure alone: `latency`, `gaps`,
//! `busy`, `push-pull`, `inproc`, `large`, `ipc-latency`, `ipc-push-pull`, `ipc-64k`, `fan-in`, `fan-out`, `poll`, `pub-sub`,
//! `idle`. `--only libzmq,fabriq` narrows the peers, `--rounds` and `--round-ms` set how long it takes, and `--budget-s` how
//! long at most. Without `--features peers` the two Rust engines are left out; without libzmq.so.5 libzmq is.
//!
//! How a round works: the program starts itself twice for every peer, one process for each end (one process for
//! inproc), on loopback. It passes orders and figures through their standard input and output; each end exits after
//! its one round, so that no peer inherits another's threads or memory. In a round every peer is measured once, in
//! an order that rotates from round to round, and the raw limit before and after all others. If these two readings lie
//! more than 1.5 times apart, or off the median of all readings, the machine was disturbed: the round is discarded for
//! all peers, said so, and measured again while there is time.
//!
//! The same for all: kernel socket buffers left at their defaults with autotuning, `TCP_NODELAY`, high-water marks of
//! 1000 (or 64 MiB, if that is less), one I/O thread where a peer has such a thread, no thread pinned (the processes inherit what `taskset` says of
//! this one). Payloads carry a sequence number, and a round fails on loss or disorder. PUB is paced, since a publisher
//! drops at its high-water mark and would be measured by how fast it throws away: it stays within a window of the slowest
//! of its subscribers, who tell it over a PUSH socket of the same peer how far they all are; a message counts once it has
//! come to every one of them.
//!
//! `fan-in` and `fan-out` have one process for each of the four at the many end. In `fan-in` each sender counts in a lane of its
//! own, and the PULL takes each lane's messages once and in order. In `fan-out` a PUSH may leave out whom it finds full, so each
//! PULL sees its numbers rise, and what all of them together have had is what was sent, by their count and by a digest. The
//! rate is the sum of the four, each in a window of its own from its first message on.
//!
//! `poll` is over tcp, since plain descriptors are among the peers, and of two processes, so that no peer wakes itself: one binds
//! 2,000 PULL sockets and waits for all of them, the other sends to one, by the seed, and has its answer by a socket that nobody
//! else waits for. The figure is the whole round trip; beside it stand that with a single socket and the difference, which is what
//! the others cost, at either end: the sender's connection is a random one of 2,000 as well, and in no cache. `fabriq` and
//! libzmq wait by `poll` and zmq_poll, which take all sockets each time, `raw-poll2` by poll(2), which does as well;
//! `fabriq-poller` by `Poller`, and `raw-blocking` by epoll(7), which have them registered.

mod control;
mod fabriq_peer;
mod interleave;
mod libzmq_peer;
mod measures;
#[cfg(feature = "peers")]
mod monocoque_peer;
#[cfg(feature = "peers")]
mod omq_peer;
mod payload;
mod peer;
mod polls;
mod random;
mod raw_peer;
mod report;
mod roles;
mod roles_async;
mod round;
mod statistics;
mod tcp_measures;
mod tcp_peers;
mod usage;
mod waits;

pub(crate) use tcp_peers::entries;

use clap::{Parser, ValueEnum};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What every fallible function here returns: this is a program, so an error is only ever printed.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measure ZeroMQ peers side by side in one run.
#[derive(Debug, Parser)]
#[command(name = "side-by-side")]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    measures: Vec<Choice>,
    /// Rounds that must count, for each measure.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long one peer is measured in one round, in milliseconds.
    #[arg(long, default_value_t = 400)]
    round_ms: u64,
    /// Only these peers, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Busy threads beside the peers in the measure `busy`.
    #[arg(long, default_value_t = 4)]
    busy: usize,
    /// Idle links in the large half of the measure `idle`.
    #[arg(long, default_value_t = 10_000)]
    links: usize,
    /// Seed of the random gaps, and of the sockets sent to in the measure `poll`.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long all of it may take, in seconds: as it runs out, rounds are left out, down to two of each measure.
    #[arg(long, default_value_t = 540)]
    budget_s: u64,
    /// Print every round and every figure as JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Print the tables as Markdown, the summary first.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// One end of one round (internal: the program starts itself with it).
    #[arg(long, hide = true)]
    task: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    All,
    /// REQ/REP, 64 B, back to back.
    Latency,
    /// REQ/REP, 64 B, at random gaps of 0 to 5 ms.
    Gaps,
    /// REQ/REP, 64 B, with busy threads of other processes.
    Busy,
    /// PUSH/PULL, 64 B, tcp.
    PushPull,
    /// PUSH/PULL, 64 B, inproc.
    Inproc,
    /// PUSH/PULL, 1 MiB, tcp.
    Large,
    /// REQ/REP, 64 B, back to back, ipc.
    IpcLatency,
    /// PUSH/PULL, 64 B, ipc.
    IpcPushPull,
    /// PUSH/PULL, 64 KiB, ipc.
    #[value(name = "ipc-64k")]
    Ipc64k,
    /// 4 PUSH processes to one PULL, 64 B, tcp.
    FanIn,
    /// One PUSH to 4 PULL processes, 64 B, tcp.
    FanOut,
    /// A message to one of 2,000 PULL sockets that are waited for at once, 64 B, tcp.
    Poll,
    /// PUB to 32 SUB sockets, 64 B, tcp.
    PubSub,
    /// 100 and 10,000 idle links.
    Idle,
}

impl Choice {
    fn is_ipc(self) -> bool {
        matches!(self, Self::IpcLatency | Self::IpcPushPull | Self::Ipc64k)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(task) = &arguments.task {
        control::run_task(task);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("side-by-side: built without --release: the figures mean nothing");
    }
    usage::raise_file_limit();
    let (mut entries, missing) = entries();
    for name in &arguments.only {
        if !entries.iter().any(|entry| entry.name == name) {
            return Err(format!("no peer {name} here; missing: {missing:?}").into());
        }
    }
    if !arguments.only.is_empty() {
        entries.retain(|entry| arguments.only.iter().any(|name| name == entry.name));
    }
    let setting = report::Setting::new(missing);
    let plain = !arguments.json && !arguments.markdown;
    if plain {
        print!("{}", setting.text(arguments));
    }
    let measures = tcp_measures::measures(arguments);
    // Each measure has its share of the budget, and what those before it left over.
    let seconds = |measure: &measures::Measure| measure.seconds(arguments) * measure.rounds as f64;
    let total: f64 = measures.iter().map(seconds).sum();
    let began = Instant::now();
    let mut through = 0.0;
    let mut all = Vec::new();
    for measure in measures {
        through += seconds(&measure);
        let until = began + Duration::from_secs(arguments.budget_s).mul_f64(through / total);
        let results = interleave::run(&measure, &entries, until, |entry, round| {
            round::play(&measure, arguments, Ipv4Addr::LOCALHOST.into(), entry, round)
        });
        if plain {
            print!("{}", report::plain_measure(&measure, &results));
        }
        all.push((measure, results));
    }
    if plain {
        print!("{}", report::plain_summary(&all));
    } else if arguments.markdown {
        print!("{}", report::markdown(arguments, &setting, &all));
    } else {
        println!("{}", report::json(arguments, &setting, &all)?);
    }
    Ok(())
}
