//! Limits on names, by name. Holds numbers only, no code.

/// Names that may wait to be resolved in one driver.
pub const NAMES_WAITING_MAX: usize = 256;

/// Addresses of one name that are dialled one after the other.
pub const NAME_ADDRESSES_MAX: usize = 8;

/// Longest host name, in bytes (RFC 1035: 255 octets on the wire).
pub const HOST_NAME_MAX: usize = 253;
