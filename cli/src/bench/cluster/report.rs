//! What a cluster run found, as records: a line of JSON each while it goes on, one document at its end. Measures nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::environment::Environment;
use super::limits::{FLOWS_MAX, FLOWS_WHOLE_MAX, RANKS_WHOLE_MAX};
use super::options::{Options, Topology};
use super::plan::Item;
use super::protocol::{FlowFound, Found, Hello, Kind, ToolFigures, Usage, Windows};
use crate::bench::report::{Quantile, distribution};
use crate::bench::table::DISTURBED;
use crate::failure::Failure;

/// What every document and first record says it is.
pub(in crate::bench) const FORMAT: &str = "fabriq cluster report 1";

/// One line of a run that goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Run(Box<Run>),
    Rank(Box<Rank>),
    Step(Box<Step>),
    Fault(Fault),
    Skipped(Skipped),
    End(End),
}

/// All of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Cluster {
    #[serde(flatten)]
    pub(super) run: Run,
    pub(super) ranks: Vec<Rank>,
    pub(super) steps: Vec<Step>,
    pub(super) faults: Vec<Fault>,
    pub(super) skipped: Vec<Skipped>,
    /// `None`: the run was cut off.
    pub(super) end: Option<End>,
}

/// What was to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) format: String,
    pub(super) version: String,
    pub(super) build: String,
    /// When it began, in seconds since 1970 (UTC).
    pub(super) unix_time: u64,
    /// How many ranks were to come.
    pub(super) size: u32,
    /// What says who is who.
    pub(super) launcher: String,
    pub(super) options: Options,
}

/// A rank that came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rank {
    pub(super) rank: u32,
    pub(super) host: String,
    pub(super) pid: u32,
    /// Of each scheme that it cannot use, why.
    pub(super) lacks: BTreeMap<String, String>,
    pub(super) environment: Environment,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) step: Option<u32>,
    pub(super) rank: Option<u32>,
    pub(super) why: String,
}

/// What could not be measured here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Skipped {
    pub(super) topology: Option<Topology>,
    pub(super) transport: Option<String>,
    pub(super) why: String,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) seconds: f64,
    /// By what, if it was not done.
    pub(super) interrupted: Option<String>,
}

/// One measurement, or one round of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Step {
    pub(in crate::bench) number: u32,
    #[serde(flatten)]
    pub(in crate::bench) item: Item,
    /// Of very many, those that do worst; the total is of all.
    pub(in crate::bench) flows: Vec<FlowFigures>,
    /// Flows that are not among them.
    #[serde(default)]
    pub(in crate::bench) flows_left_out: usize,
    /// Flows that brought no message in the time measured.
    #[serde(default)]
    pub(in crate::bench) flows_empty: usize,
    pub(in crate::bench) total: Total,
    /// Of very many, the first.
    pub(in crate::bench) ranks: Vec<RankFigures>,
    /// Ranks that are not among them.
    #[serde(default)]
    pub(in crate::bench) ranks_left_out: usize,
    /// Messages whose number and hash were found right, warm-up and all.
    pub(in crate::bench) verified: u64,
    /// Whether the warm-up ended because figures were steady.
    pub(in crate::bench) steady: bool,
    /// What raw loops do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) what: Option<String>,
    /// perftest between the same ranks, directly after raw loops over verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) tool: Option<ToolFigures>,
    /// Why there is no perftest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) without_tool: Option<String>,
    pub(in crate::bench) took_seconds: f64,
}

/// One way of messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct FlowFigures {
    pub(in crate::bench) from: u32,
    /// `None`: to several that share the work.
    pub(in crate::bench) to: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::bench) background: bool,
    pub(in crate::bench) messages: u64,
    pub(in crate::bench) seconds: f64,
    /// Round trips, where messages come back.
    pub(in crate::bench) messages_per_second: f64,
    /// 1 GB is 1000000000 bytes of payload, counted one way.
    pub(in crate::bench) gigabytes_per_second: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) latency: Option<Latency>,
    /// Where its rank measured nothing else: its best window, the lowest median in microseconds or the most messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) best: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) lost: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) recovery: Option<Recovery>,
}

/// How a receiver recovered packets that a wire had lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bench) struct Recovery {
    pub(in crate::bench) packets: u64,
    pub(in crate::bench) repaired: u64,
    pub(in crate::bench) requested: u64,
    pub(in crate::bench) lost: u64,
}

/// One way, which is half of a round trip; in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Latency {
    pub(in crate::bench) min_us: f64,
    pub(in crate::bench) mean_us: f64,
    pub(in crate::bench) p50_us: f64,
    pub(in crate::bench) p90_us: f64,
    pub(in crate::bench) p99_us: f64,
    pub(in crate::bench) p99_9_us: f64,
    pub(in crate::bench) p99_99_us: f64,
    pub(in crate::bench) max_us: f64,
    /// Empty of a flow among many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::bench) distribution: Vec<Quantile>,
}

/// All flows together, but for what runs in the background.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Total {
    pub(in crate::bench) messages_per_second: f64,
    pub(in crate::bench) gigabytes_per_second: f64,
    /// Of all ranks together, for each message; absent under a background load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) cpu_ns_per_message: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) cpu_ns_per_byte: Option<f64>,
    /// Bytes that the transports of all ranks copied for each byte that was carried, there and back; absent under a background load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) copied_per_byte: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) latency: Option<Latency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) lost: Option<u64>,
    /// Of the wire itself: fabriq's figure on the same pair by this one. Latency 1 is as fast and 2 takes twice as long,
    /// throughput 0.5 is half as fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bench) ratio: Option<f64>,
}

/// What a rank's process took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct RankFigures {
    pub(in crate::bench) rank: u32,
    #[serde(flatten)]
    pub(in crate::bench) usage: Usage,
    /// What this rank measured in parts of the time.
    pub(in crate::bench) windows: Windows,
    /// By how much counters of the host's devices have grown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::bench) counters: BTreeMap<String, u64>,
}

fn histogram(counts: &[&[(u64, u64)]]) -> Option<Histogram<u64>> {
    if counts.iter().all(|counts| counts.is_empty()) {
        return None;
    }
    let mut all = Histogram::new(3).ok()?;
    for &(value, count) in counts.iter().copied().flatten() {
        // It grows as it has to, and only a value beyond all clocks cannot be recorded.
        let _ = all.record_n(value, count);
    }
    Some(all)
}

impl Latency {
    /// Of nanoseconds with how often each was seen, in several parts.
    fn new(counts: &[&[(u64, u64)]]) -> Option<Self> {
        let all = histogram(counts)?;
        let quantile = |q| all.value_at_quantile(q) as f64 / 1e3;
        Some(Self {
            min_us: all.min() as f64 / 1e3,
            mean_us: all.mean() / 1e3,
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p99_9_us: quantile(0.999),
            p99_99_us: quantile(0.9999),
            max_us: all.max() as f64 / 1e3,
            distribution: distribution(&all),
        })
    }
}

impl FlowFigures {
    fn new(flow: &FlowFound, item: &Item) -> Self {
        let size = if flow.background { item.background.unwrap_or(0) } else { item.size };
        let rate = flow.messages as f64 / flow.seconds.max(1e-9);
        let recovery = flow.recovery.map(|[packets, repaired, requested, lost]| Recovery {
            packets,
            repaired,
            requested,
            lost,
        });
        Self {
            from: flow.from,
            to: flow.to,
            background: flow.background,
            messages: flow.messages,
            seconds: flow.seconds,
            messages_per_second: rate,
            gigabytes_per_second: rate * size as f64 / 1e9,
            latency: Latency::new(&[&flow.latencies]),
            best: None,
            lost: flow.lost,
            recovery,
        }
    }
}

impl Step {
    /// What all ranks have found together; or why that is nothing.
    pub(super) fn new(
        number: u32,
        item: &Item,
        found: &BTreeMap<u32, Found>,
        took: Duration,
    ) -> Result<Self, String> {
        let all: Vec<&FlowFound> = found.values().flat_map(|found| &found.flows).collect();
        let mut flows: Vec<_> = all.iter().map(|flow| FlowFigures::new(flow, item)).collect();
        for found in found.values() {
            if let [flow] = found.flows.as_slice()
                && let Some(figures) =
                    flows.iter_mut().find(|figures| (figures.from, figures.to) == (flow.from, flow.to))
            {
                figures.best = found.windows.best();
            }
        }
        let flows_empty = flows.iter().filter(|flow| flow.messages == 0).count();
        if flows_empty == flows.len() {
            return Err("no message came within the time measured; give more --duration".to_owned());
        }
        let measured = || flows.iter().filter(|flow| !flow.background);
        let rate: f64 = measured().map(|flow| flow.messages_per_second).sum();
        let bytes: f64 = measured().map(|flow| flow.gigabytes_per_second).sum();
        let per_second = |figure: fn(&Usage) -> f64| -> f64 {
            found.values().map(|found| figure(&found.usage) / found.usage.seconds.max(1e-9)).sum()
        };
        let (cpu, copied) =
            (per_second(|usage| usage.cpu_seconds), per_second(|usage| usage.copied_bytes as f64));
        // What comes back is counted once, and carried twice.
        let ways = if item.kind.is_latency() { 2.0 } else { 1.0 };
        let is_alone = item.background.is_none() && !item.kind.is_raw();
        let latencies: Vec<&[(u64, u64)]> =
            all.iter().filter(|flow| !flow.background).map(|flow| flow.latencies.as_slice()).collect();
        let lost: Vec<u64> = measured().filter_map(|flow| flow.lost).collect();
        let total = Total {
            messages_per_second: rate,
            gigabytes_per_second: bytes,
            cpu_ns_per_message: is_alone.then(|| cpu * 1e9 / rate.max(1e-9)),
            cpu_ns_per_byte: is_alone.then(|| cpu / bytes.max(1e-18)),
            copied_per_byte: is_alone.then(|| copied / (ways * bytes * 1e9).max(1e-9)),
            latency: Latency::new(&latencies),
            lost: (!lost.is_empty()).then(|| lost.iter().sum()),
            ratio: None,
        };
        let ranks_left_out = found.len().saturating_sub(RANKS_WHOLE_MAX);
        let ranks = found.iter().take(RANKS_WHOLE_MAX).map(|(&rank, found)| RankFigures {
            rank,
            usage: found.usage,
            windows: found.windows.clone(),
            counters: found.counters.clone(),
        });
        if flows.len() > FLOWS_WHOLE_MAX {
            flows
                .iter_mut()
                .filter_map(|flow| flow.latency.as_mut())
                .for_each(|latency| latency.distribution.clear());
        }
        let flows_left_out = flows.len().saturating_sub(FLOWS_MAX);
        if flows_left_out > 0 {
            flows.sort_by(|a, b| a.messages_per_second.total_cmp(&b.messages_per_second));
            flows.truncate(FLOWS_MAX);
        }
        Ok(Self {
            number,
            item: item.clone(),
            flows_left_out,
            flows_empty,
            total,
            ranks: ranks.collect(),
            ranks_left_out,
            verified: found.values().map(|found| found.verified).sum(),
            steady: found.values().all(|found| found.steady),
            what: found.values().find_map(|found| found.what.clone()),
            tool: found.values().find_map(|found| found.tool.clone()?.ok()),
            without_tool: found.values().find_map(|found| found.tool.clone()?.err()),
            took_seconds: took.as_secs_f64(),
            flows,
        })
    }
}

impl Rank {
    pub(super) fn new(rank: u32, hello: &Hello) -> Self {
        let Hello { host, pid, lacks, environment, .. } = hello.clone();
        Self { rank, host, pid, lacks, environment }
    }
}

impl Run {
    pub(super) fn new(options: &Options, size: u32, launcher: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            unix_time: now.map_or(0, |now| now.as_secs()),
            size,
            launcher: launcher.to_owned(),
            options: options.clone(),
        }
    }
}

impl Cluster {
    pub(super) fn new(run: Run) -> Self {
        Self { run, ranks: Vec::new(), steps: Vec::new(), faults: Vec::new(), skipped: Vec::new(), end: None }
    }

    /// Takes one more record in.
    pub(super) fn add(&mut self, record: Record) {
        match record {
            Record::Run(run) => self.run = *run,
            Record::Rank(rank) => self.ranks.push(*rank),
            Record::Step(step) => self.steps.push(*step),
            Record::Fault(fault) => self.faults.push(fault),
            Record::Skipped(skipped) => self.skipped.push(skipped),
            Record::End(end) => self.end = Some(end),
        }
    }

    /// The report in a text, if it is one of a cluster: a document, or the lines of a run that may have been cut off. Else what
    /// is wrong with it.
    fn parse(text: &str) -> Option<Result<Self, String>> {
        let first = text.lines().next().unwrap_or("");
        let lines = serde_json::from_str::<Value>(first).ok().filter(|first| first.get("run").is_some());
        let head = match &lines {
            Some(_) => lines,
            None => serde_json::from_str(text).ok(),
        }?;
        let is_lines = head.get("run").is_some();
        let format = head.get("run").unwrap_or(&head).get("format")?.as_str()?;
        if !format.starts_with(FORMAT.trim_end_matches(char::is_numeric)) {
            return None;
        }
        if format != FORMAT {
            return Some(Err(format!("it is a `{format}`; use the fabriq that has written it")));
        }
        let cluster = if is_lines { Self::of_lines(text) } else { serde_json::from_value(head) };
        Some(cluster.map_err(|error| error.to_string()))
    }

    fn of_lines(text: &str) -> Result<Self, serde_json::Error> {
        let mut lines = text.lines();
        let mut cluster = match serde_json::from_str(lines.next().unwrap_or(""))? {
            Record::Run(run) => Self::new(*run),
            _ => return Err(serde::de::Error::custom("its first line is no run")),
        };
        // A last line may be half a line.
        for line in lines {
            match serde_json::from_str(line) {
                Ok(record) => cluster.add(record),
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(cluster)
    }

    /// The report in a file, if it is one of a cluster.
    pub(in crate::bench) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let text = crate::bench::report::read(path)?;
        Self::parse(&text).transpose().map_err(|why| {
            Failure::Usage(format!(
                "{} is no report of this version's `fabriq bench cluster` (`{FORMAT}`): {why}",
                path.display()
            ))
        })
    }

    /// `rank 3 (host)`.
    pub(super) fn name(&self, rank: u32) -> String {
        let host = self.ranks.iter().find(|known| known.rank == rank).map(|known| known.host.as_str());
        host.map_or_else(|| format!("rank {rank}"), |host| format!("rank {rank} ({host})"))
    }

    /// The names of all hosts, sorted.
    pub(super) fn hosts(&self) -> BTreeSet<&str> {
        self.ranks.iter().map(|rank| rank.host.as_str()).collect()
    }

    /// What to say of ranks that their launcher has bound to one processor each.
    pub(super) fn confined(&self) -> Option<String> {
        let who = self.who(Environment::is_confined)?;
        Some(format!(
            "Bound to one processor, as their launcher has it: {who}. A rank has several threads that are busy at once, and \
             ranks that are bound to the same one stop each other, for seconds at worst. mpirun --bind-to none, or srun \
             --cpu-bind=none."
        ))
    }

    /// What to say of ranks that may not read their devices' counters.
    pub(super) fn refused_counters(&self) -> Option<String> {
        let refused = |environment: &Environment| !environment.refused_counters.is_empty();
        let who = self.who(refused)?;
        let counter = self.ranks.iter().find_map(|rank| rank.environment.refused_counters.first())?;
        Some(format!(
            "No permission to read counters of RDMA ports: {who}, first {counter}. They are left out. Let the user read the \
             folders counters and hw_counters under /sys/class/infiniband/*/ports/*, or start the ranks as one who may."
        ))
    }

    /// Ranks whose host is so: the first by name, and how many others.
    fn who(&self, is_so: impl Fn(&Environment) -> bool) -> Option<String> {
        let mut ranks = self.ranks.iter().filter(|rank| is_so(&rank.environment));
        let first = self.name(ranks.next()?.rank);
        Some(match ranks.count() {
            0 => first,
            1 => format!("{first} and another"),
            more => format!("{first} and {more} others"),
        })
    }

    /// Writes beside a measurement of the wire itself how fabriq, measured before, compares with it.
    pub(super) fn compare_raw(&self, record: &mut Record) {
        let Record::Step(raw) = record else { return };
        let Some(own) = self.steps.iter().find(|step| raw.is_beside(step)).map(|step| &step.total) else {
            return;
        };
        raw.total.ratio = Some(match (&own.latency, &raw.total.latency) {
            (Some(own), Some(raw)) => own.p50_us / raw.p50_us.max(1e-3),
            _ => own.messages_per_second / raw.total.messages_per_second.max(1e-9),
        });
        if let Some(tool) = &mut raw.tool {
            tool.ratio = Some(match &own.latency {
                Some(own) => own.p50_us / tool.p50_us.max(1e-3),
                None => own.messages_per_second / tool.messages_per_second.max(1e-9),
            });
        }
    }

    /// Whether a ping-pong on the wire itself was slower than fabriq's on it, which cannot be: others held the processors.
    pub(super) fn is_disturbed(&self) -> bool {
        let raw = self.steps.iter().filter(|step| step.item.kind == Kind::RawEcho);
        raw.filter_map(|step| step.total.ratio).any(|ratio| ratio < DISTURBED)
    }

    /// The wire itself as it was measured beside a step.
    pub(super) fn raw_beside(&self, step: &Step) -> Option<&Step> {
        self.steps.iter().find(|raw| raw.is_beside(step))
    }
}

impl Step {
    /// The windows of all ranks together.
    pub(in crate::bench) fn windows(&self) -> Windows {
        let mut all = Windows::default();
        self.ranks.iter().for_each(|rank| all.join(&rank.windows));
        all
    }

    /// Whether this is the wire itself on the pair of that step, which is one of fabriq's.
    fn is_beside(&self, step: &Self) -> bool {
        let (raw, own) = (&self.item, &step.item);
        let expected =
            Item { kind: if own.kind.is_latency() { Kind::RawEcho } else { Kind::RawStream }, ..own.clone() };
        let pair = |step: &Self| step.flows.iter().map(|flow| (flow.from, flow.to)).collect::<Vec<_>>();
        !own.kind.is_raw() && *raw == expected && pair(self) == pair(step)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::cluster::options::tests::options;
    use crate::bench::cluster::protocol::{Hello, Party};

    /// One on a host of its own, which is `n` and its number.
    pub(in crate::bench::cluster) fn rank(number: u32, environment: Environment) -> Rank {
        let hello = Hello {
            party: Party::new(1, None),
            host: format!("n{number}"),
            pid: 1,
            options: serde_json::Value::Null,
            lacks: BTreeMap::new(),
            environment,
        };
        Rank::new(number, &hello)
    }

    /// As a document and as lines.
    fn written() -> [String; 2] {
        let run = Run::new(&options(&["--size", "1K"]).unwrap(), 4, "a test");
        let lines = [
            Record::Run(Box::new(run.clone())),
            Record::Fault(Fault { step: None, rank: Some(3), why: "gone".to_owned() }),
        ];
        let mut cluster = Cluster::new(run);
        cluster.add(lines[1].clone());
        let lines = lines.map(|record| serde_json::to_string(&record).unwrap() + "\n");
        [serde_json::to_string_pretty(&cluster).unwrap(), lines.concat()]
    }

    #[test]
    fn a_document_and_its_lines_are_one_report_even_if_those_are_cut_off() {
        let [document, lines] = written();
        let parse = |text: &str| Cluster::parse(text).unwrap().unwrap();
        assert_eq!(parse(&document), parse(&lines));
        assert_eq!(parse(&lines[..lines.len() - 5]), Cluster { faults: Vec::new(), ..parse(&lines) });
        assert!(Cluster::parse("{\"latency\": []}").is_none() && Cluster::parse("no JSON").is_none());
    }

    #[test]
    fn a_report_of_another_format_is_refused_by_name() {
        for text in written() {
            let other = text.replace(FORMAT, "fabriq cluster report 9");
            let why = Cluster::parse(&other).unwrap().unwrap_err();
            assert!(why.contains("`fabriq cluster report 9`") && why.contains("use the fabriq"), "{why}");
            // Also when it says what this version does not know.
            let strange = other.replace("\"options\"", "\"choices\"");
            assert_eq!(Cluster::parse(&strange).unwrap().unwrap_err(), why);
        }
    }

    #[test]
    fn ranks_that_may_not_read_counters_are_named_with_the_first_counter() {
        let options = options(&["--size", "1K"]).unwrap();
        let mut cluster = Cluster::new(Run::new(&options, 4, "a test"));
        assert_eq!(cluster.refused_counters(), None);
        for number in 0..4u32 {
            let mut environment = Environment::of_this_host();
            environment.refused_counters =
                (0..number).map(|port| format!("mlx5_{number}/{port}/port_rcv_data")).collect();
            cluster.add(Record::Rank(Box::new(rank(number, environment))));
        }
        let said = cluster.refused_counters().unwrap();
        assert!(said.contains("rank 1 (n1) and 2 others, first mlx5_1/0/port_rcv_data"), "{said}");
        assert!(super::super::page::of(&cluster).contains("mlx5_1/0/port_rcv_data"));
    }
}
