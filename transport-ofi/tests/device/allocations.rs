//! Posting and polling allocate nothing of ours once warm. (What a provider allocates in C is not counted.)

use fabriq_transport_ofi::device::{Reach, Splice, Work};

use crate::on_each_provider;

on_each_provider! {
    fn posting_and_polling_allocate_nothing_once_warm(pair: Pair) {
        let mut inner = pair.left.frame(500);
        inner.fill(9);
        let inner = inner.freeze();
        let mut source = pair.right.frame(4000);
        source.fill(8);
        let source = pair.right.domain.pin(source.freeze(), Reach::Peer).unwrap();
        let mut buffer = Some(pair.left.buffer(100));
        let mut frame = Some(pair.left.frame(4000));
        let mut splices = Vec::with_capacity(1);
        let mut spent = Vec::with_capacity(1);
        let mut round = |pair: &mut crate::world::Pair| {
            let body = pair.left.domain.pin(inner.clone(), Reach::Device).unwrap();
            splices.push(Splice { at: 50, body });
            pair.send_left(buffer.take().unwrap(), 100, &mut splices, 1);
            let target = pair.left.endpoint().lend(frame.take().unwrap());
            pair.read_left(target, 0..4000, source.remote(), 2);
            let mut received = false;
            while buffer.is_none() || frame.is_none() || !received {
                pair.poll();
                while let Some((work, failure)) = pair.left.done.pop_front() {
                    assert!(failure.is_none());
                    match work {
                        Work::Send { buffer: back, .. } => buffer = back,
                        Work::Read { target, .. } => frame = pair.left.endpoint().reclaim(target),
                        Work::Receive { .. } => panic!("nobody sent"),
                    }
                }
                while let Some((work, failure)) = pair.right.done.pop_front() {
                    let Work::Receive { buffer, len: 600, .. } = work else { panic!("{work:?}") };
                    assert!(failure.is_none());
                    spent.push(buffer);
                    pair.right.endpoint().post_receives(&mut spent).unwrap();
                    received = true;
                }
            }
        };
        (0..100).for_each(|_| round(&mut pair));
        let counted = allocation_counter::measure(|| (0..100).for_each(|_| round(&mut pair)));
        assert_eq!(counted.count_total, 0);
    }
}
