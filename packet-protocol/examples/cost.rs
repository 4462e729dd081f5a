//! Measures what one part costs to encode and to decode, with nothing between the machines but a swap of buffers. Prints
//! figures, checks nothing. `cargo run --release --example cost [SECONDS]`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fabriq_packet_protocol::{Machine, Offer, Policy, Reserve, Stock, Terms};
use transport_core::{Frame, FramePool, Grant, Hello, LinkId, Part, SlabKey};

const PACKET: usize = 8192;
const BUFFERS: u32 = 69;

struct End {
    machine: Machine<Vec<u8>, (), ()>,
    stock: Stock,
}

fn end() -> End {
    let offer = Offer::new(Hello::NULL);
    let reserve = Reserve::new();
    reserve.add(BUFFERS);
    let seat = reserve.seat(&offer).expect("buffers are posted");
    let mut machine = Machine::new(Terms::agree(&offer, &offer), Policy::default(), seat);
    machine.grant(Grant::Unlimited);
    End { machine, stock: Stock::new(FramePool::new(64 << 20)) }
}

/// Times of one side's work.
#[derive(Default)]
struct Cost {
    post: Duration,
    fill: Duration,
    receive: Duration,
    parts: u64,
}

fn stream(body: &Frame, burst: usize, until: Instant) -> Cost {
    let link = LinkId::from(SlabKey::from_u64(1 << 32));
    let (mut from, mut to, mut cost) = (end(), end(), Cost::default());
    let mut spare: Vec<Vec<u8>> = (0..BUFFERS).map(|_| vec![0; PACKET]).collect();
    let (mut on_the_wire, mut out) = (VecDeque::new(), Vec::with_capacity(4096));
    while Instant::now() < until {
        let start = Instant::now();
        for _ in 0..burst.min(from.machine.room()) {
            from.machine.post(&mut from.stock, Part::last(body.clone())).expect("there is room");
        }
        let posted = Instant::now();
        while let Some(mut buffer) = spare.pop() {
            let Some(packet) = from.machine.fill(&mut from.stock, &mut buffer, &mut ()) else {
                spare.push(buffer);
                break;
            };
            from.machine.packets_done(packet.number);
            on_the_wire.push_back((buffer, packet.len));
        }
        let filled = Instant::now();
        while let Some((buffer, len)) = on_the_wire.pop_front() {
            to.machine.received(buffer, len).expect("our own packet");
            let _ = to.machine.poll(&mut to.stock, link, &mut out, usize::MAX);
            cost.parts += out.len() as u64;
            out.clear();
            while let Some(buffer) = to.machine.take_spent() {
                spare.push(buffer);
            }
        }
        let received = Instant::now();
        cost.post += posted - start;
        cost.fill += filled - posted;
        cost.receive += received - filled;
        // The way back is not timed.
        while let Some(mut buffer) = spare.pop() {
            let Some(packet) = to.machine.fill(&mut to.stock, &mut buffer, &mut ()) else {
                spare.push(buffer);
                break;
            };
            from.machine.received(buffer, packet.len).expect("our own packet");
        }
        let _ = from.machine.poll(&mut from.stock, link, &mut out, usize::MAX);
        out.clear();
        while let Some(buffer) = from.machine.take_spent() {
            spare.push(buffer);
        }
    }
    cost
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    println!("ns per part         post    fill   receive");
    for (len, burst) in [(0, 1000), (8, 1000), (64, 1000), (64, 1), (65, 1000), (256, 1000), (1000, 1000)] {
        let body = Frame::from(vec![7; len]);
        let cost = stream(&body, burst, Instant::now() + Duration::from_secs_f64(seconds));
        let each = |time: Duration| time.as_nanos() as f64 / cost.parts.max(1) as f64;
        println!(
            "{len:5} B x {burst:4}   {:8.1}{:8.1}{:8.1}",
            each(cost.post),
            each(cost.fill),
            each(cost.receive)
        );
    }
}
