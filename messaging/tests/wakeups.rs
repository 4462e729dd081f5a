//! What the engine owes a driver that wakes it from a thread of its own: a poll, whenever the wake-up comes. With a driver
//! that does nothing else; the real ones are tested in their own crates.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fabriq_messaging::{Context, Error, EventKind, SocketType};
use transport_core::{
    Armed, Capabilities, Close, Completion, Delivery, Driver, DriverEnv, Endpoint, Flow, Grant, LinkId, Open,
    OpenError, OpenId, Part, Progress, Refused, RefusedReason, SessionKind, SlabKey, Topology, Transport,
    Wake,
};

/// Dials, and hears from a helper thread how that went. The helper speaks while the background asks whether it may sleep,
/// after the driver has found nothing to do.
#[derive(Debug)]
struct Late {
    wake: Arc<dyn Wake>,
    open: Option<OpenId>,
    /// Gets the background to take a turn.
    deadline: Option<Instant>,
    heard: Arc<AtomicBool>,
    calls: Arc<Calls>,
}

/// What was asked of the driver.
#[derive(Debug, Default)]
struct Calls {
    opened: AtomicBool,
    closed: AtomicBool,
}

impl Driver for Late {
    fn open(&mut self, _: Open) -> Result<OpenId, OpenError> {
        let open = OpenId::from(SlabKey::from_u64(1 << 32));
        self.open = Some(open);
        self.calls.opened.store(true, SeqCst);
        self.deadline = Some(Instant::now());
        Ok(open)
    }

    fn arm(&mut self) -> Armed {
        if self.heard.load(SeqCst) {
            return Armed::Busy;
        }
        let background = std::thread::current().name().is_some_and(|name| name.starts_with("fabriq-"));
        if background && self.open.is_some() {
            let (heard, wake) = (self.heard.clone(), self.wake.clone());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    heard.store(true, SeqCst);
                    wake.wake();
                });
            });
        }
        Armed::Ready
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Completion>, _: usize) {
        self.deadline = self.deadline.filter(|deadline| *deadline > now);
        if self.heard.swap(false, SeqCst)
            && let Some(open) = self.open.take()
        {
            out.push(Completion::Progress { open, progress: Progress::Connected { fd: -1 } });
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn post_send(&mut self, _: LinkId, part: Part) -> Result<(), Refused> {
        Err(Refused { part, reason: RefusedReason::Closed })
    }
    fn close_open(&mut self, _: OpenId) {
        self.calls.closed.store(true, SeqCst);
    }
    fn close_link(&mut self, _: LinkId, _: Close) {}
    fn room(&self, _: LinkId) -> usize {
        0
    }
    fn flush(&mut self) {}
    fn grant(&mut self, _: LinkId, _: Grant) {}
    fn wake_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

/// Its binds never come to anything.
#[derive(Debug, Default)]
struct LateTransport {
    calls: Arc<Calls>,
}

impl Transport for LateTransport {
    fn schemes(&self) -> &'static [&'static str] {
        &["late"]
    }
    fn capabilities(&self, _: &Endpoint, _: Flow) -> Result<Capabilities, OpenError> {
        Ok(Capabilities {
            delivery: Delivery::Reliable,
            flow: Flow::Duplex,
            pushback: true,
            topology: Topology::Unicast,
            session: SessionKind::Zmtp,
        })
    }
    fn driver(&self, env: DriverEnv) -> Result<Box<dyn Driver>, OpenError> {
        let (heard, calls) = (Arc::default(), self.calls.clone());
        Ok(Box::new(Late { wake: env.wake, open: None, deadline: None, heard, calls }))
    }
}

#[test]
fn a_wake_up_between_the_last_look_and_the_sleep_is_not_lost() {
    let context = Context::builder().transport(Arc::new(LateTransport::default())).build().unwrap();
    let socket = context.socket(SocketType::Push).unwrap();
    socket.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
    let monitor = socket.monitor().unwrap();
    socket.connect("late://x").unwrap();
    let event = monitor.next_timeout(Duration::from_secs(20)).expect("what the helper said is polled");
    assert_eq!(event.kind, EventKind::Connected(-1));
}

/// The name of a bind takes for ever to resolve, say. Who ends the wait ends the bind as well.
#[test]
fn a_bind_that_is_not_waited_for_is_closed() {
    for by_shutdown in [true, false] {
        let transport = LateTransport::default();
        let calls = transport.calls.clone();
        let context = Context::builder().transport(Arc::new(transport)).build().unwrap();
        let socket = context.socket(SocketType::Pull).unwrap();
        std::thread::scope(|scope| {
            let binding = scope.spawn(|| socket.bind("late://anywhere"));
            while !calls.opened.load(SeqCst) {
                std::thread::yield_now();
            }
            if by_shutdown {
                context.shutdown();
                assert_eq!(binding.join().unwrap(), Err(Error::Terminated));
            } else {
                socket.unbind("late://anywhere").unwrap();
                assert_eq!(binding.join().unwrap(), Err(Error::NoSuchEndpoint("late://anywhere".into())));
            }
        });
        assert!(calls.closed.load(SeqCst));
    }
}
