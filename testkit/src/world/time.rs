//! How a world passes time: polls who is due, sleeps, moves an invented clock. Decides nothing about links.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport_core::Armed;

use super::{FUTILE_MAX, QUIET, REAL_LIMIT, SETTLE, VIRTUAL_LIMIT, World};

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slept {
    /// Somebody was woken.
    Woken,
    /// A driver's deadline has come.
    Due,
    /// Nothing happened for as long as was asked for.
    Over,
}

impl World {
    /// Polls and sleeps until `done` holds.
    ///
    /// # Panics
    /// When it does not hold before the limit, or nothing can happen any more; says `what` was awaited.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let limit = self.now() + if self.real_time { REAL_LIMIT } else { VIRTUAL_LIMIT };
        loop {
            if done(self) {
                return;
            }
            if self.turn() || self.any_due() {
                // A busy world must not run for ever either.
                assert!(self.now() < limit, "waited too long for {what}: {self:#?}");
                continue;
            }
            if done(self) {
                return;
            }
            assert!(
                self.sleep(limit) != Slept::Over,
                "waited in vain for {what} (a wake-up, a deadline or a completion is missing): {self:#?}"
            );
        }
    }

    /// Polls until nothing more happens: by an invented clock, until no deadline lies within [`SETTLE`]; by the
    /// kernel's, until it was silent for [`QUIET`].
    pub fn settle(&mut self) {
        let horizon = self.now() + SETTLE;
        let limit = self.now() + REAL_LIMIT;
        // Who looks around by the clock makes no noise, unless something comes of it.
        let mut until = if self.real_time { self.now() + QUIET } else { horizon };
        loop {
            let mut noise = false;
            while self.turn() || self.any_due() {
                assert!(!self.real_time || self.now() < limit, "the world never comes to rest: {self:#?}");
                noise = true;
            }
            if noise && self.real_time {
                until = self.now() + QUIET;
            }
            match self.sleep(until) {
                Slept::Woken if self.real_time => until = self.now() + QUIET,
                Slept::Woken | Slept::Due => {}
                Slept::Over => return,
            }
        }
    }

    /// Polls every host once that is due. True if anything came out.
    pub fn turn(&mut self) -> bool {
        let mut some = false;
        for at in 0..self.hosts.len() {
            some |= self.poll_host(at) > 0;
        }
        some
    }

    /// The smallest step at which a test can cut in: polls once and, if nothing came of it, sleeps once.
    pub fn step(&mut self) {
        if !self.turn() && !self.any_due() {
            let until = self.now() + if self.real_time { QUIET } else { SETTLE };
            self.sleep(until);
        }
    }

    fn any_due(&self) -> bool {
        self.hosts.iter().any(|host| host.due && !host.asleep && host.driver.is_some())
    }

    fn poll_host(&mut self, at: usize) -> usize {
        let (now, real_time, budget) = (self.now(), self.real_time, self.budget);
        let host = &mut self.hosts[at];
        let Some(driver) = &mut host.driver else { return 0 };
        if host.asleep {
            return 0;
        }
        host.due |= host.bell.take() || host.deadline.is_some_and(|deadline| deadline <= now);
        if !host.due {
            return 0;
        }
        let mut out = std::mem::take(&mut host.out);
        driver.poll(now, &mut out, budget);
        let copied = driver.copied_bytes();
        assert!(copied >= host.copied, "host {at} had copied {} bytes, and now {copied}", host.copied);
        host.copied = copied;
        let count = out.len();
        assert!(count <= budget.saturating_add(self.slack), "{count} completions for a budget of {budget}");
        // As an engine may: to sleep as soon as the driver says Ready, also when this poll brought something; and with
        // the deadline as it was then, since nobody asks again before waking up.
        host.due = driver.arm() == Armed::Busy;
        host.deadline = driver.deadline();
        host.futile = if count == 0 { host.futile + 1 } else { 0 };
        assert!(
            real_time || host.futile < FUTILE_MAX,
            "host {at} is always busy or its deadline stays in the past, but nothing comes out: {driver:#?}"
        );
        for completion in out.drain(..) {
            self.absorb(at, completion);
        }
        self.hosts[at].out = out;
        count
    }

    /// Sleeps until something may have happened, or until `limit`.
    fn sleep(&mut self, limit: Instant) -> Slept {
        let awake = || self.hosts.iter().filter(|host| !host.asleep);
        let deadline = awake().filter(|host| host.driver.is_some()).filter_map(|host| host.deadline).min();
        if !self.real_time {
            let rung = awake().any(|host| host.driver.is_some() && host.bell.rung.load(Ordering::Acquire));
            if rung {
                return Slept::Woken;
            }
            let Some(deadline) = deadline.filter(|deadline| *deadline <= limit) else {
                // Deadlines beyond the horizon stay where they are, and so does the clock.
                return Slept::Over;
            };
            if deadline > self.clock {
                self.clock = deadline;
                self.hosts.iter_mut().for_each(|host| host.futile = 0);
            }
            return Slept::Due;
        }
        let until = deadline.map_or(limit, |deadline| deadline.min(limit));
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("limits are seconds, not centuries");
        let mut owners = Vec::new();
        let mut fds = Vec::new();
        for (at, host) in self.hosts.iter().enumerate().filter(|(_, host)| !host.asleep) {
            let Some(driver) = &host.driver else { continue };
            owners.push(at);
            fds.push(PollFd::from_borrowed_fd(host.bell.fd().as_fd(), PollFlags::IN));
            if let Some(fd) = driver.wake_fd() {
                owners.push(at);
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let ready = match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return Slept::Woken,
            Err(error) => panic!("poll(2): {error}"),
        };
        let readable: Vec<_> =
            fds.iter().zip(&owners).filter(|(fd, _)| !fd.revents().is_empty()).map(|(_, at)| *at).collect();
        for at in readable {
            self.hosts[at].due = true;
        }
        match ready {
            0 if until < limit => Slept::Due,
            0 => Slept::Over,
            _ => Slept::Woken,
        }
    }

    /// Moves an invented clock.
    pub fn advance(&mut self, by: Duration) {
        assert!(!self.real_time, "nobody moves the kernel's clock");
        self.clock += by;
    }
}
