//! The bytes of a message: its number, when it was sent, a hash of all of it, and filling. It sends nothing.
//!
//! Little-endian words: number, stamp (nanoseconds of CLOCK_MONOTONIC, which all hosts of one machine share), hash. The
//! filling depends on the number, so that a message spliced from two has a wrong hash.

use rustix::time::{ClockId, clock_gettime};

/// The three words at the beginning.
pub(crate) const BYTES_MIN: usize = 24;

/// The number of a message before the run, by which subscribers hear that there is a publisher.
pub(crate) const HELLO: u64 = u64::MAX;

/// CLOCK_MONOTONIC in nanoseconds: not `Instant`, since another process reads it.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Writes a message over the whole of `body`, which is [`BYTES_MIN`] or longer.
pub(crate) fn write(body: &mut [u8], number: u64, stamp_ns: u64) {
    body[..8].copy_from_slice(&number.to_le_bytes());
    body[8..16].copy_from_slice(&stamp_ns.to_le_bytes());
    let filling = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    for chunk in body[BYTES_MIN..].chunks_mut(8) {
        chunk.copy_from_slice(&filling[..chunk.len()]);
    }
    let hash = hash(body);
    body[16..24].copy_from_slice(&hash.to_le_bytes());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    pub(crate) stamp_ns: u64,
}

/// What a message says, if it is whole.
pub(crate) fn read(body: &[u8], bytes: usize) -> Option<Header> {
    if body.len() != bytes || bytes < BYTES_MIN {
        return None;
    }
    let word = |at: usize| body[at..].first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    (word(16) == hash(body)).then(|| Header { number: word(0), stamp_ns: word(8) })
}

/// A hash of everything but itself, a word at a time: cheap beside a system call, and blind to no splice or flipped bit.
fn hash(body: &[u8]) -> u64 {
    let mut hash = body.len() as u64;
    let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let (words, rest) = body.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        if at != 2 {
            mix(u64::from_le_bytes(*word));
        }
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(u64::from_le_bytes(last));
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_was_written() {
        for bytes in [24, 25, 31, 32, 1024] {
            let mut body = vec![0; bytes];
            write(&mut body, 7, 99);
            assert_eq!(read(&body, bytes), Some(Header { number: 7, stamp_ns: 99 }));
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut body = [0; 45];
        write(&mut body, 3, 4);
        for bit in 0..body.len() * 8 {
            body[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&body, 45), None, "bit {bit}");
            body[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(read(&body, 45).is_some());
    }

    #[test]
    fn a_message_spliced_from_two_is_found_and_so_is_another_length() {
        let (mut one, mut other) = ([0; 100], [0; 100]);
        write(&mut one, 1, 5);
        write(&mut other, 2, 5);
        for at in (24..100).step_by(8) {
            let spliced = [&one[..at], &other[at..]].concat();
            assert_eq!(read(&spliced, 100), None, "spliced at {at}");
        }
        assert_eq!(read(&one[..99], 100), None);
        assert_eq!(read(&one[..20], 20), None);
        assert_eq!(read(&[], 0), None);
    }
}
