//! What is refused, when, and in which words: sockets that go both ways, interfaces that are not there, raw packets without the
//! permission.

mod pair;

use fabriq_transport_pgm::PgmTransport;
use pair::request;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use testkit::Bell;
use transport_core::{Driver, DriverEnv, Endpoint, Flow, FramePool, OpenError, Transport};

fn transport(url: &str) -> PgmTransport {
    if url.starts_with("pgm") { PgmTransport::over_ip() } else { PgmTransport::over_udp() }
}

fn driver(url: &str) -> Box<dyn Driver> {
    let env = DriverEnv { receive_pool: FramePool::new(1 << 20), wake: Bell::new(), context: 1 };
    transport(url).driver(env).expect("every host can")
}

/// What an open is refused with.
fn refusal(url: &str, flow: Flow) -> OpenError {
    let mut driver = driver(url);
    let refused = driver.open(request(url, flow)).expect_err(url);
    let mut out = Vec::new();
    driver.poll(std::time::Instant::now(), &mut out, 64);
    assert!(out.is_empty(), "{url} was refused, and then: {out:?}");
    refused
}

#[test]
fn what_goes_both_ways_is_refused_before_anything_exists() {
    for url in ["epgm://lo;239.192.1.1:5555", "pgm://nosuch0;239.192.1.1:5555"] {
        let endpoint = Endpoint::parse(url).expect("a URL");
        let transport = transport(url);
        let refused = transport.capabilities(&endpoint, Flow::Duplex).expect_err("PUSH is not for multicast");
        assert!(
            matches!(&refused, OpenError::Incompatible { why, .. } if why.contains("use PUB and SUB")),
            "{refused}"
        );
        // Whether the interface is there is not asked yet.
        for flow in [Flow::Send, Flow::Recv] {
            assert_eq!(transport.capabilities(&endpoint, flow).map(|can| can.flow), Ok(flow));
        }
    }
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    for flow in [Flow::Send, Flow::Recv] {
        for (url, want) in [
            ("epgm://nosuch0;239.192.1.1:5555", "there is no interface nosuch0"),
            ("epgm://192.0.2.77;239.192.1.1:5555", "no interface has the address 192.0.2.77"),
            ("epgm://lo;10.0.0.1:5555", "choose one of 239.192.0.0/14"),
            ("epgm://lo;239.192.1.1:5555?speed=9", "there are rate_kbit"),
        ] {
            let said = refusal(url, flow).to_string();
            assert!(said.contains(want) && said.contains(url), "{said}");
        }
    }
}

#[test]
fn raw_packets_without_the_permission_are_refused_with_three_ways_out() {
    // Capabilities belong to a thread, and this one ends with the test.
    let held = capabilities(None).expect("every thread has some");
    let mut fewer = held;
    fewer.effective.remove(CapabilitySet::NET_RAW);
    set_capabilities(None, fewer).expect("anybody may give one up");
    let unavailable = PgmTransport::over_ip().unavailable().expect("pgm:// needs a permission");
    assert!(unavailable.contains("CAP_NET_RAW"), "{unavailable}");
    assert_eq!(PgmTransport::over_udp().unavailable(), None, "epgm:// needs none");
    for flow in [Flow::Send, Flow::Recv] {
        let url = "pgm://lo;239.192.1.1:5555";
        let said = refusal(url, flow).to_string();
        for want in [url, "CAP_NET_RAW", "setcap", "sudo", "epgm://"] {
            assert!(said.contains(want), "{said}");
        }
    }
}
