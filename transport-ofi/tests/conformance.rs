//! Holds ofi:// to the seam's conformance suite on every provider that needs no hardware. What a fabric promises is in
//! `contract.rs`.

use std::net::TcpListener;
use std::sync::Arc;

use fabriq_transport_ofi::OfiTransport;
use testkit::Subject;
use transport_core::{Endpoint, Transport};

macro_rules! subjects {
    ($($name:ident = $query:literal;)*) => {$(
        #[derive(Debug)]
        struct $name;

        impl Subject for $name {
            fn transport(&self) -> Arc<dyn Transport> {
                Arc::new(OfiTransport::new())
            }
            fn fresh(&self) -> Endpoint {
                Endpoint::parse(concat!("ofi://127.0.0.1:*?", $query)).expect("a constant URL parses")
            }
            fn nobody(&self) -> Option<Endpoint> {
                // A port that was free a moment ago.
                let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).ok()?.port();
                Endpoint::parse(&format!(concat!("ofi://127.0.0.1:{}?", $query), port)).ok()
            }
            fn real_time(&self) -> bool {
                true
            }
        }
    )*};
}

subjects! {
    Tcp = "provider=tcp";
    Rxm = "provider=tcp;ofi_rxm";
    Net = "provider=net&endpoint=rdm";
    Shm = "provider=shm";
}

testkit::conformance!(tcp, Tcp, skipped = 1);
testkit::conformance_ciphered!(tcp_ciphered, Tcp, skipped = 2);
testkit::conformance!(rxm, Rxm, skipped = 1);
testkit::conformance!(net, Net, skipped = 1);
testkit::conformance_ciphered!(net_ciphered, Net, skipped = 2);
testkit::conformance!(shm, Shm, skipped = 1);
testkit::conformance_ciphered!(shm_ciphered, Shm, skipped = 2);
