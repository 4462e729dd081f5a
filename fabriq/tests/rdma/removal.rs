//! The device is taken away under traffic, and comes back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fabriq::{Error, Message, SocketType};

use super::device::{Device, endpoint};
use super::parcel::{SLOTS, context, pack, slots, unpack};
use super::{PATIENCE, downs, events_before, is_down, is_up, socket, wait_until};

/// How many messages are traffic.
const TRAFFIC: usize = 10;

/// How long the threads here wait before they look whether something else is over.
const LOOK: Duration = Duration::from_millis(20);

/// `rdma link delete` returns although two contexts have the device open and large frames are in flight; each link ends
/// once; both sockets, the bound one too, go on when the device is back.
#[test]
fn sockets_let_a_device_go_and_come_back_with_it() {
    let device = Device::find();
    let empty = device.resources();
    let (ours, theirs) = (context(), context());
    let home = slots(&theirs);
    let (pull, push) = (socket(&ours, SocketType::Pull), socket(&theirs, SocketType::Push));
    push.set_options(|options| {
        options.send_timeout = Some(LOOK);
        options.send_hwm = SLOTS as u32;
    })
    .unwrap();
    pull.set_options(|options| {
        options.receive_timeout = Some(LOOK);
        options.receive_hwm = SLOTS as u32;
    })
    .unwrap();
    let (pulling, pushing) = (pull.monitor().unwrap(), push.monitor().unwrap());
    push.connect(pull.bind(&endpoint()).unwrap().as_str()).unwrap();
    events_before(&pulling, is_up);
    events_before(&pushing, is_up);
    let over = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut number = 0;
            while !over.load(Relaxed) {
                let mut message = Message::from(pack(&theirs, number).freeze());
                // Without a link the pipe fills up.
                while let Err(back) = push.send(message) {
                    assert_eq!(back.error, Error::Again);
                    if over.load(Relaxed) {
                        return;
                    }
                    message = *back.message;
                }
                number += 1;
            }
        });
        let mut next = 0;
        let mut receive = || match pull.recv() {
            Ok(message) => {
                let number = unpack(&message);
                assert!(number >= next, "{number}, and {next} was expected or a later one");
                next = number + 1;
                true
            }
            Err(error) => {
                assert_eq!(error, Error::Again);
                false
            }
        };
        let traffic = |receive: &mut dyn FnMut() -> bool| {
            let start = Instant::now();
            let mut count = 0;
            while count < TRAFFIC {
                count += usize::from(receive());
                assert!(start.elapsed() < PATIENCE, "nothing comes any more");
            }
        };
        for _ in 0..2 {
            traffic(&mut receive);
            let connected = qps(&device);
            let removal = device.begin_removal();
            removal.recv_timeout(PATIENCE).expect("`rdma link delete` returns");
            events_before(&pulling, is_down);
            events_before(&pushing, is_down);
            // What came by the old link is in a queue of its own, which would take turns with that of the new one.
            while receive() {}
            // Nothing is open that could bind, and who tries is told.
            let stranger = socket(&ours, SocketType::Pull);
            let refused = stranger.bind("verbs://10.7.0.1:*").unwrap_err().to_string();
            assert!(refused.contains("rdma link"), "{refused}");
            device.add();
            let between = events_before(&pulling, is_up);
            assert!(!between.iter().any(is_down), "one link, one end: {between:?}");
            let between = events_before(&pushing, is_up);
            assert!(!between.iter().any(is_down), "one link, one end: {between:?}");
            traffic(&mut receive);
            assert_eq!(qps(&device), connected);
        }
        over.store(true, Relaxed);
        sender.join().unwrap();
        // Whatever is still on its way.
        while receive() {}
    });
    assert_eq!((downs(&pulling), downs(&pushing)), (0, 0));
    push.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
    drop((pull, push));
    wait_until("all slots are at home", || slots(&theirs) == home);
    drop((ours, theirs));
    device.wait_for(&empty);
}

fn qps(device: &Device) -> u32 {
    device.resources()["qp"]
}
