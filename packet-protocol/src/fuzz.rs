//! The machine under any packets and completions at all: properties for the fuzz targets and for the test that replays
//! their corpus. Not part of the interface; no product calls it.

use std::collections::VecDeque;

use transport_core::{
    Completion, DownReason, Frame, FrameMut, FramePool, Grant, Hello, LinkId, Part, SlabKey, Violation,
};

use crate::{
    ConnectError, Exposed, Machine, Memory, Offer, Policy, Read, Refusal, Reserve, Stock, Terms, VERSION,
    Ways,
};

/// Any bytes as connection data, and as a refusal: what is accepted can be said, and both sides make the same of it.
pub fn check_connection(bytes: &[u8]) {
    let ours = Offer { packet_len: 4096, data_credits: 7, ..Offer::new(Hello::NULL) };
    match Offer::decode(bytes) {
        Ok(theirs) => {
            assert_eq!(Offer::decode(&theirs.encode()), Ok(theirs));
            let (here, there) = (Terms::agree(&ours, &theirs), Terms::agree(&theirs, &ours));
            let mirrored = |credits: Ways<u16>| (credits.receiving, credits.sending);
            assert_eq!(
                (here.data_credits.sending, here.data_credits.receiving),
                mirrored(there.data_credits)
            );
            assert_eq!((here.packet_len, here.reads), (there.packet_len, there.reads));
            assert_eq!((here.transfers, here.features), (there.transfers, there.features));
        }
        Err(ConnectError::Version(version)) => assert_ne!(version.major, VERSION.major),
        Err(_) => {}
    }
    if let Some(refusal) = Refusal::decode(bytes) {
        assert_eq!(Refusal::decode(&refusal.encode()), Some(refusal));
    }
}

const PACKET: usize = 512;
const BUFFERS: u32 = 12;
const CHUNK: usize = 100;

/// How the connection breaks, when it does.
const GONE: DownReason = DownReason::Broken(5);

/// Packets that one `fill` makes due at most: all credit that there can be. More is a machine that talks for ever.
const FILLED_MAX: u64 = u16::MAX as u64 + 3;

/// Programs longer than this are cut, so that a run takes no time worth mentioning.
const OPS_MAX: usize = 400;

/// A program for one machine: packets from a peer that may be any, completions in any order, and an engine that asks for
/// anything. The machine takes it or ends the link; it delivers what the packets say, as granted, and loses no memory.
pub fn check_packets(bytes: &[u8]) {
    run(bytes);
}

/// How far a program got.
#[derive(Debug, Default, Clone, Copy)]
struct Reached {
    packets: u64,
    parts: u64,
    fetched: u64,
    errors: u64,
    filled: u64,
    /// Goodbyes, and answers to ours, that were taken.
    goodbyes: u64,
}

fn run(bytes: &[u8]) -> Reached {
    let pool = FramePool::new(1 << 20);
    let mut world = Hostile::new(&pool, bytes);
    for _ in 0..OPS_MAX {
        let Some(op) = world.input.byte() else { break };
        world.step(op);
    }
    let reached = world.end();
    assert_eq!(pool.usage().lent_slots, 0, "a slot was lost");
    reached
}

/// The bytes of a program.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }
    /// Zero at the end.
    fn small(&mut self) -> usize {
        self.byte().unwrap_or(0).into()
    }
    fn number(&mut self) -> usize {
        self.small() | self.small() << 8
    }
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// A part as the packets say it: COMMAND, MORE, and the body, or the length of what is to be READ.
#[derive(Debug)]
enum Wanted {
    Here(bool, bool, Vec<u8>),
    Fetched(bool, bool, u64, usize),
}

/// What a peer's memory holds.
fn memory_at(address: u64) -> u8 {
    (address ^ address >> 8) as u8
}

/// A driver that knows the memory of some frames, by their length. What it takes is in `spliced`.
#[derive(Debug)]
struct Patchwork {
    spliced: Vec<(usize, Frame)>,
}

impl Memory for Patchwork {
    type Pin = Frame;

    fn splice(&mut self, at: usize, frame: Frame) -> Result<(), Frame> {
        if !frame.len().is_multiple_of(2) {
            return Err(frame);
        }
        self.spliced.push((at, frame));
        Ok(())
    }
    fn expose(&mut self, frame: Frame) -> Result<Exposed<Frame>, Frame> {
        if frame.len().is_multiple_of(3) {
            return Err(frame);
        }
        Ok(Exposed { address: 0, key: 0, pin: frame })
    }
}

struct Hostile<'a> {
    input: Input<'a>,
    machine: Machine<Vec<u8>, Frame, usize>,
    stock: Stock,
    posted: Vec<Vec<u8>>,
    reads: Vec<Read<usize>>,
    failed: usize,
    /// Memory that is lent for READs, by the name that the machine was told.
    targets: Vec<Option<FrameMut>>,
    wanted: VecDeque<Wanted>,
    /// A part that comes in fragments.
    partial: Option<(u8, u64, Vec<u8>)>,
    grant: u64,
    closed: bool,
    controls_sent: u32,
    granted: u32,
    /// What the machine has told in its last packet: data packets granted, control packets seen, transfers finished.
    told: [u32; 3],
    data_received: u32,
    control_received: u32,
    announced: u32,
    parts_posted: u64,
    sent: u64,
    reached: Reached,
}

impl<'a> Hostile<'a> {
    fn new(pool: &FramePool, bytes: &'a [u8]) -> Self {
        let offer = Offer {
            packet_len: PACKET as u32,
            data_credits: 6,
            reads: 2,
            transfers: 4,
            ..Offer::new(Hello::NULL)
        };
        let policy = Policy {
            rendezvous_min: 300,
            splice_min: 100,
            read_chunk: CHUNK,
            part_max: Some(5000),
            window_max: 8,
            ..Policy::default()
        };
        let reserve = Reserve::new();
        reserve.add(BUFFERS);
        let seat = reserve.seat(&offer).expect("buffers are posted");
        Self {
            input: Input(bytes),
            machine: Machine::new(Terms::agree(&offer, &offer), policy, seat),
            stock: Stock::new(pool.clone()),
            posted: (0..BUFFERS).map(|_| vec![0; PACKET]).collect(),
            reads: Vec::new(),
            failed: 0,
            targets: Vec::new(),
            wanted: VecDeque::new(),
            partial: None,
            grant: 0,
            closed: false,
            controls_sent: 0,
            granted: 6,
            told: [6, 0, 0],
            data_received: 0,
            control_received: 0,
            announced: 0,
            parts_posted: 0,
            sent: 0,
            reached: Reached::default(),
        }
    }

    fn step(&mut self, op: u8) {
        match op % 16 {
            0 => {
                let len = self.input.number() % (PACKET + 1);
                let mut packet = self.input.take(len).to_vec();
                packet.resize(len, 0);
                self.receive(&packet);
            }
            // A peer that keeps its promises, and one that need not.
            kind @ 1..=5 => {
                let announced = self.announced;
                let packet = self.build(kind == 1);
                if kind != 1 || self.may_send(&packet) {
                    self.receive(&packet);
                } else {
                    self.announced = announced;
                }
            }
            6 => {
                self.grant = self.input.small() as u64;
                self.machine.grant(Grant::Limited(self.grant));
            }
            7 => self.poll(usize::MAX),
            8 => self.take_spent(),
            9 => self.poll_reads(),
            10 | 11 => {
                let which = self.input.small();
                self.finish_read(which, op % 16 == 10);
            }
            12 => self.fill(),
            13 => {
                let len = self.input.number() % 2000;
                let part = match len % 5 {
                    0 => Part::command(vec![1; len]),
                    1 => Part::more(vec![2; len]),
                    _ => Part::last(vec![3; len]),
                };
                self.parts_posted += u64::from(self.machine.post(&mut self.stock, part).is_ok());
            }
            14 => match self.input.small() % 8 {
                0 => {
                    self.machine.drain(&mut self.stock);
                    self.closed = true;
                }
                1 => {
                    self.machine.abort(DownReason::ClosedHere);
                    self.closed = true;
                }
                2 => self.machine.disconnected(GONE),
                _ => {}
            },
            _ => {
                let limit = self.input.small() % 8;
                self.poll(limit);
            }
        }
    }

    /// Whether the machine has given credit for a packet, as a lawful peer would count it.
    fn may_send(&self, packet: &[u8]) -> bool {
        let [granted, control_seen, _] = self.told;
        match packet[0] {
            1 => self.data_received < granted,
            _ => self.control_received < control_seen + 3,
        }
    }

    /// A packet that is lawful as far as the program does not say otherwise.
    fn build(&mut self, lawful: bool) -> Vec<u8> {
        let flags = self.input.byte().unwrap_or(0);
        let rest = self.input.small();
        let (records, fins) = (rest % 8, rest as u32 >> 3 & 3);
        let mut packet = vec![1, flags & 1, records as u8, 0];
        // Credit comes on top of what there was, or goes back.
        self.granted = match flags >> 4 {
            15 => self.granted.wrapping_sub(1),
            more => self.granted.wrapping_add(more.into()),
        };
        let granted = self.granted;
        // Acknowledges all of our control packets; FINs as many transfers as the program likes.
        packet.extend([granted, self.controls_sent, fins].map(u32::to_le_bytes).as_flattened());
        if records == 0 {
            (packet[0], packet[1]) = (2, flags & 7);
        }
        for _ in 0..records {
            let (kind, len) = (self.input.byte().unwrap_or(0), self.input.number());
            let (mut mark, len) = (kind & 0x37, len % 120);
            if lawful && mark & 0x30 == 0x10 {
                if self.announced >= self.told[2] + 4 {
                    mark &= !0x10;
                    self.input.number();
                } else {
                    self.announced += 1;
                }
            }
            let payload = match mark & 0x30 {
                0x10 => {
                    let (len, address) = (self.input.number() as u64 % 6000, 1 << 40 | len as u64);
                    [len, address, 5].map(u64::to_le_bytes).as_flattened().to_vec()
                }
                0x20 => {
                    let total = match &self.partial {
                        Some((_, total, _)) => *total,
                        None => self.input.small() as u64,
                    };
                    let mut payload = total.to_le_bytes().to_vec();
                    payload.extend((0..len).map(|at| at as u8));
                    payload
                }
                _ => (0..len).map(|at| (at + len) as u8).collect(),
            };
            packet.extend((payload.len() as u32).to_le_bytes());
            packet.extend([mark, 0, 0, 0]);
            packet.extend(payload);
            packet.resize(packet.len().next_multiple_of(8), 0);
        }
        packet.truncate(PACKET);
        packet
    }

    fn receive(&mut self, packet: &[u8]) {
        let Some(mut buffer) = self.posted.pop() else { return };
        let ended = self.machine.ending();
        buffer[..packet.len()].copy_from_slice(packet);
        match self.machine.received(buffer, packet.len()) {
            Ok(()) if ended.is_some_and(|reason| reason != GONE) => {}
            Ok(()) => {
                self.reached.packets += 1;
                self.reached.goodbyes += u64::from(packet[1] & 6 != 0);
                *(if packet[0] == 1 { &mut self.data_received } else { &mut self.control_received }) += 1;
                self.read_as_told(packet);
            }
            Err(error) => {
                self.reached.errors += 1;
                let reason = DownReason::Violation(Violation::from(error));
                assert_eq!(self.machine.ending(), Some(reason), "an error ends the link");
                self.closed = true;
            }
        }
    }

    /// What the machine must come to, said as simply as can be. Only for packets that it took.
    fn read_as_told(&mut self, packet: &[u8]) {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let mut rest = &packet[16..];
        for _ in 0..u16::from_le_bytes([packet[2], packet[3]]) {
            let (len, mark) = (word(rest) as u32 as usize, rest[4]);
            let body = &rest[8..8 + len];
            let (command, more) = (mark & 4 != 0, mark & 1 != 0);
            match mark & 0x30 {
                0x10 => {
                    let fetched = Wanted::Fetched(command, more, word(&body[8..]), word(body) as usize);
                    self.wanted.push_back(fetched);
                }
                0x20 => {
                    let total = word(body);
                    let (_, _, bytes) = self.partial.get_or_insert((mark, total, Vec::new()));
                    bytes.extend_from_slice(&body[8..]);
                    if bytes.len() as u64 == total
                        && let Some((_, _, bytes)) = self.partial.take()
                    {
                        self.wanted.push_back(Wanted::Here(command, more, bytes));
                    }
                }
                _ => self.wanted.push_back(Wanted::Here(command, more, body.to_vec())),
            }
            rest = &rest[8 + len.next_multiple_of(8)..];
        }
        assert!(rest.is_empty());
    }

    fn poll(&mut self, limit: usize) {
        let link = LinkId::from(SlabKey::from_u64(1 << 32));
        let mut out = Vec::new();
        let polled = self.machine.poll(&mut self.stock, link, &mut out, limit);
        assert!(polled.is_ok() || self.machine.ending().is_some());
        let mut received = 0;
        for said in out {
            match said {
                Completion::Received { part, .. } => {
                    received += 1;
                    self.compare(&part);
                }
                Completion::Sent { through, .. } => {
                    assert!(through > self.sent && through <= self.parts_posted);
                    self.sent = through;
                }
                Completion::Writable { .. } => {}
                said => panic!("{said:?} from a poll"),
            }
        }
        assert!(received <= limit);
    }

    fn compare(&mut self, part: &Part) {
        assert!(!self.closed, "Received after an end");
        self.reached.parts += 1;
        let (command, more, body) = match self.wanted.pop_front().expect("no packet said so") {
            Wanted::Here(command, more, body) => (command, more, body),
            Wanted::Fetched(command, more, address, len) => {
                self.reached.fetched += 1;
                (command, more, (0..len).map(|at| memory_at(address + at as u64)).collect())
            }
        };
        assert_eq!((part.flags.command(), part.flags.more()), (command, more));
        assert_eq!(*part.body, *body);
        if !command {
            self.grant = self.grant.checked_sub(1).expect("a part without grant");
        }
    }

    fn take_spent(&mut self) {
        while let Some(buffer) = self.machine.take_spent() {
            self.posted.push(buffer);
        }
        assert!(self.posted.len() <= BUFFERS as usize);
    }

    fn poll_reads(&mut self) {
        let Self { machine, stock, targets, reads, .. } = self;
        let mut lend = |frame| {
            targets.push(Some(frame));
            targets.len() - 1
        };
        while let Ok(Some(read)) = machine.poll_read(stock, &mut lend) {
            reads.push(read);
        }
        for read in &self.reads {
            let target = self.targets[read.target].as_ref().expect("lent until its READs are done");
            assert!(read.len > 0 && read.len <= CHUNK && read.offset + read.len <= target.len());
        }
        assert!(self.reads.len() <= 2, "more READs than were agreed");
        assert_eq!(self.reads.len() + self.failed, self.machine.reads_under_way());
    }

    fn finish_read(&mut self, which: usize, arrived: bool) {
        if self.reads.is_empty() {
            return;
        }
        let read = self.reads.remove(which % self.reads.len());
        if arrived {
            let target = self.targets[read.target].as_mut().expect("lent until its READs are done");
            for at in 0..read.len {
                target[read.offset + at] = memory_at(read.address + at as u64);
            }
            let targets = &mut self.targets;
            self.machine.read_done(&mut self.stock, read.id, |target| targets[target].take());
        } else {
            // A READ that fails takes its queue pair along, and is never done.
            self.failed += 1;
            self.machine.disconnected(GONE);
        }
    }

    fn fill(&mut self) {
        let mut buffer = vec![0; PACKET];
        self.take_spent();
        let before = self.reached.filled;
        loop {
            assert!(self.reached.filled - before <= FILLED_MAX, "packets without end");
            let mut memory = Patchwork { spliced: Vec::new() };
            let Some(packet) = self.machine.fill(&mut self.stock, &mut buffer, &mut memory) else { break };
            let (mut len, mut from) = (packet.buffered, 0);
            for (at, frame) in &memory.spliced {
                assert!((from..=packet.buffered).contains(at));
                (len, from) = (len + frame.len(), *at);
            }
            assert_eq!((packet.len, packet.spliced), (len, memory.spliced.len()));
            assert!(packet.len <= PACKET && packet.len.is_multiple_of(8));
            self.controls_sent += u32::from(packet.control);
            self.reached.filled += 1;
            let word = |at: usize| {
                buffer[at..at + 4].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
            };
            self.told = [word(4), word(8), word(12)];
            self.machine.packets_done(packet.number);
        }
    }

    fn end(mut self) -> Reached {
        self.machine.abort(DownReason::ClosedHere);
        let mut out = Vec::new();
        let link = LinkId::from(SlabKey::from_u64(1 << 32));
        self.machine.bury(&mut self.stock, link, &mut out);
        assert!(out.iter().all(|said| matches!(said, Completion::Returned { .. })));
        assert_eq!(self.machine.reads_under_way(), 0);
        self.targets.clear();
        assert!(out.len() as u64 + self.sent <= self.parts_posted);
        self.take_spent();
        assert_eq!(self.posted.len(), BUFFERS as usize, "a receive buffer was lost");
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::media::{Chance, each_seed};

    fn replay(target: &str, mut check: impl FnMut(&[u8])) {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
        let mut replayed = 0;
        for entry in std::fs::read_dir(format!("{corpus}{target}")).expect("the corpus is checked in") {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed > 0);
    }

    #[test]
    fn the_corpus_holds() {
        let mut all = Reached::default();
        replay("packet", |bytes| all.add(run(bytes)));
        let deep = all.packets > 20
            && all.parts > 10
            && all.fetched > 4
            && all.errors > 10
            && all.filled > 5
            && all.goodbyes > 3;
        assert!(deep, "the corpus gets nowhere: {all:?}");
        replay("connection", check_connection);
    }

    impl Reached {
        fn add(&mut self, other: Self) {
            self.packets += other.packets;
            self.parts += other.parts;
            self.fetched += other.fetched;
            self.errors += other.errors;
            self.filled += other.filled;
            self.goodbyes += other.goodbyes;
        }
    }

    /// Mostly lawful, or nothing would live long enough to be interesting.
    fn program(chance: &mut Chance) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..chance.below(200) {
            let op = match chance.below(400) {
                0 => 0,
                1 => 14,
                2 => 11,
                3..160 => 1,
                _ => [6, 7, 8, 9, 9, 10, 10, 10, 12, 12, 13, 15][chance.below(12)],
            };
            bytes.push(op);
            match op {
                0 => bytes.extend((0..2 + chance.below(40)).map(|_| chance.word() as u8)),
                1..=5 => {
                    let records = if chance.below(8) == 0 { 0 } else { 1 + chance.below(3) };
                    let end = chance.below(24);
                    let marks = if records == 0 && end < 4 { end << 1 & 6 } else { chance.below(2) };
                    let fins = if chance.below(30) == 0 { chance.below(4) } else { 0 };
                    bytes.extend([(chance.below(4) << 4 | marks) as u8, (fins << 3 | records) as u8]);
                    for _ in 0..records {
                        let any = if chance.below(20) == 0 { chance.below(64) } else { 0x10 };
                        let kind = [0, 1, 4, 0, 1, 0x10, 0x11, 0x14, 0x20, any][chance.below(10)];
                        bytes.push(kind as u8);
                        let len = if kind == 0x20 { 9 + chance.below(30) } else { chance.below(120) };
                        bytes.extend((len as u16).to_le_bytes());
                        match kind & 0x30 {
                            0x10 => bytes.extend((1 + chance.below(4999) as u16).to_le_bytes()),
                            0x20 => bytes.push(len as u8),
                            _ => {}
                        }
                    }
                }
                6 | 10 | 11 | 15 => bytes.push(chance.word() as u8),
                13 => bytes.extend((chance.word() as u16).to_le_bytes()),
                14 => bytes.push(chance.below(3) as u8),
                _ => {}
            }
        }
        bytes
    }

    #[test]
    fn random_programs_hold() {
        let mut all = Reached::default();
        each_seed(0..9000, |seed| {
            let mut chance = Chance::new(seed);
            all.add(run(&program(&mut chance)));
        });
        let deep = all.packets > 10_000 && all.parts > 5000 && all.fetched > 300 && all.goodbyes > 50;
        assert!(deep && all.errors > 500 && all.filled > 5000, "random programs get nowhere: {all:?}");
    }

    #[test]
    fn every_byte_of_connection_data_may_be_any() {
        let lawful = Offer::new(Hello::NULL).encode();
        for at in 0..lawful.len() {
            for value in 0..=u8::MAX {
                let mut bytes = lawful;
                bytes[at] = value;
                check_connection(&bytes);
            }
            check_connection(&lawful[..at]);
        }
    }
}
