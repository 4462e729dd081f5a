//! Many links on one device: those beyond the first few share a receive queue. Measures what one costs.

use fabriq::{EventKind, SocketType};

use super::device::{counter, endpoint};
use super::{PATIENCE, socket};

const LINKS: usize = 1000;

/// Bytes of this process that are in memory (proc_pid_status(5)).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn a_thousand_links_share_a_receive_queue_and_all_of_them_carry() {
    let (binding, dialling) = (fabriq::context().unwrap(), fabriq::context().unwrap());
    let (pull, push) = (socket(&binding, SocketType::Pull), socket(&dialling, SocketType::Push));
    let url = pull.bind(&endpoint()).unwrap();
    let monitor = push.monitor().unwrap();
    let connect = |count: usize| {
        for _ in 0..count {
            push.connect(url.as_str()).unwrap();
        }
        for _ in 0..count {
            loop {
                let event = monitor.next_timeout(PATIENCE).expect("the links come up");
                match event.kind {
                    EventKind::HandshakeSucceeded => break,
                    EventKind::ConnectFailed(_)
                    | EventKind::HandshakeFailed(_)
                    | EventKind::Disconnected(..) => {
                        panic!("{event:?}")
                    }
                    _ => {}
                }
            }
        }
    };
    // What one link has of its own, and what all share, is there before.
    connect(50);
    let before = resident();
    connect(LINKS - 50);
    let idle = (resident() - before) / (LINKS - 50);
    println!("both ends of an idle link: {idle} B, soft-RoCE's queues included");
    assert!(idle < 192 << 10, "{idle} B for both ends of an idle link");

    // In turn, so that each link carries one in each round.
    for round in 0..3u64 {
        for number in 0..LINKS as u64 {
            push.send((round << 32 | number).to_le_bytes().as_slice()).unwrap();
        }
        let mut seen = vec![false; LINKS];
        for _ in 0..LINKS {
            let message = pull.recv().unwrap();
            let word = u64::from_le_bytes(message.body()[..].try_into().unwrap());
            assert_eq!(word >> 32, round);
            assert!(!std::mem::replace(&mut seen[word as u32 as usize], true), "twice");
        }
    }
    assert_eq!(counter("rcvd_rnr_err") + counter("send_rnr_err"), 0, "a receiver was not ready");
}
