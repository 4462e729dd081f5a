//! What a host is, as far as it bears on a benchmark: read from /proc and /sys, and the names of library files. Starts no
//! program, opens no device and needs no privilege; what cannot be read is left out.

mod rdma;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::counters;
use crate::info::Host;
pub(super) use rdma::Device;

/// Interfaces of one host in a report: a host of many containers has an interface for each.
const INTERFACES_MAX: usize = 64;

/// What fabriq loads when it is asked for such a transport. The digits behind `.so.` are the version.
const LIBRARIES: [&str; 3] = ["libibverbs.so.1", "librdmacm.so.1", "libfabric.so.1"];

/// Where distributions and vendors have them. `{}` is the machine, as in `x86_64`.
const LIBRARY_DIRECTORIES: [&str; 6] = [
    "usr/lib/{}-linux-gnu",
    "usr/lib64",
    "lib64",
    "usr/lib",
    "opt/amazon/efa/lib64",
    "opt/cray/libfabric/lib64",
];

/// One host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Environment {
    #[serde(flatten)]
    pub(super) host: Host,
    /// Of the kernel.
    pub(super) command_line: String,
    pub(super) processors: Processors,
    /// The one that is in force of `always`, `madvise` and `never`; empty where the kernel has none.
    pub(super) transparent_huge_pages: String,
    /// Memory that a process may lock, which is also what it may register with an RDMA device: bytes, or `unlimited`, as
    /// this process has it.
    pub(super) memlock: String,
    pub(super) interfaces: Vec<Interface>,
    pub(super) rdma: Vec<Device>,
    /// Those that are installed, with versions.
    pub(super) libraries: BTreeMap<String, String>,
    /// Counters of RDMA ports that this process has no permission to read.
    #[serde(default)]
    pub(super) refused_counters: Vec<String>,
}

/// The CPUs of a host, which are not all this process's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Processors {
    pub(super) sockets: usize,
    pub(super) cores: usize,
    pub(super) threads: usize,
    pub(super) numa_nodes: usize,
    /// Frequency governors, each once; none where the kernel does not set the frequency.
    pub(super) governors: BTreeSet<String>,
    /// Whether cores may run faster than their nominal frequency.
    pub(super) boost: Option<bool>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interface {
    pub(super) name: String,
    /// Whether it is up and has a carrier, as the kernel says: `up`, `down`, `unknown`.
    pub(super) state: String,
    /// In Mbit/s, where the device knows.
    pub(super) speed_mbit: Option<u32>,
    pub(super) mtu: Option<u32>,
    /// Nothing for devices that only exist in the kernel.
    pub(super) adapter: Option<Adapter>,
}

/// What is plugged in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Adapter {
    pub(super) driver: Option<String>,
    /// That the driver says it has: those from outside the kernel do.
    pub(super) driver_version: Option<String>,
    /// `VENDOR:DEVICE`, PCI's numbers in hexadecimal.
    pub(super) pci_id: Option<String>,
    pub(super) numa_node: Option<u32>,
}

impl Environment {
    /// This host's.
    pub(super) fn of_this_host() -> Self {
        Self::read(Host::new(), &Root(PathBuf::from("/")))
    }

    fn read(host: Host, root: &Root) -> Self {
        let huge = root.text("sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        let in_force = huge.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        Self {
            libraries: libraries(root, &host.architecture),
            host,
            command_line: root.text("proc/cmdline").unwrap_or_default(),
            processors: Processors::read(root),
            transparent_huge_pages: in_force.map(|(name, _)| name.to_owned()).unwrap_or_default(),
            memlock: memlock(&root.text("proc/self/limits").unwrap_or_default()).unwrap_or_default(),
            interfaces: interfaces(root),
            rdma: rdma::devices(root),
            refused_counters: counters::refused(&root.0, |path| fs::File::open(path)),
        }
    }

    /// Whether this process may use one processor alone, of several that the host has.
    pub(super) fn is_confined(&self) -> bool {
        self.host.cpus == 1 && self.processors.threads > 1
    }

    /// Everything that is known, for people.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let Self {
            host,
            command_line,
            processors,
            transparent_huge_pages,
            memlock,
            interfaces,
            rdma,
            refused_counters: _,
            libraries,
        } = self;
        let mut facts: Vec<(String, String)> =
            host.facts().into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect();
        let mut add = |name: &str, fact: String| {
            if !fact.is_empty() {
                facts.push((name.to_owned(), fact));
            }
        };
        add("cores", processors.line());
        add("transparent huge pages", transparent_huge_pages.clone());
        add(
            "lockable memory",
            match memlock.as_str() {
                "" | "unlimited" => memlock.clone(),
                bytes => format!("{bytes} bytes"),
            },
        );
        for interface in interfaces {
            add(&format!("interface {}", interface.name), interface.line());
        }
        for device in rdma {
            device.lines().into_iter().for_each(|(name, fact)| add(&name, fact));
        }
        for (name, version) in libraries {
            add(name, version.clone());
        }
        add("kernel command line", command_line.clone());
        facts
    }
}

impl Processors {
    fn read(root: &Root) -> Self {
        let cpus = root.numbered("sys/devices/system/cpu", "cpu");
        let of = |cpu: &str, file: &str| root.text(&format!("sys/devices/system/cpu/{cpu}/{file}"));
        let placed = cpus
            .iter()
            .filter_map(|cpu| Some((of(cpu, "topology/physical_package_id")?, of(cpu, "topology/core_id")?)));
        let cores: BTreeSet<(String, String)> = placed.collect();
        let sockets: BTreeSet<&String> = cores.iter().map(|(socket, _)| socket).collect();
        let flag = |file: &str| root.text(file).map(|text| text != "0");
        Self {
            sockets: sockets.len(),
            cores: cores.len(),
            threads: cpus.len(),
            numa_nodes: root.numbered("sys/devices/system/node", "node").len(),
            governors: cpus.iter().filter_map(|cpu| of(cpu, "cpufreq/scaling_governor")).collect(),
            boost: flag("sys/devices/system/cpu/cpufreq/boost")
                .or_else(|| flag("sys/devices/system/cpu/intel_pstate/no_turbo").map(|no| !no)),
        }
    }

    fn line(&self) -> String {
        let Self { sockets, cores, threads, numa_nodes, governors, boost } = self;
        let mut line = format!("{cores} on {sockets} sockets, {threads} threads, {numa_nodes} NUMA nodes");
        if !governors.is_empty() {
            let governors: Vec<&str> = governors.iter().map(String::as_str).collect();
            line += &format!(", governor {}", governors.join(" and "));
        }
        match boost {
            Some(true) => line += ", boost on",
            Some(false) => line += ", boost off",
            None => {}
        }
        line
    }
}

impl Interface {
    fn line(&self) -> String {
        let mut words = vec![self.state.clone()];
        words.extend(self.speed_mbit.map(|speed| format!("{speed} Mbit/s")));
        words.extend(self.mtu.map(|mtu| format!("MTU {mtu}")));
        words.extend(self.adapter.as_ref().map(Adapter::line));
        words.join(", ")
    }
}

impl Adapter {
    /// Of the device to which `device` in sysfs leads.
    fn read(root: &Root, device: &str) -> Option<Self> {
        root.exists(device).then(|| {
            let hexadecimal =
                |file| Some(root.text(&format!("{device}/{file}"))?.trim_start_matches("0x").to_owned());
            let id = hexadecimal("vendor").zip(hexadecimal("device"));
            Self {
                driver: root.link_name(&format!("{device}/driver")),
                driver_version: root.text(&format!("{device}/driver/module/version")),
                pci_id: id.map(|(vendor, device)| format!("{vendor}:{device}")),
                // -1 where there is only one node.
                numa_node: root.number(&format!("{device}/numa_node")),
            }
        })
    }

    fn line(&self) -> String {
        let Self { driver, driver_version, pci_id, numa_node } = self;
        let mut words = Vec::new();
        if let Some(driver) = driver {
            let version = driver_version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            words.push(format!("driver {driver}{version}"));
        }
        words.extend(pci_id.as_ref().map(|id| format!("PCI {id}")));
        words.extend(numa_node.map(|node| format!("NUMA node {node}")));
        words.join(", ")
    }
}

/// All but the loopback, those with a device first.
fn interfaces(root: &Root) -> Vec<Interface> {
    let of_name = |name: String| {
        let directory = format!("sys/class/net/{name}");
        Interface {
            state: root.text(&format!("{directory}/operstate")).unwrap_or_default(),
            // -1, or an error, while it is down.
            speed_mbit: root.number(&format!("{directory}/speed")),
            mtu: root.number(&format!("{directory}/mtu")),
            adapter: Adapter::read(root, &format!("{directory}/device")),
            name,
        }
    };
    let names = root.names("sys/class/net").into_iter().filter(|name| name != "lo");
    let mut interfaces: Vec<Interface> = names.map(of_name).collect();
    interfaces.sort_by_key(|interface| interface.adapter.is_none());
    interfaces.truncate(INTERFACES_MAX);
    interfaces
}

/// The soft limit, from /proc/self/limits.
fn memlock(limits: &str) -> Option<String> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn libraries(root: &Root, machine: &str) -> BTreeMap<String, String> {
    let version = |name: &str| {
        LIBRARY_DIRECTORIES.iter().find_map(|directory| {
            let path = format!("{}/{name}", directory.replace("{}", machine));
            // The name that programs load leads to the file, which has the whole version.
            let file = root.link_name(&path)?;
            let (_, version) = file.split_once(".so.")?;
            Some((name.split('.').next()?.to_owned(), version.to_owned()))
        })
    };
    LIBRARIES.into_iter().filter_map(version).collect()
}

/// A directory in the place of /, for tests.
#[derive(Debug)]
struct Root(PathBuf);

impl Root {
    /// What a file says, without the newline at its end. Nothing if that is nothing.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.0.join(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A number that is not negative.
    fn number(&self, path: &str) -> Option<u32> {
        self.text(path)?.parse().ok()
    }

    fn exists(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    /// The name of what a link leads to.
    fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.0.join(path)).ok()?;
        Some(Path::new(&target).file_name()?.to_string_lossy().into_owned())
    }

    /// The names in a directory, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.join(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Those that are a word and a number, by number.
    fn numbered(&self, path: &str, word: &str) -> Vec<String> {
        let number = |name: &String| name.strip_prefix(word)?.parse::<u32>().ok();
        let mut names = self.names(path);
        names.retain(|name| number(name).is_some());
        names.sort_by_key(number);
        names
    }
}
