//! The matrices of a run: the rounds of each put together, a figure for each link. Measures nothing.

use super::output::title;
use super::plan::Item;
use super::report::{Cluster, Step};
use super::slow::{Cells, Slow};
use crate::bench::table::microseconds;
use crate::units;

/// One figure of every pair.
#[derive(Debug)]
pub(super) struct Matrix {
    /// Without a round.
    pub(super) item: Item,
    /// Median one-way latency in microseconds, both ways of a pair the same; or GB/s from one to the other.
    pub(super) cells: Cells,
    /// The same figure of each pair's best window: noise makes parts of a measurement worse, a slow link all of it.
    best: Cells,
    pub(super) is_latency: bool,
}

impl Matrix {
    /// All of a run, in the order of measuring.
    pub(super) fn all(cluster: &Cluster) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for step in cluster.steps.iter().filter(|step| step.item.round.is_some()) {
            let item = Item { round: None, ..step.item.clone() };
            let is_latency = item.kind.is_latency();
            // Rounds of one matrix follow each other.
            if all.last().is_none_or(|last| last.item != item) {
                all.push(Self { item, cells: Cells::new(), best: Cells::new(), is_latency });
            }
            if let Some(matrix) = all.last_mut() {
                matrix.add(step);
            }
        }
        all
    }

    fn add(&mut self, step: &Step) {
        for flow in step.flows.iter().filter(|flow| !flow.background && flow.messages > 0) {
            let Some(to) = flow.to else { continue };
            match &flow.latency {
                Some(latency) => {
                    let best = flow.best.map_or(latency.p50_us, |best| best.min(latency.p50_us));
                    for link in [(flow.from, to), (to, flow.from)] {
                        self.cells.insert(link, latency.p50_us);
                        self.best.insert(link, best);
                    }
                }
                None => {
                    let rate = flow.messages_per_second.max(flow.best.unwrap_or(0.0));
                    self.cells.insert((flow.from, to), flow.gigabytes_per_second);
                    self.best.insert((flow.from, to), rate * self.item.size as f64 / 1e9);
                }
            }
        }
    }

    /// What is slow. Under load, a link's figure is that of the load; and within one host there are no links.
    pub(super) fn slow(&self, cluster: &Cluster) -> Slow {
        if self.item.rate.is_some() || self.item.background.is_some() || cluster.hosts().len() < 2 {
            return Slow::default();
        }
        Slow::new(&self.best, !self.is_latency)
    }

    pub(super) fn title(&self) -> String {
        title(&self.item)
    }

    /// A cell as people read it.
    pub(super) fn text(&self, value: f64) -> String {
        match self.is_latency {
            true => microseconds(value),
            false => format!("{} GB/s", units::three_digits(value)),
        }
    }

    /// Best, median and worst.
    pub(super) fn summary(&self) -> String {
        let mut values: Vec<f64> = self.cells.values().copied().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&low), Some(&high)) = (values.first(), values.last()) else { return String::new() };
        let (best, worst) = if self.is_latency { (low, high) } else { (high, low) };
        format!(
            "best {}, median {}, worst {} of {} links",
            self.text(best),
            self.text(values[values.len() / 2]),
            self.text(worst),
            values.len()
        )
    }
}
