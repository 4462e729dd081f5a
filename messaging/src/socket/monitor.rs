//! What happens to a socket's links, as a stream of events. Observes; decides nothing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use transport_core::{DownReason, Loss, OpenError, Recovery};

use crate::engine::{TaskKey, Waiters};
use crate::fork::ForkMark;

/// Something that happened to one of a socket's endpoints or links.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The endpoint it belongs to, as bound or connected. Of one of a multicast group's sources, its own name: the endpoint,
    /// the source's address and its session, with `#` between them.
    pub endpoint: String,
    /// The address of the peer's end of the link, in the transport's own form; empty where no link is concerned, or it is
    /// not known yet.
    pub peer: String,
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
    /// Something is missing between two messages of a link, where a transport may lose any: packets that were lost on the wire, or
    /// messages that this host had no room for. The next message says that a gap precedes it.
    Lost(Loss),
    /// How the recovery of a link's lost packets goes, on a wire that loses some: when it has changed, at most once a second.
    Recovery(Recovery),
    /// A listener or a dial was closed on request.
    Closed,
    /// The socket is closed; nothing follows.
    Stopped,
}

/// Reads a socket's events: by calls that wait, or as a [`Stream`] that ends after [`EventKind::Stopped`]. Dropping it stops
/// the recording. Thread-safe.
#[derive(Debug)]
pub struct Monitor {
    queue: Arc<MonitorQueue>,
    key: TaskKey,
    fork: &'static ForkMark,
}

#[derive(Debug, Default)]
pub(crate) struct MonitorQueue {
    record: Mutex<Record>,
    dropped: AtomicU64,
    waiters: Waiters,
}

#[derive(Debug, Default)]
struct Record {
    events: VecDeque<Event>,
    /// The last event was pushed, or nobody reads any more.
    ended: bool,
}

impl MonitorQueue {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event. `false`: the record has ended.
    pub(crate) fn push(&self, event: Event) -> bool {
        let mut record = self.record();
        if record.ended {
            return false;
        }
        let last = event.kind == EventKind::Stopped;
        if record.events.len() >= crate::limits::MONITOR_EVENTS && !last {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        record.events.push_back(event);
        record.ended = last;
        drop(record);
        self.waiters.wake_all();
        true
    }
}

impl Stream for Monitor {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.fork.is_foreign() {
            return Poll::Ready(None);
        }
        let look = || {
            let mut record = self.queue.record();
            match record.events.pop_front() {
                None if !record.ended => Poll::Pending,
                event => Poll::Ready(event),
            }
        };
        if let Poll::Ready(event) = look() {
            return Poll::Ready(event);
        }
        self.queue.waiters.add_task(self.key, cx.waker());
        // Again, since an event may have come before the waker was on the list.
        look()
    }
}

impl Monitor {
    pub(super) fn new(queue: Arc<MonitorQueue>, fork: &'static ForkMark) -> Self {
        Self { queue, key: TaskKey::new(), fork }
    }

    /// The next event, if there is one. A forked child gets none.
    pub fn try_next(&self) -> Option<Event> {
        if self.fork.is_foreign() {
            return None;
        }
        self.queue.record().events.pop_front()
    }

    /// Waits for the next event; `None` after `timeout`, and at once when nothing can follow any more.
    pub fn next_timeout(&self, timeout: std::time::Duration) -> Option<Event> {
        if self.fork.is_foreign() {
            return None;
        }
        // A time beyond what the clock can say is for ever.
        let deadline = std::time::Instant::now().checked_add(timeout);
        let next = self.queue.waiters.wait_plainly(deadline, || {
            let mut record = self.queue.record();
            let event = record.events.pop_front();
            (event.is_some() || record.ended).then_some(event)
        });
        next.flatten()
    }

    /// Events that were dropped because nobody read them in time.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if self.fork.is_foreign() {
            return;
        }
        let mut record = self.queue.record();
        record.ended = true;
        let unread = std::mem::take(&mut record.events);
        drop(record);
        drop(unread);
        self.queue.waiters.remove_task(self.key);
    }
}
