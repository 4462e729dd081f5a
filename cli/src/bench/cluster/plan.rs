//! What is measured in a run, one item after the other, and which flows an item has among the ranks that are left. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::limits::ITEMS_MAX;
use super::options::{Only, Options, Topology};
use super::protocol::{Flow, Kind, Traffic};
use crate::bench::multicast::is_one_way;
use crate::failure::Failure;

/// One measurement. Its flows follow from the ranks that are there when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Item {
    pub(in crate::bench) topology: Topology,
    pub(in crate::bench) kind: Kind,
    /// Where every rank listens, with wildcards.
    pub(in crate::bench) url: String,
    /// Whether other transports of the run have its scheme, which does not tell them apart then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::bench) by_url: bool,
    pub(in crate::bench) size: usize,
    pub(in crate::bench) parts: u32,
    pub(in crate::bench) links: u32,
    pub(in crate::bench) threads: u32,
    /// `None`: by the size.
    pub(in crate::bench) hwm: Option<u32>,
    /// Open loop: messages per second of each client.
    pub(in crate::bench) rate: Option<f64>,
    /// Size of messages of streams beside it.
    pub(in crate::bench) background: Option<usize>,
    /// Of a matrix, which of its rounds.
    pub(in crate::bench) round: Option<u32>,
}

/// All items of a run, each made when it is asked for: a matrix of many ranks has very many.
#[derive(Debug)]
pub(super) struct Plan {
    /// Each with how many rounds of it there are, if it has any.
    kinds: Vec<(Item, Option<u64>)>,
    len: usize,
}

impl Plan {
    /// Of a run of `ranks`.
    pub(super) fn new(options: &Options, ranks: u32) -> Result<Self, Failure> {
        let mut kinds = Vec::new();
        for transport in &options.transports {
            let url = template(transport);
            for &topology in &options.topologies {
                add(&mut kinds, options, ranks, topology, &url);
            }
        }
        let len: u64 = kinds.iter().map(count).sum();
        if len > ITEMS_MAX {
            return Err(Failure::Usage(format!(
                "that is {len} measurements with {ranks} ranks, and a report has {ITEMS_MAX} at most: choose fewer by --topology, \
                 --size and --only, or leave out --one-at-a-time"
            )));
        }
        Ok(Self { kinds, len: len as usize })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The `number`th.
    pub(super) fn item(&self, number: usize) -> Option<Item> {
        let mut number = number as u64;
        for kind in &self.kinds {
            if number < count(kind) {
                // No more than there may be items.
                let round = kind.1.map(|_| number as u32);
                return Some(Item { round, ..kind.0.clone() });
            }
            number -= count(kind);
        }
        None
    }

    /// The schemes of all.
    pub(super) fn schemes(&self) -> BTreeSet<&str> {
        self.kinds.iter().filter(|kind| count(kind) > 0).map(|(item, _)| item.scheme()).collect()
    }
}

/// How many items are of a kind.
fn count((_, rounds): &(Item, Option<u64>)) -> u64 {
    rounds.unwrap_or(1)
}

/// All items of a run of `ranks`.
#[cfg(test)]
pub(super) fn plan(options: &Options, ranks: u32) -> Vec<Item> {
    let plan = Plan::new(options, ranks).unwrap();
    (0..plan.len()).map(|number| plan.item(number).unwrap()).collect()
}

/// The URL of a scheme where every host can listen; others stay as they are.
pub(super) fn template(transport: &str) -> String {
    if transport.contains("://") {
        return transport.to_owned();
    }
    match transport {
        "ipc" => "ipc://*".to_owned(),
        "pgm" => "pgm://{address};239.192.77.1:17999".to_owned(),
        "epgm" => "epgm://{address};239.192.77.1:17999".to_owned(),
        scheme => format!("{scheme}://{{address}}:*"),
    }
}

/// A template's URL on some host.
pub(super) fn somewhere(template: &str) -> String {
    template.replace("{address}", "127.0.0.1")
}

fn add(kinds: &mut Vec<(Item, Option<u64>)>, options: &Options, ranks: u32, topology: Topology, url: &str) {
    // On a wire that goes one way there is one topology.
    let one_link = [1];
    // A subscriber hears everything over each of its links.
    let links = if topology == Topology::FanOut { &one_link[..] } else { &options.links };
    let one_way = is_one_way(&somewhere(url));
    if topology != Topology::FanOut && one_way {
        return;
    }
    let rounds = if topology == Topology::Matrix { rounds(ranks, options.one_at_a_time) } else { 0 };
    // Where nothing goes back, nothing says when it came.
    for kind in kinds_of(topology, options.only).into_iter().filter(|kind| !(one_way && kind.is_latency())) {
        for &parts in &options.parts {
            for &links in links {
                for &threads in &options.threads {
                    for &hwm in &options.hwms {
                        for &size in &options.sizes {
                            let item = Item {
                                topology,
                                kind,
                                url: url.to_owned(),
                                by_url: has_namesakes(options, url),
                                size,
                                parts,
                                links,
                                threads,
                                hwm,
                                rate: None,
                                background: None,
                                round: None,
                            };
                            for load in loads(&item, options) {
                                // There and back is one measurement, each way of a stream one of its own.
                                let ways = if kind == Kind::Stream { 2 } else { 1 };
                                kinds.push((load, (topology == Topology::Matrix).then_some(ways * rounds)));
                            }
                        }
                    }
                }
            }
        }
    }
}

fn kinds_of(topology: Topology, only: Option<Only>) -> Vec<Kind> {
    let kinds: &[Kind] = match topology {
        Topology::FanOut => &[Kind::Survey, Kind::Publish],
        Topology::Pool => &[Kind::Pool],
        _ => &[Kind::Echo, Kind::Stream],
    };
    let wanted = |kind: &Kind| only.is_none_or(|only| kind.is_latency() == (only == Only::Latency));
    kinds.iter().copied().filter(wanted).collect()
}

/// An item under each load that was asked for, and the wire itself beside the plainest.
fn loads(item: &Item, options: &Options) -> Vec<Item> {
    let mut loads = vec![item.clone()];
    let plain = item.parts == 1 && item.links == 1 && item.threads == 1 && item.hwm == options.hwms[0];
    let has_raw =
        ["tcp://", "verbs://", "ofi://", "ipc://"].iter().any(|scheme| item.url.starts_with(scheme));
    if options.baseline && plain && has_raw && item.topology == Topology::Pair {
        let kind = if item.kind == Kind::Echo { Kind::RawEcho } else { Kind::RawStream };
        loads.push(Item { kind, ..item.clone() });
    }
    if matches!(item.kind, Kind::Echo | Kind::Pool) {
        loads.extend(options.rates.iter().map(|&rate| Item { rate: Some(rate), ..item.clone() }));
    }
    if item.kind == Kind::Echo {
        let beside = |&background: &usize| Item { background: Some(background), ..item.clone() };
        loads.extend(options.backgrounds.iter().map(beside));
    }
    loads
}

/// Rounds of a tournament of `ranks` in which every two meet once.
fn rounds(ranks: u32, one_at_a_time: bool) -> u64 {
    match ranks {
        0 | 1 => 0,
        _ if one_at_a_time => u64::from(ranks) * u64::from(ranks - 1) / 2,
        _ => u64::from(seats(ranks) - 1),
    }
}

/// An even number: one may be empty.
fn seats(ranks: u32) -> u32 {
    ranks.next_multiple_of(2)
}

/// The pairs of a round: one seat stays, the others move on by one (the circle method).
fn pairs(ranks: u32, round: u32) -> Vec<Flow> {
    let seats = seats(ranks);
    let others = seats - 1;
    let pair = |seat: u32| {
        let (a, b) = match seat {
            // The one that stays meets who has come to sit opposite.
            0 => (others, round % others),
            _ => ((round + seat) % others, (round + others - seat) % others),
        };
        Flow { from: a.min(b), to: a.max(b) }
    };
    (0..seats / 2).map(pair).filter(|flow| flow.to < ranks).collect()
}

/// The `number`th of all pairs in turn.
fn nth_pair(ranks: u32, mut number: u32) -> Flow {
    let mut from = 0;
    while number >= ranks - 1 - from {
        number -= ranks - 1 - from;
        from += 1;
    }
    Flow { from, to: from + 1 + number }
}

/// Of a URL, or of what is a scheme already.
fn scheme_of(transport: &str) -> &str {
    transport.split("://").next().unwrap_or(transport)
}

/// Whether several transports of a run have the scheme of one of them.
fn has_namesakes(options: &Options, url: &str) -> bool {
    options.transports.iter().filter(|transport| scheme_of(transport) == scheme_of(url)).count() > 1
}

impl Item {
    /// The flows among the ranks that are left of `ranks`, which are increasing.
    pub(super) fn flows(&self, options: &Options, ranks: u32, left: &[u32]) -> Vec<Flow> {
        let there = |rank: u32| left.binary_search(&rank).is_ok();
        let flow = |(from, to): (u32, u32)| Flow { from, to };
        match self.topology {
            Topology::Pair => left.windows(2).take(1).map(|pair| flow((pair[0], pair[1]))).collect(),
            Topology::Matrix => {
                let round = self.round.unwrap_or(0);
                let once = rounds(ranks, options.one_at_a_time).clamp(1, ITEMS_MAX) as u32;
                let mut flows = match options.one_at_a_time {
                    true => vec![nth_pair(ranks, round % once)],
                    false => pairs(ranks, round % once),
                };
                if round >= once {
                    flows = flows.iter().map(|there| flow((there.to, there.from))).collect();
                }
                flows.retain(|flow| there(flow.from) && there(flow.to));
                flows
            }
            Topology::Ring if left.len() > 1 => {
                left.iter().zip(left.iter().cycle().skip(1)).map(|(&from, &to)| flow((from, to))).collect()
            }
            Topology::Incast => left.iter().skip(1).map(|&from| flow((from, left[0]))).collect(),
            Topology::FanOut => left.iter().skip(1).map(|&to| flow((left[0], to))).collect(),
            Topology::AllToAll => {
                // Each begins with its neighbour, so that not all send to the same one first.
                let ways = |(at, &from): (usize, &u32)| {
                    let others = left[at + 1..].iter().chain(&left[..at]);
                    others.map(move |&to| flow((from, to))).collect::<Vec<_>>()
                };
                left.iter().enumerate().flat_map(ways).collect()
            }
            Topology::Pool => {
                let servers = options.servers.map_or(left.len() / 2, |servers| servers as usize);
                let servers = servers.max(1).min(left.len().saturating_sub(1));
                let (servers, clients) = left.split_at(servers);
                clients.iter().flat_map(|&from| servers.iter().map(move |&to| flow((from, to)))).collect()
            }
            Topology::Ring => Vec::new(),
        }
    }

    /// What goes between the ranks: what is measured, and what runs beside it.
    pub(super) fn traffics(&self, flows: Vec<Flow>) -> Vec<Traffic> {
        let background = self.background.map(|size| Traffic {
            kind: Kind::Stream,
            flows: flows.clone(),
            url: self.url.clone(),
            size,
            parts: 1,
            links: 1,
            threads: 1,
            hwm: None,
            rate: None,
            background: true,
        });
        let measured = Traffic {
            kind: self.kind,
            flows,
            url: self.url.clone(),
            size: self.size,
            parts: self.parts,
            links: self.links,
            threads: self.threads,
            hwm: self.hwm,
            rate: self.rate,
            background: false,
        };
        std::iter::once(measured).chain(background).collect()
    }

    /// The scheme of its URL.
    pub(in crate::bench) fn scheme(&self) -> &str {
        scheme_of(&self.url)
    }

    /// What its transport is called in this run: its scheme, or its URL where that does not tell it from others.
    pub(in crate::bench) fn label(&self) -> &str {
        if self.by_url { &self.url } else { self.scheme() }
    }

    /// For people, but for topology and size.
    pub(in crate::bench) fn what(&self) -> String {
        let mut what = match self.kind {
            Kind::Echo | Kind::Pool | Kind::Survey => "latency",
            Kind::Stream | Kind::Publish => "throughput",
            Kind::RawEcho => "latency of the wire itself",
            Kind::RawStream => "throughput of the wire itself",
        }
        .to_owned();
        let mut say = |text: String| what += &text;
        if let Some(rate) = self.rate {
            say(format!(" at {}/s", crate::units::per_second(rate)));
        }
        if let Some(size) = self.background {
            say(format!(" under streams of {}", crate::units::size(size)));
        }
        for (count, name) in [(self.parts, "parts"), (self.links, "links"), (self.threads, "threads")] {
            if count > 1 {
                say(format!(", {count} {name}"));
            }
        }
        if let Some(hwm) = self.hwm {
            say(format!(", HWM {hwm}"));
        }
        what
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cluster::options::tests::options;

    fn flows(topology: &str, more: &[&str], left: &[u32]) -> Vec<(u32, u32)> {
        let options = options(&[&["--topology", topology][..], more].concat()).unwrap();
        let items = plan(&options, 4);
        items[0].flows(&options, 4, left).into_iter().map(|flow| (flow.from, flow.to)).collect()
    }

    #[test]
    fn in_a_tournament_every_two_meet_once_and_nobody_twice_in_a_round() {
        for ranks in [2, 3, 4, 5, 8, 9, 64, 1000] {
            let mut met = BTreeSet::new();
            for round in 0..rounds(ranks, false) as u32 {
                let pairs = pairs(ranks, round);
                let busy: BTreeSet<_> = pairs.iter().flat_map(|flow| [flow.from, flow.to]).collect();
                assert_eq!(busy.len(), 2 * pairs.len(), "{ranks} ranks, round {round}: {pairs:?}");
                assert_eq!(pairs.len(), ranks as usize / 2);
                met.extend(pairs);
            }
            assert_eq!(met.len() as u32, ranks * (ranks - 1) / 2, "{ranks} ranks");
            if ranks < 10 {
                let in_turn: BTreeSet<_> =
                    (0..rounds(ranks, true) as u32).map(|number| nth_pair(ranks, number)).collect();
                assert_eq!(in_turn, met);
            }
        }
    }

    #[test]
    fn a_plan_of_many_ranks_costs_nothing_until_its_items_are_asked_for_and_one_of_too_many_is_refused() {
        let few = ["--topology", "matrix", "--size", "64", "--only", "latency"];
        let alone = [&few[..], &["--one-at-a-time"]].concat();
        let made = Plan::new(&options(&alone).unwrap(), 1000).unwrap();
        assert_eq!((made.len(), made.kinds.len()), (499_500, 1));
        let rounds: Vec<_> = [0, 499_499].iter().map(|&at| made.item(at).unwrap().round).collect();
        assert_eq!((rounds, made.item(499_500)), (vec![Some(0), Some(499_499)], None));
        assert_eq!(Plan::new(&options(&few).unwrap(), 1000).unwrap().len(), 999);
        // More than 32 bits can count.
        for (arguments, ranks) in
            [(&alone[..], 4_000_000), (&alone, 10_000), (&["--topology", "matrix"], 4_000_000)]
        {
            let said = Plan::new(&options(arguments).unwrap(), ranks).unwrap_err().into_text();
            assert!(
                said.contains("leave out --one-at-a-time") && said.contains(&ranks.to_string()),
                "{said}"
            );
        }
    }

    #[test]
    fn the_streams_of_a_matrix_go_both_ways() {
        for more in [&[][..], &["--one-at-a-time"]] {
            let options =
                options(&[&["--topology", "matrix", "--only", "throughput", "--size", "64"], more].concat());
            let options = options.unwrap();
            let met: BTreeSet<_> =
                plan(&options, 5).iter().flat_map(|item| item.flows(&options, 5, &[0, 1, 2, 3, 4])).collect();
            assert_eq!(met.len(), 5 * 4);
        }
    }

    #[test]
    fn flows_are_those_among_the_ranks_that_are_left() {
        let all = [0, 1, 2, 3];
        assert_eq!(flows("pair", &[], &all), [(0, 1)]);
        assert_eq!(flows("pair", &[], &[0, 2, 3]), [(0, 2)]);
        assert_eq!(flows("ring", &[], &all), [(0, 1), (1, 2), (2, 3), (3, 0)]);
        assert_eq!(flows("ring", &[], &[0, 2, 3]), [(0, 2), (2, 3), (3, 0)]);
        assert_eq!(flows("incast", &[], &[0, 2, 3]), [(2, 0), (3, 0)]);
        assert_eq!(flows("fan-out", &[], &all), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(flows("all-to-all", &[], &[0, 1, 3]), [(0, 1), (0, 3), (1, 3), (1, 0), (3, 0), (3, 1)]);
        assert_eq!(flows("pool", &[], &all), [(2, 0), (2, 1), (3, 0), (3, 1)]);
        assert_eq!(flows("pool", &["--servers", "9"], &all), [(3, 0), (3, 1), (3, 2)]);
        for topology in ["pair", "matrix", "ring", "incast", "fan-out", "all-to-all", "pool"] {
            assert_eq!(flows(topology, &[], &[0]), [], "{topology}");
            assert_eq!(flows(topology, &[], &[]), [], "{topology}");
        }
    }

    #[test]
    fn each_load_is_an_item_and_the_wire_itself_stands_beside_the_plain_one() {
        let options = options(&[
            "--topology",
            "pair",
            "--size",
            "64",
            "--rate",
            "1k",
            "--background",
            "1K",
            "--threads",
            "1",
            "--threads",
            "2",
        ]);
        let items = plan(&options.unwrap(), 2);
        let what: Vec<_> = items.iter().map(Item::what).collect();
        let latency = [
            "latency",
            "latency of the wire itself",
            "latency at 1.00 k/s",
            "latency under streams of 1 KiB",
        ];
        assert_eq!(what[..4], latency);
        assert_eq!(what[4], "latency, 2 threads");
        assert_eq!(what[7..], ["throughput", "throughput of the wire itself", "throughput, 2 threads"]);
    }

    #[test]
    fn by_multicast_there_is_the_fan_out_alone() {
        for scheme in ["epgm", "pgm"] {
            let options = options(&["--transport", scheme, "--size", "64"]).unwrap();
            let topologies: Vec<_> = plan(&options, 4).iter().map(|item| item.topology).collect();
            assert_eq!(topologies, [Topology::FanOut], "{scheme}");
        }
    }

    #[test]
    fn a_bare_scheme_is_a_url_that_its_transport_takes() {
        let schemes = crate::schemes::names();
        for scheme in schemes.into_iter().filter(|scheme| *scheme != "inproc") {
            let url = somewhere(&template(scheme));
            let endpoint = fabriq::Endpoint::parse(&url).unwrap();
            let transports = fabriq::transports();
            let transport = transports.iter().find(|known| known.schemes().contains(&scheme)).unwrap();
            let flow = if is_one_way(&url) { fabriq::Flow::Send } else { fabriq::Flow::Duplex };
            let taken = transport.capabilities(&endpoint, flow);
            assert!(taken.is_ok(), "{url}: {taken:?}");
            assert_eq!(is_one_way(&url), scheme.ends_with("pgm"), "{url}");
        }
    }
}
