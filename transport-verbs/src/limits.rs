//! Every limit of this transport, by name. Holds numbers only, no code.

/// Bytes of private data in a connection request. InfiniBand has 92, of which the connection manager takes 36 for IP
/// addresses. Replies and rejections have more, which is not used, so that both ways are alike.
pub const PRIVATE_DATA_MAX: usize = 56;

/// Completions fetched from a device at once.
pub(crate) const POLL_BATCH: usize = 32;

/// Work requests collected before the device is rung.
pub(crate) const CHAIN_MAX: usize = 16;

/// Pieces of one send at most, whatever the device could.
pub(crate) const GATHER_MAX: usize = 16;

/// Bytes of an inline send at most, whatever the device could: beyond, a copy into the request costs more than the
/// fetch of the buffer that it spares.
pub(crate) const INLINE_MAX: usize = 512;

/// Sends between two that are signalled, at most; never more than a quarter of the queue.
pub(crate) const UNSIGNALED_MAX: u32 = 64;

/// Receives posted by one call.
pub(crate) const RECEIVES_AT_ONCE: usize = 32;

/// Entries of one completion queue, if the device has as many. Queue pairs reserve what they can have outstanding, and
/// when one queue is spoken for, another is made: so none ever overflows.
pub(crate) const COMPLETIONS_MAX: u32 = 16 << 10;

/// Events of the connection manager, or of one device, that are read in one look.
pub(crate) const EVENTS_PER_LOOK: usize = 64;

/// Descriptors that one look at epoll reports.
pub(crate) const LOOK_MAX: usize = 16;

/// Shortest frame without a key of its own that is registered for one READ by a peer. Registration costs a system call
/// and the pinning of pages; a copy of less costs less.
pub(crate) const REGISTER_ALONE_MIN: usize = 256 << 10;

/// Refusals to register memory after which the system is asked again.
pub(crate) const REFUSALS_PER_ASK: u32 = 64;

/// Bytes of memory that a device must let an unprivileged process lock: receive buffers of a few links and an arena.
pub(crate) const LOCKED_MEMORY_MIN: usize = 4 << 20;

/// How long an answer that no receive buffer is ready lets the peer wait before it tries again: 0.64 ms, by the
/// code of the InfiniBand specification (volume 1, table 45). Credits see to it that none is ever sent.
pub(crate) const RECEIVER_NOT_READY_TIMER: u8 = 12;

/// Those of the simulated fabric.
#[cfg(any(test, feature = "simulated"))]
pub(crate) mod simulated {
    /// First port that a wildcard gets. Nobody listens below, unless asked to.
    pub(crate) const WILDCARD_PORT_MIN: u16 = 1024;

    /// Bytes of a message or READ.
    pub(crate) const MESSAGE_MAX: usize = 8 << 20;

    /// Work requests of one queue.
    pub(crate) const WORK_REQUESTS_MAX: usize = 4096;

    /// READs that one queue pair may have in flight, and serves at once.
    pub(crate) const DEPTH_MAX: u8 = 16;

    /// Latencies after which somebody who does not answer counts as gone.
    pub(crate) const PATIENCE: u32 = 16;

    /// Retries for a receiver that is not ready which mean for ever (InfiniBand specification, volume 1, section
    /// 9.7.5.2.8).
    pub(crate) const FOR_EVER: u8 = 7;
}
