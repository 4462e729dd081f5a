//! The helper thread that resolves host names, since the system's resolver blocks. Started by the first name; ends with
//! its driver.

use std::net::{SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use nix::ifaddrs::getifaddrs;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use transport_core::{OpenId, Wake};

use crate::limits::{NAME_ADDRESSES_MAX, NAMES_WAITING_MAX};
use crate::place::{Host, Place};

/// What is to be resolved: the target and, to dial from a given place, the source.
#[derive(Debug)]
pub struct Question {
    /// Who asks.
    pub open: OpenId,
    /// Where to.
    pub target: Place,
    /// Where from.
    pub source: Option<Place>,
    /// Whether IPv6 addresses are of use.
    pub ipv6: bool,
    /// Whether `target` is of this host, to listen there: then a name may be that of an interface. So may a source's always.
    pub here: bool,
}

/// The addresses of a question, or why there are none.
#[derive(Debug)]
pub struct Answer {
    /// Who asked.
    pub open: OpenId,
    /// The addresses, or what to tell the user.
    pub result: Result<Resolved, String>,
}

/// What a question's places are called in numbers.
#[derive(Debug)]
pub struct Resolved {
    /// Of the target, in the order to try them.
    pub targets: Vec<SocketAddr>,
    /// Of the source.
    pub sources: Vec<SocketAddr>,
}

/// The thread and the two queues to and from it.
#[derive(Debug)]
pub struct Names {
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
    bell: Arc<OwnedFd>,
}

impl Names {
    /// Starts the thread.
    pub fn start(wake: Arc<dyn Wake>) -> Result<Self, Errno> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (questions, inbox) = mpsc::sync_channel::<Question>(NAMES_WAITING_MAX);
        let (outbox, answers) = mpsc::channel();
        let rung = Arc::clone(&bell);
        // Never joined: the system's resolver may take half a minute, and nothing waits for it. It ends with the
        // question it is at once the driver has dropped its end.
        std::thread::Builder::new()
            .name("fabriq-names".to_owned())
            .spawn(move || {
                for question in inbox {
                    let answer = Answer { open: question.open, result: resolve(&question) };
                    if outbox.send(answer).is_err() {
                        return;
                    }
                    // The bell is for whoever sleeps on the driver's descriptor, the wake-up for everyone else.
                    let _ = rustix::io::write(&rung, &1u64.to_ne_bytes());
                    wake.wake();
                }
            })
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        Ok(Self { questions, answers, bell })
    }

    /// Readable when there are answers.
    pub fn bell(&self) -> impl AsFd {
        &self.bell
    }

    /// Queues a question; `false` when too many wait.
    pub fn ask(&self, question: Question) -> bool {
        !matches!(
            self.questions.try_send(question),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
        )
    }

    /// Makes the bell quiet. Before the answers are taken, so that none is left without a bell.
    pub fn hush(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
    }

    /// The next answer that has come.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

fn resolve(question: &Question) -> Result<Resolved, String> {
    let sources = match &question.source {
        Some(source) => addresses(source, question.ipv6, true)?,
        None => Vec::new(),
    };
    Ok(Resolved { targets: addresses(&question.target, question.ipv6, question.here)?, sources })
}

/// The addresses of an interface of that name; none, if there is no such interface.
fn of_interface(name: &str, port: u16, ipv6: bool) -> Vec<SocketAddr> {
    let Ok(listed) = getifaddrs() else { return Vec::new() };
    let found = listed.filter(|it| it.interface_name == name).filter_map(|it| it.address);
    let mut found: Vec<_> = found
        .filter_map(|address| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => Some(SocketAddr::new(v4.ip().into(), port)),
            // With its zone, which link-local addresses need.
            (_, Some(v6)) => Some(SocketAddrV6::new(v6.ip(), port, 0, v6.scope_id()).into()),
            _ => None,
        })
        .filter(|address| ipv6 || address.is_ipv4())
        .take(NAME_ADDRESSES_MAX)
        .collect();
    // One is listened at: the one that everybody can reach.
    found.sort_by_key(|address| !address.is_ipv4());
    found
}

fn addresses(place: &Place, ipv6: bool, here: bool) -> Result<Vec<SocketAddr>, String> {
    if let Some(numeric) = place.numeric(ipv6) {
        return numeric.map(|address| vec![address]).map_err(|error| error.to_string());
    }
    let Host::Name(name) = &place.host else {
        return Ok(Vec::new());
    };
    if here {
        let found = of_interface(name, place.port, ipv6);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let found: Vec<SocketAddr> = (name.as_str(), place.port)
        .to_socket_addrs()
        .map_err(|error| {
            format!("the name `{name}` does not resolve: {error}; check it with `getent hosts {name}`")
        })?
        .collect();
    let none = found.is_empty();
    let mut usable: Vec<SocketAddr> =
        found.into_iter().filter(|address| ipv6 || address.is_ipv4()).take(NAME_ADDRESSES_MAX).collect();
    usable.dedup();
    match usable.is_empty() {
        false => Ok(usable),
        true if none => {
            Err(format!("the name `{name}` has no addresses; check it with `getent hosts {name}`"))
        }
        true => Err(format!("the name `{name}` has IPv6 addresses only; switch IPv6 on for this socket")),
    }
}
