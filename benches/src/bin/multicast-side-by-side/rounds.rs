//! Rounds: in each, every peer once, one publisher and a subscriber on every other host; and which rounds count. It prints
//! no figure.

use crate::control::Actor;
use crate::ledger::Received;
use crate::load::Load;
use crate::measures::Kind;
use crate::peer::Name;
use crate::report::{self, Figures, Table};
use crate::roles::Published;
use crate::{Result, Rounds};
use std::io::IsTerminal;
use std::process::Command;
use std::time::Duration;

/// Discarded rounds are run again until so many times the wanted rounds have been.
const TRIES: usize = 3;
/// Bare UDP's p99 in a round that counts: above, something else held the cores.
const RAW_P99_MS_MAX: f64 = 5.0;
/// How long a subscriber may take to hear the publisher.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long a run may take. The slowest peer at the highest loss takes half a minute.
const RUN_LIMIT: Duration = Duration::from_secs(150);

/// The outcome of one peer in one round: figures, or why there are none.
pub(crate) type Outcome = std::result::Result<Figures, String>;

/// All rounds of one measure at one loss.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) kind: Kind,
    pub(crate) loss: f64,
    pub(crate) peers: Vec<Name>,
    /// Round by round, in the order of `peers`.
    pub(crate) rounds: Vec<Vec<Outcome>>,
    pub(crate) counts: Vec<bool>,
}

impl Results {
    /// The figures of a peer in the rounds that count.
    pub(crate) fn figures(&self, peer: Name) -> Vec<Figures> {
        let Some(peer) = self.peers.iter().position(|name| *name == peer) else { return Vec::new() };
        let counted = self.rounds.iter().zip(&self.counts).filter(|(_, counts)| **counts);
        counted.filter_map(|(round, _)| round[peer].as_ref().ok().copied()).collect()
    }

    /// Why a peer failed in the first round in which it did, and in how many rounds it did.
    pub(crate) fn failure(&self, peer: Name) -> Option<(&str, usize)> {
        let peer = self.peers.iter().position(|name| *name == peer)?;
        let mut failed = self.rounds.iter().filter_map(|round| round[peer].as_ref().err());
        let first = failed.next()?;
        Some((first, 1 + failed.count()))
    }
}

pub(crate) fn run(arguments: &Rounds) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("multicast-side-by-side: built without --release: the figures mean nothing");
    }
    let hosts = std::env::var("NETNS_HOSTS").unwrap_or_default();
    let hosts: Vec<&str> = hosts.split_whitespace().collect();
    if hosts.len() < 2 {
        return Err("this runs inside ci/netns, with two hosts or more: ci/netns -- PROGRAM".into());
    }
    let kinds = if arguments.kinds.is_empty() { &Kind::ALL[..] } else { &arguments.kinds };
    let peers = if arguments.only.is_empty() { &Name::ALL[..] } else { &arguments.only };
    let mut all = Vec::new();
    for kind in kinds {
        let losses = if arguments.loss.is_empty() { kind.losses() } else { &arguments.loss };
        for loss in losses {
            lose(*loss)?;
            let results = measure(*kind, *loss, peers, &hosts, arguments);
            if !arguments.json {
                print!("{}", Table::new(&results, &hosts));
            }
            all.push(results);
        }
    }
    if arguments.json {
        println!("{}", report::json(&all, &hosts)?);
    }
    Ok(())
}

/// From now on every host loses so much of what arrives.
fn lose(percent: f64) -> Result<()> {
    let done = Command::new("loss").args(["all", &percent.to_string()]).output()?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).trim().into()) }
}

fn measure(kind: Kind, loss: f64, peers: &[Name], hosts: &[&str], arguments: &Rounds) -> Results {
    let fits = |peer: &&Name| peer.bytes_max() >= kind.load(arguments, **peer).bytes;
    let peers: Vec<Name> = peers.iter().filter(fits).copied().collect();
    let mut results = Results { kind, loss, peers, rounds: Vec::new(), counts: Vec::new() };
    let progress = std::io::stderr().is_terminal();
    let counted = |results: &Results| results.counts.iter().filter(|counts| **counts).count();
    while counted(&results) < arguments.rounds && results.rounds.len() < TRIES * arguments.rounds {
        let number = results.rounds.len();
        let mut round: Vec<Outcome> = vec![Err("not run".to_owned()); results.peers.len()];
        for turn in 0..results.peers.len() {
            let at = (turn + number) % results.peers.len();
            let peer = results.peers[at];
            if progress {
                eprint!("\r{kind:?} at {loss} %: round {}, {peer}      ", number + 1);
            }
            // A peer that has never got through is not tried in every round.
            round[at] = match results.failure(peer) {
                Some((reason, rounds)) if rounds == number && number >= 2 => Err(reason.to_owned()),
                _ => play(&kind.load(arguments, peer), hosts).map_err(|error| error.to_string()),
            };
        }
        results.counts.push(kind != Kind::Latency || undisturbed(&results.peers, &round));
        results.rounds.push(round);
    }
    if progress {
        eprint!("\r{:60}\r", "");
    }
    results
}

/// Whether bare UDP was as fast as it is when nothing else runs. Without it nothing can be told.
fn undisturbed(peers: &[Name], round: &[Outcome]) -> bool {
    let raw = peers.iter().zip(round).find(|(peer, _)| **peer == Name::Raw);
    raw.and_then(|(_, outcome)| outcome.as_ref().ok()).is_none_or(|figures| figures.p99_ms <= RAW_P99_MS_MAX)
}

/// One run of one peer.
fn play(load: &Load, hosts: &[&str]) -> Result<Figures> {
    let (publisher, subscribers) = hosts.split_first().ok_or("no host")?;
    let mut subscribers =
        subscribers.iter().map(|host| Actor::start(host, "subscribe", load)).collect::<Result<Vec<_>>>()?;
    let mut publisher = Actor::start(publisher, "publish", load)?;
    // First the publisher: what is wrong with it is why nobody hears it.
    publisher.await_ready(READY_LIMIT)?;
    for subscriber in &subscribers {
        subscriber.await_ready(READY_LIMIT)?;
    }
    for actor in &mut subscribers {
        actor.go()?;
    }
    publisher.go()?;
    let published: Published = publisher.report(RUN_LIMIT)?;
    let received =
        subscribers.iter().map(|actor| actor.report(RUN_LIMIT)).collect::<Result<Vec<Received>>>()?;
    Ok(Figures::new(&published, &received))
}
