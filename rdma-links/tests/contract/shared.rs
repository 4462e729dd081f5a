//! A receive queue that connections share.

use rdma_links::fabric::{Event, Fabric, PrivateData, QueueShape, Receives, Sender, Status, Work};

use super::ends::{Client, PACKET, Place, SHAPE, Server, TERMS, Two, mark};

pub(crate) fn connections_that_share_receives_get_their_own_packets_and_nothing_is_lost<P: Place>() {
    const LINKS: usize = 5;
    const SHARED: u32 = 32;
    const LOW: u32 = 8;
    let mut two = Two::<P>::new();
    let (_, address) = two.listen();
    let mut links = Vec::new();
    let shared = QueueShape { receives: Receives::Shared, ..SHAPE };
    for _ in 0..LINKS {
        let (dialled, client_device, _) = two.dial(address, &SHAPE);
        two.client.post_receives(dialled, client_device, 4);
        two.client.fabric.connect(dialled, &PrivateData::EMPTY, &TERMS).unwrap();
        let (accepted, device, _) = two.asked();
        let server = &mut two.server;
        if links.is_empty() {
            assert!(server.fabric.create_queue(accepted, &shared).is_err(), "nothing to share yet");
            server.fabric.share_receives(device, SHARED, LOW).unwrap();
            assert!(server.fabric.share_receives(device, SHARED, LOW).is_err(), "once");
            let mut buffers: Vec<_> = (0..=SHARED).map(|_| server.buffer(device, PACKET)).collect();
            assert!(server.fabric.post_shared_receives(device, &mut buffers).is_err());
            assert_eq!(buffers.len(), 1, "as many as it takes");
        }
        let limits = server.fabric.create_queue(accepted, &shared).unwrap();
        assert_eq!(limits.receives, 0);
        let mut own = vec![server.buffer(device, PACKET)];
        assert!(server.fabric.post_receives(accepted, &mut own).is_err());
        server.fabric.accept(accepted, &PrivateData::EMPTY, &TERMS).unwrap();
        two.established(Client, dialled);
        two.established(Server, accepted);
        links.push((dialled, accepted, device));
    }
    let device = links[0].2;

    // Each link's packets come out under its own name.
    for round in 0..4_u8 {
        for (at, (dialled, ..)) in links.iter().enumerate() {
            two.client.sender(*dialled).inline(&[at as u8, round], mark(0)).unwrap();
        }
        let mut taken = Vec::new();
        for _ in 0..LINKS {
            let (connection, buffer, len) = two.next_packet(Server);
            assert_eq!(len, 2);
            assert_eq!(connection, links[buffer[0] as usize].1);
            taken.push(buffer);
        }
        two.server.fabric.post_shared_receives(device, &mut taken).unwrap();
    }

    // Without new receives it runs low, and says so.
    let mut kept = Vec::new();
    for _ in 0..SHARED - LOW + 1 {
        two.client.sender(links[0].0).inline(b"x", mark(0)).unwrap();
        kept.push(two.next_packet(Server).1);
    }
    two.next_event(Server, "the low mark", |event| {
        (event == Event::SharedReceivesLow { device }).then_some(())
    });
    two.server.fabric.post_shared_receives(device, &mut kept).unwrap();

    // A connection that ends takes no receive with it: what it had taken comes back.
    for (dialled, accepted, _) in links.drain(1..) {
        two.drain(Server, accepted);
        two.server.fabric.destroy(accepted);
        two.client.fabric.destroy(dialled);
    }
    two.server.look();
    let mut back = Vec::new();
    while let Some(completed) = two.server.completed.pop_front() {
        if let Work::Receive { buffer, .. } = completed.work {
            assert_eq!(completed.status, Status::Flushed);
            back.push(buffer);
        }
    }
    two.server.fabric.post_shared_receives(device, &mut back).unwrap();
    for count in 0..SHARED {
        two.client.sender(links[0].0).inline(b"y", mark(0)).unwrap();
        let (connection, buffer, _) = two.next_packet(Server);
        assert_eq!(connection, links[0].1, "packet {count}");
        back.push(buffer);
    }
    drop(back);
    two.client.completed.clear();
    two.server.fabric.close_device(device);
    assert_eq!(two.server.pool.usage().lent_slots, 0, "nothing is posted any more");
}
