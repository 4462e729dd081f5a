//! The simulated byte stream under the conformance suite, and what the suite cannot see: every split, garbage, resets.

use fabriq_testkit::media::{Chance, Stream, each_seed};
use fabriq_testkit::{End, World, body, seq_of};
use transport_core::{DownReason, Grant, MechanismName, Part, Progress, Role, Violation};

fabriq_testkit::conformance!(stream, Stream::new(1), skipped = 2);
fabriq_testkit::conformance!(small_buffers, Stream::with_buffer(2, 3001), skipped = 2);
fabriq_testkit::conformance_ciphered!(ciphered, Stream::new(3), skipped = 3);
fabriq_testkit::conformance_faulty!(faulty, Stream::new(4), seed = 4, skipped = 3);

/// What a well-behaved peer says first.
fn hello() -> Vec<u8> {
    let mut hello = vec![0xfb, 1, 0];
    hello.extend(MechanismName::NULL.to_wire());
    hello
}

fn header(flags: u8, length: u64) -> Vec<u8> {
    let mut header = vec![flags];
    header.extend(length.to_be_bytes());
    header
}

#[test]
fn messages_survive_every_buffer_size() {
    each_seed(1..64, |seed| {
        let stream = Stream::with_buffer(seed, seed as usize);
        let mut world = World::new(&stream, 2);
        let pair = world.pair();
        for (from, to) in world.directions(pair) {
            world.grant(to, Grant::Unlimited);
            for seq in 0..20 {
                let parts = vec![Part::more(body(seq, 8 + seq as usize)), Part::last(body(seq, 100))];
                world.send_parts(from, parts);
            }
            let parts = world.receive(to, 40);
            for (at, part) in parts.iter().enumerate() {
                assert_eq!(seq_of(&part.body), at as u64 / 2);
                assert_eq!(part.flags.more(), at % 2 == 0);
            }
        }
        drop(world);
        assert_eq!(stream.connections(), 0);
    });
}

#[test]
fn a_peer_that_is_none_loses_its_own_connection_only() {
    let stream = Stream::new(1);
    let mut world = World::new(&stream, 2);
    let (listening, endpoint) = {
        let endpoint = world.fresh();
        world.bind(0, &endpoint)
    };
    let connect = world.request(&endpoint, Role::Connect);
    let (_, a, b) = world.join(0, listening, 1, connect);
    world.grant(b, Grant::Unlimited);
    let cases: [(&str, Vec<u8>, DownReason); 4] = [
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Violation::BadGreeting.into()),
        ("half a hello", hello()[..10].to_vec(), DownReason::TimedOut),
        ("nothing", Vec::new(), DownReason::TimedOut),
        ("garbage behind the magic", [&[0xfb][..], &[0xff; 30]].concat(), Violation::BadGreeting.into()),
    ];
    for (what, bytes, expected) in cases {
        let raw = stream.dial_raw(&endpoint).unwrap();
        world.settle();
        raw.write(&bytes);
        let failed = |world: &World| {
            world.hosts[0].opens[&listening].progress.iter().rev().find_map(|progress| match progress {
                Progress::HandshakeFailed { reason, .. } => Some(*reason),
                _ => None,
            })
        };
        let before = world.hosts[0].opens[&listening].progress.len();
        world.run_until(what, |world| world.hosts[0].opens[&listening].progress.len() > before);
        assert_eq!(failed(&world), Some(expected), "{what}");
        world.settle();
        assert!(raw.is_over(), "{what}");
    }
    world.send(a, &[b"undisturbed"]);
    assert_eq!(world.receive(b, 1)[0].body, b"undisturbed");
}

#[test]
fn a_peer_that_breaks_the_framing_is_told_off_after_what_it_said_well() {
    each_seed(0..40, |seed| {
        let stream = Stream::new(seed);
        let mut world = World::new(&stream, 1);
        let endpoint = world.fresh();
        let (listening, endpoint) = world.bind(0, &endpoint);
        let cases = [
            (header(9, 3), DownReason::Violation(Violation::BadFrame)),
            (header(0, 1 << 40), DownReason::Violation(Violation::TooLarge)),
        ];
        for (bad, expected) in cases {
            let known = world.hosts[0].opens[&listening].links.len();
            let raw = stream.dial_raw(&endpoint).unwrap();
            world.settle();
            raw.write(&[hello(), header(0, 4), b"good".to_vec(), bad].concat());
            world.run_until("Up", |world| world.hosts[0].opens[&listening].links.len() > known);
            let end = End { host: 0, link: world.hosts[0].opens[&listening].links[known] };
            world.grant(end, Grant::Unlimited);
            assert_eq!(world.await_down(end), expected);
            assert_eq!(world.take(end)[0].body, b"good");
        }
    });
}

#[test]
fn a_claimed_length_costs_no_memory() {
    let stream = Stream::new(1);
    let mut world = World::new(&stream, 1);
    let endpoint = world.fresh();
    let (listening, endpoint) = world.bind(0, &endpoint);
    let raw = stream.dial_raw(&endpoint).unwrap();
    world.settle();
    raw.write(&[hello(), header(0, 8 << 30)].concat());
    world.run_until("Up", |world| !world.hosts[0].opens[&listening].links.is_empty());
    let end = End { host: 0, link: world.hosts[0].opens[&listening].links[0] };
    world.grant(end, Grant::Unlimited);
    world.settle();
    assert_eq!(world.hosts[0].pool.usage().lent_slots, 0);
    assert!(!world.is_down(end), "it may still say the rest");
    raw.shut();
    assert!(matches!(world.await_down(end), DownReason::Broken(_)), "an end inside a part");
}

#[test]
fn a_peer_that_is_killed_anywhere_ends_its_link_once() {
    each_seed(0..200, |seed| {
        let stream = Stream::with_buffer(seed, 1 + seed as usize % 300);
        let mut world = World::new(&stream, 2);
        let (a, b) = world.pair();
        world.grant(b, Grant::Unlimited);
        world.grant(a, Grant::Unlimited);
        let mut chance = Chance::new(seed);
        let mut arrived = 0;
        for seq in 0..chance.below(60) as u64 {
            let _ = world.post(a, Part::last(body(seq, 8 + chance.below(200))));
            let _ = world.post(b, Part::last(body(seq, 50)));
            world.flush(0);
            world.flush(1);
            world.step();
            for part in world.take(b) {
                assert_eq!(seq_of(&part.body), arrived);
                arrived += 1;
            }
        }
        world.drop_driver(0);
        assert!(matches!(world.await_down(b), DownReason::Broken(_) | DownReason::ClosedByPeer));
        drop(world);
        assert_eq!(stream.connections(), 0);
    });
}
