//! Numbered messages and who follows them: order, wholeness, gaps that are announced, and how long each took.

use std::collections::VecDeque;

use fabriq_transport_pgm::Inbox;
use transport_core::{Completion, Loss, Part};

use super::air::Micros;

const HEADER: usize = 24;

/// Message `seq` of `len` bytes (at least 24), said at `at`.
pub(crate) fn message(seq: u64, at: Micros, len: usize) -> Part {
    let mut body = vec![seq as u8; len.max(HEADER)];
    body[..8].copy_from_slice(&seq.to_le_bytes());
    body[8..16].copy_from_slice(&at.to_le_bytes());
    body[16..24].copy_from_slice(&(len as u64).to_le_bytes());
    Part::last(body)
}

/// What one receiver has heard of one source.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) inbox: Inbox,
    /// The number that must come next, or a later one behind a gap; `None` before the first.
    pub(crate) next: Option<u64>,
    pub(crate) first: Option<u64>,
    pub(crate) messages: u64,
    /// Messages that are missing in the middle.
    pub(crate) missing: u64,
    pub(crate) lost_packets: u64,
    pub(crate) dropped_messages: u64,
    gap: bool,
    pub(crate) latencies: Vec<Micros>,
    pub(crate) last_at: Micros,
    pub(crate) ended: Option<fabriq_transport_pgm::End>,
}

impl Follower {
    pub(crate) fn new() -> Self {
        let mut inbox = Inbox::new(None);
        inbox.grant(transport_core::Grant::Unlimited);
        Self {
            inbox,
            next: None,
            first: None,
            messages: 0,
            missing: 0,
            lost_packets: 0,
            dropped_messages: 0,
            gap: false,
            latencies: Vec::new(),
            last_at: 0,
            ended: None,
        }
    }

    pub(crate) fn hear(&mut self, now: Micros, said: &mut Vec<Completion>) {
        for completion in said.drain(..) {
            match completion {
                Completion::Received { part, .. } => self.part(now, &part),
                Completion::Gap { lost, .. } => {
                    self.gap = true;
                    match lost {
                        Loss::Packets(packets) => self.lost_packets += packets,
                        Loss::Messages(messages) => self.dropped_messages += messages,
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn part(&mut self, now: Micros, part: &Part) {
        let body = &part.body[..];
        let word = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        let (seq, at, len) = (word(0), word(8), word(16));
        assert_eq!(body.len() as u64, len.max(HEADER as u64), "message {seq} is spliced");
        assert!(body[HEADER..].iter().all(|byte| *byte == seq as u8), "message {seq} is spliced");
        if let Some(next) = self.next {
            assert!(seq >= next, "message {seq} came again or late: {next} was due");
            assert!(
                seq == next || self.gap,
                "messages {next} to {} are missing, and no gap says so",
                seq - 1
            );
            self.missing += seq - next;
        }
        self.first.get_or_insert(seq);
        (self.next, self.gap) = (Some(seq + 1), false);
        self.messages += 1;
        self.latencies.push(now - at);
        self.last_at = now;
    }

    /// The latency that so many of a hundred stay below.
    pub(crate) fn percentile(&self, percent: f64) -> Micros {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * percent / 100.0) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(Micros::MAX)
    }
}

/// What a publisher has to say.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// When, and of how many bytes. In order.
    pub(crate) lines: VecDeque<(Micros, usize)>,
    pub(crate) said: u64,
}
