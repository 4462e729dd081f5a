//! Hosts that run the machines as a driver does, and the loop that moves virtual time. Judges nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use fabriq_transport_pgm::framing::Encoder;
use fabriq_transport_pgm::packet::{Packet, Tsi};
use fabriq_transport_pgm::{
    Datagrams, End, Events, Payload, ReceiverCounters, Source, SourceConfig, SourceId, Sources, SourcesConfig,
};
use transport_core::{FrameMut, FramePool, Landing, LinkId, Part, SlabKey};

use super::air::{Air, GROUP, Micros, address};
use super::follow::{Follower, Script, message};
use super::weather::Weather;

pub(crate) const PORT: u16 = 7500;
/// Turns that one instant may take.
const TURNS_MAX: u32 = 100_000;
/// Packets that a host makes ready, and takes, at once.
const BATCH: usize = 64;

#[derive(Debug)]
pub(crate) struct World {
    start: Instant,
    pub(crate) air: Air,
    pub(crate) hosts: Vec<Host>,
    wakes: BinaryHeap<Reverse<(Micros, usize)>>,
    touched: Vec<usize>,
    /// Turns since time moved on.
    turns: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) publisher: Option<Publisher>,
    pub(crate) listener: Option<Listener>,
    wake_at: Option<Micros>,
    pub(crate) malformed: u64,
}

#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) source: Source,
    outbox: Outbox,
    pub(crate) script: Script,
    pub(crate) finish_at: Option<Micros>,
    pub(crate) finished_at: Option<Micros>,
    /// Killed: says and hears nothing any more.
    pub(crate) dead: bool,
}

impl Publisher {
    fn is_alive(&self) -> bool {
        !self.dead && self.finished_at.is_none()
    }
}

#[derive(Debug, Default)]
struct Outbox {
    encoder: Encoder,
    parts: VecDeque<Part>,
}

impl Payload for Outbox {
    fn is_waiting(&self) -> bool {
        !self.parts.is_empty() || self.encoder.is_inside_a_part()
    }
    fn fill(&mut self, tsdu: &mut [u8]) -> usize {
        self.encoder.fill(tsdu, || self.parts.pop_front())
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) sources: Sources,
    pub(crate) heard: Heard,
}

#[derive(Debug)]
pub(crate) struct Heard {
    now: Micros,
    landing: Landing,
    up: BTreeMap<SourceId, Tsi>,
    pub(crate) followers: BTreeMap<Tsi, Follower>,
    said: Vec<transport_core::Completion>,
}

impl Heard {
    fn with(&mut self, source: SourceId, what: impl FnOnce(&mut Follower, &mut Landing)) {
        let tsi = self.up.get(&source).expect("news of a source come after its up and before its down");
        let follower = self.followers.get_mut(tsi).expect("made when it came up");
        what(follower, &mut self.landing);
        let link = LinkId::from(SlabKey::from_u64(1 << 32));
        follower.inbox.poll(link, &mut self.said, usize::MAX);
        follower.hear(self.now, &mut self.said);
    }
}

impl Events for Heard {
    fn up(&mut self, source: SourceId, tsi: Tsi, _from: std::net::IpAddr) {
        assert!(self.up.insert(source, tsi).is_none());
        self.followers.entry(tsi).or_insert_with(Follower::new);
    }
    fn data(&mut self, source: SourceId, tsdu: &[u8]) {
        self.with(source, |follower, landing| follower.inbox.data(tsdu, landing));
    }
    fn lost(&mut self, source: SourceId, packets: u64) {
        assert!(packets > 0);
        self.with(source, |follower, landing| follower.inbox.lost(packets, landing));
    }
    fn down(&mut self, source: SourceId, end: End, _: &ReceiverCounters) {
        self.with(source, |follower, _| follower.ended = Some(end));
        self.up.remove(&source);
    }
}

impl Listener {
    /// What it has counted of a source that is up.
    pub(crate) fn sources_of(&self, tsi: &Tsi) -> ReceiverCounters {
        let (id, _) = self.heard.up.iter().find(|(_, up)| *up == tsi).expect("it is up");
        self.sources.source_counters(*id).expect("it is up")
    }
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        // A test that fails shows what it has printed.
        println!("seed {seed}, {weather:?}");
        Self {
            start: Instant::now(),
            air: Air::new(seed, weather),
            hosts: Vec::new(),
            wakes: Default::default(),
            touched: Vec::new(),
            turns: 0,
        }
    }

    fn instant(&self, at: Micros) -> Instant {
        self.start + Duration::from_micros(at)
    }

    /// A publisher with libzmq's packet sizes and 10 seconds of recovery.
    pub(crate) fn publisher(&mut self, change: impl FnOnce(SourceConfig) -> SourceConfig) -> usize {
        let host = self.air.join(false);
        self.hosts.push(Host::default());
        self.publish_at(host, change);
        host
    }

    pub(crate) fn publish_at(&mut self, host: usize, change: impl FnOnce(SourceConfig) -> SourceConfig) {
        let tsi = Tsi::from_seed(self.air.random.next());
        let config = change(SourceConfig::new(tsi, PORT, GROUP, address(host)));
        let memory = FrameMut::own(config.memory_len()).expect("there is memory");
        let source = Source::new(self.instant(self.air.now), config, memory);
        let (outbox, script) = (Outbox::default(), Script::default());
        let publisher = Publisher { source, outbox, script, finish_at: None, finished_at: None, dead: false };
        self.hosts[host].publisher = Some(publisher);
        self.touched.push(host);
    }

    pub(crate) fn listener(&mut self) -> usize {
        self.listener_with(|config| config)
    }

    pub(crate) fn listener_with(&mut self, change: impl FnOnce(SourcesConfig) -> SourcesConfig) -> usize {
        let host = self.air.join(true);
        self.hosts.push(Host::default());
        self.listen_at(host, change);
        host
    }

    pub(crate) fn listen_at(&mut self, host: usize, change: impl FnOnce(SourcesConfig) -> SourcesConfig) {
        self.air.ports[host].joined = true;
        let seed = self.air.random.next();
        let sources = Sources::new(self.instant(self.air.now), change(SourcesConfig::new(GROUP, PORT)), seed);
        let heard = Heard {
            now: 0,
            landing: Landing::new(FramePool::new(64 << 20)),
            up: BTreeMap::new(),
            followers: BTreeMap::new(),
            said: Vec::new(),
        };
        self.hosts[host].listener = Some(Listener { sources, heard });
    }

    pub(crate) fn source(&self, host: usize) -> &Source {
        &self.hosts[host].publisher.as_ref().expect("a publisher").source
    }

    pub(crate) fn publisher_of(&mut self, host: usize) -> &mut Publisher {
        self.touched.push(host);
        self.hosts[host].publisher.as_mut().expect("a publisher")
    }

    pub(crate) fn listener_of(&self, host: usize) -> &Listener {
        self.hosts[host].listener.as_ref().expect("a listener")
    }

    /// What one host has heard of another's source.
    pub(crate) fn follower(&self, listener: usize, publisher: usize) -> &Follower {
        let tsi = self.source(publisher).tsi();
        let heard = &self.listener_of(listener).heard;
        heard.followers.get(&tsi).unwrap_or_else(|| panic!("host {listener} has never heard of {publisher}"))
    }

    /// Messages of `len` bytes, `count` of them, one every `interval`, from `at` on.
    pub(crate) fn script(&mut self, host: usize, at: Micros, interval: Micros, count: usize, len: usize) {
        let script = &mut self.publisher_of(host).script;
        script.lines.extend((0..count as u64).map(|number| (at + number * interval, len)));
    }

    /// Runs until then.
    pub(crate) fn run_to(&mut self, until: Micros) {
        loop {
            self.touched.sort_unstable();
            self.touched.dedup();
            for host in std::mem::take(&mut self.touched) {
                self.serve(host);
            }
            let wake = self.wakes.peek().map(|Reverse((at, _))| *at);
            let next = [self.air.next_at(), wake].into_iter().flatten().min().unwrap_or(Micros::MAX);
            if !self.touched.is_empty() {
                continue;
            }
            if next > until {
                self.air.now = until;
                return;
            }
            (self.air.now, self.turns) = (next.max(self.air.now), 0);
            while let Some(&Reverse((at, host))) = self.wakes.peek() {
                if at > self.air.now {
                    break;
                }
                self.wakes.pop();
                if self.hosts[host].wake_at == Some(at) {
                    self.hosts[host].wake_at = None;
                    self.touched.push(host);
                }
            }
            self.air.arrive(&mut self.touched);
        }
    }

    pub(crate) fn run_for(&mut self, span: Micros) {
        self.run_to(self.air.now + span);
    }

    /// One turn of a host's driver: takes what has come, says what is due, sleeps until the next deadline.
    fn serve(&mut self, at: usize) {
        let (micros, now) = (self.air.now, self.instant(self.air.now));
        let host = &mut self.hosts[at];
        let port = &mut self.air.ports[at];
        if let Some(listener) = &mut host.listener {
            listener.heard.now = micros;
        }
        let (publisher, listener, malformed) = (&mut host.publisher, &mut host.listener, &mut host.malformed);
        port.receive(usize::MAX, |datagram| match Packet::parse(datagram.bytes) {
            Err(_) => *malformed += 1,
            Ok(packet) => {
                if let Some(publisher) = publisher
                    && packet.kind().is_upstream()
                    && packet.tsi == publisher.source.tsi()
                    && publisher.is_alive()
                {
                    publisher.source.handle(now, datagram.from, &packet);
                }
                if let Some(listener) = listener {
                    listener.sources.handle(now, datagram.from, &packet, &mut listener.heard);
                }
            }
        })
        .expect("it never fails");
        let mut wake: Option<Micros> = None;
        let mut wake_at = |at: Micros| wake = Some(wake.map_or(at, |wake| wake.min(at)));
        if let Some(publisher) = publisher.as_mut().filter(|publisher| publisher.is_alive()) {
            let Publisher { source, outbox, script, .. } = publisher;
            while let Some(&(when, len)) = script.lines.front() {
                if when > micros {
                    wake_at(when);
                    break;
                }
                script.lines.pop_front();
                outbox.parts.push_back(message(script.said, when, len));
                script.said += 1;
            }
            if publisher.finish_at.is_some_and(|at| at <= micros) {
                source.finish(now);
            }
            source.prepare(now, BATCH, outbox);
            // A socket that is nearly full takes a part of the batch, and the rest later.
            let taken = port.send(source.datagrams()).expect("it never fails");
            source.sent(taken);
            if source.is_finished(now) {
                publisher.finished_at.get_or_insert(micros);
            } else {
                wake_at(micros_since(self.start, source.deadline()));
                if let Some(finish_at) = publisher.finish_at.filter(|at| *at > micros) {
                    wake_at(finish_at);
                }
            }
        }
        if let Some(Listener { sources, heard }) = listener {
            sources.prepare(now, BATCH, heard);
            let taken = port.send(sources.datagrams()).expect("it never fails");
            sources.sent(taken);
            if let Some(deadline) = sources.deadline() {
                wake_at(micros_since(self.start, deadline));
            }
        }
        self.air.collect(at);
        let host = &mut self.hosts[at];
        let Some(wake) = wake else { return };
        if wake <= micros {
            self.turns += 1;
            assert!(self.turns < TURNS_MAX, "host {at} talks for ever at {micros} us");
            self.touched.push(at);
        } else if host.wake_at.is_none_or(|wake_at| wake < wake_at) {
            host.wake_at = Some(wake);
            self.wakes.push(Reverse((wake, at)));
        }
    }
}

/// Rounded up: one who wakes at a deadline must not be early.
fn micros_since(start: Instant, at: Instant) -> Micros {
    at.saturating_duration_since(start).as_nanos().div_ceil(1000) as Micros
}
