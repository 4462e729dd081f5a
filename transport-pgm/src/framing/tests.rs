//! Streams there and back: cut at every length, with gaps anywhere, and those of libzmq.

use std::collections::VecDeque;

use transport_core::limits::AHEAD_MAX;
use transport_core::{Flags, FramePool, Landing, Part};

use super::*;
use crate::limits::MESSAGE_PARTS_MAX;
use crate::packet::{Body, Packet};
use crate::testing::golden;
use crate::testing::random::Random;

/// A message by its parts' bodies.
type Plain = Vec<Vec<u8>>;

#[derive(Debug, Default)]
struct Taken {
    messages: Vec<Plain>,
    dropped: Vec<Dropped>,
}

impl Messages for Taken {
    fn message(&mut self, parts: impl ExactSizeIterator<Item = Part>) {
        let count = parts.len();
        let mut message = Plain::new();
        for part in parts {
            message.push(part.body.to_vec());
            assert_eq!(part.flags, if message.len() == count { Flags::LAST } else { Flags::MORE });
        }
        assert_eq!(message.len(), count);
        self.messages.push(message);
    }
    fn dropped(&mut self, why: Dropped) {
        self.dropped.push(why);
    }
}

fn landing() -> Landing {
    Landing::new(FramePool::new(64 << 20))
}

fn parts(messages: &[Plain]) -> VecDeque<Part> {
    let of = |message: &Plain| -> Vec<Part> {
        let last = message.len() - 1;
        let part = |(at, body): (usize, &Vec<u8>)| {
            if at == last { Part::last(body.clone()) } else { Part::more(body.clone()) }
        };
        message.iter().enumerate().map(part).collect()
    };
    messages.iter().flat_map(of).collect()
}

fn encode(messages: &[Plain], tsdu_len: usize) -> Vec<Vec<u8>> {
    let (mut encoder, mut parts, mut tsdus) = (Encoder::new(), parts(messages), Vec::new());
    let count = parts.len();
    let mut tsdu = vec![0xee; tsdu_len];
    loop {
        let len = encoder.fill(&mut tsdu, || parts.pop_front());
        if len == 0 {
            break;
        }
        tsdus.push(tsdu[..len].to_vec());
    }
    assert_eq!((encoder.finished(), encoder.is_inside_a_part()), (count as u64, false));
    tsdus
}

/// Messages that tell their number in every byte, of one to three parts whose lengths are around the edges.
fn numbered(count: usize, seed: u64) -> Vec<Plain> {
    let mut random = Random::new(seed);
    let lens = [0, 1, 5, 64, 65, 252, 253, 254, 255, 300, 1500, 5000];
    let mut body = |number: usize| vec![number as u8; lens[random.below(lens.len() as u64) as usize]];
    (0..count).map(|number| (0..1 + number % 3).map(|_| body(number)).collect()).collect()
}

#[test]
fn messages_come_back_from_packets_of_every_length() {
    let messages = numbered(40, 1);
    for tsdu_len in (TSDU_MIN..320).chain([1428, 1436, 8960, TSDU_MAX, TSDU_MAX + 5]) {
        let (mut decoder, mut landing, mut taken) = (Decoder::new(None), landing(), Taken::default());
        let tsdus = encode(&messages, tsdu_len);
        assert!(
            tsdus[..tsdus.len() - 1].iter().all(|tsdu| tsdu.len() == tsdu_len.min(TSDU_MAX)),
            "full ones"
        );
        tsdus.iter().for_each(|tsdu| decoder.push(tsdu, &mut landing, &mut taken));
        assert_eq!(taken.dropped, []);
        assert!(taken.messages == messages, "TSDUs of {tsdu_len}");
    }
}

#[test]
fn an_empty_pipe_cuts_the_packet() {
    let mut encoder = Encoder::new();
    let mut tsdu = [0; 100];
    assert_eq!(encoder.fill(&mut tsdu, || None), 0);
    let mut waiting = parts(&[vec![b"a".to_vec()], vec![b"b".to_vec()]]);
    let len = encoder.fill(&mut tsdu, || waiting.pop_front());
    assert_eq!(tsdu[..len], [0, 0, 2, 0, b'a', 2, 0, b'b']);
    // The second part of a message is no beginning; the message behind it is.
    let mut waiting = parts(&[vec![b"a".to_vec(), vec![7; 95]], vec![b"c".to_vec()]]);
    let len = encoder.fill(&mut tsdu, || waiting.pop_front());
    assert_eq!((len, &tsdu[..7]), (100, &[0, 0, 2, 1, b'a', 96, 0][..]));
    let len = encoder.fill(&mut tsdu, || waiting.pop_front());
    assert_eq!(tsdu[..len], [0, 2, 7, 7, 2, 0, b'c']);
}

#[test]
fn what_follows_a_gap_is_never_made_of_two_messages() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let messages = numbered(60, seed);
        let tsdu_len = [TSDU_MIN as u64 + random.below(200), 1428][seed as usize % 2] as usize;
        let tsdus = encode(&messages, tsdu_len);
        let lost: Vec<bool> = tsdus.iter().map(|_| random.chance(0.1)).collect();
        // Said simply: a message arrives if all packets arrive that hold a byte of it.
        let (mut want, mut at) = (Vec::new(), 0);
        let per_packet = tsdu_len - OFFSET_LEN;
        for message in &messages {
            let header = |len: usize| if len < 254 { 2 } else { LONG_HEADER };
            let len: usize = message.iter().map(|part| header(part.len()) + part.len()).sum();
            let packets = at / per_packet..=(at + len - 1) / per_packet;
            if !packets.into_iter().any(|packet| lost[packet]) {
                want.push(message.clone());
            }
            at += len;
        }
        let (mut decoder, mut landing, mut taken) = (Decoder::new(None), landing(), Taken::default());
        for (tsdu, lost) in tsdus.iter().zip(&lost) {
            if *lost { decoder.gap(&mut landing) } else { decoder.push(tsdu, &mut landing, &mut taken) }
        }
        assert_eq!(taken.dropped, [], "seed {seed}");
        assert!(taken.messages == want, "seed {seed}");
    }
}

#[test]
fn a_gap_that_nobody_reports_is_noticed_by_the_offset() {
    // The tail of the first message would be taken from the second.
    let messages = [vec![vec![1; 1000]], vec![vec![2; 1000]], vec![vec![3; 500]]];
    let tsdus = encode(&messages, 600);
    let (mut decoder, mut landing, mut taken) = (Decoder::new(None), landing(), Taken::default());
    for at in [0, 2, 3, 4] {
        if let Some(tsdu) = tsdus.get(at) {
            decoder.push(tsdu, &mut landing, &mut taken);
        }
    }
    assert_eq!(taken.dropped, [Dropped::Malformed]);
    assert!(taken.messages.iter().flatten().all(|body| body.iter().all(|byte| *byte == body[0])));
}

#[test]
fn one_who_joins_late_begins_with_the_next_message() {
    let messages = numbered(30, 5);
    let tsdus = encode(&messages, 700);
    for first in 0..tsdus.len() {
        let (mut decoder, mut landing, mut taken) = (Decoder::new(None), landing(), Taken::default());
        tsdus[first..].iter().for_each(|tsdu| decoder.push(tsdu, &mut landing, &mut taken));
        let len = taken.messages.len();
        assert!(taken.messages == messages[messages.len() - len..], "from packet {first}");
    }
}

#[test]
fn an_offset_at_the_end_says_that_no_message_begins() {
    // libzmq's way, when a message ends in a packet and there is no other.
    let messages = vec![vec![vec![7; 2000]], vec![vec![8; 100]]];
    let mut tsdus = encode(&messages[..1], 700);
    for tsdu in tsdus.iter_mut().skip(1) {
        assert_eq!(tsdu[..2], NO_START.to_be_bytes());
    }
    let last = tsdus.last_mut().expect("a packet");
    let at_the_end = (last.len() - OFFSET_LEN) as u16;
    last[..2].copy_from_slice(&at_the_end.to_be_bytes());
    let (mut decoder, mut landing, mut taken) = (Decoder::new(None), landing(), Taken::default());
    tsdus.extend(encode(&messages[1..], 700));
    tsdus.iter().for_each(|tsdu| decoder.push(tsdu, &mut landing, &mut taken));
    assert!(taken.messages == messages && taken.dropped.is_empty(), "{:?}", taken.dropped);
    // Nor for one who has just joined.
    let mut late = Decoder::new(None);
    let mut taken = Taken::default();
    tsdus[tsdus.len() / 2..].iter().for_each(|tsdu| late.push(tsdu, &mut landing, &mut taken));
    assert!(taken.dropped.is_empty());
}

#[test]
fn what_is_too_large_or_malformed_is_dropped_and_said_and_the_stream_goes_on() {
    let small = vec![vec![9; 10]];
    let check = |mut decoder: Decoder, tsdus: &[Vec<u8>], why: &[Dropped]| {
        let (mut landing, mut taken) = (landing(), Taken::default());
        tsdus.iter().for_each(|tsdu| decoder.push(tsdu, &mut landing, &mut taken));
        assert_eq!(taken.dropped, why);
        assert!(taken.messages == std::slice::from_ref(&small));
    };
    let good = encode(std::slice::from_ref(&small), 100).remove(0);
    let large = encode(&[vec![vec![0; 300]]], 100);
    let all: Vec<_> = large.iter().chain([&good]).cloned().collect();
    check(Decoder::new(Some(299)), &all, &[Dropped::TooLarge]);
    for bad in
        [vec![0], vec![], vec![0, 0, 0, 0], vec![0, 9, 2, 0, 7], vec![0, 0, LONG, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        check(Decoder::new(None), &[bad, good.clone()], &[Dropped::Malformed]);
    }
    let huge = vec![0, 0, LONG, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    check(Decoder::new(None), &[huge, good.clone()], &[Dropped::TooLarge]);
    // A message of parts without end.
    let mut endless: Vec<u8> = vec![0, 0];
    endless.extend([1, 1].repeat(MESSAGE_PARTS_MAX / 2));
    let again: Vec<u8> = [&[0xff, 0xff][..], &endless[2..]].concat();
    check(Decoder::new(None), &[endless, again, vec![0xff, 0xff, 1, 1], good], &[Dropped::TooLarge]);
}

#[test]
fn a_claimed_length_costs_nothing_until_its_bytes_come() {
    let (mut landing, mut taken) = (Landing::new(FramePool::new(4 * AHEAD_MAX)), Taken::default());
    let mut claims: Vec<Decoder> = (0..32).map(|_| Decoder::new(None)).collect();
    for decoder in &mut claims {
        let mut tsdu = vec![0, 0, LONG];
        tsdu.extend((3u64 << 20).to_be_bytes());
        tsdu.extend([0, 1, 2, 3]);
        decoder.push(&tsdu, &mut landing, &mut taken);
    }
    let lent: usize = claims.iter().filter_map(|decoder| Some(decoder.waiting()?.ahead)).sum();
    assert!(lent > 0 && lent <= AHEAD_MAX);
    claims.iter_mut().for_each(|decoder| decoder.gap(&mut landing));
    assert!(landing.target(3 << 20).is_some_and(|target| target.ahead > 0), "all of it came back");
    assert!(taken.messages.is_empty() && taken.dropped.is_empty());
}

#[test]
fn libzmqs_packets_are_read_and_said_again_byte_for_byte() {
    let (mut decoder, mut landing, mut taken) = (Decoder::new(None), landing(), Taken::default());
    let mut tsdus = Vec::new();
    for record in golden::records(golden::TRACE) {
        if let Ok(Packet { body: Body::Odata(data), .. }) = Packet::parse(record.bytes) {
            decoder.push(data.tsdu, &mut landing, &mut taken);
            tsdus.push(data.tsdu.to_vec());
        }
    }
    assert_eq!((taken.messages.len(), taken.dropped.len()), (tsdus.len(), 0));
    for (at, (message, tsdu)) in taken.messages.iter().zip(&tsdus).enumerate() {
        assert_eq!((message[0].len(), &message[0][..8]), (300, &(at as u64).to_le_bytes()[..]));
        assert_eq!(encode(std::slice::from_ref(message), 1428), std::slice::from_ref(tsdu));
    }
}
