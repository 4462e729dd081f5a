//! What a closed socket still sends, and when it gives up. Tests no open socket.

mod wire;

use std::net::TcpListener;
use std::time::Duration;

use fabriq::SocketType;

use wire::{PATIENCE, Wire, socket};

/// The link breaks as the linger time ends, with much queued. Nothing of that is anyone's business any more.
#[test]
fn without_linger_nobody_dials_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    push.set_options(|options| {
        options.linger = Some(Duration::ZERO);
        options.send_buffer = Some(64 << 10);
    })
    .unwrap();
    push.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut wire = Wire::accept(&listener);
    wire.shake_hands("PULL");
    // More parts come back than one turn of the engine looks at.
    for _ in 0..900 {
        push.send(vec![0; 2000]).unwrap();
    }
    drop(push);
    assert!(context.wait_until_sent(Some(PATIENCE)), "something is left");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// A peer resets the link while everything is on its way out: what it had not taken goes to whoever listens next.
#[test]
fn a_link_that_breaks_while_it_drains_is_dialled_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = fabriq::context().unwrap();
    let push = socket(&context, SocketType::Push);
    push.set_options(|options| {
        options.linger = None;
        options.send_buffer = Some(64 << 10);
    })
    .unwrap();
    push.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut wire = Wire::accept(&listener);
    wire.shake_hands("PULL");
    // More than the system takes of a peer that does not read, and less than the driver does.
    for number in 0..5u8 {
        push.send(vec![number; 80_000]).unwrap();
    }
    drop(push);
    // Closing over bytes that were not read is a reset.
    drop(wire);
    let mut wire = Wire::accept(&listener);
    wire.shake_hands("PULL");
    let mut last = None;
    let end = loop {
        let (flags, body) = match wire.hear() {
            Ok(heard) => heard,
            Err(end) => break end,
        };
        assert_eq!((flags, body.len()), (0, 80_000));
        assert!(last < Some(body[0]), "{} after {last:?}", body[0]);
        last = Some(body[0]);
    };
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "this one was closed in good order");
    assert_eq!(last, Some(4));
    drop(wire);
    assert!(context.wait_until_sent(Some(PATIENCE)), "something is left");
}

/// As in libzmq, whose in-process peers share the pipe that the sender writes.
#[test]
fn what_was_sent_in_process_needs_no_linger() {
    let context = fabriq::context().unwrap();
    let (pull, push) = (socket(&context, SocketType::Pull), socket(&context, SocketType::Push));
    for (socket, mark) in [(&pull, 10), (&push, 20)] {
        socket
            .set_options(|options| {
                options.linger = Some(Duration::ZERO);
                (options.send_hwm, options.receive_hwm) = (mark, mark);
            })
            .unwrap();
    }
    pull.bind("inproc://drop-box").unwrap();
    push.connect("inproc://drop-box").unwrap();
    // Both marks together: more than the link takes before its peer reads.
    for number in 0..30u8 {
        push.send(vec![number]).unwrap();
    }
    drop(push);
    for number in 0..30u8 {
        assert_eq!(**pull.recv().unwrap().body(), [number]);
    }
    drop(pull);
    assert!(context.wait_until_sent(Some(PATIENCE)), "something is left");
}

/// Nobody is left to take it.
#[test]
fn what_was_sent_in_process_goes_with_its_receiver() {
    let context = fabriq::context().unwrap();
    let (pull, push) = (socket(&context, SocketType::Pull), socket(&context, SocketType::Push));
    pull.set_options(|options| options.receive_hwm = 1).unwrap();
    pull.bind("inproc://closed-box").unwrap();
    push.connect("inproc://closed-box").unwrap();
    for number in 0..30u8 {
        push.send(vec![number]).unwrap();
    }
    drop(push);
    drop(pull);
    assert!(context.wait_until_sent(Some(PATIENCE)), "something is left");
}

/// Each waits for the other to take what it sent, and neither is read any more.
#[test]
fn two_that_close_with_full_pipes_in_process_do_not_wait_for_each_other() {
    let context = fabriq::context().unwrap();
    let (one, other) = (socket(&context, SocketType::Pair), socket(&context, SocketType::Pair));
    for socket in [&one, &other] {
        socket.set_options(|options| (options.send_hwm, options.receive_hwm) = (4, 4)).unwrap();
    }
    one.bind("inproc://full").unwrap();
    other.connect("inproc://full").unwrap();
    for socket in [&one, &other] {
        while socket.try_send("x").is_ok() {}
    }
    drop((one, other));
    assert!(context.wait_until_sent(Some(PATIENCE)), "something is left");
}
