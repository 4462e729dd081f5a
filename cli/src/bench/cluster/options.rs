//! What a cluster run is asked to do: its arguments, and what of them every rank must have been told alike. Does nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use fabriq::{Endpoint, Flow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limits::{DURATION, JOIN, PATIENCE, STREAMS_MAX, WARMUP};
use super::plan::{somewhere, template};
use crate::bench::SIZES;
use crate::bench::payload::{HEADER, check_size};
use crate::failure::Failure;
use crate::schemes;
use crate::units::{self, parse_duration, parse_rate, parse_size, parse_span};

const EXAMPLES: &str = "\
Examples:
  srun -N4 fabriq bench cluster --out result        under Slurm: result.html, result.json, .jsonl and .csv
  mpirun fabriq bench cluster --out result          under Open MPI, in an allocation
  srun -N4 fabriq bench cluster --transport tcp --transport 'verbs://ib0:*' --topology pair,matrix
  srun -N4 fabriq bench cluster --rate 10k --rate 100k --background 64KiB
  fabriq bench compare before.json after.json       what got slower since, noise taken into account
By hand, one for each rank, rank 0 anywhere in the order:
  fabriq bench cluster --rank 0 --ranks 2 --coordinator 'tcp://*:5555' --out result
  fabriq bench cluster --rank 1 --ranks 2 --coordinator tcp://first-host:5555

Every rank runs the same command line. Rank 0 leads, prints and writes the files. Every message that arrives is verified by \
number and hash. Latency is half of a round trip: no clock of one host is compared with that of another. A rank that does not \
come, dies, hangs or lacks a transport is named, and the others go on without it.

Exit codes of rank 0: 0 all was measured (but for what --limit left out, as the report says), 1 something was not, \
2 wrong use or ranks that disagree, 4 data arrived damaged. \
docs/cluster.md explains the report.";

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(in crate::bench) enum Topology {
    /// Ranks 0 and 1, beside the wire itself
    Pair,
    /// Every rank with every other, in rounds of disjoint pairs
    Matrix,
    /// Every rank to the next, all at once
    Ring,
    /// All to rank 0 at once
    Incast,
    /// Rank 0 to all at once, PUB to SUB
    FanOut,
    /// Every rank to every other at once
    AllToAll,
    /// Clients that share servers: REQ to REP
    Pool,
}

impl Topology {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Matrix => "matrix",
            Self::Ring => "ring",
            Self::Incast => "incast",
            Self::FanOut => "fan-out",
            Self::AllToAll => "all-to-all",
            Self::Pool => "pool",
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Only {
    Latency,
    Throughput,
}

/// Measure a cluster: latency and throughput between all ranks that srun or mpirun has started, in one report
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::bench) struct Args {
    /// Who sends to whom; repeatable, or with commas [default: all]
    #[arg(long = "topology", value_name = "NAME", value_enum, value_delimiter = ',')]
    topologies: Vec<Topology>,

    /// Over what: a scheme, or a URL that every rank can listen at, as in verbs://ib0:* or epgm://eth0;239.192.1.1:5555;
    /// {address} in it is the address by which a rank reaches rank 0; repeatable [default: tcp]
    #[arg(long = "transport", value_name = "SCHEME|URL")]
    transports: Vec<String>,

    /// Message size, as in 64, 1KiB or 1M; repeatable [default: 64, 1KiB, 64KiB and 1MiB]
    #[arg(long = "size", value_name = "SIZE", value_parser = parse_size)]
    sizes: Vec<usize>,

    /// Parts that a message has, which share its size; repeatable [default: 1]
    #[arg(long = "parts", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    parts: Vec<u32>,

    /// Connections between a thread and its peer, used in turn; repeatable [default: 1]
    #[arg(long = "links", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    links: Vec<u32>,

    /// Threads at each end, with sockets of their own; repeatable [default: 1]
    #[arg(long = "threads", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Vec<u32>,

    /// High-water mark, in messages each way; 0 is no limit; repeatable [default: 1000, or 16 MiB of larger messages]
    #[arg(long = "hwm", value_name = "MESSAGES")]
    hwms: Vec<u32>,

    /// Also measure latency in an open loop: so many messages per second of each client, each at its intended time
    /// whether or not earlier ones have come back, and latency counted from that time; repeatable
    #[arg(long = "rate", value_name = "RATE", value_parser = parse_rate)]
    rates: Vec<f64>,

    /// Also measure latency while streams of this message size go the same ways; repeatable
    #[arg(long = "background", value_name = "SIZE", value_parser = parse_size)]
    backgrounds: Vec<usize>,

    /// Only latency, or only throughput [default: both]
    #[arg(long, value_name = "WHAT", value_enum)]
    only: Option<Only>,

    /// How long to measure each figure [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    duration: Option<Duration>,

    /// How long to warm up at most; it ends before, once figures are steady [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warmup: Option<Duration>,

    /// Measure on until figures are known to this share, as in 2% (95 % confidence), up to ten times --duration
    #[arg(long, value_name = "PERCENT", value_parser = crate::bench::compare::parse_percent)]
    precision: Option<f64>,

    /// Begin no measurement after so long; the report has those before
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    limit: Option<Duration>,

    /// Measure the pairs of the matrix one after the other instead of disjoint ones at once
    #[arg(long)]
    one_at_a_time: bool,

    /// Servers of the request/reply pool [default: half of the ranks]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    servers: Option<u32>,

    /// Do not measure the wire itself beside each pair
    #[arg(long)]
    no_baseline: bool,

    /// How long a rank may be silent until the others go on without it [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    timeout: Option<Duration>,

    /// How long to wait for all ranks to come [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    join: Option<Duration>,

    /// Write NAME.html, NAME.json, NAME.csv, and NAME.jsonl as the run goes on
    #[arg(long, value_name = "NAME")]
    pub(super) out: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,

    /// Which rank this is, from 0 [default: what the launcher says]
    #[arg(long, value_name = "N", requires = "ranks")]
    pub(super) rank: Option<u32>,

    /// How many ranks there are [default: what the launcher says]
    #[arg(long, value_name = "N", requires = "rank", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) ranks: Option<u32>,

    /// Where rank 0 listens and all others connect, as in tcp://host:5555 [default: from the launcher]
    #[arg(long, value_name = "URL")]
    pub(super) coordinator: Option<String>,
}

/// What every rank must have been told alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Options {
    pub(super) topologies: Vec<Topology>,
    pub(super) transports: Vec<String>,
    pub(super) sizes: Vec<usize>,
    pub(super) parts: Vec<u32>,
    pub(super) links: Vec<u32>,
    pub(super) threads: Vec<u32>,
    /// `None`: by the size.
    pub(super) hwms: Vec<Option<u32>>,
    pub(super) rates: Vec<f64>,
    pub(super) backgrounds: Vec<usize>,
    pub(super) only: Option<Only>,
    pub(super) duration: Duration,
    pub(super) warmup: Duration,
    pub(super) precision: Option<f64>,
    pub(super) limit: Option<Duration>,
    pub(super) one_at_a_time: bool,
    pub(super) servers: Option<u32>,
    pub(super) baseline: bool,
    pub(super) timeout: Duration,
    pub(super) join: Duration,
}

/// Whether a transport takes a URL, as far as that can be said without opening it.
fn check_url(url: &str) -> Result<(), Failure> {
    let wrong = |why: String| Failure::Usage(format!("--transport {url}: {why}"));
    let endpoint = Endpoint::parse(url).map_err(|error| wrong(error.to_string()))?;
    let transports = fabriq::transports();
    let transport = transports.iter().find(|known| known.schemes().contains(&endpoint.scheme()));
    // One that is not in this build is told of as lacking.
    let Some(transport) = transport else { return Ok(()) };
    let (duplex, send) = (Flow::Duplex, Flow::Send);
    let taken =
        transport.capabilities(&endpoint, duplex).or_else(|_| transport.capabilities(&endpoint, send));
    taken.map(drop).map_err(|error| wrong(error.to_string()))
}

fn or<T: Clone + PartialEq>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { each_once(given) }
}

/// Without what is said again: it would be measured twice under one name.
fn each_once<T: Clone + PartialEq>(given: &[T]) -> Vec<T> {
    let mut all = Vec::new();
    for one in given {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}

impl Options {
    /// What the arguments say, if it makes sense.
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let hwms: Vec<_> = args.hwms.iter().copied().map(Some).collect();
        let options = Self {
            topologies: or(&args.topologies, Topology::value_variants()),
            transports: or(&args.transports, &["tcp".to_owned()]),
            sizes: or(&args.sizes, &SIZES),
            parts: or(&args.parts, &[1]),
            links: or(&args.links, &[1]),
            threads: or(&args.threads, &[1]),
            hwms: or(&hwms, &[None]),
            rates: each_once(&args.rates),
            backgrounds: each_once(&args.backgrounds),
            only: args.only,
            duration: args.duration.unwrap_or(DURATION),
            warmup: args.warmup.unwrap_or(WARMUP),
            precision: args.precision,
            limit: args.limit,
            one_at_a_time: args.one_at_a_time,
            servers: args.servers,
            baseline: !args.no_baseline,
            timeout: args.timeout.unwrap_or(PATIENCE),
            join: args.join.unwrap_or(JOIN),
        };
        options.check()?;
        Ok(options)
    }

    /// The schemes of all transports, each once.
    pub(super) fn schemes(&self) -> BTreeSet<String> {
        let scheme = |transport: &String| transport.split("://").next().unwrap_or(transport).to_owned();
        self.transports.iter().map(scheme).collect()
    }

    fn check(&self) -> Result<(), Failure> {
        for scheme in self.schemes() {
            if scheme == "inproc" || !schemes::is_known(&scheme) {
                let mut known = schemes::names();
                known.retain(|&scheme| scheme != "inproc");
                return Err(Failure::Usage(format!(
                    "--transport {scheme}: between ranks there is {}",
                    known.join(", ")
                )));
            }
        }
        for transport in &self.transports {
            check_url(&somewhere(&template(transport)))?;
        }
        for &size in self.sizes.iter().chain(&self.backgrounds) {
            check_size(size)?;
        }
        for (&size, &parts) in
            self.sizes.iter().flat_map(|size| self.parts.iter().map(move |parts| (size, parts)))
        {
            let part = size / parts as usize;
            if part < HEADER || part * parts as usize != size {
                return Err(Failure::Usage(format!(
                    "--parts {parts} --size {size}: each part has the same size, which is {HEADER} B (sequence number and \
                     hash) at least; choose another size, as in {}",
                    units::size(parts as usize * 64)
                )));
            }
        }
        for (&threads, &links) in
            self.threads.iter().flat_map(|threads| self.links.iter().map(move |links| (threads, links)))
        {
            if threads as usize * links as usize > STREAMS_MAX {
                return Err(Failure::Usage(format!(
                    "--threads {threads} --links {links}: that is more than {STREAMS_MAX} connections between two ranks"
                )));
            }
        }
        Ok(())
    }

    /// What another rank was told otherwise, if anything.
    pub(super) fn difference(&self, other: &Value) -> Option<String> {
        let (name, value, its) = self.differing(other).next()?;
        Some(format!("its `{name}` is {its}, and that of rank 0 is {value}"))
    }

    /// Options that are not alike: name, this, other.
    pub(super) fn differing(&self, other: &Value) -> impl Iterator<Item = (String, Value, Value)> {
        let own = match serde_json::to_value(self) {
            Ok(Value::Object(own)) => own,
            _ => serde_json::Map::new(),
        };
        let differs = |(name, value): (String, Value)| {
            let its = other.get(&name).cloned().unwrap_or(Value::Null);
            (its != value).then_some((name, value, its))
        };
        own.into_iter().filter_map(differs)
    }

    /// The longest that a measurement may take.
    pub(super) fn longest(&self) -> Duration {
        match self.precision {
            Some(_) => self.duration * super::limits::STRETCH_MAX,
            None => self.duration,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    pub(in crate::bench::cluster) fn options(arguments: &[&str]) -> Result<Options, Failure> {
        use clap::Parser;
        Options::new(&Cli::try_parse_from([&["x"], arguments].concat()).unwrap().args)
    }

    #[test]
    fn defaults_measure_every_topology_over_tcp() {
        let options = options(&[]).unwrap();
        assert_eq!(options.topologies.len(), 7);
        assert_eq!((&*options.transports, &*options.parts), (&["tcp".to_owned()][..], &[1][..]));
    }

    #[test]
    fn what_is_said_twice_is_measured_once() {
        let twice = [
            "--size",
            "64",
            "--size",
            "1K",
            "--size",
            "64",
            "--topology",
            "pair,ring,pair",
            "--hwm=5",
            "--hwm=5",
        ];
        let more = [
            "--rate",
            "1k",
            "--rate",
            "1000",
            "--background",
            "64",
            "--background",
            "64",
            "--transport",
            "tcp",
        ];
        let options = options(&[&twice[..], &more, &["--transport", "tcp"]].concat()).unwrap();
        assert_eq!(
            (options.sizes, options.topologies),
            (vec![64, 1024], vec![Topology::Pair, Topology::Ring])
        );
        assert_eq!((options.hwms, options.rates), (vec![Some(5)], vec![1000.0]));
        assert_eq!((options.backgrounds, options.transports), (vec![64], vec!["tcp".to_owned()]));
    }

    #[test]
    fn a_url_that_its_transport_does_not_take_is_found_before_anything_is_measured() {
        for url in [
            "tcp://127.0.0.1:*?sndbuf=1",
            "tcp://{address}",
            "epgm://lo",
            "epgm://{address};10.0.0.1:7500",
            "verbs://{address}:x",
            "ofi://{address}:*?nothing=1",
            "tcp://",
        ] {
            let said = options(&["--transport", url]).unwrap_err();
            assert!(matches!(said, Failure::Usage(_)), "{said:?}");
            let (said, scheme) = (said.into_text(), url.split_once("://").unwrap().0);
            assert!(said.starts_with(&format!("--transport {scheme}://")), "{said}");
        }
        for url in [
            "tcp",
            "ipc",
            "verbs",
            "ofi",
            "pgm",
            "epgm",
            "verbs://ib0:*",
            "tcp://eth0:*",
            "epgm://ib0;239.192.7.7:7500",
            "ipc://@x",
            "ofi://{address}:*?provider=tcp;ofi_rxm",
            "epgm://lo;239.195.1.2:7511?rate_kbit=100000",
            "tcp://[::1]:*",
        ] {
            assert!(options(&["--transport", url]).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_another_rank_was_told_otherwise_is_named() {
        let (one, other) = (options(&[]).unwrap(), options(&["--size", "128"]).unwrap());
        let value = |options: &Options| serde_json::to_value(options).unwrap();
        assert_eq!(one.difference(&value(&one)), None);
        let said = one.difference(&value(&other)).unwrap();
        assert_eq!(said, "its `sizes` is [128], and that of rank 0 is [64,1024,65536,1048576]");
        assert!(one.difference(&Value::Null).is_some());
    }

    #[test]
    fn parts_must_share_a_size_evenly_and_hold_a_header() {
        for (size, parts) in [("64", "5"), ("64", "8")] {
            let said = options(&["--size", size, "--parts", parts]).unwrap_err().into_text();
            assert!(said.contains("each part has the same size"), "{said}");
        }
        options(&["--size", "64", "--parts", "4"]).unwrap();
        assert!(options(&["--threads", "256", "--links", "64"]).is_err());
    }
}
