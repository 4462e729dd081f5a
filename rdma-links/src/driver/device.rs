//! What the links of one device share: its view of memory, packet buffers, and the shared receive queue. Posts nothing
//! to a link.

use packet_protocol::Reserve;
use transport_core::{FrameMut, FramePool, LinkId};

use crate::fabric::{Buffer, DeviceId, DeviceInfo, Fabric, Failure, Memory, Splice};
use crate::limits::{BEHIND, SEND_SPARE_MAX, SEND_SPARE_MIN, SHARED_PACKET_LEN, SHARED_RECEIVES};

/// One device in use.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) info: DeviceInfo,
    pub(super) memory: Memory,
    /// Links with a receive queue of their own.
    pub(super) own_queues: usize,
    /// Buffers on their way to a receive queue; empty between calls.
    pub(super) receiving: Vec<Buffer>,
    /// Spare buffers for packets to send.
    sending: Vec<Buffer>,
    /// Links that wait for one.
    waiting: Vec<LinkId>,
    /// Of the packet that is being filled; empty between calls.
    pub(super) splices: Vec<Splice>,
    shared: Option<Shared>,
    packets: FramePool,
    send_len: usize,
}

/// The shared receive queue.
#[derive(Debug)]
struct Shared {
    reserve: Reserve,
    posted: u32,
    most: u32,
}

impl Device {
    pub(super) fn new(id: DeviceId, info: DeviceInfo, memory: Memory, packets: FramePool) -> Self {
        Self {
            id,
            info,
            memory,
            own_queues: 0,
            receiving: Vec::new(),
            sending: Vec::new(),
            waiting: Vec::new(),
            splices: Vec::new(),
            shared: None,
            packets,
            send_len: 0,
        }
    }

    /// Links may send packets of so many bytes from now on. `false`, and nothing changes, where there is no memory for
    /// one: links of before go on with their shorter ones.
    pub(super) fn expect_packets(&mut self, len: usize) -> bool {
        if len > self.send_len {
            let Some(first) = self.buffer(len) else { return false };
            self.send_len = len;
            self.sending.clear();
            self.sending.push(first);
        }
        true
    }

    /// A buffer of registered memory. `None` when the driver has as many as it may, or memory cannot be registered.
    pub(super) fn buffer(&self, len: usize) -> Option<Buffer> {
        self.memory.buffer(self.packets.take_for(len, self.memory.domain())?).ok()
    }

    /// A buffer to fill with a packet, and whether it is the last there is. That one must be signalled, so that it comes
    /// back, and after it those that others posted without a signal. `None`: all are under way.
    pub(super) fn send_buffer(&mut self) -> Option<(Buffer, bool)> {
        let buffer = self.sending.pop().or_else(|| self.buffer(self.send_len))?;
        if self.sending.is_empty() {
            self.sending.extend(self.buffer(self.send_len));
        }
        Some((buffer, self.sending.is_empty()))
    }

    /// Makes sure that there is a buffer to send from, now and whenever those under way have come back: what is made
    /// here stays, though memory for nothing else may be registered later.
    pub(super) fn reserve_sending(&mut self) -> bool {
        while self.sending.len() < SEND_SPARE_MIN {
            match self.buffer(self.send_len) {
                Some(buffer) => self.sending.push(buffer),
                None => return !self.sending.is_empty(),
            }
        }
        true
    }

    /// Keeps a send buffer that came back.
    pub(super) fn spare(&mut self, buffer: Buffer) {
        if self.sending.len() < SEND_SPARE_MAX && buffer.len() >= self.send_len {
            self.sending.push(buffer);
        }
    }

    /// The same for one that was the target of a READ.
    pub(super) fn spare_frame(&mut self, frame: FrameMut) {
        if let Ok(buffer) = self.memory.buffer(frame) {
            self.spare(buffer);
        }
    }

    /// Remembers a link that found no buffer to send from.
    pub(super) fn wait_for_buffer(&mut self, link: LinkId) {
        self.waiting.push(link);
    }

    /// Links that may go on, if there are buffers again.
    pub(super) fn take_waiting(&mut self) -> Vec<LinkId> {
        if self.waiting.is_empty() || !self.reserve_sending() {
            return Vec::new();
        }
        // Whoever waited longest goes last of those that come back at once, or the others would never find one.
        self.waiting.rotate_left(1);
        std::mem::take(&mut self.waiting)
    }

    /// Bytes of a packet to send.
    pub(super) const fn send_len(&self) -> usize {
        self.send_len
    }

    /// Puts `count` receive buffers for packets of `len` bytes onto the list, or as many as there are. How many.
    pub(super) fn prepare_receives(&mut self, count: u32, len: usize) -> u32 {
        for done in 0..count {
            let Some(buffer) = self.buffer(len + BEHIND) else { return done };
            self.receiving.push(buffer);
        }
        count
    }

    /// The reserve of the shared receive queue, made by the first link that needs it.
    pub(super) fn share_receives<F: Fabric>(&mut self, fabric: &mut F) -> Result<Reserve, Failure> {
        if self.shared.is_none() {
            let most = SHARED_RECEIVES.1.min(self.info.shared_receives_max as u32);
            fabric.share_receives(self.id, most, 0)?;
            self.shared = Some(Shared { reserve: Reserve::new(), posted: 0, most });
        }
        self.grow_shared(fabric, 0)?;
        let shared = self.shared.as_ref().map(|shared| shared.reserve.clone());
        shared.ok_or(Failure::new("no shared receive queue", libc::ENOMEM))
    }

    /// Posts what links would have liked of the shared queue, and `more` beyond, as far as there are places. All of one
    /// length, since any link's packet may land in any of them.
    pub(super) fn grow_shared<F: Fabric>(&mut self, fabric: &mut F, more: u32) -> Result<(), Failure> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let least = SHARED_RECEIVES.0.saturating_sub(shared.posted);
        let wanted = shared.reserve.take_unmet().saturating_add(more).max(least);
        let wanted = wanted.min(shared.most - shared.posted);
        let count = self.prepare_receives(wanted, SHARED_PACKET_LEN as usize);
        if count == 0 {
            return Ok(());
        }
        let posted = fabric.post_shared_receives(self.id, &mut self.receiving);
        let count = count - self.receiving.len() as u32;
        self.receiving.clear();
        if let Some(shared) = &mut self.shared {
            shared.posted += count;
            shared.reserve.add(count);
        }
        posted
    }
}
