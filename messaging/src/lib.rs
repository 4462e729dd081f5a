//! The sockets of fabriq: patterns, ZMTP sessions and the engine. Sees transports only through the seam.
//!
//! Use the `fabriq` crate, which adds the transports and re-exports this.

#[cfg(all(test, not(loom)))]
mod aliasing;
#[doc(hidden)]
pub mod bench;
mod engine;
mod error;
mod fork;
mod latest;
mod limits;
mod mark;
mod message;
mod pattern;
mod queue;
#[doc(hidden)]
pub mod session;
mod socket;
mod socket_type;
mod sync;

pub use error::{Error, SendError};
pub use message::Message;
pub use socket::context::{Context, ContextBuilder};
pub use socket::monitor::{Event, EventKind, Monitor};
pub use socket::options::Options;
pub use socket::proxy::{Proxy, ProxyRun, ProxyStatistics, ProxyTraffic, proxy, proxy_async};
pub use socket::{Interest, PollItem, Poller, PollerWait, Ready, Receive, Send, Socket, poll, poll_with_fds};
pub use socket_type::SocketType;
