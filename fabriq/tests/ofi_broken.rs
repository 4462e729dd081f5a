//! ofi:// over a provider whose own sockets break under it, and what is left afterwards. Alone in its program, since it cuts all of
//! the process's TCP connections. Needs libfabric, which ci/install installs.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fabriq::{Context, EventKind, Monitor, Socket, SocketType};
use rustix::net::{Shutdown, getpeername, getsockname, shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Longer than anything here takes. A test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn socket(context: &Context) -> (Socket, Monitor) {
    let socket = context.socket(SocketType::Dealer).unwrap();
    socket
        .set_options(|options| {
            (options.send_timeout, options.receive_timeout) =
                (Some(PATIENCE), Some(Duration::from_millis(100)));
            (options.linger, options.reconnect_interval) =
                (Some(Duration::ZERO), Some(Duration::from_millis(50)));
        })
        .unwrap();
    let monitor = socket.monitor().unwrap();
    (socket, monitor)
}

fn descriptors() -> Vec<i32> {
    let names = fs::read_dir("/proc/self/fd").unwrap().flatten();
    names.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// Shuts down every connected TCP socket that has no such port: how many.
fn cut(spared: Option<u16>) -> usize {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let cut = descriptors().into_iter().filter(|fd| {
        let Ok(fd) = pidfd_getfd(&this, *fd, PidfdGetfdFlags::empty()) else { return false };
        let peer = getpeername(&fd).ok().flatten().and_then(|it| SocketAddr::try_from(it).ok());
        let own = getsockname(&fd).ok().and_then(|it| SocketAddr::try_from(it).ok());
        let (Some(peer), Some(own)) = (peer, own) else { return false };
        ![peer.port(), own.port()].iter().any(|it| Some(*it) == spared)
            && shutdown(&fd, Shutdown::Both).is_ok()
    });
    cut.count()
}

/// Says numbers until one of them is heard. What was under way on a link that ended is lost with it.
fn talk(from: &Socket, to: &Socket, next: &mut u64) {
    let (first, start) = (*next, Instant::now());
    loop {
        assert!(start.elapsed() < PATIENCE, "nothing comes any more");
        let mut bytes = vec![7; 100_000];
        bytes[..8].copy_from_slice(&next.to_le_bytes());
        from.send(bytes).unwrap();
        *next += 1;
        let Ok(heard) = to.recv() else { continue };
        if u64::from_le_bytes(heard.body()[..8].try_into().unwrap()) >= first {
            return;
        }
    }
}

/// How many links have come and gone since the last call, once nothing more happens.
fn counts(monitor: &Monitor) -> (usize, usize) {
    let (mut ups, mut downs) = (0, 0);
    while let Some(event) = monitor.next_timeout(Duration::from_millis(500)) {
        ups += usize::from(event.kind == EventKind::HandshakeSucceeded);
        downs += usize::from(matches!(event.kind, EventKind::Disconnected(..)));
    }
    (ups, downs)
}

/// `has_wire`: there is a TCP connection of ours beside the provider's, which stays.
fn broken(wildcard: &str, has_wire: bool) {
    let (ours, theirs) = (fabriq::context().unwrap(), fabriq::context().unwrap());
    let ((left, left_monitor), (right, right_monitor)) = (socket(&ours), socket(&theirs));
    let url = left.bind(wildcard).unwrap();
    right.connect(url.as_str()).unwrap();
    let mut next = 0;
    talk(&right, &left, &mut next);
    talk(&left, &right, &mut next);
    assert_eq!((counts(&left_monitor), counts(&right_monitor)), ((1, 0), (1, 0)), "{wildcard}");
    let port = url.as_str().rsplit_once(':').unwrap().1.split('?').next().unwrap().parse().unwrap();
    assert!(cut(has_wire.then_some(port)) > 0, "{wildcard}: nothing to cut");
    talk(&right, &left, &mut next);
    talk(&left, &right, &mut next);
    for monitor in [left_monitor, right_monitor] {
        let (ups, downs) = counts(&monitor);
        // A provider of endpoints without connections may mend it by itself; then no link ends.
        assert!(ups == downs && (downs == 1 || has_wire && downs == 0), "{wildcard}: {ups} up, {downs} down");
    }
}

#[test]
fn a_provider_whose_sockets_break_costs_one_link_and_leaves_no_descriptor() {
    for (wildcard, has_wire) in [
        ("ofi://127.0.0.1:*?provider=tcp", false),
        ("ofi://127.0.0.1:*?provider=net&endpoint=rdm", true),
        ("ofi://127.0.0.1:*?provider=tcp;ofi_rxm", true),
    ] {
        // The first time opens what stays for the life of the process.
        broken(wildcard, has_wire);
        let (before, start) = (descriptors().len(), Instant::now());
        (0..2).for_each(|_| broken(wildcard, has_wire));
        while descriptors().len() > before {
            assert!(start.elapsed() < 4 * PATIENCE, "{wildcard}: {before}, now {}", descriptors().len());
            std::thread::yield_now();
        }
    }
}
