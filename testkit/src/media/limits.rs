//! Every limit of the simulated media, by name. Holds numbers only, no code.

/// Data parts that wait in one link before `post_send` refuses.
pub const LINK_PARTS_MAX: usize = 64;

/// Largest socket buffer of the stream medium, in bytes; each direction of a connection holds at most so much.
pub const STREAM_BUFFER_MAX: usize = 64 << 10;

/// Connections one listener may have waiting, whatever the backlog asks for.
pub const BACKLOG_MAX: usize = 128;

/// First port that a wildcard gets. Ports below are never bound by one, so nobody listens on port 1.
pub const WILDCARD_PORT_MIN: u16 = 1024;

/// Largest multicast packet, in bytes, header included.
pub const MULTICAST_PACKET_MAX: usize = 256;

/// Packets a multicast sender hands to the wire at one instant; the rest wait for the next tick.
pub const MULTICAST_BURST_MAX: usize = 32;

/// Packets that wait in a multicast receiver's socket; more are lost as on the wire.
pub const MULTICAST_SOCKET_PACKETS_MAX: usize = 4096;

/// Packets of one source kept while an earlier one is awaited; with more, the earlier one counts as lost.
pub const REORDER_PACKETS_MAX: usize = 64;

/// Sources above the seam per receiving open, unless the medium is told otherwise.
pub const SOURCES_MAX: usize = 64;

/// Sources a receiver remembers not to listen to.
pub const MUTED_MAX: usize = 64;

/// Parts of complete messages held per source until they are granted; what comes beyond is dropped and counted.
pub const SOURCE_PARTS_MAX: usize = 128;

/// Parts of one multicast message; one with more is dropped and counted.
pub const MULTICAST_MESSAGE_PARTS_MAX: usize = 1024;

/// Links of one fabric driver. The completion queue is made for so many.
pub const FABRIC_LINKS_MAX: usize = 256;

/// Bytes of one eager packet, header included; the size of every posted receive buffer.
pub const EAGER_MAX: usize = 4096;

/// Posted receive buffers for data packets, per queue pair: what the peer starts with as credit.
pub const DATA_BUFFERS: usize = 16;

/// Control packets that may be unacknowledged before only an acknowledgement may still go.
pub const CONTROL_QUOTA: usize = 4;

/// Posted receive buffers for control packets: the quota and one for an acknowledgement, so that two ends which
/// both spent theirs can still free each other.
pub const CONTROL_BUFFERS: usize = CONTROL_QUOTA + 1;

/// READs in flight per queue pair (verbs: `initiator_depth`).
pub const READS_MAX: usize = 4;

/// Work requests of the send queue: every data packet, control packet and READ at once.
pub const SEND_QUEUE_MAX: usize = DATA_BUFFERS + CONTROL_BUFFERS + READS_MAX;

/// Completions that one queue pair can have outstanding.
pub const QP_COMPLETIONS_MAX: usize = SEND_QUEUE_MAX + DATA_BUFFERS + CONTROL_BUFFERS;

/// Bytes of one READ.
pub const READ_CHUNK: usize = 256 << 10;

/// Bytes of one bounce slot for READs whose target is not registered.
pub const READ_BOUNCE: usize = 64 << 10;

/// Shortest registered frame that goes by rendezvous though it would fit an eager packet.
pub const RENDEZVOUS_MIN: usize = 1024;

/// Rendezvous frames that one link pins before it posts no more.
pub const PINNED_MAX: usize = 32;

/// Bytes of a connection request's private data (RDMA CM over InfiniBand: 56).
pub const PRIVATE_DATA_MAX: usize = 56;

/// Bytes of a fabric driver's own bounce slots.
pub const BOUNCE_BUDGET: usize = 64 << 20;
