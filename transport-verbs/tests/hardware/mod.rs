//! Real hardware as a place for tests: the first RDMA device with an IPv4 address.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fabriq_transport_verbs::fabric::Fabric;
use fabriq_transport_verbs::sys::Libraries;
use fabriq_transport_verbs::verbs::VerbsFabric;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::contract::ends::Place;
pub(crate) use fabriq_transport_verbs::device_address;

/// Longest wait for anything. Emulated, a step takes milliseconds; this only ends what hangs. Longer than the kernel's
/// connection manager waits, which sends again every 4.3 s, 15 times.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// Tests run one after the other: they share a device, and some count what is on it.
#[derive(Debug)]
pub(crate) struct Hardware(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

/// Keeps tests apart.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static DEVICE: Mutex<()> = Mutex::new(());
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place for Hardware {
    type Fabric = VerbsFabric;

    fn new() -> Self {
        Self(alone())
    }

    fn address(&self) -> SocketAddr {
        let address = device_address().expect("an RDMA device with an IPv4 address; these tests need one");
        SocketAddr::new(address, 0)
    }

    fn fabric(&self) -> VerbsFabric {
        let libraries = Libraries::load().expect("rdma-core is installed");
        VerbsFabric::new(libraries).expect("the connection manager opens")
    }

    fn sleep(&self, fabrics: &mut [&mut VerbsFabric]) -> bool {
        let fds: Vec<BorrowedFd<'_>> =
            fabrics.iter().map(|fabric| fabric.wake_fd().expect("a descriptor")).collect();
        let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        poll(&mut fds, Some(&PATIENCE)).expect("poll") > 0
    }
}
