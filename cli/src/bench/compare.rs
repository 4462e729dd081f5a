//! `fabriq bench compare`: what got slower or faster between two reports, beyond their noise. Measures nothing.
//!
//! Noise is learnt from the windows of each run: parts of the time that was measured, each with a figure of its own. From
//! both sides' windows as many are drawn again and again, with replacement (a bootstrap; of several runs first the runs, then
//! windows of each, since runs differ by more than their parts). The ratios of the medians of all draws make an interval
//! that holds 99 % of them. A figure has changed when all of the interval lies beyond the threshold. Of streams so slow that
//! nothing came in many windows, means stand in for medians: those of most windows would be 0.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::cluster::{Cluster, Compared};
use super::report::{Latency, Report, Throughput};
use super::table::NONE;
use crate::failure::{Failure, note};
use crate::info::{print, to_json};
use crate::units;

/// Draws of a bootstrap.
const DRAWS: usize = 2000;
/// What lies beyond the interval on either side. Of some dozens of figures, hardly one is beyond by chance.
const TAIL: f64 = 0.005;
/// A stream is slow when nothing came in more than this share of its windows. Of fewer, hardly a draw has a median of 0.
const EMPTY: f64 = 0.1;
/// A change of a rate beyond which no percentage is printed.
const BEYOND: f64 = 1e4;
/// The draws are the same in every run: the verdict on two files does not change.
const SEED: u64 = 0x5eed_0fab_71c0_ffee;

const EXAMPLES: &str = "\
Examples:
  fabriq bench --json > before.json; maintenance; fabriq bench --json > after.json
  fabriq bench compare before.json after.json && echo as fast as before
  fabriq bench compare monday.json friday.json --before tuesday.json --after saturday.json --threshold 5%

A figure counts as slower when it takes more than --threshold longer, with noise taken into account: the whole interval of \
its change, which holds 99 % of what the noise in both reports can make of it, is beyond the threshold. One run a side \
knows only the noise within a run; give more runs with --before and --after, best measured in turns. Column `raw` is the \
change of the wire itself (a loop on raw sockets or raw verbs, where the reports have it): when that changed as much, look at \
the host first.

Reports of `fabriq bench cluster` are compared alike; a link that is slow now among those of its matrix and was not before \
counts as slower, and a rank that was there before and is lost now as missing.

Exit codes: 0 nothing is slower, 5 something is (or a transport or a rank that there was before is missing now), 2 the reports are of \
different hosts or options, or unreadable.";

/// Say what got slower or faster between two reports, noise taken into account
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What `fabriq bench --json` printed before
    #[arg(value_name = "BEFORE")]
    first: PathBuf,

    /// What it printed after
    #[arg(value_name = "AFTER")]
    second: PathBuf,

    /// One more run of before; repeatable
    #[arg(long, value_name = "JSON")]
    before: Vec<PathBuf>,

    /// One more run of after; repeatable
    #[arg(long, value_name = "JSON")]
    after: Vec<PathBuf>,

    /// How much longer a message may take
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    threshold: f64,

    /// Compare reports of different hosts or options all the same
    #[arg(long)]
    anyway: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A share: `10%` or `10` is 0.1.
pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("write a percentage, as in 10%".to_owned()),
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(first) = Cluster::read(&args.first)? {
        return run_clusters(args, first);
    }
    let read = |first: &PathBuf, more: &[PathBuf]| {
        std::iter::once(first).chain(more).map(|path| Report::read(path)).collect::<Result<Vec<_>, _>>()
    };
    let (before, after) = (read(&args.first, &args.before)?, read(&args.second, &args.after)?);
    let mut differences = Vec::new();
    for other in before[1..].iter().chain(&after) {
        differences.extend(different(&before[0], other));
    }
    allow(differences, args.anyway)?;
    if before[0].host.line() != after[0].host.line() {
        note(&format!("before: {}; after: {}", before[0].host.line(), after[0].host.line()));
    }
    Comparison::new(&before, &after, args.threshold).put(args)
}

/// The same of clusters.
fn run_clusters(args: &Args, first: Cluster) -> Result<(), Failure> {
    let read = |path: &PathBuf| {
        Cluster::read(path)?.ok_or_else(|| {
            Failure::Usage(format!(
                "{} is no report of a cluster, and {} is: compare reports of one kind",
                path.display(),
                args.first.display()
            ))
        })
    };
    let mut before = vec![first];
    for path in &args.before {
        before.push(read(path)?);
    }
    let after: Vec<_> =
        std::iter::once(&args.second).chain(&args.after).map(read).collect::<Result<_, _>>()?;
    let others = before[1..].iter().chain(&after);
    allow(others.flat_map(|other| before[0].differences(other)).collect(), args.anyway)?;
    let mut random = Random::default();
    let Compared { figures, slow_links, missing, lossier } =
        super::cluster::compared(&before, &after, args.threshold, &mut random);
    let mut comparison = Comparison::of(figures, args.threshold);
    comparison.slower += slow_links.len();
    comparison.missing += missing.len();
    Comparison { slow_links, lost: missing, lossier, ..comparison }.put(args)
}

/// Refuses reports that do not belong together, or says it.
fn allow(mut differences: Vec<String>, anyway: bool) -> Result<(), Failure> {
    differences.sort();
    differences.dedup();
    if differences.is_empty() {
        return Ok(());
    }
    let text = differences.join("; ");
    if !anyway {
        return Err(Failure::Usage(format!(
            "these reports cannot be compared: {text}; measure again with the same options on the same host, or say \
             --anyway"
        )));
    }
    note(&format!("comparing all the same: {text}"));
    Ok(())
}

/// Why two reports do not belong together, apart from what is compared: version and system.
fn different(one: &Report, other: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, one: &str, other: &str| {
        if one != other {
            differences.push(format!("{what} `{one}` and `{other}`"));
        }
    };
    let (host, its) = (&one.host, &other.host);
    differ("hosts", &host.name, &its.name);
    differ("processors", &host.processor_line(), &its.processor_line());
    differ("builds", &host.build, &its.build);
    let times = |report: &Report| match &report.load {
        Some(load) => format!("{} s after {} s", load.duration_seconds, load.warmup_seconds),
        None => "told by the other side".to_owned(),
    };
    differ("times", &times(one), &times(other));
    let load = |report: &Report| {
        let mut rates: Vec<_> =
            report.latency.iter().map(|row| row.rate_asked.map(units::per_second)).collect();
        rates.dedup();
        let rate =
            |rate: Option<String>| rate.map_or("closed loop".to_owned(), |rate| format!("{rate} msg/s"));
        rates.into_iter().map(rate).collect::<Vec<_>>().join(", ")
    };
    if !one.latency.is_empty() && !other.latency.is_empty() {
        differ("loads", &load(one), &load(other));
    }
    for (name, a, b) in [("latency", keys(one).0, keys(other).0), ("throughput", keys(one).1, keys(other).1)]
    {
        let only = |these: &[Key], those: &[Key], report: &Report| {
            let gone = these.iter().filter(|key| !those.contains(key) && !is_broken(report, &key.0));
            gone.map(|(transport, size)| format!("{transport} {}", units::size(*size))).collect::<Vec<_>>()
        };
        for text in [only(&a, &b, other), only(&b, &a, one)] {
            if !text.is_empty() {
                differences.push(format!("only one has the {name} of {}", text.join(", ")));
            }
        }
    }
    differences
}

/// Transport and size.
pub(super) type Key = (String, usize);

/// What a report has latencies of, and throughputs.
fn keys(report: &Report) -> (Vec<Key>, Vec<Key>) {
    let latency = report.latency.iter().map(|row| (row.transport.clone(), row.size));
    let throughput = report.throughput.iter().map(|row| (row.transport.clone(), row.size));
    (latency.collect(), throughput.collect())
}

/// Whether the host was asked for that transport, and could not.
fn is_broken(report: &Report, transport: &str) -> bool {
    let left = report.failed.iter().chain(&report.skipped).flatten();
    left.into_iter().any(|left| left.transport == transport)
}

/// Everything that was compared.
#[derive(Debug, Serialize)]
struct Comparison {
    threshold: f64,
    slower: usize,
    faster: usize,
    /// Before and not after, since the transport fails now or cannot run any more; and what a cluster has lost.
    missing: usize,
    figures: Vec<Figure>,
    /// Of a cluster: links that are slow among those of their matrix, and were not before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slow_links: Vec<String>,
    /// Of a cluster: ranks, their transports, and flows that there were before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
    /// Of a cluster: measurements that lose more messages than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lossier: Vec<String>,
}

/// One figure on both sides.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    transport: String,
    size: usize,
    figure: &'static str,
    /// Medians of the windows, of slow streams their means; of a report without windows, its figure.
    before: f64,
    after: Option<f64>,
    /// How much longer a message takes: 0.1 is 10 % longer, -0.1 a tenth less.
    longer: Option<f64>,
    /// The same of the wire itself, where both sides measured it: what changed of it is not fabriq's doing.
    raw_longer: Option<f64>,
    /// What the noise can make of it; `None`: of a report without windows nobody knows.
    interval: Option<[f64; 2]>,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Same,
    Slower,
    Faster,
    Missing,
}

/// A figure of one report.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) value: f64,
    pub(super) windows: Vec<f64>,
    /// That of the wire itself, where it was measured beside.
    pub(super) raw: Option<f64>,
}

/// A figure that reports have.
pub(super) struct Kind {
    name: &'static str,
    /// Whether more is better.
    rate: bool,
    of: fn(&Report, &Key) -> Option<Found>,
}

fn latency<'a>(report: &'a Report, key: &Key) -> Option<&'a Latency> {
    report.latency.iter().find(|row| row.transport == key.0 && row.size == key.1)
}

fn throughput<'a>(report: &'a Report, key: &Key) -> Option<&'a Throughput> {
    report.throughput.iter().find(|row| row.transport == key.0 && row.size == key.1)
}

/// Their places in [`KINDS`].
pub(super) const MEDIAN: usize = 0;
pub(super) const TAIL_END: usize = 1;
pub(super) const RATE: usize = 2;

pub(super) const KINDS: [Kind; 3] = [
    Kind {
        name: "p50",
        rate: false,
        of: |report, key| {
            let row = latency(report, key)?;
            Some(Found {
                value: row.p50_us,
                windows: row.windows.iter().map(|window| window.p50_us).collect(),
                raw: row.baselines.first().map(|raw| raw.p50_us),
            })
        },
    },
    Kind {
        name: "p99",
        rate: false,
        of: |report, key| {
            let row = latency(report, key)?;
            Some(Found {
                value: row.p99_us,
                windows: row.windows.iter().map(|window| window.p99_us).collect(),
                raw: row.baselines.first().map(|raw| raw.p99_us),
            })
        },
    },
    Kind {
        name: "msg/s",
        rate: true,
        of: |report, key| {
            let row = throughput(report, key)?;
            Some(Found {
                value: row.messages_per_second,
                windows: row.windows.clone(),
                raw: row.baselines.first().map(|raw| raw.messages_per_second),
            })
        },
    },
];

impl Comparison {
    fn new(before: &[Report], after: &[Report], threshold: f64) -> Self {
        let mut random = Random(SEED);
        let mut figures = Vec::new();
        for kind in &KINDS {
            let (latencies, throughputs) = keys(&before[0]);
            for key in if kind.rate { throughputs } else { latencies } {
                let side = |reports: &[Report]| {
                    Side::new(kind, reports.iter().filter_map(|report| (kind.of)(report, &key)))
                };
                let Some(old) = side(before) else { continue };
                let new = side(after);
                if new.is_none() && !after.iter().any(|report| is_broken(report, &key.0)) {
                    continue;
                }
                figures.push(Figure::new(kind, key, &old, new.as_ref(), threshold, &mut random));
            }
        }
        Self::of(figures, threshold)
    }

    fn of(figures: Vec<Figure>, threshold: f64) -> Self {
        let count = |verdict| figures.iter().filter(|figure| figure.verdict == verdict).count();
        let (slower, faster) = (count(Verdict::Slower), count(Verdict::Faster));
        Self {
            threshold,
            slower,
            faster,
            missing: count(Verdict::Missing),
            figures,
            slow_links: Vec::new(),
            lost: Vec::new(),
            lossier: Vec::new(),
        }
    }

    /// Prints it; fails if something is slower.
    fn put(&self, args: &Args) -> Result<(), Failure> {
        let several = !args.before.is_empty() || !args.after.is_empty();
        print(&if args.json { to_json(self)? } else { self.text(several) })?;
        self.verdict()
    }

    fn text(&self, several: bool) -> String {
        let width =
            self.figures.iter().map(|figure| figure.transport.chars().count()).max().unwrap_or(0).max(9);
        let mut text = format!(
            "{:<width$} {:>8} {:<6} {:>9} {:>9} {:>8}  {:<20} {:>8}\n",
            "transport", "size", "figure", "before", "after", "change", "99 % interval", "raw"
        );
        for figure in &self.figures {
            let rate = figure.figure == "msg/s";
            let value = |value: f64| match rate {
                true => units::per_second(value),
                false => units::nanoseconds((value * 1e3) as u64),
            };
            // As the figure itself changes: of a rate, less is slower.
            let change = |longer: f64| {
                let change = if rate { 1.0 / (1.0 + longer) - 1.0 } else { longer };
                // From nothing to something.
                if change < BEYOND { format!("{:+.1} %", change * 100.0) } else { "far more".to_owned() }
            };
            let interval = figure.interval.map_or(NONE.to_owned(), |[low, high]| {
                let (low, high) = if rate { (high, low) } else { (low, high) };
                format!("{} to {}", change(low), change(high))
            });
            let verdict = match figure.verdict {
                Verdict::Same => "",
                Verdict::Slower => "SLOWER",
                Verdict::Faster => "faster",
                Verdict::Missing => "MISSING",
            };
            let _ = writeln!(
                text,
                "{}",
                format!(
                    "{:<width$} {:>8} {:<6} {:>9} {:>9} {:>8}  {interval:<20} {:>8} {verdict}",
                    figure.transport,
                    units::size(figure.size),
                    figure.figure,
                    value(figure.before),
                    figure.after.map_or(NONE.to_owned(), value),
                    figure.longer.map_or(NONE.to_owned(), change),
                    figure.raw_longer.map_or(NONE.to_owned(), change),
                )
                .trim_end()
            );
        }
        for link in &self.slow_links {
            let _ = writeln!(text, "SLOWER {link}; before it was not");
        }
        for what in &self.lost {
            let _ = writeln!(text, "MISSING {what}");
        }
        for what in &self.lossier {
            let _ = writeln!(text, "LOSES MORE {what}");
        }
        let _ = writeln!(text, "\n{}", self.summary());
        if !several {
            text += "One run of each: noise between runs is not in the intervals. Add runs with --before and --after.\n";
        }
        if self.figures.iter().any(|figure| figure.after.is_some() && figure.interval.is_none()) {
            text += "Without an interval: one of the reports has no windows, and the noise is not known.\n";
        }
        text
    }

    fn summary(&self) -> String {
        let Self { threshold, slower, faster, missing, figures, .. } = self;
        let mut text = format!(
            "of {} {slower} {} slower by more than {} %, {faster} {} faster",
            units::count(figures.len(), "figure"),
            are(*slower),
            (threshold * 1e4).round() / 100.0,
            are(*faster)
        );
        if *missing > 0 {
            let _ = write!(text, ", {missing} {} missing", are(*missing));
        }
        if !self.lossier.is_empty() {
            let (count, s) = (self.lossier.len(), if self.lossier.len() == 1 { "s" } else { "" });
            let _ = write!(text, ", {count} lose{s} more messages");
        }
        text
    }

    fn verdict(&self) -> Result<(), Failure> {
        match self.slower + self.missing + self.lossier.len() {
            0 if self.figures.is_empty() => {
                Err(Failure::Usage("the reports have no figure in common".to_owned()))
            }
            0 => Ok(()),
            _ => Err(Failure::Slower(self.summary())),
        }
    }
}

/// One figure in all runs of a side.
#[derive(Debug)]
pub(super) struct Side {
    /// Of each run its windows; of a run without any, nothing.
    runs: Vec<Vec<f64>>,
    /// Of all runs.
    total: f64,
    raw: Option<f64>,
}

/// What stands for many windows.
type Middle = fn(&mut [f64]) -> f64;

impl Side {
    pub(super) fn new(kind: &Kind, found: impl Iterator<Item = Found>) -> Option<Self> {
        let (mut totals, mut runs, mut raws) = (Vec::new(), Vec::new(), Vec::new());
        for mut run in found {
            totals.push(run.value);
            // In which nothing came: a rate of 0, and no latency.
            run.windows.retain(|window| kind.rate || *window > 0.0);
            runs.push(run.windows);
            raws.extend(run.raw);
        }
        if totals.is_empty() {
            return None;
        }
        // One or two windows tell no noise.
        if runs.iter().any(|run| run.len() < 3) {
            runs.clear();
        }
        let raw = (!raws.is_empty()).then(|| median(&mut raws));
        Some(Self { total: median(&mut totals), runs, raw })
    }

    /// Whether nothing came in so many windows that their median says nothing.
    fn is_slow(&self) -> bool {
        let empty = |run: &Vec<f64>| run.iter().filter(|window| **window <= 0.0).count() as f64;
        self.runs.iter().any(|run| empty(run) > EMPTY * run.len() as f64)
    }

    fn value(&self, middle: Middle) -> f64 {
        if self.runs.is_empty() { self.total } else { middle(&mut self.runs.concat()) }
    }

    /// What stands for a draw.
    fn draw(&self, middle: Middle, random: &mut Random, place: &mut Vec<f64>) -> f64 {
        place.clear();
        for _ in 0..self.runs.len() {
            let run = &self.runs[random.below(self.runs.len())];
            place.extend((0..run.len()).map(|_| run[random.below(run.len())]));
        }
        middle(place)
    }
}

impl Figure {
    pub(super) fn new(
        kind: &Kind,
        (transport, size): Key,
        before: &Side,
        after: Option<&Side>,
        threshold: f64,
        random: &mut Random,
    ) -> Self {
        let figure = kind.name;
        let Some(after) = after else {
            let middle: Middle = if before.is_slow() { mean } else { median };
            let (before, verdict) = (before.value(middle), Verdict::Missing);
            return Self {
                transport,
                size,
                figure,
                before,
                after: None,
                longer: None,
                raw_longer: None,
                interval: None,
                verdict,
            };
        };
        let longer = |before: f64, after: f64| match kind.rate {
            // Nothing on either side, as in a draw of empty windows alone.
            true if before.max(after) <= 0.0 => 0.0,
            true => before / after.max(1e-12) - 1.0,
            false => after / before.max(1e-12) - 1.0,
        };
        let middle: Middle = if before.is_slow() || after.is_slow() { mean } else { median };
        let (old, new) = (before.value(middle), after.value(middle));
        let change = longer(old, new);
        let interval = (!before.runs.is_empty() && !after.runs.is_empty()).then(|| {
            let mut place = Vec::new();
            let mut draws: Vec<f64> = (0..DRAWS)
                .map(|_| {
                    let mut draw = |side: &Side| side.draw(middle, random, &mut place);
                    longer(draw(before), draw(after))
                })
                .collect();
            draws.sort_by(f64::total_cmp);
            let at = |share: f64| draws[((DRAWS - 1) as f64 * share).round() as usize];
            [at(TAIL), at(1.0 - TAIL)]
        });
        let [low, high] = interval.unwrap_or([change; 2]);
        let verdict = match () {
            () if low > threshold => Verdict::Slower,
            // As much the other way: twice as fast is the opposite of twice as long.
            () if high < 1.0 / (1.0 + threshold) - 1.0 => Verdict::Faster,
            () => Verdict::Same,
        };
        let raw_longer = before.raw.zip(after.raw).map(|(before, after)| longer(before, after));
        let (before, after, longer) = (old, Some(new), Some(change));
        Self { transport, size, figure, before, after, longer, raw_longer, interval, verdict }
    }
}

#[cfg(test)]
impl Figure {
    pub(super) fn is_slower(&self) -> bool {
        self.verdict == Verdict::Slower
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn mean(values: &mut [f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// SplitMix64: a small generator that is good enough for draws.
pub(super) struct Random(u64);

impl Default for Random {
    /// Draws are the same in every run.
    fn default() -> Self {
        Self(SEED)
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows around a value, by so much noise.
    fn side(value: f64, noise: f64, runs: usize, seed: u64) -> Side {
        let mut random = Random(seed);
        let mut window = || value * (1.0 + noise * (random.below(2001) as f64 / 1000.0 - 1.0));
        let runs: Vec<Vec<f64>> = (0..runs).map(|_| (0..10).map(|_| window()).collect()).collect();
        of_windows(&KINDS[MEDIAN], value, &runs)
    }

    /// Runs with these windows.
    fn of_windows(kind: &Kind, value: f64, runs: &[Vec<f64>]) -> Side {
        let found = |windows: &Vec<f64>| Found { value, windows: windows.clone(), raw: None };
        Side::new(kind, runs.iter().map(found)).unwrap()
    }

    fn verdict(kind: &Kind, before: &Side, after: &Side) -> Verdict {
        let key = ("tcp".to_owned(), 64);
        Figure::new(kind, key, before, Some(after), 0.1, &mut Random(SEED)).verdict
    }

    #[test]
    fn noise_alone_is_no_change_and_a_change_beyond_it_is() {
        for seed in 0..40 {
            let (before, same) = (side(10.0, 0.1, 1, seed), side(10.0, 0.1, 1, seed + 1000));
            for kind in &KINDS {
                assert_eq!(verdict(kind, &before, &same), Verdict::Same, "seed {seed}");
            }
            let half_more = side(15.0, 0.1, 1, seed + 2000);
            assert_eq!(verdict(&KINDS[0], &before, &half_more), Verdict::Slower, "seed {seed}");
            assert_eq!(verdict(&KINDS[0], &half_more, &before), Verdict::Faster, "seed {seed}");
            // A rate is better the other way.
            assert_eq!(verdict(&KINDS[2], &before, &half_more), Verdict::Faster, "seed {seed}");
            assert_eq!(verdict(&KINDS[2], &half_more, &before), Verdict::Slower, "seed {seed}");
        }
    }

    #[test]
    fn a_change_within_the_threshold_is_none_however_sure_it_is() {
        assert_eq!(verdict(&KINDS[0], &side(10.0, 0.0, 1, 1), &side(10.9, 0.0, 1, 2)), Verdict::Same);
        assert_eq!(verdict(&KINDS[0], &side(10.0, 0.0, 1, 1), &side(11.1, 0.0, 1, 2)), Verdict::Slower);
    }

    #[test]
    fn runs_that_differ_by_more_than_their_parts_widen_the_interval() {
        // Each run is quiet in itself, and 20 % away from the next.
        let runs = |values: &[f64]| {
            let found = |&value: &f64| Found { value, windows: vec![value; 10], raw: None };
            Side::new(&KINDS[MEDIAN], values.iter().map(found)).unwrap()
        };
        let (before, after) = (runs(&[10.0, 8.0, 12.0]), runs(&[12.0, 9.0, 13.0]));
        assert_eq!(verdict(&KINDS[0], &before, &after), Verdict::Same);
        // Of one run each nobody could know.
        assert_eq!(verdict(&KINDS[0], &runs(&[10.0]), &runs(&[12.0])), Verdict::Slower);
    }

    /// A stream of so many messages in 20 windows of half a second, as evenly as they can be.
    fn slow_stream(messages: usize) -> Side {
        let windows = (0..20).map(|at| (messages * (at + 1) / 20 - messages * at / 20) as f64 * 2.0);
        of_windows(&KINDS[RATE], messages as f64 / 10.0, &[windows.collect()])
    }

    #[test]
    fn a_stream_of_mostly_empty_windows_is_compared_by_what_came_in_all() {
        for messages in [1, 5, 9, 20] {
            let stream = slow_stream(messages);
            let key = ("tcp".to_owned(), 64);
            let figure = Figure::new(&KINDS[RATE], key, &stream, Some(&stream), 0.1, &mut Random(SEED));
            assert_eq!((figure.verdict, figure.longer), (Verdict::Same, Some(0.0)), "{messages}: {figure:?}");
            assert!((figure.before - messages as f64 / 10.0).abs() < 1e-9, "{messages}: {figure:?}");
        }
        // From 2 messages a second to half of one, and back.
        assert_eq!(verdict(&KINDS[RATE], &slow_stream(20), &slow_stream(5)), Verdict::Slower);
        assert_eq!(verdict(&KINDS[RATE], &slow_stream(5), &slow_stream(20)), Verdict::Faster);
        // One message less of five is what any two runs differ by.
        assert_eq!(verdict(&KINDS[RATE], &slow_stream(5), &slow_stream(4)), Verdict::Same);
    }

    #[test]
    fn nothing_on_both_sides_is_no_change() {
        let nothing = of_windows(&KINDS[RATE], 0.0, &[vec![0.0; 10]]);
        assert_eq!(verdict(&KINDS[RATE], &nothing, &nothing), Verdict::Same);
        assert_eq!(verdict(&KINDS[RATE], &slow_stream(20), &nothing), Verdict::Slower);
    }

    #[test]
    fn a_window_without_a_message_has_no_latency() {
        let windows: Vec<f64> = (0..20).map(|at| if at % 4 == 0 { 10.0 } else { 0.0 }).collect();
        let side = of_windows(&KINDS[MEDIAN], 10.0, &[windows]);
        assert_eq!(side.value(median).to_bits(), 10f64.to_bits());
    }

    #[test]
    fn percentages() {
        assert_eq!(
            (parse_percent("10%"), parse_percent("2.5 %"), parse_percent("0")),
            (Ok(0.1), Ok(0.025), Ok(0.0))
        );
        assert!(parse_percent("ten").is_err() && parse_percent("-1%").is_err());
    }
}
