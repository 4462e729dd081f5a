//! The sockets of every scheme behind one face: listen, dial, accept. What is particular to a scheme is in its own file.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, SocketType, sockopt};
use transport_core::{Endpoint, OpenError, Tuning};

use crate::address::Route;
use crate::socket_file::SocketFile;
use crate::{ipc, tcp};

/// How sockets are to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) tuning: Tuning,
    /// Their owner wants to hear of a slow peer soon; see [`crate::limits::LOW_MARK_MAX`].
    pub(crate) low_mark: bool,
}

impl Settings {
    pub(crate) fn backlog(&self) -> i32 {
        i32::try_from(self.tuning.backlog).unwrap_or(i32::MAX)
    }
}

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) fd: OwnedFd,
    /// What the peer is called.
    pub(crate) peer: String,
    /// To close it while something arrives tells the peer of a reset, which may cost it what it has not read.
    pub(crate) must_be_quiet: bool,
}

/// A socket that waits for connections.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Before the descriptor, since what it compares holds only as long as that is open.
    _file: Option<SocketFile>,
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp,
    Ipc(Settings),
}

/// What a dial has come to.
#[derive(Debug)]
pub(crate) enum Dial {
    Through(Connection),
    /// Writable when there is more to know: [`dialled`].
    Pending(OwnedFd),
}

/// Why a socket cannot be bound or dialled.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The system's number says it all.
    Plain(Errno),
    /// In words, with the remedy.
    Said(Errno, String),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        match error {
            Errno::MFILE | Errno::NFILE => {
                Self::Said(error, format!("{error}; raise the limit of open files"))
            }
            _ => Self::Plain(error),
        }
    }
}

impl Refusal {
    fn into_words(self) -> (String, i32) {
        match self {
            Self::Plain(error) => (error.to_string(), error.raw_os_error()),
            Self::Said(error, why) => (why, error.raw_os_error()),
        }
    }

    /// As the error of a bind.
    pub(crate) fn into_bind_error(self, endpoint: Endpoint) -> OpenError {
        match self {
            Self::Plain(Errno::ADDRINUSE) => OpenError::AddressInUse(endpoint),
            Self::Plain(Errno::ADDRNOTAVAIL | Errno::NODEV) => OpenError::AddressNotAvailable(endpoint),
            refusal => {
                let (why, errno) = refusal.into_words();
                OpenError::System { endpoint, why, errno }
            }
        }
    }

    /// As the error of a dial.
    pub(crate) fn into_dial_error(self, endpoint: Endpoint) -> OpenError {
        let (why, errno) = self.into_words();
        OpenError::Unreachable { endpoint, why, errno }
    }
}

/// A listening socket, and the address it really has.
pub(crate) fn listen(route: &Route, settings: &Settings) -> Result<(Listener, String), Refusal> {
    match route {
        Route::Tcp { to, .. } => {
            let (fd, real) = tcp::listen(to, settings)?;
            Ok((Listener { _file: None, fd, kind: Kind::Tcp }, real))
        }
        Route::Ipc(name) => {
            let (fd, file, real) = ipc::listen(name, settings)?;
            Ok((Listener { _file: file, fd, kind: Kind::Ipc(*settings) }, real))
        }
    }
}

/// Listens on a duplicate of a socket that somebody else has bound, and perhaps made to listen. Its file, if it has one, stays
/// when the duplicate is closed.
pub(crate) fn adopt(
    is_tcp: bool,
    socket: &OwnedFd,
    settings: &Settings,
) -> Result<(Listener, String), Refusal> {
    let fd = rustix::io::fcntl_dupfd_cloexec(socket, 0)?;
    let is_stream = sockopt::socket_type(&fd).is_ok_and(|kind| kind == SocketType::STREAM);
    let address = tcp::bound_to(&fd).filter(|_| is_tcp);
    let real = address.map(|address| address.to_string());
    let Some(real) = real.or_else(|| ipc::bound_to(&fd).filter(|_| !is_tcp)).filter(|_| is_stream) else {
        let kind = if is_tcp { "a TCP" } else { "a Unix-domain stream" };
        return Err(Refusal::Said(
            Errno::PROTOTYPE,
            format!(
                "the given descriptor is not {kind} socket that is bound; bind it first, or use the scheme of its kind"
            ),
        ));
    };
    // The flag is the open file's, and so the given descriptor's as well: nobody else is to accept from it.
    rustix::io::ioctl_fionbio(&fd, true)?;
    if let Some(address) = address {
        tcp::tune(&fd, address.is_ipv4(), settings)?;
    }
    net::listen(&fd, settings.backlog())?;
    let kind = if is_tcp { Kind::Tcp } else { Kind::Ipc(*settings) };
    Ok((Listener { _file: None, fd, kind }, real))
}

/// Dials.
pub(crate) fn dial(route: &Route, settings: &Settings) -> Result<Dial, Refusal> {
    match route {
        Route::Tcp { to, from } => match tcp::dial(to, from.as_ref(), settings)? {
            (fd, true) => Ok(Dial::Through(tcp::dialled(fd, to)?)),
            (fd, false) => Ok(Dial::Pending(fd)),
        },
        Route::Ipc(name) => Ok(Dial::Through(ipc::dial(name, settings)?)),
    }
}

/// What has become of a socket that was [`Dial::Pending`] and is writable.
pub(crate) fn dialled(fd: OwnedFd, route: &Route) -> Result<Connection, Refusal> {
    match route {
        Route::Tcp { to, .. } => Ok(tcp::dialled(fd, to)?),
        Route::Ipc(_) => Ok(ipc::connection(fd)?),
    }
}

impl Listener {
    /// The next connection.
    pub(crate) fn accept(&self) -> Result<Connection, Errno> {
        match &self.kind {
            Kind::Tcp => tcp::accept(&self.fd),
            Kind::Ipc(settings) => ipc::accept(&self.fd, settings),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}
