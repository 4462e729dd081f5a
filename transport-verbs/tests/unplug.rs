//! A soft-RoCE device that is taken away under traffic and added again. Needs root and `rdma`; see the feature
//! `soft-roce`.

#[path = "../../rdma-links/tests/contract/ends.rs"]
mod ends;
mod hardware;
mod contract {
    pub(crate) use crate::ends;
}

use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ends::{Client, Couple, Plan, Server, Side, Two, mark};
use fabriq_transport_verbs::fabric::{DeviceId, Event, Fabric, Sender};
use hardware::{Hardware, device_address};

/// `rdma link delete` hangs for as long as a process has the device open.
const PATIENCE: Duration = Duration::from_secs(60);

fn rdma(arguments: &str) -> String {
    let output = Command::new("rdma").args(arguments.split(' ')).output().expect("`rdma` is installed");
    assert!(output.status.success(), "rdma {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Name and network interface of the soft-RoCE device.
fn device() -> (String, String) {
    let links = rdma("link show");
    let words: Vec<&str> = links.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|it| *it == word).unwrap_or_else(|| panic!("no {word} in: {links}"));
        words[at + 1].split('/').next().unwrap().to_owned()
    };
    let (name, interface) = (after("link"), after("netdev"));
    let of_rxe = std::path::Path::new("/sys/class/infiniband").join(&name).join("parent").exists();
    assert!(of_rxe, "{name} is not a soft-RoCE device, and is not taken away");
    (name, interface)
}

/// Runs `rdma link delete` beside us.
fn begin_removal(name: &str) -> mpsc::Receiver<String> {
    let (done, wait) = mpsc::channel();
    let command = format!("link delete {name}");
    std::thread::spawn(move || done.send(rdma(&command)));
    wait
}

fn add(name: &str, interface: &str) {
    rdma(&format!("link add {name} type rxe netdev {interface}"));
    // The addresses come by a kernel worker.
    let begin = Instant::now();
    while device_address().is_none() {
        assert!(begin.elapsed() < PATIENCE, "the device has no address");
        std::thread::yield_now();
    }
}

/// Waits to hear that the device is gone, and gives it up.
fn give_up(two: &mut Two<Hardware>, side: Side, device: DeviceId) {
    two.next_event(side, "the loss of the device", |event| {
        (event == Event::DeviceLost { device }).then_some(())
    });
    two.end(side).fabric.close_device(device);
    two.end(side).completed.clear();
}

/// What the device has on it, by the kernel's word, without the number that each new device gets.
fn resources() -> String {
    let text = rdma("resource show");
    text.split_once(": ").expect("a device").1.to_owned()
}

#[test]
fn a_device_is_let_go_under_traffic_and_works_again_when_it_is_back() {
    let mut couple = Couple::<Hardware>::new();
    let (name, interface) = device();
    let used = resources();
    couple.send(b"before", mark(0));
    assert_eq!(couple.two.next_packet(Server).2, 6);
    couple.send(b"under way", mark(1));

    let removal = begin_removal(&name);
    let (client_device, server_device, listener) =
        (couple.client_device, couple.server_device, couple.listener);
    let mut two = couple.two;
    give_up(&mut two, Client, client_device);
    let (mut device_lost, mut listener_lost) = (false, false);
    two.next_event(Server, "the loss of device and listener", |event| {
        device_lost |= event == Event::DeviceLost { device: server_device };
        listener_lost |= event == Event::ListenerLost { listener };
        (device_lost && listener_lost).then_some(())
    });
    two.server.fabric.close_device(server_device);
    two.server.fabric.unlisten(listener);
    two.server.completed.clear();
    removal.recv_timeout(PATIENCE).expect("`rdma link delete` returns once the device is closed");
    assert_eq!((two.client.pool.usage().lent_slots, two.server.pool.usage().lent_slots), (0, 0));

    add(&name, &interface);
    let mut couple = Couple::between(two, &Plan::default());
    assert_eq!(resources(), used, "as much on the device as before");
    couple.sender().inline(b"after", mark(0)).unwrap();
    assert_eq!(couple.two.next_packet(Server).2, 5);
}

#[test]
fn an_idle_fabric_that_once_used_a_device_lets_it_go() {
    let couple = Couple::<Hardware>::new();
    let (name, interface) = device();
    let (client_device, server_device) = (couple.client_device, couple.server_device);
    let listener = couple.listener;
    let mut two = couple.part();
    // No connection and no listener is left to tell of the removal.
    two.server.fabric.unlisten(listener);
    let removal = begin_removal(&name);
    give_up(&mut two, Client, client_device);
    give_up(&mut two, Server, server_device);
    removal.recv_timeout(PATIENCE).expect("`rdma link delete` returns");
    add(&name, &interface);
    Couple::between(two, &Plan::default()).part();
}

#[test]
fn dropping_everything_leaves_nothing_on_the_device() {
    let place = hardware::alone();
    let before = resources();
    drop(place);
    for _ in 0..3 {
        let mut couple = Couple::<Hardware>::new();
        couple.send(b"something", mark(0));
    }
    let _place = hardware::alone();
    assert_eq!(resources(), before);
}
