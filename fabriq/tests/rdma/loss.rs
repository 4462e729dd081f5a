//! A wire that loses packets, in both directions. Wants a guest with `--wire`.

use std::time::Duration;

use fabriq::SocketType;

use super::device::run;
use super::parcel::{context, pack_len, unpack};
use super::{downs, events_before, is_up, socket};

/// The far end of the wire. Both ends send again soon (34 ms), so that what is lost costs the test little.
const FAR: &str = "verbs://10.7.0.2:*?ack_timeout=13";

/// Both ends of the wire lose so much of what they send, until dropped.
#[derive(Debug)]
struct Loss;

const ENDS: [&str; 2] = ["v0", "v1"];

impl Loss {
    fn of(percent: u32) -> Self {
        for end in ENDS {
            run(&format!("tc qdisc replace dev {end} root netem loss {percent}%"));
        }
        Self
    }

    /// Packets that were lost.
    fn count(&self) -> u64 {
        let dropped = |end: &str| {
            // "Sent 1 bytes 1 pkt (dropped 1, overlimits 0 requeues 0)"
            let text = run(&format!("tc -s qdisc show dev {end}"));
            let (_, after) = text.split_once("(dropped ").expect("statistics");
            after.split_once(',').unwrap().0.parse::<u64>().unwrap()
        };
        ENDS.into_iter().map(dropped).sum()
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        for end in ENDS {
            run(&format!("tc qdisc del dev {end} root"));
        }
    }
}

/// Small ones that share packets, middling ones, and large ones by READ, both ways: all arrive, once and in order, and
/// the link holds.
fn everything_arrives(percent: u32, rounds: u64) {
    const LENS: [usize; 4] = [16, 4096, 64 << 10, 256 << 10];
    let context = context();
    let (far, near) = (socket(&context, SocketType::Dealer), socket(&context, SocketType::Dealer));
    let monitor = near.monitor().unwrap();
    let url = far.bind(FAR).unwrap();
    let loss = Loss::of(percent);
    // A lost packet of the connection manager's is sent again after four seconds.
    near.connect(url.as_str()).unwrap();
    events_before(&monitor, is_up);
    let len = |number: u64| LENS[number as usize % LENS.len()];
    let count = rounds * LENS.len() as u64;
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| {
            for number in 0..count {
                let message = far.recv().unwrap();
                assert_eq!((unpack(&message), message.body().len()), (number, len(number)));
                far.send(message).unwrap();
            }
        });
        let asking = scope.spawn(|| {
            for number in 0..count {
                near.send(pack_len(&context, number, len(number))).unwrap();
            }
        });
        for number in 0..count {
            let message = near.recv().unwrap();
            assert_eq!((unpack(&message), message.body().len()), (number, len(number)));
        }
        asking.join().unwrap();
        echo.join().unwrap();
    });
    assert_eq!(downs(&monitor), 0, "the link held");
    assert!(loss.count() > rounds, "{} packets were lost, which is no fault to speak of", loss.count());
    far.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
}

#[test]
fn nothing_is_lost_where_two_percent_are() {
    everything_arrives(2, 10);
}

#[test]
fn nothing_is_lost_where_ten_percent_are() {
    everything_arrives(10, 3);
}
