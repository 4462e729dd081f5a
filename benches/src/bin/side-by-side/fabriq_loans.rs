//! fabriq as a peer that sends large messages from frames of its own pool (`loan`), so that an RDMA device reads them where
//! they are; and, if it is told so, never spins. All else is `fabriq_peer`'s.

use crate::Result;
use crate::control::Task;
use crate::fabriq_peer::Fabriq;
use crate::peer::{Kind, Peer};
use fabriq::Frame;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct FabriqLoans<const SPINS: bool> {
    socket: Fabriq,
    /// The few bodies that are sent again and again, by their address.
    lent: Vec<(*const u8, Frame)>,
}

// SAFETY: the addresses only name static memory, and are never read through.
unsafe impl<const SPINS: bool> Send for FabriqLoans<SPINS> {}

impl<const SPINS: bool> Peer for FabriqLoans<SPINS> {
    type Context = fabriq::Context;

    fn context() -> Result<fabriq::Context> {
        let builder = fabriq::builder();
        // As long as a trip may take in an emulated machine, so that the one always sleeps and the other never.
        Ok(builder.spin(if SPINS { Duration::from_millis(100) } else { Duration::ZERO }).build()?)
    }

    fn socket(context: &fabriq::Context, kind: Kind, task: &Task) -> Result<Self> {
        Ok(Self { socket: Fabriq::socket(context, kind, task)?, lent: Vec::new() })
    }

    fn bind(&mut self, url: &str) -> Result<String> {
        self.socket.bind(url)
    }

    fn connect(&mut self, url: &str) -> Result<()> {
        self.socket.connect(url)
    }

    fn subscribe_all(&mut self) -> Result<()> {
        self.socket.subscribe_all()
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        self.socket.send(body)
    }

    fn send_static(&mut self, body: &'static [u8]) -> Result<()> {
        let frame = match self.lent.iter().find(|(address, _)| *address == body.as_ptr()) {
            Some((_, frame)) => frame.clone(),
            None => {
                let mut loan = self.socket.0.loan(body.len())?;
                loan.copy_from_slice(body);
                let frame = loan.freeze();
                self.lent.push((body.as_ptr(), frame.clone()));
                frame
            }
        };
        Ok(self.socket.0.send(frame)?)
    }

    fn recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.socket.recv(read)
    }

    fn try_recv<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        self.socket.try_recv(read)
    }

    fn wait_any(_sockets: &mut [Self], _limit: Duration, _ready: &mut [bool]) -> Result<()> {
        Err("not measured as one of many".into())
    }
}
