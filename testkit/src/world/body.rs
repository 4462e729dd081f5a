//! Bodies that say which they are, so that a receiver knows a message again and sees what is corrupt.

use transport_core::Frame;

/// A body that says which it is: `seq` in the first 8 bytes, then a pattern that depends on it. `len` in bytes;
/// shorter bodies hold the beginning.
pub fn body(seq: u64, len: usize) -> Frame {
    let mut bytes = Vec::with_capacity(len + PATTERN);
    bytes.extend_from_slice(&seq.to_le_bytes());
    // A prime number of bytes, so that a body shifted by a power of two does not look right.
    let pattern: [u8; PATTERN] = std::array::from_fn(|at| (at as u64).wrapping_add(seq) as u8);
    while bytes.len() < len {
        bytes.extend_from_slice(&pattern);
    }
    bytes.truncate(len);
    Frame::from(bytes)
}

const PATTERN: usize = 251;

/// The number in a body.
///
/// # Panics
/// When the rest of the body does not go with it.
pub fn seq_of(bytes: &[u8]) -> u64 {
    let head = bytes.get(..8).expect("a body of at least 8 bytes");
    let seq = u64::from_le_bytes(head.try_into().expect("8 bytes"));
    assert!(body(seq, bytes.len()) == *bytes, "body {seq} of {} bytes is corrupt", bytes.len());
    seq
}
