//! What the host allows: preflight, and limits on locked memory.

use std::net::SocketAddr;
use std::time::Duration;

use fabriq_transport_verbs::device::{Context, ProtectionDomain, device_names};
use fabriq_transport_verbs::fabric::{Dial, Event, Fabric};
use fabriq_transport_verbs::sys::Libraries;
use fabriq_transport_verbs::{VerbsOptions, why_unavailable};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_thread_res_uid;
use transport_core::{FramePool, MemoryDomain};

use crate::contract::ends::{Client, Two};
use crate::hardware::{Hardware, alone};

#[test]
fn a_host_with_a_device_has_nothing_missing() {
    let _alone = alone();
    assert_eq!(why_unavailable(), None);
}

/// Runs a closure as an ordinary user who may lock so many bytes. Root would be exempt.
fn with_locked_memory<T>(bytes: u64, run: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Memlock);
    let nobody = rustix::process::Uid::from_raw(65534);
    let root = rustix::process::Uid::ROOT;
    let was_root = rustix::process::geteuid().is_root();
    setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum: before.maximum }).unwrap();
    if was_root {
        // This thread alone, so that it can come back.
        set_thread_res_uid(root, nobody, root).unwrap();
    }
    let result = run();
    if was_root {
        set_thread_res_uid(root, root, root).unwrap();
    }
    setrlimit(Resource::Memlock, before).unwrap();
    result
}

#[test]
fn too_little_locked_memory_is_named_with_its_remedy_and_smaller_arenas_work() {
    let _alone = alone();
    let libraries = Libraries::load().unwrap();
    let name = device_names(libraries).unwrap().remove(0);
    with_locked_memory(8 << 20, || {
        let context = Context::open(libraries, &name).unwrap();
        let domain = ProtectionDomain::new(&context).unwrap();
        let large = vec![1_u8; 64 << 20];
        let refused = domain.register(large.as_ptr(), large.len()).unwrap_err().to_string();
        for part in ["67108864 bytes", "ibv_reg_mr", "RLIMIT_MEMLOCK", "8388608 B", "ulimit -l unlimited"] {
            assert!(refused.contains(part), "{part} is not in: {refused}");
        }
        assert_eq!(domain.last_refusal().map(|it| it.to_string()), Some(refused));

        // A pool's arenas are small enough, until they are too many; then its frames say that they must be copied.
        let (pool, memory) = (FramePool::new(64 << 20), domain.memory());
        let mut buffers = Vec::new();
        let refused = loop {
            match memory.buffer(pool.take(1 << 20).unwrap()) {
                Ok(buffer) => buffers.push(buffer),
                Err(frame) => break frame,
            }
            assert!(buffers.len() < 32, "8 MiB cannot hold 32");
        };
        assert!(buffers.len() >= 4, "{}", buffers.len());
        // As soon as something is given up there is room again.
        drop((refused, buffers, pool));
        assert_eq!(domain.regions(), 0);
        let pool = FramePool::new(64 << 20);
        assert!(memory.buffer(pool.take(1 << 20).unwrap()).is_ok());
    });
}

#[test]
fn addresses_that_no_device_has_or_leads_to_are_errors() {
    let mut two = Two::<Hardware>::new();
    // Documentation's own network (RFC 5737).
    let to: SocketAddr = "192.0.2.1:7471".parse().unwrap();
    let at = SocketAddr::new(to.ip(), 0);
    let nowhere = two.server.fabric.listen(at, 4, &VerbsOptions::default()).unwrap_err();
    assert!([libc::EADDRNOTAVAIL, libc::ENODEV].contains(&nowhere.errno), "{nowhere}");
    let dial = Dial { to, from: None, timeout: Duration::from_secs(2) };
    match two.client.fabric.dial(&dial, &VerbsOptions::default()) {
        Err(failure) => assert!(failure.errno != 0, "{failure}"),
        Ok(dialled) => {
            let errno = two.next_event(Client, "no way there", |event| match event {
                Event::Unreachable { connection, failure } if connection == dialled => Some(failure.errno),
                _ => None,
            });
            assert!(errno != 0);
        }
    }
}

#[test]
fn preflight_tells_a_limit_too_small_for_anything() {
    let _alone = alone();
    let reason = with_locked_memory(64 << 10, why_unavailable).expect("64 KiB are too little").to_string();
    assert!(
        reason.contains("RLIMIT_MEMLOCK is 65536 B") && reason.contains("ulimit -l unlimited"),
        "{reason}"
    );
}
