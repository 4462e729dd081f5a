//! Addresses: socket addresses and the names of other fabrics as bytes, and vectors of them (fi_av(3)) for endpoints
//! that send without a connection.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Tailed;
use super::domain::{Domain, RawDomain};
use super::endpoint::{RESIDENTS, Remains};
use super::failure::{Failure, check};
use super::info::Info;
use super::resident::Resident;
use crate::limits::NAME_MAX;
use crate::sys;

/// The address of an endpoint as its provider has it: a socket address, or a name that means something to that provider
/// alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Vec<u8>);

/// What stands where in a `sockaddr_in` and a `sockaddr_in6` (ip(7), ipv6(7)).
const V4_LEN: usize = size_of::<libc::sockaddr_in>();
const V6_LEN: usize = size_of::<libc::sockaddr_in6>();

impl Address {
    /// An address that a peer has told of itself, or a provider. `None` for more than [`NAME_MAX`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= NAME_MAX).then(|| Self(bytes.to_vec()))
    }

    /// Where an endpoint over shared memory has its queues, by shm's names (`fi_shm://13771:0:0`).
    pub(super) fn shared_file(&self) -> Option<PathBuf> {
        let bytes = self.0.strip_suffix(&[0]).unwrap_or(&self.0);
        let (_, file) = std::str::from_utf8(bytes).ok()?.split_once("://")?;
        // shm_open(3): a name has no slash.
        (!file.is_empty() && !file.contains('/')).then(|| Path::new("/dev/shm").join(file))
    }

    /// As it goes over a wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The socket address, if it is one.
    pub fn to_socket_address(&self) -> Option<SocketAddr> {
        let bytes = &self.0;
        let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        match i32::from(family) {
            libc::AF_INET if bytes.len() >= V4_LEN => {
                let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
                Some(SocketAddrV4::new(ip.into(), port).into())
            }
            libc::AF_INET6 if bytes.len() >= V6_LEN => {
                let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, word(4)?, word(24)?).into())
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let family = |family: i32| (family as u16).to_ne_bytes();
        let mut bytes = Vec::with_capacity(V6_LEN);
        match address {
            SocketAddr::V4(address) => {
                bytes.extend(family(libc::AF_INET));
                bytes.extend(address.port().to_be_bytes());
                bytes.extend(address.ip().octets());
                bytes.resize(V4_LEN, 0);
            }
            SocketAddr::V6(address) => {
                bytes.extend(family(libc::AF_INET6));
                bytes.extend(address.port().to_be_bytes());
                bytes.extend(address.flowinfo().to_ne_bytes());
                bytes.extend(address.ip().octets());
                bytes.extend(address.scope_id().to_ne_bytes());
            }
        }
        Self(bytes)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_socket_address() {
            Some(address) => write!(f, "Address({address})"),
            None => write!(f, "Address({})", self.0.escape_ascii()),
        }
    }
}

/// An address in memory that is as long as any provider reads, with zeros behind it.
#[repr(C, align(8))]
pub(super) struct Padded([u8; 2 * NAME_MAX]);

impl Padded {
    pub(super) fn new(address: &Address) -> Self {
        let mut bytes = [0; 2 * NAME_MAX];
        bytes[..address.0.len()].copy_from_slice(&address.0);
        Self(bytes)
    }

    pub(super) fn as_ptr(&self) -> *const std::ffi::c_void {
        self.0.as_ptr().cast()
    }
}

/// Asks for a name (fi_getname(3), fi_getpeer(3)).
pub(super) fn read_name(
    call: &'static str,
    ask: impl FnOnce(*mut std::ffi::c_void, &mut usize) -> i32,
) -> Result<Address, Failure> {
    let mut name = Padded([0; 2 * NAME_MAX]);
    let mut len = NAME_MAX;
    check(call, ask(name.0.as_mut_ptr().cast(), &mut len))?;
    Address::from_bytes(&name.0[..len.min(2 * NAME_MAX)]).ok_or_else(|| Failure::new(call, sys::FI_ETOOSMALL))
}

/// The peers that endpoints without connections may send to (fi_av(3)). A peer stays in it for as long as it lives.
pub struct AddressVector {
    raw: Arc<RawVector>,
    format: u32,
    /// Bytes of this endpoint's own name, which are those of any other's of its provider; 0 if that is not known.
    name_len: usize,
}

/// Somebody in a vector, and what must stay for as long as he is in it.
type Inserted = (sys::fi_addr_t, Option<Arc<Resident<Remains>>>);

pub(super) struct RawVector {
    vector: NonNull<sys::fid_av>,
    /// Changes when its peers are forgotten.
    serial: AtomicU64,
    /// Where memory is shared: who is in it, and those of this process.
    inserted: Mutex<Vec<Inserted>>,
    // What it stands on; dropped last.
    domain: Arc<RawDomain>,
}

// SAFETY: the domain is FI_THREAD_SAFE, and nothing here is written.
unsafe impl Send for RawVector {}
// SAFETY: as above.
unsafe impl Sync for RawVector {}

impl RawVector {
    pub(super) fn raw(&self) -> *mut sys::fid_av {
        self.vector.as_ptr()
    }
    pub(super) fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// Takes everybody out of it, for whom the caller then has to forget.
    pub(super) fn forget(&self) -> Vec<Arc<Resident<Remains>>> {
        let inserted = std::mem::take(&mut *self.inserted.lock().unwrap_or_else(PoisonError::into_inner));
        self.serial.store(serial(), Ordering::Relaxed);
        let forget = |(mut address, resident)| {
            // SAFETY: the vector is alive and has the address; no endpoint sends to it any more, since its number has changed.
            unsafe { sys::fi_av_remove(self.raw(), &mut address, 1, 0) };
            resident
        };
        inserted.into_iter().filter_map(forget).collect()
    }
}

impl Drop for RawVector {
    fn drop(&mut self) {
        if self.domain.is_ours() {
            // SAFETY: nobody else has the vector: endpoints held it.
            unsafe { sys::fi_close(self.vector.cast().as_ptr()) };
        }
    }
}

/// Somebody in an [`AddressVector`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub(super) vector: u64,
    pub(super) address: sys::fi_addr_t,
}

/// A number for a vector, or for its next life.
fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl AddressVector {
    /// An empty one, for names of the kind that `info` has, and about `count` of them.
    pub fn open(domain: &Domain, info: &Info, count: usize) -> Result<Self, Failure> {
        let domain = domain.raw()?;
        let mut vector = std::ptr::null_mut();
        // SAFETY: the domain is alive; attributes are plain numbers and pointers, which may be zero.
        let result = unsafe {
            let mut attributes: Tailed<sys::fi_av_attr> = Tailed::zeroed();
            attributes.value.type_ = info.vector_type();
            attributes.value.count = count;
            sys::fi_av_open(domain.raw(), attributes.as_mut_ptr(), &mut vector, std::ptr::null_mut())
        };
        check("fi_av_open", result)?;
        let vector = NonNull::new(vector).ok_or_else(|| Failure::new("fi_av_open", sys::FI_EOTHER))?;
        let raw = RawVector { vector, serial: AtomicU64::new(serial()), inserted: Mutex::default(), domain };
        let raw = Arc::new(raw);
        Ok(Self { raw, format: info.attributes().addr_format, name_len: info.attributes().src_addrlen })
    }

    /// Adds a peer by the name that it has told ([`super::Endpoint::name`]). An error for a name that is none of this
    /// provider's, as far as that shows.
    pub fn insert(&mut self, name: &Address) -> Result<Peer, Failure> {
        if !self.may_be_one(name) {
            return Err(Failure::new("fi_av_insert", libc::EINVAL).with_remedy(format!(
                "{name:?} is no address of this provider's; both ends must use the same one"
            )));
        }
        let shares_memory = self.raw.domain.fabric().shares_memory();
        // Before the provider does.
        let resident = if shares_memory { RESIDENTS.find(name.as_bytes()) } else { None };
        if shares_memory && resident.is_none() && !may_share(name) {
            let failure = Failure::new("fi_av_insert", -libc::ECONNREFUSED);
            return Err(
                failure.with_remedy("the peer has gone, or is another user's, with whom no memory is shared")
            );
        }
        let padded = Padded::new(name);
        let mut address = sys::FI_ADDR_UNSPEC;
        // SAFETY: the vector is alive and has no event queue, so that this is done when it returns; one address is
        // given, in more memory than any is long.
        let inserted = unsafe {
            sys::fi_av_insert(self.raw.raw(), padded.as_ptr(), 1, &mut address, 0, std::ptr::null_mut())
        };
        check("fi_av_insert", inserted)?;
        if inserted != 1 || address == sys::FI_ADDR_UNSPEC {
            return Err(Failure::new("fi_av_insert", libc::EADDRNOTAVAIL));
        }
        if shares_memory {
            self.raw.inserted.lock().unwrap_or_else(PoisonError::into_inner).push((address, resident));
        }
        Ok(Peer { vector: self.raw.serial(), address })
    }

    /// Providers take the length and the kind of a name for granted.
    fn may_be_one(&self, name: &Address) -> bool {
        let socket = name.to_socket_address();
        match self.format {
            sys::FI_SOCKADDR => socket.is_some(),
            sys::FI_SOCKADDR_IN => socket.is_some_and(|it| it.is_ipv4()),
            sys::FI_SOCKADDR_IN6 => socket.is_some_and(|it| it.is_ipv6()),
            sys::FI_ADDR_STR => {
                let text = name.0.strip_suffix(&[0]).unwrap_or(&name.0);
                !text.is_empty() && text.iter().all(u8::is_ascii_graphic)
            }
            _ => !name.0.is_empty() && (self.name_len == 0 || name.0.len() == self.name_len),
        }
    }

    pub(super) fn share(&self) -> Arc<RawVector> {
        self.raw.clone()
    }
}

impl fmt::Debug for AddressVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressVector({})", self.raw.serial())
    }
}

/// Whether the memory of an endpoint of another process can be opened, and is a process's of this user, whom the provider takes at
/// their word. shm 1.17 follows a null pointer when it cannot (`smr_map_to_endpoint`), as when a peer left right after it had told its
/// name; what is left is the time between this and the call.
fn may_share(name: &Address) -> bool {
    // As shm calls its files: the process, and numbers. Others are no endpoints' memory.
    let is_its = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.contains(':')
            && name.split(':').all(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()))
    };
    let file = name.shared_file().filter(is_its).and_then(|path| {
        let no_link = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        std::fs::File::options().read(true).write(true).custom_flags(no_link).open(path).ok()
    });
    let status = file.and_then(|file| file.metadata().ok());
    status.is_some_and(|it| it.is_file() && it.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_addresses_survive() {
        for text in ["10.7.0.1:5555", "0.0.0.0:0", "[::1]:65535", "[fe80::1%3]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).to_socket_address(), Some(address));
        }
    }

    #[test]
    fn bytes_that_are_no_socket_address_are_not_taken_for_one() {
        for bytes in [&b""[..], b"\x02", b"\x02\x00\x15\xb3", b"fi_shm://1234", &[0; 28]] {
            assert_eq!(Address::from_bytes(bytes).unwrap().to_socket_address(), None, "{bytes:?}");
        }
        assert_eq!(Address::from_bytes(&[7; NAME_MAX + 1]), None);
    }

    #[test]
    fn memory_is_shared_with_endpoints_of_this_user_alone() {
        let name = |file: &str| Address::from_bytes(format!("fi_shm://{file}\0").as_bytes()).unwrap();
        let file = format!("{}:0:{}", u32::MAX, std::process::id());
        let path = Path::new("/dev/shm").join(&file);
        assert!(!may_share(&name(&file)), "there is none");
        std::fs::write(&path, [0; 64]).unwrap();
        let own = may_share(&name(&file));
        let other = Path::new("/dev/shm").join(format!("{file}-"));
        std::fs::rename(&path, &other).unwrap();
        let misnamed = may_share(&name(&format!("{file}-")));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let link = may_share(&name(&file));
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let given = std::os::unix::fs::chown(&path, Some(65534), None).is_ok();
        let another = may_share(&name(&file));
        std::fs::remove_file(&path).unwrap();
        assert!(own && !misnamed && !link);
        assert!(!given || !another, "another user's");
    }

    #[test]
    fn structs_have_the_bytes_that_are_written() {
        use std::mem::offset_of;
        assert_eq!((V4_LEN, offset_of!(libc::sockaddr_in, sin_addr)), (16, 4));
        assert_eq!((V6_LEN, offset_of!(libc::sockaddr_in6, sin6_addr)), (28, 8));
        assert_eq!(offset_of!(libc::sockaddr_in6, sin6_scope_id), 24);
    }
}
