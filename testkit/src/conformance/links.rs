//! Properties of opens and links: how they begin, what they say of themselves, what ends them. Tests no traffic beyond
//! what shows that a link works.

use transport_core::{
    Close, DownReason, Frame, Grant, Hello, LinkId, MechanismName, OpenError, Part, RefusedReason, Role,
    SessionKind, SlabKey, Topology, Violation,
};

use super::follow::{Follower, follow_until, message};
use crate::subject::Subject;
use crate::world::{End, World};

/// Every way there is, `count` messages each. Where parts may go missing, the gaps are checked instead, and that
/// anything came at all.
pub(super) fn exchange(world: &mut World, pair: (End, End), count: u64) {
    for (from, to) in world.directions(pair) {
        world.grant(to, Grant::Unlimited);
        for seq in 0..count {
            world.send_parts(from, message(seq, 1, 100));
        }
        let mut follower = Follower::default();
        if world.reliable() {
            follow_until(world, to, &mut follower, |follower| follower.whole == count);
        } else {
            world.settle();
            follower.all(world.take_events(to));
            assert!(follower.whole > 0, "nothing arrived at all: {world:#?}");
        }
    }
}

pub(super) fn up_precedes_traffic(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    // An id that nobody gave is as harmless as one that is stale.
    let nobody: LinkId = SlabKey::from_u64(u64::MAX).into();
    let refused = world.post(End { host: 0, link: nobody }, Part::last("early")).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::Closed);
    world.grant(End { host: 0, link: nobody }, Grant::Unlimited);
    // The world checks the order of completions.
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
            // A drain ends when the peer has gone too, so this also says that the peer sees it.
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

pub(super) fn hello_and_identity_reach_the_peer(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let endpoint = world.fresh();
    let mut bind = world.request(&endpoint, Role::Bind);
    let mut connect = world.request(&endpoint, Role::Connect);
    let routing_ids = [&b"binder"[..], &b"connector"[..]];
    connect.hello = Hello { mechanism: MechanismName::new("PLAIN"), ..Hello::NULL };
    bind.hello = Hello { as_server: true, ..connect.hello };
    (bind.identity.routing_id, connect.identity.routing_id) =
        (Frame::from(routing_ids[0]), Frame::from(routing_ids[1]));
    (bind.identity.send_hwm, connect.identity.receive_hwm) = (7, 9);
    let hellos = [bind.hello, connect.hello];
    let (a, b) = world.pair_with(0, bind, 1, connect);
    for (end, peer) in [(a, 1), (b, 0)] {
        let info = &world.link(end).peer;
        assert_eq!(info.hello, hellos[peer]);
        assert!(!info.address.is_empty(), "monitors need an address");
        if world.capabilities.session == SessionKind::InProcess {
            let identity = info.identity.as_ref().expect("no READY will come, so Up must carry the identity");
            assert_eq!(identity.routing_id, routing_ids[peer]);
            assert_eq!((identity.send_hwm, identity.receive_hwm), if peer == 0 { (7, 0) } else { (0, 9) });
        }
    }
}

pub(super) fn wildcard_bind_reports_its_real_port(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let endpoint = world.fresh();
    let (listening, bound) = world.bind(0, &endpoint);
    assert_eq!(bound.scheme(), endpoint.scheme());
    assert!(!bound.address().contains('*'), "{bound} is no real address");
    let connect = world.request(&bound, Role::Connect);
    let (_, a, b) = world.join(0, listening, 1, connect);
    exchange(&mut world, (a, b), 3);
    if bound != endpoint {
        // A wildcard means another port every time.
        let (_, other) = world.bind(0, &endpoint);
        assert_ne!(other, bound);
    }
}

pub(super) fn address_in_use(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let endpoint = world.fresh();
    let (_, bound) = world.bind(0, &endpoint);
    for host in 0..2 {
        let request = world.request(&bound, Role::Bind);
        // Some know at once, some find out.
        let error = match world.open(host, request) {
            Err(error) => error,
            Ok(open) => {
                world.run_until("Failed", |world| world.hosts[host].opens[&open].failed.is_some());
                world.hosts[host].opens[&open].failed.clone().expect("checked above")
            }
        };
        assert_eq!(error, OpenError::AddressInUse(bound.clone()));
    }
}

pub(super) fn connection_refused_is_a_completion(subject: &dyn Subject) {
    let mut world = World::new(subject, 1);
    let endpoint = subject.nobody().expect("selected by it");
    let open = world.connect(0, &endpoint);
    world.run_until("Failed", |world| world.hosts[0].opens[&open].failed.is_some());
    let failed = &world.hosts[0].opens[&open].failed;
    assert!(matches!(failed, Some(OpenError::Unreachable { .. })), "{failed:?}");
    assert!(failed.as_ref().is_some_and(|error| error.to_string().contains(endpoint.as_str())), "{failed:?}");
    // Gone, so closing it means nothing.
    world.close_open(0, open);
    world.settle();
}

pub(super) fn stale_ids_are_closed(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let old = world.pair();
    exchange(&mut world, old, 2);
    for end in [old.0, old.1] {
        world.close(end, Close::Abort);
    }
    for end in [old.0, old.1] {
        world.await_down(end);
    }
    // The new links may well stand in the same places.
    let new = world.pair();
    for end in [old.0, old.1] {
        assert_eq!(world.driver(end.host).room(end.link), 0);
        for part in [Part::last("stale"), Part::command("stale")] {
            let refused = world.post(end, part).unwrap_err();
            assert_eq!((refused.reason, &*refused.part.body), (RefusedReason::Closed, &b"stale"[..]));
        }
        world.grant(end, Grant::Unlimited);
        world.close(end, Close::Abort);
        world.close(end, Close::Drain { until: None });
        let stale = world.link(end).open;
        world.close_open(end.host, stale);
        world.flush(end.host);
    }
    exchange(&mut world, new, 10);
}

pub(super) fn close_open_keeps_links(subject: &dyn Subject) {
    let mut world = World::new(subject, 3);
    let endpoint = world.fresh();
    let (listening, bound) = world.bind(0, &endpoint);
    let connect = world.request(&bound, Role::Connect);
    let (dialled, a, b) = world.join(0, listening, 1, connect);
    world.close_open(0, listening);
    world.close_open(1, dialled);
    world.settle();
    exchange(&mut world, (a, b), 10);
    if world.capabilities.topology == Topology::Unicast {
        // The address is free again.
        let (listening, bound) = world.bind(2, &bound);
        let connect = world.request(&bound, Role::Connect);
        let (_, c, d) = world.join(2, listening, 1, connect);
        exchange(&mut world, (c, d), 3);
        assert!(!world.is_down(a) && !world.is_down(b));
    }
}

pub(super) fn close_open_silences_an_open(subject: &dyn Subject) {
    // The world forbids any word about an open after close_open; here it is closed at every step of its making.
    for steps in 0..8 {
        for closer in 0..2 {
            let mut world = World::new(subject, 2);
            world.budget = 1;
            let endpoint = world.fresh();
            let (listening, bound) = world.bind(0, &endpoint);
            let dialling = world.connect(1, &bound);
            for _ in 0..steps {
                world.step();
            }
            let open = [listening, dialling][closer];
            world.close_open(closer, open);
            world.close_open(closer, open);
            world.settle();
            // Whoever came up alone must not be left in the dark: where there is a link, it is on both sides.
            if world.capabilities.topology == Topology::Unicast {
                world.run_until("links that have two ends", |world| {
                    let live =
                        |host: usize| world.hosts[host].links.values().filter(|link| link.down.is_none());
                    live(0).count() == live(1).count()
                });
            }
        }
        let mut world = World::new(subject, 1);
        let endpoint = world.fresh();
        let request = world.request(&endpoint, Role::Bind);
        let open = world.open(0, request).expect("binds");
        for _ in 0..steps.min(2) {
            world.step();
        }
        world.close_open(0, open);
        world.settle();
    }
}

pub(super) fn two_links_do_not_mix(subject: &dyn Subject) {
    let mut world = World::new(subject, 3);
    let endpoint = world.fresh();
    let (listening, bound) = world.bind(0, &endpoint);
    let mut pairs = Vec::new();
    for host in [1, 2, 1] {
        let connect = world.request(&bound, Role::Connect);
        let (_, a, b) = world.join(0, listening, host, connect);
        pairs.push((a, b));
    }
    // Numbers tell the links apart: a message on the wrong one is out of order there.
    let base = |link: usize| (link as u64 + 1) << 32;
    let mut followers: Vec<_> = (0..3).map(|link| [(); 2].map(|()| Follower::from(base(link)))).collect();
    for (a, b) in &pairs {
        world.grant(*a, Grant::Unlimited);
        world.grant(*b, Grant::Unlimited);
    }
    for seq in 0..60 {
        for (link, (a, b)) in pairs.iter().enumerate() {
            // One link ends in the middle of it, and only that one.
            if link == 1 && seq >= 30 {
                continue;
            }
            for end in [*a, *b] {
                world.send_parts(end, message(base(link) + seq, seq % 3 + 1, 200));
            }
        }
        if seq == 30 {
            let (a, b) = pairs[1];
            world.close(a, Close::Drain { until: None });
            world.await_down(a);
            world.await_down(b);
        }
    }
    world.settle();
    for (link, (a, b)) in pairs.iter().enumerate() {
        for (follower, end) in followers[link].iter_mut().zip([*a, *b]) {
            follower.all(world.take_events(end));
            // Of what came towards a link that drains, some is dropped.
            assert!(follower.whole == 60 || (link == 1 && follower.whole <= 30), "link {link}: {follower:?}");
        }
        assert_eq!(world.is_down(*a), link == 1);
    }
}

pub(super) fn both_ends_in_one_driver(subject: &dyn Subject) {
    for how in [Close::Abort, Close::Drain { until: None }] {
        let mut world = World::new(subject, 1);
        let pair = world.pair_of(0, 0);
        exchange(&mut world, pair, 100);
        world.close(pair.0, how);
        world.await_down(pair.0);
        world.await_down(pair.1);
    }
}

pub(super) fn dropping_a_driver_ends_its_links(subject: &dyn Subject) {
    for gone in 0..2 {
        let mut world = World::new(subject, 3);
        let endpoint = world.fresh();
        let (listening, bound) = world.bind(0, &endpoint);
        let connect = world.request(&bound, Role::Connect);
        let (_, a, b) = world.join(0, listening, 1, connect);
        exchange(&mut world, (a, b), 3);
        world.drop_driver(gone);
        world.await_down([b, a][gone]);
        if gone == 0 {
            // It listens no more either.
            world.bind(2, &bound);
        }
    }
}

pub(super) fn part_max_is_enforced(subject: &dyn Subject) {
    const MAX: usize = 5000;
    for (len, command) in [(MAX, false), (MAX + 1, false), (MAX * 1000, false), (MAX * 1000, true)] {
        let mut world = World::new(subject, 2);
        let endpoint = world.fresh();
        let mut bind = world.request(&endpoint, Role::Bind);
        bind.limits.part_max = Some(MAX as u64);
        let connect = world.request(&endpoint, Role::Connect);
        let (a, b) = world.pair_with(0, bind, 1, connect);
        world.grant(a, Grant::Unlimited);
        world.grant(b, Grant::Unlimited);
        let part = message(0, 1, len).remove(0);
        let part = if command { Part::command(part.body) } else { part };
        // The other way there is no limit.
        world.send_parts(a, message(0, 1, MAX + 1));
        world.receive(b, 1);
        world.send_parts(b, vec![part]);
        if len <= MAX {
            assert_eq!(world.receive(a, 1).len(), 1);
            continue;
        }
        assert_eq!(world.await_down(a), DownReason::Violation(Violation::TooLarge));
        assert!(world.take(a).is_empty(), "a part beyond the limit arrived");
        world.await_down(b);
    }
}
