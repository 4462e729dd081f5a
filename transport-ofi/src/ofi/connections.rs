//! How connections come about, by the provider's connection manager or by a TCP connection of our own, and the devices that they
//! go through.

use std::net::SocketAddr;

use rdma_links::PRIVATE_DATA_MAX;
use rdma_links::fabric::{
    ConnectionId, DeviceId, Dial, Event, Fabric, Failure, ListenerId, PrivateData, QueueLimits, QueueShape,
};
use rustix::event::epoll;
use transport_core::SlabKey;

use super::hello::{Hello, Kind as HelloKind};
use super::open_device::OpenDevice;
use super::ordered::{self, Ordered};
use super::wire::{Door, Wire};
use super::{
    CompletionsOf, Connection, LISTENER, Listening, ListeningWay, Network, OfiFabric, Phase, QUEUE, Way,
    failure,
};
use crate::device::{
    self, AddressVector, CompletionQueue, Endpoint, EventQueue, Info, Kind, Listener, Process, Queues,
    Request,
};
use crate::limits::ACCEPTING_MAX;
use crate::options::OfiOptions;

impl OfiFabric {
    pub(super) fn open_listener(
        &mut self,
        at: SocketAddr,
        backlog: u32,
        options: &OfiOptions,
    ) -> Result<(ListenerId, SocketAddr), Failure> {
        let info = self.chooser.for_listening(at, options)?;
        let (options, provider) = (options.clone(), info.provider().to_owned());
        if info.kind() == Some(Kind::Unconnected) {
            let door = Door::open(at, backlog)?;
            let address = door.address();
            let key =
                self.listeners.insert(Listening { way: ListeningWay::Unconnected(door), options, provider });
            let watched = match self.listeners.find(key).map(|it| &it.way) {
                Some(ListeningWay::Unconnected(door)) => {
                    self.watch(door.fd(), SlabKey::from(key).to_u64() | LISTENER, epoll::EventFlags::IN)
                }
                _ => Ok(()),
            };
            return match watched {
                Ok(()) => Ok((key, address)),
                Err(failure) => {
                    self.listeners.remove(key);
                    Err(failure)
                }
            };
        }
        let network = self.network_of(&info, Kind::Connected)?;
        let Some(Network { fabric, events: Some(events), .. }) = self.networks.get(network) else {
            return Err(Failure::new("fi_eq_open", libc::ENODEV));
        };
        let mut made = Err(Failure::new("fi_listen", libc::EADDRNOTAVAIL));
        let key: ListenerId = self.listeners.insert_with(|key: ListenerId| {
            let cookie = SlabKey::from(key).to_u64() | LISTENER;
            let listener = Listener::listen(fabric, &info, events, backlog, cookie).map_err(failure);
            let way = match listener {
                Ok(listener) => {
                    let address = listener.local_address().map_err(failure);
                    made = address.and_then(|it| {
                        it.to_socket_address().ok_or(Failure::new("fi_getname", libc::EADDRNOTAVAIL))
                    });
                    ListeningWay::Connected { network, _listener: Some(listener) }
                }
                Err(failure) => {
                    made = Err(failure);
                    ListeningWay::Connected { network, _listener: None }
                }
            };
            Listening { way, options, provider }
        });
        match made {
            Ok(address) => Ok((key, address)),
            Err(failure) => {
                self.listeners.remove(key);
                Err(failure)
            }
        }
    }

    pub(super) fn open_dial(&mut self, dial: &Dial, options: &OfiOptions) -> Result<ConnectionId, Failure> {
        let info = self.chooser.for_dialling(dial.to, dial.from, options)?;
        let kind = info.kind().unwrap_or(Kind::Connected);
        let way = match kind {
            Kind::Connected => Way::Connected { to: info.remote_address(), request: None },
            Kind::Unconnected => Way::Unconnected {
                to: Some(dial.to),
                from: dial.from,
                wire: None,
                watched: None,
                peer: None,
                said: PrivateData::EMPTY,
            },
        };
        let device = self.device_of(&info, kind)?;
        let connection = self.add_connection(way, Phase::Open, options.clone(), None);
        if let Some(it) = self.connections.find_mut(connection) {
            (it.info, it.device) = (Some(info), Some(device));
        }
        self.events.push_back(Event::Resolved { connection, device });
        Ok(connection)
    }

    pub(super) fn add_connection(
        &mut self,
        way: Way,
        phase: Phase,
        options: OfiOptions,
        listener: Option<ListenerId>,
    ) -> ConnectionId {
        self.connections.insert(Connection {
            phase,
            way,
            options,
            listener,
            asks: None,
            device: None,
            info: None,
            ordered: None,
            queue: CompletionsOf::None,
            vector: None,
            process: None,
            is_ready: false,
            is_waiting: false,
        })
    }

    /// The network of an offer, opened if it is not yet.
    fn network_of(&mut self, info: &Info, kind: Kind) -> Result<usize, Failure> {
        let (provider, name, has_events) = (info.provider(), info.network(), kind == Kind::Connected);
        let is_it =
            |it: &Network| it.provider == provider && it.name == name && it.events.is_some() == has_events;
        if let Some(at) = self.networks.iter().position(is_it) {
            return Ok(at);
        }
        let fabric = device::Fabric::open(info).map_err(failure)?;
        let events = has_events.then(|| EventQueue::open(&fabric)).transpose().map_err(failure)?;
        if let Some(fd) = events.as_ref().and_then(EventQueue::fd) {
            self.watch(fd, QUEUE, epoll::EventFlags::IN)?;
        }
        self.networks.push(Network { fabric, events, provider: provider.to_owned(), name });
        Ok(self.networks.len() - 1)
    }

    /// The device of an offer, opened if it is not yet.
    pub(super) fn device_of(&mut self, info: &Info, kind: Kind) -> Result<DeviceId, Failure> {
        let network = self.network_of(info, kind)?;
        self.device_in(network, info, kind)
    }

    fn device_in(&mut self, network: usize, info: &Info, kind: Kind) -> Result<DeviceId, Failure> {
        let name = info.domain();
        let is_it =
            |it: &OpenDevice| !it.is_lost && it.network == network && it.kind == kind && it.info.name == name;
        if let Some((key, _)) = self.devices.iter().find(|(_, it)| is_it(it)) {
            return Ok(key);
        }
        let Some(of) = self.networks.get(network) else {
            return Err(Failure::new("fi_domain", libc::ENODEV));
        };
        let opened = OpenDevice::open(network, &of.fabric, info, kind)?;
        Ok(self.devices.insert(opened))
    }

    /// A peer asks at a listener, by the provider's connection manager.
    pub(super) fn requested(&mut self, listener: ListenerId, request: Request) {
        let Some(it) = self.listeners.find(listener) else { return };
        let ListeningWay::Connected { network, .. } = it.way else { return };
        let options = it.options.clone();
        // Dropped, the request is refused.
        let Ok(device) = self.device_in(network, request.info(), Kind::Connected) else { return };
        let peer = request.info().remote_address().and_then(|address| address.to_socket_address());
        let peer = peer.unwrap_or(([0, 0, 0, 0], 0).into());
        let private = heard(request.said());
        let way = Way::Connected { to: None, request: Some(request) };
        let connection = self.add_connection(way, Phase::Open, options, Some(listener));
        if let Some(it) = self.connections.find_mut(connection) {
            it.device = Some(device);
        }
        self.say_request(listener, connection, device, peer, private);
    }

    /// The same, by a hello on a wire.
    fn greeted(&mut self, connection: ConnectionId, hello: &Hello) {
        let Some(it) = self.connections.find_mut(connection) else { return };
        let (Some(listener), Way::Unconnected { wire: Some(wire), peer, .. }) = (it.listener, &mut it.way)
        else {
            return;
        };
        let Some(listening) = self.listeners.find(listener) else { return self.destroy(connection) };
        let provider = listening.provider.clone();
        let (from, local) = (wire.peer().unwrap_or(([0, 0, 0, 0], 0).into()), wire.local());
        *peer = device::Address::from_bytes(&hello.name);
        let is_ours = hello.kind == HelloKind::Ask && peer.is_some();
        let same = hello.provider == provider;
        let options = it.options.clone();
        it.phase = Phase::Open;
        self.guests.retain(|(key, _)| *key != connection);
        if !is_ours || !same {
            // Says which provider there is.
            return self.reject(connection, &PrivateData::EMPTY);
        }
        let found = self.chooser.for_answering(&provider, local, &options);
        let found = found.and_then(|info| Ok((self.device_of(&info, Kind::Unconnected)?, info)));
        let Ok((device, info)) = found else {
            return self.reject(connection, &PrivateData::EMPTY);
        };
        let fetches = self.devices.find(device).and_then(|device| device.fetches);
        // A stranger from another host has no memory here: he would have us write to somebody else's, and find out by our answer what
        // it holds.
        let is_here = from.ip().is_loopback() || local.is_some_and(|local| local.ip() == from.ip());
        if fetches.is_some() && !is_here {
            return self.reject(connection, &PrivateData::EMPTY);
        }
        let witness = hello.witness.filter(|_| fetches == Some(true));
        if let Some(it) = self.connections.find_mut(connection) {
            (it.device, it.info) = (Some(device), Some(info));
            // Whoever cannot be read from has sent in packets what he would have had READ.
            it.process = witness.and_then(|witness| Process::open(witness).ok());
            if let (Some(process), Way::Unconnected { peer: Some(peer), .. }) = (&mut it.process, &it.way) {
                process.shares(peer);
            }
        }
        self.say_request(listener, connection, device, from, hello.private);
    }

    /// Lets guests in who have said who they are, the oldest first, as far as their listeners have room for connections that are not up
    /// yet.
    pub(super) fn admit(&mut self) {
        let asks = |key: &ConnectionId| self.connections.find(*key).is_some_and(|it| it.asks.is_some());
        let asking: Vec<_> = self.guests.iter().map(|(key, _)| *key).filter(asks).collect();
        let mut full = Vec::new();
        for key in asking {
            let Some(listener) = self.connections.find(key).map(|it| it.listener) else { continue };
            let comes = |it: &Connection| {
                it.listener == listener && matches!(it.phase, Phase::Open | Phase::Accepting)
            };
            if full.contains(&listener) {
                continue;
            }
            if self.connections.iter().filter(|(_, it)| comes(it)).count() >= ACCEPTING_MAX {
                full.push(listener);
            } else if let Some(asks) = self.connections.find_mut(key).and_then(|it| it.asks.take()) {
                self.greeted(key, &asks);
            }
        }
    }

    fn say_request(
        &mut self,
        listener: ListenerId,
        connection: ConnectionId,
        device: DeviceId,
        peer: SocketAddr,
        private: PrivateData,
    ) {
        self.events.push_back(Event::Request {
            listener,
            connection,
            device,
            peer,
            private,
            // READs are agreed upon by the packet protocol alone.
            initiator_depth: u8::MAX,
            responder_resources: u8::MAX,
        });
    }

    pub(super) fn make_endpoint(
        &mut self,
        connection: ConnectionId,
        shape: &QueueShape,
    ) -> Result<QueueLimits, Failure> {
        const CALL: &str = "fi_endpoint";
        let it = self.connections.find_mut(connection).ok_or(Failure::new(CALL, libc::EBADF))?;
        let place = it.device.filter(|_| it.ordered.is_none() && it.phase == Phase::Open);
        let place = place.ok_or(Failure::new(CALL, libc::EINVAL))?;
        let device = self.devices.find_mut(place).ok_or(Failure::new(CALL, libc::ENODEV))?;
        let network = self.networks.get(device.network).ok_or(Failure::new(CALL, libc::ENODEV))?;
        let size = ordered::shape(shape);
        if size.receives == 0 {
            return Err(Failure::new(CALL, libc::EOPNOTSUPP));
        }
        let (cookie, completions) = (SlabKey::from(connection).to_u64(), size.sends + size.receives);
        // rxm 1.17 faults when endpoints of its own have a completion queue in common (in `rxm_ep_progress`), and does not need it:
        // below, each has one to itself.
        let stands_alone = network.fabric.shares_memory() || network.provider.ends_with(";ofi_rxm");
        let watch = |queue: &CompletionQueue| {
            let token = epoll::EventData::new_u64(QUEUE);
            let add = |fd| epoll::add(&self.epoll, fd, token, epoll::EventFlags::IN);
            queue.fd().map_or(Ok(()), add).map_err(super::epoll_failure)
        };
        let mut own = None;
        if stands_alone {
            watch(own.insert(CompletionQueue::open(&device.domain, completions).map_err(failure)?))?;
        }
        let mut vector = match (&it.way, &it.info) {
            (Way::Unconnected { .. }, Some(info)) => {
                Some(AddressVector::open(&device.domain, info, 1).map_err(failure)?)
            }
            _ => None,
        };
        // All that have connections share, and so do those whose provider moves all when it moves one.
        let at = if own.is_none() { Some(device.reserve(completions, watch)?) } else { None };
        let queue = own.as_ref().or_else(|| Some(&device.queues.get(at?)?.queue));
        let queue = queue.ok_or(Failure::new(CALL, libc::EINVAL))?;
        let queues = Queues { completions: queue, events: network.events.as_ref(), peers: vector.as_ref() };
        let request = if let Way::Connected { request, .. } = &mut it.way { request.take() } else { None };
        let endpoint = match (request, &it.info) {
            (Some(request), _) => Endpoint::answer(&device.domain, request, &queues, &size, cookie),
            (None, Some(info)) => Endpoint::open(&device.domain, info, &queues, &size, cookie),
            (None, None) => return Err(Failure::new(CALL, libc::EINVAL)),
        };
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => {
                if let Some(at) = at {
                    device.unreserve(at, completions);
                }
                return Err(failure(error));
            }
        };
        let queue = match (own.take(), at) {
            (Some(own), _) => {
                self.alone.push(connection);
                CompletionsOf::Own(own)
            }
            (None, Some(at)) => CompletionsOf::Device(at, completions),
            (None, None) => CompletionsOf::None,
        };
        // Connections tell their end besides, and who has a queue alone is known by it.
        let is_named = matches!((&it.way, at), (Way::Unconnected { .. }, Some(_)));
        let mut ordered = Ordered::new(endpoint, shape, is_named);
        if let Some(process) = it.process.take() {
            ordered.fetch_from(process);
        }
        if device.fetches.is_some() {
            ordered.only_fetch();
        }
        let limits = ordered.limits();
        (it.ordered, it.queue, it.vector) = (Some(ordered), queue, vector.take());
        Ok(limits)
    }

    pub(super) fn ask(&mut self, connection: ConnectionId, private: &PrivateData) -> Result<(), Failure> {
        const CALL: &str = "fi_connect";
        let witness = self.witness(connection);
        let it = self.find(connection, CALL)?;
        let endpoint = it.ordered.as_mut().filter(|_| it.phase == Phase::Open).and_then(Ordered::endpoint);
        let endpoint = endpoint.ok_or(Failure::new(CALL, libc::EINVAL))?;
        match &mut it.way {
            Way::Connected { to: Some(to), request: None } => {
                endpoint.connect(to, carried(private)).map_err(failure)?
            }
            Way::Unconnected { to: Some(to), from, wire, .. } => {
                let name = endpoint.name().map_err(failure)?;
                let provider = it.info.as_ref().map(|info| info.provider().to_owned()).unwrap_or_default();
                let mut dialled = Wire::dial(*to, *from)?;
                dialled.say(&Hello {
                    kind: HelloKind::Ask,
                    provider,
                    name: name.as_bytes().to_vec(),
                    witness,
                    private: *private,
                });
                *wire = Some(dialled);
                it.phase = Phase::Connecting;
                return self.watch_wire(connection);
            }
            _ => return Err(Failure::new(CALL, libc::EINVAL)),
        }
        it.phase = Phase::Connecting;
        Ok(())
    }

    pub(super) fn agree(&mut self, connection: ConnectionId, private: &PrivateData) -> Result<(), Failure> {
        const CALL: &str = "fi_accept";
        let it = self.find(connection, CALL)?;
        let ordered = it.ordered.as_mut().filter(|_| it.phase == Phase::Open);
        let ordered = ordered.ok_or(Failure::new(CALL, libc::EINVAL))?;
        let witness = ordered.fetches().then(|| ordered.witness());
        let endpoint = ordered.endpoint().ok_or(Failure::new(CALL, libc::EINVAL))?;
        match &mut it.way {
            Way::Connected { to: None, .. } => {
                endpoint.accept(carried(private)).map_err(failure)?;
                it.phase = Phase::Accepting;
            }
            Way::Unconnected { to: None, wire: Some(wire), peer: Some(peer), .. } => {
                let vector = it.vector.as_mut().ok_or(Failure::new(CALL, libc::EINVAL))?;
                let peer = vector.insert(peer).map_err(failure)?;
                endpoint.set_peer(peer).map_err(|_| Failure::new("fi_av_insert", libc::EINVAL))?;
                let name = endpoint.name().map_err(failure)?;
                let provider = it.info.as_ref().map(|info| info.provider().to_owned()).unwrap_or_default();
                wire.say(&Hello {
                    kind: HelloKind::Yes,
                    provider,
                    name: name.as_bytes().to_vec(),
                    witness,
                    private: *private,
                });
                it.phase = Phase::Accepting;
                self.meeting.push(connection);
                // What it has to say, an end perhaps, comes after our yes.
                self.hear(connection);
            }
            _ => return Err(Failure::new(CALL, libc::EINVAL)),
        }
        Ok(())
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId, private: &PrivateData) {
        let Some(it) = self.connections.find_mut(connection) else { return };
        let listener = it.listener.and_then(|listener| self.listeners.find(listener));
        match &mut it.way {
            Way::Connected { request, .. } => {
                if let Some(request) = request.take() {
                    // A peer that cannot be told is told by the request's end.
                    let _ = request.reject(carried(private));
                }
            }
            Way::Unconnected { wire: Some(wire), .. } => {
                let provider = listener.map(|it| it.provider.clone()).unwrap_or_default();
                wire.say(&Hello {
                    kind: HelloKind::No,
                    provider,
                    name: Vec::new(),
                    witness: None,
                    private: *private,
                });
                // Short, and the first thing said: it leaves at once.
                let _ = wire.progress();
            }
            Way::Unconnected { .. } => {}
        }
    }
}

/// What goes along with a provider's own connection: without the zeros at its end, since not all carry 56 bytes (verbs: 55).
fn carried(private: &PrivateData) -> &[u8] {
    let len = private.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &private[..len]
}

/// The opposite.
pub(super) fn heard(said: &[u8]) -> PrivateData {
    let mut bytes = [0; PRIVATE_DATA_MAX];
    let len = said.len().min(PRIVATE_DATA_MAX);
    bytes[..len].copy_from_slice(&said[..len]);
    PrivateData::new(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_of_connection_data_need_not_be_carried() {
        let mut bytes = [0; PRIVATE_DATA_MAX];
        bytes[..7].copy_from_slice(b"FBQ1\0\0x");
        let private = PrivateData::new(&bytes);
        assert_eq!(carried(&private), b"FBQ1\0\0x");
        assert_eq!(heard(carried(&private)), private);
        assert_eq!(*heard(carried(&PrivateData::EMPTY)), [0; PRIVATE_DATA_MAX]);
        bytes[PRIVATE_DATA_MAX - 1] = 1;
        assert_eq!(carried(&PrivateData::new(&bytes)), bytes);
        assert_eq!(*heard(&[7; PRIVATE_DATA_MAX + 40]), [7; PRIVATE_DATA_MAX], "a connection manager pads");
    }
}
