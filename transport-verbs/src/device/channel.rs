//! The connection manager (rdma_cm(7)): its event channel, and the ids that listen, dial and accept. Brings queue pairs
//! through their states; posts nothing.
//!
//! Queue pairs are made in a context of our own, not in the one that librdmacm shares with the whole process: so one
//! driver's asynchronous events are its own, and it can give a lost device up. Therefore the states of a connection are
//! gone through here (rdma_init_qp_attr(3), rdma_establish(3)) and not by librdmacm.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::context::set_nonblocking;
use super::{Context, Maker, QueuePair, check, last_failure};
use crate::fabric::{Failure, PrivateData, Terms};
use crate::limits::{ACK_TIMEOUT, RECEIVER_NOT_READY_TIMER};
use crate::sys::{self, Libraries};

/// Where the connection manager's events come from (rdma_create_event_channel(3)). Clones share it.
#[derive(Clone)]
pub struct EventChannel(Arc<RawChannel>);

struct RawChannel {
    libraries: &'static Libraries,
    channel: NonNull<sys::rdma_event_channel>,
    maker: Maker,
}

// SAFETY: librdmacm may be called for one channel from any thread, and nothing here is written.
unsafe impl Send for RawChannel {}
// SAFETY: as above.
unsafe impl Sync for RawChannel {}

/// An event, acknowledged, with the cookie of the id it is about.
#[derive(Debug)]
pub struct CmEvent {
    /// The id's cookie; of a request, the listener's.
    pub cookie: u64,
    /// What happened.
    pub kind: CmEventKind,
    /// The manager's status: 0, a negative errno, or the reason of a rejection.
    pub status: i32,
    /// What the peer says, where the event carries it.
    pub private: PrivateData,
}

/// What happened to an id.
#[derive(Debug)]
pub enum CmEventKind {
    /// The address has a device now.
    AddressResolved,
    /// And the way there is known.
    RouteResolved,
    /// A peer asks. The new id is ours.
    Request {
        /// For the connection to be.
        id: CmId,
        /// READs that we may have in flight, by the peer's word.
        initiator_depth: u8,
        /// READs that the peer wants to have in flight.
        responder_resources: u8,
    },
    /// The listener said yes; the queue pair is not ready yet. See [`CmId::establish`].
    Answered,
    /// The connection stands.
    Established,
    /// There is no address, route or connection; which, is said.
    Failed(&'static str),
    /// The listener, or its host, said no.
    Rejected,
    /// The peer has disconnected.
    Disconnected,
    /// The device is gone.
    DeviceRemoved,
    /// The address moved to another device.
    AddressChanged,
    /// Of no consequence here.
    Other,
}

impl EventChannel {
    /// Opens one.
    pub fn new(libraries: &'static Libraries) -> Result<Self, Failure> {
        // SAFETY: the call takes nothing.
        let channel = unsafe { libraries.cm.rdma_create_event_channel() };
        let channel = NonNull::new(channel).ok_or_else(|| last_failure("rdma_create_event_channel"))?;
        let channel = RawChannel { libraries, channel, maker: Maker::here() };
        // SAFETY: the channel was just made.
        set_nonblocking(unsafe { channel.channel.as_ref().fd })?;
        Ok(Self(Arc::new(channel)))
    }

    /// Takes the next event, if there is one, and acknowledges it. `cookie` is what a new id, of a request, is to have.
    pub fn next_event(&self, cookie: u64) -> Option<CmEvent> {
        let cm = &self.0.libraries.cm;
        let mut event = std::ptr::null_mut();
        // SAFETY: the channel is alive and does not block; the event is ours until it is acknowledged, and its ids are
        // alive so long. Every event here is of a connected port space, so that the union holds `conn`. The private
        // data is as long as it says.
        unsafe {
            if cm.rdma_get_cm_event(self.0.channel.as_ptr(), &mut event) != 0 {
                return None;
            }
            let it = &*event;
            let param = &it.param.conn;
            let private = match param.private_data.is_null() {
                true => PrivateData::EMPTY,
                false => PrivateData::new(std::slice::from_raw_parts(
                    param.private_data.cast(),
                    param.private_data_len.into(),
                )),
            };
            let about = if it.event == sys::RDMA_CM_EVENT_CONNECT_REQUEST { it.listen_id } else { it.id };
            let about = (*about).context.addr() as u64;
            let kind = match it.event {
                sys::RDMA_CM_EVENT_ADDR_RESOLVED => CmEventKind::AddressResolved,
                sys::RDMA_CM_EVENT_ROUTE_RESOLVED => CmEventKind::RouteResolved,
                sys::RDMA_CM_EVENT_CONNECT_REQUEST => {
                    let id = CmId { id: NonNull::new_unchecked(it.id), channel: self.clone() };
                    (*it.id).context = std::ptr::without_provenance_mut(cookie as usize);
                    CmEventKind::Request {
                        id,
                        initiator_depth: param.initiator_depth,
                        responder_resources: param.responder_resources,
                    }
                }
                sys::RDMA_CM_EVENT_CONNECT_RESPONSE => CmEventKind::Answered,
                sys::RDMA_CM_EVENT_ESTABLISHED => CmEventKind::Established,
                sys::RDMA_CM_EVENT_ADDR_ERROR => CmEventKind::Failed("rdma_resolve_addr"),
                sys::RDMA_CM_EVENT_ROUTE_ERROR => CmEventKind::Failed("rdma_resolve_route"),
                sys::RDMA_CM_EVENT_CONNECT_ERROR | sys::RDMA_CM_EVENT_UNREACHABLE => {
                    CmEventKind::Failed("rdma_connect")
                }
                sys::RDMA_CM_EVENT_REJECTED => CmEventKind::Rejected,
                sys::RDMA_CM_EVENT_DISCONNECTED => CmEventKind::Disconnected,
                sys::RDMA_CM_EVENT_DEVICE_REMOVAL => CmEventKind::DeviceRemoved,
                sys::RDMA_CM_EVENT_ADDR_CHANGE => CmEventKind::AddressChanged,
                _ => CmEventKind::Other,
            };
            let event_said = CmEvent { cookie: about, kind, status: it.status, private };
            cm.rdma_ack_cm_event(event);
            Some(event_said)
        }
    }

    /// Readable when there is an event.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as the channel, which `self` keeps.
        unsafe { BorrowedFd::borrow_raw(self.0.channel.as_ref().fd) }
    }
}

impl Drop for RawChannel {
    fn drop(&mut self) {
        if self.maker.is_here() {
            // SAFETY: nobody else has the channel: ids held it.
            unsafe { self.libraries.cm.rdma_destroy_event_channel(self.channel.as_ptr()) };
        }
    }
}

impl fmt::Debug for EventChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventChannel({})", self.fd().as_raw_fd())
    }
}

/// A communication identifier (rdma_create_id(3)) of the port space RDMA_PS_TCP: what a socket is to TCP.
pub struct CmId {
    id: NonNull<sys::rdma_cm_id>,
    // What it stands on; dropped last.
    channel: EventChannel,
}

// SAFETY: librdmacm may be called for one id from any thread, and `&mut self` keeps callers apart.
unsafe impl Send for CmId {}

impl CmId {
    /// A new one. `cookie` comes back with its events.
    pub fn new(channel: &EventChannel, cookie: u64) -> Result<Self, Failure> {
        let mut id = std::ptr::null_mut();
        // SAFETY: the channel is alive; the cookie is never followed as a pointer.
        let result = unsafe {
            let cookie = std::ptr::without_provenance_mut(cookie as usize);
            let cm = &channel.0.libraries.cm;
            cm.rdma_create_id(channel.0.channel.as_ptr(), &mut id, cookie, sys::RDMA_PS_TCP)
        };
        check("rdma_create_id", result)?;
        let id = NonNull::new(id).ok_or(Failure::new("rdma_create_id", libc::ENOMEM))?;
        Ok(Self { id, channel: channel.clone() })
    }

    /// Changes the cookie, for an id that was made before it was known.
    pub fn set_cookie(&mut self, cookie: u64) {
        // SAFETY: the id is alive, and only events read its context, by the same owner.
        unsafe { (*self.id.as_ptr()).context = std::ptr::without_provenance_mut(cookie as usize) };
    }

    /// Binds it to a local address: a wildcard, or one that an RDMA device has. Port 0 chooses one.
    pub fn bind(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let mut address = to_storage(address);
        // SAFETY: id and address are alive.
        check("rdma_bind_addr", unsafe { self.cm().rdma_bind_addr(self.raw(), address.as_ptr()) })
    }

    /// Lets IPv6 wildcards mean IPv6 alone, or IPv4 as well.
    pub fn set_ipv6_only(&mut self, only: bool) -> Result<(), Failure> {
        let mut value = i32::from(only);
        let (value, len) = (std::ptr::from_mut(&mut value).cast(), size_of::<i32>());
        // SAFETY: the id is alive, and the option's value is an int.
        let result = unsafe {
            let (level, option) = (sys::RDMA_OPTION_ID as i32, sys::RDMA_OPTION_ID_AFONLY as i32);
            self.cm().rdma_set_option(self.raw(), level, option, value, len)
        };
        check("rdma_set_option(RDMA_OPTION_ID_AFONLY)", result)
    }

    /// Sets the type of service of the connection to be.
    pub fn set_service_type(&mut self, mut value: u8) -> Result<(), Failure> {
        // SAFETY: the id is alive, and the option's value is one byte.
        let result = unsafe {
            let (level, option) = (sys::RDMA_OPTION_ID as i32, sys::RDMA_OPTION_ID_TOS as i32);
            self.cm().rdma_set_option(self.raw(), level, option, std::ptr::from_mut(&mut value).cast(), 1)
        };
        check("rdma_set_option(RDMA_OPTION_ID_TOS)", result)
    }

    /// Listens.
    pub fn listen(&mut self, backlog: u32) -> Result<(), Failure> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        // SAFETY: the id is alive.
        check("rdma_listen", unsafe { self.cm().rdma_listen(self.raw(), backlog) })
    }

    /// Begins to look for the device that leads to an address.
    pub fn resolve_address(
        &mut self,
        from: Option<SocketAddr>,
        to: SocketAddr,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let (mut from, mut to) = (from.map(to_storage), to_storage(to));
        let from = from.as_mut().map_or(std::ptr::null_mut(), Storage::as_ptr);
        // SAFETY: id and addresses are alive.
        let result =
            unsafe { self.cm().rdma_resolve_addr(self.raw(), from, to.as_ptr(), milliseconds(timeout)) };
        check("rdma_resolve_addr", result)
    }

    /// Begins to look for the way there.
    pub fn resolve_route(&mut self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: the id is alive.
        let result = unsafe { self.cm().rdma_resolve_route(self.raw(), milliseconds(timeout)) };
        check("rdma_resolve_route", result)
    }

    /// Brings a queue pair, for this connection, to where receives can be posted.
    pub fn prepare(&mut self, pair: &mut QueuePair) -> Result<(), Failure> {
        let (mut attributes, mask) = self.attributes(sys::IBV_QPS_INIT)?;
        pair.modify(&mut attributes, mask)
    }

    /// Asks the listener. [`CmEventKind::Answered`] or [`CmEventKind::Established`] follows, or a failure.
    pub fn connect(&mut self, pair: &QueuePair, private: &PrivateData, terms: &Terms) -> Result<(), Failure> {
        let mut param = connection_parameters(pair, private, terms);
        // SAFETY: the id is alive, and the private data until the call has returned.
        check("rdma_connect", unsafe { self.cm().rdma_connect(self.raw(), &mut param) })
    }

    /// Makes the queue pair ready to send and tells the listener, after [`CmEventKind::Answered`]. Returns how many
    /// READs it may have in flight.
    pub fn establish(&mut self, pair: &mut QueuePair, terms: &Terms) -> Result<u8, Failure> {
        let depth = self.make_ready(pair, terms)?;
        // SAFETY: the id is alive, and no queue pair is known to librdmacm.
        check("rdma_establish", unsafe { self.cm().rdma_establish(self.raw()) })?;
        Ok(depth)
    }

    /// Makes the queue pair ready and says yes. Returns how many READs it may have in flight.
    pub fn accept(
        &mut self,
        pair: &mut QueuePair,
        private: &PrivateData,
        terms: &Terms,
    ) -> Result<u8, Failure> {
        let depth = self.make_ready(pair, terms)?;
        let mut param = connection_parameters(pair, private, terms);
        // SAFETY: the id is alive, and the private data until the call has returned.
        check("rdma_accept", unsafe { self.cm().rdma_accept(self.raw(), &mut param) })?;
        Ok(depth)
    }

    /// Says no.
    pub fn reject(&mut self, private: &PrivateData) -> Result<(), Failure> {
        // SAFETY: the id is alive, and the private data until the call has returned.
        let result =
            unsafe { self.cm().rdma_reject(self.raw(), private.as_ptr().cast(), private.len() as u8) };
        check("rdma_reject", result)
    }

    /// Tells the peer that it is over. The queue pair is the caller's to put into error.
    pub fn disconnect(&mut self) -> Result<(), Failure> {
        // SAFETY: the id is alive.
        check("rdma_disconnect", unsafe { self.cm().rdma_disconnect(self.raw()) })
    }

    /// Lets the connection manager know that the peer's first packet came before its last word.
    pub fn notify_reached(&mut self) {
        // A failure means that it knew by now.
        // SAFETY: the id is alive.
        let _ = unsafe { self.cm().rdma_notify(self.raw(), sys::IBV_EVENT_COMM_EST) };
    }

    /// Whether this id goes through the device of `context`.
    pub fn goes_through(&self, context: &Context) -> bool {
        self.librdmacm_context().is_some_and(|it| {
            // SAFETY: librdmacm keeps the context open while the id has it.
            context.is_of_device(unsafe { it.as_ref().device })
        })
    }

    /// Opens the device this id goes through, for ourselves. ENODEV before there is one.
    pub fn open_device(&self) -> Result<Context, Failure> {
        let context = self.librdmacm_context().ok_or(Failure::new("ibv_open_device", libc::ENODEV))?;
        // SAFETY: librdmacm keeps its context open while the id has it, and the device with it.
        unsafe { Context::open_device(self.channel.0.libraries, context.as_ref().device) }
    }

    /// Lets the kernel drop what librdmacm itself has open of this id's device, after [`CmEventKind::DeviceRemoved`].
    ///
    /// librdmacm keeps a context of each device that an id has gone through, and closes that of a removed device only
    /// when it next finds a device list that is not empty: never, where the device was the only one. But a driver that
    /// cannot take its device away from under a process (rdma_rxe) waits for all contexts, so that `rdma link delete`,
    /// or unloading the module, would hang until this process ends. So the context's descriptors are made to refer to
    /// nothing. librdmacm still owns and closes them; whatever it asks of the context meanwhile fails, as of any device
    /// that is gone.
    pub fn release_removed_device(&mut self) {
        let Some(context) = self.librdmacm_context() else { return };
        let Ok(nothing) = std::fs::File::options().read(true).write(true).open("/dev/null") else { return };
        // SAFETY: the descriptors are open as long as the context is, which librdmacm does not close while this id has
        // it. They stay open, so that nobody else can get their numbers.
        unsafe {
            for fd in [context.as_ref().cmd_fd, context.as_ref().async_fd] {
                libc::dup3(nothing.as_raw_fd(), fd, libc::O_CLOEXEC);
            }
        }
    }

    /// The local address; its port as well, once bound.
    pub fn local_address(&self) -> Option<SocketAddr> {
        // SAFETY: the id is alive; whichever member of the union was written, the storage has the family and enough
        // bytes.
        unsafe { from_storage(&self.id.as_ref().route.addr.__bindgen_anon_1.src_storage) }
    }

    /// The peer's address.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        // SAFETY: as above.
        unsafe { from_storage(&self.id.as_ref().route.addr.__bindgen_anon_2.dst_storage) }
    }

    fn make_ready(&mut self, pair: &mut QueuePair, terms: &Terms) -> Result<u8, Failure> {
        // Again, as librdmacm does: before a dialler has said how many READs it serves, it is to serve none.
        self.prepare(pair)?;
        // SAFETY: the id is alive.
        let port = unsafe { self.id.as_ref().port_num };
        let (mut attributes, mut mask) = self.attributes(sys::IBV_QPS_RTR)?;
        if pair.is_infiniband(port) {
            // Some kernels say of InfiniBand that they have set what only RoCE has, and refuse to hear it.
            mask &= !0x00e0_0000;
        }
        attributes.max_dest_rd_atomic = attributes.max_dest_rd_atomic.min(terms.responder_resources);
        attributes.min_rnr_timer = RECEIVER_NOT_READY_TIMER;
        pair.modify(&mut attributes, mask | sys::IBV_QP_MIN_RNR_TIMER)?;

        let (mut attributes, mask) = self.attributes(sys::IBV_QPS_RTS)?;
        attributes.max_rd_atomic = attributes.max_rd_atomic.min(terms.initiator_depth);
        let usual = if pair.is_infiniband(port) { attributes.timeout } else { ACK_TIMEOUT };
        attributes.timeout = terms.ack_timeout.unwrap_or(usual);
        if mask & sys::IBV_QP_RNR_RETRY != 0 {
            // The manager has the peer's word here on one side; both sides are to have their own.
            attributes.rnr_retry = terms.receiver_not_ready_retries;
        }
        pair.modify(&mut attributes, mask)?;
        Ok(attributes.max_rd_atomic)
    }

    fn attributes(&mut self, state: sys::ibv_qp_state) -> Result<(sys::ibv_qp_attr, u32), Failure> {
        let mut mask = 0;
        // SAFETY: the id is alive; attributes are plain numbers.
        unsafe {
            let mut attributes: sys::ibv_qp_attr = std::mem::zeroed();
            attributes.qp_state = state;
            let result = self.cm().rdma_init_qp_attr(self.raw(), &mut attributes, &mut mask);
            check("rdma_init_qp_attr", result)?;
            Ok((attributes, mask as u32))
        }
    }

    fn librdmacm_context(&self) -> Option<NonNull<sys::ibv_context>> {
        // SAFETY: the id is alive.
        NonNull::new(unsafe { self.id.as_ref().verbs })
    }

    fn cm(&self) -> &'static sys::Cm {
        &self.channel.0.libraries.cm
    }

    const fn raw(&self) -> *mut sys::rdma_cm_id {
        self.id.as_ptr()
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        if self.channel.0.maker.is_here() {
            // SAFETY: the id is alive and nobody uses it after this. Its events are acknowledged as they are read, so
            // this does not wait.
            unsafe { self.cm().rdma_destroy_id(self.raw()) };
        }
    }
}

impl fmt::Debug for CmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CmId({:?} to {:?})", self.local_address(), self.peer_address())
    }
}

fn connection_parameters(pair: &QueuePair, private: &PrivateData, terms: &Terms) -> sys::rdma_conn_param {
    sys::rdma_conn_param {
        private_data: private.as_ptr().cast(),
        private_data_len: private.len() as u8,
        responder_resources: terms.responder_resources,
        initiator_depth: terms.initiator_depth,
        flow_control: 1,
        retry_count: terms.retry_count.min(7),
        rnr_retry_count: terms.receiver_not_ready_retries.min(7),
        srq: u8::from(pair.shares_receives()),
        qp_num: pair.number(),
    }
}

fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// A socket address as C has it.
union Storage {
    v4: sys::sockaddr_in,
    v6: sys::sockaddr_in6,
    any: sys::sockaddr_storage,
}

impl Storage {
    const fn as_ptr(&mut self) -> *mut sys::sockaddr {
        std::ptr::from_mut(self).cast()
    }
}

fn to_storage(address: SocketAddr) -> Storage {
    // SAFETY: a zeroed address is one.
    let mut storage = Storage { any: unsafe { std::mem::zeroed() } };
    match address {
        SocketAddr::V4(address) => {
            storage.v4 = sys::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: address.port().to_be(),
                sin_addr: sys::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
        }
        SocketAddr::V6(address) => {
            let bytes = sys::in6_addr__bindgen_ty_1 { __u6_addr8: address.ip().octets() };
            storage.v6 = sys::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: sys::in6_addr { __in6_u: bytes },
                sin6_scope_id: address.scope_id(),
            };
        }
    }
    storage
}

/// # Safety
/// `storage` holds a socket address of the family it names, or zeros.
unsafe fn from_storage(storage: &sys::sockaddr_storage) -> Option<SocketAddr> {
    let start = std::ptr::from_ref(storage);
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the caller vouches for the family; the storage is larger and aligned for every kind of address.
            let it = unsafe { &*start.cast::<sys::sockaddr_in>() };
            let ip = it.sin_addr.s_addr.to_ne_bytes();
            Some(SocketAddrV4::new(ip.into(), u16::from_be(it.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above; any bytes are an IPv6 address.
            let (it, ip) = unsafe {
                let it = &*start.cast::<sys::sockaddr_in6>();
                (it, Ipv6Addr::from(it.sin6_addr.__in6_u.__u6_addr8))
            };
            Some(SocketAddrV6::new(ip, u16::from_be(it.sin6_port), it.sin6_flowinfo, it.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// An address with its port taken away, to find the device that has it.
pub(crate) fn without_port(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(it) => SocketAddr::new(IpAddr::V4(*it.ip()), 0),
        SocketAddr::V6(it) => SocketAddrV6::new(*it.ip(), 0, 0, it.scope_id()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_addresses_survive() {
        for text in ["10.7.0.1:5555", "0.0.0.0:0", "[::1]:65535", "[fe80::1%3]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            let storage = to_storage(address);
            // SAFETY: `to_storage` fills in an address of the family it names.
            let back = unsafe { from_storage(&storage.any) };
            assert_eq!(back, Some(address));
        }
    }
}
