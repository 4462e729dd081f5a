//! The simulated multicast wire: groups, members, and what goes wrong between them. Looks into no packet but its kind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_core::{Slab, SlabKey};

use super::super::kit::{Chance, HostId, Hosts, Timeline};
use super::super::limits::MULTICAST_SOCKET_PACKETS_MAX;
use super::packet::{Kind, Packet};

/// What goes wrong, in permille of the packets per receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Never arrive.
    pub loss_permille: u32,
    /// Arrive twice.
    pub duplicate_permille: u32,
    /// Arrive after packets that were sent later.
    pub reorder_permille: u32,
}

/// Names a member of a group.
pub(super) type MemberKey = SlabKey;

#[derive(Debug)]
struct Member {
    host: HostId,
    group: Box<str>,
    socket: VecDeque<Arc<[u8]>>,
    /// Data packets of which no copy reached the socket.
    lost: u64,
}

#[derive(Debug)]
struct Arrival {
    to: MemberKey,
    packet: Arc<[u8]>,
}

#[derive(Debug)]
pub(super) struct Air {
    timeline: Timeline<Arrival>,
    pub(super) hosts: Hosts,
    chance: Chance,
    pub(super) conditions: Conditions,
    members: Slab<MemberKey, Member>,
    latency: Duration,
}

impl Air {
    pub(super) fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            timeline: Timeline::new(),
            hosts: Hosts::default(),
            chance: Chance::new(seed),
            conditions,
            members: Slab::new(),
            latency: Duration::from_micros(10),
        }
    }

    pub(super) fn word(&mut self) -> u64 {
        self.chance.word()
    }
    pub(super) fn now(&self) -> Option<Instant> {
        self.timeline.now()
    }
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.timeline.next_at()
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.timeline.advance(now);
        while let Some(Arrival { to, packet }) = self.timeline.take_due() {
            let Some(member) = self.members.find_mut(to) else { continue };
            if member.socket.len() < MULTICAST_SOCKET_PACKETS_MAX {
                member.socket.push_back(packet);
            } else {
                member.lost += u64::from(is_data(&packet));
            }
            let host = member.host;
            self.hosts.poke(host);
        }
    }

    pub(super) fn join(&mut self, host: HostId, group: &str) -> MemberKey {
        self.members.insert(Member { host, group: group.into(), socket: VecDeque::new(), lost: 0 })
    }
    pub(super) fn leave(&mut self, member: MemberKey) {
        self.members.remove(member);
    }
    pub(super) fn receive(&mut self, member: MemberKey) -> Option<Arc<[u8]>> {
        self.members.find_mut(member)?.socket.pop_front()
    }
    pub(super) fn has_mail(&self, member: MemberKey) -> bool {
        self.members.find(member).is_some_and(|member| !member.socket.is_empty())
    }

    /// To every member of the group, each with its own luck.
    pub(super) fn send(&mut self, group: &str, packet: &Arc<[u8]>) {
        for (to, member) in self.members.iter_mut().filter(|(_, member)| *member.group == *group) {
            let copies = 1 + usize::from(self.chance.permille(self.conditions.duplicate_permille));
            let mut arrivals = 0;
            for _ in 0..copies {
                let lost = self.chance.permille(self.conditions.loss_permille);
                let late = self.chance.permille(self.conditions.reorder_permille);
                let delay = if late { 2 + self.chance.below(4) as u32 } else { 1 };
                if !lost {
                    arrivals += 1;
                    self.timeline.plan(self.latency * delay, Arrival { to, packet: packet.clone() });
                }
            }
            if arrivals > 0 {
                self.hosts.poke(member.host);
            } else {
                member.lost += u64::from(is_data(packet));
            }
        }
    }

    /// Over all members.
    pub(super) fn lost(&self) -> u64 {
        self.members.iter().map(|(_, member)| member.lost).sum()
    }
}

fn is_data(packet: &[u8]) -> bool {
    Packet::decode(packet).is_some_and(|packet| packet.kind == Kind::Data)
}
