//! What a cluster run found, as one page: what is wrong first, then figures, maps and plots, then everything. It has no script
//! and loads nothing. Measures nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::heat::Map;
use super::limits::ROWS_MAX;
use super::matrix::Matrix;
use super::output::title;
use super::plan::Item;
use super::plots;
use super::protocol::{Kind, Usage};
use super::report::{Cluster, Latency, RankFigures, Step};
use super::slow::Slow;
use super::table::overload;
use crate::bench::html::plot::escaped;
use crate::bench::html::{FOOT, figures, head, microseconds, ratio, table, utc};
use crate::bench::table::NONE;
use crate::units;

/// The page.
pub(super) fn of(cluster: &Cluster) -> String {
    let hosts = cluster.hosts();
    let mut page = head(&format!(
        "fabriq bench cluster: {} on {}",
        units::count(cluster.ranks.len(), "rank"),
        units::count(hosts.len(), "host")
    ));
    let _ = writeln!(page, "<p class=\"sub\">{}</p>", escaped(&subtitle(cluster)));
    let matrices = Matrix::all(cluster);
    for warning in warnings(cluster, &matrices) {
        let _ = writeln!(page, "<p class=\"warning\">{}</p>", escaped(&warning));
    }
    if cluster.steps.is_empty() {
        page += "<p class=\"warning\">Nothing was measured.</p>\n";
    }
    page += &summary(cluster);
    page += &maps(cluster, &matrices);
    let sweeps = plots::sweeps(cluster);
    if !sweeps.is_empty() {
        page += "<h2>By message size</h2>\n<p class=\"how\">All flows of a topology together: the median of all messages, and the \
                 sum of all rates. Dashed: the wire itself between the pair, measured in the same run. Both axes are \
                 logarithmic.</p>\n";
        page += &figures(&sweeps);
    }
    let distributions = plots::distributions(cluster);
    if !distributions.is_empty() {
        page += "<h2>Latency distribution</h2>\n<p class=\"how\">How long the slowest messages take: at 99.9 %, one of a thousand \
                 takes longer than that. A colour for each size; dashed: the wire itself. One scale for all.</p>\n";
        page += &figures(&distributions);
    }
    let loads = plots::loads(cluster);
    if !loads.is_empty() {
        page += "<h2>Latency under load</h2>\n<p class=\"how\">At a given rate each message has an intended time, from which its \
                 latency counts, whether or not earlier ones have come back. Dashed: without other load, each message after \
                 the one before.</p>\n";
        page += &figures(&loads);
    }
    page += &all_figures(cluster);
    page += &all_flows(cluster);
    page += &ranks(cluster);
    page += &environment(cluster);
    page + FOOT
}

fn subtitle(cluster: &Cluster) -> String {
    let run = &cluster.run;
    let mut text = format!(
        "fabriq {} ({} build), {} s per figure, {}",
        run.version,
        run.build,
        run.options.duration.as_secs_f64(),
        utc(run.unix_time)
    );
    if let Some(end) = &cluster.end {
        let _ = write!(text, ", {:.0} s in all", end.seconds);
    }
    text
}

/// What the reader must know before any figure.
fn warnings(cluster: &Cluster, matrices: &[Matrix]) -> Vec<String> {
    let mut warnings = Vec::new();
    match &cluster.end {
        None => warnings.push("This run was cut off; what follows was measured before.".to_owned()),
        Some(end) => {
            let why = end.interrupted.iter();
            warnings.extend(
                why.map(|why| format!("This run was interrupted ({why}); what follows was measured before.")),
            );
        }
    }
    warnings.extend(cluster.faults.iter().take(ROWS_MAX).map(|fault| format!("Failed: {}", fault.why)));
    if cluster.run.build != "release" {
        warnings.push("This is a debug build, several times slower than a release build.".to_owned());
    }
    warnings.extend(cluster.confined());
    warnings.extend(cluster.refused_counters());
    if cluster.is_disturbed() {
        warnings.push(
            "A ping-pong on the bare wire was slower than fabriq: other processes held the processors. Measure again when they \
             are idle."
                .to_owned(),
        );
    }
    for matrix in matrices {
        let said = matrix.slow(cluster).sentences(!matrix.is_latency, |rank| cluster.name(rank));
        let all = said.len();
        let said = said.into_iter().take(8).map(|sentence| format!("Slow ({}): {sentence}.", matrix.title()));
        warnings.extend(said);
        if all > 8 {
            warnings.push(format!("Slow ({}): and {} more; see the map.", matrix.title(), all - 8));
        }
    }
    for step in &cluster.steps {
        if let Some((asked, reached)) = overload(step) {
            warnings.push(format!(
                "{}: {}/s asked of each client, {}/s reached: the latency is that of an overload.",
                title(&step.item),
                units::per_second(asked),
                units::per_second(reached)
            ));
        }
        if step.flows_empty > 0 {
            let flows = units::count(step.flows_empty, "flow");
            warnings.push(format!("{}: {flows} brought no message in the time measured.", title(&step.item)));
        }
        if let Some(lost) = step.total.lost.filter(|lost| *lost > 0) {
            warnings.push(format!(
                "{}: {lost} messages were lost: nothing holds the sender back.",
                title(&step.item)
            ));
        }
    }
    if cluster.hosts().len() == 1 && cluster.ranks.len() > 1 {
        warnings.push(
            "All ranks ran on one host and shared its processors: these are no figures of a network."
                .to_owned(),
        );
    }
    warnings
}

/// What transports are called and topologies, in the order of measuring.
pub(super) fn lines(cluster: &Cluster) -> Vec<(String, super::options::Topology)> {
    let mut lines: Vec<_> = Vec::new();
    for step in &cluster.steps {
        let line = (step.item.label().to_owned(), step.item.topology);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Whether an item is as plain as its sweep has it: the first of all parts, links, threads and marks, and no other load.
pub(super) fn is_plain(cluster: &Cluster, item: &Item) -> bool {
    let options = &cluster.run.options;
    item.rate.is_none()
        && item.background.is_none()
        && item.round.is_none()
        && Some(&item.parts) == options.parts.first()
        // A fan-out has one link whatever is asked.
        && (Some(&item.links) == options.links.first() || item.links == 1)
        && Some(&item.threads) == options.threads.first()
        && Some(&item.hwm) == options.hwms.first()
}

/// A row per transport and topology: what most people want to know.
fn summary(cluster: &Cluster) -> String {
    let sizes: BTreeSet<usize> = cluster.steps.iter().map(|step| step.item.size).collect();
    let (Some(&small), Some(&large)) = (sizes.first(), sizes.last()) else { return String::new() };
    let (small_text, large_text) = (units::size(small), units::size(large));
    let mut columns = vec!["transport, topology".to_owned()];
    columns.extend(["median", "99 %", "99.99 %"].map(|name| format!("{name}, {small_text}")));
    columns.push("x raw".to_owned());
    columns.push(format!("msg/s, {small_text}"));
    columns.push("x raw".to_owned());
    columns.push(format!("GB/s, {large_text}"));
    columns.push("x raw".to_owned());
    columns.push(format!("CPU per message, {small_text}"));
    let rows = lines(cluster).into_iter().filter_map(|(label, topology)| {
        let find = |latency: bool, size: usize| {
            cluster.steps.iter().find(|step| {
                let item = &step.item;
                (item.label(), item.topology, item.size) == (&*label, topology, size)
                    && item.kind.is_latency() == latency
                    && !item.kind.is_raw()
                    && is_plain(cluster, item)
            })
        };
        let raw = |step: Option<&Step>| {
            ratio(step.and_then(|step| cluster.raw_beside(step)).and_then(|raw| raw.total.ratio))
        };
        let (latency, rate, bytes) = (find(true, small), find(false, small), find(false, large));
        latency.or(rate).or(bytes)?;
        let us = |figure: fn(&Latency) -> f64| {
            let found = latency.and_then(|step| step.total.latency.as_ref());
            found.map_or(NONE.to_owned(), |latency| microseconds(figure(latency)))
        };
        let of = |step: Option<&Step>, figure: &dyn Fn(&Step) -> String| step.map_or(NONE.to_owned(), figure);
        let cpu = rate.or(latency).and_then(|step| step.total.cpu_ns_per_message);
        Some(vec![
            format!("{label} {}", topology.name()),
            us(|latency| latency.p50_us),
            us(|latency| latency.p99_us),
            us(|latency| latency.p99_99_us),
            raw(latency),
            of(rate, &|step| units::per_second(step.total.messages_per_second)),
            raw(rate),
            of(bytes, &|step| units::three_digits(step.total.gigabytes_per_second)),
            raw(bytes),
            cpu.map_or(NONE.to_owned(), |ns| microseconds(ns / 1e3)),
        ])
    });
    let mut text = table("key", &columns, rows.collect::<Vec<_>>().into_iter());
    text += "<p class=\"how\">Latency is one way, half of a round trip, of the messages of all ranks. Rates are the sum of all \
             flows, as receivers counted. CPU is that of all ranks together. Every message was verified. x raw is the figure by \
             that of the wire itself between the same ranks: beside a median, 1.00 is as fast and 2.00 takes twice as long; \
             beside a rate, 0.50 is half as fast.</p>\n";
    text
}

fn maps(cluster: &Cluster, matrices: &[Matrix]) -> String {
    if matrices.is_empty() {
        return String::new();
    }
    let mut text = "<h2>Every link</h2>\n<p class=\"how\">Disjoint pairs are measured at once, unless one at a time was asked for. A \
                    colour says how many times worse than the better quarter of all links a link is; those that are more than \
                    1.5 times worse have a frame. Point at a cell for its figure. Latency is the same both ways.</p>\n<div \
                    class=\"plots\">\n"
        .to_owned();
    for (at, matrix) in matrices.iter().enumerate() {
        let unit = matrix.unit();
        let name = unit.name.replace("us", "µs");
        let title = format!("{}, {name}", matrix.title());
        let (id, slow) = (format!("map-{at}"), matrix.slow(cluster));
        let map = Map {
            id: &id,
            title: &title,
            cells: &matrix.cells,
            slow: &slow,
            usual: Slow::new(&matrix.cells, !matrix.is_latency).usual,
            more_is_better: !matrix.is_latency,
            number: &|value| unit.number(value),
            unit: &name,
        };
        let _ = writeln!(
            text,
            "<figure><figcaption>{}</figcaption>\n{}<p class=\"how\">{}</p></figure>",
            escaped(&title),
            map.svg(),
            escaped(&matrix.summary().replace(" us", " µs"))
        );
    }
    text + "</div>\n"
}

/// Every measurement.
fn all_figures(cluster: &Cluster) -> String {
    let columns = [
        "measurement",
        "size",
        "steady",
        "median",
        "99 %",
        "99.9 %",
        "99.99 %",
        "longest",
        "msg/s",
        "GB/s",
        "CPU/message",
        "CPU/byte",
        "copied/byte",
        "lost",
        "x raw",
    ];
    let us = |step: &Step, figure: fn(&Latency) -> f64| {
        step.total.latency.as_ref().map_or(NONE.to_owned(), |latency| microseconds(figure(latency)))
    };
    // Rounds that would bury the rest are in the maps.
    let shown =
        cluster.steps.iter().filter(|step| step.item.round.is_none() || cluster.steps.len() <= ROWS_MAX);
    let rows = shown.flat_map(|step| {
        let (item, total) = (&step.item, &step.total);
        let round = item.round.map(|round| format!(", round {}", round + 1)).unwrap_or_default();
        let own = vec![
            format!("{} {} {}{round}", item.label(), item.topology.name(), item.what()),
            units::size(item.size),
            if step.steady { "yes" } else { "no" }.to_owned(),
            us(step, |latency| latency.p50_us),
            us(step, |latency| latency.p99_us),
            us(step, |latency| latency.p99_9_us),
            us(step, |latency| latency.p99_99_us),
            us(step, |latency| latency.max_us),
            units::per_second(total.messages_per_second),
            units::three_digits(total.gigabytes_per_second),
            total.cpu_ns_per_message.map_or(NONE.to_owned(), |ns| microseconds(ns / 1e3)),
            total.cpu_ns_per_byte.map_or(NONE.to_owned(), |ns| format!("{} ns", units::three_digits(ns))),
            total.copied_per_byte.map_or(NONE.to_owned(), |bytes| format!("{bytes:.2}")),
            total.lost.map_or(NONE.to_owned(), |lost| lost.to_string()),
            ratio(total.ratio),
        ];
        let tool = step.tool.as_ref().map(|tool| {
            let us = |us: f64| if us > 0.0 { microseconds(us) } else { NONE.to_owned() };
            let none = || NONE.to_owned();
            let (rate, bytes) = match tool.messages_per_second {
                rate if rate > 0.0 => {
                    (units::per_second(rate), units::three_digits(rate * item.size as f64 / 1e9))
                }
                _ => (none(), none()),
            };
            let name = format!("{} {} {}", item.label(), item.topology.name(), tool.name);
            let size = units::size(item.size);
            let figures = [us(tool.p50_us), us(tool.p99_us), none(), none(), none(), rate, bytes];
            // It says nothing of what it took.
            [&[name, size, none()][..], &figures, &[none(), none(), none(), none()], &[ratio(tool.ratio)]]
                .concat()
        });
        std::iter::once(own).chain(tool)
    });
    let rows: Vec<_> = rows.collect();
    let mut text = format!(
        "<details>\n<summary>All measurements</summary>\n{}",
        table("all", &columns.map(str::to_owned), rows.into_iter())
    );
    text += "<p class=\"how\">Steady: whether the warm-up ended because figures had become steady, or because it was over. CPU \
             is that of all ranks together. Copied is by fabriq itself, on both sides, for each byte that was carried: 0 where \
             parts go from where they are and land where they stay.</p>\n</details>\n";
    text
}

/// Every flow of every measurement, the worst first where they are many.
fn all_flows(cluster: &Cluster) -> String {
    let columns =
        ["measurement", "size", "from", "to", "median", "99.9 %", "msg/s", "GB/s", "lost", "repaired"];
    let mut rows = Vec::new();
    let mut left_out = 0;
    // Of a pair the measurement says all, of a matrix the map.
    let several =
        |step: &&Step| step.item.round.is_none() && (step.flows.len() > 1 || step.flows_left_out > 0);
    for step in cluster.steps.iter().filter(several) {
        let mut flows: Vec<_> = step.flows.iter().collect();
        if flows.len() > ROWS_MAX {
            flows.sort_by(|a, b| a.messages_per_second.total_cmp(&b.messages_per_second));
        }
        left_out += step.flows_left_out + flows.len().saturating_sub(ROWS_MAX);
        for flow in flows.into_iter().take(ROWS_MAX) {
            let us = |figure: fn(&Latency) -> f64| {
                flow.latency.as_ref().map_or(NONE.to_owned(), |latency| microseconds(figure(latency)))
            };
            let what = if flow.background { "background".to_owned() } else { step.item.what() };
            rows.push(vec![
                format!("{} {} {what}", step.item.label(), step.item.topology.name()),
                units::size(if flow.background { step.item.background.unwrap_or(0) } else { step.item.size }),
                flow.from.to_string(),
                flow.to.map_or("servers".to_owned(), |to| to.to_string()),
                us(|latency| latency.p50_us),
                us(|latency| latency.p99_9_us),
                units::per_second(flow.messages_per_second),
                units::three_digits(flow.gigabytes_per_second),
                flow.lost.map_or(NONE.to_owned(), |lost| lost.to_string()),
                flow.recovery.map_or(NONE.to_owned(), |recovery| {
                    format!("{} of {} packets", recovery.repaired, recovery.packets)
                }),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let note = match left_out {
        0 => String::new(),
        1 => "<p class=\"how\">A flow that does better is left out.</p>\n".to_owned(),
        left => format!("<p class=\"how\">{left} flows that do better are left out.</p>\n"),
    };
    let columns = columns.map(str::to_owned);
    format!(
        "<details>\n<summary>All flows</summary>\n{}{note}</details>\n",
        table("all", &columns, rows.into_iter())
    )
}

/// What a rank took, all measurements together.
#[derive(Default)]
struct Taken {
    usage: Usage,
    counters: BTreeMap<String, u64>,
}

impl Taken {
    fn add(&mut self, rank: &RankFigures) {
        let (sum, usage) = (&mut self.usage, &rank.usage);
        sum.cpu_seconds += usage.cpu_seconds;
        sum.seconds += usage.seconds;
        sum.voluntary_switches += usage.voluntary_switches;
        sum.involuntary_switches += usage.involuntary_switches;
        sum.resident_bytes = sum.resident_bytes.max(usage.resident_bytes);
        sum.pinned_bytes = sum.pinned_bytes.max(usage.pinned_bytes);
        sum.copied_bytes += usage.copied_bytes;
        for (name, by) in &rank.counters {
            *self.counters.entry(name.clone()).or_default() += by;
        }
    }
}

/// A row for each rank, with what it took.
fn ranks(cluster: &Cluster) -> String {
    let columns = [
        "rank",
        "host",
        "CPU s",
        "of s",
        "waits",
        "preempted",
        "memory",
        "pinned",
        "copied",
        "counters that grew",
    ]
    .map(str::to_owned);
    let mut of: BTreeMap<u32, Taken> = BTreeMap::new();
    for rank in cluster.steps.iter().flat_map(|step| &step.ranks) {
        of.entry(rank.rank).or_default().add(rank);
    }
    let rows = cluster.ranks.iter().take(ROWS_MAX).map(|rank| {
        let Taken { usage, counters } = of.remove(&rank.rank).unwrap_or_default();
        let counters: Vec<_> = counters.iter().map(|(name, by)| format!("{name} {by}")).collect();
        vec![
            rank.rank.to_string(),
            rank.host.clone(),
            format!("{:.2}", usage.cpu_seconds),
            format!("{:.2}", usage.seconds),
            usage.voluntary_switches.to_string(),
            usage.involuntary_switches.to_string(),
            units::bytes(usage.resident_bytes),
            units::bytes(usage.pinned_bytes),
            units::bytes(usage.copied_bytes),
            if counters.is_empty() { NONE.to_owned() } else { counters.join(", ") },
        ]
    });
    let rows: Vec<_> = rows.collect();
    format!(
        "<details>\n<summary>Ranks</summary>\n{}<p class=\"how\">Processor time, context switches and copies while figures counted, \
         all measurements together; memory at its most. Pinned is what devices may reach, copied what fabriq itself moved from \
         one place to another.</p>\n</details>\n",
        table("all", &columns, rows.into_iter())
    )
}

/// Where and how it was measured, and what was not.
fn environment(cluster: &Cluster) -> String {
    let run = &cluster.run;
    let mut facts: Vec<(String, String)> = vec![
        ("started by".to_owned(), run.launcher.clone()),
        ("measured".to_owned(), utc(run.unix_time)),
        ("fabriq".to_owned(), format!("{} ({} build)", run.version, run.build)),
        (
            "time".to_owned(),
            format!(
                "{} per figure after at most {} of warm-up",
                units::time(run.options.duration),
                units::time(run.options.warmup)
            ),
        ),
        ("transports".to_owned(), run.options.transports.join(", ")),
    ];
    facts.extend(hosts(cluster));
    let mut raw: Vec<_> = cluster
        .steps
        .iter()
        .filter_map(|step| {
            let what = step.what.as_ref()?;
            let kind = if step.item.kind == Kind::RawEcho { "there and back" } else { "one way" };
            Some((format!("{} itself, {kind}", step.item.label()), format!("{what}; both ends polling")))
        })
        .collect();
    raw.sort();
    raw.dedup();
    facts.extend(raw);
    let mut without: Vec<&String> =
        cluster.steps.iter().filter_map(|step| step.without_tool.as_ref()).collect();
    without.sort();
    without.dedup();
    facts.extend(without.into_iter().map(|why| ("not measured".to_owned(), format!("perftest: {why}"))));
    facts.extend(cluster.skipped.iter().map(|skipped| {
        let what = [skipped.transport.clone(), skipped.topology.map(|topology| topology.name().to_owned())];
        let what: Vec<_> = what.into_iter().flatten().collect();
        (
            "not measured".to_owned(),
            format!("{}: {}", what.join(" "), skipped.why).trim_start_matches(": ").to_owned(),
        )
    }));
    let mut text = "<h2>Environment</h2>\n<dl>\n".to_owned();
    for (name, fact) in facts {
        let _ = writeln!(text, "<dt>{}</dt><dd>{}</dd>", escaped(&name), escaped(&fact));
    }
    text + "</dl>\n"
}

/// Facts of all hosts, each said once of all ranks that share it.
fn hosts(cluster: &Cluster) -> Vec<(String, String)> {
    type Shared = Vec<(String, Vec<u32>)>;
    let mut all: Vec<(String, Shared)> = Vec::new();
    for rank in &cluster.ranks {
        for (name, fact) in rank.environment.facts() {
            if ["host", "fabriq"].contains(&&*name) {
                continue;
            }
            let at = all.iter().position(|known| known.0 == name).unwrap_or_else(|| {
                all.push((name, Vec::new()));
                all.len() - 1
            });
            match all[at].1.iter_mut().find(|known| known.0 == fact) {
                Some(known) => known.1.push(rank.rank),
                None => all[at].1.push((fact, vec![rank.rank])),
            }
        }
    }
    let count = cluster.ranks.len();
    let said = all.into_iter().flat_map(|(name, shared)| {
        let left_out = shared.len().saturating_sub(ROWS_MAX);
        let mut said: Vec<_> = shared
            .into_iter()
            .take(ROWS_MAX)
            .map(|(fact, mut ranks)| {
                ranks.sort_unstable();
                let who = if ranks.len() == count {
                    "all hosts".to_owned()
                } else {
                    format!("rank {}", ranges(&ranks))
                };
                (format!("{name}, {who}"), fact)
            })
            .collect();
        if left_out > 0 {
            said.push((name, format!("and {left_out} more, which the JSON has")));
        }
        said
    });
    said.collect()
}

/// `0-3, 7`.
fn ranges(ranks: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &rank in ranks {
        match parts.last_mut() {
            Some(last) if last.1 + 1 == rank => last.1 = rank,
            _ => parts.push((rank, rank)),
        }
    }
    let part = |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cluster::options::tests::options;
    use crate::bench::cluster::report::Run;

    #[test]
    fn ranks_are_told_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn two_urls_of_one_scheme_are_told_apart_everywhere() {
        let transports = ["--transport", "tcp", "--transport", "tcp://10.0.0.1:*", "--transport", "ipc"];
        // The second wire is half as fast.
        let report = crate::bench::cluster::compare::tests::report_of(&transports, |item, _, _| {
            if item.url.starts_with("tcp://10") { 2.0 } else { 1.0 }
        });
        let page = of(&report);
        for part in [
            "tcp://{address}:* incast</th>",
            "tcp://10.0.0.1:* incast</th>",
            "ipc incast</th>",
            "tcp://{address}:*: messages per second",
            "tcp://10.0.0.1:*: messages per second",
            "<figcaption>tcp://10.0.0.1:* matrix latency, 1 KiB, µs",
            "<figcaption>ipc matrix latency, 1 KiB, µs",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("tcp incast"), "{page}");
        let table = crate::bench::cluster::table::of(&report);
        assert!(table.contains("tcp://10.0.0.1:* incast latency, 1 KiB"), "{table}");
        let csv = crate::bench::cluster::csv::of(&report);
        assert!(csv.contains(",transport,url,") && csv.contains(",tcp,tcp://10.0.0.1:*,1024,"), "{csv}");
    }

    #[test]
    fn a_report_of_a_stranger_brings_no_tags() {
        let hostile = "\"><script>alert(1)</script>";
        let mut report = crate::bench::cluster::compare::tests::report(|_, _| 1.0);
        for step in &mut report.steps {
            step.item.url = format!("{hostile}://x");
            step.item.by_url = step.number % 2 == 0;
        }
        for rank in &mut report.ranks {
            rank.host = hostile.to_owned();
        }
        report.run.launcher = hostile.to_owned();
        let page = of(&report);
        assert!(!page.contains("<script") && page.contains("&lt;script"), "{page}");
    }

    #[test]
    fn a_map_names_the_one_unit_of_its_figures() {
        let report =
            crate::bench::cluster::compare::tests::report(
                |from, to| {
                    if (from, to) == (1, 2) { 100.0 } else { 4.72 }
                },
            );
        let page = of(&report);
        assert!(page.contains("<figcaption>tcp matrix latency, 1 KiB, µs</figcaption>"), "{page}");
        // The slow one does not look fast.
        let cell = |number: &str| page.contains(&format!(">{number}</text>"));
        assert!(cell("47.2") && cell("1000") && !cell("1.00"), "{page}");
        assert!(page.contains("rank 1 to rank 2: 1000 µs, 21.2 times slower"), "{page}");
    }

    #[test]
    fn a_run_that_was_cut_off_before_anything_is_still_a_page() {
        let page = of(&Cluster::new(Run::new(&options(&[]).unwrap(), 4, "by <hand>")));
        assert!(page.contains("cut off") && page.contains("Nothing was measured"), "{page}");
        assert!(page.ends_with("</html>\n") && page.contains("by &lt;hand&gt;"));
    }
}
