//! Properties of endings: abort and drain at every step, what comes back, what is never lost. libzmq found a third of
//! its bugs here.

use std::collections::VecDeque;
use std::time::Duration;

use transport_core::{Close, DownReason, Grant, Part, Topology};

use super::follow::{Follower, message, message_of};
use super::links::exchange;
use crate::subject::Subject;
use crate::world::{End, Event, World};

/// Messages that each side posts before an ending.
const MESSAGES: u64 = 6;

pub(super) fn returned_only_for_what_the_device_never_saw(subject: &dyn Subject) {
    // The peer reads none, some or all; the last posts are flushed or not; the ending comes from here or from there.
    for credit in [0, 5, 1000] {
        for flushed in [false, true] {
            for from_here in [false, true] {
                let mut world = World::new(subject, 2);
                let pair = world.pair();
                let (from, to) = world.directions(pair)[0];
                world.grant(to, Grant::Limited(credit));
                let mut posted = 0;
                for seq in 0..200 {
                    if world.room(from) < 2 {
                        break;
                    }
                    for part in message(seq, 2, 4000) {
                        world.post(from, part).expect("there is room for two");
                    }
                    posted += 1;
                    if seq < 100 || flushed {
                        world.flush(from.host);
                        world.step();
                    }
                }
                let (here, there) = if from_here { (from, to) } else { (to, from) };
                world.close(here, Close::Abort);
                world.await_down(here);
                if world.capabilities.topology == Topology::Unicast {
                    // The world refuses what comes after close_link, so this cannot hide a part.
                    if from_here {
                        world.grant(there, Grant::Unlimited);
                    }
                    world.await_down(there);
                }
                let mut follower = Follower::default();
                follower.all(world.take_events(to));
                let link = world.link(from);
                // The world has checked that these are whole, in order, without holes and beyond Sent.
                let returned: Vec<_> = link.returned.iter().map(message_of).collect();
                if let Some(first) = returned.first() {
                    let begun = follower.next + (follower.inside > 0) as u64;
                    assert!(*first >= begun, "message {first} came back and arrived, or began to, as well");
                    assert_eq!(
                        returned.last(),
                        Some(&(posted - 1)),
                        "the last was not seen by the device either"
                    );
                }
            }
        }
    }
}

/// What one side does in the script below.
#[derive(Debug)]
struct Player {
    waiting: VecDeque<Part>,
    posted: u64,
    follower: Follower,
    granted: bool,
}

impl Player {
    fn new() -> Self {
        let mut waiting: VecDeque<_> = (0..MESSAGES).flat_map(|seq| message(seq, 2, 300)).collect();
        waiting.insert(MESSAGES as usize, Part::command("in the middle"));
        Self { waiting, posted: 0, follower: Follower::default(), granted: false }
    }
}

/// Binds, connects, exchanges messages both ways; after `steps` steps `closer` ends its link, or its open where there
/// is no link yet. Returns whether there was still something to do.
fn play(subject: &dyn Subject, steps: u32, closer: usize, how: Close) -> bool {
    let mut world = World::new(subject, 2);
    world.budget = 1;
    let endpoint = world.fresh();
    let (listening, bound) = world.bind(0, &endpoint);
    let opens = [listening, world.connect(1, &bound)];
    let mut players = [Player::new(), Player::new()];
    let sends = |world: &World, host: usize| host == 0 || world.duplex();
    let end_of = |world: &World, host: usize| {
        let link = *world.hosts[host].opens[&opens[host]].links.first()?;
        Some(End { host, link })
    };
    let act = |world: &mut World, players: &mut [Player; 2], ended: Option<usize>| {
        for (host, player) in players.iter_mut().enumerate() {
            let Some(end) = end_of(world, host) else { continue };
            player.follower.all(world.take_events(end));
            if ended == Some(host) || world.is_down(end) {
                continue;
            }
            if !std::mem::replace(&mut player.granted, true) {
                world.grant(end, Grant::Unlimited);
            }
            // One part per step, so that endings fall into the middle of messages too. With an ending on the way
            // the other side sends no more; that it may be refused is tested elsewhere.
            if ended.is_none() && sends(world, host) && !player.waiting.is_empty() && world.room(end) > 0 {
                let part = player.waiting.pop_front().expect("checked above");
                world.post(end, part).expect("there is room");
                player.posted += 1;
                world.flush(host);
            }
        }
    };
    let mut busy = true;
    for _ in 0..steps {
        act(&mut world, &mut players, None);
        world.step();
        let quiet = |world: &World, host: usize| !sends(world, host) || players[host].waiting.is_empty();
        let expected = if world.reliable() { MESSAGES } else { 0 };
        let heard =
            |world: &World, host: usize| !sends(world, 1 - host) || players[host].follower.whole >= expected;
        busy = !(0..2).all(|host| quiet(&world, host) && heard(&world, host));
        if !busy {
            break;
        }
    }
    let Some(here) = end_of(&world, closer) else {
        // Not up yet. The other side may or may not come up; if it does, it must go down again.
        world.close_open(closer, opens[closer]);
        world.settle();
        if world.capabilities.topology == Topology::Unicast
            && let Some(end) = end_of(&world, 1 - closer)
        {
            world.grant(end, Grant::Unlimited);
            world.await_down(end);
        }
        return busy;
    };
    let lists_all = world.reliable() && how != Close::Abort && sends(&world, closer);
    let posted = players[closer].posted;
    // What has been polled has arrived, whatever comes now.
    players[closer].follower.all(world.take_events(here));
    let was_down = world.is_down(here);
    world.close(here, how);
    // The other side may still be coming up, and must be granted then to be drained into. An abort may also be
    // quicker than its Up.
    let other = 1 - closer;
    let both = world.capabilities.topology == Topology::Unicast;
    let done = |world: &World| {
        let gone = match end_of(world, other) {
            Some(there) => world.is_down(there),
            None if how == Close::Abort => {
                other == 0 || world.hosts[other].opens[&opens[other]].failed.is_some()
            }
            None => false,
        };
        world.is_down(here) && (gone || !both)
    };
    let limit = world.now() + Duration::from_secs(30);
    while !done(&world) {
        act(&mut world, &mut players, Some(closer));
        world.step();
        assert!(world.now() < limit, "the link does not end after {steps} steps: {world:#?}");
    }
    act(&mut world, &mut players, Some(closer));
    let down = world.link(here).down;
    assert!(was_down || down == Some(DownReason::ClosedHere), "after {steps} steps by {closer}: {down:?}");
    if lists_all && !was_down {
        let follower = &players[1 - closer].follower;
        let arrived = follower.whole * 2 + follower.inside + follower.commands;
        assert_eq!(arrived, posted, "after {steps} steps, a drain lost something: {follower:?}");
        assert!(world.link(here).returned.is_empty(), "a drain that had time gave something back");
        assert!(world.link(here).all_sent(), "a drain ended before everything was sent");
    }
    busy
}

fn at_every_step(subject: &dyn Subject, how: Close) {
    for closer in 0..2 {
        let mut steps = 0;
        while play(subject, steps, closer, how) {
            steps += 1;
            assert!(steps < 2000, "the script never ends");
        }
        assert!(steps > MESSAGES as u32, "the script ended after {steps} steps, so this tested nothing");
    }
}

pub(super) fn abort_at_every_step(subject: &dyn Subject) {
    at_every_step(subject, Close::Abort);
}

pub(super) fn drain_at_every_step(subject: &dyn Subject) {
    at_every_step(subject, Close::Drain { until: None });
}

pub(super) fn a_drain_delivers_a_full_pipe(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    let (from, to) = world.directions(pair)[0];
    let taken = world.fill(from, |seq| message(seq, 1, 8192).remove(0));
    world.close(from, Close::Drain { until: None });
    world.settle();
    assert!(!world.is_down(from), "the peer had no chance to read anything");
    assert_eq!(world.driver(from.host).room(from.link), 0, "there is room on a link that drains");
    world.post(from, Part::last("late")).expect_err("a link that drains takes nothing more");
    world.grant(to, Grant::Unlimited);
    let mut follower = Follower::default();
    world.await_down(to);
    follower.all(world.take_events(to));
    assert_eq!(follower.whole, taken);
    assert_eq!(world.await_down(from), DownReason::ClosedHere);
}

pub(super) fn a_drain_gives_up_in_time(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    let (from, _) = world.directions(pair)[0];
    world.fill(from, |seq| message(seq, 1, 8192).remove(0));
    let patience = Duration::from_millis(100);
    let until = world.now() + patience;
    world.close(from, Close::Drain { until: Some(until) });
    // A second call can only make it sooner.
    world.close(from, Close::Drain { until: None });
    assert_eq!(world.await_down(from), DownReason::TimedOut);
    assert!(world.now() >= until, "it gave up too soon");
    assert!(world.now() < until + patience * 50, "it gave up too late");
}

pub(super) fn an_ending_that_both_sides_want(subject: &dyn Subject) {
    let drain = Close::Drain { until: None };
    for (one, other) in
        [(Close::Abort, Close::Abort), (Close::Abort, drain), (drain, Close::Abort), (drain, drain)]
    {
        let mut world = World::new(subject, 2);
        let (a, b) = world.pair();
        exchange(&mut world, (a, b), 3);
        for (from, _) in world.directions((a, b)) {
            world.send_parts(from, message(9, 2, 1000));
        }
        world.close(a, one);
        world.close(b, other);
        world.await_down(a);
        world.await_down(b);
    }
}

pub(super) fn a_peer_that_reads_nothing_can_still_be_left(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let pair = world.pair();
    let (from, to) = world.directions(pair)[0];
    world.fill(from, |seq| message(seq, 1, 8192).remove(0));
    // An abort asks nobody.
    world.close(from, Close::Abort);
    world.await_down(from);
    world.close(to, Close::Abort);
    world.await_down(to);
    let parts: Vec<_> = world.take_events(to);
    assert!(parts.iter().all(|event| matches!(event, Event::Gap(_))));
}
