//! The soft-RoCE device as the kernel shows it: what is on it, and how it is taken away. Uses iproute2's `rdma`.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::{PATIENCE, wait_until};

/// The device under test.
#[derive(Debug)]
pub(crate) struct Device {
    name: String,
    interface: String,
}

/// How many of each kind of thing are on a device: `qp`, `mr`, `pd` and so on.
pub(crate) type Resources = BTreeMap<String, u32>;

/// A wildcard endpoint on the device.
pub(crate) fn endpoint() -> String {
    local().expect("an RDMA device with an IPv4 address; these tests need one")
}

fn local() -> Option<String> {
    let verbs = fabriq::transports().into_iter().find(|known| known.schemes() == ["verbs"])?;
    Some(verbs.local("verbs")?.to_string())
}

/// Runs a program to its end, and returns what it says.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().expect(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A hardware counter of all devices together.
pub(crate) fn counter(name: &str) -> u64 {
    let devices = std::fs::read_dir("/sys/class/infiniband").unwrap();
    let path = |device: std::fs::DirEntry| device.path().join("ports/1/hw_counters").join(name);
    let counts = devices.map(|device| std::fs::read_to_string(path(device.unwrap())).expect(name));
    counts.map(|count| count.trim().parse::<u64>().unwrap()).sum()
}

impl Device {
    pub(crate) fn find() -> Self {
        let links = run("rdma link show");
        let words: Vec<&str> = links.split_whitespace().collect();
        let after = |word: &str| {
            let at =
                words.iter().position(|it| *it == word).unwrap_or_else(|| panic!("no {word} in: {links}"));
            words[at + 1].split('/').next().unwrap().to_owned()
        };
        let (name, interface) = (after("link"), after("netdev"));
        let of_rxe = std::path::Path::new("/sys/class/infiniband").join(&name).join("parent").exists();
        assert!(of_rxe, "{name} is not a soft-RoCE device, and is not taken away");
        Self { name, interface }
    }

    /// What is on it now for the sake of connections, of all processes. Not the memory, of which each process has registered
    /// what it happened to need.
    pub(crate) fn connections(&self) -> Resources {
        let mut all = self.resources();
        all.remove("mr").expect("the kernel counts memory regions");
        all
    }

    /// Waits until there are as many connections as then.
    pub(crate) fn wait_for_connections(&self, then: &Resources) {
        wait_for(then, || self.connections());
    }

    /// What is on it now, of all processes, but for contexts.
    pub(crate) fn resources(&self) -> Resources {
        // "0: rxe0: qp 1 cq 1 pd 1 mr 0 ..."
        let text = run(&format!("rdma resource show {}", self.name));
        let (_, counts) = text.split_once(&format!("{}: ", self.name)).expect("the device");
        let words: Vec<&str> = counts.split_whitespace().collect();
        let mut all: Resources =
            words.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap())).collect();
        // librdmacm keeps one for each process.
        all.remove("ctx").expect("the kernel counts contexts");
        all
    }

    /// Waits until as much is on it as then. The kernel takes apart what a process left after that has ended.
    pub(crate) fn wait_for(&self, then: &Resources) {
        wait_for(then, || self.resources());
    }

    /// Has the kernel take it away, beside us. Hears of it when that is done.
    pub(crate) fn begin_removal(&self) -> Receiver<()> {
        let (done, wait) = channel();
        let command = format!("rdma link delete {}", self.name);
        std::thread::spawn(move || {
            run(&command);
            // Whoever waited may have given up, and failed the test.
            let _ = done.send(());
        });
        wait
    }

    pub(crate) fn add(&self) {
        run(&format!("rdma link add {} type rxe netdev {}", self.name, self.interface));
        // The addresses come by a kernel worker.
        wait_until("the device has an address", || local().is_some());
    }
}

fn wait_for(then: &Resources, look: impl Fn() -> Resources) {
    let start = Instant::now();
    loop {
        let now = look();
        if now == *then {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "there was {then:?}, and now there is {now:?}");
        std::thread::yield_now();
    }
}
