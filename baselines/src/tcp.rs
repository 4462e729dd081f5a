//! Plain TCP sockets; what is done with them is in `stream`.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::stream::{self, Socket};

/// A TCP connection.
pub type Link = stream::Link<TcpStream>;

impl Socket for TcpStream {
    type Address = SocketAddr;
    type Listener = TcpListener;

    const SCHEME: &str = "tcp";

    fn listen(at: &SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        Ok((listener, at))
    }

    fn accept(listener: &TcpListener) -> io::Result<Self> {
        Ok(listener.accept()?.0)
    }

    fn connect(to: &SocketAddr) -> io::Result<Self> {
        Self::connect_timeout(to, crate::SILENCE)
    }

    fn prepare(&self, polled: bool) -> io::Result<()> {
        self.set_nodelay(true)?;
        self.set_nonblocking(polled)
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}
