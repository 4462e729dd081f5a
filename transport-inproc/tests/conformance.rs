//! The seam's promises, held against inproc. Tests nothing of its own beyond what the suite cannot know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fabriq_transport_inproc::InprocTransport;
use testkit::Subject;
use transport_core::{Endpoint, Transport};

struct SubjectImpl;

impl Subject for SubjectImpl {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(InprocTransport::new())
    }
    fn fresh(&self) -> Endpoint {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("inproc://conformance {}", NEXT.fetch_add(1, Ordering::Relaxed));
        Endpoint::parse(&name).expect("a valid name")
    }
    fn nobody(&self) -> Option<Endpoint> {
        // A connect to a name that nobody has bound waits.
        None
    }
    fn real_time(&self) -> bool {
        false
    }
    fn threaded(&self) -> bool {
        true
    }
}

testkit::conformance!(inproc, SubjectImpl, skipped = 2);
testkit::conformance_ciphered!(inproc_ciphered, SubjectImpl, skipped = 3);
testkit::conformance_faulty!(inproc_faulty, SubjectImpl, seed = 7, skipped = 3);
