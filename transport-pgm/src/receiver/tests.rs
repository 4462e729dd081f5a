//! A group's receivers by hand: what is handed on, asked for and given up, and what forged packets come to.

use super::*;
use crate::inbox::Inbox;
use crate::limits::SOURCES_MAX;
use crate::packet::{Ack, Fragment, Poll};
use crate::testing::golden;
use crate::testing::kit::{Ear, NLA, News, Sent, host, odata, packet, rdata, spm, tsi};
use transport_core::Landing;

fn data(number: u32) -> News {
    News::Data(0, number.to_be_bytes().to_vec())
}

/// One who has heard packets 10 to 12 and an SPM.
fn ear() -> Ear {
    ear_with(|_| {})
}

fn ear_with(change: impl FnOnce(&mut SourcesConfig)) -> Ear {
    let mut ear = Ear::new(change);
    assert_eq!(ear.hear_body(spm(1, 0, 9)), [News::Up(0, tsi())]);
    for sqn in 10..13 {
        assert_eq!(hear(&mut ear, sqn), [data(sqn)]);
    }
    ear
}

fn hear(ear: &mut Ear, sqn: u32) -> Vec<News> {
    ear.hear_body(odata(sqn, 0, &sqn.to_be_bytes()))
}

fn repair(ear: &mut Ear, sqn: u32) -> Vec<News> {
    ear.hear_body(rdata(sqn, 0, &sqn.to_be_bytes()))
}

fn ncf(ear: &mut Ear, sqn: u32) {
    assert_eq!(
        ear.hear_body(Body::Ncf(Nak { sqn: Sqn(sqn), source: NLA, group: crate::testing::kit::GROUP })),
        []
    );
}

fn naks(sent: &[Sent]) -> Vec<Vec<u32>> {
    let nak = |sent: &Sent| match sent {
        Sent::Nak(to, sqns) => {
            assert_eq!(*to, NLA);
            sqns.clone()
        }
        other => panic!("{other:?}"),
    };
    sent.iter().map(nak).collect()
}

fn counters(ear: &Ear) -> ReceiverCounters {
    ear.sources.source_counters(*ear.ids.last().expect("a source")).expect("it is up")
}

#[test]
fn a_gap_is_asked_for_in_one_nak_and_closed_by_repairs_in_any_order() {
    let mut ear = ear();
    assert_eq!(hear(&mut ear, 16), []);
    assert_eq!(naks(&ear.turns(3)), [[13, 14, 15]]);
    assert_eq!(repair(&mut ear, 15), []);
    assert_eq!(repair(&mut ear, 13), [data(13)]);
    assert_eq!(hear(&mut ear, 17), []);
    assert_eq!(repair(&mut ear, 14), [data(14), data(15), data(16), data(17)]);
    assert_eq!(ear.turns(1000), [], "nothing is asked for any more");
    let counters = counters(&ear);
    assert_eq!((counters.repaired, counters.gaps, counters.lost, counters.missing), (3, 3, 0, 0));
}

#[test]
fn a_gap_of_many_is_asked_for_in_lists_of_63() {
    let mut ear = ear();
    hear(&mut ear, 213);
    let lists = naks(&ear.turns(3));
    assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [63, 63, 63, 11]);
    assert!(lists.concat().into_iter().eq(13..213), "from the oldest to the latest");
}

#[test]
fn a_confirmation_of_anothers_nak_suppresses_ours_until_the_repair_is_overdue() {
    let mut ear = ear();
    hear(&mut ear, 14);
    ncf(&mut ear, 13);
    assert_eq!(ear.turns(9), [], "the repair may take 10 ms");
    assert_eq!(naks(&ear.turns(5)), [[13]]);
    // As does another's NAK, by multicast.
    hear(&mut ear, 16);
    let nak = Nak { sqn: Sqn(15), source: NLA, group: crate::testing::kit::GROUP };
    ear.hear_body(Body::Nak(nak));
    assert!(naks(&ear.turns(7)).concat().iter().all(|sqn| *sqn == 13));
}

#[test]
fn a_nak_is_repeated_until_it_is_confirmed_and_then_until_the_repair_comes() {
    let mut ear = ear();
    hear(&mut ear, 14);
    let asked = naks(&ear.turns(100));
    assert!((3..8).contains(&asked.len()) && asked.concat().iter().all(|sqn| *sqn == 13), "{asked:?}");
    ncf(&mut ear, 13);
    assert!(!naks(&ear.turns(100)).is_empty());
    assert_eq!(repair(&mut ear, 13), [data(13), data(14)]);
}

#[test]
fn retries_for_either_reason_have_a_count_of_their_own_and_an_end() {
    for (ncf_retries, data_retries, confirmed) in [(3, 200, false), (200, 3, true), (3, 3, true)] {
        let mut ear = ear_with(|config| {
            (config.receiver.ncf_retries, config.receiver.data_retries) = (ncf_retries, data_retries);
        });
        hear(&mut ear, 14);
        let (mut asked, mut news) = (0, Vec::new());
        while news.is_empty() {
            let naks = naks(&ear.turns(1));
            asked += naks.len();
            if confirmed && !naks.is_empty() {
                ncf(&mut ear, 13);
            }
            news = ear.news();
            assert!(ear.now < Duration::from_secs(9));
        }
        assert_eq!(news, [News::Lost(0, 1), data(14)]);
        assert_eq!(asked, 4, "one NAK and three retries");
    }
}

#[test]
fn what_the_source_holds_no_more_is_lost_at_once() {
    let mut ear = ear();
    hear(&mut ear, 20);
    let want = [News::Lost(0, 4), data(17), data(18)];
    assert_eq!(hear(&mut ear, 18), []);
    assert_eq!(hear(&mut ear, 17), []);
    assert_eq!(ear.hear_body(spm(2, 17, 20)), want);
    // By data as well, and beyond everything that was known.
    // Then two have to say so: one that is forged moves no window.
    assert_eq!(ear.hear_body(odata(40, 30, &40u32.to_be_bytes())), []);
    assert_eq!(
        ear.hear_body(odata(41, 30, &41u32.to_be_bytes())),
        [News::Lost(0, 1), data(20), News::Lost(0, 9)]
    );
    assert_eq!(counters(&ear).lost, 14);
    let naks = naks(&ear.turns(3));
    assert!(naks.concat().into_iter().eq(30..41));
}

#[test]
fn nothing_is_asked_for_before_an_spm_has_said_where_and_one_is_requested() {
    let mut ear = Ear::new(|_| {});
    hear(&mut ear, 10);
    hear(&mut ear, 12);
    let sent = ear.turns(10);
    assert_eq!(sent, [Sent::Spmr(To::Neighbours), Sent::Spmr(To::Host(NLA))]);
    // A neighbour asks before us: we wait for its answer.
    let mut other = Ear::new(|_| {});
    hear(&mut other, 10);
    other.hear_body(Body::Spmr);
    assert_eq!(other.turns(9), []);
    assert_eq!(ear.hear_body(spm(5, 0, 12)), []);
    let naks = naks(&ear.turns(15));
    assert!(!naks.is_empty() && naks.iter().all(|sqns| *sqns == [11]), "{naks:?}");
}

#[test]
fn the_first_original_data_or_spm_is_the_live_edge() {
    let mut ear = Ear::new(|_| {});
    assert_eq!(repair(&mut ear, 3), [], "a repair is of the past, and brings no source up");
    assert_eq!(hear(&mut ear, 700), [News::Up(0, tsi()), data(700)]);
    assert_eq!(hear(&mut ear, 699), []);
    assert_eq!(repair(&mut ear, 690), []);
    assert_eq!(ear.turns(1), []);
    let mut ear = Ear::new(|_| {});
    ear.hear_body(spm(1, 100, 699));
    assert_eq!(hear(&mut ear, 701), []);
    assert_eq!(repair(&mut ear, 700), [data(700), data(701)]);
}

#[test]
fn an_spm_out_of_sequence_changes_nothing_and_forged_numbers_are_overcome() {
    let mut ear = ear();
    ear.hear_body(spm(1, 12, 12));
    ear.hear_body(spm(0, 12, 12));
    assert_eq!(counters(&ear).spms_stale, 2);
    // A liar far ahead. Then the truth, one by one, until it is believed again.
    ear.hear_body(spm(1 << 30, 0, 12));
    for sqn in 2..20 {
        ear.hear_body(spm(sqn, 0, 14));
    }
    assert_eq!(counters(&ear).missing, 2);
    assert_eq!(counters(&ear).lost, 0);
}

#[test]
fn an_spm_that_lies_about_the_lead_costs_nothing() {
    let mut ear = ear_with(|config| config.receiver.recovery = Duration::from_millis(500));
    // Once, far beyond any window: not believed. Within the window: asked for, never confirmed, and forgotten.
    assert_eq!(ear.hear_body(spm(2, 0, 1 << 20)), []);
    assert_eq!(ear.hear_body(spm(3, 0, 5000)), []);
    ear.turns(200);
    assert_eq!(hear(&mut ear, 13), [data(13)]);
    ear.turns(2000);
    assert_eq!(ear.news(), []);
    assert_eq!((counters(&ear).lost, counters(&ear).missing), (0, 0));
    for sqn in 14..20 {
        assert_eq!(hear(&mut ear, sqn), [data(sqn)]);
    }
    // A trail beyond everything is no more than the loss of what was missing.
    hear(&mut ear, 22);
    assert_eq!(ear.hear_body(spm(4, 23, 22)), [News::Lost(0, 2), data(22)]);
}

#[test]
fn data_far_away_moves_no_window_alone() {
    let mut ear = ear();
    assert_eq!(hear(&mut ear, 1 << 28), []);
    assert_eq!(hear(&mut ear, 1 << 30), []);
    assert_eq!(hear(&mut ear, 13), [data(13)]);
    assert_eq!(counters(&ear).strays, 2);
    // Two that belong together do: an outage may have been long. Only what the source may still have is waited for.
    assert_eq!(ear.hear_body(odata(1_000_000, 999_990, b"a")), []);
    assert_eq!(ear.hear_body(odata(1_000_001, 999_990, b"b")), [News::Lost(0, 999_990 - 14)]);
    assert!(naks(&ear.turns(3)).concat().into_iter().eq(999_990..1_000_001));
}

#[test]
fn a_window_that_forged_packets_have_moved_comes_back_to_where_the_data_is() {
    let mut ear = ear();
    for forged in 0..2 {
        ear.hear_body(odata((1 << 30) + forged, 1 << 30, b"forged"));
    }
    let news: Vec<_> = (13..30).flat_map(|sqn| hear(&mut ear, sqn)).collect();
    assert!(matches!(news[..], [News::Lost(0, _), ref rest @ ..] if rest.len() >= 13), "{news:?}");
    assert_eq!(news.last(), Some(&data(29)));
    // Once it is certain where the window is, old packets move nothing, however many there are.
    for sqn in 30..200 {
        assert_eq!(hear(&mut ear, sqn), [data(sqn)]);
    }
    let old = 0u32.wrapping_sub(1 << 20);
    assert!((0..200).all(|more| hear(&mut ear, old + more).is_empty()));
    assert_eq!(hear(&mut ear, 200), [data(200)]);
}

#[test]
fn what_is_replayed_is_not_handed_on_again() {
    let mut ear = ear();
    for _ in 0..3 {
        assert!((0..13).all(|sqn| hear(&mut ear, sqn).is_empty() && repair(&mut ear, sqn).is_empty()));
    }
    hear(&mut ear, 14);
    assert_eq!(hear(&mut ear, 14), []);
    // Confirmations without end prolong no wait for ever.
    for _ in 0..1000 {
        ncf(&mut ear, 13);
        ear.after(1);
        if !naks(&ear.turn()).is_empty() {
            return;
        }
    }
    panic!("13 was never asked for");
}

#[test]
fn a_source_that_ends_goes_down_when_everything_is_there_and_stragglers_do_not_wake_it() {
    let fin = |sqn| packet(spm(sqn, 0, 14), &[Opt::Fin]);
    let mut ear = ear();
    assert_eq!(ear.hear(&fin(2)), []);
    assert_eq!(hear(&mut ear, 14), []);
    assert_eq!(repair(&mut ear, 13), [data(13), data(14), News::Down(0, End::Finished)]);
    assert_eq!(ear.hear(&fin(3)), []);
    assert_eq!(ear.hear_body(spm(4, 0, 14)), []);
    assert_eq!(hear(&mut ear, 14), []);
    assert_eq!(ear.sources.deadline(), None);
    // The end was forged: there is more.
    assert_eq!(hear(&mut ear, 15), [News::Up(0, tsi()), data(15)]);
    assert_eq!(ear.sources.counters().unknown, 3);
}

#[test]
fn an_end_is_not_waited_for_beyond_the_recovery_of_what_is_missing() {
    let mut ear = ear_with(|config| config.receiver.recovery = Duration::from_secs(1));
    ear.hear(&packet(spm(2, 0, 15), &[Opt::Fin]));
    ear.turns(1500);
    assert_eq!(ear.news(), [News::Lost(0, 3), News::Down(0, End::Finished)], "all were asked for together");
}

#[test]
fn a_reset_that_refuses_naks_loses_what_is_missing_at_once() {
    let mut ear = ear();
    hear(&mut ear, 15);
    let reset = [Opt::Rst { no_naks: true, code: 1 }];
    let news = ear.hear(&packet(spm(2, 0, 15), &reset));
    assert_eq!(news, [News::Lost(0, 2), data(15), News::Down(0, End::Finished)]);
}

#[test]
fn a_source_that_is_silent_for_too_long_is_gone_with_what_was_missing() {
    let mut ear = ear_with(|config| {
        config.receiver.expiry = Duration::from_secs(5);
        config.receiver.recovery = Duration::from_secs(60);
    });
    hear(&mut ear, 14);
    ear.turns(4999);
    assert_eq!(ear.news(), []);
    ear.turns(2);
    assert_eq!(ear.news(), [News::Lost(0, 1), data(14), News::Down(0, End::Silent)]);
    assert_eq!(ear.sources.waiting_packets(), 0);
    assert_eq!(hear(&mut ear, 15), [News::Up(0, tsi()), data(15)], "and may come back");
}

#[test]
fn a_source_that_is_closed_here_stays_closed() {
    let mut ear = ear();
    hear(&mut ear, 14);
    let id = ear.ids[0];
    ear.sources.close(id);
    ear.sources.close(id);
    assert_eq!((ear.sources.waiting_packets(), ear.sources.deadline()), (0, None));
    assert_eq!(hear(&mut ear, 1500), []);
    assert_eq!(ear.hear_body(spm(9, 0, 2000)), []);
    assert_eq!(ear.sources.source_counters(id), None);
}

#[test]
fn sources_are_bounded_and_those_that_say_nothing_make_room() {
    let mut ear = Ear::new(|_| {});
    let of = |seed: u64, body| Packet { tsi: Tsi::from_seed(seed), ..packet(body, &[]) };
    for seed in 0..SOURCES_MAX as u64 {
        let body = if seed % 2 == 0 { spm(0, 0, u32::MAX) } else { odata(0, 0, b"x") };
        assert!(matches!(ear.hear(&of(100 + seed, body))[..], [News::Up(..), ..]));
    }
    assert_eq!(ear.hear(&of(1, odata(0, 0, b"x"))), []);
    assert_eq!(ear.sources.counters().refused, 1);
    ear.turns(2000);
    ear.news();
    let news = ear.hear(&of(1, odata(0, 0, b"x")));
    assert!(matches!(news[..], [News::Down(0, End::Silent), News::Up(0, _), News::Data(0, _)]), "{news:?}");
    // Those with data stay.
    for seed in 2..60 {
        ear.hear(&of(seed, odata(0, 0, b"x")));
    }
    assert!(matches!(ear.hear(&of(101, odata(1, 0, b"y")))[..], [News::Data(1, _)]));
}

#[test]
fn what_waits_is_bounded_and_the_oldest_gap_goes_first() {
    let mut ear = ear_with(|config| config.waiting_bytes = 4 * config.tsdu_max);
    for sqn in [14, 15, 17, 18] {
        assert_eq!(hear(&mut ear, sqn), []);
    }
    assert_eq!(hear(&mut ear, 20), [News::Lost(0, 1), data(14), data(15)]);
    assert_eq!(hear(&mut ear, 21), []);
    assert_eq!(hear(&mut ear, 22), [News::Lost(0, 1), data(17), data(18)]);
    assert_eq!(repair(&mut ear, 16), []);
    assert_eq!(repair(&mut ear, 19), [data(19), data(20), data(21), data(22)]);
    assert_eq!(counters(&ear).lost, 2);
    // With no memory at all, order is kept by losing.
    let mut ear = ear_with(|config| config.waiting_bytes = 0);
    assert_eq!(hear(&mut ear, 14), [News::Lost(0, 1), data(14)]);
    assert_eq!(hear(&mut ear, 15), [data(15)]);
}

#[test]
fn a_repair_that_comes_after_it_was_given_up_is_taken_while_it_can_be() {
    for waiting in [100, 3] {
        let mut ear = ear_with(|config| {
            config.waiting_bytes = waiting * config.tsdu_max;
            config.receiver.ncf_retries = 1;
        });
        // 15 is given up while 13, which was confirmed, is still waited for.
        for sqn in [14, 16, 17] {
            hear(&mut ear, sqn);
        }
        ncf(&mut ear, 13);
        while counters(&ear).missing == 2 {
            ear.turns(1);
            ncf(&mut ear, 13);
        }
        assert_eq!(ear.news(), []);
        let late = repair(&mut ear, 15);
        if waiting == 100 {
            assert_eq!(late, []);
            assert_eq!(repair(&mut ear, 13), [data(13), data(14), data(15), data(16), data(17)]);
        } else {
            assert_eq!(late, [News::Lost(0, 1), data(14), News::Lost(0, 1), data(16), data(17)]);
        }
        assert_eq!(ear.sources.waiting_packets(), 0);
    }
}

#[test]
fn a_window_as_large_as_may_be_lets_go_of_its_oldest() {
    let mut ear = ear_with(|config| config.receiver.window_packets = 8);
    for sqn in 14..21 {
        assert_eq!(hear(&mut ear, sqn), []);
    }
    // Beyond the window: one is not believed, two are.
    assert_eq!(hear(&mut ear, 21), []);
    let want: Vec<_> = [News::Lost(0, 1)].into_iter().chain((14..21).map(data)).collect();
    assert_eq!(hear(&mut ear, 22), want);
    assert_eq!(repair(&mut ear, 21), [data(21), data(22)]);
}

#[test]
fn what_nobody_here_can_read_is_a_gap_and_is_not_asked_for_again() {
    let mut ear = ear();
    let fragment = [Opt::Fragment(Fragment { first: Sqn(13), offset: 0, len: 9 })];
    assert_eq!(ear.hear(&packet(odata(13, 0, b"part"), &fragment)), [News::Lost(0, 1)]);
    hear(&mut ear, 16);
    let long = vec![0; 2000];
    assert_eq!(ear.hear_body(rdata(15, 0, &long)), [], "longer than may wait");
    assert_eq!(repair(&mut ear, 14), [data(14), News::Lost(0, 1), data(16)]);
    assert_eq!(ear.turns(100), []);
    assert_eq!(counters(&ear).unreadable, 2);
}

#[test]
fn what_means_nothing_here_is_counted_and_brings_no_source_up() {
    let mut ear = ear();
    let nak = Nak { sqn: Sqn(13), source: NLA, group: host(3) };
    hear(&mut ear, 14);
    ear.hear_body(Body::Ncf(nak));
    ear.hear(&Packet { parity: true, ..packet(odata(13, 0, b"parity"), &[]) });
    for body in
        [Body::Poll(Poll { sqn: 1, round: 1 }), Body::Nnak(nak), Body::Ack(Ack { rx_max: Sqn(1), bitmap: 1 })]
    {
        assert_eq!(ear.hear_body(body), []);
        assert_eq!(ear.hear(&Packet { tsi: Tsi::from_seed(99), ..packet(body, &[]) }), []);
    }
    ear.hear(&Packet { dport: 1, ..packet(odata(13, 0, b"elsewhere"), &[]) });
    let seen = counters(&ear);
    assert_eq!((seen.foreign, seen.parity, seen.ignored, seen.missing), (1, 1, 3, 1));
    assert_eq!((ear.sources.counters().unknown, ear.sources.counters().foreign), (3, 1));
}

#[test]
fn libzmqs_own_traffic_is_repaired_and_delivered() {
    use transport_core::{Completion, FramePool, Grant, LinkId, SlabKey};
    let records = golden::records(golden::TRACE);
    let (group, source) = (records[0].to, records[0].from);
    let mut ear = Ear::new(|config| (config.group, config.dport) = (group, 5555));
    let (mut inbox, mut landing) = (Inbox::new(None), Landing::new(FramePool::new(1 << 20)));
    inbox.grant(Grant::Unlimited);
    let (mut out, mut asked, mut last) = (Vec::new(), Vec::new(), Duration::ZERO);
    for record in &records {
        ear.now = record.at;
        assert!(record.at >= last);
        last = record.at;
        let packet = Packet::parse(record.bytes).expect("libzmq's");
        let lost = matches!(packet.body, Body::Odata(data) if [0, 4, 5, 13, 18].contains(&data.sqn.0));
        // What another receiver sends to the source is not heard; what it sends to the group is.
        if record.from == source && !lost {
            for news in ear.hear_from(record.from, &packet) {
                match news {
                    News::Data(_, tsdu) => inbox.data(&tsdu, &mut landing),
                    News::Lost(_, packets) => inbox.lost(packets, &mut landing),
                    News::Up(..) => {}
                    News::Down(..) => panic!("it goes on"),
                }
            }
        }
        ear.sources.prepare(ear.time(), 9, &mut Nobody);
        asked.extend(ear.sources.datagrams().map(|(to, bytes)| (to, bytes.to_vec())));
        ear.sources.sent(9);
    }
    inbox.poll(LinkId::from(SlabKey::from_u64(1 << 32)), &mut out, usize::MAX);
    for (number, said) in out.iter().enumerate() {
        let Completion::Received { part, .. } = said else { panic!("{said:?}") };
        assert_eq!((part.body.len(), &part.body[..8]), (300, &(number as u64).to_le_bytes()[..]));
    }
    assert!(out.len() >= 20, "{} messages", out.len());
    // Ours read as OpenPGM's own do: from the same session, to the address that its SPMs name.
    assert!(!asked.is_empty());
    for (to, bytes) in asked {
        let nak = Packet::parse(&bytes).expect("ours");
        let Body::Nak(Nak { source: of, group: to_group, .. }) = nak.body else { panic!("{nak:?}") };
        assert_eq!((to, of, to_group), (To::Host(source), source, group));
    }
}

/// Does not listen.
struct Nobody;
impl Events for Nobody {
    fn up(&mut self, _: SourceId, _: Tsi, _: IpAddr) {}
    fn data(&mut self, _: SourceId, _: &[u8]) {}
    fn lost(&mut self, _: SourceId, _: u64) {}
    fn down(&mut self, _: SourceId, _: End, _: &ReceiverCounters) {}
}
