//! Memory that crosses the API: what the user owns and takes back by a free function, slots on loan, mapped files. Who
//! may call what from a free function. Tests no allocator.

mod wire;

use std::io::Write;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fabriq::{Context, Error, Frame, Message, Socket, SocketType};

use wire::{PATIENCE, socket};

const ENDPOINTS: [&str; 3] = ["inproc://memory", "tcp://127.0.0.1:*", "ipc://*"];

/// Memory of the test's own. Returned memory is overwritten at once, so that whoever still reads it sees that.
#[derive(Debug)]
struct Lent {
    start: NonNull<u8>,
    len: usize,
    returned: Arc<AtomicU32>,
}

// SAFETY: plain memory that belongs to whoever has the value.
unsafe impl Send for Lent {}
// SAFETY: as above; it is only used by value.
unsafe impl Sync for Lent {}

impl Lent {
    fn take_back(self) {
        // SAFETY: made by `lend` from a boxed slice of this length, and given back once: `self` is taken.
        let mut memory =
            unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.len)) };
        memory.fill(0xDD);
        self.returned.fetch_add(1, SeqCst);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A frame of memory that is given back by a free function, and how often that has been called.
fn lend(len: usize) -> (Frame, Arc<AtomicU32>) {
    lend_then(len, || {})
}

fn lend_then(len: usize, then: impl FnOnce() + Send + Sync + 'static) -> (Frame, Arc<AtomicU32>) {
    let returned = Arc::new(AtomicU32::new(0));
    let memory = Box::into_raw(pattern(len).into_boxed_slice());
    let start = NonNull::new(memory.cast()).unwrap();
    let lent = Lent { start, len, returned: returned.clone() };
    // SAFETY: the memory stays and is not written until `take_back`, which the free function calls.
    let frame = unsafe {
        Frame::from_raw(start.as_ptr(), len, move || {
            lent.take_back();
            then();
        })
    };
    (frame, returned)
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: never");
        std::thread::yield_now();
    }
}

fn pair(context: &Context, endpoint: &str, bound: SocketType, dialled: SocketType) -> (Socket, Socket) {
    let (bound, dialled) = (socket(context, bound), socket(context, dialled));
    dialled.connect(bound.bind(endpoint).unwrap().as_str()).unwrap();
    (bound, dialled)
}

#[test]
fn lent_memory_comes_back_once_after_the_peer_has_it() {
    for endpoint in ENDPOINTS {
        let context = fabriq::context().unwrap();
        let (pull, push) = pair(&context, endpoint, SocketType::Pull, SocketType::Push);
        let mut counts = Vec::new();
        for len in [1, 70, 71, 1000, 100_000, (4 << 20) + 1] {
            let (frame, returned) = lend(len);
            push.send(Message::from_parts([Frame::from("head"), frame.clone(), frame]).unwrap()).unwrap();
            let message = pull.recv().unwrap();
            for part in 1..3 {
                assert!(message.part(part).unwrap() == pattern(len).as_slice(), "{endpoint} {len}");
            }
            if endpoint.starts_with("inproc") {
                // The receiver has the memory itself, so it is not given back before the receiver drops it.
                assert_eq!(returned.load(SeqCst), 0);
                let part = message.part(2).unwrap().clone();
                drop(message);
                assert_eq!(returned.load(SeqCst), 0);
                assert!(part == pattern(len).as_slice());
                drop(part);
                assert_eq!(returned.load(SeqCst), 1);
            } else {
                drop(message);
                wait_until("the driver lets go of the memory", || returned.load(SeqCst) == 1);
            }
            counts.push(returned);
        }
        drop((pull, push, context));
        assert!(counts.iter().all(|returned| returned.load(SeqCst) == 1));
    }
}

/// As long as the kernel has not taken all of it, it is not given back: `send` has returned long before.
#[test]
fn lent_memory_is_kept_while_the_peer_does_not_read() {
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    let endpoint = push.bind("tcp://127.0.0.1:*").unwrap();
    let mut wire = wire::Wire::peer(endpoint.as_str(), "PULL");
    let (frame, returned) = lend(64 << 20);
    push.send(frame).unwrap();
    push.send("behind").unwrap();
    // The kernel takes a few MiB, in the background's time.
    wire::compute(Duration::from_millis(200));
    assert_eq!(returned.load(SeqCst), 0);
    assert!(wire.hear().unwrap().1 == pattern(64 << 20));
    assert_eq!(wire.hear().unwrap().1, b"behind");
    wait_until("the driver lets go of the memory", || returned.load(SeqCst) == 1);
}

/// One memory, many takers, and messages that nobody gets.
#[test]
fn lent_memory_comes_back_however_it_ends() {
    for wildcard in ENDPOINTS {
        let context = fabriq::context().unwrap();
        let publisher = socket(&context, SocketType::Pub);
        let endpoint = publisher.bind(wildcard).unwrap();
        let (nobody, returned) = lend(100_000);
        publisher.send(nobody).unwrap();
        assert_eq!(returned.load(SeqCst), 1, "without a subscriber it is dropped at once");
        let subscribers: Vec<_> = (0..3)
            .map(|_| {
                let subscriber = socket(&context, SocketType::Sub);
                subscriber.subscribe("").unwrap();
                subscriber.connect(endpoint.as_str()).unwrap();
                subscriber
            })
            .collect();
        for subscriber in &subscribers {
            while subscriber.recv_timeout(Duration::from_millis(5)).is_err() {
                publisher.send("are you there?").unwrap();
            }
        }
        let (everybody, returned) = lend(100_000);
        publisher.send(everybody).unwrap();
        for subscriber in &subscribers {
            while subscriber.recv().unwrap().body().len() != 100_000 {}
        }
        wait_until("all three had it", || returned.load(SeqCst) == 1);

        let router = socket(&context, SocketType::Router);
        router.set_options(|options| options.router_mandatory = true).unwrap();
        let (unroutable, returned) = lend(1000);
        let message = Message::from_parts([Frame::from("nobody"), unroutable]).unwrap();
        let refused = router.send(message).unwrap_err();
        assert_eq!((refused.error, returned.load(SeqCst)), (Error::Unroutable, 0));
        drop(refused.message);
        assert_eq!(returned.load(SeqCst), 1);

        // Queued, in flight and received, and then everything ends without linger.
        let (pull, push) = (socket(&context, SocketType::Pull), socket(&context, SocketType::Push));
        push.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
        let last = if wildcard.contains('*') { wildcard } else { "inproc://last" };
        push.connect(pull.bind(last).unwrap().as_str()).unwrap();
        let counts: Vec<_> = (0..500)
            .map(|_| {
                let (frame, returned) = lend(50_000);
                push.send(frame).unwrap();
                returned
            })
            .collect();
        pull.recv().unwrap();
        drop((push, pull, router, publisher, subscribers, context));
        wait_until("all is given back", || counts.iter().all(|returned| returned.load(SeqCst) > 0));
        assert!(counts.iter().all(|returned| returned.load(SeqCst) == 1));
    }
}

/// pyzmq's free function takes the application's lock and sends on an inproc socket. Here it also sends memory that
/// has a free function of its own that does so. A lock that is not recursive would show any nesting, and any call
/// under one of ours, as a deadlock.
#[test]
fn a_free_function_may_lock_and_send() {
    const SENDERS: usize = 3;
    const EACH: usize = 500;
    struct Application {
        lock: Mutex<()>,
        gone: Socket,
        reported: AtomicUsize,
    }
    impl Application {
        fn memory_is_free(self: &Arc<Self>, again: u32) {
            let held = self.lock.lock().unwrap();
            let frame = if again == 0 {
                Frame::from("gone")
            } else {
                let own = self.clone();
                lend_then(100, move || own.memory_is_free(again - 1)).0
            };
            self.gone.send(frame).unwrap();
            self.reported.fetch_add(1, SeqCst);
            drop(held);
        }
    }
    let (done, finished) = channel();
    std::thread::spawn(move || {
        for endpoint in ENDPOINTS {
            let context = fabriq::context().unwrap();
            let (collector, gone) = pair(&context, "inproc://gone", SocketType::Pull, SocketType::Push);
            gone.set_options(|options| options.send_hwm = 0).unwrap();
            collector.set_options(|options| options.receive_hwm = 0).unwrap();
            let lock = Mutex::new(());
            let application = Arc::new(Application { lock, gone, reported: AtomicUsize::new(0) });
            let (pull, push) = pair(&context, endpoint, SocketType::Pull, SocketType::Push);
            let push = Arc::new(push);
            let senders: Vec<_> = (0..SENDERS)
                .map(|who| {
                    let (application, push) = (application.clone(), push.clone());
                    std::thread::spawn(move || {
                        for number in 0..EACH {
                            // Copied at once, kept by reference, and somewhere in between.
                            let len = [10, 500, 20_000][(number + who) % 3];
                            let own = application.clone();
                            push.send(lend_then(len, move || own.memory_is_free(2)).0).unwrap();
                        }
                    })
                })
                .collect();
            for _ in 0..SENDERS * EACH {
                drop(pull.recv().unwrap());
            }
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            // Each tells of itself, of the memory that it told with, and of what that one told with.
            for _ in 0..3 * SENDERS * EACH {
                drop(collector.recv().unwrap());
            }
            assert_eq!(application.reported.load(SeqCst), 3 * SENDERS * EACH);
            drop((push, pull));
        }
        done.send(()).unwrap();
    });
    finished.recv_timeout(2 * PATIENCE).expect("no deadlock and no failure");
}

/// A mapped file is sent from where it lies, in ranges that respect no page.
#[test]
fn ranges_of_a_mapped_file() {
    const LEN: usize = 6 << 20;
    let path = std::env::temp_dir().join(format!("fabriq-memory-{}", std::process::id()));
    let mut file = std::fs::File::create_new(&path).unwrap();
    file.write_all(&pattern(LEN)).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // SAFETY: the file has no name any more, so nobody changes or shortens it.
    let map = Arc::new(unsafe { memmap2::Mmap::map(&file) }.unwrap());
    let whole = pattern(LEN);
    assert!(Frame::from_mmap(map.clone(), 0..LEN + 1).is_none());
    assert!(Frame::from_mmap(map.clone(), LEN + 1..LEN + 1).is_none());
    let ranges = [0..LEN, 0..0, LEN..LEN, 1..2, 4095..4097, 12_345..5_000_001, LEN - 1..LEN, 100..200];
    for endpoint in ENDPOINTS {
        let context = fabriq::context().unwrap();
        let (pull, push) = pair(&context, endpoint, SocketType::Pull, SocketType::Push);
        let frames = ranges.iter().map(|range| Frame::from_mmap(map.clone(), range.clone()).unwrap());
        push.send(Message::from_parts(frames).unwrap()).unwrap();
        let message = pull.recv().unwrap();
        assert_eq!(message.len(), ranges.len());
        for (part, range) in message.parts().zip(&ranges) {
            assert!(*part == whole[range.clone()], "{range:?}");
        }
        if endpoint.starts_with("inproc") {
            assert_eq!(message.part(5).unwrap().as_ptr(), map[12_345..].as_ptr(), "sent without a copy");
        }
        drop(message);
        wait_until("the map is let go", || Arc::strong_count(&map) == 1);
    }
}

/// Slots on loan: filled in place, sent, and lent again when the receiver has dropped them.
#[test]
fn loans_are_sent_and_lent_again() {
    for endpoint in ENDPOINTS {
        let context = fabriq::context().unwrap();
        let (pull, push) = pair(&context, endpoint, SocketType::Pull, SocketType::Push);
        for len in [0, 1, 70, 71, 256, 257, 65_536, 4 << 20, (4 << 20) + 1] {
            let mut loan = push.loan(len + 10).unwrap();
            assert_eq!(loan.len(), len + 10);
            loan[..len].copy_from_slice(&pattern(len));
            loan.truncate(len);
            let start = loan.as_ptr();
            push.send(loan).unwrap();
            let message = pull.recv().unwrap();
            assert!(message.body() == pattern(len).as_slice(), "{endpoint} {len}");
            if endpoint.starts_with("inproc") && len > 70 {
                assert_eq!(message.body().as_ptr(), start, "sent without a copy");
            }
        }
        // Far more in a row than the pool's budget of 256 MiB.
        for round in 0..2000u32 {
            let mut loan = push.loan(1 << 18).unwrap();
            loan[..4].copy_from_slice(&round.to_le_bytes());
            push.send(loan).unwrap();
            assert_eq!(pull.recv().unwrap().body()[..4], round.to_le_bytes());
        }
    }
}

/// Short messages are copied by both ends, and in-process by none; what is lent goes from where it is and lands where it stays.
#[test]
fn a_context_knows_what_its_transports_have_copied() {
    for endpoint in ENDPOINTS {
        let context = fabriq::context().unwrap();
        assert_eq!(context.copied_bytes(), 0);
        let (pull, push) = pair(&context, endpoint, SocketType::Pull, SocketType::Push);
        let copied = |count: u64, message: &dyn Fn() -> Message| {
            push.send(message()).unwrap();
            pull.recv().unwrap();
            let before = context.copied_bytes();
            for _ in 0..count {
                push.send(message()).unwrap();
                pull.recv().unwrap();
            }
            context.copied_bytes() - before
        };
        let short = copied(100, &|| pattern(100).into());
        let lent = copied(16, &|| context.loan(1 << 20).unwrap().into());
        if endpoint.starts_with("inproc") {
            assert_eq!((short, lent, context.copied_bytes()), (0, 0, 0));
            continue;
        }
        // A message that came in two reads has waited in between.
        assert!((20_000..24_000).contains(&short), "{endpoint}: {short} bytes to carry 10,000");
        assert!(lent <= 16 << 20 >> 4, "{endpoint}: {lent} bytes to carry 16 MiB");
        // Threads may ask, and links that are gone are not forgotten.
        let all = context.copied_bytes();
        drop((pull, push));
        assert!(context.wait_until_sent(Some(PATIENCE)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(context.copied_bytes() >= all));
            }
        });
    }
}

/// A receiver that keeps what it got holds slots of the pool; beyond the budget frames have memory of their own, and
/// traffic goes on.
#[test]
fn a_pinned_pool_stops_nobody() {
    for endpoint in ENDPOINTS {
        let context = fabriq::builder().pools(1 << 20, 1 << 20).build().unwrap();
        let (pull, push) = pair(&context, endpoint, SocketType::Pull, SocketType::Push);
        let kept: Vec<_> = (0..200u32)
            .map(|round| {
                let mut loan = push.loan(50_000).unwrap();
                loan[..4].copy_from_slice(&round.to_le_bytes());
                push.send(loan).unwrap();
                pull.recv().unwrap()
            })
            .collect();
        for (message, round) in kept.iter().zip(0u32..) {
            assert_eq!(message.body()[..4], round.to_le_bytes());
        }
    }
}
