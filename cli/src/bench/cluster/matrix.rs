//! The matrices of a run: the rounds of each put together, a figure for each link. Measures nothing.

use super::output::title;
use super::plan::Item;
use super::report::{Cluster, Step};
use super::slow::{Cells, Slow};
use crate::units;

/// What the figures of a matrix are told in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    /// One of it, in microseconds or GB/s.
    one: f64,
}

impl Unit {
    /// A figure as people read it, for a place that names the unit.
    pub(super) fn number(self, value: f64) -> String {
        units::significant(value / self.one)
    }
}

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

    /// The unit of all its figures: were there several, links could not be compared by their numbers.
    pub(super) fn unit(&self) -> Unit {
        self.unit_at(&self.sorted())
    }

    fn unit_at(&self, sorted: &[f64]) -> Unit {
        let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let (name, one) = match self.is_latency {
            true if usual < 1e3 => ("us", 1.0),
            true if usual < 1e6 => ("ms", 1e3),
            true => ("s", 1e6),
            false if usual >= 0.1 => ("GB/s", 1.0),
            false if usual >= 1e-4 => ("MB/s", 1e-3),
            false => ("kB/s", 1e-6),
        };
        Unit { name, one }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.cells.values().copied().collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// Best, median and worst.
    pub(super) fn summary(&self) -> String {
        let values = self.sorted();
        let unit = self.unit_at(&values);
        let text = |value: f64| format!("{} {}", unit.number(value), unit.name);
        let (Some(&low), Some(&high)) = (values.first(), values.last()) else { return String::new() };
        let (best, worst) = if self.is_latency { (low, high) } else { (high, low) };
        format!(
            "best {}, median {}, worst {} of {}",
            text(best),
            text(values[values.len() / 2]),
            text(worst),
            units::count(values.len(), "link")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cluster::options::tests::options;
    use crate::bench::cluster::plan::plan;

    fn matrix(is_latency: bool, cells: [f64; 3]) -> Matrix {
        let items = plan(&options(&["--topology", "matrix", "--size", "1K"]).unwrap(), 3);
        let item = items.into_iter().find(|item| item.kind.is_latency() == is_latency).unwrap();
        let cells: Cells = [(0, 1), (0, 2), (1, 2)].into_iter().zip(cells).collect();
        Matrix { item: Item { round: None, ..item }, best: cells.clone(), cells, is_latency }
    }

    #[test]
    fn all_links_of_a_matrix_have_one_unit_and_three_digits() {
        for (is_latency, cells, unit, numbers) in [
            (true, [47.24, 51.0, 4380.0], "us", ["47.2", "51.0", "4380"]),
            (true, [820.0, 1234.0, 2e6], "ms", ["0.820", "1.23", "2000"]),
            (false, [12.3, 11.0, 0.012_34], "GB/s", ["12.3", "11.0", "0.0123"]),
            (false, [0.012_34, 0.011, 0.000_01], "MB/s", ["12.3", "11.0", "0.0100"]),
        ] {
            let found = matrix(is_latency, cells).unit();
            assert_eq!(
                (found.name, cells.map(|value| found.number(value))),
                (unit, numbers.map(str::to_owned))
            );
        }
        let said = matrix(true, [47.24, 51.0, 4380.0]).summary();
        assert_eq!(said, "best 47.2 us, median 51.0 us, worst 4380 us of 3 links");
    }
}
