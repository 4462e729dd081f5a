//! What of two clusters' reports is compared: the figures of each measurement with their windows, which links are slow, and
//! what is lost. How figures are compared is in `bench::compare`.

use std::collections::{BTreeMap, BTreeSet};

use super::limits::LOSS_SHARE;
use super::matrix::Matrix;
use super::plan::Item;
use super::protocol::Windows;
use super::report::{Cluster, Step};
use crate::bench::compare::{Figure, Found, KINDS, Key, MEDIAN, RATE, Random, Side, TAIL_END};

/// What a figure is of, but for its size: also which of the kinds.
type Label = (Key, usize);

/// What was found on both sides.
#[derive(Debug)]
pub(in crate::bench) struct Compared {
    pub(in crate::bench) figures: Vec<Figure>,
    /// Links that have become slow.
    pub(in crate::bench) slow_links: Vec<String>,
    /// Ranks, their transports, and flows that there were before.
    pub(in crate::bench) missing: Vec<String>,
    /// Measurements that lose more messages than before.
    pub(in crate::bench) lossier: Vec<String>,
}

/// Compares all of both sides.
pub(in crate::bench) fn compared(
    before: &[Cluster],
    after: &[Cluster],
    threshold: f64,
    random: &mut Random,
) -> Compared {
    let [old, new] = [before, after].map(|side| side.iter().map(figures).collect::<Vec<_>>());
    let of = |side: &[Vec<(Label, Found)>], label: &Label| {
        let found = side.iter().flatten().filter(|found| found.0 == *label);
        Side::new(&KINDS[label.1], found.map(|found| found.1.clone()))
    };
    let mut all = Vec::new();
    for (label, _) in old.first().into_iter().flatten() {
        let Some(before) = of(&old, label) else { continue };
        // What the same options have not measured has failed.
        let after = of(&new, label);
        all.push(Figure::new(&KINDS[label.1], label.0.clone(), &before, after.as_ref(), threshold, random));
    }
    Compared {
        figures: all,
        slow_links: newly_slow(before, after),
        missing: missing(before, after),
        lossier: lossier(before, after),
    }
}

/// The figures of a report, in the order of measuring.
fn figures(cluster: &Cluster) -> Vec<(Label, Found)> {
    let mut all = Vec::new();
    for step in cluster.steps.iter().filter(|step| step.item.round.is_none() && !step.item.kind.is_raw()) {
        let (windows, raw) = (step.windows(), cluster.raw_beside(step));
        all.extend(
            of_step(step, windows, raw).into_iter().map(|(kind, found)| ((key(&step.item), kind), found)),
        );
    }
    for matrix in Matrix::all(cluster) {
        // Each link is one sample of what links do.
        let per_message = matrix.item.size as f64 / 1e9;
        let values =
            matrix.cells.values().map(|&value| if matrix.is_latency { value } else { value / per_message });
        let windows: Vec<f64> = values.collect();
        let Some(value) = middle(&windows) else { continue };
        let kind = if matrix.is_latency { MEDIAN } else { RATE };
        all.push(((key(&matrix.item), kind), Found { value, windows, raw: None }));
    }
    all
}

fn of_step(step: &Step, windows: Windows, raw: Option<&Step>) -> Vec<(usize, Found)> {
    let raw_latency = raw.and_then(|raw| raw.total.latency.as_ref());
    match &step.total.latency {
        Some(latency) => vec![
            (
                MEDIAN,
                Found {
                    value: latency.p50_us,
                    windows: windows.typical,
                    raw: raw_latency.map(|raw| raw.p50_us),
                },
            ),
            (
                TAIL_END,
                Found {
                    value: latency.p99_us,
                    windows: windows.tails,
                    raw: raw_latency.map(|raw| raw.p99_us),
                },
            ),
        ],
        None => vec![(
            RATE,
            Found {
                value: step.total.messages_per_second,
                windows: windows.typical,
                raw: raw.map(|raw| raw.total.messages_per_second),
            },
        )],
    }
}

fn key(item: &Item) -> Key {
    (format!("{} {} {}", item.label(), item.topology.name(), item.what()), item.size)
}

fn middle(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Links that are slow in every report after and in none before.
fn newly_slow(before: &[Cluster], after: &[Cluster]) -> Vec<String> {
    let slow = |cluster: &Cluster| -> BTreeSet<(String, usize, (u32, u32))> {
        let matrices = Matrix::all(cluster);
        let links = matrices.iter().flat_map(|matrix| {
            let (name, size) = key(&matrix.item);
            let links = matrix.slow(cluster).links.into_keys();
            // Latency is the same both ways.
            let links = links.filter(|link| !matrix.is_latency || link.0 < link.1).collect::<Vec<_>>();
            links.into_iter().map(move |link| (name.clone(), size, link))
        });
        links.collect()
    };
    let known: BTreeSet<_> = before.iter().flat_map(slow).collect();
    let mut now = after.iter().map(slow);
    let first = now.next().unwrap_or_default();
    let always = now.fold(first, |always, other| always.intersection(&other).cloned().collect());
    let name = |rank: u32| after.first().map_or(format!("rank {rank}"), |cluster| cluster.name(rank));
    let said = always.difference(&known).map(|(matrix, size, (from, to))| {
        format!(
            "{matrix}, {}: the link from {} to {} is slow",
            crate::units::size(*size),
            name(*from),
            name(*to)
        )
    });
    said.collect()
}

/// Ranks that are lost in a report after and in none before, or lack a transport; and measurements some of whose flows bring
/// nothing any more.
fn missing(before: &[Cluster], after: &[Cluster]) -> Vec<String> {
    let known: BTreeSet<_> = before.iter().flat_map(|cluster| cluster.losses().into_keys()).collect();
    let mut now = BTreeMap::new();
    for cluster in after {
        for (what, why) in cluster.losses() {
            now.entry(what).or_insert(why);
        }
    }
    now.retain(|what, _| !known.contains(what));
    let empty = more(before, after, 0.0, |step| step.flows_empty as f64);
    let flows = empty.into_iter().map(|(name, size, now)| {
        let flows = crate::units::count(now as usize, "flow");
        format!("{name}, {}: {flows} brought no message", crate::units::size(size))
    });
    now.into_values().chain(flows).collect()
}

/// Measurements that lose a larger share of their messages.
fn lossier(before: &[Cluster], after: &[Cluster]) -> Vec<String> {
    let share = |step: &Step| {
        let lost = step.total.lost.unwrap_or(0) as f64;
        let came: u64 = step.flows.iter().filter(|flow| !flow.background).map(|flow| flow.messages).sum();
        lost / (lost + came as f64).max(1.0)
    };
    let more = more(before, after, LOSS_SHARE, share);
    let said = more.into_iter().map(|(name, size, now)| {
        format!("{name}, {}: {:.1} % of all messages were lost", crate::units::size(size), now * 100.0)
    });
    said.collect()
}

/// Measurements that have in every report after more of something than in each before, by more than `margin`; with the least
/// of it after. Of a matrix, it is the sum of all rounds.
fn more(
    before: &[Cluster],
    after: &[Cluster],
    margin: f64,
    of: impl Fn(&Step) -> f64,
) -> Vec<(String, usize, f64)> {
    let all = |cluster: &Cluster| {
        let mut all: BTreeMap<Key, f64> = BTreeMap::new();
        for step in cluster.steps.iter().filter(|step| !step.item.kind.is_raw()) {
            *all.entry(key(&step.item)).or_default() += of(step);
        }
        all
    };
    let [old, new] = [before, after].map(|side| side.iter().map(all).collect::<Vec<_>>());
    let found = new.first().into_iter().flatten().filter_map(|(key, _)| {
        // What one side has not measured is said elsewhere.
        let most = old.iter().filter_map(|all| all.get(key)).copied().reduce(f64::max)?;
        let least = new.iter().filter_map(|all| all.get(key)).copied().reduce(f64::min)?;
        (least > most + margin).then(|| (key.0.clone(), key.1, least))
    });
    found.collect()
}

impl Cluster {
    /// Ranks that did not come or were lost on the way, and transports that a rank lacks, each with why.
    fn losses(&self) -> BTreeMap<(u32, Option<&str>), String> {
        let mut losses = BTreeMap::new();
        for number in 0..self.run.size {
            let rank = self.ranks.iter().find(|rank| rank.rank == number);
            let lacks = rank.map(|rank| &rank.lacks).into_iter().flatten();
            for (scheme, why) in lacks {
                let text = format!("{} lacks {scheme}: {why}", self.name(number));
                losses.insert((number, Some(scheme.as_str())), text);
            }
            let faults: Vec<_> = self.faults.iter().filter(|fault| fault.rank == Some(number)).collect();
            // There is a fault of each transport that it lacks.
            if rank.is_none_or(|rank| faults.len() > rank.lacks.len()) {
                // Which says of whom.
                let said = faults.last().map(|fault| fault.why.clone());
                let text = said.unwrap_or_else(|| format!("{}: it took no part", self.name(number)));
                losses.insert((number, None), text);
            }
        }
        losses
    }

    /// Why another report does not belong to this one, apart from what is compared.
    pub(in crate::bench) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let places = |cluster: &Self| -> BTreeSet<(u32, String)> {
            cluster.ranks.iter().map(|rank| (rank.rank, rank.host.clone())).collect()
        };
        let (own, its) = (places(self), places(other));
        // One that did not come is what one compares.
        if own.iter().any(|(rank, host)| its.iter().any(|(theirs, name)| theirs == rank && name != host)) {
            differences.push("ranks are on other hosts".to_owned());
        }
        if self.run.size != other.run.size {
            differences.push(format!("{} ranks and {} ranks", self.run.size, other.run.size));
        }
        if self.run.build != other.run.build {
            differences.push(format!("builds `{}` and `{}`", self.run.build, other.run.build));
        }
        let mut options = other.run.options.clone();
        // How patient a run is changes no figure.
        (options.timeout, options.join, options.limit) =
            (self.run.options.timeout, self.run.options.join, self.run.options.limit);
        let told = serde_json::to_value(options).unwrap_or_default();
        differences.extend(
            self.run.options.differing(&told).map(|(name, own, its)| format!("`{name}` {own} and {its}")),
        );
        differences
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::cluster::environment::Environment;
    use crate::bench::cluster::options::tests::options;
    use crate::bench::cluster::plan::plan;
    use crate::bench::cluster::protocol::{FlowFound, Found as RankFound};
    use crate::bench::cluster::report::tests::rank;
    use crate::bench::cluster::report::{Fault, Record, Run};

    /// A report of four hosts, whose links have these latencies and throughputs of what is usual.
    pub(in crate::bench::cluster) fn report(times: impl Fn(u32, u32) -> f64) -> Cluster {
        report_of(&[], |_, from, to| times(from, to))
    }

    /// The same with more options.
    pub(in crate::bench::cluster) fn report_of(
        more: &[&str],
        times: impl Fn(&Item, u32, u32) -> f64,
    ) -> Cluster {
        let options = options(&[&["--size", "1K", "--topology", "matrix,incast"], more].concat()).unwrap();
        let items = plan(&options, 4);
        let mut cluster = Cluster::new(Run::new(&options, 4, "a test"));
        let environment = Environment::of_this_host();
        for number in 0..4 {
            cluster.add(Record::Rank(Box::new(rank(number, environment.clone()))));
        }
        for (number, item) in items.iter().enumerate() {
            let mut found: BTreeMap<u32, RankFound> = BTreeMap::new();
            for flow in item.flows(&options, 4, &[0, 1, 2, 3]) {
                let is_latency = item.kind.is_latency();
                let times = times(item, flow.from, flow.to);
                let messages = (1e6 / times) as u64;
                let own = found.entry(if is_latency { flow.from } else { flow.to }).or_default();
                own.flows.push(FlowFound {
                    from: flow.from,
                    to: Some(flow.to),
                    messages,
                    seconds: 1.0,
                    latencies: if is_latency { vec![((1e4 * times) as u64, 100)] } else { Vec::new() },
                    ..FlowFound::default()
                });
                let figure = if is_latency { 10.0 * times } else { messages as f64 };
                let tails = if is_latency { vec![figure; 10] } else { Vec::new() };
                own.windows.join(&Windows { typical: vec![figure; 10], tails });
            }
            let step = Step::new(number as u32 + 1, item, &found, Duration::ZERO).unwrap();
            cluster.add(Record::Step(Box::new(step)));
        }
        cluster
    }

    fn slower(before: &Cluster, after: &Cluster) -> (usize, Vec<String>) {
        let found = both(before, after);
        (found.figures.iter().filter(|figure| figure.is_slower()).count(), found.slow_links)
    }

    fn both(before: &Cluster, after: &Cluster) -> Compared {
        compared(std::slice::from_ref(before), std::slice::from_ref(after), 0.1, &mut Random::default())
    }

    #[test]
    fn the_same_is_no_change() {
        let report = report(|_, _| 1.0);
        assert_eq!(slower(&report, &report), (0, vec![]));
        assert_eq!(report.differences(&report), Vec::<String>::new());
        // Latency of the matrix and of the incast twice, throughput of both.
        assert_eq!(figures(&report).len(), 1 + 2 + 2);
    }

    #[test]
    fn what_takes_longer_is_found_and_the_other_way_is_not_slower() {
        let (fast, slow) = (report(|_, _| 1.0), report(|_, _| 1.3));
        assert_eq!(slower(&fast, &slow), (5, vec![]));
        assert_eq!(slower(&slow, &fast), (0, vec![]));
    }

    #[test]
    fn two_urls_of_one_scheme_are_compared_each_with_itself() {
        let wires = |by: f64| {
            report_of(&["--transport", "tcp", "--transport", "tcp://10.0.0.1:*"], move |item, _, _| {
                if item.url.starts_with("tcp://10") { by } else { 1.0 }
            })
        };
        // Five figures of the second, and none of the first.
        assert_eq!(slower(&wires(2.0), &wires(3.0)), (5, vec![]));
        assert_eq!(slower(&wires(2.0), &wires(2.0)), (0, vec![]));
    }

    #[test]
    fn a_link_that_has_become_slow_is_named() {
        let (before, after) =
            (report(|_, _| 1.0), report(|from, to| if (from, to) == (1, 2) { 4.0 } else { 1.0 }));
        let (_, slow) = slower(&before, &after);
        assert_eq!(
            slow,
            [
                "tcp matrix latency, 1 KiB: the link from rank 1 (n1) to rank 2 (n2) is slow",
                "tcp matrix throughput, 1 KiB: the link from rank 1 (n1) to rank 2 (n2) is slow",
            ]
        );
        assert_eq!(slower(&after, &after).1, Vec::<String>::new());
    }

    #[test]
    fn a_rank_that_is_lost_is_missing_whether_it_came_or_not() {
        let before = report(|_, _| 1.0);
        let mut absent = before.clone();
        absent.ranks.retain(|rank| rank.rank != 3);
        assert_eq!(both(&before, &absent).missing, ["rank 3: it took no part"]);
        let mut died = before.clone();
        let fault = |why: &str| Fault { step: Some(2), rank: Some(3), why: why.to_owned() };
        died.faults.push(fault("rank 3 on n3: it died"));
        assert_eq!(both(&before, &died).missing, ["rank 3 on n3: it died"]);
        let mut lacks = before.clone();
        lacks.ranks[3].lacks.insert("ofi".to_owned(), "no library".to_owned());
        lacks.faults.push(fault("rank 3 on n3 lacks ofi: no library"));
        assert_eq!(both(&before, &lacks).missing, ["rank 3 (n3) lacks ofi: no library"]);
        // What was so before is no change, nor is what has come back.
        for (before, after) in [(&absent, &absent), (&died, &died), (&lacks, &lacks), (&absent, &before)] {
            assert_eq!(both(before, after).missing, Vec::<String>::new());
        }
        // One that was there in one of several runs before is told by the others.
        let runs = compared(&[before.clone(), absent.clone()], &[absent], 0.1, &mut Random::default());
        assert_eq!(runs.missing, Vec::<String>::new());
    }

    #[test]
    fn flows_that_bring_nothing_and_messages_that_are_lost_are_compared() {
        let before = report(|_, _| 1.0);
        let mut after = before.clone();
        let step = after.steps.last_mut().unwrap();
        step.flows_empty = 1;
        step.total.lost = Some(step.flows.iter().map(|flow| flow.messages).sum());
        let found = both(&before, &after);
        assert_eq!(found.missing, ["tcp incast throughput, 1 KiB: 1 flow brought no message"]);
        assert_eq!(found.lossier, ["tcp incast throughput, 1 KiB: 50.0 % of all messages were lost"]);
        let same = both(&after, &after);
        assert!(same.missing.is_empty() && same.lossier.is_empty(), "{same:?}");
        // A few of very many are lost in one run and not in another.
        after.steps.last_mut().unwrap().total.lost = Some(3);
        assert_eq!(both(&before, &after).lossier, Vec::<String>::new());
    }

    #[test]
    fn reports_of_other_hosts_or_options_do_not_belong_together() {
        let (one, mut other) = (report(|_, _| 1.0), report(|_, _| 1.0));
        other.ranks[2].host = "elsewhere".to_owned();
        other.run.options.sizes = vec![64];
        other.run.options.join = Duration::from_secs(1);
        assert_eq!(one.differences(&other), ["ranks are on other hosts", "`sizes` [1024] and [64]"]);
    }
}
