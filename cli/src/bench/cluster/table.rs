//! What a cluster run found, as lines for people. Measures nothing.

use std::fmt::Write as _;

use super::matrix::Matrix;
use super::output::title;
use super::protocol::Kind;
use super::report::{Cluster, Step};
use crate::bench::table::microseconds;
use crate::units;

/// The figures of a measurement, in a few words.
pub(super) fn figures(step: &Step) -> String {
    let total = &step.total;
    let mut text = match &total.latency {
        Some(latency) => format!(
            "p50 {}, p99 {}, p99.99 {}, {}/s",
            microseconds(latency.p50_us),
            microseconds(latency.p99_us),
            microseconds(latency.p99_99_us),
            units::per_second(total.messages_per_second)
        ),
        None => format!(
            "{} msg/s, {} GB/s",
            units::per_second(total.messages_per_second),
            units::three_digits(total.gigabytes_per_second)
        ),
    };
    if let Some(cpu) = total.cpu_ns_per_message {
        let _ = write!(text, ", CPU {} a message", units::nanoseconds(cpu as u64));
    }
    if let Some(lost) = total.lost {
        let _ = write!(text, ", {lost} lost");
    }
    if let Some(ratio) = total.ratio {
        let _ = write!(text, "; fabriq is x {}", units::three_digits(ratio));
    }
    if let Some(tool) = &step.tool {
        let figure = match total.latency {
            Some(_) => format!("p50 {}", microseconds(tool.p50_us)),
            None => format!("{} msg/s", units::per_second(tool.messages_per_second)),
        };
        let ratio = tool
            .ratio
            .map(|ratio| format!(", fabriq is x {}", units::three_digits(ratio)))
            .unwrap_or_default();
        let _ = write!(text, "; {} {figure}{ratio}", tool.name);
    }
    if let Some(why) = &step.without_tool {
        let _ = write!(text, "; no perftest: {why}");
    }
    text
}

pub(super) fn of(cluster: &Cluster) -> String {
    let ranks = units::count(cluster.ranks.len(), "rank");
    let hosts = units::count(cluster.hosts().len(), "host");
    let verified: u64 = cluster.steps.iter().map(|step| step.verified).sum();
    let mut text = format!(
        "{ranks} on {hosts}, fabriq {} ({} build), {} s per figure; {verified} messages verified\n\n",
        cluster.run.version,
        cluster.run.build,
        cluster.run.options.duration.as_secs_f64()
    );
    let steps = cluster.steps.iter().filter(|step| step.item.round.is_none());
    let rows: Vec<_> = steps.map(|step| (title(&step.item), figures(step))).collect();
    let matrices = Matrix::all(cluster);
    let matrix_rows = matrices.iter().map(|matrix| (matrix.title(), matrix.summary()));
    let rows: Vec<_> = rows.into_iter().chain(matrix_rows).collect();
    let width = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0);
    for (title, figures) in &rows {
        let _ = writeln!(text, "{title:<width$}  {figures}");
    }
    for matrix in &matrices {
        for sentence in matrix.slow(cluster).sentences(!matrix.is_latency, |rank| cluster.name(rank)) {
            let _ = writeln!(text, "SLOW {}: {sentence}", matrix.title());
        }
    }
    for step in cluster.steps.iter().filter(|step| step.item.kind != Kind::RawStream) {
        if let Some((asked, reached)) = overload(step) {
            let _ = writeln!(
                text,
                "{}: {}/s asked of each client, {}/s reached: the latency is that of an overload",
                title(&step.item),
                units::per_second(asked),
                units::per_second(reached)
            );
        }
    }
    for said in cluster.confined().into_iter().chain(cluster.refused_counters()) {
        let _ = writeln!(text, "{said}");
    }
    if cluster.is_disturbed() {
        text += "A ping-pong that polls was slower than fabriq: other processes held the processors. Measure again when they \
                 are idle.\n";
    }
    for step in cluster.steps.iter().filter(|step| step.flows_empty > 0) {
        let (title, flows) = (title(&step.item), units::count(step.flows_empty, "flow"));
        let _ =
            writeln!(text, "{title}: {flows} brought no message in the time measured; give more --duration");
    }
    for skipped in &cluster.skipped {
        let _ = writeln!(text, "skipped: {}", skipped.why);
    }
    for fault in &cluster.faults {
        let _ = writeln!(text, "FAILED {}", fault.why);
    }
    if let Some(why) = cluster.end.as_ref().and_then(|end| end.interrupted.as_ref()) {
        let _ = writeln!(text, "INTERRUPTED: {why}");
    }
    text
}

/// The rate that was asked of each client and the slowest reached, where that is less.
pub(super) fn overload(step: &Step) -> Option<(f64, f64)> {
    let asked = step.item.rate? * f64::from(step.item.threads);
    let mut clients: std::collections::BTreeMap<u32, f64> = std::collections::BTreeMap::new();
    for flow in step.flows.iter().filter(|flow| !flow.background) {
        *clients.entry(flow.from).or_default() += flow.messages_per_second;
    }
    let reached = clients.into_values().fold(f64::INFINITY, f64::min);
    (reached < 0.95 * asked).then_some((asked, reached))
}
