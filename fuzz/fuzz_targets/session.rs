//! Any bytes as what a peer says in a session, and as what the engine does with it. The property stands in messaging,
//! where an ordinary test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| messaging::session::fuzz_session(bytes));
