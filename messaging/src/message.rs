//! Messages as applications see them: one part or several, sent and received as a whole. Knows no wire.

use std::fmt;

use transport_core::Frame;

/// A message: one or more parts, delivered whole or not at all.
// In this order, so that what a `Result` keeps in a message's place (an error of up to 24 bytes) never lies over the
// first frame: where it did, every move would take the frame apart at the error's field boundaries, and each such
// piece waits for the stores before it (see `Frame`).
#[derive(Clone, PartialEq, Eq)]
#[repr(C)]
pub struct Message {
    // Empty for the common message of one part; an empty Vec does not allocate.
    rest: Vec<Frame>,
    tag: Tag,
    first: Frame,
}

/// What is known of a message besides its parts: below, whether something is missing before it; above, the routing id of
/// its peer. A word, so that the frame behind it is moved whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag(u64);

impl Tag {
    const NONE: Self = Self(0);
    const GAP: u64 = 1;
    const ROUTING_ID: u32 = 32;
}

impl Message {
    /// A message of one part.
    #[inline]
    pub fn new(part: impl Into<Frame>) -> Self {
        Self { first: part.into(), rest: Vec::new(), tag: Tag::NONE }
    }

    /// A message of several parts; `None` if there are none.
    pub fn from_parts<F: Into<Frame>>(parts: impl IntoIterator<Item = F>) -> Option<Self> {
        let mut parts = parts.into_iter().map(Into::into);
        let first = parts.next()?;
        Some(Self { first, rest: parts.collect(), tag: Tag::NONE })
    }

    /// Number of parts, at least 1.
    // A message has at least one part, so there is no `is_empty`.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub fn len(&self) -> usize {
        1 + self.rest.len()
    }

    /// The part at `index`, counted from 0.
    #[inline]
    pub fn part(&self, index: usize) -> Option<&Frame> {
        if index == 0 { Some(&self.first) } else { self.rest.get(index - 1) }
    }

    /// All parts in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = &Frame> + DoubleEndedIterator {
        // A chain has no exact length, hence by index.
        (0..self.len()).map(|index| if index == 0 { &self.first } else { &self.rest[index - 1] })
    }

    /// Takes the parts apart without copying.
    pub fn into_parts(self) -> impl Iterator<Item = Frame> {
        std::iter::once(self.first).chain(self.rest)
    }

    /// The only part, or the last of several: where the payload is behind an envelope.
    pub fn body(&self) -> &Frame {
        self.rest.last().unwrap_or(&self.first)
    }

    /// Appends a part.
    pub fn push_back(&mut self, part: impl Into<Frame>) {
        self.rest.push(part.into());
    }

    /// Puts a part in front, as an envelope does.
    pub fn push_front(&mut self, part: impl Into<Frame>) {
        let first = std::mem::replace(&mut self.first, part.into());
        self.rest.insert(0, first);
    }

    /// Takes the first part off; `None` if it is the only one.
    pub fn pop_front(&mut self) -> Option<Frame> {
        if self.rest.is_empty() {
            return None;
        }
        let second = self.rest.remove(0);
        Some(std::mem::replace(&mut self.first, second))
    }

    /// The peer that a SERVER or PEER has this message from, or sends it to (zmq_msg_routing_id(3)). `None` on other sockets.
    pub fn routing_id(&self) -> Option<u32> {
        Some((self.tag.0 >> Tag::ROUTING_ID) as u32).filter(|&id| id != 0)
    }

    /// The message, to that peer: for SERVER and PEER. 0 is nobody.
    #[must_use]
    pub fn to(mut self, routing_id: u32) -> Self {
        self.tag = Tag(self.tag.0 & Tag::GAP | u64::from(routing_id) << Tag::ROUTING_ID);
        self
    }

    /// Whether something is missing between this message and the one received before it from the same source.
    pub fn gap_before(&self) -> bool {
        self.tag.0 & Tag::GAP != 0
    }

    pub(crate) fn set_gap_before(&mut self) {
        self.tag.0 |= Tag::GAP;
    }

    /// One empty part: a place to receive into.
    pub(crate) const EMPTY: Self = Self { first: Frame::EMPTY, rest: Vec::new(), tag: Tag::NONE };

    /// Becomes a message of one part.
    #[inline]
    pub(crate) fn set(&mut self, first: Frame) {
        self.first = first;
        // Written only if it must be: whoever moves the message next would wait for the store.
        if self.tag != Tag::NONE {
            self.tag = Tag::NONE;
        }
        if !self.rest.is_empty() {
            self.rest = Vec::new();
        }
    }

    /// Moves the first part out and leaves an empty one.
    #[inline]
    pub(crate) fn take_first(&mut self) -> Frame {
        self.first.take()
    }

    /// Moves the message out and leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            first: self.first.take(),
            rest: std::mem::take(&mut self.rest),
            tag: std::mem::replace(&mut self.tag, Tag::NONE),
        }
    }

    /// Splits off the first part; the rest may be empty.
    #[inline]
    pub(crate) fn into_first_and_rest(self) -> (Frame, Vec<Frame>) {
        (self.first, self.rest)
    }

    #[inline]
    pub(crate) fn from_first_and_rest(first: Frame, rest: Vec<Frame>) -> Self {
        Self { first, rest, tag: Tag::NONE }
    }
}

impl<F: Into<Frame>> From<F> for Message {
    #[inline]
    fn from(part: F) -> Self {
        Self::new(part)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.gap_before() { "Message(after a gap) " } else { "Message" })?;
        f.debug_list().entries(self.parts()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_its_place_leaves_the_first_frame_whole() {
        assert_eq!(std::mem::offset_of!(Message, first), 32);
        assert!(size_of::<crate::Error>() <= 24);
        assert_eq!(size_of::<Result<Message, crate::Error>>(), size_of::<Message>());
    }

    #[test]
    fn a_gap_and_a_routing_id_do_not_touch_each_other() {
        let mut message = Message::new("x").to(u32::MAX);
        assert!(!message.gap_before());
        message.set_gap_before();
        assert_eq!(message.routing_id(), Some(u32::MAX));
        message = message.to(0);
        assert!(message.gap_before() && message.routing_id().is_none());
    }

    #[test]
    fn parts_come_in_order() {
        let mut message = Message::from_parts(["b", "c"]).unwrap();
        message.push_front("a");
        message.push_back("d");
        assert_eq!(message.len(), 4);
        assert_eq!(message.body(), "d");
        assert_eq!(message.parts().next_back().unwrap(), "d");
        assert_eq!(message.pop_front().unwrap(), "a");
        let parts: Vec<_> = message.into_parts().collect();
        assert_eq!(parts, [Frame::from("b"), "c".into(), "d".into()]);
        assert!(Message::from_parts(Vec::<Frame>::new()).is_none());
        assert!(Message::new("only").pop_front().is_none());
    }
}
