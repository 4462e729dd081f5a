//! UCX's own measure (ucx_perftest), run as processes: both ends on this host, over TCP or shared memory. Another library for the
//! same fabrics.

use std::net::{IpAddr, TcpListener};
use std::process::Command;

use crate::Result;
use crate::processes;

const NAME: &str = "ucx_perftest";

/// Why it cannot be run here, if it cannot.
pub fn missing() -> Option<String> {
    processes::missing(NAME, "-h", "ucx-utils")
}

/// What UCX may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// TCP over the loopback interface.
    LoopbackTcp,
    /// Shared memory, and copies from process to process.
    SharedMemory,
}

/// What is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Over what.
    pub wire: Wire,
    /// Messages one way, and not there and back.
    pub is_stream: bool,
    /// Where the two ends meet.
    pub at: IpAddr,
    /// Bytes of a message.
    pub bytes: usize,
    /// Messages, or round trips.
    pub count: u32,
}

/// What it found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Half of a round trip, in microseconds: the median. Of a stream it means nothing.
    pub p50_us: f64,
    /// Messages per second, on average.
    pub messages_per_s: f64,
}

impl Measure {
    /// Runs both ends. `prepare` may add to their commands.
    pub fn run(&self, prepare: impl Fn(&mut Command)) -> Result<Figures> {
        // Free now, and nobody else is about to take it.
        let meeting = TcpListener::bind((self.at, 0))?.local_addr()?.port();
        let server = self.command(meeting);
        let mut client = self.command(meeting);
        client.arg(self.at.to_string());
        let _server = processes::serve(NAME, server, meeting, &prepare)?;
        processes::ask(NAME, client, prepare, parse)
    }

    fn command(&self, meeting: u16) -> Command {
        let mut command = Command::new(NAME);
        match self.wire {
            Wire::LoopbackTcp => command.env("UCX_TLS", "tcp,self").env("UCX_NET_DEVICES", "lo"),
            Wire::SharedMemory => command.env("UCX_TLS", "posix,cma,self"),
        };
        let test = if self.is_stream { "tag_bw" } else { "tag_lat" };
        let number = |number: usize| number.to_string();
        command.args(["-t", test, "-p", &meeting.to_string(), "-s", &number(self.bytes)]);
        command.args(["-n", &self.count.to_string(), "-w", &number((self.count / 10).max(1) as usize)]);
        // Only the result, as comma-separated values.
        command.args(["-f", "-v"]);
        command
    }
}

/// iterations, 50.0_percentile_lat, avg_lat, overall_lat, avg_bw, overall_bw, avg_mr, overall_mr
fn parse(printed: &str) -> Option<Figures> {
    let mut lines = printed.lines().skip_while(|line| !line.starts_with("iterations,"));
    let cells: Vec<&str> = lines.nth(1)?.split(',').collect();
    let cell = |at: usize| -> Option<f64> { cells.get(at)?.trim().parse().ok() };
    Some(Figures { p50_us: cell(1)?, messages_per_s: cell(7)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_values_is_read() {
        let printed = "\
iterations,50.0_percentile_lat,avg_lat,overall_lat,avg_bw,overall_bw,avg_mr,overall_mr
2000,4.784,4.815,502.581,12.68,0.12,207694,1990
";
        let figures = parse(printed).unwrap();
        assert_eq!((figures.p50_us, figures.messages_per_s), (4.784, 1990.0));
        for nothing in ["", "iterations,", "iterations,a\n1,2", "UCX ERROR"] {
            assert_eq!(parse(nothing), None, "{nothing}");
        }
    }
}
