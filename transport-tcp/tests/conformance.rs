//! Holds tcp to the seam's conformance suite, over loopback. Says nothing about ZMTP; see `wire.rs`.

use std::net::TcpListener;
use std::sync::Arc;

use testkit::Subject;
use transport_core::{Endpoint, Transport};

#[derive(Debug)]
struct Tcp;

impl Subject for Tcp {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(fabriq_transport_tcp::TcpTransport::new())
    }

    fn fresh(&self) -> Endpoint {
        Endpoint::parse("tcp://127.0.0.1:*").expect("a constant URL parses")
    }

    fn nobody(&self) -> Option<Endpoint> {
        // A port that was free a moment ago. The system hands ports out in a pseudo-random order, so the next test to
        // bind one hardly gets this one.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).ok()?;
        Endpoint::parse(&format!("tcp://{address}")).ok()
    }

    fn real_time(&self) -> bool {
        true
    }
}

/// The same, for the middleware that makes up refusals.
struct Refusing;

impl Subject for Refusing {
    fn transport(&self) -> Arc<dyn Transport> {
        Tcp.transport()
    }
    fn fresh(&self) -> Endpoint {
        Tcp.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        Tcp.nobody()
    }
    fn real_time(&self) -> bool {
        true
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        let why = "real time polls many times after a Writable, and a refusal may be made up meanwhile";
        vec![("writable_follows_a_room_of_zero", why)]
    }
}

testkit::conformance!(tcp, Tcp, skipped = 1);
testkit::conformance_ciphered!(tcp_ciphered, Tcp, skipped = 2);
testkit::conformance_faulty!(tcp_faulty, Refusing, seed = 6, skipped = 3);
