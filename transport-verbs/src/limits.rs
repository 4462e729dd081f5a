//! Every limit of this transport, by name. Holds numbers only, no code.

pub(crate) use rdma_links::limits::{GATHER_MAX, INLINE_MAX, REGISTER_ALONE_MIN, UNSIGNALED_MAX};

/// Completions fetched from a device at once.
pub(crate) const POLL_BATCH: usize = 32;

/// Work requests collected before the device is rung.
pub(crate) const CHAIN_MAX: usize = 16;

/// Receives posted by one call.
pub(crate) const RECEIVES_AT_ONCE: usize = 32;

/// Entries of one completion queue, if the device has as many. Queue pairs reserve what they can have outstanding, and
/// when one queue is spoken for, another is made: so none ever overflows.
pub(crate) const COMPLETIONS_MAX: u32 = 16 << 10;

/// Events of the connection manager, or of one device, that are read in one look.
pub(crate) const EVENTS_PER_LOOK: usize = 64;

/// Descriptors that one look at epoll reports.
pub(crate) const LOOK_MAX: usize = 16;

/// Refusals to register memory after which the system is asked again.
pub(crate) const REFUSALS_PER_ASK: u32 = 64;

/// Bytes of memory that a device must let an unprivileged process lock: receive buffers of a few links and an arena.
pub(crate) const LOCKED_MEMORY_MIN: usize = 4 << 20;

/// How long an answer that no receive buffer is ready lets the peer wait before it tries again: 0.64 ms, by the
/// code of the InfiniBand specification (volume 1, table 45). Credits see to it that none is ever sent.
pub(crate) const RECEIVER_NOT_READY_TIMER: u8 = 12;

/// Local acknowledgement timeout where packets can be lost on their way (RoCE, iWARP): 4.096 us times two to this power, 0.27 s,
/// after which what was not acknowledged is sent again. The connection manager's own is 4.3 s, which a lost last packet
/// would cost; on InfiniBand, where the subnet manager knows better, it stays. Eight of them pass before a link breaks.
pub(crate) const ACK_TIMEOUT: u8 = 16;
