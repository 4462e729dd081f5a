//! How endpoints end: by whoever, in whatever order, everything that was posted comes back or is dropped.

use fabriq_transport_ofi::device::{Completion, Kind, Work};

use crate::on_each_provider;
use crate::world::{End, Pair, SHAPE, kind_of, local, meet, offer, wait_for};

on_each_provider! {
    fn closing_gives_everything_back(pair: Pair) {
        let (frame, buffer) = (pair.left.frame(100), pair.left.buffer(100));
        let target = pair.left.endpoint().lend(frame);
        let lent = pair.left.pool.usage().lent_slots;
        assert_eq!(lent, SHAPE.receives + 2);
        pair.send_left(buffer, 100, &mut Vec::new(), 4);
        let (mut receives, mut sends, mut frames) = (0, 0, 0);
        pair.left.endpoint.take().unwrap().close(
            |work| match work {
                Work::Receive { len: 0, .. } => receives += 1,
                Work::Send { tag: 4, buffer: Some(_) } => sends += 1,
                other => panic!("{other:?}"),
            },
            |id, _| {
                assert_eq!(id, target);
                frames += 1;
            },
        );
        // Over shared memory a peer of the same process stands on it, and on what it sends, until it goes as well.
        let stays = usize::from(pair.left.fabric.provider() == "shm");
        assert_eq!((receives, sends, frames), (SHAPE.receives, 1 - stays, 1));
        assert_eq!(pair.left.pool.usage().lent_slots, stays);
        pair.right.endpoint = None;
        assert_eq!(pair.left.pool.usage().lent_slots, 0);
        assert_eq!(pair.left.queue.remembered(), 1);
        wait_for("an empty queue", || (!pair.left.poll()).then_some(()));
        assert_eq!(pair.left.queue.remembered(), 0);
    }

    fn things_may_be_dropped_in_any_order(pair: Pair) {
        let Pair { left, right, listener } = pair;
        let End { endpoint, queue, events, peers, domain, fabric, pool, .. } = left;
        let lent = pool.usage().lent_slots;
        assert_eq!(lent, SHAPE.receives);
        drop((fabric, domain, events, peers, queue, listener));
        drop(endpoint);
        assert_eq!(pool.usage().lent_slots, 0);
        let End { endpoint, queue, events, peers, domain, fabric, pool, .. } = right;
        drop(pool);
        drop((endpoint, peers, events));
        drop((domain, queue, fabric));
    }

    fn a_domain_that_is_closed_registers_nothing_more_and_keeps_what_is_in_use(pair: Pair) {
        let frame = pair.left.frame(1 << 20);
        pair.left.domain.close();
        assert!(pair.left.pool.take_for(100_000, pair.left.domain.memory()).is_none());
        assert!(pair.left.domain.last_refusal().is_some());
        pair.push_left(|left| left.inject(b"still"));
        assert_eq!(pair.receive_right(), b"still");
        pair.left.endpoint = None;
        drop(frame);
        let Pair { left, right, .. } = pair;
        drop(right);
        let End { queue, events, peers, domain, pool, .. } = left;
        drop((queue, events, peers));
        assert_eq!(domain.regions(), 0, "the domain itself is gone");
        drop(pool);
    }
}

/// The completions of an endpoint that was closed are not taken for those of the next.
fn stale_completions(provider: &str) {
    let mut pair = Pair::new(provider);
    for round in 0..SHAPE.receives as u8 {
        pair.push_left(|left| left.copy(&[round], 0));
    }
    let mut stale: Vec<Completion> = Vec::new();
    wait_for("a completion", || {
        let Pair { left, right, .. } = &mut pair;
        left.poll();
        right.queue.poll(&mut right.batch).unwrap();
        stale.extend(&mut right.batch);
        (!stale.is_empty()).then_some(())
    });
    assert!(stale.iter().all(|completion| completion.cookie() == Some(2)));
    pair.right.endpoint = None;
    if kind_of(provider) == Kind::Connected {
        return;
    }
    let info = offer(provider, Kind::Unconnected, local(provider));
    pair.right.open(&info, 2);
    let lent = pair.right.pool.usage().lent_slots;
    for completion in stale {
        assert!(pair.right.endpoint().retire(completion).is_none());
    }
    wait_for("an empty queue", || (!pair.right.poll()).then_some(()));
    assert!(pair.right.done.is_empty());
    assert_eq!(pair.right.pool.usage().lent_slots, lent);
    // The new one works.
    let Pair { left, right, .. } = &mut pair;
    meet(left, right);
    pair.push_left(|left| left.inject(b"anew"));
    assert_eq!(pair.receive_right(), b"anew");
}

#[test]
fn completions_of_a_closed_endpoint_are_nobodys_on_tcp() {
    stale_completions("tcp");
}

#[test]
fn completions_of_a_closed_endpoint_are_nobodys_on_net() {
    stale_completions("net");
}

#[test]
fn completions_of_a_closed_endpoint_are_nobodys_on_tcp_rxm() {
    stale_completions("tcp;ofi_rxm");
}

#[test]
fn completions_of_a_closed_endpoint_are_nobodys_on_shm() {
    stale_completions("shm");
}
