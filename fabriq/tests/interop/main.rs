//! fabriq and real ZeroMQ peers over tcp and ipc, each in both places: Debian's libzmq.so.5 in this process, and pyzmq in
//! processes of its own that can be stopped and killed. Tests no pattern's fine print; libzmq's own tests do.

mod heartbeats;
mod limits;
mod party;
mod patterns;
mod python;
mod subscriptions;
mod survival;
#[path = "../wire/mod.rs"]
mod wire;
mod zmq;
