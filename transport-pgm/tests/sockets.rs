//! The driver on the system's sockets, by way of the loopback interface, under the conformance suite. What needs several hosts is
//! tested in ci/multicast.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fabriq_transport_pgm::PgmTransport;
use testkit::Subject;
use transport_core::{Endpoint, Transport};

/// A network, by its scheme and its groups.
struct Loopback {
    scheme: &'static str,
    /// lo, or one that is there where ci/multicast runs this: the system has no IPv6 multicast on lo.
    interface: &'static str,
    v6: bool,
}

/// Numbers that no other test of this process, and hardly one of another, has.
fn unique() -> (u16, u16) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed) as u16;
    (std::process::id() as u16, next)
}

impl Subject for Loopback {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(if self.scheme == "pgm" { PgmTransport::over_ip() } else { PgmTransport::over_udp() })
    }
    fn fresh(&self) -> Endpoint {
        let ((process, next), Self { scheme, interface, .. }) = (unique(), self);
        let [a, b] = process.to_be_bytes();
        let group = if self.v6 {
            format!("ff08::{process:x}:{next:x}")
        } else {
            format!("239.{}.{a}.{b}", 192 + next / 256 % 4)
        };
        let port = 20_000 + next % 10_000;
        // A short queue here, so that the suite can fill it; no rate, so that it takes no longer than it must.
        let url = format!("{scheme}://{interface};{group}:{port}?waiting_parts=64&rate_kbit=0");
        Endpoint::parse(&url).expect("a well-formed URL")
    }
    fn nobody(&self) -> Option<Endpoint> {
        None
    }
    fn real_time(&self) -> bool {
        true
    }
}

testkit::conformance!(udp, Loopback { scheme: "epgm", interface: "lo", v6: false }, skipped = 22);
testkit::conformance_faulty!(
    udp_faulty,
    Loopback { scheme: "epgm", interface: "lo", v6: false },
    seed = 7,
    skipped = 22
);
#[cfg(feature = "multicast")]
testkit::conformance!(udp_v6, Loopback { scheme: "epgm", interface: "eth0", v6: true }, skipped = 22);
#[cfg(feature = "multicast")]
testkit::conformance!(raw, Loopback { scheme: "pgm", interface: "eth0", v6: false }, skipped = 22);
#[cfg(feature = "multicast")]
testkit::conformance!(raw_v6, Loopback { scheme: "pgm", interface: "eth0", v6: true }, skipped = 22);
