//! The pipe of a socket with `conflate`: a place for one message, in which the newest takes the place of what nobody has
//! taken. Wakes nobody: it says when somebody must be woken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transport_core::{Frame, Part};

/// One direction. Messages of several parts are kept whole, where libzmq keeps their last part.
#[derive(Debug, Default)]
struct Place(Mutex<Vec<Frame>>);

impl Place {
    fn lock(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of a pipe: what it writes, the other end reads.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    writes: Arc<Place>,
    reads: Arc<Place>,
    /// A message of which not all parts have been written.
    writing: Vec<Frame>,
    /// The rest of a message that is being read.
    reading: VecDeque<Frame>,
}

impl Latest {
    /// Both ends of a pipe.
    pub(crate) fn pair() -> (Self, Self) {
        let (there, back) = (Arc::new(Place::default()), Arc::new(Place::default()));
        let end = |writes: &Arc<Place>, reads: &Arc<Place>| Self {
            writes: writes.clone(),
            reads: reads.clone(),
            ..Self::default()
        };
        (end(&there, &back), end(&back, &there))
    }

    /// Writes a part; with the last one of a message, that is what the other end reads next. True if the place was
    /// empty: the other end may not know that there is something.
    pub(crate) fn write(&mut self, part: Part) -> bool {
        let more = part.flags.more();
        self.writing.push(part.into_frame());
        if more {
            return false;
        }
        let mut place = self.writes.lock();
        let was_empty = place.is_empty();
        std::mem::swap(&mut *place, &mut self.writing);
        drop(place);
        self.writing.clear();
        was_empty
    }

    /// Parts of a message that has not been written whole.
    pub(crate) fn unfinished(&self) -> usize {
        self.writing.len()
    }

    /// Forgets the beginning of a message whose rest will not come.
    pub(crate) fn forget_unfinished(&mut self) {
        self.writing.clear();
    }

    /// The next part. All parts of one message come before those of another.
    pub(crate) fn read(&mut self) -> Option<Part> {
        if self.reading.is_empty() {
            self.reading.extend(self.reads.lock().drain(..));
        }
        self.reading.pop_front().map(Part::from_frame)
    }

    /// Whether there is a part to read.
    pub(crate) fn has_part(&self) -> bool {
        !self.reading.is_empty() || !self.reads.lock().is_empty()
    }

    /// Whether a newer message waits than the one that is being read.
    pub(crate) fn has_newer(&self) -> bool {
        !self.reads.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(end: &mut Latest) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| end.read()).map(|part| part.body.to_vec()).collect()
    }

    #[test]
    fn the_newest_message_is_read_whole_and_once() {
        let (mut here, mut there) = Latest::pair();
        assert!(!there.has_part());
        assert!(here.write(Part::last("a")));
        assert!(!here.write(Part::more("b")), "not yet whole");
        assert!(there.has_part());
        assert!(!here.write(Part::last("c")), "what was there, the other end has been told of");
        assert_eq!(bodies(&mut there), ["b", "c"].map(Vec::from));
        assert!(here.write(Part::last("d")));
        assert_eq!(bodies(&mut there), ["d"].map(Vec::from));
        assert!(!there.has_part());
    }

    #[test]
    fn what_is_being_read_is_not_torn_by_a_newer_one() {
        let (mut here, mut there) = Latest::pair();
        here.write(Part::more("a"));
        here.write(Part::last("b"));
        assert_eq!(*there.read().unwrap().body, *b"a");
        assert!(here.write(Part::last("c")));
        assert!(there.has_newer());
        assert_eq!(bodies(&mut there), ["b", "c"].map(Vec::from));
    }

    #[test]
    fn the_directions_know_nothing_of_each_other() {
        let (mut here, mut there) = Latest::pair();
        here.write(Part::last("a"));
        there.write(Part::last("b"));
        assert_eq!((bodies(&mut here), bodies(&mut there)), (vec![b"b".to_vec()], vec![b"a".to_vec()]));
    }
}
