//! How links end: at every step of an exchange, from either side, in good order or not.

use testkit::media::{Chance, each_seed};
use transport_core::{DownReason, Grant};

use crate::traffic::any_item;
use crate::world::{BROKEN, End, Item, Plan, World};

/// Steps of an exchange before which it is ended.
const STEPS: usize = 160;

/// An exchange that is the same whenever it is run: posts first, so that every step of it is interesting.
fn exchange(seed: u64, steps: usize) -> (World, Chance) {
    let mut chance = Chance::new(seed);
    let mut plan = Plan::small();
    plan.extra = (seed % 3) as u32;
    let mut world = World::new(&plan);
    for host in 0..2 {
        for seq in 0..8 {
            let mut item = any_item(&mut chance, seq);
            item.more &= !item.command && seq < 7;
            let inside = world.ends[0][host].items.last().is_some_and(|last| last.more);
            item.command &= !inside;
            world.post(0, host, item);
        }
        world.grant(0, host, Grant::Limited(chance.below(10) as u64));
    }
    for _ in 0..steps {
        world.step(&mut chance);
    }
    (world, chance)
}

/// What came back is a run of whole messages to the end, and none of it was ever seen.
fn check_returned(from: &End, to: &End) {
    let back = from.returned.len();
    let messages: Vec<_> = from.items.iter().enumerate().filter(|(_, item)| !item.command).collect();
    let whole = messages.iter().rposition(|(_, item)| !item.more).map_or(0, |last| last + 1);
    let first = whole.checked_sub(back).expect("more came back than was posted");
    for ((_, item), body) in messages[first..whole].iter().zip(&from.returned) {
        assert_eq!(*body, *item.bytes());
    }
    if back > 0 {
        assert!(first == 0 || !messages[first - 1].1.more, "half a message came back");
        let (index, _) = messages[first];
        assert!(index >= to.arrived, "a part came back and arrived as well");
        assert!(index as u64 >= from.sent, "a part came back and was Sent as well");
    }
}

fn check_ended(world: World) {
    let [a, b] = &world.ends[0];
    assert!(a.down.is_some() && b.down.is_some(), "an end that never ends");
    check_returned(a, b);
    check_returned(b, a);
    world.dismantle();
}

#[test]
fn an_abort_at_every_step_ends_both_sides_and_returns_what_nobody_saw() {
    let mut returned = 0;
    each_seed(0..12, |seed| {
        for steps in 0..STEPS {
            let (mut world, chance) = exchange(seed, steps);
            world.abort(0, (seed % 2) as usize);
            run_out(&mut world, chance);
            returned += world.ends[0].iter().map(|end| end.returned.len()).sum::<usize>();
            check_ended(world);
        }
    });
    assert!(returned > 1000);
}

/// By lot for a while, then to the end.
fn run_out(world: &mut World, mut chance: Chance) {
    for _ in 0..chance.below(60) {
        world.step(&mut chance);
    }
    world.settle();
}

#[test]
fn a_connection_that_breaks_at_every_step_ends_both_sides() {
    each_seed(0..12, |seed| {
        for steps in 0..STEPS {
            let (mut world, chance) = exchange(seed, steps);
            world.sever(0);
            run_out(&mut world, chance);
            assert!(world.ends[0].iter().all(|end| end.down == Some(BROKEN)));
            check_ended(world);
        }
    });
}

#[test]
fn a_connection_that_breaks_at_every_step_of_a_close_ends_both_sides() {
    let mut reasons = [0; 3];
    each_seed(0..12, |seed| {
        for steps in 0..STEPS {
            let (mut world, mut chance) = exchange(seed, (seed % 5) as usize * 8);
            let (here, there) = ((seed % 2) as usize, 1 - (seed % 2) as usize);
            world.grant(0, there, Grant::Unlimited);
            world.drain(0, here);
            for _ in 0..steps * 4 {
                world.step(&mut chance);
            }
            world.sever(0);
            run_out(&mut world, chance);
            let ends = &world.ends[0];
            reasons[match (ends[here].down, ends[there].down) {
                (Some(BROKEN), Some(BROKEN)) => 0,
                // The goodbye was heard, the answer to it was not.
                (Some(BROKEN), Some(DownReason::ClosedByPeer)) => 1,
                (Some(DownReason::ClosedHere), Some(DownReason::ClosedByPeer)) => 2,
                other => panic!("{other:?} after {steps} steps"),
            }] += 1;
            if ends[there].down == Some(DownReason::ClosedByPeer) {
                assert_eq!(
                    ends[there].arrived,
                    ends[here].items.len(),
                    "a goodbye before everything is said"
                );
            }
            check_ended(world);
        }
    });
    assert!(reasons.iter().all(|count| *count > 10), "{reasons:?}: some way to end is not tried");
}

#[test]
fn a_drain_at_every_step_delivers_everything_and_only_then_ends() {
    each_seed(0..16, |seed| {
        for steps in 0..STEPS {
            let (mut world, chance) = exchange(seed, steps);
            let (here, there) = ((seed % 2) as usize, 1 - (seed % 2) as usize);
            world.grant(0, there, Grant::Unlimited);
            world.drain(0, here);
            run_out(&mut world, chance);
            let ends = &world.ends[0];
            assert_eq!(ends[here].down, Some(DownReason::ClosedHere), "after {steps} steps");
            assert_eq!(ends[there].down, Some(DownReason::ClosedByPeer), "after {steps} steps");
            assert_eq!(ends[there].arrived, ends[here].items.len(), "after {steps} steps");
            assert!(ends[here].returned.is_empty());
            check_ended(world);
        }
    });
}

#[test]
fn a_drain_that_both_sides_begin_at_any_step_ends_both() {
    each_seed(0..16, |seed| {
        for steps in 0..STEPS {
            let (mut world, mut chance) = exchange(seed, steps);
            let first = chance.below(2);
            world.drain(0, first);
            for _ in 0..chance.below(60) {
                world.step(&mut chance);
            }
            if world.ends[0][1 - first].down.is_none() {
                world.drain(0, 1 - first);
            }
            run_out(&mut world, chance);
            for end in &world.ends[0] {
                assert!(
                    matches!(end.down, Some(DownReason::ClosedHere | DownReason::ClosedByPeer)),
                    "{:?} after {steps} steps",
                    end.down
                );
            }
            check_ended(world);
        }
    });
}

#[test]
fn a_drain_waits_for_a_peer_that_reads_nothing_until_it_is_told_not_to() {
    each_seed(0..30, |seed| {
        let (mut world, _) = exchange(seed, 0);
        world.grant(0, 1, Grant::Limited(0));
        world.post(0, 0, Item::plain(8, 400));
        world.drain(0, 0);
        assert!(!world.post(0, 0, Item::plain(9, 1)), "the link is closing");
        world.settle();
        assert!(world.ends[0].iter().all(|end| end.down.is_none()));
        world.ends[0][0].machine.abort(DownReason::TimedOut);
        world.settle();
        assert_eq!(world.ends[0][0].down, Some(DownReason::TimedOut));
        check_ended(world);
    });
}

#[test]
fn after_a_goodbye_the_application_reads_at_its_own_pace() {
    let mut world = World::new(&Plan::small());
    for seq in 0..6 {
        world.post(0, 0, Item { registered: false, ..Item::plain(seq, 100) });
    }
    world.drain(0, 0);
    world.settle();
    let ends = &world.ends[0];
    assert_eq!((ends[0].down, ends[1].down), (Some(DownReason::ClosedHere), None));
    for arrived in 1..=6 {
        assert_eq!(world.ends[0][1].down, None);
        world.grant(0, 1, Grant::Limited(1));
        world.settle();
        assert_eq!(world.ends[0][1].arrived, arrived);
    }
    assert_eq!(world.ends[0][1].down, Some(DownReason::ClosedByPeer));
    check_ended(world);
}

#[test]
fn what_a_closing_side_does_not_read_is_let_go_by_its_sender() {
    let mut world = World::new(&Plan::small());
    // Transfers the other way that wait for grant: nobody will read them, and the sender gets its frames back.
    for seq in 0..3 {
        world.post(0, 1, Item::plain(seq, 3000));
    }
    world.settle();
    assert_eq!(world.ends[0][1].sent, 0);
    world.drain(0, 0);
    for _ in 0..40 {
        if world.ends[0][0].machine.ending().is_none() {
            world.turn(0, 0);
            world.turn(0, 1);
        }
    }
    assert_eq!(world.ends[0][1].sent, 3);
    world.settle();
    assert_eq!(world.ends[0][0].polled_reads, 0);
    check_ended(world);
}

#[test]
fn what_a_closing_side_has_begun_to_read_is_dropped_when_it_is_there() {
    let mut world = World::new(&Plan::small());
    for seq in 0..3 {
        world.post(0, 1, Item::plain(seq, 3000));
    }
    // The other way there is one that keeps the link up.
    world.post(0, 0, Item::plain(0, 3000));
    world.settle();
    world.grant(0, 0, Grant::Limited(3));
    assert!(world.pump(0, 0, 0), "READs go out");
    world.drain(0, 0);
    assert_eq!(world.hosts[0].pool.usage().lent_slots, 1);
    world.settle();
    assert_eq!((world.ends[0][0].down, world.ends[0][1].sent), (None, 3));
    assert_eq!(world.hosts[0].pool.usage().lent_slots, 0, "dropped, though the link is still up");
    world.grant(0, 1, Grant::Unlimited);
    world.settle();
    check_ended(world);
}

#[test]
fn who_has_heard_a_goodbye_sends_no_more_parts_and_has_them_back() {
    let mut world = World::new(&Plan::small());
    world.drain(0, 0);
    for host in [0, 1] {
        world.pump(0, host, 9);
        world.transmit(0, host);
        world.poll_cq(0, 1 - host);
    }
    // The answer is out, and the connection stands until the other side has read it.
    assert_eq!((world.ends[0][1].control_packets, world.ends[0][1].down), (1, None));
    assert!(world.post(0, 1, Item::plain(0, 10)));
    world.pump(0, 1, 9);
    assert!(!world.transmit(0, 1), "parts after a goodbye");
    world.settle();
    assert_eq!(world.ends[0][1].down, Some(DownReason::ClosedByPeer));
    assert_eq!(world.ends[0][1].returned.len(), 1);
    check_ended(world);
}

#[test]
fn what_a_device_touches_outlives_a_machine_that_is_dropped() {
    // Not what a driver should do, but what a panic makes of one.
    let mut world = World::new(&Plan::small());
    world.post(0, 0, Item::plain(0, 3000));
    world.grant(0, 1, Grant::Unlimited);
    for _ in 0..STEPS {
        if world.ends[0][1].machine.reads_under_way() > 0 {
            break;
        }
        for host in 0..2 {
            world.transmit(0, host);
            world.poll_cq(0, host);
            world.pump(0, host, 9);
        }
    }
    world.post(0, 0, Item::plain(1, 200));
    assert!(world.pump(0, 0, 1));
    let (bodies, pool) = (world.hosts[0].bodies.clone(), world.hosts[1].pool.clone());
    assert_eq!((bodies.alive(), pool.usage().lent_slots), (2, 1));
    let [sender, receiver] = world.ends.pop().unwrap();
    drop((sender.machine, receiver.machine));
    assert_eq!(
        bodies.alive(),
        1,
        "the device sends one; a pin goes with the queue pair, and so with the machine"
    );
    assert_eq!(pool.usage().lent_slots, 1, "the device may still write there");
    drop((sender.send_queue, receiver.targets));
    assert_eq!((bodies.alive(), pool.usage().lent_slots), (0, 0));
}
