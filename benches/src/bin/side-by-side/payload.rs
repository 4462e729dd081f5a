//! The bytes of a test message and the check of what arrives; it sends and receives nothing itself.
//!
//! The first eight bytes are a sequence number, or one of the marks below. Small messages are written afresh each time.
//! Large ones come from a few fixed buffers, so that a peer may send them by reference: their number is modulo the
//! count of buffers, and stands at the end as well, which shows that the whole body came.

use crate::Result;
use std::time::{Duration, Instant};

/// The last message of a run; the next eight bytes say how many came before it.
pub(crate) const END: u64 = u64::MAX;
/// The warm-up is over: measure from here.
pub(crate) const START: u64 = u64::MAX - 1;
/// A publisher's message before the run, by which subscribers see that they are subscribed.
pub(crate) const HELLO: u64 = u64::MAX - 2;

/// From this size on, messages are sent by reference from fixed buffers.
const LARGE_BYTES: usize = 64 * 1024;
/// Few, so that they stay as warm in the cache as one buffer that an application reuses.
const LARGE_BUFFERS: u64 = 4;

pub(crate) fn is_large(bytes: usize) -> bool {
    bytes >= LARGE_BYTES
}

/// Messages between two looks at the clock: a look costs as much as a small message.
pub(crate) fn stride(bytes: usize) -> u64 {
    if is_large(bytes) { 1 } else { 64 }
}

pub(crate) fn number(body: &[u8]) -> u64 {
    body.first_chunk::<8>().map_or(END, |bytes| u64::from_le_bytes(*bytes))
}

pub(crate) fn write_number(body: &mut [u8], number: u64) {
    body[..8].copy_from_slice(&number.to_le_bytes());
}

pub(crate) fn end(bytes: usize, total: u64) -> Vec<u8> {
    let mut body = vec![0; bytes];
    write_number(&mut body, END);
    body[8..16].copy_from_slice(&total.to_le_bytes());
    body
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

/// The receiving end of PUSH/PULL: every message must come once and in order.
#[derive(Debug)]
pub(crate) struct Tally {
    bytes: usize,
    stride: u64,
    pub(crate) count: u64,
    pub(crate) window: Window,
    wrong: Option<String>,
}

impl Tally {
    pub(crate) fn new(bytes: usize, warm: Duration, run: Duration) -> Self {
        Self { bytes, stride: stride(bytes), count: 0, window: Window::new(warm, run), wrong: None }
    }

    /// Takes one message; true when it was the last.
    #[inline]
    pub(crate) fn take(&mut self, body: &[u8]) -> bool {
        let number = number(body);
        if number == END {
            let total = body[8..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            if total != self.count {
                self.wrong.get_or_insert_with(|| format!("{total} messages sent, {} received", self.count));
            }
            return true;
        }
        let large = is_large(self.bytes);
        let expected = if large { self.count % LARGE_BUFFERS } else { self.count };
        if number != expected
            || body.len() != self.bytes
            || (large && self::number(&body[self.bytes - 8..]) != expected)
        {
            let count = self.count;
            self.wrong.get_or_insert_with(|| {
                format!("message {count}: number {number}, {} B instead of {expected}", body.len())
            });
        }
        if self.count.is_multiple_of(self.stride) {
            self.window.look(self.count);
        }
        self.count += 1;
        false
    }

    pub(crate) fn verdict(&self) -> Result<f64> {
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
                let total = body[8..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
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
}
