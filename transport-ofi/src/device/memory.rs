//! Memory that a provider can reach: buffers it writes, and frames it or a peer reads. Moves no bytes.

use std::fmt;
use std::ops::{Deref, DerefMut};

use transport_core::{Frame, FrameMut};

use super::domain::Alone;

/// A frame that one owner writes: a packet to send, or a place for one to arrive. What its domain knows it by stays
/// with it, so that posting it again and again asks nobody for it.
pub struct Buffer {
    frame: FrameMut,
    key: u64,
}

impl Buffer {
    /// A frame and the local key that its domain has for it; 0 for none. With a wrong key it is refused when it is
    /// posted.
    pub const fn new(frame: FrameMut, key: u64) -> Self {
        Self { frame, key }
    }
    /// What the domain knows it by: 0 where memory need not be registered to be sent.
    pub const fn local_key(&self) -> u64 {
        self.key
    }
    /// The frame, to be handed on or shared.
    pub fn into_frame(self) -> FrameMut {
        self.frame
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.frame
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.frame
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} B, key {:#x})", self.frame.len(), self.key)
    }
}

/// Who is to read a pinned frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Our provider only, as a piece of a packet.
    Local,
    /// The peer, by READ. Memory without a key is registered for it if it is long enough to be worth it.
    Peer,
}

/// Where a peer finds memory, and by what key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Address of the first byte, or its offset in the registration: as the owner's provider has it.
    pub address: u64,
    /// The owner's key for it.
    pub key: u64,
}

/// A frame that the provider or a peer may read until this is dropped.
pub struct Pinned {
    // In this order: the provider must have let go of the memory before the frame does.
    hold: Option<Alone>,
    frame: Frame,
    key: u64,
    remote: Remote,
}

impl Pinned {
    /// The frame must not be inline: its bytes would move.
    pub(super) const fn new(frame: Frame, key: u64, remote: Remote, hold: Option<Alone>) -> Self {
        Self { hold, frame, key, remote }
    }
    /// The frame.
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }
    /// Where a peer finds it, and by what key. Of no use unless it was pinned for [`Reach::Peer`].
    pub const fn remote(&self) -> Remote {
        self.remote
    }
    /// Whether it was registered for this one use.
    pub const fn is_registered_alone(&self) -> bool {
        self.hold.is_some()
    }
    /// What the domain knows it by.
    pub const fn local_key(&self) -> u64 {
        self.key
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} B at {:#x})", self.frame.len(), self.remote.address)
    }
}

/// A shared frame inside a packet, behind the first `at` bytes of the packet's buffer.
#[derive(Debug)]
pub struct Splice {
    /// Bytes of the buffer before it.
    pub at: usize,
    /// The frame.
    pub body: Pinned,
}
