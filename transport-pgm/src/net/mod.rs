//! What the driver asks of whatever carries its packets, and the carrier that is made of the system's sockets. The driver knows
//! the traits alone, so queue pairs of unreliable datagrams can stand in their place.

#[allow(unsafe_code, reason = "the system calls that no crate wraps")]
mod batch;
mod filter;
mod mailbox;
mod socket;
mod sockets;

use std::fmt::Debug;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use transport_core::{Endpoint, OpenError, Tuning};

use crate::address::Address;
use crate::datagrams::Datagrams;
use crate::packet::Tsi;
use crate::settings::Settings;

pub(crate) use socket::Wire;
pub(crate) use sockets::SocketNetwork;

/// What an open asks for, read.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: Address,
    pub(crate) settings: Settings,
    pub(crate) tuning: Tuning,
}

/// A network that carriers are made on.
pub(crate) trait Network: Debug + Send {
    /// See there.
    type Carrier: Carrier;

    /// A carrier for a source: sends to the address's sending group, and takes what receivers say to this source.
    fn talk(&mut self, site: &Site, tsi: Tsi) -> Result<Self::Carrier, OpenError>;

    /// A carrier for a receiver of one group.
    fn listen(&mut self, site: &Site, group: IpAddr) -> Result<Self::Carrier, OpenError>;

    /// Appends the tokens of the watched carriers that have something to receive, or have room again.
    fn look(&mut self, tokens: &mut Vec<u64>);

    /// Readable when [`Network::look`] would find something.
    fn wake_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// What carries the packets of one source, or to one receiver of one group.
pub(crate) trait Carrier: Datagrams + Debug + Send {
    /// From now on the network's [`Network::look`] and its descriptor tell of this carrier, and call it `token`.
    fn watch(&mut self, token: u64) -> io::Result<()>;
    /// The host's own network layer address, to which receivers send NAKs.
    fn nla(&self) -> IpAddr;
    /// Bytes of the longest payload of a PGM data packet, as libzmq reckons.
    fn tsdu_max(&self) -> usize;
    /// Bytes that the network adds to each packet.
    fn overhead(&self) -> usize;
    /// Whether to be called when there is room again. Only after a send that took less than it was given.
    fn await_room(&mut self, wanted: bool);
    /// A descriptor for monitors, or -1.
    fn fd(&self) -> i32;
}
