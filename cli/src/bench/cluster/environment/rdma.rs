//! RDMA devices as sysfs has them, in /sys/class/infiniband. Opens no device.

use serde::{Deserialize, Serialize};

use super::{Adapter, Root};

/// GIDs of a port in a report; a device may have hundreds, for as many addresses.
const GIDS_MAX: usize = 16;

/// An RDMA device: of InfiniBand, RoCE or iWARP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bench::cluster) struct Device {
    pub(in crate::bench::cluster) name: String,
    pub(in crate::bench::cluster) firmware: Option<String>,
    /// What the vendor calls the board.
    pub(in crate::bench::cluster) board: Option<String>,
    /// Nothing for devices in software.
    pub(in crate::bench::cluster) adapter: Option<Adapter>,
    pub(in crate::bench::cluster) ports: Vec<Port>,
}

/// One port of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bench::cluster) struct Port {
    pub(in crate::bench::cluster) number: u32,
    /// `ACTIVE`, `DOWN`, ...
    pub(in crate::bench::cluster) state: String,
    /// `InfiniBand` or `Ethernet`
    pub(in crate::bench::cluster) link_layer: String,
    /// As in `100 Gb/sec (4X EDR)`
    pub(in crate::bench::cluster) rate: String,
    /// The network interface of the port's first address, and its MTU in bytes. A RoCE port's own is the greatest power of
    /// two that fits it with the headers, up to 4096; an InfiniBand port's own is not in sysfs.
    pub(in crate::bench::cluster) interface: Option<String>,
    pub(in crate::bench::cluster) interface_mtu: Option<u32>,
    pub(in crate::bench::cluster) gids: Vec<Gid>,
}

/// An address of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bench::cluster) struct Gid {
    pub(in crate::bench::cluster) index: u32,
    pub(in crate::bench::cluster) address: String,
    /// `IB/RoCE v1` or `RoCE v2`; nothing where the kernel does not say.
    pub(in crate::bench::cluster) kind: Option<String>,
}

pub(super) fn devices(root: &Root) -> Vec<Device> {
    let directory = "sys/class/infiniband";
    let names = root.names(directory).into_iter();
    names.map(|name| Device::read(root, &format!("{directory}/{name}"), name)).collect()
}

impl Device {
    fn read(root: &Root, directory: &str, name: String) -> Self {
        let ports = root.numbered(&format!("{directory}/ports"), "");
        let port =
            |number: String| Port::read(root, &format!("{directory}/ports/{number}"), number.parse().ok()?);
        Self {
            name,
            firmware: root.text(&format!("{directory}/fw_ver")),
            board: root.text(&format!("{directory}/board_id")),
            adapter: Adapter::read(root, &format!("{directory}/device")),
            ports: ports.into_iter().filter_map(port).collect(),
        }
    }

    /// Of the device and each port: a name, and what there is to say.
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let Self { name, firmware, board, adapter, ports } = self;
        let mut words = Vec::new();
        words.extend(firmware.as_ref().map(|firmware| format!("firmware {firmware}")));
        words.extend(board.as_ref().map(|board| format!("board {board}")));
        words.extend(adapter.as_ref().map(Adapter::line));
        let mut lines = vec![(format!("RDMA device {name}"), words.join(", "))];
        lines.extend(ports.iter().map(|port| (format!("RDMA port {name}/{}", port.number), port.line())));
        lines
    }
}

impl Port {
    fn read(root: &Root, directory: &str, number: u32) -> Option<Self> {
        // `4: ACTIVE`
        let state = root.text(&format!("{directory}/state"))?;
        let gids = gids(root, directory);
        let interface = gids
            .first()
            .and_then(|gid| root.text(&format!("{directory}/gid_attrs/ndevs/{}", gid.index)))
            // It becomes part of a path.
            .filter(|name| !name.contains('/') && name != "..");
        let text = |file: &str| root.text(&format!("{directory}/{file}")).unwrap_or_default();
        Some(Self {
            number,
            state: state.split_once(": ").map_or(state.as_str(), |(_, name)| name).to_owned(),
            link_layer: text("link_layer"),
            rate: text("rate"),
            interface_mtu: interface
                .as_ref()
                .and_then(|name| root.number(&format!("sys/class/net/{name}/mtu"))),
            interface,
            gids,
        })
    }

    fn line(&self) -> String {
        let Self { state, link_layer, rate, interface, interface_mtu, gids, .. } = self;
        let mut words = vec![state.clone(), link_layer.clone(), rate.clone()];
        words.retain(|word| !word.is_empty());
        if let Some(interface) = interface {
            let mtu = interface_mtu.map(|mtu| format!(" with MTU {mtu}")).unwrap_or_default();
            words.push(format!("{interface}{mtu}"));
        }
        words.extend(gids.iter().map(|Gid { index, address, kind }| {
            let kind = kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            format!("GID {index} {address}{kind}")
        }));
        words.join(", ")
    }
}

/// Those that are set.
fn gids(root: &Root, port: &str) -> Vec<Gid> {
    let gid = |index: String| {
        let address = root.text(&format!("{port}/gids/{index}"))?;
        // The prefix of a link-local address alone is an entry without one.
        let set = address.split(':').skip(4).any(|group| group.chars().any(|digit| digit != '0'));
        let kind = root.text(&format!("{port}/gid_attrs/types/{index}"));
        set.then_some(Gid { index: index.parse().ok()?, address, kind })
    };
    root.numbered(&format!("{port}/gids"), "").into_iter().filter_map(gid).take(GIDS_MAX).collect()
}
