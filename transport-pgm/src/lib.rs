//! `pgm://` and `epgm://`: reliable multicast on OpenPGM's wire (RFC 3208): state machines that do no I/O, and a driver on them.
//!
//! ```text
//! address     URLs: the address; settings: the options; interface: what of this host they mean
//! driver      links, opens, timers: the seam's contract, on any network
//! net         networks: the system's sockets, UDP and raw IP
//!
//! packet      PGM packets: bytes to meaning and back
//! framing     libzmq's stream of messages in packets
//! source      one sender: transmit window, repairs, source path messages, rate
//! receiver    one group: a receive window per source, NAKs, gaps
//! inbox       what a source's link has to say, as it is granted
//! datagrams   the boundary to what carries packets: UDP, raw IP, queue pairs of unreliable datagrams
//! ```
//!
//! The machines (below the empty line) own no socket, no clock and no randomness. A driver gives them packets and the time, and asks what is
//! to be sent: [`Source`] for each endpoint that sends, [`Sources`] for each that receives, one [`Inbox`] per source,
//! one [`transport_core::Landing`] for all. docs/design/pgm.md says why they behave as they do; section numbers in these pages are those
//! of RFC 3208.
//!
//! # Sending
//!
//! 1. [`Tsi::from_seed`](packet::Tsi::from_seed) with 64 truly random bits makes the session. The window lies in memory
//!    that the driver brings, of [`SourceConfig::memory_len`] bytes: `FrameMut::own` costs nothing until it is
//!    written to.
//! 2. Parts that are posted wait with the driver, behind a [`Payload`] that fills TSDUs by a [`framing::Encoder`]. The
//!    source takes as much as rate and window allow: this is where a publisher is held back.
//!    [`framing::Encoder::finished`] is what `Sent` says.
//! 3. [`Source::prepare`] makes packets ready, [`Source::datagrams`] shows them, the carrier takes some,
//!    [`Source::sent`] says how many. Until then their bytes stay where they are: full packets lie one behind the other
//!    in the window, as segmentation offload likes them. A carrier whose device reads later calls `sent` when it has,
//!    and skips what it holds already.
//! 4. Packets from receivers that name the session go to [`Source::handle`].
//! 5. [`Source::deadline`] says when to call `prepare` again. While the carrier blocks it is in the past, and being
//!    writable is what to wait for.
//! 6. To drain, let the payload run out, call [`Source::finish`], and go on until [`Source::is_finished`].
//!
//! # Receiving
//!
//! 1. Every packet that the carrier brings is parsed and goes to [`Sources::handle`]. [`Events`] says `up` for a new
//!    source, then its TSDUs and losses in order; each goes to the [`Inbox`] of that source's link, and its completions
//!    come out of [`Inbox::poll`]. Nothing that a driver has to say of a link comes from elsewhere but Up and Down.
//! 2. [`Sources::prepare`], [`Sources::datagrams`] and [`Sources::sent`] as above, with [`Sources::deadline`].
//! 3. A link that is closed here is [`Sources::close`]d. A source that ends says `down`: the link follows when its
//!    inbox is empty.
//!
//! ```
//! use std::net::IpAddr;
//! use std::time::Instant;
//!
//! use fabriq_transport_pgm::framing::Encoder;
//! use fabriq_transport_pgm::packet::{Packet, Tsi};
//! use fabriq_transport_pgm::{
//!     End, Events, Inbox, Payload, ReceiverCounters, Source, SourceConfig, SourceId, Sources, SourcesConfig,
//! };
//! use transport_core::{Completion, FrameMut, FramePool, Grant, Landing, LinkId, Part, SlabKey};
//!
//! /// The parts of one link that sends.
//! struct Outbox(Encoder, Vec<Part>);
//! impl Payload for Outbox {
//!     fn is_waiting(&self) -> bool {
//!         !self.1.is_empty() || self.0.is_inside_a_part()
//!     }
//!     fn fill(&mut self, tsdu: &mut [u8]) -> usize {
//!         self.0.fill(tsdu, || self.1.pop())
//!     }
//! }
//!
//! /// The link of the only source; a driver has one for each.
//! struct Link(Inbox, Landing);
//! impl Events for Link {
//!     fn up(&mut self, _source: SourceId, _tsi: Tsi, _from: IpAddr) {} // Completion::Up
//!     fn data(&mut self, _source: SourceId, tsdu: &[u8]) {
//!         self.0.data(tsdu, &mut self.1);
//!     }
//!     fn lost(&mut self, _source: SourceId, packets: u64) {
//!         self.0.lost(packets, &mut self.1);
//!     }
//!     fn down(&mut self, _source: SourceId, _end: End, _: &ReceiverCounters) {} // Completion::Down, when the inbox is empty
//! }
//!
//! let (now, group, host) = (Instant::now(), IpAddr::from([239, 192, 0, 1]), IpAddr::from([10, 0, 0, 1]));
//! let config = SourceConfig::new(Tsi::from_seed(0x5eed), 7500, group, host);
//! let window = FrameMut::own(config.memory_len()).expect("address space");
//! let mut source = Source::new(now, config, window);
//! let mut sources = Sources::new(now, SourcesConfig::new(group, 7500), 0x5eed);
//! let mut outbox = Outbox(Encoder::new(), vec![Part::last("hello")]);
//! let mut link = Link(Inbox::new(None), Landing::new(FramePool::new(1 << 20)));
//! link.0.grant(Grant::Unlimited);
//!
//! assert_eq!(source.prepare(now, 64, &mut outbox), 2, "an SPM, then the data");
//! for (_to, bytes) in source.datagrams() {
//!     // What a carrier does in between.
//!     let packet = Packet::parse(bytes)?;
//!     sources.handle(now, host, &packet, &mut link);
//! }
//! source.sent(2);
//! let mut out = Vec::new();
//! link.0.poll(LinkId::from(SlabKey::from_u64(1 << 32)), &mut out, 64);
//! assert!(matches!(&out[..], [Completion::Received { part, .. }] if part.body == "hello"));
//! # Ok::<_, fabriq_transport_pgm::packet::Malformed>(())
//! ```
//!
//! # Trust
//!
//! PGM knows no authentication: whoever can send to the group can speak in another's name. What a forged, replayed or
//! senseless packet can do is bounded, counted, and no panic: at worst packets are lost and reported, or a window moves
//! away and comes back. Memory is bounded by [`limits`]: sources, windows, what waits, claims of length.

#![deny(unsafe_code)]

mod address;
mod blocks;
mod clock;
mod datagrams;
mod driver;
pub mod framing;
#[doc(hidden)]
pub mod fuzz;
mod inbox;
mod interface;
pub mod limits;
mod net;
mod outgoing;
pub mod packet;
mod random;
mod receiver;
mod serial;
mod settings;
mod source;
#[cfg(test)]
mod testing;
mod transport;

pub use datagrams::{Datagram, Datagrams, To};
pub use inbox::{Inbox, InboxCounters, Stop};
pub use receiver::{
    End, Events, ReceiverConfig, ReceiverCounters, SourceId, Sources, SourcesConfig, SourcesCounters,
};
pub use serial::Sqn;
pub use source::{Payload, Source, SourceConfig, SourceCounters};
pub use transport::PgmTransport;
