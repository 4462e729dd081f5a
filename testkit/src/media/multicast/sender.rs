//! A multicast sender: cuts the parts of one link into packets and paces them. Hears nothing and repairs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{Frame, OpenId};

use super::super::kit::Outbox;
use super::super::limits::{MULTICAST_BURST_MAX, MULTICAST_PACKET_MAX};
use super::air::Air;
use super::packet::{Kind, NO_START, PACKET_HEADER, PART_HEADER, Packet};

/// The time in which [`MULTICAST_BURST_MAX`] packets may go.
const TICK: Duration = Duration::from_micros(100);
/// The first announcement after a packet, and the longest silence; in between it doubles.
const BEAT_MIN: Duration = Duration::from_millis(1);
const BEAT_MAX: Duration = Duration::from_secs(1);
/// Copies of the last word, since nobody acknowledges it.
const FINS: usize = 3;

#[derive(Debug)]
pub(super) struct Sender {
    pub(super) open: OpenId,
    group: Box<str>,
    source: u64,
    next: u32,
    pub(super) outbox: Outbox,
    writing: Option<Writing>,
    /// The last part that went into a packet was not the last of its message.
    inside: bool,
    /// Parts of which every byte is on the wire, and how many of those were reported.
    pub(super) sent: u64,
    pub(super) sent_reported: u64,
    tick_began: Option<Instant>,
    burst: usize,
    beat_at: Option<Instant>,
    beat: Duration,
}

#[derive(Debug)]
struct Writing {
    header: [u8; PART_HEADER],
    body: Frame,
    written: usize,
}

impl Sender {
    pub(super) fn new(open: OpenId, group: &str, source: u64, first: u32) -> Self {
        Self {
            open,
            group: group.into(),
            source,
            next: first,
            outbox: Outbox::default(),
            writing: None,
            inside: false,
            sent: 0,
            sent_reported: 0,
            tick_began: None,
            burst: 0,
            beat_at: None,
            beat: BEAT_MIN,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let paced = if self.is_idle() { None } else { self.tick_began.map(|began| began + TICK) };
        super::super::kit::earlier(paced, self.beat_at)
    }

    /// Nothing released waits for the wire.
    pub(super) fn is_idle(&self) -> bool {
        self.writing.is_none() && self.outbox.front().is_none()
    }

    /// Announces itself when that is due, for receivers that joined or missed the last packet.
    pub(super) fn announce(&mut self, air: &mut Air, now: Instant) {
        if self.beat_at.is_some_and(|at| now < at) {
            return;
        }
        self.tell(air, Kind::Announce);
        self.beat_at = Some(now + self.beat);
        self.beat = (self.beat * 2).min(BEAT_MAX);
    }

    pub(super) fn finish(&mut self, air: &mut Air) {
        for _ in 0..FINS {
            self.tell(air, Kind::Fin);
        }
    }

    fn tell(&mut self, air: &mut Air, kind: Kind) {
        let packet = Packet { kind, source: self.source, sequence: self.next, first: NO_START, payload: &[] };
        air.send(&self.group, &Arc::from(packet.encode()));
    }

    /// Sends what was released, as far as this tick's burst goes.
    pub(super) fn pump(&mut self, air: &mut Air, now: Instant) {
        while !self.is_idle() {
            if self.tick_began.is_none_or(|began| now >= began + TICK) {
                (self.tick_began, self.burst) = (Some(now), 0);
            }
            if self.burst == MULTICAST_BURST_MAX {
                return;
            }
            self.burst += 1;
            self.send_packet(air);
            (self.beat, self.beat_at) = (BEAT_MIN, Some(now + BEAT_MIN));
        }
    }

    fn send_packet(&mut self, air: &mut Air) {
        const PAYLOAD_MAX: usize = MULTICAST_PACKET_MAX - PACKET_HEADER;
        let mut payload = [0; PAYLOAD_MAX];
        let (mut len, mut first) = (0, NO_START);
        while len < PAYLOAD_MAX {
            if self.writing.is_none() {
                let Some(part) = self.outbox.take() else { break };
                if !self.inside && first == NO_START {
                    first = len as u16;
                }
                self.inside = part.flags.more();
                let mut header = [0; PART_HEADER];
                header[0] = u8::from(part.flags.more()) | (u8::from(part.flags.command()) << 2);
                header[1..].copy_from_slice(&(part.body.len() as u64).to_be_bytes());
                self.writing = Some(Writing { header, body: part.body, written: 0 });
            }
            let Some(writing) = &mut self.writing else { break };
            let rest = match writing.written.checked_sub(PART_HEADER) {
                Some(of_body) => &writing.body[of_body..],
                None => &writing.header[writing.written..],
            };
            let some = rest.len().min(PAYLOAD_MAX - len);
            payload[len..len + some].copy_from_slice(&rest[..some]);
            len += some;
            writing.written += some;
            if writing.written == PART_HEADER + writing.body.len() {
                self.writing = None;
                self.sent += 1;
            }
        }
        let (source, sequence) = (self.source, self.next);
        let packet = Packet { kind: Kind::Data, source, sequence, first, payload: &payload[..len] };
        air.send(&self.group, &Arc::from(packet.encode()));
        self.next = self.next.wrapping_add(1);
    }
}
