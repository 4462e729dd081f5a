//! What is measured: each measure's load, the losses it is taken at, and the figure that it is about. It runs nothing.

use crate::load::Load;
use crate::peer::Name;
use crate::report::Figures;
use serde::Serialize;
use std::net::Ipv4Addr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// 1 KiB, 2000 messages per second.
    Latency,
    /// 1 KiB flat out, capped at 100 Mbit/s.
    Throughput,
    /// 1 KiB flat out, without a cap.
    Uncapped,
    /// 1 MiB flat out, without a cap.
    Large,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Latency, Self::Throughput, Self::Uncapped, Self::Large];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Latency => "1 KiB at 2000 messages/s",
            Self::Throughput => "1 KiB flat out, capped at 100 Mbit/s",
            Self::Uncapped => "1 KiB flat out, each peer at the highest rate that it holds",
            Self::Large => "1 MiB flat out, each peer at the highest rate that it holds",
        }
    }

    /// In percent.
    pub(crate) fn losses(self) -> &'static [f64] {
        match self {
            Self::Latency | Self::Throughput => &[0.0, 1.0, 5.0, 20.0],
            Self::Uncapped => &[0.0],
            Self::Large => &[0.0, 1.0, 5.0],
        }
    }

    /// The figure that ratios are of.
    pub(crate) fn lead(self) -> fn(&Figures) -> f64 {
        match self {
            Self::Latency => |figures| figures.p99_ms,
            _ => |figures| figures.mb_per_s,
        }
    }

    pub(crate) fn load(self, arguments: &crate::Rounds, peer: Name) -> Load {
        let (bytes, rate, cap_mbit, count) = match self {
            Self::Latency => (1024, 2000, 100, 12_000),
            Self::Throughput => (1024, 0, 100, 20_000),
            Self::Uncapped => (1024, 0, 0, 100_000),
            Self::Large => (1 << 20, 0, 0, 30),
        };
        Load {
            peer,
            interface: "eth0".to_owned(),
            group: Ipv4Addr::new(239, 192, 0, 1),
            port: 7500,
            count: (count * arguments.scale / 100).max(1),
            bytes,
            rate,
            cap_mbit,
            buffer: 4 << 20,
            silence_ms: arguments.silence_ms,
            url: arguments.url.clone(),
        }
    }
}
