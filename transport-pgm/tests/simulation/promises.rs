//! What PGM promises, each as a test: nothing lost inside the window, nothing spliced, nothing silent, no waiting
//! without hope.

use std::time::Duration;

use fabriq_transport_pgm::packet::Kind;
use fabriq_transport_pgm::{End, SourceConfig, Sqn};

use super::air::Micros;
use super::weather::Weather;
use super::world::World;

const MS: Micros = 1000;
const SECOND: Micros = 1_000_000;

/// Everything arrived at `listener` from the first message to the last, and nothing was reported lost.
fn assert_all(world: &World, listener: usize, publisher: usize, count: u64) {
    let follower = world.follower(listener, publisher);
    assert_eq!(
        (
            follower.first,
            follower.messages,
            follower.missing,
            follower.lost_packets,
            follower.dropped_messages
        ),
        (Some(0), count, 0, 0, 0),
        "host {listener} from host {publisher}"
    );
}

/// Lets a publisher finish and everybody hear of it.
fn finish(world: &mut World, publisher: usize) {
    let now = world.air.now;
    world.publisher_of(publisher).finish_at = Some(now);
    world.run_for(20 * SECOND);
    assert!(world.publisher_of(publisher).finished_at.is_some(), "the window never became quiet");
}

#[test]
fn nothing_is_lost_inside_the_window_whatever_is_lost_on_the_wire() {
    for seed in 0..18 {
        let loss = [0.0, 0.01, 0.05, 0.2, 0.35, 0.5][seed % 6];
        let mut world = World::new(seed as u64, Weather::lossy(loss));
        // Across the wrap of the sequence numbers.
        let publisher = world.publisher(|config| SourceConfig {
            first: Sqn(u32::MAX - 1000),
            ..config.rate(None, Duration::ZERO)
        });
        let listeners: Vec<_> = (0..4).map(|_| world.listener()).collect();
        world.script(publisher, 500 * MS, 500, 4000, 700);
        world.script(publisher, 2600 * MS, 3 * MS, 100, 5000);
        world.run_to(4 * SECOND);
        finish(&mut world, publisher);
        for listener in listeners {
            assert_all(&world, listener, publisher, 4100);
            // When the last data is long gone, the end is said five times.
            assert!(loss > 0.2 || world.follower(listener, publisher).ended == Some(End::Finished));
        }
        let lost = world.air.truth.lost.len();
        assert!(loss == 0.0 || lost as f64 > 3000.0 * loss, "only {lost} packets were lost on the wire");
        assert!(world.source(publisher).lead().before(Sqn(1 << 31)), "it never wrapped");
    }
}

#[test]
fn bursts_repetition_disorder_and_damage_lose_nothing() {
    for seed in 0..6 {
        let weather = Weather {
            burst: Some((0.005, 12)),
            repeated: 0.1,
            damaged: 0.03,
            late: 0.2,
            late_by: 3 * MS,
            delay: 200 + seed * 700,
            jitter: 300,
            ..Weather::lossy(0.03)
        };
        let mut world = World::new(seed, weather);
        let publisher =
            world.publisher(|config| SourceConfig { first: Sqn(0).minus(seed as u32 * 300), ..config });
        let listeners: Vec<_> = (0..3).map(|_| world.listener()).collect();
        // A socket that takes a few packets at a time.
        world.air.ports[publisher].outbox_max = 5;
        world.script(publisher, 500 * MS, 400, 5000, 100 + 300 * seed as usize);
        world.run_to(3 * SECOND);
        finish(&mut world, publisher);
        for listener in listeners {
            assert_all(&world, listener, publisher, 5000);
            assert!(world.hosts[listener].malformed > 0, "nothing was damaged");
        }
    }
}

#[test]
fn many_sources_and_many_receivers_do_not_disturb_each_other() {
    let mut world = World::new(7, Weather::lossy(0.05));
    let publishers: Vec<_> = (0..10).map(|_| world.publisher(|config| config)).collect();
    let listeners: Vec<_> = (0..12).map(|_| world.listener()).collect();
    // One host is both, and hears itself.
    world.listen_at(publishers[0], |config| config);
    for (at, publisher) in publishers.iter().enumerate() {
        world.script(*publisher, 500 * MS + at as u64 * 37, 2 * MS, 500, 300 + 100 * at);
    }
    world.run_to(2 * SECOND);
    for publisher in &publishers {
        finish(&mut world, *publisher);
    }
    for listener in listeners.into_iter().chain([publishers[0]]) {
        for publisher in &publishers {
            assert_all(&world, listener, *publisher, 500);
        }
    }
}

#[test]
fn three_hundred_receivers_lose_nothing_and_do_not_storm() {
    for (seed, weather) in [
        Weather { upstream_loss: 0.05, ..Weather::CALM },
        Weather { upstream_loss: 0.02, ..Weather::lossy(0.01) },
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = World::new(seed as u64, weather);
        let publisher = world.publisher(|config| config);
        let listeners: Vec<_> = (0..300).map(|_| world.listener()).collect();
        world.script(publisher, 500 * MS, 2 * MS, 500, 1024);
        world.run_to(2 * SECOND);
        finish(&mut world, publisher);
        for listener in listeners {
            assert_all(&world, listener, publisher, 500);
        }
        let (naks, lost) = (world.air.truth.naks_sqns, world.air.truth.lost.len() as u64);
        println!(
            "{naks} numbers asked for, {lost} packets lost, {} repairs",
            world.air.truth.sent(Kind::Rdata)
        );
        // Three hundred would be asked for at once without suppression.
        assert!(naks < 25 * lost, "{naks} NAKs for {lost} packets");
    }
}

#[test]
fn a_close_repairs_the_tail_until_the_window_is_quiet() {
    for seed in 0..20 {
        let mut world = World::new(seed, Weather::lossy(0.3));
        let publisher = world.publisher(|config| config);
        let listeners: Vec<_> = (0..3).map(|_| world.listener()).collect();
        world.run_to(500 * MS);
        world.script(publisher, 500 * MS, 0, 50, 1000);
        world.publisher_of(publisher).finish_at = Some(500 * MS);
        world.run_for(10 * SECOND);
        for listener in listeners {
            assert_all(&world, listener, publisher, 50);
            assert_eq!(world.follower(listener, publisher).ended, Some(End::Finished));
        }
        let finished_at = world.publisher_of(publisher).finished_at.expect("it ends");
        assert!(finished_at < 5 * SECOND, "closing took until {finished_at} us");
    }
}

#[test]
fn a_publisher_that_has_been_quiet_closes_at_once() {
    let mut world = World::new(1, Weather::CALM);
    let publisher = world.publisher(|config| config);
    let listener = world.listener();
    world.script(publisher, 10 * MS, MS, 10, 100);
    world.run_to(2 * SECOND);
    world.publisher_of(publisher).finish_at = Some(2 * SECOND);
    world.run_for(SECOND);
    let finished_at = world.publisher_of(publisher).finished_at.expect("it ends");
    assert!(finished_at <= 2 * SECOND + 70 * MS, "closing took until {finished_at} us");
    assert_eq!(world.air.truth.sent(Kind::Rdata), 0);
    assert_all(&world, listener, publisher, 10);
    assert_eq!(world.follower(listener, publisher).ended, Some(End::Finished));
}

#[test]
fn the_loss_of_the_last_packet_is_noticed_without_more_data() {
    let mut latencies: Vec<Micros> = Vec::new();
    for seed in 0..20 {
        let mut world = World::new(seed, Weather::lossy(0.5));
        let publisher = world.publisher(|config| config);
        let listener = world.listener();
        world.run_to(500 * MS);
        for round in 0..10 {
            world.script(publisher, 500 * MS + round * SECOND, 0, 1, 100);
            world.run_to(400 * MS + (round + 1) * SECOND);
        }
        world.run_for(2 * SECOND);
        assert_all(&world, listener, publisher, 10);
        latencies.extend(&world.follower(listener, publisher).latencies);
    }
    // Half of them are lost at first, and half of everything that helps.
    latencies.sort_unstable();
    let (most, nearly_all) = (latencies[latencies.len() * 3 / 4], latencies[latencies.len() * 19 / 20]);
    assert!(most < 100 * MS && nearly_all < 600 * MS, "75 % within {most} us, 95 % within {nearly_all} us");
}

/// Cuts one of two listeners off for `dark`, with a window of a second's packets; both have sent for ten seconds.
fn outage(seed: u64, dark: Micros) -> (World, usize, [usize; 2]) {
    let mut world = World::new(seed, Weather::lossy(0.01));
    let publisher = world.publisher(|mut config| {
        config.window_packets = 500;
        config
    });
    let listeners = [world.listener(), world.listener()];
    world.script(publisher, 500 * MS, 2 * MS, 5000, 1024);
    world.run_to(3 * SECOND);
    world.air.ports[listeners[0]].dark_until = 3 * SECOND + dark;
    world.run_to(3 * SECOND + dark);
    (world, publisher, listeners)
}

#[test]
fn after_an_outage_longer_than_the_window_delivery_resumes_at_once_and_the_loss_is_reported_exactly() {
    for seed in 0..5 {
        let (mut world, publisher, [dark, bright]) = outage(seed, 3 * SECOND);
        let before = world.follower(dark, publisher).messages;
        world.run_for(300 * MS);
        let follower = world.follower(dark, publisher);
        assert!(follower.messages > before + 100, "{} messages in 300 ms", follower.messages - before);
        world.run_to(12 * SECOND);
        finish(&mut world, publisher);
        let follower = world.follower(dark, publisher);
        // A message is a packet here.
        assert_eq!(follower.messages + follower.missing, 5000);
        assert_eq!(follower.missing, follower.lost_packets);
        assert!(
            (900..1100).contains(&follower.missing),
            "{} lost in 3 s of which 1 s is kept",
            follower.missing
        );
        assert_all(&world, bright, publisher, 5000);
    }
}

#[test]
fn an_outage_shorter_than_the_window_loses_nothing() {
    let (mut world, publisher, listeners) = outage(1, 800 * MS);
    world.run_to(12 * SECOND);
    finish(&mut world, publisher);
    for listener in listeners {
        assert_all(&world, listener, publisher, 5000);
    }
}

#[test]
fn one_who_is_cut_off_for_good_costs_the_others_nothing() {
    let (mut world, publisher, [_, bright]) = outage(2, 100 * SECOND);
    finish(&mut world, publisher);
    assert_all(&world, bright, publisher, 5000);
    assert_eq!(world.source(publisher).counters().odata, 5000);
}

#[test]
fn one_who_joins_late_begins_at_the_live_edge_and_is_repaired_from_there() {
    for seed in 0..10 {
        let mut world = World::new(seed, Weather::lossy(0.05));
        // Hardly an SPM by itself: the newcomer has to ask.
        let publisher = world.publisher(|mut config| {
            config.ambient = Duration::from_secs(30);
            config
        });
        world.listener();
        world.script(publisher, 500 * MS, MS, 2000, 500);
        world.run_to(1500 * MS);
        let late = world.listener();
        world.run_to(4 * SECOND);
        finish(&mut world, publisher);
        let follower = world.follower(late, publisher);
        let first = follower.first.expect("it hears something");
        assert!((1000..1010).contains(&first), "the live edge is at 1000, and it began at {first}");
        assert_eq!((follower.messages, follower.missing), (2000 - first, 0));
        assert_eq!(world.source(publisher).counters().naks_late, 0);
        assert!(world.air.truth.sent(Kind::Spmr) > 0);
        assert!(follower.percentile(99.0) < 60 * MS, "p99 {} us", follower.percentile(99.0));
    }
}

#[test]
fn a_publisher_that_is_killed_and_comes_back_is_heard_at_once() {
    let mut world = World::new(3, Weather::lossy(0.05));
    let publisher = world.publisher(|config| config);
    let listener = world.listener();
    world.script(publisher, 500 * MS, 2 * MS, 200, 500);
    world.run_to(700 * MS);
    world.publisher_of(publisher).dead = true;
    world.run_to(1200 * MS);
    let first = world.follower(listener, publisher).messages;
    assert!(first > 80);
    world.publish_at(publisher, |config| config);
    world.script(publisher, 1300 * MS, 2 * MS, 200, 500);
    world.run_to(2 * SECOND);
    assert_all(&world, listener, publisher, 200);
}

#[test]
fn a_window_too_small_for_the_loss_loses_what_it_must_and_says_so_packet_by_packet() {
    for seed in 0..10 {
        let mut world = World::new(seed, Weather::lossy(0.3));
        let publisher = world.publisher(|mut config| {
            config.window_packets = 20;
            config
        });
        let listeners: Vec<_> = (0..3).map(|_| world.listener()).collect();
        world.script(publisher, 500 * MS, 300, 5000, 2000);
        world.run_to(5 * SECOND);
        let mut lost = 0;
        for listener in listeners {
            let tsi = world.source(publisher).tsi();
            let listener = world.listener_of(listener);
            let follower = &listener.heard.followers[&tsi];
            lost += follower.lost_packets;
            assert!(follower.messages > 0 && follower.messages + follower.missing <= 5000);
            // 10,000 packets, since a message takes more than one, and each is accounted for once.
            let counters = listener.sources_of(&tsi);
            assert_eq!(counters.lost, follower.lost_packets);
            assert_eq!(counters.data + counters.lost, world.source(publisher).counters().odata);
        }
        assert!(lost > 100, "nothing was lost, so this tested nothing");
    }
}

#[test]
fn a_repair_that_never_comes_is_given_up_in_time_and_reported() {
    // NAKs go nowhere, and the window moves too slowly to help.
    let weather = Weather { data_loss: 0.1, nak_loss: 1.0, ..Weather::CALM };
    let mut world = World::new(5, weather);
    let publisher = world.publisher(|config| config);
    let listener = world.listener_with(|mut config| {
        config.receiver.recovery = Duration::from_secs(2);
        config
    });
    world.script(publisher, 500 * MS, 50 * MS, 200, 100);
    world.run_to(20 * SECOND);
    let follower = world.follower(listener, publisher);
    assert!(follower.missing > 5 && follower.missing == follower.lost_packets);
    assert_eq!(follower.messages + follower.missing, 200);
    assert!(follower.percentile(100.0) < 2300 * MS, "{} us", follower.percentile(100.0));
}

#[test]
fn a_round_trip_of_any_length_is_learned_and_no_repair_is_asked_for_twice_in_it() {
    for (seed, delay) in [100, 2 * MS, 20 * MS, 100 * MS].into_iter().enumerate() {
        let weather = Weather { delay, jitter: delay / 10, ..Weather::lossy_input(0.02) };
        let mut world = World::new(seed as u64, weather);
        let publisher = world.publisher(|config| config.rate(None, Duration::ZERO));
        let listener = world.listener_with(|mut config| {
            config.receiver.repeat_max = Duration::from_secs(1);
            config.receiver.repair_max = Duration::from_secs(1);
            config
        });
        world.script(publisher, SECOND, MS, 10_000, 200);
        world.run_to(15 * SECOND);
        assert_all(&world, listener, publisher, 10_000);
        let tsi = world.source(publisher).tsi();
        let counters = world.listener_of(listener).sources_of(&tsi);
        let round_trip = counters.round_trip.expect("it was measured").as_micros() as u64;
        assert!(
            (2 * delay..2 * delay + delay / 2 + 500).contains(&round_trip),
            "{round_trip} us for 2 x {delay} us"
        );
        // Repairs and confirmations are lost as well, so a few numbers are asked for again.
        assert!(counters.naks_sqns < counters.gaps + counters.gaps / 5, "{counters:?}");
    }
}
