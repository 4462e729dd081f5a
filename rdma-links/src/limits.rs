//! Every limit of links on RDMA fabrics, by name. Holds numbers only, no code. Those that a fabric keeps to as well are public.

/// Bytes of private data in a connection request. InfiniBand has 92, of which the connection manager takes 36 for IP
/// addresses. Replies and rejections have more, which is not used, so that both ways are alike.
pub const PRIVATE_DATA_MAX: usize = 56;

/// Pieces of one send at most, whatever the device could.
pub const GATHER_MAX: usize = 16;

/// Bytes of an inline send at most, whatever the device could: beyond, a copy into the request costs more than the
/// fetch of the buffer that it spares.
pub const INLINE_MAX: usize = 512;

/// Sends between two that are signalled, at most; never more than a quarter of the queue.
pub const UNSIGNALED_MAX: u32 = 64;

/// Shortest frame without a key of its own that is registered for one READ by a peer. Registration costs a system call
/// and the pinning of pages; a copy of less costs less.
pub const REGISTER_ALONE_MIN: usize = 256 << 10;

/// Bytes of a packet unless the URL says otherwise: with what [`BEHIND`] adds, a slot of the pool, and about where parts
/// begin to go by READ.
pub(crate) const PACKET_LEN: u32 = (16 << 10) - BEHIND as u32;

/// Bytes of a receive buffer behind the longest packet, so that small parts are copied with a constant size.
pub(crate) const BEHIND: usize = 64;

/// Bytes of packet buffers that one driver may have, posted or spare.
pub(crate) const PACKET_POOL: usize = 256 << 20;

/// Send buffers that a device keeps for the next packet, at most, and at least once a link begins.
pub(crate) const SEND_SPARE_MAX: usize = 256;
pub(crate) const SEND_SPARE_MIN: usize = 8;

/// Work requests of a send queue: the default, and what a URL may ask for.
pub(crate) const SENDS: u32 = 128;
pub(crate) const SENDS_MIN: u32 = 32;
pub(crate) const SENDS_MAX: u32 = 4096;

/// Receive buffers of one link at most: the default, and what a URL may ask for.
pub(crate) const RECEIVES: u32 = 72;
pub(crate) const RECEIVES_MIN: u32 = 8;
pub(crate) const RECEIVES_MAX: u32 = 4096;

/// Receive buffers that a link begins with. More are posted as its peer has use for them.
pub(crate) const RECEIVES_FIRST: u32 = 8;

/// Links of one device with a receive queue each. Those that come later share one: memory then grows with what is
/// received and not with who might send.
pub(crate) const OWN_QUEUES_MAX: usize = 16;

/// Receive buffers of a shared queue to begin with, and at most: five for each link that may send at any time.
pub(crate) const SHARED_RECEIVES: (u32, u32) = (256, 16 << 10);

/// Bytes of a packet on links that share a receive queue, at most: a quarter of the others', since each link has a few
/// buffers there that wait for it alone. Longer parts go by READ.
pub(crate) const SHARED_PACKET_LEN: u32 = (4 << 10) - BEHIND as u32;

/// The send queue of such a link: work requests, pieces of one, bytes of an inline one. At most; devices that are software keep
/// all of it in memory.
pub(crate) const SHARED_SENDS: u32 = 32;
pub(crate) const SHARED_GATHER: usize = 5;
pub(crate) const SHARED_INLINE: usize = 128;

/// Links of one driver, connecting ones included.
pub(crate) const LINKS_MAX: usize = 64 << 10;

/// Completions that one poll takes from the device.
pub(crate) const COMPLETIONS_PER_POLL: usize = 128;

/// Polls after which a driver that never sleeps asks for events, which costs a system call.
pub(crate) const EVENTS_EVERY: u32 = 64;

/// How long an address and a route may take to be found, each, where the socket sets no limit.
pub(crate) const RESOLVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Pause between two attempts to listen again where a device has gone and may come back.
pub(crate) const LISTEN_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(250);

/// Times that a packet is sent again before the peer counts as gone (3 bits: InfiniBand specification, volume 1, section
/// 9.7.5.1.3). The most there is: the device's time-outs are short.
pub(crate) const RETRY_COUNT: u8 = 7;

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
