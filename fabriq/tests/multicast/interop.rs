//! fabriq and Debian's libzmq.so.5 over epgm:// and pgm://, each in both places, with wires that lose nothing and with wires that
//! lose a packet in twenty, of whatever kind. Nothing may be missing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use fabriq::{Error, EventKind, Monitor, Recovery, SocketType};

use crate::hosts::{HELLO, Hosts, PATIENCE, address, body, group, number};
use crate::zmq::{self, EAGAIN, Setting};

const MESSAGES: u64 = 6000;
/// What libzmq's publisher and its subscriber's window go by, in kbit/s.
const RATE_KBIT: i32 = 60_000;
const PUB: i32 = 1;
const SUB: i32 = 2;
const SUBSCRIBERS: [&str; 2] = ["h2", "h3"];

/// Lengths from a few to a packet, to a few packets each.
fn len(number: u64) -> usize {
    [8, 100, 1024, 1400, 1430, 6000][number as usize % 6]
}

/// Checks what one subscriber gets.
#[derive(Default)]
struct Ledger {
    next: u64,
    hello: bool,
}

impl Ledger {
    fn take(&mut self, parts: &[&[u8]], said: &AtomicU32) {
        assert_eq!(parts.len(), 2, "messages have two parts");
        let number = number(parts[1]);
        assert_eq!(parts[0], &number.to_be_bytes()[..]);
        if number == HELLO {
            if !std::mem::replace(&mut self.hello, true) {
                said.fetch_add(1, Ordering::Release);
            }
            return;
        }
        assert_eq!(number, self.next, "messages are missing or come twice");
        self.next += 1;
    }
    fn is_complete(&self) -> bool {
        self.next == MESSAGES
    }
}

fn hello_and_messages(said: &AtomicU32, mut send: impl FnMut([Vec<u8>; 2])) {
    let limit = Instant::now() + PATIENCE;
    while said.load(Ordering::Acquire) < SUBSCRIBERS.len() as u32 {
        assert!(Instant::now() < limit, "a subscriber hears nothing");
        send([HELLO.to_be_bytes().into(), body(HELLO, 20)]);
        std::thread::sleep(Duration::from_millis(20));
    }
    for number in 0..MESSAGES {
        send([number.to_be_bytes().into(), body(number, len(number))]);
    }
}

fn tune(socket: &zmq::Socket) {
    socket.set(Setting::Rate, RATE_KBIT);
    socket.set(Setting::RecoveryInterval, 5000);
    socket.set(Setting::SendBuffer, 4 << 20);
    socket.set(Setting::ReceiveBuffer, 4 << 20);
    socket.set(Setting::SendHwm, 0);
    socket.set(Setting::ReceiveHwm, 0);
}

/// Something was lost, or the test would show nothing, and was sent again.
fn await_repairs(monitor: &Monitor) {
    loop {
        let event = monitor.next_timeout(PATIENCE).expect("nothing was repaired");
        assert!(!matches!(event.kind, EventKind::Lost(_)), "{event:?}");
        if matches!(event.kind, EventKind::Recovery(Recovery { repaired: 1.., .. })) {
            return;
        }
    }
}

fn fabriq_to_libzmq(scheme: &str, percent: u32) {
    let hosts = Hosts::losing(percent);
    let (group, said, complete) = (group(), AtomicU32::new(0), AtomicU32::new(0));
    scope(|scope| {
        for host in SUBSCRIBERS {
            let (url, said, complete) = (format!("{scheme}://{};{group}", address(host)), &said, &complete);
            hosts.on(scope, host, move || {
                let socket = zmq::Context::new().socket(SUB);
                tune(&socket);
                socket.set_bytes(Setting::Subscribe, b"");
                socket.set_time(Setting::ReceiveTimeout, PATIENCE);
                socket.connect(&url);
                let mut ledger = Ledger::default();
                while !ledger.is_complete() {
                    let parts = socket
                        .recv()
                        .unwrap_or_else(|error| panic!("{host} waits for {}: {error:?}", ledger.next));
                    ledger.take(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), said);
                }
                complete.fetch_add(1, Ordering::Release);
            });
        }
        let (url, said, complete) =
            (format!("{scheme}://eth0;{group}?rate_kbit={RATE_KBIT}"), &said, &complete);
        hosts.on(scope, "h1", move || {
            let publisher = fabriq::context().unwrap().socket(SocketType::Pub).unwrap();
            publisher.set_options(|options| options.send_hwm = 0).unwrap();
            let monitor = publisher.monitor().unwrap();
            publisher.bind(&url).unwrap();
            hello_and_messages(said, |parts| {
                publisher.send(fabriq::Message::from_parts(parts).unwrap()).unwrap()
            });
            if percent > 0 {
                await_repairs(&monitor);
            }
            // It repairs until its linger is over, so there is no need to wait for anybody.
            drop(publisher);
            let _ = complete;
        });
    });
    assert_eq!(complete.load(Ordering::Acquire), SUBSCRIBERS.len() as u32);
}

fn libzmq_to_fabriq(scheme: &str, percent: u32) {
    let hosts = Hosts::losing(percent);
    let (group, said, complete) = (group(), AtomicU32::new(0), AtomicU32::new(0));
    scope(|scope| {
        for host in SUBSCRIBERS {
            let (url, said, complete) = (format!("{scheme}://eth0;{group}"), &said, &complete);
            hosts.on(scope, host, move || {
                let socket = fabriq::context().unwrap().socket(SocketType::Sub).unwrap();
                let monitor = socket.monitor().unwrap();
                socket.subscribe("").unwrap();
                socket.connect(&url).unwrap();
                let mut ledger = Ledger::default();
                while !ledger.is_complete() {
                    let message = socket
                        .recv_timeout(PATIENCE)
                        .unwrap_or_else(|error| panic!("{host} waits for {}: {error}", ledger.next));
                    assert!(!message.gap_before(), "a gap before {}", ledger.next);
                    ledger.take(&message.parts().map(|part| &part[..]).collect::<Vec<_>>(), said);
                }
                assert_eq!(socket.try_recv().map(drop), Err(Error::Again));
                if percent > 0 {
                    await_repairs(&monitor);
                }
                let events = std::iter::from_fn(|| monitor.try_next());
                let lost = events.filter(|event| matches!(event.kind, EventKind::Lost(_))).count();
                assert_eq!(lost, 0);
                complete.fetch_add(1, Ordering::Release);
            });
        }
        let (url, said, complete) = (format!("{scheme}://{};{group}", address("h1")), &said, &complete);
        hosts.on(scope, "h1", move || {
            let publisher = zmq::Context::new().socket(PUB);
            tune(&publisher);
            publisher.set(Setting::Linger, 0);
            publisher.connect(&url);
            hello_and_messages(said, |parts| {
                while publisher.send(&parts) == Err(EAGAIN) {
                    std::thread::yield_now();
                }
            });
            // libzmq's repairs end with its socket.
            let limit = Instant::now() + PATIENCE;
            while complete.load(Ordering::Acquire) < SUBSCRIBERS.len() as u32 && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    });
    assert_eq!(complete.load(Ordering::Acquire), SUBSCRIBERS.len() as u32);
}

#[test]
fn epgm_to_libzmq() {
    fabriq_to_libzmq("epgm", 0);
}

#[test]
fn epgm_to_libzmq_with_loss() {
    fabriq_to_libzmq("epgm", 5);
}

#[test]
fn epgm_from_libzmq() {
    libzmq_to_fabriq("epgm", 0);
}

#[test]
fn epgm_from_libzmq_with_loss() {
    libzmq_to_fabriq("epgm", 5);
}

#[test]
fn pgm_to_libzmq() {
    fabriq_to_libzmq("pgm", 0);
}

#[test]
fn pgm_to_libzmq_with_loss() {
    fabriq_to_libzmq("pgm", 5);
}

#[test]
fn pgm_from_libzmq() {
    libzmq_to_fabriq("pgm", 0);
}

#[test]
fn pgm_from_libzmq_with_loss() {
    libzmq_to_fabriq("pgm", 5);
}
