//! Properties of opens and links: how they begin, what they say of themselves, how they end. Tests no traffic beyond
//! what shows that a link works.

use std::time::Duration;

use transport_core::{
    Close, DownReason, Grant, Hello, LinkId, OpenError, Part, RefusedReason, Role, SessionKind, SlabKey,
    Topology, Violation,
};

use crate::subject::Subject;
use crate::world::{End, World, body, seq_of};

/// Both ways where there are two, `count` messages each, in order.
pub(super) fn exchange(world: &mut World, pair: (End, End), count: u64) {
    for (from, to) in world.directions(pair) {
        world.grant(to, Grant::Unlimited);
        for seq in 0..count {
            world.send_parts(from, vec![Part::last(body(seq, 100))]);
        }
        let parts = world.receive(to, count as usize);
        assert_eq!(
            parts.iter().map(|part| seq_of(&part.body)).collect::<Vec<_>>(),
            (0..count).collect::<Vec<_>>()
        );
    }
}

pub(super) fn up_precedes_traffic(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    // An id that nobody gave is as harmless as one that is stale.
    let nobody: LinkId = SlabKey::from_u64(u64::MAX).into();
    let refused = world.post(End { host: 0, link: nobody }, Part::last("early")).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::Closed);
    world.grant(End { host: 0, link: nobody }, Grant::Unlimited);
    // The world checks the order of completions; here the connecting side sends before anything else has happened.
    let pair = world.pair();
    exchange(&mut world, pair, 100);
}

pub(super) fn exactly_one_down(subject: &dyn Subject) {
    for how in [Close::Abort, Close::Drain { until: None }] {
        for closer in 0..2 {
            let mut world = World::new(subject, 2);
            let pair = world.pair();
            exchange(&mut world, pair, 3);
            let (here, there) = if closer == 0 { pair } else { (pair.1, pair.0) };
            world.close(here, how);
            // A drain ends when the peer has gone too, so this also says that a drain is seen by the peer.
            assert_eq!(world.await_down(here), DownReason::ClosedHere);
            if world.capabilities.topology == Topology::Unicast {
                world.await_down(there);
            }
            for again in [how, Close::Abort] {
                world.close(here, again);
                world.grant(here, Grant::Unlimited);
                world.flush(here.host);
                world.settle();
            }
        }
    }
}
