//! Holds ofi:// to the seam's conformance suite on every provider that needs no hardware, and by the feature `device` on verbs,
//! which needs some. What a fabric promises is in `contract.rs`.

#[cfg(feature = "device")]
mod rdma_device;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use fabriq_transport_ofi::OfiTransport;
use testkit::Subject;
use transport_core::{Endpoint, Transport};

macro_rules! subjects {
    ($($(#[$cfg:meta])* $name:ident = $query:literal at $address:expr;)*) => {$(
        $(#[$cfg])*
        #[derive(Debug)]
        struct $name;

        $(#[$cfg])*
        impl Subject for $name {
            fn transport(&self) -> Arc<dyn Transport> {
                Arc::new(OfiTransport::new())
            }
            fn fresh(&self) -> Endpoint {
                Endpoint::parse(&format!("ofi://{}:*?{}", $address, $query)).expect("the URL parses")
            }
            fn nobody(&self) -> Option<Endpoint> {
                // A port that was free a moment ago.
                let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).ok()?.port();
                Endpoint::parse(&format!("ofi://{}:{port}?{}", $address, $query)).ok()
            }
            fn real_time(&self) -> bool {
                true
            }
        }
    )*};
}

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

subjects! {
    Tcp = "provider=tcp" at LOOPBACK;
    Rxm = "provider=tcp;ofi_rxm" at LOOPBACK;
    Net = "provider=net&endpoint=rdm" at LOOPBACK;
    Shm = "provider=shm" at LOOPBACK;
    #[cfg(feature = "device")]
    Verbs = "provider=verbs" at rdma_device::address();
}

testkit::conformance!(tcp, Tcp, skipped = 1);
testkit::conformance_ciphered!(tcp_ciphered, Tcp, skipped = 2);
testkit::conformance!(rxm, Rxm, skipped = 1);
testkit::conformance!(net, Net, skipped = 1);
testkit::conformance_ciphered!(net_ciphered, Net, skipped = 2);
testkit::conformance!(shm, Shm, skipped = 1);
testkit::conformance_ciphered!(shm_ciphered, Shm, skipped = 2);
#[cfg(feature = "device")]
testkit::conformance!(verbs, Verbs, skipped = 1);
#[cfg(feature = "device")]
testkit::conformance_ciphered!(verbs_ciphered, Verbs, skipped = 2);
