//! The machines under any packets at all: properties for the fuzz targets and for the tests that replay their corpus.
//! Not part of the interface; no product calls it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use transport_core::{FrameMut, FramePool, Landing, Part};

use crate::framing::{Decoder, Dropped, Encoder, Messages, TSDU_MIN};
use crate::limits::NAK_LIST_MAX;
use crate::packet::{Body, Data, Fragment, Kind, Nak, NakList, Opt, Options, Packet, Spm, Tsi};
use crate::serial::Sqn;
use crate::{
    End, Events, Payload, ReceiverCounters, Source, SourceConfig, SourceId, Sources, SourcesConfig, To,
};

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 192, 0, 1));
const NLA: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PORT: u16 = 7500;

/// Programs longer than this are cut, so that a run takes no time worth mentioning.
const OPS_MAX: usize = 600;

/// Any bytes are a packet or are refused; what is one can be said again and means the same. Once as they are, and once
/// with a checksum that holds, or hardly any would be read.
pub fn check_packet(bytes: &[u8]) {
    again(bytes);
    if bytes.len() >= 16 {
        let mut bytes = bytes.to_vec();
        bytes[6..8].fill(0);
        let word = |word: &[u8]| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        let mut sum: u32 = bytes.chunks(2).map(word).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let checksum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
        bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
        again(&bytes);
    }
}

/// Whether it was a packet.
fn again(bytes: &[u8]) -> bool {
    let Ok(packet) = Packet::parse(bytes) else { return false };
    let mut buffer = vec![0; bytes.len() + 64];
    let len = packet.encode(&mut buffer).expect("what was read can be said");
    // Packets that carry no data may have a tail.
    assert!(len <= bytes.len());
    assert_eq!(Packet::parse(&buffer[..len]).as_ref(), Ok(&packet));
    assert!(packet.sqns().count() <= NAK_LIST_MAX + 1);
    true
}

/// The bytes of a program.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }
    /// Zero at the end.
    fn small(&mut self) -> u32 {
        self.byte().unwrap_or(0).into()
    }
    fn take(&mut self, len: usize) -> &[u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
    /// Mostly near `to`, sometimes anywhere.
    fn sqn(&mut self, to: Sqn) -> Sqn {
        match self.small() {
            near @ 0..=239 => to.plus(near).minus(60),
            far => to.plus(1 << (2 * (far - 240))),
        }
    }
}

/// How far programs got. Tests read it.
#[derive(Debug, Default, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code))]
struct Reached {
    data: u64,
    lost: u64,
    naks: u64,
    downs: u64,
    repairs: u64,
    confirmed: u64,
    messages: u64,
    dropped: u64,
}

/// Any TSDUs and gaps: a decoder takes them, keeps no memory, and what it has delivered can be said and read again.
pub fn check_stream(bytes: &[u8]) {
    run_stream(bytes);
}

fn run_stream(bytes: &[u8]) -> Reached {
    #[derive(Default)]
    struct Taken(Vec<Part>, u64);
    impl Messages for Taken {
        fn message(&mut self, parts: impl ExactSizeIterator<Item = Part>) {
            self.0.extend(parts);
        }
        fn dropped(&mut self, _: Dropped) {
            self.1 += 1;
        }
    }
    let pool = FramePool::new(4 << 20);
    let (mut landing, mut decoder, mut taken) =
        (Landing::new(pool.clone()), Decoder::new(Some(1 << 30)), Taken::default());
    let mut input = Input(bytes);
    while let Some(len) = input.byte() {
        match len {
            255 => decoder.gap(&mut landing),
            len => decoder.push(input.take(len.into()), &mut landing, &mut taken),
        }
    }
    decoder.gap(&mut landing);
    let Taken(parts, dropped) = taken;
    assert!(parts.last().is_none_or(|part| !part.flags.more()), "a message without its end");
    let (mut waiting, mut again) = (VecDeque::from(parts.clone()), Taken::default());
    let (mut encoder, mut tsdu) = (Encoder::new(), [0; TSDU_MIN + 40]);
    loop {
        let len = encoder.fill(&mut tsdu, || waiting.pop_front());
        if len == 0 {
            break;
        }
        decoder.push(&tsdu[..len], &mut landing, &mut again);
    }
    assert_eq!(again.1, 0);
    assert!(again.0.len() == parts.len());
    assert!(again.0.iter().zip(&parts).all(|(a, b)| (&a.body, a.flags) == (&b.body, b.flags)));
    let messages = parts.iter().filter(|part| !part.flags.more()).count() as u64;
    drop((parts, again));
    assert_eq!(pool.usage().lent_slots, 0, "a slot was lost");
    Reached { messages, dropped, ..Reached::default() }
}

/// Any packets in any order, from up to three sources, and time. What is handed on is what was sent under that number,
/// in order and once; what is lost is said; NAKs are well-formed; no memory stays behind.
pub fn check_receiver(bytes: &[u8]) {
    run_receiver(bytes);
}

/// What has been heard of one source.
#[derive(Default)]
struct Stream {
    up: Option<SourceId>,
    /// The number that comes next; `None` before the first, and after a window that was found in the wrong place.
    next: Option<Sqn>,
}

#[derive(Default)]
struct Judge {
    streams: [Stream; 4],
    reached: Reached,
}

impl Judge {
    fn stream(&mut self, source: SourceId) -> &mut Stream {
        &mut self.streams[source.index()]
    }
}

impl Events for Judge {
    fn up(&mut self, source: SourceId, _: Tsi, _: IpAddr) {
        let stream = self.stream(source);
        assert_eq!(stream.up, None);
        *stream = Stream { up: Some(source), next: None };
    }
    fn data(&mut self, source: SourceId, tsdu: &[u8]) {
        let sqn = Sqn(u32::from_be_bytes(tsdu[..4].try_into().expect("ours")));
        let stream = self.stream(source);
        assert_eq!(stream.up, Some(source));
        assert!(stream.next.is_none_or(|next| next == sqn), "{sqn:?} instead of {:?}", stream.next);
        stream.next = Some(sqn.next());
        self.reached.data += 1;
    }
    fn lost(&mut self, source: SourceId, packets: u64) {
        assert!(packets > 0);
        let stream = self.stream(source);
        assert_eq!(stream.up, Some(source));
        // One packet may also be a window that was in the wrong place: then the next number may be any.
        stream.next = stream.next.filter(|_| packets > 1).map(|next| next.plus(packets as u32));
        self.reached.lost += packets;
    }
    fn down(&mut self, source: SourceId, _: End, _: &ReceiverCounters) {
        let stream = self.stream(source);
        assert_eq!(stream.up.take(), Some(source));
        self.reached.downs += 1;
    }
}

fn run_receiver(bytes: &[u8]) -> Reached {
    let start = Instant::now();
    let mut config = SourcesConfig::new(GROUP, PORT);
    (config.sources_max, config.tsdu_max, config.waiting_bytes) = (2, 100, 32 * 100);
    config.receiver.window_packets = 100;
    config.receiver.recovery = Duration::from_secs(1);
    config.receiver.expiry = Duration::from_secs(5);
    let (mut sources, mut judge, mut input) =
        (Sources::new(start, config, 1), Judge::default(), Input(bytes));
    let mut now = Duration::ZERO;
    let (mut edge, mut spms) = ([Sqn(0u32.wrapping_sub(30)); 3], 0);
    for _ in 0..OPS_MAX {
        let Some(op) = input.byte() else { break };
        let which = usize::from(op >> 4) % 3;
        let (tsi, time) = (Tsi::from_seed(which as u64), start + now);
        let at = edge[which];
        let (mut list, mut tsdu) = ([Sqn(0); 8], [0; 120]);
        let mut options: &[Opt<'_>] = &[];
        let fragment = [Opt::Fragment(Fragment { first: at, offset: 0, len: 1 })];
        let body = match op & 0x0f {
            // The stream goes on, mostly; some packets never come.
            kind @ 0..=5 => {
                let sqn = if kind < 3 { at } else { input.sqn(at) };
                edge[which] = if kind == 2 {
                    at.plus(2)
                } else if kind < 3 {
                    at.next()
                } else {
                    at
                };
                tsdu[..4].copy_from_slice(&sqn.0.to_be_bytes());
                let len = if kind == 4 { 120 } else { 4 };
                if kind == 4 {
                    options = &fragment[..1 - usize::from(op >> 7)];
                }
                let trail = if kind == 3 { sqn.minus(input.small()) } else { sqn.minus(90) };
                let data = Data { sqn, trail, tsdu: &tsdu[..len] };
                if kind == 5 { Body::Rdata(data) } else { Body::Odata(data) }
            }
            kind @ (6 | 7) => {
                spms += 1;
                let lead = input.sqn(at);
                let trail = lead.minus(input.small()).next();
                if kind == 7 {
                    options = [&[Opt::Fin][..], &[Opt::Rst { no_naks: true, code: 0 }], &[], &[]]
                        [input.small() as usize % 4];
                }
                let sqn = if op >> 6 == 3 { input.sqn(Sqn(spms)) } else { Sqn(spms) };
                Body::Spm(Spm { sqn, trail, lead, path: NLA })
            }
            8..=10 => {
                list.iter_mut().for_each(|sqn| *sqn = input.sqn(at));
                let nak = Nak { sqn: input.sqn(at), source: NLA, group: GROUP };
                let named = [Opt::NakList(NakList::Sqns(&list))];
                let body = if op & 0x0f == 8 { Body::Nak(nak) } else { Body::Ncf(nak) };
                sources.handle(time, NLA, &packet(tsi, body, &named), &mut judge);
                continue;
            }
            11 => Body::Spmr,
            12 => {
                if op >> 4 == 15
                    && let Some(up) = judge.streams.iter_mut().find_map(|stream| stream.up.take())
                {
                    sources.close(up);
                }
                continue;
            }
            _ => {
                now +=
                    Duration::from_micros(u64::from(input.small()).pow(2) * if op & 1 == 0 { 1 } else { 50 });
                turn(&mut sources, start + now, &mut judge);
                continue;
            }
        };
        sources.handle(time, NLA, &packet(tsi, body, options), &mut judge);
    }
    // Everything ends, and nothing is kept.
    now += Duration::from_secs(10);
    turn(&mut sources, start + now, &mut judge);
    assert!(judge.streams.iter().all(|stream| stream.up.is_none()));
    assert_eq!((sources.waiting_packets(), sources.deadline()), (0, None));
    judge.reached
}

fn turn(sources: &mut Sources, now: Instant, judge: &mut Judge) {
    let mut rounds = 0;
    while sources.prepare(now, 4, judge) > 0 {
        for (to, bytes) in sources.datagrams() {
            let packet = Packet::parse(bytes).expect("ours is well-formed");
            if packet.kind() == Kind::Nak {
                assert_eq!(to, To::Host(NLA));
                let sqns: Vec<Sqn> = packet.sqns().collect();
                assert!(
                    sqns.windows(2).all(|pair| pair[0].before(pair[1])),
                    "section 9.3: ordered and unique: {sqns:?}"
                );
                judge.reached.naks += 1;
            }
        }
        sources.sent(1 + rounds % 4);
        rounds += 1;
        assert!(rounds < 10_000, "a receiver that talks for ever");
    }
}

/// Any NAKs at any time, and sends that stall. Data is numbered without gaps; a repair is what was sent; only what the
/// window holds is confirmed; rates hold.
pub fn check_source(bytes: &[u8]) {
    run_source(bytes);
}

fn packet<'a>(tsi: Tsi, body: Body<'a>, options: &'a [Opt<'a>]) -> Packet<'a> {
    Packet { tsi, dport: PORT, parity: false, var_pktlen: false, body, options: Options::List(options) }
}

#[derive(Default)]
struct Words {
    said: u32,
    left: u32,
}

fn word(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize % 20)
}

impl Payload for Words {
    fn is_waiting(&self) -> bool {
        self.left > 0
    }
    fn fill(&mut self, tsdu: &mut [u8]) -> usize {
        let word = word(self.said);
        tsdu[..word.len()].copy_from_slice(&word);
        (self.said, self.left) = (self.said + 1, self.left - 1);
        word.len()
    }
}

fn run_source(bytes: &[u8]) -> Reached {
    const FIRST: Sqn = Sqn(u32::MAX - 40);
    const REPAIR_RATE: u64 = 100_000;
    let (start, mut now) = (Instant::now(), Duration::ZERO);
    let mut config = SourceConfig::new(Tsi::from_seed(1), PORT, GROUP, NLA);
    (config.window_packets, config.first, config.tsdu_max) = (37, FIRST, 100);
    config.repair_rate = Some(REPAIR_RATE);
    let memory = FrameMut::own(config.memory_len()).expect("there is memory");
    let mut source = Source::new(start, config, memory);
    let (mut words, mut input, mut reached, mut next) =
        (Words::default(), Input(bytes), Reached::default(), FIRST);
    let tsi = source.tsi();
    let mut repaired_bytes = 0;
    for _ in 0..OPS_MAX {
        let Some(op) = input.byte() else { break };
        let from = IpAddr::from([10, 0, op >> 4, input.small() as u8 & 3]);
        match op & 0x0f {
            0..=4 => {
                let mut list = [Sqn(0); NAK_LIST_MAX];
                let len = (input.small() as usize % 16).min(NAK_LIST_MAX);
                list[..len].iter_mut().for_each(|sqn| *sqn = input.sqn(next));
                let nak = Nak { sqn: input.sqn(next), source: NLA, group: GROUP };
                let named = [Opt::NakList(NakList::Sqns(&list[..len]))];
                source.handle(start + now, from, &packet(tsi, Body::Nak(nak), &named[..len.min(1)]));
            }
            5 => source.handle(start + now, from, &packet(tsi, Body::Spmr, &[])),
            6..=9 => words.left += input.small() % 50,
            10 | 11 => now += Duration::from_micros(u64::from(input.small()).pow(2)),
            12 if op >> 4 == 15 => source.finish(start + now),
            _ => {
                source.prepare(start + now, 1 + input.small() as usize % 64, &mut words);
                // The socket takes some of them.
                let taken = input.small() as usize % 80;
                for (to, bytes) in source.datagrams().take(taken) {
                    assert_eq!(to, To::Group);
                    let packet = Packet::parse(bytes).expect("ours is well-formed");
                    match packet.body {
                        Body::Odata(data) => {
                            assert_eq!((data.sqn, data.tsdu), (next, &word(next.since(FIRST) as u32)[..]));
                            assert!(data.sqn.within(data.trail, 37).is_some());
                            next = next.next();
                        }
                        Body::Rdata(data) => {
                            assert!(data.sqn.before(next), "a repair of what was not sent");
                            assert_eq!(data.tsdu, &word(data.sqn.since(FIRST) as u32)[..]);
                            repaired_bytes += bytes.len() as u64;
                            reached.repairs += 1;
                        }
                        Body::Ncf(_) => {
                            assert!(
                                packet
                                    .sqns()
                                    .all(|sqn| sqn.since(FIRST) >= 0 && sqn.before(source.lead().next()))
                            );
                            reached.confirmed += 1;
                        }
                        Body::Spm(spm) => assert!(spm.lead.next().since(spm.trail) <= 37),
                        other => panic!("{other:?}"),
                    }
                }
                source.sent(taken);
            }
        }
        assert!(source.lead().next().since(source.trail()) <= 37);
    }
    assert!(
        repaired_bytes <= REPAIR_RATE * (2 + now.as_secs()),
        "{repaired_bytes} bytes of repairs in {now:?}"
    );
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use crate::testing::random::Random;

    impl Reached {
        fn add(&mut self, other: Self) {
            self.data += other.data;
            self.lost += other.lost;
            self.naks += other.naks;
            self.downs += other.downs;
            self.repairs += other.repairs;
            self.confirmed += other.confirmed;
            self.messages += other.messages;
            self.dropped += other.dropped;
        }
    }

    fn replay(target: &str, mut check: impl FnMut(&[u8])) {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
        let mut replayed = 0;
        for entry in std::fs::read_dir(format!("{corpus}{target}")).expect("the corpus is checked in") {
            let path = entry.expect("readable").path();
            println!("{}", path.display());
            check(&std::fs::read(path).expect("readable"));
            replayed += 1;
        }
        assert!(replayed > 0);
    }

    #[test]
    fn the_corpora_hold() {
        let mut all = Reached::default();
        let mut packets = 0;
        replay("pgm_packet", |bytes| {
            check_packet(bytes);
            packets += u64::from(Packet::parse(bytes).is_ok());
        });
        replay("pgm_stream", |bytes| all.add(run_stream(bytes)));
        replay("pgm_receiver", |bytes| all.add(run_receiver(bytes)));
        replay("pgm_source", |bytes| all.add(run_source(bytes)));
        assert!(
            packets >= 10 && all.messages > 5 && all.dropped > 2,
            "the corpus gets nowhere: {packets} {all:?}"
        );
        assert!(
            all.data > 50 && all.lost > 10 && all.naks > 5 && all.downs > 2,
            "the corpus gets nowhere: {all:?}"
        );
        assert!(all.repairs > 20 && all.confirmed > 10, "the corpus gets nowhere: {all:?}");
    }

    /// Runs programs of random bytes, most of them of `ops`.
    fn programs(count: u64, ops: &[u8], mut run: impl FnMut(&[u8]) -> Reached) -> Reached {
        let mut all = Reached::default();
        for seed in 0..count {
            let mut random = Random::new(seed);
            let len = random.below(700) as usize;
            let byte = |_| match random.below(3) {
                0 => random.next() as u8,
                _ => ops[random.below(ops.len() as u64) as usize],
            };
            let bytes: Vec<u8> = (0..len).map(byte).collect();
            // Shown when the test fails.
            println!("seed {seed}");
            all.add(run(&bytes));
        }
        all
    }

    #[test]
    fn random_programs_hold() {
        let all = programs(3000, &[0, 1, 0x10, 0x11, 2, 0x12, 5, 6, 0x0e, 0x0d, 13, 60, 61], run_receiver);
        assert!(all.data > 20_000 && all.lost > 1000 && all.naks > 1000 && all.downs > 1000, "{all:?}");
        let all = programs(3000, &[0, 1, 0x16, 8, 10, 13, 14, 15, 59, 40, 30], run_source);
        assert!(all.repairs > 10_000 && all.confirmed > 5000, "{all:?}");
        let all = programs(3000, &[0, 0, 0, 2, 1, 5, 20, 255], run_stream);
        assert!(all.messages > 500 && all.dropped > 1000, "{all:?}");
    }

    #[test]
    fn every_byte_of_golden_packets_may_be_any() {
        let mut read = 0;
        for record in
            golden::FILES.into_iter().flat_map(golden::records).filter(|record| record.bytes.len() < 100)
        {
            for at in 0..record.bytes.len() {
                for change in [1, 0x80, 0xff, 0x7f, 4] {
                    let mut bytes = record.bytes.to_vec();
                    bytes[at] ^= change;
                    check_packet(&bytes);
                    check_packet(&record.bytes[..at]);
                    bytes[6..8].fill(0);
                    read += u32::from(again(&bytes));
                }
            }
        }
        assert!(read > 1000, "nearly all are refused");
    }
}
