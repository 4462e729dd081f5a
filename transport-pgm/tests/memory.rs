//! What a warm source and a warm receiver allocate for each packet: nothing, with and without loss.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fabriq_transport_pgm::framing::Encoder;
use fabriq_transport_pgm::packet::{Body, Packet, Tsi};
use fabriq_transport_pgm::{
    End, Events, Inbox, Payload, ReceiverCounters, Source, SourceConfig, SourceId, Sources, SourcesConfig,
};
use transport_core::{Completion, Frame, FrameMut, FramePool, Grant, Landing, LinkId, Part, SlabKey};

const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(239, 192, 0, 1));
const SENDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const RECEIVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

struct Words {
    encoder: Encoder,
    body: Frame,
    left: usize,
}

impl Payload for Words {
    fn is_waiting(&self) -> bool {
        self.left > 0 || self.encoder.is_inside_a_part()
    }
    fn fill(&mut self, tsdu: &mut [u8]) -> usize {
        let (body, left) = (&self.body, &mut self.left);
        self.encoder.fill(tsdu, || {
            *left = left.checked_sub(1)?;
            Some(Part::last(body.clone()))
        })
    }
}

struct Link {
    inbox: Inbox,
    landing: Landing,
    out: Vec<Completion>,
    received: usize,
}

impl Events for Link {
    fn up(&mut self, _: SourceId, _: Tsi, _: IpAddr) {}
    fn data(&mut self, _: SourceId, tsdu: &[u8]) {
        self.inbox.data(tsdu, &mut self.landing);
        self.inbox.poll(LinkId::from(SlabKey::from_u64(1 << 32)), &mut self.out, usize::MAX);
        self.received +=
            self.out.drain(..).filter(|said| matches!(said, Completion::Received { .. })).count();
    }
    fn lost(&mut self, _: SourceId, packets: u64) {
        panic!("{packets} packets were lost");
    }
    fn down(&mut self, _: SourceId, _: End, _: &ReceiverCounters) {
        panic!("the source is still there");
    }
}

#[test]
fn nothing_is_allocated_per_packet_when_warm() {
    let start = Instant::now();
    let config = SourceConfig::new(Tsi::from_seed(1), 7500, GROUP, SENDER);
    let memory = FrameMut::own(config.memory_len()).expect("there is memory");
    let mut source = Source::new(start, config, memory);
    let mut sources = Sources::new(start, SourcesConfig::new(GROUP, 7500), 1);
    let mut words = Words { encoder: Encoder::new(), body: Frame::from(vec![7; 1000]), left: 0 };
    let (mut inbox, landing) = (Inbox::new(None), Landing::new(FramePool::new(8 << 20)));
    inbox.grant(Grant::Unlimited);
    let mut link = Link { inbox, landing, out: Vec::new(), received: 0 };
    let (mut now, mut carried, mut repairs, mut posted) = (start, 0u64, 0u64, 0);
    let mut round = |lossy: bool| {
        for _ in 0..2000 {
            now += Duration::from_micros(500);
            words.left += 4;
            posted += 4;
            source.prepare(now, 64, &mut words);
            for (_, bytes) in source.datagrams() {
                carried += 1;
                let packet = Packet::parse(bytes).expect("well-formed");
                repairs += u64::from(matches!(packet.body, Body::Rdata(_)));
                if !lossy || !carried.is_multiple_of(7) {
                    sources.handle(now, SENDER, &packet, &mut link);
                }
            }
            source.sent(64);
            sources.prepare(now, 64, &mut link);
            for (_, bytes) in sources.datagrams() {
                source.handle(now, RECEIVER, &Packet::parse(bytes).expect("well-formed"));
            }
            sources.sent(64);
        }
    };
    // Every slot of the window and of the pool has been used once, and every queue has grown.
    round(true);
    round(false);
    for lossy in [false, true] {
        let allocated = allocation_counter::measure(|| round(lossy));
        assert_eq!((allocated.count_total, allocated.bytes_total), (0, 0), "lossy: {lossy}");
    }
    round(false);
    assert_eq!(link.received, posted);
    assert!(repairs > 1000);
}
