//! Holds tcp, over loopback, and ipc, by paths and by abstract names, to the seam's conformance suite. Says nothing about
//! ZMTP; see `wire.rs`.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// A path in the directory for temporary files.
#[derive(Debug)]
struct Path;

impl Subject for Path {
    fn transport(&self) -> Arc<dyn Transport> {
        Tcp.transport()
    }

    fn fresh(&self) -> Endpoint {
        Endpoint::parse("ipc://*").expect("a constant URL parses")
    }

    fn nobody(&self) -> Option<Endpoint> {
        Endpoint::parse("ipc://target/nobody/is/here").ok()
    }

    fn real_time(&self) -> bool {
        true
    }
}

/// A name in the abstract namespace.
#[derive(Debug)]
struct Abstract;

impl Subject for Abstract {
    fn transport(&self) -> Arc<dyn Transport> {
        Tcp.transport()
    }

    fn fresh(&self) -> Endpoint {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Endpoint::parse(&format!("ipc://@fabriq-conformance-{process}-{number}")).expect("the URL parses")
    }

    fn nobody(&self) -> Option<Endpoint> {
        Some(self.fresh())
    }

    fn real_time(&self) -> bool {
        true
    }
}

/// The same, for the middleware that makes up refusals.
struct Refusing<S>(S);

impl<S: Subject> Subject for Refusing<S> {
    fn transport(&self) -> Arc<dyn Transport> {
        self.0.transport()
    }
    fn fresh(&self) -> Endpoint {
        self.0.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        self.0.nobody()
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
testkit::conformance_faulty!(tcp_faulty, Refusing(Tcp), seed = 6, skipped = 3);

testkit::conformance!(ipc_path, Path, skipped = 1);
testkit::conformance_ciphered!(ipc_path_ciphered, Path, skipped = 2);
testkit::conformance_faulty!(ipc_path_faulty, Refusing(Path), seed = 7, skipped = 3);

testkit::conformance!(ipc_abstract, Abstract, skipped = 1);
