//! A listener in a process that has no descriptors left. Alone in its program, since the limit is the process's.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use fabriq_transport_ofi::OfiOptions;
use fabriq_transport_ofi::device::Kind;
use fabriq_transport_ofi::ofi::OfiFabric;
use fabriq_transport_ofi::sys::Library;
use rdma_links::fabric::Fabric;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Longest wait for anything; this only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the fabric would wake who sleeps on it, for so long.
fn wakes(fabric: &OfiFabric, within: Duration) -> bool {
    let fd = fabric.wake_fd().expect("a descriptor");
    let within = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&within)).expect("poll") > 0
}

#[test]
fn a_listener_without_descriptors_sleeps_and_takes_who_waits_once_there_are_some() {
    let mut fabric =
        OfiFabric::new(Library::load().expect("libfabric is installed")).expect("a fabric opens");
    let now = Instant::now();
    fabric.advance(now);
    let options = OfiOptions {
        provider: Some("shm".to_owned()),
        endpoint: Some(Kind::Unconnected),
        ..OfiOptions::default()
    };
    let at = "127.0.0.1:0".parse().expect("a constant address parses");
    let (_listener, address) = fabric.listen(at, 4, &options).expect("it listens");
    let mut caller = TcpStream::connect(address).expect("the system answers");
    assert!(wakes(&fabric, PATIENCE), "somebody has come");

    let before = getrlimit(Resource::Nofile);
    let next = File::open("/dev/null").expect("one more").as_raw_fd() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(next), ..before }).expect("a lower limit");
    assert!(fabric.next_event().is_none());
    assert!(!wakes(&fabric, Duration::ZERO), "who cannot be taken wakes nobody");
    let again = fabric.deadline().expect("it is to try again");
    assert!(fabric.next_event().is_none());
    setrlimit(Resource::Nofile, before).expect("the limit of before");

    fabric.advance(again);
    assert!(fabric.deadline().is_none_or(|deadline| deadline > again), "it has him");
    caller.write_all(b"nobody's protocol").expect("it is written");
    assert!(wakes(&fabric, PATIENCE), "he says something");
    assert!(fabric.next_event().is_none());
    caller.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    match caller.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}
