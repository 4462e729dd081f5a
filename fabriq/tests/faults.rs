//! Peers that break the protocol, stay silent, flood, or claim what they never send: each loses its own link in time,
//! costs bounded memory, and disturbs nobody else. No ZeroMQ library is needed; peers are plain sockets. Tests no
//! honest peer's faults (tests/interop has those).

mod wire;

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fabriq::{Context, DownReason, Error, EventKind, Monitor, Options, Socket, SocketType, Violation};

use wire::{COMMAND, MORE, PATIENCE, Wire, alone, command, events_until, frame, greeting, header, ping};
use wire::{property, ready, resident, socket};

/// How long a peer of these tests may take to shake hands.
const HANDSHAKE: Duration = Duration::from_millis(300);

/// What an attack may cost, in bytes, beside what it says of itself.
const MEMORY: usize = 48 << 20;

/// A server under attack, and beside the attackers one peer that does as it should.
struct Scene {
    endpoint: String,
    monitor: Monitor,
    server: Arc<Socket>,
    context: Context,
    serving: JoinHandle<()>,
    healthy: JoinHandle<u32>,
    over: Arc<AtomicBool>,
    before: usize,
    peak: Arc<AtomicUsize>,
    watching: JoinHandle<()>,
}

impl Scene {
    /// A ROUTER that returns everything, and a DEALER that gets it back.
    fn echo(change: impl FnOnce(&mut Options)) -> Self {
        Self::new(
            SocketType::Router,
            change,
            |server| {
                loop {
                    match server.recv() {
                        // A peer that is gone by now gets nothing.
                        Ok(message) => drop(server.send(message)),
                        Err(Error::Again) => {}
                        Err(_) => return,
                    }
                }
            },
            |endpoint, over| {
                let context = fabriq::context().unwrap();
                let client = socket(&context, SocketType::Dealer);
                let monitor = client.monitor().unwrap();
                client.connect(&endpoint).unwrap();
                let mut rounds = 0u32;
                while !over.load(Relaxed) || rounds == 0 {
                    client.send(&rounds.to_le_bytes()).unwrap();
                    assert_eq!(client.recv().unwrap().body(), &rounds.to_le_bytes());
                    rounds += 1;
                }
                let events = wire::events_now(&monitor);
                assert_eq!(events.last(), Some(&EventKind::HandshakeSucceeded), "{events:?}");
                rounds
            },
        )
    }

    /// A PUB that publishes numbers, and a SUB that gets them in order.
    fn publish(change: impl FnOnce(&mut Options)) -> Self {
        Self::new(
            SocketType::Pub,
            change,
            |server| {
                let mut number = 0u32;
                while server.send(&[b"number", &number.to_le_bytes()[..]].concat()[..]).is_ok() {
                    number += 1;
                    std::thread::sleep(Duration::from_micros(200));
                }
            },
            |endpoint, over| {
                let context = fabriq::context().unwrap();
                let client = socket(&context, SocketType::Sub);
                client.subscribe("number").unwrap();
                let monitor = client.monitor().unwrap();
                client.connect(&endpoint).unwrap();
                let mut last = None;
                let mut rounds = 0;
                while !over.load(Relaxed) || rounds == 0 {
                    let message = client.recv().unwrap();
                    let number = u32::from_le_bytes(message.body()[6..].try_into().unwrap());
                    assert!(last.is_none_or(|last| number == last + 1), "{number} after {last:?}");
                    (last, rounds) = (Some(number), rounds + 1);
                }
                let events = wire::events_now(&monitor);
                assert_eq!(events.last(), Some(&EventKind::HandshakeSucceeded), "{events:?}");
                rounds
            },
        )
    }

    fn new(
        kind: SocketType,
        change: impl FnOnce(&mut Options),
        serve: impl Fn(&Socket) + Send + 'static,
        use_it: impl Fn(String, &AtomicBool) -> u32 + Send + 'static,
    ) -> Self {
        let context = fabriq::context().unwrap();
        let server = Arc::new(socket(&context, kind));
        server
            .set_options(|options| {
                options.handshake_timeout = HANDSHAKE;
                change(options);
            })
            .unwrap();
        let monitor = server.monitor().unwrap();
        let endpoint = server.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let over = Arc::new(AtomicBool::new(false));
        let serving = std::thread::spawn({
            let server = server.clone();
            move || serve(&server)
        });
        let healthy = std::thread::spawn({
            let (endpoint, over) = (endpoint.clone(), over.clone());
            move || use_it(endpoint, &over)
        });
        // From here on only attackers come.
        events_until(&monitor, |kind| *kind == EventKind::HandshakeSucceeded);
        let before = resident();
        let peak = Arc::new(AtomicUsize::new(before));
        let watching = std::thread::spawn({
            let (over, peak) = (over.clone(), peak.clone());
            move || {
                while !over.load(Relaxed) {
                    peak.fetch_max(resident(), Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        Self { endpoint, monitor, server, context, serving, healthy, over, before, peak, watching }
    }

    /// Why the next peer does not become ready.
    fn handshake_failed(&self) -> DownReason {
        let is_it = |kind: &EventKind| matches!(kind, EventKind::HandshakeFailed(_));
        match events_until(&self.monitor, is_it).pop().map(|event| event.kind) {
            Some(EventKind::HandshakeFailed(reason)) => reason,
            _ => unreachable!(),
        }
    }

    /// Why the next peer that was ready is gone.
    fn disconnected(&self) -> DownReason {
        let is_it = |kind: &EventKind| matches!(kind, EventKind::Disconnected(..));
        match events_until(&self.monitor, is_it).pop().map(|event| event.kind) {
            Some(EventKind::Disconnected(reason, _)) => reason,
            _ => unreachable!(),
        }
    }

    /// Ends the scene: the healthy peer has noticed nothing, and memory stayed below `memory` more than before.
    fn end(self, memory: usize) {
        self.peak.fetch_max(resident(), Relaxed);
        self.over.store(true, Relaxed);
        let rounds = self.healthy.join().expect("the healthy peer is undisturbed");
        self.watching.join().unwrap();
        let cost = self.peak.load(Relaxed).saturating_sub(self.before);
        eprintln!("{rounds} rounds of the healthy peer; {} KiB", cost >> 10);
        assert!(cost < memory, "{cost} bytes");
        self.context.shutdown();
        self.serving.join().unwrap();
        drop(self.server);
    }
}

fn violation(violation: Violation) -> DownReason {
    DownReason::Violation(violation)
}

#[test]
fn garbage_for_a_greeting() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let random: Vec<u8> =
        (0..1000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x7F).collect();
    // The revision between ZMTP 1.0 and 2.0, which nobody ever spoke.
    let mut old = greeting(0, "NULL");
    old[10] = 0;
    let mut half_right = [0xFF; 64];
    half_right[9] = 0x7E;
    for (bytes, why) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], Violation::BadGreeting),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Violation::BadGreeting),
        (b"\n\n", Violation::BadGreeting),
        (&[0; 64], Violation::BadGreeting),
        (&half_right, Violation::BadGreeting),
        (&random, Violation::BadGreeting),
        (&old, Violation::UnsupportedVersion),
    ] {
        let mut wire = Wire::connect(&scene.endpoint);
        wire.say(bytes).unwrap();
        assert!(wire.closed_after() < HANDSHAKE, "garbage needs no time-out");
        assert_eq!(scene.handshake_failed(), violation(why), "{}", bytes.escape_ascii());
    }
    scene.end(MEMORY);
}

/// Peers that stop half way: before, in and after the greeting, and in READY.
#[test]
fn silence_ends_with_the_handshake_timeout() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let hello = greeting(1, "NULL");
    let ready = ready("DEALER");
    let mut claimed = header(COMMAND, 60_000).to_vec();
    claimed.extend_from_slice(b"\x05READY");
    let said = [
        Vec::new(),
        hello[..1].to_vec(),
        hello[..10].to_vec(),
        hello[..63].to_vec(),
        hello.to_vec(),
        [&hello[..], &ready[..1]].concat(),
        [&hello[..], &ready[..ready.len() - 1]].concat(),
        [&hello[..], &claimed].concat(),
    ];
    let start = Instant::now();
    let mut wires: Vec<_> = said
        .iter()
        .map(|bytes| {
            let mut wire = Wire::connect(&scene.endpoint);
            wire.say(bytes).unwrap();
            wire
        })
        .collect();
    for wire in &mut wires {
        wire.closed_after();
        // The greeting and what follows it have their own time each.
        assert!((HANDSHAKE..Duration::from_secs(5)).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
    for _ in &wires {
        assert_eq!(scene.handshake_failed(), DownReason::TimedOut);
    }
    // Byte by byte, each in time, but not all of them.
    let mut wire = Wire::connect(&scene.endpoint);
    let start = Instant::now();
    while wire.say(&hello[..1]).is_ok() && start.elapsed() < PATIENCE {
        // The first byte may be repeated: eight of the ten bytes are padding.
        std::thread::sleep(HANDSHAKE / 8);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    scene.handshake_failed();
    scene.end(MEMORY);
}

/// Data for sockets that only send: nobody would ever take it, so nothing of it is kept.
#[test]
fn data_for_a_socket_that_only_sends() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    for (kind, peer) in [(SocketType::Push, "PULL"), (SocketType::Pub, "SUB")] {
        let sender = socket(&context, kind);
        let endpoint = sender.bind("tcp://127.0.0.1:*").unwrap();
        let mut wire = Wire::peer(endpoint.as_str(), peer);
        let before = resident();
        let data = frame(0, &[7; 1 << 20]);
        for _ in 0..200 {
            wire.say(&data).unwrap();
        }
        wire.say(&ping(0, b"all read")).unwrap();
        assert_eq!(wire.hear().unwrap(), (COMMAND, command("PONG", b"all read")));
        let grown = resident().saturating_sub(before);
        assert!(grown < 32 << 20, "{kind} keeps {grown} bytes");
    }
}

/// A peer may also leave half way, in good order or not.
#[test]
fn half_handshakes_that_end() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let hello = greeting(1, "NULL");
    let ready = ready("DEALER");
    for said in [&b""[..], &hello[..20], &hello, &[&hello[..], &ready[..5]].concat()] {
        let mut wire = Wire::connect(&scene.endpoint);
        wire.say(said).unwrap();
        wire.end();
        assert!(wire.closed_after() < HANDSHAKE);
        let reason = scene.handshake_failed();
        assert!(matches!(reason, DownReason::ClosedByPeer | DownReason::Broken(0)), "{reason}");
    }
    for _ in 0..200 {
        let stream = TcpStream::connect(wire::address(&scene.endpoint)).unwrap();
        // Closing sends a reset.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
    let mut wire = Wire::peer(&scene.endpoint, "DEALER");
    wire.say(&frame(0, b"served")).unwrap();
    assert_eq!(wire.hear().unwrap(), (0, b"served".to_vec()));
    drop(wire);
    scene.end(MEMORY);
}

#[test]
fn handshakes_that_break_the_rules() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let ready_of = |data: &[u8]| frame(COMMAND, &command("READY", data));
    let socket_type = property("Socket-Type", b"DEALER");
    for (mechanism, bytes, why) in [
        ("CURVE", Vec::new(), Violation::MechanismMismatch),
        ("", Vec::new(), Violation::MechanismMismatch),
        ("NULL", frame(COMMAND | MORE, &command("READY", &socket_type)), Violation::BadFrame),
        ("NULL", frame(COMMAND | 0x80, &command("READY", &socket_type)), Violation::BadFrame),
        ("NULL", frame(COMMAND, b""), Violation::BadCommand),
        ("NULL", frame(COMMAND, b"\x09READY"), Violation::BadCommand),
        ("NULL", ready_of(&socket_type[..socket_type.len() - 1]), Violation::BadCommand),
        ("NULL", ready_of(b"\x0bSocket-Type\xff\xff\xff\xffDEALER"), Violation::BadCommand),
        ("NULL", ready_of(b""), Violation::IncompatibleSocket),
        ("NULL", ready("SUB"), Violation::IncompatibleSocket),
        ("NULL", ready("NONSENSE"), Violation::IncompatibleSocket),
        ("NULL", frame(COMMAND, &command("ERROR", b"\x02no")), Violation::Refused),
        ("NULL", ping(0, b""), Violation::UnexpectedCommand),
        ("NULL", frame(COMMAND, &command("HELLO", b"")), Violation::UnexpectedCommand),
        ("NULL", ready_of(&property("X-Long", &[b'x'; 70_000])), Violation::TooLarge),
    ] {
        let mut wire = Wire::connect(&scene.endpoint);
        wire.say(&greeting(1, mechanism)).unwrap();
        wire.say(&bytes).unwrap();
        wire.closed_after();
        let what = bytes[..bytes.len().min(60)].escape_ascii();
        assert_eq!(scene.handshake_failed(), violation(why), "{mechanism} {what}");
    }
    // Data is not even read before READY.
    let mut wire = Wire::connect(&scene.endpoint);
    wire.say(&[&greeting(1, "NULL")[..], &frame(0, b"data before READY")].concat()).unwrap();
    wire.closed_after();
    assert_eq!(scene.handshake_failed(), DownReason::TimedOut);
    scene.end(MEMORY);
}

#[test]
fn traffic_that_breaks_the_rules() {
    let _alone = alone();
    let scene = Scene::echo(|options| options.max_message_size = Some(1 << 20));
    let command = |name: &str, data: &[u8]| frame(COMMAND, &command(name, data));
    for (bytes, why) in [
        (header(0, 1 << 62).to_vec(), Violation::TooLarge),
        (header(0, u64::MAX).to_vec(), Violation::TooLarge),
        (header(MORE, (1 << 20) + 1).to_vec(), Violation::TooLarge),
        (header(COMMAND, 1 << 62).to_vec(), Violation::TooLarge),
        (vec![0x08, 0], Violation::BadFrame),
        (vec![0xFF; 9], Violation::BadFrame),
        (frame(COMMAND | MORE, b"\x04PING\x00\x00"), Violation::BadFrame),
        (frame(COMMAND, b""), Violation::BadCommand),
        (frame(COMMAND, b"\xffPING"), Violation::BadCommand),
        (command("PING", b"\x00"), Violation::BadCommand),
        (command("PONG", &[0; 17]), Violation::BadCommand),
        (ready("DEALER"), Violation::UnexpectedCommand),
        (command("ERROR", b"\x02no"), Violation::Refused),
        (command("ERROR", b"\x09no"), Violation::BadCommand),
    ] {
        let mut wire = Wire::peer(&scene.endpoint, "DEALER");
        // Something good first, and something that must not be looked at any more behind.
        wire.say(&frame(0, b"good")).unwrap();
        assert_eq!(wire.hear().unwrap().1, b"good");
        wire.say(&[&bytes[..], &frame(0, b"after")].concat()).unwrap();
        wire.closed_after();
        assert_eq!(scene.disconnected(), violation(why), "{}", bytes.escape_ascii());
    }
    scene.end(MEMORY);
}

/// A claimed length allocates nothing: not 50 times a GiB, and not what is beyond any memory.
#[test]
fn claimed_lengths_cost_nothing() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let claims = [1 << 30, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 60 << 30];
    let mut wires: Vec<_> = (0..50)
        .map(|at| {
            let mut wire = Wire::peer(&scene.endpoint, "DEALER");
            wire.say(&header(0, claims[at % claims.len()])).unwrap();
            wire.say(&vec![1; 100_000]).unwrap();
            wire
        })
        .collect();
    // Beyond what a frame may ever have.
    for claim in [(64 << 30) + 1, 1 << 62, 1 << 63, u64::MAX] {
        let mut wire = Wire::peer(&scene.endpoint, "DEALER");
        wire.say(&header(0, claim)).unwrap();
        wire.closed_after();
        assert_eq!(scene.disconnected(), violation(Violation::TooLarge));
    }
    // They are honest so far, and serve as a proof that all of it has arrived.
    for wire in &mut wires {
        wire.say(&[2; 1000]).unwrap();
        wire.end();
        wire.closed_after();
        assert_eq!(scene.disconnected(), DownReason::Broken(0));
    }
    scene.end(MEMORY);
}

/// A peer that dies inside a frame or a message leaves nothing of it behind.
#[test]
fn torn_messages_are_not_delivered() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let monitor = pull.monitor().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
    let large = frame(0, &vec![3; 100_000]);
    for (torn, reason) in [
        (frame(MORE, b"first of two"), DownReason::ClosedByPeer),
        ([frame(MORE, b"first"), frame(0, b"second")[..3].to_vec()].concat(), DownReason::Broken(0)),
        (large[..50_000].to_vec(), DownReason::Broken(0)),
        (large[..5].to_vec(), DownReason::Broken(0)),
        (vec![0], DownReason::Broken(0)),
    ] {
        let mut wire = Wire::peer(&endpoint, "PUSH");
        wire.say(&[frame(0, b"whole"), torn].concat()).unwrap();
        wire.end();
        wire.closed_after();
        let events = events_until(&monitor, |kind| matches!(kind, EventKind::Disconnected(..)));
        assert!(matches!(events.last().unwrap().kind, EventKind::Disconnected(why, _) if why == reason));
        assert_eq!(pull.recv().unwrap().body(), "whole");
    }
    let mut wire = Wire::peer(&endpoint, "PUSH");
    wire.say(&frame(0, b"last")).unwrap();
    assert_eq!(pull.recv().unwrap().body(), "last");
}

/// PINGs without end from a peer that reads no PONG.
#[test]
fn a_flood_of_pings() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let mut wire = Wire::peer(&scene.endpoint, "DEALER");
    let volley: Vec<u8> = (0..4096u32).flat_map(|at| ping(0, &at.to_le_bytes())).collect();
    let (_, closed) = wire.flood(&volley, 256 << 20);
    assert!(closed, "it may go on for ever");
    assert_eq!(scene.disconnected(), violation(Violation::CommandFlood));
    scene.end(MEMORY);
}

#[test]
fn a_flood_of_unknown_commands() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let nonsense = frame(COMMAND, &command("NONSENSE", &[7; 200]));
    let mut wire = Wire::peer(&scene.endpoint, "DEALER");
    let (sent, closed) = wire.flood(&nonsense.repeat(100), 256 << 20);
    assert!(closed, "it may go on for ever");
    assert_eq!(scene.disconnected(), violation(Violation::CommandFlood));
    eprintln!("after {} commands", sent / nonsense.len());
    // A few are no flood: later versions may have more to say.
    let mut wire = Wire::peer(&scene.endpoint, "DEALER");
    wire.say(&[nonsense.repeat(100), frame(0, b"still here")].concat()).unwrap();
    assert_eq!(wire.hear().unwrap().1, b"still here");
    drop(wire);
    scene.end(MEMORY);
}

/// Subscriptions without end: they cost no more than a small multiple of what arrived, and end with the link. The
/// other subscriber misses nothing.
#[test]
fn a_flood_of_subscriptions() {
    const TOPICS: u32 = 200_000;
    let _alone = alone();
    let scene = Scene::publish(|_| {});
    let mut wire = Wire::peer(&scene.endpoint, "SUB");
    let mut said = 0;
    for start in (0..TOPICS).step_by(1000) {
        let volley: Vec<u8> = (start..start + 1000)
            .flat_map(|at| {
                frame(COMMAND, &command("SUBSCRIBE", &[&at.to_le_bytes()[..], &[b'x'; 60]].concat()))
            })
            .collect();
        said += volley.len();
        wire.say(&volley).unwrap();
    }
    // All of them have been understood when this one works.
    wire.say(&frame(COMMAND, &command("SUBSCRIBE", b"number"))).unwrap();
    assert!(wire.hear().unwrap().1.starts_with(b"number"));
    drop(wire);
    scene.disconnected();
    let mut wire = Wire::peer(&scene.endpoint, "SUB");
    wire.say(&frame(COMMAND, &command("SUBSCRIBE", &vec![b'x'; (64 << 10) + 1]))).unwrap();
    wire.closed_after();
    assert_eq!(scene.disconnected(), violation(Violation::TooLarge));
    scene.end(MEMORY + 8 * said);
}

/// A peer may hold 256 MiB of subscriptions; what it repeats or cancels does not count. A byte more, and it loses its link.
#[test]
fn subscriptions_of_too_many_bytes() {
    const BYTES_MAX: usize = 256 << 20;
    const TOPIC_MAX: usize = 64 << 10;
    let _alone = alone();
    let scene = Scene::publish(|_| {});
    let topic = |number: usize| [&number.to_be_bytes()[..], &[b'x'; TOPIC_MAX - 8]].concat();
    let subscribe = |number| frame(COMMAND, &command("SUBSCRIBE", &topic(number)));
    let mut wire = Wire::peer(&scene.endpoint, "SUB");
    for number in 0..BYTES_MAX / TOPIC_MAX - 1 {
        wire.say(&subscribe(number)).unwrap();
    }
    for _ in 0..3 {
        wire.say(&subscribe(0)).unwrap();
        wire.say(&frame(COMMAND, &command("CANCEL", &topic(1)))).unwrap();
        wire.say(&subscribe(1)).unwrap();
    }
    wire.say(&subscribe(usize::MAX)).unwrap();
    // Whoever answers has understood what came before.
    wire.say(&ping(0, b"full")).unwrap();
    assert_eq!(wire.hear().unwrap(), (COMMAND, command("PONG", b"full")));
    wire.say(&frame(COMMAND, &command("SUBSCRIBE", b"x"))).unwrap();
    wire.closed_after();
    assert_eq!(scene.disconnected(), violation(Violation::CommandFlood));
    // It held what it may.
    scene.end(MEMORY + BYTES_MAX);
}

/// A subscriber that reads nothing: messages for it are dropped at the mark, and the others get theirs.
#[test]
fn a_subscriber_that_never_reads() {
    let _alone = alone();
    let scene = Scene::publish(|options| options.send_hwm = 100);
    let mut stalled = Wire::peer(&scene.endpoint, "SUB");
    stalled.say(&frame(COMMAND, &command("SUBSCRIBE", b""))).unwrap();
    // Through a thread of its own: sockets are thread-safe.
    let large = vec![9; 100_000];
    for _ in 0..5000 {
        scene.server.send(large.clone()).unwrap();
    }
    drop(stalled);
    // A mark of a hundred such messages, and kernel buffers.
    scene.end(MEMORY + 100 * large.len());
}

/// Many connections that say nothing: all are closed in time, and the descriptors are free again.
#[test]
fn many_half_open_connections() {
    const COUNT: usize = 300;
    let _alone = alone();
    let scene = Scene::echo(|options| options.backlog = 1000);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let start = Instant::now();
    let mut wires: Vec<_> = (0..COUNT)
        .map(|at| {
            let mut wire = Wire::connect(&scene.endpoint);
            wire.say(&greeting(1, "NULL")[..at % 64]).unwrap();
            wire
        })
        .collect();
    for wire in &mut wires {
        wire.closed_after();
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    for _ in 0..COUNT {
        assert_eq!(scene.handshake_failed(), DownReason::TimedOut);
    }
    drop(wires);
    assert!(descriptors() <= before, "{} descriptors more than before", descriptors() - before);
    scene.end(MEMORY);
}

/// A message that never ends: the parts it may have are counted.
#[test]
fn a_message_without_end() {
    let _alone = alone();
    let scene = Scene::echo(|_| {});
    let mut wire = Wire::peer(&scene.endpoint, "DEALER");
    let (sent, closed) = wire.flood(&frame(MORE, b"").repeat(10_000), 64 << 20);
    assert!(closed, "it may go on for ever");
    eprintln!("after {sent} bytes");
    assert_eq!(scene.disconnected(), violation(Violation::TooLarge));
    scene.end(MEMORY + (256 << 20));
}

/// A command that never ends, before and after READY: no command is longer than a topic, so none need be kept.
#[test]
fn a_command_without_end() {
    let _alone = alone();
    let scene = Scene::publish(|options| options.handshake_timeout = PATIENCE);
    for name in ["READY", "SUBSCRIBE"] {
        let mut wire = Wire::connect(&scene.endpoint);
        wire.greet();
        if name == "SUBSCRIBE" {
            wire.say(&ready("SUB")).unwrap();
        }
        wire.say(&[&header(COMMAND, 1 << 30)[..], &command(name, b"")].concat()).unwrap();
        let (sent, closed) = wire.flood(&vec![b'x'; 1 << 20], 400 << 20);
        assert!(closed, "{sent} bytes of one command were taken");
        let why = if name == "READY" { scene.handshake_failed() } else { scene.disconnected() };
        assert_eq!(why, violation(Violation::TooLarge));
    }
    scene.end(MEMORY);
}

/// A peer that keeps its end open, as a stopped process does, holds nobody up that has nothing left to send.
#[test]
fn an_idle_link_does_not_linger() {
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let _stays = Wire::peer(endpoint.as_str(), "PUSH");
    let start = Instant::now();
    drop((pull, context));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Many bad peers of all sorts at once, again and again.
#[test]
fn all_of_it_at_once() {
    let _alone = alone();
    let scene = Scene::echo(|options| options.max_message_size = Some(100_000));
    let attacks: [fn(&mut Wire); 6] = [
        |wire| drop(wire.say(b"GET / HTTP/1.1\r\n\r\n")),
        |wire| drop(wire.say(&greeting(1, "NULL"))),
        |wire| drop(wire.say(&[&greeting(1, "NULL")[..], &ready("PUB")].concat())),
        |wire| {
            let start = [&greeting(1, "NULL")[..], &ready("DEALER"), &header(0, 1 << 40)].concat();
            drop(wire.say(&start));
        },
        |wire| {
            drop(wire.say(&[&greeting(1, "NULL")[..], &ready("DEALER")].concat()));
            wire.flood(&ping(1, b"flood").repeat(1000), 1 << 20);
        },
        |wire| {
            drop(wire.say(&[&greeting(1, "NULL")[..], &ready("DEALER")].concat()));
            wire.flood(&frame(MORE, &[1; 50_000]), 1 << 20);
        },
    ];
    std::thread::scope(|scope| {
        for attack in attacks {
            let endpoint = &scene.endpoint;
            scope.spawn(move || {
                for _ in 0..50 {
                    let mut wire = Wire::connect(endpoint);
                    attack(&mut wire);
                    let _ = wire.0.set_read_timeout(Some(Duration::from_millis(1)));
                    let _ = wire.0.read(&mut [0; 1000]);
                }
            });
        }
    });
    scene.end(MEMORY);
}
