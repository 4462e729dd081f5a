//! The packet protocol between two machines, on a wire that the tests hold in their hands.

mod endings;
mod memory;
mod model;
mod splits;
mod traffic;
mod violations;
mod world;
