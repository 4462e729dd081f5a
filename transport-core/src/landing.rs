//! Memory that received parts land in: pool slots, some of them on trust before the bytes have come. Knows no wire.

use crate::frame::{Frame, FrameMut, INLINE_MAX};
use crate::limits::{AHEAD_MAX, AHEAD_STEP, SLOT_MAX};
use crate::pool::FramePool;

/// Where what a driver's links receive lands. One per driver. Lengths above [`AHEAD_STEP`] that peers claim take pool slots of
/// [`AHEAD_MAX`] bytes at most until their bytes have come, however many peers make claims; beyond that, address space. What
/// is shorter takes its slot at once.
#[derive(Debug)]
pub struct Landing {
    pool: FramePool,
    /// Bytes of pool slots lent to parts whose bytes have not arrived.
    ahead: usize,
    copied: u64,
}

/// Memory that a part's bytes go to as they arrive.
#[derive(Debug)]
pub struct Target {
    /// As long as the part.
    pub frame: FrameMut,
    /// What is to be settled for it.
    pub ahead: usize,
}

impl Landing {
    /// Parts land in `pool`. When it is spent they get memory of their own, which no device has registered.
    pub fn new(pool: FramePool) -> Self {
        Self { pool, ahead: 0, copied: 0 }
    }

    /// Memory for a part whose bytes are about to arrive, and how much of it is lent on trust. `None` when the system
    /// refuses.
    pub fn target(&mut self, len: usize) -> Option<Target> {
        if len <= AHEAD_STEP {
            return self.pool.take_or_own(len).map(|frame| Target { frame, ahead: 0 });
        }
        let slot = FramePool::slot_len(len);
        if let Some(slot) = slot.filter(|slot| self.ahead + slot <= AHEAD_MAX)
            && let Some(frame) = self.pool.take(len)
        {
            self.ahead += slot;
            return Some(Target { frame, ahead: slot });
        }
        // From SLOT_MAX up this is address space, committed page by page as bytes arrive.
        let mut frame = FrameMut::own(len.max(SLOT_MAX))?;
        frame.truncate(len);
        Some(Target { frame, ahead: 0 })
    }

    /// The bytes of a target have arrived, or never will.
    pub fn settle(&mut self, ahead: usize) {
        debug_assert!(ahead <= self.ahead, "settled twice");
        self.ahead = self.ahead.saturating_sub(ahead);
    }

    /// Whether nothing is lent on trust.
    pub fn is_settled(&self) -> bool {
        self.ahead == 0
    }

    /// A part's body that is copied out of a buffer.
    #[inline(never)]
    pub fn copy(&mut self, body: &[u8]) -> Frame {
        self.count_copied(body.len());
        if body.len() > INLINE_MAX
            && let Some(mut frame) = self.pool.take(body.len())
        {
            frame.copy_from_slice(body);
            return frame.freeze();
        }
        Frame::copy_from_slice(body)
    }

    /// Counts bytes of parts that were copied to where they land by other means than [`Landing::copy`].
    #[inline(always)]
    pub fn count_copied(&mut self, len: usize) {
        self.copied += len as u64;
    }

    /// Bytes of parts that were copied to where they land, for [`crate::Driver::copied_bytes`]. What a device or a system call
    /// puts there itself does not count.
    pub fn copied_bytes(&self) -> u64 {
        self.copied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no large sparse maps")]
    fn claims_hold_slots_up_to_a_limit_and_give_them_back() {
        let pool = FramePool::new(4 * AHEAD_MAX);
        let mut landing = Landing::new(pool);
        let claims: Vec<_> =
            (0..2 * AHEAD_MAX / SLOT_MAX).map(|_| landing.target(SLOT_MAX).unwrap()).collect();
        assert_eq!(claims.iter().map(|claim| claim.ahead).sum::<usize>(), AHEAD_MAX);
        assert!(claims.iter().all(|claim| claim.frame.len() == SLOT_MAX));
        assert_eq!(landing.target(AHEAD_STEP).unwrap().ahead, 0, "a little is no matter of trust");
        assert!(!landing.is_settled());
        claims.into_iter().for_each(|claim| landing.settle(claim.ahead));
        assert!(landing.is_settled());
        // A little more than a slot of the class below takes a whole one.
        let claims: Vec<_> = (0..64).map(|_| landing.target((1 << 20) + 1).unwrap()).collect();
        assert_eq!(claims.iter().map(|claim| claim.ahead).sum::<usize>(), AHEAD_MAX);
        claims.into_iter().for_each(|claim| landing.settle(claim.ahead));
        assert_eq!(landing.target(SLOT_MAX).unwrap().ahead, SLOT_MAX);
    }

    #[test]
    fn what_is_copied_is_counted_and_a_target_is_not() {
        let mut landing = Landing::new(FramePool::new(1 << 20));
        assert!(landing.target(5000).is_some());
        assert_eq!(landing.copied_bytes(), 0);
        assert_eq!((landing.copy(&[7; 10]).len(), landing.copy(&[7; 5000]).len()), (10, 5000));
        landing.count_copied(3);
        assert_eq!(landing.copied_bytes(), 5013);
    }
}
