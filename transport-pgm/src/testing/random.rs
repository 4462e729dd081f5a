//! Random numbers for tests: the machine's own generator, with the shapes that tests want.

pub(crate) use crate::random::Random;

impl Random {
    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    /// True so often.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}
