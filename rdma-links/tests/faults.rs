//! The driver on a fabric that does wrong, by seeds: every link ends once, what arrives is a beginning of what was sent, and
//! nothing is left behind. What the fabric itself promises is in `simulated.rs`.

mod world;

use std::time::Duration;

use rdma_links::simulated::{Mishap, World as Fabric};
use testkit::media::{Chance, each_seed};
use testkit::{End, World, body, seq_of};
use transport_core::{Close, Endpoint, Frame, FramePool, Grant, Part, Role};
use world::Simulated;

/// A body in a slot of `pool`: memory that a device can register.
fn registered(pool: &FramePool, seq: u64, len: usize) -> Frame {
    let mut slot = pool.take(len).expect("the test's pool is large enough");
    slot.copy_from_slice(&body(seq, len));
    slot.freeze()
}

/// Any size that takes another way: inline, packed, spliced, fragments, rendezvous; with a key or without.
fn any_body(chance: &mut Chance, pool: &FramePool, seq: u64) -> Frame {
    let len = 8 + match chance.below(5) {
        0 => chance.below(60),
        1 => chance.below(1000),
        2 => chance.below(8000),
        3 => chance.below(40_000),
        _ => chance.below(600_000),
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

    /// What arrives is a beginning of what was posted, without holes and unchanged.
    fn take(&mut self, world: &mut World) {
        for part in world.take(self.to) {
            assert_eq!(seq_of(&part.body), self.arrived);
            assert!(part.body == body(self.arrived, part.body.len()), "arrived changed");
            self.arrived += 1;
        }
    }
}

/// One kind of mishap to a seed, at a rate of up to 2 %.
fn mishaps(seed: u64) -> impl FnMut() -> Option<Mishap> + Send {
    const KINDS: [Mishap; 7] = [
        Mishap::ReceiverNotReady,
        Mishap::NoAnswer,
        Mishap::WrongKey,
        Mishap::QueueFails,
        Mishap::Refused,
        Mishap::CompletionsLost,
        Mishap::DeviceLost,
    ];
    let mut chance = Chance::new(seed ^ 0x5eed);
    let permille = 1 + chance.below(20);
    move || (chance.below(1000) < permille).then(|| KINDS[(seed % 7) as usize])
}

#[test]
fn hundreds_of_seeds_of_mishaps_end_every_link_once_and_leak_nothing() {
    let mut ended = 0;
    each_seed(0..280, |seed| {
        let fabric = Fabric::new(Duration::from_micros(2));
        let sending = FramePool::new(64 << 20);
        let mut world = World::new(&Simulated::with(&fabric), 2);
        let pair = world.pair();
        let mut chance = Chance::new(seed);
        let mut goes_wrong = mishaps(seed);
        fabric.set_mishaps(move |_| goes_wrong());
        let mut lanes = Lane::both(pair);
        let closes = chance.below(3);
        for turn in 0..200 {
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
            if turn == 150 && closes > 0 && !world.is_down(pair.0) {
                let until = Some(world.now() + Duration::from_millis(1));
                world.close(pair.0, if closes == 1 { Close::Abort } else { Close::Drain { until } });
            }
            world.step();
            lanes.iter_mut().for_each(|lane| lane.take(&mut world));
        }
        ended += u64::from(world.is_down(pair.0) || world.is_down(pair.1));
        world.settle();
        lanes.iter_mut().for_each(|lane| lane.take(&mut world));
        for lane in &lanes {
            // What came back was never seen by a device, so it cannot have arrived, nor anything behind it.
            let returned: Vec<_> =
                world.link(lane.from).returned.iter().map(|part| seq_of(&part.body)).collect();
            assert!(returned.first().is_none_or(|&first| first >= lane.arrived), "{lane:?}, {returned:?}");
            assert!(returned.is_sorted());
        }
        fabric.set_mishaps(|_| None);
        for end in [pair.0, pair.1] {
            if !world.is_down(end) {
                world.close(end, Close::Abort);
            }
        }
        world.run_until("the links to go down", |world| world.is_down(pair.0) && world.is_down(pair.1));
        let count = fabric.count();
        assert_eq!(count.queue_pairs, 0, "a queue pair outlives its link");
        assert_eq!(count.reads_beyond_depth, 0);
        if seed % 7 != 0 {
            assert_eq!(count.receiver_not_ready, 0, "credit has failed");
        }
        drop(world);
        assert_eq!(fabric.count().regions, 0, "a registration outlives its driver");
        assert_eq!(sending.usage().lent_slots, 0, "a sent frame is still held");
    });
    assert!(ended > 200, "mishaps and closes ended only {ended} of 280 links");
}

/// Nothing goes wrong, and everybody is busy: whatever the sizes, grants and pauses, all of it arrives, credit and FINs never
/// run dry, and no packet finds the receiver without a buffer.
#[test]
fn with_credit_the_receiver_is_always_ready() {
    each_seed(0..60, |seed| {
        let fabric = Fabric::new(Duration::from_micros(2));
        let sending = FramePool::new(64 << 20);
        let mut world = World::new(&Simulated::with(&fabric), 2);
        let mut lanes = Lane::both(world.pair());
        let mut chance = Chance::new(seed);
        for _ in 0..300 {
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
        let count = fabric.count();
        assert_eq!((count.receiver_not_ready, count.reads_beyond_depth, count.wrong_keys), (0, 0, 0));
        assert!(count.reads > 0 && count.packets > 0);
        drop(world);
        assert_eq!(sending.usage().lent_slots, 0);
    });
}

/// Beyond the first sixteen, links share a receive queue; some ask for shorter packets than others. All of them carry all sizes
/// at once, and when they go, nothing stays.
#[test]
fn many_links_share_a_receive_queue() {
    const LINKS: usize = 40;
    let fabric = Fabric::new(Duration::from_micros(2));
    let sending = FramePool::new(1 << 30);
    let mut world = World::new(&Simulated::with(&fabric), 2);
    let endpoint = world.fresh();
    let (listening, bound) = world.bind(0, &endpoint);
    let mut lanes = Vec::new();
    for link in 0..LINKS {
        let options = if link % 3 == 0 { "?packet=512" } else { "" };
        let dialled = Endpoint::parse(&format!("{bound}{options}")).expect("an option of ours");
        let connect = world.request(&dialled, Role::Connect);
        let (_, a, b) = world.join(0, listening, 1, connect);
        lanes.extend(Lane::both((a, b)));
    }
    let mut chance = Chance::new(16);
    for _ in 0..12 {
        for lane in &mut lanes {
            let next = any_body(&mut chance, &sending, lane.posted);
            lane.post(&mut world, next);
            world.grant(lane.to, Grant::Limited(chance.below(8) as u64));
        }
        world.flush(0);
        world.flush(1);
        world.step();
        lanes.iter_mut().for_each(|lane| lane.take(&mut world));
    }
    for lane in &lanes {
        world.grant(lane.to, Grant::Unlimited);
    }
    world.settle();
    for lane in &mut lanes {
        lane.take(&mut world);
        assert_eq!(lane.arrived, lane.posted, "{lane:?}");
    }
    assert_eq!(fabric.count().receiver_not_ready, 0);
    for lane in &lanes {
        world.close(lane.from, Close::Abort);
    }
    world.run_until("the links to go down", |world| lanes.iter().all(|lane| world.is_down(lane.from)));
    assert_eq!(fabric.count().queue_pairs, 0);
    drop(world);
    assert_eq!((fabric.count().regions, sending.usage().lent_slots), (0, 0));
}

/// Sixteen KiB and more in registered memory arrive without a copy: by READ, in a slot of the receiver's pool.
#[test]
fn large_frames_from_a_pool_are_read_straight_into_the_receivers_pool() {
    let fabric = Fabric::new(Duration::from_micros(2));
    let sending = FramePool::new(64 << 20);
    let mut world = World::new(&Simulated::with(&fabric), 2);
    let (a, b) = world.pair();
    world.grant(b, Grant::Unlimited);
    for (number, len) in [16 << 10, 64 << 10, 1 << 20, 4 << 20].into_iter().enumerate() {
        let reads = fabric.count().reads;
        world.post(a, Part::last(registered(&sending, number as u64, len))).expect("there is room");
        let parts = world.receive(b, 1);
        assert!(parts[0].body == body(number as u64, len));
        assert!(fabric.count().reads > reads, "{len} B came in packets");
        assert!(world.hosts[b.host].pool.usage().lent_slots > 0, "{len} B landed elsewhere");
    }
    assert_eq!([a, b].map(|end| world.driver(end.host).copied_bytes()), [0, 0]);
    assert_eq!(fabric.count().receiver_not_ready, 0);
}

/// What has a key and is shorter is sent from where it is, and copied out of the packet; without one it is copied into it as well.
/// Where the receiver may register nothing, what it READs is copied out of the buffers that it has.
#[test]
fn what_is_copied_into_packets_and_out_of_them_is_counted() {
    let fabric = Fabric::new(Duration::from_micros(2));
    let sending = FramePool::new(64 << 20);
    let mut world = World::new(&Simulated::with(&fabric), 2);
    let (a, b) = world.pair();
    world.grant(b, Grant::Unlimited);
    let mut copied = |frame: Frame| {
        let before = [a, b].map(|end| world.driver(end.host).copied_bytes());
        let len = frame.len();
        world.post(a, Part::last(frame)).expect("there is room");
        assert_eq!(world.receive(b, 1)[0].body.len(), len);
        let after = [a, b].map(|end| world.driver(end.host).copied_bytes());
        [after[0] - before[0], after[1] - before[1]]
    };
    assert_eq!(copied(body(0, 50)), [50, 50], "inline");
    assert_eq!(copied(body(0, 1000)), [1000, 1000], "in a packet");
    assert_eq!(copied(registered(&sending, 0, 12_000)), [0, 12_000], "spliced into a packet");
    assert_eq!(copied(body(0, 100_000)), [100_000, 100_000], "in fragments");
    assert_eq!(copied(registered(&sending, 0, 1 << 20)), [0, 0], "by READ");
    fabric.hosts().into_iter().for_each(|host| fabric.refuse_memory(host, true));
    // Of an arena that was not registered before, and may not be now.
    let larger = registered(&sending, 0, 4 << 20);
    assert_eq!(copied(larger)[1], 4 << 20, "by a READ the long way, or in fragments");
}

/// Whatever happens to be registered when no more can be: the rest goes by copies, and all of it arrives.
#[test]
fn where_no_more_memory_can_be_registered_everything_still_arrives() {
    each_seed(0..60, |seed| {
        let fabric = Fabric::new(Duration::from_micros(2));
        let sending = FramePool::new(64 << 20);
        let mut world = World::new(&Simulated::with(&fabric), 2);
        let pair = world.pair();
        let mut lanes = Lane::both(pair);
        let mut chance = Chance::new(seed);
        let refused_at = chance.below(40);
        for turn in 0..300 {
            if turn == refused_at {
                fabric.hosts().into_iter().for_each(|host| fabric.refuse_memory(host, true));
            }
            for lane in &mut lanes {
                let next = any_body(&mut chance, &sending, lane.posted);
                lane.post(&mut world, next);
                world.grant(lane.to, Grant::Limited(50));
            }
            world.step();
            lanes.iter_mut().for_each(|lane| lane.take(&mut world));
        }
        for lane in &lanes {
            world.grant(lane.to, Grant::Unlimited);
        }
        world.settle();
        lanes.iter_mut().for_each(|lane| lane.take(&mut world));
        assert!(lanes.iter().all(|lane| lane.arrived == lane.posted), "{lanes:?}");
        assert_eq!(fabric.count().receiver_not_ready, 0, "credit has failed");
        drop(world);
        assert_eq!(fabric.count().regions, 0, "a registration outlives its driver");
        assert_eq!(sending.usage().lent_slots, 0, "a sent frame is still held");
    });
}
