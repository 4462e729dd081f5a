//! A stream of long messages by RDMA READ: the source tells where they are and does nothing more, the sink fetches them,
//! [`READS`] in flight, each into a frame of its own. Nobody copies.

use std::ops::ControlFlow;

use transport_core::{Frame, FrameMut};
use transport_verbs::device::PostSender;
use transport_verbs::fabric::{Pinned, Reach, Remote};

use super::{Body, Link, SIGNALED};
use crate::limits::{READS, SOURCES_MAX};
use crate::shape::REMOTE;
use crate::{Error, Result};

/// Bytes at both ends of a frame that are spoilt before a READ, so that what it does not write is seen.
const SPOILT: usize = 8;

impl Link {
    /// The source's part: tells where `frames` are, all of one length, and waits until the peer has had enough.
    /// Of more than 1023 frames the rest is left out.
    pub fn offer(&mut self, frames: &[Frame]) -> Result<()> {
        let len = frames.first().map_or(0, |frame| frame.len());
        let frames = &frames[..frames.len().min(SOURCES_MAX - 1)];
        let pins: Vec<Pinned> = frames
            .iter()
            .map(|frame| self.memory.pin(frame.clone(), Reach::Peer).map_err(|_| Error::Memory(len)))
            .collect::<Result<_>>()?;
        let remotes = pins.iter().map(Pinned::remote);
        let told: Vec<u8> =
            std::iter::once(Remote { address: len as u64, key: 0 }).chain(remotes).flat_map(encode).collect();
        self.send(std::iter::once(Body::Bytes(&told)))?;
        match self.recv(|_| ())? {
            None => Ok(()),
            Some(()) => Err(Error::Closed),
        }
    }

    /// The sink's part: hands messages to `each`, in order, until that breaks.
    pub fn fetch(&mut self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        let told: Vec<Remote> =
            self.recv(|told| told.chunks_exact(REMOTE).map(decode).collect())?.ok_or(Error::Closed)?;
        let (len, sources) = match told.split_first() {
            Some((head, sources)) if !sources.is_empty() => (head.address as usize, sources),
            _ => return Err(Error::Closed),
        };
        let mut sources = sources.iter().copied().cycle();
        for _ in 0..READS {
            let frame = self.frame(len)?;
            self.post_read(frame, sources.next())?;
        }
        loop {
            let Some(target) = self.read.pop_front() else {
                self.wait()?;
                continue;
            };
            let frame = self.pair.reclaim(target).ok_or(Error::Closed)?;
            if each(&frame).is_break() {
                return self.finish();
            }
            self.post_read(frame, sources.next())?;
        }
    }

    fn post_read(&mut self, mut frame: FrameMut, source: Option<Remote>) -> Result<()> {
        let len = frame.len();
        let edge = SPOILT.min(len);
        frame[..edge].fill(0xA5);
        frame[len - edge..].fill(0xA5);
        let mut sender = PostSender::new(&mut self.pair, &mut self.chain);
        let target = sender.lend(frame);
        sender.read(target, 0..len, source.ok_or(Error::Closed)?, SIGNALED)?;
        Ok(())
    }
}

fn encode(remote: Remote) -> [u8; REMOTE] {
    let mut bytes = [0; REMOTE];
    bytes[..8].copy_from_slice(&remote.address.to_le_bytes());
    bytes[8..].copy_from_slice(&remote.key.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Remote {
    let (mut address, mut key) = ([0; 8], [0; 8]);
    address.copy_from_slice(&bytes[..8]);
    key.copy_from_slice(&bytes[8..]);
    Remote { address: u64::from_le_bytes(address), key: u64::from_le_bytes(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_key_survive_the_wire() {
        let remote = Remote { address: 0x1234_5678_9abc_def0, key: 0x0fed_cba9 };
        assert_eq!(decode(&encode(remote)), remote);
    }
}
