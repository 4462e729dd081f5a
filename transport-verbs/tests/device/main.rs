//! The boundary on a real device (or soft-RoCE), and what only hardware has. Needs a device; see the feature `device`.

#[path = "../../../rdma-links/tests/contract/mod.rs"]
mod contract;
#[path = "../hardware/mod.rs"]
mod hardware;

mod allocations;
mod ends;
mod host;
mod overflow;
mod sleep;

contract::contract!(queue_pairs crate::hardware::Hardware);
