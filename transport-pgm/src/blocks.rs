//! Memory for packets that wait behind a missing one, for all sources of one driver. No protocol.

#![forbid(unsafe_code)]

use transport_core::FrameMut;
use transport_core::limits::SLOT_MAX;

/// Blocks of one length, in chunks that are made as they are needed and kept. A block is lent for as long as its packet
/// waits; the one that came home last is the next to go, since it is in the cache.
#[derive(Debug)]
pub(crate) struct Blocks {
    block_len: usize,
    blocks_max: usize,
    chunks: Vec<FrameMut>,
    vacant: Vec<u32>,
    /// Bytes that were ever kept.
    copied: u64,
}

/// A block on loan.
#[derive(Debug)]
pub(crate) struct Block {
    at: u32,
    len: u16,
}

impl Blocks {
    /// For payloads of up to `tsdu_max` bytes, in at most `bytes` of memory.
    pub(crate) fn new(tsdu_max: usize, bytes: usize) -> Self {
        let block_len = tsdu_max.clamp(1, usize::from(u16::MAX));
        let blocks_max = (bytes / block_len).min(u32::MAX as usize);
        Self { block_len, blocks_max, chunks: Vec::new(), vacant: Vec::new(), copied: 0 }
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
        self.copied += u64::from(len);
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

    /// Bytes of packets that were ever copied here.
    pub(crate) fn copied_bytes(&self) -> u64 {
        self.copied
    }

    /// Blocks that packets wait in.
    pub(crate) fn lent(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_kept_up_to_the_limit_and_come_home() {
        let mut blocks = Blocks::new(1400, 10_000 * 1400 + 1399);
        let mut kept = Vec::new();
        while let Some(block) = blocks.keep(&(kept.len() as u32).to_be_bytes()) {
            kept.push(block);
        }
        assert_eq!((kept.len(), blocks.lent()), (10_000, 10_000));
        for (at, block) in kept.iter().enumerate() {
            assert_eq!(*blocks.kept(block), (at as u32).to_be_bytes());
        }
        kept.drain(..).for_each(|block| blocks.give_back(block));
        assert_eq!(blocks.lent(), 0);
        assert!(blocks.keep(&[7; 1401]).is_none(), "longer than any may be");
        let block = blocks.keep(&[7; 1400]).expect("there is room again");
        assert_eq!(*blocks.kept(&block), [7; 1400]);
    }
}
