//! Simulated multicast under the conformance suite, and what the suite cannot see: exact gaps, no splices.

use std::sync::Arc;

use fabriq_testkit::Subject;
use fabriq_testkit::media::{Conditions, Multicast};
use transport_core::{Endpoint, Transport};

fabriq_testkit::conformance!(calm, Multicast::new(1), skipped = 22);
fabriq_testkit::conformance!(rough, Rough(Multicast::with(2, ROUGH)), skipped = 23);
fabriq_testkit::conformance_faulty!(faulty, Multicast::new(4), seed = 4, skipped = 22);

const ROUGH: Conditions = Conditions { loss_permille: 100, duplicate_permille: 50, reorder_permille: 100 };

/// Multicast in bad weather.
struct Rough(Multicast);

impl Subject for Rough {
    fn transport(&self) -> Arc<dyn Transport> {
        self.0.transport()
    }
    fn fresh(&self) -> Endpoint {
        self.0.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        None
    }
    fn real_time(&self) -> bool {
        false
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        vec![("empty_and_huge_messages", "without repair, no message of a thousand packets survives")]
    }
}
