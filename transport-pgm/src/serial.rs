//! 32-bit sequence numbers and their arithmetic, which wraps (RFC 3208 section 3.2). Knows no window.

#![forbid(unsafe_code)]

use std::fmt;

/// A sequence number. Not ordered by itself: of two numbers half the space apart, neither is the later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sqn(pub u32);

impl Sqn {
    /// The number behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }
    /// The number `count` behind this one.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
    /// The number `count` before this one.
    #[must_use]
    pub const fn minus(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }
    /// How many numbers this one is behind `other`; negative when it is before it.
    pub const fn since(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
    /// Whether this one comes before `other`.
    pub const fn before(self, other: Self) -> bool {
        self.since(other) < 0
    }
    /// How far this number lies in a window that begins at `trail` and has `len` numbers; `None` outside.
    pub const fn within(self, trail: Self, len: u32) -> Option<u32> {
        let at = self.0.wrapping_sub(trail.0);
        if at < len { Some(at) } else { None }
    }
}

impl fmt::Debug for Sqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = Sqn(u32::MAX);
        assert!(last.before(last.next()) && !last.next().before(last) && !last.before(last));
        assert_eq!((last.next(), last.plus(6).since(last), last.since(last.plus(6))), (Sqn(0), 6, -6));
        assert_eq!((Sqn(3).within(last, 5), Sqn(4).within(last, 5)), (Some(4), None));
        assert_eq!((last.minus(1).within(last, 5), last.within(last, 0)), (None, None));
    }
}
