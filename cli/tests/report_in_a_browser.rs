//! The page of `fabriq bench --html` in a headless Chromium: that every plot is drawn and nothing is loaded. Judges no
//! figure, and no taste.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::run;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// What the page looks like from within. The script stands last in the body and runs as it is read, when all before it is there;
/// asking for places makes the browser lay it out. The page's own policy is widened for the script alone, so that an attempt
/// to load anything is a violation.
const PROBE: &str = r#"
<script>
{
  const box = element => { const { x, y, width, height } = element.getBoundingClientRect(); return { x, y, width, height } };
  const plots = [...document.querySelectorAll('svg.plot')].map(svg => ({
    id: svg.querySelector('title').id,
    described: svg.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id).textContent.trim()),
    frame: box(svg),
    marks: [...svg.querySelectorAll('.mark')].map(box),
    lines: [...svg.querySelectorAll('.line')].map(line => ({ ...box(line), length: line.getTotalLength() })),
    names: [...svg.querySelectorAll('.name')].map(name => ({ ...box(name), text: name.textContent,
      colour: getComputedStyle(name).fill })),
  }));
  const colours = getComputedStyle(document.body);
  const said = { plots, blocked: window.blocked, resources: performance.getEntriesByType('resource').map(entry => entry.name),
    wide: document.documentElement.scrollWidth > innerWidth, ink: colours.color, paper: colours.backgroundColor,
    text: document.body.innerText };
  const place = document.createElement('pre');
  place.id = 'probe';
  place.textContent = encodeURIComponent(JSON.stringify(said));
  document.body.append(place);
}
</script>
"#;

/// Before anything that could be loaded.
const WATCH: &str = "<script>window.blocked = []; document.addEventListener('securitypolicyviolation', \
                     event => blocked.push(event.blockedURI));</script>";

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Opens a page in Chromium, `width` pixels wide, and asks it what it shows.
fn look(name: &str, page: &str, width: u32, options: &[&str]) -> Value {
    assert!(page.contains(POLICY), "the page allows itself to load something");
    let probed = page
        .replace(POLICY, &format!("{POLICY}; script-src 'unsafe-inline'"))
        .replace("</title>", &format!("</title>{WATCH}"))
        .replace("</body>", &format!("{PROBE}</body>"));
    let path = file(name);
    std::fs::write(&path, probed).unwrap();
    let profile = file(&format!("{name}.profile"));
    let browser = std::env::var("CHROMIUM").unwrap_or("chromium".to_owned());
    let output = Command::new(&browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},1200"))
        .args(options)
        .arg(format!("file://{}", path.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot start {browser}: {error}; install Chromium (ci/install), or set CHROMIUM")
        });
    let _ = std::fs::remove_dir_all(profile);
    let dom = String::from_utf8_lossy(&output.stdout);
    let said = dom.split("<pre id=\"probe\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let said =
        said.unwrap_or_else(|| panic!("no answer: {}\n{dom}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(&decoded(said)).unwrap()
}

/// What encodeURIComponent has made of a text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

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
