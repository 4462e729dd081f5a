//! Where the provider verbs has a device: for tests that need one. Tests nothing.

use std::net::IpAddr;

use fabriq_transport_ofi::device::{At, Info, Kind, Query};
use fabriq_transport_ofi::sys::Library;

/// The IPv4 address of the first RDMA device that libfabric finds.
pub(crate) fn address() -> IpAddr {
    let library = Library::load().expect("libfabric is installed");
    let query = Query { kind: Kind::Connected, at: At::Anywhere, provider: Some("verbs"), domain: None };
    let offers = Info::query(library, &query).expect("fi_getinfo answers");
    let addresses = offers.iter().filter_map(|offer| offer.local_address()?.to_socket_address());
    let found = addresses.map(|address| address.ip()).find(IpAddr::is_ipv4);
    found.expect("an RDMA device with an IPv4 address; these tests need one")
}
