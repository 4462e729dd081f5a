//! What the wire itself can do, measured beside fabriq in the same run: `baselines`' loops between this process and
//! another of this program's, and perftest where it is installed. The messages, their checks and the clock are those of
//! fabriq's own figures.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Instant;

use baselines::ofi::Place;
use baselines::perftest::{Figures, Measure, Tool};
use baselines::{Link, MARGIN, READ_FROM, Run, Traffic, Wait};
use fabriq::Frame;

use super::latency::{Trips, closed_loop};
use super::payload::{Ring, Verifier};
use super::peer::Peer;
use super::report::{Latency, Throughput, Without};
use super::throughput::too_few;
use super::window::{Measured, Window};
use super::{Kind, Load, LoadArgs, end_with_stdin, nanoseconds};
use crate::failure::Failure;

/// Name of our own loops in reports; perftest's tools go by theirs.
const RAW: &str = "raw-polled";
const PERFTEST: &str = "perftest";

/// What a run of perftest moves: bytes, but no fewer and no more messages.
const TOOL_BYTES: usize = 16 << 20;
const TOOL_MESSAGES_MIN: usize = 16;
const TOOL_TRIPS_MAX: usize = 1000;
const TOOL_MESSAGES_MAX: usize = 16 << 10;

/// The wires that have baselines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Ipc,
    Tcp,
    Verbs,
    Ofi,
}

impl Wire {
    fn scheme(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Tcp => "tcp",
            Self::Verbs => "verbs",
            Self::Ofi => "ofi",
        }
    }

    /// The wire of a URL, and what stands behind `://`. `None`: a scheme without baselines.
    fn parse(url: &str) -> Option<(Self, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let wires = [Self::Ipc, Self::Tcp, Self::Verbs, Self::Ofi];
        let wire = wires.into_iter().find(|wire| wire.scheme() == scheme)?;
        Some((wire, rest))
    }
}

/// The baselines of one transport on one address of this host.
#[derive(Debug)]
pub(super) struct Beside {
    wire: Wire,
    /// Where there are addresses on this wire beside fabriq's, with a wildcard.
    any: String,
    has_perftest: bool,
}

impl Beside {
    /// Those beside a real endpoint of fabriq's. `None`: there are none of its scheme. Says what is missing.
    pub(super) fn of(url: &str, without: &mut Vec<Without>) -> Option<Self> {
        let (wire, at) = Wire::parse(url)?;
        let any = match wire {
            Wire::Ipc => "*".to_owned(),
            Wire::Tcp | Wire::Verbs => SocketAddr::new(at.parse::<SocketAddr>().ok()?.ip(), 0).to_string(),
            Wire::Ofi => {
                let mut place: Place = at.parse().ok()?;
                place.meeting.set_port(0);
                place.to_string()
            }
        };
        let mut beside = Self { wire, any, has_perftest: false };
        if wire == Wire::Verbs {
            match Tool::SendLat.missing() {
                None => beside.has_perftest = true,
                Some(why) => without.push(Without::new(wire.scheme(), PERFTEST, why)),
            }
        }
        Some(beside)
    }

    /// Measures latency as it has just been measured with fabriq, and writes it beside.
    pub(super) fn latency(
        &self,
        context: &fabriq::Context,
        load: &Load,
        row: &mut Latency,
        without: &mut Vec<Without>,
    ) -> Result<(), Failure> {
        let size = row.size;
        let trips = match self.wire {
            Wire::Ipc => self.ping::<baselines::unix::Link>(context, load, size),
            Wire::Tcp => self.ping::<baselines::tcp::Link>(context, load, size),
            Wire::Verbs => self.ping::<baselines::verbs::Link>(context, load, size),
            Wire::Ofi => self.ping::<baselines::ofi::Link>(context, load, size),
        };
        if let Some((trips, what)) = self.found(RAW, trips, without)? {
            row.beside(RAW, what, &trips);
        }
        if let Some(figures) = self.tool(Tool::SendLat, size, without)? {
            row.beside_tool(Tool::SendLat.name(), PERFTEST, figures.p50_us, figures.p99_us);
        }
        Ok(())
    }

    /// The same of throughput.
    pub(super) fn throughput(
        &self,
        load: &Load,
        row: &mut Throughput,
        without: &mut Vec<Without>,
    ) -> Result<(), Failure> {
        let size = row.size;
        let rate = match self.wire {
            Wire::Ipc => self.sink::<baselines::unix::Link>(load, size),
            Wire::Tcp => self.sink::<baselines::tcp::Link>(load, size),
            Wire::Verbs => self.sink::<baselines::verbs::Link>(load, size),
            Wire::Ofi => self.sink::<baselines::ofi::Link>(load, size),
        };
        if let Some((rate, what)) = self.found(RAW, rate, without)? {
            row.beside(RAW, what, rate);
        }
        let tool = streaming_tool(size);
        if let Some(figures) = self.tool(tool, size, without)? {
            row.beside(tool.name(), PERFTEST, figures.messages_per_s);
        }
        Ok(())
    }

    /// A baseline that cannot be had is no failure of fabriq's, and said in the report; bytes that arrive damaged are.
    fn found<T>(
        &self,
        name: &str,
        found: Result<T, Failure>,
        without: &mut Vec<Without>,
    ) -> Result<Option<T>, Failure> {
        match found {
            Ok(figures) => Ok(Some(figures)),
            Err(Failure::Corrupt(text)) => Err(Failure::Corrupt(format!("{name} baseline: {text}"))),
            Err(failure) => {
                let row = Without::new(self.wire.scheme(), name, failure.into_text());
                if !without.contains(&row) {
                    without.push(row);
                }
                Ok(None)
            }
        }
    }

    /// `None` also where perftest is not installed, which has been said.
    fn tool(&self, tool: Tool, size: usize, without: &mut Vec<Without>) -> Result<Option<Figures>, Failure> {
        let at = self.any.parse::<SocketAddr>();
        let (true, Ok(at)) = (self.has_perftest, at) else {
            return Ok(None);
        };
        let measure = measure(tool, at.ip(), size);
        self.found(tool.name(), measure.run(|_| {}).map_err(failed), without)
    }

    /// This end pings, the other echoes.
    fn ping<L: Link>(
        &self,
        context: &fabriq::Context,
        load: &Load,
        size: usize,
    ) -> Result<(Trips, &'static str), Failure> {
        let ring = Ring::new(context, size)?;
        let any = format!("{}://{}", self.wire.scheme(), self.any);
        let mut peer = Peer::start(&["baseline", "latency", "--bind", &any, "--size", &size.to_string()])?;
        let run = run(Kind::Latency, size);
        let there = peer.endpoint()?;
        let mut link = L::connect(&address::<L>(&there)?, &run).map_err(failed)?;
        let trips = closed_loop(load, &ring, size, |frame, verifier| {
            let checked = link.ping(&frame, |reply| {
                let received = Instant::now();
                verifier.check(reply).map(|()| received)
            });
            checked.map_err(failed)?
        })?;
        link.close().map_err(failed)?;
        peer.finish()?;
        Ok((trips, L::what(&run)))
    }

    /// This end is the sink, the other the source. Messages per second.
    fn sink<L: Link>(&self, load: &Load, size: usize) -> Result<(f64, &'static str), Failure> {
        let (listener, here) = L::listen(&behind::<L>(&self.any)?).map_err(failed)?;
        let url = format!("{}://{here}", self.wire.scheme());
        let (duration, warmup) = (nanoseconds(load.duration), nanoseconds(load.warmup));
        let size_text = size.to_string();
        let arguments = ["baseline", "throughput", "--connect", &url, "--size", &size_text];
        let peer =
            Peer::start(&[&arguments[..], &["--duration", &duration, "--warmup", &warmup][..]].concat())?;
        let run = run(Kind::Throughput, size);
        let link = L::accept(&listener, &run).map_err(failed)?;
        // From the first message: there are no queues out of which others could come at once.
        let mut window = None;
        let mut verifier = Verifier::new(size, Ring::slots_of(size));
        let mut checked = Ok(());
        link.sink(|body| {
            let window = window.get_or_insert_with(|| Window::new(size, load.warmup, Some(load.duration)));
            checked = verifier.check(body);
            if checked.is_err() || window.arrived(verifier.count) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
        .map_err(failed)?;
        checked?;
        let measured = window.and_then(|window: Window| window.close(verifier.count));
        let Measured { messages, seconds, .. } = measured.ok_or_else(too_few)?;
        peer.finish()?;
        Ok((messages as f64 / seconds, L::what(&run)))
    }
}

/// A run of one of perftest's tools, as long as a run beside fabriq's.
pub(super) fn measure(tool: Tool, at: IpAddr, size: usize) -> Measure {
    let most = if tool == Tool::SendLat { TOOL_TRIPS_MAX } else { TOOL_MESSAGES_MAX };
    let count = (TOOL_BYTES / size).clamp(TOOL_MESSAGES_MIN, most) as u32;
    Measure { tool, at, bytes: size, count, asleep: false }
}

/// Which of them streams messages of a size as fabriq does.
pub(super) fn streaming_tool(size: usize) -> Tool {
    if size < READ_FROM { Tool::SendBw } else { Tool::ReadBw }
}

fn run(kind: Kind, bytes: usize) -> Run {
    let traffic = match kind {
        Kind::Latency => Traffic::PingPong,
        Kind::Throughput => Traffic::Stream,
    };
    Run { traffic, bytes, wait: Wait::Polled }
}

fn failed(error: baselines::Error) -> Failure {
    Failure::Failed(error.to_string())
}

const WHERE: &str = "baselines are at ipc://@NAME, tcp://ADDRESS:PORT, verbs://ADDRESS:PORT and \
                     ofi://ADDRESS:PORT?provider=NAME";

/// The address of a URL of this wire.
fn address<L: Link>(url: &str) -> Result<L::Address, Failure> {
    url.split_once("://").map_or_else(|| behind::<L>(url), |(_, rest)| behind::<L>(rest))
}

fn behind<L: Link>(address: &str) -> Result<L::Address, Failure> {
    address.parse().map_err(|_| Failure::Usage(format!("{address}: {WHERE}")))
}

// ---------------------------------------------------------------------------------------------------------------
// The other process

/// The other end of a baseline (internal: the default run starts it)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_enum)]
    kind: Kind,

    /// Echo to who connects here
    #[arg(long, value_name = "URL", required_unless_present = "connect")]
    bind: Option<String>,

    /// Send to who listens there
    #[arg(long, value_name = "URL", conflicts_with = "bind")]
    connect: Option<String>,

    #[command(flatten)]
    load: LoadArgs,

    #[arg(long, hide = true)]
    pub(super) as_peer: bool,
}

/// Is the other end.
pub(super) fn serve(args: Args) -> Result<(), Failure> {
    if args.as_peer {
        end_with_stdin();
    }
    let load = Load::new(args.load, None)?;
    let (&[size], Some(url)) = (load.sizes.as_slice(), args.bind.or(args.connect)) else {
        return Err(Failure::Usage("a baseline has one --size and one URL".to_owned()));
    };
    let (wire, _) = Wire::parse(&url).ok_or_else(|| Failure::Usage(format!("{url}: {WHERE}")))?;
    match wire {
        Wire::Ipc => serve_on::<baselines::unix::Link>(args.kind, wire, &url, &load, size),
        Wire::Tcp => serve_on::<baselines::tcp::Link>(args.kind, wire, &url, &load, size),
        Wire::Verbs => serve_on::<baselines::verbs::Link>(args.kind, wire, &url, &load, size),
        Wire::Ofi => serve_on::<baselines::ofi::Link>(args.kind, wire, &url, &load, size),
    }
}

fn serve_on<L: Link>(kind: Kind, wire: Wire, url: &str, load: &Load, size: usize) -> Result<(), Failure> {
    let (run, at) = (run(kind, size), address::<L>(url)?);
    match kind {
        Kind::Latency => {
            let (listener, here) = L::listen(&at).map_err(failed)?;
            crate::info::print(&format!("{}://{here}\n", wire.scheme()))?;
            L::accept(&listener, &run).and_then(L::echo).map_err(failed)
        }
        Kind::Throughput => {
            let context = fabriq::context()?;
            let ring = Ring::new(&context, size)?;
            let frames: Vec<Frame> = (0..ring.slots()).map(|number| ring.message(number)).collect();
            let link = L::connect(&at, &run).map_err(failed)?;
            link.source(&frames, load.warmup + load.duration + MARGIN).map_err(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wires_are_told_by_their_scheme_and_need_an_address() {
        for (url, wire, any) in [
            ("ipc:///run/fabriq-bench", Wire::Ipc, "*"),
            ("tcp://[::1]:5", Wire::Tcp, "[::1]:0"),
            ("tcp://10.7.0.1:5", Wire::Tcp, "10.7.0.1:0"),
            ("ofi://10.7.0.1:5?provider=tcp;ofi_rxm", Wire::Ofi, "10.7.0.1:0?provider=tcp;ofi_rxm"),
        ] {
            let beside = Beside::of(url, &mut Vec::new()).unwrap();
            assert_eq!((beside.wire, &*beside.any), (wire, any), "{url}");
        }
        for url in [
            "inproc://x",
            "pgm://10.7.0.1:5",
            "tcp://localhost:5",
            "tcp://10.7.0.1:*",
            "ofi://10.7.0.1:5",
            "x",
        ] {
            assert!(Beside::of(url, &mut Vec::new()).is_none(), "{url}");
        }
        assert!(address::<baselines::unix::Link>("ipc://@x").is_ok());
        assert!(address::<baselines::unix::Link>("ipc:///x").is_err());
    }
}
