//! ZeroMQ's sockets over the fastest wire that each endpoint URL names.
//!
//! ```
//! use fabriq::{Context, SocketType};
//!
//! # fn main() -> Result<(), fabriq::Error> {
//! let context = fabriq::context()?;
//! let server = context.socket(SocketType::Rep)?;
//! let client = context.socket(SocketType::Req)?;
//! let endpoint = server.bind("tcp://127.0.0.1:*")?;
//! client.connect(endpoint.as_str())?;
//!
//! client.send("hello")?;
//! let request = server.recv()?;
//! assert_eq!(request.body(), "hello");
//! server.send("world")?;
//! assert_eq!(client.recv()?.body(), "world");
//! # Ok(())
//! # }
//! ```
//!
//! Choose a transport by URL: `inproc://name` within a process, `ipc:///path` (or `ipc://@name`, in Linux's abstract
//! namespace) between processes of a host, `tcp://host:port` between hosts. Over the last two any ZeroMQ peer may be on the
//! other side. Blocking calls ([`Socket::recv`]) and asynchronous ones ([`Socket::recv_async`]) may be
//! mixed; sockets are thread-safe.

use std::sync::Arc;

pub use messaging::{
    Context, ContextBuilder, Error, Event, EventKind, Interest, Message, Monitor, Options, PollItem, Poller,
    PollerWait, Proxy, ProxyRun, ProxyStatistics, ProxyTraffic, Ready, Receive, Send, SendError, Socket,
    SocketType, poll, poll_with_fds, proxy, proxy_async,
};
pub use transport_core::{
    Device, DownReason, Endpoint, EndpointError, Flow, Frame, FrameMut, Keepalive, Loss, OpenError, Recovery,
    Transport, Violation,
};

/// Every transport of this build, also those that this host cannot run; [`Transport::unavailable`] says why.
pub fn transports() -> Vec<Arc<dyn Transport>> {
    vec![
        #[cfg(feature = "inproc")]
        Arc::new(transport_inproc::InprocTransport::new()),
        #[cfg(feature = "ofi")]
        Arc::new(transport_ofi::OfiTransport::new()),
        #[cfg(feature = "pgm")]
        Arc::new(transport_pgm::PgmTransport::over_udp()),
        #[cfg(feature = "pgm")]
        Arc::new(transport_pgm::PgmTransport::over_ip()),
        #[cfg(feature = "tcp")]
        Arc::new(transport_tcp::TcpTransport::new()),
        #[cfg(feature = "verbs")]
        Arc::new(transport_verbs::VerbsTransport::new()),
    ]
}

/// A builder of contexts with every transport of this build.
pub fn builder() -> ContextBuilder {
    transports().into_iter().fold(Context::builder(), ContextBuilder::transport)
}

/// A context with every transport of this build and default settings.
pub fn context() -> Result<Context, Error> {
    builder().build()
}

/// What the documentation says of threads, told to the compiler.
const _: () = {
    const fn thread_safe<T: std::marker::Send + Sync>() {}
    thread_safe::<Context>();
    thread_safe::<Socket>();
    thread_safe::<Monitor>();
    thread_safe::<Frame>();
    thread_safe::<Message>();
    thread_safe::<Error>();
    thread_safe::<Send<'_>>();
    thread_safe::<Receive<'_>>();
    thread_safe::<Proxy<'_>>();
    thread_safe::<ProxyRun<'_, '_>>();
    thread_safe::<Poller>();
};
