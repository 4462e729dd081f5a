//! Descriptors to sleep on, where there are any.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::world::{Pair, wait_for};

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&at_once)).unwrap() == 1
}

/// An epoll around a descriptor.
fn around(fd: BorrowedFd<'_>) -> OwnedFd {
    let outer = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&outer, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
    outer
}

/// The engine sleeps in an epoll around the driver's, which is around this. The system nests them only so deep.
fn a_message_wakes(provider: &str) {
    let mut pair = Pair::new(provider);
    // Whatever it takes until both ends are at rest: connections of their own, for some providers.
    pair.push_left(|left| left.inject(b"first"));
    assert_eq!(pair.receive_right(), b"first");
    let driver = around(pair.right.queue.fd().unwrap());
    let engine = around(driver.as_fd());
    for round in 0..20_u8 {
        wait_for("rest", || {
            let is_busy = !pair.right.queue.arm().unwrap() || pair.right.poll();
            (!is_busy && !is_readable(engine.as_fd())).then_some(())
        });
        pair.push_left(|left| left.inject(&[round]));
        // The sender must be driven, too.
        wait_for("a wake-up", || {
            pair.left.poll();
            is_readable(engine.as_fd()).then_some(())
        });
        assert_eq!(pair.receive_right(), [round]);
    }
}

#[test]
fn a_message_wakes_on_tcp() {
    a_message_wakes("tcp");
}

#[test]
fn a_message_wakes_on_tcp_rxm() {
    a_message_wakes("tcp;ofi_rxm");
}

#[test]
fn a_message_wakes_on_net() {
    a_message_wakes("net");
}

#[test]
fn shm_has_no_descriptor_and_says_so() {
    let mut pair = Pair::new("shm");
    assert!(pair.left.queue.fd().is_none());
    assert!(!pair.left.queue.arm().unwrap());
}

#[test]
fn events_of_connections_wake() {
    let (mut right, _listener, address) = crate::world::listening("tcp");
    assert!(right.next_event().is_none() && right.events.as_mut().unwrap().arm().unwrap());
    // A plain connection, with nothing said on it: libfabric's own request is not needed to wake the listener.
    let _stream = std::net::TcpStream::connect(address).unwrap();
    let events = right.events.as_ref().unwrap();
    let fd = events.fd().unwrap();
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap(), 1);
}
