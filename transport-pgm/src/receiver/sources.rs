//! All sources that one group is heard from: finds the state for each packet, admits new ones within a limit, and tells
//! what comes of them. One source never waits for another.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use super::window::Deliver;
use super::{Receiver, ReceiverConfig, ReceiverCounters};
use crate::blocks::Blocks;
use crate::clock::{Clock, Nanos, nanos};
use crate::datagrams::To;
use crate::limits::{
    MUTED_MAX, SOURCE_PROBATION, SOURCE_SILENCE, SOURCES_MAX, TSDU_LEN_MAX, WAITING_BYTES_MAX,
};
use crate::outgoing::Outgoing;
use crate::packet::{Body, Opt, Packet, Tsi};
use crate::random::Random;
use crate::serial::Sqn;

/// How a group is listened to.
#[derive(Debug, Clone)]
pub struct SourcesConfig {
    /// The group.
    pub group: IpAddr,
    /// The application's port; what is for another is not ours.
    pub dport: u16,
    /// Waiting and windows, for each source.
    pub receiver: ReceiverConfig,
    /// Sources at most; see [`Sources::handle`].
    pub sources_max: usize,
    /// Longest payload that may wait for another packet, in bytes.
    pub tsdu_max: usize,
    /// Memory in which packets of all sources wait for missing ones, in bytes.
    pub waiting_bytes: usize,
}

impl SourcesConfig {
    /// With everything else by [`crate::limits`].
    pub fn new(group: IpAddr, dport: u16) -> Self {
        Self {
            group,
            dport,
            receiver: ReceiverConfig::default(),
            sources_max: SOURCES_MAX,
            tsdu_max: 1500,
            waiting_bytes: WAITING_BYTES_MAX,
        }
    }
}

/// Names a source for as long as it is up. Not used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    index: u32,
    generation: u32,
}

impl SourceId {
    /// Small, and different from that of every other source that is up now.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// How a source came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It said so, and everything up to its end was handed on or reported lost.
    Finished,
    /// It was silent for too long.
    Silent,
}

/// Who hears what happens. Per source: one `up`, then `data` and `lost` in the order of the stream, then at most one
/// `down`.
pub trait Events {
    /// A source is heard for the first time, from this address.
    fn up(&mut self, source: SourceId, tsi: Tsi, from: IpAddr);
    /// The next TSDU.
    fn data(&mut self, source: SourceId, tsdu: &[u8]);
    /// The next so many packets are lost for good. Never 0.
    fn lost(&mut self, source: SourceId, packets: u64);
    /// The source is at its end, and this was seen of it. The last word about it.
    fn down(&mut self, source: SourceId, end: End, counters: &ReceiverCounters);
}

/// What happened beside the sources that are up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourcesCounters {
    /// Sources that came up.
    pub admitted: u64,
    /// Packets of sources that found no place.
    pub refused: u64,
    /// Packets for another port.
    pub foreign: u64,
    /// Packets of no source that is up, which bring none up either: repairs, confirmations, what follows an end.
    pub unknown: u64,
}

/// The sources of one group.
#[derive(Debug)]
pub struct Sources {
    config: SourcesConfig,
    clock: Clock,
    random: Random,
    entries: Vec<Entry>,
    by_tsi: BTreeMap<Tsi, u32>,
    /// Where the packet before was of.
    last: Option<(Tsi, u32)>,
    /// Whose turn it is to ask for repairs.
    turn: usize,
    muted: VecDeque<Muted>,
    blocks: Blocks,
    outgoing: Outgoing,
    counters: SourcesCounters,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    source: Option<(Tsi, Receiver)>,
}

/// A source that is not to come up again by packets that were still on their way.
#[derive(Debug)]
struct Muted {
    tsi: Tsi,
    /// Data from here on is new. `None`: it was closed here.
    until: Option<Sqn>,
}

/// Tells one source's news.
struct Of<'a, E> {
    events: &'a mut E,
    id: SourceId,
}

impl<E: Events> Deliver for Of<'_, E> {
    fn data(&mut self, tsdu: &[u8]) {
        self.events.data(self.id, tsdu);
    }
    fn lost(&mut self, packets: u64) {
        self.events.lost(self.id, packets);
    }
}

impl Sources {
    /// Listens from now on. `seed` makes the back-offs; receivers of one group should not have the same.
    pub fn new(now: Instant, config: SourcesConfig, seed: u64) -> Self {
        let blocks = Blocks::new(config.tsdu_max.min(TSDU_LEN_MAX), config.waiting_bytes);
        Self {
            config,
            clock: Clock::new(now),
            random: Random::new(seed),
            entries: Vec::new(),
            by_tsi: BTreeMap::new(),
            last: None,
            turn: 0,
            muted: VecDeque::new(),
            blocks,
            outgoing: Outgoing::default(),
            counters: SourcesCounters::default(),
        }
    }

    /// Takes a packet that came to the group or to this host, `from` its network address.
    ///
    /// A source comes up with its first data or SPM. When there are as many as may be, one that has never sent data and
    /// was silent for [`SOURCE_PROBATION`] makes room; otherwise the newcomer is refused.
    pub fn handle(&mut self, now: Instant, from: IpAddr, packet: &Packet<'_>, events: &mut impl Events) {
        let now = self.clock.at(now);
        if packet.dport != self.config.dport {
            self.counters.foreign += 1;
            return;
        }
        let known = match self.last {
            Some((tsi, index)) if tsi == packet.tsi => Some(index),
            _ => self.by_tsi.get(&packet.tsi).copied(),
        };
        let Some(index) = known.or_else(|| self.admit(now, from, packet, events)) else { return };
        self.last = Some((packet.tsi, index));
        let entry = &mut self.entries[index as usize];
        let id = SourceId { index, generation: entry.generation };
        let Some((_, receiver)) = &mut entry.source else { return };
        receiver.handle(now, from, packet, &mut self.blocks, &mut Of { events, id });
        if let Some(end) = receiver.ending(now) {
            self.end(id, end, events);
        }
    }

    #[cold]
    fn admit(
        &mut self,
        now: Nanos,
        from: IpAddr,
        packet: &Packet<'_>,
        events: &mut impl Events,
    ) -> Option<u32> {
        // The last number that the packet says there is.
        let lead = match packet.body {
            Body::Odata(data) if !packet.parity => data.sqn,
            Body::Spm(spm) if !packet.options.iter().any(|opt| matches!(opt, Opt::Fin | Opt::Rst { .. })) => {
                spm.lead
            }
            _ => {
                self.counters.unknown += 1;
                return None;
            }
        };
        if let Some(at) = self.muted.iter().position(|muted| muted.tsi == packet.tsi) {
            if self.muted[at].until.is_none_or(|until| lead.before(until)) {
                self.counters.unknown += 1;
                return None;
            }
            self.muted.remove(at);
        }
        let index = match self.entries.iter().position(|entry| entry.source.is_none()) {
            Some(index) => index,
            None if self.entries.len() < self.config.sources_max => {
                self.entries.push(Entry { generation: 0, source: None });
                self.entries.len() - 1
            }
            None => {
                // One that never sent data goes soon; one that did, when it missed many of its heartbeats. It is the one that
                // was silent the longest.
                let (probation, silence) = (nanos(SOURCE_PROBATION), nanos(SOURCE_SILENCE));
                let idle = |entry: &Entry| {
                    let (_, receiver) = entry.source.as_ref()?;
                    let patience = if receiver.has_data() { silence } else { probation };
                    (now >= receiver.heard_at().saturating_add(patience)).then(|| receiver.heard_at())
                };
                let idle = self.entries.iter().enumerate().filter_map(|(at, entry)| Some((idle(entry)?, at)));
                let Some((_, index)) = idle.min() else {
                    self.counters.refused += 1;
                    return None;
                };
                let id = SourceId { index: index as u32, generation: self.entries[index].generation };
                self.end(id, End::Silent, events);
                index
            }
        };
        let seed = self.random.next();
        let receiver = Receiver::new(now, &self.config.receiver, self.config.group, from, packet, seed);
        let entry = &mut self.entries[index];
        entry.source = Some((packet.tsi, receiver));
        let id = SourceId { index: index as u32, generation: entry.generation };
        self.by_tsi.insert(packet.tsi, id.index);
        self.counters.admitted += 1;
        events.up(id, packet.tsi, from);
        Some(id.index)
    }

    fn end(&mut self, id: SourceId, end: End, events: &mut impl Events) {
        let Some((tsi, mut receiver)) = self.take(id) else { return };
        receiver.finish(&mut self.blocks, &mut Of { events, id });
        let counters = receiver.counters();
        receiver.dissolve(&mut self.blocks);
        // One that was only silent may come back.
        if end == End::Finished {
            self.mute(tsi, Some(receiver.end()));
        }
        events.down(id, end, &counters);
    }

    fn take(&mut self, id: SourceId) -> Option<(Tsi, Receiver)> {
        let entry = self.entries.get_mut(id.index()).filter(|entry| entry.generation == id.generation)?;
        let (tsi, receiver) = entry.source.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.by_tsi.remove(&tsi);
        self.last = None;
        Some((tsi, receiver))
    }

    fn mute(&mut self, tsi: Tsi, until: Option<Sqn>) {
        if self.muted.len() == MUTED_MAX {
            self.muted.pop_front();
        }
        self.muted.push_back(Muted { tsi, until });
    }

    /// Ends a source here: nothing follows about it, and it does not come up again.
    pub fn close(&mut self, source: SourceId) {
        if let Some((tsi, mut receiver)) = self.take(source) {
            receiver.dissolve(&mut self.blocks);
            self.mute(tsi, None);
        }
    }

    /// Makes ready what is to be sent now, at most `limit` packets with what is ready already, and gives up what has
    /// waited for too long. Returns how many packets are ready.
    pub fn prepare(&mut self, now: Instant, limit: usize, events: &mut impl Events) -> usize {
        let now = self.clock.at(now);
        let count = self.entries.len();
        // Begun where the last one ended, so that a source of which much is missing keeps none of the others waiting for ever.
        for step in 0..count {
            let index = (self.turn + step) % count;
            if self.outgoing.len() >= limit {
                self.turn = index;
                break;
            }
            let entry = &mut self.entries[index];
            let id = SourceId { index: index as u32, generation: entry.generation };
            let Some((_, receiver)) = &mut entry.source else { continue };
            if receiver.deadline() > now {
                continue;
            }
            let mut out = Of { events, id };
            receiver.tick(now, limit, &mut self.outgoing, &mut self.blocks, &mut out);
            if let Some(end) = receiver.ending(now) {
                self.end(id, end, events);
            }
        }
        self.outgoing.len()
    }

    /// The packets that are ready, in order.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = (To, &[u8])> {
        self.outgoing.iter(&[])
    }

    /// The first `count` of the packets that are ready have gone.
    pub fn sent(&mut self, count: usize) {
        self.outgoing.gone(count, |_| {});
    }

    /// When [`Sources::prepare`] has something to do. `None` while there is no source.
    pub fn deadline(&self) -> Option<Instant> {
        if self.outgoing.len() > 0 {
            return Some(self.clock.instant(0));
        }
        let receivers = self.entries.iter().filter_map(|entry| entry.source.as_ref());
        receivers.map(|(_, receiver)| receiver.deadline()).min().map(|at| self.clock.instant(at))
    }

    /// What has happened beside the sources that are up.
    pub fn counters(&self) -> SourcesCounters {
        self.counters
    }

    /// What has been seen of one source. `None` when it is not up.
    pub fn source_counters(&self, source: SourceId) -> Option<ReceiverCounters> {
        let entry = self.entries.get(source.index()).filter(|entry| entry.generation == source.generation)?;
        entry.source.as_ref().map(|(_, receiver)| receiver.counters())
    }

    /// Bytes of packets that were copied to wait for missing ones, of all sources that there ever were.
    pub fn copied_bytes(&self) -> u64 {
        self.blocks.copied_bytes()
    }

    /// Packets that wait for missing ones, of all sources.
    pub fn waiting_packets(&self) -> usize {
        self.blocks.lent()
    }
}
