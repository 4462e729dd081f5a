//! Numbered bodies that show by themselves whether they are whole, in loaned memory.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use fabriq::{Context, FrameMut, Message};

/// Bytes of a large body: exactly what a slot of the pool takes, and fetched by READ.
pub(crate) const LARGE: usize = 1 << 20;

/// Slots of the pools that `context` has.
pub(crate) const SLOTS: usize = 8;

/// A context that can lend just `SLOTS` large frames from its pool, and receive as many into its pool.
pub(crate) fn context() -> Context {
    // A slot has a header of 64 bytes. Small arenas of the receive pool have a MiB to themselves.
    let slots = SLOTS * (LARGE + 64);
    fabriq::builder().pools(slots, slots + (1 << 20) - 1).build().unwrap()
}

/// Where all slots for sending are; each must be at home for the set to be the same again.
pub(crate) fn slots(context: &Context) -> BTreeSet<usize> {
    let loans: Vec<FrameMut> = (0..SLOTS).map(|_| context.loan(LARGE).unwrap()).collect();
    loans.iter().map(|loan| loan.as_ptr().addr()).collect()
}

/// A large frame on loan, with its number and what follows from it.
pub(crate) fn pack(context: &Context, number: u64) -> FrameMut {
    pack_len(context, number, LARGE)
}

/// The same with `len` bytes, a multiple of 8 and 16 at least.
pub(crate) fn pack_len(context: &Context, number: u64, len: usize) -> FrameMut {
    let mut loan = context.loan(len).unwrap();
    let (words, rest) = loan.as_chunks_mut::<8>();
    assert!(words.len() >= 2 && rest.is_empty());
    words[0] = number.to_le_bytes();
    let mut hash = mix(0, number);
    let last = words.len() - 1;
    for (at, word) in words[1..last].iter_mut().enumerate() {
        let value = mix(number, at as u64);
        *word = value.to_le_bytes();
        hash = mix(hash, value);
    }
    words[last] = hash.to_le_bytes();
    loan
}

/// The number of a message that was packed. Panics unless every byte is as it was.
pub(crate) fn unpack(message: &Message) -> u64 {
    let (words, rest) = message.body().as_chunks::<8>();
    assert!(words.len() >= 2 && rest.is_empty(), "{} bytes", message.body().len());
    let number = u64::from_le_bytes(words[0]);
    let last = words.len() - 1;
    let mut hash = mix(0, number);
    for word in &words[1..last] {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    assert_eq!(hash, u64::from_le_bytes(words[last]), "message {number} is corrupted");
    number
}

/// One step of a hash (the finalizer of splitmix64 over both).
fn mix(hash: u64, value: u64) -> u64 {
    let mut mixed = hash.rotate_left(23) ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

#[test]
fn a_parcel_with_one_wrong_byte_is_noticed() {
    let context = fabriq::builder().build().unwrap();
    let message = |frame: FrameMut| Message::from(frame.freeze());
    assert_eq!(unpack(&message(pack_len(&context, 7, 4096))), 7);
    for at in [0, 8, 2000, 4095] {
        let mut loan = pack_len(&context, 7, 4096);
        loan[at] ^= 1;
        let wrong = message(loan);
        std::panic::catch_unwind(AssertUnwindSafe(|| unpack(&wrong))).unwrap_err();
    }
}
