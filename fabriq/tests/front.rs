//! What the API promises beside the patterns: futures that lose nothing, polls, allocation, zero-copy frames. Tests
//! behaviour, not speed.

mod sleeper;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Task, Wake, Waker};
use std::time::Duration;

use fabriq::{Context, Error, Frame, Message, PollItem, Socket, SocketType, poll};
use sleeper::{Count, fall_asleep};

const PATIENCE: Duration = Duration::from_secs(20);

fn pair(context: &Context, endpoint: &str) -> (Socket, Socket) {
    let (a, b) = (context.socket(SocketType::Pair).unwrap(), context.socket(SocketType::Pair).unwrap());
    let endpoint = a.bind(endpoint).unwrap();
    b.connect(endpoint.as_str()).unwrap();
    a.send("up").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().body(), "up");
    (a, b)
}

#[test]
fn a_cancelled_receive_loses_nothing_and_a_cancelled_send_sends_nothing() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut task = Task::from_waker(&waker);
    for _ in 0..100 {
        let mut receive = pin!(b.recv_async());
        assert!(receive.as_mut().poll(&mut task).is_pending());
    }
    drop(a.send_async("never polled"));
    a.send("kept").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().body(), "kept");
    assert!(matches!(b.try_recv(), Err(Error::Again)));
}

#[test]
fn a_message_is_received_in_the_place_of_another() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "inproc://in-place");
    let mut message = Message::from_parts(["of", "before"]).unwrap();
    for parts in [&["x", "y", "z"][..], &["single"], &["p", "q"]] {
        a.send(Message::from_parts(parts.iter().copied()).unwrap()).unwrap();
        b.recv_into(&mut message).unwrap();
        assert!(message.parts().eq(parts.iter().map(|part| part.as_bytes())), "{message:?}");
    }
    b.set_options(|options| options.receive_timeout = Some(Duration::ZERO)).unwrap();
    assert_eq!(b.recv_into(&mut message), Err(Error::Again));
}

#[test]
fn a_dropped_future_leaves_no_waker_behind() {
    let context = fabriq::context().unwrap();
    let (_a, b) = pair(&context, "tcp://127.0.0.1:*");
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let held = Arc::strong_count(&count);
    for _ in 0..10 {
        let mut receive = Box::pin(b.recv_async());
        fall_asleep(receive.as_mut(), &waker, &count);
        assert_eq!(Arc::strong_count(&count), held + 1);
        drop(receive);
        assert_eq!(Arc::strong_count(&count), held);
    }
}

/// A runtime may poll, end and drop a task within its waker, and an application may call anything from there.
struct Inline {
    socket: Arc<Socket>,
    future: std::sync::Mutex<Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>>,
    ended: AtomicU32,
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        // Every call there is, as far as it takes a lock.
        let _ = self.socket.set_options(|options| options.send_hwm += 1);
        let _ = (self.socket.options(), self.socket.is_readable(), self.socket.is_writable());
        let _ = (self.socket.try_recv(), self.socket.try_send("x"));
        drop(self.socket.monitor());
        self.socket.stop_monitor();
        let Some(mut future) = self.future.lock().unwrap().take() else { return };
        let waker = Waker::from(self.clone());
        match future.as_mut().poll(&mut Task::from_waker(&waker)) {
            std::task::Poll::Ready(()) => {
                drop(future);
                self.ended.fetch_add(1, Ordering::SeqCst);
            }
            std::task::Poll::Pending => *self.future.lock().unwrap() = Some(future),
        }
    }
}

impl Inline {
    /// Polled until it sleeps; from then on only its waker polls it.
    fn start(socket: &Arc<Socket>, future: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        let count = Arc::new(Count::default());
        let mut future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(future);
        fall_asleep(future.as_mut(), &Waker::from(count.clone()), &count);
        let task = Arc::new(Self {
            socket: socket.clone(),
            future: std::sync::Mutex::new(None),
            ended: AtomicU32::new(0),
        });
        let waker = Waker::from(task.clone());
        assert!(future.as_mut().poll(&mut Task::from_waker(&waker)).is_pending());
        *task.future.lock().unwrap() = Some(future);
        task
    }

    fn ends(&self) {
        let start = std::time::Instant::now();
        while self.ended.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < PATIENCE, "the task was not woken, or its waker hangs");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_waker_may_call_anything() {
    use futures_core::Stream;
    // What wakes: options that make room, a monitor that is stopped, a context that is shut down.
    let context = fabriq::context().unwrap();
    let push = Arc::new(context.socket(SocketType::Push).unwrap());
    push.connect("inproc://nobody is there yet").unwrap();
    push.set_options(|options| {
        options.send_hwm = 1;
        options.linger = Some(Duration::ZERO);
    })
    .unwrap();
    while push.try_send("x").is_ok() {}
    let sender = push.clone();
    let task = Inline::start(&push, async move { drop(sender.send_async("y").await) });
    push.set_options(|options| options.send_hwm = 100).unwrap();
    task.ends();

    let mut monitor = push.monitor().unwrap();
    let ended = std::future::poll_fn(move |cx| std::pin::Pin::new(&mut monitor).poll_next(cx));
    let task = Inline::start(&push, async move { drop(ended.await) });
    push.stop_monitor();
    task.ends();

    let pull = Arc::new(context.socket(SocketType::Pull).unwrap());
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let receiver = pull.clone();
    let task = Inline::start(&pull, async move { drop(receiver.recv_async().await) });
    context.shutdown();
    task.ends();
}

/// As in a `select`: both have the task's one waker, and the one that goes does not take the other's along.
#[test]
fn two_futures_of_one_task_are_woken_each() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut stays = Box::pin(b.recv_async());
    let mut goes = Box::pin(b.recv_async());
    fall_asleep(stays.as_mut(), &waker, &count);
    fall_asleep(goes.as_mut(), &waker, &count);
    drop(goes);
    let before = count.0.load(Ordering::SeqCst);
    a.send("come").unwrap();
    let start = std::time::Instant::now();
    while count.0.load(Ordering::SeqCst) == before {
        assert!(start.elapsed() < PATIENCE, "nobody woke the task");
        std::thread::yield_now();
    }
    let received = stays.as_mut().poll(&mut Task::from_waker(&waker));
    assert!(matches!(received, std::task::Poll::Ready(Ok(message)) if message.body() == "come"));
}

/// A duration beyond what the clock can say is for ever, and breaks nothing.
#[test]
fn every_duration_may_be_the_longest() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let long = |options: &mut fabriq::Options| {
        options.send_timeout = Some(Duration::MAX);
        options.receive_timeout = Some(Duration::MAX);
        options.linger = Some(Duration::MAX);
        options.handshake_timeout = Duration::MAX;
        options.reconnect_interval = Some(Duration::MAX);
        options.reconnect_interval_max = Duration::MAX;
        options.heartbeat_interval = Duration::MAX;
        options.heartbeat_timeout = Duration::MAX;
    };
    let dealer = context.socket(SocketType::Dealer).unwrap();
    for socket in [&a, &b, &dealer] {
        socket.set_options(long).unwrap();
    }
    let monitor = dealer.monitor().unwrap();
    // Nobody listens there, so that the dial fails and the next is put off.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    dealer.connect(&format!("tcp://{nobody}")).unwrap();
    while !matches!(monitor.next_timeout(Duration::MAX).unwrap().kind, fabriq::EventKind::ConnectRetried(_)) {
    }
    a.send("one").unwrap();
    assert_eq!(poll(&mut [PollItem::readable(&b)], Some(Duration::MAX)), Ok(1));
    assert_eq!(b.recv().unwrap().body(), "one");
    a.send_timeout("two", Duration::MAX).unwrap();
    assert_eq!(b.recv_timeout(Duration::MAX).unwrap().body(), "two");
    let readable = rustix::event::eventfd(1, rustix::event::EventfdFlags::empty()).unwrap();
    let fds = &mut [rustix::event::PollFd::new(&readable, rustix::event::PollFlags::IN)];
    assert_eq!(fabriq::poll_with_fds(&mut [], fds, Some(Duration::MAX)), Ok(1));
    let retry = context.socket(SocketType::Pair).unwrap();
    retry.set_options(long).unwrap();
    retry.bind("tcp://127.0.0.1:*").unwrap();
    drop((a, b, dealer, retry));
    assert!(context.wait_until_sent(Some(Duration::MAX)));
}

#[test]
fn a_topic_longer_than_a_publisher_takes_is_refused_at_once() {
    let context = fabriq::context().unwrap();
    let sub = context.socket(SocketType::Sub).unwrap();
    sub.subscribe([7; 64 << 10]).unwrap();
    let refused = sub.subscribe([7; (64 << 10) + 1]).unwrap_err();
    assert!(refused.to_string().contains("65536 bytes"), "{refused}");
}

/// The flags of the handler ask the kernel to restart calls; a receive ends all the same, so that a program can react.
/// Two threads wait, so that one of them drives and the other does not.
#[test]
fn a_signal_interrupts_a_receive_whoever_drives() {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: an empty handler touches nothing; the struct is filled as sigaction(2) asks.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
    }
    let context = fabriq::context().unwrap();
    let sockets = [(); 2].map(|()| context.socket(SocketType::Pull).unwrap());
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for socket in &sockets {
            let say = say.clone();
            scope.spawn(move || {
                // SAFETY: has no precondition.
                say.send(unsafe { libc::pthread_self() }).unwrap();
                assert_eq!(socket.recv(), Err(Error::Interrupted));
                // SAFETY: as above.
                say.send(unsafe { libc::pthread_self() }).unwrap();
            });
        }
        let mut waiting = vec![hear.recv().unwrap(), hear.recv().unwrap()];
        // A signal that comes before the sleep goes unnoticed, as with any call that sleeps.
        let start = std::time::Instant::now();
        while !waiting.is_empty() {
            assert!(start.elapsed() < PATIENCE, "a receive sleeps through signals");
            for thread in &waiting {
                // SAFETY: the thread runs: it has not said yet that its call returned, and the scope has not joined it.
                unsafe { libc::pthread_kill(*thread, libc::SIGUSR2) };
            }
            if let Ok(ended) = hear.recv_timeout(Duration::from_millis(10)) {
                waiting.retain(|thread| *thread != ended);
            }
        }
    });
}

#[test]
fn a_waker_runs_when_a_message_comes_and_nobody_drives() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for _ in 0..20 {
        let receiving = async {
            let message = b.recv_async().await.unwrap();
            assert_eq!(message.body(), "hello");
        };
        let sending = async {
            // Longer than any spin: the task sleeps when the message comes.
            tokio::time::sleep(Duration::from_millis(3)).await;
            a.send("hello").unwrap();
        };
        runtime.block_on(async { tokio::join!(receiving, sending) });
    }
}

#[test]
fn two_threads_may_wait_on_two_sockets_of_one_context() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let (c, d) = pair(&context, "inproc://two");
    std::thread::scope(|scope| {
        let echo = |from: Socket| {
            scope.spawn(move || {
                for _ in 0..300 {
                    let message = from.recv_timeout(PATIENCE).unwrap();
                    from.send(message).unwrap();
                }
            });
        };
        echo(b);
        echo(d);
        for round in 0..300u32 {
            a.send(&round.to_le_bytes()).unwrap();
            c.send(&round.to_le_bytes()).unwrap();
            assert_eq!(c.recv_timeout(PATIENCE).unwrap().body(), &round.to_le_bytes());
            assert_eq!(a.recv_timeout(PATIENCE).unwrap().body(), &round.to_le_bytes());
        }
    });
}

#[test]
fn many_threads_share_one_socket() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let (a, b) = (&a, &b);
    let total = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for sender in 0..4u8 {
            scope.spawn(move || {
                for _ in 0..500 {
                    a.send(Message::from_parts([[sender; 9], [sender; 9]].iter()).unwrap()).unwrap();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while total.fetch_add(1, Ordering::SeqCst) < 2000 {
                    let message = b.recv_timeout(PATIENCE).unwrap();
                    assert_eq!(message.part(0), message.part(1), "parts of two senders mixed");
                }
            });
        }
    });
}

#[test]
fn a_poll_sees_sockets_and_its_timeout() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let (c, d) = pair(&context, "inproc://polled");
    let mut items = [PollItem::readable(&b), PollItem::readable(&d)];
    assert_eq!(poll(&mut items, Some(Duration::from_millis(5))).unwrap(), 0);
    c.send("x").unwrap();
    assert_eq!(poll(&mut items, Some(PATIENCE)).unwrap(), 1);
    assert!(!items[0].ready.readable && items[1].ready.readable);
    a.send("y").unwrap();
    d.recv().unwrap();
    assert_eq!(poll(&mut items, Some(PATIENCE)).unwrap(), 1);
    assert!(items[0].ready.readable && !items[1].ready.readable);
}

fn allocations_per_message(endpoint: &str) -> f64 {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, endpoint);
    let round = || {
        for _ in 0..1000 {
            a.send(&[7; 64]).unwrap();
            assert_eq!(b.recv_timeout(PATIENCE).unwrap().body().len(), 64);
        }
    };
    round();
    round();
    // The first wait that sleeps makes what later ones use.
    assert_eq!(b.recv_timeout(Duration::from_millis(5)).unwrap_err(), Error::Again);
    allocation_counter::measure(round).count_total as f64 / 1000.0
}

/// On this thread, whichever way it waits: what the background does meanwhile is not counted.
#[test]
fn a_warm_message_allocates_nothing() {
    assert_eq!(allocations_per_message("inproc://warm"), 0.0);
    assert_eq!(allocations_per_message("tcp://127.0.0.1:*"), 0.0);
    assert_eq!(allocations_per_message("ipc://*"), 0.0);
}

#[test]
fn frames_of_every_origin_arrive() {
    let context = fabriq::context().unwrap();
    let (a, b) = pair(&context, "tcp://127.0.0.1:*");
    let freed = Arc::new(AtomicU32::new(0));
    let own: &'static [u8] = vec![5; 100_000].leak();
    let count = freed.clone();
    // SAFETY: the memory is leaked, so it lives for ever and nobody writes to it.
    let own = unsafe {
        Frame::from_raw(own.as_ptr(), own.len(), move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
    };
    let mut lent = context.loan(100_000).unwrap();
    lent.fill(6);
    let frames: Vec<(Frame, u8)> = vec![
        (own, 5),
        (lent.freeze(), 6),
        (Frame::from_static(&[7; 500]), 7),
        (vec![8; 100_000].into(), 8),
        (bytes::Bytes::from(vec![9; 100_000]).into(), 9),
    ];
    for (frame, value) in frames {
        a.send(frame).unwrap();
        let got = b.recv_timeout(PATIENCE).unwrap();
        assert!(got.body().iter().all(|byte| *byte == value) && got.body().len() >= 500);
    }
    assert_eq!(
        freed.load(Ordering::SeqCst),
        1,
        "the free function runs once, when the device has read the bytes"
    );
}

#[test]
fn errors_name_the_url_and_the_remedy() {
    let context = fabriq::context().unwrap();
    let socket = context.socket(SocketType::Push).unwrap();
    for (url, want) in [
        ("nonsense", "scheme://address"),
        ("tcp://", "no address"),
        ("gopher://x:1", "this build has no transport"),
        ("tcp://127.0.0.1:99999", "tcp://127.0.0.1:99999"),
        ("tcp://127.0.0.1", "tcp://127.0.0.1"),
    ] {
        for said in [socket.bind(url).unwrap_err().to_string(), socket.connect(url).unwrap_err().to_string()]
        {
            assert!(said.contains(want), "{url}: {said}");
        }
    }
    let first = socket.bind("tcp://127.0.0.1:*").unwrap();
    let said = context.socket(SocketType::Pull).unwrap().bind(first.as_str()).unwrap_err().to_string();
    assert!(said.contains("in use") && said.contains(first.as_str()), "{said}");
    assert!(matches!(socket.unbind("tcp://127.0.0.1:1"), Err(Error::NoSuchEndpoint(_))));
    // What comes later is told by the monitor.
    let monitor = socket.monitor().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, want) in [
        (format!("tcp://{nobody}"), "start the peer, or check the port"),
        ("tcp://no-such-host.invalid:5555".to_owned(), "check it with `getent hosts no-such-host.invalid`"),
    ] {
        socket.connect(&url).unwrap();
        let said = loop {
            match monitor.next_timeout(PATIENCE).expect("the dial fails").kind {
                fabriq::EventKind::ConnectFailed(error) => break error.to_string(),
                _ => continue,
            }
        };
        assert!(said.contains(&url) && said.contains(want), "{said}");
        socket.disconnect(&url).unwrap();
    }
}
