//! High-water marks of a pipe, in messages or in bytes. Holds numbers; the queue counts.

/// Until where a pipe may fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// In messages, or where they are weighed in bytes; 0 is none.
    pub(crate) max: u64,
    /// What a message weighs at least; 0 where messages are counted.
    floor: u64,
}

impl Mark {
    /// A mark of so many messages.
    pub(crate) const fn messages(max: u64) -> Self {
        Self { max, floor: 0 }
    }

    /// A mark of so many messages and, if given, so many bytes. A message then weighs its bytes, and at least as much as makes
    /// the mark in messages hold as well.
    pub(crate) fn new(messages: u64, bytes: Option<u64>) -> Self {
        match bytes {
            None => Self::messages(messages),
            // Rounded up, or one message too many would fit.
            Some(max) => {
                let floor = if messages == 0 { 1 } else { max.div_ceil(messages) };
                Self { max: max.max(1), floor: floor.max(1) }
            }
        }
    }

    /// Whether messages are weighed.
    #[inline]
    pub(crate) fn weighs(&self) -> bool {
        self.floor != 0
    }

    /// What a message of so many bytes weighs. One that is heavier than the mark fills it.
    pub(crate) fn weight(&self, bytes: u64) -> u64 {
        bytes.clamp(self.floor, self.max.max(self.floor))
    }

    /// The mark after the one in messages has changed: a pipe whose messages are weighed stays as it is.
    pub(crate) fn changed(self, messages: u64) -> Self {
        if self.weighs() { self } else { Self::messages(messages) }
    }

    /// How many parts a peer may be allowed to send where there is room for so much and none so far weighed more than
    /// `heaviest`.
    pub(crate) fn parts(&self, room: u64, heaviest: u64) -> u64 {
        match room {
            0 => 0,
            _ if !self.weighs() => room,
            _ => (room / self.weight(heaviest)).clamp(1, crate::limits::WEIGHED_GRANT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_marks_hold_where_there_are_two() {
        let mark = Mark::new(10, Some(1000));
        assert!(mark.weighs() && !Mark::new(10, None).weighs());
        // As many as fit of each size.
        let fit_of = |mark: Mark, bytes| mark.max.div_ceil(mark.weight(bytes));
        assert_eq!(fit_of(Mark::new(10, Some(1 << 20)), 1), 10, "where it does not divide");
        for (bytes, fit) in [(0, 10), (1, 10), (100, 10), (101, 9), (500, 2), (1000, 1), (5000, 1)] {
            assert_eq!(mark.max / mark.weight(bytes), fit, "{bytes}");
        }
        assert_eq!(Mark::new(0, Some(50)).weight(0), 1, "bytes alone");
        assert_eq!(Mark::new(10, Some(3)).weight(7), 3, "one always fits");
    }

    #[test]
    fn a_new_mark_in_messages_leaves_weights_alone() {
        assert_eq!(Mark::messages(5).changed(7), Mark::messages(7));
        let mark = Mark::new(10, Some(1000));
        assert_eq!(mark.changed(7), mark);
    }

    #[test]
    fn peers_are_allowed_what_fits_of_the_heaviest_so_far() {
        assert_eq!(Mark::messages(5).parts(3, 1 << 20), 3);
        let mark = Mark::new(1000, Some(1 << 20));
        assert_eq!(mark.parts(0, 0), 0);
        assert_eq!(mark.parts(1 << 20, 0), crate::limits::WEIGHED_GRANT);
        assert_eq!(mark.parts(1 << 20, 300 << 10), 3);
        assert_eq!(mark.parts(1, 300 << 10), 1);
    }
}
