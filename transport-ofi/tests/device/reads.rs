//! READs of a peer's memory.

use fabriq_transport_ofi::device::{Info, Kind, PostError, Query, Reach, Remote, Work};
use transport_core::Frame;

use crate::on_each_provider;
use crate::world::{End, Pair, library, local, meet};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 253) as u8).collect()
}

on_each_provider! {
    fn a_read_lands_in_the_frame_that_was_lent(pair: Pair) {
        for len in [65, 4096, 100_000, 1 << 20] {
            let mut source = pair.right.frame(len);
            source.copy_from_slice(&pattern(len));
            let source = pair.right.domain.pin(source.freeze(), Reach::Peer).unwrap();
            assert!(!source.is_registered_alone());
            let frame = pair.left.frame(len);
            let target = pair.left.endpoint().lend(frame);
            let half = len / 2;
            let remote = source.remote();
            let rest = Remote { address: remote.address + half as u64, ..remote };
            pair.read_left(target, 0..half, remote, 5);
            pair.read_left(target, half..len, rest, 6);
            assert!(pair.left.endpoint().reclaim(target).is_none(), "two READs are out");
            let mut tags: Vec<_> = (0..2).map(|_| match pair.wait_left("a READ") {
                (Work::Read { tag, target: it }, None) if it == target => tag,
                other => panic!("{other:?}"),
            }).collect();
            tags.sort();
            assert_eq!(tags, [5, 6]);
            let frame = pair.left.endpoint().reclaim(target).unwrap();
            assert!(frame[..] == pattern(len)[..], "{len} bytes");
            assert!(pair.left.endpoint().reclaim(target).is_none(), "it is stale");
        }
    }

    fn many_reads_at_once_all_come_back(pair: Pair) {
        let len = 40_000;
        let mut source = pair.right.frame(len);
        source.copy_from_slice(&pattern(len));
        let source = pair.right.domain.pin(source.freeze(), Reach::Peer).unwrap();
        let targets: Vec<_> = (0..12).map(|at| {
            let frame = pair.left.frame(len);
            let target = pair.left.endpoint().lend(frame);
            pair.read_left(target, 0..len, source.remote(), at);
            target
        }).collect();
        for _ in &targets {
            let (Work::Read { .. }, None) = pair.wait_left("a READ") else { panic!() };
        }
        for target in targets {
            assert!(pair.left.endpoint().reclaim(target).unwrap()[..] == pattern(len)[..]);
        }
    }

    fn memory_of_ones_own_is_registered_for_the_one_use(pair: Pair) {
        let bytes = pattern(300_000);
        let regions = pair.right.domain.regions();
        let source = pair.right.domain.pin(Frame::from(bytes.clone()), Reach::Peer).unwrap();
        assert!(source.is_registered_alone());
        assert_eq!(pair.right.domain.regions(), regions + 1);
        let frame = pair.left.frame(bytes.len());
        let target = pair.left.endpoint().lend(frame);
        pair.read_left(target, 0..bytes.len(), source.remote(), 0);
        let (Work::Read { .. }, None) = pair.wait_left("a READ") else { panic!() };
        assert!(pair.left.endpoint().reclaim(target).unwrap()[..] == bytes[..]);
        drop(source);
        assert_eq!(pair.right.domain.regions(), regions);
        // What is shorter is copied, and inline frames have no place.
        assert!(pair.right.domain.pin(Frame::from(pattern(100_000)), Reach::Peer).is_err());
        assert!(pair.right.domain.pin(Frame::from(pattern(10)), Reach::Device).is_err());
    }

    fn targets_that_do_not_fit_are_refused(pair: Pair) {
        let remote = Remote { address: 0, key: 0 };
        let frame = pair.left.frame(1000);
        let target = pair.left.endpoint().lend(frame);
        for range in [0..1001, 1000..1000, 500..500, 2000..3000] {
            assert_eq!(pair.left.endpoint().read(target, range, remote, 0), Err(PostError::NoTarget));
        }
        assert!(pair.left.endpoint().fill_target(target, 990, b"0123456789"));
        assert!(!pair.left.endpoint().fill_target(target, 991, b"0123456789"));
        let frame = pair.left.endpoint().reclaim(target).unwrap();
        assert_eq!(&frame[990..], b"0123456789");
        assert_eq!(pair.left.endpoint().read(target, 0..10, remote, 0), Err(PostError::NoTarget));
        assert!(!pair.left.endpoint().fill_target(target, 0, b"0"));
    }
}

/// As on providers whose READs have conditions that cannot be met.
#[test]
fn an_offer_without_reads_sends_and_registers_nothing() {
    let query = Query { kind: Kind::Unconnected, at: local("net"), provider: Some("net"), domain: None };
    let mut ends = [1, 2].map(|cookie| {
        let info = Info::query_sends(library(), &query).unwrap().remove(0);
        assert!(!info.reads());
        let mut end = End::new(&info);
        end.open(&info, cookie);
        end
    });
    let [left, right] = &mut ends;
    meet(left, right);
    meet(right, left);
    let [left, right] = ends;
    let mut pair = Pair { left, right, listener: None };
    pair.push_left(|left| left.inject(b"sent"));
    assert_eq!(pair.receive_right(), b"sent");
    let frame = pair.left.frame(1 << 20);
    assert_eq!(pair.left.domain.regions(), 0);
    let target = pair.left.endpoint().lend(frame);
    let nowhere = Remote { address: 0, key: 0 };
    assert!(matches!(pair.left.endpoint().read(target, 0..10, nowhere, 0), Err(PostError::Refused(_))));
    let frame = pair.left.endpoint().reclaim(target).unwrap();
    assert!(pair.left.domain.pin(frame.freeze(), Reach::Peer).is_err());
}
