//! Rounds of one measure: every peer once in each, in turning order, between two readings of the raw limit; and which
//! rounds count. It prints no figure.

use crate::Result;
use crate::measures::Measure;
use crate::peer::{Entry, RAW_BLOCKING, RAW_POLLED};
use crate::round::Figures;
use crate::statistics::rounds_that_count;
use fabriq_benches::statistics::median;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Discarded rounds are measured again until so many times the wanted rounds have been run, or the time is up.
const TRIES: usize = 3;
/// Rounds that are run even if the time is up.
const ROUNDS_MIN: usize = 2;

/// The outcome of one peer in one round: figures, or why there are none.
pub(crate) type Outcome = std::result::Result<Figures, String>;

/// All rounds of one measure.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) peers: Vec<&'static str>,
    /// Round by round, in the order of `peers`.
    pub(crate) rounds: Vec<Vec<Outcome>>,
    /// Round by round, the readings of the raw limit.
    pub(crate) limits: Vec<Vec<f64>>,
    pub(crate) counts: Vec<bool>,
    /// No round counted; then all do, with a warning.
    pub(crate) disturbed: bool,
}

impl Results {
    /// The figures of one column of one peer, over the rounds that count.
    pub(crate) fn values(&self, peer: &str, key: &str) -> Vec<f64> {
        let Some(peer) = self.peers.iter().position(|name| *name == peer) else { return Vec::new() };
        self.rounds
            .iter()
            .zip(&self.counts)
            .filter(|(_, counts)| **counts)
            .filter_map(|(round, _)| round[peer].as_ref().ok()?.get(key).copied())
            .collect()
    }

    pub(crate) fn median(&self, peer: &str, key: &str) -> Option<f64> {
        median(self.values(peer, key))
    }

    /// Why a peer failed in the first round in which it did, and in how many rounds it did.
    pub(crate) fn failure(&self, peer: &str) -> Option<(&str, usize)> {
        let peer = self.peers.iter().position(|name| *name == peer)?;
        let mut failed = self.rounds.iter().filter_map(|round| round[peer].as_ref().err());
        let first = failed.next()?;
        Some((first, 1 + failed.count()))
    }

    pub(crate) fn counted(&self) -> usize {
        self.counts.iter().filter(|counts| **counts).count()
    }
}

/// Runs rounds until enough of them count, [`TRIES`] times as many have been run, or `until` has come.
pub(crate) fn run(
    measure: &Measure,
    entries: &[Entry],
    until: Instant,
    play: impl Fn(&Entry, usize) -> Result<Figures>,
) -> Results {
    let fits = |entry: &&Entry| !entry.lacks.contains(&measure.role) && !measure.leaves_out(entry.name);
    let peers: Vec<&'static str> = entries.iter().filter(fits).map(|entry| entry.name).collect();
    let limit = measure.limit.filter(|(peer, _)| peers.contains(peer));
    let progress = std::io::stderr().is_terminal();
    let mut results =
        Results { peers, rounds: Vec::new(), limits: Vec::new(), counts: Vec::new(), disturbed: false };
    let mut longest = Duration::ZERO;
    while results.counted() < measure.rounds && results.rounds.len() < TRIES * measure.rounds {
        let number = results.rounds.len();
        let began = Instant::now();
        if number >= ROUNDS_MIN && began + longest > until {
            break;
        }
        if progress {
            eprint!("\r{}: round {}   ", measure.name, number + 1);
        }
        let play = |peer| {
            let entry = entries.iter().find(|entry| entry.name == peer).ok_or("no such peer")?;
            play(entry, number)
        };
        let (round, limits) = one_round(&results.peers, limit, number, play);
        results.rounds.push(round);
        results.limits.push(limits);
        results.counts = judge(measure, &results);
        longest = longest.max(began.elapsed());
    }
    if progress {
        eprint!("\r{:40}\r", "");
    }
    results.disturbed = results.counted() == 0;
    if results.disturbed {
        results.counts.fill(true);
    }
    results
}

/// The limit, every other peer, the limit again. The limit's figures are the mean of both.
fn one_round(
    peers: &[&'static str],
    limit: Option<(&'static str, &'static str)>,
    number: usize,
    play: impl Fn(&'static str) -> Result<Figures>,
) -> (Vec<Outcome>, Vec<f64>) {
    let outcome = |peer| play(peer).map_err(|error| error.to_string());
    let before = limit.map(|(peer, _)| outcome(peer));
    let mut round: Vec<Outcome> = vec![Err("not run".to_owned()); peers.len()];
    for turn in 0..peers.len() {
        let index = (turn + number) % peers.len();
        if limit.is_none_or(|(peer, _)| peer != peers[index]) {
            round[index] = outcome(peers[index]);
        }
    }
    let mut limits = Vec::new();
    if let (Some((peer, key)), Some(before)) = (limit, before)
        && let Some(index) = peers.iter().position(|name| *name == peer)
    {
        let after = outcome(peer);
        limits =
            [&before, &after].into_iter().flatten().filter_map(|figures| figures.get(key).copied()).collect();
        round[index] = before.and_then(|before| {
            let after = after?;
            Ok(before.iter().map(|(key, value)| (*key, f64::midpoint(*value, after[key]))).collect())
        });
    }
    (round, limits)
}

fn judge(measure: &Measure, results: &Results) -> Vec<bool> {
    let mut counts = rounds_that_count(&results.limits);
    if measure.limit == Some((RAW_POLLED, "p50_us")) {
        // Polling that is slower than sleeping shows a third process on the two cores. That can last for all rounds, so
        // the median cannot show it.
        let figure = |round: &[Outcome], peer: &str| {
            let peer = results.peers.iter().position(|name| *name == peer)?;
            round[peer].as_ref().ok()?.get("p50_us").copied()
        };
        for (counts, round) in counts.iter_mut().zip(&results.rounds) {
            let (polled, blocking) = (figure(round, RAW_POLLED), figure(round, RAW_BLOCKING));
            *counts &= polled.zip(blocking).is_none_or(|(polled, blocking)| polled < blocking);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_limit_is_read_before_and_after_the_others_who_take_turns() {
        let order = RefCell::new(Vec::new());
        let play = |peer| {
            order.borrow_mut().push(peer);
            Ok(Figures::from([("rate", order.borrow().len() as f64)]))
        };
        let (round, limits) = one_round(&["a", "raw", "b"], Some(("raw", "rate")), 2, play);
        assert_eq!(*order.borrow(), ["raw", "b", "a", "raw"]);
        assert_eq!(limits, [1.0, 4.0]);
        assert_eq!(round[1].as_ref().unwrap()["rate"], 2.5);
        assert_eq!(round[2].as_ref().unwrap()["rate"], 2.0);
        order.borrow_mut().clear();
        let (_, limits) = one_round(&["a", "b"], None, 1, play);
        assert_eq!(*order.borrow(), ["b", "a"]);
        assert!(limits.is_empty());
    }

    #[test]
    fn a_limit_that_failed_once_has_no_figures_but_its_other_reading_judges() {
        let calls = RefCell::new(0);
        let play = |_| {
            *calls.borrow_mut() += 1;
            if *calls.borrow() == 1 { Err("broken".into()) } else { Ok(Figures::from([("rate", 7.0)])) }
        };
        let (round, limits) = one_round(&["raw"], Some(("raw", "rate")), 0, play);
        assert_eq!((round[0].clone(), limits), (Err("broken".to_owned()), vec![7.0]));
    }
}
