//! Work under way in a simulated world: packets, READs, what they meet, and how they come back.

use std::ops::Range;

use transport_core::{FrameMut, SlabKey};

use super::net::{At, Happening, Net, Phase, Queue, Request, RequestKind, Target};
use super::{HostId, Mishap, Posted, PostedKind, work_of};
use crate::fabric::{
    Buffer, Cause, Completed, ConnectionId, DeviceId, Event, Failure, PostError, QueueLimits, Remote, Splice,
    Status, TargetId, Work,
};
use crate::limits::UNSIGNALED_MAX;
use crate::limits::simulated::FOR_EVER;

impl Net {
    // Work

    pub(super) fn limits(&self, host: HostId, connection: ConnectionId) -> Option<QueueLimits> {
        self.find(host, connection)?.queue.as_ref().map(|queue| queue.limits)
    }

    pub(super) fn posted(&self, host: HostId, connection: ConnectionId) -> usize {
        self.find(host, connection).and_then(|it| it.queue.as_ref()).map_or(0, |queue| queue.sends.len())
    }

    pub(super) fn lend(&mut self, host: HostId, connection: ConnectionId, frame: FrameMut) -> TargetId {
        let memory =
            self.hosts.find(host).and_then(|it| it.device.as_ref()).map(|(_, it)| it.domain.memory());
        let registered = memory.is_some_and(|memory| frame.key(memory.domain()).is_some());
        match self.queue_mut(At { host, connection }) {
            Some(queue) => queue.targets.insert(Target { frame, registered, reads: 0 }),
            None => SlabKey::from_u64(0).into(),
        }
    }

    pub(super) fn reclaim(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        target: TargetId,
    ) -> Option<FrameMut> {
        let queue = self.queue_mut(At { host, connection })?;
        queue.targets.find(target).filter(|target| target.reads == 0)?;
        queue.targets.remove(target).map(|target| target.frame)
    }

    pub(super) fn fill_target(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        target: TargetId,
        at: usize,
        bytes: &[u8],
    ) -> bool {
        let queue = self.queue_mut(At { host, connection });
        let frame = queue.and_then(|queue| Some(&mut queue.targets.find_mut(target)?.frame));
        let place = frame.and_then(|frame| frame.get_mut(at..at.checked_add(bytes.len())?));
        place.is_some_and(|place| {
            place.copy_from_slice(bytes);
            true
        })
    }

    pub(super) fn begin_read(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        target: TargetId,
        into: &Range<usize>,
    ) -> Result<(), PostError> {
        let refuses = self.hosts.find(host).is_none_or(|it| it.refuses_memory);
        let it = self.find_mut(host, connection).ok_or(PostError::NoTarget)?;
        let depth = usize::from(it.depth);
        let queue = it.queue.as_mut().ok_or(PostError::NoTarget)?;
        let is_read = |it: &&Request| matches!(it.kind, RequestKind::Read { .. }) && it.status.is_none();
        let reads = queue.sends.iter().filter(is_read).count();
        let target = queue.targets.find_mut(target);
        let target = target.filter(|target| !into.is_empty() && into.end <= target.frame.len());
        let target = target.ok_or(PostError::NoTarget)?;
        if !target.registered && refuses {
            return Err(PostError::NotRegistered);
        }
        target.reads += 1;
        self.count.reads_beyond_depth += u64::from(reads >= depth);
        Ok(())
    }

    pub(super) fn post_receives(
        &mut self,
        host: HostId,
        connection: ConnectionId,
        buffers: &mut Vec<Buffer>,
    ) -> Result<(), Failure> {
        const CALL: &str = "post_receives";
        let at = At { host, connection };
        let it = self.find_mut(host, connection).ok_or(Failure::new(CALL, libc::EBADF))?;
        let is_ending = matches!(it.phase, Phase::Draining | Phase::Drained);
        let queue = it.queue.as_mut().filter(|_| !is_ending).ok_or(Failure::new(CALL, libc::EINVAL))?;
        let room = queue.limits.receives - queue.receives.len();
        let taken: Vec<_> = buffers.drain(..buffers.len().min(room)).collect();
        if queue.failed {
            for buffer in taken {
                self.complete(at, Status::Flushed, Work::Receive { buffer, len: 0 });
            }
        } else {
            queue.receives.extend(taken);
            self.resume(host);
        }
        if buffers.is_empty() { Ok(()) } else { Err(Failure::new(CALL, libc::ENOMEM)) }
    }

    pub(super) fn post_shared_receives(
        &mut self,
        host: HostId,
        device: DeviceId,
        buffers: &mut Vec<Buffer>,
    ) -> Result<(), Failure> {
        const CALL: &str = "post_shared_receives";
        let it = self.device_mut(host, device).ok_or(Failure::new(CALL, libc::EBADF))?;
        let shared = it.shared.as_mut().ok_or(Failure::new(CALL, libc::EINVAL))?;
        let room = shared.capacity - shared.posted.len();
        shared.posted.extend(buffers.drain(..buffers.len().min(room)));
        shared.is_armed |= shared.low > 0 && shared.posted.len() > shared.low;
        self.resume(host);
        if buffers.is_empty() { Ok(()) } else { Err(Failure::new(CALL, libc::ENOMEM)) }
    }

    pub(super) fn post(&mut self, host: HostId, connection: ConnectionId, mut request: Request) {
        let at = At { host, connection };
        let (kind, len) = match &request.kind {
            RequestKind::Inline(bytes) => (PostedKind::Packet, bytes.len()),
            RequestKind::Packet { len, splices, .. } => {
                (PostedKind::Packet, len + splices.iter().map(|it| it.body.frame().len()).sum::<usize>())
            }
            RequestKind::Read { into, .. } => (PostedKind::Read, into.len()),
        };
        let mishap = (self.mishaps)(Posted { host, kind, len });
        let local = self.has_good_keys(at, &request.kind);
        let Some(queue) = self.queue_mut(at) else { return };
        let most = UNSIGNALED_MAX.min(queue.limits.sends as u32 / 4).max(1) - 1;
        request.mark.signal |= queue.unsignaled >= most;
        queue.unsignaled = if request.mark.signal { 0 } else { queue.unsignaled + 1 };
        (request.number, request.mishap) = (queue.next, mishap);
        queue.next += 1;
        let number = request.number;
        let (ready, failed) = (queue.ready, queue.failed);
        if queue.refusing || !ready && !failed || mishap == Some(Mishap::Refused) {
            queue.refusing = true;
            request.status = Some(Status::NotPosted(libc::EINVAL));
            queue.sends.push_back(request);
            return self.fail(at, None);
        }
        queue.sends.push_back(request);
        if failed {
            return self.fail(at, None);
        }
        if !local {
            return self.fail(at, Some((number, Status::LocalProtection)));
        }
        self.plan(Happening::Arrive { at, number });
        match mishap {
            Some(Mishap::QueueFails) => {
                let connection = at.connection;
                self.fail(at, None);
                if self.find(host, connection).is_some_and(|it| it.phase == Phase::Established) {
                    self.say(host, Event::Disconnected { connection, cause: Cause::QueueFailed });
                }
            }
            Some(Mishap::CompletionsLost) => self.lose_device(host, false),
            Some(Mishap::DeviceLost) => self.lose_device(host, true),
            _ => {}
        }
    }

    /// Whether the device may touch what a request names.
    fn has_good_keys(&self, at: At, kind: &RequestKind) -> bool {
        let Some((_, device)) = self.hosts.find(at.host).and_then(|it| it.device.as_ref()) else {
            return false;
        };
        let covers = |key, start: *const u8, len| device.domain.covers_local(key, start.addr() as u64, len);
        match kind {
            RequestKind::Inline(_) | RequestKind::Read { .. } => true,
            RequestKind::Packet { buffer, len, splices } => {
                covers(buffer.local_key(), buffer.as_ptr(), *len)
                    && splices
                        .iter()
                        .map(|splice| &splice.body)
                        .all(|body| covers(body.local_key(), body.frame().as_ptr(), body.frame().len()))
            }
        }
    }

    pub(super) fn complete(&mut self, at: At, status: Status, work: Work) {
        let Some(host) = self.hosts.find_mut(at.host) else { return };
        if host.device.as_ref().is_some_and(|(_, device)| !device.is_lost) {
            host.completed.push_back(Completed { connection: at.connection, status, work });
            host.rouse();
        }
    }

    /// Tells what is done, as far as a signal allows it.
    pub(super) fn retire(&mut self, at: At) {
        let Some(queue) = self.queue_mut(at) else { return };
        let done = queue.sends.iter().take_while(|it| it.status.is_some()).count();
        let told = |it: &Request| it.mark.signal || it.status != Some(Status::Success);
        let heard = queue.sends.iter().take(done).rposition(told).map_or(0, |at| at + 1);
        // A queue in error comes back whole.
        let heard = if queue.failed && done == queue.sends.len() { done } else { heard };
        let requests: Vec<_> = queue.sends.drain(..heard).collect();
        for request in requests {
            if let RequestKind::Read { target, .. } = &request.kind
                && let Some(target) = self.queue_mut(at).and_then(|queue| queue.targets.find_mut(*target))
            {
                target.reads -= 1;
            }
            let status = request.status.unwrap_or(Status::Flushed);
            self.complete(at, status, work_of(request.kind, request.mark.tag));
        }
        self.check_drained(at);
    }

    /// To error: the culprit with its status, and what is behind it flushed. Nobody else hears of it.
    pub(super) fn fail(&mut self, at: At, culprit: Option<(u64, Status)>) {
        if let Some(queue) = self.queue_mut(at) {
            (queue.ready, queue.failed) = (false, true);
            for request in &mut queue.sends {
                let blamed =
                    culprit.filter(|(number, _)| *number == request.number).map(|(_, status)| status);
                request.status = request.status.or(blamed).or(Some(Status::Flushed));
            }
            let receives = std::mem::take(&mut queue.receives);
            self.retire(at);
            for buffer in receives {
                self.complete(at, Status::Flushed, Work::Receive { buffer, len: 0 });
            }
        }
        self.check_drained(at);
    }

    pub(super) fn check_drained(&mut self, at: At) {
        let Some(it) = self.find_mut(at.host, at.connection).filter(|it| it.phase == Phase::Draining) else {
            return;
        };
        if it.queue.as_ref().is_none_or(|queue| queue.sends.is_empty() && queue.receives.is_empty()) {
            it.phase = Phase::Drained;
            self.say(at.host, Event::Drained { connection: at.connection });
        }
    }

    pub(super) fn arrive(&mut self, at: At, number: u64) {
        let Some(it) = self.find_mut(at.host, at.connection) else { return };
        let peer = it.peer;
        let is_patient = it.terms.is_some_and(|terms| terms.receiver_not_ready_retries >= FOR_EVER);
        let Some(queue) = it.queue.as_mut().filter(|queue| queue.ready) else { return };
        // What is behind one that the peer was not ready for is sent again.
        if queue.expected != number {
            return;
        }
        let Some(peer) = peer else { return self.plan(Happening::GiveUp { at, number }) };
        let Some(place) = queue.sends.iter().position(|it| it.number == number) else { return };
        // Out of the queue for a moment, so that both ends can be held.
        let Some(mut request) = queue.sends.remove(place) else { return };
        let mut read = None;
        let status = match &mut request.kind {
            RequestKind::Read { into, from, .. } => {
                let mut bytes = vec![0; into.len()];
                let status = match request.mishap {
                    Some(Mishap::NoAnswer) => None,
                    mishap => self.serve(peer, *from, &mut bytes, mishap),
                };
                read = Some(bytes);
                status
            }
            _ if request.mishap == Some(Mishap::NoAnswer) => None,
            RequestKind::Inline(bytes) => self.deliver(peer, bytes, request.mishap),
            RequestKind::Packet { buffer, len, splices } => {
                let bytes = gathered(buffer, *len, splices);
                self.deliver(peer, &bytes, request.mishap)
            }
        };
        let was_unlucky = request.mishap.take() == Some(Mishap::ReceiverNotReady);
        let Some(queue) = self.queue_mut(at) else { return };
        if let (RequestKind::Read { target, into, .. }, Some(bytes), Some(Status::Success)) =
            (&request.kind, read, status)
            && let Some(target) = queue.targets.find_mut(*target)
        {
            target.frame[into.clone()].copy_from_slice(&bytes);
        }
        queue.sends.insert(place, request);
        match status {
            None => self.plan(Happening::GiveUp { at, number }),
            Some(Status::Success) => {
                queue.expected += 1;
                self.plan(Happening::Acknowledge { at, number });
            }
            Some(Status::ReceiverNotReady) if is_patient => {
                queue.stalled = true;
                if was_unlucky {
                    self.resume(peer.host);
                }
            }
            Some(status) => {
                // What was posted before has its answer on the way.
                for request in queue.sends.iter_mut().filter(|it| it.number < number) {
                    request.status = request.status.or(Some(Status::Success));
                }
                self.fail(at, Some((number, status)));
            }
        }
    }

    /// Sends again what the peers of a host were not ready for, now that they may be.
    fn resume(&mut self, host: HostId) {
        let Some(it) = self.hosts.find(host) else { return };
        let peers: Vec<At> = it.connections.iter().filter_map(|(_, it)| it.peer).collect();
        for at in peers {
            let Some(queue) = self.queue_mut(at).filter(|queue| queue.stalled) else { continue };
            queue.stalled = false;
            for number in queue.expected..queue.next {
                self.plan(Happening::Arrive { at, number });
            }
        }
    }

    /// Nobody has answered a request: it fails, unless it has come back otherwise.
    pub(super) fn give_up(&mut self, at: At, number: u64) {
        let waits = |queue: &&mut Queue| {
            queue.ready && queue.sends.iter().any(|it| it.number == number && it.status.is_none())
        };
        if self.queue_mut(at).as_ref().is_some_and(waits) {
            self.fail(at, Some((number, Status::RetriesExceeded)));
        }
    }

    /// How a READ is served; `None` if there is nobody to answer.
    fn serve(&mut self, by: At, from: Remote, into: &mut [u8], mishap: Option<Mishap>) -> Option<Status> {
        if !self.queue_mut(by)?.ready {
            return None;
        }
        let domain = self.hosts.find(by.host)?.device.as_ref()?.1.domain.clone();
        if mishap != Some(Mishap::WrongKey) && domain.read(from, into) {
            self.count.reads += 1;
            return Some(Status::Success);
        }
        self.count.wrong_keys += 1;
        // The responder's queue pair fails as well, which only what it has posted tells.
        self.fail(by, None);
        Some(Status::RemoteAccess)
    }

    /// How a packet is received; `None` if there is nobody to answer.
    fn deliver(&mut self, to: At, bytes: &[u8], mishap: Option<Mishap>) -> Option<Status> {
        let unlucky = mishap == Some(Mishap::ReceiverNotReady);
        let queue = self.queue_mut(to)?;
        if !queue.ready {
            return None;
        }
        let shares = queue.shares;
        let buffer = match shares {
            _ if unlucky => None,
            false => queue.receives.pop_front(),
            true => self.take_shared(to.host),
        };
        let Some(mut buffer) = buffer else {
            self.count.receiver_not_ready += u64::from(!unlucky);
            return Some(Status::ReceiverNotReady);
        };
        let domain = self.hosts.find(to.host)?.device.as_ref()?.1.domain.clone();
        let good = domain.covers_local(buffer.local_key(), buffer.as_ptr().addr() as u64, buffer.len());
        let status = match buffer.get_mut(..bytes.len()) {
            _ if !good => Status::LocalProtection,
            None => Status::TooLong,
            Some(place) => {
                place.copy_from_slice(bytes);
                self.count.packets += 1;
                self.complete(to, Status::Success, Work::Receive { buffer, len: bytes.len() });
                return Some(Status::Success);
            }
        };
        self.complete(to, status, Work::Receive { buffer, len: 0 });
        self.fail(to, None);
        Some(if status == Status::TooLong { Status::TooLong } else { Status::RemoteFailed })
    }

    fn take_shared(&mut self, host: HostId) -> Option<Buffer> {
        let (device, it) = self.hosts.find_mut(host)?.device.as_mut()?;
        let shared = it.shared.as_mut()?;
        let buffer = shared.posted.pop_front();
        if shared.is_armed && shared.posted.len() < shared.low {
            shared.is_armed = false;
            let device = *device;
            self.say(host, Event::SharedReceivesLow { device });
        }
        buffer
    }
}

fn gathered(buffer: &[u8], len: usize, splices: &[Splice]) -> Vec<u8> {
    let (mut bytes, mut from) = (Vec::new(), 0);
    for splice in splices {
        bytes.extend_from_slice(&buffer[from..splice.at]);
        bytes.extend_from_slice(splice.body.frame());
        from = splice.at;
    }
    bytes.extend_from_slice(&buffer[from..len]);
    bytes
}
