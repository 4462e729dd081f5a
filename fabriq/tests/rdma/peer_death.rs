//! kill -9 of the peer process in the middle of a rendezvous, on either side of it.

use std::collections::BTreeSet;

use fabriq::{Message, Socket, SocketType};

use super::device::{Device, endpoint};
use super::parcel::{SLOTS, context, pack, slots, unpack};
use super::peer::Peer;
use super::{downs, events_before, is_down, is_up, socket, wait_until};

const ROUNDS: usize = 3;

/// The survivor's frames are announced and being read. They are free again, and what was never announced goes to
/// whoever comes in the dead one's place.
#[test]
fn the_reader_is_killed() {
    let device = Device::find();
    let empty = device.resources();
    let context = context();
    let home = slots(&context);
    let dealer = socket(&context, SocketType::Dealer);
    let monitor = dealer.monitor().unwrap();
    let mut peer = Peer::taker(&endpoint());
    let url = peer.line();
    dealer.connect(&url).unwrap();
    events_before(&monitor, is_up);
    let mut number = 0;
    let mut send = || {
        dealer.send(pack(&context, number)).unwrap();
        number += 1;
        number - 1
    };
    for _ in 0..ROUNDS {
        let first = send();
        while peer.line() != first.to_string() {}
        wait_until("all slots are at home", || slots(&context) == home);
        let connected = device.connections();
        // While the peer's process stands still, as many are announced as go on the wire, and none is read.
        peer.stop();
        let numbers: Vec<u64> = (0..SLOTS).map(|_| send()).collect();
        peer.proceed();
        // The first is there; the next READs are under way.
        assert_eq!(peer.line(), numbers[0].to_string());
        peer.kill();
        let before = events_before(&monitor, is_down);
        assert!(!before.iter().any(is_up), "{before:?}");

        peer = Peer::taker(&url);
        assert_eq!(peer.line(), url);
        let between = events_before(&monitor, is_up);
        assert!(!between.iter().any(is_down), "one link, one end: {between:?}");
        let last = send();
        let mut before = first;
        while before != last {
            let received = peer.line().parse().unwrap();
            assert!(received > before, "{received} after {before}");
            before = received;
        }
        wait_until("all slots are at home", || slots(&context) == home);
        device.wait_for_connections(&connected);
    }
    peer.kill();
    events_before(&monitor, is_down);
    dealer.set_options(|options| options.linger = Some(std::time::Duration::ZERO)).unwrap();
    drop((dealer, context));
    assert_eq!(downs(&monitor), 0);
    device.wait_for(&empty);
}

/// The survivor reads, and what it reads is gone. The slots that it read into are free again.
#[test]
fn the_one_who_is_read_from_is_killed() {
    let device = Device::find();
    let empty = device.resources();
    let context = context();
    let dealer = socket(&context, SocketType::Dealer);
    let monitor = dealer.monitor().unwrap();
    let url = dealer.bind(&endpoint()).unwrap();
    let ask = || (0..SLOTS).for_each(|_| dealer.send("one more").unwrap());
    let fresh = || {
        let peer = Peer::giver(url.as_str());
        events_before(&monitor, is_up);
        peer
    };
    let mut peer = fresh();
    ask();
    let home = hold_all(&dealer);
    for _ in 0..ROUNDS {
        let connected = device.connections();
        ask();
        assert_eq!(unpack(&dealer.recv().unwrap()), SLOTS as u64);
        peer.kill();
        events_before(&monitor, is_down);
        // What had come whole before.
        while let Ok(message) = dealer.try_recv() {
            assert!((SLOTS as u64..2 * SLOTS as u64).contains(&unpack(&message)));
        }
        peer = fresh();
        assert_eq!(downs(&monitor), 0, "one link, one end");
        ask();
        assert_eq!(hold_all(&dealer), home, "a slot is missing");
        device.wait_for_connections(&connected);
    }
    peer.kill();
    events_before(&monitor, is_down);
    drop((dealer, context));
    assert_eq!(downs(&monitor), 0);
    device.wait_for(&empty);
}

/// Receives as many as the pool has slots, holds them all at once, and tells where they were.
fn hold_all(dealer: &Socket) -> BTreeSet<usize> {
    let held: Vec<Message> = (0..SLOTS).map(|_| dealer.recv().unwrap()).collect();
    for (message, number) in held.iter().zip(0..) {
        assert_eq!(unpack(message), number);
    }
    held.iter().map(|message| message.body().as_ptr().addr()).collect()
}
