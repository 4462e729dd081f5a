//! Every example as a process: that it ends, and what it prints. Each must stay short.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An example and what it prints when it is run without arguments.
const EXAMPLES: [(&str, &str); 10] = [
    ("request_reply", "hello -> HELLO\nis anybody there? -> IS ANYBODY THERE?\n"),
    ("publish_subscribe", "weather. rain\nsport. draw\n"),
    ("push_pull", "100000 numbers, sum 4999950000\n"),
    (
        "dealer_router",
        "anna: answer to 3\nanna: answer to 2\nanna: answer to 1\n\
         bert: answer to 3\nbert: answer to 2\nbert: answer to 1\n",
    ),
    ("asynchronous", "20 answers, 170 bytes\n"),
    ("mapped_file", "{} bytes, the same: true\n"),
    ("proxy", "tcp to inproc: 1000 requests, 1000 replies\n"),
    ("worker_pool", "40 tasks by 3 workers, sum of squares 22140\n"),
    ("heartbeat", "the worker was busy\nlost meanwhile: false\nlost when it is stopped: true\n"),
    (
        "multicast",
        "heard one, nothing lost in silence: true\nheard one, nothing lost in silence: true\n\
         heard one, nothing lost in silence: true\nheard one, nothing lost in silence: true\n\
         heard one, nothing lost in silence: true\n",
    ),
];

/// Lines of an example at most.
const LINES: usize = 59;

/// Where cargo puts examples: beside the folder of this test's program.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not built: cargo build -p fabriq --examples", program.display());
    program
}

fn run(name: &str, arguments: &[&str]) -> String {
    // So that one that hangs fails.
    let output = Command::new("timeout")
        .arg("60")
        .arg(program(name))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_example_prints_what_it_should() {
    std::thread::scope(|scope| {
        for (name, expected) in EXAMPLES {
            scope.spawn(move || {
                let length = std::fs::metadata(program(name)).unwrap().len().to_string();
                assert_eq!(run(name, &[]), expected.replace("{}", &length), "{name}");
            });
        }
    });
}

#[test]
fn the_transport_is_a_matter_of_the_url() {
    for (name, arguments) in [
        ("request_reply", &["inproc://example"][..]),
        ("publish_subscribe", &["inproc://example"]),
        ("push_pull", &["inproc://example"]),
        ("dealer_router", &["inproc://example"]),
        ("asynchronous", &["inproc://example"]),
        ("worker_pool", &["inproc://example"]),
        ("multicast", &["inproc://example"]),
        ("request_reply", &["ipc://*"]),
    ] {
        let expected = EXAMPLES.iter().find(|example| example.0 == name).unwrap().1;
        assert_eq!(run(name, arguments), expected, "{name} {arguments:?}");
    }
    // A group that no other run of the tests has.
    let [.., a, b] = std::process::id().to_be_bytes();
    let group = format!("epgm://lo;239.195.{a}.{b}:7503");
    let expected = EXAMPLES.iter().find(|example| example.0 == "multicast").unwrap().1;
    assert_eq!(run("multicast", &[&group, &group]), expected, "{group}");
    let said = run("proxy", &["inproc://clients", "tcp://127.0.0.1:*"]);
    assert_eq!(said, "inproc to tcp: 1000 requests, 1000 replies\n");
}

#[test]
fn every_example_is_here_and_in_the_readme_and_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(EXAMPLES.iter().any(|example| example.0 == name), "{name} is not tested");
        assert!(readme.contains(&format!("[{name}]({name}.rs)")), "{name} is not in the README");
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES, "{name} has {lines} lines");
        found += 1;
    }
    assert_eq!(found, EXAMPLES.len());
}

/// With an RDMA device, real or soft-RoCE.
#[cfg(feature = "device")]
mod verbs {
    use super::run;

    #[test]
    fn a_proxy_from_tcp_to_verbs() {
        let transports = fabriq::transports();
        let local = transports
            .iter()
            .find(|known| known.schemes().contains(&"verbs"))
            .and_then(|known| known.local("verbs"));
        let said = run("proxy", &["tcp://127.0.0.1:*", local.expect("an RDMA device").as_str()]);
        assert_eq!(said, "tcp to verbs: 1000 requests, 1000 replies\n");
    }
}
