//! Any TSDUs and gaps for the decoder of libzmq's framing in PGM. The property stands in transport-pgm, where an
//! ordinary test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transport_pgm::fuzz::check_stream(bytes));
