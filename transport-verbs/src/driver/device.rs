//! What the links of one device share: its view of memory, packet buffers, and the shared receive queue. Posts nothing
//! to a link.

use packet_protocol::Reserve;
use transport_core::FramePool;

use crate::fabric::{Buffer, DeviceId, DeviceInfo, Fabric, Failure, Memory, Splice, Work};
use crate::limits::{BEHIND, PACKET_LEN, SEND_SPARE_MAX, SHARED_RECEIVES};

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
    /// Spare send buffers.
    pub(super) sending: Vec<Buffer>,
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
            splices: Vec::new(),
            shared: None,
            packets,
            send_len: 0,
        }
    }

    /// Links may send packets of so many bytes from now on.
    pub(super) fn expect_packets(&mut self, len: usize) {
        if len > self.send_len {
            self.send_len = len;
            self.sending.clear();
        }
    }

    /// A buffer of registered memory. `None` when the driver has as many as it may, or memory cannot be registered.
    pub(super) fn buffer(&self, len: usize) -> Option<Buffer> {
        let mut frame = self.packets.take(len)?;
        frame.truncate(len);
        self.memory.buffer(frame).ok()
    }

    /// A buffer to fill with a packet.
    pub(super) fn send_buffer(&mut self) -> Option<Buffer> {
        self.sending.pop().or_else(|| self.buffer(self.send_len))
    }

    /// Keeps a send buffer that came back.
    pub(super) fn spare(&mut self, work: Work) {
        if let Work::Send { buffer: Some(buffer), .. } = work
            && self.sending.len() < SEND_SPARE_MAX
            && buffer.len() >= self.send_len
        {
            self.sending.push(buffer);
        }
    }

    /// Puts `count` receive buffers for packets of `len` bytes onto the list. `false`: there are not so many.
    pub(super) fn prepare_receives(&mut self, count: u32, len: usize) -> bool {
        for _ in 0..count {
            let Some(buffer) = self.buffer(len + BEHIND) else {
                self.receiving.clear();
                return false;
            };
            self.receiving.push(buffer);
        }
        true
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
        shared.ok_or(Failure::new("ibv_create_srq", libc::ENOMEM))
    }

    /// Posts what links would have liked of the shared queue, and `more` beyond, as far as there are places. All of one
    /// length, since any link's packet may land in any of them.
    pub(super) fn grow_shared<F: Fabric>(&mut self, fabric: &mut F, more: u32) -> Result<(), Failure> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let least = SHARED_RECEIVES.0.saturating_sub(shared.posted);
        let wanted = shared.reserve.take_unmet().saturating_add(more).max(least);
        let count = wanted.min(shared.most - shared.posted);
        if count == 0 || !self.prepare_receives(count, PACKET_LEN as usize) {
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
