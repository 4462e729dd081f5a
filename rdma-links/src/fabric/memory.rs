//! Memory that a device can reach: buffers it writes, frames it reads, and the domain that makes either. Moves no
//! bytes.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use transport_core::{Frame, FrameMut, Key, MemoryDomain};

/// A frame of registered memory that one owner writes: a packet to send or a place for one to arrive. The key stays
/// with it, so that posting it again and again asks nobody for it.
pub struct Buffer {
    frame: FrameMut,
    key: u64,
}

impl Buffer {
    /// What the device calls it. A key that is not the frame's makes the device refuse the request, and nothing worse.
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
    /// Our device only, as a piece of a packet.
    Device,
    /// The peer, by READ. Memory without a key is registered for it if it is long enough to be worth it.
    Peer,
}

/// Undoes something when it is dropped, such as a registration made for one frame.
pub trait Hold: fmt::Debug + Send {
    /// Whether the memory was registered for this one use.
    fn is_registration(&self) -> bool {
        true
    }
}

/// A frame that a device or a peer may read until this is dropped.
pub struct Pinned {
    // In this order: the device must have let go of the memory before the frame does.
    hold: Option<Box<dyn Hold>>,
    frame: Frame,
    key: Key,
}

impl Pinned {
    /// The frame.
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }
    /// Where a peer finds it, and by what key.
    pub const fn remote(&self) -> super::Remote {
        super::Remote { address: self.key.address, key: self.key.remote }
    }
    /// Whether it was registered for this one use.
    pub fn is_registered_alone(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.is_registration())
    }
    /// What our device calls it.
    pub const fn local_key(&self) -> u64 {
        self.key.local
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} B at {:#x})", self.frame.len(), self.key.address)
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

/// Makes a frame readable where a key is not all that it takes.
pub trait Pin: fmt::Debug + Send + Sync {
    /// The key of a frame, and what holds it. `key` is what the domain has for it already. `None`: it must be copied.
    fn pin(&self, frame: &Frame, key: Option<Key>, reach: Reach) -> Option<(Key, Option<Box<dyn Hold>>)>;
}

/// A device's view of memory. Clones share it; thread-safe.
#[derive(Debug, Clone)]
pub struct Memory {
    domain: Arc<dyn MemoryDomain>,
    pins: Arc<dyn Pin>,
}

impl Memory {
    /// A view that registers with `domain` and pins by `pins`.
    pub fn new(domain: Arc<dyn MemoryDomain>, pins: Arc<dyn Pin>) -> Self {
        Self { domain, pins }
    }

    /// The domain that arenas are registered with.
    pub const fn domain(&self) -> &Arc<dyn MemoryDomain> {
        &self.domain
    }

    /// Makes a frame a buffer. Gives it back if it is not in registered memory and cannot be.
    pub fn buffer(&self, frame: FrameMut) -> Result<Buffer, FrameMut> {
        match frame.key(&self.domain) {
            Some(key) => Ok(Buffer { key: key.local, frame }),
            None => Err(frame),
        }
    }

    /// Makes a frame readable for our device or a peer. Gives it back if it must be copied instead.
    pub fn pin(&self, frame: Frame, reach: Reach) -> Result<Pinned, Frame> {
        match self.pins.pin(&frame, frame.key(&self.domain), reach) {
            Some((key, hold)) => Ok(Pinned { hold, frame, key }),
            None => Err(frame),
        }
    }
}
