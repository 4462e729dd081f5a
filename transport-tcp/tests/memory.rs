//! What peers can make a tcp driver hold. In a process of its own, since it looks at that process's memory.

mod host;

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use host::{Host, greeting};
use transport_core::limits::{AHEAD_MAX, SLOT_MAX};
use transport_core::{Completion, Grant, Part};

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn claims_alone_cost_no_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut host = Host::new();
    let address = host.listen();
    let mut peers = Vec::new();
    for _ in 0..100 {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(&greeting()).unwrap();
        let link = host.up();
        host.driver.grant(link, Grant::Unlimited);
        // 4 MiB, the largest slot, of which nothing comes.
        peer.write_all(b"\x02\0\0\0\0\0\x40\0\0").unwrap();
        peers.push(peer);
    }
    let before = host.resident_kib();
    host.idle();
    let (lent, grown) = (host.pool.usage().lent_slots, host.resident_kib().saturating_sub(before));
    assert!(lent <= AHEAD_MAX / SLOT_MAX, "{lent} slots of 4 MiB are held by claims");
    assert!(grown < 8 << 10, "claims cost {grown} KiB");
    // The claims that are made good are all read, and slots come home from those that are not.
    let body = vec![9; 4 << 20];
    let (mut last, others) = (peers.pop().unwrap(), peers);
    let writer = std::thread::spawn(move || last.write_all(&body).map(|()| last));
    let received = host.until("Received", |c| matches!(c, Completion::Received { .. }));
    let Completion::Received { part, .. } = received else { unreachable!() };
    assert!(part.body.len() == 4 << 20 && part.body.iter().all(|&byte| byte == 9));
    drop((others, writer.join().unwrap().unwrap(), part));
    for _ in 0..100 {
        host.until("Down", |c| matches!(c, Completion::Down { .. }));
    }
    assert_eq!(host.pool.usage().lent_slots, 0);
}

#[test]
fn idle_links_cost_little() {
    const LINKS: usize = 300;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut host = Host::new();
    let address = host.listen();
    let mut peers = Vec::new();
    let before = host.resident_kib();
    for _ in 0..LINKS {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(&greeting()).unwrap();
        let link = host.up();
        host.driver.grant(link, Grant::Unlimited);
        // Everyone has been busy once, and stands inside a frame.
        peer.write_all(b"\0\x05hello\0\x05wo").unwrap();
        host.part(link);
        host.driver.post_send(link, Part::last("an answer")).unwrap();
        host.driver.flush();
        peers.push(peer);
    }
    host.idle();
    let per_link = (host.resident_kib().saturating_sub(before) << 10) / LINKS;
    assert!(per_link < 4096, "{per_link} bytes per idle link");
}
