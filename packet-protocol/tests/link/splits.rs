//! The same parts, cut in every way: by packets, by budgets, by grants, by how much is posted at once.

use testkit::media::{Chance, each_seed};
use transport_core::Grant;

use crate::traffic::any_item;
use crate::world::{Item, Plan, World};

/// Turns after which any exchange here is over. The longest takes some hundreds.
const TURNS_MAX: usize = 20_000;

#[test]
fn a_part_of_any_length_arrives_whole_wherever_in_a_packet_it_begins() {
    let plan = Plan::small();
    for len in 0..=1200 {
        for (registered, before) in
            [0, 64, 300, 456, 470].into_iter().flat_map(|at| [(false, at), (true, at)])
        {
            let mut world = World::new(&plan);
            world.post(0, 0, Item { registered: false, ..Item::plain(0, before) });
            world.post(0, 0, Item { registered, more: true, ..Item::plain(1, len) });
            world.post(0, 0, Item { registered, ..Item::plain(2, 1200 - len) });
            world.finish();
            world.dismantle();
        }
    }
}

/// Both sides, a little of everything in each turn, until nothing is left to do.
fn trickle(world: &mut World, limit: usize, grant: u64, packets: usize) {
    for turn in 0..TURNS_MAX {
        let mut progress = false;
        for host in 0..2 {
            progress |= world.transmit(0, host);
            progress |= world.complete_sends(0, host);
            progress |= world.serve_read(0, host, turn);
            progress |= world.poll_cq(0, host);
            progress |= world.poll(0, host, limit);
            if world.ends[0][host].granted() == 0
                && world.ends[0][host].arrived < world.ends[0][1 - host].items.len()
            {
                world.grant(0, host, Grant::Limited(grant));
                progress = true;
            }
            progress |= world.pump(0, host, packets);
        }
        if !progress {
            return;
        }
    }
    panic!("two ends talk for ever: {TURNS_MAX} turns were not enough");
}

#[test]
fn everything_arrives_whatever_the_budget_the_grant_and_the_packets_at_once() {
    each_seed(0..4, |seed| {
        for cut in 0..5 * 5 * 3 {
            let (limit, grant, packets) = (1 + cut % 5, 1 + cut / 5 % 5, 1 + cut / 25);
            let mut chance = Chance::new(seed);
            let mut world = World::new(&Plan::small());
            for host in 0..2 {
                for seq in 0..30 {
                    let mut item = any_item(&mut chance, seq);
                    item.more &= !item.command && seq < 29;
                    let inside = world.ends[0][host].items.last().is_some_and(|last| last.more);
                    item.command &= !inside;
                    assert!(world.post(0, host, item));
                }
            }
            trickle(&mut world, limit, grant as u64, packets);
            world.finish();
            world.dismantle();
        }
    });
}
