//! A tcp driver whose process runs out of descriptors. In a process of its own, since the limit is the process's.

mod host;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use host::{Host, greeting, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use transport_core::{Completion, OpenError, Progress, Role};

#[test]
fn a_listener_without_descriptors_rests_and_comes_back() {
    let mut host = Host::new();
    let address = host.listen();
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(&greeting()).unwrap();
    // No new descriptor fits below the highest one in use.
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: before.maximum }).unwrap();
    let failed = host.until("AcceptFailed", |c| {
        matches!(c, Completion::Progress { progress: Progress::AcceptFailed(_), .. })
    });
    assert!(format!("{failed:?}").contains("AcceptFailed(24)"), "{failed:?}");
    // The connection still waits in the backlog, and yet nobody spins.
    host.idle();
    let deadline = host.driver.deadline().expect("the listener comes back");
    assert!(deadline > host.now && deadline < host.now + Duration::from_secs(1));
    // Other descriptors are refused in words.
    for role in [Role::Bind, Role::Connect] {
        host.driver.open(open("tcp://127.0.0.1:9", role)).unwrap();
        let failed = host.until("Failed", |c| matches!(c, Completion::Failed { .. }));
        let Completion::Failed { error, .. } = failed else { unreachable!() };
        let errno = match &error {
            OpenError::System { errno, .. } | OpenError::Unreachable { errno, .. } => *errno,
            error => panic!("{error}"),
        };
        assert_eq!(errno, 24, "{error}");
    }
    let env = transport_core::DriverEnv {
        receive_pool: host.pool.clone(),
        wake: std::sync::Arc::new(host::NoWake),
        context: 1,
    };
    let transport = fabriq_transport_tcp::TcpTransport::new();
    let error = transport_core::Transport::driver(&transport, env).unwrap_err();
    assert!(error.to_string().contains("open files"), "{error}");
    setrlimit(Resource::Nofile, before).unwrap();
    host.now = deadline;
    host.up();
    assert_eq!(
        host.driver.deadline().filter(|deadline| *deadline < host.now + Duration::from_secs(20)),
        None
    );
}
