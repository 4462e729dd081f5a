//! A domain of a provider as one fabric has it open: its memory, and the completion queues that connected endpoints share. Knows no
//! connection.

use std::fmt;

use rdma_links::fabric::{DeviceInfo, Memory};

use super::failure;
use crate::device::{CompletionQueue, Domain, Info, Kind, Process, Standing};
use crate::limits::{COMPLETIONS_MAX, FETCHES_MAX, REQUESTS_MAX};
use rdma_links::fabric::Failure;

/// An opened domain.
pub(super) struct OpenDevice {
    pub(super) queues: Vec<Queue>,
    pub(super) info: DeviceInfo,
    pub(super) memory: Memory,
    pub(super) is_lost: bool,
    /// Where READs are copies by the kernel: whether that goes, as far as anybody has tried.
    pub(super) fetches: Option<bool>,
    /// Peers in a row that could not be read.
    pub(super) unreadable: u32,
    /// Which of the fabric's networks it is of.
    pub(super) network: usize,
    pub(super) kind: Kind,
    pub(super) domain: Domain,
}

/// A completion queue, and how much of it is spoken for.
pub(super) struct Queue {
    pub(super) queue: CompletionQueue,
    reserved: usize,
}

impl OpenDevice {
    pub(super) fn open(
        network: usize,
        fabric: &crate::device::Fabric,
        info: &Info,
        kind: Kind,
    ) -> Result<Self, Failure> {
        let domain = Domain::open(fabric, info).map_err(failure)?;
        // Providers have no such limit, or keep to theirs by making requests wait. But who READs over shared memory holds the lock
        // of the other's queue meanwhile (shm 1.17), and if he is killed then, the other spins for ever: there the kernel is asked,
        // if it does that at all (containers may forbid it).
        let tried = || info.reads_by_address() && Process::open(Standing::new().witness()).is_ok();
        let fetches = fabric.shares_memory().then(tried);
        let reads = match fetches {
            _ if !info.reads() => 0,
            None => u8::MAX,
            Some(goes) => {
                if goes {
                    FETCHES_MAX
                } else {
                    0
                }
            }
        };
        Ok(Self {
            queues: Vec::new(),
            info: DeviceInfo {
                name: info.domain(),
                is_iwarp: false,
                initiator_depth_max: reads,
                responder_resources_max: reads,
                work_requests_max: REQUESTS_MAX,
                shared_receives_max: 0,
                message_max: info.message_max(),
                // What shm does not copy as it is sent, the peer's process copies when it comes to it, from wherever it was said to be:
                // a held-up peer of an ended link would get what others have put there since.
                packet_max: if fabric.shares_memory() { info.inject_max() } else { info.message_max() },
            },
            memory: domain.view(),
            is_lost: false,
            fetches,
            unreadable: 0,
            network,
            kind,
            domain,
        })
    }

    /// Finds a completion queue with room for so many more completions, or makes one that `watch` is then given, and reserves them.
    /// Its place.
    pub(super) fn reserve(
        &mut self,
        completions: usize,
        watch: impl FnOnce(&CompletionQueue) -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        let fits = |queue: &Queue| queue.reserved + completions <= COMPLETIONS_MAX;
        let at = match self.queues.iter().position(fits) {
            Some(at) => at,
            None => {
                let queue =
                    CompletionQueue::open(&self.domain, COMPLETIONS_MAX.max(completions)).map_err(failure)?;
                watch(&queue)?;
                self.queues.push(Queue { queue, reserved: 0 });
                self.queues.len() - 1
            }
        };
        self.queues[at].reserved += completions;
        Ok(at)
    }

    /// Gives a reservation up.
    pub(super) fn unreserve(&mut self, at: usize, completions: usize) {
        if let Some(queue) = self.queues.get_mut(at) {
            queue.reserved = queue.reserved.saturating_sub(completions);
        }
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
        write!(f, "OpenDevice({}, {} completion queues)", self.info.name, self.queues.len())
    }
}
