//! The sockets of a rank's step: those that listen first, those that dial once all others listen. Sends no message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fabriq::{Context, Error, EventKind, Monitor, Socket, SocketType};

use super::super::limits::{
    CROWD, CROWD_BUFFER_BYTES, IDLE_LOOK, QUEUED_BYTES, QUEUED_MESSAGES, QUEUED_MESSAGES_MIN, STREAM_BITS,
};
use super::super::protocol::{Flow, Kind, Task, Traffic};
use super::echo::{Client, Server, Target, client_socket};
use super::stream::{Line, Sender, Sink, Source};
use super::survey::{Respondent, Subscriber, Surveyor};
use super::{Actor, rank_text, raw};
use crate::bench::multicast::is_one_way;
use crate::bench::payload::Ring;
use crate::failure::Failure;

/// What a rank brings to a step.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) context: &'a Context,
    pub(super) task: &'a Task,
    pub(super) me: u32,
    /// By which others reach this host.
    pub(super) address: &'a str,
    pub(super) aborted: &'a AtomicBool,
}

/// A step's ends on this rank, with what they still wait for.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) actors: Vec<Box<dyn Actor>>,
    /// Publishers that listen.
    publishers: Vec<Publisher>,
    /// Subscribers of multicast groups, each with the flow whose source it waits for.
    listeners: Vec<(Socket, Monitor, Flow)>,
    /// Dials that are under way.
    waiting: Vec<(Monitor, Vec<String>)>,
}

/// One thread's publisher.
#[derive(Debug)]
struct Publisher {
    socket: Socket,
    thread: u32,
    /// Subscriptions that it waits for.
    subscribers: usize,
    /// Where answers come, if it wants any.
    hears: Option<Socket>,
}

impl Opening<'_> {
    fn outgoing<'t>(&self, traffic: &'t Traffic) -> impl Iterator<Item = &'t Flow> {
        let me = self.me;
        traffic.flows.iter().filter(move |flow| flow.from == me)
    }

    fn incoming<'t>(&self, traffic: &'t Traffic) -> impl Iterator<Item = &'t Flow> {
        let me = self.me;
        traffic.flows.iter().filter(move |flow| flow.to == me)
    }

    fn url(&self, traffic: &Traffic) -> String {
        let address =
            if self.address.contains(':') { format!("[{}]", self.address) } else { self.address.to_owned() };
        traffic.url.replace("{address}", &address)
    }

    /// A socket, of whose kind this rank has so many connections to `peers` that they share the room.
    fn socket(&self, kind: SocketType, traffic: &Traffic, peers: usize) -> Result<Socket, Failure> {
        let socket = self.context.socket(kind)?;
        let room = QUEUED_BYTES / traffic.size.max(1) / peers.max(1);
        let mark = room.clamp(QUEUED_MESSAGES_MIN, QUEUED_MESSAGES) as u32;
        let mark = traffic.hwm.unwrap_or(mark);
        let patience = self.task.patience;
        // What the system holds as well would take long to carry: megabytes for each of very many connections.
        let buffer = (peers > CROWD).then(|| (QUEUED_BYTES / peers).max(CROWD_BUFFER_BYTES) as u32);
        socket.set_options(|options| {
            (options.send_buffer, options.receive_buffer) = (buffer, buffer);
            // All that counts has arrived before a socket closes.
            options.linger = Some(Duration::ZERO);
            (options.send_hwm, options.receive_hwm) = (mark, mark);
            options.send_timeout = Some(patience);
            options.receive_timeout = Some(patience);
            // A publisher that drops would be measured by how fast it throws away.
            options.xpub_nodrop = true;
            options.xpub_verbose = true;
        })?;
        Ok(socket)
    }

    /// How long a frame is, how many a ring has, and whose it is.
    fn ring(&self, traffic: &Traffic, rank: u32, stream: u32) -> (usize, u64, u32) {
        let frame = traffic.size / traffic.parts as usize;
        let slots = Ring::slots_among(frame, (traffic.threads * traffic.links) as usize);
        (frame, slots, rank << STREAM_BITS | stream)
    }

    /// Opens all that listens. By traffic, where each of its threads does.
    pub(super) fn bind(&self, ends: &mut Ends) -> Result<Vec<Vec<String>>, Failure> {
        self.task.traffics.iter().map(|traffic| self.bind_traffic(traffic, ends)).collect()
    }

    fn bind_traffic(&self, traffic: &Traffic, ends: &mut Ends) -> Result<Vec<String>, Failure> {
        let (url, mut endpoints) = (self.url(traffic), Vec::new());
        let incoming: Vec<&Flow> = self.incoming(traffic).collect();
        let peers = incoming.len() * traffic.links as usize;
        match traffic.kind {
            Kind::Echo | Kind::Pool if !incoming.is_empty() => {
                for _ in 0..traffic.threads {
                    let socket = self.socket(SocketType::Rep, traffic, peers)?;
                    // Nobody may ask for as long as others measure.
                    socket.set_options(|options| options.receive_timeout = None)?;
                    endpoints.push(socket.bind(&url)?.to_string());
                    ends.actors.push(Box::new(Server { socket }));
                }
            }
            Kind::Stream if !incoming.is_empty() => {
                for thread in 0..traffic.threads {
                    let socket = self.socket(SocketType::Pull, traffic, peers)?;
                    endpoints.push(socket.bind(&url)?.to_string());
                    let streams = thread * traffic.links..(thread + 1) * traffic.links;
                    ends.actors.push(Box::new(self.sink(socket, traffic, &incoming, streams, None)?));
                }
            }
            Kind::Publish if is_one_way(&url) => {
                // All name the same group. Who only listens opens now, so that it misses nothing.
                for flow in &incoming {
                    let socket = self.socket(SocketType::Sub, traffic, 1)?;
                    let monitor = socket.monitor()?;
                    socket.subscribe("")?;
                    socket.bind(&url)?;
                    ends.listeners.push((socket, monitor, **flow));
                }
            }
            Kind::Publish | Kind::Survey => {
                let subscribers = self.outgoing(traffic).count();
                for thread in 0..if subscribers == 0 { 0 } else { traffic.threads } {
                    let socket = self.socket(SocketType::Xpub, traffic, subscribers)?;
                    endpoints.push(socket.bind(&url)?.to_string());
                    let mut hears = None;
                    if traffic.kind == Kind::Survey {
                        let socket = hears.insert(self.socket(SocketType::Pull, traffic, subscribers)?);
                        endpoints.push(socket.bind(&url)?.to_string());
                    }
                    ends.publishers.push(Publisher { socket, thread, subscribers, hears });
                }
            }
            Kind::RawEcho | Kind::RawStream if !incoming.is_empty() => {
                let (actor, listening) = raw::listen(self.context, &url, traffic)?;
                endpoints.extend(listening);
                ends.actors.push(actor);
            }
            _ => {}
        }
        Ok(endpoints)
    }

    /// A sink that hears the `streams` of each flow's sender.
    fn sink(
        &self,
        socket: Socket,
        traffic: &Traffic,
        flows: &[&Flow],
        streams: std::ops::Range<u32>,
        losses: Option<Monitor>,
    ) -> Result<Sink, Failure> {
        socket.set_options(|options| options.receive_timeout = Some(IDLE_LOOK))?;
        let mut senders = Vec::new();
        for flow in flows {
            for stream in streams.clone() {
                let ring = self.ring(traffic, flow.from, stream);
                senders.push((ring.2, Sender::new(flow.from, ring)));
            }
        }
        senders.sort_by_key(|sender| sender.0);
        Ok(Sink {
            socket,
            senders,
            me: self.me,
            parts: traffic.parts,
            size: traffic.size,
            background: traffic.background,
            losses,
        })
    }

    /// Opens all that dials, and waits until both sides are ready.
    pub(super) fn connect(
        &self,
        ends: &mut Ends,
        endpoints: &[BTreeMap<u32, Vec<String>>],
    ) -> Result<(), Failure> {
        for (traffic, endpoints) in self.task.traffics.iter().zip(endpoints) {
            self.connect_traffic(traffic, endpoints, ends)?;
        }
        for (monitor, urls) in std::mem::take(&mut ends.waiting) {
            self.wait_ready(&monitor, urls)?;
        }
        let published = |traffic: &&Traffic| matches!(traffic.kind, Kind::Publish | Kind::Survey);
        let published = self.task.traffics.iter().find(published);
        let Some(traffic) = published else { return Ok(()) };
        for (socket, monitor, flow) in std::mem::take(&mut ends.listeners) {
            self.wait_ready(&monitor, vec![self.url(traffic)])?;
            ends.actors.push(Box::new(self.sink(socket, traffic, &[&flow], 0..1, Some(monitor))?));
        }
        for Publisher { socket, thread, subscribers, hears } in std::mem::take(&mut ends.publishers) {
            self.wait_subscribed(&socket, subscribers)?;
            ends.actors.push(match hears {
                Some(hears) => Box::new(self.surveyor(socket, hears, traffic, thread)?),
                None => Box::new(self.publisher(socket, traffic, thread, false)?),
            });
        }
        Ok(())
    }

    fn connect_traffic(
        &self,
        traffic: &Traffic,
        endpoints: &BTreeMap<u32, Vec<String>>,
        ends: &mut Ends,
    ) -> Result<(), Failure> {
        let at = |rank: u32, thread: u32| {
            let endpoint = endpoints.get(&rank).and_then(|all| all.get(thread as usize));
            endpoint.ok_or_else(|| {
                Failure::Failed(format!("{} has not said where it listens", rank_text(Some(rank))))
            })
        };
        let outgoing: Vec<&Flow> = self.outgoing(traffic).collect();
        match traffic.kind {
            Kind::Echo | Kind::Pool if !outgoing.is_empty() => {
                for thread in 0..traffic.threads {
                    let ring = self.ring(traffic, self.me, thread * traffic.links);
                    let kind = client_socket(traffic.rate);
                    let mut targets = Vec::new();
                    let groups: Vec<&[&Flow]> = match traffic.kind {
                        Kind::Pool => vec![&outgoing],
                        _ => outgoing.chunks(1).collect(),
                    };
                    for group in groups {
                        let mut sockets = Vec::new();
                        // A DEALER's servers would answer out of turn, so that each has a socket of its own then.
                        let together = if traffic.rate.is_some() { 1 } else { group.len() };
                        for servers in (0..traffic.links).flat_map(|_| group.chunks(together)) {
                            let socket = self.socket(kind, traffic, 1)?;
                            let urls: Result<Vec<_>, _> =
                                servers.iter().map(|flow| at(flow.to, thread)).collect();
                            self.dial(&socket, &urls?, ends)?;
                            sockets.push(socket);
                        }
                        let to = (group.len() == 1).then(|| group[0].to);
                        targets.push(Target::new(self.me, to, sockets, ring)?);
                    }
                    let frames = Ring::of_sender(self.context, ring.0, ring.2, ring.1)?;
                    ends.actors.push(Box::new(Client {
                        targets,
                        ring: frames,
                        parts: traffic.parts,
                        rate: traffic.rate,
                        background: traffic.background,
                    }));
                }
            }
            Kind::Stream if !outgoing.is_empty() => {
                for thread in 0..traffic.threads {
                    let (mut lines, mut rings) = (Vec::new(), Vec::new());
                    for link in 0..traffic.links {
                        let (frame, slots, sender) =
                            self.ring(traffic, self.me, thread * traffic.links + link);
                        rings.push(Ring::of_sender(self.context, frame, sender, slots)?);
                        for flow in &outgoing {
                            let crowd = outgoing.len() * traffic.links as usize;
                            let socket = self.socket(SocketType::Push, traffic, crowd)?;
                            self.dial(&socket, &[at(flow.to, thread)?], ends)?;
                            lines.push(Line {
                                socket,
                                sender,
                                ring: link as usize,
                                to: Some(flow.to),
                                sent: 0,
                            });
                        }
                    }
                    let (parts, size) = (traffic.parts, traffic.size);
                    ends.actors.push(Box::new(Source { lines, rings, parts, size, lossy: false }));
                }
            }
            Kind::Publish if is_one_way(&self.url(traffic)) => {
                if !outgoing.is_empty() {
                    let socket = self.socket(SocketType::Pub, traffic, 1)?;
                    socket.connect(&self.url(traffic))?;
                    ends.actors.push(Box::new(self.publisher(socket, traffic, 0, true)?));
                }
            }
            Kind::Publish => {
                for flow in self.incoming(traffic) {
                    for thread in 0..traffic.threads {
                        let socket = self.socket(SocketType::Sub, traffic, 1)?;
                        socket.subscribe("")?;
                        self.dial(&socket, &[at(flow.from, thread)?], ends)?;
                        let streams = thread..thread + 1;
                        ends.actors.push(Box::new(self.sink(socket, traffic, &[flow], streams, None)?));
                    }
                }
            }
            Kind::Survey => {
                for flow in self.incoming(traffic) {
                    for thread in 0..traffic.threads {
                        let heard = self.socket(SocketType::Sub, traffic, 1)?;
                        // Nobody may publish for as long as others measure.
                        heard.set_options(|options| options.receive_timeout = None)?;
                        heard.subscribe("")?;
                        let answers = self.socket(SocketType::Push, traffic, 1)?;
                        self.dial(&heard, &[at(flow.from, 2 * thread)?], ends)?;
                        self.dial(&answers, &[at(flow.from, 2 * thread + 1)?], ends)?;
                        ends.actors.push(Box::new(Respondent { heard, answers, me: self.me }));
                    }
                }
            }
            Kind::RawEcho | Kind::RawStream => {
                for flow in outgoing {
                    let tool = at(flow.to, 1).ok();
                    ends.actors.push(raw::dial(at(flow.to, 0)?, tool, traffic, self.task, self.address)?);
                }
            }
            Kind::Echo | Kind::Pool | Kind::Stream => {}
        }
        Ok(())
    }

    fn publisher(
        &self,
        socket: Socket,
        traffic: &Traffic,
        thread: u32,
        lossy: bool,
    ) -> Result<Source, Failure> {
        let (frame, slots, sender) = self.ring(traffic, self.me, thread);
        let rings = vec![Ring::of_sender(self.context, frame, sender, slots)?];
        let lines = vec![Line { socket, sender, ring: 0, to: None, sent: 0 }];
        Ok(Source { lines, rings, parts: traffic.parts, size: traffic.size, lossy })
    }

    fn surveyor(
        &self,
        publishes: Socket,
        hears: Socket,
        traffic: &Traffic,
        thread: u32,
    ) -> Result<Surveyor, Failure> {
        let ring = self.ring(traffic, self.me, thread);
        let subscribers = self.outgoing(traffic).map(|flow| Subscriber::new(flow.to, ring));
        Ok(Surveyor {
            me: self.me,
            publishes,
            hears,
            subscribers: subscribers.collect::<Result<_, _>>()?,
            ring: Ring::of_sender(self.context, ring.0, ring.2, ring.1)?,
            parts: traffic.parts,
        })
    }

    fn dial(&self, socket: &Socket, urls: &[&String], ends: &mut Ends) -> Result<(), Failure> {
        let monitor = socket.monitor()?;
        urls.iter().try_for_each(|url| socket.connect(url))?;
        ends.waiting.push((monitor, urls.iter().map(|url| (*url).clone()).collect()));
        Ok(())
    }

    /// Waits until all peers that a socket has dialled are ready.
    fn wait_ready(&self, monitor: &Monitor, mut urls: Vec<String>) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut why = "nobody answers".to_owned();
        while begun.elapsed() < self.task.patience {
            self.check_aborted()?;
            let Some(event) = monitor.next_timeout(IDLE_LOOK) else { continue };
            match event.kind {
                EventKind::HandshakeSucceeded => {
                    // A source of a multicast group has a name of its own.
                    urls.retain(|url| !event.endpoint.starts_with(url.as_str()));
                    if urls.is_empty() {
                        return Ok(());
                    }
                }
                EventKind::ConnectFailed(error) => why = error.to_string(),
                EventKind::HandshakeFailed(reason) => why = reason.to_string(),
                _ => {}
            }
        }
        let (time, urls) = (crate::units::time(self.task.patience), urls.join(", "));
        Err(Failure::TimedOut(format!(
            "{urls}: no connection within {time}: {why}; can this host reach that address (firewall, subnet)?"
        )))
    }

    /// Waits until so many have subscribed: what is sent before would miss some.
    fn wait_subscribed(&self, socket: &Socket, mut subscribers: usize) -> Result<(), Failure> {
        let begun = Instant::now();
        while subscribers > 0 {
            self.check_aborted()?;
            match socket.recv_timeout(IDLE_LOOK) {
                Ok(_) => subscribers -= 1,
                Err(Error::Again | Error::Interrupted) if begun.elapsed() < self.task.patience => {}
                Err(Error::Again | Error::Interrupted) => {
                    let time = crate::units::time(self.task.patience);
                    return Err(Failure::TimedOut(format!(
                        "{subscribers} ranks have not subscribed within {time}"
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn check_aborted(&self) -> Result<(), Failure> {
        if self.aborted.load(Ordering::Relaxed) { Err(Error::Terminated.into()) } else { Ok(()) }
    }
}
