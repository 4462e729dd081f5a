//! A pipe: two lanes of parts between two drivers, each behind a short lock. Decides nothing about links.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use transport_core::{LinkId, Part};

use crate::mailbox::{Mail, Mailbox};

/// One direction of a pipe.
#[derive(Default)]
pub(crate) struct Lane {
    state: Mutex<LaneState>,
    /// Parts that the receiver has ever taken out; the sender counts its room by it without the lock.
    taken: AtomicU64,
    /// The same for commands alone.
    commands_taken: AtomicU64,
}

#[derive(Default)]
struct LaneState {
    parts: VecDeque<Part>,
    /// The sender will put nothing more in.
    ended: bool,
    /// The receiver will take nothing more out.
    abandoned: bool,
    /// The sender wants to know when room comes.
    starved: bool,
    /// The receiver has been told that something changed, and has not looked since.
    told: bool,
}

struct Side {
    mailbox: Arc<Mailbox>,
    // Known only once that side's driver has brought its link up. Messages may be in its lane before.
    link: OnceLock<LinkId>,
}

struct Pipe {
    // Lane 0 leads from side 0 to side 1.
    lanes: [Lane; 2],
    sides: [Side; 2],
}

/// One end of a pipe, as its driver holds it.
#[derive(Clone)]
pub(crate) struct Joint {
    pipe: Arc<Pipe>,
    side: usize,
}

/// Who must hear of a change. Delivered after the lane's lock is released.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Nobody,
    Peer,
}

/// What the receiver found.
pub(crate) struct Found {
    pub(crate) ended: bool,
    pub(crate) tell: Tell,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        // Only moves of parts happen under the lock, and they are whole or not at all.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joint {
    /// A pipe between two drivers, which may be the same one.
    pub(crate) fn pair(first: Arc<Mailbox>, second: Arc<Mailbox>) -> [Self; 2] {
        let sides = [first, second].map(|mailbox| Side { mailbox, link: OnceLock::new() });
        let pipe = Arc::new(Pipe { lanes: Default::default(), sides });
        [Self { pipe: pipe.clone(), side: 0 }, Self { pipe, side: 1 }]
    }

    fn out(&self) -> &Lane {
        &self.pipe.lanes[self.side]
    }

    fn inward(&self) -> &Lane {
        &self.pipe.lanes[1 - self.side]
    }

    /// Names this end's link, so that the peer can tell us about it.
    pub(crate) fn name(&self, link: LinkId) {
        // Named once, when the link comes up, so it cannot be named already.
        let _ = self.pipe.sides[self.side].link.set(link);
    }

    /// Where the peer is: the link at hand if it lives in the driver of `own`, else it has been sent word.
    ///
    /// A peer whose link is not up yet needs no word: it looks into its lanes when it comes up, under the lock that
    /// we have held before we saw that it has no name.
    pub(crate) fn tell(&self, tell: Tell, own: &Arc<Mailbox>) -> Option<LinkId> {
        if tell == Tell::Nobody {
            return None;
        }
        let peer = &self.pipe.sides[1 - self.side];
        let link = *peer.link.get()?;
        if Arc::ptr_eq(&peer.mailbox, own) {
            return Some(link);
        }
        peer.mailbox.put(Mail::Touched(link));
        None
    }

    /// How many parts, and how many commands, the receiver has ever taken out of our lane.
    pub(crate) fn taken(&self) -> u64 {
        self.out().taken.load(Ordering::Acquire)
    }

    pub(crate) fn commands_taken(&self) -> u64 {
        self.out().commands_taken.load(Ordering::Acquire)
    }

    /// Moves `parts` into the lane, unless nobody will take them out; then they stay. `starved` asks for word when
    /// room comes.
    pub(crate) fn put(&self, parts: &mut VecDeque<Part>, starved: bool) -> Tell {
        let mut lane = self.out().lock();
        if lane.abandoned {
            return Tell::Nobody;
        }
        lane.starved |= starved;
        if lane.parts.is_empty() {
            std::mem::swap(&mut lane.parts, parts);
        } else {
            lane.parts.append(parts);
        }
        lane.tell_receiver()
    }

    /// Swaps everything in the peer's lane into `parts`, which is empty.
    pub(crate) fn take(&self, parts: &mut VecDeque<Part>) -> Found {
        let lane = self.inward();
        let mut state = lane.lock();
        state.told = false;
        std::mem::swap(&mut state.parts, parts);
        let ended = state.ended;
        let mut tell = Tell::Nobody;
        if !parts.is_empty() {
            lane.taken.fetch_add(parts.len() as u64, Ordering::Release);
            if std::mem::take(&mut state.starved) {
                tell = Tell::Peer;
            }
        }
        Found { ended, tell }
    }

    /// Counts commands that [`Joint::take`] took; kept apart from it so that only lanes with commands pay.
    pub(crate) fn count_command(&self) {
        self.inward().commands_taken.fetch_add(1, Ordering::Release);
    }

    /// We put nothing more in.
    pub(crate) fn end(&self) -> Tell {
        let mut lane = self.out().lock();
        lane.ended = true;
        if lane.abandoned { Tell::Nobody } else { lane.tell_receiver() }
    }

    /// We take nothing more out. Always worth telling: the peer may be draining.
    pub(crate) fn abandon(&self) -> Tell {
        let mut lane = self.inward().lock();
        lane.abandoned = true;
        let parts = std::mem::take(&mut lane.parts);
        drop(lane);
        // Free functions may run here, so not under the lock.
        drop(parts);
        Tell::Peer
    }

    /// Whether the peer takes nothing more out.
    pub(crate) fn abandoned(&self) -> bool {
        self.out().lock().abandoned
    }
}

impl LaneState {
    fn tell_receiver(&mut self) -> Tell {
        if std::mem::replace(&mut self.told, true) { Tell::Nobody } else { Tell::Peer }
    }
}

impl fmt::Debug for Joint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joint").field("side", &self.side).finish_non_exhaustive()
    }
}
