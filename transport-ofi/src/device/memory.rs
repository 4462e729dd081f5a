//! Memory that a provider can reach, as all RDMA fabrics have it. Holds no code.

pub use rdma_links::fabric::{Buffer, Pinned, Reach, Remote, Splice};
