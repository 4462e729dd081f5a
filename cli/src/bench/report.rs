//! What a benchmark found, and its JSON for programs; `table` and `html` have it for people. Measures nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::latency::Trips;
use super::window::Measured;
use super::{Load, html, table};
use crate::failure::Failure;
use crate::info::{Host, print, to_json};

/// Everything that one run of the program found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) host: Host,
    /// When it was made, in seconds since 1970 (UTC).
    #[serde(default)]
    pub(super) unix_time: u64,
    /// Of the runs, where this side decided it.
    #[serde(flatten)]
    pub(super) load: Option<Times>,
    pub(super) latency: Vec<Latency>,
    pub(super) throughput: Vec<Throughput>,
    /// Baselines that could not be measured beside fabriq.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) without_baseline: Vec<Without>,
    /// Transports that this host or this build cannot run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<Vec<Left>>,
    /// Transports that it can run and that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<Vec<Left>>,
}

/// How long each size was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Times {
    pub(super) duration_seconds: f64,
    pub(super) warmup_seconds: f64,
}

impl From<&Load> for Times {
    fn from(load: &Load) -> Self {
        Self { duration_seconds: load.duration.as_secs_f64(), warmup_seconds: load.warmup.as_secs_f64() }
    }
}

/// A transport without figures.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) transport: String,
    pub(super) why: String,
}

/// A baseline without figures.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Without {
    pub(super) transport: String,
    pub(super) baseline: String,
    pub(super) why: String,
}

impl Without {
    pub(super) fn new(transport: &str, baseline: &str, why: String) -> Self {
        Self { transport: transport.to_owned(), baseline: baseline.to_owned(), why }
    }
}

/// A latency of the wire itself, measured directly after fabriq's of the same size. Both ends poll.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LatencyBeside {
    pub(super) name: String,
    pub(super) what: String,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// fabriq's p50 by this one: 1 is as fast, 2 takes twice as long.
    pub(super) ratio: f64,
    /// As of [`Latency`]; empty of a tool that has only the two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) distribution: Vec<Quantile>,
}

/// One point of a latency distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Quantile {
    /// The share of messages that took no longer, below 1.
    pub(super) share: f64,
    pub(super) us: f64,
}

/// Latency in one part of the time that was measured: what `bench compare` learns the noise from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct LatencyWindow {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// A throughput of the wire itself, likewise.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ThroughputBeside {
    pub(super) name: String,
    pub(super) what: String,
    pub(super) messages_per_second: f64,
    pub(super) gigabytes_per_second: f64,
    /// fabriq's rate by this one: 1 is as fast, 0.5 half as fast.
    pub(super) ratio: f64,
}

/// One-way latency of one size.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) transport: String,
    pub(super) size: usize,
    messages: u64,
    /// Open loop: messages per second asked for. Absent in a closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate_asked: Option<f64>,
    /// Round trips per second.
    pub(super) rate: f64,
    min_us: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p99_9_us: f64,
    pub(super) max_us: f64,
    /// From half of the messages to the slowest that can be told, evenly on a logarithmic scale of those that took longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) distribution: Vec<Quantile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) windows: Vec<LatencyWindow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) baselines: Vec<LatencyBeside>,
}

/// Throughput of one size, as the receiver saw it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Throughput {
    pub(super) transport: String,
    pub(super) size: usize,
    messages: u64,
    seconds: f64,
    pub(super) messages_per_second: f64,
    /// 1 GB is 1000000000 bytes of payload.
    pub(super) gigabytes_per_second: f64,
    /// Messages of the whole run that did not arrive, where a wire may lose some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<u64>,
    /// Messages per second in parts of that time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) windows: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) baselines: Vec<ThroughputBeside>,
}

fn scheme(url: &str) -> String {
    url.split("://").next().unwrap_or(url).to_owned()
}

/// Points of a distribution between two powers of ten of the messages that take longer.
const POINTS_PER_DECADE: u32 = 8;
/// The last one is p99.999.
const DECADES: u32 = 5;

/// The points of a distribution, as far as there are messages enough to tell.
pub(super) fn distribution(one_way_ns: &Histogram<u64>) -> Vec<Quantile> {
    let steps = (0..=DECADES * POINTS_PER_DECADE).map(|step| {
        // From 50 % on: what takes longer goes from 1/2 to a hundred thousandth.
        let slower = 0.5 * 10f64.powf(-f64::from(step) / f64::from(POINTS_PER_DECADE));
        1.0 - slower
    });
    let told = steps.take_while(|share| (1.0 - share) * one_way_ns.len() as f64 >= 1.0);
    let point = |share| Quantile { share, us: one_way_ns.value_at_quantile(share) as f64 / 1e3 };
    let mut points: Vec<_> = told.map(point).collect();
    if points.is_empty() {
        points.push(point(0.5));
    }
    points
}

impl Latency {
    pub(super) fn new(url: &str, size: usize, trips: &Trips, rate_asked: Option<f64>) -> Self {
        let one_way_ns = &trips.one_way_ns;
        let quantile = |q| one_way_ns.value_at_quantile(q) as f64 / 1e3;
        Self {
            transport: scheme(url),
            size,
            messages: one_way_ns.len(),
            rate_asked,
            rate: one_way_ns.len() as f64 / trips.seconds.max(1e-9),
            min_us: one_way_ns.min() as f64 / 1e3,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p99_9_us: quantile(0.999),
            max_us: one_way_ns.max() as f64 / 1e3,
            distribution: distribution(one_way_ns),
            windows: trips.windows.clone(),
            baselines: Vec::new(),
        }
    }

    /// Writes beside it what the wire itself can do.
    pub(super) fn beside(&mut self, name: &str, what: &str, trips: &Trips) {
        let quantile = |q| trips.one_way_ns.value_at_quantile(q) as f64 / 1e3;
        self.beside_figures(name, what, quantile(0.5), quantile(0.99), distribution(&trips.one_way_ns));
    }

    /// The same with what another program says.
    pub(super) fn beside_tool(&mut self, name: &str, what: &str, p50_us: f64, p99_us: f64) {
        self.beside_figures(name, what, p50_us, p99_us, Vec::new());
    }

    fn beside_figures(
        &mut self,
        name: &str,
        what: &str,
        p50_us: f64,
        p99_us: f64,
        distribution: Vec<Quantile>,
    ) {
        let ratio = self.p50_us / p50_us.max(1e-3);
        let (name, what) = (name.to_owned(), what.to_owned());
        self.baselines.push(LatencyBeside { name, what, p50_us, p99_us, ratio, distribution });
    }
}

impl Throughput {
    pub(super) fn new(url: &str, size: usize, measured: Measured) -> Self {
        let Measured { messages, seconds, windows } = measured;
        let rate = messages as f64 / seconds.max(1e-9);
        Self {
            transport: scheme(url),
            size,
            messages,
            seconds,
            messages_per_second: rate,
            gigabytes_per_second: rate * size as f64 / 1e9,
            lost: None,
            windows,
            baselines: Vec::new(),
        }
    }

    /// So many messages did not arrive.
    pub(super) fn lost(self, messages: u64) -> Self {
        Self { lost: Some(messages), ..self }
    }

    /// Writes beside it what the wire itself can do.
    pub(super) fn beside(&mut self, name: &str, what: &str, messages_per_second: f64) {
        self.baselines.push(ThroughputBeside {
            name: name.to_owned(),
            what: what.to_owned(),
            messages_per_second,
            gigabytes_per_second: messages_per_second * self.size as f64 / 1e9,
            ratio: self.messages_per_second / messages_per_second.max(1e-9),
        });
    }
}

impl Report {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            host: Host::new(),
            unix_time: now.map_or(0, |now| now.as_secs()),
            load: None,
            latency: Vec::new(),
            throughput: Vec::new(),
            without_baseline: Vec::new(),
            skipped: None,
            failed: None,
        }
    }

    /// One that a program has printed as JSON.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = read(path)?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::Usage(format!(
                "{} is no report of `fabriq bench --json`: {error}; make one with `fabriq bench --json > FILE`",
                path.display()
            ))
        })
    }
}

/// A file of JSON, or of lines of it, that has an end.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
    // Of lines, what follows the first is for others to judge.
    match serde_json::from_str::<IgnoredAny>(&text) {
        Err(error) if error.is_eof() => {
            let how = if text.trim().is_empty() { "empty" } else { "cut off" };
            // The first of the lines, in which a run says what it is.
            let remedy = if text.starts_with("{\"run\"") {
                "nothing of that run is in it; measure again"
            } else {
                "of a cluster's run, give the .jsonl beside it; else measure again"
            };
            Err(Failure::Usage(format!("{} is {how}: {remedy}", path.display())))
        }
        _ => Ok(text),
    }
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Table,
}

/// Where a report goes.
#[derive(Debug)]
pub(super) struct Output {
    print: Option<Format>,
    html: Option<(PathBuf, File)>,
}

impl Output {
    /// Makes the file, so that a wrong name is found before anything is measured.
    pub(super) fn new(json: bool, html: Option<PathBuf>) -> Result<Self, Failure> {
        let open = |path: PathBuf| match File::create(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(Failure::Usage(format!(
                "cannot write {}: {error}; name a file in a folder that exists and is yours",
                path.display()
            ))),
        };
        let print = Some(if json { Format::Json } else { Format::Table });
        Ok(Self { print, html: html.map(open).transpose()? })
    }

    /// The page alone.
    pub(super) fn page(path: &Path) -> Result<Self, Failure> {
        Ok(Self { print: None, ..Self::new(false, Some(path.to_owned()))? })
    }

    /// Prints the table or JSON, and writes the page.
    pub(super) fn put(self, report: &Report) -> Result<(), Failure> {
        if let Some((path, mut file)) = self.html {
            file.write_all(html::of(report).as_bytes()).map_err(|error| {
                Failure::Failed(format!("cannot write {}: {error}; is the disk full?", path.display()))
            })?;
        }
        match self.print {
            Some(Format::Json) => print(&to_json(report)?),
            Some(Format::Table) => print(&table::of(report)),
            None => Ok(()),
        }
    }
}
