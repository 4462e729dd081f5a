//! What the tests of several modules share. Compiled for tests only.

pub(crate) mod golden;
pub(crate) mod kit;
pub(crate) mod random;
