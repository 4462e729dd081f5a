//! The transmit window (RFC 3208 section 3.3): the packets that can be repaired, as they stood on the wire. Advances
//! with data (section 16.2): when it is full, a new packet takes the place of the oldest.

use transport_core::FrameMut;

use crate::clock::Nanos;
use crate::packet::{DATA_HEADER_LEN, DataHeader};
use crate::serial::Sqn;

#[derive(Debug)]
pub(super) struct Window {
    /// Packets lie in it `stride` bytes apart, so that full ones are one piece of memory.
    memory: FrameMut,
    stride: usize,
    slots: Vec<Slot>,
    /// The slot of `next`.
    next_at: usize,
    next: Sqn,
    len: u32,
}

/// What is known of one packet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    len: u16,
    /// Somebody asks for it.
    pub(super) wanted: bool,
    /// It lies in the batch that is on its way out, so its bytes must stay.
    pub(super) leaving: bool,
    /// It was asked for before.
    pub(super) asked: bool,
    /// Who has asked last.
    pub(super) asker: u32,
    pub(super) sent: Nanos,
    pub(super) repaired: Option<Nanos>,
    pub(super) confirmed: Option<Nanos>,
}

impl Window {
    pub(super) fn new(memory: FrameMut, stride: usize, packets: u32, first: Sqn) -> Self {
        let packets = (packets as usize).min(memory.len() / stride).max(1);
        Self { memory, stride, slots: vec![Slot::default(); packets], next_at: 0, next: first, len: 0 }
    }

    pub(super) fn memory(&self) -> &[u8] {
        &self.memory
    }
    pub(super) fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }
    pub(super) fn trail(&self) -> Sqn {
        self.next.minus(self.len)
    }
    /// One before the trail when nothing was sent yet.
    pub(super) fn lead(&self) -> Sqn {
        self.next.minus(1)
    }

    fn at(&self, sqn: Sqn) -> Option<usize> {
        sqn.within(self.trail(), self.len)?;
        let back = self.next.since(sqn) as usize;
        Some(if back > self.next_at { self.next_at + self.slots.len() - back } else { self.next_at - back })
    }

    pub(super) fn find(&mut self, sqn: Sqn) -> Option<&mut Slot> {
        let at = self.at(sqn)?;
        self.slots.get_mut(at)
    }

    /// Whether the next packet has a place: not when that of the oldest is still being read.
    pub(super) fn has_room(&self) -> bool {
        !self.slots[self.next_at].leaving
    }

    /// Where the next packet's TSDU goes.
    pub(super) fn tsdu(&mut self) -> &mut [u8] {
        let start = self.next_at * self.stride;
        &mut self.memory[start + DATA_HEADER_LEN..start + self.stride]
    }

    /// The next packet's TSDU has been written. Returns where the packet lies.
    pub(super) fn push(&mut self, header: &DataHeader, tsdu_len: usize, now: Nanos) -> (usize, usize) {
        let (start, len) = (self.next_at * self.stride, DATA_HEADER_LEN + tsdu_len);
        self.len = (self.len + 1).min(self.capacity());
        let sqn = self.next;
        self.next = sqn.next();
        let trail = self.trail();
        header.write(&mut self.memory[start..start + len], sqn, trail);
        self.slots[self.next_at] = Slot { len: len as u16, sent: now, leaving: true, ..Slot::default() };
        self.next_at = if self.next_at + 1 == self.slots.len() { 0 } else { self.next_at + 1 };
        (start, len)
    }

    /// The packet that lies at `start` has gone.
    pub(super) fn left(&mut self, start: usize) {
        self.slots[start / self.stride].leaving = false;
    }

    /// Makes RDATA of a packet, and returns where it lies.
    pub(super) fn repair(&mut self, sqn: Sqn, now: Nanos) -> Option<(usize, usize)> {
        let (at, trail) = (self.at(sqn)?, self.trail());
        let slot = &mut self.slots[at];
        (slot.wanted, slot.leaving, slot.repaired) = (false, true, Some(now));
        let (start, len) = (at * self.stride, usize::from(slot.len));
        DataHeader::make_repair(&mut self.memory[start..start + len], trail);
        Some((start, len))
    }
}
