//! Pollers: who is reported, when, and what ends a wait. Measures nothing.

mod sleeper;
mod wire;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll, Waker};
use std::thread::scope;
use std::time::{Duration, Instant};

use fabriq::{Context, Error, Interest, Poller, Ready, Socket, SocketType};
use sleeper::{Count, fall_asleep};
use wire::PATIENCE;

/// Receivers, each with a sender that it is connected to in the process.
fn pairs(context: &Context, count: usize) -> (Vec<Socket>, Vec<Socket>) {
    (0..count)
        .map(|number| {
            let receiver = context.socket(SocketType::Pair).unwrap();
            let sender = context.socket(SocketType::Pair).unwrap();
            receiver.bind(&format!("inproc://pair-{number}")).unwrap();
            sender.connect(&format!("inproc://pair-{number}")).unwrap();
            (receiver, sender)
        })
        .unzip()
}

fn polled(context: &Context, sockets: &[Socket]) -> Poller {
    let mut poller = Poller::new(context);
    for (token, socket) in sockets.iter().enumerate() {
        poller.add(socket, token, Interest::READABLE).unwrap();
    }
    poller
}

const NOW: Option<Duration> = Some(Duration::ZERO);

fn readable(token: usize) -> Ready {
    Ready { token, ready: Interest::READABLE }
}

#[test]
fn whoever_has_a_message_is_reported_until_it_is_read() {
    let context = fabriq::context().unwrap();
    let (receivers, senders) = pairs(&context, 5);
    let (mut poller, mut ready) = (polled(&context, &receivers), Vec::new());
    assert_eq!(poller.len(), 5);
    assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    senders[3].send("a").unwrap();
    senders[1].send("b").unwrap();
    senders[1].send("c").unwrap();
    let mut both = BTreeSet::new();
    while both.len() < 2 {
        poller.wait(&mut ready, Some(PATIENCE)).unwrap();
        both.extend(ready.iter().map(|at| at.token));
    }
    assert_eq!(both, BTreeSet::from([1, 3]));
    assert_eq!(receivers[3].try_recv().unwrap().body(), "a");
    for body in ["b", "c"] {
        assert_eq!(poller.wait(&mut ready, NOW), Ok(1));
        assert_eq!(ready, [readable(1)]);
        assert_eq!(receivers[1].try_recv().unwrap().body(), body);
    }
    assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    assert_eq!(ready, []);
}

#[test]
fn a_message_that_was_there_before_is_reported() {
    let context = fabriq::context().unwrap();
    let (receivers, senders) = pairs(&context, 1);
    senders[0].send("early").unwrap();
    let (mut poller, mut ready) = (polled(&context, &receivers), Vec::new());
    assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
}

/// Two threads answer each other by way of pollers over 2,000 sockets, so that each wait begins asleep or nearly so.
#[test]
fn of_two_thousand_sockets_each_wakes_a_sleeping_wait() {
    const SOCKETS: usize = 2000;
    let context = fabriq::context().unwrap();
    let (receivers, senders) = pairs(&context, SOCKETS);
    scope(|scope| {
        scope.spawn(|| {
            for sender in &senders {
                sender.send("question").unwrap();
                assert_eq!(sender.recv_timeout(PATIENCE).unwrap().body(), "answer");
            }
        });
        let (mut poller, mut ready) = (polled(&context, &receivers), Vec::new());
        for (expected, receiver) in receivers.iter().enumerate() {
            assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
            assert_eq!(ready, [readable(expected)]);
            receiver.try_recv().unwrap();
            receiver.send("answer").unwrap();
        }
    });
}

#[test]
fn messages_over_tcp_from_many_threads_are_all_found() {
    const MESSAGES: usize = 2000;
    let context = fabriq::context().unwrap();
    let receivers: Vec<_> = (0..8).map(|_| context.socket(SocketType::Pull).unwrap()).collect();
    let endpoints: Vec<_> =
        receivers.iter().map(|socket| socket.bind("tcp://127.0.0.1:*").unwrap()).collect();
    scope(|scope| {
        for endpoint in &endpoints {
            let sender = context.socket(SocketType::Push).unwrap();
            sender.connect(endpoint.as_str()).unwrap();
            scope.spawn(move || {
                for _ in 0..MESSAGES {
                    sender.send("x").unwrap();
                }
            });
        }
        let (mut poller, mut ready, mut left) = (polled(&context, &receivers), Vec::new(), 8 * MESSAGES);
        while left > 0 {
            assert!(poller.wait(&mut ready, Some(PATIENCE)).unwrap() > 0, "{left} are missing");
            for at in &ready {
                // One of them only: what is left must be reported again.
                receivers[at.token].try_recv().unwrap();
                left -= 1;
            }
        }
        assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    });
}

#[test]
fn room_to_send_is_reported_where_it_was_asked_for() {
    let context = fabriq::context().unwrap();
    let push = context.socket(SocketType::Push).unwrap();
    push.set_options(|options| options.send_hwm = 1).unwrap();
    let (mut poller, mut ready) = (Poller::new(&context), Vec::new());
    poller.add(&push, 7, Interest::WRITABLE).unwrap();
    assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    let pull = context.socket(SocketType::Pull).unwrap();
    pull.set_options(|options| options.receive_hwm = 1).unwrap();
    let endpoint = pull.bind("inproc://room").unwrap();
    push.connect(endpoint.as_str()).unwrap();
    let writable = [Ready { token: 7, ready: Interest::WRITABLE }];
    assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
    assert_eq!(ready, writable);
    while push.try_send("x").is_ok() {}
    assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    scope(|scope| {
        scope.spawn(|| while pull.recv_timeout(Duration::from_millis(200)).is_ok() {});
        assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
        assert_eq!(ready, writable);
    });
    poller.modify(&push, Interest::READABLE).unwrap();
    assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    poller.modify(&push, Interest { readable: true, writable: true }).unwrap();
    assert_eq!(poller.wait(&mut ready, NOW), Ok(1));
    assert_eq!(ready, writable);
}

#[test]
fn who_is_removed_or_closed_is_not_reported() {
    let context = fabriq::context().unwrap();
    let (mut receivers, senders) = pairs(&context, 3);
    let (mut poller, mut ready) = (polled(&context, &receivers), Vec::new());
    for sender in &senders {
        sender.send("x").unwrap();
    }
    poller.remove(&receivers[0]).unwrap();
    drop(receivers.pop());
    let mut seen = BTreeSet::new();
    while seen.is_empty() {
        poller.wait(&mut ready, Some(PATIENCE)).unwrap();
        seen.extend(ready.iter().map(|at| at.token));
    }
    poller.wait(&mut ready, NOW).unwrap();
    seen.extend(ready.iter().map(|at| at.token));
    assert_eq!(seen, BTreeSet::from([1]));
    assert_eq!(poller.len(), 1);
    // And may come again, under another name.
    poller.add(&receivers[0], 9, Interest::READABLE).unwrap();
    assert_eq!(poller.wait(&mut ready, NOW), Ok(2));
    assert!(ready.contains(&readable(9)));
}

#[test]
fn a_socket_may_be_in_several_pollers() {
    let context = fabriq::context().unwrap();
    let (receivers, senders) = pairs(&context, 1);
    let mut pollers = [polled(&context, &receivers), polled(&context, &receivers)];
    let mut ready = Vec::new();
    for poller in &mut pollers {
        assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    }
    senders[0].send("x").unwrap();
    for poller in &mut pollers {
        assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
    }
    let [one, mut other] = pollers;
    drop(one);
    receivers[0].recv().unwrap();
    assert_eq!(other.wait(&mut ready, NOW), Ok(0));
    senders[0].send("x").unwrap();
    assert_eq!(other.wait(&mut ready, Some(PATIENCE)), Ok(1));
}

/// A REP and a REQ go from one state to the other by the application's own calls, of which the engine says nothing.
#[test]
fn a_rep_with_another_request_is_reported_once_it_has_answered() {
    let context = fabriq::context().unwrap();
    let [rep, a, b] =
        [SocketType::Rep, SocketType::Req, SocketType::Req].map(|kind| context.socket(kind).unwrap());
    let endpoint = rep.bind("tcp://127.0.0.1:*").unwrap();
    for client in [&a, &b] {
        client.connect(endpoint.as_str()).unwrap();
        client.send("question").unwrap();
    }
    let (mut poller, mut ready) = (Poller::new(&context), Vec::new());
    poller.add(&rep, 0, Interest::READABLE).unwrap();
    for _ in 0..2 {
        assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
        rep.try_recv().unwrap();
        assert_eq!(poller.wait(&mut ready, NOW), Ok(0), "it has to answer first");
        rep.send("answer").unwrap();
    }
    // And by a thread of its own, while this one sleeps.
    for client in [&a, &b] {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().body(), "answer");
        client.send("again").unwrap();
    }
    assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
    rep.try_recv().unwrap();
    scope(|scope| {
        let mut items = [fabriq::PollItem::readable(&rep)];
        let polled = scope.spawn(move || fabriq::poll(&mut items, Some(PATIENCE)).unwrap());
        let rep = &rep;
        let answer = scope.spawn(move || rep.send("answer").unwrap());
        assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
        assert_eq!(polled.join().unwrap(), 1);
        answer.join().unwrap();
    });
}

#[test]
fn a_req_is_reported_as_writable_again() {
    let context = fabriq::context().unwrap();
    let [rep, req] = [SocketType::Rep, SocketType::Req].map(|kind| context.socket(kind).unwrap());
    rep.bind("inproc://turns").unwrap();
    req.connect("inproc://turns").unwrap();
    let (mut poller, mut ready) = (Poller::new(&context), Vec::new());
    poller.add(&req, 0, Interest::WRITABLE).unwrap();
    for _ in 0..3 {
        assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1));
        req.send("question").unwrap();
        assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
        rep.recv_timeout(PATIENCE).unwrap();
        rep.send("answer").unwrap();
        req.recv_timeout(PATIENCE).unwrap();
    }
    req.send("question").unwrap();
    assert_eq!(poller.wait(&mut ready, NOW), Ok(0));
    req.set_options(|options| (options.req_relaxed, options.req_correlate) = (true, true)).unwrap();
    assert_eq!(poller.wait(&mut ready, Some(PATIENCE)), Ok(1), "it may ask again without an answer");
}

#[test]
fn mistakes_are_told() {
    let (context, other) = (fabriq::context().unwrap(), fabriq::context().unwrap());
    let (socket, stranger) =
        (context.socket(SocketType::Pull).unwrap(), other.socket(SocketType::Pull).unwrap());
    let mut poller = Poller::new(&context);
    assert!(poller.is_empty());
    for refused in [
        poller.add(&stranger, 0, Interest::READABLE),
        poller.remove(&socket),
        poller.modify(&socket, Interest::READABLE),
    ] {
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    poller.add(&socket, 0, Interest::READABLE).unwrap();
    assert!(matches!(poller.add(&socket, 0, Interest::READABLE), Err(Error::Invalid(_))));
    assert_eq!(poller.wait(&mut Vec::new(), Some(Duration::from_millis(1))), Ok(0));
}

#[test]
fn the_end_of_the_context_ends_a_wait() {
    let context = fabriq::context().unwrap();
    let (receivers, _senders) = pairs(&context, 3);
    let mut poller = polled(&context, &receivers);
    scope(|scope| {
        let wait = scope.spawn(move || poller.wait(&mut Vec::new(), Some(PATIENCE)));
        context.shutdown();
        assert_eq!(wait.join().unwrap(), Err(Error::Terminated));
    });
}

#[test]
fn a_task_that_waits_is_woken_and_leaves_no_waker_behind() {
    let context = fabriq::context().unwrap();
    let (receivers, senders) = pairs(&context, 100);
    let (mut poller, mut ready) = (polled(&context, &receivers), Vec::new());
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let held = Arc::strong_count(&count);
    {
        let mut wait = pin!(poller.wait_async(&mut ready));
        fall_asleep(wait.as_mut(), &waker, &count);
        assert_eq!(Arc::strong_count(&count), held + 1);
    }
    assert_eq!(Arc::strong_count(&count), held);
    {
        let mut wait = pin!(poller.wait_async(&mut ready));
        let before = fall_asleep(wait.as_mut(), &waker, &count);
        senders[42].send("x").unwrap();
        let start = Instant::now();
        while count.0.load(Ordering::SeqCst) == before {
            assert!(start.elapsed() < PATIENCE, "nobody wakes the task");
            std::thread::yield_now();
        }
        assert_eq!(wait.as_mut().poll(&mut Task::from_waker(&waker)), Poll::Ready(Ok(1)));
    }
    assert_eq!(ready, [readable(42)]);
}
