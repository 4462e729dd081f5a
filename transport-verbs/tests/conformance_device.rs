//! Holds the driver to the seam's conformance suite, on a real RDMA device or soft-RoCE. Needs one; see the feature
//! `device`. In memory: `conformance.rs`.

use std::net::TcpListener;
use std::sync::Arc;

use fabriq_transport_verbs::{VerbsTransport, device_address};
use testkit::Subject;
use transport_core::{Endpoint, Transport};

#[derive(Debug)]
struct Device;

impl Subject for Device {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(VerbsTransport::new())
    }

    fn fresh(&self) -> Endpoint {
        VerbsTransport::new()
            .local("verbs")
            .expect("an RDMA device with an IPv4 address; these tests need one")
    }

    fn nobody(&self) -> Option<Endpoint> {
        // A port that was free a moment ago. Ports of RDMA's are their own, but few programs use any.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).ok()?.port();
        Endpoint::parse(&format!("verbs://{}:{port}", device_address()?)).ok()
    }

    fn real_time(&self) -> bool {
        true
    }
}

testkit::conformance!(verbs, Device, skipped = 1);
testkit::conformance_ciphered!(verbs_ciphered, Device, skipped = 2);
