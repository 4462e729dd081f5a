//! Who goes first: whatever is dropped in whatever order, nothing breaks and nothing is left.

use fabriq_transport_verbs::device::{
    CompletionChannel, CompletionQueue, Context, ProtectionDomain, QueuePair, device_names,
};
use fabriq_transport_verbs::fabric::{QueueShape, Reach, Receives, Sender};
use fabriq_transport_verbs::sys::Libraries;
use transport_core::{FramePool, OpenId, Slab, SlabKey};

use crate::contract::ends::{Couple, SHAPE, Server, mark};
use crate::hardware::{Hardware, alone};

#[test]
fn a_pin_outlives_its_fabric_harmlessly() {
    let couple = Couple::<Hardware>::new();
    let memory = couple.two.server.memory(couple.server_device);
    let pool_frame = couple.two.server.pool.take(4096).unwrap().freeze();
    let pinned = memory.pin(pool_frame, Reach::Peer).unwrap();
    let alone_frame = transport_core::Frame::from(vec![1_u8; 1 << 20]);
    let registered = memory.pin(alone_frame, Reach::Peer).unwrap();
    assert!(registered.is_registered_alone());
    drop(couple);
    drop((pinned, registered));
    assert!(memory.pin(transport_core::Frame::from(vec![1_u8; 1 << 20]), Reach::Peer).is_err());
}

#[test]
fn objects_hold_what_they_stand_on() {
    let _alone = alone();
    let libraries = Libraries::load().unwrap();
    let names = device_names(libraries).unwrap();
    let context = Context::open(libraries, &names[0]).unwrap();
    assert_eq!(context.info().name, names[0]);
    assert!(Context::open(libraries, "no-such-device").is_err());
    assert!(context.port(1).unwrap().is_active);

    let channel = CompletionChannel::new(&context).unwrap();
    let queue = CompletionQueue::new(&channel, 64, 7).unwrap();
    let domain = ProtectionDomain::new(&context).unwrap();
    let mut owners: Slab<OpenId, ()> = Slab::new();
    let owner = SlabKey::from(owners.insert(()));
    let shape = QueueShape { sends: 4, receives: Receives::Own(4), ..SHAPE };
    let pair = QueuePair::new(&domain, &queue, None, &shape, owner).unwrap();
    assert!(pair.limits().sends >= 4 && pair.is_idle());

    let pool = FramePool::new(1 << 20);
    let buffer = domain.memory().buffer(pool.take(1000).unwrap()).unwrap();
    assert_eq!(domain.regions(), 1);
    assert!(context.holders() > 1);
    // In the wrong order, from the bottom up.
    drop((channel, queue));
    domain.close();
    assert_eq!(domain.regions(), 0);
    assert!(context.holders() > 1, "the queue pair is still there");
    drop(pair);
    assert_eq!(context.holders(), 1, "nothing else holds the device open, though the pool lives on");
    drop((buffer, context));
}

#[test]
fn a_forked_child_that_drops_everything_leaves_the_parent_its_connection() {
    let couple = Couple::<Hardware>::new();
    // SAFETY: the child touches only what it drops, allocates nothing that another thread's lock could guard but the
    // allocator's own (which glibc keeps usable across fork), and leaves by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        drop(couple);
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `child` is ours and was not waited for; `status` is an int.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    let mut couple = couple;
    couple.sender().inline(b"still here", mark(0)).unwrap();
    let (_, buffer, len) = couple.two.next_packet(Server);
    assert_eq!(&buffer[..len], b"still here");
    couple.two.client.completed.clear();
    couple.part();
}
