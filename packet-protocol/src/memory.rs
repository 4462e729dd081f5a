//! How a driver makes frames reachable, for its own device and for the peer's. Registers nothing itself.

use transport_core::Frame;

/// How a driver makes frames reachable, for its own device and for the peer's. Both may refuse a frame, by giving it back;
/// then it is copied.
pub trait Memory {
    /// Keeps an exposed frame in place and within the peer's reach, until this is dropped: when the peer has finished
    /// with it, or when the link is buried.
    type Pin;

    /// Takes a frame that the device is to send from where it is, behind the first `at` bytes of the buffer that is
    /// being filled. It belongs to the packet from now on: the driver lets it go when the packet has left.
    fn splice(&mut self, at: usize, frame: Frame) -> Result<(), Frame>;

    /// Takes a frame that the peer is to READ.
    fn expose(&mut self, frame: Frame) -> Result<Exposed<Self::Pin>, Frame>;
}

/// A frame within the peer's reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposed<P> {
    /// Where it begins, in the terms of a READ.
    pub address: u64,
    /// What it is registered under (rkey, or libfabric's memory key).
    pub key: u64,
    /// What keeps it so.
    pub pin: P,
}

/// No memory is registered: everything is copied.
impl Memory for () {
    type Pin = ();

    fn splice(&mut self, _: usize, frame: Frame) -> Result<(), Frame> {
        Err(frame)
    }
    fn expose(&mut self, frame: Frame) -> Result<Exposed<()>, Frame> {
        Err(frame)
    }
}
