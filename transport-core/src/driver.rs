//! The contract between the engine and a transport: open, post, poll. Holds types and promises, no code that runs.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::capability::{Capabilities, Flow, Loss};
use crate::endpoint::Endpoint;
use crate::error::{DownReason, OpenError};
use crate::frame::Frame;
use crate::part::{Flags, Part};
use crate::pool::FramePool;
use crate::slab::{LinkId, OpenId};

/// A kind of wire. One value per context; it makes a [`Driver`] for every engine shard that needs one.
pub trait Transport: fmt::Debug + Send + Sync {
    /// The URL schemes this transport answers to.
    fn schemes(&self) -> &'static [&'static str];

    /// What an endpoint offers a socket whose parts travel as `flow`. Checks the address's grammar and nothing else:
    /// no resource exists yet, and this is where a pattern that cannot be carried is refused.
    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError>;

    /// Makes a driver. Fails with the reason why this host cannot (no library, no device, no permission).
    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError>;

    /// Why this host cannot run the transport, for `fabriq info`; `None` when it can.
    fn unavailable(&self) -> Option<String> {
        None
    }

    /// Whether [`Open::listener`] means something to it.
    fn adopts_listeners(&self) -> bool {
        false
    }

    /// What it can run on here, best first and one in a line, for `fabriq info`: devices, or providers with their versions.
    /// Empty where there is nothing to choose from.
    fn devices(&self) -> Vec<String> {
        Vec::new()
    }

    /// An endpoint of one of its schemes to bind that other processes of this host can reach, with a wildcard for what makes
    /// it unlike others: for programs that try a transport out. `None` where there is none, or only the user knows.
    fn local(&self, _scheme: &str) -> Option<Endpoint> {
        None
    }
}

/// What a driver is given by the engine.
#[derive(Debug, Clone)]
pub struct DriverEnv {
    /// Where received bodies land. A driver that finds it empty uses memory of its own.
    pub receive_pool: FramePool,
    /// Makes the engine poll this driver soon; for helper threads (name resolution) and for other shards' drivers.
    pub wake: Arc<dyn Wake>,
    /// The same number for all drivers of one context, and for no other context of this process.
    pub context: u64,
}

/// A wake-up call that any thread may make.
pub trait Wake: fmt::Debug + Send + Sync {
    /// Makes the engine poll the driver soon. Never blocks, takes no lock that a driver could hold.
    fn wake(&self);
}

/// The set of links of one transport in one engine shard.
///
/// Not thread-safe by itself: the engine calls it under its shard's lock, from whichever thread drives. No method
/// blocks, none calls back, none reads a clock; `poll` says everything, in the order in which it happened.
///
/// Promises, each tested by the conformance suite:
/// * Per link: one `Up`, then `Received`/`Sent`/`Writable`/`Gap`, then `Returned`s, then exactly one `Down`. Per open
///   that connects: exactly one `Up` or `Failed`. Per open that binds: exactly one `Bound` or `Failed`, then an `Up`
///   for every peer. An open that receives by multicast has an `Up` per source.
/// * Parts of one link arrive in the order posted; parts of a message are never separated by those of another.
/// * An id that is down or closed is harmless everywhere: `post_send` refuses, the rest does nothing.
/// * Nothing is `Received` after `close_link`. A `Gap` never falls inside a message.
/// * `open`, `close_*` and `grant` may make work at once: the caller polls after them.
pub trait Driver: fmt::Debug + Send {
    /// Starts to bind, dial or join. An error here means nothing was started; what comes later is a completion.
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError>;

    /// Stops listening or dialling, and silences links that are not up yet. Links that are already up stay. No
    /// completion follows for this open.
    fn close_open(&mut self, open: OpenId);

    /// Ends a link. `Down` follows, after `Drain` has done its work or its time is up. Calling it again can only
    /// make it sooner.
    fn close_link(&mut self, link: LinkId, how: Close);

    /// How many more parts `post_send` takes; it holds until the next poll. 0 for a stale id. Whenever a post has left
    /// no room, asked or not, `Writable` follows. Commands have room of their own, see `post_send`.
    fn room(&self, link: LinkId) -> usize;

    /// Hands a part over. What follows is exactly one of: a `Sent` that covers it, a `Returned` with it, or a `Down`
    /// without either (it was in flight and is lost). A COMMAND part is taken even when `room` is 0, up to
    /// [`crate::limits::COMMANDS_MAX`] waiting commands, and is delivered without grant once nothing stands before it.
    /// The engine posts none in the middle of a multipart message.
    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused>;

    /// Takes a part with an inline body as `post_send` does, by reference: such a part is read where it lies and moved
    /// nowhere. The flags are those given, whatever [`Part::into_frame`] has left in the frame. `false`: nothing has
    /// happened, and it is for `post_send`; so it is here for all that a driver does not want by reference.
    fn post_small(&mut self, link: LinkId, body: &Frame, flags: Flags) -> bool {
        let _ = (link, body, flags);
        false
    }

    /// Makes the device see everything posted so far. Completions that a flush brings about are fetched by the next
    /// `poll`; the caller of `flush` owes that poll only if it wants to know: nothing else waits for it.
    fn flush(&mut self);

    /// Sets how many more parts the link may deliver; replaces what was left, does not add. Starts at `Limited(0)`.
    /// Commands are exempt.
    fn grant(&mut self, link: LinkId, grant: Grant);

    /// Does what is due by `now` without blocking, appends at most about `budget` completions to `out` (one wire
    /// packet's worth may exceed it), and returns. Must make progress if it can: a caller may poll until nothing
    /// comes out.
    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize);

    /// When `poll` should be called even if nothing happens.
    fn deadline(&self) -> Option<Instant>;

    /// Says whether the caller may sleep on `wake_fd` until `deadline`. After `Ready`, anything that `poll` would report
    /// makes the descriptor readable (level-triggered), or calls `Wake` where there is none; `Busy` means something is
    /// there already. Call it before every sleep.
    fn arm(&mut self) -> Armed;

    /// The descriptor to sleep on, the same for the driver's life. `None`: only `Wake` and deadlines matter.
    fn wake_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Bytes of parts' bodies that this driver has copied between frames and buffers of its own since it was made, both
    /// ways, on all links it ever had; what it moves from one buffer to another counts each time. What a kernel, a library
    /// or a device copies does not count, nor what was copied before a part was posted. Only ever grows.
    fn copied_bytes(&self) -> u64 {
        0
    }
}

/// Whether a driver lets its caller sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Armed {
    /// Sleep.
    Ready,
    /// Poll again first.
    Busy,
}

/// Which side of an endpoint an `open` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Listens; any number of links.
    Bind,
    /// Dials once; one link. Reconnecting is the engine's business, by another `open`.
    Connect,
}

/// A request to bind, dial or join.
#[derive(Debug, Clone)]
pub struct Open {
    /// Where.
    pub endpoint: Endpoint,
    /// Which side.
    pub role: Role,
    /// Which way the socket's parts travel.
    pub flow: Flow,
    /// What we say first.
    pub hello: Hello,
    /// What else the peer of an in-process link, or one of ZMTP 1.0 or 2.0, needs to know of us.
    pub identity: Identity,
    /// Bounds on what peers may do.
    pub limits: LinkLimits,
    /// Settings for the operating system.
    pub tuning: Tuning,
    /// For a bind: a socket of the caller's, bound already, to listen on a duplicate of. Only for transports that
    /// [adopt listeners](Transport::adopts_listeners).
    pub listener: Option<Arc<OwnedFd>>,
}

pub use identity::Identity;
mod identity {
    use super::Frame;
    /// A socket's type and routing id, for links that have no READY command to carry them.
    #[derive(Debug, Clone, Default)]
    pub struct Identity {
        /// The socket type by its ZMTP name, for example `DEALER`; empty for a peer of ZMTP 1.0, which says none.
        pub socket_type: &'static str,
        /// The routing id; empty when none is set.
        pub routing_id: Frame,
        /// Send high-water mark, in messages; 0 is unlimited. In-process links add both ends' marks.
        pub send_hwm: u32,
        /// Receive high-water mark, in messages; 0 is unlimited. An in-process peer may send as much before a grant.
        pub receive_hwm: u32,
    }
}

/// The first thing both ends say. tcp says it as ZMTP's 64-byte greeting, RDMA in its connection data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// ZMTP 3's minor version: 1, or 0 for older peers.
    pub minor: u8,
    /// The security mechanism.
    pub mechanism: MechanismName,
    /// Whether we are the mechanism's server side.
    pub as_server: bool,
}

impl Hello {
    /// ZMTP 3.1 with the NULL mechanism.
    pub const NULL: Self = Self { minor: 1, mechanism: MechanismName::NULL, as_server: false };
}

pub use mechanism_name::MechanismName;
mod mechanism_name {
    use std::fmt;
    /// A security mechanism's name: up to 20 ASCII letters (ZMTP 3.1 section "Greeting").
    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    pub struct MechanismName([u8; 20]);

    impl MechanismName {
        /// No security.
        pub const NULL: Self = Self::new("NULL");
        /// A name of at most 20 bytes; what is longer is cut.
        pub const fn new(name: &str) -> Self {
            let (name, mut padded, mut at) = (name.as_bytes(), [0; 20], 0);
            while at < name.len() && at < 20 {
                padded[at] = name[at];
                at += 1;
            }
            Self(padded)
        }
        /// As it stands on the wire, padded with zeros.
        pub const fn from_wire(padded: [u8; 20]) -> Self {
            Self(padded)
        }
        /// As it stands on the wire, padded with zeros.
        pub const fn to_wire(self) -> [u8; 20] {
            self.0
        }
    }
    impl fmt::Debug for MechanismName {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self, f)
        }
    }
    impl fmt::Display for MechanismName {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let end = self.0.iter().position(|&b| b == 0).unwrap_or(20);
            write!(f, "{}", self.0[..end].escape_ascii())
        }
    }
}

/// Bounds on what a peer may do to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLimits {
    /// Largest part accepted, in bytes; `None` for no limit below [`crate::limits::FRAME_MAX`]. A transport may have a
    /// lower limit for commands, which need no grant.
    pub part_max: Option<u64>,
    /// How long a peer may take to say Hello; zero for no limit. The session bounds what comes after.
    pub handshake_timeout: Duration,
    /// How long the system may take to establish a dialled connection; zero for the system's own limit.
    pub connect_timeout: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            part_max: None,
            handshake_timeout: Duration::from_millis(crate::limits::HANDSHAKE_TIMEOUT_MS),
            connect_timeout: Duration::ZERO,
        }
    }
}

/// Settings that a driver hands to the operating system where it knows them, and ignores elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Kernel send buffer in bytes; `None` leaves the kernel's own sizing.
    pub send_buffer: Option<u32>,
    /// Kernel receive buffer in bytes; `None` leaves the kernel's own sizing.
    pub receive_buffer: Option<u32>,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Whether names and wildcards may mean IPv6.
    pub ipv6: bool,
    /// Probes of the system's on a quiet connection; `None` leaves them to it.
    pub keepalive: Option<Keepalive>,
    /// The type of service of what is sent, as in the IP header; 0 leaves it to the system (RFC 2474, RFC 3168).
    pub type_of_service: u8,
    /// The only network device that may be used.
    pub device: Option<Device>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            send_buffer: None,
            receive_buffer: None,
            backlog: 100,
            ipv6: false,
            keepalive: None,
            type_of_service: 0,
            device: None,
        }
    }
}

/// The system's probes of a quiet TCP connection (tcp(7)). What is `None` is as the system has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe, to the second; at least one.
    pub idle: Option<Duration>,
    /// Between two probes, to the second; at least one.
    pub interval: Option<Duration>,
    /// Probes without an answer until the connection counts as gone; at least one.
    pub count: Option<u32>,
}

pub use device::Device;
mod device {
    use std::fmt;

    /// The name of a network device: 1 to 15 bytes (netdevice(7), IFNAMSIZ).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Device {
        name: [u8; 15],
        len: u8,
    }

    impl Device {
        /// `None`: that can be no device's name.
        pub fn new(name: &str) -> Option<Self> {
            let of_name = |byte: u8| byte > b' ' && byte != b'/' && byte != b':' && byte != 0x7F;
            if name.is_empty() || name.len() > 15 || !name.bytes().all(of_name) {
                return None;
            }
            let mut device = Self { name: [0; 15], len: name.len() as u8 };
            device.name[..name.len()].copy_from_slice(name.as_bytes());
            Some(device)
        }

        /// Its bytes.
        pub fn as_bytes(&self) -> &[u8] {
            &self.name[..usize::from(self.len)]
        }
    }

    impl fmt::Display for Device {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&String::from_utf8_lossy(self.as_bytes()))
        }
    }

    impl fmt::Debug for Device {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self, f)
        }
    }
}

/// What is known of a peer when its link comes up.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// What the peer said first.
    pub hello: Hello,
    /// The peer's address in the endpoint's own form, for monitors and errors.
    pub address: String,
    /// Present where no READY will come: in-process links, and peers of ZMTP 1.0 and 2.0.
    pub identity: Option<Identity>,
    /// The descriptor behind the link, for monitor events; -1 if there is none.
    pub fd: i32,
    /// How long the peer took from its connection to its hello: part of the handshake timeout, of which the session has
    /// what is left.
    pub hello_took: Duration,
}

/// How to end a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// At once; what was not sent comes back as `Returned` where the device never saw it.
    Abort,
    /// After everything posted was sent and the peer had its chance to read it. What arrives meanwhile is dropped.
    Drain {
        /// When to give up; `None` waits for ever.
        until: Option<Instant>,
    },
}

/// Receive credit, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// So many more parts.
    Limited(u64),
    /// Any number.
    Unlimited,
}

/// A part that was not taken, and why.
#[derive(Debug)]
pub struct Refused {
    /// The part, unchanged.
    pub part: Part,
    /// Why.
    pub reason: RefusedReason,
}

/// Why a part was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedReason {
    /// No room now; `Writable` follows.
    Full,
    /// The link is down or closing.
    Closed,
}

/// How far an open or a link-to-be has come. For monitors only; nothing depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Dialling has started and will complete later.
    Dialling,
    /// A listener took a peer's connection; Hello is next.
    Accepted {
        /// The peer's address.
        peer: String,
        /// The descriptor, or -1.
        fd: i32,
    },
    /// A dialled connection stands; Hello is next.
    Connected {
        /// The descriptor, or -1.
        fd: i32,
    },
    /// An accepted peer never got as far as Up.
    HandshakeFailed {
        /// The peer's address.
        peer: String,
        /// Why.
        reason: DownReason,
    },
    /// A listener could not take a connection; the number is the errno.
    AcceptFailed(i32),
}

/// What was done about packets that went missing on a wire that loses some. A sender's counts are of all its receivers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Packets of data, sent or received, without repetitions.
    pub packets: u64,
    /// Packets that were sent again, or received by having been sent again.
    pub repaired: u64,
    /// Requests for that, received or sent, in packets that were asked for.
    pub requested: u64,
    /// Packets that were not recovered: a receiver's are lost; a sender had them no more when it was asked.
    pub lost: u64,
    /// Of a sender, requests that were not minded: beyond what one receiver may have repaired, or all of them. Of a receiver,
    /// packets far outside its window, which come from strangers or after a long outage; two that agree are minded.
    pub refused: u64,
}

/// Everything a driver has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Completion {
    /// The open listens; `endpoint` has the real address, without wildcards.
    Bound {
        /// Which.
        open: OpenId,
        /// The real address.
        endpoint: Endpoint,
    },
    /// The open came to nothing and is gone.
    Failed {
        /// Which.
        open: OpenId,
        /// Why.
        error: OpenError,
    },
    /// For monitors.
    Progress {
        /// Which.
        open: OpenId,
        /// What.
        progress: Progress,
    },
    /// A link exists. First word about it.
    Up {
        /// The new link.
        link: LinkId,
        /// The open it belongs to.
        open: OpenId,
        /// Who is there. Boxed, so that a completion is not much larger than the part that most of them carry.
        peer: Box<PeerInfo>,
    },
    /// A part arrived.
    Received {
        /// From.
        link: LinkId,
        /// The part.
        part: Part,
    },
    /// The device no longer reads the first `through` parts ever posted to the link, commands included. Cumulative;
    /// does not say that the peer has them.
    Sent {
        /// Which.
        link: LinkId,
        /// A count.
        through: u64,
    },
    /// A part of a message of which the device never saw a byte; in posting order, whole messages only, before Down.
    /// Commands need not come back. A message whose last part was not posted yet may be left out; then the caller
    /// drops its rest.
    Returned {
        /// Which.
        link: LinkId,
        /// The part.
        part: Part,
    },
    /// There is room again after a refusal or a `room` of 0.
    Writable {
        /// Which.
        link: LinkId,
    },
    /// Something is missing before the next part.
    Gap {
        /// Which.
        link: LinkId,
        /// How much.
        lost: Loss,
    },
    /// How the recovery of a link's lost packets goes. For monitors only; when it has changed, at most once a second.
    Recovery {
        /// Which.
        link: LinkId,
        /// Since it came up.
        recovery: Recovery,
    },
    /// The link is gone. Last word about it.
    Down {
        /// Which.
        link: LinkId,
        /// Why.
        reason: DownReason,
    },
}

impl Completion {
    /// The link that it is about.
    pub fn link(&self) -> Option<LinkId> {
        match self {
            Self::Up { link, .. }
            | Self::Received { link, .. }
            | Self::Sent { link, .. }
            | Self::Returned { link, .. }
            | Self::Writable { link }
            | Self::Gap { link, .. }
            | Self::Recovery { link, .. }
            | Self::Down { link, .. } => Some(*link),
            Self::Bound { .. } | Self::Failed { .. } | Self::Progress { .. } => None,
        }
    }

    /// A received part without bytes on nobody's link, to be filled where it lies.
    pub const RECEIVED: Self =
        Self::Received { link: LinkId::NOBODY, part: Part { body: Frame::EMPTY, flags: Flags::LAST } };

    /// The open that it is about, where it is about no link of it.
    pub fn open(&self) -> Option<OpenId> {
        match self {
            Self::Bound { open, .. } | Self::Failed { open, .. } | Self::Progress { open, .. } => Some(*open),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_little_more_than_their_parts() {
        assert_eq!(size_of::<Completion>(), 96);
    }
}
