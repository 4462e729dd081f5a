//! Measures fabriq over ofi:// beside raw libfabric on the same provider, and beside fi_pingpong, ucx_perftest and tcp://, in
//! interleaved rounds of one run, over loopback or shared memory. `side-by-side` is the same over plain TCP, and says how a round
//! works.
//!
//! ```text
//! apt-get install libfabric1 libfabric-bin ucx-utils libzmq5
//! cargo run --release -p fabriq-benches --bin ofi-side-by-side -- --markdown
//! ```
//!
//! The raw limit has the same processes, sizes, payloads, checks and clock as fabriq, and its endpoints from the same safe layer
//! (`transport_ofi::device`): `raw-polled` spins on its completion queue, `raw-blocking` sleeps on the provider's descriptor,
//! where there is one. Large messages are READ by the receiver, as fabriq's are; `raw-sends` sends them. fi_pingpong has no
//! medians: its means say little where processors are shared.

// Each of the programs uses its own part of what they share.
#[allow(dead_code)]
mod control;
mod fabriq_loans;
#[allow(dead_code)]
mod fabriq_peer;
mod interleave;
mod libzmq_peer;
#[allow(dead_code)]
mod measures;
mod ofi_measures;
mod ofi_peer;
mod ofi_tool_peer;
mod payload;
#[allow(dead_code)]
mod peer;
mod random;
mod report;
mod roles;
mod roles_async;
mod round;
mod statistics;
mod usage;

pub(crate) use ofi_measures::entries;

use clap::{Parser, ValueEnum};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What every fallible function here returns: this is a program, so an error is only ever printed.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measure fabriq beside raw libfabric in one run.
#[derive(Debug, Parser)]
#[command(name = "ofi-side-by-side")]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    measures: Vec<Choice>,
    /// Rounds that must count, for each measure.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one peer is measured in one round, in milliseconds.
    #[arg(long, default_value_t = 400)]
    round_ms: u64,
    /// Only these peers, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these providers, separated by commas: tcp, tcp;ofi_rxm, net, shm.
    #[arg(long, value_delimiter = ',')]
    providers: Vec<String>,
    /// Of nothing yet.
    #[arg(long, default_value_t = 1, hide = true)]
    seed: u64,
    /// How long all of it may take, in seconds: as it runs out, rounds are left out, down to two of each measure.
    #[arg(long, default_value_t = 420)]
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
    /// PUSH/PULL, 8 KiB, beside fi_send.
    #[value(name = "send-8k")]
    Send8k,
    /// PUSH/PULL, 64 KiB, beside fi_read.
    #[value(name = "read-64k")]
    Read64k,
    /// PUSH/PULL, 1 MiB, beside fi_read.
    #[value(name = "read-1m")]
    Read1m,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(task) = &arguments.task {
        control::run_task(task);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ofi-side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("ofi-side-by-side: built without --release: the figures mean nothing");
    }
    for name in &arguments.providers {
        if !ofi_measures::providers().any(|known| known == name) {
            let known: Vec<_> = ofi_measures::providers().collect();
            return Err(format!("no provider {name} is measured; known are {}", known.join(", ")).into());
        }
    }
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
    let measures = ofi_measures::measures(arguments);
    let (began, count) = (Instant::now(), measures.len() as u32);
    let mut all = Vec::new();
    for (at, measure) in measures.into_iter().enumerate() {
        let until = began + Duration::from_secs(arguments.budget_s) * (at as u32 + 1) / count;
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
