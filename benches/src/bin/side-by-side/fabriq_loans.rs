//! fabriq as a peer that sends large messages from frames of its own pool (`loan`), so that an RDMA device reads them where
//! they are; and spins for as long as it is told. All else is `fabriq_peer`'s.

use crate::Result;
use crate::control::Task;
use crate::fabriq_peer::Fabriq;
use crate::peer::{Kind, Peer};
use fabriq::Frame;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct FabriqLoans<const SPIN_US: u64> {
    socket: Fabriq,
    /// The few bodies that are sent again and again, by their address.
    lent: Vec<(*const u8, Frame)>,
}

// SAFETY: the addresses only name static memory, and are never read through.
unsafe impl<const SPIN_US: u64> Send for FabriqLoans<SPIN_US> {}

impl<const SPIN_US: u64> Peer for FabriqLoans<SPIN_US> {
    type Context = fabriq::Context;

    fn context() -> Result<fabriq::Context> {
        Ok(fabriq::builder().spin(Duration::from_micros(SPIN_US)).build()?)
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
