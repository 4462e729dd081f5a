//! What a benchmark found, as one page with plots. It has no script and loads nothing; `fabriq bench report` makes it again
//! from JSON. Measures nothing.

pub(super) mod plot;

use std::fmt::Write as _;
use std::path::PathBuf;

use super::cluster::Cluster;
use super::report::{Latency, LatencyBeside, Output, Quantile, Report, Times};
use super::table::{self, DISTURBED, NONE, latency_of, lines, throughput_of};
use crate::failure::Failure;
use crate::info::print;
use crate::units;
use plot::{Axis, Line, Plot, escaped, powers};

/// Colours that the page has.
pub(super) const COLOURS: usize = 7;

/// Make the page with plots again from the JSON of a benchmark
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `fabriq bench --json` or `fabriq bench cluster --out` has written; also the .jsonl of a run that was cut off
    #[arg(value_name = "JSON")]
    json: PathBuf,

    /// Write the page there [default: standard output]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(cluster) = Cluster::read(&args.json)? {
        return cluster.put_page(args.html.as_deref());
    }
    let report = Report::read(&args.json)?;
    match &args.html {
        Some(path) => Output::page(path)?.put(&report),
        None => print(&of(&report)),
    }
}

/// A page's beginning, to its heading. It allows itself to load nothing and to run nothing.
pub(super) fn head(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n",
        include_str!("page.css")
    )
}

/// And its end.
pub(super) const FOOT: &str = "</main>\n</body>\n</html>\n";

/// The page.
pub(super) fn of(report: &Report) -> String {
    let host = if report.host.name.is_empty() { "this host" } else { &report.host.name };
    let mut page = head(&format!("fabriq bench on {host}"));
    let _ = writeln!(page, "<p class=\"sub\">{}</p>", escaped(&subtitle(report)));
    for warning in warnings(report) {
        let _ = writeln!(page, "<p class=\"warning\">{}</p>", escaped(&warning));
    }
    page += &summary(report);
    let mut plots = sweeps(report);
    plots.retain(|plot| !plot.is_empty());
    if !plots.is_empty() {
        page += "<h2>By message size</h2>\n<p class=\"how\">Solid: fabriq. Dashed: the wire itself, measured in the same \
                 run. Both axes are logarithmic.</p>\n";
        page += &figures(&plots);
    }
    let mut plots = distributions(report);
    plots.retain(|plot| !plot.is_empty());
    if !plots.is_empty() {
        page += "<h2>Latency distribution</h2>\n<p class=\"how\">How long the slowest messages take: at 99.9 %, one of a \
                 thousand takes longer than that. A colour for each size; dashed: the wire itself. One scale for all transports.</p>\n";
        page += &figures(&plots);
    }
    page += &all_figures(report);
    page += &environment(report);
    page + FOOT
}

fn subtitle(report: &Report) -> String {
    let mut text = report.host.line();
    if let Some(Times { duration_seconds, .. }) = report.load {
        let _ = write!(text, ", {duration_seconds} s per figure");
    }
    if report.unix_time > 0 {
        let _ = write!(text, ", {}", utc(report.unix_time));
    }
    text
}

/// What keeps figures from being what they seem.
fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if report.host.build != "release" {
        warnings.push("This is a debug build, several times slower than a release build.".to_owned());
    }
    let mut beside = report.latency.iter().flat_map(|row| &row.baselines);
    if beside.any(|beside| beside.ratio < DISTURBED) {
        warnings.push(
            "A ping-pong on the bare wire was slower than fabriq: other processes held the processors. Measure again \
             when they are idle."
                .to_owned(),
        );
    }
    for row in &report.latency {
        if let Some(asked) = row.rate_asked.filter(|asked| row.rate < asked * 0.95) {
            warnings.push(format!(
                "{} {}: {}/s asked, {}/s reached: the latency is that of an overload.",
                row.transport,
                units::size(row.size),
                units::per_second(asked),
                units::per_second(row.rate)
            ));
        }
    }
    for row in &report.throughput {
        if let Some(lost) = row.lost.filter(|lost| *lost > 0) {
            let (transport, size) = (&row.transport, units::size(row.size));
            warnings.push(format!(
                "{transport} {size}: {lost} messages were lost: nothing holds the sender back."
            ));
        }
    }
    for left in report.failed.iter().flatten() {
        warnings.push(format!("{} failed: {}", left.transport, left.why));
    }
    warnings
}

// ---------------------------------------------------------------------------------------------------------------
// Tables

/// The transports in the order of measuring.
fn transports(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (transport, _) in lines(report) {
        if !names.contains(&transport) {
            names.push(transport);
        }
    }
    names
}

fn sizes(report: &Report) -> Vec<usize> {
    let mut sizes: Vec<_> = lines(report).into_iter().map(|line| line.1).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// A row per transport: what most people want to know.
fn summary(report: &Report) -> String {
    let sizes = sizes(report);
    let (Some(&small), Some(&large)) = (sizes.first(), sizes.last()) else {
        return "<p class=\"warning\">Nothing was measured.</p>\n".to_owned();
    };
    let (latency, throughput) = (!report.latency.is_empty(), !report.throughput.is_empty());
    let mut head = vec!["transport".to_owned()];
    let small_text = units::size(small);
    if latency {
        head.extend([format!("median, {small_text}"), format!("99.9 %, {small_text}"), "x raw".to_owned()]);
    }
    if throughput {
        head.extend([format!("msg/s, {small_text}"), "x raw".to_owned()]);
        head.extend([format!("GB/s, {}", units::size(large)), "x raw".to_owned()]);
    }
    let rows = transports(report).into_iter().map(|transport| {
        let mut row = vec![transport.to_owned()];
        if latency {
            let found = latency_of(report, (transport, small));
            let us =
                |figure: fn(&Latency) -> f64| found.map_or(NONE.to_owned(), |row| microseconds(figure(row)));
            row.extend([us(|row| row.p50_us), us(|row| row.p99_9_us)]);
            row.push(ratio(found.and_then(|row| row.baselines.first()).map(|raw| raw.ratio)));
        }
        if throughput {
            let found = throughput_of(report, (transport, small));
            row.push(found.map_or(NONE.to_owned(), |row| units::per_second(row.messages_per_second)));
            row.push(ratio(found.and_then(|row| row.baselines.first()).map(|raw| raw.ratio)));
            let found = throughput_of(report, (transport, large));
            row.push(found.map_or(NONE.to_owned(), |row| units::three_digits(row.gigabytes_per_second)));
            row.push(ratio(found.and_then(|row| row.baselines.first()).map(|raw| raw.ratio)));
        }
        row
    });
    let mut text = table("key", &head, rows);
    let mut how = Vec::new();
    if latency {
        how.push("Latency is one way, half of a round trip.");
    }
    if throughput {
        how.push("Throughput is what the receiver counted.");
    }
    how.push("Every message was verified.");
    if report.latency.iter().any(|row| !row.baselines.is_empty())
        || report.throughput.iter().any(|row| !row.baselines.is_empty())
    {
        how.push(
            "x raw is the figure by that of the wire itself: beside a median, 1.00 is as fast and 2.00 takes twice as \
             long; beside a rate, 0.50 is half as fast.",
        );
    }
    let _ = writeln!(text, "<p class=\"how\">{}</p>", how.join(" "));
    text
}

pub(super) fn microseconds(us: f64) -> String {
    // On a page there is no terminal that may lack the letter.
    let text = table::microseconds(us);
    text.strip_suffix(" us").map_or_else(|| text.clone(), |number| format!("{number} µs"))
}

pub(super) fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or(NONE.to_owned(), units::three_digits)
}

/// Every figure, in words and numbers.
fn all_figures(report: &Report) -> String {
    let mut text = "<details>\n<summary>All figures</summary>\n".to_owned();
    if !report.latency.is_empty() {
        let head =
            ["transport", "size", "by", "median", "99 %", "99.9 %", "longest", "x raw"].map(str::to_owned);
        let rows = report.latency.iter().flat_map(|row| {
            let us = microseconds;
            let name = [row.transport.clone(), units::size(row.size)];
            let own = [us(row.p50_us), us(row.p99_us), us(row.p99_9_us), us(row.max_us)];
            let raw = ratio(row.baselines.first().map(|raw| raw.ratio));
            let own = [&name[..], &["fabriq".to_owned()], &own, &[raw]].concat();
            let beside = row.baselines.iter().map(move |raw| {
                let tail = raw.distribution.iter().find(|point| point.share >= 0.999 - 1e-9);
                let tail = tail.map_or(NONE.to_owned(), |point| us(point.us));
                let own = [
                    raw.name.clone(),
                    us(raw.p50_us),
                    us(raw.p99_us),
                    tail,
                    NONE.to_owned(),
                    NONE.to_owned(),
                ];
                [&name[..], &own].concat()
            });
            std::iter::once(own).chain(beside).collect::<Vec<_>>()
        });
        text += "<h3>Latency, one way</h3>\n";
        text += &table("all", &head, rows);
    }
    if !report.throughput.is_empty() {
        let head = ["transport", "size", "by", "msg/s", "GB/s", "x raw"].map(str::to_owned);
        let rows = report.throughput.iter().flat_map(|row| {
            let name = [row.transport.clone(), units::size(row.size)];
            let figures = |rate, bytes| [units::per_second(rate), units::three_digits(bytes)];
            let own = figures(row.messages_per_second, row.gigabytes_per_second);
            let raw = ratio(row.baselines.first().map(|raw| raw.ratio));
            let own = [&name[..], &["fabriq".to_owned()], &own, &[raw]].concat();
            let beside = row.baselines.iter().map(move |raw| {
                let figures = figures(raw.messages_per_second, raw.gigabytes_per_second);
                [&name[..], std::slice::from_ref(&raw.name), &figures, &[NONE.to_owned()]].concat()
            });
            std::iter::once(own).chain(beside).collect::<Vec<_>>()
        });
        text += "<h3>Throughput</h3>\n";
        text += &table("all", &head, rows);
    }
    text + "</details>\n"
}

pub(super) fn table(class: &str, head: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("<div class=\"wide\"><table class=\"{class}\">\n<thead><tr>");
    for cell in head {
        let _ = write!(text, "<th scope=\"col\">{}</th>", escaped(cell));
    }
    text += "</tr></thead>\n<tbody>\n";
    for row in rows {
        text += "<tr>";
        for (at, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            let _ = match at {
                0 => write!(text, "<th scope=\"row\">{cell}</th>"),
                _ => write!(text, "<td>{cell}</td>"),
            };
        }
        text += "</tr>\n";
    }
    text + "</tbody></table></div>\n"
}

/// Where and how it was measured, and what was not.
fn environment(report: &Report) -> String {
    let mut facts = report.host.facts();
    if report.unix_time > 0 {
        facts.push(("measured", utc(report.unix_time)));
    }
    if let Some(Times { duration_seconds, warmup_seconds }) = report.load {
        facts.push(("time", format!("{duration_seconds} s per figure after {warmup_seconds} s of warm-up")));
    }
    let sizes: Vec<_> = sizes(report).into_iter().map(units::size).collect();
    facts.push(("sizes", sizes.join(", ")));
    if let Some(asked) = report.latency.iter().find_map(|row| row.rate_asked) {
        facts.push(("load", format!("open loop, {} messages per second", units::per_second(asked))));
    } else if !report.latency.is_empty() {
        facts.push(("load", "closed loop: each message after the one before".to_owned()));
    }
    let mut text = "<h2>Environment</h2>\n<dl>\n".to_owned();
    let mut fact = |name: &str, fact: &str| {
        let _ = writeln!(text, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(fact));
    };
    facts.iter().for_each(|(name, what)| fact(name, what));
    let mut told: Vec<(&str, &str)> = Vec::new();
    let latencies =
        report.latency.iter().flat_map(|row| row.baselines.iter().map(|raw| (&raw.name, &raw.what)));
    let throughputs =
        report.throughput.iter().flat_map(|row| row.baselines.iter().map(|raw| (&raw.name, &raw.what)));
    for (name, what) in latencies.chain(throughputs) {
        if !told.contains(&(name.as_str(), what.as_str())) {
            told.push((name, what));
            fact(name, &format!("{what}; both ends polling"));
        }
    }
    for without in &report.without_baseline {
        fact("not measured", &format!("{} beside {}: {}", without.baseline, without.transport, without.why));
    }
    for left in report.skipped.iter().flatten() {
        fact("not measured", &format!("{}: {}", left.transport, left.why));
    }
    text + "</dl>\n"
}

// ---------------------------------------------------------------------------------------------------------------
// Plots

pub(super) fn figures(plots: &[Plot]) -> String {
    let figure = |plot: &Plot| {
        format!("<figure><figcaption>{}</figcaption>\n{}</figure>\n", escaped(&plot.title), plot.svg())
    };
    format!("<div class=\"plots\">\n{}</div>\n", plots.iter().map(figure).collect::<String>())
}

/// Latency and throughput by size, a line per transport.
fn sweeps(report: &Report) -> Vec<Plot> {
    let transports = transports(report);
    // What fabriq did and what the wire did.
    let lines_of = |figure: &dyn Fn(&str, usize) -> [Option<f64>; 2]| {
        let mut all = Vec::new();
        for (colour, transport) in transports.iter().enumerate() {
            let (mut own, mut raw) = (Vec::new(), Vec::new());
            for size in sizes(report) {
                let [fabriq, wire] = figure(transport, size);
                own.extend(fabriq.map(|value| (size as f64, value)));
                raw.extend(wire.map(|value| (size as f64, value)));
            }
            let colour = colour % COLOURS;
            let line = |name: &str, reference, points| Line {
                name: name.to_owned(),
                colour,
                reference,
                marked: true,
                points,
            };
            all.push(line(transport, false, own));
            all.push(line(&format!("{transport} raw"), true, raw));
        }
        all.retain(|line: &Line| !line.points.is_empty());
        all
    };
    let latency = lines_of(&|transport, size| {
        let row = latency_of(report, (transport, size));
        [row.map(|row| row.p50_us), row.and_then(|row| row.baselines.first()).map(|raw| raw.p50_us)]
    });
    let rate = lines_of(&|transport, size| {
        let row = throughput_of(report, (transport, size));
        [
            row.map(|row| row.messages_per_second),
            row.and_then(|row| row.baselines.first()).map(|raw| raw.messages_per_second),
        ]
    });
    let bytes = lines_of(&|transport, size| {
        let row = throughput_of(report, (transport, size));
        [
            row.map(|row| row.gigabytes_per_second),
            row.and_then(|row| row.baselines.first()).map(|raw| raw.gigabytes_per_second),
        ]
    });
    let x = Axis {
        what: "message size".to_owned(),
        logarithmic: true,
        ticks: sizes(report).into_iter().map(|size| (size as f64, units::size(size))).collect(),
    };
    let plot = |id: &str, title: &str, lines: Vec<Line>, write: &dyn Fn(f64) -> String| {
        let values = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let y = Axis { what: title.to_owned(), logarithmic: true, ticks: powers(values, short(write)) };
        let text = in_words(&lines, |size| units::size(size as usize), write);
        Plot { id: id.to_owned(), title: title.to_owned(), text, x: x.clone(), y, lines, extent: Vec::new() }
    };
    vec![
        plot("latency", "Median latency, one way", latency, &microseconds),
        plot("rate", "Messages per second", rate, &units::per_second),
        plot("bytes", "Throughput, GB/s", bytes, &units::three_digits),
    ]
}

/// The points of lines as a sentence each.
pub(super) fn in_words(lines: &[Line], x: impl Fn(f64) -> String, y: &dyn Fn(f64) -> String) -> String {
    let line = |line: &Line| {
        let points: Vec<_> =
            line.points.iter().map(|point| format!("{} at {}", y(point.1), x(point.0))).collect();
        format!("{}: {}.", line.name, points.join(", "))
    };
    lines.iter().map(line).collect::<Vec<_>>().join(" ")
}

/// Numbers on an axis: without the zeros behind a point.
pub(super) fn short(write: &dyn Fn(f64) -> String) -> impl Fn(f64) -> String + '_ {
    |value| {
        let text = write(value);
        let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
        let number = match number.contains('.') {
            // Below what three digits tell, the number itself.
            true if value < 0.01 => format!("{value}"),
            true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => number.to_owned(),
        };
        format!("{number} {unit}").trim_end().to_owned()
    }
}

/// A plot per transport, a line per size; all on the scale of all.
fn distributions(report: &Report) -> Vec<Plot> {
    // How many nines: 50 % is 0.3, 99.9 % is 3.
    let nines = |share: f64| -(1.0 - share).log10();
    let points = |distribution: &[Quantile]| -> Vec<(f64, f64)> {
        distribution.iter().map(|point| (nines(point.share), point.us)).collect()
    };
    let raw = |row: &Latency| -> Option<Vec<(f64, f64)>> {
        row.baselines
            .iter()
            .map(|raw: &LatencyBeside| &raw.distribution)
            .find(|own| !own.is_empty())
            .map(|own| points(own))
    };
    let shares = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];
    let x = Axis {
        what: "share of messages that took no longer".to_owned(),
        logarithmic: false,
        ticks: shares.map(|share| (nines(share), format!("{} %", percent(share)))).into(),
    };
    let y = Axis { what: "latency".to_owned(), logarithmic: true, ticks: Vec::new() };
    let plot = |(at, transport): (usize, &str)| {
        let mut lines = Vec::new();
        for row in report.latency.iter().filter(|row| row.transport == transport) {
            let colour = sizes(report).iter().position(|&size| size == row.size).unwrap_or(0) % COLOURS;
            let size = units::size(row.size);
            let line = |name, reference, points| Line { name, colour, reference, marked: false, points };
            lines.push(line(size.clone(), false, points(&row.distribution)));
            // The wire itself only for the smallest, or there would be too much to see.
            if colour == 0 {
                lines.extend(raw(row).map(|points| line(format!("{size} raw"), true, points)));
            }
        }
        lines.retain(|line| !line.points.is_empty());
        // In words only what people ask for.
        let told: Vec<_> = lines
            .iter()
            .map(|line| {
                let points = shares.iter().filter_map(|&share| {
                    line.points.iter().find(|point| (point.0 - nines(share)).abs() < 0.07).copied()
                });
                Line { points: points.collect(), ..line.clone() }
            })
            .collect();
        let text = in_words(&told, |nines| format!("{} %", percent(1.0 - 10f64.powf(-nines))), &microseconds);
        Plot {
            id: format!("distribution-{at}"),
            title: transport.to_owned(),
            text,
            x: x.clone(),
            y: y.clone(),
            lines,
            extent: Vec::new(),
        }
    };
    let with_latency = transports(report)
        .into_iter()
        .filter(|transport| report.latency.iter().any(|row| row.transport == *transport));
    let mut plots: Vec<_> = with_latency.enumerate().map(plot).collect();
    // One scale for all, so that they can be compared by eye.
    let drawn = plots.iter().flat_map(|plot| &plot.lines).flat_map(|line| line.points.iter().copied());
    let ends = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (mut share, mut us) = ((f64::INFINITY, 0.0), (f64::INFINITY, 0.0));
    for point in drawn {
        (share, us) = (ends(share, point.0), ends(us, point.1));
    }
    for plot in plots.iter_mut().filter(|plot| !plot.is_empty()) {
        plot.extent = vec![(share.0, us.0), (share.1, us.1)];
        plot.y.ticks = powers([us.0, us.1].into_iter(), short(&microseconds));
    }
    plots
}

pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `2026-11-21 15:04 UTC`.
pub(super) fn utc(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Years that begin in March, in eras of 400 (proleptic Gregorian calendar).
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_767_225_599), "2025-12-31 23:59 UTC");
        assert_eq!(utc(1_795_273_440), "2026-11-21 15:04 UTC");
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!(short(&microseconds)(1000.0), "1 ms");
        assert_eq!(short(&microseconds)(0.5), "0.5 µs");
        assert_eq!(short(&microseconds)(100.0), "100 µs");
        assert_eq!(short(&units::per_second)(1e6), "1 M");
        assert_eq!(short(&units::three_digits)(0.001), "0.001");
        assert_eq!(percent(0.99999), "99.999");
        assert_eq!(percent(0.5), "50");
    }

    #[test]
    fn a_report_of_nothing_is_still_a_page() {
        let page = of(&Report::new());
        assert!(page.contains("Nothing was measured") && page.ends_with("</html>\n"), "{page}");
    }
}
