//! `fabriq bench report` and `fabriq bench compare` on reports that are known. Measures once, to have one.

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::run;

/// A file of this test alone, in a folder that cargo cleans.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn write(name: &str, report: &Value) -> String {
    let path = file(name);
    std::fs::write(&path, report.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A report with one latency and one throughput, `by` times as slow as another.
fn report(by: f64) -> Value {
    let noise = [1.0, 0.98, 1.03, 0.99, 1.01, 1.02, 0.97, 1.0, 1.01, 0.99];
    json!({
        "host": {"version": "0.1.0", "build": "release", "zmtp": "3.1", "name": "node7", "kernel": "Linux 6.1",
                 "architecture": "x86_64", "processor": "Some CPU", "cpus": 2},
        "unix_time": 1_795_273_440,
        "duration_seconds": 0.5, "warmup_seconds": 0.1,
        "latency": [{
            "transport": "tcp", "size": 64, "messages": 1000, "rate": 1000.0, "min_us": 1.0 * by, "p50_us": 10.0 * by,
            "p99_us": 20.0 * by, "p99_9_us": 30.0 * by, "max_us": 40.0 * by,
            "windows": noise.map(|noise| json!({"p50_us": 10.0 * by * noise, "p99_us": 20.0 * by * noise})),
            "baselines": [{"name": "raw", "what": "a wire", "p50_us": 4.0 * by, "p99_us": 8.0, "ratio": 2.5}],
        }],
        "throughput": [{
            "transport": "tcp", "size": 64, "messages": 1000, "seconds": 0.5, "messages_per_second": 1e6 / by,
            "gigabytes_per_second": 0.064 / by, "windows": noise.map(|noise| 1e6 / by * noise),
        }],
    })
}

#[test]
fn what_a_benchmark_writes_can_be_compared_and_printed_again() {
    let html = file("own.html");
    let arguments = [
        "bench",
        "--json",
        "--transport",
        "tcp",
        "--size",
        "64",
        "--duration",
        "40ms",
        "--warmup",
        "1ms",
        "--html",
    ];
    let measured = run(&[&arguments[..], &[html.to_str().unwrap()]].concat()).printed();
    let own: Value = serde_json::from_str(&measured).unwrap();
    let (latency, throughput) = (&own["latency"][0], &own["throughput"][0]);
    let points = latency["distribution"].as_array().unwrap();
    let figures: Vec<_> = points.iter().map(|point| point["us"].as_f64().unwrap()).collect();
    assert!(figures.len() > 3 && figures.is_sorted(), "{latency}");
    assert_eq!(points[0], json!({"share": 0.5, "us": latency["p50_us"]}));
    for row in [latency, throughput] {
        assert!((3..=40).contains(&row["windows"].as_array().unwrap().len()), "{row}");
    }
    let path = write("own.json", &own);
    let page = std::fs::read_to_string(&html).unwrap();
    assert_eq!(run(&["bench", "report", &path]).printed(), page);
    assert!(page.contains("tcp raw"), "{page}");
    let again = file("again.html");
    run(&["bench", "report", &path, "--html", again.to_str().unwrap()]).printed();
    assert_eq!(std::fs::read_to_string(again).unwrap(), page);
    // Nothing has changed against itself, whatever the noise.
    let same = run(&["bench", "compare", &path, &path]).printed();
    assert!(same.contains("of 3 figures 0 are slower by more than 10 %, 0 are faster"), "{same}");
}

#[test]
fn slower_has_an_exit_code_of_its_own() {
    let (fast, slow) = (write("fast.json", &report(1.0)), write("slow.json", &report(1.5)));
    let finished = run(&["bench", "compare", &fast, &slow]);
    assert_eq!(finished.code, Some(5), "{finished:?}");
    let text = String::from_utf8(finished.stdout).unwrap();
    assert_eq!(text.matches("SLOWER").count(), 3, "{text}");
    assert!(text.contains("+50.0 %") && text.contains("-33.3 %"), "{text}");
    assert!(finished.stderr.contains("3 are slower by more than 10 %"), "{}", finished.stderr);
    // The other way round, and with a threshold that allows it.
    let faster = run(&["bench", "compare", &slow, &fast, "--json"]).printed();
    let faster: Value = serde_json::from_str(&faster).unwrap();
    assert_eq!((&faster["slower"], &faster["faster"]), (&json!(0), &json!(3)));
    // The wire itself: its p50 changed as much, its p99 not at all, and its rate was not measured.
    let raw: Vec<_> =
        faster["figures"].as_array().unwrap().iter().map(|figure| figure["raw_longer"].as_f64()).collect();
    assert!((raw[0].unwrap() + 1.0 / 3.0).abs() < 1e-9, "{raw:?}");
    assert_eq!(raw[1..], [Some(0.0), None]);
    run(&["bench", "compare", &fast, &slow, "--threshold", "60%"]).printed();
    // Noise between runs that is larger than the change.
    let (other, third) = (write("other.json", &report(1.8)), write("third.json", &report(0.9)));
    run(&["bench", "compare", &fast, &slow, "--before", &other, "--after", &third]).printed();
}

#[test]
fn what_is_missing_now_counts_as_slower() {
    let mut broken = report(1.0);
    broken["latency"] = json!([]);
    broken["throughput"] = json!([]);
    broken["failed"] = json!([{"transport": "tcp", "why": "gone"}]);
    let (before, after) = (write("there.json", &report(1.0)), write("broken.json", &broken));
    let finished = run(&["bench", "compare", &before, &after]);
    assert_eq!(finished.code, Some(5), "{finished:?}");
    assert!(finished.stderr.contains("3 are missing"), "{finished:?}");
}

#[test]
fn different_hosts_and_options_are_not_compared_by_accident() {
    let before = write("here.json", &report(1.0));
    for (number, (path, value, part)) in [
        (vec!["host", "name"], json!("node8"), "hosts `node7` and `node8`"),
        (vec!["host", "cpus"], json!(64), "processors `2 x86_64 Some CPU` and `64"),
        (vec!["host", "build"], json!("debug"), "builds `release` and `debug`"),
        (vec!["duration_seconds"], json!(5.0), "times `0.5 s after 0.1 s` and `5 s after 0.1 s`"),
        (vec!["throughput"], json!([]), "only one has the throughput of tcp 64 B"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut other = report(1.0);
        let place = path.iter().fold(&mut other, |place, name| &mut place[*name]);
        *place = value;
        let after = write(&format!("different-{number}.json"), &other);
        let said = run(&["bench", "compare", &before, &after]).failed(2);
        assert!(said.contains(part) && said.contains("--anyway"), "{said}");
        let finished = run(&["bench", "compare", &before, &after, "--anyway"]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stderr.contains(part), "{finished:?}");
    }
    // Another version is what one compares.
    let mut newer = report(1.0);
    newer["host"]["version"] = json!("0.2.0");
    let finished = run(&["bench", "compare", &before, &write("newer.json", &newer)]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stderr.contains("0.2.0"), "{finished:?}");
}

#[test]
fn reports_of_before_windows_can_be_read() {
    let mut old = report(1.0);
    for kind in ["latency", "throughput"] {
        old[kind][0].as_object_mut().unwrap().remove("windows");
    }
    for name in ["name", "processor"] {
        old["host"].as_object_mut().unwrap().remove(name);
    }
    let path = write("old.json", &old);
    let text = run(&["bench", "compare", &path, &path]).printed();
    assert!(text.contains("the noise is not known"), "{text}");
    assert!(run(&["bench", "report", &path]).printed().contains("</html>"));
}

#[test]
fn files_that_are_no_reports_are_named() {
    let other = write("other-json.json", &json!({"a": 1}));
    let cut = |name: &str, text: &str| {
        std::fs::write(file(name), text).unwrap();
        file(name).to_str().unwrap().to_owned()
    };
    let run_line = json!({"run": {"format": "fabriq cluster report 1", "size": 4}}).to_string();
    let newer = write("newer-cluster.json", &json!({"format": "fabriq cluster report 9"}));
    let (half, nothing) = (cut("half.json", &report(1.0).to_string()[..100]), cut("empty.json", ""));
    let first_line = cut("half.jsonl", &run_line[..30]);
    let whole = write("whole-report.json", &report(1.0));
    for (arguments, part) in [
        (&["bench", "report", "/nowhere/x.json"][..], "/nowhere/x.json"),
        (&["bench", "report", &other], "fabriq bench --json"),
        (&["bench", "compare", &other, &other], "other-json.json"),
        (&["bench", "--html", "/nowhere/x.html"], "folder"),
        (&["bench", "report", &half], "half.json is cut off: of a cluster's run, give the .jsonl beside it"),
        (&["bench", "compare", &whole, &half], "half.json is cut off"),
        (&["bench", "report", &nothing], "empty.json is empty"),
        (&["bench", "compare", &nothing, &whole], "empty.json is empty"),
        (&["bench", "report", &first_line], "half.jsonl is cut off: nothing of that run is in it"),
        (&["bench", "report", &newer], "`fabriq cluster report 9`; use the fabriq that has written it"),
        (&["bench", "compare", &newer, &newer], "`fabriq cluster report 9`"),
    ] {
        let said = run(arguments).failed(2);
        assert!(said.contains(part), "{said}");
    }
}
