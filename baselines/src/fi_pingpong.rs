//! libfabric's own ping-pong (fi_pingpong(1)), run as processes: both ends on this host. Its figure is a mean, where ours are
//! medians, and may be far above them on a machine whose processors are shared.

use std::net::{IpAddr, TcpListener};
use std::process::Command;

use crate::Result;
use crate::ofi::Place;
use crate::processes;
use transport_ofi::device::Kind;

const NAME: &str = "fi_pingpong";

/// Why it cannot be run here, if it cannot.
pub fn missing() -> Option<String> {
    processes::missing(NAME, "-h", "libfabric-bin")
}

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// On which provider, and where.
    pub place: Place,
    /// Bytes of a message.
    pub bytes: usize,
    /// Round trips.
    pub count: u32,
}

impl Measure {
    /// Runs both ends, and says the mean of half a round trip, in microseconds. `prepare` may add to their commands.
    pub fn run(&self, prepare: impl Fn(&mut Command)) -> Result<f64> {
        let (ip, kind) = (self.place.meeting.ip(), self.place.kind()?);
        // Free now, and nobody else is about to take it.
        let meeting = TcpListener::bind((ip, 0))?.local_addr()?.port();
        let mut server = self.command(kind, ip);
        server.args(["-B", &meeting.to_string()]);
        let mut client = self.command(kind, ip);
        client.args(["-P", &meeting.to_string(), &ip.to_string()]);
        let _server = processes::serve(NAME, server, meeting, &prepare)?;
        processes::ask(NAME, client, prepare, parse)
    }

    fn command(&self, kind: Kind, ip: IpAddr) -> Command {
        let mut command = Command::new(NAME);
        // One of the libraries that libfabric links (libinfinipath) writes a file into the directory at each signal it gets.
        command.env("IPATH_NO_BACKTRACE", "1");
        command.args(["-p", &self.place.provider, "-e", &kind.name().to_lowercase()]);
        command.args(["-I", &self.count.to_string(), "-S", &self.bytes.to_string()]);
        if ip.is_ipv6() {
            command.arg("-6");
        }
        command
    }
}

/// bytes, #sent, #ack, total, time, MB/sec, usec/xfer, Mxfers/sec
fn parse(printed: &str) -> Option<f64> {
    let mut rows = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|cells| cells.first() == Some(&"bytes"))?;
    rows.next()?.get(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_read() {
        let printed = "\
bytes   #sent   #ack     total       time     MB/sec    usec/xfer   Mxfers/sec
64      1k      =1k      125k        0.94s      0.14     470.52       0.00
";
        assert_eq!(parse(printed), Some(470.52));
        for nothing in ["", "bytes", "bytes #sent\n64 1k", "Connection refused"] {
            assert_eq!(parse(nothing), None, "{nothing}");
        }
    }
}
