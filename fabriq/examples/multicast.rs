//! PUB and SUB as they are over multicast, where nobody knows who listens: the publisher just goes on, and a subscriber that
//! missed something is told so. Run with two URLs, for the publisher and the subscriber, as in
//! `multicast 'epgm://eth0;239.192.7.1:5555' 'epgm://eth0;239.192.7.1:5555'`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fabriq::{Error, SocketType};

/// How often something is published.
const PACE: Duration = Duration::from_millis(10);

fn main() -> Result<(), Error> {
    let mut urls = std::env::args().skip(1);
    let to = urls.next().unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let publisher = context.socket(SocketType::Pub)?;
    let endpoint = publisher.bind(&to)?;
    let from = urls.next().unwrap_or(endpoint.to_string());
    let subscriber = context.socket(SocketType::Sub)?;
    subscriber.subscribe("tick ")?;
    subscriber.connect(&from)?;

    let heard_enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0u64.. {
                if heard_enough.load(Ordering::Relaxed) || publisher.send(format!("tick {number}")).is_err() {
                    break;
                }
                std::thread::sleep(PACE);
            }
        });
        let mut before = None;
        for _ in 0..5 {
            let message = subscriber.recv()?;
            let text = String::from_utf8_lossy(message.body()).into_owned();
            let number: u64 = text.trim_start_matches("tick ").parse().unwrap_or(0);
            // Whoever joins late begins anywhere; from there on nothing is missing unless it says so.
            let whole = before.is_none_or(|before| number == before + 1) || message.gap_before();
            println!("heard one, nothing lost in silence: {whole}");
            before = Some(number);
        }
        heard_enough.store(true, Ordering::Relaxed);
        Ok(())
    })
}
