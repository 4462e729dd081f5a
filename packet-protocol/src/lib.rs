//! The packet protocol of `verbs://` and `ofi://`, as a state machine that does no I/O. The wire and its rules stand in
//! docs/spec/packet-protocol.md; section names in these pages are sections there.
//!
//! ```text
//! connection   what both sides say when they connect, and what follows from it
//! wire         packets and records: bytes to meaning and back
//! credit       what may be sent so that a receive buffer is always posted for it
//! outbox       parts that wait; room, Writable, Returned
//! sender       parts -> packets, and which memory is still needed
//! receiver     packets -> parts, in order, as they are granted
//! transfers    parts that are fetched by READ
//! machine      one link: both halves, and how it ends
//! ```
//!
//! A driver makes one [`Stock`] for all of its links, one [`Reserve`] per receive queue, and one [`Machine`] per link. Devices
//! and fabrics are its business: queue pairs, registration, completions, signalling, doorbells, time. What follows is all that a
//! driver must do, in verbs; libfabric's words are in brackets where they differ.
//!
//! # A link comes up
//!
//! 1. Post receive buffers of [`Offer::packet_len`] bytes, and say so with [`Reserve::add`]. Always in this order: credit for
//!    what is added may go out at once.
//! 2. Take a [`Seat`] for the [`Offer`] with [`Reserve::seat`], and only then send [`Offer::encode`] as connection data. `None`
//!    means too few buffers: post more, or refuse with [`RefusalCode::NoResources`].
//! 3. Read the peer's with [`Offer::decode`]. An error is the reason not to connect; a listener sends [`Refusal::of`] it.
//! 4. Both offers make the [`Terms`], and those and the seat make the [`Machine`]. The queue pair's depth for READs, both ways,
//!    is [`Terms::reads`]; receiver-not-ready retries are 0.
//! 5. The machine takes packets from now on: the peer's first may come before the connection manager says that the connection
//!    is established. Say Up with [`Terms::hello`], then poll. On iWARP the dialling side calls [`Machine::greet`] first.
//!
//! ```
//! use fabriq_packet_protocol::{Machine, Offer, Policy, Refusal, Reserve, Terms};
//! use transport_core::{Frame, Hello};
//!
//! // The dialling side; the listener does the same, and answers with its offer.
//! let ours = Offer { reads: 8, ..Offer::new(Hello::NULL) };
//! let reserve = Reserve::new();
//! reserve.add(64); // ibv_post_recv of so many buffers went well
//! let seat = reserve.seat(&ours).expect("64 are enough for one");
//! let request = ours.encode(); // rdma_connect
//!
//! // The listener has a device that serves one READ at a time.
//! let theirs = Offer { reads: 1, ..Offer::new(Hello::NULL) };
//! assert_eq!(Offer::decode(&request), Ok(ours));
//! let answer = theirs.encode(); // rdma_accept
//! # let refusal = Refusal::of(Offer::decode(b"SSH-2.0-").unwrap_err());
//! # assert_eq!(Refusal::decode(&refusal.encode()), Some(refusal));
//!
//! let terms = Terms::agree(&ours, &Offer::decode(&answer)?);
//! assert_eq!((terms.reads, terms.packet_len), (1, 8192));
//! // Receive buffers, what keeps a frame registered, and the names of READs' targets are types of the driver's.
//! let machine: Machine<Vec<u8>, Frame, usize> = Machine::new(terms, Policy::default(), seat);
//! # assert!(machine.ending().is_none());
//! # Ok::<_, fabriq_packet_protocol::ConnectError>(())
//! ```
//!
//! # One message, from send to recv
//!
//! 1. **Post.** [`transport_core::Driver::post_send`] is [`Machine::post`]: the part waits in the link's queue. Nothing is
//!    copied, nothing leaves.
//! 2. **Fill.** `flush` (and every `poll`) calls [`Machine::fill`] with a registered send buffer, until `None` or until
//!    the send queue is full. Everything that waits goes into as few packets as credit allows, and credit and FINs ride along. For
//!    a part that should not be copied the machine asks the driver's [`Memory`]: `splice`, to send it from where it is, or
//!    `expose`, to let the peer READ it. The driver posts each [`Packet`], in order, and rings once.
//! 3. **The wire.** The packet arrives in a receive buffer of the peer's; credit has seen to it that there is one. The peer's driver
//!    hands it to [`Machine::received`], which checks all of it before anything of it counts.
//! 4. **READ.** If the part was exposed, [`Machine::poll_read`] asks for its bytes, as soon as the part is granted. With the
//!    first READ it lends the memory they go to, a slot of the pool; [`Machine::read_done`] takes it back with the last. The
//!    sender's [`Memory::Pin`] is dropped when it hears of that.
//! 5. **Recv.** [`Machine::poll`] says `Received`, in order, as far as the grant goes, and `Sent` to the sender when no device
//!    reads its memory any more. The receive buffer comes out of [`Machine::take_spent`], to be posted again, and with that the peer
//!    has credit for another packet.
//!
//! ```
//! use fabriq_packet_protocol::{Exposed, Machine, Memory, Offer, Policy, Reserve, Stock, Terms};
//! use transport_core::{Completion, Frame, FrameMut, FramePool, Grant, Hello, LinkId, Part, SlabKey};
//!
//! /// One side, with a receive queue and the memory that READs land in.
//! struct Side {
//!     machine: Machine<Vec<u8>, Frame, usize>,
//!     stock: Stock,
//!     receive_queue: Vec<Vec<u8>>,
//!     targets: Vec<Option<FrameMut>>,
//! }
//!
//! /// What a fill hands over. A real driver asks `frame.key(&domain)`, and gives back frames that have none.
//! #[derive(Default)]
//! struct Filling {
//!     spliced: Vec<(usize, Frame)>,
//! }
//! impl Memory for Filling {
//!     type Pin = Frame;
//!     fn splice(&mut self, at: usize, frame: Frame) -> Result<(), Frame> {
//!         self.spliced.push((at, frame));
//!         Ok(())
//!     }
//!     fn expose(&mut self, frame: Frame) -> Result<Exposed<Frame>, Frame> {
//!         Ok(Exposed { address: frame.as_ptr().addr() as u64, key: 7, pin: frame })
//!     }
//! }
//!
//! fn side() -> Side {
//!     let (offer, reserve) = (Offer::new(Hello::NULL), Reserve::new());
//!     reserve.add(8);
//!     let seat = reserve.seat(&offer).expect("8 are enough");
//!     Side {
//!         machine: Machine::new(Terms::agree(&offer, &offer), Policy::default(), seat),
//!         stock: Stock::new(FramePool::new(1 << 20)),
//!         receive_queue: vec![vec![0; 8192]; 8],
//!         targets: Vec::new(),
//!     }
//! }
//!
//! /// Posts what is due, here straight into the peer's buffers. `memory` is what the peer's device would find at an address.
//! fn pump(from: &mut Side, to: &mut Side, memory: &[u8], out: &mut Vec<Completion>) {
//!     let link = LinkId::from(SlabKey::from_u64(1 << 32));
//!     from.machine.poll(&mut from.stock, link, out, 64).expect("the link is up");
//!     while let Some(buffer) = from.machine.take_spent() {
//!         from.receive_queue.push(buffer); // ibv_post_recv
//!     }
//!     let targets = &mut from.targets;
//!     let mut lend = |frame| {
//!         targets.push(Some(frame));
//!         targets.len() - 1
//!     };
//!     let mut reads = Vec::new();
//!     while let Some(read) = from.machine.poll_read(&mut from.stock, &mut lend).expect("there is memory") {
//!         reads.push(read); // ibv_post_send of a READ, with read.id.to_u32() in its wr_id
//!     }
//!     for read in reads {
//!         // The device writes, then completes.
//!         let target = from.targets[read.target].as_mut().expect("lent until its READs are done");
//!         target[read.offset..][..read.len].copy_from_slice(&memory[read.offset..][..read.len]);
//!         let targets = &mut from.targets;
//!         from.machine.read_done(&mut from.stock, read.id, |target| targets[target].take());
//!     }
//!     let mut buffer = vec![0; 8192];
//!     let mut filling = Filling::default();
//!     while let Some(packet) = from.machine.fill(&mut from.stock, &mut buffer, &mut filling) {
//!         // The pieces of the gather list, in order.
//!         let (mut wire, mut at) = (Vec::new(), 0);
//!         for (behind, frame) in filling.spliced.drain(..) {
//!             wire.extend_from_slice(&buffer[at..behind]);
//!             wire.extend_from_slice(&frame);
//!             at = behind;
//!         }
//!         wire.extend_from_slice(&buffer[at..packet.buffered]);
//!         assert_eq!(wire.len(), packet.len);
//!         from.machine.packets_done(packet.number); // its completion was polled
//!         let mut posted = to.receive_queue.pop().expect("credit sees to it that there is one");
//!         posted[..wire.len()].copy_from_slice(&wire);
//!         to.machine.received(posted, wire.len()).expect("lawful");
//!     }
//! }
//!
//! let (mut a, mut b) = (side(), side());
//! b.machine.grant(Grant::Unlimited);
//! // A message of two parts: one goes in the packet, one by READ.
//! let large = vec![9; 100_000];
//! a.machine.post(&mut a.stock, Part::more("prices")).expect("there is room");
//! a.machine.post(&mut a.stock, Part::last(large.clone())).expect("there is room");
//! let (mut said_to_a, mut said_to_b) = (Vec::new(), Vec::new());
//! for _ in 0..3 {
//!     pump(&mut a, &mut b, &[], &mut said_to_a);
//!     pump(&mut b, &mut a, &large, &mut said_to_b);
//! }
//! let bodies: Vec<_> = said_to_b
//!     .iter()
//!     .map(|said| match said {
//!         Completion::Received { part, .. } => (&part.body[..], part.flags.more()),
//!         said => panic!("{said:?}"),
//!     })
//!     .collect();
//! assert_eq!(bodies, [(&b"prices"[..], true), (&large[..], false)]);
//! let sent = said_to_a.last();
//! assert!(matches!(sent, Some(Completion::Sent { through: 2, .. })), "the pin is dropped, and both parts are Sent");
//! ```
//!
//! # What the machine asks, and what the driver does
//!
//! | the machine says | the driver |
//! |---|---|
//! | [`Packet`], nothing spliced, `len` at most the device's inline length | posts it inline (`IBV_SEND_INLINE`; `fi_inject`); the send buffer is free again at once |
//! | [`Packet`], nothing spliced | posts one piece, the first `buffered` bytes; keeps the buffer until a completion covers `number` |
//! | [`Packet`] with `n` spliced | posts up to `2 * n + 1` pieces: the buffer up to the first `at`, its frame, the buffer from there to the next `at`, and so on; the last piece ends at `buffered` and may be empty. Keeps buffer and frames until a completion covers `number`; asks for one, since somebody waits for `Sent` |
//! | `more` of a [`Packet`] is false | it is the last for now: ring here, ask for the peer's attention here (`IBV_SEND_SOLICITED`), and for a completion if the driver is about to sleep |
//! | [`Read`] | posts a READ of `len` bytes from `address` under `key` to `offset` of the target, and asks for a completion. A target without a key of the device's own is registered by the piece, or the bytes go to a bounce buffer and are copied before [`Machine::read_done`] |
//! | a buffer from [`Machine::take_spent`] | posts it to the receive queue it came from, before the next [`Machine::fill`] |
//! | a reason from [`Machine::ending`] | takes the queue pair to the error state, disconnects, polls until it is empty, then [`Machine::bury`], [`Machine::take_spent`] once more, drops targets, splices and machine, says Down |
//! | [`Reserve::take_unmet`] is not 0 | may post more buffers |
//!
//! | what happens | the driver calls |
//! |---|---|
//! | a receive completes | [`Machine::received`] with its length. An error is for the log: `ending` has the reason |
//! | a send completes | lets go of buffers and frames up to its packet, then [`Machine::packets_done`]; only some sends need a completion of their own |
//! | a READ completes | [`Machine::read_done`] |
//! | a completion is flushed | nothing: it lets go of what was posted, and keeps the link's READ targets until it buries it |
//! | any other completion with an error, the connection manager says disconnected, the device fails | [`Machine::disconnected`], and goes on polling: what has arrived may still be delivered |
//! | `grant`, `close_link(Drain)`, `close_link(Abort)` | [`Machine::grant`], [`Machine::drain`], [`Machine::abort`] with `ClosedHere` |
//! | a drain's `until` has come | [`Machine::abort`] with `TimedOut` |
//!
//! After any of these, and after `post`, the link has something to say: the order of calls stands at [`Machine`]. When
//! `poll` stops for [`Stop::Budget`] it wants to be called again; otherwise a link that has been through all of them has
//! nothing to say until something happens, and its driver may sleep.
//!
//! # Sizes
//!
//! The send queue holds packets and READs. [`Terms::reads`] places are for READs; with any number more everything works, and with
//! as many as the peer's window (64 by default) and its control credit nothing ever waits for a place. When it is full, leave
//! `fill` alone: no harm is done but time lost. A completion for every quarter of the send queue is often enough. The completion queue holds both
//! queues. A receive buffer has 64 bytes more than a packet where memory allows: see [`Machine::received`].
//!
//! # Trust
//!
//! Keys for READ go to the peer in the open, and a driver that registers whole arenas exposes all of their slots to every
//! peer: section "Trust". What a peer can make this side keep is bounded: receive buffers up to its window, queues up to
//! [`limits`], memory for parts only as they are granted, and for commands up to [`limits::COMMAND_MAX`] each.

#![forbid(unsafe_code)]

mod connection;
mod credit;
mod error;
pub mod limits;
mod machine;
mod memory;
mod outbox;
mod receiver;
mod sender;
mod stock;
mod transfers;
mod wire;

pub use connection::{
    CONNECTION_DATA_LEN, ConnectError, Features, Offer, REFUSAL_LEN, Refusal, RefusalCode, Terms, VERSION,
    Version, Ways,
};
pub use credit::{Reserve, Seat};
pub use error::PacketError;
pub use machine::{Machine, Packet, Policy};
pub use memory::{Exposed, Memory};
pub use receiver::Stop;
pub use stock::Stock;
pub use transfers::{Read, ReadId};

#[doc(hidden)]
pub mod fuzz;
