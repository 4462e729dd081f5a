//! Made-up hosts, and this one.

use std::os::unix::fs::symlink;

use super::*;
use rdma::{Gid, Port};

/// A directory that is removed when dropped.
struct Tree(Root);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fabriq-environment-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(Root(path))
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.0.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.0.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.0);
    }
}

fn host() -> Host {
    let mut host = Host::new();
    host.architecture = "x86_64".to_owned();
    host
}

/// Two sockets of two cores of two threads, a ConnectX with RoCE on node 1, and a virtual interface.
fn cluster_node(tree: &Tree) {
    for cpu in 0..8 {
        let directory = format!("sys/devices/system/cpu/cpu{cpu}");
        tree.file(&format!("{directory}/topology/physical_package_id"), &format!("{}\n", cpu / 2 % 2))
            .file(&format!("{directory}/topology/core_id"), &format!("{}\n", cpu % 2))
            .file(
                &format!("{directory}/cpufreq/scaling_governor"),
                if cpu == 5 { "powersave\n" } else { "performance\n" },
            );
    }
    let nic = "sys/devices/pci0000:00/0000:17:00.0";
    let port = "sys/class/infiniband/mlx5_0/ports/1";
    tree.file("sys/devices/system/cpu/cpufreq/boost", "1\n")
        .file("sys/devices/system/cpu/cpuidle/current_driver", "none\n")
        .file("sys/devices/system/node/node0/cpulist", "0-3\n")
        .file("sys/devices/system/node/node1/cpulist", "4-7\n")
        .file("sys/devices/system/node/online", "0-1\n")
        .file("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
        .file("proc/cmdline", "quiet isolcpus=2-3\n")
        .file("proc/self/limits", "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         65536                unlimited            bytes\n")
        .file("sys/bus/pci/drivers/mlx5_core/module/version", "23.10-2.1.3\n")
        .file(&format!("{nic}/numa_node"), "1\n")
        .file(&format!("{nic}/vendor"), "0x15b3\n")
        .file(&format!("{nic}/device"), "0x101d\n")
        .link(&format!("{nic}/driver"), "../../../bus/pci/drivers/mlx5_core")
        .file("sys/class/net/lo/mtu", "65536\n")
        .file("sys/class/net/br0/mtu", "1500\n")
        .file("sys/class/net/br0/operstate", "down\n")
        .file("sys/class/net/br0/speed", "-1\n")
        .file("sys/class/net/ens1/mtu", "9000\n")
        .file("sys/class/net/ens1/operstate", "up\n")
        .file("sys/class/net/ens1/speed", "100000\n")
        .link("sys/class/net/ens1/device", "../../../devices/pci0000:00/0000:17:00.0")
        .file("sys/class/infiniband/mlx5_0/fw_ver", "22.39.1002\n")
        .file("sys/class/infiniband/mlx5_0/board_id", "MT_0000000436\n")
        .link("sys/class/infiniband/mlx5_0/device", "../../../devices/pci0000:00/0000:17:00.0")
        .file(&format!("{port}/state"), "4: ACTIVE\n")
        .file(&format!("{port}/link_layer"), "Ethernet\n")
        .file(&format!("{port}/rate"), "100 Gb/sec (4X EDR)\n")
        .file(&format!("{port}/gids/0"), "fe80:0000:0000:0000:0000:0000:0000:0000\n")
        .file(&format!("{port}/gids/3"), "0000:0000:0000:0000:0000:ffff:0a07:0001\n")
        .file(&format!("{port}/gids/10"), "0000:0000:0000:0000:0000:0000:0000:0000\n")
        .file(&format!("{port}/gid_attrs/types/3"), "RoCE v2\n")
        .file(&format!("{port}/gid_attrs/ndevs/3"), "ens1\n")
        .link("usr/lib/x86_64-linux-gnu/libibverbs.so.1", "libibverbs.so.1.14.44.0")
        .link("opt/amazon/efa/lib64/libfabric.so.1", "libfabric.so.1.25.0");
}

#[test]
fn a_host_is_read_from_proc_and_sys() {
    let tree = Tree::new("node");
    cluster_node(&tree);
    let adapter = Adapter {
        driver: Some("mlx5_core".to_owned()),
        driver_version: Some("23.10-2.1.3".to_owned()),
        pci_id: Some("15b3:101d".to_owned()),
        numa_node: Some(1),
    };
    let read = Environment::read(host(), &tree.0);
    let expected = Environment {
        host: host(),
        command_line: "quiet isolcpus=2-3".to_owned(),
        processors: Processors {
            sockets: 2,
            cores: 4,
            threads: 8,
            numa_nodes: 2,
            governors: ["performance", "powersave"].map(str::to_owned).into(),
            boost: Some(true),
        },
        transparent_huge_pages: "madvise".to_owned(),
        memlock: "65536".to_owned(),
        interfaces: vec![
            Interface {
                name: "ens1".to_owned(),
                state: "up".to_owned(),
                speed_mbit: Some(100_000),
                mtu: Some(9000),
                adapter: Some(adapter.clone()),
            },
            Interface {
                name: "br0".to_owned(),
                state: "down".to_owned(),
                speed_mbit: None,
                mtu: Some(1500),
                adapter: None,
            },
        ],
        rdma: vec![Device {
            name: "mlx5_0".to_owned(),
            firmware: Some("22.39.1002".to_owned()),
            board: Some("MT_0000000436".to_owned()),
            adapter: Some(adapter),
            ports: vec![Port {
                number: 1,
                state: "ACTIVE".to_owned(),
                link_layer: "Ethernet".to_owned(),
                rate: "100 Gb/sec (4X EDR)".to_owned(),
                interface: Some("ens1".to_owned()),
                interface_mtu: Some(9000),
                gids: vec![Gid {
                    index: 3,
                    address: "0000:0000:0000:0000:0000:ffff:0a07:0001".to_owned(),
                    kind: Some("RoCE v2".to_owned()),
                }],
            }],
        }],
        libraries: [("libibverbs", "1.14.44.0"), ("libfabric", "1.25.0")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        refused_counters: Vec::new(),
    };
    assert_eq!(read, expected);
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Environment>(&json).unwrap(), expected);
}

#[test]
fn all_of_it_is_said_in_words() {
    let tree = Tree::new("words");
    cluster_node(&tree);
    let facts = Environment::read(host(), &tree.0).facts();
    let fact = |name: &str| &facts.iter().find(|(known, _)| known == name).unwrap().1;
    for (name, expected) in [
        ("cores", "4 on 2 sockets, 8 threads, 2 NUMA nodes, governor performance and powersave, boost on"),
        ("transparent huge pages", "madvise"),
        ("lockable memory", "65536 bytes"),
        ("interface br0", "down, MTU 1500"),
        (
            "interface ens1",
            "up, 100000 Mbit/s, MTU 9000, driver mlx5_core 23.10-2.1.3, PCI 15b3:101d, NUMA node 1",
        ),
        (
            "RDMA device mlx5_0",
            "firmware 22.39.1002, board MT_0000000436, driver mlx5_core 23.10-2.1.3, PCI 15b3:101d, NUMA node 1",
        ),
        (
            "RDMA port mlx5_0/1",
            "ACTIVE, Ethernet, 100 Gb/sec (4X EDR), ens1 with MTU 9000, GID 3 \
             0000:0000:0000:0000:0000:ffff:0a07:0001 (RoCE v2)",
        ),
        ("libfabric", "1.25.0"),
        ("kernel command line", "quiet isolcpus=2-3"),
    ] {
        assert_eq!(fact(name), expected);
    }
}

#[test]
fn a_host_that_says_nothing_is_no_error() {
    let tree = Tree::new("nothing");
    let read = Environment::read(host(), &tree.0);
    assert_eq!((read.interfaces, read.rdma, read.processors), (vec![], vec![], Processors::default()));
    assert_eq!((read.memlock.as_str(), read.transparent_huge_pages.as_str()), ("", ""));
    assert!(read.libraries.is_empty());
}

#[test]
fn nonsense_in_sysfs_is_left_out() {
    let tree = Tree::new("nonsense");
    let port = "sys/class/infiniband/x/ports/1";
    tree.file("sys/class/net/e/mtu", "wide\n")
        .file("sys/class/net/e/speed", "4294967296\n")
        .file("sys/kernel/mm/transparent_hugepage/enabled", "[always\n")
        .file("proc/self/limits", "Max locked memory\n")
        .file("proc/cmdline", "\0\0")
        .file(&format!("{port}/state"), "ACTIVE")
        .file(&format!("{port}/gids/0"), "fe80::1:2:3:4")
        .file(&format!("{port}/gids/one"), "fe80:0:0:0:1:2:3:4")
        .file(&format!("{port}/gid_attrs/ndevs/0"), "../../x")
        .file("sys/class/infiniband/x/ports/99999999999/state", "4: ACTIVE")
        .link("usr/lib64/libfabric.so.1", "/")
        .link("sys/class/infiniband/x/device", "/nonexistent");
    let read = Environment::read(host(), &tree.0);
    let interface = &read.interfaces[0];
    assert_eq!((interface.mtu, interface.speed_mbit, &interface.adapter), (None, None, &None));
    assert_eq!((read.memlock.as_str(), read.transparent_huge_pages.as_str()), ("", ""));
    let device = &read.rdma[0];
    assert_eq!((device.ports.len(), &device.adapter), (1, &None));
    assert_eq!((device.ports[0].state.as_str(), &device.ports[0].interface), ("ACTIVE", &None));
    assert!(read.libraries.is_empty());
    assert!(read.facts().iter().all(|(name, fact)| name != "lockable memory" && !fact.contains("None")));
}

#[test]
fn many_interfaces_and_gids_are_cut_off_those_with_a_device_last() {
    let tree = Tree::new("many");
    for number in 0..INTERFACES_MAX + 10 {
        tree.file(&format!("sys/class/net/veth{number}/mtu"), "1500");
        let gid = format!("fe80:0000:0000:0000:0000:0000:0000:{:04x}", number + 1);
        tree.file(&format!("sys/class/infiniband/r/ports/1/gids/{number}"), &gid);
    }
    tree.file("sys/class/infiniband/r/ports/1/state", "4: ACTIVE")
        .file("sys/devices/nic/vendor", "0x1af4")
        .link("sys/class/net/zz/device", "../../../devices/nic");
    let read = Environment::read(host(), &tree.0);
    assert_eq!((read.interfaces.len(), read.interfaces[0].name.as_str()), (INTERFACES_MAX, "zz"));
    let gids = &read.rdma[0].ports[0].gids;
    assert_eq!((gids.len(), gids[9].index), (16, 9));
}

#[test]
fn this_host_can_be_read() {
    let read = Environment::of_this_host();
    // What every Linux has.
    assert!(read.processors.threads >= 1, "{read:?}");
    assert!(read.memlock == "unlimited" || read.memlock.parse::<u64>().is_ok(), "{read:?}");
    assert!(!read.command_line.is_empty(), "{read:?}");
}
