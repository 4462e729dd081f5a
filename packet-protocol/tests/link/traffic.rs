//! What holds while a link is up, whatever the order in which things happen. Tests no endings.

use fabriq_packet_protocol::limits::QUEUE_PARTS_MAX;
use fabriq_packet_protocol::{Offer, Policy};
use testkit::media::{Chance, each_seed};
use transport_core::Grant;

use crate::world::{Item, Plan, World};

/// Any part that takes another way: inline, copied, spliced, in fragments, by READ in one piece or several.
pub(crate) fn any_item(chance: &mut Chance, seq: u32) -> Item {
    let len = match chance.below(8) {
        0 => 0,
        1 | 2 => chance.below(65),
        3 | 4 => chance.below(480),
        5 => 480 + chance.below(40),
        6 => chance.below(2500),
        _ => chance.below(9000),
    };
    let command = chance.below(12) == 0;
    Item { seq, len, more: !command && chance.below(4) == 0, command, registered: chance.below(4) != 0 }
}

/// Both sides post, grant and do what they can, by lot.
fn hustle(world: &mut World, chance: &mut Chance, steps: usize) {
    for _ in 0..steps {
        let (at, host) = (chance.below(world.ends.len()), chance.below(2));
        match chance.below(10) {
            0 | 1 => {
                let item = any_item(chance, world.ends[at][host].items.len() as u32);
                // No command stands inside a message.
                let inside = world.ends[at][host].items.iter().rev().find(|item| !item.command);
                if !(item.command && inside.is_some_and(|item| item.more)) {
                    world.post(at, host, item);
                }
            }
            2 => world.grant(at, host, Grant::Limited(chance.below(12) as u64)),
            _ => world.step(chance),
        }
    }
}

#[test]
fn everything_arrives_once_and_in_order_whatever_the_timing() {
    let (mut spliced, mut reads, mut control) = (0, 0, 0);
    each_seed(0..400, |seed| {
        let mut chance = Chance::new(seed);
        let mut plan = Plan::small();
        // Credit counts across the wrap of its counters, in a quarter of the worlds.
        plan.start = if seed % 4 == 0 { u32::MAX - chance.below(40) as u32 } else { 0 };
        plan.extra = chance.below(12) as u32;
        for offer in &mut plan.offers {
            offer.data_credits = 1 + chance.below(3) as u16;
            offer.control_credits = 3 + chance.below(3) as u8;
            offer.packet_len = [512, 512, 1024, 4096][chance.below(4)];
            offer.reads = chance.below(4) as u8;
            offer.transfers = chance.below(4) as u16;
        }
        plan.pool = if chance.below(4) == 0 { 0 } else { 4 << 20 };
        let mut world = World::new(&plan);
        hustle(&mut world, &mut chance, 3000);
        world.finish();
        for end in world.ends.iter().flatten() {
            spliced += end.spliced;
            reads += end.polled_reads;
            control += end.control_packets;
        }
        world.dismantle();
    });
    assert!(spliced > 1000 && reads > 1000 && control > 1000, "{spliced} {reads} {control}");
}

#[test]
fn links_that_share_a_receive_queue_never_promise_more_than_is_posted() {
    each_seed(0..60, |seed| {
        let mut chance = Chance::new(seed);
        let mut plan = Plan::small();
        (plan.links, plan.shared) = (2 + chance.below(6), true);
        plan.extra = chance.below(20) as u32;
        let mut world = World::new(&plan);
        hustle(&mut world, &mut chance, 6000);
        world.finish();
        world.dismantle();
    });
}

#[test]
fn both_sides_with_spent_pools_and_full_pipes_still_progress() {
    let mut plan = Plan::small();
    (plan.pool, plan.extra) = (0, 0);
    let mut world = World::new(&plan);
    for host in 0..2 {
        let mut seq = 0;
        // Every size, until nobody takes any more; nobody reads.
        while world.post(0, host, Item::plain(seq, [10, 400, 700, 5000][seq as usize % 4])) {
            seq += 1;
            assert!((seq as usize) < 2 * QUEUE_PARTS_MAX, "a queue without end");
        }
    }
    world.settle();
    assert!(world.ends[0].iter().all(|end| end.arrived == 0 && end.sent < end.items.len() as u64));
    // One part at a time, turn by turn.
    for round in 0..40 {
        for host in 0..2 {
            world.grant(0, host, Grant::Limited(1));
            world.settle();
            assert_eq!(world.ends[0][host].arrived, round + 1);
        }
    }
    world.finish();
    world.dismantle();
}

#[test]
fn small_parts_share_packets_and_credit_rides_along() {
    let mut plan = Plan::small();
    for offer in &mut plan.offers {
        offer.packet_len = 8192;
    }
    let mut world = World::new(&plan);
    for host in 0..2 {
        world.grant(0, host, Grant::Unlimited);
    }
    for seq in 0..100 {
        world.post(0, 0, Item::plain(seq, 64));
    }
    world.settle();
    // 113 parts of 64 bytes fit, so a hundred are one packet, and one packet is not worth an explicit credit.
    let ends = &world.ends[0];
    assert_eq!((ends[1].arrived, ends[0].data_packets), (100, 1));
    assert_eq!(ends[0].control_packets + ends[1].control_packets, 0);
    // Ping-pong: no packet but those that carry parts.
    for round in 0..50 {
        world.post(0, 1, Item::plain(round, 64));
        world.settle();
        world.post(0, 0, Item::plain(100 + round, 64));
        world.settle();
    }
    let ends = &world.ends[0];
    assert_eq!((ends[0].data_packets, ends[1].data_packets), (51, 50));
    assert_eq!(ends[0].control_packets + ends[1].control_packets, 0);
    world.finish();
    world.dismantle();
}

#[test]
fn a_stream_earns_itself_a_window_and_few_control_packets() {
    let mut plan = Plan::small();
    plan.extra = 100;
    for (offer, policy) in plan.offers.iter_mut().zip(&mut plan.policies) {
        (offer.packet_len, policy.window_max) = (512, 64);
    }
    let mut world = World::new(&plan);
    world.grant(0, 1, Grant::Unlimited);
    let mut seq = 0;
    for _ in 0..50 {
        while world.ends[0][0].machine.room() > 0 {
            world.post(0, 0, Item { registered: false, ..Item::plain(seq, 400) });
            seq += 1;
            assert!((seq as usize) < 100 * QUEUE_PARTS_MAX, "a queue without end");
        }
        world.settle();
    }
    let ends = &world.ends[0];
    assert_eq!(ends[1].arrived, seq as usize);
    let (data, control) = (ends[0].data_packets, ends[0].control_packets + ends[1].control_packets);
    assert!(data == u64::from(seq) && control < data / 8, "{control} control packets for {data}");
    world.dismantle();
}

#[test]
fn a_frame_is_let_go_at_fin_and_sent_comes_only_then() {
    let mut world = World::new(&Plan::small());
    world.post(0, 0, Item { registered: false, ..Item::plain(0, 80) });
    world.post(0, 0, Item::plain(1, 3000));
    world.post(0, 0, Item::plain(2, 10));
    world.settle();
    // Copied parts are done with, but Sent is cumulative: the one behind waits for the one before.
    assert_eq!((world.ends[0][0].sent, world.ends[0][1].polled_reads), (1, 0));
    world.grant(0, 1, Grant::Limited(1));
    world.settle();
    assert_eq!((world.ends[0][1].arrived, world.ends[0][1].polled_reads), (1, 0), "no READ without grant");
    world.grant(0, 1, Grant::Limited(1));
    world.settle();
    assert_eq!((world.ends[0][0].sent, world.ends[0][1].arrived), (3, 2));
    assert_eq!(world.ends[0][1].polled_reads, 3, "in pieces of a thousand bytes");
    world.finish();
    world.dismantle();
}

#[test]
fn a_spliced_frame_stays_until_its_packet_has_left() {
    let mut world = World::new(&Plan::small());
    world.grant(0, 1, Grant::Unlimited);
    world.post(0, 0, Item::plain(0, 200));
    world.pump(0, 0, 1);
    world.poll(0, 0, 9);
    assert_eq!((world.ends[0][0].spliced, world.ends[0][0].sent), (1, 0));
    // The wire looks at the memory only now, and finds it.
    world.transmit(0, 0);
    world.poll(0, 0, 9);
    assert_eq!(world.ends[0][0].sent, 0);
    world.finish();
    assert_eq!(world.ends[0][0].sent, 1);
    world.dismantle();
}

#[test]
fn commands_need_no_grant_and_keep_their_place() {
    let mut world = World::new(&Plan::small());
    let command = |seq, len| Item { command: true, ..Item::plain(seq, len) };
    for (seq, len) in [(0, 5), (1, 200), (2, 3000)] {
        world.post(0, 0, command(seq, len));
    }
    world.post(0, 0, Item { registered: false, ..command(3, 3000) });
    world.settle();
    assert_eq!(world.ends[0][1].arrived, 4, "inline, spliced, by READ, in fragments");
    world.post(0, 0, Item::plain(4, 10));
    world.post(0, 0, command(5, 10));
    world.settle();
    assert_eq!(world.ends[0][1].arrived, 4, "a part without grant stands before it");
    // The other way is open.
    world.post(0, 1, command(0, 10));
    world.settle();
    assert_eq!(world.ends[0][0].arrived, 1);
    // One that is announced takes no memory while it waits.
    world.post(0, 0, command(6, 3000));
    let read = world.ends[0][1].polled_reads;
    world.settle();
    assert_eq!(world.ends[0][1].polled_reads, read);
    world.grant(0, 1, Grant::Limited(1));
    world.settle();
    assert_eq!(world.ends[0][1].arrived, 7);
    world.dismantle();
}

#[test]
fn a_grant_that_is_taken_back_holds_what_has_come() {
    let mut world = World::new(&Plan::small());
    for (seq, registered) in [(0, true), (1, false)] {
        world.post(0, 0, Item { registered, ..Item::plain(seq, 2500) });
        world.grant(0, 1, Grant::Limited(1));
        // Everything but the engine's poll; then the grant goes.
        for _ in 0..20 {
            for host in 0..2 {
                world.transmit(0, host);
                world.serve_read(0, host, 0);
                world.poll_cq(0, host);
                if host == 0 || seq == 0 {
                    world.pump(0, host, 9);
                }
            }
        }
        world.grant(0, 1, Grant::Limited(0));
        world.settle();
        assert_eq!(world.ends[0][1].arrived, seq as usize);
        world.grant(0, 1, Grant::Limited(5));
        world.settle();
        assert_eq!(world.ends[0][1].arrived, seq as usize + 1);
    }
    world.dismantle();
}

#[test]
fn a_link_without_reads_sends_everything_in_packets() {
    let mut plan = Plan::small();
    // Fragments are announced by nobody, so a transfer from here would be a violation there.
    plan.offers[1] = Offer { reads: 0, ..plan.offers[1] };
    let mut world = World::new(&plan);
    for seq in 0..10 {
        world.post(0, 0, Item::plain(seq, 3000));
        world.post(0, 1, Item::plain(seq, 600));
    }
    // And one that is long enough to be lent memory on trust.
    world.post(0, 0, Item::plain(10, 100_000));
    world.finish();
    let ends = &world.ends[0];
    assert_eq!(ends[0].polled_reads + ends[1].polled_reads, 0);
    // What went in fragments, what came in packets, and both at the other side.
    assert_eq!(world.hosts.each_ref().map(|host| host.stock.copied_bytes()), [136_000, 136_000]);
    world.dismantle();
}

#[test]
fn long_parts_with_a_key_are_never_copied() {
    let mut plan = Plan::small();
    for (offer, policy) in plan.offers.iter_mut().zip(&mut plan.policies) {
        *offer = Offer { packet_len: 64 << 10, ..*offer };
        *policy = Policy { part_max: None, ..Policy::default() };
    }
    plan.pool = 64 << 20;
    let mut world = World::new(&plan);
    // Below, at and above where a part would still fit a packet, and where it is read in pieces.
    for (seq, len) in [16 << 10, 65_512, 65_513, 1 << 20, 5_000_000].into_iter().enumerate() {
        world.post(0, 0, Item::plain(seq as u32, len));
    }
    world.finish();
    assert_eq!(world.hosts.each_ref().map(|host| host.stock.copied_bytes()), [0, 0]);
    assert_eq!(world.ends[0][1].polled_reads, 4 + 5);
    world.dismantle();
}
