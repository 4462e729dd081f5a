//! `fabriq proxy` and `fabriq monitor` as real processes over tcp. What a proxy promises is in the library's tests.

mod support;

use std::io::{BufRead, BufReader};
use std::time::Duration;

use fabriq::{Socket, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Running, run};

const ANY: &str = "tcp://127.0.0.1:*";
/// So that a test that would hang fails.
const PATIENCE: &str = "--timeout=60s";

/// A proxy, and where its two sides listen.
fn proxy(arguments: &[&str]) -> (Running, [String; 2]) {
    let sides = ["proxy", "--frontend", ANY, "--backend", ANY];
    let mut proxy = Running::start(&[&sides[..], arguments].concat());
    let frontend = proxy.endpoint();
    let backend = proxy.endpoint();
    (proxy, [frontend, backend])
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.child), signal).unwrap();
}

/// A socket of this process that fails rather than hang.
fn connected(context: &fabriq::Context, kind: SocketType, url: &str) -> Socket {
    let socket = context.socket(kind).unwrap();
    let patience = Some(Duration::from_secs(60));
    socket
        .set_options(|options| (options.send_timeout, options.receive_timeout) = (patience, patience))
        .unwrap();
    socket.connect(url).unwrap();
    socket
}

#[test]
fn a_queue_counts_what_it_carries_and_ends_cleanly() {
    let (mut proxy, [frontend, backend]) = proxy(&["--json"]);
    let rep = Running::start(&["rep", &backend, "-n", "3", PATIENCE, "pong"]);
    assert_eq!(run(&["req", &frontend, PATIENCE, "a", "b", "c"]).printed(), "pong\npong\npong\n");
    rep.finish().printed();
    signal(&proxy, Signal::USR1);
    let mut line = String::new();
    let mut stdout = BufReader::new(proxy.child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let counted: Value = serde_json::from_str(&line).unwrap();
    for (side, sent) in [("frontend", 3 * (5 + 4)), ("backend", 3 * (5 + 1))] {
        assert_eq!(counted[side]["messages_received"], 3, "{line}");
        assert_eq!(counted[side]["messages_sent"], 3, "{line}");
        assert_eq!(counted[side]["bytes_sent"], sent, "{line}");
    }
    signal(&proxy, Signal::INT);
    let finished = proxy.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stderr.contains("carried 3 messages to the backend and 3 to the frontend"),
        "{finished:?}"
    );
}

#[test]
fn a_forwarder_passes_subscriptions_up_and_messages_down() {
    let (proxy, [frontend, backend]) = proxy(&["--type", "forwarder"]);
    let context = fabriq::context().unwrap();
    let publisher = connected(&context, SocketType::Xpub, &frontend);
    let sub = Running::start(&["sub", &backend, "--topic", "sky.", "-n", "1", PATIENCE]);
    assert_eq!(publisher.recv().unwrap().body(), "\u{1}sky.");
    publisher.send("sea.green").unwrap();
    publisher.send("sky.blue").unwrap();
    assert_eq!(sub.finish().printed(), "sky.blue\n");
    signal(&proxy, Signal::TERM);
    proxy.finish().printed();
}

#[test]
fn a_streamer_prints_statistics_for_people_and_copies_for_a_capture() {
    let arguments = ["--type", "streamer", "--stats", "10ms", "--capture", ANY];
    let (mut proxy, [frontend, backend]) = proxy(&arguments);
    let capture = proxy.endpoint();
    let context = fabriq::context().unwrap();
    let spy = connected(&context, SocketType::Sub, &capture);
    spy.subscribe("").unwrap();
    let source = connected(&context, SocketType::Push, &frontend);
    let sink = connected(&context, SocketType::Pull, &backend);
    // Until the subscription has arrived.
    let mut sent = 0;
    let seen = loop {
        source.send("again").unwrap();
        sent += 1;
        assert_eq!(sink.recv().unwrap().body(), "again");
        if let Ok(seen) = spy.recv_timeout(Duration::from_millis(20)) {
            break seen;
        }
        assert!(sent < 1000, "nothing is captured");
    };
    assert_eq!(seen.body(), "again");
    let mut stdout = BufReader::new(proxy.child.stdout.take().unwrap());
    let all = format!(" msg/s, 0.00 B/s, {sent} in all; to the frontend 0.00 msg/s, 0.00 B/s, 0 in all\n");
    let mut line = String::new();
    for _ in 0..1000 {
        line.clear();
        stdout.read_line(&mut line).unwrap();
        if line.ends_with(&all) {
            break;
        }
    }
    assert!(line.ends_with(&all), "{line}");
    // Whoever reads the statistics goes: nobody wants them any more, and so the proxy.
    drop(stdout);
    assert_eq!(proxy.finish().code, Some(0));
}

#[test]
fn wrong_sides_are_wrong_use() {
    for (arguments, part) in [
        (&["proxy"][..], "--frontend"),
        (&["proxy", "--frontend", ANY], "--backend"),
        (&["proxy", "--frontend", "inproc://x", "--backend", ANY], "inproc://x"),
        (&["proxy", "--type", "hub", "--frontend", ANY, "--backend", ANY], "forwarder"),
        (&["monitor", ANY, "--type", "sock"], "dealer"),
        (&["monitor", "tcp://127.0.0.1:1"], "--type"),
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(part), "{finished:?}");
    }
}

#[test]
fn a_monitor_says_why_nothing_connects() {
    // A port that is bound by nobody: this address is only ours.
    let nobody = "tcp://127.93.7.3:27193";
    let printed = run(&["monitor", "--type", "sub", nobody, "-n", "3", PATIENCE]).printed();
    let lines: Vec<_> = printed.lines().collect();
    for (line, part) in
        lines.iter().zip(["dialling", "connect failed", "dials again", "1 connections failed"])
    {
        assert!(line.contains(part), "{printed}");
    }
    assert!(lines[1].contains(nobody) && lines[1].contains("refused"), "{printed}");
    let said = run(&["monitor", "--type", "sub", nobody, "--until-ready", "--timeout", "20ms"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stderr.contains("no peer was ready within 20 ms"), "{said:?}");
}

#[test]
fn a_monitor_names_the_peer_and_its_mistake() {
    let (rep, url) = Running::bound(&["rep", "--bind", ANY, PATIENCE]);
    let lines = run(&["monitor", "--type", "req", &url, "--until-ready", "--json", PATIENCE]).printed();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["dialling", "connected", "ready", "end"]);
    assert_eq!(lines[2]["peer"], url.trim_start_matches("tcp://"));
    assert_eq!(lines[3]["counts"]["peers"], 1);

    let printed = run(&["monitor", "--type", "push", &url, "-n", "3", PATIENCE]).printed();
    let refused = printed.lines().find(|line| line.contains("refused")).unwrap();
    assert!(refused.contains("this end is a PUSH socket, which needs PULL"), "{printed}");
    drop(rep);
}

#[test]
fn a_monitor_that_listens_ends_at_ctrl_c_with_its_counts() {
    let mut monitor = Running::start(&["monitor", "--type", "pull", "--bind", ANY, "--json"]);
    let mut stdout = BufReader::new(monitor.child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let listening = next();
    assert_eq!(listening["event"], "listening");
    let context = fabriq::context().unwrap();
    let push = connected(&context, SocketType::Push, listening["endpoint"].as_str().unwrap());
    assert_eq!([next()["event"].clone(), next()["event"].clone()], ["accepted", "ready"]);
    drop(push);
    assert_eq!(next()["event"], "disconnected");
    signal(&monitor, Signal::INT);
    let end = next();
    assert_eq!((&end["counts"]["ready"], &end["counts"]["peers"]), (&1.into(), &0.into()), "{end}");
    assert_eq!(monitor.finish().code, Some(0));
}
