//! RDMA READ: out of one pool's frame straight into another's, and with memory that no pool has.

use std::ops::Range;

use rdma_links::fabric::{Event, Fabric, PostError, Reach, Remote, Sender, Status, Work};
use transport_core::{Frame, FrameMut};

use super::ends::{Client, Couple, Place, Server, mark, quiet};

/// READs a whole frame into a target, in so many pieces, and gives the target back.
fn read<P: Place>(couple: &mut Couple<P>, target: FrameMut, from: Remote, pieces: usize) -> FrameMut {
    let len = target.len();
    let place = |at: usize| -> Range<usize> { at * len / pieces..(at + 1) * len / pieces };
    let target = {
        let mut sender = couple.sender();
        let target = sender.lend(target);
        for at in 0..pieces {
            let from = Remote { address: from.address + place(at).start as u64, key: from.key };
            let signal = at + 1 == pieces;
            let mark = if signal { mark(at as u32) } else { quiet(at as u32) };
            sender.read(target, place(at), from, mark).unwrap();
        }
        target
    };
    assert!(couple.two.client.fabric.reclaim(couple.dialled, target).is_none(), "the device has it");
    for at in 0..pieces {
        let done = couple.two.next_completed(Client);
        assert_eq!(done.status, Status::Success, "{done:?}");
        assert!(matches!(done.work, Work::Read { tag, target: its } if tag == at as u32 && its == target));
    }
    couple.two.client.fabric.reclaim(couple.dialled, target).expect("everything is back")
}

fn pattern(frame: &mut [u8]) {
    for (at, byte) in frame.iter_mut().enumerate() {
        *byte = (at % 249) as u8 ^ (at >> 12) as u8;
    }
}

pub(crate) fn a_read_lands_in_the_frame_that_the_application_gets<P: Place>() {
    let mut couple = Couple::<P>::new();
    let mut source = couple.two.server.pool.take(1 << 20).unwrap();
    pattern(&mut source);
    let source = source.freeze();
    let memory = couple.two.server.memory(couple.server_device);
    let pinned = memory.pin(source.clone(), Reach::Peer).unwrap();
    let is_its = pinned.remote().address == source.as_ptr() as u64;
    assert!(is_its || !P::QUEUE_PAIRS, "the announced address is the sender's frame");
    assert!(!pinned.is_registered_alone());

    let target = couple.two.client.pool.take(1 << 20).unwrap();
    let address = target.as_ptr();
    let target = read(&mut couple, target, pinned.remote(), 4).freeze();
    assert_eq!(target.as_ptr(), address, "the READ's target is the frame that comes out");
    assert!(target[..] == source[..]);
    drop((pinned, source, target));
    let two = couple.part();
    assert_eq!((two.server.pool.usage().lent_slots, two.client.pool.usage().lent_slots), (0, 0));
}

pub(crate) fn the_listener_reads_as_well_as_the_dialler<P: Place>() {
    let mut couple = Couple::<P>::new();
    let mut source = couple.two.client.pool.take(64 << 10).unwrap();
    pattern(&mut source);
    let source = source.freeze();
    let pinned = couple.two.client.memory(couple.client_device).pin(source.clone(), Reach::Peer).unwrap();
    let target = couple.two.server.pool.take(64 << 10).unwrap();
    let target = {
        let mut sender = couple.two.server.sender(couple.accepted);
        let target = sender.lend(target);
        sender.read(target, 0..64 << 10, pinned.remote(), mark(0)).unwrap();
        target
    };
    let done = couple.two.next_completed(Server);
    assert_eq!(done.status, Status::Success, "{done:?}");
    let fetched = couple.two.server.fabric.reclaim(couple.accepted, target).unwrap();
    assert!(fetched[..] == source[..]);
    couple.part();
}

pub(crate) fn memory_that_no_pool_has_is_registered_for_the_one_use<P: Place>() {
    let mut couple = Couple::<P>::new();
    let memory = couple.two.server.memory(couple.server_device);
    let mut bytes = vec![0; 3 << 20];
    pattern(&mut bytes);
    let source = Frame::from(bytes);
    let pinned = memory.pin(source.clone(), Reach::Peer).unwrap();
    assert!(pinned.is_registered_alone());

    let target = FrameMut::own(3 << 20).unwrap();
    let target = read(&mut couple, target, pinned.remote(), 5);
    assert!(target[..] == source[..]);
}

pub(crate) fn a_key_dies_with_its_pin<P: Place>() {
    let mut couple = Couple::<P>::new();
    let memory = couple.two.server.memory(couple.server_device);
    let pinned = memory.pin(Frame::from(vec![0; 1 << 20]), Reach::Peer).unwrap();
    assert!(pinned.is_registered_alone());
    let stale = pinned.remote();
    drop(pinned);
    {
        let mut sender = couple.sender();
        let target = sender.lend(FrameMut::own(4096).unwrap());
        sender.read(target, 0..4096, stale, mark(9)).unwrap();
    }
    let refused = couple.two.next_sent(Client);
    let is_refused = refused.status == Status::RemoteAccess;
    assert!(is_refused || !P::QUEUE_PAIRS && refused.status != Status::Success, "{refused:?}");
    assert!(matches!(refused.work, Work::Read { tag: 9, .. }));
}

/// A reader that has not heard yet that its link has ended gets nothing: what it was told of may hold other bytes by now.
pub(crate) fn nothing_is_read_of_a_link_that_has_ended<P: Place>() {
    for destroys in [false, true] {
        let mut couple = Couple::<P>::new();
        let memory = couple.two.server.memory(couple.server_device);
        let source = memory.pin(Frame::from(vec![7; 1 << 20]), Reach::Peer).unwrap();
        let server = &mut couple.two.server.fabric;
        if destroys {
            server.destroy(couple.accepted);
        } else {
            server.disconnect(couple.accepted);
        }
        {
            let mut sender = couple.sender();
            let target = sender.lend(FrameMut::own(4096).unwrap());
            sender.read(target, 0..4096, source.remote(), mark(9)).unwrap();
        }
        let dialled = couple.dialled;
        let read = couple.two.until("the READ to come back", |two| {
            let client = &mut two.client;
            let is_end = |event: &Event| matches!(event, Event::Disconnected { connection, .. } if *connection == dialled);
            if client.events.iter().any(is_end) {
                client.fabric.disconnect(dialled);
            }
            client.completed.drain(..).find(|it| matches!(it.work, Work::Read { .. }))
        });
        assert_ne!(read.status, Status::Success, "{read:?}");
    }
}

pub(crate) fn a_read_without_a_place_to_land_is_refused<P: Place>() {
    let mut couple = Couple::<P>::new();
    let frame = couple.two.client.pool.take(4096).unwrap();
    let from = Remote { address: 0, key: 0 };
    let stale = {
        let mut sender = couple.sender();
        let target = sender.lend(frame);
        assert_eq!(sender.read(target, 0..4097, from, mark(0)), Err(PostError::NoTarget));
        assert_eq!(sender.read(target, 5..5, from, mark(0)), Err(PostError::NoTarget));
        target
    };
    let client = &mut couple.two.client.fabric;
    assert_eq!(client.reclaim(couple.dialled, stale).map(|frame| frame.len()), Some(4096));
    assert!(client.reclaim(couple.dialled, stale).is_none());
    assert_eq!(couple.sender().read(stale, 0..1, from, mark(0)), Err(PostError::NoTarget));
}
