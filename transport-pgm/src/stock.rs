//! Memory that messages of all sources of one driver land in. No protocol, and nothing of packets.

#![forbid(unsafe_code)]

use transport_core::limits::SLOT_MAX;
use transport_core::{Frame, FrameMut, FramePool, INLINE_MAX};

use crate::limits::{AHEAD_MAX, AHEAD_STEP};

/// What the sources of one driver share. One per driver.
#[derive(Debug)]
pub struct Stock {
    pool: FramePool,
    /// Bytes of pool slots lent to parts whose bytes have not arrived.
    ahead: usize,
}

impl Stock {
    /// Messages land in `pool`; when it is spent they get memory of their own.
    pub fn new(pool: FramePool) -> Self {
        Self { pool, ahead: 0 }
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
    pub(crate) fn copy(&self, body: &[u8]) -> Frame {
        if body.len() > INLINE_MAX
            && let Some(mut frame) = self.pool.take(body.len())
        {
            frame.copy_from_slice(body);
            return frame.freeze();
        }
        Frame::copy_from_slice(body)
    }
}

/// Memory that a part's bytes go to as they arrive.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) frame: FrameMut,
    /// What is to be settled for it.
    pub(crate) ahead: usize,
}
