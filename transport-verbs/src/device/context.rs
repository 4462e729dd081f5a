//! An opened device: what it is, its ports, its asynchronous events. Registers and posts nothing.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Maker, check_errno, last_failure};
use crate::fabric::{DeviceInfo, Failure};
use crate::sys::{self, Libraries};

/// An opened device (ibv_open_device(3)). Clones share it; the last one closes it. Thread-safe.
#[derive(Clone)]
pub struct Context(Arc<Opened>);

struct Opened {
    libraries: &'static Libraries,
    context: NonNull<sys::ibv_context>,
    maker: Maker,
    info: DeviceInfo,
    vendor: u32,
    completions_max: u32,
    gather_max: u32,
}

// SAFETY: libibverbs may be called for one context from any thread; what is here besides is never written.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

/// What a port of a device has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Whether packets can pass.
    pub is_active: bool,
    /// Whether it is InfiniBand, not Ethernet.
    pub is_infiniband: bool,
    /// Bytes of a packet on the wire.
    pub mtu: usize,
    /// Bytes of a message.
    pub message_max: usize,
}

/// An asynchronous event (ibv_get_async_event(3)), with the cookie of the object it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncEvent {
    /// A queue pair is in error, and no completion need tell.
    QueuePairFailed(u64),
    /// A queue pair that was not told to be connected has received its first packet.
    QueuePairReached(u64),
    /// A queue pair in error takes no more from its shared receive queue.
    LastReceiveReached(u64),
    /// A completion queue overflowed.
    CompletionsLost(u64),
    /// A shared receive queue ran below its limit.
    ReceivesLow(u64),
    /// A shared receive queue failed.
    ReceivesFailed(u64),
    /// The device failed or was unplugged.
    DeviceFatal,
    /// Of no consequence here: ports that come and go, addresses that change.
    Other(&'static str),
}

/// The names of the devices there are. An empty list where there is none.
pub fn device_names(libraries: &'static Libraries) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for_each_device(libraries, |_, name| names.push(name.to_owned()))?;
    Ok(names)
}

fn for_each_device(
    libraries: &'static Libraries,
    mut each: impl FnMut(*mut sys::ibv_device, &str),
) -> Result<(), Failure> {
    let mut count = 0;
    // SAFETY: the list has `count` devices and stays as it is until it is freed; names end with a zero and live as long
    // as their device.
    unsafe {
        let list = libraries.verbs.ibv_get_device_list(&mut count);
        if list.is_null() {
            return Err(last_failure("ibv_get_device_list"));
        }
        for at in 0..usize::try_from(count).unwrap_or(0) {
            let device = *list.add(at);
            let name = libraries.verbs.ibv_get_device_name(device);
            if !name.is_null() {
                each(device, &CStr::from_ptr(name).to_string_lossy());
            }
        }
        libraries.verbs.ibv_free_device_list(list);
    }
    Ok(())
}

impl Context {
    /// Opens a device by its name.
    pub fn open(libraries: &'static Libraries, name: &str) -> Result<Self, Failure> {
        let mut opened = Err(Failure::new("ibv_get_device_list", libc::ENODEV));
        for_each_device(libraries, |device, its_name| {
            if its_name == name {
                // SAFETY: the device is in a list that is not freed yet.
                opened = unsafe { Self::open_device(libraries, device) };
            }
        })?;
        opened
    }

    /// Opens a device that is at hand.
    ///
    /// # Safety
    /// `device` is alive: in a list that was not freed, or behind an open context.
    pub(super) unsafe fn open_device(
        libraries: &'static Libraries,
        device: *mut sys::ibv_device,
    ) -> Result<Self, Failure> {
        let verbs = &libraries.verbs;
        // SAFETY: the caller vouches for the device; the context just opened is alive until it is closed, here on an
        // error or in `Drop`.
        let (context, attributes, name, is_iwarp) = unsafe {
            let context =
                NonNull::new(verbs.ibv_open_device(device)).ok_or_else(|| last_failure("ibv_open_device"))?;
            let mut attributes: sys::ibv_device_attr = std::mem::zeroed();
            let queried =
                check_errno("ibv_query_device", verbs.ibv_query_device(context.as_ptr(), &mut attributes))
                    .and_then(|()| set_nonblocking(context.as_ref().async_fd));
            if let Err(failure) = queried {
                verbs.ibv_close_device(context.as_ptr());
                return Err(failure);
            }
            let name = CStr::from_ptr(verbs.ibv_get_device_name(device)).to_string_lossy().into_owned();
            (context, attributes, name, (*device).transport_type == sys::IBV_TRANSPORT_IWARP)
        };
        let positive = |count: i32| usize::try_from(count).unwrap_or(0);
        let depth = |count: i32| u8::try_from(count.clamp(0, 255)).unwrap_or(0);
        let info = DeviceInfo {
            name,
            is_iwarp,
            initiator_depth_max: depth(attributes.max_qp_init_rd_atom),
            responder_resources_max: depth(attributes.max_qp_rd_atom),
            work_requests_max: positive(attributes.max_qp_wr),
            shared_receives_max: if attributes.max_srq > 0 { positive(attributes.max_srq_wr) } else { 0 },
            message_max: 0,
            packet_max: usize::MAX,
        };
        let mut opened = Opened {
            libraries,
            context,
            maker: Maker::here(),
            info,
            vendor: attributes.vendor_id,
            completions_max: attributes.max_cqe.max(0) as u32,
            gather_max: attributes.max_sge.max(0) as u32,
        };
        // The ports of a device may differ in state, hardly in this.
        opened.info.message_max = opened.port(1)?.message_max;
        Ok(Self(Arc::new(opened)))
    }

    /// What the device is and can.
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// Entries of a completion queue at most.
    pub(super) fn completions_max(&self) -> u32 {
        self.0.completions_max
    }

    /// Pieces of one request at most.
    pub(super) fn gather_max(&self) -> u32 {
        self.0.gather_max
    }

    /// Whether a queue pair in error announces that it has taken its last shared receive. rdma_rxe before Linux 6.11
    /// has no such event, and loses no receive without it. It has no vendor id either.
    pub fn announces_last_receive(&self) -> bool {
        self.0.vendor != 0x00ff_ffff
    }

    /// A port, numbered from 1.
    pub fn port(&self, number: u8) -> Result<Port, Failure> {
        self.0.port(number)
    }

    /// The next asynchronous event, if there is one.
    pub fn next_async_event(&self) -> Option<AsyncEvent> {
        let verbs = &self.0.libraries.verbs;
        // SAFETY: the context is open, and its descriptor does not block. The object that an event names cannot be
        // destroyed before the event is acknowledged, which comes last; its context is the cookie it was made with.
        unsafe {
            let mut event: sys::ibv_async_event = std::mem::zeroed();
            if verbs.ibv_get_async_event(self.raw(), &mut event) != 0 {
                return None;
            }
            let qp = || (*event.element.qp).qp_context.addr() as u64;
            let cq = || (*event.element.cq).cq_context.addr() as u64;
            let srq = || (*event.element.srq).srq_context.addr() as u64;
            let said = match event.event_type {
                sys::IBV_EVENT_QP_FATAL | sys::IBV_EVENT_QP_REQ_ERR | sys::IBV_EVENT_QP_ACCESS_ERR => {
                    AsyncEvent::QueuePairFailed(qp())
                }
                sys::IBV_EVENT_COMM_EST => AsyncEvent::QueuePairReached(qp()),
                sys::IBV_EVENT_QP_LAST_WQE_REACHED => AsyncEvent::LastReceiveReached(qp()),
                sys::IBV_EVENT_CQ_ERR => AsyncEvent::CompletionsLost(cq()),
                sys::IBV_EVENT_SRQ_LIMIT_REACHED => AsyncEvent::ReceivesLow(srq()),
                sys::IBV_EVENT_SRQ_ERR => AsyncEvent::ReceivesFailed(srq()),
                sys::IBV_EVENT_DEVICE_FATAL => AsyncEvent::DeviceFatal,
                other => {
                    let text = verbs.ibv_event_type_str(other);
                    AsyncEvent::Other(CStr::from_ptr(text).to_str().unwrap_or("unknown"))
                }
            };
            verbs.ibv_ack_async_event(&mut event);
            Some(said)
        }
    }

    /// Readable when there is an asynchronous event.
    pub fn async_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as the context, which `self` keeps.
        unsafe { BorrowedFd::borrow_raw(self.0.context.as_ref().async_fd) }
    }

    /// Whether this is how many hold the device open: of interest to tests, and before a device is unplugged.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    pub(super) fn raw(&self) -> *mut sys::ibv_context {
        self.0.context.as_ptr()
    }

    pub(super) fn libraries(&self) -> &'static Libraries {
        self.0.libraries
    }

    pub(super) fn verbs(&self) -> &'static sys::Verbs {
        &self.0.libraries.verbs
    }

    pub(super) fn is_of_device(&self, device: *mut sys::ibv_device) -> bool {
        // SAFETY: the context is open.
        unsafe { self.0.context.as_ref().device == device }
    }

    /// Whether this process opened it; if not, it is a fork's copy.
    pub(super) fn is_ours(&self) -> bool {
        self.0.maker.is_here()
    }
}

impl Opened {
    fn port(&self, number: u8) -> Result<Port, Failure> {
        // SAFETY: the context is open; the attributes are plain numbers.
        let attributes = unsafe {
            let mut attributes: sys::ibv_port_attr = std::mem::zeroed();
            let result =
                sys::query_port(&self.libraries.verbs, self.context.as_ptr(), number, &mut attributes);
            check_errno("ibv_query_port", result)?;
            attributes
        };
        Ok(Port {
            is_active: attributes.state == sys::IBV_PORT_ACTIVE,
            // IBV_LINK_LAYER_ETHERNET is 2; 0 is of kernels that knew InfiniBand only.
            is_infiniband: attributes.link_layer != 2 && !self.info.is_iwarp,
            // IBV_MTU_256 is 1, and each step doubles.
            mtu: 128 << attributes.active_mtu.min(5),
            message_max: attributes.max_msg_sz as usize,
        })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.maker.is_here() {
            // SAFETY: nobody else has the context: whatever was made from it held it. A failure leaves it open, and
            // nobody uses it any more.
            unsafe { self.libraries.verbs.ibv_close_device(self.context.as_ptr()) };
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.0.info.name)
    }
}

/// Makes a library's descriptor non-blocking.
pub(super) fn set_nonblocking(fd: i32) -> Result<(), Failure> {
    // SAFETY: the caller has just got the descriptor from a library and nobody closes it meanwhile.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::ioctl_fionbio(fd, true).map_err(|errno| Failure::new("ioctl(FIONBIO)", errno.raw_os_error()))
}
