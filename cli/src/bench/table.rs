//! What a benchmark found, as tables for people. Measures nothing.

use std::fmt::Write as _;

use super::report::{Latency, Report, Throughput, Times};
use crate::units;

/// What stands where there is no figure.
pub(super) const NONE: &str = "-";

/// Below this ratio of latencies the wire itself was disturbed: fabriq cannot be faster.
pub(super) const DISTURBED: f64 = 0.8;

pub(super) fn of(report: &Report) -> String {
    let mut text = report.host.line() + "\n";
    if let Some(Times { duration_seconds, .. }) = report.load {
        let _ = write!(text, "{duration_seconds} s per figure; ");
    }
    text += match (report.latency.is_empty(), report.throughput.is_empty()) {
        (false, false) => {
            "latency one way (half of a round trip, REQ/REP), throughput PUSH/PULL; every message verified\n\n"
        }
        (false, true) => "latency one way (half of a round trip); every message verified\n\n",
        _ => "throughput as this side received it; every message verified\n\n",
    };
    text += &figures(report);
    text += &beside(report);
    for without in &report.without_baseline {
        let _ = writeln!(text, "no {} beside {}: {}", without.baseline, without.transport, without.why);
    }
    for left in report.skipped.iter().flatten() {
        let _ = writeln!(text, "skipped {}: {}", left.transport, left.why);
    }
    for left in report.failed.iter().flatten() {
        let _ = writeln!(text, "FAILED {}: {}", left.transport, left.why);
    }
    for Throughput { transport, size, lost, .. } in &report.throughput {
        if let Some(lost) = lost.filter(|lost| *lost > 0) {
            let _ = writeln!(
                text,
                "{transport} {}: {lost} messages were lost: nothing holds the sender back",
                units::size(*size)
            );
        }
    }
    for row in &report.latency {
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
fn figures(report: &Report) -> String {
    let (latency, throughput) = (!report.latency.is_empty(), !report.throughput.is_empty());
    let raw_latency = report.latency.iter().any(|row| !row.baselines.is_empty());
    let raw_throughput = report.throughput.iter().any(|row| !row.baselines.is_empty());
    let mut text = format!("{:<9} {:>8}", "transport", "size");
    if latency {
        text += &cells(["p50", "p99", "p99.9"]);
    }
    if latency && !throughput {
        text += &cells(["max", "trips/s"]);
    }
    if raw_latency {
        text += &narrow("x raw");
    }
    if throughput {
        text += &cells(["msg/s", "GB/s"]);
    }
    if raw_throughput {
        text += &narrow("x raw");
    }
    text.push('\n');
    for line in lines(report) {
        let _ = write!(text, "{:<9} {:>8}", line.0, units::size(line.1));
        if latency {
            let row = latency_of(report, line);
            let us =
                |figure: fn(&Latency) -> f64| row.map_or(NONE.to_owned(), |row| microseconds(figure(row)));
            text += &cells([us(|row| row.p50_us), us(|row| row.p99_us), us(|row| row.p99_9_us)]);
            if !throughput {
                let rate = row.map_or(NONE.to_owned(), |row| units::per_second(row.rate));
                text += &cells([us(|row| row.max_us), rate]);
            }
            if raw_latency {
                // Ours comes first.
                let raw = row.and_then(|row| row.baselines.first());
                text += &narrow(&raw.map_or(NONE.to_owned(), |raw| units::three_digits(raw.ratio)));
            }
        }
        if throughput {
            let row = throughput_of(report, line);
            let rate = row.map_or(NONE.to_owned(), |row| units::per_second(row.messages_per_second));
            let bytes = row.map_or(NONE.to_owned(), |row| units::three_digits(row.gigabytes_per_second));
            text += &cells([rate, bytes]);
            if raw_throughput {
                let raw = row.and_then(|row| row.baselines.first());
                text += &narrow(&raw.map_or(NONE.to_owned(), |raw| units::three_digits(raw.ratio)));
            }
        }
        text.push('\n');
    }
    text
}

/// What the wire itself did: a line per transport, size and baseline. Empty if nothing is known of it.
fn beside(report: &Report) -> String {
    let mut text = String::new();
    let mut what = Vec::new();
    for line in lines(report) {
        let latencies = latency_of(report, line).map_or(&[][..], |row| &row.baselines);
        let throughputs = throughput_of(report, line).map_or(&[][..], |row| &row.baselines);
        let mut names: Vec<_> =
            latencies.iter().map(|beside| (beside.name.as_str(), beside.what.as_str())).collect();
        names.extend(throughputs.iter().map(|beside| (beside.name.as_str(), beside.what.as_str())));
        for &(name, said) in &names {
            if !what.contains(&(line.0, name, said)) {
                what.push((line.0, name, said));
            }
        }
        let mut told = Vec::new();
        for (name, _) in names {
            if told.contains(&name) {
                continue;
            }
            told.push(name);
            let _ = write!(text, "{:<9} {:>8}", line.0, units::size(line.1));
            let latency = latencies.iter().find(|beside| beside.name == name);
            text += &cells([latency.map_or(NONE.to_owned(), |beside| microseconds(beside.p50_us))]);
            text += &narrow(&latency.map_or(NONE.to_owned(), |beside| units::three_digits(beside.ratio)));
            let throughput = throughputs.iter().find(|beside| beside.name == name);
            let rate = |rate| units::per_second(rate);
            text += &cells([
                throughput.map_or(NONE.to_owned(), |beside| rate(beside.messages_per_second)),
                throughput.map_or(NONE.to_owned(), |beside| units::three_digits(beside.gigabytes_per_second)),
            ]);
            text += &narrow(&throughput.map_or(NONE.to_owned(), |beside| units::three_digits(beside.ratio)));
            let _ = writeln!(text, "  {name}");
        }
    }
    if text.is_empty() {
        return text;
    }
    let head = format!("{:<9} {:>8}", "transport", "size")
        + &cells(["p50"])
        + &narrow("x")
        + &cells(["msg/s", "GB/s"])
        + &narrow("x");
    let mut all = format!(
        "\nThe wire itself, and x, which is fabriq's figure by this one (1.00: as fast; p50 2.00: twice as long; msg/s \
         0.50: half as fast):\n{head}  by\n{text}"
    );
    for (transport, name, what) in what {
        let _ = writeln!(all, "{transport} {name}: {what}; both ends polling");
    }
    let disturbed =
        report.latency.iter().flat_map(|row| &row.baselines).any(|beside| beside.ratio < DISTURBED);
    if disturbed {
        all += "A ping-pong that polls was slower than fabriq: other processes held the processors. Measure again when \
                they are idle.\n";
    }
    all
}

/// Every transport and size that has a figure.
pub(super) fn lines(report: &Report) -> Vec<(&str, usize)> {
    let latencies = report.latency.iter().map(|row| (row.transport.as_str(), row.size));
    let mut lines: Vec<_> = latencies.collect();
    for line in report.throughput.iter().map(|row| (row.transport.as_str(), row.size)) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

pub(super) fn latency_of<'a>(report: &'a Report, line: (&str, usize)) -> Option<&'a Latency> {
    report.latency.iter().find(|row| (row.transport.as_str(), row.size) == line)
}

pub(super) fn throughput_of<'a>(report: &'a Report, line: (&str, usize)) -> Option<&'a Throughput> {
    report.throughput.iter().find(|row| (row.transport.as_str(), row.size) == line)
}

fn cells<const N: usize>(cells: [impl AsRef<str>; N]) -> String {
    cells.iter().map(|cell| format!(" {:>9}", cell.as_ref())).collect()
}

fn narrow(cell: &str) -> String {
    format!(" {cell:>6}")
}

pub(super) fn microseconds(us: f64) -> String {
    units::nanoseconds((us * 1e3) as u64)
}
