//! An endpoint whose requests come back as the boundary promises: each once, and in the order in which they were posted. Providers
//! complete in any order (fi_cq(3), "completion ordering"), have no room at times, and say nothing of what they copied. Knows no
//! connection.

use std::collections::VecDeque;
use std::ops::Range;

use rdma_links::fabric::{
    Buffer, Failure, Mark, PostError, QueueLimits, QueueShape, Receives, Remote, Splice, Status, TargetId,
    Work,
};
use rdma_links::limits::{INLINE_MAX, UNSIGNALED_MAX};
use transport_core::{FrameMut, SlabKey};

use crate::device::{self, Completion, Endpoint, Process, Standing, Witness};
use crate::sys;

/// An endpoint, and what was asked of it.
#[derive(Debug)]
pub(super) struct Ordered {
    /// `None` once it is closed.
    endpoint: Option<Endpoint>,
    limits: QueueLimits,
    /// Whether what is injected completes as other sends do, so that a failure has a name.
    is_named: bool,
    /// Whether the peer can be sent to.
    stands: bool,
    /// Whether the first word was said, and heard.
    knocked: bool,
    answered: bool,
    /// The peer, where READs are copies by the kernel.
    process: Option<Process>,
    /// READs are nothing else, on this device.
    only_fetches: bool,
    /// What a peer that does so finds here for as long as it may.
    standing: Option<Standing>,

    /// Asked for and not given back; `first_send` is the number of the first, by which the endpoint knows it.
    sends: VecDeque<Sent>,
    first_send: u32,
    /// How many of the first are done, and how many of those may be given back by now.
    done: usize,
    due: usize,
    has_failed: bool,
    /// The last of `sends`, for which the provider had no room yet.
    waiting: VecDeque<Waiting>,

    receives: VecDeque<Option<(Status, Buffer, usize)>>,
    first_receive: u32,
    late_receives: VecDeque<Buffer>,
    /// Receives are given back from here on; what arrives before waits.
    hears: bool,

    /// Targets of a closed endpoint.
    lent: Vec<(TargetId, FrameMut)>,
    lent_late: u64,
    spare_copies: Vec<Vec<u8>>,
    spare_splices: Vec<Vec<Splice>>,
}

#[derive(Debug)]
struct Sent {
    tag: u32,
    signal: bool,
    /// The target of a READ.
    reads: Option<TargetId>,
    done: Option<(Status, Option<Buffer>)>,
}

/// A request for which the provider had no room.
#[derive(Debug)]
enum Waiting {
    Copy { bytes: Vec<u8> },
    Packet { buffer: Buffer, len: usize, splices: Vec<Splice> },
    Read { target: TargetId, into: Range<usize>, from: Remote },
}

/// What came of a request that was tried.
enum Tried {
    /// The endpoint has it.
    Posted,
    /// It is done already.
    Done,
    /// The provider has no room; here it is again.
    NoRoom(Waiting),
    /// It will not be done.
    Refused(Status, Option<Buffer>),
}

impl Ordered {
    /// Around an endpoint that was made with [`shape()`]. It neither sends nor gives out what has arrived before it stands.
    /// `is_named`: nobody else would tell whose it was when something that was injected fails.
    pub(super) fn new(endpoint: Endpoint, shape: &QueueShape, is_named: bool) -> Self {
        let its = endpoint.limits();
        let limits = QueueLimits {
            sends: its.sends,
            receives: its.receives,
            gather: its.gather,
            inline: its.inject.min(shape.inline as usize).min(INLINE_MAX),
        };
        Self {
            endpoint: Some(endpoint),
            limits,
            is_named,
            stands: false,
            knocked: false,
            answered: false,
            process: None,
            only_fetches: false,
            standing: None,
            sends: VecDeque::with_capacity(limits.sends),
            first_send: 0,
            done: 0,
            due: 0,
            has_failed: false,
            waiting: VecDeque::new(),
            receives: VecDeque::with_capacity(limits.receives),
            first_receive: 0,
            late_receives: VecDeque::new(),
            hears: false,
            lent: Vec::new(),
            lent_late: 0,
            spare_copies: Vec::new(),
            spare_splices: Vec::new(),
        }
    }

    pub(super) const fn limits(&self) -> QueueLimits {
        self.limits
    }

    pub(super) fn endpoint(&mut self) -> Option<&mut Endpoint> {
        self.endpoint.as_mut()
    }

    /// READs are copied from this process from here on, and not asked of the provider.
    pub(super) fn fetch_from(&mut self, process: Process) {
        self.process = Some(process);
    }

    /// The provider is never asked for a READ.
    pub(super) const fn only_fetch(&mut self) {
        self.only_fetches = true;
    }

    /// What the peer must know to copy from here.
    pub(super) fn witness(&mut self) -> Witness {
        self.standing.get_or_insert_with(Standing::new).witness()
    }

    pub(super) const fn fetches(&self) -> bool {
        self.process.is_some()
    }

    /// Says a first word to the peer, of no bytes, and hears his. Before that, providers that connect at the first message have no
    /// room for any, and whoever sent one would have to come back for it. True once both are done. One of the two goes first:
    /// when both connect at once, some providers lose one of the connections, or their footing (net 1.17).
    pub(super) fn meet(&mut self, goes_first: bool) -> Result<bool, Failure> {
        const CALL: &str = "fi_inject";
        if !self.answered && matches!(self.receives.front(), Some(Some(_))) {
            let Some(Some((status, buffer, len))) = self.receives.pop_front() else { return Ok(false) };
            self.first_receive = self.first_receive.wrapping_add(1);
            if status != Status::Success || len != 0 {
                let errno = if status == Status::Success { libc::EPROTO } else { status.errno() };
                return Err(Failure::new("fi_recv", errno));
            }
            self.answered = true;
            self.post_receives(&mut vec![buffer])?;
        }
        if !self.knocked && (goes_first || self.answered) {
            let endpoint = self.endpoint.as_mut().ok_or(Failure::new(CALL, libc::ENOTCONN))?;
            // Of its completion, if there is one, nothing need be heard.
            match if self.is_named { endpoint.copy(&[], u32::MAX) } else { endpoint.inject(&[]) } {
                Ok(()) => self.knocked = true,
                Err(device::PostError::Full) => {}
                Err(error) => return Err(Failure::new(CALL, refusal(error).errno())),
            }
        }
        Ok(self.knocked && self.answered)
    }

    /// From here on sends go to the peer, and what has arrived is given back.
    pub(super) fn stand(&mut self) {
        (self.stands, self.hears) = (true, true);
    }

    /// Requests that it takes.
    pub(super) fn room(&self) -> usize {
        self.limits.sends.saturating_sub(self.sends.len())
    }

    /// Whether there is something to give back.
    pub(super) fn has_due(&self) -> bool {
        self.due > 0 || self.hears && matches!(self.receives.front(), Some(Some(_)))
    }

    /// Whether the provider has no room for something.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.late_receives.is_empty()
    }

    // Sends

    pub(super) fn inline(&mut self, bytes: &[u8], mark: Mark) -> Result<(), PostError> {
        if bytes.len() > self.limits.inline {
            return Err(PostError::TooLarge);
        }
        self.check_room()?;
        let name = self.is_named.then(|| self.next_send());
        let tried = match self.ready() {
            Err(Some(refused)) => Tried::Refused(refused, None),
            Err(None) => self.wait_with(bytes),
            Ok(endpoint) => match inject(endpoint, bytes, name) {
                Err(device::PostError::Full) => self.wait_with(bytes),
                Err(error) => Tried::Refused(refusal(error), None),
                Ok(tried) => tried,
            },
        };
        self.push(mark, None, tried);
        Ok(())
    }

    fn wait_with(&mut self, bytes: &[u8]) -> Tried {
        let mut copy = self.spare_copies.pop().unwrap_or_else(|| Vec::with_capacity(INLINE_MAX));
        copy.clear();
        copy.extend_from_slice(bytes);
        Tried::NoRoom(Waiting::Copy { bytes: copy })
    }

    pub(super) fn send(
        &mut self,
        buffer: Buffer,
        len: usize,
        splices: &mut Vec<Splice>,
        mark: Mark,
    ) -> Result<(), (PostError, Buffer)> {
        let ordered = splices.is_sorted_by_key(|splice| splice.at);
        let inside = splices.last().is_none_or(|splice| splice.at <= len);
        if len > buffer.len() || 2 * splices.len() + 1 > self.limits.gather || !ordered || !inside {
            return Err((PostError::TooLarge, buffer));
        }
        if let Err(error) = self.check_room() {
            return Err((error, buffer));
        }
        let tag = self.next_send();
        let tried = match self.ready() {
            Err(Some(refused)) => {
                splices.clear();
                Tried::Refused(refused, Some(buffer))
            }
            Err(None) => self.wait_to_send(buffer, len, splices),
            Ok(endpoint) => match endpoint.send(buffer, len, splices, tag) {
                Ok(()) => Tried::Posted,
                Err((device::PostError::Full, buffer)) => self.wait_to_send(buffer, len, splices),
                Err((error, buffer)) => {
                    splices.clear();
                    Tried::Refused(refusal(error), Some(buffer))
                }
            },
        };
        self.push(mark, None, tried);
        Ok(())
    }

    fn wait_to_send(&mut self, buffer: Buffer, len: usize, splices: &mut Vec<Splice>) -> Tried {
        let mut kept = self.spare_splices.pop().unwrap_or_default();
        kept.append(splices);
        Tried::NoRoom(Waiting::Packet { buffer, len, splices: kept })
    }

    pub(super) fn lend(&mut self, frame: FrameMut) -> TargetId {
        match &mut self.endpoint {
            Some(endpoint) => endpoint.lend(frame),
            None => {
                // Nobody reads into it; it waits to be taken back. Slabs give out no such keys.
                self.lent_late += 1;
                let target = TargetId::from(SlabKey::from_u64(u64::MAX - self.lent_late));
                self.lent.push((target, frame));
                target
            }
        }
    }

    pub(super) fn read(
        &mut self,
        target: TargetId,
        into: Range<usize>,
        from: Remote,
        mark: Mark,
    ) -> Result<(), PostError> {
        self.check_room()?;
        if self.only_fetches && self.process.is_none() {
            // The peer offers what it has not said how to get.
            self.push(mark, Some(target), Tried::Refused(Status::RemoteAccess, None));
            return Ok(());
        }
        if let (Some(process), Some(endpoint)) = (&self.process, &mut self.endpoint)
            && self.stands
            && self.waiting.is_empty()
        {
            let tried = fetch(endpoint, target, into, from, process).map_err(|_| PostError::NoTarget)?;
            self.push(mark, Some(target), tried);
            return Ok(());
        }
        let tag = self.next_send();
        let wait = |into| Tried::NoRoom(Waiting::Read { target, into, from });
        let tried = match self.ready() {
            Err(Some(refused)) => Tried::Refused(refused, None),
            Err(None) => {
                // What is wrong with the target is to be told now.
                match self.endpoint.as_ref().is_some_and(|it| it.has_target(target, &into)) {
                    true => wait(into),
                    false => return Err(PostError::NoTarget),
                }
            }
            Ok(endpoint) => match endpoint.read(target, into.clone(), from, tag) {
                Ok(()) => Tried::Posted,
                Err(device::PostError::Full) => wait(into),
                Err(device::PostError::NoTarget) => return Err(PostError::NoTarget),
                Err(device::PostError::NotRegistered) => return Err(PostError::NotRegistered),
                Err(device::PostError::TooLarge) => return Err(PostError::TooLarge),
                Err(error) => Tried::Refused(refusal(error), None),
            },
        };
        self.push(mark, Some(target), tried);
        Ok(())
    }

    fn check_room(&self) -> Result<(), PostError> {
        if self.room() == 0 { Err(PostError::Full) } else { Ok(()) }
    }

    /// The endpoint, if a request may be tried at once: `Err(None)` while others wait, and the status of what is not to be
    /// tried at all.
    fn ready(&mut self) -> Result<&mut Endpoint, Option<Status>> {
        match &mut self.endpoint {
            Some(endpoint) if self.stands => {
                if self.waiting.is_empty() {
                    Ok(endpoint)
                } else {
                    Err(None)
                }
            }
            _ => Err(Some(Status::NotPosted(libc::ENOTCONN))),
        }
    }

    /// The number that the next request gets.
    fn next_send(&self) -> u32 {
        self.first_send.wrapping_add(self.sends.len() as u32)
    }

    fn push(&mut self, mark: Mark, reads: Option<TargetId>, tried: Tried) {
        let done = match tried {
            Tried::Posted => None,
            Tried::Done => Some((Status::Success, None)),
            Tried::Refused(status, buffer) => Some((status, buffer)),
            Tried::NoRoom(waiting) => {
                self.waiting.push_back(waiting);
                None
            }
        };
        self.sends.push_back(Sent { tag: mark.tag, signal: mark.signal, reads, done });
        self.ripen();
    }

    /// Tries again what the provider had no room for. True if it took something.
    pub(super) fn retry(&mut self) -> bool {
        let mut any = false;
        while let (Some(waiting), Some(endpoint)) = (self.waiting.pop_front(), &mut self.endpoint) {
            let place = self.sends.len() - self.waiting.len() - 1;
            let tag = self.first_send.wrapping_add(place as u32);
            let tried = match waiting {
                Waiting::Copy { bytes } => match inject(endpoint, &bytes, self.is_named.then_some(tag)) {
                    Err(device::PostError::Full) => Tried::NoRoom(Waiting::Copy { bytes }),
                    result => {
                        self.spare_copies.push(bytes);
                        result.unwrap_or_else(|error| Tried::Refused(refusal(error), None))
                    }
                },
                Waiting::Packet { buffer, len, mut splices } => {
                    match endpoint.send(buffer, len, &mut splices, tag) {
                        Err((device::PostError::Full, buffer)) => {
                            Tried::NoRoom(Waiting::Packet { buffer, len, splices })
                        }
                        result => {
                            splices.clear();
                            self.spare_splices.push(splices);
                            result.map_or_else(
                                |(error, buffer)| Tried::Refused(refusal(error), Some(buffer)),
                                |()| Tried::Posted,
                            )
                        }
                    }
                }
                Waiting::Read { target, into, from } if let Some(process) = &self.process => {
                    fetch(endpoint, target, into, from, process)
                        .unwrap_or_else(|error| Tried::Refused(refusal(error), None))
                }
                Waiting::Read { target, into, from } => {
                    match endpoint.read(target, into.clone(), from, tag) {
                        Ok(()) => Tried::Posted,
                        Err(device::PostError::Full) => Tried::NoRoom(Waiting::Read { target, into, from }),
                        Err(error) => Tried::Refused(refusal(error), None),
                    }
                }
            };
            let done = match tried {
                Tried::NoRoom(waiting) => {
                    self.waiting.push_front(waiting);
                    break;
                }
                Tried::Posted => None,
                Tried::Done => Some((Status::Success, None)),
                Tried::Refused(status, buffer) => Some((status, buffer)),
            };
            any = true;
            if let Some(sent) = self.sends.get_mut(place) {
                sent.done = done;
            }
        }
        self.ripen();
        any | self.retry_receives()
    }

    // Receives

    /// Posts receives, as many of `buffers` as it takes, which leave the vector; on an error the rest stay in it.
    pub(super) fn post_receives(&mut self, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        const CALL: &str = "fi_recv";
        let Some(endpoint) = &mut self.endpoint else { return Err(Failure::new(CALL, libc::EINVAL)) };
        let room = self.limits.receives - self.receives.len() - self.late_receives.len();
        let mut beyond = if buffers.len() > room { buffers.split_off(room) } else { Vec::new() };
        let mut posted = Ok(());
        if self.late_receives.is_empty() {
            let before = buffers.len();
            posted = endpoint.post_receives(buffers);
            self.receives.extend((buffers.len()..before).map(|_| None));
        }
        let result = match posted {
            // The provider's room, since there is some of ours.
            Ok(()) | Err(device::PostError::Full) => {
                self.late_receives.extend(buffers.drain(..));
                Ok(())
            }
            Err(error) => Err(Failure::new(CALL, refusal(error).errno())),
        };
        if beyond.is_empty() {
            return result;
        }
        buffers.append(&mut beyond);
        result.and(Err(Failure::new(CALL, libc::ENOMEM)))
    }

    fn retry_receives(&mut self) -> bool {
        let Some(endpoint) = &mut self.endpoint else { return false };
        let before = self.late_receives.len();
        while let Some(buffer) = self.late_receives.pop_front() {
            let mut one = vec![buffer];
            if endpoint.post_receives(&mut one).is_err() {
                self.late_receives.extend(one);
                self.late_receives.rotate_right(1);
                break;
            }
            self.receives.push_back(None);
        }
        self.late_receives.len() < before
    }

    // Targets

    pub(super) fn reclaim(&mut self, target: TargetId) -> Option<FrameMut> {
        if self.sends.iter().any(|sent| sent.reads == Some(target)) {
            return None;
        }
        match &mut self.endpoint {
            Some(endpoint) => endpoint.reclaim(target),
            None => {
                let at = self.lent.iter().position(|(known, _)| *known == target)?;
                Some(self.lent.swap_remove(at).1)
            }
        }
    }

    pub(super) fn fill_target(&mut self, target: TargetId, at: usize, bytes: &[u8]) -> bool {
        self.endpoint.as_mut().is_some_and(|endpoint| endpoint.fill_target(target, at, bytes))
    }

    // What comes back

    /// Takes what a completion says is done.
    pub(super) fn retire(&mut self, completion: Completion) {
        let Some(endpoint) = &mut self.endpoint else { return };
        let Some((work, failure)) = endpoint.retire(completion) else { return };
        self.settle(work, failure.map_or(Status::Success, |failure| status(failure.errno)));
    }

    fn settle(&mut self, work: device::Work, status: Status) {
        match work {
            device::Work::Send { tag, buffer } => self.settle_send(tag, status, buffer),
            device::Work::Read { tag, .. } => self.settle_send(tag, status, None),
            device::Work::Receive { number, buffer, len } => {
                let place = number.wrapping_sub(self.first_receive) as usize;
                if let Some(receive) = self.receives.get_mut(place) {
                    *receive = Some((status, buffer, len));
                }
            }
        }
    }

    fn settle_send(&mut self, number: u32, status: Status, buffer: Option<Buffer>) {
        if let Some(sent) = self.sends.get_mut(number.wrapping_sub(self.first_send) as usize) {
            sent.done = Some((status, buffer));
        }
        self.ripen();
    }

    /// What is done and signalled may be given back, and what was posted before it; and whatever is done, when it is a quarter
    /// of the queue, or once something has failed.
    fn ripen(&mut self) {
        while let Some(Sent { done: Some((status, _)), signal, .. }) = self.sends.get(self.done) {
            self.done += 1;
            self.has_failed |= *status != Status::Success;
            if *signal {
                self.due = self.done;
            }
        }
        let most = (UNSIGNALED_MAX as usize).min(self.limits.sends / 4).max(1);
        if self.done >= most || self.has_failed {
            self.due = self.done;
        }
    }

    /// Gives back what may be, up to `budget`: how many.
    pub(super) fn give_back(&mut self, budget: usize, mut each: impl FnMut(Status, Work)) -> usize {
        let mut given = 0;
        while given < budget && self.due > 0 {
            let Some(Sent { tag, reads, done: Some((status, buffer)), .. }) = self.sends.pop_front() else {
                break;
            };
            (self.due, self.done) = (self.due - 1, self.done - 1);
            self.first_send = self.first_send.wrapping_add(1);
            given += 1;
            each(
                status,
                match reads {
                    Some(target) => Work::Read { tag, target },
                    None => Work::Send { tag, buffer },
                },
            );
        }
        while given < budget && self.hears && matches!(self.receives.front(), Some(Some(_))) {
            let Some(Some((status, buffer, len))) = self.receives.pop_front() else { break };
            self.first_receive = self.first_receive.wrapping_add(1);
            given += 1;
            each(status, Work::Receive { buffer, len });
        }
        given
    }

    /// Closes the endpoint. Everything posted is due from here on, flushed unless it was done.
    pub(super) fn close(&mut self) {
        let Some(endpoint) = self.endpoint.take() else { return };
        // First of all: what the peer may have read is given back as others' memory after this.
        self.standing = None;
        let mut works = Vec::new();
        let lent = &mut self.lent;
        endpoint.close(|work| works.push(work), |target, frame| lent.push((target, frame)));
        works.into_iter().for_each(|work| self.settle(work, Status::Flushed));
        let first = self.sends.len() - self.waiting.len();
        for (sent, waiting) in self.sends.iter_mut().skip(first).zip(self.waiting.drain(..)) {
            let buffer = if let Waiting::Packet { buffer, .. } = waiting { Some(buffer) } else { None };
            sent.done = Some((Status::Flushed, buffer));
        }
        // What a provider would not give up is lost, and no more is heard of it.
        for sent in self.sends.iter_mut().filter(|sent| sent.done.is_none()) {
            sent.done = Some((Status::Flushed, None));
        }
        self.receives.retain(Option::is_some);
        let late = self.late_receives.drain(..).map(|buffer| Some((Status::Flushed, buffer, 0)));
        self.receives.extend(late);
        self.hears = true;
        self.ripen();
        self.due = self.done;
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.endpoint.is_none()
    }

    /// Whether nothing is left to give back.
    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.receives.is_empty()
    }
}

/// Sends bytes that are copied, by a name where there is to be one.
fn inject(endpoint: &mut Endpoint, bytes: &[u8], name: Option<u32>) -> Result<Tried, device::PostError> {
    match name {
        Some(tag) => endpoint.copy(bytes, tag).map(|()| Tried::Posted),
        None => endpoint.inject(bytes).map(|()| Tried::Done),
    }
}

/// Copies from the peer's process. An error: there is no such target.
fn fetch(
    endpoint: &mut Endpoint,
    target: TargetId,
    into: Range<usize>,
    from: Remote,
    process: &Process,
) -> Result<Tried, device::PostError> {
    match endpoint.fetch(target, into, from, process) {
        Ok(()) => Ok(Tried::Done),
        Err(device::PostError::Refused(errno)) => Ok(Tried::Refused(fetch_status(errno), None)),
        Err(error) => Err(error),
    }
}

/// How large an endpoint is asked to be.
pub(super) fn shape(shape: &QueueShape) -> device::Shape {
    let receives = match shape.receives {
        Receives::Own(receives) => receives as usize,
        Receives::Shared => 0,
    };
    device::Shape { sends: shape.sends as usize, receives, gather: shape.gather as usize }
}

/// The boundary's word for an errno of libfabric's.
fn status(errno: i32) -> Status {
    match errno as u32 {
        sys::FI_ECANCELED => Status::Flushed,
        sys::FI_ETRUNC | sys::FI_ETOOSMALL => Status::TooLong,
        sys::FI_EACCES | sys::FI_ENOKEY => Status::RemoteAccess,
        sys::FI_ETIMEDOUT => Status::RetriesExceeded,
        // The connection is gone, which is not the request's fault.
        sys::FI_ENOTCONN | sys::FI_ECONNRESET | sys::FI_ECONNABORTED | sys::FI_ESHUTDOWN => Status::Flushed,
        other => Status::Other(other),
    }
}

/// The same for an errno of the kernel's copy.
fn fetch_status(errno: i32) -> Status {
    match errno {
        libc::ESRCH => Status::Flushed,
        libc::EFAULT | libc::EPERM => Status::RemoteAccess,
        other => Status::Other(other as u32),
    }
}

/// The same for a request that the provider did not take.
fn refusal(error: device::PostError) -> Status {
    Status::NotPosted(match error {
        device::PostError::Refused(errno) => device::os_errno(errno),
        device::PostError::NoPeer => libc::ENOTCONN,
        device::PostError::Full => libc::EAGAIN,
        device::PostError::TooLarge => libc::EMSGSIZE,
        device::PostError::NoTarget => libc::EFAULT,
        device::PostError::NotRegistered => libc::ENOMEM,
    })
}
