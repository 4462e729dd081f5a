//! What one source's link has to say, as far as it is granted: messages whole, gaps between them. Does not know
//! packets; a source cannot be held back, so what is not fetched in time is dropped here, by the message, and counted.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use transport_core::{Completion, Grant, Landing, LinkId, Loss, Part};

use crate::framing::{Decoder, Dropped, Messages};
use crate::limits::{INBOX_BYTES_MAX, INBOX_PARTS_MAX};

/// The receiving end of a link.
#[derive(Debug)]
pub struct Inbox {
    decoder: Decoder,
    shelf: Shelf,
}

#[derive(Debug)]
struct Shelf {
    held: VecDeque<Held>,
    parts: usize,
    /// Parts that may wait for a grant, beyond those that have one.
    parts_max: usize,
    /// Parts that may be said; `None` for any number.
    grant: Option<u64>,
    bytes: usize,
    counters: InboxCounters,
}

#[derive(Debug)]
enum Held {
    Part(Part),
    Gap(Loss),
}

/// Why messages did not reach the application. All counters only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InboxCounters {
    /// Messages taken.
    pub messages: u64,
    /// Messages dropped because the application was too slow.
    pub overrun: u64,
    /// Messages dropped because they were larger than allowed.
    pub too_large: u64,
    /// Places where the stream was no stream of messages.
    pub malformed: u64,
    /// Messages dropped for want of memory.
    pub out_of_memory: u64,
}

/// Why [`Inbox::poll`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Everything is said.
    Empty,
    /// More waits for a grant.
    Grant,
    /// More waits for the next call.
    Budget,
}

impl Inbox {
    /// Grants nothing yet. Parts may have `part_max` bytes.
    pub fn new(part_max: Option<u64>) -> Self {
        Self::with_room(part_max, INBOX_PARTS_MAX)
    }

    /// The same, where so many parts may wait for a grant.
    pub fn with_room(part_max: Option<u64>, parts_max: usize) -> Self {
        let (held, counters) = (VecDeque::new(), InboxCounters::default());
        let shelf = Shelf { held, parts: 0, parts_max, grant: Some(0), bytes: 0, counters };
        Self { decoder: Decoder::new(part_max), shelf }
    }

    /// Takes the next TSDU.
    pub fn data(&mut self, tsdu: &[u8], landing: &mut Landing) {
        self.decoder.push(tsdu, landing, &mut self.shelf);
    }

    /// So many packets are lost. Nothing that was begun before them is completed by what comes.
    pub fn lost(&mut self, packets: u64, landing: &mut Landing) {
        self.decoder.gap(landing);
        self.shelf.gap(Loss::Packets(packets));
    }

    /// Nothing more comes.
    pub fn end(&mut self, landing: &mut Landing) {
        self.decoder.gap(landing);
    }

    /// Sets how many more parts may be said; replaces what was left.
    pub fn grant(&mut self, grant: Grant) {
        self.shelf.grant = match grant {
            Grant::Limited(parts) => Some(parts),
            Grant::Unlimited => None,
        };
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.shelf.held.is_empty()
    }

    /// What has become of messages.
    pub fn counters(&self) -> InboxCounters {
        self.shelf.counters
    }

    /// Says what is granted, until `out` has `limit` completions.
    pub fn poll(&mut self, link: LinkId, out: &mut Vec<Completion>, limit: usize) -> Stop {
        while let Some(first) = self.shelf.held.front() {
            if self.shelf.grant == Some(0) && matches!(first, Held::Part(_)) {
                return Stop::Grant;
            }
            if out.len() >= limit {
                return Stop::Budget;
            }
            match self.shelf.held.pop_front() {
                Some(Held::Part(part)) => {
                    self.shelf.parts -= 1;
                    self.shelf.bytes -= part.body.len();
                    self.shelf.grant = self.shelf.grant.map(|left| left - 1);
                    out.push(Completion::Received { link, part });
                }
                Some(Held::Gap(lost)) => out.push(Completion::Gap { link, lost }),
                None => {}
            }
        }
        Stop::Empty
    }
}

impl Shelf {
    fn gap(&mut self, lost: Loss) {
        // Of either kind one at most behind the last part, or they would add up where nobody reads.
        for held in self.held.iter_mut().rev().take(2) {
            match (held, lost) {
                (Held::Gap(Loss::Packets(before)), Loss::Packets(more))
                | (Held::Gap(Loss::Messages(before)), Loss::Messages(more)) => {
                    *before += more;
                    return;
                }
                (Held::Gap(_), _) => {}
                (Held::Part(_), _) => break,
            }
        }
        self.held.push_back(Held::Gap(lost));
    }
}

impl Messages for Shelf {
    fn message(&mut self, parts: impl ExactSizeIterator<Item = Part>) {
        self.counters.messages += 1;
        // One message may always wait, or those larger than the limit would never come.
        let granted = self.grant.map_or(usize::MAX, |grant| usize::try_from(grant).unwrap_or(usize::MAX));
        let parts_max = self.parts_max.saturating_add(granted);
        if self.parts > 0 && (self.parts + parts.len() > parts_max || self.bytes > INBOX_BYTES_MAX) {
            self.counters.overrun += 1;
            self.gap(Loss::Messages(1));
            return;
        }
        for part in parts {
            self.parts += 1;
            self.bytes += part.body.len();
            self.held.push_back(Held::Part(part));
        }
    }

    fn dropped(&mut self, why: Dropped) {
        *match why {
            Dropped::TooLarge => &mut self.counters.too_large,
            Dropped::Malformed => &mut self.counters.malformed,
            Dropped::OutOfMemory => &mut self.counters.out_of_memory,
        } += 1;
        self.gap(Loss::Messages(1));
    }
}

#[cfg(test)]
mod tests {
    use transport_core::{FramePool, SlabKey};

    use super::*;
    use crate::framing::Encoder;

    fn tsdu(parts: Vec<Part>) -> Vec<u8> {
        let mut tsdu = vec![0; 60_000];
        let mut parts = parts.into_iter();
        let len = Encoder::new().fill(&mut tsdu, || parts.next());
        tsdu.truncate(len);
        tsdu
    }

    /// What is said: lengths of parts, and gaps.
    fn said(inbox: &mut Inbox, limit: usize) -> (Vec<String>, Stop) {
        let mut out = Vec::new();
        let stop = inbox.poll(LinkId::from(SlabKey::from_u64(1 << 32)), &mut out, limit);
        let say = |completion: &Completion| match completion {
            Completion::Received { part, .. } => {
                format!("{}{}", part.body.len(), if part.flags.more() { "+" } else { "" })
            }
            Completion::Gap { lost, .. } => format!("{lost:?}"),
            other => panic!("{other:?}"),
        };
        (out.iter().map(say).collect(), stop)
    }

    #[test]
    fn grants_and_budgets_bound_what_is_said_and_gaps_need_none() {
        let (mut inbox, mut landing) = (Inbox::new(None), Landing::new(FramePool::new(1 << 20)));
        inbox.lost(2, &mut landing);
        inbox.lost(3, &mut landing);
        inbox.data(&tsdu(vec![Part::more("a"), Part::more("bb"), Part::last("ccc")]), &mut landing);
        inbox.data(&tsdu(vec![Part::last("dddd")]), &mut landing);
        inbox.lost(1, &mut landing);
        assert_eq!(said(&mut inbox, 9), (vec!["Packets(5)".into()], Stop::Grant));
        inbox.grant(Grant::Limited(2));
        assert_eq!(said(&mut inbox, 1), (vec!["1+".into()], Stop::Budget));
        assert_eq!(said(&mut inbox, 9), (vec!["2+".into()], Stop::Grant));
        inbox.grant(Grant::Unlimited);
        assert_eq!(said(&mut inbox, 9), (vec!["3".into(), "4".into(), "Packets(1)".into()], Stop::Empty));
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_slow_application_loses_whole_messages_and_hears_how_many() {
        let (mut inbox, mut landing) = (Inbox::new(None), Landing::new(FramePool::new(1 << 20)));
        for _ in 0..INBOX_PARTS_MAX / 3 + 10 {
            inbox.data(&tsdu(vec![Part::more("a"), Part::more("b"), Part::last("c")]), &mut landing);
        }
        inbox.grant(Grant::Unlimited);
        let (said_first, stop) = said(&mut inbox, usize::MAX);
        assert_eq!((said_first.len(), stop), (INBOX_PARTS_MAX / 3 * 3 + 1, Stop::Empty));
        assert_eq!(said_first.last().map(String::as_str), Some("Messages(10)"));
        assert_eq!(inbox.counters().overrun, 10);
        // By bytes as well.
        inbox.grant(Grant::Limited(0));
        let mut sent = 0;
        while inbox.counters().overrun == 10 {
            inbox.data(&tsdu(vec![Part::last(vec![7; 50_000])]), &mut landing);
            sent += 1;
        }
        assert!(sent * 50_000 >= INBOX_BYTES_MAX && (sent - 3) * 50_000 < INBOX_BYTES_MAX);
    }
}
