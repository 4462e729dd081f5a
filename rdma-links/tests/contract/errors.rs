//! What goes wrong, and that everything posted comes back all the same.

use rdma_links::fabric::{Cause, Event, Fabric, Reach, Remote, Sender, Status, Terms, Work};

use super::ends::{Client, Couple, PACKET, Place, Plan, RECEIVES, SHAPE, Server, TERMS, Two, mark, quiet};

pub(crate) fn a_wrong_key_is_refused_by_the_peer_and_everything_comes_back<P: Place>() {
    let mut couple = Couple::<P>::new();
    let source = couple.two.server.pool.take(64 << 10).unwrap().freeze();
    let pinned = couple.two.server.memory(couple.server_device).pin(source, Reach::Peer).unwrap();
    let target = couple.two.client.pool.take(64 << 10).unwrap();
    let target = {
        let mut sender = couple.sender();
        let target = sender.lend(target);
        let wrong = Remote { key: pinned.remote().key ^ 0x00ab_cd00, ..pinned.remote() };
        sender.inline(b"before", quiet(0)).unwrap();
        sender.read(target, 0..64 << 10, wrong, mark(1)).unwrap();
        sender.inline(b"behind", quiet(2)).unwrap();
        target
    };
    let expected = [Status::Success, Status::RemoteAccess, Status::Flushed];
    for (at, status) in expected.into_iter().enumerate() {
        let completed = couple.two.next_sent(Client);
        let is_it =
            completed.status == status || !P::QUEUE_PAIRS && (at != 1 || completed.status != Status::Success);
        assert!(is_it, "request {at}: {completed:?}");
    }
    assert!(couple.two.client.fabric.reclaim(couple.dialled, target).is_some());
    let (dialled, accepted) = (couple.dialled, couple.accepted);
    let mut two = couple.two;
    two.drain(Client, dialled);
    two.drain(Server, accepted);
    two.client.completed.clear();
    two.server.completed.clear();
    drop(pinned);
    two.client.fabric.destroy(dialled);
    two.server.fabric.destroy(accepted);
    assert_eq!((two.client.pool.usage().lent_slots, two.server.pool.usage().lent_slots), (0, 0));
}

pub(crate) fn a_receiver_that_is_not_ready_fails_the_send_when_no_retries_are_allowed<P: Place>() {
    let mut couple = Couple::<P>::with(&Plan { receives: 0, ..Plan::default() });
    couple.sender().inline(b"anybody?", mark(1)).unwrap();
    let failed = couple.two.next_completed(Client);
    assert_eq!(failed.status, Status::ReceiverNotReady);
}

pub(crate) fn a_receiver_that_is_not_ready_is_waited_for_when_retries_allow_it<P: Place>() {
    let patient = Terms { receiver_not_ready_retries: 7, ..TERMS };
    let plan = Plan { receives: 0, client_terms: patient, server_terms: patient, ..Plan::default() };
    let mut couple = Couple::<P>::with(&plan);
    let (accepted, server_device) = (couple.accepted, couple.server_device);
    for tag in 0..3 {
        couple.sender().inline(&[tag; 9], mark(tag.into())).unwrap();
    }
    // Meanwhile the other way is open.
    couple.two.client.post_receives(couple.dialled, couple.client_device, 1);
    couple.two.server.send(accepted, server_device, b"wait", mark(9));
    assert_eq!(couple.two.next_packet(Client).2, 4);
    couple.two.server.completed.clear();
    assert!(couple.two.client.completed.is_empty(), "nobody took anything yet");
    couple.two.server.post_receives(accepted, server_device, 3);
    for tag in 0..3_u8 {
        let (_, buffer, len) = couple.two.next_packet(Server);
        assert_eq!(buffer[..len], [tag; 9]);
        assert_eq!(couple.two.next_sent(Client).status, Status::Success);
    }
    couple.part();
}

pub(crate) fn a_packet_larger_than_the_receive_is_an_error_on_both_sides<P: Place>() {
    let mut couple = Couple::<P>::new();
    couple.send(&vec![1; PACKET + 1], mark(1));
    let failed = couple.two.next_sent(Client);
    let is_failed = failed.status != Status::Success && failed.status != Status::Flushed;
    // Who sends need not know what the receiver makes of it.
    assert!(is_failed || !P::QUEUE_PAIRS, "{failed:?}");
    let received = couple.two.next_completed(Server);
    assert!(received.status != Status::Success, "{received:?}");
    assert!(matches!(received.work, Work::Receive { len: 0, .. }));
}

pub(crate) fn disconnecting_flushes_what_is_posted_and_says_when_all_is_back<P: Place>() {
    let mut couple = Couple::<P>::new();
    let dialled = couple.dialled;
    couple.two.client.fabric.disconnect(dialled);
    // Posted to a queue pair in error: it comes back as well.
    couple.sender().inline(b"late", mark(1)).unwrap();
    let (mut receives, mut sends, mut is_drained) = (0, 0, false);
    couple.two.until("the last to come back", |two| {
        while let Some(event) = two.client.events.pop_front() {
            is_drained |= event == Event::Drained { connection: dialled };
        }
        while let Some(completed) = two.client.completed.pop_front() {
            assert_eq!(completed.connection, dialled);
            match completed.work {
                Work::Receive { len, .. } => {
                    assert_eq!((completed.status, len), (Status::Flushed, 0));
                    receives += 1;
                }
                Work::Send { tag, .. } => {
                    let status = completed.status;
                    assert!(matches!(status, Status::Flushed | Status::NotPosted(_)), "{status:?}");
                    assert_eq!(tag, 1);
                    sends += 1;
                }
                Work::Read { .. } => panic!("nobody posted a READ"),
            }
        }
        (is_drained && sends == 1).then_some(())
    });
    assert_eq!(receives, RECEIVES);
    couple.two.client.fabric.disconnect(dialled);
    let cause = couple.two.next_event(Server, "the end", |event| match event {
        Event::Disconnected { cause, .. } => Some(cause),
        _ => None,
    });
    assert_eq!(cause, Cause::Peer);
}

pub(crate) fn a_send_before_the_connection_stands_comes_back_refused<P: Place>() {
    let mut two = Two::<P>::new();
    let (_, address) = two.listen();
    let (dialled, device, _) = two.dial(address, &SHAPE);
    two.client.post_receives(dialled, device, 3);
    two.client.send(dialled, device, b"too early", mark(4));
    two.client.sender(dialled).inline(b"and this", quiet(5)).unwrap();
    for tag in [4, 5] {
        let refused = two.next_sent(Client);
        assert!(matches!(refused.status, Status::NotPosted(errno) if errno != 0), "{refused:?}");
        assert!(matches!(refused.work, Work::Send { tag: its, .. } if its == tag), "{refused:?}");
    }
    two.drain(Client, dialled);
    two.client.completed.clear();
    two.client.fabric.destroy(dialled);
    assert_eq!(two.client.pool.usage().lent_slots, 0);
}

pub(crate) fn a_fabric_dropped_in_mid_conversation_gives_all_memory_back<P: Place>() {
    let mut couple = Couple::<P>::new();
    couple.send(b"last words", mark(0));
    let pool = couple.two.client.pool.clone();
    assert_eq!(pool.usage().lent_slots, RECEIVES as usize + 1);
    drop(couple);
    assert_eq!(pool.usage().lent_slots, 0);
}
