//! What raw loops over RDMA have in common, whichever library posts: how memory is laid out, and what is sent. Posts nothing.

use transport_core::Frame;

use crate::limits::{READ_FROM, RECEIVE_BYTES, RECEIVES, RECEIVES_MIN, SOURCES_MAX};
use crate::{Run, Traffic, Wait};

/// Bytes of one address and key on the wire, little endian. Before the first of them goes, as if it were an address, the
/// length that all have.
pub(crate) const REMOTE: usize = 16;

/// What an endpoint's or queue pair's memory and receives are laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the longest message that is sent or received.
    pub(crate) message: usize,
    pub(crate) receives: usize,
    pub(crate) reads: bool,
    pub(crate) wait: Wait,
}

impl Shape {
    /// For messages of so many bytes, by sends.
    pub fn sends(message: usize, wait: Wait) -> Self {
        let receives = (RECEIVE_BYTES / message.max(1)).clamp(RECEIVES_MIN, RECEIVES);
        Self { message, receives, reads: false, wait }
    }

    /// For messages that are READ: beside them only a word or two is sent.
    pub const fn reads(wait: Wait) -> Self {
        Self { message: SOURCES_MAX * REMOTE, receives: RECEIVES_MIN, reads: true, wait }
    }

    /// Of a run.
    pub fn of(run: &Run) -> Self {
        match run.traffic {
            Traffic::Stream if run.bytes >= READ_FROM => Self::reads(run.wait),
            _ => Self::sends(run.bytes, run.wait),
        }
    }
}

/// A message to be sent.
#[derive(Debug)]
pub enum Body<'a> {
    /// Copied, whatever its length.
    Bytes(&'a [u8]),
    /// From where it is, if it is too long to be copied into the request and the device can reach it there.
    Frame(Frame),
}

impl Body<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Frame(frame) => frame,
        }
    }
}
