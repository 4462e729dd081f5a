//! Memory that all sources of one driver share: the pool that messages land in, and blocks for packets that wait behind a
//! missing one. No protocol.

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
    block_len: usize,
    blocks_max: usize,
    /// Blocks lie in chunks of [`SLOT_MAX`] bytes, made as they are needed and kept.
    chunks: Vec<FrameMut>,
    /// The one used last is the one in the cache.
    vacant: Vec<u32>,
}

/// A block on loan.
#[derive(Debug)]
pub(crate) struct Block {
    at: u32,
    len: u16,
}

impl Stock {
    /// Messages land in `pool`; when it is spent they get memory of their own. Packets of up to `tsdu_max` bytes of payload
    /// wait for missing ones in at most `waiting_bytes` of memory beside it, which is committed as it is used.
    pub fn new(pool: FramePool, tsdu_max: usize, waiting_bytes: usize) -> Self {
        let block_len = tsdu_max.clamp(1, usize::from(u16::MAX));
        let blocks_max = (waiting_bytes / block_len).min(u32::MAX as usize);
        Self { pool, ahead: 0, block_len, blocks_max, chunks: Vec::new(), vacant: Vec::new() }
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

    /// Keeps a packet's payload. `None` when it is longer than any may be, or all memory is in use.
    pub(crate) fn keep(&mut self, tsdu: &[u8]) -> Option<Block> {
        let len = u16::try_from(tsdu.len()).ok().filter(|_| tsdu.len() <= self.block_len)?;
        if self.vacant.is_empty() {
            self.grow()?;
        }
        let at = self.vacant.pop()?;
        let (chunk, start) = self.place(at);
        self.chunks[chunk][start..start + tsdu.len()].copy_from_slice(tsdu);
        Some(Block { at, len })
    }

    /// What a block keeps.
    pub(crate) fn kept(&self, block: &Block) -> &[u8] {
        let (chunk, start) = self.place(block.at);
        &self.chunks[chunk][start..start + usize::from(block.len)]
    }

    /// A block comes home.
    pub(crate) fn give_back(&mut self, block: Block) {
        self.vacant.push(block.at);
    }

    /// Blocks that packets wait in.
    pub fn waiting_packets(&self) -> usize {
        self.made() - self.vacant.len()
    }

    /// Whether a payload of `len` bytes may wait at all.
    pub(crate) fn fits(&self, len: usize) -> bool {
        len <= self.block_len
    }

    fn per_chunk(&self) -> usize {
        SLOT_MAX / self.block_len
    }

    fn made(&self) -> usize {
        (self.chunks.len() * self.per_chunk()).min(self.blocks_max)
    }

    fn place(&self, at: u32) -> (usize, usize) {
        let (at, per_chunk) = (at as usize, self.per_chunk());
        (at / per_chunk, at % per_chunk * self.block_len)
    }

    #[cold]
    fn grow(&mut self) -> Option<()> {
        let before = self.made();
        if before == self.blocks_max {
            return None;
        }
        self.chunks.push(FrameMut::own(SLOT_MAX)?);
        // Room for all, so that giving back never allocates.
        let made = self.made();
        self.vacant.reserve(made - self.vacant.len());
        self.vacant.extend((before as u32..made as u32).rev());
        Some(())
    }
}

/// Memory that a part's bytes go to as they arrive.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) frame: FrameMut,
    /// What is to be settled for it.
    pub(crate) ahead: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_kept_up_to_the_limit_and_come_home() {
        let mut stock = Stock::new(FramePool::new(0), 1400, 10_000 * 1400 + 1399);
        let mut kept = Vec::new();
        while let Some(block) = stock.keep(&(kept.len() as u32).to_be_bytes()) {
            kept.push(block);
        }
        assert_eq!((kept.len(), stock.waiting_packets()), (10_000, 10_000));
        for (at, block) in kept.iter().enumerate() {
            assert_eq!(*stock.kept(block), (at as u32).to_be_bytes());
        }
        kept.drain(..).for_each(|block| stock.give_back(block));
        assert_eq!(stock.waiting_packets(), 0);
        assert!(stock.keep(&[7; 1401]).is_none(), "longer than any may be");
        let block = stock.keep(&[7; 1400]).expect("there is room again");
        assert_eq!(*stock.kept(&block), [7; 1400]);
    }
}
