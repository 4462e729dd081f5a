//! Credit: the arithmetic that keeps a receive buffer posted for every packet that may come (docs/spec/packet-protocol.md,
//! section "Credit"). Counters are cumulative and wrap; nothing here knows what is in a packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::connection::Offer;
use crate::error::PacketError;
use crate::limits::{CONTROL_ACKNOWLEDGE_AT, GRANT_AHEAD_MAX};

/// The buffers posted to one receive queue, and who may count on them. One per queue pair, or one per shared receive
/// queue; clones are the same one. The sum of what links may count on never exceeds what was posted.
#[derive(Debug, Clone, Default)]
pub struct Reserve(Arc<Shared>);

// Atomic so that a driver may go from thread to thread with it; nobody races, and no order matters.
#[derive(Debug, Default)]
struct Shared {
    /// Buffers that are posted, or with a machine and on their way back.
    posted: AtomicU32,
    /// Those that no link counts on.
    free: AtomicU32,
    links: AtomicU32,
    /// What all links together had to begin with.
    bases: AtomicU32,
    unmet: AtomicU32,
}

impl Reserve {
    /// For a receive queue with nothing posted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that so many buffers more were posted. Only after the fact: credit for them may go out at once.
    pub fn add(&self, buffers: u32) {
        self.0.posted.fetch_add(buffers, Relaxed);
        self.0.free.fetch_add(buffers, Relaxed);
    }

    /// Buffers that no link counts on.
    pub fn free(&self) -> u32 {
        self.0.free.load(Relaxed)
    }

    /// How many buffers links would have liked and did not get since this was asked last. A driver that can afford it
    /// posts that many more and says so with [`Reserve::add`].
    pub fn take_unmet(&self) -> u32 {
        self.0.unmet.swap(0, Relaxed)
    }

    /// A place for a link: the buffers that `offer` promises, kept for its peer. Take it before the offer goes out, since the
    /// peer may send as soon as it has it. `None` when too few are free: post more, or refuse the peer with
    /// [`crate::RefusalCode::NoResources`].
    pub fn seat(&self, offer: &Offer) -> Option<Seat> {
        let (data, control) = (offer.data_credits.into(), offer.control_credits.into());
        let base = data + control;
        self.take(base, base)?;
        self.0.links.fetch_add(1, Relaxed);
        self.0.bases.fetch_add(base, Relaxed);
        Some(Seat { reserve: self.clone(), data, control, taken: base })
    }

    /// Takes as many as there are of `want`, but not fewer than `least`.
    fn take(&self, want: u32, least: u32) -> Option<u32> {
        let free = self.0.free.load(Relaxed);
        let taken = want.min(free);
        if taken < least {
            return None;
        }
        self.0.free.fetch_sub(taken, Relaxed);
        Some(taken)
    }
}

/// A link's right to buffers of a [`Reserve`]: from the offer that promises them until the link's [`crate::Machine`] is
/// dropped, or this is, when the peer never answered.
#[derive(Debug)]
pub struct Seat {
    reserve: Reserve,
    /// What the offer promised: buffers for data packets, and for control packets.
    data: u32,
    control: u32,
    taken: u32,
}

impl Seat {
    /// Control packets that were promised.
    pub(crate) fn control(&self) -> u32 {
        self.control
    }

    /// Buffers beyond its base that every link may have if all of them want as many.
    fn share(&self) -> u32 {
        let shared = &self.reserve.0;
        let extra = shared.posted.load(Relaxed).saturating_sub(shared.bases.load(Relaxed));
        extra / shared.links.load(Relaxed).max(1)
    }

    /// Takes up to `want` more.
    fn take(&mut self, want: u32) -> u32 {
        let got = self.reserve.take(want, 0).unwrap_or(0);
        self.taken += got;
        got
    }

    fn note_unmet(&self, buffers: u32) {
        self.reserve.0.unmet.fetch_add(buffers, Relaxed);
    }

    fn give(&mut self, buffers: u32) {
        self.taken -= buffers;
        self.reserve.0.free.fetch_add(buffers, Relaxed);
    }

    /// Buffers that went with the link and will not be posted again.
    pub(crate) fn lose(&mut self, buffers: u32) {
        let lost = buffers.min(self.taken);
        self.taken -= lost;
        self.reserve.0.posted.fetch_sub(lost, Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let shared = &self.reserve.0;
        shared.free.fetch_add(self.taken, Relaxed);
        shared.links.fetch_sub(1, Relaxed);
        shared.bases.fetch_sub(self.data + self.control, Relaxed);
    }
}

/// Data packets that we may send.
#[derive(Debug)]
pub(crate) struct Spending {
    granted: u32,
    sent: u32,
}

impl Spending {
    pub(crate) fn new(start: u32, granted: u16) -> Self {
        Self { granted: start.wrapping_add(granted.into()), sent: start }
    }

    #[inline]
    pub(crate) fn left(&self) -> u32 {
        self.granted.wrapping_sub(self.sent)
    }

    pub(crate) fn spend(&mut self) {
        self.sent = self.sent.wrapping_add(1);
    }

    /// Takes the peer's word for what we may send in all; says whether that is more than before.
    pub(crate) fn raise(&mut self, granted: u32) -> Result<bool, PacketError> {
        let more = granted.wrapping_sub(self.granted);
        if more > GRANT_AHEAD_MAX || self.left() + more > GRANT_AHEAD_MAX {
            return Err(PacketError::Granted(more));
        }
        self.granted = granted;
        Ok(more > 0)
    }
}

/// Data packets that the peer may send. Each buffer of `window` is in one of four states: promised to the peer, here with
/// a packet in it, back and not promised, or, when the window shrinks, given up.
#[derive(Debug)]
pub(crate) struct Granting {
    seat: Seat,
    window: u32,
    window_max: u32,
    /// What the peer was told it may send in all.
    granted: u32,
    received: u32,
    /// Packets that have arrived and whose buffers are not posted again.
    here: u32,
    /// The peer has more than it may send.
    wanted: bool,
    /// The window would be larger if the reserve had been.
    hungry: bool,
}

impl Granting {
    pub(crate) fn new(seat: Seat, start: u32, window_max: u32) -> Self {
        let (window, window_max) = (seat.data, window_max.max(seat.data));
        let (granted, received) = (start.wrapping_add(window), start);
        Self { seat, window, window_max, granted, received, here: 0, wanted: false, hungry: false }
    }

    /// Packets that may still come.
    fn remaining(&self) -> u32 {
        self.granted.wrapping_sub(self.received)
    }

    /// Buffers that are posted and not promised.
    fn spare(&self) -> u32 {
        self.window - self.remaining() - self.here
    }

    fn cap(&self) -> u32 {
        self.window_max.min(self.seat.data + self.seat.share())
    }

    /// Notes a packet, and whether the peer has more than credit.
    pub(crate) fn arrived(&mut self, wanted: bool) -> Result<(), PacketError> {
        if self.remaining() == 0 {
            return Err(PacketError::NoCredit);
        }
        self.received = self.received.wrapping_add(1);
        self.here += 1;
        self.note_want(wanted);
        Ok(())
    }

    /// Notes that a packet's buffer is posted again. A window above its share lets it go.
    pub(crate) fn home(&mut self) {
        self.here -= 1;
        if self.window > self.cap() {
            self.window -= 1;
            self.seat.give(1);
        }
    }

    /// A peer that wants more than it has gets twice as much, as long as the reserve lasts.
    pub(crate) fn note_want(&mut self, wanted: bool) {
        self.wanted = wanted;
        self.hungry = false;
        if wanted {
            let missing = self.grow();
            self.seat.note_unmet(missing);
        }
    }

    /// Returns how many buffers it would have liked beside those it got.
    fn grow(&mut self) -> u32 {
        let want = self.window.min(self.window_max - self.window);
        let got = self.seat.take(want.min(self.cap().saturating_sub(self.window)));
        self.window += got;
        self.hungry = got < want;
        want - got
    }

    /// Whether the peer should be told of its credit though no packet goes its way: it has used more than half of what
    /// it could have, or half of it and wants more.
    pub(crate) fn is_due(&mut self) -> bool {
        if self.hungry && self.seat.reserve.free() > 0 {
            self.grow();
        }
        let (remaining, spare) = (self.remaining(), self.spare());
        spare > remaining || (self.wanted && spare > 0 && spare >= remaining)
    }

    /// Promises everything that is spare, and returns what the peer is to be told.
    pub(crate) fn grant(&mut self) -> u32 {
        self.granted = self.granted.wrapping_add(self.spare());
        self.granted
    }

    /// Buffers that go with the link, and are not posted again.
    pub(crate) fn lose(&mut self, buffers: usize) {
        self.seat.lose(u32::try_from(buffers).unwrap_or(u32::MAX));
    }
}

/// Control packets, both ways. They have buffers of their own, so that credit, FINs and goodbyes always get through.
#[derive(Debug)]
pub(crate) struct Control {
    /// Buffers that the peer has posted for ours, and we for its.
    sending: u32,
    receiving: u32,
    sent: u32,
    acknowledged: u32,
    arrived: u32,
    /// Of those that arrived, how many have their buffers posted again, and how many the peer knows of.
    home: u32,
    told: u32,
}

impl Control {
    pub(crate) fn new(start: u32, sending: u32, receiving: u32) -> Self {
        Self {
            sending,
            receiving,
            sent: start,
            acknowledged: start,
            arrived: start,
            home: start,
            told: start,
        }
    }

    pub(crate) fn arrived(&mut self) -> Result<(), PacketError> {
        if self.arrived.wrapping_sub(self.told) >= self.receiving {
            return Err(PacketError::NoControlCredit);
        }
        self.arrived = self.arrived.wrapping_add(1);
        Ok(())
    }

    pub(crate) fn home(&mut self) {
        self.home = self.home.wrapping_add(1);
    }

    /// Takes the peer's word for how many of ours it has seen.
    pub(crate) fn acknowledge(&mut self, seen: u32) -> Result<(), PacketError> {
        let more = seen.wrapping_sub(self.acknowledged);
        if more > self.sent.wrapping_sub(self.acknowledged) {
            return Err(PacketError::ControlSeen(more));
        }
        self.acknowledged = seen;
        Ok(())
    }

    /// Whether an acknowledgement is due though no packet goes the peer's way.
    pub(crate) fn is_due(&self) -> bool {
        self.home.wrapping_sub(self.told) >= CONTROL_ACKNOWLEDGE_AT
    }

    /// Whether one may go. The last buffer is for packets that acknowledge: without that, two ends that have spent
    /// theirs at the same time would wait for each other for ever.
    pub(crate) fn may_send(&self) -> bool {
        let outstanding = self.sent.wrapping_sub(self.acknowledged);
        outstanding + 1 < self.sending || (outstanding < self.sending && self.is_due())
    }

    pub(crate) fn spend(&mut self) {
        self.sent = self.sent.wrapping_add(1);
    }

    /// What the peer is to be told in every packet.
    pub(crate) fn tell(&mut self) -> u32 {
        self.told = self.home;
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transport_core::Hello;

    /// Two data packets and three of control.
    const OFFER: Offer = Offer::new(Hello::NULL);

    #[test]
    fn a_reserve_is_shared_out_and_comes_back() {
        let reserve = Reserve::new();
        assert!(reserve.seat(&OFFER).is_none());
        reserve.add(25);
        let (mut a, b) = (reserve.seat(&OFFER).unwrap(), reserve.seat(&OFFER).unwrap());
        assert_eq!((reserve.free(), a.share()), (15, 7));
        assert_eq!((a.take(10), a.take(10)), (10, 5));
        assert!(reserve.seat(&OFFER).is_none());
        a.give(4);
        a.lose(2);
        drop(b);
        drop(a);
        assert_eq!(reserve.free(), 23);
    }

    #[test]
    fn a_window_doubles_on_demand_and_shrinks_when_others_come() {
        let reserve = Reserve::new();
        reserve.add(105);
        let mut first = Granting::new(reserve.seat(&OFFER).unwrap(), 0, 64);
        let burst = |granting: &mut Granting| {
            let packets = granting.remaining();
            for left in (0..packets).rev() {
                granting.arrived(left == 0).unwrap();
            }
            assert!(granting.arrived(false).is_err(), "what was not granted is refused");
            (0..packets).for_each(|_| granting.home());
            assert!(granting.is_due());
            granting.grant();
            packets
        };
        let packets: Vec<_> = (0..7).map(|_| burst(&mut first)).collect();
        assert_eq!(packets, [2, 4, 8, 16, 32, 64, 64]);
        // Seven others, and nothing is free but what the first has: it goes down to a share of (105 - 40) / 8.
        let others: Vec<_> = (0..7).map(|_| reserve.seat(&OFFER).unwrap()).collect();
        assert!(reserve.seat(&OFFER).is_none(), "the first still has what the others want");
        burst(&mut first);
        assert_eq!(first.window, 2 + (105 - 40) / 8);
        assert_eq!(reserve.free(), 105 - 7 * 5 - 3 - first.window);
        drop(others);
        drop(first);
        assert_eq!(reserve.free(), 105);
    }

    #[test]
    fn a_hungry_window_grows_when_buffers_come() {
        let reserve = Reserve::new();
        reserve.add(5);
        let mut granting = Granting::new(reserve.seat(&OFFER).unwrap(), u32::MAX, 64);
        granting.arrived(true).unwrap();
        assert!(!granting.is_due(), "the buffer is not back");
        granting.home();
        assert!(granting.is_due(), "half is used, and more is wanted");
        assert_eq!((reserve.take_unmet(), reserve.take_unmet()), (2, 0));
        reserve.add(10);
        assert!(granting.is_due());
        assert_eq!((granting.window, reserve.free(), reserve.take_unmet()), (4, 8, 0));
        assert_eq!(granting.grant(), u32::MAX.wrapping_add(5));
    }

    #[test]
    fn counters_that_lie_are_errors_across_the_wrap() {
        let mut spending = Spending::new(u32::MAX - 1, 2);
        assert_eq!(spending.left(), 2);
        spending.spend();
        spending.spend();
        assert_eq!(spending.raise(0), Ok(false));
        assert_eq!(spending.raise(3), Ok(true));
        assert_eq!(spending.left(), 3);
        assert_eq!(spending.raise(2), Err(PacketError::Granted(u32::MAX)));
        assert_eq!(spending.raise(65_536), Err(PacketError::Granted(65_533)));
        let mut control = Control::new(u32::MAX, 3, 3);
        assert_eq!(control.acknowledge(0), Err(PacketError::ControlSeen(1)));
        control.spend();
        assert_eq!(control.acknowledge(0), Ok(()));
        assert_eq!(control.acknowledge(u32::MAX), Err(PacketError::ControlSeen(u32::MAX)));
        (0..3).for_each(|_| control.arrived().unwrap());
        assert_eq!(control.arrived(), Err(PacketError::NoControlCredit));
    }

    #[test]
    fn the_last_control_buffer_is_for_acknowledging() {
        let mut control = Control::new(0, 3, 3);
        control.spend();
        control.spend();
        assert!(!control.may_send());
        control.arrived().unwrap();
        control.home();
        assert!(!control.is_due() && !control.may_send());
        control.arrived().unwrap();
        assert!(!control.is_due(), "its buffer is not back");
        control.home();
        assert!(control.is_due() && control.may_send());
        assert_eq!(control.tell(), 2);
        control.spend();
        assert!(!control.is_due() && !control.may_send());
    }
}
