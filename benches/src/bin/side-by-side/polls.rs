//! The roles of the measure `poll`, written once over [`Peer`] and [`Wait`]: one process that waits for a message on any of
//! many sockets, and one that sends to a random one of them. They know no peer by name and print nothing.

use crate::Result;
use crate::control::{Control, Report, Role, Task};
use crate::payload::{self, END, HELLO, START};
use crate::peer::{Kind, Peer};
use crate::random::Random;
use crate::roles::{self, trips};
use crate::usage::Usage;

/// What a peer has for waiting for one of many sockets. It may keep between waits what an application can keep.
pub(crate) trait Wait<P: Peer>: Sized {
    /// For all of `sockets`, which are PULL and have their links.
    fn new(context: &P::Context, sockets: Vec<P>) -> Result<Self>;
    /// Sleeps until some sockets may have a message, and replaces `ready` by their places.
    fn wait(&mut self, ready: &mut Vec<usize>) -> Result<()>;
    /// Takes a message of the socket at a place, if it has one.
    fn try_recv<R>(&mut self, place: usize, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>;
}

/// Any role of a peer: those of this measure by `W`, all others as they are.
pub(crate) fn run<P: Peer, W: Wait<P>>(task: &Task, control: &mut Control) -> Result<()> {
    match task.role {
        Role::Waiter => waiter::<P, W>(task, control),
        Role::Waker => waker::<P>(task, control),
        _ => roles::run::<P>(task, control),
    }
}

fn waiter<P: Peer, W: Wait<P>>(task: &Task, control: &mut Control) -> Result<()> {
    let context = P::context()?;
    let mut answers = P::socket(&context, Kind::Push, task)?;
    let answer_url = answers.bind(&task.url)?;
    let (mut sockets, mut urls) = (Vec::new(), Vec::new());
    for _ in 0..task.links {
        let mut socket = P::socket(&context, Kind::Pull, task)?;
        urls.push(socket.bind(&task.url)?);
        sockets.push(socket);
    }
    control.say("url", &urls.join(" "))?;
    control.say("answers", &answer_url)?;
    for socket in &mut sockets {
        socket.await_links(1)?;
    }
    answers.await_links(1)?;
    let mut wait = W::new(&context, sockets)?;
    let mut ready = Vec::new();
    let mut silent = task.links;
    let mut body = vec![0; task.bytes];
    let mut start = Usage::now();
    loop {
        wait.wait(&mut ready)?;
        for &place in &ready {
            let read = |body: &[u8]| (payload::number(body), payload::second_number(body), body.len());
            let Some((number, to, bytes)) = wait.try_recv(place, read)? else { continue };
            if to != place as u64 || bytes != task.bytes {
                return Err(format!("{bytes} B for socket {to} came to socket {place}").into());
            }
            match number {
                HELLO => {
                    // Each socket is greeted once, so that the round begins with all links up and known.
                    silent = silent.checked_sub(1).ok_or("a socket was greeted twice")?;
                    if silent == 0 {
                        control.ready()?;
                    }
                    continue;
                }
                START => start = Usage::now(),
                _ => {}
            }
            payload::write_number(&mut body, number);
            answers.send(&body)?;
            if number == END {
                return control.conclude(&Report { usage: Usage::now().since(start), ..Report::default() });
            }
        }
    }
}

fn waker<P: Peer>(task: &Task, control: &mut Control) -> Result<()> {
    let context = P::context()?;
    let mut answers = P::socket(&context, Kind::Pull, task)?;
    let mut sockets = Vec::new();
    for url in task.url.split(' ') {
        let mut socket = P::socket(&context, Kind::Push, task)?;
        socket.connect(url)?;
        sockets.push(socket);
    }
    answers.connect(&task.back_url)?;
    let mut body = vec![0; task.bytes];
    for (place, socket) in sockets.iter_mut().enumerate() {
        payload::write_number(&mut body, HELLO);
        payload::write_second_number(&mut body, place as u64);
        socket.send(&body)?;
    }
    control.ready()?;
    let mut random = Random::new(task.seed);
    let report = trips(task, |number| {
        let place = random.below(sockets.len() as u64);
        payload::write_number(&mut body, number);
        payload::write_second_number(&mut body, place);
        sockets[place as usize].send(&body)?;
        answers.recv(payload::number)
    })?;
    control.conclude(&report)
}
