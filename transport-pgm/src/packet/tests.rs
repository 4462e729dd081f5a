//! Packets there and back: hand-made ones, and those of Debian's libzmq and OpenPGM.

use super::*;
use crate::testing::golden::{self, Record};

const TSI: Tsi = Tsi { gsi: Gsi([1, 2, 3, 4, 5, 6]), port: 0x1234 };

fn packet<'a>(body: Body<'a>, options: &'a [Opt<'a>]) -> Packet<'a> {
    Packet {
        tsi: TSI,
        dport: 0x5678,
        parity: false,
        var_pktlen: false,
        body,
        options: Options::List(options),
    }
}

fn v4(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn v6(last: u16) -> IpAddr {
    IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, last])
}

fn bodies() -> Vec<Body<'static>> {
    let spm = Spm { sqn: Sqn(7), trail: Sqn(u32::MAX), lead: Sqn(3), path: v4(1) };
    let data = Data { sqn: Sqn(3), trail: Sqn(u32::MAX), tsdu: b"hello" };
    let nak = Nak { sqn: Sqn(3), source: v4(1), group: v4(9) };
    vec![
        Body::Spm(spm),
        Body::Spm(Spm { path: v6(1), ..spm }),
        Body::Spm(Spm { trail: Sqn(4), ..spm }),
        Body::Poll(Poll { sqn: 1, round: 2 }),
        Body::Polr(Poll { sqn: 1, round: 2 }),
        Body::Odata(data),
        Body::Rdata(data),
        Body::Odata(Data { tsdu: b"", ..data }),
        Body::Nak(nak),
        Body::Nak(Nak { source: v6(1), group: v6(2), ..nak }),
        Body::Nnak(nak),
        Body::Ncf(nak),
        Body::Spmr,
        Body::Ack(Ack { rx_max: Sqn(5), bitmap: 0xfff7_ffff }),
    ]
}

const LIST: &[Sqn] = &[Sqn(u32::MAX), Sqn(0), Sqn(9)];

fn options() -> Vec<Opt<'static>> {
    vec![
        Opt::NakList(NakList::Sqns(LIST)),
        Opt::Fragment(Fragment { first: Sqn(1), offset: 2, len: 3 }),
        Opt::Join(Sqn(4)),
        Opt::NakBackOff { interval_us: 5, poll: 6 },
        Opt::NakBackOffRange { max_us: 7, min_us: 8 },
        Opt::ParityPrm { proactive: false, on_demand: true, group_size: 16 },
        Opt::ParityGrp(1),
        Opt::CurrTgsize(12),
        Opt::Syn,
        Opt::Fin,
        Opt::Rst { no_naks: true, code: 0x3f },
        Opt::PgmccData { timestamp_ms: 1, acker: v4(3) },
        Opt::PgmccFeedback { timestamp_ms: 1, loss: 500, receiver: v6(3) },
        Opt::Other { kind: 0x7f, specific: 3, value: b"odd" },
        Opt::Other { kind: 0x07, specific: 0, value: &[0, 1, 0, 0, 10, 0, 0, 1] },
    ]
}

#[test]
fn every_type_with_every_option_comes_back_as_it_was_said() {
    let mut buffer = [0; 512];
    let all = options();
    for body in bodies() {
        let lists = (0..all.len()).map(|at| &all[at..at + 1]).chain([&all[..0], &all[..]]);
        for options in lists {
            for parity in [false, true] {
                let said = Packet { parity, var_pktlen: parity, ..packet(body, options) };
                let len = said.encode(&mut buffer).expect("it fits");
                let heard = Packet::parse(&buffer[..len]).expect("what is said is well-formed");
                assert_eq!(heard, said);
                assert_eq!(said.encode(&mut buffer[..len - 1]), Err(NoRoom));
            }
        }
    }
}

#[test]
fn upstream_packets_have_their_ports_swapped() {
    let mut buffer = [0; 64];
    for body in bodies() {
        let said = packet(body, &[]);
        said.encode(&mut buffer).expect("it fits");
        let ports =
            if said.kind().is_upstream() { [0x56, 0x78, 0x12, 0x34] } else { [0x12, 0x34, 0x56, 0x78] };
        assert_eq!(buffer[..4], ports, "{:?}", said.kind());
    }
}

#[test]
fn every_cut_and_every_changed_bit_is_noticed() {
    let mut buffer = [0; 512];
    let options = options();
    for body in bodies() {
        let len = packet(body, &options[..1]).encode(&mut buffer).expect("it fits");
        for cut in 0..len {
            assert!(Packet::parse(&buffer[..cut]).is_err(), "cut to {cut} of {len}");
        }
        for bit in 0..len * 8 {
            buffer[bit / 8] ^= 1 << (bit % 8);
            assert!(Packet::parse(&buffer[..len]).is_err(), "bit {bit}");
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// The packet with `change` made to it, and a checksum that does not tell.
fn changed(body: Body<'_>, options: &[Opt<'_>], change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Malformed> {
    let mut buffer = vec![0; 512];
    let len = packet(body, options).encode(&mut buffer).expect("it fits");
    buffer.truncate(len);
    change(&mut buffer);
    buffer[6..8].fill(0);
    let checksum = checksum::of(&buffer);
    buffer[6..8].copy_from_slice(&checksum.to_be_bytes());
    Packet::parse(&buffer).map(|_| ())
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let data = Data { sqn: Sqn(3), trail: Sqn(1), tsdu: b"hello" };
    let odata = Body::Odata(data);
    let nak = Body::Nak(Nak { sqn: Sqn(3), source: v4(1), group: v4(9) });
    let list = [Opt::NakList(NakList::Sqns(LIST))];
    assert_eq!(changed(odata, &[], |_| {}), Ok(()));
    assert_eq!(changed(odata, &[], |bytes| bytes[4] |= 0x40), Err(Malformed::Version(0x44)));
    assert_eq!(changed(odata, &[], |bytes| bytes[4] = 0x07), Err(Malformed::Type(0x07)));
    assert_eq!(changed(odata, &[], |bytes| bytes[15] += 1), Err(Malformed::Length(29)));
    assert_eq!(changed(odata, &[], |bytes| bytes.push(0)), Err(Malformed::Length(30)));
    assert_eq!(changed(nak, &[], |bytes| bytes[21] = 3), Err(Malformed::AddressFamily(3)));
    let behind = Body::Odata(Data { trail: Sqn(4), ..data });
    assert_eq!(changed(behind, &[], |_| {}), Err(Malformed::Window));
    let spm = Spm { sqn: Sqn(0), trail: Sqn(5), lead: Sqn(3), path: v4(1) };
    assert_eq!(changed(Body::Spm(spm), &[], |_| {}), Err(Malformed::Window));
    let none = Spm { trail: Sqn(0), lead: Sqn(0x8000_0000), ..spm };
    assert_eq!(changed(Body::Spm(none), &[], |_| {}), Ok(()));
    assert!(!none.has_window() && spm.has_window());

    let options = HEADER_LEN + 20;
    assert_eq!(changed(nak, &list, |_| {}), Ok(()));
    assert_eq!(changed(nak, &list, |bytes| bytes[options] = 1), Err(Malformed::Options), "no OPT_LENGTH");
    assert_eq!(changed(nak, &list, |bytes| bytes[options + 1] = 8), Err(Malformed::Options));
    assert_eq!(changed(nak, &list, |bytes| bytes[options + 3] -= 1), Err(Malformed::Options), "cut inside");
    assert_eq!(changed(nak, &list, |bytes| bytes[options + 3] = 3), Err(Malformed::Options));
    assert_eq!(changed(nak, &list, |bytes| bytes[options + 4] &= 0x7f), Err(Malformed::Options), "no end");
    assert_eq!(changed(nak, &list, |bytes| bytes[options + 5] = 0), Err(Malformed::Options), "a loop");
    let short = changed(nak, &list, |bytes| {
        bytes[options + 3] -= 2;
        bytes[options + 5] -= 2;
    });
    assert_eq!(short, Err(Malformed::OptionLength(2)));
    let long = [Sqn(0); NAK_LIST_MAX + 1];
    assert_eq!(changed(nak, &[Opt::NakList(NakList::Sqns(&long[1..]))], |_| {}), Ok(()));
    let list = [Opt::NakList(NakList::Sqns(&long))];
    assert_eq!(packet(nak, &list).encode(&mut [0; 512]), Err(NoRoom), "256 is no length of an option");
    assert_eq!(changed(odata, &[Opt::Join(Sqn(1)); OPTIONS_MAX], |_| {}), Ok(()));
    assert_eq!(changed(odata, &[Opt::Join(Sqn(1)); OPTIONS_MAX + 1], |_| {}), Err(Malformed::Options));
}
use crate::limits::{NAK_LIST_MAX, OPTIONS_MAX};

#[test]
fn only_data_needs_a_checksum() {
    let mut buffer = [0; 64];
    for body in bodies() {
        let len = packet(body, &[]).encode(&mut buffer).expect("it fits");
        buffer[6..8].fill(0);
        let parsed = Packet::parse(&buffer[..len]).map(|packet| packet.body);
        assert_eq!(parsed, if body.kind().is_data() { Err(Malformed::NoChecksum) } else { Ok(body) });
    }
}

#[test]
fn a_header_around_a_payload_is_that_of_the_packet() {
    let header = DataHeader::new(TSI, 0x5678);
    for len in [0, 1, 5, 1428] {
        let tsdu: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let data = Data { sqn: Sqn(0x0102_0304), trail: Sqn(0xffff_0001), tsdu: &tsdu };
        let (mut want, mut have) = (vec![0; DATA_HEADER_LEN + len], vec![0xaa; DATA_HEADER_LEN + len]);
        have[DATA_HEADER_LEN..].copy_from_slice(&tsdu);
        header.write(&mut have, data.sqn, data.trail);
        packet(Body::Odata(data), &[]).encode(&mut want).expect("it fits");
        assert_eq!(have, want);
        for trail in [0xffff_0001, 0, 0xffff_ffff, 0x0102_0304] {
            DataHeader::make_repair(&mut have, Sqn(trail));
            packet(Body::Rdata(Data { trail: Sqn(trail), ..data }), &[]).encode(&mut want).expect("it fits");
            assert_eq!(have, want);
        }
    }
}

#[test]
fn all_packets_of_libzmq_and_openpgm_are_read_and_said_again_byte_for_byte() {
    let (mut lists, mut options, mut kinds) = (0, 0, std::collections::BTreeSet::new());
    for file in golden::FILES {
        for Record { bytes, .. } in golden::records(file) {
            let packet = Packet::parse(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
            kinds.insert(packet.kind() as u8);
            lists += usize::from(packet.sqns().count() > 1);
            options += packet.options.iter().count();
            let mut again = vec![0; bytes.len()];
            assert_eq!(packet.encode(&mut again), Ok(bytes.len()));
            // OpenPGM leaves what it finds on its stack in the reserved byte of an option; ours is 0.
            let mut canonical = bytes.to_vec();
            if !packet.options.is_empty() {
                let start = if packet.kind() == Kind::Spm { 36 } else { HEADER_LEN + 20 };
                canonical[start + OPTION_HEADER + 2] = 0;
                canonical[6..8].fill(0);
                let checksum = checksum::of(&canonical);
                canonical[6..8].copy_from_slice(&checksum.to_be_bytes());
            }
            // A SPM's options begin behind the address: 16 + 12 + 8.
            assert_eq!(again, canonical, "{packet:?}");
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [0x0, 0x4, 0x5, 0x8, 0xa, 0xc]);
    assert!(lists >= 12 && options > lists, "the captures hold NAK lists, FINs and parity parameters");
}
use options::OPTION_HEADER;
