//! omq-tokio as a peer: its blocking sockets in every role, and its exclusive sockets (driven by the caller, one link)
//! for REQ/REP, where they are the faster ones. Its other socket types are not used.

use crate::Result;
use crate::control::{Control, Role, Task};
use crate::peer::{Kind, Peer, high_water_mark};
use crate::roles_async::{self, Turns};
use omq_tokio::{Context, Error, Message, Options, SocketType, blocking, exclusive};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Omq(blocking::Socket);

fn bytes(message: &Message) -> &[u8] {
    message.part_slice(0).unwrap_or_default()
}

impl Peer for Omq {
    type Context = Context;

    fn context() -> Result<Context> {
        Ok(Context::new())
    }

    fn socket(context: &Context, kind: Kind, task: &Task) -> Result<Self> {
        let kind = match kind {
            Kind::Req => SocketType::Req,
            Kind::Rep => SocketType::Rep,
            Kind::Push => SocketType::Push,
            Kind::Pull => SocketType::Pull,
            Kind::Pub => SocketType::Pub,
            Kind::Sub => SocketType::Sub,
        };
        let mut options = Options::default()
            .send_hwm(high_water_mark(task.bytes) as u32)
            .recv_hwm(high_water_mark(task.bytes) as u32);
        // Its default (128) would refuse a part of a crowd, which then comes back by reconnecting.
        options = options.max_pending_handshakes(task.links.max(128));
        Ok(Self(context.blocking_socket(kind, options)))
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        Ok(self.0.bind(url)?.to_string())
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        Ok(self.0.connect(url)?)
    }

    fn subscribe_all(&mut self) -> Result<()> {
        Ok(self.0.subscribe(bytes::Bytes::new())?)
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        Ok(self.0.send(Message::from_slice(body))?)
    }

    fn send_static(&mut self, body: &'static [u8]) -> Result<()> {
        Ok(self.0.send(Message::from(body))?)
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        Ok(read(bytes(&self.0.recv()?)))
    }

    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        match self.0.try_recv() {
            Ok(message) => Ok(Some(read(bytes(&message)))),
            Err(Error::WouldBlock) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn wait_any(sockets: &mut [Self], _limit: Duration, ready: &mut [bool]) -> Result<()> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let _registrations: Vec<_> =
            sockets.iter().map(|socket| socket.0.register_recv_waker(waker.clone())).collect();
        // A message between the last try and the registration wakes nobody: look again soon.
        std::thread::park_timeout(Duration::from_micros(200));
        // It does not say whose waker it was.
        ready.fill(true);
        Ok(())
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Turns for exclusive::Socket {
    async fn send(&mut self, body: &[u8]) -> Result<()> {
        Ok(Self::send(self, &Message::from_slice(body)).await?)
    }

    async fn recv(&mut self, body: &mut Vec<u8>) -> Result<()> {
        let message = Self::recv(self).await?;
        body.clear();
        body.extend_from_slice(bytes(&message));
        Ok(())
    }
}

/// REQ/REP by exclusive sockets.
pub(crate) fn run_exclusive(task: &Task, control: &mut Control) -> Result<()> {
    let options = exclusive::Options::default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        match task.role {
            Role::Replier => {
                let (mut socket, url) =
                    exclusive::Socket::bind(SocketType::Rep, task.url.as_str(), options).await?;
                control.say("url", &url.to_string())?;
                // It accepts only while it is being called.
                socket.maintain().await?;
                roles_async::replier(socket, control).await
            }
            Role::Requester => {
                let url = task.url.as_str();
                let socket = exclusive::Socket::connect(SocketType::Req, url, options).await?;
                roles_async::requester(socket, task, control).await
            }
            role => Err(format!("exclusive sockets have no {role:?}").into()),
        }
    })
}
