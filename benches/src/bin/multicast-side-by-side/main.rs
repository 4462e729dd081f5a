//! Measures reliable multicast, fabriq's beside libzmq's (epgm), OpenPGM's and NORM's and bare UDP, from one host to
//! several that lose packets; it is a wall-clock comparison of whole peers, not a conformance test.
//!
//! ```text
//! ci/install
//! cargo build --release -p fabriq-benches --bin multicast-side-by-side
//! ci/netns -- target/release/multicast-side-by-side
//! ```
//!
//! It runs inside `ci/netns`: h1 publishes, all other hosts subscribe (three by default), and each loses its own packets
//! as they arrive, data on one side and what asks for repairs on the other. For every measure and loss it prints a
//! table: the median of each figure over the rounds that counted, and its ratio to libzmq's; `--json` prints every round.
//! In a round every peer is measured once, one after the other, in an order that turns; the processes live for that one
//! run. A round of the latency measure is discarded, and run again, when bare UDP's p99 was over 5 ms in it: then something
//! else held the cores.
//!
//! The same for all: numbered messages of one size with a time stamp (the hosts share one clock) and a hash, sent once all
//! subscribers have heard the publisher; the group and its interface; a cap on the rate; socket buffers (as far as
//! net.core.rmem_max lets them). A subscriber stops when it has all messages, or has heard nothing for a while;
//! so one that collapses shows as messages missing. What is particular to a peer stands in its file.
//!
//! One end alone, by hand: `on h2 PROGRAM subscribe --peer libzmq` and `on h1 PROGRAM publish --peer libzmq`, which
//! starts at a line on its standard input, and ends with that.

mod control;
mod fabriq_peer;
mod ledger;
mod library;
mod libzmq_peer;
mod load;
mod measures;
mod message;
mod norm_peer;
mod openpgm_peer;
mod peer;
mod raw_peer;
mod report;
mod roles;
mod rounds;

use crate::load::Load;
use crate::measures::Kind;
use crate::peer::Name;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What every fallible function here returns: this is a program, so an error is only ever printed.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measure reliable multicast side by side. Runs inside ci/netns.
#[derive(Debug, Parser)]
#[command(name = "multicast-side-by-side", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    rounds: Rounds,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// One publisher: sends when a line comes on standard input, prints its report, ends with standard input.
    Publish(Load),
    /// One subscriber: says when it hears the publisher, prints its report when it has all or hears nothing more.
    Subscribe(Load),
}

#[derive(Debug, clap::Args)]
struct Rounds {
    /// What to measure (all).
    #[arg(value_enum)]
    kinds: Vec<Kind>,
    /// Lost on arrival at each host, in percent, separated by commas (what a measure has by itself).
    #[arg(long, value_delimiter = ',')]
    loss: Vec<f64>,
    /// Rounds that must count, for each measure and loss.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only these peers, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Name>,
    /// The share of a measure's messages that is sent, in percent: fewer for a quick look.
    #[arg(long, default_value_t = 100)]
    scale: u64,
    /// After how much silence a subscriber gives up, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    silence_ms: u64,
    /// What fabriq's sockets use. {interface}, {group} and {port} are filled in.
    #[arg(long, default_value = "epgm://{interface};{group}:{port}")]
    url: String,
    /// Print every round as JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(Role::Publish(load)) => control::end_with(roles::publish(load)),
        Some(Role::Subscribe(load)) => control::end_with(roles::subscribe(load)),
        None => rounds::run(&arguments.rounds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multicast-side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}
