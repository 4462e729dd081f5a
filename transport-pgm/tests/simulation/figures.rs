//! The figures to reach, in simulated time: so that the constants are right before real wires are used.

use std::time::Duration;

use super::air::Micros;
use super::weather::Weather;
use super::world::World;

const MS: Micros = 1000;
const SECOND: Micros = 1_000_000;

/// 2000 messages of 1 KiB a second to three subscribers that lose on input. The worst p99, in microseconds.
fn latency(seed: u64, loss: f64) -> Micros {
    let mut world = World::new(seed, Weather::lossy_input(loss));
    let publisher = world.publisher(|config| config.rate(None, Duration::ZERO));
    let listeners: Vec<_> = (0..3).map(|_| world.listener()).collect();
    world.script(publisher, 500 * MS, 500, 12_000, 1024);
    world.run_to(8 * SECOND);
    let percentile = |listener: &usize| {
        let follower = world.follower(*listener, publisher);
        assert_eq!((follower.messages, follower.missing), (12_000, 0));
        println!("loss {loss}: p50 {} p99 {} us", follower.percentile(50.0), follower.percentile(99.0));
        follower.percentile(99.0)
    };
    listeners.iter().map(percentile).max().expect("three")
}

#[test]
fn latency_at_2000_messages_a_second() {
    assert!(latency(1, 0.0) < MS);
    assert!(latency(1, 0.01) < 10 * MS);
    assert!(latency(1, 0.05) < 15 * MS, "to reach: 20 ms");
    assert!(latency(1, 0.20) < 35 * MS, "to reach: 50 ms");
}

/// Bytes of messages per second that reach the slowest of three subscribers, flat out at `rate` bytes per second.
fn throughput(loss: f64, rate: u64, count: usize, len: usize) -> u64 {
    let mut world = World::new(2, Weather::lossy_input(loss));
    let publisher = world.publisher(|config| config.rate(Some(rate), Duration::from_secs(10)));
    let listeners: Vec<_> = (0..3).map(|_| world.listener()).collect();
    world.script(publisher, SECOND, 0, count, len);
    world.run_to(30 * SECOND);
    let took = listeners.iter().map(|listener| {
        let follower = world.follower(*listener, publisher);
        assert_eq!((follower.messages, follower.missing), (count as u64, 0));
        follower.last_at - SECOND
    });
    let per_second = (count * len) as u64 * SECOND / took.max().expect("three");
    println!("loss {loss}, {rate} B/s: {per_second} B/s of messages");
    per_second
}

#[test]
fn throughput_under_a_cap_of_100_megabit() {
    for loss in [0.0, 0.01, 0.05, 0.2] {
        let per_second = throughput(loss, 12_500_000, 20_000, 1024);
        assert!(per_second >= 10_000_000, "{per_second} B/s at loss {loss}");
    }
}

#[test]
fn throughput_of_large_messages() {
    let per_second = throughput(0.05, 125_000_000, 60, 1 << 20);
    assert!(per_second >= 50_000_000, "{per_second} B/s");
}
