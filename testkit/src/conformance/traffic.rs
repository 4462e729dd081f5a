//! Properties of parts on their way: order, wholeness, room, credit, gaps. Tests no endings.

use std::collections::VecDeque;
use std::time::Duration;

use transport_core::limits::COMMANDS_MAX;
use transport_core::{Frame, Grant, INLINE_MAX, Part, RefusedReason};

use super::follow::{Follower, follow_until, message, message_of};
use crate::subject::Subject;
use crate::world::{BUDGET, End, Event, World, body};

/// Bytes of the parts that fill a pipe: large enough that kernel buffers fill in thousands, not millions.
const FILLER: usize = 8192;

/// Bytes of parts of which a few dozen fit into any buffer.
const SMALL: usize = 1000;

/// Completions by which one poll may exceed its budget when parts are of [`SMALL`] bytes: one packet's worth.
const PACKET_SLACK: usize = 16;

fn pair_with_grants(world: &mut World) -> (End, End) {
    let (a, b) = world.pair();
    for (_, to) in world.directions((a, b)) {
        world.grant(to, Grant::Unlimited);
    }
    (a, b)
}

pub(super) fn sent_is_cumulative_and_complete(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = pair_with_grants(&mut world);
    for (from, _) in world.directions(pair) {
        let before = world.link(from).posted;
        for seq in 0..200 {
            world.send_parts(from, message(seq, seq % 4 + 1, 50 * (seq as usize + 1)));
            if seq % 10 == 0 && world.duplex() {
                world.send_parts(from, vec![Part::command("counts as well")]);
            }
        }
        let posted = world.link(from).posted - before;
        assert_eq!(posted, 500 + if world.duplex() { 20 } else { 0 });
        // The world checks that it never goes back and never says too much.
        world.run_until("Sent to cover everything", |world| world.link(from).all_sent());
    }
}

pub(super) fn fifo_per_link(subject: &dyn Subject) {
    const COUNT: u64 = 3000;
    let mut world = World::new(subject, 2);
    let pair = pair_with_grants(&mut world);
    let directions = world.directions(pair);
    let make = |seq: u64| message(seq, 1, [8, 70, 71, 300, 5000][seq as usize % 5]);
    let mut waiting: Vec<VecDeque<_>> =
        directions.iter().map(|_| (0..COUNT).flat_map(make).collect()).collect();
    let mut followers: Vec<_> = directions.iter().map(|_| Follower::default()).collect();
    // Both ways at once, each as fast as it goes.
    while waiting.iter().any(|parts| !parts.is_empty()) {
        for ((from, to), (parts, follower)) in directions.iter().zip(waiting.iter_mut().zip(&mut followers)) {
            world.send_some(*from, parts);
            follower.all(world.take_events(*to));
        }
        world.step();
    }
    for ((_, to), follower) in directions.iter().zip(&mut followers) {
        if world.reliable() {
            follow_until(&mut world, *to, follower, |follower| follower.whole == COUNT);
        } else {
            world.settle();
            follower.all(world.take_events(*to));
            assert!(follower.whole > 0);
        }
    }
}

pub(super) fn multipart_is_atomic(subject: &dyn Subject) {
    const COUNT: u64 = 300;
    let mut world = World::new(subject, 2);
    let pair = pair_with_grants(&mut world);
    for (from, to) in world.directions(pair) {
        let mut follower = Follower::default();
        for seq in 0..COUNT {
            world.send_parts(from, message(seq, [1, 2, 3, 17, 200][seq as usize % 5], 8 + seq as usize));
            if seq % 7 == 0 && world.duplex() {
                world.send_parts(from, vec![Part::command("between messages")]);
            }
            follower.all(world.take_events(to));
        }
        if world.reliable() {
            follow_until(&mut world, to, &mut follower, |follower| follower.whole == COUNT);
            assert_eq!((follower.whole, follower.inside), (COUNT, 0));
            assert_eq!(follower.commands, if world.duplex() { COUNT.div_ceil(7) } else { 0 });
        } else {
            world.settle();
            follower.all(world.take_events(to));
            assert!(follower.whole > 0);
            assert_eq!(follower.inside, 0, "the beginning of a message arrived, and never its end");
        }
    }
}

pub(super) fn empty_and_huge_messages(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = pair_with_grants(&mut world);
    let largest = if world.reliable() { 64 << 20 } else { 64 << 10 };
    let edges = [INLINE_MAX, 255, 256, 1 << 12, 1 << 16, 1 << 20, 4 << 20, 16 << 20, 64 << 20];
    let lens: Vec<usize> = [0, 1, 8]
        .into_iter()
        .chain(edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]))
        .filter(|len| *len <= largest)
        .collect();
    for (from, to) in world.directions(pair) {
        for len in &lens {
            // Without pushback a lost part is no fault of the length; it is sent again until it comes.
            for attempt in 0.. {
                assert!(attempt == 0 || !world.reliable());
                assert!(attempt < 20, "a part of {len} B never arrives");
                world.send_parts(from, vec![Part::last(body(*len as u64, *len))]);
                if !world.reliable() {
                    world.settle();
                    if world.link(to).inbox.iter().all(|event| matches!(event, Event::Gap(_))) {
                        continue;
                    }
                }
                let parts = world.receive(to, 1);
                assert!(parts[0].body == body(*len as u64, *len), "{len} B arrived as {:?}", parts[0]);
                assert!(!parts[0].flags.more() && !parts[0].flags.command());
                break;
            }
        }
        if world.reliable() {
            // Empty parts are parts.
            world.send(from, &[b"", b"", b"x", b""]);
            let parts = world.receive(to, 4);
            assert_eq!(parts.iter().map(|part| part.body.len()).collect::<Vec<_>>(), [0, 0, 1, 0]);
            assert_eq!(
                parts.iter().map(|part| part.flags.more()).collect::<Vec<_>>(),
                [true, true, true, false]
            );
        }
    }
}

pub(super) fn a_refused_send_returns_its_message(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        world.fill(from, |seq| message(seq, 1, FILLER).remove(0));
        // An empty, an inline, a shared and a long one, with flags.
        let shared = Frame::from(vec![5; 1000]);
        for part in
            [Part::more(""), Part::last("short"), Part::more(shared.clone()), Part::last(body(7, 1 << 20))]
        {
            let refused = world.post(from, part.clone()).expect_err("the pipe is full");
            assert_eq!(refused.reason, RefusedReason::Full);
            assert_eq!((&refused.part.body, refused.part.flags), (&part.body, part.flags));
            // The very memory, not a copy of it.
            assert!(part.body.len() <= INLINE_MAX || part.body.as_ptr() == refused.part.body.as_ptr());
        }
        world.grant(to, Grant::Unlimited);
        world.run_until("Writable", |world| !world.link(from).starved());
        world.settle();
        world.take(to);
    }
}

pub(super) fn writable_follows_refusal(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        let taken = world.fill(from, |seq| message(seq, 1, FILLER).remove(0));
        let before = world.link(from).writables;
        world.settle();
        assert_eq!(world.link(from).writables, before, "Writable without room");
        world.grant(to, Grant::Unlimited);
        world.run_until("Writable", |world| world.link(from).writables > before);
        assert!(world.room(from) > 0, "Writable, and no room");
        let mut follower = Follower::default();
        follow_until(&mut world, to, &mut follower, |follower| follower.whole == taken);
        world.settle();
        assert_eq!(world.link(from).writables, before + 1, "one refusal, one Writable");
        world.grant(to, Grant::Limited(0));
    }
}

pub(super) fn writable_follows_a_room_of_zero(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        // Nobody is ever refused here: the caller looks first.
        let mut seq = 0;
        loop {
            while world.room(from) > 0 {
                world.post(from, message(seq, 1, FILLER).remove(0)).expect("there is room");
                seq += 1;
            }
            let before = world.link(from).writables;
            world.flush(from.host);
            world.settle();
            if world.link(from).writables == before {
                break;
            }
            assert!(world.room(from) > 0, "Writable, and no room");
        }
        let before = world.link(from).writables;
        world.grant(to, Grant::Unlimited);
        world.run_until("Writable", |world| world.link(from).writables > before);
        assert!(world.room(from) > 0);
        let mut follower = Follower::default();
        follow_until(&mut world, to, &mut follower, |follower| follower.whole == seq);
    }
}

pub(super) fn grant_bounds_delivery(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        for seq in 0..60 {
            world.send_parts(from, message(seq, 1, 100));
        }
        world.settle();
        // The world itself forbids more than the grant; here it must not be less either.
        let mut seen = 0;
        let mut expect = |world: &mut World, count: u64| {
            world.settle();
            let parts = world.take(to);
            assert_eq!(
                parts.iter().map(message_of).collect::<Vec<_>>(),
                (seen..seen + count).collect::<Vec<_>>()
            );
            seen += count;
        };
        expect(&mut world, 0);
        world.grant(to, Grant::Limited(1));
        expect(&mut world, 1);
        world.grant(to, Grant::Limited(7));
        expect(&mut world, 7);
        // A grant sets; it does not add.
        world.grant(to, Grant::Limited(9));
        world.grant(to, Grant::Limited(4));
        expect(&mut world, 4);
        world.grant(to, Grant::Unlimited);
        world.grant(to, Grant::Limited(0));
        expect(&mut world, 0);
        world.grant(to, Grant::Limited(1000));
        expect(&mut world, 48);
    }
}

pub(super) fn a_grant_smaller_than_a_multipart_does_not_deadlock(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        let mut follower = Follower::default();
        // Small parts that share a packet, and parts beyond any packet and any room.
        for (seq, len) in [10, 3000, 200_000].into_iter().enumerate() {
            let mut parts: VecDeque<_> = message(seq as u64, 50, len).into();
            while follower.whole <= seq as u64 {
                world.send_some(from, &mut parts);
                // What the session does: top up by a little, just to go on with what has begun.
                world.grant(to, Grant::Limited(2));
                let before = world.link(to).arrived;
                world.run_until("the message to go on", |world| {
                    let more_to_send = !parts.is_empty() && !world.link(from).starved();
                    world.link(to).arrived > before || more_to_send
                });
                follower.all(world.take_events(to));
            }
            assert!(parts.is_empty());
        }
        world.grant(to, Grant::Limited(0));
    }
}

pub(super) fn commands_pass_a_full_pipe(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        // Without credit, commands arrive.
        world.send_parts(from, vec![Part::command("first")]);
        let parts = world.receive(to, 1);
        assert!(parts[0].flags.command() && parts[0].body == "first");
        let taken = world.fill(from, |seq| message(seq, 1, FILLER).remove(0));
        // Without room, they are taken, but not without end.
        let mut commands = 0;
        let refused = loop {
            match world.post(from, Part::command(&[commands as u8])) {
                Ok(()) => commands += 1,
                Err(refused) => break refused,
            }
            assert!(commands <= 2 * COMMANDS_MAX, "commands have no bound");
        };
        assert_eq!(refused.reason, RefusedReason::Full);
        assert!(commands >= COMMANDS_MAX, "only {commands} commands were taken");
        world.flush(from.host);
        // The way back is open: this is how a PONG or a SUBSCRIBE passes.
        world.send_parts(to, vec![Part::command("back")]);
        let parts = world.receive(from, 1);
        assert!(parts[0].flags.command() && parts[0].body == "back");
        // And everything arrives behind what was posted before it.
        world.grant(to, Grant::Unlimited);
        let parts = world.receive(to, taken as usize + commands);
        let data: Vec<_> = parts[..taken as usize].iter().map(message_of).collect();
        assert_eq!(data, (0..taken).collect::<Vec<_>>());
        for (at, part) in parts[taken as usize..].iter().enumerate() {
            assert!(part.flags.command() && *part.body == [at as u8]);
        }
        world.run_until("Writable", |world| !world.link(from).starved());
        world.grant(to, Grant::Limited(0));
    }
}

pub(super) fn slow_consumer(subject: &dyn Subject) {
    const COUNT: u64 = 2000;
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    for (from, to) in world.directions(pair) {
        let mut parts: VecDeque<_> = (0..COUNT).flat_map(|seq| message(seq, 1, 1000)).collect();
        let mut follower = Follower::default();
        let mut ahead = 0;
        while follower.whole < COUNT {
            world.send_some(from, &mut parts);
            ahead = ahead.max(COUNT - parts.len() as u64 - follower.whole);
            // One part at a time, as an application that thinks about each.
            world.grant(to, Grant::Limited(1));
            world.run_until("a part", |world| {
                let more_to_send = !parts.is_empty() && !world.link(from).starved();
                !world.link(to).inbox.is_empty() || more_to_send
            });
            follower.all(world.take_events(to));
        }
        assert!(ahead > 1, "the sender was never ahead, so this tested nothing");
    }
}

pub(super) fn budget_is_respected(subject: &dyn Subject) {
    for budget in [1, 5] {
        let mut world = World::new(subject, 2);
        let pair = pair_with_grants(&mut world);
        for (from, to) in world.directions(pair) {
            world.settle();
            world.hosts[to.host].asleep = true;
            let mut taken = 0;
            while taken < 100 && world.room(from) > 0 {
                world.post(from, message(taken, 1, SMALL).remove(0)).expect("there is room");
                world.flush(from.host);
                world.step();
                taken += 1;
            }
            world.hosts[to.host].asleep = false;
            world.budget = budget;
            world.slack = PACKET_SLACK;
            // Small budgets must not leave anything behind either: the world arms when a poll brings nothing.
            world.settle();
            let mut follower = Follower::default();
            follower.all(world.take_events(to));
            assert!(follower.whole == taken || !world.reliable(), "{follower:?}");
            (world.budget, world.slack) = (BUDGET, usize::MAX);
        }
    }
}

pub(super) fn a_flush_needs_no_poll(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = pair_with_grants(&mut world);
    for (from, to) in world.directions(pair) {
        world.settle();
        // The sender goes away to compute right after its flush.
        world.hosts[from.host].asleep = true;
        world.send_parts(from, message(0, 2, 100));
        let parts = world.receive(to, 2);
        assert_eq!(message_of(&parts[1]), 0);
        world.hosts[from.host].asleep = false;
    }
}

pub(super) fn gap_counts_are_exact(subject: &dyn Subject) {
    const COUNT: u64 = 400;
    // Dropped here for want of grant, by the piece and by the multipart.
    for parts_each in [1, 3] {
        let mut world = World::new(subject, 2);
        let pair = world.pair();
        let (from, to) = world.directions(pair)[0];
        let mut follower = Follower::default();
        for seq in 0..COUNT {
            world.send_parts(from, message(seq, parts_each, 100));
            if seq % 50 == 49 {
                world.settle();
                follower.all(world.take_events(to));
                world.grant(to, Grant::Limited(seq / 5));
            }
        }
        // A Gap comes with the next part that is delivered, so one must be.
        world.grant(to, Grant::Unlimited);
        world.settle();
        let mut seq = COUNT;
        let before = follower.whole;
        while follower.whole == before {
            assert!(seq < COUNT + 100, "nothing arrives any more");
            world.send_parts(from, message(seq, parts_each, 100));
            world.settle();
            follower.all(world.take_events(to));
            seq += 1;
        }
        assert!(follower.dropped > 0, "nothing was dropped, so this tested nothing");
        assert!(follower.whole + follower.dropped <= seq);
        if world.real_time() {
            world.run_until("Sent", |world| world.link(from).all_sent());
        } else {
            world.advance(Duration::from_secs(1));
        }
    }
}
