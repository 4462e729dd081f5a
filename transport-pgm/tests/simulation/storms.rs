//! Storms of NAKs: repairs are not repeated, and nobody starves.

use std::time::Duration;

use fabriq_transport_pgm::Sqn;
use fabriq_transport_pgm::packet::{Body, Kind, Nak, NakList, Opt, Options, Packet};

use super::air::{GROUP, Micros, address};
use super::weather::Weather;
use super::world::{PORT, World};

const MS: Micros = 1000;
const SECOND: Micros = 1_000_000;

#[test]
fn repairs_are_hardly_more_than_the_packets_that_anyone_lost() {
    for seed in 0..4 {
        let mut world = World::new(seed, Weather::lossy_input(0.05));
        let publisher = world.publisher(|config| config.rate(None, Duration::ZERO));
        let listeners: Vec<_> = (0..32).map(|_| world.listener()).collect();
        world.script(publisher, 500 * MS, 500, 4000, 1024);
        world.run_to(4 * SECOND);
        for listener in listeners {
            assert_eq!(world.follower(listener, publisher).messages, 4000);
        }
        let (repairs, lost) = (world.air.truth.sent(Kind::Rdata), world.air.truth.lost.len() as u64);
        println!("{repairs} repairs of {lost} packets, {} NAKs", world.air.truth.sent(Kind::Nak));
        assert!(lost > 3000 && repairs * 10 <= lost * 12, "{repairs} repairs of {lost} packets");
    }
}

/// A NAK for these, as a receiver would say it.
fn nak(world: &World, publisher: usize, sqns: &[Sqn]) -> Vec<u8> {
    let options = [Opt::NakList(NakList::Sqns(&sqns[1..]))];
    let packet = Packet {
        tsi: world.source(publisher).tsi(),
        dport: PORT,
        parity: false,
        var_pktlen: false,
        body: Body::Nak(Nak { sqn: sqns[0], source: address(publisher), group: GROUP }),
        options: Options::List(if sqns.len() > 1 { &options } else { &[] }),
    };
    let mut bytes = vec![0; 512];
    let len = packet.encode(&mut bytes).expect("it fits");
    bytes.truncate(len);
    bytes
}

#[test]
fn one_who_asks_for_everything_all_the_time_gets_its_share_and_the_others_theirs() {
    let mut latencies = Vec::new();
    for storm in [false, true] {
        let mut world = World::new(11, Weather::lossy_input(0.05));
        // 10 Mbit/s of data, and as much for repairs.
        let publisher = world.publisher(|config| config.rate(Some(1_250_000), Duration::from_secs(10)));
        let listeners: Vec<_> = (0..3).map(|_| world.listener()).collect();
        let bad = world.air.join(false);
        world.hosts.push(Default::default());
        world.script(publisher, 500 * MS, 2 * MS, 2000, 1024);
        world.run_to(SECOND);
        for _ in 0..3000 {
            if storm {
                // The whole window again and again, from the oldest on.
                let (trail, lead) = (world.source(publisher).trail(), world.source(publisher).lead());
                let (mut at, from) = (trail, address(bad));
                while at.before(lead) {
                    let sqns: Vec<_> =
                        (0..63).map(|more| at.plus(more)).filter(|sqn| !lead.before(*sqn)).collect();
                    let bytes = nak(&world, publisher, &sqns);
                    world.air.forge_to(publisher, from, &bytes);
                    at = at.plus(63);
                }
            }
            world.run_for(MS);
        }
        world.run_to(8 * SECOND);
        for listener in &listeners {
            assert_eq!(world.follower(*listener, publisher).messages, 2000, "storm: {storm}");
        }
        latencies.push(world.follower(listeners[0], publisher).percentile(99.0));
        let counters = world.source(publisher).counters();
        println!("storm: {storm}, p99 {latencies:?} us, {counters:?}");
        assert_eq!(counters.naks_limited > 0, storm);
        // The repair rate holds whatever is asked for.
        assert!(counters.rdata_bytes < 1_250_000 * 8);
    }
    assert!(latencies[1] < latencies[0] * 2 + 20 * MS, "p99 {latencies:?} us without and with the storm");
}

#[test]
fn naks_from_everywhere_are_bounded_and_harmless() {
    let mut world = World::new(12, Weather::CALM);
    let publisher = world.publisher(|config| config.rate(None, Duration::ZERO));
    let listener = world.listener();
    world.script(publisher, 500 * MS, MS, 1000, 1024);
    world.run_to(SECOND);
    let mut asked = 0;
    for round in 0..200u64 {
        for each in 0..200u64 {
            let sqn = Sqn(((round * 7919 + each * 104_729) % 100_000) as u32);
            let bytes = nak(&world, publisher, &[sqn]);
            let from = [172, 16, (each * 7 + round) as u8, (round * 3) as u8].into();
            world.air.forge_to(publisher, from, &bytes);
            asked += 1;
        }
        world.run_for(MS);
    }
    world.run_for(SECOND);
    assert_eq!(world.follower(listener, publisher).messages, 1000);
    let counters = world.source(publisher).counters();
    assert_eq!(counters.naks + counters.naks_flooded, asked);
    assert!(
        counters.naks_flooded > asked / 3,
        "40,000 in 200 ms are more than 20,000 in a second: {counters:?}"
    );
    assert!(counters.naks_early > 0 && counters.ncfs < asked / 10);
}
