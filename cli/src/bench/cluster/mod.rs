//! `fabriq bench cluster`: all topologies between the ranks that a site's own launcher has started. Says who this process is,
//! and starts its part; each rank measures in `step`, rank 0 also leads in `coordinator`.

mod compare;
mod coordinator;
mod counters;
mod csv;
mod environment;
mod heat;
mod limits;
mod matrix;
mod options;
mod output;
mod page;
mod plan;
mod plots;
mod protocol;
mod rank;
mod ranks;
mod report;
mod serve;
mod slow;
mod steady;
mod step;
mod table;
mod usage;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;

use super::note_debug_build;
use crate::failure::{Failure, note};
use crate::info::Host;
use crate::schemes;
pub(super) use compare::{Compared, compared};
use coordinator::{Coordinator, Verdict};
use environment::Environment;
pub(super) use options::Args;
use options::Options;
use output::Sink;
use plan::Plan;
use protocol::{Hello, Party};
use rank::Rank;
use ranks::Ranks;
pub(super) use report::Cluster;
use report::{Record, Run};
use serve::Server;

/// Who this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    rank: u32,
    ranks: u32,
    /// Where rank 0 listens, as others reach it.
    coordinator: String,
    launcher: String,
    /// What the launcher calls this run.
    job: Option<String>,
}

impl Place {
    /// What the arguments say, or else the launcher.
    fn new(args: &Args) -> Result<Self, Failure> {
        let place = match (args.rank, args.ranks) {
            (Some(rank), Some(ranks)) => {
                let coordinator = args.coordinator.clone().ok_or_else(|| {
                    Failure::Usage(
                        "nobody says where rank 0 is: add --coordinator tcp://HOST:PORT, the same for all ranks".to_owned(),
                    )
                })?;
                Self { rank, ranks, coordinator, launcher: "by hand".to_owned(), job: None }
            }
            _ => {
                let said = Ranks::of_this_process()?;
                let coordinator = match &args.coordinator {
                    Some(url) => url.clone(),
                    None => match said.misplaced(&Host::new().name) {
                        Some(failure) => return Err(failure),
                        None => said.coordinator()?,
                    },
                };
                let job = said.job.as_ref().map(|job| format!(", job {job}")).unwrap_or_default();
                let launcher = format!("{}{job}", said.launcher);
                Self { rank: said.rank, ranks: said.size, coordinator, launcher, job: said.job }
            }
        };
        if place.rank >= place.ranks {
            return Err(Failure::Usage(format!("--rank {}: ranks are 0 to {}", place.rank, place.ranks - 1)));
        }
        if !place.coordinator.starts_with("tcp://") {
            return Err(Failure::Usage(format!(
                "--coordinator {}: ranks meet over tcp, as in tcp://HOST:5555; --transport says what is measured",
                place.coordinator
            )));
        }
        Ok(place)
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let options = Options::new(args)?;
    let place = Place::new(args)?;
    let party = Party::new(place.ranks, place.job.clone());
    let rank = |coordinator: String| {
        let environment = Environment::of_this_host();
        let (join, asked) = (options.join, options.schemes());
        let options = serde_json::to_value(&options)
            .map_err(|error| Failure::Failed(format!("cannot write the options: {error}")))?;
        let lacks = asked.iter().filter_map(|scheme| Some((scheme.clone(), schemes::unavailable(scheme)?)));
        let hello = Hello {
            party: party.clone(),
            host: environment.host.name.clone(),
            pid: std::process::id(),
            options,
            lacks: lacks.collect(),
            environment,
        };
        let address = address(&place.coordinator).to_string();
        Ok::<_, Failure>(Rank { me: place.rank, coordinator, hello, address, join, leads: place.rank == 0 })
    };
    // Every rank refuses what rank 0 does, instead of waiting for it.
    Plan::new(&options, place.ranks)?;
    if place.rank > 0 {
        return rank(place.coordinator.clone())?.run();
    }
    note_debug_build();
    let run = Run::new(&options, place.ranks, &place.launcher);
    let server = Server::bind(&listening(&place.coordinator)).map_err(|failure| {
        failure.with("rank 0 listens there; choose another port or address of this host by --coordinator, the same for all ranks")
    })?;
    let coordinator = Coordinator::new(options.clone(), party.clone(), Instant::now())?;
    // Not before: a run that cannot begin leaves the last one's files alone.
    let mut sink = Sink::new(args)?;
    sink.record(&Record::Run(Box::new(run.clone())))?;
    let own = rank(near(&server.endpoint))?;
    let thread = std::thread::Builder::new().name("rank 0".to_owned());
    let own = thread
        .spawn(move || own.run())
        .map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
    let mut cluster = Cluster::new(run);
    let led = server.lead(coordinator, &mut sink, &mut cluster);
    let written = sink.finish(&cluster);
    // All is written: from now on a signal ends the process.
    for signal in [SIGINT, SIGTERM] {
        let _ = register_conditional_default(signal, Arc::new(AtomicBool::new(true)));
    }
    let is_hurried = matches!(&led, Ok(verdict) if verdict.hurried);
    if !is_hurried && let Ok(Err(failure)) = own.join() {
        note(&failure.into_text());
    }
    match (led.and_then(judge), written) {
        (Err(judged), Err(written)) => {
            note(&written.into_text());
            Err(judged)
        }
        (judged, written) => judged.and(written),
    }
}

impl Cluster {
    /// Writes the page, or prints it.
    pub(super) fn put_page(&self, path: Option<&Path>) -> Result<(), Failure> {
        let page = page::of(self);
        match path {
            None => crate::info::print(&page),
            Some(path) => std::fs::write(path, page).map_err(|error| {
                Failure::Failed(format!("cannot write {}: {error}; is the disk full?", path.display()))
            }),
        }
    }
}

/// The exit code.
fn judge(verdict: Verdict) -> Result<(), Failure> {
    let Verdict { faults, refused, corrupt, interrupted, hurried: _, steps } = verdict;
    let said = format!("{faults} things failed, as the report says; {steps} measurements were made");
    match () {
        () if corrupt => Err(Failure::Corrupt(said)),
        () if refused => Err(Failure::Usage(said)),
        () if faults > 0 => Err(Failure::Failed(said)),
        () if interrupted => {
            Err(Failure::Failed(format!("interrupted; the report has {steps} measurements")))
        }
        () if steps == 0 => Err(Failure::Failed("nothing could be measured; the report says why".to_owned())),
        () => Ok(()),
    }
}

/// Where rank 0 listens: at all its addresses, unless an address was named.
fn listening(coordinator: &str) -> String {
    match coordinator.strip_prefix("tcp://").and_then(|at| at.rsplit_once(':')) {
        Some((host, port)) if host.parse::<IpAddr>().is_err() && !host.starts_with('[') => {
            format!("tcp://*:{port}")
        }
        _ => coordinator.to_owned(),
    }
}

/// Where the coordinator is for a rank of the same process.
fn near(endpoint: &str) -> String {
    endpoint.replace("tcp://0.0.0.0:", "tcp://127.0.0.1:").replace("tcp://[::]:", "tcp://[::1]:")
}

/// By which address this host reaches rank 0: others reach this host there as well.
fn address(coordinator: &str) -> IpAddr {
    let from = |to: SocketAddr| -> Option<IpAddr> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        // Sends nothing: the system chooses the address.
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let at = coordinator.split("://").nth(1).unwrap_or(coordinator);
    let named = at.to_socket_addrs().ok().and_then(|mut all| all.find_map(from));
    // A host's own name may mean its loopback, and a wildcard is nowhere: what it uses for the world is next best
    // (RFC 5737: nobody has this address).
    let is_exact = at.parse::<SocketAddr>().is_ok();
    let found = named.filter(|found| is_exact || !found.is_loopback());
    found
        .or_else(|| from(SocketAddr::from(([192, 0, 2, 1], 9))))
        .or(named)
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_0_listens_everywhere_unless_an_address_is_named() {
        assert_eq!(listening("tcp://first-host:5555"), "tcp://*:5555");
        assert_eq!(listening("tcp://10.7.0.1:5555"), "tcp://10.7.0.1:5555");
        assert_eq!(listening("tcp://[::1]:5555"), "tcp://[::1]:5555");
        assert_eq!(near("tcp://0.0.0.0:7"), "tcp://127.0.0.1:7");
    }

    #[test]
    fn the_address_is_that_by_which_rank_0_is_reached() {
        assert_eq!(address("tcp://127.0.0.1:5555"), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(address("tcp://[::1]:5555").to_string(), "::1");
    }

    #[test]
    fn the_exit_code_says_the_worst() {
        let good = Verdict { steps: 3, ..Verdict::default() };
        assert!(judge(good).is_ok());
        assert!(matches!(judge(Verdict { steps: 0, ..good }), Err(Failure::Failed(_))));
        assert!(matches!(judge(Verdict { interrupted: true, ..good }), Err(Failure::Failed(_))));
        assert!(matches!(judge(Verdict { faults: 1, refused: true, ..good }), Err(Failure::Usage(_))));
        assert!(matches!(
            judge(Verdict { faults: 1, refused: true, corrupt: true, ..good }),
            Err(Failure::Corrupt(_))
        ));
    }
}
