//! What a host is told whose libfabric offers nothing. libfabric reads its environment once in a process, so each case is one of
//! its own: this test program again. Needs libfabric (`ci/install`), and fails without.

use std::process::Command;

use fabriq_transport_ofi::{Unavailable, providers, why_unavailable};

/// Which case a process is.
const CASE: &str = "FABRIQ_TEST_PREFLIGHT";

fn run_again(case: &str, filter: Option<&str>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", case, "--nocapture"]).env(CASE, "1").env_remove("FI_PROVIDER");
    if let Some(filter) = filter {
        command.env("FI_PROVIDER", filter);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn is_again() -> bool {
    std::env::var_os(CASE).is_some()
}

#[test]
fn a_host_with_nothing_but_sockets_is_told_so_and_what_left_the_others_out() {
    if !is_again() {
        return run_again(
            "a_host_with_nothing_but_sockets_is_told_so_and_what_left_the_others_out",
            Some("sockets"),
        );
    }
    let why = why_unavailable();
    assert!(
        matches!(&why, Some(Unavailable::NoProvider { filter: Some(filter), .. }) if filter == "sockets"),
        "{why:?}"
    );
}

#[test]
fn a_host_with_libfabric_has_the_providers_that_come_with_it() {
    if !is_again() {
        return run_again("a_host_with_libfabric_has_the_providers_that_come_with_it", None);
    }
    let providers = providers().unwrap_or_else(|why| panic!("{why}"));
    for name in ["tcp", "tcp;ofi_rxm", "shm"] {
        assert!(providers.iter().any(|provider| provider.name == name), "{name} is missing: {providers:?}");
    }
    assert_eq!(why_unavailable(), None);
}
