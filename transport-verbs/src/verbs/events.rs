//! What the connection manager and the devices tell, and which of the boundary's events it is. Completions are elsewhere.

use std::time::Duration;

use rustix::event::{Timespec, epoll};
use transport_core::SlabKey;

use super::{ASYNC, KINDS, LISTENER, Listener, MANAGER, Phase, SENTRY, VerbsFabric};
use crate::device::{AsyncEvent, CmEvent, CmEventKind};
use crate::fabric::{
    Cause, ConnectionId, DeviceId, Event, Fabric, Failure, ListenerId, PrivateData, Rejection,
};
use crate::limits::{EVENTS_PER_LOOK, LOOK_MAX};

impl VerbsFabric {
    fn lose_device(&mut self, device: DeviceId, event: fn(DeviceId) -> Event) {
        if let Some(it) = self.devices.find_mut(device).filter(|it| !it.is_lost) {
            it.is_lost = true;
            self.events.push_back(event(device));
        }
    }

    fn manager_event(&mut self, event: CmEvent) {
        let kind = event.cookie & KINDS;
        let key = SlabKey::from_u64(event.cookie & !KINDS);
        match kind {
            LISTENER => self.listener_event(key, event),
            SENTRY => {
                if matches!(event.kind, CmEventKind::DeviceRemoved)
                    && let Some(device) = self.devices.find_mut(key.into())
                {
                    device.release();
                    self.lose_device(key.into(), |device| Event::DeviceLost { device });
                }
            }
            _ => self.connection_event(key.into(), event),
        }
    }

    fn listener_event(&mut self, key: SlabKey, event: CmEvent) {
        let listener = ListenerId::from(key);
        let Some(options) = self.listeners.find(listener).map(|listener| listener.options.clone()) else {
            return;
        };
        match event.kind {
            CmEventKind::Request { id, initiator_depth, responder_resources } => {
                let peer = id.peer_address();
                let connection = self.add_connection(id, options, Phase::Open, Duration::ZERO);
                // Without a device or an address there is nobody to talk to; the peer gets no answer but a refusal.
                match (self.device_of(connection), peer) {
                    (Ok(device), Some(peer)) => self.events.push_back(Event::Request {
                        listener,
                        connection,
                        device,
                        peer,
                        private: event.private,
                        initiator_depth,
                        responder_resources,
                    }),
                    _ => self.reject(connection, &PrivateData::EMPTY),
                }
            }
            CmEventKind::DeviceRemoved => {
                if let Some(Listener { id, .. }) = self.listeners.find_mut(listener) {
                    id.release_removed_device();
                }
                self.events.push_back(Event::ListenerLost { listener });
            }
            _ => {}
        }
    }

    fn connection_event(&mut self, key: ConnectionId, event: CmEvent) {
        let Some(connection) = self.connections.find_mut(key) else { return };
        match event.kind {
            CmEventKind::AddressResolved if connection.phase == Phase::Resolving => {
                if let Err(failure) = connection.id.resolve_route(connection.timeout) {
                    self.unreachable(key, failure);
                }
            }
            CmEventKind::RouteResolved if connection.phase == Phase::Resolving => match self.device_of(key) {
                Ok(device) => {
                    if let Some(connection) = self.connections.find_mut(key) {
                        connection.phase = Phase::Open;
                    }
                    self.events.push_back(Event::Resolved { connection: key, device });
                }
                Err(failure) => self.unreachable(key, failure),
            },
            CmEventKind::Answered if connection.phase == Phase::Connecting => {
                let established = match (&mut connection.pair, &connection.terms) {
                    (Some(pair), Some(terms)) => connection.id.establish(pair, terms),
                    _ => return,
                };
                match established {
                    Ok(depth) => {
                        connection.depth = depth;
                        self.established(key, event.private);
                    }
                    // The manager has gone on: the listener hung up right after its yes.
                    Err(failure) if failure.errno == libc::EINVAL => {
                        self.unreachable(key, Failure::new(failure.call, libc::ECONNRESET));
                    }
                    Err(failure) => self.unreachable(key, failure),
                }
            }
            // iWARP: the device has made the queue pair ready.
            CmEventKind::Established if connection.phase == Phase::Connecting => {
                connection.depth = connection.terms.map_or(0, |terms| terms.initiator_depth);
                self.established(key, event.private);
            }
            CmEventKind::Established if connection.phase == Phase::Accepting => {
                self.established(key, PrivateData::EMPTY);
            }
            CmEventKind::Failed(step) => self.unreachable(key, Failure::new(step, event.status.abs())),
            CmEventKind::Rejected if matches!(connection.phase, Phase::Connecting | Phase::Accepting) => {
                connection.phase = Phase::Over;
                // rdma_get_cm_event(3): the reason of the InfiniBand specification's table; iWARP has an errno.
                let rejection = match event.status {
                    8 => Rejection::NoListener,
                    28 => Rejection::Application,
                    status if status == -libc::ECONNREFUSED && event.private.is_empty() => {
                        Rejection::NoListener
                    }
                    status if status == -libc::ECONNREFUSED => Rejection::Application,
                    status => Rejection::Other(status),
                };
                let private = event.private;
                self.events.push_back(Event::Rejected { connection: key, rejection, private });
            }
            // A listener that goes before it has heard that the dialler heard its yes takes it back.
            CmEventKind::Rejected if connection.phase == Phase::Established => {
                self.disconnected(key, Cause::Peer);
            }
            CmEventKind::Disconnected => self.disconnected(key, Cause::Peer),
            CmEventKind::AddressChanged => self.disconnected(key, Cause::AddressChanged),
            CmEventKind::DeviceRemoved => {
                connection.id.release_removed_device();
                match connection.device {
                    Some(device) => self.lose_device(device, |device| Event::DeviceLost { device }),
                    None => self.unreachable(key, Failure::new("rdma_resolve_addr", libc::ENODEV)),
                }
            }
            _ => {}
        }
    }

    fn established(&mut self, key: ConnectionId, private: PrivateData) {
        let Some(connection) = self.connections.find_mut(key) else { return };
        connection.phase = Phase::Established;
        let initiator_depth = connection.depth;
        self.events.push_back(Event::Established { connection: key, private, initiator_depth });
    }

    fn unreachable(&mut self, key: ConnectionId, failure: Failure) {
        let Some(connection) = self.connections.find_mut(key) else { return };
        match connection.phase {
            Phase::Resolving | Phase::Open | Phase::Connecting | Phase::Accepting => {
                connection.phase = Phase::Over;
                self.events.push_back(Event::Unreachable { connection: key, failure });
            }
            Phase::Established => self.disconnected(key, Cause::Peer),
            Phase::Draining | Phase::Over | Phase::Drained => {}
        }
    }

    fn disconnected(&mut self, key: ConnectionId, cause: Cause) {
        let Some(connection) = self.connections.find_mut(key) else { return };
        match connection.phase {
            Phase::Established => self.events.push_back(Event::Disconnected { connection: key, cause }),
            // It did not hear of our yes, and is gone.
            Phase::Accepting | Phase::Connecting => {
                self.unreachable(key, Failure::new("rdma_accept", libc::ECONNRESET))
            }
            _ => {}
        }
    }

    fn async_event(&mut self, device: DeviceId, event: AsyncEvent) {
        match event {
            AsyncEvent::QueuePairFailed(cookie) => {
                self.disconnected(SlabKey::from_u64(cookie).into(), Cause::QueueFailed);
            }
            AsyncEvent::QueuePairReached(cookie) => {
                if let Some(connection) = self.connections.find_mut(SlabKey::from_u64(cookie).into()) {
                    connection.id.notify_reached();
                }
            }
            AsyncEvent::LastReceiveReached(cookie) => {
                let key = SlabKey::from_u64(cookie).into();
                if let Some(connection) = self.connections.find_mut(key) {
                    connection.last_receive = true;
                }
                self.check_drained(key);
            }
            AsyncEvent::CompletionsLost(_) | AsyncEvent::ReceivesFailed(_) => {
                self.lose_device(device, |device| Event::CompletionsLost { device });
            }
            AsyncEvent::ReceivesLow(_) => {
                if let Some(device) = self.devices.find_mut(device) {
                    device.ran_low();
                }
                self.events.push_back(Event::SharedReceivesLow { device });
            }
            AsyncEvent::DeviceFatal => self.lose_device(device, |device| Event::DeviceLost { device }),
            AsyncEvent::Other(_) => {}
        }
    }

    /// Reads what the descriptors have, one look's worth.
    pub(super) fn look(&mut self) {
        let mut ready =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
                LOOK_MAX];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok(count) = epoll::wait(&self.epoll, &mut ready[..], Some(&now)) else { return };
        for event in &ready[..count] {
            let token = event.data.u64();
            match token & !0xffff_ffff {
                MANAGER => {
                    for _ in 0..EVENTS_PER_LOOK {
                        let Some(event) = self.channel.next_event(0) else { break };
                        self.manager_event(event);
                    }
                }
                ASYNC => {
                    let Some((key, context)) = self
                        .devices
                        .iter()
                        .find(|(key, _)| key.index() as u64 == token & 0xffff_ffff)
                        .map(|(key, device)| (key, device.context.clone()))
                    else {
                        continue;
                    };
                    for _ in 0..EVENTS_PER_LOOK {
                        let Some(event) = context.next_async_event() else { break };
                        self.async_event(key, event);
                    }
                }
                // `arm` reads these.
                _ => {}
            }
        }
    }
}
