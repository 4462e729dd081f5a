//! One source or one group's receivers, by hand: packets made and read, time given.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use transport_core::FrameMut;

use crate::datagrams::To;
use crate::packet::{Body, Data, Nak, NakList, Opt, Options, Packet, Spm, Tsi};
use crate::serial::Sqn;
use crate::{End, Events, Payload, ReceiverCounters, Source, SourceConfig, SourceId, Sources, SourcesConfig};

pub(crate) const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(239, 192, 0, 1));
pub(crate) const NLA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const PORT: u16 = 7500;

pub(crate) fn tsi() -> Tsi {
    Tsi::from_seed(7)
}

pub(crate) fn host(number: u8) -> IpAddr {
    [10, 0, 1, number].into()
}

pub(crate) fn packet<'a>(body: Body<'a>, options: &'a [Opt<'a>]) -> Packet<'a> {
    let options = Options::List(options);
    Packet { tsi: tsi(), dport: PORT, parity: false, var_pktlen: false, body, options }
}

pub(crate) fn odata(sqn: u32, trail: u32, tsdu: &[u8]) -> Body<'_> {
    Body::Odata(Data { sqn: Sqn(sqn), trail: Sqn(trail), tsdu })
}

pub(crate) fn rdata(sqn: u32, trail: u32, tsdu: &[u8]) -> Body<'_> {
    Body::Rdata(Data { sqn: Sqn(sqn), trail: Sqn(trail), tsdu })
}

pub(crate) fn spm(sqn: u32, trail: u32, lead: u32) -> Body<'static> {
    Body::Spm(Spm { sqn: Sqn(sqn), trail: Sqn(trail), lead: Sqn(lead), path: NLA })
}

/// What went out: where to, and what it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sent {
    Data { repair: bool, sqn: u32, trail: u32, tsdu: Vec<u8> },
    Spm { sqn: u32, trail: u32, lead: u32, fin: bool },
    Ncf(Vec<u32>),
    Nak(IpAddr, Vec<u32>),
    Spmr(To),
}

fn read(to: To, bytes: &[u8]) -> Sent {
    let packet = Packet::parse(bytes).expect("what goes out is well-formed");
    assert_eq!((packet.tsi.port != 0, packet.dport), (true, PORT));
    let sqns: Vec<u32> = packet.sqns().map(|sqn| sqn.0).collect();
    match (packet.body, to) {
        (Body::Odata(data) | Body::Rdata(data), To::Group) => Sent::Data {
            repair: matches!(packet.body, Body::Rdata(_)),
            sqn: data.sqn.0,
            trail: data.trail.0,
            tsdu: data.tsdu.to_vec(),
        },
        (Body::Spm(spm), To::Group) => {
            assert_eq!(spm.path, NLA);
            let fin = packet.options.iter().any(|opt| opt == Opt::Fin);
            Sent::Spm { sqn: spm.sqn.0, trail: spm.trail.0, lead: spm.lead.0, fin }
        }
        (Body::Ncf(ncf), To::Group) => {
            assert_eq!(ncf.group, GROUP);
            Sent::Ncf(sqns)
        }
        (Body::Nak(nak), To::Host(host)) => {
            assert_eq!((nak.source, nak.group), (NLA, GROUP));
            Sent::Nak(host, sqns)
        }
        (Body::Spmr, to) => Sent::Spmr(to),
        other => panic!("{other:?}"),
    }
}

/// A source, and the time.
pub(crate) struct Speaker {
    pub(crate) start: Instant,
    pub(crate) now: Duration,
    pub(crate) source: Source,
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting(pub(crate) std::collections::VecDeque<Vec<u8>>);

impl Payload for Waiting {
    fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }
    fn fill(&mut self, tsdu: &mut [u8]) -> usize {
        let Some(bytes) = self.0.pop_front() else { return 0 };
        tsdu[..bytes.len()].copy_from_slice(&bytes);
        bytes.len()
    }
}

impl Speaker {
    pub(crate) fn new(change: impl FnOnce(&mut SourceConfig)) -> Self {
        let mut config = SourceConfig::new(tsi(), PORT, GROUP, NLA);
        config.window_packets = 100;
        change(&mut config);
        let memory = FrameMut::own(config.memory_len()).expect("there is memory");
        let start = Instant::now();
        let source = Source::new(start, config, memory);
        Self { start, now: Duration::ZERO, source, waiting: Waiting::default() }
    }
    pub(crate) fn time(&self) -> Instant {
        self.start + self.now
    }
    pub(crate) fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }
    pub(crate) fn say(&mut self, tsdus: impl IntoIterator<Item = Vec<u8>>) -> &mut Self {
        self.waiting.0.extend(tsdus);
        self
    }
    /// Everything that is due, sent.
    pub(crate) fn turn(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while self.source.prepare(self.time(), 16, &mut self.waiting) > 0 {
            all.extend(self.source.datagrams().map(|(to, bytes)| read(to, bytes)));
            self.source.sent(16);
        }
        all
    }
    pub(crate) fn nak(&mut self, from: u8, sqns: &[u32]) {
        let list: Vec<Sqn> = sqns[1..].iter().map(|sqn| Sqn(*sqn)).collect();
        let options = [Opt::NakList(NakList::Sqns(&list))];
        let body = Body::Nak(Nak { sqn: Sqn(sqns[0]), source: NLA, group: GROUP });
        let nak = packet(body, if list.is_empty() { &[] } else { &options });
        self.source.handle(self.time(), host(from), &nak);
    }
    pub(crate) fn hear(&mut self, packet: &Packet<'_>) {
        self.source.handle(self.time(), host(9), packet);
    }
    pub(crate) fn due_in(&self) -> Duration {
        self.source.deadline().saturating_duration_since(self.time())
    }
}

/// What a group's receivers have said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    Up(usize, Tsi),
    Data(usize, Vec<u8>),
    Lost(usize, u64),
    Down(usize, End),
}

/// A group's receivers, and the time.
pub(crate) struct Ear {
    start: Instant,
    pub(crate) now: Duration,
    pub(crate) sources: Sources,
    pub(crate) ids: Vec<SourceId>,
    log: Log,
}

#[derive(Default)]
struct Log {
    news: Vec<News>,
    ids: Vec<SourceId>,
}

impl Events for Log {
    fn up(&mut self, source: SourceId, tsi: Tsi, _from: IpAddr) {
        self.ids.push(source);
        self.news.push(News::Up(source.index(), tsi));
    }
    fn data(&mut self, source: SourceId, tsdu: &[u8]) {
        self.news.push(News::Data(source.index(), tsdu.to_vec()));
    }
    fn lost(&mut self, source: SourceId, packets: u64) {
        self.news.push(News::Lost(source.index(), packets));
    }
    fn down(&mut self, source: SourceId, end: End, _: &ReceiverCounters) {
        self.news.push(News::Down(source.index(), end));
    }
}

impl Ear {
    pub(crate) fn new(change: impl FnOnce(&mut SourcesConfig)) -> Self {
        let mut config = SourcesConfig::new(GROUP, PORT);
        change(&mut config);
        let start = Instant::now();
        let (sources, now) = (Sources::new(start, config, 3), Duration::ZERO);
        Self { start, now, sources, ids: Vec::new(), log: Log::default() }
    }
    pub(crate) fn time(&self) -> Instant {
        self.start + self.now
    }
    pub(crate) fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }
    /// A packet comes, from the source's address.
    pub(crate) fn hear(&mut self, packet: &Packet<'_>) -> Vec<News> {
        self.hear_from(NLA, packet)
    }
    pub(crate) fn hear_from(&mut self, from: IpAddr, packet: &Packet<'_>) -> Vec<News> {
        self.sources.handle(self.time(), from, packet, &mut self.log);
        self.news()
    }
    pub(crate) fn hear_body(&mut self, body: Body<'_>) -> Vec<News> {
        self.hear(&packet(body, &[]))
    }
    pub(crate) fn news(&mut self) -> Vec<News> {
        self.ids.append(&mut self.log.ids);
        std::mem::take(&mut self.log.news)
    }
    /// Everything that is due, sent.
    pub(crate) fn turn(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while self.sources.prepare(self.time(), 16, &mut self.log) > 0 {
            all.extend(self.sources.datagrams().map(|(to, bytes)| read(to, bytes)));
            self.sources.sent(16);
        }
        all
    }
    /// Turns for so long, from deadline to deadline.
    pub(crate) fn turns(&mut self, millis: u64) -> Vec<Sent> {
        let until = self.now + Duration::from_millis(millis);
        let mut all = self.turn();
        while let Some(at) = self.sources.deadline().map(|at| at.saturating_duration_since(self.start)) {
            if at > until {
                break;
            }
            self.now = at.max(self.now);
            all.extend(self.turn());
        }
        self.now = until;
        all
    }
}
