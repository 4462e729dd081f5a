//! High-water marks of in-process links, and calls that may not wait. Over other transports the kernel or a device holds
//! messages beyond the marks, so only `patterns.rs` asks for them there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fabriq::{Context, Error, Message, Options, Socket, SocketType};

/// Sends after which a socket counts as one that never pushes back.
const ENDLESS: usize = 6_000;

fn socket(context: &Context, kind: SocketType, send_hwm: u32, receive_hwm: u32) -> Socket {
    let socket = context.socket(kind).unwrap();
    let marks = |options: &mut fabriq::Options| {
        (options.send_hwm, options.receive_hwm, options.linger) =
            (send_hwm, receive_hwm, Some(Duration::ZERO));
    };
    socket.set_options(marks).unwrap();
    socket
}

fn message(parts: usize) -> Message {
    Message::from_parts((0..parts).map(|_| "part")).unwrap()
}

/// Messages that a receiver of this mark may have taken without its sender's knowing of the room.
fn below_a_step(receive_hwm: u32) -> usize {
    receive_hwm.div_ceil(2).clamp(1, 64) as usize - 1
}

/// How many messages a socket takes before it would have to wait.
fn fill(socket: &Socket, parts: usize) -> usize {
    let mut taken = 0;
    while taken < ENDLESS {
        match socket.try_send(message(parts)) {
            Ok(()) => taken += 1,
            Err(refused) => {
                assert_eq!(refused.error, Error::Again);
                break;
            }
        }
    }
    taken
}

/// How many messages a socket gives before it would have to wait.
fn drain(socket: &Socket) -> usize {
    let mut given = 0;
    while socket.try_recv().is_ok() {
        given += 1;
    }
    given
}

#[test]
fn in_process_the_two_marks_add_up() {
    let context = fabriq::context().unwrap();
    for (at, (send_hwm, receive_hwm)) in [
        (1, 1),
        (2, 1),
        (1, 2),
        (5, 3),
        (100, 70),
        (1000, 1000),
        (1500, 3000),
        (3, 1),
        (30, 10),
        (1000, 10),
        (0, 1),
        (1, 0),
        (0, 0),
    ]
    .into_iter()
    .enumerate()
    {
        for parts in [1, 7] {
            for bind_first in [true, false] {
                let endpoint = format!("inproc://marks {at} {parts} {bind_first}");
                let push = socket(&context, SocketType::Push, send_hwm, 1);
                let pull = socket(&context, SocketType::Pull, 1, receive_hwm);
                if bind_first {
                    pull.bind(&endpoint).unwrap();
                    push.connect(&endpoint).unwrap();
                } else {
                    push.connect(&endpoint).unwrap();
                    pull.bind(&endpoint).unwrap();
                }
                let expected = match (send_hwm, receive_hwm) {
                    (0, _) | (_, 0) => ENDLESS,
                    (send, receive) => (send + receive) as usize,
                };
                let case =
                    format!("marks {send_hwm} and {receive_hwm}, {parts} parts, bind first: {bind_first}");
                assert_eq!(fill(&push, parts), expected, "{case}");
                assert_eq!(drain(&pull), expected, "{case}");
                // What was read makes room in steps of half the receiver's mark, as libzmq's pipes tell of it, and of 64 at most.
                let again = fill(&push, parts);
                let least = if expected == ENDLESS { ENDLESS } else { expected - below_a_step(receive_hwm) };
                assert!((least..=expected).contains(&again), "{case}, again: {again} of {expected}");
                assert_eq!(drain(&pull), again, "{case}, again");
            }
        }
    }
}

#[test]
fn what_was_queued_before_the_peer_came_counts() {
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push, 3, 1);
    push.connect("inproc://later").unwrap();
    assert_eq!(fill(&push, 1), 3, "nobody is there");
    let pull = socket(&context, SocketType::Pull, 1, 4);
    pull.bind("inproc://later").unwrap();
    assert_eq!(fill(&push, 1), 4);
    assert_eq!(drain(&pull), 7);
}

#[test]
fn a_mark_that_is_set_later_bounds_what_comes() {
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push, 10, 1);
    let pull = socket(&context, SocketType::Pull, 1, 0);
    pull.bind("inproc://lowered").unwrap();
    push.connect("inproc://lowered").unwrap();
    (0..100).for_each(|_| push.try_send(message(1)).unwrap());
    pull.set_options(|options| options.receive_hwm = 20).unwrap();
    // What was promised under the old mark may still come, but no more than that.
    let taken = 100 + fill(&push, 1);
    assert!(taken < ENDLESS / 2, "{taken}");
    assert_eq!(drain(&pull), taken);
    let (at_twenty, unseen) = (fill(&push, 1), below_a_step(20));
    assert!((30 - unseen..=30).contains(&at_twenty), "{at_twenty}");
    push.set_options(|options| options.send_hwm = 15).unwrap();
    assert_eq!(fill(&push, 1), 5);
    pull.set_options(|options| options.receive_hwm = 25).unwrap();
    let at_forty = at_twenty + 5 + fill(&push, 1);
    assert!((at_twenty + 5 + 5..=40).contains(&at_forty), "{at_twenty}, then {at_forty}");
    assert_eq!(drain(&pull), at_forty);
}

#[test]
fn a_call_that_may_not_wait_finds_what_was_sent_whoever_drives() {
    let context = fabriq::context().unwrap();
    let tick = |name: &str| {
        let (a, b) =
            (socket(&context, SocketType::Pair, 1000, 1000), socket(&context, SocketType::Pair, 1000, 1000));
        a.bind(name).unwrap();
        b.connect(name).unwrap();
        (a, b)
    };
    let ((ping, pong), (near, far)) = (tick("inproc://busy"), tick("inproc://asked"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Two threads that drive all the time.
        scope.spawn(|| {
            while pong.recv().is_ok_and(|message| message.body() != "end") {
                pong.send("pong").unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                ping.send("ping").unwrap();
                ping.recv().unwrap();
            }
            ping.send("end").unwrap();
        });
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..2000u32 {
                for number in 0..round % 50 {
                    near.try_send(&number.to_le_bytes()).expect("there is room");
                }
                for number in 0..round % 50 {
                    let came =
                        far.try_recv().unwrap_or_else(|error| panic!("round {round}, {number}: {error}"));
                    assert_eq!(came.body(), &number.to_le_bytes());
                }
                assert!(matches!(far.try_recv(), Err(Error::Again)));
                near.try_send("poll").unwrap();
                let mut items = [fabriq::PollItem::readable(&far)];
                assert_eq!(fabriq::poll(&mut items, Some(Duration::ZERO)), Ok(1), "round {round}");
                assert_eq!(far.recv_timeout(Duration::ZERO).unwrap().body(), "poll");
            }
        }));
        done.store(true, Ordering::Relaxed);
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// What a socket with marks in bytes takes of messages of `len` bytes in two parts, and all of it comes out in order.
fn weighed(send: Option<u64>, receive: Option<u64>, len: usize) -> usize {
    let context = fabriq::context().unwrap();
    let (push, pull) = (socket(&context, SocketType::Push, 0, 0), socket(&context, SocketType::Pull, 0, 0));
    for socket in [&push, &pull] {
        socket.set_options(|o| (o.send_hwm_bytes, o.receive_hwm_bytes) = (send, receive)).unwrap();
    }
    pull.bind("inproc://weighed").unwrap();
    push.connect("inproc://weighed").unwrap();
    let message = |number: usize| {
        let body = [&number.to_be_bytes()[..], &vec![7; len - 8]].concat();
        Message::from_parts([body[..len / 2].to_vec(), body[len / 2..].to_vec()]).unwrap()
    };
    let fill = |from: usize| {
        let taken = (from..ENDLESS).take_while(|number| push.try_send(message(*number)).is_ok()).count();
        from + taken
    };
    let taken = fill(0);
    for number in 0..taken {
        assert!(pull.try_recv().unwrap() == message(number), "{number} of {len} bytes");
    }
    // The room is there again; what a peer may send before it is told how much is so only once.
    if let Some(send) = send.filter(|_| taken < ENDLESS) {
        let again = fill(taken) - taken;
        assert!(again >= (send as usize / len).max(1), "{taken} at first, then {again}");
    }
    taken
}

/// A message ends even where its pipe is full, but no other one begins for that: not even where all have two parts, and a single
/// one before them has put the grants out of step.
#[test]
fn a_mark_in_bytes_holds_where_messages_have_several_parts() {
    const MARK: u64 = 100_000;
    const PART: usize = 10_000;
    let context = fabriq::context().unwrap();
    for scheme in ["inproc://parts", "tcp://127.0.0.1:0"] {
        for before in 0..=3 {
            let (push, pull) =
                (socket(&context, SocketType::Push, 0, 0), socket(&context, SocketType::Pull, 0, 0));
            for socket in [&push, &pull] {
                let both =
                    |o: &mut Options| (o.send_hwm_bytes, o.receive_hwm_bytes) = (Some(MARK), Some(MARK));
                socket.set_options(both).unwrap();
            }
            let endpoint = pull.bind(scheme).unwrap();
            push.connect(endpoint.as_str()).unwrap();
            for _ in 0..before {
                push.send(vec![1; PART]).unwrap();
            }
            // The system's own buffers, and what is granted before a length is known, are beside the marks.
            let most = (2 * MARK as usize + (16 << 20)) / (2 * PART);
            let two = || Message::from_parts([vec![2; PART], vec![3; PART]]).unwrap();
            let sent = (0..=most)
                .take_while(|_| push.send_timeout(two(), Duration::from_millis(50)).is_ok())
                .count();
            assert!(sent <= most, "{scheme}, {before} before: nothing ever pushed back");
            for _ in 0..before {
                assert_eq!(pull.recv().unwrap().len(), 1);
            }
            for number in 0..sent {
                assert!(pull.recv().unwrap() == two(), "{number}");
            }
            drop((push, pull));
        }
    }
}

#[test]
fn marks_in_bytes_count_messages_by_their_length() {
    // A grant may be given for as many messages as this before their length is known.
    const GRANT: usize = 16;
    for (len, send, receive) in
        [(1_000, 100_000, 50_000), (1_000, 5_000, 1), (64, 64_000, 6_400), (50_000, 100, 100)]
    {
        let taken = weighed(Some(send), Some(receive), len);
        let least = (send as usize / len).max(1);
        let most = least + (receive as usize / len).max(1) + 2 * GRANT;
        assert!((least..=most).contains(&taken), "{len} bytes, marks {send} and {receive}: {taken}");
    }
    assert_eq!(weighed(None, None, 1_000), ENDLESS);
    assert_eq!(weighed(Some(u64::MAX), Some(u64::MAX), 64), ENDLESS);
    // The mark in messages holds beside it.
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push, 10, 10);
    push.set_options(|options| options.send_hwm_bytes = Some(1 << 20)).unwrap();
    push.connect("inproc://nobody").unwrap();
    assert_eq!(fill(&push, 1), 10);
}
