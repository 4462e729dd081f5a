//! The plots of a cluster's page: sweeps over sizes, distributions, latency under load. Measures nothing.

use std::collections::BTreeSet;

use super::options::Topology;
use super::page::{is_plain, lines};
use super::report::{Cluster, Step};
use crate::bench::html::plot::{Axis, Line, Plot, powers};
use crate::bench::html::{COLOURS, in_words, microseconds, percent, short};
use crate::bench::report::Quantile;
use crate::units;

/// Shares that an axis names.
const SHARES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];

/// What transports are called.
fn labels(cluster: &Cluster) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for (label, _) in lines(cluster) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

fn topologies(cluster: &Cluster, label: &str) -> Vec<Topology> {
    lines(cluster).into_iter().filter(|line| line.0 == label).map(|line| line.1).collect()
}

/// Sizes that a topology was measured with.
fn sizes(cluster: &Cluster) -> Vec<usize> {
    let sizes: BTreeSet<_> = cluster.steps.iter().map(|step| step.item.size).collect();
    sizes.into_iter().collect()
}

/// Latency and rates by size, a plot of each per transport, a line per topology.
pub(super) fn sweeps(cluster: &Cluster) -> Vec<Plot> {
    // Its id, its name, whether it is latency, where it is, how it is written.
    type Figure = (&'static str, &'static str, bool, fn(&Step) -> Option<f64>, fn(f64) -> String);
    let figures: [Figure; 3] = [
        (
            "latency",
            "median latency, one way",
            true,
            |step| Some(step.total.latency.as_ref()?.p50_us),
            microseconds,
        ),
        (
            "rate",
            "messages per second",
            false,
            |step| Some(step.total.messages_per_second),
            units::per_second,
        ),
        (
            "bytes",
            "throughput, GB/s",
            false,
            |step| Some(step.total.gigabytes_per_second),
            units::three_digits,
        ),
    ];
    let x = Axis {
        what: "message size".to_owned(),
        logarithmic: true,
        ticks: sizes(cluster).into_iter().map(|size| (size as f64, units::size(size))).collect(),
    };
    let mut plots = Vec::new();
    for (at, label) in labels(cluster).into_iter().enumerate() {
        for (id, name, is_latency, figure, write) in figures {
            let mut all = Vec::new();
            for (colour, topology) in topologies(cluster, &label).into_iter().enumerate() {
                let of = |raw: bool| {
                    let steps = cluster.steps.iter().filter(|step| {
                        let item = &step.item;
                        item.label() == label
                            && item.topology == topology
                            && item.kind.is_latency() == is_latency
                            && item.kind.is_raw() == raw
                            && is_plain(cluster, item)
                    });
                    let mut points: Vec<_> =
                        steps.filter_map(|step| Some((step.item.size as f64, figure(step)?))).collect();
                    points.sort_by(|a, b| a.0.total_cmp(&b.0));
                    points
                };
                let colour = colour % COLOURS;
                let line =
                    |name: String, reference, points| Line { name, colour, reference, marked: true, points };
                all.push(line(topology.name().to_owned(), false, of(false)));
                all.push(line(format!("{} raw", topology.name()), true, of(true)));
            }
            all.retain(|line: &Line| !line.points.is_empty());
            let values = all.iter().flat_map(|line| line.points.iter().map(|point| point.1));
            let y = Axis { what: name.to_owned(), logarithmic: true, ticks: powers(values, short(&write)) };
            let text = in_words(&all, |size| units::size(size as usize), &write);
            plots.push(Plot {
                id: format!("{id}-{at}"),
                title: format!("{label}: {name}"),
                text,
                x: x.clone(),
                y,
                lines: all,
                extent: Vec::new(),
            });
        }
    }
    plots.retain(|plot| !plot.is_empty());
    plots
}

/// How many nines: 50 % is 0.3, 99.9 % is 3.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn points(distribution: &[Quantile]) -> Vec<(f64, f64)> {
    distribution.iter().map(|point| (nines(point.share), point.us)).collect()
}

fn distribution(step: &Step) -> Option<Vec<(f64, f64)>> {
    step.total.latency.as_ref().map(|latency| points(&latency.distribution))
}

/// A plot of distributions; its scale comes later.
fn plot(id: String, title: String, lines: Vec<Line>) -> Plot {
    let x = Axis {
        what: "share of messages that took no longer".to_owned(),
        logarithmic: false,
        ticks: SHARES.map(|share| (nines(share), format!("{} %", percent(share)))).into(),
    };
    let y = Axis { what: "latency".to_owned(), logarithmic: true, ticks: Vec::new() };
    // In words only what people ask for.
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let points = SHARES.iter().filter_map(|&share| {
                line.points.iter().find(|point| (point.0 - nines(share)).abs() < 0.07).copied()
            });
            Line { points: points.collect(), ..line.clone() }
        })
        .collect();
    let text = in_words(&told, |nines| format!("{} %", percent(1.0 - 10f64.powf(-nines))), &microseconds);
    Plot { id, title, text, x, y, lines, extent: Vec::new() }
}

/// One scale for all, so that they can be compared by eye.
fn scaled(mut plots: Vec<Plot>) -> Vec<Plot> {
    plots.retain(|plot| !plot.is_empty());
    let drawn = plots.iter().flat_map(|plot| &plot.lines).flat_map(|line| line.points.iter().copied());
    let ends = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (mut share, mut us) = ((f64::INFINITY, 0.0), (f64::INFINITY, 0.0));
    for point in drawn {
        (share, us) = (ends(share, point.0), ends(us, point.1));
    }
    for plot in &mut plots {
        plot.extent = vec![(share.0, us.0), (share.1, us.1)];
        plot.y.ticks = powers([us.0, us.1].into_iter(), short(&microseconds));
    }
    plots
}

/// A plot per transport and topology, a line per size.
pub(super) fn distributions(cluster: &Cluster) -> Vec<Plot> {
    let plot = |(at, (label, topology)): (usize, (String, Topology))| {
        let mut all = Vec::new();
        for (colour, size) in sizes(cluster).into_iter().enumerate() {
            let find = |raw: bool| {
                cluster.steps.iter().find(|step| {
                    let item = &step.item;
                    (item.label(), item.topology, item.size) == (&*label, topology, size)
                        && item.kind.is_latency()
                        && item.kind.is_raw() == raw
                        && is_plain(cluster, item)
                })
            };
            let name = units::size(size);
            let line = |name, reference, points| Line {
                name,
                colour: colour % COLOURS,
                reference,
                marked: false,
                points,
            };
            all.extend(find(false).and_then(distribution).map(|points| line(name.clone(), false, points)));
            // The wire itself only for the smallest, or there would be too much to see.
            if colour == 0 {
                all.extend(
                    find(true).and_then(distribution).map(|points| line(format!("{name} raw"), true, points)),
                );
            }
        }
        plot(format!("distribution-{at}"), format!("{label} {}", topology.name()), all)
    };
    scaled(lines(cluster).into_iter().enumerate().map(plot).collect())
}

/// A plot per transport and topology that was measured under some load, a line per load, of the smallest size.
pub(super) fn loads(cluster: &Cluster) -> Vec<Plot> {
    let Some(&size) = sizes(cluster).first() else { return Vec::new() };
    let mut plots = Vec::new();
    for (at, (label, topology)) in lines(cluster).into_iter().enumerate() {
        let mut all: Vec<Line> = Vec::new();
        for step in &cluster.steps {
            let item = &step.item;
            let is_load = item.rate.is_some() || item.background.is_some();
            let plain = super::plan::Item { rate: None, background: None, ..item.clone() };
            let is_here = (item.label(), item.topology, item.size) == (&*label, topology, size)
                && !item.kind.is_raw()
                && is_plain(cluster, &plain);
            let Some(points) = distribution(step).filter(|_| is_here) else { continue };
            let name = match (item.rate, item.background) {
                (Some(rate), _) => format!("{}/s", units::per_second(rate)),
                (None, Some(background)) => format!("+ {}", units::size(background)),
                (None, None) => "alone".to_owned(),
            };
            all.push(Line { name, colour: all.len() % COLOURS, reference: !is_load, marked: false, points });
        }
        // Alone, it is among the distributions.
        if all.iter().any(|line| !line.reference) {
            plots.push(plot(
                format!("load-{at}"),
                format!("{label} {}, {}", topology.name(), units::size(size)),
                all,
            ));
        }
    }
    scaled(plots)
}
