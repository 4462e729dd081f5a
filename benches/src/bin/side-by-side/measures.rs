//! What a measure is: its round, its columns, what judges it and which lines of the summary come from it; it lists none
//! and runs nothing.

use crate::Arguments;
use crate::control::Role;
use crate::peer::{FABRIQ, OMQ_EXCLUSIVE, RAW_POLLED};
use std::time::Duration;

/// Sockets that subscribe in the measure `pub-sub`.
pub(crate) const SUBSCRIBERS: usize = 32;
/// Processes at the many end in the measures `fan-in` and `fan-out`.
pub(crate) const FAN: usize = 4;
/// Sockets that are waited for at once in the measure `poll`.
pub(crate) const POLLED: usize = 2000;
/// How long idle links are watched.
pub(crate) const IDLE: Duration = Duration::from_secs(2);

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) digits: usize,
}

pub(crate) const fn column(key: &'static str, title: &'static str, digits: usize) -> Column {
    Column { key, title, digits }
}

pub(crate) const TRIP: &[Column] = &[
    column("p50_us", "p50 us", 2),
    column("p99_us", "p99 us", 1),
    column("cpu_us", "CPU us/trip", 1),
    column("switches", "switches/trip", 3),
    column("background_per_ms", "background switches/ms", 3),
];
pub(crate) const RATE: &[Column] =
    &[column("m_per_s", "M msg/s", 3), column("gb_per_s", "GB/s", 3), column("cpu_ns", "CPU ns/msg", 0)];
pub(crate) const LARGE: &[Column] = &[column("gb_per_s", "GB/s", 3), column("cpu_us", "CPU us/msg", 0)];

/// A line of the summary: one figure of one peer beside the same of others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// What is measured, if the title of the measure does not say it.
    pub(crate) title: Option<&'static str>,
    pub(crate) peer: &'static str,
    pub(crate) key: &'static str,
    pub(crate) beside: &'static [&'static str],
}

pub(crate) const fn line(key: &'static str, beside: &'static [&'static str]) -> Line {
    Line { title: None, peer: FABRIQ, key, beside }
}

/// One measure. Its first column leads: it has the ratios.
#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) columns: &'static [Column],
    pub(crate) lines: &'static [Line],
    /// Whose figure judges a round, and which.
    pub(crate) limit: Option<(&'static str, &'static str)>,
    /// What all peers bind, in place of their own scheme.
    pub(crate) scheme: Option<&'static str>,
    /// What stands behind `?` in URLs of ofi.
    pub(crate) query: &'static str,
    /// Peers that are not measured here, for a reason of this measure's own.
    pub(crate) without: &'static [&'static str],
    /// What a peer must be able to do at the bound end.
    pub(crate) role: Role,
    pub(crate) rounds: usize,
    pub(crate) round: Round,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Round {
    Trips { gap_max_us: u64, busy: usize },
    Stream { bytes: usize },
    Inproc { bytes: usize },
    FanIn,
    FanOut,
    Poll,
    PubSub,
    Idle { links: usize },
    Crowd { links: usize },
}

impl Measure {
    /// Roughly how many seconds one peer takes in one round: what the shares of the time budget go by.
    pub(crate) fn seconds(&self, arguments: &Arguments) -> f64 {
        let run = 0.3 + arguments.round_ms as f64 / 1e3;
        match self.round {
            Round::Trips { .. } | Round::Stream { .. } | Round::Inproc { .. } | Round::PubSub => run,
            Round::FanIn | Round::FanOut => run,
            // Once with one socket.
            Round::Poll => 2.0 * run + 1.0,
            Round::Idle { .. } => 1.0 + IDLE.as_secs_f64(),
            Round::Crowd { links } => 2.0 * run + 2.0 + links as f64 / 2500.0,
        }
    }

    /// Polling beside pauses, busy processes or a stream measures how a scheduler treats a glutton: it sets no limit. And
    /// omq's exclusive sockets are for tcp only.
    pub(crate) fn leaves_out(&self, peer: &str) -> bool {
        (peer == RAW_POLLED && self.limit.is_none_or(|(limit, _)| limit != RAW_POLLED))
            || (peer == OMQ_EXCLUSIVE && self.scheme.is_some())
            || self.without.contains(&peer)
    }
}
