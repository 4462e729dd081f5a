//! What one end of one run is told: the options of `publish` and `subscribe`. It does nothing.

use crate::Result;
use crate::message::BYTES_MIN;
use crate::peer::Name;
use std::net::Ipv4Addr;
use std::time::Duration;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// Whose multicast.
    #[arg(long, value_enum)]
    pub(crate) peer: Name,
    /// The name of the interface.
    #[arg(long, default_value = "eth0")]
    pub(crate) interface: String,
    /// The group; IPv4, which all peers speak.
    #[arg(long, default_value = "239.192.0.1")]
    pub(crate) group: Ipv4Addr,
    /// The UDP port.
    #[arg(long, default_value_t = 7500)]
    pub(crate) port: u16,
    /// Messages.
    #[arg(long, default_value_t = 2000)]
    pub(crate) count: u64,
    /// The size of a message.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(BYTES_MIN as u64..))]
    pub(crate) bytes: u64,
    /// Messages per second; 0 is as many as the cap lets through.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// The publisher's limit in Mbit/s, headers included; 0 is none: each peer at the highest rate that it holds.
    #[arg(long, default_value_t = 100)]
    pub(crate) cap_mbit: u64,
    /// Socket buffers, for sending and receiving, in bytes.
    #[arg(long, default_value_t = 4 << 20)]
    pub(crate) buffer: usize,
    /// After how much silence a subscriber gives up, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    pub(crate) silence_ms: u64,
    /// What fabriq's sockets use. {interface}, {group} and {port} are filled in.
    #[arg(long, default_value = "epgm://{interface};{group}:{port}")]
    pub(crate) url: String,
}

impl Load {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    /// The cap, or what this peer holds without one.
    pub(crate) fn cap_mbit_or(&self, own: u64) -> u64 {
        if self.cap_mbit == 0 { own } else { self.cap_mbit }
    }

    pub(crate) fn url(&self) -> String {
        self.url
            .replace("{interface}", &self.interface)
            .replace("{group}", &self.group.to_string())
            .replace("{port}", &self.port.to_string())
    }

    /// How libzmq and OpenPGM name a group on an interface.
    pub(crate) fn network(&self) -> String {
        format!("{};{}", self.interface, self.group)
    }

    pub(crate) fn interface_index(&self) -> Result<u32> {
        // Any socket will do: /sys may be another host's.
        let asked = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        rustix::net::netdevice::name_to_index(asked, &self.interface).map_err(|errno| {
            format!("no interface {}: {errno}; --interface names one", self.interface).into()
        })
    }

    /// The words that give another process of this program the same load.
    pub(crate) fn words(&self) -> Vec<String> {
        [
            ("--peer", self.peer.to_string()),
            ("--interface", self.interface.clone()),
            ("--group", self.group.to_string()),
            ("--port", self.port.to_string()),
            ("--count", self.count.to_string()),
            ("--bytes", self.bytes.to_string()),
            ("--rate", self.rate.to_string()),
            ("--cap-mbit", self.cap_mbit.to_string()),
            ("--buffer", self.buffer.to_string()),
            ("--silence-ms", self.silence_ms.to_string()),
            ("--url", self.url.clone()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
    }
}
