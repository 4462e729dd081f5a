//! What is particular to ipc: names, the files that stand for listeners, credentials, endings. What it has in common with
//! tcp is in the conformance suite and in `wire.rs`.

mod host;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use host::{Host, open};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};
use transport_core::{
    Close, Completion, DownReason, Endpoint, Grant, LinkId, OpenError, Part, PeerInfo, Role,
};

/// A directory of one test, removed with all that is in it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fabriq-ipc-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("ipc://{}", self.path(name).display())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn up(host: &mut Host) -> (LinkId, Box<PeerInfo>) {
    match host.until("Up", |c| matches!(c, Completion::Up { .. })) {
        Completion::Up { link, peer, .. } => (link, peer),
        _ => unreachable!(),
    }
}

/// Two drivers with a link between them: the one that binds first.
fn pair(url: &str) -> ((Host, LinkId), (Host, LinkId)) {
    let (mut a, mut b) = (Host::new(), Host::new());
    let (_, endpoint) = a.bind(url);
    b.driver.open(open(endpoint.as_str(), Role::Connect)).unwrap();
    let is_up = |c: &Completion| matches!(c, Completion::Up { .. });
    let Completion::Up { link: there, .. } = b.until_with(&mut a, "Up", is_up) else { unreachable!() };
    let (here, _) = up(&mut a);
    a.driver.grant(here, Grant::Unlimited);
    b.driver.grant(there, Grant::Unlimited);
    ((a, here), (b, there))
}

#[test]
fn a_wildcard_is_a_path_for_temporary_files_that_goes_with_its_listener() {
    let mut host = Host::new();
    let (one, first) = host.bind("ipc://*");
    let (_, second) = host.bind("ipc://*");
    assert_ne!(first, second);
    let path = Path::new(first.address());
    assert!(path.starts_with(std::env::temp_dir()) && is_socket(path), "{first}");
    host.driver.close_open(one);
    assert!(!path.exists());
    assert!(is_socket(Path::new(second.address())));
    drop(host);
    assert!(!Path::new(second.address()).exists());
    let said = Host::new().refused("ipc://*", Role::Connect).to_string();
    assert!(said.contains("a connect needs a path"), "{said}");
}

#[test]
fn names_are_reported_as_they_were_given() {
    let directory = Directory::new();
    let mut host = Host::new();
    let abstract_name = format!("ipc://@fabriq of {}, with spaces", std::process::id());
    for url in [directory.url("socket"), directory.url("ä b"), abstract_name] {
        let (open, endpoint) = host.bind(&url);
        assert_eq!(endpoint.as_str(), url);
        host.driver.close_open(open);
    }
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn what_is_no_name_is_refused_in_words() {
    let mut host = Host::new();
    for url in ["ipc://@", "ipc://directory/", "ipc:///", "ipc://socket?mode=0600", "ipc://socket?"] {
        for role in [Role::Bind, Role::Connect] {
            let error = host.refused(url, role);
            assert!(matches!(&error, OpenError::BadAddress { .. }), "{error}");
            assert!(error.to_string().contains(url) && error.to_string().contains("write a path"), "{error}");
        }
    }
}

#[test]
fn a_name_may_have_as_many_bytes_as_the_system_takes() {
    let directory = Directory::new();
    let mut host = Host::new();
    // sun_path has 108 bytes, of which the last one is zero.
    let path = directory.path("");
    let path = format!("{}{}", path.display(), "x".repeat(107 - path.as_os_str().len()));
    let abstract_name = format!("@{:x>106}", std::process::id());
    for name in [path, abstract_name] {
        host.bind(&format!("ipc://{name}"));
        for role in [Role::Bind, Role::Connect] {
            let longer = format!("ipc://{name}x");
            let error = host.refused(&longer, role);
            assert!(
                matches!(error, OpenError::System { errno, .. } if errno == Errno::NAMETOOLONG.raw_os_error())
            );
            let said = error.to_string();
            assert!(said.contains(&longer) && said.contains("108") && said.contains("107"), "{said}");
            assert!(said.contains("choose a shorter one"), "{said}");
        }
    }
}

#[test]
fn a_listener_that_was_killed_leaves_a_file_that_the_next_one_replaces() {
    let directory = Directory::new();
    let path = directory.path("socket");
    // Unlike ours, this one leaves its file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path));
    let mut host = Host::new();
    let refused = host.refused(&directory.url("socket"), Role::Connect).to_string();
    assert!(refused.contains("nobody listens there; start the peer"), "{refused}");
    host.bind(&directory.url("socket"));
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_is_no_socket_stays() {
    let directory = Directory::new();
    let mut host = Host::new();
    fs::write(directory.path("file"), "precious").unwrap();
    fs::create_dir(directory.path("directory")).unwrap();
    // A link to a stale socket is somebody's doing, too.
    drop(UnixListener::bind(directory.path("stale")).unwrap());
    symlink(directory.path("stale"), directory.path("link")).unwrap();
    symlink(directory.path("nothing"), directory.path("dangling")).unwrap();
    for name in ["file", "directory", "link", "dangling"] {
        let error = host.refused(&directory.url(name), Role::Bind);
        assert!(matches!(error, OpenError::System { errno, .. } if errno == Errno::ADDRINUSE.raw_os_error()));
        let said = error.to_string();
        assert!(said.contains(&directory.url(name)) && said.contains("is no socket, and stays"), "{said}");
        assert!(directory.path(name).symlink_metadata().is_ok(), "{name} is gone");
    }
    assert_eq!(fs::read(directory.path("file")).unwrap(), b"precious");
    assert!(is_socket(&directory.path("stale")));
    let said = host.refused(&directory.url("file"), Role::Connect).to_string();
    assert!(said.contains("nobody listens there"), "{said}");
}

/// Of any kind, and whether it listens yet or not; and the one who asked leaves no trace.
#[test]
fn a_socket_that_somebody_has_bound_is_in_use() {
    let directory = Directory::new();
    let (mut host, mut other) = (Host::new(), Host::new());
    let url = directory.url("ours");
    host.bind(&url);
    let bound = |name: &str, kind: SocketType| -> OwnedFd {
        let fd = net::socket(AddressFamily::UNIX, kind, None).unwrap();
        net::bind(&fd, &SocketAddrUnix::new(directory.path(name)).unwrap()).unwrap();
        fd
    };
    let _others = [bound("stream", SocketType::STREAM), bound("datagram", SocketType::DGRAM)];
    for name in ["ours", "stream", "datagram"] {
        let url = directory.url(name);
        let in_use = OpenError::AddressInUse(Endpoint::parse(&url).unwrap());
        assert_eq!(other.refused(&url, Role::Bind), in_use);
        assert!(is_socket(&directory.path(name)));
    }
    host.idle();
    assert!(host.poll().is_empty(), "the listener was disturbed");
    let said = other.refused(&directory.url("datagram"), Role::Connect).to_string();
    assert!(said.contains("another kind of socket"), "{said}");
    // Theirs still works.
    other.driver.open(open(&url, Role::Connect)).unwrap();
    let is_up = |c: &Completion| matches!(c, Completion::Up { .. });
    other.until_with(&mut host, "Up", is_up);
}

#[test]
fn a_listener_removes_its_own_file_and_no_other() {
    let directory = Directory::new();
    let (path, url) = (directory.path("socket"), directory.url("socket"));
    let (mut first, mut second) = (Host::new(), Host::new());
    let (one, _) = first.bind(&url);
    // Somebody has cleared the place, and the next one has taken it.
    fs::remove_file(&path).unwrap();
    let (two, _) = second.bind(&url);
    first.driver.close_open(one);
    assert!(is_socket(&path), "the first has removed the second's file");
    // Moved away: what is at the path now is not what was bound.
    fs::rename(&path, directory.path("moved")).unwrap();
    fs::write(&path, "precious").unwrap();
    second.driver.close_open(two);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_place_that_may_not_be_written_to_is_refused_in_words() {
    let mut host = Host::new();
    // Nobody may make a socket there, root neither.
    let error = host.refused("ipc:///sys/fabriq", Role::Bind);
    assert!(matches!(error, OpenError::System { errno, .. } if errno != 0));
    let said = error.to_string();
    assert!(said.contains("ipc:///sys/fabriq") && said.contains("may write to"), "{said}");
    let directory = Directory::new();
    let said = host.refused(&directory.url("no/socket"), Role::Bind).to_string();
    assert!(said.contains("No such file") && said.contains("make the directory first"), "{said}");
    let said = host.refused(&directory.url("no/socket"), Role::Connect).to_string();
    assert!(said.contains("No such file") && said.contains("check the path"), "{said}");
}

#[test]
fn a_socket_that_may_not_be_written_to_is_refused_in_words() {
    let directory = Directory::new();
    let (path, url) = (directory.path("socket"), directory.url("socket"));
    let mut host = Host::new();
    host.bind(&url);
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut other = Host::new();
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            // Root may do everything, so this thread is somebody else from here on.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
            if rustix::process::geteuid().is_root() {
                // SAFETY: changes nothing but who this thread is, which ends with this test.
                assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, 65_534, -1) }, 0);
            }
            [Role::Connect, Role::Bind].map(|role| other.refused(&url, role))
        });
        let [dialled, bound] = refused.join().unwrap();
        let said = dialled.to_string();
        assert!(said.contains("Permission denied") && said.contains("to connect needs permission"), "{said}");
        assert_eq!(bound, OpenError::AddressInUse(Endpoint::parse(&url).unwrap()));
    });
    assert!(is_socket(&path));
}

#[test]
fn each_side_knows_who_the_other_is() {
    let directory = Directory::new();
    let (mut a, mut b) = (Host::new(), Host::new());
    let (_, endpoint) = a.bind(&directory.url("socket"));
    b.driver.open(open(endpoint.as_str(), Role::Connect)).unwrap();
    let is_up = |c: &Completion| matches!(c, Completion::Up { .. });
    let Completion::Up { peer, .. } = b.until_with(&mut a, "Up", is_up) else { unreachable!() };
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let us = format!("localhost:{user}:{group}:{}", std::process::id());
    assert_eq!(peer.address, us);
    assert_eq!(up(&mut a).1.address, us);
}

#[test]
fn a_full_backlog_is_refused_in_words() {
    let directory = Directory::new();
    let fd = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    net::bind(&fd, &SocketAddrUnix::new(directory.path("socket")).unwrap()).unwrap();
    net::listen(&fd, 0).unwrap();
    let mut host = Host::new();
    let _waiting = UnixStream::connect(directory.path("socket")).unwrap();
    let said = host.refused(&directory.url("socket"), Role::Connect).to_string();
    assert!(said.contains(&directory.url("socket")) && said.contains("backlog is full"), "{said}");
}

/// A peer of libzmq drops what it has not read when it sees the end, so the end waits for that.
#[test]
fn a_drain_is_over_when_the_peer_has_read_everything() {
    let ((mut a, here), (mut b, there)) = pair("ipc://*");
    // More than a link reads ahead of its grant.
    b.driver.grant(there, Grant::Limited(0));
    for number in 0..100u8 {
        a.driver.post_send(here, Part::last(vec![number; 1000])).unwrap();
    }
    a.driver.close_link(here, Close::Drain { until: None });
    for _ in 0..1000 {
        let said = a.poll();
        assert!(!said.iter().any(|c| matches!(c, Completion::Down { .. })), "{said:?}");
        a.now = a.driver.deadline().expect("it looks again");
        b.go_on();
    }
    b.driver.grant(there, Grant::Unlimited);
    for number in 0..100u8 {
        assert_eq!(b.part(there).body, [number; 1000][..]);
    }
    a.now = a.driver.deadline().expect("it looks again");
    assert_eq!(a.down(here), DownReason::ClosedHere);
    assert_eq!(b.down(there), DownReason::ClosedByPeer);
}

/// However an end comes, what was written before it is read.
#[test]
fn what_was_written_can_be_read_when_the_other_end_has_gone() {
    for unread in [false, true] {
        let ((mut a, here), (mut b, there)) = pair("ipc://*");
        if unread {
            // To close over this tells the peer of a reset.
            b.driver.post_send(there, Part::last("nobody reads this")).unwrap();
            b.driver.flush();
        }
        for number in 0..100u8 {
            a.driver.post_send(here, Part::last(vec![number; 1000])).unwrap();
        }
        a.driver.flush();
        a.driver.close_link(here, Close::Abort);
        drop(a);
        for number in 0..100u8 {
            assert_eq!(b.part(there).body, [number; 1000][..]);
        }
        b.down(there);
    }
}

#[test]
fn a_low_mark_keeps_the_buffers_short_on_both_sides() {
    for low in [false, true] {
        let (mut a, mut b) = (Host::new(), Host::new());
        let request = |url: &str, role| {
            let mut request = open(url, role);
            request.identity.send_hwm = if low { 1 } else { 1000 };
            request
        };
        a.driver.open(request("ipc://*", Role::Bind)).unwrap();
        let bound = a.until("Bound", |c| matches!(c, Completion::Bound { .. }));
        let Completion::Bound { endpoint, .. } = bound else { unreachable!() };
        b.driver.open(request(endpoint.as_str(), Role::Connect)).unwrap();
        let is_up = |c: &Completion| matches!(c, Completion::Up { .. });
        let Completion::Up { link: there, .. } = b.until_with(&mut a, "Up", is_up) else { unreachable!() };
        let here = a.up();
        for (host, link) in [(&mut a, here), (&mut b, there)] {
            let mut taken = 0;
            while host.driver.room(link) > 0 {
                host.driver.post_send(link, Part::last(vec![0; 4000])).unwrap();
                host.driver.flush();
                taken += 4000;
            }
            // The other side reads nothing, since it has no grant. What it reads ahead comes on top.
            assert_eq!(taken < 120_000, low, "{taken} bytes");
        }
    }
}

#[test]
fn many_links_at_one_listener() {
    const LINKS: usize = 500;
    let (mut a, mut b) = (Host::new(), Host::new());
    (a.budget, b.budget) = (10_000, 10_000);
    let (_, endpoint) = a.bind("ipc://*");
    let start = Instant::now();
    let mut links = Vec::new();
    while links.len() < LINKS {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{} links", links.len());
        // No more than the backlog takes.
        for _ in 0..50 {
            b.driver.open(open(endpoint.as_str(), Role::Connect)).unwrap();
        }
        let before = links.len();
        while links.len() < before + 50 {
            let is_up = |c: &Completion| matches!(c, Completion::Up { .. });
            let Completion::Up { link, .. } = b.until_with(&mut a, "Up", is_up) else { unreachable!() };
            links.push(link);
        }
    }
    for _ in 0..LINKS {
        let link = a.up();
        a.driver.grant(link, Grant::Unlimited);
    }
    for (number, link) in links.iter().enumerate() {
        b.driver.post_send(*link, Part::last(&(number as u32).to_le_bytes()[..])).unwrap();
    }
    b.driver.flush();
    let mut seen = vec![false; LINKS];
    for _ in 0..LINKS {
        let received = a.until("Received", |c| matches!(c, Completion::Received { .. }));
        let Completion::Received { part, .. } = received else { unreachable!() };
        let number = u32::from_le_bytes(part.body[..].try_into().unwrap()) as usize;
        assert!(!std::mem::replace(&mut seen[number], true));
    }
}
