//! What ranks and coordinator say to each other: messages of two parts, a mark with the version and JSON. Carries nothing.
//!
//! ```text
//! rank                        coordinator
//!   Hello                ->                     who I am, what I was told, which transports this host has
//!                        <-   Welcome           or Refused: that rank takes part in nothing
//!                        <-   Prepare           a step begins: bind
//!   Bound                ->
//!                        <-   Connect           where the others have bound
//!   Connected            ->
//!                        <-   Start             send; it does not count yet
//!   Steady               ->
//!                        <-   Measure           now it counts
//!   Measured             ->                     and traffic goes on, since others still measure
//!                        <-   Stop              send no more
//!   Found                ->                     what was measured, once all that was sent has been verified
//!                        <-   Finish            nobody needs this rank's echo any more
//!   ... next step ...
//!                        <-   Bye
//! ```
//!
//! Each line is a barrier: the coordinator says the next when all ranks of the step have answered, so that all flows of a
//! step are under way together for all of the time that counts. `Failed` may come in the place of any answer, `Abort` in
//! the place of any order, to which the answer is `Aborted`. `Nothing` asks nothing: that it can be sent is what counts.

use std::collections::BTreeMap;
use std::time::Duration;

use fabriq::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::environment::Environment;
use crate::failure::Failure;

/// First part of every message. The number changes with what stands in the second.
pub(super) const MARK: &str = "fabriq cluster 2";

/// What a rank says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Say {
    Hello(Box<Hello>),
    Bound {
        step: u32,
        endpoints: Vec<Vec<String>>,
    },
    Connected {
        step: u32,
    },
    Steady {
        step: u32,
    },
    /// What a window of what counts came to: messages in a second, or the median one way in microseconds.
    Now {
        step: u32,
        figure: f64,
    },
    Measured {
        step: u32,
    },
    Found {
        step: u32,
        found: Box<Found>,
    },
    Failed {
        step: u32,
        why: String,
        corrupt: bool,
    },
    Aborted {
        step: u32,
    },
    /// A signal ends it, or it understands nothing.
    Leaving {
        why: String,
    },
}

/// What the coordinator says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Order {
    Welcome,
    Refused {
        why: String,
    },
    Prepare(Box<Task>),
    /// By traffic and rank, an endpoint for each thread; of a survey two, the second for answers.
    Connect {
        step: u32,
        endpoints: Vec<BTreeMap<u32, Vec<String>>>,
    },
    Start {
        step: u32,
    },
    Measure {
        step: u32,
    },
    Stop {
        step: u32,
    },
    Finish {
        step: u32,
    },
    Abort {
        step: u32,
    },
    Nothing,
    Bye,
}

/// What all ranks of one run have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Party {
    pub(super) version: String,
    /// Of the sources that say how ranks speak: builds of one version may differ.
    pub(super) sources: u64,
    pub(super) ranks: u32,
    /// The launcher's; by hand there is none.
    pub(super) job: Option<String>,
}

/// FNV-1a of the sources of what ranks tell the coordinator and each other.
const SOURCES: u64 = {
    let sources: [&[u8]; 11] = [
        include_bytes!("protocol.rs"),
        include_bytes!("environment.rs"),
        include_bytes!("environment/rdma.rs"),
        include_bytes!("options.rs"),
        include_bytes!("step/mod.rs"),
        include_bytes!("step/course.rs"),
        include_bytes!("step/echo.rs"),
        include_bytes!("step/open.rs"),
        include_bytes!("step/raw.rs"),
        include_bytes!("step/stream.rs"),
        include_bytes!("step/survey.rs"),
    ];
    let (mut hash, mut file) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while file < sources.len() {
        let mut at = 0;
        while at < sources[file].len() {
            hash = (hash ^ sources[file][at] as u64).wrapping_mul(0x100_0000_01b3);
            at += 1;
        }
        file += 1;
    }
    hash
};

impl Party {
    /// Of this program.
    pub(super) fn new(ranks: u32, job: Option<String>) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let version = format!("{} ({build} build)", env!("CARGO_PKG_VERSION"));
        Self { version, sources: SOURCES, ranks, job }
    }

    /// Why a rank of `other` is none of this run's, if it is not.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        const COPY: &str = "copy one program to all hosts";
        const APART: &str = "give each run a --coordinator port of its own";
        match () {
            () if self.version != other.version => Some(format!(
                "its version is {}, and that of rank 0 is {}: {COPY}",
                other.version, self.version
            )),
            () if self.sources != other.sources => {
                Some(format!("it is another build of {} than rank 0: {COPY}", self.version))
            }
            () if self.job.is_some() && other.job.is_some() && self.job != other.job => {
                let name = |party: &Self| party.job.clone().unwrap_or_default();
                Some(format!("it is of job {}, and rank 0 is of job {}: {APART}", name(other), name(self)))
            }
            () if self.ranks != other.ranks => Some(format!(
                "its run has {} ranks, and that of rank 0 has {}: give every rank the same --ranks, or {APART}",
                other.ranks, self.ranks
            )),
            () => None,
        }
    }
}

/// A rank introduces itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) party: Party,
    pub(super) host: String,
    /// Of this rank among those of its host.
    pub(super) pid: u32,
    pub(super) options: Value,
    /// Of each scheme that it cannot use, why.
    pub(super) lacks: BTreeMap<String, String>,
    pub(super) environment: Environment,
}

/// One way of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Flow {
    pub(super) from: u32,
    pub(super) to: u32,
}

/// How messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// There and back, REQ (open loop: DEALER) to REP.
    Echo,
    /// The same, each client with one socket to all its servers.
    Pool,
    /// One way, PUSH to PULL.
    Stream,
    /// One way to all, PUB to SUB.
    Publish,
    /// To all, PUB to SUB, and back from each, PUSH to PULL.
    Survey,
    /// The wire itself: there and back.
    RawEcho,
    /// The wire itself: one way.
    RawStream,
}

impl Kind {
    pub(super) fn is_raw(self) -> bool {
        matches!(self, Self::RawEcho | Self::RawStream)
    }

    pub(super) fn is_latency(self) -> bool {
        matches!(self, Self::Echo | Self::Pool | Self::Survey | Self::RawEcho)
    }
}

/// One kind of messages between some ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Traffic {
    pub(super) kind: Kind,
    /// Those of the rank that is told.
    pub(super) flows: Vec<Flow>,
    /// Where to listen.
    pub(super) url: String,
    /// Bytes of a message.
    pub(super) size: usize,
    pub(super) parts: u32,
    pub(super) links: u32,
    pub(super) threads: u32,
    pub(super) hwm: Option<u32>,
    /// Open loop: messages per second of each client.
    pub(super) rate: Option<f64>,
    /// Load beside what is measured.
    pub(super) background: bool,
}

/// What a rank does in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) step: u32,
    pub(super) traffics: Vec<Traffic>,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) precision: Option<f64>,
    pub(super) patience: Duration,
}

/// What a rank has found in a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) flows: Vec<FlowFound>,
    /// What this rank measured of all its flows together in parts of the time, but for the background.
    pub(super) windows: Windows,
    pub(super) usage: Usage,
    /// By how much counters of this host's devices have grown; those that have not are left out.
    pub(super) counters: BTreeMap<String, u64>,
    /// Messages that this rank has verified, warm-up and all.
    pub(super) verified: u64,
    /// Whether figures were steady when they began to count.
    pub(super) steady: bool,
    /// What raw loops do.
    pub(super) what: Option<String>,
    /// What perftest found directly after them, or why it found nothing.
    pub(super) tool: Option<Result<ToolFigures, String>>,
}

/// What one of perftest's tools found between the same ranks. It has 0 where it does not measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct ToolFigures {
    /// Its name.
    pub(in crate::bench) name: String,
    pub(in crate::bench) p50_us: f64,
    pub(in crate::bench) p99_us: f64,
    pub(in crate::bench) messages_per_second: f64,
    /// fabriq's figure by this one, as of the wire itself.
    pub(in crate::bench) ratio: Option<f64>,
}

/// Figures of parts of the time that counted, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Windows {
    /// Median latencies in microseconds, or messages per second.
    pub(in crate::bench) typical: Vec<f64>,
    /// The 99th percentiles in microseconds; of a stream nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::bench) tails: Vec<f64>,
}

impl Windows {
    /// The lowest median, or the highest rate; of windows in which nothing came, nothing.
    pub(super) fn best(&self) -> Option<f64> {
        let some = self.typical.iter().copied().filter(|figure| *figure > 0.0);
        if self.tails.is_empty() { some.reduce(f64::max) } else { some.reduce(f64::min) }
    }

    /// Takes in what another thread measured at the same time.
    pub(super) fn join(&mut self, other: &Self) {
        if self.typical.is_empty() {
            *self = other.clone();
        } else if self.tails.is_empty() {
            // Rates add up.
            self.typical.iter_mut().zip(&other.typical).for_each(|(sum, rate)| *sum += rate);
        } else {
            self.typical.extend(&other.typical);
            self.tails.extend(&other.tails);
        }
    }
}

/// What a rank has found of one flow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FlowFound {
    pub(super) from: u32,
    /// `None`: to several that share the work.
    pub(super) to: Option<u32>,
    pub(super) background: bool,
    pub(super) messages: u64,
    pub(super) seconds: f64,
    /// One-way latencies in nanoseconds, each with how often it was seen, in any order. Empty of a stream.
    pub(super) latencies: Vec<(u64, u64)>,
    /// Messages that did not arrive, where a wire may lose some.
    pub(super) lost: Option<u64>,
    /// How such a wire recovered what was lost: packets, repaired, requested, lost.
    pub(super) recovery: Option<[u64; 4]>,
}

/// What a rank's process took while it counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::bench) struct Usage {
    pub(in crate::bench) seconds: f64,
    pub(in crate::bench) cpu_seconds: f64,
    pub(in crate::bench) voluntary_switches: u64,
    pub(in crate::bench) involuntary_switches: u64,
    pub(in crate::bench) resident_bytes: u64,
    /// Memory that devices may reach: what the kernel has pinned for this process.
    pub(in crate::bench) pinned_bytes: u64,
    /// Bytes of messages that its transports copied.
    #[serde(default)]
    pub(in crate::bench) copied_bytes: u64,
}

/// A message of two parts.
pub(super) fn message(of: &impl Serialize) -> Result<Message, Failure> {
    let json = serde_json::to_vec(of)
        .map_err(|error| Failure::Failed(format!("cannot write a coordination message: {error}")))?;
    let mut message = Message::new(MARK);
    message.push_back(json);
    Ok(message)
}

/// What the last part says, if the one before is the mark.
pub(super) fn parse<T: DeserializeOwned>(message: &Message) -> Result<T, String> {
    let mark = message.len().checked_sub(2).and_then(|at| message.part(at));
    if mark.is_none_or(|mark| mark != MARK) {
        return Err("it does not speak as this version of `fabriq bench cluster` does; is it another program, or another \
                    version's?"
            .to_owned());
    }
    serde_json::from_slice(message.body()).map_err(|error| {
        format!("it says what cannot be read ({error}): it is another build; copy one program to all hosts")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let say = Say::Failed { step: 3, why: "no room".to_owned(), corrupt: false };
        assert_eq!(parse::<Say>(&message(&say).unwrap()), Ok(say));
        let order =
            Order::Connect { step: 1, endpoints: vec![BTreeMap::from([(7, vec!["tcp://h:1".to_owned()])])] };
        let mut routed = message(&order).unwrap();
        routed.push_front("rank-1");
        assert_eq!(parse::<Order>(&routed), Ok(order));
    }

    #[test]
    fn strangers_are_not_understood() {
        for wrong in [Message::new("x"), Message::from_parts(["fabriq cluster 0", "{}"]).unwrap()] {
            assert!(parse::<Say>(&wrong).unwrap_err().contains("this version"), "{wrong:?}");
        }
        let wrong = Message::from_parts([MARK, "{\"Dance\":1}"]).unwrap();
        assert!(parse::<Say>(&wrong).unwrap_err().contains("cannot be read"));
    }
}
