//! The network that the system's sockets are: carriers on UDP and on IP itself, and one epoll set of them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use socket2::{SockAddr, Socket};
use transport_core::{Endpoint, OpenError};

use super::batch::{self, Slots};
use super::filter::{self, Before};
use super::mailbox::Mailbox;
use super::socket::{self, Wire};
use super::{Carrier, Network, Site};
use crate::datagrams::{Datagram, Datagrams, To};
use crate::interface::Interface;
use crate::limits::{EVENTS_MAX, FRAGMENT_ROOM, SEND_BATCH, UPSTREAM_LEN_MAX};
use crate::packet::{DATA_HEADER_LEN, Gsi, HEADER_LEN, Tsi};

/// See the module.
pub(crate) struct SocketNetwork {
    wire: Wire,
    epoll: Arc<OwnedFd>,
    slots: Arc<Mutex<Slots>>,
}

impl SocketNetwork {
    pub(crate) fn new(wire: Wire) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        Ok(Self { wire, epoll, slots: Arc::new(Mutex::new(Slots::new())) })
    }

    fn carrier(&self, site: &Site, interface: Interface, role: Role, socket: Socket) -> SocketCarrier {
        let wire = self.wire;
        let port = if wire == Wire::Raw { 0 } else { site.address.port };
        let group = match &role {
            Role::Talker { .. } => site.address.send,
            Role::Listener { group } => *group,
        };
        SocketCarrier {
            wire,
            socket,
            group: interface.place(group, port).into(),
            port,
            interface,
            mtu: interface.mtu.min(site.settings.max_tpdu.into()) as usize,
            role,
            epoll: self.epoll.clone(),
            slots: self.slots.clone(),
            token: 0,
            segments: wire == Wire::Udp && site.settings.segmentation,
            refused: 0,
        }
    }
}

impl fmt::Debug for SocketNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketNetwork").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Network for SocketNetwork {
    type Carrier = SocketCarrier;

    fn talk(&mut self, site: &Site, tsi: Tsi) -> Result<SocketCarrier, OpenError> {
        let interface = Interface::find(&site.endpoint, &site.address)?;
        let wire = self.wire;
        let make = || {
            let socket = socket::talk(wire, site, &interface)?;
            let (before, only) = match (wire, interface.address) {
                // Others' NAKs are handed on.
                (Wire::Udp, _) => (Before::Udp, None),
                (Wire::Raw, IpAddr::V4(_)) => (Before::Ipv4, Some(tsi)),
                (Wire::Raw, IpAddr::V6(_)) => (Before::Nothing, Some(tsi)),
            };
            // Without the filter everything is sorted out here.
            let _ = socket.attach_filter(&filter::upstream(before, only));
            let mailbox = if wire == Wire::Udp { Some(Mailbox::open(tsi)?) } else { None };
            Ok(self.carrier(site, interface, Role::Talker { tsi, mailbox, whisper: None }, socket))
        };
        make().map_err(|error| refusal(&site.endpoint, wire, &error))
    }

    fn listen(&mut self, site: &Site, group: IpAddr) -> Result<SocketCarrier, OpenError> {
        let interface = Interface::find(&site.endpoint, &site.address)?;
        let wire = self.wire;
        let make = || {
            let socket = socket::listen(wire, site, &interface, group)?;
            if wire == Wire::Udp {
                batch::join_datagrams(socket.as_fd());
            }
            Ok(self.carrier(site, interface, Role::Listener { group }, socket))
        };
        make().map_err(|error| refusal(&site.endpoint, wire, &error))
    }

    fn look(&mut self, tokens: &mut Vec<u64>) {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS_MAX];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // An interrupted look has found nothing; the descriptor stays readable.
        if let Ok((events, _)) = epoll::wait(&*self.epoll, &mut events, Some(&at_once)) {
            tokens.extend(events.iter().map(|event| event.data.u64()));
        }
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }
}

fn refusal(endpoint: &Endpoint, wire: Wire, error: &io::Error) -> OpenError {
    let errno = error.raw_os_error().unwrap_or(0);
    let endpoint = endpoint.clone();
    if errno == libc::EADDRINUSE {
        return OpenError::AddressInUse(endpoint);
    }
    let remedy = wire.remedy(errno);
    OpenError::System { endpoint, why: format!("{error}{remedy}"), errno }
}

/// One source's sockets, or one group's.
pub(crate) struct SocketCarrier {
    wire: Wire,
    socket: Socket,
    group: SockAddr,
    port: u16,
    interface: Interface,
    /// Bytes of the longest packet with its IP header.
    mtu: usize,
    role: Role,
    epoll: Arc<OwnedFd>,
    slots: Arc<Mutex<Slots>>,
    token: u64,
    /// Runs of packets are cut by the device.
    segments: bool,
    /// Packets that the system would not send. They count as lost on the wire.
    refused: u64,
}

enum Role {
    Talker {
        tsi: Tsi,
        mailbox: Option<Mailbox>,
        /// Made when a source of another program needs it.
        whisper: Option<Socket>,
    },
    Listener {
        group: IpAddr,
    },
}

impl SocketCarrier {
    /// Sends a batch to the group.
    fn talk<'a>(&mut self, mut packets: impl Iterator<Item = (To, &'a [u8])>) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            let mut batch = [&[][..]; SEND_BATCH];
            let mut len = 0;
            for (place, (_, packet)) in batch.iter_mut().zip(&mut packets) {
                *place = packet;
                len += 1;
            }
            let mut rest = &batch[..len];
            while !rest.is_empty() {
                let packets = rest.iter().map(|packet| (&self.group, *packet));
                match batch::send(self.socket.as_fd(), packets, self.segments) {
                    Ok(count) => {
                        taken += count;
                        rest = &rest[count.min(rest.len())..];
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // No device that could cut it, or none that sums it up: from now on packet by packet.
                    Err(error)
                        if self.segments
                            && matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) =>
                    {
                        self.segments = false;
                    }
                    // It is lost, as on the wire: the network may be down, a queue full, a firewall in the way.
                    Err(_) => {
                        self.refused += 1;
                        taken += 1;
                        rest = &rest[1..];
                    }
                }
            }
            if len < SEND_BATCH {
                return Ok(taken);
            }
        }
    }

    /// Sends what a receiver has to say, one by one: it is little, and goes to different places.
    fn ask<'a>(&mut self, packets: impl Iterator<Item = (To, &'a [u8])>) -> io::Result<usize> {
        let mut taken = 0;
        for (to, packet) in packets {
            loop {
                let sent = match to {
                    To::Group | To::Neighbours => self.socket.send_to(packet, &self.group),
                    To::Host(ip) => self.socket.send_to(packet, &self.interface.place(ip, self.port).into()),
                };
                match sent {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => self.refused += 1,
                }
                break;
            }
            taken += 1;
        }
        Ok(taken)
    }
}

impl Datagrams for SocketCarrier {
    fn send<'a>(&mut self, packets: impl Iterator<Item = (To, &'a [u8])>) -> io::Result<usize> {
        match self.role {
            Role::Talker { .. } => self.talk(packets),
            Role::Listener { .. } => self.ask(packets),
        }
    }

    fn receive(&mut self, budget: usize, mut each: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let headed = self.wire == Wire::Raw && self.interface.address.is_ipv4();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut packets = 0;
        while packets < budget {
            let socket = self.socket.as_fd();
            let got = match &mut self.role {
                Role::Listener { .. } => slots.receive(socket, budget - packets, |from, bytes| {
                    if let Some(bytes) = pgm(bytes, headed) {
                        packets += 1;
                        each(Datagram { from, bytes });
                    }
                }),
                Role::Talker { tsi, mailbox, whisper } => {
                    slots.receive(socket, budget - packets, |from, bytes| {
                        packets += 1;
                        let Some(bytes) = pgm(bytes, headed) else { return };
                        match (session(bytes), mailbox.as_ref()) {
                            (Some(of), _) if of == *tsi => each(Datagram { from, bytes }),
                            (Some(of), Some(mailbox)) if !mailbox.hand_on(of, from, bytes) => {
                                if whisper.is_none() {
                                    *whisper = socket::whisper(&self.interface).ok();
                                }
                                if let Some(whisper) = whisper {
                                    let _ = whisper.send_to(bytes, &self.group);
                                }
                            }
                            _ => {}
                        }
                    })
                }
            };
            match got {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The next call hears of the next datagram, or of a network that is down, which may come up again.
                Err(_) => break,
            }
        }
        if let Role::Talker { mailbox: Some(mailbox), .. } = &self.role {
            let mut letter = [0; UPSTREAM_LEN_MAX];
            while packets < budget {
                match mailbox.take(&mut letter) {
                    Ok(Some((from, bytes))) => {
                        packets += 1;
                        each(Datagram { from, bytes });
                    }
                    Ok(None) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
        Ok(packets)
    }
}

impl Carrier for SocketCarrier {
    fn watch(&mut self, token: u64) -> io::Result<()> {
        self.token = token;
        epoll::add(&*self.epoll, &self.socket, EventData::new_u64(token), EventFlags::IN)?;
        if let Role::Talker { mailbox: Some(mailbox), .. } = &self.role {
            epoll::add(&*self.epoll, mailbox, EventData::new_u64(token), EventFlags::IN)?;
        }
        Ok(())
    }

    fn nla(&self) -> IpAddr {
        self.interface.address
    }

    fn tsdu_max(&self) -> usize {
        self.mtu.saturating_sub(self.overhead() + DATA_HEADER_LEN + FRAGMENT_ROOM)
    }

    fn overhead(&self) -> usize {
        let ip = if self.interface.address.is_ipv4() { 20 } else { 40 };
        if self.wire == Wire::Udp { ip + 8 } else { ip }
    }

    fn await_room(&mut self, wanted: bool) {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let _ = epoll::modify(&*self.epoll, &self.socket, EventData::new_u64(self.token), flags);
    }

    fn fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl fmt::Debug for SocketCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketCarrier")
            .field("wire", &self.wire)
            .field("interface", &self.interface)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

/// The PGM packet in what a socket gives: raw IPv4 has its header on.
fn pgm(bytes: &[u8], headed: bool) -> Option<&[u8]> {
    if !headed {
        return Some(bytes);
    }
    let header = usize::from(bytes.first()? & 15) * 4;
    bytes.get(header..)
}

/// Which session a receiver's packet is for (RFC 3208 section 8.3: its destination port is the source's).
fn session(bytes: &[u8]) -> Option<Tsi> {
    let header = bytes.first_chunk::<HEADER_LEN>()?;
    let [_, _, p0, p1, _, _, _, _, a, b, c, d, e, f, _, _] = *header;
    Some(Tsi { gsi: Gsi([a, b, c, d, e, f]), port: u16::from_be_bytes([p0, p1]) })
}
