//! What a receiver knows of one source: the packet window, the reassembly of parts, and what waits to be granted.
//! Given packets and the time; does no I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use transport_core::limits::FRAME_MAX;
use transport_core::{
    Completion, DownReason, Flags, FrameMut, FramePool, LinkId, LinkLimits, Loss, Part, Violation,
};

use super::super::kit::{Allowance, News};
use super::super::limits::{MULTICAST_MESSAGE_PARTS_MAX, REORDER_PACKETS_MAX, SOURCE_PARTS_MAX};
use super::packet::{Kind, NO_START, PART_HEADER, Packet};

/// How long a missing packet is awaited before it is lost. Longer than any reordering of this medium.
const REORDER_WAIT: Duration = Duration::from_millis(1);
/// How long a source may be silent. Sixty announcements.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const ENOMEM: i32 = 12;

#[derive(Debug)]
pub(super) struct Source {
    limits: LinkLimits,
    /// The sequence number that the window begins with.
    next: u32,
    /// Packets from `next` on that are known to exist; `None` for those still missing.
    window: VecDeque<Option<Data>>,
    /// When the first missing one counts as lost.
    patience: Option<Instant>,
    heard_at: Instant,
    /// The source has said its last at this sequence number.
    fin: Option<u32>,
    decoder: Decoder,
    held: VecDeque<Held>,
    held_parts: usize,
    pub(super) allowance: Allowance,
    pub(super) doom: Option<DownReason>,
}

#[derive(Debug)]
struct Data {
    first: u16,
    payload: Box<[u8]>,
}

#[derive(Debug)]
enum Held {
    Part(Part),
    Gap(Loss),
}

/// Reassembles messages from the byte stream that packets cut. Out of step until a message begins.
#[derive(Debug, Default)]
struct Decoder {
    in_step: bool,
    header: [u8; PART_HEADER],
    header_read: usize,
    body: Option<(Flags, FrameMut, usize)>,
    message: Vec<Part>,
    /// The message has too many parts and is being dropped.
    too_many: bool,
}

impl Source {
    /// Begins at the live edge: with this packet, or behind what it announces.
    pub(super) fn new(limits: LinkLimits, packet: &Packet<'_>, now: Instant) -> Self {
        Self {
            limits,
            next: packet.sequence,
            window: VecDeque::new(),
            patience: None,
            heard_at: now,
            fin: None,
            decoder: Decoder::default(),
            held: VecDeque::new(),
            held_parts: 0,
            allowance: Allowance::NONE,
            doom: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let silence = self.fin.is_none().then_some(self.heard_at + SILENCE_MAX);
        super::super::kit::earlier(self.patience, silence)
    }

    pub(super) fn hear(&mut self, packet: &Packet<'_>, now: Instant, pool: &FramePool) {
        self.heard_at = now;
        // Serial arithmetic: the sequence wraps.
        let ahead = packet.sequence.wrapping_sub(self.next) as i32;
        match packet.kind {
            Kind::Data if ahead >= 0 => {
                self.reach(ahead as usize + 1, pool);
                let at = packet.sequence.wrapping_sub(self.next) as usize;
                if let Some(place @ None) = self.window.get_mut(at) {
                    *place = Some(Data { first: packet.first, payload: packet.payload.into() });
                }
            }
            Kind::Data => {}
            Kind::Announce | Kind::Fin => {
                if ahead > 0 {
                    self.reach(ahead as usize, pool);
                }
                if packet.kind == Kind::Fin {
                    self.fin = Some(packet.sequence);
                }
            }
        }
        self.settle(now, pool);
    }

    /// Gives up on what was awaited for too long, and notices an end.
    pub(super) fn tick(&mut self, now: Instant, pool: &FramePool) {
        if self.patience.is_some_and(|until| now >= until) {
            let missing = self.window.iter().take_while(|place| place.is_none()).count();
            self.window.drain(..missing);
            self.lose(missing);
            self.patience = None;
            self.settle(now, pool);
        }
        if self.fin.is_none() && now >= self.heard_at + SILENCE_MAX {
            self.doom = self.doom.or(Some(DownReason::TimedOut));
        }
        if self.fin == Some(self.next) && self.window.is_empty() && self.held.is_empty() {
            self.doom = self.doom.or(Some(DownReason::ClosedByPeer));
        }
    }

    /// The next `count` packets from the window's start exist. What the window cannot hold is decided now.
    fn reach(&mut self, count: usize, pool: &FramePool) {
        let mut excess = count.saturating_sub(REORDER_PACKETS_MAX);
        while excess > 0
            && let Some(place) = self.window.pop_front()
        {
            excess -= 1;
            match place {
                Some(data) => self.process(data, pool),
                None => self.lose(1),
            }
        }
        self.lose(excess);
        let count = count.min(REORDER_PACKETS_MAX);
        if self.window.len() < count {
            self.window.resize_with(count, || None);
        }
    }

    /// Hands on what is in order, and starts to wait for what is not.
    fn settle(&mut self, now: Instant, pool: &FramePool) {
        while let Some(Some(_)) = self.window.front() {
            if let Some(Some(data)) = self.window.pop_front() {
                self.process(data, pool);
            }
            self.patience = None;
        }
        self.patience =
            if self.window.is_empty() { None } else { self.patience.or(Some(now + REORDER_WAIT)) };
    }

    fn lose(&mut self, packets: usize) {
        if packets == 0 {
            return;
        }
        self.next = self.next.wrapping_add(packets as u32);
        // Whatever was begun can never be completed: what follows is the middle of something.
        self.decoder = Decoder::default();
        self.hold_gap(Loss::Packets(packets as u64));
    }

    fn hold_gap(&mut self, lost: Loss) {
        match (self.held.back_mut(), lost) {
            (Some(Held::Gap(Loss::Packets(before))), Loss::Packets(more))
            | (Some(Held::Gap(Loss::Messages(before))), Loss::Messages(more)) => *before += more,
            _ => self.held.push_back(Held::Gap(lost)),
        }
    }

    fn process(&mut self, data: Data, pool: &FramePool) {
        self.next = self.next.wrapping_add(1);
        let mut bytes = &data.payload[..];
        if !self.decoder.in_step {
            if data.first == NO_START {
                return;
            }
            bytes = &bytes[usize::from(data.first)..];
            self.decoder.in_step = true;
        }
        while self.doom.is_none() {
            match self.decode(&mut bytes, pool) {
                Ok(true) => {}
                Ok(false) => return,
                Err(reason) => self.doom = Some(reason),
            }
        }
    }

    /// One step. `false` when the bytes are used up.
    fn decode(&mut self, bytes: &mut &[u8], pool: &FramePool) -> Result<bool, DownReason> {
        let decoder = &mut self.decoder;
        if let Some((flags, body, read)) = &mut decoder.body {
            let some = bytes.len().min(body.len() - *read);
            body[*read..*read + some].copy_from_slice(&bytes[..some]);
            *bytes = &bytes[some..];
            *read += some;
            if *read < body.len() {
                return Ok(false);
            }
            let flags = *flags;
            if let Some((_, body, _)) = decoder.body.take() {
                self.finish_part(Part { body: body.freeze(), flags });
            }
            return Ok(true);
        }
        let some = bytes.len().min(PART_HEADER - decoder.header_read);
        decoder.header[decoder.header_read..][..some].copy_from_slice(&bytes[..some]);
        decoder.header_read += some;
        *bytes = &bytes[some..];
        if decoder.header_read < PART_HEADER {
            return Ok(false);
        }
        decoder.header_read = 0;
        let [flags, length @ ..] = decoder.header;
        let flags = match flags {
            0 => Flags::LAST,
            1 => Flags::MORE,
            4 => Flags::COMMAND,
            _ => return Err(Violation::BadFrame.into()),
        };
        let length = u64::from_be_bytes(length);
        if length > self.limits.part_max.unwrap_or(FRAME_MAX).min(FRAME_MAX) {
            return Err(Violation::TooLarge.into());
        }
        let body = usize::try_from(length).ok().and_then(|length| pool.take_or_own(length));
        decoder.body = Some((flags, body.ok_or(DownReason::Broken(ENOMEM))?, 0));
        Ok(true)
    }

    fn finish_part(&mut self, part: Part) {
        let decoder = &mut self.decoder;
        let last = !part.flags.more();
        decoder.too_many |= decoder.message.len() == MULTICAST_MESSAGE_PARTS_MAX;
        if decoder.too_many {
            decoder.message.clear();
        } else {
            decoder.message.push(part);
        }
        if !last {
            return;
        }
        let parts = decoder.message.len();
        let fits = self.held_parts == 0 || self.held_parts + parts <= SOURCE_PARTS_MAX;
        if std::mem::take(&mut decoder.too_many) || !fits {
            // Whole messages only: nobody upstream can be slowed down, and half a message is worse than none.
            decoder.message.clear();
            self.hold_gap(Loss::Messages(1));
            return;
        }
        self.held_parts += parts;
        self.held.extend(decoder.message.drain(..).map(Held::Part));
    }

    /// Says what is granted. Returns whether it stopped for want of budget.
    pub(super) fn deliver(&mut self, link: LinkId, news: &mut News, limit: usize) -> bool {
        while let Some(first) = self.held.front() {
            if matches!(first, Held::Part(part) if !part.flags.command() && self.allowance.spent()) {
                return false;
            }
            if news.len() >= limit {
                return true;
            }
            match self.held.pop_front() {
                Some(Held::Part(part)) => {
                    self.held_parts -= 1;
                    if !part.flags.command() {
                        self.allowance.spend();
                    }
                    news.say(Completion::Received { link, part });
                }
                Some(Held::Gap(lost)) => news.say(Completion::Gap { link, lost }),
                None => {}
            }
        }
        false
    }
}
