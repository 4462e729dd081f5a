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
