//! Measures fabriq beside libzmq, two Rust ZMTP engines and raw sockets, in interleaved rounds of one run; it is a
//! wall-clock comparison of whole peers, not a micro-benchmark and not a conformance test.
//!
//! ```text
//! apt-get install libzmq5
//! cargo run --release -p fabriq-benches --features peers --bin side-by-side -- all
//! ```
//!
//! That prints one table per measure: the median of each figure over the rounds that counted, and the ratio of the
//! leading figure to libzmq's and to the raw limit's. `--json` prints every round instead. One measure alone:
//! `latency`, `gaps`, `busy`, `push-pull`, `inproc`, `large`, `pub-sub`, `idle`. `--only libzmq,fabriq` narrows the
//! peers, `--rounds` and `--round-ms` set how long it takes. Without `--features peers` the two Rust engines are
//! left out; without libzmq.so.5 libzmq is.
//!
//! How a round works: the program starts itself twice for every peer, one process for each end (one process for
//! inproc), on loopback. It passes orders and figures through their standard input and output; each end exits after
//! its one round, so that no peer inherits another's threads or memory. In a round every peer is measured once, in
//! an order that rotates from round to round. If the round's raw limit lies more than 1.5 times off the median of raw
//! limits, the machine was disturbed: the round is discarded for all peers, said so, and measured again.
//!
//! The same for all: kernel socket buffers left at their defaults with autotuning, `TCP_NODELAY`, high-water marks of
//! 1000, one I/O thread where a peer has such a thread. Payloads carry a sequence number; PUSH/PULL fails on loss or
//! disorder, PUB/SUB on disorder (a publisher drops at its high-water mark, which `kept %` reports).

mod control;
mod fabriq_peer;
mod libzmq_peer;
mod measures;
#[cfg(feature = "peers")]
mod monocoque_peer;
#[cfg(feature = "peers")]
mod omq_peer;
mod payload;
mod peer;
mod raw_peer;
mod roles;
mod roles_async;
mod statistics;
mod usage;

use clap::{Parser, ValueEnum};
use std::process::ExitCode;

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
    /// Busy processes beside the peers in the measure `busy`.
    #[arg(long, default_value_t = 4)]
    busy: usize,
    /// Idle links in the large half of the measure `idle`.
    #[arg(long, default_value_t = 10_000)]
    links: usize,
    /// PUB waits at its high-water mark instead of dropping, where a peer has such an option (`ZMQ_XPUB_NODROP`).
    #[arg(long)]
    lossless: bool,
    /// Seed of the random gaps.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print every round and every figure as JSON instead of tables.
    #[arg(long)]
    json: bool,
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
    /// REQ/REP, 64 B, with other busy processes.
    Busy,
    /// PUSH/PULL, 64 B and 1 KiB, tcp.
    PushPull,
    /// PUSH/PULL, 64 B and 1 KiB, inproc.
    Inproc,
    /// PUSH/PULL, 1 MiB, tcp.
    Large,
    /// PUB to 32 SUB sockets, 64 B, tcp.
    PubSub,
    /// 100 and 10,000 idle links.
    Idle,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(task) = &arguments.task {
        control::run_task(task);
    }
    match measures::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}
