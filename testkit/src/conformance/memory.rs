//! Properties of memory: slots that come home, pools that are spent, allocations that are not made.

use std::time::Instant;

use transport_core::{Close, Completion, Frame, FrameMut, Grant, Part};

use super::follow::{Follower, message};
use super::links::exchange;
use crate::subject::Subject;
use crate::world::{POOL, World};

pub(super) fn pool_slots_return_to_zero(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    exchange(&mut world, pair, 10);
    // Slots are sent as well as received into; the world counts them all when it ends.
    for (from, to) in world.directions(pair) {
        let pool = world.hosts[from.host].pool.clone();
        for len in [100, 1000, 10_000, 100_000] {
            if !world.reliable() && len > 10_000 {
                continue;
            }
            let mut slot = pool.take(len).expect("a slot");
            slot.fill(7);
            world.send_parts(from, vec![Part::last(slot.freeze())]);
            if world.reliable() {
                let parts = world.receive(to, 1);
                assert!(parts[0].body.len() == len && parts[0].body.iter().all(|byte| *byte == 7));
            }
        }
        // Left in flight, in queues and in the inbox when the links end.
        for _ in 0..20 {
            let mut slot = pool.take(3000).expect("a slot");
            slot.fill(8);
            world.send_parts(from, vec![Part::last(slot.freeze())]);
        }
    }
}

pub(super) fn both_pools_pinned_still_progress(subject: &dyn Subject) {
    let mut world = World::with_pools(subject, &[POOL / 4, POOL / 4]);
    let (a, b) = world.pair();
    // Every slot of both hosts is in the hands of an application that waits for the other.
    let mut pinned = Vec::<FrameMut>::new();
    for host in &world.hosts {
        for len in [4 << 20, 1 << 20, 1 << 18, 1 << 16, 1 << 14, 1 << 12, 1 << 10, 1 << 8] {
            while let Some(slot) = host.pool.take(len) {
                pinned.push(slot);
            }
        }
    }
    assert!(!pinned.is_empty());
    for end in [a, b] {
        world.grant(end, Grant::Unlimited);
    }
    for seq in 0..4 {
        for len in [100, 5000, 300_000, 5 << 20] {
            let body = crate::world::body(seq, len);
            for end in [a, b] {
                world.send_parts(end, vec![Part::last(body.clone())]);
            }
            for end in [a, b] {
                let parts = world.receive(end, 1);
                assert!(parts[0].body == body, "{len} B arrived changed");
            }
        }
    }
    drop(pinned);
}

/// Messages counted, after as many to get warm.
const COUNTED: usize = 8192;
/// Messages for which one allocation is allowed: a block that holds many messages is no allocation per message.
const PER_ALLOCATION: usize = 32;
/// Messages under way at once.
const BURST: usize = 64;

pub(super) fn no_allocation_per_message_when_warm(subject: &dyn Subject) {
    for len in [32, 1000] {
        let mut world = World::new(subject, 2);
        let pair = world.pair();
        let (from, to) = world.directions(pair)[0];
        let body = Frame::from(vec![3; len]);
        let (mut sender, _) = world.take_driver(from.host);
        let (mut receiver, _) = world.take_driver(to.host);
        receiver.grant(to.link, Grant::Unlimited);
        let (mut now, real_time) = (world.now(), world.real_time());
        let mut out = Vec::with_capacity(1024);
        let mut run = |messages: usize| {
            let (mut posted, mut arrived, mut futile) = (0, 0, 0);
            while arrived < messages {
                let burst = BURST.min(messages - posted).min(BURST.saturating_sub(posted - arrived));
                for _ in 0..burst.min(sender.room(from.link)) {
                    sender.post_send(from.link, Part::last(body.clone())).expect("there is room");
                    posted += 1;
                }
                sender.flush();
                let before = arrived;
                sender.poll(now, &mut out, 256);
                out.clear();
                receiver.poll(now, &mut out, 256);
                arrived += out.drain(..).filter(|said| matches!(said, Completion::Received { .. })).count();
                futile = if arrived > before { 0 } else { futile + 1 };
                assert!(futile < 10_000_000, "{arrived} of {messages} arrived, and no more come");
                now = match [sender.deadline(), receiver.deadline()].into_iter().flatten().min() {
                    _ if real_time => Instant::now(),
                    // An invented clock goes on when nothing else does.
                    Some(deadline) if futile > 0 => now.max(deadline),
                    _ => now,
                };
            }
        };
        run(COUNTED);
        let counted = allocation_counter::measure(|| run(COUNTED));
        let allowed = COUNTED / PER_ALLOCATION;
        assert!(
            counted.count_total as usize <= allowed,
            "{} allocations for {COUNTED} warm messages of {len} B; {allowed} would be few",
            counted.count_total
        );
        drop((sender, receiver));
    }
}

pub(super) fn one_frame_may_be_under_way_many_times(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        world.grant(to, Grant::Unlimited);
        // The same memory under way many times at once, and freed exactly once, when the last Sent is in.
        let mut follower = Follower::default();
        let parts = message(0, 1, 50_000);
        for _ in 0..30 {
            world.send_parts(from, parts.clone());
        }
        if world.reliable() {
            for part in world.receive(to, 30) {
                follower.next = 0;
                follower.one(crate::world::Event::Part(part));
            }
            world.run_until("Sent", |world| world.link(from).all_sent());
        }
    }
}

/// Parts sent each way while their copies are counted.
const COPIED_PARTS: u64 = 30;
/// Bytes of copies beside the bodies: pieces that arrive in two reads, and what a middleware adds to a part.
const COPIED_SLACK: u64 = 16 << 10;

pub(super) fn copies_are_counted_once_and_never_forgotten(subject: &dyn Subject) {
    let copied = |world: &mut World| (0..2).map(|at| world.driver(at).copied_bytes()).sum::<u64>();
    let mut world = World::new(subject, 2);
    assert_eq!(copied(&mut world), 0, "nothing was carried yet");
    let (a, b) = world.pair();
    let mut carried = 0;
    for (from, to) in world.directions((a, b)) {
        world.grant(to, Grant::Unlimited);
        for seq in 0..COPIED_PARTS {
            let len = [5000, 10_000, 100_000][seq as usize % if world.reliable() { 3 } else { 2 }];
            world.send_parts(from, message(seq, 1, len));
            carried += len as u64;
            // One at a time: what piles up may be moved to make room, and counts again.
            if world.reliable() {
                world.receive(to, 1);
            } else {
                world.settle();
            }
        }
    }
    // Into a packet or a stream and out again; a packet that overtakes others waits in memory of its own.
    let most = carried * if world.reliable() { 2 } else { 3 } + COPIED_SLACK;
    let before = copied(&mut world);
    assert!(before <= most, "{before} bytes were copied to carry {carried}");
    world.close(a, Close::Abort);
    world.await_down(a);
    if !world.is_down(b) {
        world.close(b, Close::Abort);
        world.await_down(b);
    }
    let after = copied(&mut world);
    assert!(
        (before..=most).contains(&after),
        "{before} bytes were copied, and {after} once the link had ended"
    );
}
