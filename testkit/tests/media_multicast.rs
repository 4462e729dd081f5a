//! Simulated multicast under the conformance suite, and what the suite cannot see: exact gaps, no splices.

use std::sync::Arc;

use fabriq_testkit::media::{Chance, Conditions, Multicast, each_seed};
use fabriq_testkit::{End, Event, Subject, World, body, seq_of};
use transport_core::{DownReason, Endpoint, Flow, Grant, Loss, Open, Part, Role, Transport};

fabriq_testkit::conformance!(calm, Multicast::new(1), skipped = 22);
fabriq_testkit::conformance!(rough, Rough(Multicast::with(2, ROUGH)), skipped = 23);
fabriq_testkit::conformance_faulty!(faulty, Multicast::new(4), seed = 4, skipped = 22);

const ROUGH: Conditions = Conditions { loss_permille: 100, duplicate_permille: 50, reorder_permille: 100 };

/// Multicast in bad weather.
struct Rough(Multicast);

impl Subject for Rough {
    fn transport(&self) -> Arc<dyn Transport> {
        self.0.transport()
    }
    fn fresh(&self) -> Endpoint {
        self.0.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        None
    }
    fn real_time(&self) -> bool {
        false
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        vec![("empty_and_huge_messages", "without repair, no message of a thousand packets survives")]
    }
}

fn weather(loss_permille: u32) -> Conditions {
    Conditions { loss_permille, duplicate_permille: 100, reorder_permille: 200 }
}

/// Message `id` of `parts` parts, each of which says which it is.
fn message(id: u64, parts: u64, len: usize) -> Vec<Part> {
    let part = |at| {
        let body = body(id << 16 | parts << 8 | at, len);
        if at + 1 == parts { Part::last(body) } else { Part::more(body) }
    };
    (0..parts).map(part).collect()
}

/// What a receiver has made of one source.
#[derive(Debug, Default)]
struct Heard {
    messages: Vec<u64>,
    lost_packets: u64,
    dropped_messages: u64,
    /// Parts of the message that is being delivered.
    inside: u64,
    gap: bool,
}

impl Heard {
    /// Takes events, and refuses messages that are torn, spliced, repeated, out of order, or missing in silence.
    fn listen(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Gap(loss) => {
                    assert_eq!(self.inside, 0, "a gap inside a message");
                    self.gap = true;
                    match loss {
                        Loss::Packets(count) => self.lost_packets += count,
                        Loss::Messages(count) => self.dropped_messages += count,
                    }
                }
                Event::Part(part) => {
                    let word = seq_of(&part.body);
                    let (id, parts, at) = (word >> 16, word >> 8 & 0xff, word & 0xff);
                    assert_eq!(at, self.inside, "message {id} is torn or spliced");
                    assert_eq!(part.flags.more(), at + 1 < parts);
                    self.inside = if part.flags.more() { at + 1 } else { 0 };
                    if at == 0 {
                        let before = self.messages.last().copied();
                        let next = before.map_or(id, |before| before + 1);
                        assert!(
                            id == next || (id > next && self.gap),
                            "{before:?}, then {id}, without a gap"
                        );
                        self.messages.push(id);
                        self.gap = false;
                    } else {
                        assert_eq!(self.messages.last(), Some(&id), "spliced");
                    }
                }
            }
        }
    }
}

#[test]
fn gaps_are_exact_and_nothing_is_spliced_at_any_loss() {
    for loss_permille in (0..=500).step_by(50) {
        each_seed(0..12, |seed| {
            let medium = Multicast::new(seed);
            let mut world = World::new(&medium, 3);
            let (from, to) = world.pair();
            world.grant(to, Grant::Unlimited);
            let mut chance = Chance::new(seed);
            let mut heard = Heard::default();
            medium.set_conditions(weather(loss_permille));
            const MESSAGES: u64 = 300;
            for id in 0..MESSAGES {
                // From several to a packet, to several packets each; the sequence wraps within the first 64.
                let (parts, len) = (1 + chance.below(3) as u64, 8 + chance.below(400));
                world.send_parts(from, message(id, parts, len));
                if chance.below(4) == 0 {
                    world.turn();
                    heard.listen(world.take_events(to));
                }
            }
            // In good weather even a loss at the very end is heard of, by the next announcement.
            medium.set_conditions(Conditions::default());
            world.settle();
            heard.listen(world.take_events(to));
            assert_eq!(heard.lost_packets, medium.lost_packets(), "loss {loss_permille}");
            assert_eq!(heard.dropped_messages, 0);
            assert!(world.link(from).all_sent());
            if loss_permille == 0 {
                assert_eq!(heard.messages, (0..MESSAGES).collect::<Vec<_>>());
            } else {
                assert!(heard.lost_packets > 0, "nothing was lost, so this tested nothing");
                assert!(!heard.messages.is_empty());
            }
        });
    }
}

#[test]
fn what_is_not_granted_is_dropped_whole_and_counted() {
    each_seed(0..50, |seed| {
        let medium = Multicast::new(seed);
        let mut world = World::new(&medium, 2);
        let (from, to) = world.pair();
        let mut chance = Chance::new(seed);
        let mut heard = Heard::default();
        const MESSAGES: u64 = 600;
        for id in 0..MESSAGES {
            world.send_parts(from, message(id, 1 + chance.below(4) as u64, 8 + chance.below(60)));
            if chance.below(20) == 0 {
                world.settle();
                heard.listen(world.take_events(to));
                world.grant(to, Grant::Limited(chance.below(30) as u64));
            }
        }
        world.settle();
        world.grant(to, Grant::Unlimited);
        world.settle();
        heard.listen(world.take_events(to));
        assert!(heard.dropped_messages > 0, "nothing was dropped, so this tested nothing");
        assert_eq!(heard.messages.len() as u64 + heard.dropped_messages, MESSAGES);
        assert_eq!(heard.lost_packets, 0, "dropping here is not losing on the wire");
    });
}

#[test]
fn late_joiners_begin_at_the_live_edge_without_a_gap() {
    each_seed(0..50, |seed| {
        let medium = Multicast::new(seed);
        let mut world = World::new(&medium, 3);
        let (from, early) = world.pair();
        world.grant(early, Grant::Unlimited);
        let group = world.hosts[0].opens.values().next().and_then(|log| log.bound.clone()).unwrap();
        for id in 0..40 {
            world.send_parts(from, message(id, 2, 300));
        }
        // In the middle of things: packets are in the air while the latecomer joins.
        let late = world.connect(2, &group);
        for id in 40..80 {
            world.send_parts(from, message(id, 2, 300));
            world.turn();
            if let Some(&link) = world.hosts[2].opens[&late].links.first() {
                world.grant(End { host: 2, link }, Grant::Unlimited);
            }
        }
        world.settle();
        let late = End { host: 2, link: world.hosts[2].opens[&late].links[0] };
        world.grant(late, Grant::Unlimited);
        world.settle();
        let mut heard = Heard::default();
        heard.listen(world.take_events(late));
        assert_eq!((heard.lost_packets, heard.dropped_messages), (0, 0));
        assert_eq!(heard.messages.last(), Some(&79));
        let mut heard = Heard::default();
        heard.listen(world.take_events(early));
        assert_eq!(heard.messages.len(), 80);
    });
}

#[test]
fn sources_are_links_of_their_own_and_no_more_than_allowed() {
    each_seed(0..30, |seed| {
        let medium = Multicast::with(seed, weather(100)).sources_max(2);
        let mut world = World::new(&medium, 4);
        let group = world.fresh();
        let listener = Open { flow: Flow::Recv, ..world.request(&group, Role::Bind) };
        let (listening, _) = world.bind_with(3, listener);
        let senders: Vec<_> = (0..3)
            .map(|host| {
                let open = world.bind(host, &group).0;
                world.run_until("Up", |world| !world.hosts[host].opens[&open].links.is_empty());
                End { host, link: world.hosts[host].opens[&open].links[0] }
            })
            .collect();
        world.settle();
        let links = world.hosts[3].opens[&listening].links.clone();
        assert_eq!(links.len(), 2, "two sources of three");
        for &link in &links {
            world.grant(End { host: 3, link }, Grant::Unlimited);
        }
        let mut heard = [Heard::default(), Heard::default()];
        for id in 0..100 {
            for &sender in &senders {
                world.send_parts(sender, message(id, 3, 150));
            }
            world.turn();
            for (heard, &link) in heard.iter_mut().zip(&links) {
                heard.listen(world.take_events(End { host: 3, link }));
            }
        }
        assert!(heard.iter().all(|heard| heard.messages.len() > 20), "{heard:?}");
        // A source that dies without a word is found out by its silence.
        (0..3).for_each(|host| world.drop_driver(host));
        world.run_until("the silence to be noticed", |world| {
            links.iter().all(|link| world.hosts[3].links[link].down == Some(DownReason::TimedOut))
        });
    });
}

#[test]
fn strangers_cost_nobody_else_anything() {
    each_seed(0..200, |seed| {
        let medium = Multicast::new(seed);
        let mut world = World::new(&medium, 2);
        let (from, to) = world.pair();
        world.grant(to, Grant::Unlimited);
        let group = world.hosts[0].opens.values().next().and_then(|log| log.bound.clone()).unwrap();
        let mut chance = Chance::new(seed);
        let mut heard = Heard::default();
        for id in 0..20 {
            world.send_parts(from, message(id, 2, 200));
            // Now and then it looks like a packet: the right kinds, few sources, any lengths and offsets.
            let mut bytes: Vec<u8> = (0..chance.below(300)).map(|_| chance.word() as u8).collect();
            if let Some(header) = bytes.get_mut(..15) {
                header[0] = 1 + chance.below(3) as u8;
                header[1..9].copy_from_slice(&(chance.below(3) as u64).to_be_bytes());
                header[9..13].copy_from_slice(&(chance.below(4) as u32).to_be_bytes());
                header[13..15].copy_from_slice(&(chance.below(40) as u16).to_be_bytes());
            }
            medium.inject(&group, &bytes);
            world.turn();
        }
        world.settle();
        heard.listen(world.take_events(to));
        assert_eq!(heard.messages, (0..20).collect::<Vec<_>>());
    });
}
