//! A rank: says hello, does what the coordinator orders, one step at a time, and leaves with it. Decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fabriq::{Context, Error, EventKind, Monitor, Socket, SocketType};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::limits::{FAREWELL, HEARTBEAT, HEARTBEAT_OVERDUE, ORPHAN};
use super::protocol::{Hello, Order, Say, Task, message, parse};
use super::step::{self, Inbox};
use crate::failure::{Failure, note};
use crate::units;

/// How a coordination socket sleeps and notices that the other end has gone.
pub(super) fn coordinate(socket: &Socket) -> Result<(), Error> {
    socket.set_options(|options| {
        options.linger = Some(FAREWELL);
        options.heartbeat_interval = HEARTBEAT;
        options.heartbeat_timeout = HEARTBEAT_OVERDUE;
        // What is said is bounded by the protocol; a thousand ranks may say it at once.
        (options.send_hwm, options.receive_hwm) = (0, 0);
    })
}

/// A context whose threads sleep whenever they can: others measure beside them.
pub(super) fn quiet_context() -> Result<Context, Error> {
    fabriq::builder().spin(Duration::ZERO).build()
}

/// What a rank calls itself.
pub(super) fn routing_id(rank: u32) -> String {
    format!("rank {rank}")
}

/// The rank that calls itself so.
pub(super) fn rank_of(routing_id: &[u8]) -> Option<u32> {
    std::str::from_utf8(routing_id).ok()?.strip_prefix("rank ")?.parse().ok()
}

/// What happens to a rank.
#[derive(Debug)]
enum Event {
    Order(Order),
    Strange(String),
    /// The connection to the coordinator is up, or down.
    Link(bool),
    Signal(i32),
    /// The step that was under way has ended.
    StepEnded(u32),
}

/// A step that is under way.
#[derive(Debug)]
struct Running {
    step: u32,
    inbox: Sender<Inbox>,
    context: Context,
    aborted: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    over: bool,
    /// The coordinator wants to hear of the end.
    aborting: bool,
}

/// One rank of a run.
#[derive(Debug)]
pub(super) struct Rank {
    pub(super) me: u32,
    pub(super) coordinator: String,
    pub(super) hello: Hello,
    pub(super) address: String,
    pub(super) join: Duration,
    /// Whether the coordinator is in this process and says everything itself.
    pub(super) leads: bool,
}

impl Rank {
    /// Takes part until the coordinator says goodbye.
    pub(super) fn run(self) -> Result<(), Failure> {
        let context = quiet_context()?;
        let socket = Arc::new(context.socket(SocketType::Dealer)?);
        coordinate(&socket)?;
        socket.set_options(|options| options.routing_id = routing_id(self.me).as_bytes().into())?;
        let (events, happened) = channel();
        watch(socket.monitor()?, events.clone())?;
        hear(Arc::clone(&socket), events.clone())?;
        if !self.leads {
            // Rank 0's coordinator hears them.
            signals(events.clone())?;
        }
        socket.connect(&self.coordinator)?;
        let ended = self.serve(&socket, &events, &happened);
        // The threads that hear and watch end with the context.
        context.shutdown();
        drop(socket);
        context.wait_until_sent(Some(FAREWELL));
        ended
    }

    fn serve(
        &self,
        socket: &Arc<Socket>,
        events: &Sender<Event>,
        happened: &Receiver<Event>,
    ) -> Result<(), Failure> {
        let say = |say: &Say| -> Result<(), Failure> { Ok(socket.send(message(say)?)?) };
        let ended_by = |signal| Failure::Failed(format!("rank {}: ended by {}", self.me, name(signal)));
        let begun = Instant::now();
        let (mut running, mut refused) = (None::<Running>, None::<String>);
        let (mut welcome, mut lost, mut leaving) = (false, Some(begun), None::<(Instant, i32)>);
        loop {
            // How long to wait for what may come.
            let limit = match (leaving, lost) {
                (Some((since, _)), _) => Some(since + FAREWELL),
                // Who was refused waits for its goodbye too: a launcher ends a whole job when one rank of it fails.
                (None, Some(since)) if welcome || refused.is_some() => Some(since + ORPHAN),
                (None, _) if !welcome && refused.is_none() => Some(begun + self.join + ORPHAN),
                (None, _) => None,
            };
            let event = match limit {
                Some(limit) => happened.recv_timeout(limit.saturating_duration_since(Instant::now())),
                None => happened.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let event = match event {
                Ok(event) => event,
                Err(_) => {
                    if let Some((_, signal)) = leaving {
                        return Err(ended_by(signal));
                    }
                    return Err(match refused {
                        Some(why) => self.refused(&why),
                        None => self.orphan(welcome, lost.is_some()),
                    });
                }
            };
            match event {
                Event::Link(true) => {
                    lost = None;
                    say(&Say::Hello(Box::new(self.hello.clone())))?;
                }
                Event::Link(false) => lost = Some(lost.unwrap_or_else(Instant::now)),
                Event::Strange(what) => {
                    if welcome {
                        say(&Say::Leaving { why: format!("it does not understand rank 0: {what}") })?;
                    }
                    return Err(Failure::Failed(format!("{}: {what}", self.coordinator)));
                }
                Event::Signal(SIGINT) if leaving.is_some_and(|(_, first)| first == SIGINT) => {
                    return Err(ended_by(SIGINT));
                }
                Event::Signal(signal) => {
                    // The coordinator has probably heard the same one, and says goodbye when it has written all.
                    leaving = leaving.or(Some((Instant::now(), signal)));
                    say(&Say::Leaving { why: format!("{} ended it", name(signal)) })?;
                }
                Event::StepEnded(step) => {
                    if let Some(running) = running.as_mut().filter(|running| running.step == step) {
                        running.over = true;
                        if running.aborting {
                            say(&Say::Aborted { step })?;
                        }
                    }
                }
                Event::Order(Order::Nothing) => {}
                Event::Order(Order::Welcome) => welcome = true,
                Event::Order(Order::Refused { why }) => {
                    if !self.leads {
                        note(&format!("rank {} takes no part: {why}", self.me));
                    }
                    refused = Some(why);
                }
                Event::Order(Order::Bye) => {
                    end(running.take());
                    return refused.map_or(Ok(()), |why| Err(self.refused(&why)));
                }
                Event::Order(Order::Prepare(task)) => {
                    end(running.take());
                    running = Some(self.start(*task, socket, events)?);
                }
                Event::Order(Order::Abort { step }) => match &mut running {
                    Some(running) if running.step == step && !running.over => {
                        running.aborting = true;
                        running.aborted.store(true, Ordering::Relaxed);
                        running.context.shutdown();
                        let _ = running.inbox.send(Inbox::order(Order::Abort { step }));
                    }
                    _ => say(&Say::Aborted { step })?,
                },
                Event::Order(order) => {
                    if let Some(running) = &running {
                        // One that has failed hears nothing any more.
                        let _ = running.inbox.send(Inbox::order(order));
                    }
                }
            }
        }
    }

    /// Begins a step in a thread of its own.
    fn start(&self, task: Task, socket: &Arc<Socket>, events: &Sender<Event>) -> Result<Running, Failure> {
        let (context, aborted) = (fabriq::context()?, Arc::new(AtomicBool::new(false)));
        let (inbox, orders) = channel();
        let step = task.step;
        let (own, ended) = ((context.clone(), Arc::clone(&aborted), inbox.clone()), events.clone());
        let (socket, me, address) = (Arc::clone(socket), self.me, self.address.clone());
        let work = move || {
            let (context, aborted, inbox) = own;
            let say = |say: Say| {
                // Where it cannot be sent, the coordinator has gone, and the rank finds out.
                let _ = message(&say).map(|message| socket.send(message));
            };
            let rank =
                step::Rank { task: &task, me, address: &address, context: &context, aborted: &aborted };
            if let Err(failure) = rank.run((inbox, orders), say)
                && !aborted.load(Ordering::Relaxed)
            {
                let corrupt = matches!(failure, Failure::Corrupt(_));
                say(Say::Failed { step, why: failure.into_text(), corrupt });
            }
            let _ = ended.send(Event::StepEnded(step));
        };
        let thread = std::thread::Builder::new().name("step".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Running { step, inbox, context, aborted, thread, over: false, aborting: false })
    }

    fn refused(&self, why: &str) -> Failure {
        Failure::Usage(format!("rank {} took no part: {why}", self.me))
    }

    fn orphan(&self, welcome: bool, lost: bool) -> Failure {
        let Self { me, coordinator, .. } = self;
        match (welcome, lost) {
            (true, _) => Failure::Failed(format!(
                "rank {me}: rank 0 has gone ({coordinator}); what it had measured is in its .jsonl file"
            )),
            (false, true) => Failure::TimedOut(format!(
                "rank {me}: no connection to rank 0 at {coordinator} within {}; check that rank 0 runs, that this host \
                 reaches it, and --coordinator",
                units::time(self.join + ORPHAN)
            )),
            (false, false) => Failure::TimedOut(format!(
                "rank {me}: rank 0 at {coordinator} does not answer; has another process the same --rank?"
            )),
        }
    }
}

/// Waits for the end of a step that nobody needs any more.
fn end(running: Option<Running>) {
    if let Some(running) = running {
        running.aborted.store(true, Ordering::Relaxed);
        let _ = running.inbox.send(Inbox::order(Order::Abort { step: running.step }));
        running.context.shutdown();
        let _ = running.thread.join();
    }
}

pub(super) fn name(signal: i32) -> &'static str {
    if signal == SIGINT { "Ctrl-C (SIGINT)" } else { "SIGTERM" }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))
}

fn watch(monitor: Monitor, events: Sender<Event>) -> Result<(), Failure> {
    thread("watch", move || {
        while let Some(event) = monitor.next_timeout(Duration::MAX) {
            let sent = match event.kind {
                EventKind::HandshakeSucceeded => events.send(Event::Link(true)),
                EventKind::Disconnected(..) => events.send(Event::Link(false)),
                EventKind::Stopped => return,
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

fn hear(socket: Arc<Socket>, events: Sender<Event>) -> Result<(), Failure> {
    thread("hear", move || {
        loop {
            let event = match socket.recv() {
                Ok(message) => parse(&message).map_or_else(Event::Strange, Event::Order),
                Err(Error::Interrupted) => continue,
                Err(_) => return,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    })
}

fn signals(events: Sender<Event>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Failed(format!("cannot watch for signals: {error}")))?;
    thread("signals", move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_told_by_what_it_calls_itself() {
        assert_eq!(rank_of(routing_id(1234).as_bytes()), Some(1234));
        for strange in [&b"\0abcd"[..], b"rank x", b"rank", b"\xff"] {
            assert_eq!(rank_of(strange), None);
        }
    }
}
