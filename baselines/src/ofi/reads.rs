//! A stream of long messages by fi_read(3): the source tells where they are and drives its provider, the sink fetches them,
//! [`READS`] in flight, each into a frame of its own. We copy nothing; a provider over sockets does.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use transport_core::{Frame, FrameMut};
use transport_ofi::device::{Pinned, Reach, Remote, TargetId};

use super::{Body, Link};
use crate::limits::{READS, SOURCES_MAX};
use crate::shape::REMOTE;
use crate::{Error, Result};

/// Bytes at both ends of a frame that are spoilt before a READ, so that what it does not write is seen.
const SPOILT: usize = 8;

impl Link {
    /// The source's part: tells where `frames` are, all of one length, and serves them until the peer has had enough.
    /// Of more than 1023 frames the rest is left out.
    pub fn offer(&mut self, frames: &[Frame]) -> Result<()> {
        let len = frames.first().map_or(0, |frame| frame.len());
        let frames = &frames[..frames.len().min(SOURCES_MAX - 1)];
        let pins: Vec<Pinned> = frames.iter().map(|frame| self.pin_for_peer(frame)).collect::<Result<_>>()?;
        let remotes = pins.iter().map(Pinned::remote);
        let told: Vec<u8> =
            std::iter::once(Remote { address: len as u64, key: 0 }).chain(remotes).flat_map(encode).collect();
        self.send(Body::Bytes(&told))?;
        match self.recv(|_| ())? {
            None => Ok(()),
            Some(()) => Err(Error::Closed),
        }
    }

    /// A frame that the peer may READ; in memory of this link's, if it is not in any that can be registered.
    fn pin_for_peer(&self, frame: &Frame) -> Result<Pinned> {
        let frame = match self.domain.pin(frame.clone(), Reach::Peer) {
            Ok(pinned) => return Ok(pinned),
            Err(frame) => frame,
        };
        let mut copy = self.frame(frame.len())?;
        copy.copy_from_slice(&frame);
        self.domain.pin(copy.freeze(), Reach::Peer).map_err(|frame| Error::Memory(frame.len()))
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
        // READs may come back in another order.
        let mut posted = VecDeque::with_capacity(READS);
        for _ in 0..READS {
            let frame = self.frame(len)?;
            posted.push_back(self.post_read(frame, sources.next())?);
        }
        while let Some(first) = posted.front().copied() {
            let Some(frame) = self.endpoint.reclaim(first) else {
                self.wait()?;
                continue;
            };
            posted.pop_front();
            if each(&frame).is_break() {
                break;
            }
            posted.push_back(self.post_read(frame, sources.next())?);
        }
        self.finish()
    }

    fn post_read(&mut self, mut frame: FrameMut, source: Option<Remote>) -> Result<TargetId> {
        let len = frame.len();
        let edge = SPOILT.min(len);
        frame[..edge].fill(0xA5);
        frame[len - edge..].fill(0xA5);
        let target = self.endpoint.lend(frame);
        let source = source.ok_or(Error::Closed)?;
        self.post(|link| link.endpoint.read(target, 0..len, source, 0))?;
        Ok(target)
    }
}

fn encode(remote: Remote) -> [u8; REMOTE] {
    let mut bytes = [0; REMOTE];
    bytes[..8].copy_from_slice(&remote.address.to_le_bytes());
    bytes[8..].copy_from_slice(&remote.key.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Remote {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    Remote { address: word(0), key: word(8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_key_survive_the_wire() {
        let remote = Remote { address: 0x1234_5678_9abc_def0, key: 0x0fed_cba9_8765_4321 };
        assert_eq!(decode(&encode(remote)), remote);
    }
}
