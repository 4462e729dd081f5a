//! monocoque as a peer, on its tokio backend. Its sockets are async, `!Send` and bound to one thread's runtime, so it
//! has roles of its own; it has no PUSH/PULL over inproc.
//!
//! PUSH and PUB coalesce writes, which its README names for throughput: a message then stays in the sender until
//! 64 KiB are there or the application flushes. REQ/REP writes at once.

use crate::Result;
use crate::control::{Control, Report, Role, Task};
use crate::payload::{self, FAN_WINDOW, Feeds, HELLO, Window};
use crate::peer::high_water_mark;
use crate::roles::{END_PAUSE, HELLO_PAUSE};
use crate::roles_async::{self, Turns};
use crate::usage::Usage;
use bytes::Bytes;
use monocoque::rt::{LocalRuntime, TcpListener, TcpStream, UnixListener, UnixStream, sleep, spawn_detached};
use monocoque::zmq::{
    PubSocket, PullFanIn, PullSocket, PushFanOut, PushSocket, RepSocket, ReqSocket, SocketOptions, SubSocket,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

pub(crate) fn run(task: &Task, control: &mut Control) -> Result<()> {
    LocalRuntime::new()?.block_on(async {
        if let Some(path) = task.url.strip_prefix("ipc://") {
            return run_over_ipc(path, task, control).await;
        }
        match task.role {
            Role::Replier => {
                let (stream, _) = listen(control).await?.accept().await?;
                roles_async::replier(RepSocket::from_tcp(stream).await?, control).await
            }
            Role::Requester => {
                roles_async::requester(ReqSocket::connect(&task.url).await?, task, control).await
            }
            Role::Puller => {
                let (stream, _) = listen(control).await?.accept().await?;
                let mut socket = PullSocket::from_tcp_with_options(stream, options(task)).await?;
                control.ready()?;
                let report = tcp::pull(&mut socket, task).await?;
                control.conclude(&report)
            }
            Role::Pusher => {
                let mut socket = PushSocket::connect_with_options(address(task), options(task)).await?;
                control.ready()?;
                let report = tcp::push(&mut socket, task).await?;
                control.conclude(&report)
            }
            Role::CrowdPuller | Role::FanInPuller => {
                let listener = listen(control).await?;
                let mut socket = PullFanIn::accept_workers(&listener, task.links, options(task)).await?;
                control.ready()?;
                let report = pull_fan_in(&mut socket, task).await?;
                control.conclude(&report)
            }
            Role::FanOutPuller => {
                let mut socket = PullSocket::connect_with_options(address(task), options(task)).await?;
                control.ready()?;
                let report = tcp::pull(&mut socket, task).await?;
                control.conclude(&report)
            }
            Role::FanOutPusher => {
                let listener = listen(control).await?;
                let socket = PushFanOut::accept_workers(&listener, task.links, options(task)).await?;
                fan_out_pusher(socket, task, control).await
            }
            Role::CrowdPusher => crowd_pusher(task, control).await,
            Role::Publisher => publisher(task, control).await,
            Role::Subscribers => subscribers(task, control).await,
            Role::Inproc | Role::Waiter | Role::Waker | Role::Busy => {
                Err("monocoque has no such role".into())
            }
        }
    })
}

/// The roles of one link, over a Unix-domain socket.
async fn run_over_ipc(path: &str, task: &Task, control: &mut Control) -> Result<()> {
    let accept = async |control: &Control| -> Result<UnixStream> {
        let listener = UnixListener::bind(path).await?;
        control.say("url", &task.url)?;
        Ok(listener.accept().await?.0)
    };
    match task.role {
        Role::Replier => {
            let stream = accept(control).await?;
            roles_async::replier(RepSocket::from_unix_stream(stream).await?, control).await
        }
        Role::Requester => {
            let stream = UnixStream::connect(path).await?;
            roles_async::requester(ReqSocket::from_unix_stream(stream).await?, task, control).await
        }
        Role::Puller => {
            let stream = accept(control).await?;
            let mut socket = PullSocket::from_unix_stream_with_options(stream, options(task)).await?;
            control.ready()?;
            let report = unix::pull(&mut socket, task).await?;
            control.conclude(&report)
        }
        Role::Pusher => {
            let stream = UnixStream::connect(path).await?;
            let mut socket = PushSocket::from_unix_stream_with_options(stream, options(task)).await?;
            control.ready()?;
            let report = unix::push(&mut socket, task).await?;
            control.conclude(&report)
        }
        _ => Err("monocoque has no such role over ipc".into()),
    }
}

fn options(task: &Task) -> SocketOptions {
    let mark = high_water_mark(task.bytes) as usize;
    SocketOptions::new().with_send_hwm(mark).with_recv_hwm(mark).with_write_coalescing(true)
}

fn address(task: &Task) -> &str {
    task.url.trim_start_matches("tcp://")
}

async fn listen(control: &Control) -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    control.say("url", &format!("tcp://{}", listener.local_addr()?))?;
    Ok(listener)
}

/// What is done with a socket over one kind of stream. Its bounds are traits of a crate that monocoque does not export.
macro_rules! over {
    ($name:ident, $stream:ty) => {
        mod $name {
            use super::*;

            impl Turns for RepSocket<$stream> {
                async fn send(&mut self, body: &[u8]) -> Result<()> {
                    Ok(Self::send(self, vec![Bytes::copy_from_slice(body)]).await?)
                }

                async fn recv(&mut self, body: &mut Vec<u8>) -> Result<()> {
                    let message = Self::recv(self).await?.ok_or("the other end closed the link")?;
                    body.clear();
                    body.extend_from_slice(&message[0]);
                    Ok(())
                }
            }

            impl Turns for ReqSocket<$stream> {
                async fn send(&mut self, body: &[u8]) -> Result<()> {
                    Ok(self.send_one(Bytes::copy_from_slice(body)).await?)
                }

                async fn recv(&mut self, body: &mut Vec<u8>) -> Result<()> {
                    let message = Self::recv(self).await?.ok_or("the other end closed the link")?;
                    body.clear();
                    body.extend_from_slice(&message[0]);
                    Ok(())
                }
            }

            pub(super) async fn pull(socket: &mut PullSocket<$stream>, task: &Task) -> Result<Report> {
                let mut tally = task.tally();
                let start = Usage::now();
                let mut message = Vec::new();
                loop {
                    if !socket.recv_into(&mut message).await? {
                        return Err("the other end closed the link".into());
                    }
                    loop {
                        if tally.take(&message[0]) {
                            return tally.report(Usage::now().since(start));
                        }
                        if !socket.try_recv_into(&mut message)? {
                            break;
                        }
                    }
                }
            }

            pub(super) async fn push(socket: &mut PushSocket<$stream>, task: &Task) -> Result<Report> {
                let start = Usage::now();
                let stride = payload::stride(task.bytes);
                let mut body = vec![0; task.bytes];
                let large = if payload::is_large(task.bytes) {
                    payload::large_buffers(task.bytes)
                } else {
                    Vec::new()
                };
                let first = payload::first_of(task.lane);
                let mut number = first;
                let began = Instant::now();
                while began.elapsed() < task.send() {
                    for _ in 0..stride {
                        let frame = if large.is_empty() {
                            payload::write_number(&mut body, number);
                            Bytes::copy_from_slice(&body)
                        } else {
                            Bytes::from_static(large[number as usize % large.len()])
                        };
                        socket.send_one(frame).await?;
                        number += 1;
                    }
                }
                socket.send_one(Bytes::from(payload::end(task.bytes, number))).await?;
                socket.flush().await?;
                Ok(Report { count: number - first, usage: Usage::now().since(start), ..Report::default() })
            }
        }
    };
}
over!(tcp, TcpStream);
over!(unix, UnixStream);

async fn pull_fan_in(socket: &mut PullFanIn, task: &Task) -> Result<Report> {
    let mut tally = task.tally();
    let start = Usage::now();
    loop {
        for message in socket.recv_batch().await?.ok_or("all links closed")? {
            if tally.take(&message[0]) {
                return tally.report(Usage::now().since(start));
            }
        }
    }
}

async fn fan_out_pusher(mut socket: PushFanOut, task: &Task, control: &mut Control) -> Result<()> {
    control.ready()?;
    let start = Usage::now();
    let mut body = vec![0; task.bytes];
    let mut count = 0;
    let began = Instant::now();
    while began.elapsed() < task.send() {
        for _ in 0..payload::stride(task.bytes) {
            payload::write_number(&mut body, count);
            socket.send_one(Bytes::copy_from_slice(&body)).await?;
            count += 1;
        }
    }
    let report = Report { count, usage: Usage::now().since(start), ..Report::default() };
    while !control.has_order(Duration::ZERO) {
        for _ in 0..task.links {
            socket.send_one(Bytes::from(payload::end(task.bytes, count))).await?;
        }
        socket.flush().await?;
        sleep(END_PAUSE).await;
    }
    control.await_order("stop")?;
    control.conclude(&report)
}

async fn crowd_pusher(task: &Task, control: &mut Control) -> Result<()> {
    control.say("made", "")?;
    control.await_order("go")?;
    // One socket has one link.
    let mut crowd = Vec::with_capacity(task.links);
    for _ in 0..task.links {
        crowd.push(PushSocket::connect_with_options(address(task), options(task)).await?);
    }
    control.ready()?;
    let lone = crowd.last_mut().ok_or("no link")?;
    let report = tcp::push(lone, task).await?;
    control.conclude(&report)
}

async fn publisher(task: &Task, control: &mut Control) -> Result<()> {
    let mut socket = PubSocket::bind_with_options("127.0.0.1:0", options(task)).await?;
    control.say("url", &format!("tcp://{}", socket.local_addr()?))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    control.say("credits", &format!("tcp://{}", listener.local_addr()?))?;
    for _ in 0..task.links {
        socket.accept_subscriber().await?;
    }
    let mut credits = PullSocket::from_tcp(listener.accept().await?.0).await?;
    control.say("ready", "")?;
    let mut body = vec![0; task.bytes];
    payload::write_number(&mut body, HELLO);
    while !control.has_order(Duration::ZERO) {
        socket.send(vec![Bytes::copy_from_slice(&body)]).await?;
        sleep(HELLO_PAUSE).await;
    }
    control.await_order("go")?;
    let start = Usage::now();
    let (mut count, mut allowed) = (0, FAN_WINDOW);
    let mut credit = Vec::new();
    let began = Instant::now();
    while began.elapsed() < task.send() {
        for _ in 0..payload::stride(task.bytes) {
            while count == allowed {
                if !credits.recv_into(&mut credit).await? {
                    return Err("the subscribers closed the link".into());
                }
                allowed = payload::number(&credit[0]) + FAN_WINDOW;
            }
            payload::write_number(&mut body, count);
            socket.send_frames(&[Bytes::copy_from_slice(&body)]).await?;
            count += 1;
        }
    }
    socket.send(vec![Bytes::from(payload::end(task.bytes, count))]).await?;
    control.conclude(&Report { count, usage: Usage::now().since(start), ..Report::default() })
}

/// What the tasks of the SUB sockets tell the one that counts.
#[derive(Debug)]
struct Deliveries {
    feeds: Feeds,
    window: Window,
    /// Why a socket gave up.
    failed: Option<String>,
}

async fn subscribers(task: &Task, control: &mut Control) -> Result<()> {
    let window = Window::new(task.warm(), task.run());
    let deliveries = Deliveries { feeds: Feeds::new(task.links), window, failed: None };
    let deliveries = Rc::new(RefCell::new(deliveries));
    let news = Rc::new(Notify::new());
    for index in 0..task.links {
        let mut socket = SubSocket::connect_with_options(address(task), options(task)).await?;
        socket.subscribe(b"").await?;
        let (deliveries, news) = (Rc::clone(&deliveries), Rc::clone(&news));
        spawn_detached(async move {
            let outcome = read_feed(socket, index, &deliveries, &news).await;
            deliveries.borrow_mut().failed = outcome.err().map(|error| error.to_string());
            news.notify_one();
        });
    }
    let credit_address = task.back_url.trim_start_matches("tcp://");
    let mut credits = PushSocket::connect(credit_address).await?;
    while !deliveries.borrow().feeds.greeted() {
        sleep(Duration::from_millis(1)).await;
    }
    control.ready()?;
    let start = Usage::now();
    let mut credit = vec![0; task.bytes];
    while !deliveries.borrow().feeds.ended() {
        news.notified().await;
        if let Some(failed) = deliveries.borrow().failed.clone() {
            return Err(failed.into());
        }
        let due = deliveries.borrow_mut().feeds.credit();
        if let Some(all) = due {
            payload::write_number(&mut credit, all);
            credits.send_one(Bytes::copy_from_slice(&credit)).await?;
        }
    }
    let usage = Usage::now().since(start);
    let deliveries = deliveries.borrow();
    let (count, rate_per_s) = (deliveries.feeds.all(), deliveries.window.rate_per_s()?);
    control.conclude(&Report { count, rate_per_s, usage, ..Report::default() })
}

/// Reads one SUB socket for ever.
async fn read_feed(
    mut socket: SubSocket,
    index: usize,
    deliveries: &RefCell<Deliveries>,
    news: &Notify,
) -> Result<()> {
    let mut message = Vec::new();
    loop {
        if !socket.recv_into(&mut message).await? {
            return Err("the publisher closed the link".into());
        }
        let mut deliveries = deliveries.borrow_mut();
        loop {
            deliveries.feeds.take(index, &message[0])?;
            if !socket.try_recv_into(&mut message)? {
                break;
            }
        }
        let all = deliveries.feeds.all();
        if all > 0 {
            deliveries.window.look(all);
        }
        news.notify_one();
    }
}
