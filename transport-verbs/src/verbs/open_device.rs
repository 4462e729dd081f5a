//! A device as one fabric has it open: its context and everything made from it but queue pairs. Knows no connection's
//! state.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::device::{
    Batch, CmId, CompletionChannel, CompletionQueue, Context, EventChannel, ProtectionDomain,
    SharedReceiveQueue, WorkCompletion, without_port,
};
use crate::fabric::{Buffer, ConnectionId, Failure, Memory};
use crate::limits::COMPLETIONS_MAX;

/// An opened device.
pub(super) struct OpenDevice {
    pub(super) queues: Vec<Queue>,
    pub(super) shared: Option<SharedReceiveQueue>,
    /// Below so many shared receives an event is wanted, and whether it was asked for.
    low: u32,
    is_low_armed: bool,
    /// Who has which queue pair, by its number; of those that share receives.
    sharers: HashMap<u32, ConnectionId, BuildHasherDefault<NumberHasher>>,
    pub(super) is_lost: bool,
    /// An id that is bound to the device and does nothing, so that its removal is heard of while nothing else goes
    /// through.
    sentry: Option<CmId>,
    pub(super) memory: Memory,
    pub(super) domain: Arc<ProtectionDomain>,
    pub(super) channel: CompletionChannel,
    pub(super) context: Context,
}

/// A completion queue, and how much of it is spoken for.
pub(super) struct Queue {
    pub(super) queue: CompletionQueue,
    reserved: u32,
    /// Shared receives may complete here, all of them.
    reserved_for_shared: bool,
    /// An event was asked for, and not seen yet.
    armed: bool,
    /// Something completed since, so that the event has been made or is about to be.
    stirred: bool,
}

impl OpenDevice {
    /// Opens the device that an id goes through.
    pub(super) fn open(id: &CmId) -> Result<Self, Failure> {
        let context = id.open_device()?;
        let channel = CompletionChannel::new(&context)?;
        let domain = ProtectionDomain::new(&context)?;
        Ok(Self {
            queues: Vec::new(),
            shared: None,
            low: 0,
            is_low_armed: false,
            sharers: HashMap::default(),
            is_lost: false,
            sentry: None,
            memory: domain.memory(),
            domain,
            channel,
            context,
        })
    }

    /// Posts the sentry, at the address through which the device was found. Without one, connections alone tell of the
    /// removal.
    pub(super) fn post_sentry(&mut self, id: &CmId, channel: &EventChannel, cookie: u64) {
        let Some(address) = id.local_address() else { return };
        let sentry = CmId::new(channel, cookie).and_then(|mut sentry| {
            sentry.bind(without_port(address))?;
            Ok(sentry)
        });
        self.sentry = sentry.ok().filter(|sentry| sentry.goes_through(&self.context));
    }

    /// Lets the kernel have the device back, as far as librdmacm keeps it.
    pub(super) fn release(&mut self) {
        if let Some(sentry) = &mut self.sentry {
            sentry.release_removed_device();
        }
    }

    // Completion queues

    /// Finds or makes a completion queue with room for so many more completions, and reserves them. Its place.
    pub(super) fn reserve(&mut self, completions: u32, shares: bool) -> Result<usize, Failure> {
        let all_shared = match &self.shared {
            Some(shared) if shares => shared.capacity() as u32,
            _ => 0,
        };
        let need = |queue: &Queue| completions + if queue.reserved_for_shared { 0 } else { all_shared };
        let found = self.queues.iter().position(|it| it.queue.capacity() - it.reserved >= need(it));
        let at = match found {
            Some(at) => at,
            None => {
                // Half as much again, so that one queue serves many that share.
                let entries =
                    COMPLETIONS_MAX.max(completions + all_shared + COMPLETIONS_MAX / 2 * u32::from(shares));
                let queue = CompletionQueue::new(&self.channel, entries, self.queues.len() as u64)?;
                if queue.capacity() < completions + all_shared {
                    // More than the device's largest.
                    return Err(Failure::new("ibv_create_cq", libc::ENOSPC));
                }
                self.queues.push(Queue {
                    queue,
                    reserved: 0,
                    reserved_for_shared: false,
                    armed: false,
                    stirred: false,
                });
                self.queues.len() - 1
            }
        };
        let need = need(&self.queues[at]);
        self.queues[at].reserved += need;
        self.queues[at].reserved_for_shared |= shares;
        Ok(at)
    }

    /// Gives a reservation up. What is reserved for shared receives stays.
    pub(super) fn unreserve(&mut self, at: usize, completions: u32) {
        if let Some(queue) = self.queues.get_mut(at) {
            queue.reserved = queue.reserved.saturating_sub(completions);
        }
    }

    /// Fetches a batch of completions from one queue. False if there are none.
    pub(super) fn poll(&mut self, at: usize, batch: &mut Batch) -> bool {
        let queue = &mut self.queues[at];
        let some = queue.queue.poll(batch);
        queue.stirred |= some;
        some
    }

    /// Asks for an event from every queue that has none coming. What completed before does not bring one.
    pub(super) fn arm(&mut self) {
        // A queue has one event for each time it is asked, so that nobody need look for more: that is a system call.
        while self.queues.iter().any(|queue| queue.armed && queue.stirred)
            && let Some(at) = self.channel.next_event()
        {
            if let Some(queue) = usize::try_from(at).ok().and_then(|at| self.queues.get_mut(at)) {
                queue.armed = false;
            }
        }
        for queue in self.queues.iter_mut().filter(|queue| !queue.armed) {
            // A device that refuses is lost, and says so by other means.
            queue.armed = queue.queue.arm().is_ok();
            queue.stirred = false;
        }
    }

    // Shared receives

    pub(super) fn share_receives(&mut self, receives: u32, low: u32, cookie: u64) -> Result<(), Failure> {
        if self.shared.is_some() {
            return Err(Failure::new("ibv_create_srq", libc::EEXIST));
        }
        self.shared = Some(SharedReceiveQueue::new(&self.domain, receives, cookie)?);
        self.low = low;
        Ok(())
    }

    pub(super) fn post_shared(&mut self, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        let shared = self.shared.as_mut().ok_or(Failure::new("ibv_post_srq_recv", libc::EINVAL))?;
        let posted = shared.post(buffers);
        if !self.is_low_armed && self.low > 0 && shared.posted() > self.low as usize {
            shared.arm(self.low)?;
            self.is_low_armed = true;
        }
        posted
    }

    /// The event of a low queue came: it comes once.
    pub(super) fn ran_low(&mut self) {
        self.is_low_armed = false;
    }

    pub(super) fn add_sharer(&mut self, number: u32, connection: ConnectionId) {
        self.sharers.insert(number, connection);
    }

    pub(super) fn remove_sharer(&mut self, number: u32, connection: ConnectionId) {
        if self.sharers.get(&number) == Some(&connection) {
            self.sharers.remove(&number);
        }
    }

    /// The buffer of a shared receive, with whose it is and how many bytes are in it. A connection that is gone is one
    /// that no table has.
    pub(super) fn retire_shared(
        &mut self,
        completion: &WorkCompletion,
    ) -> Option<(ConnectionId, Buffer, usize)> {
        let (buffer, len) = self.shared.as_mut()?.retire(completion)?;
        let connection = self.sharers.get(&completion.queue_pair_number()).copied();
        let connection = connection.unwrap_or_else(|| transport_core::SlabKey::from_u64(0).into());
        Some((connection, buffer, len))
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        // Pools keep the domain for as long as their arenas live.
        self.domain.close();
    }
}

impl fmt::Debug for OpenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenDevice({}, {} completion queues)", self.context.info().name, self.queues.len())
    }
}

/// Spreads queue pair numbers, which devices give out in ascending order, by a multiplication.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
