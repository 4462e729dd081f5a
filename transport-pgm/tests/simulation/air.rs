//! The simulated network: who is there, what is under way, and what becomes of a packet. Looks into no packet but its
//! type.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use fabriq_transport_pgm::packet::{Body, Kind, Packet};
use fabriq_transport_pgm::{Datagram, Datagrams, Sqn, To};

use super::weather::{Random, Weather};

/// Microseconds of virtual time.
pub(crate) type Micros = u64;

pub(crate) const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(239, 192, 1, 1));

pub(crate) fn address(host: usize) -> IpAddr {
    [10, 0, (host >> 8) as u8, host as u8].into()
}

#[derive(Debug)]
pub(crate) struct Air {
    pub(crate) now: Micros,
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    under_way: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    parcels: Vec<Option<Parcel>>,
    vacant: Vec<usize>,
    sent: u64,
    pub(crate) ports: Vec<Port>,
    pub(crate) truth: Truth,
}

#[derive(Debug)]
struct Parcel {
    to: usize,
    from: IpAddr,
    bytes: Rc<[u8]>,
}

/// One host's place in the network.
#[derive(Debug, Default)]
pub(crate) struct Port {
    /// Hears the group.
    pub(crate) joined: bool,
    /// Cut off until then.
    pub(crate) dark_until: Micros,
    /// Packets that are lost in one go, and how many are left of the run.
    burst: u32,
    pub(crate) inbox: VecDeque<(IpAddr, Rc<[u8]>)>,
    outbox: Vec<(To, Rc<[u8]>)>,
    /// Room in the outbox; a socket that blocks has little.
    pub(crate) outbox_max: usize,
}

/// What really happened.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// By type: packets sent.
    pub(crate) sent: [u64; 16],
    /// Original data that some receiver did not get, of which source.
    pub(crate) lost: HashSet<(IpAddr, Sqn)>,
    /// Numbers in NAKs sent.
    pub(crate) naks_sqns: u64,
}

impl Truth {
    pub(crate) fn sent(&self, kind: Kind) -> u64 {
        self.sent[kind as usize]
    }
}

impl Datagrams for Port {
    fn send<'a>(&mut self, packets: impl Iterator<Item = (To, &'a [u8])>) -> io::Result<usize> {
        let before = self.outbox.len();
        for (to, bytes) in packets.take(self.outbox_max - before) {
            self.outbox.push((to, bytes.into()));
        }
        Ok(self.outbox.len() - before)
    }
    fn receive(&mut self, budget: usize, mut each: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let count = self.inbox.len().min(budget);
        for (from, bytes) in self.inbox.drain(..count) {
            each(Datagram { from, bytes: &bytes });
        }
        Ok(count)
    }
}

impl Air {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self {
            now: 0,
            random: Random::new(seed),
            weather,
            under_way: BinaryHeap::new(),
            parcels: Vec::new(),
            vacant: Vec::new(),
            sent: 0,
            ports: Vec::new(),
            truth: Truth::default(),
        }
    }

    pub(crate) fn join(&mut self, joined: bool) -> usize {
        let host = self.ports.len();
        self.ports.push(Port { joined, outbox_max: 64, ..Port::default() });
        host
    }

    /// When the next packet arrives.
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.under_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Puts what has arrived by now into the ports, and says whose.
    pub(crate) fn arrive(&mut self, touched: &mut Vec<usize>) {
        while let Some(&Reverse((at, _, parcel))) = self.under_way.peek() {
            if at > self.now {
                break;
            }
            self.under_way.pop();
            if let Some(Parcel { to, from, bytes }) = self.parcels[parcel].take() {
                self.vacant.push(parcel);
                self.ports[to].inbox.push_back((from, bytes));
                touched.push(to);
            }
        }
    }

    /// Takes what a host has sent, and decides what becomes of it.
    pub(crate) fn collect(&mut self, host: usize) {
        let mut outbox = std::mem::take(&mut self.ports[host].outbox);
        let from = address(host);
        for (to, bytes) in outbox.drain(..) {
            let packet = Packet::parse(&bytes).expect("what the machines send is well-formed");
            self.truth.sent[packet.kind() as usize] += 1;
            if packet.kind() == Kind::Nak {
                self.truth.naks_sqns += packet.sqns().count() as u64;
            }
            let original = match packet.body {
                Body::Odata(data) => Some(data.sqn),
                _ => None,
            };
            match to {
                To::Group | To::Neighbours => {
                    let nowhere = self.random.chance(self.weather.upstream_loss);
                    for to in 0..self.ports.len() {
                        if self.ports[to].joined {
                            let arrived = !nowhere && self.carry(from, to, packet.kind(), &bytes);
                            if let (false, Some(sqn)) = (arrived, original) {
                                self.truth.lost.insert((from, sqn));
                            }
                        }
                    }
                }
                To::Host(nla) => {
                    if let Some(to) = (0..self.ports.len()).find(|host| address(*host) == nla) {
                        self.carry(from, to, packet.kind(), &bytes);
                    }
                }
            }
        }
        self.ports[host].outbox = outbox;
    }

    /// Anything that anybody puts on the wire. Nothing becomes of it on its way.
    pub(crate) fn forge_to(&mut self, to: usize, from: IpAddr, bytes: &[u8]) {
        self.post(self.now, to, from, bytes.into());
    }

    /// Whether it arrives undamaged.
    fn carry(&mut self, from: IpAddr, to: usize, kind: Kind, bytes: &Rc<[u8]>) -> bool {
        let Weather { delay, jitter, repeated, late, late_by, damaged, burst, .. } = self.weather;
        let lost = self.weather.loss(kind);
        let (random, port) = (&mut self.random, &mut self.ports[to]);
        if self.now < port.dark_until {
            return false;
        }
        // A burst takes everything that comes to this host, one packet after the other.
        if port.burst > 0 {
            port.burst -= 1;
            return false;
        }
        if burst.is_some_and(|(often, _)| random.chance(often)) {
            port.burst = burst.map_or(0, |(_, len)| random.below(2 * u64::from(len)) as u32);
            return false;
        }
        if random.chance(lost) {
            return false;
        }
        let copies = 1 + u32::from(random.chance(repeated));
        let mut intact = false;
        for _ in 0..copies {
            let random = &mut self.random;
            let mut at = self.now + delay + random.below(jitter + 1);
            if random.chance(late) {
                at += random.below(late_by + 1);
            }
            let mut bytes = bytes.clone();
            if random.chance(damaged) {
                let mut changed = bytes.to_vec();
                let bit = random.below(changed.len() as u64 * 8) as usize;
                changed[bit / 8] ^= 1 << (bit % 8);
                bytes = changed.into();
            } else {
                intact = true;
            }
            self.post(at, to, from, bytes);
        }
        intact
    }

    fn post(&mut self, at: Micros, to: usize, from: IpAddr, bytes: Rc<[u8]>) {
        let parcel = Parcel { to, from, bytes };
        let place = match self.vacant.pop() {
            Some(place) => {
                self.parcels[place] = Some(parcel);
                place
            }
            None => {
                self.parcels.push(Some(parcel));
                self.parcels.len() - 1
            }
        };
        self.sent += 1;
        self.under_way.push(Reverse((at, self.sent, place)));
    }
}
