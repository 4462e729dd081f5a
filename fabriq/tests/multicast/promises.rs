//! What fabriq promises of multicast, with packets really lost: nothing is lost inside the recovery window, what is lost beyond it
//! is said, and nobody suffers from somebody else.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use fabriq::{Error, EventKind, Loss, Message, Monitor, Recovery, Socket, SocketType};

use crate::hosts::{HELLO, Hosts, PATIENCE, address, body, group, number};
use crate::zmq::{self, EAGAIN, Setting};

/// A publisher that everybody who waits in `ready` has heard of.
fn publisher(url: &str, ready: &AtomicU32, subscribers: u32) -> Socket {
    let socket = fabriq::context().unwrap().socket(SocketType::Pub).unwrap();
    socket.set_options(|options| options.send_hwm = 0).unwrap();
    // Either is the same.
    if subscribers.is_multiple_of(2) {
        socket.bind(url).map(drop).unwrap()
    } else {
        socket.connect(url).unwrap()
    };
    wait_until("all subscribers have heard of the publisher", || {
        ready.load(Ordering::Acquire) >= subscribers
    });
    socket
}

/// Other threads have come as far.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < limit, "waited in vain until {what}");
        sleep(Duration::from_millis(1));
    }
}

/// A subscriber that has heard of its `publishers`.
fn subscriber(url: &str, ready: &AtomicU32, publishers: usize, hwm: u32) -> (Socket, Monitor) {
    let socket = fabriq::context().unwrap().socket(SocketType::Sub).unwrap();
    socket.set_options(|options| options.receive_hwm = hwm).unwrap();
    let monitor = socket.monitor().unwrap();
    socket.subscribe("").unwrap();
    if hwm > 1000 {
        socket.bind(url).map(drop).unwrap()
    } else {
        socket.connect(url).unwrap()
    };
    for _ in 0..publishers {
        while monitor.next_timeout(PATIENCE).expect("a publisher is heard").kind
            != EventKind::HandshakeSucceeded
        {}
    }
    ready.fetch_add(1, Ordering::Release);
    (socket, monitor)
}

fn receive(socket: &Socket) -> Message {
    socket.recv_timeout(PATIENCE).expect("a message")
}

/// What a monitor says was lost, in packets and in messages.
fn lost(monitor: &Monitor) -> (u64, u64) {
    let (mut packets, mut messages) = (0, 0);
    for event in std::iter::from_fn(|| monitor.try_next()) {
        match event.kind {
            EventKind::Lost(Loss::Packets(count)) => packets += count,
            EventKind::Lost(Loss::Messages(count)) => messages += count,
            _ => {}
        }
    }
    (packets, messages)
}

/// All of `lens`, to three hosts that lose `percent`; the publisher closes at once behind the last.
fn nothing_is_lost(percent: u32, options: &str, lens: impl Iterator<Item = usize> + Clone + Send + Sync) {
    let hosts = Hosts::losing(percent);
    let (url, ready) = (format!("epgm://eth0;{}?{options}", group()), AtomicU32::new(0));
    scope(|scope| {
        let (url, ready, lens) = (&url, &ready, &lens);
        for host in ["h2", "h3", "h4"] {
            hosts.on(scope, host, move || {
                let (socket, monitor) = subscriber(url, ready, 1, 1000);
                for (at, len) in lens.clone().enumerate() {
                    let message = receive(&socket);
                    assert!(!message.gap_before(), "{host}: a gap before {at}");
                    assert_eq!((number(message.body()), message.body().len()), (at as u64, len), "{host}");
                }
                assert_eq!(lost(&monitor), (0, 0));
            });
        }
        hosts.on(scope, "h1", move || {
            let socket = publisher(url, ready, 3);
            for (at, len) in lens.clone().enumerate() {
                socket.send(body(at as u64, len)).unwrap();
            }
        });
    });
}

#[test]
fn nothing_is_lost_at_five_percent() {
    nothing_is_lost(5, "", (0..20_000).map(|at| 8 + at % 2000));
}

#[test]
fn nothing_is_lost_at_twenty_percent_up_to_the_last_message_before_a_close() {
    nothing_is_lost(20, "rate_kbit=50000", (0..10_000).map(|_| 1024));
}

#[test]
fn nothing_is_lost_of_messages_of_a_thousand_packets() {
    nothing_is_lost(5, "", std::iter::repeat_n(1 << 20, 20));
}

#[test]
fn a_monitor_hears_at_both_ends_how_recovery_goes() {
    const MESSAGES: u64 = 10_000;
    let hosts = Hosts::losing(10);
    let (url, ready) = (format!("epgm://eth0;{}?rate_kbit=50000", group()), AtomicU32::new(0));
    let last = |monitor: &Monitor| {
        let events = std::iter::from_fn(|| monitor.try_next());
        let recoveries = events.filter_map(|event| match event.kind {
            EventKind::Recovery(recovery) => Some((event.endpoint, recovery)),
            _ => None,
        });
        recoveries.last().expect("several seconds of packets that are lost")
    };
    scope(|scope| {
        let (url, ready) = (&url, &ready);
        hosts.on(scope, "h2", move || {
            let (socket, monitor) = subscriber(url, ready, 1, 1000);
            for at in 0..MESSAGES {
                assert_eq!(number(receive(&socket).body()), at);
            }
            let (name, recovery) = last(&monitor);
            assert!(name.starts_with(&format!("{url}#{}#", address("h1"))), "{name} names no source");
            let tenth = recovery.packets / 20..recovery.packets / 5;
            assert!(tenth.contains(&recovery.repaired), "{recovery:?}");
            assert!(recovery.requested >= recovery.repaired && recovery.lost == 0, "{recovery:?}");
        });
        hosts.on(scope, "h1", move || {
            let socket = fabriq::context().unwrap().socket(SocketType::Pub).unwrap();
            socket.set_options(|options| options.send_hwm = 0).unwrap();
            let monitor = socket.monitor().unwrap();
            socket.bind(url).unwrap();
            wait_until("the subscriber has heard of it", || ready.load(Ordering::Acquire) == 1);
            for at in 0..MESSAGES {
                socket.send(body(at, 1400)).unwrap();
            }
            // At that rate it takes two seconds.
            let mut last = Recovery::default();
            while last.packets < MESSAGES / 2 {
                let event = monitor.next_timeout(PATIENCE).expect("a report");
                if let EventKind::Recovery(recovery) = event.kind {
                    last = recovery;
                }
            }
            let Recovery { packets, repaired, requested, lost, .. } = last;
            assert!(repaired > packets / 20 && requested >= repaired && lost == 0, "{last:?}");
        });
    });
}

#[test]
fn a_lone_message_arrives_although_nothing_follows_it() {
    for _ in 0..10 {
        nothing_is_lost(30, "", std::iter::once(20_000));
    }
}

#[test]
fn after_an_outage_longer_than_the_window_delivery_goes_on_within_a_second_and_the_gap_is_said() {
    let hosts = Hosts::losing(1);
    // Messages fill packets, so that the window, 4096 packets at least, is a second at this pace.
    let url = format!("epgm://eth0;{}?rate_kbit=100000&recovery_ms=500", group());
    let (ready, done, sent) = (AtomicU32::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let over = OnceLock::new();
    scope(|scope| {
        let (url, ready, done, sent, over) = (&url, &ready, &done, &sent, &over);
        // Who was cut off, and who was not.
        let follow = move |host: &'static str, cut: bool| {
            let (socket, monitor) = subscriber(url, ready, 1, 100_000);
            let (mut next, mut gaps, mut missing, mut resumed) = (0, 0u64, 0, None);
            loop {
                let message = match socket.recv_timeout(Duration::from_secs(1)) {
                    Ok(message) => message,
                    Err(Error::Again) if done.load(Ordering::Acquire) => break,
                    Err(Error::Again) => continue,
                    Err(error) => panic!("{host}: {error}"),
                };
                let number = number(message.body());
                assert!(
                    number == next || number > next && message.gap_before(),
                    "{host}: {number} after {next}"
                );
                if message.gap_before() && over.get().is_some() {
                    resumed.get_or_insert_with(Instant::now);
                }
                gaps += u64::from(message.gap_before());
                missing += number - next;
                next = number + 1;
            }
            let (packets, messages) = lost(&monitor);
            if cut {
                assert!(gaps > 0 && missing > 0 && packets > 0, "the outage was too short to test anything");
                let over: Instant = *over.get().expect("the outage came to its end");
                let silence = resumed.expect("a gap").saturating_duration_since(over);
                assert!(silence < Duration::from_secs(1), "silent for {silence:?} after the outage");
                // A packet holds a message, and now and then the beginning of another.
                assert!(
                    missing.abs_diff(packets) <= packets / 50 + 2,
                    "{missing} messages are missing, and {packets} packets are said to be"
                );
            } else {
                assert_eq!((gaps, missing, packets), (0, 0, 0), "{host} was never cut off");
            }
            assert_eq!((messages, next), (0, sent.load(Ordering::Acquire)), "{host}");
        };
        hosts.on(scope, "h2", move || follow("h2", true));
        hosts.on(scope, "h3", move || follow("h3", false));
        let publish = hosts.on(scope, "h1", move || {
            let socket = publisher(url, ready, 2);
            let start = Instant::now();
            let mut number = 0;
            while start.elapsed() < OUTAGE + Duration::from_secs(3) {
                for _ in 0..8 {
                    socket.send(body(number, 1400)).unwrap();
                    number += 1;
                }
                sleep(Duration::from_millis(2));
            }
            sent.store(number, Ordering::Release);
        });
        wait_until("both are there", || ready.load(Ordering::Acquire) == 2);
        sleep(Duration::from_millis(500));
        hosts.black_out("h2", true);
        sleep(OUTAGE);
        over.set(Instant::now()).expect("set once");
        hosts.black_out("h2", false);
        publish.join().unwrap();
        done.store(true, Ordering::Release);
    });
}

/// Several times what the window holds.
const OUTAGE: Duration = Duration::from_secs(4);

#[test]
fn a_slow_subscriber_slows_nobody_and_is_told_how_many_messages_it_missed() {
    const MESSAGES: u64 = 60_000;
    let hosts = Hosts::losing(0);
    let url = format!("epgm://eth0;{}?rate_kbit=200000&waiting_parts=1000", group());
    let (ready, quick, slow) = (AtomicU32::new(0), AtomicBool::new(false), AtomicBool::new(false));
    scope(|scope| {
        let (url, ready, quick, slow) = (&url, &ready, &quick, &slow);
        hosts.on(scope, "h2", move || {
            let (socket, monitor) = subscriber(url, ready, 1, 100);
            // It reads nothing until the others have everything.
            wait_until("the quick one is done", || quick.load(Ordering::Acquire));
            let (mut next, mut missing) = (0, 0);
            // What waited for it comes first. Then there is room for the last ones, which tell how many there were.
            while next < MESSAGES {
                let message = receive(&socket);
                let number = number(message.body());
                assert!(number == next || message.gap_before(), "{number} after {next}");
                missing += number - next;
                next = number + 1;
            }
            let (packets, messages) = lost(&monitor);
            assert_eq!((packets, messages), (0, missing));
            assert!(missing > MESSAGES / 2, "only {missing} are missing, so this tested little");
            slow.store(true, Ordering::Release);
        });
        hosts.on(scope, "h3", move || {
            let (socket, monitor) = subscriber(url, ready, 1, 100_000);
            for at in 0..MESSAGES {
                let message = receive(&socket);
                assert_eq!((number(message.body()), message.gap_before()), (at, false));
            }
            quick.store(true, Ordering::Release);
            assert_eq!(lost(&monitor), (0, 0));
        });
        hosts.on(scope, "h1", move || {
            let socket = publisher(url, ready, 2);
            for at in 0..MESSAGES {
                socket.send(body(at, 100)).unwrap();
            }
            let mut at = MESSAGES;
            wait_until("the slow one hears one of the last messages", || {
                socket.send(body(at, 100)).unwrap();
                at += 1;
                slow.load(Ordering::Acquire)
            });
        });
    });
}

/// Two publishers on h1, on one port, each with its own messages; subscribers on `at`.
fn two_publishers(percent: u32, scheme: &str, at: &[&'static str]) {
    const MESSAGES: u64 = 3000;
    let hosts = Hosts::losing(percent);
    let (url, ready) = (format!("{scheme}://eth0;{}?rate_kbit=20000", group()), AtomicU32::new(0));
    scope(|scope| {
        let (url, ready, count) = (&url, &ready, at.len() as u32);
        for &host in at {
            hosts.on(scope, host, move || {
                let (socket, monitor) = subscriber(url, ready, 2, 100_000);
                let mut next = [0, 0];
                for _ in 0..2 * MESSAGES {
                    let message = receive(&socket);
                    let number = number(message.body());
                    let of = (number >> 32) as usize;
                    assert_eq!(number & 0xffff_ffff, next[of], "{host}: publisher {of}");
                    assert!(!message.gap_before());
                    next[of] += 1;
                }
                assert_eq!(lost(&monitor), (0, 0));
            });
        }
        for of in 0..2 {
            hosts.on(scope, "h1", move || {
                let socket = publisher(url, ready, count);
                for at in 0..MESSAGES {
                    socket.send(body(of << 32 | at, 1000)).unwrap();
                }
            });
        }
    });
}

#[test]
fn publishers_that_share_a_host_and_a_port_are_both_repaired() {
    two_publishers(5, "epgm", &["h2", "h3"]);
}

#[test]
fn publishers_that_share_a_host_are_both_repaired_over_ip() {
    two_publishers(5, "pgm", &["h2"]);
}

#[test]
fn a_subscriber_on_the_publishers_host_hears_it_and_takes_nothing_from_those_elsewhere() {
    two_publishers(5, "epgm", &["h1", "h2"]);
}

#[test]
fn a_libzmq_publisher_on_the_same_host_and_port_is_repaired_too() {
    const MESSAGES: u64 = 2000;
    let hosts = Hosts::losing(5);
    let (group, ready, complete) = (group(), AtomicU32::new(0), AtomicBool::new(false));
    let url = format!("epgm://eth0;{group}?rate_kbit=20000");
    scope(|scope| {
        let (url, ready, group, complete) = (&url, &ready, &group, &complete);
        hosts.on(scope, "h2", move || {
            let (socket, monitor) = subscriber(url, ready, 2, 100_000);
            let mut next = [0, 0];
            while next != [MESSAGES, MESSAGES] {
                let message = receive(&socket);
                let number = number(message.body());
                if number == HELLO {
                    continue;
                }
                let of = (number >> 32) as usize;
                assert_eq!(number & 0xffff_ffff, next[of], "publisher {of} of {next:?}");
                next[of] += 1;
            }
            assert_eq!(lost(&monitor), (0, 0));
            complete.store(true, Ordering::Release);
        });
        hosts.on(scope, "h1", move || {
            let socket = publisher(url, ready, 1);
            for at in 0..MESSAGES {
                socket.send(body(at, 1000)).unwrap();
            }
            // As long as it is there, the system gives it what is meant for libzmq's.
            wait_until("the subscriber has everything", || complete.load(Ordering::Acquire));
        });
        hosts.on(scope, "h1", move || {
            let socket = zmq::Context::new().socket(1);
            socket.set(Setting::Rate, 20_000);
            socket.set(Setting::SendHwm, 0);
            socket.set(Setting::Linger, 0);
            socket.connect(&format!("epgm://{};{group}", address("h1")));
            let send = |number, len| {
                while socket.send(&[body(number, len)]) == Err(EAGAIN) {
                    std::thread::yield_now();
                }
            };
            // It is heard by its data alone, when its first SPMs come before anybody listens.
            wait_until("libzmq's publisher is heard", || {
                send(HELLO, 20);
                sleep(Duration::from_millis(20));
                ready.load(Ordering::Acquire) > 0
            });
            for at in 0..MESSAGES {
                send(1 << 32 | at, 1000);
            }
            // Its repairs end with its socket.
            wait_until("the subscriber has everything", || complete.load(Ordering::Acquire));
        });
    });
}

#[test]
fn groups_on_one_port_do_not_mix() {
    const MESSAGES: u64 = 500;
    let hosts = Hosts::losing(0);
    let (ready, groups) = ([AtomicU32::new(0), AtomicU32::new(0)], [group(), group()]);
    // Another group, the same port.
    let port = groups[0].split_once(':').unwrap().1;
    let groups = groups.clone().map(|group| format!("{}:{port}", group.split_once(':').unwrap().0));
    let urls = groups.map(|group| format!("epgm://eth0;{group}"));
    scope(|scope| {
        for (of, (url, ready)) in urls.iter().zip(&ready).enumerate() {
            hosts.on(scope, "h2", move || {
                let (socket, _) = subscriber(url, ready, 1, 1000);
                for at in 0..MESSAGES {
                    assert_eq!(number(receive(&socket).body()), (of as u64) << 32 | at);
                }
            });
            hosts.on(scope, "h1", move || {
                let socket = publisher(url, ready, 1);
                for at in 0..MESSAGES {
                    socket.send(body((of as u64) << 32 | at, 100)).unwrap();
                }
            });
        }
    });
}
