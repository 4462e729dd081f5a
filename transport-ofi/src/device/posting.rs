//! What is posted to an endpoint, and what becomes of it. Calls nothing.

use super::domain::Alone;
use super::memory::{Buffer, Pinned};
use rdma_links::fabric::TargetId;

/// Why a request was not posted. Nothing has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The queue is full, or the provider has no room at the moment: poll the completion queue, and try again.
    #[error("the send queue is full")]
    Full,
    /// More bytes, or more pieces, than the endpoint takes.
    #[error("the request is too large for this endpoint")]
    TooLarge,
    /// No such target, or not so long.
    #[error("the READ has no target of that length")]
    NoTarget,
    /// Memory that is not registered and could not be.
    #[error("the memory is not registered")]
    NotRegistered,
    /// There is no peer yet.
    #[error("the endpoint has no peer yet")]
    NoPeer,
    /// The provider refused, with an errno of libfabric's.
    #[error("the provider refused the request (errno {0})")]
    Refused(i32),
}

/// A request's kind, with the memory that comes back.
#[derive(Debug)]
pub enum Work {
    /// A packet, with its buffer; without one, if it was copied.
    Send {
        /// As posted.
        tag: u32,
        /// `None` where the bytes were copied.
        buffer: Option<Buffer>,
    },
    /// A READ.
    Read {
        /// As posted.
        tag: u32,
        /// Where it landed, if it did.
        target: TargetId,
    },
    /// A packet arrived, if there was no failure.
    Receive {
        /// Which of the endpoint's it was, counted as they were posted.
        number: u32,
        /// The packet's first `len` bytes are in it.
        buffer: Buffer,
        /// Bytes received; 0 if none.
        len: usize,
    },
}

/// What the provider may touch for one request.
#[derive(Debug, Default)]
pub(super) enum Posted {
    #[default]
    Nothing,
    Copied {
        tag: u32,
    },
    Packet {
        tag: u32,
        buffer: Buffer,
        /// The first of its frames in [`Pins`].
        pins: Option<u32>,
    },
    Read {
        tag: u32,
        target: TargetId,
        region: Option<Alone>,
    },
    Receive {
        number: u32,
        buffer: Buffer,
    },
}

/// Slots that are free, by number. Never longer than it was made.
#[derive(Debug)]
pub(super) struct Vacant(Vec<u32>);

impl Vacant {
    pub(super) fn new(slots: std::ops::Range<u32>) -> Self {
        Self(slots.rev().collect())
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    /// The one that is taken next.
    #[inline]
    pub(super) fn next(&self) -> Option<u32> {
        self.0.last().copied()
    }
    #[inline]
    pub(super) fn take(&mut self) {
        self.0.pop();
    }
    #[inline]
    pub(super) fn put(&mut self, slot: u32) {
        self.0.push(slot);
    }
}

/// Frames inside posted packets, in lists, one for each packet. Places are used again.
#[derive(Debug, Default)]
pub(super) struct Pins {
    places: Vec<Place>,
    vacant: Option<u32>,
}

#[derive(Debug)]
struct Place {
    pinned: Option<Pinned>,
    next: Option<u32>,
}

impl Pins {
    /// Puts one before those of a list, and says where the list begins now.
    pub(super) fn push(&mut self, pinned: Pinned, next: Option<u32>) -> Option<u32> {
        let place = Place { pinned: Some(pinned), next };
        match self.vacant.and_then(|at| Some((at, self.places.get_mut(at as usize)?))) {
            Some((at, vacant)) => {
                self.vacant = std::mem::replace(vacant, place).next;
                Some(at)
            }
            None => {
                self.places.push(place);
                Some(self.places.len() as u32 - 1)
            }
        }
    }

    /// Lets go of a list.
    pub(super) fn release(&mut self, mut first: Option<u32>) {
        while let Some((at, place)) = first.and_then(|at| Some((at, self.places.get_mut(at as usize)?))) {
            place.pinned = None;
            first = std::mem::replace(&mut place.next, self.vacant);
            self.vacant = Some(at);
        }
    }

    /// How many there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.places.iter().filter(|place| place.pinned.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rdma_links::fabric::{Hold, Memory, Pin, Reach};
    use transport_core::{DomainId, Frame, Key, MemoryDomain, RegisterError, Registration};

    use super::*;

    /// Reaches everything.
    #[derive(Debug)]
    struct Anything(DomainId);

    impl MemoryDomain for Anything {
        fn id(&self) -> DomainId {
            self.0
        }
        fn register(&self, _: *const u8, _: usize) -> Result<Registration, RegisterError> {
            Ok(Registration { local: 0, remote: 0 })
        }
        fn unregister(&self, _: Registration) {}
    }

    impl Pin for Anything {
        fn pin(&self, _: &Frame, _: Option<Key>, _: Reach) -> Option<(Key, Option<Box<dyn Hold>>)> {
            Some((Key { address: 0, local: 0, remote: 0 }, None))
        }
    }

    fn pinned(bytes: &'static [u8]) -> Pinned {
        let anything = Arc::new(Anything(DomainId::unique()));
        Memory::new(anything.clone(), anything).pin(Frame::from_static(bytes), Reach::Device).unwrap()
    }

    #[test]
    fn lists_of_frames_share_places_and_let_go_of_their_own_alone() {
        let mut pins = Pins::default();
        for _ in 0..3 {
            let one = pins.push(pinned(b"a"), None);
            let two = pins.push(pinned(b"b"), None);
            let one = pins.push(pinned(b"c"), one);
            assert_eq!((pins.len(), pins.places.len()), (3, 3));
            pins.release(one);
            assert_eq!(pins.len(), 1);
            pins.release(two);
            assert_eq!(pins.len(), 0);
        }
    }
}
