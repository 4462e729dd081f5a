//! The pipe between an application and the engine: messages of 64 B written, made visible in batches, and read until
//! the pipe is empty, all by one thread: what its instructions cost, not what two cores make of them.

use super::{OPERATIONS, Work};
use messaging::bench::Pipe;
use std::hint::black_box;
use transport_core::{Frame, Part};

struct Batches {
    pipe: Pipe,
    body: [u8; 64],
    batch: u64,
}

/// `batch` divides [`OPERATIONS`].
pub(super) fn batches(batch: u64) -> Box<dyn Work> {
    Box::new(Batches { pipe: Pipe::new(1000), body: [b'x'; 64], batch })
}

impl Work for Batches {
    fn run(&mut self) {
        let mut read = 0;
        for _ in 0..OPERATIONS / self.batch {
            for _ in 0..self.batch {
                assert!(self.pipe.write(Part::last(Frame::copy_from_slice(black_box(&self.body)))));
            }
            black_box(self.pipe.publish());
            while let Some(part) = self.pipe.read() {
                black_box(&part);
                read += 1;
            }
        }
        assert_eq!(read, OPERATIONS);
    }
}
