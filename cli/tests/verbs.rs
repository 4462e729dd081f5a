//! `fabriq bench` over verbs://, beside raw verbs and perftest. Needs an RDMA device, real or soft-RoCE; see the feature
//! `device`. Says nothing about speed.

mod support;

use serde_json::Value;
use support::{Finished, fabriq, run};

/// Inline, from a registered buffer, and by RDMA READ.
const SHORT: [&str; 13] = [
    "bench",
    "--transport",
    "verbs",
    "--duration",
    "50ms",
    "--warmup",
    "5ms",
    "--size",
    "64",
    "--size",
    "1K",
    "--size",
    "64K",
];

fn positive(value: &Value, name: &str) -> f64 {
    let figure = value[name].as_f64().unwrap_or(f64::NAN);
    assert!(figure.is_finite() && figure > 0.0, "{name}: {value}");
    figure
}

/// The ratios are of the figures they stand beside.
#[test]
fn every_figure_over_verbs_has_its_ratio_to_the_device_itself() {
    let report: Value = serde_json::from_str(&run(&[&SHORT[..], &["--json"]].concat()).printed()).unwrap();
    assert_eq!(report["failed"].as_array().unwrap().len(), 0, "{report:#}");
    let missing: Vec<_> =
        report["without_baseline"].as_array().into_iter().flatten().map(|row| &row["baseline"]).collect();
    let has_perftest = !missing.iter().any(|name| **name == "perftest");
    for (kind, figure) in [("latency", "p50_us"), ("throughput", "messages_per_second")] {
        let rows = report[kind].as_array().unwrap();
        assert_eq!(rows.len(), 3, "{report:#}");
        for row in rows {
            let tool = match (kind, row["size"].as_u64()) {
                ("latency", _) => "ib_send_lat",
                (_, Some(65536)) => "ib_read_bw",
                _ => "ib_send_bw",
            };
            let baselines = row["baselines"].as_array().unwrap_or_else(|| panic!("{report:#}"));
            let names: Vec<_> = baselines.iter().map(|baseline| baseline["name"].as_str().unwrap()).collect();
            let wanted = if has_perftest { &["raw-polled", tool][..] } else { &["raw-polled"] };
            assert_eq!(names, wanted, "{report:#}");
            for baseline in baselines {
                let expected = positive(row, figure) / positive(baseline, figure);
                let ratio = positive(baseline, "ratio");
                assert!((ratio / expected - 1.0).abs() < 1e-6, "{ratio} is not {expected}: {row}");
            }
        }
    }
}

#[test]
fn the_table_has_the_ratios_and_says_that_perftest_is_not_installed() {
    let mut command = fabriq(&SHORT[..9]);
    let table = Finished::from(command.env("PATH", "/nonexistent").output().unwrap()).printed();
    assert_eq!(table.matches("x raw").count(), 2, "{table}");
    assert!(table.lines().any(|line| line.starts_with("verbs") && line.ends_with("raw-polled")), "{table}");
    assert!(table.contains("verbs raw-polled: a SEND each way"), "{table}");
    let line = table.lines().find(|line| line.starts_with("no perftest beside verbs: ")).unwrap_or(&table);
    assert!(line.ends_with("(apt-get install perftest)"), "{table}");
    assert!(!table.contains("FAILED"), "{table}");
}
