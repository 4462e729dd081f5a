//! Transports around transports: one that ciphers and admits late, one that makes trouble by seed. Neither knows what it
//! wraps, so each is also a test that the seam can be stacked.

mod cipher;
mod faults;

use std::sync::Arc;

use transport_core::{Endpoint, Transport};

pub use cipher::Ciphered;
pub use faults::{Faults, Faulty};

use crate::subject::Subject;

/// A subject whose links cipher and admit late.
#[derive(Debug, Clone, Copy)]
pub struct CipheredSubject<S>(pub S);

/// A subject whose drivers make trouble that no caller may notice, by a seed.
#[derive(Debug, Clone, Copy)]
pub struct FaultySubject<S>(pub S, pub u64);

impl<S: Subject> Subject for CipheredSubject<S> {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(Ciphered::new(self.0.transport()))
    }
    fn fresh(&self) -> Endpoint {
        self.0.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        self.0.nobody()
    }
    fn real_time(&self) -> bool {
        self.0.real_time()
    }
    fn threaded(&self) -> bool {
        self.0.threaded()
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        let mut exempt = self.0.exempt();
        exempt.push(("no_allocation_per_message_when_warm", "the toy cipher makes a new frame of each part"));
        exempt
    }
}

impl<S: Subject> Subject for FaultySubject<S> {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(Faulty::new(self.0.transport(), self.1, Faults::TRANSIENT))
    }
    fn fresh(&self) -> Endpoint {
        self.0.fresh()
    }
    fn nobody(&self) -> Option<Endpoint> {
        self.0.nobody()
    }
    fn real_time(&self) -> bool {
        self.0.real_time()
    }
    fn threaded(&self) -> bool {
        self.0.threaded()
    }
    fn exempt(&self) -> Vec<(&'static str, &'static str)> {
        let mut exempt = self.0.exempt();
        exempt.push(("a_flush_needs_no_poll", "a refusal made up here ends with a poll"));
        exempt
    }
}
