//! Heartbeats between the two libraries, with peers that live, peers that are stopped, and an application that does
//! not call us for seconds. Tests no exact times: CI machines are busy.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fabriq::{DownReason, EventKind, Options, Socket, SocketType};
use rustix::process::{Pid, Signal, kill_process};

use crate::party::{Party, World, body, open};
use crate::python::Python;
use crate::wire::{PATIENCE, compute, events_now, events_until};
use crate::zmq::{DISCONNECTED, HANDSHAKE_SUCCEEDED, Setting};

const INTERVAL: Duration = Duration::from_millis(50);
/// Three times this without an answer is what the tests below produce when heartbeats fail.
const TIMEOUT: Duration = Duration::from_secs(1);
const BUSY: Duration = Duration::from_secs(3);

fn beat(options: &mut Options) {
    (options.heartbeat_interval, options.heartbeat_timeout) = (INTERVAL, TIMEOUT);
}

/// They send PING; our application computes. The background answers, so they see no dead peer.
#[test]
fn theirs_are_answered_while_we_compute() {
    for we_bind in [true, false] {
        let world = World::new();
        let theirs = world.theirs(SocketType::Dealer);
        theirs.set_time(Setting::HeartbeatInterval, INTERVAL);
        theirs.set_time(Setting::HeartbeatTimeout, TIMEOUT);
        theirs.set_time(Setting::HeartbeatTtl, TIMEOUT);
        let monitor = theirs.monitor("answered");
        let (ours, theirs) = (Party::Ours(world.ours(SocketType::Dealer)), Party::Theirs(theirs));
        open("tcp://127.0.0.1:*", &ours, &theirs, we_bind);
        monitor.wait_for(HANDSHAKE_SUCCEEDED, PATIENCE);
        compute(if we_bind { BUSY } else { BUSY / 2 });
        assert!(!monitor.all_now().contains(&DISCONNECTED));
        ours.send(&["still here"]);
        theirs.expect(&["still here"]);
    }
}

/// We send PING; they answer; nobody is taken for dead.
#[test]
fn ours_are_answered() {
    for we_bind in [true, false] {
        let world = World::new();
        let ours = world.ours(SocketType::Dealer);
        ours.set_options(|options| {
            beat(options);
            options.heartbeat_ttl = TIMEOUT;
        })
        .unwrap();
        let monitor = ours.monitor().unwrap();
        let (ours, theirs) = (Party::Ours(ours), Party::Theirs(world.theirs(SocketType::Dealer)));
        open("tcp://127.0.0.1:*", &ours, &theirs, we_bind);
        events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
        assert_eq!(monitor.next_timeout(BUSY / 2), None);
        theirs.send(&["still here"]);
        ours.expect(&["still here"]);
    }
}

/// Our receive queue is full, so their PONGs wait behind messages that we do not read. That is not their death.
#[test]
fn a_full_queue_is_no_dead_peer() {
    const COUNT: u32 = 600;
    let world = World::new();
    let pull = world.ours(SocketType::Pull);
    pull.set_options(|options| {
        beat(options);
        options.receive_hwm = 2;
        options.receive_buffer = Some(64 << 10);
    })
    .unwrap();
    let monitor = pull.monitor().unwrap();
    let (pull, push) = (Party::Ours(pull), Party::Theirs(world.theirs(SocketType::Push)));
    push.set_buffers(64 << 10);
    open("tcp://127.0.0.1:*", &pull, &push, true);
    let sender = std::thread::spawn(move || {
        for number in 0..COUNT {
            push.send(&[&number.to_le_bytes()[..], &body(20_000, 0)]);
        }
        push
    });
    events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
    compute(BUSY);
    for number in 0..COUNT {
        assert_eq!(pull.recv()[0], number.to_le_bytes());
    }
    assert_eq!(events_now(&monitor), []);
    drop(sender.join().unwrap());
}

fn stopped_peer(ours: &Socket, endpoint: &str, python: &mut Python, dialled: bool) {
    let monitor = ours.monitor().unwrap();
    let echo = |text: &str| {
        ours.send(text).unwrap();
        assert_eq!(ours.recv().unwrap().body(), text);
    };
    if dialled {
        ours.connect(endpoint).unwrap();
    }
    events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
    echo("alive");
    // A heartbeat of theirs must be the last that we hear, since any later message would take back what it says of
    // their silence.
    compute(10 * INTERVAL);
    python.stop();
    let events = events_until(&monitor, |kind| matches!(kind, EventKind::Disconnected(..)));
    let EventKind::Disconnected(reason, _) = events.last().unwrap().kind else { unreachable!() };
    assert_eq!(reason, DownReason::TimedOut);
    python.go_on();
    events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
    echo("back again");
}

/// A peer whose process is stopped, not killed: its connection stands and says nothing. Heartbeats find it dead; once
/// it runs again it is found alive, whoever dialled.
#[test]
fn a_stopped_peer_is_dead_until_it_goes_on() {
    let world = World::new();
    let ours = world.ours(SocketType::Dealer);
    ours.set_options(beat).unwrap();
    let mut python = Python::start(&["blocking", "echo", "bind", "tcp://127.0.0.1:*"]);
    let endpoint = python.line();
    stopped_peer(&ours, &endpoint, &mut python, true);

    let ours = world.ours(SocketType::Dealer);
    ours.set_options(beat).unwrap();
    let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap();
    let mut python = Python::start(&["blocking", "echo", "connect", endpoint.as_str()]);
    stopped_peer(&ours, endpoint.as_str(), &mut python, false);
}

/// We send no heartbeats, but they do, with a time to live: then their silence counts all the same.
#[test]
fn their_time_to_live_counts() {
    let world = World::new();
    let ours = world.ours(SocketType::Dealer);
    let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap();
    let mut python = Python::start(&[
        "blocking",
        "echo",
        "connect",
        endpoint.as_str(),
        "heartbeat_ivl=50",
        "heartbeat_ttl=500",
    ]);
    stopped_peer(&ours, endpoint.as_str(), &mut python, false);
}

/// Our own process is stopped for longer than our patience. What came meanwhile is read before anyone is judged.
#[test]
fn a_stopped_process_takes_nobody_for_dead() {
    let python = Python::start(&["blocking", "echo", "bind", "tcp://127.0.0.1:*"]);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "heartbeats::the_stopped_process", "--nocapture"])
        .env(STOPPED, python.line())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // It ends of itself if it never gets there.
    assert!(lines.any(|line| line.contains("may be stopped")));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(3 * TIMEOUT / 2);
    kill_process(pid, Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success());
}

const STOPPED: &str = "FABRIQ_TEST_STOPPED";

/// The other half of the test above, in a process of its own. Does nothing by itself.
#[test]
fn the_stopped_process() {
    let Ok(endpoint) = std::env::var(STOPPED) else { return };
    let world = World::new();
    let ours = world.ours(SocketType::Dealer);
    ours.set_options(beat).unwrap();
    let monitor = ours.monitor().unwrap();
    ours.connect(&endpoint).unwrap();
    events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
    let (start, mut last) = (Instant::now(), Instant::now());
    println!("may be stopped");
    while last.elapsed() < TIMEOUT {
        last = Instant::now();
        assert!(start.elapsed() < PATIENCE, "nobody stopped us");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Whoever was to be taken for dead would be by now.
    std::thread::sleep(TIMEOUT / 2);
    assert_eq!(events_now(&monitor), []);
    ours.send("still here").unwrap();
    assert_eq!(ours.recv().unwrap().body(), "still here");
}
