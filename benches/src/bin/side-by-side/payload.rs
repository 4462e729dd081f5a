//! The bytes of a test message and the check of what arrives; it sends and receives nothing itself.
//!
//! The first eight bytes are a sequence number, or one of the marks below. Where several send to one, each counts in a lane of
//! its own, which is the number's high byte; the marks are in no lane. Small messages are written afresh each time.
//! Large ones come from a few fixed buffers, so that a peer may send them by reference: their number is modulo the
//! count of buffers, and stands at the end as well, which shows that the whole body came.

use crate::Result;
use crate::control::Report;
use crate::random::mix;
use crate::usage::Usage;
use std::time::{Duration, Instant};

/// The last message of a lane; the next eight bytes are the number that would have been next, lane and all.
pub(crate) const END: u64 = u64::MAX;
/// The warm-up is over: measure from here.
pub(crate) const START: u64 = u64::MAX - 1;
/// A publisher's message before the run, by which subscribers see that they are subscribed.
pub(crate) const HELLO: u64 = u64::MAX - 2;

/// From this size on, messages are sent by reference from fixed buffers.
const LARGE_BYTES: usize = 64 * 1024;
/// Few, so that they stay as warm in the cache as one buffer that an application reuses.
const LARGE_BUFFERS: u64 = 4;

/// Where in a number its lane begins. A lane has room for more messages than anybody sends.
const LANE_SHIFT: u32 = 56;

pub(crate) fn is_large(bytes: usize) -> bool {
    bytes >= LARGE_BYTES
}

/// Messages between two looks at the clock, a power of two: a look costs as much as a small message.
pub(crate) fn stride(bytes: usize) -> u64 {
    if is_large(bytes) { 1 } else { 64 }
}

pub(crate) fn number(body: &[u8]) -> u64 {
    body.first_chunk::<8>().map_or(END, |bytes| u64::from_le_bytes(*bytes))
}

pub(crate) fn write_number(body: &mut [u8], number: u64) {
    body[..8].copy_from_slice(&number.to_le_bytes());
}

/// The second number of a message; 0 if it has none.
pub(crate) fn second_number(body: &[u8]) -> u64 {
    body.get(8..16).map_or(0, number)
}

pub(crate) fn write_second_number(body: &mut [u8], number: u64) {
    write_number(&mut body[8..], number);
}

/// The number of a lane's first message.
pub(crate) fn first_of(lane: usize) -> u64 {
    (lane as u64) << LANE_SHIFT
}

/// Of a number that is no mark.
fn lane(number: u64) -> usize {
    (number >> LANE_SHIFT) as usize
}

/// The end of a lane whose next message would have had the number `next`.
pub(crate) fn end(bytes: usize, next: u64) -> Vec<u8> {
    let mut body = vec![0; bytes];
    write_number(&mut body, END);
    write_second_number(&mut body, next);
    body
}

/// Which of the messages 0 to `total` there were, as far as one number can say it: the same whoever had which of them, and
/// another one if any was lost or came twice.
pub(crate) fn digest(total: u64) -> u64 {
    (0..total).map(mix).fold(0, u64::wrapping_add)
}

/// The fixed buffers of large messages, leaked: they live as long as the process, as `'static` sends require.
pub(crate) fn large_buffers(bytes: usize) -> Vec<&'static [u8]> {
    (0..LARGE_BUFFERS)
        .map(|index| {
            let mut body = vec![index as u8; bytes];
            write_number(&mut body, index);
            let tail = bytes - 8;
            write_number(&mut body[tail..], index);
            &*body.leak()
        })
        .collect()
}

/// Counts deliveries in a window of time: from `warm` after the first one, for `run`.
#[derive(Debug)]
pub(crate) struct Window {
    warm: Duration,
    run: Duration,
    first: Option<Instant>,
    from: Option<(u64, Instant)>,
    to: Option<(u64, Instant)>,
}

impl Window {
    pub(crate) fn new(warm: Duration, run: Duration) -> Self {
        Self { warm, run, first: None, from: None, to: None }
    }

    /// Called now and then with the count so far.
    pub(crate) fn look(&mut self, count: u64) {
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        if self.from.is_none() {
            if now - first >= self.warm {
                self.from = Some((count, now));
            }
        } else if self.to.is_none_or(|(_, to)| to - first < self.warm + self.run) {
            self.to = Some((count, now));
        }
    }

    /// Whether the time is up; for whoever receives without an end in the stream.
    #[allow(dead_code, reason = "side-by-side's streams all have an end")]
    pub(crate) fn is_over(&self) -> bool {
        self.first.is_some_and(|first| self.to.is_some_and(|(_, to)| to - first >= self.warm + self.run))
    }

    pub(crate) fn rate_per_s(&self) -> Result<f64> {
        match (self.from, self.to) {
            (Some((before, from)), Some((after, to))) if to > from => {
                Ok((after - before) as f64 / (to - from).as_secs_f64())
            }
            _ => Err("too few messages came to tell a rate".into()),
        }
    }
}

/// What comes to one PULL socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// All that so many senders send, each in its lane.
    Lanes(usize),
    /// A part of what one sender sends, who has other receivers as well.
    Share,
}

/// Which number is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The next one of its lane.
    Each,
    /// One beyond the last: others have those between. That nobody has lost one shows in the digests of all.
    Rising,
    /// The next of the fixed buffers.
    Buffers,
}

/// The receiving end of PUSH/PULL: every message must come once and in order, from each sender.
#[derive(Debug)]
pub(crate) struct Tally {
    bytes: usize,
    /// Of the messages between two looks at the clock: a division would cost as much as all else.
    stride_mask: u64,
    order: Order,
    /// By lane, the number that comes next, or the least that may; [`END`] after the lane's end.
    next: Vec<u64>,
    /// Lanes that have not ended.
    open: usize,
    /// Messages in all lanes.
    pub(crate) count: u64,
    digest: u64,
    pub(crate) window: Window,
    wrong: Option<String>,
}

impl Tally {
    pub(crate) fn new(streams: Streams, bytes: usize, warm: Duration, run: Duration) -> Self {
        let (order, lanes) = match streams {
            Streams::Share => (Order::Rising, 1),
            Streams::Lanes(lanes) if is_large(bytes) => (Order::Buffers, lanes),
            Streams::Lanes(lanes) => (Order::Each, lanes),
        };
        Self {
            bytes,
            stride_mask: stride(bytes) - 1,
            order,
            next: (0..lanes).map(first_of).collect(),
            open: lanes,
            count: 0,
            digest: 0,
            window: Window::new(warm, run),
            wrong: None,
        }
    }

    /// Takes one message; true when it was the last.
    #[inline]
    pub(crate) fn take(&mut self, body: &[u8]) -> bool {
        let number = number(body);
        // The marks are in no lane.
        let Some(next) = self.next.get_mut(lane(number)) else { return self.take_mark(body) };
        let expected = *next;
        let whole = body.len() == self.bytes;
        if whole && self.order == Order::Each && number == expected {
            *next = number + 1;
        } else if whole && self.order == Order::Rising && number >= expected {
            *next = number + 1;
            self.digest = self.digest.wrapping_add(mix(number));
        } else {
            self.take_otherwise(body, expected);
        }
        if self.count & self.stride_mask == 0 {
            self.window.look(self.count);
        }
        self.count += 1;
        false
    }

    /// Takes a message of fixed buffers, or one that is wrong.
    fn take_otherwise(&mut self, body: &[u8], expected: u64) {
        let (number, buffer) = (number(body), expected % LARGE_BUFFERS);
        let large = self.order == Order::Buffers;
        let whole = body.len() == self.bytes && body.last_chunk::<8>() == Some(&buffer.to_le_bytes());
        if !(large && number == buffer && whole) {
            self.note_wrong(body, expected);
        }
        self.next[lane(number)] = if large { expected.wrapping_add(1) } else { number + 1 };
    }

    #[cold]
    fn note_wrong(&mut self, body: &[u8], expected: u64) {
        let (count, number) = (self.count, number(body));
        self.wrong.get_or_insert_with(|| {
            format!("message {count}: number {number:#x}, {} B, where {expected:#x} was due", body.len())
        });
    }

    #[cold]
    fn take_mark(&mut self, body: &[u8]) -> bool {
        let last = second_number(body);
        match self.next.get_mut(lane(last)) {
            Some(next) if number(body) == END && body.len() == self.bytes && *next != END => {
                let expected = std::mem::replace(next, END);
                self.open -= 1;
                let right = if self.order == Order::Rising { last >= expected } else { last == expected };
                if !right {
                    self.wrong.get_or_insert_with(|| {
                        format!("the sender ended before {last:#x}, and {expected:#x} was due")
                    });
                }
            }
            _ => self.note_wrong(body, END),
        }
        self.open == 0
    }

    /// What is to be said at the end, unless something was wrong.
    pub(crate) fn report(&self, usage: Usage) -> Result<Report> {
        let rate_per_s = self.verdict()?;
        Ok(Report { count: self.count, digest: self.digest, rate_per_s, usage, ..Report::default() })
    }

    fn verdict(&self) -> Result<f64> {
        match &self.wrong {
            Some(wrong) => Err(wrong.clone().into()),
            None => self.window.rate_per_s(),
        }
    }
}

/// How far a publisher may be ahead of the slowest subscriber, in messages. A publisher drops at the high-water mark, and
/// some peers learn what was taken from a queue only when half of the mark was, so this is less than half of it:
/// nothing is ever dropped, and what is measured is what arrived.
pub(crate) const FAN_WINDOW: u64 = 400;
/// Messages after which the subscribers say how far all of them are.
const CREDIT_EVERY: u64 = 100;

/// The receiving end of PUB/SUB: every socket must get every message once and in order.
#[derive(Debug)]
pub(crate) struct Feeds {
    feeds: Vec<Feed>,
    told: u64,
}

#[derive(Debug, Default, Clone)]
struct Feed {
    next: u64,
    greeted: bool,
    ended: bool,
}

impl Feeds {
    pub(crate) fn new(sockets: usize) -> Self {
        Self { feeds: vec![Feed::default(); sockets], told: 0 }
    }

    /// Takes a message that came to one of the sockets.
    pub(crate) fn take(&mut self, socket: usize, body: &[u8]) -> Result<()> {
        let feed = &mut self.feeds[socket];
        match number(body) {
            HELLO => feed.greeted = true,
            END => {
                feed.ended = true;
                let total = second_number(body);
                if total != feed.next {
                    return Err(
                        format!("{total} messages published, socket {socket} got {}", feed.next).into()
                    );
                }
            }
            number if number == feed.next => feed.next += 1,
            number => {
                return Err(format!("socket {socket}: number {number} came instead of {}", feed.next).into());
            }
        }
        Ok(())
    }

    /// How many messages all sockets have.
    pub(crate) fn all(&self) -> u64 {
        self.feeds.iter().map(|feed| feed.next).min().unwrap_or(0)
    }

    /// How many messages all sockets have, whenever it is time to tell the publisher.
    pub(crate) fn credit(&mut self) -> Option<u64> {
        let all = self.all();
        let due = all >= self.told + CREDIT_EVERY;
        due.then(|| self.told = all);
        due.then_some(all)
    }

    pub(crate) fn greeted(&self) -> bool {
        self.feeds.iter().all(|feed| feed.greeted)
    }

    pub(crate) fn ended(&self) -> bool {
        self.feeds.iter().all(|feed| feed.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: u64) -> [u8; 64] {
        let mut body = [0; 64];
        write_number(&mut body, number);
        body
    }

    #[test]
    fn a_feed_that_misses_a_message_is_found_out() {
        let mut feeds = Feeds::new(2);
        feeds.take(0, &body(0)).unwrap();
        feeds.take(0, &body(1)).unwrap();
        assert_eq!(feeds.all(), 0, "the slowest counts");
        assert!(feeds.take(1, &body(1)).is_err(), "0 was lost");
        assert!(feeds.take(0, &body(1)).is_err(), "1 came twice");
        assert!(feeds.take(1, &end(64, 2)).is_err(), "the last ones were lost");
        assert!(feeds.take(0, &end(64, 2)).is_ok());
    }

    #[test]
    fn credit_is_told_once_and_for_what_all_have() {
        let mut feeds = Feeds::new(2);
        for number in 0..CREDIT_EVERY {
            assert_eq!(feeds.credit(), None);
            feeds.take(0, &body(number)).unwrap();
        }
        assert_eq!(feeds.credit(), None, "socket 1 has nothing");
        for number in 0..CREDIT_EVERY {
            feeds.take(1, &body(number)).unwrap();
        }
        assert_eq!((feeds.credit(), feeds.credit()), (Some(CREDIT_EVERY), None));
    }

    fn tally(streams: Streams, bytes: usize) -> Tally {
        Tally::new(streams, bytes, Duration::ZERO, Duration::ZERO)
    }

    /// A message of a lane.
    fn of_lane(lane: usize, number: u64) -> [u8; 64] {
        body(first_of(lane) + number)
    }

    #[test]
    fn a_tally_ends_with_the_last_of_its_lanes_however_they_mingle() {
        let mut tally = tally(Streams::Lanes(3), 64);
        for (lane, number) in [(0, 0), (2, 0), (2, 1), (0, 1), (2, 2)] {
            assert!(!tally.take(&of_lane(lane, number)));
        }
        assert!(!tally.take(&end(64, first_of(2) + 3)));
        assert!(!tally.take(&of_lane(0, 2)), "the others go on");
        assert!(!tally.take(&end(64, first_of(0) + 3)));
        assert!(tally.take(&end(64, first_of(1))), "of whom nothing came");
        assert_eq!((tally.count, &tally.wrong), (6, &None));
    }

    #[test]
    fn what_is_lost_doubled_late_or_strange_in_a_lane_is_found_out() {
        let wrong = |messages: &[&[u8]]| {
            let mut tally = tally(Streams::Lanes(2), 64);
            for message in messages {
                tally.take(message);
            }
            tally.wrong.is_some()
        };
        let message = of_lane;
        assert!(!wrong(&[&message(0, 0), &message(1, 0), &end(64, 1), &end(64, first_of(1) + 1)]));
        assert!(wrong(&[&message(0, 1)]), "lost");
        assert!(wrong(&[&message(0, 0), &message(0, 0)]), "twice");
        assert!(wrong(&[&message(1, 0), &message(1, 2)]), "lost in the other lane");
        assert!(wrong(&[&message(1, 0), &end(64, first_of(1) + 2)]), "the last was lost");
        assert!(wrong(&[&end(64, 0), &message(0, 0)]), "after the end");
        assert!(wrong(&[&end(64, 0), &end(64, 0)]), "ended twice");
        assert!(wrong(&[&message(2, 0)]), "no such lane");
        assert!(wrong(&[&message(0, 0)[..63]]), "short");
        assert!(wrong(&[&[1]]), "too short for a number");
        assert!(wrong(&[&end(64, 0)[..63]]), "a short end");
        assert!(wrong(&[&body(START)]), "no mark of a stream");
    }

    #[test]
    fn a_large_message_is_looked_at_from_end_to_end() {
        let buffers = large_buffers(LARGE_BYTES);
        let mut tally = tally(Streams::Lanes(1), LARGE_BYTES);
        for number in 0..10 {
            tally.take(buffers[number % buffers.len()]);
        }
        assert_eq!(tally.wrong, None);
        let mut torn = buffers[10 % buffers.len()].to_vec();
        *torn.last_mut().unwrap() += 1;
        tally.take(&torn);
        assert!(tally.wrong.is_some());
    }

    #[test]
    fn shares_rise_and_their_digests_add_up_to_that_of_the_whole() {
        const TOTAL: u64 = 100;
        // `owner` says who gets which.
        let shares = |owner: &dyn Fn(u64) -> usize| {
            let mut shares = [tally(Streams::Share, 64), tally(Streams::Share, 64)];
            for number in 0..TOTAL {
                shares[owner(number)].take(&body(number));
            }
            for share in &mut shares {
                assert!(share.take(&end(64, TOTAL)));
                assert_eq!(share.wrong, None);
            }
            (shares[0].count + shares[1].count, shares[0].digest.wrapping_add(shares[1].digest))
        };
        assert_eq!(shares(&|number| number as usize % 2), (TOTAL, digest(TOTAL)));
        assert_eq!(shares(&|number| usize::from(number == 3 || number > 9)), (TOTAL, digest(TOTAL)));
    }

    #[test]
    fn a_share_finds_out_disorder_and_the_digest_finds_out_one_message_in_place_of_another() {
        let mut share = tally(Streams::Share, 64);
        share.take(&body(5));
        share.take(&body(5));
        assert!(share.wrong.is_some(), "twice");
        let mut share = tally(Streams::Share, 64);
        share.take(&body(5));
        share.take(&end(64, 5));
        assert!(share.wrong.is_some(), "a message that was never sent");
        let digest_of =
            |numbers: &[u64]| numbers.iter().map(|number| mix(*number)).fold(0, u64::wrapping_add);
        assert_eq!(digest_of(&[3, 0, 2, 1]), digest(4));
        assert_ne!(digest_of(&[3, 0, 1, 1]), digest(4));
        assert_ne!(digest_of(&[0, 0, 3, 3]), digest(4));
    }
}
