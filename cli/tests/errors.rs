//! What the program says and returns when it cannot do what it was told. Moves no messages.

mod support;

use support::{Running, run};

/// Every text names the URL and what to do.
#[test]
fn bad_urls_are_wrong_use() {
    for (arguments, parts) in [
        (&["recv", "127.0.0.1:5555"][..], &["`127.0.0.1:5555`", "tcp://127.0.0.1:5555"][..]),
        (&["recv", "--bind", "foo://x"], &["foo://x", "no transport", "tcp://"]),
        (&["send", "tcp://", "x"], &["`tcp://`", "no address"]),
        (&["req", "tcp://127.0.0.1:99999", "x"], &["tcp://127.0.0.1:99999", "host:port"]),
        (&["sub", "tcp://*:5555"], &["tcp://*:5555", "--bind"]),
        (&["pub", "--bind", "inproc://x", "x"], &["inproc://x", "tcp://127.0.0.1:PORT"]),
        (&["bench", "latency", "--connect", "inproc://x"], &["inproc://x", "tcp://127.0.0.1:PORT"]),
        (&["bench", "latency", "--connect", "foo://x"], &["foo://x", "tcp://"]),
        (&["send", "epgm://lo;239.192.1.1:5555", "x"], &["epgm://lo;239.192.1.1:5555", "use PUB and SUB"]),
        (&["stat", "epgm://lo;10.0.0.1:5555"], &["10.0.0.1 is no multicast group", "239.192.0.0/14"]),
        (
            &["bench", "latency", "--rate", "5", "--connect", "epgm://lo;239.192.1.1:5555"],
            &["epgm://lo;239.192.1.1:5555", "--rate"],
        ),
        (&["bench", "baseline", "latency", "--bind", "foo://x", "--size", "64"], &["foo://x", "tcp://"]),
    ] {
        let said = run(arguments).failed(2);
        assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
    }
}

#[test]
fn an_address_in_use_fails() {
    let (_first, url) = Running::bound(&["recv", "--bind", "tcp://127.0.0.1:*"]);
    let said = run(&["recv", "--bind", &url]).failed(1);
    assert!(said.contains(&url) && said.contains("in use") && said.contains("another one"), "{said}");
}

#[test]
fn a_foreign_address_fails() {
    // TEST-NET-1: no interface has it.
    let said = run(&["recv", "--bind", "tcp://192.0.2.1:5555"]).failed(1);
    assert!(said.contains("tcp://192.0.2.1:5555") && said.contains("ip addr"), "{said}");
}

#[test]
fn waiting_too_long_has_a_code_of_its_own() {
    let listening = "tcp://127.0.0.1:*";
    // A port that is bound by nobody: this address is only ours.
    let nobody = "tcp://127.93.7.2:27193";
    for arguments in [
        &["recv", "--bind", listening, "--timeout", "20ms"][..],
        &["recv", nobody, "--timeout", "20ms"],
        &["sub", nobody, "--timeout", "20ms"],
        &["req", nobody, "--timeout", "20ms", "x"],
        &["rep", "--bind", listening, "--timeout", "20ms"],
        &["send", nobody, "--linger", "20ms", "x"],
        &["send", "--bind", listening, "--timeout", "20ms", "x"],
        &["bench", "latency", "--connect", nobody, "--timeout", "20ms"],
        &["bench", "throughput", "--connect", nobody, "--timeout", "20ms"],
        &["bench", "throughput", "--bind", listening, "--timeout", "20ms"],
    ] {
        let said = run(arguments).failed(3);
        assert!(said.contains("within 20 ms") && said.contains("tcp://127."), "{arguments:?}: {said}");
    }
}

#[test]
fn wrong_arguments_say_what_is_right() {
    for (arguments, part) in [
        (&["bench", "--size", "3"][..], "16 B"),
        (&["bench", "--size", "many"], "1KiB"),
        (&["bench", "--transport", "udp"], "tcp"),
        (&["bench", "latency"], "--bind"),
        (&["bench", "latency", "--bind", "tcp://127.0.0.1:*", "--html", "x.html"], "the other side"),
        (&["bench", "throughput", "--connect", "tcp://127.0.0.1:1", "--html", "x.html"], "the other side"),
        (&["bench", "latency", "--bind", "tcp://127.0.0.1:*", "--size", "64"], "--connect"),
        (&["bench", "latency", "--connect", "tcp://127.0.0.1:1", "--rate", "0"], "rate"),
        (&["recv", "tcp://127.0.0.1:1", "--timeout", "soon"], "500ms"),
        (&["recv", "--raw", "--json", "tcp://127.0.0.1:1"], "--json"),
        (&["send", "--whole", "tcp://127.0.0.1:1", "x"], "--whole"),
    ] {
        let said = run(arguments).failed(2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
