//! The receive window (RFC 3208 section 3.4): packets from the first that was not handed on to the last that is known
//! to exist. What is in order is handed on at once. Knows no timers and no NAKs beyond keeping their state beside what
//! is missing.

use std::collections::VecDeque;

use super::recovery::Missing;
use crate::blocks::{Block, Blocks};
use crate::serial::Sqn;

/// Who takes what a receiver has in order.
pub(crate) trait Deliver {
    /// The next TSDU.
    fn data(&mut self, tsdu: &[u8]);
    /// The next so many packets are lost. Never 0.
    fn lost(&mut self, packets: u64);
}

/// A place in the window.
#[derive(Debug)]
pub(super) enum Cell {
    Missing(Missing),
    Held(Block),
    /// Given up, or arrived in a form that nobody can read.
    Lost,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    next: Sqn,
    cells: VecDeque<Cell>,
    missing: u32,
}

impl Window {
    /// The first number that was not handed on.
    pub(super) fn next(&self) -> Sqn {
        self.next
    }
    /// The number behind the last that is known to exist.
    pub(super) fn end(&self) -> Sqn {
        self.next.plus(self.cells.len() as u32)
    }
    pub(super) fn len(&self) -> u32 {
        self.cells.len() as u32
    }
    /// Packets that are being waited for.
    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    pub(super) fn find(&mut self, sqn: Sqn) -> Option<&mut Cell> {
        self.cells.get_mut(sqn.within(self.next, self.len())? as usize)
    }

    pub(super) fn find_missing(&mut self, sqn: Sqn) -> Option<&mut Missing> {
        match self.find(sqn) {
            Some(Cell::Missing(missing)) => Some(missing),
            _ => None,
        }
    }

    /// Begins, or begins again, with `next`.
    pub(super) fn begin(&mut self, next: Sqn) {
        debug_assert!(self.cells.is_empty());
        self.next = next;
    }

    /// Appends a place.
    pub(super) fn push(&mut self, cell: Cell) {
        self.missing += u32::from(matches!(cell, Cell::Missing(_)));
        self.cells.push_back(cell);
    }

    /// The packet at the very front was handed on without being kept.
    pub(super) fn pass(&mut self) {
        if let Some(Cell::Missing(_)) = self.cells.pop_front() {
            self.missing -= 1;
        }
        self.next = self.next.next();
    }

    /// Puts something in the place of what is missing or lost at `sqn`.
    pub(super) fn fill(&mut self, sqn: Sqn, cell: Cell) {
        let Some(place) = self.find(sqn) else { return };
        let was_missing = matches!(place, Cell::Missing(_));
        *place = cell;
        self.missing -= u32::from(was_missing);
    }

    /// Gives up what is missing before `trail`, as far as the window goes.
    pub(super) fn give_up_before(&mut self, trail: Sqn) {
        let count = trail.since(self.next).clamp(0, self.cells.len() as i32) as usize;
        for cell in self.cells.iter_mut().take(count) {
            if matches!(cell, Cell::Missing(_)) {
                *cell = Cell::Lost;
                self.missing -= 1;
            }
        }
    }

    /// Gives up what is missing at the front and before `end`, so that something can be handed on.
    pub(super) fn give_up_front(&mut self, end: Sqn) {
        let run = self.cells.iter().take_while(|cell| !matches!(cell, Cell::Held(_))).count() as u32;
        let run = end.within(self.next, run).unwrap_or(run);
        self.give_up_before(self.next.plus(run));
    }

    /// Forgets places at the end from `end` on, of which nothing came: nobody knows whether they exist.
    pub(super) fn forget_from(&mut self, end: Sqn) {
        while self.end() != end && matches!(self.cells.back(), Some(Cell::Missing(_))) {
            self.cells.pop_back();
            self.missing -= 1;
        }
    }

    /// Hands on what is in order. Returns how many packets of it were lost.
    pub(super) fn drain(&mut self, blocks: &mut Blocks, out: &mut impl Deliver) -> u64 {
        let (mut lost, mut run) = (0, 0);
        while let Some(cell) = self.cells.pop_front() {
            match cell {
                Cell::Missing(_) => {
                    self.cells.push_front(cell);
                    break;
                }
                Cell::Lost => run += 1,
                Cell::Held(block) => {
                    if run > 0 {
                        out.lost(run);
                        lost += std::mem::take(&mut run);
                    }
                    out.data(blocks.kept(&block));
                    blocks.give_back(block);
                }
            }
            self.next = self.next.next();
        }
        if run > 0 {
            out.lost(run);
            lost += run;
        }
        lost
    }

    /// Packets up to `next` that were never in the window are lost. It is empty.
    pub(super) fn skip_to(&mut self, next: Sqn, out: &mut impl Deliver) -> u64 {
        debug_assert!(self.cells.is_empty());
        let lost = next.since(self.next);
        if lost <= 0 {
            return 0;
        }
        self.next = next;
        out.lost(lost as u64);
        lost as u64
    }

    /// Drops everything that waits, so that no block is lost.
    pub(super) fn dissolve(&mut self, blocks: &mut Blocks) {
        for cell in self.cells.drain(..) {
            if let Cell::Held(block) = cell {
                blocks.give_back(block);
            }
        }
        self.missing = 0;
    }
}
