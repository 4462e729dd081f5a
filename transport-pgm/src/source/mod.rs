//! One source of data: the transmit window and its repairs, source path messages, the rate (RFC 3208 section 5). No
//! I/O, no clock, no randomness.
//!
//! What leaves, and in which order (section 5.1.3): NCFs, SPMs, then repairs and data. Data and repairs have a token
//! bucket each: a receiver that loses much takes nothing from the publisher's rate, and the wire carries at most the
//! sum of both rates. In one batch repairs go first, but when data waits they have half of the places.

#![forbid(unsafe_code)]

mod bucket;
mod credit;
mod heartbeat;
mod repairs;
#[cfg(test)]
mod tests;
mod window;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use transport_core::FrameMut;

use crate::clock::{Clock, Nanos, nanos};
use crate::datagrams::To;
use crate::framing::TSDU_MIN;
use crate::limits::{
    AMBIENT_INTERVAL, CONFIRM_AGAIN, CONFIRMATIONS_BURST, CONFIRMATIONS_PER_100_DATA,
    CONFIRMATIONS_PER_SECOND, CONTROL_LEN_MAX, FIN_INTERVAL_MAX, FINISH_MAX, FINISH_QUIET, FINS_MIN,
    FRAGMENT_ROOM, HEARTBEAT_MAX, HEARTBEAT_MIN, NAK_LIST_MAX, REPAIR_HOLD_MAX, REPAIR_HOLD_MIN,
    TSDU_LEN_MAX, WINDOW_BYTES_MAX, WINDOW_PACKETS_MIN,
};
use crate::outgoing::Outgoing;
use crate::packet::{Body, DATA_HEADER_LEN, DataHeader, Gsi, Nak, NakList, Opt, Options, Packet, Spm, Tsi};
use crate::random::Random;
use crate::serial::Sqn;
use bucket::Bucket;
use credit::{Credit, Terms};
use heartbeat::Heartbeat;
use repairs::Repairs;
use window::Window;

/// What a source is made of. [`SourceConfig::new`] gives what suits a local network.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Who this is.
    pub tsi: Tsi,
    /// The application's port: PGM's data-destination port.
    pub dport: u16,
    /// The group that data goes to.
    pub group: IpAddr,
    /// Our own address, to which receivers send NAKs.
    pub nla: IpAddr,
    /// Longest payload of a packet, in bytes.
    pub tsdu_max: usize,
    /// Packets that can be repaired.
    pub window_packets: u32,
    /// Bytes that the network adds to each packet (IP and UDP headers), for the rates.
    pub overhead: usize,
    /// Data, in bytes per second; `None` for no limit.
    pub rate: Option<u64>,
    /// Repairs, in bytes per second; `None` for no limit.
    pub repair_rate: Option<u64>,
    /// Between the last data and the first heartbeat; the next ones come after twice the time each.
    pub heartbeat_min: Duration,
    /// The longest time between heartbeats.
    pub heartbeat_max: Duration,
    /// Between SPMs while data flows.
    pub ambient: Duration,
    /// How long nobody may have asked for anything before a source that is finishing has finished.
    pub finish_quiet: Duration,
    /// The first packet's number.
    pub first: Sqn,
}

impl SourceConfig {
    /// For UDP over IPv4 on a network whose MTU is 1500, with the smallest window, no rates, and everything else by
    /// [`crate::limits`].
    pub fn new(tsi: Tsi, dport: u16, group: IpAddr, nla: IpAddr) -> Self {
        Self {
            tsi,
            dport,
            group,
            nla,
            tsdu_max: 1428,
            window_packets: WINDOW_PACKETS_MIN,
            overhead: 28,
            rate: None,
            repair_rate: None,
            heartbeat_min: HEARTBEAT_MIN,
            heartbeat_max: HEARTBEAT_MAX,
            ambient: AMBIENT_INTERVAL,
            finish_quiet: FINISH_QUIET,
            first: Sqn(0),
        }
    }

    /// Sets the longest payload as libzmq computes it, for a network whose MTU is `mtu` and whose headers (IPv4: 20 bytes,
    /// IPv6: 40, and UDP: 8 more) have `overhead` bytes. Peers may have buffers for no more.
    #[must_use]
    pub fn mtu(self, mtu: usize, overhead: usize) -> Self {
        let tsdu_max = mtu.saturating_sub(overhead + DATA_HEADER_LEN + FRAGMENT_ROOM);
        Self { tsdu_max: tsdu_max.clamp(TSDU_MIN, TSDU_LEN_MAX), overhead, ..self }
    }

    /// Sets both rates, and the window to what can be sent in `recovery`, within [`WINDOW_BYTES_MAX`] and not below
    /// [`WINDOW_PACKETS_MIN`]: that many short packets go in no time, whatever the rate is.
    #[must_use]
    pub fn rate(self, rate: Option<u64>, recovery: Duration) -> Self {
        let stride = self.stride() as u64;
        let most = (WINDOW_BYTES_MAX as u64 / stride).max(1);
        let packets = rate.map_or(most, |rate| {
            let bytes = u128::from(rate).saturating_mul(recovery.as_nanos()) / 1_000_000_000;
            u64::try_from(bytes / u128::from(stride)).unwrap_or(u64::MAX)
        });
        let window_packets = packets.max(WINDOW_PACKETS_MIN.into()).min(most) as u32;
        Self { rate, repair_rate: rate, window_packets, ..self }
    }

    fn stride(&self) -> usize {
        DATA_HEADER_LEN + self.tsdu_max.clamp(TSDU_MIN, TSDU_LEN_MAX)
    }

    /// Bytes of memory that the window lies in.
    pub fn memory_len(&self) -> usize {
        self.stride() * self.window_packets.max(1) as usize
    }
}

impl Tsi {
    /// A session id that follows from `seed`, 64 bits of true randomness: two processes must not have the same.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let [g0, g1, g2, g3, g4, g5, p0, p1] = random.next().to_be_bytes();
        // 0 is no port.
        Self { gsi: Gsi([g0, g1, g2, g3, g4, g5]), port: u16::from_be_bytes([p0, p1]).max(1) }
    }
}

/// Where a source's payload comes from.
pub trait Payload {
    /// Whether [`Payload::fill`] would give something.
    fn is_waiting(&self) -> bool;
    /// Fills a TSDU and returns its length. 0 when there is nothing after all.
    fn fill(&mut self, tsdu: &mut [u8]) -> usize;
}

/// What a source has done and seen. All counters only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Packets of original data, and their bytes without the network's.
    pub odata: u64,
    /// Bytes of original data packets.
    pub odata_bytes: u64,
    /// Repairs.
    pub rdata: u64,
    /// Bytes of repairs.
    pub rdata_bytes: u64,
    /// Source path messages.
    pub spms: u64,
    /// NAK confirmations.
    pub ncfs: u64,
    /// NAK packets that were taken.
    pub naks: u64,
    /// Numbers in them.
    pub naks_sqns: u64,
    /// Numbers asked for that the window holds no more.
    pub naks_late: u64,
    /// Numbers asked for that were never sent.
    pub naks_early: u64,
    /// Numbers asked for whose repair was waiting or had just gone.
    pub naks_repeated: u64,
    /// Numbers that a receiver asked for beyond its limit.
    pub naks_limited: u64,
    /// NAK packets that came faster than they may be confirmed, and were ignored.
    pub naks_flooded: u64,
    /// NAKs for parity, which is not made here.
    pub naks_parity: u64,
    /// NAKs for another group.
    pub naks_foreign: u64,
    /// Requests for an SPM.
    pub spmrs: u64,
    /// Null NAKs, ACKs and answers to polls, which mean nothing here.
    pub ignored: u64,
}

/// NAK packets that are answered, of all receivers.
const CONFIRMATIONS: Terms = Terms {
    per_second: CONFIRMATIONS_PER_SECOND,
    per_100_data: CONFIRMATIONS_PER_100_DATA,
    burst: CONFIRMATIONS_BURST,
};

/// One source.
#[derive(Debug)]
pub struct Source {
    config: SourceConfig,
    clock: Clock,
    header: DataHeader,
    window: Window,
    outgoing: Outgoing,
    heartbeat: Heartbeat,
    spm_sqn: Sqn,
    odata: Bucket,
    rdata: Bucket,
    confirmations: Credit,
    repairs: Repairs,
    /// The shortest time in which a first NAK came after its data, forgetting: about a round trip.
    echo: Nanos,
    /// Data waits for the bucket, or for a place in the window.
    held_back: bool,
    finishing: Option<Finishing>,
    /// When data or a repair went out last, or somebody asked for one.
    active: Option<Nanos>,
    counters: SourceCounters,
}

#[derive(Debug)]
struct Finishing {
    since: Nanos,
    fins: u32,
}

impl Source {
    /// A source that begins now. Its window lies in `memory`, of [`SourceConfig::memory_len`] bytes; it is as large as
    /// the memory allows, of which only what is used is written to.
    pub fn new(now: Instant, config: SourceConfig, memory: FrameMut) -> Self {
        let interval = |span| nanos(span);
        let (min, max, ambient) = (config.heartbeat_min, config.heartbeat_max, config.ambient);
        Self {
            clock: Clock::new(now),
            header: DataHeader::new(config.tsi, config.dport),
            window: Window::new(memory, config.stride(), config.window_packets, config.first),
            outgoing: Outgoing::default(),
            heartbeat: Heartbeat::new(0, interval(min), interval(max), interval(ambient)),
            spm_sqn: Sqn(0),
            odata: Bucket::new(config.rate),
            rdata: Bucket::new(config.repair_rate),
            confirmations: Credit::new(CONFIRMATIONS, 0, 0),
            repairs: Repairs::default(),
            echo: 0,
            held_back: false,
            finishing: None,
            active: None,
            counters: SourceCounters::default(),
            config,
        }
    }

    /// Who this is.
    pub fn tsi(&self) -> Tsi {
        self.config.tsi
    }
    /// What it has done and seen.
    pub fn counters(&self) -> SourceCounters {
        self.counters
    }
    /// The transmit window's first number.
    pub fn trail(&self) -> Sqn {
        self.window.trail()
    }
    /// The transmit window's last number; one before the trail when nothing was sent yet.
    pub fn lead(&self) -> Sqn {
        self.window.lead()
    }

    /// Takes a packet that a receiver sent, `from` its network address. The caller has seen that the session is ours.
    pub fn handle(&mut self, now: Instant, from: IpAddr, packet: &Packet<'_>) {
        let now = self.clock.at(now);
        match packet.body {
            Body::Nak(_) if packet.parity => self.counters.naks_parity += 1,
            Body::Nak(nak) if nak.group != self.config.group => self.counters.naks_foreign += 1,
            Body::Nak(nak) => self.handle_nak(now, from, nak, packet),
            Body::Spmr => {
                self.counters.spmrs += 1;
                self.heartbeat.ask();
            }
            _ => self.counters.ignored += 1,
        }
    }

    fn handle_nak(&mut self, now: Nanos, from: IpAddr, nak: Nak, packet: &Packet<'_>) {
        // First each receiver's own limit: one that floods must not use up what is for all.
        let (data, window) = (self.counters.odata, self.window.capacity());
        let Some(asker) = self.repairs.asker(from, now, data, window) else {
            let asked = packet.sqns().count() as u64;
            self.counters.naks_limited += asked;
            // They were asked for all the same.
            self.counters.naks_sqns += asked;
            return;
        };
        if !self.confirmations.take(CONFIRMATIONS, now, data) {
            let asked = packet.sqns().count() as u64;
            self.counters.naks_flooded += asked;
            self.counters.naks_sqns += asked;
            return;
        }
        self.counters.naks += 1;
        let lead = self.window.lead();
        let mut wanted = [Sqn(0); NAK_LIST_MAX + 1];
        let (mut count, mut stale) = (0, true);
        let hold = self.echo.clamp(nanos(REPAIR_HOLD_MIN), nanos(REPAIR_HOLD_MAX));
        for sqn in packet.sqns().take(wanted.len()) {
            self.counters.naks_sqns += 1;
            let Some(slot) = self.window.find(sqn) else {
                if lead.before(sqn) {
                    self.counters.naks_early += 1;
                } else {
                    // Confirming it would make the receiver wait for what never comes. It hears of the trail instead.
                    self.counters.naks_late += 1;
                    self.heartbeat.ask();
                }
                continue;
            };
            wanted[count] = sqn;
            count += 1;
            if !slot.asked {
                slot.asked = true;
                let delay = now.saturating_sub(slot.sent);
                self.echo = if self.echo == 0 || delay < self.echo {
                    delay
                } else {
                    self.echo + (delay - self.echo) / 64
                };
            }
            stale &= slot.confirmed.is_some_and(|at| now < at + nanos(CONFIRM_AGAIN));
            slot.confirmed = Some(now);
            let just_gone = slot.leaving || slot.repaired.is_some_and(|at| now < at + hold);
            if just_gone || slot.wanted && slot.asker == asker {
                self.counters.naks_repeated += 1;
            } else if self.repairs.ask(asker, sqn, now, data, window) {
                (slot.wanted, slot.asker) = (true, asker);
            } else {
                self.counters.naks_limited += 1;
            }
        }
        if count == 0 {
            return;
        }
        self.active = Some(now);
        // Section 5.2: at once; and of identical ones, only so many.
        if !stale {
            let options = [Opt::NakList(NakList::Sqns(&wanted[1..count]))];
            let body = Body::Ncf(Nak { sqn: wanted[0], source: nak.source, group: nak.group });
            self.control(body, if count > 1 { &options } else { &[] });
            self.counters.ncfs += 1;
        }
    }

    fn control(&mut self, body: Body<'_>, options: &[Opt<'_>]) {
        let (tsi, dport) = (self.config.tsi, self.config.dport);
        let packet =
            Packet { tsi, dport, parity: false, var_pktlen: false, body, options: Options::List(options) };
        self.outgoing.control(To::Group, &packet, CONTROL_LEN_MAX);
    }

    /// Makes ready what is to be sent now, at most `limit` packets with what is ready already, and takes as much from
    /// `payload` as the rate and the window allow. Returns how many packets are ready.
    pub fn prepare(&mut self, now: Instant, limit: usize, payload: &mut impl Payload) -> usize {
        let now = self.clock.at(now);
        if self.heartbeat.due_at() <= now && self.outgoing.len() < limit {
            self.spm(now, payload.is_waiting());
        }
        let room = limit.saturating_sub(self.outgoing.len());
        self.prepare_repairs(now, if payload.is_waiting() { room.div_ceil(2) } else { room });
        self.held_back = false;
        let mut sent_any = false;
        while self.outgoing.len() < limit && payload.is_waiting() {
            self.held_back = !self.odata.is_ready(now) || !self.window.has_room();
            if self.held_back {
                break;
            }
            let len = payload.fill(self.window.tsdu());
            if len == 0 {
                break;
            }
            let (start, len) = self.window.push(&self.header, len, now);
            self.outgoing.window(start, len);
            self.odata.take(now, (len + self.config.overhead) as u64);
            self.counters.odata += 1;
            self.counters.odata_bytes += len as u64;
            sent_any = true;
        }
        if sent_any {
            self.heartbeat.data(now);
            self.active = Some(now);
        }
        self.outgoing.len()
    }

    fn prepare_repairs(&mut self, now: Nanos, room: usize) {
        for _ in 0..room {
            if self.repairs.is_empty() || !self.rdata.is_ready(now) {
                return;
            }
            let window = &mut self.window;
            let is_wanted = |sqn| window.find(sqn).is_some_and(|slot| slot.wanted && !slot.leaving);
            let Some(sqn) = self.repairs.next(is_wanted) else { return };
            let Some((start, len)) = self.window.repair(sqn, now) else { continue };
            self.outgoing.window(start, len);
            self.rdata.take(now, (len + self.config.overhead) as u64);
            self.counters.rdata += 1;
            self.counters.rdata_bytes += len as u64;
            self.active = Some(now);
        }
    }

    fn spm(&mut self, now: Nanos, more_data: bool) {
        let (trail, lead) = (self.window.trail(), self.window.lead());
        let body = Body::Spm(Spm { sqn: self.spm_sqn, trail, lead, path: self.config.nla });
        self.spm_sqn = self.spm_sqn.next();
        // Section 9.7.1: in every SPM behind the last data.
        match &mut self.finishing {
            Some(finishing) if !more_data => {
                finishing.fins += 1;
                self.control(body, &[Opt::Fin]);
            }
            _ => self.control(body, &[]),
        }
        self.heartbeat.sent(now);
        self.counters.spms += 1;
    }

    /// The packets that are ready, in order. Their bytes stay as they are until [`Source::sent`] says that they have
    /// gone.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = (To, &[u8])> {
        self.outgoing.iter(self.window.memory())
    }

    /// The first `count` of the packets that are ready have gone, and nobody reads their bytes any more.
    pub fn sent(&mut self, count: usize) {
        let window = &mut self.window;
        self.outgoing.gone(count, |start| window.left(start));
    }

    /// There will be no more data beyond what `payload` gives. From now on SPMs say FIN, and repairs go on.
    pub fn finish(&mut self, now: Instant) {
        if self.finishing.is_none() {
            let now = self.clock.at(now);
            self.finishing = Some(Finishing { since: now, fins: 0 });
            self.heartbeat.hurry(now, nanos(FIN_INTERVAL_MAX));
        }
    }

    /// Whether a source that was told to finish has: its end was announced, and since the last data, repair or NAK it
    /// was quiet for as long as a receiver needs to notice that something is missing and to say so a second time. A
    /// receiver that asks for ever is left behind after [`FINISH_MAX`].
    pub fn is_finished(&self, now: Instant) -> bool {
        let now = self.clock.at(now);
        self.finishing.as_ref().is_some_and(|finishing| {
            let quiet =
                self.repairs.is_empty() && self.active.is_none_or(|active| now >= active + self.quiet());
            let enough = now >= finishing.since + nanos(FINISH_MAX);
            finishing.fins >= FINS_MIN && self.outgoing.len() == 0 && !self.held_back && quiet || enough
        })
    }

    fn quiet(&self) -> Nanos {
        nanos(self.config.finish_quiet)
    }

    /// When [`Source::prepare`] has something to do, or a finishing source has finished.
    pub fn deadline(&self) -> Instant {
        let mut at = self.heartbeat.due_at();
        if self.outgoing.len() > 0 {
            at = 0;
        }
        if self.held_back {
            at = at.min(self.odata.ready_at());
        }
        if !self.repairs.is_empty() {
            at = at.min(self.rdata.ready_at());
        }
        if let Some(finishing) = &self.finishing {
            at = at.min(finishing.since + nanos(FINISH_MAX));
            // Until so many have gone, the next SPM is what is waited for.
            if finishing.fins >= FINS_MIN && self.repairs.is_empty() && !self.held_back {
                at = at.min(self.active.map_or(0, |active| active + self.quiet()));
            }
        }
        self.clock.instant(at)
    }
}
