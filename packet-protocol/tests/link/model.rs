//! Every order of events that there is, at the smallest windows: from no state that can be reached do two ends wait for
//! each other for ever. The machines are the ones that go into production; a state is known by how it prints.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use fabriq_packet_protocol::{Offer, Policy, Terms, Ways};
use transport_core::Grant;

use crate::world::{Item, Plan, World};

/// What both sides will have posted and granted in the end.
#[derive(Debug)]
struct Script {
    plan: Plan,
    terms: fn(Terms) -> Terms,
    items: [Vec<Item>; 2],
    /// Whether a side closes once it has posted everything.
    drains: [bool; 2],
}

/// What can happen next. Devices and peers choose; nothing happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Post(usize),
    /// One part more may be delivered.
    Grant(usize),
    Drain(usize),
    ServeRead(usize),
    /// The driver takes one completion.
    PollCq(usize),
    /// The engine polls, the driver posts, and packets arrive: one step, since nobody sees what is between. A packet that
    /// is long on its way is one whose completion is long not polled.
    Turn(usize),
}

const EVENTS: [fn(usize) -> Event; 6] =
    [Event::Post, Event::Grant, Event::Drain, Event::ServeRead, Event::PollCq, Event::Turn];

/// States of one script, and events on the way to one of them. Each is some times what the longest script here has; beyond
/// it ends answer each other without need, and would for ever.
const STATES_MAX: usize = 50_000;
const EVENTS_MAX: usize = 300;

/// A state on the path that is being followed.
#[derive(Debug)]
struct Visit {
    /// There until the first event that happens.
    world: Option<World>,
    /// The next event to try, and how many have happened.
    next: usize,
    moves: usize,
}

impl Visit {
    fn new(world: World) -> Self {
        Self { world: Some(world), next: 0, moves: 0 }
    }
}

fn key(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.fingerprint().hash(&mut hasher);
    hasher.finish()
}

impl Script {
    fn apply(&self, world: &mut World, event: Event) -> bool {
        match event {
            Event::Post(host) => {
                let next = world.ends[0][host].items.len();
                self.items[host].get(next).is_some_and(|item| world.post(0, host, *item))
            }
            Event::Grant(host) => {
                let end = &world.ends[0][host];
                let due = end.granted() == 0 && end.arrived < self.items[1 - host].len();
                if due && !end.closed {
                    world.grant(0, host, Grant::Limited(1));
                }
                due && !world.ends[0][host].closed
            }
            Event::Drain(host) => {
                let end = &world.ends[0][host];
                let due = self.drains[host] && !end.closed && end.items.len() == self.items[host].len();
                if due {
                    world.drain(0, host);
                }
                due
            }
            Event::ServeRead(host) => world.serve_read(0, host, 0),
            Event::PollCq(host) => world.poll_cq(0, host),
            Event::Turn(host) => {
                let polled = world.poll(0, host, 9);
                let pumped = world.pump(0, host, 9);
                // What a pump posts is bounded, see `AT_ONCE_MAX`.
                while world.transmit(0, host) {}
                polled | pumped | world.reap(0, host)
            }
        }
    }

    fn replay(&self, path: &[Event]) -> World {
        let mut world = World::with_terms(&self.plan, self.terms);
        for event in path {
            self.apply(&mut world, *event);
        }
        world
    }

    /// Visits every state that can be reached. Returns how many there are, and a path to one in which nothing can happen
    /// though something is left to do.
    fn explore(&self) -> (usize, Option<Vec<Event>>) {
        let (start, mut seen, mut path) = (self.replay(&[]), HashSet::new(), Vec::new());
        seen.insert(key(&start));
        let mut visits = vec![Visit::new(start)];
        while let Some(visit) = visits.last_mut() {
            let Some(event) = EVENTS.get(visit.next / 2).map(|event| event(visit.next % 2)) else {
                let is_over =
                    visit.moves > 0 || visit.world.as_ref().is_some_and(|world| self.is_over(world));
                if !is_over {
                    return (seen.len(), Some(path));
                }
                path.pop();
                visits.pop();
                continue;
            };
            visit.next += 1;
            // A world cannot be copied, so what was lived through is lived through again: it is some dozens of steps.
            let mut next = visit.world.take().unwrap_or_else(|| self.replay(&path));
            if !self.apply(&mut next, event) {
                visit.world = Some(next);
                continue;
            }
            visit.moves += 1;
            if seen.insert(key(&next)) {
                path.push(event);
                visits.push(Visit::new(next));
                let is_bounded = seen.len() <= STATES_MAX && path.len() <= EVENTS_MAX;
                assert!(is_bounded, "two ends talk for ever, after {} states, by {path:?}", seen.len());
            }
        }
        (seen.len(), None)
    }

    fn is_over(&self, world: &World) -> bool {
        let ends = &world.ends[0];
        if self.drains != [false; 2] {
            return ends.iter().all(|end| end.down.is_some());
        }
        (0..2).all(|host| {
            let items = self.items[host].len();
            ends[1 - host].arrived == items && ends[host].sent == items as u64
        })
    }
}

/// One packet of credit, one transfer, one READ: nothing that could hide a dependency.
fn smallest() -> Plan {
    let mut plan = Plan::small();
    plan.extra = 0;
    for (offer, policy) in plan.offers.iter_mut().zip(&mut plan.policies) {
        *offer = Offer { data_credits: 1, transfers: 1, reads: 1, ..*offer };
        *policy = Policy { window_max: 1, splices: 0, read_chunk: 4096, ..*policy };
    }
    plan
}

fn script(items: [&[Item]; 2]) -> Script {
    let items = items.map(<[Item]>::to_vec);
    // Shorter than packets ever are, since a state is known by all of its bytes.
    Script { plan: smallest(), terms: |terms| Terms { packet_len: 64, ..terms }, items, drains: [false; 2] }
}

/// A part that fills a packet alone, and one that is fetched by READ.
fn eager(seq: u32) -> Item {
    Item { registered: false, ..Item::plain(seq, 40) }
}
fn read(seq: u32) -> Item {
    Item::plain(seq, 90)
}

fn check(name: &str, script: &Script) {
    let (states, stuck) = script.explore();
    println!("{name}: {states} states");
    assert!(states > 100, "{name}: {states} states are no exploration");
    assert_eq!(stuck, None, "{name}: nothing happens any more, and something is left to do");
}

#[test]
fn no_order_of_events_leaves_two_ends_waiting_for_each_other() {
    check("one way", &script([&[eager(0), eager(1), eager(2), eager(3)], &[]]));
    check("both ways", &script([&[eager(0), eager(1)], &[eager(0)]]));
    check("transfers", &script([&[read(0), read(1)], &[]]));
    check("transfers both ways", &script([&[read(0)], &[read(0)]]));
    check("mixed", &script([&[read(0), eager(1)], &[eager(0)]]));
}

#[test]
fn no_order_of_events_keeps_a_link_from_closing() {
    for drains in [[true, false], [true, true]] {
        let closing = |item| Script { drains, ..script([&[item], &[item]]) };
        check("eager, then close", &closing(eager(0)));
        check("transfers, then close", &closing(read(0)));
    }
}

/// Three transfers in one packet, so that three FINs are due while their receiver hears nothing from their sender.
fn fins() -> Script {
    let mut fins = script([&[read(0), read(1), read(2)], &[]]);
    fins.terms = |terms| Terms { packet_len: 112, transfers: 3, ..terms };
    fins
}

#[test]
fn fins_that_come_one_by_one_are_all_heard() {
    check("three transfers at once", &fins());
}

#[test]
fn with_two_control_buffers_they_do_wait_for_each_other_and_the_checker_sees_it() {
    // What an offer may not say: this is why there are three.
    let mut short = fins();
    short.terms = |terms| Terms {
        packet_len: 112,
        transfers: 3,
        control_credits: Ways { sending: 2, receiving: 2 },
        ..terms
    };
    let (_, stuck) = short.explore();
    assert!(stuck.is_some(), "two control buffers are enough, and nobody knew");
}
