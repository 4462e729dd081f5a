//! A driver with everything a test needs around it: waiting without sleeping, and a clock that the test may advance.

// Every test file takes what it needs.
#![allow(dead_code)]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport_core::{
    Armed, Completion, DownReason, Driver, DriverEnv, Endpoint, Flow, FramePool, Hello, Identity, LinkId,
    LinkLimits, Open, OpenError, OpenId, Part, Role, Transport, Tuning, Wake,
};

#[derive(Debug)]
pub(crate) struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

/// A driver and what it said that nobody asked for yet.
pub(crate) struct Host {
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) pool: FramePool,
    pub(crate) now: Instant,
    pub(crate) budget: usize,
    pub(crate) limits: LinkLimits,
    said: Vec<Completion>,
}

pub(crate) fn open(url: &str, role: Role) -> Open {
    Open {
        endpoint: Endpoint::parse(url).unwrap(),
        role,
        flow: Flow::Duplex,
        hello: Hello::NULL,
        identity: Identity { socket_type: "DEALER", ..Identity::default() },
        limits: LinkLimits::default(),
        tuning: Tuning::default(),
        listener: None,
    }
}

pub(crate) fn loopback(listener: &TcpListener) -> String {
    format!("tcp://{}", listener.local_addr().unwrap())
}

/// ZMTP 3.1 section "Greeting", NULL, as a client.
pub(crate) fn greeting() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[0] = 0xFF;
    bytes[8] = 1;
    bytes[9] = 0x7F;
    bytes[10] = 3;
    bytes[11] = 1;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

impl Host {
    pub(crate) fn new() -> Self {
        let pool = FramePool::new(256 << 20);
        let env = DriverEnv { receive_pool: pool.clone(), wake: Arc::new(NoWake), context: 1 };
        let driver = fabriq_transport_tcp::TcpTransport::new().driver(env).unwrap();
        let limits = LinkLimits::default();
        Self { driver, pool, now: Instant::now(), budget: 100, limits, said: Vec::new() }
    }

    /// Binds a port of the loopback.
    pub(crate) fn listen(&mut self) -> SocketAddr {
        self.bind("tcp://127.0.0.1:*").1.address().parse().unwrap()
    }

    /// Binds, and says what.
    pub(crate) fn bind(&mut self, url: &str) -> (OpenId, Endpoint) {
        let mut request = open(url, Role::Bind);
        request.limits = self.limits;
        let open = self.driver.open(request).unwrap();
        match self.until("Bound", |c| matches!(c, Completion::Bound { open: of, .. } if *of == open)) {
            Completion::Bound { endpoint, .. } => (open, endpoint),
            _ => unreachable!(),
        }
    }

    /// Binds or dials in vain, and says why.
    pub(crate) fn refused(&mut self, url: &str, role: Role) -> OpenError {
        let failed = match self.driver.open(open(url, role)) {
            Err(error) => return error,
            Ok(open) => {
                self.until("Failed", |c| matches!(c, Completion::Failed { open: of, .. } if *of == open))
            }
        };
        match failed {
            Completion::Failed { error, .. } => error,
            _ => unreachable!(),
        }
    }

    /// One poll. What it says is returned and forgotten.
    pub(crate) fn poll(&mut self) -> Vec<Completion> {
        let mut out = std::mem::take(&mut self.said);
        self.driver.poll(self.now, &mut out, self.budget);
        out
    }

    /// Polls, and keeps what it says.
    pub(crate) fn go_on(&mut self) {
        self.driver.poll(self.now, &mut self.said, self.budget);
    }

    /// Polls and waits until nothing more happens by itself.
    pub(crate) fn idle(&mut self) {
        loop {
            let before = self.said.len();
            self.driver.poll(self.now, &mut self.said, self.budget);
            if self.said.len() == before && self.driver.arm() == Armed::Ready && !self.wait(20) {
                return;
            }
        }
    }

    pub(crate) fn wait(&self, milliseconds: i64) -> bool {
        let fd = self.driver.wake_fd().unwrap();
        let time = Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).unwrap() > 0
    }

    /// Waits for a completion, in the order in which they come; what comes before it is forgotten.
    pub(crate) fn until(&mut self, what: &str, mut wanted: impl FnMut(&Completion) -> bool) -> Completion {
        let mut patience = 100;
        loop {
            let mut said = std::mem::take(&mut self.said).into_iter();
            let found = said.by_ref().find(|completion| wanted(completion));
            self.said = said.collect();
            if let Some(found) = found {
                return found;
            }
            self.driver.poll(self.now, &mut self.said, self.budget);
            if self.said.is_empty() && self.driver.arm() == Armed::Ready && !self.wait(100) {
                patience -= 1;
                assert!(patience > 0, "{what} does not come: {:?}", self.driver);
            }
        }
    }

    /// Like `until`, while another driver runs too.
    pub(crate) fn until_with(
        &mut self,
        other: &mut Self,
        what: &str,
        wanted: impl Fn(&Completion) -> bool,
    ) -> Completion {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.said.iter().any(&wanted) {
            assert!(Instant::now() < end, "{what} does not come");
            other.driver.poll(other.now, &mut other.said, other.budget);
            self.driver.poll(self.now, &mut self.said, self.budget);
        }
        self.until(what, wanted)
    }

    pub(crate) fn up(&mut self) -> LinkId {
        match self.until("Up", |c| matches!(c, Completion::Up { .. })) {
            Completion::Up { link, .. } => link,
            _ => unreachable!(),
        }
    }

    pub(crate) fn part(&mut self, link: LinkId) -> Part {
        let received = self.until("Received", |c| match c {
            Completion::Received { link: of, .. } => *of == link,
            Completion::Down { link: of, reason } => {
                assert_ne!(*of, link, "down instead of a part: {reason}");
                false
            }
            _ => false,
        });
        match received {
            Completion::Received { part, .. } => part,
            _ => unreachable!(),
        }
    }

    /// Waits for the end; no part may come before it.
    pub(crate) fn down(&mut self, link: LinkId) -> DownReason {
        let down = self.until("Down", |c| {
            assert!(!matches!(c, Completion::Received { link: of, .. } if *of == link), "a part: {c:?}");
            matches!(c, Completion::Down { link: of, .. } if *of == link)
        });
        match down {
            Completion::Down { reason, .. } => reason,
            _ => unreachable!(),
        }
    }

    /// Memory of this process, in KiB.
    pub(crate) fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// A seeded generator (xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}
