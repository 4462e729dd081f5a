//! The driver on the system's sockets while strangers send to its group and to its publisher: whatever bytes, and packets that are
//! nearly right for the session that is under way. Messages go on arriving, in order and whole, or their loss is said.

mod pair;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use pair::{driver, link, request};
use transport_core::{Completion, Driver, Flow, Grant, Part};

/// Packets of every type, as receivers and sources of other programs have sent them; see tests/golden/README.md.
const GOLDEN: [&[u8]; 3] = [
    include_bytes!("golden/kinds_epgm.bin"),
    include_bytes!("golden/kinds_pgmraw.bin"),
    include_bytes!("golden/kinds_fec.bin"),
];
/// Before each packet in them: time, source, destination. Its length follows.
const RECORD_LEN: usize = 12;
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/pgm_packet");

const MESSAGES: u32 = 3000;
const STRANGE_PER_MESSAGE: usize = 10;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}

fn packets() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for mut file in GOLDEN {
        while let Some((len, rest)) = file.get(RECORD_LEN..).and_then(<[u8]>::split_first_chunk::<2>) {
            let (packet, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)));
            all.push(packet.to_vec());
            file = rest;
        }
    }
    let corpus = std::fs::read_dir(CORPUS).expect("the corpus");
    all.extend(corpus.map(|file| std::fs::read(file.expect("a file").path()).expect("a packet")));
    assert!(all.len() > 50, "{} packets are not all", all.len());
    all
}

/// A packet that may be taken for one of a session, with some of it wrong, and its checksum right nearly always.
fn strange(random: &mut Random, packets: &[Vec<u8>], gsi: [u8; 6], port: u16, group_port: u16) -> Vec<u8> {
    let mut packet = packets[random.below(packets.len())].clone();
    if packet.len() < 16 {
        return packet;
    }
    packet[8..14].copy_from_slice(&gsi);
    // Receivers' packets have the ports the other way round (RFC 3208 section 8.3).
    let upstream = matches!(packet[4] & 15, 8 | 9 | 12 | 13);
    let [from, to] = if upstream { [group_port, port] } else { [port, group_port] };
    packet[..2].copy_from_slice(&from.to_be_bytes());
    packet[2..4].copy_from_slice(&to.to_be_bytes());
    // Numbers near the session's own, which begin with 0.
    if let Some(number) = packet.get_mut(16..20)
        && random.below(2) == 0
    {
        number.copy_from_slice(&(random.below(4000) as u32).to_be_bytes());
    }
    for _ in 0..random.below(4) {
        let at = 16 + random.below(packet.len() - 15);
        match random.below(3) {
            0 => packet.truncate(at.max(16)),
            _ if at < packet.len() => packet[at] ^= 1 << random.below(8),
            _ => packet.push(random.below(256) as u8),
        }
    }
    if random.below(20) > 0 {
        packet[6..8].fill(0);
        let words =
            packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let sum = words.fold(0, |sum, word| (sum + word) % 0xffff);
        packet[6..8].copy_from_slice(&(0xffff - sum as u16).to_be_bytes());
    }
    packet
}

/// What a receiver hears, on whatever links.
#[derive(Default)]
struct Heard {
    /// Messages as they were sent, and those that somebody else has made.
    true_ones: u32,
    forged: u32,
    gaps: u32,
    ends: u32,
    last: Option<u32>,
}

fn message(number: u32) -> Part {
    Part::last(number.to_le_bytes().repeat(100))
}

/// A turn of both.
fn turn(sender: &mut Box<dyn Driver>, receiver: &mut Box<dyn Driver>, heard: &mut Heard) {
    let mut out = Vec::new();
    sender.flush();
    sender.poll(Instant::now(), &mut out, 1024);
    assert!(!out.iter().any(|said| matches!(said, Completion::Down { .. })), "nobody may end a publisher");
    out.clear();
    receiver.poll(Instant::now(), &mut out, 1024);
    for said in out {
        match said {
            // An end that a stranger has made up is followed by another beginning.
            Completion::Up { link, .. } => receiver.grant(link, Grant::Unlimited),
            Completion::Received { part, .. } => {
                let number = part.body.first_chunk().map(|number| u32::from_le_bytes(*number));
                match number.filter(|number| part.body[..] == message(*number).body[..]) {
                    Some(number) => (heard.true_ones, heard.last) = (heard.true_ones + 1, Some(number)),
                    // There is no authentication: before the true packet, another is as good.
                    None => heard.forged += 1,
                }
            }
            Completion::Gap { .. } => heard.gaps += 1,
            Completion::Down { .. } => heard.ends += 1,
            _ => {}
        }
    }
}

#[test]
fn whatever_strangers_send_the_driver_goes_on_and_is_as_before_when_they_stop() {
    let [.., a, b] = std::process::id().to_be_bytes();
    let (group, port) = (Ipv4Addr::new(239, 195, a, b), 7600);
    let url = format!("epgm://lo;{group}:{port}?rate_kbit=0");
    let (mut sender, mut receiver) = (driver(), driver());
    sender.open(request(&url, Flow::Send)).expect("opens");
    receiver.open(request(&url, Flow::Recv)).expect("opens");
    let (to, _) = link(&mut sender, &mut receiver);
    let (from, name) = link(&mut receiver, &mut sender);
    receiver.grant(from, Grant::Unlimited);
    // interface;group:port#address#GSI.port
    let (gsi, source_port) = name.rsplit_once('#').and_then(|(_, tsi)| tsi.rsplit_once('.')).expect("a TSI");
    let digits = u64::from_str_radix(gsi, 16).expect("a GSI").to_be_bytes();
    let gsi = *digits.last_chunk::<6>().expect("six bytes");
    let source_port: u16 = source_port.parse().expect("a port");

    let stranger = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket2::SockRef::from(&stranger).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("lo is there");
    let places = [IpAddr::V4(group), Ipv4Addr::LOCALHOST.into()].map(|ip| SocketAddr::new(ip, port));
    let (packets, seed) = (packets(), u64::from(std::process::id()));
    println!("seed {seed}");
    let (mut random, mut heard) = (Random(seed), Heard::default());
    for number in 0..MESSAGES {
        for _ in 0..STRANGE_PER_MESSAGE {
            let packet = strange(&mut random, &packets, gsi, source_port, port);
            // A full buffer loses it.
            let _ = stranger.send_to(&packet, places[random.below(2)]);
        }
        if sender.room(to) > 0 {
            sender.post_send(to, message(number)).expect("there is room");
        }
        turn(&mut sender, &mut receiver, &mut heard);
    }
    let Heard { true_ones, forged, gaps, ends, .. } = heard;
    println!("{true_ones} messages, {forged} forged, {gaps} gaps, {ends} ends");
    // They have gone. What they have brought about is over soon: at the latest when the numbers of packets they have made up
    // have passed.
    let (mut number, mut in_a_row, mut before) = (MESSAGES, 0, None);
    while in_a_row < 1000 {
        assert!(number < 50_000, "of {number} messages the last that has come is {before:?}");
        if sender.room(to) > 0 {
            sender.post_send(to, message(number)).expect("there is room");
            number += 1;
        }
        let had = heard.true_ones;
        turn(&mut sender, &mut receiver, &mut heard);
        if heard.true_ones > had {
            in_a_row = if heard.last == before.map(|before: u32| before + (heard.true_ones - had)) {
                in_a_row + (heard.true_ones - had)
            } else {
                0
            };
            before = heard.last;
        }
    }
    println!("{} messages later all is well", number - MESSAGES);
}
