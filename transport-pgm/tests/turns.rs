//! Who has his turn in a driver's poll, and that a driver rests when nobody needs one.

mod pair;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pair::{driver, link, request};
use transport_core::{Armed, Completion, Driver, Flow, Grant, LinkId, Part};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group of this process's own, and of this test's.
fn url(number: u8, port: u16) -> String {
    let [.., a, b] = std::process::id().to_be_bytes();
    format!("epgm://lo;{}:{port}?rate_kbit=0", Ipv4Addr::new(239, 192 + (number & 3), a, b))
}

fn send(sender: &mut Box<dyn Driver>, to: LinkId, count: usize) {
    for _ in 0..count.min(sender.room(to)) {
        sender.post_send(to, Part::last(vec![7; 1000])).expect("there is room");
    }
    sender.flush();
    sender.poll(Instant::now(), &mut Vec::new(), 1024);
}

#[test]
fn a_subscriber_that_closes_with_something_still_to_say_leaves_its_driver_at_rest() {
    let url = url(0, 7610);
    let (mut sender, mut receiver) = (driver(), driver());
    sender.open(request(&url, Flow::Send)).expect("opens");
    let open = receiver.open(request(&url, Flow::Recv)).expect("opens");
    let (to, _) = link(&mut sender, &mut receiver);
    let (from, _) = link(&mut receiver, &mut sender);
    receiver.grant(from, Grant::Unlimited);
    let until = Instant::now() + PATIENCE;
    let mut out = Vec::new();
    // Until a poll ends for want of budget, in the middle of what has come.
    while out.is_empty() {
        assert!(Instant::now() < until, "nothing comes");
        send(&mut sender, to, 200);
        receiver.poll(Instant::now(), &mut out, 1);
    }
    receiver.close_link(from, transport_core::Close::Abort);
    receiver.close_open(open);
    while receiver.arm() != Armed::Ready {
        assert!(Instant::now() < until, "it never rests");
        receiver.poll(Instant::now(), &mut Vec::new(), 1024);
    }
}

#[test]
fn a_group_that_is_flooded_leaves_others_their_turn() {
    let urls = [url(1, 7611), url(2, 7612)];
    let (mut sender, mut receiver) = (driver(), driver());
    let mut to = Vec::new();
    for url in &urls {
        sender.open(request(url, Flow::Send)).expect("opens");
        receiver.open(request(url, Flow::Recv)).expect("opens");
        to.push(link(&mut sender, &mut receiver).0);
        let (from, _) = link(&mut receiver, &mut sender);
        receiver.grant(from, Grant::Unlimited);
    }
    let mut heard: HashMap<LinkId, usize> = HashMap::new();
    let mut rounds = 0;
    // Each poll is too short for what the first group has sent. In turns the other is heard in the third; without them it
    // takes thousands.
    while heard.len() < 2 {
        rounds += 1;
        assert!(rounds < 100, "one of the groups is not heard: {heard:?}");
        send(&mut sender, to[0], 400);
        send(&mut sender, to[1], 1);
        let mut out = Vec::new();
        receiver.poll(Instant::now(), &mut out, 8);
        for said in out {
            if let Completion::Received { link, .. } = said {
                *heard.entry(link).or_default() += 1;
            }
        }
    }
}
