//! The page of `fabriq bench --html` in a headless Chromium: that every plot is drawn and nothing is loaded. Judges no
//! figure, and no taste.

mod support;

use serde_json::{Value, json};
use support::browser::look;
use support::{file, run};

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap()
}

/// Every plot is there, described, and all that it is made of is drawn within it. Names do not lie over each other.
fn assert_drawn(seen: &Value, plots: usize) {
    assert_eq!(
        (&seen["blocked"], &seen["resources"]),
        (&json!([]), &json!([])),
        "it tried to load something"
    );
    assert_eq!(seen["wide"], false, "it is wider than the window");
    let all = seen["plots"].as_array().unwrap();
    assert_eq!(all.len(), plots);
    for plot in all {
        let (id, frame) = (&plot["id"], &plot["frame"]);
        assert_eq!(plot["described"], true, "{id}");
        assert!(number(frame, "width") > 200.0 && number(frame, "height") > 100.0, "{id}: {frame}");
        let of = |kind: &str| plot[kind].as_array().unwrap().clone();
        assert!(!of("marks").is_empty() || !of("lines").is_empty(), "{id} has no marks");
        for mark in of("marks").iter().chain(&of("names")) {
            assert!(number(mark, "width") > 1.0 && number(mark, "height") > 1.0, "{id}: {mark}");
        }
        for line in of("lines") {
            // One that is level has no height.
            assert!(number(&line, "length") > 10.0 && number(&line, "width") > 1.0, "{id}: {line}");
        }
        for part in of("marks").iter().chain(&of("lines")).chain(&of("names")) {
            for (at, size) in [("x", "width"), ("y", "height")] {
                let (from, to) = (number(frame, at), number(frame, at) + number(frame, size));
                let inside =
                    number(part, at) > from - 1.0 && number(part, at) + number(part, size) < to + 1.0;
                assert!(inside, "{id}: {part} is not within {frame}");
            }
        }
        let names = of("names");
        assert!(!names.is_empty(), "{id} has no names");
        for (at, one) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                let apart = (number(one, "y") - number(other, "y")).abs();
                assert!(apart > 0.6 * number(one, "height"), "{id}: {one} lies over {other}");
            }
        }
    }
}

#[test]
fn every_plot_of_a_measured_report_is_drawn_and_nothing_is_loaded() {
    let html = file("measured.html");
    let load = ["--size", "64", "--size", "1K", "--size", "64K", "--duration", "50ms", "--warmup", "5ms"];
    let arguments = [
        &["bench", "--transport", "inproc", "--transport", "tcp"][..],
        &load,
        &["--html", html.to_str().unwrap()],
    ];
    run(&arguments.concat()).printed();
    let page = std::fs::read_to_string(html).unwrap();
    for foreign in ["http:", "https:", "<script", "src=", "url(", "@import", "<link"] {
        assert!(!page.replace("http-equiv", "").contains(foreign), "{foreign}");
    }
    let light = look("light.html", &page, 1300, &[]);
    assert_drawn(&light, 3 + 2);
    let text = light["text"].as_str().unwrap();
    for part in ["fabriq bench on", "Median latency, one way", "msg/s, 64 B", "x raw", "Environment"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // On a telephone, and for who likes it dark.
    assert_drawn(&look("narrow.html", &page, 500, &[]), 5);
    let dark = look("dark.html", &page, 1300, &["--blink-settings=preferredColorScheme=0"]);
    assert_drawn(&dark, 5);
    assert_ne!(dark["paper"], light["paper"]);
    for seen in [&light, &dark] {
        let paper = luminance(seen["paper"].as_str().unwrap());
        let names =
            seen["plots"].as_array().unwrap().iter().flat_map(|plot| plot["names"].as_array().unwrap());
        for colour in names.map(|name| &name["colour"]).chain([&seen["ink"]]) {
            let (one, other) = (luminance(colour.as_str().unwrap()), paper);
            let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
            // WCAG 2.2, 1.4.3.
            assert!(contrast >= 4.5, "{colour} on {}: {contrast}", seen["paper"]);
        }
    }
}

/// Relative luminance of `rgb(r, g, b)` (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let digits = colour.trim_start_matches("rgb(").trim_end_matches(')');
    let parts: Vec<f64> = digits.split(", ").map(|part| part.parse::<f64>().unwrap() / 255.0).collect();
    let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
    0.2126 * linear(parts[0]) + 0.7152 * linear(parts[1]) + 0.0722 * linear(parts[2])
}

/// Seven transports that all do the same, one size, names that would be HTML, and no figure at all of some.
#[test]
fn reports_at_the_edge_are_drawn_too() {
    let schemes = ["inproc", "ipc", "tcp", "verbs", "ofi", "pgm", "<b>"];
    let host = json!({"version": "0.1.0", "build": "debug", "zmtp": "3.1", "kernel": "<b>", "architecture": "x", "cpus": 1});
    let latency = schemes.map(|transport| {
        json!({"transport": transport, "size": 64, "messages": 1, "rate": 1.0, "min_us": 5.0, "p50_us": 5.0, "p99_us": 5.0,
               "p99_9_us": 5.0, "max_us": 5.0, "distribution": [{"share": 0.5, "us": 5.0}]})
    });
    let throughput = json!([{"transport": "tcp", "size": 64, "messages": 1, "seconds": 1.0, "messages_per_second": 0.0,
                             "gigabytes_per_second": 0.0}]);
    let report = json!({"host": host, "latency": latency, "throughput": throughput,
                        "failed": [{"transport": "verbs", "why": "the <script> broke"}]});
    let path = file("edge.json");
    std::fs::write(&path, report.to_string()).unwrap();
    let page = run(&["bench", "report", path.to_str().unwrap()]).printed();
    let seen = look("edge.html", &page, 1300, &[]);
    assert_drawn(&seen, 3 + 7);
    let text = seen["text"].as_str().unwrap();
    assert!(
        text.contains("<b>") && text.contains("the <script> broke") && text.contains("debug build"),
        "{text}"
    );
}
