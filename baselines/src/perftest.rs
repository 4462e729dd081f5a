//! perftest's tools (ib_send_lat, ib_send_bw, ib_read_bw), the field's own baselines, run as processes: both ends on this
//! host, or one on each of two. Their clock and their statistics are their own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;

use crate::limits::INLINE;
use crate::processes::{self, Ended};
use crate::{Error, Result};

/// One of the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// ib_send_lat: a ping-pong of sends.
    SendLat,
    /// ib_send_bw: a stream of sends.
    SendBw,
    /// ib_read_bw: a stream of RDMA READs.
    ReadBw,
}

impl Tool {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendLat => "ib_send_lat",
            Self::SendBw => "ib_send_bw",
            Self::ReadBw => "ib_read_bw",
        }
    }

    /// Why it cannot be run here, if it cannot.
    pub fn missing(self) -> Option<String> {
        processes::missing(self.name(), "--version", "perftest")
    }
}

/// What is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// With what.
    pub tool: Tool,
    /// An address of the RDMA device.
    pub at: IpAddr,
    /// Bytes of a message.
    pub bytes: usize,
    /// Messages, or round trips.
    pub count: u32,
    /// Both ends sleep for completions instead of polling.
    pub asleep: bool,
}

/// The end of a tool that waits; it ends when this goes out of scope.
#[derive(Debug)]
pub struct Server {
    _process: Ended,
    at: SocketAddr,
}

impl Server {
    /// Where it waits: the two ends of a tool meet over TCP.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

/// What a tool found. It has 0 where it does not measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// One way, in microseconds: the median, and the 99th percentile.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
    /// Messages per second, on average.
    pub messages_per_s: f64,
}

impl Measure {
    /// Runs the tool's two ends. `prepare` may add to their commands.
    pub fn run(&self, prepare: impl Fn(&mut Command)) -> Result<Figures> {
        let server = self.serve(&prepare)?;
        self.ask(server.at(), prepare)
    }

    /// Starts the end that waits for the other, and for whom [`Measure::ask`] asks.
    pub fn serve(&self, prepare: impl Fn(&mut Command)) -> Result<Server> {
        let port = self.device()?;
        // Free now, and nobody else is about to take it.
        let meeting = TcpListener::bind((self.at, 0))?.local_addr()?.port();
        let server = processes::serve(self.tool.name(), self.command(&port, meeting), meeting, prepare)?;
        Ok(Server { _process: server, at: SocketAddr::new(self.at, meeting) })
    }

    /// Runs the end that measures; `at` is its own address, and the other end, which was told the same, waits at `server`.
    pub fn ask(&self, server: SocketAddr, prepare: impl Fn(&mut Command)) -> Result<Figures> {
        let mut client = self.command(&self.device()?, server.port());
        client.arg(server.ip().to_string());
        processes::ask(self.tool.name(), client, prepare, |printed| self.parse(printed))
    }

    fn failed(&self, why: String) -> Error {
        Error::Tool { tool: self.tool.name(), why }
    }

    fn command(&self, device: &Device, meeting: u16) -> Command {
        let mut command = Command::new(self.tool.name());
        let number = |number: usize| number.to_string();
        command.args(["-F", "-d", &device.name, "-i", &device.port, "-x", &device.gid]);
        command.args(["-s", &number(self.bytes), "-n", &number(self.count as usize)]);
        command.args(["-p", &number(meeting.into())]);
        if self.tool != Tool::ReadBw {
            let inline = if self.bytes <= INLINE as usize { self.bytes } else { 0 };
            command.args(["-I", &number(inline)]);
        }
        if self.asleep {
            command.arg("-e");
        }
        command
    }

    fn parse(&self, printed: &str) -> Option<Figures> {
        let size = self.bytes.to_string();
        let mut rows = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).rev();
        let row = rows.find(|cells| cells.first() == Some(&size.as_str()))?;
        let cell = |at: usize| -> Option<f64> { row.get(at)?.parse().ok() };
        Some(match self.tool {
            // #bytes, #iterations, t_min, t_max, t_typical, t_avg, t_stdev, 99 %, ...: half of a round trip each.
            Tool::SendLat => Figures { p50_us: cell(4)?, p99_us: cell(7)?, messages_per_s: 0.0 },
            // #bytes, #iterations, BW peak, BW average (MiB/s), MsgRate (Mpps)
            Tool::SendBw | Tool::ReadBw => Figures {
                p50_us: 0.0,
                p99_us: 0.0,
                messages_per_s: cell(3)? * f64::from(1 << 20) / self.bytes as f64,
            },
        })
    }

    /// The device, port and GID that have the address. One address may have a GID of RoCE v1 as well; v2 is what RDMA CM
    /// uses.
    fn device(&self) -> Result<Device> {
        let mut found = None;
        for device in std::fs::read_dir("/sys/class/infiniband")?.flatten() {
            for port in std::fs::read_dir(device.path().join("ports"))?.flatten() {
                let Ok(gids) = std::fs::read_dir(port.path().join("gids")) else { continue };
                for gid in gids.flatten() {
                    let text = std::fs::read_to_string(gid.path()).unwrap_or_default();
                    if address(&text) != Some(self.at) {
                        continue;
                    }
                    let kind = port.path().join("gid_attrs/types").join(gid.file_name());
                    let is_v2 = std::fs::read_to_string(kind).is_ok_and(|kind| kind.contains("v2"));
                    if is_v2 || found.is_none() {
                        let name = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
                        found = Some(Device {
                            name: name(device.file_name()),
                            port: name(port.file_name()),
                            gid: name(gid.file_name()),
                        });
                    }
                }
            }
        }
        found.ok_or_else(|| self.failed(format!("no RDMA device has the address {}", self.at)))
    }
}

/// As the tools' options name it.
#[derive(Debug)]
struct Device {
    name: String,
    port: String,
    gid: String,
}

/// The IP address that a GID stands for.
fn address(gid: &str) -> Option<IpAddr> {
    let gid = gid.trim().parse::<Ipv6Addr>().ok()?;
    Some(gid.to_ipv4_mapped().map_or(IpAddr::V6(gid), IpAddr::V4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tool: Tool, bytes: usize, printed: &str) -> Option<Figures> {
        let at = IpAddr::from([10, 7, 0, 1]);
        Measure { tool, at, bytes, count: 1000, asleep: false }.parse(printed)
    }

    #[test]
    fn the_row_of_the_size_is_read() {
        let printed = "\
 #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% [usec]   99.9% [usec]
 64      1000          18.45          9000.31      21.68              30.50          12.20           459.50       9000.31
---------------------------------------------------------------------------------------";
        let figures = parse(Tool::SendLat, 64, printed).unwrap();
        assert_eq!((figures.p50_us, figures.p99_us), (21.68, 459.5));
        let printed = "\
 #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]
 65536      512              70.00              62.50              0.001000";
        assert_eq!(parse(Tool::ReadBw, 65536, printed).unwrap().messages_per_s, 1000.0);
    }

    #[test]
    fn a_row_that_is_missing_or_short_has_no_figures() {
        for printed in ["", "Couldn't connect", "64", "64 1000 a b c d e f g", "128 1000 1 2 3 4 5 6 7"] {
            assert_eq!(parse(Tool::SendLat, 64, printed), None, "{printed}");
        }
    }

    #[test]
    fn a_gid_stands_for_an_address() {
        assert_eq!(address("0000:0000:0000:0000:0000:ffff:0a07:0001\n"), Some([10, 7, 0, 1].into()));
        assert_eq!(address("fe80::1").map(|it| it.is_ipv6()), Some(true));
        assert_eq!(address(""), None);
    }
}
