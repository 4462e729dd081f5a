//! Plain Unix-domain stream sockets, by names in the abstract namespace, which leave no files; what is done with them is in
//! `stream`.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::stream::{self, Socket};

/// A Unix-domain connection.
pub type Link = stream::Link<UnixStream>;

/// A name in the abstract namespace, written with an `@` in front; or `*`, for one that nobody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl FromStr for Name {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let name = text == "*" || text.strip_prefix('@').is_some_and(|name| !name.is_empty());
        if name { Ok(Self(text.to_owned())) } else { Err(NoName) }
    }
}

/// The text is neither `@NAME` nor `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write @NAME, or * for any")]
pub struct NoName;

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    fn or_chosen(&self) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if self.0 != "*" {
            return self.clone();
        }
        Self(format!("@fabriq-baseline-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(self.0.trim_start_matches('@'))
    }
}

impl Socket for UnixStream {
    type Address = Name;
    type Listener = UnixListener;

    const SCHEME: &str = "ipc";

    fn listen(at: &Name) -> io::Result<(UnixListener, Name)> {
        let at = at.or_chosen();
        let listener = UnixListener::bind_addr(&at.address()?)?;
        listener.set_nonblocking(true)?;
        Ok((listener, at))
    }

    fn accept(listener: &UnixListener) -> io::Result<Self> {
        Ok(listener.accept()?.0)
    }

    fn connect(to: &Name) -> io::Result<Self> {
        Self::connect_addr(&to.address()?)
    }

    fn prepare(&self, polled: bool) -> io::Result<()> {
        self.set_nonblocking(polled)
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}
