//! Which subscriptions a message matches: topics such as a market's feed has, one pipe's among a thousand each, and
//! messages that one of them is a prefix of (hit) or none (miss).

use super::{OPERATIONS, Work};
use messaging::bench::Topics;
use std::hint::black_box;

/// Pipes that share the topics.
const PIPES: u64 = 1000;
/// Runs after which the same messages come again: so many that with many topics the way to one is not in a cache.
const RUNS: u64 = 64;

struct Match {
    topics: Topics,
    messages: Vec<Vec<u8>>,
    /// The first message of the next run.
    next: usize,
    /// Pipes that a run must find.
    hits: u64,
}

/// SplitMix64: a different, random looking number for each number.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The topic of this number; no two of the numbers in use have the same.
fn topic(number: u64) -> String {
    let random = scatter(number);
    format!("quote.{:02x}.{:010x}.", random >> 56, random & 0xFF_FFFF_FFFF)
}

fn matching(subscriptions: u64, hit: bool) -> Box<dyn Work> {
    let mut topics = Topics::default();
    for number in 0..subscriptions {
        topics.subscribe(topic(number).as_bytes(), number % PIPES);
    }
    let count = subscriptions.min(RUNS * OPERATIONS);
    let messages = (0..count).map(|message| {
        let number = if hit { message * (subscriptions / count) } else { subscriptions + message };
        format!("{}bid=1234.5", topic(number)).into_bytes()
    });
    Box::new(Match { topics, messages: messages.collect(), next: 0, hits: if hit { OPERATIONS } else { 0 } })
}

/// Messages all over the topics. The number of subscriptions is a multiple of [`OPERATIONS`].
pub(super) fn hit(subscriptions: u64) -> Box<dyn Work> {
    matching(subscriptions, true)
}

/// Messages of topics that nobody subscribed to.
pub(super) fn miss(subscriptions: u64) -> Box<dyn Work> {
    matching(subscriptions, false)
}

impl Work for Match {
    fn prepare(&mut self) {
        self.next = (self.next + OPERATIONS as usize) % self.messages.len();
    }

    fn run(&mut self) {
        let mut found = 0;
        for message in &self.messages[self.next..][..OPERATIONS as usize] {
            self.topics.for_each_match(black_box(message), &mut |pipe| {
                found += u64::from(black_box(pipe) < PIPES);
            });
        }
        assert_eq!(found, self.hits);
    }
}
