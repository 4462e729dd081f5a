//! Any packets and completions for one link of the packet protocol. The property stands in packet-protocol, where an
//! ordinary test replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| packet_protocol::fuzz::check_packets(bytes));
