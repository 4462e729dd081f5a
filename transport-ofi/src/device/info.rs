//! What providers offer (fi_getinfo(3)): asked for with what fabriq needs and what it can live with, so that an offer
//! that comes back is one that works. Opens nothing.

use std::ffi::CString;
use std::fmt;
use std::net::SocketAddr;
use std::ptr::NonNull;

use super::address::Address;
use super::failure::{Failure, text};
use crate::sys::{self, Library, Version};

/// The kind of endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// FI_EP_MSG: connected, by the provider's own connection manager.
    Connected,
    /// FI_EP_RDM: reliable, to anyone whose name is known.
    Unconnected,
}

impl Kind {
    /// As libfabric's manuals have it, without `FI_EP_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "MSG",
            Self::Unconnected => "RDM",
        }
    }

    const fn to_raw(self) -> sys::fi_ep_type {
        match self {
            Self::Connected => sys::FI_EP_MSG,
            Self::Unconnected => sys::FI_EP_RDM,
        }
    }
}

/// Which addresses an offer is to be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Any of this host's.
    Anywhere,
    /// This one of this host's, to listen at or to have a name of. Port 0 leaves the port to the provider.
    Local(SocketAddr),
    /// This one of a peer's, to connect to.
    Remote {
        /// The peer's.
        to: SocketAddr,
        /// Ours to go out from; `None` leaves it to the provider.
        from: Option<SocketAddr>,
    },
}

/// What to ask providers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The kind of endpoint.
    pub kind: Kind,
    /// Which addresses.
    pub at: At,
    /// The provider's name, such as `tcp;ofi_rxm`; `None`: any.
    pub provider: Option<&'a str>,
    /// The domain's name, such as `mlx5_0`; `None`: any.
    pub domain: Option<&'a str>,
}

/// The provider that is never used: the library's own example, orders of magnitude slower than the others.
const NEVER: &str = "sockets";

/// What fabriq does: sends, receives, and READs both ways. No peer may write.
const SENDS: u64 = sys::FI_MSG | sys::FI_SEND | sys::FI_RECV;
const READS: u64 = sys::FI_RMA | sys::FI_READ | sys::FI_REMOTE_READ;

/// What fabriq can live with: a context for each request, and every way of registering memory that does not tie it to
/// an endpoint or make keys longer than a word.
const MODES: u64 = sys::FI_CONTEXT | sys::FI_CONTEXT2;
const REGISTRATION: i32 =
    sys::FI_MR_LOCAL | sys::FI_MR_VIRT_ADDR | sys::FI_MR_ALLOCATED | sys::FI_MR_PROV_KEY;

/// One offer of one provider. Everything but its address can be asked of it.
pub struct Info {
    library: &'static Library,
    raw: NonNull<sys::fi_info>,
    provider: String,
}

// SAFETY: an offer is memory of its own; libfabric keeps no track of it. (It is not Sync: calls that take it may
// write to it.)
unsafe impl Send for Info {}

impl Info {
    /// Asks all providers, or one; the best offer comes first, as libfabric sees it. Where nobody offers READs, offers
    /// without ([`Info::reads`]); an empty list where nobody offers what fabriq needs at all. May open and close devices;
    /// milliseconds, at the first call more.
    pub fn query(library: &'static Library, query: &Query<'_>) -> Result<Vec<Self>, Failure> {
        let offers = Self::ask(library, query, SENDS | READS)?;
        if offers.is_empty() { Self::query_sends(library, query) } else { Ok(offers) }
    }

    /// Asks for sends and receives alone: of providers whose READs have conditions that fabriq does not meet. cxi is one, which
    /// ties the memory that peers READ to an endpoint (FI_MR_ENDPOINT).
    pub fn query_sends(library: &'static Library, query: &Query<'_>) -> Result<Vec<Self>, Failure> {
        Self::ask(library, query, SENDS)
    }

    fn ask(library: &'static Library, query: &Query<'_>, capabilities: u64) -> Result<Vec<Self>, Failure> {
        let hints = Hints::new(library, query, capabilities)?;
        let (node, flags) = match query.at {
            At::Anywhere => (None, 0),
            At::Local(address) => (Some(address), sys::FI_SOURCE | sys::FI_NUMERICHOST),
            At::Remote { to, .. } => (Some(to), sys::FI_NUMERICHOST),
        };
        let host = node.map(|address| c_string(&host_text(address)));
        let port = node.map(|address| c_string(&address.port().to_string()));
        let as_ptr = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        let mut list = std::ptr::null_mut();
        // SAFETY: strings and hints are alive until the call has returned.
        let result = unsafe {
            let version = sys::API_VERSION.0;
            library.ofi.fi_getinfo(
                version,
                as_ptr(&host),
                as_ptr(&port),
                flags,
                hints.0.raw.as_ptr(),
                &mut list,
            )
        };
        if result == -(sys::FI_ENODATA as i32) {
            return Ok(Vec::new());
        }
        super::failure::check("fi_getinfo", result)?;
        let mut offers = Vec::new();
        let mut next = list;
        while let Some(it) = NonNull::new(next) {
            // SAFETY: the list is alive until it is freed below; a copy stands alone.
            unsafe {
                next = it.as_ref().next;
                if let Some(offer) = Self::copy_of(library, it.as_ptr()) {
                    offers.push(offer);
                }
            }
        }
        // SAFETY: the list came from fi_getinfo(3), and only copies of it are left.
        unsafe { library.ofi.fi_freeinfo(list) };
        offers.retain(|offer| !offer.provider.split(';').any(|name| name == NEVER));
        Ok(offers)
    }

    /// A copy of one offer.
    ///
    /// # Safety
    /// The offer is alive, and complete as fi_getinfo(3) makes it.
    unsafe fn copy_of(library: &'static Library, info: *const sys::fi_info) -> Option<Self> {
        // SAFETY: the caller vouches for the offer.
        let raw = unsafe { NonNull::new(library.ofi.fi_dupinfo(info))? };
        // SAFETY: as the call's own result.
        Some(unsafe { Self::own(library, raw) })
    }

    /// Takes over an offer from the library.
    ///
    /// # Safety
    /// The offer is nobody else's, and complete as fi_getinfo(3) makes it.
    pub(super) unsafe fn own(library: &'static Library, raw: NonNull<sys::fi_info>) -> Self {
        let mut info = Self { library, raw, provider: String::new() };
        // SAFETY: names end with a zero and are part of the offer.
        info.provider = unsafe { text((*info.attributes().fabric_attr).prov_name) }.unwrap_or_default();
        info
    }

    /// A copy, for the library to have its way with.
    pub(super) fn duplicate(&self) -> Result<Self, Failure> {
        // SAFETY: the offer is alive and complete.
        unsafe { Self::copy_of(self.library, self.raw.as_ptr()) }
            .ok_or_else(|| Failure::new("fi_dupinfo", libc::ENOMEM))
    }

    /// The provider's name, such as `tcp;ofi_rxm`.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The provider's version. Those that come with libfabric give its major and minor in one number: 117.10 is 1.17.1.
    pub fn version(&self) -> Version {
        // SAFETY: the offer's parts live as long as it does.
        Version(unsafe { (*self.attributes().fabric_attr).prov_version })
    }

    /// The domain's name, such as `mlx5_0` or `lo`.
    pub fn domain(&self) -> String {
        // SAFETY: names end with a zero and are part of the offer.
        unsafe { text(self.domain_attributes().name) }.unwrap_or_default()
    }

    /// The network's name, such as `127.0.0.0/8`.
    pub fn network(&self) -> String {
        // SAFETY: as above.
        unsafe { text((*self.attributes().fabric_attr).name) }.unwrap_or_default()
    }

    /// The kind of its endpoints; `None` for one that was not asked for.
    pub fn kind(&self) -> Option<Kind> {
        [Kind::Connected, Kind::Unconnected]
            .into_iter()
            .find(|kind| kind.to_raw() == self.endpoint_attributes().type_)
    }

    /// The address of this host that it is for.
    pub fn local_address(&self) -> Option<Address> {
        let it = self.attributes();
        // SAFETY: the address is as long as it says, and part of the offer.
        unsafe { address(it.src_addr, it.src_addrlen) }
    }

    /// The address of the peer that was asked for.
    pub fn remote_address(&self) -> Option<Address> {
        let it = self.attributes();
        // SAFETY: as above.
        unsafe { address(it.dest_addr, it.dest_addrlen) }
    }

    /// Bytes of a message at most.
    pub fn message_max(&self) -> usize {
        self.endpoint_attributes().max_msg_size
    }

    /// Bytes of a message that is copied as it is sent.
    pub fn inject_max(&self) -> usize {
        self.send_attributes().inject_size
    }

    /// Pieces of a send.
    pub fn gather_max(&self) -> usize {
        self.send_attributes().iov_limit
    }

    /// Whether either end can READ the other's memory.
    pub fn reads(&self) -> bool {
        self.attributes().caps & READS == READS
    }

    /// Whether what is sent from or received into must be registered (FI_MR_LOCAL).
    pub fn registers_local(&self) -> bool {
        self.registration() & sys::FI_MR_LOCAL != 0
    }

    /// Whether peers READ by addresses of ours, not by offsets into a registration (FI_MR_VIRT_ADDR).
    pub fn reads_by_address(&self) -> bool {
        self.registration() & sys::FI_MR_VIRT_ADDR != 0
    }

    /// Whether the provider chooses the keys of registrations (FI_MR_PROV_KEY).
    pub fn chooses_keys(&self) -> bool {
        self.registration() & sys::FI_MR_PROV_KEY != 0
    }

    /// Bytes of such a key.
    pub(super) fn key_len(&self) -> usize {
        self.domain_attributes().mr_key_size
    }

    pub(super) fn vector_type(&self) -> sys::fi_av_type {
        match self.domain_attributes().av_type {
            sys::FI_AV_UNSPEC => sys::FI_AV_TABLE,
            other => other,
        }
    }

    fn registration(&self) -> i32 {
        self.domain_attributes().mr_mode
    }

    pub(super) fn library(&self) -> &'static Library {
        self.library
    }

    pub(super) fn raw(&self) -> *mut sys::fi_info {
        self.raw.as_ptr()
    }

    pub(super) fn attributes(&self) -> &sys::fi_info {
        // SAFETY: the offer is alive until `Drop`.
        unsafe { self.raw.as_ref() }
    }

    pub(super) fn send_attributes(&self) -> &sys::fi_tx_attr {
        // SAFETY: an offer is complete, and its parts live as long as it does.
        unsafe { &*self.attributes().tx_attr }
    }

    pub(super) fn receive_attributes(&self) -> &sys::fi_rx_attr {
        // SAFETY: as above.
        unsafe { &*self.attributes().rx_attr }
    }

    fn endpoint_attributes(&self) -> &sys::fi_ep_attr {
        // SAFETY: as above.
        unsafe { &*self.attributes().ep_attr }
    }

    fn domain_attributes(&self) -> &sys::fi_domain_attr {
        // SAFETY: as above.
        unsafe { &*self.attributes().domain_attr }
    }

    /// Asks for queues of these lengths, where the offer's are longer.
    pub(super) fn shorten(&mut self, sends: usize, receives: usize) {
        // SAFETY: an offer is complete, its parts are its own, and `&mut self` has them alone.
        unsafe {
            let (send, receive) = (&mut *self.raw.as_ref().tx_attr, &mut *self.raw.as_ref().rx_attr);
            send.size = send.size.min(sends);
            receive.size = receive.size.min(receives);
        }
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: the offer is ours alone.
        unsafe { self.library.ofi.fi_freeinfo(self.raw.as_ptr()) };
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Info({} on {}, {})", self.provider, self.domain(), self.network())
    }
}

/// # Safety
/// `start` is null or has `len` bytes.
unsafe fn address(start: *const std::ffi::c_void, len: usize) -> Option<Address> {
    // SAFETY: the caller's promise.
    (!start.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
        .and_then(Address::from_bytes)
}

/// What is asked for. An offer as well, but for what it leaves open.
struct Hints(Info);

impl Hints {
    fn new(library: &'static Library, query: &Query<'_>, capabilities: u64) -> Result<Self, Failure> {
        let none = || Failure::new("fi_allocinfo", libc::ENOMEM);
        // SAFETY: fi_allocinfo(3): a copy of nothing is an empty one with all its parts, which are ours to fill in.
        // Strings and addresses in it are the library's to free, as those of malloc(3).
        unsafe {
            let raw = NonNull::new(library.ofi.fi_dupinfo(std::ptr::null())).ok_or_else(none)?;
            let hints = Self(Info { library, raw, provider: String::new() });
            let it = &mut *raw.as_ptr();
            it.caps = capabilities;
            it.mode = MODES;
            (*it.ep_attr).type_ = query.kind.to_raw();
            (*it.tx_attr).msg_order = sys::FI_ORDER_SAS;
            (*it.rx_attr).msg_order = sys::FI_ORDER_SAS;
            let domain = &mut *it.domain_attr;
            domain.mr_mode = REGISTRATION;
            domain.threading = sys::FI_THREAD_SAFE;
            // Whoever waits drives; a thread of the provider's would only be in the way.
            domain.control_progress = sys::FI_PROGRESS_MANUAL;
            domain.data_progress = sys::FI_PROGRESS_MANUAL;
            domain.resource_mgmt = sys::FI_RM_ENABLED;
            if let Some(name) = query.domain {
                domain.name = libc::strdup(c_string(name).as_ptr());
            }
            if let Some(name) = query.provider {
                (*it.fabric_attr).prov_name = libc::strdup(c_string(name).as_ptr());
            }
            if let At::Remote { from: Some(from), .. } = query.at {
                let bytes = Address::from(from);
                let bytes = bytes.as_bytes();
                let copy = NonNull::new(libc::malloc(bytes.len())).ok_or_else(none)?;
                copy.cast::<u8>().copy_from(NonNull::from(bytes).cast(), bytes.len());
                it.addr_format = if from.is_ipv4() { sys::FI_SOCKADDR_IN } else { sys::FI_SOCKADDR_IN6 };
                (it.src_addr, it.src_addrlen) = (copy.as_ptr(), bytes.len());
            }
            Ok(hints)
        }
    }
}

/// A string for C; what is behind a zero byte, which no name has, is lost.
fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// The host of an address as getaddrinfo(3) reads it.
fn host_text(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(it) if it.scope_id() != 0 => format!("{}%{}", it.ip(), it.scope_id()),
        other => other.ip().to_string(),
    }
}
