//! One link of the driver: a connection of the fabric, the packet protocol's machine on it, and how the one feeds the
//! other. Decides nothing that the protocol does, and knows no other link.

use std::cell::Cell;
use std::time::Instant;

use packet_protocol::{Exposed, Machine, Offer, Policy, ReadId, Seat, Stock, Stop, Terms};
use transport_core::{Completion, DownReason, Frame, LinkId, OpenId, Role};

use super::detour::Detours;
use super::device::Device;
use crate::fabric::{
    Buffer, ConnectionId, DeviceId, Fabric, Mark, Memory, Pinned, PostError, QueueLimits, Reach, Remote,
    Sender, Splice, Status, TargetId, Work,
};

pub(super) type Protocol = Machine<Buffer, Pinned, TargetId>;

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not up yet; nobody above has heard of it.
    Coming,
    /// Up, or on its way out by its own protocol.
    Up,
    /// The fabric is to give everything back.
    Ending(DownReason),
}

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    pub(super) device: DeviceId,
    pub(super) open: OpenId,
    pub(super) role: Role,
    pub(super) peer: String,
    pub(super) state: State,
    pub(super) since: Option<Instant>,
    /// When a link that comes up, or drains, has taken too long.
    pub(super) deadline: Option<Instant>,
    /// Whether the driver's queue holds it.
    pub(super) queued: bool,
    /// Whether the driver's list of links to flush holds it.
    pub(super) dirty: bool,
    pub(super) receives: Receives,
    pub(super) limits: QueueLimits,
    pub(super) ours: Offer,
    /// Until the terms are known.
    pub(super) seat: Option<Seat>,
    /// Once they are.
    pub(super) machine: Option<Box<Protocol>>,
    /// The poll after which its room was last asked for.
    pub(super) asked_after: Cell<u32>,
    /// Parts whose memory cannot be registered.
    pub(super) detours: Detours,
    /// The device's list of links that wait for a buffer holds it.
    pub(super) waits: bool,
}

/// Where a link's receive buffers are posted.
#[derive(Debug)]
pub(super) enum Receives {
    /// To its own queue: how many, and how many at most.
    Own(packet_protocol::Reserve, u32, u32),
    /// To the device's.
    Shared,
}

/// What a fill hands over.
struct Filling<'a> {
    memory: &'a Memory,
    splices: &'a mut Vec<Splice>,
}

impl packet_protocol::Memory for Filling<'_> {
    type Pin = Pinned;

    fn splice(&mut self, at: usize, frame: Frame) -> Result<(), Frame> {
        let body = self.memory.pin(frame, Reach::Device)?;
        self.splices.push(Splice { at, body });
        Ok(())
    }

    fn expose(&mut self, frame: Frame) -> Result<Exposed<Pinned>, Frame> {
        let pin = self.memory.pin(frame, Reach::Peer)?;
        let Remote { address, key } = pin.remote();
        Ok(Exposed { address, key, pin })
    }
}

impl Link {
    /// Both offers are known: packets may come from now on.
    pub(super) fn agree(&mut self, theirs: &Offer, part_max: Option<u64>) {
        let Some(seat) = self.seat.take() else { return };
        let terms = Terms::agree(&self.ours, theirs);
        let policy = Policy {
            splices: Policy::default().splices.min(self.limits.gather.saturating_sub(1) / 2),
            part_max,
            window_max: match self.receives {
                Receives::Own(_, _, most) => most,
                Receives::Shared => Policy::default().window_max,
            },
            ..Policy::default()
        };
        self.machine = Some(Box::new(Machine::new(terms, policy, seat)));
    }

    /// Work of the link's came back. Buffers that are of no use to the machine go to the device's spare ones.
    pub(super) fn completed<F: Fabric>(
        &mut self,
        status: Status,
        work: Work,
        fabric: &mut F,
        device: &mut Device,
        stock: &mut Stock,
    ) {
        let Some(machine) = &mut self.machine else {
            // Flushed, since whatever arrives before the terms is looked at after them.
            if let Work::Send { buffer: Some(buffer), .. } = work {
                device.spare(buffer);
            }
            return;
        };
        match status {
            Status::Success => {}
            Status::Flushed if matches!(self.state, State::Ending(_)) => {}
            Status::Flushed => machine.disconnected(DownReason::ClosedByPeer),
            status => machine.disconnected(DownReason::Broken(status.errno())),
        }
        let done = status == Status::Success;
        match work {
            Work::Receive { buffer, len } if done => {
                // What is wrong with it is told by `ending`.
                let _ = machine.received(buffer, len);
            }
            Work::Send { tag, buffer } => {
                if done {
                    machine.packets_done(tag);
                }
                buffer.into_iter().for_each(|buffer| device.spare(buffer));
            }
            Work::Read { tag, target } => {
                let connection = self.connection;
                let finished = if Detours::is_one(tag) {
                    let arrived = fabric.reclaim(connection, target);
                    let finished =
                        self.detours.arrived(tag, arrived.as_deref().filter(|_| done), |read, at, bytes| {
                            stock.count_copied(bytes.len());
                            fabric.fill_target(connection, read.target, at, bytes)
                        });
                    arrived.into_iter().for_each(|frame| device.spare_frame(frame));
                    finished
                } else {
                    done.then(|| ReadId::from_u32(tag))
                };
                if let Some(id) = finished {
                    machine.read_done(stock, id, |target| fabric.reclaim(connection, target));
                }
            }
            Work::Receive { .. } => {}
        }
    }

    /// Has the machine say what it has to say.
    pub(super) fn deliver(
        &mut self,
        id: LinkId,
        stock: &mut Stock,
        out: &mut Vec<Completion>,
        limit: usize,
    ) -> Option<Stop> {
        match (&self.state, &mut self.machine) {
            (State::Up, Some(machine)) => machine.poll(stock, id, out, limit).ok(),
            _ => None,
        }
    }

    /// Posts what is due: receive buffers, READs and packets.
    pub(super) fn transmit<F: Fabric>(
        &mut self,
        id: LinkId,
        fabric: &mut F,
        device: &mut Device,
        stock: &mut Stock,
    ) {
        let (State::Up, Some(machine)) = (&self.state, &mut self.machine) else { return };
        while let Some(buffer) = machine.take_spent() {
            device.receiving.push(buffer);
        }
        if !device.receiving.is_empty() {
            let posted = match self.receives {
                Receives::Own(..) => fabric.post_receives(self.connection, &mut device.receiving),
                Receives::Shared => fabric.post_shared_receives(self.device, &mut device.receiving),
            };
            if let Err(failure) = posted {
                // Not posted, though counted upon.
                device.receiving.clear();
                machine.disconnected(DownReason::Broken(failure.errno));
            }
        }
        let broken = |errno: i32| DownReason::Broken(errno);
        let Some(mut sender) = fabric.sender(self.connection) else { return };
        while sender.room() > 0 {
            let Ok(Some(read)) = machine.poll_read(stock, |frame| sender.lend(frame)) else { break };
            let from = Remote { address: read.address, key: read.key };
            let mark = Mark { tag: read.id.to_u32(), signal: true };
            match sender.read(read.target, read.offset..read.offset + read.len, from, mark) {
                Ok(()) => {}
                Err(PostError::NotRegistered) => self.detours.take(read),
                Err(_) => {
                    machine.abort(broken(libc::ENOMEM));
                    return;
                }
            }
        }
        while sender.room() > 0 {
            let Some((tag, read, len)) = self.detours.next(device.send_len()) else { break };
            let Some((buffer, _)) = device.send_buffer() else { return self.wait_for_buffer(id, device) };
            let target = sender.lend(buffer.into_frame());
            let from = Remote { address: read.address, key: read.key };
            if sender.read(target, 0..len, from, Mark { tag, signal: true }).is_err() {
                machine.abort(broken(libc::ENOMEM));
                return;
            }
            self.detours.posted(tag);
        }
        while sender.room() > 0 {
            let Some((mut buffer, is_last)) = device.send_buffer() else {
                return self.wait_for_buffer(id, device);
            };
            let filling = &mut Filling { memory: &device.memory, splices: &mut device.splices };
            let Some(packet) = machine.fill(stock, &mut buffer, filling) else {
                device.spare(buffer);
                return;
            };
            // Who pinned frames waits for them; buffers come back with what is signalled now and then anyway.
            let mark = Mark { tag: packet.number, signal: packet.spliced > 0 || is_last };
            let posted = if packet.spliced == 0 && packet.len <= self.limits.inline {
                let posted = sender.inline(&buffer[..packet.len], mark);
                device.spare(buffer);
                posted
            } else {
                let posted = sender.send(buffer, packet.buffered, &mut device.splices, mark);
                posted.map_err(|(error, buffer)| {
                    device.spare(buffer);
                    error
                })
            };
            if posted.is_err() {
                device.splices.clear();
                machine.abort(broken(libc::EIO));
                return;
            }
        }
    }

    fn wait_for_buffer(&mut self, id: LinkId, device: &mut Device) {
        if !std::mem::replace(&mut self.waits, true) {
            device.wait_for_buffer(id);
        }
    }

    /// Why the link is at its end, if it is.
    pub(super) fn ending(&self) -> Option<DownReason> {
        self.machine.as_ref().and_then(|machine| machine.ending())
    }
}
