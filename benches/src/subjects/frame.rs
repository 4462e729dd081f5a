//! Frames: made inline and from a slot of the pool, cloned, dropped.

use super::{OPERATIONS, Work};
use std::hint::black_box;
use transport_core::{Frame, FramePool, INLINE_MAX};

/// Bytes of a frame in a slot.
const SLOT: usize = 4096;

struct Inline([u8; INLINE_MAX]);

/// Makes and drops small frames.
pub(super) fn inline() -> Box<dyn Work> {
    Box::new(Inline([b'x'; INLINE_MAX]))
}

impl Work for Inline {
    fn run(&mut self) {
        for _ in 0..OPERATIONS {
            black_box(Frame::copy_from_slice(black_box(&self.0)));
        }
    }
}

struct PoolSlot(FramePool);

fn slot(pool: &FramePool) -> Frame {
    pool.take(SLOT).expect("the pool has room for all that is out at once").freeze()
}

/// One slot at a time: lent, frozen, given back. Its bytes are not written.
pub(super) fn pool_slot() -> Box<dyn Work> {
    Box::new(PoolSlot(pool()))
}

fn pool() -> FramePool {
    FramePool::new(64 << 20)
}

impl Work for PoolSlot {
    fn run(&mut self) {
        for _ in 0..OPERATIONS {
            black_box(slot(&self.0));
        }
    }
}

struct Clone {
    frame: Frame,
    clones: Vec<Frame>,
}

fn cloning(frame: Frame) -> Box<dyn Work> {
    Box::new(Clone { frame, clones: Vec::with_capacity(OPERATIONS as usize) })
}

pub(super) fn clone_inline() -> Box<dyn Work> {
    cloning(Frame::copy_from_slice(&[b'x'; INLINE_MAX]))
}

pub(super) fn clone_slot() -> Box<dyn Work> {
    cloning(slot(&pool()))
}

impl Work for Clone {
    fn prepare(&mut self) {
        self.clones.clear();
    }

    fn run(&mut self) {
        for _ in 0..OPERATIONS {
            self.clones.push(black_box(&self.frame).clone());
        }
    }
}

struct Drop {
    make: Box<dyn Fn() -> Frame>,
    frames: Vec<Frame>,
}

fn dropping(make: impl Fn() -> Frame + 'static) -> Box<dyn Work> {
    Box::new(Drop { make: Box::new(make), frames: Vec::new() })
}

pub(super) fn drop_inline() -> Box<dyn Work> {
    dropping(|| Frame::copy_from_slice(&[b'x'; INLINE_MAX]))
}

/// The last reference to each of many slots: they go back to the pool.
pub(super) fn drop_slot() -> Box<dyn Work> {
    let pool = pool();
    dropping(move || slot(&pool))
}

impl Work for Drop {
    fn prepare(&mut self) {
        self.frames.extend((self.frames.len() as u64..OPERATIONS).map(|_| (self.make)()));
    }

    fn run(&mut self) {
        black_box(&mut self.frames).clear();
    }
}
