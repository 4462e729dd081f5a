//! Tests of the exports as a C program calls them: misuse is an errno, parts make messages, descriptors tell of change.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use crate::context::*;
use crate::errno::{EFSM, ENOCOMPATPROTO, ETERM, zmq_errno};
use crate::extras::*;
use crate::message::*;
use crate::monitor::zmq_socket_monitor;
use crate::options::*;
use crate::poll::{Item, zmq_poll};
use crate::proxy::*;
use crate::socket::*;
use crate::timers::*;

const PAIR: c_int = 0;
const REQ: c_int = 3;
const REP: c_int = 4;
const ROUTER: c_int = 6;
const PULL: c_int = 7;
const PUSH: c_int = 8;

fn failed(result: c_int) -> c_int {
    assert_eq!(result, -1);
    zmq_errno()
}

fn send(socket: *mut c_void, text: &str, flags: c_int) -> c_int {
    // SAFETY: a string and its length.
    unsafe { zmq_send(socket, text.as_ptr().cast(), text.len(), flags) }
}

fn recv(socket: *mut c_void, flags: c_int) -> Result<String, c_int> {
    let mut buffer = [0u8; 256];
    // SAFETY: a buffer and its length.
    let len = unsafe { zmq_recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    if len < 0 { Err(zmq_errno()) } else { Ok(String::from_utf8_lossy(&buffer[..len as usize]).into_owned()) }
}

fn number(socket: *mut c_void, option: c_int) -> c_int {
    let (mut value, mut len) = (0 as c_int, size_of::<c_int>());
    // SAFETY: an int and its size.
    assert_eq!(unsafe { zmq_getsockopt(socket, option, (&raw mut value).cast(), &mut len) }, 0);
    value
}

fn set(socket: *mut c_void, option: c_int, value: c_int) -> c_int {
    // SAFETY: an int and its size.
    unsafe { zmq_setsockopt(socket, option, (&raw const value).cast(), size_of::<c_int>()) }
}

fn bind(socket: *mut c_void, address: &CStr) -> c_int {
    // SAFETY: a C string.
    unsafe { zmq_bind(socket, address.as_ptr()) }
}

fn connect(socket: *mut c_void, address: &CStr) -> c_int {
    // SAFETY: a C string.
    unsafe { zmq_connect(socket, address.as_ptr()) }
}

fn close(context: *mut c_void, sockets: &[*mut c_void]) {
    sockets.iter().for_each(|&socket| assert_eq!(zmq_close(socket), 0));
    assert_eq!(zmq_ctx_term(context), 0);
}

#[test]
fn handles_that_are_none_are_refused_everywhere() {
    let context = zmq_ctx_new();
    let closed = zmq_socket(context, PAIR);
    assert_eq!(zmq_close(closed), 0);
    let mut message = RawMsg::zeroed();
    for socket in [null_mut(), closed, context, std::ptr::without_provenance_mut(1)] {
        let mut item = Item::of(std::ptr::without_provenance_mut(socket.addr().max(1)));
        // SAFETY: what these calls must refuse is the handle; the rest is valid.
        unsafe {
            zmq_msg_init(&mut message);
            for result in [
                zmq_close(socket),
                bind(socket, c"inproc://x"),
                connect(socket, c"inproc://x"),
                zmq_unbind(socket, c"inproc://x".as_ptr()),
                zmq_disconnect(socket, c"inproc://x".as_ptr()),
                send(socket, "x", 0),
                zmq_send_const(socket, null(), 0, 0),
                zmq_recv(socket, null_mut(), 0, 0),
                zmq_msg_send(&mut message, socket, 0),
                zmq_msg_recv(&mut message, socket, 0),
                set(socket, 17, 0),
                zmq_getsockopt(socket, 17, null_mut(), null_mut()),
                zmq_socket_monitor(socket, c"inproc://m".as_ptr(), 0xffff),
                zmq_poll(&mut item, 1, 0),
            ] {
                assert_eq!(failed(result), libc::ENOTSOCK);
            }
        }
        let proxied = failed(zmq_proxy(socket, closed, null_mut()));
        assert!(proxied == libc::EFAULT || proxied == libc::ENOTSOCK);
    }
    assert_eq!(zmq_ctx_term(context), 0);
    for context in [null_mut(), context] {
        assert!(zmq_socket(context, PAIR).is_null());
        for result in [zmq_ctx_term(context), zmq_ctx_shutdown(context), zmq_ctx_set(context, 1, 1)] {
            assert_eq!(failed(result), libc::EFAULT);
        }
        assert_eq!(failed(zmq_timers_cancel(context, 1)), libc::EFAULT);
        assert_eq!(failed(zmq_atomic_counter_inc(context)), libc::EFAULT);
        zmq_threadclose(context);
    }
}

#[test]
fn parts_are_one_message_and_the_first_one_decides() {
    const DONTWAIT: c_int = 1;
    const SNDMORE: c_int = 2;
    let context = zmq_ctx_new();
    let (push, pull) = (zmq_socket(context, PUSH), zmq_socket(context, PULL));
    assert_eq!(failed(send(push, "a", SNDMORE | DONTWAIT)), libc::EAGAIN);
    assert_eq!(failed(send(pull, "a", SNDMORE)), libc::ENOTSUP);
    assert_eq!(bind(pull, c"inproc://parts"), 0);
    assert_eq!(connect(push, c"inproc://parts"), 0);
    assert_eq!((send(push, "a", SNDMORE), send(push, "bc", SNDMORE)), (1, 2));
    assert_eq!(recv(pull, DONTWAIT).unwrap_err(), libc::EAGAIN);
    assert_eq!(send(push, "", 0), 0);
    for (part, more) in [("a", 1), ("bc", 1), ("", 0)] {
        assert_eq!(recv(pull, 0).unwrap(), part);
        assert_eq!(number(pull, 13), more);
    }
    let router = zmq_socket(context, ROUTER);
    assert_eq!(set(router, 33, 1), 0);
    assert_eq!(failed(send(router, "nobody", SNDMORE)), libc::EHOSTUNREACH);
    let (req, rep) = (zmq_socket(context, REQ), zmq_socket(context, REP));
    assert_eq!(bind(rep, c"inproc://turns"), 0);
    assert_eq!(connect(req, c"inproc://turns"), 0);
    assert_eq!(failed(send(rep, "x", SNDMORE)), EFSM);
    assert_eq!((send(req, "q", SNDMORE), send(req, "r", 0)), (1, 1));
    assert_eq!(recv(rep, 0).unwrap(), "q");
    assert_eq!(failed(send(rep, "too early", 0)), EFSM);
    assert_eq!(recv(rep, 0).unwrap(), "r");
    assert_eq!(send(rep, "answer", 0), 6);
    close(context, &[push, pull, router, req, rep]);
}

#[test]
fn the_descriptor_tells_of_change_and_poll_mixes_it_with_sockets() {
    let context = zmq_ctx_new();
    let (one, other) = (zmq_socket(context, PAIR), zmq_socket(context, PAIR));
    assert_eq!(bind(one, c"tcp://127.0.0.1:*"), 0);
    let (mut url, mut len) = ([0u8; 64], 64);
    // SAFETY: a buffer and its length; the option ends with NUL.
    unsafe {
        assert_eq!(zmq_getsockopt(one, 32, url.as_mut_ptr().cast(), &mut len), 0);
        assert_eq!(zmq_connect(other, url.as_ptr().cast()), 0);
    }
    assert_eq!(send(other, "hello", 0), 5);
    assert_eq!(recv(one, 0).unwrap(), "hello");
    let fd = number(one, 14);
    for round in 0..20 {
        assert_eq!(number(one, 15) & 1, 0, "nothing to read in round {round}");
        assert_eq!(send(other, "x", 0), 1);
        // The descriptor may be readable without a message, but never the other way round.
        let start = Instant::now();
        while number(one, 15) & 1 == 0 {
            assert!(start.elapsed() < Duration::from_secs(10));
            let mut item = Item::file(fd, 1);
            // SAFETY: one item.
            assert!(unsafe { zmq_poll(&mut item, 1, 10_000) } >= 0);
        }
        let mut items = [Item::of(one), Item::file(fd, 1)];
        // SAFETY: two items.
        assert!(unsafe { zmq_poll(items.as_mut_ptr(), 2, 10_000) } >= 1);
        assert_eq!(recv(one, 1).unwrap(), "x");
    }
    close(context, &[one, other]);
}

#[test]
fn errors_of_addresses_and_the_end_of_a_context() {
    let context = zmq_ctx_new();
    let socket = zmq_socket(context, PULL);
    for (address, code) in [
        (c"nothing", libc::EINVAL),
        (c"tcp://127.0.0.1:99999", libc::EINVAL),
        (c"nosuch://x", libc::EPROTONOSUPPORT),
    ] {
        assert_eq!(failed(bind(socket, address)), code, "{address:?}");
    }
    // SAFETY: a C string.
    unsafe { assert_eq!(failed(zmq_unbind(socket, c"tcp://127.0.0.1:5".as_ptr())), libc::ENOENT) };
    assert_eq!(failed(zmq_ctx_set(context, 2, 0)), libc::EINVAL);
    let waiting = socket.expose_provenance();
    let ending = context.expose_provenance();
    let reader = std::thread::spawn(move || {
        let socket = std::ptr::with_exposed_provenance_mut(waiting);
        assert_eq!(recv(socket, 0).unwrap_err(), ETERM);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(zmq_close(socket), 0);
    });
    std::thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    assert_eq!(zmq_ctx_term(std::ptr::with_exposed_provenance_mut(ending)), 0);
    assert!(start.elapsed() >= Duration::from_millis(40), "it waits for the socket to be closed");
    reader.join().unwrap();
    assert_ne!(ENOCOMPATPROTO, EFSM);
}
