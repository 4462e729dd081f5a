//! The figures as text: aligned tables for a terminal, Markdown for a document, JSON for a program. It measures nothing.

use crate::interleave::Results;
use crate::measures::{Column, Line, Measure};
use crate::peer::{HIGH_WATER_MARK, LIBZMQ, RAW_BLOCKING, RAW_POLLED};
use crate::{Arguments, libzmq_peer};
use fabriq_benches::table::{Table, ratio};
use std::collections::BTreeMap;
use std::fs;

/// Whom every table has ratios to.
const REFERENCES: [(&str, &str); 3] =
    [(LIBZMQ, "x libzmq"), (RAW_BLOCKING, "x raw blocking"), (RAW_POLLED, "x raw polled")];

/// Where and how it was measured.
#[derive(Debug)]
pub(crate) struct Setting {
    machine: String,
    libzmq: String,
    missing: Vec<String>,
}

impl Setting {
    pub(crate) fn new(missing: Vec<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown", |(_, model)| model);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let machine = format!("{cores} cores ({model}), Linux {}", kernel.trim());
        Self { machine, libzmq: libzmq_peer::version().unwrap_or_else(|_| "none".to_owned()), missing }
    }

    pub(crate) fn text(&self, arguments: &Arguments) -> String {
        let mut text = format!(
            "{}; libzmq {}; kernel socket buffers at their defaults; high-water marks {HIGH_WATER_MARK}, or 64 MiB; nobody pinned; \
             rounds of {} ms; medians of the rounds that counted\n",
            self.machine, self.libzmq, arguments.round_ms
        );
        for missing in &self.missing {
            text.push_str(&format!("left out: {missing}\n"));
        }
        text
    }
}

fn figure(value: Option<f64>, column: &Column) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}", digits = column.digits))
}

/// What stands behind a measure's title: how many rounds, and what was wrong with the others.
fn rounds(measure: &Measure, results: &Results) -> String {
    let run = results.counts.len();
    if results.disturbed {
        return format!("{run} rounds; NONE UNDISTURBED: other processes held the cores, believe nothing");
    }
    let kept = results.counted();
    let mut text = format!("{kept} rounds");
    if kept < measure.rounds {
        text.push_str(&format!(" of the {} wanted", measure.rounds));
    }
    if kept < run {
        text.push_str(&format!("; {} discarded for their raw limit", run - kept));
    }
    text
}

fn table(measure: &Measure, results: &Results) -> Table {
    let lead = &measure.columns[0];
    let references = REFERENCES.iter().filter(|(reference, _)| results.peers.contains(reference));
    let references: Vec<_> = references.collect();
    let mut table = Table::default();
    table.head.push(String::new());
    table.head.extend(measure.columns.iter().map(|column| column.title.to_owned()));
    table.head.extend(references.iter().map(|(_, title)| (*title).to_owned()));
    table.head.push("min..max".to_owned());
    for name in &results.peers {
        let mut values = results.values(name, lead.key);
        let failure = results.failure(name);
        if values.is_empty() {
            let reason = failure.map_or("no round counted", |(reason, _)| reason);
            table.rows.push((vec![(*name).to_owned()], format!("failed: {reason}")));
            continue;
        }
        let mut cells = vec![(*name).to_owned()];
        cells.extend(measure.columns.iter().map(|column| figure(results.median(name, column.key), column)));
        let own = results.median(name, lead.key);
        cells.extend(references.iter().map(|(reference, _)| ratio(own, results.median(reference, lead.key))));
        values.sort_by(f64::total_cmp);
        let (least, most) = (values.first().copied(), values.last().copied());
        cells.push(format!("{}..{}", figure(least, lead), figure(most, lead)));
        let remark = failure.map(|(reason, count)| format!("{count} rounds failed: {reason}"));
        table.rows.push((cells, remark.unwrap_or_default()));
    }
    table
}

fn summary(all: &[(Measure, Results)]) -> Table {
    let head = ["", "figure", "of", "is", "beside", "with", "ratio"].map(str::to_owned).to_vec();
    let mut table = Table { head, rows: Vec::new() };
    for (measure, results) in all {
        for Line { title, peer, key, beside } in measure.lines {
            let Some(column) = measure.columns.iter().find(|column| column.key == *key) else { continue };
            let own = results.median(peer, key);
            for other in *beside {
                let theirs = results.median(other, key);
                let cells = vec![
                    title.unwrap_or(&measure.title).to_owned(),
                    column.title.to_owned(),
                    (*peer).to_owned(),
                    figure(own, column),
                    (*other).to_owned(),
                    figure(theirs, column),
                    ratio(own, theirs),
                ];
                let remark = if results.disturbed { "DISTURBED" } else { "" };
                table.rows.push((cells, remark.to_owned()));
            }
        }
    }
    table
}

pub(crate) fn plain_measure(measure: &Measure, results: &Results) -> String {
    format!("\n{} ({})\n{}", measure.title, rounds(measure, results), table(measure, results).plain())
}

pub(crate) fn plain_summary(all: &[(Measure, Results)]) -> String {
    format!("\nIn short\n{}", summary(all).plain())
}

pub(crate) fn markdown(arguments: &Arguments, setting: &Setting, all: &[(Measure, Results)]) -> String {
    let mut text = format!("{}\n{}", setting.text(arguments), summary(all).markdown());
    for (measure, results) in all {
        text.push_str(&format!("\n### {}\n\n", measure.title));
        text.push_str(&format!("{}.\n\n{}", rounds(measure, results), table(measure, results).markdown()));
    }
    text
}

pub(crate) fn json(
    arguments: &Arguments,
    setting: &Setting,
    all: &[(Measure, Results)],
) -> serde_json::Result<String> {
    let measures: Vec<_> = all.iter().map(|(measure, results)| measure_json(measure, results)).collect();
    serde_json::to_string_pretty(&serde_json::json!({
        "machine": setting.machine, "libzmq": setting.libzmq, "round_ms": arguments.round_ms,
        "seed": arguments.seed, "high_water_mark": HIGH_WATER_MARK, "socket_buffers": "kernel defaults",
        "missing": setting.missing, "measures": measures,
    }))
}

fn measure_json(measure: &Measure, results: &Results) -> serde_json::Value {
    let lead = measure.columns[0].key;
    let peers: serde_json::Map<String, serde_json::Value> = results
        .peers
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let medians: BTreeMap<_, _> = measure
                .columns
                .iter()
                .filter_map(|column| Some((column.key, results.median(name, column.key)?)))
                .collect();
            let ratio = |reference| Some(results.median(name, lead)? / results.median(reference, lead)?);
            let rounds: Vec<_> = results.rounds.iter().map(|round| &round[index]).collect();
            let entry = serde_json::json!({
                "medians": medians,
                "ratio_to_libzmq": ratio(LIBZMQ),
                "ratio_to_raw_blocking": ratio(RAW_BLOCKING),
                "ratio_to_raw_polled": ratio(RAW_POLLED),
                "rounds": rounds,
            });
            ((*name).to_owned(), entry)
        })
        .collect();
    serde_json::json!({
        "name": measure.name, "title": measure.title, "lead": lead, "counts": results.counts,
        "limits": results.limits, "disturbed": results.disturbed, "peers": peers,
    })
}
