//! How connections come about, and how they do not.

use std::net::SocketAddr;

use rdma_links::PRIVATE_DATA_MAX;
use rdma_links::fabric::{Event, Fabric, PrivateData, Rejection, Sender, Terms};

use super::ends::{Client, Couple, PACKET, Place, Plan, RECEIVES, SHAPE, Server, TERMS, Two, mark};

fn said<P: Place>(seed: u8) -> PrivateData {
    let mut bytes: [u8; PRIVATE_DATA_MAX] = std::array::from_fn(|at| seed.wrapping_add(at as u8));
    bytes[P::PRIVATE_DATA..].fill(0);
    PrivateData::new(&bytes)
}

pub(crate) fn a_connection_carries_fifty_six_bytes_each_way<P: Place>() {
    let plan = Plan { asks: said::<P>(1), answers: said::<P>(100), ..Plan::default() };
    let couple = Couple::<P>::with(&plan);
    // A manager may pad what it carries.
    assert_eq!(couple.asked[..PRIVATE_DATA_MAX], plan.asks[..]);
    assert_eq!(couple.answered[..PRIVATE_DATA_MAX], plan.answers[..]);
    couple.part();
}

pub(crate) fn both_sides_agree_on_reads<P: Place>() {
    let plan = Plan {
        client_terms: Terms { initiator_depth: 2, responder_resources: 8, ..TERMS },
        server_terms: Terms { initiator_depth: 6, responder_resources: 2, ..TERMS },
        ..Plan::default()
    };
    let couple = Couple::<P>::with(&plan);
    assert_eq!(
        (couple.client_depth, couple.server_depth),
        (2, 6),
        "the less of what one wants and the other serves"
    );
    couple.part();
}

pub(crate) fn a_listener_says_no_with_private_data<P: Place>() {
    let mut two = Two::<P>::new();
    let (_, address) = two.listen();
    let (dialled, device, _) = two.dial(address, &SHAPE);
    two.client.post_receives(dialled, device, 4);
    two.client.fabric.connect(dialled, &said::<P>(7), &TERMS).unwrap();
    let (asker, _, private) = two.asked();
    assert_eq!(private[..PRIVATE_DATA_MAX], said::<P>(7)[..]);
    two.server.fabric.reject(asker, &said::<P>(50));
    let (rejection, private) = two.next_event(Client, "a rejection", |event| match event {
        Event::Rejected { connection, rejection, private } if connection == dialled => {
            Some((rejection, private))
        }
        _ => None,
    });
    assert_eq!(rejection, Rejection::Application);
    assert_eq!(private[..PRIVATE_DATA_MAX], said::<P>(50)[..]);
    two.client.fabric.destroy(dialled);
    assert_eq!(two.client.pool.usage().lent_slots, 0, "posted receives go home with their queue pair");
}

pub(crate) fn nobody_there_is_told_from_somebody_who_says_no<P: Place>() {
    let mut two = Two::<P>::new();
    // A port that was just free.
    let (listener, address) = two.listen();
    two.server.fabric.unlisten(listener);
    let (dialled, ..) = two.dial(address, &SHAPE);
    two.client.fabric.connect(dialled, &PrivateData::EMPTY, &TERMS).unwrap();
    let rejection = two.next_event(Client, "a rejection", |event| match event {
        Event::Rejected { rejection, .. } => Some(rejection),
        _ => None,
    });
    assert_eq!(rejection, Rejection::NoListener);
}

pub(crate) fn an_address_can_be_taken_once_and_a_wildcard_has_a_port<P: Place>() {
    let mut two = Two::<P>::new();
    let (first, address) = two.listen();
    assert_ne!(address.port(), 0);
    let again = two.server.fabric.listen(address, 4, &two.place.options()).unwrap_err();
    assert_eq!(again.errno, libc::EADDRINUSE, "{again}");
    two.server.fabric.unlisten(first);
    two.server.fabric.listen(address, 4, &two.place.options()).expect("the address is free again");
    let (_, everywhere) =
        two.server.fabric.listen("0.0.0.0:0".parse().unwrap(), 4, &two.place.options()).unwrap();
    assert_ne!(everywhere.port(), 0);
}

pub(crate) fn a_wildcard_listener_hears_of_a_device_by_its_first_request<P: Place>() {
    let mut two = Two::<P>::new();
    let (_, everywhere) =
        two.server.fabric.listen("0.0.0.0:0".parse().unwrap(), 4, &two.place.options()).unwrap();
    let address = SocketAddr::new(two.place.address().ip(), everywhere.port());
    let (dialled, ..) = two.dial(address, &SHAPE);
    two.client.fabric.connect(dialled, &PrivateData::EMPTY, &TERMS).unwrap();
    let (_, device, _) = two.asked();
    assert!(two.server.fabric.device(device).is_some_and(|info| info.message_max > 0));
    assert!(two.server.fabric.memory(device).is_some());
}

pub(crate) fn a_dialler_that_leaves_before_the_answer_is_no_connection<P: Place>() {
    let mut two = Two::<P>::new();
    let (_, address) = two.listen();
    let (dialled, ..) = two.dial(address, &SHAPE);
    two.client.fabric.connect(dialled, &PrivateData::EMPTY, &TERMS).unwrap();
    let (asker, ..) = two.asked();
    two.client.fabric.destroy(dialled);
    // The fabric may know by now, or find out.
    let fabric = &mut two.server.fabric;
    let accepted =
        fabric.create_queue(asker, &SHAPE).and_then(|_| fabric.accept(asker, &PrivateData::EMPTY, &TERMS));
    if accepted.is_ok() {
        two.next_event(Server, "the failure", |event| {
            matches!(event, Event::Unreachable { connection, .. } | Event::Rejected { connection, .. }
                | Event::Disconnected { connection, .. } if connection == asker)
            .then_some(())
        });
    }
    two.server.fabric.destroy(asker);
}

pub(crate) fn many_connections_keep_apart<P: Place>() {
    const LINKS: usize = 8;
    let mut two = Two::<P>::new();
    let (_, address) = two.listen();
    let mut links = Vec::new();
    for at in 0..LINKS as u8 {
        let (dialled, device, _) = two.dial(address, &SHAPE);
        two.client.post_receives(dialled, device, 2);
        two.client.fabric.connect(dialled, &PrivateData::new(&[at]), &TERMS).unwrap();
        let (accepted, device, asked) = two.asked();
        assert_eq!(asked[0], at);
        two.server.fabric.create_queue(accepted, &SHAPE).unwrap();
        two.server.post_receives(accepted, device, 2);
        two.server.fabric.accept(accepted, &PrivateData::EMPTY, &TERMS).unwrap();
        two.established(Client, dialled);
        two.established(Server, accepted);
        links.push((dialled, accepted));
    }
    for (at, (dialled, _)) in links.iter().enumerate() {
        two.client.sender(*dialled).inline(&[at as u8], mark(0)).unwrap();
    }
    let mut seen = [false; LINKS];
    for _ in 0..LINKS {
        let (connection, buffer, _) = two.next_packet(Server);
        assert_eq!(links[buffer[0] as usize].1, connection);
        assert!(!std::mem::replace(&mut seen[buffer[0] as usize], true));
    }
    // The end of one is not the end of another, and its place serves the next.
    let (dialled, accepted) = links[3];
    two.drain(Client, dialled);
    two.drain(Server, accepted);
    two.client.fabric.destroy(dialled);
    two.server.fabric.destroy(accepted);
    two.client.completed.clear();
    two.server.completed.clear();
    two.client.sender(links[4].0).inline(b"on", mark(0)).unwrap();
    let (connection, ..) = two.next_packet(Server);
    assert_eq!(connection, links[4].1);
    let (again, ..) = two.dial(address, &SHAPE);
    assert_ne!(again, dialled);
}

pub(crate) fn stale_ids_are_errors_or_nothing<P: Place>() {
    let couple = Couple::<P>::new();
    let (accepted, device) = (couple.accepted, couple.server_device);
    let mut two = couple.part();
    let server = &mut two.server;
    assert!(server.fabric.sender(accepted).is_none());
    assert!(server.fabric.create_queue(accepted, &SHAPE).is_err());
    assert!(server.fabric.connect(accepted, &PrivateData::EMPTY, &TERMS).is_err());
    assert!(server.fabric.accept(accepted, &PrivateData::EMPTY, &TERMS).is_err());
    let mut buffers = vec![server.buffer(device, PACKET)];
    assert!(server.fabric.post_receives(accepted, &mut buffers).is_err());
    assert_eq!(buffers.len(), 1);
    server.fabric.disconnect(accepted);
    server.fabric.destroy(accepted);
    server.fabric.reject(accepted, &PrivateData::EMPTY);
    server.fabric.close_device(device);
    assert!(server.fabric.device(device).is_none() && server.fabric.memory(device).is_none());
    assert!(server.fabric.share_receives(device, 8, 2).is_err());
    assert!(server.fabric.post_shared_receives(device, &mut buffers).is_err());
    server.fabric.close_device(device);
}

pub(crate) fn a_closed_device_opens_again_with_the_next_connection<P: Place>() {
    let mut couple = Couple::<P>::new();
    let memory = couple.two.client.memory(couple.client_device);
    couple.two.client.fabric.close_device(couple.client_device);
    assert!(couple.two.client.fabric.sender(couple.dialled).is_none(), "its connections went with it");
    let frame = couple.two.client.pool.take(300 << 10).unwrap();
    assert!(memory.buffer(frame).is_err(), "the old domain registers no more");
    let mut two = couple.two;
    two.client.completed.clear();
    let (dialled, device, _) = two.dial(couple.address, &SHAPE);
    assert_ne!(device, couple.client_device);
    two.client.post_receives(dialled, device, RECEIVES);
    two.client.fabric.connect(dialled, &PrivateData::EMPTY, &TERMS).unwrap();
    let (accepted, device, _) = two.asked();
    assert_eq!(device, couple.server_device);
    two.server.fabric.create_queue(accepted, &SHAPE).unwrap();
    two.server.post_receives(accepted, device, RECEIVES);
    two.server.fabric.accept(accepted, &PrivateData::EMPTY, &TERMS).unwrap();
    two.established(Client, dialled);
    two.server.completed.clear();
    two.client.sender(dialled).inline(b"again", mark(0)).unwrap();
    let (_, buffer, len) = two.next_packet(Server);
    assert_eq!(&buffer[..len], b"again");
}
