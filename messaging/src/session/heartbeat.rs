//! Heartbeats (ZMTP 3.1 section "Connection Heartbeating", libzmq's ZMQ_HEARTBEAT_* options): when to send PING, which
//! PONGs are owed, when the peer counts as dead. Reads no clock and knows nothing else of the session.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use transport_core::{Part, Violation};

use super::command::Command;
use super::limits::{LONG_PING_CONTEXT_IS_VIOLATION, PING_CONTEXT_MAX, PONGS_MAX, REPRIEVE, REPRIEVES};

/// Heartbeats as a socket is configured. The default sends none, and answers those of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// Time between two PINGs; zero for none (ZMQ_HEARTBEAT_IVL).
    pub interval: Duration,
    /// How long a peer may stay silent after a PING before its link is closed; zero for as long as the interval
    /// (ZMQ_HEARTBEAT_TIMEOUT).
    pub timeout: Duration,
    /// How long the peer shall tolerate silence of ours, told to it with every PING; zero for no advice. Counted in
    /// tenths of a second, rounded down, at most 6553.5 s (ZMQ_HEARTBEAT_TTL).
    pub ttl: Duration,
}

impl Heartbeat {
    fn ttl_field(&self) -> u16 {
        u16::try_from(self.ttl.as_millis() / 100).unwrap_or(u16::MAX)
    }
}

/// A deadline, and when it was set: traffic that arrived in that same instant came before it.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    set: Instant,
    wait: Duration,
    due: Instant,
    reprieves: u32,
}

impl Deadline {
    /// `None` for a time that never comes.
    fn after(now: Instant, wait: Duration) -> Option<Self> {
        now.checked_add(wait).map(|due| Self { set: now, wait, due, reprieves: 0 })
    }
}

/// A PING's context, to be echoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Context {
    len: u8,
    bytes: [u8; PING_CONTEXT_MAX],
}

impl Context {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The heartbeat of one link.
#[derive(Debug)]
pub(super) struct Pulse {
    config: Heartbeat,
    /// `None` while the handshake lasts, and without heartbeats.
    next_ping: Option<Instant>,
    /// Silence until then, after a PING of ours, means that the peer is dead.
    answer_by: Option<Deadline>,
    /// Silence until then breaks the TTL that the peer set itself.
    live_until: Option<Deadline>,
    /// Nothing of the peer is being read, for reasons of ours.
    deaf: bool,
    ping_due: bool,
    /// PINGs sent whose PONG has not come.
    unanswered: u32,
    /// PONGs owed.
    pongs: VecDeque<Context>,
}

impl Pulse {
    pub(super) fn new(config: Heartbeat) -> Self {
        Self {
            config,
            next_ping: None,
            answer_by: None,
            live_until: None,
            deaf: false,
            ping_due: false,
            unanswered: 0,
            pongs: VecDeque::new(),
        }
    }

    /// The handshake is over.
    pub(super) fn start(&mut self, now: Instant) {
        if !self.config.interval.is_zero() {
            self.next_ping = now.checked_add(self.config.interval);
        }
    }

    /// Any traffic is a sign of life. What was set in this very instant stays: the traffic of one batch is noticed
    /// once, before or after the PING in it is handled.
    #[inline]
    pub(super) fn heard(&mut self, now: Instant) {
        if self.answer_by.is_some_and(|by| by.set < now) {
            self.answer_by = None;
        }
        if self.live_until.is_some_and(|until| until.set < now) {
            self.live_until = None;
        }
    }

    /// While we do not read, silence proves nothing. libzmq arms no timer then either.
    pub(super) fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
        if deaf {
            self.answer_by = None;
            self.live_until = None;
        }
    }

    /// `ping = command-size %d4 "PING" ping-ttl ping-context`.
    pub(super) fn handle_ping(&mut self, data: &[u8], now: Instant) -> Result<(), Violation> {
        let (ttl, context) = data.split_first_chunk().ok_or(Violation::BadCommand)?;
        if LONG_PING_CONTEXT_IS_VIOLATION && context.len() > PING_CONTEXT_MAX {
            return Err(Violation::BadCommand);
        }
        let ttl = u16::from_be_bytes(*ttl);
        if ttl > 0 && !self.deaf {
            self.live_until = Deadline::after(now, Duration::from_millis(u64::from(ttl) * 100));
        }
        let context = &context[..context.len().min(PING_CONTEXT_MAX)];
        let mut pong = Context { len: context.len() as u8, bytes: [0; PING_CONTEXT_MAX] };
        pong.bytes[..context.len()].copy_from_slice(context);
        if self.pongs.back() == Some(&pong) {
            return Ok(());
        }
        if self.pongs.len() == PONGS_MAX {
            return Err(Violation::CommandFlood);
        }
        self.pongs.push_back(pong);
        Ok(())
    }

    /// `pong = command-size %d4 "PONG" ping-context`. `false` when no PING was unanswered.
    pub(super) fn handle_pong(&mut self, context: &[u8]) -> Result<bool, Violation> {
        if context.len() > PING_CONTEXT_MAX {
            return Err(Violation::BadCommand);
        }
        let expected = self.unanswered > 0;
        self.unanswered = self.unanswered.saturating_sub(1);
        Ok(expected)
    }

    /// The next PONG, or else PING. A PING that found no room is not followed by a second one.
    pub(super) fn poll_command(&mut self) -> Option<Part> {
        if let Some(context) = self.pongs.pop_front() {
            return Some(Part::command(Command::write("PONG", &[context.bytes()])));
        }
        if !std::mem::take(&mut self.ping_due) {
            return None;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        // Without a context, as libzmq: which PING a PONG answers makes no difference to anyone.
        Some(Part::command(Command::write("PING", &[&self.config.ttl_field().to_be_bytes()])))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |deadline: Option<Deadline>| deadline.map(|deadline| deadline.due);
        [self.next_ping, due(self.answer_by), due(self.live_until)].into_iter().flatten().min()
    }

    /// Puts off deadlines that have passed, [`REPRIEVES`] times each.
    pub(super) fn reprieve(&mut self, now: Instant) {
        for deadline in [&mut self.answer_by, &mut self.live_until].into_iter().flatten() {
            if deadline.due > now || deadline.reprieves == REPRIEVES {
                continue;
            }
            let late = now.saturating_duration_since(deadline.due);
            // What we were late for, the peer may be as well, but not beyond its time.
            let more = if deadline.reprieves == 0 { late.min(deadline.wait).max(REPRIEVE) } else { REPRIEVE };
            deadline.due = now + more;
            deadline.reprieves += 1;
        }
    }

    /// `false` when the peer is dead.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if [self.answer_by, self.live_until].into_iter().flatten().any(|deadline| deadline.due <= now) {
            return false;
        }
        if self.next_ping.is_some_and(|at| at <= now) {
            // From now and not from when it was due: a process that was stopped does not catch up in a volley.
            self.next_ping = now.checked_add(self.config.interval);
            self.ping_due = true;
            if self.answer_by.is_none() && !self.deaf {
                let timeout = self.config.timeout;
                self.answer_by =
                    Deadline::after(now, if timeout.is_zero() { self.config.interval } else { timeout });
            }
        }
        true
    }
}
