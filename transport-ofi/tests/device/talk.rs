//! Messages.

use std::collections::BTreeSet;

use fabriq_transport_ofi::device::{PostError, Reach, Splice, Work};
use transport_core::Frame;

use crate::on_each_provider;
use crate::world::{PACKET, Pair, SHAPE};

/// Bytes that tell a message from others.
fn pattern(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + number * 13 + at / 251) as u8).collect()
}

on_each_provider! {
    fn messages_arrive_whole_and_in_order_however_they_were_sent(pair: Pair) {
        let inject = pair.left.endpoint().limits().inject;
        assert!(inject >= 8, "{inject}");
        let lens = [1, 2, 8, inject, inject + 1, 1000, PACKET - 1, PACKET, 0, 64];
        let mut tags = BTreeSet::new();
        let mut received = 0;
        for number in 0..200 {
            let len = lens[number % lens.len()];
            let bytes = pattern(number, len);
            let tag = number as u32;
            match number % 3 {
                0 if len <= inject => pair.push_left(|left| left.inject(&bytes)),
                1 if len <= inject => {
                    pair.push_left(|left| left.copy(&bytes, tag));
                    tags.insert(tag);
                }
                _ => {
                    let mut buffer = pair.left.buffer(len.max(1));
                    buffer[..len].copy_from_slice(&bytes);
                    pair.send_left(buffer, len, &mut Vec::new(), tag);
                    tags.insert(tag);
                }
            }
            if number % 8 == 7 {
                while received <= number {
                    let len = lens[received % lens.len()];
                    assert_eq!(pair.receive_right(), pattern(received, len), "message {received}");
                    received += 1;
                }
            }
        }
        while !tags.is_empty() {
            let (Work::Send { tag, .. }, None) = pair.wait_left("a send") else { panic!("no send") };
            assert!(tags.remove(&tag), "{tag} came back twice");
        }
        assert_eq!(pair.left.endpoint().room(), pair.left.endpoint().limits().sends);
    }

    fn frames_are_spliced_into_packets_where_they_belong(pair: Pair) {
        let mut inner = pair.left.frame(500);
        inner.copy_from_slice(&pattern(1, 500));
        let inner = inner.freeze();
        let slots = pair.left.pool.usage().lent_slots;
        let body = pair.left.domain.pin(inner.clone(), Reach::Device).unwrap();
        let mut buffer = pair.left.buffer(200);
        buffer.copy_from_slice(&pattern(2, 200));
        let mut splices = vec![Splice { at: 120, body }];
        pair.send_left(buffer, 200, &mut splices, 9);
        assert!(splices.is_empty());
        let got = pair.receive_right();
        let (head, tail) = (&pattern(2, 200)[..120], &pattern(2, 200)[120..]);
        assert_eq!(got, [head, &inner[..], tail].concat());
        let (Work::Send { tag: 9, buffer: Some(buffer) }, None) = pair.wait_left("the send") else { panic!() };
        assert_eq!(buffer.len(), 200);
        drop((buffer, inner));
        assert_eq!(pair.left.pool.usage().lent_slots, slots - 1, "nothing is held any more");
    }

    fn both_directions_at_once_do_not_disturb_each_other(pair: Pair) {
        for round in 0..50_usize {
            let bytes = pattern(round, 8);
            pair.push_left(|left| left.inject(&bytes));
            pair.right.endpoint().copy(&bytes, 3).unwrap();
            assert_eq!(pair.receive_right(), bytes);
            let (Work::Receive { buffer, len, .. }, None) = pair.wait_left("a packet") else { panic!() };
            assert_eq!(buffer[..len], bytes);
            pair.left.endpoint().post_receives(&mut vec![buffer]).unwrap();
        }
    }

    fn what_is_too_much_is_refused_and_stays_with_the_caller(pair: Pair) {
        let limits = pair.left.endpoint().limits();
        let long = vec![0; limits.inject + 1];
        assert_eq!(pair.left.endpoint().inject(&long), Err(PostError::TooLarge));
        assert_eq!(pair.left.endpoint().copy(&long, 0), Err(PostError::TooLarge));
        let buffer = pair.left.buffer(10);
        let (error, buffer) = pair.left.endpoint().send(buffer, 11, &mut Vec::new(), 0).unwrap_err();
        assert_eq!(error, PostError::TooLarge);
        let pin = |domain: &fabriq_transport_ofi::device::Domain| {
            domain.pin(Frame::from_static(&[7; 100]), Reach::Device).unwrap()
        };
        if !pair.left.domain.registers_local() {
            let domain = &pair.left.domain;
            let mut splices: Vec<_> = (1..=9).map(|at| Splice { at, body: pin(domain) }).collect();
            let (error, buffer) = pair.left.endpoint().send(buffer, 10, &mut splices, 0).unwrap_err();
            assert_eq!((error, splices.len(), buffer.len()), (PostError::TooLarge, 9, 10));
        }
        let mut buffers: Vec<_> = (0..3).map(|_| pair.left.buffer(PACKET)).collect();
        assert_eq!(pair.left.endpoint().post_receives(&mut buffers), Err(PostError::Full), "{SHAPE:?} are posted");
        assert_eq!(buffers.len(), 3);
    }
}

/// Not on shm: that of libfabric 1.17 goes round for ever in such a receive (`process_vm_readv` into a full buffer).
fn too_long(provider: &str) {
    let mut pair = Pair::new(provider);
    let buffer = pair.left.buffer(PACKET + 1000);
    pair.send_left(buffer, PACKET + 1000, &mut Vec::new(), 1);
    let (Work::Receive { len: 0, .. }, Some(failure)) = pair.wait_right("a failure") else { panic!() };
    assert!(failure.call == "fi_cq_readerr" && !failure.text.is_empty(), "{failure:?}");
}

#[test]
fn a_packet_longer_than_its_buffer_fails_the_receive_on_tcp() {
    too_long("tcp");
}

#[test]
fn a_packet_longer_than_its_buffer_fails_the_receive_on_tcp_rxm() {
    too_long("tcp;ofi_rxm");
}

#[test]
fn a_packet_longer_than_its_buffer_fails_the_receive_on_net() {
    too_long("net");
}
