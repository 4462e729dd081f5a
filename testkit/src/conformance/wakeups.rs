//! Properties of sleep: a driver that is idle lets its caller sleep, and one that has something to say wakes it. Here by
//! threads and the kernel's clock; the world asks the same of every other test without threads.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport_core::{Armed, Completion, Driver, Grant, LinkId, Part};

use super::links::exchange;
use crate::subject::Subject;
use crate::world::{Bell, World};

/// Round trips, each of which gives both threads a chance to miss the other.
const ROUNDS: u32 = 3000;
/// How long a thread sleeps before its wake-up counts as lost.
const LOST: Duration = Duration::from_secs(10);

pub(super) fn an_idle_driver_lets_its_caller_sleep(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    world.settle();
    let pair = world.pair();
    world.settle();
    exchange(&mut world, pair, 10);
    // Ends only when every driver is Ready and stays silent.
    world.settle();
    for host in 0..2 {
        // A deadline is what it was when the driver was last polled, and the kernel's clock goes on meanwhile.
        let (now, mut out) = (world.now(), Vec::new());
        let driver = world.driver(host);
        driver.poll(now, &mut out, 1);
        assert!(out.is_empty(), "host {host} is idle: {out:?}");
        let deadline = driver.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > now), "host {host} has a deadline in the past");
    }
}

/// A driver on a thread of its own that sleeps whenever it may.
struct Sleeper {
    driver: Box<dyn Driver>,
    bell: Arc<Bell>,
    link: LinkId,
    out: Vec<Completion>,
    slept: u32,
    random: u64,
}

impl Sleeper {
    fn send(&mut self, round: u32) {
        // A different moment each time, so that the send falls before, into and after the other's way to sleep.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        for _ in 0..self.random % 2000 {
            std::hint::spin_loop();
        }
        while self.driver.room(self.link) == 0 {
            let early = self.go(round);
            assert!(early.is_none(), "the peer answered before it was asked");
        }
        self.driver.post_send(self.link, Part::last(&round.to_le_bytes())).expect("there is room");
        self.driver.flush();
    }

    fn receive(&mut self, round: u32) {
        loop {
            if let Some(part) = self.go(round) {
                return assert_eq!(part.body, &round.to_le_bytes());
            }
        }
    }

    /// Polls once and, if that brought nothing, arms and sleeps.
    fn go(&mut self, round: u32) -> Option<Part> {
        self.driver.poll(Instant::now(), &mut self.out, 16);
        let silent = self.out.is_empty();
        let mut arrived = None;
        for said in self.out.drain(..) {
            match said {
                Completion::Received { part, .. } => {
                    assert!(arrived.is_none(), "one message, not two");
                    arrived = Some(part);
                }
                Completion::Down { reason, .. } => panic!("the link went down: {reason}"),
                _ => {}
            }
        }
        if silent && self.driver.arm() == Armed::Ready {
            self.sleep(round);
        }
        arrived
    }

    fn sleep(&mut self, round: u32) {
        let deadline =
            self.driver.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = deadline.unwrap_or(LOST).min(LOST);
        let mut fds = vec![PollFd::from_borrowed_fd(self.bell.fd().as_fd(), PollFlags::IN)];
        fds.extend(self.driver.wake_fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let timeout = Timespec::try_from(patience).expect("seconds");
        let ready = poll(&mut fds, Some(&timeout)).unwrap_or(1);
        assert!(ready > 0 || patience < LOST, "round {round}: a wake-up was lost");
        self.bell.take();
        self.slept += 1;
    }
}

pub(super) fn no_lost_wakeup_between_arm_and_sleep(subject: &dyn Subject) {
    let mut world = World::new(subject, 2);
    let (a, b) = world.pair();
    let mut sleepers = [a, b].map(|end| {
        world.grant(end, Grant::Unlimited);
        let (driver, bell) = world.take_driver(end.host);
        let random = 0x9e37_79b9_7f4a_7c15 + end.host as u64;
        Sleeper { driver, bell, link: end.link, out: Vec::new(), slept: 0, random }
    });
    let [first, second] = &mut sleepers;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                second.receive(round);
                second.send(round);
            }
        });
        for round in 0..ROUNDS {
            first.send(round);
            first.receive(round);
        }
    });
    assert!(sleepers.iter().any(|sleeper| sleeper.slept > 0), "nobody ever slept, so this tested nothing");
}
