//! An ipc path that is relative, and a process that goes elsewhere meanwhile. In a process of its own, since the working
//! directory is the process's.

mod host;

use std::path::Path;

use host::Host;
use transport_core::Role;

#[test]
fn a_relative_path_is_removed_from_where_it_was_bound() {
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
    host.driver.close_open(open);
    assert!(!directory.join("socket").exists() && !Path::new("/socket").exists());
    std::fs::remove_dir(&directory).unwrap();
}
