//! What a peer must offer to be measured, and the list of peers; it holds no measurement.
//!
//! Another peer is a file with these two traits, a [`Name`] and its two lines below.

use crate::load::Load;
use crate::{Result, fabriq_peer, libzmq_peer, norm_peer, openpgm_peer, raw_peer};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// One who sends to a group. What it has to do between sends (repairs) it does on threads of its own, until the process
/// ends: it is never closed.
pub(crate) trait Publisher {
    /// Sends a message; waits while the cap or a full queue does not let it.
    fn send(&mut self, body: &[u8]) -> Result<()>;
    /// Nothing more comes for a moment: what waits for company goes.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// One who has joined a group.
pub(crate) trait Subscriber {
    /// Hands what has come to `take`, message by message; waits up to `limit` for the first. May return before that, or with
    /// nothing.
    fn receive(&mut self, limit: Duration, take: &mut dyn FnMut(&[u8])) -> Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    /// UDP multicast and nothing more: what is lost stays lost. The raw limit.
    Raw,
    /// The system's libzmq.so.5: PUB and SUB on epgm://.
    Libzmq,
    /// OpenPGM's own API with short timers.
    Openpgm,
    /// NORM (RFC 5740), NRL's library.
    Norm,
    /// fabriq: PUB and SUB on the given URL.
    Fabriq,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Libzmq => "libzmq",
            Self::Openpgm => "openpgm",
            Self::Norm => "norm",
            Self::Fabriq => "fabriq",
        })
    }
}

impl Name {
    pub(crate) const ALL: [Self; 5] = [Self::Raw, Self::Libzmq, Self::Openpgm, Self::Norm, Self::Fabriq];

    pub(crate) fn publisher(self, load: &Load) -> Result<Box<dyn Publisher>> {
        Ok(match self {
            Self::Raw => Box::new(raw_peer::Sender::open(load)?),
            Self::Libzmq => Box::new(libzmq_peer::Socket::publisher(load)?),
            Self::Openpgm => Box::new(openpgm_peer::Socket::publisher(load)?),
            Self::Norm => Box::new(norm_peer::Sender::open(load)?),
            Self::Fabriq => Box::new(fabriq_peer::Socket::publisher(load)?),
        })
    }

    pub(crate) fn subscriber(self, load: &Load) -> Result<Box<dyn Subscriber>> {
        Ok(match self {
            Self::Raw => Box::new(raw_peer::Receiver::open(load)?),
            Self::Libzmq => Box::new(libzmq_peer::Socket::subscriber(load)?),
            Self::Openpgm => Box::new(openpgm_peer::Socket::subscriber(load)?),
            Self::Norm => Box::new(norm_peer::Receiver::open(load)?),
            Self::Fabriq => Box::new(fabriq_peer::Socket::subscriber(load)?),
        })
    }

    /// The longest message that it takes.
    pub(crate) fn bytes_max(self) -> u64 {
        match self {
            Self::Raw => raw_peer::BYTES_MAX,
            Self::Openpgm => openpgm_peer::BYTES_MAX,
            Self::Libzmq | Self::Norm | Self::Fabriq => u64::MAX,
        }
    }

    /// Whether it says that nothing is lost.
    pub(crate) fn is_reliable(self) -> bool {
        self != Self::Raw
    }
}
