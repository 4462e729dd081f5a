//! The roles of a blocking peer, written once over [`Peer`]; they know no peer by name and print nothing.

use crate::Result;
use crate::control::{Control, Report, Role, Task};
use crate::payload::{self, END, FAN_WINDOW, Feeds, HELLO, START, Window};
use crate::peer::{Kind, Peer};
use crate::statistics::{Gaps, Latencies};
use crate::usage::Usage;
use std::time::{Duration, Instant};

/// Between two greetings of a publisher: often enough to be heard soon, too seldom to keep a machine busy.
pub(crate) const HELLO_PAUSE: Duration = Duration::from_millis(5);
/// Between two times that a PUSH tells all its receivers that it has ended.
pub(crate) const END_PAUSE: Duration = Duration::from_millis(5);
/// Messages taken from one of many sockets before the next one's turn.
const BURST: usize = 64;

pub(crate) fn run<P: Peer>(task: &Task, control: &mut Control) -> Result<()> {
    let context = P::context()?;
    match task.role {
        Role::Replier => replier(bound::<P>(&context, Kind::Rep, task, control)?, control),
        Role::Requester => requester(connected::<P>(&context, Kind::Req, task)?, task, control),
        Role::Puller | Role::CrowdPuller | Role::FanInPuller => {
            let mut socket = bound::<P>(&context, Kind::Pull, task, control)?;
            control.ready()?;
            let report = pull(&mut socket, task)?;
            control.conclude(&report)
        }
        Role::Pusher => {
            let mut socket = connected::<P>(&context, Kind::Push, task)?;
            control.ready()?;
            let report = push(&mut socket, task)?;
            control.conclude(&report)
        }
        Role::FanOutPuller => {
            let mut socket = connected::<P>(&context, Kind::Pull, task)?;
            control.ready()?;
            let report = pull(&mut socket, task)?;
            control.conclude(&report)
        }
        Role::FanOutPusher => fan_out_pusher(bound::<P>(&context, Kind::Push, task, control)?, task, control),
        Role::CrowdPusher => crowd_pusher::<P>(&context, task, control),
        Role::Publisher => publisher::<P>(&context, task, control),
        Role::Subscribers => subscribers::<P>(&context, task, control),
        Role::Inproc => inproc::<P>(&context, task, control),
        Role::Waiter | Role::Waker | Role::Busy => Err("not a role of every peer".into()),
    }
}

fn bound<P: Peer>(context: &P::Context, kind: Kind, task: &Task, control: &Control) -> Result<P> {
    let mut socket = P::socket(context, kind, task)?;
    let url = socket.bind(&task.url)?;
    control.say("url", &url)?;
    socket.await_links(task.links)?;
    Ok(socket)
}

fn connected<P: Peer>(context: &P::Context, kind: Kind, task: &Task) -> Result<P> {
    let mut socket = P::socket(context, kind, task)?;
    socket.connect(&task.url)?;
    Ok(socket)
}

fn replier<P: Peer>(mut socket: P, control: &mut Control) -> Result<()> {
    control.ready()?;
    let mut body = Vec::new();
    let mut start = Usage::now();
    loop {
        socket.recv(|request| {
            body.clear();
            body.extend_from_slice(request);
        })?;
        let number = payload::number(&body);
        if number == START {
            start = Usage::now();
        }
        socket.send(&body)?;
        if number == END {
            let report = Report { usage: Usage::now().since(start), ..Report::default() };
            return control.conclude(&report);
        }
    }
}

fn requester<P: Peer>(mut socket: P, task: &Task, control: &mut Control) -> Result<()> {
    control.ready()?;
    let mut body = vec![0; task.bytes];
    let report = trips(task, |number| {
        payload::write_number(&mut body, number);
        socket.send(&body)?;
        socket.recv(payload::number)
    })?;
    control.conclude(&report)
}

/// Measures round trips, each of which `ask` makes for a number, and says which came back.
pub(crate) fn trips(task: &Task, mut ask: impl FnMut(u64) -> Result<u64>) -> Result<Report> {
    let mut trip = |number: u64| -> Result<()> {
        let reply = ask(number)?;
        if reply == number { Ok(()) } else { Err(format!("asked {number}, answered {reply}").into()) }
    };
    let began = Instant::now();
    while began.elapsed() < task.warm() {
        trip(0)?;
    }
    trip(START)?;
    let mut latencies = Latencies::new();
    let mut gaps = Gaps::new(task);
    let start = Usage::now();
    let began = Instant::now();
    let mut sent = began;
    while sent - began < task.run() {
        trip(latencies.count())?;
        let now = Instant::now();
        latencies.record(now - sent);
        sent = if gaps.pause() { Instant::now() } else { now };
    }
    let usage = Usage::now().since(start);
    trip(END)?;
    Ok(latencies.report(usage))
}

fn pull<P: Peer>(socket: &mut P, task: &Task) -> Result<Report> {
    let mut tally = task.tally();
    let start = Usage::now();
    while !socket.recv(|body| tally.take(body))? {}
    tally.report(Usage::now().since(start))
}

fn push<P: Peer>(socket: &mut P, task: &Task) -> Result<Report> {
    let start = Usage::now();
    let stride = payload::stride(task.bytes);
    let mut body = vec![0; task.bytes];
    let large = if payload::is_large(task.bytes) { payload::large_buffers(task.bytes) } else { Vec::new() };
    let first = payload::first_of(task.lane);
    let mut number = first;
    let began = Instant::now();
    while began.elapsed() < task.send() {
        for _ in 0..stride {
            if large.is_empty() {
                payload::write_number(&mut body, number);
                socket.send(&body)?;
            } else {
                socket.send_static(large[number as usize % large.len()])?;
            }
            number += 1;
        }
    }
    socket.send(&payload::end(task.bytes, number))?;
    Ok(Report { count: number - first, usage: Usage::now().since(start), ..Report::default() })
}

fn fan_out_pusher<P: Peer>(mut socket: P, task: &Task, control: &mut Control) -> Result<()> {
    control.ready()?;
    let report = push(&mut socket, task)?;
    // Who is full is left out of the round of some peers, so nobody knows who gets the end, until all say that they have.
    let end = payload::end(task.bytes, report.count);
    loop {
        for _ in 0..task.links {
            socket.send(&end)?;
        }
        if control.has_order(END_PAUSE) {
            break;
        }
    }
    control.await_order("stop")?;
    control.conclude(&report)
}

fn crowd_pusher<P: Peer>(context: &P::Context, task: &Task, control: &mut Control) -> Result<()> {
    let mut crowd = P::socket(context, Kind::Push, task)?;
    let mut lone = P::socket(context, Kind::Push, task)?;
    // The parent notes this process's memory before the links exist.
    control.say("made", "")?;
    control.await_order("go")?;
    for index in 1..task.links {
        crowd.connect(&task.url)?;
        if index % 256 == 0 {
            // A backlog that overflows costs a second of retransmission.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    lone.connect(&task.url)?;
    control.ready()?;
    let report = push(&mut lone, task)?;
    control.conclude(&report)
}

fn publisher<P: Peer>(context: &P::Context, task: &Task, control: &mut Control) -> Result<()> {
    let mut socket = P::socket(context, Kind::Pub, task)?;
    let mut credits = P::socket(context, Kind::Pull, task)?;
    control.say("url", &socket.bind(&task.url)?)?;
    control.say("credits", &credits.bind(&task.url)?)?;
    socket.await_links(task.links)?;
    credits.await_links(1)?;
    let mut body = vec![0; task.bytes];
    payload::write_number(&mut body, HELLO);
    control.say("ready", "")?;
    while !control.has_order(HELLO_PAUSE) {
        socket.send(&body)?;
    }
    control.await_order("go")?;
    let start = Usage::now();
    let (mut count, mut allowed) = (0, FAN_WINDOW);
    let began = Instant::now();
    while began.elapsed() < task.send() {
        for _ in 0..payload::stride(task.bytes) {
            while count == allowed {
                allowed = credits.recv(payload::number)? + FAN_WINDOW;
            }
            payload::write_number(&mut body, count);
            socket.send(&body)?;
            count += 1;
        }
    }
    socket.send(&payload::end(task.bytes, count))?;
    control.conclude(&Report { count, usage: Usage::now().since(start), ..Report::default() })
}

fn subscribers<P: Peer>(context: &P::Context, task: &Task, control: &mut Control) -> Result<()> {
    let mut sockets = Vec::new();
    for _ in 0..task.links {
        let mut socket = P::socket(context, Kind::Sub, task)?;
        socket.subscribe_all()?;
        socket.connect(&task.url)?;
        sockets.push(socket);
    }
    let mut credits = P::socket(context, Kind::Push, task)?;
    credits.connect(&task.back_url)?;
    let mut credit = vec![0; task.bytes];
    let mut feeds = Feeds::new(sockets.len());
    let mut window = Window::new(task.warm(), task.run());
    // As an application does it: wait, then empty those that have something, and do not touch the others.
    let mut ready = vec![true; sockets.len()];
    let mut told = false;
    let mut start = Usage::now();
    while !feeds.ended() {
        for (index, socket) in sockets.iter_mut().enumerate() {
            for _ in 0..BURST {
                if !ready[index] {
                    break;
                }
                match socket.try_recv(|body| feeds.take(index, body))? {
                    Some(taken) => taken?,
                    None => ready[index] = false,
                }
            }
        }
        if feeds.all() > 0 {
            window.look(feeds.all());
        }
        if let Some(all) = feeds.credit() {
            payload::write_number(&mut credit, all);
            credits.send(&credit)?;
        }
        if !told && feeds.greeted() {
            told = true;
            control.ready()?;
            start = Usage::now();
        }
        if !ready.contains(&true) {
            P::wait_any(&mut sockets, Duration::from_millis(100), &mut ready)?;
        }
    }
    let usage = Usage::now().since(start);
    control.conclude(&Report {
        count: feeds.all(),
        rate_per_s: window.rate_per_s()?,
        usage,
        ..Report::default()
    })
}

fn inproc<P: Peer>(context: &P::Context, task: &Task, control: &mut Control) -> Result<()> {
    let mut receiver = P::socket(context, Kind::Pull, task)?;
    receiver.bind(&task.url)?;
    let mut sender = connected::<P>(context, Kind::Push, task)?;
    control.ready()?;
    let start = Usage::now();
    let report = std::thread::scope(|scope| {
        let pushed = scope.spawn(|| push(&mut sender, task));
        let report = pull(&mut receiver, task);
        pushed.join().map_err(|_| "the sending thread panicked")??;
        report
    })?;
    control.conclude(&Report { usage: Usage::now().since(start), ..report })
}
