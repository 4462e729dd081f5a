//! The coordinator at its socket: what ranks say goes into the machine, what comes out of it is sent, written and shown.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use fabriq::{Context, Error, EventKind, Message, Socket, SocketType};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::coordinator::{Coordinator, Input, Output, Verdict};
use super::limits::FAREWELL;
use super::output::Sink;
use super::protocol::{message, parse};
use super::rank::{coordinate, name, quiet_context, rank_of, routing_id};
use super::report::{Cluster, Record};
use crate::failure::{Failure, note};

/// A coordinator that listens.
#[derive(Debug)]
pub(super) struct Server {
    context: Context,
    socket: Arc<Socket>,
    happened: Receiver<Input>,
    /// Where ranks of this host reach it.
    pub(super) endpoint: String,
}

impl Server {
    /// Listens at `url`.
    pub(super) fn bind(url: &str) -> Result<Self, Failure> {
        let context = quiet_context()?;
        let socket = Arc::new(context.socket(SocketType::Router)?);
        coordinate(&socket)?;
        socket.set_options(|options| options.router_mandatory = true)?;
        let (inputs, happened) = channel();
        let monitor = socket.monitor()?;
        let down = inputs.clone();
        start("watch", move || {
            while let Some(event) = monitor.next_timeout(Duration::MAX) {
                let sent = match event.kind {
                    EventKind::Disconnected(..) => down.send(Input::LinkDown),
                    EventKind::Stopped => return,
                    _ => Ok(()),
                };
                if sent.is_err() {
                    return;
                }
            }
        })?;
        let endpoint = socket.bind(url)?.to_string();
        let heard = (Arc::clone(&socket), inputs.clone());
        start("hear", move || hear(&heard.0, &heard.1))?;
        let mut signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|error| Failure::Failed(format!("cannot watch for signals: {error}")))?;
        start("signals", move || {
            let mut is_second = false;
            for signal in signals.forever() {
                // Launchers send SIGTERM several times, or after SIGINT; who presses Ctrl-C again means it.
                let input = match signal == SIGINT && is_second {
                    true => Input::Hurried,
                    false => Input::Interrupted(format!("{} ended it", name(signal))),
                };
                is_second |= signal == SIGINT;
                if inputs.send(input).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { context, socket, happened, endpoint })
    }

    /// Leads the run to its end. A failure is of the records' file alone; the run ends with it, in order.
    pub(super) fn lead(
        self,
        mut coordinator: Coordinator,
        sink: &mut Sink,
        cluster: &mut Cluster,
    ) -> Result<Verdict, Failure> {
        let mut broken = None;
        while !coordinator.is_over() {
            let input = match coordinator.deadline() {
                Some(deadline) => {
                    self.happened.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                }
                None => self.happened.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let now = Instant::now();
            match input {
                Ok(input) => {
                    if let Input::Interrupted(why) = &input {
                        sink.interrupted(why);
                    }
                    coordinator.handle(now, input);
                }
                Err(_) => coordinator.tick(now),
            }
            self.put(&mut coordinator, sink, cluster, &mut broken);
        }
        drop(self.happened);
        self.context.shutdown();
        drop(self.socket);
        self.context.wait_until_sent(Some(FAREWELL));
        broken.map_or(Ok(coordinator.verdict()), Err)
    }

    /// Does what is to be done, until that has no more consequences.
    fn put(
        &self,
        coordinator: &mut Coordinator,
        sink: &mut Sink,
        cluster: &mut Cluster,
        broken: &mut Option<Failure>,
    ) {
        loop {
            let outputs = coordinator.outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Order(rank, order) => {
                        let Ok(mut message) = message(&order) else { continue };
                        message.push_front(routing_id(rank).as_bytes());
                        if self
                            .socket
                            .send(message)
                            .is_err_and(|not_sent| not_sent.error == Error::Unroutable)
                        {
                            coordinator.handle(Instant::now(), Input::Gone(rank));
                        }
                    }
                    Output::Begin { item, items, what } => sink.begin(item, items, &what),
                    Output::Now { rank, figure } => sink.now(rank, figure),
                    Output::Record(mut record) => {
                        cluster.compare_raw(&mut record);
                        if let Err(failure) = sink.record(&record) {
                            // The ranks are sent home in order; then it is said.
                            if broken.is_none() {
                                note("the run ends, since its records cannot be written");
                                *broken = Some(failure);
                                coordinator.handle(
                                    Instant::now(),
                                    Input::Interrupted("its records could not be written".to_owned()),
                                );
                            }
                        }
                        if !matches!(record, Record::Run(_)) {
                            cluster.add(record);
                        }
                    }
                }
            }
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))
}

fn hear(socket: &Socket, inputs: &Sender<Input>) {
    loop {
        let message: Message = match socket.recv() {
            Ok(message) => message,
            Err(Error::Interrupted) => continue,
            Err(_) => return,
        };
        // Strangers without a rank are none of ours.
        let Some(rank) = message.part(0).and_then(|id| rank_of(id)) else { continue };
        let input = match parse(&message) {
            Ok(say) => Input::Said(rank, say),
            Err(what) => Input::Strange(rank, what),
        };
        if inputs.send(input).is_err() {
            return;
        }
    }
}
