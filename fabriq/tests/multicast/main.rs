//! fabriq over epgm:// and pgm:// between hosts that lose packets: with libzmq's peers, and what fabriq promises of it. Runs in
//! ci/netns, which ci/multicast starts. What one host can show is tested elsewhere.

mod hosts;
mod interop;
mod promises;
#[allow(dead_code, reason = "made for another program's tests, which use all of it")]
#[path = "../interop/zmq.rs"]
mod zmq;
