//! What links cost: nothing per message, little when idle, and nothing for what peers merely claim.

use std::collections::VecDeque;

use fabriq_packet_protocol::limits::SPLICES_MAX;
use fabriq_packet_protocol::{Exposed, Machine, Memory, Offer, Policy, Reserve, Stock, Terms};
use transport_core::{Completion, Frame, FrameMut, FramePool, Grant, Hello, Part};

use crate::world::link;

const PACKET: usize = 8192;

/// Turns of both sides in which at least one message arrives: it is posted, announced, read.
const TURNS_PER_MESSAGE_MAX: usize = 4;

type Link = Machine<Vec<u8>, Frame, u8>;

/// Two machines back to back, with nothing between that allocates.
struct Loop {
    ends: [(Link, Stock); 2],
    receive_queues: [VecDeque<Vec<u8>>; 2],
    spare: Vec<Vec<u8>>,
    spliced: u64,
    memory: Sheet,
}

/// Memory that is one registered sheet: addresses are offsets into it.
struct Sheet {
    frame: Frame,
    /// What the packet that is being filled is to be sent from.
    spliced: Vec<(usize, Frame)>,
}

impl Memory for Sheet {
    type Pin = Frame;
    fn splice(&mut self, at: usize, frame: Frame) -> Result<(), Frame> {
        if frame.len() != self.frame.len() {
            return Err(frame);
        }
        self.spliced.push((at, frame));
        Ok(())
    }
    fn expose(&mut self, frame: Frame) -> Result<Exposed<Frame>, Frame> {
        if frame.len() != self.frame.len() {
            return Err(frame);
        }
        Ok(Exposed { address: 0, key: 7, pin: frame })
    }
}

/// Puts frames where they belong in the packet, from behind.
fn gather(buffer: &mut [u8], buffered: usize, spliced: &mut Vec<(usize, Frame)>) {
    let (mut end, mut shift) = (buffered, spliced.iter().map(|(_, frame)| frame.len()).sum::<usize>());
    while let Some((at, frame)) = spliced.pop() {
        buffer.copy_within(at..end, at + shift);
        shift -= frame.len();
        buffer[at + shift..at + shift + frame.len()].copy_from_slice(&frame);
        end = at;
    }
}

impl Loop {
    fn new(body: &Frame) -> Self {
        let (offer, buffers) = (Offer::new(Hello::NULL), 32);
        let receive_queues = [0, 1].map(|_| (0..buffers).map(|_| vec![0; PACKET]).collect());
        let ends = [0, 1].map(|_| {
            let reserve = Reserve::new();
            reserve.add(buffers);
            let seat = reserve.seat(&offer).expect("buffers are posted");
            let mut machine = Machine::new(Terms::agree(&offer, &offer), Policy::default(), seat);
            machine.grant(Grant::Unlimited);
            (machine, Stock::new(FramePool::new(64 << 20)))
        });
        let memory = Sheet { frame: body.clone(), spliced: Vec::with_capacity(SPLICES_MAX) };
        Self { ends, receive_queues, spare: vec![vec![0; PACKET]], spliced: 0, memory }
    }

    /// One side does everything it can; returns how many parts it received.
    fn turn(&mut self, side: usize, out: &mut Vec<Completion>) -> usize {
        let [(machine, stock), (peer, _)] = match (side, &mut self.ends) {
            (0, [a, b]) => [a, b],
            (_, [a, b]) => [b, a],
        };
        machine.poll(stock, link(), out, 256).expect("nothing goes wrong");
        let received = out.drain(..).filter(|said| matches!(said, Completion::Received { .. })).count();
        while let Some(buffer) = machine.take_spent() {
            self.receive_queues[side].push_back(buffer);
        }
        let mut target: Option<FrameMut> = None;
        while let Some(read) = machine
            .poll_read(stock, |frame| {
                target = Some(frame);
                0
            })
            .expect("there is memory")
        {
            let bytes = &self.memory.frame[read.offset..read.offset + read.len];
            let place = target.as_mut().expect("lent");
            place[read.offset..read.offset + read.len].copy_from_slice(bytes);
            machine.read_done(stock, read.id, |_| target.take());
        }
        while let Some(mut buffer) = self.spare.pop() {
            let Some(packet) = machine.fill(stock, &mut buffer, &mut self.memory) else {
                self.spare.push(buffer);
                break;
            };
            machine.packets_done(packet.number);
            if packet.spliced > 0 {
                self.spliced += packet.spliced as u64;
                gather(&mut buffer, packet.buffered, &mut self.memory.spliced);
            }
            // The wire swaps the buffers and not the bytes: the receiver gets what was filled.
            self.spare.push(self.receive_queues[1 - side].pop_front().expect("receiver not ready"));
            peer.received(buffer, packet.len).expect("our own packet");
        }
        received
    }

    fn run(&mut self, body: &Frame, messages: usize, burst: usize, out: &mut Vec<Completion>) {
        let (mut posted, mut arrived) = (0, 0);
        // One message a turn is the least.
        for turn in 0.. {
            if arrived == messages {
                break;
            }
            assert!(turn < TURNS_PER_MESSAGE_MAX * messages, "{arrived} of {messages}, and no more come");
            let (machine, stock) = &mut self.ends[0];
            for _ in 0..burst.min(messages - posted).min(machine.room()) {
                machine.post(stock, Part::last(body.clone())).expect("there is room");
                posted += 1;
            }
            self.turn(0, out);
            arrived += self.turn(1, out);
        }
        // What is left is counts: of credit, of what was read.
        for _ in 0..TURNS_PER_MESSAGE_MAX {
            assert_eq!(self.turn(0, out) + self.turn(1, out), 0, "a part too many");
        }
    }
}

#[test]
fn nothing_is_allocated_per_message_once_warm() {
    // Inline, copied, from where they are, in fragments, and by READ; one by one and in bursts that fill every queue.
    let ways = [(0, false), (64, false), (1000, false), (2000, true), (20_000, false), (20_000, true)];
    for (len, registered) in ways {
        for burst in [1, 2000] {
            let body = Frame::from(vec![3; len]);
            let sheet = if registered { body.clone() } else { Frame::default() };
            let mut world = Loop::new(&sheet);
            let mut out = Vec::with_capacity(4096);
            // Warm is when every queue has been as long as it gets.
            (0..4).for_each(|_| world.run(&body, 4000, burst, &mut out));
            let counted = allocation_counter::measure(|| world.run(&body, 4000, burst, &mut out));
            assert_eq!(counted.count_total, 0, "{len} bytes in bursts of {burst}");
            assert_eq!(world.spliced > 0, len == 2000);
        }
    }
}

#[test]
fn a_link_that_was_busy_once_costs_little_again() {
    let size = size_of::<Link>();
    assert!(size <= 1024, "{size} bytes");
    let body = Frame::from(vec![3; 64]);
    let mut world = Loop::new(&Frame::default());
    let mut out = Vec::with_capacity(4096);
    let grown = allocation_counter::measure(|| {
        world.run(&body, 4000, 2000, &mut out);
        // What the driver's links share stays with them; the link's own is what is asked here.
        for (_, stock) in &mut world.ends {
            *stock = Stock::new(FramePool::new(0));
        }
    });
    assert!(grown.bytes_current < 16 << 10, "{} bytes are kept by two idle ends", grown.bytes_current);
}

#[test]
fn buffers_that_go_with_a_machine_are_nobody_s_credit() {
    let offer = Offer::new(Hello::NULL);
    let reserve = Reserve::new();
    reserve.add(10);
    let seat = reserve.seat(&offer).expect("buffers are posted");
    let mut machine = Link::new(Terms::agree(&offer, &offer), Policy::default(), seat);
    let packet = [1, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for _ in 0..2 {
        machine.received(packet.to_vec(), packet.len()).expect("lawful");
    }
    assert_eq!(reserve.free(), 5);
    drop(machine);
    assert_eq!(reserve.free(), 8, "the two that were here are posted no more");
    // A seat whose link never comes up gives back what it was kept for.
    let seat = reserve.seat(&offer);
    assert_eq!((seat.is_some(), reserve.free()), (true, 3));
    assert!(reserve.seat(&offer).is_none());
    drop(seat);
    assert_eq!(reserve.free(), 8);
}

#[test]
fn a_claim_alone_costs_nothing() {
    let offer = Offer::new(Hello::NULL);
    let reserve = Reserve::new();
    reserve.add(5);
    let pool = FramePool::new(64 << 20);
    let mut stock = Stock::new(pool.clone());
    let seat = reserve.seat(&offer).expect("buffers are posted");
    let mut machine = Link::new(Terms::agree(&offer, &offer), Policy::default(), seat);
    // As many transfers as may be announced, each of the greatest length that there is.
    let mut packet = vec![1, 0, 64, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for _ in 0..64 {
        packet.extend([24u64 | 0x10 << 32, 64 << 30, 4096, 9].map(u64::to_le_bytes).as_flattened());
    }
    let len = packet.len();
    packet.resize(PACKET, 0);
    machine.received(packet, len).expect("lawful");
    assert_eq!(machine.poll_read(&mut stock, |_| 0), Ok(None), "nothing is granted");
    assert_eq!(pool.usage().lent_slots, 0);
    // Granted, READs go out into address space; memory comes with their bytes.
    machine.grant(Grant::Unlimited);
    let mut targets = Vec::with_capacity(16);
    let counted = allocation_counter::measure(|| {
        let mut lend = |frame| {
            targets.push(frame);
            targets.len() as u8
        };
        while machine.poll_read(&mut stock, &mut lend).expect("address space").is_some() {}
    });
    assert_eq!(machine.reads_under_way(), 16);
    assert!(counted.bytes_max < 4096, "{} bytes for claims", counted.bytes_max);
    assert_eq!(pool.usage().lent_slots, 0);
    machine.bury(&mut stock, link(), &mut Vec::new());
}
