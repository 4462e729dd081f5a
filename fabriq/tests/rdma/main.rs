//! verbs:// when something breaks: a peer that is killed, and a device that goes. Needs soft-RoCE of its own; see the
//! feature `soft-roce`. Tests no pattern; `patterns.rs` does.

mod device;
mod links;
mod loss;
mod memlock;
mod parcel;
mod peer;
mod peer_death;
mod removal;

use std::time::{Duration, Instant};

use fabriq::{Context, EventKind, Monitor, Socket, SocketType};

/// Longer than anything here takes: the connection manager sends again every 4.3 s what was lost, and the guest is
/// emulated. A test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A socket whose calls fail rather than hang a test, and that comes back soon.
fn socket(context: &Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).unwrap();
    socket
        .set_options(|options| {
            options.send_timeout = Some(PATIENCE);
            options.receive_timeout = Some(PATIENCE);
            options.linger = Some(PATIENCE);
            options.reconnect_interval = Some(Duration::from_millis(50));
        })
        .unwrap();
    socket
}

/// Waits for what no event tells: the kernel gives resources back by its own workers.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: never");
        std::thread::yield_now();
    }
}

/// Waits for an event, and returns what came before it.
fn events_before(monitor: &Monitor, last: impl Fn(&EventKind) -> bool) -> Vec<EventKind> {
    let mut seen = Vec::new();
    loop {
        let Some(event) = monitor.next_timeout(PATIENCE) else { panic!("only these events came: {seen:#?}") };
        if last(&event.kind) {
            return seen;
        }
        seen.push(event.kind);
    }
}

fn is_up(kind: &EventKind) -> bool {
    *kind == EventKind::HandshakeSucceeded
}

fn is_down(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Disconnected(..))
}

/// How many of the events that are there say that a link is gone.
fn downs(monitor: &Monitor) -> usize {
    std::iter::from_fn(|| monitor.try_next()).filter(|event| is_down(&event.kind)).count()
}
