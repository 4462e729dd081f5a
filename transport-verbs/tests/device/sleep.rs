//! Sleeping on the descriptor: nothing is missed between the last poll and the sleep.

use std::time::Duration;

use fabriq_transport_verbs::fabric::{Fabric, Sender};
use fabriq_transport_verbs::verbs::VerbsFabric;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport_core::Armed;

use crate::contract::ends::{Client, Couple, End, Server, mark};
use crate::hardware::Hardware;

fn is_readable(end: &End<VerbsFabric>, patience: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(end.fabric.wake_fd().unwrap(), PollFlags::IN)];
    let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    poll(&mut fds, Some(&patience)).unwrap() > 0
}

const LONG: Duration = Duration::from_secs(60);

/// Polls and reads events until the end may sleep.
fn settle(end: &mut End<VerbsFabric>) {
    loop {
        end.look();
        if end.fabric.arm() == Armed::Ready && !is_readable(end, Duration::ZERO) {
            return;
        }
    }
}

#[test]
fn an_armed_queue_wakes_its_sleeper_and_an_idle_one_does_not() {
    let mut couple = Couple::<Hardware>::new();
    for round in 0..5_u8 {
        settle(&mut couple.two.server);
        assert!(couple.two.server.completed.is_empty());
        couple.sender().inline(&[round], mark(0)).unwrap();
        assert!(is_readable(&couple.two.server, LONG), "round {round}: a packet wakes");
        let (_, buffer, len) = couple.two.next_packet(Server);
        assert_eq!(&buffer[..len], &[round]);
        couple.two.next_completed(Client);
    }
    settle(&mut couple.two.client);
    couple.sender().inline(b"own", mark(0)).unwrap();
    assert!(is_readable(&couple.two.client, LONG), "a send's completion wakes as well");
    couple.part();
}

#[test]
fn events_wake_as_completions_do() {
    let mut couple = Couple::<Hardware>::new();
    settle(&mut couple.two.server);
    couple.two.client.fabric.disconnect(couple.dialled);
    assert!(is_readable(&couple.two.server, LONG));
}
