//! `simstream://`: a byte stream medium as a transport, with a framing of its own. Not TCP and not ZMTP.
//!
//! What it has in common with TCP is what hurts: reads and writes stop at any byte, buffers fill, a close with unread
//! input becomes a reset, and a peer may send garbage or nothing at all ([`Raw`]). The framing:
//!
//! ```text
//! hello  0xfb, minor, flags, mechanism [20]
//! part   flags u8, length u64 big-endian, body
//! ```

mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::limits::FRAME_MAX;
use transport_core::{
    Armed, Capabilities, Close, Completion, Delivery, DownReason, Driver, DriverEnv, Endpoint, Flags, Flow,
    Frame, FrameMut, Grant, Hello, LinkId, Open, OpenError, OpenId, Part, PeerInfo, Progress, Refused,
    RefusedReason, Role, SessionKind, Slab, Topology, Transport, Violation,
};

use super::kit::{
    Allowance, HELLO_BYTES, HostId, News, Outbox, Shared, decode_hello, earlier, encode_hello, read_address,
    real_address,
};
use super::limits::STREAM_BUFFER_MAX;
use crate::subject::Subject;
use wire::{EndKey, EndState, Moved, World};

const HEADER_BYTES: usize = 9;
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;
const ENOMEM: i32 = 12;

/// A byte stream world. Clones share it.
#[derive(Debug, Clone)]
pub struct Stream {
    world: Shared<World>,
}

impl Stream {
    /// Latency 10 us, buffers of 64 KiB, segments by `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with_buffer(seed, STREAM_BUFFER_MAX)
    }

    /// The same with buffers of `bytes`, at least one.
    pub fn with_buffer(seed: u64, bytes: usize) -> Self {
        Self { world: Shared::new(World::new(seed, bytes)) }
    }

    /// Connects without a driver, to play a peer that speaks nonsense, half of something, or nothing.
    pub fn dial_raw(&self, endpoint: &Endpoint) -> Result<Raw, OpenError> {
        let port = read_address(endpoint, false)?.unwrap_or_default();
        let end = self.world.hold().dial(port, None);
        Ok(Raw { world: self.world.clone(), end })
    }

    /// Connections that at least one end still holds.
    pub fn connections(&self) -> usize {
        self.world.hold().connections()
    }
}

impl Transport for Stream {
    fn schemes(&self) -> &'static [&'static str] {
        &["simstream"]
    }

    fn capabilities(&self, endpoint: &Endpoint, _flow: Flow) -> Result<Capabilities, OpenError> {
        read_address(endpoint, true)?;
        Ok(Capabilities {
            delivery: Delivery::Reliable,
            flow: Flow::Duplex,
            pushback: true,
            topology: Topology::Unicast,
            session: SessionKind::Zmtp,
        })
    }

    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let host = self.world.hold().join(env.wake.clone());
        Ok(Box::new(StreamDriver {
            world: self.world.clone(),
            host,
            env,
            opens: Slab::new(),
            links: Slab::new(),
            news: News::default(),
            turn: 0,
            order: Vec::new(),
            open_order: Vec::new(),
            unfinished: false,
        }))
    }
}

impl Subject for Stream {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }
    fn fresh(&self) -> Endpoint {
        fixed_endpoint("simstream://localhost:*")
    }
    fn nobody(&self) -> Option<Endpoint> {
        Some(fixed_endpoint("simstream://localhost:1"))
    }
    fn real_time(&self) -> bool {
        false
    }
}

fn fixed_endpoint(url: &str) -> Endpoint {
    Endpoint::parse(url).expect("a literal URL")
}

/// A bare connection: bytes and no driver.
#[derive(Debug)]
pub struct Raw {
    world: Shared<World>,
    end: EndKey,
}

impl Raw {
    /// Writes what fits now and says how much that was; 0 when nothing can be written, now or ever.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Moved::Bytes(more) = self.world.hold().write(self.end, &bytes[written..]) {
            written += more;
        }
        written
    }
    /// Reads what has arrived.
    pub fn read(&self) -> Vec<u8> {
        let (mut bytes, mut some) = (Vec::new(), [0; 512]);
        while let Moved::Bytes(more) = self.world.hold().read(self.end, &mut some) {
            bytes.extend(&some[..more]);
        }
        bytes
    }
    /// Whether the other side has closed or torn down the connection and everything before that was read.
    pub fn is_over(&self) -> bool {
        matches!(self.world.hold().read(self.end, &mut [0]), Moved::Eof | Moved::Reset)
    }
    /// Half-closes.
    pub fn shut(&self) {
        self.world.hold().shut(self.end);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.world.hold().reset(self.end);
    }
}

#[derive(Debug)]
struct StreamDriver {
    world: Shared<World>,
    host: HostId,
    env: DriverEnv,
    opens: Slab<OpenId, Opened>,
    links: Slab<LinkId, Link>,
    news: News,
    /// Where the next poll starts among the links, so that no link starves under a small budget.
    turn: usize,
    /// Kept between polls, so that a warm poll allocates nothing.
    order: Vec<LinkId>,
    open_order: Vec<OpenId>,
    unfinished: bool,
}

#[derive(Debug)]
struct Opened {
    request: Open,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Dialling { end: EndKey, until: Option<Instant>, begun: bool },
    Shaking,
    Listening(u16),
}

#[derive(Debug)]
struct Link {
    open: OpenId,
    role: Role,
    end: EndKey,
    peer: String,
    limits: transport_core::LinkLimits,
    phase: Phase,
    hello_out: [u8; HELLO_BYTES],
    hello_written: usize,
    hello_in: [u8; HELLO_BYTES],
    hello_read: usize,
    outbox: Outbox,
    writing: Option<Writing>,
    /// Parts of which the socket has every byte, and how many of those were reported.
    sent: u64,
    sent_reported: u64,
    reading: Reading,
    /// The last data part delivered had MORE.
    inside: bool,
    allowance: Allowance,
    doom: Option<DownReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Shaking { until: Option<Instant> },
    Up,
    Draining { until: Option<Instant> },
}

#[derive(Debug)]
struct Writing {
    header: [u8; HEADER_BYTES],
    body: Frame,
    written: usize,
}

#[derive(Debug)]
enum Reading {
    Header {
        bytes: [u8; HEADER_BYTES],
        read: usize,
    },
    /// A data part without grant: its body stays in the socket.
    Ungranted {
        flags: Flags,
        length: usize,
    },
    Body {
        flags: Flags,
        body: FrameMut,
        read: usize,
    },
    /// Drained away.
    Skip {
        left: usize,
    },
}

impl Reading {
    const START: Self = Self::Header { bytes: [0; HEADER_BYTES], read: 0 };
}

impl StreamDriver {
    fn add_link(&mut self, open: OpenId, end: EndKey, peer: String, now: Instant) {
        let Some(opened) = self.opens.find(open) else { return };
        let timeout = opened.request.limits.handshake_timeout;
        let until = (!timeout.is_zero()).then(|| now + timeout);
        self.links.insert(Link {
            open,
            role: opened.request.role,
            end,
            peer,
            limits: opened.request.limits,
            phase: Phase::Shaking { until },
            hello_out: encode_hello(opened.request.hello),
            hello_written: 0,
            hello_in: [0; HELLO_BYTES],
            hello_read: 0,
            outbox: Outbox::default(),
            writing: None,
            sent: 0,
            sent_reported: 0,
            reading: Reading::START,
            inside: false,
            allowance: Allowance::NONE,
            doom: None,
        });
    }

    fn tend_opens(&mut self, now: Instant) {
        let mut order = std::mem::take(&mut self.open_order);
        order.clear();
        order.extend(self.opens.iter().map(|(open, _)| open));
        for &open in &order {
            let Some(opened) = self.opens.find_mut(open) else { continue };
            match &mut opened.stage {
                Stage::Dialling { end, until, begun } => {
                    if !*begun {
                        *begun = true;
                        let timeout = opened.request.limits.connect_timeout;
                        *until = (!timeout.is_zero()).then(|| now + timeout);
                        self.news.say(Completion::Progress { open, progress: Progress::Dialling });
                    }
                    let (end, late) = (*end, until.is_some_and(|until| now >= until));
                    let endpoint = opened.request.endpoint.clone();
                    let state = self.world.hold().state(end);
                    let failure = match state {
                        EndState::Open => {
                            self.news
                                .say(Completion::Progress { open, progress: Progress::Connected { fd: -1 } });
                            let peer = endpoint.as_str().to_owned();
                            self.add_link(open, end, peer, now);
                            if let Some(opened) = self.opens.find_mut(open) {
                                opened.stage = Stage::Shaking;
                            }
                            continue;
                        }
                        EndState::Dialling if !late => continue,
                        EndState::Dialling => "connection timed out",
                        EndState::Refused | EndState::Closed => "connection refused",
                    };
                    self.world.hold().reset(end);
                    self.opens.remove(open);
                    let why = failure.to_owned();
                    let error = OpenError::Unreachable { endpoint, why, errno: ECONNREFUSED };
                    self.news.say(Completion::Failed { open, error });
                }
                Stage::Listening(port) => {
                    let port = *port;
                    loop {
                        let Some((open, end, peer)) = self.world.hold().accept(port) else { break };
                        let peer = format!("simstream://localhost:{peer}");
                        self.news.say(Completion::Progress {
                            open,
                            progress: Progress::Accepted { peer: peer.clone(), fd: -1 },
                        });
                        self.add_link(open, end, peer, now);
                    }
                }
                Stage::Shaking => {}
            }
        }
        self.open_order = order;
    }

    /// Runs one link as far as the budget goes. Returns whether it stopped for want of budget.
    fn tend_link(&mut self, id: LinkId, now: Instant, limit: usize) -> bool {
        let Some(link) = self.links.find_mut(id) else { return false };
        let mut world = self.world.hold();
        let mut stopped = false;
        if let Phase::Shaking { until } = link.phase
            && link.doom.is_none()
        {
            link.shake(&mut world);
            if link.doom.is_none() && link.hello_read == HELLO_BYTES && link.hello_written == HELLO_BYTES {
                match decode_hello(&link.hello_in) {
                    Ok(hello) => {
                        link.phase = Phase::Up;
                        let peer = PeerInfo {
                            hello,
                            address: link.peer.clone(),
                            identity: None,
                            fd: -1,
                            hello_took: Duration::ZERO,
                        };
                        self.news.say(Completion::Up { link: id, open: link.open, peer: Box::new(peer) });
                        if link.role == Role::Connect {
                            self.opens.remove(link.open);
                        }
                    }
                    Err(violation) => link.doom = Some(violation.into()),
                }
            } else if until.is_some_and(|until| now >= until) {
                link.doom = link.doom.or(Some(DownReason::TimedOut));
            }
        }
        if !matches!(link.phase, Phase::Shaking { .. }) && link.doom.is_none() {
            link.write(&mut world);
            stopped = link.read(id, &mut world, &self.env, &mut self.news, limit);
            link.report(id, &mut self.news);
            if let Phase::Draining { until: Some(until) } = link.phase
                && now >= until
            {
                link.doom = link.doom.or(Some(DownReason::TimedOut));
            }
        }
        let Some(reason) = link.doom else { return stopped };
        match reason {
            DownReason::Violation(_) | DownReason::TimedOut => world.reset(link.end),
            // A reset, too, if there is unread input. An end inside a message is still an end, and the peer that
            // drains us is to see it as one.
            _ => world.close(link.end),
        }
        drop(world);
        self.bury(id, reason);
        false
    }

    /// The last words about a link.
    fn bury(&mut self, id: LinkId, reason: DownReason) {
        let Some(mut link) = self.links.remove(id) else { return };
        if !matches!(link.phase, Phase::Shaking { .. }) {
            link.outbox.give_back(id, &mut self.news);
            self.news.say(Completion::Down { link: id, reason });
            return;
        }
        let open = link.open;
        match link.role {
            Role::Bind => self.news.say(Completion::Progress {
                open,
                progress: Progress::HandshakeFailed { peer: link.peer, reason },
            }),
            Role::Connect => {
                let Some(opened) = self.opens.remove(open) else { return };
                let endpoint = opened.request.endpoint;
                let error = OpenError::Unreachable { endpoint, why: reason.to_string(), errno: 0 };
                self.news.say(Completion::Failed { open, error });
            }
        }
    }
}

impl Link {
    fn shake(&mut self, world: &mut World) {
        while self.hello_written < HELLO_BYTES {
            match world.write(self.end, &self.hello_out[self.hello_written..]) {
                Moved::Bytes(some) => self.hello_written += some,
                Moved::Blocked => break,
                Moved::Eof | Moved::Reset => return self.doom = Some(DownReason::Broken(ECONNRESET)),
            }
        }
        while self.hello_read < HELLO_BYTES {
            match world.read(self.end, &mut self.hello_in[self.hello_read..]) {
                Moved::Bytes(some) => self.hello_read += some,
                Moved::Blocked => break,
                Moved::Eof => return self.doom = Some(DownReason::ClosedByPeer),
                Moved::Reset => return self.doom = Some(DownReason::Broken(ECONNRESET)),
            }
            // Not a peer of ours: no need to wait for the rest.
            if self.hello_in[0] != encode_hello(Hello::NULL)[0] {
                return self.doom = Some(Violation::BadGreeting.into());
            }
        }
    }

    fn write(&mut self, world: &mut World) {
        loop {
            if self.writing.is_none() {
                let Some(part) = self.outbox.front() else { break };
                let mut header = [0; HEADER_BYTES];
                header[0] = u8::from(part.flags.more()) | (u8::from(part.flags.command()) << 2);
                header[1..].copy_from_slice(&(part.body.len() as u64).to_be_bytes());
                // A blocked socket has seen nothing of the part yet, so the part stays where it can come back.
                match world.write(self.end, &header) {
                    Moved::Bytes(written) => {
                        let Some(part) = self.outbox.take() else { break };
                        self.writing = Some(Writing { header, body: part.body, written });
                    }
                    Moved::Blocked => break,
                    Moved::Eof | Moved::Reset => return self.doom = Some(DownReason::Broken(ECONNRESET)),
                }
            }
            let Some(writing) = &mut self.writing else { break };
            let rest = match writing.written.checked_sub(HEADER_BYTES) {
                Some(of_body) => &writing.body[of_body..],
                None => &writing.header[writing.written..],
            };
            if rest.is_empty() {
                self.writing = None;
                self.sent += 1;
                continue;
            }
            match world.write(self.end, rest) {
                Moved::Bytes(some) => writing.written += some,
                Moved::Blocked => break,
                Moved::Eof | Moved::Reset => return self.doom = Some(DownReason::Broken(ECONNRESET)),
            }
        }
        if matches!(self.phase, Phase::Draining { .. }) && self.writing.is_none() && self.outbox.is_empty() {
            world.shut(self.end);
        }
    }

    /// Returns whether it stopped for want of budget.
    fn read(
        &mut self,
        id: LinkId,
        world: &mut World,
        env: &DriverEnv,
        news: &mut News,
        limit: usize,
    ) -> bool {
        let draining = matches!(self.phase, Phase::Draining { .. });
        loop {
            if news.len() >= limit {
                return true;
            }
            let moved = match &mut self.reading {
                Reading::Header { bytes, read } => {
                    let moved = world.read(self.end, &mut bytes[*read..]);
                    if let Moved::Bytes(some) = moved {
                        *read += some;
                        if *read == HEADER_BYTES {
                            let bytes = *bytes;
                            match self.parse(&bytes) {
                                Ok(next) => self.reading = next,
                                Err(violation) => self.doom = Some(violation.into()),
                            }
                        }
                    }
                    moved
                }
                Reading::Ungranted { flags, length } => {
                    if draining {
                        self.reading = Reading::Skip { left: *length };
                        continue;
                    }
                    if !flags.command() && self.allowance.spent() {
                        // Not read, so its end is not seen either; a reset is.
                        if world.state(self.end) == EndState::Closed {
                            self.doom = Some(DownReason::Broken(ECONNRESET));
                        }
                        return false;
                    }
                    let Some(body) = env.receive_pool.take_or_own(*length) else {
                        self.doom = Some(DownReason::Broken(ENOMEM));
                        return false;
                    };
                    self.reading = Reading::Body { flags: *flags, body, read: 0 };
                    continue;
                }
                Reading::Body { flags, body, read } if *read == body.len() => {
                    let flags = *flags;
                    let Reading::Body { body, .. } = std::mem::replace(&mut self.reading, Reading::START)
                    else {
                        return false;
                    };
                    if !draining {
                        if !flags.command() {
                            self.allowance.spend();
                            self.inside = flags.more();
                        }
                        news.say(Completion::Received {
                            link: id,
                            part: Part { body: body.freeze(), flags },
                        });
                    }
                    continue;
                }
                Reading::Body { body, read, .. } => {
                    let moved = world.read(self.end, &mut body[*read..]);
                    if let Moved::Bytes(some) = moved {
                        *read += some;
                    }
                    moved
                }
                Reading::Skip { left: 0 } => {
                    self.reading = Reading::START;
                    continue;
                }
                Reading::Skip { left } => {
                    let mut away = [0; 4096];
                    let some = away.len().min(*left);
                    let moved = world.read(self.end, &mut away[..some]);
                    if let Moved::Bytes(some) = moved {
                        *left -= some;
                    }
                    moved
                }
            };
            match moved {
                Moved::Bytes(_) if self.doom.is_none() => {}
                Moved::Bytes(_) | Moved::Blocked => return false,
                Moved::Reset => {
                    self.doom = Some(DownReason::Broken(ECONNRESET));
                    return false;
                }
                Moved::Eof => {
                    let between = matches!(self.reading, Reading::Header { read: 0, .. }) && !self.inside;
                    let all_out = self.writing.is_none() && self.outbox.is_empty();
                    self.doom = Some(match () {
                        () if draining && all_out => DownReason::ClosedHere,
                        () if draining || between => DownReason::ClosedByPeer,
                        () => DownReason::Broken(ECONNRESET),
                    });
                    return false;
                }
            }
        }
    }

    fn parse(&self, header: &[u8; HEADER_BYTES]) -> Result<Reading, Violation> {
        let [flags, length @ ..] = *header;
        let flags = match flags {
            0 => Flags::LAST,
            1 => Flags::MORE,
            4 => Flags::COMMAND,
            _ => return Err(Violation::BadFrame),
        };
        let length = u64::from_be_bytes(length);
        if length > self.limits.part_max.unwrap_or(FRAME_MAX).min(FRAME_MAX) {
            return Err(Violation::TooLarge);
        }
        let length = usize::try_from(length).map_err(|_| Violation::TooLarge)?;
        Ok(Reading::Ungranted { flags, length })
    }

    fn report(&mut self, id: LinkId, news: &mut News) {
        if self.sent > self.sent_reported {
            self.sent_reported = self.sent;
            news.say(Completion::Sent { link: id, through: self.sent });
        }
        if self.phase == Phase::Up && self.doom.is_none() && self.outbox.settle_writable() {
            news.say(Completion::Writable { link: id });
        }
    }
}

impl Driver for StreamDriver {
    fn open(&mut self, request: Open) -> Result<OpenId, OpenError> {
        let wildcard = request.role == Role::Bind;
        let port = read_address(&request.endpoint, wildcard)?;
        let mut world = self.world.hold();
        match (request.role, port) {
            (Role::Connect, port) => {
                let end = world.dial(port.unwrap_or_default(), Some(self.host));
                let stage = Stage::Dialling { end, until: None, begun: false };
                // The deadline of a dial starts at the next poll, which is when this driver next learns the time.
                world.hosts.poke(self.host);
                Ok(self.opens.insert(Opened { request, stage }))
            }
            (Role::Bind, port) => {
                let (host, backlog, endpoint) = (self.host, request.tuning.backlog, request.endpoint.clone());
                let open = self.opens.insert(Opened { request, stage: Stage::Listening(0) });
                let Some(port) = world.listen(port, host, open, backlog) else {
                    self.opens.remove(open);
                    return Err(OpenError::AddressInUse(endpoint));
                };
                if let Some(opened) = self.opens.find_mut(open) {
                    opened.stage = Stage::Listening(port);
                }
                world.hosts.poke(self.host);
                self.news.say(Completion::Bound { open, endpoint: real_address(&endpoint, port) });
                Ok(open)
            }
        }
    }

    fn close_open(&mut self, open: OpenId) {
        let unheard = self.news.forget_open(open);
        let mut world = self.world.hold();
        match self.opens.remove(open).map(|opened| opened.stage) {
            Some(Stage::Dialling { end, .. }) => world.reset(end),
            Some(Stage::Listening(port)) => world.unlisten(port),
            Some(Stage::Shaking) | None => {}
        }
        for id in self.links.keys() {
            let Some(link) = self.links.find(id).filter(|link| link.open == open) else { continue };
            if matches!(link.phase, Phase::Shaking { .. }) || unheard.contains(&id) {
                world.reset(link.end);
                self.links.remove(id);
            }
        }
    }

    fn close_link(&mut self, link: LinkId, how: Close) {
        let Some(it) = self.links.find_mut(link).filter(|link| !matches!(link.phase, Phase::Shaking { .. }))
        else {
            return;
        };
        match how {
            Close::Abort => {
                it.doom = Some(DownReason::ClosedHere);
                // Down is said by the next poll, but the peer need not wait for that.
                self.world.hold().reset(it.end);
            }
            Close::Drain { until } => {
                let until = match it.phase {
                    Phase::Draining { until: before } => earlier(before, until),
                    _ => until,
                };
                it.phase = Phase::Draining { until };
                it.outbox.release();
            }
        }
        self.world.hold().hosts.poke(self.host);
    }

    fn room(&self, link: LinkId) -> usize {
        self.links
            .find(link)
            .filter(|link| link.phase == Phase::Up && link.doom.is_none())
            .map_or(0, |link| link.outbox.room())
    }

    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        match self.links.find_mut(link).filter(|link| link.phase == Phase::Up && link.doom.is_none()) {
            Some(link) => link.outbox.post(part),
            None => Err(Refused { part, reason: RefusedReason::Closed }),
        }
    }

    fn flush(&mut self) {
        let mut world = self.world.hold();
        let mut news = false;
        for (_, link) in self.links.iter_mut() {
            if link.phase == Phase::Up && link.doom.is_none() {
                link.outbox.release();
                link.write(&mut world);
                news |= link.sent > link.sent_reported || link.doom.is_some();
            }
        }
        if news {
            self.unfinished = true;
        }
    }

    fn grant(&mut self, link: LinkId, grant: Grant) {
        if let Some(link) = self.links.find_mut(link) {
            link.allowance.set(grant);
            // What waits in the socket may be due now, and whoever sleeps on this driver must hear of it.
            self.world.hold().hosts.poke(self.host);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        let until = out.len() + budget.max(1);
        let now = {
            let mut world = self.world.hold();
            world.hosts.settle(self.host);
            world.advance(now);
            // Arrivals that this very poll brought about are dealt with below.
            world.hosts.settle(self.host);
            world.now().unwrap_or(now)
        };
        self.unfinished = false;
        self.news.hand_over(out, until);
        if !self.news.is_empty() {
            self.unfinished = true;
            return;
        }
        self.tend_opens(now);
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(self.links.iter().map(|(id, _)| id));
        if !order.is_empty() {
            self.turn = (self.turn + 1) % order.len();
            order.rotate_left(self.turn);
        }
        for &id in &order {
            let limit = until - out.len();
            self.unfinished |= self.tend_link(id, now, limit);
        }
        self.order = order;
        self.news.hand_over(out, until);
        self.unfinished |= !self.news.is_empty();
    }

    fn deadline(&self) -> Option<Instant> {
        let world = self.world.hold();
        if self.unfinished || world.hosts.is_poked(self.host) {
            return world.now();
        }
        let opens = self.opens.iter().filter_map(|(_, opened)| match opened.stage {
            Stage::Dialling { until, .. } => until,
            _ => None,
        });
        let links = self.links.iter().filter_map(|(_, link)| match link.phase {
            Phase::Shaking { until } | Phase::Draining { until } => until,
            Phase::Up => None,
        });
        opens.chain(links).chain(world.next_at()).min()
    }

    fn arm(&mut self) -> Armed {
        let poked = self.world.hold().hosts.is_poked(self.host);
        if poked || self.unfinished || !self.news.is_empty() { Armed::Busy } else { Armed::Ready }
    }

    fn wake_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

impl Drop for StreamDriver {
    fn drop(&mut self) {
        self.world.hold().leave(self.host);
    }
}
