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

/// The address of the first RDMA device.
fn address() -> std::net::IpAddr {
    let gids = std::process::Command::new("sh")
        .args(["-c", "cat /sys/class/infiniband/*/ports/*/gids/* 2>/dev/null"])
        .output()
        .unwrap();
    let gids = String::from_utf8(gids.stdout).unwrap();
    let mapped = |gid: &str| gid.trim().parse::<std::net::Ipv6Addr>().ok()?.to_ipv4_mapped();
    gids.lines().find_map(mapped).expect("a GID that stands for an IPv4 address").into()
}

#[test]
fn a_cluster_over_verbs_has_its_pair_beside_the_device_itself_and_perftest() {
    let url = format!("tcp://{}:7531", address());
    let arguments = ["--transport", "verbs", "--topology", "pair,incast", "--size", "64", "--size", "64K"];
    let times = ["--duration", "50ms", "--warmup", "10ms", "--timeout", "30s", "--json"];
    let place =
        |rank: &'static str| ["bench", "cluster", "--rank", rank, "--ranks", "3", "--coordinator", &url];
    let mut others: Vec<_> = ["1", "2"]
        .map(|rank| fabriq(&[&place(rank)[..], &arguments, &times].concat()).spawn().unwrap())
        .into();
    let first = run(&[&place("0")[..], &arguments, &times].concat());
    others.iter_mut().for_each(|other| assert!(other.wait().unwrap().success()));
    let report: Value = serde_json::from_str(&first.printed()).unwrap();
    assert_eq!(report["faults"].as_array().unwrap().len(), 0, "{report:#}");
    let steps = report["steps"].as_array().unwrap();
    let of = |topology: &str, kind: &str| -> Vec<&Value> {
        steps.iter().filter(|step| step["topology"] == topology && step["kind"] == kind).collect()
    };
    assert_eq!((of("incast", "echo").len(), of("incast", "stream").len()), (2, 2), "{report:#}");
    for (kind, raw) in [("echo", "raw_echo"), ("stream", "raw_stream")] {
        let (own, raw) = (of("pair", kind), of("pair", raw));
        assert_eq!((own.len(), raw.len()), (2, 2), "{report:#}");
        for (own, raw) in own.iter().zip(&raw) {
            let figure = |step: &Value| match kind {
                "echo" => positive(&step["total"]["latency"], "p50_us"),
                _ => positive(&step["total"], "messages_per_second"),
            };
            let ratio = positive(&raw["total"], "ratio");
            assert!((ratio / (figure(own) / figure(raw)) - 1.0).abs() < 1e-6, "{raw}");
            // Where perftest is not installed, the report says so.
            match raw["without_tool"].as_str() {
                Some(why) => assert!(why.contains("perftest"), "{why}"),
                None => assert!(positive(&raw["tool"], "ratio") > 0.0, "{raw}"),
            }
        }
    }
    // The device has counted what went over it, and the kernel what it may reach.
    let ranks = of("pair", "stream")[0]["ranks"].as_array().unwrap();
    assert!(
        ranks.iter().any(|rank| rank["counters"].as_object().is_some_and(|counters| !counters.is_empty())),
        "{report:#}"
    );
    assert!(ranks.iter().all(|rank| rank["pinned_bytes"].as_u64() > Some(0)), "{report:#}");
}
