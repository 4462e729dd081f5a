//! How many packets of 1 KiB one core makes, and takes, each second, without the system calls that carry them. Prints
//! figures, checks nothing.
//!
//! ```text
//! cargo run --release -p fabriq-transport-pgm --example throughput
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fabriq_transport_pgm::framing::Encoder;
use fabriq_transport_pgm::packet::{Packet, Tsi};
use fabriq_transport_pgm::{
    End, Events, Inbox, Payload, ReceiverCounters, Source, SourceConfig, SourceId, Sources, SourcesConfig,
};
use transport_core::{Completion, Frame, FrameMut, FramePool, Grant, Landing, LinkId, Part, SlabKey};

const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const BATCH: usize = 64;
const BATCHES: usize = 20_000;

struct Words(Encoder, Frame, usize);

impl Payload for Words {
    fn is_waiting(&self) -> bool {
        self.2 > 0
    }
    fn fill(&mut self, tsdu: &mut [u8]) -> usize {
        // One message in each packet.
        let mut part = Some(Part::last(self.1.clone()));
        self.2 -= 1;
        self.0.fill(tsdu, || part.take())
    }
}

struct Link(Inbox, Landing, Vec<Completion>, usize);

impl Events for Link {
    fn up(&mut self, _: SourceId, _: Tsi, _: IpAddr) {}
    fn data(&mut self, _: SourceId, tsdu: &[u8]) {
        self.0.data(tsdu, &mut self.1);
    }
    fn lost(&mut self, _: SourceId, packets: u64) {
        self.0.lost(packets, &mut self.1);
    }
    fn down(&mut self, _: SourceId, _: End, _: &ReceiverCounters) {}
}

fn main() {
    let start = Instant::now();
    let config = SourceConfig::new(Tsi::from_seed(1), 7500, HOST, HOST);
    let memory = FrameMut::own(config.memory_len()).expect("there is memory");
    let mut source = Source::new(start, config, memory);
    let mut sources = Sources::new(start, SourcesConfig::new(HOST, 7500), 1);
    let mut words = Words(Encoder::new(), Frame::from(vec![7; 1024]), 0);
    let mut link = Link(Inbox::new(None), Landing::new(FramePool::new(64 << 20)), Vec::new(), 0);
    link.0.grant(Grant::Unlimited);
    let id = LinkId::from(SlabKey::from_u64(1 << 32));
    let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
    let mut arrived: Vec<Vec<u8>> = (0..BATCH).map(|_| Vec::with_capacity(1500)).collect();
    for _ in 0..BATCHES {
        let now = Instant::now();
        words.2 += BATCH;
        let ready = source.prepare(now, BATCH, &mut words);
        sending += now.elapsed();
        // What the system calls would do.
        for (packet, (_, bytes)) in arrived.iter_mut().zip(source.datagrams()) {
            packet.clear();
            packet.extend_from_slice(bytes);
        }
        source.sent(ready);
        let now = Instant::now();
        for bytes in &arrived[..ready] {
            let packet = Packet::parse(bytes).expect("well-formed");
            sources.handle(now, HOST, &packet, &mut link);
        }
        link.0.poll(id, &mut link.2, usize::MAX);
        link.3 += link.2.drain(..).count();
        receiving += now.elapsed();
    }
    let rate = |took: Duration| BATCHES as f64 * BATCH as f64 / took.as_secs_f64() / 1e6;
    println!("{:.2} M packets/s made, {:.2} M packets/s taken", rate(sending), rate(receiving));
    println!("{} messages", link.3);
}
