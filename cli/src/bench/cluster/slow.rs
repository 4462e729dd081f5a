//! Which links of a matrix are slow, and which ranks: compared with what the better links of the same matrix do. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::limits::SLOW;

/// A figure of each link, by its ranks: `(from, to)`.
pub(super) type Cells = BTreeMap<(u32, u32), f64>;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slow {
    /// What the better links do.
    pub(super) usual: f64,
    /// Slow links, and how many times worse each is; those of slow ranks among them.
    pub(super) links: BTreeMap<(u32, u32), f64>,
    /// Ranks all of whose links are slow.
    pub(super) ranks: BTreeSet<u32>,
}

impl Slow {
    /// `more_is_better` of a throughput.
    pub(super) fn new(cells: &Cells, more_is_better: bool) -> Self {
        let mut values: Vec<f64> = cells.values().copied().filter(|value| *value > 0.0).collect();
        // How a link compares needs others.
        if values.len() < 3 {
            return Self::default();
        }
        values.sort_by(f64::total_cmp);
        if more_is_better {
            values.reverse();
        }
        // The better quarter: one slow host among four makes half of all links slow.
        let usual = values[values.len() / 4];
        let times = |value: f64| if more_is_better { usual / value.max(1e-12) } else { value / usual };
        let links: BTreeMap<_, _> =
            cells.iter().map(|(&link, &value)| (link, times(value))).filter(|link| link.1 > SLOW).collect();
        let mut counts: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        for link in cells.keys() {
            for rank in [link.0, link.1] {
                let (all, slow) = counts.entry(rank).or_default();
                *all += 1;
                *slow += usize::from(links.contains_key(link));
            }
        }
        let ranks = counts.iter().filter(|(_, (all, slow))| *all > 1 && slow == all);
        let ranks: BTreeSet<u32> = ranks.map(|(&rank, _)| rank).collect();
        // Of two hosts that have one link, nobody knows which is slow; and if all are, none is.
        let ranks = if ranks.len() < counts.len() { ranks } else { BTreeSet::new() };
        Self { usual, links, ranks }
    }

    /// In words, for a list; empty if nothing is slow. `directed`: a link may differ by its direction.
    pub(super) fn sentences(&self, directed: bool, name: impl Fn(u32) -> String) -> Vec<String> {
        let mut said = Vec::new();
        for &rank in &self.ranks {
            let own = self.links.iter().filter(|link| link.0.0 == rank || link.0.1 == rank);
            let (low, high) =
                own.fold((f64::INFINITY, 0.0f64), |(low, high), link| (low.min(*link.1), high.max(*link.1)));
            said.push(format!(
                "all links of {} are {low:.1} to {high:.1} times slower than the better ones",
                name(rank)
            ));
        }
        let mut alone: Vec<_> = self
            .links
            .iter()
            .filter(|((from, to), _)| directed || from < to)
            .filter(|((from, to), _)| !self.ranks.contains(from) && !self.ranks.contains(to))
            .collect();
        alone.sort_by(|a, b| b.1.total_cmp(a.1));
        for ((from, to), times) in alone {
            said.push(format!(
                "the link from {} to {} is {times:.1} times slower than the better ones",
                name(*from),
                name(*to)
            ));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ways between `ranks`, each with its figure.
    fn cells(ranks: u32, figure: impl Fn(u32, u32) -> f64) -> Cells {
        let ways = (0..ranks).flat_map(|from| (0..ranks).map(move |to| (from, to)));
        ways.filter(|(from, to)| from != to).map(|(from, to)| ((from, to), figure(from, to))).collect()
    }

    #[test]
    fn equal_links_are_not_slow() {
        let found = Slow::new(&cells(8, |from, to| 10.0 + 0.1 * f64::from(from + to)), true);
        assert!(
            found.links.is_empty() && found.sentences(true, |rank| rank.to_string()).is_empty(),
            "{found:?}"
        );
    }

    #[test]
    fn one_slow_link_is_named_in_its_direction() {
        let found = Slow::new(&cells(4, |from, to| if (from, to) == (1, 3) { 2.0 } else { 10.0 }), true);
        assert_eq!(found.links, BTreeMap::from([((1, 3), 5.0)]));
        assert_eq!(
            found.sentences(true, |rank| format!("n{rank}")),
            ["the link from n1 to n3 is 5.0 times slower than the better ones"]
        );
    }

    #[test]
    fn a_slow_host_among_four_is_named_and_its_links_are_not_each() {
        for (more_is_better, slow, usual) in [(true, 2.0, 10.0), (false, 50.0, 10.0)] {
            let figure = |from: u32, to: u32| if from == 2 || to == 2 { slow } else { usual };
            let found = Slow::new(&cells(4, figure), more_is_better);
            assert_eq!((found.usual, &found.ranks), (usual, &BTreeSet::from([2])));
            assert_eq!(found.links.len(), 6);
            assert_eq!(
                found.sentences(true, |rank| format!("n{rank}")),
                ["all links of n2 are 5.0 to 5.0 times slower than the better ones"]
            );
        }
    }

    #[test]
    fn one_direction_of_a_host_is_no_slow_host() {
        let found = Slow::new(&cells(4, |from, _| if from == 2 { 2.0 } else { 10.0 }), true);
        assert!(found.ranks.is_empty() && found.links.len() == 3, "{found:?}");
    }

    #[test]
    fn too_few_links_tell_nothing() {
        assert_eq!(Slow::new(&cells(2, |from, _| 1.0 + 99.0 * f64::from(from)), true), Slow::default());
        assert_eq!(Slow::new(&Cells::new(), false), Slow::default());
    }
}
