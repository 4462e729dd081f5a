//! Time as the machines keep it: nanoseconds since each began. Reads no clock.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// Nanoseconds since the machine's beginning; enough for 584 years.
pub(crate) type Nanos = u64;

/// Turns the caller's time into ours and back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) const fn new(start: Instant) -> Self {
        Self(start)
    }
    /// A time before the beginning is the beginning.
    pub(crate) fn at(self, now: Instant) -> Nanos {
        nanos(now.saturating_duration_since(self.0))
    }
    pub(crate) fn instant(self, at: Nanos) -> Instant {
        self.0 + Duration::from_nanos(at)
    }
}

pub(crate) fn nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
