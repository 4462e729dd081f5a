//! The context: transports, the engine shard and the life of the sockets made from it. Moves no messages.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use transport_core::limits::POOL_BUDGET;
use transport_core::{
    Capabilities, Delivery, Endpoint, Flow, FrameMut, FramePool, OpenError, SessionKind, Topology, Transport,
};

use super::Socket;
use super::shared::{SocketShared, TERMINATED};
use crate::engine::Shard;
use crate::error::Error;
use crate::fork::ForkMark;
use crate::limits::SPIN;
use crate::pattern::Pattern;
use crate::session::{MechanismFactory, Null};
use crate::socket_type::SocketType;

/// Makes sockets and runs their I/O. Cheap to clone; all clones and sockets share one engine. When the last clone and
/// the last socket have gone, what lingers is sent first.
#[derive(Clone)]
pub struct Context {
    shared: Arc<ContextShared>,
}

pub(crate) struct ContextShared {
    pub(crate) shard: Arc<Shard>,
    pub(crate) mechanism: Arc<dyn MechanismFactory>,
    transports: Vec<Arc<dyn Transport>>,
    send_pool: FramePool,
    /// Whether they are shut down, and each by its address.
    sockets: Mutex<(bool, HashMap<usize, Weak<SocketShared>>)>,
    pub(super) fork: &'static ForkMark,
}

/// Settings of a context.
#[derive(Debug)]
pub struct ContextBuilder {
    transports: Vec<Arc<dyn Transport>>,
    mechanism: Arc<dyn MechanismFactory>,
    send_pool_bytes: usize,
    receive_pool_bytes: usize,
    spin: Duration,
}

impl ContextBuilder {
    /// A builder with no transport; the `fabriq` crate's `context()` has all that are built in.
    pub fn new() -> Self {
        Self {
            transports: Vec::new(),
            mechanism: Arc::new(Null),
            send_pool_bytes: POOL_BUDGET,
            receive_pool_bytes: POOL_BUDGET,
            spin: SPIN,
        }
    }

    /// Adds a transport. Of two with the same scheme, the first counts.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transports.push(transport);
        self
    }

    /// Most memory lent for sending and held for receiving, in bytes each. Defaults: 256 MiB.
    #[must_use]
    pub fn pools(mut self, send_bytes: usize, receive_bytes: usize) -> Self {
        (self.send_pool_bytes, self.receive_pool_bytes) = (send_bytes, receive_bytes);
        self
    }

    /// Longest time a waiting thread looks for its message before it sleeps: by default 50 us, at most 1 s. Zero trades
    /// latency for CPU. More is for hosts that have a core to spare for every thread that waits: it then polls, and does
    /// not mind when others use its core for less than twice that time.
    #[must_use]
    pub fn spin(mut self, cap: Duration) -> Self {
        self.spin = cap;
        self
    }

    /// The security mechanism of all sockets. Default NULL.
    #[doc(hidden)]
    #[must_use]
    pub fn mechanism(mut self, mechanism: Arc<dyn MechanismFactory>) -> Self {
        self.mechanism = mechanism;
        self
    }

    /// Makes the context and starts its background thread.
    pub fn build(self) -> Result<Context, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let fork = ForkMark::of_process();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let shard = Shard::start(number, self.spin, FramePool::new(self.receive_pool_bytes))?;
        Ok(Context {
            shared: Arc::new(ContextShared {
                shard,
                mechanism: self.mechanism,
                transports: self.transports,
                send_pool: FramePool::new(self.send_pool_bytes),
                sockets: Mutex::new((false, HashMap::new())),
                fork,
            }),
        })
    }
}

impl Default for ContextBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A builder.
    pub fn builder() -> ContextBuilder {
        ContextBuilder::new()
    }

    /// A socket. Fails with [`Error::Terminated`] after `shutdown`, and with [`Error::Forked`] in a forked child.
    pub fn socket(&self, kind: SocketType) -> Result<Socket, Error> {
        if self.shared.is_foreign() {
            return Err(Error::Forked);
        }
        let pattern = Pattern::new(kind, self.shared.shard.seed());
        let shared = SocketShared::new(kind, pattern, self.shared.shard.clone());
        let mut sockets = self.shared.lock_sockets();
        if sockets.0 {
            return Err(Error::Terminated);
        }
        sockets.1.insert(Arc::as_ptr(&shared).addr(), Arc::downgrade(&shared));
        Ok(Socket::new(shared, self.shared.clone()))
    }

    /// Makes every call on every socket of this context fail with [`Error::Terminated`], also those that are waiting
    /// now. Sockets still have to be dropped.
    pub fn shutdown(&self) {
        if self.shared.is_foreign() {
            return;
        }
        let mut sockets = self.shared.lock_sockets();
        sockets.0 = true;
        let open: Vec<_> = sockets.1.values().filter_map(Weak::upgrade).collect();
        drop(sockets);
        for socket in open {
            let _ = socket.life.compare_exchange(super::OPEN, TERMINATED, Ordering::SeqCst, Ordering::SeqCst);
            socket.waiters.wake_all();
        }
        self.shared.shard.kick();
    }

    /// Waits until everything that closed sockets left has been sent or its linger time is over; at most `timeout`.
    /// `false` if that was too short. A forked child has nothing to wait for.
    pub fn wait_until_sent(&self, timeout: Option<Duration>) -> bool {
        self.shared.is_foreign()
            // A time beyond what the clock can say is for ever.
            || self.shared.shard.wait_until_quiet(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Bytes of message parts that this context's transports have copied since it was made, both ways, on all links it ever had.
    /// Short parts are copied into what is sent and out of what arrives: one byte at either end for each that is carried. Long
    /// ones go from where they are ([`Context::loan`], or the application's own memory) and land where they stay, as far as the
    /// transport can, and add nothing.
    ///
    /// Not counted is what a kernel, a device or its library copies, nor what the application copies to make a message. In-process
    /// messages are moved. Only ever grows. Thread-safe; takes the engine's lock for a moment, so it is for reports and not
    /// for every message. A forked child has no engine, and hears 0.
    pub fn copied_bytes(&self) -> u64 {
        if self.shared.is_foreign() { 0 } else { self.shared.shard.with_core(|core| core.copied_bytes()) }
    }

    /// Lends a writable frame of `len` bytes from the pool, to fill and send without a copy. Beyond the pool's budget,
    /// or its largest slot of 4 MiB, the frame has memory of its own.
    pub fn loan(&self, len: usize) -> Result<FrameMut, Error> {
        self.shared.loan(len)
    }

    pub(super) fn shared(&self) -> &Arc<ContextShared> {
        &self.shared
    }

    /// The transports of this context.
    pub fn transports(&self) -> &[Arc<dyn Transport>] {
        &self.shared.transports
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("transports", &self.shared.transports).finish_non_exhaustive()
    }
}

impl ContextShared {
    fn lock_sockets(&self) -> std::sync::MutexGuard<'_, (bool, HashMap<usize, Weak<SocketShared>>)> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn transport(&self, endpoint: &Endpoint) -> Result<Arc<dyn Transport>, OpenError> {
        let known = || {
            let schemes = self.transports.iter().flat_map(|transport| transport.schemes());
            schemes.map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(", ")
        };
        let found = self.transports.iter().find(|transport| transport.schemes().contains(&endpoint.scheme()));
        found.cloned().ok_or_else(|| OpenError::UnknownScheme { endpoint: endpoint.clone(), known: known() })
    }

    pub(crate) fn loan(&self, len: usize) -> Result<FrameMut, Error> {
        if self.is_foreign() {
            return Err(Error::Forked);
        }
        self.send_pool.take_or_own(len).ok_or(Error::System("no memory for a frame of that size", 12))
    }

    pub(crate) fn forget(&self, socket: &Arc<SocketShared>) {
        self.lock_sockets().1.remove(&Arc::as_ptr(socket).addr());
    }

    /// Whether this process is a fork of the one that made the context.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.fork.is_foreign()
    }
}

impl Drop for ContextShared {
    fn drop(&mut self) {
        if self.is_foreign() {
            return;
        }
        self.shard.wait_until_quiet(None);
        self.shard.stop();
    }
}

/// Refuses, before anything exists, what a transport cannot carry.
pub(crate) fn check_fit(kind: SocketType, endpoint: &Endpoint, can: &Capabilities) -> Result<(), OpenError> {
    let needed = kind.flow();
    let carried = can.flow == needed || (can.flow == Flow::Duplex && needed != Flow::Stream);
    // Whoever publishes loses messages at its mark anyway.
    let bears_loss = needed != Flow::Duplex;
    let why = if needed == Flow::Stream && !carried {
        Some(format!(
            "a {kind} socket speaks bytes, and that transport carries messages; use tcp:// or ipc://"
        ))
    } else if !carried {
        Some(format!(
            "a {kind} socket sends and receives, and that transport goes one way; use PUB and SUB on it"
        ))
    } else if can.delivery == Delivery::GapReported && !bears_loss {
        Some(format!(
            "a {kind} socket needs reliable links, and that transport may lose messages; use PUB and SUB"
        ))
    } else if can.session == SessionKind::None && matches!(kind, SocketType::Radio | SocketType::Dish) {
        // Nor has libzmq's PGM.
        Some(format!("a {kind} socket's groups have no place in that transport's messages; use PUB and SUB"))
    } else if can.topology == Topology::Multicast && can.session == SessionKind::Zmtp {
        Some("a session needs one peer per link".to_owned())
    } else {
        None
    };
    why.map_or(Ok(()), |why| Err(OpenError::Incompatible { endpoint: endpoint.clone(), why }))
}
