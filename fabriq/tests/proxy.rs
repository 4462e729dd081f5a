//! Proxies between every pair of types and between transports: what they carry, count, push back and survive. Tests
//! behaviour, not speed.

mod sleeper;
mod wire;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll, Waker};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

use fabriq::{
    Context, Error, EventKind, Frame, Message, Proxy, ProxyStatistics, ProxyTraffic, Socket, SocketType,
};

use sleeper::{Count, fall_asleep};
use wire::{PATIENCE, Wire, socket};

/// The endpoints of both sides.
const BETWEEN: [[&str; 2]; 3] = [
    ["tcp://127.0.0.1:*", "inproc://backend"],
    ["inproc://frontend", "tcp://127.0.0.1:*"],
    ["tcp://127.0.0.1:*", "tcp://127.0.0.1:*"],
];

/// A bound socket and where it listens.
fn bound(context: &Context, kind: SocketType, endpoint: &str) -> (Socket, String) {
    let socket = socket(context, kind);
    let endpoint = socket.bind(endpoint).unwrap();
    (socket, endpoint.to_string())
}

fn connected(context: &Context, kind: SocketType, endpoint: &str) -> Socket {
    let socket = socket(context, kind);
    socket.connect(endpoint).unwrap();
    socket
}

fn message(parts: &[&str]) -> Message {
    Message::from_parts(parts.iter().copied()).unwrap()
}

/// A proxy in a thread, ended by a command; a test that fails ends its context instead, or would wait for the thread.
struct Run<'scope> {
    context: Context,
    control: Socket,
    thread: Option<ScopedJoinHandle<'scope, (Result<(), Error>, ProxyStatistics)>>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.context.shutdown();
        }
    }
}

impl<'scope> Run<'scope> {
    fn start<'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        context: &Context,
        [frontend, backend]: [&'env Socket; 2],
        capture: Option<&'env Socket>,
    ) -> Self {
        let inner = socket(context, SocketType::Pair);
        let endpoint = format!("inproc://control of {:p}", frontend);
        inner.bind(&endpoint).unwrap();
        let control = connected(context, SocketType::Pair, &endpoint);
        let thread = scope.spawn(move || {
            let proxy = Proxy::new(frontend, backend).with_control(&inner);
            let proxy = match capture {
                Some(capture) => proxy.with_capture(capture),
                None => proxy,
            };
            (proxy.run(), proxy.statistics())
        });
        Self { context: context.clone(), control, thread: Some(thread) }
    }

    /// The eight numbers.
    fn statistics(&self) -> [u64; 8] {
        self.control.send("STATISTICS").unwrap();
        let answer = self.control.recv().unwrap();
        assert_eq!(answer.len(), 8, "{answer:?}");
        std::array::from_fn(|at| {
            let part = answer.part(at).unwrap();
            u64::from_ne_bytes(part[..].try_into().unwrap())
        })
    }

    /// Asks for statistics until they are as they should be.
    fn wait_for(&self, is_so: impl Fn(&[u64; 8]) -> bool) -> [u64; 8] {
        let start = Instant::now();
        loop {
            let numbers = self.statistics();
            if is_so(&numbers) {
                return numbers;
            }
            assert!(start.elapsed() < PATIENCE, "{numbers:?}");
        }
    }

    fn terminate(mut self) -> ProxyStatistics {
        self.control.send("TERMINATE").unwrap();
        let (result, statistics) = self.thread.take().unwrap().join().unwrap();
        result.unwrap();
        statistics
    }
}

fn numbers(statistics: &ProxyStatistics) -> [u64; 8] {
    let of = |side: &ProxyTraffic| {
        [side.messages_received, side.bytes_received, side.messages_sent, side.bytes_sent]
    };
    [of(&statistics.frontend), of(&statistics.backend)].concat().try_into().unwrap()
}

#[test]
fn a_queue_between_clients_and_workers_and_its_exact_statistics() {
    const CLIENTS: u64 = 3;
    const EACH: u64 = 200;
    for endpoints in BETWEEN {
        let context = fabriq::context().unwrap();
        let (router, for_clients) = bound(&context, SocketType::Router, endpoints[0]);
        let (dealer, for_workers) = bound(&context, SocketType::Dealer, endpoints[1]);
        std::thread::scope(|scope| {
            let run = Run::start(scope, &context, [&router, &dealer], None);
            for _ in 0..2 {
                let worker = connected(&context, SocketType::Rep, &for_workers);
                scope.spawn(move || {
                    // Until the context ends.
                    while let Ok(request) = worker.recv() {
                        worker
                            .send(message(&["done", std::str::from_utf8(request.body()).unwrap()]))
                            .unwrap();
                    }
                });
            }
            let clients = (0..CLIENTS).map(|client| {
                let req = connected(&context, SocketType::Req, &for_clients);
                scope.spawn(move || {
                    for number in 100..100 + EACH {
                        let text = format!("{client} {number}");
                        req.send(text.as_str()).unwrap();
                        assert_eq!(req.recv().unwrap(), message(&["done", &text]));
                    }
                })
            });
            let clients: Vec<_> = clients.collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            // A routing id of 5 bytes, an empty part, and 5 bytes; `done` on the way back.
            let (count, asked, answered) = (CLIENTS * EACH, CLIENTS * EACH * 10, CLIENTS * EACH * 14);
            let expected = [count, asked, count, answered, count, answered, count, asked];
            assert_eq!(run.statistics(), expected, "{endpoints:?}");
            assert_eq!(numbers(&run.terminate()), expected);
            context.shutdown();
        });
    }
}

#[test]
fn a_forwarder_between_publishers_and_subscribers() {
    for endpoints in BETWEEN {
        let context = fabriq::context().unwrap();
        let (xsub, for_publishers) = bound(&context, SocketType::Xsub, endpoints[0]);
        let (xpub, for_subscribers) = bound(&context, SocketType::Xpub, endpoints[1]);
        let publisher = connected(&context, SocketType::Xpub, &for_publishers);
        let subscriber = connected(&context, SocketType::Sub, &for_subscribers);
        std::thread::scope(|scope| {
            let run = Run::start(scope, &context, [&xsub, &xpub], None);
            subscriber.subscribe("a").unwrap();
            assert_eq!(publisher.recv().unwrap().body(), "\u{1}a");
            for round in 0..100 {
                publisher.send("b, which nobody wants").unwrap();
                publisher.send(message(&["a", "in parts", &round.to_string()])).unwrap();
                assert_eq!(subscriber.recv().unwrap(), message(&["a", "in parts", &round.to_string()]));
            }
            subscriber.unsubscribe("a").unwrap();
            assert_eq!(publisher.recv().unwrap().body(), "\0a");
            let bytes = 100 * 9 + 10 + 90 * 2;
            assert_eq!(numbers(&run.terminate()), [100, bytes, 2, 4, 2, 4, 100, bytes], "{endpoints:?}");
        });
    }
}

#[test]
fn a_streamer_keeps_order_and_parts_of_any_length() {
    for endpoints in BETWEEN {
        let context = fabriq::context().unwrap();
        let (pull, from) = bound(&context, SocketType::Pull, endpoints[0]);
        let (push, to) = bound(&context, SocketType::Push, endpoints[1]);
        let source = connected(&context, SocketType::Push, &from);
        let sink = connected(&context, SocketType::Pull, &to);
        let body = |number: u32| match number % 1000 {
            0 => vec![number as u8; 1 << 20],
            _ => number.to_le_bytes().to_vec(),
        };
        std::thread::scope(|scope| {
            let run = Run::start(scope, &context, [&pull, &push], None);
            scope.spawn(|| {
                for number in 0..20_000 {
                    let mut message = Message::new(body(number));
                    if number % 3 == 0 {
                        message.push_back("second");
                    }
                    source.send(message).unwrap();
                }
            });
            for number in 0..20_000 {
                let message = sink.recv().unwrap();
                assert!(message.part(0).unwrap() == body(number).as_slice(), "{number}");
                assert_eq!(message.len(), if number % 3 == 0 { 2 } else { 1 });
            }
            let statistics = run.terminate();
            assert_eq!(statistics.frontend.messages_received, 20_000);
            assert_eq!(statistics.backend.messages_sent, 20_000);
            assert_eq!(statistics.backend.bytes_sent, 20 * (1 << 20) + 19_980 * 4 + 6667 * 6);
        });
    }
}

#[test]
fn bodies_are_passed_on_and_not_copied() {
    let context = fabriq::context().unwrap();
    let (pull, from) = bound(&context, SocketType::Pull, "inproc://in");
    let (push, to) = bound(&context, SocketType::Push, "inproc://out");
    let source = connected(&context, SocketType::Push, &from);
    let sink = connected(&context, SocketType::Pull, &to);
    std::thread::scope(|scope| {
        let run = Run::start(scope, &context, [&pull, &push], None);
        let body = Frame::from(vec![7; 100_000]);
        source.send(body.clone()).unwrap();
        assert_eq!(sink.recv().unwrap().body().as_ptr(), body.as_ptr());
        run.terminate();
    });
}

fn with_marks(socket: Socket, mark: u32) -> Socket {
    socket.set_options(|options| (options.send_hwm, options.receive_hwm) = (mark, mark)).unwrap();
    socket
}

/// In-process, where the two marks of a pipe add up to 20 and nothing else holds messages.
#[test]
fn nothing_is_taken_that_the_other_side_has_no_room_for() {
    let context = fabriq::context().unwrap();
    let ten = |kind| with_marks(socket(&context, kind), 10);
    let (pull, push) = (ten(SocketType::Pull), ten(SocketType::Push));
    let (source, sink) = (ten(SocketType::Push), ten(SocketType::Pull));
    pull.bind("inproc://in").unwrap();
    push.bind("inproc://out").unwrap();
    source.connect("inproc://in").unwrap();
    std::thread::scope(|scope| {
        let run = Run::start(scope, &context, [&pull, &push], None);
        // With nobody behind it, the proxy takes nothing.
        (0..20).for_each(|_| source.send("x").unwrap());
        assert_eq!(source.try_send("x").unwrap_err().error, Error::Again);
        assert_eq!(run.statistics(), [0; 8]);
        sink.connect("inproc://out").unwrap();
        (0..20).for_each(|_| source.send("x").unwrap());
        assert_eq!(run.wait_for(|numbers| numbers[0] >= 20), [20, 20, 0, 0, 0, 0, 20, 20]);
        assert_eq!(source.try_send("x").unwrap_err().error, Error::Again);
        for _ in 0..40 {
            sink.recv().unwrap();
        }
        assert_eq!(numbers(&run.terminate()), [40, 40, 0, 0, 0, 0, 40, 40]);
    });
}

#[test]
fn a_capture_socket_gets_everything_and_holds_the_proxy_when_it_is_full() {
    let context = fabriq::context().unwrap();
    let (router, for_clients) = bound(&context, SocketType::Router, "tcp://127.0.0.1:*");
    let (dealer, for_workers) = bound(&context, SocketType::Dealer, "inproc://workers");
    let capture = with_marks(socket(&context, SocketType::Push), 1);
    capture.bind("inproc://capture").unwrap();
    let client = connected(&context, SocketType::Req, &for_clients);
    let worker = connected(&context, SocketType::Rep, &for_workers);
    std::thread::scope(|scope| {
        let run = Run::start(scope, &context, [&router, &dealer], Some(&capture));
        client.send("question").unwrap();
        // Until somebody listens to the capture socket.
        let spy = with_marks(socket(&context, SocketType::Pull), 1);
        assert_eq!(run.statistics(), [0; 8]);
        spy.connect("inproc://capture").unwrap();
        let request = worker.recv().unwrap();
        assert_eq!(request.body(), "question");
        worker.send("answer").unwrap();
        assert_eq!(client.recv().unwrap().body(), "answer");
        for text in ["question", "answer"] {
            let seen = spy.recv().unwrap();
            assert_eq!((seen.len(), seen.body() == text), (3, true), "{seen:?}");
        }
        run.terminate();
    });
}

#[test]
fn a_worker_that_dies_and_a_client_that_goes_leave_the_others_alone() {
    for mandatory in [false, true] {
        let context = fabriq::context().unwrap();
        let (router, for_clients) = bound(&context, SocketType::Router, "tcp://127.0.0.1:*");
        let (dealer, for_workers) = bound(&context, SocketType::Dealer, "tcp://127.0.0.1:*");
        router.set_options(|options| options.router_mandatory = mandatory).unwrap();
        let events = router.monitor().unwrap();
        let bystander = connected(&context, SocketType::Dealer, &for_clients);
        wire::events_until(&events, |kind| *kind == EventKind::HandshakeSucceeded);
        std::thread::scope(|scope| {
            let run = Run::start(scope, &context, [&router, &dealer], None);
            // Both die as processes do: without a word.
            let mut client = Wire::peer(&for_clients, "REQ");
            let mut worker = Wire::peer(&for_workers, "REP");
            client.say(&[wire::frame(wire::MORE, b""), wire::frame(0, b"lost")].concat()).unwrap();
            let envelope: Vec<_> = (0..3).map(|_| worker.hear().unwrap()).collect();
            assert_eq!(envelope[2].1, b"lost");
            drop(client);
            wire::events_until(&events, |kind| matches!(kind, EventKind::Disconnected(..)));
            for to in [&envelope[0].1[..], b"nobody"] {
                worker.say(&wire::frame(wire::MORE, to)).unwrap();
                worker.say(&[wire::frame(wire::MORE, b""), wire::frame(0, b"too late")].concat()).unwrap();
            }
            // And what no ROUTER can send to anyone.
            worker.say(&wire::frame(0, b"no envelope")).unwrap();
            let seen = run.wait_for(|numbers| numbers[4] == 3);
            assert_eq!((seen[0], seen[6]), (1, 1));
            // A ROUTER that is not told otherwise takes what it cannot deliver.
            assert_eq!(seen[2], if mandatory { 0 } else { 2 });
            drop(worker);
            let worker = connected(&context, SocketType::Rep, &for_workers);
            let client = connected(&context, SocketType::Req, &for_clients);
            client.send("still there?").unwrap();
            assert_eq!(worker.recv().unwrap().body(), "still there?");
            worker.send("yes").unwrap();
            assert_eq!(client.recv().unwrap().body(), "yes");
            let statistics = run.terminate();
            assert_eq!(statistics.backend.messages_received, 4);
            drop(bystander);
        });
    }
}

#[test]
fn a_control_socket_pauses_resumes_counts_and_terminates() {
    let context = fabriq::context().unwrap();
    let (pull, from) = bound(&context, SocketType::Pull, "inproc://in");
    let (push, to) = bound(&context, SocketType::Push, "tcp://127.0.0.1:*");
    let (source, sink) =
        (connected(&context, SocketType::Push, &from), connected(&context, SocketType::Pull, &to));
    // A REP, which answers everything.
    let (rep, for_control) = bound(&context, SocketType::Rep, "tcp://127.0.0.1:*");
    let control = connected(&context, SocketType::Req, &for_control);
    let say = |command: &str| {
        control.send(command).unwrap();
        control.recv().unwrap()
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| Proxy::new(&pull, &push).with_control(&rep).run());
        source.send("one").unwrap();
        assert_eq!(sink.recv().unwrap().body(), "one");
        assert_eq!(say("PAUSE").body(), "");
        source.send("two").unwrap();
        let counted = say("STATISTICS");
        assert_eq!((counted.len(), counted.part(0).unwrap()), (8, &Frame::from(1u64.to_ne_bytes().to_vec())));
        assert!(say("DANCE").body().starts_with(b"unknown command"));
        assert!(matches!(sink.try_recv(), Err(Error::Again)));
        assert_eq!(say("RESUME").body(), "");
        assert_eq!(sink.recv().unwrap().body(), "two");
        assert_eq!(say("TERMINATE").body(), "");
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn one_socket_on_both_sides_is_an_echo() {
    let context = fabriq::context().unwrap();
    let (rep, endpoint) = bound(&context, SocketType::Rep, "tcp://127.0.0.1:*");
    let client = connected(&context, SocketType::Req, &endpoint);
    std::thread::scope(|scope| {
        let run = Run::start(scope, &context, [&rep, &rep], None);
        for text in ["one", "two"] {
            client.send(text).unwrap();
            assert_eq!(client.recv().unwrap().body(), text);
        }
        run.terminate();
    });
}

#[test]
fn a_proxy_ends_with_its_context() {
    let context = fabriq::context().unwrap();
    let sockets = || {
        let sockets = [SocketType::Router, SocketType::Dealer].map(|kind| socket(&context, kind));
        sockets.iter().for_each(|socket| drop(socket.bind("tcp://127.0.0.1:*").unwrap()));
        sockets
    };
    let blocking = sockets();
    let asynchronous = sockets();
    std::thread::scope(|scope| {
        let one = scope.spawn(|| fabriq::proxy(&blocking[0], &blocking[1], None));
        let other = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(fabriq::proxy_async(&asynchronous[0], &asynchronous[1], None))
        });
        context.shutdown();
        assert_eq!(one.join().unwrap(), Err(Error::Terminated));
        assert_eq!(other.join().unwrap(), Err(Error::Terminated));
    });
    assert_eq!(fabriq::proxy(&blocking[0], &blocking[1], None), Err(Error::Terminated));
}

#[test]
fn what_cannot_be_a_proxy_is_refused() {
    let (one, other) = (fabriq::context().unwrap(), fabriq::context().unwrap());
    let (pull, push) = (socket(&one, SocketType::Pull), socket(&one, SocketType::Push));
    let foreign = socket(&other, SocketType::Push);
    assert!(matches!(fabriq::proxy(&pull, &foreign, None), Err(Error::Invalid(_))));
    assert!(matches!(fabriq::proxy(&pull, &push, Some(&pull)), Err(Error::Invalid(_))));
}

#[test]
fn an_asynchronous_proxy_beside_its_clients_in_one_thread() {
    let context = fabriq::context().unwrap();
    let (router, for_clients) = bound(&context, SocketType::Router, "tcp://127.0.0.1:*");
    let (dealer, for_workers) = bound(&context, SocketType::Dealer, "inproc://workers");
    let worker = connected(&context, SocketType::Rep, &for_workers);
    let client = connected(&context, SocketType::Req, &for_clients);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let proxy = Proxy::new(&router, &dealer);
    runtime.block_on(async {
        let talk = async {
            for round in 0..200 {
                client.send_async(format!("request {round}")).await.unwrap();
                let request = worker.recv_async().await.unwrap();
                worker.send_async(request).await.unwrap();
                assert_eq!(client.recv_async().await.unwrap().body(), format!("request {round}").as_str());
            }
        };
        tokio::select! {
            ended = proxy.run_async() => panic!("{ended:?}"),
            done = tokio::time::timeout(PATIENCE, talk) => done.unwrap(),
        }
    });
    assert_eq!(proxy.statistics().frontend.messages_sent, 200);
}

/// Driven by hand, so that every poll is seen.
#[test]
fn a_proxy_sleeps_while_nothing_can_move_and_a_cancelled_one_loses_nothing() {
    let context = fabriq::context().unwrap();
    let (pull, push) = (socket(&context, SocketType::Pull), socket(&context, SocketType::Push));
    let (source, sink) = (socket(&context, SocketType::Push), socket(&context, SocketType::Pull));
    pull.bind("inproc://in").unwrap();
    push.bind("inproc://out").unwrap();
    source.connect("inproc://in").unwrap();
    source.send("waits").unwrap();
    let proxy = Proxy::new(&pull, &push);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut task = Task::from_waker(&waker);
    {
        let mut run = pin!(proxy.run_async());
        let start = Instant::now();
        let asleep = fall_asleep(run.as_mut(), &waker, &count);
        sink.connect("inproc://out").unwrap();
        while count.0.load(Ordering::SeqCst) == asleep {
            assert!(start.elapsed() < PATIENCE, "nobody woke it");
            std::thread::yield_now();
        }
        assert_eq!(run.as_mut().poll(&mut task), Poll::Pending);
    }
    assert_eq!(sink.recv().unwrap().body(), "waits");
    source.send("goes on").unwrap();
    let mut run = pin!(proxy.run_async());
    assert_eq!(run.as_mut().poll(&mut task), Poll::Pending);
    assert_eq!(sink.recv().unwrap().body(), "goes on");
    assert_eq!(proxy.statistics().backend.messages_sent, 2);
}

/// On the proxy's thread, whichever way it waits. What is left are segments of pipes that end in other threads, each for
/// many messages.
#[test]
fn a_warm_proxy_allocates_nothing_per_message() {
    for endpoints in BETWEEN {
        let context = fabriq::context().unwrap();
        let (pull, from) = bound(&context, SocketType::Pull, endpoints[0]);
        let (push, to) = bound(&context, SocketType::Push, endpoints[1]);
        let source = connected(&context, SocketType::Push, &from);
        let sink = connected(&context, SocketType::Pull, &to);
        let (inner, for_control) = bound(&context, SocketType::Pair, "inproc://control");
        let control = connected(&context, SocketType::Pair, &for_control);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let proxy = Proxy::new(&pull, &push).with_control(&inner);
                proxy.run().unwrap();
                allocation_counter::measure(|| proxy.run().unwrap()).count_total
            });
            for _ in ["to get warm", "measured"] {
                // Both what comes one by one and what comes in bursts.
                for _ in 0..5_000 {
                    source.send("some bytes").unwrap();
                    sink.recv().unwrap();
                }
                for _ in 0..50 {
                    (0..100).for_each(|_| source.send("some bytes").unwrap());
                    (0..100).for_each(|_| drop(sink.recv().unwrap()));
                }
                control.send("TERMINATE").unwrap();
            }
            let counted = thread.join().unwrap();
            assert!(counted < 2_500, "{counted} allocations for 10000 messages, {endpoints:?}");
        });
    }
}
