//! Whoever waits, drives, and nobody needs to: I/O goes on while the application computes for seconds without a call,
//! and a thread that waits gets its message without another one being woken. Tests no speed.

mod wire;

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use fabriq::{Context, Error, EventKind, Frame, Message, PollItem, Socket, SocketType};

use wire::{
    COMMAND, PATIENCE, Wire, alone, command, compute, events_now, frame, greeting, ping, ready, socket,
};

/// How long the application computes.
const BUSY: Duration = Duration::from_secs(2);

/// The slowest answer that still counts as one. The background needs a few milliseconds; the rest is for a machine of
/// two cores where other tests run.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Runs `peer` in a thread of its own while this one computes. Returns how often `peer` succeeded meanwhile.
fn while_computing(mut peer: impl FnMut() + Send) -> u32 {
    let (over, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let start = Instant::now();
                peer();
                assert!(start.elapsed() < AT_ONCE, "an answer took {:?}", start.elapsed());
                rounds.fetch_add(1, SeqCst);
            }
        });
        compute(BUSY);
        let during = rounds.load(SeqCst);
        over.store(true, SeqCst);
        during
    })
}

#[test]
fn heartbeats_are_answered_while_the_application_computes() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = Wire::peer(endpoint.as_str(), "PUSH");
    let mut number = 0u32;
    let answered = while_computing(|| {
        wire.say(&ping(0, &number.to_le_bytes())).unwrap();
        assert_eq!(wire.hear().unwrap(), (COMMAND, command("PONG", &number.to_le_bytes())));
        number += 1;
    });
    assert!(answered > 20, "{answered}");
}

/// A peer that connects, shakes hands and leaves, again and again.
#[test]
fn peers_come_and_go_while_the_application_computes() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let peers = while_computing(|| {
        let mut wire = Wire::peer(endpoint.as_str(), "PUSH");
        wire.say(&frame(0, b"passing by")).unwrap();
        wire.end();
        wire.closed_after();
    });
    assert!(peers > 20, "{peers}");
    for _ in 0..peers {
        assert_eq!(pull.recv().unwrap().body(), "passing by");
    }
}

/// A listener that drops every connection after the handshake: the dialling side is back each time.
#[test]
fn reconnects_are_made_while_the_application_computes() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    let monitor = push.monitor().unwrap();
    push.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    push.send("for the last").unwrap();
    let reconnects = while_computing(|| {
        let mut wire = Wire::accept(&listener);
        wire.greet();
        // Gone before it is ready, so that the message is not given away.
        wire.end();
        wire.closed_after();
    });
    assert!(reconnects > 10, "{reconnects}");
    let events = events_now(&monitor);
    let retried = events.iter().filter(|kind| matches!(kind, EventKind::ConnectRetried(_))).count();
    assert!(retried as u32 >= reconnects, "{retried} of {reconnects}");
    // The one that stays gets what was sent to begin with, once.
    let mut wire = Wire::accept(&listener);
    wire.shake_hands("PULL");
    assert_eq!(wire.hear().unwrap(), (0, b"for the last".to_vec()));
}

/// What arrives is moved to the receive queue, far more than the kernel's buffers hold.
#[test]
fn messages_are_drained_while_the_application_computes() {
    const COUNT: u32 = 900;
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = Wire::peer(endpoint.as_str(), "PUSH");
    let (start, written) = (Instant::now(), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| {
            for number in 0..COUNT {
                wire.say(&frame(0, &number.to_le_bytes().repeat(16 << 10))).unwrap();
                written.store(number + 1, SeqCst);
            }
            start.elapsed()
        });
        compute(BUSY);
        assert_eq!(written.load(SeqCst), COUNT, "56 MiB went while nobody called us");
        taken.join().unwrap();
    });
    for number in 0..COUNT {
        let message = pull.try_recv().unwrap();
        assert_eq!(message.body()[..4], number.to_le_bytes());
        assert_eq!(message.body().len(), 64 << 10);
    }
}

/// What is queued goes out, far more than the kernel's buffers hold.
#[test]
fn queues_are_sent_while_the_application_computes() {
    const COUNT: u32 = 900;
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = Wire::peer(endpoint.as_str(), "PULL");
    for number in 0..COUNT {
        push.send(Frame::from(number.to_le_bytes().repeat(16 << 10))).unwrap();
    }
    let read = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                let (_, body) = wire.hear().unwrap();
                assert_eq!(body[..4], number.to_le_bytes());
                read.store(number + 1, SeqCst);
            }
        });
        compute(BUSY);
        assert_eq!(read.load(SeqCst), COUNT, "56 MiB came while nobody called");
    });
}

/// A message of more parts than a driver takes at once goes out whole after `send` has returned.
#[test]
fn a_message_of_many_parts_is_sent_while_the_application_computes() {
    const PARTS: u32 = 20_000;
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = Wire::peer(endpoint.as_str(), "PULL");
    let parts = || (0..PARTS).map(|number| Frame::from(&number.to_le_bytes()));
    for _ in 0..3 {
        push.send(Message::from_parts(parts()).unwrap()).unwrap();
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for number in (0..3).flat_map(|_| 0..PARTS) {
                let more = if number + 1 < PARTS { wire::MORE } else { 0 };
                assert_eq!(wire.hear().unwrap(), (more, number.to_le_bytes().to_vec()));
            }
        });
        let start = Instant::now();
        while !reader.is_finished() {
            compute(Duration::from_millis(1));
            assert!(start.elapsed() < PATIENCE / 2, "the end of a message is still here");
        }
    });
}

/// The same for a burst of small messages whose sender leaves in the middle: the last ones do not stay behind.
#[test]
fn the_end_of_a_burst_is_not_left_behind() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = Wire::peer(endpoint.as_str(), "PULL");
    for burst in [1u32, 2, 7, 8, 9, 15, 16, 17, 64, 100, 500, 999] {
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for number in 0..burst {
                    assert_eq!(wire.hear().unwrap(), (0, number.to_le_bytes().to_vec()));
                }
            });
            for number in 0..burst {
                push.send(&number.to_le_bytes()).unwrap();
            }
            let start = Instant::now();
            while !reader.is_finished() {
                compute(Duration::from_micros(100));
                assert!(start.elapsed() < AT_ONCE, "the end of a burst of {burst} is still here");
            }
        });
    }
    wire.0.flush().unwrap();
}

/// Holds up the background thread at the first wake-up that it makes: after it let go of its lock and before it sleeps.
struct Hold {
    held: mpsc::Sender<()>,
    release: Mutex<mpsc::Receiver<()>>,
}

impl Wake for Hold {
    fn wake(self: Arc<Self>) {
        assert!(std::thread::current().name().is_some_and(|name| name.starts_with("fabriq-")));
        self.held.send(()).unwrap();
        let _ = self.release.lock().unwrap().recv_timeout(PATIENCE);
    }
}

/// A PULL socket whose background thread is held up on its way to sleep, its endpoint, and how to let it go on.
fn held_up(context: &Context) -> (Socket, String, mpsc::Sender<()>) {
    let pull = socket(context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
    let mut wire = Wire::peer(&endpoint, "PUSH");
    wire.say(&frame(0, b"ready")).unwrap();
    assert_eq!(pull.recv().unwrap().body(), "ready");
    let (held, is_held) = mpsc::channel();
    let (release, released) = mpsc::channel();
    pull.wake_when_changed(&Waker::from(Arc::new(Hold { held, release: Mutex::new(released) })));
    drop(wire);
    is_held.recv_timeout(PATIENCE).expect("the background tells of the link's end");
    (pull, endpoint, release)
}

/// A time that is set while the background is on its way to sleep ends that sleep. Here it is the next attempt of a
/// dial that was refused.
#[test]
fn a_deadline_reaches_a_background_that_is_about_to_sleep() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let (pull, _, release) = held_up(&context);
    let push = socket(&context, SocketType::Push);
    let monitor = push.monitor().unwrap();
    // Nobody else has this address, and connects take no port below 32768.
    let address = "127.93.7.3:27193";
    push.connect(&format!("tcp://{address}")).unwrap();
    // The dial is refused in a turn of this thread, so it is this one that sets the time of the next.
    let start = Instant::now();
    while !events_now(&monitor).iter().any(|kind| matches!(kind, EventKind::ConnectRetried(_))) {
        assert!(start.elapsed() < PATIENCE, "the dial is not refused");
        fabriq::poll(&mut [PollItem::readable(&pull)], Some(Duration::ZERO)).unwrap();
    }
    release.send(()).unwrap();
    let listener = TcpListener::bind(address).unwrap();
    Wire::accept(&listener).shake_hands("PULL");
}

/// A call that does not wait takes one turn, and what that turn has left is seen to though nobody calls again.
#[test]
fn what_a_passing_call_leaves_is_not_left_behind() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let (pull, endpoint, release) = held_up(&context);
    let mut wire = Wire::connect(&endpoint);
    wire.say(&[&greeting(1, "NULL")[..], &ready("PUSH")].concat()).unwrap();
    let monitor = pull.monitor().unwrap();
    let start = Instant::now();
    while !events_now(&monitor).contains(&EventKind::HandshakeSucceeded) {
        assert!(start.elapsed() < PATIENCE, "no handshake");
        assert_eq!(pull.try_recv().unwrap_err(), Error::Again);
    }
    // More than one turn delivers, and few enough bytes for one read. The PING is in the driver's hands by then, and its
    // descriptor has nothing to tell.
    let said = frame(0, b"x").repeat(900);
    wire.say(&[&said[..], &ping(0, b"behind")].concat()).unwrap();
    let start = Instant::now();
    while pull.try_recv().is_err() {
        assert!(start.elapsed() < PATIENCE, "no message");
    }
    release.send(()).unwrap();
    wire.0.read_exact(&mut [0; 64]).unwrap();
    assert!(wire.hear().unwrap().1.starts_with(b"\x05READY"));
    assert_eq!(wire.hear().unwrap(), (COMMAND, command("PONG", b"behind")));
}

/// Giving an endpoint up ends its links, though the caller makes no other call and nothing else happens.
#[test]
fn a_disconnect_and_an_unbind_need_no_other_call() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    // A time to linger would be a deadline, and wake somebody by itself.
    pull.set_options(|options| options.linger = None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialled = format!("tcp://{}", listener.local_addr().unwrap());
    pull.connect(&dialled).unwrap();
    let bound = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
    let mut wires = [Wire::accept(&listener), Wire::connect(&bound)];
    for wire in &mut wires {
        wire.shake_hands("PUSH");
        wire.say(&frame(0, b"ready")).unwrap();
        assert_eq!(pull.recv().unwrap().body(), "ready");
    }
    // By now the background is asleep: it was woken by what came last, and nothing comes any more.
    std::thread::sleep(Duration::from_millis(100));
    pull.disconnect(&dialled).unwrap();
    wires[0].closed_after();
    std::thread::sleep(Duration::from_millis(100));
    pull.unbind(&bound).unwrap();
    wires[1].closed_after();
}

/// A future that is held and not polled, as in a branch of a `select` that another branch keeps waiting: it drives no
/// more, and the background takes over.
#[test]
fn a_future_that_is_not_polled_keeps_nobody_from_driving() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = Wire::peer(endpoint.as_str(), "PUSH");
    wire.say(&frame(0, b"ready")).unwrap();
    assert_eq!(pull.recv().unwrap().body(), "ready");
    let mut held = std::pin::pin!(pull.recv_async());
    assert!(held.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())).is_pending());
    for number in 0u8..20 {
        wire.say(&ping(0, &[number])).unwrap();
        assert_eq!(wire.hear().unwrap(), (COMMAND, command("PONG", &[number])));
    }
}

/// How often the background threads of this process (fabriq-N) went to sleep or were put off a core.
fn background_switches() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ours = tasks.filter(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("fabriq-"))
    });
    let statuses = ours.filter_map(|task| std::fs::read_to_string(task.join("status")).ok());
    statuses
        .map(|status| {
            let lines = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
            lines.filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok()).sum::<u64>()
        })
        .sum()
}

fn pings(client: &Context, server: &Context, endpoint: &str, rounds: u32) -> (Duration, u64) {
    let server = socket(server, SocketType::Rep);
    let client = socket(client, SocketType::Req);
    client.connect(server.bind(endpoint).unwrap().as_str()).unwrap();
    let warm_up = 200;
    let serving = std::thread::spawn(move || {
        for _ in 0..warm_up + rounds {
            let request = server.recv().unwrap();
            server.send(request).unwrap();
        }
    });
    let round = |number: u32| {
        client.send(&number.to_le_bytes()).unwrap();
        assert_eq!(client.recv().unwrap().body(), &number.to_le_bytes());
    };
    (0..warm_up).for_each(round);
    let (start, before) = (Instant::now(), background_switches());
    (0..rounds).for_each(round);
    let spent = (start.elapsed(), background_switches() - before);
    serving.join().unwrap();
    spent
}

/// A message between two threads that wait for each other's wakes no third one: the background threads of both
/// contexts only look in, by the clock.
#[test]
fn a_waiting_thread_needs_no_other() {
    let _alone = alone();
    let rounds = 5000;
    for _ in 0..3 {
        let (client, server) = (fabriq::context().unwrap(), fabriq::context().unwrap());
        let (time, switches) = pings(&client, &server, "tcp://127.0.0.1:*", rounds);
        let ticks = time.as_millis() as u64;
        eprintln!("{rounds} round trips in {time:?}: {switches} switches of both background threads");
        // One a millisecond and thread at most; each tick goes to sleep once and may be put off the core once.
        assert!(switches <= 2 * ticks + 50, "{switches} in {ticks} ms");
        assert!(switches < u64::from(rounds) / 2 || time > PATIENCE / 10, "{switches} in {rounds} rounds");
    }
}

/// The same when each message lets the receiver fall asleep first.
#[test]
fn a_sleeping_thread_is_woken_alone() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = Wire::peer(endpoint.as_str(), "PUSH");
    let rounds = 100;
    let pause = Duration::from_millis(20);
    let (start, before) = (Instant::now(), background_switches());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                std::thread::sleep(pause);
                wire.say(&frame(0, b"wake up")).unwrap();
            }
        });
        for _ in 0..rounds {
            assert_eq!(pull.recv().unwrap().body(), "wake up");
        }
    });
    let (ticks, switches) = (start.elapsed().as_millis() as u64, background_switches() - before);
    eprintln!("{rounds} messages in {ticks} ms: {switches} switches of the background thread");
    assert!(switches <= ticks + 50, "{switches} in {ticks} ms");
}

/// Idle is idle: with nothing to do, nobody wakes up at all.
#[test]
fn an_idle_context_sleeps() {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let _wires: Vec<_> = (0..20).map(|_| Wire::peer(endpoint.as_str(), "PUSH")).collect();
    // The last handshake is over when the background has gone to sleep after it.
    std::thread::sleep(Duration::from_millis(200));
    let before = background_switches();
    std::thread::sleep(Duration::from_secs(1));
    let switches = background_switches() - before;
    assert!(switches <= 5, "{switches} switches in an idle second");
}
