//! fabriq as a peer of side-by-side: the blocking front for every role, the async front under tokio for REQ/REP.

use crate::Result;
use crate::control::{Control, Role, Task};
use crate::peer::{BACKLOG, Kind, Peer, high_water_mark};
use crate::roles_async::{self, Turns};
use fabriq::{Error, Frame, Message, PollItem, SocketType};
use std::time::Duration;

/// Keeps its context too: the last of both ends the I/O.
#[derive(Debug)]
pub(crate) struct Fabriq(pub(crate) fabriq::Socket, Message);

impl Peer for Fabriq {
    type Context = fabriq::Context;

    fn context() -> Result<fabriq::Context> {
        Ok(fabriq::context()?)
    }

    fn socket(context: &fabriq::Context, kind: Kind, task: &Task) -> Result<Self> {
        let socket = context.socket(match kind {
            Kind::Req => SocketType::Req,
            Kind::Rep => SocketType::Rep,
            Kind::Push => SocketType::Push,
            Kind::Pull => SocketType::Pull,
            Kind::Pub => SocketType::Pub,
            Kind::Sub => SocketType::Sub,
        })?;
        socket.set_options(|options| {
            options.send_hwm = high_water_mark(task.bytes) as u32;
            options.receive_hwm = high_water_mark(task.bytes) as u32;
            options.backlog = BACKLOG as u32;
        })?;
        Ok(Self(socket, Message::new("")))
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        Ok(self.0.bind(url)?.to_string())
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        Ok(self.0.connect(url)?)
    }

    fn subscribe_all(&mut self) -> Result<()> {
        Ok(self.0.subscribe("")?)
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        Ok(self.0.send(body)?)
    }

    fn send_static(&mut self, body: &'static [u8]) -> Result<()> {
        Ok(self.0.send(Frame::from_static(body))?)
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.0.recv_into(&mut self.1)?;
        Ok(read(self.1.body()))
    }

    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        try_recv(&self.0, read)
    }

    fn wait_any(sockets: &mut [Self], limit: Duration, ready: &mut [bool]) -> Result<()> {
        let mut items: Vec<_> = sockets.iter().map(|socket| PollItem::readable(&socket.0)).collect();
        fabriq::poll(&mut items, Some(limit))?;
        for (ready, item) in ready.iter_mut().zip(&items) {
            *ready = item.ready.readable;
        }
        Ok(())
    }
}

pub(crate) fn try_recv<R>(socket: &fabriq::Socket, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
    match socket.try_recv() {
        Ok(message) => Ok(Some(read(message.body()))),
        Err(Error::Again) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Turns for fabriq::Socket {
    async fn send(&mut self, body: &[u8]) -> Result<()> {
        Ok(self.send_async(body).await?)
    }

    async fn recv(&mut self, body: &mut Vec<u8>) -> Result<()> {
        let message = self.recv_async().await?;
        body.clear();
        body.extend_from_slice(message.body());
        Ok(())
    }
}

/// REQ/REP by futures on a current-thread runtime.
pub(crate) fn run_async(task: &Task, control: &mut Control) -> Result<()> {
    let context = Fabriq::context()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        match task.role {
            Role::Replier => {
                let mut socket = Fabriq::socket(&context, Kind::Rep, task)?;
                let url = socket.bind(&task.url)?;
                control.say("url", &url)?;
                roles_async::replier(socket.0, control).await
            }
            Role::Requester => {
                let mut socket = Fabriq::socket(&context, Kind::Req, task)?;
                socket.connect(&task.url)?;
                roles_async::requester(socket.0, task, control).await
            }
            role => Err(format!("the async front is measured as REQ and REP only, not as {role:?}").into()),
        }
    })
}
