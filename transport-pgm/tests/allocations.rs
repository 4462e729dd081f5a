//! Memory of the driver on the system's sockets: none per message once warm. Judges no traffic.

mod pair;

use std::time::Instant;

use pair::{driver, link, request};
use transport_core::{Completion, Flow, Frame, Grant, Part};

#[test]
fn no_allocation_per_message_when_warm() {
    /// Messages for which one allocation is allowed: a block that holds many messages is no allocation per message.
    const PER_ALLOCATION: usize = 32;
    const MESSAGES: usize = 8192;
    for len in [32, 1000] {
        let mut sender = driver();
        let mut receiver = driver();
        let url =
            format!("epgm://lo;239.195.77.{}:{}?rate_kbit=0", len / 10, 30_000 + std::process::id() % 1000);
        sender.open(request(&url, Flow::Send)).expect("opens");
        receiver.open(request(&url, Flow::Recv)).expect("opens");
        let to = link(&mut sender, &mut receiver).0;
        let from = link(&mut receiver, &mut sender).0;
        receiver.grant(from, Grant::Unlimited);
        let body = Frame::from(vec![3; len]);
        let mut out = Vec::with_capacity(4096);
        let mut run = || {
            let (mut posted, mut arrived) = (0, 0);
            while arrived < MESSAGES {
                while posted < MESSAGES && posted - arrived < 64 && sender.room(to) > 0 {
                    sender.post_send(to, Part::last(body.clone())).expect("there is room");
                    posted += 1;
                }
                sender.flush();
                for driver in [&mut sender, &mut receiver] {
                    driver.poll(Instant::now(), &mut out, 1024);
                    let received = |said: &Completion| matches!(said, Completion::Received { .. });
                    arrived += out.drain(..).filter(received).count();
                }
            }
        };
        run();
        let counted = allocation_counter::measure(run).count_total as usize;
        assert!(
            counted <= MESSAGES / PER_ALLOCATION,
            "{counted} allocations for {MESSAGES} warm messages of {len} B"
        );
    }
}
