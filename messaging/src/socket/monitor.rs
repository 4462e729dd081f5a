//! What happens to a socket's links, as a stream of events. Observes; decides nothing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use transport_core::{DownReason, OpenError};

use crate::engine::Waiters;

/// Something that happened to one of a socket's endpoints or links.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The endpoint it belongs to, as bound or connected.
    pub endpoint: String,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A listener runs. The endpoint has the real port. The number is its descriptor, or -1.
    Listening(i32),
    /// A bind failed.
    BindFailed(OpenError),
    /// A peer's connection was accepted; the handshake is next. The number is its descriptor, or -1.
    Accepted(i32),
    /// A connection could not be accepted; the number is the errno.
    AcceptFailed(i32),
    /// A dial is under way.
    ConnectDelayed,
    /// A dial came to nothing; the reason says what to do. Another one follows unless reconnecting is off.
    ConnectFailed(OpenError),
    /// A dialled connection stands; the handshake is next. The number is its descriptor, or -1.
    Connected(i32),
    /// The next dial comes after so many milliseconds.
    ConnectRetried(u64),
    /// The peer is ready: messages flow from here on.
    HandshakeSucceeded,
    /// The peer did not become ready.
    HandshakeFailed(DownReason),
    /// A ready link is gone. The number is its descriptor, or -1.
    Disconnected(DownReason, i32),
    /// A listener or a dial was closed on request.
    Closed,
    /// The socket is closed; nothing follows.
    Stopped,
}

/// Reads a socket's events: by calls that wait, or as a [`Stream`] that ends after [`EventKind::Stopped`]. Dropping it stops
/// the recording. Thread-safe.
#[derive(Debug)]
pub struct Monitor(pub(crate) Arc<MonitorQueue>);

#[derive(Debug, Default)]
pub(crate) struct MonitorQueue {
    events: Mutex<VecDeque<Event>>,
    stopped: AtomicBool,
    dropped: AtomicU64,
    pub(crate) waiters: Waiters,
}

impl MonitorQueue {
    pub(crate) fn push(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= crate::limits::MONITOR_EVENTS && event.kind != EventKind::Stopped {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let last = event.kind == EventKind::Stopped;
        events.push_back(event);
        drop(events);
        self.stopped.fetch_or(last, Ordering::AcqRel);
        self.waiters.wake_all();
    }

    /// Whether the last event was pushed.
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn pop(&self) -> Option<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Stream for Monitor {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let queue = &self.0;
        if let Some(event) = queue.pop() {
            return Poll::Ready(Some(event));
        }
        queue.waiters.add_task(cx.waker());
        // Again, since an event may have come before the waker was on the list; and in this order, since nothing is
        // pushed once the queue counts as stopped.
        let stopped = queue.is_stopped();
        match queue.pop() {
            None if !stopped => Poll::Pending,
            event => Poll::Ready(event),
        }
    }
}

impl Monitor {
    /// The next event, if there is one.
    pub fn try_next(&self) -> Option<Event> {
        self.0.pop()
    }

    /// Waits for the next event; `None` after `timeout`.
    pub fn next_timeout(&self, timeout: std::time::Duration) -> Option<Event> {
        let deadline = std::time::Instant::now() + timeout;
        self.0.waiters.wait_plainly(Some(deadline), || self.0.pop())
    }

    /// Events that were dropped because nobody read them in time.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}
