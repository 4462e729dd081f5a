//! What the links of one driver share beside receive buffers: the pool that received parts land in, and memory for
//! queues. No protocol.

use std::collections::VecDeque;

use transport_core::limits::{COMMANDS_MAX, SLOT_MAX};
use transport_core::{Frame, FrameMut, FramePool, INLINE_MAX, Part};

use crate::limits::{AHEAD_MAX, AHEAD_STEP, QUEUE_KEEP, QUEUE_PARTS_MAX, QUEUE_SPARE_MAX};

/// What the links of one driver share. One per driver.
#[derive(Debug)]
pub struct Stock {
    pool: FramePool,
    /// Bytes of pool slots lent to parts whose bytes have not arrived.
    ahead: usize,
    small: Vec<VecDeque<Part>>,
    large: Vec<VecDeque<Part>>,
}

impl Stock {
    /// Received parts land in `pool`. When it is spent they get memory of their own, which no device has registered.
    pub fn new(pool: FramePool) -> Self {
        Self { pool, ahead: 0, small: Vec::new(), large: Vec::new() }
    }

    /// Memory for a part whose bytes are about to arrive, and how much of it is lent on trust. `None` when the system
    /// refuses.
    pub(crate) fn target(&mut self, len: usize) -> Option<Target> {
        if len <= AHEAD_STEP {
            return self.pool.take_or_own(len).map(|frame| Target { frame, ahead: 0 });
        }
        if len <= SLOT_MAX
            && self.ahead + len <= AHEAD_MAX
            && let Some(frame) = self.pool.take(len)
        {
            self.ahead += len;
            return Some(Target { frame, ahead: len });
        }
        // From SLOT_MAX up this is address space, committed page by page as bytes arrive.
        let mut frame = FrameMut::own(len.max(SLOT_MAX))?;
        frame.truncate(len);
        Some(Target { frame, ahead: 0 })
    }

    /// The bytes of a target have arrived, or never will.
    pub(crate) fn settle(&mut self, ahead: usize) {
        self.ahead -= ahead;
    }

    /// A part's body that is copied out of a packet.
    #[inline(never)]
    pub(crate) fn copy(&self, body: &[u8]) -> Frame {
        if body.len() > INLINE_MAX
            && let Some(mut frame) = self.pool.take(body.len())
        {
            frame.copy_from_slice(body);
            return frame.freeze();
        }
        Frame::copy_from_slice(body)
    }

    /// Changes a small queue that is full for a large one.
    pub(crate) fn enlarge(&mut self, queue: &mut VecDeque<Part>) {
        let mut large =
            self.large.pop().unwrap_or_else(|| VecDeque::with_capacity(QUEUE_PARTS_MAX + COMMANDS_MAX));
        large.append(queue);
        let small = std::mem::replace(queue, large);
        if self.small.len() < QUEUE_SPARE_MAX {
            self.small.push(small);
        }
    }

    /// Changes a large queue that is empty for a small one, so that a link that was busy once costs no more than others.
    pub(crate) fn reduce(&mut self, queue: &mut VecDeque<Part>) {
        let small = self.small.pop().unwrap_or_else(|| VecDeque::with_capacity(QUEUE_KEEP));
        let large = std::mem::replace(queue, small);
        if self.large.len() < QUEUE_SPARE_MAX {
            self.large.push(large);
        }
    }
}

/// Memory that a part's bytes go to as they arrive.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) frame: FrameMut,
    /// What is to be settled for it.
    pub(crate) ahead: usize,
}
