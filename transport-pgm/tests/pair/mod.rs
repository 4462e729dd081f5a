//! Two drivers on the system's sockets, a sender and a receiver, for the tests that poll them by hand. Holds no test.

// Every test file takes what it needs.
#![allow(dead_code)]

use std::time::Instant;

use fabriq_transport_pgm::PgmTransport;
use testkit::Bell;
use transport_core::{
    Completion, Driver, DriverEnv, Endpoint, Flow, FramePool, Hello, Identity, LinkId, LinkLimits, Open,
    Role, Transport, Tuning,
};

pub(crate) fn driver() -> Box<dyn Driver> {
    let env = DriverEnv { receive_pool: FramePool::new(16 << 20), wake: Bell::new(), context: 1 };
    PgmTransport::over_udp().driver(env).expect("every host can")
}

pub(crate) fn request(url: &str, flow: Flow) -> Open {
    Open {
        endpoint: Endpoint::parse(url).expect("a URL"),
        role: Role::Bind,
        flow,
        hello: Hello::NULL,
        identity: Identity::default(),
        limits: LinkLimits::default(),
        tuning: Tuning::default(),
        listener: None,
    }
}

/// Polls both until the first has a link; the link, and what its peer is called.
pub(crate) fn link(driver: &mut Box<dyn Driver>, other: &mut Box<dyn Driver>) -> (LinkId, String) {
    let mut out = Vec::new();
    loop {
        driver.poll(Instant::now(), &mut out, 64);
        let up = |said| match said {
            Completion::Up { link, peer, .. } => Some((link, peer.address)),
            _ => None,
        };
        if let Some(link) = out.drain(..).find_map(up) {
            return link;
        }
        other.poll(Instant::now(), &mut Vec::new(), 64);
    }
}
