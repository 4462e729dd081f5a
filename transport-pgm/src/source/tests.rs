//! One source by hand: what leaves, when, and in answer to what.

use std::time::Duration;

use super::*;
use crate::limits::{ASKER_BURST_MIN, ASKER_PER_100_DATA, ASKER_PER_SECOND};
use crate::packet::Ack;
use crate::testing::kit::{Sent, Speaker, host, packet};

fn tsdu(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(1 + number as usize % 5)
}

fn data(repair: bool, sqn: u32, trail: u32) -> Sent {
    Sent::Data { repair, sqn, trail, tsdu: tsdu(sqn) }
}

/// A source that has said so many packets, with its first SPM behind it.
fn speaker(packets: u32) -> Speaker {
    let mut speaker = Speaker::new(|_| {});
    assert_eq!(speaker.turn(), [Sent::Spm { sqn: 0, trail: 0, lead: u32::MAX, fin: false }]);
    let want: Vec<_> = (0..packets).map(|sqn| data(false, sqn, (sqn + 1).saturating_sub(100))).collect();
    assert_eq!(speaker.say((0..packets).map(tsdu)).turn(), want);
    speaker
}

#[test]
fn a_nak_is_confirmed_at_once_with_its_list_and_then_repaired_in_order() {
    let mut speaker = speaker(10);
    speaker.after(1).nak(1, &[3, 5, 9]);
    let ncf = Sent::Ncf(vec![3, 5, 9]);
    assert_eq!(speaker.turn(), [ncf, data(true, 3, 0), data(true, 5, 0), data(true, 9, 0)]);
    assert_eq!(speaker.source.counters().rdata, 3);
}

#[test]
fn a_repair_says_the_trail_of_now() {
    let mut speaker = speaker(100);
    speaker.say((100..150).map(tsdu)).turn();
    speaker.nak(1, &[77]);
    assert_eq!(speaker.turn(), [Sent::Ncf(vec![77]), data(true, 77, 50)]);
}

#[test]
fn naks_that_the_repair_has_crossed_bring_no_second_one_and_later_ones_do() {
    let mut speaker = speaker(10);
    // Two milliseconds from data to NAK: so long may the next NAKs for it be under way.
    speaker.after(2).nak(1, &[4]);
    speaker.nak(2, &[4]);
    assert_eq!(
        speaker.turn(),
        [Sent::Ncf(vec![4]), data(true, 4, 0)],
        "one confirmation for both, and one repair"
    );
    speaker.now += Duration::from_micros(1500);
    speaker.nak(3, &[4]);
    assert_eq!(speaker.turn(), [Sent::Ncf(vec![4])]);
    speaker.after(1).nak(3, &[4]);
    assert_eq!(speaker.turn().last(), Some(&data(true, 4, 0)));
    assert_eq!(speaker.source.counters().naks_repeated, 1, "the one that was crossed");
}

#[test]
fn what_the_window_holds_no_more_is_answered_by_an_spm_and_what_was_never_sent_by_nothing() {
    let mut speaker = speaker(100);
    speaker.say((100..150).map(tsdu)).turn();
    speaker.after(3).nak(1, &[49, 50, 149, 150, 1 << 31]);
    assert_eq!(speaker.turn(), [Sent::Ncf(vec![50, 149]), data(true, 50, 50), data(true, 149, 50)]);
    speaker.after(2);
    assert_eq!(speaker.turn(), [Sent::Spm { sqn: 1, trail: 50, lead: 149, fin: false }]);
    speaker.nak(1, &[150]);
    speaker.nak(1, &[0]);
    assert_eq!(speaker.turn(), []);
    let counters = speaker.source.counters();
    assert_eq!((counters.naks_late, counters.naks_early), (2, 3));
}

#[test]
fn a_request_for_an_spm_is_answered_but_not_more_often_than_the_least_interval() {
    let mut speaker = speaker(1);
    let request = packet(Body::Spmr, &[]);
    speaker.after(2).hear(&request);
    assert_eq!(speaker.turn(), [], "the first was 2 ms ago");
    speaker.after(3).hear(&request);
    assert_eq!(speaker.turn().len(), 1);
    for _ in 0..100 {
        speaker.hear(&request);
    }
    assert_eq!(speaker.turn(), []);
    assert_eq!(speaker.after(5).turn().len(), 1);
    assert_eq!(speaker.source.counters().spmrs, 102);
}

#[test]
fn heartbeats_come_at_a_decaying_rate_after_data_and_ambient_ones_in_between() {
    let mut speaker = Speaker::new(|config| {
        config.heartbeat_max = Duration::from_millis(160);
        config.ambient = Duration::from_millis(400);
    });
    speaker.turn();
    speaker.say([tsdu(0)]).turn();
    let said_at = speaker.now;
    let mut beats = Vec::new();
    while beats.len() < 8 {
        speaker.now += speaker.due_in();
        assert_eq!(speaker.turn().len(), 1);
        beats.push((speaker.now - said_at).as_millis());
    }
    assert_eq!(beats, [5, 15, 35, 75, 155, 315, 475, 635]);
    // Data without end has no heartbeats, and ambient SPMs all the same.
    let mut spms = 0;
    for _ in 0..1000 {
        spms += speaker.after(1).say([tsdu(0)]).turn().len() - 1;
    }
    assert!((2..=3).contains(&spms), "{spms} SPMs in a second of data");
}

#[test]
fn bytes_that_have_not_gone_are_not_overwritten() {
    let mut speaker = Speaker::new(|config| config.window_packets = 8);
    let now = speaker.time();
    speaker.say((0..20).map(tsdu));
    // The socket blocks after three of them.
    assert_eq!(speaker.source.prepare(now, 100, &mut speaker.waiting), 9, "an SPM and all of the window");
    let before: Vec<_> = speaker.source.datagrams().map(|(_, bytes)| bytes.to_vec()).collect();
    speaker.source.sent(4);
    assert_eq!(speaker.source.prepare(now, 100, &mut speaker.waiting), 5 + 3);
    let after: Vec<_> = speaker.source.datagrams().map(|(_, bytes)| bytes.to_vec()).collect();
    assert_eq!(after[..5], before[4..]);
    speaker.source.sent(100);
    let rest: Vec<_> = speaker.turn();
    assert_eq!(rest.len(), 9);
    assert_eq!(rest.last(), Some(&Sent::Data { repair: false, sqn: 19, trail: 12, tsdu: tsdu(19) }));
    // A repair that is on its way keeps its place as well.
    speaker.nak(1, &[12]);
    speaker.source.prepare(now, 100, &mut speaker.waiting);
    speaker.say((20..40).map(tsdu));
    speaker.source.prepare(now, 100, &mut speaker.waiting);
    let sqns: Vec<_> =
        speaker.source.datagrams().filter_map(|(_, bytes)| Some(Packet::parse(bytes).ok()?.body)).collect();
    assert!(
        matches!(sqns[..], [Body::Ncf(_), Body::Rdata(data)] if data.sqn == Sqn(12) && data.tsdu == tsdu(12))
    );
}

#[test]
fn the_rate_holds_back_data_and_says_when_to_come_again() {
    let mut speaker = Speaker::new(|config| {
        (config.rate, config.repair_rate) = (Some(1_000_000), Some(1_000_000));
        config.window_packets = 5000;
    });
    speaker.turn();
    speaker.say((0..2000).map(|_| vec![1; 1000]));
    let mut sent = 0;
    while !speaker.waiting.0.is_empty() {
        sent += speaker.turn().iter().filter(|sent| matches!(sent, Sent::Data { .. })).count();
        let wait = speaker.due_in();
        assert!(!wait.is_zero() || speaker.waiting.0.is_empty());
        speaker.now += wait;
    }
    // 2000 packets of 1052 bytes; the first 64 KiB go at once.
    let took = speaker.now.as_millis();
    assert!((2000..2110).contains(&took), "{took} ms for {sent} packets");
}

#[test]
fn repairs_of_a_rated_source_leave_data_its_rate() {
    let mut speaker = Speaker::new(|config| {
        (config.rate, config.repair_rate) = (Some(1_000_000), Some(500_000));
        config.window_packets = 1000;
    });
    speaker.say((0..1000).map(|_| vec![1; 1000]));
    let (mut data, mut repairs) = (0u64, 0u64);
    for millis in 0..1000u64 {
        for receiver in 0..5 {
            speaker.nak(receiver, &[(millis % 1000) as u32, (millis * 7 % 1000) as u32]);
        }
        for sent in speaker.turn() {
            match sent {
                Sent::Data { repair: true, .. } => repairs += 1052,
                Sent::Data { repair: false, .. } => data += 1052,
                _ => {}
            }
        }
        speaker.after(1);
    }
    assert!((1_000_000..1_070_000).contains(&data), "{data} bytes of data");
    assert!((400_000..570_000).contains(&repairs), "{repairs} bytes of repairs");
}

#[test]
fn what_one_receiver_asks_for_beyond_its_share_is_counted_and_the_others_are_repaired() {
    const ROUNDS: u64 = 100;
    let mut speaker = speaker(100);
    let all: Vec<_> = (0..63).collect();
    let mut repairs = 0;
    for _ in 0..ROUNDS {
        // Late enough that what was repaired is asked for anew.
        speaker.after(3).nak(1, &all);
        repairs +=
            speaker.turn().iter().filter(|sent| matches!(sent, Sent::Data { repair: true, .. })).count()
                as u64;
    }
    let earned = ASKER_BURST_MIN + ASKER_PER_SECOND * 3 * ROUNDS / 1000 + ASKER_PER_100_DATA;
    assert!((ASKER_BURST_MIN..=earned).contains(&repairs), "{repairs} repairs, {earned} were earned");
    assert_eq!(speaker.source.counters().naks_limited, ROUNDS * 63 - repairs);
    speaker.nak(2, &[99]);
    assert_eq!(speaker.turn().last(), Some(&data(true, 99, 0)));
}

#[test]
fn an_end_is_announced_and_the_source_stays_for_those_who_ask() {
    let mut speaker = speaker(5);
    speaker.source.finish(speaker.time());
    assert_eq!(speaker.turn(), [Sent::Spm { sqn: 1, trail: 0, lead: 4, fin: true }]);
    assert!(!speaker.source.is_finished(speaker.time()));
    speaker.after(400).nak(1, &[2]);
    assert!(speaker.turn().contains(&data(true, 2, 0)));
    speaker.after(999).turn();
    assert!(!speaker.source.is_finished(speaker.time()), "a NAK came less than a second ago");
    for _ in 0..5 {
        speaker.turn();
        speaker.after(25);
    }
    assert!(speaker.source.is_finished(speaker.time()));
}

#[test]
fn a_source_with_more_to_say_does_not_say_that_it_ends() {
    let mut speaker = Speaker::new(|config| config.rate = Some(10_000));
    speaker.say((0..100).map(|_| vec![1; 1000]));
    speaker.source.finish(speaker.time());
    let mut fins = Vec::new();
    while !speaker.source.is_finished(speaker.time()) {
        let waiting = speaker.waiting.0.len();
        let sent = speaker.turn();
        fins.extend(sent.iter().filter(|sent| matches!(sent, Sent::Spm { fin: true, .. })).map(|_| waiting));
        speaker.now += speaker.due_in().max(Duration::from_micros(1));
        assert!(speaker.now < Duration::from_secs(30));
    }
    assert!(fins.len() >= 5 && fins.iter().all(|waiting| *waiting <= 16), "{fins:?}");
}

#[test]
fn one_who_asks_for_ever_does_not_keep_a_source_for_ever() {
    let mut speaker = speaker(5);
    speaker.source.finish(speaker.time());
    while !speaker.source.is_finished(speaker.time()) {
        speaker.after(100).nak(1, &[2]);
        speaker.turn();
        assert!(speaker.now <= FINISH_MAX);
    }
    assert!(speaker.now >= FINISH_MAX);
}

#[test]
fn what_means_nothing_here_is_counted() {
    let mut speaker = speaker(5);
    let nak = Nak { sqn: Sqn(1), source: host(1), group: host(2) };
    speaker.hear(&packet(Body::Nak(nak), &[]));
    speaker.hear(&Packet { parity: true, ..packet(Body::Nak(nak), &[]) });
    speaker.hear(&packet(Body::Nnak(nak), &[]));
    speaker.hear(&packet(Body::Ack(Ack { rx_max: Sqn(1), bitmap: 0 }), &[]));
    assert_eq!(speaker.turn(), []);
    let counters = speaker.source.counters();
    assert_eq!((counters.naks_foreign, counters.naks_parity, counters.ignored, counters.naks), (1, 1, 2, 0));
}

#[test]
fn the_window_follows_from_rate_and_recovery_within_bounds() {
    let config = || SourceConfig::new(crate::testing::kit::tsi(), 1, host(1), host(2));
    let packets = |rate, seconds| config().rate(rate, Duration::from_secs(seconds)).window_packets;
    assert_eq!((config().mtu(1500, 28).tsdu_max, config().mtu(1500, 20).tsdu_max), (1428, 1436), "libzmq's");
    assert_eq!((config().mtu(0, 28).tsdu_max, config().mtu(1 << 20, 28).tsdu_max), (TSDU_MIN, TSDU_LEN_MAX));
    assert_eq!(packets(Some(12_500), 10), WINDOW_PACKETS_MIN);
    assert_eq!(packets(Some(1_452_000), 10), 10_000);
    assert!(packets(Some(125_000_000), 10) as usize * 1452 <= WINDOW_BYTES_MAX);
    assert_eq!(packets(None, 10), packets(Some(u64::MAX), u64::MAX));
}

#[test]
fn session_ids_differ_by_their_seeds_in_every_part() {
    let ids: std::collections::BTreeSet<_> = (0..1000).map(|seed| Tsi::from_seed(seed).gsi).collect();
    let ports: std::collections::BTreeSet<_> = (0..1000).map(|seed| Tsi::from_seed(seed).port).collect();
    assert!(ids.len() == 1000 && ports.len() > 980 && !ports.contains(&0));
}
