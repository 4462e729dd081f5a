//! Every limit of the session that is not an option, by name. Holds numbers only, no code.

use std::time::Duration;

/// Longest context of a PING or PONG, in bytes (ZMTP 3.1 section "Connection Heartbeating").
pub(crate) const PING_CONTEXT_MAX: usize = 16;

/// Whether a PING with a longer context ends the link. ZMTP 3.1 forbids such contexts; libzmq shortens them to
/// [`PING_CONTEXT_MAX`] bytes in its PONG, which is what `false` does here too.
pub(crate) const LONG_PING_CONTEXT_IS_VIOLATION: bool = false;

/// How often the engine looks again before it takes a silent peer for dead, and how much later each time. The peer's
/// answer may wait for a turn of this very engine, which did not run when the time ran out: it was stopped, or the system
/// gave its core to others. A peer in the same process needs three turns.
pub(crate) const REPRIEVES: u32 = 4;

/// See [`REPRIEVES`].
pub(crate) const REPRIEVE: Duration = Duration::from_millis(1);

/// PONGs with different contexts that wait to be sent; one more ends the link with `CommandFlood`. PINGs that repeat
/// the newest context share its PONG, so a peer that heartbeats into a stalled link (libzmq sends no context) is safe.
pub(crate) const PONGS_MAX: usize = 32;

/// Commands without any effect (unknown ones, subscriptions to a type that has none, PONGs nobody waits for) that a
/// peer may send in [`IGNORED_WINDOW`]; one more ends the link with `CommandFlood`.
pub(crate) const IGNORED_MAX: u32 = 1000;

/// See [`IGNORED_MAX`].
pub(crate) const IGNORED_WINDOW: Duration = Duration::from_secs(1);

/// Longest topic a peer may subscribe to, in bytes. libzmq has no limit; each byte is kept as long as the peer is.
pub(crate) const TOPIC_MAX: usize = 64 << 10;

/// Longest command of a handshake, in bytes. READY carries all metadata of the peer in one command.
pub(crate) const HANDSHAKE_COMMAND_MAX: usize = 64 << 10;

/// Commands that a peer may send before the handshake is over. CURVE, the longest, needs two.
pub(crate) const HANDSHAKE_COMMANDS_MAX: u32 = 16;

/// Properties in the metadata of one peer.
pub(crate) const PROPERTIES_MAX: usize = 256;
