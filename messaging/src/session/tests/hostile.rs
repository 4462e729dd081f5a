//! Hostile input: mutations, the corpus of the fuzz target, changed ciphertext.

use super::*;

#[test]
fn mutated_sequences_end_in_ok_or_violation() {
    let seeds = fuzz::seeds();
    let rounds = if cfg!(miri) { 1 } else { 300 };
    for (index, seed) in seeds.iter().enumerate() {
        fuzz_session(seed);
        for len in 0..seed.len() {
            fuzz_session(&seed[..len]);
        }
        let mut random = Random(0x5eed_0000 + index as u64);
        for _ in 0..rounds {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(6) {
                let (at, byte) = (random.below(bytes.len()), random.below(256) as u8);
                match random.below(4) {
                    0 => bytes[at] = byte,
                    1 => bytes[at] ^= 1 << (byte % 8),
                    2 => bytes.insert(at, byte),
                    _ => {
                        bytes.truncate(at.max(4));
                        let other = &seeds[random.below(seeds.len())];
                        bytes.extend_from_slice(&other[random.below(other.len())..]);
                    }
                }
            }
            fuzz_session(&bytes);
        }
    }
}

#[test]
fn mutated_ciphertext_never_comes_out() {
    let now = Instant::now();
    let mut random = Random(0xc1f4e5);
    for round in 0..if cfg!(miri) { 20 } else { 2000 } {
        let (mut a, mut b) =
            (ciphered(SocketType::Pair, 1, false, now), ciphered(SocketType::Pair, 1, false, now));
        converse(&mut a, &mut b, now);
        let part = a.encode(if round % 2 == 0 { Part::more("secret") } else { Part::last("") }).unwrap();
        let mut body = part.body.to_vec();
        let (at, bit) = (random.below(body.len()), random.below(8));
        if round % 3 == 0 {
            body.truncate(at);
        } else {
            body[at] ^= 1 << bit;
        }
        let outcome = b.handle_part(Part { body: body.into(), flags: part.flags }, now);
        assert!(outcome.is_err(), "round {round}");
    }
}

/// An input of the corpus by name; how the link ends; whether the handshake did; topics subscribed to, topics cancelled,
/// parts delivered, commands sent.
type Expected = (&'static str, Option<DownReason>, bool, [usize; 4]);

const TIMED_OUT: Option<DownReason> = Some(DownReason::TimedOut);

const fn broken(violation: Violation) -> Option<DownReason> {
    Some(DownReason::Violation(violation))
}

/// What the named inputs come to, so that they go on meaning what their names say.
const EXPECTED: &[Expected] = &[
    // What lets a peer in.
    ("ready", None, true, [0, 0, 0, 1]),
    ("ready-longest", None, true, [0, 0, 0, 1]),
    ("legacy", None, true, [1, 1, 0, 0]),
    ("in-process", None, true, [1, 1, 0, 0]),
    ("one-way", None, true, [0, 0, 2, 0]),
    // What does not.
    ("ready-incompatible", broken(Violation::IncompatibleSocket), false, [0, 0, 0, 1]),
    ("ready-without-type", broken(Violation::IncompatibleSocket), false, [0, 0, 0, 1]),
    ("ready-oversized", broken(Violation::TooLarge), false, [0, 0, 0, 0]),
    ("type-twice", broken(Violation::BadCommand), false, [0, 0, 0, 0]),
    ("identity-zero", broken(Violation::BadCommand), false, [0, 0, 0, 0]),
    ("property-name-empty", broken(Violation::BadCommand), false, [0, 0, 0, 0]),
    ("property-name-truncated", broken(Violation::BadCommand), false, [0, 0, 0, 0]),
    ("property-size-truncated", broken(Violation::BadCommand), false, [0, 0, 0, 0]),
    ("property-size-largest", broken(Violation::BadCommand), false, [0, 0, 0, 0]),
    ("property-value-truncated", broken(Violation::BadCommand), false, [0, 0, 0, 0]),
    ("data-before-ready", broken(Violation::BadFrame), false, [0, 0, 0, 0]),
    ("ping-before-ready", broken(Violation::UnexpectedCommand), false, [0, 0, 0, 0]),
    ("subscribe-before-ready", broken(Violation::UnexpectedCommand), false, [0, 0, 0, 0]),
    ("mechanism-to-legacy", broken(Violation::MechanismMismatch), false, [0, 0, 0, 0]),
    ("handshake-timeout", TIMED_OUT, false, [0, 0, 0, 0]),
    // A mechanism that waits for admission: HELLO, then READY or ERROR; the repeated ciphertext ends the link.
    ("admitted", broken(Violation::BadCommand), true, [0, 0, 1, 2]),
    ("refused", broken(Violation::Refused), false, [0, 0, 0, 2]),
    ("hello-twice", broken(Violation::UnexpectedCommand), false, [0, 0, 0, 0]),
    // Traffic.
    ("ready-twice", broken(Violation::UnexpectedCommand), true, [0, 0, 0, 1]),
    ("data", None, true, [0, 0, 3, 1]),
    ("command-empty", broken(Violation::BadCommand), true, [0, 0, 0, 1]),
    ("command-name-empty", broken(Violation::BadCommand), true, [0, 0, 0, 1]),
    ("command-name-truncated", broken(Violation::BadCommand), true, [0, 0, 0, 1]),
    ("command-name-not-letters", broken(Violation::BadCommand), true, [0, 0, 0, 1]),
    ("command-more", broken(Violation::BadFrame), true, [0, 0, 0, 1]),
    ("command-unknown", None, true, [0, 0, 0, 1]),
    ("error", broken(Violation::Refused), true, [0, 0, 0, 1]),
    ("error-in-handshake", broken(Violation::Refused), false, [0, 0, 0, 0]),
    ("error-truncated", broken(Violation::BadCommand), true, [0, 0, 0, 1]),
    // Heartbeats.
    ("ping", None, true, [0, 0, 0, 2]),
    ("ping-context-oversized", None, true, [0, 0, 0, 2]),
    ("ping-truncated", broken(Violation::BadCommand), true, [0, 0, 0, 1]),
    ("ping-flood", broken(Violation::CommandFlood), true, [0, 0, 0, 1]),
    ("pong", None, true, [0, 0, 0, 2]),
    ("pong-oversized", broken(Violation::BadCommand), true, [0, 0, 0, 1]),
    ("silence", TIMED_OUT, true, [0, 0, 0, 2]),
    // Subscriptions.
    ("subscribe", None, true, [2, 0, 0, 1]),
    ("subscribe-message", None, true, [1, 1, 0, 1]),
    ("subscribe-longest", None, true, [1, 0, 0, 1]),
    ("subscribe-oversized", broken(Violation::TooLarge), true, [0, 0, 0, 1]),
    ("subscribe-message-oversized", broken(Violation::TooLarge), true, [0, 0, 0, 1]),
    ("subscribe-to-pull", None, true, [0, 0, 0, 1]),
    ("cancel", None, true, [1, 1, 0, 1]),
    ("cancel-oversized", broken(Violation::TooLarge), true, [0, 0, 0, 1]),
];

/// Every file, also those that the fuzzer has found and that have no better name than a hash.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_corpus_comes_to_what_its_names_say() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/session");
    let mut missing: Vec<_> = EXPECTED.iter().map(|&(name, ..)| name).collect();
    for entry in std::fs::read_dir(corpus).expect("the corpus is checked in") {
        let entry = entry.unwrap();
        let outcome = fuzz::run(&std::fs::read(entry.path()).unwrap());
        let Some(&(name, ended, ready, [subscribed, cancelled, delivered, commands])) =
            EXPECTED.iter().find(|&&(name, ..)| entry.file_name() == name)
        else {
            continue;
        };
        missing.retain(|&other| other != name);
        let expected = fuzz::Outcome { ended, ready, subscribed, cancelled, delivered, commands };
        assert_eq!(outcome, Some(expected), "{name}");
    }
    assert!(missing.is_empty(), "not in {corpus}: {missing:?}");
}
