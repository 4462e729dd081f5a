//! The wire itself between two ranks: `baselines`' loops, with the messages, checks and clock of fabriq's own figures. They
//! keep their own time: warm-up and duration as they were asked for.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Instant;

use baselines::ofi::Place;
use baselines::perftest::{Server, Tool};
use baselines::{Link, MARGIN, Run, Traffic as Way, Wait};
use fabriq::{Context, Error, Frame, SocketType};

use super::super::protocol::{Flow, FlowFound, Kind, Task, ToolFigures, Traffic, Windows};
use super::echo::counts;
use super::{Actor, Floor, Part};
use crate::bench::Load;
use crate::bench::baseline::{measure, streaming_tool};
use crate::bench::latency::closed_loop;
use crate::bench::payload::{Ring, Verifier};
use crate::bench::throughput::too_few;
use crate::bench::window::{Measured, Window};
use crate::failure::Failure;

fn failed(error: baselines::Error) -> Failure {
    Failure::Failed(error.to_string())
}

/// The listening end, which echoes or is the sink.
#[derive(Debug)]
pub(super) struct Listener<L: Link> {
    listener: L::Listener,
    flow: Flow,
    run: Run,
    /// perftest's, which waits for the other end's.
    _tool: Option<Server>,
}

/// The dialling end, which pings or is the source.
#[derive(Debug)]
pub(super) struct Dialler<L: Link> {
    to: L::Address,
    flow: Flow,
    run: Run,
    /// Warm-up and duration.
    load: Load,
    /// Where perftest waits; or why it does not.
    tool: Option<Result<SocketAddr, String>>,
    /// By which others reach this host.
    here: Option<IpAddr>,
}

fn run_of(traffic: &Traffic) -> Run {
    let way = if traffic.kind == Kind::RawEcho { Way::PingPong } else { Way::Stream };
    Run { traffic: way, bytes: traffic.size, wait: Wait::Polled }
}

/// Listens, and says where; over verbs also where perftest does, or why not.
pub(super) fn listen(
    context: &Context,
    url: &str,
    traffic: &Traffic,
) -> Result<(Box<dyn Actor>, Vec<String>), Failure> {
    match url.split_once("://") {
        Some(("ofi", _)) => {
            let place = place(context, url)?.to_string();
            listen_on::<baselines::ofi::Link>("ofi", &place, traffic)
        }
        Some(("tcp", at)) => listen_on::<baselines::tcp::Link>("tcp", at, traffic),
        Some(("verbs", at)) => listen_on::<baselines::verbs::Link>("verbs", at, traffic),
        Some(("ipc", at)) => listen_on::<baselines::unix::Link>("ipc", at, traffic),
        _ => Err(no_loops(url)),
    }
}

/// Where raw libfabric listens for a URL of fabriq's: with the provider that fabriq has there, which few URLs name.
fn place(context: &Context, url: &str) -> Result<Place, Failure> {
    let socket = context.socket(SocketType::Rep)?;
    let bound = socket.bind(url)?.to_string();
    let mut place: Place = address::<baselines::ofi::Link>(bound.trim_start_matches("ofi://"))?;
    place.meeting.set_port(0);
    Ok(place)
}

fn listen_on<L: Link<Listener: Send> + 'static>(
    scheme: &str,
    at: &str,
    traffic: &Traffic,
) -> Result<(Box<dyn Actor>, Vec<String>), Failure> {
    let any = address::<L>(at.replace(":*", ":0").as_str())?;
    let (listener, here) = L::listen(&any).map_err(failed)?;
    let flow = *traffic.flows.first().ok_or_else(|| no_loops(at))?;
    let (here, mut server) = (here.to_string(), None);
    let mut endpoints = vec![format!("{scheme}://{here}")];
    if scheme == "verbs" {
        let served = match here.parse::<SocketAddr>() {
            Ok(here) => serve_tool(traffic, here.ip()),
            Err(_) => Err(format!("{here} is no numeric address")),
        };
        endpoints.push(match served {
            Ok(waiting) => format!("perftest://{}", server.insert(waiting).at()),
            Err(why) => why,
        });
    }
    Ok((Box::new(Listener::<L> { listener, flow, run: run_of(traffic), _tool: server }), endpoints))
}

fn tool_of(traffic: &Traffic) -> Tool {
    if traffic.kind == Kind::RawEcho { Tool::SendLat } else { streaming_tool(traffic.size) }
}

fn serve_tool(traffic: &Traffic, here: IpAddr) -> Result<Server, String> {
    let tool = tool_of(traffic);
    match tool.missing() {
        Some(why) => Err(why),
        None => measure(tool, here, traffic.size).serve(|_| {}).map_err(|error| error.to_string()),
    }
}

/// Will dial; `tool` is what the listening end has said of perftest.
pub(super) fn dial(
    url: &str,
    tool: Option<&String>,
    traffic: &Traffic,
    task: &Task,
    address: &str,
) -> Result<Box<dyn Actor>, Failure> {
    let tool = tool.map(|said| match said.strip_prefix("perftest://").map(str::parse) {
        Some(Ok(at)) => Ok(at),
        _ => Err(said.clone()),
    });
    let more = (tool, address.parse().ok());
    match url.split_once("://") {
        Some(("tcp", at)) => dial_on::<baselines::tcp::Link>(at, traffic, task, more),
        Some(("verbs", at)) => dial_on::<baselines::verbs::Link>(at, traffic, task, more),
        Some(("ofi", at)) => dial_on::<baselines::ofi::Link>(at, traffic, task, more),
        Some(("ipc", at)) => dial_on::<baselines::unix::Link>(at, traffic, task, more),
        _ => Err(no_loops(url)),
    }
}

fn dial_on<L: Link<Address: Send> + 'static>(
    at: &str,
    traffic: &Traffic,
    task: &Task,
    (tool, here): (Option<Result<SocketAddr, String>>, Option<IpAddr>),
) -> Result<Box<dyn Actor>, Failure> {
    let flow = *traffic.flows.first().ok_or_else(|| no_loops(at))?;
    let load = Load { sizes: vec![traffic.size], duration: task.duration, warmup: task.warmup, rate: None };
    Ok(Box::new(Dialler::<L> { to: address::<L>(at)?, flow, run: run_of(traffic), load, tool, here }))
}

fn address<L: Link>(at: &str) -> Result<L::Address, Failure> {
    at.parse().map_err(|_| {
        Failure::Failed(format!(
            "{at}: the wire itself is measured at numeric addresses, as in tcp://10.0.0.1:*"
        ))
    })
}

fn no_loops(url: &str) -> Failure {
    Failure::Failed(format!("{url}: there is no loop on this wire itself"))
}

impl<L: Link<Listener: Send> + 'static> Actor for Listener<L> {
    fn measures(&self) -> bool {
        false
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        baselines::heed(floor.aborted);
        let link = L::accept(&self.listener, &self.run).map_err(failed)?;
        let size = self.run.bytes;
        if self.run.traffic == Way::PingPong {
            link.echo().map_err(failed)?;
            return Ok(Part { steady: true, ..Part::default() });
        }
        let task = floor.task;
        let mut verifier = Verifier::new(size, Ring::slots_of(size));
        let (mut window, mut checked) = (None, Ok(()));
        link.sink(|body| {
            let window = window.get_or_insert_with(|| Window::new(size, task.warmup, Some(task.duration)));
            checked = verifier.check(body);
            if checked.is_err() || floor.is_aborted() || window.arrived(verifier.count) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
        .map_err(failed)?;
        checked?;
        if floor.is_aborted() {
            return Err(Error::Terminated.into());
        }
        let measured = window.and_then(|window: Window| window.close(verifier.count));
        let Measured { messages, seconds, windows } = measured.ok_or_else(too_few)?;
        let flow = FlowFound { messages, seconds, ..of(self.flow) };
        let windows = Windows { typical: windows, tails: Vec::new() };
        Ok(Part {
            flows: vec![flow],
            windows,
            verified: verifier.count,
            steady: true,
            what: Some(L::what(&self.run)),
            tool: None,
        })
    }
}

impl<L: Link<Address: Send> + 'static> Actor for Dialler<L> {
    fn measures(&self) -> bool {
        false
    }

    fn run(&mut self, floor: &Floor<'_>) -> Result<Part, Failure> {
        baselines::heed(floor.aborted);
        let ring = Ring::new(floor.context, self.run.bytes)?;
        let mut link = L::connect(&self.to, &self.run).map_err(failed)?;
        if self.run.traffic == Way::Stream {
            let frames: Vec<Frame> = (0..ring.slots()).map(|number| ring.message(number)).collect();
            link.source(&frames, self.load.warmup + self.load.duration + MARGIN).map_err(failed)?;
            return Ok(Part { steady: true, tool: self.ask_tool(floor), ..Part::default() });
        }
        let trips = closed_loop(&self.load, &ring, self.run.bytes, |frame, verifier| {
            if floor.is_aborted() {
                return Err(Error::Terminated.into());
            }
            let checked = link.ping(&frame, |reply| {
                let received = Instant::now();
                verifier.check(reply).map(|()| received)
            });
            checked.map_err(failed)?
        })?;
        link.close().map_err(failed)?;
        let messages = trips.one_way_ns.len();
        let flow = FlowFound {
            messages,
            seconds: trips.seconds,
            latencies: counts(&trips.one_way_ns),
            ..of(self.flow)
        };
        let windows = Windows {
            typical: trips.windows.iter().map(|window| window.p50_us).collect(),
            tails: trips.windows.iter().map(|window| window.p99_us).collect(),
        };
        Ok(Part {
            flows: vec![flow],
            windows,
            verified: messages,
            steady: true,
            what: Some(L::what(&self.run)),
            tool: self.ask_tool(floor),
        })
    }
}

impl<L: Link> Dialler<L> {
    /// perftest's figures, if the other end waits for it.
    fn ask_tool(&self, floor: &Floor<'_>) -> Option<Result<ToolFigures, String>> {
        let server = match self.tool.as_ref()? {
            Ok(server) => *server,
            Err(why) => return Some(Err(why.clone())),
        };
        let traffic = floor.task.traffics.first()?;
        let tool = tool_of(traffic);
        let asked = match (tool.missing(), self.here) {
            (Some(why), _) => Err(why),
            (None, None) => Err("no numeric address is known for this host".to_owned()),
            (None, Some(here)) => {
                measure(tool, here, traffic.size).ask(server, |_| {}).map_err(|error| error.to_string())
            }
        };
        Some(asked.map(|figures| ToolFigures {
            name: tool.name().to_owned(),
            p50_us: figures.p50_us,
            p99_us: figures.p99_us,
            messages_per_second: figures.messages_per_s,
            ratio: None,
        }))
    }
}

fn of(flow: Flow) -> FlowFound {
    FlowFound { from: flow.from, to: Some(flow.to), ..FlowFound::default() }
}
