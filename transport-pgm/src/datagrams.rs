//! The boundary between PGM and what carries its packets: UDP, raw IP, queue pairs of unreliable datagrams. Types and a
//! trait; nothing here sends.
//!
//! A network layer address is an IP address: of IPv4, of IPv6, or a GID, which has an IPv6 address's form. Everything
//! else that a network needs to find a host (a UDP port, a queue pair number, an address handle) is the carrier's
//! business.

#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To the group, as far as it reaches.
    Group,
    /// To the group, but no further than this network (TTL 1; RFC 3208 section 13.5).
    Neighbours,
    /// To one host.
    Host(IpAddr),
}

/// A packet that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The network's source address.
    pub from: IpAddr,
    /// The PGM packet: what is behind the IP header, or the UDP header.
    pub bytes: &'a [u8],
}

/// A carrier of PGM packets for one group. It may lose, repeat, reorder and damage them, as networks do, and never
/// blocks.
///
/// Filtering by group is the carrier's: what was sent to another group that this host happens to have joined must not
/// come out of it.
pub trait Datagrams {
    /// Hands packets over, in order, and returns how many were taken; fewer than all when it would block, and then the
    /// rest is offered again when it is writable. What is taken must have been read when this returns.
    fn send<'a>(&mut self, packets: impl Iterator<Item = (To, &'a [u8])>) -> io::Result<usize>;

    /// Takes at most about `budget` packets that have arrived and shows each to `each`. Returns how many; 0 when there
    /// are none. The bytes are the carrier's and good during the call only.
    fn receive(&mut self, budget: usize, each: impl FnMut(Datagram<'_>)) -> io::Result<usize>;
}
