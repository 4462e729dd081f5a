//! What a benchmark found, and its JSON for programs; `table` has it for people. Measures nothing.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Load, table};
use crate::failure::Failure;
use crate::info::{Host, print, to_json};

/// Everything that one run of the program found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) host: Host,
    /// Of the runs, where this side decided it.
    #[serde(flatten)]
    pub(super) load: Option<Times>,
    pub(super) latency: Vec<Latency>,
    pub(super) throughput: Vec<Throughput>,
    /// Baselines that could not be measured beside fabriq.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) without_baseline: Vec<Without>,
    /// Transports that this host or this build cannot run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<Vec<Left>>,
    /// Transports that it can run and that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<Vec<Left>>,
}

/// How long each size was measured.
#[derive(Debug, Serialize)]
pub(super) struct Times {
    pub(super) duration_seconds: f64,
    warmup_seconds: f64,
}

impl From<&Load> for Times {
    fn from(load: &Load) -> Self {
        Self { duration_seconds: load.duration.as_secs_f64(), warmup_seconds: load.warmup.as_secs_f64() }
    }
}

/// A transport without figures.
#[derive(Debug, Serialize)]
pub(super) struct Left {
    pub(super) transport: String,
    pub(super) why: String,
}

/// A baseline without figures.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Without {
    pub(super) transport: &'static str,
    pub(super) baseline: String,
    pub(super) why: String,
}

impl Without {
    pub(super) fn new(transport: &'static str, baseline: &str, why: String) -> Self {
        Self { transport, baseline: baseline.to_owned(), why }
    }
}

/// A latency of the wire itself, measured directly after fabriq's of the same size. Both ends poll.
#[derive(Debug, Serialize)]
pub(super) struct LatencyBeside {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) p50_us: f64,
    p99_us: f64,
    /// fabriq's p50 by this one: 1 is as fast, 2 takes twice as long.
    pub(super) ratio: f64,
}

/// A throughput of the wire itself, likewise.
#[derive(Debug, Serialize)]
pub(super) struct ThroughputBeside {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) messages_per_second: f64,
    pub(super) gigabytes_per_second: f64,
    /// fabriq's rate by this one: 1 is as fast, 0.5 half as fast.
    pub(super) ratio: f64,
}

/// One-way latency of one size.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) transport: String,
    pub(super) size: usize,
    messages: u64,
    /// Open loop: messages per second asked for. Absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate_asked: Option<f64>,
    /// Round trips per second.
    pub(super) rate: f64,
    min_us: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p99_9_us: f64,
    pub(super) max_us: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) baselines: Vec<LatencyBeside>,
}

/// Throughput of one size, as the receiver saw it.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    pub(super) transport: String,
    pub(super) size: usize,
    messages: u64,
    seconds: f64,
    pub(super) messages_per_second: f64,
    /// 1 GB is 1000000000 bytes of payload.
    pub(super) gigabytes_per_second: f64,
    /// Messages of the whole run that did not arrive, where a wire may lose some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) baselines: Vec<ThroughputBeside>,
}

fn scheme(url: &str) -> String {
    url.split("://").next().unwrap_or(url).to_owned()
}

impl Latency {
    pub(super) fn new(
        url: &str,
        size: usize,
        one_way_ns: &Histogram<u64>,
        rate_asked: Option<f64>,
        seconds: f64,
    ) -> Self {
        let quantile = |q| one_way_ns.value_at_quantile(q) as f64 / 1e3;
        Self {
            transport: scheme(url),
            size,
            messages: one_way_ns.len(),
            rate_asked,
            rate: one_way_ns.len() as f64 / seconds.max(1e-9),
            min_us: one_way_ns.min() as f64 / 1e3,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p99_9_us: quantile(0.999),
            max_us: one_way_ns.max() as f64 / 1e3,
            baselines: Vec::new(),
        }
    }

    /// Writes beside it what the wire itself can do.
    pub(super) fn beside(&mut self, name: &'static str, what: &'static str, p50_us: f64, p99_us: f64) {
        let ratio = self.p50_us / p50_us.max(1e-3);
        self.baselines.push(LatencyBeside { name, what, p50_us, p99_us, ratio });
    }
}

impl Throughput {
    pub(super) fn new(url: &str, size: usize, messages: u64, seconds: f64) -> Self {
        let rate = messages as f64 / seconds.max(1e-9);
        Self {
            transport: scheme(url),
            size,
            messages,
            seconds,
            messages_per_second: rate,
            gigabytes_per_second: rate * size as f64 / 1e9,
            lost: None,
            baselines: Vec::new(),
        }
    }

    /// So many messages did not arrive.
    pub(super) fn lost(self, messages: u64) -> Self {
        Self { lost: Some(messages), ..self }
    }

    /// Writes beside it what the wire itself can do.
    pub(super) fn beside(&mut self, name: &'static str, what: &'static str, messages_per_second: f64) {
        let gigabytes_per_second = messages_per_second * self.size as f64 / 1e9;
        let ratio = self.messages_per_second / messages_per_second.max(1e-9);
        self.baselines.push(ThroughputBeside {
            name,
            what,
            messages_per_second,
            gigabytes_per_second,
            ratio,
        });
    }
}

impl Report {
    pub(super) fn new() -> Self {
        let (latency, throughput) = (Vec::new(), Vec::new());
        let without_baseline = Vec::new();
        Self {
            host: Host::new(),
            load: None,
            latency,
            throughput,
            without_baseline,
            skipped: None,
            failed: None,
        }
    }

    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        print(&if json { to_json(self)? } else { table::of(self) })
    }
}
