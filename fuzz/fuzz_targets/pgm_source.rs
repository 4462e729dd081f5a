//! Any NAKs, at any time, for a PGM source. The property stands in transport-pgm, where an ordinary test replays the
//! corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transport_pgm::fuzz::check_source(bytes));
