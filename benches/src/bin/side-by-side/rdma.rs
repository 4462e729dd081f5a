//! Measures fabriq over verbs:// beside raw RDMA verbs on the same device, and beside perftest and tcp:// on its network
//! interface, in interleaved rounds of one run. `side-by-side` is the same over loopback TCP, and says how a round works.
//!
//! ```text
//! cargo build --release -p fabriq-benches --bin rdma-side-by-side
//! ci/soft-roce --timeout 600 target/release/rdma-side-by-side --markdown     # or itself, where there is a device
//! ```
//!
//! The raw limit has the same processes, sizes, payloads, checks and clock as fabriq, and an RC connection by RDMA CM with
//! the same inline size: `raw-polled` spins on its completion queue, `raw-blocking` sleeps on the completion channel. On
//! soft-RoCE, and all the more in an emulated machine, absolute figures mean nothing; ratios within one run may.

// Each of the two programs uses its own part of what they share.
#[allow(dead_code)]
mod control;
mod fabriq_loans;
#[allow(dead_code)]
mod fabriq_peer;
mod interleave;
mod libzmq_peer;
#[allow(dead_code)]
mod measures;
mod payload;
#[allow(dead_code)]
mod peer;
mod perftest_peer;
mod random;
mod rdma_measures;
mod report;
mod roles;
mod roles_async;
mod round;
mod statistics;
mod usage;
mod verbs_peer;

pub(crate) use rdma_measures::entries;

use clap::{Parser, ValueEnum};
use round::Figures;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What every fallible function here returns: this is a program, so an error is only ever printed.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measure fabriq beside raw verbs on one RDMA device in one run.
#[derive(Debug, Parser)]
#[command(name = "rdma-side-by-side")]
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
    /// Address that all bind: of the RDMA device's interface.
    #[arg(long)]
    host: Option<IpAddr>,
    /// Of nothing yet.
    #[arg(long, default_value_t = 1, hide = true)]
    seed: u64,
    /// How long all of it may take, in seconds: as it runs out, rounds are left out, down to two of each measure.
    #[arg(long, default_value_t = 300)]
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
    /// PUSH/PULL, 64 B.
    Stream,
    /// PUSH/PULL, 64 KiB, beside RDMA READ.
    #[value(name = "read-64k")]
    Read64k,
    /// PUSH/PULL, 1 MiB, beside RDMA READ.
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
            eprintln!("rdma-side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("rdma-side-by-side: built without --release: the figures mean nothing");
    }
    if let Some(why) = transport_verbs::why_unavailable() {
        return Err(why.to_string().into());
    }
    let host = arguments.host.or_else(transport_verbs::device_address);
    let host = host.ok_or("no RDMA device has an IPv4 address; name one with --host")?;
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
    let measures = rdma_measures::measures(arguments);
    let (began, count) = (Instant::now(), measures.len() as u32);
    let mut all = Vec::new();
    for (at, measure) in measures.into_iter().enumerate() {
        let until = began + Duration::from_secs(arguments.budget_s) * (at as u32 + 1) / count;
        let results = interleave::run(&measure, &entries, until, |entry, round| {
            let before = Counters::read();
            let mut figures = round::play(&measure, arguments, host, entry, round)?;
            Counters::read().add_since(&before, &mut figures);
            Ok(figures)
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

/// What the devices have counted, all of them together.
#[derive(Debug, Clone, Copy)]
struct Counters {
    sent_packets: f64,
    not_ready: f64,
}

impl Counters {
    fn read() -> Self {
        let sum = |name: &str| -> f64 {
            let devices = std::fs::read_dir("/sys/class/infiniband").into_iter().flatten().flatten();
            let counters = devices.map(|device| device.path().join("ports/1/hw_counters").join(name));
            let texts = counters.filter_map(|path| std::fs::read_to_string(path).ok());
            texts.filter_map(|text| text.trim().parse::<f64>().ok()).sum()
        };
        Self { sent_packets: sum("sent_pkts"), not_ready: sum("rcvd_rnr_err") + sum("send_rnr_err") }
    }

    fn add_since(self, before: &Self, figures: &mut Figures) {
        figures.insert("rnr", self.not_ready - before.not_ready);
        if let Some(messages) = figures.get("messages").copied() {
            figures.insert("packets", (self.sent_packets - before.sent_packets) / messages.max(1.0));
        }
    }
}
