//! What a benchmark found, as a table for people or JSON for programs. Measures nothing.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Load;
use crate::failure::Failure;
use crate::info::{Host, print, to_json};
use crate::units;

/// Everything that one run of the program found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    host: Host,
    /// Of the runs, where this side decided it.
    #[serde(flatten)]
    pub(super) load: Option<Times>,
    pub(super) latency: Vec<Latency>,
    pub(super) throughput: Vec<Throughput>,
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
    duration_seconds: f64,
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

/// One-way latency of one size.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    transport: String,
    pub(super) size: usize,
    messages: u64,
    /// Open loop: messages per second asked for. Absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_asked: Option<f64>,
    /// Round trips per second.
    rate: f64,
    min_us: f64,
    p50_us: f64,
    p99_us: f64,
    p99_9_us: f64,
    max_us: f64,
}

/// Throughput of one size, as the receiver saw it.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    transport: String,
    pub(super) size: usize,
    messages: u64,
    seconds: f64,
    messages_per_second: f64,
    /// 1 GB is 1000000000 bytes of payload.
    gigabytes_per_second: f64,
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
        }
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
        }
    }
}

impl Report {
    pub(super) fn new() -> Self {
        let (latency, throughput) = (Vec::new(), Vec::new());
        Self { host: Host::new(), load: None, latency, throughput, skipped: None, failed: None }
    }

    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        print(&if json { to_json(self)? } else { self.table() })
    }

    fn table(&self) -> String {
        let mut text = self.host.line() + "\n";
        if let Some(Times { duration_seconds, .. }) = self.load {
            let _ = write!(text, "{duration_seconds} s per figure; ");
        }
        text += match (self.latency.is_empty(), self.throughput.is_empty()) {
            (false, false) => {
                "latency one way (half of a round trip, REQ/REP), throughput PUSH/PULL; every message verified\n\n"
            }
            (false, true) => "latency one way (half of a round trip); every message verified\n\n",
            _ => "throughput as this side received it; every message verified\n\n",
        };
        text += &self.figures();
        for left in self.skipped.iter().flatten() {
            let _ = writeln!(text, "skipped {}: {}", left.transport, left.why);
        }
        for left in self.failed.iter().flatten() {
            let _ = writeln!(text, "FAILED {}: {}", left.transport, left.why);
        }
        for row in &self.latency {
            if let Some(asked) = row.rate_asked.filter(|asked| row.rate < asked * 0.95) {
                let _ = writeln!(
                    text,
                    "{}: {}/s asked, {}/s reached: the latency is that of an overload",
                    units::size(row.size),
                    units::per_second(asked),
                    units::per_second(row.rate)
                );
            }
        }
        text
    }

    /// A line per transport and size, in the order of measuring.
    fn figures(&self) -> String {
        let latencies = self.latency.iter().map(|row| (row.transport.as_str(), row.size));
        let mut lines: Vec<_> = latencies.collect();
        for line in self.throughput.iter().map(|row| (row.transport.as_str(), row.size)) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let (latency, throughput) = (!self.latency.is_empty(), !self.throughput.is_empty());
        let mut text = format!("{:<9} {:>8}", "transport", "size");
        if latency {
            let _ = write!(text, " {:>9} {:>9} {:>9}", "p50", "p99", "p99.9");
        }
        if latency && !throughput {
            let _ = write!(text, " {:>9} {:>9}", "max", "trips/s");
        }
        if throughput {
            let _ = write!(text, " {:>9} {:>9}", "msg/s", "GB/s");
        }
        text.push('\n');
        for line in lines {
            let _ = write!(text, "{:<9} {:>8}", line.0, units::size(line.1));
            let us = |value: f64| units::nanoseconds((value * 1e3) as u64);
            match self.latency.iter().find(|row| (row.transport.as_str(), row.size) == line) {
                Some(row) => {
                    let _ =
                        write!(text, " {:>9} {:>9} {:>9}", us(row.p50_us), us(row.p99_us), us(row.p99_9_us));
                    if !throughput {
                        let _ = write!(text, " {:>9} {:>9}", us(row.max_us), units::per_second(row.rate));
                    }
                }
                None if latency => {
                    let _ = write!(text, " {:>9} {:>9} {:>9}", "-", "-", "-");
                }
                None => {}
            }
            match self.throughput.iter().find(|row| (row.transport.as_str(), row.size) == line) {
                Some(row) => {
                    let (rate, bytes) = (row.messages_per_second, row.gigabytes_per_second);
                    let _ = write!(text, " {:>9} {:>9}", units::per_second(rate), units::three_digits(bytes));
                }
                None if throughput => {
                    let _ = write!(text, " {:>9} {:>9}", "-", "-");
                }
                None => {}
            }
            text.push('\n');
        }
        text
    }
}
