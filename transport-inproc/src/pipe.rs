//! A pipe: two lanes of parts between two drivers, each behind a short lock. Decides nothing about links.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use transport_core::{LinkId, Part};

use crate::limits::LANE_PARTS_MAX;
use crate::mailbox::{Mail, Mailbox};

/// One direction of a pipe.
#[derive(Default)]
pub(crate) struct Lane {
    state: Mutex<LaneState>,
    /// How many parts the sender may ever have posted; it counts its room by it without the lock. Written under the
    /// lock, and never goes back: a grant that is taken back binds the receiver, not what was promised to the sender.
    allowed: AtomicU64,
    /// Commands that the receiver has ever delivered.
    commands_taken: AtomicU64,
}

#[derive(Default)]
struct LaneState {
    parts: VecDeque<Part>,
    /// Parts that the receiver has ever taken out.
    taken: u64,
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

    /// Lets the sender go through part `promise`, as far as the lane may hold it.
    fn allow(&self, state: &mut LaneState, promise: u64) -> Tell {
        let through = promise.min(state.taken + LANE_PARTS_MAX);
        if through > self.allowed.load(Ordering::Relaxed) {
            self.allowed.store(through, Ordering::Release);
        }
        // Who has posted more than this lane has seen says again that it starves when it flushes.
        let room = self.allowed.load(Ordering::Relaxed) > state.taken + state.parts.len() as u64;
        if room && std::mem::take(&mut state.starved) { Tell::Peer } else { Tell::Nobody }
    }
}

impl Joint {
    /// A pipe between two drivers, which may be the same one. Each comes with its receive high-water mark.
    pub(crate) fn pair(ends: [(Arc<Mailbox>, u32); 2]) -> [Self; 2] {
        // The lane to a side is open as far as that side's mark before the side can say so by a grant.
        let lanes = [ends[1].1, ends[0].1].map(|mark| {
            let lane = Lane::default();
            let first = if mark == 0 { LANE_PARTS_MAX } else { LANE_PARTS_MAX.min(mark.into()) };
            lane.allowed.store(first, Ordering::Relaxed);
            lane
        });
        let sides = ends.map(|(mailbox, _)| Side { mailbox, link: OnceLock::new() });
        let pipe = Arc::new(Pipe { lanes, sides });
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

    /// How many parts we may ever have posted.
    pub(crate) fn allowed(&self) -> u64 {
        self.out().allowed.load(Ordering::Acquire)
    }

    /// How many commands of ours the peer has delivered.
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

    /// Swaps everything in the peer's lane into `parts`, which is empty. `promise`: as for [`Joint::allow`].
    pub(crate) fn take(&self, parts: &mut VecDeque<Part>, promise: u64) -> Found {
        let lane = self.inward();
        let mut state = lane.lock();
        state.told = false;
        std::mem::swap(&mut state.parts, parts);
        state.taken += parts.len() as u64;
        Found { ended: state.ended, tell: lane.allow(&mut state, promise) }
    }

    /// Lets the peer go on until `promise` parts were posted in all.
    pub(crate) fn allow(&self, promise: u64) -> Tell {
        let lane = self.inward();
        lane.allow(&mut lane.lock(), promise)
    }

    /// Counts a command as delivered; apart from the rest, so that only lanes with commands pay.
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
