//! The options of a socket, typed, with libzmq's defaults except where said. Holds values, applies nothing.

use std::time::Duration;

use transport_core::{Device, Frame, Keepalive, LinkLimits, Tuning};

use crate::limits::{LINGER, WEIGHED_GRANT};
use crate::mark::Mark;
use crate::pattern::PatternOptions;

/// Settings of one socket. Those of links apply to endpoints opened after the change; marks and timeouts at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a close goes on sending what is queued; `None` is for ever. Default 30 s (libzmq: for ever). Over ipc, until
    /// the peer has read it.
    /// What was sent in-process reaches its peer whatever stands here, as in libzmq.
    pub linger: Option<Duration>,
    /// Messages queued per peer before `send` waits or drops; 0 is unlimited. Default 1000. In-process the peer's
    /// `receive_hwm` comes on top. Over tcp the system's buffers do, megabytes where a peer does not read; a mark of at
    /// most 16 keeps them short, for endpoints opened after it was set.
    pub send_hwm: u32,
    /// Messages received ahead per peer; 0 is unlimited. Default 1000.
    pub receive_hwm: u32,
    /// Bytes queued per peer before `send` waits or drops, beside `send_hwm`; one message always fits. Default `None`, which is
    /// no such mark. With one, both marks are those of the time when an endpoint was opened.
    pub send_hwm_bytes: Option<u64>,
    /// Bytes received ahead per peer, beside `receive_hwm`; up to 16 parts may come on top, since their length is not known
    /// before. Default `None`. As `send_hwm_bytes`.
    pub receive_hwm_bytes: Option<u64>,
    /// How long `send` may wait; `None` is for ever. Default `None`.
    pub send_timeout: Option<Duration>,
    /// How long `recv` may wait; `None` is for ever. Default `None`.
    pub receive_timeout: Option<Duration>,
    /// Pause before the first reconnect; `None` never reconnects. Default 100 ms.
    pub reconnect_interval: Option<Duration>,
    /// Longest pause between reconnects: doubled up to here. Zero keeps the interval fixed. Default zero.
    pub reconnect_interval_max: Duration,
    /// How long a peer may take from its connection to READY; zero is no limit. Default 30 s.
    pub handshake_timeout: Duration,
    /// How long a connect may take; zero leaves it to the system. Default zero.
    pub connect_timeout: Duration,
    /// Pause between heartbeats on a quiet link; zero sends none. Default zero.
    pub heartbeat_interval: Duration,
    /// How long to wait for a sign of life after a heartbeat; zero means the interval. Default zero.
    pub heartbeat_timeout: Duration,
    /// How long the peer should wait for our next heartbeat, in steps of 100 ms; zero says nothing. Default zero.
    pub heartbeat_ttl: Duration,
    /// Largest part accepted from a peer, in bytes; `None` is no limit. Default `None`.
    pub max_message_size: Option<u64>,
    /// An endpoint that is dialled takes messages only while its link is up: where nobody is, `send` waits or another peer
    /// gets the message, and what was queued for a peer that goes is lost (ZMQ_IMMEDIATE). Default false. For endpoints
    /// connected after the change; in-process there is no difference.
    pub immediate: bool,
    /// Each pipe keeps the newest message alone, whatever the marks say: for readers who want the latest state and not its
    /// history. For PUSH, PULL, PUB, SUB and DEALER; other types ignore it. To be set before the first bind or connect
    /// (ZMQ_CONFLATE). Default false.
    pub conflate: bool,
    /// How we are called by a ROUTER peer: 1 to 255 bytes, not starting with zero; empty lets the ROUTER choose.
    pub routing_id: Frame,
    /// Whether names and wildcards may mean IPv6. Default false, as in libzmq.
    pub ipv6: bool,
    /// Connections that may wait to be accepted. Default 100.
    pub backlog: u32,
    /// Kernel send buffer in bytes; `None` leaves the kernel's own sizing, and over ipc, where it would not grow, asks for
    /// 1 MiB.
    pub send_buffer: Option<u32>,
    /// Kernel receive buffer in bytes; `None` leaves the kernel's own sizing. Of no effect over ipc, where what was sent waits in
    /// the sender's (unix(7)).
    pub receive_buffer: Option<u32>,
    /// Probes of the system's on a quiet tcp connection; `None` leaves them to it (ZMQ_TCP_KEEPALIVE and its kin). Heartbeats
    /// also find a peer whose host is well and whose process hangs. Default `None`.
    pub keepalive: Option<Keepalive>,
    /// The type of service in the IP headers of what is sent over tcp; 0 leaves it to the system (ZMQ_TOS). Default 0.
    pub type_of_service: u8,
    /// The only network device that tcp may use, by its name (ZMQ_BINDTODEVICE; Linux's SO_BINDTODEVICE, socket(7)). Default
    /// `None`.
    pub device: Option<Device>,
    /// ROUTER: refuse messages to unknown peers instead of dropping them. Default false.
    pub router_mandatory: bool,
    /// ROUTER: let a new peer take over a routing id that is in use. Default false.
    pub router_handover: bool,
    /// XPUB: receive subscriptions that another peer has as well (ZMQ_XPUB_VERBOSE). Default false.
    pub xpub_verbose: bool,
    /// XPUB: the same, and the end of each (ZMQ_XPUB_VERBOSER). Default false.
    pub xpub_verboser: bool,
    /// XPUB: subscriptions count for nothing until `subscribe` says so, which then speaks of the peer whose subscription was
    /// received last (ZMQ_XPUB_MANUAL). Default false.
    pub xpub_manual: bool,
    /// PUB and XPUB: wait for room at every peer that is to get a message, and drop nothing (ZMQ_XPUB_NODROP). Default
    /// false.
    pub xpub_nodrop: bool,
    /// XPUB: what each new peer gets first (ZMQ_XPUB_WELCOME_MSG). Default empty, which is none.
    pub xpub_welcome_message: Frame,
    /// REQ: requests carry a number, and only a reply with that number is taken; REP and ROUTER peers hand it back by
    /// themselves (ZMQ_REQ_CORRELATE). Default false.
    pub req_correlate: bool,
    /// REQ: another request may be sent before the reply has come, and takes the place of the one before. A late reply of the
    /// same peer may then be taken for the new one's, unless `req_correlate` is set as well (ZMQ_REQ_RELAXED). Default
    /// false.
    pub req_relaxed: bool,
    /// REQ, DEALER and ROUTER: send an empty message to every peer that comes, so that a ROUTER there learns of this
    /// socket at once (ZMQ_PROBE_ROUTER). Other peers receive that message, too. With `conflate` none is sent. Default false.
    pub probe_router: bool,
    /// STREAM: receive an empty message when a connection comes, and when it goes (ZMQ_STREAM_NOTIFY). Default true.
    pub stream_notify: bool,
    /// PUB, XPUB, SUB and XSUB: messages go to those who did *not* subscribe to them; both ends must say so
    /// (ZMQ_INVERT_MATCHING). Default false.
    pub invert_matching: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linger: Some(LINGER),
            send_hwm: 1000,
            receive_hwm: 1000,
            send_hwm_bytes: None,
            receive_hwm_bytes: None,
            send_timeout: None,
            receive_timeout: None,
            reconnect_interval: Some(Duration::from_millis(100)),
            reconnect_interval_max: Duration::ZERO,
            handshake_timeout: Duration::from_secs(30),
            connect_timeout: Duration::ZERO,
            heartbeat_interval: Duration::ZERO,
            heartbeat_timeout: Duration::ZERO,
            heartbeat_ttl: Duration::ZERO,
            max_message_size: None,
            immediate: false,
            conflate: false,
            routing_id: Frame::EMPTY,
            ipv6: false,
            backlog: 100,
            send_buffer: None,
            receive_buffer: None,
            keepalive: None,
            type_of_service: 0,
            device: None,
            router_mandatory: false,
            router_handover: false,
            xpub_verbose: false,
            xpub_verboser: false,
            xpub_manual: false,
            xpub_nodrop: false,
            xpub_welcome_message: Frame::EMPTY,
            req_correlate: false,
            req_relaxed: false,
            probe_router: false,
            stream_notify: true,
            invert_matching: false,
        }
    }
}

impl Options {
    /// The marks of a pipe, to and from the peer.
    pub(crate) fn marks(&self) -> (Mark, Mark) {
        let send = Mark::new(self.send_hwm.into(), self.send_hwm_bytes);
        (send, Mark::new(self.receive_hwm.into(), self.receive_hwm_bytes))
    }

    /// Messages that a peer in this process may send before it is told how many.
    pub(crate) fn receive_allowance(&self) -> u32 {
        match (self.receive_hwm_bytes, self.receive_hwm) {
            (None, hwm) => hwm,
            (Some(_), 0) => WEIGHED_GRANT as u32,
            (Some(_), hwm) => hwm.min(WEIGHED_GRANT as u32),
        }
    }

    pub(crate) fn limits(&self) -> LinkLimits {
        LinkLimits {
            part_max: self.max_message_size,
            handshake_timeout: self.handshake_timeout,
            connect_timeout: self.connect_timeout,
        }
    }

    pub(crate) fn pattern(&self) -> PatternOptions {
        PatternOptions {
            router_mandatory: self.router_mandatory,
            router_handover: self.router_handover,
            xpub_verbose: self.xpub_verbose,
            xpub_verboser: self.xpub_verboser,
            xpub_manual: self.xpub_manual,
            xpub_nodrop: self.xpub_nodrop,
            xpub_welcome_message: self.xpub_welcome_message.clone(),
            req_correlate: self.req_correlate,
            req_relaxed: self.req_relaxed,
            // The probe would take the place of the newest message.
            probe_router: self.probe_router && !self.conflate,
            invert_matching: self.invert_matching,
        }
    }

    pub(crate) fn tuning(&self) -> Tuning {
        Tuning {
            send_buffer: self.send_buffer,
            receive_buffer: self.receive_buffer,
            backlog: self.backlog,
            ipv6: self.ipv6,
            keepalive: self.keepalive,
            type_of_service: self.type_of_service,
            device: self.device,
        }
    }
}
