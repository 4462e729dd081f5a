//! The one who posts to a send queue: collects work requests in a chain, and rings the device once for all of them.

use std::fmt;
use std::ops::Range;

use transport_core::FrameMut;

use super::QueuePair;
use super::identity::{Identity, Queue};
use super::queue_pair::{LandError, Posted, place_in};
use crate::fabric::{Buffer, Mark, PostError, Remote, Splice, TargetId};
use crate::limits::{CHAIN_MAX, GATHER_MAX, INLINE_MAX};
use crate::sys;

/// Room for the requests of one ring. Any queue pair may use it, one at a time.
pub struct Chain {
    requests: Box<[sys::ibv_send_wr; CHAIN_MAX]>,
    pieces: Box<[sys::ibv_sge; CHAIN_MAX * GATHER_MAX]>,
    /// Copies of what is sent inline.
    bytes: Box<[u8; CHAIN_MAX * INLINE_MAX]>,
    len: usize,
    /// Pieces in use, and how many of them belong to requests that are made.
    pieces_len: usize,
    pieces_made: usize,
    bytes_len: usize,
}

// SAFETY: between two uses it holds nothing that means anything; in use, its user's borrow keeps it in one thread.
unsafe impl Send for Chain {}

impl Chain {
    /// An empty one.
    pub fn new() -> Self {
        // SAFETY: all three are plain numbers and pointers, which may be zero.
        unsafe {
            Self {
                requests: Box::new(std::mem::zeroed()),
                pieces: Box::new(std::mem::zeroed()),
                bytes: Box::new(std::mem::zeroed()),
                len: 0,
                pieces_len: 0,
                pieces_made: 0,
                bytes_len: 0,
            }
        }
    }
    fn clear(&mut self) {
        (self.len, self.pieces_len, self.pieces_made, self.bytes_len) = (0, 0, 0, 0);
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} requests)", self.len)
    }
}

/// Posts to one queue pair. Whoever has it is the only one who does. Rings when it is dropped.
#[derive(Debug)]
pub struct PostSender<'a> {
    pair: &'a mut QueuePair,
    chain: &'a mut Chain,
}

impl<'a> PostSender<'a> {
    /// Begins to post.
    pub fn new(pair: &'a mut QueuePair, chain: &'a mut Chain) -> Self {
        chain.clear();
        Self { pair, chain }
    }

    /// Requests that the queue takes at the moment.
    pub fn room(&self) -> usize {
        self.pair.room()
    }

    /// Bytes of an inline send.
    pub fn inline_max(&self) -> usize {
        self.pair.limits().inline
    }

    /// As [`crate::fabric::Sender::inline`].
    pub fn inline(&mut self, bytes: &[u8], mark: Mark) -> Result<(), PostError> {
        if bytes.len() > self.inline_max() {
            return Err(PostError::TooLarge);
        }
        self.check_room()?;
        let at = self.chain.bytes_len;
        let copy = &mut self.chain.bytes[at..at + bytes.len()];
        copy.copy_from_slice(bytes);
        let address = copy.as_ptr().expose_provenance() as u64;
        self.chain.bytes_len += bytes.len();
        self.piece(address, bytes.len(), 0);
        self.request(sys::IBV_WR_SEND, sys::IBV_SEND_INLINE, None, mark);
        self.posted(Posted::Inline { tag: mark.tag });
        Ok(())
    }

    /// As [`crate::fabric::Sender::send`].
    pub fn send(
        &mut self,
        buffer: Buffer,
        len: usize,
        splices: &mut Vec<Splice>,
        mark: Mark,
    ) -> Result<(), (PostError, Buffer)> {
        let ordered = splices.is_sorted_by_key(|splice| splice.at);
        let inside = splices.last().is_none_or(|splice| splice.at <= len);
        let pieces = 2 * splices.len() + 1;
        if len > buffer.len() || pieces > self.pair.limits().gather || !ordered || !inside {
            return Err((PostError::TooLarge, buffer));
        }
        if let Err(error) = self.check_room() {
            return Err((error, buffer));
        }
        let (start, key, number) =
            (buffer.as_ptr().expose_provenance() as u64, buffer.local_key() as u32, self.pair.next_send());
        let mut from = 0;
        for splice in splices.drain(..) {
            self.piece(start + from as u64, splice.at - from, key);
            from = splice.at;
            let (frame, key) = (splice.body.frame(), splice.body.local_key() as u32);
            self.piece(frame.as_ptr().expose_provenance() as u64, frame.len(), key);
            self.pair.pin(number, splice.body);
        }
        self.piece(start + from as u64, len - from, key);
        self.request(sys::IBV_WR_SEND, 0, None, mark);
        self.posted(Posted::Packet { tag: mark.tag, buffer });
        Ok(())
    }

    /// As [`crate::fabric::Sender::lend`].
    pub fn lend(&mut self, frame: FrameMut) -> TargetId {
        self.pair.lend(frame)
    }

    /// As [`crate::fabric::Sender::read`].
    pub fn read(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        mark: Mark,
    ) -> Result<(), PostError> {
        self.check_room()?;
        let len = into.len();
        if u32::try_from(len).is_err() {
            return Err(PostError::TooLarge);
        }
        let landing = self.pair.land(target, into).map_err(|error| match error {
            LandError::NoTarget => PostError::NoTarget,
            LandError::NotRegistered => PostError::NotRegistered,
        })?;
        self.piece(landing.address, len, landing.key);
        self.request(sys::IBV_WR_RDMA_READ, 0, Some(from), mark);
        self.posted(Posted::Read { tag: mark.tag, target, region: landing.region });
        Ok(())
    }

    /// Makes the device see what was posted. False if it refused: what it refused comes back by
    /// [`QueuePair::retire_refused`].
    pub fn ring(&mut self) -> bool {
        let count = std::mem::take(&mut self.chain.len);
        if count > 0 && !self.pair.is_refusing() {
            let (first, pieces) = (self.chain.requests.as_mut_ptr(), self.chain.pieces.as_mut_ptr());
            let mut bad = std::ptr::null_mut();
            // SAFETY: `at` stays inside the first `count` requests, and their pieces follow each other. The queue pair
            // is alive, and so is what the requests point to: `requests`, `pieces` and `bytes` until the call has
            // returned, buffers, frames and targets in the queue pair until the requests complete or it is destroyed.
            let result = unsafe {
                let mut piece = 0;
                for at in 0..count {
                    (*first.add(at)).sg_list = pieces.add(piece);
                    piece += (*first.add(at)).num_sge as usize;
                    (*first.add(at)).next =
                        if at + 1 < count { first.add(at + 1) } else { std::ptr::null_mut() };
                }
                sys::ibv_post_send(self.pair.raw(), first, &mut bad)
            };
            if result != 0 {
                let refused = count - place_in(first, bad, count);
                let from = self.pair.next_send().wrapping_sub(refused as u32);
                self.pair.refuse_from(from, result.abs());
            }
        }
        self.chain.clear();
        !self.pair.is_refusing()
    }

    fn check_room(&self) -> Result<(), PostError> {
        if self.pair.room() == 0 { Err(PostError::Full) } else { Ok(()) }
    }

    fn piece(&mut self, address: u64, len: usize, key: u32) {
        // A piece of length 0 means 2 GiB to some devices.
        if len > 0 {
            self.chain.pieces[self.chain.pieces_len] =
                sys::ibv_sge { addr: address, length: len as u32, lkey: key };
            self.chain.pieces_len += 1;
        }
    }

    /// Makes a request of the pieces since the last one.
    fn request(&mut self, opcode: sys::ibv_wr_opcode, flags: u32, remote: Option<Remote>, mark: Mark) {
        let signal = mark.signal || self.pair.unsignaled >= self.pair.unsignaled_max();
        self.pair.unsignaled = if signal { 0 } else { self.pair.unsignaled + 1 };
        let identity =
            Identity { queue: Queue::Send, cookie: self.pair.cookie().word(), number: self.pair.next_send() };
        let pieces =
            self.chain.pieces_len - std::mem::replace(&mut self.chain.pieces_made, self.chain.pieces_len);
        let request = &mut self.chain.requests[self.chain.len];
        request.wr_id = identity.to_word();
        request.num_sge = pieces as i32;
        request.opcode = opcode;
        request.send_flags = flags | if signal { sys::IBV_SEND_SIGNALED } else { 0 };
        if let Some(remote) = remote {
            request.wr.rdma.remote_addr = remote.address;
            // A key of more bits is none that a device of ours has given out; the peer's refuses what is left of it.
            request.wr.rdma.rkey = remote.key as u32;
        }
        self.chain.len += 1;
    }

    fn posted(&mut self, posted: Posted) {
        self.pair.sends.push_back(posted);
        if self.chain.len == CHAIN_MAX {
            self.ring();
        }
    }
}

impl Drop for PostSender<'_> {
    fn drop(&mut self) {
        self.ring();
    }
}
