//! `fabriq bench cluster` started by srun, sbatch and mpirun, on four hosts of ci/slurm. What is measured is only held against what
//! cannot be: on two processors eight busy ends wait for each other.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::browser::look;
use support::{Finished, file};

const TOPOLOGIES: [&str; 7] = ["pair", "matrix", "ring", "incast", "fan-out", "all-to-all", "pool"];

/// Four ranks on two processors: short enough to be many, long enough that each of them has its turn.
const SMALL: &str = "--duration 400ms --warmup 100ms --out run";

/// A directory of a test's own, empty.
fn directory(name: &str) -> PathBuf {
    let path = file(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a shell script on the first node of a cluster, in a directory. `$fabriq` is the program.
fn on_cluster(directory: &Path, options: &[&str], script: &str) -> Finished {
    let lane = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/slurm");
    let mut command = Command::new(lane);
    command.args(["--timeout", "200"]).args(options).args(["--", "sh", "-c", script]);
    command.env("fabriq", env!("CARGO_BIN_EXE_fabriq")).current_dir(directory).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{lane}: {error}")).into()
}

/// The report that a run has written as `run`.
fn report(directory: &Path, finished: &Finished) -> Value {
    let text = std::fs::read_to_string(directory.join("run.json")).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}; {finished:#?}"))
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn steps(report: &Value) -> impl Iterator<Item = &Value> {
    report["steps"].as_array().unwrap().iter()
}

/// Ranks that take part in a step.
fn taking_part(step: &Value) -> BTreeSet<u64> {
    let flows = step["flows"].as_array().unwrap().iter();
    flows.flat_map(|flow| [&flow["from"], &flow["to"]]).filter_map(Value::as_u64).collect()
}

/// The ratio to the wire itself is that of the two figures. Nothing can be said of how large it is: both ends of a raw loop poll,
/// and on busy processors wait for each other.
fn assert_ratio(report: &Value, raw: &Value) {
    let own = if raw["kind"] == "raw_echo" { "echo" } else { "stream" };
    let own = steps(report)
        .find(|step| step["topology"] == "pair" && step["kind"] == own && step["size"] == raw["size"])
        .unwrap_or_else(|| panic!("nothing beside {raw}"));
    let figure = |step: &Value| match step["total"].get("latency") {
        Some(latency) => number(latency, "p50_us"),
        None => number(&step["total"], "gigabytes_per_second"),
    };
    let expected = figure(own) / figure(raw);
    let ratio = number(&raw["total"], "ratio");
    assert!((ratio / expected - 1.0).abs() < 0.01, "{ratio} and not {expected}: {raw}");
}

/// Every topology was measured among four hosts, both ways it can be, and all figures are there; none is impossible.
fn assert_whole(report: &Value, launcher: &str, sizes: &[u64]) {
    assert!(
        report["launcher"].as_str().unwrap().starts_with(&format!("{launcher}, job ")),
        "{}",
        report["launcher"]
    );
    assert_eq!(report["faults"], Value::Array(vec![]));
    assert_eq!(report["end"]["interrupted"], Value::Null, "{}", report["end"]);
    let ranks = report["ranks"].as_array().unwrap();
    let mut hosts: Vec<_> = ranks.iter().map(|rank| (rank["rank"].as_u64(), rank["host"].as_str())).collect();
    hosts.sort();
    assert_eq!(hosts, [0, 1, 2, 3].map(|rank| (Some(rank), Some(["h1", "h2", "h3", "h4"][rank as usize]))));
    for rank in ranks {
        let interfaces = rank["environment"]["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 1, "a host sees its own alone: {interfaces:?}");
        assert_eq!((&interfaces[0]["name"], &interfaces[0]["mtu"]), (&"eth0".into(), &1500.into()));
    }
    let mut measured = BTreeSet::new();
    for step in steps(report) {
        let item = step["topology"].as_str().unwrap();
        assert!(number(step, "verified") > 0.0, "{step}");
        let flows = step["flows"].as_array().unwrap();
        assert!(!flows.is_empty(), "{step}");
        let is_stream = step["kind"] == "stream";
        for figures in flows.iter().chain([&step["total"]]) {
            // Of several that send all the time, one may not have had a processor.
            let may_rest = is_stream && figures.get("from").is_some();
            assert!(number(figures, "messages_per_second") > 0.0 || may_rest, "{step}");
            // Faster than memory is nothing.
            assert!((0.0..1000.0).contains(&number(figures, "gigabytes_per_second")), "{figures}");
            if let Some(latency) = figures.get("latency") {
                let order = ["min_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "p99_99_us", "max_us"];
                let order: Vec<f64> = order.iter().map(|name| number(latency, name)).collect();
                assert!(order[0] > 0.0 && order.is_sorted(), "{latency}");
            }
        }
        let is_latency = step["total"].get("latency").is_some();
        let is_raw = step["kind"].as_str().unwrap().starts_with("raw");
        if is_raw {
            assert_ratio(report, step);
        }
        // Raw loops are not asked what they cost.
        for rank in step["ranks"].as_array().unwrap().iter().filter(|_| !is_raw) {
            assert!(number(rank, "cpu_seconds") > 0.0 && number(rank, "resident_bytes") > 1e6, "{rank}");
        }
        measured.insert((item.to_owned(), is_latency, is_raw, step["size"].as_u64().unwrap()));
    }
    for &size in sizes {
        for topology in TOPOLOGIES {
            for is_latency in [true, false] {
                let exists = match topology {
                    "pool" => is_latency,
                    _ => true,
                };
                let there = measured.contains(&(topology.to_owned(), is_latency, false, size));
                assert_eq!(there, exists, "{topology}, latency {is_latency}, {size} bytes; {measured:?}");
            }
        }
        assert!(
            [true, false].map(|latency| measured.contains(&("pair".into(), latency, true, size)))
                == [true; 2]
        );
    }
    // Each way of each pair.
    let links: BTreeSet<_> = steps(report)
        .filter(|step| step["topology"] == "matrix" && step["kind"] == "stream")
        .flat_map(|step| step["flows"].as_array().unwrap())
        .map(|flow| (flow["from"].as_u64(), flow["to"].as_u64()))
        .collect();
    assert_eq!(links.len(), 4 * 3, "{links:?}");
}

#[test]
fn srun_runs_every_topology_and_all_forms_of_the_report_agree() {
    let directory = directory("cluster-srun");
    let run =
        on_cluster(&directory, &[], &format!("srun -N4 $fabriq bench cluster {SMALL} --size 64 --size 4K"));
    assert_eq!(run.code, Some(0), "{run:#?}");
    let report = report(&directory, &run);
    assert_whole(&report, "Slurm", &[64, 4096]);
    let lines = std::fs::read_to_string(directory.join("run.jsonl")).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| records.iter().filter(|record| record.get(kind).is_some()).count();
    assert_eq!((of("run"), of("rank"), of("step"), of("end")), (1, 4, steps(&report).count(), 1));
    let table = std::fs::read_to_string(directory.join("run.csv")).unwrap();
    let rows = steps(&report).map(|step| step["flows"].as_array().unwrap().len() + 1).sum::<usize>();
    assert_eq!(table.lines().count(), rows + 1);
    let page = std::fs::read_to_string(directory.join("run.html")).unwrap();
    let seen = look("cluster.html", &page, 1300, &[]);
    assert_eq!((&seen["blocked"], &seen["resources"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    let text = seen["text"].as_str().unwrap();
    for part in ["fabriq bench cluster: 4 ranks on 4 hosts", "Slurm", "By message size", "Every link", "eth0"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let maps = seen["maps"].as_array().unwrap();
    assert_eq!(maps.len(), 4, "two sizes of latency and of throughput");
    // A link over which nothing came in the time measured, which busy processors can do to a stream, has no cell.
    let expected = steps(&report).filter(|step| step["topology"] == "matrix").map(|step| {
        let flows = step["flows"].as_array().unwrap().iter();
        let ways = if step["kind"] == "echo" { 2 } else { 1 };
        ways * flows.filter(|flow| flow["messages"].as_u64() > Some(0)).count()
    });
    let cells = maps.iter().map(|map| map["cells"].as_array().unwrap().len());
    assert_eq!(cells.sum::<usize>(), expected.sum::<usize>());
    for map in maps {
        let cells = map["cells"].as_array().unwrap();
        assert!((1..=4 * 3).contains(&cells.len()), "{map}");
        assert!(
            cells.iter().all(|cell| number(cell, "width") > 5.0 && number(cell, "height") > 5.0),
            "{map}"
        );
    }
    assert!(!seen["plots"].as_array().unwrap().is_empty());
}

#[test]
fn mpirun_runs_every_topology() {
    let directory = directory("cluster-mpirun");
    let script = format!("salloc --quiet -N4 mpirun $fabriq bench cluster {SMALL} --size 4K");
    let run = on_cluster(&directory, &[], &script);
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_whole(&report(&directory, &run), "Open MPI", &[4096]);
}

#[test]
fn srun_within_sbatch_runs_every_topology() {
    let directory = directory("cluster-sbatch");
    let script = format!("#!/bin/sh\nsrun $fabriq bench cluster {SMALL} --size 64\n");
    std::fs::write(directory.join("job"), script).unwrap();
    let run = on_cluster(&directory, &[], "sbatch --quiet --wait -N4 --output=job.out job");
    assert_eq!(run.code, Some(0), "{run:#?}\n{:?}", std::fs::read_to_string(directory.join("job.out")));
    assert_whole(&report(&directory, &run), "Slurm", &[64]);
}

#[test]
fn pmix_and_pmi2_are_enough() {
    for (kind, launcher) in [("pmix", "PMIx (Slurm)"), ("pmi2", "PMI (Slurm)")] {
        let directory = directory(&format!("cluster-{kind}"));
        let load = "--topology ring --only latency --size 64 --duration 50ms --warmup 50ms";
        let script =
            format!("srun -N4 --ntasks-per-node=2 --mpi={kind} $fabriq bench cluster {load} --out run");
        let run = on_cluster(&directory, &[], &script);
        assert_eq!(run.code, Some(0), "{run:#?}");
        let report = report(&directory, &run);
        assert!(
            report["launcher"].as_str().unwrap().starts_with(&format!("{launcher}, job ")),
            "{}",
            report["launcher"]
        );
        assert_eq!(taking_part(steps(&report).next().unwrap()), (0..8).collect());
    }
}

/// A run beside the script, which goes on when two measurements are made, or all is over. `$rank` is rank 2's process.
const BESIDE: &str = r#"
    srun -N4 $fabriq bench cluster --topology matrix,ring,incast --only throughput --size 4K --duration 250ms --warmup 100ms \
        --no-baseline --timeout 3s --out run &
    srun=$!
    over() { ! kill -0 $srun 2>/dev/null; }
    records() { cat run.jsonl 2>/dev/null | grep -c "^{\"$1\""; }
    until [ $(records step) -ge 2 ] || over; do sleep 0.02; done
    rank=$(sed -n 's/^{"rank":{"rank":2,.*"pid":\([0-9]*\),.*/\1/p' run.jsonl)
"#;

/// Rank 2 is named as lost, and what comes later was measured among the others.
fn assert_goes_on_without_rank_2(report: &Value) {
    let faults = report["faults"].as_array().unwrap();
    let named = faults.iter().filter(|fault| fault["rank"] == 2);
    assert!(named.clone().count() > 0, "{faults:?}");
    assert!(named.clone().any(|fault| fault["why"].as_str().unwrap().contains("rank 2 on h3")), "{faults:?}");
    assert_eq!(report["end"]["interrupted"], Value::Null);
    for topology in ["ring", "incast"] {
        let step = steps(report).find(|step| step["topology"] == topology);
        let step = step.unwrap_or_else(|| panic!("no {topology} without rank 2: {faults:?}"));
        assert_eq!(taking_part(step), BTreeSet::from([0, 1, 3]), "{topology}");
    }
}

#[test]
fn a_rank_that_is_killed_is_named_and_the_others_go_on() {
    let directory = directory("cluster-killed");
    let run = on_cluster(&directory, &[], &format!("{BESIDE} kill -KILL $rank; wait $srun"));
    assert_eq!(run.code, Some(137), "srun says the worst of all: {run:#?}");
    assert!(run.stderr.contains("srun: error: h3: task 2: Killed"), "{run:#?}");
    assert!(run.stderr.contains("srun: error: h1: task 0: Exited with exit code 1"), "{run:#?}");
    assert_goes_on_without_rank_2(&report(&directory, &run));
}

#[test]
fn under_mpirun_a_killed_rank_ends_the_job_and_the_report_names_it() {
    let directory = directory("cluster-mpirun-killed");
    // The same run, of another launcher.
    let beside = BESIDE.replace("srun -N4 $fabriq", "salloc --quiet -N4 mpirun $fabriq");
    assert_ne!(beside, BESIDE);
    let run = on_cluster(&directory, &[], &format!("{beside} kill -KILL $rank; wait $srun"));
    assert_ne!(run.code, Some(0), "{run:#?}");
    let report = report(&directory, &run);
    assert!(steps(&report).count() >= 2, "{run:#?}");
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.iter().any(|fault| fault["rank"] == 2), "{faults:?}");
    let page = std::fs::read_to_string(directory.join("run.html")).unwrap();
    assert!(
        page.contains("rank 2 on h3") && page.contains("SIGTERM") && page.ends_with("</html>\n"),
        "{page}"
    );
}

#[test]
fn a_rank_that_hangs_is_named_and_the_others_go_on() {
    let directory = directory("cluster-hung");
    // Slurm waits for it, so that it is ended when the others have.
    let strike = "kill -STOP $rank; until [ $(records end) = 1 ] || over; do sleep 0.02; done; kill -KILL $rank; wait $srun";
    let run = on_cluster(&directory, &[], &format!("{BESIDE} {strike}"));
    assert_eq!(run.code, Some(137), "{run:#?}");
    assert!(run.stderr.contains("srun: error: h1: task 0: Exited with exit code 1"), "{run:#?}");
    assert_goes_on_without_rank_2(&report(&directory, &run));
}

#[test]
fn a_slow_link_is_marked_in_the_matrix() {
    // 50 Mbit/s is 0.00625 GB/s; between the others are some gigabits, or what two busy processors leave of them. Small
    // queues, or most of the time goes into emptying them.
    let directory = directory("cluster-slow");
    let load = "--topology matrix --only throughput --size 16K --hwm 8 --duration 500ms --warmup 100ms --no-baseline";
    let script = format!("srun -N4 $fabriq bench cluster {load} --out run");
    let run = on_cluster(&directory, &["--rate", "h3=50"], &script);
    assert_eq!(run.code, Some(0), "{run:#?}");
    for flow in steps(&report(&directory, &run)).flat_map(|step| step["flows"].as_array().unwrap()) {
        let of_slow = flow["from"] == 2 || flow["to"] == 2;
        // No wire is faster than itself. What was in queues when the clock started is in the figure.
        assert!(!of_slow || number(flow, "gigabytes_per_second") < 0.01, "{flow}");
    }
    let page = std::fs::read_to_string(directory.join("run.html")).unwrap();
    for width in [1300, 500] {
        let seen = look("cluster-slow.html", &page, width, &[]);
        let text = seen["text"].as_str().unwrap();
        assert!(text.contains("all links of rank 2 (h3) are"), "{text}");
        let [map] = &seen["maps"].as_array().unwrap()[..] else { panic!("one map: {}", seen["maps"]) };
        let cell = |text: &str| {
            let cells = map["cells"].as_array().unwrap();
            cells
                .iter()
                .find(|cell| cell["text"].as_str().unwrap().starts_with(text))
                .unwrap_or_else(|| panic!("{map}"))
        };
        let colours: BTreeSet<&str> = [0, 1, 3]
            .iter()
            .flat_map(|other| [format!("rank 2 to rank {other}:"), format!("rank {other} to rank 2:")])
            .map(|link| {
                let cell = cell(&link);
                let named = format!("slow: {}", link.trim_end_matches(':'));
                let frame = map["slow"].as_array().unwrap().iter().find(|frame| frame["text"] == named);
                let frame = frame.unwrap_or_else(|| panic!("{named}: {map}"));
                assert_ne!(frame["stroke"], "none");
                for (from, size) in [("x", "width"), ("y", "height")] {
                    // Around the cell, and within the picture.
                    assert!(number(frame, from) >= number(cell, from) - 1.0, "{frame} {cell}");
                    let end = |of: &Value| number(of, from) + number(of, size);
                    assert!(
                        end(frame) <= end(cell) + 1.0 && end(cell) <= end(&map["frame"]) + 1.0,
                        "{frame} {cell}"
                    );
                }
                cell["colour"].as_str().unwrap()
            })
            .collect();
        // All of them in the colour of the worst, which is not that of the best.
        assert_eq!(colours.len(), 1, "{map}");
        let all: BTreeSet<&str> =
            map["cells"].as_array().unwrap().iter().map(|cell| cell["colour"].as_str().unwrap()).collect();
        assert!(all.len() > 1, "{map}");
    }
}

#[test]
fn ranks_that_were_told_different_things_are_named() {
    let directory = directory("cluster-differ");
    let load = "--topology pair --size 64 --duration 50ms --warmup 50ms";
    let fabriq = env!("CARGO_BIN_EXE_fabriq");
    let programs = format!(
        "0-2 {fabriq} bench cluster {load} --out run\n3 {fabriq} bench cluster {load} --size 128 --out run\n"
    );
    std::fs::write(directory.join("programs"), programs).unwrap();
    let run = on_cluster(&directory, &[], "srun -N4 -n4 --multi-prog programs");
    assert_ne!(run.code, Some(0), "{run:#?}");
    assert!(run.stderr.contains("rank 3 on h4") && run.stderr.contains("sizes"), "{run:#?}");
    let faults = &report(&directory, &run)["faults"];
    assert!(faults.as_array().unwrap().iter().any(|fault| fault["rank"] == 3), "{faults}");
}

#[test]
fn a_job_that_is_told_to_end_leaves_what_it_has_measured() {
    let directory = directory("cluster-told-to-end");
    // As Slurm does when a job's time is over.
    let strike = "scancel --signal=TERM $(squeue --noheader --format=%i); wait $srun";
    let run = on_cluster(&directory, &[], &format!("{BESIDE} {strike}"));
    assert_ne!(run.code, Some(0), "{run:#?}");
    let report = report(&directory, &run);
    assert!(steps(&report).count() >= 2, "{run:#?}");
    // All ranks hear it, and whose word reaches rank 0 first is chance: its own, or that of another.
    let said = [&report["end"]["interrupted"], &report["faults"]].map(ToString::to_string);
    assert!(said.iter().any(|said| said.contains("SIGTERM")), "{said:?}");
    let page = std::fs::read_to_string(directory.join("run.html")).unwrap();
    assert!(page.contains("SIGTERM") && page.ends_with("</html>\n"));
}

#[test]
fn in_an_allocation_without_srun_the_remedy_is_said() {
    let directory = directory("cluster-no-srun");
    let run = on_cluster(&directory, &[], "salloc --quiet -N4 $fabriq bench cluster");
    let said = run.failed(2);
    assert!(said.contains("this process is in Slurm's job 1") && said.contains("start it by srun"), "{said}");
}
