//! The sending half of a link: parts in, packets out, and which memory is still needed for them. Posts nothing itself.

use std::collections::VecDeque;
use std::fmt;

use transport_core::Part;

use crate::connection::Terms;
use crate::credit::Spending;
use crate::error::PacketError;
use crate::limits::{FRAGMENT_MIN, PINNED_BYTES_MAX};
use crate::machine::Policy;
use crate::memory::{Exposed, Memory};
use crate::outbox::Outbox;
use crate::wire::{FRAGMENT_LEN, HEADER_LEN, RECORD_LEN, RENDEZVOUS_LEN, Writer, padded};

/// A part that the peer may READ.
struct Pinned<P> {
    /// How many parts had been taken when this one was, itself included.
    ordinal: u64,
    len: usize,
    _pin: P,
}

/// A part that our device reads where it is, while its packet is under way.
#[derive(Debug)]
struct Spliced {
    packet: u32,
    ordinal: u64,
}

/// A part that goes in fragments, and how much of it has gone.
#[derive(Debug)]
struct Fragmenting {
    part: Part,
    gone: usize,
}

/// What a packet was filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    pub(crate) wire: usize,
    pub(crate) buffered: usize,
    pub(crate) records: u16,
    pub(crate) spliced: usize,
    /// Bytes of bodies that were copied into it.
    pub(crate) copied: usize,
}

/// The sending half of a link.
pub(crate) struct Sender<P> {
    pub(crate) outbox: Outbox,
    pub(crate) spending: Spending,
    fragmenting: Option<Fragmenting>,
    /// Transfers that the peer has not finished, in order; and how many it ever has.
    pins: VecDeque<Pinned<P>>,
    pinned_bytes: u64,
    fins: u32,
    spliced: VecDeque<Spliced>,
    /// The number of the next packet.
    packet: u32,
    /// The peer knows that we want more credit.
    pub(crate) asked: bool,
    sent_said: u64,
}

impl<P> fmt::Debug for Sender<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outbox, spending, fragmenting, pins, spliced, packet, asked, sent_said, .. } = self;
        f.debug_struct("Sender")
            .field("outbox", outbox)
            .field("spending", spending)
            .field("fragmenting", fragmenting)
            .field("pins", &pins.iter().map(|pin| pin.ordinal).collect::<Vec<_>>())
            .field("spliced", spliced)
            .field("packet", packet)
            .field("asked", asked)
            .field("sent_said", sent_said)
            .finish_non_exhaustive()
    }
}

impl<P> Sender<P> {
    pub(crate) fn new(start: u32, terms: &Terms) -> Self {
        Self {
            outbox: Outbox::default(),
            spending: Spending::new(start, terms.data_credits.sending),
            fragmenting: None,
            pins: VecDeque::new(),
            pinned_bytes: 0,
            fins: start,
            spliced: VecDeque::new(),
            packet: start,
            asked: false,
            sent_said: 0,
        }
    }

    /// Whether parts wait for a packet.
    pub(crate) fn has_parts(&self) -> bool {
        self.fragmenting.is_some() || !self.outbox.is_empty()
    }

    /// Whether everything that was posted is with the peer, or will be without further doing.
    pub(crate) fn is_done(&self) -> bool {
        !self.has_parts() && self.pins.is_empty()
    }

    /// The number of a packet that goes now.
    pub(crate) fn number(&mut self) -> u32 {
        let number = self.packet;
        self.packet = number.wrapping_add(1);
        number
    }

    /// Packs everything that is queued, as far as it fits: many small parts share one packet.
    pub(crate) fn pack<M: Memory<Pin = P>>(
        &mut self,
        writer: &mut Writer<'_>,
        memory: &mut M,
        terms: &Terms,
        policy: &Policy,
    ) -> Filled {
        let mut spliced = 0;
        loop {
            if self.fragmenting.is_some() {
                if !self.pack_fragment(writer) {
                    break;
                }
                continue;
            }
            let Some(part) = self.outbox.front() else { break };
            if let Some((window, len)) = part.body.as_window() {
                if !writer.short(part.flags, window, len) {
                    break;
                }
                self.outbox.take();
            } else if !self.pack_long(writer, memory, terms, policy, &mut spliced) {
                break;
            }
        }
        let Writer { wire, at, records, copied, .. } = *writer;
        Filled { wire, buffered: at, records, spliced, copied }
    }

    /// Packs the first part, which is not inline. `false` when it has to wait for the next packet, or for FINs.
    fn pack_long<M: Memory<Pin = P>>(
        &mut self,
        writer: &mut Writer<'_>,
        memory: &mut M,
        terms: &Terms,
        policy: &Policy,
        spliced: &mut usize,
    ) -> bool {
        let Some(part) = self.outbox.front() else { return false };
        let (flags, len) = (part.flags, part.body.len());
        let fits_a_packet = len <= terms.packet_len - HEADER_LEN - RECORD_LEN;
        let long = !fits_a_packet || len >= policy.rendezvous_min;
        if long && terms.rendezvous() {
            let pinned = self.pins.len() >= terms.transfers
                || (!self.pins.is_empty() && self.pinned_bytes + len as u64 > PINNED_BYTES_MAX);
            if pinned || writer.space() < RENDEZVOUS_LEN {
                return false;
            }
            let exposed =
                self.outbox.take_if(|part| memory.expose(part.body).map_err(|body| Part { body, flags }));
            if let Some(Exposed { address, key, pin }) = exposed {
                writer.rendezvous(flags, len as u64, address, key);
                self.pinned_bytes += len as u64;
                self.pins.push_back(Pinned { ordinal: self.outbox.taken(), len, _pin: pin });
                return true;
            }
        }
        if !fits_a_packet {
            self.fragmenting = self.outbox.take().map(|part| Fragmenting { part, gone: 0 });
            return true;
        }
        if writer.space() < RECORD_LEN + padded(len) {
            return false;
        }
        let Some(part) = self.outbox.take() else { return false };
        if len < policy.splice_min || *spliced >= policy.splices {
            writer.copy(flags, &part.body);
        } else if writer.splice(flags, part.body, |at, body| memory.splice(at, body)) {
            self.spliced.push_back(Spliced { packet: self.packet, ordinal: self.outbox.taken() });
            *spliced += 1;
        }
        true
    }

    /// Packs as much as fits of the part that goes in fragments. `false` when the packet is full.
    fn pack_fragment(&mut self, writer: &mut Writer<'_>) -> bool {
        let Some(Fragmenting { part, gone }) = &mut self.fragmenting else { return false };
        let left = &part.body[*gone..];
        let space = writer.space().saturating_sub(FRAGMENT_LEN) & !7;
        let len = left.len().min(space);
        if len == 0 || (len < left.len() && len < FRAGMENT_MIN) {
            return false;
        }
        writer.fragment(part.flags, part.body.len() as u64, &left[..len]);
        *gone += len;
        if *gone == part.body.len() {
            self.fragmenting = None;
        }
        true
    }

    /// The device is done with every packet up to this one.
    pub(crate) fn packets_done(&mut self, through: u32) {
        let before = |packet: u32| through.wrapping_sub(packet) <= u32::MAX / 2;
        while self.spliced.front().is_some_and(|it| before(it.packet)) {
            self.spliced.pop_front();
        }
    }

    /// Takes the peer's word for how many transfers it has finished in all.
    pub(crate) fn finish(&mut self, fins: u32) -> Result<(), PacketError> {
        let more = fins.wrapping_sub(self.fins);
        if more as usize > self.pins.len() {
            return Err(PacketError::Fins(more));
        }
        for pin in self.pins.drain(..more as usize) {
            self.pinned_bytes -= pin.len as u64;
        }
        self.fins = fins;
        Ok(())
    }

    /// How many of the parts ever posted no device reads any more, if that is news.
    pub(crate) fn sent(&mut self) -> Option<u64> {
        let taken = self.outbox.taken() - u64::from(self.fragmenting.is_some());
        let pinned = self.pins.front().map_or(taken, |pin| pin.ordinal - 1);
        let spliced = self.spliced.front().map_or(taken, |spliced| spliced.ordinal - 1);
        let sent = taken.min(pinned).min(spliced);
        let news = sent > self.sent_said;
        self.sent_said = sent;
        news.then_some(sent)
    }

    /// Nobody reads any of our memory any more.
    pub(crate) fn bury(&mut self, give: impl FnMut(Part)) {
        self.pins.clear();
        self.spliced.clear();
        self.fragmenting = None;
        self.outbox.give_back(give);
    }
}
