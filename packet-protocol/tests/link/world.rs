//! Two hosts with links between them, on a wire that loses nothing and promises nothing else: when a packet leaves, when
//! a completion is polled, when a READ is served is all up to the test. Checks on its way what must always hold: a receive
//! buffer is posted for every packet, memory is there as long as a device may read it, parts arrive once and in order
//! and only as granted. Holds no test.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use fabriq_packet_protocol::{Exposed, Machine, Memory, Offer, Policy, Read, Reserve, Stock, Terms};
use testkit::media::Chance;
use transport_core::{
    Completion, DownReason, Frame, FrameMut, FramePool, Grant, Hello, LinkId, Part, SlabKey,
};

/// Rounds in which everything that can happen does, after which a world must be at rest. The longest exchange here takes
/// some hundreds.
const ROUNDS_MAX: usize = 10_000;

/// Packets, READs or completions that one end may have at once. Beyond it a machine asks for more and more.
const AT_ONCE_MAX: usize = 10_000;

/// Why a connection breaks here: ECONNRESET.
pub(crate) const BROKEN: DownReason = DownReason::Broken(104);

/// The link's id, of which the machine only makes completions.
pub(crate) fn link() -> LinkId {
    LinkId::from(SlabKey::from_u64(1 << 32))
}

/// What a part is to be, and whether it arrived so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) seq: u32,
    pub(crate) len: usize,
    pub(crate) more: bool,
    pub(crate) command: bool,
    /// In memory that the device knows.
    pub(crate) registered: bool,
}

impl Item {
    pub(crate) fn plain(seq: u32, len: usize) -> Self {
        Self { seq, len, more: false, command: false, registered: true }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Every byte differs from its neighbours and from those of the parts before and behind.
        (0..self.len).map(|at| (at as u32).wrapping_mul(7).wrapping_add(self.seq * 31) as u8).collect()
    }
}

/// Memory of one host as devices see it: where a body lies, and whether it is still there.
#[derive(Debug, Default, Clone)]
pub(crate) struct Bodies(Arc<Mutex<HashMap<usize, Body>>>, Arc<AtomicU64>);

/// The address is made up, so that it is the same whenever a test is run again, and never used twice.
#[derive(Debug)]
struct Body {
    address: u64,
    bytes: Weak<Vec<u8>>,
}

struct Owner(Arc<Vec<u8>>);
impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Bodies {
    fn body(&self, item: &Item) -> Frame {
        let bytes = item.bytes();
        if !item.registered || bytes.is_empty() {
            return Frame::from(bytes);
        }
        let bytes = Arc::new(bytes);
        let number = self.1.fetch_add(1, Relaxed) + 1;
        let body = Body { address: number << 32, bytes: Arc::downgrade(&bytes) };
        self.0.lock().unwrap().insert(bytes.as_ptr().addr(), body);
        Frame::from(bytes::Bytes::from_owner(Owner(bytes)))
    }

    pub(crate) fn alive(&self) -> usize {
        self.0.lock().unwrap().values().filter(|body| body.bytes.upgrade().is_some()).count()
    }

    /// Where the device finds a frame, if it knows its memory.
    fn address(&self, frame: &Frame) -> Option<u64> {
        let bodies = self.0.lock().unwrap();
        let body = bodies.get(&frame.as_ptr().addr())?;
        (body.bytes.upgrade()?.len() == frame.len()).then_some(body.address)
    }

    /// What a device finds at an address. Panics if the memory has been let go.
    fn look(&self, address: u64, len: usize) -> Vec<u8> {
        let bodies = self.0.lock().unwrap();
        let found = bodies.values().find_map(|body| {
            let offset = usize::try_from(address.checked_sub(body.address)?).ok()?;
            body.bytes.upgrade()?.get(offset..offset + len).map(<[u8]>::to_vec)
        });
        found.expect("memory was let go while a device may read it")
    }
}

/// What every body that is exposed is registered under.
const KEY: u64 = 2;

/// The driver's side of one `fill`.
#[derive(Debug)]
struct Filling<'a> {
    bodies: &'a Bodies,
    spliced: Vec<(usize, Frame)>,
}

impl Memory for Filling<'_> {
    type Pin = Frame;

    fn splice(&mut self, at: usize, frame: Frame) -> Result<(), Frame> {
        if self.bodies.address(&frame).is_none() {
            return Err(frame);
        }
        self.spliced.push((at, frame));
        Ok(())
    }
    fn expose(&mut self, frame: Frame) -> Result<Exposed<Frame>, Frame> {
        match self.bodies.address(&frame) {
            Some(address) => Ok(Exposed { address, key: KEY, pin: frame }),
            None => Err(frame),
        }
    }
}

#[derive(Debug)]
enum Piece {
    Copied(Vec<u8>),
    Spliced(Frame),
}

/// A packet that was posted and has not left.
#[derive(Debug)]
pub(crate) struct Posted {
    number: u32,
    control: bool,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Cqe {
    Received { buffer: Vec<u8>, len: usize },
    SendsDone(u32),
    ReadDone(Read<usize>),
}

/// One side of one link, with its queue pair.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) machine: Machine<Vec<u8>, Frame, usize>,
    queue: usize,
    pub(crate) send_queue: VecDeque<Posted>,
    /// The last packet that left, if the completion was not made yet.
    left: Option<u32>,
    /// Frames of packets that left and whose completion was not polled.
    leaving: VecDeque<(u32, Frame)>,
    cq: VecDeque<Cqe>,
    reads: Vec<Read<usize>>,
    /// Memory that READs land in, by the name that the machine was told.
    pub(crate) targets: Vec<Option<FrameMut>>,
    /// What was posted here, in order, and how much of it has come back as Sent.
    pub(crate) items: Vec<Item>,
    pub(crate) sent: u64,
    pub(crate) writables: u64,
    pub(crate) starved: bool,
    /// How many items of the other side have arrived here.
    pub(crate) arrived: usize,
    grant: Grant,
    pub(crate) returned: Vec<Frame>,
    pub(crate) closed: bool,
    pub(crate) down: Option<DownReason>,
    /// The queue pair is in error, and whether the driver has heard of it.
    severed: bool,
    told: bool,
    /// Packets that left from here.
    pub(crate) data_packets: u64,
    pub(crate) control_packets: u64,
    pub(crate) spliced: u64,
    pub(crate) polled_reads: u64,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) stock: Stock,
    pub(crate) pool: FramePool,
    pub(crate) bodies: Bodies,
    /// Receive queues, and who counts on them.
    queues: Vec<VecDeque<Vec<u8>>>,
    pub(crate) reserves: Vec<Reserve>,
}

/// How a world is built.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) offers: [Offer; 2],
    pub(crate) policies: [Policy; 2],
    /// Buffers posted beyond what links begin with, per receive queue.
    pub(crate) extra: u32,
    pub(crate) links: usize,
    /// Whether all links of host 1 share a receive queue.
    pub(crate) shared: bool,
    pub(crate) start: u32,
    pub(crate) pool: usize,
}

impl Plan {
    /// Small packets and depths, so that everything runs into its limits.
    pub(crate) fn small() -> Self {
        let offer = Offer { packet_len: 512, reads: 2, transfers: 3, ..Offer::new(Hello::NULL) };
        let policy = Policy {
            rendezvous_min: 2000,
            splice_min: 100,
            splices: 2,
            read_chunk: 1000,
            window_max: 8,
            ..Policy::default()
        };
        Self {
            offers: [offer; 2],
            policies: [policy; 2],
            extra: 3,
            links: 1,
            shared: false,
            start: 0,
            pool: 4 << 20,
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hosts: [Host; 2],
    /// By link, then by host.
    pub(crate) ends: Vec<[End; 2]>,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self::with_terms(plan, |terms| terms)
    }

    /// With terms that no offer leads to.
    pub(crate) fn with_terms(plan: &Plan, change: impl Fn(Terms) -> Terms) -> Self {
        let mut hosts = [0, 1].map(|_| {
            let pool = FramePool::new(plan.pool);
            let (stock, bodies) = (Stock::new(pool.clone()), Bodies::default());
            Host { stock, pool, bodies, queues: Vec::new(), reserves: Vec::new() }
        });
        let mut ends = Vec::new();
        for at in 0..plan.links {
            let mut side = |host: usize| {
                let (ours, theirs) = (&plan.offers[host], &plan.offers[1 - host]);
                let terms = change(Terms::agree(ours, theirs));
                let queue = if plan.shared && host == 1 { 0 } else { at };
                let it: &mut Host = &mut hosts[host];
                if it.queues.len() == queue {
                    it.queues.push(VecDeque::new());
                    it.reserves.push(Reserve::new());
                    it.post(queue, plan.extra as usize, terms.packet_len);
                }
                let base = usize::from(ours.data_credits) + usize::from(ours.control_credits);
                it.post(queue, base, terms.packet_len);
                let (data_credits, control_credits) =
                    (terms.data_credits.receiving, terms.control_credits.receiving);
                let promised = Offer { data_credits, control_credits, ..*ours };
                let seat = it.reserves[queue].seat(&promised).expect("buffers are posted");
                End::new(Machine::starting_at(plan.start, terms, plan.policies[host], seat), queue)
            };
            ends.push([side(0), side(1)]);
        }
        Self { hosts, ends }
    }

    /// Posts a part at a host, if there is room.
    pub(crate) fn post(&mut self, at: usize, host: usize, item: Item) -> bool {
        let (it, end) = (&mut self.hosts[host], &mut self.ends[at][host]);
        let body = it.bodies.body(&item);
        let part = match (item.command, item.more) {
            (true, _) => Part::command(body),
            (_, true) => Part::more(body),
            _ => Part::last(body),
        };
        match end.machine.post(&mut it.stock, part) {
            Ok(()) => {
                end.items.push(item);
                true
            }
            Err(refused) => {
                assert_eq!(refused.part.body, *item.bytes());
                end.starved = true;
                false
            }
        }
    }

    pub(crate) fn grant(&mut self, at: usize, host: usize, grant: Grant) {
        let end = &mut self.ends[at][host];
        end.grant = grant;
        end.machine.grant(grant);
    }

    pub(crate) fn drain(&mut self, at: usize, host: usize) {
        let end = &mut self.ends[at][host];
        end.closed = true;
        end.machine.drain(&mut self.hosts[host].stock);
    }

    pub(crate) fn abort(&mut self, at: usize, host: usize) {
        let end = &mut self.ends[at][host];
        end.closed = true;
        end.machine.abort(DownReason::ClosedHere);
    }

    /// The queue pair breaks, both ends of it: nothing that is posted will happen any more, and nothing of it completes. What
    /// is in a completion queue stays there, and each end learns of it when [`World::tell`] is called.
    pub(crate) fn sever(&mut self, at: usize) {
        for end in &mut self.ends[at] {
            end.severed = true;
        }
    }

    /// A device says that its queue pair is in error.
    pub(crate) fn tell(&mut self, at: usize, host: usize) -> bool {
        let end = &mut self.ends[at][host];
        if !end.severed || end.told || end.down.is_some() {
            return false;
        }
        end.told = true;
        end.machine.disconnected(BROKEN);
        true
    }

    fn is_dead(&self, at: usize) -> bool {
        self.ends[at].iter().any(|end| end.down.is_some() || end.severed)
    }

    /// The device sends the next packet, straight into a receive buffer of the peer's.
    pub(crate) fn transmit(&mut self, at: usize, host: usize) -> bool {
        if self.is_dead(at) {
            return false;
        }
        let Some(posted) = self.ends[at][host].send_queue.pop_front() else { return false };
        let mut bytes = Vec::new();
        let from = &mut self.ends[at][host];
        for piece in posted.pieces {
            match piece {
                Piece::Copied(copied) => bytes.extend(copied),
                Piece::Spliced(frame) => {
                    bytes.extend_from_slice(&frame);
                    from.leaving.push_back((posted.number, frame));
                }
            }
        }
        from.left = Some(posted.number);
        *(if posted.control { &mut from.control_packets } else { &mut from.data_packets }) += 1;
        let to = &mut self.ends[at][1 - host];
        let queue = &mut self.hosts[1 - host].queues[to.queue];
        let mut buffer = queue.pop_front().expect("receiver not ready: no buffer posted for a packet");
        buffer[..bytes.len()].copy_from_slice(&bytes);
        to.cq.push_back(Cqe::Received { buffer, len: bytes.len() });
        true
    }

    /// The device says how far it is with sending.
    pub(crate) fn complete_sends(&mut self, at: usize, host: usize) -> bool {
        let end = &mut self.ends[at][host];
        if end.severed {
            return false;
        }
        let Some(number) = end.left.take() else { return false };
        end.cq.push_back(Cqe::SendsDone(number));
        true
    }

    /// The device serves one of the READs.
    pub(crate) fn serve_read(&mut self, at: usize, host: usize, which: usize) -> bool {
        if self.is_dead(at) || self.ends[at][host].reads.is_empty() {
            return false;
        }
        let end = &mut self.ends[at][host];
        let read = end.reads.remove(which % end.reads.len());
        assert_eq!(read.key, KEY);
        let bytes = self.hosts[1 - host].bodies.look(read.address, read.len);
        let target = end.targets[read.target].as_mut().expect("a target is lent until its READs are done");
        target[read.offset..read.offset + read.len].copy_from_slice(&bytes);
        end.cq.push_back(Cqe::ReadDone(read));
        true
    }

    /// The driver takes one completion.
    pub(crate) fn poll_cq(&mut self, at: usize, host: usize) -> bool {
        let (it, end) = (&mut self.hosts[host], &mut self.ends[at][host]);
        match end.cq.pop_front() {
            Some(Cqe::Received { buffer, len }) => {
                if let Err(error) = end.machine.received(buffer, len) {
                    panic!("our own packet is refused: {error}");
                }
            }
            Some(Cqe::SendsDone(number)) => {
                end.machine.packets_done(number);
                let left = |packet: u32| number.wrapping_sub(packet) <= u32::MAX / 2;
                while end.leaving.pop_front_if(|(packet, _)| left(*packet)).is_some() {}
            }
            Some(Cqe::ReadDone(read)) => {
                end.machine.read_done(&mut it.stock, read.id, |target| end.targets[target].take());
            }
            None => return false,
        }
        true
    }

    /// The engine polls; what comes is checked.
    pub(crate) fn poll(&mut self, at: usize, host: usize, limit: usize) -> bool {
        let [a, b] = &mut self.ends[at];
        let (end, peer) = if host == 0 { (a, &b.items) } else { (b, &a.items) };
        if end.down.is_some() {
            return false;
        }
        let mut out = Vec::new();
        let polled = end.machine.poll(&mut self.hosts[host].stock, link(), &mut out, limit);
        assert!(polled.is_ok() || end.machine.ending().is_some());
        let progress = !out.is_empty();
        let received = out.iter().filter(|said| matches!(said, Completion::Received { .. })).count();
        assert!(received <= limit, "{received} parts for a budget of {limit}");
        for said in out {
            end.take(said, peer);
        }
        progress
    }

    /// The driver posts what is to be posted: at most so many packets.
    pub(crate) fn pump(&mut self, at: usize, host: usize, packets: usize) -> bool {
        let (it, end) = (&mut self.hosts[host], &mut self.ends[at][host]);
        if end.down.is_some() {
            return false;
        }
        let mut progress = false;
        while let Some(mut buffer) = end.machine.take_spent() {
            buffer.fill(0xDD);
            it.queues[end.queue].push_back(buffer);
            progress = true;
        }
        while let Ok(Some(read)) = end.machine.poll_read(&mut it.stock, |frame| lend(&mut end.targets, frame))
        {
            assert!(read.len > 0);
            end.reads.push(read);
            end.polled_reads += 1;
            assert!(end.reads.len() <= end.machine.terms().reads, "more READs than the peer answers");
            progress = true;
        }
        let packet_len = end.machine.terms().packet_len;
        for _ in 0..packets {
            let mut buffer = vec![0xEE; packet_len];
            let mut filling = Filling { bodies: &it.bodies, spliced: Vec::new() };
            let Some(packet) = end.machine.fill(&mut it.stock, &mut buffer, &mut filling) else { break };
            assert!(packet.len <= packet_len && packet.len.is_multiple_of(8));
            assert_eq!(filling.spliced.len(), packet.spliced);
            let (mut pieces, mut from, mut len) = (Vec::new(), 0, packet.buffered);
            for (at, frame) in filling.spliced {
                pieces.push(Piece::Copied(buffer[from..at].to_vec()));
                from = at;
                len += frame.len();
                pieces.push(Piece::Spliced(frame));
            }
            pieces.push(Piece::Copied(buffer[from..packet.buffered].to_vec()));
            assert_eq!(len, packet.len, "the pieces are the packet");
            end.spliced += packet.spliced as u64;
            end.send_queue.push_back(Posted { number: packet.number, control: packet.control, pieces });
            assert!(end.send_queue.len() < AT_ONCE_MAX, "packets without end");
            progress = true;
        }
        progress
    }

    /// Whether the link is at its end, and if so ends it: the queue pair goes, and both ends learn of it.
    pub(crate) fn reap(&mut self, at: usize, host: usize) -> bool {
        let Some(reason) = self.ends[at][host].machine.ending() else { return false };
        if self.ends[at][host].down.is_some() {
            return false;
        }
        // Completions that are there are polled to the last before the machine is buried.
        while self.poll_cq(at, host) {}
        let (it, end) = (&mut self.hosts[host], &mut self.ends[at][host]);
        // The queue pair is empty: what it read from and wrote to is nobody's but the driver's.
        end.reads.clear();
        end.send_queue.clear();
        end.leaving.clear();
        let mut out = Vec::new();
        end.machine.bury(&mut it.stock, link(), &mut out);
        for said in out {
            let Completion::Returned { part, .. } = said else { panic!("{said:?} from a burial") };
            end.returned.push(part.body);
        }
        end.targets.clear();
        while let Some(buffer) = end.machine.take_spent() {
            it.queues[end.queue].push_back(buffer);
        }
        end.down = Some(reason);
        self.sever(at);
        self.tell(at, 1 - host);
        true
    }

    /// Everything that can happen at one end, once. `false` when nothing could.
    pub(crate) fn turn(&mut self, at: usize, host: usize) -> bool {
        let mut progress = self.transmit(at, host);
        progress |= self.complete_sends(at, host);
        progress |= self.serve_read(at, host, 0);
        while self.poll_cq(at, host) {
            progress = true;
        }
        progress |= self.poll(at, host, 64);
        progress |= self.pump(at, host, AT_ONCE_MAX);
        progress |= self.tell(at, host);
        progress | self.reap(at, host)
    }

    /// Runs until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut progress = false;
            for at in 0..self.ends.len() {
                progress |= self.turn(at, 0);
                progress |= self.turn(at, 1);
            }
            if !progress {
                return;
            }
        }
        panic!("two ends talk for ever: {ROUNDS_MAX} rounds were not enough");
    }

    /// Something that can happen, by lot.
    pub(crate) fn step(&mut self, chance: &mut Chance) {
        let (at, host) = (chance.below(self.ends.len()), chance.below(2));
        match chance.below(12) {
            0..=2 => self.transmit(at, host),
            3 => self.complete_sends(at, host),
            4 | 5 => self.serve_read(at, host, chance.below(8)),
            6..=8 => self.poll_cq(at, host),
            9 => self.poll(at, host, 1 + chance.below(10)),
            10 if chance.below(8) == 0 => self.tell(at, host),
            _ => self.pump(at, host, chance.below(4)),
        };
        self.reap(at, host);
    }

    /// With everything granted, everything arrives: nobody waits for anybody for ever.
    pub(crate) fn finish(&mut self) {
        for at in 0..self.ends.len() {
            for host in 0..2 {
                self.grant(at, host, Grant::Unlimited);
            }
        }
        self.settle();
        for ends in &self.ends {
            for host in 0..2 {
                let (from, to) = (&ends[host], &ends[1 - host]);
                assert_eq!(from.items.len(), to.arrived, "parts that never arrive");
                assert_eq!(from.items.len() as u64, from.sent, "parts that are never Sent");
                assert!(!from.starved, "no room, and never a Writable");
            }
        }
    }

    /// All links end, and everything is where it was.
    pub(crate) fn dismantle(mut self) {
        for at in 0..self.ends.len() {
            self.abort(at, 0);
        }
        self.settle();
        for ends in &self.ends {
            assert!(ends.iter().all(|end| end.down.is_some()), "an end that never ends");
        }
        let buffers: Vec<_> =
            self.hosts.iter().map(|host| host.queues.iter().map(VecDeque::len).sum()).collect();
        self.ends.clear();
        for (host, buffers) in self.hosts.into_iter().zip(buffers) {
            let free: u32 = host.reserves.iter().map(Reserve::free).sum();
            assert_eq!(free as usize, buffers, "the reserve and the receive queues differ");
            assert!(host.stock.is_settled(), "memory lent on trust was not settled");
            drop(host.stock);
            assert_eq!(host.pool.usage().lent_slots, 0, "a slot was lost");
            let alive = host.bodies.alive();
            assert_eq!(alive, 0, "a body is still pinned");
        }
    }

    /// The state in which a link is, for a checker that has seen others.
    pub(crate) fn fingerprint(&self) -> String {
        let mut text = String::new();
        for end in self.ends.iter().flatten() {
            let End {
                machine, send_queue, left, leaving, cq, reads, items, arrived, sent, grant, down, ..
            } = end;
            let posted = items.len();
            let _ = write!(
                text,
                "{machine:?}{send_queue:?}{left:?}{leaving:?}{cq:?}{reads:?}{posted}{arrived}{sent}{grant:?}{down:?}|"
            );
        }
        for host in &self.hosts {
            let lens: Vec<_> = host.queues.iter().map(VecDeque::len).collect();
            let _ = write!(text, "{lens:?}");
        }
        text
    }
}

/// Keeps a target, at the first place that is vacant.
fn lend(targets: &mut Vec<Option<FrameMut>>, frame: FrameMut) -> usize {
    let at = targets.iter().position(Option::is_none).unwrap_or(targets.len());
    if at == targets.len() {
        targets.push(None);
    }
    targets[at] = Some(frame);
    at
}

impl Host {
    fn post(&mut self, queue: usize, buffers: usize, len: usize) {
        self.queues[queue].extend((0..buffers).map(|_| vec![0xDD; len]));
        self.reserves[queue].add(buffers as u32);
    }
}

impl End {
    /// Parts that may still be delivered.
    pub(crate) fn granted(&self) -> u64 {
        match self.grant {
            Grant::Limited(parts) => parts,
            Grant::Unlimited => u64::MAX,
        }
    }

    fn new(machine: Machine<Vec<u8>, Frame, usize>, queue: usize) -> Self {
        Self {
            machine,
            queue,
            send_queue: VecDeque::new(),
            left: None,
            leaving: VecDeque::new(),
            cq: VecDeque::new(),
            reads: Vec::new(),
            targets: Vec::new(),
            items: Vec::new(),
            sent: 0,
            writables: 0,
            starved: false,
            arrived: 0,
            grant: Grant::Limited(0),
            returned: Vec::new(),
            closed: false,
            down: None,
            severed: false,
            told: false,
            data_packets: 0,
            control_packets: 0,
            spliced: 0,
            polled_reads: 0,
        }
    }

    fn take(&mut self, said: Completion, peer: &[Item]) {
        match said {
            Completion::Received { part, .. } => {
                assert!(!self.closed, "Received after close_link");
                let item = peer.get(self.arrived).expect("more arrives than was posted");
                self.arrived += 1;
                assert_eq!((part.flags.more(), part.flags.command()), (item.more, item.command));
                assert_eq!(part.body, *item.bytes(), "{item:?} arrived changed, or out of order");
                if let (Grant::Limited(left), false) = (&mut self.grant, item.command) {
                    *left = left.checked_sub(1).expect("a part without grant");
                }
            }
            Completion::Sent { through, .. } => {
                assert!(through > self.sent && through <= self.items.len() as u64);
                self.sent = through;
            }
            Completion::Writable { .. } => {
                self.writables += 1;
                self.starved = false;
                assert!(self.machine.room() > 0);
            }
            said => panic!("{said:?} from a machine"),
        }
    }
}
