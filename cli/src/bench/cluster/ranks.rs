//! Who this process is among those that a launcher has started: rank, size, hosts. Reads the environment it is handed; opens
//! nothing, and links no MPI library.

mod hostlist;
mod launchers;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use launchers::{Hosts, LAUNCHERS, Launcher, Size};

/// Ports for the ranks of a job to meet at: above those of services, below those that Linux hands to clients by itself.
const PORT_FIRST: u16 = 20_000;
const PORTS: u16 = 10_000;

/// What to do when the environment does not help.
const BY_HAND: &str = "say --rank, --ranks and --coordinator";

/// What the environment of a process says. A closure may be handed for each, so that tests need no environment of their own.
pub(super) struct Environment<'a> {
    /// A variable's value.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// What is in a file that a variable names.
    pub(super) file: &'a dyn Fn(&str) -> io::Result<String>,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// What a launcher has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranks {
    /// Who said it, as in `Slurm` or `PMIx (Slurm)`.
    pub(super) launcher: String,
    pub(super) rank: u32,
    /// How many ranks there are.
    pub(super) size: u32,
    /// Among those on the same host.
    pub(super) local_rank: Option<u32>,
    /// The hosts of the job, each once, in the launcher's order. Under `mpirun` those that it was given, of which it may
    /// leave some out. Empty: not known.
    pub(super) hosts: Vec<String>,
    /// Where rank 0 should be: on the first of the hosts, if the launcher fills them in order.
    pub(super) first_host: Option<String>,
    /// What all ranks of the job have in common, and no other job of the same launcher has.
    pub(super) job: Option<String>,
}

impl Ranks {
    /// Of this process.
    pub(super) fn of_this_process() -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok();
        Self::new(&Environment { variable: &variable, file: &|path| std::fs::read_to_string(path) })
    }

    /// What the first launcher says that says anything, completed by those that say the same: a PMI library's variables have no
    /// hosts, but the launcher behind it has. One that started another launcher, as Slurm does Open MPI's daemons, says
    /// something else, and is not listened to.
    pub(super) fn new(environment: &Environment<'_>) -> Result<Self, Failure> {
        let mut said = LAUNCHERS.iter().filter(|launcher| launcher.speaks(environment));
        let Some(first) = said.next() else { return Err(nobody(environment)) };
        let rank = first.rank(environment)?;
        let mut size = first.size(environment)?;
        let mut ranks = Self {
            launcher: first.name.to_owned(),
            rank,
            size: 0,
            local_rank: first.number(environment, first.local_rank)?,
            hosts: Vec::new(),
            first_host: None,
            job: first.job(environment),
        };
        first.hosts(environment, &mut ranks)?;
        for other in said {
            // What is wrong with one that does not matter does not matter.
            let (Ok(their_rank), Ok(Some(their_size))) = (other.rank(environment), other.size(environment))
            else {
                continue;
            };
            if their_rank != rank || size.is_some_and(|size| size != their_size) {
                continue;
            }
            ranks.launcher = format!("{} ({})", first.name, other.name);
            size = Some(their_size);
            ranks.local_rank = ranks.local_rank.or(other.number(environment, other.local_rank)?);
            ranks.job = ranks.job.or_else(|| other.job(environment));
            if ranks.hosts.is_empty() {
                other.hosts(environment, &mut ranks)?;
            }
            break;
        }
        let Some(size) = size else { return Err(first.no_size(rank)) };
        if rank >= size {
            return Err(wrong(format!(
                "{} says rank {rank} of {size}, which are 0 to {}",
                first.name,
                size - 1
            )));
        }
        ranks.size = size;
        // Who are all on one host have found it.
        let local = first.number(environment, first.local_size)?;
        if local == Some(size) {
            ranks.hosts.clear();
            ranks.first_host = Some("localhost".to_owned());
        }
        Ok(ranks)
    }

    /// The URL at which rank 0 listens and the others find it, if nobody has said another.
    pub(super) fn coordinator(&self) -> Result<String, Failure> {
        let Some(host) = &self.first_host else {
            return Err(Failure::Usage(format!(
                "{} says that this is rank {} of {}, but not where rank 0 is: say --coordinator tcp://HOST:PORT, the same for \
                 all ranks, with the host on which rank 0 runs",
                self.launcher, self.rank, self.size
            )));
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Ok(format!("tcp://{host}:{}", self.port()))
    }

    /// A port that all ranks of the job agree on, and two jobs at once hardly ever.
    pub(super) fn port(&self) -> u16 {
        // FNV-1a: the same on all hosts, whoever has compiled the program.
        let hash =
            self.job.iter().flat_map(|job| job.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
        PORT_FIRST + (hash % u64::from(PORTS)) as u16
    }

    /// What to say when this is rank 0 and the others look for it on another host than this, which is called `host`.
    pub(super) fn misplaced(&self, host: &str) -> Option<Failure> {
        fn short(name: &str) -> &str {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => name,
                Err(_) => name.split('.').next().unwrap_or(name),
            }
        }
        let first = self.first_host.as_ref()?;
        // An address may be anybody's.
        let known = self.rank == 0 && first != "localhost" && first.parse::<std::net::IpAddr>().is_err();
        (known && short(first) != short(host)).then(|| {
            Failure::Usage(format!(
                "rank 0 is on {host}, but the first host that {} names is {first}, where all others look for it: say \
                 --coordinator tcp://{host}:{} for all ranks, or let the launcher fill the hosts in order",
                self.launcher,
                self.port()
            ))
        })
    }
}

impl Launcher {
    fn speaks(&self, environment: &Environment<'_>) -> bool {
        let set = |name: &str| (environment.variable)(name).is_some_and(|value| !value.is_empty());
        set(self.rank) && self.only_with.is_none_or(set)
    }

    fn rank(&self, environment: &Environment<'_>) -> Result<u32, Failure> {
        let rank = self.number(environment, &[self.rank])?;
        let counted = rank.and_then(|rank| rank.checked_sub(self.first_rank));
        counted.ok_or_else(|| wrong(format!("{} is below {}", self.rank, self.first_rank)))
    }

    fn size(&self, environment: &Environment<'_>) -> Result<Option<u32>, Failure> {
        let size = match self.size {
            Size::Variables(names) => self.number(environment, names)?,
            Size::LinesOf(name) => read(environment, name)?.map(|text| lines(&text).count() as u32),
        };
        if size == Some(0) {
            return Err(wrong(format!("{} says that there are no ranks", self.name)));
        }
        Ok(size)
    }

    fn no_size(&self, rank: u32) -> Failure {
        let missing = match self.size {
            Size::Variables([]) => "and nothing of how many there are".to_owned(),
            Size::Variables(names) => format!("and {} is not set", names.join(" or ")),
            Size::LinesOf(name) => format!("and {name} names no file"),
        };
        wrong(format!(
            "{} says that this is rank {rank} ({}), {missing}{}",
            self.name, self.rank, self.remedy
        ))
    }

    /// The first of some variables that is set.
    fn number(&self, environment: &Environment<'_>, names: &[&str]) -> Result<Option<u32>, Failure> {
        let set = names.iter().find_map(|name| Some((name, (environment.variable)(name)?)));
        let Some((name, text)) = set else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(format!("{name} is '{text}', which is no number of ranks"))),
        }
    }

    fn job(&self, environment: &Environment<'_>) -> Option<String> {
        let parts: Option<Vec<String>> = self.job.iter().map(|name| (environment.variable)(name)).collect();
        parts.map(|parts| parts.join(".")).filter(|job| !job.is_empty())
    }

    /// Adds the hosts, and where rank 0 is.
    fn hosts(&self, environment: &Environment<'_>, ranks: &mut Ranks) -> Result<(), Failure> {
        for source in self.hosts {
            if let Hosts::First(name) = source {
                ranks.first_host = (environment.variable)(name);
                continue;
            }
            let Some(hosts) = source.hosts(environment)? else { continue };
            let mut seen = HashSet::new();
            ranks.hosts = hosts.into_iter().filter(|host| seen.insert(host.clone())).collect();
            // A list that is sorted by name does not tell in which order a file of the user's was filled.
            let by_file = (environment.variable)("SLURM_DISTRIBUTION").is_some_and(|how| how == "arbitrary");
            if !(by_file && matches!(source, Hosts::List(_))) {
                ranks.first_host = ranks.hosts.first().cloned();
            }
            break;
        }
        Ok(())
    }
}

impl Hosts {
    fn hosts(&self, environment: &Environment<'_>) -> Result<Option<Vec<String>>, Failure> {
        let (Self::List(name) | Self::LinesOf(name) | Self::Counts(name) | Self::First(name)) = *self;
        let hosts =
            match self {
                Self::LinesOf(_) => {
                    read(environment, name)?.map(|text| lines(&text).map(str::to_owned).collect::<Vec<_>>())
                }
                Self::List(_) => match (environment.variable)(name) {
                    Some(list) => Some(hostlist::expand(&list).map_err(|why| {
                        wrong(format!("{name} is '{list}', which is no list of hosts: {why}"))
                    })?),
                    None => None,
                },
                // Each host, and how many ranks it has.
                Self::Counts(_) => (environment.variable)(name)
                    .map(|text| text.split_whitespace().step_by(2).map(str::to_owned).collect()),
                Self::First(_) => (environment.variable)(name).map(|host| vec![host]),
            };
        match hosts {
            Some(hosts) if hosts.is_empty() => Err(wrong(format!("{name} names no host"))),
            hosts => Ok(hosts),
        }
    }
}

/// What is in the file that a variable names.
fn read(environment: &Environment<'_>, name: &str) -> Result<Option<String>, Failure> {
    let Some(path) = (environment.variable)(name) else { return Ok(None) };
    match (environment.file)(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(wrong(format!("{name} names {path}, which cannot be read: {error}"))),
    }
}

/// Those that say anything.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn wrong(what: String) -> Failure {
    Failure::Usage(format!("{what}; or {BY_HAND}"))
}

/// No launcher has said anything. Where there is a job, and this process merely in it, that is what is wrong.
fn nobody(environment: &Environment<'_>) -> Failure {
    for (variable, job, start) in launchers::JOBS {
        if let Some(id) = (environment.variable)(variable) {
            return Failure::Usage(format!(
                "this process is in {job} {id}, but nobody has made a rank of it: start it by {start}; or {BY_HAND}"
            ));
        }
    }
    let variables: Vec<&str> = LAUNCHERS.iter().map(|launcher| launcher.rank).collect();
    Failure::Usage(format!(
        "nobody says which rank this is (none of {} is set): start it by srun or mpirun, or {BY_HAND}",
        variables.join(", ")
    ))
}
