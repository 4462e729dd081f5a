//! The files of ipc listeners, and a process that goes to another directory meanwhile, or forks. In a process of its own,
//! since both concern all of it; one test, for the same reason.

mod host;

use std::path::Path;

use host::Host;
use rustix::process::{Pid, WaitOptions, waitpid};
use transport_core::Role;

#[test]
fn a_file_is_removed_by_the_process_that_bound_it_from_where_it_was_bound() {
    let directory = std::env::temp_dir().join(format!("fabriq-directory-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::env::set_current_dir(&directory).unwrap();
    let mut host = Host::new();
    let (open, endpoint) = host.bind("ipc://socket");
    assert_eq!(endpoint.as_str(), "ipc://socket");
    assert!(directory.join("socket").exists());

    std::env::set_current_dir("/").unwrap();
    let said = host.refused("ipc://socket", Role::Connect).to_string();
    assert!(said.contains("from the working directory"), "{said}");

    // SAFETY: the child drops what it has a copy of and ends; it takes no lock that another thread could hold.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(host);
        // SAFETY: ends the process; no destructor runs.
        unsafe { libc::_exit(0) };
    }
    let (_, status) = waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
    assert!(directory.join("socket").exists(), "a child has removed its parent's file");

    host.driver.close_open(open);
    assert!(!directory.join("socket").exists() && !Path::new("/socket").exists());
    std::fs::remove_dir(&directory).unwrap();
}
