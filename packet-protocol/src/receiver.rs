//! The receiving half of a link: packets in, parts out, in order. Says which buffers may be posted again and what is to be
//! READ; does neither.

use std::collections::VecDeque;
use std::ops::Deref;

use transport_core::limits::FRAME_MAX;
use transport_core::{Completion, DownReason, Flags, Frame, INLINE_MAX, LinkId, Part, Violation};

use crate::error::PacketError;
use crate::limits::COMMAND_MAX;
use crate::stock::Stock;
use crate::transfers::{OutOfMemory, Transfers};
use crate::wire::{HEADER_LEN, RECORD_LEN, Record, padded, parse_record, plain_record};

const ENOMEM: i32 = 12;

impl From<OutOfMemory> for DownReason {
    fn from(_: OutOfMemory) -> Self {
        Self::Broken(ENOMEM)
    }
}

/// Why no more parts come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Everything that has arrived is delivered.
    Hungry,
    /// The caller's limit is reached; there may be more.
    Budget,
    /// A part is in front that has no grant.
    Paused,
    /// A part is in front that is still being READ.
    Reading,
}

/// A data packet with records that were not delivered.
#[derive(Debug)]
struct Held<B> {
    buffer: B,
    len: usize,
    /// Where the next record begins, and how many are left.
    at: usize,
    records: u16,
}

/// A buffer that may be posted again.
#[derive(Debug)]
struct Spent<B> {
    buffer: B,
    control: bool,
}

/// A part that comes in fragments, as far as it was delivered.
#[derive(Debug)]
struct Assembly {
    target: transport_core::Target,
    filled: usize,
    flags: Flags,
}

/// A part that comes in fragments, as far as it has arrived.
#[derive(Debug)]
struct Scanned {
    flags: Flags,
    total: u64,
    left: u64,
}

/// The receiving half of a link.
#[derive(Debug)]
pub(crate) struct Receiver<B, T> {
    held: VecDeque<Held<B>>,
    spent: VecDeque<Spent<B>>,
    pub(crate) transfers: Transfers<T>,
    assembly: Option<Assembly>,
    scanned: Option<Scanned>,
    /// Parts that ever came, and that were ever delivered; commands do not count.
    arrived: u64,
    delivered: u64,
    /// `u64::MAX` stands for unlimited: nobody lives long enough to use it up.
    grant: u64,
    part_max: u64,
    /// 0 where no rendezvous was agreed.
    transfers_max: usize,
    /// What arrives is of no interest any more.
    discarding: bool,
}

impl<B, T> Receiver<B, T> {
    /// Buffers that are here.
    pub(crate) fn buffers(&self) -> usize {
        self.held.len() + self.spent.len()
    }
}

impl<B: Deref<Target = [u8]>, T: Copy> Receiver<B, T> {
    pub(crate) fn new(transfers: Transfers<T>, transfers_max: usize, part_max: Option<u64>) -> Self {
        Self {
            held: VecDeque::new(),
            spent: VecDeque::new(),
            transfers,
            assembly: None,
            scanned: None,
            arrived: 0,
            delivered: 0,
            grant: 0,
            part_max: part_max.unwrap_or(FRAME_MAX).min(FRAME_MAX),
            transfers_max,
            discarding: false,
        }
    }

    pub(crate) fn set_grant(&mut self, parts: u64) {
        self.grant = parts;
    }

    /// How many parts, of all that ever come, are granted by now.
    pub(crate) fn covered(&self) -> u64 {
        self.delivered.saturating_add(self.grant)
    }

    /// Whether everything that has arrived is delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.assembly.is_none()
    }

    /// Whether a part has arrived in part only.
    pub(crate) fn is_inside_part(&self) -> bool {
        self.scanned.is_some() || self.transfers.open() > 0
    }

    /// Takes a data packet in: checks all of it before anything of it is delivered.
    pub(crate) fn take_in(&mut self, buffer: B, len: usize, records: u16) -> Result<(), PacketError> {
        let checked = match buffer.get(..len) {
            Some(packet) => self.scan(packet, records),
            None => Err(PacketError::Length(len)),
        };
        if self.discarding || checked.is_err() {
            self.transfers.abandon();
            self.spend(buffer, false);
        } else {
            self.held.push_back(Held { buffer, len, at: HEADER_LEN, records });
        }
        checked
    }

    fn scan(&mut self, packet: &[u8], records: u16) -> Result<(), PacketError> {
        let mut at = HEADER_LEN;
        for _ in 0..records {
            if at == packet.len() {
                return Err(PacketError::Records(records));
            }
            let (record, next) = parse_record(packet, at)?;
            at = next;
            match record {
                Record::Eager { flags, len, .. } if self.scanned.is_none() => {
                    self.check_len(flags, len as u64)?;
                    self.arrived += u64::from(!flags.command());
                }
                Record::Rendezvous { flags, len, address, key } if self.scanned.is_none() => {
                    if self.transfers_max == 0 {
                        return Err(PacketError::Transfer(len));
                    }
                    self.check_len(flags, len)?;
                    if self.transfers.open() >= self.transfers_max {
                        return Err(PacketError::Transfers);
                    }
                    let size = usize::try_from(len).map_err(|_| PacketError::TooLarge(len))?;
                    self.transfers.announce(flags, size, address, key, self.arrived)?;
                    self.arrived += u64::from(!flags.command());
                }
                Record::Fragment { flags, total, len, .. } => self.scan_fragment(flags, total, len as u64)?,
                _ => return Err(PacketError::Fragment),
            }
        }
        if at == packet.len() { Ok(()) } else { Err(PacketError::Records(records)) }
    }

    fn check_len(&self, flags: Flags, len: u64) -> Result<(), PacketError> {
        let max = if flags.command() { self.part_max.min(COMMAND_MAX) } else { self.part_max };
        if len > max { Err(PacketError::TooLarge(len)) } else { Ok(()) }
    }

    fn scan_fragment(&mut self, flags: Flags, total: u64, len: u64) -> Result<(), PacketError> {
        self.check_len(flags, total)?;
        let scanned = match self.scanned.take() {
            Some(scanned) if scanned.total != total || scanned.flags != flags => {
                return Err(PacketError::Fragment);
            }
            Some(scanned) => scanned,
            None => {
                self.arrived += u64::from(!flags.command());
                Scanned { flags, total, left: total }
            }
        };
        let left = scanned.left.checked_sub(len).ok_or(PacketError::Fragment)?;
        self.scanned = (left > 0).then_some(Scanned { left, ..scanned });
        Ok(())
    }

    /// Puts a buffer among those that may be posted again.
    pub(crate) fn spend(&mut self, buffer: B, control: bool) {
        self.spent.push_back(Spent { buffer, control });
    }

    /// A buffer to post again, and whether a control packet was in it.
    pub(crate) fn take_spent(&mut self) -> Option<(B, bool)> {
        self.spent.pop_front().map(|spent| (spent.buffer, spent.control))
    }

    /// Delivers until `out` has `limit` entries.
    pub(crate) fn deliver(
        &mut self,
        stock: &mut Stock,
        link: LinkId,
        out: &mut Vec<Completion>,
        limit: usize,
    ) -> Result<Stop, DownReason> {
        if let Some(stop) = self.deliver_assembly(stock, link, out, limit) {
            return Ok(stop);
        }
        while let Some(held) = self.held.front_mut() {
            let packet = &*held.buffer;
            let (mut at, mut records, mut grant) = (held.at, held.records, self.grant);
            // The path of plain parts, by hand: it is most of what a stream at full speed does.
            let rare = loop {
                if records == 0 {
                    break false;
                }
                if out.len() >= limit {
                    self.delivered += self.grant - grant;
                    (held.at, held.records, self.grant) = (at, records, grant);
                    return Ok(Stop::Budget);
                }
                let Some((flags, len)) = plain_record(packet, at) else {
                    break true;
                };
                if grant == 0 {
                    self.delivered += self.grant - grant;
                    (held.at, held.records, self.grant) = (at, records, grant);
                    return Ok(Stop::Paused);
                }
                at += RECORD_LEN;
                if !say(stock, out, link, flags, packet, at, len) {
                    return Err(Violation::BadFrame.into());
                }
                at += padded(len);
                grant -= 1;
                records -= 1;
            };
            self.delivered += self.grant - grant;
            (held.at, held.records, self.grant) = (at, records, grant);
            if rare {
                if let Some(stop) = self.deliver_rare(stock, link, out, limit)? {
                    return Ok(stop);
                }
            } else if let Some(held) = self.held.pop_front() {
                self.spend(held.buffer, false);
            }
        }
        Ok(Stop::Hungry)
    }

    /// Delivers the record in front, which is no plain part; the caller's limit is not reached yet.
    fn deliver_rare(
        &mut self,
        stock: &mut Stock,
        link: LinkId,
        out: &mut Vec<Completion>,
        limit: usize,
    ) -> Result<Option<Stop>, DownReason> {
        let Some(held) = self.held.front_mut() else { return Ok(None) };
        let packet = held.buffer.get(..held.len).ok_or(Violation::BadFrame)?;
        let (record, next) = parse_record(packet, held.at).map_err(Violation::from)?;
        match record {
            Record::Eager { flags, at, len } => {
                // A command; it needs no grant.
                say(stock, out, link, flags, packet, at, len);
            }
            Record::Rendezvous { flags, .. } => {
                if !self.transfers.first_is_there() {
                    return Ok(Some(Stop::Reading));
                }
                if self.grant == 0 && !flags.command() {
                    return Ok(Some(Stop::Paused));
                }
                let frame = self.transfers.take().ok_or(Violation::BadFrame)?;
                let counts = u64::from(!flags.command());
                self.delivered += counts;
                self.grant -= counts;
                out.push(Completion::Received { link, part: Part { body: frame.freeze(), flags } });
            }
            Record::Fragment { flags, total, at, len } => {
                let assembly = match &mut self.assembly {
                    Some(assembly) => assembly,
                    None if self.grant == 0 && !flags.command() => return Ok(Some(Stop::Paused)),
                    none => {
                        let total = usize::try_from(total).map_err(|_| Violation::TooLarge)?;
                        let target = stock.landing.target(total).ok_or(OutOfMemory)?;
                        none.insert(Assembly { target, filled: 0, flags })
                    }
                };
                let (from, to) = (assembly.filled, assembly.filled + len);
                let place = assembly.target.frame.get_mut(from..to).ok_or(Violation::BadFrame)?;
                place.copy_from_slice(&packet[at..at + len]);
                stock.count_copied(len);
                assembly.filled = to;
            }
        }
        held.at = next;
        held.records -= 1;
        Ok(self.deliver_assembly(stock, link, out, limit))
    }

    /// Delivers a part that came in fragments, if it is complete.
    fn deliver_assembly(
        &mut self,
        stock: &mut Stock,
        link: LinkId,
        out: &mut Vec<Completion>,
        limit: usize,
    ) -> Option<Stop> {
        let assembly = self.assembly.as_ref()?;
        if assembly.filled < assembly.target.frame.len() {
            return None;
        }
        // The grant may have been taken back since the part began.
        let counts = u64::from(!assembly.flags.command());
        if self.grant < counts {
            return Some(Stop::Paused);
        }
        if out.len() >= limit {
            return Some(Stop::Budget);
        }
        let assembly = self.assembly.take()?;
        self.delivered += counts;
        self.grant -= counts;
        stock.landing.settle(assembly.target.ahead);
        let body = assembly.target.frame.freeze();
        out.push(Completion::Received { link, part: Part { body, flags: assembly.flags } });
        None
    }

    /// Forgets what has arrived and what will: the link is being closed from here. The peer gets its credit and its FINs.
    pub(crate) fn discard(&mut self, stock: &mut Stock) {
        self.discarding = true;
        while let Some(held) = self.held.pop_front() {
            self.spend(held.buffer, false);
        }
        if let Some(assembly) = self.assembly.take() {
            stock.landing.settle(assembly.target.ahead);
        }
        self.transfers.abandon();
    }
}

/// Says that a part arrived whose body lies at `at` of a packet. `false` when it does not.
#[inline(always)]
fn say(
    stock: &mut Stock,
    out: &mut Vec<Completion>,
    link: LinkId,
    flags: Flags,
    packet: &[u8],
    at: usize,
    len: usize,
) -> bool {
    if len <= INLINE_MAX
        && let Some(window) = packet.get(at..).and_then(<[u8]>::first_chunk::<INLINE_MAX>)
    {
        // What lies behind a packet in its buffer is there for this. The body is written where it stays, see
        // `set_window`.
        let part = Part { body: Frame::from_static(b""), flags };
        out.push(Completion::Received { link, part });
        if let Some(Completion::Received { part, .. }) = out.last_mut() {
            part.body.set_window(window, len);
        }
        stock.count_copied(len);
        return true;
    }
    let Some(body) = packet.get(at..at + len) else { return false };
    out.push(Completion::Received { link, part: Part { body: stock.landing.copy(body), flags } });
    true
}
