//! A mechanism as middleware: says hello by a command, admits late, ciphers every part that is not a command. The cipher
//! is a toy; what it proves is that the seam carries a real one.
//!
//! ```text
//! inner Up --> our HELLO command posted; the caller knows of no link yet
//! inner Received HELLO --> ask somebody else (here: wait ADMISSION) --> Up
//! part out: 8 bytes of number, then the bytes xor a key stream that depends on the number
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{
    Armed, Capabilities, Close, Completion, Driver, DriverEnv, Endpoint, Flow, Frame, Grant, LinkId, Open,
    OpenError, OpenId, Part, PeerInfo, Refused, RefusedReason, Role, Transport,
};

/// How long the other side of ZAP thinks.
const ADMISSION: Duration = Duration::from_millis(1);
/// Bytes by which a ciphered part is longer.
const OVERHEAD: usize = 8;
/// What both sides say first.
const HELLO: &[u8] = b"\x05HELLO";

/// Wraps a duplex transport.
#[derive(Debug)]
pub struct Ciphered(Arc<dyn Transport>);

impl Ciphered {
    /// Ciphers what travels over `inner`, which must be duplex.
    pub fn new(inner: Arc<dyn Transport>) -> Self {
        Self(inner)
    }
}

impl Transport for Ciphered {
    fn schemes(&self) -> &'static [&'static str] {
        self.0.schemes()
    }
    fn capabilities(&self, endpoint: &Endpoint, flow: Flow) -> Result<Capabilities, OpenError> {
        let capabilities = self.0.capabilities(endpoint, flow)?;
        if capabilities.flow == Flow::Duplex {
            return Ok(capabilities);
        }
        let why = "a mechanism needs both ways".to_owned();
        Err(OpenError::Incompatible { endpoint: endpoint.clone(), why })
    }
    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let inner = self.0.driver(env)?;
        Ok(Box::new(CipheredDriver {
            inner,
            opens: BTreeMap::new(),
            links: BTreeMap::new(),
            said: VecDeque::new(),
            heard: Vec::new(),
        }))
    }
}

#[derive(Debug)]
struct CipheredDriver {
    inner: Box<dyn Driver>,
    // To say what became of a connect whose link never was admitted.
    opens: BTreeMap<OpenId, (Role, Endpoint)>,
    links: BTreeMap<LinkId, Session>,
    /// For the next poll.
    said: VecDeque<Completion>,
    heard: Vec<Completion>,
}

#[derive(Debug)]
struct Session {
    open: OpenId,
    state: State,
    sealed: u64,
    opened: u64,
}

#[derive(Debug)]
enum State {
    /// HELLO is missing.
    Waiting(Box<PeerInfo>),
    /// Somebody else thinks. The peer may be further, and its commands come already.
    Asking {
        peer: Box<PeerInfo>,
        until: Instant,
        early: Vec<Part>,
    },
    Up,
    /// Its open was closed before it was admitted: nobody will ever hear of it.
    Silenced,
}

impl CipheredDriver {
    fn up(&mut self, link: LinkId) -> Option<&mut Session> {
        self.links.get_mut(&link).filter(|session| matches!(session.state, State::Up))
    }

    fn admit(&mut self, now: Instant) {
        for (link, session) in &mut self.links {
            if !matches!(&session.state, State::Asking { until, .. } if *until <= now) {
                continue;
            }
            let State::Asking { peer, early, .. } = std::mem::replace(&mut session.state, State::Up) else {
                continue;
            };
            let (link, open) = (*link, session.open);
            self.said.push_back(Completion::Up { link, open, peer });
            self.said.extend(early.into_iter().map(|part| Completion::Received { link, part }));
        }
    }

    fn hear(&mut self, now: Instant, heard: Completion) {
        let (link, passes) = match &heard {
            Completion::Up { link, open, peer } => {
                let state = State::Waiting(peer.clone());
                self.links.insert(*link, Session { open: *open, state, sealed: 0, opened: 0 });
                self.inner.post_send(*link, Part::command(HELLO)).expect("a new link takes a command");
                self.inner.flush();
                return;
            }
            Completion::Failed { open, .. } => {
                self.opens.remove(open);
                return self.said.push_back(heard);
            }
            heard_of => match heard_of.link() {
                Some(link) => (link, self.up(link).is_some()),
                None => return self.said.push_back(heard),
            },
        };
        let Some(session) = self.links.get_mut(&link) else { panic!("{heard:?} of an unknown link") };
        let says = match heard {
            Completion::Received { part, .. } if !passes => {
                assert!(part.flags.command(), "a part before the mechanism was done: {part:?}");
                match &mut session.state {
                    State::Waiting(peer) => {
                        assert_eq!(part.body, HELLO, "not a peer of this mechanism");
                        let (peer, until) = (peer.clone(), now + ADMISSION);
                        session.state = State::Asking { peer, until, early: Vec::new() };
                    }
                    State::Asking { early, .. } => early.push(part),
                    State::Silenced | State::Up => {}
                }
                return;
            }
            Completion::Received { part, .. } if part.flags.command() => Completion::Received { link, part },
            Completion::Received { part, .. } => {
                let (number, part) = unseal(part);
                assert_eq!(number, session.opened, "parts are missing, or came twice, or in another order");
                session.opened += 1;
                Completion::Received { link, part }
            }
            // Our HELLO is not the caller's.
            Completion::Sent { through, .. } if passes && through > 1 => {
                Completion::Sent { link, through: through - 1 }
            }
            Completion::Returned { part, .. } if passes && part.flags.command() => {
                Completion::Returned { link, part }
            }
            // What comes back is ciphertext of a session that has ended, so it must be opened here: nobody else can.
            Completion::Returned { part, .. } if passes => {
                Completion::Returned { link, part: unseal(part).1 }
            }
            Completion::Down { reason, .. } => {
                let Some(session) = self.links.remove(&link) else { return };
                let open = session.open;
                match (session.state, self.opens.get(&open)) {
                    (State::Up, _) => Completion::Down { link, reason },
                    // Everything the peer had to say has come; the answer that was still owed comes with it.
                    (State::Asking { peer, early, .. }, _) => {
                        self.said.push_back(Completion::Up { link, open, peer });
                        self.said.extend(early.into_iter().map(|part| Completion::Received { link, part }));
                        Completion::Down { link, reason }
                    }
                    (State::Waiting(_), Some((Role::Connect, endpoint))) => {
                        let (endpoint, why) = (endpoint.clone(), format!("the mechanism failed: {reason}"));
                        let error = OpenError::Unreachable { endpoint, why, errno: 0 };
                        Completion::Failed { open, error }
                    }
                    _ => return,
                }
            }
            heard if passes && !matches!(heard, Completion::Sent { .. }) => heard,
            _ => return,
        };
        self.said.push_back(says);
    }
}

impl Driver for CipheredDriver {
    fn open(&mut self, mut request: Open) -> Result<OpenId, OpenError> {
        request.limits.part_max = request.limits.part_max.map(|max| max + OVERHEAD as u64);
        let (role, endpoint) = (request.role, request.endpoint.clone());
        let open = self.inner.open(request)?;
        self.opens.insert(open, (role, endpoint));
        Ok(open)
    }

    fn close_open(&mut self, open: OpenId) {
        self.inner.close_open(open);
        self.opens.remove(&open);
        for (link, session) in &mut self.links {
            if session.open == open && !matches!(session.state, State::Up) {
                session.state = State::Silenced;
                self.inner.close_link(*link, Close::Abort);
            }
        }
        let about = |said: &Completion| match said {
            Completion::Bound { open: about, .. }
            | Completion::Failed { open: about, .. }
            | Completion::Progress { open: about, .. } => *about == open,
            _ => false,
        };
        self.said.retain(|said| !about(said));
        // An Up that waits here is of a link that was admitted, and which nobody knows.
        let unknown = self.said.iter().filter_map(|said| match said {
            Completion::Up { link, open: about, .. } if *about == open => Some(*link),
            _ => None,
        });
        for link in unknown.collect::<Vec<_>>() {
            self.said.retain(|said| said.link() != Some(link));
            if let Some(session) = self.links.get_mut(&link) {
                session.state = State::Silenced;
                self.inner.close_link(link, Close::Abort);
            }
        }
    }

    fn close_link(&mut self, link: LinkId, how: Close) {
        if self.up(link).is_some() {
            // What is on its way to the caller is dropped, as the inner driver drops the rest.
            let arrived =
                |said: &Completion| matches!(said, Completion::Received { link: of, .. } if *of == link);
            self.said.retain(|said| !arrived(said));
            self.inner.close_link(link, how);
        }
    }

    fn room(&self, link: LinkId) -> usize {
        let up = self.links.get(&link).is_some_and(|session| matches!(session.state, State::Up));
        if up { self.inner.room(link) } else { 0 }
    }

    fn post_send(&mut self, link: LinkId, part: Part) -> Result<(), Refused> {
        if self.up(link).is_none() {
            return Err(Refused { part, reason: RefusedReason::Closed });
        }
        if part.flags.command() {
            return self.inner.post_send(link, part);
        }
        // Sealed only when there is room, so that ciphertext never has to go back into a pipe. With no room the inner
        // driver is asked with the plaintext, to learn why not.
        if self.inner.room(link) == 0 {
            let refused = self.inner.post_send(link, part).expect_err("there is no room");
            return Err(refused);
        }
        let Some(session) = self.links.get_mut(&link) else {
            return Err(Refused { part, reason: RefusedReason::Closed });
        };
        let sealed = seal(session.sealed, &part);
        session.sealed += 1;
        self.inner.post_send(link, sealed).expect("there is room");
        Ok(())
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn grant(&mut self, link: LinkId, grant: Grant) {
        if self.up(link).is_some() {
            self.inner.grant(link, grant);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, budget: usize) {
        self.admit(now);
        // Much of what the inner driver says is not for the caller, and silence would mean that nothing more comes.
        while self.said.len() < budget {
            let mut heard = std::mem::take(&mut self.heard);
            self.inner.poll(now, &mut heard, budget - self.said.len());
            let silent = heard.is_empty();
            heard.drain(..).for_each(|heard| self.hear(now, heard));
            self.heard = heard;
            if silent {
                break;
            }
        }
        out.extend(self.said.drain(..budget.min(self.said.len())));
    }

    fn deadline(&self) -> Option<Instant> {
        let asking = self.links.values().filter_map(|session| match &session.state {
            State::Asking { until, .. } => Some(*until),
            _ => None,
        });
        asking.chain(self.inner.deadline()).min()
    }

    fn arm(&mut self) -> Armed {
        if self.said.is_empty() { self.inner.arm() } else { Armed::Busy }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wake_fd()
    }

    fn copied_bytes(&self) -> u64 {
        self.inner.copied_bytes()
    }
}

fn seal(number: u64, part: &Part) -> Part {
    let mut bytes = Vec::with_capacity(OVERHEAD + part.body.len());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&part.body);
    cipher(number, &mut bytes[OVERHEAD..]);
    Part { body: Frame::from(bytes), flags: part.flags }
}

fn unseal(part: Part) -> (u64, Part) {
    let (number, sealed) = part.body.split_first_chunk::<OVERHEAD>().expect("a sealed part has a number");
    let number = u64::from_le_bytes(*number);
    let mut bytes = sealed.to_vec();
    cipher(number, &mut bytes);
    (number, Part { body: Frame::from(bytes), flags: part.flags })
}

fn cipher(number: u64, bytes: &mut [u8]) {
    let mut key = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ key).to_le_bytes();
        key = key.rotate_left(9).wrapping_mul(0x2545_f491_4f6c_dd1d);
    }
    rest.iter_mut().zip(key.to_le_bytes()).for_each(|(byte, key)| *byte ^= key);
}
