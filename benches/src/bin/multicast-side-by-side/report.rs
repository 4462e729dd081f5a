//! The figures of a run, their medians over rounds, and both as text: Markdown for people, JSON for programs. It measures
//! nothing.

use crate::Result;
use crate::ledger::Received;
use crate::peer::Name;
use crate::roles::Published;
use crate::rounds::Results;
use fabriq_benches::statistics::median;
use fabriq_benches::table::{self, ratio};
use serde::Serialize;
use std::fmt;

/// Whom every table has ratios to.
const REFERENCE: Name = Name::Libzmq;

/// One run of one peer, all subscribers together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Of the middle subscriber.
    pub(crate) p50_ms: f64,
    /// Of the middle subscriber.
    pub(crate) p99_ms: f64,
    /// Of the worst subscriber.
    pub(crate) max_ms: f64,
    /// Of the slowest subscriber.
    pub(crate) mb_per_s: f64,
    /// Of all subscribers together, as the next three.
    pub(crate) missing: u64,
    pub(crate) duplicates: u64,
    pub(crate) corrupt: u64,
    pub(crate) late: u64,
    /// Mean length of the runs of missing messages, of the middle subscriber.
    pub(crate) mean_burst: f64,
    /// How long the publisher's sends took.
    pub(crate) sending_s: f64,
}

impl Figures {
    pub(crate) fn new(published: &Published, received: &[Received]) -> Self {
        let middle = |figure: fn(&Received) -> f64| median(received.iter().map(figure)).unwrap_or(0.0);
        let sum = |count: fn(&Received) -> u64| received.iter().map(count).sum();
        let figures = |figure: fn(&Received) -> f64| received.iter().map(figure);
        Self {
            p50_ms: middle(|one| one.p50_ms),
            p99_ms: middle(|one| one.p99_ms),
            max_ms: figures(|one| one.max_ms).fold(0.0, f64::max),
            mb_per_s: figures(|one| one.mb_per_s).reduce(f64::min).unwrap_or(0.0),
            missing: sum(|one| one.missing),
            duplicates: sum(|one| one.duplicates),
            corrupt: sum(|one| one.corrupt),
            late: sum(|one| one.late),
            mean_burst: middle(|one| one.mean_burst),
            sending_s: published.seconds,
        }
    }
}

/// A measure at one loss, as Markdown.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    remark: String,
    table: table::Table,
}

impl Table {
    pub(crate) fn new(results: &Results, hosts: &[&str]) -> Self {
        let counted = results.counts.iter().filter(|counts| **counts).count();
        let run = results.counts.len();
        let mut remark = format!("Medians of {counted} rounds, {} subscribers", hosts.len() - 1);
        if counted < run {
            remark.push_str(&format!("; {} discarded, for bare UDP was disturbed in them", run - counted));
        }
        let lead = results.kind.lead();
        let of = |name| median(results.figures(name).iter().map(lead));
        let head = [
            "",
            "p50 ms",
            "p99 ms",
            "max ms",
            "MB/s",
            "missing",
            "at most",
            "duplicates",
            "corrupt",
            "mean burst",
            "x libzmq",
        ];
        let mut table = table::Table { head: head.map(str::to_owned).to_vec(), rows: Vec::new() };
        for name in &results.peers {
            let all = results.figures(*name);
            let failure = results.failure(*name);
            if all.is_empty() {
                let reason = failure.map_or("no round counted", |(reason, _)| reason);
                table.rows.push((vec![name.to_string()], format!("failed: {reason}")));
                continue;
            }
            let middle = |figure: fn(&Figures) -> f64, digits: usize| {
                format!("{:.digits$}", median(all.iter().map(figure)).unwrap_or(0.0))
            };
            let most = all.iter().map(|one| one.missing).max().unwrap_or(0);
            let cells = vec![
                name.to_string(),
                middle(|one| one.p50_ms, 2),
                middle(|one| one.p99_ms, 2),
                middle(|one| one.max_ms, 1),
                middle(|one| one.mb_per_s, 2),
                middle(|one| one.missing as f64, 0),
                most.to_string(),
                middle(|one| one.duplicates as f64, 0),
                middle(|one| one.corrupt as f64, 0),
                middle(|one| one.mean_burst, 2),
                ratio(of(*name), of(REFERENCE)),
            ];
            let mut remarks = Vec::new();
            if name.is_reliable() && most > 0 {
                remarks.push("did not keep its promise".to_owned());
            }
            if let Some((reason, count)) = failure {
                remarks.push(format!("{count} rounds failed: {reason}"));
            }
            table.rows.push((cells, remarks.join("; ")));
        }
        let title = format!("{}, {} % lost on arrival", results.kind.title(), results.loss);
        Self { title, remark, table }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "### {}\n\n{}.\n\n{}\n", self.title, self.remark, self.table.markdown())
    }
}

pub(crate) fn json(all: &[Results], hosts: &[&str]) -> Result<String> {
    let measures: Vec<_> = all
        .iter()
        .map(|results| {
            serde_json::json!({
                "measure": results.kind, "loss_percent": results.loss, "peers": results.peers,
                "rounds": results.rounds, "counts": results.counts,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(
        &serde_json::json!({ "subscribers": hosts.len() - 1, "measures": measures }),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::Kind;

    fn figures(p99_ms: f64, missing: u64) -> Figures {
        let received = Received { p99_ms, missing, mb_per_s: 10.0, ..Received::default() };
        Figures::new(&Published { sent: 1, seconds: 1.0 }, &[received])
    }

    #[test]
    fn figures_are_of_the_middle_the_worst_or_all_subscribers() {
        let one = |p99_ms, mb_per_s| Received {
            p99_ms,
            mb_per_s,
            max_ms: p99_ms,
            missing: 2,
            ..Received::default()
        };
        let all = Figures::new(
            &Published { sent: 9, seconds: 1.0 },
            &[one(1.0, 5.0), one(9.0, 4.0), one(2.0, 6.0)],
        );
        assert_eq!((all.p99_ms, all.max_ms, all.mb_per_s, all.missing), (2.0, 9.0, 4.0, 6));
    }

    #[test]
    fn a_table_has_medians_of_rounds_that_count_and_says_what_failed() {
        let results = Results {
            kind: Kind::Latency,
            loss: 5.0,
            peers: vec![Name::Libzmq, Name::Norm, Name::Fabriq],
            rounds: vec![
                vec![Ok(figures(100.0, 0)), Ok(figures(50.0, 4)), Err("unknown scheme".to_owned())],
                vec![Ok(figures(900.0, 7)), Ok(figures(9.0, 7)), Err("unknown scheme".to_owned())],
                vec![Ok(figures(300.0, 0)), Err("died".to_owned()), Err("unknown scheme".to_owned())],
            ],
            counts: vec![true, false, true],
        };
        let text = Table::new(&results, &["h1", "h2"]).to_string();
        assert!(text.starts_with(
            "### 1 KiB at 2000 messages/s, 5 % lost on arrival\n\nMedians of 2 rounds, 1 subscriber"
        ));
        assert!(text.contains("1 discarded"), "{text}");
        assert!(
            text.contains("| libzmq | 0.00 | 200.00 | 0.0 | 10.00 | 0 | 0 | 0 | 0 | 0.00 | 1.00 |"),
            "{text}"
        );
        assert!(text.contains("| norm | 0.00 | 50.00 |") && text.contains("| 0.25 |"), "{text}");
        assert!(text.contains("norm: did not keep its promise; 1 rounds failed: died"), "{text}");
        assert!(text.contains("fabriq: failed: unknown scheme"), "{text}");
    }
}
