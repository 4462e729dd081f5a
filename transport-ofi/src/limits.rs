//! Every limit of this transport, by name. Holds numbers only, no code.

/// Bytes that go along with a connection request at most, whatever the provider could. A provider may have less
/// ([`crate::device::Endpoint::private_data_max`]).
pub const PRIVATE_DATA_MAX: usize = 256;

/// Bytes of an endpoint's name at most.
pub const NAME_MAX: usize = 256;

/// Completions fetched from a queue at once.
pub(crate) const POLL_BATCH: usize = 32;

/// Pieces of one send at most, whatever the provider could.
pub(crate) const GATHER_MAX: usize = 16;

/// Sends, or receives, that one endpoint may have posted.
pub(crate) const POSTED_MAX: usize = 64 << 10;

/// Shortest frame without a key of its own that is registered for one READ by a peer. Registration may cost a system
/// call and the pinning of pages; a copy of less costs less.
pub(crate) const REGISTER_ALONE_MIN: usize = 256 << 10;

/// Refusals to register memory after which the provider is asked again.
pub(crate) const REFUSALS_PER_ASK: u32 = 64;

/// Keys that are tried for one registration, where we choose them and another registration may have the same.
pub(crate) const KEYS_TRIED: u32 = 8;

/// Bytes of what a provider says of an error in its own words.
pub(crate) const WORDS_MAX: usize = 256;
