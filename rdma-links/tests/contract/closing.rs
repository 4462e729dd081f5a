//! The end of a connection, begun by either side at every step of its way; and what was under way then.

use rdma_links::fabric::{
    ConnectionId, DeviceId, Dial, Event, Fabric, PrivateData, Reach, Remote, Sender, Status, Work,
};
use std::time::Duration;

use super::ends::{Client, Couple, Place, Plan, RECEIVES, SHAPE, Server, Side, TERMS, Two, mark, quiet};

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Dialled,
    Resolved,
    Queued,
    Asking,
    Asked,
    ServerQueued,
    Accepted,
    ClientEstablished,
    Established,
    Talking,
}

const STEPS: [Step; 10] = [
    Step::Dialled,
    Step::Resolved,
    Step::Queued,
    Step::Asking,
    Step::Asked,
    Step::ServerQueued,
    Step::Accepted,
    Step::ClientEstablished,
    Step::Established,
    Step::Talking,
];

/// How somebody ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Drain,
    Destroy,
}

/// Goes as far as `last`. Both connections, as far as there are any.
fn go<P: Place>(two: &mut Two<P>, last: Step) -> (ConnectionId, Option<ConnectionId>) {
    let (_, to) = two.listen();
    let dial = Dial { to, from: None, timeout: Duration::from_secs(20) };
    let dialled = two.client.fabric.dial(&dial, &two.place.options()).unwrap();
    if last == Step::Dialled {
        return (dialled, None);
    }
    let device = two.next_event(Client, "a route", |event| match event {
        Event::Resolved { device, .. } => Some(device),
        _ => None,
    });
    if last == Step::Resolved {
        return (dialled, None);
    }
    two.client.fabric.create_queue(dialled, &SHAPE).unwrap();
    two.client.post_receives(dialled, device, 3);
    if last == Step::Queued {
        return (dialled, None);
    }
    two.client.fabric.connect(dialled, &PrivateData::EMPTY, &TERMS).unwrap();
    if last == Step::Asking {
        return (dialled, None);
    }
    let (accepted, server_device, _) = two.asked();
    if last > Step::Asked {
        two.server.fabric.create_queue(accepted, &SHAPE).unwrap();
        two.server.post_receives(accepted, server_device, 3);
    }
    if last > Step::ServerQueued {
        two.server.fabric.accept(accepted, &PrivateData::EMPTY, &TERMS).unwrap();
    }
    if last > Step::Accepted {
        two.established(Client, dialled);
    }
    if last > Step::ClientEstablished {
        two.established(Server, accepted);
    }
    if last > Step::Established {
        two.client.send(dialled, device, b"to the server", quiet(1));
        two.server.send(accepted, server_device, b"to the client", quiet(2));
    }
    (dialled, Some(accepted))
}

fn is_end(event: &Event, which: ConnectionId) -> bool {
    matches!(event, Event::Disconnected { connection, .. } | Event::Unreachable { connection, .. }
        | Event::Rejected { connection, .. } if *connection == which)
}

fn end<P: Place>(two: &mut Two<P>, side: Side, which: ConnectionId, how: End) {
    if how == End::Drain {
        two.drain(side, which);
        // Once is enough.
        two.end(side).fabric.disconnect(which);
        two.end(side).look();
        let again = two.end(side).events.iter().any(|event| *event == Event::Drained { connection: which });
        assert!(!again, "it is drained once");
    }
    two.end(side).fabric.destroy(which);
    two.end(side).completed.clear();
}

pub(crate) fn a_connection_can_end_at_every_step_from_either_side<P: Place>() {
    for step in STEPS {
        for how in [End::Drain, End::Destroy] {
            for first in [Client, Server] {
                let mut two = Two::<P>::new();
                let (dialled, accepted) = go(&mut two, step);
                let what = format!("the other side's news of {how:?} by the {first:?} at {step:?}");
                match (first, accepted) {
                    (Server, None) => continue,
                    (Server, Some(accepted)) => {
                        end(&mut two, Server, accepted, how);
                        two.next_event(Client, &what, |event| is_end(&event, dialled).then_some(()));
                        end(&mut two, Client, dialled, End::Drain);
                    }
                    (Client, None) => end(&mut two, Client, dialled, how),
                    (Client, Some(accepted)) => {
                        end(&mut two, Client, dialled, how);
                        // Who has not said yes may hear of it by saying so, if not before.
                        if step >= Step::Accepted {
                            two.next_event(Server, &what, |event| is_end(&event, accepted).then_some(()));
                        }
                        end(&mut two, Server, accepted, End::Drain);
                    }
                }
                assert_eq!((two.client.pool.usage().lent_slots, two.server.pool.usage().lent_slots), (0, 0));
            }
        }
    }
}

pub(crate) fn what_is_posted_after_the_end_is_refused_or_comes_back<P: Place>() {
    let mut couple = Couple::<P>::with(&Plan { receives: RECEIVES / 2, ..Plan::default() });
    let (dialled, device) = (couple.dialled, couple.client_device);
    couple.two.client.fabric.disconnect(dialled);
    let mut late = vec![couple.two.client.buffer(device, 100)];
    assert!(couple.two.client.fabric.post_receives(dialled, &mut late).is_err());
    assert_eq!(late.len(), 1, "receives stay with the caller");
    couple.sender().inline(b"late", mark(1)).unwrap();
    let late = couple.two.next_sent(Client);
    assert!(matches!(late.status, Status::Flushed | Status::NotPosted(_)), "{late:?}");
    couple.two.drain(Client, dialled);
}

/// The peer's wrong key takes both queue pairs away; one side goes on for a while, as it does not know.
pub(crate) fn what_is_posted_to_a_failed_queue_pair_comes_back_once_it_is_disconnected<P: Place>() {
    let mut couple = Couple::<P>::with(&Plan { receives: RECEIVES / 2, ..Plan::default() });
    let (dialled, accepted, server_device) = (couple.dialled, couple.accepted, couple.server_device);
    let target = couple.two.client.pool.take(4096).unwrap();
    {
        let mut sender = couple.sender();
        let target = sender.lend(target);
        sender.read(target, 0..4096, Remote { address: 4096, key: 0x00de_ad00 }, mark(1)).unwrap();
    }
    let refused = couple.two.next_sent(Client).status;
    assert!(refused == Status::RemoteAccess || !P::QUEUE_PAIRS && refused != Status::Success, "{refused:?}");
    let mut two = couple.two;
    two.server.post_receives(accepted, server_device, RECEIVES / 4);
    two.server.send(accepted, server_device, b"into the void", mark(7));
    two.server.post_receives(accepted, server_device, RECEIVES / 4);
    two.drain(Client, dialled);
    two.drain(Server, accepted);
    let (mut receives, mut sends) = (0, 0);
    for completed in two.server.completed.drain(..) {
        assert_ne!(completed.status, Status::Success, "{completed:?}");
        match completed.work {
            Work::Receive { .. } => receives += 1,
            _ => sends += 1,
        }
    }
    assert_eq!((receives, sends), (RECEIVES, 1));
    two.server.fabric.destroy(accepted);
    assert_eq!(two.server.pool.usage().lent_slots, 0);
}

/// Every READ comes back, read or not, and then the target does.
fn end_with_reads_under_way<P: Place>(by: Side) {
    const PIECES: u32 = 4;
    let mut couple = Couple::<P>::new();
    let source = couple.two.server.pool.take(1 << 20).unwrap().freeze();
    let pinned = couple.two.server.memory(couple.server_device).pin(source, Reach::Peer).unwrap();
    let target = couple.two.client.pool.take(1 << 20).unwrap();
    let target = {
        let mut sender = couple.sender();
        let target = sender.lend(target);
        let piece = (1 << 20) / PIECES as usize;
        for at in 0..PIECES {
            let start = at as usize * piece;
            let from = Remote { address: pinned.remote().address + start as u64, key: pinned.remote().key };
            sender.read(target, start..start + piece, from, quiet(at)).unwrap();
        }
        target
    };
    let (dialled, accepted) = (couple.dialled, couple.accepted);
    let mut two = couple.two;
    if by == Server {
        two.drain(Server, accepted);
    }
    two.drain(Client, dialled);
    let mut tags = 0..PIECES;
    for completed in two.client.completed.drain(..) {
        if let Work::Read { tag, target: its } = completed.work {
            assert_eq!((Some(tag), its), (tags.next(), target));
        }
    }
    assert_eq!(tags.next(), None, "all are back");
    assert!(two.client.fabric.reclaim(dialled, target).is_some());
}

pub(crate) fn reads_under_way_come_back_when_their_connection_ends<P: Place>() {
    for by in [Client, Server] {
        end_with_reads_under_way::<P>(by);
    }
}

/// Opens a second connection beside one that ends.
pub(crate) fn the_end_of_one_connection_leaves_the_device_to_the_next<P: Place>() {
    let couple = Couple::<P>::new();
    let devices: (DeviceId, DeviceId) = (couple.client_device, couple.server_device);
    let mut two = couple.part();
    for _ in 0..3 {
        let couple = Couple::between(two, &Plan::default());
        assert_eq!((couple.client_device, couple.server_device), devices);
        two = couple.part();
    }
}
