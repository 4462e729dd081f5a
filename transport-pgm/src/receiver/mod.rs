//! One source as a receiver sees it: the receive window, the recovery of what is missing, and the end (RFC 3208 section
//! 6). No I/O, no clock; its randomness is seeded.

#![forbid(unsafe_code)]

mod recovery;
mod sources;
#[cfg(test)]
mod tests;
mod timing;
mod window;

use std::net::IpAddr;
use std::time::Duration;

pub use sources::{End, Events, SourceId, Sources, SourcesConfig, SourcesCounters};
use window::Deliver;

use crate::blocks::Blocks;
use crate::clock::{Nanos, nanos};
use crate::datagrams::To;
use crate::limits::{
    BACKOFF_INITIAL, BACKOFF_MAX, BACKOFF_MIN, CONTROL_LEN_MAX, NAK_LIST_MAX, NAK_REPAIR_INITIAL,
    NAK_REPAIR_MAX, NAK_REPAIR_MIN, NAK_REPEAT_INITIAL, NAK_REPEAT_MAX, NAK_REPEAT_MIN, NAK_RETRIES,
    RECEIVE_WINDOW_PACKETS, RECOVERY_INTERVAL, RESYNC_AFTER, RESYNC_TRIAL, SOURCE_EXPIRY, SPMR_BACKOFF,
    SPMR_INTERVAL_MAX, SPMR_INTERVAL_MIN, STALE_SPMS_MAX,
};
use crate::outgoing::Outgoing;
use crate::packet::{Body, Data, Nak, NakList, Opt, Options, Packet, Spm, Tsi};
use crate::random::Random;
use crate::serial::Sqn;
use recovery::{Due, Recovery};
use window::{Cell, Window};

/// How receivers wait. The times between `min` and `max` follow the measured round trip; `initial` holds until there is
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// Range of the back-off before a NAK: NAK_BO_IVL.
    pub backoff_initial: Duration,
    /// Its least.
    pub backoff_min: Duration,
    /// Its most.
    pub backoff_max: Duration,
    /// From a NAK to the next when no NCF comes: NAK_RPT_IVL.
    pub repeat_initial: Duration,
    /// Its least.
    pub repeat_min: Duration,
    /// Its most.
    pub repeat_max: Duration,
    /// From an NCF to the next NAK when no repair comes: NAK_RDATA_IVL.
    pub repair_initial: Duration,
    /// Its least.
    pub repair_min: Duration,
    /// Its most.
    pub repair_max: Duration,
    /// Retries for want of an NCF before a packet counts as lost: NAK_NCF_RETRIES.
    pub ncf_retries: u8,
    /// Retries for want of the repair: NAK_DATA_RETRIES.
    pub data_retries: u8,
    /// After which a packet counts as lost whatever the retries.
    pub recovery: Duration,
    /// Packets of one source that may be waited for and wait. What the source's window has beyond it is lost.
    pub window_packets: u32,
    /// Silence after which a source counts as gone.
    pub expiry: Duration,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            backoff_initial: BACKOFF_INITIAL,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            repeat_initial: NAK_REPEAT_INITIAL,
            repeat_min: NAK_REPEAT_MIN,
            repeat_max: NAK_REPEAT_MAX,
            repair_initial: NAK_REPAIR_INITIAL,
            repair_min: NAK_REPAIR_MIN,
            repair_max: NAK_REPAIR_MAX,
            ncf_retries: NAK_RETRIES,
            data_retries: NAK_RETRIES,
            recovery: RECOVERY_INTERVAL,
            window_packets: RECEIVE_WINDOW_PACKETS,
            expiry: SOURCE_EXPIRY,
        }
    }
}

/// What a receiver has seen of one source. All counters only grow, but `missing` and `round_trip`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// Data packets that were new.
    pub data: u64,
    /// Of these, repairs.
    pub repaired: u64,
    /// Data packets that had come before, or too late.
    pub duplicates: u64,
    /// Packets that were lost for good; each was reported.
    pub lost: u64,
    /// Packets that were found missing.
    pub gaps: u64,
    /// NAK packets sent, and the numbers in them.
    pub naks: u64,
    /// Numbers in NAK packets sent.
    pub naks_sqns: u64,
    /// NCFs heard.
    pub ncfs: u64,
    /// SPMs that were taken.
    pub spms: u64,
    /// SPMs older than another, or with a window that cannot be.
    pub spms_stale: u64,
    /// Requests for an SPM sent.
    pub spmrs: u64,
    /// Data far from the window, which nothing has confirmed.
    pub strays: u64,
    /// NAKs and NCFs for another group.
    pub foreign: u64,
    /// Parity packets, which are not used.
    pub parity: u64,
    /// Pieces of fragmented APDUs and other data in a form that libzmq never sends; each counts as lost.
    pub unreadable: u64,
    /// PGMCC options and packets, polls, null NAKs: seen and ignored.
    pub ignored: u64,
    /// Packets that are being waited for now.
    pub missing: u32,
    /// The mean time from a NAK to its NCF.
    pub round_trip: Option<Duration>,
}

/// The state of one source.
#[derive(Debug)]
pub(crate) struct Receiver {
    config: ReceiverConfig,
    group: IpAddr,
    tsi: Tsi,
    dport: u16,
    random: Random,
    /// Where the source's data comes from, by the network's word.
    from: IpAddr,
    /// Where NAKs go, by the last SPM's word.
    nla: Option<IpAddr>,
    spm_sqn: Option<Sqn>,
    /// SPMs in a row that were older than `spm_sqn`, and the last of them.
    stale: Stray,
    /// Whether the window has a beginning.
    defined: bool,
    window: Window,
    recovery: Recovery,
    /// Behind the last number that data has proven to exist; what is beyond, an SPM says.
    proven: Sqn,
    trail: Sqn,
    stray: Stray,
    /// Packets until it is certain that the window is where the data is.
    trial: u32,
    fin: Option<Sqn>,
    spmr_at: Nanos,
    spmr_interval: Nanos,
    heard_at: Nanos,
    counters: ReceiverCounters,
    /// Numbers to be asked for, while a NAK is made.
    asking: Vec<Sqn>,
}

/// Numbers in a row that are not where they should be.
#[derive(Debug, Default)]
struct Stray {
    last: Sqn,
    run: u32,
}

impl Stray {
    /// One more; it goes on where the last was, or begins again.
    fn add(&mut self, sqn: Sqn, reach: u32) -> u32 {
        let follows = self.run > 0 && sqn != self.last && sqn.within(self.last, reach).is_some();
        self.run = if follows { self.run + 1 } else { 1 };
        self.last = sqn;
        self.run
    }
}

impl Receiver {
    pub(crate) fn new(
        now: Nanos,
        config: &ReceiverConfig,
        group: IpAddr,
        from: IpAddr,
        packet: &Packet<'_>,
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed);
        let recovery = Recovery::new(config, Random::new(random.next()));
        let spmr_at = now + ((nanos(SPMR_BACKOFF) * u64::from(random.fraction())) >> 16);
        Self {
            config: config.clone(),
            group,
            tsi: packet.tsi,
            dport: packet.dport,
            random,
            from,
            nla: None,
            spm_sqn: None,
            stale: Stray::default(),
            defined: false,
            window: Window::default(),
            recovery,
            proven: Sqn(0),
            trail: Sqn(0),
            stray: Stray::default(),
            trial: RESYNC_TRIAL,
            fin: None,
            spmr_at,
            spmr_interval: nanos(SPMR_INTERVAL_MIN),
            heard_at: now,
            counters: ReceiverCounters::default(),
            asking: Vec::new(),
        }
    }

    pub(crate) fn counters(&self) -> ReceiverCounters {
        let round_trip = self.recovery.round_trip().map(Duration::from_nanos);
        ReceiverCounters { missing: self.window.missing(), round_trip, ..self.counters }
    }

    /// Whether anything was handed on or may be soon.
    pub(crate) fn has_data(&self) -> bool {
        self.counters.data > 0
    }

    pub(crate) fn heard_at(&self) -> Nanos {
        self.heard_at
    }

    /// Takes a packet of this session, and hands on what is in order.
    pub(crate) fn handle(
        &mut self,
        now: Nanos,
        from: IpAddr,
        packet: &Packet<'_>,
        blocks: &mut Blocks,
        out: &mut impl Deliver,
    ) {
        match packet.body {
            Body::Odata(data) | Body::Rdata(data) => {
                (self.heard_at, self.from) = (now, from);
                if packet.parity {
                    self.counters.parity += 1;
                } else {
                    let original = matches!(packet.body, Body::Odata(_));
                    self.handle_data(now, data, original, &packet.options, blocks, out);
                }
            }
            Body::Spm(spm) => {
                self.heard_at = now;
                self.handle_spm(now, from, spm, &packet.options, blocks, out);
            }
            Body::Ncf(nak) | Body::Nak(nak) if nak.group != self.group => self.counters.foreign += 1,
            Body::Ncf(_) | Body::Nak(_) if packet.parity => self.counters.parity += 1,
            Body::Ncf(ncf) => {
                self.heard_at = now;
                self.counters.ncfs += 1;
                self.recovery.answered(ncf.sqn, packet.sqns().count(), now);
                for sqn in packet.sqns() {
                    if let Some(missing) = self.window.find_missing(sqn) {
                        self.recovery.confirmed(missing, now);
                        self.proven = later(self.proven, sqn.next());
                    }
                }
            }
            // Section 6.3: another receiver's, by multicast. It is no sign of life of the source.
            Body::Nak(_) => {
                for sqn in packet.sqns() {
                    if let Some(missing) = self.window.find_missing(sqn) {
                        self.recovery.asked_by_another(missing, now);
                    }
                }
            }
            // Section 13.5: another receiver has asked.
            Body::Spmr => self.spmr_at = self.spmr_at.max(now + self.spmr_interval),
            Body::Poll(_) | Body::Polr(_) | Body::Nnak(_) | Body::Ack(_) => self.counters.ignored += 1,
        }
    }

    fn handle_data(
        &mut self,
        now: Nanos,
        data: Data<'_>,
        original: bool,
        options: &Options<'_>,
        blocks: &mut Blocks,
        out: &mut impl Deliver,
    ) {
        let mut unreadable = false;
        if !options.is_empty() {
            for opt in options.iter() {
                match opt {
                    Opt::Fragment(_) => unreadable = true,
                    Opt::PgmccData { .. } => self.counters.ignored += 1,
                    Opt::Fin => self.fin = Some(data.sqn),
                    _ => {}
                }
            }
        }
        if !self.defined {
            // A repair is of the past; the live edge is where original data is.
            if !original {
                self.counters.duplicates += 1;
                return;
            }
            self.define(data.sqn);
        }
        if !self.is_near(data.sqn, data.trail, original, blocks, out) {
            return;
        }
        self.advance(data.trail, blocks, out);
        self.make_room(data.sqn.next(), blocks, out);
        let next = self.window.next();
        // Nearly always: the next one, and nothing is missing.
        if data.sqn == next && self.window.len() == 0 && !unreadable {
            self.count_data(original);
            self.window.pass();
            self.proven = later(self.proven, data.sqn.next());
            out.data(data.tsdu);
            return;
        }
        if data.sqn.before(next) {
            self.counters.duplicates += 1;
            return;
        }
        self.proven = later(self.proven, data.sqn.next());
        if !data.sqn.before(self.window.end()) {
            self.expect(data.sqn, now);
        }
        let is_new = data.sqn == self.window.end();
        match self.window.find(data.sqn) {
            Some(Cell::Held(_)) => {
                self.counters.duplicates += 1;
                return;
            }
            Some(Cell::Missing(missing)) => self.recovery.found(missing, now),
            Some(Cell::Lost) | None => {}
        }
        unreadable |= !blocks.fits(data.tsdu.len());
        if unreadable {
            self.counters.unreadable += 1;
            self.put(data.sqn, is_new, Cell::Lost);
            return self.drain(blocks, out);
        }
        // When all memory waits, the oldest gap is given up, until there is some or nothing stands before this packet.
        let block = loop {
            match data.sqn.since(self.window.next()) {
                0 => break None,
                // It had been given up itself, and has just been passed.
                ..0 => {
                    self.counters.duplicates += 1;
                    return;
                }
                1.. => {}
            }
            match blocks.keep(data.tsdu) {
                Some(block) => break Some(block),
                None => {
                    let len = self.window.len();
                    self.window.give_up_front(data.sqn);
                    self.drain(blocks, out);
                    debug_assert!(self.window.len() < len, "what stands at the front is missing");
                }
            }
        };
        self.count_data(original);
        match block {
            Some(block) => self.put(data.sqn, is_new, Cell::Held(block)),
            None => {
                out.data(data.tsdu);
                self.window.pass();
            }
        }
        self.drain(blocks, out);
    }

    fn put(&mut self, sqn: Sqn, is_new: bool, cell: Cell) {
        if is_new { self.window.push(cell) } else { self.window.fill(sqn, cell) }
    }

    fn count_data(&mut self, original: bool) {
        self.counters.data += 1;
        self.counters.repaired += u64::from(!original);
        self.trial = self.trial.saturating_sub(1);
        self.stray.run = 0;
    }

    fn handle_spm(
        &mut self,
        now: Nanos,
        from: IpAddr,
        spm: Spm,
        options: &Options<'_>,
        blocks: &mut Blocks,
        out: &mut impl Deliver,
    ) {
        // Section 6.2. Should a forged number be far ahead, the true ones are back in sequence after a few.
        if self.spm_sqn.is_some_and(|last| !last.before(spm.sqn)) {
            self.counters.spms_stale += 1;
            if self.stale.add(spm.sqn, u32::MAX / 2) < STALE_SPMS_MAX {
                return;
            }
        }
        self.stale.run = 0;
        self.spm_sqn = Some(spm.sqn);
        self.counters.spms += 1;
        (self.nla, self.from) = (Some(spm.path), from);
        let mut has_window = spm.has_window();
        let (mut fin, mut no_repairs) = (false, false);
        for opt in options.iter() {
            match opt {
                Opt::Fin => fin = true,
                Opt::Rst { no_naks, .. } => (fin, no_repairs) = (true, no_naks),
                // Section 15.4.3: it invalidates the window.
                Opt::Other { kind: 0x0b, .. } => has_window = false,
                Opt::PgmccData { .. } => self.counters.ignored += 1,
                _ => {}
            }
        }
        if !has_window {
            return;
        }
        let end = spm.lead.next();
        if !self.defined {
            self.define(end);
        }
        let is_far = self.window.next().plus(self.config.window_packets).before(end);
        if is_far || self.window.end().before(spm.trail) {
            // One SPM moves no window that far. Data does, or a second SPM that says the same.
            self.counters.strays += 1;
            if self.stray.add(spm.lead, self.config.window_packets) < 2 {
                return;
            }
            self.trial = RESYNC_TRIAL;
        }
        self.advance(spm.trail, blocks, out);
        if self.window.end().before(end) {
            self.make_room(end, blocks, out);
            self.expect(end, now);
        }
        if fin {
            self.fin = Some(spm.lead);
        }
        if no_repairs {
            self.advance(end, blocks, out);
        }
    }

    /// The live edge: what is before it is history (section 6.1).
    fn define(&mut self, next: Sqn) {
        self.defined = true;
        self.window.begin(next);
        (self.proven, self.trail) = (next, next);
    }

    /// Whether a data packet is within reach of the window, and what it says of the source's is. What is not moves the window
    /// when others confirm it: two that are ahead, or say that all that was ever heard is history, since a receiver may have
    /// been cut off for long; and a few that are far behind while it is not certain yet that the window is in the right place.
    fn is_near(
        &mut self,
        sqn: Sqn,
        trail: Sqn,
        original: bool,
        blocks: &mut Blocks,
        out: &mut impl Deliver,
    ) -> bool {
        let reach = self.config.window_packets;
        let distance = sqn.since(self.window.next());
        let (ahead, behind) =
            (distance > 0 && distance as u32 >= reach, distance < 0 && distance.unsigned_abs() > reach);
        let ahead = ahead || self.window.end().before(trail);
        if !ahead && !behind {
            return true;
        }
        self.counters.strays += 1;
        if !original {
            return false;
        }
        let run = self.stray.add(sqn, reach);
        if ahead && run >= 2 {
            self.trial = RESYNC_TRIAL;
            return true;
        }
        if behind && run >= RESYNC_AFTER && self.trial > 0 {
            self.window.give_up_before(self.window.end());
            self.drain(blocks, out);
            // Not only the window was wrong: whatever was reported, there is a gap here.
            self.counters.lost += 1;
            out.lost(1);
            self.define(sqn);
            self.trial = RESYNC_TRIAL;
            return true;
        }
        false
    }

    /// The source's window begins with `trail`: what is missing before it will never be repaired.
    fn advance(&mut self, trail: Sqn, blocks: &mut Blocks, out: &mut impl Deliver) {
        if !self.trail.before(trail) {
            return;
        }
        self.trail = trail;
        if !self.window.next().before(trail) {
            return;
        }
        if self.window.missing() > 0 {
            self.window.give_up_before(trail);
        }
        self.drain(blocks, out);
        if self.window.len() == 0 {
            self.counters.lost += self.window.skip_to(trail, out);
            self.proven = later(self.proven, self.window.next());
        }
    }

    /// Lets go of the oldest until the window reaches to `end` without being too large.
    fn make_room(&mut self, end: Sqn, blocks: &mut Blocks, out: &mut impl Deliver) {
        let first = end.minus(self.config.window_packets);
        if !self.window.next().before(first) {
            return;
        }
        self.window.give_up_before(first);
        self.drain(blocks, out);
        if self.window.len() == 0 {
            self.counters.lost += self.window.skip_to(first, out);
        }
    }

    /// Packets before `end` exist.
    fn expect(&mut self, end: Sqn, now: Nanos) {
        let before = self.window.missing();
        self.recovery.miss(&mut self.window, end, now);
        self.counters.gaps += u64::from(self.window.missing() - before);
    }

    fn drain(&mut self, blocks: &mut Blocks, out: &mut impl Deliver) {
        self.counters.lost += self.window.drain(blocks, out);
        self.proven = later(self.proven, self.window.next());
    }

    /// Does what is due: asks for repairs and SPMs, gives up what has waited for too long. At most `limit` packets are
    /// ready afterwards.
    pub(crate) fn tick(
        &mut self,
        now: Nanos,
        limit: usize,
        outgoing: &mut Outgoing,
        blocks: &mut Blocks,
        out: &mut impl Deliver,
    ) {
        if self.nla.is_none() && self.spmr_at <= now && outgoing.len() + 2 <= limit {
            self.request_spm(now, outgoing);
        }
        let mut gave_up = false;
        loop {
            let can_ask = self.nla.is_some() && outgoing.len() < limit;
            // When there is only no room, what is due stays due.
            if self.nla.is_some() && !can_ask {
                break;
            }
            let Some(due) = self.recovery.due(&mut self.window, now, can_ask) else { break };
            match due {
                Due::Ask(sqn) => {
                    self.asking.push(sqn);
                    if self.asking.len() > NAK_LIST_MAX {
                        self.ask(now, outgoing);
                    }
                }
                // An SPM says that it exists, and neither data nor an NCF ever did. The last SPM is believed.
                Due::GiveUp(sqn)
                    if !sqn.before(self.proven) && self.fin.is_none_or(|fin| fin.before(sqn)) =>
                {
                    self.window.forget_from(self.proven);
                }
                Due::GiveUp(sqn) => {
                    self.window.fill(sqn, Cell::Lost);
                    gave_up = true;
                }
            }
        }
        self.ask(now, outgoing);
        if gave_up {
            self.drain(blocks, out);
        }
    }

    /// Asks for all of `asking`, oldest first (section 6.3).
    fn ask(&mut self, now: Nanos, outgoing: &mut Outgoing) {
        let Some(nla) = self.nla else { return };
        if self.asking.is_empty() {
            return;
        }
        let next = self.window.next();
        self.asking.sort_unstable_by_key(|sqn| sqn.since(next));
        let options = [Opt::NakList(NakList::Sqns(&self.asking[1..]))];
        let body = Body::Nak(Nak { sqn: self.asking[0], source: self.from, group: self.group });
        let packet = self.upstream(body, if self.asking.len() > 1 { &options } else { &[] });
        outgoing.control(To::Host(nla), &packet, CONTROL_LEN_MAX);
        self.recovery.asked(self.asking[0], self.asking.len(), now);
        self.counters.naks += 1;
        self.counters.naks_sqns += self.asking.len() as u64;
        self.asking.clear();
    }

    /// Section 13.5: to the neighbours first, so that they do not ask as well.
    fn request_spm(&mut self, now: Nanos, outgoing: &mut Outgoing) {
        let packet = self.upstream(Body::Spmr, &[]);
        outgoing.control(To::Neighbours, &packet, CONTROL_LEN_MAX);
        outgoing.control(To::Host(self.from), &packet, CONTROL_LEN_MAX);
        self.counters.spmrs += 1;
        let jitter = (self.spmr_interval * u64::from(self.random.fraction())) >> 17;
        self.spmr_at = now + self.spmr_interval + jitter;
        self.spmr_interval = (self.spmr_interval * 2).min(nanos(SPMR_INTERVAL_MAX));
    }

    fn upstream<'a>(&self, body: Body<'a>, options: &'a [Opt<'a>]) -> Packet<'a> {
        let (tsi, dport, options) = (self.tsi, self.dport, Options::List(options));
        Packet { tsi, dport, parity: false, var_pktlen: false, body, options }
    }

    pub(crate) fn deadline(&self) -> Nanos {
        let mut at = self.heard_at.saturating_add(nanos(self.config.expiry));
        if let Some(timer) = self.recovery.deadline() {
            at = at.min(timer);
        }
        if self.nla.is_none() {
            at = at.min(self.spmr_at);
        }
        at
    }

    /// Whether, and how, this source is at its end.
    pub(crate) fn ending(&self, now: Nanos) -> Option<End> {
        if self.fin.is_some_and(|fin| !self.window.next().before(fin.next())) && self.window.len() == 0 {
            return Some(End::Finished);
        }
        (now >= self.heard_at.saturating_add(nanos(self.config.expiry))).then_some(End::Silent)
    }

    /// The number that a source which comes back must be beyond.
    pub(crate) fn end(&self) -> Sqn {
        self.window.end()
    }

    /// Hands on what there is, with everything that is missing lost, and lets go of all memory.
    pub(crate) fn finish(&mut self, blocks: &mut Blocks, out: &mut impl Deliver) {
        self.window.give_up_before(self.window.end());
        self.drain(blocks, out);
    }

    /// Lets go of all memory without a word.
    pub(crate) fn dissolve(&mut self, blocks: &mut Blocks) {
        self.window.dissolve(blocks);
    }
}

fn later(a: Sqn, b: Sqn) -> Sqn {
    if a.before(b) { b } else { a }
}
