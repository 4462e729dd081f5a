//! Everything at once, by a seed: two sides that send packets of every kind and READ each other's memory, in credit,
//! while somebody checks what arrives and what comes back. Ends well, or by whatever the place makes go wrong.

use std::collections::VecDeque;

use rdma_links::fabric::{
    Completed, ConnectionId, DeviceId, Event, Fabric, Mark, Pinned, Reach, Remote, Sender, Splice, Status,
    TargetId, Work,
};
use testkit::media::{Chance, each_seed};
use transport_core::Frame;

use super::ends::{Client, Couple, End, PACKET, Place, RECEIVES, Server, Side, TERMS, Two};

/// Every place grants as much.
const INLINE: usize = 64;
const STEPS: usize = 150;
const SOURCE: usize = 48 << 10;
/// A shorter frame holds its bytes itself, and is in no arena.
const SPLICE_MIN: usize = 256;

/// How a talk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All that was sent has arrived.
    Whole,
    /// The connection failed on one side or both.
    Failed,
    /// A device was lost.
    Lost,
}

/// What one side knows.
#[derive(Debug)]
struct Talker {
    connection: ConnectionId,
    device: DeviceId,
    /// Requests posted, and requests that came back.
    posted: u32,
    back: u32,
    /// Packets sent and received.
    sent: u32,
    received: u32,
    /// READs under way, with what they should have fetched.
    reads: VecDeque<(TargetId, usize)>,
    /// What the other side may READ.
    source: (Pinned, Frame),
    outcome: Outcome,
}

/// Byte `at` of packet `number`.
fn byte(number: u32, at: usize) -> u8 {
    (number as usize * 31 + at) as u8
}

fn source_byte(at: usize) -> u8 {
    (at ^ at >> 8) as u8
}

impl Talker {
    fn new<F: Fabric>(end: &End<F>, connection: ConnectionId, device: DeviceId) -> Self {
        let mut source = end.pool.take(SOURCE).unwrap();
        source.iter_mut().enumerate().for_each(|(at, byte)| *byte = source_byte(at));
        let source = source.freeze();
        let pinned = end.memory(device).pin(source.clone(), Reach::Peer).unwrap();
        Self {
            connection,
            device,
            posted: 0,
            back: 0,
            sent: 0,
            received: 0,
            reads: VecDeque::new(),
            source: (pinned, source),
            outcome: Outcome::Whole,
        }
    }

    /// Posts one packet of some kind, if the queue has room.
    fn send<F: Fabric>(&mut self, end: &mut End<F>, chance: &mut Chance) {
        let number = self.sent;
        let len = [chance.below(65), 1 + chance.below(PACKET)][chance.below(2)];
        let bytes: Vec<u8> = (0..len).map(|at| byte(number, at)).collect();
        let mark = Mark { tag: self.posted, signal: chance.permille(300) };
        let by_buffer = chance.permille(500);
        let cut = chance.below(len + 1);
        let buffer = end.buffer(self.device, PACKET);
        let mut splices = Vec::new();
        // The end of the packet, or nothing of it, is a frame of its own.
        let own = if by_buffer || len - cut < SPLICE_MIN { len } else { cut };
        if own < len {
            let mut frame = end.pool.take(len - own).unwrap();
            frame.copy_from_slice(&bytes[own..]);
            let body = end.memory(self.device).pin(frame.freeze(), Reach::Device).unwrap();
            splices.push(Splice { at: own, body });
        }
        let mut sender = end.sender(self.connection);
        if sender.room() == 0 {
            return;
        }
        if len <= INLINE && chance.permille(700) {
            sender.inline(&bytes, mark).unwrap();
        } else {
            let mut buffer = buffer;
            buffer[..own].copy_from_slice(&bytes[..own]);
            sender.send(buffer, own, &mut splices, mark).unwrap();
        }
        self.posted += 1;
        self.sent += 1;
    }

    fn read<F: Fabric>(&mut self, end: &mut End<F>, chance: &mut Chance, from: Remote) {
        let len = 1 + chance.below(SOURCE);
        let start = chance.below(SOURCE - len + 1);
        let target = end.pool.take(len).unwrap();
        let mark = Mark { tag: self.posted, signal: chance.permille(500) };
        let mut sender = end.sender(self.connection);
        if sender.room() == 0 || self.reads.len() >= TERMS.initiator_depth.into() {
            return;
        }
        let target = sender.lend(target);
        let from = Remote { address: from.address + start as u64, key: from.key };
        sender.read(target, 0..len, from, mark).unwrap();
        self.posted += 1;
        self.reads.push_back((target, start));
    }

    fn take<F: Fabric>(&mut self, end: &mut End<F>, completed: Completed) {
        let is_good = completed.status == Status::Success;
        if !is_good && self.outcome == Outcome::Whole {
            self.outcome = Outcome::Failed;
        }
        match completed.work {
            Work::Receive { buffer, len } if is_good => {
                let number = self.received;
                assert!(buffer[..len].iter().enumerate().all(|(at, it)| *it == byte(number, at)), "{number}");
                self.received += 1;
                // A queue pair that is on its way out may not want it.
                let _ = end.fabric.post_receives(self.connection, &mut vec![buffer]);
            }
            Work::Receive { len, .. } => assert_eq!(len, 0),
            Work::Send { tag, .. } => {
                assert_eq!(tag, self.back, "in order");
                self.back += 1;
            }
            Work::Read { tag, target } => {
                assert_eq!(tag, self.back, "in order");
                self.back += 1;
                let (expected, start) = self.reads.pop_front().expect("a READ is under way");
                assert_eq!(target, expected);
                let frame = end.fabric.reclaim(self.connection, target).expect("its only READ is back");
                let fetched = || frame.iter().enumerate().all(|(at, it)| *it == source_byte(start + at));
                assert!(!is_good || fetched(), "the bytes that were there");
            }
        }
    }

    /// Takes what has happened at its end.
    fn look<F: Fabric>(&mut self, end: &mut End<F>) {
        end.look();
        while let Some(completed) = end.completed.pop_front() {
            self.take(end, completed);
        }
        while let Some(event) = end.events.pop_front() {
            match event {
                Event::Disconnected { .. } if self.outcome == Outcome::Whole => {
                    self.outcome = Outcome::Failed;
                }
                Event::DeviceLost { device } | Event::CompletionsLost { device } => {
                    assert_eq!(device, self.device);
                    end.fabric.close_device(device);
                    self.outcome = Outcome::Lost;
                }
                _ => {}
            }
        }
    }

    fn finish<P: Place>(&mut self, two: &mut Two<P>, side: Side) {
        if self.outcome == Outcome::Lost {
            return;
        }
        two.drain(side, self.connection);
        let end = two.end(side);
        while let Some(completed) = end.completed.pop_front() {
            self.take(end, completed);
        }
        assert_eq!(self.back, self.posted, "everything is back on the {side:?}'s side");
        end.fabric.destroy(self.connection);
    }
}

/// One talk between a couple. What is left afterwards, besides memory that is not lent any more.
pub(crate) fn talk<P: Place>(couple: Couple<P>, chance: &mut Chance) -> (Two<P>, Outcome) {
    let mut client = Talker::new(&couple.two.client, couple.dialled, couple.client_device);
    let mut server = Talker::new(&couple.two.server, couple.accepted, couple.server_device);
    let mut two = couple.two;
    let is_over = |client: &Talker, server: &Talker| {
        [client.outcome, server.outcome].iter().any(|outcome| *outcome != Outcome::Whole)
    };
    for _ in 0..STEPS {
        let (me, other, end, other_end) = match chance.below(2) {
            0 => (&mut client, &mut server, &mut two.client, &mut two.server),
            _ => (&mut server, &mut client, &mut two.server, &mut two.client),
        };
        match chance.below(8) {
            0 => me.read(end, chance, other.source.0.remote()),
            1 => me.look(end),
            2 => two.place.pass(&mut [&mut end.fabric, &mut other_end.fabric]),
            _ if me.sent - other.received < RECEIVES => me.send(end, chance),
            _ => other.look(other_end),
        }
        if is_over(&client, &server) {
            break;
        }
    }
    two.until("the end of a talk", |two| {
        client.look(&mut two.client);
        server.look(&mut two.server);
        let arrived = client.sent == server.received && server.sent == client.received;
        (arrived || is_over(&client, &server)).then_some(())
    });
    client.finish(&mut two, Client);
    server.finish(&mut two, Server);
    let outcome = match (client.outcome, server.outcome) {
        (Outcome::Lost, _) | (_, Outcome::Lost) => Outcome::Lost,
        // Ending it flushes what waits for packets; that is no failure.
        _ if client.sent == server.received && server.sent == client.received => Outcome::Whole,
        _ => Outcome::Failed,
    };
    drop((client, server));
    assert_eq!((two.client.pool.usage().lent_slots, two.server.pool.usage().lent_slots), (0, 0));
    (two, outcome)
}

pub(crate) fn two_that_do_everything_at_once_get_everything_in_order<P: Place>() {
    each_seed(0..8, |seed| {
        let (_, outcome) = talk(Couple::<P>::new(), &mut Chance::new(seed));
        assert_eq!(outcome, Outcome::Whole);
    });
}
