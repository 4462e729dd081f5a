//! What a peer may not do, byte by byte: each ends the link with an error of its own, and none is believed in part.

use fabriq_packet_protocol::limits::COMMAND_MAX;
use fabriq_packet_protocol::{Machine, Offer, PacketError, Policy, Reserve, Stock, Terms};
use transport_core::{Completion, DownReason, FramePool, Grant, Hello, Part, Violation};

use crate::world::link;

const PACKET: usize = 512;

/// One end, and a peer whose every byte is the test's.
struct Peer {
    machine: Machine<Vec<u8>, (), ()>,
    stock: Stock,
    pool: FramePool,
}

impl Peer {
    fn new() -> Self {
        Self::taking(Some(1000))
    }

    fn taking(part_max: Option<u64>) -> Self {
        Self::with(part_max, 16)
    }

    fn with(part_max: Option<u64>, reads: u8) -> Self {
        let offer = Offer { packet_len: PACKET as u32, reads, transfers: 2, ..Offer::new(Hello::NULL) };
        let policy = Policy { part_max, window_max: 2, ..Policy::default() };
        let reserve = Reserve::new();
        reserve.add(5);
        let seat = reserve.seat(&offer).expect("buffers are posted");
        let machine = Machine::new(Terms::agree(&offer, &offer), policy, seat);
        let pool = FramePool::new(1 << 20);
        let mut peer = Self { machine, stock: Stock::new(pool.clone()), pool };
        peer.machine.grant(Grant::Unlimited);
        peer
    }

    fn receive(&mut self, packet: &[u8]) -> Result<(), PacketError> {
        let mut buffer = packet.to_vec();
        buffer.resize(PACKET.max(packet.len()), 0);
        self.machine.received(buffer, packet.len())
    }

    fn poll(&mut self) -> Vec<Completion> {
        let mut out = Vec::new();
        let _ = self.machine.poll(&mut self.stock, link(), &mut out, usize::MAX);
        out
    }

    /// Takes what is due, and says of how many packets.
    fn fill(&mut self) -> usize {
        while self.machine.take_spent().is_some() {}
        let mut buffer = vec![0; PACKET];
        let mut filled = 0;
        while self.machine.fill(&mut self.stock, &mut buffer, &mut ()).is_some() {
            filled += 1;
        }
        filled
    }

    /// The packet is refused, and that was the link.
    fn refuses(mut self, packet: &[u8], error: PacketError) {
        assert_eq!(self.receive(packet), Err(error), "{packet:02x?}");
        let reason = DownReason::Violation(Violation::from(error));
        assert_eq!(self.machine.ending(), Some(reason));
        assert!(self.poll().is_empty(), "something of a bad packet was delivered");
        assert_eq!(self.fill(), 0);
        assert_eq!(self.machine.poll_read(&mut self.stock, |_| ()), Ok(None));
        assert_eq!(self.machine.room(), 0);
        // Whatever follows changes nothing.
        assert_eq!(self.receive(&data(&[record(0, b"late")])), Ok(()));
        assert_eq!(self.machine.ending(), Some(reason));
        self.machine.bury(&mut self.stock, link(), &mut Vec::new());
        drop((self.machine, self.stock));
        assert_eq!(self.pool.usage().lent_slots, 0);
    }
}

fn packet(kind: u8, flags: u8, records: u16, counters: [u32; 3], body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind, flags];
    packet.extend(records.to_le_bytes());
    packet.extend(counters.map(u32::to_le_bytes).as_flattened());
    packet.extend(body);
    packet
}
fn data(records: &[Vec<u8>]) -> Vec<u8> {
    packet(1, 0, records.len() as u16, [2, 0, 0], &records.concat())
}
fn control(flags: u8) -> Vec<u8> {
    packet(2, flags, 0, [2, 0, 0], &[])
}
fn record(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut record = (payload.len() as u32).to_le_bytes().to_vec();
    record.extend([flags, 0, 0, 0]);
    record.extend(payload);
    record.resize(record.len().next_multiple_of(8), 0);
    record
}
fn transfer(len: u64, address: u64) -> Vec<u8> {
    record(0x10, [len, address, 7].map(u64::to_le_bytes).as_flattened())
}
/// The same record, of a command.
fn command(mut record: Vec<u8>) -> Vec<u8> {
    record[4] |= 4;
    record
}
fn fragment(total: u64, bytes: &[u8]) -> Vec<u8> {
    record(0x20, &[&total.to_le_bytes(), bytes].concat())
}

fn refused(packet: &[u8], error: PacketError) {
    Peer::new().refuses(packet, error);
}

#[test]
fn a_lawful_packet_is_taken() {
    let mut peer = Peer::new();
    assert_eq!(peer.receive(&data(&[record(1, b"one"), record(0, b"two")])), Ok(()));
    assert_eq!(peer.receive(&control(0)), Ok(()));
    let bodies: Vec<_> = peer
        .poll()
        .into_iter()
        .map(|said| match said {
            Completion::Received { part, .. } => part.body,
            said => panic!("{said:?}"),
        })
        .collect();
    assert_eq!(bodies, [transport_core::Frame::from("one"), "two".into()]);
}

#[test]
fn headers_that_lie() {
    let lawful = data(&[record(0, b"x")]);
    for len in 0..16 {
        refused(&lawful[..len], PacketError::Length(len));
    }
    refused(&lawful[..20], PacketError::Length(20));
    refused(&[&lawful[..], &vec![0; PACKET]].concat(), PacketError::Length(lawful.len() + PACKET));
    refused(&packet(2, 0, 0, [2, 0, 0], &[0; 8]), PacketError::Length(24));
    refused(&packet(0, 0, 0, [2, 0, 0], &[]), PacketError::Type(0));
    refused(&packet(3, 0, 1, [2, 0, 0], &record(0, b"")), PacketError::Type(3));
    refused(&packet(1, 2, 1, [2, 0, 0], &record(0, b"")), PacketError::Flags(2));
    refused(&packet(2, 8, 0, [2, 0, 0], &[]), PacketError::Flags(8));
    refused(&packet(1, 0, 0, [2, 0, 0], &[]), PacketError::Records(0));
    refused(&packet(2, 0, 1, [2, 0, 0], &[]), PacketError::Records(1));
    refused(&packet(1, 0, 2, [2, 0, 0], &record(0, b"")), PacketError::Records(2));
    refused(&packet(1, 0, 1, [2, 0, 0], &record(0, b"").repeat(2)), PacketError::Records(1));
    refused(&packet(1, 0, u16::MAX, [2, 0, 0], &record(0, b"")), PacketError::Records(u16::MAX));
}

#[test]
fn counters_that_lie() {
    let counters = |counters| packet(2, 0, 0, counters, &[]);
    refused(&counters([1, 0, 0]), PacketError::Granted(u32::MAX));
    refused(&counters([65_538, 0, 0]), PacketError::Granted(65_536));
    refused(&counters([2, 1, 0]), PacketError::ControlSeen(1));
    refused(&counters([2, u32::MAX, 0]), PacketError::ControlSeen(u32::MAX));
    refused(&counters([2, 0, 1]), PacketError::Fins(1));
    // What was true once is a lie when it is less than before.
    let mut peer = Peer::new();
    assert_eq!(peer.receive(&counters([9, 0, 0])), Ok(()));
    peer.refuses(&counters([8, 0, 0]), PacketError::Granted(u32::MAX));
}

#[test]
fn records_that_lie() {
    let with_head = |head: [u8; 8]| packet(1, 0, 1, [2, 0, 0], &head);
    refused(&with_head([1, 0, 0, 0, 0, 0, 0, 0]), PacketError::RecordLength(1));
    refused(&with_head([255; 8]), PacketError::RecordLength(u32::MAX));
    for reserved in 5..8 {
        let mut head = [0; 8];
        head[reserved] = 1;
        refused(&with_head(head), PacketError::Reserved);
    }
    for flags in [0x02, 0x05, 0x08, 0x30, 0x40, 0x80] {
        refused(&data(&[record(flags, &[1; 24])]), PacketError::RecordFlags(flags));
    }
    refused(&data(&[record(0x10, &[1; 23])]), PacketError::RecordLength(23));
    refused(&data(&[record(0x10, &[1; 25])]), PacketError::RecordLength(25));
    // A good record before a bad one is not delivered either; `refuses` looks.
    refused(&data(&[record(0, b"good"), record(0x40, b"")]), PacketError::RecordFlags(0x40));
}

#[test]
fn parts_that_are_too_long() {
    refused(&data(&[transfer(1001, 64)]), PacketError::TooLarge(1001));
    refused(&data(&[transfer(u64::MAX, 64)]), PacketError::TooLarge(u64::MAX));
    refused(&data(&[fragment(1001, b"x")]), PacketError::TooLarge(1001));
    // A command has a maximum of its own, since it needs no grant; whichever way it comes.
    let long = COMMAND_MAX + 1;
    for record in [command(transfer(long, 64)), command(fragment(long, b"x"))] {
        Peer::taking(None).refuses(&data(&[record]), PacketError::TooLarge(long));
    }
    let longest = data(&[command(transfer(COMMAND_MAX, 64)), transfer(long, 64)]);
    assert_eq!(Peer::taking(None).receive(&longest), Ok(()));
    assert_eq!(Violation::from(PacketError::TooLarge(1)), Violation::TooLarge);
    let offer = Offer::new(Hello::NULL);
    let reserve = Reserve::new();
    reserve.add(5);
    let policy = Policy { part_max: Some(3), ..Policy::default() };
    let seat = reserve.seat(&offer).expect("buffers are posted");
    let mut machine = Machine::<_, (), ()>::new(Terms::agree(&offer, &offer), policy, seat);
    let packet = data(&[record(0, b"four")]);
    let len = packet.len();
    let received = machine.received(packet, len);
    assert_eq!(received, Err(PacketError::TooLarge(4)));
}

#[test]
fn transfers_that_cannot_be() {
    refused(&data(&[transfer(0, 64)]), PacketError::Transfer(0));
    refused(&data(&[transfer(2, u64::MAX - 1)]), PacketError::Transfer(2));
    // Nor one where no READs were agreed: it would wait for ever.
    Peer::with(None, 0).refuses(&data(&[transfer(9, 64)]), PacketError::Transfer(9));
    refused(&data(&[transfer(1, 64), transfer(1, 65), transfer(1, 66)]), PacketError::Transfers);
    let mut peer = Peer::new();
    assert_eq!(peer.receive(&data(&[transfer(1, 64), transfer(1, 65)])), Ok(()));
    peer.refuses(&data(&[transfer(1, 66)]), PacketError::Transfers);
}

#[test]
fn fragments_that_make_no_part() {
    refused(&data(&[record(0x20, &[1; 8])]), PacketError::Fragment);
    refused(&data(&[fragment(4, b"five!")]), PacketError::Fragment);
    refused(&data(&[fragment(9, b"five!"), fragment(9, b"five!")]), PacketError::Fragment);
    refused(&data(&[fragment(9, b"x"), fragment(8, b"x")]), PacketError::Fragment);
    refused(&data(&[fragment(9, b"x"), record(0, b"x")]), PacketError::Fragment);
    refused(&data(&[fragment(9, b"x"), transfer(1, 1)]), PacketError::Fragment);
    let mut other_flags = fragment(9, b"x");
    other_flags[4] |= 1;
    refused(&data(&[fragment(9, b"x"), other_flags]), PacketError::Fragment);
    // Across packets as well.
    let mut peer = Peer::new();
    assert_eq!(peer.receive(&data(&[fragment(9, b"x")])), Ok(()));
    peer.refuses(&data(&[record(0, b"x")]), PacketError::Fragment);
}

#[test]
fn packets_without_credit() {
    let mut peer = Peer::new();
    for _ in 0..2 {
        assert_eq!(peer.receive(&data(&[record(0, b"x")])), Ok(()));
    }
    peer.refuses(&data(&[record(0, b"x")]), PacketError::NoCredit);
    let mut peer = Peer::new();
    for _ in 0..3 {
        assert_eq!(peer.receive(&control(0)), Ok(()));
    }
    peer.refuses(&control(0), PacketError::NoControlCredit);
}

#[test]
fn goodbyes_out_of_turn() {
    refused(&control(4), PacketError::Goodbye);
    let after_goodbye = || {
        let mut peer = Peer::new();
        assert_eq!(peer.receive(&control(2)), Ok(()));
        peer
    };
    after_goodbye().refuses(&control(2), PacketError::Goodbye);
    after_goodbye().refuses(&data(&[record(0, b"x")]), PacketError::Goodbye);
    for unfinished in [transfer(1, 64), fragment(9, b"x")] {
        let mut peer = Peer::new();
        assert_eq!(peer.receive(&data(&[unfinished])), Ok(()));
        peer.refuses(&control(2), PacketError::Goodbye);
    }
    // One answer is due to one goodbye.
    let mut peer = Peer::new();
    peer.machine.drain(&mut peer.stock);
    assert_eq!(peer.fill(), 1);
    assert_eq!(peer.receive(&packet(2, 4, 0, [2, 1, 0], &[])), Ok(()));
    assert_eq!(peer.machine.ending(), Some(DownReason::ClosedHere));
    assert_eq!(peer.receive(&packet(2, 4, 0, [2, 1, 0], &[])), Err(PacketError::Goodbye));
}

#[test]
fn a_transfer_is_finished_once_and_only_if_it_was_announced() {
    let mut peer = Peer::new();
    // Without registered memory nothing is announced, whatever its length.
    peer.machine.post(&mut peer.stock, Part::last(vec![0; 900])).expect("there is room");
    assert_eq!(peer.fill(), 2);
    peer.refuses(&packet(2, 0, 0, [2, 0, 1], &[]), PacketError::Fins(1));
}

/// What one machine says of every kind of record, as bytes.
fn lawful_packets() -> Vec<Vec<u8>> {
    let mut peer = Peer::new();
    for part in [Part::more("a"), Part::last(vec![7; 100]), Part::command("PING"), Part::last(vec![9; 900])] {
        peer.machine.post(&mut peer.stock, part).expect("there is room");
    }
    let (mut buffer, mut packets) = (vec![0; PACKET], Vec::new());
    while let Some(packet) = peer.machine.fill(&mut peer.stock, &mut buffer, &mut ()) {
        packets.push(buffer[..packet.len].to_vec());
    }
    packets.push(data(&[record(1, b"x"), transfer(9, 64), command(record(0, b"y")), fragment(700, b"z")]));
    packets.push(control(3));
    packets
}

#[test]
fn a_packet_that_is_cut_anywhere_is_refused_and_nothing_of_it_is_delivered() {
    for whole in lawful_packets() {
        for len in 0..whole.len() {
            let mut peer = Peer::new();
            assert!(peer.receive(&whole[..len]).is_err(), "{len} of {whole:02x?}");
            assert!(peer.poll().is_empty());
            assert!(peer.machine.ending().is_some());
        }
    }
}

#[test]
fn a_packet_with_any_bit_flipped_is_taken_or_refused_and_costs_no_memory() {
    for whole in lawful_packets() {
        for bit in 0..8 * whole.len() {
            let mut packet = whole.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            let mut peer = Peer::new();
            let taken = peer.receive(&packet);
            assert_eq!(taken.is_ok(), peer.machine.ending().is_none(), "bit {bit} of {whole:02x?}");
            peer.poll();
            peer.fill();
            peer.machine.abort(DownReason::ClosedHere);
            peer.machine.bury(&mut peer.stock, link(), &mut Vec::new());
            let mut spent = 0;
            while peer.machine.take_spent().is_some() {
                spent += 1;
            }
            assert!(spent <= 1);
            drop((peer.machine, peer.stock));
            assert_eq!(peer.pool.usage().lent_slots, 0);
        }
    }
}
