//! The boundary in memory: the same contract as hardware, and what is made to go wrong.

mod contract;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::ends::{Client, Couple, Place, Plan, RECEIVES, Server, Side, TERMS, mark, quiet};
use contract::talk::talk;
use rdma_links::fabric::{Event, Fabric, PostError, Reach, Remote, Sender, Status, Terms, Work};
use rdma_links::simulated::{Mishap, Posted, SimulatedFabric, World};
use testkit::media::{Chance, each_seed};
use transport_core::{FrameMut, FramePool, Wake};

/// A world, and its time.
#[derive(Debug)]
struct Simulation {
    world: World,
    now: Mutex<Instant>,
}

#[derive(Debug)]
struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

impl Place for Simulation {
    type Fabric = SimulatedFabric;

    fn new() -> Self {
        Self { world: World::new(Duration::from_micros(2)), now: Mutex::new(Instant::now()) }
    }
    fn address(&self) -> SocketAddr {
        "10.7.0.1:0".parse().unwrap()
    }
    fn fabric(&self) -> SimulatedFabric {
        let mut fabric = self.world.fabric(Arc::new(NoWake));
        fabric.advance(*self.now.lock().unwrap());
        fabric
    }
    fn sleep(&self, fabrics: &mut [&mut SimulatedFabric]) -> bool {
        let mut now = self.now.lock().unwrap();
        let Some(next) = fabrics.iter().filter_map(|fabric| fabric.deadline()).min() else { return false };
        *now = next.max(*now);
        fabrics.iter_mut().for_each(|fabric| fabric.advance(*now));
        true
    }
    fn pass(&self, fabrics: &mut [&mut SimulatedFabric]) {
        self.sleep(fabrics);
    }
}

contract::contract!(queue_pairs crate::Simulation);

/// A couple in whose world the request number `nth` from now meets a mishap.
fn couple_with(nth: usize, mishap: Mishap) -> Couple<Simulation> {
    let couple = Couple::<Simulation>::new();
    let mut count = 0;
    couple.two.place.world.set_mishaps(move |_: Posted| {
        count += 1;
        (count == nth).then_some(mishap)
    });
    couple
}

fn statuses(couple: &mut Couple<Simulation>, count: usize) -> Vec<Status> {
    (0..count).map(|_| couple.two.next_sent(Client).status).collect()
}

#[test]
fn a_receiver_made_not_ready_fails_that_send_and_flushes_the_rest() {
    let mut couple = couple_with(2, Mishap::ReceiverNotReady);
    {
        let mut sender = couple.sender();
        (0..3).for_each(|tag| sender.inline(b"packet", quiet(tag)).unwrap());
    }
    assert_eq!(statuses(&mut couple, 3), [Status::Success, Status::ReceiverNotReady, Status::Flushed]);
    assert_eq!(couple.two.place.world.count().receiver_not_ready, 0, "there were receives");
}

#[test]
fn a_queue_pair_made_to_fail_gives_everything_back_and_both_sides_hear_of_it() {
    let mut couple = couple_with(2, Mishap::QueueFails);
    {
        let mut sender = couple.sender();
        (0..3).for_each(|tag| sender.inline(b"packet", mark(tag)).unwrap());
    }
    assert!(!statuses(&mut couple, 3).contains(&Status::Success));
    // The device tells the one, who then tells the other.
    for (side, which) in [(Client, couple.dialled), (Server, couple.accepted)] {
        couple.two.next_event(side, "the loss", |event| {
            matches!(event, Event::Disconnected { connection, .. } if connection == which).then_some(())
        });
        couple.two.drain(side, which);
    }
}

#[test]
fn a_refused_request_and_what_is_behind_it_come_back_in_order() {
    let mut couple = couple_with(2, Mishap::Refused);
    {
        let mut sender = couple.sender();
        (0..4).for_each(|tag| sender.inline(b"packet", quiet(tag)).unwrap());
    }
    let statuses = statuses(&mut couple, 4);
    assert_eq!(statuses[0], Status::Flushed);
    assert!(statuses[1..].iter().all(|status| matches!(status, Status::NotPosted(_))), "{statuses:?}");
}

#[test]
fn a_key_made_wrong_fails_the_read_and_the_server_too() {
    let mut couple = couple_with(1, Mishap::WrongKey);
    let source = couple.two.server.pool.take(4096).unwrap().freeze();
    let pinned = couple.two.server.memory(couple.server_device).pin(source, Reach::Peer).unwrap();
    let target = couple.two.client.pool.take(4096).unwrap();
    {
        let mut sender = couple.sender();
        let target = sender.lend(target);
        sender.read(target, 0..4096, pinned.remote(), mark(0)).unwrap();
    }
    assert_eq!(statuses(&mut couple, 1), [Status::RemoteAccess]);
    assert_eq!(couple.two.place.world.count().wrong_keys, 1);
    // No event: what comes back tells.
    let flushed = couple.two.next_completed(Server);
    assert!(matches!(flushed.work, Work::Receive { .. }) && flushed.status == Status::Flushed, "{flushed:?}");
}

/// The client's device is lost; the server's connection fails; nothing comes back at the client, and nothing is left.
fn lose(mishap: Mishap, is_it: fn(&Event) -> bool) {
    let mut couple = couple_with(3, mishap);
    {
        let mut sender = couple.sender();
        (0..5).for_each(|tag| sender.inline(b"packet", mark(tag)).unwrap());
    }
    couple.two.next_event(Client, "the loss of the device", |event| is_it(&event).then_some(()));
    couple.two.client.look();
    assert!(couple.two.client.completed.is_empty(), "nothing comes from a lost device");
    let (mut two, device, accepted) = (couple.two, couple.client_device, couple.accepted);
    two.client.fabric.close_device(device);
    assert_eq!(two.client.pool.usage().lent_slots, 0);
    if mishap == Mishap::CompletionsLost {
        // The device can still say goodbye.
        two.next_event(Server, "the loss of the connection", |event| {
            matches!(event, Event::Disconnected { connection, .. } if connection == accepted).then_some(())
        });
    } else {
        // Nobody says anything: who wants to know must ask.
        two.server.send(accepted, couple.server_device, b"anyone?", mark(0));
        assert_eq!(two.next_sent(Server).status, Status::RetriesExceeded);
        two.server.look();
        assert!(two.server.events.is_empty(), "{:?}", two.server.events);
    }
    two.drain(Server, accepted);
    two.server.fabric.destroy(accepted);
    two.server.completed.clear();
    assert_eq!(two.place.world.count().queue_pairs, 0);
    // The next connection opens it anew.
    two.place.world.set_mishaps(|_| None);
    let again = Couple::between(two, &Default::default());
    assert_ne!(again.client_device, device);
    again.part();
}

#[test]
fn a_device_pulled_out_gives_nothing_back_and_can_be_closed() {
    lose(Mishap::DeviceLost, |event| matches!(event, Event::DeviceLost { .. }));
}

#[test]
fn an_overflow_of_completions_is_told_and_can_be_recovered_from() {
    lose(Mishap::CompletionsLost, |event| matches!(event, Event::CompletionsLost { .. }));
}

#[test]
fn a_peer_whose_host_vanishes_is_missed_by_what_waits_for_it() {
    let mut couple = Couple::<Simulation>::new();
    couple.sender().inline(b"anyone?", mark(0)).unwrap();
    couple.two.place.world.unplug(couple.two.server.fabric.host());
    assert_eq!(statuses(&mut couple, 1), [Status::RetriesExceeded]);
    couple.two.next_event(Server, "the listener's loss", |event| {
        matches!(event, Event::ListenerLost { .. }).then_some(())
    });
}

#[test]
fn a_request_that_nobody_answers_fails_with_what_is_behind_it() {
    let mut couple = couple_with(2, Mishap::NoAnswer);
    {
        let mut sender = couple.sender();
        (0..3).for_each(|tag| sender.inline(b"packet", quiet(tag)).unwrap());
    }
    assert_eq!(statuses(&mut couple, 3), [Status::Success, Status::RetriesExceeded, Status::Flushed]);
}

#[test]
fn memory_that_may_not_be_registered_is_given_back_to_be_copied() {
    let mut couple = Couple::<Simulation>::new();
    let (world, host) = (couple.two.place.world.clone(), couple.two.client.fabric.host());
    let memory = couple.two.client.memory(couple.client_device);
    let from = Remote { address: 4096, key: 2 };
    world.refuse_memory(host, true);
    // Of an arena that was not registered before.
    let pool = FramePool::new(8 << 20);
    let frame = memory.buffer(pool.take(4096).unwrap()).unwrap_err();
    {
        let mut sender = couple.sender();
        let target = sender.lend(FrameMut::own(4096).unwrap());
        assert_eq!(sender.read(target, 0..4096, from, mark(0)), Err(PostError::NotRegistered));
    }
    world.refuse_memory(host, false);
    assert!(memory.buffer(frame).is_ok());
}

#[test]
fn reads_beyond_the_agreed_depth_are_counted() {
    let mut couple = Couple::<Simulation>::new();
    let source = couple.two.server.pool.take(4096).unwrap().freeze();
    let pinned = couple.two.server.memory(couple.server_device).pin(source, Reach::Peer).unwrap();
    let target = couple.two.client.pool.take(4096).unwrap();
    let depth = u32::from(couple.client_depth);
    {
        let mut sender = couple.sender();
        let target = sender.lend(target);
        for at in 0..depth + 2 {
            let place = at as usize * 16;
            sender.read(target, place..place + 16, pinned.remote(), mark(at)).unwrap();
        }
    }
    assert_eq!(couple.two.place.world.count().reads_beyond_depth, 2);
    assert!(statuses(&mut couple, depth as usize + 2).iter().all(|it| *it == Status::Success));
}

#[test]
fn a_buffer_of_another_device_is_no_buffer_here() {
    let mut couple = Couple::<Simulation>::new();
    let foreign = couple.two.server.buffer(couple.server_device, 100);
    couple.sender().send(foreign, 100, &mut Vec::new(), mark(0)).unwrap();
    let refused = couple.two.next_sent(Client);
    assert_eq!(refused.status, Status::LocalProtection);
    assert!(matches!(refused.work, Work::Send { buffer: Some(_), .. }));
}

#[test]
fn whatever_goes_wrong_by_a_seed_a_talk_is_in_order_and_gives_everything_back() {
    const MISHAPS: [Mishap; 7] = [
        Mishap::ReceiverNotReady,
        Mishap::NoAnswer,
        Mishap::WrongKey,
        Mishap::QueueFails,
        Mishap::Refused,
        Mishap::CompletionsLost,
        Mishap::DeviceLost,
    ];
    let mut outcomes = BTreeMap::new();
    each_seed(0..300, |seed| {
        let patient = Terms { receiver_not_ready_retries: if seed % 2 == 0 { 0 } else { 7 }, ..TERMS };
        let plan = Plan { client_terms: patient, server_terms: patient, ..Plan::default() };
        let couple = Couple::<Simulation>::with(&plan);
        let world = couple.two.place.world.clone();
        let mut chance = Chance::new(seed);
        world.set_mishaps(move |_| chance.permille(8).then(|| MISHAPS[chance.below(MISHAPS.len())]));
        let (two, outcome) = talk(couple, &mut Chance::new(!seed));
        *outcomes.entry(format!("{outcome:?}")).or_insert(0) += 1;
        let count = world.count();
        assert_eq!((count.queue_pairs, count.reads_beyond_depth), (0, 0));
        drop(two);
        assert_eq!(world.count().regions, 0);
    });
    assert!(outcomes.len() == 3 && outcomes.values().all(|count| *count > 20), "{outcomes:?}");
}

#[test]
fn whatever_goes_wrong_every_request_comes_back_once_and_no_memory_is_lost() {
    const MISHAPS: [Mishap; 5] =
        [Mishap::ReceiverNotReady, Mishap::NoAnswer, Mishap::WrongKey, Mishap::QueueFails, Mishap::Refused];
    for nth in 1..30 {
        for mishap in MISHAPS {
            let mut couple = couple_with(nth, mishap);
            let source = couple.two.server.pool.take(8192).unwrap().freeze();
            let pinned = couple.two.server.memory(couple.server_device).pin(source, Reach::Peer).unwrap();
            let mut posted = 0;
            {
                let mut sender = couple.two.client.fabric.sender(couple.dialled).unwrap();
                let target = sender.lend(couple.two.client.pool.take(8192).unwrap());
                while sender.room() > 0 && posted < RECEIVES + 8 {
                    let mark = if posted % 3 == 0 { mark(posted) } else { quiet(posted) };
                    match posted % 4 {
                        0 => sender.read(target, 0..4096, pinned.remote(), mark).unwrap(),
                        _ => sender.inline(&[7; 100], mark).unwrap(),
                    }
                    posted += 1;
                }
            }
            let (dialled, accepted) = (couple.dialled, couple.accepted);
            let mut two = couple.two;
            let settled =
                |two: &mut contract::ends::Two<Simulation>, side: Side, which| two.drain(side, which);
            settled(&mut two, Client, dialled);
            let tags: Vec<u32> = two
                .client
                .completed
                .drain(..)
                .filter_map(|it| match it.work {
                    Work::Send { tag, .. } | Work::Read { tag, .. } => Some(tag),
                    Work::Receive { .. } => None,
                })
                .collect();
            assert_eq!(tags, (0..posted).collect::<Vec<_>>(), "{mishap:?} at {nth}");
            settled(&mut two, Server, accepted);
            two.server.completed.clear();
            two.client.fabric.destroy(dialled);
            two.server.fabric.destroy(accepted);
            drop(pinned);
            assert_eq!((two.client.pool.usage().lent_slots, two.server.pool.usage().lent_slots), (0, 0));
            assert_eq!(two.place.world.count().queue_pairs, 0);
        }
    }
}
