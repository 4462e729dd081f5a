//! The hosts of ci/netns, as places to run a thread in, and what their wires lose. Judges nothing.

use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// For what takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// All hosts. One test at a time has them, since it changes what their wires lose.
pub(crate) struct Hosts(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Hosts {
    /// With wires that lose so many percent of what arrives, at every host.
    pub(crate) fn losing(percent: u32) -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        assert!(std::env::var_os("NETNS_HOSTS").is_some(), "these tests need hosts: run ci/multicast");
        let hosts = Self(ONE.lock().unwrap_or_else(PoisonError::into_inner));
        hosts.lose("all", percent);
        hosts
    }

    /// From now on a host, or `all`, loses so many percent of what arrives.
    pub(crate) fn lose(&self, host: &str, percent: u32) {
        run("loss", &[host, &percent.to_string()]);
    }

    /// From now on a host loses all of it, or no longer all.
    pub(crate) fn black_out(&self, host: &str, on: bool) {
        run("blackout", &[host, if on { "on" } else { "off" }]);
    }

    /// Runs `work` on a host, in a thread of its own; threads that it starts are there too.
    pub(crate) fn on<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        host: &str,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, T> {
        let pid = std::env::var(format!("NETNS_PID_{host}")).expect("a host of ci/netns");
        scope.spawn(move || {
            let space = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("the host is there");
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Network))
                .expect("ci/netns lets its command move to its hosts");
            work()
        })
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // The next test sets what it needs; this is for the black-outs.
        run("blackout", &["all", "off"]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("ci/netns has it in its PATH");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// The number of messages that say nothing, sent until everybody has heard one.
pub(crate) const HELLO: u64 = u64::MAX;

/// The address of a host.
pub(crate) fn address(host: &str) -> String {
    format!("10.8.0.{}", &host[1..])
}

/// A group and a port that no other test uses.
pub(crate) fn group() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("239.192.8.{next}:{}", 6000 + next)
}

/// A message of `len` bytes that says its number, and whose every byte follows from it.
pub(crate) fn body(number: u64, len: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while body.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(len.max(8));
    body
}

/// The number of a message.
///
/// # Panics
/// When a byte of it is not as [`body`] made it.
pub(crate) fn number(message: &[u8]) -> u64 {
    let (number, _) = message.split_first_chunk::<8>().expect("a number");
    let number = u64::from_le_bytes(*number);
    assert!(message == body(number, message.len()), "message {number} of {} bytes is spliced", message.len());
    number
}
