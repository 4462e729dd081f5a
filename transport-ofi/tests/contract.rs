//! The boundary's contract on every provider that needs no hardware: connected endpoints over TCP, and such without connections
//! over TCP, layered or not, and over shared memory. By the feature `device` on verbs as well, which needs an RDMA device.

#[path = "../../rdma-links/tests/contract/mod.rs"]
mod contract;
#[cfg(feature = "device")]
mod rdma_device;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use contract::ends::Place;
use fabriq_transport_ofi::OfiOptions;
use fabriq_transport_ofi::device::Kind;
use fabriq_transport_ofi::ofi::OfiFabric;
use fabriq_transport_ofi::sys::Library;
use rdma_links::fabric::Fabric;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest wait for anything; this only ends what hangs.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Sleeps as an engine would: until a descriptor is readable, or a fabric wants to be looked at.
fn sleep(fabrics: &mut [&mut OfiFabric]) -> bool {
    let now = Instant::now();
    let next = fabrics.iter().filter_map(|fabric| fabric.deadline()).min();
    let timeout = next.map_or(PATIENCE, |next| {
        let left = next.saturating_duration_since(now);
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
    });
    let fds: Vec<BorrowedFd<'_>> =
        fabrics.iter().map(|fabric| fabric.wake_fd().expect("a descriptor")).collect();
    let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let woken = poll(&mut fds, Some(&timeout)).expect("poll") > 0;
    drop(fds);
    let now = Instant::now();
    fabrics.iter_mut().for_each(|fabric| fabric.advance(now));
    woken || next.is_some()
}

const fn is_verbs(provider: &str) -> bool {
    matches!(provider.as_bytes(), b"verbs")
}

macro_rules! places {
    ($(
        $(#[doc = $doc:literal])* $(#[cfg($cfg:meta)])?
        $module:ident: $group:tt $place:ident = $provider:literal, $kind:ident at $address:expr;
    )*) => {$(
        $(#[doc = $doc])*
        $(#[cfg($cfg)])?
        #[derive(Debug)]
        struct $place;

        $(#[cfg($cfg)])?
        impl Place for $place {
            type Fabric = OfiFabric;
            const QUEUE_PAIRS: bool = false;
            const PRIVATE_DATA: usize = if is_verbs($provider) { 55 } else { rdma_links::PRIVATE_DATA_MAX };

            fn new() -> Self {
                Self
            }
            fn address(&self) -> SocketAddr {
                SocketAddr::new($address, 0)
            }
            fn options(&self) -> OfiOptions {
                let provider = Some($provider.to_owned());
                OfiOptions { provider, endpoint: Some(Kind::$kind), ..OfiOptions::default() }
            }
            fn fabric(&self) -> OfiFabric {
                let library = Library::load().expect("libfabric is installed");
                let mut fabric = OfiFabric::new(library).expect("a fabric opens");
                fabric.advance(Instant::now());
                fabric
            }
            fn sleep(&self, fabrics: &mut [&mut OfiFabric]) -> bool {
                sleep(fabrics)
            }
        }

        $(#[cfg($cfg)])?
        mod $module {
            places!(@ $group $place);
        }
    )*};
    (@ any $place:ident) => { crate::contract::contract!(crate::$place); };
    (@ guarded $place:ident) => { crate::contract::contract!(guarded crate::$place); };
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

places! {
    /// Connections over TCP.
    tcp: guarded Tcp = "tcp", Connected at LOOPBACK;
    /// The same, layered.
    rxm: guarded Rxm = "tcp;ofi_rxm", Unconnected at LOOPBACK;
    /// Over TCP as well, in one piece.
    net: guarded Net = "net", Unconnected at LOOPBACK;
    /// Whose connections are tcp's.
    net_msg: guarded NetMsg = "net", Connected at LOOPBACK;
    /// Shared memory, where a READ is the kernel's copy and nobody looks at keys;
    /// libfabric 1.17 loops for ever over a packet that is longer than its receive.
    shm: any Shm = "shm", Unconnected at LOOPBACK;
    /// Queue pairs, below libfabric.
    #[cfg(feature = "device")]
    verbs: guarded Verbs = "verbs", Connected at rdma_device::address();
}
