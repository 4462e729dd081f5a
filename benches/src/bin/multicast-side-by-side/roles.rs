//! The two roles, written once for all peers; they know none by name.

use crate::Result;
use crate::control::{self, Orders};
use crate::ledger::Ledger;
use crate::load::Load;
use crate::message::{self, HELLO, now_ns};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Between two greetings: often enough to be heard soon, and less than a tenth of what any cap here lets through.
const HELLO_PAUSE_MIN: Duration = Duration::from_millis(5);
const HELLO_PAUSE_PER_BYTE: Duration = Duration::from_nanos(500);
/// Between the last greeting and the run, so that nothing of the one is left in the other.
const SETTLE: Duration = Duration::from_millis(200);
/// How late a message may be sent and still count from when it was: more, and its peer made it wait.
const LATE_NS: u64 = 1_000_000;
/// The longest sleep of a subscriber, which looks at its limits in between.
const LOOK: Duration = Duration::from_millis(20);

/// What a publisher says at the end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) sent: u64,
    /// How long the sends took.
    pub(crate) seconds: f64,
}

pub(crate) fn publish(load: &Load) -> Result<()> {
    let orders = Orders::listen();
    let mut publisher = load.peer.publisher(load)?;
    let mut body = vec![0; load.bytes()];
    let pause = HELLO_PAUSE_MIN.max(HELLO_PAUSE_PER_BYTE * load.bytes as u32);
    let mut ready = false;
    loop {
        message::write(&mut body, HELLO, now_ns());
        publisher.send(&body)?;
        publisher.flush()?;
        if !std::mem::replace(&mut ready, true) {
            control::say("ready")?;
        }
        if orders.come(pause) {
            break;
        }
    }
    std::thread::sleep(SETTLE);
    let began = Instant::now();
    let start_ns = now_ns();
    let interval_ns = 1_000_000_000_u64.checked_div(load.rate).unwrap_or(0);
    for number in 0..load.count {
        let mut stamp_ns = now_ns();
        if interval_ns > 0 {
            let due_ns = start_ns + number * interval_ns;
            if due_ns > stamp_ns {
                std::thread::sleep(Duration::from_nanos(due_ns - stamp_ns));
                stamp_ns = now_ns();
            } else if stamp_ns - due_ns > LATE_NS {
                stamp_ns = due_ns;
            }
        }
        message::write(&mut body, number, stamp_ns);
        publisher.send(&body)?;
        if interval_ns > 0 {
            publisher.flush()?;
        }
    }
    publisher.flush()?;
    control::report(&Published { sent: load.count, seconds: began.elapsed().as_secs_f64() })?;
    orders.await_end();
    Ok(())
}

pub(crate) fn subscribe(load: &Load) -> Result<()> {
    let orders = Orders::listen();
    let mut subscriber = load.peer.subscriber(load)?;
    let mut ledger = Ledger::new(load.count, load.bytes());
    let mut heard = Instant::now();
    let (mut ready, mut running) = (false, false);
    while !(ledger.has_all() || running && heard.elapsed() > load.silence()) {
        subscriber.receive(LOOK, &mut |body| {
            if ledger.take(body, now_ns()) {
                running = true;
                heard = Instant::now();
            }
        })?;
        if ledger.greeted() && !ready {
            ready = true;
            control::say("ready")?;
        }
        if orders.has_line() {
            // From here on silence counts, even if nothing ever comes.
            running = true;
            heard = Instant::now();
        }
    }
    control::report(&ledger.close())
}
