//! What the conformance suite needs to know of a transport under test. The suite never looks at a scheme.

use std::sync::Arc;

use transport_core::{Endpoint, Transport};

/// A transport under test. Each call of the suite makes a new one.
pub trait Subject {
    /// The transport. Drivers made from it in one test must be able to reach each other.
    fn transport(&self) -> Arc<dyn Transport>;

    /// An endpoint to bind that no other test uses; a wildcard where the transport has one.
    fn fresh(&self) -> Endpoint;

    /// An endpoint where nobody listens, to dial; `None` if the transport has no such thing.
    fn nobody(&self) -> Option<Endpoint>;

    /// Whether time is the kernel's. If not, the suite invents the clock and never sleeps.
    fn real_time(&self) -> bool;

    /// Whether two drivers may be driven by two threads that sleep. Not so for media whose clock is invented.
    fn threaded(&self) -> bool {
        self.real_time()
    }

    /// Properties that do not hold for this subject, each with the reason. They count as skipped, and are listed.
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
}

impl<S: Subject + ?Sized> Subject for &S {
    fn transport(&self) -> Arc<dyn Transport> {
        (**self).transport()
    }
    fn fresh(&self) -> Endpoint {
        (**self).fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        (**self).nobody()
    }
    fn real_time(&self) -> bool {
        (**self).real_time()
    }
    fn threaded(&self) -> bool {
        (**self).threaded()
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        (**self).exempt()
    }
}
