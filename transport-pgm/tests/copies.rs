//! What a driver says it has copied, on the system's sockets: into packets and out of them. Measures no time.

mod pair;

use std::time::{Duration, Instant};

use pair::{driver, link, request};
use transport_core::{Close, Completion, Flow, Grant, Part};

/// Longer than this takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn bodies_are_copied_once_by_either_side_and_that_is_known_when_the_links_are_gone() {
    const PARTS: usize = 500;
    const LEN: usize = 1000;
    let [.., a, b] = std::process::id().to_be_bytes();
    let url = format!("epgm://lo;239.194.{a}.{b}:7621?rate_kbit=0");
    let (mut sender, mut receiver) = (driver(), driver());
    let opens = [
        sender.open(request(&url, Flow::Send)).expect("opens"),
        receiver.open(request(&url, Flow::Recv)).expect("opens"),
    ];
    let (to, _) = link(&mut sender, &mut receiver);
    let (from, _) = link(&mut receiver, &mut sender);
    receiver.grant(from, Grant::Unlimited);
    let until = Instant::now() + PATIENCE;
    let mut out = Vec::new();
    let (mut posted, mut arrived) = (0, 0);
    while arrived < PARTS {
        assert!(Instant::now() < until, "{arrived} of {posted} arrived");
        while posted < PARTS && posted - arrived < 16 && sender.room(to) > 0 {
            sender.post_send(to, Part::last(vec![7; LEN])).expect("there is room");
            posted += 1;
        }
        sender.flush();
        for driver in [&mut sender, &mut receiver] {
            driver.poll(Instant::now(), &mut out, 1024);
            arrived += out.drain(..).filter(|said| matches!(said, Completion::Received { .. })).count();
        }
    }
    let carried = (PARTS * LEN) as u64;
    let (sent, received) = (sender.copied_bytes(), receiver.copied_bytes());
    assert_eq!(sent, carried);
    // Packets that come before one that is missing wait for it, and are copied once more with what else is in them.
    assert!((carried..=3 * carried).contains(&received), "{received} bytes were copied to receive {carried}");
    for (driver, link, open) in [(&mut sender, to, opens[0]), (&mut receiver, from, opens[1])] {
        driver.close_link(link, Close::Abort);
        driver.close_open(open);
        while !out.drain(..).any(|said| matches!(said, Completion::Down { .. })) {
            assert!(Instant::now() < until, "it never ends");
            driver.poll(Instant::now(), &mut out, 1024);
        }
    }
    assert_eq!((sender.copied_bytes(), receiver.copied_bytes()), (sent, received));
}
