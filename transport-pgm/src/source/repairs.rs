//! Who has asked for which repair, and whose turn it is. Decides no timing of packets.
//!
//! Receivers take turns, and each has a bound on what it may have waiting and on what it may ask for over time, so that
//! one that asks for everything always gets its share and no more. Since a repair goes to the whole group, whoever asks
//! first pays for it, and what others have asked meanwhile is done with.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::credit::{Credit, Terms};
use crate::clock::Nanos;
use crate::limits::{
    ASKER_BURST_MIN, ASKER_NAKS_BURST, ASKER_NAKS_PER_100_DATA, ASKER_NAKS_PER_SECOND, ASKER_PER_100_DATA,
    ASKER_PER_SECOND, ASKER_WAITING_MAX, ASKERS_MAX,
};
use crate::serial::Sqn;

#[derive(Debug, Default)]
pub(super) struct Repairs {
    askers: Vec<Asker>,
    by_address: BTreeMap<IpAddr, u32>,
    /// Those with something waiting, by turns.
    turns: VecDeque<u32>,
}

#[derive(Debug)]
struct Asker {
    address: IpAddr,
    waiting: VecDeque<Sqn>,
    /// For NAK packets, and for the numbers in them that make work.
    packets: Credit,
    numbers: Credit,
    heard: Nanos,
}

const PACKETS: Terms = Terms {
    per_second: ASKER_NAKS_PER_SECOND,
    per_100_data: ASKER_NAKS_PER_100_DATA,
    burst: ASKER_NAKS_BURST,
};

/// A whole window may be lost in an outage.
fn numbers(window: u32) -> Terms {
    let burst = ASKER_BURST_MIN.max(window.into());
    Terms { per_second: ASKER_PER_SECOND, per_100_data: ASKER_PER_100_DATA, burst }
}

impl Repairs {
    /// The number of a receiver that has sent a NAK packet, or `None` when it sends too many. When there are too many
    /// receivers, one that waits for nothing is forgotten; when all of them wait, the newcomer shares the place of
    /// another.
    pub(super) fn asker(&mut self, address: IpAddr, now: Nanos, data: u64, window: u32) -> Option<u32> {
        let number = match self.by_address.get(&address) {
            Some(number) => *number,
            None => self.admit(address, now, data, window),
        };
        let asker = &mut self.askers[number as usize];
        asker.heard = now;
        asker.packets.take(PACKETS, now, data).then_some(number)
    }

    #[cold]
    fn admit(&mut self, address: IpAddr, now: Nanos, data: u64, window: u32) -> u32 {
        let (packets, numbers) = (Credit::new(PACKETS, now, data), Credit::new(numbers(window), now, data));
        let mut fresh = Asker { address, waiting: VecDeque::new(), packets, numbers, heard: now };
        let number = self.askers.len();
        if number < ASKERS_MAX {
            self.askers.push(fresh);
            self.by_address.insert(address, number as u32);
            return number as u32;
        }
        let idle = self.askers.iter().enumerate().filter(|(_, asker)| asker.waiting.is_empty());
        let Some((number, _)) = idle.min_by_key(|(_, asker)| asker.heard) else {
            return (now % ASKERS_MAX as u64) as u32;
        };
        let before = &mut self.askers[number];
        self.by_address.remove(&before.address);
        fresh.waiting = std::mem::take(&mut before.waiting);
        *before = fresh;
        self.by_address.insert(address, number as u32);
        number as u32
    }

    /// Takes a request. `false` when the asker has asked for too much.
    pub(super) fn ask(&mut self, number: u32, sqn: Sqn, now: Nanos, data: u64, window: u32) -> bool {
        let asker = &mut self.askers[number as usize];
        if asker.waiting.len() == ASKER_WAITING_MAX || !asker.numbers.take(numbers(window), now, data) {
            return false;
        }
        if asker.waiting.is_empty() {
            self.turns.push_back(number);
        }
        asker.waiting.push_back(sqn);
        true
    }

    /// The next to be repaired, for which `is_wanted` is true; what is not wanted any more is forgotten.
    pub(super) fn next(&mut self, mut is_wanted: impl FnMut(Sqn) -> bool) -> Option<Sqn> {
        loop {
            let number = *self.turns.front()?;
            let waiting = &mut self.askers[number as usize].waiting;
            let found = std::iter::from_fn(|| waiting.pop_front()).find(|sqn| is_wanted(*sqn));
            let more = !waiting.is_empty();
            self.turns.pop_front();
            if more {
                self.turns.push_back(number);
            }
            if found.is_some() {
                return found;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}
