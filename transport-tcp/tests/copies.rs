//! What a tcp driver says it has copied: small parts by each end, large ones by none. Measures no time.

mod host;

use std::io::{Read, Write};
use std::net::TcpStream;

use host::{Host, greeting};
use transport_core::{Completion, Flags, Grant, LinkId, Part};

const LARGE: usize = 1 << 20;

/// A link whose peer is a plain socket.
fn connected(host: &mut Host) -> (TcpStream, LinkId) {
    let address = host.listen();
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(&greeting()).unwrap();
    let link = host.up();
    peer.read_exact(&mut [0; 64]).unwrap();
    host.driver.grant(link, Grant::Unlimited);
    (peer, link)
}

/// The header of a large frame, ZMTP 3.1 section "Framing".
fn large_header() -> [u8; 9] {
    let mut header = [2; 9];
    header[1..].copy_from_slice(&(LARGE as u64).to_be_bytes());
    header
}

#[test]
fn small_parts_are_copied_once_on_their_way() {
    let mut host = Host::new();
    let (mut peer, link) = connected(&mut host);
    let mut expected = host.driver.copied_bytes();
    // Into the send buffer: inline, by reference, and from memory of its own.
    host.driver.post_send(link, Part::last("an answer")).unwrap();
    assert!(host.driver.post_small(link, &"more".into(), Flags::LAST));
    host.driver.post_send(link, Part::last(vec![1; 1000])).unwrap();
    expected += 9 + 4 + 1000;
    assert_eq!(host.driver.copied_bytes(), expected);
    host.driver.flush();
    assert_eq!(host.driver.copied_bytes(), expected, "what the kernel copies is its own");
    // And out of what was read: inline, and into a slot.
    peer.write_all(b"\0\x05hello\0\xC8").unwrap();
    peer.write_all(&[2; 200]).unwrap();
    assert_eq!(host.part(link).body, "hello");
    assert_eq!(host.part(link).body.len(), 200);
    // The long one may have come in two reads, and its first piece have waited in between.
    let copied = host.driver.copied_bytes() - expected;
    assert!((205..205 + 2 * 202).contains(&copied), "{copied} bytes");
    // The link ends, and what it copied is not forgotten.
    let before = host.driver.copied_bytes();
    drop(peer);
    host.down(link);
    assert_eq!(host.driver.copied_bytes(), before);
}

#[test]
fn large_parts_are_sent_from_where_they_are() {
    let mut host = Host::new();
    let (mut peer, link) = connected(&mut host);
    let before = host.driver.copied_bytes();
    for seed in 0..4 {
        let mut loan = host.pool.take(LARGE).unwrap();
        loan.fill(seed);
        host.driver.post_send(link, Part::last(loan.freeze())).unwrap();
        host.driver.flush();
        let reader = std::thread::spawn(move || {
            let mut frame = vec![0; 9 + LARGE];
            peer.read_exact(&mut frame).unwrap();
            (peer, frame)
        });
        host.until("Sent", |c| matches!(c, Completion::Sent { .. }));
        let (back, frame) = reader.join().unwrap();
        assert!(frame[..9] == large_header() && frame[9..].iter().all(|byte| *byte == seed));
        peer = back;
    }
    assert_eq!(host.driver.copied_bytes(), before);
}

#[test]
fn large_parts_are_read_where_they_stay() {
    const PARTS: u64 = 16;
    let mut host = Host::new();
    let (mut peer, link) = connected(&mut host);
    let mut receive = |peer: &mut TcpStream, parts: u64| {
        let mut writing = peer.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            for _ in 0..parts {
                writing.write_all(&large_header()).unwrap();
                writing.write_all(&vec![3; LARGE]).unwrap();
            }
        });
        for _ in 0..parts {
            let part = host.part(link);
            assert!(part.body.len() == LARGE && part.body.iter().all(|byte| *byte == 3));
        }
        writer.join().unwrap();
        host.driver.copied_bytes()
    };
    // Of the first the driver does not know that it is large, and of those that follow it expects it.
    let before = receive(&mut peer, 1);
    let copied = receive(&mut peer, PARTS) - before;
    assert!(copied <= PARTS * LARGE as u64 / 64, "{copied} bytes of {PARTS} MiB were copied");
}
