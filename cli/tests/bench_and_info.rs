//! `fabriq bench` and `fabriq info` as real processes: that they finish, agree with each other and notice damage. Says
//! nothing about speed.

mod support;

use std::time::Duration;

use fabriq::{Message, SocketType};
use serde_json::Value;
use support::{Running, run};

const SHORT: [&str; 6] = ["--duration", "20ms", "--warmup", "2ms", "--size", "64"];

fn with<'a>(first: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [first, rest].concat()
}

#[test]
fn info_knows_every_scheme() {
    let info: Value = serde_json::from_str(&run(&["info", "--json"]).printed()).unwrap();
    let state = |name: &str| {
        let schemes = info["schemes"].as_array().unwrap();
        let scheme = schemes.iter().find(|scheme| scheme["scheme"] == name).unwrap();
        (scheme["available"].as_bool().unwrap(), scheme["why"].as_str().map(str::to_owned))
    };
    assert_eq!(state("inproc"), (true, None));
    assert_eq!(state("ipc"), (true, None));
    assert_eq!(state("tcp"), (true, None));
    for missing in ["verbs", "ofi", "pgm", "epgm"] {
        let (available, why) = state(missing);
        assert!(available != why.is_some(), "{missing}: {why:?}");
    }
    assert!(info["cpus"].as_u64().unwrap() > 0);
    assert!(info["kernel"].as_str().unwrap().starts_with("Linux "));
    let text = run(&["info"]).printed();
    let tcp = text.lines().find(|line| line.starts_with("tcp://")).unwrap();
    assert!(tcp.contains(" yes ") && text.contains("ZMTP 3.1"), "{text}");
}

#[test]
fn the_default_run_measures_every_transport_and_size() {
    let arguments = with(&["bench", "--json", "--size", "2K"], &SHORT);
    let report: Value = serde_json::from_str(&run(&arguments).printed()).unwrap();
    assert_eq!(report["failed"].as_array().unwrap().len(), 0, "{report}");
    for kind in ["latency", "throughput"] {
        let rows = report[kind].as_array().unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row["transport"].as_str(), row["size"].as_u64())).collect();
        for transport in ["inproc", "ipc", "tcp", "epgm"] {
            for size in [2048, 64] {
                assert!(rows.contains(&(Some(transport), Some(size))), "{kind} {transport} {size}: {rows:?}");
            }
        }
    }
    for row in report["latency"].as_array().unwrap() {
        let figures =
            ["min_us", "p50_us", "p99_us", "p99_9_us", "max_us"].map(|name| row[name].as_f64().unwrap());
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{row}");
    }
    for (kind, figure) in [("latency", "p50_us"), ("throughput", "messages_per_second")] {
        for row in report[kind].as_array().unwrap() {
            // Only between processes is there a wire.
            let baselines = row["baselines"].as_array().map_or(&[][..], Vec::as_slice);
            let transport = row["transport"].as_str().unwrap();
            assert_eq!(baselines.is_empty(), ["inproc", "epgm", "pgm"].contains(&transport), "{row}");
            for baseline in baselines {
                let (ours, raw) = (row[figure].as_f64().unwrap(), baseline[figure].as_f64().unwrap());
                let ratio = baseline["ratio"].as_f64().unwrap();
                assert!(raw > 0.0 && (ratio / (ours / raw) - 1.0).abs() < 1e-6, "{row}");
            }
        }
    }
    for row in report["throughput"].as_array().unwrap() {
        assert!(
            row["messages"].as_u64() > Some(0) && row["messages_per_second"].as_f64() > Some(0.0),
            "{row}"
        );
    }
}

#[test]
fn the_table_is_for_people_and_progress_only_for_terminals() {
    let finished = run(&with(&["bench", "--transport", "tcp", "--transport", "verbs"], &SHORT));
    let noise: Vec<_> = finished.stderr.lines().filter(|line| !line.contains("debug build")).collect();
    assert!(noise.is_empty(), "{noise:?}");
    let table = finished.printed();
    assert!(table.contains("p99.9") && table.contains("GB/s"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("tcp") && line.contains("64 B")), "{table}");
    // What this host lacks is said, and what it has is measured.
    let measured = table.lines().any(|line| line.starts_with("verbs"));
    assert!(measured || table.contains("skipped verbs: "), "{table}");
    assert!(table.matches("x raw").count() >= 2, "{table}");
    assert!(table.lines().any(|line| line.starts_with("tcp") && line.ends_with("raw-polled")), "{table}");
}

#[test]
fn latency_between_two_processes() {
    for rate in [&[][..], &["--rate", "5k"]] {
        let (echo, url) = Running::bound(&["bench", "latency", "--bind", "tcp://127.0.0.1:*"]);
        let arguments = with(&["bench", "latency", "--connect", &url, "--json"], &with(&SHORT, rate));
        let report: Value = serde_json::from_str(&run(&arguments).printed()).unwrap();
        let row = &report["latency"][0];
        assert!(row["messages"].as_u64() > Some(0) && row["p50_us"].as_f64() > Some(0.0), "{report}");
        assert_eq!(row["rate_asked"].as_f64(), rate.last().map(|_| 5000.0));
        echo.finish().printed();
    }
}

#[test]
fn throughput_between_two_processes() {
    let (receiver, url) = Running::bound(&["bench", "throughput", "--bind", "tcp://127.0.0.1:*", "--json"]);
    let arguments = with(&["bench", "throughput", "--connect", &url, "--rate", "100k"], &SHORT);
    assert_eq!(run(&arguments).printed(), "");
    let report: Value = serde_json::from_str(&receiver.finish().printed()).unwrap();
    assert!(report["throughput"][0]["messages"].as_u64() > Some(0), "{report}");
}

#[test]
fn latency_and_throughput_by_multicast_between_two_processes() {
    // A group of this process's.
    let [.., a, b] = std::process::id().to_be_bytes();
    let url = format!("epgm://lo;239.194.{a}.{b}:7501?rate_kbit=100000");
    let (echo, _) = Running::bound(&["bench", "latency", "--bind", &url]);
    let report: Value = serde_json::from_str(
        &run(&with(&["bench", "latency", "--connect", &url, "--json"], &SHORT)).printed(),
    )
    .unwrap();
    assert!(report["latency"][0]["p50_us"].as_f64() > Some(0.0), "{report}");
    echo.finish().printed();
    let (receiver, _) = Running::bound(&["bench", "throughput", "--bind", &url, "--json"]);
    assert_eq!(run(&with(&["bench", "throughput", "--connect", &url], &SHORT)).printed(), "");
    let report: Value = serde_json::from_str(&receiver.finish().printed()).unwrap();
    let row = &report["throughput"][0];
    assert!(row["messages"].as_u64() > Some(0) && row["lost"] == 0, "{report}");
}

#[test]
fn stat_counts_what_publishers_send() {
    let [.., a, b] = std::process::id().to_be_bytes();
    let url = format!("epgm://lo;239.194.{a}.{b}:7502");
    let (stat, _) = Running::bound(&["stat", "--bind", "--json", "--interval", "100ms", "-n", "40", &url]);
    let publish = run(&["pub", &url, "one", "two", "three"]);
    assert_eq!(publish.printed(), "");
    let reports = stat.finish().printed();
    let reports: Vec<Value> = reports.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: f64 = reports
        .iter()
        .zip(std::iter::once(0.0).chain(reports.iter().map(|report| report["seconds"].as_f64().unwrap())))
        .map(|(now, before)| {
            now["messages_per_second"].as_f64().unwrap() * (now["seconds"].as_f64().unwrap() - before)
        })
        .sum();
    assert_eq!(messages.round(), 3.0, "{reports:?}");
    assert!(
        reports.iter().any(|report| !report["publishers"].as_object().unwrap().is_empty()),
        "{reports:?}"
    );
    let last = reports.last().unwrap();
    assert!(last["packets"].as_u64() > Some(0) && last["lost"] == 0, "{last}");
}

/// A peer that says it sends benchmark messages, and then sends `data`.
fn after_bad_data(data: &[&[u8]]) -> String {
    let (receiver, url) = Running::bound(&["bench", "throughput", "--bind", "tcp://127.0.0.1:*"]);
    let context = fabriq::context().unwrap();
    let push = context.socket(SocketType::Push).unwrap();
    push.connect(&url).unwrap();
    let control = |json: &str| Message::from_parts(["fabriq bench 2", json]).unwrap();
    push.send(control(r#"{"Begin":{"size":64,"slots":3,"warmup_ns":0}}"#)).unwrap();
    data.iter().for_each(|data| push.send(*data).unwrap());
    push.send(control(r#"{"End":{"sent":5}}"#)).unwrap();
    let said = receiver.finish().failed(4);
    push.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
    said
}

#[test]
fn damage_has_an_exit_code_of_its_own() {
    assert!(after_bad_data(&[&[0; 64]]).contains("hash"));
    assert!(after_bad_data(&[&[0; 63]]).contains("63 bytes"));
    assert!(after_bad_data(&[]).contains("5 messages were sent and 0 arrived"));
}
