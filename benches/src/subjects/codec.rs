//! ZMTP's framing as transport-tcp does it: parts of 64 B into a stream and out of one, and headers of large frames.

use super::{OPERATIONS, Work};
use std::hint::black_box;
use transport_core::{Frame, FramePool, Part};
use transport_tcp::bench::{Decoder, Encoder, parse_header, write_header};

/// Bytes of a small part's body, and of its frame.
const BODY: usize = 64;
const FRAME: usize = 2 + BODY;

struct Encode {
    encoder: Encoder,
    part: Part,
}

pub(super) fn encode() -> Box<dyn Work> {
    Box::new(Encode { encoder: Encoder::default(), part: Part::last(Frame::copy_from_slice(&[b'x'; BODY])) })
}

impl Work for Encode {
    fn run(&mut self) {
        for _ in 0..OPERATIONS {
            assert!(self.encoder.push(black_box(&self.part)));
        }
        assert_eq!(black_box(self.encoder.stream()).len(), OPERATIONS as usize * FRAME);
        self.encoder.sent();
    }
}

struct Decode {
    decoder: Decoder,
    stream: Vec<u8>,
}

pub(super) fn decode() -> Box<dyn Work> {
    let mut stream = Vec::new();
    for _ in 0..OPERATIONS {
        write_header(&mut stream, BODY);
        stream.extend_from_slice(&[b'x'; BODY]);
    }
    Box::new(Decode { decoder: Decoder::new(FramePool::new(1 << 20)), stream })
}

impl Work for Decode {
    fn run(&mut self) {
        assert_eq!(self.decoder.decode(black_box(&self.stream)), OPERATIONS as usize);
    }
}

struct LargeHeader {
    out: Vec<u8>,
}

pub(super) fn large_header() -> Box<dyn Work> {
    Box::new(LargeHeader { out: Vec::with_capacity(16) })
}

impl Work for LargeHeader {
    fn run(&mut self) {
        for operation in 0..OPERATIONS as usize {
            self.out.clear();
            let body = (1 << 20) + operation;
            write_header(&mut self.out, black_box(body));
            assert_eq!(parse_header(black_box(&self.out)), Some(body));
        }
    }
}
