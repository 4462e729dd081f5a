//! What a warm exchange costs the allocator: nothing.

use fabriq_transport_verbs::fabric::{Completed, Fabric, Mark, Sender, Work};

use crate::contract::ends::Couple;
use crate::hardware::Hardware;

#[test]
fn a_warm_exchange_allocates_nothing() {
    let mut couple = Couple::<Hardware>::new();
    let mut buffer = Some(couple.two.client.buffer(couple.client_device, 4096));
    let mut target = Some(couple.two.client.pool.take(4096).unwrap());
    let (mut splices, mut out, mut again) =
        (Vec::new(), Vec::<Completed>::with_capacity(64), Vec::with_capacity(16));
    let pinned = {
        let source = couple.two.server.pool.take(4096).unwrap().freeze();
        let memory = couple.two.server.memory(couple.server_device);
        memory.pin(source, fabriq_transport_verbs::fabric::Reach::Peer).unwrap()
    };
    let mark = Mark { tag: 0, signal: true };
    let mut exchange = || {
        let lent = {
            let mut sender = couple.two.client.fabric.sender(couple.dialled).unwrap();
            sender.inline(b"a small one", Mark { tag: 0, signal: false }).unwrap();
            sender.send(buffer.take().unwrap(), 4000, &mut splices, mark).unwrap();
            let lent = sender.lend(target.take().unwrap());
            sender.read(lent, 0..4096, pinned.remote(), mark).unwrap();
            lent
        };
        let (mut sent, mut received) = (0, 0);
        while sent < 3 || received < 2 {
            for fabric in [&mut couple.two.client.fabric, &mut couple.two.server.fabric] {
                fabric.poll(&mut out, 64);
                fabric.arm();
            }
            for completed in out.drain(..) {
                match completed.work {
                    Work::Send { buffer: back, .. } => {
                        buffer = back.or(buffer.take());
                        sent += 1;
                    }
                    Work::Read { .. } => sent += 1,
                    Work::Receive { buffer, .. } => {
                        again.push(buffer);
                        received += 1;
                    }
                }
            }
            std::thread::yield_now();
        }
        couple.two.server.fabric.post_receives(couple.accepted, &mut again).unwrap();
        target = couple.two.client.fabric.reclaim(couple.dialled, lent);
    };
    for _ in 0..20 {
        exchange();
    }
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| exchange()));
    assert_eq!(counted.count_total, 0);
}
