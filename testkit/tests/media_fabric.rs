//! The simulated RDMA fabric under the conformance suite, and what the suite cannot see: credit, keys, faults.

use fabriq_testkit::media::{Chance, Fabric, Faults, each_seed};
use fabriq_testkit::{End, POOL, World, body, seq_of};
use transport_core::{Close, DownReason, Frame, FramePool, Grant, OpenError, Part, Role};

fabriq_testkit::conformance!(fabric, Fabric::new(1), skipped = 2);
fabriq_testkit::conformance_ciphered!(ciphered, Fabric::new(3), skipped = 3);
fabriq_testkit::conformance_faulty!(faulty, Fabric::new(5), seed = 5, skipped = 3);

/// A body in a slot of `pool`: memory that a device can register.
fn registered(pool: &FramePool, seq: u64, len: usize) -> Frame {
    let mut slot = pool.take(len).expect("the test's pool is large enough");
    slot.copy_from_slice(&body(seq, len));
    slot.freeze()
}

/// Any size that takes another way: inline, eager, fragments, rendezvous; with a key or without.
fn any_body(chance: &mut Chance, pool: &FramePool, seq: u64) -> Frame {
    let len = 8 + match chance.below(4) {
        0 => chance.below(60),
        1 => chance.below(1000),
        2 => chance.below(8000),
        _ => chance.below(300_000),
    };
    if chance.below(2) == 0 { registered(pool, seq, len) } else { body(seq, len) }
}

/// One direction of a link: what was posted, what arrived.
#[derive(Debug)]
struct Lane {
    from: End,
    to: End,
    posted: u64,
    arrived: u64,
}

impl Lane {
    fn both((a, b): (End, End)) -> [Self; 2] {
        [Self { from: a, to: b, posted: 0, arrived: 0 }, Self { from: b, to: a, posted: 0, arrived: 0 }]
    }
    fn post(&mut self, world: &mut World, body: Frame) {
        if world.post(self.from, Part::last(body)).is_ok() {
            self.posted += 1;
        }
    }
    /// What arrives is a beginning of what was posted, without holes.
    fn take(&mut self, world: &mut World) {
        for part in world.take(self.to) {
            assert_eq!(seq_of(&part.body), self.arrived);
            self.arrived += 1;
        }
    }
}

#[test]
fn two_hundred_seeds_of_faults_end_every_link_once_and_leak_nothing() {
    let mut ended = 0;
    each_seed(0..200, |seed| {
        let fabric = Fabric::new(seed);
        let sending = FramePool::new(64 << 20);
        let mut world = World::new(&fabric, 2);
        let pair = world.pair();
        let mut chance = Chance::new(seed);
        let permille = 1 + chance.below(20) as u32;
        fabric.set_faults(match seed % 5 {
            0 => Faults { rnr_permille: permille, ..Faults::default() },
            1 => Faults { cq_overflow_permille: permille, ..Faults::default() },
            2 => Faults { qp_error_permille: permille, ..Faults::default() },
            3 => Faults { device_gone_permille: permille, ..Faults::default() },
            _ => Faults {
                rnr_permille: permille,
                cq_overflow_permille: permille,
                qp_error_permille: permille,
                device_gone_permille: permille,
                ..Faults::default()
            },
        });
        let mut lanes = Lane::both(pair);
        let closes = chance.below(3);
        for turn in 0..300 {
            for lane in &mut lanes {
                let next = any_body(&mut chance, &sending, lane.posted);
                lane.post(&mut world, next);
                if chance.below(3) == 0 {
                    world.flush(lane.from.host);
                }
                if chance.below(2) == 0 {
                    world.grant(lane.to, Grant::Limited(chance.below(20) as u64));
                }
            }
            if turn == 200 && closes > 0 && !world.is_down(pair.0) {
                let until = Some(world.now() + std::time::Duration::from_millis(1));
                world.close(pair.0, if closes == 1 { Close::Abort } else { Close::Drain { until } });
            }
            world.step();
            lanes.iter_mut().for_each(|lane| lane.take(&mut world));
        }
        ended += u64::from(world.is_down(pair.0));
        world.settle();
        lanes.iter_mut().for_each(|lane| lane.take(&mut world));
        // The world has checked that no link had two Downs or a word after it; if one end is down, both must be.
        assert_eq!(world.is_down(pair.0), world.is_down(pair.1));
        for lane in &lanes {
            // What came back was never seen by a device, so it cannot have arrived, nor anything behind it.
            let returned: Vec<_> =
                world.link(lane.from).returned.iter().map(|part| seq_of(&part.body)).collect();
            assert!(returned.first().is_none_or(|&first| first >= lane.arrived), "{lane:?}, {returned:?}");
            assert!(returned.is_sorted());
        }
        fabric.set_faults(Faults::default());
        for end in [pair.0, pair.1] {
            if !world.is_down(end) {
                world.close(end, Close::Abort);
            }
        }
        world.run_until("the links to go down", |world| world.is_down(pair.0) && world.is_down(pair.1));
        assert_eq!(fabric.exposed_frames(), 0, "a key outlives its link");
        assert_eq!(fabric.bounce_slots(), 0, "a bounce slot outlives its link");
        drop(world);
        assert_eq!(sending.usage().lent_slots, 0, "a frame is still pinned");
    });
    assert!(ended > 100, "faults ended only {ended} of 200 links");
}

#[test]
fn with_credit_the_receiver_is_always_ready() {
    each_seed(0..60, |seed| {
        let fabric = Fabric::new(seed);
        let sending = FramePool::new(64 << 20);
        let mut world = World::new(&fabric, 2);
        let mut lanes = Lane::both(world.pair());
        let mut chance = Chance::new(seed);
        for _ in 0..400 {
            for lane in &mut lanes {
                for _ in 0..chance.below(8) {
                    if world.room(lane.from) > 0 {
                        let next = any_body(&mut chance, &sending, lane.posted);
                        lane.post(&mut world, next);
                    }
                }
                world.flush(lane.from.host);
                if chance.below(3) == 0 {
                    world.grant(lane.to, Grant::Limited(chance.below(400) as u64));
                }
            }
            // Now and then one side is away for a while, and packets pile up.
            let away = chance.below(2);
            if chance.below(12) == 0 {
                world.hosts[away].asleep = !world.hosts[away].asleep;
                world.hosts[1 - away].asleep = false;
            }
            world.step();
            lanes.iter_mut().for_each(|lane| lane.take(&mut world));
        }
        world.hosts.iter_mut().for_each(|host| host.asleep = false);
        for lane in &mut lanes {
            world.grant(lane.to, Grant::Unlimited);
        }
        world.settle();
        for lane in &mut lanes {
            lane.take(&mut world);
            assert_eq!(lane.arrived, lane.posted);
            assert!(world.link(lane.from).all_sent(), "credit or FINs have run dry");
        }
        assert_eq!(fabric.count().receiver_not_ready, 0);
        assert!(fabric.count().reads > 0 && fabric.count().packets > 0);
        drop(world);
        assert_eq!(sending.usage().lent_slots, 0);
    });
}

#[test]
fn credit_and_control_together_fill_the_receive_queue_and_no_more() {
    let fabric = Fabric::new(1);
    let sending = FramePool::new(64 << 20);
    let mut world = World::new(&fabric, 2);
    let (a, b) = world.pair();
    world.grant(a, Grant::Unlimited);
    world.grant(b, Grant::Unlimited);
    // Rendezvous of different lengths, so that their FINs come one by one; then the sender goes away.
    let parts = (0..4).map(|seq| Part::last(registered(&sending, seq, 250_000 << seq)));
    for part in parts {
        world.post(a, part).unwrap();
    }
    world.flush(0);
    world.hosts[0].asleep = true;
    // Every data packet that there is credit for, and more, so that FINs find none to travel with.
    for seq in 0..40 {
        world.post(b, Part::last(body(seq, 3000))).unwrap();
    }
    world.flush(1);
    world.receive(b, 4);
    world.settle();
    assert_eq!(world.link(b).sent, 16);
    world.hosts[0].asleep = false;
    assert_eq!(world.receive(a, 40).len(), 40);
    world.settle();
    assert!(world.link(a).all_sent() && world.link(b).all_sent());
    assert_eq!(fabric.count().receiver_not_ready, 0);
}

#[test]
fn without_credit_it_is_not() {
    let fabric = Fabric::new(1);
    let mut world = World::new(&fabric, 2);
    let (a, b) = world.pair();
    fabric.set_faults(Faults { ignore_credits: true, ..Faults::default() });
    // Packets beyond the posted buffers, to a receiver that is away.
    world.hosts[1].asleep = true;
    for _ in 0..20 {
        for seq in 0..10 {
            let _ = world.post(a, Part::last(body(seq, 3000)));
        }
        world.flush(0);
        world.step();
    }
    world.hosts[1].asleep = false;
    assert_eq!(world.await_down(a), DownReason::Broken(105));
    assert!(matches!(world.await_down(b), DownReason::Broken(_)));
    assert!(fabric.count().receiver_not_ready > 0);
}

#[test]
fn a_wrong_key_is_an_error_completion_and_not_somebody_elses_memory() {
    let fabric = Fabric::new(1);
    let sending = FramePool::new(8 << 20);
    let mut world = World::new(&fabric, 2);
    let (a, b) = world.pair();
    world.grant(b, Grant::Unlimited);
    fabric.set_faults(Faults { wrong_keys: true, ..Faults::default() });
    world.send_parts(a, vec![Part::last(registered(&sending, 1, 5000))]);
    assert_eq!(world.await_down(b), DownReason::Broken(13));
    assert!(matches!(world.await_down(a), DownReason::Broken(_)));
    assert_eq!(fabric.count().wrong_keys, 1);
    assert!(world.take(b).is_empty());
}

#[test]
fn a_completion_queue_that_overflows_takes_its_links_along_but_not_the_driver() {
    let fabric = Fabric::new(1);
    fabric.set_faults(Faults { cq_size: Some(6), ..Faults::default() });
    let mut world = World::new(&fabric, 2);
    let pair = world.pair();
    world.hosts[1].asleep = true;
    for seq in 0..10 {
        world.send(pair.0, &[&body(seq, 3000)]);
    }
    for _ in 0..20 {
        world.step();
    }
    world.hosts[1].asleep = false;
    assert_eq!(world.await_down(pair.1), DownReason::Broken(5));
    assert!(matches!(world.await_down(pair.0), DownReason::Broken(_)));
    assert!(fabric.count().cq_overflows > 0);
    let again = world.pair();
    world.grant(again.1, Grant::Unlimited);
    world.send(again.0, &[b"still there"]);
    assert_eq!(world.receive(again.1, 1)[0].body, b"still there");
}

#[test]
fn a_device_that_is_gone_says_so_to_whoever_opens() {
    let fabric = Fabric::new(1);
    let mut world = World::new(&fabric, 2);
    let (a, b) = world.pair();
    fabric.set_faults(Faults { device_gone_permille: 1000, ..Faults::default() });
    world.send(a, &[b"the last straw"]);
    assert_eq!(world.await_down(a), DownReason::Broken(19));
    assert!(matches!(world.await_down(b), DownReason::Broken(_)));
    let request =
        world.request(&world.hosts[0].opens.values().next().unwrap().bound.clone().unwrap(), Role::Bind);
    assert!(matches!(world.open(0, request), Err(OpenError::System { errno: 19, .. })));
}

#[test]
fn registered_frames_are_never_copied() {
    let fabric = Fabric::new(1);
    let sending = FramePool::new(64 << 20);
    let mut world = World::new(&fabric, 2);
    let (a, b) = world.pair();
    world.grant(b, Grant::Unlimited);
    for seq in 0..20 {
        world.send_parts(a, vec![Part::last(registered(&sending, seq, 1024 << (seq % 11)))]);
    }
    let parts = world.receive(b, 20);
    assert!(parts.iter().enumerate().all(|(seq, part)| seq_of(&part.body) == seq as u64));
    let count = fabric.count();
    assert_eq!((count.copied_bytes, count.bounced_bytes, count.direct_parts), (0, 0, 20));
}

#[test]
fn an_empty_receive_pool_goes_through_bounce_slots_and_is_counted() {
    let fabric = Fabric::new(1);
    let sending = FramePool::new(64 << 20);
    let mut world = World::with_pools(&fabric, &[POOL, 0]);
    let (a, b) = world.pair();
    world.grant(b, Grant::Unlimited);
    for seq in 0..20 {
        world.send_parts(a, vec![Part::last(registered(&sending, seq, 200_000))]);
    }
    let parts = world.receive(b, 20);
    assert!(parts.iter().enumerate().all(|(seq, part)| seq_of(&part.body) == seq as u64));
    assert_eq!((fabric.count().bounced_bytes, fabric.count().direct_parts), (20 * 200_000, 0));
}

#[test]
fn a_frame_is_pinned_until_fin_and_sent_comes_only_then() {
    let fabric = Fabric::new(1);
    let sending = FramePool::new(8 << 20);
    let mut world = World::new(&fabric, 2);
    let (a, b) = world.pair();
    world.send_parts(
        a,
        vec![Part::last("eager"), Part::last(registered(&sending, 1, 5000)), Part::last("behind")],
    );
    world.settle();
    // Eager parts were copied, but Sent is cumulative: the one behind waits for the one before.
    assert_eq!(world.link(a).sent, 1);
    assert_eq!((sending.usage().lent_slots, fabric.exposed_frames()), (1, 1));
    world.grant(b, Grant::Unlimited);
    world.settle();
    assert_eq!(world.link(a).sent, 3);
    assert_eq!((sending.usage().lent_slots, fabric.exposed_frames()), (0, 0));
    assert_eq!(world.take(b).len(), 3);
}

#[test]
fn small_parts_that_are_queued_share_a_packet() {
    let fabric = Fabric::new(1);
    let mut world = World::new(&fabric, 2);
    let (a, b) = world.pair();
    world.grant(b, Grant::Unlimited);
    let before = fabric.count().packets;
    for seq in 0..40 {
        world.post(a, Part::last(body(seq, 64))).unwrap();
    }
    world.flush(0);
    assert_eq!(fabric.count().packets, before + 1, "one doorbell, one packet");
    assert_eq!(world.receive(b, 40).len(), 40);
}
