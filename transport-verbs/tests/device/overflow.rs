//! A completion queue that is too small, which the boundary never makes: what the device layer hears of it.

use fabriq_transport_verbs::device::{
    AsyncEvent, CmEventKind, CmId, CompletionChannel, CompletionQueue, Context, EventChannel,
    ProtectionDomain, QueuePair,
};
use fabriq_transport_verbs::fabric::{Buffer, Failure, QueueShape, Receives};
use fabriq_transport_verbs::sys::Libraries;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport_core::{FramePool, OpenId, Slab, SlabKey};

use crate::contract::ends::SHAPE;
use crate::hardware::{alone, device_address};

fn wait(fd: std::os::fd::BorrowedFd<'_>) {
    let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert!(poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&patience)).unwrap() > 0);
}

/// A queue pair with more receives than its completion queue has entries, bound to nobody: flushing them is too much.
#[test]
fn an_overflow_of_completions_is_an_asynchronous_event_with_the_queues_cookie() -> Result<(), Failure> {
    let _alone = alone();
    let libraries = Libraries::load().unwrap();
    let events = EventChannel::new(libraries)?;
    let mut id = CmId::new(&events, 1)?;
    let address = std::net::SocketAddr::new(device_address().unwrap(), 7471);
    id.resolve_address(None, address, std::time::Duration::from_secs(10))?;
    wait(events.fd());
    assert!(matches!(events.next_event(0).unwrap().kind, CmEventKind::AddressResolved));

    let context: Context = id.open_device()?;
    let channel = CompletionChannel::new(&context)?;
    let small = CompletionQueue::new(&channel, 1, 42)?;
    let domain = ProtectionDomain::new(&context)?;
    let receives = small.capacity() + 10;
    let shape = QueueShape { receives: Receives::Own(receives), ..SHAPE };
    let owner = SlabKey::from(Slab::<OpenId, ()>::new().insert(()));
    let mut pair = QueuePair::new(&domain, &small, None, &shape, owner)?;
    id.prepare(&mut pair)?;
    let (pool, memory) = (FramePool::new(16 << 20), domain.memory());
    let mut buffers: Vec<Buffer> =
        (0..receives).map(|_| memory.buffer(pool.take(256).unwrap()).unwrap()).collect();
    pair.post_receives(&mut buffers)?;
    pair.flush()?;

    wait(context.async_fd());
    let heard: Vec<_> = std::iter::from_fn(|| context.next_async_event()).collect();
    assert!(heard.contains(&AsyncEvent::CompletionsLost(42)), "{heard:?}");
    drop(pair);
    assert_eq!(pool.usage().lent_slots, 0);
    Ok(())
}
