//! One link of the packet protocol: both halves, credit between them, and how it ends. Does no I/O, reads no clock, and
//! draws no lots; a driver posts what it says and tells it what completed.

use std::ops::Deref;

use transport_core::{
    Completion, DownReason, FrameMut, Grant, LinkId, Part, Refused, RefusedReason, Violation,
};

use crate::connection::Terms;
use crate::credit::{Control, Granting, Seat};
use crate::error::PacketError;
use crate::limits::{READ_CHUNK, RENDEZVOUS_MIN, SPLICE_MIN, SPLICES_MAX, WINDOW_MAX};
use crate::memory::Memory;
use crate::receiver::{Receiver, Stop};
use crate::sender::Sender;
use crate::stock::Stock;
use crate::transfers::{Read, ReadId, Transfers};
use crate::wire::{GOODBYE, GOODBYE_SEEN, HEADER_LEN, Header, WANT, Writer};

/// What a driver decides for its side alone; the peer need not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Parts from this many bytes go by rendezvous even where they would fit a packet, if their memory has a key.
    pub rendezvous_min: usize,
    /// Parts from this many bytes are sent from where they are and not copied, if their memory has a key.
    pub splice_min: usize,
    /// Frames that may be spliced into one packet, 0 for none. With `n` of them a packet has up to `2 * n + 1` pieces.
    pub splices: usize,
    /// Bytes of one READ.
    pub read_chunk: usize,
    /// Longest part that is taken from the peer, in bytes; `None` for [`transport_core::limits::FRAME_MAX`].
    pub part_max: Option<u64>,
    /// Data packets that the peer may have under way or waiting here, as far as the [`crate::Reserve`] lasts.
    pub window_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rendezvous_min: RENDEZVOUS_MIN,
            splice_min: SPLICE_MIN,
            splices: SPLICES_MAX,
            read_chunk: READ_CHUNK,
            part_max: None,
            window_max: WINDOW_MAX,
        }
    }
}

/// A packet to post: the first `buffered` bytes of the buffer that was filled, with what [`Memory::splice`] took between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Its number, for [`Machine::packets_done`]. Packets of a link are numbered one by one.
    pub number: u32,
    /// Bytes on the wire.
    pub len: usize,
    /// Bytes in the buffer that was filled.
    pub buffered: usize,
    /// Frames that are spliced in. Their senders wait for [`Machine::packets_done`], so a packet with any wants a
    /// completion soon.
    pub spliced: usize,
    /// A control packet: it carries no parts.
    pub control: bool,
    /// Another packet can be filled at once, so this one needs to wake nobody.
    pub more: bool,
}

/// How far a link is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
    Ended(DownReason),
}

/// One link. `B` is a receive buffer, `P` what keeps a frame within the peer's reach ([`Memory::Pin`]), and `T` the driver's name
/// for a part's memory that READs land in.
///
/// Not thread-safe by itself. No call blocks, and none allocates per message once warm. What a driver does with a link
/// when anything has happened, in this order:
///
/// ```text
/// received, read_done, packets_done     what the device has completed
/// poll ................................ parts and counts for the engine
/// take_spent .......................... buffers to post again: all of them, before any `fill`
/// poll_read ........................... READs to post, until None
/// fill ................................ packets to post, until None
/// ending .............................. Some: disconnect, drain the queue pair, then `bury` and say Down
/// ```
///
/// The rules of credit hold only if receive buffers are posted when the machine counts on them: [`crate::Reserve::add`] comes after
/// posting, and [`Machine::take_spent`] before [`Machine::fill`].
///
/// Memory that a device touches is never the machine's at that time: a packet's splices and READs' targets are the driver's until
/// it hands them back or drops them. Only pins are kept here, until the peer has finished with them, so a machine is to be
/// dropped when the peer can READ no more: when its queue pair is gone.
#[derive(Debug)]
pub struct Machine<B, P, T> {
    terms: Terms,
    policy: Policy,
    sender: Sender<P>,
    receiver: Receiver<B, T>,
    granting: Granting,
    control: Control,
    phase: Phase,
    /// The queue pair is of no use any more; why, unless there was a goodbye.
    gone: Option<DownReason>,
    goodbye_said: bool,
    goodbye_seen: bool,
    peer_goodbye: bool,
    owes_goodbye_seen: bool,
    /// The driver wants a packet to go, whatever is in it.
    greeting: bool,
}

impl<B: Deref<Target = [u8]>, P, T: Copy> Machine<B, P, T> {
    /// A link that comes up by these terms, with the seat that was taken for its offer.
    pub fn new(terms: Terms, policy: Policy, seat: Seat) -> Self {
        Self::starting_at(0, terms, policy, seat)
    }

    /// As though so much had gone before, both ways: for tests of counters that wrap.
    #[doc(hidden)]
    pub fn starting_at(start: u32, terms: Terms, policy: Policy, seat: Seat) -> Self {
        let transfers = Transfers::new(start, policy.read_chunk);
        Self {
            sender: Sender::new(start, &terms),
            receiver: Receiver::new(
                transfers,
                if terms.rendezvous() { terms.transfers } else { 0 },
                policy.part_max,
            ),
            control: Control::new(start, terms.control_credits.sending.into(), seat.control()),
            granting: Granting::new(seat, start, policy.window_max),
            terms,
            policy,
            phase: Phase::Open,
            gone: None,
            goodbye_said: false,
            goodbye_seen: false,
            peer_goodbye: false,
            owes_goodbye_seen: false,
            greeting: false,
        }
    }

    /// What was agreed.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    // The engine's side

    /// How many more parts [`Machine::post`] takes: a promise, whatever the parts weigh, until it is asked again. See
    /// [`transport_core::Driver::room`].
    pub fn room(&self) -> usize {
        if self.phase == Phase::Open { self.sender.outbox.room() } else { 0 }
    }

    /// What is left of what [`Machine::room`] promised: for who asks twice between two polls, and must not be told less.
    pub fn room_left(&self) -> usize {
        if self.phase == Phase::Open { self.sender.outbox.room_left() } else { 0 }
    }

    /// Takes a part to send; see [`transport_core::Driver::post_send`]. It goes with the next [`Machine::fill`].
    #[inline]
    pub fn post(&mut self, stock: &mut Stock, part: Part) -> Result<(), Refused> {
        if self.phase != Phase::Open {
            return Err(Refused { part, reason: RefusedReason::Closed });
        }
        if !self.sender.outbox.takes(part.flags) {
            return Err(Refused { part, reason: RefusedReason::Full });
        }
        self.sender.outbox.push(stock, part);
        Ok(())
    }

    /// Sets how many more parts may be delivered; see [`transport_core::Driver::grant`]. READs may be due then.
    pub fn grant(&mut self, grant: Grant) {
        self.receiver.set_grant(match grant {
            Grant::Limited(parts) => parts,
            Grant::Unlimited => u64::MAX,
        });
    }

    /// Says what there is to say, as `link`, until `out` has `limit` entries: Received, then Sent and Writable. An error
    /// is the reason of the link's end; [`Machine::ending`] repeats it.
    pub fn poll(
        &mut self,
        stock: &mut Stock,
        link: LinkId,
        out: &mut Vec<Completion>,
        limit: usize,
    ) -> Result<Stop, DownReason> {
        let stop = match self.phase {
            Phase::Open => self.receiver.deliver(stock, link, out, limit),
            Phase::Draining => Ok(Stop::Hungry),
            Phase::Ended(reason) => Err(reason),
        };
        if let Err(reason) = stop {
            self.end(reason);
            return Err(reason);
        }
        if let Some(through) = self.sender.sent() {
            out.push(Completion::Sent { link, through });
        }
        if self.phase == Phase::Open && self.sender.outbox.owes_writable() {
            self.sender.outbox.writable_said();
            out.push(Completion::Writable { link });
        }
        stop
    }

    /// Ends the link once everything posted is with the peer. What arrives meanwhile is dropped. There is no clock in
    /// here: a driver that has waited long enough calls [`Machine::abort`].
    pub fn drain(&mut self, stock: &mut Stock) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            self.receiver.discard(stock);
        }
    }

    /// Ends the link at once, for a reason.
    pub fn abort(&mut self, reason: DownReason) {
        self.end(reason);
    }

    fn end(&mut self, reason: DownReason) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(reason);
        }
    }

    // The device's side: what has completed

    /// A packet of `len` bytes arrived in `buffer`. An error ends the link. Bytes of the buffer behind `len` may be anything and
    /// are not delivered; small parts are copied faster when there are 64 of them.
    pub fn received(&mut self, buffer: B, len: usize) -> Result<(), PacketError> {
        if matches!(self.phase, Phase::Ended(_)) {
            self.receiver.spend(buffer, true);
            return Ok(());
        }
        let result = self.digest(buffer, len);
        if let Err(error) = result {
            self.end(Violation::from(error).into());
        }
        result
    }

    fn digest(&mut self, buffer: B, len: usize) -> Result<(), PacketError> {
        let packet = buffer.get(..len).filter(|_| len <= self.terms.packet_len);
        let header = match packet.ok_or(PacketError::Length(len)).and_then(Header::decode) {
            Ok(header) => header,
            Err(error) => {
                self.receiver.spend(buffer, true);
                return Err(error);
            }
        };
        let wanted = header.flags & WANT != 0;
        let accounted = if header.control {
            self.control.arrived().map(|()| {
                if wanted {
                    self.granting.note_want(true);
                }
            })
        } else {
            let late = if self.peer_goodbye { Err(PacketError::Goodbye) } else { Ok(()) };
            late.and_then(|()| self.granting.arrived(wanted))
        };
        let counted = accounted.and_then(|()| self.count(&header));
        if header.control || counted.is_err() {
            self.receiver.spend(buffer, header.control);
            return counted;
        }
        self.receiver.take_in(buffer, len, header.records)
    }

    /// What a header says beside its records. Packets of a link arrive in the order they were sent, so counters only grow,
    /// and never beyond what was sent: a peer that says otherwise is broken or worse.
    fn count(&mut self, header: &Header) -> Result<(), PacketError> {
        self.control.acknowledge(header.control_seen)?;
        self.sender.finish(header.fins)?;
        if self.sender.spending.raise(header.granted)? {
            self.sender.asked = false;
        }
        if header.flags & GOODBYE_SEEN != 0 {
            if !self.goodbye_said || self.goodbye_seen {
                return Err(PacketError::Goodbye);
            }
            self.goodbye_seen = true;
        }
        if header.flags & GOODBYE != 0 {
            // Its transfers are finished, and it knows; so nothing is left to be READ from it.
            if self.peer_goodbye || self.receiver.is_inside_part() {
                return Err(PacketError::Goodbye);
            }
            (self.peer_goodbye, self.owes_goodbye_seen) = (true, true);
        }
        Ok(())
    }

    /// The device is done with every packet up to `number`. Cumulative, so it may be told of some only.
    pub fn packets_done(&mut self, number: u32) {
        self.sender.packets_done(number);
    }

    /// A READ is done, and its bytes are in the target. If that was the part's last, `reclaim` hands back what was lent
    /// for it; `None` ends the link.
    pub fn read_done(&mut self, stock: &mut Stock, id: ReadId, reclaim: impl FnOnce(T) -> Option<FrameMut>) {
        if self.receiver.transfers.done(stock, id, reclaim).is_err() {
            self.end(DownReason::Broken(0));
        }
    }

    /// The connection is at its end, or the queue pair in error. After the peer's goodbye that is as it should be, and what
    /// has arrived is still delivered as it is granted; else `reason` is why the link ends.
    pub fn disconnected(&mut self, reason: DownReason) {
        self.gone.get_or_insert(reason);
    }

    // The device's side: what is to be posted

    /// A receive buffer to post again. Take all of them, and post them, before the next [`Machine::fill`]: it tells the peer
    /// of them.
    pub fn take_spent(&mut self) -> Option<B> {
        let (buffer, control) = self.receiver.take_spent()?;
        match self.phase {
            // Nobody is told any more, and what ended the link may not have been counted.
            Phase::Ended(_) => {}
            _ if control => self.control.home(),
            _ => self.granting.home(),
        }
        Some(buffer)
    }

    /// The next READ to post, if the grant covers it and the peer answers another one. With a part's first READ, `lend` takes
    /// the memory that its bytes go to, and gives it a name. An error, for want of memory, ends the link.
    ///
    /// A device writes to the target by address and key ([`FrameMut::key`]); where there is no key, the driver registers
    /// the piece, or READs into a buffer of its own and copies.
    pub fn poll_read(
        &mut self,
        stock: &mut Stock,
        lend: impl FnOnce(FrameMut) -> T,
    ) -> Result<Option<Read<T>>, DownReason> {
        if self.phase != Phase::Open || self.gone.is_some() {
            return Ok(None);
        }
        let (covered, depth) = (self.receiver.covered(), self.terms.reads);
        let read = self.receiver.transfers.poll(stock, covered, depth, lend);
        read.map_err(|error| {
            self.end(error.into());
            error.into()
        })
    }

    /// Makes a packet due, if only to be there: the dialling side's first word on iWARP, where the listening side may not
    /// send before it has had one.
    pub fn greet(&mut self) {
        self.greeting = true;
    }

    /// Fills `buffer` with the next packet, if one is due: parts as far as credit goes, or what the peer must know in any
    /// case. Whatever was filled is to be posted, in this order. The buffer needs the agreed packet length; with less nothing
    /// is filled.
    pub fn fill<M>(&mut self, stock: &mut Stock, buffer: &mut [u8], memory: &mut M) -> Option<Packet>
    where
        M: Memory<Pin = P>,
    {
        if matches!(self.phase, Phase::Ended(_))
            || self.gone.is_some()
            || buffer.len() < self.terms.packet_len
        {
            return None;
        }
        if self.may_send_parts() {
            let mut writer = Writer::new(buffer, self.terms.packet_len);
            let filled = self.sender.pack(&mut writer, memory, &self.terms, &self.policy);
            if filled.records > 0 {
                self.sender.spending.spend();
                let starved = self.sender.spending.left() == 0 && self.sender.has_parts();
                let header = self.header(false, starved, filled.records);
                writer.finish(header);
                self.sender.outbox.settle(stock);
                stock.count_copied(filled.copied);
                return Some(Packet {
                    number: self.sender.number(),
                    len: filled.wire,
                    buffered: filled.buffered,
                    spliced: filled.spliced,
                    control: false,
                    more: self.may_send_parts(),
                });
            }
        }
        let header = self.control_header()?;
        buffer[..HEADER_LEN].copy_from_slice(&header.encode());
        self.control.spend();
        Some(Packet {
            number: self.sender.number(),
            len: HEADER_LEN,
            buffered: HEADER_LEN,
            spliced: 0,
            control: true,
            more: false,
        })
    }

    fn may_send_parts(&self) -> bool {
        // A peer that said goodbye drops what comes.
        self.sender.has_parts() && self.sender.spending.left() > 0 && !self.peer_goodbye
    }

    fn control_header(&mut self) -> Option<Header> {
        let starved = self.sender.has_parts()
            && self.sender.spending.left() == 0
            && !self.sender.asked
            && !self.peer_goodbye;
        let goodbye = self.phase == Phase::Draining && !self.goodbye_said && self.sender.is_done();
        let due = starved
            || goodbye
            || self.greeting
            || self.owes_goodbye_seen
            || self.receiver.transfers.is_due()
            || self.granting.is_due()
            || self.control.is_due();
        if !due || !self.control.may_send() {
            return None;
        }
        let mut header = self.header(true, starved, 0);
        if goodbye {
            self.goodbye_said = true;
            header.flags |= GOODBYE;
        }
        if self.owes_goodbye_seen {
            self.owes_goodbye_seen = false;
            header.flags |= GOODBYE_SEEN;
        }
        Some(header)
    }

    /// A header with everything that is to be told by now.
    fn header(&mut self, control: bool, starved: bool, records: u16) -> Header {
        self.sender.asked |= starved;
        self.greeting = false;
        Header {
            control,
            flags: if starved { WANT } else { 0 },
            records,
            granted: self.granting.grant(),
            control_seen: self.control.tell(),
            fins: self.receiver.transfers.tell(),
        }
    }

    // The end

    /// Why the link is at its end, if it is: the driver disconnects, waits until the queue pair has given everything back,
    /// polls its completions to the last, and buries the machine.
    pub fn ending(&self) -> Option<DownReason> {
        match (self.phase, self.gone) {
            (Phase::Ended(reason), _) => Some(reason),
            (Phase::Draining, _) if self.goodbye_seen => Some(DownReason::ClosedHere),
            // A peer that said goodbye as well may be off before it answers ours.
            (Phase::Draining, Some(_)) if self.goodbye_said && self.peer_goodbye => {
                Some(DownReason::ClosedHere)
            }
            (Phase::Draining, Some(_)) if self.peer_goodbye => Some(DownReason::ClosedByPeer),
            // What has arrived is still the application's, at its own pace.
            (Phase::Open, Some(_)) if self.peer_goodbye => {
                self.receiver.is_empty().then_some(DownReason::ClosedByPeer)
            }
            (_, gone) => gone,
        }
    }

    /// READs that the device has.
    pub fn reads_under_way(&self) -> usize {
        self.receiver.transfers.under_way()
    }

    /// Neither the device nor the peer touches memory of this link any more: the queue pair is in error and empty, or
    /// destroyed. Lets go of everything, and says `Returned` for every message that the device never saw. Take the spent
    /// buffers once more after this; targets that are still lent are the driver's to drop.
    pub fn bury(&mut self, stock: &mut Stock, link: LinkId, out: &mut Vec<Completion>) {
        self.end(DownReason::ClosedHere);
        self.receiver.transfers.bury(stock);
        self.receiver.discard(stock);
        self.sender.bury(|part| out.push(Completion::Returned { link, part }));
        self.sender.outbox.settle(stock);
    }
}

impl<B, P, T> Drop for Machine<B, P, T> {
    fn drop(&mut self) {
        self.granting.lose(self.receiver.buffers());
    }
}
