//! send, recv, req, rep, pub and sub as real processes over tcp. Not about speed, nor about bad arguments.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Running, run, run_with_input};

const ANY: &str = "tcp://127.0.0.1:*";
/// So that a test that would hang fails.
const PATIENCE: &str = "--timeout=60s";

#[test]
fn arguments_arrive_as_lines() {
    let (recv, url) = Running::bound(&["recv", "--bind", ANY, "-n", "2", PATIENCE]);
    assert_eq!(run(&["send", &url, "hello", "wide world"]).printed(), "");
    assert_eq!(recv.finish().printed(), "hello\nwide world\n");
}

#[test]
fn the_sender_may_listen() {
    let (send, url) = Running::bound(&["send", "--bind", ANY, "-n", "3", PATIENCE, "a", "b"]);
    assert_eq!(run(&["recv", &url, "-n", "3", PATIENCE]).printed(), "a\nb\na\n");
    assert_eq!(send.finish().printed(), "");
}

#[test]
fn ten_thousand_lines_arrive_in_order() {
    let lines: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
    let (recv, url) = Running::bound(&["recv", "--bind", ANY, "-n", "10000", PATIENCE]);
    let mut send = Running::start_with_input(&["send", &url]);
    // All three at once: more goes through than pipes hold.
    let printed = std::thread::scope(|scope| {
        scope.spawn(|| send.write(lines.as_bytes()));
        recv.finish().printed()
    });
    assert_eq!(printed, lines);
    send.finish().printed();
}

#[test]
fn all_of_standard_input_is_one_message_byte_by_byte() {
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let (recv, url) = Running::bound(&["recv", "--bind", ANY, "-n", "1", "--raw", PATIENCE]);
    run_with_input(&["send", "--whole", &url], &bytes).printed();
    let received = recv.finish();
    assert_eq!((received.code, received.stdout == bytes), (Some(0), true));
}

#[test]
fn parts_are_separated_by_tabs_both_ways() {
    let (recv, url) = Running::bound(&["recv", "--bind", ANY, "-n", "3", PATIENCE]);
    run(&["send", "--part", &url, "key", "", "value"]).printed();
    run_with_input(&["send", "--part", &url], b"a\tb\nc").printed();
    assert_eq!(recv.finish().printed(), "key\t\tvalue\na\tb\nc\n");
}

#[test]
fn json_tells_parts_and_bytes_apart() {
    let (recv, url) = Running::bound(&["recv", "--bind", ANY, "-n", "2", "--json", PATIENCE]);
    run(&["send", "--part", &url, "a\tb", "c"]).printed();
    run_with_input(&["send", "--whole", &url], b"\x00\xff").printed();
    assert_eq!(recv.finish().printed(), "{\"parts\":[\"a\\tb\",\"c\"]}\n{\"parts\":[{\"hex\":\"00ff\"}]}\n");
}

#[test]
fn the_sender_may_start_first() {
    // An address and a port that nobody else binds, not even with a wildcard, and below those that connects take.
    let url = "tcp://127.93.7.1:27193";
    let mut send = Running::start(&["send", "--verbose", url, "early"]);
    let received = run(&["recv", "--verbose", "--bind", url, "-n", "1", PATIENCE]);
    if received.code != Some(0) {
        send.child.kill().unwrap();
        panic!("{received:?}\nthe sender: {:?}", send.finish());
    }
    assert_eq!(received.printed(), "early\n");
    assert_eq!(send.finish().printed(), "");
}

/// A receiver that is stopped, say: its system has the message, and nobody needs to wait for the process.
#[test]
fn send_does_not_wait_for_a_peer_that_never_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let send = Running::start(&["send", &format!("tcp://{}", listener.local_addr().unwrap()), "parting"]);
    let (mut peer, _) = listener.accept().unwrap();
    // ZMTP 3.1: the greeting for NULL, and READY as a PULL socket says it.
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xFF, 0x7F, 3, 1);
    greeting[12..16].copy_from_slice(b"NULL");
    peer.write_all(&greeting).unwrap();
    peer.write_all(b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL").unwrap();
    assert_eq!(send.finish().printed(), "");
    let mut said = Vec::new();
    peer.read_to_end(&mut said).unwrap();
    assert!(said.ends_with(b"\0\x07parting"), "{}", said.escape_ascii());
}

#[test]
fn an_empty_input_sends_nothing_and_waits_for_nobody() {
    assert_eq!(run(&["send", "tcp://127.0.0.1:1"]).printed(), "");
}

#[test]
fn rep_echoes() {
    let (rep, url) = Running::bound(&["rep", "--bind", ANY, "-n", "3", PATIENCE]);
    assert_eq!(run(&["req", &url, PATIENCE, "one", "two"]).printed(), "one\ntwo\n");
    assert_eq!(run(&["req", "--part", &url, PATIENCE, "a", "b"]).printed(), "a\tb\n");
    rep.finish().printed();
}

#[test]
fn rep_gives_a_fixed_reply_of_several_parts() {
    let (rep, url) = Running::bound(&["rep", "--bind", ANY, "-n", "2", PATIENCE, "pong", "!"]);
    assert_eq!(run_with_input(&["req", &url, PATIENCE], b"ping\nping").printed(), "pong\t!\npong\t!\n");
    rep.finish().printed();
}

#[test]
fn rep_runs_a_command_and_replies_even_when_it_fails() {
    let (rep, url) =
        Running::bound(&["rep", "--bind", ANY, "-n", "2", PATIENCE, "--exec", "tr a-z A-Z; exit 7"]);
    assert_eq!(run(&["req", &url, PATIENCE, "loud"]).printed(), "LOUD\n");
    assert_eq!(run(&["req", "--part", &url, PATIENCE, "a", "b"]).printed(), "A\tB\n");
    let finished = rep.finish();
    assert!(finished.stderr.contains("exit status: 7"), "{finished:?}");
    finished.printed();
}

#[test]
fn rep_runs_a_command_that_reads_nothing_with_a_large_request() {
    let (rep, url) = Running::bound(&["rep", "--bind", ANY, "-n", "1", PATIENCE, "--exec", "echo done"]);
    let request = vec![b'x'; 1_000_000];
    assert_eq!(run_with_input(&["req", "--whole", &url, PATIENCE], &request).printed(), "done\n");
    rep.finish().printed();
}

#[test]
fn subscribers_get_their_topics() {
    let (sub, url) =
        Running::bound(&["sub", "--bind", ANY, "-n", "3", "--topic", "yes", "--topic", "also", PATIENCE]);
    // A PUB cannot know when the subscription has arrived, so it publishes until the subscriber has enough.
    let mut publisher = Running::start_with_input(&["pub", "--part", "--settle", "0", &url, PATIENCE]);
    let mut lines = publisher.child.stdin.take().unwrap();
    let enough = AtomicBool::new(false);
    let printed = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                lines.write_all(b"no\t0\nyes\t1\nno\t2\nalso\t3\n").unwrap();
            }
            drop(lines);
        });
        let printed = sub.finish();
        enough.store(true, Ordering::Relaxed);
        printed.printed()
    });
    assert_eq!(printed.lines().count(), 3, "{printed}");
    assert!(printed.lines().all(|line| line == "yes\t1" || line == "also\t3"), "{printed}");
    // It still has messages for a subscriber that has gone.
    drop(publisher);
}

#[test]
fn a_topic_option_is_the_first_part() {
    let (sub, url) = Running::bound(&["sub", "--bind", ANY, "-n", "1", "--topic", "t", PATIENCE]);
    let publisher = Running::start(&["pub", "--topic", "t", "--settle", "0", "-n", "1000000000", &url, "m"]);
    assert_eq!(sub.finish().printed(), "t\tm\n");
    drop(publisher);
}

#[test]
fn pub_waits_for_a_subscriber_as_long_as_it_is_told() {
    let said = run(&["pub", "--bind", ANY, "--wait", "20ms", "hello"]).failed(3);
    assert!(said.contains("no subscriber came within 20 ms"), "{said}");
    assert_eq!(run(&["pub", "--bind", ANY, "--wait", "0", "hello"]).printed(), "");
}

#[test]
fn the_reader_of_the_output_may_go() {
    let (mut recv, _) = Running::bound(&["recv", "--bind", ANY]);
    // As `| head -0` does; no message needs to come to notice it.
    drop(recv.child.stdout.take());
    let finished = recv.finish();
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
}

#[test]
fn nobody_reads_info() {
    let mut info = Running::start(&["info"]);
    drop(info.child.stdout.take());
    let finished = info.finish();
    // It may have been faster than us; it must not have panicked.
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_peer_of_the_wrong_kind_is_explained() {
    let (_send, url) = Running::bound(&["send", "--bind", ANY, "x"]);
    let mut sub = Running::start(&["sub", &url]);
    let line = sub.line_with("incompatible");
    assert!(line.contains(&url) && line.contains("SUB socket") && line.contains("`fabriq pub`"), "{line}");
}
