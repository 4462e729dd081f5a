//! What is inproc's own: names, waiting for a name, contexts, frames that are moved. The rest is in the suite.

use std::sync::Arc;
use std::time::Instant;

use fabriq_transport_inproc::{InprocTransport, limits};
use testkit::{Bell, Subject, World};
use transport_core::{
    Close, Completion, Driver, DriverEnv, Endpoint, Flow, Frame, FramePool, Grant, OpenError, Part, Role,
    Transport,
};

struct SubjectImpl;

impl Subject for SubjectImpl {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(InprocTransport::new())
    }
    fn fresh(&self) -> Endpoint {
        // Every world is a context of its own, and so is its table; the names of one world need only differ there.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let name = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Endpoint::parse(&format!("inproc://rendezvous {name}")).expect("a valid name")
    }
    fn nobody(&self) -> Option<Endpoint> {
        None
    }
    fn real_time(&self) -> bool {
        false
    }
}

#[test]
fn a_connect_waits_for_its_bind() {
    for (connectors, binder) in [([1, 1], 0), ([0, 1], 0), ([1, 0], 1)] {
        let mut world = World::new(&SubjectImpl, 2);
        let endpoint = world.fresh();
        let dialled = connectors.map(|host| (host, world.connect(host, &endpoint)));
        world.settle();
        let (listening, _) = world.bind(binder, &endpoint);
        world.run_until("everybody's Up", |world| {
            let up = |(host, open): &(usize, _)| world.hosts[*host].opens[open].links.len() == 1;
            dialled.iter().all(up) && world.hosts[binder].opens[&listening].links.len() == 2
        });
        // Another bind under the name is refused, and leaves those who are up alone.
        let request = world.request(&endpoint, Role::Bind);
        assert_eq!(world.open(1, request), Err(OpenError::AddressInUse(endpoint)));
    }
}

#[test]
fn a_wait_can_be_given_up() {
    let mut world = World::new(&SubjectImpl, 2);
    let endpoint = world.fresh();
    let given_up = world.connect(1, &endpoint);
    let kept = world.connect(1, &endpoint);
    world.close_open(1, given_up);
    let (listening, _) = world.bind(0, &endpoint);
    world.run_until("Up", |world| !world.hosts[1].opens[&kept].links.is_empty());
    world.settle();
    assert!(world.hosts[1].opens[&given_up].links.is_empty());
    assert_eq!(world.hosts[0].opens[&listening].links.len(), 1);
}

#[test]
fn a_name_can_be_bound_again_and_met_again() {
    let mut world = World::new(&SubjectImpl, 2);
    let endpoint = world.fresh();
    for _ in 0..3 {
        let (listening, _) = world.bind(0, &endpoint);
        let connect = world.request(&endpoint, Role::Connect);
        let (_, a, _) = world.join(0, listening, 1, connect);
        world.close_open(0, listening);
        world.close(a, Close::Abort);
    }
}

#[test]
fn names_are_any_text_up_to_the_limit() {
    let transport = InprocTransport::new();
    for (name, fits) in [
        ("a", true),
        ("what? a=b&c #1 \u{1f980}", true),
        (&"n".repeat(limits::NAME_MAX), true),
        (&"n".repeat(limits::NAME_MAX + 1), false),
    ] {
        let endpoint = Endpoint::parse(&format!("inproc://{name}")).expect("a valid URL");
        let said = transport.capabilities(&endpoint, Flow::Duplex);
        assert_eq!(said.is_ok(), fits, "{name}");
        let mut world = World::new(&SubjectImpl, 1);
        for role in [Role::Bind, Role::Connect] {
            let request = world.request(&endpoint, role);
            let opened = world.open(0, request);
            assert!(opened.is_ok() || matches!(&opened, Err(OpenError::BadAddress { .. })));
            assert_eq!(opened.is_ok(), fits, "{name}");
        }
    }
}

#[test]
fn contexts_do_not_meet() {
    let endpoint = Endpoint::parse("inproc://the same name").expect("a valid name");
    let world = World::new(&SubjectImpl, 1);
    let make = |context| {
        let env = DriverEnv { receive_pool: FramePool::new(1 << 20), wake: Bell::new(), context };
        InprocTransport::new().driver(env).expect("a driver")
    };
    let said = |driver: &mut dyn Driver| {
        let mut out = Vec::new();
        driver.poll(Instant::now(), &mut out, 100);
        out
    };
    let (mut one, mut other) = (make(1), make(2));
    for driver in [&mut one, &mut other] {
        driver.open(world.request(&endpoint, Role::Bind)).expect("free in this context");
    }
    let mut third = make(2);
    third.open(world.request(&endpoint, Role::Connect)).expect("dials");
    assert!(matches!(said(&mut *third)[..], [Completion::Up { .. }]));
    assert!(matches!(said(&mut *one)[..], [Completion::Bound { .. }]));
    assert!(matches!(said(&mut *other)[..], [Completion::Bound { .. }, Completion::Up { .. }]));
}

#[test]
fn a_sender_has_the_room_that_the_receiver_has_granted() {
    for hosts in [1, 2] {
        let mut world = World::new(&SubjectImpl, hosts);
        let endpoint = world.fresh();
        let mut bind = world.request(&endpoint, Role::Bind);
        bind.identity.receive_hwm = 3;
        let mut connect = world.request(&endpoint, Role::Connect);
        connect.identity.receive_hwm = 5;
        let (a, b) = world.pair_with(0, bind, hosts - 1, connect);
        // Each has the room of the other's mark before anything is granted, and the first grant adds nothing to that.
        assert_eq!((world.room(a), world.room(b)), (5, 3));
        world.send(a, &[b"1"]);
        world.grant(b, Grant::Limited(5));
        assert_eq!(world.room(a), 4);
        world.settle();
        assert_eq!(
            (world.room(a), world.link(b).arrived),
            (4, 1),
            "what was delivered has used up its grant"
        );
        world.send(a, &[b"2", b"3", b"4", b"5"]);
        assert_eq!(world.room(a), 0);
        world.settle();
        assert_eq!((world.link(a).writables, world.link(b).arrived), (0, 5));
        // The receiver's application takes two.
        world.grant(b, Grant::Limited(2));
        world.run_until("Writable", |world| world.link(a).writables == 1);
        assert_eq!(world.room(a), 2);
        // A command takes a place only until it is delivered.
        world.send_parts(a, vec![Part::command("c")]);
        world.settle();
        assert_eq!((world.room(a), world.link(b).arrived), (2, 6));
        // However much is granted, a lane has its limit.
        world.grant(b, Grant::Unlimited);
        assert_eq!(world.room(a), limits::LANE_PARTS_MAX as usize);
    }
}

#[test]
fn a_sender_may_use_what_was_granted_and_taken_back() {
    let mut world = World::new(&SubjectImpl, 2);
    let endpoint = world.fresh();
    let bind = world.request(&endpoint, Role::Bind);
    let mut connect = world.request(&endpoint, Role::Connect);
    connect.identity.receive_hwm = 1;
    let (a, b) = world.pair_with(0, bind, 1, connect);
    world.grant(b, Grant::Limited(4));
    world.grant(b, Grant::Limited(2));
    assert_eq!(world.room(a), 4, "room holds until the next poll");
    for seq in 0..4u8 {
        world.send(a, &[&[seq]]);
    }
    world.settle();
    assert_eq!((world.room(a), world.link(b).arrived), (0, 2));
    world.grant(b, Grant::Limited(2));
    world.settle();
    assert_eq!((world.room(a), world.link(b).arrived), (0, 4), "the grant was used up by what waited for it");
    world.grant(b, Grant::Limited(1));
    world.run_until("Writable", |world| world.link(a).writables == 1);
    assert_eq!(world.room(a), 1);
}

#[test]
fn a_frame_is_moved_and_not_copied() {
    let mut world = World::new(&SubjectImpl, 2);
    let (a, b) = world.pair();
    world.grant(b, Grant::Unlimited);
    let body = Frame::from(vec![1; 1 << 20]);
    let start = body.as_ptr();
    world.send_parts(a, vec![Part::last(body)]);
    assert_eq!(world.receive(b, 1)[0].body.as_ptr(), start);
    assert_eq!([a, b].map(|end| world.driver(end.host).copied_bytes()), [0, 0]);
}

#[test]
fn what_was_sent_is_read_before_the_end_is_seen() {
    for how in [Close::Abort, Close::Drain { until: None }] {
        let mut world = World::new(&SubjectImpl, 2);
        let (a, b) = world.pair();
        for seq in 0..100u8 {
            world.send(a, &[&[seq]]);
        }
        world.close(a, how);
        world.settle();
        assert!(!world.is_down(b), "not before everything is read");
        world.grant(b, Grant::Unlimited);
        world.await_down(b);
        world.await_down(a);
        assert_eq!(world.take(b).len(), 100);
    }
}
