//! What devices count: RDMA ports (also the hardware's own counters), and TCP's retransmissions. Reads /sys and /proc under a
//! root that may be another; what cannot be read is left out, and what this process may not read can be named.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Counters by name, as in `mlx5_0/1/port_xmit_data`.
pub(super) type Counters = BTreeMap<String, u64>;

/// All counters now.
pub(super) fn read(root: &Path) -> Counters {
    let mut counters = Counters::new();
    for (name, path) in of_ports(root) {
        if let Ok(count) = std::fs::read_to_string(path).unwrap_or_default().trim().parse() {
            counters.insert(name, count);
        }
    }
    let snmp = std::fs::read_to_string(root.join("proc/net/snmp")).unwrap_or_default();
    if let Some(count) = retransmissions(&snmp) {
        counters.insert("tcp/RetransSegs".to_owned(), count);
    }
    counters
}

/// Those that are there and that `open` says this process has no permission to read.
pub(super) fn refused<T>(root: &Path, open: impl Fn(&Path) -> io::Result<T>) -> Vec<String> {
    let denied = |path: &Path| open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    of_ports(root).into_iter().filter(|(_, path)| denied(path)).map(|(name, _)| name).collect()
}

/// Names and files of what RDMA ports count.
fn of_ports(root: &Path) -> Vec<(String, PathBuf)> {
    let devices = root.join("sys/class/infiniband");
    let mut files = Vec::new();
    for device in entries(&devices) {
        let ports = devices.join(&device).join("ports");
        for port in entries(&ports) {
            for kind in ["counters", "hw_counters"] {
                let folder = ports.join(&port).join(kind);
                // Not a count: how long the device keeps values.
                let names = entries(&folder).into_iter().filter(|name| name != "lifespan");
                files.extend(names.map(|name| (format!("{device}/{port}/{name}"), folder.join(name))));
            }
        }
    }
    files
}

/// By how much they have grown, without those that have not.
pub(super) fn growth(before: &Counters, after: &Counters) -> Counters {
    let grown = after.iter().filter_map(|(name, &after)| {
        let by = after.checked_sub(*before.get(name)?)?;
        (by > 0).then(|| (name.clone(), by))
    });
    grown.collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A line of names, and one of numbers.
fn retransmissions(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "RetransSegs")?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_is_told_by_device_and_port() {
        let root = std::env::temp_dir().join(format!("fabriq-counters-{}", std::process::id()));
        let port = root.join("sys/class/infiniband/rxe0/ports/1");
        std::fs::create_dir_all(port.join("hw_counters")).unwrap();
        std::fs::create_dir_all(port.join("counters")).unwrap();
        std::fs::create_dir_all(root.join("proc/net")).unwrap();
        let write = |sent: &str, segments: &str| {
            std::fs::write(port.join("hw_counters/sent_pkts"), sent).unwrap();
            std::fs::write(port.join("hw_counters/lifespan"), sent).unwrap();
            std::fs::write(port.join("counters/port_rcv_data"), "7\n").unwrap();
            std::fs::write(
                root.join("proc/net/snmp"),
                format!("Ip: A\nIp: 1\nTcp: InSegs RetransSegs\nTcp: 5 {segments}\n"),
            )
            .unwrap();
        };
        write("10\n", "3");
        let before = read(&root);
        write("15\n", "4");
        let grown = growth(&before, &read(&root));
        let mut refused = refused(&root, |path| match path.ends_with("sent_pkts") {
            true => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            false => std::fs::File::open(path),
        });
        refused.sort();
        assert_eq!(refused, ["rxe0/1/sent_pkts"]);
        std::fs::remove_dir_all(&root).unwrap();
        let expected = [("rxe0/1/sent_pkts".to_owned(), 5), ("tcp/RetransSegs".to_owned(), 1)];
        assert_eq!(grown, Counters::from(expected));
        assert_eq!(read(&root), Counters::new());
    }
}
