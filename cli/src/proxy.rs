//! `fabriq proxy`: carries messages between two sides until it is told to end. Looks into none of them.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fabriq::{Context, Error, Proxy, ProxyStatistics, ProxyTraffic, Socket, SocketType};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::failure::{Failure, note};
use crate::units::{self, parse_duration, parse_span};
use crate::watch::Watch;
use crate::wire::refuse_inproc;

const EXAMPLES: &str = "\
Examples:
  fabriq proxy --frontend 'tcp://*:5555' --backend 'tcp://*:5556'          clients connect to 5555, workers to 5556
  fabriq proxy --type forwarder --frontend 'tcp://*:5555' --backend 'verbs://10.0.0.1:5556'
                                                                           publishers over tcp, subscribers over RDMA
  fabriq proxy --type streamer --connect-frontend tcp://source:5555 --backend 'tcp://*:5556' --stats 1s
  fabriq proxy --frontend 'tcp://*:5555' --backend 'tcp://*:5556' --capture 'tcp://*:5557'
  fabriq sub tcp://localhost:5557                                          and this prints what it carries

  queue      frontend ROUTER for REQ and DEALER clients; backend DEALER for REP and ROUTER workers, in turn
  forwarder  frontend XSUB for publishers; backend XPUB for subscribers; only what somebody subscribed to is fetched
  streamer   frontend PULL for PUSH sources; backend PUSH for PULL sinks, in turn

Both sides may have several URLs of several transports. Nothing is taken from one side that the other has no room for. \
Ctrl-C (or SIGTERM) ends it with exit code 0 when what it has taken is delivered, for at most --linger; the second Ctrl-C \
ends it at once. SIGUSR1 prints a line of statistics.";

/// Carry messages between two sides: clients and workers, publishers and subscribers, sources and sinks
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What the two sides are
    #[arg(long = "type", value_name = "TYPE", default_value = "queue")]
    device: Device,

    /// Listen here for the frontend's peers; repeatable. The real endpoint is said on stderr
    #[arg(long, value_name = "URL", required_unless_present = "connect_frontend")]
    frontend: Vec<String>,

    /// Connect the frontend there; repeatable
    #[arg(long, value_name = "URL")]
    connect_frontend: Vec<String>,

    /// Listen here for the backend's peers; repeatable
    #[arg(long, value_name = "URL", required_unless_present = "connect_backend")]
    backend: Vec<String>,

    /// Connect the backend there; repeatable
    #[arg(long, value_name = "URL")]
    connect_backend: Vec<String>,

    /// Publish a copy of every message here (PUB)
    #[arg(long, value_name = "URL")]
    capture: Option<String>,

    /// Print a line of statistics every so often
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    stats: Option<Duration>,

    /// Print statistics as JSON, one object per line
    #[arg(long)]
    json: bool,

    /// How long to go on delivering at the end what was taken
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    linger: Duration,

    /// High-water mark: messages queued per peer in each direction; 0 is no limit [default: 1000]
    #[arg(long, value_name = "MESSAGES")]
    hwm: Option<u32>,

    /// Let names and wildcards in URLs also mean IPv6
    #[arg(long, short = '6')]
    ipv6: bool,

    /// Say on stderr what happens to the connections
    #[arg(long, short)]
    verbose: bool,
}

/// libzmq's three devices.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Device {
    /// Requests and replies
    Queue,
    /// What is published
    Forwarder,
    /// Pipelines
    Streamer,
}

impl Device {
    fn sides(self) -> [SocketType; 2] {
        match self {
            Self::Queue => [SocketType::Router, SocketType::Dealer],
            Self::Forwarder => [SocketType::Xsub, SocketType::Xpub],
            Self::Streamer => [SocketType::Pull, SocketType::Push],
        }
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    // Before anything is said, so that whoever reads it may send signals.
    let ending = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second one finds the flag that the first has left.
        flag::register_conditional_shutdown(signal, 1, ending.clone()).map_err(no_signals)?;
        flag::register(signal, ending.clone()).map_err(no_signals)?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(no_signals)?;

    let context = fabriq::context()?;
    let [front, back] = args.device.sides();
    let frontend = args.open(&context, front, "frontend", &args.frontend, &args.connect_frontend)?;
    let backend = args.open(&context, back, "backend", &args.backend, &args.connect_backend)?;
    let capture = args
        .capture
        .as_ref()
        .map(|url| args.open(&context, SocketType::Pub, "capture", std::slice::from_ref(url), &[]));
    let capture = capture.transpose()?;
    let [steering, steered] = [context.socket(SocketType::Pair)?, context.socket(SocketType::Pair)?];
    steered.bind(STEERING)?;
    steering.connect(STEERING)?;

    let mut proxy = Proxy::new(&frontend, &backend).with_control(&steered);
    if let Some(capture) = &capture {
        proxy = proxy.with_capture(capture);
    }
    let handle = signals.handle();
    let (tell, told) = channel();
    let mut printer = Printer::new(args.json);
    let ended = std::thread::scope(|scope| {
        scope.spawn(move || signals.forever().try_for_each(|signal| tell.send(signal)));
        let proxy = &proxy;
        let steering = &steering;
        let printing = scope.spawn(move || {
            let result = steer(proxy, &told, args.stats, &mut printer);
            // Also when nobody reads the statistics any more.
            let _ = steering.send("TERMINATE");
            result
        });
        let ended = loop {
            match proxy.run() {
                Err(Error::Interrupted) => {}
                ended => break ended,
            }
        };
        handle.close();
        let printed = printing.join().unwrap_or(Ok(()));
        ended.map_err(Failure::from).and(printed)
    });
    let ProxyStatistics { frontend: front, backend: back, .. } = proxy.statistics();
    note(&format!(
        "carried {} messages to the backend and {} to the frontend",
        back.messages_sent, front.messages_sent
    ));
    ended?;
    // All sockets of the context: it is quiet when the last one is closed.
    drop((frontend, backend, capture, steering, steered));
    if context.wait_until_sent(Some(args.linger)) {
        return Ok(());
    }
    Err(Failure::TimedOut(
        "not all messages were delivered within the linger time; a peer has gone or does not read: give more with \
         --linger"
            .to_owned(),
    ))
}

const STEERING: &str = "inproc://steering";

fn no_signals(error: std::io::Error) -> Failure {
    Failure::Failed(format!("cannot watch for signals: {error}"))
}

impl Args {
    /// A side with all its endpoints.
    fn open(
        &self,
        context: &Context,
        kind: SocketType,
        side: &str,
        binds: &[String],
        connects: &[String],
    ) -> Result<Socket, Failure> {
        let socket = context.socket(kind)?;
        socket.set_options(|options| {
            options.linger = Some(self.linger);
            options.ipv6 = self.ipv6;
            if let Some(hwm) = self.hwm {
                (options.send_hwm, options.receive_hwm) = (hwm, hwm);
            }
        })?;
        Watch::start(&socket, None, self.verbose)?;
        for url in binds {
            refuse_inproc(url)?;
            let real = socket.bind(url)?;
            note(&format!("{side} bound {real}"));
        }
        for url in connects {
            refuse_inproc(url)?;
            socket.connect(url)?;
            note(&format!("{side} connects to {url}"));
        }
        Ok(socket)
    }
}

/// Prints statistics when asked and when it is time, until the proxy is to end.
fn steer(
    proxy: &Proxy<'_>,
    told: &Receiver<i32>,
    every: Option<Duration>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut next = every.map(|every| Instant::now() + every);
    loop {
        let signal = match next {
            Some(next) => told.recv_timeout(next.saturating_duration_since(Instant::now())),
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match signal {
            Ok(SIGUSR1) => printer.print(&proxy.statistics())?,
            Err(RecvTimeoutError::Timeout) => {
                printer.print(&proxy.statistics())?;
                next = next.zip(every).map(|(next, every)| next + every);
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Lines of statistics on standard output.
struct Printer {
    json: bool,
    begun: Instant,
    last: Instant,
    before: ProxyStatistics,
}

#[derive(Serialize)]
struct Line {
    /// Since the proxy began.
    seconds: f64,
    frontend: Side,
    backend: Side,
}

#[derive(Serialize)]
struct Side {
    messages_received: u64,
    bytes_received: u64,
    messages_sent: u64,
    bytes_sent: u64,
}

impl From<ProxyTraffic> for Side {
    fn from(of: ProxyTraffic) -> Self {
        Self {
            messages_received: of.messages_received,
            bytes_received: of.bytes_received,
            messages_sent: of.messages_sent,
            bytes_sent: of.bytes_sent,
        }
    }
}

impl Printer {
    fn new(json: bool) -> Self {
        let now = Instant::now();
        Self { json, begun: now, last: now, before: ProxyStatistics::default() }
    }

    fn print(&mut self, statistics: &ProxyStatistics) -> Result<(), Failure> {
        let now = Instant::now();
        let seconds = now.duration_since(std::mem::replace(&mut self.last, now)).as_secs_f64().max(1e-6);
        let before = std::mem::replace(&mut self.before, *statistics);
        let text = if self.json {
            let line = Line {
                seconds: now.duration_since(self.begun).as_secs_f64(),
                frontend: statistics.frontend.into(),
                backend: statistics.backend.into(),
            };
            serde_json::to_string(&line)
                .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?
        } else {
            let side = |name: &str, now: ProxyTraffic, before: ProxyTraffic| {
                let messages = units::per_second((now.messages_sent - before.messages_sent) as f64 / seconds);
                let bytes = units::bytes_per_second((now.bytes_sent - before.bytes_sent) as f64 / seconds);
                format!("to the {name} {messages} msg/s, {bytes}, {} in all", now.messages_sent)
            };
            format!(
                "{}; {}",
                side("backend", statistics.backend, before.backend),
                side("frontend", statistics.frontend, before.frontend)
            )
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }
}
