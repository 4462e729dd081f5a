//! The messages of a benchmark: made in advance, numbered and hashed, so that every one that arrives can be verified.
//! Measures nothing.
//!
//! A message is `slot number (8 bytes, little endian) | hash of number and body (8 bytes) | body`. Messages come from
//! a ring of prepared frames, each with its own body, that are sent in turn: sending costs a clone of a frame, no
//! copy. So the number counts modulo the ring; the total is compared at the end, which closes the gap. Where several
//! senders meet in one socket, the upper half of the number says whose ring it is.

use fabriq::{Context, Frame};

use crate::failure::Failure;

/// Number and hash.
pub(crate) const HEADER: usize = 16;

/// Largest message of a benchmark: several are in memory, at both ends.
pub(crate) const SIZE_MAX: usize = 256 << 20;

/// What the frames of a ring may take together, in bytes, unless that is fewer than [`SLOTS_MIN`].
const RING_BYTES: usize = 16 << 20;
const SLOTS_MIN: usize = 3;
/// Odd, so that what is lost or doubled in batches does not fall on the same number.
const SLOTS_MAX: usize = 1021;

/// Where a number has its sender.
const SENDER_SHIFT: u32 = 32;

/// Who sent a message, as its number says; whether that is true, a verifier finds out.
#[inline]
pub(crate) fn sender_of(message: &[u8]) -> u32 {
    (word(message) >> SENDER_SHIFT) as u32
}

/// A ring of prepared messages of one size.
#[derive(Debug)]
pub(crate) struct Ring(Vec<Frame>);

impl Ring {
    /// Prepares messages of `size` bytes, in memory that transports can send from without a copy.
    pub(crate) fn new(context: &Context, size: usize) -> Result<Self, Failure> {
        Self::of_sender(context, size, 0, Self::slots_of(size))
    }

    /// The same of one sender among several, with `slots` messages.
    pub(crate) fn of_sender(
        context: &Context,
        size: usize,
        sender: u32,
        slots: u64,
    ) -> Result<Self, Failure> {
        check_size(size)?;
        let mut state = size as u64 ^ (u64::from(sender) << 32);
        let frames = (0..slots).map(|slot| {
            let slot = u64::from(sender) << SENDER_SHIFT | slot;
            let mut frame = context.loan(size)?;
            let (header, body) = frame.split_at_mut(HEADER);
            for word in body.chunks_mut(8) {
                // Weyl sequence, mixed: no two words of a ring alike.
                state = state.wrapping_add(KEYS[0]);
                word.copy_from_slice(&fold(state, KEYS[1]).to_le_bytes()[..word.len()]);
            }
            header[..8].copy_from_slice(&slot.to_le_bytes());
            header[8..].copy_from_slice(&hash(slot, body).to_le_bytes());
            Ok(frame.freeze())
        });
        frames.collect::<Result<_, fabriq::Error>>().map(Self).map_err(Failure::from)
    }

    /// How many there are in a ring of messages of `size` bytes.
    pub(crate) fn slots_of(size: usize) -> u64 {
        (RING_BYTES / size).clamp(SLOTS_MIN, SLOTS_MAX) as u64
    }

    /// How many each of `senders` within one process has.
    pub(crate) fn slots_among(size: usize, senders: usize) -> u64 {
        (RING_BYTES / size / senders.max(1)).clamp(SLOTS_MIN, SLOTS_MAX) as u64
    }

    /// How many there are.
    pub(crate) fn slots(&self) -> u64 {
        self.0.len() as u64
    }

    /// The message to send as the `number`th, from 0.
    #[inline]
    pub(crate) fn message(&self, number: u64) -> Frame {
        self.0[(number % self.slots()) as usize].clone()
    }
}

/// Refuses sizes that no ring can have.
pub(crate) fn check_size(size: usize) -> Result<(), Failure> {
    if (HEADER..=SIZE_MAX).contains(&size) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--size {size}: a size is {HEADER} B (sequence number and hash) to {}",
        crate::units::size(SIZE_MAX)
    )))
}

/// Verifies messages in the order in which they arrive.
#[derive(Debug)]
pub(crate) struct Verifier {
    size: usize,
    slots: u64,
    /// The number of the ring's first message.
    first: u64,
    next: u64,
    /// Messages verified so far.
    pub(crate) count: u64,
}

impl Verifier {
    /// Expects the messages of a ring of `slots` of `size` bytes.
    pub(crate) fn new(size: usize, slots: u64) -> Self {
        Self::of_sender(size, slots, 0)
    }

    /// The same of one sender among several.
    pub(crate) fn of_sender(size: usize, slots: u64, sender: u32) -> Self {
        let first = u64::from(sender) << SENDER_SHIFT;
        Self { size, slots, first, next: first, count: 0 }
    }

    /// Verifies the next message: its size, its number and its hash.
    #[inline]
    pub(crate) fn check(&mut self, message: &[u8]) -> Result<(), Failure> {
        let verified = message.split_at_checked(HEADER).is_some_and(|(header, body)| {
            word(header) == self.next
                && message.len() == self.size
                && word(&header[8..]) == hash(self.next, body)
        });
        if !verified {
            return Err(self.mismatch(message));
        }
        self.count += 1;
        self.next = if self.next + 1 == self.first + self.slots { self.first } else { self.next + 1 };
        Ok(())
    }

    /// Some are known to be missing before this message: it counts as the next one.
    #[cold]
    pub(crate) fn resume(&mut self, message: &[u8]) {
        let slot = word(&message[..message.len().min(8)]) & u64::from(u32::MAX);
        self.next = self.first + slot % self.slots;
    }

    #[cold]
    fn mismatch(&self, message: &[u8]) -> Failure {
        let what = if message.len() != self.size {
            format!("it has {} bytes instead of {}", message.len(), self.size)
        } else if word(&message[8..]) != hash(word(message), &message[HEADER..]) {
            "its bytes do not match its hash".to_owned()
        } else {
            format!("it has the sequence number {} instead of {}", word(message), self.next)
        };
        Failure::Corrupt(format!(
            "message {} of this run is wrong: {what}; is more than one peer connected? If not, please report this bug",
            self.count
        ))
    }

    /// Compares with what the sender counted.
    pub(crate) fn finish(&self, sent: u64) -> Result<(), Failure> {
        if self.count == sent {
            return Ok(());
        }
        Err(Failure::Corrupt(format!(
            "{} messages were sent and {} arrived; did the connection break?",
            sent, self.count
        )))
    }
}

const KEYS: [u64; 8] = [
    0x9e37_79b9_7f4a_7c15,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
    0x1d8e_4e27_c47d_124f,
    0xeb44_acca_b455_d165,
    0x2d35_8dcc_aa6c_78a5,
];

/// The 128-bit product, folded.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The first 8 bytes; fewer are filled with zeros.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// A hash in the manner of wyhash: four lanes of folded products, so that verifying 1 MiB costs about as little as
/// reading it. Finds damage and mix-ups; no defence against anybody who means harm.
#[inline]
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut lanes = [seed; 4];
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = fold(word(&block[16 * i..]) ^ KEYS[i], word(&block[16 * i + 8..]) ^ KEYS[i + 4] ^ *lane);
        }
    }
    for (i, pair) in rest.chunks(16).enumerate() {
        lanes[i] = fold(word(pair) ^ KEYS[i], word(pair.get(8..).unwrap_or(&[])) ^ KEYS[i + 4] ^ lanes[i]);
    }
    let length = bytes.len() as u64 ^ KEYS[0];
    fold(
        fold(lanes[0] ^ KEYS[1], lanes[1] ^ length),
        fold(lanes[2] ^ KEYS[2], lanes[3] ^ KEYS[3]) ^ seed ^ KEYS[4],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(size: usize) -> Ring {
        Ring::new(&fabriq::context().unwrap(), size).unwrap()
    }

    #[test]
    fn what_was_sent_is_accepted_over_and_over() {
        for size in [16, 17, 31, 64, 79, 80, 1000, 70_000] {
            let ring = ring(size);
            let mut verifier = Verifier::new(size, ring.slots());
            (0..3 * ring.slots()).for_each(|number| verifier.check(&ring.message(number)).unwrap());
            verifier.finish(3 * ring.slots()).unwrap();
            assert!(matches!(verifier.finish(1), Err(Failure::Corrupt(_))));
        }
    }

    #[test]
    fn senders_are_told_apart_and_each_has_its_own_sequence() {
        let context = fabriq::context().unwrap();
        let rings = [3, 4].map(|sender| Ring::of_sender(&context, 64, sender, 5).unwrap());
        let mut verifiers = [3, 4].map(|sender| Verifier::of_sender(64, 5, sender));
        for number in 0..12 {
            for (at, ring) in rings.iter().enumerate() {
                let message = ring.message(number);
                assert_eq!(sender_of(&message), at as u32 + 3);
                verifiers[at].check(&message).unwrap();
            }
        }
        assert!(verifiers[0].check(&rings[1].message(12)).is_err());
        verifiers[1].resume(&rings[1].message(14));
        verifiers[1].check(&rings[1].message(14)).unwrap();
        verifiers[1].check(&rings[1].message(15)).unwrap();
    }

    #[test]
    fn every_wrong_bit_is_found() {
        let ring = ring(150);
        let right = ring.message(0).to_vec();
        for bit in 0..150 * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(Verifier::new(150, ring.slots()).check(&wrong).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lost_doubled_cut_and_foreign_messages_are_found() {
        let ring = ring(100);
        let fails = |wrong: &[u8], part: &str| {
            let mut verifier = Verifier::new(100, ring.slots());
            verifier.check(&ring.message(0)).unwrap();
            let said = verifier.check(wrong).unwrap_err().into_text();
            assert!(said.contains(part), "{said}");
        };
        fails(&ring.message(2), "number 2 instead of 1");
        fails(&ring.message(0), "number 0 instead of 1");
        fails(&ring.message(1)[..99], "99 bytes");
        fails(b"", "0 bytes");
        let mut mixed = ring.message(1).to_vec();
        mixed[HEADER..].copy_from_slice(&ring.message(2)[HEADER..]);
        fails(&mixed, "hash");
    }
}
