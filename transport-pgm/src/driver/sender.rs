//! The link of a publisher: what was posted, the source that makes packets of it, and the carrier that they leave by. Knows
//! no other link.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use transport_core::{Close, Completion, DownReason, FrameMut, LinkId, OpenId, Recovery};

use super::outbox::Outbox;
use crate::limits::{RECEIVE_TURN, SEND_BATCH, SEND_TURN};
use crate::net::Carrier;
use crate::packet::Packet;
use crate::source::{Payload, Source, SourceConfig, SourceCounters};

/// See the module.
#[derive(Debug)]
pub(super) struct Sender<C> {
    pub(super) open: OpenId,
    pub(super) outbox: Outbox,
    pub(super) closing: Option<Close>,
    /// Posted to since it was flushed.
    pub(super) dirty: bool,
    carrier: C,
    stage: Stage,
    /// The carrier takes nothing more at the moment.
    blocked: bool,
    /// The carrier has something to say.
    pub(super) heard: bool,
    /// There was more to send than one turn may.
    unfinished: bool,
    sent_said: u64,
    /// What monitors have heard.
    pub(super) told: Recovery,
    malformed: u64,
}

/// A source needs to be told the time to begin, and `open` does not know it.
#[derive(Debug)]
enum Stage {
    Waiting(Option<(SourceConfig, FrameMut)>),
    Running(Box<Source>),
}

impl<C: Carrier> Sender<C> {
    pub(super) fn new(open: OpenId, carrier: C, config: SourceConfig, memory: FrameMut) -> Self {
        Self {
            open,
            outbox: Outbox::new(),
            closing: None,
            dirty: false,
            carrier,
            stage: Stage::Waiting(Some((config, memory))),
            blocked: false,
            heard: false,
            unfinished: false,
            sent_said: 0,
            told: Recovery::default(),
            malformed: 0,
        }
    }

    pub(super) fn begin(&mut self, now: Instant) {
        if let Stage::Waiting(waiting) = &mut self.stage
            && let Some((config, memory)) = waiting.take()
        {
            self.stage = Stage::Running(Box::new(Source::new(now, config, memory)));
        }
    }

    /// What monitors hear.
    pub(super) fn recovery(&self) -> Option<Recovery> {
        let Stage::Running(source) = &self.stage else { return None };
        let SourceCounters { odata, rdata, naks_sqns, naks_late, naks_limited, naks_flooded, .. } =
            source.counters();
        let (repaired, requested, refused) = (rdata, naks_sqns, naks_limited + naks_flooded);
        Some(Recovery { packets: odata, repaired, requested, lost: naks_late, refused })
    }

    /// From now on the network tells of its carrier by this name.
    pub(super) fn watch(&mut self, token: u64) -> io::Result<()> {
        self.carrier.watch(token)
    }

    /// A descriptor for monitors.
    pub(super) fn fd(&self) -> i32 {
        self.carrier.fd()
    }

    /// The system says that the carrier has something, or room.
    pub(super) fn woken(&mut self) {
        self.heard = true;
        if self.blocked {
            self.blocked = false;
            self.carrier.await_room(false);
        }
    }

    /// Takes what receivers say.
    pub(super) fn listen(&mut self, now: Instant) {
        let Stage::Running(source) = &mut self.stage else { return };
        if !std::mem::take(&mut self.heard) {
            return;
        }
        let malformed = &mut self.malformed;
        let taken = self.carrier.receive(RECEIVE_TURN, |datagram| match Packet::parse(datagram.bytes) {
            Ok(packet) => source.handle(now, datagram.from, &packet),
            Err(_) => *malformed += 1,
        });
        // The descriptor stays readable, but nobody may look at it before the next poll.
        self.heard = taken.is_ok_and(|taken| taken >= RECEIVE_TURN);
    }

    /// Sends what is due and what the rate allows.
    pub(super) fn pump(&mut self, now: Instant) {
        let Stage::Running(source) = &mut self.stage else { return };
        self.unfinished = false;
        let mut sent = 0;
        while !self.blocked {
            let ready = source.prepare(now, SEND_BATCH, &mut self.outbox);
            if ready == 0 {
                return;
            }
            // An error of the carrier itself is no different from a wire that is cut.
            let taken = self.carrier.send(source.datagrams()).unwrap_or(ready).min(ready);
            source.sent(taken);
            sent += taken;
            if taken < ready {
                self.blocked = true;
                self.carrier.await_room(true);
            } else if sent >= SEND_TURN {
                self.unfinished = true;
                return;
            }
        }
    }

    /// Says how far it has come. A reason when the link has come to its end.
    pub(super) fn report(
        &mut self,
        link: LinkId,
        now: Instant,
        news: &mut VecDeque<Completion>,
    ) -> Option<DownReason> {
        let through = self.outbox.finished();
        if through > self.sent_said {
            self.sent_said = through;
            news.push_back(Completion::Sent { link, through });
        }
        if self.closing.is_none() && self.outbox.settle_writable() {
            news.push_back(Completion::Writable { link });
        }
        let Stage::Running(source) = &mut self.stage else {
            return self.closing.map(|_| DownReason::ClosedHere);
        };
        match self.closing? {
            Close::Abort => {
                // What is packed and has not gone is lost. Receivers need not wait for an end that they were told of.
                if !self.blocked {
                    source.finish(now);
                    let ready = source.prepare(now, SEND_BATCH, &mut Nothing);
                    if ready > 0 {
                        let _ = self.carrier.send(source.datagrams());
                    }
                }
                Some(DownReason::ClosedHere)
            }
            Close::Drain { until } => {
                if !self.outbox.is_waiting() {
                    source.finish(now);
                    if source.is_finished(now) {
                        return Some(DownReason::ClosedHere);
                    }
                }
                until.is_some_and(|until| now >= until).then_some(DownReason::TimedOut)
            }
        }
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn deadline(&self, now: Option<Instant>) -> Option<Instant> {
        let own = match &self.stage {
            Stage::Waiting(_) => now,
            Stage::Running(_) if self.unfinished || self.heard => now,
            // Until there is room, nothing can be done.
            Stage::Running(_) if self.blocked => None,
            Stage::Running(source) => Some(source.deadline()),
        };
        match self.closing {
            Some(Close::Drain { until: Some(until) }) => Some(own.map_or(until, |own| own.min(until))),
            _ => own,
        }
    }

    /// Whether there is something to do at once.
    pub(super) fn is_busy(&self) -> bool {
        self.unfinished || self.heard || matches!(self.stage, Stage::Waiting(_))
    }
}

/// No payload: what is left is control.
struct Nothing;

impl Payload for Nothing {
    fn is_waiting(&self) -> bool {
        false
    }
    fn fill(&mut self, _: &mut [u8]) -> usize {
        0
    }
}
