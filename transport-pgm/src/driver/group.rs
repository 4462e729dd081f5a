//! What one open receives of one group: a carrier, the sources that are heard on it, and a link for each of them. Links of senders
//! are no business of it.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use transport_core::{
    Completion, DownReason, Hello, Landing, LinkId, OpenId, PeerInfo, Recovery, Slab, SlabKey,
};

use super::Link;
use crate::inbox::Inbox;
use crate::limits::{NAK_BATCHES, SEND_BATCH};
use crate::net::Carrier;
use crate::packet::{Packet, Tsi};
use crate::receiver::{End, Events, ReceiverCounters, SourceId, Sources, SourcesConfig};

/// See the module.
#[derive(Debug)]
pub(super) struct Group<C> {
    pub(super) hall: Hall,
    /// The system says that there is something to receive.
    pub(super) heard: bool,
    carrier: C,
    stage: Stage,
    blocked: bool,
    malformed: u64,
}

/// Sources need to be told the time, and `open` does not know it.
#[derive(Debug)]
enum Stage {
    Waiting(Option<Box<(SourcesConfig, u64)>>),
    Running(Box<Sources>),
}

/// What is known of the links of a group's sources.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) open: OpenId,
    pub(super) key: SlabKey,
    /// As opened, for the addresses of sources.
    pub(super) url: String,
    pub(super) fd: i32,
    pub(super) part_max: Option<u64>,
    pub(super) waiting_parts: usize,
    /// No source that is new may come up.
    pub(super) closed: bool,
    /// By [`SourceId::index`].
    links: Vec<Option<LinkId>>,
    unwanted: Vec<SourceId>,
}

impl Hall {
    pub(super) fn new(
        open: OpenId,
        key: SlabKey,
        url: String,
        part_max: Option<u64>,
        waiting_parts: usize,
    ) -> Self {
        let (links, unwanted) = (Vec::new(), Vec::new());
        Self { open, key, url, fd: -1, part_max, waiting_parts, closed: false, links, unwanted }
    }
}

/// One source, as a link.
#[derive(Debug)]
pub(super) struct SourceLink {
    pub(super) group: SlabKey,
    pub(super) id: SourceId,
    pub(super) inbox: Inbox,
    /// It has come to its end, which is said when everything before it is, and how its recovery went.
    pub(super) ended: Option<(DownReason, Recovery)>,
    /// It is in the list of those that may have something to say.
    pub(super) queued: bool,
    /// What monitors have heard.
    pub(super) told: Recovery,
}

/// What monitors hear.
pub(super) fn recovery(counters: &ReceiverCounters) -> Recovery {
    let ReceiverCounters { data, repaired, naks_sqns, lost, strays, .. } = *counters;
    Recovery { packets: data, repaired, requested: naks_sqns, lost, refused: strays }
}

/// What the events of sources change, beside their group.
#[derive(Debug)]
pub(super) struct Rest<'a, C> {
    pub(super) links: &'a mut Slab<LinkId, Link<C>>,
    pub(super) queue: &'a mut VecDeque<LinkId>,
    pub(super) news: &'a mut VecDeque<Completion>,
    pub(super) landing: &'a mut Landing,
}

struct Ears<'a, 'b, C> {
    hall: &'a mut Hall,
    rest: &'a mut Rest<'b, C>,
}

impl<C> Ears<'_, '_, C> {
    fn link(&mut self, source: SourceId) -> Option<(LinkId, &mut SourceLink, &mut Landing)> {
        let id = (*self.hall.links.get(source.index())?)?;
        match self.rest.links.find_mut(id)? {
            Link::Source(link) if link.id == source => {
                if !std::mem::replace(&mut link.queued, true) {
                    self.rest.queue.push_back(id);
                }
                Some((id, link, self.rest.landing))
            }
            _ => None,
        }
    }
}

impl<C> Events for Ears<'_, '_, C> {
    fn up(&mut self, source: SourceId, tsi: Tsi, from: IpAddr) {
        let hall = &mut *self.hall;
        if hall.closed {
            hall.unwanted.push(source);
            return;
        }
        let inbox = Inbox::with_room(hall.part_max, hall.waiting_parts);
        let link = SourceLink {
            group: hall.key,
            id: source,
            inbox,
            ended: None,
            queued: false,
            told: Recovery::default(),
        };
        let link = self.rest.links.insert(Link::Source(Box::new(link)));
        if hall.links.len() <= source.index() {
            hall.links.resize(source.index() + 1, None);
        }
        hall.links[source.index()] = Some(link);
        // Nobody says Hello here; the seam wants one all the same.
        let peer = PeerInfo {
            hello: Hello::NULL,
            address: format!("{}#{from}#{tsi}", hall.url),
            identity: None,
            fd: hall.fd,
            hello_took: Duration::ZERO,
        };
        self.rest.news.push_back(Completion::Up { link, open: hall.open, peer: Box::new(peer) });
    }

    fn data(&mut self, source: SourceId, tsdu: &[u8]) {
        if let Some((_, link, landing)) = self.link(source) {
            link.inbox.data(tsdu, landing);
        }
    }

    fn lost(&mut self, source: SourceId, packets: u64) {
        if let Some((_, link, landing)) = self.link(source) {
            link.inbox.lost(packets, landing);
        }
    }

    fn down(&mut self, source: SourceId, end: End, counters: &ReceiverCounters) {
        if let Some((_, link, landing)) = self.link(source) {
            link.inbox.end(landing);
            let reason = match end {
                End::Finished => DownReason::ClosedByPeer,
                End::Silent => DownReason::TimedOut,
            };
            link.ended = Some((reason, recovery(counters)));
        }
        if let Some(place) = self.hall.links.get_mut(source.index()) {
            *place = None;
        }
    }
}

impl<C: Carrier> Group<C> {
    pub(super) fn new(carrier: C, config: SourcesConfig, seed: u64, mut hall: Hall) -> Self {
        hall.fd = carrier.fd();
        let stage = Stage::Waiting(Some(Box::new((config, seed))));
        Self { hall, heard: true, carrier, stage, blocked: false, malformed: 0 }
    }

    /// From now on the network tells of its carrier by this name.
    pub(super) fn watch(&mut self, token: u64) -> io::Result<()> {
        self.carrier.watch(token)
    }

    pub(super) fn begin(&mut self, now: Instant) {
        if let Stage::Waiting(waiting) = &mut self.stage
            && let Some(waiting) = waiting.take()
        {
            let (config, seed) = *waiting;
            self.stage = Stage::Running(Box::new(Sources::new(now, config, seed)));
        }
    }

    pub(super) fn sources(&self) -> Option<&Sources> {
        match &self.stage {
            Stage::Running(sources) => Some(sources),
            Stage::Waiting(_) => None,
        }
    }

    /// Bytes of packets that were copied to wait for others.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.sources().map_or(0, Sources::copied_bytes)
    }

    /// The system says that the carrier has something, or room.
    pub(super) fn woken(&mut self) {
        self.heard = true;
        if self.blocked {
            self.blocked = false;
            self.carrier.await_room(false);
        }
    }

    /// Takes at most about `budget` packets. Returns how many.
    pub(super) fn listen(&mut self, now: Instant, budget: usize, rest: &mut Rest<'_, C>) -> usize {
        let Stage::Running(sources) = &mut self.stage else { return 0 };
        let (malformed, mut ears) = (&mut self.malformed, Ears { hall: &mut self.hall, rest });
        let taken = self.carrier.receive(budget, |datagram| match Packet::parse(datagram.bytes) {
            Ok(packet) => sources.handle(now, datagram.from, &packet, &mut ears),
            Err(_) => *malformed += 1,
        });
        let taken = taken.unwrap_or(0);
        self.heard = taken >= budget;
        self.shoo();
        taken
    }

    /// Asks for what is missing, and gives up what will not come.
    pub(super) fn pump(&mut self, now: Instant, rest: &mut Rest<'_, C>) {
        let Stage::Running(sources) = &mut self.stage else { return };
        if sources.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        // What a liar has made missing is asked for as well, but not all at once.
        for _ in 0..NAK_BATCHES {
            if self.blocked {
                break;
            }
            let ready = sources.prepare(now, SEND_BATCH, &mut Ears { hall: &mut self.hall, rest });
            if ready == 0 {
                break;
            }
            let taken = self.carrier.send(sources.datagrams()).unwrap_or(ready).min(ready);
            sources.sent(taken);
            if taken < ready {
                self.blocked = true;
                self.carrier.await_room(true);
            }
        }
        self.shoo();
    }

    /// Sources that came up when nobody wanted them any more.
    fn shoo(&mut self) {
        if let Stage::Running(sources) = &mut self.stage {
            self.hall.unwanted.drain(..).for_each(|source| sources.close(source));
        }
    }

    /// A link was closed here: its source is not to come up again.
    pub(super) fn close(&mut self, source: SourceId) {
        if let Stage::Running(sources) = &mut self.stage {
            sources.close(source);
        }
        if let Some(place) = self.hall.links.get_mut(source.index()) {
            *place = None;
        }
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn deadline(&self, now: Option<Instant>) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting(_) => now,
            Stage::Running(_) if self.heard => now,
            Stage::Running(_) if self.blocked => None,
            Stage::Running(sources) => sources.deadline(),
        }
    }

    /// Whether there is something to do at once.
    pub(super) fn is_busy(&self) -> bool {
        self.heard || matches!(self.stage, Stage::Waiting(_))
    }
}
