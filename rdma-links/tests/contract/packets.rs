//! Packets: inline, out of a buffer, gathered; signalled or not.

use rdma_links::fabric::{Fabric, PostError, Reach, Sender, Splice, Status, Work};
use transport_core::{Armed, Frame};

use super::ends::{Client, Couple, PACKET, Place, RECEIVES, Server, mark, quiet};

pub(crate) fn a_packet_crosses_and_its_buffers_come_back<P: Place>() {
    let mut couple = Couple::<P>::new();
    let bytes: Vec<u8> = (0..3000_u32).map(|at| (at % 251) as u8).collect();
    couple.send(&bytes, mark(77));
    let (connection, buffer, len) = couple.two.next_packet(Server);
    assert_eq!(connection, couple.accepted);
    assert_eq!(&buffer[..len], &bytes[..]);
    let sent = couple.two.next_completed(Client);
    assert_eq!((sent.connection, sent.status), (couple.dialled, Status::Success));
    assert!(
        matches!(sent.work, Work::Send { tag: 77, buffer: Some(ref buffer) } if buffer[..3000] == bytes[..])
    );
    couple.part();
}

pub(crate) fn inline_packets_leave_their_bytes_with_the_caller<P: Place>() {
    let mut couple = Couple::<P>::new();
    let inline_max = couple.limits.inline;
    assert!(inline_max >= 64, "{:?}", couple.limits);
    {
        let mut sender = couple.sender();
        let mut bytes = vec![0; inline_max + 1];
        for tag in 0..3_u8 {
            bytes.fill(tag);
            sender.inline(&bytes[..64], quiet(tag.into())).unwrap();
        }
        bytes.fill(9);
        assert_eq!(sender.inline(&bytes[..=inline_max], mark(9)), Err(PostError::TooLarge));
        sender.inline(&[], mark(3)).unwrap();
    }
    for tag in 0..3_u8 {
        let (_, buffer, len) = couple.two.next_packet(Server);
        assert_eq!((len, buffer[..len].iter().all(|byte| *byte == tag)), (64, true));
    }
    assert_eq!(couple.two.next_packet(Server).2, 0);
    for tag in 0..=3_u32 {
        let sent = couple.two.next_completed(Client);
        assert!(matches!(sent.work, Work::Send { tag: its, buffer: None } if its == tag), "{sent:?}");
    }
    couple.part();
}

pub(crate) fn unsignalled_sends_come_back_in_order_and_never_fill_the_queue<P: Place>() {
    let mut couple = Couple::<P>::new();
    let (mut posted, mut back, mut received) = (0_u32, 0_u32, 0_u32);
    const ALL: u32 = 500;
    while back < ALL - couple.limits.sends as u32 || received < ALL {
        // Never more under way than there are receives, as a driver's credits would have it.
        while posted < ALL && posted - received < RECEIVES {
            let mut sender = couple.sender();
            if sender.room() == 0 {
                break;
            }
            sender.inline(&posted.to_le_bytes(), quiet(posted)).unwrap();
            posted += 1;
        }
        let mut taken = Vec::new();
        couple.two.until("progress", |two| {
            while let Some(completed) = two.client.completed.pop_front() {
                assert_eq!(completed.status, Status::Success);
                assert!(matches!(completed.work, Work::Send { tag, .. } if tag == back), "{completed:?}");
                back += 1;
            }
            while let Some(completed) = two.server.completed.pop_front() {
                let Work::Receive { buffer, len } = completed.work else { panic!("{completed:?}") };
                assert_eq!(buffer[..len], received.to_le_bytes());
                received += 1;
                taken.push(buffer);
            }
            (!taken.is_empty()).then_some(())
        });
        couple.two.server.fabric.post_receives(couple.accepted, &mut taken).unwrap();
    }
    couple.part();
}

pub(crate) fn what_was_not_signalled_comes_back_all_the_same_when_it_is_over<P: Place>() {
    let mut couple = Couple::<P>::new();
    couple.send(b"first", quiet(1));
    couple.send(b"second", quiet(2));
    assert_eq!((couple.two.next_packet(Server).2, couple.two.next_packet(Server).2), (5, 6));
    couple.two.client.look();
    assert!(!P::QUEUE_PAIRS || couple.two.client.completed.is_empty(), "nothing asked for a completion");
    let dialled = couple.dialled;
    couple.two.drain(Client, dialled);
    for tag in [1, 2] {
        let sent = couple.two.next_sent(Client);
        assert!(matches!(sent.work, Work::Send { tag: its, buffer: Some(_) } if its == tag), "{sent:?}");
    }
    assert!(
        !couple.two.client.completed.iter().any(|it| !matches!(it.work, Work::Receive { .. })),
        "nothing else"
    );
}

pub(crate) fn a_packet_is_gathered_from_its_buffer_and_shared_frames<P: Place>() {
    let mut couple = Couple::<P>::new();
    let client = &mut couple.two.client;
    let memory = client.memory(couple.client_device);
    let frame = |len: usize, byte: u8| {
        let mut frame = client.pool.take(len).unwrap();
        frame.fill(byte);
        frame.freeze()
    };
    let (one, two) = (frame(1000, 1), frame(300, 2));
    let pin = |frame: &Frame| memory.pin(frame.clone(), Reach::Device).unwrap();
    let mut splices = vec![Splice { at: 16, body: pin(&one) }, Splice { at: 32, body: pin(&two) }];
    // A frame is a piece, and so is what stands between.
    splices.truncate(couple.limits.gather.saturating_sub(1) / 2);
    assert!(!splices.is_empty(), "{:?}", couple.limits);
    let seconds = if splices.len() == 2 { &two[..] } else { &[] };
    let mut buffer = client.buffer(couple.client_device, 256);
    buffer.fill(0xab);
    couple.sender().send(buffer, 48, &mut splices, mark(5)).unwrap();
    assert!(splices.is_empty());

    let (_, got, len) = couple.two.next_packet(Server);
    let expected = [&[0xab; 16][..], &[1; 1000], &[0xab; 16], seconds, &[0xab; 16]].concat();
    assert_eq!(&got[..len], &expected[..]);
    let sent = couple.two.next_completed(Client);
    assert!(matches!(sent.work, Work::Send { tag: 5, buffer: Some(_) }));
    drop((sent, got, one, two));
    let two = couple.part();
    assert_eq!((two.server.pool.usage().lent_slots, two.client.pool.usage().lent_slots), (0, 0));
}

pub(crate) fn what_does_not_fit_is_refused_and_stays_with_the_caller<P: Place>() {
    let mut couple = Couple::<P>::new();
    let memory = couple.two.client.memory(couple.client_device);
    let pool = couple.two.client.pool.clone();
    let pin = |len: usize| memory.pin(pool.take(len).unwrap().freeze(), Reach::Device).unwrap();
    let mut splices: Vec<_> = (0..couple.limits.gather).map(|at| Splice { at, body: pin(100) }).collect();
    let buffer = couple.two.client.buffer(couple.client_device, 256);
    let (error, buffer) = couple.sender().send(buffer, 100, &mut splices, mark(0)).unwrap_err();
    assert_eq!((error, splices.len()), (PostError::TooLarge, couple.limits.gather));
    let (error, buffer) = couple.sender().send(buffer, 257, &mut Vec::new(), mark(0)).unwrap_err();
    assert_eq!(error, PostError::TooLarge);
    let mut unordered = vec![Splice { at: 9, body: pin(100) }, Splice { at: 3, body: pin(100) }];
    let (error, _) = couple.sender().send(buffer, 100, &mut unordered, mark(0)).unwrap_err();
    assert_eq!(error, PostError::TooLarge);
    // Memory that no pool has is too short to be registered for itself, so it must be copied. (A device that sends from any
    // memory needs no key.)
    assert!(!P::QUEUE_PAIRS || memory.pin(Frame::copy_from_slice(&[1; 5000]), Reach::Device).is_err());
    assert!(memory.pin(Frame::copy_from_slice(&[1; 5000]), Reach::Peer).is_err());
    // A queue that is full takes no more, and a receive queue neither.
    {
        let mut sender = couple.sender();
        while sender.room() > 0 {
            sender.inline(b"x", quiet(0)).unwrap();
        }
        assert_eq!(sender.inline(b"x", quiet(0)), Err(PostError::Full));
    }
    let mut more = vec![couple.two.client.buffer(couple.client_device, PACKET)];
    assert!(couple.two.client.fabric.post_receives(couple.dialled, &mut more).is_err());
    assert_eq!(more.len(), 1);
}

pub(crate) fn a_ring_of_many_packets_arrives_whole<P: Place>() {
    let mut couple = Couple::<P>::new();
    // As many as one ring takes, and the queue.
    let count = RECEIVES.min(couple.limits.sends as u32);
    let mut buffers: Vec<_> =
        (0..count).map(|_| couple.two.client.buffer(couple.client_device, PACKET)).collect();
    {
        let mut sender = couple.sender();
        for tag in 0..count {
            let mut buffer = buffers.pop().unwrap();
            buffer.fill(tag as u8);
            sender.send(buffer, 2000, &mut Vec::new(), quiet(tag)).unwrap();
        }
    }
    for tag in 0..count {
        let (_, buffer, len) = couple.two.next_packet(Server);
        assert_eq!((len, buffer[0], buffer[len - 1]), (2000, tag as u8, tag as u8));
    }
    couple.part();
}

pub(crate) fn packets_go_both_ways_at_once_in_order<P: Place>() {
    let mut couple = Couple::<P>::new();
    for at in 0..RECEIVES {
        couple.send(&at.to_le_bytes(), quiet(at));
        couple.two.server.send(couple.accepted, couple.server_device, &at.to_le_bytes(), quiet(at));
    }
    for at in 0..RECEIVES {
        for side in [Client, Server] {
            let (_, buffer, len) = couple.two.next_packet(side);
            assert_eq!(buffer[..len], at.to_le_bytes(), "{side:?}");
        }
    }
    couple.part();
}

pub(crate) fn a_completion_before_the_arming_keeps_the_caller_awake<P: Place>() {
    let mut couple = Couple::<P>::new();
    couple.sender().inline(b"early", mark(0)).unwrap();
    // The send is back, so that the packet is there: unseen, as only the client looks.
    couple.two.until("the send", |two| (!std::mem::take(&mut two.client.completed).is_empty()).then_some(()));
    couple.sender().inline(b"later", mark(0)).unwrap();
    let Couple { two, .. } = &mut couple;
    two.client.look();
    while two.client.completed.is_empty() {
        if two.client.fabric.arm() == Armed::Ready {
            assert!(two.place.sleep(&mut [&mut two.client.fabric]));
        }
        two.client.look();
    }
    let before = two.server.completed.len();
    assert_eq!(two.server.fabric.arm(), Armed::Busy);
    assert_eq!(two.server.fabric.arm(), Armed::Busy, "until it is fetched");
    two.server.look();
    assert!(two.server.completed.len() > before);
    couple.part();
}
