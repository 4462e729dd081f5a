//! Any bytes as a ZMTP greeting. The property stands in transport-tcp, where an ordinary test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transport_tcp::fuzz::check_greeting(bytes));
