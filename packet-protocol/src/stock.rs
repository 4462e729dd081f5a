//! What the links of one driver share beside receive buffers: the pool that received parts land in, and memory for
//! queues. No protocol.

use std::collections::VecDeque;

use transport_core::limits::COMMANDS_MAX;
use transport_core::{FramePool, Landing, Part};

use crate::limits::{QUEUE_KEEP, QUEUE_PARTS_MAX, QUEUE_SPARE_MAX};

/// What the links of one driver share. One per driver.
#[derive(Debug)]
pub struct Stock {
    pub(crate) landing: Landing,
    small: Vec<VecDeque<Part>>,
    large: Vec<VecDeque<Part>>,
}

impl Stock {
    /// Received parts land in `pool`. When it is spent they get memory of their own, which no device has registered.
    pub fn new(pool: FramePool) -> Self {
        Self { landing: Landing::new(pool), small: Vec::new(), large: Vec::new() }
    }

    /// Whether no memory is lent on trust, before the bytes for it have come.
    pub fn is_settled(&self) -> bool {
        self.landing.is_settled()
    }

    /// Bytes of parts' bodies that were copied into packets and out of them, of all links that ever used this. What a device
    /// sends or READs from where it is does not count.
    pub fn copied_bytes(&self) -> u64 {
        self.landing.copied_bytes()
    }

    /// Counts bytes that the driver has copied itself, as where a READ could not go straight into its target.
    #[inline(always)]
    pub fn count_copied(&mut self, len: usize) {
        self.landing.count_copied(len);
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
