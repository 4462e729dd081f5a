//! Every limit of inproc, by name. Holds numbers only, no code.

/// Longest name, in bytes.
pub const NAME_MAX: usize = 256;

/// Parts that one direction of a link holds between `post_send` and the receiver's `poll`, however much is granted. As
/// many again may wait at the receiver when a grant is taken back.
pub const LANE_PARTS_MAX: u64 = 1024;
