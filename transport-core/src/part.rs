//! One part of a message as it crosses the seam: a frame and its flags. Multipart messages are runs of these.

use std::fmt;

use crate::frame::Frame;

/// Flags of a part. MORE and COMMAND have the bits of ZMTP 3.1 section "Framing"; GAP never goes on a wire.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// The last (or only) part of a message.
    pub const LAST: Self = Self(0);
    /// More parts of the same message follow.
    pub const MORE: Self = Self(0x01);
    /// A command of the session, not part of a message. Never together with MORE.
    pub const COMMAND: Self = Self(0x04);
    /// Set by the receiving side: something is missing between this message and the one before.
    pub const GAP: Self = Self(0x40);

    /// Whether more parts follow.
    pub const fn more(self) -> bool {
        self.0 & Self::MORE.0 != 0
    }
    /// Whether this is a command.
    pub const fn command(self) -> bool {
        self.0 & Self::COMMAND.0 != 0
    }
    /// Whether something is missing before this part's message.
    pub const fn gap(self) -> bool {
        self.0 & Self::GAP.0 != 0
    }
    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Flags {
    /// Those that [`Part::into_frame`] left in a frame.
    #[inline]
    pub fn of_frame(frame: &Frame) -> Self {
        Self(frame.mark())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |set: bool, name: &'static str| if set { name } else { "" };
        write!(
            f,
            "Flags({}{}{})",
            name(self.command(), "COMMAND "),
            name(self.more(), "MORE "),
            name(self.gap(), "GAP")
        )
    }
}

/// A frame and its flags: the unit that a link carries, 80 bytes, moved by value.
#[derive(Debug, Clone)]
pub struct Part {
    /// The bytes.
    pub body: Frame,
    /// MORE, COMMAND.
    pub flags: Flags,
}

impl Part {
    /// The last or only part of a message.
    pub fn last(body: impl Into<Frame>) -> Self {
        Self { body: body.into(), flags: Flags::LAST }
    }
    /// A part that others follow.
    pub fn more(body: impl Into<Frame>) -> Self {
        Self { body: body.into(), flags: Flags::MORE }
    }
    /// The part as one frame with the flags beside its tag, for queues: nine words that move whole, where the flags
    /// behind the frame would be read together with its tag while both are still being stored (see [`Frame`]).
    #[inline]
    pub fn into_frame(mut self) -> Frame {
        self.body.set_mark(self.flags.0);
        self.body
    }
    /// As [`Part::take`] and [`Part::into_frame`].
    #[inline]
    pub fn take_frame(&mut self) -> Frame {
        self.body.take_marked(self.flags.0)
    }
    /// The part that [`Part::into_frame`] made this frame of.
    #[inline]
    pub fn from_frame(mut frame: Frame) -> Self {
        let flags = Flags(frame.mark());
        frame.set_mark(0);
        Self { body: frame, flags }
    }
    /// Moves the part out and leaves an empty one.
    #[inline]
    pub fn take(&mut self) -> Self {
        Self { body: self.body.take(), flags: self.flags }
    }
    /// A command.
    pub fn command(body: impl Into<Frame>) -> Self {
        Self { body: body.into(), flags: Flags::COMMAND }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_becomes_a_frame_and_comes_back() {
        for body in
            [Frame::EMPTY, Frame::from("small"), Frame::from(vec![7; 100]), Frame::from_static(b"static")]
        {
            for flags in [Flags::LAST, Flags::MORE, Flags::COMMAND, Flags::MORE.with(Flags::GAP)] {
                let frame = Part { body: body.clone(), flags }.into_frame();
                assert_eq!(frame, body);
                let mut part = Part { body: body.clone(), flags };
                assert_eq!(Flags::of_frame(&part.take_frame()), flags);
                assert_eq!((part.body, part.flags), (Frame::EMPTY, flags));
                let part = Part::from_frame(frame.clone());
                assert_eq!((part.body, part.flags), (frame.clone(), Flags::LAST), "a clone has no flags");
                let part = Part::from_frame(frame);
                assert_eq!((&part.body, part.flags), (&body, flags));
                assert_eq!(Part::from_frame(part.body).flags, Flags::LAST, "nothing is left of them");
            }
        }
    }
}
